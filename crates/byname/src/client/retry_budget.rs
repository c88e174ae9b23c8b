//! How many calls may be repeated, in all: a tenth of them, and at least one a second.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The budget of all calls of a client. So repetitions stay near a tenth of the calls when everything fails.
#[derive(Debug)]
pub(super) struct RetryBudget {
    /// How many calls there were, modulo 2^32.
    calls: AtomicU32,
    tokens: Mutex<RetryTokens>,
}

/// Tokens are added once for this number of calls.
const ROUND: u32 = 64;

impl RetryBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { calls: AtomicU32::new(0), tokens: Mutex::new(RetryTokens::new(now)) }
    }

    /// A call was made.
    #[inline]
    pub(super) fn deposit(&self, now: impl FnOnce() -> Instant) {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        if before % ROUND == ROUND - 1 {
            drop(self.count(now()));
        }
    }

    /// Whether a call may be repeated.
    pub(super) fn withdraw(&self, now: Instant) -> bool {
        self.count(now).withdraw()
    }

    /// How many calls there were, modulo 2^32.
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many calls may be repeated now.
    pub(super) fn tokens(&self, now: Instant) -> f64 {
        self.count(now).tokens
    }

    fn count(&self, now: Instant) -> MutexGuard<'_, RetryTokens> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.count(self.calls.load(Ordering::Relaxed), now);
        tokens
    }
}

/// The tokens of a budget. A repetition takes one. Tokens that nothing takes decay, so that the budget is about that of the
/// last ten seconds, as Finagle's is. A state machine without a clock.
#[derive(Debug)]
struct RetryTokens {
    tokens: f64,
    /// How many calls were counted, and when.
    calls: u32,
    at: Instant,
}

/// What a call adds.
const EACH_CALL: f64 = 0.1;
/// What a second adds at least.
const EACH_SECOND: f64 = 1.0;
/// The time in which tokens decay to a third.
const MEMORY: Duration = Duration::from_secs(10);

impl RetryTokens {
    /// As many as a client has that seldom calls.
    fn new(now: Instant) -> Self {
        Self { tokens: EACH_SECOND * MEMORY.as_secs_f64(), calls: 0, at: now }
    }

    /// Adds the tokens of new calls. `calls` is the number of all calls until `now`.
    fn count(&mut self, calls: u32, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        let added = (EACH_CALL * f64::from(calls.wrapping_sub(self.calls))).max(EACH_SECOND * seconds);
        let age = seconds / MEMORY.as_secs_f64();
        // They came evenly, and the first ones have decayed since.
        let kept = if age > 1e-9 { -f64::exp_m1(-age) / age } else { 1.0 };
        self.tokens = self.tokens * (-age).exp() + added * kept;
        (self.calls, self.at) = (calls, self.at.max(now));
    }

    fn withdraw(&mut self) -> bool {
        let is_granted = self.tokens >= 1.0;
        if is_granted {
            self.tokens -= 1.0;
        }
        is_granted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many repetitions are granted at this time.
    fn granted(budget: &RetryBudget, now: Instant) -> usize {
        std::iter::repeat_with(|| budget.withdraw(now)).take_while(|granted| *granted).count()
    }

    #[test]
    fn repetitions_are_a_tenth_of_the_calls_of_the_last_seconds() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        assert_eq!(granted(&budget, start), 10, "what a client begins with");
        let granted_of = (0..1000).filter(|_| {
            budget.deposit(|| start);
            budget.withdraw(start)
        });
        assert!((99..=100).contains(&granted_of.count()));
        // 100 a second for a minute: those of about ten seconds are in store when a replica fails.
        let at = |call: u32| start + Duration::from_millis(10) * call;
        for call in 0..6000 {
            budget.deposit(|| at(call));
        }
        assert!((95..=105).contains(&granted(&budget, at(6000))));
        let hour = at(6000) + Duration::from_secs(3600);
        assert!((9..=10).contains(&granted(&budget, hour)), "what nobody takes decays");
    }

    #[test]
    fn a_client_that_seldom_calls_may_repeat_one_call_a_second() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        granted(&budget, start);
        for second in 1..100 {
            budget.deposit(|| start);
            let now = start + Duration::from_millis(1100) * second;
            assert_eq!(granted(&budget, now), 1, "{second}");
        }
    }

    proptest! {
        #[test]
        fn no_more_are_granted_than_calls_and_time_allow(
            steps in proptest::collection::vec((0..300u32, 0..5000u64, 0..50usize), 1..40),
        ) {
            let start = Instant::now();
            let budget = RetryBudget::new(start);
            let (mut now, mut calls, mut taken) = (start, 0, 0);
            for (made, waited, wanted) in steps {
                (0..made).for_each(|_| budget.deposit(|| now));
                now += Duration::from_millis(waited);
                calls += made;
                let got = (0..wanted).filter(|_| budget.withdraw(now)).count();
                taken += got;
                let most = 10.0 + f64::from(calls) * 0.1 + (now - start).as_secs_f64();
                prop_assert!(taken as f64 <= most + 1e-6, "{taken} of {most}");
                // Whoever waits a second and a little gets one.
                prop_assert!(wanted == 0 || waited < 1100 || got > 0);
            }
        }
    }
}
