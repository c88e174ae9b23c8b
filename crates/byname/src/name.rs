//! The grammar of names on the wire, and patterns of names: [`NamePattern`].

use std::fmt;

use crate::telemetry_names::OTHER;
use crate::untrusted_text::quoted;

/// The longest name, in bytes.
const LONGEST: usize = 128;

/// Checks that `name` is `[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*`, at most 128 bytes, not JSON-RPC's own and not
/// [`OTHER`].
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
    if name == OTHER {
        // The series of such a function would be those of all unknown names.
        return Err(format!(
            "`{OTHER}` is not a valid name: calls of names that no function has are counted under it; choose another"
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

/// Which names are meant: one, all below a word, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamePattern {
    /// `orders.get`
    Exact(String),
    /// `orders.*`, which is `orders.get` and `orders.items.add`, but not `orders`. The dot is kept.
    Below(String),
    /// `*`
    All,
}

impl NamePattern {
    /// Reads a pattern. The error says what is wrong with it.
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        if pattern == "*" {
            return Ok(Self::All);
        }
        let name = pattern.strip_suffix(".*").unwrap_or(pattern);
        if check(name).is_err() {
            let pattern = quoted(pattern);
            return Err(format!("{pattern} is not a pattern; expected a name, `a.*` for all names below `a`, or `*`"));
        }
        Ok(if name == pattern { Self::Exact(name.to_owned()) } else { Self::Below(format!("{name}.")) })
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Below(prefix) => name.starts_with(prefix.as_str()),
            Self::All => true,
        }
    }

    /// Of two patterns that match the same name, the more specific one has the greater number.
    pub(crate) fn specificity(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(prefix) => prefix.len(),
            Self::All => 0,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(prefix) => write!(f, "{prefix}*"),
            Self::All => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NamePattern, check};

    #[test]
    fn a_pattern_is_a_name_all_below_a_word_or_everything() {
        let matched = |pattern: &str| {
            let parsed = NamePattern::parse(pattern).unwrap();
            assert_eq!(parsed.to_string(), pattern);
            let names = ["a", "a.b", "a.b.c", "ab", "b.a"];
            names.into_iter().filter(|name| parsed.matches(name)).collect::<Vec<_>>()
        };
        assert_eq!(matched("a"), ["a"]);
        assert_eq!(matched("a.b"), ["a.b"]);
        assert_eq!(matched("a.*"), ["a.b", "a.b.c"]);
        assert_eq!(matched("a.b.*"), ["a.b.c"]);
        assert_eq!(matched("*"), ["a", "a.b", "a.b.c", "ab", "b.a"]);
        for bad in ["", ".*", "**", "a*", "a.*.b", "*.a", "a..*", "a.* ", "a.**", "!live", "rpc.*"] {
            let why = NamePattern::parse(bad).unwrap_err();
            assert!(why.contains("is not a pattern; expected a name, `a.*`"), "{why}");
        }
    }

    #[test]
    fn the_longer_pattern_is_the_more_specific_and_a_name_the_most() {
        let specificities = ["*", "a.*", "a.b.*", "a.b.c"].map(|text| NamePattern::parse(text).unwrap().specificity());
        assert!(specificities.is_sorted_by(|less, more| less < more), "{specificities:?}");
    }

    #[test]
    fn names_follow_the_grammar() {
        for good in ["add", "_", "a1", "counter.bump", "A.b_2.C", &"x".repeat(128)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["_OTHER", "", "1a", "a-b", "a..b", ".a", "a.", "a b", "añ", "rpc.x", "rpc", "!live", &"x".repeat(129)]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
