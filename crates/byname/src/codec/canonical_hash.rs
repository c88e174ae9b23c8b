//! A hash of a value that does not depend on how the value is written: [`canonical_hash`].

use serde_json::Error;
use sha1_smol::Sha1;

use super::message_pack::{Token, TokenReader};
use super::transcode::{to_json, to_message_pack};
use super::{Codec, without_position};

/// The hash of one value that fills `bytes`. It is the same in both codecs, with any white space, and with the entries of
/// objects in any order. Numbers are equal if they are written with the same digits.
pub(crate) fn canonical_hash(codec: Codec, bytes: &[u8]) -> Result<[u8; 20], String> {
    let packed = match codec {
        Codec::Json => to_message_pack(bytes),
        // A value in MessagePack has more types than the same value in JSON.
        Codec::MessagePack => to_json(bytes).and_then(|text| to_message_pack(&text)),
    };
    packed.and_then(|packed| hash(&packed)).map_err(|error| without_position(&error.to_string()).into_owned())
}

/// An array or a map whose items are being read.
enum OpenValue {
    Array {
        left: usize,
        hash: Sha1,
    },
    /// The hashes of its entries, and the beginning of that of the next one.
    Map {
        left: usize,
        entries: Vec<[u8; 20]>,
        next: Sha1,
    },
}

fn hash(packed: &[u8]) -> Result<[u8; 20], Error> {
    let mut reader = TokenReader::new(packed);
    let mut open: Vec<OpenValue> = Vec::new();
    loop {
        let mut done = match reader.token()? {
            Token::Array(0) => Some(leaf(b'[', b"")),
            Token::Map(0) => Some(leaf(b'{', b"")),
            Token::Array(left) => {
                open.push(OpenValue::Array { left, hash: Sha1::from(b"[") });
                None
            }
            Token::Map(left) => {
                let next = key(&reader.any_key()?);
                open.push(OpenValue::Map { left, entries: Vec::new(), next });
                None
            }
            Token::Nil => Some(leaf(b'n', b"")),
            Token::Bool(value) => Some(leaf(b'b', &[value.into()])),
            Token::Unsigned(value) => Some(number(&value)),
            Token::Negative(value) => Some(number(&value)),
            Token::Wide(value) => Some(number(&value)),
            Token::NegativeWide(value) => Some(number(&value)),
            Token::Single(value) => Some(number(&value)),
            Token::Double(value) => Some(number(&value)),
            Token::Digits(text) => Some(leaf(b'#', text.as_bytes())),
            Token::Str(text) => Some(leaf(b'"', text.as_bytes())),
            Token::Bytes(_) | Token::Octets(_) => unreachable!("a value from JSON has no bytes"),
        };
        // An item that is done may be the last of its array or map, which is done then.
        while let Some(item) = done.take() {
            match open.last_mut() {
                None => return reader.end().map(|()| item),
                Some(OpenValue::Array { left, hash }) => {
                    hash.update(&item);
                    *left -= 1;
                    if *left == 0 {
                        done = Some(hash.digest().bytes());
                    }
                }
                Some(OpenValue::Map { left, entries, next }) => {
                    next.update(&item);
                    entries.push(next.digest().bytes());
                    *left -= 1;
                    if *left == 0 {
                        entries.sort_unstable();
                        done = Some(leaf(b'{', entries.as_flattened()));
                    } else {
                        *next = key(&reader.any_key()?);
                    }
                }
            }
            if done.is_some() {
                open.pop();
            }
        }
    }
}

/// As JSON shows it.
fn number(value: &impl serde_core::Serialize) -> [u8; 20] {
    leaf(b'#', &serde_json::to_vec(value).expect("a number can be written"))
}

/// The kind stands before the content, so that no value of one kind has the hash of another.
fn leaf(kind: u8, content: &[u8]) -> [u8; 20] {
    let mut hash = Sha1::from([kind]);
    hash.update(content);
    hash.digest().bytes()
}

/// The beginning of the hash of an entry.
fn key(name: &str) -> Sha1 {
    Sha1::from(leaf(b'"', name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::encode;
    use crate::codec::equivalence_tests::value;

    fn of_json(text: &str) -> [u8; 20] {
        canonical_hash(Codec::Json, text.as_bytes()).unwrap()
    }

    #[test]
    fn the_way_of_writing_does_not_matter() {
        let one = of_json(r#"{"a":[1,{"x":null,"y":"é"}],"b":{}}"#);
        assert_eq!(of_json(r#" { "b" : {}, "a" : [ 1 , {"y":"\u00e9", "x":null} ] } "#), one);
        assert_eq!(hex(one), "d11203e94302091b468d182d1e3444f9d7e15506", "it must not change from version to version");
    }

    #[test]
    fn different_values_have_different_hashes() {
        let all = [
            "null",
            "false",
            "true",
            "0",
            "1",
            "-1",
            "1.0",
            "1e3",
            "\"1\"",
            "\"\"",
            "[]",
            "{}",
            "[[]]",
            "[1]",
            "[1,1]",
            "[[1],1]",
            "[1,[1]]",
            "[{}]",
            r#"{"a":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"b":1}"#,
            r#"{"ab":1}"#,
            r#"{"a":{"b":1}}"#,
            "18446744073709551616",
            "18446744073709551617",
            "0.1",
            "0.10",
            "123456789012345678901234567890123456789012345678",
            "123456789012345678901234567890123456789012345679",
        ];
        let mut hashes: Vec<_> = all.iter().map(|text| of_json(text)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), all.len());
    }

    #[test]
    fn what_is_no_value_has_no_hash() {
        for wrong in ["", "{", "[1,]", "1 2", "nul"] {
            assert!(canonical_hash(Codec::Json, wrong.as_bytes()).is_err(), "{wrong}");
        }
        for wrong in [&b""[..], &[0x81], &[0x92, 1], &[1, 1]] {
            assert!(canonical_hash(Codec::MessagePack, wrong).is_err(), "{wrong:?}");
        }
    }

    fn hex(hash: [u8; 20]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    proptest! {
        #[test]
        fn both_codecs_have_the_same_hash(value in value()) {
            let mut packed = Vec::new();
            encode(Codec::MessagePack, &value, &mut packed).unwrap();
            let text = serde_json::to_vec(&value).unwrap();
            let hash = canonical_hash(Codec::Json, &text);
            prop_assert!(hash.is_ok());
            prop_assert_eq!(canonical_hash(Codec::MessagePack, &packed), hash.clone());
            prop_assert_eq!(canonical_hash(Codec::MessagePack, &to_message_pack(&text).unwrap()), hash);
        }
    }
}
