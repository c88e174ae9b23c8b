//! Answers that browsers and proxies may keep and revalidate: `cache-control`, `etag` and `if-none-match` (RFC 9110,
//! section 13, and RFC 9111).

use std::mem::take;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::HttpAnswer;
use super::response_body::ReplyContent;
use crate::method::Method;

/// The longest `no-store` answer that gets a tag, because computing a tag takes time.
const LONGEST_TAGGED: usize = 256 << 10;

/// The request headers that an answer to a GET may depend on.
const VARIES: HeaderValue = HeaderValue::from_static("authorization, origin, accept, accept-encoding");

/// How the answer of a call by GET may be kept, and which tags the caller has.
pub(super) struct CacheRules<'m> {
    method: &'m Method,
    /// The caller's tags.
    known: Vec<HeaderValue>,
}

/// Set in the extensions of an answer that may be kept. Any other answer to a GET is `no-store`.
#[derive(Clone)]
pub(super) struct MayBeKept;

impl<'m> CacheRules<'m> {
    pub(super) fn new(method: &'m Method, headers: &HeaderMap) -> Self {
        Self { method, known: headers.get_all(IF_NONE_MATCH).iter().cloned().collect() }
    }

    /// Applies the rules to an answer. An answer that the caller already has is not sent again.
    pub(super) fn apply(&self, mut out: HttpAnswer) -> HttpAnswer {
        let ReplyContent::Whole(body) = out.body() else { return out };
        if out.status() != StatusCode::OK {
            return out;
        }
        let tag = match out.headers().get(ETAG) {
            Some(of_function) => Some(of_function.clone()),
            None if self.method.max_age.is_none() && body.len() > LONGEST_TAGGED => None,
            None => Some(tag(body)),
        };
        if let Some(max_age) = self.method.max_age {
            let whose = if self.method.public { "public" } else { "private" };
            let rule = HeaderValue::try_from(format!("{whose}, max-age={}", max_age.as_secs()));
            out.headers_mut().insert(CACHE_CONTROL, rule.expect("digits can stand in a header"));
            out.headers_mut().append(VARY, VARIES);
            out.extensions_mut().insert(MayBeKept);
        }
        if let Some(tag) = tag {
            if is_known(&self.known, &tag) {
                *out.status_mut() = StatusCode::NOT_MODIFIED;
                out.headers_mut().remove(CONTENT_TYPE);
                take(out.body_mut());
            }
            out.headers_mut().insert(ETAG, tag);
        }
        out
    }
}

/// Whether a tag is among those that the caller has.
pub(super) fn is_known(known: &[HeaderValue], tag: &HeaderValue) -> bool {
    let mut known = known.iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    known.any(|known| known.trim_ascii() == b"*" || opaque(known.trim_ascii()) == opaque(tag.as_bytes()))
}

/// What tells these bytes from others.
pub(super) fn digest(body: &[u8]) -> String {
    let mut digest = sha1_smol::Sha1::from(body).digest().to_string();
    digest.truncate(32);
    digest
}

/// A tag without the prefix of a weak tag.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The tag of an answer. It is weak, because a proxy may compress the answer.
fn tag(body: &[u8]) -> HeaderValue {
    HeaderValue::try_from(format!("W/\"{}\"", digest(body))).expect("hexadecimal digits can stand in a header")
}
