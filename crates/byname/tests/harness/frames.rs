//! A client of HTTP/2 that sends any frame it is told to.

use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::within;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS; the same bit is ACK in SETTINGS and PING.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const SETTING_INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a RST_STREAM or a GOAWAY.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a HEADERS, which is its first field, on a connection that had no other answer before.
    pub fn status(&self) -> u16 {
        match self.payload[0] {
            0x48 => {
                let length = self.payload[1];
                number(&self.payload[2..2 + usize::from(length & 0x7f)], length & 0x80 != 0)
            }
            indexed => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        }
    }
}

/// Three digits, as they are or by Huffman's code, in which 0, 1 and 2 have five bits and the others six.
fn number(text: &[u8], by_huffman: bool) -> u16 {
    if !by_huffman {
        return std::str::from_utf8(text).unwrap().parse().unwrap();
    }
    let bits: Vec<u16> = text.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1))).collect();
    let (mut number, mut at) = (0, 0);
    for _ in 0..3 {
        let read = |length: usize| bits[at..at + length].iter().fold(0, |code, bit| code << 1 | bit);
        let (digit, length) = if read(5) <= 2 { (read(5), 5) } else { (read(6) - 0b01_1001 + 3, 6) };
        (number, at) = (number * 10 + digit, at + length);
    }
    number
}

/// One connection to a server.
pub struct Http2 {
    pub stream: TcpStream,
    early: Vec<u8>,
    is_open: bool,
}

impl Http2 {
    /// Connects and says the preface with these settings.
    pub async fn to(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut http2 = Self { stream, early: Vec::new(), is_open: true };
        let settings: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        http2.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        http2.send(frame(SETTINGS, 0, 0, &settings)).await;
        http2
    }

    /// Sends bytes, and takes in meanwhile what comes, so that a server which must answer them can. What can't be sent
    /// any more is seen by what the server said last.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let mut bytes = bytes.as_ref();
        while self.is_open && !bytes.is_empty() {
            let ready = within(self.stream.ready(Interest::READABLE | Interest::WRITABLE)).await.unwrap();
            if ready.is_readable() {
                self.take_in();
            }
            if ready.is_writable() {
                match self.stream.try_write(bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return self.last_words(),
                }
            }
        }
    }

    /// The next frame, `None` at the end of the connection. A ping of the server's is answered.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(received) = self.taken() {
                if received.kind == PING && received.flags & ACK == 0 {
                    self.send(frame(PING, ACK, 0, &received.payload)).await;
                }
                return Some(received);
            }
            if !self.is_open {
                return None;
            }
            within(self.stream.readable()).await.unwrap();
            self.take_in();
        }
    }

    /// The next frame of this kind.
    pub async fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.unwrap_or_else(|| panic!("closed without a frame of kind {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// A frame that has come already.
    pub fn taken(&mut self) -> Option<Frame> {
        let head = self.early.get(..9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & (u32::MAX >> 1);
        let (kind, flags) = (head[3], head[4]);
        let payload = self.early.get(9..9 + length)?.to_vec();
        self.early.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// The error of the GOAWAY with which the server ended the connection, if it has said one.
    pub async fn ended(&mut self) -> Option<u32> {
        let mut error = None;
        while let Some(frame) = self.frame().await {
            if frame.kind == GOAWAY {
                error = Some(frame.error());
            }
        }
        error
    }

    fn take_in(&mut self) {
        match self.stream.try_read_buf(&mut self.early) {
            Ok(0) => self.is_open = false,
            Ok(_) => {}
            Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {}
            // A server that had bytes left to read closes by RST.
            Err(_) => self.is_open = false,
        }
    }

    fn last_words(&mut self) {
        while self.is_open && self.stream.try_read_buf(&mut self.early).is_ok_and(|count| count > 0) {}
        self.is_open = false;
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// One header field, as it is.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 128);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(text.as_bytes());
    out
}

/// The fields of a request.
pub fn fields(method: &str, path: &str) -> Vec<u8> {
    [field(":method", method), field(":scheme", "http"), field(":path", path), field(":authority", "localhost")]
        .concat()
}

/// A request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields("GET", path))
}

/// A request with a body.
pub fn post(stream: u32, path: &str, body: &str) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &fields("POST", path));
    [head, frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}
