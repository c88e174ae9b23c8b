//! The interfaces of a client and the runtimes under it: callbacks, plain threads, other executors, and a client that outlives
//! the runtime that opened its connections.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::mpsc;
use std::sync::{LazyLock, OnceLock};
use std::task::{Context as Task, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::harness::foreign::{Foreign, ret};
use crate::harness::{Log, Running, add, everything, within};
use byname::{ByName, Call, CallError, Client, Code, Context, Error, Executed, Server, Transport};
use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(60);

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A server beside the test, on threads of its own.
fn beside(server: Server) -> (Runtime, Running) {
    let runtime = two_threads();
    let running = runtime.block_on(Running::new(server));
    (runtime, running)
}

fn foreign_beside(foreign: impl Future<Output = Foreign>) -> (Runtime, Foreign) {
    let runtime = two_threads();
    let foreign = runtime.block_on(foreign);
    (runtime, foreign)
}

fn rpc<T: std::fmt::Debug>(result: Result<T, CallError<Value>>) -> Error {
    result.unwrap_err().rpc().expect("the function itself did not fail").clone()
}

// Callbacks.

#[test]
fn a_callback_gets_the_result_on_a_thread_that_knows_no_runtime() {
    let (_runtime, running) = beside(everything());
    let client = running.client();
    let (sender, results) = mpsc::channel();
    assert!(Handle::try_current().is_err());
    client.call_then::<i64>("add", (1, 2), move |result| {
        sender.send((result, thread::current().name().map(str::to_owned))).unwrap();
    });
    let (result, thread) = results.recv_timeout(PATIENCE).unwrap();
    assert_eq!((result, thread.as_deref()), (Ok(3), Some("byname")));
}

#[tokio::test]
async fn a_callback_in_async_code_runs_in_the_runtime_that_it_was_given_in() {
    let running = Running::new(everything()).await;
    let (sender, mut results) = tokio::sync::mpsc::unbounded_channel();
    running.client().call_then::<i64>("add", (1, 2), move |result| {
        sender.send((result, Handle::current().id())).unwrap();
    });
    assert_eq!(within(results.recv()).await, Some((Ok(3), Handle::current().id())));
}

#[test]
fn a_callback_gets_the_error() {
    let (_runtime, running) = beside(everything());
    let client = running.client();
    let failed = |name: &str, args: Value| {
        let (sender, results) = mpsc::channel();
        client.call_then::<Value>(name, args, move |result| sender.send(result).unwrap());
        results.recv_timeout(PATIENCE).unwrap().unwrap_err()
    };
    let unknown = failed("addd", serde_json::json!([1, 2]));
    assert_eq!(unknown.rpc().map(Error::code), Some(Code::Unimplemented));
    let refused = failed("a b", serde_json::json!([]));
    assert_eq!(refused.rpc().map(Error::code), Some(Code::InvalidArgument));
    let own = failed("withdraw", serde_json::json!(["bob", 1]));
    assert_eq!(own.error::<crate::harness::BankError>(), CallError::Method(crate::harness::BankError::NoSuchAccount));
}

#[test]
fn a_callback_may_call_again() {
    let (_runtime, running) = beside(everything());
    let client = running.client();
    let (sender, results) = mpsc::channel();
    let again = client.clone();
    client.call_then::<i64>("add", (1, 2), move |sum| {
        again.call_then::<i64>("add", (sum.unwrap(), 4), move |sum| sender.send(sum).unwrap());
    });
    assert_eq!(results.recv_timeout(PATIENCE).unwrap(), Ok(7));
}

#[test]
fn a_panic_in_a_callback_affects_nothing_else() {
    let (_runtime, running) = beside(everything());
    let client = running.client();
    let (sender, results) = mpsc::channel();
    let dropped = sender.clone();
    client.call_then::<i64>("add", (1, 2), move |_| {
        let _dropped = dropped;
        panic!("a callback that panics, on purpose");
    });
    client.call_then::<i64>("add", (1, 3), move |sum| sender.send(sum).unwrap());
    assert_eq!(results.recv_timeout(PATIENCE).unwrap(), Ok(4));
    let rest = results.recv_timeout(PATIENCE);
    assert_eq!(rest, Err(mpsc::RecvTimeoutError::Disconnected), "the other one ended without a word");
}

#[tokio::test]
async fn a_notification_runs_the_function() {
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let hear = move |word: String| {
        let sender = sender.clone();
        async move { sender.send(word).unwrap() }
    };
    let running = Running::new(Server::new().function("hear", hear)).await;
    running.client().notify("hear", ("hello",));
    assert_eq!(within(heard.recv()).await.as_deref(), Some("hello"));
}

#[tokio::test]
async fn a_notification_that_fails_is_logged() {
    let running = Running::new(everything()).await;
    let mut log = Log::new();
    running.client().notify("addd", (1, 2));
    let line = log.until("notification `addd` failed").await;
    assert!(line.starts_with("WARN") && line.contains("unimplemented"), "{line}");
}

// Executors.

#[test]
fn a_call_can_be_awaited_without_tokio() {
    let (_runtime, running) = beside(everything());
    let client = running.client();
    assert_eq!(pollster::block_on(client.call::<i64>("add", (1, 2))), Ok(3));
    assert_eq!(pollster::block_on(add::on(&client, 3, 4)), Ok(7));
    let (sum, metadata) = pollster::block_on(add::on(&client, 5, 6).with_metadata()).unwrap();
    assert_eq!((sum, metadata["byname-protocol"].as_bytes()), (11, &b"1"[..]));
    let unknown = rpc(pollster::block_on(client.call::<i64>("addd", ())));
    assert_eq!((unknown.code(), unknown.executed()), (Code::Unimplemented, Executed::No));
}

#[test]
fn a_call_has_its_deadline_without_tokio() {
    let (_runtime, foreign) = foreign_beside(Foreign::holding(ret("1")));
    let late = rpc(pollster::block_on(foreign.client().call::<u8>("f", ()).timeout(Duration::from_millis(20))));
    assert_eq!(late.code(), Code::DeadlineExceeded);
}

#[test]
fn a_call_dropped_without_tokio_releases_its_connection() {
    let (runtime, foreign) = foreign_beside(Foreign::holding(ret("1")));
    let client = foreign.builder().limits(|limits| limits.connections = 1).build().unwrap();
    let mut dropped = client.call::<u8>("dropped", ());
    assert!(poll_once(&mut dropped).is_pending());
    runtime.block_on(foreign.until_asked(1));
    drop(dropped);
    foreign.release(2);
    assert_eq!(pollster::block_on(client.call::<u8>("f", ())), Ok(1));
    assert_eq!((foreign.opened(), foreign.requests().len()), (1, 2));
}

fn poll_once<F: Future + Unpin>(call: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(call).poll(&mut Task::from_waker(Waker::noop()))
}

#[test]
fn plain_threads_share_the_connections_of_one_client() {
    let (_runtime, running) = beside(Server::new().function("peer", |n: u32| async move {
        (n, Context::current().unwrap().peer().unwrap().address.port().unwrap())
    }));
    let url = running.address.to_string();
    let http = Client::builder(&url).transport(Transport::Http);
    let client = http.limits(|limits| limits.connections = 3).build().unwrap();
    let mut peers = HashSet::new();
    thread::scope(|scope| {
        let client = &client;
        let threads: Vec<_> = (0..8u32)
            .map(|t| {
                let call = move |n: u32| {
                    let (echoed, peer) = pollster::block_on(client.call::<(u32, u16)>("peer", (n,))).unwrap();
                    assert_eq!(echoed, n, "a reply reached another call");
                    peer
                };
                scope.spawn(move || (0..50).map(|n| call(t * 50 + n)).collect::<HashSet<_>>())
            })
            .collect();
        for thread in threads {
            peers.extend(thread.join().unwrap());
        }
    });
    assert!(peers.len() <= 3, "{} connections", peers.len());
}

// Calls as values.

fn is_free<T: Send + Unpin + 'static>(value: T) -> T {
    value
}

