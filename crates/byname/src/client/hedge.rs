//! When a call is sent to a second replica beside the first, and which answer counts: [`Hedging`], [`AttemptPair`]. State
//! machines without a clock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::latency_histogram::LatencyHistogram;
use crate::method::Method;

/// What all calls of a client that may be hedged have in common.
#[derive(Debug, Default)]
pub(super) struct Hedging(Mutex<HedgeState>);

impl Hedging {
    /// A call of this function begins. It is hedged if it has no answer after the returned time.
    pub(super) fn began(&self, method: &'static Method) -> Option<Duration> {
        self.state().began(key(method))
    }

    /// After which time calls of this function are hedged now, if it is known.
    pub(super) fn delay(&self, method: &'static Method) -> Option<Duration> {
        self.state().functions.get(&key(method))?.delay
    }

    /// A call was answered.
    pub(super) fn answered(&self, method: &'static Method, took: Duration, now: Instant) {
        self.state().answered(key(method), took, now);
    }

    /// Whether a call may be hedged now. It is called when everything else allows it.
    pub(super) fn withdraw(&self) -> bool {
        self.state().withdraw()
    }

    fn state(&self) -> MutexGuard<'_, HedgeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Descriptions of functions are never freed, so an address stands for one function.
fn key(method: &'static Method) -> FunctionKey {
    FunctionKey(std::ptr::from_ref(method) as usize)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FunctionKey(usize);

#[derive(Debug, Default)]
struct HedgeState {
    /// A call adds one, and a hedge takes [`COST`].
    credit: u32,
    functions: HashMap<FunctionKey, AnswerTimes>,
}

/// How long the answers of one function take.
#[derive(Debug)]
struct AnswerTimes {
    /// Since the delay was computed.
    recent: LatencyHistogram,
    /// When the delay was computed.
    since: Instant,
    delay: Option<Duration>,
}

/// A hundredth of the calls may be hedged.
const COST: u32 = 100;
/// The most hedges that can be made at once, after many calls without one.
const STORED: u32 = 20;
/// How many answers say what is slow.
const LEAST_ANSWERS: u32 = 100;
/// The least time between two computations of the delay.
const REFRESHED: Duration = Duration::from_secs(3);
/// Before this no call is hedged.
const LEAST_DELAY: Duration = Duration::from_millis(1);

impl HedgeState {
    fn began(&mut self, function: FunctionKey) -> Option<Duration> {
        self.credit = (self.credit + 1).min(COST * STORED);
        self.functions.get(&function)?.delay
    }

    fn answered(&mut self, function: FunctionKey, took: Duration, now: Instant) {
        let new = || AnswerTimes { recent: LatencyHistogram::new(), since: now, delay: None };
        let times = self.functions.entry(function).or_insert_with(new);
        times.recent.record(took);
        let is_due = times.delay.is_none() || now.saturating_duration_since(times.since) >= REFRESHED;
        if is_due && times.recent.total() >= LEAST_ANSWERS {
            let delay = times.recent.percentile_99().max(LEAST_DELAY);
            *times = AnswerTimes { delay: Some(delay), ..new() };
        }
    }

    fn withdraw(&mut self) -> bool {
        let is_granted = self.credit >= COST;
        if is_granted {
            self.credit -= COST;
        }
        is_granted
    }
}

/// Two attempts at one call beside each other. The first answer counts. An attempt that fails waits for the other.
#[derive(Debug)]
pub(super) enum AttemptPair<T> {
    Both,
    /// One has failed with this, and the other goes on.
    Failed(T),
    /// The second was not sent.
    Alone,
    Over,
}

/// How two attempts have ended.
#[derive(Debug, PartialEq)]
pub(super) enum PairEnd<T> {
    /// This counts.
    One(T),
    /// Both have failed, in this order.
    BothFailed(T, T),
}

impl<T> AttemptPair<T> {
    /// An attempt has ended. Says how both have, if the call is over.
    pub(super) fn ended(&mut self, result: T, is_answer: bool) -> Option<PairEnd<T>> {
        match (std::mem::replace(self, Self::Over), is_answer) {
            (Self::Both, false) => {
                *self = Self::Failed(result);
                None
            }
            (Self::Failed(first), false) => Some(PairEnd::BothFailed(first, result)),
            (_, true) | (Self::Alone, false) => Some(PairEnd::One(result)),
            (Self::Over, false) => None,
        }
    }

    /// The second attempt was not sent. Says how the first has ended, if the call is over.
    pub(super) fn unsent(&mut self) -> Option<PairEnd<T>> {
        match std::mem::replace(self, Self::Alone) {
            Self::Failed(first) => {
                *self = Self::Over;
                Some(PairEnd::One(first))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADD: FunctionKey = FunctionKey(1);
    const MS: Duration = Duration::from_millis(1);

    fn answers(state: &mut HedgeState, count: u32, took: Duration, now: Instant) {
        for _ in 0..count {
            state.answered(ADD, took, now);
        }
    }

    /// Whether a delay is this, or longer by less than an eighth.
    fn is_about(delay: Option<Duration>, expected: Duration) -> bool {
        delay.is_some_and(|delay| (expected..expected.mul_f64(1.126)).contains(&delay))
    }

    #[test]
    fn nothing_is_hedged_before_a_hundred_answers() {
        let (mut state, now) = (HedgeState::default(), Instant::now());
        answers(&mut state, LEAST_ANSWERS - 1, MS * 10, now);
        assert_eq!(state.began(ADD), None);
        answers(&mut state, 1, MS * 10, now);
        assert!(is_about(state.began(ADD), MS * 10));
        assert_eq!(state.began(FunctionKey(2)), None, "of another function nothing is known");
    }

    #[test]
    fn the_delay_is_refreshed_after_three_seconds_and_a_hundred_answers() {
        let (mut state, start) = (HedgeState::default(), Instant::now());
        answers(&mut state, 100, MS * 10, start);
        answers(&mut state, 500, MS * 100, start + MS * 2_999);
        assert!(is_about(state.began(ADD), MS * 10), "it is too early");
        answers(&mut state, 1, MS * 100, start + MS * 3_000);
        assert!(is_about(state.began(ADD), MS * 100));
        answers(&mut state, 99, MS * 10, start + MS * 10_000);
        assert!(is_about(state.began(ADD), MS * 100), "too few answers");
        answers(&mut state, 1, MS * 10, start + MS * 10_000);
        assert!(is_about(state.began(ADD), MS * 10), "what was before is forgotten");
    }

    #[test]
    fn the_delay_is_at_least_a_millisecond() {
        let (mut state, now) = (HedgeState::default(), Instant::now());
        answers(&mut state, 100, Duration::from_micros(50), now);
        assert!(state.began(ADD).is_some_and(|delay| delay >= LEAST_DELAY));
    }

    #[test]
    fn a_hundredth_of_the_calls_is_hedged_and_twenty_at_once() {
        let mut state = HedgeState::default();
        let mut hedged = |calls| {
            for _ in 0..calls {
                state.began(ADD);
            }
            std::iter::repeat_with(|| state.withdraw()).take_while(|granted| *granted).count()
        };
        assert_eq!([hedged(99), hedged(1), hedged(250), hedged(50)], [0, 1, 2, 1]);
        assert_eq!(hedged(1_000_000), 20);
    }

    #[test]
    fn the_first_answer_counts_and_a_failure_waits_for_the_other() {
        let mut pair = AttemptPair::Both;
        assert_eq!(pair.ended("first", true), Some(PairEnd::One("first")));
        let mut pair = AttemptPair::Both;
        assert_eq!(pair.ended("broken", false), None);
        assert_eq!(pair.ended("second", true), Some(PairEnd::One("second")));
        let mut pair = AttemptPair::Both;
        assert_eq!(pair.ended("broken", false), None);
        assert_eq!(pair.ended("too", false), Some(PairEnd::BothFailed("broken", "too")));
    }

    #[test]
    fn where_the_second_was_not_sent_the_first_counts() {
        let mut pair = AttemptPair::Both;
        assert_eq!(pair.unsent(), None);
        assert_eq!(pair.ended("broken", false), Some(PairEnd::One("broken")));
        let mut pair = AttemptPair::Both;
        assert_eq!(pair.ended("broken", false), None);
        assert_eq!(pair.unsent(), Some(PairEnd::One("broken")));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin(usize),
        Answer(usize, u64),
        Hedge(u32),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3usize).prop_map(Step::Begin),
            4 => (0..3usize, 0..100_000u64).prop_map(|(function, ms)| Step::Answer(function, ms)),
            1 => (0..30u32).prop_map(Step::Hedge),
            1 => (0..5_000u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever calls do: hedges are at most a hundredth of them, and no delay comes from few answers or is too short.
        #[test]
        fn hedges_are_few_and_late(steps in proptest::collection::vec((step(), 1..200u32), 0..100)) {
            let (mut state, mut now) = (HedgeState::default(), Instant::now());
            let (mut calls, mut hedges, mut answered) = (0, 0, [0; 3]);
            for (step, times) in steps {
                match step {
                    Step::Begin(function) => for _ in 0..times {
                        calls += 1;
                        let delay = state.began(FunctionKey(function));
                        prop_assert_eq!(delay.is_some(), answered[function] >= LEAST_ANSWERS);
                        prop_assert!(delay.is_none_or(|delay| delay >= LEAST_DELAY));
                    },
                    Step::Answer(function, ms) => for _ in 0..times {
                        answered[function] += 1;
                        state.answered(FunctionKey(function), Duration::from_millis(ms), now);
                    },
                    Step::Hedge(wanted) => hedges += (0..wanted).filter(|_| state.withdraw()).count(),
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                }
                prop_assert!(hedges * 100 <= calls);
            }
        }
    }
}
