//! The head that nearly all answers of a connection have: [`UsualHead`].

use bytes::{Buf, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::headers::{AnsweringServer, JSON, LOAD, usual_name, whole_number};

/// The head of a success of a byname server, without headers of the function. The next one has the same text but for a few values, so it
/// is compared, and its headers are copied. That takes fewer instructions than to parse it.
#[derive(Debug)]
pub(super) struct UsualHead {
    /// The text before each value that changes, and after the last one. The first begins with the status.
    between: Vec<Box<[u8]>>,
    /// In the order of the text.
    headers: HeaderMap,
    /// Which headers have values that change.
    changing: Vec<bool>,
    server: AnsweringServer,
}

/// The values that differ from one answer to the next.
static CHANGING: [HeaderName; 3] = [CONTENT_LENGTH, DATE, LOAD];

/// A longer value is parsed.
const LONGEST: usize = 64;

impl UsualHead {
    /// For the next answers after one with this head, which was read as `parsed`, and of which the headers were made. `None` if the head
    /// says more: where the body ends, that the connection ends, or a header of the function.
    pub(super) fn of(head: &[u8], parsed: &httparse::Response<'_, '_>, headers: &HeaderMap) -> Option<Self> {
        let is_usual = (parsed.version, parsed.code) == (Some(1), Some(200))
            && headers.keys_len() == parsed.headers.len()
            && headers.keys().all(|name| usual_name(name.as_str()).is_some())
            && headers.get(CONTENT_LENGTH).is_some_and(|value| whole_number(value.as_bytes()).is_some())
            && headers.get(CONTENT_TYPE).is_some_and(|value| value == JSON);
        let server = is_usual.then(|| AnsweringServer::of(headers)).filter(|server| server.is_byname)?;
        let changing: Vec<_> = headers.keys().map(|name| CHANGING.contains(name)).collect();
        let (mut between, mut at) = (Vec::new(), 0);
        for (field, _) in parsed.headers.iter().zip(&changing).filter(|(_, changes)| **changes) {
            let value = field.value.as_ptr().addr().checked_sub(head.as_ptr().addr())?;
            between.push(head.get(at..value)?.into());
            at = value + field.value.len();
        }
        between.push(head.get(at..)?.into());
        Some(Self { between, headers: headers.clone(), changing, server })
    }

    /// Takes such a head off the front of what was read: the headers, and the length of the body. `None` if it is another one or is not
    /// complete.
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Option<(HeaderMap, u64)> {
        let (mut rest, mut body) = (&read[..], None);
        let (last, before) = self.between.split_last()?;
        let values = self.headers.iter_mut().zip(&self.changing).filter(|(_, changes)| **changes);
        for (before, ((name, value), _)) in before.iter().zip(values) {
            rest = rest.strip_prefix(&**before)?;
            let length = rest.iter().take(LONGEST).position(|byte| *byte == b'\r')?;
            let text = &rest[..length];
            if *name == CONTENT_LENGTH {
                body = Some(whole_number(text)?);
            }
            if value.as_bytes() != text {
                // A parser removes white space around a value, so a value with white space is left to the parser.
                *value = HeaderValue::from_bytes(text).ok().filter(|_| text.trim_ascii() == text)?;
            }
            rest = &rest[length..];
        }
        let rest = rest.strip_prefix(&**last)?.len();
        read.advance(read.len() - rest);
        Some((self.headers.clone(), body?))
    }

    /// The server that sends it.
    pub(super) fn server(&self) -> AnsweringServer {
        self.server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nbyname-protocol: 1\r\nbyname-ways: path\r\n\
                        byname-load: 3, 0\r\ncontent-length: 12\r\ndate: Sat, 28 Nov 2026 23:00:00 GMT\r\n\r\n";

    fn usual(head: &str) -> Option<UsualHead> {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        assert!(response.parse(head.as_bytes()).unwrap().is_complete());
        let mut headers = HeaderMap::new();
        for field in response.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(field.value).unwrap());
        }
        UsualHead::of(head.as_bytes(), &response, &headers)
    }

    /// A head, with a body behind it.
    fn taken(usual: &mut UsualHead, head: &str) -> Option<(HeaderMap, u64)> {
        let mut read = BytesMut::from(head);
        read.extend_from_slice(b"[1]");
        let length = read.len();
        let taken = usual.take(&mut read);
        assert_eq!(read.len(), if taken.is_some() { 3 } else { length }, "{head}");
        taken
    }

    #[test]
    fn only_the_length_and_the_load_and_the_date_may_differ() {
        let mut head = usual(HEAD).unwrap();
        for (name, old, new, body) in [
            ("byname-load", "3, 0", "114, 10", 12),
            ("content-length", "12", "7", 7),
            ("date", "23:00:00", "23:00:01", 12),
            ("date", "2026", "2026", 12),
        ] {
            let (headers, length) = taken(&mut head, &HEAD.replace(old, new)).unwrap();
            assert!(headers[name].to_str().unwrap().contains(new), "{headers:?}");
            assert_eq!((length, headers.len()), (body, 6));
        }
        for (old, new) in [
            ("1.1", "1.0"),
            ("200 OK", "404 Not Found"),
            ("application/json", "text/plain"),
            ("content-type", "Content-Type"),
            (": path", ": path, plain"),
            (": 12", ": +7"),
            (": 12", ":  7"),
            (": 12", ": "),
            (": 12", ": 99999999999999999999"),
            ("3, 0", "3, 0 "),
            ("3, 0", "3,\u{1}0"),
            ("3, 0", "3, 0\r\nconnection: close"),
            ("GMT\r\n", "GMT\r\nconnection: close\r\n"),
            ("GMT\r\n\r\n", "GMT\r\n"),
        ] {
            assert!(taken(&mut head, &HEAD.replace(old, new)).is_none(), "{old} {new}");
        }
        assert!((0..HEAD.len()).all(|end| head.take(&mut BytesMut::from(&HEAD[..end])).is_none()), "not complete");
        assert_eq!(taken(&mut head, HEAD).unwrap().1, 12, "it is as before");
    }

    #[test]
    fn a_head_that_says_more_is_not_usual() {
        for (old, new) in [
            ("date", "x-of-function: 1\r\ndate"),
            ("date", "connection: close\r\ndate"),
            ("date", "transfer-encoding: chunked\r\ndate"),
            ("date", "content-length: 12\r\ndate"),
            ("content-length: 12\r\n", ""),
            ("byname-protocol: 1\r\n", ""),
            ("200 OK", "500 Internal Server Error"),
            ("1.1", "1.0"),
        ] {
            assert!(usual(&HEAD.replace(old, new)).is_none(), "{old} {new}");
        }
    }
}
