//! A TCP connection that carries frames: [`FrameSocket`].

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::header::{FrameHeader, HEADER};
use super::keepalive::{Keepalive, KeepaliveAction};
use super::message_assembly::PieceInPlace;
use super::websocket::{self, IncompleteMessage, WebSocketMessage, WebSocketReader, WebSocketRole, WebSocketWriter};
use super::wire_buffer::{SLICES, WireBuffer};
use super::{MessageAssembly, Violation, WriteQueue};
use crate::deadline::later;

/// The room for one read, at first and at most. After a read that fills it the next one gets more.
const FIRST_READ: usize = 4 << 10;
const READ: usize = 64 << 10;

/// The most room that stays reserved for the next write and for the next read.
const WRITE_ROOM: usize = 5 << 18;
const READ_ROOM: usize = 256 << 10;

/// The room for the read after a piece of a large message, for the headers of the next one.
const AFTER_PIECE: usize = 1 << 10;

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
    /// The piece of a large message that is being read into the buffer of its message.
    incoming: Option<IncomingPiece>,
    /// Whether the last read was the end of such a piece, which another one probably follows.
    is_after_piece: bool,
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

/// What has come.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message with whole frames.
    Frames(Bytes),
    /// A piece of a large message, in the buffer of its message.
    Piece(FrameHeader, PieceInPlace),
}

/// A piece that is being read into the buffer of its message.
#[derive(Debug)]
struct IncomingPiece {
    header: FrameHeader,
    mask: Option<[u8; 4]>,
    piece: PieceInPlace,
    /// How many bytes have not come.
    left: usize,
    /// Whether some have come since the last [`is_reading_piece`](FrameSocket::is_reading_piece).
    has_grown: bool,
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
            incoming: None,
            is_after_piece: false,
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

    /// The next complete message of frames, or the next piece of a message of this kind, which may be in place.
    #[inline]
    pub(crate) fn next_or_piece(
        &mut self,
        kind: u8,
        assembly: &mut MessageAssembly,
    ) -> Result<Option<Received>, Violation> {
        if self.incoming.is_some() {
            return Ok(self.end_piece());
        }
        if let Some(frames) = self.next_message()? {
            return Ok(Some(Received::Frames(frames)));
        }
        if let Some(message) = self.reader.take_incomplete() {
            self.begin_message(&message, kind, assembly);
        }
        Ok(None)
    }

    /// The piece that is being read, once it is here.
    #[cold]
    fn end_piece(&mut self) -> Option<Received> {
        let IncomingPiece { header, mask, mut piece, .. } = self.incoming.take_if(|incoming| incoming.left == 0)?;
        if let Some(key) = mask {
            websocket::mask(&mut piece.buffer[piece.from..], key);
        }
        self.is_after_piece = true;
        Some(Received::Piece(header, piece))
    }

    /// Begins to read a message that is longer than what has come: as a piece in place, or whole.
    #[cold]
    fn begin_message(&mut self, message: &IncompleteMessage, kind: u8, assembly: &mut MessageAssembly) {
        if !self.begin_piece(message, kind, assembly) {
            self.read.reserve(message.payload.end - self.read.len());
        }
    }

    /// Begins to read a message into the buffer of which it is a piece. Returns `false` if it is something else.
    fn begin_piece(&mut self, message: &IncompleteMessage, kind: u8, assembly: &mut MessageAssembly) -> bool {
        let Some(Some(header)) = self.read.get(message.payload.start..).map(|payload| payload.first_chunk::<HEADER>())
        else {
            return false;
        };
        let mut header = *header;
        if let Some(key) = message.mask {
            websocket::mask(&mut header, key);
        }
        let header = FrameHeader::read(&header);
        let length = header.length as usize;
        if header.kind != kind || length + HEADER != message.payload.len() {
            return false;
        }
        let Some(mut buffer) = assembly.lend(&header) else {
            return false;
        };
        self.read.advance(message.payload.start + HEADER);
        let from = buffer.len();
        buffer.reserve(length);
        buffer.extend_from_slice(&self.read);
        let left = length - self.read.len();
        self.read.clear();
        let piece = PieceInPlace { buffer, from };
        self.incoming = Some(IncomingPiece { header, mask: message.mask, piece, left, has_grown: true });
        true
    }

    /// Whether bytes of a piece have come that is being read, since the last call of this.
    pub(crate) fn is_reading_piece(&mut self) -> bool {
        self.incoming.as_mut().is_some_and(|incoming| std::mem::take(&mut incoming.has_grown))
    }

