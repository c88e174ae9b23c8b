//! What is on the wire, in little endian: `u32 length | u64 id | u16 method | payload`. The length counts what follows it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

pub const ADD: u16 = 0;
pub const RECORD: u16 = 1;
pub const PAYLOAD: u16 = 2;
/// Its reply is a frame for each number, and one of [`END`].
pub const NUMBERS: u16 = 3;
pub const END: u16 = 4;

#[derive(Clone, Copy)]
pub struct Head {
    pub id: u64,
    pub method: u16,
}

const LENGTH: usize = 4;
const HEAD: usize = LENGTH + 8 + 2;

/// Payloads of this size and above are never copied: they are read to where they stay, and written from there.
const LARGE: usize = 32 << 10;

pub enum Payload<'b> {
    Small(&'b [u8]),
    Large(Bytes),
}

impl AsRef<[u8]> for Payload<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Payload::Small(bytes) => bytes,
            Payload::Large(bytes) => bytes,
        }
    }
}

/// Frames on their way out.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// Large payloads, each with the number of `bytes` that go before it.
    large: VecDeque<(usize, Bytes)>,
    /// How many of all these were written.
    written: usize,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Without large payloads.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a frame whose payload `put` appends, or returns to have it sent from where it is.
    pub fn push(&mut self, head: Head, put: impl FnOnce(&mut Vec<u8>) -> Option<Bytes>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH]);
        self.bytes.extend_from_slice(&head.id.to_le_bytes());
        self.bytes.extend_from_slice(&head.method.to_le_bytes());
        let mut length = 0;
        match put(&mut self.bytes) {
            Some(payload) if payload.len() >= LARGE => {
                length = payload.len();
                self.large.push_back((self.bytes.len(), payload));
            }
            Some(payload) => self.bytes.extend_from_slice(&payload),
            None => {}
        }
        length += self.bytes.len() - start - LENGTH;
        let length = u32::try_from(length).expect("no payload has 4 GiB");
        self.bytes[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
    }

    /// Writes until all is written.
    pub fn poll_write(&mut self, mut stream: Pin<&mut impl AsyncWrite>, cx: &mut Context) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let count = if self.large.is_empty() {
                ready!(stream.as_mut().poll_write(cx, &self.bytes[self.written..]))?
            } else {
                ready!(stream.as_mut().poll_write_vectored(cx, &self.slices()))?
            };
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut parts = Vec::with_capacity(2 * self.large.len() + 1);
        let mut end = 0;
        for (position, payload) in &self.large {
            parts.push(&self.bytes[end..*position]);
            parts.push(payload);
            end = *position;
        }
        parts.push(&self.bytes[end..]);
        let mut written = self.written;
        let rest = parts.into_iter().map(|part| {
            let skipped = written.min(part.len());
            written -= skipped;
            &part[skipped..]
        });
        rest.filter(|part| !part.is_empty()).take(IOV_MAX).map(IoSlice::new).collect()
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some((position, payload)) = self.large.front() {
            let (position, end) = (*position, position + payload.len());
            if self.written < end {
                return;
            }
            // What is before its end is gone, and every position after it moves.
            self.large.pop_front();
            self.written -= end;
            self.bytes.drain(..position);
            for (later, _) in &mut self.large {
                *later -= position;
            }
        }
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }
}

const IOV_MAX: usize = 1024;

/// Frames on their way in.
pub struct Incoming {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    large: Option<Large>,
}

struct Large {
    head: Head,
    payload: Vec<u8>,
    length: usize,
}

impl Incoming {
    pub fn new() -> Self {
        Incoming { buffer: vec![0; 64 << 10].into(), start: 0, end: 0, large: None }
    }

    /// Reads once. `false` is the end of the connection.
    pub fn poll_read(&mut self, mut stream: Pin<&mut impl AsyncRead>, cx: &mut Context) -> Poll<io::Result<bool>> {
        if let Some(Large { payload, length, .. }) = &mut self.large {
            let missing = *length - payload.len();
            let count = ready!(poll_read_buf(stream, cx, &mut payload.limit(missing)))?;
            return Poll::Ready(Ok(count > 0));
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut free = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(stream.as_mut().poll_read(cx, &mut free))?;
        let count = free.filled().len();
        self.end += count;
        Poll::Ready(Ok(count > 0))
    }

    /// The next frame that is there as a whole.
    pub fn next(&mut self) -> Option<(Head, Payload<'_>)> {
        if self.large.is_none() {
            let (head, rest) = self.buffer[self.start..self.end].split_at_checked(HEAD)?;
            let (length, head) = head.split_at(LENGTH);
            let (id, method) = head.split_at(8);
            let head = Head { id: u64::from_le_bytes(array(id)), method: u16::from_le_bytes(array(method)) };
            let length = u32::from_le_bytes(array(length)) as usize + LENGTH - HEAD;
            if length < LARGE {
                let payload = rest.get(..length)?;
                self.start += HEAD + length;
                return Some((head, Payload::Small(payload)));
            }
            let here = length.min(rest.len());
            let mut payload = Vec::with_capacity(length);
            payload.extend_from_slice(&rest[..here]);
            self.start += HEAD + here;
            self.large = Some(Large { head, payload, length });
        }
        let large = self.large.take_if(|large| large.payload.len() == large.length)?;
        Some((large.head, Payload::Large(large.payload.into())))
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("it was split to be as long")
}
