//! Calls by frames that have a stream, in either direction, on the server.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderMap;
use tokio::time::Instant;

use super::{SharedReplies, first_polled, put_reply};
use crate::call_record::CallRecord;
use crate::codec::{self, Codec};
use crate::deadline::{DeadlineTimer, later};
use crate::dispatch::Dispatch;
use crate::error::{Code, Error, Executed};
use crate::frames::payload::put_cancel;
use crate::frames::payload::reply::put_failure;
use crate::frames::payload::stream::{put_credit, put_end};
use crate::frames::{Found, SenderEnd, SharedState, StreamSender, wake};
use crate::limits_and_timeouts::{Limit, in_bytes};
use crate::outcome::items::{ItemBatch, ItemSource, Items, NextItems};
use crate::outcome::{Failure, Returned};
use crate::registry::RegistryEntry;
use crate::request::{Reply, Request};

/// The caller's stream, for the function to read.
pub(super) fn uploaded(shared: &Arc<SharedState<SharedReplies>>, id: u64) -> Items {
    Items::new(UploadedItems { shared: Arc::clone(shared), id })
}

/// Runs a call that has a stream and has come at `since`, and sends its answer.
pub(super) async fn answer(
    shared: Arc<SharedState<SharedReplies>>,
    dispatch: Arc<Dispatch>,
    since: Instant,
    id: u64,
    entry: Option<Arc<RegistryEntry>>,
    request: Request,
    mut record: CallRecord,
) {
    let (name, limit) = (Arc::clone(&request.name), dispatch.limits().message);
    let Reply { result, metadata } = match first_polled(dispatch.admission(), since).1 {
        Ok(()) => dispatch.run_found(entry.as_ref(), request).await,
        Err(refused) => {
            drop(request);
            refused.into()
        }
    };
    let last = match result {
        Ok(Returned::Stream(items)) => send(&shared, &dispatch, id, record.take().follow(items), metadata, &name).await,
        result => StreamReply::Reply(Reply { result, metadata }),
    };
    let mut replies = shared.lock();
    let write_queue = &mut replies.write_queue;
    match last {
        StreamReply::End(metadata) => put_end(id, &metadata, write_queue),
        StreamReply::Failed(failure, metadata) => {
            put_failure(id, &metadata, failure, write_queue);
        }
        StreamReply::Reply(reply) => put_reply(write_queue, id, reply, limit, &name, &mut record),
        StreamReply::Nothing => {}
    }
    let closed = replies.flows.close(id);
    replies.ended.push(id);
    shared.unlock_and_wake(replies);
    wake(closed);
}

/// The error for an item of the caller's stream that is larger than the server accepts.
pub(super) fn item_too_large(limit: usize, codec: Codec) -> Error {
    let why = format!(
        "an item of the stream has more than {} (`Limits::message` of the server); make it smaller, or raise \
         it{}",
        in_bytes(limit),
        codec::shorter(codec)
    );
    Error::new(Code::ResourceExhausted, why).of_limit(Limit::Message)
}

/// The end of a call, with the metadata that no item carried.
enum StreamReply {
    End(HeaderMap),
    Failed(Failure, HeaderMap),
    Reply(Reply),
    /// The caller is gone.
    Nothing,
}

/// Sends the items of a stream, within the reader's credit.
async fn send(
    shared: &SharedState<SharedReplies>,
    dispatch: &Dispatch,
    id: u64,
    mut items: Items,
    metadata: HeaderMap,
    name: &str,
) -> StreamReply {
    let mut sender = StreamSender::new(metadata);
    let idle = dispatch.limits().stream_idle;
    let (mut timer, mut held_since) = (DeadlineTimer::default(), None);
    let mut parting = pin!(dispatch.streams_end());
    let ended = poll_fn(|cx| {
        let polled = sender.poll(shared, id, &mut items, cx);
        if polled.is_ready() || !sender.is_held_up() {
            held_since = None;
            return polled;
        }
        // A function that is not polled for items does not notice that the server stops.
        if parting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(given_up(&mut items, crate::dispatch::stopping(name)));
        }
        let since = *held_since.get_or_insert_with(Instant::now);
        timer.poll_at(cx, later(since, idle)).map(|()| {
            let why = format!(
                "no item of the stream of `{name}` was read for {idle:?} (`Limits::stream_idle` of the server); read \
                 it sooner, or raise the limit"
            );
            let error = Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Yes).of_limit(Limit::StreamIdle);
            given_up(&mut items, error)
        })
    })
    .await;
    match ended {
        SenderEnd::End => StreamReply::End(sender.take_metadata()),
        SenderEnd::Failed(failure) => StreamReply::Failed(failure, sender.take_metadata()),
        SenderEnd::Unwanted => StreamReply::Nothing,
    }
}

/// The reader takes no more of the stream, for this reason.
fn given_up(items: &mut Items, error: Error) -> SenderEnd {
    let failure = Failure::from(error);
    items.give_up(&failure);
    SenderEnd::Failed(failure)
}

struct UploadedItems {
    shared: Arc<SharedState<SharedReplies>>,
    id: u64,
}

impl ItemSource for UploadedItems {
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<NextItems> {
        let mut replies = self.shared.lock();
        match replies.flows.take(self.id, cx) {
            Found::Items(items, more) => {
                if let Some(more) = more {
                    put_credit(self.id, more, &mut replies.write_queue);
                    self.shared.unlock_and_wake(replies);
                }
                Poll::Ready(NextItems::Batch(ItemBatch::Encoded(items)))
            }
            Found::Nothing => Poll::Pending,
            Found::End => Poll::Ready(NextItems::End),
            Found::Cut(error) => Poll::Ready(NextItems::Failed(error.into())),
            Found::Gone => {
                let why = "the caller is gone or waits no longer; the rest of its stream does not come";
                Poll::Ready(NextItems::Failed(Error::new(Code::Cancelled, why).into()))
            }
        }
    }
}

impl Drop for UploadedItems {
    /// The function reads no more.
    fn drop(&mut self) {
        let mut replies = self.shared.lock();
        if replies.flows.stop_receiving(self.id) {
            put_cancel(self.id, &mut replies.write_queue);
            self.shared.unlock_and_wake(replies);
        }
    }
}
