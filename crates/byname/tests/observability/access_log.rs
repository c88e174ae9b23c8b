//! The access log: exactly one event for each call, on every way in, for every outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::peer::{self, Peer, frame};
use crate::harness::{Caller, Gate, Log, Running, Tap, everything, get, post, post_with, raw, verb, within};
use byname::{Client, Codec, Server};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::task::yield_now;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

type Access = BTreeMap<&'static str, String>;

fn traceparent() -> String {
    format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n")
}

/// These fields of an event; `-` where one is absent.
fn fields<const N: usize>(access: &Access, names: [&str; N]) -> [String; N] {
    names.map(|name| access.get(name).map_or("-", String::as_str).to_owned())
}

/// Way, name, code, whether it was executed, and the bytes.
fn summary(access: &Access) -> String {
    let name = access.get("rpc.method_original").or(access.get("rpc.method")).map_or("-", String::as_str);
    let [way, code, executed, request, response] =
        fields(access, ["way", "rpc.response.status_code", "executed", "request_bytes", "response_bytes"]);
    let is_unknown = access.get("rpc.method").is_some_and(|name| name == "_OTHER");
    assert_eq!(is_unknown, access.contains_key("rpc.method_original"), "{access:?}");
    format!("{way} {name} {code} {executed} {request} {response}")
}

/// The only event there is.
async fn only(log: &mut Log) -> Access {
    let access = log.access().await;
    assert_eq!(log.accesses(), [], "a second event beside {access:?}");
    access
}

async fn logging(server: Server) -> (Log, Running) {
    let log = Log::new();
    (log, Running::new(server.access_log(true)).await)
}

#[tokio::test]
async fn it_is_off_by_default() {
    let mut log = Log::new();
    let running = Running::new(everything()).await;
    assert_eq!(raw(running.address, post("/rpc/add", "[1,2]")).await.body, "3");
    let client = Client::local(&everything()).unwrap();
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);
    let (_tap, client) = Tap::client_by_frames(&running, Codec::Json).await;
    for _ in 0..20 {
        assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);
    }
    assert_eq!(log.accesses(), []);
}

