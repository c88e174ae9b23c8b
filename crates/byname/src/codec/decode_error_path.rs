//! Finds the position of an error inside a value.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};

use crate::untrusted_text::beginning;

/// The path from a value to the part that could not be read. It is recorded while the error is returned to the caller.
#[derive(Debug, Default)]
pub(crate) struct ErrorPath {
    /// The innermost first.
    parts: RefCell<Vec<PathPart>>,
    /// Whether a key is being read.
    is_in_key: Cell<bool>,
    key: RefCell<String>,
}

#[derive(Debug)]
pub(super) enum PathPart {
    Index(usize),
    Key(String),
}

/// The longest path that is shown in full, in bytes. Its keys may come from outside.
const LONGEST: usize = 200;

impl ErrorPath {
    /// The text after the name of the value: `[0].quantity`, or `.quantity`.
    pub(crate) fn suffix(&self) -> String {
        let mut out = String::new();
        for part in self.parts.borrow().iter().rev() {
            // Writing to a string never fails.
            let _ = write!(out, "{part}");
            if out.len() > LONGEST {
                return format!("{}…", beginning(&out, LONGEST));
            }
        }
        out
    }

    /// Records whether a part of the value was read. An error that comes from inside a part belongs to that part,
    /// unless it was swallowed.
    pub(super) fn leave(&self, failed: bool, part: impl FnOnce() -> PathPart) {
        let mut parts = self.parts.borrow_mut();
        if failed {
            parts.push(part());
        } else {
            parts.clear();
        }
    }

    /// Runs `read`, which reads a key, and returns the key too.
    pub(super) fn key<T>(&self, read: impl FnOnce() -> T) -> (T, String) {
        self.is_in_key.set(true);
        let result = read();
        self.is_in_key.set(false);
        (result, self.key.take())
    }

    /// Records a key, if one is being read.
    pub(super) fn visit(&self, value: &impl fmt::Display) {
        if self.is_in_key.get() {
            self.key.replace(value.to_string());
        }
    }
}

/// Without the dot before a first key: `lines[0].quantity`.
impl fmt::Display for ErrorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = self.suffix();
        f.write_str(suffix.strip_prefix('.').unwrap_or(&suffix))
    }
}

