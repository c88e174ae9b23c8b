//! The grammar of names on the wire.

/// The longest name, in bytes.
const LONGEST: usize = 128;

/// Says what is wrong with a whole name, the prefix included, and what to do.
pub(super) fn check(name: &str) -> Result<(), (String, &'static str)> {
    const GRAMMAR: &str = "a name consists of ASCII letters, digits and `_`, in parts separated by dots: `users.get`";
    if name.is_empty() {
        return Err(("a name can't be empty".into(), GRAMMAR));
    }
    if name.len() > LONGEST {
        let wrong = format!("this name has {} bytes; the maximum is {LONGEST}", name.len());
        return Err((wrong, "shorten it, or the prefix of its block"));
    }
    if name.starts_with("rpc.") {
        let wrong = "names that begin with `rpc.` are reserved for JSON-RPC".into();
        return Err((wrong, "choose a name that begins differently"));
    }
    if name == "_OTHER" {
        let wrong = "calls of names that no function has are counted as `_OTHER`".into();
        return Err((wrong, "choose another name"));
    }
    for part in name.split('.') {
        let Some(first) = part.chars().next() else {
            let wrong = format!("`{name}` has an empty part next to a dot");
            return Err((wrong, GRAMMAR));
        };
        if first.is_ascii_digit() {
            return Err((format!("`{part}` begins with a digit"), GRAMMAR));
        }
        let odd = |letter: &char| !letter.is_ascii_alphanumeric() && *letter != '_';
        if let Some(odd) = part.chars().find(odd) {
            return Err((format!("{odd:?} can't be in a name"), GRAMMAR));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names() {
        for name in ["a", "_", "_OTHERS", "a._OTHER", "add", "Users.get_2", "a.b.c", "rpc", "rpcx.a"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        assert_eq!(check(&"a".repeat(128)), Ok(()));
    }

    #[test]
    fn bad_names() {
        for name in ["", ".", "a.", ".a", "a..b", "2a", "a.2", "a b", "é", "a-b", "rpc.a", "_OTHER"] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check(&"a".repeat(129)).is_err());
    }
}
