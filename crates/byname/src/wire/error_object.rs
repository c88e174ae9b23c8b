//! The ERROR object on the wire: the server writes it, the client reads it.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::json_object::{UnknownMembers, members};
use super::{HttpReply, Way, headers};
use crate::codec::{self, Codec};
use crate::error::{Code, Error, Executed, Kind};
use crate::limits::Limit;
use crate::outcome::{Failure, ReturnedValue};

/// A failure as it is sent: the ERROR object, and the function's own error as JSON.
pub(crate) struct WireError {
    error: Error,
    data: Option<Bytes>,
}

impl From<Failure> for WireError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rpc(error) => Self { error, data: None },
            Failure::Method { error, data } => Self { error, data: data.into_json() },
        }
    }
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        Failure::Rpc(error).into()
    }
}

impl WireError {
    /// ERROR as one JSON object.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(&self.error).unwrap_or_else(|_| b"{}".to_vec());
        if let Some(data) = &self.data {
            text.pop();
            text.extend_from_slice(b",\"data\":");
            text.extend_from_slice(data);
            text.push(b'}');
        }
        text
    }

    /// The HTTP reply for this way, with the status of the code or the one that HTTP asks for.
    pub(crate) fn answer(&self, way: Way, status: u16) -> HttpReply {
        let error = self.json();
        let (content_type, body) = match way {
            Way::Plain => (headers::JSON, [b"{\"err\":", error.as_slice(), b"}"].concat()),
            Way::Path => {
                let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
                let detail = serde_json::to_string(self.error.message()).unwrap_or_default();
                let title = title.unwrap_or(self.error.code().as_str());
                let head = format!(r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":{detail},"#);
                (headers::PROBLEM, [head.as_bytes(), &error[1..]].concat())
            }
        };
        // Whole seconds, rounded up, so that a client that reads only this header does not come too early.
        let retry_after = self.error.retry_after().map(|after| after.as_millis().div_ceil(1000) as u64);
        HttpReply { status, content_type, retry_after, body: body.into() }
    }

    pub(super) fn error(&self) -> &Error {
        &self.error
    }

    pub(crate) fn status(&self, way: Way) -> u16 {
        match (self.error.kind(), way, self.error.code(), self.error.executed()) {
            (Kind::Method, _, code, _) => own_status(code),
            // A function that ran may return `unimplemented` itself. That error is not this one.
            (_, Way::Plain, Code::Unimplemented, Executed::No) => 502,
            _ => status(&self.error),
        }
    }
}

/// The HTTP status of an error of this code that the function returned. Proxies and clients repeat a call after a 5xx or a
/// 429, although the function ran, and 499 means that the caller went away. Those become 422.
fn own_status(code: Code) -> u16 {
    match code.http_status() {
        429 | 499 | 500.. => 422,
        status => status,
    }
}

/// The HTTP status of an error that the call itself has.
pub(crate) fn status(error: &Error) -> u16 {
    match error.limit() {
        Some("message") if error.executed() == Executed::No => 413,
        _ => error.code().http_status(),
    }
}

/// Reads a reply that is not a success.
pub(super) fn read(name: &str, status: u16, reason: Option<&[u8]>, headers: &HeaderMap, body: &Bytes) -> Failure {
    let text = match members(body, &["err"], UnknownMembers::Ignored) {
        Ok([Some(err)]) => err.get().as_bytes(),
        _ => body,
    };
    // `data` stays encoded. It is decoded once, as the type that the caller wants, with every digit.
    if let (Ok(error), Ok([data])) = (read_error(text), members(text, &["data"], UnknownMembers::Ignored)) {
        let data = data.map(|data| data.get().as_bytes());
        if error.kind() == Kind::Method {
            // An own error without data is `null`.
            let data = data.map_or_else(|| codec::nothing(Codec::Json).into(), |data| body.slice_ref(data));
            return Failure::Method { error: error.data_is(None), data: ReturnedValue::Encoded(Codec::Json, data) };
        }
        // It is read again, with every digit or not at all.
        let data = data.and_then(|data| codec::decode::<Option<_>>(Codec::Json, data).ok().flatten());
        return error.data_is(data).into();
    }
    if status == 502 && reason == Some(headers::NO_FUNC.as_bytes()) {
        return Error::refused(
            Code::Unimplemented,
            format!("the server has no function named `{name}`; is it registered there?"),
        )
        .into();
    }
    let reason = reason.map(String::from_utf8_lossy).filter(|reason| !reason.is_empty());
    let standard = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let words = reason.as_deref().or(standard).unwrap_or("no reason");
    let (code, what) = match status {
        400 => (Code::InvalidArgument, "the server, or a proxy before it, did not accept the request"),
        401 => (Code::Unauthenticated, "the server, or a proxy before it, wants credentials"),
        403 => (Code::PermissionDenied, "the server, or a proxy before it, refuses the call"),
        404 | 405 | 501 => (Code::Unimplemented, "nothing takes calls at this path; is it a byname endpoint?"),
        408 | 504 => (Code::DeadlineExceeded, "the server, or a proxy before it, waited too long"),
        413 => (Code::ResourceExhausted, "the request is too large for the server or a proxy before it"),
        431 => (
            Code::ResourceExhausted,
            "the headers of the call are too large for the server (`Limits::header`) or a proxy before it; send less in them",
        ),
        429 => (Code::ResourceExhausted, "the server, or a proxy before it, limits its callers"),
        500 => (Code::Internal, "the function failed; the server's log may say why"),
        502 | 503 => (Code::Unavailable, "a proxy has no server to pass the call to, or the server is not up"),
        _ => (Code::Unknown, "this is not an answer of an RPC server"),
    };
    let shorter = if status == 413 { codec::shorter(Codec::Json) } else { "" };
    let mut error = Error::new(code, format!("`{name}` was answered {status} {words}: {what}{shorter}"));
    if status == 431 {
        // This error is sent before the request is read.
        error = error.executed_is(Executed::No).of_limit(Limit::Header);
    }
    let after = headers.get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
    if let Some(seconds) = after {
        error = error.with_retry_after(std::time::Duration::from_secs(seconds));
    }
    error.into()
}

/// Reads an ERROR object. If its `data` can't be read, the error has none.
pub(crate) fn read_error(text: &[u8]) -> Result<Error, serde_json::Error> {
    let [data] = members(text, &["data"], UnknownMembers::Ignored)?;
    let Some(data) = data.map(|data| data.get().as_bytes()) else {
        return codec::json::read_loosely(text);
    };
    let start = data.as_ptr() as usize - text.as_ptr() as usize;
    let without_data = [&text[..start], b"null", &text[start + data.len()..]].concat();
    let error: Error = codec::json::read_loosely(&without_data)?;
    Ok(error.data_is(codec::decode::<Option<_>>(Codec::Json, data).ok().flatten()))
}