impl fmt::Display for PathPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |key: &str| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        match self {
            Self::Index(at) => write!(f, "[{at}]"),
            Self::Key(key) if is_plain(key) => write!(f, ".{key}"),
            Self::Key(key) => write!(f, "[{}]", format!("{:?}", beginning(key, LONGEST)).replace('`', "\\`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use crate::codec::{Codec, decode, to_message_pack};

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "it is only read")]
    struct Line {
        quantity: u8,
        #[serde(default)]
        point: (i8, f32),
        #[serde(default)]
        color: Option<Color>,
        #[serde(default)]
        even: Option<Even>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "it is only read")]
    enum Color {
        Red,
        Gray(u8),
        Rgb { r: u8 },
        Pair(u8, u8),
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "u8")]
    #[allow(dead_code, reason = "it is only read")]
    struct Even(u8);

    impl TryFrom<u8> for Even {
        type Error = &'static str;

        fn try_from(value: u8) -> Result<Self, &'static str> {
            if value.is_multiple_of(2) { Ok(Self(value)) } else { Err("an odd number") }
        }
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "it is only read")]
    struct Order {
        lines: Vec<Line>,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    /// Treats a value that it can't read as absent.
    #[derive(Debug)]
    struct Lenient;

    impl<'de> Deserialize<'de> for Lenient {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let _ = Vec::<bool>::deserialize(deserializer);
            Ok(Self)
        }
    }

    #[track_caller]
    fn says<T: DeserializeOwned + Debug>(text: &str, words: &str) {
        assert_eq!(decode::<T>(Codec::Json, text.as_bytes()).unwrap_err(), words, "{text}");
        let packed = to_message_pack(text.as_bytes()).unwrap();
        assert_eq!(decode::<T>(Codec::MessagePack, &packed).unwrap_err(), words, "{text}");
    }

    #[test]
    fn an_error_says_where_it_is() {
        says::<u8>("\"x\"", "invalid type: string \"x\", expected u8");
        says::<Vec<Line>>(r#"[{"quantity":"2"}]"#, "`[0].quantity`: invalid type: string \"2\", expected u8");
        says::<Vec<Line>>(r#"[{"quantity":1},{}]"#, "`[1]`: missing field `quantity`");
        says::<Vec<Line>>(r#"[{"quantity":300}]"#, "`[0].quantity`: invalid value: integer `300`, expected u8");
        says::<Vec<Line>>(r#"[{"quantity":1,"point":[1,null]}]"#, "`[0].point[1]`: invalid type: null, expected f32");
        says::<Vec<Line>>(
            r#"[{"quantity":1,"point":[1]}]"#,
            "`[0].point`: invalid length 1, expected a tuple of size 2",
        );
        says::<Vec<Line>>(
            r#"[{"quantity":1,"point":[1,2,3]}]"#,
            "`[0].point`: invalid length, expected an array of 2: it is longer",
        );
        // serde_json's position would show the third item.
        says::<Vec<Even>>("[2,3,4]", "`[1]`: an odd number");
        says::<Line>(r#"{"quantity":1,"even":3,"color":"Red"}"#, "`even`: an odd number");
        says::<BTreeMap<String, Vec<u8>>>(
            r#"{"a":[1],"b":[2,true]}"#,
            "`b[1]`: invalid type: boolean `true`, expected u8",
        );
        says::<BTreeMap<i8, u8>>(r#"{"-1":true}"#, "`-1`: invalid type: boolean `true`, expected u8");
        says::<BTreeMap<String, u8>>(
            r#"{"a \"`\n":true}"#,
            "`[\"a \\\"\\`\\n\"]`: invalid type: boolean `true`, expected u8",
        );
    }

    #[test]
    fn an_error_in_a_variant_says_where_it_is() {
        let no_u8 = "invalid type: boolean `true`, expected u8";
        let line = |color: &str| format!(r#"{{"quantity":1,"color":{color}}}"#);
        says::<Line>(&line(r#"{"Gray":true}"#), &format!("`color.Gray`: {no_u8}"));
        says::<Line>(&line(r#"{"Rgb":{"r":true}}"#), &format!("`color.Rgb.r`: {no_u8}"));
        says::<Line>(&line(r#"{"Pair":[1,true]}"#), &format!("`color.Pair[1]`: {no_u8}"));
        says::<Line>(
            &line("\"Blue\""),
            "`color`: unknown variant `Blue`, expected one of `Red`, `Gray`, `Rgb`, `Pair`",
        );
        for wrong in ["7", "[]", "true", "{}", r#"{"Gray":1,"Red":null}"#] {
            says::<Line>(
                &line(wrong),
                "`color`: invalid type, expected the name of a variant, or an object with it as the only key; \
                 the variants are `Red`, `Gray`, `Rgb`, `Pair`",
            );
        }
    }

    /// serde buffers only what is flattened.
    #[test]
    fn an_error_beside_a_flattened_field_says_where_it_is() {
        says::<Vec<Order>>(
            r#"[{"lines":[{"quantity":1},{"quantity":null}],"note":1}]"#,
            "`[0].lines[1].quantity`: invalid type: null, expected u8",
        );
    }

    #[test]
    fn an_ignored_error_leaves_no_path() {
        says::<(Lenient, Vec<u8>)>(r#"[[true],[true]]"#, "`[1][0]`: invalid type: boolean `true`, expected u8");
        let why = decode::<(Lenient, u8)>(Codec::Json, br#"["x",true]"#).unwrap_err();
        assert_eq!(why, "`[1]`: invalid type: boolean `true`, expected u8");
    }

    #[test]
    fn a_long_path_is_cut() {
        let text = format!(r#"{{"{}":{{"a":1}}}}"#, "é".repeat(150));
        let why = decode::<BTreeMap<String, BTreeMap<String, bool>>>(Codec::Json, text.as_bytes()).unwrap_err();
        assert!(
            why.starts_with("`[\"ééé") && why.ends_with("…`: invalid type: integer `1`, expected a boolean"),
            "{why}"
        );
        assert!(why.len() < 270, "{why}");
    }

    #[test]
    fn the_error_about_invalid_json_has_the_place() {
        let why = |text: &str| decode::<Vec<u8>>(Codec::Json, text.as_bytes()).unwrap_err();
        assert_eq!(why("[1,\n 2"), "it is not JSON: EOF while parsing a list at line 2 column 2");
        assert_eq!(why("[1,\n 2,x]"), "it is not JSON: expected a JSON value at line 2 column 4");
        assert_eq!(why("[\"x\",}"), "it is not JSON: expected a JSON value at line 1 column 6");
        assert_eq!(why("[1] 2"), "it is not JSON: trailing characters at line 1 column 5");
        assert_eq!(why(" "), "it is empty");
    }
}
