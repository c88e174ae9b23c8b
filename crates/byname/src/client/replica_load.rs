//! The load of one replica, as a client estimates it, and the score that compares replicas: [`ReplicaLoad`]. A state machine
//! without a clock.
//!
//! Times are seconds since some moment, and durations are seconds. A score is computed up to three times for each call, and
//! arithmetic with `Instant` would be half of its cost.

/// What the end of an attempt says about its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplicaOutcome {
    /// It answered. A function's own error and a rejected argument are answers.
    Answered,
    /// The deadline of the call has passed. Whether it has failed depends on what else it did.
    TimedOut,
    /// It did not connect, broke the connection, was unavailable, panicked, or sent no byte before the deadline.
    Failed,
    /// It had too much to do and refused the call. It is busy, not ill.
    Refused,
    /// The caller gave up. That says nothing about the replica.
    Cancelled,
}

/// What a client knows of one replica.
#[derive(Debug)]
pub(super) struct ReplicaLoad {
    /// The client's own calls in flight.
    pub(super) in_flight: u32,
    report: Option<LoadReport>,
    record: Option<ReplicaRecord>,
    /// Since when calls are in flight and no answer has come.
    silent_since: Option<f64>,
    /// When it has answered last.
    answered_at: Option<f64>,
}

/// What the replica said of its calls in flight.
#[derive(Debug)]
struct LoadReport {
    calls: u32,
    at: f64,
    /// The client's calls since then.
    sent_since: u32,
}

/// How the last calls ended. It fades to what is usual while no call ends.
#[derive(Clone, Copy, Debug)]
struct ReplicaRecord {
    /// In seconds.
    latency: f64,
    /// The share of the calls that succeeded.
    success: f64,
    at: f64,
    /// How many answers all replicas had given then.
    answers: u32,
    /// What it rests on: the calls that were slow or failed. One that is answered in time halves the number.
    bad_calls: u32,
    /// The last call that was bad was stuck in a replica that stood still, and was answered.
    stood_still: bool,
}

/// What a client knows of all replicas together.
#[derive(Debug, Default)]
pub(super) struct ServiceLoad {
    /// How long an answer takes, in seconds.
    latency: Mean,
    /// How many calls of other clients a replica has in flight.
    others: Mean,
    /// How many answers there were from all replicas.
    answers: u32,
}

/// An average of the last values. The first values count as much as they would in a plain average.
#[derive(Debug, Default)]
struct Mean {
    value: f64,
    count: u32,
}

/// A report loses its weight with its age by this many times the latency of an answer.
const REPORT_FADES: f64 = 0.5;
/// The seconds in which the record of a replica without calls fades.
const RECORD_FADES: f64 = 30.0;
/// It fades sooner if the replica stood still and goes on: in this number of seconds for each bad call that it rests on. So it is
/// not shut out for long.
const SECONDS_FOR_A_STUCK_CALL: f64 = 2.0;
/// An answer that took more than this number of seconds was stuck in a replica that stood still, if it also took longer than
/// [`LONGEST_LATENCY`] counts. A replica that is only slow answers sooner.
const STUCK: f64 = 1.0;
/// It fades sooner where others answer many calls: after this number of answers for each bad call. So one late answer does not
/// shut a replica out for thousands of calls.
const ANSWERS_FOR_A_BAD_CALL: f64 = 2000.0;
/// The same for a record without a bad call. It was usual once, and what is usual has changed since.
const SECONDS_WITHOUT_A_BAD_CALL: f64 = 1.0;
const ANSWERS_WITHOUT_A_BAD_CALL: f64 = 64.0;
/// More bad calls count no more.
const MOST_BAD_CALLS: u32 = 64;
/// How much the last call counts in a replica's latency.
const LATENCY_GAIN: f64 = 0.2;
/// A call counts as at most this many times the usual latency.
const LONGEST_LATENCY: f64 = 15.0;
/// An answer changes what is usual as if it had taken at most this many times the usual latency. Otherwise the few answers
/// of a slow replica make slowness look usual.
const LONGEST_USUAL: f64 = 3.0;
/// Differences in latency up to this factor are chance.
const LATENCY_TOLERANCE: f64 = 2.0;
/// Differences of fewer seconds are chance too: a task that is scheduled late, a first call that fills caches.
const LATENCY_NOISE: f64 = 0.002;
/// How much the last call counts in a replica's success rate.
const SUCCESS_GAIN: f64 = 0.3;
/// The lowest success rate, so that scores stay finite.
const LEAST_SUCCESS: f64 = 0.05;
/// How many values an average over all replicas remembers.
const MEAN_OVER: u32 = 64;

