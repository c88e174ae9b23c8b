//! Streams byte by byte: the bytes over HTTP and by frames, and the answers to peers that violate the protocol.

use std::sync::Arc;

use crate::harness::foreign::Foreign;
use crate::harness::peer::*;
use crate::harness::{Caller, Running, get, post, post_with, raw, verb, within};
use byname::{Code, Context, Error, Executed, Limits, Server, Streaming, rpc};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Notify;

const ITEM: u8 = 8;
const END: u8 = 9;
const CREDIT: u8 = 10;
const STREAM: u8 = 8;
const ITEMS: u8 = 16;

#[rpc(readonly)]
fn countdown(from: u32) -> impl Stream<Item = u32> {
    if let Some(call) = Context::current() {
        call.reply_header("x-served", call.method()).unwrap();
    }
    stream::iter((1..=from).rev())
}

#[rpc(readonly)]
fn fails(after: u32) -> impl Stream<Item = Result<u32, String>> {
    stream::iter(0..).map(move |at| if at < after { Ok(at) } else { Err("no\nmore".into()) })
}

#[rpc]
async fn sum(#[rpc(default = 1)] factor: i64, mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number? * factor;
    }
    Ok(sum)
}

#[rpc]
fn double(numbers: Streaming<i64>) -> impl Stream<Item = Result<i64, Error>> {
    numbers.map(|number| number.map(|number| number * 2))
}

/// Reads one item, and no more until it is told.
struct Slow {
    began: Notify,
    goes_on: Notify,
}

#[rpc]
impl Slow {
    async fn slowly(&self, mut items: Streaming<String>) -> Result<usize, Error> {
        let mut count = 0;
        while let Some(item) = items.next().await {
            item?;
            count += 1;
            if count == 1 {
                self.began.notify_one();
                self.goes_on.notified().await;
            }
        }
        Ok(count)
    }
}

fn server() -> Server {
    Server::new().method::<countdown>().method::<fails>().method::<sum>().method::<double>()
}

async fn limited(change: impl FnOnce(&mut Limits)) -> Running {
    Running::new(server().limits(change)).await
}