#[tokio::test]
async fn a_call_over_http_is_one_event() {
    let (mut log, running) = logging(everything()).await;
    let mut caller = Caller::to(running.address).await;
    let own = caller.stream.local_addr().unwrap().to_string();
    for (request, expected) in [
        (post("/rpc", r#"{"fun":"add","args":[1,2]}"#), "plain add ok yes 26 9"),
        (post("/rpc/add", "[1,2]"), "path add ok yes 5 1"),
        (post("/rpc/same", "[7]"), "path echo ok yes 3 1"),
        (get("/rpc/add?a=1&b=2"), "path add ok yes - 1"),
        (verb("HEAD", "/rpc/add?a=1&b=2", ""), "path add ok yes - 0"),
        (post("/rpc/add", "[1]"), "path add invalid_argument no 3 *"),
        (post("/rpc/add", "[1,2"), "path add invalid_argument no 4 *"),
        (post("/rpc", "{"), "plain - invalid_argument no 1 *"),
        (post("/rpc/withdraw", r#"["bob",1]"#), "path withdraw not_found yes 9 *"),
        (post("/rpc/panics", r#"["x"]"#), "path panics internal yes 5 *"),
        (post("/rpc/nobody", "[]"), "path nobody unimplemented no 2 *"),
        (post("/rpc", r#"{"fun":"no\nbody"}"#), "plain no\\nbody unimplemented no 18 *"),
        (get("/rpc/bump"), "path bump unimplemented no - *"),
        (verb("PUT", "/rpc/nothing", ""), "path nothing unimplemented no - *"),
        (post_with("/rpc/add", "byname-timeout-ms: 0\r\n", "[1,2]"), "path add deadline_exceeded no 5 *"),
        (post_with("/rpc/add", "byname-timeout-ms: x\r\n", "[1,2]"), "path add invalid_argument no - *"),
        (post_with("/rpc/add", "origin: https://evil.example\r\n", "[1,2]"), "path add permission_denied no - *"),
        (post_with("/rpc/add", "content-encoding: gzip\r\n", "[1,2]"), "path add invalid_argument no - *"),
    ] {
        let is_head = request.starts_with("HEAD");
        let answer = if is_head { raw_head(&running, &request).await } else { caller.ask(&request).await.body };
        let access = only(&mut log).await;
        let expected = expected.replace('*', &answer.len().to_string());
        assert_eq!(summary(&access), expected, "{request}: {access:?}");
        let caller = fields(&access, ["client.address", "client.port"]).join(":");
        assert!(is_head || caller == own, "{access:?}");
        assert!(access["duration_ms"].parse::<f64>().unwrap() >= 0.0, "{access:?}");
        assert_eq!(fields(&access, ["items_sent", "parent_id"]), ["-", "-"]);
    }
    let long = "n".repeat(5000);
    caller.ask(post("/rpc", &json!({ "fun": long }).to_string())).await;
    assert_eq!(only(&mut log).await["rpc.method_original"], format!("{}…", "n".repeat(128)));
}

/// The body of the answer to a HEAD, which has none.
async fn raw_head(running: &Running, request: &str) -> String {
    let mut caller = Caller::to(running.address).await;
    caller.send(request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
    let rest = caller.rest().await;
    assert!(rest.starts_with("HTTP/1.1 200 "), "{rest}");
    rest.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn requests_that_are_not_calls_are_not_events() {
    let (mut log, running) = logging(everything().origins(["https://app.example"])).await;
    for request in [
        get("/rpc/!live"),
        get("/rpc/!ready"),
        get("/elsewhere"),
        verb("OPTIONS", "/rpc/add", ""),
        verb("OPTIONS", "/rpc", ""),
        verb("OPTIONS", "/rpc/add", "origin: https://app.example\r\naccess-control-request-method: POST\r\n"),
    ] {
        raw(running.address, request).await;
    }
    drop(Peer::to(running.address).await);
    assert_eq!(log.accesses(), []);
}

#[tokio::test]
async fn the_trace_is_in_the_event_and_in_the_span() {
    let (mut log, running) = logging(everything()).await;
    let ids = |fields: &Access| self::fields(fields, ["trace_id", "span_id", "parent_id"]);
    raw(running.address, post_with("/rpc/add", &traceparent(), "[1,2]")).await;
    let access = ids(&only(&mut log).await);
    assert_eq!((&*access[0], &*access[2]), (TRACE, "b7ad6b7169203331"));
    assert_eq!(ids(&log.spans("rpc.serve")[0].fields), access);
    raw(running.address, post_with("/rpc/add", "traceparent: 00-1-2-3\r\n", "[1,2]")).await;
    let access = ids(&only(&mut log).await);
    assert_eq!((access[0].len(), access[1].len(), &*access[2]), (32, 16, "-"), "a trace begins there");
    assert_eq!(ids(&log.spans("rpc.serve")[0].fields), access);
    let (_tap, client) = Tap::client_by_frames(&running, Codec::Json).await;
    log.accesses();
    log.spans("rpc.serve");
    // Often enough that it is polled inline.
    for _ in 0..20 {
        let call = client.call::<i64>("add", (1, 2)).header("traceparent", &traceparent()[13..68]);
        assert_eq!(call.await.unwrap(), 3);
        assert_eq!(only(&mut log).await["trace_id"], TRACE);
        assert_eq!(log.spans("rpc.serve")[0].fields["trace_id"], TRACE);
    }
}

#[tokio::test]
async fn each_call_of_a_batch_is_one_event() {
    let (mut log, running) = logging(everything().limits(|limits| limits.batch = 4)).await;
    let calls = [
        r#"{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"nothing"}"#,
        r#"{"jsonrpc":"2.0","method":"nobody","id":2}"#,
        r#"{"jsonrpc":"2.0","id":3}"#,
    ];
    let answer = raw(running.address, post_with("/rpc", &traceparent(), &format!("[{}]", calls.join(",")))).await;
    let [sum, nobody, invalid] = [0, 1, 2].map(|at| answer.json()[at].to_string().len());
    let mut accesses = log.accesses();
    accesses.sort_by_key(|access| access["request_bytes"].parse::<usize>().unwrap());
    assert!(accesses.iter().all(|access| access["trace_id"] == TRACE), "{accesses:?}");
    assert_eq!(
        accesses.iter().map(summary).collect::<Vec<_>>(),
        [
            format!("json-rpc - invalid_argument no 24 {invalid}"),
            "json-rpc nothing ok yes 36 0".to_owned(),
            format!("json-rpc nobody unimplemented no 42 {nobody}"),
            format!("json-rpc add ok yes 54 {sum}"),
        ]
    );
    for (body, expected) in [
        (calls[0].to_owned(), "json-rpc add ok yes 54 *"),
        ("[".to_owned(), "json-rpc - invalid_argument no 1 *"),
        ("[]".to_owned(), "json-rpc - invalid_argument no 2 *"),
        ("[1,1,1,1,1]".to_owned(), "json-rpc - resource_exhausted no 11 *"),
    ] {
        let answer = raw(running.address, post("/rpc", &body)).await.body;
        assert_eq!(summary(&only(&mut log).await), expected.replace('*', &answer.len().to_string()), "{body}");
    }
}

#[tokio::test]
async fn a_call_by_frames_is_one_event_inline_and_in_a_task() {
    for is_intercepted in [false, true] {
        let mut server = everything();
        if is_intercepted {
            server = server.intercept(|request: byname::Request, next: byname::Next| next.run(request));
        }
        let (mut log, running) = logging(server).await;
        let mut peer = Peer::calling(running.address, "add").await;
        let own = peer.stream.local_addr().unwrap().to_string();
        peer.say(frame(peer::NAME, 0, 1, 0, "nobody")).await;
        // The first calls get a task each, the later ones are polled inline.
        for id in 1..30 {
            peer.say(peer::call(0, id, "[1,2]")).await;
            assert_eq!(peer.frame().await.payload, b"3");
            let access = only(&mut log).await;
            assert_eq!(summary(&access), "frames add ok yes 9 1", "{id}");
            assert_eq!(fields(&access, ["client.address", "client.port"]).join(":"), own);
            peer.say(peer::call(0, 1000 + id, "[1]")).await;
            let length = peer.frame().await.payload.len();
            assert_eq!(summary(&only(&mut log).await), format!("frames add invalid_argument no 7 {length}"));
        }
        peer.say(peer::call(1, 50, "[]")).await;
        let length = peer.frame().await.payload.len();
        assert_eq!(summary(&only(&mut log).await), format!("frames nobody unimplemented no 6 {length}"));
    }
}

#[tokio::test]
async fn a_call_in_pieces_is_one_event_also_if_it_does_not_come_whole() {
    let (mut log, running) = logging(everything().limits(|limits| limits.message = 100)).await;
    let mut peer = Peer::calling(running.address, "echo").await;
    let piece = |flags, id, text: &str| frame(peer::CALL, flags, 0, id, text);
    peer.say(piece(peer::MORE, 1, "\0\0\u{7f}\u{7f}[")).await;
    peer.say(piece(0, 1, "7]")).await;
    assert_eq!(peer.frame().await.payload, b"7");
    assert_eq!(summary(&only(&mut log).await), "frames echo ok yes 7 1");
    peer.say(piece(peer::MORE, 2, &"x".repeat(60))).await;
    peer.say(piece(0, 2, &"x".repeat(60))).await;
    assert_eq!(peer.frame().await.error()["code"], "resource_exhausted");
    assert!(summary(&only(&mut log).await).starts_with("frames echo resource_exhausted no - "));
    peer.say(piece(peer::MORE, 3, "x")).await;
    peer.say(frame(peer::CANCEL, 0, 0, 3, "")).await;
    assert_eq!(summary(&only(&mut log).await), "frames echo cancelled unknown - -");
    peer.say(piece(peer::MORE, 4, "x")).await;
    drop(peer);
    assert_eq!(summary(&only(&mut log).await), "frames echo cancelled unknown - -");
}

#[tokio::test]
async fn a_connection_that_ends_refuses_each_call_once() {
    let (gate, handle) = Gate::new();
    let (mut log, mut running) = logging(everything().inject(gate)).await;
    let mut peer = Peer::calling(running.address, "pass").await;
    peer.say(peer::call(0, 1, "[]")).await;
    within(handle.started).await.unwrap();
    running.stop();
    assert_eq!(peer.frame().await.kind, peer::GOAWAY);
    peer.say(frame(peer::CALL, peer::MORE, 0, 2, "\0\0\0\0")).await;
    peer.say(frame(peer::CALL, peer::MORE, 0, 2, "[")).await;
    peer.say(frame(peer::CALL, 0, 0, 2, "]")).await;
    let refused = peer.frame().await;
    assert_eq!((refused.kind, refused.id), (peer::ERROR, 2));
    let length = refused.payload.len();
    assert_eq!(summary(&only(&mut log).await), format!("frames pass unavailable no - {length}"));
    handle.release.send(()).unwrap();
    let done = peer.frame().await;
    assert_eq!((done.kind, done.id), (peer::REPLY, 1), "the second call was refused once");
    assert_eq!(summary(&only(&mut log).await), "frames pass ok yes 6 4");
}

#[tokio::test]
async fn a_call_too_many_in_flight_is_one_event() {
    let (gate, handle) = Gate::new();
    let (mut log, running) = logging(everything().inject(gate).limits(|limits| limits.in_flight = 1)).await;
    let mut first = Caller::to(running.address).await;
    first.send(post("/rpc/pass", "[]")).await;
    within(handle.started).await.unwrap();
    let length = raw(running.address, post("/rpc/add", "[1,2]")).await.body.len();
    assert_eq!(summary(&only(&mut log).await), format!("path add resource_exhausted no 5 {length}"));
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say(peer::call(0, 1, "[1,2]")).await;
    let length = peer.frame().await.payload.len();
    assert_eq!(summary(&only(&mut log).await), format!("frames add resource_exhausted no 9 {length}"));
    handle.release.send(()).unwrap();
    assert_eq!(first.answer().await.body, "true");
    assert_eq!(summary(&only(&mut log).await), "path pass ok yes 2 4");
}

#[tokio::test]
async fn a_connection_with_too_many_functions_is_refused_in_one_event() {
    let server = Server::new().function("hang", std::future::pending::<()>).limits(|limits| {
        limits.in_flight = 10_000;
        limits.batch = 1;
    });
    let (mut log, running) = logging(server).await;
    let mut caller = Caller::to(running.address).await;
    // A function outlives its call, and keeps its part of the connection.
    let mut refused = None;
    for _ in 0..10_000 {
        let answer = caller.ask(post_with("/rpc/hang", "byname-timeout-ms: 1\r\n", "[]")).await;
        let access = only(&mut log).await;
        assert_eq!(answer.json()["code"], access["rpc.response.status_code"], "{access:?}");
        assert_eq!(answer.json()["executed"], access["executed"], "{access:?}");
        if answer.status != 504 {
            refused = Some((answer.body.len(), access));
            break;
        }
    }
    let (length, access) = refused.expect("the connection has a limit");
    assert_eq!(summary(&access), format!("path hang resource_exhausted no 2 {length}"));
}

#[tokio::test]
async fn a_reply_that_does_not_fit_is_logged_as_the_caller_sees_it() {
    let server = Server::new().function("long", || async { "x".repeat(500) }).limits(|limits| limits.message = 400);
    let (mut log, running) = logging(server).await;
    let length = raw(running.address, post("/rpc/long", "[]")).await.body.len();
    assert_eq!(summary(&only(&mut log).await), format!("path long resource_exhausted yes 2 {length}"));
    let call = r#"{"jsonrpc":"2.0","method":"long","id":1}"#;
    let length = raw(running.address, post("/rpc", call)).await.body.len();
    assert_eq!(summary(&only(&mut log).await), format!("json-rpc long resource_exhausted yes 40 {length}"));
    let mut peer = Peer::calling(running.address, "long").await;
    peer.say(peer::call(0, 1, "[]")).await;
    let length = peer.frame().await.payload.len();
    assert_eq!(summary(&only(&mut log).await), format!("frames long resource_exhausted yes 6 {length}"));
}

#[tokio::test]
async fn a_caller_that_goes_away_is_one_event() {
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let hang = || {
        let started = started.clone();
        Server::new().function("hang", move || {
            started.send(()).unwrap();
            std::future::pending::<()>()
        })
    };
    let (mut log, running) = logging(hang()).await;
    // Over HTTP: a reset ends the request's future.
    for body in ["[]", r#"[{"jsonrpc":"2.0","method":"hang","id":1},{"jsonrpc":"2.0","method":"hang"}]"#] {
        let mut caller = Caller::to(running.address).await;
        let is_batch = body.len() > 2;
        caller.send(post(if is_batch { "/rpc" } else { "/rpc/hang" }, body)).await;
        for _ in 0..if is_batch { 2 } else { 1 } {
            within(starts.recv()).await.unwrap();
        }
        socket2::SockRef::from(&caller.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(caller);
        if is_batch {
            let mut both = [log.access().await, log.access().await].map(|access| summary(&access));
            both.sort();
            assert_eq!(both, ["json-rpc hang cancelled unknown 33 -", "json-rpc hang cancelled unknown 40 -"]);
            assert_eq!(log.accesses(), []);
        } else {
            assert_eq!(summary(&only(&mut log).await), "path hang cancelled unknown 2 -");
        }
    }
    // By frames: by a CANCEL, and by the end of the connection.
    let mut peer = Peer::calling(running.address, "hang").await;
    for id in [1, 2] {
        peer.say(peer::call(0, id, "[]")).await;
        within(starts.recv()).await.unwrap();
    }
    peer.say(frame(peer::CANCEL, 0, 0, 1, "")).await;
    assert_eq!(summary(&only(&mut log).await), "frames hang cancelled unknown 6 -");
    drop(peer);
    assert_eq!(summary(&only(&mut log).await), "frames hang cancelled unknown 6 -");
    // Within the process.
    let client = Client::local(&hang().access_log(true)).unwrap();
    let mut call = Box::pin(client.call::<()>("hang", ()).into_future());
    assert!(futures_util::poll!(&mut call).is_pending());
    assert_eq!(log.accesses(), []);
    drop(call);
    assert_eq!(summary(&only(&mut log).await), "local hang cancelled unknown 0 -");
}

fn streaming() -> Server {
    Server::new().method::<crate::harness::nothing>().method::<count_to>().method::<for_ever>()
}

#[byname::rpc]
fn count_to(last: u32) -> impl futures_util::Stream<Item = Result<u32, String>> {
    stream::iter(1..=last).map(|n| if n == 13 { Err("unlucky".to_owned()) } else { Ok(n) })
}

#[byname::rpc]
fn for_ever() -> impl futures_util::Stream<Item = u32> {
    stream::iter([1, 22]).chain(stream::pending())
}

fn stream_summary(access: &Access) -> String {
    fields(access, ["way", "rpc.method", "rpc.response.status_code", "executed", "items_sent", "response_bytes"])
        .join(" ")
}

#[tokio::test]
async fn a_stream_is_one_event_at_its_end() {
    let (mut log, running) = logging(streaming()).await;
    let by_http = running.client();
    // Its first call is by the plain way, until it knows that the server has others.
    let _: Vec<_> = count_to::on(&by_http, 1).collect().await;
    assert_eq!(stream_summary(&only(&mut log).await), "plain count_to ok yes 1 1");
    let (_tap, by_frames) = Tap::client_by_frames(&running, Codec::Json).await;
    log.accesses();
    let local = Client::local(&streaming().access_log(true)).unwrap().encoded(true);
    for (client, way) in [(&by_http, "path"), (&by_frames, "frames"), (&local, "local")] {
        let mut items = count_to::on(client, 12);
        let mut sum = 0;
        while let Some(item) = items.next().await {
            sum += item.unwrap();
        }
        assert_eq!(sum, 78);
        assert_eq!(stream_summary(&only(&mut log).await), format!("{way} count_to ok yes 12 15"));

        let items: Vec<_> = count_to::on(client, 20).collect().await;
        assert!(items.len() == 13 && items[12].is_err());
        assert_eq!(stream_summary(&only(&mut log).await), format!("{way} count_to unknown yes 12 15"));

        let mut items = for_ever::on(client);
        assert_eq!((items.next().await.unwrap().unwrap(), items.next().await.unwrap().unwrap()), (1, 22));
        assert_eq!(log.accesses(), [], "{way}: it has not ended");
        drop(items);
        assert_eq!(stream_summary(&only(&mut log).await), format!("{way} for_ever cancelled unknown 2 3"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_within_the_process_is_one_event_and_its_time_is_that_of_the_clock() {
    let mut log = Log::new();
    let server = everything().access_log(true).function("nap", || tokio::time::sleep(Duration::from_micros(1_500_500)));
    let client = Client::local(&server).unwrap();
    client.call::<()>("nap", ()).await.unwrap();
    let access = only(&mut log).await;
    assert_eq!(summary(&access), "local nap ok yes 0 4");
    assert_eq!(
        fields(&access, ["duration_ms", "client.address", "items_sent"]),
        ["1501.0", "-", "-"],
        "the clock of tokio has whole ms"
    );
    let _ = client.call::<Value>("nobody", ()).await;
    assert_eq!(summary(&only(&mut log).await), "local nobody unimplemented no 0 -");
    assert_eq!(crate::harness::add::on(&client, 1, 2).await.unwrap(), 3);
    assert_eq!(summary(&only(&mut log).await), "local add ok yes - -", "its values are not encoded");
    yield_now().await;
    assert_eq!(log.accesses(), []);
}

/// The identity of a client's certificate is in `tests/security/tls.rs`.
#[cfg(unix)]
#[tokio::test]
async fn who_calls_over_a_unix_socket_is_in_the_event() {
    let mut log = Log::new();
    let running = crate::harness::unix::UnixRunning::new(everything().access_log(true)).await;
    assert_eq!(running.client().call::<i64>("add", (1, 2)).await.unwrap(), 3);
    let access = only(&mut log).await;
    let identity = access["identity"].strip_prefix("uid ").unwrap_or_else(|| panic!("{access:?}"));
    assert!(access["client.address"].contains(&format!("uid {identity},")), "{access:?}");
}
