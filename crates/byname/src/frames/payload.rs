//! One frame: a header of sixteen bytes and its payload.

pub(crate) mod call;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{LONGEST, Violation};
use crate::codec::json;

/// What is agreed on in the handshake.
pub(crate) const SUBPROTOCOL: &str = "byname.v1";

/// The version in HELLO.
const VERSION: u64 = 1;

/// What is wrong where credit has no number.
pub(crate) const NO_CREDIT: &str = "credit without a number";

/// The size of a header.
pub(crate) const HEADER: usize = 16;

/// What a frame is. Others are read over.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const NAME: u8 = 2;
    pub(crate) const CALL: u8 = 3;
    pub(crate) const REPLY: u8 = 4;
    pub(crate) const ERROR: u8 = 5;
    pub(crate) const CANCEL: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const ITEM: u8 = 8;
    pub(crate) const END: u8 = 9;
    pub(crate) const CREDIT: u8 = 10;
}

pub(crate) mod flag {
    /// Another frame of the same kind and id goes on with this message.
    pub(crate) const MORE: u8 = 1;
    /// Metadata is before the payload.
    pub(crate) const METADATA: u8 = 2;
    /// CALL: positional arguments come before those by name.
    pub(crate) const MIXED: u8 = 4;
    /// CALL: a stream is taken for an answer, and how much of one at first is behind the time-out.
    pub(crate) const STREAM: u8 = 8;
    /// CALL: the caller streams items in.
    pub(crate) const ITEMS: u8 = 16;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Of a name, in NAME and CALL.
    pub(crate) number: u16,
    /// Of a call; 0 in frames that are about the connection.
    pub(crate) id: u64,
}

impl FrameHeader {
    pub(crate) fn new(kind: u8, flags: u8, number: u16, id: u64) -> Self {
        Self { length: 0, kind, flags, number, id }
    }

    pub(crate) fn write(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.length.to_be_bytes());
        (bytes[4], bytes[5]) = (self.kind, self.flags);
        bytes[6..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..].copy_from_slice(&self.id.to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8; HEADER]) -> Self {
        let [l0, l1, l2, l3, kind, flags, n0, n1, i0, i1, i2, i3, i4, i5, i6, i7] = *bytes;
        Self {
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            kind,
            flags,
            number: u16::from_be_bytes([n0, n1]),
            id: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Takes the first frame off `bytes`: its header and payload. Frames are whole within a message.
pub(crate) fn next<'b>(bytes: &mut &'b [u8]) -> Result<Option<(FrameHeader, &'b [u8])>, Violation> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return match bytes.is_empty() {
            true => Ok(None),
            false => Err(Violation("a frame's header is cut off")),
        };
    };
    let header = FrameHeader::read(header);
    if header.length as usize > LONGEST {
        return Err(Violation("a frame is longer than 1 MiB; longer messages come in pieces"));
    }
    let Some((payload, rest)) = rest.split_at_checked(header.length as usize) else {
        return Err(Violation("a frame is cut off by the end of its WebSocket message"));
    };
    *bytes = rest;
    Ok(Some((header, payload)))
}

/// Takes four bytes off the front, a time-out or how much may be sent, whose lack is `missing`.
pub(crate) fn number(bytes: &mut &[u8], missing: &'static str) -> Result<u32, Violation> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(Violation(missing))?;
    *bytes = rest;
    Ok(u32::from_be_bytes(*number))
}

/// Takes a length and as many bytes off the front.
pub(crate) fn part<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], Violation> {
    let cut = Violation("a part of a frame is cut off");
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(cut.clone())?;
    let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(cut)?;
    *bytes = rest;
    Ok(part)
}

/// Puts a part with its length before it.
pub(crate) fn put_part(part: &[u8], out: &mut Vec<u8>) {
    // No message is anywhere near 4 GiB.
    out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(part);
}

/// Metadata as a JSON object: a text for each header, or an array of texts where it is there more than once. What is no
/// UTF-8 can't be a text and stays behind.
pub(crate) fn write_metadata(metadata: &HeaderMap, out: &mut Vec<u8>) {
    let mut object = Map::new();
    for name in metadata.keys() {
        let mut values: Vec<Value> = metadata
            .get_all(name)
            .iter()
            .filter_map(|value| match str::from_utf8(value.as_bytes()) {
                Ok(value) => Some(Value::String(value.to_owned())),
                Err(_) => {
                    tracing::warn!("the value of the header `{name}` is no UTF-8, which frames can't carry: left out");
                    None
                }
            })
            .collect();
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        object.insert(name.as_str().to_owned(), value);
    }
    put_part(&serde_json::to_vec(&object).unwrap_or_default(), out);
}

