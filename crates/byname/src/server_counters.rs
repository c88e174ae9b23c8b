//! What a server counts: [`ServerCounters`].

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::time::Instant;

use crate::access_log::CallWay;
use crate::function_counters::{CallRun, EndedCall, FunctionCounters, bucket};
use crate::recent_calls::{CallSide, RecentCall, RecentCallList};
use crate::telemetry_names::OTHER;
use crate::trace_context::TraceIds;

/// The counters of one server.
#[derive(Debug)]
pub(crate) struct ServerCounters {
    /// When it began to count.
    pub(crate) since: Instant,
    /// In the order of registration.
    names: Box<[Cow<'static, str>]>,
    functions: Box<[FunctionCounters]>,
    /// Of calls that name no function.
    other: FunctionCounters,
    pub(crate) recent: RecentCallList,
    connections: AtomicUsize,
    accepted: AtomicU64,
}

impl ServerCounters {
    /// For functions of these names.
    pub(crate) fn new(names: impl Iterator<Item = Cow<'static, str>>) -> Self {
        let names: Box<[_]> = names.collect();
        Self {
            since: Instant::now(),
            functions: names.iter().map(|_| FunctionCounters::default()).collect(),
            names,
            other: FunctionCounters::default(),
            recent: RecentCallList::default(),
            connections: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
        }
    }

    /// The counters of the function that was registered at this place. `None` stands for all unknown names.
    pub(crate) fn function(&self, index: Option<usize>) -> &FunctionCounters {
        index.and_then(|index| self.functions.get(index)).unwrap_or(&self.other)
    }

    /// The name of the function that was registered at this place.
    pub(crate) fn name(&self, index: Option<usize>) -> Cow<'static, str> {
        index.and_then(|index| self.names.get(index)).cloned().unwrap_or(Cow::Borrowed(OTHER))
    }

    pub(crate) fn functions(&self) -> &[FunctionCounters] {
        &self.functions
    }

    /// The counters of calls that name no function.
    pub(crate) fn other(&self) -> &FunctionCounters {
        &self.other
    }

    /// Offers a call that was counted and has this number in its bucket to the recent calls.
    #[inline]
    pub(crate) fn offer(
        &self,
        function: Option<usize>,
        number: u64,
        call: &EndedCall,
        way: CallWay,
        trace: impl FnOnce() -> Option<TraceIds>,
    ) {
        if self.recent.wants(call.code, number..number + 1, call.nanos) {
            let name = self.name(function);
            self.recent.offer(RecentCall::new(name, call, CallSide::Server { way: way.as_str() }, trace()));
        }
    }

    /// A connection was accepted. It counts as open until the result is dropped.
    pub(crate) fn accept(&self) -> OpenConnection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }

    /// The open connections, and all that were accepted.
    pub(crate) fn connections(&self) -> (usize, u64) {
        (self.connections.load(Ordering::Relaxed), self.accepted.load(Ordering::Relaxed))
    }
}

/// Calls that were answered one after another on one task of frames. They are counted when this is flushed or dropped.
pub(crate) struct ServerCallRun {
    counters: Arc<ServerCounters>,
    run: CallRun,
    /// The time of the last call, in nanoseconds.
    last: u64,
}

impl ServerCallRun {
    pub(crate) fn new(counters: Arc<ServerCounters>) -> Self {
        Self { counters, run: CallRun::default(), last: 0 }
    }

    /// Adds a call of the function that was registered at this place. It has succeeded.
    #[inline]
    pub(crate) fn add(&mut self, function: usize, nanos: u64, request_bytes: usize, response_bytes: usize) {
        let bucket = bucket(nanos);
        if !self.run.takes(function, bucket) {
            self.flush_others();
        }
        self.run.add(function, bucket, nanos, request_bytes, response_bytes);
        self.last = nanos;
    }

    #[inline]
    pub(crate) fn flush(&mut self) {
        if let Some(function) = self.run.function() {
            let numbers = self.run.flush(self.counters.function(Some(function)));
            if self.counters.recent.wants(None, numbers, self.last) {
                self.offer_last(function);
            }
        }
    }
}

impl ServerCallRun {
    #[cold]
    fn flush_others(&mut self) {
        self.flush();
    }

    #[cold]
    fn offer_last(&self, function: usize) {
        let (name, call) = (self.counters.name(Some(function)), EndedCall { nanos: self.last, ..EndedCall::default() });
        let side = CallSide::Server { way: CallWay::Frames.as_str() };
        self.counters.recent.offer(RecentCall::new(name, &call, side, None));
    }
}

impl Drop for ServerCallRun {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A connection of a server that is open.
pub(crate) struct OpenConnection<'c>(&'c ServerCounters);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
