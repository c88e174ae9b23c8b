//! Every limit of a server, crossed. The answer names the limit. Without an answer, the log does.

use std::time::Duration;

use crate::harness::{Caller, Gate, Log, Raw, Running, Tap, everything, get, post, post_with, raw, verb, within};
use byname::{Client, Code, Codec, Context, Executed, Limits, Server, rpc};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

const SHORT: Duration = Duration::from_millis(20);

/// Serves everything within other limits.
async fn limited(change: impl FnOnce(&mut Limits)) -> Running {
    Running::new(everything().limits(change)).await
}

/// Checks that an answer by path is about this limit, and gives its ERROR.
#[track_caller]
fn over(answer: &Raw, status: u16, knob: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    let error = answer.json();
    assert_eq!(error["limit"], knob, "{error}");
    assert!(error["message"].as_str().unwrap().contains(&format!("`Limits::{knob}`")), "{error}");
    error
}

#[tokio::test]
async fn limit_call_applies_to_a_caller_that_set_no_time() {
    let (gate, handle) = Gate::new();
    let running = Running::new(Server::new().inject(gate).limits(|limits| limits.call = SHORT)).await;
    let error = over(&raw(running.address, post("/rpc/pass", "")).await, 504, "call");
    assert_eq!((&error["code"], &error["executed"]), (&json!("deadline_exceeded"), &json!("unknown")));
    handle.release.send(()).unwrap();
    assert!(within(handle.ended).await.unwrap(), "the function ran on and was told");
}

#[tokio::test]
async fn the_callers_time_is_not_reported_as_a_limit_of_the_server() {
    let (gate, handle) = Gate::new();
    let running = Running::new(Server::new().inject(gate)).await;
    let answer = raw(running.address, post_with("/rpc/pass", "byname-timeout-ms: 20\r\n", "")).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    let error = answer.json();
    assert_eq!((&error["executed"], &error["limit"]), (&json!("unknown"), &Value::Null), "{error}");
    assert!(error["message"].as_str().unwrap().contains(".timeout(…)"), "{error}");
    drop(handle.release);
    assert!(within(handle.ended).await.unwrap());
}

#[rpc(timeout = "20ms")]
async fn brief() {
    Context::current().unwrap().cancellation().cancelled().await;
}

#[tokio::test]
async fn a_functions_timeout_wins_over_the_servers_and_a_longer_one_of_the_caller() {
    let running = Running::new(Server::new().method::<brief>().limits(|limits| limits.call = Duration::ZERO)).await;
    for headers in ["", "byname-timeout-ms: 20000\r\n"] {
        let answer = raw(running.address, post_with("/rpc/brief", headers, "")).await;
        assert_eq!(answer.status, 504, "{answer:?}");
        let error = answer.json();
        assert_eq!((&error["executed"], &error["limit"]), (&json!("unknown"), &Value::Null), "{error}");
        assert!(error["message"].as_str().unwrap().contains("#[rpc(timeout = \"…\")]"), "{error}");
    }
}

#[tokio::test]
async fn header_read_closes_a_connection_without_a_request() {
    let mut log = Log::new();
    let running = limited(|limits| limits.header_read = SHORT).await;
    assert_eq!(Caller::to(running.address).await.rest().await, "");
    log.until("`Limits::header_read`").await;
}

#[tokio::test]
async fn header_read_answers_a_slow_request_and_closes() {
    let mut log = Log::new();
    let running = limited(|limits| limits.header_read = SHORT).await;
    let mut caller = Caller::to(running.address).await;
    // The first header of a connection, and one that follows a call.
    for before in ["", &post("/rpc/add", "[1,2]")] {
        if !before.is_empty() {
            caller = Caller::to(running.address).await;
            assert_eq!(caller.ask(before).await.body, "3");
        }
        caller.send("POST /rpc/add HTTP/1.1\r\nhost: lo").await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (408, "close"), "{answer:?}");
        assert_eq!(answer.json()["err"]["limit"], "header_read");
        assert_eq!(answer.json()["err"]["executed"], "no");
        assert_eq!(caller.rest().await, "");
        log.until("`Limits::header_read`").await;
    }
}

#[tokio::test]
async fn body_progress_refuses_a_body_that_stops() {
    let running = limited(|limits| limits.body_progress = SHORT).await;
    for head in
        ["content-length: 5\r\n\r\n[1,", "transfer-encoding: chunked\r\n\r\n3\r\n[1,\r\n", "content-length: 5\r\n\r\n"]
    {
        let mut caller = Caller::to(running.address).await;
        caller.send(format!("POST /rpc/counter.bump HTTP/1.1\r\nhost: localhost\r\n{head}")).await;
        let error = over(&caller.answer().await, 504, "body_progress");
        assert_eq!(error["executed"], "no");
        assert_eq!(caller.rest().await, "", "the rest of the body is not waited for");
    }
    assert_eq!(raw(running.address, get("/rpc/counter.total")).await.body, "0");
}

