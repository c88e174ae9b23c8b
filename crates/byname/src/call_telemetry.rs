//! What a server records of each call: its span, and its entry in the access log. [`CallTelemetry`].

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;
use tracing::Span;

use crate::access_log::{AccessEntry, CallWay};
use crate::method::Method;
use crate::outcome::Failure;
use crate::peer::Peer;
use crate::trace_context::trace_id;

/// What the calls of one server leave behind.
#[derive(Default)]
pub(crate) struct CallTelemetry {
    /// Whether each call is an event of the access log.
    logs_access: bool,
}

impl CallTelemetry {
    /// Whether there is an access log: off until this says otherwise.
    pub(crate) fn log_access(&mut self, on: bool) {
        self.logs_access = on;
    }

    pub(crate) fn logs_access(&self) -> bool {
        self.logs_access
    }

    /// The entry of a call in the access log, if there is one. The code that runs the call adds its result.
    pub(crate) fn access(
        &self,
        way: CallWay,
        peer: Option<&Arc<Peer>>,
        metadata: &HeaderMap,
        began: impl FnOnce() -> Instant,
    ) -> AccessEntry {
        if !self.logs_access {
            return AccessEntry::none();
        }
        AccessEntry::new(way, peer.cloned(), trace_id(metadata), began())
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
