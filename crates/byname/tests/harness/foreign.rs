//! A server that is not byname's. It sends the answers that a test scripts, and records the requests.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use byname::{Client, ClientBuilder};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use super::peer::{self, Peer};
use super::within;

/// A listener whose connections a test's closure serves. It ends when it is dropped.
pub struct Foreign {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    answers: Arc<Semaphore>,
    task: JoinHandle<()>,
}

/// What all of its connections saw.
#[derive(Default)]
struct Seen {
    opened: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    requests: Mutex<Vec<Asked>>,
    news: Notify,
}

/// A request as it came over the socket.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST /rpc HTTP/1.1`
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// Which connection it came by, the first is 0.
    pub connection: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }
}

impl Foreign {
    /// Serves each connection by `serve`.
    pub async fn new<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(Connection) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(Connection::new(stream, &shared)));
            }
        });
        Self { address, seen, answers: Arc::new(Semaphore::new(0)), task }
    }

    /// Answers every request with the same bytes and keeps its connections.
    pub async fn answering(answer: impl Into<String>) -> Self {
        let answer: Arc<str> = answer.into().into();
        Self::new(move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                while connection.request().await.is_some() {
                    connection.send(&*answer).await;
                }
            }
        })
        .await
    }

    /// Answers requests with the same bytes, as many as the test [releases](Self::release), in the order of coming.
    pub async fn holding(answer: impl Into<String>) -> Self {
        let answer: Arc<str> = answer.into().into();
        let answers = Arc::new(Semaphore::new(0));
        let released = Arc::clone(&answers);
        let foreign = Self::new(move |mut connection| {
            let (answer, released) = (Arc::clone(&answer), Arc::clone(&released));
            async move {
                while connection.request().await.is_some() {
                    released.acquire().await.unwrap().forget();
                    connection.send(&*answer).await;
                }
            }
        });
        let mut foreign = foreign.await;
        foreign.answers = answers;
        foreign
    }

    /// Lets this many requests be answered.
    pub fn release(&self, count: usize) {
        self.answers.add_permits(count);
    }

    /// Sends the same bytes to the first request of each connection, and closes it.
    pub async fn ending_after(answer: impl Into<String>) -> Self {
        let answer: Arc<str> = answer.into().into();
        Self::new(move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                if connection.request().await.is_some() {
                    connection.send(&*answer).await;
                }
            }
        })
        .await
    }

    /// A server that offers frames, and what it does once a client has said its HELLO; of that the test is told.
    pub async fn of_frames<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(Connection) -> F + Clone + Send + 'static,
    ) -> (Self, Arc<Notify>) {
        let upgraded = Arc::new(Notify::new());
        let told = Arc::clone(&upgraded);
        let server = Self::new(move |mut connection| {
            let (serve, told) = (serve.clone(), Arc::clone(&told));
            async move {
                while let Some(asked) = connection.request().await {
                    if asked.header("upgrade") == "websocket" {
                        connection.grant_frames(&asked).await;
                        assert_eq!(connection.frame().await.0, 1);
                        told.notify_one();
                        return serve(connection).await;
                    }
                    let offer = "byname-protocol: 1\r\nbyname-ways: plain, frames\r\n";
                    connection.send(answer("200 OK", offer, "{\"ret\": 3}")).await;
                }
            }
        });
        (server.await, upgraded)
    }

    pub fn url(&self) -> String {
        format!("{}/rpc", self.address)
    }

    pub fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// For a client that takes frames where this server offers them.
    pub fn builder(&self) -> ClientBuilder {
        Client::builder(self.url())
    }

    /// How many connections were opened in all.
    pub fn opened(&self) -> usize {
        self.seen.opened.load(Ordering::SeqCst)
    }

    /// How many connections are open, as far as the server knows.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// How many connections were open at once, at most.
    pub fn most_open(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }

    /// Every request that came whole, in the order of coming.
    pub fn requests(&self) -> Vec<Asked> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits until this many requests have come.
    pub async fn until_asked(&self, count: usize) {
        self.until(|| self.requests().len() >= count).await;
    }

    /// Brings a call so far that this many requests have come.
    pub async fn until_asked_by<F: Future + Unpin>(&self, call: &mut F, count: usize) {
        during(call, self.until_asked(count)).await;
    }

    /// Waits until no connection is open.
    pub async fn until_closed(&self) {
        self.until(|| self.open() == 0).await;
    }

    /// Waits until no more connections are open than these.
    pub async fn until_closed_but(&self, count: usize) {
        self.until(|| self.open() <= count).await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        within(async {
            loop {
                let mut news = std::pin::pin!(self.seen.news.notified());
                news.as_mut().enable();
                if condition() {
                    return;
                }
                news.await;
            }
        })
        .await;
    }

    /// The way of each request: its path.
    pub fn paths(&self) -> Vec<String> {
        self.requests().iter().map(|asked| asked.line.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One accepted connection.
pub struct Connection {
    stream: TcpStream,
    /// Bytes of the next request.
    early: Vec<u8>,
    /// What is left of a message of frames.
    message: Vec<u8>,
    pub number: usize,
    seen: Arc<Seen>,
    open: Open,
}

/// Counts as an open connection.
pub struct Open(Arc<Seen>);

impl Connection {
    fn new(stream: TcpStream, seen: &Arc<Seen>) -> Self {
        let number = seen.opened.fetch_add(1, Ordering::SeqCst);
        let now_open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now_open, Ordering::SeqCst);
        let open = Open(Arc::clone(seen));
        Self { stream, early: Vec::new(), message: Vec::new(), number, seen: Arc::clone(seen), open }
    }

    /// Reads one request, whole; `None` when the client closed instead.
    pub async fn request(&mut self) -> Option<Asked> {
        let head = loop {
            if let Some(end) = self.early.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more().await {
                assert!(self.early.is_empty(), "closed in the middle of a request");
                return None;
            }
        };
        let text = String::from_utf8(self.early[..head].to_vec()).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let mut headers = BTreeMap::new();
        for header in lines {
            let (name, value) = header.split_once(':').unwrap();
            let before = headers.insert(name.to_lowercase(), value.trim().to_owned());
            assert_eq!(before, None, "`{name}` was sent twice");
        }
        let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.early.len() < head + length {
            assert!(self.more().await, "closed in the middle of a body");
        }
        let body = String::from_utf8_lossy(&self.early[head..head + length]).into_owned();
        self.early.drain(..head + length);
        let asked = Asked { line, headers, body, connection: self.number };
        self.seen.requests.lock().unwrap().push(asked.clone());
        self.seen.news.notify_waiters();
        Some(asked)
    }

    /// Grants the upgrade to frames that was asked for, and says HELLO.
    pub async fn grant_frames(&mut self, asked: &Asked) {
        let mut sha1 = sha1_smol::Sha1::new();
        sha1.update(asked.header("sec-websocket-key").as_bytes());
        sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = BASE64_STANDARD.encode(sha1.digest().bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-protocol: byname.v1\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        self.send(head).await;
        let hello = br#"{"version":1,"message":1000000000,"window":1000000000,"calls":9,"codecs":["msgpack","json"]}"#;
        self.send(frame(1, 0, 0, hello)).await;
    }

    /// The next frame that the client sends, its kind and its id.
    pub async fn frame(&mut self) -> (u8, u64) {
        while self.message.is_empty() {
            while self.early.len() < 8 {
                assert!(self.more().await, "closed before a frame");
            }
            let (length, start) = match self.early[1] & 0x7f {
                126 => (usize::from(u16::from_be_bytes([self.early[2], self.early[3]])), 8),
                short => (usize::from(short), 6),
            };
            while self.early.len() < start + length {
                assert!(self.more().await, "closed in the middle of a frame");
            }
            let message: Vec<u8> = self.early.drain(..start + length).collect();
            let mask = &message[start - 4..start];
            self.message = message[start..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        }
        let header: Vec<u8> = self.message.drain(..16).collect();
        let length = u32::from_be_bytes(header[..4].try_into().unwrap());
        self.message.drain(..length as usize);
        (header[4], u64::from_be_bytes(header[8..].try_into().unwrap()))
    }

    /// Waits for the first bytes of a request, which stay to be read.
    pub async fn begun(&mut self) {
        assert!(!self.early.is_empty() || self.more().await, "closed before a request");
    }

    /// Takes what comes until the client closes.
    pub async fn rest(&mut self) {
        while self.more().await {}
    }

    async fn more(&mut self) -> bool {
        // A client that is gone may say so by RST.
        self.stream.read_buf(&mut self.early).await.is_ok_and(|count| count > 0)
    }

    /// Sends bytes. It is no error if the client is gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Closes by RST: whatever was not read yet is lost.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Grants what was asked for, a WebSocket that bears frames. Nothing is sent yet after the answer.
    pub async fn upgrade(mut self, asked: &Asked) -> Peer {
        let accept = peer::accept(asked.header("sec-websocket-key"));
        let granted = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: \
             {accept}\r\nsec-websocket-protocol: byname.v1\r\n\r\n"
        );
        self.send(granted).await;
        let Self { stream, early, open, .. } = self;
        Peer::serving(stream, early, open)
    }

    /// Waits until the client closes. What it sends meanwhile is a mistake.
    pub async fn closed(&mut self) {
        let more = self.more().await;
        assert!(!more, "expected the end, got {:?}", String::from_utf8_lossy(&self.early));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.news.notify_waiters();
    }
}

/// Calls until the next call goes by frames.
pub async fn gone_over(client: &Client, upgraded: &Notify) {
    for _ in 0..2 {
        assert_eq!(client.call::<u8>("add", (1, 2)).await.unwrap(), 3);
    }
    within(upgraded.notified()).await;
}

/// One frame in a WebSocket message of its own, as a server sends it.
pub fn frame(kind: u8, flags: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let header = [&length.to_be_bytes()[..], &[kind, flags, 0, 0], &id.to_be_bytes()].concat();
    let all = u16::try_from(header.len() + payload.len()).unwrap();
    match u8::try_from(all) {
        Ok(all @ ..126) => [&[0x82, all], &header[..], payload].concat(),
        _ => [&[0x82, 126], &all.to_be_bytes()[..], &header, payload].concat(),
    }
}

/// An answer with a body, without a word of byname.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

/// What the original answers to a call that went well.
pub fn ret(value: &str) -> String {
    answer("200 OK", "content-type: application/json\r\n", &format!("{{\"ret\": {value}}}"))
}

/// The headers by which a server says that it is byname's.
pub const BYNAME: &str = "byname-protocol: 1\r\nbyname-ways: plain, path\r\n";

/// Moves the clock of a runtime of one thread, and with it every timer that it passes, without waiting.
pub async fn skip(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Drives a call that must not end until `event` has come.
pub async fn during<F: Future + Unpin, E: Future>(call: &mut F, event: E) -> E::Output {
    tokio::select! {
        _ = call => panic!("the call ended too early"),
        came = within(event) => came,
    }
}

/// Polls a call for the first time: it is on its way, or waits for its turn.
pub async fn start<F: Future + Unpin>(call: &mut F) {
    let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut *call).poll(cx).is_pending()));
    assert!(pending.await, "it ended at once");
}

/// Fills the queue of a listener on `socket`: new connections wait until the returned value is dropped.
pub fn crowded(socket: &Socket) -> Vec<Socket> {
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let waiting = || {
        let caller = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        caller.set_nonblocking(true).unwrap();
        let _ = caller.connect(&address);
        caller
    };
    std::iter::repeat_with(waiting).take(8).collect()
}
