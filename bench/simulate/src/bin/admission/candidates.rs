//! What decides which calls are admitted: byname's rule, and those that it is compared with.

use std::sync::Arc;
use std::time::Duration;

use crate::admission_rounds::{AdmissionRounds, LongPolls};
use crate::limit_rules::{LimitRule, QueueProbes, TARGET, Window};
use crate::round_shares::ArrivedCall;
use crate::server::Time;

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

/// A limit of the calls in flight.
pub struct ByLimit<R>(pub R);

impl<R: LimitRule> Admission for ByLimit<R> {
    fn wants_probe(&mut self, now: Time) -> bool {
        self.0.wants_probe(now)
    }

    fn admits(&mut self, now: Time, _: usize, in_flight: usize, _: ArrivedCall) -> bool {
        in_flight < self.0.limit(now)
    }

    fn started(&mut self, now: Time, waited: Time) {
        self.0.started(now, waited);
    }

    fn probed(&mut self, now: Time, took: Time) {
        self.0.probed(now, took);
    }

    fn ended(&mut self, now: Time, took: Time, in_flight: usize) {
        self.0.ended(now, took, in_flight);
    }
}

/// WeChat's DAGOR without priorities: the share of the calls that are admitted falls by a twentieth in a window whose mean
/// delay is above the target, and grows by a hundredth of all.
pub struct AdmittedShare {
    share: f64,
    owed: f64,
    window: Window,
    probes: QueueProbes,
}

impl AdmittedShare {
    pub fn new() -> Self {
        Self { share: 1.0, owed: 0.0, window: Window::default(), probes: QueueProbes::default() }
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
