//! Which calls are admitted when more come than the server can run: [`AdmissionRounds`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Refuses calls while a queue stands in front of the runtime's threads, so that the calls that are admitted are answered in
/// time. It has no clock and does no I/O. `docs/decisions/0157` has the comparison with other rules.
///
/// The queue is measured by a *probe*: an empty task that goes once through the queue of the runtime. The time that it takes
/// is a *round*. While rounds are short, everything is admitted. Once no round was shorter than the target for 100 ms, there is
/// a limit for each round: as many calls as the server lately ran in half of the target. So the rounds get short again. A
/// function that waits for others is not in the queue, so it is not limited. The limit ends after 100 ms in which at most an
/// eighth of the calls was refused.
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
/// - After each poll of a function it tells [`polled`](Self::polled) how long that took.
///
/// With no queue, `admits`, `starts` and `wants_probe` each read one atomic value.
#[derive(Debug)]
pub struct AdmissionRounds {
    start: Instant,
    /// When [`wants_probe`](Self::wants_probe) has something to do, in microseconds since `start`.
    next: AtomicU64,
    /// From which wait on a call that starts is looked at, in microseconds.
    late: AtomicU64,
    /// How many calls may still be admitted.
    room: AtomicUsize,
    /// The calls that were refused since `room` was set.
    refused: AtomicUsize,
    /// The squares of polls that were longer than the target, since they were last read.
    long_polls: AtomicU64,
    rounds: Mutex<QueueRounds>,
}

impl AdmissionRounds {
    /// For a runtime with this number of threads.
    pub fn new(threads: usize, now: Instant) -> Self {
        Self {
            start: now,
            next: AtomicU64::new(0),
            late: AtomicU64::new(TARGET),
            room: AtomicUsize::new(UNLIMITED),
            refused: AtomicUsize::new(0),
            long_polls: AtomicU64::new(0),
            rounds: Mutex::new(QueueRounds::new(threads)),
        }
    }

    /// Whether to send a probe now. Calls are about to be read.
    #[inline]
    pub fn wants_probe(&self, now: Instant) -> bool {
        let now = self.micros(now);
        now >= self.next.load(Ordering::Relaxed) && self.change(now, |rounds, counted| rounds.look(now, counted))
    }

    /// Whether to run the call that has come.
    #[inline]
    pub fn admits(&self) -> bool {
        self.room.load(Ordering::Relaxed) == UNLIMITED || self.take_room()
    }

    /// Whether to run a call that was admitted, and has waited so long for its first poll.
    #[inline]
    pub fn starts(&self, waited: Duration, now: impl FnOnce() -> Instant) -> bool {
        let waited = micros(waited);
        waited < self.late.load(Ordering::Relaxed) || {
            let now = self.micros(now());
            self.change(now, |rounds, counted| rounds.starts(now, waited, counted))
        }
    }

    /// A poll of a function took so long.
    #[inline]
    pub fn polled(&self, took: Duration) {
        if took > Duration::from_micros(TARGET) {
            let took = micros(took).min(LONGEST_POLL);
            self.long_polls.fetch_add(took * took, Ordering::Relaxed);
        }
    }

    /// A probe has been through the queue, or was dropped.
    pub fn probe_returned(&self, now: Instant) {
        let now = self.micros(now);
        self.change(now, |rounds, counted| rounds.returned(now, counted));
    }

    /// When a caller that was refused may try again. `chance` is random, from 0 to 1, so that they do not all come back at
    /// once.
    pub fn retry_after(chance: f64) -> Duration {
        Duration::from_micros(WINDOW) + Duration::from_micros(2 * WINDOW).mul_f64(chance)
    }

    fn take_room(&self) -> bool {
        let take = |room| if room == UNLIMITED { Some(room) } else { usize::checked_sub(room, 1) };
        let is_admitted = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if !is_admitted {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }

    #[cold]
    fn change<T>(&self, now: u64, change: impl FnOnce(&mut QueueRounds, Counted) -> T) -> T {
        let mut rounds = self.lock();
        let admitted = rounds.room.saturating_sub(self.room.load(Ordering::Relaxed));
        let counted = Counted { admitted, refused: self.refused.load(Ordering::Relaxed) };
        rounds.measure_polls(now, self.long_polls.swap(0, Ordering::Relaxed));
        rounds.sets_room = false;
        let result = change(&mut rounds, counted);
        if rounds.sets_room {
            self.room.store(rounds.room, Ordering::Relaxed);
            self.refused.store(0, Ordering::Relaxed);
        }
        self.late.store(rounds.late(), Ordering::Relaxed);
        self.next.store(rounds.next, Ordering::Relaxed);
        result
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.start))
    }

    fn lock(&self) -> MutexGuard<'_, QueueRounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros().into())
}

