//! What one worker has measured: [`Recorder`]. A state machine that gets the time as an argument.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use byname::{CallError, Code};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The unit in which workers hand over what they have measured.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// The time that is measured, counted from the start of the load. Calls that are to be sent in it count.
#[derive(Debug)]
pub(super) struct Window {
    from: Duration,
    until_ns: AtomicU64,
}

impl Window {
    pub(super) fn new(from: Duration, length: Option<Duration>) -> Self {
        let until = length.map_or(Duration::MAX, |length| from.saturating_add(length));
        Self { from, until_ns: AtomicU64::new(nanos(until)) }
    }

    pub(super) fn from(&self) -> Duration {
        self.from
    }

    pub(super) fn until(&self) -> Duration {
        Duration::from_nanos(self.until_ns.load(Relaxed))
    }

    /// The window ends at `now`, if it would end later.
    pub(super) fn close(&self, now: Duration) {
        self.until_ns.fetch_min(nanos(now), Relaxed);
    }

    fn tick(&self, at: Duration) -> u64 {
        nanos(at.saturating_sub(self.from)) / nanos(TICK)
    }
}

/// What the calls of some time came to.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// The calls that were to be sent in the window and have ended.
    pub(super) calls: u64,
    /// Of these, the ones that were answered with a value.
    pub(super) answered: u64,
    /// The calls that were answered with a value within the window. Some were sent before it.
    pub(super) answered_within: u64,
    pub(super) errors: BTreeMap<String, ErrorCount>,
    /// The calls that were sent before the window and failed.
    pub(super) warm_up_errors: u64,
    /// The times of the calls that were answered with a value or have timed out.
    pub(super) latency: Histogram<u64>,
    /// How much later than intended calls were sent. `None` in a closed loop.
    pub(super) delay: Option<Histogram<u64>>,
    /// The calls that were sent late because the most were in flight.
    pub(super) without_room: u64,
    /// When the last of the calls ended.
    pub(super) last_end: Duration,
}

/// The failed calls with one code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ErrorCount {
    pub(super) calls: u64,
    /// The message of one of them.
    pub(super) example: String,
}

/// In place of a code: the function itself returned the error. A call by name does not learn the code of such an error.
pub(super) const OWN_ERROR: &str = "method";

impl Tally {
    pub(super) fn new(has_schedule: bool) -> Self {
        Self {
            calls: 0,
            answered: 0,
            answered_within: 0,
            errors: BTreeMap::new(),
            warm_up_errors: 0,
            latency: histogram(),
            delay: has_schedule.then(histogram),
            without_room: 0,
            last_end: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.answered_within += other.answered_within;
        self.warm_up_errors += other.warm_up_errors;
        self.without_room += other.without_room;
        self.last_end = self.last_end.max(other.last_end);
        for (code, errors) in &other.errors {
            count(&mut self.errors, code, errors.calls, || errors.example.clone());
        }
        add(&mut self.latency, &other.latency);
        if let (Some(delay), Some(other)) = (&mut self.delay, &other.delay) {
            add(delay, other);
        }
    }

    /// The calls that failed, but for those of the warm-up.
    pub(super) fn failed(&self) -> u64 {
        self.calls - self.answered
    }
}

/// What the calls that ended in one tick came to. Ticks are counted from the beginning of the window.
#[derive(Debug)]
pub(super) struct Ticked {
    pub(super) tick: u64,
    pub(super) tally: Tally,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallTimes {
    /// When it was to be sent. Its latency begins then.
    pub(super) intended: Duration,
    pub(super) sent: Duration,
    pub(super) ended: Duration,
    pub(super) had_no_room: bool,
}

/// Counts the calls of one worker, tick by tick.
#[derive(Debug)]
pub(super) struct Recorder {
    tick: u64,
    tally: Tally,
    is_empty: bool,
    has_schedule: bool,
}

impl Recorder {
    pub(super) fn new(has_schedule: bool) -> Self {
        Self { tick: 0, tally: Tally::new(has_schedule), is_empty: true, has_schedule }
    }

