//! Requests to the HTTP API of a registry, whose bodies are JSON: [`JsonServer`], [`JsonConnection`], [`JsonValues`].

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::address::Address;
use crate::deadline::{before, later};
use crate::runtime;
use crate::transport::{AttemptProgress, ConnectFailure, ConnectStep, TlsConnector, TransportStream, first_to_connect};
use crate::untrusted_text::excerpt;

/// The time to open a connection: all addresses of the name, and the TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// The time until the head of an answer is there, and for an answer of one value until its end.
const ANSWER: Duration = Duration::from_secs(5);

/// The largest value of an answer, in bytes.
const LARGEST_VALUE: usize = 16 << 20;

/// The most bytes of an answer that is no JSON in a message.
const LONGEST_EXCERPT: usize = 200;

/// Where the API is: a name or an IP address without brackets, and a port.
#[derive(Clone, Debug)]
pub(crate) struct JsonServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Connections begin with TLS.
    pub(crate) tls: Option<TlsConnector>,
}

/// One request. The path has its query.
#[derive(Clone, Debug)]
pub(crate) struct JsonRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Beside `host`, `accept` and `content-type`.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Value>,
}

/// A connection to the API. It makes one request after another. After an error it can't be used again. Dropping it closes
/// the socket.
#[derive(Debug)]
pub(crate) struct JsonConnection {
    requests: SendRequest<String>,
    authority: HeaderValue,
    driver: AbortHandle,
}

/// The values of an answer, which stand one after another, with or without white space between them. Each is an object.
#[derive(Debug)]
pub(crate) struct JsonValues {
    pub(crate) status: StatusCode,
    body: Incoming,
    split: ObjectSplitter,
    /// The values end when it is closed.
    _connection: Option<JsonConnection>,
}

impl JsonServer {
    /// Opens a connection to any address of the name, within five seconds.
    pub(crate) async fn connect(&self) -> io::Result<JsonConnection> {
        let until = later(Instant::now(), CONNECT);
        let opened = before(until, async {
            let found = lookup_host((self.host.as_str(), self.port)).await?;
            self.open(found.map(Address::from).collect(), until).await
        });
        opened.await.unwrap_or_else(|| Err(no_connection()))
    }

    /// Opens a connection to the first of these addresses that can be used.
    async fn open(&self, addresses: Vec<Address>, until: Instant) -> io::Result<JsonConnection> {
        let attempt = |address, progress: AttemptProgress| async move {
            let Address::Tcp(address) = address else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the address has no port"));
            };
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            match &self.tls {
                Some(tls) => {
                    progress.moved(ConnectStep::Securing);
                    tls.connect(socket).await
                }
                None => Ok(TransportStream::from(socket)),
            }
        };
        let stream = match first_to_connect(addresses, until, attempt).await.result {
            Ok((_, stream)) => stream,
            Err(ConnectFailure::Failed(why)) => return Err(why),
            Err(ConnectFailure::Late(_)) => return Err(no_connection()),
        };
        let authority = HeaderValue::try_from(self.to_string()).map_err(io::Error::other)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driver = runtime::spawn(&Handle::current(), async {
            // The request that it was for has the error too.
            let _ = connection.await;
        });
        Ok(JsonConnection { requests, authority, driver: driver.abort_handle() })
    }
}

