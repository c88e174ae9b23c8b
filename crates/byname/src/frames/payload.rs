//! What each kind of frame carries. Every payload is written and read here, for both sides.
//!
//! This file has what concerns the whole connection (HELLO, NAME, SHAPE, GOAWAY), CANCEL, and the metadata and parts that
//! others are made of. [`call`] has CALL, [`reply`] has REPLY and ERROR, [`stream`] has ITEM, END and CREDIT,
//! [`load`] has LOAD.

pub(crate) mod call;
pub(crate) mod load;
pub(crate) mod reply;
pub(crate) mod stream;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::header::{FrameHeader, flag, kind};
use super::{LONGEST, Violation, WriteQueue};
use crate::codec::json;
use crate::method::Fingerprint;
use crate::untrusted_text::excerpt;
use crate::wire::headers::KeySharing;
use crate::wire::instance_and_load::InstanceId;

/// The version in HELLO.
const VERSION: u64 = 1;

/// The longest text of a GOAWAY in a message.
const WORDS: usize = 128;

/// The most names that one connection may know by number.
pub(crate) const NAMES: u16 = 4096;

/// HELLO: the first frame of each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The largest message that its sender accepts, all pieces together.
    pub(crate) message: usize,
    /// How many bytes of unfinished messages its sender keeps.
    pub(crate) window: usize,
    /// Server: how many calls may be in flight on this connection.
    pub(crate) calls: usize,
    /// Server: the codecs that it accepts. Client: the one that all values on this connection are in.
    pub(crate) codecs: Vec<String>,
    /// Server: which one it is.
    pub(crate) instance: Option<InstanceId>,
    /// Server: which servers know the replies of the calls with a key that it has run. `None` if it knows no keys.
    pub(crate) keys: Option<KeySharing>,
    /// Whether its sender sends SHAPE.
    pub(crate) shapes: bool,
    /// Whether its sender reads several items in one ITEM.
    pub(crate) batches: bool,
}

impl Hello {
    pub(crate) fn put(&self, queue: &mut WriteQueue) {
        queue.put(FrameHeader::new(kind::HELLO, 0, 0, 0), |payload| payload.extend_from_slice(&self.write()));
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut hello = serde_json::json!({
            "version": VERSION,
            "message": self.message,
            "window": self.window,
            "calls": self.calls,
            "codecs": self.codecs,
        });
        if let Some(instance) = self.instance {
            hello["instance"] = instance.to_string().into();
        }
        if let Some(keys) = self.keys {
            hello["keys"] = keys.as_str().into();
        }
        if self.shapes {
            hello["shapes"] = true.into();
        }
        if self.batches {
            hello["batches"] = true.into();
        }
        hello.to_string().into_bytes()
    }

    /// A member that is missing has the smallest value that a peer must support.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, Violation> {
        let wrong = Violation("HELLO is not a JSON object with a version");
        let hello: Map<String, Value> = serde_json::from_slice(payload).map_err(|_| wrong.clone())?;
        let version = hello.get("version").and_then(Value::as_u64).ok_or(wrong)?;
        if version != VERSION {
            return Err(Violation("HELLO has a version other than 1"));
        }
        let is_true = |name| hello.get(name).and_then(Value::as_bool).unwrap_or_default();
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
            instance: hello.get("instance").and_then(Value::as_str).and_then(InstanceId::read),
            keys: hello.get("keys").and_then(Value::as_str).and_then(|keys| KeySharing::read(keys.as_bytes())),
            shapes: is_true("shapes"),
            batches: is_true("batches"),
        })
    }
}

/// NAME: `number` stands for `name` in later calls.
pub(crate) fn put_name(number: u16, name: &str, queue: &mut WriteQueue) {
    queue.put(FrameHeader::new(kind::NAME, 0, number, 0), |payload| payload.extend_from_slice(name.as_bytes()));
}

pub(crate) fn read_name<'p>(header: &FrameHeader, payload: &'p [u8]) -> Result<(u16, &'p str), Violation> {
    if header.number >= NAMES {
        return Err(Violation("the number of a name is 4096 or more"));
    }
    let name = str::from_utf8(payload).map_err(|_| Violation("a name is not UTF-8"))?;
    Ok((header.number, name))
}

