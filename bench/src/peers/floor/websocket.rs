//! The messages of WebSocket (RFC 6455) around what is written at once, as byname has them: binary, unfragmented, masked
//! by the client with a key of its own for each. There is no handshake, and neither pings nor a close: they are no part
//! of a call.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is around the frames on the wire.
pub trait Framing: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    fn client(stream: TcpStream) -> Self;
    fn server(stream: TcpStream) -> Self;
}

/// Nothing: each frame says its length.
impl Framing for TcpStream {
    fn client(stream: TcpStream) -> Self {
        stream
    }

    fn server(stream: TcpStream) -> Self {
        stream
    }
}

/// The longest message: the longest piece of a message that byname sends.
const LONGEST: usize = 64 << 10;

const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;

pub struct WebSocket {
    stream: TcpStream,
    /// What a client's keys come from, keyed by the operating system's randomness, and how many there were.
    keys: Option<(RandomState, u64)>,
    /// The message that is being written, and how much of it was.
    wire: Vec<u8>,
    written: usize,
    /// How many bytes of the caller's are in it.
    taken: usize,
    /// What came of the next message's header.
    header: Vec<u8>,
    /// How much is still to come of a message, and the key, turned to its next byte.
    left: usize,
    key: [u8; 4],
}

impl Framing for WebSocket {
    fn client(stream: TcpStream) -> Self {
        Self::new(stream, Some((RandomState::new(), 0)))
    }

    fn server(stream: TcpStream) -> Self {
        Self::new(stream, None)
    }
}

impl WebSocket {
    fn new(stream: TcpStream, keys: Option<(RandomState, u64)>) -> Self {
        WebSocket {
            stream,
            keys,
            wire: Vec::new(),
            written: 0,
            taken: 0,
            header: Vec::with_capacity(14),
            left: 0,
            key: [0; 4],
        }
    }

    fn put(&mut self, parts: &[IoSlice]) {
        let length = parts.iter().map(|part| part.len()).sum::<usize>().min(LONGEST);
        let masked = if self.keys.is_some() { MASKED } else { 0 };
        self.wire.reserve(length + 14);
        self.wire.push(BINARY);
        match length {
            0..126 => self.wire.push(masked | length as u8),
            126..=0xffff => {
                self.wire.push(masked | 126);
                self.wire.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.wire.push(masked | 127);
                self.wire.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let key = self.keys.as_mut().map(|(state, count)| {
            *count += 1;
            (state.hash_one(*count) as u32).to_ne_bytes()
        });
        self.wire.extend_from_slice(key.as_ref().map_or(&[], |key| key.as_slice()));
        let start = self.wire.len();
        let mut room = length;
        for part in parts {
            let part = &part[..part.len().min(room)];
            self.wire.extend_from_slice(part);
            room -= part.len();
        }
        if let Some(key) = key {
            mask(&mut self.wire[start..], key);
        }
        self.taken = length;
    }

    /// Leaves what the messages in `bytes` bear at its front, and says how much that is.
    fn unwrap(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() {
            if self.left == 0 {
                self.header.push(bytes[from]);
                from += 1;
                self.read_header()?;
                continue;
            }
            let count = self.left.min(bytes.len() - from);
            if from != to {
                bytes.copy_within(from..from + count, to);
            }
            if self.keys.is_none() {
                mask(&mut bytes[to..to + count], self.key);
                self.key.rotate_left(count % 4);
            }
            (from, to, self.left) = (from + count, to + count, self.left - count);
        }
        Ok(to)
    }

    /// Begins a message once its header is there.
    fn read_header(&mut self) -> io::Result<()> {
        let is_server = self.keys.is_none();
        let (&[first, second], rest) = match self.header.split_first_chunk() {
            Some(split) => split,
            None => return Ok(()),
        };
        if first != BINARY || (second & MASKED != 0) != is_server {
            return Err(ErrorKind::InvalidData.into());
        }
        let wide = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if rest.len() < wide + if is_server { 4 } else { 0 } {
            return Ok(());
        }
        let (length, key) = rest.split_at(wide);
        self.left = match wide {
            0 => usize::from(second & !MASKED),
            _ => length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        };
        self.key = key.try_into().unwrap_or_default();
        self.header.clear();
        Ok(())
    }

    fn poll_wire(&mut self, cx: &mut Context) -> Poll<io::Result<usize>> {
        while self.written < self.wire.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.wire[self.written..]))? {
                0 => return Poll::Ready(Ok(0)),
                count => self.written += count,
            }
        }
        self.wire.clear();
        self.written = 0;
        Poll::Ready(Ok(self.taken))
    }
}

fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (at, byte) in rest.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let came = &mut buf.filled_mut()[before..];
            let is_end = came.is_empty();
            let count = this.unwrap(came)?;
            buf.set_filled(before + count);
            // A header alone is nothing yet.
            if is_end || count > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Whoever writes comes again with the same bytes until they are taken.
impl AsyncWrite for WebSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.wire.is_empty() {
            this.put(parts);
        }
        this.poll_wire(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