/// Takes metadata off the front.
pub(crate) fn read_metadata(bytes: &mut &[u8]) -> Result<HeaderMap, Violation> {
    let wrong = || Violation("metadata is no JSON object of header names to texts");
    let object: Map<String, Value> = json::read_loosely(part(bytes)?).map_err(|_| wrong())?;
    let mut metadata = HeaderMap::new();
    for (name, values) in object {
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        let values = match values {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let Value::String(value) = value else {
                return Err(wrong());
            };
            let value = HeaderValue::try_from(value).map_err(|_| wrong())?;
            metadata.try_append(&name, value).map_err(|_| Violation("metadata has more names than there may be"))?;
        }
    }
    Ok(metadata)
}

/// What each side says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The largest message that the sender of this takes, all its pieces together.
    pub(crate) message: usize,
    /// How many bytes of messages in pieces it keeps that are not whole yet.
    pub(crate) window: usize,
    /// Server: how many calls may be at work on this connection.
    pub(crate) calls: usize,
    /// Server: those that it takes. Client: the one that values are in from now on.
    pub(crate) codecs: Vec<String>,
}

impl Hello {
    pub(crate) fn write(&self) -> Vec<u8> {
        let hello = serde_json::json!({
            "version": VERSION,
            "message": self.message,
            "window": self.window,
            "calls": self.calls,
            "codecs": self.codecs,
        });
        hello.to_string().into_bytes()
    }

    /// Members that are missing are taken for the least that a peer must bear.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, Violation> {
        let wrong = Violation("HELLO is no JSON object with a version");
        let hello: Map<String, Value> = json::read_loosely(payload).map_err(|_| wrong.clone())?;
        let version = hello.get("version").and_then(Value::as_u64).ok_or(wrong)?;
        if version != VERSION {
            return Err(Violation("HELLO is of another version than 1"));
        }
        let number = |name, least: usize| {
            let said = hello.get(name).and_then(Value::as_u64).and_then(|said| usize::try_from(said).ok());
            said.unwrap_or(least).max(1)
        };
        let codecs = hello.get("codecs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(Self {
            message: number("message", LONGEST),
            window: number("window", LONGEST),
            calls: number("calls", 1),
            codecs: codecs.iter().filter_map(|codec| codec.as_str().map(str::to_owned)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_went() {
        let header = FrameHeader { length: 3, ..FrameHeader::new(kind::CALL, flag::MIXED, 7, 1 << 40) };
        let bytes = [&header.write()[..], b"abc", &FrameHeader::new(kind::CANCEL, 0, 0, 2).write()].concat();
        let mut rest = bytes.as_slice();
        assert_eq!(next(&mut rest), Ok(Some((header, &b"abc"[..]))));
        assert_eq!(next(&mut rest), Ok(Some((FrameHeader::new(kind::CANCEL, 0, 0, 2), &b""[..]))));
        assert_eq!(next(&mut rest), Ok(None));
        for cut in 1..HEADER + 3 {
            assert!(next(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        let long = FrameHeader { length: LONGEST as u32 + 1, ..header };
        assert!(next(&mut &long.write()[..]).is_err());
    }

    #[test]
    fn metadata_comes_back_as_it_went() {
        let mut metadata = HeaderMap::new();
        metadata.append("x-one", HeaderValue::from_static("1"));
        metadata.append("x-two", HeaderValue::from_static("a"));
        metadata.append("x-two", HeaderValue::from_static("b"));
        metadata.append("x-name", HeaderValue::from_bytes("Zoë".as_bytes()).unwrap());
        let mut more = metadata.clone();
        more.append("x-two", HeaderValue::from_bytes(b"\xff").unwrap());
        let mut bytes = Vec::new();
        write_metadata(&more, &mut bytes);
        bytes.extend_from_slice(b"rest");
        let mut rest = bytes.as_slice();
        assert_eq!(read_metadata(&mut rest), Ok(metadata));
        assert_eq!(rest, b"rest");
        let crowd: String = (0..40_000).map(|at| format!("\"x{at}\":\"\",")).collect();
        let crowd = format!("{{{}}}", crowd.trim_end_matches(','));
        assert!(crowd.len() < LONGEST);
        for wrong in [crowd.as_bytes(), br#"[1]"#, br#"{"a b":"c"}"#, br#"{"a":1}"#, br#"{"a":"b\n"}"#, b""] {
            let mut bytes = Vec::new();
            put_part(wrong, &mut bytes);
            assert!(read_metadata(&mut bytes.as_slice()).is_err());
        }
        assert!(read_metadata(&mut &b"\0\0\0\x09{}"[..]).is_err());
    }

    #[test]
    fn hello_is_read_as_far_as_it_says() {
        let hello = Hello { message: 9, window: 8, calls: 7, codecs: vec!["json".into()] };
        assert_eq!(Hello::read(&hello.write()), Ok(hello));
        let least = Hello::read(br#"{"version":1,"more":[]}"#).unwrap();
        assert_eq!((least.message, least.window, least.calls, least.codecs.len()), (LONGEST, LONGEST, 1, 0));
        assert!(Hello::read(br#"{"version":2}"#).is_err());
        assert!(Hello::read(b"[]").is_err());
    }
}
