//! Values to MessagePack.

use std::fmt::Display;
use std::io::Write as _;

use serde_core::ser::{Error as _, Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::Error;

use super::extension_types::{OCTETS, write_extension, write_wide};
use super::token::{Token, TokenReader};
use super::value_format::{
    LengthKind, most, set_length, write_f32, write_f64, write_name, write_signed, write_str, write_unsigned,
};
use crate::codec::bytes::Content;
use crate::codec::compound_traits::write_parts;
use crate::codec::encoded_parts;
use crate::codec::finite_floats::is_checked;
use crate::codec::serde_json_internals::{KEY_IS_NO_STRING, NUMBER, RAW, numbers_are_text};
use crate::codec::transcode;

/// Appends one value.
pub(in crate::codec) struct MessagePackWriter<'o> {
    out: &'o mut Vec<u8>,
    /// Whether the next value is the content of a `Bytes`.
    is_content: bool,
}

impl<'o> MessagePackWriter<'o> {
    pub(in crate::codec) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, is_content: false }
    }

    fn compound(self, kind: LengthKind, length: Option<usize>) -> Compound<'o> {
        // The length is only a hint; the items are counted.
        let begun = length.filter(|length| most(*length).is_ok()).unwrap_or(0);
        let start = self.out.len();
        kind.begin(begun, self.out);
        Compound { out: self.out, start, kind, begun, length: 0 }
    }

    /// The beginning of a variant with content: a map of one entry, keyed by the variant's name.
    fn variant(self, variant: &'static str) -> Self {
        LengthKind::Map.begin(1, self.out);
        write_str(variant, self.out);
        self
    }
}

macro_rules! integers {
    ($($method:ident($type:ty): $write:ident),*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            $write(value.into(), self.out);
            Ok(())
        })*
    };
}

impl<'o> Serializer for MessagePackWriter<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'o>;
    type SerializeTuple = Compound<'o>;
    type SerializeTupleStruct = Compound<'o>;
    type SerializeTupleVariant = Compound<'o>;
    type SerializeMap = Compound<'o>;
    type SerializeStruct = Fields<'o>;
    type SerializeStructVariant = Compound<'o>;

    integers! {
        serialize_i8(i8): write_signed, serialize_i16(i16): write_signed, serialize_i32(i32): write_signed,
        serialize_i64(i64): write_signed, serialize_u8(u8): write_unsigned, serialize_u16(u16): write_unsigned,
        serialize_u32(u32): write_unsigned, serialize_u64(u64): write_unsigned
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => write_signed(value, self.out),
            (_, Ok(value)) => write_unsigned(value, self.out),
            _ => write_wide(value < 0, value.to_be_bytes(), self.out),
        }
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        match u64::try_from(value) {
            Ok(value) => write_unsigned(value, self.out),
            Err(_) => write_wide(false, value.to_be_bytes(), self.out),
        }
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.out.push(if value { 0xc3 } else { 0xc2 });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        write_f32(value, self.out);
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        write_f64(value, self.out);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        most(value.len())?;
        write_str(value, self.out);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        if !self.is_content {
            return write_extension(OCTETS, value, self.out);
        }
        let length = most(value.len())? as u32;
        match length.to_be_bytes() {
            [0, 0, 0, d] => self.out.extend_from_slice(&[0xc4, d]),
            [0, 0, c, d] => self.out.extend_from_slice(&[0xc5, c, d]),
            [a, b, c, d] => self.out.extend_from_slice(&[0xc6, a, b, c, d]),
        }
        if !encoded_parts::leave_out(value, self.out) {
            self.out.extend_from_slice(value);
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.push(0xc0);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(Self { is_content: is_checked::<T, Content<'_>>(), ..self })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self.variant(variant))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Compound<'o>, Error> {
        Ok(self.compound(LengthKind::Array, length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Compound<'o>, Error> {
        Ok(self.compound(LengthKind::Array, Some(length)))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Compound<'o>, Error> {
        Ok(self.compound(LengthKind::Array, Some(length)))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Compound<'o>, Error> {
        Ok(self.variant(variant).compound(LengthKind::Array, Some(length)))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Compound<'o>, Error> {
        Ok(self.compound(LengthKind::Map, length))
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Fields<'o>, Error> {
        Ok(match name {
            RAW => Fields::Text(self.out),
            NUMBER if numbers_are_text() => Fields::Text(self.out),
            _ => Fields::Map(self.compound(LengthKind::Map, Some(length))),
        })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Compound<'o>, Error> {
        Ok(self.variant(variant).compound(LengthKind::Map, Some(length)))
    }

    fn is_human_readable(&self) -> bool {
        !self.is_content
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        let start = self.out.len();
        self.out.push(LengthKind::Str.empty());
        write!(self.out, "{value}").map_err(Error::custom)?;
        let length = most(self.out.len() - start - 1)?;
        set_length(self.out, start, LengthKind::Str, 0, length);
        Ok(())
    }
}

/// An array or a map that is being written.
pub(in crate::codec) struct Compound<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    kind: LengthKind,
    /// The length that it was begun with.
    begun: usize,
    /// How many items it has so far.
    length: usize,
}

impl Compound<'_> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.length += 1;
        value.serialize(MessagePackWriter::new(self.out))
    }

    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        write_name(name, self.out);
        self.item(value)
    }

    fn finish(self) -> Result<(), Error> {
        if self.length != self.begun {
            set_length(self.out, self.start, self.kind, self.begun, most(self.length)?);
        }
        Ok(())
    }
}

write_parts!(Compound);

impl SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let start = self.out.len();
        key.serialize(MessagePackWriter::new(self.out))?;
        match self.out[start] {
            0xa0..=0xbf | 0xd9..=0xdb => Ok(()),
            _ => key_as_text(self.out, start),
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

/// Replaces the key at `start` by its text, as JSON has it for integers, floats and booleans.
#[cold]
fn key_as_text(out: &mut Vec<u8>, start: usize) -> Result<(), Error> {
    encoded_parts::put_back(out, start);
    let key = out.split_off(start);
    let text = match TokenReader::new(&key).token()? {
        Token::Single(value) => serde_json::to_string(&value)?,
        Token::Double(value) => serde_json::to_string(&value)?,
        token => token.into_key().ok_or_else(|| Error::custom(KEY_IS_NO_STRING))?.into_owned(),
    };
    write_str(&text, out);
    Ok(())
}

/// Writes the value that the JSON in `value` stands for.
#[cold]
fn json_text<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut text = Vec::new();
    value.serialize(MessagePackWriter::new(&mut text))?;
    match TokenReader::new(&text).token()? {
        Token::Str(text) => out.extend_from_slice(&transcode::to_message_pack(text.as_bytes())?),
        _ => return Err(Error::custom("no JSON text")),
    }
    Ok(())
}

/// A struct that is being written, or JSON that stands for a value.
pub(in crate::codec) enum Fields<'o> {
    Map(Compound<'o>),
    Text(&'o mut Vec<u8>),
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        match self {
            Fields::Map(map) => map.field(name, value),
            Fields::Text(out) => json_text(value, out),
        }
    }

    fn end(self) -> Result<(), Error> {
        match self {
            Fields::Map(map) => map.finish(),
            Fields::Text(_) => Ok(()),
        }
    }
}
