//! A raw client: it sends bytes and reads bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer as it came over the socket.
#[derive(Debug)]
pub struct Raw {
    pub status: u16,
    pub reason: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Raw {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }
}

/// One connection to a server.
pub struct Caller<S = TcpStream> {
    pub stream: S,
    /// Bytes of the next answer.
    early: Vec<u8>,
}

impl Caller {
    pub async fn to(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Caller<S> {
    /// On a connection that there is.
    pub fn on(stream: S) -> Self {
        Self { stream, early: Vec::new() }
    }

    /// Sends bytes; a server that has closed is seen by what it answers.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Raw {
        self.send(request).await;
        self.answer().await
    }

    /// Reads one answer, which says its length or has no body.
    pub async fn answer(&mut self) -> Raw {
        let head = loop {
            if let Some(end) = self.early.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.more().await, "closed after {:?}", String::from_utf8_lossy(&self.early));
        };
        let lines = String::from_utf8(self.early[..head].to_vec()).unwrap();
        let mut lines = lines.trim_end().split("\r\n");
        let mut first = lines.next().unwrap().splitn(3, ' ').skip(1);
        let status = first.next().unwrap().parse().unwrap();
        let reason = first.next().unwrap_or("").to_owned();
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.early.len() < head + length {
            assert!(self.more().await, "closed in the middle of a body");
        }
        let body = String::from_utf8(self.early[head..head + length].to_vec()).unwrap();
        self.early.drain(..head + length);
        Raw { status, reason, headers, body }
    }

    /// What comes until the server closes.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.early)).into_owned()
    }

    async fn more(&mut self) -> bool {
        // A server may close by RST.
        within(self.stream.read_buf(&mut self.early)).await.is_ok_and(|count| count > 0)
    }
}

/// What `future` gives. A test that waits for what never comes fails, and doesn't hang.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it should have come long ago")
}

/// Sends bytes on a new connection and reads one answer.
pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> Raw {
    Caller::to(address).await.ask(request).await
}

/// A POST as the simplest client would write it.
pub fn post(path: &str, body: &str) -> String {
    post_with(path, "", body)
}

/// A POST with more headers, each with its line's end.
pub fn post_with(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

pub fn get(path: &str) -> String {
    verb("GET", path, "")
}

/// A request without a body, with more headers, each with its line's end.
pub fn verb(verb: &str, path: &str, headers: &str) -> String {
    format!("{verb} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
}