#[tokio::test]
async fn write_progress_closes_a_connection_that_does_not_read() {
    let mut log = Log::new();
    let server = Server::new()
        .function("large", || async { "x".repeat(16 << 20) })
        .limits(|limits| (limits.message, limits.write_progress) = (64 << 20, SHORT));
    let running = Running::new(server).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(running.address).await.unwrap();
    stream.writable().await.unwrap();
    stream.try_write(post("/rpc/large", "").as_bytes()).unwrap();
    log.until("`Limits::write_progress`").await;
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn idle_closes_a_connection_without_calls() {
    let mut log = Log::new();
    let running = limited(|limits| limits.idle = SHORT).await;
    let mut caller = Caller::to(running.address).await;
    assert_eq!(caller.ask(post("/rpc/add", "[1,2]")).await.header("keep-alive"), "timeout=0");
    assert_eq!(caller.rest().await, "");
    log.until("`Limits::idle`").await;
}

#[tokio::test]
async fn idle_closes_a_connection_of_http_2_without_calls() {
    let mut log = Log::new();
    let running = limited(|limits| limits.idle = SHORT).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let uri = format!("http://{}/rpc/add?a=1&b=2", running.address);
    let request = hyper::Request::get(uri).body(http_body_util::Empty::<hyper::body::Bytes>::new()).unwrap();
    assert_eq!(send.send_request(request).await.unwrap().status(), 200);
    log.until("`Limits::idle`").await;
    let _ = within(connection).await.unwrap();
}

#[tokio::test]
async fn idle_does_not_count_during_a_call() {
    let (gate, handle) = Gate::new();
    let running = Running::new(Server::new().inject(gate).limits(|limits| limits.idle = SHORT)).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/pass", "")).await;
    within(handle.started).await.unwrap();
    crate::harness::foreign::skip(SHORT * 10).await;
    handle.release.send(()).unwrap();
    assert_eq!(caller.answer().await.body, "true");
}

/// hyper doesn't read again after an answer that it had to wait for, so that nothing looked at the limit any more.
#[tokio::test]
async fn idle_closes_a_connection_whose_call_took_longer_than_any_limit_before_it() {
    let mut log = Log::new();
    let (gate, handle) = Gate::new();
    let running = Running::new(Server::new().inject(gate).limits(|limits| limits.idle = SHORT)).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/pass", "")).await;
    within(handle.started).await.unwrap();
    crate::harness::foreign::skip(Limits::default().header_read * 2).await;
    handle.release.send(()).unwrap();
    assert_eq!(caller.answer().await.body, "true");
    assert_eq!(caller.rest().await, "");
    log.until("`Limits::idle`").await;
}

#[tokio::test]
async fn the_drain_ends_at_its_limit_and_names_unfinished_functions() {
    let (gate, handle) = Gate::new();
    let server = Server::new().inject_as("stuck", gate).limits(|limits| limits.drain = SHORT);
    let running = Running::new(server).await;
    let mut caller = Caller::to(running.address).await;
    caller.send(post("/rpc/stuck.pass", "")).await;
    within(handle.started).await.unwrap();
    let error = within(running.stopped()).await.unwrap_err();
    assert_eq!(error.limit(), Some("drain"));
    assert!(error.message().contains("`Limits::drain`") && error.message().contains("`stuck.pass` (1)"), "{error}");
}

#[tokio::test]
async fn message_limits_a_request_that_says_its_length_before_it_is_sent() {
    let running = limited(|limits| limits.message = 1000).await;
    let mut caller = Caller::to(running.address).await;
    caller.send("POST /rpc/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1001\r\n\r\n").await;
    let error = over(&caller.answer().await, 413, "message");
    assert_eq!((&error["code"], &error["executed"]), (&json!("resource_exhausted"), &json!("no")));
    assert_eq!(caller.rest().await, "");
    let fits = format!("[\"{}\"]", "x".repeat(996));
    assert_eq!(raw(running.address, post("/rpc/echo", &fits)).await.status, 200);
}

#[tokio::test]
async fn message_limits_a_request_in_chunks() {
    let running = limited(|limits| limits.message = 1000).await;
    let mut caller = Caller::to(running.address).await;
    caller.send("POST /rpc/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        caller.send(format!("190\r\n{}\r\n", " ".repeat(0x190))).await;
    }
    over(&caller.answer().await, 413, "message");
    assert_eq!(caller.rest().await, "");
}

#[tokio::test]
async fn a_request_that_is_far_too_large_is_answered_while_it_is_being_sent() {
    let running = limited(|limits| limits.message = 1000).await;
    for _ in 0..20 {
        let answer = raw(running.address, post("/rpc/echo", &" ".repeat(8 << 20))).await;
        over(&answer, 413, "message");
    }
    let large = running.client().call::<Value>("echo", (" ".repeat(3 << 20),)).await.unwrap_err();
    let error = large.rpc().unwrap();
    assert_eq!((error.limit(), error.executed()), (Some("message"), byname::Executed::No), "{error}");
}

#[tokio::test]
async fn message_limits_every_reply_and_the_connection_continues() {
    let server = Server::new()
        .function("value", |size: usize| async move { "x".repeat(size) })
        .function("own", |size: usize| async move { Err::<(), _>("x".repeat(size)) })
        .function("ours", |size: usize| async move {
            Err::<(), _>(byname::Error::new(byname::Code::Aborted, "see data").with_data("x".repeat(size)))
        })
        .limits(|limits| limits.message = 1000);
    let running = Running::new(server).await;
    let mut caller = Caller::to(running.address).await;
    for name in ["value", "own", "ours"] {
        let error = over(&caller.ask(post(&format!("/rpc/{name}"), "[1000]")).await, 429, "message");
        assert_eq!((&error["executed"], &error["kind"]), (&json!("yes"), &json!("rpc")));
        assert!(error["message"].as_str().unwrap().contains(&format!("`{name}`")), "{error}");
    }
    // The limit is one of the body, which the plain way makes a little longer.
    assert_eq!(caller.ask(post("/rpc/value", "[998]")).await.body.len(), 1000);
    let plain = |size: usize| post("/rpc", &format!("{{\"fun\": \"value\", \"args\": [{size}]}}"));
    assert_eq!(caller.ask(plain(990)).await.body.len(), 1000);
    let answer = caller.ask(plain(991)).await;
    assert_eq!((answer.status, &answer.json()["err"]["limit"]), (429, &json!("message")));
    // What is ours to say is said under the smallest of limits.
    let small = limited(|limits| limits.message = 2).await;
    assert_eq!(raw(small.address, post("/rpc/none", "[]")).await.json()["code"], "unimplemented");
}

#[tokio::test]
async fn nesting_is_counted_before_anything_is_built() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let running = limited(|limits| limits.nesting = 3).await;
    assert_eq!(raw(running.address, post("/rpc/echo", &deep(3))).await.body, "[[]]");
    let error = over(&raw(running.address, post("/rpc/echo", &deep(4))).await, 400, "nesting");
    assert_eq!(error["executed"], "no");
    let plain = |depth: usize| post("/rpc", &format!("{{\"fun\": \"echo\", \"args\": {}}}", deep(depth)));
    assert_eq!(raw(running.address, plain(3)).await.body, "{\"ret\":[[]]}");
    assert_eq!(raw(running.address, plain(4)).await.json()["err"]["limit"], "nesting");

    for most in [Limits::default().nesting, usize::MAX] {
        let running = limited(|limits| limits.nesting = most).await;
        assert_eq!(raw(running.address, post("/rpc/echo", &deep(128))).await.body, deep(127));
        over(&raw(running.address, post("/rpc/echo", &deep(129))).await, 400, "nesting");
        over(&raw(running.address, post("/rpc/echo", &"[".repeat(100_000))).await, 400, "nesting");
        let objects = format!("[{}1{}]", "{\"a\":".repeat(50_000), "}".repeat(50_000));
        over(&raw(running.address, post("/rpc/echo", &objects)).await, 400, "nesting");
        // What nobody builds may be as deep as it likes.
        let ext = format!("{{\"fun\": \"nothing\", \"ext\": {}}}", deep(100_000));
        assert_eq!(raw(running.address, post("/rpc", &ext)).await.status, 200);
        let unused = raw(running.address, get(&format!("/rpc/echo?value={}", deep(10_000)))).await;
        assert_eq!(unused.status, 200, "a string is not nested");
        let deep = raw(running.address, get(&format!("/rpc/add?a=1&b={}", deep(10_000)))).await;
        assert_eq!(deep.status, 400);
    }
}

