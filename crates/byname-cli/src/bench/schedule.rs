//! When the calls of an open loop are to be sent: [`SendTimes`], [`Schedule`]. State machines without a clock.

use std::time::Duration;

/// The intended times of sending: at a fixed rate, whatever the server does. With N workers, each worker has every Nth of these times.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendTimes {
    /// Calls a second, of all workers together.
    rate: f64,
    worker: u64,
    workers: u64,
}

impl SendTimes {
    /// `worker` counts from 0.
    pub(super) fn new(rate: f64, worker: usize, workers: usize) -> Self {
        Self { rate, worker: worker as u64, workers: workers as u64 }
    }

    /// The first intended time of this worker that is after `now`.
    pub(super) fn next_after(&self, now: Duration) -> Duration {
        let after = self.index_at(now + Duration::from_nanos(1));
        let own = after + (self.worker + self.workers - after % self.workers) % self.workers;
        self.at(own)
    }

    /// When the call of this index is to be sent, among those of all workers.
    pub(super) fn at(&self, index: u64) -> Duration {
        Duration::from_nanos((index as f64 * 1e9 / self.rate).round() as u64)
    }

    /// The index of the first call that is to be sent at `time` or later.
    pub(super) fn index_at(&self, time: Duration) -> u64 {
        // The product is rounded: it may be off by one.
        let mut index = (time.as_secs_f64() * self.rate) as u64;
        while index > 0 && self.at(index - 1) >= time {
            index -= 1;
        }
        while self.at(index) < time {
            index += 1;
        }
        index
    }
}

/// What a worker is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send a call that was to be sent at this time. `had_no_room` says that the most calls were in flight then.
    Send { intended: Duration, had_no_room: bool },
    /// Nothing is due before this time.
    WaitUntil(Duration),
    /// A call is due, and the most calls are in flight.
    WaitForAnswer,
    /// The time is over. This is the number of calls that were due and not sent.
    Over { unsent: u64 },
}

/// The calls of one worker, one after the other. A call that can't be sent at its time is sent later, and none is left out
/// before the end.
#[derive(Debug)]
pub(super) struct Schedule {
    times: SendTimes,
    next: u64,
    most_in_flight: usize,
    has_no_room: bool,
    /// Until this time there was no room.
    no_room_until: Option<Duration>,
}

/// How long after the end calls are sent that were due before it, if there is room.
const GRACE: Duration = Duration::from_millis(100);

impl Schedule {
    pub(super) fn new(times: SendTimes, most_in_flight: usize) -> Self {
        Self { times, next: times.worker, most_in_flight, has_no_room: false, no_room_until: None }
    }

