//! An argument that a server doesn't know: how it says so, and how its caller reads that.

use serde_json::json;

use crate::error::{Code, Error, Executed};

/// The member of an error's data that names the argument.
const MEMBER: &str = "unknown_argument";

/// The longest name that is sent back, in bytes: a caller can send one of any length.
const LONGEST: usize = 128;

/// Server: the error about an argument of this name, which says it in words already.
pub(super) fn says(error: Error, name: &str) -> Error {
    if name.len() > LONGEST { error } else { error.with_data(json!({ MEMBER: name })) }
}

/// Client: the argument that the server doesn't know, where that is why it did not run the call.
pub(crate) fn told(error: &Error) -> Option<&str> {
    if error.code() != Code::InvalidArgument || error.executed() != Executed::No {
        return None;
    }
    error.data()?.get(MEMBER)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_argument_only_where_the_call_did_not_run() {
        let refused = |code| Error::refused(code, "");
        assert_eq!(told(&says(refused(Code::InvalidArgument), "a")), Some("a"));
        assert_eq!(told(&says(refused(Code::InvalidArgument).executed_is(Executed::Yes), "a")), None);
        assert_eq!(told(&says(refused(Code::Unavailable), "a")), None);
        assert_eq!(told(&refused(Code::InvalidArgument)), None);
        let longest = "x".repeat(LONGEST);
        assert_eq!(told(&says(refused(Code::InvalidArgument), &longest)), Some(longest.as_str()));
        assert_eq!(told(&says(refused(Code::InvalidArgument), &"x".repeat(LONGEST + 1))), None);
    }
}
