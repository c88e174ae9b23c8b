//! A TCP connection that carries frames: [`FrameSocket`].

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::keepalive::{Keepalive, KeepaliveAction};
use super::websocket::{WebSocketMessage, WebSocketReader, WebSocketRole, WebSocketWriter};
use super::wire_buffer::{SLICES, WireBuffer};
use super::{Violation, WriteQueue};
use crate::deadline::later;

/// The room for one read, at first and at most. After a read that fills it the next one gets more.
const FIRST_READ: usize = 4 << 10;
const READ: usize = 64 << 10;

/// The most room that stays reserved for the next write and for the next read.
const WRITE_ROOM: usize = 5 << 18;
const READ_ROOM: usize = 256 << 10;

/// While more bytes of pongs than this wait to be written, nothing is read.
const PONGS: usize = 64 << 10;

/// Reads messages, and writes the frames of a [`WriteQueue`].
#[derive(Debug)]
pub(crate) struct FrameSocket<S> {
    stream: S,
    read: BytesMut,
    /// Room for the next read.
    room: usize,
    /// The most room that `read` has had. Messages that were taken share its memory, so its own capacity doesn't show it.
    most_room: usize,
    reader: WebSocketReader,
    writer: WebSocketWriter,
    wire: WireBuffer,
    /// Whether the stream holds bytes that it has not passed on.
    is_unflushed: bool,
    /// Whether some bytes were written of what was taken from the queue last.
    has_begun: bool,
    /// Whether the peer accepted no more bytes at the last write.
    is_full: bool,
    /// Whether the peer accepted bytes after it had accepted none.
    has_progressed: bool,
    /// The bytes of pongs since everything was written.
    pongs: usize,
    /// Whether the peer has sent a close frame.
    is_closed: bool,
    /// Whether something came since the last [`patience`](Self::patience).
    has_read: bool,
    keepalive: Keepalive,
    blocked_since: Option<Instant>,
}

/// Why a connection is given up.
#[derive(Debug)]
pub(crate) enum GivenUp {
    /// The peer does not answer a ping.
    Silent,
    /// The peer accepts nothing that is written.
    Stalled,
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum SocketEnd {
    /// The peer closed it.
    Closed,
    Violation(Violation),
    Io(io::Error),
}

impl fmt::Display for SocketEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed it"),
            Self::Violation(violation) => violation.fmt(f),
            Self::Io(why) => why.fmt(f),
        }
    }
}

impl From<io::Error> for SocketEnd {
    fn from(why: io::Error) -> Self {
        Self::Io(why)
    }
}

impl From<Violation> for SocketEnd {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameSocket<S> {
    /// `early` are bytes that were read from the stream before.
    pub(crate) fn new(stream: S, side: WebSocketRole, early: &[u8], now: Instant) -> Self {
        let mut read = BytesMut::with_capacity(FIRST_READ.max(early.len()));
        read.extend_from_slice(early);
        let shares = side == WebSocketRole::Server && stream.is_write_vectored();
        Self {
            stream,
            read,
            room: FIRST_READ,
            most_room: 0,
            reader: WebSocketReader::new(side),
            writer: WebSocketWriter::new(side),
            wire: WireBuffer::new(shares),
            is_unflushed: false,
            has_begun: false,
            is_full: false,
            has_progressed: false,
            pongs: 0,
            is_closed: false,
            has_read: !early.is_empty(),
            keepalive: Keepalive::new(now),
            blocked_since: None,
        }
    }

    /// The next complete message of frames.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Violation> {
        while let Some(message) = self.reader.next(&mut self.read)? {
            match message {
                WebSocketMessage::Binary(frames) => return Ok(Some(frames.freeze())),
                WebSocketMessage::Ping(payload) => {
                    self.make_room();
                    self.pongs += payload.len() + 2;
                    self.writer.pong(&payload, self.wire.own());
                }
                WebSocketMessage::Pong => {}
                WebSocketMessage::Close => {
                    self.is_closed = true;
                    self.writer.close(1000, "", self.wire.own());
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Reads from the stream. Its end is an error, announced or not.
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketEnd>> {
        if self.is_closed {
            return Poll::Ready(Err(SocketEnd::Closed));
        }
        // A peer that reads no pongs gets no more of them. Reading continues when they are written.
        if self.pongs >= PONGS {
            return Poll::Pending;
        }
        if self.most_room > READ_ROOM && self.read.is_empty() {
            self.release_read();
        }
        if self.read.capacity() - self.read.len() < self.room / 4 {
            self.read.reserve(self.room);
        }
        self.most_room = self.most_room.max(self.read.capacity());
        let there_is = self.read.capacity() - self.read.len();
        match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read))? {
            0 => Poll::Ready(Err(SocketEnd::Closed)),
            count => {
                if count == there_is {
                    self.room = (self.room * 4).min(READ);
                }
                self.has_read = true;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes the frames of the queue, as far as the peer accepts them. Ready when all are written.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, write_queue: &mut WriteQueue) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(cx))?;
            if write_queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.fill(write_queue);
        }
    }

    /// Takes what is to be written next from the queue.
    pub(crate) fn fill(&mut self, write_queue: &mut WriteQueue) {
        self.make_room();
        self.has_begun = false;
        write_queue.fill(&mut self.writer, &mut self.wire);
    }

    fn make_room(&mut self) {
        if self.has_written_all() {
            self.wire.clear(WRITE_ROOM);
        }
    }

    #[cold]
    fn release_read(&mut self) {
        self.read = BytesMut::from(&self.read[..]);
        (self.room, self.most_room) = (FIRST_READ, 0);
    }

