//! What a server says of itself: how busy it is, by LOAD and `byname-load`, and which one it is, in HELLO and
//! `byname-instance`. The client's side is in `tests/frames/client_frames.rs`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::harness::peer::*;
use crate::harness::{Caller, Mounted, Raw, Running, add, echo, everything, get, post, post_with, raw, verb, within};
use byname::{Server, rpc};
use futures_util::{Stream, stream};
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

const END: u8 = 9;
const STREAM: u8 = 8;

/// By which a caller says how long it waits.
const WAITS: &str = "byname-timeout-ms: 60000\r\n";

#[rpc(readonly)]
fn countdown(from: u32) -> impl Stream<Item = u32> {
    stream::iter((1..=from).rev())
}

#[rpc(readonly, max_age = "60s", public)]
fn kept() -> u8 {
    7
}

/// Calls of `hold` run until the test lets them end, one by one.
#[derive(Clone)]
struct HeldCalls {
    begun: Arc<Semaphore>,
    go_on: Arc<Notify>,
}

impl HeldCalls {
    fn new() -> Self {
        Self { begun: Arc::new(Semaphore::new(0)), go_on: Arc::default() }
    }

    /// Waits until so many more have begun.
    async fn have_begun(&self, count: u32) {
        within(self.begun.acquire_many(count)).await.unwrap().forget();
    }

    fn served(&self, server: Server) -> Server {
        let held = self.clone();
        server.function("hold", move || {
            let held = held.clone();
            async move {
                held.begun.add_permits(1);
                held.go_on.notified().await;
            }
        })
    }
}

async fn holding() -> (Running, HeldCalls) {
    let held = HeldCalls::new();
    (Running::new(held.served(everything().method::<countdown>())).await, held)
}

/// The calls in flight and the queue delay of a LOAD.
fn load(frame: &Frame) -> (u32, u32) {
    assert_eq!((frame.kind, frame.flags, frame.number, frame.id), (LOAD, 0, 0, 0), "{frame:?}");
    let payload: [u8; 8] = frame.payload[..].try_into().expect("two numbers");
    let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    (number(0), number(4))
}

