//! What a server that announces itself does next: [`LeaseState`]. A state machine without sockets and without a clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::etcd::LeaseId;

/// How long etcd keeps the key of a server that says nothing any more.
pub(super) const TTL: Duration = Duration::from_secs(10);

/// A lease is kept alive this often.
const PERIOD: Duration = TTL.checked_div(3).expect("three is not zero");

/// The lease, and whether the key is there with it.
#[derive(Debug)]
pub(super) struct LeaseState {
    lease: Option<LeaseId>,
    is_announced: bool,
    /// When the next step is due.
    due: Instant,
    has_failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseStep {
    /// Revoke the old lease, so that a late write with it fails. Then get a lease, and write the key with it.
    Announce {
        revoke: Option<LeaseId>,
    },
    KeepAlive(LeaseId),
    Wait(Instant),
}

impl LeaseState {
    pub(super) fn new(now: Instant) -> Self {
        Self { lease: None, is_announced: false, due: now, has_failed: false }
    }

    pub(super) fn step(&self, now: Instant) -> LeaseStep {
        match self.lease.filter(|_| self.is_announced) {
            _ if now < self.due => LeaseStep::Wait(self.due),
            Some(lease) => LeaseStep::KeepAlive(lease),
            None => LeaseStep::Announce { revoke: self.lease },
        }
    }

    /// The last lease. It may have ended.
    pub(super) fn lease(&self) -> Option<LeaseId> {
        self.lease
    }

    /// The lease has ended, and no write with it succeeds any more. The step goes on.
    pub(super) fn revoked(&mut self) {
        (self.lease, self.is_announced) = (None, false);
    }

    /// There is a new lease, without the key.
    pub(super) fn granted(&mut self, lease: LeaseId) {
        (self.lease, self.is_announced) = (Some(lease), false);
    }

    /// The key is there.
    pub(super) fn announced(&mut self, now: Instant) {
        self.is_announced = true;
        self.succeeded(now);
    }

    /// The lease has its whole time again. Returns whether there were failures before.
    pub(super) fn kept(&mut self, now: Instant) -> bool {
        self.succeeded(now)
    }

    /// The lease has ended, and the key with it. Announce again at once.
    pub(super) fn lost(&mut self, now: Instant) {
        (self.lease, self.is_announced, self.due) = (None, false, now);
    }

    /// The lease is alive, but the key is not there with it. Announce again at once.
    pub(super) fn key_lost(&mut self, now: Instant) {
        (self.is_announced, self.due) = (false, now);
    }

    /// The step has failed. The next one is due at `again`. Returns whether it is the first failure.
    pub(super) fn failed(&mut self, again: Instant) -> bool {
        self.due = again;
        !std::mem::replace(&mut self.has_failed, true)
    }

