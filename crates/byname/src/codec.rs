//! Values to bytes and back: [`Codec`]. Both codecs accept and reject the same values, with the same messages.

mod bytes;
mod canonical_hash;
mod compound_traits;
mod decode_error_path;
pub(crate) mod encoded_parts;
#[cfg(test)]
mod equivalence_tests;
mod finite_floats;
pub(crate) mod json;
mod json_exact_integers;
mod json_scan;
pub(crate) mod json_value_end;
mod json_writer;
mod message_pack;
mod reserved_keys;
mod serde_json_internals;
mod transcode;
mod type_detection;

use std::borrow::Cow;
use std::cell::Cell;
use std::marker::PhantomData;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

pub use self::bytes::Bytes;
pub(crate) use self::canonical_hash::canonical_hash;
pub(crate) use self::decode_error_path::ErrorPath;
pub(crate) use self::encoded_parts::EncodedParts;
use self::finite_floats::FiniteFloats;
pub(crate) use self::finite_floats::ResultShape;
pub(crate) use self::message_pack::{LengthKind, MessagePackReader, set_length, write_str};
use crate::untrusted_text::beginning;

/// The encoding of arguments and results.
///
/// The codec does not change the values: both carry the values that JSON can hold, and the same values are errors. HTTP
/// always carries JSON, so that every HTTP client can read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// [MessagePack](https://msgpack.org), shorter and faster: structs are maps by field name, as in JSON.
    #[default]
    MessagePack,
    /// JSON, which people can read on the wire.
    Json,
}

impl Codec {
    /// The name by which the two sides of a connection agree on a codec.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Codec::MessagePack => "msgpack",
            Codec::Json => "json",
        }
    }

    /// The codec of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Codec::MessagePack, Codec::Json].into_iter().find(|codec| codec.name() == name)
    }
}

/// A part of the message about a size limit for a value in this codec: a value that is too long as JSON may fit as
/// MessagePack.
pub(crate) fn shorter(codec: Codec) -> &'static str {
    match codec {
        Codec::MessagePack => "",
        Codec::Json => {
            "; a `Vec<u8>` is up to four times as long in JSON as in MessagePack: use `byname::Bytes` for bytes"
        }
    }
}

/// Appends `value`. NaN and infinities are an error, where serde_json alone would write `null`.
#[inline]
pub(crate) fn encode<T: Serialize + ?Sized>(codec: Codec, value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    match codec {
        Codec::MessagePack => message_pack::write(value, out),
        Codec::Json => json::write(value, out),
    }
    .map_err(why_unwritable)
}

#[cold]
fn why_unwritable(error: serde_json::Error) -> String {
    error.to_string()
}

/// As [`encode`], for a function's result. Of a `Result`, under any name, only the inside is written, and the answer
/// says which side it was. So an error is never sent as `{"ret": {"Err": …}}`.
pub(crate) fn encode_returned<T: Serialize>(codec: Codec, value: &T, out: &mut Vec<u8>) -> Result<ResultShape, String> {
    let shape = Cell::new(ResultShape::Value);
    match codec {
        Codec::MessagePack => {
            value.serialize(FiniteFloats::returned::<T>(message_pack::MessagePackWriter::new(out), &shape))
        }
        Codec::Json => value.serialize(FiniteFloats::returned::<T>(json_writer::JsonWriter::new(out), &shape)),
    }
    .map_err(|error| error.to_string())?;
    Ok(shape.get())
}

/// Reads one value that fills `bytes` completely. An integer is never rounded, unless the type asks for a float.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<T, String> {
    match codec {
        Codec::MessagePack => {
            let read = MessagePackReader::new(bytes, message_pack::DEEPEST).whole(PhantomData::<T>);
            read.map_err(|error| why_unreadable_message_pack::<T>(bytes, &error))
        }
        Codec::Json => json::read(bytes, &mut serde_json::Deserializer::from_slice(bytes), PhantomData::<T>)
            .map_err(|error| why_unreadable::<T>(bytes, error)),
    }
}

/// As [`decode`]. Large [`Bytes`] in the value share the memory of `message` if they are at least half of it.
pub(crate) fn decode_sharing<T: DeserializeOwned>(codec: Codec, message: &::bytes::Bytes) -> Result<T, String> {
    encoded_parts::sharing(message, || decode(codec, message))
}

