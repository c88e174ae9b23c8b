//! When a replica gets no calls because it fails, and how it comes back: [`Ejection`]. A state machine without a clock.

use std::time::Duration;

use tokio::time::Instant;

use super::replica_load::ReplicaOutcome;

/// What decides whether one replica gets calls.
#[derive(Debug)]
pub(super) struct Ejection {
    state: EjectionState,
    /// A call is in flight that tries the replica.
    is_probed: bool,
    failures_in_a_row: u32,
    recent: RecentCalls,
    /// How long the replica was out the last time.
    last: Duration,
}

#[derive(Debug)]
enum EjectionState {
    Serving { since: Instant },
    Out { until: Instant },
}

/// The calls of the last 30 s, by the time of their end.
#[derive(Debug)]
struct RecentCalls {
    /// The start of the newest slot.
    start: Instant,
    newest: usize,
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    calls: u32,
    failures: u32,
}

/// The number of consecutive failures that ejects a replica.
const FAILURES_IN_A_ROW: u32 = 5;
/// A success rate below four in five ejects a replica too, if at least this number of calls has ended.
const LEAST_CALLS: u32 = 5;
const SLOTS: usize = 6;
const SLOT: Duration = Duration::from_secs(5);
const FIRST_TIME_OUT: Duration = Duration::from_secs(1);
const LONGEST_TIME_OUT: Duration = Duration::from_secs(30);
/// A replica that served for so long was well: it is out for the first time again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

impl Ejection {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: EjectionState::Serving { since: now },
            is_probed: false,
            failures_in_a_row: 0,
            recent: RecentCalls::new(now),
            last: Duration::ZERO,
        }
    }

    /// A call has ended that was not a probe. Says whether the replica fails so much that it should be ejected.
    pub(super) fn ended(&mut self, outcome: ReplicaOutcome, now: Instant) -> bool {
        let has_failed = match outcome {
            // Those that were sent before the replica was ejected say nothing new.
            _ if !self.is_serving() => return false,
            ReplicaOutcome::Refused | ReplicaOutcome::Cancelled => return false,
            ReplicaOutcome::Answered => false,
            ReplicaOutcome::Failed | ReplicaOutcome::TimedOut => true,
        };
        self.failures_in_a_row = if has_failed { self.failures_in_a_row.saturating_add(1) } else { 0 };
        self.recent.add(has_failed, now);
        has_failed && (self.failures_in_a_row >= FAILURES_IN_A_ROW || self.recent.is_bad())
    }

    pub(super) fn eject(&mut self, now: Instant) {
        let is_forgiven = match self.state {
            EjectionState::Serving { since } => now.saturating_duration_since(since) >= FORGIVEN_AFTER,
            EjectionState::Out { .. } => false,
        };
        let length = if is_forgiven { Duration::ZERO } else { self.last * 2 };
        self.last = length.clamp(FIRST_TIME_OUT, LONGEST_TIME_OUT);
        self.state = EjectionState::Out { until: now + self.last };
    }

    /// Whether it gets calls.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.state, EjectionState::Serving { .. })
    }

    /// When the replica may be tried with one call. `None` if it gets calls, or is being tried.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self.state {
            EjectionState::Out { until } if !self.is_probed => Some(until),
            EjectionState::Out { .. } | EjectionState::Serving { .. } => None,
        }
    }

    /// The replica is tried with one call.
    pub(super) fn probe(&mut self) {
        self.is_probed = true;
    }

    /// That call has ended.
    pub(super) fn probed(&mut self, outcome: ReplicaOutcome, now: Instant) {
        self.is_probed = false;
        match outcome {
            // It was brought back because others have gone.
            _ if self.is_serving() => {}
            ReplicaOutcome::Answered => self.readmit(now),
            ReplicaOutcome::Failed | ReplicaOutcome::TimedOut => self.eject(now),
            // That says neither. Another call tries it later: if it were the next, a client that makes one call at a time
            // would send all calls there.
            ReplicaOutcome::Refused | ReplicaOutcome::Cancelled => {
                self.state = EjectionState::Out { until: now + self.last };
            }
        }
    }

    /// The replica gets calls again.
    pub(super) fn readmit(&mut self, now: Instant) {
        self.state = EjectionState::Serving { since: now };
        self.failures_in_a_row = 0;
        self.recent = RecentCalls::new(now);
    }
}

impl RecentCalls {
    fn new(now: Instant) -> Self {
        Self { start: now, newest: 0, slots: [Slot::default(); SLOTS] }
    }

    fn add(&mut self, has_failed: bool, now: Instant) {
        let passed = now.saturating_duration_since(self.start).as_secs() / SLOT.as_secs();
        self.start += Duration::from_secs(passed * SLOT.as_secs());
        for _ in 0..passed.min(SLOTS as u64) {
            self.newest = (self.newest + 1) % SLOTS;
            self.slots[self.newest] = Slot::default();
        }
        let slot = &mut self.slots[self.newest];
        slot.calls = slot.calls.saturating_add(1);
        slot.failures = slot.failures.saturating_add(u32::from(has_failed));
    }

