//! Sends the items of one stream as frames: [`StreamSender`].

use std::mem;
use std::task::{Context, Poll, Waker, ready};

use http::HeaderMap;

use super::SharedState;
use super::flow_control::{Room, SharedStreams};
use super::payload::stream::put_items;
use crate::outcome::Failure;
use crate::outcome::items::{ItemBatch, Items, NextItems};

/// After so many batches the task yields, so that the connection and other calls continue.
const AT_ONCE: usize = 4;

/// Sends one stream of a call, as far as its reader and the connection allow. A state machine;
/// [`FlowControl`](super::FlowControl) keeps its waker while it waits.
pub(crate) struct StreamSender {
    /// Goes out with the first item.
    metadata: HeaderMap,
    has_taken: bool,
    /// Items that were made before there was room for them. Only asking for items shows whether there are more.
    held: Option<ItemBatch>,
    last: Option<LastSent>,
}

enum LastSent {
    End,
    Failed(Failure),
}

/// How the sending of a stream ended. The peer was not told yet.
pub(crate) enum SenderEnd {
    /// All items are sent.
    End,
    /// All items before the failure are sent.
    Failed(Failure),
    /// The peer wants no more items.
    Unwanted,
}

impl StreamSender {
    pub(crate) fn new(metadata: HeaderMap) -> Self {
        Self { metadata, has_taken: false, held: None, last: None }
    }

    /// Whether an item was taken from the stream, so that the stream is no longer complete.
    pub(crate) fn has_taken(&self) -> bool {
        self.has_taken
    }

    /// Whether it waits for the reader or for the connection, not for items.
    pub(crate) fn is_held_up(&self) -> bool {
        self.held.is_some()
    }

    /// The metadata of a stream without items.
    pub(crate) fn take_metadata(&mut self) -> HeaderMap {
        mem::take(&mut self.metadata)
    }

    /// Sends the items that are ready and that there is room for.
    pub(crate) fn poll<T: SharedStreams>(
        &mut self,
        shared: &SharedState<T>,
        id: u64,
        items: &mut Items,
        cx: &mut Context<'_>,
    ) -> Poll<SenderEnd> {
        let mut batches = 0;
        while self.last.is_none() {
            if batches >= AT_ONCE {
                // The items so far are written while more are made.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            batches += 1;
            let mut state = shared.lock();
            let (flows, write_queue) = state.streams();
            let room = flows.room(id, write_queue.len(), cx);
            drop(state);
            let room = match (room, self.held.take()) {
                (Room::Unwanted, _) => return Poll::Ready(SenderEnd::Unwanted),
                (Room::Bytes(_), Some(held)) => {
                    self.put(shared, id, held);
                    continue;
                }
                (Room::None, Some(held)) => {
                    self.held = Some(held);
                    return Poll::Pending;
                }
                (Room::Bytes(room), None) => Some(room),
                (Room::None, None) => None,
            };
            // `room` has kept the waker, so this is also woken when there is room or the stream is refused.
            match ready!(items.poll_next(cx, room.unwrap_or(1))) {
                NextItems::Batch(batch) => {
                    self.has_taken = true;
                    match room {
                        Some(_) => self.put(shared, id, batch),
                        None => self.held = Some(batch),
                    }
                }
                NextItems::End => self.last = Some(LastSent::End),
                NextItems::Failed(failure) => self.last = Some(LastSent::Failed(failure)),
            }
        }
        let mut state = shared.lock();
        if !state.streams().0.may_end(id, cx) {
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(match self.last.take() {
            Some(LastSent::Failed(failure)) => SenderEnd::Failed(failure),
            _ => SenderEnd::End,
        })
    }

    fn put<T: SharedStreams>(&mut self, shared: &SharedState<T>, id: u64, batch: ItemBatch) {
        // Items that are sent by frames are always encoded.
        let ItemBatch::Encoded(batch) = batch else {
            return;
        };
        let mut state = shared.lock();
        let (flows, write_queue) = state.streams();
        let is_large = put_items(id, &self.metadata, &batch, flows.has_batches(), write_queue);
        self.metadata.clear();
        flows.sent(id, batch.cost(), is_large);
        state.has_sent(id);
        shared.unlock_and_wake(state);
    }
}

/// Wakes all of them.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Option<Waker>>) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}

#[cfg(all(test, byname_loom))]
mod loom_tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::thread;

    use super::super::{FlowControl, SharedStreams, WriteQueue};
    use super::*;
    use crate::codec::Codec;
    use crate::outcome::items::{EncodedItems, ItemSource};

    struct Side {
        flows: FlowControl,
        write_queue: WriteQueue,
    }

    impl SharedStreams for Side {
        fn streams(&mut self) -> (&mut FlowControl, &mut WriteQueue) {
            (&mut self.flows, &mut self.write_queue)
        }

        fn has_sent(&mut self, _: u64) {}
    }

    /// This many items, each ready at once.
    struct There(u8);

    impl ItemSource for There {
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: usize) -> Poll<NextItems> {
            if self.0 == 0 {
                return Poll::Ready(NextItems::End);
            }
            self.0 -= 1;
            Poll::Ready(NextItems::Batch(ItemBatch::Encoded(EncodedItems::one(
                Codec::Json,
                bytes::Bytes::from_static(b"1"),
            ))))
        }
    }

    /// A lost wake-up would be a deadlock, which loom reports.
    #[test]
    fn a_stream_sender_goes_on_with_the_credit_that_another_thread_gives() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let mut flows = FlowControl::default();
            flows.open(1, 1, false);
            let shared = Arc::new(SharedState::new(Side { flows, write_queue: WriteQueue::new() }));
            let sending = Arc::clone(&shared);
            let sender = thread::spawn(move || {
                let (mut sender, mut items) = (StreamSender::new(HeaderMap::new()), Items::new(There(3)));
                block_on(poll_fn(|cx| {
                    sender.poll(&*sending, 1, &mut items, cx).map(|how| matches!(how, SenderEnd::End))
                }))
            });
            for _ in 0..2 {
                let waker = shared.lock().flows.credit(1, 17);
                wake([waker]);
            }
            assert!(sender.join().expect("it doesn't panic"));
        });
    }

    #[test]
    fn a_stream_sender_ends_when_another_thread_closes_its_call() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let mut flows = FlowControl::default();
            flows.open(1, 17, false);
            let shared = Arc::new(SharedState::new(Side { flows, write_queue: WriteQueue::new() }));
            let sending = Arc::clone(&shared);
            let sender = thread::spawn(move || {
                let (mut sender, mut items) = (StreamSender::new(HeaderMap::new()), Items::new(There(200)));
                block_on(poll_fn(|cx| sender.poll(&*sending, 1, &mut items, cx).map(|_| ())));
            });
            let closed = shared.lock().flows.close(1);
            wake(closed);
            sender.join().expect("it doesn't panic");
        });
    }
}
