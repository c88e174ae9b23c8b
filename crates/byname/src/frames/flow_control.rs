//! The streams of the calls on one connection, as one side sees them: [`FlowControl`].

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::ops::Range;
use std::task::{Context, Waker};

use http::HeaderMap;

use super::{Violation, WriteQueue};
use crate::codec::Codec;
use crate::error::Error;
use crate::returned::items::{Encoded, OVERHEAD, ROOM};

/// How many bytes of items a reader lets its sender be ahead, headers included: so many at most, and at least, and all
/// streams of a connection together about as many as these.
const MOST: usize = 256 << 10;
const LEAST: usize = 4 << 10;
const SHARED: usize = 4 << 20;

/// While more bytes than this wait to be written, no further item is made.
const UNWRITTEN: usize = 1 << 20;

/// What is there of streams, and how far they may go on. A state machine.
#[derive(Debug, Default)]
pub(crate) struct FlowControl {
    flows: HashMap<u64, Flow>,
    /// Senders that wait for what others have put to be written.
    waiting: Vec<Waker>,
    /// The bytes that wait to be written beside those in the write_queue that is at hand.
    unwritten: usize,
    /// Whose last item is a large message that has not gone out, and must not be overtaken.
    large: Vec<u64>,
}

/// The streams of one call: at most one in each direction.
#[derive(Debug)]
struct Flow {
    /// What has come and was not read.
    inbox: VecDeque<Encoded>,
    /// Single items behind that, in one buffer: kept by itself each would take several times its cost.
    growing: Growing,
    held: usize,
    /// What the peer may still send; its last item may go beyond.
    left: isize,
    /// What came with the first.
    metadata: HeaderMap,
    /// Whether items are wanted from the peer.
    receives: bool,
    /// How the peer's stream ended.
    end: Option<Result<(), Error>>,
    reader: Option<Waker>,
    /// What may still be sent.
    credit: isize,
    writer: Option<Waker>,
    /// The peer wants no more items.
    is_unwanted: bool,
}

/// Whether there is room for items.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For so many bytes; the last item may go beyond.
    Bytes(usize),
    /// The sender is woken when it is to look again.
    None,
    /// There is nobody to read them any more.
    Unwanted,
}

/// What a reader finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// Items, and how much more the peer may send now.
    Items(Encoded, Option<u32>),
    /// Nothing yet; the reader is woken.
    Nothing,
    End,
    Cut(Error),
    /// The call is over.
    Gone,
}

impl FlowControl {
    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Begins the streams of a call: `credit` is what may be sent at first. What comes back is what the peer may send,
    /// where it `receives`.
    pub(crate) fn open(&mut self, id: u64, credit: u32, receives: bool) -> u32 {
        let window = if receives { window(self.flows.len() + 1) } else { 0 };
        let flow = Flow {
            inbox: VecDeque::new(),
            growing: Growing::default(),
            held: 0,
            left: window as isize,
            metadata: HeaderMap::new(),
            receives,
            end: None,
            reader: None,
            credit: credit as isize,
            writer: None,
            is_unwanted: false,
        };
        self.flows.insert(id, flow);
        window as u32
    }

    /// The call is over; whoever still sends or reads finds out.
    #[must_use]
    pub(crate) fn close(&mut self, id: u64) -> [Option<Waker>; 2] {
        self.large.retain(|large| *large != id);
        match self.flows.remove(&id) {
            Some(flow) => [flow.reader, flow.writer],
            None => [None, None],
        }
    }

    /// All calls are over.
    #[must_use]
    pub(crate) fn close_all(&mut self) -> Vec<Waker> {
        let flows = mem::take(&mut self.flows).into_values();
        flows.flat_map(|flow| [flow.reader, flow.writer]).flatten().chain(mem::take(&mut self.waiting)).collect()
    }

    /// The peer may be sent so many bytes more.
    pub(crate) fn credit(&mut self, id: u64, more: u32) -> Option<Waker> {
        let flow = self.flows.get_mut(&id)?;
        flow.credit = flow.credit.saturating_add(more as isize);
        flow.writer.take()
    }

    /// The peer wants no more items of this call, or can't have them.
    pub(crate) fn refuse(&mut self, id: u64) -> Option<Waker> {
        let flow = self.flows.get_mut(&id)?;
        flow.is_unwanted = true;
        flow.writer.take()
    }

