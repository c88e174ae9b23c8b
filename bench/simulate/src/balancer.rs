//! What chooses a replica for each call of one client, and the plain rules that byname's is compared with.

use fastrand::Rng;
use tokio::time::Instant;

/// One client's choice among replicas, which are numbered.
pub trait Balancer {
    /// What the balancer keeps of a call in flight.
    type Sent;

    fn new(replicas: usize, random: Rng, now: Instant) -> Self;

    /// A replica joins. Its number is the next.
    fn join(&mut self, replica: usize, now: Instant);

    /// Only the oracle may look at the loads.
    fn choose(&mut self, loads: &[Load], now: Instant) -> (usize, Self::Sent);

    fn ended(&mut self, sent: Self::Sent, ended: Ended, now: Instant);
}

/// How a replica is in truth.
#[derive(Clone, Debug)]
pub struct Load {
    /// Those on their way to it included.
    pub calls: u32,
    pub slowness: f64,
    /// It fails calls, or refuses them.
    pub is_failing: bool,
    pub is_frozen: bool,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ended {
    pub replica: usize,
    pub is_answered: bool,
    /// It said that it has too much to do.
    pub is_refused: bool,
    /// The replica's other calls in flight when it answered, or failed the call.
    pub report: Option<u32>,
}

/// The better of two by the client's own calls in flight.
pub struct OwnCalls {
    calls: Vec<u32>,
    random: Rng,
}

impl Balancer for OwnCalls {
    type Sent = ();

    fn new(replicas: usize, random: Rng, _: Instant) -> Self {
        Self { calls: vec![0; replicas], random }
    }

    fn join(&mut self, _: usize, _: Instant) {
        self.calls.push(0);
    }

    fn choose(&mut self, _: &[Load], _: Instant) -> (usize, ()) {
        let (first, second) = two(self.calls.len(), &mut self.random);
        let chosen = if self.calls[second] < self.calls[first] { second } else { first };
        self.calls[chosen] += 1;
        (chosen, ())
    }

    fn ended(&mut self, (): (), ended: Ended, _: Instant) {
        self.calls[ended.replica] -= 1;
    }
}

/// The better of two by what the replicas said last.
pub struct LastReport {
    reports: Vec<u32>,
    random: Rng,
}

impl Balancer for LastReport {
    type Sent = ();

    fn new(replicas: usize, random: Rng, _: Instant) -> Self {
        Self { reports: vec![0; replicas], random }
    }

    fn join(&mut self, _: usize, _: Instant) {
        self.reports.push(0);
    }

    fn choose(&mut self, _: &[Load], _: Instant) -> (usize, ()) {
        let (first, second) = two(self.reports.len(), &mut self.random);
        (if self.reports[second] < self.reports[first] { second } else { first }, ())
    }

    fn ended(&mut self, (): (), ended: Ended, _: Instant) {
        if let Some(report) = ended.report {
            self.reports[ended.replica] = report;
        }
    }
}

/// The best of all by what is true at this moment.
pub struct Oracle(Rng);

impl Balancer for Oracle {
    type Sent = ();

    fn new(_: usize, random: Rng, _: Instant) -> Self {
        Self(random)
    }

    fn join(&mut self, _: usize, _: Instant) {}

    fn choose(&mut self, loads: &[Load], _: Instant) -> (usize, ()) {
        let start = self.0.usize(..loads.len());
        let time = |index: &usize| {
            let load = &loads[*index];
            let is_well = !load.is_failing && !load.is_frozen;
            if is_well { f64::from(load.calls + 4) * load.slowness } else { f64::INFINITY }
        };
        let all = (0..loads.len()).map(|index| (start + index) % loads.len());
        (all.min_by(|a, b| time(a).total_cmp(&time(b))).expect("there is a replica"), ())
    }

    fn ended(&mut self, (): (), _: Ended, _: Instant) {}
}

fn two(count: usize, random: &mut Rng) -> (usize, usize) {
    let first = random.usize(..count);
    let second = random.usize(..count - 1);
    (first, second + usize::from(second >= first))
}