    /// Releases memory that a quiet connection doesn't need.
    #[cold]
    fn release(&mut self) {
        if self.has_written_all() {
            self.wire.clear(0);
        }
        if self.read.is_empty() {
            self.release_read();
        }
    }

    /// Writes what was taken from the queue. Ready when all is written.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_written_all() { Poll::Ready(Ok(())) } else { self.poll_unwritten(cx) }
    }

    fn poll_unwritten(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.wire.is_written() {
            let stream = Pin::new(&mut self.stream);
            let polled = match self.wire.single() {
                Some(bytes) => stream.poll_write(cx, bytes),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let count = self.wire.slices(&mut slices);
                    stream.poll_write_vectored(cx, &slices[..count])
                }
            };
            let was_full = std::mem::replace(&mut self.is_full, polled.is_pending());
            match ready!(polled)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    self.wire.advance(count);
                    self.is_unflushed = true;
                    self.has_begun = true;
                    self.has_progressed |= was_full;
                }
            }
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        let was_full = std::mem::replace(&mut self.is_full, polled.is_pending());
        ready!(polled)?;
        self.is_unflushed = false;
        self.has_progressed |= was_full;
        self.pongs = 0;
        Poll::Ready(Ok(()))
    }

    /// Whether everything that was taken from the queue is written.
    pub(crate) fn has_written_all(&self) -> bool {
        self.wire.is_written() && !self.is_unflushed
    }

    /// Whether no byte is written of what was taken from the queue last.
    pub(crate) fn has_written_none(&self) -> bool {
        !self.has_begun
    }

    /// Until when the peer may be quiet or blocked. Sends a ping if it is due. Call this when nothing else can be done.
    /// `is_blocked` says that the peer accepts no more bytes, which is allowed for `write_progress`.
    pub(crate) fn patience(
        &mut self,
        is_blocked: bool,
        write_progress: Duration,
        now: Instant,
    ) -> Result<Instant, GivenUp> {
        let has_progressed = self.note_heard(now);
        if has_progressed || !is_blocked {
            self.blocked_since = None;
        }
        let at = match self.keepalive.next(now) {
            KeepaliveAction::At(at) => at,
            KeepaliveAction::Ask => {
                self.release();
                self.writer.ping(self.wire.own());
                return Ok(now);
            }
            KeepaliveAction::Dead => return Err(GivenUp::Silent),
        };
        if !is_blocked {
            return Ok(at);
        }
        let until = later(*self.blocked_since.get_or_insert(now), write_progress);
        if until <= now { Err(GivenUp::Stalled) } else { Ok(at.min(until)) }
    }

    /// As [`patience`](Self::patience) of a socket that is not blocked, and whose peer has been heard of a moment ago, so that nothing is
    /// due earlier than what was due before. `false` if something may be.
    #[inline]
    pub(crate) fn goes_on(&mut self, now: Instant) -> bool {
        self.note_heard(now);
        self.blocked_since.is_none()
    }

    /// Notes that the peer is there, if it was heard of since the last call of this. Returns whether it has read what blocked the socket.
    #[inline]
    fn note_heard(&mut self, now: Instant) -> bool {
        let has_progressed = std::mem::take(&mut self.has_progressed);
        if std::mem::take(&mut self.has_read) || has_progressed {
            self.keepalive.heard(now);
        }
        has_progressed
    }

    /// Whether the peer has sent a close frame, and was answered.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Sends a close frame with a code of RFC 6455, section 7.4.
    pub(crate) fn close(&mut self, code: u16, why: &str) {
        self.writer.close(code, why, self.wire.own());
    }

    /// Ignores what still comes, until the peer has closed as well.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.read.clear();
            self.read.reserve(1024);
            match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::frames::header::{FrameHeader, kind};

    #[tokio::test]
    async fn a_socket_releases_the_memory_of_large_messages() {
        let now = Instant::now();
        let (near, far) = tokio::io::duplex(16 << 20);
        let mut writes = FrameSocket::new(near, WebSocketRole::Client, b"", now);
        let mut reads = FrameSocket::new(far, WebSocketRole::Server, b"", now);
        let mut write_queue = WriteQueue::new();
        // One message of almost 1 MiB in one frame, which other implementations may send, and then many frames at once.
        let long = vec![7; (1 << 20) - 100];
        writes.writer.binary(&[&long], writes.wire.own());
        for id in 0..4096 {
            write_queue.put(FrameHeader::new(kind::CALL, 0, 0, id), |frames| frames.extend_from_slice(&[7; 1000]));
        }
        poll_fn(|cx| writes.poll_write(cx, &mut write_queue)).await.unwrap();
        writes.make_room();
        assert!(writes.wire.capacity() <= WRITE_ROOM, "{}", writes.wire.capacity());

        let mut longest = 0;
        let mut left = long.len() + 4096 * 1016;
        while left > 0 {
            poll_fn(|cx| reads.poll_read(cx)).await.unwrap();
            while let Some(message) = reads.next().unwrap() {
                left -= message.len();
                longest = longest.max(message.len());
            }
        }
        assert_eq!(longest, long.len());
        assert!(!reads.read.try_reclaim(2 * READ_ROOM + 1));

        let asked = now + Duration::from_secs(21);
        assert!(
            reads.patience(false, Duration::MAX, now).is_ok() && reads.patience(false, Duration::MAX, asked).is_ok()
        );
        assert!(!reads.read.try_reclaim(FIRST_READ + 1), "the peer is quiet");
    }
}
