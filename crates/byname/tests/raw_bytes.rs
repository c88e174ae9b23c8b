//! Bytes over HTTP as they are: `application/octet-stream` in both directions.

mod harness;

use std::net::SocketAddr;

use byname::{Bytes, Code, Error, MethodError, Server, Streaming, rpc};
use futures_util::{Stream, StreamExt, stream};
use harness::{Caller, Running, verb};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;

const OCTETS: &str = "application/octet-stream";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct TooMany(usize);

impl MethodError for TooMany {
    fn code(&self) -> Code {
        Code::OutOfRange
    }
}

#[rpc(readonly)]
async fn reversed(data: Bytes) -> Bytes {
    data.iter().rev().copied().collect()
}

#[rpc]
async fn length(data: Bytes) -> usize {
    data.len()
}

#[rpc]
async fn at_most(data: Bytes) -> Result<usize, TooMany> {
    if data.len() > 2 { Err(TooMany(data.len())) } else { Ok(data.len()) }
}

#[rpc]
async fn two(first: Bytes, second: Bytes) -> usize {
    first.len() + second.len()
}

#[rpc]
async fn numbers(data: Vec<u8>) -> usize {
    data.len()
}

#[rpc(readonly)]
fn bytes(count: usize) -> Result<Bytes, TooMany> {
    if count > 1000 { Err(TooMany(count)) } else { Ok(all().into_iter().cycle().take(count).collect()) }
}

/// How many bytes came, and whether the name came as well.
#[rpc]
async fn upload(name: String, mut data: Streaming<Bytes>) -> Result<(String, usize), Error> {
    let mut length = 0;
    while let Some(part) = data.next().await {
        length += part?.len();
    }
    Ok((name, length))
}

#[rpc]
fn mirror(data: Streaming<Bytes>) -> impl Stream<Item = Result<Bytes, Error>> {
    data
}

#[rpc]
async fn sum(mut numbers: Streaming<i64>) -> Result<i64, Error> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

#[rpc(readonly)]
fn in_parts(count: usize, fails: bool) -> impl Stream<Item = Result<Bytes, TooMany>> {
    let parts = stream::iter(0..count).map(|at| Ok(Bytes::from(vec![at as u8; at])));
    parts.chain(stream::iter(fails.then_some(Err(TooMany(count)))))
}

#[rpc]
fn halves(data: Bytes) -> impl Stream<Item = Bytes> {
    let (first, second) = data.split_at(data.len() / 2);
    stream::iter([Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)])
}

/// Every byte there is: no text.
fn all() -> Vec<u8> {
    (0..=255).collect()
}

fn server() -> Server {
    byname::server!()
}

struct Got {
    status: u16,
    headers: HeaderMap,
    /// `None` where the body broke off.
    body: Option<Vec<u8>>,
}

impl Got {
    fn content_type(&self) -> &str {
        self.headers["content-type"].to_str().unwrap()
    }

    fn bytes(&self) -> &[u8] {
        self.body.as_deref().expect("the body came whole")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(self.bytes()).unwrap()
    }
}

