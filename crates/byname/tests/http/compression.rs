//! Compression over HTTP: who gets which coding, what a body may become, and that a stream arrives item by item.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;

use crate::harness::foreign::{BYNAME, Foreign};
use crate::harness::{Log, Mounted, Running, everything, within};
use axum::Router;
use byname::{Client, ClientBuilder, Code, Context, Executed, Server, Streaming, Transport, rpc};
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tower_http::compression::CompressionLayer;

const KIB: usize = 1 << 10;

/// Text of this length, as JSON with quotes.
#[rpc(readonly, name = "text")]
async fn long_text(length: usize) -> String {
    "text and ".chars().cycle().take(length - 2).collect()
}

/// Bytes that can't be compressed, as hexadecimal digits would be.
#[rpc(readonly)]
async fn noise(length: usize) -> byname::Bytes {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(length).collect::<Vec<_>>().into()
}

#[rpc(readonly)]
async fn length(text: String) -> usize {
    text.len()
}

#[rpc(readonly)]
async fn untransformed() -> String {
    Context::current().unwrap().reply_header("cache-control", "private, no-transform").unwrap();
    "x".repeat(2 * KIB)
}

#[rpc(readonly)]
async fn tagged() -> String {
    Context::current().unwrap().reply_header("etag", "\"1\"").unwrap();
    "x".repeat(2 * KIB)
}

#[rpc(readonly, max_age = "60s")]
async fn kept(length: usize) -> String {
    "x".repeat(length)
}

#[rpc(readonly)]
async fn fails() -> Result<(), String> {
    Err("x".repeat(2 * KIB))
}

#[rpc]
async fn sum(numbers: Streaming<i64>) -> Result<i64, byname::Error> {
    let mut numbers = numbers;
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

#[rpc]
async fn octets(bytes: Streaming<byname::Bytes>) -> Result<usize, byname::Error> {
    let mut bytes = bytes;
    let mut length = 0;
    while let Some(piece) = bytes.next().await {
        length += piece?.len();
    }
    Ok(length)
}

/// Items that a test makes, one by one.
struct Source(Mutex<Option<mpsc::Receiver<String>>>);

#[rpc]
impl Source {
    fn items(&self) -> impl Stream<Item = String> + use<> {
        let mut items = self.0.lock().unwrap().take().expect("it is called once");
        stream::poll_fn(move |cx| items.poll_recv(cx))
    }
}

fn server() -> Server {
    everything()
        .method::<long_text>()
        .method::<noise>()
        .method::<length>()
        .method::<untransformed>()
        .method::<tagged>()
        .method::<kept>()
        .method::<fails>()
        .method::<sum>()
        .method::<octets>()
}

fn compressing() -> Server {
    server().compress(true)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    Http1,
    Http2,
}

const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as it was before it was compressed.
    fn plain(&self) -> String {
        String::from_utf8(decoded(self.header("content-encoding"), &self.body)).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.plain()).unwrap()
    }
}

/// A real decoder of other make.
fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "" => out.extend(body),
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut out).unwrap()),
        "zstd" => {
            out.reserve(16 << 20);
            zstd_safe::decompress(&mut out, body).unwrap();
        }
        _ => panic!("{coding}"),
    }
    out
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(body.len()));
    zstd_safe::compress(&mut out, body, 3).unwrap();
    out
}

fn encoded(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => gzip(body),
        "zstd" => zstd(body),
        _ => panic!("{coding}"),
    }
}

const CODINGS: [&str; 2] = ["zstd", "gzip"];

/// Sends a request with hyper's client.
async fn send<B>(address: SocketAddr, version: Version, request: Request<B>) -> Response<Incoming>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    match version {
        Version::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            within(sender.send_request(request)).await.unwrap()
        }
        Version::Http2 => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            within(sender.send_request(request)).await.unwrap()
        }
    }
}

