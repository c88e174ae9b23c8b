//! The frames that wait to be written on one connection: [`WriteQueue`].

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use tokio::time::Instant;

use super::PIECE;
use super::buffer_pool::BufferPool;
use super::header::{FrameHeader, HEADER, flag, kind};
use super::websocket::WebSocketWriter;
use super::wire_buffer::WireBuffer;
use crate::codec::EncodedParts;

/// The approximate size of a WebSocket message, so that the peer works on the first frames while the next are on their
/// way.
const MESSAGE: usize = 16 << 10;

/// About how many bytes of large messages the socket takes at once. A small message that is queued then waits for
/// these.
const BATCH: usize = 256 << 10;

/// After about so many bytes of one large message another one continues. Most large messages are shorter than this, so
/// they arrive one after the other and not all at the same time.
const TURN: usize = 1 << 20;

/// The most bytes of written messages whose buffers are kept for others.
pub(crate) const SPARE: usize = 4 << 20;

/// The room that is kept for the next frames after writing. After a second in which the frames needed less, at most
/// [`IDLE`] is kept.
const ROOM: usize = 1 << 20;
const IDLE: usize = 64 << 10;

/// The length of the frame that may go before an answer: a header, and two numbers.
const BEFORE_ANSWER: usize = HEADER + 8;

/// Whole frames in order, and large messages, whose pieces are sent between them. A state machine.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    frames: Vec<u8>,
    /// Messages whose pieces are sent in turn.
    started: VecDeque<LargeMessage>,
    /// Messages that wait for room in the peer's window.
    waiting: VecDeque<LargeMessage>,
    /// The bytes of all started messages, each counted with its whole length.
    unfinished: usize,
    /// How many bytes of unfinished messages the peer keeps.
    window: usize,
    queued: usize,
    spares: BufferPool,
    /// A frame that goes before the next REPLY or ERROR.
    before_answer: Option<[u8; BEFORE_ANSWER]>,
}

#[derive(Debug)]
struct LargeMessage {
    header: FrameHeader,
    payload: EncodedParts,
    at: usize,
    /// How many bytes were sent in its present turn.
    turn: usize,
}

impl WriteQueue {
    pub(crate) fn new() -> Self {
        Self {
            frames: Vec::new(),
            started: VecDeque::new(),
            waiting: VecDeque::new(),
            unfinished: 0,
            window: 0,
            queued: 0,
            spares: BufferPool::new(SPARE),
            before_answer: None,
        }
    }

    /// Sets the window that the peer announced.
    pub(crate) fn set_window(&mut self, window: usize) {
        self.window = window;
    }

    /// Sets the frame that goes before the first REPLY or ERROR that is written next. It replaces one that was not
    /// written, and is written once.
    pub(crate) fn set_before_answer(&mut self, frame: [u8; BEFORE_ANSWER]) {
        self.before_answer = Some(frame);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.started.is_empty() && self.waiting.is_empty()
    }

