//! From one codec to the other, without types. Every digit is kept, or it is an error.

use serde_core::Serialize;
use serde_core::de::Error as _;
use serde_json::Error;
use serde_json::value::RawValue;

use super::bytes::in_base64;
use super::json_scan::string_length;
use super::message_pack::{
    LengthKind, Token, TokenReader, set_length, write_digits, write_f32, write_f64, write_signed, write_str,
    write_unsigned, write_wide,
};

/// The deepest value that is converted: far deeper than any limit of calls, but a bound for hostile input.
const DEEPEST: usize = 10_000;

/// One value of MessagePack, which fills `bytes`, to JSON.
pub(super) fn to_json(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = TokenReader::new(bytes);
    let mut out = Vec::with_capacity(bytes.len() * 2);
    // For each open array or map: how many items are to come, and whether they have keys.
    let mut open: Vec<(usize, bool)> = Vec::new();
    loop {
        match reader.token()? {
            Token::Array(length) => {
                out.push(b'[');
                open.push((length, false));
            }
            Token::Map(entries) => {
                out.push(b'{');
                open.push((entries, true));
            }
            Token::Nil => out.extend_from_slice(b"null"),
            Token::Bool(value) => serde_json::to_writer(&mut out, &value)?,
            Token::Unsigned(value) => serde_json::to_writer(&mut out, &value)?,
            Token::Negative(value) => serde_json::to_writer(&mut out, &value)?,
            Token::Wide(value) => serde_json::to_writer(&mut out, &value)?,
            Token::NegativeWide(value) => serde_json::to_writer(&mut out, &value)?,
            Token::Single(value) => serde_json::to_writer(&mut out, &value)?,
            Token::Double(value) => serde_json::to_writer(&mut out, &value)?,
            Token::Digits(text) => out.extend_from_slice(text.as_bytes()),
            Token::Str(text) => serde_json::to_writer(&mut out, text)?,
            Token::Bytes(bytes) => serde_json::to_writer(&mut out, &in_base64(bytes))?,
            Token::Octets(bytes) => serde_json::to_writer(&mut out, bytes)?,
        }
        too_deep(open.len())?;
        loop {
            match open.last_mut() {
                None => return reader.end().map(|()| out),
                Some((0, keyed)) => {
                    out.push(if *keyed { b'}' } else { b']' });
                    open.pop();
                }
                Some((left, keyed)) => {
                    *left -= 1;
                    // No value ends with one of these bytes.
                    if !matches!(out.last(), Some(b'[' | b'{')) {
                        out.push(b',');
                    }
                    if *keyed {
                        serde_json::to_writer(&mut out, &*reader.any_key()?)?;
                        out.push(b':');
                    }
                    break;
                }
            }
        }
    }
}

/// One value of JSON, which fills `text`, to MessagePack.
pub(super) fn to_message_pack(text: &[u8]) -> Result<Vec<u8>, Error> {
    // From here on it is known to be JSON.
    let json = serde_json::from_slice::<&RawValue>(text)?.get();
    let mut out = Vec::with_capacity(json.len());
    // For each open array or map: where it begins, and how many items it has so far.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut rest = json;
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'[' | b'{' => {
                let kind = if first == b'[' { LengthKind::Array } else { LengthKind::Map };
                open.push((out.len(), 0));
                too_deep(open.len())?;
                kind.begin(0, &mut out);
                1
            }
            b']' | b'}' => {
                let kind = if first == b']' { LengthKind::Array } else { LengthKind::Map };
                let Some((start, behind)) = open.pop() else {
                    return Err(Error::custom("a bracket too many"));
                };
                if out.len() > start + 1 {
                    set_length(&mut out, start, kind, 0, behind + 1);
                }
                1
            }
            b',' => {
                if let Some((_, behind)) = open.last_mut() {
                    *behind += 1;
                }
                1
            }
            b'"' => {
                let length = string_length(rest.as_bytes());
                match &rest[1..length - 1] {
                    plain if !plain.contains('\\') => write_str(plain, &mut out),
                    _ => write_str(&serde_json::from_str::<String>(&rest[..length])?, &mut out),
                }
                length
            }
            b'-' | b'0'..=b'9' => {
                let numeric = |byte: u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = rest.bytes().position(|byte| !numeric(byte)).unwrap_or(rest.len());
                number(&rest[..length], &mut out)?;
                length
            }
            b't' => {
                out.push(0xc3);
                "true".len()
            }
            b'f' => {
                out.push(0xc2);
                "false".len()
            }
            b'n' => {
                out.push(0xc0);
                "null".len()
            }
            _ => 1,
        };
        rest = &rest[length..];
    }
    Ok(out)
}

fn number(text: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    // serde_json also treats a minus zero as a float.
    if !text.contains(['.', 'e', 'E']) && text != "-0" {
        if let Ok(value) = text.parse() {
            write_unsigned(value, out);
        } else if let Ok(value) = text.parse() {
            write_signed(value, out);
        } else if let Ok(value) = text.parse::<u128>() {
            write_wide(false, value.to_be_bytes(), out);
        } else if let Ok(value) = text.parse::<i128>() {
            write_wide(true, value.to_be_bytes(), out);
        } else {
            return write_digits(text, out);
        }
        return Ok(());
    }
    // A float is used only if it would be shown with the same digits: 1.50 differs from 1.5 for a caller that counts in
    // cents.
    match (text.parse::<f64>(), text.parse::<f32>()) {
        (Ok(value), _) if is_shown_as(&value, text) => write_f64(value, out),
        (_, Ok(value)) if is_shown_as(&value, text) => write_f32(value, out),
        _ => return write_digits(text, out),
    }
    Ok(())
}

/// Whether JSON shows a float as this text.
fn is_shown_as<T: Serialize>(value: &T, text: &str) -> bool {
    let mut shown = std::io::Cursor::new([0; 32]);
    let written = serde_json::to_writer(&mut shown, value).is_ok();
    written && shown.get_ref().get(..shown.position() as usize) == Some(text.as_bytes())
}

fn too_deep(open: usize) -> Result<(), Error> {
    if open <= DEEPEST {
        return Ok(());
    }
    Err(Error::custom(format_args!("arrays and objects are nested deeper than {DEEPEST}; send them flatter")))
}
