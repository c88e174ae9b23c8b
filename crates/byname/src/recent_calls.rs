//! The calls that ended last, and the slowest ones, for people: [`RecentCallList`]. Names, times, codes and traces; nothing of what a call
//! brought or returned.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock_and_chance::RealInstant;
use crate::trace_context::TraceIds;

/// The most recent calls that are kept, and the most of the slowest.
pub(crate) const RECENT: usize = 100;
pub(crate) const SLOWEST: usize = 20;

/// Of calls that end within this time, one that succeeds and one that fails is kept. Others are kept only if they are among the
/// slowest.
const SPACING: u64 = 10_000_000;

/// The slowest calls are those of this time and of the one before it, in nanoseconds.
const WINDOW: u64 = 300_000_000_000;

/// A call that has ended.
#[derive(Clone, Debug)]
pub(crate) struct RecentCall {
    pub(crate) name: Cow<'static, str>,
    /// `ok`, or the code of its error.
    pub(crate) code: &'static str,
    pub(crate) took: Duration,
    pub(crate) ended: RealInstant,
    pub(crate) side: CallSide,
    pub(crate) trace: Option<TraceIds>,
}

/// Which side has recorded a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallSide {
    /// By this way it came in.
    Server { way: &'static str },
    /// It went to the service of this URL.
    Client { url: String },
}

/// The calls that ended last and the slowest ones, of one server or one client.
#[derive(Debug, Default)]
pub(crate) struct RecentCallList {
    /// When the next call is kept that succeeds, and the next that fails, in nanoseconds of the real clock.
    due: [AtomicU64; 2],
    /// A call that took longer is among the slowest, in nanoseconds.
    slow: AtomicU64,
    state: Mutex<RecentState>,
}

#[derive(Debug, Default)]
struct RecentState {
    /// The newest is at the end.
    recent: VecDeque<RecentCall>,
    /// Since when `slowest` is gathered.
    since: u64,
    slowest: Vec<RecentCall>,
    slowest_before: Vec<RecentCall>,
}

impl RecentCallList {
    /// Whether a call is kept that has ended now. It costs two comparisons where it is not.
    #[inline]
    pub(crate) fn wants(&self, ended: RealInstant, took: Duration, has_failed: bool) -> bool {
        ended.nanos() >= self.due[usize::from(has_failed)].load(Ordering::Relaxed)
            || nanos(took) > self.slow.load(Ordering::Relaxed)
    }

    /// Keeps a call that is [wanted](Self::wants).
    #[cold]
    pub(crate) fn keep(&self, call: RecentCall) {
        let (ended, took) = (call.ended.nanos(), nanos(call.took));
        let due = &self.due[usize::from(call.code != "ok")];
        let is_due = ended >= due.load(Ordering::Relaxed);
        if is_due {
            due.store(ended + SPACING, Ordering::Relaxed);
        }
        let mut state = self.state();
        if took > self.slow.load(Ordering::Relaxed) || state.is_over(ended) {
            state.add_slow(&call, ended);
            self.slow.store(state.bar(), Ordering::Relaxed);
        }
        if is_due {
            if state.recent.len() == RECENT {
                state.recent.pop_front();
            }
            state.recent.push_back(call);
        }
    }

    /// The calls that ended last, the newest first.
    pub(crate) fn recent(&self) -> Vec<RecentCall> {
        self.state().recent.iter().rev().cloned().collect()
    }

    /// The slowest calls of the last minutes, the slowest first.
    pub(crate) fn slowest(&self) -> Vec<RecentCall> {
        let state = self.state();
        let mut slowest: Vec<_> = state.slowest.iter().chain(&state.slowest_before).cloned().collect();
        slowest.sort_by_key(|call| std::cmp::Reverse(call.took));
        slowest.truncate(SLOWEST);
        slowest
    }

    fn state(&self) -> MutexGuard<'_, RecentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecentState {
    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= WINDOW
    }

    fn add_slow(&mut self, call: &RecentCall, now: u64) {
        if self.is_over(now) {
            self.slowest_before = std::mem::take(&mut self.slowest);
            self.since = now;
        }
        let at = self.slowest.partition_point(|slower| slower.took >= call.took);
        self.slowest.insert(at, call.clone());
        self.slowest.truncate(SLOWEST);
    }

    /// How long a call must take to be among the slowest.
    fn bar(&self) -> u64 {
        if self.slowest.len() < SLOWEST { 0 } else { self.slowest.last().map_or(0, |last| nanos(last.took)) }
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock_and_chance::real_now;

    fn call(ended: RealInstant, micros: u64, code: &'static str) -> RecentCall {
        let side = CallSide::Server { way: "path" };
        RecentCall { name: "add".into(), code, took: Duration::from_micros(micros), ended, side, trace: None }
    }

    /// Offers a call, as counting does.
    fn offer(calls: &RecentCallList, ended: RealInstant, micros: u64, code: &'static str) {
        if calls.wants(ended, Duration::from_micros(micros), code != "ok") {
            calls.keep(call(ended, micros, code));
        }
    }

    fn micros(calls: &[RecentCall]) -> Vec<u128> {
        calls.iter().map(|call| call.took.as_micros()).collect()
    }

    #[test]
    fn of_many_calls_some_are_kept_and_every_slow_one() {
        let (calls, start) = (RecentCallList::default(), real_now());
        // One call in 100 microseconds: one of a hundred is due.
        for at in 0..100_000 {
            offer(&calls, start.later(Duration::from_micros(100 * at)), if at == 77_777 { 9_000 } else { 5 }, "ok");
        }
        let recent = calls.recent();
        assert_eq!(recent.len(), RECENT);
        assert!(recent.is_sorted_by_key(|call| std::cmp::Reverse(call.ended)), "the newest is first");
        let apart = recent[0].ended.saturating_duration_since(recent[99].ended);
        assert_eq!(apart, Duration::from_millis(990));
        assert_eq!(micros(&calls.slowest()), [vec![9_000], vec![5; SLOWEST - 1]].concat());
    }

    #[test]
    fn a_failure_is_kept_beside_successes() {
        let (calls, start) = (RecentCallList::default(), real_now());
        for at in 0..20 {
            let code = if at % 2 == 0 { "ok" } else { "internal" };
            offer(&calls, start.later(Duration::from_micros(at)), 1, code);
        }
        assert_eq!(calls.recent().iter().map(|call| call.code).collect::<Vec<_>>(), ["internal", "ok"]);
    }

    #[test]
    fn the_slowest_are_those_of_the_last_minutes() {
        let (calls, start) = (RecentCallList::default(), real_now());
        offer(&calls, start, 900, "ok");
        for (minutes, expected) in [(6, vec![900, 100]), (12, vec![100, 100]), (18, vec![100, 100])] {
            offer(&calls, start.later(Duration::from_secs(minutes * 60)), 100, "ok");
            assert_eq!(micros(&calls.slowest()), expected, "after {minutes} minutes");
        }
    }
}