#[tokio::test]
async fn a_call_owns_what_it_needs() {
    let running = Running::new(everything()).await;
    /// The type of a call can be written down, whatever its arguments are.
    struct Held {
        call: Call<ByName, Result<i64, CallError<Value>>>,
    }
    fn made_here(client: &Client) -> Held {
        let (scoped, name, args) = (client.prefix("counter"), String::from("bump"), vec![String::from("5")]);
        let call = scoped.call(&name, args.iter().map(|n| n.parse::<i64>().unwrap()).collect::<Vec<_>>());
        Held { call: is_free(call) }
    }
    let client = running.client();
    let held = made_here(&client);
    let stub = is_free(crate::harness::Counter::on(&client.prefix("counter")).bump(2));
    let calls: Vec<_> = (0..3).map(|n| client.call::<i64>(&format!("{}dd", 'a'), (n, n))).collect();
    drop(client);
    assert_eq!(tokio::spawn(held.call).await.unwrap(), Ok(5));
    assert_eq!(tokio::spawn(stub).await.unwrap(), Ok(7));
    let mut sums: Vec<_> =
        calls.into_iter().collect::<JoinSet<_>>().join_all().await.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, [0, 2, 4]);
}

#[tokio::test]
async fn calls_can_be_joined_within_one_task() {
    let running = Running::new(everything()).await;
    let client = running.client();
    let sums = tokio::join!(add::on(&client, 1, 2), add::on(&client, 3, 4), client.call::<i64>("add", (5, 6)));
    assert_eq!(sums, (Ok(3), Ok(7), Ok(11)));
}

