//! The calls that ended last, those that failed last, and the slowest ones, for people: [`RecentCallList`]. Names, times, codes and traces; nothing of what a call
//! brought or returned.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock_and_chance::{RealInstant, real_now};
use crate::error::Code;
use crate::function_counters::{CallCode, EndedCall, nanos};
use crate::trace_context::TraceIds;

/// The most recent calls that are kept, and the most of the slowest.
pub(crate) const RECENT: usize = 100;
pub(crate) const SLOWEST: usize = 20;
/// The most calls that failed that are kept.
pub(crate) const FAILED: usize = 50;

/// Of calls that end within this time, in nanoseconds, at most one that succeeds and one that fails is kept, besides the slowest.
const SPACING: u64 = 10_000_000;

/// The slowest calls are those of this time and of the one before it, in nanoseconds.
const WINDOW: u64 = 300_000_000_000;

/// A call that has ended.
#[derive(Clone, Debug)]
pub(crate) struct RecentCall {
    pub(crate) name: Cow<'static, str>,
    pub(crate) code: CallCode,
    pub(crate) took: Duration,
    pub(crate) ended: RealInstant,
    pub(crate) side: CallSide,
    pub(crate) trace: Option<TraceIds>,
}

impl RecentCall {
    /// A call that has ended now.
    pub(crate) fn new(name: Cow<'static, str>, call: &EndedCall, side: CallSide, trace: Option<TraceIds>) -> Self {
        let took = Duration::from_nanos(call.nanos);
        Self { name, code: call.code, took, ended: real_now(), side, trace }
    }
}

/// Which side has recorded a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallSide {
    /// By this way it came in.
    Server { way: &'static str },
    /// It went to the service of this URL, so often if that was more than once.
    Client { url: String, attempts: u32 },
}

/// The calls that ended last, those that failed last, and the slowest ones, of one server or one client.
#[derive(Debug, Default)]
pub(crate) struct RecentCallList {
    /// Of the calls in a bucket, one is offered whose number has none of these bits. So that the clock is not read for each call, there
    /// are more of them while calls come that are not kept.
    stride: AtomicU64,
    /// The same for calls that failed with each code.
    failed_strides: [AtomicU64; Code::ALL.len()],
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
    /// The newest is at the end.
    failed: VecDeque<RecentCall>,
    /// Since when `slowest` is gathered.
    since: u64,
    slowest: Vec<RecentCall>,
    slowest_before: Vec<RecentCall>,
}

impl RecentCallList {
    /// Whether to offer a call that has just been counted. `numbers` are the numbers, within the bucket of its code, of the calls that
    /// were counted together with it, and `nanos` is its time.
    #[inline]
    pub(crate) fn wants(&self, code: CallCode, numbers: Range<u64>, nanos: u64) -> bool {
        let stride = self.stride(code).load(Ordering::Relaxed);
        // Whether one of them has none of the bits.
        (numbers.end - 1) & stride < numbers.end - numbers.start || nanos > self.slow.load(Ordering::Relaxed)
    }

    #[inline]
    fn stride(&self, code: CallCode) -> &AtomicU64 {
        code.map_or(&self.stride, |code| &self.failed_strides[code as usize])
    }

    /// Whether few calls come, so that each is offered.
    #[inline]
    pub(crate) fn keeps_each(&self) -> bool {
        self.stride.load(Ordering::Relaxed) == 0
    }

    /// Keeps a call that is [wanted](Self::wants), if it is one of the slowest, if it failed, or if none was kept for a while.
    #[cold]
    pub(crate) fn offer(&self, call: RecentCall) {
        let (ended, took) = (call.ended.nanos(), nanos(call.took));
        let mut state = self.state();
        if took > self.slow.load(Ordering::Relaxed) || state.is_over(ended) {
            state.add_slow(&call, ended);
            self.slow.store(state.bar(), Ordering::Relaxed);
        }
        if let Some(code) = call.code {
            // `since` is the time from the call that this one replaces. At most `FAILED` calls with this code were kept in it.
            if let Some(between) = state.add_failed(&call).map(|since| since / FAILED as u64) {
                self.space(Some(code), between);
            }
        }
        let kept = &mut state.kept[usize::from(call.code.is_some())];
        let since = ended.saturating_sub(*kept);
        if call.code.is_none() {
            self.space(None, since);
        }
        if since < SPACING {
            return;
        }
        *kept = ended;
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back(call);
    }

    /// Calls with this code that were offered ended so far apart, in nanoseconds. Fewer of them are offered if that was too near.
    fn space(&self, code: CallCode, between: u64) {
        let stride = self.stride(code);
        let before = stride.load(Ordering::Relaxed);
        if between < SPACING {
            stride.store((before << 1 | 1).min(LONGEST), Ordering::Relaxed);
        } else if between > 2 * SPACING {
            stride.store(before >> 1, Ordering::Relaxed);
        }
    }

    /// The calls that ended last, the newest first.
    pub(crate) fn recent(&self) -> Vec<RecentCall> {
        // The reader wants to see the next call, even if there were many before.
        self.stride.store(0, Ordering::Relaxed);
        self.failed_strides.iter().for_each(|stride| stride.store(0, Ordering::Relaxed));
        self.state().recent.iter().rev().cloned().collect()
    }

    /// The calls that failed last, the newest first. Those with a frequent code take no place from those with a rare one.
    pub(crate) fn failed(&self) -> Vec<RecentCall> {
        self.state().failed.iter().rev().cloned().collect()
    }