async fn ask(address: SocketAddr, verb: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Got {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(verb).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(hyper::body::Bytes::from(body.into()))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
    Got { status: head.status.as_u16(), headers: head.headers, body }
}

#[tokio::test]
async fn a_body_is_the_bytes_that_a_function_takes() {
    let running = Running::new(server()).await;
    let sends = [("content-type", OCTETS)];
    for bytes in [all(), vec![], b"[1,2]".to_vec(), vec![7; 100_000]] {
        let got = ask(running.address, "POST", "/rpc/length", &sends, bytes.clone()).await;
        assert_eq!((got.status, got.json()), (200, json!(bytes.len())));
        assert_eq!(got.content_type(), "application/json");
    }
    let got =
        ask(running.address, "POST", "/rpc/length", &[("content-type", "Application/Octet-Stream; a=b")], "xyz").await;
    assert_eq!(got.json(), json!(3));
    // The function's own error is JSON, as ever.
    let got = ask(running.address, "POST", "/rpc/at_most", &sends, all()).await;
    assert_eq!((got.status, got.json()["data"].clone()), (400, json!(256)));
    // Without the content type a body is JSON, as it is for a function that takes something else.
    let got = ask(running.address, "POST", "/rpc/length", &[], r#"["AAEC"]"#).await;
    assert_eq!(got.json(), json!(3));
    for (path, body, expected) in [
        ("/rpc/two", r#"["AAEC", "AA=="]"#, 4),
        ("/rpc/numbers", "[[1,2,3]]", 3),
        // A body of a stream of numbers is lines, whatever it says.
        ("/rpc/sum", "1\n2\n", 3),
    ] {
        let got = ask(running.address, "POST", path, &sends, body).await;
        assert_eq!((got.status, got.json()), (200, json!(expected)), "{path}");
    }
}

#[tokio::test]
async fn an_answer_is_the_bytes_that_a_function_returns() {
    let running = Running::new(server()).await;
    let wants = [("accept", OCTETS)];
    let got = ask(running.address, "GET", "/rpc/bytes?count=256", &wants, "").await;
    assert_eq!((got.status, got.content_type(), got.bytes()), (200, OCTETS, &all()[..]));
    assert_eq!(got.headers["content-length"], "256");
    let got = ask(running.address, "POST", "/rpc/bytes", &wants, "[0]").await;
    assert_eq!((got.status, got.content_type(), got.bytes()), (200, OCTETS, &b""[..]));
    let both = [("content-type", OCTETS), ("accept", "text/html, application/octet-stream;q=0.9")];
    let got = ask(running.address, "POST", "/rpc/reversed", &both, all()).await;
    let reversed: Vec<u8> = all().into_iter().rev().collect();
    assert_eq!((got.content_type(), got.bytes()), (OCTETS, &reversed[..]));
    // Errors are JSON, and so are results that are not bytes.
    let got = ask(running.address, "GET", "/rpc/bytes?count=1001", &wants, "").await;
    assert_eq!((got.status, got.json()["data"].clone()), (400, json!(1001)));
    assert_eq!(got.content_type(), "application/problem+json");
    let got = ask(running.address, "POST", "/rpc/length", &both, all()).await;
    assert_eq!((got.content_type(), got.json()), ("application/json", json!(256)));
    // Who takes anything is given JSON, as before.
    for accept in ["*/*", "application/*", "application/json"] {
        let got = ask(running.address, "GET", "/rpc/bytes?count=3", &[("accept", accept)], "").await;
        assert_eq!((got.content_type(), got.json()), ("application/json", json!("AAEC")));
    }
    let plain = ask(running.address, "POST", "/rpc", &wants, r#"{"fun":"bytes","args":[3]}"#).await;
    assert_eq!(plain.json(), json!({"ret": "AAEC"}), "the plain way has an envelope");
}

#[tokio::test]
async fn the_limit_counts_the_bytes_that_go_out() {
    let running = Running::new(server().limits(|limits| limits.message = 1000)).await;
    let wants = [("accept", OCTETS)];
    let got = ask(running.address, "GET", "/rpc/bytes?count=1000", &wants, "").await;
    assert_eq!((got.status, got.bytes().len()), (200, 1000));
    let got = ask(running.address, "GET", "/rpc/bytes?count=1000", &[], "").await;
    assert_eq!((got.status, got.json()["code"].clone()), (429, json!("resource_exhausted")), "base64 is longer");
    let sends = [("content-type", OCTETS)];
    let got = ask(running.address, "POST", "/rpc/length", &sends, vec![0; 1000]).await;
    assert_eq!((got.status, got.json()), (200, json!(1000)));
    let got = ask(running.address, "POST", "/rpc/length", &sends, vec![0; 1001]).await;
    assert_eq!(got.status, 413);
    // A stream has no such limit, and its items are cut to it.
    let got = ask(running.address, "POST", "/rpc/upload?name=a", &sends, vec![0; 300_000]).await;
    assert_eq!((got.status, got.json()), (200, json!(["a", 300_000])));
}

#[tokio::test]
async fn bytes_stream_in_and_out() {
    let running = Running::new(server()).await;
    let sends = [("content-type", OCTETS)];
    let both = [("content-type", OCTETS), ("accept", OCTETS)];
    for length in [0, 1, 300_000] {
        let data: Vec<u8> = all().into_iter().cycle().take(length).collect();
        let got = ask(running.address, "POST", "/rpc/upload?name=a%20b", &sends, data.clone()).await;
        assert_eq!((got.status, got.json()), (200, json!(["a b", length])));
        let got = ask(running.address, "POST", "/rpc/mirror", &both, data.clone()).await;
        assert_eq!((got.status, got.content_type()), (200, OCTETS));
        assert!(got.bytes() == data, "{length}");
    }
    let expected: Vec<u8> = (0..5).flat_map(|at| vec![at; at as usize]).collect();
    let got = ask(running.address, "GET", "/rpc/in_parts?count=5&fails=false", &both, "").await;
    assert_eq!((got.content_type(), got.bytes()), (OCTETS, &expected[..]));
    // Lines are the default, for every format of the arguments.
    let got = ask(running.address, "POST", "/rpc/halves", &sends, [0, 1, 2, 3]).await;
    assert_eq!(got.content_type(), "application/x-ndjson");
    assert_eq!(String::from_utf8_lossy(got.bytes()), "{\"item\":\"AAE=\"}\n{\"item\":\"AgM=\"}\n{\"end\":2}\n");
}

#[tokio::test]
async fn truncated_bytes_never_look_complete() {
    let running = Running::new(server()).await;
    let wants = [("accept", OCTETS)];
    for fails in [false, true] {
        let mut caller = Caller::to(running.address).await;
        let headers = "accept: application/octet-stream\r\nconnection: close\r\n";
        caller.send(verb("GET", &format!("/rpc/in_parts?count=5&fails={fails}"), headers)).await;
        assert_eq!(caller.rest().await.ends_with("\r\n0\r\n\r\n"), !fails, "the last chunk says that all has come");
    }
    // Before the first item there is still a status.
    let got = ask(running.address, "GET", "/rpc/in_parts?count=0&fails=true", &wants, "").await;
    assert_eq!((got.status, got.content_type()), (400, "application/problem+json"));
}
