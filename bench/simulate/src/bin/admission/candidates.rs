//! What decides which calls are admitted: byname's rule, and those that it is compared with.

use std::sync::Arc;
use std::time::Duration;

use crate::admission_rounds::{AdmissionRounds, LongPolls};
use crate::round_shares::ArrivedCall;
use crate::server::{MILLI, Time};

/// A rule. It has no clock.
pub trait Admission {
    /// A call is whole, and is admitted or refused next. Whether a probe is to be sent through the queue of the runtime.
    fn wants_probe(&mut self, now: Time) -> bool {
        let _ = now;
        false
    }

    /// `waiting` calls have tasks that were not polled yet, and `in_flight` calls have not ended, these included.
    fn admits(&mut self, now: Time, waiting: usize, in_flight: usize, call: ArrivedCall) -> bool;

    /// Whether a call that was admitted is refused at its first poll after all, because it has waited too long.
    fn drops(&mut self, now: Time, waited: Time) -> bool {
        let _ = (now, waited);
        false
    }

    /// The first poll of a call that has a task of its own, or whose connection has one.
    fn started(&mut self, now: Time, waited: Time) {
        let _ = (now, waited);
    }

    /// A probe has been through the queue.
    fn probed(&mut self, now: Time, took: Time) {
        let _ = (now, took);
    }

    /// A poll of a function has kept its thread for so long.
    fn polled(&mut self, took: Time) {
        let _ = took;
    }

    fn ended(&mut self, now: Time, took: Time, in_flight: usize) {
        let _ = (now, took, in_flight);
    }
}

pub const TARGET: Time = 5 * MILLI;
const WINDOW: Time = 100 * MILLI;

/// The library's.
pub struct Byname {
    rounds: AdmissionRounds,
    long_polls: Arc<LongPolls>,
}

impl Byname {
    pub fn new(workers: usize) -> Self {
        let long_polls = Arc::<LongPolls>::default();
        let rounds = AdmissionRounds::new(Arc::clone(&long_polls));
        rounds.set_threads(workers);
        Self { rounds, long_polls }
    }
}

impl Admission for Byname {
    fn wants_probe(&mut self, now: Time) -> bool {
        self.rounds.wants_probe(now)
    }

    fn admits(&mut self, _: Time, _: usize, _: usize, call: ArrivedCall) -> bool {
        self.rounds.admits(|| call)
    }

    fn drops(&mut self, now: Time, waited: Time) -> bool {
        !self.rounds.starts(Duration::from_nanos(waited), || now)
    }

    fn probed(&mut self, now: Time, _: Time) {
        self.rounds.probe_returned(now);
    }

    fn polled(&mut self, took: Time) {
        self.long_polls.add(Duration::from_nanos(took));
    }
}

/// A fixed limit of the calls in flight.
pub struct Fixed(pub usize);

impl Admission for Fixed {
    fn admits(&mut self, _: Time, _: usize, in_flight: usize, _: ArrivedCall) -> bool {
        in_flight < self.0
    }
}

/// When a probe goes through the queue: one at a time, and a pause after one that was not late.
#[derive(Default)]
struct Probes {
    sent: Option<Time>,
    next: Time,
}

const PAUSE: Time = 10 * MILLI;

impl Probes {
    fn wants(&mut self, now: Time) -> bool {
        let wants = self.sent.is_none() && now >= self.next;
        if wants {
            self.sent = Some(now);
        }
        wants
    }

    fn returned(&mut self, now: Time, took: Time) {
        self.sent = None;
        self.next = if took >= TARGET { now } else { now + PAUSE };
    }

    /// How long the probe that is in the queue has been there.
    fn age(&self, now: Time) -> Time {
        self.sent.map_or(0, |sent| now - sent)
    }
}

/// The mean of a window.
#[derive(Default)]
struct Window {
    began: Time,
    sum: Time,
    count: u64,
}

impl Window {
    fn add(&mut self, value: Time) {
        self.sum += value;
        self.count += 1;
    }

    /// The window that has ended, if one has.
    fn ended(&mut self, now: Time, least: u64) -> Option<Window> {
        let has_ended = now - self.began >= WINDOW && self.count >= least;
        has_ended.then(|| std::mem::replace(self, Self { began: now, ..Self::default() }))
    }

