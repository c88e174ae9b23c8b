//! The headers of the protocol.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Way;
use crate::error::{Code, Error};
use crate::untrusted_text::quoted_bytes;

/// On every reply: the version of the protocol.
pub(crate) const PROTOCOL: HeaderName = HeaderName::from_static(PROTOCOL_NAME);
/// On every reply: the ways in that the server offers.
pub(crate) const WAYS: HeaderName = HeaderName::from_static(WAYS_NAME);
/// All ways, as a server offers them by default.
pub(crate) const ALL_WAYS: &str = "plain, path, json-rpc, frames";
/// On a reply to a caller that says how long it waits: which server it is, and how busy.
pub(crate) const INSTANCE: HeaderName = HeaderName::from_static("byname-instance");
/// On a reply to a call with a key: which servers know such replies. Its value is that of a [`KeySharing`].
pub(crate) const KEYS: HeaderName = HeaderName::from_static(KEYS_NAME);
pub(crate) const LOAD: HeaderName = HeaderName::from_static("byname-load");
pub(crate) const KEEP_ALIVE: HeaderName = HeaderName::from_static(KEEP_ALIVE_NAME);
/// On a request: how long the caller still waits, in milliseconds.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("byname-timeout-ms");

pub(crate) const VERSION: HeaderValue = HeaderValue::from_static("1");
pub(crate) const JSON: &str = "application/json";
pub(crate) const PROBLEM: &str = "application/problem+json";

const PROTOCOL_NAME: &str = "byname-protocol";
const WAYS_NAME: &str = "byname-ways";
const KEYS_NAME: &str = "byname-keys";
const KEEP_ALIVE_NAME: &str = "keep-alive";

/// The values of `content-type` that nearly all answers have, checked by the compiler and not for each answer.
const JSON_VALUE: HeaderValue = HeaderValue::from_static(JSON);

/// Server: `content-type`.
pub(crate) fn content_type(name: &'static str) -> HeaderValue {
    if name == JSON { JSON_VALUE } else { HeaderValue::from_static(name) }
}

/// The reason phrase of the 502 that the original sends.
pub(crate) const NO_FUNC: &str = "no func found err";

/// Client: the name of a header that byname's answers have. To parse it as any name takes longer, and copies those that
/// are not of HTTP.
pub(crate) fn usual_name(name: &str) -> Option<HeaderName> {
    Some(match name {
        "content-length" => CONTENT_LENGTH,
        "content-type" => CONTENT_TYPE,
        "date" => DATE,
        PROTOCOL_NAME => PROTOCOL,
        WAYS_NAME => WAYS,
        "byname-instance" => INSTANCE,
        "byname-load" => LOAD,
        KEEP_ALIVE_NAME => KEEP_ALIVE,
        _ => return None,
    })
}

/// Client: a value that nearly all answers of byname have. It is neither checked nor counted as a part of the answer.
pub(crate) fn usual_value(value: &[u8]) -> Option<HeaderValue> {
    match value {
        b"1" => Some(VERSION),
        value if value == ALL_WAYS.as_bytes() => Some(HeaderValue::from_static(ALL_WAYS)),
        value if value == JSON.as_bytes() => Some(JSON_VALUE),
        _ => None,
    }
}

/// Server: whether a request has no headers but those that byname's client sends with every call. Then nothing needs to be looked up of
/// the others, and a look-up hashes a name.
pub(crate) fn are_usual(headers: &HeaderMap) -> bool {
    static USUAL: [HeaderName; 4] = [HOST, CONTENT_TYPE, CONTENT_LENGTH, TIMEOUT];
    headers.len() <= USUAL.len() && headers.keys().all(|name| USUAL.contains(name))
}

/// How long the caller still waits.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    static NAME: HeaderName = TIMEOUT;
    // A call has few headers, so comparing their names takes less time than a look-up.
    let Some((_, value)) = headers.iter().find(|(name, _)| **name == NAME) else {
        return Ok(None);
    };
    match whole_number(value.as_bytes()) {
        Some(ms) => Ok(Some(Duration::from_millis(ms))),
        None => Err(Error::refused(
            Code::InvalidArgument,
            format!(
                "header `byname-timeout-ms` is {}, expected a whole number of milliseconds",
                quoted_bytes(value.as_bytes())
            ),
        )),
    }
}

/// The number that a value consists of: digits, without a sign.
pub(crate) fn whole_number(value: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let add = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    Some(value).filter(|text| !text.is_empty())?.iter().try_fold(0, add)
}

/// Client: the error for a reply with a content encoding that is not decoded.
pub(crate) fn foreign_coding(name: &str, headers: &HeaderMap) -> Option<String> {
    let coding = headers.get(CONTENT_ENCODING)?;
    if coding.as_bytes().eq_ignore_ascii_case(b"identity") {
        return None;
    }
    Some(format!(
        "the reply of `{name}` has `content-encoding: {}`, which this client neither asks for nor decodes; switch \
         compression off for this path, in the proxy or the layer before its server, or let the client accept zstd and \
         gzip with `ClientBuilder::compress(true)`",
        quoted_bytes(coding.as_bytes()).trim_matches('`')
    ))
}

/// Whether a reply comes from a byname server of a known version.
pub(crate) fn is_byname(headers: &HeaderMap) -> bool {
    // A byname server writes it among the first, so it is found sooner than its name is hashed.
    let version = headers.iter().find(|(name, _)| name.as_str() == PROTOCOL_NAME);
    version.is_some_and(|(_, version)| version == VERSION)
}

