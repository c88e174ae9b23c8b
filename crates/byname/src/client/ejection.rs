//! When a replica gets no calls because it fails, and how it comes back: [`Ejection`]. A state machine without a clock.

use std::time::Duration;

use tokio::time::Instant;

use super::replica_load::ReplicaOutcome;

/// What decides whether one replica gets calls.
#[derive(Debug)]
pub(super) struct Ejection {
    state: EjectionState,
    failures_in_a_row: u32,
    recent: RecentCalls,
    /// How long the replica was out the last time.
    last: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum EjectionState {
    Serving {
        since: Instant,
    },
    Out {
        until: Instant,
    },
    /// One call is in flight that decides.
    Probing,
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

/// So many failures without an answer between them eject a replica.
const FAILURES_IN_A_ROW: u32 = 5;
/// Or a success rate of less than four in five, of at least so many calls.
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
            ReplicaOutcome::Cancelled => return false,
            ReplicaOutcome::Answered => false,
            ReplicaOutcome::Failed => true,
        };
        self.failures_in_a_row = if has_failed { self.failures_in_a_row.saturating_add(1) } else { 0 };
        self.recent.add(has_failed, now);
        has_failed && (self.failures_in_a_row >= FAILURES_IN_A_ROW || self.recent.is_bad())
    }

    pub(super) fn eject(&mut self, now: Instant) {
        let is_forgiven = match self.state {
            EjectionState::Serving { since } => now.saturating_duration_since(since) >= FORGIVEN_AFTER,
            EjectionState::Out { .. } | EjectionState::Probing => false,
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
            EjectionState::Out { until } => Some(until),
            EjectionState::Serving { .. } | EjectionState::Probing => None,
        }
    }

    /// The replica is tried with one call.
    pub(super) fn probe(&mut self) {
        self.state = EjectionState::Probing;
    }

    /// That call has ended.
    pub(super) fn probed(&mut self, outcome: ReplicaOutcome, now: Instant) {
        match outcome {
            _ if self.state != EjectionState::Probing => {}
            ReplicaOutcome::Answered => self.readmit(now),
            ReplicaOutcome::Failed => self.eject(now),
            // The next call tries it.
            ReplicaOutcome::Cancelled => self.state = EjectionState::Out { until: now },
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
        while now.saturating_duration_since(self.start) >= SLOT {
            // After a long pause nothing is left to be moved.
            if now.saturating_duration_since(self.start) >= SLOT * (SLOTS as u32 + 1) {
                *self = Self::new(now);
                break;
            }
            self.start += SLOT;
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
        calls >= LEAST_CALLS && failures > calls / 5
    }
}
