//! The stream that this side receives for one call, up to its reader: [`ReceivingHalf`].

use std::collections::VecDeque;
use std::mem;

use http::HeaderMap;

use super::credit::Credit;
use super::{FlowEvent, Found};
use crate::codec::Codec;
use crate::error::Error;
use crate::frames::Violation;
use crate::outcome::growing_items::GrowingItems;
use crate::outcome::item_parts::{ItemParts, OVERHEAD};
use crate::outcome::items::EncodedItems;

/// A state machine.
#[derive(Debug)]
pub(super) struct ReceivingHalf {
    state: Receiving,
    /// Items that were not read.
    inbox: VecDeque<EncodedItems>,
    /// Single items and a few at a time behind those, in one buffer: in buffers of their own they would take several times their
    /// cost.
    growing: GrowingItems,
    /// What those are in.
    codec: Codec,
    /// What all unread items cost.
    unread: usize,
    /// What the peer may still send.
    credit: Credit,
    /// What came with the first item.
    metadata: HeaderMap,
}

#[derive(Debug)]
enum Receiving {
    /// Items may come.
    Open,
    /// The peer's stream is whole.
    Ended,
    /// The peer's stream was cut off.
    Cut(Error),
    /// Nobody reads it: no stream was wanted, or its reader has stopped.
    Refused,
}

impl ReceivingHalf {
    /// A stream whose sender may send `window` bytes at first.
    pub(super) fn open(window: u32) -> Self {
        Self::new(Receiving::Open, window)
    }

    /// No stream is wanted.
    pub(super) fn refused() -> Self {
        Self::new(Receiving::Refused, 0)
    }

    fn new(state: Receiving, credit: u32) -> Self {
        Self {
            state,
            inbox: VecDeque::new(),
            growing: GrowingItems::default(),
            codec: Codec::default(),
            unread: 0,
            credit: Credit::new(credit),
            metadata: HeaderMap::new(),
        }
    }

