//! The streams of calls on one connection, from the client's side.

use std::future::poll_fn;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::{ConnectionStatus, FrameCall, FrameCallEnd, FrameConnection, FrameConnectionState};
use crate::codec::Codec;
use crate::frames::header::{FrameHeader, kind};
use crate::frames::payload::put_cancel;
use crate::frames::payload::stream::put_end;
use crate::frames::{SenderEnd, StreamSender, Violation, wake};
use crate::outcome::Failure;
use crate::outcome::item_parts::OVERHEAD;
use crate::outcome::items::{EncodedItems, ItemSource, Items, NextItems};
use crate::runtime;

/// Consecutive items of one stream in a message.
#[derive(Default)]
pub(super) struct ItemRun {
    pub(super) id: u64,
    pub(super) spans: Vec<Range<usize>>,
}

impl ItemRun {
    /// Whether this is another item of it, in one piece.
    pub(super) fn goes_on(&self, header: &FrameHeader) -> bool {
        (header.kind, header.flags, header.id) == (kind::ITEM, 0, self.id) && !self.spans.is_empty()
    }

    /// Delivers them.
    pub(super) fn end(
        &mut self,
        state: &mut FrameConnectionState,
        message: &Bytes,
        codec: Codec,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), Violation> {
        if self.spans.is_empty() {
            return Ok(());
        }
        let spans = mem::take(&mut self.spans);
        let length: usize = spans.iter().map(Range::len).sum();
        let cost = length + spans.len() * OVERHEAD;
        // A few items would keep the memory of the whole message.
        let items = if cost < message.len() / 4 {
            let (mut own, mut at) = (Vec::with_capacity(length), 0);
            let moved = spans.into_iter().map(|span| {
                own.extend_from_slice(&message[span.clone()]);
                at += span.len();
                at - span.len()..at
            });
            let moved = moved.collect();
            EncodedItems::new(codec, own.into(), moved)
        } else {
            EncodedItems::new(codec, message.clone(), spans)
        };
        state.came(self.id, items, wakers)
    }
}

/// Sends the caller's stream.
pub(in crate::client) struct FrameUpload {
    sender: StreamSender,
    items: Items,
}

impl FrameUpload {
    pub(in crate::client) fn new(mut items: Items, codec: Codec) -> Self {
        items.encode_in(codec);
        Self { sender: StreamSender::new(HeaderMap::new()), items }
    }

    /// Sends the items that are ready, after the call is sent. Ready when no more are sent, with the failure if the
    /// stream broke off.
    pub(in crate::client) fn poll(&mut self, sending: &FrameCall, cx: &mut Context<'_>) -> Poll<Option<Failure>> {
        self.poll_on(&sending.link, sending.sent_id(), cx)
    }

    fn poll_on(&mut self, link: &FrameConnection, id: u64, cx: &mut Context<'_>) -> Poll<Option<Failure>> {
        match ready!(self.sender.poll(&link.state, id, &mut self.items, cx)) {
            SenderEnd::End => {
                let mut state = link.state();
                if state.status != ConnectionStatus::Over {
                    put_end(id, &HeaderMap::new(), &mut state.write_queue);
                }
                link.state.unlock_and_wake(state);
                Poll::Ready(None)
            }
            SenderEnd::Failed(failure) => Poll::Ready(Some(failure)),
            SenderEnd::Unwanted => Poll::Ready(None),
        }
    }

    /// Continues in a task until the call ends or the returned value is dropped. If the stream breaks off, `failure` says
    /// why, and the call ends.
    pub(in crate::client) fn spawn(
        mut self,
        sending: &FrameCall,
        failure: Arc<Mutex<Option<Failure>>>,
    ) -> Option<UploadTask> {
        let (id, link) = (sending.id?, Arc::clone(&sending.link));
        let task = runtime::spawn(&Handle::current(), async move {
            if let Some(failed) = poll_fn(|cx| self.poll_on(&link, id, cx)).await {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
                // The caller and the server learn that no more items come.
                let mut state = link.state();
                let waker = state.calls.end(id, FrameCallEnd::Late);
                put_cancel(id, &mut state.write_queue);
                link.state.unlock_and_wake(state);
                wake([waker]);
            }
        });
        Some(UploadTask(task.abort_handle()))
    }

    /// Its items, if none was taken.
    pub(in crate::client) fn into_untouched(self) -> Option<Items> {
        (!self.sender.has_taken()).then_some(self.items)
    }
}

/// A task that sends a stream until this is dropped.
pub(in crate::client) struct UploadTask(AbortHandle);

impl Drop for UploadTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stream without items.
pub(super) struct EmptyStream;

impl ItemSource for EmptyStream {
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>, _: usize) -> Poll<NextItems> {
        Poll::Ready(NextItems::End)
    }
}
