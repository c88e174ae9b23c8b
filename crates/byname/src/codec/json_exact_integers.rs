//! A wrapper around a deserializer that rejects the integers which would be rounded.
//!
//! serde_json passes an integer beyond `i64` and `u64` as an `f64` to a type that accepts any value, like
//! `serde_json::Value`. Its last digits are lost. Types that ask for an `f64`, an `i128` or a `u128` get it: JavaScript
//! writes the float 1e20 as 100000000000000000000.

use std::fmt;

use serde_core::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::decode_error_path::{ErrorPath, PathPart};
use super::serde_json_internals::{EXPECTED_VALUE, TRAILING_CHARACTERS, cut_position};

/// The message about an integer near `value`.
pub(super) fn rounded(value: f64) -> String {
    format!(
        "an integer near {value:e} needs more than 64 bits and would be rounded: send it as a string, or take it as an f64, \
         i128 or u128"
    )
}

/// Wraps a deserializer and all deserializers that it passes on.
///
/// A visitor does not learn how a float was written, so the check goes by its value: 18446744073709551617.0 is rejected
/// too if the same text contains 18446744073709551617.
///
/// With a path it also records where an error is. That allocates, so it is used only to read a value again after an
/// error.
pub(super) struct ExactIntegers<'w, T> {
    inner: T,
    /// The text's [`wide_integers`](super::json_scan).
    wide: &'w [u64],
    path: Option<&'w ErrorPath>,
    /// Whether the visitor accepts any value.
    any: bool,
}

impl<'w, T> ExactIntegers<'w, T> {
    pub(super) fn new(inner: T, wide: &'w [u64], path: Option<&'w ErrorPath>) -> Self {
        Self { inner, wide, path, any: false }
    }

    fn with<U>(&self, inner: U) -> ExactIntegers<'w, U> {
        ExactIntegers::new(inner, self.wide, self.path)
    }

    /// Reads a key or the name of a variant. With a path, it returns the key too.
    fn key<R>(&mut self, read: impl FnOnce(&mut Self) -> R) -> (R, String) {
        match self.path {
            Some(path) => path.key(|| read(self)),
            None => (read(self), String::new()),
        }
    }

    fn leave<R, E>(&self, part: Result<R, E>, which: impl FnOnce() -> PathPart) -> Result<R, E> {
        if let Some(path) = self.path {
            path.leave(part.is_err(), which);
        }
        part
    }
}

/// Replaces serde_json's message about invalid JSON by one that names what is wrong with the value.
fn in_better_words<E: Error>(error: E, expected: impl FnOnce() -> String) -> E {
    match &*cut_position(&error.to_string()) {
        EXPECTED_VALUE | TRAILING_CHARACTERS => E::custom(expected()),
        _ => error,
    }
}

fn expected_variant(variants: &[&str]) -> String {
    let names: Vec<_> = variants.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "invalid type, expected the name of a variant, or an object with it as the only key; the variants are {}",
        names.join(", ")
    )
}

macro_rules! deserialize {
    ($($method:ident($($name:ident: $type:ty),*)),*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.with(visitor);
            self.inner.$method($($name,)* visitor)
        }
    )*};
}

// Values that serde buffers (of untagged and internally tagged enums, and of flattened structs) are read by
// `deserialize_any`.
impl<'de, D: Deserializer<'de>> Deserializer<'de> for ExactIntegers<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(ExactIntegers { inner: visitor, wide: self.wide, path: self.path, any: true })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let (path, visitor) = (self.path, self.with(visitor));
        let read = self.inner.deserialize_tuple(len, visitor);
        read.map_err(|error| match path {
            Some(_) => in_better_words(error, || format!("invalid length, expected an array of {len}: it is longer")),
            None => error,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let (path, visitor) = (self.path, self.with(visitor));
        let read = self.inner.deserialize_enum(name, variants, visitor);
        read.map_err(|error| match path {
            Some(_) => in_better_words(error, || expected_variant(variants)),
            None => error,
        })
    }

    deserialize! {
        deserialize_bool(), deserialize_i8(), deserialize_i16(), deserialize_i32(), deserialize_i64(),
        deserialize_i128(), deserialize_u8(), deserialize_u16(), deserialize_u32(), deserialize_u64(),
        deserialize_u128(), deserialize_f32(), deserialize_f64(), deserialize_char(), deserialize_str(),
        deserialize_string(), deserialize_bytes(), deserialize_byte_buf(), deserialize_option(), deserialize_unit(),
        deserialize_unit_struct(name: &'static str), deserialize_newtype_struct(name: &'static str),
        deserialize_seq(), deserialize_tuple_struct(name: &'static str, len: usize), deserialize_map(),
        deserialize_struct(name: &'static str, fields: &'static [&'static str]), deserialize_identifier(),
        deserialize_ignored_any()
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty)),*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> { self.inner.$method(value) })*
    };
}