    /// The slowest calls of the last minutes, the slowest first.
    pub(crate) fn slowest(&self) -> Vec<RecentCall> {
        let state = self.state();
        let mut slowest: Vec<_> = state.slowest.iter().chain(&state.slowest_before).cloned().collect();
        slowest.sort_by_key(|call| Reverse(call.took));
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

    /// Keeps a call that failed, in the place of the oldest with the most frequent code. If that is its own, returns how much earlier
    /// that one ended, in nanoseconds.
    fn add_failed(&mut self, call: &RecentCall) -> Option<u64> {
        self.failed.push_back(call.clone());
        if self.failed.len() <= FAILED {
            return None;
        }
        let frequent = most_frequent(self.failed.iter())?;
        let at = self.failed.iter().position(|kept| kept.code == frequent)?;
        let oldest = self.failed.remove(at)?;
        (frequent == call.code).then(|| call.ended.nanos().saturating_sub(oldest.ended.nanos()))
    }

    /// How long a call must take to be among the slowest.
    fn bar(&self) -> u64 {
        if self.slowest.len() < SLOWEST { 0 } else { self.slowest.last().map_or(0, |last| nanos(last.took)) }
    }
}

/// Leaves the newest of calls that failed, the newest first, as [`RecentCallList::failed`] has those of one list.
pub(crate) fn keep_failed(calls: &mut Vec<RecentCall>) {
    calls.sort_by_key(|call| Reverse(call.ended));
    // How many of each code there is room for.
    let mut each = FAILED;
    while Code::ALL.iter().map(|code| with(calls.iter(), Some(*code)).min(each)).sum::<usize>() > FAILED {
        each -= 1;
    }
    let mut kept = [0; Code::ALL.len()];
    calls.retain(|call| {
        call.code.is_some_and(|code| {
            kept[code as usize] += 1;
            kept[code as usize] <= each
        })
    });
}

fn most_frequent<'c>(calls: impl Iterator<Item = &'c RecentCall> + Clone) -> Option<CallCode> {
    Code::ALL.into_iter().map(Some).max_by_key(|code| with(calls.clone(), *code))
}

/// How many of the calls ended with this code.
fn with<'c>(calls: impl Iterator<Item = &'c RecentCall>, code: CallCode) -> usize {
    calls.filter(|call| call.code == code).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(ended: RealInstant, micros: u64, code: CallCode) -> RecentCall {
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
            if calls.wants(None, at..at + 1, micros * 1_000) {
                offered += 1;
                calls.offer(call(start.later(Duration::from_micros(100 * at)), micros, None));
            }
        }
        let recent = calls.recent();
        assert_eq!(recent.len(), RECENT);
        assert!(recent.is_sorted_by_key(|call| Reverse(call.ended)), "the newest is first");
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
        let slow = |at| call(start.later(Duration::from_micros(at)), 50, None);
        (0..SLOWEST as u64).for_each(|at| calls.offer(slow(at)));
        assert_eq!(calls.recent().len(), 1);
        (0..100).for_each(|at| calls.offer(slow(at)));
        assert!(!calls.wants(None, 1..2, 1_000), "there were too many");
        assert!(calls.wants(None, 60..65, 1_000), "one of them is");
        calls.recent();
        assert!(calls.wants(None, 1..2, 1_000));
    }

    #[test]
    fn a_failure_is_kept_beside_successes() {
        let (calls, start) = (RecentCallList::default(), real_now());
        for at in 0..20 {
            calls.offer(call(start.later(Duration::from_micros(at)), 1, (at % 2 == 1).then_some(Code::Internal)));
        }
        assert_eq!(calls.recent().iter().map(|call| call.code).collect::<Vec<_>>(), [Some(Code::Internal), None]);
    }

    #[test]
    fn a_failure_stays_whatever_comes_after_it() {
        let (calls, start) = (RecentCallList::default(), real_now());
        let (rare, frequent) = (Some(Code::Internal), Some(Code::NotFound));
        calls.offer(call(start, 1, rare));
        let mut offered = 0;
        for at in 1..200_000 {
            let code = (at % 2 == 0).then_some(Code::NotFound);
            if calls.wants(code, at / 2..at / 2 + 1, 1_000) {
                offered += 1;
                calls.offer(call(start.later(Duration::from_micros(at)), 1, code));
            }
        }
        assert!(offered < 10_000, "{offered}");
        let failed = calls.failed();
        assert_eq!((failed.len(), with(failed.iter(), rare), with(failed.iter(), frequent)), (FAILED, 1, FAILED - 1));
        assert!(failed.is_sorted_by_key(|call| Reverse(call.ended)), "the newest is first");
        assert!(calls.wants(rare, 1..2, 1_000), "this code is rare");
        assert!(!calls.wants(frequent, 1..2, 1_000), "there were too many");
        let mut all = [failed, vec![call(start, 1, frequent); FAILED]].concat();
        keep_failed(&mut all);
        assert_eq!((all.len(), with(all.iter(), rare), with(all.iter(), frequent)), (FAILED, 1, FAILED - 1));
    }

    #[test]
    fn few_failures_are_all_kept() {
        let (calls, start) = (RecentCallList::default(), real_now());
        (0..30).for_each(|at| calls.offer(call(start.later(Duration::from_micros(at)), 1, Some(Code::NotFound))));
        assert_eq!((calls.failed().len(), calls.recent().len()), (30, 1));
    }

    #[test]
    fn the_slowest_are_those_of_the_last_minutes() {
        let (calls, start) = (RecentCallList::default(), real_now());
        calls.offer(call(start, 900, None));
        for (minutes, expected) in [(6, vec![900, 100]), (12, vec![100, 100]), (18, vec![100, 100])] {
            calls.offer(call(start.later(Duration::from_secs(minutes * 60)), 100, None));
            assert_eq!(micros(&calls.slowest()), expected, "after {minutes} minutes");
        }
    }
}
