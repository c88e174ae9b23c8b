//! Why a command failed, and its exit code: [`CommandError`].

use std::process::ExitCode;

use byname::{CallError, Code, Error};
use serde_json::Value;

use crate::terminal_text::{inert, say};

/// A failure of a command. Each kind has its exit code, which the guide lists.
#[derive(Debug)]
pub(crate) struct CommandError {
    message: String,
    code: u8,
}

/// The function has returned its own error, or a check has found a break.
pub(crate) const FAILED: u8 = 1;
/// The command is wrong.
pub(crate) const USAGE: u8 = 2;
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

    /// Prints it.
    pub(crate) fn report(&self) -> ExitCode {
        let bad = anstyle::AnsiColor::Red.on_default().bold();
        say(format_args!("{bad}error{bad:#}: {}", inert(&self.message)));
        ExitCode::from(self.code)
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let code = match error.code() {
            Code::Unimplemented | Code::NotFound => UNKNOWN_FUNCTION,
            Code::Unauthenticated | Code::PermissionDenied => NOT_ALLOWED,
            Code::Unavailable | Code::ResourceExhausted => UNAVAILABLE,
            Code::DeadlineExceeded | Code::Cancelled => LATE,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => WRONG_ARGUMENTS,
            _ => OTHER,
        };
        Self { message: error.to_string(), code }
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
