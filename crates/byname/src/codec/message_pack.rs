//! MessagePack, as far as JSON has the same: maps have strings for keys, structs are maps by field name, enums are tagged
//! as in JSON. So the receiver gets the same value in either codec.
//!
//! What JSON does not distinguish is not distinguished here either. Bytes arrive as an array of numbers, unless the type is
//! `Bytes`. An `f32` that is read as an `f64` is the number that JSON would show. An integer of more than 64 bits is an
//! extension. A number whose digits differ from those that its `f64` would show is an extension too.

mod extension_types;
mod read;
mod token;
mod value_format;
mod write;

use serde_core::Serialize;

pub(super) use self::extension_types::{write_digits, write_wide};
pub(crate) use self::read::MessagePackReader;
pub(super) use self::read::{deeper_than, entries};
pub(super) use self::token::{Token, TokenReader};
pub(crate) use self::value_format::{LengthKind, set_length, write_str};
pub(super) use self::value_format::{write_f32, write_f64, write_signed, write_unsigned};
pub(super) use self::write::MessagePackWriter;
use super::finite_floats::FiniteFloats;

/// How deep a reply may be nested: where serde_json stops, so that both are read or neither.
pub(super) const DEEPEST: usize = 127;

/// Appends `value`.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    value.serialize(FiniteFloats::new(MessagePackWriter::new(out)))
}