async fn answer(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap().to_bytes().to_vec();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

/// A request with these headers. Without a body it is a GET.
async fn ask(
    address: SocketAddr,
    version: Version,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let body = body.into();
    let method = if body.is_empty() { "GET" } else { "POST" };
    ask_by(method, address, version, path, headers, body).await
}

async fn ask_by(
    method: &str,
    address: SocketAddr,
    version: Version,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let uri = if version == Version::Http2 { format!("http://localhost{path}") } else { path.to_owned() };
    let mut request = Request::builder().method(method).uri(uri);
    if version == Version::Http1 {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(send(address, version, request.body(Full::new(Bytes::from(body))).unwrap()).await).await
}

/// Checks that an answer is compressed so, and is consistent.
#[track_caller]
fn compressed(answer: &Answer, coding: &str) {
    assert_eq!(answer.header("content-encoding"), coding, "{:?}", answer.headers);
    assert!(answer.header("vary").contains("accept-encoding"), "{:?}", answer.headers);
    assert_eq!(answer.header("accept-encoding"), "zstd, gzip", "{:?}", answer.headers);
    assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{:?}", answer.headers);
    assert!(answer.plain().len() > answer.body.len());
}

const TEXT: &str = "/rpc/text?length=5000";

#[tokio::test]
async fn an_answer_is_compressed_as_its_caller_prefers() {
    let running = Running::new(compressing()).await;
    for version in VERSIONS {
        let plain = ask(running.address, version, TEXT, &[], "").await;
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
        assert_eq!((plain.header("content-length"), plain.body.len()), ("5000", 5000));
        for (accept, coding) in [
            ("gzip", "gzip"),
            ("zstd", "zstd"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip;q=1.0, zstd;q=0.5", "gzip"),
            ("*", "zstd"),
            ("zstd;q=0, *;q=0.1", "gzip"),
            ("identity;q=0, gzip", "gzip"),
        ] {
            let answer = ask(running.address, version, TEXT, &[("accept-encoding", accept)], "").await;
            compressed(&answer, coding);
            assert_eq!(answer.plain().as_bytes(), plain.body, "{accept}");
        }
        for accept in ["identity", "br", "gzip;q=0, zstd;q=0", "", "identity, gzip;q=0.5", "*;q=0"] {
            let answer = ask(running.address, version, TEXT, &[("accept-encoding", accept)], "").await;
            assert_eq!((answer.status, answer.header("content-encoding")), (200, ""), "{accept}");
            assert_eq!(answer.header("vary"), "accept-encoding", "{accept}");
            assert_eq!(answer.body, plain.body, "{accept}");
        }
    }
}

#[tokio::test]
async fn every_way_over_http_is_compressed_and_errors_too() {
    let mounted = Mounted::new(compressing()).await;
    let running = Running::new(compressing()).await;
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "text", "params": [700]},
        {"jsonrpc": "2.0", "id": 2, "method": "text", "params": [700]},
    ]);
    for (address, endpoint) in [(running.address, "/rpc"), (mounted.address, "/api/rpc")] {
        for version in VERSIONS {
            for coding in CODINGS {
                let headers = [("accept-encoding", coding)];
                let ask = async |path: &str, body: String| {
                    let answer = ask(address, version, &format!("{endpoint}{path}"), &headers, body).await;
                    compressed(&answer, coding);
                    answer
                };
                let answer = ask("", json!({"fun": "text", "args": [2000], "kwargs": {}}).to_string()).await;
                assert_eq!(answer.json()["ret"].as_str().unwrap().len(), 1998);
                let answer = ask("/text", "[2000]".into()).await;
                assert_eq!((answer.status, answer.plain().len()), (200, 2000));
                let single = json!({"jsonrpc": "2.0", "id": 1, "method": "text", "params": [2000]});
                assert_eq!(ask("", single.to_string()).await.json()["result"].as_str().unwrap().len(), 1998);
                assert_eq!(ask("", batch.to_string()).await.json().as_array().unwrap().len(), 2);
                let answer = ask("/fails", "[]".into()).await;
                assert_eq!((answer.status, answer.header("content-type")), (422, "application/problem+json"));
                assert_eq!(answer.json()["data"].as_str().unwrap().len(), 2 * KIB);
            }
        }
    }
}

#[tokio::test]
async fn what_would_not_profit_is_sent_as_it_is() {
    let running = Running::new(compressing()).await;
    let headers = [("accept-encoding", "gzip, zstd")];
    let ask = async |path: &str| ask(running.address, Version::Http1, path, &headers, "").await;
    // At most 1 KiB.
    let answer = ask("/rpc/text?length=1024").await;
    assert_eq!((answer.body.len(), answer.header("content-encoding"), answer.header("vary")), (1024, "", ""));
    compressed(&ask("/rpc/text?length=1025").await, "zstd");
    // Its function says so.
    let answer = ask("/rpc/untransformed").await;
    assert_eq!((answer.body.len(), answer.header("content-encoding"), answer.header("vary")), (2 * KIB + 2, "", ""));
    // A short one, if the caller takes nothing else.
    let headers = [("accept-encoding", "gzip, identity;q=0")];
    let answer = self::ask(running.address, Version::Http1, "/rpc/add?a=1&b=2", &headers, "").await;
    assert_eq!((answer.header("content-encoding"), answer.plain().as_str()), ("gzip", "3"));
    // Raw bytes.
    let headers = [("accept-encoding", "gzip"), ("accept", "application/octet-stream")];
    let answer = self::ask(running.address, Version::Http1, "/rpc/noise?length=5000", &headers, "").await;
    assert_eq!((answer.body.len(), answer.header("content-encoding"), answer.header("vary")), (5000, "", ""));
}

