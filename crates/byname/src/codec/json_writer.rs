//! Values to JSON: what most values consist of, and serde_json for the rest. The text is that of serde_json.

use std::fmt::Display;

use serde_core::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::Error;

use super::compound_traits::write_parts;
use super::serde_json_internals::{NUMBER, RAW, numbers_are_text};

/// Appends one value.
pub(super) struct JsonWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> JsonWriter<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    fn compound(self, begin: u8, end: &'static str) -> JsonCompound<'o> {
        self.out.push(begin);
        JsonCompound { out: self.out, is_first: true, end }
    }

    /// The beginning of a variant with content: an object with one key, which is the variant's name.
    fn variant(self, variant: &'static str) -> Result<Self, Error> {
        self.out.push(b'{');
        write_name(variant, true, self.out)?;
        Ok(self)
    }
}

macro_rules! integers {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            Ok(())
        })*
    };
}

macro_rules! by_serde_json {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            serde_json::Serializer::new(self.out).$method(value)
        })*
    };
}

impl<'o> Serializer for JsonWriter<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = JsonCompound<'o>;
    type SerializeTuple = JsonCompound<'o>;
    type SerializeTupleStruct = JsonCompound<'o>;
    type SerializeTupleVariant = JsonCompound<'o>;
    type SerializeMap = JsonMap<'o>;
    type SerializeStruct = JsonFields<'o>;
    type SerializeStructVariant = JsonCompound<'o>;

    integers! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64), serialize_u8(u8),
        serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_i128(i128), serialize_u128(u128)
    }

    by_serde_json! { serialize_f32(f32), serialize_f64(f64), serialize_bytes(&[u8]) }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        write_str(value, self.out)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let Self { out } = self.variant(variant)?;
        value.serialize(JsonWriter::new(out))?;
        out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<JsonCompound<'o>, Error> {
        Ok(self.compound(b'[', "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<JsonCompound<'o>, Error> {
        Ok(self.compound(b'[', "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<JsonCompound<'o>, Error> {
        Ok(self.compound(b'[', "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<JsonCompound<'o>, Error> {
        Ok(self.variant(variant)?.compound(b'[', "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<JsonMap<'o>, Error> {
        Ok(JsonMap { out: self.out, is_first: true })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<JsonFields<'o>, Error> {
        Ok(match name {
            RAW => JsonFields::Private(name, self.out),
            NUMBER if numbers_are_text() => JsonFields::Private(name, self.out),
            _ => JsonFields::Object(self.compound(b'{', "}")),
        })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<JsonCompound<'o>, Error> {
        Ok(self.variant(variant)?.compound(b'{', "}}"))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        serde_json::Serializer::new(self.out).collect_str(value)
    }
}

/// An array, or the object of a struct, that is being written.
pub(super) struct JsonCompound<'o> {
    out: &'o mut Vec<u8>,
    /// Whether nothing is in it yet.
    is_first: bool,
    end: &'static str,
}

impl JsonCompound<'_> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        value.serialize(JsonWriter::new(self.out))
    }

    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        write_name(name, std::mem::take(&mut self.is_first), self.out)?;
        value.serialize(JsonWriter::new(self.out))
    }

    fn finish(self) -> Result<(), Error> {
        self.out.extend_from_slice(self.end.as_bytes());
        Ok(())
    }
}

write_parts!(JsonCompound);

/// A struct that is being written, or what serde_json keeps private.
pub(super) enum JsonFields<'o> {
    Object(JsonCompound<'o>),
    /// The name of the struct.
    Private(&'static str, &'o mut Vec<u8>),
}

impl SerializeStruct for JsonFields<'_> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        match self {
            JsonFields::Object(object) => object.field(name, value),
            JsonFields::Private(of, out) => private_struct(of, name, value, out),
        }
    }

    fn end(self) -> Result<(), Error> {
        match self {
            JsonFields::Object(object) => object.finish(),
            JsonFields::Private(..) => Ok(()),
        }
    }
}

/// A struct with one field, whose name serde_json knows.
#[cold]
fn private_struct<T: Serialize + ?Sized>(
    of: &'static str,
    name: &'static str,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut json = serde_json::Serializer::new(out);
    let mut fields = json.serialize_struct(of, 1)?;
    SerializeStruct::serialize_field(&mut fields, name, value)?;
    SerializeStruct::end(fields)
}

/// An object that is being written.
pub(super) struct JsonMap<'o> {
    out: &'o mut Vec<u8>,
    /// Whether nothing is in it yet, not even its brace.
    is_first: bool,
}

impl SerializeMap for JsonMap<'_> {
    type Ok = ();
    type Error = Error;

    /// serde_json knows which keys are strings. It begins an object with this key.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let start = self.out.len();
        let mut json = serde_json::Serializer::new(&mut *self.out);
        json.serialize_map(Some(1))?.serialize_key(key)?;
        if !std::mem::take(&mut self.is_first) {
            self.out[start] = b',';
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.out.push(b':');
        value.serialize(JsonWriter::new(self.out))
    }

    fn end(self) -> Result<(), Error> {
        self.out.extend_from_slice(if self.is_first { b"{}" } else { b"}" });
        Ok(())
    }
}

