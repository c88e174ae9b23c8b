//! Flow control of the streams of a connection, for one side: [`FlowControl`].

mod credit;
mod receiving;
mod sending;

use std::collections::BTreeMap;
use std::mem;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::HeaderMap;

use self::receiving::ReceivingHalf;
use self::sending::SendingHalf;
use super::{Violation, WriteQueue};
use crate::codec::Codec;
use crate::error::Error;
use crate::outcome::item_parts::ItemParts;
use crate::outcome::items::{EncodedItems, ROOM};

/// How many bytes of items a sender may be ahead of its reader, headers included: the most and the least for one
/// stream, and the approximate total for all streams of a connection.
const MOST: u32 = 256 << 10;
const LEAST: u32 = 4 << 10;
const SHARED: usize = 4 << 20;

/// While more bytes than this wait to be written, no further item is made.
const UNWRITTEN: usize = 1 << 20;

/// Items of fewer bytes than this are copied where they come together. They would keep the memory of the whole message.
const FEW: usize = 1 << 10;

/// The streams of all calls on a connection, and the wakers of tasks that wait for them. The halves of a stream decide
/// what it may do. They have no wakers: they return events, which are turned into wakers here.
#[derive(Debug, Default)]
pub(crate) struct FlowControl {
    calls: BTreeMap<u64, CallStreams>,
    /// Senders that wait until frames are written.
    waiting: Vec<Waker>,
    /// The bytes that wait to be written, except those in the queue that the caller has.
    unwritten: usize,
    /// The calls whose last item is a large message that is not completely written. No later item of these calls may be
    /// sent before it.
    large: Vec<u64>,
    /// Whether the peer reads several items in one frame.
    has_batches: bool,
}

/// The streams of one call, at most one in each direction, and the wakers of tasks that wait for them.
#[derive(Debug)]
struct CallStreams {
    sending: SendingHalf,
    receiving: ReceivingHalf,
    sender: Option<Waker>,
    reader: Option<Waker>,
}

/// What to do after a change of one half.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
enum FlowEvent {
    Nothing,
    WakeReader,
    WakeSender,
    /// The peer must be told that no more items are accepted.
    SendCancel,
}

/// Whether items may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// This many bytes. The last item may exceed them.
    Bytes(usize),
    /// None now; the sender is woken when that may have changed.
    None,
    /// The peer accepts no more items.
    Unwanted,
}

/// The result of reading a stream.
#[derive(Debug)]
pub(crate) enum Found {
    /// Items, and the credit to send to the peer for them.
    Items(EncodedItems, Option<u32>),
    /// Nothing yet; the reader is woken when that has changed.
    Nothing,
    /// All items were read, and the stream is complete.
    End,
    /// All items that came were read, and the stream was cut off.
    Cut(Error),
    /// The call has ended, or its stream is not accepted.
    Gone,
}

impl FlowControl {
    /// The peer has said whether it reads several items in one frame.
    pub(crate) fn set_batches(&mut self, has_batches: bool) {
        self.has_batches = has_batches;
    }

    /// Whether several items may be sent in one frame.
    pub(crate) fn has_batches(&self) -> bool {
        self.has_batches
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Begins the streams of a call, which may send `credit` bytes at first. Returns the peer's credit, which is 0
    /// unless this side `receives`.
    pub(crate) fn open(&mut self, id: u64, credit: u32, receives: bool) -> u32 {
        let window = if receives { window(self.calls.len() + 1) } else { 0 };
        let streams = CallStreams {
            sending: SendingHalf::open(credit),
            receiving: if receives { ReceivingHalf::open(window) } else { ReceivingHalf::refused() },
            sender: None,
            reader: None,
        };
        self.calls.insert(id, streams);
        window
    }

    /// The call has ended. Returns the wakers of its reader and its sender.
    #[must_use]
    pub(crate) fn close(&mut self, id: u64) -> [Option<Waker>; 2] {
        self.large.retain(|large| *large != id);
        match self.calls.remove(&id) {
            Some(streams) => [streams.reader, streams.sender],
            None => [None, None],
        }
    }

    /// All calls have ended.
    #[must_use]
    pub(crate) fn close_all(&mut self) -> Vec<Waker> {
        let calls = mem::take(&mut self.calls).into_values();
        calls
            .flat_map(|streams| [streams.reader, streams.sender])
            .flatten()
            .chain(mem::take(&mut self.waiting))
            .collect()
    }

    /// The peer gives this many more bytes of credit.
    pub(crate) fn credit(&mut self, id: u64, more: u32) -> Option<Waker> {
        let streams = self.calls.get_mut(&id)?;
        let event = streams.sending.granted(more);
        streams.waker(event)
    }

    /// The peer accepts no more items of this call.
    pub(crate) fn refuse(&mut self, id: u64) -> Option<Waker> {
        let streams = self.calls.get_mut(&id)?;
        let event = streams.sending.refuse();
        streams.waker(event)
    }

    /// Nothing more can be sent to the peer. Items that have come can still be read.
    #[must_use]
    pub(crate) fn refuse_all(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.waiting);
        for streams in self.calls.values_mut() {
            let event = streams.sending.refuse();
            wakers.extend(streams.waker(event));
        }
        wakers
    }