/// The message about MessagePack that is not a `T`: that of JSON, which is better known.
#[cold]
fn why_unreadable_message_pack<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> String {
    match to_json(bytes).map(|text| decode::<T>(Codec::Json, &text)) {
        Ok(Err(why)) => why,
        _ => without_position(&error.to_string()).into_owned(),
    }
}

/// The message about JSON that is not a `T`: that it is not JSON, or which part of it is wrong.
#[cold]
fn why_unreadable<T: DeserializeOwned>(text: &[u8], error: serde_json::Error) -> String {
    if let Some(why) = json::malformed(text) {
        return why;
    }
    let path = ErrorPath::default();
    let json = &mut serde_json::Deserializer::from_slice(text);
    let error = json::read_with_path(text, json, PhantomData::<T>, &path).err().unwrap_or(error);
    let why = error.to_string();
    match path.to_string() {
        path if path.is_empty() => without_position(&why).into_owned(),
        path => format!("`{path}`: {}", without_position(&why)),
    }
}

/// The message about a JSON text that `error` is about: that it is not JSON, with line and column, or the error.
pub(crate) fn why_no_json(text: &[u8], error: &serde_json::Error) -> String {
    json::malformed(text).unwrap_or_else(|| without_position(&error.to_string()).into_owned())
}

/// Whether arrays and objects are nested deeper than `limit`.
pub(crate) fn deeper_than(codec: Codec, limit: usize, bytes: &[u8]) -> bool {
    match codec {
        Codec::MessagePack => message_pack::deeper_than(limit, bytes),
        Codec::Json => json_scan::deeper_than(limit, bytes),
    }
}

/// The entries of a map, with each value still encoded. `None` if it is not a map.
pub(crate) fn entries(codec: Codec, map: &[u8]) -> Option<Vec<(Cow<'_, str>, &[u8])>> {
    match codec {
        Codec::MessagePack => message_pack::entries(map),
        Codec::Json => json::entries(map),
    }
}

/// The items of an array, each still encoded. `None` if it is not an array.
pub(crate) fn items(codec: Codec, array: &[u8]) -> Option<Vec<&[u8]>> {
    match codec {
        Codec::MessagePack => message_pack::items(array),
        Codec::Json => json::items(array),
    }
}

/// The encoding of no value: `null`, `None`, `()`.
pub(crate) fn nothing(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::MessagePack => &[0xc0],
        Codec::Json => b"null",
    }
}

/// One value of MessagePack as JSON.
pub(crate) fn to_json(bytes: &[u8]) -> Result<Vec<u8>, String> {
    transcode::to_json(bytes).map_err(|error| error.to_string())
}

/// One value of JSON as MessagePack.
pub(crate) fn to_message_pack(text: &[u8]) -> Result<Vec<u8>, String> {
    transcode::to_message_pack(text).map_err(|error| without_position(&error.to_string()).into_owned())
}

/// The longest message about a value that is shown in full, in bytes. It may quote the value.
const LONGEST: usize = 500;

