//! Many calls on one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use byname::{CallError, Client, Code, Context, Executed, Server, rpc};
use tokio::task::yield_now;

/// What this call came by.
#[rpc(readonly)]
async fn way() -> String {
    // Every request of HTTP says what host it is for.
    let over_http = Context::current().is_some_and(|call| call.header("host").is_some());
    if over_http { "http" } else { "frames" }.into()
}

#[rpc(readonly)]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[rpc]
async fn refuse(what: String) -> Result<(), Vec<String>> {
    Err(vec![what])
}

#[rpc]
async fn boom() -> i64 {
    panic!("secret")
}

#[rpc(readonly)]
async fn greet(name: String, #[rpc(default = "hello".to_owned())] greeting: String) -> String {
    let call = Context::current().expect("it is served");
    call.reply_header("x-seen", call.header("x-said").unwrap_or("nothing")).expect("it can stand in a header");
    format!("{greeting} {name}")
}

#[rpc(readonly)]
async fn echo(text: String) -> String {
    text
}

fn server() -> Server {
    Server::new().method::<way>().method::<add>().method::<refuse>().method::<boom>().method::<greet>().method::<echo>()
}

async fn serve(server: Server) -> Client {
    let bound = server.serve("127.0.0.1:0").until(std::future::pending()).bind().await.expect("a free port");
    let client = Client::builder(bound.local_addr().to_string()).build().expect("an address");
    tokio::spawn(bound.into_future());
    client
}

/// Calls until calls go by frames.
async fn gone_over(client: &Client) {
    let over = async {
        while way::on(client).await.expect("it is served") != "frames" {
            yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("frames are never reached");
}

#[tokio::test]
async fn a_client_changes_to_frames_automatically() {
    let client = serve(server()).await;
    assert_eq!(way::on(&client).await.unwrap(), "http", "nobody is probed who has not offered it");
    gone_over(&client).await;
    assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3);
    assert_eq!(client.call::<i64>("add", (3, 4)).await.unwrap(), 7);
    let seen = greet::on(&client, "Ada".into(), "hi".into()).header("x-said", "e").with_metadata().await;
    assert_eq!(seen.unwrap().0, "hi Ada");
}

#[tokio::test]
async fn errors_are_the_same_as_over_http() {
    let http = serve(server().frames(false)).await;
    let frames = serve(server()).await;
    gone_over(&frames).await;
    for client in [&http, &frames] {
        assert_eq!(refuse::on(client, "no".into()).await, Err(CallError::Method(vec!["no".into()])));
    }
    for (name, args) in [("ad", (1, 2)), ("add", (1, 2)), ("boom", (1, 2)), ("echo", (1, 2))] {
        let one = http.call::<i64>(name, args).await;
        let other = frames.call::<i64>(name, args).await;
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }
    let failed = boom::on(&frames).await.unwrap_err();
    assert_eq!((failed.code(), failed.executed()), (Code::Internal, Executed::Yes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_each_get_their_own_answer() {
    let client = serve(server()).await;
    gone_over(&client).await;
    let calls = (0..2000i64).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            for m in 0..5 {
                assert_eq!(add::on(&client, n, m).await.unwrap(), n + m);
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

/// The number of connections that calls go by, and of those that threads may have.
async fn connections(client: &Client) -> (usize, usize) {
    let service = client.explain("add").await.service.expect("it calls a service");
    (service.replicas.iter().filter(|replica| replica.is_by_frames).count(), service.connections.frames_for_threads)
}

/// The same after many calls at once.
async fn connections_of_many(client: &Client) -> (usize, usize) {
    let calls = (0..256i64).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1) })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    connections(client).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_runtime_of_several_threads_has_several_connections_until_it_has_few_calls() {
    let client = serve(server()).await;
    gone_over(&client).await;
    for n in 0..100 {
        assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
    }
    assert_eq!(connections(&client).await, (1, 1));
    let several = async { while connections_of_many(&client).await != (2, 2) {} };
    tokio::time::timeout(Duration::from_secs(20), several).await.expect("a second connection is never opened");
    let explained = client.explain("add").await.to_string();
    assert!(explained.contains("; 2 of frames for a runtime of several threads, because"), "{explained}");
    for n in 0..2048 {
        assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
    }
    assert_eq!(connections(&client).await, (2, 1));
}

#[tokio::test]
async fn a_runtime_of_one_thread_has_one_connection() {
    let client = serve(server()).await;
    gone_over(&client).await;
    for _ in 0..10 {
        assert_eq!(connections_of_many(&client).await, (1, 1));
    }
}

#[tokio::test]
async fn large_messages_arrive_unchanged_and_delay_no_small_ones() {
    let client = serve(server()).await;
    gone_over(&client).await;
    let large: String = (0..1_000_000u32).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let calls = (0..8).map(|_| {
        let (client, large) = (client.clone(), large.clone());
        tokio::spawn(async move { assert!(echo::on(&client, large.clone()).await.unwrap() == large) })
    });
    let calls: Vec<_> = calls.collect();
    for n in 0..100 {
        assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
    }
    for call in calls {
        call.await.unwrap();
    }
    // However the function runs: in the connection's own task, or in one of its own.
    for _ in 0..20 {
        assert!(echo::on(&client, large.clone()).await.unwrap() == large);
    }
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_and_its_slot_is_free() {
    let begun = Arc::new(AtomicUsize::new(0));
    let told = Arc::new(tokio::sync::Notify::new());
    let (counted, tells) = (Arc::clone(&begun), Arc::clone(&told));
    let server = server().function("stuck", move || {
        let (begun, told) = (Arc::clone(&counted), Arc::clone(&tells));
        async move {
            begun.fetch_add(1, Ordering::Relaxed);
            Context::current().expect("it is served").cancellation().cancelled().await;
            told.notify_one();
        }
    });
    let client = serve(server).await;
    gone_over(&client).await;
    let mut call = Box::pin(client.call::<()>("stuck", ()));
    while begun.load(Ordering::Relaxed) == 0 {
        tokio::select! {
            biased;
            done = &mut call => panic!("{done:?}"),
            () = yield_now() => {}
        }
    }
    drop(call);
    tokio::time::timeout(Duration::from_secs(20), told.notified()).await.expect("it is never told");
    let late = client.call::<()>("stuck", ()).timeout(Duration::from_millis(20)).await.unwrap_err();
    let late = late.rpc().expect("it is ours");
    assert_eq!((late.code(), late.executed()), (Code::DeadlineExceeded, Executed::Unknown));
    tokio::time::timeout(Duration::from_secs(20), told.notified()).await.expect("it is never told");
    assert_eq!(add::on(&client, 1, 2).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_blocks_its_thread_holds_up_no_other_call_of_its_connection() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let server = server().function("block", move || {
        let released = Arc::clone(&released);
        async move { released.lock().unwrap().recv().unwrap() }
    });
    let client = serve(server).await;
    gone_over(&client).await;
    let blocked = tokio::spawn({
        let client = client.clone();
        async move { client.call::<()>("block", ()).await }
    });
    let running = async {
        for n in 0..200 {
            assert_eq!(add::on(&client, n, 1).await.unwrap(), n + 1);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), running).await.expect("other calls wait");
    assert!(!blocked.is_finished());
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
}
