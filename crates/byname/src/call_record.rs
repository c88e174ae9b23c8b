//! What a server records of one call, whatever way it came in: its place in the counters, among the recent calls, and in the access log.
//! [`CallRecord`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use crate::access_log::{AccessEntry, CallWay, LoggedName, TakenCounts};
use crate::codec::Codec;
use crate::error::{Code, Error};
use crate::function_counters::{CallCode, EndedCall, is_shed, nanos};
use crate::outcome::items::{ItemSource, Items, NextItems};
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::server_counters::ServerCounters;
use crate::trace_context::{ServedSpan, TraceIds};

/// The record of a call. Dropping it counts the call and logs it. The last result that was set counts. Without a result the caller
/// is gone.
#[must_use = "the call is counted when this is dropped"]
#[derive(Debug)]
pub(crate) struct CallRecord {
    counted: Option<CountedRecord>,
    access: AccessEntry,
}

/// What a call adds to the counters.
#[derive(Clone, Debug)]
struct CountedRecord {
    counters: Arc<ServerCounters>,
    /// The place of its function in the order of registration, if it is known.
    function: Option<usize>,
    way: CallWay,
    began: Instant,
    code: CallCode,
    is_shed: bool,
    bytes_in: usize,
    bytes_out: usize,
    items: u64,
    /// Where it is in its trace, of a call whose trace may be shown.
    trace: Option<Box<WatchedTrace>>,
}

#[derive(Clone, Debug)]
struct WatchedTrace {
    /// What the caller says.
    came_with: Option<TraceIds>,
    /// The call's own place in its trace, once something has needed it.
    span: ServedSpan,
}

impl WatchedTrace {
    fn ids(&self) -> Option<TraceIds> {
        self.span.get().map(TraceIds::from).or(self.came_with)
    }
}

impl CallRecord {
    /// Nothing is recorded.
    pub(crate) const fn none() -> Self {
        Self { counted: None, access: AccessEntry::none() }
    }

    pub(crate) fn new(counters: Arc<ServerCounters>, way: CallWay, began: Instant, access: AccessEntry) -> Self {
        let counted = CountedRecord {
            counters,
            function: None,
            way,
            began,
            code: Some(Code::Cancelled),
            is_shed: false,
            bytes_in: 0,
            bytes_out: 0,
            items: 0,
            trace: None,
        };
        Self { counted: Some(counted), access }
    }

    /// Drops the record without a trace, because the request is not a call.
    pub(crate) fn discard(&mut self) {
        self.counted = None;
        self.access.discard();
    }

    pub(crate) fn take(&mut self) -> Self {
        Self { counted: self.counted.take(), access: self.access.take() }
    }

    /// Which function was called: its place in the order of registration.
    pub(crate) fn of_function(&mut self, index: usize) {
        if let Some(counted) = &mut self.counted {
            counted.function = Some(index);
        }
    }

    /// Leaves the call out of the counters.
    pub(crate) fn do_not_count(&mut self) {
        self.counted = None;
    }

    /// Notes where the call is in its trace, as its caller says it, and later as the function does.
    pub(crate) fn watch_trace(&mut self, came_with: Option<TraceIds>) {
        if let Some(counted) = &mut self.counted {
            let span = self.access.span().unwrap_or_default();
            counted.trace = Some(Box::new(WatchedTrace { came_with, span }));
        }
    }

    /// Where the place of the call in its trace goes, for the record to have it too.
    pub(crate) fn span(&self) -> Option<ServedSpan> {
        let watched = self.counted.as_ref().and_then(|counted| counted.trace.as_ref());
        self.access.span().or_else(|| watched.map(|trace| trace.span.clone()))
    }

    /// How the access log names the function, or what was called instead.
    pub(crate) fn named(&mut self, name: impl FnOnce() -> LoggedName) {
        self.access.named(name);
    }

    /// This record and the other are of one call, which began with this one. This one is dropped without being counted.
    pub(crate) fn begin(mut self, later: &mut CallRecord) {
        if let (Some(counted), Some(later)) = (self.counted.take(), &mut later.counted) {
            later.began = counted.began;
        }
        self.access.take().begin(&mut later.access);
    }

    /// Corrects the way: a JSON-RPC call looks like a plain call until its body is read.
    pub(crate) fn came_by(&mut self, way: CallWay) {
        if let Some(counted) = &mut self.counted {
            counted.way = way;
        }
        self.access.came_by(way);
    }

    /// Sets the size of the request, in bytes.
    pub(crate) fn received(&mut self, bytes: usize) {
        if let Some(counted) = &mut self.counted {
            counted.bytes_in = bytes;
        }
        self.access.received(bytes);
    }

    /// The stream that the caller sends. Its items are a part of the request.
    pub(crate) fn takes(&mut self, items: Items) -> Items {
        let counted = self.counted.as_ref().map(|counted| (Arc::clone(&counted.counters), counted.function));
        let logged = self.access.takes();
        if counted.is_none() && logged.is_none() { items } else { Items::new(TakenItems { items, counted, logged }) }
    }

    /// Sets the size of the reply, in bytes.
    pub(crate) fn sent(&mut self, bytes: impl FnOnce() -> usize) {
        if self.counted.is_none() && !self.access.is_some() {
            return;
        }
        let bytes = bytes();
        if let Some(counted) = &mut self.counted {
            counted.bytes_out = bytes;
        }
        self.access.sent(|| bytes);
    }