/// The head of an answer and its body, which ends with its connection.
async fn whole(running: &Running, request: &str) -> (String, String) {
    let mut caller = Caller::to(running.address).await;
    caller.send(request.replacen("HTTP/1.1", "HTTP/1.0", 1)).await;
    let answer = caller.rest().await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn lines_and_events_have_exactly_the_bytes_of_the_protocol() {
    let running = Running::new(server()).await;
    let lines = "{\"item\":3}\n{\"item\":2}\n{\"item\":1}\n{\"end\":3}\n";
    let events = "data: 3\n\ndata: 2\n\ndata: 1\n\nevent: end\ndata: 3\n\n";
    let accept = "accept: text/event-stream\r\n";
    for (request, content_type, expected) in [
        (post("/rpc/countdown", "[3]"), "application/x-ndjson", lines),
        (get("/rpc/countdown?from=3"), "application/x-ndjson", lines),
        (post("/rpc", r#"{"fun":"countdown","args":[3]}"#), "application/x-ndjson", lines),
        (verb("GET", "/rpc/countdown?from=3", accept), "text/event-stream", events),
        (post_with("/rpc/countdown", accept, "[3]"), "text/event-stream", events),
        (post("/rpc/countdown", "[0]"), "application/x-ndjson", "{\"end\":0}\n"),
    ] {
        let (head, body) = whole(&running, &request).await;
        assert!(head.starts_with("http/1.0 200 ok"), "{head}");
        for header in ["x-served: countdown", "x-accel-buffering: no", "cache-control: no-store", "byname-protocol: 1"]
        {
            assert!(head.contains(header), "{header} is missing in {head}");
        }
        assert!(head.contains(&format!("content-type: {content_type}")), "{head}");
        assert_eq!(body, expected, "{request}");
    }
    let error = r#"{"code":"unknown","message":"`fails` returned its own error: \"no\\nmore\"","executed":"yes","kind":"method","data":"no\nmore"}"#;
    let (_, body) = whole(&running, &post("/rpc/fails", "[2]")).await;
    assert_eq!(body, format!("{{\"item\":0}}\n{{\"item\":1}}\n{{\"err\":{error}}}\n"));
    let (_, body) = whole(&running, &verb("GET", "/rpc/fails?after=1", accept)).await;
    assert_eq!(body, format!("data: 0\n\nevent: err\ndata: {error}\n\n"));
}

#[tokio::test]
async fn a_failure_before_the_first_item_has_the_status_of_a_failed_call() {
    let running = Running::new(server()).await;
    for (request, status, words) in [
        (post("/rpc/fails", "[0]"), 422, "its own error"),
        (post("/rpc", r#"{"fun":"fails","args":[0]}"#), 422, "its own error"),
        (post("/rpc/countdown", "[true]"), 400, "argument `from`"),
        (post("/rpc/sum?factor=x", "1\n"), 400, "argument `factor`"),
        (post("/rpc/sum?numbers=1", "1\n"), 400, "argument `numbers` is a stream"),
        (post("/rpc/sum", "1\n\"x\"\n"), 400, "item 2 of the stream `numbers` can't be read"),
    ] {
        let answer = raw(running.address, &request).await;
        assert_eq!(answer.status, status, "{request}: {}", answer.body);
        assert!(answer.body.contains(words), "{request}: {}", answer.body);
    }
    let rpc = raw(running.address, post("/rpc", r#"{"jsonrpc":"2.0","method":"countdown","params":[3],"id":1}"#)).await;
    let data = &rpc.json()["error"]["data"];
    assert_eq!((&data["code"], &data["executed"]), (&"failed_precondition".into(), &"no".into()), "{data}");
}

#[tokio::test]
async fn a_body_is_the_stream_that_a_function_takes() {
    let running = Running::new(server()).await;
    let lines = "content-type: application/x-ndjson\r\n";
    for (request, expected) in [
        (post("/rpc/sum", "1\n2\n3\n"), "6"),
        (post("/rpc/sum?factor=2", "1\r\n\n 2 \n3"), "12"),
        (post("/rpc/sum", ""), "0"),
        (post_with("/rpc", lines, "{\"fun\":\"sum\",\"args\":[],\"kwargs\":{}}\n1\n2\n3\n"), r#"{"ret":6}"#),
        (post_with("/rpc", lines, "{\"fun\":\"sum\",\"args\":[3]}\n1"), r#"{"ret":3}"#),
        (post_with("/rpc", lines, "{\"fun\":\"sum\"}"), r#"{"ret":0}"#),
    ] {
        let answer = raw(running.address, &request).await;
        assert_eq!((answer.status, &*answer.body), (200, expected), "{request}");
    }
    // A page of another origin has no say, with whatever content type.
    let foreign = post_with("/rpc/sum", "origin: http://evil.example\r\n", "1\n");
    assert_eq!(raw(running.address, foreign).await.status, 403);
    let untyped = post_with("/rpc/sum", "origin: http://localhost\r\n", "1\n");
    assert_eq!(raw(running.address, untyped).await.status, 415);
    let typed = post_with("/rpc/sum", &format!("origin: http://localhost\r\n{lines}"), "1\n");
    assert_eq!(raw(running.address, typed).await.body, "1");
    for (path, headers) in [("/rpc/sum", ""), ("/rpc", lines)] {
        let packed = post_with(path, &format!("content-encoding: gzip\r\n{headers}"), "{\"fun\":\"sum\"}\n1\n");
        assert_eq!(raw(running.address, packed).await.status, 415);
    }
    let empty = raw(running.address, post_with("/rpc", lines, "")).await;
    assert_eq!(empty.status, 400, "{}", empty.body);
}

#[tokio::test]
async fn an_answer_may_begin_while_the_body_still_comes() {
    let running = Running::new(server()).await;
    let mut caller = Caller::to(running.address).await;
    caller.send("POST /rpc/double HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let mut read = String::new();
    for number in 1..4 {
        caller.send(format!("2\r\n{number}\n\r\n")).await;
        let item = format!("{{\"item\":{}}}\n", number * 2);
        while !read.contains(&item) {
            let mut piece = [0; 4096];
            let count = within(tokio::io::AsyncReadExt::read(&mut caller.stream, &mut piece)).await.unwrap();
            assert!(count > 0, "{read}");
            read.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
    }
    assert!(!read.contains("end"), "{read}");
    caller.send("0\r\n\r\n").await;
    caller.send(get("/rpc/!live").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
    let rest = caller.rest().await;
    assert!(rest.contains("{\"end\":3}\n") && rest.ends_with("ok\n"), "{rest}");
}

#[tokio::test]
async fn over_http_2_both_directions_flow_and_a_reset_stops_the_function() {
    let dropped = Arc::new(Notify::new());
    let running = Running::new(server().inject(Endless(Arc::clone(&dropped)))).await;
    let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let (mut calls, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let url = |path: &str| format!("http://localhost/rpc/{path}");
    let request = http::Request::post(url("double")).body(()).unwrap();
    let (answer, mut body) = calls.send_request(request, false).unwrap();
    body.send_data("1\n2\n".into(), false).unwrap();
    let mut answer = within(answer).await.unwrap().into_body();
    let mut read = String::new();
    while !read.contains("{\"item\":4}\n") {
        read.push_str(std::str::from_utf8(&within(answer.data()).await.unwrap().unwrap()).unwrap());
    }
    body.send_data("3".into(), true).unwrap();
    while let Some(data) = within(answer.data()).await {
        read.push_str(std::str::from_utf8(&data.unwrap()).unwrap());
    }
    assert_eq!(read, "{\"item\":2}\n{\"item\":4}\n{\"item\":6}\n{\"end\":3}\n");

    let request = http::Request::post(url("endless")).body(()).unwrap();
    let (answer, _) = calls.send_request(request, true).unwrap();
    let mut answer = within(answer).await.unwrap().into_body();
    assert!(within(answer.data()).await.unwrap().is_ok());
    drop(answer);
    within(dropped.notified()).await;
}

/// Streams without an end, and says that it was stopped.
struct Endless(Arc<Notify>);

struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[rpc]
impl Endless {
    fn endless(&self) -> impl Stream<Item = u8> {
        let guard = Dropped(Arc::clone(&self.0));
        stream::repeat_with(move || {
            let _ = &guard;
            1
        })
    }
}

#[tokio::test]
async fn a_truncated_body_is_not_a_complete_one() {
    let running = Running::new(server()).await;
    for body in [
        "content-length: 100\r\n\r\n1\n2\n",
        "transfer-encoding: chunked\r\n\r\n2\r\n1\n\r\n",
        "transfer-encoding: chunked\r\n\r\n4\r\n1",
    ] {
        let mut caller = Caller::to(running.address).await;
        caller.send(format!("POST /rpc/sum HTTP/1.1\r\nhost: localhost\r\n{body}")).await;
        tokio::io::AsyncWriteExt::shutdown(&mut caller.stream).await.unwrap();
        let answer = caller.rest().await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert_eq!(raw(running.address, post("/rpc/sum", "1")).await.body, "1");
}

#[tokio::test]
async fn a_line_has_a_limit_and_the_body_has_no_limit() {
    let running = limited(|limits| limits.message = 100).await;
    let long = raw(running.address, post("/rpc/sum", &"1".repeat(200))).await;
    assert_eq!(long.status, 429, "{}", long.body);
    assert!(long.body.contains("Limits::message"), "{}", long.body);
    let many = raw(running.address, post("/rpc/sum", &"1\n".repeat(10_000))).await;
    assert_eq!((many.status, &*many.body), (200, "10000"));
    let first = post_with("/rpc", "content-type: application/x-ndjson\r\n", &"x".repeat(200));
    assert_eq!(raw(running.address, first).await.status, 413);
}

/// A server that answers a stream's call by these bytes and then closes.
async fn cut(answer: &'static str) -> (Vec<u32>, Error) {
    let foreign = Foreign::ending_after(answer).await;
    let client = foreign.client();
    let mut stream = countdown::on(&client, 3);
    let mut items = Vec::new();
    loop {
        match within(stream.next()).await.expect("it never looks whole") {
            Ok(item) => items.push(item),
            Err(error) => return (items, error),
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_off_never_looks_complete() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\ncontent-type: application/x-ndjson\r\n";
    for (rest, items) in [
        ("\r\n{\"item\":3}\n", vec![3]),
        ("\r\n{\"item\":3}\n{\"end\":", vec![3]),
        ("\r\n{\"item\":3}\n{\"item\":2}", vec![3]),
        ("\r\n{\"item\":3}\n\n", vec![3]),
        ("\r\n", vec![]),
        ("content-length: 11\r\n\r\n{\"item\":3}\n", vec![3]),
        ("content-length: 99\r\n\r\n{\"item\":3}\n", vec![3]),
        ("transfer-encoding: chunked\r\n\r\nb\r\n{\"item\":3}\n\r\n", vec![3]),
        ("transfer-encoding: chunked\r\n\r\nb\r\n{\"item\":3}\n\r\n0\r\n\r\n", vec![3]),
    ] {
        let answer: &'static str = format!("{HEAD}{rest}").leak();
        let (came, error) = cut(answer).await;
        assert_eq!(
            (came, error.code(), error.executed()),
            (items, Code::Unavailable, Executed::Yes),
            "{rest}: {error}"
        );
    }
    let (came, error) = cut(format!("{HEAD}\r\n{{\"item\":3}}\nnonsense\n").leak()).await;
    assert_eq!((came, error.code()), (vec![3], Code::Internal), "{error}");
    let (came, error) = cut(format!("{HEAD}\r\n{{\"item\":\"x\"}}\n").leak()).await;
    assert_eq!((came, error.code()), (vec![], Code::Internal), "{error}");
}

#[tokio::test]
async fn a_stream_that_was_read_gives_its_connection_back() {
    let running = Running::new(server()).await;
    let client = running.client();
    for _ in 0..20 {
        let mut stream = countdown::on(&client, 2);
        while let Some(item) = within(stream.next()).await {
            item.unwrap();
        }
        drop(stream);
        assert_eq!(sum::on(&client, 1, Streaming::from(vec![1, 2])).await.unwrap(), 3);
    }
    let bound = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&bound);
    let foreign = Foreign::new(move |mut connection| {
        let seen = Arc::clone(&seen);
        async move {
            seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            while connection.request().await.is_some() {
                let body = "{\"item\":1}\n{\"end\":1}\n";
                let head = "HTTP/1.1 200 OK\r\nbyname-protocol: 1\r\ncontent-type: application/x-ndjson\r\n";
                connection.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
            }
        }
    })
    .await;
    let client = foreign.client();
    for _ in 0..5 {
        let all: Vec<_> = countdown::on(&client, 1).collect().await;
        assert_eq!(all, [Ok(1)]);
    }
    assert_eq!(bound.load(std::sync::atomic::Ordering::SeqCst), 1, "one connection did for all");
}

/// A call of name 0 whose caller takes a stream, with so much credit.
fn stream_call(id: u64, credit: u32, arguments: &str) -> Vec<u8> {
    let payload = [&60_000u32.to_be_bytes()[..], &credit.to_be_bytes(), arguments.as_bytes()].concat();
    frame(CALL, STREAM, 0, id, payload)
}

/// A call of name 0 that brings a stream.
fn bringing_call(id: u64, arguments: &str) -> Vec<u8> {
    frame(CALL, ITEMS, 0, id, [&60_000u32.to_be_bytes(), arguments.as_bytes()].concat())
}

fn credit(id: u64, more: u32) -> Vec<u8> {
    frame(CREDIT, 0, 0, id, more.to_be_bytes())
}

#[tokio::test]
async fn items_come_as_far_as_credit_goes() {
    let running = Running::new(server()).await;
    let mut peer = Peer::calling(running.address, "countdown").await;
    // Each costs 17: the first goes for 1, and 16 are owed.
    peer.say(stream_call(1, 1, "[3]")).await;
    let first = peer.frame().await;
    assert_eq!((first.kind, first.flags, first.id), (ITEM, METADATA, 1));
    assert!(first.payload.ends_with(b"3") && String::from_utf8_lossy(&first.payload).contains("x-served"));
    // Other calls go on beside it.
    peer.say([frame(NAME, 0, 1, 0, b"sum"), frame(CALL, 0, 1, 2, [0; 4])].concat()).await;
    assert_eq!(peer.frame().await.id, 2);
    peer.say([credit(1, 16), credit(1, 1)].concat()).await;
    let second = peer.frame().await;
    assert_eq!((second.kind, second.flags, &second.payload[..]), (ITEM, 0, &b"2"[..]));
    peer.say(credit(1, 1000)).await;
    assert_eq!(&peer.frame().await.payload, b"1");
    let end = peer.frame().await;
    assert_eq!((end.kind, end.flags, end.id, end.payload.len()), (END, 0, 1, 0));
    // Credit for what is over means nothing.
    peer.say([credit(1, 5), credit(99, 5), stream_call(3, 0, "[0]")].concat()).await;
    assert_eq!((peer.frame().await.kind, 3), (END, 3), "an empty stream needs none");
    // Nor does the end of one whose last item took all there was.
    peer.say([stream_call(4, 17, "[2]"), credit(4, 17)].concat()).await;
    assert_eq!([peer.frame().await.kind, peer.frame().await.kind, peer.frame().await.kind], [ITEM, ITEM, END]);
}

#[tokio::test]
async fn a_failure_by_frames_follows_the_items() {
    let running = Running::new(server()).await;
    let mut peer = Peer::calling(running.address, "fails").await;
    peer.say(stream_call(1, 1000, "[2]")).await;
    assert_eq!([peer.frame().await.kind, peer.frame().await.kind], [ITEM, ITEM]);
    let error = peer.frame().await;
    assert_eq!(error.error()["kind"], "method");
    assert!(error.payload.ends_with(br#""no\nmore""#));
    // Who takes no stream gets none, and nothing runs.
    peer.say(call(0, 2, "[2]")).await;
    let refused = peer.frame().await.error();
    assert_eq!((&refused["code"], &refused["executed"]), (&"failed_precondition".into(), &"no".into()));
}

#[tokio::test]
async fn an_upload_by_frames_is_given_credit_as_it_is_read() {
    let slow = Arc::new(Slow { began: Notify::new(), goes_on: Notify::new() });
    let running = Running::new(server().inject(Arc::clone(&slow))).await;
    let mut peer = Peer::calling(running.address, "slowly").await;
    peer.say(bringing_call(1, "")).await;
    let granted = peer.frame().await;
    assert_eq!((granted.kind, granted.id), (CREDIT, 1));
    let granted = u32::from_be_bytes(granted.payload.try_into().unwrap()) as usize;
    assert_eq!(granted, 256 << 10);
    let item = format!("\"{}\"", "x".repeat(998));
    let items = granted / (item.len() + 16);
    for _ in 0..items {
        peer.say(frame(ITEM, 0, 0, 1, &item)).await;
    }
    within(slow.began.notified()).await;
    // It is read no further: nobody may send more, however long they wait.
    peer.say([frame(NAME, 0, 1, 0, b"countdown"), frame(CALL, 0, 1, 2, b"\0\0\xea\x60[1]")].concat()).await;
    assert_eq!(peer.frame().await.id, 2, "an answer, and no credit before it");
    slow.goes_on.notify_one();
    let more = peer.frame().await;
    assert_eq!((more.kind, more.id), (CREDIT, 1));
    peer.say(frame(END, 0, 0, 1, b"")).await;
    loop {
        let frame = peer.frame().await;
        if frame.kind == REPLY {
            assert_eq!(&frame.payload[..], items.to_string().as_bytes());
            break;
        }
        assert_eq!((frame.kind, frame.id), (CREDIT, 1));
    }
}

#[tokio::test]
async fn an_item_without_credit_ends_the_connection() {
    let slow = Arc::new(Slow { began: Notify::new(), goes_on: Notify::new() });
    let running = Running::new(server().inject(Arc::clone(&slow))).await;
    let mut peer = Peer::calling(running.address, "slowly").await;
    peer.say(bringing_call(1, "")).await;
    assert_eq!(peer.frame().await.kind, CREDIT);
    let item = format!("\"{}\"", "x".repeat(60_000));
    for _ in 0..6 {
        peer.say(frame(ITEM, 0, 0, 1, &item)).await;
    }
    let (code, why) = peer.closed().await;
    assert_eq!((code, why.contains("without credit")), (1002, true), "{why}");
}

#[tokio::test]
async fn invalid_stream_frames_affect_no_other_call() {
    let running = Running::new(server()).await;
    let mut peer = Peer::calling(running.address, "sum").await;
    // Of calls that are not there, that bring nothing, or are over.
    let nonsense = [
        frame(ITEM, 0, 0, 7, b"1"),
        frame(END, 0, 0, 7, b""),
        credit(7, u32::MAX),
        bringing_call(1, "[2]"),
        frame(ITEM, 0, 0, 1, b"1"),
    ];
    peer.say(nonsense.concat()).await;
    let first = peer.frame().await;
    assert_eq!((first.kind, first.id), (CREDIT, 1));
    peer.say([frame(ITEM, 0, 0, 1, b"20"), frame(END, 0, 0, 1, b""), frame(ITEM, 0, 0, 1, b"5")].concat()).await;
    let reply = peer.frame().await;
    assert_eq!((reply.kind, &reply.payload[..]), (REPLY, &b"42"[..]));
    peer.say([frame(ITEM, 0, 0, 1, b"5"), frame(END, 0, 0, 1, b""), frame(CANCEL, 0, 0, 1, b"")].concat()).await;
    // Credit beyond all bounds is as good as enough.
    peer.say([frame(NAME, 0, 0, 0, b"countdown"), stream_call(2, u32::MAX, "[2]"), credit(2, u32::MAX)].concat()).await;
    let kinds = [peer.frame().await.kind, peer.frame().await.kind, peer.frame().await.kind];
    assert_eq!(kinds, [ITEM, ITEM, END]);
    peer.say(frame(CREDIT, 0, 0, 2, b"\0\0")).await;
    assert_eq!(peer.closed().await.0, 1002, "a number that is cut off");
}

#[tokio::test]
async fn a_function_that_stops_reading_its_stream_tells_the_caller() {
    let running = Running::new(server()).await;
    let mut peer = Peer::calling(running.address, "sum").await;
    peer.say(bringing_call(1, "[2]")).await;
    assert_eq!(peer.frame().await.kind, CREDIT);
    // What can't be read ends the function, which returns what it says of it.
    peer.say(frame(ITEM, 0, 0, 1, b"true")).await;
    let (mut cancelled, mut error) = (false, None);
    while error.is_none() {
        let frame = peer.frame().await;
        match frame.kind {
            CANCEL => cancelled = true,
            _ => error = Some(frame.error()),
        }
    }
    assert_eq!((&error.as_ref().unwrap()["code"], cancelled), (&"invalid_argument".into(), true), "{error:?}");
}

#[tokio::test]
async fn items_for_a_cancelled_function_are_ignored() {
    let slow = Arc::new(Slow { began: Notify::new(), goes_on: Notify::new() });
    let running = Running::new(server().inject(Arc::clone(&slow))).await;
    let mut peer = Peer::calling(running.address, "slowly").await;
    peer.say(bringing_call(1, "")).await;
    assert_eq!(peer.frame().await.kind, CREDIT);
    peer.say(frame(ITEM, 0, 0, 1, b"\"x\"")).await;
    within(slow.began.notified()).await;
    peer.say(frame(CANCEL, 0, 0, 1, b"")).await;
    for _ in 0..10 {
        peer.say(frame(ITEM, 0, 0, 1, format!("\"{}\"", "x".repeat(60_000)))).await;
    }
    slow.goes_on.notify_one();
    peer.say([frame(NAME, 0, 1, 0, b"countdown"), frame(CALL, STREAM, 1, 2, b"\0\0\xea\x60\0\0\x10\0[1]")].concat())
        .await;
    assert_eq!([peer.frame().await.id, peer.frame().await.id], [2, 2]);
}