    /// No peer can be sent anything any more; what has come can still be read.
    #[must_use]
    pub(crate) fn refuse_all(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.waiting);
        for flow in self.flows.values_mut() {
            flow.is_unwanted = true;
            wakers.extend(flow.writer.take());
        }
        wakers
    }

    /// Whether items of this call are wanted.
    pub(crate) fn receives(&self, id: u64) -> bool {
        self.flows.get(&id).is_some_and(|flow| flow.receives && flow.end.is_none())
    }

    /// Items have come. Those that nobody wants are let go.
    pub(crate) fn came(&mut self, id: u64, items: Encoded) -> Result<Option<Waker>, Violation> {
        let Some(flow) = self.flows.get_mut(&id).filter(|flow| flow.receives && flow.end.is_none()) else {
            return Ok(None);
        };
        // Before the last there had to be some left, and so before those before it.
        flow.charge(items.cost_before_the_last(), items.cost())?;
        flow.inbox.extend(flow.growing.take());
        flow.inbox.push_back(items);
        Ok(flow.reader.take())
    }

    /// An item has come, of which a copy is kept.
    pub(crate) fn came_alone(&mut self, id: u64, codec: Codec, item: &[u8]) -> Result<Option<Waker>, Violation> {
        let Some(flow) = self.flows.get_mut(&id).filter(|flow| flow.receives && flow.end.is_none()) else {
            return Ok(None);
        };
        flow.charge(0, item.len() + OVERHEAD)?;
        flow.growing.codec = codec;
        let start = flow.growing.bytes.len();
        flow.growing.bytes.extend_from_slice(item);
        flow.growing.spans.push(start..flow.growing.bytes.len());
        Ok(flow.reader.take())
    }

    /// Whether there are items to be read.
    pub(crate) fn has_items(&self, id: u64) -> bool {
        self.flows.get(&id).is_some_and(|flow| !flow.inbox.is_empty() || !flow.growing.spans.is_empty())
    }

    pub(crate) fn keep_metadata(&mut self, id: u64, metadata: HeaderMap) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.metadata = metadata;
        }
    }

    pub(crate) fn take_metadata(&mut self, id: u64) -> HeaderMap {
        self.flows.get_mut(&id).map(|flow| mem::take(&mut flow.metadata)).unwrap_or_default()
    }

    /// The peer's stream has ended, or was cut.
    pub(crate) fn ended(&mut self, id: u64, how: Result<(), Error>) -> Option<Waker> {
        let flow = self.flows.get_mut(&id).filter(|flow| flow.end.is_none())?;
        flow.end = Some(how);
        flow.reader.take()
    }

    /// Takes what has come of a stream.
    pub(crate) fn take(&mut self, id: u64, cx: &mut Context<'_>) -> Found {
        let window = window(self.flows.len());
        let Some(flow) = self.flows.get_mut(&id) else {
            return Found::Gone;
        };
        if let Some(items) = flow.inbox.pop_front().or_else(|| flow.growing.take()) {
            flow.held -= items.cost();
            return Found::Items(items, flow.grant(window));
        }
        match &flow.end {
            Some(Ok(())) => Found::End,
            Some(Err(error)) => Found::Cut(error.clone()),
            None => {
                flow.reader = Some(cx.waker().clone());
                Found::Nothing
            }
        }
    }

    /// Its reader wants no more; whether the peer is to be told.
    pub(crate) fn stop_receiving(&mut self, id: u64) -> bool {
        let Some(flow) = self.flows.get_mut(&id) else {
            return false;
        };
        (flow.inbox, flow.growing, flow.held) = (VecDeque::new(), Growing::default(), 0);
        mem::replace(&mut flow.receives, false) && flow.end.is_none()
    }

    /// How many items may be sent now, of which `unwritten` bytes wait to be written.
    pub(crate) fn room(&mut self, id: u64, unwritten: usize, cx: &mut Context<'_>) -> Room {
        let Some(flow) = self.flows.get_mut(&id).filter(|flow| !flow.is_unwanted) else {
            return Room::Unwanted;
        };
        flow.writer = Some(cx.waker().clone());
        if flow.credit <= 0 {
            return Room::None;
        }
        if self.unwritten + unwritten >= UNWRITTEN || self.large.contains(&id) {
            self.waiting.push(cx.waker().clone());
            return Room::None;
        }
        Room::Bytes(flow.credit.unsigned_abs().min(ROOM))
    }

    /// Whether all items have gone out that must not be overtaken by the end of their stream.
    pub(crate) fn may_end(&mut self, id: u64, cx: &mut Context<'_>) -> bool {
        let may = !self.large.contains(&id);
        if !may {
            self.waiting.push(cx.waker().clone());
        }
        may
    }

    /// So much was sent, the last item by itself as a large message.
    pub(crate) fn sent(&mut self, id: u64, cost: usize, is_large: bool) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.credit = flow.credit.saturating_sub_unsigned(cost);
            if is_large {
                self.large.push(id);
            }
        }
    }

    /// Some was written: so much still waits in all. Who waits for that looks again.
    #[must_use]
    pub(crate) fn written(&mut self, unwritten: usize, holds: impl Fn(u64) -> bool) -> Vec<Waker> {
        self.unwritten = unwritten;
        self.large.retain(|large| holds(*large));
        if unwritten < UNWRITTEN { mem::take(&mut self.waiting) } else { Vec::new() }
    }
}