    /// The next complete message of frames.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Violation> {
        let next = self.next_message()?;
        if let Some(message) = self.reader.take_incomplete() {
            self.read.reserve(message.payload.end - self.read.len());
        }
        Ok(next)
    }

    fn next_message(&mut self) -> Result<Option<Bytes>, Violation> {
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
    #[inline(always)]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketEnd>> {
        if self.is_closed {
            return Poll::Ready(Err(SocketEnd::Closed));
        }
        // A peer that reads no pongs gets no more of them. Reading continues when they are written.
        if self.pongs >= PONGS {
            return Poll::Pending;
        }
        if self.incoming.is_some() || self.is_after_piece {
            return self.poll_read_piece(cx);
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

    /// Reads a piece in place, or what comes behind one.
    #[cold]
    fn poll_read_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketEnd>> {
        let Some(incoming) = &mut self.incoming else {
            // What is read here of the next piece is copied to its message.
            self.read.reserve(AFTER_PIECE);
            let buffer = &mut (&mut self.read).limit(AFTER_PIECE);
            let count = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, buffer))?;
            self.is_after_piece = false;
            return self.has_read(count);
        };
        let buffer = &mut (&mut incoming.piece.buffer).limit(incoming.left);
        let count = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, buffer))?;
        incoming.left -= count;
        incoming.has_grown = true;
        self.has_read(count)
    }

    /// Notes that this number of bytes has come. 0 is the end of the stream.
    fn has_read(&mut self, count: usize) -> Poll<Result<(), SocketEnd>> {
        if count == 0 {
            return Poll::Ready(Err(SocketEnd::Closed));
        }
        self.has_read = true;
        Poll::Ready(Ok(()))
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
            let polled = match self.wire.single() {
                Some(bytes) => Pin::new(&mut self.stream).poll_write(cx, bytes),
                None => self.poll_write_slices(cx),
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

    /// Writes shared bytes from where they are.
    #[cold]
    fn poll_write_slices(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.wire.slices(&mut slices);
        Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])
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
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;
    use crate::frames::fuzzing::Scripted;
    use crate::frames::header::kind;
    use crate::frames::{Assembled, PIECE, header};

    proptest! {
        #[test]
        fn messages_arrive_however_they_are_read_and_pieces_in_place(
            lengths in proptest::collection::vec(prop_oneof![0..600usize, PIECE - 40..PIECE * 4], 1..8),
            most in prop_oneof![1000..PIECE, PIECE..PIECE * 8],
            from_client: bool,
            kind in prop_oneof![Just(kind::CALL), Just(kind::REPLY)],
        ) {
            let (from, to) = match from_client {
                true => (WebSocketRole::Client, WebSocketRole::Server),
                false => (WebSocketRole::Server, WebSocketRole::Client),
            };
            let (mut write_queue, mut writer, mut wire) = (WriteQueue::new(), WebSocketWriter::new(from), Vec::new());
            write_queue.set_window(PIECE * 8);
            let payload = |id: usize| (0..lengths[id]).map(|at| (at ^ at >> 8 ^ id) as u8).collect::<Vec<_>>();
            for id in 0..lengths.len() {
                write_queue.put_bytes(FrameHeader::new(kind::CALL, 0, 0, id as u64), payload(id).into());
                write_queue.put_small(FrameHeader::new(kind::CANCEL, 0, 0, id as u64), b"");
            }
            while !write_queue.is_empty() {
                let mut next = WireBuffer::default();
                write_queue.fill(&mut writer, &mut next);
                wire.extend(next.to_vec());
            }

            let stream = Scripted::new(wire, most);
            let mut socket = FrameSocket::new(stream, to, &[], Instant::now());
            let mut assembly = MessageAssembly::new(PIECE * 100, PIECE * 100);
            let (mut came, mut cancelled, mut in_place) = (vec![None; lengths.len()], 0, 0);
            let cx = &mut Context::from_waker(Waker::noop());
            loop {
                while let Some(received) = socket.next_or_piece(kind, &mut assembly).unwrap() {
                    match received {
                        Received::Piece(header, piece) => {
                            in_place += 1;
                            if let Assembled::Joined(whole) = assembly.take_in_place(&header, piece).unwrap() {
                                prop_assert_eq!(came[header.id as usize].replace(whole.to_vec()), None);
                            }
                        }
                        Received::Frames(message) => {
                            let mut rest = &message[..];
                            while let Some((header, payload)) = header::next(&mut rest).unwrap() {
                                cancelled += usize::from(header.kind == kind::CANCEL);
                                if header.kind == kind::CANCEL {
                                    continue;
                                }
                                let whole = match assembly.take(&header, payload).unwrap() {
                                    Assembled::Whole(whole) => whole.to_vec(),
                                    Assembled::Joined(whole) => whole.to_vec(),
                                    _ => continue,
                                };
                                prop_assert_eq!(came[header.id as usize].replace(whole), None);
                            }
                        }
                    }
                }
                match socket.poll_read(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => break,
                    Poll::Pending => {}
                }
            }
            prop_assert!(!assembly.is_waiting() && socket.incoming.is_none());
            prop_assert!(kind == kind::CALL || in_place == 0, "only the kind that was asked for");
            let longest = lengths.iter().max().unwrap();
            prop_assert!(in_place > 0 || kind == kind::REPLY || *longest <= PIECE || most > PIECE / 2);
            prop_assert_eq!(cancelled, lengths.len());
            for (id, came) in came.into_iter().enumerate() {
                prop_assert!(came.is_some_and(|came| came == payload(id)), "{}", id);
            }
        }
    }

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
