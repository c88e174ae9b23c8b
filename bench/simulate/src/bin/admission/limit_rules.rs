//! The rules that byname's is compared with, as limits of the calls in flight: [`LimitRule`]. Times are in nanoseconds since
//! any time. `bench/overload` runs them on a machine.

/// A limit of the calls in flight. It has no clock.
pub trait LimitRule: Send {
    /// Whether a probe is to be sent through the queue of the runtime.
    fn wants_probe(&mut self, now: u64) -> bool {
        let _ = now;
        false
    }

    /// A probe has been through the queue.
    fn probed(&mut self, now: u64, took: u64) {
        let _ = (now, took);
    }

    /// A call gets its first poll.
    fn started(&mut self, now: u64, waited: u64) {
        let _ = (now, waited);
    }

    /// A call has ended. `in_flight` is how many were in flight, this one included.
    fn ended(&mut self, now: u64, took: u64, in_flight: usize) {
        let _ = (now, took, in_flight);
    }

    /// How many calls may be in flight.
    fn limit(&mut self, now: u64) -> usize;
}

pub const TARGET: u64 = 5_000_000;
const WINDOW: u64 = 100_000_000;
/// The bound of limits that move.
const HARD: usize = 10_000;

/// A limit that does not move.
pub struct Fixed(pub usize);

impl LimitRule for Fixed {
    fn limit(&mut self, _: u64) -> usize {
        self.0
    }
}

/// What moves a limit by the mean delay of a window.
#[derive(Clone, Copy)]
pub enum Step {
    /// 0.9 of it above the target, and one more below.
    Aimd,
    /// In proportion to the target and the delay, from a half to 1.2.
    Ratio,
}

/// A limit that the delay of the queue moves.
pub struct InFlightByDelay {
    step: Step,
    least: f64,
    limit: f64,
    window: Window,
    probes: QueueProbes,
}

impl InFlightByDelay {
    pub fn new(step: Step, least: f64) -> Self {
        Self { step, least, limit: HARD as f64, window: Window::default(), probes: QueueProbes::default() }
    }

    fn delayed(&mut self, now: u64, by: u64) {
        self.window.add(by);
        let Some(window) = self.window.ended(now, 1) else { return };
        let ratio = TARGET as f64 / window.mean().max(1) as f64;
        let limit = match self.step {
            Step::Aimd if ratio < 1.0 => self.limit * 0.9,
            Step::Aimd => self.limit + 1.0,
            Step::Ratio => self.limit * ratio.clamp(0.5, 1.2),
        };
        self.limit = limit.clamp(self.least, HARD as f64);
    }
}

impl LimitRule for InFlightByDelay {
    fn wants_probe(&mut self, now: u64) -> bool {
        self.probes.wants(now)
    }

    fn probed(&mut self, now: u64, took: u64) {
        self.probes.returned(now, took);
        self.delayed(now, took);
    }

    fn started(&mut self, now: u64, waited: u64) {
        self.delayed(now, waited);
    }

    fn limit(&mut self, _: u64) -> usize {
        self.limit as usize
    }
}

/// Netflix's Gradient2 with its defaults, by windows of 100 ms.
pub struct Gradient2 {
    limit: f64,
    long: f64,
    samples: u32,
    window: Window,
    in_flight: usize,
}

impl Gradient2 {
    pub fn new() -> Self {
        Self { limit: 20.0, long: 0.0, samples: 0, window: Window::default(), in_flight: 0 }
    }
}

impl LimitRule for Gradient2 {
    fn ended(&mut self, now: u64, took: u64, in_flight: usize) {
        self.window.add(took);
        self.in_flight = self.in_flight.max(in_flight);
        let Some(window) = self.window.ended(now, 10) else { return };
        let in_flight = std::mem::take(&mut self.in_flight) as f64;
        let short = window.mean().max(1) as f64;
        self.samples += 1;
        if self.samples <= 10 {
            self.long += (short - self.long) / f64::from(self.samples);
        } else {
            self.long += (short - self.long) * 2.0 / 601.0;
        }
        if self.long / short > 2.0 {
            self.long *= 0.9;
        }
        if in_flight < self.limit / 2.0 {
            return;
        }
        let gradient = (self.long / short).clamp(0.5, 1.0);
        let next = self.limit * gradient + 4.0;
        self.limit = (self.limit * 0.8 + next * 0.2).clamp(20.0, 200.0);
    }

    fn limit(&mut self, _: u64) -> usize {
        self.limit as usize
    }
}

/// Refuses every call while the oldest in the queue waits longer than the target, at once or once a whole interval has
/// passed.
pub struct OldestWaits {
    interval: u64,
    probes: QueueProbes,
    last: u64,
    since: Option<u64>,
}

impl OldestWaits {
    pub fn new(interval: u64) -> Self {
        Self { interval, probes: QueueProbes::default(), last: 0, since: None }
    }
}

impl LimitRule for OldestWaits {
    fn wants_probe(&mut self, now: u64) -> bool {
        self.probes.wants(now)
    }

    fn probed(&mut self, now: u64, took: u64) {
        self.probes.returned(now, took);
        self.last = took;
    }

    fn limit(&mut self, now: u64) -> usize {
        let age = self.probes.age(now);
        if age.max(self.last) < TARGET {
            self.since = None;
            return usize::MAX;
        }
        if now - *self.since.get_or_insert(now - age) < self.interval { usize::MAX } else { 0 }
    }
}

/// When a probe goes through the queue: one at a time, and a pause after one that was not late.
#[derive(Default)]
pub struct QueueProbes {
    sent: Option<u64>,
    next: u64,
}

const PAUSE: u64 = 10_000_000;

impl QueueProbes {
    pub fn wants(&mut self, now: u64) -> bool {
        let wants = self.sent.is_none() && now >= self.next;
        if wants {
            self.sent = Some(now);
        }
        wants
    }

    pub fn returned(&mut self, now: u64, took: u64) {
        self.sent = None;
        self.next = if took >= TARGET { now } else { now + PAUSE };
    }

    /// How long the probe that is in the queue has been there.
    fn age(&self, now: u64) -> u64 {
        self.sent.map_or(0, |sent| now - sent)
    }
}

/// The mean of a window.
#[derive(Default)]
pub struct Window {
    began: u64,
    sum: u64,
    count: u64,
}

impl Window {
    pub fn add(&mut self, value: u64) {
        self.sum += value;
        self.count += 1;
    }

    /// The window that has ended, if one has.
    pub fn ended(&mut self, now: u64, least: u64) -> Option<Window> {
        let has_ended = now - self.began >= WINDOW && self.count >= least;
        has_ended.then(|| std::mem::replace(self, Self { began: now, ..Self::default() }))
    }

    pub fn mean(&self) -> u64 {
        self.sum / self.count.max(1)
    }
}
