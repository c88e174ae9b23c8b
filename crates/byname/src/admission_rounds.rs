//! Which calls are admitted when more come than the server can run: [`AdmissionRounds`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::round_shares::{ArrivedCall, RoundShares};

/// Refuses calls while a queue stands in front of the runtime's threads, so that the calls that are admitted are answered in
/// time. It has no clock and does no I/O. Times are in nanoseconds since any time. `docs/decisions/0157` has the comparison with other rules.
///
/// The queue is measured by a *probe*: an empty task that goes once through the queue of the runtime. The time that it takes
/// is a *round*. While rounds are short, everything is admitted. Once no round was shorter than the target for 100 ms, and the
/// last one was ten times as long, there is a limit for each round: as many calls as the server lately ran in half of the target.
/// So the rounds get short again. A shorter queue is usually one of callers that wait for each other, and does not grow. A
/// function that waits for others is not in the queue, so it is not limited. The limit ends after 100 ms in which at most an
/// eighth of the calls was refused.
///
/// The room of a round is divided by [`RoundShares`]: the most important calls first, and among calls of one priority the callers
/// alike.
///
/// The target is 5 ms, or longer where functions keep their threads for longer than that: a call that comes then waits for
/// such a poll however few are admitted.
///
/// # What the server has to do
///
/// - When it is about to read calls, and each time it has the time anyway, it asks [`wants_probe`](Self::wants_probe). If the
///   answer is yes, it spawns a task that wakes itself at its first poll, and at its second tells
///   [`probe_returned`](Self::probe_returned). tokio puts a task that wakes itself at the end of the queue. A task that
///   was only spawned stands in the slot of its thread for the next task, before the queue. Other threads can't take
///   it from there, so the server spawns an empty task right after the probe, which pushes it out of the slot. A probe
///   that is dropped tells `probe_returned` too, else no other is sent.
/// - For each call, before it decodes the arguments, it asks [`admits`](Self::admits), by every way in, and for functions that
///   are polled in place too.
/// - When a task of a call is polled for the first time it asks [`starts`](Self::starts). A call that may not start was not
///   executed.
/// - After each long poll of a function it tells [`long_polls`](Self::long_polls) how long that took.
///
/// With no queue, `admits`, `starts` and `wants_probe` each read one atomic value.
#[derive(Debug)]
pub(crate) struct AdmissionRounds {
    /// When [`wants_probe`](Self::wants_probe) has something to do, in nanoseconds.
    next: AtomicU64,
    /// From which wait on a call that starts is looked at, in microseconds.
    late: AtomicU64,
    /// Whether all calls are admitted and none is counted.
    is_open: AtomicBool,
    long_polls: Arc<LongPolls>,
    rounds: Mutex<QueueRounds>,
}

/// The polls of functions that were longer than the target.
#[derive(Debug, Default)]
pub(crate) struct LongPolls {
    /// The sum of their squares since it was last read, in square microseconds.
    squares: AtomicU64,
}

impl LongPolls {
    /// A poll of a function took so long. Short ones may be left out.
    pub(crate) fn add(&self, took: Duration) {
        if took > Duration::from_micros(TARGET) {
            let took = micros(took).min(LONGEST_POLL);
            self.squares.fetch_add(took * took, Ordering::Relaxed);
        }
    }

    fn take(&self) -> u64 {
        if self.squares.load(Ordering::Relaxed) == 0 { 0 } else { self.squares.swap(0, Ordering::Relaxed) }
    }
}

impl AdmissionRounds {
    /// For a runtime with one thread, until [`set_threads`](Self::set_threads).
    pub(crate) fn new(long_polls: Arc<LongPolls>) -> Self {
        Self {
            next: AtomicU64::new(0),
            late: AtomicU64::new(TARGET),
            is_open: AtomicBool::new(true),
            long_polls,
            rounds: Mutex::new(QueueRounds::new()),
        }
    }

    /// How long a round may take. [`Duration::MAX`] admits everything.
    pub(crate) fn set_target(&self, target: Duration) {
        let base = if target == Duration::MAX { OFF } else { micros(target).clamp(1, LONGEST_TARGET) };
        self.change(0, |rounds, _| rounds.set_base(base));
    }

    /// The number of threads of the runtime.
    pub(crate) fn set_threads(&self, threads: usize) {
        self.lock().threads = threads.max(1) as u64;
    }

