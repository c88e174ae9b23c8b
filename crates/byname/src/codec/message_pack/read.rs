//! MessagePack to values.

use std::borrow::Cow;

use serde_core::Deserialize;
use serde_core::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde_core::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde_json::de::SliceRead;
use serde_json::{Error, Number, Value};

use super::token::{AlignedCopy, EMPTY_ARRAY, EMPTY_MAP, MessagePackInteger, Token, TokenReader, as_shown, trailing};
use crate::codec::bytes::{in_base64, is_visitor};
use crate::codec::reserved_keys::Refused;
use crate::codec::serde_json_internals::{EXPECTED_VALUE, KEY_IS_NO_NUMBER, OUT_OF_RANGE, RAW, TOO_DEEP, is_private};
use crate::codec::transcode;

/// Reads values from bytes. It never allocates for a length that the bytes only claim.
pub(crate) struct MessagePackReader<'de> {
    tokens: TokenReader<'de>,
    /// How many arrays and maps are open.
    open: usize,
    /// How many may be open.
    deepest: usize,
}

/// Whether arrays and maps are nested deeper than `limit`.
pub(in crate::codec) fn deeper_than(limit: usize, bytes: &[u8]) -> bool {
    // Each level takes at least one byte.
    if bytes.len() <= limit {
        return false;
    }
    let mut reader = MessagePackReader::new(bytes, limit);
    reader.skip().is_err() && reader.open > limit
}

/// The entries of the map `bytes`, with each value still encoded. `None` if it is not a map.
pub(in crate::codec) fn entries(bytes: &[u8]) -> Option<Vec<(Cow<'_, str>, &[u8])>> {
    let mut reader = MessagePackReader::new(bytes, super::DEEPEST);
    let Ok(Token::Map(count)) = reader.tokens.token() else {
        return None;
    };
    let mut entries = Vec::new();
    for _ in 0..count {
        let (key, value) = (reader.key().ok()?, reader.tokens.rest);
        reader.skip().ok()?;
        entries.push((key, &value[..value.len() - reader.tokens.rest.len()]));
    }
    reader.tokens.rest.is_empty().then_some(entries)
}

/// The items of an array, each still encoded.
pub(in crate::codec) fn items(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = MessagePackReader::new(bytes, super::DEEPEST);
    let Ok(Token::Array(count)) = reader.tokens.token() else {
        return None;
    };
    let mut items = Vec::new();
    for _ in 0..count {
        let item = reader.tokens.rest;
        reader.skip().ok()?;
        items.push(&item[..item.len() - reader.tokens.rest.len()]);
    }
    reader.tokens.rest.is_empty().then_some(items)
}

/// The most items for which room is reserved before they are read.
const ROOM: usize = 256;

impl<'de> MessagePackReader<'de> {
    pub(crate) fn new(bytes: &'de [u8], deepest: usize) -> Self {
        Self { tokens: TokenReader::new(bytes), open: 0, deepest }
    }

