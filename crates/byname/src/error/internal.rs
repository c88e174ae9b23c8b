//! Errors that are nobody's business but the log's: [`Internal`].

use std::fmt;

use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Code, Error};
use crate::clock_and_chance::random_number;

/// The error of a function whose failures tell its callers nothing: anything becomes one by `?`.
///
/// What it was made of goes to the log, at level `error`, under an id. The caller sees the code `internal` and that id,
/// as [`CallError::Rpc`](crate::CallError::Rpc), on every way in.
///
/// ```
/// use byname::{rpc, Internal};
///
/// #[rpc(readonly)]
/// async fn motto() -> Result<String, Internal> {
///     Ok(std::fs::read_to_string("motto.txt")?)
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let error = motto().await.unwrap_err();
/// assert!(!error.to_string().contains("No such file"));
/// assert!(format!("{error:?}").contains("No such file"), "whoever calls it locally may know");
/// # });
/// ```
///
/// It is no [`std::error::Error`], or it could not be made of them all.
pub struct Internal {
    /// As callers see it.
    told: Error,
    /// What it was made of, which never leaves the process.
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Internal {
    /// As callers see it.
    pub(crate) fn told(&self) -> Error {
        self.told.clone()
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Internal {
    #[track_caller]
    fn from(error: E) -> Self {
        let error = error.into();
        // Sixteen hexadecimal digits.
        let id = format!("{:016x}", random_number());
        let mut chain = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        let at = std::panic::Location::caller();
        tracing::error!(error.id = %id, at = %at, "a function failed, error id `{id}`: {chain}");
        let said = format!("the function failed; its server's log says why, under the error id `{id}`");
        Self { told: Error::new(Code::Internal, said), cause: Some(error) }
    }
}

impl fmt::Display for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told.message())
    }
}

/// What a person reads where `main` returns one, with a line for each cause.
impl fmt::Debug for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.told, f)?;
        let mut cause = self.cause.as_deref().map(|cause| cause as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, "\ncaused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Serialize for Internal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.told.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Internal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Error::deserialize(deserializer).map(|told| Self { told, cause: None })
    }
}
