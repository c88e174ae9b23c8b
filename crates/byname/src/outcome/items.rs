//! The items of a stream on their way, types erased: [`Items`], in [`ItemBatch`]es.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::iter;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::item_parts::OVERHEAD;
use super::{Failure, item_parts};
use crate::codec::Codec;

/// The most bytes that are asked for at once, so that the first go out while the others are made.
pub(crate) const ROOM: usize = 16 << 10;

/// A sequence of items. Dropping it stops whoever makes them.
pub struct Items {
    source: Pin<Box<dyn ItemSource>>,
    /// What has come already.
    first: Option<NextItems>,
    /// The source has said that there are no more.
    has_ended: bool,
}

/// Who makes items, or brings them from elsewhere.
pub(crate) trait ItemSource: Send {
    /// The next items: those that are there, up to about `room` bytes of them and at least one. After [`NextItems::End`] and
    /// [`NextItems::Failed`] it is not asked again.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>, room: usize) -> Poll<NextItems>;

    /// Has items encoded in that codec that have not been; whoever was given them in one keeps to it.
    fn encode_in(self: Pin<&mut Self>, _: Codec) {}

    /// The reader has begun with another item of the batch that came last.
    fn goes_on(self: Pin<&mut Self>) {}

    /// The reader stops before the end for this reason, and drops the items.
    fn give_up(self: Pin<&mut Self>, _: &Failure) {}
}

/// What comes next.
pub(crate) enum NextItems {
    Batch(ItemBatch),
    /// There are no more.
    End,
    /// There are no more, and that is not all there were to be.
    Failed(Failure),
}

impl Items {
    pub(crate) fn new(source: impl ItemSource + 'static) -> Self {
        Self { source: Box::pin(source), first: None, has_ended: false }
    }

    /// See [`ItemSource::poll_next`].
    ///
    /// # Panics
    ///
    /// When it is asked again after [`NextItems::End`] or [`NextItems::Failed`].
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<NextItems> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        assert!(!self.has_ended, "items were asked for after their end, which is a defect of byname");
        let next = ready!(self.source.as_mut().poll_next(cx, room));
        self.has_ended = !matches!(next, NextItems::Batch(_));
        Poll::Ready(next)
    }

    /// See [`ItemSource::encode_in`].
    pub(crate) fn encode_in(&mut self, codec: Codec) {
        self.source.as_mut().encode_in(codec);
    }

    /// See [`ItemSource::goes_on`].
    pub(crate) fn goes_on(&mut self) {
        self.source.as_mut().goes_on();
    }

    /// See [`ItemSource::give_up`].
    pub(crate) fn give_up(&mut self, why: &Failure) {
        self.source.as_mut().give_up(why);
    }

    /// Waits for what comes first: a failure stands for the whole call, anything else is left for the next who asks.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        match poll_fn(|cx| self.poll_next(cx, 1)).await {
            NextItems::Failed(failure) => Err(failure),
            first => {
                self.first = Some(first);
                Ok(())
            }
        }
    }
}

/// A stream that a call brings, before it is known what its items are to be encoded in.
pub struct CallStream {
    typed: Box<dyn Any + Send>,
    encode: ItemEncoder,
}

type ItemEncoder = fn(Box<dyn Any + Send>, Option<Codec>, usize) -> Items;

impl CallStream {
    pub(crate) fn new(typed: Box<dyn Any + Send>, encode: ItemEncoder) -> Self {
        Self { typed, encode }
    }

    /// Its items in that codec, none larger than that; as they are where there is no codec.
    pub(crate) fn items(self, codec: Option<Codec>, largest: usize) -> Items {
        (self.encode)(self.typed, codec, largest)
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Items")
    }
}

/// Items that have come, at least one.
#[derive(Debug)]
pub(crate) enum ItemBatch {
    Encoded(EncodedItems),
    /// One as it is, within the process.
    Local(Option<Box<dyn Any + Send>>),
}

impl ItemBatch {
    /// How many items came, and their bytes. An item as it is has none.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Self::Encoded(batch) => batch.size(),
            Self::Local(item) => (usize::from(item.is_some()), 0),
        }
    }
}

