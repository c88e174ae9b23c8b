//! Text on a terminal: [`print_text`], [`inert`] for text of others, and how JSON is shown.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};

use serde_json::Value;

use crate::exit::CommandError;

/// Prints to standard output. If the reader has closed the pipe, as `head` does, that is not an error.
pub(crate) fn print_text(text: &str) -> Result<(), CommandError> {
    print_to_reader(text).map(drop)
}

/// Prints to standard output. Returns whether the reader takes more.
pub(crate) fn print_to_reader(text: &str) -> Result<bool, CommandError> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(why) => Err(CommandError::other(format!("standard output can't be written: {why}"))),
    }
}

/// Prints a line to standard error. If that can't be written, the exit code still says how the command has ended.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// A number with what it counts.
pub(crate) fn counted(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// The text without characters that a terminal acts on. They are shown as `\u{1b}`. Line breaks stay.
pub(crate) fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => out.push(letter),
            _ if acts(letter) => drop(write!(out, "\\u{{{:x}}}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out
}

/// JSON in one line, in which such characters are escaped as JSON does it. It is the same value.
pub(crate) fn json_line(value: &Value) -> String {
    escaped(&value.to_string())
}

/// The same in lines.
pub(crate) fn json_lines(value: &Value) -> String {
    escaped(&format!("{value:#}"))
}

/// The text of JSON with the escapes that serde_json does not write: it escapes what is below a space, and nothing else.
pub(crate) fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '\n' => out.push(letter),
            // All of them have 16 bits.
            _ if acts(letter) => drop(write!(out, "\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out
}

/// Control characters, and those that change the direction of text.
fn acts(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn escapes_of_others_do_nothing() {
        assert_eq!(inert("a\u{1b}[31mb\r\nc\u{9b}2J\u{202e}"), "a\\u{1b}[31mb\\u{d}\nc\\u{9b}2J\\u{202e}");
        let value = json!({ "a\u{9b}": "\u{1b}[2J\u{202e}ß" });
        for written in [json_line(&value), json_lines(&value)] {
            assert!(written.chars().all(|letter| letter == '\n' || !acts(letter)), "{written}");
            assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }
    }
}
