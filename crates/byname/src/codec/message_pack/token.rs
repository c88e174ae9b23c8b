//! Splits MessagePack into tokens, without types.

use std::borrow::Cow;

use serde_core::de::{Error as _, Unexpected};
use serde_json::Error;
use serde_json::value::RawValue;

use super::extension_types::{DIGITS, OCTETS, WIDE};
use crate::codec::finite_floats;
use crate::codec::serde_json_internals::{KEY_IS_NO_STRING, TRAILING_CHARACTERS};

/// Reads bytes from their beginning, one token at a time.
pub(in crate::codec) struct TokenReader<'de> {
    pub(super) rest: &'de [u8],
    /// Whether an error has occurred, after which the start of the next value is unknown.
    pub(super) lost: bool,
}

/// The beginning of a value. Except for arrays and maps, it is the whole value.
#[derive(Debug)]
pub(in crate::codec) enum Token<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    /// An integer greater than a `u64` holds.
    Wide(u128),
    /// An integer less than an `i64` holds.
    NegativeWide(i128),
    Single(f32),
    Double(f64),
    /// A number as JSON text.
    Digits(&'de str),
    Str(&'de str),
    /// Base64 text in JSON.
    Bytes(&'de [u8]),
    /// An array of numbers in JSON.
    Octets(&'de [u8]),
    /// Its number of items.
    Array(usize),
    /// Its number of entries.
    Map(usize),
}

/// A short string, and zeros behind it. The standard library checks aligned text several bytes at once, and a string lies
/// anywhere in its message: a copy and its check take less time than the check of most strings where they are.
#[derive(Default)]
#[repr(align(8))]
pub(super) struct AlignedCopy([u8; 32]);

/// An integer of at most 64 bits.
pub(super) enum MessagePackInteger {
    Unsigned(u64),
    Negative(i64),
}

pub(super) const EMPTY_MAP: u8 = 0x80;
pub(super) const EMPTY_ARRAY: u8 = 0x90;

impl<'de> TokenReader<'de> {
    pub(in crate::codec) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, lost: false }
    }

    pub(in crate::codec) fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(trailing()) }
    }

    /// Reads the beginning of the next value.
    pub(in crate::codec) fn token(&mut self) -> Result<Token<'de>, Error> {
        let Some((&marker, rest)) = self.rest.split_first() else {
            return Err(self.too_short());
        };
        self.rest = rest;
        Ok(match marker {
            0x00..=0x7f => Token::Unsigned(marker.into()),
            0x80..=0x8f => Token::Map((marker & 0x0f).into()),
            0x90..=0x9f => Token::Array((marker & 0x0f).into()),
            0xa0..=0xbf => self.str((marker & 0x1f).into())?,
            0xc0 => Token::Nil,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => Token::Bytes(self.u8().and_then(|length| self.bytes(length.into()))?),
            0xc5 => Token::Bytes(self.u16().and_then(|length| self.bytes(length.into()))?),
            0xc6 => Token::Bytes(self.u32().and_then(|length| self.bytes(length as usize))?),
            0xca => {
                let value = f32::from_bits(self.u32()?);
                self.finite(value.into())?;
                Token::Single(value)
            }
            0xcb => {
                let value = f64::from_bits(self.u64()?);
                self.finite(value)?;
                Token::Double(value)
            }
            0xcc => Token::Unsigned(self.u8()?.into()),
            0xcd => Token::Unsigned(self.u16()?.into()),
            0xce => Token::Unsigned(self.u32()?.into()),
            0xcf => Token::Unsigned(self.u64()?),
            0xd0 => signed((self.u8()? as i8).into()),
            0xd1 => signed((self.u16()? as i16).into()),
            0xd2 => signed((self.u32()? as i32).into()),
            0xd3 => signed(self.u64()? as i64),
            0xd9 => self.u8().and_then(|length| self.str(length.into()))?,
            0xda => self.u16().and_then(|length| self.str(length.into()))?,
            0xdb => self.u32().and_then(|length| self.str(length as usize))?,
            0xdc => Token::Array(self.u16()?.into()),
            0xdd => Token::Array(self.u32()? as usize),
            0xde => Token::Map(self.u16()?.into()),
            0xdf => Token::Map(self.u32()? as usize),
            0xe0.. => Token::Negative((marker as i8).into()),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return self.extension(marker),
        })
    }

    /// An integer of at most 64 bits, if it comes next. [`token`](Self::token) gives the same result in more steps.
    #[inline]
    pub(super) fn integer(&mut self) -> Option<MessagePackInteger> {
        match self.rest {
            [value @ 0..=0x7f, rest @ ..] => {
                self.rest = rest;
                Some(MessagePackInteger::Unsigned((*value).into()))
            }
            _ => self.long_integer(),
        }
    }

    fn long_integer(&mut self) -> Option<MessagePackInteger> {
        let (&marker, rest) = self.rest.split_first()?;
        let (value, rest): (i64, _) = match marker {
            0xe0..=0xff => ((marker as i8).into(), rest),
            0xcc => number(rest, |bytes| u8::from_be_bytes(bytes).into())?,
            0xcd => number(rest, |bytes| u16::from_be_bytes(bytes).into())?,
            0xce => number(rest, |bytes| u32::from_be_bytes(bytes).into())?,
            0xcf => {
                let (value, rest) = number(rest, u64::from_be_bytes)?;
                self.rest = rest;
                return Some(MessagePackInteger::Unsigned(value));
            }
            0xd0 => number(rest, |bytes| i8::from_be_bytes(bytes).into())?,
            0xd1 => number(rest, |bytes| i16::from_be_bytes(bytes).into())?,
            0xd2 => number(rest, |bytes| i32::from_be_bytes(bytes).into())?,
            0xd3 => number(rest, i64::from_be_bytes)?,
            _ => return None,
        };
        self.rest = rest;
        Some(u64::try_from(value).map_or(MessagePackInteger::Negative(value), MessagePackInteger::Unsigned))
    }

    /// A string of at most 255 bytes, if one comes next; see [`integer`](Self::integer).
    #[inline]
    pub(super) fn short_str(&mut self) -> Option<&'de str> {
        let (length, rest) = match self.rest {
            [marker @ 0xa0..=0xbf, rest @ ..] => (marker & 0x1f, rest),
            [0xd9, length, rest @ ..] => (*length, rest),
            _ => return None,
        };
        let (bytes, rest) = rest.split_at_checked(length.into())?;
        let text = std::str::from_utf8(bytes).ok()?;
        self.rest = rest;
        Some(text)
    }

    /// As [`short_str`](Self::short_str), for a string of at most 31 bytes that is copied anyway.
    #[inline]
    pub(super) fn copied_str<'c>(&mut self, copy: &'c mut AlignedCopy) -> Option<&'c str> {
        let [marker @ 0xa0..=0xbf, rest @ ..] = self.rest else {
            return None;
        };
        let (bytes, rest) = rest.split_at_checked((marker & 0x1f).into())?;
        copy.0[..bytes.len()].copy_from_slice(bytes);
        let text = str::from_utf8(&copy.0).ok()?.get(..bytes.len())?;
        self.rest = rest;
        Some(text)
    }

    /// Skips a string if it comes next and has this value.
    #[inline]
    pub(super) fn take_name(&mut self, name: &str) -> bool {
        let [marker @ 0xa0..=0xbf, rest @ ..] = self.rest else {
            return false;
        };
        if usize::from(marker & 0x1f) != name.len() {
            return false;
        }
        match rest.split_at_checked(name.len()) {
            Some((text, rest)) if is_name(text, name.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// The length of an array or a map of at most 15 items, if one comes next; see [`integer`](Self::integer).
    #[inline]
    pub(super) fn short(&mut self, empty: u8) -> Option<usize> {
        match self.rest {
            [marker, rest @ ..] if marker & 0xf0 == empty => {
                self.rest = rest;
                Some((marker & 0x0f).into())
            }
            _ => None,
        }
    }

    #[cold]
    fn extension(&mut self, marker: u8) -> Result<Token<'de>, Error> {
        let length = match marker {
            0xc7 => Some(self.u8()?.into()),
            0xc8 => Some(self.u16()?.into()),
            0xc9 => Some(self.u32()? as usize),
            0xd4..=0xd8 => Some(1 << (marker - 0xd4)),
            _ => None,
        };
        if let Some(length) = length {
            let (kind, bytes) = (self.u8()?, self.bytes(length)?);
            let token = match kind {
                WIDE => wide(bytes),
                DIGITS => digits(bytes),
                OCTETS => Some(Token::Octets(bytes)),
                _ => None,
            };
            if let Some(token) = token {
                return Ok(token);
            }
        }
        Err(self.lose(format_args!("0x{marker:02x} begins no MessagePack value that JSON has too")))
    }

    #[cold]
    pub(super) fn lose(&mut self, why: impl std::fmt::Display) -> Error {
        self.lost = true;
        Error::custom(why)
    }

    #[cold]
    fn too_short(&mut self) -> Error {
        self.lose("the MessagePack ends in the middle of a value")
    }

    fn finite(&mut self, value: f64) -> Result<(), Error> {
        if value.is_finite() { Ok(()) } else { Err(finite_floats::not_finite(value)) }
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        match self.rest.split_first_chunk() {
            Some((chunk, rest)) => {
                self.rest = rest;
                Ok(*chunk)
            }
            None => Err(self.too_short()),
        }
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.chunk().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn bytes(&mut self, length: usize) -> Result<&'de [u8], Error> {
        match self.rest.split_at_checked(length) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.too_short()),
        }
    }

    fn str(&mut self, length: usize) -> Result<Token<'de>, Error> {
        let bytes = self.bytes(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Token::Str(text)),
            Err(_) => Err(Error::custom("a string is not UTF-8")),
        }
    }

    /// The key of a map's entry, of any type.
    #[inline]
    pub(in crate::codec) fn any_key(&mut self) -> Result<Cow<'de, str>, Error> {
        if let Some(text) = self.short_str() {
            return Ok(Cow::Borrowed(text));
        }
        self.unusual_key()
    }

    fn unusual_key(&mut self) -> Result<Cow<'de, str>, Error> {
        match self.token()? {
            Token::Str(text) => Ok(Cow::Borrowed(text)),
            token => token.into_key().ok_or_else(|| self.lose(KEY_IS_NO_STRING)),
        }
    }
}

