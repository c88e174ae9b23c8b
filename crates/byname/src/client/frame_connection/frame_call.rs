//! One call on a connection that many share: [`FrameCall`].

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use tokio::time::Instant;

use super::FrameConnection;
use super::call_table::FrameCallEnd;
use crate::frames::payload::call::CallPayload;
use crate::frames::payload::put_cancel;
use crate::frames::payload::stream::put_credit;
use crate::frames::{Found, wake};
use crate::method::Method;
use crate::outcome::items::EncodedItems;

/// A call that is being sent or waits for its answer. Dropping it cancels the call: if it has not started, it does not
/// run.
#[derive(Debug)]
pub(in crate::client) struct FrameCall {
    pub(super) link: Arc<FrameConnection>,
    /// Its id, once it is sent and until it has ended.
    pub(super) id: Option<u64>,
    /// Its place in the queue.
    pub(super) ticket: Option<u64>,
}

impl FrameCall {
    pub(in crate::client) fn link(&self) -> &Arc<FrameConnection> {
        &self.link
    }

    /// Sends it. Ready once it is sent; the task that polled is then woken at its end.
    pub(in crate::client) fn poll_send(
        &mut self,
        call: CallHead<'_>,
        frame: &mut CallPayload,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        let sent = ready!(self.link.poll_send(call, frame, &mut self.ticket, cx));
        Poll::Ready(sent.map(|id| self.id = Some(id)))
    }

    /// How it ended, once it is sent.
    pub(in crate::client) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<FrameCallEnd> {
        let id = self.sent_id();
        let ended = ready!(self.link.state().calls.poll(id, cx));
        self.id = None;
        Poll::Ready(ended)
    }

    /// Waits for the first items or for the end, once it is sent.
    pub(in crate::client) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<BegunStream> {
        let id = self.sent_id();
        if self.link.state().flows.has_items(id) {
            return Poll::Ready(BegunStream::Items);
        }
        self.poll_ended(cx).map(BegunStream::Ended)
    }

    /// The next items of a stream that has begun, or how it ended.
    pub(in crate::client) fn poll_items(&mut self, cx: &mut Context<'_>) -> Poll<Result<EncodedItems, FrameCallEnd>> {
        let id = self.sent_id();
        let mut state = self.link.state();
        if let Found::Items(items, more) = state.flows.take(id, cx) {
            if let Some(more) = more
                && state.calls.is_waiting(id)
            {
                put_credit(id, more, &mut state.write_queue);
                self.link.state.unlock_and_wake(state);
            }
            return Poll::Ready(Ok(items));
        }
        let ended = ready!(state.calls.poll(id, cx));
        let closed = state.flows.close(id);
        drop(state);
        wake(closed);
        self.id = None;
        Poll::Ready(Err(ended))
    }

    /// The metadata that came with the first item.
    pub(in crate::client) fn take_metadata(&mut self) -> HeaderMap {
        self.id.map_or_else(HeaderMap::new, |id| self.link.state().flows.take_metadata(id))
    }

    /// The id of a call that is sent and has not ended.
    ///
    /// # Panics
    ///
    /// If it is not sent, or has ended: nothing would wake its poller.
    pub(super) fn sent_id(&self) -> u64 {
        self.id.expect("a call by frames is polled once it is sent, and not after its end")
    }
}

impl Drop for FrameCall {
    fn drop(&mut self) {
        if self.id.is_none() && self.ticket.is_none() {
            return;
        }
        let mut state = self.link.state();
        let closed = match self.id {
            Some(id) if !state.flows.is_empty() => state.flows.close(id),
            _ => [None, None],
        };
        // A call that is no longer in the queue was woken to be sent, and passes that on.
        let mut leaves_a_place = self.ticket.is_some_and(|ticket| state.queue.remove(&ticket).is_none());
        if let Some(id) = self.id
            && state.calls.remove(id)
        {
            leaves_a_place = true;
            if !state.write_queue.take_back(id) {
                state.write_queue.give_up(id);
                put_cancel(id, &mut state.write_queue);
            }
        }
        let next = if leaves_a_place { state.next_in_queue() } else { None };
        self.link.state.unlock_and_wake(state);
        wake([next]);
        wake(closed);
    }
}

/// The first event of a call with streams.
pub(in crate::client) enum BegunStream {
    /// Items have come.
    Items,
    Ended(FrameCallEnd),
}

/// What a connection has to know of a call.
#[derive(Clone, Copy, Debug)]
pub(in crate::client) struct CallHead<'c> {
    pub(in crate::client) name: &'c str,
    /// What its caller knows of the function. A call by name alone knows nothing.
    pub(in crate::client) method: Option<&'static Method>,
    pub(in crate::client) deadline: Instant,
    /// When it began, if that was a moment ago.
    pub(in crate::client) began: Option<Instant>,
}

/// Why a call was not sent.
#[derive(Debug)]
pub(in crate::client) enum Unsent {
    /// The connection accepts no further call.
    Over,
    /// The arguments are larger than the server accepts: their bytes, and the most that it accepts.
    TooLarge(usize, usize),
    /// The queue is full: how many calls wait in it.
    Crowded(usize),
    /// Its deadline passed while it waited in the queue.
    Late,
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::tests::link;
    use super::*;

    /// Without the check it would wait forever.
    #[test]
    #[should_panic(expected = "a call by frames is polled once it is sent")]
    fn polling_a_call_that_is_not_sent_for_its_end_panics() {
        let _ = link().call().poll_ended(&mut Context::from_waker(Waker::noop()));
    }
}