/// SHAPE: the fingerprint of the function with this number.
pub(crate) fn put_shape(number: u16, fingerprint: Fingerprint, queue: &mut WriteQueue) {
    queue.put_small(FrameHeader::new(kind::SHAPE, 0, number, 0), &fingerprint.0);
}

pub(crate) fn read_shape(payload: &[u8]) -> Result<Fingerprint, Violation> {
    payload.try_into().map(Fingerprint).map_err(|_| Violation("the fingerprint in a SHAPE has not 16 bytes"))
}

/// GOAWAY: calls with an id above `last` are not run. `why` is empty if the server stops.
pub(crate) fn put_go_away(last: u64, why: &str, queue: &mut WriteQueue) {
    queue.put_small(FrameHeader::new(kind::GOAWAY, 0, 0, last), why.as_bytes());
}

/// The id of the last call that is answered, and why the others are not.
pub(crate) fn read_go_away(header: &FrameHeader, payload: &[u8]) -> (u64, String) {
    (header.id, no_further_calls(&String::from_utf8_lossy(payload)))
}

/// What both sides say of a call after GOAWAY with these words.
pub(crate) fn no_further_calls(why: &str) -> String {
    match why {
        "" => "the server is stopping and accepts no further calls on this connection".to_owned(),
        why => format!("the server accepts no further calls on this connection: {}", excerpt(why, WORDS)),
    }
}

/// CANCEL, which has no payload. From the client: the caller no longer waits. From the server: it accepts no more
/// items.
pub(crate) fn put_cancel(id: u64, queue: &mut WriteQueue) {
    queue.put_small(FrameHeader::new(kind::CANCEL, 0, 0, id), b"");
}

