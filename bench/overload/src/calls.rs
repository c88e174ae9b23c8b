//! What became of the calls: counts, percentiles, and slots of time. Pure.

use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::tables::percent;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Answered before its deadline.
    Good,
    /// Not answered before its deadline.
    Late,
    /// The server refused it.
    Refused,
    /// The caller's own client did not send it, because the server had refused others.
    HeldBack,
    /// It failed otherwise.
    Failed,
    /// The loader was too late to send it.
    Unsent,
}

#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The intended send time, from the start of the load.
    pub at: Duration,
    pub caller: usize,
    /// By how much the loader sent it too late.
    pub send_delay: Duration,
    /// From the intended send time to the end.
    pub took: Duration,
    pub ended: Ended,
}

#[derive(Clone, Debug, Default)]
pub struct Calls(pub Vec<Call>);

impl Calls {
    /// Those that were to be sent in this time.
    pub fn within(&self, time: Range<Duration>) -> Self {
        self.only(|call| time.contains(&call.at))
    }

    pub fn only(&self, is: impl Fn(&Call) -> bool) -> Self {
        Self(self.0.iter().filter(|call| is(call)).copied().collect())
    }

    /// All that were planned.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn ended(&self, how: Ended) -> usize {
        self.0.iter().filter(|call| call.ended == how).count()
    }

    /// Those that the loader made.
    pub fn made(&self) -> usize {
        self.count() - self.ended(Ended::Unsent)
    }

    /// The part of all planned calls that was answered in time.
    pub fn good_percent(&self) -> Option<f64> {
        percent(self.ended(Ended::Good) as f64, self.count() as f64)
    }

    /// The latency of calls that were answered in time, in milliseconds. A late call has none: its answer never came.
    pub fn latency(&self, quantile: f64) -> Option<f64> {
        let good = self.0.iter().filter(|call| call.ended == Ended::Good);
        millis_at(quantile, good.map(|call| call.took))
    }

    /// By how much the loader was late, in milliseconds.
    pub fn send_delay(&self, quantile: f64) -> Option<f64> {
        millis_at(quantile, self.0.iter().map(|call| call.send_delay))
    }

    /// Pieces of this length, which begin at `from`. A piece that is not whole at the end is left out.
    pub fn slots(&self, time: Range<Duration>, length: Duration) -> Vec<Calls> {
        let count = ((time.end - time.start).as_nanos() / length.as_nanos()) as usize;
        let mut slots = vec![Calls::default(); count];
        for call in self.0.iter().filter(|call| time.contains(&call.at)) {
            let nth = ((call.at - time.start).as_nanos() / length.as_nanos()) as usize;
            if let Some(slot) = slots.get_mut(nth) {
                slot.0.push(*call);
            }
        }
        slots
    }
}

fn millis_at(quantile: f64, times: impl Iterator<Item = Duration>) -> Option<f64> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).expect("the bounds are valid");
    times.for_each(|time| histogram.saturating_record(time.as_micros() as u64));
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e3)
}

/// The first of five slots in a row that are normal, if there are five.
pub fn first_normal(is_normal: &[bool]) -> Option<usize> {
    is_normal.windows(5).position(|five| five.iter().all(|is| *is))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at: u64, took: u64, ended: Ended) -> Call {
        let [at, took] = [at, took].map(Duration::from_millis);
        Call { at, caller: 0, send_delay: Duration::ZERO, took, ended }
    }

    #[test]
    fn only_calls_that_were_answered_in_time_have_a_latency() {
        let mut calls: Vec<_> = (1..=99).map(|took| call(took, took, Ended::Good)).collect();
        calls.push(call(100, 500, Ended::Late));
        let calls = Calls(calls);
        assert_eq!([0.5, 0.99].map(|quantile| calls.latency(quantile).unwrap().round()), [50.0, 99.0]);
        assert_eq!(Calls(vec![call(0, 1, Ended::Refused)]).latency(0.5), None);
    }

    #[test]
    fn calls_that_were_not_made_count_as_planned() {
        let ends = [Ended::Good, Ended::Late, Ended::Refused, Ended::Unsent];
        let calls = Calls(ends.map(|ended| call(0, 1, ended)).to_vec());
        assert_eq!((calls.count(), calls.made(), calls.good_percent()), (4, 3, Some(25.0)));
        assert_eq!(Calls::default().good_percent(), None);
    }

    #[test]
    fn calls_lie_in_the_slots_of_their_intended_times() {
        let calls = Calls([99, 100, 149, 150, 299, 300, 340].map(|at| call(at, 1, Ended::Good)).to_vec());
        let [from, to, length] = [100, 340, 50].map(Duration::from_millis);
        let counts: Vec<_> = calls.slots(from..to, length).iter().map(Calls::count).collect();
        assert_eq!(counts, [2, 1, 0, 1]);
        assert_eq!(calls.within(from..to).count(), 5);
    }

    #[test]
    fn normal_is_the_first_of_five_normal_slots() {
        let of = |slots: &str| first_normal(&slots.bytes().map(|slot| slot == b'n').collect::<Vec<_>>());
        assert_eq!([of("nnnnn"), of("-nnn-nnnnn-"), of("nnnn-nnnn"), of("")], [Some(0), Some(5), None, None]);
    }
}