#[tokio::test]
async fn header_limits_a_head_and_the_log_says_so() {
    let mut log = Log::new();
    let running = limited(|limits| limits.header = 1000).await;
    let large = verb("GET", "/rpc/add?a=1&b=2", &format!("x: {}\r\n", "y".repeat(1000)));
    let mut caller = Caller::to(running.address).await;
    caller.send(large).await;
    let answer = caller.rest().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    log.until("`Limits::header`").await;
    let fits = verb("GET", "/rpc/add?a=1&b=2", &format!("x: {}\r\n", "y".repeat(900)));
    assert_eq!(raw(running.address, fits).await.body, "3");

    let running = limited(|limits| limits.header = 1 << 20).await;
    let large = verb("GET", "/rpc/add?a=1&b=2", &format!("x: {}\r\n", "y".repeat(900_000)));
    assert_eq!(raw(running.address, large).await.body, "3", "a larger limit is kept as well");
}

/// As [`header_limits_a_head_and_the_log_says_so`], for callers that are byname's, whichever way they come.
#[tokio::test]
async fn header_limits_the_headers_of_a_call_whichever_way_it_comes() {
    let small = || everything().limits(|limits| limits.header = 1000);
    let running = Running::new(small()).await;
    let mut clients =
        vec![running.client(), Client::local(&small()).unwrap(), Client::local(&small()).unwrap().encoded(true)];
    let mut taps = Vec::new();
    for codec in [Codec::MessagePack, Codec::Json] {
        let (tap, client) = Tap::client_by_frames(&running, codec).await;
        clients.push(client);
        taps.push(tap);
    }
    let over_http: Vec<_> = taps.iter().map(Tap::over_http).collect();
    for client in clients {
        for _ in 0..10 {
            let many = client.header("x-user", &"x".repeat(1000)).call::<Value>("whoami", ()).await.unwrap_err();
            let error = many.rpc().unwrap();
            assert_eq!((error.code(), error.executed()), (Code::ResourceExhausted, Executed::No), "{error}");
            assert_eq!(error.limit(), Some("header"), "{error}");
            assert!(error.message().contains("`Limits::header`"), "{error}");
            // Over HTTP the head has others beside it.
            let fits = "x".repeat(700);
            let who = client.header("x-user", &fits).call::<Value>("whoami", ()).await.unwrap();
            assert_eq!(who["x-user"], fits);
        }
    }
    assert_eq!(taps.iter().map(Tap::over_http).collect::<Vec<_>>(), over_http, "every call of theirs went by frames");
}

