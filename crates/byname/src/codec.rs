//! Values to bytes and back. JSON for now; MessagePack has its place beside it.

mod exact;
mod finite;

use std::borrow::Cow;
use std::marker::PhantomData;

use serde_core::Serialize;
use serde_core::de::{DeserializeOwned, DeserializeSeed};
use serde_json::de::SliceRead;

use self::exact::Exact;
use self::finite::Finite;
pub(crate) use self::finite::Shape;

/// Appends `value` as JSON. NaN and infinities are an error, where serde_json alone would write `null`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    value.serialize(Finite::new(&mut serde_json::Serializer::new(out))).map_err(|error| error.to_string())
}

/// As [`encode`], for what a function returned: of a `Result`, under whatever name, the inside is written and the
/// answer says which side it was. So an error never goes out as `{"ret": {"Err": …}}`.
pub(crate) fn encode_returned<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<Shape, String> {
    let shape = std::cell::Cell::new(Shape::Value);
    value
        .serialize(Finite::watching(&mut serde_json::Serializer::new(out), &shape))
        .map_err(|error| error.to_string())?;
    Ok(shape.get())
}

/// Reads one JSON value that fills `text` whole. An integer is never rounded, unless for who asks for a float.
pub(crate) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    read(text, &mut serde_json::Deserializer::from_slice(text), PhantomData::<T>)
        .map_err(|error| without_position(&error.to_string()).into_owned())
}

/// As [`decode`], of the deserializer of `text`.
pub(crate) fn read<'de, S: DeserializeSeed<'de>>(
    text: &[u8],
    json: &mut serde_json::Deserializer<SliceRead<'de>>,
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    let value = match wide_integers(text) {
        wide if wide.is_empty() => seed.deserialize(&mut *json)?,
        wide => seed.deserialize(Exact::new(&mut *json, &wide))?,
    };
    json.end().map(|()| value)
}

/// The longest message about a value that is said whole, in bytes: it may quote the value.
const LONGEST: usize = 500;

/// What serde_json says of a value, without the line and column inside the slice that it was given, which mean nothing
/// to a caller.
pub(crate) fn without_position(message: &str) -> Cow<'_, str> {
    let message = match message.rfind(" at line ") {
        Some(at) if message[at..].contains(" column ") => &message[..at],
        _ => message,
    };
    match message.len() {
        ..=LONGEST => message.into(),
        _ => format!("{}…", &message[..message.floor_char_boundary(LONGEST)]).into(),
    }
}

/// Whether arrays and objects in `text` are nested deeper than `limit`. Brackets in strings don't count.
///
/// serde_json checks the depth of what it builds, but skips over ignored and raw values unchecked.
pub(crate) fn deeper_than(limit: usize, text: &[u8]) -> bool {
    // Hardly any text has so many brackets, and memchr looks at many bytes at once.
    if text.len() <= limit || memchr::memchr2_iter(b'[', b'{', text).nth(limit).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The integers in `text` that fit neither an `i64` nor a `u64`, as the bits of the floats that serde_json makes of
/// them, in order.
fn wide_integers(text: &[u8]) -> Vec<u64> {
    let mut wide = Vec::new();
    if !has_long_number(text) {
        return wide;
    }
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let length = match first {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => {
                let numeric = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = rest.iter().position(|byte| !numeric(byte)).unwrap_or(rest.len());
                let number = std::str::from_utf8(&rest[..length]).unwrap_or_default();
                let integer = !number.contains(['.', 'e', 'E']);
                if integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    wide.extend(number.parse().map(f64::to_bits));
                }
                length
            }
            _ => 1,
        };
        rest = &rest[length..];
    }
    wide.sort_unstable();
    wide.dedup();
    wide
}

/// Whether there are digits in `text`, in a string or not, for an integer beyond 64 bits: 19 behind a minus, or 20.
fn has_long_number(text: &[u8]) -> bool {
    const LEAST: usize = 19;
    // So many digits in a row are met by looking at one byte in so many.
    let mut at = LEAST - 1;
    while let Some(byte) = text.get(at) {
        if byte.is_ascii_digit() {
            let start = text[..at].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |before| before + 1);
            let end = text[at..].iter().position(|byte| !byte.is_ascii_digit()).map_or(text.len(), |more| at + more);
            let long = match text[..start].last() {
                Some(b'-') => LEAST,
                Some(b'.') => usize::MAX,
                _ => LEAST + 1,
            };
            if end - start >= long {
                return true;
            }
            at = end;
        }
        at += LEAST;
    }
    false
}