    fn mean(&self) -> Time {
        self.sum / self.count.max(1)
    }
}

/// What moves a limit of calls in flight by the mean delay of a window.
#[derive(Clone, Copy)]
pub enum Step {
    /// 0.9 of it above the target, and one more below.
    Aimd,
    /// In proportion to the target and the delay, from a half to 1.2.
    Ratio,
}

/// A limit of calls in flight that the delay of the queue moves.
pub struct InFlightByDelay {
    step: Step,
    least: f64,
    limit: f64,
    window: Window,
    probes: Probes,
}

const HARD: f64 = 10_000.0;

impl InFlightByDelay {
    pub fn new(step: Step, least: f64) -> Self {
        Self { step, least, limit: HARD, window: Window::default(), probes: Probes::default() }
    }

    fn delayed(&mut self, now: Time, by: Time) {
        self.window.add(by);
        let Some(window) = self.window.ended(now, 1) else { return };
        let ratio = TARGET as f64 / window.mean().max(1) as f64;
        let limit = match self.step {
            Step::Aimd if ratio < 1.0 => self.limit * 0.9,
            Step::Aimd => self.limit + 1.0,
            Step::Ratio => self.limit * ratio.clamp(0.5, 1.2),
        };
        self.limit = limit.clamp(self.least, HARD);
    }
}

impl Admission for InFlightByDelay {
    fn wants_probe(&mut self, now: Time) -> bool {
        self.probes.wants(now)
    }

    fn admits(&mut self, _: Time, _: usize, in_flight: usize, _: ArrivedCall) -> bool {
        in_flight < self.limit as usize
    }

    fn started(&mut self, now: Time, waited: Time) {
        self.delayed(now, waited);
    }

    fn probed(&mut self, now: Time, took: Time) {
        self.probes.returned(now, took);
        self.delayed(now, took);
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

impl Admission for Gradient2 {
    fn admits(&mut self, _: Time, _: usize, in_flight: usize, _: ArrivedCall) -> bool {
        in_flight < self.limit as usize
    }

    fn ended(&mut self, now: Time, took: Time, in_flight: usize) {
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
}

/// Refuses every call while the oldest in the queue waits longer than the target, at once or once a whole interval has
/// passed.
pub struct OldestWaits {
    interval: Time,
    probes: Probes,
    last: Time,
    since: Option<Time>,
}

impl OldestWaits {
    pub fn new(interval: Time) -> Self {
        Self { interval, probes: Probes::default(), last: 0, since: None }
    }
}

impl Admission for OldestWaits {
    fn wants_probe(&mut self, now: Time) -> bool {
        self.probes.wants(now)
    }

    fn admits(&mut self, now: Time, _: usize, _: usize, _: ArrivedCall) -> bool {
        let age = self.probes.age(now);
        if age.max(self.last) < TARGET {
            self.since = None;
            return true;
        }
        now - *self.since.get_or_insert(now - age) < self.interval
    }

    fn probed(&mut self, now: Time, took: Time) {
        self.probes.returned(now, took);
        self.last = took;
    }
}

/// WeChat's DAGOR without priorities: the share of the calls that are admitted falls by a twentieth in a window whose mean
/// delay is above the target, and grows by a hundredth of all.
pub struct AdmittedShare {
    share: f64,
    owed: f64,
    window: Window,
    probes: Probes,
}

impl AdmittedShare {
    pub fn new() -> Self {
        Self { share: 1.0, owed: 0.0, window: Window::default(), probes: Probes::default() }
    }
}

impl Admission for AdmittedShare {
    fn wants_probe(&mut self, now: Time) -> bool {
        self.probes.wants(now)
    }

    fn admits(&mut self, _: Time, _: usize, _: usize, _: ArrivedCall) -> bool {
        self.owed += self.share;
        let is_admitted = self.owed >= 1.0;
        self.owed -= f64::from(u8::from(is_admitted));
        is_admitted
    }

    fn probed(&mut self, now: Time, took: Time) {
        self.probes.returned(now, took);
        self.window.add(took);
        let Some(window) = self.window.ended(now, 1) else { return };
        self.share = if window.mean() > TARGET { self.share * 0.95 } else { (self.share + 0.01).min(1.0) };
    }
}