    /// Whether items of this call are accepted.
    pub(crate) fn receives(&self, id: u64) -> bool {
        self.calls.get(&id).is_some_and(|streams| streams.receiving.is_open())
    }

    /// Items have come. They are dropped if they are not accepted.
    pub(crate) fn came(&mut self, id: u64, items: EncodedItems) -> Result<Option<Waker>, Violation> {
        let Some(streams) = self.calls.get_mut(&id) else {
            return Ok(None);
        };
        let event = streams.receiving.came(items)?;
        Ok(streams.waker(event))
    }

    /// A single item has come, of which a copy is kept.
    pub(crate) fn came_alone(&mut self, id: u64, codec: Codec, item: &[u8]) -> Result<Option<Waker>, Violation> {
        let Some(streams) = self.calls.get_mut(&id) else {
            return Ok(None);
        };
        let event = streams.receiving.came_alone(codec, item)?;
        Ok(streams.waker(event))
    }

    /// Several items have come in one frame of `message`.
    pub(crate) fn came_together(
        &mut self,
        id: u64,
        codec: Codec,
        items: ItemParts<'_>,
        message: &Bytes,
    ) -> Result<Option<Waker>, Violation> {
        let Some(streams) = self.calls.get_mut(&id) else {
            return Ok(None);
        };
        let bytes = items.bytes();
        let event = if bytes.len() < FEW.max(message.len() / 4) {
            streams.receiving.came_few(codec, items)?
        } else {
            let shared = message.slice_ref(bytes);
            streams.receiving.came(EncodedItems::of_parts(codec, shared, items.count(), items.last()))?
        };
        Ok(streams.waker(event))
    }

    /// Whether there are items to be read.
    pub(crate) fn has_items(&self, id: u64) -> bool {
        self.calls.get(&id).is_some_and(|streams| streams.receiving.has_items())
    }

    /// The metadata of the first item.
    pub(crate) fn keep_metadata(&mut self, id: u64, metadata: HeaderMap) {
        if let Some(streams) = self.calls.get_mut(&id) {
            streams.receiving.keep_metadata(metadata);
        }
    }

    pub(crate) fn take_metadata(&mut self, id: u64) -> HeaderMap {
        self.calls.get_mut(&id).map(|streams| streams.receiving.take_metadata()).unwrap_or_default()
    }

    /// The peer's stream has ended, or was cut off.
    pub(crate) fn ended(&mut self, id: u64, how: Result<(), Error>) -> Option<Waker> {
        let streams = self.calls.get_mut(&id)?;
        let event = streams.receiving.end(how);
        streams.waker(event)
    }

    /// Takes the items that have come.
    pub(crate) fn take(&mut self, id: u64, cx: &mut Context<'_>) -> Found {
        let window = window(self.calls.len());
        let Some(streams) = self.calls.get_mut(&id) else {
            return Found::Gone;
        };
        let found = streams.receiving.take(window);
        if matches!(found, Found::Nothing) {
            note(&mut streams.reader, cx);
        }
        found
    }

    /// The reader of a stream accepts no more. Returns whether the peer must be told.
    pub(crate) fn stop_receiving(&mut self, id: u64) -> bool {
        self.calls.get_mut(&id).is_some_and(|streams| streams.receiving.stop() == FlowEvent::SendCancel)
    }

    /// How much may be sent now, while `unwritten` bytes wait in the caller's queue.
    pub(crate) fn room(&mut self, id: u64, unwritten: usize, cx: &mut Context<'_>) -> Room {
        let Some(streams) = self.calls.get_mut(&id) else {
            return Room::Unwanted;
        };
        let Some(allowed) = streams.sending.allowed() else {
            return Room::Unwanted;
        };
        note(&mut streams.sender, cx);
        if allowed == 0 {
            return Room::None;
        }
        if self.unwritten + unwritten >= UNWRITTEN || self.large.contains(&id) {
            self.waiting.push(cx.waker().clone());
            return Room::None;
        }
        Room::Bytes(allowed.min(ROOM))
    }

    /// Whether the end of a stream may be sent: all items that must come before it are written.
    pub(crate) fn may_end(&mut self, id: u64, cx: &mut Context<'_>) -> bool {
        let may = !self.large.contains(&id);
        if !may {
            self.waiting.push(cx.waker().clone());
        }
        may
    }

