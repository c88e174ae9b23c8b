//! Which connection the calls of a task go by, where a runtime has several threads: [`CallLane`], and [`LaneWatch`], a state
//! machine that says how many there are.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use tokio::runtime::Id;
use tokio::task;

/// The most connections of one runtime to one server.
const LANES: usize = 4;

/// With at least this number of calls in flight at once, a runtime of several threads gets several connections.
const MANY: usize = 64;

/// If never more than this number of calls were in flight, of [`WINDOW`] calls, all go by one again.
const FEW: usize = 16;
const WINDOW: u32 = 1024;

/// One of this number of calls counts those in flight: other threads write these numbers all the time.
const SAMPLE: u32 = 8;

/// The calls of a runtime that go by one connection to a server: all, or those of some of its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallLane {
    pub(super) runtime: Id,
    number: u8,
}

impl CallLane {
    /// The lane of all calls, where there is one.
    pub(super) fn first(runtime: Id) -> Self {
        Self { runtime, number: 0 }
    }

    /// Of this number of lanes, that of the calls of this task. A task stays in its lane: its connection wakes it, and
    /// writes what it sends next together with the calls of the others that it woke.
    pub(super) fn of_this_task(self, lanes: usize) -> Self {
        let number = match task::try_id() {
            Some(id) if lanes > 1 => of_task(id) % lanes.min(LANES) as u64,
            _ => 0,
        };
        Self { number: number as u8, ..self }
    }

    /// Every lane of this runtime.
    pub(super) fn all(self) -> impl Iterator<Item = Self> {
        (0..LANES as u8).map(move |number| Self { number, ..self })
    }
}

fn of_task(id: task::Id) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(id)
}

/// Says how many lanes there are. With few calls in flight one connection is the fastest, because calls share reads and writes.
/// With many, threads wait for each other.
#[derive(Debug)]
pub(super) struct LaneWatch {
    lanes: usize,
    /// The most calls in flight that were counted since the last [`WINDOW`] ended.
    most: usize,
    calls: u32,
}

impl Default for LaneWatch {
    fn default() -> Self {
        Self { lanes: 1, most: 0, calls: 0 }
    }
}

impl LaneWatch {
    /// How many lanes there are now.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// A call is sent. Returns the number of lanes. `in_flight` counts the other calls in flight, and `threads` the worker threads of
    /// the runtime.
    pub(super) fn sent(&mut self, in_flight: impl FnOnce() -> usize, threads: impl FnOnce() -> usize) -> usize {
        if self.calls.is_multiple_of(SAMPLE) {
            self.most = self.most.max(in_flight());
            if self.lanes == 1 && self.most >= MANY {
                self.lanes = threads().clamp(1, LANES);
            }
        }
        self.calls += 1;
        if self.calls == WINDOW {
            if self.most <= FEW {
                self.lanes = 1;
            }
            (self.most, self.calls) = (0, 0);
        }
        self.lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as many calls as one of which counts those in flight.
    fn lanes_after(watch: &mut LaneWatch, in_flight: usize, threads: usize) -> usize {
        (0..SAMPLE).map(|_| watch.sent(|| in_flight, || threads)).last().expect("it is more than none")
    }

    #[test]
    fn many_calls_at_once_get_as_many_lanes_as_there_are_threads() {
        let mut watch = LaneWatch::default();
        assert_eq!(lanes_after(&mut watch, MANY - 1, 2), 1);
        assert_eq!(lanes_after(&mut watch, MANY, 2), 2);
        assert_eq!(lanes_after(&mut LaneWatch::default(), MANY, 1), 1);
        assert_eq!(lanes_after(&mut LaneWatch::default(), MANY, 64), LANES);
    }

    #[test]
    fn few_calls_at_once_go_by_one_again_after_a_while() {
        let mut watch = LaneWatch::default();
        assert_eq!(lanes_after(&mut watch, MANY, 2), 2);
        let rounds = 2 * WINDOW / SAMPLE;
        for _ in 0..rounds {
            assert_eq!(lanes_after(&mut watch, FEW + 1, 2), 2);
        }
        let lanes: Vec<_> = (0..rounds).map(|_| lanes_after(&mut watch, FEW, 2)).collect();
        assert_eq!((lanes[0], lanes.last()), (2, Some(&1)));
    }

    #[tokio::test]
    async fn each_task_keeps_its_lane_and_all_lanes_are_used() {
        let first = CallLane::first(tokio::runtime::Handle::current().id());
        assert_eq!(first.of_this_task(LANES), first, "no task runs this");
        let mut used = Vec::new();
        for _ in 0..200 {
            let own = tokio::spawn(async move {
                let own = first.of_this_task(LANES);
                assert_eq!((own, first), (first.of_this_task(LANES), first.of_this_task(1)));
                own
            });
            used.push(own.await.expect("it doesn't panic"));
        }
        assert!(first.all().all(|lane| used.contains(&lane)), "{used:?}");
    }
}