impl<'de> Token<'de> {
    pub(super) fn unexpected(&self) -> Unexpected<'_> {
        match *self {
            Token::Nil => Unexpected::Unit,
            Token::Bool(value) => Unexpected::Bool(value),
            Token::Unsigned(value) => Unexpected::Unsigned(value),
            Token::Negative(value) => Unexpected::Signed(value),
            Token::Wide(value) => Unexpected::Float(value as f64),
            Token::NegativeWide(value) => Unexpected::Float(value as f64),
            Token::Single(value) => Unexpected::Float(as_shown(value)),
            Token::Double(value) => Unexpected::Float(value),
            Token::Digits(text) => Unexpected::Other(text),
            Token::Str(text) => Unexpected::Str(text),
            Token::Bytes(bytes) => Unexpected::Bytes(bytes),
            Token::Octets(_) | Token::Array(_) => Unexpected::Seq,
            Token::Map(_) => Unexpected::Map,
        }
    }

    /// The text of a key. Integers and booleans are converted, as in JSON.
    pub(in crate::codec) fn into_key(self) -> Option<Cow<'de, str>> {
        Some(match self {
            Token::Str(text) => Cow::Borrowed(text),
            Token::Bool(value) => Cow::Owned(value.to_string()),
            Token::Unsigned(value) => Cow::Owned(value.to_string()),
            Token::Negative(value) => Cow::Owned(value.to_string()),
            Token::Wide(value) => Cow::Owned(value.to_string()),
            Token::NegativeWide(value) => Cow::Owned(value.to_string()),
            _ => return None,
        })
    }
}