    /// Fewer than four in five were answered.
    fn is_bad(&self) -> bool {
        let sum = |count: fn(&Slot) -> u32| self.slots.iter().map(count).fold(0, u32::saturating_add);
        let (calls, failures) = (sum(|slot| slot.calls), sum(|slot| slot.failures));
        calls >= LEAST_CALLS && failures.saturating_mul(5) > calls
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ReplicaOutcome::{Answered, Cancelled, Failed, Refused};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn five_failures_in_a_row_eject() {
        let now = Instant::now();
        let mut ejection = Ejection::new(now);
        // Far from a fifth of the calls.
        for _ in 0..100 {
            assert!(!ejection.ended(Answered, now));
        }
        for _ in 0..4 {
            assert!(!ejection.ended(Failed, now));
        }
        // A caller that gives up says nothing.
        assert!(!ejection.ended(Cancelled, now));
        assert!(ejection.ended(Failed, now));
        assert!(ejection.is_serving(), "it only says so");
    }

    #[test]
    fn an_answer_ends_the_row() {
        let now = Instant::now();
        let mut ejection = Ejection::new(now);
        for _ in 0..100 {
            ejection.ended(Answered, now);
        }
        for _ in 0..3 {
            for _ in 0..4 {
                assert!(!ejection.ended(Failed, now));
            }
            assert!(!ejection.ended(Answered, now));
        }
    }

    #[test]
    fn less_than_four_in_five_eject() {
        let now = Instant::now();
        let mut ejection = Ejection::new(now);
        assert!(!ejection.ended(Failed, now), "of fewer than five calls");
        for _ in 0..4 {
            assert!(!ejection.ended(Answered, now));
        }
        // One in five, two in six.
        assert!(ejection.ended(Failed, now));
    }

    #[test]
    fn calls_count_for_thirty_seconds() {
        let mut now = Instant::now();
        let mut ejection = Ejection::new(now);
        for _ in 0..4 {
            ejection.ended(Answered, now);
        }
        ejection.ended(Failed, now);
        now += 24 * SECOND;
        assert!(ejection.ended(Failed, now));
        now += 7 * SECOND;
        // The first five are forgotten.
        assert!(!ejection.ended(Failed, now));
        now += 1000 * SECOND;
        assert!(!ejection.ended(Failed, now));
    }

    #[test]
    fn it_is_out_for_twice_as_long_each_time() {
        let mut now = Instant::now();
        let mut ejection = Ejection::new(now);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            ejection.eject(now);
            assert_eq!((ejection.is_serving(), ejection.probe_at()), (false, Some(now + seconds * SECOND)));
            now += seconds * SECOND;
            ejection.probe();
            assert_eq!((ejection.is_serving(), ejection.probe_at()), (false, None), "one call tries it");
            ejection.probed(Answered, now);
            assert!(ejection.is_serving());
        }
        // It was well since.
        now += FORGIVEN_AFTER;
        ejection.eject(now);
        assert_eq!(ejection.probe_at(), Some(now + SECOND));
    }

    #[test]
    fn a_probe_decides() {
        let mut now = Instant::now();
        let mut ejection = Ejection::new(now);
        ejection.eject(now);
        // Sent before.
        assert!(!ejection.ended(Answered, now));
        assert!(!ejection.is_serving());
        now += SECOND;
        ejection.probe();
        ejection.probed(Failed, now);
        assert_eq!(ejection.probe_at(), Some(now + 2 * SECOND));
        ejection.probe();
        ejection.probed(Answered, now);
        assert!(ejection.is_serving());
        for _ in 0..4 {
            assert!(!ejection.ended(Failed, now), "what was before is forgotten");
        }
        assert!(ejection.ended(Failed, now));
    }

    #[test]
    fn a_probe_that_outlives_its_ejection_is_the_only_one() {
        let now = Instant::now();
        let mut ejection = Ejection::new(now);
        ejection.eject(now);
        ejection.probe();
        // Others have gone, and it fails again.
        ejection.readmit(now);
        ejection.eject(now);
        assert_eq!(ejection.probe_at(), None);
        ejection.probed(Cancelled, now);
        assert_eq!(ejection.probe_at(), Some(now + 2 * SECOND));
    }

    #[test]
    fn a_probe_that_decides_nothing_is_repeated_after_the_same_time() {
        let mut now = Instant::now();
        let mut ejection = Ejection::new(now);
        ejection.eject(now);
        now += SECOND;
        for outcome in [Cancelled, Refused, Cancelled] {
            ejection.probe();
            ejection.probed(outcome, now);
            assert_eq!((ejection.is_serving(), ejection.probe_at()), (false, Some(now + SECOND)), "{outcome:?}");
            now += SECOND;
        }
        ejection.probe();
        ejection.probed(Failed, now);
        assert_eq!(ejection.probe_at(), Some(now + 2 * SECOND));
    }

    #[test]
    fn a_replica_that_refuses_is_not_ejected() {
        let now = Instant::now();
        let mut ejection = Ejection::new(now);
        for _ in 0..100 {
            assert!(!ejection.ended(Refused, now));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A replica is ejected exactly if its last calls say so, counted one by one.
        #[test]
        fn the_last_calls_decide(
            calls in proptest::collection::vec((prop_oneof![Just(Answered), Just(Failed), Just(Refused), Just(Cancelled)], 0..9000u64), 0..100),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut ejection = Ejection::new(now);
            let mut all = Vec::new();
            for (outcome, pause) in calls {
                now += Duration::from_millis(pause);
                if outcome == Answered || outcome == Failed {
                    all.push((now, outcome));
                }
                let slot = |at: Instant| at.duration_since(start).as_secs() / 5;
                let recent = || all.iter().filter(|(at, _)| slot(now) - slot(*at) < 6);
                let failed = recent().filter(|(_, outcome)| *outcome == Failed).count();
                let in_a_row = all.iter().rev().take_while(|(_, outcome)| *outcome == Failed).count();
                let is_bad = in_a_row >= 5 || (recent().count() >= 5 && failed * 5 > recent().count());
                prop_assert_eq!(ejection.ended(outcome, now), outcome == Failed && is_bad);
            }
        }
    }
}