/// Items that came one by one.
#[derive(Debug, Default)]
struct Growing {
    codec: Codec,
    bytes: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl Growing {
    fn take(&mut self) -> Option<Encoded> {
        if self.spans.is_empty() {
            return None;
        }
        let bytes = mem::take(&mut self.bytes).into();
        Some(Encoded::new(self.codec, bytes, mem::take(&mut self.spans)))
    }
}

impl Flow {
    /// Takes what items cost from what the peer may send, of which some has to be left `before` the last.
    fn charge(&mut self, before: usize, cost: usize) -> Result<(), Violation> {
        if self.left.saturating_sub_unsigned(before) <= 0 {
            return Err(Violation("an item was sent without credit"));
        }
        self.left = self.left.saturating_sub_unsigned(cost);
        self.held += cost;
        Ok(())
    }

    /// What the peer may send beside what it was told, once that is worth a frame.
    fn grant(&mut self, window: usize) -> Option<u32> {
        let more = (window as isize).saturating_sub(self.left).saturating_sub_unsigned(self.held);
        if !self.receives || more * 2 < window as isize {
            return None;
        }
        self.left += more;
        u32::try_from(more).ok()
    }
}

/// How far ahead the sender of one of so many streams may be.
fn window(streams: usize) -> usize {
    (SHARED / streams.max(1)).clamp(LEAST, MOST)
}

/// What both ends of a connection keep behind their [`SharedState`](super::SharedState).
pub(crate) trait SharedStreams {
    fn streams(&mut self) -> (&mut FlowControl, &mut WriteQueue);
    /// Items of this call were sent.
    fn has_sent(&mut self, id: u64);
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn items(number: u32, length: usize) -> Encoded {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(length.max(4), 0);
        Encoded::one(Codec::Json, Bytes::from(bytes))
    }

    fn number(item: &[u8]) -> u32 {
        u32::from_be_bytes(item[..4].try_into().unwrap())
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn streams_share_what_a_connection_keeps() {
        assert_eq!([window(1), window(16), window(17)], [MOST, MOST, SHARED / 17]);
        assert_eq!([window(1024), window(1 << 20)], [LEAST, LEAST]);
        let all: usize = (1..=4096).map(window).sum();
        assert!(all < 50 << 20, "{all}");
    }

    #[test]
    fn an_item_may_go_beyond_its_credit_and_the_next_waits() {
        let (mut flows, mut cx) = (FlowControl::default(), context());
        assert_eq!(flows.open(1, 20, false), 0);
        assert_eq!(flows.room(1, 0, &mut cx), Room::Bytes(20));
        flows.sent(1, 50, false);
        assert_eq!(flows.room(1, 0, &mut cx), Room::None);
        assert!(flows.credit(1, 30).is_some());
        assert_eq!(flows.room(1, 0, &mut cx), Room::None, "30 were owed");
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
    fn what_is_not_wanted_is_let_go() {
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

    /// Two sides and what is on its way between them.
    struct World {
        sender: FlowControl,
        reader: FlowControl,
        /// Numbered items, or the end.
        there: VecDeque<Option<Encoded>>,
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
                        let came = match length % 2 {
                            0 => self.reader.came(ID, items),
                            _ => self.reader.came_alone(ID, Codec::Json, items.take().unwrap()),
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
        fn whatever_comes_in_between_all_items_arrive_in_order_and_no_more_is_kept_than_was_granted(
            steps in proptest::collection::vec((0..7u8, prop_oneof![0..40usize, 0..40_000usize, 200_000..400_000usize]), 0..400),
        ) {
            let mut world = World::new();
            for (step, length) in steps {
                world.step(step, length);
                // One item may go beyond.
                prop_assert!(world.owed <= MOST + 400_000 + OVERHEAD, "{} bytes are kept", world.owed);
            }
            // Whoever goes on gets to the end: nobody waits for ever.
            for _ in 0..10_000 {
                for step in [5, 6, 2, 3] {
                    world.step(step, 0);
                }
            }
            prop_assert!(world.is_whole && world.owed == 0);
        }

        #[test]
        fn a_stream_that_is_cut_is_never_whole(
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

        #[test]
        fn a_sender_without_credit_is_found_out(lengths in proptest::collection::vec(0..100_000usize, 1..30)) {
            let mut reader = FlowControl::default();
            let mut left = reader.open(ID, 0, true) as isize;
            for length in lengths {
                let items = items(1, length);
                let cost = items.cost();
                prop_assert_eq!(reader.came(ID, items).is_err(), left <= 0);
                if left <= 0 {
                    break;
                }
                left -= cost as isize;
            }
        }
    }
}
