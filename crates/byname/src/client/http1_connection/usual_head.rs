//! The head that nearly all answers of a connection have: [`UsualHead`].

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::headers::{self, AnsweringServer, JSON, LOAD};

/// The headers of a success of a byname server, without headers of the function. The next one has the same names and nearly the same
/// values, so they are compared and copied, and not parsed anew.
#[derive(Debug)]
pub(super) struct UsualHead {
    headers: HeaderMap,
    server: AnsweringServer,
}

/// The values that differ from one answer to the next.
static CHANGING: [HeaderName; 3] = [CONTENT_LENGTH, DATE, LOAD];

impl UsualHead {
    /// `None` if another head would say more: where the body ends, that the connection ends, or a header of the function.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let is_usual = headers.keys_len() == headers.len()
            && headers.keys().all(|name| headers::usual_name(name.as_str()).is_some())
            && headers.get(CONTENT_LENGTH).is_some_and(|value| length(value.as_bytes()).is_some())
            && headers.get(CONTENT_TYPE).is_some_and(|value| value == JSON);
        let server = is_usual.then(|| AnsweringServer::of(headers))?;
        server.is_byname.then(|| Self { headers: headers.clone(), server })
    }

    /// The headers of an answer with these fields, and the length of its body. `None` if they differ otherwise than from one
    /// answer to the next.
    pub(super) fn with(&mut self, fields: &[httparse::Header<'_>]) -> Option<(HeaderMap, u64)> {
        if fields.len() != self.headers.len() {
            return None;
        }
        let mut body = None;
        for (field, (name, value)) in fields.iter().zip(&mut self.headers) {
            if name.as_str() != field.name {
                return None;
            }
            if *name == CONTENT_LENGTH {
                body = Some(length(field.value)?);
            }
            if value.as_bytes() != field.value {
                if !CHANGING.contains(name) {
                    return None;
                }
                *value = HeaderValue::from_bytes(field.value).ok()?;
            }
        }
        Some((self.headers.clone(), body?))
    }

    /// The server that sends it.
    pub(super) fn server(&self) -> AnsweringServer {
        self.server
    }
}

/// The length of a body that is one number.
fn length(text: &[u8]) -> Option<u64> {
    let digit = |length: u64, byte: &u8| match byte {
        b'0'..=b'9' => length.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    };
    (!text.is_empty()).then(|| text.iter().try_fold(0, digit)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Field = (&'static str, &'static str);

    const FIELDS: [Field; 5] = [
        ("content-type", JSON),
        ("byname-protocol", "1"),
        ("byname-ways", "path"),
        ("byname-load", "3, 0"),
        ("content-length", "12"),
    ];

    fn usual(fields: &[Field]) -> Option<UsualHead> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        UsualHead::of(&headers)
    }

    fn with(head: &mut UsualHead, fields: &[Field]) -> Option<(HeaderMap, u64)> {
        let field = |(name, value): &Field| httparse::Header { name, value: value.as_bytes() };
        head.with(&fields.iter().map(field).collect::<Vec<_>>())
    }

    #[test]
    fn only_the_length_and_the_load_and_the_date_may_differ() {
        let mut head = usual(&FIELDS).unwrap();
        for (at, value, body) in [(3, "4, 1", 12), (4, "7", 7), (4, "12", 12)] {
            let mut fields = FIELDS;
            fields[at].1 = value;
            let (headers, length) = with(&mut head, &fields).unwrap();
            assert_eq!((headers[fields[at].0].to_str().unwrap(), length), (value, body));
        }
        for (at, other) in [
            (0, ("content-type", "text/plain")),
            (0, ("Content-Type", JSON)),
            (2, ("byname-ways", "plain")),
            (3, ("byname-load", "\u{1}")),
            (4, ("content-length", "+7")),
            (4, ("content-length", "")),
            (4, ("connection", "12")),
        ] {
            let mut fields = FIELDS;
            fields[at] = other;
            assert!(with(&mut head, &fields).is_none(), "{other:?}");
        }
        assert!(with(&mut head, &FIELDS[..4]).is_none());
        assert_eq!(with(&mut head, &FIELDS).unwrap().1, 12, "it is as before");
    }

    #[test]
    fn a_head_that_says_more_is_not_usual() {
        for more in [("x-of-function", "1"), ("connection", "close"), ("transfer-encoding", "chunked"), FIELDS[4]] {
            assert!(usual(&[&FIELDS[..], &[more]].concat()).is_none(), "{more:?}");
        }
        assert!(usual(&FIELDS[..4]).is_none(), "without a length");
        assert!(usual(&[&FIELDS[..1], &FIELDS[3..]].concat()).is_none(), "of another server");
    }
}