#[tokio::test]
async fn arguments_of_a_stub_may_be_borrowed() {
    let running = Running::new(everything()).await;
    let client = running.client();
    let (name, numbers) = (String::from("Ada"), vec![1, 2, 3]);
    let greeting = crate::harness::greet::on(&client, &name, "salut".into(), None);
    let total = crate::harness::total::on(&client, &numbers);
    assert_eq!(tokio::join!(greeting, total), (Ok("salut Ada".to_owned()), Ok(6)));
}

// One client, several runtimes.

static SERVICE: LazyLock<(Runtime, Running)> = LazyLock::new(|| beside(everything()));
static DATA: LazyLock<Client> = LazyLock::new(|| SERVICE.1.client());

#[test]
fn a_client_in_a_static_works_in_one_runtime_after_the_other() {
    LazyLock::force(&DATA);
    for runtime in [one_thread, two_threads, one_thread, two_threads] {
        let runtime = runtime();
        runtime.block_on(async {
            for n in 0..3 {
                assert_eq!(within(add::on(&DATA, n, 1)).await, Ok(n + 1));
            }
            let calls: JoinSet<_> = (0..20).map(|n| add::on(&DATA, n, n)).collect();
            assert!(within(calls.join_all()).await.iter().all(Result::is_ok));
        });
        // The connections that it opened go with it; connections without a runtime stay.
        drop(runtime);
        assert_eq!(pollster::block_on(add::on(&DATA, 1, 2)), Ok(3));
    }
}

#[test]
fn a_client_works_in_two_runtimes_while_one_of_them_is_blocked() {
    let (_runtime, foreign) = foreign_beside(Foreign::answering(ret("1")));
    let client = foreign.client();
    let (a, b) = (one_thread(), one_thread());
    for _ in 0..3 {
        for runtime in [&a, &b] {
            // Nobody drives the other one meanwhile, so its connection must not be taken.
            assert_eq!(runtime.block_on(within(client.call::<u8>("f", ()))), Ok(1));
        }
    }
    assert_eq!(foreign.opened(), 2, "each has its own, and keeps it");
}

#[test]
fn the_connections_of_all_runtimes_together_keep_to_the_limit() {
    let (service, foreign) = foreign_beside(Foreign::answering(ret("1")));
    let client = foreign.builder().limits(|limits| limits.connections = 1).build().unwrap();
    let (a, b) = (one_thread(), one_thread());
    for runtime in [&a, &b, &a] {
        assert_eq!(runtime.block_on(within(client.call::<u8>("f", ()))), Ok(1));
    }
    assert_eq!(foreign.opened(), 3, "the idle one of the other gives way");
    drop(client);
    service.block_on(foreign.until_closed());
}

#[test]
fn a_call_whose_runtime_is_gone_may_have_run() {
    let (service, foreign) = foreign_beside(Foreign::holding(ret("1")));
    let client = foreign.client();
    for runtime in [one_thread, two_threads] {
        let (first, second) = (runtime(), runtime());
        let asked = foreign.requests().len();
        let mut call = client.call::<u8>("f", ());
        first.block_on(foreign.until_asked_by(&mut call, asked + 1));
        drop(first);
        let error = rpc(second.block_on(within(call)));
        assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown), "{error}");
        foreign.release(2);
        assert_eq!(second.block_on(within(client.call::<u8>("f", ()))), Ok(1), "the next one connects anew");
    }
    drop(service);
}

