//! Functions that return a stream: encodes their items.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde_core::Serialize;

use super::{FunctionResult, Invocation, ResultTarget, own_error};
use crate::codec::Codec;
use crate::error::{Executed, MethodErrorSummary};
use crate::outcome::ReturnedValue;
use crate::outcome::item_sink::{ItemSink, UnfitItem};
use crate::outcome::items::ItemBatch;

thread_local! {
    /// The items of the function that is polled now. The future of the function is between its poller and its stream,
    /// and owns the data that the stream borrows.
    static YIELDED: Cell<Option<Box<YieldedItems>>> = const { Cell::new(None) };
}

/// The items that a function has yielded.
pub(crate) struct YieldedItems {
    sink: ItemSink,
    failure: Option<(FunctionResult, ResultTarget)>,
    codec: Option<Codec>,
    /// Whether its stream has been polled for an item.
    is_flowing: bool,
}

impl YieldedItems {
    /// For items in that codec, or unencoded, with at most `largest` bytes each.
    pub(crate) fn new(codec: Option<Codec>, largest: usize) -> Self {
        Self { sink: ItemSink::new(codec, largest), failure: None, codec, is_flowing: false }
    }

    /// How many bytes may be collected before they are read.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.sink.set_room(room);
    }

    pub(crate) fn take(&mut self) -> Option<ItemBatch> {
        self.sink.take()
    }

    /// The function's own error, if it ended with one.
    pub(crate) fn take_data(&mut self) -> Option<ReturnedValue> {
        self.failure.take().map(|(_, data)| data.into_value())
    }

    /// Whether the function has returned its stream, which may be dropped at any time.
    pub(crate) fn is_flowing(&self) -> bool {
        self.is_flowing
    }

    fn output(&self) -> ResultTarget {
        match self.codec {
            Some(codec) => ResultTarget::Encoded(codec, Vec::new()),
            None => ResultTarget::Local(None),
        }
    }

    /// Takes an item. Returns whether there is no room for more.
    fn push<T: Serialize + Send + 'static>(&mut self, item: T) -> bool {
        match self.sink.push(item) {
            Ok(is_full) => is_full,
            Err(UnfitItem::TooLarge(error)) => {
                self.failure = Some((FunctionResult::Rpc(error.executed_is(Executed::Yes)), ResultTarget::Local(None)));
                true
            }
            Err(UnfitItem::Unencodable(why)) => {
                self.failure = Some((FunctionResult::Unencodable(why), ResultTarget::Local(None)));
                true
            }
        }
    }

    fn fail<E: Serialize + Send + 'static>(&mut self, error: E, summary: fn(&E) -> MethodErrorSummary) {
        let mut data = self.output();
        let outcome = own_error(error, summary, &mut data);
        self.failure = Some((outcome, data));
    }
}

/// Takes the yielded items back when it is dropped, also after a panic in the poll.
struct LentItems<'y> {
    yielded: &'y mut Option<Box<YieldedItems>>,
    before: Option<Box<YieldedItems>>,
}

impl<'y> LentItems<'y> {
    fn begin(yielded: &'y mut Option<Box<YieldedItems>>) -> Self {
        let before = YIELDED.replace(yielded.take());
        Self { yielded, before }
    }
}

impl Drop for LentItems<'_> {
    fn drop(&mut self) {
        *self.yielded = YIELDED.replace(self.before.take());
    }
}

pin_project_lite::pin_project! {
    /// A function that returns a stream, as a future that ends with the stream and puts its items into `YIELDED`.
    pub(super) struct Streams<Fut> {
        #[pin]
        pub(super) future: Fut,
        pub(super) has_ended: bool,
    }
}

