//! The log of the connections that a server rejects in their handshake: [`RejectionLog`].

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::mem::{self, Discriminant};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::{CertificateError, Error};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::rejection::rustls_error;
use crate::deadline::later;

/// Of each kind, at most one rejection in this time is a warning, because clients can cause any number.
const QUIET: Duration = Duration::from_secs(1);

/// Logs rejections as warnings, as long as there are few of their kind. The others are debug events, and the next warning of
/// the kind says how many they were.
#[derive(Debug, Default)]
pub(super) struct RejectionLog {
    /// It has as many entries as there are kinds, at most.
    kinds: Mutex<HashMap<RejectionKind, RecentRejections>>,
}

/// The reason for a rejection. It does not contain text that the client chooses, such as the names in its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RejectionKind {
    /// The client did not finish its handshake in time.
    Stalled,
    /// The certificate of the client has expired during the handshake.
    ExpiredMeanwhile,
    /// What is wrong with the client's certificate.
    Certificate(Discriminant<CertificateError>),
    /// The alert that the client has sent.
    Alert(u8),
    /// Another error of rustls.
    Tls(Discriminant<Error>),
    /// A defect of byname.
    Defect,
}

impl RejectionKind {
    /// The kind of a failed handshake. `None` if the connection has ended: then it was not rejected.
    pub(super) fn of(why: &io::Error) -> Option<Self> {
        Some(match rustls_error(why)? {
            Error::InvalidCertificate(why) => Self::Certificate(mem::discriminant(why)),
            Error::AlertReceived(alert) => Self::Alert((*alert).into()),
            why => Self::Tls(mem::discriminant(why)),
        })
    }
}

#[derive(Debug)]
struct RecentRejections {
    /// The time of the last warning.
    warned: Instant,
    /// The rejections since then.
    more: u64,
}

impl RejectionLog {
    pub(super) fn log(&self, kind: RejectionKind, peer: &dyn Display, why: &str) {
        match self.count(kind, Instant::now()) {
            None => debug!(%peer, "rejected a connection: {why}"),
            Some(0) => warn!(%peer, "rejected a connection: {why}"),
            Some(more) => {
                warn!(%peer, "rejected a connection: {why} (and {more} more like it since the last warning, at level DEBUG)");
            }
        }
    }

    /// Counts a rejection. If it is to be a warning, returns how many of its kind were none since the last warning.
    fn count(&self, kind: RejectionKind, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(&kind) {
            Some(recent) if now < later(recent.warned, QUIET) => {
                recent.more += 1;
                None
            }
            Some(recent) => {
                recent.warned = now;
                Some(mem::take(&mut recent.more))
            }
            None => {
                kinds.insert(kind, RecentRejections { warned: now, more: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_warning_in_each_second_that_counts_the_others() {
        let log = RejectionLog::default();
        let now = Instant::now();
        let expired = RejectionKind::Certificate(mem::discriminant(&CertificateError::Expired));
        let unknown = RejectionKind::Certificate(mem::discriminant(&CertificateError::UnknownIssuer));
        assert_eq!(log.count(expired, now), Some(0));
        assert_eq!(log.count(expired, now), None);
        assert_eq!(log.count(unknown, now), Some(0), "another kind is not held back");
        assert_eq!(log.count(expired, now + QUIET - Duration::from_nanos(1)), None);
        assert_eq!(log.count(expired, now + QUIET), Some(2));
        assert_eq!(log.count(expired, now + QUIET), None);
        assert_eq!(log.count(unknown, now + 2 * QUIET), Some(0));
        assert_eq!(log.count(expired, now + 3 * QUIET), Some(1));
    }
}
