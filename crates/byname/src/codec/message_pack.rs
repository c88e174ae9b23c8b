//! The part of MessagePack that corresponds to JSON: keys of maps are strings, structs are maps by field name, enums
//! are tagged as in JSON. So the receiver gets the same value in either codec.
//!
//! Values that are the same in JSON are the same here. Bytes arrive as an array of numbers, unless the type is `Bytes`.
//! An `f32` that is read as an `f64` is the number that JSON would show. An integer of more than 64 bits is an
//! extension. So is a number whose digits differ from the digits that its `f64` would show.

mod extension_types;
mod read;
mod token;
mod value_format;
mod write;

use serde_core::Serialize;

pub(super) use self::extension_types::{write_digits, write_wide};
pub(crate) use self::read::MessagePackReader;
pub(super) use self::read::{deeper_than, entries, items};
pub(super) use self::token::{Token, TokenReader};
pub(crate) use self::value_format::{LengthKind, set_length, write_str};
pub(super) use self::value_format::{write_f32, write_f64, write_signed, write_unsigned};
pub(super) use self::write::MessagePackWriter;
use super::finite_floats::FiniteFloats;

/// How deep a reply may be nested. serde_json has the same limit, so both codecs accept the same replies.
pub(super) const DEEPEST: usize = 127;

/// Appends `value`.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    value.serialize(FiniteFloats::new(MessagePackWriter::new(out)))
}
