//! [`EncodedArguments`], and the map that holds those by name.

use bytes::Bytes;
use serde_core::Serialize;
use serde_json::Value;

use crate::codec::{self, Codec};
use crate::error::{Code, Error};
use crate::method::{Method, Param};

/// Encoded arguments: an array and a map, each empty where there is none of the kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedArguments {
    pub(crate) codec: Codec,
    pub(crate) positional: Bytes,
    pub(crate) keyword: Bytes,
}

impl EncodedArguments {
    pub(crate) fn none(codec: Codec) -> Self {
        Self { codec, positional: Bytes::new(), keyword: Bytes::new() }
    }

    pub(crate) fn by_position(codec: Codec, array: Bytes) -> Self {
        Self { codec, positional: array, keyword: Bytes::new() }
    }

    pub(crate) fn by_name(codec: Codec, map: Bytes) -> Self {
        Self { codec, positional: Bytes::new(), keyword: map }
    }

    /// The longer one of the array and the map.
    pub(crate) fn larger(&self) -> &Bytes {
        if self.positional.len() > self.keyword.len() { &self.positional } else { &self.keyword }
    }

    /// The same arguments in that codec.
    pub(crate) fn into_codec(self, codec: Codec) -> Result<Self, Error> {
        let to: fn(&[u8]) -> Result<Vec<u8>, String> = match (self.codec, codec) {
            (Codec::Json, Codec::MessagePack) => codec::to_message_pack,
            (Codec::MessagePack, Codec::Json) => codec::to_json,
            _ => return Ok(self),
        };
        let part = |part: Bytes| {
            if part.is_empty() {
                return Ok(part);
            }
            to(&part)
                .map(Bytes::from)
                .map_err(|why| Error::refused(Code::InvalidArgument, format!("the arguments can't be encoded: {why}")))
        };
        Ok(Self { codec, positional: part(self.positional)?, keyword: part(self.keyword)? })
    }

    /// Removes the argument of this name if its value is its default at the caller, `method`. The function that doesn't
    /// know the argument then does what it did before there was one.
    pub(crate) fn remove_default(&mut self, method: &Method, name: &str) -> bool {
        let Some(param) = method.params.iter().find(|param| param.name == name && param.default.is_some()) else {
            return false;
        };
        match without(self.codec, &self.keyword, param) {
            Some(keyword) => {
                self.keyword = keyword.into();
                true
            }
            None => false,
        }
    }

    /// Removes what `callee` doesn't know and has the default of `caller`.
    pub(crate) fn remove_unknown_defaults(&mut self, caller: &Method, callee: &Method) {
        let knows = |name: &str| callee.params.iter().chain(&callee.takes).any(|param| param.name == name);
        for param in &caller.params {
            if param.default.is_some() && !knows(&param.name) {
                self.remove_default(caller, &param.name);
            }
        }
    }
}

/// The map without the entry of `param`; `None` where it has none, or one of another value than the default.
fn without(codec: Codec, map: &[u8], param: &Param) -> Option<Vec<u8>> {
    let entries = codec::entries(codec, map)?;
    let (_, value) = entries.iter().find(|(name, _)| *name == param.name)?;
    if !is_default(codec, value, param) {
        return None;
    }
    let mut out = Vec::with_capacity(map.len());
    let mut rest = KeywordMap::new(codec, &mut out);
    for (name, value) in entries.iter().filter(|(name, _)| *name != param.name) {
        rest.add_encoded(name, value);
    }
    rest.end();
    Some(out)
}

/// Whether this is the default. The entries of a map have no order.
fn is_default(codec: Codec, value: &[u8], param: &Param) -> bool {
    let Some(default) = param.encoded_default(codec) else {
        return false;
    };
    let read = |bytes| codec::decode::<Value>(codec, bytes).ok();
    value == default || read(value).is_some_and(|value| read(default) == Some(value))
}

/// A map of arguments that is being written.
pub(super) struct KeywordMap<'o> {
    codec: Codec,
    out: &'o mut Vec<u8>,
    start: usize,
    count: usize,
}

impl<'o> KeywordMap<'o> {
    pub(super) fn new(codec: Codec, out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        match codec {
            // There is room for the fifteen that one byte can count; the sixteenth needs two more.
            Codec::MessagePack => codec::LengthKind::Map.begin(0, out),
            Codec::Json => out.push(b'{'),
        }
        Self { codec, out, start, count: 0 }
    }

    pub(super) fn add<T: Serialize>(&mut self, value: &T, param: &Param) -> Result<(), Error> {
        let before = self.out.len();
        self.put_name(&param.name);
        let at = self.out.len();
        codec::encode(self.codec, value, self.out).map_err(|why| {
            Error::refused(Code::InvalidArgument, format!("argument `{}` can't be encoded: {why}", param.name))
        })?;
        if param.optional && param.default.is_none() && self.out[at..] == *codec::nothing(self.codec) {
            self.out.truncate(before);
        } else {
            self.count += 1;
        }
        Ok(())
    }

    /// Adds what is encoded already.
    fn add_encoded(&mut self, name: &str, value: &[u8]) {
        self.put_name(name);
        self.out.extend_from_slice(value);
        self.count += 1;
    }

    /// It is an identifier and needs no escapes.
    #[inline]
    fn put_name(&mut self, name: &str) {
        match self.codec {
            Codec::MessagePack => codec::write_str(name, self.out),
            Codec::Json => {
                if self.count > 0 {
                    self.out.push(b',');
                }
                self.out.push(b'"');
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
        }
    }

    pub(super) fn end(self) {
        match self.codec {
            Codec::MessagePack => codec::set_length(self.out, self.start, codec::LengthKind::Map, 0, self.count),
            Codec::Json => self.out.push(b'}'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::ToArguments;
    use crate::fuzzing::three;

    #[test]
    fn only_a_default_is_removed() {
        let method = three();
        for codec in [Codec::Json, Codec::MessagePack] {
            let encoded = |c: &[f64]| {
                let mut keyword = Vec::new();
                (7, Some(1), c).to_keyword(&method.params, codec, &mut keyword).unwrap();
                EncodedArguments::by_name(codec, keyword.into())
            };
            let mut other = encoded(&[1.5, 2.0]);
            for name in ["a", "b", "c", "d"] {
                assert!(!other.remove_default(&method, name), "{name}");
            }
            assert_eq!(other, encoded(&[1.5, 2.0]));

            let mut default = encoded(&[1.5]);
            assert!(default.remove_default(&method, "c"));
            assert!(!default.remove_default(&method, "c"), "it is gone");
            let left = default.into_codec(Codec::Json).unwrap();
            assert_eq!(left.keyword, br#"{"a":7,"b":1}"#[..]);
        }
    }

    #[test]
    fn the_entries_of_a_map_have_no_order() {
        let param = Param {
            name: "a".into(),
            ty: "".into(),
            optional: false,
            default: Some(r#"{"x":1,"y":2}"#.into()),
            default_packed: None,
            schema: |_| byname_schema::TypeSchema::unknown(),
        };
        assert!(is_default(Codec::Json, br#"{"y":2,"x":1}"#, &param));
        assert!(!is_default(Codec::Json, br#"{"y":2}"#, &param));
    }
}
