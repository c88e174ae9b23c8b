//! What pages of other sites may do in addition to calling (CORS): [`Cors`], and its headers.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderName,
    HeaderValue, VARY,
};

use super::answer::{HttpAnswer, no_content};
use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

/// The request headers that pages of allowed origins may always set.
const ALWAYS_ALLOWED: [&str; 6] =
    ["authorization", "byname-timeout-ms", "content-type", "idempotency-key", "traceparent", "tracestate"];

/// The response headers that pages of allowed origins may read. The CORS-safelisted headers are readable without it.
const ALWAYS_EXPOSED: [&str; 3] = ["byname-protocol", "byname-ways", "retry-after"];

/// How long a browser may keep the answer to a preflight, unless told otherwise.
const MAX_AGE: Duration = Duration::from_secs(600);

/// What the pages of [`Server::origins`](crate::Server::origins) may do in addition to calling.
/// [`Server::cors`](crate::Server::cors) sets it.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Cors {
    allow_headers: Vec<String>,
    expose_headers: Vec<String>,
    allow_credentials: bool,
    max_age: Option<Duration>,
}

impl Cors {
    /// Request headers that pages may set, in addition to `authorization`, `byname-timeout-ms`, `content-type`,
    /// `idempotency-key`, `traceparent` and `tracestate`. `*` is every header except `authorization`.
    pub fn allow_headers<H: Into<String>>(mut self, names: impl IntoIterator<Item = H>) -> Self {
        self.allow_headers.extend(names.into_iter().map(Into::into));
        self
    }

    /// Headers of an answer that scripts may read, in addition to `content-type` and a few others, which they may always
    /// read, and to `byname-protocol`, `byname-ways` and `retry-after`.
    pub fn expose_headers<H: Into<String>>(mut self, names: impl IntoIterator<Item = H>) -> Self {
        self.expose_headers.extend(names.into_iter().map(Into::into));
        self
    }

    /// Whether pages may send cookies and other credentials of the browser. Off by default. If it is on, the allowed and
    /// exposed headers must be named, and the origins must not be `*`: otherwise the server does not start. An origin such
    /// as `https://*.example.com` is fine.
    pub fn allow_credentials(mut self, on: bool) -> Self {
        self.allow_credentials = on;
        self
    }

    /// How long a browser may keep the answer to a preflight, in whole seconds. Ten minutes by default.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Whether browsers accept these rules for pages of these origins.
    pub(in crate::server) fn check(&self, origins: &[String]) -> Result<(), Error> {
        let invalid = |why: String| Err(Error::refused(Code::InvalidArgument, why));
        let headers = [("Cors::allow_headers", &self.allow_headers), ("Cors::expose_headers", &self.expose_headers)];
        for (method, names) in headers {
            if let Some(name) = names.iter().find(|name| HeaderName::try_from(name.as_str()).is_err()) {
                return invalid(format!(
                    "`{method}`: {} is not the name of a header; give each name as a separate string",
                    quoted(name)
                ));
            }
        }
        if !self.allow_credentials {
            return Ok(());
        }
        let wildcard = |name: &&String| name.contains('*');
        let origin = origins.iter().find(|origin| *origin == "*").map(|origin| ("Server::origins", origin));
        let mut headers =
            headers.into_iter().filter_map(|(method, names)| Some((method, names.iter().find(wildcard)?)));
        match origin.or_else(|| headers.next()) {
            Some((method, name)) => invalid(format!(
                "`Cors::allow_credentials` needs names, but `{method}` has {}; list each name",
                quoted(name)
            )),
            None => Ok(()),
        }
    }
}

/// The headers of answers to pages of allowed origins.
#[derive(Debug)]
pub(super) struct CorsHeaders {
    of_preflight: HeaderMap,
    of_answer: HeaderMap,
}

impl CorsHeaders {
    /// From rules that were [checked](Cors::check).
    pub(super) fn new(rules: &Cors) -> Self {
        let value = |names: &[&str]| HeaderValue::try_from(names.join(", ")).expect("names can stand in a header");
        let (mut of_preflight, mut of_answer) = (HeaderMap::new(), HeaderMap::new());
        of_preflight.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        let allowed: Vec<_> =
            ALWAYS_ALLOWED.into_iter().chain(rules.allow_headers.iter().map(String::as_str)).collect();
        of_preflight.insert(ACCESS_CONTROL_ALLOW_HEADERS, value(&allowed));
        let max_age = rules.max_age.unwrap_or(MAX_AGE);
        of_preflight.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(max_age.as_secs()));
        let is_own = |name: &&str| ALWAYS_EXPOSED.iter().any(|own| own.eq_ignore_ascii_case(name));
        let others = rules.expose_headers.iter().map(String::as_str).filter(|name| !is_own(name));
        of_answer.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            value(&ALWAYS_EXPOSED.into_iter().chain(others).collect::<Vec<_>>()),
        );
        if rules.allow_credentials {
            of_answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        Self { of_preflight, of_answer }
    }

    /// The answer to a preflight.
    pub(super) fn preflight(&self) -> HttpAnswer {
        let mut out = no_content();
        *out.headers_mut() = self.of_preflight.clone();
        out
    }

    /// Lets the page of this origin read an answer.
    pub(super) fn allow(&self, headers: &mut HeaderMap, origin: HeaderValue) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.extend(self.of_answer.clone());
        let mut varies = headers.get_all(VARY).iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
        if !varies.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"origin")) {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}
