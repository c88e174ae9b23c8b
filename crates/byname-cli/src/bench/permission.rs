//! Whether load may be sent to a function: [`permission`].

use std::io::{self, BufRead as _, Write as _};

/// What is to be done before load is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// Load may be sent.
    Granted,
    /// The user is asked this.
    Ask(String),
    /// Load is not sent, for this reason.
    Refused(String),
}

/// `is_readonly` is what the server says of the function, if it says anything. `amount` says how much load it is.
pub(super) fn permission(
    name: &str,
    is_readonly: Option<bool>,
    has_yes: bool,
    can_ask: bool,
    amount: &str,
) -> Permission {
    let state = match is_readonly {
        Some(true) => return Permission::Granted,
        _ if has_yes => return Permission::Granted,
        Some(false) => format!("`{name}` is not declared readonly, so each call may change something"),
        None => format!("it is not known whether `{name}` is readonly, so each call may change something"),
    };
    if can_ask {
        Permission::Ask(format!("{state}. Send {amount}? [y/N] "))
    } else {
        Permission::Refused(format!(
            "{state}; give --yes to send the load; you can't be asked, because standard input is not a terminal"
        ))
    }
}

/// Asks on stderr, and reads the answer from stdin.
pub(super) fn ask(question: &str) -> io::Result<bool> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_change_something_is_asked_about() {
        assert_eq!(permission("get", Some(true), false, false, "10 calls"), Permission::Granted);
        assert_eq!(permission("pay", Some(false), true, false, "10 calls"), Permission::Granted);
        assert_eq!(
            permission("pay", Some(false), false, true, "10 calls"),
            Permission::Ask(
                "`pay` is not declared readonly, so each call may change something. Send 10 calls? [y/N] ".to_owned()
            )
        );
        let Permission::Refused(why) = permission("pay", None, false, false, "10 calls") else { panic!("it is asked") };
        assert!(why.starts_with("it is not known whether `pay` is readonly") && why.contains("give --yes"), "{why}");
    }

    #[test]
    fn yes_is_said_explicitly() {
        assert!(["y\n", "Yes\n", " YES "].into_iter().all(is_yes));
        assert!(!["", "\n", "n\n", "yeah\n"].into_iter().any(is_yes));
    }
}
