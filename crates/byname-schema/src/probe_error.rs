//! What a type's `Deserialize` says about a value: [`Said`].

use std::cell::RefCell;
use std::fmt;

use serde_core::de::{Error, Expected, Unexpected};

/// An error of a `Deserialize`, as its code has made it. Errors that the code has swallowed are here too, as an untagged enum
/// swallows those of all variants but one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    MissingField(&'static str),
    UnknownField,
    DuplicateField(&'static str),
    UnknownVariant(&'static [&'static str]),
    /// What was expected, in the words of serde or of the type.
    InvalidType(String),
    /// What was expected.
    InvalidValue(String),
    InvalidLength,
    Other,
}

thread_local! {
    static SAID: RefCell<Vec<Said>> = const { RefCell::new(Vec::new()) };
}

/// What was said on this thread since the last time.
pub(crate) fn take_said() -> Vec<Said> {
    SAID.with(RefCell::take)
}

/// The error type of a probe. Making one notes what was said.
#[derive(Debug)]
pub(crate) struct ProbeError;

impl ProbeError {
    fn noted(said: Said) -> Self {
        SAID.with_borrow_mut(|all| all.push(said));
        Self
    }
}

impl Error for ProbeError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::noted(Said::Other)
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::noted(Said::InvalidType(expected.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::noted(Said::InvalidValue(expected.to_string()))
    }

    fn invalid_length(_: usize, _: &dyn Expected) -> Self {
        Self::noted(Said::InvalidLength)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::noted(Said::UnknownVariant(expected))
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::noted(Said::UnknownField)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::noted(Said::MissingField(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::noted(Said::DuplicateField(field))
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value was refused")
    }
}

impl std::error::Error for ProbeError {}