#[tokio::test]
async fn answers_without_a_body_and_their_tags_stay_right() {
    let running = Running::new(compressing()).await;
    let gzip = ("accept-encoding", "gzip");
    for version in VERSIONS {
        let head = ask_by("HEAD", running.address, version, TEXT, &[gzip], Vec::new()).await;
        assert_eq!((head.status, head.header("vary"), head.header("content-length")), (200, "accept-encoding", ""));
        let head = ask_by("HEAD", running.address, version, TEXT, &[], Vec::new()).await;
        assert_eq!((head.header("content-length"), head.header("content-encoding")), ("5000", ""));
        let options = ask_by("OPTIONS", running.address, version, "/rpc/text", &[gzip], Vec::new()).await;
        assert_eq!((options.status, options.header("content-encoding")), (204, ""));
        let notification = br#"{"jsonrpc": "2.0", "method": "text", "params": [5000]}"#;
        let silent = ask(running.address, version, "/rpc", &[gzip], *notification).await;
        assert_eq!((silent.status, silent.header("content-encoding"), silent.body.len()), (204, "", 0));

        let answer = ask(running.address, version, "/rpc/kept?length=5000", &[gzip], "").await;
        compressed(&answer, "gzip");
        let vary = answer.headers.get_all("vary").iter().collect::<Vec<_>>();
        assert_eq!(vary, ["authorization, origin, accept, accept-encoding"], "it is named once");
        let tag = answer.header("etag").to_owned();
        let again = [gzip, ("if-none-match", &tag)];
        let unchanged = ask(running.address, version, "/rpc/kept?length=5000", &again, "").await;
        assert_eq!((unchanged.status, unchanged.header("content-encoding"), unchanged.body.len()), (304, "", 0));
        // A strong tag means the same bytes.
        assert_eq!(ask(running.address, version, "/rpc/tagged", &[gzip], "").await.header("etag"), "W/\"1\"");
        assert_eq!(ask(running.address, version, "/rpc/tagged", &[], "").await.header("etag"), "\"1\"");
    }
}

#[tokio::test]
async fn a_layer_that_compresses_finds_it_done() {
    let service = compressing().into_service().unwrap();
    let app: Router = Router::new().nest_service("/api", service).layer(CompressionLayer::new());
    let mounted = Mounted::serving(app).await;
    let answer =
        ask(mounted.address, Version::Http1, "/api/rpc/text?length=5000", &[("accept-encoding", "gzip")], "").await;
    let codings = answer.headers.get_all("content-encoding").iter().collect::<Vec<_>>();
    assert_eq!(codings, ["gzip"]);
    assert_eq!(answer.plain().len(), 5000, "once, so it is plain now");
}

#[tokio::test]
async fn a_server_that_was_not_told_compresses_and_decodes_nothing() {
    let running = Running::new(server()).await;
    let answer = ask(running.address, Version::Http1, TEXT, &[("accept-encoding", "gzip, zstd")], "").await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary"), answer.body.len()), ("", "", 5000));
    assert_eq!(answer.header("accept-encoding"), "");
    for coding in CODINGS {
        let body = encoded(coding, b"[1,2]");
        let answer = ask(running.address, Version::Http1, "/rpc/add", &[("content-encoding", coding)], body).await;
        assert_eq!((answer.status, answer.header("accept-encoding")), (415, "identity"));
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("`content-encoding` is `{coding}`")), "{message}");
        assert!(message.contains("`Server::compress(true)`"), "{message}");
    }
}