    /// Whether to send a probe now. Calls are about to be read.
    #[inline]
    pub(crate) fn wants_probe(&self, now: u64) -> bool {
        now >= self.next.load(Ordering::Relaxed) && self.change(now, QueueRounds::look)
    }

    /// Whether to run the call that has come.
    #[inline]
    pub(crate) fn admits(&self, call: impl FnOnce() -> ArrivedCall) -> bool {
        self.is_open.load(Ordering::Relaxed) || self.comes(call())
    }

    /// Whether to run a call that was admitted, and has waited so long for its first poll.
    #[inline]
    pub(crate) fn starts(&self, waited: Duration, now: impl FnOnce() -> u64) -> bool {
        let waited = micros(waited);
        waited < self.late.load(Ordering::Relaxed) || self.change(now(), |rounds, now| rounds.starts(now, waited))
    }

    /// Calls have been waiting to be read for as long as this.
    pub(crate) fn waits(&self, waited: Duration, now: u64) {
        let waited = micros(waited);
        if waited >= self.late.load(Ordering::Relaxed) {
            self.change(now, |rounds, now| rounds.waits(now, waited));
        }
    }

    /// A probe has been through the queue, or was dropped.
    pub(crate) fn probe_returned(&self, now: u64) {
        self.change(now, QueueRounds::returned);
    }

    /// How long a task waits for a thread now, as the last probe has measured it. Zero if none was sent lately, which is so while
    /// no calls come, or if all calls are admitted.
    pub(crate) fn queue_delay(&self, now: u64) -> Duration {
        Duration::from_micros(self.lock().delay(now / 1000))
    }

    /// When a caller that was refused may try again. `chance` is random, from 0 to 1, so that they do not all come back at
    /// once.
    pub(crate) fn retry_after(chance: f64) -> Duration {
        Duration::from_micros(WINDOW) + Duration::from_micros(2 * WINDOW).mul_f64(chance)
    }

    #[cold]
    fn comes(&self, call: ArrivedCall) -> bool {
        self.lock().comes(call)
    }

    #[cold]
    fn change<T>(&self, now: u64, change: impl FnOnce(&mut QueueRounds, u64) -> T) -> T {
        let now = now / 1000;
        let mut rounds = self.lock();
        rounds.measure_polls(now, self.long_polls.take());
        let result = change(&mut rounds, now);
        self.is_open.store(matches!(rounds.phase, QueuePhase::Open), Ordering::Relaxed);
        self.late.store(rounds.late(), Ordering::Relaxed);
        self.next.store(rounds.next.saturating_mul(1000), Ordering::Relaxed);
        result
    }

    fn lock(&self) -> MutexGuard<'_, QueueRounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros().into())
}

/// How long a round may take if nothing is set, and the length of polls that are looked at. In microseconds like all times from
/// here on.
const TARGET: u64 = 5_000;
/// In place of the target if all calls are admitted.
const OFF: u64 = u64::MAX;
const LONGEST_TARGET: u64 = 60_000_000;
/// Rounds have to be late for this time before there is a limit, or for this number of targets if that is longer.
const STANDS: u64 = 100_000;
const STANDS_TARGETS: u64 = 6;
/// How many calls have to come or to start late in this time. A few calls of a slow function are no overload.
const STANDS_CALLS: usize = 8;
/// How long the last round has to be before there is a limit: in targets as they were set, or in targets as they are if functions
/// keep their threads for longer.
const DEEP_SET_TARGETS: u64 = 10;
const DEEP_TARGETS: u64 = 2;
/// Calls are counted for this time before the limit changes or ends, or for this number of targets if that is longer.
const WINDOW: u64 = 100_000;
const WINDOW_TARGETS: u64 = 6;
/// The limit is what the server runs in this part of the target: calls wait for as long again before they are read.
const SHARE: u64 = 2;
/// While there is a limit, a call that was admitted before is refused if it has waited for this number of targets.
const STALE_TARGETS: u64 = 4;
/// From the end of a round that was not late to the next probe.
const PAUSE: u64 = 10_000;
/// The time in which long polls are forgotten to a third.
const MEMORY: u64 = 500_000;
/// A longer poll counts as one of this length: it is a defect of the function, and no reason for a longer target.
const LONGEST_POLL: u64 = 100_000;

