//! What all workers have measured together: [`Collector`]. A state machine without a clock.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::recorder::{TICK, Tally, Ticked, add, histogram};

/// Merges what the workers hand over.
#[derive(Debug)]
pub(super) struct Collector {
    total: Tally,
    slices: Vec<Slice>,
    /// How many ticks a slice has.
    slice_ticks: u64,
    recent: VecDeque<(u64, Slice)>,
}

/// The calls that ended in a part of the window.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    /// The calls that were answered with a value.
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) latency: Histogram<u64>,
}

/// What is shown while the load runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LiveFigures {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) calls_per_second: f64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
}

/// How many slices are kept. When there are more, two become one, so that a long run needs no more memory.
const MOST_SLICES: usize = 64;

/// The number of ticks that live figures are made of.
const RECENT_TICKS: u64 = 10;

impl Collector {
    pub(super) fn new(has_schedule: bool) -> Self {
        Self { total: Tally::new(has_schedule), slices: Vec::new(), slice_ticks: 1, recent: VecDeque::new() }
    }

    pub(super) fn add(&mut self, ticked: &Ticked) {
        let Ticked { tick, tally } = ticked;
        self.total.add(tally);
        let index = self.slice_at(*tick);
        self.slices[index].add_tally(tally);
        match self.recent.iter_mut().find(|(recent, _)| recent == tick) {
            Some((_, slice)) => slice.add_tally(tally),
            None => {
                let mut slice = Slice::new();
                slice.add_tally(tally);
                self.recent.push_back((*tick, slice));
            }
        }
    }

    /// The load lasted until this time after the beginning of the window, also if no call ended in the last part.
    pub(super) fn lasted(&mut self, time: Duration) {
        let ticks = u64::try_from(time.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        if let Some(last) = ticks.checked_sub(1) {
            self.slice_at(last);
        }
    }

    pub(super) fn total(&self) -> &Tally {
        &self.total
    }

    /// The figures of the last second before this tick, which has not ended.
    pub(super) fn live(&mut self, tick: u64) -> LiveFigures {
        self.recent.retain(|(recent, _)| *recent + RECENT_TICKS >= tick);
        let mut sum = Slice::new();
        for (_, slice) in self.recent.iter().filter(|(recent, _)| *recent < tick) {
            sum.add(slice);
        }
        let seconds = TICK.as_secs_f64() * tick.clamp(1, RECENT_TICKS) as f64;
        LiveFigures {
            calls: self.total.calls,
            failed: self.total.failed() + self.total.warm_up_errors,
            calls_per_second: sum.answered as f64 / seconds,
            p50_ns: sum.latency.value_at_quantile(0.5),
            p99_ns: sum.latency.value_at_quantile(0.99),
        }
    }

    /// The length of a slice, and the slices that lie wholly in a window of this length.
    pub(super) fn slices(&self, window: Duration) -> (Duration, &[Slice]) {
        let length = TICK * u32::try_from(self.slice_ticks).unwrap_or(u32::MAX);
        let whole = usize::try_from(window.as_nanos() / length.as_nanos()).unwrap_or(usize::MAX);
        (length, &self.slices[..whole.min(self.slices.len())])
    }

    /// The index of the slice that has this tick. It is made if there is none.
    fn slice_at(&mut self, tick: u64) -> usize {
        while tick / self.slice_ticks >= MOST_SLICES as u64 {
            self.merge_slices();
        }
        let index = (tick / self.slice_ticks) as usize;
        if self.slices.len() <= index {
            self.slices.resize_with(index + 1, Slice::new);
        }
        index
    }

    fn merge_slices(&mut self) {
        self.slice_ticks *= 2;
        let pairs = self.slices.chunks(2).map(|pair| {
            let mut sum = pair[0].clone();
            pair.get(1).inspect(|second| sum.add(second));
            sum
        });
        self.slices = pairs.collect();
    }
}

impl Slice {
    fn new() -> Self {
        Self { answered: 0, failed: 0, latency: histogram() }
    }

    fn add_tally(&mut self, tally: &Tally) {
        self.answered += tally.answered_within;
        self.failed += tally.failed();
        add(&mut self.latency, &tally.latency);
    }

    fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        add(&mut self.latency, &other.latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One call with this latency in milliseconds.
    fn one(tick: u64, ms: u64) -> Ticked {
        let mut tally = Tally::new(false);
        (tally.calls, tally.answered, tally.answered_within) = (1, 1, 1);
        tally.latency.record(ms * 1_000_000).unwrap();
        Ticked { tick, tally }
    }

    #[test]
    fn workers_are_merged() {
        let mut collector = Collector::new(false);
        for ticked in [one(0, 10), one(2, 20), one(0, 30)] {
            collector.add(&ticked);
        }
        assert_eq!((collector.total().calls, collector.total().latency.len()), (3, 3));
        let (length, slices) = collector.slices(TICK * 3);
        assert_eq!((length, slices.iter().map(|slice| slice.answered).collect::<Vec<_>>()), (TICK, vec![2, 0, 1]));
        // The third tick is not wholly in this window.
        assert_eq!(collector.slices(TICK * 5 / 2).1.len(), 2);
    }

    #[test]
    fn a_part_without_answers_is_a_slice_too() {
        let mut collector = Collector::new(false);
        collector.add(&one(1, 10));
        collector.lasted(TICK * 9 / 2);
        let (_, slices) = collector.slices(TICK * 9 / 2);
        assert_eq!(slices.iter().map(|slice| slice.answered).collect::<Vec<_>>(), [0, 1, 0, 0]);
    }

    #[test]
    fn slices_become_longer_in_a_long_run() {
        let mut collector = Collector::new(false);
        for tick in 0..1_000 {
            collector.add(&one(tick, 1));
        }
        let (length, slices) = collector.slices(TICK * 1_000);
        assert_eq!((length, slices.len()), (TICK * 16, 62));
        assert!(slices.iter().all(|slice| slice.answered == 16 && slice.latency.len() == 16));
        assert_eq!(collector.total().calls, 1_000);
    }

    #[test]
    fn live_figures_are_those_of_the_last_second() {
        let mut collector = Collector::new(false);
        for tick in 0..30 {
            collector.add(&one(tick, if tick < 20 { 500 } else { 1 }));
        }
        let live = collector.live(30);
        assert_eq!((live.calls, live.failed, live.calls_per_second), (30, 0, 10.0));
        assert!(live.p99_ns < 1_100_000, "{live:?}");
        // The tick that runs is left out.
        assert_eq!(collector.live(29).calls_per_second, 9.0);
        assert_eq!(collector.live(100).calls_per_second, 0.0);
        let mut begun = Collector::new(false);
        begun.add(&one(0, 1));
        assert_eq!(begun.live(1).calls_per_second, 10.0);
    }
}
