//! The bodies of replies.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use hyper::body::{Body, Frame, SizeHint};

use super::stream_body::{BodyFormat, StreamBody, StreamReader};
use crate::outcome::Items;
use crate::server::connection_timeouts::CallGuard;

/// Asks nginx, and proxies with the same header, to pass on items at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The reply of a stream.
pub(super) fn stream(
    items: Items,
    format: BodyFormat,
    reader: StreamReader,
    metadata: HeaderMap,
) -> Response<ReplyContent> {
    let mut out = Response::new(ReplyContent::Stream(StreamBody::new(items, format, reader)));
    *out.headers_mut() = metadata;
    let headers = out.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    out
}

/// Over HTTP/2 a reply is sent in pieces of at most this size, so that a reply that is not read can be detected.
const PIECE: usize = 64 << 10;

/// The content of a reply.
#[derive(Debug)]
pub(super) enum ReplyContent {
    Whole(Bytes),
    Stream(StreamBody),
}

/// A reply's body. The call counts as running until the body has been handed over.
///
/// The default is the empty body of an answer that a layer gives instead of byname.
#[derive(Debug, Default)]
pub struct ReplyBody {
    content: ReplyContent,
    working: Option<CallGuard>,
}

impl ReplyBody {
    pub(super) fn new(content: ReplyContent, mut working: CallGuard) -> Self {
        working.has_progressed();
        Self { content, working: Some(working) }
    }
}

impl Default for ReplyContent {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { content, working } = &mut *self;
        let data = match content {
            ReplyContent::Whole(data) if data.is_empty() => return Poll::Ready(None),
            ReplyContent::Whole(data) => {
                let piece = match working {
                    Some(working) if working.is_one_of_many() => PIECE.min(data.len()),
                    _ => data.len(),
                };
                data.split_to(piece)
            }
            ReplyContent::Stream(stream) => match stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => data,
                Poll::Ready(Some(Err(broken))) => return Poll::Ready(Some(Err(broken))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    // The function is slow here, not the client.
                    if let Some(working) = working {
                        working.takes_no_more();
                    }
                    return Poll::Pending;
                }
            },
        };
        if let Some(working) = working {
            working.has_progressed();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            ReplyContent::Whole(data) => data.is_empty(),
            ReplyContent::Stream(stream) => stream.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            ReplyContent::Whole(data) => SizeHint::with_exact(data.len() as u64),
            ReplyContent::Stream(_) => SizeHint::default(),
        }
    }
}