/// How long a round may take, in microseconds like all times here.
const TARGET: u64 = 5_000;
/// Rounds have to be late for this time before there is a limit, or for this number of targets if that is longer.
const STANDS: u64 = 100_000;
const STANDS_TARGETS: u64 = 6;
/// How many calls have to come or to start late in this time. A few calls of a slow function are no overload.
const STANDS_CALLS: usize = 8;
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

/// The limit ends after a window in which at most one call of this number was refused. With the whole load the queue then
/// grows slowly, or not at all.
const FEW: usize = 8;

/// The room while all calls are admitted. It is not counted down.
const UNLIMITED: usize = usize::MAX;
/// The room while all calls are admitted and counted.
const COUNTED: usize = usize::MAX / 2;

/// The calls since the room was set.
#[derive(Clone, Copy)]
struct Counted {
    admitted: usize,
    refused: usize,
}

/// The state that rarely changes. Its methods get the time in microseconds.
#[derive(Debug)]
struct QueueRounds {
    threads: u64,
    phase: QueuePhase,
    /// When the probe was sent that is in the queue.
    sent: Option<u64>,
    next: u64,
    room: usize,
    sets_room: bool,
    /// How long a call that comes is likely to wait for a long poll that goes on, and until when that is known.
    blocked: f64,
    measured: u64,
    target: u64,
}

#[derive(Clone, Copy, Debug)]
enum QueuePhase {
    /// Rounds are not late. All calls are admitted.
    Open,
    /// Rounds have been late since a time, and all calls are admitted. `late` calls have started late, and something
    /// was late the last time at `seen`.
    Standing { since: u64, seen: u64, late: usize },
    /// `limit` calls are admitted in each round. The other fields describe the window, which goes from `began` to `until` and on
    /// to the end of a round. The last round ended at `ended`.
    Limited { limit: usize, began: u64, until: u64, ended: u64, admitted: usize, refused: usize },
}

