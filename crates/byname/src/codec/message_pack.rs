//! MessagePack, as far as JSON has the same: maps have strings for keys, structs are maps by field name, enums are tagged
//! as in JSON. So a value is the same to whoever receives it, whichever codec it came in.
//!
//! What JSON can't tell apart is one thing here too: what a type writes as bytes is an array of numbers to whoever receives
//! it, unless the type is `Bytes`, and an `f32` by whoever takes an `f64`, as the number that JSON would show. An integer of more than 64 bits is
//! an extension, and so is a number that has other digits than its `f64` would show.

mod read;
mod write;

use serde_core::Serialize;

pub(crate) use self::read::MessagePackReader;
pub(super) use self::read::{Token, deeper_than, entries};
pub(super) use self::write::MessagePackWriter;
pub(crate) use self::write::{LengthKind, set_length, write_str};
pub(super) use self::write::{write_digits, write_f32, write_f64, write_signed, write_unsigned, write_wide};
use super::finite_floats::FiniteFloats;

/// How deep a reply may be nested: where serde_json stops, so that both are read or neither.
pub(super) const DEEPEST: usize = 127;

/// The extension type of an integer of more than 64 bits: two's complement, the highest byte first, in 17 bytes.
const WIDE: u8 = 1;

/// The extension type of a number as JSON has it: for digits that nothing else keeps.
const DIGITS: u8 = 2;

/// The extension type of an array of numbers from 0 to 255, a byte each: what types other than [`Bytes`](super::Bytes)
/// write as bytes. In JSON it is an array, where [`Bytes`](super::Bytes) are text.
const OCTETS: u8 = 3;

/// Appends `value`.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    value.serialize(FiniteFloats::new(MessagePackWriter::new(out)))
}
