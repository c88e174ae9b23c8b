//! The other end of a connection with frames, without any code of byname. A test decides what it sends, valid or not.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::foreign::Open;
use super::within;

pub const HELLO: u8 = 1;
pub const NAME: u8 = 2;
pub const CALL: u8 = 3;
pub const REPLY: u8 = 4;
pub const ERROR: u8 = 5;
pub const CANCEL: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const LOAD: u8 = 11;

pub const MORE: u8 = 1;
pub const METADATA: u8 = 2;
pub const MIXED: u8 = 4;

/// The first byte of a WebSocket frame that is the only one of its message.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a client says first, of the JSON codec.
pub const GREETING: &str = r#"{"version":1,"codecs":["json"]}"#;

pub fn frame(kind: u8, flags: u8, number: u16, id: u64, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A call that waits for a minute, its arguments in JSON.
pub fn call(number: u16, id: u64, arguments: &str) -> Vec<u8> {
    frame(CALL, 0, number, id, [&60_000u32.to_be_bytes(), arguments.as_bytes()].concat())
}

/// A WebSocket frame, masked or not, that begins with this byte.
pub fn message(first: u8, is_masked: bool, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let masked = if is_masked { 0x80 } else { 0 };
    let mut message = vec![first];
    match payload.len() {
        length @ 0..126 => message.push(masked | length as u8),
        length @ 126..=0xffff => {
            message.push(masked | 126);
            message.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            message.push(masked | 127);
            message.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if is_masked {
        let key = [1, 2, 3, 4];
        message.extend_from_slice(&key);
        message.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        message.extend_from_slice(payload);
    }
    message
}

/// What answers a key: RFC 6455, section 4.2.2.
pub fn accept(key: &str) -> String {
    let digest = sha1_smol::Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest();
    BASE64_STANDARD.encode(digest.bytes())
}

/// The request for an upgrade, with other headers than usual where a test says so.
pub fn asking(change: impl FnOnce(&mut Vec<(&'static str, String)>)) -> String {
    let usual = [
        ("host", "localhost"),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "byname.v1"),
        ("sec-websocket-key", KEY),
    ];
    let mut headers: Vec<_> = usual.map(|(name, value)| (name, value.to_owned())).into();
    change(&mut headers);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /rpc HTTP/1.1\r\n{headers}\r\n")
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub number: u16,
    pub id: u64,
    pub payload: Vec<u8>,
}

impl Frame {
    /// What a call asks for, without its time-out.
    pub fn arguments(&self) -> &str {
        assert_eq!((self.kind, self.flags), (CALL, 0), "{self:?}");
        str::from_utf8(&self.payload[4..]).unwrap()
    }

    /// The error of an ERROR without metadata.
    pub fn error(&self) -> Value {
        assert_eq!((self.kind, self.flags), (ERROR, 0), "{self:?}");
        let length = u32::from_be_bytes(self.payload[..4].try_into().unwrap()) as usize;
        serde_json::from_slice(&self.payload[4..4 + length]).unwrap()
    }
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    Frame(Frame),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
    /// The connection has ended, with or without a word.
    End,
}

pub struct Peer<S = TcpStream> {
    pub stream: S,
    early: Vec<u8>,
    /// The rest of the message that came last.
    frames: Vec<u8>,
    is_client: bool,
    /// What the server has said in its HELLO.
    pub hello: Value,
    _open: Option<Open>,
}

impl Peer {
    /// A client that has gone over to frames and has read the server's HELLO, but said nothing.
    pub async fn to(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap()).await
    }

    /// As [`to`](Self::to), with a receive buffer of this size.
    pub async fn with_buffer(address: SocketAddr, size: u32) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(size).unwrap();
        Self::on(socket.connect(address).await.unwrap()).await
    }

    /// As [`to`](Self::to), with other headers on the request for the upgrade.
    pub async fn asking_with(address: SocketAddr, change: impl FnOnce(&mut Vec<(&'static str, String)>)) -> Self {
        Self::after(asking(change), TcpStream::connect(address).await.unwrap()).await
    }

    /// As [`calling`](Self::calling), where the endpoint is at another path.
    pub async fn asking_at(address: SocketAddr, path: &str, name: &str) -> Self {
        let asking = asking(|_| ()).replacen("/rpc", path, 1);
        let mut peer = Self::after(asking, TcpStream::connect(address).await.unwrap()).await;
        peer.say([frame(HELLO, 0, 0, 0, GREETING), frame(NAME, 0, 0, 0, name)].concat()).await;
        peer
    }

    /// As [`to`](Self::to), and has said HELLO, and that the number 0 stands for a name.
    pub async fn calling(address: SocketAddr, name: &str) -> Self {
        let mut peer = Self::to(address).await;
        peer.say([frame(HELLO, 0, 0, 0, GREETING), frame(NAME, 0, 0, 0, name)].concat()).await;
        peer
    }

    async fn on(stream: TcpStream) -> Self {
        Self::after(asking(|_| ()), stream).await
    }

    /// Closes by RST: whatever was not read yet is lost.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// As [`to`](Self::to), on a connection that there is, by this request.
    pub async fn asking(stream: S, request: String) -> Self {
        Self::after(request, stream).await
    }

    async fn after(asking: String, stream: S) -> Self {
        let (early, frames, hello) = (Vec::new(), Vec::new(), Value::Null);
        let mut peer = Self { stream, early, frames, is_client: true, hello, _open: None };
        peer.send(asking).await;
        let end = loop {
            if let Some(end) = peer.early.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(peer.more().await, "closed after {:?}", String::from_utf8_lossy(&peer.early));
        };
        let head = String::from_utf8(peer.early.drain(..end).collect()).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains(&format!("sec-websocket-accept: {}\r\n", accept(KEY).to_lowercase())), "{head}");
        assert!(head.contains("sec-websocket-protocol: byname.v1\r\n"), "{head}");
        let hello = peer.frame().await;
        assert_eq!((hello.kind, peer.frames.len()), (HELLO, 0), "it has a message of its own");
        peer.hello = serde_json::from_slice(&hello.payload).unwrap();
        peer
    }

    /// The side that was connected to.
    pub fn serving(stream: S, early: Vec<u8>, open: Open) -> Self {
        Self { stream, early, frames: Vec::new(), is_client: false, hello: Value::Null, _open: Some(open) }
    }

    /// Says HELLO as a server that takes JSON alone, and reads the client's.
    pub async fn greet(&mut self, hello: &Value) {
        self.say(frame(HELLO, 0, 0, 0, hello.to_string())).await;
        assert_eq!(self.frame().await.kind, HELLO);
    }

    /// Sends bytes as they are; whether the other side still takes them is seen by what it answers.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends frames in one message.
    pub async fn say(&mut self, frames: impl AsRef<[u8]>) {
        self.send(message(BINARY, self.is_client, frames)).await;
    }

    /// Sends frames in a message each.
    pub async fn say_each(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) {
        let all: Vec<u8> = frames.into_iter().flat_map(|frame| message(BINARY, self.is_client, frame)).collect();
        self.send(all).await;
    }

    /// The next frame. LOAD is skipped. Pings are answered, pongs are ignored.
    pub async fn frame(&mut self) -> Frame {
        loop {
            match self.next().await {
                Came::Frame(frame) if frame.kind == LOAD => {}
                Came::Frame(frame) => return frame,
                Came::Ping => self.send(message(0x8a, self.is_client, "")).await,
                Came::Pong(_) => {}
                other => panic!("expected a frame, got {other:?}"),
            }
        }
    }

    /// All frames of the next message.
    pub async fn message(&mut self) -> Vec<Frame> {
        let Came::Frame(first) = self.next().await else { panic!("expected frames") };
        let rest = std::iter::from_fn(|| self.take_frame());
        [first].into_iter().chain(rest).collect()
    }

    /// The next call, whatever names come before it.
    pub async fn called(&mut self) -> Frame {
        loop {
            let frame = self.frame().await;
            match frame.kind {
                CALL => return frame,
                NAME => {}
                _ => panic!("expected a call, got {frame:?}"),
            }
        }
    }

    /// Takes what comes until the other side closes, and gives its last word.
    pub async fn closed(&mut self) -> (u16, String) {
        let mut last = None;
        loop {
            match self.next().await {
                Came::Close(code, why) => last = Some((code, why)),
                Came::End => return last.expect("it was closed without a word"),
                _ => {}
            }
        }
    }

    pub async fn next(&mut self) -> Came {
        loop {
            if let Some(frame) = self.take_frame() {
                return Came::Frame(frame);
            }
            if let Some((opcode, payload)) = self.take_message() {
                match opcode {
                    2 => self.frames = payload,
                    8 if payload.is_empty() => return Came::Close(1005, String::new()),
                    8 => {
                        let (code, why) = payload.split_at(2);
                        let code = u16::from_be_bytes(code.try_into().unwrap());
                        return Came::Close(code, String::from_utf8(why.to_vec()).unwrap());
                    }
                    9 => return Came::Ping,
                    10 => return Came::Pong(payload),
                    _ => panic!("an opcode that byname never sends: {opcode}"),
                }
                continue;
            }
            if !self.more().await {
                return Came::End;
            }
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        take_frame(&mut self.frames)
    }

    fn take_message(&mut self) -> Option<(u8, Vec<u8>)> {
        take_message(&mut self.early, !self.is_client)
    }

    async fn more(&mut self) -> bool {
        // Either side may close by RST.
        within(self.stream.read_buf(&mut self.early)).await.is_ok_and(|count| count > 0)
    }
}

/// The frames in all that a client has sent since its handshake, but those whose message is not whole yet.
pub fn sent_by_a_client(bytes: &[u8]) -> Vec<Frame> {
    let (mut messages, mut frames) = (bytes.to_vec(), Vec::new());
    while let Some((opcode, mut message)) = take_message(&mut messages, true) {
        if opcode == 2 {
            frames.extend(std::iter::from_fn(|| take_frame(&mut message)));
        }
    }
    frames
}

/// The next of the frames in a message.
pub fn take_frame(message: &mut Vec<u8>) -> Option<Frame> {
    if message.is_empty() {
        return None;
    }
    let length = u32::from_be_bytes(message[..4].try_into().unwrap()) as usize;
    let bytes: Vec<u8> = message.drain(..16 + length).collect();
    Some(Frame {
        kind: bytes[4],
        flags: bytes[5],
        number: u16::from_be_bytes([bytes[6], bytes[7]]),
        id: u64::from_be_bytes(bytes[8..16].try_into().unwrap()),
        payload: bytes[16..].to_vec(),
    })
}

/// One WebSocket frame, which is always a whole message; `None` until all of it is there.
pub fn take_message(bytes: &mut Vec<u8>, is_masked: bool) -> Option<(u8, Vec<u8>)> {
    let &[first, second, ..] = bytes.as_slice() else {
        return None;
    };
    assert_eq!(first & 0xf0, 0x80, "a fragment, or reserved bits");
    assert_eq!(second & 0x80 != 0, is_masked, "who sent this masks");
    let (length, mut at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()), 10),
        short => (u64::from(short), 2),
    };
    let key: [u8; 4] = match is_masked {
        false => [0; 4],
        true => {
            at += 4;
            bytes.get(at - 4..at)?.try_into().unwrap()
        }
    };
    let payload = bytes.get(at..at + length as usize)?;
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    bytes.drain(..at + length as usize);
    Some((first & 0x0f, payload))
}
