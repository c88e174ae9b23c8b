//! How busy one replica is, as far as a client knows, and the score by which replicas are compared: [`ReplicaLoad`]. A state
//! machine without a clock.

use std::time::Duration;

use tokio::time::Instant;

/// How an attempt at a replica ended, as far as it speaks of the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplicaOutcome {
    /// It answered. A function's own error and a rejected argument are answers.
    Answered,
    /// It did not connect, broke the connection, was unavailable, panicked, or sent no byte before the deadline.
    Failed,
    /// The caller gave up. That says nothing about the replica.
    Cancelled,
}

/// What a client knows of one replica.
#[derive(Debug)]
pub(super) struct ReplicaLoad {
    /// The client's own calls in flight.
    in_flight: u32,
    report: Option<LoadReport>,
    record: Option<ReplicaRecord>,
    /// Since when calls are in flight and no answer has come.
    silent_since: Option<Instant>,
}

/// What the replica said of its calls in flight.
#[derive(Debug)]
struct LoadReport {
    calls: u32,
    at: Instant,
    /// The client's calls since then.
    sent_since: u32,
}

/// How the last calls ended. It fades to what is usual while no call ends.
#[derive(Clone, Copy, Debug)]
struct ReplicaRecord {
    /// In seconds.
    latency: f64,
    /// The share of the calls that were answered.
    success: f64,
    at: Instant,
}

/// What a client knows of all replicas together.
#[derive(Debug, Default)]
pub(super) struct ServiceLoad {
    /// How long an answer takes, in seconds.
    latency: Mean,
    /// How many calls of other clients a replica has in flight.
    others: Mean,
}

/// An average of the last values. The first values count as much as they would in a plain average.
#[derive(Debug, Default)]
struct Mean {
    value: f64,
    count: u32,
}

/// A report loses its weight with its age by this many times the latency of an answer.
const REPORT_FADES: f64 = 2.5;
/// The seconds in which the record of a replica without calls fades.
const RECORD_FADES: f64 = 30.0;
/// How much the last call counts in a replica's latency.
const LATENCY_GAIN: f64 = 0.2;
/// A call counts as at most this many times the usual latency.
const LONGEST_LATENCY: f64 = 20.0;
/// Differences in latency up to this factor are chance.
const LATENCY_TOLERANCE: f64 = 2.0;
/// How much the last call counts in a replica's success rate.
const SUCCESS_GAIN: f64 = 0.3;
/// The success rate counts by this power.
const SUCCESS_POWER: f64 = 2.0;
/// The lowest success rate, so that scores stay finite.
const LEAST_SUCCESS: f64 = 0.05;
/// How many values an average over all replicas remembers.
const MEAN_OVER: u32 = 64;

impl ReplicaLoad {
    pub(super) fn new() -> Self {
        Self { in_flight: 0, report: None, record: None, silent_since: None }
    }

    /// A call was sent to the replica.
    pub(super) fn sent(&mut self, now: Instant) {
        self.in_flight += 1;
        self.silent_since.get_or_insert(now);
        if let Some(report) = &mut self.report {
            report.sent_since += 1;
        }
    }

    /// The replica said how many calls it has in flight, with an answer that is not counted among them. It comes before
    /// [`ended`](Self::ended) of that call. What comes with a failed call is ignored by the caller: a replica that fails
    /// at once looks idle.
    pub(super) fn reported(&mut self, calls: u32, now: Instant, service: &mut ServiceLoad) {
        let own = self.in_flight.saturating_sub(1);
        service.others.add(f64::from(calls.saturating_sub(own)));
        self.report = Some(LoadReport { calls, at: now, sent_since: 0 });
    }

    /// A call that was sent `latency` ago has ended.
    pub(super) fn ended(
        &mut self,
        outcome: ReplicaOutcome,
        latency: Duration,
        now: Instant,
        service: &mut ServiceLoad,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.silent_since = None;
        } else if outcome == ReplicaOutcome::Answered {
            self.silent_since = Some(now);
        }
        let latency = latency.as_secs_f64();
        let is_answered = outcome == ReplicaOutcome::Answered;
        if is_answered {
            service.latency.add(latency);
        }
        let mut record = self.record(service, now);
        match outcome {
            ReplicaOutcome::Answered => record.success += SUCCESS_GAIN * (1.0 - record.success),
            ReplicaOutcome::Failed => record.success -= SUCCESS_GAIN * record.success,
            ReplicaOutcome::Cancelled if latency <= record.latency => return,
            ReplicaOutcome::Cancelled => {}
        }
        // How soon a call failed says nothing about how soon the next is answered. How long it was waited for does.
        if is_answered || latency > record.latency {
            let latency = latency.min(LONGEST_LATENCY * service.latency.value);
            record.latency += LATENCY_GAIN * (latency - record.latency);
        }
        self.record = Some(record);
    }

    /// How long a call takes here as against elsewhere. The replica with the smallest is the best.
    pub(super) fn score(&self, service: &ServiceLoad, now: Instant) -> f64 {
        let record = self.record(service, now);
        let silence = self.silent_since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        let latency = record.latency.max(silence.min(LONGEST_LATENCY * service.latency.value));
        // It is not a number while nothing has been answered; then it is one.
        let slowness = (latency / (LATENCY_TOLERANCE * service.latency.value)).max(1.0);
        (self.calls(service, now) + 1.0) * slowness / record.success.max(LEAST_SUCCESS).powf(SUCCESS_POWER)
    }

    /// How many calls the replica has in flight, of this client and of others.
    fn calls(&self, service: &ServiceLoad, now: Instant) -> f64 {
        let own = f64::from(self.in_flight);
        let usual = own + service.others.value;
        let Some(report) = &self.report else {
            return usual;
        };
        let age = now.saturating_duration_since(report.at).as_secs_f64() / (REPORT_FADES * service.latency.value);
        // It also ends an infinite age, if answers take no time.
        if !(age < 8.0) {
            return usual;
        }
        let weight = (-age).exp();
        let reported = f64::from(report.calls + report.sent_since).max(own);
        weight * reported + (1.0 - weight) * usual
    }

    /// As it is now.
    fn record(&self, service: &ServiceLoad, now: Instant) -> ReplicaRecord {
        let usual = ReplicaRecord { latency: service.latency.value, success: 1.0, at: now };
        self.record.as_ref().map_or(usual, |record| {
            let age = (now.saturating_duration_since(record.at).as_secs_f64() / RECORD_FADES).min(1.0);
            ReplicaRecord {
                latency: record.latency + age * (usual.latency - record.latency),
                success: record.success + age * (1.0 - record.success),
                at: now,
            }
        })
    }
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count = (self.count + 1).min(MEAN_OVER);
        self.value += (value - self.value) / f64::from(self.count);
    }
}