/// Items somewhere in these bytes, in their order.
#[derive(Debug)]
pub(crate) struct EncodedItems {
    pub(crate) codec: Codec,
    bytes: Bytes,
    layout: ItemLayout,
    /// How many bytes, or spans, are before the first one that was not taken.
    at: usize,
    count: usize,
    /// What all of them cost, as [`OVERHEAD`] has it.
    cost: usize,
    /// The bytes of the last one.
    last: usize,
}

#[derive(Debug)]
enum ItemLayout {
    /// Each behind its length, as [`item_parts`] has it.
    Parts,
    Spans(Vec<Range<usize>>),
}

impl EncodedItems {
    pub(crate) fn new(codec: Codec, bytes: Bytes, spans: Vec<Range<usize>>) -> Self {
        let length: usize = spans.iter().map(Range::len).sum();
        let (count, last) = (spans.len(), spans.last().map_or(0, Range::len));
        let cost = length + count * OVERHEAD;
        Self { codec, bytes, layout: ItemLayout::Spans(spans), at: 0, count, cost, last }
    }

    /// `count` items, each behind its length. The last one has `last` bytes.
    pub(crate) fn of_parts(codec: Codec, bytes: Bytes, count: usize, last: usize) -> Self {
        let cost = item_parts::cost(bytes.len(), count);
        Self { codec, bytes, layout: ItemLayout::Parts, at: 0, count, cost, last }
    }

    /// One item that is all of these bytes.
    pub(crate) fn one(codec: Codec, bytes: Bytes) -> Self {
        let whole = 0..bytes.len();
        Self::new(codec, bytes, vec![whole])
    }

    /// How many items came, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.count, self.cost - self.count * OVERHEAD)
    }

    /// What the items cost that came.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// The same without the last.
    pub(crate) fn cost_before_the_last(&self) -> usize {
        self.cost - (self.last + OVERHEAD)
    }

    /// All items in one piece of memory, each behind its length, if that is how they lie here.
    pub(crate) fn parts(&self) -> Option<&[u8]> {
        match self.layout {
            ItemLayout::Parts => Some(&self.bytes),
            ItemLayout::Spans(_) => None,
        }
    }

    /// Those that were not taken.
    pub(crate) fn rest(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = self.at;
        iter::from_fn(move || self.layout.next(&self.bytes, &mut at))
    }

    /// The next one.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<&[u8]> {
        self.layout.next(&self.bytes, &mut self.at)
    }
}

impl ItemLayout {
    #[inline]
    fn next<'b>(&self, bytes: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
        match self {
            Self::Parts => {
                let item = item_parts::next(bytes.get(*at..)?)?;
                *at += item_parts::LENGTH + item.len();
                Some(item)
            }
            Self::Spans(spans) => {
                let span = spans.get(*at)?;
                *at += 1;
                Some(&bytes[span.clone()])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::error::{Code, Error};

    struct Once(Option<NextItems>);

    impl ItemSource for Once {
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: usize) -> Poll<NextItems> {
            self.0.take().map_or(Poll::Pending, Poll::Ready)
        }
    }

    /// Without the check it would wait for ever.
    fn asked_twice(next: NextItems) -> Poll<NextItems> {
        let mut items = Items::new(Once(Some(next)));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(items.poll_next(cx, 1).is_ready());
        items.poll_next(cx, 1)
    }

    #[test]
    fn items_go_on_after_a_batch() {
        let batch = ItemBatch::Encoded(EncodedItems::one(Codec::Json, Bytes::from_static(b"1")));
        assert!(asked_twice(NextItems::Batch(batch)).is_pending());
    }

    #[test]
    #[should_panic(expected = "items were asked for after their end")]
    fn asking_after_the_end_panics() {
        let _ = asked_twice(NextItems::End);
    }

    #[test]
    #[should_panic(expected = "items were asked for after their end")]
    fn polling_after_a_failure_panics_and_does_not_look_like_the_end() {
        let _ = asked_twice(NextItems::Failed(Error::new(Code::Cancelled, "cut").into()));
    }
}