/// The types that a key may have.
macro_rules! visit_key {
    ($($method:ident($type:ty)),*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            if let Some(path) = self.path {
                path.visit(&value);
            }
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for ExactIntegers<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit_key! {
        visit_bool(bool), visit_i8(i8), visit_i16(i16), visit_i32(i32), visit_i64(i64), visit_i128(i128),
        visit_u8(u8), visit_u16(u16), visit_u32(u32), visit_u64(u64), visit_u128(u128), visit_f32(f32),
        visit_char(char), visit_str(&str), visit_borrowed_str(&'de str), visit_string(String)
    }

    visit! { visit_bytes(&[u8]), visit_borrowed_bytes(&'de [u8]), visit_byte_buf(Vec<u8>) }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        if self.any && self.wide.binary_search(&value.to_bits()).is_ok() {
            return Err(E::custom(rounded(value)));
        }
        self.inner.visit_f64(value)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.with(value);
        self.inner.visit_some(value)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.with(value);
        self.inner.visit_newtype_struct(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let items = CheckedItems { seq: self.with(seq), at: 0 };
        self.inner.visit_seq(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let entries = CheckedEntries { map: self.with(map), key: String::new() };
        self.inner.visit_map(entries)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        let data = self.with(data);
        self.inner.visit_enum(data)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for ExactIntegers<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.deserialize(deserializer)
    }
}

struct CheckedItems<'w, A> {
    seq: ExactIntegers<'w, A>,
    at: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for CheckedItems<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.seq.with(seed);
        let item = self.seq.inner.next_element_seed(seed);
        let at = self.at;
        self.at += 1;
        self.seq.leave(item, || PathPart::Index(at))
    }

    fn size_hint(&self) -> Option<usize> {
        self.seq.inner.size_hint()
    }
}

struct CheckedEntries<'w, A> {
    map: ExactIntegers<'w, A>,
    /// The key of the entry whose value is read next.
    key: String,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for CheckedEntries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.map.with(seed);
        let (key, name) = self.map.key(|map| map.inner.next_key_seed(seed));
        self.key = name;
        key
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.map.with(seed);
        let value = self.map.inner.next_value_seed(seed);
        let key = std::mem::take(&mut self.key);
        self.map.leave(value, || PathPart::Key(key))
    }

    fn size_hint(&self) -> Option<usize> {
        self.map.inner.size_hint()
    }
}

impl<'de, 'w, A: EnumAccess<'de>> EnumAccess<'de> for ExactIntegers<'w, A> {
    type Error = A::Error;
    type Variant = CheckedVariant<'w, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (seed, wrapper) = (self.with(seed), self.with(()));
        let Self { inner, path, .. } = self;
        let read = || inner.variant_seed(seed);
        let (read, name) = match path {
            Some(path) => path.key(read),
            None => (read(), String::new()),
        };
        read.map(|(value, content)| (value, CheckedVariant { content, wrapper, name }))
    }
}

/// The content of a variant.
pub(super) struct CheckedVariant<'w, A> {
    content: A,
    /// The wrapper that reads the content.
    wrapper: ExactIntegers<'w, ()>,
    name: String,
}