/// After this time the last round says nothing of the queue.
const CURRENT: u64 = 1_000_000;

/// The limit ends after a window in which at most one call of this number was refused. With the whole load the queue then
/// grows slowly, or not at all.
const FEW: usize = 8;

/// The state that rarely changes. Its methods get the time in microseconds.
#[derive(Debug)]
struct QueueRounds {
    threads: u64,
    phase: QueuePhase,
    /// When the probe was sent that is in the queue.
    sent: Option<u64>,
    next: u64,
    /// How long the last round took, and when it ended.
    last: Option<(u64, u64)>,
    /// The calls of this round that were admitted, and those that were refused.
    admitted: usize,
    refused: usize,
    /// It is made when it is first needed, because it is large.
    shares: Option<RoundShares>,
    /// How long a call that comes is likely to wait for a long poll that goes on, and until when that is known.
    blocked: f64,
    measured: u64,
    /// The target as it was set.
    base: u64,
    target: u64,
}

#[derive(Clone, Copy, Debug)]
enum QueuePhase {
    /// Rounds are not late. All calls are admitted.
    Open,
    /// Rounds have been late since a time, and all calls are admitted and counted. `late` calls have started late, and
    /// something was late the last time at `seen`. `depth` is how long the last round, or the wait of a call, was.
    Standing { since: u64, seen: u64, late: usize, depth: u64 },
    /// `limit` calls are admitted in each round. The other fields describe the window, which goes from `began` to `until` and on
    /// to the end of a round. The last round ended at `ended`.
    Limited { limit: usize, began: u64, until: u64, ended: u64, admitted: usize, refused: usize },
}

impl QueueRounds {
    fn new() -> Self {
        Self {
            threads: 1,
            phase: QueuePhase::Open,
            sent: None,
            next: 0,
            last: None,
            admitted: 0,
            refused: 0,
            shares: None,
            blocked: 0.0,
            measured: 0,
            base: TARGET,
            target: TARGET,
        }
    }

    fn set_base(&mut self, base: u64) {
        (self.base, self.target, self.blocked) = (base, base, 0.0);
        self.open();
        self.next = if base == OFF { u64::MAX } else { 0 };
    }

    /// A call has come. Whether it is admitted.
    fn comes(&mut self, call: ArrivedCall) -> bool {
        let Some(shares) = &mut self.shares else {
            return true;
        };
        let is_admitted = match self.phase {
            QueuePhase::Open => return true,
            QueuePhase::Standing { .. } => {
                shares.count(call);
                true
            }
            QueuePhase::Limited { .. } => {
                shares.count(call);
                shares.takes(call, self.admitted)
            }
        };
        *(if is_admitted { &mut self.admitted } else { &mut self.refused }) += 1;
        is_admitted
    }

    /// Calls are about to be read. Whether to send a probe.
    fn look(&mut self, now: u64) -> bool {
        if let Some(sent) = self.sent {
            let age = now.saturating_sub(sent);
            match &mut self.phase {
                QueuePhase::Open if age >= self.target => {
                    self.stand(sent, now, age);
                    self.next = sent + self.stands();
                }
                QueuePhase::Standing { depth, .. } => {
                    *depth = age.max(*depth);
                    self.next = now + self.target;
                }
                QueuePhase::Open | QueuePhase::Limited { .. } => {}
            }
            self.limit_if_standing(now);
            return false;
        }
        let is_over = match self.phase {
            QueuePhase::Open => false,
            // Nothing has come for a while, so it is not known whether the queue is still there.
            QueuePhase::Standing { seen, .. } => now >= seen + self.stands(),
            QueuePhase::Limited { ended, .. } => now >= ended + self.window(),
        };
        if is_over {
            self.open();
        }
        self.sent = Some(now);
        self.next = match self.phase {
            QueuePhase::Open => now + self.target,
            QueuePhase::Standing { since, .. } => since + self.stands(),
            // Nothing is to do before it returns.
            QueuePhase::Limited { .. } => u64::MAX,
        };
        true
    }