#[tokio::test]
async fn a_request_in_gzip_or_zstd_is_decoded_by_every_way() {
    let mounted = Mounted::new(compressing()).await;
    let running = Running::new(compressing()).await;
    for (address, endpoint) in [(running.address, "/rpc"), (mounted.address, "/api/rpc")] {
        for version in VERSIONS {
            for coding in CODINGS {
                let ask = async |path: &str, body: &str| {
                    let (path, body) = (format!("{endpoint}{path}"), encoded(coding, body.as_bytes()));
                    ask(address, version, &path, &[("content-encoding", coding)], body).await
                };
                assert_eq!(ask("/add", "[1,2]").await.plain(), "3");
                assert_eq!(ask("", r#"{"fun": "add", "args": [1, 2]}"#).await.plain(), r#"{"ret":3}"#);
                let single = r#"{"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]}"#;
                assert_eq!(ask("", single).await.json()["result"], 3);
                assert_eq!(ask("", &format!("[{single}]")).await.json()[0]["result"], 3);
                // Of several pieces, up to the limit.
                let long = format!("[\"{}\"]", "x".repeat(3 << 20));
                assert_eq!(ask("/length", &long).await.plain(), (3 << 20).to_string());
                assert_eq!(ask("/sum", "1\n2\n3\n").await.plain(), "6");
            }
        }
    }
    let identity = ask(running.address, Version::Http1, "/rpc/add", &[("content-encoding", "Identity")], "[1,2]").await;
    assert_eq!(identity.plain(), "3");
    let (address, old) = (running.address, [("content-encoding", "x-gzip")]);
    assert_eq!(ask(address, Version::Http1, "/rpc/add", &old, gzip(b"[1,2]")).await.plain(), "3");
    let raw = [("content-encoding", "gzip"), ("content-type", "application/octet-stream")];
    assert_eq!(ask(address, Version::Http1, "/rpc/octets", &raw, gzip(&[7; 200_000])).await.plain(), "200000");
}

/// Checks that a call was rejected and did not run.
#[track_caller]
fn rejected(answer: &Answer, status: u16, code: &str, words: &str) {
    let error = answer.json();
    assert_eq!((answer.status, error["code"].as_str(), error["executed"].as_str()), (status, Some(code), Some("no")));
    assert!(error["message"].as_str().unwrap().contains(words), "{error}");
}

#[tokio::test]
async fn a_coding_that_is_not_known_is_refused_with_those_that_are() {
    let running = Running::new(compressing()).await;
    for version in VERSIONS {
        for coding in ["br", "deflate", "gzip, gzip", "gzip, zstd", "compress"] {
            let headers = [("content-encoding", coding)];
            let answer = ask(running.address, version, "/rpc/add", &headers, gzip(&gzip(b"[1,2]"))).await;
            rejected(&answer, 415, "invalid_argument", &format!("`content-encoding` is `{coding}`"));
            assert_eq!(answer.header("accept-encoding"), "zstd, gzip");
        }
    }
    let text = [("sec-fetch-site", "same-origin"), ("content-type", "text/plain")];
    let answer = ask(running.address, Version::Http1, "/rpc/add", &text, "[1,2]").await;
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, ""), "the coding is not what is wrong");
}

#[tokio::test]
async fn a_body_that_can_not_be_decoded_did_not_run() {
    let running = Running::new(compressing()).await;
    for version in VERSIONS {
        for coding in CODINGS {
            let whole = encoded(coding, b"[1,2]");
            let (cut, garbage) = (whole[..whole.len() - 1].to_vec(), [&whole[..], b"garbage"].concat());
            for (body, words) in [
                (cut, format!("its {coding} data ends too early")),
                (garbage, format!("it is not valid {coding}")),
                (b"[1,2]".to_vec(), format!("it is not valid {coding}")),
            ] {
                let answer = ask(running.address, version, "/rpc/add", &[("content-encoding", coding)], body).await;
                rejected(&answer, 400, "invalid_argument", &words);
            }
        }
    }
    let two = [gzip(b"[1,"), gzip(b"2]")].concat();
    let answer = ask(running.address, Version::Http1, "/rpc/add", &[("content-encoding", "gzip")], two).await;
    rejected(&answer, 400, "invalid_argument", "send one member");
    assert_eq!(answer.header("connection"), "close", "the next request would come after a body that was not read");
}