    /// How many bytes wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.frames.len() + self.queued
    }

    /// Puts a frame whose payload is written by `write`.
    pub(crate) fn put(&mut self, header: FrameHeader, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.open();
        write(&mut self.frames);
        self.close(start, header);
    }

    /// Puts a frame whose payload is at most one piece.
    pub(crate) fn put_small(&mut self, header: FrameHeader, payload: &[u8]) {
        let header = FrameHeader { length: payload.len() as u32, ..header };
        self.frames.extend_from_slice(&header.write());
        self.frames.extend_from_slice(payload);
    }

    /// Begins a frame at the end of the queue. Its payload is appended to [`buffer`](Self::buffer).
    pub(crate) fn open(&mut self) -> usize {
        let start = self.frames.len();
        self.frames.extend_from_slice(&[0; HEADER]);
        start
    }

    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.frames
    }

    /// The payload so far of the frame that began at `start`.
    pub(crate) fn since(&self, start: usize) -> &[u8] {
        &self.frames[start + HEADER..]
    }

    /// Ends the frame that began at `start`.
    pub(crate) fn close(&mut self, start: usize, header: FrameHeader) {
        let length = self.frames.len() - start - HEADER;
        if length > PIECE {
            let payload = Bytes::copy_from_slice(&self.frames[start + HEADER..]);
            self.frames.truncate(start);
            return self.put_large(header, payload.into());
        }
        let header = FrameHeader { length: length as u32, ..header };
        self.frames[start..start + HEADER].copy_from_slice(&header.write());
    }

    /// Removes the frame that began at `start`.
    pub(crate) fn abandon(&mut self, start: usize) {
        self.frames.truncate(start);
    }

    /// The buffer of a large message that was written, for another one; a new one where there is none.
    pub(crate) fn spare(&mut self) -> Vec<u8> {
        self.spares.take().unwrap_or_default()
    }

    /// Frees memory that was not used for a while. Returns when to call this again, if some is kept.
    #[inline]
    pub(crate) fn tidy(&mut self, now: Instant) -> Option<Instant> {
        let at = self.spares.tidy(now);
        if at.is_none() {
            self.release();
        }
        at
    }

    /// Whether [`tidy`](Self::tidy) has to say anew when to call it.
    #[inline]
    pub(crate) fn is_newly_untidy(&self) -> bool {
        self.spares.is_new_in_use()
    }

    /// Whether [`tidy`](Self::tidy) has something to release later.
    pub(crate) fn is_untidy(&self) -> bool {
        self.spares.is_in_use()
    }

    /// Releases what many frames at once took.
    pub(crate) fn release(&mut self) {
        if self.frames.is_empty() {
            self.frames.shrink_to(IDLE);
        }
    }

    /// Puts a message whose payload has a buffer of its own.
    pub(crate) fn put_bytes(&mut self, header: FrameHeader, payload: Bytes) {
        if payload.len() > PIECE {
            self.put_large(header, payload.into());
        } else {
            self.put(header, |frames| frames.extend_from_slice(&payload));
        }
    }

    /// Puts a message whose payload is in parts, which are written from where they are.
    pub(crate) fn put_parts(&mut self, header: FrameHeader, payload: EncodedParts) {
        if payload.len() > PIECE {
            self.put_large(header, payload);
        } else {
            self.put_bytes(header, payload.join());
        }
    }

    /// Moves the contents of another queue, of which nothing was written, to the end of this one.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if other.is_empty() {
            // So it is at nearly every call.
            other.frames.shrink_to(ROOM);
            return;
        }
        if other.frames.len() > IDLE {
            self.spares.used();
        }
        if self.frames.is_empty() {
            mem::swap(&mut self.frames, &mut other.frames);
        } else {
            self.frames.append(&mut other.frames);
        }
        other.frames.shrink_to(ROOM);
        self.queued += mem::take(&mut other.queued);
        other.unfinished = 0;
        self.waiting.append(&mut other.started);
        self.waiting.append(&mut other.waiting);
        self.start();
    }

    fn put_large(&mut self, header: FrameHeader, payload: EncodedParts) {
        self.queued += payload.len();
        self.waiting.push_back(LargeMessage { header, payload, at: 0, turn: 0 });
        self.start();
    }

    fn start(&mut self) {
        while let Some(next) = self.waiting.front() {
            let all = self.unfinished + next.payload.len();
            // A single message always starts. The peer decides whether it is too large.
            if all > self.window && !self.started.is_empty() {
                return;
            }
            self.unfinished = all;
            self.started.extend(self.waiting.pop_front());
        }
    }

    /// Removes a message of which nothing was written. Returns `false` if there is none.
    pub(crate) fn take_back(&mut self, id: u64) -> bool {
        let unsent = |large: &LargeMessage| large.header.id == id && large.at == 0;
        let large = match self.waiting.iter().position(unsent) {
            Some(at) => self.waiting.remove(at),
            None => self.remove_started(unsent),
        };
        if let Some(large) = &large {
            self.queued -= large.payload.len();
        }
        large.is_some()
    }

    /// Whether a part of this large message is still to be written, so the peer can't have it whole.
    pub(crate) fn holds(&self, id: u64) -> bool {
        self.started.iter().chain(&self.waiting).any(|large| large.header.id == id)
    }

    /// Removes the rest of a message of which pieces may have been written.
    pub(crate) fn give_up(&mut self, id: u64) {
        let of_it = |large: &LargeMessage| large.header.id == id;
        let large = match self.waiting.iter().position(of_it) {
            Some(at) => self.waiting.remove(at),
            None => self.remove_started(of_it),
        };
        if let Some(large) = large {
            self.queued -= large.payload.len() - large.at;
        }
    }

    fn remove_started(&mut self, which: impl FnMut(&LargeMessage) -> bool) -> Option<LargeMessage> {
        let at = self.started.iter().position(which)?;
        let large = self.started.remove(at)?;
        self.unfinished -= large.payload.len();
        self.start();
        Some(large)
    }

    /// Appends what is to be written next to `wire`, as WebSocket messages.
    pub(crate) fn fill(&mut self, writer: &mut WebSocketWriter, wire: &mut WireBuffer) {
        let mut rest = self.frames.as_slice();
        while !rest.is_empty() {
            let (mut end, mut answer) = (0, None);
            while end < MESSAGE
                && let Some(&[l0, l1, l2, l3, kind]) = rest[end..].first_chunk()
            {
                if answer.is_none() && is_answer(kind) {
                    answer = Some(end);
                }
                end += HEADER + u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            }
            let (now, later) = rest.split_at(end);
            match (answer, &self.before_answer) {
                (Some(at), Some(before)) => {
                    writer.binary(&[&now[..at], before, &now[at..]], wire.own());
                    self.before_answer = None;
                }
                _ => writer.binary(&[now], wire.own()),
            }
            rest = later;
        }
        if self.frames.len() > IDLE {
            self.spares.used();
        }
        self.frames.clear();
        self.frames.shrink_to(ROOM);
        while wire.len() < BATCH
            && let Some(large) = self.started.front_mut()
        {
            let left = large.payload.len() - large.at;
            let length = left.min(PIECE);
            let left = left - length;
            let begins_answer = large.at == 0 && is_answer(large.header.kind);
            let before = self.before_answer.take_if(|_| begins_answer);
            let mut header = FrameHeader { length: length as u32, ..large.header };
            if left > 0 {
                header.flags |= flag::MORE;
            }
            let before = before.as_ref().map_or(&[][..], |before| &before[..]);
            writer.binary_sharing(&[before, &header.write()], large.payload.range(large.at, length), length, wire);
            self.queued -= length;
            large.at += length;
            large.turn += length;
            if left == 0 {
                self.unfinished -= large.payload.len();
                // Others hold the parts of a message that has several.
                if let Some(buffer) = large.payload.single() {
                    self.spares.keep(buffer);
                }
                self.started.pop_front();
                self.start();
            } else if large.turn >= TURN && left > TURN / 4 {
                large.turn = 0;
                self.started.rotate_left(1);
            }
        }
    }
}

