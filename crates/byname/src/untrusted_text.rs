//! Text of others in messages: escaped and cut.

use std::fmt::{self, Write as _};

/// The most characters of such a text in a message.
const LONGEST: usize = 128;

/// `text` in backticks. Characters that could move a cursor or end the quote are escaped. A long text is cut.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST) + 2);
    out.push('`');
    for (at, c) in text.chars().enumerate() {
        match c {
            _ if at == LONGEST => {
                out.push('…');
                break;
            }
            '"' | '\'' => out.push(c),
            '`' => out.push_str("\\`"),
            _ => out.extend(c.escape_debug()),
        }
    }
    out.push('`');
    out
}

/// As [`quoted`], for the value of a header.
pub(crate) fn quoted_bytes(text: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(text))
}

/// The beginning of `what`: at most `longest` bytes. Characters that could move a cursor are escaped. `…` stands for the
/// rest, which is not formatted.
pub(crate) fn excerpt(what: impl fmt::Display, longest: usize) -> String {
    let mut excerpt = Excerpt { text: String::new(), longest };
    // The only error is that there is more.
    if write!(excerpt, "{what}").is_err() {
        excerpt.text.push('…');
    }
    excerpt.text
}

struct Excerpt {
    text: String,
    longest: usize,
}

impl fmt::Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let before = self.text.len();
            match c {
                '"' | '\'' | '\\' => self.text.push(c),
                _ => self.text.extend(c.escape_debug()),
            }
            if self.text.len() > self.longest {
                self.text.truncate(before);
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

/// At most the first `longest` bytes of `text`, cut between characters.
/// The standard library has this as `str::floor_char_boundary`, since Rust 1.91.
pub(crate) fn beginning(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The URL for a message and the log, without credentials. A password that is not escaped may contain a slash or text
/// that looks like a scheme. So if the host has no user name, everything up to the last `@` may be credentials.
pub(crate) fn without_credentials(url: &str) -> String {
    let (scheme, rest) = match url.find("://") {
        Some(at) if is_scheme(&url[..at]) => url.split_at(at + "://".len()),
        _ => ("", url),
    };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rfind('@').or_else(|| rest.rfind('@')) {
        Some(at) => format!("{scheme}…{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// Whether only the characters of a scheme are in it.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_backticks_and_escaped() {
        assert_eq!(quoted("add"), "`add`");
        assert_eq!(quoted("a \"b\" é 'c'"), "`a \"b\" é 'c'`");
        assert_eq!(quoted("a\u{1b}[2J\n\u{202e}`\\"), "`a\\u{1b}[2J\\n\\u{202e}\\`\\\\`");
        assert_eq!(quoted(&"x".repeat(128)), format!("`{}`", "x".repeat(128)));
        assert_eq!(quoted(&"x".repeat(129)), format!("`{}…`", "x".repeat(128)));
        assert_eq!(quoted_bytes(b"\xff"), "`\u{fffd}`");
    }

    #[test]
    fn an_excerpt_escapes_control_characters_and_ends_between_characters() {
        assert_eq!(excerpt(r#"{"a":"\u0001 é '"}"#, 99), r#"{"a":"\u0001 é '"}"#);
        assert_eq!(excerpt("a\u{1b}[2J\n\u{202e}", 99), "a\\u{1b}[2J\\n\\u{202e}");
        assert_eq!(excerpt("x".repeat(8), 8), "x".repeat(8));
        assert_eq!(excerpt("x".repeat(9), 8), "xxxxxxxx…");
        assert_eq!(excerpt("aaa€", 5), "aaa…", "of the last character two bytes would fit");
        assert_eq!(excerpt("aaa\u{1b}", 5), "aaa…", "an escape is not cut");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = "aé€😀"; // of 1, 2, 3 and 4 bytes
        let beginnings = [(0, ""), (1, "a"), (2, "a"), (3, "aé"), (5, "aé"), (6, "aé€"), (9, "aé€"), (10, text)];
        for (longest, expected) in beginnings {
            assert_eq!(beginning(text, longest), expected, "{longest}");
        }
        assert_eq!(beginning(text, usize::MAX), text);
    }
}
