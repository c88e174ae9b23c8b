//! Properties of JSON text that are found without parsing: depth, the ends of strings, long integers.

/// Whether arrays and objects in `text` are nested deeper than `limit`. Brackets in strings don't count.
///
/// serde_json checks the depth of what it builds, but skips over ignored and raw values unchecked.
pub(super) fn deeper_than(limit: usize, text: &[u8]) -> bool {
    // Few texts have this number of brackets, and memchr checks many bytes at once.
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
pub(super) fn wide_integers(text: &[u8]) -> Vec<u64> {
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

/// The least digits of an integer beyond 64 bits.
pub(super) const SHORTEST_WIDE_INTEGER: usize = 19;

/// Whether `text` contains enough digits for an integer beyond 64 bits, in a string or not: 19 after a minus, or 20.
fn has_long_number(text: &[u8]) -> bool {
    const LEAST: usize = SHORTEST_WIDE_INTEGER;
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    // Every run of this many digits contains one of the bytes at this distance.
    let mut at = LEAST - 1;
    while let Some(byte) = text.get(at) {
        // A run of this many digits has another one at one of these distances. Most numbers are shorter.
        if byte.is_ascii_digit() && (is_digit(at + LEAST / 2) || is_digit(at - LEAST / 2)) {
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

/// The length of the string at the start of `text`, with its quotes.
pub(super) fn string_length(text: &[u8]) -> usize {
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
    use super::*;

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
    fn the_fast_scan_misses_no_wide_integer() {
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
