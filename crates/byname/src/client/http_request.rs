//! A call as an HTTP/1.1 request.

use bytes::Bytes;
use tokio::time::Instant;

use super::endpoint_url::EndpointUrl;
use super::outgoing_call::OutgoingCall;
use crate::arguments::EncodedArguments;
use crate::content_coding::ContentCoding;
use crate::wire::{Way, path_format, plain_format};

/// Up to this size a body is written in one piece with its head.
const ONE_PIECE: usize = 16 << 10;

/// How one request is coded.
pub(super) struct BodyCoding {
    /// Whether the answer may be compressed.
    pub(super) accepts: bool,
    pub(super) coded: Option<CodedBody>,
}

/// A body that is compressed already.
pub(super) struct CodedBody {
    pub(super) coding: ContentCoding,
    /// The way that it was written for.
    pub(super) way: Way,
    pub(super) body: Bytes,
}

impl BodyCoding {
    pub(super) const NONE: Self = Self { accepts: false, coded: None };
}

/// The head of the request, the body, and the way. A small body stands behind its head, and what is returned as the body
/// is empty. The call goes the way by path if the server takes that (`by_path`) and the arguments fit.
///
/// A caller's stream (`brings`) follows as lines in chunks. The first line is the call, so it goes the plain way.
pub(super) fn write(
    url: &EndpointUrl,
    by_path: bool,
    outgoing: &OutgoingCall,
    args: &EncodedArguments,
    brings: bool,
    coding: BodyCoding,
) -> (Vec<u8>, Bytes, Way) {
    let BodyCoding { accepts, coded } = coding;
    let (coding, way, body) = match coded {
        Some(CodedBody { coding, way, body }) => (Some(coding), way, body),
        None => {
            let (way, body) = self::body(by_path && !brings, outgoing, args);
            (None, way, body)
        }
    };
    let mut head = Vec::with_capacity(256 + ONE_PIECE.min(body.len()));
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| head.extend_from_slice(part));
    // The endpoint's path was parsed as one, and a name's characters can all stand in it.
    let path = url.path.as_bytes();
    match way {
        Way::Plain if path.is_empty() => put(&[b"POST /"]),
        Way::Plain => put(&[b"POST ", path]),
        Way::Path => put(&[b"POST ", path, b"/", outgoing.name.as_bytes()]),
    }
    let left = outgoing.deadline.saturating_duration_since(Instant::now()).as_millis().min(u64::MAX.into());
    put(&[b" HTTP/1.1\r\nhost: ", url.authority.as_bytes()]);
    let content_type: &[u8] = if brings { b"application/x-ndjson" } else { b"application/json" };
    put(&[
        b"\r\ncontent-type: ",
        content_type,
        b"\r\nbyname-timeout-ms: ",
        itoa::Buffer::new().format(left as u64).as_bytes(),
    ]);
    match brings {
        true => put(&[b"\r\ntransfer-encoding: chunked\r\n"]),
        false => put(&[b"\r\ncontent-length: ", itoa::Buffer::new().format(body.len()).as_bytes(), b"\r\n"]),
    }
    if accepts {
        put(&[b"accept-encoding: ", ContentCoding::ALL_NAMES.as_bytes(), b"\r\n"]);
    }
    if let Some(coding) = coding {
        put(&[b"content-encoding: ", coding.name().as_bytes(), b"\r\n"]);
    }
    for (name, value) in &outgoing.headers {
        put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    put(&[b"\r\n"]);
    if brings {
        // A line of its own, which is a chunk of its own.
        put(&[format!("{:x}\r\n", body.len() + 1).as_bytes(), &body, b"\n\r\n"]);
        return (head, Bytes::new(), way);
    }
    if body.len() > ONE_PIECE {
        return (head, body, way);
    }
    head.extend_from_slice(&body);
    (head, Bytes::new(), way)
}

/// The body of a call without a stream, and the way that it goes.
pub(super) fn body(by_path: bool, outgoing: &OutgoingCall, args: &EncodedArguments) -> (Way, Bytes) {
    match by_path.then(|| path_format::write(args)).flatten() {
        Some(body) => (Way::Path, body),
        None => (Way::Plain, Bytes::from(plain_format::write(&outgoing.name, args))),
    }
}