#[test]
fn a_call_may_be_dropped_outside_of_its_runtime() {
    let (service, foreign) = foreign_beside(Foreign::holding(ret("1")));
    let client = foreign.builder().limits(|limits| limits.connections = 1).build().unwrap();
    let runtime = two_threads();
    let mut call = client.call::<u8>("dropped", ());
    runtime.block_on(foreign.until_asked_by(&mut call, 1));
    drop(call);
    foreign.release(2);
    assert_eq!(runtime.block_on(within(client.call::<u8>("f", ()))), Ok(1));
    assert_eq!(foreign.opened(), 1, "its connection stayed where its socket is");

    let mut call = client.call::<u8>("dropped", ());
    runtime.block_on(foreign.until_asked_by(&mut call, 3));
    drop(runtime);
    drop(call);
    service.block_on(foreign.until_asked(3));
    foreign.release(2);
    assert_eq!(pollster::block_on(client.call::<u8>("f", ())), Ok(1), "its place is free again");
}

#[test]
fn a_runtime_that_ends_during_a_call_releases_its_permit() {
    let (service, foreign) = foreign_beside(Foreign::holding(ret("1")));
    let client = foreign.builder().limits(|limits| limits.connections = 1).build().unwrap();
    for (at, runtime) in [one_thread, two_threads].into_iter().enumerate() {
        let runtime = runtime();
        let call = runtime.spawn(client.call::<u8>("f", ()));
        runtime.block_on(foreign.until_asked(at + 1));
        drop(runtime);
        assert!(service.block_on(call).unwrap_err().is_cancelled());
    }
    foreign.release(3);
    assert_eq!(service.block_on(within(client.call::<u8>("f", ()))), Ok(1));
}

#[test]
fn a_call_begun_in_one_runtime_can_end_in_another_and_its_connection_goes_back() {
    let (_service, foreign) = foreign_beside(Foreign::holding(ret("1")));
    let client = foreign.client();
    let (first, second) = (two_threads(), two_threads());
    let mut call = client.call::<u8>("f", ());
    first.block_on(foreign.until_asked_by(&mut call, 1));
    foreign.release(3);
    assert_eq!(second.block_on(within(call)), Ok(1));
    assert_eq!(first.block_on(within(client.call::<u8>("f", ()))), Ok(1));
    assert_eq!(foreign.opened(), 1, "it is still the first one's");
    drop(first);
    assert_eq!(second.block_on(within(client.call::<u8>("f", ()))), Ok(1));
}

#[test]
fn a_blocking_thread_of_a_runtime_belongs_to_that_runtime() {
    let (service, running) = beside(everything());
    let client = running.client();
    let id = OnceLock::new();
    let sum = service.block_on(async {
        id.set(Handle::current().id()).unwrap();
        let blocking = tokio::task::spawn_blocking(move || {
            let (sender, results) = mpsc::channel();
            client.call_then::<i64>("add", (1, 2), move |sum| sender.send((sum, Handle::current().id())).unwrap());
            results.recv_timeout(PATIENCE).unwrap()
        });
        blocking.await.unwrap()
    });
    assert_eq!(sum, (Ok(3), *id.get().unwrap()));
}

#[tokio::test]
async fn a_call_gives_way_to_others_on_its_thread() {
    let running = Running::new(everything()).await;
    let client = running.client();
    let mut call = add::on(&client, 1, 2);
    let mut polls = 0;
    let sum = poll_fn(|cx| {
        polls += 1;
        std::pin::Pin::new(&mut call).poll(cx)
    });
    assert_eq!(within(sum).await, Ok(3));
    assert!(polls < 20, "{polls} polls for one call: it keeps its thread busy");
}

// Tests with a paused clock.

#[test]
fn a_call_that_times_out_because_the_clock_is_paused_says_so() {
    let (_runtime, silent) = foreign_beside(Foreign::holding(ret("1")));
    let client = silent.client();
    let error = one_thread().block_on(async {
        tokio::time::pause();
        rpc(client.call::<u8>("f", ()).await)
    });
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(error.message().contains("tokio's clock is paused in this runtime"), "{error}");
    let error =
        one_thread().block_on(async { rpc(client.timeout(Duration::from_millis(1)).call::<u8>("f", ()).await) });
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(!error.message().contains("paused"), "{error}");
}
