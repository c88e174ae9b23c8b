//! Everything that byname relies on in serde_json beyond its documentation. The tests of this file fail if a version
//! differs.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::Number;

/// The struct name that a `RawValue` is written with, and the newtype name that it is read with.
pub(super) const RAW: &str = "$serde_json::private::RawValue";

/// The struct name that a `Number` is written with if the program enables serde_json's feature `arbitrary_precision`.
pub(super) const NUMBER: &str = "$serde_json::private::Number";

/// The common prefix of all private keys.
pub(super) const PREFIX: &str = "$serde_json::private::";

/// Whether a `Number` is written in this way. Without that feature [`NUMBER`] is an ordinary name.
pub(super) fn numbers_are_text() -> bool {
    static ARE_TEXT: LazyLock<bool> =
        LazyLock::new(|| "1.00".parse::<Number>().is_ok_and(|number| number.to_string() == "1.00"));
    *ARE_TEXT
}

/// Whether the key of an object is one of serde_json's private keys.
#[inline]
pub(super) fn is_private(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// The messages that the reader and the writer of MessagePack use too, so that both codecs have the same messages.
pub(super) const EXPECTED_VALUE: &str = "expected value";
pub(super) const TRAILING_CHARACTERS: &str = "trailing characters";
pub(super) const TOO_DEEP: &str = "recursion limit exceeded";
pub(super) const KEY_IS_NO_STRING: &str = "key must be a string";
pub(super) const KEY_IS_NO_NUMBER: &str = "invalid value: expected key to be a number in quotes";
pub(super) const OUT_OF_RANGE: &str = "number out of range";

/// The message about a word that is not the expected JSON word.
pub(super) const EXPECTED_WORD: &str = "expected ident";

/// The message of an error without the line and the column that serde_json appends.
pub(super) fn cut_position(message: &str) -> Cow<'_, str> {
    match message.rfind(" at line ") {
        Some(at) if message[at..].contains(" column ") => message[..at].into(),
        _ => message.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use serde::Deserialize;
    use serde::de::{DeserializeOwned, Error as _};
    use serde_json::value::RawValue;
    use serde_json::{Error, Value, json};

    use super::*;
    use crate::codec::{Codec, encode};

    fn message<T: DeserializeOwned + Debug>(text: &str) -> String {
        cut_position(&serde_json::from_str::<T>(text).unwrap_err().to_string()).into_owned()
    }

    #[test]
    fn these_are_the_names_that_serde_json_has() {
        let raw = RawValue::from_string("[1]".into()).unwrap();
        let mut packed = Vec::new();
        encode(Codec::MessagePack, &raw, &mut packed).unwrap();
        assert_eq!(packed, b"\x91\x01", "a struct of this name is written as what its text says");
        assert_eq!(serde_json::from_value::<Value>(json!({RAW: "[1]"})).unwrap(), json!([1]), "it is still private");
        assert!([RAW, NUMBER].into_iter().all(is_private));
    }

    #[test]
    fn these_are_the_words_that_serde_json_has() {
        #[derive(Debug, Deserialize)]
        enum Color {
            Red,
        }
        assert_eq!(message::<Color>("7"), EXPECTED_VALUE);
        assert!(matches!(serde_json::from_str("\"Red\""), Ok(Color::Red)));
        assert_eq!(message::<u8>("x"), EXPECTED_VALUE);
        assert_eq!(message::<Value>("two"), EXPECTED_WORD);
        assert_eq!(message::<u8>("1 2"), TRAILING_CHARACTERS);
        assert_eq!(message::<(u8,)>("[1,2]"), TRAILING_CHARACTERS);
        assert_eq!(message::<Value>(&"[".repeat(128)), TOO_DEEP);
        assert_eq!(serde_json::to_string(&BTreeMap::from([([1], 1)])).unwrap_err().to_string(), KEY_IS_NO_STRING);
        assert_eq!(message::<BTreeMap<u8, u8>>(r#"{"a":1}"#), KEY_IS_NO_NUMBER);
        assert_eq!(message::<f64>("1e400"), OUT_OF_RANGE);
    }

    #[test]
    fn an_error_ends_with_its_position() {
        let error = serde_json::from_str::<u8>(" \n  x").unwrap_err();
        assert_eq!((error.line(), error.column()), (2, 3));
        assert_eq!(error.to_string(), "expected value at line 2 column 3");
        assert_eq!(cut_position(&error.to_string()), "expected value");
        // The position is included when a message becomes the message of another error.
        let error = Error::custom(error);
        assert_eq!((error.line(), error.column()), (2, 3));
        assert_eq!(Error::custom("at last").to_string(), "at last");
        assert_eq!(cut_position("a word at line ends"), "a word at line ends");
    }
}