/// The number at the beginning of `rest`, and what is behind it.
#[inline]
fn number<const N: usize, T>(rest: &[u8], read: impl FnOnce([u8; N]) -> T) -> Option<(T, &[u8])> {
    let (bytes, rest) = rest.split_first_chunk()?;
    Some((read(*bytes), rest))
}

/// Whether `text` is `name`, which has the same length. Most names are short, and a call of `memcmp` would take longer
/// than this.
#[inline]
fn is_name(text: &[u8], name: &[u8]) -> bool {
    /// Two pieces of this length hold the whole name, if it is at most twice as long. They may overlap.
    fn ends<const N: usize>(text: &[u8], name: &[u8]) -> bool {
        text.first_chunk::<N>() == name.first_chunk() && text.last_chunk::<N>() == name.last_chunk()
    }
    match name.len() {
        8.. => ends::<8>(text, name) && (name.len() <= 16 || text == name),
        4.. => ends::<4>(text, name),
        2.. => ends::<2>(text, name),
        _ => text.first() == name.first(),
    }
}

fn signed<'de>(value: i64) -> Token<'de> {
    u64::try_from(value).map_or(Token::Negative(value), Token::Unsigned)
}

fn wide<'de>(bytes: &[u8]) -> Option<Token<'de>> {
    let (&sign, low) = bytes.split_first()?;
    let low = low.try_into().ok()?;
    let (unsigned, signed) = (u128::from_be_bytes(low), i128::from_be_bytes(low));
    match sign {
        0 => Some(u64::try_from(unsigned).map_or(Token::Wide(unsigned), Token::Unsigned)),
        0xff if signed < 0 => Some(i64::try_from(signed).map_or(Token::NegativeWide(signed), Token::Negative)),
        _ => None,
    }
}

/// Text that is exactly one JSON number.
fn digits(bytes: &[u8]) -> Option<Token<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_number = matches!(bytes, [b'-' | b'0'..=b'9', ..]) && matches!(bytes, [.., b'0'..=b'9']);
    (is_number && serde_json::from_str::<&RawValue>(text).is_ok()).then_some(Token::Digits(text))
}

pub(super) fn trailing() -> Error {
    Error::custom(TRAILING_CHARACTERS)
}

/// The number that JSON shows for it: 0.1, not 0.10000000149011612. If two numbers are equally short and near, as for
/// -2123446.25, serde_json chooses.
pub(super) fn as_shown(value: f32) -> f64 {
    let mut text = std::io::Cursor::new([0; 32]);
    let shown = serde_json::to_writer(&mut text, &value).ok().and_then(|()| {
        let length = text.position() as usize;
        std::str::from_utf8(&text.get_ref()[..length]).ok()?.parse().ok()
    });
    // No float is longer than that, and text that serde_json writes can be read.
    shown.unwrap_or(value.into())
}