    fn returned(&mut self, now: u64) {
        let Some(sent) = self.sent.take() else { return };
        let took = now.saturating_sub(sent);
        self.last = Some((took, now));
        let is_late = took >= self.target;
        self.next = if self.base == OFF { u64::MAX } else { now };
        match &mut self.phase {
            QueuePhase::Open if is_late => self.stand(sent, now, took),
            QueuePhase::Open => self.next = self.next.saturating_add(PAUSE),
            QueuePhase::Standing { seen, depth, .. } if is_late => {
                (*seen, *depth) = (now, took);
                self.limit_if_standing(now);
            }
            QueuePhase::Standing { .. } => {
                self.open();
                self.next = now + PAUSE;
            }
            QueuePhase::Limited { .. } => self.count_round(now),
        }
    }

    /// How long the last round took. The probe that is still in the queue shows that it is at least as long as its age.
    fn delay(&self, now: u64) -> u64 {
        let last = self.last.filter(|(_, ended)| now.saturating_sub(*ended) < CURRENT).map_or(0, |(took, _)| took);
        self.sent.map_or(last, |sent| last.max(now.saturating_sub(sent)))
    }

    /// A call gets its first poll. Whether it may start.
    fn starts(&mut self, now: u64, waited: u64) -> bool {
        if waited < self.late() {
            return true;
        }
        if let QueuePhase::Limited { refused, .. } = &mut self.phase {
            *refused += 1;
            return false;
        }
        self.waits(now, waited);
        true
    }

    /// Calls have waited for as long as this.
    fn waits(&mut self, now: u64, waited: u64) {
        if waited < self.late() {
            return;
        }
        match &mut self.phase {
            QueuePhase::Open => {
                self.stand(now.saturating_sub(waited), now, waited);
                if self.sent.is_none() {
                    self.next = now;
                }
            }
            QueuePhase::Standing { seen, late, depth, .. } => {
                (*seen, *late, *depth) = (now, *late + 1, waited);
                self.limit_if_standing(now);
            }
            QueuePhase::Limited { .. } => {}
        }
    }

    /// From which wait on [`starts`](Self::starts) has something to do.
    fn late(&self) -> u64 {
        match self.phase {
            _ if self.base == OFF => u64::MAX,
            QueuePhase::Open | QueuePhase::Standing { .. } => self.target,
            QueuePhase::Limited { .. } => self.target * STALE_TARGETS,
        }
    }

    /// A call that comes while a thread polls waits half of this poll on average, and it meets long polls more often
    /// than short ones: the squares of their lengths count.
    fn measure_polls(&mut self, now: u64, squares: u64) {
        let elapsed = now.saturating_sub(self.measured);
        self.measured = self.measured.max(now);
        if self.base != OFF && (self.blocked > 0.0 || squares > 0) {
            let kept = (-(elapsed as f64) / MEMORY as f64).exp();
            self.blocked = self.blocked * kept + squares as f64 / (self.threads * MEMORY) as f64;
            self.target = (self.blocked as u64).min(LONGEST_POLL).max(self.base);
        }
    }

    fn stands(&self) -> u64 {
        STANDS.max(self.target * STANDS_TARGETS)
    }

    fn window(&self) -> u64 {
        WINDOW.max(self.target * WINDOW_TARGETS)
    }

    fn open(&mut self) {
        self.phase = QueuePhase::Open;
    }

    fn stand(&mut self, since: u64, now: u64, depth: u64) {
        self.phase = QueuePhase::Standing { since, seen: now, late: 0, depth };
        (self.admitted, self.refused) = (0, 0);
        self.shares.get_or_insert_with(RoundShares::new).begin(now);
    }

    fn limit_if_standing(&mut self, now: u64) {
        let QueuePhase::Standing { since, late, depth, .. } = self.phase else { return };
        let deep = (DEEP_SET_TARGETS * self.base).max(DEEP_TARGETS * self.target);
        if now >= since + self.stands() && depth >= deep && self.admitted + late >= STANDS_CALLS {
            self.limit(1, now, 0);
            if self.sent.is_some() {
                self.next = u64::MAX;
            }
        }
    }

    /// How fast calls run is not known at first. The queue that is there has to pass: that is the first window, of no length.
    /// Then rounds are short, with one call in each, and a short window tells it. In these two too few calls come to end the
    /// limit.
    fn limit(&mut self, limit: usize, now: u64, window: u64) {
        self.phase =
            QueuePhase::Limited { limit, began: now, until: now + window, ended: now, admitted: 0, refused: 0 };
        if let Some(shares) = &mut self.shares {
            shares.divide(now);
        }
        self.begin_round(limit, now);
    }

