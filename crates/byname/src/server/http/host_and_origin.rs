//! Checks `Host` and `Origin`, to keep out web pages that may not call. Pure.

use std::net::Ipv4Addr;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::allowed_origins::AllowedOrigins;
use super::answer::Rejection;
use crate::error::{Code, Error};
use crate::untrusted_text::{quoted, quoted_bytes};
use crate::wire::headers::JSON;
use crate::wire::stream_lines;

/// The header in which a browser says which site the request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules of one server.
#[derive(Debug)]
pub(super) struct RequestRules {
    /// Bound to addresses that only this machine can reach.
    pub(super) private: bool,
    pub(super) hosts: Vec<String>,
    pub(super) origins: AllowedOrigins,
    pub(super) require_json: bool,
}

impl RequestRules {
    /// Checks only the host.
    pub(super) fn host<'r>(&self, head: &'r Parts) -> Result<&'r str, Rejection> {
        host(head).map_err(|why| rejected(StatusCode::BAD_REQUEST, Code::InvalidArgument, why))
    }

    /// Whether `host` is one of this server's names. No web page reaches a unix socket by rebinding a name, so there every
    /// name is ours until some are listed. Callers that know only the socket say `localhost`.
    pub(super) fn is_ours(&self, host: &str, by_unix_socket: bool) -> Result<(), Rejection> {
        let listed = || self.hosts.iter().any(|ours| covers(ours, host));
        let all = self.hosts.is_empty() && (by_unix_socket || !self.private);
        if all || listed() || (by_unix_socket || self.private) && is_loopback(without_dot(without_port(host))) {
            return Ok(());
        }
        let why =
            format!("{} is not a name of this server; if it should be, add it with `Server::hosts`", quoted(host));
        Err(rejected(StatusCode::MISDIRECTED_REQUEST, Code::PermissionDenied, why))
    }

    /// Checks what a browser says about the calling page. Returns the origin if it is another site that is allowed.
    pub(super) fn origin<'r>(&self, head: &'r Parts, host: &str) -> Result<Option<&'r HeaderValue>, Rejection> {
        let foreign = |why: &str| {
            let why = format!("{why}; if its pages may call, add it with `Server::origins`");
            Err(rejected(StatusCode::FORBIDDEN, Code::PermissionDenied, why))
        };
        let (Ok(origin), Ok(site)) = (once(&head.headers, &ORIGIN), once(&head.headers, &SEC_FETCH_SITE)) else {
            return foreign("this request has `Origin` or `Sec-Fetch-Site` twice");
        };
        let allowed = origin.filter(|origin| self.origins.contains(origin.as_bytes()));
        if allowed.is_some() {
            return Ok(allowed);
        }
        match site.map(HeaderValue::as_bytes) {
            Some(b"same-origin" | b"none") => return Ok(None),
            Some(_) => return foreign("this request comes from a web page of another site"),
            None => {}
        }
        match origin.map(|origin| origin.to_str()) {
            None => Ok(None),
            Some(Ok(origin)) if same_origin(origin, host) => Ok(None),
            Some(origin) => foreign(&format!("origin {} is another site", quoted(origin.unwrap_or("?")))),
        }
    }

    /// A browser sends forms and plain text to other sites without a preflight. JSON and raw bytes require one.
    pub(super) fn content_type(&self, headers: &HeaderMap, has_body: bool) -> Result<(), Rejection> {
        // byname's client sends it, so that nothing else needs to be looked up.
        let is_json = || headers.get(CONTENT_TYPE).is_some_and(|given| given == JSON);
        let browser = || headers.contains_key(SEC_FETCH_SITE) || headers.contains_key(ORIGIN);
        if !has_body || is_json() || !(self.require_json || browser()) || is_asked_for(headers) {
            return Ok(());
        }
        let is = match headers.get(CONTENT_TYPE) {
            Some(given) => format!("is {}", quoted_bytes(given.as_bytes())),
            None => "is missing".to_owned(),
        };
        let why = format!("`content-type` {is}, expected `application/json` for a request with a body");
        Err(Rejection::unsupported_type(why))
    }
}

/// Whether a request names no host and, by its version of HTTP, needs none (RFC 9112, section 3.2). Calls need one anyway:
/// it keeps out web pages that have rebound a name.
pub(super) fn may_name_no_host(head: &Parts) -> bool {
    head.version == Version::HTTP_10 && head.uri.authority().is_none() && !head.headers.contains_key(HOST)
}

/// Rejects a body with a coding other than one `chunked`. A proxy may find the end of such a body elsewhere, because
/// hyper looks only at the last coding.
pub(super) fn transfer_coding(headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(coding) = headers.get(TRANSFER_ENCODING) else {
        return Ok(());
    };
    if coding.as_bytes().eq_ignore_ascii_case(b"chunked") && once(headers, &TRANSFER_ENCODING).is_ok() {
        return Ok(());
    }
    let why = "`transfer-encoding` must be `chunked`, once, or absent".to_owned();
    let rejection = rejected(StatusCode::BAD_REQUEST, Code::InvalidArgument, why);
    Err(rejection.with(CONNECTION, HeaderValue::from_static("close")))
}

