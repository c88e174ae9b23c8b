//! Headers that users give: which there may be, what may stand in them, and how large they may be together.
//!
//! There is one rule for every way of calling, so that a call which works by frames works over HTTP as well.

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Code, Error};
use crate::limits_and_timeouts::{Limit, in_bytes};
use crate::untrusted_text::quoted;

/// Headers that say something to HTTP itself, and that byname, or whatever is on the way, writes and obeys.
const OF_HTTP: [&str; 23] = [
    // Where a message ends, and what becomes of the connection.
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Whom a request is for, and what page it comes from.
    "host",
    "max-forwards",
    "origin",
    // What the body is, and which bodies the caller takes.
    "accept",
    "accept-charset",
    "accept-encoding",
    "content-encoding",
    "content-range",
    "content-type",
    // Whether to answer in full.
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "range",
];

/// As [`OF_HTTP`], by how a name begins: what is between proxies, and what only browsers may say.
const FAMILIES_OF_HTTP: [&str; 3] = ["access-control-request-", "proxy-", "sec-"];

/// How many bytes the headers of a call or of a reply may have together: half of what a server takes by default
/// (`Limits::header`), so that there is room for HTTP's own.
const LARGEST: usize = 32 << 10;

/// How many headers there may be: HTTP/1.1 servers take about a hundred, HTTP's own included.
const MOST: usize = 64;

/// How many headers of a call a server takes by frames: as many as it takes over HTTP/1.1.
const MOST_TAKEN: usize = 100;

/// What proxies say of whom they speak for.
const OF_PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Whether a proxy has passed on a request. Its peer is the proxy then, and the caller may be anywhere.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    OF_PROXIES.iter().any(|name| headers.contains_key(*name))
}

/// Headers whose bearer may do what another may not. Their values are marked sensitive, so that `Debug` does not show them.
static AUTHORITY: [HeaderName; 5] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE, CONSOLE];

/// On a request: the number of this attempt at the call, from 2.
pub(crate) const ATTEMPT: HeaderName = HeaderName::from_static("byname-attempt");

/// On a request: the token of the page at the endpoint, which makes the call.
pub(crate) const CONSOLE: HeaderName = HeaderName::from_static("byname-console");

