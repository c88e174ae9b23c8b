//! Rejects objects that use the keys that are reserved for serde_json.
//!
//! An object with one of these keys tells serde_json that a string stands for a value. serde_json's `Value` accepts
//! this from any object: it would parse a string from the wire as JSON, whatever its depth. So such a key is rejected
//! at every position, before serde_json or serde's buffers see it.

use std::fmt;

use super::json_scan::string_length;
use super::serde_json_internals::{PREFIX, is_private};

/// The message about an object with such a key.
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object has a key that begins with `{PREFIX}`, which is reserved for serde_json: rename the key")
    }
}

/// Whether an object in the JSON `text` has such a key, in any spelling.
pub(super) fn has_private_key(text: &[u8]) -> bool {
    // Most texts are small, and too short for such a key.
    if text.len() < PREFIX.len() {
        return false;
    }
    // Such a key has each letter either plain or as `\u00` and two digits. Few texts contain a dollar or such an
    // escape.
    let is_suspicious = |at: usize| match &text[at..] {
        [b'\\', b'u', b'0', b'0', b'2'..=b'7', ..] => true,
        rest => rest.starts_with(PREFIX.as_bytes()),
    };
    memchr::memchr2_iter(b'$', b'\\', text).any(is_suspicious) && a_key_is_private(text)
}

#[cold]
fn a_key_is_private(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'"', rest) {
        let (string, behind) = rest[at..].split_at(string_length(&rest[at..]));
        let is_key = behind.trim_ascii_start().starts_with(b":");
        if is_key && serde_json::from_slice::<String>(string).is_ok_and(|key| is_private(&key)) {
            return true;
        }
        rest = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::{DeserializeOwned, IgnoredAny};
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::codec::serde_json_internals::RAW;
    use crate::codec::{Codec, decode, to_json, to_message_pack};

    const SPELLINGS: [&str; 5] = [
        r"$serde_json::private::RawValue",
        r"\u0024serde_json::private::RawValue",
        r"$serde\u005Fjson::private::\u0052awValue",
        r"$serde_json::private::Number",
        r"$serde_json::private::",
    ];

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "it is only read")]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "it is only read")]
    enum Untagged {
        Any(Value),
    }

    fn refused<T: DeserializeOwned + Debug>(text: &str) {
        let packed = to_message_pack(text.as_bytes()).unwrap();
        for (codec, bytes) in [(Codec::Json, text.as_bytes()), (Codec::MessagePack, &packed)] {
            assert_eq!(decode::<T>(codec, bytes).unwrap_err(), Refused.to_string(), "{codec:?} {text}");
        }
    }

    #[test]
    fn a_reserved_key_is_rejected_in_every_position_and_spelling() {
        for key in SPELLINGS {
            for text in [
                format!(r#"{{"{key}":"[1]"}}"#),
                format!(r#"[{{"a": {{"b" : 1, "{key}" : "[1]"}}}}]"#),
                format!(r#"{{"a":{{"é\n\"\\":[{{"{key}"{}:1}}]}}}}"#, "\n\t "),
            ] {
                refused::<Value>(&text);
                refused::<Box<RawValue>>(&text);
                refused::<IgnoredAny>(&text);
                refused::<Untagged>(&text);
            }
            refused::<Flat>(&format!(r#"{{"a":{{"{key}":"[1]"}}}}"#));
            refused::<Flat>(&format!(r#"{{"{key}":"[1]"}}"#));
            refused::<BTreeMap<String, String>>(&format!(r#"{{"{key}":"[1]"}}"#));
            refused::<BTreeMap<String, Option<Value>>>(&format!(r#"{{"a":{{"{key}":null}}}}"#));
        }
    }

    #[test]
    fn the_same_text_is_accepted_where_it_is_not_a_key() {
        for text in [
            format!(r#"["{RAW}",{{"a":"{RAW}"}},"{{\"{RAW}\":1}}"]"#),
            format!(r#"{{"a{RAW}":"$","\\u0024serde_json::private::":"\\"}}"#),
            r#"{"$serde_json":1,"$serde_json::private":2,"$":"\u0024"}"#.to_owned(),
        ] {
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(decode::<Value>(Codec::Json, text.as_bytes()).unwrap(), value);
            let packed = to_message_pack(text.as_bytes()).unwrap();
            assert_eq!(decode::<Value>(Codec::MessagePack, &packed).unwrap(), value);
        }
    }

    /// Each string is read with a depth of its own, so a few kilobytes hold more levels than a stack.
    #[test]
    fn strings_in_strings_are_not_read_as_json() {
        let mut text = "1".to_owned();
        for _ in 0..5 {
            text = format!("{}{}{}", "[".repeat(100), text, "]".repeat(100));
            text = format!("{{{}:{}}}", Value::from(RAW), Value::from(text));
        }
        assert!(text.len() < 20_000, "{}", text.len());
        refused::<Value>(&text);
        refused::<Vec<Flat>>(&format!("[{{\"a\":{text}}}]"));
    }

    /// A type that swallows the error has not read the rest.
    #[test]
    fn the_refusal_is_not_swallowed() {
        #[derive(Debug)]
        struct Lenient;
        impl<'de> Deserialize<'de> for Lenient {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let _ = Value::deserialize(deserializer);
                Ok(Self)
            }
        }
        refused::<Vec<Lenient>>(&format!(r#"[{{"{RAW}":"1"}}]"#));
    }

    proptest! {
        #[test]
        fn no_private_key_is_missed(
            parts in proptest::collection::vec("[a-z\"\\\\{}\\[\\],: ]{0,3}", 0..6),
            escaped in proptest::collection::vec(any::<bool>(), PREFIX.len()),
            at in 0..6usize,
        ) {
            let letters = PREFIX.chars().zip(&escaped);
            let key: String = letters
                .map(|(letter, escaped)| if *escaped { format!("\\u{:04x}", u32::from(letter)) } else { letter.into() })
                .collect();
            // The text around it can be any value.
            let mut values: Vec<Value> = parts.into_iter().map(Value::from).collect();
            values.insert(at.min(values.len()), json!({"here": 1}));
            let text = Value::from(values).to_string().replace("{\"here\"", &format!("{{\"{key}\""));
            prop_assert!(has_private_key(text.as_bytes()), "{}", text);
            prop_assert!(decode::<Value>(Codec::Json, text.as_bytes()).is_err());
            let packed = to_message_pack(text.as_bytes()).unwrap();
            prop_assert!(decode::<Value>(Codec::MessagePack, &packed).is_err());
            prop_assert!(to_json(&packed).is_ok(), "so that the refusal has JSON's words");
        }
    }
}