impl fmt::Display for JsonServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl JsonRequest {
    #[cfg_attr(not(any(test, feature = "kubernetes")), expect(dead_code, reason = "etcd is asked by POST"))]
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: HeaderMap::new(), body: None }
    }

    #[cfg_attr(not(feature = "etcd"), allow(dead_code, reason = "only etcd is asked so"))]
    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, path: path.into(), headers: HeaderMap::new(), body: Some(body) }
    }

    /// Adds a header, such as `authorization`.
    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl JsonConnection {
    /// The status of the answer, and its only value, within five seconds.
    pub(crate) async fn ask(&mut self, request: JsonRequest) -> io::Result<(StatusCode, Value)> {
        let asked = async {
            let mut values = self.send(request).await?;
            let status = values.status;
            let only = values.only().await.map_err(|why| match status.is_success() {
                true => why,
                false => io::Error::new(why.kind(), format!("status {status}: {why}")),
            });
            Ok((status, only?))
        };
        before(later(Instant::now(), ANSWER), asked).await.unwrap_or_else(|| Err(no_answer()))
    }

    /// An answer that goes on. Its head must come within five seconds. The connection is the answer's.
    pub(crate) async fn stream(mut self, request: JsonRequest) -> io::Result<JsonValues> {
        let head = before(later(Instant::now(), ANSWER), self.send(request)).await;
        let values = head.unwrap_or_else(|| Err(no_answer()))?;
        Ok(JsonValues { _connection: Some(self), ..values })
    }

    async fn send(&mut self, request: JsonRequest) -> io::Result<JsonValues> {
        let JsonRequest { method, path, headers, body } = request;
        let mut sent = Request::new(body.as_ref().map(Value::to_string).unwrap_or_default());
        *sent.method_mut() = method;
        *sent.uri_mut() = path.parse().map_err(io::Error::other)?;
        *sent.headers_mut() = headers;
        sent.headers_mut().insert(HOST, self.authority.clone());
        sent.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if body.is_some() {
            sent.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.requests.ready().await.map_err(lost)?;
        let answer: Response<Incoming> = self.requests.send_request(sent).await.map_err(lost)?;
        let (head, body) = answer.into_parts();
        Ok(JsonValues { status: head.status, body, split: ObjectSplitter::default(), _connection: None })
    }
}

impl Drop for JsonConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl JsonValues {
    async fn only(&mut self) -> io::Result<Value> {
        let value = self.next().await?.ok_or_else(|| no_json("the answer is empty"))?;
        match self.next().await? {
            None => Ok(value),
            Some(_) => Err(no_json("the answer has more than one value")),
        }
    }

    /// The next value, or `None` at the end of the answer. It waits for ever if the server is silent: use
    /// [`before`](crate::deadline::before). A wait that is dropped loses nothing.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Value>> {
        loop {
            if let Some(value) = self.split.next()? {
                return Ok(Some(value));
            }
            let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut self.body).poll_frame(cx)).await;
            match frame.transpose().map_err(lost)? {
                Some(frame) => self.split.push(&frame.into_data().unwrap_or_default()),
                None if self.split.is_empty() => return Ok(None),
                None => return Err(no_json("the answer ends inside of a value")),
            }
        }
    }
}

