//! Whether to open a connection of frames. A state machine without sockets and without a clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::deadline::later;

/// The first pause after an upgrade that failed, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The longest pause at an address while others have connections. A replica that is back gets calls soon.
const LONGEST_BESIDE_OTHERS: Duration = Duration::from_secs(5);

/// If this number of connections in a row were cut during calls, no further one is opened for a while.
const CUTS: u32 = 3;

/// A connection that lived this long was not cut by a proxy that cuts every connection.
const LONG_LIVED: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(in crate::client) struct Upgrades {
    not_before: Option<Instant>,
    failures: u32,
    cuts: u32,
}

impl Upgrades {
    pub(in crate::client) fn may_try(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| not_before <= now)
    }

    /// From when on another may be opened.
    pub(in crate::client) fn not_before(&self, now: Instant) -> Instant {
        self.not_before.unwrap_or(now)
    }

    /// The server, or a proxy before it, did not upgrade. `jitter` is random, from 0 to 1.
    pub(in crate::client) fn failed(&mut self, now: Instant, jitter: f64) {
        self.failed_again(LONGEST, now, jitter);
    }

    /// The same at one address, while others have connections.
    pub(in crate::client) fn failed_beside_others(&mut self, now: Instant, jitter: f64) {
        self.failed_again(LONGEST_BESIDE_OTHERS, now, jitter);
    }

    pub(in crate::client) fn opened(&mut self) {
        self.failures = 0;
    }

    /// A connection has ended; `was_cut` if it ended without notice during calls.
    pub(in crate::client) fn ended(&mut self, was_cut: bool, age: Duration, now: Instant, jitter: f64) {
        if !was_cut || age >= LONG_LIVED {
            self.cuts = 0;
            return;
        }
        self.cuts += 1;
        if self.cuts >= CUTS {
            self.cuts = 0;
            self.pause(now, LONGEST, jitter);
        }
    }

    fn failed_again(&mut self, longest: Duration, now: Instant, jitter: f64) {
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures += 1;
        self.pause(now, pause, jitter);
    }

    fn pause(&mut self, now: Instant, pause: Duration, jitter: f64) {
        self.not_before = Some(later(now, pause.mul_f64(0.75 + jitter / 2.0)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute_and_start_again() {
        let (now, s) = (Instant::now(), Duration::from_secs);
        let mut upgrades = Upgrades::default();
        assert!(upgrades.may_try(now));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            upgrades.failed(now, 0.5);
            assert!(!upgrades.may_try(now + s(seconds) - Duration::from_millis(1)), "{seconds}");
            assert!(upgrades.may_try(now + s(seconds)), "{seconds}");
        }
        upgrades.opened();
        upgrades.failed(now, 1.0);
        assert!(!upgrades.may_try(now + s(1)) && upgrades.may_try(now + s(2)));
    }

    #[test]
    fn frames_pause_after_connections_were_cut_during_calls_repeatedly() {
        let (now, s) = (Instant::now(), Duration::from_secs);
        let mut upgrades = Upgrades::default();
        for (was_cut, age) in
            [(true, 1), (true, 1), (false, 1), (true, 1), (true, 1), (true, 100), (true, 1), (true, 1)]
        {
            upgrades.ended(was_cut, s(age), now, 0.5);
            assert!(upgrades.may_try(now));
        }
        upgrades.ended(true, s(1), now, 0.5);
        assert!(!upgrades.may_try(now + s(59)) && upgrades.may_try(now + s(60)));
    }

    proptest! {
        #[test]
        fn a_pause_ends_within_the_longest_and_only_failures_and_cuts_begin_one(
            events in proptest::collection::vec((0..4u8, 0..200u64, 0.0..1.0f64), 0..60),
        ) {
            let (mut upgrades, mut now) = (Upgrades::default(), Instant::now());
            for (event, seconds, jitter) in events {
                let could = upgrades.may_try(now);
                let age = Duration::from_secs(seconds);
                match event {
                    0 => upgrades.failed(now, jitter),
                    1 => upgrades.opened(),
                    2 => upgrades.ended(seconds % 2 == 0, age, now, jitter),
                    _ => now += age,
                }
                let goes_on = event == 1 || event == 2 && (seconds % 2 == 1 || age >= LONG_LIVED) || event == 3;
                prop_assert!(!(could && goes_on) || upgrades.may_try(now));
                prop_assert!(event != 0 || !upgrades.may_try(now));
                prop_assert!(upgrades.may_try(now + LONGEST.mul_f64(1.25)));
            }
        }
    }
}