/// Metadata as a part: a JSON object with a string for each header, or an array of strings if a header is repeated. A
/// value that is not UTF-8 is left out.
pub(crate) fn write_metadata(metadata: &HeaderMap, out: &mut Vec<u8>) {
    let mut object = Map::new();
    for name in metadata.keys() {
        let mut values: Vec<Value> = metadata
            .get_all(name)
            .iter()
            .filter_map(|value| match str::from_utf8(value.as_bytes()) {
                Ok(value) => Some(Value::String(value.to_owned())),
                Err(_) => {
                    tracing::warn!("the value of the header `{name}` is not UTF-8, which frames can't carry: left out");
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
    let wrong = || Violation("metadata is not a JSON object from header names to strings");
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
            metadata.try_append(&name, value).map_err(|_| Violation("metadata has too many names"))?;
        }
    }
    Ok(metadata)
}

/// Writes the metadata, if there is any. Returns the flags that say so.
#[inline]
fn write_any_metadata(metadata: &HeaderMap, out: &mut Vec<u8>) -> u8 {
    if metadata.is_empty() {
        return 0;
    }
    write_metadata(metadata, out);
    flag::METADATA
}

/// Takes metadata off the front if the header says that there is some.
fn read_any_metadata(header: &FrameHeader, bytes: &mut &[u8]) -> Result<HeaderMap, Violation> {
    if header.has(flag::METADATA) { read_metadata(bytes) } else { Ok(HeaderMap::new()) }
}

/// Takes a number of four bytes off the front. `missing` is the violation if there is none.
fn number(bytes: &mut &[u8], missing: &'static str) -> Result<u32, Violation> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(Violation(missing))?;
    *bytes = rest;
    Ok(u32::from_be_bytes(*number))
}

/// Writes a part: its length, then its bytes.
pub(crate) fn put_part(part: &[u8], out: &mut Vec<u8>) {
    // No message is nearly as long as 4 GiB.
    out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(part);
}

/// Takes a part off the front.
pub(crate) fn part<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], Violation> {
    let cut = Violation("a part of a frame is cut off");
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(cut.clone())?;
    let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(cut)?;
    *bytes = rest;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frames::fuzzing::queued;

    /// Any metadata that can be sent.
    pub(super) fn metadata() -> impl Strategy<Value = HeaderMap> {
        let header = ("x-[a-z0-9-]{0,6}", "[ -~ë]{0,12}");
        proptest::collection::vec(header, 0..4).prop_map(|headers| {
            let header = |(name, value): (String, String)| {
                (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
            };
            let mut metadata = HeaderMap::new();
            for (name, value) in headers.into_iter().map(header) {
                metadata.append(name, value);
            }
            metadata
        })
    }

    proptest! {
        #[test]
        fn hello_is_read_as_it_was_written(
            message in 1..usize::MAX,
            window in 1..usize::MAX,
            calls in 1..usize::MAX,
            codecs in proptest::collection::vec(".{0,9}", 0..3),
            says_instance: bool,
            keys in proptest::sample::select(vec![None, Some(KeySharing::Own), Some(KeySharing::Shared)]),
            shapes: bool,
            batches: bool,
        ) {
            let instance = says_instance.then(InstanceId::random);
            let hello = Hello { message, window, calls, codecs, instance, keys, shapes, batches };
            let mut queue = WriteQueue::new();
            hello.put(&mut queue);
            let [(header, payload)] = &queued(&mut queue)[..] else { panic!("one frame") };
            prop_assert_eq!((header.kind, header.id), (kind::HELLO, 0));
            prop_assert_eq!(Hello::read(payload), Ok(hello));
        }

        #[test]
        fn names_and_ids_are_read_as_they_were_written(number in 0..NAMES, name in ".{0,20}", id: u64) {
            let mut queue = WriteQueue::new();
            put_name(number, &name, &mut queue);
            put_go_away(id, "tired", &mut queue);
            put_cancel(id, &mut queue);
            let [(named, payload), (last, why), (cancelled, _)] = &queued(&mut queue)[..] else { panic!("three frames") };
            prop_assert_eq!((named.kind, read_name(named, payload)), (kind::NAME, Ok((number, name.as_str()))));
            let expected = "the server accepts no further calls on this connection: tired".to_owned();
            prop_assert_eq!((last.kind, read_go_away(last, why)), (kind::GOAWAY, (id, expected)));
            prop_assert_eq!((cancelled.kind, cancelled.id), (kind::CANCEL, id));
        }

        #[test]
        fn metadata_is_read_as_it_was_written(metadata in metadata(), rest: Vec<u8>) {
            let mut bytes = Vec::new();
            write_metadata(&metadata, &mut bytes);
            bytes.extend_from_slice(&rest);
            let mut left = bytes.as_slice();
            prop_assert_eq!(read_metadata(&mut left), Ok(metadata));
            prop_assert_eq!(left, rest);
        }
    }

    #[test]
    fn a_name_is_text_and_has_a_number_below_4096() {
        let header = FrameHeader::new(kind::NAME, 0, NAMES, 0);
        assert!(read_name(&header, b"add").is_err());
        assert!(read_name(&FrameHeader { number: 0, ..header }, b"\xff").is_err());
    }

    #[test]
    fn metadata_that_is_not_text_is_left_out_or_rejected() {
        let mut metadata = HeaderMap::new();
        metadata.append("x-two", HeaderValue::from_static("a"));
        let mut more = metadata.clone();
        more.append("x-two", HeaderValue::from_bytes(b"\xff").unwrap());
        let mut bytes = Vec::new();
        write_metadata(&more, &mut bytes);
        assert_eq!(read_metadata(&mut bytes.as_slice()), Ok(metadata));
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
    fn missing_members_of_hello_have_the_smallest_value() {
        let least = Hello::read(br#"{"version":1,"more":[]}"#).unwrap();
        assert_eq!((least.message, least.window, least.calls, least.codecs.len()), (LONGEST, LONGEST, 1, 0));
        assert_eq!(least.instance, None);
        assert_eq!(Hello::read(br#"{"version":1,"instance":"anything"}"#).unwrap().instance, None);
        assert!(Hello::read(br#"{"version":2}"#).is_err());
        assert!(Hello::read(b"[]").is_err());
    }
}
