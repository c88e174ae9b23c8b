//! A request whose body is sent while it is made, and an answer that is read while it arrives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::{BodyEnd, HEAD, Http1Connection, KEPT, PIECE, ends, parse_head, says};
use crate::deadline::later;
use crate::outcome::Failure;
use crate::outcome::items::{ItemBatch, Items, NextItems, ROOM};
use crate::transport::TransportStream;
use crate::wire::headers::AnsweringServer;
use crate::wire::stream_lines;

/// A request that is being sent, with the stream of its body.
pub(in crate::client) struct Outflow {
    wire: Vec<u8>,
    /// How much of it has been written.
    written: usize,
    items: Option<Items>,
    /// Whether some of it was written.
    has_begun: bool,
    /// When an item was last taken.
    taken: Option<Instant>,
    /// Why the stream broke off. Its end must not be written then.
    failure: Option<Failure>,
}

/// How the writing of a request ended.
pub(in crate::client) enum Written {
    /// All of it.
    All,
    /// There is an answer already, or the server has closed.
    Answered,
    /// The stream broke off.
    Failed(Failure),
}

impl Outflow {
    /// A request. If it has items, its body is chunked, and `request` ends without a chunk.
    pub(in crate::client) fn new(request: Vec<u8>, body: &Bytes, items: Option<Items>) -> Self {
        let mut wire = request;
        wire.extend_from_slice(body);
        Self { wire, written: 0, items, has_begun: false, taken: None, failure: None }
    }

    pub(in crate::client) fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub(in crate::client) fn items(&mut self) -> Option<&mut Items> {
        self.items.as_mut()
    }

    /// Until when the call waits for an answer. Each item that is sent extends this by `idle`.
    pub(in crate::client) fn until(&self, deadline: Instant, idle: Duration) -> Instant {
        self.taken.map_or(deadline, |taken| later(taken, idle))
    }

    /// Whether everything was sent.
    pub(in crate::client) fn has_ended(&self) -> bool {
        self.items.is_none() && self.wire.is_empty() && self.failure.is_none()
    }

    /// Its items, if none was taken.
    pub(in crate::client) fn into_untouched(self) -> Option<Items> {
        self.items.filter(|_| self.taken.is_none())
    }