/// Splits bytes into JSON objects, however the bytes come.
#[derive(Debug, Default)]
struct ObjectSplitter {
    /// Begins with the value that is not complete.
    bytes: Vec<u8>,
    /// How many bytes have been looked at.
    seen: usize,
    /// How many objects and arrays are open there.
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl ObjectSplitter {
    fn push(&mut self, bytes: &Bytes) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next object, if it is complete.
    fn next(&mut self) -> io::Result<Option<Value>> {
        if self.seen == 0 {
            let blank = self.bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.bytes.drain(..blank);
            if self.bytes.first().is_some_and(|first| *first != b'{') {
                let text = excerpt(String::from_utf8_lossy(&self.bytes).trim_end(), LONGEST_EXCERPT);
                return Err(no_json(&format!("the answer is not a JSON object: {text}")));
            }
        }
        while let Some(byte) = self.bytes.get(self.seen) {
            self.seen += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let value = serde_json::from_slice(&self.bytes[..self.seen]);
                        self.bytes.drain(..self.seen);
                        self.seen = 0;
                        return value.map(Some).map_err(|why| no_json(&format!("the answer is not JSON: {why}")));
                    }
                }
                _ => {}
            }
        }
        match self.bytes.len() > LARGEST_VALUE {
            true => Err(no_json(&format!("a value of the answer has more than {LARGEST_VALUE} bytes"))),
            false => Ok(None),
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

fn no_json(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn no_connection() -> io::Error {
    late(format!("no connection within {CONNECT:?}"))
}

fn no_answer() -> io::Error {
    late(format!("no answer within {ANSWER:?}"))
}

fn late(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// What hyper says of a connection, with the cause, which it leaves out.
fn lost(why: hyper::Error) -> io::Error {
    let cause = std::error::Error::source(&why).map(|cause| format!(": {cause}")).unwrap_or_default();
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("{why}{cause}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn split(text: &str, pieces: usize) -> io::Result<Vec<String>> {
        let mut splitter = ObjectSplitter::default();
        let mut values = Vec::new();
        for piece in text.as_bytes().chunks(pieces.max(1)) {
            splitter.push(&Bytes::copy_from_slice(piece));
            while let Some(value) = splitter.next()? {
                values.push(value.to_string());
            }
        }
        assert!(splitter.is_empty(), "{splitter:?}");
        Ok(values)
    }

    #[test]
    fn values_are_split_wherever_they_end() {
        let one = r#"{"a":"}{\"","b":[{},{"c":"]"}]}"#;
        for pieces in 1..80 {
            assert_eq!(split(&format!("{one}\n{{}}{one}"), pieces).unwrap(), [one, "{}", one], "{pieces}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (bad, why) in [
            ("<html>", "the answer is not a JSON object: <html>"),
            ("{} 1", "not a JSON object: 1"),
            ("[]", "not a JSON object: []"),
            ("{]", "the answer is not JSON: "),
            ("{'a'}", "the answer is not JSON: "),
        ] {
            assert!(split(bad, 99).unwrap_err().to_string().contains(why), "{bad}");
        }
        let mut splitter = ObjectSplitter::default();
        splitter.push(&Bytes::from(format!("{{\"a\":\"{}", "x".repeat(LARGEST_VALUE))));
        let why = splitter.next().unwrap_err().to_string();
        assert!(why.contains("more than 16777216 bytes"), "{why}");
    }

    proptest! {
        #[test]
        fn a_split_value_is_the_value(texts in proptest::collection::vec(any::<String>(), 1..4), pieces in 1..9_usize) {
            let written: Vec<_> =
                texts.iter().map(|text| serde_json::json!({ "key": [text, { text.as_str(): null }] }).to_string()).collect();
            prop_assert_eq!(split(&written.join(" "), pieces).unwrap(), written);
        }
    }

    /// A server that reads one request for each answer, and writes it.
    async fn answering(answers: &'static [&'static str]) -> (JsonServer, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = JsonServer { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port(), tls: None };
        let serving = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut requests = Vec::new();
            for answer in answers {
                let mut request = vec![0; 4096];
                let length = socket.read(&mut request).await.unwrap();
                requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        });
        (server, serving)
    }

    #[tokio::test]
    async fn one_connection_makes_several_requests_and_then_a_stream() {
        let (server, serving) = answering(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}{\r\n2\r\n}\n\r\n0\r\n\r\n",
        ])
        .await;
        let mut connection = server.connect().await.unwrap();
        let post = JsonRequest::post("/put?x=1", serde_json::json!({ "key": "a" }));
        assert_eq!(connection.ask(post).await.unwrap(), (StatusCode::OK, serde_json::json!({ "a": 1 })));
        let get = JsonRequest::get("/none").header(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer t"));
        assert_eq!(connection.ask(get).await.unwrap().0, StatusCode::NOT_FOUND);
        let mut values = connection.stream(JsonRequest::get("/watch")).await.unwrap();
        let empty = || Some(serde_json::json!({}));
        assert_eq!((values.next().await.unwrap(), values.next().await.unwrap()), (empty(), empty()));
        assert_eq!(values.next().await.unwrap(), None);
        let requests = serving.await.unwrap();
        assert!(requests[0].starts_with("POST /put?x=1 HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[0].contains(&format!("host: {server}\r\n")), "{requests:?}");
        assert!(requests[0].ends_with("\r\n\r\n{\"key\":\"a\"}"), "{requests:?}");
        assert!(requests[1].contains("authorization: Bearer t\r\n"), "{requests:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_is_an_error() {
        for cut in ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}{", "HTTP/1.1 200 OK\r\n\r\n{}{", "", "HTTP/1.1 200"]
        {
            let answers: &'static [&'static str] = Box::leak(Box::new([cut]));
            let (server, _serving) = answering(answers).await;
            let read = async {
                let mut values = server.connect().await?.stream(JsonRequest::get("/")).await?;
                while values.next().await?.is_some() {}
                io::Result::Ok(())
            };
            read.await.expect_err(cut);
        }
    }

    /// Its system answers no connection, because one waits for it already.
    #[cfg(target_os = "linux")]
    async fn black_hole() -> (tokio::net::TcpListener, TcpStream) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let waiting = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener, waiting)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_does_not_hold_up_the_others() {
        let (server, serving) = answering(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]).await;
        let (hole, _waiting) = black_hole().await;
        let silent = Address::from(hole.local_addr().unwrap());
        let until = || later(Instant::now(), CONNECT);
        let why = server.open(vec![silent.clone()], until()).await.unwrap_err();
        assert_eq!(why.to_string(), "no connection within 5s");
        let live = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], server.port)));
        let mut connection = server.open(vec![silent, live], until()).await.unwrap();
        assert_eq!(connection.ask(JsonRequest::get("/")).await.unwrap().0, StatusCode::OK);
        drop(serving);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_is_silent_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = JsonServer { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port(), tls: None };
        let why = server.connect().await.unwrap().ask(JsonRequest::get("/")).await.unwrap_err();
        assert_eq!((why.kind(), why.to_string().as_str()), (io::ErrorKind::TimedOut, "no answer within 5s"));
        let why = server.connect().await.unwrap().stream(JsonRequest::get("/")).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::TimedOut);
    }
}
