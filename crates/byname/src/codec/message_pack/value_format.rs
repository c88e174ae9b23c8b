//! How MessagePack encodes each kind of value: the first bytes and the lengths.

use serde_core::ser::Error as _;
use serde_json::Error;

use crate::codec::encoded_parts;

/// The kinds of values that begin with a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LengthKind {
    Str,
    Array,
    Map,
}

impl LengthKind {
    /// The first byte of an empty value.
    pub(super) const fn empty(self) -> u8 {
        match self {
            LengthKind::Str => 0xa0,
            LengthKind::Array => 0x90,
            LengthKind::Map => 0x80,
        }
    }

    /// The greatest length that fits into the first byte.
    const fn short(self) -> usize {
        match self {
            LengthKind::Str => 31,
            LengthKind::Array | LengthKind::Map => 15,
        }
    }

    /// The first bytes for lengths in one, in two and in four bytes.
    const fn long(self) -> (Option<u8>, u8, u8) {
        match self {
            LengthKind::Str => (Some(0xd9), 0xda, 0xdb),
            LengthKind::Array => (None, 0xdc, 0xdd),
            LengthKind::Map => (None, 0xde, 0xdf),
        }
    }

    /// Appends the beginning of a value. [`most`] has checked the length before.
    #[inline]
    pub(crate) fn begin(self, length: usize, out: &mut Vec<u8>) {
        if length <= self.short() {
            out.push(self.empty() | length as u8);
        } else {
            self.begin_long(length, out);
        }
    }

    fn begin_long(self, length: usize, out: &mut Vec<u8>) {
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
pub(super) fn most(length: usize) -> Result<usize, Error> {
    match u32::try_from(length) {
        Ok(_) => Ok(length),
        Err(_) => Err(Error::custom("it is longer than 4 GiB, the most that MessagePack can hold")),
    }
}

/// Changes the length of the value at `start`, which was begun with another length.
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
    encoded_parts::moved(out, start, before.len(), after.len());
    out.splice(start..start + before.len(), after);
}

/// Appends a string of at most 4 GiB.
#[inline]
pub(crate) fn write_str(text: &str, out: &mut Vec<u8>) {
    LengthKind::Str.begin(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// As [`write_str`], for a name that is known at compile time, so that it is copied in one piece of known length.
#[inline(always)]
pub(super) fn write_name(name: &'static str, out: &mut Vec<u8>) {
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

/// Appends an integer in its shortest form.
#[inline]
pub(in crate::codec) fn write_unsigned(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0x7f => out.push(value as u8),
        _ => write_long_unsigned(value, out),
    }
}

fn write_long_unsigned(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
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
        // Both have the byte of the integer itself.
        -32..=0x7f => out.push(value as u8),
        0x80.. => write_long_unsigned(value as u64, out),
        _ => write_long_negative(value, out),
    }
}

fn write_long_negative(value: i64, out: &mut Vec<u8>) {
    match value {
        -0x80.. => out.extend_from_slice(&[0xd0, value as u8]),
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

/// Appends a finite float.
#[inline]
pub(in crate::codec) fn write_f32(value: f32, out: &mut Vec<u8>) {
    let [a, b, c, d] = value.to_be_bytes();
    out.extend_from_slice(&[0xca, a, b, c, d]);
}

/// Appends a finite float.
#[inline]
pub(in crate::codec) fn write_f64(value: f64, out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    out.extend_from_slice(&[0xcb, a, b, c, d, e, f, g, h]);
}
