//! Which member of a cluster is asked next, and after which pause: [`MemberChoice`]. A state machine without sockets, without
//! a clock and without chance of its own.

use std::time::Duration;

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
    pause: Duration,
}

impl MemberChoice {
    /// Begins with any of the members. `chance` is from 0 to 1.
    pub(super) fn new(members: usize, chance: f64) -> Self {
        let current = ((members as f64 * chance) as usize).min(members.saturating_sub(1));
        Self { members, current, failures: 0, pause: Duration::ZERO }
    }

    /// The member to ask.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// What can wait asks after this time.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// The member has failed. The next one is asked after a pause with full jitter, so that those whom one member served do
    /// not come to another all at once.
    pub(super) fn failed(&mut self, chance: f64) {
        self.current = (self.current + 1) % self.members.max(1);
        let longest = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.pause = longest.mul_f64(chance.clamp(0.0, 1.0));
    }

    /// The member does what it was asked for.
    pub(super) fn answered(&mut self) {
        (self.failures, self.pause) = (0, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    #[test]
    fn each_failure_goes_to_the_next_member_and_doubles_the_pause() {
        let mut choice = MemberChoice::new(3, 0.5);
        assert_eq!((choice.current(), choice.pause()), (1, Duration::ZERO));
        for (member, millis) in [(2, 100), (0, 200), (1, 400), (2, 800), (0, 1600), (1, 3200), (2, 5000), (0, 5000)] {
            choice.failed(1.0);
            assert_eq!((choice.current(), choice.pause()), (member, Duration::from_millis(millis)));
        }
        choice.answered();
        assert_eq!((choice.current(), choice.pause()), (0, Duration::ZERO));
        choice.failed(0.25);
        assert_eq!(choice.pause(), FIRST_PAUSE / 4);
    }

    proptest! {
        #[test]
        fn the_member_is_one_of_them_and_no_pause_is_too_long(
            members in 1..6_usize,
            first in 0.0..=1.0_f64,
            steps in proptest::collection::vec((any::<bool>(), 0.0..=1.0_f64), 0..40),
        ) {
            let mut choice = MemberChoice::new(members, first);
            for (fails, chance) in steps {
                if fails { choice.failed(chance) } else { choice.answered() }
                prop_assert!(choice.current() < members);
                prop_assert!(choice.pause() <= LONGEST_PAUSE);
            }
        }
    }
}
