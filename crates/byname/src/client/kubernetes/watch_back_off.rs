//! How long the API server is left alone after failures: [`WatchBackOff`]. A state machine without a clock and without chance.

use std::time::Duration;

/// The longest delay after the first failure. It doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(30);

/// Counts failures since a watch has lasted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WatchBackOff {
    failures: u32,
}

impl WatchBackOff {
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }

    /// The delay before the next request. `chance` is from 0 to 1, so that clients do not come at once.
    pub(super) fn delay(self, chance: f64) -> Duration {
        match self.failures.checked_sub(1) {
            Some(before) => FIRST.saturating_mul(1 << before.min(10)).min(LONGEST).mul_f64(chance.clamp(0.0, 1.0)),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_limit_and_is_random() {
        let mut back_off = WatchBackOff::default();
        assert_eq!(back_off.delay(1.0), Duration::ZERO);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            back_off.failed();
            assert_eq!(back_off.delay(1.0), Duration::from_secs(seconds));
            assert_eq!(back_off.delay(0.5), Duration::from_millis(seconds * 500));
        }
        back_off.answered();
        assert_eq!(back_off.delay(1.0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_delay_is_longer_than_the_limit(failures in any::<u32>(), chance in 0.0..=1.0) {
            let back_off = WatchBackOff { failures };
            prop_assert!(back_off.delay(chance) <= LONGEST);
        }
    }
}