    /// Counts a call. Returns what was counted in an earlier tick.
    pub(super) fn record<T>(
        &mut self,
        window: &Window,
        call: CallTimes,
        result: &Result<T, CallError<Value>>,
    ) -> Option<Ticked> {
        let earlier = self.take_before(window, call.ended);
        self.is_empty = false;
        let tally = &mut self.tally;
        if call.intended < window.from() {
            tally.warm_up_errors += u64::from(result.is_err());
        } else {
            tally.calls += 1;
            tally.last_end = tally.last_end.max(call.ended);
            let latency = nanos(call.ended.saturating_sub(call.intended));
            match result {
                Ok(_) => {
                    tally.answered += 1;
                    tally.latency.saturating_record(latency);
                }
                Err(CallError::Method(_)) => {
                    let example = || result.as_ref().err().map(ToString::to_string).unwrap_or_default();
                    count(&mut tally.errors, OWN_ERROR, 1, example);
                }
                Err(CallError::Rpc(error)) => {
                    // It took at least this time. Without it, percentiles were better the more calls timed out.
                    if error.code() == Code::DeadlineExceeded {
                        tally.latency.saturating_record(latency);
                    }
                    let code = error.code().as_str();
                    count(&mut tally.errors, code, 1, || {
                        // `Display` escapes what the other side wrote. The code is shown beside it.
                        let text = error.to_string();
                        text.strip_prefix(code).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text).to_owned()
                    });
                }
            }
            if let Some(delay) = &mut tally.delay {
                delay.saturating_record(nanos(call.sent.saturating_sub(call.intended)));
                tally.without_room += u64::from(call.had_no_room);
            }
        }
        if result.is_ok() && call.ended >= window.from() && call.ended < window.until() {
            tally.answered_within += 1;
        }
        earlier
    }

    /// What was counted in ticks that are over at `now`.
    pub(super) fn take_before(&mut self, window: &Window, now: Duration) -> Option<Ticked> {
        let tick = window.tick(now);
        if tick == self.tick {
            return None;
        }
        let ended = std::mem::replace(&mut self.tick, tick);
        self.take(ended)
    }

    /// What was counted since.
    pub(super) fn take_rest(&mut self) -> Option<Ticked> {
        self.take(self.tick)
    }

    fn take(&mut self, tick: u64) -> Option<Ticked> {
        if std::mem::replace(&mut self.is_empty, true) {
            return None;
        }
        let tally = std::mem::replace(&mut self.tally, Tally::new(self.has_schedule));
        Some(Ticked { tick, tally })
    }
}

/// Of times from 64 ns to one hour, exact to a thousandth. Longer times count as one hour.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(64, 3_600_000_000_000, 3).expect("these bounds are valid")
}