    /// Sets the code by the result of the call.
    pub(crate) fn ended<T>(&mut self, result: &Result<T, Failure>) {
        match result {
            Ok(_) => self.succeeded(),
            Err(failure) => self.failed(failure),
        }
    }

    /// As [`ended`](Self::ended), for a call whose caller may be gone. Then it is cancelled, although its reply is sent.
    pub(crate) fn ended_for<T>(&mut self, is_caller_gone: bool, result: &Result<T, Failure>) {
        self.ended(result);
        if is_caller_gone {
            if let Some(counted) = &mut self.counted {
                counted.code = Some(Code::Cancelled);
            }
            self.access.cancelled();
        }
    }

    pub(crate) fn succeeded(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.code = None;
        }
        self.access.succeeded();
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        let (Failure::Rpc(error) | Failure::Method { error, .. }) = failure;
        self.refused(error);
    }

    pub(crate) fn refused(&mut self, error: &Error) {
        if let Some(counted) = &mut self.counted {
            (counted.code, counted.is_shed) = (Some(error.code()), is_shed(error));
        }
        self.access.refused(error);
    }

    /// One record for each call of a batch. `parts` are the sizes of the calls in bytes.
    pub(crate) fn split(mut self, parts: impl Iterator<Item = usize> + Clone) -> Vec<Self> {
        let whole = self.counted.take();
        let mut logged = self.access.take().split(parts.clone()).into_iter();
        let part = |bytes_in| Self {
            counted: whole.clone().map(|whole| CountedRecord { bytes_in, ..whole }),
            access: logged.next().unwrap_or(AccessEntry::none()),
        };
        parts.map(part).collect()
    }

    /// The items of a stream that answers the call. Their end is its end.
    pub(crate) fn follow(mut self, items: Items) -> Items {
        if let Some(counted) = &mut self.counted {
            (counted.code, counted.bytes_out, counted.items) = (Some(Code::Cancelled), 0, 0);
        }
        let access = self.access.take();
        let items = if access.is_some() { access.follow(items) } else { items };
        Items::new(CountedItems { items, record: self })
    }

    /// Notes what a call within the process came to, and follows its stream.
    pub(crate) fn end_local(mut self, result: Result<Returned, Failure>) -> Result<Returned, Failure> {
        match result {
            Ok(Returned::Stream(items)) => Ok(Returned::Stream(self.follow(items))),
            result => {
                match &result {
                    Ok(Returned::Value(ReturnedValue::Encoded(_, value))) => self.sent(|| value.len()),
                    Ok(Returned::Value(ReturnedValue::Parts(_, value))) => self.sent(|| value.len()),
                    _ => {}
                }
                self.ended(&result);
                result
            }
        }
    }
}

impl Drop for CallRecord {
    #[inline]
    fn drop(&mut self) {
        if let Some(counted) = self.counted.take() {
            counted.count();
        }
    }
}

impl CountedRecord {
    fn count(self) {
        let ended = EndedCall {
            code: self.code,
            nanos: nanos(self.began.elapsed()),
            is_shed: self.is_shed,
            request_bytes: self.bytes_in as u64,
            response_bytes: self.bytes_out as u64,
            items_received: 0,
            items_sent: self.items,
        };
        let number = self.counters.function(self.function).end(&ended);
        self.counters.offer(self.function, number, &ended, self.way, || self.trace?.ids());
    }
}

/// The items of a caller's stream on their way to the function, counted when they come.
struct TakenItems {
    items: Items,
    counted: Option<(Arc<ServerCounters>, Option<usize>)>,
    logged: Option<Arc<TakenCounts>>,
}

impl ItemSource for TakenItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: usize) -> Poll<NextItems> {
        let next = ready!(self.items.poll_next(cx, room));
        if let NextItems::Batch(batch) = &next {
            let (items, bytes) = batch.size();
            if let Some((counters, function)) = &self.counted {
                counters.function(*function).receive_items(items, bytes);
            }
            if let Some(logged) = &self.logged {
                logged.add(items, bytes);
            }
        }
        Poll::Ready(next)
    }

    fn encode_in(mut self: Pin<&mut Self>, codec: Codec) {
        self.items.encode_in(codec);
    }

    fn give_up(mut self: Pin<&mut Self>, why: &Failure) {
        self.items.give_up(why);
    }
}

/// The items of a stream on their way to the caller, counted.
struct CountedItems {
    items: Items,
    record: CallRecord,
}

impl ItemSource for CountedItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: usize) -> Poll<NextItems> {
        let next = ready!(self.items.poll_next(cx, room));
        match &next {
            NextItems::Batch(batch) => {
                if let Some(counted) = &mut self.record.counted {
                    let (items, bytes) = batch.size();
                    counted.items += items as u64;
                    counted.bytes_out += bytes;
                }
            }
            NextItems::End => {
                self.record.succeeded();
                drop(self.record.take());
            }
            NextItems::Failed(failure) => {
                self.record.failed(failure);
                drop(self.record.take());
            }
        }
        Poll::Ready(next)
    }

    fn encode_in(mut self: Pin<&mut Self>, codec: Codec) {
        self.items.encode_in(codec);
    }

    fn give_up(mut self: Pin<&mut Self>, why: &Failure) {
        self.record.failed(why);
        self.items.give_up(why);
    }
}