/// Whether a frame of this kind ends a call.
fn is_answer(kind: u8) -> bool {
    matches!(kind, kind::REPLY | kind::ERROR)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::frames::fuzzing::queued;
    use crate::frames::header;
    use crate::frames::payload::load;
    use crate::frames::websocket::{WebSocketMessage, WebSocketReader, WebSocketRole};
    use crate::frames::{Assembled, MessageAssembly};
    use crate::wire::instance_and_load::ReportedLoad;

    /// The headers of the frames that go out next.
    fn filled(write_queue: &mut WriteQueue) -> Vec<FrameHeader> {
        queued(write_queue).into_iter().map(|(header, _)| header).collect()
    }

    /// What a peer gets of what goes out.
    struct Peer {
        reader: WebSocketReader,
        assembly: MessageAssembly,
        came: Vec<(u64, Vec<u8>)>,
    }

    impl Peer {
        fn new(window: usize) -> Self {
            let assembly = MessageAssembly::new(window, usize::MAX);
            Self { reader: WebSocketReader::new(WebSocketRole::Server), assembly, came: Vec::new() }
        }

        fn take(&mut self, wire: &[u8]) {
            let mut buffer = BytesMut::from(wire);
            while let Some(message) = self.reader.next(&mut buffer).expect("what we write is right") {
                let WebSocketMessage::Binary(frames) = message else { panic!("nothing else is written") };
                let mut rest = &frames[..];
                while let Some((header, payload)) = header::next(&mut rest).expect("frames are whole") {
                    match self.assembly.take(&header, payload).expect("the window is kept") {
                        Assembled::Whole(whole) => self.came.push((header.id, whole.to_vec())),
                        Assembled::Joined(whole) => self.came.push((header.id, whole.to_vec())),
                        Assembled::Part | Assembled::TooLarge => {}
                    }
                }
            }
            assert!(buffer.is_empty(), "messages are whole");
        }
    }

    fn call(id: u64) -> FrameHeader {
        FrameHeader::new(kind::CALL, 0, 0, id)
    }

    #[test]
    fn a_small_message_passes_a_large_one() {
        let (mut write_queue, mut writer, mut peer) =
            (WriteQueue::new(), WebSocketWriter::new(WebSocketRole::Client), Peer::new(1 << 20));
        write_queue.set_window(1 << 20);
        write_queue.put_bytes(call(1), vec![1; 5 * PIECE].into());
        write_queue.put_bytes(call(2), vec![2; 9].into());
        let mut order = Vec::new();
        while !write_queue.is_empty() {
            let mut wire = WireBuffer::default();
            write_queue.fill(&mut writer, &mut wire);
            assert!(wire.len() <= BATCH + 200, "not all goes at a time");
            peer.take(&wire.to_vec());
            order.extend(peer.came.drain(..).map(|(id, _)| id));
        }
        assert_eq!((order, write_queue.len()), (vec![2, 1], 0));
    }

    #[test]
    fn large_messages_go_in_turns_and_one_that_is_nearly_done_ends() {
        let mut write_queue = WriteQueue::new();
        write_queue.set_window(1 << 30);
        let (long, short) = (3 * TURN, TURN + 100);
        for (id, length) in [(1, long), (2, short), (3, short)] {
            write_queue.put_bytes(call(id), vec![0; length].into());
        }
        let mut order: Vec<u64> = Vec::new();
        while !write_queue.is_empty() {
            order.extend(filled(&mut write_queue).iter().map(|header| header.id));
        }
        order.dedup();
        assert_eq!(order, [1, 2, 3, 1]);
    }

    #[test]
    fn unsent_and_abandoned_messages_can_be_withdrawn() {
        let (mut write_queue, mut writer) = (WriteQueue::new(), WebSocketWriter::new(WebSocketRole::Client));
        write_queue.set_window(9 * PIECE);
        for id in 1..=2 {
            write_queue.put_bytes(call(id), vec![0; 6 * PIECE].into());
        }
        write_queue.fill(&mut writer, &mut WireBuffer::default());
        assert!(!write_queue.take_back(1) && write_queue.holds(1) && write_queue.take_back(2));
        write_queue.put_bytes(call(3), vec![0; 6 * PIECE].into());
        assert!(write_queue.holds(3) && !write_queue.holds(2), "it waits for room in the window");
        write_queue.give_up(3);
        write_queue.give_up(1);
        assert!(write_queue.is_empty() && !write_queue.holds(1) && !write_queue.holds(3));
        assert_eq!((write_queue.len(), write_queue.unfinished), (0, 0));
    }

    #[test]
    fn the_memory_of_many_frames_is_released() {
        let (mut write_queue, mut other, now) = (WriteQueue::new(), WriteQueue::new(), Instant::now());
        for id in 0..4096 {
            other.put(call(id), |frames| frames.extend_from_slice(&[7; 1000]));
        }
        write_queue.append(&mut other);
        assert!(other.frames.capacity() <= ROOM && write_queue.frames.capacity() > 4_000_000);
        assert_eq!(filled(&mut write_queue).len(), 4096);
        assert!(write_queue.frames.capacity() <= ROOM, "{}", write_queue.frames.capacity());
        let until = write_queue.tidy(now).expect("it is released a second later");
        assert!(write_queue.is_untidy() && write_queue.frames.capacity() > IDLE, "the next may be as many");
        assert_eq!(write_queue.tidy(until), None);
        assert!(!write_queue.is_untidy() && write_queue.frames.capacity() <= IDLE, "{}", write_queue.frames.capacity());
    }

    #[test]
    fn a_frame_goes_before_the_next_answer_once() {
        let load = |calls| load::frame(ReportedLoad { calls, queue_delay: 0 });
        let kinds =
            |write_queue: &mut WriteQueue| filled(write_queue).iter().map(|header| header.kind).collect::<Vec<_>>();
        let put = |write_queue: &mut WriteQueue, kind, length| {
            write_queue.put_bytes(FrameHeader::new(kind, 0, 0, 1), vec![0; length].into());
        };
        let mut write_queue = WriteQueue::new();
        write_queue.set_before_answer(load(1));
        put(&mut write_queue, kind::HELLO, 9);
        put(&mut write_queue, kind::ITEM, PIECE + 1);
        assert_eq!(kinds(&mut write_queue), [kind::HELLO, kind::ITEM, kind::ITEM], "it waits for an answer");
        write_queue.set_before_answer(load(2));
        for answer in [kind::CREDIT, kind::ERROR, kind::REPLY] {
            put(&mut write_queue, answer, 9);
        }
        // More than one message of WebSocket.
        (0..9).for_each(|_| put(&mut write_queue, kind::REPLY, PIECE));
        let [credit, before, error, replies @ ..] = &queued(&mut write_queue)[..] else { panic!("at least three") };
        assert_eq!([credit.0.kind, before.0.kind, error.0.kind], [kind::CREDIT, kind::LOAD, kind::ERROR]);
        assert_eq!(before.1, load(2)[HEADER..], "it replaces the first");
        assert!(replies.len() == 10 && replies.iter().all(|(header, _)| header.kind == kind::REPLY));
        write_queue.set_before_answer(load(3));
        for _ in 0..2 {
            put(&mut write_queue, kind::REPLY, PIECE + 1);
        }
        write_queue.set_window(usize::MAX);
        assert_eq!(kinds(&mut write_queue), [kind::LOAD, kind::REPLY, kind::REPLY, kind::REPLY, kind::REPLY]);
    }

    #[test]
    fn each_piece_has_the_flags_of_its_message() {
        let mut write_queue = WriteQueue::new();
        let header = FrameHeader::new(kind::CALL, flag::METADATA | flag::MIXED, 7, 1);
        write_queue.put_bytes(header, vec![0; PIECE + 1].into());
        let [first, last] = [filled(&mut write_queue), filled(&mut write_queue)].concat()[..] else {
            panic!("two pieces");
        };
        assert_eq!(first, FrameHeader { length: PIECE as u32, flags: header.flags | flag::MORE, ..header });
        assert_eq!(last, FrameHeader { length: 1, ..header });
    }

    proptest! {
        #[test]
        fn every_message_arrives_complete_between_others(
            steps in proptest::collection::vec((0..7u8, prop_oneof![0..400usize, PIECE - 2..PIECE * 3]), 1..40),
            window in PIECE..PIECE * 8,
            shares: bool,
        ) {
            // Only the server, which masks nothing, writes from where the bytes are.
            let (from, to) = match shares {
                true => (WebSocketRole::Server, WebSocketRole::Client),
                false => (WebSocketRole::Client, WebSocketRole::Server),
            };
            let (mut write_queue, mut writer) = (WriteQueue::new(), WebSocketWriter::new(from));
            let mut peer = Peer { reader: WebSocketReader::new(to), ..Peer::new(window.max(PIECE * 3)) };
            write_queue.set_window(window);
            let mut sent = HashMap::new();
            for (id, (step, length)) in (1u64..).zip(steps) {
                let payload = vec![id as u8; length];
                match step {
                    0 => {
                        let mut wire = WireBuffer::new(shares);
                        write_queue.fill(&mut writer, &mut wire);
                        peer.take(&wire.to_vec());
                    }
                    1 => {
                        let start = write_queue.open();
                        write_queue.buffer().extend_from_slice(&payload);
                        prop_assert_eq!(write_queue.since(start), &payload[..]);
                        write_queue.abandon(start);
                    }
                    2 if length > PIECE => {
                        write_queue.put_bytes(call(id), payload.into());
                        prop_assert!(write_queue.take_back(id));
                    }
                    3 => {
                        let mut other = WriteQueue::new();
                        other.put_bytes(call(id), payload.clone().into());
                        write_queue.append(&mut other);
                        prop_assert!(other.is_empty());
                        prop_assert_eq!(other.queued, 0);
                        sent.insert(id, payload);
                    }
                    4 => {
                        write_queue.put(call(id), |out| out.extend_from_slice(&payload));
                        sent.insert(id, payload);
                    }
                    5 => {
                        let third = payload.len() / 3;
                        let left_out = vec![(third, payload[third..2 * third].to_vec().into())];
                        let encoded = [&payload[..third], &payload[2 * third..]].concat();
                        write_queue.put_parts(call(id), EncodedParts::new(encoded, left_out));
                        sent.insert(id, payload);
                    }
                    _ => {
                        write_queue.put_bytes(call(id), payload.clone().into());
                        sent.insert(id, payload);
                    }
                }
            }
            while !write_queue.is_empty() {
                let mut wire = WireBuffer::new(shares);
                write_queue.fill(&mut writer, &mut wire);
                prop_assert!(wire.len() > 0, "it goes on");
                peer.take(&wire.to_vec());
            }
            prop_assert_eq!((write_queue.len(), write_queue.unfinished), (0, 0));
            prop_assert_eq!(peer.came.len(), sent.len());
            for (id, payload) in peer.came {
                prop_assert!(sent[&id] == payload);
            }
        }
    }
}