/// Which attempt at its call a request is. Anything but a number from 2 says that it is the first.
pub(crate) fn attempt(headers: &HeaderMap) -> u32 {
    let said = headers.get(ATTEMPT).map(HeaderValue::as_bytes);
    let digits = said.filter(|said| said.iter().all(u8::is_ascii_digit)).and_then(|said| str::from_utf8(said).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(1).max(1)
}

fn invalid(what: String, why: &str) -> Error {
    Error::refused(Code::InvalidArgument, format!("{what} can't be a header: {why}"))
}

/// Reads the name of a header.
pub(crate) fn name(name: &str) -> Result<HeaderName, Error> {
    let expected = "expected a name of ASCII letters, digits, `-` and `_`, without spaces";
    name.parse().map_err(|_| invalid(quoted(name), expected))
}

/// Checks a header.
pub(crate) fn parse(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let name = self::name(name)?;
    let is_of_http =
        |name: &str| OF_HTTP.contains(&name) || FAMILIES_OF_HTTP.iter().any(|family| name.starts_with(family));
    if is_of_http(name.as_str()) {
        return Err(invalid(
            quoted(name.as_str()),
            "HTTP uses it itself; choose another name, such as one that begins with `x-`",
        ));
    }
    if name.as_str().starts_with("byname-") {
        let instead = match name.as_str() {
            "byname-timeout-ms" => "set a deadline with `.timeout(…)`",
            "byname-priority" => "set it with `.priority(…)`",
            _ => "choose another name, such as one that begins with `x-`",
        };
        return Err(invalid(quoted(name.as_str()), &format!("the protocol uses it itself; {instead}")));
    }
    // The value may be a secret, which has no place in a message.
    let no_value = || {
        invalid(
            format!("the value of `{name}`"),
            "expected visible ASCII characters, with spaces and tabs only between them; send other text in \
             percent-encoding or base64, or as an argument",
        )
    };
    let is_blank = |byte: u8| byte == b' ' || byte == b'\t';
    let is_text = value.bytes().all(|byte| byte.is_ascii_graphic() || is_blank(byte));
    let is_padded = value.bytes().next().is_some_and(is_blank) || value.bytes().next_back().is_some_and(is_blank);
    if !is_text || is_padded {
        return Err(no_value());
    }
    let mut value: HeaderValue = value.parse().map_err(|_| no_value())?;
    value.set_sensitive(AUTHORITY.contains(&name));
    Ok((name, value))
}

/// Marks the values of [`AUTHORITY`] and of `others` sensitive among the headers of a call that has come.
#[inline]
pub(crate) fn hide(headers: &mut HeaderMap, others: &[HeaderName]) {
    if !headers.is_empty() {
        hide_each(headers, others);
    }
}

fn hide_each(headers: &mut HeaderMap, others: &[HeaderName]) {
    // A call has few headers, so comparing their names takes less time than looking up each name.
    for (name, value) in headers.iter_mut() {
        if AUTHORITY.contains(name) || others.contains(name) {
            value.set_sensitive(true);
        }
    }
}

/// Sets a header, in place of what was there.
pub(crate) fn set(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Error> {
    let (name, value) = parse(name, value)?;
    headers.insert(name, value);
    Ok(())
}

/// Adds a header to those of a reply, beside others of its name.
pub(crate) fn append_to_reply(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Error> {
    let (name, value) = parse(name, value)?;
    check(headers.len() + 1, size(headers) + written(&name, &value))?;
    headers.append(name, value);
    Ok(())
}

/// Sets a header of a reply, in place of what was there.
pub(crate) fn set_in_reply(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Error> {
    let (name, value) = parse(name, value)?;
    let others = headers.iter().filter(|(other, _)| **other != name);
    let (count, bytes) = others
        .fold((1, written(&name, &value)), |(count, bytes), (name, value)| (count + 1, bytes + written(name, value)));
    check(count, bytes)?;
    headers.insert(name, value);
    Ok(())
}

/// Whether the headers that a call is to carry are few and small enough.
pub(crate) fn check_size(headers: &HeaderMap) -> Result<(), Error> {
    if headers.is_empty() { Ok(()) } else { check(headers.len(), size(headers)) }
}

fn check(count: usize, bytes: usize) -> Result<(), Error> {
    if bytes <= LARGEST && count <= MOST {
        return Ok(());
    }
    let why = format!(
        "the headers have {bytes} bytes in {count} fields, and a call or a reply may have {LARGEST} in {MOST}; send what \
         is large as an argument or as the result"
    );
    Err(Error::refused(Code::ResourceExhausted, why).without_retry())
}

/// Whether a server takes so many headers of a call, of at most `limit` bytes together, which did not come over HTTP.
pub(crate) fn check_taken(headers: &HeaderMap, limit: usize) -> Result<(), Error> {
    if headers.is_empty() || (size(headers) <= limit && headers.len() <= MOST_TAKEN) {
        return Ok(());
    }
    Err(too_large(limit))
}

/// The headers of a call are more than a server takes.
pub(crate) fn too_large(limit: usize) -> Error {
    let why = format!(
        "the headers of the call are larger than {} (`Limits::header` of the server) or more than \
         {MOST_TAKEN}; send less in them, or raise the limit",
        in_bytes(limit)
    );
    Error::refused(Code::ResourceExhausted, why).of_limit(Limit::Header)
}

/// How many bytes HTTP/1.1 writes for them.
pub(crate) fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| written(name, value)).sum()
}

fn written(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + ": \r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_reserved_for_http_are_rejected_in_any_case() {
        for name in
            ["Host", "content-type", "TE", "proxy-authorization", "Sec-Fetch-Site", "access-control-request-method"]
        {
            let why = parse(name, "x").unwrap_err();
            assert_eq!(
                (why.code(), why.message().contains("HTTP uses it itself")),
                (Code::InvalidArgument, true),
                "{why}"
            );
        }
        for name in ["x-host", "authorization", "cookie", "accept-language", "content-language", "secret", "proxy"] {
            assert!(parse(name, "x").is_ok(), "{name}");
        }
    }

    #[test]
    fn a_header_value_is_visible_ascii_and_arrives_unchanged() {
        for value in ["", "a", "a b\tc", "~!\"\\"] {
            assert_eq!(parse("x", value).unwrap().1.to_str().unwrap(), value);
        }
        for value in ["Zoë", " a", "a ", "\ta", " ", "a\nb", "a\0", "\u{7f}"] {
            assert!(parse("x", value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn an_attempt_is_the_first_unless_its_header_is_a_number_from_2() {
        let said = |value: &'static str| attempt(&HeaderMap::from_iter([(ATTEMPT, HeaderValue::from_static(value))]));
        assert_eq!((attempt(&HeaderMap::new()), said("2"), said("3")), (1, 2, 3));
        for other in ["", "0", "1", "-2", "+2", "2.5", "two", "2, 3", "4294967296"] {
            assert_eq!(said(other), 1, "{other}");
        }
    }

    #[test]
    fn headers_are_limited_in_bytes_and_in_number() {
        let of = |count: usize, bytes: usize| {
            let name = |at: usize| HeaderName::try_from(format!("x-{at:03}")).unwrap();
            let value = HeaderValue::try_from("v".repeat(bytes / count - "x-000: \r\n".len())).unwrap();
            (0..count).map(|at| (name(at), value.clone())).collect::<HeaderMap>()
        };
        assert_eq!(size(&of(4, LARGEST)), LARGEST);
        assert!(check_size(&of(4, LARGEST)).is_ok() && check_size(&of(MOST, 6400)).is_ok());
        for too_much in [of(4, LARGEST + 4), of(MOST + 1, 6500)] {
            assert_eq!(check_size(&too_much).unwrap_err().code(), Code::ResourceExhausted);
        }
        assert!(check_taken(&of(4, 2000), 2000).is_ok() && check_taken(&of(MOST_TAKEN, 2000), 2000).is_ok());
        for too_much in [of(4, 2004), of(MOST_TAKEN + 1, 2000)] {
            assert_eq!(check_taken(&too_much, 2000).unwrap_err().limit(), Some("header"));
        }
    }
}