impl ReplicaLoad {
    pub(super) fn new() -> Self {
        Self { in_flight: 0, report: None, record: None, silent_since: None, answered_at: None }
    }

    /// A call was sent to the replica.
    pub(super) fn sent(&mut self, now: f64) {
        self.in_flight += 1;
        self.silent_since.get_or_insert(now);
        if let Some(report) = &mut self.report {
            report.sent_since += 1;
        }
    }

    /// The replica said how many calls it has in flight, with an answer that is not counted among them. It comes before
    /// [`ended`](Self::ended) of that call. What comes with a failed call is ignored by the caller: a replica that fails
    /// at once looks idle.
    pub(super) fn reported(&mut self, calls: u32, now: f64, service: &mut ServiceLoad) {
        let own = self.in_flight.saturating_sub(1);
        service.others.add(f64::from(calls.saturating_sub(own)));
        self.report = Some(LoadReport { calls, at: now, sent_since: 0 });
    }

    /// A call that was sent `latency` ago has ended.
    pub(super) fn ended(&mut self, outcome: ReplicaOutcome, latency: f64, now: f64, service: &mut ServiceLoad) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.silent_since = None;
        } else if outcome == ReplicaOutcome::Answered {
            self.silent_since = Some(now);
        }
        let is_answered = outcome == ReplicaOutcome::Answered;
        let was_stuck = latency > STUCK && service.bounded(latency) < latency;
        let latency = service.bounded(latency);
        if is_answered {
            self.answered_at = Some(now);
            service.answered(latency);
        }
        let mut record = self.record(service, now);
        match outcome {
            ReplicaOutcome::Answered => record.success += SUCCESS_GAIN * (1.0 - record.success),
            ReplicaOutcome::Failed | ReplicaOutcome::TimedOut | ReplicaOutcome::Refused => {
                record.success -= SUCCESS_GAIN * record.success;
            }
            ReplicaOutcome::Cancelled if latency <= record.latency => return,
            ReplicaOutcome::Cancelled => {}
        }
        // How soon a call failed says nothing about how soon the next is answered. How long it was waited for does.
        if is_answered || latency > record.latency {
            record.latency += LATENCY_GAIN * (latency - record.latency);
        }
        let bad_calls = record.bad_calls;
        record.bad_calls = match outcome {
            ReplicaOutcome::Answered if latency <= service.tolerated() => record.bad_calls / 2,
            _ => record.bad_calls + 1,
        };
        if record.bad_calls > bad_calls {
            record.stood_still = is_answered && was_stuck;
        }
        record.bad_calls = record.bad_calls.min(MOST_BAD_CALLS);
        self.record = Some(record);
    }

    /// Whether the end of a call at its deadline speaks against the replica: it had the time that an answer usually takes, and
    /// has answered no other call meanwhile.
    pub(super) fn was_silent(&self, sent: f64, now: f64, service: &ServiceLoad) -> bool {
        let had_time = service.latency.count == 0 || now - sent > service.latency.value;
        had_time && self.answered_at.is_none_or(|at| at <= sent)
    }

    /// The replica was ejected and has answered again: what it did before says nothing more.
    pub(super) fn forget_record(&mut self) {
        self.record = None;
    }

    /// How many calls it had in flight when it said so last.
    pub(super) fn reported_calls(&self) -> Option<u32> {
        self.report.as_ref().map(|report| report.calls)
    }

    /// How long an answer takes, if there was one, and the share of the calls that succeeded.
    pub(super) fn latency_and_success(&self, service: &ServiceLoad, now: f64) -> (Option<f64>, f64) {
        let record = self.record(service, now);
        (self.record.filter(|_| self.answered_at.is_some()).map(|_| record.latency), record.success)
    }

    /// Whether calls have ended there, and none was answered.
    pub(super) fn never_answered(&self) -> bool {
        self.record.is_some() && self.answered_at.is_none()
    }

    /// How long a call takes here as against elsewhere. The replica with the lowest score is the best.
    pub(super) fn score(&self, service: &ServiceLoad, now: f64) -> f64 {
        let record = self.record(service, now);
        let silence = self.silent_since.map_or(0.0, |since| now - since);
        let slowness = service.slowness(record.latency.max(silence));
        let success = record.success.max(LEAST_SUCCESS);
        (self.calls(service, now) + 1.0) * slowness / (success * success)
    }

    /// How many calls the replica has in flight, of this client and of others.
    fn calls(&self, service: &ServiceLoad, now: f64) -> f64 {
        let own = f64::from(self.in_flight);
        let usual = own + service.others.value;
        let Some(report) = &self.report else {
            return usual;
        };
        let age = (now - report.at) / (REPORT_FADES * service.latency.value);
        // Before the first answer it is not a number, or infinite.
        if age.is_nan() || age > 8.0 {
            return usual;
        }
        let weight = (-age).exp();
        let reported = f64::from(report.calls + report.sent_since).max(own);
        // Rounding must not take it below.
        (weight * reported + (1.0 - weight) * usual).max(own)
    }

    /// As it is now.
    fn record(&self, service: &ServiceLoad, now: f64) -> ReplicaRecord {
        let (latency, answers) = (service.latency.value, service.answers);
        let usual = ReplicaRecord { latency, success: 1.0, at: now, answers, bad_calls: 0, stood_still: false };
        self.record.as_ref().map_or(usual, |record| {
            let since = f64::from(answers.wrapping_sub(record.answers));
            let (seconds, answers_until) = match f64::from(record.bad_calls) {
                0.0 => (SECONDS_WITHOUT_A_BAD_CALL, ANSWERS_WITHOUT_A_BAD_CALL),
                bad if record.stood_still => {
                    ((SECONDS_FOR_A_STUCK_CALL * bad).min(RECORD_FADES), ANSWERS_FOR_A_BAD_CALL * bad)
                }
                bad => (RECORD_FADES, ANSWERS_FOR_A_BAD_CALL * bad),
            };
            let age = ((now - record.at) / seconds).max(since / answers_until).min(1.0);
            ReplicaRecord {
                latency: record.latency + age * (usual.latency - record.latency),
                success: record.success + age * (1.0 - record.success),
                at: now,
                answers,
                bad_calls: record.bad_calls,
                stood_still: record.stood_still,
            }
        })
    }
}