    fn succeeded(&mut self, now: Instant) -> bool {
        self.due = now + PERIOD;
        std::mem::replace(&mut self.has_failed, false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_is_kept_alive_every_third_of_its_time() {
        let now = Instant::now();
        let mut state = LeaseState::new(now);
        assert_eq!((state.step(now), state.lease()), (LeaseStep::Announce { revoke: None }, None));
        let lease = LeaseId(1);
        state.granted(lease);
        assert_eq!(state.lease(), Some(lease));
        state.announced(now);
        assert_eq!(state.step(now), LeaseStep::Wait(now + PERIOD));
        let due = now + PERIOD;
        assert_eq!(state.step(due), LeaseStep::KeepAlive(lease));
        assert!(!state.kept(due));
        assert_eq!(state.step(due), LeaseStep::Wait(due + PERIOD));
    }

    #[test]
    fn a_lease_that_is_lost_is_replaced_at_once() {
        let now = Instant::now();
        let mut state = LeaseState::new(now);
        state.granted(LeaseId(1));
        state.announced(now);
        let due = now + PERIOD;
        assert!(state.failed(due + SECOND) && !state.failed(due + 2 * SECOND), "the first failure is new");
        assert_eq!(state.step(due + SECOND), LeaseStep::Wait(due + 2 * SECOND));
        assert_eq!(state.step(due + 2 * SECOND), LeaseStep::KeepAlive(LeaseId(1)), "it may be alive");
        state.lost(due + 2 * SECOND);
        assert_eq!((state.step(due + 2 * SECOND), state.lease()), (LeaseStep::Announce { revoke: None }, None));
        state.granted(LeaseId(2));
        state.announced(due + 2 * SECOND);
        assert!(state.failed(due + 3 * SECOND), "it is a new time of failure");
        assert!(state.kept(due + 3 * SECOND));
    }

    #[test]
    fn a_key_that_is_gone_is_written_again_with_another_lease() {
        let now = Instant::now();
        let mut state = LeaseState::new(now);
        state.granted(LeaseId(1));
        state.announced(now);
        state.key_lost(now + PERIOD);
        assert_eq!(state.step(now + PERIOD), LeaseStep::Announce { revoke: Some(LeaseId(1)) });
    }

    #[test]
    fn a_key_that_could_not_be_written_takes_a_new_lease_after_the_old_one_is_revoked() {
        let now = Instant::now();
        let mut state = LeaseState::new(now);
        state.granted(LeaseId(1));
        assert!(state.failed(now + SECOND));
        assert_eq!(state.step(now + SECOND), LeaseStep::Announce { revoke: Some(LeaseId(1)) });
        assert!(!state.failed(now + 2 * SECOND), "it could not be revoked");
        assert_eq!(state.step(now + 2 * SECOND), LeaseStep::Announce { revoke: Some(LeaseId(1)) });
        state.revoked();
        assert!(!state.failed(now + 3 * SECOND), "there is no new lease");
        assert_eq!(state.step(now + 3 * SECOND), LeaseStep::Announce { revoke: None });
    }

    proptest! {
        #[test]
        fn a_key_is_never_without_a_step_that_is_due_in_time(
            events in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(2), Just(3)], 0..60),
        ) {
            let mut now = Instant::now();
            let mut state = LeaseState::new(now);
            let mut id = 0;
            for event in events {
                now = match state.step(now) {
                    LeaseStep::Wait(due) => {
                        prop_assert!(due <= now + PERIOD.max(5 * SECOND), "the key lasts for {TTL:?}");
                        due
                    }
                    _ => now,
                };
                match (state.step(now), event) {
                    (LeaseStep::Wait(_), _) => prop_assert!(false, "it is due"),
                    (_, 0) => drop(state.failed(now + 5 * SECOND)),
                    (LeaseStep::Announce { revoke }, 1) => {
                        prop_assert_eq!(revoke, state.lease(), "no lease is left to a late write");
                        state.revoked();
                        id += 1;
                        state.granted(LeaseId(id));
                        state.failed(now + SECOND);
                        prop_assert_eq!(state.lease(), Some(LeaseId(id)), "it is revoked at the end");
                    }
                    (LeaseStep::Announce { revoke }, _) => {
                        prop_assert_eq!(revoke, state.lease(), "no lease is left to a late write");
                        state.revoked();
                        id += 1;
                        state.granted(LeaseId(id));
                        state.announced(now);
                    }
                    (LeaseStep::KeepAlive(lease), 1) => {
                        prop_assert_eq!(lease, LeaseId(id), "only the last lease has the key");
                        state.lost(now);
                        prop_assert_eq!(state.step(now), LeaseStep::Announce { revoke: None });
                    }
                    (LeaseStep::KeepAlive(lease), 2) => {
                        state.key_lost(now);
                        prop_assert_eq!(state.step(now), LeaseStep::Announce { revoke: Some(lease) });
                    }
                    (LeaseStep::KeepAlive(_), _) => drop(state.kept(now)),
                }
            }
        }
    }
}
