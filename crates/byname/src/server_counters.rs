//! What a server counts: [`ServerCounters`].

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::time::Instant;

use crate::function_counters::{CallRun, EndedCall, FunctionCounters};
use crate::recent_calls::RecentCallList;

/// How calls of names are counted that no function has.
pub(crate) const OTHER: &str = "_OTHER";

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

/// Calls that were answered one after another on one task. They are counted when this is flushed or dropped.
pub(crate) struct ServerCallRun {
    counters: Arc<ServerCounters>,
    run: CallRun,
}

impl ServerCallRun {
    pub(crate) fn new(counters: Arc<ServerCounters>) -> Self {
        Self { counters, run: CallRun::default() }
    }

    /// Adds a call of the function that was registered at this place. It has succeeded.
    #[inline]
    pub(crate) fn add(&mut self, function: usize, call: &EndedCall) {
        self.run.add(function, call, |index| self.counters.function(Some(index)));
    }

    #[inline]
    pub(crate) fn flush(&mut self) {
        self.run.flush(|index| self.counters.function(Some(index)));
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