impl ServiceLoad {
    /// A latency, in seconds, as it counts: one call that hangs does not change what is usual.
    fn bounded(&self, latency: f64) -> f64 {
        if self.latency.count == 0 { latency } else { latency.min(LONGEST_LATENCY * self.latency.value) }
    }

    /// A replica gave an answer that took so long, bounded.
    fn answered(&mut self, latency: f64) {
        let is_first = self.latency.count == 0;
        self.latency.add(if is_first { latency } else { latency.min(LONGEST_USUAL * self.latency.value) });
        self.answers = self.answers.wrapping_add(1);
    }

    /// The longest latency that is chance.
    fn tolerated(&self) -> f64 {
        (LATENCY_TOLERANCE * self.latency.value).max(self.latency.value + LATENCY_NOISE)
    }

    /// The factor by which a latency makes a replica worse.
    fn slowness(&self, latency: f64) -> f64 {
        let ratio = self.bounded(latency) / self.tolerated();
        // Before the first answer it says nothing.
        if self.latency.count > 0 && ratio > 1.0 { ratio * ratio.sqrt() } else { 1.0 }
    }
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count = (self.count + 1).min(MEAN_OVER);
        self.value += (value - self.value) / f64::from(self.count);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ReplicaOutcome::{Answered, Cancelled, Failed, Refused};
    use super::*;