impl<Fut: Future<Output = ()> + Send> Invocation for Streams<Fut> {
    fn poll_into(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ResultTarget) -> Poll<FunctionResult> {
        let ResultTarget::Stream(yielded) = out else {
            return Poll::Ready(FunctionResult::Unencodable("it returns a stream".into()));
        };
        let this = self.project();
        if !*this.has_ended && yielded.as_ref().is_some_and(|yielded| yielded.failure.is_none()) {
            let lent = LentItems::begin(yielded);
            let polled = this.future.poll(cx);
            drop(lent);
            *this.has_ended = polled.is_ready();
        }
        let Some(yielded) = yielded else {
            return Poll::Ready(FunctionResult::Unencodable(
                "what it yielded went astray, which is a defect of byname".into(),
            ));
        };
        if !yielded.sink.is_empty() {
            return Poll::Ready(FunctionResult::Items);
        }
        if let Some((outcome, _)) = &mut yielded.failure {
            *this.has_ended = true;
            return Poll::Ready(std::mem::replace(outcome, FunctionResult::Ok));
        }
        if *this.has_ended { Poll::Ready(FunctionResult::Ok) } else { Poll::Pending }
    }
}

/// Polls the stream and puts its items, until no item is ready or the room is used. Ready when it has ended.
type CollectItems<S, E> =
    fn(Pin<&mut S>, &mut YieldedItems, fn(&E) -> MethodErrorSummary, &mut Context<'_>) -> Poll<()>;

pin_project_lite::pin_project! {
    /// Passes the items of a stream to the poller of the function.
    pub struct Yields<S: Stream, E> {
        #[pin]
        stream: S,
        collect: CollectItems<S, E>,
        summary: fn(&E) -> MethodErrorSummary,
    }
}

impl<S: Stream<Item: Serialize + Send + 'static>, E> Yields<S, E> {
    /// A stream of values.
    pub(crate) fn plain(stream: S) -> Self {
        let collect: CollectItems<S, E> = |stream, yielded, _, cx| collect(stream, cx, |item| yielded.push(item));
        Self { stream, collect, summary: MethodErrorSummary::of_any }
    }
}

impl<S, T, E> Yields<S, E>
where
    S: Stream<Item = Result<T, E>>,
    T: Serialize + Send + 'static,
    E: Serialize + Send + 'static,
{
    /// A stream of results. The first error ends it.
    pub(crate) fn fallible(stream: S, summary: fn(&E) -> MethodErrorSummary) -> Self {
        let collect: CollectItems<S, E> = |stream, yielded, summary, cx| {
            collect(stream, cx, |item| match item {
                Ok(item) => yielded.push(item),
                Err(error) => {
                    yielded.fail(error, summary);
                    true
                }
            })
        };
        Self { stream, collect, summary }
    }
}

/// Gives the items that are ready to `put`, until it says that the room is used.
#[inline]
fn collect<S: Stream>(mut stream: Pin<&mut S>, cx: &mut Context<'_>, mut put: impl FnMut(S::Item) -> bool) -> Poll<()> {
    loop {
        match stream.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => {
                if put(item) {
                    // The reader of the items polls again without being woken.
                    return Poll::Pending;
                }
            }
            Poll::Ready(None) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}

impl<S: Stream, E> Future for Yields<S, E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let mut taken = BorrowedSink::now();
        let Some(yielded) = taken.0.as_deref_mut() else {
            unreachable!("it was lent before the poll");
        };
        yielded.is_flowing = true;
        (this.collect)(this.stream, yielded, *this.summary, cx)
    }
}

/// The items that are lent to the polled function, until this is dropped. Streams may panic.
struct BorrowedSink(Option<Box<YieldedItems>>);

impl BorrowedSink {
    fn now() -> Self {
        match YIELDED.take() {
            None => panic!("a stream was polled outside of its call, which is a defect of byname"),
            taken => Self(taken),
        }
    }
}

impl Drop for BorrowedSink {
    fn drop(&mut self) {
        YIELDED.set(self.0.take());
    }
}

impl<S: Stream, E> std::fmt::Debug for Yields<S, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Yields")
    }
}