    /// Items were sent. The last one may be a large message of its own.
    pub(crate) fn sent(&mut self, id: u64, cost: usize, is_large: bool) {
        if let Some(streams) = self.calls.get_mut(&id) {
            streams.sending.sent(cost);
            if is_large {
                self.large.push(id);
            }
        }
    }

    /// Frames were written, and this many bytes still wait. Returns the wakers to wake.
    #[must_use]
    pub(crate) fn written(&mut self, unwritten: usize, holds: impl Fn(u64) -> bool) -> Vec<Waker> {
        self.unwritten = unwritten;
        self.large.retain(|large| holds(*large));
        if unwritten < UNWRITTEN { mem::take(&mut self.waiting) } else { Vec::new() }
    }
}

impl CallStreams {
    /// The waker for an event.
    fn waker(&mut self, event: FlowEvent) -> Option<Waker> {
        match event {
            FlowEvent::WakeReader => self.reader.take(),
            FlowEvent::WakeSender => self.sender.take(),
            FlowEvent::Nothing | FlowEvent::SendCancel => None,
        }
    }
}

/// Keeps the waker of the polling task.
fn note(waiting: &mut Option<Waker>, cx: &Context<'_>) {
    match waiting {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waiting = Some(cx.waker().clone()),
    }
}

/// How far the sender of one of this many streams may be ahead of its reader.
fn window(streams: usize) -> u32 {
    u32::try_from(SHARED / streams.max(1)).unwrap_or(MOST).clamp(LEAST, MOST)
}

/// The state that both ends of a connection keep in a [`SharedState`](super::SharedState).
pub(crate) trait SharedStreams {
    fn streams(&mut self) -> (&mut FlowControl, &mut WriteQueue);
    /// Items of this call were sent.
    fn has_sent(&mut self, id: u64);
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::outcome::item_parts::{self, OVERHEAD};

    fn items(number: u32, length: usize) -> EncodedItems {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(length.max(4), 0);
        EncodedItems::one(Codec::Json, Bytes::from(bytes))
    }

