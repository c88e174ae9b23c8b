//! The console: a page at the endpoint, for browsers. `console/` has its sources, and `console/build` makes these files.
//!
//! Only the browser knows the path of the page, because proxies and outer servers remove a part of it. A relative URL of a
//! query keeps that path whatever it is, so the files of the page are `?!console.js` and `?!console.css`.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, ORIGIN,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Response, StatusCode};

use super::admitted_request::CallerInfo;
use super::answer::{HttpAnswer, Rejection};
use super::caching::{self, MayBeKept};
use super::response_body::ReplyContent;
use crate::console_access::{self, PageAsked};
use crate::content_coding;
use crate::metadata;
use crate::outcome::Failure;
use crate::request::CallArguments;

/// The page, or a file that it loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsoleFile {
    Page,
    Script,
    Style,
}

/// The bytes of a file, which are the same for every server of this version.
struct EmbeddedFile {
    content_type: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    /// The tag of the plain bytes, without quotes.
    digest: LazyLock<String>,
}

/// Where the token is in the page.
const TOKEN_PLACE: &str = "{token}";

/// The page without its token.
const PAGE: &str = include_str!("console/console.html");

static SCRIPT: EmbeddedFile = EmbeddedFile {
    content_type: "text/javascript; charset=utf-8",
    plain: include_bytes!("console/console.js"),
    gzip: include_bytes!("console/console.js.gz"),
    digest: LazyLock::new(|| caching::digest(SCRIPT.plain)),
};

static STYLE: EmbeddedFile = EmbeddedFile {
    content_type: "text/css; charset=utf-8",
    plain: include_bytes!("console/console.css"),
    gzip: include_bytes!("console/console.css.gz"),
    digest: LazyLock::new(|| caching::digest(STYLE.plain)),
};

/// Nothing but files and calls of the own origin, no inline code, and no text that becomes HTML. `'self'` covers WebSockets of
/// the own origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

impl ConsoleFile {
    /// What a request to the endpoint asks for, if it is for the console.
    pub(super) fn asked_for(head: &Parts) -> Option<Self> {
        if ![Verb::GET, Verb::HEAD].contains(&head.method) {
            return None;
        }
        match head.uri.query() {
            Some("!console.js") => Some(Self::Script),
            Some("!console.css") => Some(Self::Style),
            _ => accepts_html(&head.headers).then_some(Self::Page),
        }
    }

    /// Whether the user follows a link to the page, which changes nothing, and which the page with the link can't read.
    pub(super) fn is_visited(self, head: &Parts) -> bool {
        let is = |name: HeaderName, value: &str| head.headers.get(name).is_some_and(|given| given == value);
        self == Self::Page
            && !head.headers.contains_key(ORIGIN)
            && is(FETCH_MODE, "navigate")
            && is(FETCH_DESTINATION, "document")
    }

    /// The answer, if the console is shown to such a caller.
    pub(super) async fn answer(
        self,
        caller: CallerInfo<'_>,
        headers: &HeaderMap,
    ) -> Option<Result<HttpAnswer, Rejection>> {
        let dispatch = caller.endpoint().dispatch();
        let mut metadata = headers.clone();
        metadata::hide(&mut metadata, dispatch.secret_headers());
        let mut asked = caller.request(console_access::PAGE.into(), CallArguments::Query(Vec::new()), metadata);
        if !dispatch.may_show_console(&asked) {
            return None;
        }
        asked.deadline = caller.deadline;
        asked.extensions.insert(PageAsked);
        // Interceptors and rules see it as a call.
        let reply = dispatch.run(asked).await;
        Some(match reply.result {
            Ok(_) => Ok(self.sent(dispatch.console_token().secret(), headers, reply.metadata)),
            Err(Failure::Method { error, .. } | Failure::Rpc(error)) => Err(error.into()),
        })
    }

    fn sent(self, token: &str, asked: &HeaderMap, metadata: HeaderMap) -> HttpAnswer {
        let file = match self {
            Self::Page => return page(token, asked, metadata),
            Self::Script => &SCRIPT,
            Self::Style => &STYLE,
        };
        let is_gzip = content_coding::accepts_gzip(asked);
        // A strong tag is that of the bytes that are sent.
        let tag = format!("\"{}{}\"", *file.digest, if is_gzip { "-gzip" } else { "" });
        let bytes = if is_gzip { file.gzip } else { file.plain };
        let mut out = answer(metadata, file.content_type, Bytes::from_static(bytes));
        let headers = out.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        out.extensions_mut().insert(MayBeKept);
        tagged(out, &tag, asked)
    }
}

/// The page has the token, so it is not kept.
fn page(token: &str, asked: &HeaderMap, metadata: HeaderMap) -> HttpAnswer {
    let text = PAGE.replacen(TOKEN_PLACE, token, 1);
    let tag = format!("\"{}\"", caching::digest(text.as_bytes()));
    let mut out = answer(metadata, "text/html; charset=utf-8", text.into());
    out.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    tagged(out, &tag, asked)
}

fn answer(metadata: HeaderMap, content_type: &'static str, body: Bytes) -> HttpAnswer {
    let mut out = Response::new(ReplyContent::Whole(body));
    *out.headers_mut() = metadata;
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (OPENER_POLICY, "same-origin"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        out.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    out
}

/// The answer with its tag, and without its body if the caller has that already.
fn tagged(mut out: HttpAnswer, tag: &str, asked: &HeaderMap) -> HttpAnswer {
    let tag = HeaderValue::try_from(tag).expect("hexadecimal digits can stand in a header");
    let known: Vec<_> = asked.get_all(IF_NONE_MATCH).iter().cloned().collect();
    if caching::is_known(&known, &tag) {
        *out.status_mut() = StatusCode::NOT_MODIFIED;
        out.headers_mut().remove(CONTENT_TYPE);
        out.headers_mut().remove(CONTENT_ENCODING);
        *out.body_mut() = ReplyContent::default();
    }
    out.headers_mut().insert(ETAG, tag);
    out
}

/// Browsers name HTML when they open a page. Scripts and tools accept everything.
fn accepts_html(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT).iter();
    let mut types = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    types.any(|accepted| {
        let name = accepted.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"text/html")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_place_for_the_token_and_no_inline_code() {
        assert_eq!(PAGE.matches(TOKEN_PLACE).count(), 1);
        for inline in ["<style", "style=", "onclick", "javascript:", "<script>"] {
            assert!(!PAGE.contains(inline), "{inline}");
        }
    }

    #[test]
    fn the_files_are_small() {
        assert!(SCRIPT.gzip.len() + STYLE.gzip.len() < 150 << 10);
    }
}