/// Spaces, compressed: 4 GiB of them.
fn bomb(coding: &'static str) -> impl Stream<Item = Bytes> + Unpin {
    let spaces = vec![b' '; 1 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut zstd = zstd_safe::CCtx::create();
    let mut next = move || match coding {
        "gzip" => {
            gzip.write_all(&spaces).unwrap();
            gzip.flush().unwrap();
            Bytes::from(std::mem::take(gzip.get_mut()))
        }
        _ => {
            let mut out = Vec::with_capacity(64 << 10);
            let mut input = zstd_safe::InBuffer::around(&spaces);
            while input.pos() < spaces.len() {
                let length = out.len();
                let mut room = zstd_safe::OutBuffer::around_pos(&mut out, length);
                zstd.compress_stream(&mut room, &mut input).unwrap();
            }
            let length = out.len();
            zstd.flush_stream(&mut zstd_safe::OutBuffer::around_pos(&mut out, length)).unwrap();
            Bytes::from(out)
        }
    };
    let (first, second) = (next(), next());
    // Each piece ends with a flush and refers to spaces, so it can be repeated.
    stream::iter(std::iter::once(first).chain(std::iter::repeat_n(second, (4 << 10) - 1)))
}

#[tokio::test]
async fn a_bomb_is_stopped_at_the_limit_of_decoded_bytes() {
    let limit = 100_000;
    let running = Running::new(compressing().limits(|limits| limits.message = limit)).await;
    for version in VERSIONS {
        for coding in CODINGS {
            // 4 GiB, of which the server reads the first few KiB.
            let body = StreamBody::new(bomb(coding).map(|piece| Ok::<_, Infallible>(Frame::data(piece))));
            let uri = if version == Version::Http2 { "http://localhost/rpc/length" } else { "/rpc/length" };
            let request = Request::post(uri).header("host", "localhost").header("content-encoding", coding);
            let answer = answer(send(running.address, version, request.body(body).unwrap()).await).await;
            rejected(&answer, 413, "resource_exhausted", "`Limits::message` of the server");
            assert_eq!(answer.json()["limit"], "message");
            // Exactly the limit is taken, and one byte more is not.
            for (length, status) in [(limit, 200), (limit + 1, 413)] {
                let body = encoded(coding, format!("[\"{}\"]", "x".repeat(length - 4)).as_bytes());
                let headers = [("content-encoding", coding)];
                let answer = ask(running.address, version, "/rpc/length", &headers, body).await;
                assert_eq!(answer.status, status, "{version:?} {coding} {length}: {}", answer.plain());
            }
        }
    }
}

#[tokio::test]
async fn encoded_bytes_that_decode_to_nothing_have_a_limit() {
    let running = Running::new(compressing().limits(|limits| limits.message = 1000)).await;
    // Each is an empty frame.
    let frames = zstd(b"").repeat(3000 / zstd(b"").len());
    let call = |count: usize| [frames[..count * zstd(b"").len()].to_vec(), zstd(b"[1,2]")].concat();
    let headers = [("content-encoding", "zstd")];
    assert_eq!(ask(running.address, Version::Http1, "/rpc/add", &headers, call(10)).await.plain(), "3");
    let most = 3000 / zstd(b"").len();
    let answer = ask(running.address, Version::Http1, "/rpc/add", &headers, [call(most), vec![0; 30]].concat()).await;
    rejected(&answer, 413, "resource_exhausted", "`Limits::message` of the server");
}

#[tokio::test]
async fn a_line_of_a_stream_has_its_limit_after_decoding() {
    let running = Running::new(compressing().limits(|limits| limits.message = 1000)).await;
    for coding in CODINGS {
        let headers = [("content-encoding", coding)];
        let lines = "1\n".repeat(50_000);
        let answer =
            ask(running.address, Version::Http1, "/rpc/sum", &headers, encoded(coding, lines.as_bytes())).await;
        assert_eq!(answer.plain(), "50000", "a stream may be longer than a message");
        let line = " ".repeat(1 << 20);
        let answer = ask(running.address, Version::Http1, "/rpc/sum", &headers, encoded(coding, line.as_bytes())).await;
        let error = answer.json();
        assert_eq!((answer.status, &error["limit"]), (429, &json!("message")), "{error}");
        let cut = encoded(coding, b"1\n2\n");
        let answer = ask(running.address, Version::Http1, "/rpc/sum", &headers, &cut[..cut.len() - 3]).await;
        let error = answer.json();
        assert_eq!((answer.status, &error["code"]), (400, &json!("invalid_argument")), "{error}");
    }
}

#[tokio::test]
async fn each_item_of_a_compressed_stream_arrives_before_the_next_is_made() {
    for version in VERSIONS {
        for coding in CODINGS {
            for accept in ["application/x-ndjson", "text/event-stream"] {
                let (make, items) = mpsc::channel(1);
                let source = Source(Mutex::new(Some(items)));
                let running = Running::new(Server::new().inject(source).compress(true)).await;
                let uri = if version == Version::Http2 { "http://localhost/rpc/items" } else { "/rpc/items" };
                let request = Request::post(uri)
                    .header("host", "localhost")
                    .header("accept", accept)
                    .header("accept-encoding", coding)
                    .body(Full::new(Bytes::from("[]")))
                    .unwrap();
                make.send("first".into()).await.unwrap();
                let response = send(running.address, version, request).await;
                assert_eq!(response.headers()["content-encoding"], coding);
                assert_eq!(response.headers()["vary"], "accept-encoding");
                let mut body = response.into_body();
                let mut decoder = StreamDecoder::new(coding);
                decoder.read_until(&mut body, "first").await;
                for word in ["second", "third"] {
                    // The item before it was read with nothing else on its way.
                    make.send(word.into()).await.unwrap();
                    decoder.read_until(&mut body, word).await;
                }
                drop(make);
                decoder.read_until(&mut body, "3").await;
                while let Some(frame) = within(body.frame()).await {
                    decoder.put(&frame.unwrap().into_data().unwrap());
                }
                decoder.end();
            }
        }
    }
}

/// A decoder that reads as bytes arrive.
enum StreamDecoder {
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Zstd(zstd_safe::DCtx<'static>, Vec<u8>, usize),
}

impl StreamDecoder {
    fn new(coding: &str) -> Self {
        match coding {
            "gzip" => Self::Gzip(GzDecoder::new(Vec::new()).into()),
            _ => Self::Zstd(zstd_safe::DCtx::create(), Vec::with_capacity(1 << 20), 1),
        }
    }

    fn put(&mut self, data: &[u8]) {
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(data).unwrap();
                decoder.flush().unwrap();
            }
            Self::Zstd(decoder, out, rest) => {
                let mut input = zstd_safe::InBuffer::around(data);
                while input.pos() < data.len() {
                    let length = out.len();
                    let mut room = zstd_safe::OutBuffer::around_pos(out, length);
                    *rest = decoder.decompress_stream(&mut room, &mut input).unwrap();
                }
            }
        }
    }

    fn text(&self) -> String {
        let came = match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(_, out, _) => out,
        };
        String::from_utf8(came.clone()).unwrap()
    }

    async fn read_until(&mut self, body: &mut Incoming, word: &str) {
        while !self.text().contains(word) {
            let frame = within(body.frame()).await.expect("the stream goes on").unwrap();
            self.put(&frame.into_data().unwrap());
        }
    }

    fn end(self) {
        match self {
            Self::Gzip(decoder) => drop(decoder.finish().unwrap()),
            Self::Zstd(_, _, rest) => assert_eq!(rest, 0, "the frame has ended"),
        }
    }
}

