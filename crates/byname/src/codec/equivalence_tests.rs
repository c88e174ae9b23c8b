//! Compares the codecs: each value that one accepts or rejects, the other accepts or rejects too, with the same
//! message.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shapes {
    Unit,
    New(u8),
    Tuple(u8, i8),
    Struct { a: u64, b: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Whole(i64),
    Float(f64),
    List(Vec<Untagged>),
    Named { a: u8 },
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
enum Adjacent {
    One(u8),
    Two { a: f32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum InternallyTagged {
    One { a: u8 },
    Two { a: f32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Name(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    #[serde(rename = "a")]
    x: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    b: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    own: bool,
    #[serde(flatten)]
    point: Point,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Color {
    Red,
    Green,
}

/// Written as bytes, read from bytes or a sequence.
#[derive(Clone, Debug, PartialEq)]
struct Octets(Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Octets;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Octets, E> {
                Ok(Octets(bytes.to_vec()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Octets, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Octets(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// Announces another length than it has.
struct Liar(Option<usize>, Vec<u8>);

impl Serialize for Liar {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut seq = serializer.serialize_seq(self.0)?;
        self.1.iter().try_for_each(|byte| seq.serialize_element(byte))?;
        seq.end()
    }
}

/// Treats a value that it can't read as absent.
#[derive(Debug, PartialEq)]
struct Lenient(Option<Vec<u8>>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::deserialize(deserializer).ok()))
    }
}

fn packed<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = b"before".to_vec();
    encode(Codec::MessagePack, value, &mut out).unwrap();
    out.split_off(6)
}

fn json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(Codec::Json, value, &mut out).unwrap();
    out
}

/// The result of a receiver for the same value in both codecs.
fn same<U: DeserializeOwned + Debug>(packed: &[u8], json: &[u8]) -> String {
    let from_json = format!("{:?}", decode::<U>(Codec::Json, json));
    let from_packed = format!("{:?}", decode::<U>(Codec::MessagePack, packed));
    assert_eq!(from_packed, from_json, "{} as {}", String::from_utf8_lossy(json), std::any::type_name::<U>());
    from_json
}

macro_rules! all {
    ($packed:expr, $json:expr, $($type:ty),* $(,)?) => { $(same::<$type>($packed, $json);)* };
}

/// All receivers.
fn received(packed: &[u8], json: &[u8]) {
    all!(
        packed, json, Bytes,
        (), bool, i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, f32, f64, char, String, Unit, Name, Point, Flat, Shapes,
        Untagged, Adjacent, InternallyTagged, Color, Octets, Value, Box<RawValue>, Option<u8>, Option<Vec<f32>>, Vec<u8>, Vec<Value>,
        Vec<Option<i64>>, Vec<Octets>, (u8,), (u8, u8), [i64; 3], (String, Vec<f32>), BTreeMap<String, u8>, BTreeMap<i64, Value>,
        BTreeMap<u8, u8>, BTreeMap<bool, u8>, BTreeMap<Color, Value>, BTreeMap<char, f64>, BTreeMap<i128, u8>,
        BTreeMap<u128, u8>, BTreeMap<Option<u8>, u8>, Result<u8, String>, Result<Value, Name>, Vec<Shapes>, Vec<Untagged>,
        BTreeMap<String, Shapes>, std::net::IpAddr, std::time::Duration, serde::de::IgnoredAny, crate::Error, Box<str>,
    );
}

/// Receivers that accept `bin` and its base64 text alike. An array of numbers is also read from `bin`, because other
/// writers use it for bytes, but never from text.
fn received_with_bin(packed: &[u8], json: &[u8]) {
    all!(
        packed, json, (), bool, u8, i128, f32, f64, char, String, Unit, Name, Color, Value, Box<RawValue>, Bytes, Option<Bytes>,
        BTreeMap<String, u8>, BTreeMap<String, Value>, serde::de::IgnoredAny, std::net::IpAddr, crate::Error, Box<str>,
    );
}

fn both<T: Serialize>(value: T) {
    let (packed, json) = (packed(&value), json(&value));
    received(&packed, &json);
    // And without types.
    assert_eq!(String::from_utf8(to_json(&packed).unwrap()).unwrap(), String::from_utf8(json.clone()).unwrap());
    received(&to_message_pack(&json).unwrap(), &json);
}

#[test]
fn a_value_is_the_same_in_both_codecs_for_sender_and_receiver() {
    both(());
    both((true, false));
    for integer in [0, 1, -1, 31, 32, -32, -33, 127, 128, -128, -129, 255, 256, 65535, 65536, -32768, -32769] {
        both(integer);
    }
    for integer in [i64::MIN, i64::MAX, i32::MIN.into(), i64::from(i32::MIN) - 1, u32::MAX.into(), 1 << 32] {
        both(integer);
        both((integer,));
    }
    both(u64::MAX);
    for integer in [i128::MIN, i128::MAX, i128::from(i64::MIN) - 1, i128::from(u64::MAX) + 1, -1, 7] {
        both(integer);
        both(vec![integer; 3]);
        both(BTreeMap::from([(integer, 1)]));
    }
    both(u128::MAX);
    both(BTreeMap::from([(u128::MAX, 1)]));
    both((0.1f32, f32::MAX, f32::MIN_POSITIVE, -0.0f32, 1e10f32, 16777216f32));
    both((0.1f64, f64::MAX, f64::MIN_POSITIVE, -0.0f64, 1e300, 0.1 + 0.2, 1e16, 5e-324));
    both(0.1f32);
    both(-8_493_785f32 / 4.0);
    both(1e300);
    both(2.0);
    both('c');
    both("é\u{0}\"\\");
    for length in [0, 1, 31, 32, 255, 256, 65535, 65536] {
        both("x".repeat(length));
        both(Octets(vec![200; length.min(300)]));
    }
    both(Octets(vec![1; 70_000]));
    both(Unit);
    both(Name("n".into()));
    both(Some(Some(1)));
    both([None, Some(1)]);
    both(Point { x: 1, b: None });
    both(vec![Point { x: 1, b: Some(2.0) }; 20]);
    both(Flat {
        own: true,
        point: Point { x: -5, b: Some(0.5) },
        rest: BTreeMap::from([("c".into(), Value::from(1u8))]),
    });
    both([Shapes::Unit, Shapes::New(1), Shapes::Tuple(2, -3), Shapes::Struct { a: u64::MAX, b: None }]);
    for shape in [Shapes::Unit, Shapes::New(1), Shapes::Tuple(2, -3), Shapes::Struct { a: 7, b: Some("x".into()) }] {
        both(BTreeMap::from([("k", &shape)]));
        both(shape);
    }
    both([Untagged::Whole(1), Untagged::Float(0.5), Untagged::List(vec![Untagged::Named { a: 1 }])]);
    both(Adjacent::One(1));
    both(Adjacent::Two { a: 0.1 });
    both(InternallyTagged::One { a: 1 });
    both(InternallyTagged::Two { a: 0.1 });
    both(BTreeMap::from([(1, 1), (-1, 2)]));
    both(BTreeMap::from([(true, 1)]));
    both(BTreeMap::from([(Color::Red, 1), (Color::Green, 2)]));
    both(BTreeMap::from([('c', 0.5)]));
    // serde_json reads a key of type `bool` from its second byte.
    both(BTreeMap::from([('é', 0.5)]));
    both(BTreeMap::from([(Some("x"), 1)]));
    both((0..20).map(|n| (n.to_string(), n)).collect::<BTreeMap<_, _>>());
    both(std::net::IpAddr::from([127, 0, 0, 1]));
    both(format_args!("{}", "formatted ".repeat(10)));
    both(std::time::Duration::from_millis(1500));
    both(serde_json::json!({"a": [null, true, -1, 0.5, "x", {"b": {}}], "c": []}));
    for raw in ["{\"a\": [1e2, \"\\u00e9\", 18446744073709551617 ] , \"b\":{}}", "-0", "1.0", " [ ] ", "\"\\n\""] {
        let raw = RawValue::from_string(raw.into()).unwrap();
        let packed = packed(&raw);
        received(&packed, &to_json(&packed).unwrap());
        same::<(i128, Value)>(&packed, raw.get().as_bytes());
        same::<Value>(&packed, raw.get().as_bytes());
    }
    both(crate::Error::new(crate::Code::NotFound, "x").with_data([1.5]));
    for liar in [
        Liar(None, vec![1; 20]),
        Liar(Some(3), vec![1; 20]),
        Liar(Some(70_000), vec![1; 2]),
        Liar(Some(usize::MAX), vec![]),
    ] {
        both(liar);
    }
    both(Liar(None, vec![9; 70_000]));
}

#[test]
fn values_that_cannot_be_sent_are_errors_in_both_codecs() {
    fn refused<T: Serialize>(value: T) {
        let refused = |codec| encode(codec, &value, &mut Vec::new()).unwrap_err();
        assert_eq!(refused(Codec::MessagePack), refused(Codec::Json));
    }
    refused(f64::NAN);
    refused([Some(f32::INFINITY)]);
    refused(BTreeMap::from([("a", [Shapes::New(1)].map(|_| f64::NEG_INFINITY))]));
    refused(BTreeMap::from([((), 1)]));
    refused(BTreeMap::from([([1], 1)]));
    refused(BTreeMap::from([(None::<u8>, 1)]));
    refused(BTreeMap::from([(BTreeMap::from([(1, 1)]), 1)]));
    assert!(to_message_pack(b"[1,]").is_err());
}

/// Sends a number in both codecs as a `RawValue`: alone, inside a value, and converted to the other codec.
fn keeps_its_digits(number: &str) {
    for text in
        [number.to_owned(), format!("[{number}]"), format!(r#"{{"a":[0.5,{{"b":{number}}},"x"],"c":{number}}}"#)]
    {
        let raw = RawValue::from_string(text.clone()).unwrap();
        for codec in [Codec::MessagePack, Codec::Json] {
            let mut sent = Vec::new();
            encode(codec, &raw, &mut sent).unwrap();
            assert_eq!(decode::<Box<RawValue>>(codec, &sent).unwrap().get(), text, "{codec:?}");
        }
        assert_eq!(to_json(&packed(&raw)).unwrap(), text.as_bytes());
        received(&packed(&raw), text.as_bytes());
    }
}

#[test]
fn a_number_keeps_its_digits_in_either() {
    for number in [
        "12345678901234567890.12",
        "-12345678901234567890.12",
        "1.50",
        "0.10",
        "100",
        "1e2",
        "1E2",
        "1e+2",
        "1e02",
        "-0",
        "-0.0",
        "-0e0",
        "0e-7",
        "1e400",
        "-1e400",
        "1e-400",
        "0.1000000000000000055511151231257827021181583404541015625",
        "179769313486231580793728971405301e276",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551616.0",
        "340282366920938463463374607431768211455",
        "340282366920938463463374607431768211456",
        "-170141183460469231731687303715884105728",
        "-170141183460469231731687303715884105729",
        &"9".repeat(50),
        &"9".repeat(300),
        &format!("0.{}", "3".repeat(70_000)),
        "100000000000000.0",
        "1e14",
        "3.4028235e38",
        "-2123446.25",
    ] {
        keeps_its_digits(number);
    }
    // A number that a float shows exactly is sent as a float, not as an extension.
    assert_eq!(to_message_pack(b"1.5").unwrap(), packed(&1.5));
    assert_eq!(to_message_pack(b"-0.0").unwrap(), packed(&-0.0));
    assert_eq!(to_message_pack(b"1.50").unwrap(), b"\xc7\x04\x021.50");
    for float in [1e14f32, 0.1, f32::MAX, f32::MIN_POSITIVE, 16777216.0, -8_493_785f32 / 4.0] {
        let text = serde_json::to_string(&float).unwrap();
        let packed = to_message_pack(text.as_bytes()).unwrap();
        assert!([0xca, 0xcb].contains(&packed[0]), "{text}: {packed:x?}");
    }
}

/// `cargo test -p byname --lib --features serde_json/arbitrary_precision with_arbitrary_precision -- --ignored`
#[test]
#[ignore = "it needs serde_json's feature `arbitrary_precision`"]
fn with_arbitrary_precision_a_value_keeps_its_digits_in_either() {
    assert!(
        serde_json_internals::numbers_are_text(),
        "this is for a serde_json with the feature `arbitrary_precision`"
    );
    proptest!(config(1000), |(number in "-?(0|[1-9][0-9]{0,42})(\\.[0-9]{1,40})?(e[+-][0-9]{1,4})?")| {
        for text in [number.clone(), format!(r#"{{"a":[{number}]}}"#)] {
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value.to_string(), text.as_str(), "serde_json keeps it");
            for codec in [Codec::MessagePack, Codec::Json] {
                let mut sent = Vec::new();
                encode(codec, &value, &mut sent).unwrap();
                let came = decode::<Value>(codec, &sent).map(|value| value.to_string());
                prop_assert_eq!(came.as_deref(), Ok(text.as_str()), "{:?}", codec);
            }
        }
    });
}

#[test]
fn any_number_keeps_its_digits_in_either() {
    proptest!(config(300), |(number in "-?(0|[1-9][0-9]{0,42})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?")| {
        keeps_its_digits(&number);
    });
    proptest!(config(100), |(number in any::<f64>())| {
        prop_assert_eq!(to_message_pack(number.to_string().as_bytes()).is_ok(), number.is_finite());
        if number.is_finite() {
            keeps_its_digits(&serde_json::to_string(&number).unwrap());
        }
    });
}

#[test]
fn the_returned_value_is_read_in_both_codecs() {
    type Sneaky = Result<u8, String>;
    let returned = |value: Sneaky| {
        let mut out = b"before".to_vec();
        (encode_returned(Codec::MessagePack, &value, &mut out).unwrap(), out.split_off(6))
    };
    assert_eq!(returned(Ok(1)), (ResultShape::Ok, vec![1]));
    assert_eq!(returned(Err("no".into())), (ResultShape::Err, b"\xa2no".to_vec()));
    let ours = crate::Error::new(crate::Code::NotFound, "x");
    let mut out = Vec::new();
    assert_eq!(encode_returned(Codec::MessagePack, &Err::<(), _>(ours.clone()), &mut out).unwrap(), ResultShape::Ours);
    assert_eq!(decode::<crate::Error>(Codec::MessagePack, &out).unwrap(), ours);
}

#[test]
fn structs_are_maps_and_numbers_are_short() {
    assert_eq!(packed(&Point { x: 1, b: Some(0.5) }), b"\x82\xa1a\x01\xa1b\xcb\x3f\xe0\0\0\0\0\0\0");
    assert_eq!(packed(&[Shapes::Unit, Shapes::New(7)]), b"\x92\xa4Unit\x81\xa3New\x07");
    assert_eq!(packed(&BTreeMap::from([(-5, ())])), b"\x81\xa2-5\xc0");
    assert_eq!(packed(&(1u128 << 64)), [&[0xc7, 17, 1][..], &[0; 8], &[1], &[0; 8]].concat());
    assert_eq!(packed(&Bytes::from(vec![1, 2])), b"\xc4\x02\x01\x02");
    assert_eq!(packed(&Octets(vec![1, 2])), b"\xc7\x02\x03\x01\x02");
}

#[test]
fn bytes_are_bin_and_base64() {
    let read = |codec, text: &[u8]| decode::<Bytes>(codec, text);
    for length in [0, 1, 2, 3, 255, 256, 65_535, 65_536, 100_000] {
        let bytes: Bytes = (0..length).map(|n| n as u8).collect();
        let (packed, text) = (packed(&bytes), json(&bytes));
        assert_eq!(
            packed.len(),
            length
                + if length < 256 {
                    2
                } else if length < 65_536 {
                    3
                } else {
                    5
                }
        );
        assert_eq!(text.len(), length.div_ceil(3) * 4 + 2);
        assert_eq!(read(Codec::MessagePack, &packed).as_ref(), Ok(&bytes));
        assert_eq!(read(Codec::Json, &text).as_ref(), Ok(&bytes));
        assert_eq!(to_json(&packed).unwrap(), text);
        assert_eq!(read(Codec::MessagePack, &to_message_pack(&text).unwrap()).as_ref(), Ok(&bytes), "text is read too");
        received_with_bin(&packed, &text);
        // As an array of numbers, of either kind.
        let numbers = bytes.to_vec();
        for codec in [Codec::MessagePack, Codec::Json] {
            let (mut array, mut octets) = (Vec::new(), Vec::new());
            encode(codec, &numbers, &mut array).unwrap();
            encode(codec, &Octets(numbers.clone()), &mut octets).unwrap();
            assert_eq!(read(codec, &array).as_ref(), Ok(&bytes));
            assert_eq!(read(codec, &octets).as_ref(), Ok(&bytes));
        }
        assert_eq!(decode::<Vec<u8>>(Codec::MessagePack, &packed), Ok(numbers.clone()));
        assert_eq!(decode::<Octets>(Codec::MessagePack, &packed), Ok(Octets(numbers)));
    }
    let bytes = Bytes::from(vec![0xfb, 0xff, 1]);
    both((Some(&bytes), None::<Bytes>).1);
    for (text, came) in [
        (r#""+/8B""#, &[0xfb, 0xff, 1][..]),
        (r#""-_8B""#, &[0xfb, 0xff, 1]),
        (r#""AA==""#, &[0]),
        (r#""AA""#, &[0]),
        (r#""AAE=""#, &[0, 1]),
        (r#""AAE""#, &[0, 1]),
        (r#""\u0041A""#, &[0]),
        ("[0,255]", &[0, 255]),
        ("[]", &[]),
        (r#""""#, &[]),
    ] {
        assert_eq!(read(Codec::Json, text.as_bytes()).unwrap(), came, "{text}");
        assert_eq!(read(Codec::MessagePack, &to_message_pack(text.as_bytes()).unwrap()).unwrap(), came, "{text}");
    }
    for (text, words) in [
        (r#""+_8B""#, "invalid base64 at byte 0 of 4, expected bytes, as base64 text or as an array of numbers"),
        (r#""AA E""#, "invalid base64 at byte 2 of 4"),
        (r#""AAE=\n""#, "invalid base64 at byte"),
        (r#""A""#, "invalid base64 at byte"),
        (r#""AB""#, "invalid base64 at byte 1 of 2"),
        (r#""é""#, "invalid base64 at byte 0 of 2"),
        ("[256]", "invalid value: integer `256`, expected u8"),
        ("[-1]", "expected u8"),
        ("7", "invalid type: integer `7`, expected bytes, as base64 text or as an array of numbers"),
        ("null", "expected bytes"),
        ("{}", "expected bytes"),
    ] {
        let why = read(Codec::Json, text.as_bytes()).unwrap_err();
        assert!(why.contains(words), "{text}: {why}");
        assert_eq!(read(Codec::MessagePack, &to_message_pack(text.as_bytes()).unwrap()).unwrap_err(), why);
    }
}

/// In every position: as a member that serde buffers, as an item, as the content of a variant, behind an alias.
#[test]
fn bytes_may_stand_anywhere() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        bytes: Bytes,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Bytes(Bytes),
        Number(u8),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Transparent(Bytes);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Newtype(Bytes);
    /// It has the name of our type, but is another type.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Bytes")]
    struct Called(std::net::IpAddr);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        #[serde(flatten)]
        inner: Inner,
        any: Any,
        list: Vec<Option<Bytes>>,
        map: BTreeMap<String, Bytes>,
        variant: Result<Bytes, Box<Bytes>>,
        transparent: Transparent,
        newtype: Newtype,
        called: Called,
    }
    let bytes = || Bytes::from_static(b"\0\xff");
    let all = All {
        inner: Inner { bytes: bytes() },
        any: Any::Bytes(bytes()),
        list: vec![Some(bytes()), None],
        map: BTreeMap::from([("a".into(), bytes())]),
        variant: Err(Box::new(bytes())),
        transparent: Transparent(bytes()),
        newtype: Newtype(bytes()),
        called: Called([127, 0, 0, 1].into()),
    };
    let (packed, text) = (packed(&all), json(&all));
    assert_eq!(to_json(&packed).unwrap(), text);
    assert_eq!(packed.windows(4).filter(|bytes| bytes == b"\xc4\x02\0\xff").count(), 7, "each is bin");
    assert_eq!(decode::<All>(Codec::MessagePack, &packed).as_ref(), Ok(&all));
    assert_eq!(decode::<All>(Codec::Json, &text).as_ref(), Ok(&all));
    assert_eq!(decode::<Value>(Codec::MessagePack, &packed), decode::<Value>(Codec::Json, &text));
    assert_eq!(serde_json::from_str::<All>(&serde_json::to_string(&all).unwrap()).unwrap(), all, "by serde_json alone");
    let by_others = rmp_serde::to_vec_named(&bytes()).unwrap();
    assert_eq!(rmp_serde::from_slice::<Bytes>(&by_others).unwrap(), bytes(), "by a format of bytes");
}

/// rmp-serde is the usual MessagePack library in Rust.
#[test]
fn rmp_serde_reads_it_and_writes_the_same() {
    fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
        let ours = packed(&value);
        assert_eq!(rmp_serde::to_vec_named(&value).unwrap(), ours);
        assert_eq!(rmp_serde::from_slice::<T>(&ours).unwrap(), value);
        assert_eq!(decode::<T>(Codec::MessagePack, &ours).unwrap(), value);
    }
    let point = Point { x: i64::MIN, b: Some(0.1) };
    same((point.clone(), vec![Some(1u8), None], "x".repeat(40), 0.5f32, 'é', ()));
    same([Shapes::Unit, Shapes::New(200), Shapes::Tuple(1, -100), Shapes::Struct { a: u64::MAX, b: Some("b".into()) }]);
    same((0..70_000u32).collect::<Vec<_>>());
    same(vec![-1i64, -33, -129, -32769, -2147483649, 127, 128, 255, 256, 65536, 4294967296]);
    same(BTreeMap::from([("a".to_owned(), Flat { own: true, point, rest: BTreeMap::new() })]));
}

/// The reader expects them in the order of the type, and accepts any order.
#[test]
fn fields_in_any_order_are_read() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Three {
        one: u8,
        two: u8,
        #[serde(default)]
        three: u8,
    }
    for text in [
        r#"{"one":1,"two":2,"three":3}"#,
        r#"{"three":3,"two":2,"one":1}"#,
        r#"{"one":1,"three":3,"two":2}"#,
        r#"{"two":2,"one":1}"#,
        r#"{"one":1,"one":1,"two":2}"#,
        r#"{"one":1,"two":2,"three":3,"one":1}"#,
        r#"{"one":1,"thre":3,"two":2}"#,
        r#"{"":0,"one":1,"two":2}"#,
        r#"{"one":1}"#,
        r#"{"one":1,"two":"2"}"#,
        r#"{"a":1,"b":2.5}"#,
        r#"{"b":2.5,"a":1}"#,
        r#"{"x":[{}],"a":1,"b":null}"#,
    ] {
        let packed = to_message_pack(text.as_bytes()).unwrap();
        same::<Three>(&packed, text.as_bytes());
        received(&packed, text.as_bytes());
    }
    let read = |text: &str| decode::<Three>(Codec::MessagePack, &to_message_pack(text.as_bytes()).unwrap());
    assert_eq!(read(r#"{"three":3,"two":2,"one":1}"#), Ok(Three { one: 1, two: 2, three: 3 }));
    assert!(read(r#"{"one":1,"two":2,"four":4}"#).unwrap_err().contains("unknown field `four`"));
}

/// As other writers write it, without our rules about keys and sizes.
#[test]
fn what_others_write_is_read() {
    let read = |bytes: &[u8]| decode::<Value>(Codec::MessagePack, bytes).map(|value| value.to_string());
    assert_eq!(read(b"\x82\x01\xc3\xc2\xc0").unwrap(), r#"{"1":true,"false":null}"#);
    assert_eq!(
        decode::<BTreeMap<i64, u8>>(Codec::MessagePack, b"\x82\x01\x02\xff\x04").unwrap(),
        BTreeMap::from([(1, 2), (-1, 4)])
    );
    assert_eq!(decode::<Vec<u8>>(Codec::MessagePack, b"\xc4\x02\x01\xff").unwrap(), [1, 255]);
    assert_eq!(read(b"\xd3\0\0\0\0\0\0\0\x05").unwrap(), "5");
    assert_eq!(read(b"\xdd\0\0\0\x01\xdb\0\0\0\x01x").unwrap(), r#"["x"]"#);
    assert_eq!(read(b"\xca\x3d\xcc\xcc\xcd").unwrap(), "0.1");
    for digits in [&b"\xc7\x02\x0212"[..], b"\xc8\0\x02\x0212", b"\xc9\0\0\0\x02\x0212", b"\xd5\x0212"] {
        assert_eq!(read(digits).unwrap(), "12");
        assert_eq!(decode::<i8>(Codec::MessagePack, digits), Ok(12));
    }
    for (bytes, words) in [
        (&b""[..], "ends in the middle"),
        (b"\x91", "ends in the middle"),
        (b"\xdf\xff\xff\xff\xff", "ends in the middle"),
        (b"\xc6\xff\xff\xff\xff", "ends in the middle"),
        (b"\xdb\xff\xff\xff\xffabc", "ends in the middle"),
        (b"\xc0\xc0", "trailing characters"),
        (b"\xc1", "0xc1 begins no MessagePack value"),
        (b"\xd6\xff\0\0\0\0", "0xd6 begins no MessagePack value"),
        (b"\xc7\x11\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "0xc7 begins no MessagePack value"),
        (b"\xc7\x11\x01\0\0\0\0", "ends in the middle"),
        (b"\xc7\x03\x02[1]", "0xc7 begins no MessagePack value"),
        (b"\xc7\x03\x02 12", "0xc7 begins no MessagePack value"),
        (b"\xd5\x021 ", "0xd5 begins no MessagePack value"),
        (b"\xd5\x0201", "0xd5 begins no MessagePack value"),
        (b"\xd5\x021.", "0xd5 begins no MessagePack value"),
        (b"\xd5\x02\xff1", "0xd5 begins no MessagePack value"),
        (b"\xc7\0\x02", "0xc7 begins no MessagePack value"),
        (b"\xd8\x021", "ends in the middle"),
        (b"\xc9\xff\xff\xff\xff\x021", "ends in the middle"),
        (b"\xa1\xff", "not UTF-8"),
        (b"\x81\x90\x01", "key must be a string"),
        (b"\xcb\x7f\xf8\0\0\0\0\0\0", "NaN is not a JSON number"),
        (b"\x91\xca\xff\x80\0\0", "-inf is not a JSON number"),
    ] {
        let why = read(bytes).unwrap_err();
        assert!(why.contains(words), "{bytes:x?}: {why}");
        assert!(decode::<serde::de::IgnoredAny>(Codec::MessagePack, bytes).is_err(), "{bytes:x?}");
    }
}

#[test]
fn a_type_that_ignores_an_error_makes_the_whole_value_fail() {
    let read = |bytes: &[u8]| decode::<(Lenient, u8)>(Codec::MessagePack, bytes);
    assert_eq!(read(b"\x92\x91\x01\x02").unwrap(), (Lenient(Some(vec![1])), 2));
    assert_eq!(read(b"\x92\xa1x\x02").unwrap(), (Lenient(None), 2));
    for bytes in [&b"\x92\x92\xa1x\x05\x07"[..], b"\x92\x81\x02\x03", b"\x92\x93\x01\x02", b"\x92\x91"] {
        assert!(read(bytes).is_err(), "{bytes:x?}");
    }
}

#[test]
fn depth_ends_before_the_stack_does() {
    for open in [&b"\x91"[..], b"\x81\xa1a", b"\xdd\0\0\0\x01", b"\xdc\xff\xff", b"\xdf\xff\xff\xff\xff\xa1a"] {
        let deep = open.repeat(100_000);
        assert!(deeper_than(Codec::MessagePack, 128, &deep));
        assert!(decode::<Value>(Codec::MessagePack, &deep).is_err());
        assert!(decode::<serde::de::IgnoredAny>(Codec::MessagePack, &deep).is_err());
        assert!(decode::<Box<RawValue>>(Codec::MessagePack, &deep).is_err());
        assert!(decode::<Untagged>(Codec::MessagePack, &deep).is_err());
        assert!(to_json(&deep).is_err());
    }
    for depth in 0..300 {
        let (packed, text) =
            ([vec![0x91; depth], vec![1]].concat(), format!("{}1{}", "[".repeat(depth), "]".repeat(depth)));
        same::<Value>(&packed, text.as_bytes());
        for limit in [0, 3, 127, 128] {
            assert_eq!(deeper_than(Codec::MessagePack, limit, &packed), depth > limit, "{depth} {limit}");
            assert_eq!(deeper_than(Codec::Json, limit, text.as_bytes()), depth > limit, "{depth} {limit}");
        }
        assert_eq!(to_message_pack(text.as_bytes()).unwrap(), packed);
        assert_eq!(to_json(&packed).unwrap(), text.as_bytes());
    }
    assert!(to_message_pack(&[b'['; 100_000]).is_err());
    assert!(to_message_pack(&[[b'['; 100_000], [b']'; 100_000]].concat()).is_err());
}

pub(super) fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<f32>().prop_map(|value| Value::from(f64::from(value))),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        any::<String>().prop_map(Value::from),
        "(a|b|Unit|New|Red|-?[0-9]{1,3})".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 20, |inner| {
        let key = prop_oneof![any::<String>(), "(a|b|Ok|Err|own|New|Tuple|Struct|type|content|-?[0-9]{1,20})"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..20).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

/// Almost valid MessagePack.
fn near() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        (0x80..=0x9fu8).prop_map(|byte| vec![byte]),
        proptest::collection::vec(0xc0..=0xdfu8, 1..2),
        any::<i64>().prop_map(|value| packed(&value)),
        any::<i128>().prop_map(|value| packed(&value)),
        "-?[0-9]{1,25}(\\.[0-9]{1,9})?(e-?[0-9]{1,3})?".prop_map(|digits| {
            let mut out = Vec::new();
            message_pack::write_digits(&digits, &mut out).unwrap();
            out
        }),
        any::<f32>().prop_filter_map("NaN", |value| value.is_finite().then(|| packed(&value))),
        "[a-bA-Z]{0,40}".prop_map(|value| packed(&value)),
        any::<Vec<u8>>().prop_map(|bytes| packed(&Octets(bytes))),
        any::<Vec<u8>>().prop_map(|bytes| packed(&Bytes::from(bytes))),
        value().prop_map(|value| packed(&value)),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn any_value_is_the_same_in_both() {
    proptest!(config(100), |(value in value())| {
        both(&value);
        prop_assert_eq!(decode::<Value>(Codec::MessagePack, &packed(&value)).unwrap(), value);
    });
}

#[test]
fn any_bytes_are_rejected_or_equal_their_json() {
    proptest!(config(1500), |(bytes in near(), limit in 0usize..5)| {
        match to_json(&bytes) {
            Ok(text) => {
                if bytes.iter().any(|byte| (0xc4..=0xc6).contains(byte)) {
                    received_with_bin(&bytes, &text);
                } else {
                    received(&bytes, &text);
                }
                // Octets are one value, and an array in JSON.
                let deep = deeper_than(Codec::MessagePack, limit, &bytes);
                let deep_as_json = deeper_than(Codec::Json, limit, &text);
                let may_have_octets = bytes.iter().any(|byte| matches!(byte, 0xc7..=0xc9 | 0xd4..=0xd8));
                prop_assert!(deep == deep_as_json || may_have_octets && !deep, "{deep} {deep_as_json}");
            }
            Err(_) => {
                prop_assert!(decode::<Value>(Codec::MessagePack, &bytes).is_err());
                prop_assert!(decode::<serde::de::IgnoredAny>(Codec::MessagePack, &bytes).is_err());
            }
        }
    });
}