    /// Reads one value that fills the bytes completely.
    pub(crate) fn whole<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = seed.deserialize(&mut *self)?;
        // A type may continue after an error inside it, and then read anything.
        if self.tokens.lost || self.open > 0 {
            return Err(Error::custom("a part of it could not be read"));
        }
        self.tokens.end()?;
        Ok(value)
    }

    /// Skips one value.
    pub(in crate::codec) fn skip(&mut self) -> Result<(), Error> {
        let (items, keyed) = match self.tokens.token()? {
            Token::Array(length) => (length, false),
            Token::Map(entries) => (entries, true),
            _ => return Ok(()),
        };
        self.enter()?;
        for _ in 0..items {
            if keyed {
                self.key()?;
            }
            self.skip()?;
        }
        self.open -= 1;
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.open += 1;
        if self.open <= self.deepest { Ok(()) } else { Err(Error::custom(TOO_DEEP)) }
    }

    fn array<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.enter()?;
        let mut items = ArrayItems { reader: self, left: length };
        let value = visitor.visit_seq(&mut items)?;
        if items.left > 0 {
            return Err(trailing());
        }
        self.open -= 1;
        Ok(value)
    }

    fn map<V: Visitor<'de>>(&mut self, entries: usize, visitor: V) -> Result<V::Value, Error> {
        self.fields(entries, &[], visitor)
    }

    /// A map that probably has these keys in this order.
    fn fields<V: Visitor<'de>>(
        &mut self,
        entries: usize,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.enter()?;
        let mut entries = MapEntries { reader: self, left: entries, likely: fields.iter() };
        let value = visitor.visit_map(&mut entries)?;
        if entries.left > 0 {
            return Err(trailing());
        }
        self.open -= 1;
        Ok(value)
    }

    // What is rare has functions of its own, so that the rest is small enough to be inlined.

    #[inline(never)]
    fn other_f64<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        // Any number becomes an `f64`.
        self.deserialize_u64(visitor)
    }

    #[inline(never)]
    fn no_bool<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let token = self.tokens.token()?;
        Err(self.mismatch(&token, &visitor))
    }

    #[inline(never)]
    fn long_string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    #[inline(never)]
    fn other_str<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.token()? {
            Token::Str(text) => visitor.visit_borrowed_str(text),
            Token::Bytes(bytes) => visitor.visit_string(in_base64(bytes)),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    /// The error about a token of another kind than expected.
    #[cold]
    fn mismatch(&mut self, token: &Token<'de>, expected: &dyn Expected) -> Error {
        self.tokens.lost |= matches!(token, Token::Array(_) | Token::Map(_));
        Error::invalid_type(token.unexpected(), expected)
    }

    /// The key of a map's entry, which must not be one of serde_json's private keys.
    fn key(&mut self) -> Result<Cow<'de, str>, Error> {
        let key = self.tokens.any_key()?;
        self.check(&key)?;
        Ok(key)
    }

    #[inline]
    fn check(&mut self, key: &str) -> Result<(), Error> {
        if is_private(key) { Err(self.tokens.lose(Refused)) } else { Ok(()) }
    }
}

/// Reads a number as JSON would read it.
#[cold]
fn from_digits<'de, T>(
    text: &'de str,
    read: impl FnOnce(&mut serde_json::Deserializer<SliceRead<'de>>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_slice(text.as_bytes());
    let value = read(&mut json)?;
    json.end().map(|()| value)
}

