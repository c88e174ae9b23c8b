//! Our extension types of MessagePack: integers of more than 64 bits, numbers with every digit, arrays of bytes.

use serde_json::Error;

use super::value_format::most;

/// The extension type of an integer of more than 64 bits: two's complement, the highest byte first, in 17 bytes.
pub(super) const WIDE: u8 = 1;

/// The extension type of a number as JSON text, for digits that no other form keeps.
pub(super) const DIGITS: u8 = 2;

/// The extension type of an array of numbers from 0 to 255, one byte each. Types other than
/// [`Bytes`](crate::codec::Bytes) that serialize bytes are written so. In JSON they are an array, while
/// [`Bytes`](crate::codec::Bytes) are text.
pub(super) const OCTETS: u8 = 3;

/// An integer of more than 64 bits. `bytes` are its lowest 128 bits.
pub(in crate::codec) fn write_wide(negative: bool, bytes: [u8; 16], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xc7, 17, WIDE, if negative { 0xff } else { 0 }]);
    out.extend_from_slice(&bytes);
}

/// A number as JSON text, with every digit.
pub(in crate::codec) fn write_digits(number: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    write_extension(DIGITS, number.as_bytes(), out)
}

pub(super) fn write_extension(kind: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
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
