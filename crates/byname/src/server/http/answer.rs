//! Answers, and the rejections of requests that are answered without a call.

use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::response_body::ReplyContent;
use crate::error::{Code, Error};
use crate::outcome::Failure;
use crate::wire::{HttpReply, Way, WireError, headers};

pub(super) type HttpAnswer = Response<ReplyContent>;

/// A request that is rejected: the error, and what else its answer contains.
#[derive(Debug)]
pub(super) struct Rejection {
    /// `None` for the status of the error's code.
    pub(super) status: Option<StatusCode>,
    pub(super) error: Error,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Rejection {
    pub(super) fn new(status: StatusCode, error: Error) -> Self {
        Self { status: Some(status), error, headers: Vec::new() }
    }

    /// The content type of the body is not accepted.
    pub(super) fn unsupported_type(why: String) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Error::refused(Code::InvalidArgument, why))
    }

    /// The coding of the body is not accepted. The header tells this apart from a type that is not accepted (RFC 9110,
    /// section 12.5.3).
    pub(super) fn unsupported_coding(why: String) -> Self {
        Self::unsupported_type(why).with(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    }

    /// Adds a header to the answer.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer in the form of this way.
    pub(super) fn into_answer(self, way: Way) -> HttpAnswer {
        let refusal = WireError::from(Failure::Rpc(self.error));
        let status = self.status.unwrap_or_else(|| refusal.status(way));
        let mut out = answer(refusal.answer(way, status), HeaderMap::new());
        out.headers_mut().extend(self.headers);
        out
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self { status: None, error, headers: Vec::new() }
    }
}

/// A reply with the headers that its function has set.
pub(super) fn answer(reply: HttpReply, metadata: HeaderMap) -> HttpAnswer {
    let HttpReply { status, content_type, retry_after, body } = reply;
    let mut out = Response::new(ReplyContent::Whole(body));
    *out.status_mut() = status;
    if status == StatusCode::BAD_GATEWAY {
        out.extensions_mut().insert(ReasonPhrase::from_static(headers::NO_FUNC.as_bytes()));
    }
    if !metadata.is_empty() {
        *out.headers_mut() = metadata;
    }
    if status != StatusCode::NO_CONTENT {
        out.headers_mut().insert(CONTENT_TYPE, headers::content_type(content_type));
    }
    if let Some(seconds) = retry_after {
        out.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    out
}

/// As [`answer`]. A success in JSON without headers of the function gets the `usual` ones.
pub(super) fn answer_with(reply: HttpReply, metadata: HeaderMap, usual: impl FnOnce() -> HeaderMap) -> HttpAnswer {
    let is_usual = reply.status == StatusCode::OK && reply.content_type == headers::JSON && reply.retry_after.is_none();
    if !is_usual || !metadata.is_empty() {
        return answer(reply, metadata);
    }
    let mut out = Response::new(ReplyContent::Whole(reply.body));
    *out.headers_mut() = usual();
    out
}

/// An answer without a body.
pub(super) fn no_content() -> HttpAnswer {
    let mut out = Response::new(ReplyContent::default());
    *out.status_mut() = StatusCode::NO_CONTENT;
    out
}
