//! The ERROR object on the wire: the server writes it, the client reads it.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::json_object::{UnknownMembers, members};
use super::{HttpReply, Way, headers};
use crate::codec::{self, Codec};
use crate::error::{Code, Error, Executed, Kind};
use crate::limits_and_timeouts::Limit;
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
    pub(crate) fn answer(&self, way: Way, status: StatusCode) -> HttpReply {
        let error = self.json();
        let (content_type, body) = match way {
            Way::Plain => (headers::JSON, [b"{\"err\":", error.as_slice(), b"}"].concat()),
            Way::Path => {
                let detail = serde_json::to_string(self.error.message()).unwrap_or_default();
                let title = status.canonical_reason().unwrap_or(self.error.code().as_str());
                let status = status.as_str();
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

    pub(crate) fn status(&self, way: Way) -> StatusCode {
        match (self.error.kind(), way, self.error.code(), self.error.executed()) {
            (Kind::Method, _, code, _) => own_status(code),
            // A function that ran may return `unimplemented` itself. That error is not this one.
            (_, Way::Plain, Code::Unimplemented, Executed::No) => StatusCode::BAD_GATEWAY,
            _ => status(&self.error),
        }
    }
}

/// The HTTP status of an error of this code that the function returned. Proxies and clients repeat a call after a 5xx or a
/// 429, although the function ran, and 499 means that the caller went away. Those become 422.
fn own_status(code: Code) -> StatusCode {
    let status = status_of(code);
    let misleads = code == Code::Cancelled || status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    if misleads { StatusCode::UNPROCESSABLE_ENTITY } else { status }
}

/// The HTTP status of an error that the call itself has.
pub(crate) fn status(error: &Error) -> StatusCode {
    match error.limit() {
        Some("message") if error.executed() == Executed::No => StatusCode::PAYLOAD_TOO_LARGE,
        _ => status_of(error.code()),
    }
}

fn status_of(code: Code) -> StatusCode {
    StatusCode::from_u16(code.http_status()).expect("every code has a status")
}

/// Reads a reply that is not a success.
pub(super) fn read(
    name: &str,
    status: StatusCode,
    reason: Option<&[u8]>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Failure {
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
    if status == StatusCode::BAD_GATEWAY && reason == Some(headers::NO_FUNC.as_bytes()) {
        return Error::refused(
            Code::Unimplemented,
            format!("the server has no function named `{name}`; is it registered there?"),
        )
        .into();
    }
    let reason = reason.map(String::from_utf8_lossy).filter(|reason| !reason.is_empty());
    let words = reason.as_deref().or(status.canonical_reason()).unwrap_or("no reason");
    let number = status.as_u16();
    let (code, what) = match status {
        StatusCode::BAD_REQUEST => {
            (Code::InvalidArgument, "the server, or a proxy before it, did not accept the request")
        }
        StatusCode::UNAUTHORIZED => (Code::Unauthenticated, "the server, or a proxy before it, wants credentials"),
        StatusCode::FORBIDDEN => (Code::PermissionDenied, "the server, or a proxy before it, refuses the call"),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            (Code::Unimplemented, "nothing takes calls at this path; is it a byname endpoint?")
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
            (Code::DeadlineExceeded, "the server, or a proxy before it, waited too long")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            (Code::ResourceExhausted, "the request is too large for the server or a proxy before it")
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            Code::ResourceExhausted,
            "the headers of the call are too large for the server (`Limits::header`) or a proxy before it; send less in them",
        ),
        StatusCode::TOO_MANY_REQUESTS => {
            (Code::ResourceExhausted, "the server, or a proxy before it, limits its callers")
        }
        StatusCode::INTERNAL_SERVER_ERROR => (Code::Internal, "the function failed; the server's log may say why"),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
            (Code::Unavailable, "a proxy has no server to pass the call to, or the server is not up")
        }
        _ => (Code::Unknown, "this is not an answer of an RPC server"),
    };
    let shorter = if status == StatusCode::PAYLOAD_TOO_LARGE { codec::shorter(Codec::Json) } else { "" };
    let mut error = Error::new(code, format!("`{name}` was answered {number} {words}: {what}{shorter}"));
    if status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE {
        // This error is sent before the request is read.
        error = error.executed_is(Executed::No).of_limit(Limit::Header);
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        error = error.without_retry();
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
