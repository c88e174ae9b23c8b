//! What a server records of each call: its span, and its entry in the access log. [`CallTelemetry`].

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;
use tracing::Span;

use crate::access_log::{AccessEntry, CallWay};
use crate::call_record::CallRecord;
use crate::method::Method;
use crate::outcome::Failure;
use crate::peer::Peer;
use crate::server_counters::ServerCounters;
use crate::trace_context::{trace_id, trace_ids};

/// What the calls of one server leave behind.
pub(crate) struct CallTelemetry {
    /// Whether each call is an event of the access log.
    logs_access: bool,
    counters: Arc<ServerCounters>,
}

impl CallTelemetry {
    /// For a server whose functions have these names.
    pub(crate) fn new(names: impl Iterator<Item = Cow<'static, str>>) -> Self {
        Self { logs_access: false, counters: Arc::new(ServerCounters::new(names)) }
    }

    pub(crate) fn counters(&self) -> &Arc<ServerCounters> {
        &self.counters
    }

    /// Whether there is an access log: off until this says otherwise.
    pub(crate) fn log_access(&mut self, on: bool) {
        self.logs_access = on;
    }

    pub(crate) fn logs_access(&self) -> bool {
        self.logs_access
    }

    /// The record of a call that began then. The code that runs the call adds its result.
    pub(crate) fn record(
        &self,
        way: CallWay,
        peer: Option<&Arc<Peer>>,
        metadata: &HeaderMap,
        began: Instant,
    ) -> CallRecord {
        let trace = trace_ids(metadata);
        let access = match self.logs_access {
            true => AccessEntry::new(way, peer.cloned(), trace.map(|ids| ids.trace), began),
            false => AccessEntry::none(),
        };
        CallRecord::new(Arc::clone(&self.counters), way, began, trace, access)
    }
}

/// The span of one call. It has the registered name, so that there are never more names than functions.
pub(crate) fn span(method: &Method, metadata: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        // Filters of users may name it.
        target: "byname::dispatch",
        "rpc.serve",
        rpc.method = %method.name,
        rpc.code = tracing::field::Empty,
        trace_id = tracing::field::Empty,
    );
    // If the feature `log` of tracing is on, the values of a disabled span are computed too.
    if !span.is_disabled()
        && let Some(id) = trace_id(metadata)
    {
        span.record("trace_id", id.as_str());
    }
    span
}

/// Records the result of a call in its span.
pub(crate) fn record<T>(span: &Span, result: &Result<T, Failure>) {
    if !span.is_disabled() {
        let code = match result {
            Ok(_) => "ok",
            Err(Failure::Method { error, .. } | Failure::Rpc(error)) => error.code().as_str(),
        };
        span.record("rpc.code", code);
    }
}