/// Whether the server accepts calls by this way.
pub(crate) fn offers(headers: &HeaderMap, way: Way) -> bool {
    let server = AnsweringServer::of(headers);
    match way {
        Way::Plain => server.takes_plain,
        Way::Path => server.takes_paths,
    }
}

/// Which servers know the replies of the calls with a key that a server has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeySharing {
    /// Only this one.
    Own,
    /// Every server of the service.
    Shared,
}

impl KeySharing {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
        }
    }

    /// Any other text says nothing.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        [Self::Own, Self::Shared].into_iter().find(|sharing| sharing.as_str().as_bytes() == text)
    }
}

/// Client: what an answer says of the server that has sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnsweringServer {
    /// It is a byname server of a known version.
    pub(crate) is_byname: bool,
    pub(crate) takes_plain: bool,
    pub(crate) takes_paths: bool,
    pub(crate) offers_frames: bool,
    /// Whether it knows the replies of calls with a key.
    pub(crate) keys: Option<KeySharing>,
    /// How long it keeps an idle connection, if it says so.
    pub(crate) keep_alive: Option<Duration>,
}

impl AnsweringServer {
    /// Reads the headers in one pass. A look-up of each would hash its name, which takes longer than to compare the names of
    /// the few headers of an answer.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let (mut protocol, mut ways, mut keys, mut keep_alive) = (None, None, None, None);
        for (name, value) in headers {
            let first = match name.as_str() {
                PROTOCOL_NAME => &mut protocol,
                WAYS_NAME => &mut ways,
                KEYS_NAME => &mut keys,
                KEEP_ALIVE_NAME => &mut keep_alive,
                _ => continue,
            };
            first.get_or_insert(value);
        }
        let is_byname = protocol.is_some_and(|version| version == VERSION);
        let ways = ways.filter(|_| is_byname).and_then(|ways| ways.to_str().ok()).unwrap_or_default();
        // Nearly every server offers all ways. Then the list need not be split.
        let offers_all = ways == ALL_WAYS;
        let offers = |way: &str| offers_all || ways.split(',').any(|offered| offered.trim() == way);
        Self {
            is_byname,
            takes_plain: offers("plain"),
            takes_paths: offers("path"),
            offers_frames: offers("frames"),
            keys: keys.filter(|_| is_byname).and_then(|keys| KeySharing::read(keys.as_bytes())),
            keep_alive: keep_alive.and_then(self::keep_alive),
        }
    }
}

fn keep_alive(value: &HeaderValue) -> Option<Duration> {
    let seconds = value.to_str().ok()?.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn timeouts_are_whole_milliseconds() {
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
        assert_eq!(timeout(&one("byname-timeout-ms", "250")).unwrap(), Some(Duration::from_millis(250)));
        let longest = one("byname-timeout-ms", "18446744073709551615");
        assert_eq!(timeout(&longest).unwrap(), Some(Duration::from_millis(u64::MAX)));
        for bad in ["", "-1", "+5", "1.5", "1s", "18446744073709551616"] {
            assert!(timeout(&one("byname-timeout-ms", bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_headers_of_a_call_of_the_client_are_usual() {
        let mut headers = HeaderMap::new();
        assert!(are_usual(&headers));
        for (name, value) in
            [("host", "a"), ("content-type", JSON), ("byname-timeout-ms", "1"), ("content-length", "3")]
        {
            headers.insert(name, HeaderValue::from_static(value));
            assert!(are_usual(&headers), "{name}");
        }
        for name in ["origin", "sec-fetch-site", "transfer-encoding", "byname-console"] {
            let mut other = headers.clone();
            other.insert(name, HeaderValue::from_static(""));
            other.remove("host");
            assert!(!are_usual(&other), "{name}");
        }
    }

    #[test]
    fn usual_names_are_known_as_they_are_written() {
        for name in [CONTENT_LENGTH, CONTENT_TYPE, DATE, PROTOCOL, WAYS, INSTANCE, LOAD, KEEP_ALIVE] {
            assert_eq!(usual_name(name.as_str()), Some(name));
        }
        assert_eq!([usual_name("Byname-Load"), usual_name("byname-")], [None, None]);
    }

    #[test]
    fn keep_alive_is_read_with_its_neighbours() {
        let keep_alive = |value| AnsweringServer::of(&one("keep-alive", value)).keep_alive;
        assert_eq!(keep_alive("timeout=5, max=100"), Some(Duration::from_secs(5)));
        assert_eq!(keep_alive("max=100"), None);
    }

    #[test]
    fn only_a_byname_server_of_this_version_offers_ways() {
        let of = |version: &'static str, ways: &'static str| {
            let mut headers = one("byname-ways", ways);
            headers.insert(PROTOCOL, HeaderValue::from_static(version));
            let AnsweringServer { is_byname, takes_plain, takes_paths, offers_frames, .. } =
                AnsweringServer::of(&headers);
            assert_eq!(is_byname, super::is_byname(&headers));
            (is_byname, takes_plain, takes_paths, offers_frames)
        };
        assert_eq!(of("1", ALL_WAYS), (true, true, true, true));
        assert_eq!(of("1", "path ,json-rpc"), (true, false, true, false));
        assert_eq!(of("1", ""), (true, false, false, false));
        assert_eq!(of("2", ALL_WAYS), (false, false, false, false));
        assert_eq!(AnsweringServer::of(&one("byname-ways", ALL_WAYS)), AnsweringServer::default());
        // The first value counts.
        let mut twice = one("byname-protocol", "2");
        twice.append(PROTOCOL, VERSION);
        assert!(!is_byname(&twice) && !AnsweringServer::of(&twice).is_byname);
    }
}