/// The length of the string that `text` begins with, with its quotes.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => *byte == b'"',
    });
    end.map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    fn json<T: Serialize>(value: T) -> Result<String, String> {
        let mut out = Vec::new();
        encode(&value, &mut out).map(|()| String::from_utf8(out).expect("JSON is UTF-8"))
    }

    #[test]
    fn numbers_that_json_cannot_hold_are_refused_wherever_they_are() {
        #[derive(Serialize)]
        struct Point {
            x: f64,
            name: Option<(f32, &'static str)>,
        }
        assert_eq!(json(Point { x: 1.5, name: None }).unwrap(), r#"{"x":1.5,"name":null}"#);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(json(bad).is_err());
            assert!(json(vec![Some(bad)]).is_err());
            assert!(json(std::collections::BTreeMap::from([("a", bad)])).is_err());
            assert!(json(Ok::<f64, ()>(bad)).is_err());
            assert!(json(Point { x: bad, name: None }).is_err());
        }
        let why = json(Point { x: 0.0, name: Some((f32::NAN, "")) }).unwrap_err();
        assert!(why.contains("NaN"), "{why}");
    }

    #[test]
    fn what_serde_json_writes_is_written() {
        #[derive(Serialize)]
        enum Shapes {
            Unit,
            New(u8),
            Tuple(u8, i8),
            Struct { a: u128 },
        }
        let all = (Shapes::Unit, Shapes::New(1), Shapes::Tuple(2, -3), Shapes::Struct { a: u128::MAX });
        assert_eq!(json(&all).unwrap(), serde_json::to_string(&all).unwrap());
        let odd = ("é\u{0}\"", 'c', (), Some(-1i64), u64::MAX, 0.1f32, std::collections::BTreeMap::from([(7, true)]));
        assert_eq!(json(&odd).unwrap(), serde_json::to_string(&odd).unwrap());
        let raw = serde_json::value::RawValue::from_string(r#"{"a": 1e2}"#.into()).unwrap();
        assert_eq!(json(&raw).unwrap(), r#"{"a": 1e2}"#);
    }

    #[test]
    fn a_result_is_seen_through_any_name() {
        type Sneaky = Result<u8, String>;
        let returned = |value: Sneaky| {
            let mut out = Vec::new();
            let shape = encode_returned(&value, &mut out).unwrap();
            (shape, String::from_utf8(out).unwrap())
        };
        assert_eq!(returned(Ok(1)), (Shape::Ok, "1".into()));
        assert_eq!(returned(Err("no".into())), (Shape::Err, r#""no""#.into()));

        let mut out = Vec::new();
        let ours: Result<(), crate::Error> = Err(crate::Error::new(crate::Code::NotFound, "x"));
        assert_eq!(encode_returned(&ours, &mut out).unwrap(), Shape::Ours);
        assert_eq!(encode_returned(&vec![Ok::<u8, ()>(1)], &mut Vec::new()).unwrap(), Shape::Value, "only at the top");
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        assert!(!deeper_than(2, b"[[1],[2],{\"a\":3}]"));
        assert!(deeper_than(2, b"[[[1]]]"));
        assert!(!deeper_than(1, br#"["[[[[", "\"[[["]"#));
        assert!(deeper_than(128, &[b'['; 100_000]));
    }

    #[test]
    fn wide_integers_are_found_wherever_they_are() {
        let found = |text: &str| wide_integers(text.as_bytes()).into_iter().map(f64::from_bits).collect::<Vec<f64>>();
        let none: [f64; 0] = [];
        for pad in 0..60 {
            let pad = " ".repeat(pad);
            for wide in ["18446744073709551616", "-9223372036854775809", &"1".repeat(100)] {
                for text in [format!("{pad}{wide}"), format!("{pad}[{pad}0.5,{wide},{wide}]{pad}")] {
                    assert_eq!(found(&text), [wide.parse::<f64>().unwrap()], "{text}");
                }
                assert_eq!(found(&format!(r#"{pad}"{wide}\\\"{wide}"{pad}{wide}.0"#)), none, "{wide}");
            }
            for fits in ["18446744073709551615", "-9223372036854775808", "9223372036854775808"] {
                assert_eq!(found(&format!("{pad}{fits},{fits}{pad}")), none, "{fits}");
            }
        }
        assert_eq!(found(r#"["\\",-18446744073709551616,18446744073709551616"#), [2f64.powi(64), -(2f64.powi(64))]);
        for broken in
            [r#""18446744073709551616"#, r#""18446744073709551616\"#, "--9223372036854775809", "1-18446744073709551616"]
        {
            assert_eq!(found(broken), none, "{broken}");
        }
    }

    #[test]
    fn no_wide_integer_is_missed_by_looking_at_some_bytes() {
        use proptest::prelude::*;
        proptest!(|(parts in proptest::collection::vec((0..30usize, "[-., \"ae]"), 0..12))| {
            let text: String = parts.iter().map(|(digits, other)| "7".repeat(*digits) + other).collect();
            let before = parts.iter().map(|(_, other)| other.as_str());
            let long = std::iter::once("").chain(before).zip(&parts).any(|(before, (digits, _))| match before {
                "." => false,
                "-" => *digits >= 19,
                _ => *digits >= 20,
            });
            prop_assert_eq!(has_long_number(text.as_bytes()), long, "{}", text);
        });
    }
}