/// The longest name that [`write_name`] copies in one piece.
const SHORT: usize = 32;

/// Appends a name that is known at compile time, with the quotes around it, the colon behind it, and a comma before it if
/// it is not the first. So the most is copied in one piece of known length.
#[inline(always)]
fn write_name(name: &'static str, is_first: bool, out: &mut Vec<u8>) -> Result<(), Error> {
    let (mut piece, length) = ([0; SHORT + 4], name.len());
    if length <= SHORT && is_plain(name.as_bytes()) {
        piece[..2].copy_from_slice(b",\"");
        piece[2..2 + length].copy_from_slice(name.as_bytes());
        piece[2 + length..4 + length].copy_from_slice(b"\":");
        out.extend_from_slice(&piece[usize::from(is_first)..4 + length]);
        return Ok(());
    }
    if !is_first {
        out.push(b',');
    }
    write_str(name, out)?;
    out.push(b':');
    Ok(())
}

fn write_str(text: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    if !is_plain(text.as_bytes()) {
        return serde_json::Serializer::new(out).serialize_str(text);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Whether JSON has this text between its quotes as it is.
#[inline(always)]
fn is_plain(text: &[u8]) -> bool {
    // The last eight bytes may overlap those before.
    match text.last_chunk::<8>() {
        Some(last) => text.as_chunks::<8>().0.iter().chain([last]).all(|eight| are_plain(*eight)),
        None => text.iter().all(|byte| *byte >= b' ' && *byte != b'"' && *byte != b'\\'),
    }
}

/// Whether none of the bytes is a control character, a quote or a backslash.
#[inline(always)]
fn are_plain(eight: [u8; 8]) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let bytes = u64::from_le_bytes(eight);
    // The highest bit of a byte says that it is less than a space, or zero. A borrow from a byte before may say so too, but
    // then that byte says it itself.
    let control = bytes.wrapping_sub(each(b' ')) & !bytes;
    let (quote, backslash) = (bytes ^ each(b'"'), bytes ^ each(b'\\'));
    let quote = quote.wrapping_sub(each(1)) & !quote;
    let backslash = backslash.wrapping_sub(each(1)) & !backslash;
    (control | quote | backslash) & each(0x80) == 0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use crate::codec::{Codec, encode};

    #[derive(Serialize)]
    enum Shapes<'s> {
        Unit,
        New(&'s str),
        Tuple(u8, &'s str),
        None(),
        Struct { a: &'s str, b: Option<i128> },
    }

    #[derive(Serialize)]
    struct Names<'s> {
        #[serde(rename = "")]
        empty: &'s str,
        #[serde(rename = "with \"quotes\" and a \n line")]
        escaped: &'s str,
        a_name_that_is_longer_than_most_names_are: u8,
        #[serde(skip_serializing_if = "str::is_empty")]
        skipped: &'s str,
        größe: char,
        exactly_8: bool,
        nothing: (),
    }

    #[track_caller]
    fn as_serde_json<T: Serialize>(value: T) {
        let mut text = b"before".to_vec();
        encode(Codec::Json, &value, &mut text).unwrap();
        let words = serde_json::to_string(&value).unwrap();
        assert_eq!(String::from_utf8_lossy(&text[6..]), words);
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_serde_json(
            text in "[ -~\\x00-\\x24\\\\é€\u{10348}]{0,40}",
            numbers: (i64, u64, f64),
            keys: Vec<(i8, bool)>,
        ) {
            as_serde_json(&text);
            as_serde_json([Shapes::Unit, Shapes::New(&text), Shapes::Tuple(1, &text), Shapes::None()]);
            as_serde_json([Shapes::Struct { a: &text, b: Some(numbers.0.into()) }, Shapes::Struct { a: "", b: None }]);
            as_serde_json(Names {
                empty: &text,
                escaped: &text,
                a_name_that_is_longer_than_most_names_are: 1,
                skipped: &text,
                größe: text.chars().next().unwrap_or('"'),
                exactly_8: numbers.0 > 0,
                nothing: (),
            });
            let numbers = (numbers.0, numbers.1, if numbers.2.is_finite() { numbers.2 } else { 0.1 });
            as_serde_json(numbers);
            as_serde_json(keys.iter().copied().collect::<BTreeMap<_, _>>());
            as_serde_json(BTreeMap::from([(text.as_str(), keys), ("", vec![])]));
            as_serde_json(serde_json::json!({"any": [text, numbers, {}, []]}));
        }

        /// Each byte at each place, between bytes that are plain.
        #[test]
        fn no_byte_is_missed(length in 1..30usize, at in 0..30usize, byte in 0..0x80u8) {
            let mut text = vec![b'a'; length];
            text[at % length] = byte;
            as_serde_json(String::from_utf8(text).unwrap());
        }
    }

    #[test]
    fn a_key_that_is_no_string_is_the_error_of_serde_json() {
        let value = BTreeMap::from([([1], 1)]);
        let why = encode(Codec::Json, &value, &mut Vec::new()).unwrap_err();
        assert_eq!(why, serde_json::to_string(&value).unwrap_err().to_string());
    }
}