/// Adds what another histogram has counted, which was made by [`histogram`] too.
pub(super) fn add(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    if !other.is_empty() {
        sum.add(other).expect("both have the same bounds");
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn count(errors: &mut BTreeMap<String, ErrorCount>, code: &str, calls: u64, example: impl FnOnce() -> String) {
    match errors.get_mut(code) {
        Some(errors) => errors.calls += calls,
        None => drop(errors.insert(code.to_owned(), ErrorCount { calls, example: example() })),
    }
}

#[cfg(test)]
mod tests {
    use byname::Error;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn call(intended: u64, ended: u64) -> CallTimes {
        CallTimes { intended: ms(intended), sent: ms(intended), ended: ms(ended), had_no_room: false }
    }

    fn failed(code: Code) -> Result<(), CallError<Value>> {
        Err(CallError::Rpc(Error::new(code, "it failed\u{1b}[2J")))
    }

    fn window() -> Window {
        Window::new(ms(1_000), Some(ms(10_000)))
    }

    #[test]
    fn calls_of_the_warm_up_do_not_count() {
        let (window, mut recorder) = (window(), Recorder::new(false));
        assert!(recorder.record(&window, call(10, 20), &Ok(())).is_none());
        assert!(recorder.record(&window, call(10, 20), &failed(Code::Internal)).is_none());
        // It was sent before the window and is answered in it.
        assert!(recorder.record(&window, call(990, 1_010), &Ok(())).is_none());
        assert!(recorder.record(&window, call(1_000, 1_050), &Ok(())).is_none());
        let Ticked { tick, tally } = recorder.take_rest().unwrap();
        assert_eq!((tick, tally.calls, tally.answered, tally.answered_within), (0, 1, 1, 2));
        assert_eq!((tally.warm_up_errors, tally.errors.len(), tally.latency.len()), (1, 0, 1));
    }

    #[test]
    fn a_call_that_ends_after_the_window_has_a_latency() {
        let (window, mut recorder) = (window(), Recorder::new(false));
        recorder.record(&window, call(10_990, 12_000), &Ok(()));
        let Ticked { tick, tally } = recorder.take_rest().unwrap();
        assert_eq!((tick, tally.calls, tally.answered_within), (110, 1, 0));
        assert!(tally.latency.max().abs_diff(nanos(ms(1_010))) <= nanos(ms(1)), "{}", tally.latency.max());
    }

    #[test]
    fn ticks_are_handed_over_when_they_are_over() {
        let (window, mut recorder) = (window(), Recorder::new(false));
        assert!(recorder.record(&window, call(1_000, 1_099), &Ok(())).is_none());
        let first = recorder.record(&window, call(1_000, 1_100), &Ok(())).unwrap();
        assert_eq!((first.tick, first.tally.calls), (0, 1));
        assert!(recorder.take_before(&window, ms(1_199)).is_none());
        let second = recorder.take_before(&window, ms(1_500)).unwrap();
        assert_eq!((second.tick, second.tally.calls), (1, 1));
        assert!(recorder.take_before(&window, ms(1_700)).is_none());
        assert!(recorder.take_rest().is_none());
    }

    #[test]
    fn latency_counts_from_the_intended_time() {
        let (window, mut recorder) = (window(), Recorder::new(true));
        let late = CallTimes { intended: ms(2_000), sent: ms(2_500), ended: ms(2_501), had_no_room: true };
        recorder.record(&window, late, &Ok(()));
        let tally = recorder.take_rest().unwrap().tally;
        assert!(tally.latency.min() > nanos(ms(500)));
        assert!(tally.delay.unwrap().max().abs_diff(nanos(ms(500))) <= nanos(ms(1)));
        assert_eq!(tally.without_room, 1);
    }

    #[test]
    fn failures_are_counted_by_code_and_only_time_outs_have_a_latency() {
        let (window, mut recorder) = (window(), Recorder::new(false));
        recorder.record(&window, call(1_000, 1_001), &failed(Code::Unavailable));
        recorder.record(&window, call(1_000, 1_002), &failed(Code::Unavailable));
        recorder.record(&window, call(1_000, 1_003), &failed(Code::DeadlineExceeded));
        let own: Result<(), _> = Err(CallError::Method(Value::from("no account 7")));
        recorder.record(&window, call(1_000, 1_004), &own);
        let mut tally = recorder.take_rest().unwrap().tally;
        tally.add(&tally.clone());
        let counts: Vec<_> = tally.errors.iter().map(|(code, errors)| (code.as_str(), errors.calls)).collect();
        assert_eq!(counts, [("deadline_exceeded", 2), (OWN_ERROR, 2), ("unavailable", 4)]);
        assert_eq!(tally.errors["unavailable"].example, "it failed\\u{1b}[2J");
        assert_eq!((tally.failed(), tally.latency.len(), tally.answered_within), (8, 2, 0));
    }

    #[test]
    fn a_window_is_closed_once() {
        let window = window();
        assert_eq!(window.until(), ms(11_000));
        window.close(ms(5_000));
        window.close(ms(7_000));
        assert_eq!(window.until(), ms(5_000));
    }
}