#[tokio::test]
async fn the_access_log_counts_bytes_without_compression() {
    let mut log = Log::new();
    let running = Running::new(compressing().access_log(true)).await;
    let headers = [("content-encoding", "gzip"), ("accept-encoding", "gzip")];
    let answer = ask(running.address, Version::Http1, "/rpc/text", &headers, gzip(b"[      5000      ]")).await;
    compressed(&answer, "gzip");
    let access = log.access().await;
    assert_eq!((&*access["request_bytes"], &*access["response_bytes"]), ("18", "5000"), "{access:?}");
}

/// What a program prints.
async fn printed(program: &str, args: &[&str]) -> String {
    let out = within(Command::new(program).args(args).output()).await.unwrap_or_else(|why| panic!("{program}: {why}"));
    assert!(out.status.success(), "{program} {args:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test]
async fn curl_and_python_read_and_write_it() {
    let running = Running::new(compressing()).await;
    let url = |path: &str| format!("http://localhost:{}{path}", running.address.port());
    let (text, add) = (url(TEXT), url("/rpc/add"));
    let text_out = printed("curl", &["-s", "--compressed", &text]).await;
    assert_eq!(text_out.len(), 5000);
    let wire = ["-s", "-o", "/dev/null", "-w", "%{size_download} %{header_json}", "--compressed", &text];
    let wire = printed("curl", &wire).await;
    let (size, headers) = wire.split_once(' ').unwrap();
    assert!(size.parse::<usize>().unwrap() < 500, "{wire}");
    let headers: Value = serde_json::from_str(headers).unwrap();
    assert!(["gzip", "zstd"].contains(&headers["content-encoding"][0].as_str().unwrap()), "{headers}");
    let script = r#"
import gzip, sys, urllib.request
text, add = sys.argv[1:]
with urllib.request.urlopen(urllib.request.Request(text, headers={"accept-encoding": "gzip"})) as answer:
    assert answer.headers["content-encoding"] == "gzip", answer.headers
    assert len(gzip.decompress(answer.read())) == 5000
headers = {"content-encoding": "gzip", "content-type": "application/json"}
with urllib.request.urlopen(urllib.request.Request(add, gzip.compress(b"[1, 2]"), headers)) as answer:
    print(answer.read().decode())
"#;
    assert_eq!(printed("python3", &["-c", script, &text, &add]).await.trim(), "3");
}

#[tokio::test]
async fn a_body_is_decoded_however_it_is_cut() {
    let running = Running::new(compressing()).await;
    for coding in CODINGS {
        let body =
            encoded(coding, b"[1,2]").into_iter().map(|byte| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![byte]))));
        let request = Request::post("/rpc/add").header("host", "localhost").header("content-encoding", coding);
        let request = request.body(StreamBody::new(stream::iter(body))).unwrap();
        assert_eq!(answer(send(running.address, Version::Http1, request).await).await.plain(), "3", "{coding}");
    }
}