/// serde_json's message about a value, without the line and column. They refer to the slice that serde_json got, and
/// mean nothing to a caller.
pub(crate) fn without_position(message: &str) -> Cow<'_, str> {
    let message = serde_json_internals::cut_position(message);
    match message.len() {
        ..=LONGEST => message,
        _ => format!("{}…", beginning(&message, LONGEST)).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    fn json<T: Serialize>(value: T) -> Result<String, String> {
        let mut out = Vec::new();
        encode(Codec::Json, &value, &mut out).map(|()| String::from_utf8(out).expect("JSON is UTF-8"))
    }

    #[test]
    fn numbers_that_json_cannot_hold_are_refused_wherever_they_are() {
        #[derive(Serialize)]
        struct Point {
            x: f64,
            name: Option<(f32, &'static str)>,
        }
        assert_eq!(json(Point { x: 1.5, name: None }).unwrap(), r#"{"x":1.5,"name":null}"#);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(json(bad).is_err());
            assert!(json(vec![Some(bad)]).is_err());
            assert!(json(std::collections::BTreeMap::from([("a", bad)])).is_err());
            assert!(json(Ok::<f64, ()>(bad)).is_err());
            assert!(json(Point { x: bad, name: None }).is_err());
        }
        let why = json(Point { x: 0.0, name: Some((f32::NAN, "")) }).unwrap_err();
        assert!(why.contains("NaN"), "{why}");
    }

    #[test]
    fn output_equals_that_of_serde_json() {
        #[derive(Serialize)]
        enum Shapes {
            Unit,
            New(u8),
            Tuple(u8, i8),
            Struct { a: u128 },
        }
        let all = (Shapes::Unit, Shapes::New(1), Shapes::Tuple(2, -3), Shapes::Struct { a: u128::MAX });
        assert_eq!(json(&all).unwrap(), serde_json::to_string(&all).unwrap());
        let odd = ("é\u{0}\"", 'c', (), Some(-1i64), u64::MAX, 0.1f32, std::collections::BTreeMap::from([(7, true)]));
        assert_eq!(json(&odd).unwrap(), serde_json::to_string(&odd).unwrap());
        let raw = serde_json::value::RawValue::from_string(r#"{"a": 1e2}"#.into()).unwrap();
        assert_eq!(json(&raw).unwrap(), r#"{"a": 1e2}"#);
    }

    #[test]
    fn a_result_is_seen_through_any_name() {
        type Sneaky = Result<u8, String>;
        let returned = |value: Sneaky| {
            let mut out = Vec::new();
            let shape = encode_returned(Codec::Json, &value, &mut out).unwrap();
            (shape, String::from_utf8(out).unwrap())
        };
        assert_eq!(returned(Ok(1)), (ResultShape::Ok, "1".into()));
        assert_eq!(returned(Err("no".into())), (ResultShape::Err, r#""no""#.into()));

        let mut out = Vec::new();
        let ours: Result<(), crate::Error> = Err(crate::Error::new(crate::Code::NotFound, "x"));
        assert_eq!(encode_returned(Codec::Json, &ours, &mut out).unwrap(), ResultShape::Ours);
        let internal: Result<(), crate::Internal> = Err(std::io::Error::other("x").into());
        assert_eq!(encode_returned(Codec::Json, &internal, &mut Vec::new()).unwrap(), ResultShape::Ours);
        let twice: Result<Result<u8, ()>, ()> = Ok(Err(()));
        let mut out = Vec::new();
        assert_eq!(encode_returned(Codec::Json, &twice, &mut out).unwrap(), ResultShape::Ok);
        assert_eq!(out, br#"{"Err":null}"#, "only at the top");
    }

    #[test]
    fn a_type_named_result_that_is_not_a_result_is_a_value() {
        mod mine {
            #[derive(serde::Serialize)]
            pub(super) enum Result<T> {
                Ok(T),
                Err(T),
            }
        }
        #[derive(Serialize)]
        #[serde(rename = "Result")]
        enum Outcome {
            Err(u8),
        }
        #[derive(Serialize)]
        #[serde(rename = "byname::Error")]
        struct Own {
            code: u8,
        }
        #[derive(Serialize)]
        #[serde(transparent)]
        struct Around(crate::Error);

        fn is<T: Serialize>(value: T, shape: ResultShape, text: &str) {
            let mut out = Vec::new();
            assert_eq!(encode_returned(Codec::Json, &value, &mut out).unwrap(), shape, "{text}");
            assert_eq!(String::from_utf8(out).unwrap(), text);
            let mut out = Vec::new();
            assert_eq!(encode_returned(Codec::MessagePack, &value, &mut out).unwrap(), shape, "{text}");
            assert_eq!(to_json(&out).unwrap(), text.as_bytes());
        }
        is(mine::Result::Ok(1), ResultShape::Value, r#"{"Ok":1}"#);
        is(mine::Result::Err(Ok::<u8, ()>(1)), ResultShape::Value, r#"{"Err":{"Ok":1}}"#);
        is(Outcome::Err(1), ResultShape::Value, r#"{"Err":1}"#);
        is(vec![Ok::<u8, ()>(1)], ResultShape::Value, r#"[{"Ok":1}]"#);
        is(Box::new(Err::<(), u8>(1)), ResultShape::Value, r#"{"Err":1}"#);
        is(Err::<(), _>(Own { code: 1 }), ResultShape::Err, r#"{"code":1}"#);
        let ours = crate::Error::new(crate::Code::NotFound, "x");
        let text = serde_json::to_string(&ours).unwrap();
        is(Err::<(), _>(Around(ours.clone())), ResultShape::Err, &text);
        is(Err::<(), _>(vec![ours]), ResultShape::Err, &format!("[{text}]"));
    }
}
