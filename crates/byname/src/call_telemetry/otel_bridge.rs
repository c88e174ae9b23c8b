//! The feature `otel`: spans have the parent that the wire names, and the wire has the ids that OpenTelemetry gave them.

use std::str::FromStr as _;

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::telemetry_names::{ATTEMPT, ERROR_MESSAGE, ERROR_TYPE, OTEL_KIND, OTEL_NAME, RPC_SYSTEM_NAME, SYSTEM};
use crate::trace_context::{self, CallSpan, RemoteSpan, trace_state};

/// Makes a new span one of OpenTelemetry, with this name. Its parent is the one that the wire or the call that is served names,
/// unless the code around it has a span of the same trace. `None` if the subscriber has no layer of OpenTelemetry, or if that layer
/// does not want the span. With the span comes its `tracestate`, as the sampler made it.
pub(super) fn export(
    span: &Span,
    kind: &'static str,
    name: &str,
    parent: Option<RemoteSpan>,
    came: Option<&HeaderMap>,
) -> Option<(CallSpan, Option<HeaderValue>)> {
    let current = Span::current();
    let around = if current.is_none() { Context::current() } else { current.context() };
    let around_id = around.span().span_context().trace_id();
    let under = match parent {
        Some(parent) if TraceId::from_bytes(parent.trace.to_bytes()) != around_id => {
            Context::new().with_remote_span_context(remote(parent, came))
        }
        _ => around,
    };
    let under_id = under.span().span_context().span_id();
    span.set_parent(under).ok()?;
    // Before the span begins: its kind can't be changed later.
    span.record(OTEL_NAME, name);
    span.record(OTEL_KIND, kind);
    span.set_attribute(RPC_SYSTEM_NAME, SYSTEM);
    let context = span.context();
    let begun = context.span();
    let begun = begun.span_context();
    let id = |id: SpanId| trace_context::SpanId::new(u64::from_be_bytes(id.to_bytes()));
    let span = CallSpan {
        trace: trace_context::TraceId::from_bytes(begun.trace_id().to_bytes()),
        id: id(begun.span_id())?,
        parent: id(under_id),
        flags: trace_context::TraceFlags::new(begun.trace_flags().to_u8()),
    };
    let state = begun.trace_state().header();
    let state = (!state.is_empty()).then(|| HeaderValue::try_from(state).ok()).flatten();
    Some((span, state))
}

/// The call of this span has failed.
pub(super) fn fail(span: &Span, why: String) {
    span.set_status(Status::error(why));
}

/// An attempt that is not the first is an event of the call's span. `after` is the code and the message of what failed before it.
pub(super) fn attempt(span: &Span, event: &'static str, number: u32, after: Option<(&'static str, String)>) {
    let mut attributes = vec![KeyValue::new(ATTEMPT, i64::from(number))];
    if let Some((code, message)) = after {
        attributes.extend([KeyValue::new(ERROR_TYPE, code), KeyValue::new(ERROR_MESSAGE, message)]);
    }
    span.add_event(event, attributes);
}

/// The span that the wire names. `came` are the headers that it came with.
fn remote(parent: RemoteSpan, came: Option<&HeaderMap>) -> SpanContext {
    let state = came.and_then(trace_state);
    let state = state.as_ref().and_then(|state| TraceState::from_str(state.to_str().ok()?).ok());
    SpanContext::new(
        TraceId::from_bytes(parent.trace.to_bytes()),
        SpanId::from_bytes(parent.id.to_bytes()),
        TraceFlags::new(parent.flags.bits()),
        true,
        state.unwrap_or_default(),
    )
}
