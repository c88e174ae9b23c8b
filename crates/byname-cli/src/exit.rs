//! Why a command failed, and its exit code: [`CommandError`].

use std::process::ExitCode;

use byname::{CallError, Code, Error, Executed};
use serde_json::Value;

use crate::terminal_text::{inert, say};

/// A failure of a command. Each kind has its exit code, which the guide lists.
#[derive(Debug)]
pub(crate) struct CommandError {
    message: String,
    code: u8,
}

/// What `--help` says of the exit codes. The guide says the same.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  it has a value; no break was found
  1  the function ran and returned an error; a break was found; calls of a load failed
  2  nothing was called: the command, a file or the configuration is wrong
  3  there is no such function
  4  it is not allowed, or the service does not tell what it can do
  5  there is no server, or it is full
  6  it is late
  7  the arguments are wrong
  8  another error, as of output that can't be written";

/// The function ran and has returned an error, a check has found a break, or calls of a load have failed.
const FAILED: u8 = 1;
/// The command is wrong.
const USAGE: u8 = 2;
const UNKNOWN_FUNCTION: u8 = 3;
const NOT_ALLOWED: u8 = 4;
const UNAVAILABLE: u8 = 5;
const LATE: u8 = 6;
const WRONG_ARGUMENTS: u8 = 7;
const OTHER: u8 = 8;

impl CommandError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: USAGE }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: FAILED }
    }

    /// The service does not tell this caller what is asked.
    pub(crate) fn not_told(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: NOT_ALLOWED }
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: OTHER }
    }

    /// The same with a further sentence.
    pub(crate) fn noted(self, note: &str) -> Self {
        Self { message: format!("{}; {note}", self.message), ..self }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Prints it.
    pub(crate) fn report(&self) -> ExitCode {
        let bad = anstyle::AnsiColor::Red.on_default().bold();
        // A service must not seem to say what this command says, in a line of its own.
        let message = inert(&self.message).replace('\n', "\n  ");
        say(format_args!("{bad}error{bad:#}: {message}"));
        ExitCode::from(self.code)
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        // What a function returned says nothing of the call, whatever its code is.
        let is_of_function = error.executed() == Executed::Yes
            && ![Code::DeadlineExceeded, Code::Cancelled, Code::Internal].contains(&error.code());
        let code = match error.code() {
            _ if is_of_function => FAILED,
            Code::Unimplemented | Code::NotFound => UNKNOWN_FUNCTION,
            Code::Unauthenticated | Code::PermissionDenied => NOT_ALLOWED,
            Code::Unavailable | Code::ResourceExhausted => UNAVAILABLE,
            Code::DeadlineExceeded | Code::Cancelled => LATE,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => WRONG_ARGUMENTS,
            _ => OTHER,
        };
        Self { message: with_options(&error.to_string()), code }
    }
}

impl From<CallError<Value>> for CommandError {
    fn from(error: CallError<Value>) -> Self {
        match error {
            CallError::Method(own) => Self::failed(format!("the function returned its own error: {own}")),
            CallError::Rpc(error) => error.into(),
        }
    }
}

/// What the library's remedies name, and how the command line says it. Longer ones come first.
const OPTIONS: [(&str, &str); 16] = [
    ("its stub or `Client::stream`, or over HTTP with a POST that is not JSON-RPC", "`--stream`"),
    ("its stub or `Client::stream`", "`--stream`"),
    ("its stub or `Client::call`", "no `--stream`"),
    ("`Client::stream`", "`--stream`"),
    ("`.timeout(…)` on the call, or", "`--timeout`, or"),
    ("`.timeout(…)` on the call", "`--timeout`"),
    ("`.timeout(…)`", "`--timeout`"),
    ("`.streaming(…)`", "`--items`"),
    ("`.idempotency_key(…)`", "`--idempotency-key`"),
    ("`Client::bearer`", "`--token`"),
    ("`Client::header`", "`--header`"),
    ("`Client::allow_plaintext_token`", "`--allow-plaintext-token`"),
    ("`ClientTls::roots`", "`--ca`"),
    ("`ClientTls::identity`", "`--cert` and `--key`"),
    ("`ClientTls::server_name`", "`?tls=NAME` behind the address"),
    ("`ClientBuilder::endpoint`", "`?endpoint=/PATH` behind the address"),
];

/// The message with options of the command line, where it names functions of the library.
pub(crate) fn with_options(message: &str) -> String {
    OPTIONS.iter().fold(message.to_owned(), |message, (function, option)| message.replace(function, option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_function_is_not_one_of_the_call() {
        let code = |error: Error| CommandError::from(error).code;
        let refused = || Error::new(Code::NotFound, "there is no account 7");
        assert_eq!(code(refused()), UNKNOWN_FUNCTION);
        assert_eq!(code(Error::new(Code::DeadlineExceeded, "late")), LATE);
    }

    #[test]
    fn remedies_name_options() {
        let said = "allow more time with `.timeout(…)` on the call, or `Limits::call` of the server";
        assert_eq!(with_options(said), "allow more time with `--timeout`, or `Limits::call` of the server");
        let said = "give one with `ClientTls::identity`, and `Client::bearer`";
        assert_eq!(with_options(said), "give one with `--cert` and `--key`, and `--token`");
        let said = "`ticks` returns a stream, but was called for a single value; call it with its stub or `Client::stream`, or over HTTP with a \
                    POST that is not JSON-RPC";
        assert!(with_options(said).ends_with("call it with `--stream`"));
    }

    #[test]
    fn the_library_still_says_what_is_replaced() {
        let errors = include_str!("../../../docs/errors.md");
        for (function, _) in OPTIONS {
            assert!(errors.contains(function), "{function}");
        }
    }

    #[test]
    fn the_guide_has_each_exit_code() {
        let guide = include_str!("../../../docs/guide/command-line.md");
        let codes = |text: &str, before: &str| -> Vec<u8> {
            let code = |line: &str| line.strip_prefix(before)?.split([' ', '|']).next()?.parse().ok();
            text.lines().filter_map(code).collect()
        };
        assert_eq!(codes(EXIT_CODES, "  "), (FAILED - 1..=OTHER).collect::<Vec<_>>());
        assert_eq!(codes(guide, "| "), codes(EXIT_CODES, "  "));
    }
}
