//! The grammar of names on the wire.

use crate::untrusted_text::quoted;

/// The longest name, in bytes.
const LONGEST: usize = 128;

/// Checks that `name` is `[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*`, at most 128 bytes and not JSON-RPC's own.
/// The error says what is wrong with the name.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if name.len() > LONGEST {
        return Err(format!("{} has {} bytes, a name has at most {LONGEST}", quoted(name), name.len()));
    }
    if name == "rpc" || name.starts_with("rpc.") {
        return Err(format!(
            "{} is not a valid name: names that begin with `rpc.` belong to JSON-RPC; choose another",
            quoted(name)
        ));
    }
    let word = |word: &str| {
        let mut bytes = word.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if name.split('.').all(word) {
        return Ok(());
    }
    Err(format!(
        "{} is not a valid name: expected ASCII letters, digits and `_`, not a digit first, words joined by `.`",
        quoted(name)
    ))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["add", "_", "a1", "counter.bump", "A.b_2.C", &"x".repeat(128)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "1a", "a-b", "a..b", ".a", "a.", "a b", "añ", "rpc.x", "rpc", "!live", &"x".repeat(129)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