    /// A round has ended while there is a limit.
    fn count_round(&mut self, now: u64) {
        let (window, target) = (self.window(), self.target);
        let QueuePhase::Limited { limit, began, until, ended, admitted, refused } = &mut self.phase else { return };
        *admitted += self.admitted;
        *refused += self.refused;
        *ended = now;
        let elapsed = now.saturating_sub(*began).max(1);
        if now < *until {
            let limit = *limit;
            self.begin_round(limit, now);
        } else if *until - *began >= WINDOW && *refused * FEW <= *admitted + *refused {
            self.open();
        } else {
            // It is rounded to the nearest. If it were cut off, threads would wait for calls, and still less would run.
            let runs = (*admitted as u64 * target / SHARE + elapsed / 2) / elapsed;
            let window = if until == began { target } else { window };
            // With one call in a round its thread waits while the next round is read. Two of a slow function are too long.
            let least = if target > self.base { 1 } else { 2 };
            self.limit(runs.max(least) as usize, now, window);
        }
    }

    fn begin_round(&mut self, limit: usize, now: u64) {
        (self.admitted, self.refused) = (0, 0);
        if let Some(shares) = &mut self.shares {
            shares.next_round(limit, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALL: ArrivedCall = ArrivedCall { level: 2, caller: 7 };

    /// A server in virtual time. `at` is in milliseconds.
    struct Steps {
        rounds: AdmissionRounds,
        at: u64,
    }

    impl Steps {
        fn new() -> Self {
            let rounds = AdmissionRounds::new(Arc::default());
            rounds.set_threads(2);
            Self { rounds, at: 0 }
        }

        fn now(&self) -> u64 {
            self.at * 1_000_000
        }

        fn wants_probe(&self) -> bool {
            self.rounds.wants_probe(self.now())
        }

        fn returned(&self) {
            self.rounds.probe_returned(self.now());
        }

        fn starts(&self, waited: u64) -> bool {
            self.rounds.starts(Duration::from_millis(waited), || self.now())
        }

        /// Makes `calls` calls. Returns how many are admitted.
        fn admitted(&self, calls: usize) -> usize {
            (0..calls).filter(|_| self.rounds.admits(|| CALL)).count()
        }

        /// Makes a round in which `calls` calls come. Returns how many were admitted.
        fn round(&mut self, takes: u64, calls: usize) -> usize {
            assert!(self.wants_probe(), "a round begins at {} ms", self.at);
            let admitted = self.admitted(calls);
            self.at += takes;
            self.returned();
            admitted
        }

        /// Makes rounds as [`round`](Self::round) does. Returns how many calls were admitted in all of them: room that one
        /// round leaves may be used in the next.
        fn rounds(&mut self, rounds: usize, takes: u64, calls: usize) -> usize {
            (0..rounds).map(|_| self.round(takes, calls)).sum()
        }

        /// Rounds of 60 ms with 20 calls, until calls are refused. Then the queue passes.
        fn limited() -> Self {
            let mut steps = Self::new();
            for _ in 0..2 {
                assert_eq!(steps.round(60, 20), 20, "at {} ms", steps.at);
            }
            assert_eq!(steps.round(100, 20), 1);
            steps
        }
    }

    #[test]
    fn the_queue_delay_is_that_of_the_last_round_and_of_the_probe_that_waits() {
        let mut steps = Steps::new();
        let delay = |steps: &Steps| steps.rounds.queue_delay(steps.now()).as_millis();
        assert_eq!(delay(&steps), 0);
        steps.round(3, 1);
        assert_eq!(delay(&steps), 3);
        steps.at += 20;
        assert!(steps.wants_probe());
        assert_eq!(delay(&steps), 3, "the next round has just begun");
        steps.at += 70;
        assert_eq!(delay(&steps), 70);
        steps.returned();
        steps.at += 999;
        assert_eq!(delay(&steps), 70);
        steps.at += 1;
        assert_eq!(delay(&steps), 0, "since then the queue may have gone");
    }

    #[test]
    fn without_a_queue_a_probe_is_sent_every_ten_milliseconds_while_calls_come() {
        let mut steps = Steps::new();
        let mut sent = Vec::new();
        for at in 0..40 {
            steps.at = at;
            if steps.wants_probe() {
                sent.push(at);
                steps.returned();
            }
            assert_eq!(steps.admitted(1000), 1000);
        }
        assert_eq!(sent, [0, 10, 20, 30]);
    }

    #[test]
    fn one_probe_is_in_the_queue_at_a_time() {
        let mut steps = Steps::new();
        assert!(steps.wants_probe());
        for at in 0..300 {
            steps.at = at;
            assert!(!steps.wants_probe());
        }
    }

    #[test]
    fn a_queue_that_stands_for_a_tenth_of_a_second_limits_each_round() {
        let mut steps = Steps::limited();
        assert_eq!(steps.round(1, 20), 2);
        assert_eq!(steps.round(1, 20), 2);
    }

    #[test]
    fn a_queue_that_passes_limits_nothing() {
        let mut steps = Steps::new();
        for _ in 0..20 {
            for _ in 0..4 {
                assert_eq!(steps.round(20, 20), 20);
            }
            assert_eq!(steps.round(4, 20), 20);
            steps.at += 10;
        }
    }

    #[test]
    fn a_probe_that_does_not_come_back_shows_a_queue_too() {
        let mut steps = Steps::new();
        assert!(steps.wants_probe());
        steps.at = 5;
        assert!(!steps.wants_probe());
        assert_eq!(steps.admitted(20), 20);
        steps.at = 99;
        assert!(!steps.wants_probe());
        assert_eq!(steps.admitted(20), 20);
        steps.at = 100;
        assert!(!steps.wants_probe());
        assert_eq!(steps.admitted(20), 1);
    }

    #[test]
    fn calls_that_start_late_show_a_queue_too() {
        let mut steps = Steps::new();
        for at in (5..100).step_by(5) {
            steps.at = at;
            assert!(steps.starts(at) && steps.admitted(1) == 1, "at {at} ms");
        }
        steps.at = 100;
        assert!(steps.starts(49));
        assert_eq!(steps.admitted(20), 20, "it is not ten targets");
        assert!(steps.starts(50));
        assert_eq!(steps.admitted(20), 1);
    }

    #[test]
    fn calls_that_wait_to_be_read_show_a_queue_too() {
        let mut steps = Steps::new();
        for at in (0..=100).step_by(5) {
            steps.at = at;
            assert_eq!(steps.admitted(1), 1);
            steps.rounds.waits(Duration::from_millis(at), steps.now());
        }
        assert_eq!(steps.admitted(20), 1);
    }

    #[test]
    fn a_short_queue_limits_nothing_however_long_it_stands() {
        let mut steps = Steps::new();
        for _ in 0..500 {
            assert_eq!(steps.round(49, 20), 20, "at {} ms", steps.at);
        }
        assert_eq!(steps.round(50, 20), 20);
        assert_eq!(steps.round(1, 20), 1);
    }

    #[test]
    fn the_target_can_be_set_and_turned_off_at_any_time() {
        let mut steps = Steps::limited();
        steps.rounds.set_target(Duration::MAX);
        assert_eq!(steps.admitted(1000), 1000);
        steps.at += 1000;
        assert!(!steps.wants_probe() && steps.starts(10_000));
        steps.returned();
        assert!(!steps.wants_probe());
        steps.rounds.set_target(Duration::from_millis(50));
        for _ in 0..20 {
            assert_eq!(steps.round(49, 20), 20);
            steps.at += 10;
        }
        for _ in 0..2 {
            assert_eq!(steps.round(500, 20), 20);
        }
        assert_eq!(steps.round(1, 20), 1);
    }

    #[test]
    fn a_few_calls_are_no_overload() {
        let mut steps = Steps::new();
        for _ in 0..7 {
            assert_eq!(steps.round(50, 1), 1);
        }
        assert_eq!(steps.round(50, 1), 1, "that of the first round came before calls were counted");
        assert_eq!(steps.round(50, 2), 2);
        assert_eq!(steps.round(50, 2), 1);
    }

    #[test]
    fn the_limit_is_what_runs_in_half_of_the_target() {
        let mut steps = Steps::limited();
        for _ in 0..5 {
            assert!(steps.round(1, 20) <= 3);
        }
        // One call a millisecond is two and a half in 2.5 ms.
        for _ in 0..50 {
            assert!(steps.wants_probe());
            let admitted = steps.admitted(200);
            steps.at += admitted.max(1) as u64;
            steps.returned();
        }
        let QueuePhase::Limited { limit, .. } = steps.rounds.lock().phase else { panic!("there is a limit") };
        assert!((2..=3).contains(&limit), "{limit}");
    }

    #[test]
    fn the_limit_follows_what_runs() {
        let mut steps = Steps::limited();
        steps.rounds.change(steps.now(), |rounds, now| rounds.limit(40, now, WINDOW));
        let admitted = steps.rounds(20, 5, 100);
        assert!((780..=860).contains(&admitted), "{admitted}");
        // Half as fast: a window later the limit is a half.
        let admitted = steps.rounds(10, 10, 100);
        assert!((190..=250).contains(&admitted), "{admitted}");
        steps.rounds(30, 10, 100);
        let admitted = steps.rounds(10, 10, 100);
        assert!((10..=60).contains(&admitted), "{admitted}");
    }

    #[test]
    fn one_caller_does_not_use_up_the_room_of_others() {
        let mut steps = Steps::limited();
        steps.rounds.change(steps.now(), |rounds, now| rounds.limit(20, now, WINDOW));
        let mut admitted = [0; 2];
        for round in 0..300 {
            assert!(steps.wants_probe());
            let comes = |caller| steps.rounds.admits(|| ArrivedCall { level: 2, caller });
            let busy = (0..50).filter(|_| comes(1)).count();
            let other = (0..2).filter(|_| comes(2)).count();
            if round >= 100 {
                admitted = [admitted[0] + busy, admitted[1] + other];
            }
            // Eight calls run in a millisecond.
            steps.at += (busy + other).div_ceil(8).max(1) as u64;
            steps.returned();
        }
        assert!(admitted[1] >= 392 && (2000..4000).contains(&admitted[0]), "{admitted:?}");
    }

    #[test]
    fn the_limit_ends_after_a_window_in_which_few_were_refused() {
        let mut steps = Steps::limited();
        for _ in 0..5 {
            assert!(steps.round(1, 20) <= 3);
        }
        // More than a half is refused.
        let mut rounds = 0;
        for _ in 0..100 {
            steps.round(3, 8);
            assert!(matches!(steps.rounds.lock().phase, QueuePhase::Limited { .. }), "at {} ms", steps.at);
        }
        while matches!(steps.rounds.lock().phase, QueuePhase::Limited { .. }) {
            steps.round(3, if rounds % 5 == 0 { 4 } else { 3 });
            rounds += 1;
        }
        assert!(rounds <= 100, "{rounds}");
        steps.at += 10;
        assert_eq!(steps.round(1, 1000), 1000);
    }

    #[test]
    fn after_a_pause_there_is_no_limit() {
        let mut steps = Steps::limited();
        assert_eq!(steps.round(1, 20), 2);
        steps.at += 100;
        assert_eq!(steps.round(1, 1000), 1000);
    }

    #[test]
    fn a_queue_before_a_pause_does_not_count() {
        let mut steps = Steps::new();
        assert_eq!(steps.round(20, 20), 20);
        steps.at += 100;
        assert!(steps.wants_probe());
        assert_eq!(steps.admitted(1000), 1000);
        steps.at += 1;
        assert!(!steps.wants_probe());
        assert_eq!(steps.admitted(1000), 1000);
    }

    #[test]
    fn a_call_that_has_waited_long_is_refused_only_while_there_is_a_limit() {
        let mut steps = Steps::new();
        assert!(steps.starts(1000));
        steps = Steps::limited();
        assert!(steps.starts(19));
        assert!(!steps.starts(20));
        // It counts as refused, so the limit stays.
        assert_eq!(steps.round(1, 1), 1);
        assert!(steps.round(1, 20) <= 3);
    }

    #[test]
    fn functions_that_keep_their_threads_have_a_longer_target() {
        let mut steps = Steps::new();
        // Both threads are kept all the time.
        for at in (0..3000).step_by(50) {
            steps.at = at;
            for _ in 0..2 {
                steps.rounds.long_polls.add(Duration::from_millis(50));
            }
            if steps.wants_probe() {
                steps.returned();
            }
        }
        // Now there is a round of 40 ms every 50 ms.
        let target = steps.rounds.lock().target;
        assert!((45_000..55_000).contains(&target), "{target} µs");
        for _ in 0..20 {
            steps.at += 10;
            (0..2).for_each(|_| steps.rounds.long_polls.add(Duration::from_millis(50)));
            assert_eq!(steps.round(40, 20), 20);
        }
        steps.at += 3000;
        assert!(steps.wants_probe());
        assert_eq!(steps.rounds.lock().target, TARGET);
    }

    #[test]
    fn a_function_that_blocks_does_not_make_the_target_long() {
        let mut steps = Steps::new();
        for _ in 0..100 {
            steps.rounds.long_polls.add(Duration::from_secs(3600));
        }
        steps.at = 10;
        assert!(steps.wants_probe());
        assert_eq!(steps.rounds.lock().target, LONGEST_POLL);
    }

    #[test]
    fn a_refused_caller_comes_back_after_one_to_three_windows() {
        let after = [0.0, 0.5, 1.0].map(AdmissionRounds::retry_after);
        assert_eq!(after, [100, 200, 300].map(Duration::from_millis));
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Pass(u64),
        Read(usize),
        Return,
        Start(u64),
        Poll(u64),
    }

    fn deed(longest: u64) -> impl Strategy<Value = Deed> {
        prop_oneof![
            (0..30_000_u64).prop_map(Deed::Pass),
            (1..100_usize).prop_map(Deed::Read),
            Just(Deed::Return),
            (0..longest).prop_map(Deed::Start),
            (0..200_000_u64).prop_map(Deed::Poll),
        ]
    }

    proptest! {
        /// Whatever happens, a round has its limit, calls are admitted again after some rounds without any, and after a pause all
        /// are.
        #[test]
        fn a_round_admits_its_limit_and_a_pause_ends_it(deeds in proptest::collection::vec(deed(500_000), 1..400)) {
            let rounds = AdmissionRounds::new(Arc::default());
            let (mut at, mut is_sent, mut admitted, mut dry) = (0, false, 0, 0);
            let time = |at: u64| at * 1000;
            for deed in deeds {
                match deed {
                    Deed::Pass(micros) => at += micros,
                    Deed::Read(calls) => {
                        let sends = rounds.wants_probe(time(at));
                        prop_assert!(!(sends && is_sent), "one probe at a time");
                        is_sent |= sends;
                        let before = admitted;
                        admitted += (0..calls).filter(|_| rounds.admits(|| CALL)).count();
                        if let QueuePhase::Limited { limit, .. } = rounds.lock().phase {
                            dry = if before > 0 || admitted > before { 0 } else { dry + 1 };
                            prop_assert!(dry <= 20, "no call was admitted in {dry} rounds");
                            prop_assert!(limit >= 1);
                        }
                    }
                    Deed::Return if is_sent => {
                        is_sent = false;
                        rounds.probe_returned(time(at));
                        admitted = 0;
                    }
                    Deed::Return => {}
                    Deed::Start(waited) => {
                        let was_limited = matches!(rounds.lock().phase, QueuePhase::Limited { .. });
                        let starts = rounds.starts(Duration::from_micros(waited), || time(at));
                        prop_assert!(starts || was_limited && waited >= TARGET * STALE_TARGETS);
                    }
                    Deed::Poll(took) => rounds.long_polls.add(Duration::from_micros(took)),
                }
                let now = rounds.lock();
                let QueuePhase::Limited { limit, .. } = now.phase else { continue };
                prop_assert!(now.admitted <= 2 * limit + 8);
            }
            if is_sent {
                rounds.probe_returned(time(at));
            }
            at += LONGEST_POLL * STANDS_TARGETS;
            rounds.wants_probe(time(at));
            prop_assert!((0..1000).all(|_| rounds.admits(|| CALL)));
        }

        /// A server whose rounds and calls are never late refuses nothing.
        #[test]
        fn without_a_queue_nothing_is_refused(
            steps in proptest::collection::vec((0..TARGET, 0..500_usize, 0..TARGET), 1..300),
        ) {
            let rounds = AdmissionRounds::new(Arc::default());
            let mut at = 0;
            for (takes, calls, waited) in steps {
                let sends = rounds.wants_probe(at * 1000);
                prop_assert!((0..calls).all(|_| rounds.admits(|| CALL)));
                at += takes;
                let now = at * 1000;
                prop_assert!(rounds.starts(Duration::from_micros(waited), || now));
                if sends {
                    rounds.probe_returned(now);
                }
            }
        }
    }
}