impl QueueRounds {
    fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1) as u64,
            phase: QueuePhase::Open,
            sent: None,
            next: 0,
            room: UNLIMITED,
            sets_room: false,
            blocked: 0.0,
            measured: 0,
            target: TARGET,
        }
    }

    /// Calls are about to be read. Whether to send a probe.
    fn look(&mut self, now: u64, counted: Counted) -> bool {
        if let Some(sent) = self.sent {
            if matches!(self.phase, QueuePhase::Open) && now >= sent + self.target {
                self.stand(sent, now);
                self.next = sent + self.stands();
            }
            self.limit_if_standing(now, counted);
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

    fn returned(&mut self, now: u64, counted: Counted) {
        let Some(sent) = self.sent.take() else { return };
        let is_late = now.saturating_sub(sent) >= self.target;
        self.next = now;
        match &mut self.phase {
            QueuePhase::Open if is_late => self.stand(sent, now),
            QueuePhase::Open => self.next = now + PAUSE,
            QueuePhase::Standing { seen, .. } if is_late => {
                *seen = now;
                self.limit_if_standing(now, counted);
            }
            QueuePhase::Standing { .. } => {
                self.open();
                self.next = now + PAUSE;
            }
            QueuePhase::Limited { .. } => self.count_round(now, counted),
        }
    }

    /// A call gets its first poll. Whether it may start.
    fn starts(&mut self, now: u64, waited: u64, counted: Counted) -> bool {
        if waited < self.late() {
            return true;
        }
        match &mut self.phase {
            QueuePhase::Open => {
                self.stand(now.saturating_sub(waited), now);
                if self.sent.is_none() {
                    self.next = now;
                }
            }
            QueuePhase::Standing { seen, late, .. } => {
                (*seen, *late) = (now, *late + 1);
                self.limit_if_standing(now, counted);
            }
            QueuePhase::Limited { refused, .. } => {
                *refused += 1;
                return false;
            }
        }
        true
    }

    /// From which wait on [`starts`](Self::starts) has something to do.
    fn late(&self) -> u64 {
        match self.phase {
            QueuePhase::Open | QueuePhase::Standing { .. } => self.target,
            QueuePhase::Limited { .. } => self.target * STALE_TARGETS,
        }
    }

    /// A call that comes while a thread polls waits half of this poll on average, and it meets long polls more often
    /// than short ones: the squares of their lengths count.
    fn measure_polls(&mut self, now: u64, squares: u64) {
        let elapsed = now.saturating_sub(self.measured);
        self.measured = self.measured.max(now);
        if self.blocked > 0.0 || squares > 0 {
            let kept = (-(elapsed as f64) / MEMORY as f64).exp();
            self.blocked = self.blocked * kept + squares as f64 / (self.threads * MEMORY) as f64;
            self.target = (self.blocked as u64).clamp(TARGET, LONGEST_POLL);
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
        self.set_room(UNLIMITED);
    }

    fn stand(&mut self, since: u64, now: u64) {
        self.phase = QueuePhase::Standing { since, seen: now, late: 0 };
        self.set_room(COUNTED);
    }

    fn limit_if_standing(&mut self, now: u64, counted: Counted) {
        let QueuePhase::Standing { since, late, .. } = self.phase else { return };
        // What was counted before the room was set now says nothing.
        let calls = if self.sets_room { 0 } else { counted.admitted.saturating_add(late) };
        if now >= since + self.stands() && calls >= STANDS_CALLS {
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
        self.set_room(limit);
    }

    /// A round has ended while there is a limit.
    fn count_round(&mut self, now: u64, counted: Counted) {
        let (window, target) = (self.window(), self.target);
        let QueuePhase::Limited { limit, began, until, ended, admitted, refused } = &mut self.phase else { return };
        *admitted += counted.admitted;
        *refused += counted.refused;
        *ended = now;
        let elapsed = now.saturating_sub(*began).max(1);
        if now < *until {
            let room = *limit;
            self.set_room(room);
        } else if *until - *began >= WINDOW && *refused * FEW <= *admitted + *refused {
            self.open();
        } else {
            let runs = *admitted as u64 * target / SHARE / elapsed;
            let window = if until == began { target } else { window };
            self.limit(runs.max(1) as usize, now, window);
        }
    }

    fn set_room(&mut self, room: usize) {
        self.room = room;
        self.sets_room = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A server in virtual time. `at` is in milliseconds.
    struct Steps {
        rounds: AdmissionRounds,
        start: Instant,
        at: u64,
    }

    impl Steps {
        fn new() -> Self {
            let start = Instant::now();
            Self { rounds: AdmissionRounds::new(2, start), start, at: 0 }
        }

        fn now(&self) -> Instant {
            self.start + Duration::from_millis(self.at)
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
            (0..calls).filter(|_| self.rounds.admits()).count()
        }

        /// Makes a round in which `calls` calls come. Returns how many were admitted.
        fn round(&mut self, takes: u64, calls: usize) -> usize {
            assert!(self.wants_probe(), "a round begins at {} ms", self.at);
            let admitted = self.admitted(calls);
            self.at += takes;
            self.returned();
            admitted
        }

        /// Rounds of 20 ms with 20 calls, until calls are refused. Then the queue passes.
        fn limited() -> Self {
            let mut steps = Self::new();
            for _ in 0..5 {
                assert_eq!(steps.round(20, 20), 20, "at {} ms", steps.at);
            }
            assert_eq!(steps.round(100, 20), 1);
            steps
        }
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
        assert_eq!(steps.round(1, 20), 1);
        assert_eq!(steps.round(1, 20), 1);
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
        assert!(steps.starts(19));
        assert_eq!(steps.admitted(20), 1);
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
            assert_eq!(steps.round(1, 20), 1);
        }
        // One call a millisecond is two in 2.5 ms.
        for _ in 0..50 {
            assert_eq!(steps.round(2, 200), 2);
        }
    }

    #[test]
    fn the_limit_follows_what_runs() {
        let mut steps = Steps::limited();
        let at = micros(Duration::from_millis(steps.at));
        steps.rounds.change(at, |rounds, _| rounds.limit(40, at, WINDOW));
        for _ in 0..20 {
            assert_eq!(steps.round(5, 100), 40);
        }
        // Half as fast: a window later the limit is a half.
        for _ in 0..10 {
            assert_eq!(steps.round(10, 100), 20);
        }
        assert_eq!(steps.round(10, 100), 5);
    }

    #[test]
    fn the_limit_ends_after_a_window_in_which_few_were_refused() {
        let mut steps = Steps::limited();
        for _ in 0..5 {
            assert_eq!(steps.round(1, 20), 1);
        }
        // One of three is refused.
        for _ in 0..100 {
            assert_eq!(steps.round(2, 3), 2);
        }
        for nth in 0..50 {
            assert_eq!(steps.round(2, if nth % 5 == 0 { 3 } else { 2 }), 2);
        }
        assert_eq!(steps.round(1, 1000), 1000);
    }

    #[test]
    fn after_a_pause_there_is_no_limit() {
        let mut steps = Steps::limited();
        assert_eq!(steps.round(1, 20), 1);
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
        assert_eq!(steps.round(1, 20), 1);
    }

    #[test]
    fn functions_that_keep_their_threads_have_a_longer_target() {
        let mut steps = Steps::new();
        // Both threads are kept all the time.
        for at in (0..3000).step_by(50) {
            steps.at = at;
            for _ in 0..2 {
                steps.rounds.polled(Duration::from_millis(50));
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
            (0..2).for_each(|_| steps.rounds.polled(Duration::from_millis(50)));
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
            steps.rounds.polled(Duration::from_secs(3600));
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
        /// Whatever happens, a round has its limit, one call is always admitted in a new round, and after a pause all are.
        #[test]
        fn a_round_admits_its_limit_and_a_pause_ends_it(deeds in proptest::collection::vec(deed(500_000), 1..400)) {
            let start = Instant::now();
            let rounds = AdmissionRounds::new(2, start);
            let (mut at, mut is_sent, mut admitted) = (0, false, 0);
            let time = |at| start + Duration::from_micros(at);
            for deed in deeds {
                match deed {
                    Deed::Pass(micros) => at += micros,
                    Deed::Read(calls) => {
                        let sends = rounds.wants_probe(time(at));
                        prop_assert!(!(sends && is_sent), "one probe at a time");
                        is_sent |= sends;
                        let before = admitted;
                        admitted += (0..calls).filter(|_| rounds.admits()).count();
                        if let QueuePhase::Limited { limit, .. } = rounds.lock().phase {
                            prop_assert!(before > 0 || admitted > before, "a new round admits a call");
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
                    Deed::Poll(took) => rounds.polled(Duration::from_micros(took)),
                }
                let room = rounds.room.load(Ordering::Relaxed);
                match rounds.lock().phase {
                    QueuePhase::Open => prop_assert_eq!(room, UNLIMITED),
                    QueuePhase::Standing { .. } => prop_assert!(room > usize::MAX / 4 && room < UNLIMITED),
                    QueuePhase::Limited { limit, .. } => prop_assert!(room <= limit),
                }
            }
            if is_sent {
                rounds.probe_returned(time(at));
            }
            at += LONGEST_POLL * STANDS_TARGETS;
            rounds.wants_probe(time(at));
            prop_assert!((0..1000).all(|_| rounds.admits()));
        }

        /// A server whose rounds and calls are never late refuses nothing.
        #[test]
        fn without_a_queue_nothing_is_refused(
            steps in proptest::collection::vec((0..TARGET, 0..500_usize, 0..TARGET), 1..300),
        ) {
            let start = Instant::now();
            let rounds = AdmissionRounds::new(4, start);
            let mut at = 0;
            for (takes, calls, waited) in steps {
                let sends = rounds.wants_probe(start + Duration::from_micros(at));
                prop_assert!((0..calls).all(|_| rounds.admits()));
                at += takes;
                let now = start + Duration::from_micros(at);
                prop_assert!(rounds.starts(Duration::from_micros(waited), || now));
                if sends {
                    rounds.probe_returned(now);
                }
            }
        }
    }
}