/// A visitor that accepts any value.
struct Any<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Any<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_any(self.0)
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            #[inline(never)]
            fn other<'de, V: Visitor<'de>>(reader: &mut MessagePackReader<'de>, visitor: V) -> Result<V::Value, Error> {
                match reader.tokens.token()? {
                    Token::Unsigned(value) => visitor.visit_u64(value),
                    Token::Negative(value) => visitor.visit_i64(value),
                    Token::Wide(value) => visitor.visit_f64(value as f64),
                    Token::NegativeWide(value) => visitor.visit_f64(value as f64),
                    Token::Single(value) => visitor.visit_f64(as_shown(value)),
                    Token::Double(value) => visitor.visit_f64(value),
                    Token::Digits(text) => from_digits(text, |json| json.$method(visitor)),
                    token => Err(reader.mismatch(&token, &visitor)),
                }
            }
            match self.tokens.integer() {
                Some(MessagePackInteger::Unsigned(value)) => visitor.visit_u64(value),
                Some(MessagePackInteger::Negative(value)) => visitor.visit_i64(value),
                None => other(self, visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for &mut MessagePackReader<'de> {
    type Error = Error;

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let [0xcb, a, b, c, d, e, f, g, h, ref rest @ ..] = *self.tokens.rest
            && let value = f64::from_be_bytes([a, b, c, d, e, f, g, h])
            && value.is_finite()
        {
            self.tokens.rest = rest;
            return visitor.visit_f64(value);
        }
        self.other_f64(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(entries) = self.tokens.short(EMPTY_MAP) {
            return self.map(entries, visitor);
        }
        match self.tokens.token()? {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Negative(value) => visitor.visit_i64(value),
            Token::Wide(value) => wide_number(Number::from_u128(value), value as f64, visitor),
            Token::NegativeWide(value) => wide_number(Number::from_i128(value), value as f64, visitor),
            Token::Single(value) => visitor.visit_f64(as_shown(value)),
            Token::Double(value) => visitor.visit_f64(value),
            Token::Digits(text) => {
                from_digits(text, |json| crate::codec::json::read(text.as_bytes(), json, Any(visitor)))
            }
            Token::Str(text) => visitor.visit_borrowed_str(text),
            Token::Bytes(bytes) => visitor.visit_string(in_base64(bytes)),
            Token::Octets(bytes) => octets(bytes, visitor),
            Token::Array(length) => self.array(length, visitor),
            Token::Map(entries) => self.map(entries, visitor),
        }
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let [marker @ (0xc2 | 0xc3), ref rest @ ..] = *self.tokens.rest {
            self.tokens.rest = rest;
            return visitor.visit_bool(marker == 0xc3);
        }
        self.no_bool(visitor)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.token()? {
            Token::Unsigned(value) => visitor.visit_i128(value.into()),
            Token::Negative(value) => visitor.visit_i128(value.into()),
            Token::Wide(value) => match i128::try_from(value) {
                Ok(value) => visitor.visit_i128(value),
                Err(_) => Err(out_of_range()),
            },
            Token::NegativeWide(value) => visitor.visit_i128(value),
            Token::Digits(text) => from_digits(text, |json| json.deserialize_i128(visitor)),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.token()? {
            Token::Unsigned(value) => visitor.visit_u128(value.into()),
            Token::Wide(value) => visitor.visit_u128(value),
            Token::Negative(_) | Token::NegativeWide(_) => Err(out_of_range()),
            Token::Digits(text) => from_digits(text, |json| json.deserialize_u128(visitor)),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // A type may round the number, but a finite number never becomes an infinity.
        let single = |value: f64| if (value as f32).is_finite() { Ok(value) } else { Err(out_of_range()) };
        match self.tokens.token()? {
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Negative(value) => visitor.visit_i64(value),
            Token::Wide(value) => visitor.visit_f64(single(value as f64)?),
            Token::NegativeWide(value) => visitor.visit_f64(single(value as f64)?),
            Token::Single(value) => visitor.visit_f32(value),
            Token::Double(value) => visitor.visit_f64(single(value)?),
            Token::Digits(text) => from_digits(text, |json| json.deserialize_f32(visitor)),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.short_str() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => self.other_str(visitor),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.copied_str(&mut AlignedCopy::default()) {
            Some(text) => visitor.visit_str(text),
            None => self.long_string(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.token()? {
            Token::Str(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            Token::Bytes(bytes) | Token::Octets(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Array(length) => self.array(length, visitor),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.rest {
            [0xc0, rest @ ..] => {
                self.tokens.rest = rest;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.token()? {
            Token::Nil => visitor.visit_unit(),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == RAW {
            let before = self.tokens.rest;
            self.skip()?;
            let text = transcode::to_json(&before[..before.len() - self.tokens.rest.len()])?;
            let text = String::from_utf8(text).map_err(Error::custom)?;
            return visitor.visit_map(MapDeserializer::new(std::iter::once((RAW, text))));
        }
        if is_visitor::<V>() && matches!(self.tokens.rest, [0xc4..=0xc9 | 0xd4..=0xd8, ..]) {
            return self.deserialize_bytes(visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(length) = self.tokens.short(EMPTY_ARRAY) {
            return self.array(length, visitor);
        }
        match self.tokens.token()? {
            Token::Array(length) => self.array(length, visitor),
            Token::Bytes(bytes) | Token::Octets(bytes) => octets(bytes, visitor),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tokens.token()? {
            Token::Map(entries) => self.map(entries, visitor),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Some(entries) = self.tokens.short(EMPTY_MAP) {
            return self.fields(entries, fields, visitor);
        }
        match self.tokens.token()? {
            Token::Map(entries) => self.fields(entries, fields, visitor),
            Token::Array(length) => self.array(length, visitor),
            Token::Bytes(bytes) | Token::Octets(bytes) => octets(bytes, visitor),
            token => Err(self.mismatch(&token, &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.tokens.token()? {
            Token::Str(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
            Token::Bytes(bytes) => visitor.visit_enum(in_base64(bytes).into_deserializer()),
            Token::Map(1) => {
                self.enter()?;
                let value = visitor.visit_enum(&mut *self)?;
                self.open -= 1;
                Ok(value)
            }
            token => {
                self.tokens.lost |= matches!(token, Token::Array(_) | Token::Map(_));
                Err(Error::custom(EXPECTED_VALUE))
            }
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }
}

/// An integer of more than 64 bits for a type that accepts any value: exact if serde_json's `Number` can hold it, and
/// rejected otherwise; see [`json_exact_integers`](crate::codec::json_exact_integers).
#[cold]
fn wide_number<'de, V: Visitor<'de>>(number: Option<Number>, near: f64, visitor: V) -> Result<V::Value, Error> {
    match number {
        Some(number) => number.deserialize_any(visitor),
        None => Err(Error::custom(crate::codec::json_exact_integers::rounded(near))),
    }
}

#[cold]
fn out_of_range() -> Error {
    Error::custom(OUT_OF_RANGE)
}

/// The items of an array.
struct ArrayItems<'r, 'de> {
    reader: &'r mut MessagePackReader<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for &mut ArrayItems<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(ROOM))
    }
}

/// The entries of a map. The fields of a struct usually come in the order of the type.
struct MapEntries<'r, 'de> {
    reader: &'r mut MessagePackReader<'de>,
    left: usize,
    /// The keys that have not come yet, as long as the keys come in order.
    likely: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for &mut MapEntries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let likely = self.likely.next().copied().unwrap_or_default();
        seed.deserialize(MapKey { reader: self.reader, likely }).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(ROOM))
    }
}

/// Bytes as the numbers that JSON has instead.
fn octets<'de, V: Visitor<'de>>(bytes: &'de [u8], visitor: V) -> Result<V::Value, Error> {
    let mut octets = BytesSequence(bytes.iter());
    let value = visitor.visit_seq(&mut octets)?;
    if octets.0.len() > 0 { Err(trailing()) } else { Ok(value) }
}

struct BytesSequence<'de>(std::slice::Iter<'de, u8>);

impl<'de> SeqAccess<'de> for &mut BytesSequence<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.0.next().map(|&byte| seed.deserialize(Value::from(byte))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The variant of an enum and its content: the only entry of a map.
impl<'de> EnumAccess<'de> for &mut MessagePackReader<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let variant = seed.deserialize(MapKey { reader: &mut *self, likely: "" })?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for &mut MessagePackReader<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("", fields, visitor)
    }
}

/// The key of a map's entry: a string, from which integers, floats and booleans can be read as in JSON. Other writers
/// send such keys without conversion to strings; they are read as their text.
struct MapKey<'r, 'de> {
    reader: &'r mut MessagePackReader<'de>,
    /// The key that it probably is. It is known to be UTF-8, so it is not checked again.
    likely: &'static str,
}

impl<'de> MapKey<'_, 'de> {
    /// A name that is not the likely one. Where it is inlined, it makes the loop over the fields of a struct slower.
    #[inline(never)]
    fn unlikely<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}

macro_rules! numeric_keys {
    ($($method:ident: $type:ty => $visit:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(number_in_key::<$type>(&self.reader.key()?)?)
        })*
    };
}

macro_rules! integer_keys {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = number_in_key::<Number>(&self.reader.key()?)?;
            number.deserialize_any(visitor)
        })*
    };
}

/// As serde_json reads it between quotes: without spaces, and with nothing after it.
fn number_in_key<T: serde_core::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || first == '-') || text.ends_with(char::is_whitespace) {
        return Err(Error::custom(KEY_IS_NO_NUMBER));
    }
    serde_json::from_str(text)
}

impl<'de> Deserializer<'de> for MapKey<'_, 'de> {
    type Error = Error;

    integer_keys! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f64
    }

    numeric_keys! {
        deserialize_i128: i128 => visit_i128, deserialize_u128: u128 => visit_u128, deserialize_f32: f32 => visit_f32
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(text) = self.reader.tokens.short_str() {
            self.reader.check(text)?;
            return visitor.visit_borrowed_str(text);
        }
        match self.reader.key()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &*self.reader.key()? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => Err(Error::invalid_type(Unexpected::Str(other), &visitor)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bytes(self.reader.key()?.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.reader.key()?.into_deserializer().deserialize_enum(name, variants, visitor)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.reader.tokens.take_name(self.likely) {
            return visitor.visit_borrowed_str(self.likely);
        }
        self.unlikely(visitor)
    }

    serde_core::forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct ignored_any
    }
}
