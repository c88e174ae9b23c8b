//! The calls that ended last, and the slowest ones, for people: [`RecentCallList`]. Names, times, codes and traces; nothing of what a call
//! brought or returned.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock_and_chance::{RealInstant, real_now};
use crate::error::Code;
use crate::function_counters::EndedCall;
use crate::trace_context::TraceIds;

/// The most recent calls that are kept, and the most of the slowest.
pub(crate) const RECENT: usize = 100;
pub(crate) const SLOWEST: usize = 20;

/// Of calls that end within this time, in nanoseconds, at most one that succeeds and one that fails is kept, besides the slowest.
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

impl RecentCall {
    /// A call that has ended now.
    pub(crate) fn new(name: Cow<'static, str>, call: &EndedCall, side: CallSide, trace: Option<TraceIds>) -> Self {
        let (code, took) = (call.code.map_or("ok", Code::as_str), Duration::from_nanos(call.nanos));
        Self { name, code, took, ended: real_now(), side, trace }
    }
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
    /// Of the calls in a bucket, one is offered whose number has none of these bits. So that the clock is not read for each call, there
    /// are more of them while calls come that are not kept.
    stride: AtomicU64,
    /// A call that took longer is among the slowest, in nanoseconds.
    slow: AtomicU64,
    state: Mutex<RecentState>,
}

/// The longest stride.
const LONGEST: u64 = 63;

#[derive(Debug, Default)]
struct RecentState {
    /// When the last call was kept that succeeded, and the last that failed, in nanoseconds of the real clock.
    kept: [u64; 2],
    /// The newest is at the end.
    recent: VecDeque<RecentCall>,
    /// Since when `slowest` is gathered.
    since: u64,
    slowest: Vec<RecentCall>,
    slowest_before: Vec<RecentCall>,
}

impl RecentCallList {
    /// Whether to offer a call that has just been counted. `numbers` are the numbers, within its bucket, of the calls that were counted
    /// together with it, and `nanos` is its time.
    #[inline]
    pub(crate) fn wants(&self, numbers: Range<u64>, nanos: u64) -> bool {
        let stride = self.stride.load(Ordering::Relaxed);
        // Whether one of them has none of the bits.
        (numbers.end - 1) & stride < numbers.end - numbers.start || nanos > self.slow.load(Ordering::Relaxed)
    }

    /// Whether few calls come, so that each is offered.
    #[inline]
    pub(crate) fn keeps_each(&self) -> bool {
        self.stride.load(Ordering::Relaxed) == 0
    }

    /// Keeps a call that is [wanted](Self::wants), if it is one of the slowest, or if none was kept for a while.
    #[cold]
    pub(crate) fn offer(&self, call: RecentCall) {
        let (ended, took) = (call.ended.nanos(), nanos(call.took));
        let mut state = self.state();
        if took > self.slow.load(Ordering::Relaxed) || state.is_over(ended) {
            state.add_slow(&call, ended);
            self.slow.store(state.bar(), Ordering::Relaxed);
        }
        let kept = &mut state.kept[usize::from(call.code != "ok")];
        let (since, stride) = (ended.saturating_sub(*kept), self.stride.load(Ordering::Relaxed));
        if since < SPACING {
            return self.stride.store((stride << 1 | 1).min(LONGEST), Ordering::Relaxed);
        }
        *kept = ended;
        if since > 2 * SPACING {
            self.stride.store(stride >> 1, Ordering::Relaxed);
        }
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back(call);
    }

    /// The calls that ended last, the newest first.
    pub(crate) fn recent(&self) -> Vec<RecentCall> {
        // The reader wants to see the next call, even if there were many before.
        self.stride.store(0, Ordering::Relaxed);
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

    fn call(ended: RealInstant, micros: u64, code: &'static str) -> RecentCall {
        let side = CallSide::Server { way: "path" };
        RecentCall { name: "add".into(), code, took: Duration::from_micros(micros), ended, side, trace: None }
    }

    fn micros(calls: &[RecentCall]) -> Vec<u128> {
        calls.iter().map(|call| call.took.as_micros()).collect()
    }

    #[test]
    fn of_many_calls_some_are_kept_and_every_slow_one() {
        let (calls, start) = (RecentCallList::default(), real_now());
        let mut offered = 0;
        // One call in 100 microseconds: one of a hundred is due.
        for at in 0..100_000 {
            let micros = if at == 77_777 { 9_000 } else { 5 };
            if calls.wants(at..at + 1, micros * 1_000) {
                offered += 1;
                calls.offer(call(start.later(Duration::from_micros(100 * at)), micros, "ok"));
            }
        }
        let recent = calls.recent();
        assert_eq!(recent.len(), RECENT);
        assert!(recent.is_sorted_by_key(|call| std::cmp::Reverse(call.ended)), "the newest is first");
        assert!(
            recent
                .windows(2)
                .all(|two| two[0].ended.saturating_duration_since(two[1].ended) >= Duration::from_millis(10))
        );
        assert!(offered < 5_000, "{offered}");
        assert_eq!(micros(&calls.slowest()), [vec![9_000], vec![5; SLOWEST - 1]].concat());
    }

    #[test]
    fn after_many_calls_the_reader_sees_the_next_one() {
        let (calls, start) = (RecentCallList::default(), real_now());
        let slow = |at| call(start.later(Duration::from_micros(at)), 50, "ok");
        (0..SLOWEST as u64).for_each(|at| calls.offer(slow(at)));
        assert_eq!(calls.recent().len(), 1);
        (0..100).for_each(|at| calls.offer(slow(at)));
        assert!(!calls.wants(1..2, 1_000), "there were too many");
        assert!(calls.wants(60..65, 1_000), "one of them is");
        calls.recent();
        assert!(calls.wants(1..2, 1_000));
    }

    #[test]
    fn a_failure_is_kept_beside_successes() {
        let (calls, start) = (RecentCallList::default(), real_now());
        for at in 0..20 {
            calls.offer(call(start.later(Duration::from_micros(at)), 1, if at % 2 == 0 { "ok" } else { "internal" }));
        }
        assert_eq!(calls.recent().iter().map(|call| call.code).collect::<Vec<_>>(), ["internal", "ok"]);
    }

    #[test]
    fn the_slowest_are_those_of_the_last_minutes() {
        let (calls, start) = (RecentCallList::default(), real_now());
        calls.offer(call(start, 900, "ok"));
        for (minutes, expected) in [(6, vec![900, 100]), (12, vec![100, 100]), (18, vec![100, 100])] {
            calls.offer(call(start.later(Duration::from_secs(minutes * 60)), 100, "ok"));
            assert_eq!(micros(&calls.slowest()), expected, "after {minutes} minutes");
        }
    }
}
