//! The client's connections: their number, the order of calls that wait for one, how long they are kept, and the
//! connection of a call that was dropped.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use crate::harness::foreign::{BYNAME, Foreign, answer, during, ret, skip, start};
use crate::harness::{Gate, Running, everything, within};
use byname::{ByName, Call, CallError, Client, Code, Context, Error, Executed, Server};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn with_connections(server: &Foreign, connections: usize) -> Client {
    server.builder().limits(|limits| limits.connections = connections).build().unwrap()
}

fn one(client: &Client, name: &str) -> Call<ByName, Result<u8, CallError<Value>>> {
    client.call::<u8>(name, ())
}

async fn ok(client: &Client) {
    assert_eq!(within(one(client, "f")).await, Ok(1));
}

fn rpc<T: std::fmt::Debug>(result: Result<T, CallError<Value>>) -> Error {
    result.unwrap_err().rpc().expect("the function itself did not fail").clone()
}

fn names(server: &Foreign) -> Vec<String> {
    server.requests().iter().map(|asked| asked.json()["fun"].as_str().unwrap().to_owned()).collect()
}

// How many.

#[tokio::test]
async fn calls_share_as_many_connections_as_are_allowed_and_no_more() {
    let server = Foreign::holding(ret("1")).await;
    let client = with_connections(&server, 4);
    let mut calls: JoinSet<_> = (0..100).map(|_| one(&client, "f")).collect();
    server.until_asked(4).await;
    server.release(100);
    while let Some(result) = within(calls.join_next()).await {
        assert_eq!(result.unwrap(), Ok(1));
    }
    assert_eq!((server.opened(), server.most_open(), server.requests().len()), (4, 4, 100));
}

#[tokio::test]
async fn calls_one_after_the_other_share_one_connection() {
    let foreign = Foreign::answering(ret("1")).await;
    let client = foreign.client();
    for _ in 0..50 {
        ok(&client).await;
    }
    assert_eq!(foreign.opened(), 1);

    let peer = || async { Context::current().unwrap().peer().unwrap().address.port().unwrap() };
    let running = Running::new(Server::new().function("peer", peer)).await;
    let client = running.client();
    let mut peers = BTreeSet::new();
    // After more calls it looks for other servers behind the address.
    for _ in 0..16 {
        peers.insert(client.call::<u16>("peer", ()).await.unwrap());
    }
    assert_eq!(peers.len(), 1);
}

#[tokio::test]
async fn complete_error_answers_keep_the_connection() {
    let server = Foreign::answering(answer("500 Internal Server Error", "", "<html>sorry</html>")).await;
    let client = server.client();
    for _ in 0..5 {
        assert_eq!(rpc(one(&client, "f").await).code(), Code::Internal);
    }
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn ten_thousand_calls_at_once_go_through_the_128_connections() {
    let (address, listening) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Calls that went over to frames meanwhile come by a connection of their own.
            let peer = |n: u32| async move {
                let call = Context::current().unwrap();
                (n, call.header("host").map_or(0, |_| call.peer().unwrap().address.port().unwrap()))
            };
            let until = async {
                let _ = stopped.await;
            };
            let bound = Server::new().function("peer", peer).serve("127.0.0.1:0").until(until).bind().await.unwrap();
            address.send(bound.local_addr()).unwrap();
            bound.await
        })
    });
    let client = Client::new(listening.recv().unwrap().to_string()).unwrap().timeout(50 * S);
    let mut calls: JoinSet<_> = (0..10_000u32)
        .map(|n| {
            let call = client.call::<(u32, u16)>("peer", (n,));
            async move { (n, call.await) }
        })
        .collect();
    let mut peers = HashSet::new();
    while let Some(joined) = within(calls.join_next()).await {
        let (n, result) = joined.unwrap();
        let (echoed, peer) = result.unwrap();
        assert_eq!(echoed, n, "a reply reached another call");
        peers.insert(peer);
    }
    peers.remove(&0);
    assert!(peers.len() <= 128, "{} connections", peers.len());
    stop.send(()).unwrap();
    drop(client);
    service.join().unwrap().unwrap();
}

// Whose turn.

