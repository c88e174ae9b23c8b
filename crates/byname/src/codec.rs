//! Values to bytes and back. JSON for now; MessagePack has its place beside it.

mod finite;

use serde::Serialize;
use serde::de::DeserializeOwned;

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

/// Reads one JSON value that fills `text` whole.
pub(crate) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| without_position(&error.to_string()).to_owned())
}

/// serde_json counts lines and columns inside the slice that it was given, which means nothing to a caller.
pub(crate) fn without_position(message: &str) -> &str {
    match message.rfind(" at line ") {
        Some(at) if message[at..].contains(" column ") => &message[..at],
        _ => message,
    }
}

/// Whether arrays and objects in `text` are nested deeper than `limit`. Brackets in strings don't count.
///
/// serde_json checks the depth of what it builds, but skips over ignored and raw values unchecked.
pub(crate) fn deeper_than(limit: usize, text: &[u8]) -> bool {
    let opening = |byte: &&u8| matches!(byte, b'[' | b'{');
    if text.len() <= limit || text.iter().filter(opening).count() <= limit {
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

#[cfg(test)]
mod tests {
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
}