    /// Writes the request until it is all written or answered.
    pub(in crate::client) fn poll_request(
        &mut self,
        connection: &mut Http1Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Written>> {
        match self.poll_write(&mut connection.stream, cx) {
            Poll::Ready(Ok(())) => {
                return Poll::Ready(Ok(match self.failure.take() {
                    Some(failure) => Written::Failed(failure),
                    None => Written::All,
                }));
            }
            Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
            Poll::Pending => {}
        }
        loop {
            match ready!(connection.poll_read(cx))? {
                0 => return Poll::Ready(Ok(Written::Answered)),
                _ if connection.is_answered() => return Poll::Ready(Ok(Written::Answered)),
                _ => {}
            }
        }
    }

    /// Continues to write while the answer is read.
    pub(in crate::client) fn poll_rest(
        &mut self,
        connection: &mut Http1Connection,
        cx: &mut Context<'_>,
    ) -> Option<Failure> {
        // If nothing more can be written, the answer says why.
        let _ = self.poll_write(&mut connection.stream, cx);
        self.failure.take()
    }

    /// `count` more bytes were written. The memory of a large item is not kept for the next.
    fn wrote(&mut self, count: usize) {
        self.written += count;
        self.has_begun = true;
        if self.written == self.wire.len() {
            self.written = 0;
            self.wire.clear();
            self.wire.shrink_to(KEPT);
        }
    }

    /// Writes what is ready. Ready when everything was sent, or the stream has broken off.
    fn poll_write(&mut self, stream: &mut TransportStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.wire.is_empty() {
                match ready!(Pin::new(&mut *stream).poll_write(cx, &self.wire[self.written..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => self.wrote(count),
                }
            }
            let flushed = Pin::new(&mut *stream).poll_flush(cx)?;
            let Some(items) = &mut self.items else {
                return flushed.map(Ok);
            };
            match ready!(items.poll_next(cx, ROOM)) {
                NextItems::Batch(ItemBatch::Encoded(batch)) => {
                    self.taken = Some(Instant::now());
                    let length: usize = batch.rest().map(|item| item.len() + 1).sum();
                    self.wire.extend_from_slice(format!("{length:x}\r\n").as_bytes());
                    for item in batch.rest() {
                        self.wire.extend_from_slice(item);
                        self.wire.extend_from_slice(b"\n");
                    }
                    self.wire.extend_from_slice(b"\r\n");
                }
                NextItems::Batch(ItemBatch::Local(_)) | NextItems::End => {
                    self.items = None;
                    self.wire.extend_from_slice(b"0\r\n\r\n");
                }
                NextItems::Failed(failure) => {
                    self.items = None;
                    self.failure = Some(failure);
                }
            }
        }
    }
}

/// The head of an answer whose body is read as it arrives.
pub(in crate::client) struct BegunResponse {
    status: StatusCode,
    pub(in crate::client) headers: HeaderMap,
    pub(in crate::client) server: AnsweringServer,
    body: BodyPosition,
    keeps: bool,
}

impl BegunResponse {
    /// Reads the head of an answer that is a stream. The head of any other answer stays in the buffer, for
    /// [`Http1Connection::answer`].
    pub(in crate::client) async fn read(connection: &mut Http1Connection) -> Result<Option<Self>, String> {
        loop {
            let mut rest = connection.read.clone();
            match parse_head(&mut rest, None)? {
                Some(head) if head.is_announcement() => connection.read = rest,
                Some(head) => {
                    let (ends, is_clear) = ends(head.status, &head.headers)?;
                    let keeps = is_clear && head.is_http11 && !says(&head.headers, "close");
                    let body = match ends {
                        BodyEnd::After(length) => BodyPosition::Counted(length),
                        BodyEnd::Chunked => BodyPosition::Size,
                        BodyEnd::Open => BodyPosition::Open,
                    };
                    let server = AnsweringServer::of(&head.headers);
                    let begun = Self { status: head.status, headers: head.headers, server, body, keeps };
                    if !begun.is_stream() {
                        return Ok(None);
                    }
                    connection.read = rest;
                    return Ok(Some(begun));
                }
                None if connection.read.len() > HEAD => return Err(format!("its head is larger than {HEAD} bytes")),
                None => connection.more("before it answered").await?,
            }
        }
    }

    /// The next piece of a body; `None` at its end.
    pub(in crate::client) fn poll_body(
        &mut self,
        connection: &mut Http1Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, String>> {
        const CUT: &str = "the server closed it in the middle of its answer";
        const CHUNKED: &str = "its body is badly chunked";
        loop {
            match &mut self.body {
                BodyPosition::Ended | BodyPosition::Counted(0) => return Poll::Ready(Ok(None)),
                BodyPosition::Counted(left) if !connection.read.is_empty() => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(connection.read.len());
                    *left -= length as u64;
                    return Poll::Ready(Ok(Some(connection.read.split_to(length).freeze())));
                }
                BodyPosition::Open if !connection.read.is_empty() => {
                    return Poll::Ready(Ok(Some(connection.read.split().freeze())));
                }
                BodyPosition::Size => match httparse::parse_chunk_size(&connection.read) {
                    Ok(httparse::Status::Complete((used, length))) => {
                        connection.read.advance(used);
                        self.body = if length == 0 { BodyPosition::Trailers } else { BodyPosition::Chunk(length) };
                        continue;
                    }
                    Ok(httparse::Status::Partial) if connection.read.len() < PIECE => {}
                    _ => return Poll::Ready(Err(CHUNKED.into())),
                },
                BodyPosition::Chunk(0) if connection.read.len() >= 2 => {
                    if !connection.read.starts_with(b"\r\n") {
                        return Poll::Ready(Err(CHUNKED.into()));
                    }
                    connection.read.advance(2);
                    self.body = BodyPosition::Size;
                    continue;
                }
                BodyPosition::Chunk(left) if *left > 0 && !connection.read.is_empty() => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(connection.read.len());
                    *left -= length as u64;
                    return Poll::Ready(Ok(Some(connection.read.split_to(length).freeze())));
                }
                BodyPosition::Trailers => match connection.read.windows(2).position(|end| end == b"\r\n") {
                    Some(0) => {
                        connection.read.advance(2);
                        self.body = BodyPosition::Ended;
                        continue;
                    }
                    Some(length) => {
                        connection.read.advance(length + 2);
                        continue;
                    }
                    None if connection.read.len() < HEAD => {}
                    None => return Poll::Ready(Err(CHUNKED.into())),
                },
                _ => {}
            }
            match ready!(connection.poll_read(cx)) {
                Ok(0) if matches!(self.body, BodyPosition::Open) => self.body = BodyPosition::Ended,
                Ok(0) => return Poll::Ready(Err(CUT.into())),
                Ok(_) => {}
                Err(why) => return Poll::Ready(Err(why.to_string())),
            }
        }
    }

    /// Whether the connection can be used for another call after this answer.
    pub(in crate::client) fn leaves_for_another(&self, connection: &Http1Connection) -> bool {
        self.keeps && connection.read.is_empty() && matches!(self.body, BodyPosition::Ended | BodyPosition::Counted(0))
    }

    fn is_stream(&self) -> bool {
        self.status == StatusCode::OK && stream_lines::is(&self.headers)
    }
}

/// The position of the reader in a body.
#[derive(Debug)]
enum BodyPosition {
    Counted(u64),
    Open,
    /// Before the size of a chunk.
    Size,
    /// In a chunk, or at its end.
    Chunk(u64),
    Trailers,
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_goes_out_releases_the_memory_of_a_large_item() {
        let mut out = Outflow::new(vec![0; 100], &Bytes::from(vec![0; 5 << 20]), None);
        out.wrote(1 << 20);
        assert!(!out.has_ended());
        out.wrote((4 << 20) + 100);
        assert!(out.has_ended() && out.wire.capacity() <= KEPT, "{}", out.wire.capacity());
    }
}