/// What a call's request said of itself, as its function sees it.
#[rpc(readonly)]
async fn request_headers(filler: String) -> [Option<String>; 3] {
    let context = Context::current().unwrap();
    let header = |name: &str| context.header(name).map(str::to_owned);
    assert!(filler.chars().all(|c| c == 'x'));
    [header("accept-encoding"), header("content-encoding"), header("content-length")]
}

fn compressing_client(url: impl AsRef<str>) -> ClientBuilder {
    Client::builder(url).transport(Transport::Http).compress(true)
}

/// The coding of the answer on the wire is what a server that compresses sends; the client asks for it.
#[tokio::test]
async fn a_client_asks_for_compression_and_compresses_once_the_server_accepts_it() {
    let running = Running::new(compressing().method::<request_headers>()).await;
    let client = compressing_client(format!("{}/rpc", running.address)).build().unwrap();
    let asked = async |client: &Client, length: usize| -> [Option<String>; 3] {
        client.call("request_headers", ("x".repeat(length),)).await.unwrap()
    };
    let both = Some("zstd, gzip".to_owned());
    // The first request is to a server that the client doesn't know.
    let [accept, coding, length] = asked(&client, 5000).await;
    assert_eq!((accept, coding), (both.clone(), None));
    assert!(length.unwrap().parse::<usize>().unwrap() > 5000);
    let [accept, coding, length] = asked(&client, 5000).await;
    assert_eq!((accept, coding), (both.clone(), Some("zstd".into())));
    assert!(length.unwrap().parse::<usize>().unwrap() < 200);
    // A short one is sent as it is.
    assert_eq!(asked(&client, 100).await[1], None);
    // The result is long, so the answer is compressed on its way.
    let text: String = client.call("text", (100_000,)).await.unwrap();
    assert_eq!(text.len(), 99_998);
    let error = client.call::<()>("fails", ()).await.unwrap_err();
    assert_eq!(error.method().unwrap().as_str().unwrap().len(), 2 * KIB);

    // A client that was not told does as before.
    let plain = running.client();
    for _ in 0..2 {
        assert_eq!(asked(&plain, 5000).await[..2], [None, None]);
    }
    assert_eq!(plain.call::<String>("text", (100_000,)).await.unwrap(), text);
}

#[tokio::test]
async fn the_limit_of_an_answer_counts_decoded_bytes() {
    let running = Running::new(compressing()).await;
    let builder = compressing_client(format!("{}/rpc", running.address));
    let client = builder.limits(|limits| limits.message = 100_000).build().unwrap();
    assert_eq!(client.call::<String>("text", (100_000 - 8,)).await.unwrap().len(), 100_000 - 10);
    let error = client.call::<String>("text", (100_001,)).await.unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!(
        (error.code(), error.executed(), error.limit()),
        (Code::ResourceExhausted, Executed::Yes, Some("message"))
    );
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3, "the connection is fine");
}

