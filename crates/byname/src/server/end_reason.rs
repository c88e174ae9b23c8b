//! Why a server ends a connection whose peer has done nothing wrong: [`EndReason`].

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use crate::deadline::later;
use crate::limits_and_timeouts::Limits;
use crate::peer::Peer;

/// Why a connection accepts no further call. Calls in flight are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    ServerStops,
    /// The certificate of the client has expired, and with it the proof of who the client is.
    CertificateExpired,
    /// By frames, no call came for `Limits::idle`.
    Idle,
}

impl EndReason {
    /// What GOAWAY and the close frame say. They say nothing if the server stops, which is the usual reason.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::ServerStops => "",
            Self::CertificateExpired => "the certificate of the client has expired",
            Self::Idle => "no call came for too long (`Limits::idle` of the server)",
        }
    }
}

/// Logs why a connection ends, if that is not the end of the server.
pub(super) fn log_expiry(peer: &Peer, why: EndReason) {
    if why == EndReason::CertificateExpired {
        debug!(%peer, "the certificate of the client has expired: its connection ends, and accepts no further call");
    }
}

/// When a connection that ends for this reason is closed, whatever still runs. A server that stops closes all of its
/// connections itself.
pub(super) fn last_moment(why: EndReason, limits: &Limits) -> Option<Pin<Box<Sleep>>> {
    (why == EndReason::CertificateExpired).then(|| Box::pin(sleep_until(later(Instant::now(), limits.drain))))
}

/// What the log says when the [`last_moment`] comes.
pub(super) fn unfinished(limits: &Limits) -> String {
    let limit = limits.drain;
    format!("whose calls had not ended {limit:?} (`Limits::drain`) after the certificate of its client had expired")
}
