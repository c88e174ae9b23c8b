//! How important a call is when a server can't serve all of them: [`Priority`].

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

/// On a request: how important the call is, if that is said.
const HEADER: HeaderName = HeaderName::from_static("byname-priority");

/// How important a call is. A server that has too many calls refuses the least important ones first:
///
/// - While there are more calls than its threads can run, a priority has the room that the more important ones leave
///   ([`Limits::queue_delay`](crate::Limits::queue_delay)).
/// - Calls with [`Batch`](Self::Batch) are refused if three quarters of [`Limits::in_flight`](crate::Limits::in_flight) are in
///   flight, calls with [`Sheddable`](Self::Sheddable) if nine tenths are, and all others if all are.
///
/// A client says it by [`Call::priority`](crate::Call::priority) or [`Policy::priority`](crate::Policy::priority), else
/// `#[rpc(priority = "…")]` on the function counts. The calls that a function makes inherit the priority of the call that it
/// serves. It is in the header `byname-priority`, which callers without byname may send too: `byname-priority: batch`.
///
/// A caller whose identity is not proven can only lower the priority of its calls, unless its network is one of
/// [`Server::trust_priority`](crate::Server::trust_priority).
///
/// ```
/// use byname::Priority;
///
/// assert!(Priority::Batch < Priority::Sheddable && Priority::Sheddable < Priority::Normal);
/// assert!(Priority::Normal < Priority::Critical);
/// assert_eq!("critical".parse(), Ok(Priority::Critical));
/// # Ok::<(), byname::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Work that can wait for hours and is repeated by itself. It is refused first.
    Batch,
    /// Work whose failure a user hardly notices, such as a suggestion beside a result.
    Sheddable,
    /// What says nothing else: `default` on the wire and in the attribute.
    #[default]
    Normal,
    /// Work without which users see a failure.
    Critical,
}

impl Priority {
    /// All of them, from the least important.
    pub(crate) const ALL: [Self; 4] = [Self::Batch, Self::Sheddable, Self::Normal, Self::Critical];

    /// Its name on the wire and in the attribute: `batch`, `sheddable`, `default` or `critical`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Sheddable => "sheddable",
            Self::Normal => "default",
            Self::Critical => "critical",
        }
    }

    /// What the headers of a call say. Any other word says nothing.
    pub(crate) fn said(headers: &HeaderMap) -> Option<Self> {
        static NAME: HeaderName = HEADER;
        // A call has few headers, so comparing their names takes less time than a look-up.
        let (_, value) = headers.iter().find(|(name, _)| **name == NAME)?;
        Self::named(value.as_bytes())
    }

    /// Puts it into the headers of a call.
    pub(crate) fn put(self, headers: &mut HeaderMap) {
        headers.insert(HEADER, HeaderValue::from_static(self.as_str()));
    }

    /// The priority of this name.
    fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str().as_bytes() == name)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::named(name.as_bytes()).ok_or_else(|| {
            let why =
                format!("{} is not a priority; expected `batch`, `sheddable`, `default` or `critical`", quoted(name));
            Error::refused(Code::InvalidArgument, why)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_is_written_and_the_order_is_that_of_importance() {
        for (at, priority) in Priority::ALL.into_iter().enumerate() {
            assert_eq!(priority.to_string().parse(), Ok(priority));
            assert!(Priority::ALL[at + 1..].iter().all(|more| *more > priority));
        }
        let why = "Critical".parse::<Priority>().unwrap_err();
        assert!(why.message().starts_with("`Critical` is not a priority"), "{why}");
    }
}
