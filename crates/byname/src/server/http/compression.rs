//! Compression over HTTP: which answers are compressed, and which requests are decoded. `Server::compress` turns it on.

mod decoded_body;

pub(super) use self::decoded_body::{DecodedBody, TooManyEncodedBytes};

use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::answer::{HttpAnswer, Rejection};
use super::response_body::ReplyContent;
use crate::content_coding::{AcceptedCodings, BodyEncoder, ContentCoding, LONGEST_PLAIN, UnknownCoding, encode_whole};
use crate::untrusted_text::quoted_bytes;
use crate::wire::octet_stream;

/// Set in the extensions of the answer to a HEAD whose GET would be compressed. Only compressing tells the length.
#[derive(Clone)]
pub(super) struct LengthUnknown;

/// The coding of a request's body, if it is accepted.
pub(super) fn coding_of(headers: &HeaderMap, decodes: bool) -> Result<Option<ContentCoding>, Rejection> {
    let UnknownCoding(given) = match ContentCoding::of(headers) {
        Ok(None) => return Ok(None),
        Ok(Some(coding)) if decodes => return Ok(Some(coding)),
        Ok(Some(coding)) => UnknownCoding(coding.header()),
        Err(unknown) => unknown,
    };
    let given = quoted_bytes(given.as_bytes());
    Err(Rejection::unsupported_coding(match decodes {
        true => format!("`content-encoding` is {given}, expected `zstd`, `gzip` or none, and only one of them"),
        false => format!(
            "`content-encoding` is {given}, expected none; send the body as it is, or let the server decode zstd and gzip \
             with `Server::compress(true)`"
        ),
    }))
}

/// Compresses the body of an answer, if its caller accepts it and it is worth it. Also says which codings the server accepts.
pub(super) async fn compress(out: &mut HttpAnswer, accepted: AcceptedCodings, is_head: bool) {
    // A 415 with the header is about the coding. One about the type must not have it.
    if out.status() != StatusCode::UNSUPPORTED_MEDIA_TYPE || out.headers().contains_key(ACCEPT_ENCODING) {
        out.headers_mut().insert(ACCEPT_ENCODING, ContentCoding::ALL_NAMES);
    }
    let is_short = match out.body() {
        ReplyContent::Whole(body) => body.is_empty() || (body.len() <= LONGEST_PLAIN && accepted.identity),
        ReplyContent::Stream(_) => false,
    };
    if is_short || !may_be_compressed(out) {
        return;
    }
    if !contains(out.headers(), VARY, ACCEPT_ENCODING.as_str()) {
        out.headers_mut().append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    }
    let Some(coding) = accepted.preferred else { return };
    if is_head {
        out.extensions_mut().insert(LengthUnknown);
        return;
    }
    match out.body_mut() {
        ReplyContent::Whole(body) => {
            let Ok(encoded) = encode_whole(coding, body).await else { return };
            if encoded.len() >= body.len() && accepted.identity {
                return;
            }
            *body = encoded.into();
        }
        ReplyContent::Stream(stream) => {
            let Ok(encoder) = BodyEncoder::new(coding, None) else { return };
            stream.compress(encoder);
        }
    }
    out.headers_mut().insert(CONTENT_ENCODING, coding.header());
    weaken_tag(out.headers_mut());
}

fn may_be_compressed(out: &HttpAnswer) -> bool {
    let (status, headers) = (out.status(), out.headers());
    !status.is_informational()
        && ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
        && !headers.contains_key(CONTENT_ENCODING)
        && headers.get(CONTENT_TYPE).is_none_or(|given| given != octet_stream::OCTETS)
        && !contains(headers, CACHE_CONTROL, "no-transform")
}

/// Whether a header that is a list contains this word.
fn contains(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).into_iter();
    let mut words = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    words.any(|given| given.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// A strong tag promises the same bytes. The compressed ones are others.
fn weaken_tag(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) {
        let weak = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat());
        headers.insert(ETAG, weak.expect("it was a header before"));
    }
}