    const MS: f64 = 0.001;

    /// A service whose answers take 10 ms, and whose other clients have four calls in flight at each replica.
    fn usual() -> ServiceLoad {
        let mean = |value| Mean { value, count: MEAN_OVER };
        ServiceLoad { latency: mean(0.01), others: mean(4.0), answers: 0 }
    }

    fn answered(load: &mut ReplicaLoad, latency: f64, now: f64, service: &mut ServiceLoad) {
        load.sent(now);
        load.ended(Answered, latency, now, service);
    }

    #[test]
    fn a_replica_that_reports_nothing_is_judged_by_own_calls() {
        let (now, service) = (0.0, ServiceLoad::default());
        let mut load = ReplicaLoad::new();
        assert_eq!(load.score(&service, now), 1.0);
        load.sent(now);
        load.sent(now);
        assert_eq!(load.score(&service, now), 3.0);
        // Others report: it has the usual calls of others too.
        assert_eq!(load.calls(&usual(), now), 6.0);
    }

    #[test]
    fn a_report_counts_while_it_is_fresh() {
        let (now, mut service) = (0.0, usual());
        let mut load = ReplicaLoad::new();
        load.sent(now);
        load.reported(9, now, &mut service);
        answered(&mut load, 10.0 * MS, now, &mut service);
        service = usual();
        // The report, and the one that was sent since.
        assert_eq!(load.calls(&service, now), 10.0);
        let later = load.calls(&service, now + 5.0 * MS);
        let expected = 5.0 + (10.0 - 5.0) * (-1.0f64).exp();
        assert!((later - expected).abs() < 0.001, "{later}");
        assert_eq!(load.calls(&service, now + 1000.0 * MS), 5.0, "the usual, with the own call");
    }

    #[test]
    fn what_others_have_in_flight_is_learnt_from_reports() {
        let (now, mut service) = (0.0, ServiceLoad::default());
        let mut load = ReplicaLoad::new();
        load.sent(now);
        load.sent(now);
        // One of the seven is the second of the own calls; the first is the one that is answered.
        load.reported(7, now, &mut service);
        assert_eq!(service.others.value, 6.0);
        // It has counted before the second arrived.
        load.reported(0, now, &mut service);
        assert_eq!(service.others.value, 3.0);
    }

    #[test]
    fn a_slow_replica_is_worse_beyond_the_tolerance() {
        let now = 0.0;
        let score = |latency| {
            let (mut load, mut service) = (ReplicaLoad::new(), usual());
            for _ in 0..50 {
                answered(&mut load, latency, now, &mut service);
                service.latency = usual().latency;
            }
            load.score(&service, now) / 5.0
        };
        assert_eq!(score(19.0 * MS), 1.0);
        let is_near = |score: f64, ratio: f64| (score - (ratio / LATENCY_TOLERANCE).powf(1.5)).abs() < 0.01;
        assert!(is_near(score(100.0 * MS), 10.0));
        assert!(is_near(score(100000.0 * MS), LONGEST_LATENCY), "it is bounded");
    }

    #[test]
    fn a_silent_replica_is_worse_before_its_first_call_ends() {
        let (now, mut service) = (0.0, usual());
        let mut load = ReplicaLoad::new();
        load.sent(now);
        load.sent(now);
        let at_once = load.score(&service, now);
        assert!(load.score(&service, now + 15.0 * MS) <= at_once);
        assert!(load.score(&service, now + 90.0 * MS) > at_once * 5.0);
        load.ended(Answered, 10.0 * MS, now + 90.0 * MS, &mut service);
        assert!(load.score(&service, now + 90.0 * MS) < at_once, "it has answered one of two");
    }