/// A header has several values.
struct IsRepeated;

/// The value of a header that may have one at most.
fn once<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, IsRepeated> {
    let Some(first) = headers.get(name) else {
        return Ok(None);
    };
    if headers.get_all(name).iter().nth(1).is_some() { Err(IsRepeated) } else { Ok(Some(first)) }
}

fn rejected(status: StatusCode, code: Code, why: String) -> Rejection {
    Rejection::new(status, Error::refused(code, why))
}

const NO_HOST: &str = "the `Host` header is missing; say what name the server is called by";

/// The one host that a request names.
fn host(head: &Parts) -> Result<&str, String> {
    let mut headers = head.headers.get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err("there are two `Host` headers, expected one".into());
    }
    let header = match header {
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| "`Host` is not ASCII, expected a name or an address, and maybe a port".to_owned())?,
        ),
        None => None,
    };
    let target = head.uri.authority().map(Authority::as_str);
    if target.is_some() && head.uri.scheme().is_none() && head.method != Method::CONNECT {
        return Err("the request's target is a host alone, expected a path, or a whole URL".into());
    }
    let host = match (target, header) {
        // In HTTP/2 the target replaces it.
        (Some(_), None) if head.version == Version::HTTP_11 => return Err(NO_HOST.into()),
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
            let (header, target) = (quoted(header), quoted(target));
            return Err(format!("`Host` is {header}, but the request's target is {target}; expected one name"));
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return Err(NO_HOST.into()),
    };
    // `Authority` accepts user names, which are not allowed here. It rejects paths and spaces, which are not allowed
    // either.
    match host.parse::<Authority>() {
        Ok(authority) if !host.contains('@') && !authority.host().is_empty() => Ok(host),
        _ => Err(format!("`Host` is {}, expected a name or an address, and maybe a port", quoted(host))),
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

/// A name without the dot that says that it is a whole name: `orders.internal.` is `orders.internal`. TLS sends it without
/// the dot, and `Host` has it.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether `host` is this name of ours. A name of ours without a port stands for every port.
fn covers(ours: &str, host: &str) -> bool {
    let (our_name, name) = (without_port(ours), without_port(host));
    let (our_port, port) = (&ours[our_name.len()..], &host[name.len()..]);
    without_dot(our_name).eq_ignore_ascii_case(without_dot(name)) && (our_port.is_empty() || our_port == port)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `origin` is the site that `host` names. The scheme is ignored, because a proxy may change it. The port is
/// compared.
fn same_origin(origin: &str, host: &str) -> bool {
    let (authority, default) = match origin.split_once("://") {
        Some(("http", authority)) => (authority, ":80"),
        Some(("https", authority)) => (authority, ":443"),
        _ => return false,
    };
    let whole = |host: &str| {
        let port = if without_port(host) == host { default } else { "" };
        format!("{host}{port}").to_ascii_lowercase()
    };
    whole(authority) == whole(host)
}

/// Whether a page of another site needs a preflight before it sends a body of this type.
fn is_asked_for(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    is("application/json") || is("application/octet-stream") || stream_lines::is(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(private: bool, hosts: &[&str], origins: &[&str]) -> RequestRules {
        let owned = |all: &[&str]| -> Vec<String> { all.iter().map(|&one| one.to_owned()).collect() };
        let origins = AllowedOrigins::parse(&owned(origins)).unwrap();
        RequestRules { private, hosts: owned(hosts), origins, require_json: false }
    }

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::post("/rpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn knock(gate: &RequestRules, headers: &[(&str, &str)]) -> u16 {
        let head = head(headers);
        let passed = gate.host(&head).and_then(|host| {
            gate.is_ours(host, false)?;
            gate.origin(&head, host)?;
            gate.content_type(&head.headers, true)
        });
        passed.map_or_else(|rejection| rejection.status.unwrap().as_u16(), |()| 200)
    }

    #[test]
    fn host_is_named_once_and_well() {
        let open = gate(false, &[], &[]);
        for good in ["localhost", "a.b:80", "127.0.0.1:8080", "[::1]:80", "[::1]", "any.name"] {
            assert_eq!(knock(&open, &[("host", good)]), 200, "{good}");
        }
        for bad in ["user@host", "host/path", "a b", "", ":80"] {
            assert_eq!(knock(&open, &[("host", bad)]), 400, "{bad}");
        }
        assert_eq!(knock(&open, &[]), 400);
        assert_eq!(knock(&open, &[("host", "a"), ("host", "a")]), 400);
    }

    #[test]
    fn a_rebound_name_is_not_ours() {
        let private = gate(true, &["data.internal"], &[]);
        for ours in ["localhost:8080", "LOCALHOST", "127.0.0.1", "127.9.9.9:1", "[::1]:80", "data.internal:7"] {
            assert_eq!(knock(&private, &[("host", ours)]), 200, "{ours}");
        }
        for foreign in ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test", "10.0.0.1"] {
            assert_eq!(knock(&private, &[("host", foreign)]), 421, "{foreign}");
        }
        let public = gate(false, &["data.internal"], &[]);
        assert_eq!(knock(&public, &[("host", "localhost")]), 421);
    }

    #[test]
    fn a_name_with_a_dot_at_its_end_is_the_same_name() {
        let private = gate(true, &["orders.internal", "data.internal:7", "whole.internal."], &[]);
        for ours in [
            "orders.internal.",
            "Orders.Internal.:8443",
            "data.internal.:7",
            "whole.internal",
            "whole.internal.:8443",
            "localhost.",
            "localhost.:8080",
        ] {
            assert_eq!(knock(&private, &[("host", ours)]), 200, "{ours}");
        }
        for foreign in
            ["orders.internal..", "orders.internal.evil.", "data.internal.:8", "localhost..", ".", "internal."]
        {
            assert_eq!(knock(&private, &[("host", foreign)]), 421, "{foreign}");
        }
        // An origin is compared as it is.
        let open = gate(false, &[], &["https://app.example"]);
        assert_eq!(knock(&open, &[("host", "orders.internal"), ("origin", "https://app.example.")]), 403);
        assert_eq!(knock(&open, &[("host", "orders.internal"), ("origin", "http://orders.internal.")]), 403);
    }

    #[test]
    fn at_a_unix_socket_every_name_is_ours_until_some_are_listed() {
        for private in [true, false] {
            let any = gate(private, &[], &[]);
            for host in ["localhost", "orders.example:8080", "10.0.0.1"] {
                assert!(any.is_ours(host, true).is_ok(), "{host}");
            }
            let listed = gate(private, &["orders.example"], &[]);
            for ours in ["localhost", "127.0.0.1:80", "orders.example:8080"] {
                assert!(listed.is_ours(ours, true).is_ok(), "{ours}");
            }
            assert_eq!(listed.is_ours("evil.test", true).unwrap_err().status.unwrap().as_u16(), 421);
        }
    }

    #[test]
    fn pages_of_other_sites_are_rejected() {
        let gate = gate(true, &[], &["https://app.example"]);
        let json = ("content-type", "application/json; charset=utf-8");
        let call = |headers: &[(&str, &str)]| {
            let mut all = vec![("host", "localhost:8080"), json];
            all.extend_from_slice(headers);
            knock(&gate, &all)
        };
        assert_eq!(call(&[]), 200);
        assert_eq!(call(&[("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(call(&[("sec-fetch-site", "none")]), 200);
        assert_eq!(call(&[("sec-fetch-site", "cross-site")]), 403);
        assert_eq!(call(&[("sec-fetch-site", "same-site")]), 403);
        assert_eq!(call(&[("origin", "http://localhost:8080")]), 200);
        assert_eq!(call(&[("origin", "http://localhost")]), 403);
        assert_eq!(call(&[("origin", "http://evil.test")]), 403);
        assert_eq!(call(&[("origin", "null")]), 403);
        assert_eq!(call(&[("origin", "https://app.example"), ("sec-fetch-site", "cross-site")]), 200);
        // The browser's statement that it is the same site has priority over the origin, because a proxy may have
        // changed the host.
        assert_eq!(call(&[("sec-fetch-site", "same-origin"), ("origin", "https://public.name")]), 200);
    }

    #[test]
    fn browsers_and_servers_with_require_json_need_json() {
        let text = [("host", "localhost"), ("content-type", "text/plain"), ("sec-fetch-site", "same-origin")];
        let mut gate = gate(true, &[], &[]);
        assert_eq!(knock(&gate, &text), 415);
        assert_eq!(knock(&gate, &text[..2]), 200, "the original client sends no JSON content type");
        gate.require_json = true;
        assert_eq!(knock(&gate, &text[..2]), 415);
        for (content_type, status) in [
            ("application/json", 200),
            ("application/octet-stream", 200),
            ("Application/Octet-Stream; x=y", 200),
            ("application/octet-streams", 415),
            ("application/x-www-form-urlencoded", 415),
            ("multipart/form-data; boundary=x", 415),
            ("", 415),
        ] {
            let page = [("host", "localhost"), ("content-type", content_type), ("sec-fetch-site", "same-origin")];
            assert_eq!(knock(&gate, &page), status, "{content_type}");
            assert_eq!(knock(&gate, &page[..2]), status, "{content_type}");
        }
    }
}