#[tokio::test]
async fn in_flight_rejects_calls_over_the_limit_and_recovers() {
    let (gate, handle) = Gate::new();
    let running = Running::new(everything().inject(gate).limits(|limits| limits.in_flight = 1)).await;
    let mut held = Caller::to(running.address).await;
    held.send(post("/rpc/pass", "")).await;
    within(handle.started).await.unwrap();
    // It is refused before its arguments are looked at.
    let answer = raw(running.address, post("/rpc/counter.bump", "[?")).await;
    let error = over(&answer, 429, "in_flight");
    assert_eq!((&error["code"], &error["executed"]), (&json!("resource_exhausted"), &json!("no")));
    assert_eq!((answer.header("retry-after"), &error["retry_after_ms"]), ("1", &json!(100)));
    handle.release.send(()).unwrap();
    assert_eq!(held.answer().await.body, "true");
    assert_eq!(raw(running.address, post("/rpc/counter.bump", "[]")).await.body, "1");
}

#[tokio::test]
async fn limits_may_be_as_large_as_numbers_are() {
    let running = limited(|limits| {
        (limits.call, limits.header_read, limits.body_progress) = (Duration::MAX, Duration::MAX, Duration::MAX);
        (limits.write_progress, limits.idle, limits.drain) = (Duration::MAX, Duration::MAX, Duration::MAX);
        (limits.message, limits.header, limits.in_flight) = (usize::MAX, 1 << 30, usize::MAX);
    })
    .await;
    let mut caller = Caller::to(running.address).await;
    caller.send("POST /rpc/ad").await;
    caller.send("d HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[1,").await;
    tokio::task::yield_now().await;
    assert_eq!(caller.ask("2]").await.body, "3");
    let client = Client::local(&everything().limits(|limits| limits.call = Duration::MAX)).unwrap();
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);
    within(running.stopped()).await.unwrap();
}

#[tokio::test]
async fn the_drain_waits_for_functions_whose_callers_are_gone() {
    let (gate, handle) = Gate::new();
    let server = Server::new().inject(gate).limits(|limits| (limits.call, limits.in_flight) = (SHORT, usize::MAX));
    let mut running = Running::new(server).await;
    over(&raw(running.address, post("/rpc/pass", "")).await, 504, "call");
    let address = running.address;
    running.stop();
    let stopped = tokio::spawn(running.stopped());
    while TcpStream::connect(address).await.is_ok() {}
    // No connection is left, only the function itself.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!stopped.is_finished());
    handle.release.send(()).unwrap();
    assert!(within(handle.ended).await.unwrap());
    within(stopped).await.unwrap().unwrap();
}
