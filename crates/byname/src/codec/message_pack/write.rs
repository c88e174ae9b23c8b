//! Values to MessagePack.

use std::fmt::Display;
use std::io::Write as _;

use serde_core::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::Error;

use super::{DIGITS, MessagePackReader, OCTETS, Token, WIDE};
use crate::codec::bytes::Content;
use crate::codec::finite_floats::is_checked;
use crate::codec::private_keys::{NUMBER, RAW, numbers_are_text};
use crate::codec::transcode;

/// What begins with a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LengthKind {
    Str,
    Array,
    Map,
}

impl LengthKind {
    /// The first byte of an empty one.
    const fn empty(self) -> u8 {
        match self {
            LengthKind::Str => 0xa0,
            LengthKind::Array => 0x90,
            LengthKind::Map => 0x80,
        }
    }

    /// The longest whose length stands in the first byte.
    const fn short(self) -> usize {
        match self {
            LengthKind::Str => 31,
            LengthKind::Array | LengthKind::Map => 15,
        }
    }

    /// The first byte where the length stands in one, in two and in four bytes.
    const fn long(self) -> (Option<u8>, u8, u8) {
        match self {
            LengthKind::Str => (Some(0xd9), 0xda, 0xdb),
            LengthKind::Array => (None, 0xdc, 0xdd),
            LengthKind::Map => (None, 0xde, 0xdf),
        }
    }

    /// Appends what it begins with. A length is checked by [`most`] before it comes here.
    #[inline]
    pub(crate) fn begin(self, length: usize, out: &mut Vec<u8>) {
        if length <= self.short() {
            return out.push(self.empty() | length as u8);
        }
        let (in_one, in_two, in_four) = self.long();
        match (in_one, length) {
            (Some(marker), ..=0xff) => out.extend_from_slice(&[marker, length as u8]),
            (_, ..=0xffff) => {
                let [a, b] = (length as u16).to_be_bytes();
                out.extend_from_slice(&[in_two, a, b]);
            }
            _ => {
                let [a, b, c, d] = (length as u32).to_be_bytes();
                out.extend_from_slice(&[in_four, a, b, c, d]);
            }
        }
    }
}

/// Whether four bytes can hold a length.
fn most(length: usize) -> Result<usize, Error> {
    match u32::try_from(length) {
        Ok(_) => Ok(length),
        Err(_) => Err(Error::custom("it is longer than 4 GiB, the most that MessagePack can hold")),
    }
}

/// Gives the one at `start` another length than the one it was begun with.
pub(crate) fn set_length(out: &mut Vec<u8>, start: usize, kind: LengthKind, begun: usize, length: usize) {
    if begun <= kind.short() && length <= kind.short() {
        out[start] = kind.empty() | length as u8;
    } else {
        begin_anew(out, start, kind, begun, length);
    }
}

#[cold]
fn begin_anew(out: &mut Vec<u8>, start: usize, kind: LengthKind, begun: usize, length: usize) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    kind.begin(begun, &mut before);
    kind.begin(length, &mut after);
    out.splice(start..start + before.len(), after);
}

/// Appends a string that is no longer than 4 GiB.
#[inline]
pub(crate) fn write_str(text: &str, out: &mut Vec<u8>) {
    LengthKind::Str.begin(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// As [`write_str`], of a name that the compiler knows: one piece of known length.
#[inline(always)]
fn write_name(name: &'static str, out: &mut Vec<u8>) {
    let mut short = [0; 32];
    match short.get_mut(1..=name.len()) {
        Some(text) => {
            text.copy_from_slice(name.as_bytes());
            short[0] = LengthKind::Str.empty() | name.len() as u8;
            out.extend_from_slice(&short[..=name.len()]);
        }
        None => write_str(name, out),
    }
}

/// Appends an integer as short as it can be.
#[inline]
pub(in crate::codec) fn write_unsigned(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            let [a, b] = (value as u16).to_be_bytes();
            out.extend_from_slice(&[0xcd, a, b]);
        }
        0x1_0000..=0xffff_ffff => {
            let [a, b, c, d] = (value as u32).to_be_bytes();
            out.extend_from_slice(&[0xce, a, b, c, d]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
            out.extend_from_slice(&[0xcf, a, b, c, d, e, f, g, h]);
        }
    }
}

/// As [`write_unsigned`].
#[inline]
pub(in crate::codec) fn write_signed(value: i64, out: &mut Vec<u8>) {
    match value {
        0.. => write_unsigned(value as u64, out),
        -32..=-1 => out.push(value as u8),
        -0x80..=-33 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..=-0x81 => {
            let [a, b] = (value as i16).to_be_bytes();
            out.extend_from_slice(&[0xd1, a, b]);
        }
        -0x8000_0000..=-0x8001 => {
            let [a, b, c, d] = (value as i32).to_be_bytes();
            out.extend_from_slice(&[0xd2, a, b, c, d]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
            out.extend_from_slice(&[0xd3, a, b, c, d, e, f, g, h]);
        }
    }
}

/// An integer of more than 64 bits, of which `bytes` are the lowest 128.
pub(in crate::codec) fn write_wide(negative: bool, bytes: [u8; 16], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xc7, 17, WIDE, if negative { 0xff } else { 0 }]);
    out.extend_from_slice(&bytes);
}