/// An answer of bytes.
fn bytes_answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{BYNAME}{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A server that sends one answer after another.
async fn answering(answers: impl IntoIterator<Item = Vec<u8>>) -> Foreign {
    let answers: Vec<_> = answers.into_iter().collect();
    Foreign::new(move |mut connection| {
        let answers = answers.clone();
        async move {
            for answer in answers {
                connection.request().await;
                connection.send(answer).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_can_not_be_decoded_is_an_error_that_says_so() {
    for coding in CODINGS {
        let whole = encoded(coding, b"{\"ret\":3}");
        let header = format!("content-encoding: {coding}\r\n");
        for (body, words) in [
            (&whole[..whole.len() - 2], "data ends too early"),
            (&[&whole[..], b"garbage"].concat(), "it is not valid"),
            (b"{\"ret\":3}", "it is not valid"),
        ] {
            let server = answering([bytes_answer("200 OK", &header, body)]).await;
            let error = compressing_client(server.url()).build().unwrap().call::<i64>("add", (1, 2)).await.unwrap_err();
            let error = error.rpc().unwrap();
            assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes), "{error}");
            assert!(
                error.message().contains("the reply of `add` can't be decoded: ") && error.message().contains(words),
                "{error}"
            );
        }
        let server = answering([bytes_answer("200 OK", &header, &whole)]).await;
        assert_eq!(compressing_client(server.url()).build().unwrap().call::<i64>("add", (1, 2)).await.unwrap(), 3);
    }
    // Another coding than it has asked for.
    let server = answering([bytes_answer("200 OK", "content-encoding: br\r\n", b"{\"ret\":3}")]).await;
    let error = compressing_client(server.url()).build().unwrap().call::<i64>("add", (1, 2)).await.unwrap_err();
    assert!(error.to_string().contains("`content-encoding: br`"), "{error}");
}

#[tokio::test]
async fn a_request_that_is_not_accepted_compressed_any_more_is_sent_again_as_it_is() {
    let accepts = "accept-encoding: gzip\r\n";
    let refused = br#"{"kind":"rpc","code":"invalid_argument","message":"no","executed":"no"}"#;
    let (json, problem) = ("content-type: application/json\r\n", "content-type: application/problem+json\r\n");
    let server = answering([
        bytes_answer("200 OK", accepts, b"{\"ret\":1}"),
        bytes_answer("415 Unsupported Media Type", &format!("{problem}accept-encoding: identity\r\n"), refused),
        bytes_answer("200 OK", json, b"2"),
        bytes_answer("200 OK", json, b"3"),
    ])
    .await;
    let client = compressing_client(server.url()).build().unwrap();
    for expected in 1..=3 {
        assert_eq!(client.call::<i64>("length", ("x".repeat(5000),)).await.unwrap(), expected);
    }
    let codings: Vec<_> = server.requests().iter().map(|asked| asked.header("content-encoding").to_owned()).collect();
    assert_eq!(codings, ["", "gzip", "", ""]);
}

#[tokio::test]
async fn a_client_reads_the_items_of_a_compressed_stream_as_they_come() {
    let (make, items) = mpsc::channel(1);
    let running = Running::new(compressing().inject(Source(Mutex::new(Some(items))))).await;
    let client = compressing_client(format!("{}/rpc", running.address)).build().unwrap();
    let mut stream = client.stream::<String>("items", ());
    for length in [1, 100_000, 10] {
        make.send("x".repeat(length)).await.unwrap();
        assert_eq!(within(stream.next()).await.unwrap().unwrap().len(), length);
    }
    drop(make);
    assert!(within(stream.next()).await.is_none());
    assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);

    // An item is counted as it is when it was decoded.
    let (make, items) = mpsc::channel(1);
    let running = Running::new(compressing().inject(Source(Mutex::new(Some(items))))).await;
    let builder = compressing_client(format!("{}/rpc", running.address));
    let client = builder.limits(|limits| limits.message = 1000).build().unwrap();
    let mut stream = client.stream::<String>("items", ());
    make.send("x".repeat(10_000)).await.unwrap();
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.rpc().unwrap().limit(), Some("message"), "{error}");
}

#[rpc]
async fn coding_of(numbers: Streaming<i64>) -> Option<String> {
    assert_eq!(numbers.map(Result::unwrap).collect::<Vec<_>>().await, [1, 2, 3]);
    Context::current().unwrap().header("content-encoding").map(str::to_owned)
}

#[tokio::test]
async fn a_client_that_compresses_sends_its_streams_as_they_are() {
    let running = Running::new(compressing().method::<coding_of>()).await;
    let client = compressing_client(format!("{}/rpc", running.address)).build().unwrap();
    for _ in 0..2 {
        assert_eq!(coding_of::on(&client, Streaming::from(vec![1, 2, 3])).await.unwrap(), None);
    }
}