    #[test]
    fn a_call_that_failed_is_no_sign_of_speed() {
        let (now, mut service) = (0.0, usual());
        let mut load = ReplicaLoad::new();
        load.sent(now);
        load.ended(Failed, MS / 10.0, now, &mut service);
        let record = load.record(&service, now);
        assert_eq!((record.latency, service.latency.value), (0.01, 0.01));
        assert_eq!(record.success, 1.0 - SUCCESS_GAIN);
        assert!((load.score(&service, now) - 5.0 / record.success.powi(2)).abs() < 0.001);
        // It was waited for until the deadline.
        load.sent(now);
        load.ended(Failed, 1000.0 * MS, now, &mut service);
        assert!(load.record(&service, now).latency > 0.03);
    }

    #[test]
    fn a_cancelled_call_counts_if_it_took_long() {
        let (now, mut service) = (0.0, usual());
        let mut load = ReplicaLoad::new();
        load.sent(now);
        load.ended(Cancelled, MS, now, &mut service);
        assert_eq!(load.score(&service, now), 5.0);
        load.sent(now);
        load.ended(Cancelled, 100.0 * MS, now, &mut service);
        let record = load.record(&service, now);
        assert_eq!(record.success, 1.0);
        assert!(record.latency > 0.02);
    }

    #[test]
    fn a_bad_record_fades_without_calls() {
        let (now, mut service) = (0.0, usual());
        let mut load = ReplicaLoad::new();
        for _ in 0..20 {
            load.sent(now);
            load.ended(Failed, 1000.0 * MS, now, &mut service);
        }
        let after = |seconds| load.score(&service, now + f64::from(seconds));
        assert!(after(0) > 1000.0);
        assert!(after(15) > after(25) && after(25) > after(30));
        assert_eq!(after(30), 5.0);
    }

    #[test]
    fn a_replica_that_stood_still_for_a_moment_is_back_within_seconds() {
        let (mut service, mut load) = (usual(), ReplicaLoad::new());
        for _ in 0..3 {
            load.sent(0.0);
        }
        for _ in 0..3 {
            load.ended(Answered, 1500.0 * MS, 1.5, &mut service);
        }
        service.latency = usual().latency;
        let slowness = |seconds: f64| load.score(&service, 1.5 + seconds) / 5.0;
        assert!(slowness(0.0) > 5.0);
        assert!(slowness(5.0) <= 1.5, "{}", slowness(5.0));
        assert_eq!(slowness(6.0), 1.0);
    }

    #[test]
    fn a_replica_whose_answers_were_usual_is_not_shut_out_when_others_become_faster() {
        let (now, mut service) = (0.0, ServiceLoad::default());
        let (mut load, mut other) = (ReplicaLoad::new(), ReplicaLoad::new());
        // A program that has just begun is slow.
        answered(&mut load, 6.0 * MS, now, &mut service);
        for _ in 0..100 {
            answered(&mut other, 0.3 * MS, now, &mut service);
        }
        assert_eq!(load.score(&service, now), 1.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens, and in whatever order: a score is a number, and no replica seems less busy than this client
        /// alone makes it.
        #[test]
        fn a_score_is_never_below_own_calls(
            events in proptest::collection::vec((0..5u8, 0..100u32, 0..5000u32, any::<bool>()), 0..200),
        ) {
            let (mut now, mut service) = (0.0, ServiceLoad::default());
            let mut load = ReplicaLoad::new();
            let mut in_flight = 0u32;
            for (event, calls, micros, is_long) in events {
                let time = f64::from(micros) * if is_long { 0.01 } else { 0.000_001 };
                now += time;
                match event {
                    0 | 1 => {
                        load.sent(now);
                        in_flight += 1;
                    }
                    2 => load.reported(calls, now, &mut service),
                    _ => {
                        let outcome = [Answered, Failed, Refused, Cancelled][calls as usize % 4];
                        load.ended(outcome, time, now, &mut service);
                        in_flight = in_flight.saturating_sub(1);
                    }
                }
                prop_assert!(load.calls(&service, now) >= f64::from(in_flight));
                let score = load.score(&service, now);
                prop_assert!(score.is_finite() && score > f64::from(in_flight), "{score}");
            }
        }
    }
}