/// A call of the name 0 that the server rejects before any function is looked at: its headers are too large.
fn refused(id: u64) -> Vec<u8> {
    let metadata = format!(r#"{{"x-user":"{}"}}"#, "x".repeat(70_000));
    let length = u32::try_from(metadata.len()).unwrap().to_be_bytes();
    frame(CALL, METADATA, 0, id, [&60_000u32.to_be_bytes(), &length[..], metadata.as_bytes(), b"[1,2]"].concat())
}

/// The LOAD and the answer of the next message, which has nothing else.
async fn answer(peer: &mut Peer) -> ((u32, u32), Frame) {
    match &peer.message().await[..] {
        [before, answer] => (load(before), answer.clone()),
        other => panic!("expected LOAD and an answer, got {other:?}"),
    }
}

// LOAD.

#[tokio::test]
async fn load_goes_before_the_first_answer_of_a_message_and_once() {
    let running = Running::new(everything()).await;
    let mut peer = Peer::calling(running.address, "echo").await;
    peer.say(frame(NAME, 0, 1, 0, "nothing here")).await;
    // In tasks at first, inline later; a thousand bytes each, so that one write is several messages.
    let text = format!("[\"{}\"]", "x".repeat(1000));
    let mut reports = 0;
    for round in 0..20 {
        let (first, count) = (1 + round * 100, 100);
        peer.say((first..first + count).flat_map(|id| call((id % 10 == 0).into(), id, &text)).collect::<Vec<_>>())
            .await;
        let mut answers = 0;
        while answers < count {
            let message = peer.message().await;
            let kinds: Vec<_> = message.iter().map(|frame| frame.kind).collect();
            let loads: Vec<_> = message.iter().filter(|frame| frame.kind == LOAD).map(load).collect();
            assert!(loads.is_empty() || loads.len() == 1 && kinds[0] == LOAD, "{kinds:?}");
            assert!(kinds[loads.len()..].iter().all(|kind| matches!(*kind, REPLY | ERROR)), "{kinds:?}");
            answers += (kinds.len() - loads.len()) as u64;
            reports += loads.len();
        }
    }
    assert!((20..=2000).contains(&reports), "{reports}");
}

#[tokio::test]
async fn load_counts_what_the_server_runs_and_not_the_call_that_is_answered() {
    let (running, held) = holding().await;
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say(frame(NAME, 0, 1, 0, "hold")).await;
    let calls = |((calls, _), answer): ((u32, u32), Frame)| (calls, answer.id);
    peer.say(call(0, 1, "[1,2]")).await;
    assert_eq!(calls(answer(&mut peer).await), (0, 1));
    peer.say([call(1, 2, "[]"), call(1, 3, "[]")].concat()).await;
    peer.say(call(0, 4, "[1,2]")).await;
    assert_eq!(calls(answer(&mut peer).await), (2, 4));
    // The count is that of the server, not of the connection.
    let mut other = Peer::calling(running.address, "no such function").await;
    other.say(call(0, 1, "[]")).await;
    let (before, error) = answer(&mut other).await;
    assert_eq!((before.0, error.kind), (2, ERROR));
    held.go_on.notify_one();
    assert_eq!(answer(&mut peer).await.0.0, 1);
    held.go_on.notify_one();
    assert_eq!(answer(&mut peer).await.0.0, 0);
}

#[tokio::test]
async fn a_call_whose_task_was_not_polled_yet_is_in_flight() {
    let (running, held) = holding().await;
    let mut peer = Peer::calling(running.address, "add").await;
    peer.say(frame(NAME, 0, 1, 0, "hold")).await;
    // Its answer is written before any task of a call beside it is polled.
    peer.say([call(1, 1, "[]"), call(1, 2, "[]"), refused(3)].concat()).await;
    let (before, error) = answer(&mut peer).await;
    assert_eq!((before.0, error.id), (2, 3));
    // A call that is cancelled before its first poll doesn't stay in the count.
    peer.say([call(1, 4, "[]"), frame(CANCEL, 0, 0, 4, ""), refused(5)].concat()).await;
    assert_eq!(answer(&mut peer).await.1.id, 5);
    for _ in 0..2 {
        held.go_on.notify_one();
        answer(&mut peer).await;
    }
    let mut id = 5;
    within(async {
        loop {
            held.go_on.notify_one();
            id += 1;
            peer.say(call(0, id, "[1,2]")).await;
            if answer(&mut peer).await.0.0 == 0 {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_queue_delay_is_that_of_calls_with_tasks_and_0_if_none_is_answered() {
    let (running, _held) = holding().await;
    let mut peer = Peer::calling(running.address, "add").await;
    // The first call of a function gets a task.
    peer.say(call(0, 1, "[1,2]")).await;
    let ((_, delay), _) = answer(&mut peer).await;
    assert!(delay > 0);
    peer.say(refused(2)).await;
    let (before, error) = answer(&mut peer).await;
    assert_eq!((before, error.kind), ((0, 0), ERROR));
}

#[tokio::test]
async fn load_goes_before_an_answer_in_pieces_and_its_other_pieces_have_none() {
    let server = Server::new().function("large", || async { "x".repeat(300_000) });
    let running = Running::new(server).await;
    let mut peer = Peer::calling(running.address, "large").await;
    peer.say(call(0, 1, "[]")).await;
    let (before, first) = answer(&mut peer).await;
    assert_eq!((before.0, first.kind, first.flags), (0, REPLY, MORE));
    loop {
        let [piece] = &peer.message().await[..] else { panic!("a piece has a message of its own") };
        assert_eq!((piece.kind, piece.id), (REPLY, 1));
        if piece.flags & MORE == 0 {
            break;
        }
    }
}

#[tokio::test]
async fn a_stream_without_reply_or_error_has_no_load() {
    let (running, _held) = holding().await;
    let mut peer = Peer::calling(running.address, "countdown").await;
    let payload = [&60_000u32.to_be_bytes(), &(1u32 << 18).to_be_bytes()[..], b"[3]"].concat();
    peer.say(frame(CALL, STREAM, 0, 1, payload)).await;
    loop {
        let message = peer.message().await;
        assert!(message.iter().all(|frame| frame.kind != LOAD), "{message:?}");
        if message.iter().any(|frame| frame.kind == END) {
            break;
        }
    }
}

#[tokio::test]
async fn hello_stays_the_first_frame_of_a_client_that_does_not_wait_for_it() {
    let running = Running::new(everything()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let early = [frame(HELLO, 0, 0, 0, GREETING), frame(NAME, 0, 0, 0, "add"), call(0, 1, "[1,2]")].concat();
    let asked = [asking(|_| ()).as_bytes(), &message(BINARY, true, early)].concat();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &asked).await.unwrap();
    let mut peer = Peer::asking(stream, String::new()).await;
    assert_eq!(peer.frame().await.payload, b"3");
}

// `byname-load`.

/// What an answer over HTTP says of the server: its load and its instance.
fn said(answer: &Raw) -> (&str, &str) {
    (answer.header("byname-load"), answer.header("byname-instance"))
}

fn is_instance(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A request on each way, and some that fail, each with these headers.
fn on_every_way(headers: &str, endpoint: &str) -> Vec<(String, u16)> {
    let post = |path: &str, body: &str| post_with(&format!("{endpoint}{path}"), headers, body);
    let verb = |name: &str, path: &str| verb(name, &format!("{endpoint}{path}"), headers);
    vec![
        (post("/add", "[1,2]"), 200),
        (verb("GET", "/add?a=1&b=2"), 200),
        (post("", r#"{"fun":"add","args":[1,2]}"#), 200),
        (post("", r#"{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1}"#), 200),
        (post("", r#"[{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1},7]"#), 200),
        (post("", r#"{"jsonrpc":"2.0","method":"add","params":[1,2]}"#), 204),
        (post("/withdraw", r#"["bob",1]"#), 404),
        (post("/none", "[]"), 404),
        (post("/add", "[1]"), 400),
        (post("", "?"), 400),
        (verb("PUT", "/add"), 405),
    ]
}

#[tokio::test]
async fn answers_say_the_load_and_the_instance_to_callers_that_say_how_long_they_wait() {
    let running = Running::new(everything()).await;
    let mounted = Mounted::new(everything()).await;
    for (address, endpoint) in [(running.address, "/rpc"), (mounted.address, "/api/rpc")] {
        let mut instances = BTreeSet::new();
        for (request, status) in on_every_way(WAITS, endpoint) {
            let answer = raw(address, &request).await;
            let (load, instance) = said(&answer);
            assert_eq!((answer.status, load), (status, "0, 0"), "{request} {answer:?}");
            assert!(is_instance(instance), "{request} {answer:?}");
            instances.insert(instance.to_owned());
        }
        assert_eq!(instances.len(), 1);
        for (request, status) in on_every_way("", endpoint) {
            let answer = raw(address, &request).await;
            assert_eq!((answer.status, said(&answer)), (status, ("", "")), "{request}");
        }
        let malformed =
            raw(address, post_with(&format!("{endpoint}/add"), "byname-timeout-ms: soon\r\n", "[1,2]")).await;
        assert_eq!((malformed.status, said(&malformed)), (400, ("", "")));
    }
}

#[tokio::test]
async fn byname_load_counts_what_the_server_runs_and_not_the_call_that_is_answered() {
    let (running, held) = holding().await;
    let mut caller = Caller::to(running.address).await;
    let load = async |request: String| raw(running.address, request).await.header("byname-load").to_owned();
    caller.send(post_with("/rpc/hold", WAITS, "")).await;
    held.have_begun(1).await;
    for (request, _) in on_every_way(WAITS, "/rpc") {
        assert_eq!(load(request).await, "1, 0");
    }
    // A call by frames counts as well.
    let mut peer = Peer::calling(running.address, "hold").await;
    peer.say(call(0, 1, "[]")).await;
    held.have_begun(1).await;
    assert_eq!(load(post_with("/rpc/add", WAITS, "[1,2]")).await, "2, 0");
    held.go_on.notify_one();
    assert_eq!(caller.answer().await.header("byname-load"), "1, 0");
    held.go_on.notify_one();
    assert_eq!(answer(&mut peer).await.0.0, 0);
    assert_eq!(load(post_with("/rpc/add", WAITS, "[1,2]")).await, "0, 0");
    peer.say((2..=1001).flat_map(|id| call(0, id, "[]")).collect::<Vec<_>>()).await;
    held.have_begun(1000).await;
    assert_eq!(load(post_with("/rpc/add", WAITS, "[1,2]")).await, "1000, 0");
}

#[tokio::test]
async fn an_answer_that_a_cache_may_keep_says_neither() {
    let running = Running::new(Server::new().method::<kept>()).await;
    let answer = raw(running.address, verb("GET", "/rpc/kept", WAITS)).await;
    assert_eq!((answer.header("cache-control"), said(&answer)), ("public, max-age=60", ("", "")));
    let answer = raw(running.address, post_with("/rpc/kept", WAITS, "")).await;
    assert_eq!(answer.header("byname-load"), "0, 0");
}

#[tokio::test]
async fn a_function_cannot_say_the_load() {
    let server = Server::new().function("says", || async {
        let call = byname::Context::current().unwrap();
        ["byname-load", "Byname-Instance"].map(|name| call.reply_header(name, "1, 2").is_err())
    });
    let running = Running::new(server).await;
    let answer = raw(running.address, post("/rpc/says", "")).await;
    assert_eq!((answer.body.as_str(), said(&answer)), ("[true,true]", ("", "")));
}

// The instance.

/// The headers of an answer over HTTP/2.
async fn over_http2(address: SocketAddr, headers: &[(&str, &str)]) -> HeaderMap {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = hyper::Request::post(format!("http://{address}/rpc/add"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(b"[1,2]"))).unwrap();
    send.send_request(request).await.unwrap().headers().clone()
}

#[tokio::test]
async fn a_server_has_one_instance_on_every_connection_and_another_server_another() {
    let mut instances = BTreeSet::new();
    for _ in 0..2 {
        let running = Running::new(everything()).await;
        let mut said_here = BTreeSet::new();
        for _ in 0..2 {
            let peer = Peer::to(running.address).await;
            said_here.insert(peer.hello["instance"].as_str().unwrap().to_owned());
            let answer = raw(running.address, post_with("/rpc/add", WAITS, "[1,2]")).await;
            said_here.insert(answer.header("byname-instance").to_owned());
            let headers = over_http2(running.address, &[("byname-timeout-ms", "60000")]).await;
            assert_eq!(headers["byname-load"], "0, 0");
            said_here.insert(headers["byname-instance"].to_str().unwrap().to_owned());
        }
        let headers = over_http2(running.address, &[]).await;
        assert!(!headers.contains_key("byname-load") && !headers.contains_key("byname-instance"));
        assert!(said_here.len() == 1 && said_here.iter().all(|said| is_instance(said)), "{said_here:?}");
        instances.append(&mut said_here);
    }
    let mounted = Mounted::new(Server::new().method::<add>().method::<echo>().frames(true)).await;
    let peer = Peer::asking_at(mounted.address, "/api/rpc", "add").await;
    let answer = raw(mounted.address, post_with("/api/rpc/add", WAITS, "[1,2]")).await;
    assert_eq!(peer.hello["instance"], json!(answer.header("byname-instance")));
    instances.insert(answer.header("byname-instance").to_owned());
    assert_eq!(instances.len(), 3, "{instances:?}");
}

#[tokio::test]
async fn health_says_neither() {
    let running = Running::new(everything()).await;
    let answer = raw(running.address, verb("GET", "/rpc/!ready", WAITS)).await;
    assert_eq!((answer.status, said(&answer)), (200, ("", "")));
    assert_eq!(raw(running.address, get("/rpc/!live")).await.status, 200);
}
