//! Calls without async: `.wait()`.

use crate::harness::{Running, add};
use byname::{Client, Code, Context, Executed, Server, rpc};

/// A server on a runtime of its own, as another process would have it.
struct Elsewhere {
    runtime: tokio::runtime::Runtime,
    running: Option<Running>,
}

impl Elsewhere {
    fn new(server: Server) -> (Self, Client) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let running = runtime.block_on(Running::new(server));
        let client = running.client();
        (Self { runtime, running: Some(running) }, client)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.stopped()).unwrap();
    }
}

#[rpc(blocking)]
fn doubled_elsewhere(n: i64) -> i64 {
    let client = Context::current().unwrap().extensions().get::<Client>().unwrap().clone();
    add::on(&client, n, n).wait().unwrap()
}

#[rpc]
fn doubled_by_mistake(n: i64) -> Result<i64, byname::Error> {
    let client = Context::current().unwrap().extensions().get::<Client>().unwrap().clone();
    add::on(&client, n, n).wait()
}

fn functions() -> Server {
    Server::new().method::<add>().function("fail", || async { Err::<(), _>("own".to_owned()) })
}

#[test]
fn a_program_without_async_makes_calls() {
    let (_server, client) = Elsewhere::new(functions());
    for client in [client, Client::local(&functions()).unwrap()] {
        for n in 0..3 {
            assert_eq!(add::on(&client, n, 1).wait().unwrap(), n + 1);
            assert_eq!(client.call::<i64>("add", (n, 2)).wait().unwrap(), n + 2);
        }
        let failed = client.call::<()>("fail", ()).wait().unwrap_err();
        assert_eq!(failed.method(), Some(&"own".into()));
        let unknown = client.call::<()>("nothing", ()).wait().unwrap_err();
        assert_eq!(unknown.rpc().unwrap().code(), Code::Unimplemented);
        let threads = (0..8).map(|n| {
            let client = client.clone();
            std::thread::spawn(move || add::on(&client, n, n).wait().unwrap())
        });
        let sums = threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap());
        assert_eq!(sums.sum::<i64>(), 56);
    }
}

#[test]
fn the_headers_of_the_reply_come_too() {
    let (_server, client) = Elsewhere::new(functions());
    let (sum, metadata) = add::on(&client, 1, 2).with_metadata().wait().unwrap();
    assert_eq!((sum, metadata["byname-protocol"].to_str().unwrap()), (3, "1"));
}

#[test]
fn inside_async_code_it_is_an_error_that_says_what_to_use() {
    let (_server, client) = Elsewhere::new(functions());
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let several = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for runtime in [single, several] {
        runtime.block_on(async {
            let mistaken = async |client: Client| {
                let error = add::on(&client, 1, 2).wait().unwrap_err();
                assert_eq!((error.code(), error.executed()), (Code::FailedPrecondition, Executed::No));
                assert!(error.message().contains(".await"), "{error}");
                let error = client.call::<i64>("add", (1, 2)).with_metadata().wait().unwrap_err();
                assert_eq!(error.rpc().unwrap().code(), Code::FailedPrecondition);
                // The look at the thread has taken nothing from the task.
                assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3);
            };
            mistaken(client.clone()).await;
            let task = client.clone();
            tokio::spawn(async move { mistaken(task).await }).await.unwrap();
            tokio::task::yield_now().await;
            let task = client.clone();
            let sum = tokio::task::spawn_blocking(move || add::on(&task, 1, 2).wait()).await.unwrap();
            assert_eq!(sum.unwrap(), 3, "a thread that may block may wait");
        });
    }
}

#[test]
fn block_in_place_may_wait() {
    let (_server, client) = Elsewhere::new(functions());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sum = runtime.block_on(async move {
        tokio::spawn(async move { tokio::task::block_in_place(|| add::on(&client, 1, 2).wait()) }).await.unwrap()
    });
    assert_eq!(sum.unwrap(), 3);
}

#[test]
fn a_blocking_function_may_wait_and_another_may_not() {
    let (_data, data) = Elsewhere::new(functions());
    let server = Server::new().method::<doubled_elsewhere>().method::<doubled_by_mistake>();
    let server = server.intercept(move |mut request: byname::Request, next: byname::Next| {
        request.extensions_mut().insert(data.clone());
        next.run(request)
    });
    let (_server, client) = Elsewhere::new(server);
    assert_eq!(doubled_elsewhere::on(&client, 21).wait().unwrap(), 42);
    let error = doubled_by_mistake::on(&client, 21).wait().unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("#[rpc(blocking)]"), "{error}");
}
