//! Whether the peer of a quiet connection is still there.

use std::time::Duration;

use tokio::time::Instant;

use crate::deadline::later;

/// How long a connection may be quiet before a ping, and how long its answer may take.
const QUIET: Duration = Duration::from_secs(20);

/// A state machine without a clock.
#[derive(Debug)]
pub(crate) struct Keepalive {
    heard: Instant,
    asked: Option<Instant>,
}

/// What is to be done about a quiet peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeepaliveAction {
    /// Nothing before this time.
    At(Instant),
    Ask,
    Dead,
}

impl Keepalive {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, asked: None }
    }

    /// Something has come from the peer.
    pub(crate) fn heard(&mut self, now: Instant) {
        (self.heard, self.asked) = (now, None);
    }

    pub(crate) fn next(&mut self, now: Instant) -> KeepaliveAction {
        match self.asked {
            Some(asked) if now >= later(asked, QUIET) => KeepaliveAction::Dead,
            Some(asked) => KeepaliveAction::At(later(asked, QUIET)),
            None if now >= later(self.heard, QUIET) => {
                self.asked = Some(now);
                KeepaliveAction::Ask
            }
            None => KeepaliveAction::At(later(self.heard, QUIET)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_peer_is_asked_once_and_then_given_up() {
        let (now, s) = (Instant::now(), Duration::from_secs);
        let mut keepalive = Keepalive::new(now);
        assert_eq!(keepalive.next(now + s(19)), KeepaliveAction::At(now + s(20)));
        keepalive.heard(now + s(19));
        assert_eq!(keepalive.next(now + s(20)), KeepaliveAction::At(now + s(39)));
        assert_eq!(keepalive.next(now + s(39)), KeepaliveAction::Ask);
        assert_eq!(keepalive.next(now + s(39)), KeepaliveAction::At(now + s(59)));
        keepalive.heard(now + s(50));
        assert_eq!(keepalive.next(now + s(70)), KeepaliveAction::Ask);
        assert_eq!(keepalive.next(now + s(90)), KeepaliveAction::Dead);
    }
}
