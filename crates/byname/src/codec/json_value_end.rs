//! Where a JSON value ends, found in one pass that also checks it.

/// Deeper values are left to serde_json, which has no limit for a value that it skips.
const DEEPEST: u32 = u64::BITS;

/// The position behind the JSON value that begins at `start` of `text`. The value is on one line: a line break in it is an
/// error.
///
/// It is `None` for whatever is not plainly one value: invalid JSON or UTF-8, a value that is cut off, and one that is nested
/// deeper than 64. serde_json then decides. Whatever this accepts, serde_json's `RawValue` accepts with the same end.
pub(crate) fn value_end(text: &[u8], start: usize) -> Option<usize> {
    let mut scan = ValueScan { text, at: start, high_bits: 0 };
    scan.value()?;
    let is_utf8 = scan.high_bits & HIGH_BITS == 0 || std::str::from_utf8(&text[start..scan.at]).is_ok();
    is_utf8.then_some(scan.at)
}

/// The first position from `at` on that is not white space. A line break is not white space here.
pub(crate) fn past_blanks(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

struct ValueScan<'t> {
    text: &'t [u8],
    at: usize,
    /// All bytes of strings combined, for the highest bit of each.
    high_bits: u64,
}

impl ValueScan<'_> {
    fn value(&mut self) -> Option<()> {
        // One bit for each array or object around the position: 1 for an object.
        let (mut objects, mut depth) = (0u64, 0u32);
        loop {
            match self.next_byte()? {
                b'"' => self.string()?,
                b'-' => {
                    let first = *self.text.get(self.at)?;
                    self.at += 1;
                    self.number(first)?;
                }
                first @ b'0'..=b'9' => self.number(first)?,
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                open @ (b'{' | b'[') => {
                    let (is_object, close) = (open == b'{', open + 2);
                    self.at = past_blanks(self.text, self.at);
                    if self.text.get(self.at) == Some(&close) {
                        self.at += 1;
                    } else if depth == DEEPEST {
                        return None;
                    } else {
                        depth += 1;
                        objects = objects << 1 | u64::from(is_object);
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => return None,
            }
            // Behind a value.
            loop {
                if depth == 0 {
                    return Some(());
                }
                let is_object = objects & 1 == 1;
                match self.next_byte()? {
                    b',' => {
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self) -> Option<u8> {
        self.at = past_blanks(self.text, self.at);
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The name of a member, with its colon.
    fn name(&mut self) -> Option<()> {
        (self.next_byte()? == b'"').then_some(())?;
        self.string()?;
        (self.next_byte()? == b':').then_some(())
    }

    /// The rest of a string.
    fn string(&mut self) -> Option<()> {
        loop {
            while let Some(word) = self.text[self.at..].first_chunk() {
                let word = u64::from_le_bytes(*word);
                self.high_bits |= word;
                let ends = is_special(word);
                if ends != 0 {
                    // The lowest byte that is marked is a special one. Those above it may not be.
                    self.at += ends.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
            }
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                ..b' ' => return None,
                _ => self.high_bits |= u64::from(byte),
            }
        }
    }

    /// The rest of an escape.
    fn escape(&mut self) -> Option<()> {
        let escaped = *self.text.get(self.at)?;
        self.at += 1;
        match escaped {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// The rest of a number whose first digit was `first`.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' if self.text.get(self.at).is_some_and(u8::is_ascii_digit) => return None,
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    fn digits(&mut self) {
        self.at += self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }

    /// At least one digit.
    fn some_digits(&mut self) -> Option<()> {
        let start = self.at;
        self.digits();
        (self.at > start).then_some(())
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        self.text[self.at..].starts_with(rest).then_some(())?;
        self.at += rest.len();
        Some(())
    }
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH_BITS: u64 = ONES << 7;

/// Marks the quotes, the backslashes and the control characters in eight bytes, each by its highest bit. Bytes above the
/// lowest that is marked may be marked too.
fn is_special(word: u64) -> u64 {
    let is = |byte: u8| {
        let zero = word ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero
    };
    let is_control = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
    (is(b'"') | is(b'\\') | is_control) & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// Where serde_json sees the end of the first value of `text`.
    fn end_for_serde_json(text: &[u8]) -> Option<usize> {
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
        values.next()?.ok().map(|value| value.get().len())
    }

    #[test]
    fn every_kind_of_value_ends_where_serde_json_ends_it() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for value in [
            "0",
            "-0",
            "7",
            "1234567890",
            "-12.50",
            "1e5",
            "0.5E-10",
            "1E+9",
            "true",
            "false",
            "null",
            "\"\"",
            "\"a\"",
            "\"eight by\"",
            "\"more than eight\"",
            "\"é – 日本語, and more\"",
            r#""\"\\\/\b\f\n\r\t\u00e9\uD800""#,
            "\"1234567\\\\\"",
            "[]",
            "[ ]",
            "{}",
            "{ }",
            "[1,2]",
            "[1 ,\t2]",
            "{\"a\":1}",
            "{ \"a\" : { \"b\" : [ ] } , \"\" : 1 }",
            "[[],{},[{}]]",
            "\"\u{7f}\"",
            &deep(64),
            &deep(65),
        ] {
            for behind in ["", "}", "}\n", ",", " ", "]", "\""] {
                let text = format!("{value}{behind}");
                assert_eq!(value_end(text.as_bytes(), 0), Some(value.len()), "{text}");
                assert_eq!(end_for_serde_json(value.as_bytes()), Some(value.len()), "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_plainly_a_value_is_left_to_serde_json() {
        let deep = "[".repeat(66) + &"]".repeat(66);
        for text in [
            "",
            " ",
            "-",
            "-x",
            "01",
            "1.",
            "1.x",
            "1e",
            "1e+",
            "+1",
            ".5",
            "tru",
            "trux",
            "nul",
            "fals",
            "\"",
            "\"abc",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\"a line break\n\"",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1}",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{\"a\":1]",
            "{\"a\" 1}",
            "{a:1}",
            "{1:1}",
            "[1\n]",
            "\n1",
            "}",
            "]",
            ":",
            "'a'",
            "NaN",
            &deep,
        ] {
            assert_eq!(value_end(text.as_bytes(), 0), None, "{text}");
        }
        for text in [&b"\"\xff\""[..], b"\"seven b\xc3\"", b"{\"\xe9\":1}", b"\"\xed\xa0\x80\""] {
            assert_eq!(value_end(text, 0), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_ends_there_for_serde_json(
            text in proptest::collection::vec(
                proptest::sample::select(vec![
                    &b"{"[..], b"}", b"[", b"]", b":", b",", b"\"", b"\\", b"\\u00", b"\\n", b" ", b"\t", b"\r", b"\n", b"0", b"12",
                    b"-", b".", b"e", b"+", b"true", b"false", b"null", b"nul", b"a", b"\"item\":", b"\"name\"", b"\xc3", b"\xa9",
                    b"\xc3\xa9", b"\x1f", b"\x7f", b"\xff", b"eight by", b"\xe6\x97\xa5\xe6\x9c\xac",
                ]),
                0..24,
            ),
            start in 0..4usize,
        ) {
            let text = text.concat();
            let start = start.min(text.len());
            if let Some(end) = value_end(&text, start) {
                let value = text[start..end].trim_ascii_start();
                prop_assert_eq!(end_for_serde_json(value), Some(value.len()));
                prop_assert_eq!(serde_json::from_slice::<&RawValue>(value).unwrap().get().as_bytes(), value);
                prop_assert!(!value.contains(&b'\n'));
            }
        }

        #[test]
        fn what_serde_json_writes_is_accepted(
            names in proptest::collection::vec(".{0,12}", 1..4),
            numbers in proptest::collection::vec(any::<f64>(), 0..4),
            deep in 0..10usize,
        ) {
            let mut value = serde_json::json!({"numbers": numbers, "whole": u64::MAX, "nothing": null});
            for at in 0..deep {
                let name = names[at % names.len()].clone();
                value = serde_json::json!([{name.clone(): value}, name, true]);
            }
            let text = value.to_string();
            prop_assert_eq!(value_end(text.as_bytes(), 0), Some(text.len()));
            for cut in 1..text.len() {
                prop_assert_eq!(value_end(&text.as_bytes()[..cut], 0), None, "{}", cut);
            }
        }
    }
}