    fn number(item: &[u8]) -> u32 {
        u32::from_be_bytes(item[..4].try_into().unwrap())
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn streams_share_what_a_connection_keeps() {
        assert_eq!([window(1), window(16), window(17)], [MOST, MOST, SHARED as u32 / 17]);
        assert_eq!([window(1024), window(1 << 20)], [LEAST, LEAST]);
        let all: u32 = (1..=4096).map(window).sum();
        assert!(all < 50 << 20, "{all}");
    }

    #[test]
    fn an_item_may_go_beyond_its_credit_and_the_next_waits() {
        let (mut flows, mut cx) = (FlowControl::default(), context());
        assert_eq!(flows.open(1, 20, false), 0);
        assert_eq!(flows.room(1, 0, &mut cx), Room::Bytes(20));
        flows.sent(1, 50, false);
        assert_eq!(flows.room(1, 0, &mut cx), Room::None);
        assert!(flows.credit(1, 30).is_none(), "30 were owed");
        assert_eq!(flows.room(1, 0, &mut cx), Room::None);
        assert!(flows.credit(1, 1).is_some());
        assert_eq!(flows.room(1, 0, &mut cx), Room::Bytes(1));
        assert_eq!(flows.room(1, UNWRITTEN, &mut cx), Room::None, "others' bytes are in the way");
        assert_eq!(flows.written(0, |_| false).len(), 1);
        assert!(flows.close(1)[1].is_some());
        assert_eq!(flows.room(1, 0, &mut cx), Room::Unwanted);
    }

    #[test]
    fn nothing_overtakes_a_large_item() {
        let (mut flows, mut cx) = (FlowControl::default(), context());
        flows.open(1, 1000, false);
        flows.sent(1, 10, true);
        assert!(flows.room(1, 0, &mut cx) == Room::None && !flows.may_end(1, &mut cx));
        assert_eq!(flows.written(0, |id| id == 1).len(), 2);
        assert!(!flows.may_end(1, &mut cx), "it has not gone out yet");
        assert_eq!(flows.written(0, |_| false).len(), 1);
        assert!(flows.may_end(1, &mut cx) && flows.room(1, 0, &mut cx) == Room::Bytes(990));
    }

    #[test]
    fn items_for_a_closed_receiver_are_dropped() {
        let (mut flows, mut cx) = (FlowControl::default(), context());
        flows.open(1, 0, true);
        assert!(flows.came(1, items(1, 9)).is_ok() && flows.has_items(1));
        assert!(flows.stop_receiving(1) && !flows.stop_receiving(1), "it is said once");
        assert!(flows.came(1, items(2, 9)).is_ok() && !flows.has_items(1));
        assert!(flows.came(7, items(2, 9)).is_ok());
        flows.open(2, 0, true);
        flows.ended(2, Ok(()));
        assert!(flows.came(2, items(2, 9)).is_ok() && !flows.has_items(2), "it had ended");
        assert!(matches!(flows.take(2, &mut cx), Found::End) && !flows.stop_receiving(2));
        assert!(matches!(flows.take(7, &mut cx), Found::Gone));
    }

    /// Two sides, and the messages on their way between them.
    struct World {
        sender: FlowControl,
        reader: FlowControl,
        /// Numbered items, or the end.
        there: VecDeque<Option<EncodedItems>>,
        back: VecDeque<u32>,
        sent: u32,
        read: u32,
        has_ended: bool,
        is_whole: bool,
        owed: usize,
    }

    const ID: u64 = 9;

    impl World {
        fn new() -> Self {
            let (mut sender, mut reader) = (FlowControl::default(), FlowControl::default());
            let credit = reader.open(ID, 0, true);
            sender.open(ID, credit, false);
            Self {
                sender,
                reader,
                there: VecDeque::new(),
                back: VecDeque::new(),
                sent: 0,
                read: 0,
                has_ended: false,
                is_whole: false,
                owed: 0,
            }
        }

        fn step(&mut self, step: u8, length: usize) {
            let mut cx = context();
            match step {
                0 | 1 if !self.has_ended => {
                    if let Room::Bytes(_) = self.sender.room(ID, 0, &mut cx) {
                        self.sent += 1;
                        let items = items(self.sent, length);
                        self.owed += items.cost();
                        self.sender.sent(ID, items.cost(), false);
                        self.there.push_back(Some(items));
                    }
                }
                2 => match self.there.pop_front() {
                    Some(Some(mut items)) => {
                        let came = match length % 3 {
                            0 => self.reader.came(ID, items),
                            1 => self.reader.came_alone(ID, Codec::Json, items.take().unwrap()),
                            _ => {
                                let mut part = Vec::new();
                                item_parts::put(items.take().unwrap(), &mut part);
                                let message = Bytes::from(part);
                                let parts = ItemParts::read(&message).expect("it is whole");
                                self.reader.came_together(ID, Codec::Json, parts, &message)
                            }
                        };
                        assert!(came.is_ok(), "credit was kept to");
                    }
                    Some(None) => drop(self.reader.ended(ID, Ok(()))),
                    None => {}
                },
                3 | 4 => match self.reader.take(ID, &mut cx) {
                    Found::Items(mut items, more) => {
                        self.owed -= items.cost();
                        while let Some(item) = items.take() {
                            self.read += 1;
                            assert_eq!(number(item), self.read, "in their order, none left out");
                        }
                        self.back.extend(more);
                    }
                    Found::End => {
                        assert_eq!(self.read, self.sent, "the end is behind all items");
                        self.is_whole = true;
                    }
                    Found::Nothing | Found::Cut(_) => {}
                    Found::Gone => panic!("it is not closed"),
                },
                5 => {
                    if let Some(more) = self.back.pop_front() {
                        self.sender.credit(ID, more);
                    }
                }
                6 if length == 0 && !self.has_ended => {
                    self.has_ended = true;
                    self.there.push_back(None);
                }
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn items_arrive_in_order_and_memory_stays_within_the_credit(
            steps in proptest::collection::vec((0..7u8, prop_oneof![0..40usize, 0..40_000usize, 200_000..400_000usize]), 0..400),
        ) {
            let mut world = World::new();
            for (step, length) in steps {
                world.step(step, length);
                // One item may exceed the credit.
                prop_assert!(world.owed <= MOST as usize + 400_000 + OVERHEAD, "{} bytes are kept", world.owed);
            }
            // If both sides continue, they reach the end: neither waits forever.
            for _ in 0..10_000 {
                for step in [5, 6, 2, 3] {
                    world.step(step, 0);
                }
            }
            prop_assert!(world.is_whole && world.owed == 0);
        }

        #[test]
        fn a_truncated_stream_never_looks_complete(
            steps in proptest::collection::vec((0..6u8, 0..40_000usize), 0..200),
            lost in 1..9usize,
        ) {
            let mut world = World::new();
            for (step, length) in steps {
                world.step(step, length);
            }
            for _ in 0..lost {
                world.step(0, 10);
            }
            // The connection breaks with items on their way.
            let is_lost = !world.there.is_empty();
            world.reader.ended(ID, Err(Error::new(crate::error::Code::Unavailable, "cut")));
            let cut = loop {
                match world.reader.take(ID, &mut context()) {
                    Found::Items(mut items, _) => {
                        while let Some(item) = items.take() {
                            world.read += 1;
                            prop_assert_eq!(number(item), world.read);
                        }
                    }
                    Found::Cut(_) => break true,
                    _ => break false,
                }
            };
            prop_assert!(cut && (world.read < world.sent) == is_lost);
        }
    }
}