/// A number as JSON has it, with every digit.
pub(in crate::codec) fn write_digits(number: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    write_extension(DIGITS, number.as_bytes(), out)
}

fn write_extension(kind: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let length = most(bytes.len())? as u32;
    out.reserve(bytes.len() + 6);
    match length.to_be_bytes() {
        [0, 0, 0, d] => out.extend_from_slice(&[0xc7, d, kind]),
        [0, 0, c, d] => out.extend_from_slice(&[0xc8, c, d, kind]),
        [a, b, c, d] => out.extend_from_slice(&[0xc9, a, b, c, d, kind]),
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends a float, which is finite.
#[inline]
pub(in crate::codec) fn write_f32(value: f32, out: &mut Vec<u8>) {
    let [a, b, c, d] = value.to_be_bytes();
    out.extend_from_slice(&[0xca, a, b, c, d]);
}

/// Appends a float, which is finite.
#[inline]
pub(in crate::codec) fn write_f64(value: f64, out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    out.extend_from_slice(&[0xcb, a, b, c, d, e, f, g, h]);
}

/// Appends one value.
pub(in crate::codec) struct MessagePackWriter<'o> {
    out: &'o mut Vec<u8>,
    /// What comes is the content of a `Bytes`.
    is_content: bool,
}

impl<'o> MessagePackWriter<'o> {
    pub(in crate::codec) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, is_content: false }
    }

    fn compound(self, kind: LengthKind, length: Option<usize>) -> Compound<'o> {
        // It is a hint: the items are counted.
        let begun = length.filter(|length| most(*length).is_ok()).unwrap_or(0);
        let start = self.out.len();
        kind.begin(begun, self.out);
        Compound { out: self.out, start, kind, begun, length: 0 }
    }

    /// What a variant with content begins with: a map of one entry, by the variant's name.
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
        self.out.reserve(value.len() + 5);
        match length.to_be_bytes() {
            [0, 0, 0, d] => self.out.extend_from_slice(&[0xc4, d]),
            [0, 0, c, d] => self.out.extend_from_slice(&[0xc5, c, d]),
            [a, b, c, d] => self.out.extend_from_slice(&[0xc6, a, b, c, d]),
        }
        self.out.extend_from_slice(value);
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
    /// How many items there are so far.
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

macro_rules! compound {
    ($($trait:ident: $method:ident),*) => {$(
        impl $trait for Compound<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        }
    )*};
}

compound! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
}

impl SerializeStructVariant for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

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

/// Puts the text of a key at `start` in its place, as JSON has it for integers, floats and booleans.
#[cold]
fn key_as_text(out: &mut Vec<u8>, start: usize) -> Result<(), Error> {
    let key = out.split_off(start);
    let text = match MessagePackReader::new(&key, 0).token()? {
        Token::Single(value) => serde_json::to_string(&value)?,
        Token::Double(value) => serde_json::to_string(&value)?,
        token => token.into_key().ok_or_else(|| Error::custom("key must be a string"))?.into_owned(),
    };
    write_str(&text, out);
    Ok(())
}

/// Writes what the JSON in `value` stands for.
#[cold]
fn json_text<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut text = Vec::new();
    value.serialize(MessagePackWriter::new(&mut text))?;
    match MessagePackReader::new(&text, 0).token()? {
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