#[tokio::test]
async fn permits_are_granted_in_the_order_of_requests() {
    let server = Foreign::holding(ret("1")).await;
    let client = with_connections(&server, 1);
    let mut calls: Vec<_> = (0..10).map(|n| one(&client, &format!("f{n}"))).collect();
    for call in &mut calls {
        start(call).await;
    }
    server.release(10);
    let calls: JoinSet<_> = calls.into_iter().rev().collect();
    within(calls.join_all()).await;
    assert_eq!(names(&server), (0..10).map(|n| format!("f{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_queued_call_ends_at_its_own_deadline() {
    let server = Foreign::holding(ret("1")).await;
    let client = with_connections(&server, 1);
    let mut first = one(&client, "first");
    server.until_asked_by(&mut first, 1).await;
    let mut second = one(&client, "second").timeout(5 * S);
    start(&mut second).await;
    skip(5 * S).await;
    let error = rpc(within(second).await);
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::No));
    assert_eq!(error.limit(), Some("connections"));
    assert!(error.message().contains("`Limits::connections`") && error.message().contains("`second`"), "{error}");
    server.release(1);
    assert_eq!(within(first).await, Ok(1), "its own 30 s are not over");
    assert_eq!(names(&server), ["first"]);
}

#[tokio::test]
async fn only_so_many_may_wait() {
    let server = Foreign::holding(ret("1")).await;
    let limits = |limits: &mut byname::Limits| (limits.connections, limits.waiting) = (1, 2);
    let client = server.builder().limits(limits).build().unwrap();
    let mut calls: Vec<_> = (0..3).map(|_| one(&client, "f")).collect();
    for call in &mut calls {
        start(call).await;
    }
    let error = rpc(one(&client, "f").await);
    assert_eq!((error.code(), error.executed()), (Code::ResourceExhausted, Executed::No));
    assert_eq!(error.limit(), Some("waiting"));
    assert!(error.message().contains("`Limits::waiting`"), "{error}");

    drop(calls.pop());
    let mut in_its_place = one(&client, "f");
    start(&mut in_its_place).await;
    calls.push(in_its_place);
    server.release(3);
    for call in calls {
        assert_eq!(within(call).await, Ok(1));
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_before_its_turn_is_never_sent() {
    let server = Foreign::holding(ret("1")).await;
    let client = with_connections(&server, 1);
    let [mut first, mut second, mut third] = ["first", "second", "third"].map(|name| one(&client, name));
    start(&mut first).await;
    start(&mut second).await;
    start(&mut third).await;
    drop(second);
    server.release(2);
    assert_eq!(within(first).await, Ok(1));
    assert_eq!(within(third).await, Ok(1));
    assert_eq!(names(&server), ["first", "third"]);
}

// How long.

/// Whether a connection is used again after it was idle for so long.
async fn is_kept(headers: &str, idle: Duration) -> bool {
    let server = Foreign::answering(answer("200 OK", headers, "{\"ret\": 1}")).await;
    let client = server.client();
    ok(&client).await;
    skip(idle).await;
    ok(&client).await;
    server.opened() == 1
}

#[tokio::test]
async fn a_connection_is_given_up_before_its_server_does_it() {
    // Half a second is for the test itself to run in.
    let cases = [
        ("keep-alive: timeout=10\r\n", 8 * S),
        ("keep-alive: max=100, timeout=10\r\n", 8 * S),
        ("byname-protocol: 1\r\nkeep-alive: timeout=75\r\n", 60 * S),
        ("byname-protocol: 1\r\nkeep-alive: timeout=2\r\n", 1 * S),
        ("keep-alive: timeout=900\r\n", 60 * S),
        ("byname-protocol: 1\r\n", 60 * S),
        ("", 4 * S),
        ("keep-alive: max=100\r\n", 4 * S),
    ];
    for (headers, limit) in cases {
        assert!(is_kept(headers, limit - 500 * MS).await, "{headers:?} is kept until {limit:?}");
        assert!(!is_kept(headers, limit).await, "{headers:?} is not kept after {limit:?}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_connections_for_a_second_or_less_gets_a_new_one_for_each_call() {
    for headers in ["keep-alive: timeout=1\r\n", "keep-alive: timeout=0\r\n", "connection: close\r\n"] {
        assert!(!is_kept(headers, Duration::ZERO).await, "{headers:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_without_another_call() {
    let server = Foreign::answering(ret("1")).await;
    let client = with_connections(&server, 4);
    for _ in 0..2 {
        let calls: JoinSet<_> = (0..4).map(|_| one(&client, "f")).collect();
        within(calls.join_all()).await;
        assert_ne!(server.open(), 0);
        skip(4 * S).await;
        server.until_closed().await;
    }
}

#[tokio::test]
async fn a_client_that_is_dropped_closes_its_connections() {
    let server = Foreign::answering(ret("1")).await;
    let client = server.client();
    ok(&client).await;
    drop(client);
    server.until_closed().await;
}

// What the server closes.

/// A server that closes after each answer without saying so; it tells when it has.
async fn abrupt() -> (Foreign, mpsc::UnboundedReceiver<()>) {
    let (closed, closing) = mpsc::unbounded_channel();
    let server = Foreign::new(move |mut connection| {
        let closed = closed.clone();
        async move {
            if connection.request().await.is_some() {
                connection.send(answer("200 OK", BYNAME, "{\"ret\": 1}")).await;
            }
            drop(connection);
            let _ = closed.send(());
        }
    });
    (server.await, closing)
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_noticed_before_it_is_used() {
    let (server, mut closed) = abrupt().await;
    let client = server.client();
    for _ in 0..200 {
        // With arguments of both kinds, so that every call is plain.
        let args = byname::Args::new().arg(1).kwarg("b", 2);
        assert_eq!(within(client.call::<u8>("f", args)).await, Ok(1));
        closed.recv().await.unwrap();
    }
    assert_eq!(server.requests().len(), 200, "each runs exactly once");
}

#[tokio::test]
async fn many_connections_that_the_server_closed_cost_a_call_nothing() {
    let (closed, mut closing) = mpsc::unbounded_channel();
    let close = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let told = std::sync::Arc::clone(&close);
    let server = Foreign::new(move |mut connection| {
        let (closed, told) = (closed.clone(), std::sync::Arc::clone(&told));
        async move {
            connection.request().await;
            connection.send(ret("1")).await;
            if connection.number < 4 {
                told.acquire().await.unwrap().forget();
                drop(connection);
                let _ = closed.send(());
            }
        }
    })
    .await;
    let client = with_connections(&server, 4);
    let calls: JoinSet<_> = (0..4).map(|_| one(&client, "f")).collect();
    within(calls.join_all()).await;
    assert_eq!(server.opened(), 4);
    close.add_permits(4);
    for _ in 0..4 {
        closing.recv().await.unwrap();
    }
    ok(&client).await;
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_server_that_was_replaced_is_found_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(listener.local_addr().unwrap().to_string()).unwrap();
    for generation in 0..3u8 {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await;
        };
        let server = Server::new().function("generation", move || async move { generation });
        let bound = server.serve(listener.try_clone().unwrap()).until(until).bind().await.unwrap();
        let service = tokio::spawn(bound.into_future());
        for _ in 0..2 {
            assert_eq!(within(client.call::<u8>("generation", ())).await, Ok(generation));
        }
        stop.send(()).unwrap();
        within(service).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_unrequested_answer_is_not_used() {
    let server = Foreign::new(|mut connection| async move {
        while connection.request().await.is_some() {
            let unasked = if connection.number == 0 { ret("2") } else { String::new() };
            connection.send(ret("1") + &unasked).await;
        }
    })
    .await;
    let client = server.client();
    ok(&client).await;
    ok(&client).await;
    assert_eq!(server.opened(), 2);
}

#[tokio::test]
async fn a_late_unrequested_answer_is_not_used() {
    let (said, mut saying) = mpsc::unbounded_channel();
    let server = Foreign::new(move |mut connection| {
        let said = said.clone();
        async move {
            while connection.request().await.is_some() {
                connection.send(ret("1")).await;
                if connection.number == 0 {
                    connection.send(ret("2")).await;
                    said.send(()).unwrap();
                }
            }
        }
    })
    .await;
    let client = server.client();
    ok(&client).await;
    saying.recv().await.unwrap();
    ok(&client).await;
    assert_eq!(server.requests().len(), 2);
}

// What nobody waits for.

#[tokio::test]
async fn the_connection_of_a_dropped_call_takes_its_reply_and_is_used_again() {
    let server = Foreign::holding(ret("1")).await;
    let client = with_connections(&server, 1);
    let mut dropped = one(&client, "dropped");
    server.until_asked_by(&mut dropped, 1).await;
    drop(dropped);
    let mut next = one(&client, "next");
    start(&mut next).await;
    server.release(2);
    assert_eq!(within(next).await, Ok(1));
    assert_eq!((server.opened(), names(&server)), (1, vec!["dropped".to_owned(), "next".into()]));
}

#[tokio::test]
async fn the_rest_of_a_reply_reaches_no_other_call_after_a_drop() {
    let (half, mut sent) = mpsc::unbounded_channel();
    let rest = std::sync::Arc::new(tokio::sync::Notify::new());
    let wanted = std::sync::Arc::clone(&rest);
    let server = Foreign::new(move |mut connection| {
        let (half, wanted) = (half.clone(), std::sync::Arc::clone(&wanted));
        async move {
            connection.request().await;
            let reply = ret("2");
            connection.send(&reply[..reply.len() - 3]).await;
            half.send(()).unwrap();
            wanted.notified().await;
            connection.send(&reply[reply.len() - 3..]).await;
            connection.request().await;
            connection.send(ret("1")).await;
            connection.closed().await;
        }
    })
    .await;
    let client = with_connections(&server, 1);
    let mut dropped = one(&client, "dropped");
    during(&mut dropped, sent.recv()).await.unwrap();
    drop(dropped);
    rest.notify_one();
    ok(&client).await;
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn a_call_past_its_deadline_may_have_run_and_releases_its_connection() {
    let server = Foreign::holding(answer("200 OK", "byname-protocol: 1\r\n", "{\"ret\": 1}")).await;
    let client = with_connections(&server, 1).timeout(20 * S);
    for (name, call, allowed) in [
        ("the client's", one(&client, "f"), 20 * S),
        ("the call's", one(&client, "f").timeout(2 * S), 2 * S),
        ("the limit's", one(&with_connections(&server, 1), "f"), 30 * S),
    ] {
        let mut call = call;
        let asked = server.requests().len();
        server.until_asked_by(&mut call, asked + 1).await;
        skip(allowed - S).await;
        start(&mut call).await;
        skip(S).await;
        let error = rpc(within(call).await);
        assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::Unknown), "{name}");
        assert!(error.message().contains(&format!("{allowed:?}")), "{name}: {error}");
        assert!(error.message().contains(".timeout("), "{name}: {error}");
        server.release(1);
    }
    server.release(1);
    ok(&client).await;
    assert_eq!(server.opened(), 2, "one of each client");
}

#[tokio::test]
async fn the_connection_of_an_abandoned_call_is_closed_after_a_time() {
    let server = Foreign::new(|mut connection| async move {
        connection.request().await;
        if connection.number > 0 {
            connection.send(ret("1")).await;
        }
        connection.closed().await;
    })
    .await;
    let limits = |limits: &mut byname::Limits| (limits.connections, limits.abandoned) = (1, 7 * S);
    let client = server.builder().limits(limits).build().unwrap();
    let mut dropped = one(&client, "dropped");
    server.until_asked_by(&mut dropped, 1).await;
    drop(dropped);
    let mut next = one(&client, "next");
    skip(6 * S).await;
    start(&mut next).await;
    assert_eq!(server.open(), 1);
    skip(S).await;
    assert_eq!(within(next).await, Ok(1));
    assert_eq!((server.opened(), names(&server)), (2, vec!["dropped".to_owned(), "next".into()]));
}

#[tokio::test]
async fn a_function_whose_caller_is_gone_runs_to_its_end() {
    let (gate, handle) = Gate::new();
    let running = Running::new(everything().inject(gate)).await;
    let client = running.client();
    let mut call = client.call::<bool>("pass", ());
    during(&mut call, handle.started).await.unwrap();
    drop(call);
    handle.release.send(()).unwrap();
    let told = within(handle.ended).await.unwrap();
    assert!(!told, "over HTTP/1 the connection waits for the reply in the caller's place");
    assert_eq!(within(client.call::<bool>("pass", ())).await, Ok(false));
}
