//! What browsers are told about calls of pages of other sites (CORS).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap, HeaderValue,
    VARY,
};

use super::answer::{HttpAnswer, no_content};

/// The answer to the question whether a page may call.
pub(super) fn preflight() -> HttpAnswer {
    let mut out = no_content();
    let headers = out.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let allowed = "authorization, byname-timeout-ms, content-type, idempotency-key, traceparent, tracestate";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    out
}

/// Lets the page of this origin read an answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(VARY, HeaderValue::from_static("origin"));
}
