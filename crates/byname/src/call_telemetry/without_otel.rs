//! Spans without OpenTelemetry: they are not exported.

use http::{HeaderMap, HeaderValue};
use tracing::Span;

use crate::trace_context::{CallSpan, RemoteSpan};

pub(super) fn export(
    _: &Span,
    _: &'static str,
    _: &str,
    _: Option<RemoteSpan>,
    _: Option<&HeaderMap>,
) -> Option<(CallSpan, Option<HeaderValue>)> {
    None
}

pub(super) fn fail(_: &Span, _: String) {}

pub(super) fn attempt(_: &Span, _: &'static str, _: u32, _: Option<(&'static str, String)>) {}