    /// What to do at `now`, when calls that are intended before `until` are to be sent.
    pub(super) fn step(&mut self, now: Duration, until: Duration, in_flight: usize) -> Step {
        let intended = self.times.at(self.next);
        if intended >= until {
            return Step::Over { unsent: 0 };
        }
        if intended > now {
            return Step::WaitUntil(intended);
        }
        let has_room = in_flight < self.most_in_flight;
        if now >= until && (!has_room || now >= until + GRACE) {
            let due = self.times.index_at(until) - self.next;
            return Step::Over { unsent: due.div_ceil(self.times.workers) };
        }
        if !has_room {
            self.has_no_room = true;
            return Step::WaitForAnswer;
        }
        if std::mem::take(&mut self.has_no_room) {
            self.no_room_until = Some(now);
        }
        self.next += self.times.workers;
        Step::Send { intended, had_no_room: self.no_room_until.is_some_and(|until| intended <= until) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sent(intended: Duration) -> Step {
        Step::Send { intended, had_no_room: false }
    }

    fn sent_late(intended: Duration) -> Step {
        Step::Send { intended, had_no_room: true }
    }

    #[test]
    fn calls_are_sent_at_fixed_times() {
        let mut schedule = Schedule::new(SendTimes::new(100.0, 0, 1), 10);
        assert_eq!(schedule.step(ms(0), END, 0), sent(ms(0)));
        assert_eq!(schedule.step(ms(0), END, 1), Step::WaitUntil(ms(10)));
        assert_eq!(schedule.step(ms(10), END, 1), sent(ms(10)));
        // The worker was late: the intended times stay as they were.
        assert_eq!(schedule.step(ms(35), END, 2), sent(ms(20)));
        assert_eq!(schedule.step(ms(35), END, 3), sent(ms(30)));
        assert_eq!(schedule.step(ms(35), END, 4), Step::WaitUntil(ms(40)));
    }

    #[test]
    fn without_room_calls_wait_and_keep_their_intended_times() {
        let mut schedule = Schedule::new(SendTimes::new(100.0, 0, 1), 1);
        assert_eq!(schedule.step(ms(0), END, 0), sent(ms(0)));
        assert_eq!(schedule.step(ms(10), END, 1), Step::WaitForAnswer);
        assert_eq!(schedule.step(ms(25), END, 1), Step::WaitForAnswer);
        assert_eq!(schedule.step(ms(35), END, 0), sent_late(ms(10)));
        assert_eq!(schedule.step(ms(36), END, 0), sent_late(ms(20)));
        assert_eq!(schedule.step(ms(37), END, 0), sent_late(ms(30)));
        assert_eq!(schedule.step(ms(41), END, 0), sent(ms(40)));
    }

    #[test]
    fn calls_that_were_never_sent_are_counted() {
        let mut schedule = Schedule::new(SendTimes::new(100.0, 0, 1), 1);
        assert_eq!(schedule.step(ms(0), END, 0), sent(ms(0)));
        assert_eq!(schedule.step(ms(999), END, 1), Step::WaitForAnswer);
        assert_eq!(schedule.step(ms(1_000), END, 1), Step::Over { unsent: 99 });
        // Two workers have every second each.
        let mut second = Schedule::new(SendTimes::new(100.0, 1, 2), 1);
        assert_eq!(second.step(ms(10), END, 0), sent(ms(10)));
        assert_eq!(second.step(ms(1_000), END, 1), Step::Over { unsent: 49 });
    }

    #[test]
    fn after_the_end_a_worker_with_room_sends_what_was_due() {
        let mut schedule = Schedule::new(SendTimes::new(100.0, 0, 1), 1_000);
        for n in 0..100 {
            assert_eq!(schedule.step(ms(1_001), END, n), sent(ms(n as u64 * 10)));
        }
        assert_eq!(schedule.step(ms(1_001), END, 100), Step::Over { unsent: 0 });
        let mut hopeless = Schedule::new(SendTimes::new(100.0, 0, 1), 1_000);
        assert_eq!(hopeless.step(END + GRACE, END, 0), Step::Over { unsent: 100 });
    }

    #[test]
    fn workers_share_the_calls() {
        let all = SendTimes::new(30_000.0, 0, 1);
        let mut shared: Vec<Duration> = Vec::new();
        for worker in 0..3 {
            let mut schedule = Schedule::new(SendTimes::new(30_000.0, worker, 3), usize::MAX);
            while let Step::Send { intended, .. } = schedule.step(END, END, 0) {
                shared.push(intended);
            }
        }
        shared.sort();
        assert_eq!(shared, (0..30_000).map(|index| all.at(index)).collect::<Vec<_>>());
    }

    #[test]
    fn the_next_time_is_one_of_the_worker() {
        let times = SendTimes::new(100.0, 1, 2);
        assert_eq!([0, 9, 10, 29, 30].map(|now| times.next_after(ms(now))), [10, 10, 30, 30, 50].map(ms));
    }

    #[test]
    fn an_index_and_its_time_agree() {
        for rate in [0.3, 7.0, 999.9, 123_456.7] {
            let times = SendTimes::new(rate, 0, 1);
            for index in [0, 1, 2, 3, 1_000, 999_999] {
                assert_eq!(times.index_at(times.at(index)), index, "{rate}");
                assert_eq!(times.index_at(times.at(index) + Duration::from_nanos(1)), index + 1, "{rate}");
            }
        }
    }
}
