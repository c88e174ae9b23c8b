//! Which member of a cluster is asked next, and when: [`MemberChoice`]. A state machine without sockets, without a clock and
//! without chance of its own.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause after the first failure. It doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause after any failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct MemberChoice {
    members: usize,
    current: usize,
    /// One after another, over all members.
    failures: u32,
    ready_at: Option<Instant>,
}

impl MemberChoice {
    /// Begins with any of the members. `chance` is from 0 to 1.
    pub(super) fn new(members: usize, chance: f64) -> Self {
        let current = ((members as f64 * chance) as usize).min(members.saturating_sub(1));
        Self { members, current, failures: 0, ready_at: None }
    }

    /// The member to ask.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Before this, what can wait does not ask.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.ready_at
    }

    /// The member has failed. The next one is asked after a pause with full jitter, so that those whom one member served do
    /// not come to another all at once.
    pub(super) fn failed(&mut self, now: Instant, chance: f64) {
        self.current = (self.current + 1) % self.members.max(1);
        let longest = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.ready_at = Some(now + longest.mul_f64(chance.clamp(0.0, 1.0)));
    }

    /// The member does what it was asked for.
    pub(super) fn answered(&mut self) {
        (self.failures, self.ready_at) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    #[test]
    fn each_failure_goes_to_the_next_member_and_doubles_the_pause() {
        let now = Instant::now();
        let mut choice = MemberChoice::new(3, 0.5);
        assert_eq!((choice.current(), choice.ready_at()), (1, None));
        for (member, millis) in [(2, 100), (0, 200), (1, 400), (2, 800), (0, 1600), (1, 3200), (2, 5000), (0, 5000)] {
            choice.failed(now, 1.0);
            let pause = Duration::from_millis(millis);
            assert_eq!((choice.current(), choice.ready_at()), (member, Some(now + pause)));
        }
        choice.answered();
        assert_eq!((choice.current(), choice.ready_at()), (0, None));
        choice.failed(now, 0.25);
        assert_eq!(choice.ready_at(), Some(now + FIRST_PAUSE / 4));
    }

    proptest! {
        #[test]
        fn the_member_is_one_of_them_and_no_pause_is_too_long(
            members in 1..6_usize,
            first in 0.0..=1.0_f64,
            steps in proptest::collection::vec((any::<bool>(), 0.0..=1.0_f64), 0..40),
        ) {
            let now = Instant::now();
            let mut choice = MemberChoice::new(members, first);
            for (fails, chance) in steps {
                if fails { choice.failed(now, chance) } else { choice.answered() }
                prop_assert!(choice.current() < members);
                prop_assert!(choice.ready_at().is_none_or(|at| at <= now + LONGEST_PAUSE));
            }
        }
    }
}