impl<'w, A> CheckedVariant<'w, A> {
    fn read<R, E>(self, read: impl FnOnce(A) -> Result<R, E>) -> Result<R, E> {
        self.wrapper.leave(read(self.content), || PathPart::Key(self.name))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for CheckedVariant<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.read(A::unit_variant)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.wrapper.with(seed);
        self.read(|content| content.newtype_variant_seed(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.wrapper.with(visitor);
        self.read(|content| content.tuple_variant(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.wrapper.with(visitor);
        self.read(|content| content.struct_variant(fields, visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use crate::codec::{Codec, decode};

    /// 2^64 + 1
    const WIDE: &str = "18446744073709551617";

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        decode(Codec::Json, text.as_bytes())
    }

    fn refused<T: DeserializeOwned + std::fmt::Debug>(text: &str) {
        let why = read::<T>(text).unwrap_err();
        assert!(why.contains("needs more than 64 bits and would be rounded: send it as a string"), "{text}: {why}");
    }

    #[test]
    fn an_integer_is_rejected_before_it_is_rounded() {
        for wide in [WIDE, "18446744073709551616", "-9223372036854775809", "100000000000000000001", &"9".repeat(300)] {
            refused::<Value>(wide);
            refused::<Value>(&format!(r#"{{"a": [0, "\"{{", [{{"b": {wide}}}]]}}"#));
            refused::<Vec<Option<(u8, Value)>>>(&format!("[null,[1,{wide} ]]"));
            refused::<BTreeMap<u8, Result<Value, Box<Value>>>>(&format!(r#"{{"1":{{"Err":{wide}}}}}"#));
        }
        assert!(read::<Value>(WIDE).unwrap_err().starts_with("an integer near 1.8446744073709552e19 needs"));
    }

    #[test]
    fn small_integers_and_other_values_stay_unchanged() {
        for fine in [
            "18446744073709551615",
            "-9223372036854775808",
            r#""18446744073709551617""#,
            r#"{"18446744073709551617":["\\\"18446744073709551617",0]}"#,
        ] {
            assert_eq!(read::<Value>(fine).unwrap().to_string(), fine);
        }
        for (float, value) in [
            ("12345678901234567890.0", 12345678901234567890.0),
            ("12345678901234567890e-1", 1234567890123456789.0),
            ("0.18446744073709551617", 0.184_467_440_737_095_5),
            ("1E300", 1e300),
            ("1e-00000000000000000020", 1e-20),
        ] {
            assert_eq!(read::<Value>(float).unwrap(), value);
            assert_eq!(read::<(Value, u128)>(&format!("[{float},{WIDE}]")).unwrap().0, value, "beside a wide integer");
        }
        assert_eq!(read::<f64>("100000000000000000000").unwrap(), 1e20, "as JavaScript writes it");
        assert_eq!(read::<Vec<Option<f32>>>("[-100000000000000000000]").unwrap(), [Some(-1e20)]);
        assert_eq!(read::<u128>(&u128::MAX.to_string()).unwrap(), u128::MAX);
        assert_eq!(read::<(i128,)>(&format!("[{}]", i128::MIN)).unwrap(), (i128::MIN,));
        assert_eq!(read::<Box<RawValue>>(WIDE).unwrap().get(), WIDE);
        assert!(read::<u64>(WIDE).unwrap_err().contains("expected u64"));
        let extra = read::<BTreeMap<String, u8>>(r#"{"a":1}, 18446744073709551617"#).unwrap_err();
        assert_eq!(extra, "it is not JSON: trailing characters at line 1 column 8");
    }

    /// The wrapper forwards every request of serde.
    #[test]
    fn other_values_are_read_beside_a_wide_integer() {
        #[derive(Debug, PartialEq, Deserialize)]
        enum Shapes {
            Unit,
            New(u8),
            Tuple(u8, i8),
            Struct { a: u128, b: Option<()> },
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Unit;
        #[derive(Debug, PartialEq, Deserialize)]
        struct Name(String);
        #[derive(Debug, PartialEq, Deserialize)]
        struct All {
            shapes: Vec<Shapes>,
            unit: Unit,
            name: Name,
            pair: (char, bool),
            keys: BTreeMap<i64, f32>,
            small: (i8, i16, i32, i64, u8, u16, u32, u64),
            maybe: (Option<Name>, Option<u8>),
            any: Value,
        }
        let text = format!(
            r#"{{"shapes": ["Unit", {{"New": 1}}, {{"Tuple": [2, -3]}}, {{"Struct": {{"a": {WIDE}, "b": null}}}}],
            "unit": null, "name": "\u00e9", "pair": ["c", true], "keys": {{"-7": 0.5}}, "ignored": [{WIDE}],
            "small": [-1, -2, -3, -4, 5, 6, 7, 8], "maybe": [null, 1], "any": [null, {{"a": -1.5}}, "x"]}}"#
        );
        let all = All {
            shapes: vec![
                Shapes::Unit,
                Shapes::New(1),
                Shapes::Tuple(2, -3),
                Shapes::Struct { a: (1 << 64) + 1, b: None },
            ],
            unit: Unit,
            name: Name("é".into()),
            pair: ('c', true),
            keys: BTreeMap::from([(-7, 0.5)]),
            small: (-1, -2, -3, -4, 5, 6, 7, 8),
            maybe: (None, Some(1)),
            any: serde_json::json!([null, {"a": -1.5}, "x"]),
        };
        assert_eq!(read::<All>(&text).unwrap(), all);
    }

    /// serde buffers these values before it knows their type, and its buffer can't hold 128 bits. So an `f64` inside
    /// rejects 100000000000000000000, but accepts `1e20`.
    #[test]
    fn buffered_values_are_read_like_streamed_ones() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(untagged)]
        enum Number {
            Whole(i64),
            Float(f64),
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Flat {
            direct: f64,
            #[serde(flatten)]
            inner: Inner,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Inner {
            x: f64,
        }
        refused::<Number>(WIDE);
        refused::<Vec<Number>>("[100000000000000000000]");
        assert_eq!(read::<Vec<Number>>("[1e20, 7]").unwrap(), [Number::Float(1e20), Number::Whole(7)]);
        refused::<Flat>(r#"{"direct": 0, "x": 100000000000000000000}"#);
        let flat = read::<Flat>(r#"{"direct": 100000000000000000000, "x": 2e20}"#);
        assert_eq!(flat.unwrap(), Flat { direct: 1e20, inner: Inner { x: 2e20 } });
    }
}
