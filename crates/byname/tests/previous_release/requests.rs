//! Requests of clients that are not byname's, the same over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::transcript::{Case, Event, Http, Message, Reader, Sent};
use crate::harness::within;

/// Both are files of transcripts.
pub(crate) const VERSIONS: [&str; 2] = ["requests_http1", "requests_http2"];

/// A name, the method and the path, headers, and the body.
type Request = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const JSON: (&str, &str) = ("content-type", "application/json");

const REQUESTS: &[Request] = &[
    ("plain", "POST /rpc", &[], r#"{"fun":"add","args":[1],"kwargs":{"b":2}}"#),
    (
        "plain, as Tornado's client",
        "POST /rpc",
        &[("content-type", "application/x-www-form-urlencoded")],
        r#"{"fun":"greet","args":["ada"],"kwargs":{}}"#,
    ),
    ("plain, an unknown function", "POST /rpc", &[], r#"{"fun":"ad","args":[]}"#),
    ("plain, a function's own error", "POST /rpc", &[], r#"{"fun":"withdraw","args":["ada",130]}"#),
    ("plain, an unknown member", "POST /rpc", &[], r#"{"fun":"add","arg":[1,2]}"#),
    ("plain, ext", "POST /rpc", &[], r#"{"fun":"add","args":[1,2],"ext":{"new":1}}"#),
    ("path", "POST /rpc/add", &[JSON], "[1,2]"),
    ("path, by name", "POST /rpc/add", &[JSON], r#"{"a":1,"b":2}"#),
    ("path, a panic", "POST /rpc/panics", &[JSON], r#"["a secret"]"#),
    ("path, a function's own error", "POST /rpc/withdraw", &[JSON], r#"["eve",1]"#),
    ("path, when to try again", "POST /rpc/fails", &[JSON], r#"["unavailable",{"a":1}]"#),
    ("path, an unknown function", "POST /rpc/ad", &[JSON], "[1,2]"),
    ("path, broken JSON", "POST /rpc/add", &[JSON], "[1,"),
    ("path, an attempt", "POST /rpc/add", &[("byname-attempt", "2")], "[1,2]"),
    ("query", "GET /rpc/add?a=1&b=2", &[], ""),
    ("query, the tag is known", "GET /rpc/add?a=1&b=2", &[("if-none-match", "*")], ""),
    ("query, not readonly", "GET /rpc/nothing", &[], ""),
    ("HEAD", "HEAD /rpc/add?a=1&b=2", &[], ""),
    ("OPTIONS", "OPTIONS /rpc/add", &[], ""),
    ("PUT", "PUT /rpc/add", &[], "[1,2]"),
    (
        "raw bytes",
        "POST /rpc/reversed",
        &[("content-type", "application/octet-stream"), ("accept", "application/octet-stream")],
        "abc",
    ),
    ("of another site", "POST /rpc/add", &[JSON, ("sec-fetch-site", "cross-site")], "[1,2]"),
    (
        "a form of a page",
        "POST /rpc/add",
        &[("content-type", "text/plain"), ("sec-fetch-site", "same-origin")],
        "[1,2]",
    ),
    ("no time", "POST /rpc/add", &[("byname-timeout-ms", "0")], "[1,2]"),
    ("not a time", "POST /rpc/add", &[("byname-timeout-ms", "soon")], "[1,2]"),
    ("the time runs out", "POST /rpc/gate.wait", &[("byname-timeout-ms", "20")], "[]"),
    ("a header of the caller's", "POST /rpc/whoami", &[("x-user", "ada")], "[]"),
    ("a stream", "POST /rpc/countdown", &[], "[3]"),
    ("a stream that fails", "POST /rpc/words", &[], r#"["a b c","c"]"#),
    ("a stream of events", "GET /rpc/countdown?from=2", &[("accept", "text/event-stream")], ""),
    ("lines", "POST /rpc/sum?factor=2", &[("content-type", "application/x-ndjson")], "1\n2\n3\n"),
    (
        "lines by the plain way",
        "POST /rpc",
        &[("content-type", "application/x-ndjson")],
        "{\"fun\":\"sum\",\"args\":[3]}\n1\n2\n",
    ),
    ("lines both ways", "POST /rpc/double", &[("content-type", "application/x-ndjson")], "1\n2\n"),
    ("JSON-RPC", "POST /rpc", &[JSON], r#"{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1e3}"#),
    ("JSON-RPC by name", "POST /rpc", &[JSON], r#"{"jsonrpc":"2.0","method":"add","params":{"a":1,"b":2},"id":"a"}"#),
    ("JSON-RPC, unknown", "POST /rpc", &[JSON], r#"{"jsonrpc":"2.0","method":"ad","id":null}"#),
    (
        "JSON-RPC, own error",
        "POST /rpc",
        &[JSON],
        r#"{"jsonrpc":"2.0","method":"withdraw","params":["ada",130],"id":2}"#,
    ),
    ("JSON-RPC, a panic", "POST /rpc", &[JSON], r#"{"jsonrpc":"2.0","method":"panics","params":["x"],"id":3}"#),
    ("JSON-RPC, not a request", "POST /rpc", &[JSON], r#"{"jsonrpc":"1.0","method":"add","id":4}"#),
    ("JSON-RPC, a notification", "POST /rpc", &[JSON], r#"{"jsonrpc":"2.0","method":"nothing"}"#),
    (
        "JSON-RPC, a batch",
        "POST /rpc",
        &[JSON],
        r#"[{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1},{"jsonrpc":"2.0","method":"nothing"},7,
{"jsonrpc":"2.0","method":"withdraw","params":["bob",1],"id":2},{"jsonrpc":"2.0","method":"ad","id":3}]"#,
    ),
    ("JSON-RPC, an empty batch", "POST /rpc", &[JSON], "[]"),
    ("live", "GET /rpc/!live", &[], ""),
    ("ready", "GET /rpc/!ready", &[], ""),
];

/// All requests with the answers of a server.
pub(crate) async fn recorded(version: &str, server: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, line, headers, body) in REQUESTS {
        let mut headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        if !body.is_empty() {
            headers.push(("content-length".to_owned(), body.len().to_string()));
        }
        if version == VERSIONS[0] {
            headers.insert(0, ("host".to_owned(), "HOST".to_owned()));
        }
        let protocol = if version == VERSIONS[0] { "HTTP/1.1" } else { "HTTP/2" };
        let request = Http { first: format!("{line} {protocol}"), headers, body: body.as_bytes().to_vec() };
        let mut answer = asked(version, server, &request).await;
        for (name, value) in &mut answer.headers {
            if name == "date" {
                *value = "DATE".to_owned();
            }
        }
        let sent = |by_client, http| Event::Sent(Sent { connection: 1, by_client, what: Message::Http(http) });
        let events = vec![sent(true, request), sent(false, answer)];
        cases.push(Case { name: name.to_string(), events, outcomes: Vec::new() });
    }
    cases
}

/// The answer to a request on a connection of its own.
pub(crate) async fn asked(version: &str, server: &str, request: &Http) -> Http {
    let stream = TcpStream::connect(server).await.unwrap();
    within(async {
        if version == VERSIONS[0] { by_http1(stream, request).await } else { by_http2(stream, request).await }
    })
    .await
}

async fn by_http1(mut stream: TcpStream, request: &Http) -> Http {
    stream.write_all(&request.bytes("localhost")).await.unwrap();
    let mut reader = Reader::of(false);
    reader.without_body = request.first.starts_with("HEAD ");
    let mut bytes = Vec::new();
    loop {
        if let Some(Message::Http(answer)) = reader.next() {
            return answer;
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "{request:?}");
        reader.push(&bytes);
        bytes.clear();
    }
}

async fn by_http2(stream: TcpStream, request: &Http) -> Http {
    let (mut calls, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut parts = request.first.split(' ');
    let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
    let mut head = http::Request::builder().method(method).uri(format!("http://localhost{path}"));
    for (name, value) in &request.headers {
        head = head.header(name, value);
    }
    let (answer, mut body) = calls.send_request(head.body(()).unwrap(), request.body.is_empty()).unwrap();
    if !request.body.is_empty() {
        body.send_data(Bytes::copy_from_slice(&request.body), true).unwrap();
    }
    let (head, mut body) = answer.await.unwrap().into_parts();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let mut answer =
        Http { first: format!("HTTP/2 {}", head.status.as_u16()), headers: headers.collect(), body: Vec::new() };
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        let _ = body.flow_control().release_capacity(data.len());
        answer.body.extend_from_slice(&data);
    }
    connection.abort();
    answer
}