    /// Whether items may come.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, Receiving::Open)
    }

    /// Whether there are items to be read.
    pub(super) fn has_items(&self) -> bool {
        !self.inbox.is_empty() || !self.growing.is_empty()
    }

    /// Items have come. They are dropped where the half isn't open.
    pub(super) fn came(&mut self, items: EncodedItems) -> Result<FlowEvent, Violation> {
        if !self.is_open() {
            return Ok(FlowEvent::Nothing);
        }
        // Credit was positive when the last item began, so it was when those before it began.
        self.charge(items.cost_before_the_last(), items.cost())?;
        self.inbox.extend(self.growing.take(self.codec));
        self.inbox.push_back(items);
        Ok(FlowEvent::WakeReader)
    }

    /// A single item has come, of which a copy is kept.
    pub(super) fn came_alone(&mut self, codec: Codec, item: &[u8]) -> Result<FlowEvent, Violation> {
        if !self.is_open() {
            return Ok(FlowEvent::Nothing);
        }
        self.charge(0, item.len() + OVERHEAD)?;
        self.codec = codec;
        self.growing.copy(item);
        Ok(FlowEvent::WakeReader)
    }

    /// A few items have come together, of which a copy is kept.
    pub(super) fn came_few(&mut self, codec: Codec, items: ItemParts<'_>) -> Result<FlowEvent, Violation> {
        if !self.is_open() {
            return Ok(FlowEvent::Nothing);
        }
        self.charge(items.cost() - items.last() - OVERHEAD, items.cost())?;
        self.codec = codec;
        self.growing.extend(items);
        Ok(FlowEvent::WakeReader)
    }

    /// Charges the peer for items. Some credit must be left when the last one begins, after those `before` it.
    fn charge(&mut self, before: usize, cost: usize) -> Result<(), Violation> {
        let mut credit = self.credit;
        credit.spend(before);
        if !credit.is_positive() {
            return Err(Violation("an item was sent without credit"));
        }
        self.credit.spend(cost);
        self.unread += cost;
        Ok(())
    }

    /// The peer's stream has ended, or was cut off. Only the first end counts.
    pub(super) fn end(&mut self, how: Result<(), Error>) -> FlowEvent {
        if !self.is_open() {
            return FlowEvent::Nothing;
        }
        self.state = match how {
            Ok(()) => Receiving::Ended,
            Err(error) => Receiving::Cut(error),
        };
        FlowEvent::WakeReader
    }

    /// What there is for the reader. `window` is how far ahead of it the sender may be.
    pub(super) fn take(&mut self, window: u32) -> Found {
        if let Some(items) = self.inbox.pop_front().or_else(|| self.growing.take(self.codec)) {
            self.unread -= items.cost();
            return Found::Items(items, self.grant(window));
        }
        match &self.state {
            Receiving::Open => Found::Nothing,
            Receiving::Ended => Found::End,
            Receiving::Cut(error) => Found::Cut(error.clone()),
            Receiving::Refused => Found::Gone,
        }
    }

    /// What the peer may send beside what it was granted before, once that is at least half of the window.
    fn grant(&mut self, window: u32) -> Option<u32> {
        let more = self.credit.missing(window, self.unread);
        if more < window.div_ceil(2) {
            return None;
        }
        self.credit.grant(more);
        Some(more)
    }

    /// The reader wants no more.
    pub(super) fn stop(&mut self) -> FlowEvent {
        (self.inbox, self.growing, self.unread) = (VecDeque::new(), GrowingItems::default(), 0);
        match mem::replace(&mut self.state, Receiving::Refused) {
            Receiving::Open => FlowEvent::SendCancel,
            Receiving::Ended | Receiving::Cut(_) | Receiving::Refused => FlowEvent::Nothing,
        }
    }

    pub(super) fn keep_metadata(&mut self, metadata: HeaderMap) {
        self.metadata = metadata;
    }

    pub(super) fn take_metadata(&mut self) -> HeaderMap {
        mem::take(&mut self.metadata)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::error::Code;

    fn items(length: usize) -> EncodedItems {
        EncodedItems::one(Codec::Json, Bytes::from(vec![0; length]))
    }

    #[test]
    fn items_are_read_before_the_end_and_none_after_it() {
        let mut half = ReceivingHalf::open(1000);
        assert!(matches!(half.take(1000), Found::Nothing));
        assert_eq!(half.came(items(9)), Ok(FlowEvent::WakeReader));
        assert_eq!(half.end(Ok(())), FlowEvent::WakeReader);
        assert_eq!(half.came(items(9)), Ok(FlowEvent::Nothing));
        assert_eq!(half.end(Err(Error::new(Code::Cancelled, "late"))), FlowEvent::Nothing, "it has ended");
        assert!(matches!(half.take(1000), Found::Items(..)));
        assert!(matches!(half.take(1000), Found::End) && matches!(half.take(1000), Found::End));
    }

    #[test]
    fn a_reader_that_stops_tells_the_peer_once_and_nothing_is_kept() {
        let mut half = ReceivingHalf::open(1000);
        assert_eq!(half.came_alone(Codec::Json, b"1"), Ok(FlowEvent::WakeReader));
        assert_eq!((half.stop(), half.stop()), (FlowEvent::SendCancel, FlowEvent::Nothing));
        assert_eq!(half.came(items(9)), Ok(FlowEvent::Nothing));
        assert!(!half.has_items() && matches!(half.take(1000), Found::Gone));
        let mut ended = ReceivingHalf::open(1000);
        assert_eq!(ended.end(Ok(())), FlowEvent::WakeReader);
        assert_eq!(ended.stop(), FlowEvent::Nothing, "nothing more comes");
        assert_eq!(ReceivingHalf::refused().stop(), FlowEvent::Nothing);
    }

    #[test]
    fn credit_is_granted_once_half_of_the_window_is_read() {
        let mut half = ReceivingHalf::open(100);
        for _ in 0..4 {
            assert!(half.came(items(4)).is_ok());
        }
        let mut granted = |window| match half.take(window) {
            Found::Items(_, granted) => granted,
            other => panic!("{other:?}"),
        };
        assert_eq!([granted(100), granted(100), granted(100), granted(100)], [None, None, Some(60), None]);
    }

    proptest! {
        #[test]
        fn a_sender_that_exceeds_its_credit_is_detected(lengths in proptest::collection::vec(0..100_000usize, 1..30)) {
            let mut half = ReceivingHalf::open(256 << 10);
            let mut left = 256i64 << 10;
            for length in lengths {
                let items = items(length);
                let cost = items.cost();
                prop_assert_eq!(half.came(items).is_err(), left <= 0);
                if left <= 0 {
                    break;
                }
                left -= cost as i64;
            }
        }
    }
}
