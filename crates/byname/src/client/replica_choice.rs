//! Which replica of a service gets the next call: [`ReplicaChoice`]. A state machine without a clock.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::ejection::Ejection;
use super::replica_load::{ReplicaLoad, ReplicaOutcome, ServiceLoad};

/// The replicas that a client knows.
///
/// A call goes to the best of three that are chosen at random. With one replica nothing is counted and nothing computed.
#[derive(Debug, Default)]
pub(super) struct ReplicaChoice {
    /// Those that get calls, then those that are ejected.
    replicas: Vec<Replica>,
    serving: usize,
    service: ServiceLoad,
    /// The earliest time at which an ejected replica is tried.
    probe_at: Option<Instant>,
    joined: u32,
}

/// Names one replica for as long as the client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplicaId(u32);

#[derive(Debug)]
struct Replica {
    id: ReplicaId,
    load: ReplicaLoad,
    ejection: Ejection,
    /// When it joined those that were there before. `None` if it was there first, or long ago.
    joined: Option<Instant>,
}

/// A call that was sent to a replica. It is given back when it has ended.
#[must_use]
#[derive(Debug)]
pub(super) struct SentCall {
    pub(super) replica: ReplicaId,
    sent: Instant,
    kind: SentCallKind,
}

impl SentCall {
    /// Whether it must be given back. A call is not counted where there is no other replica.
    pub(super) fn is_counted(&self) -> bool {
        self.kind != SentCallKind::Uncounted
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SentCallKind {
    /// There was no other replica.
    Uncounted,
    Counted,
    /// It tries an ejected replica.
    Probe,
}

/// So many are compared.
const COMPARED: usize = 3;
/// The share of a replica that joins grows for so long.
const GROWS_FOR: Duration = Duration::from_secs(10);

impl ReplicaChoice {
    /// A replica that is there from the beginning.
    pub(super) fn add(&mut self, now: Instant) -> ReplicaId {
        self.insert(now, None)
    }

    /// A replica that joins the others. Its share of the calls grows.
    pub(super) fn join(&mut self, now: Instant) -> ReplicaId {
        self.insert(now, Some(now))
    }

    fn insert(&mut self, now: Instant, joined: Option<Instant>) -> ReplicaId {
        let id = ReplicaId(self.joined);
        self.joined += 1;
        let replica = Replica { id, load: ReplicaLoad::new(), ejection: Ejection::new(now), joined };
        self.replicas.push(replica);
        let last = self.replicas.len() - 1;
        self.replicas.swap(self.serving, last);
        self.serving += 1;
        id
    }

    /// A replica has gone. Its calls may still end.
    pub(super) fn leave(&mut self, id: ReplicaId, now: Instant) {
        let Some(index) = self.position(id) else { return };
        let index = self.move_if_serving(index);
        self.replicas.swap_remove(index);
        while self.replicas.len() - self.serving > self.replicas.len() / 2 {
            self.replicas[self.serving].ejection.readmit(now);
            self.serving += 1;
        }
        self.set_probe_at();
    }

    /// Chooses the replica of a call, and counts the call as sent. `tried` are those at which the call has failed: they
    /// get it again only if there is no other. `None` without replicas.
    pub(super) fn choose(&mut self, tried: &[ReplicaId], now: Instant, random: &mut Rng) -> Option<SentCall> {
        if let [only] = &self.replicas[..] {
            return Some(SentCall { replica: only.id, sent: now, kind: SentCallKind::Uncounted });
        }
        let probed = if tried.is_empty() { self.probe(now) } else { None };
        let kind = if probed.is_some() { SentCallKind::Probe } else { SentCallKind::Counted };
        let index = match probed {
            Some(index) => index,
            None => self.best_of_three(tried, now, random)?,
        };
        let replica = &mut self.replicas[index];
        replica.load.sent(now);
        Some(SentCall { replica: replica.id, sent: now, kind })
    }

    /// The replica of a call said how many calls it has in flight, beside that one.
    pub(super) fn reported(&mut self, call: &SentCall, calls: u32, now: Instant) {
        if call.kind != SentCallKind::Uncounted
            && let Some(index) = self.position(call.replica)
        {
            self.replicas[index].load.reported(calls, now, &mut self.service);
        }
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, call: SentCall, outcome: ReplicaOutcome, now: Instant) {
        if call.kind == SentCallKind::Uncounted {
            return;
        }
        let Some(index) = self.position(call.replica) else { return };
        let may_eject = self.replicas.len() - self.serving < self.replicas.len() / 2;
        let replica = &mut self.replicas[index];
        let latency = now.saturating_duration_since(call.sent);
        replica.load.ended(outcome, latency, now, &mut self.service);
        if call.kind == SentCallKind::Probe {
            replica.ejection.probed(outcome, now);
            if replica.ejection.is_serving() {
                self.replicas.swap(self.serving, index);
                self.serving += 1;
            }
            self.set_probe_at();
        } else if replica.ejection.ended(outcome, now) && may_eject {
            replica.ejection.eject(now);
            self.move_if_serving(index);
            self.set_probe_at();
        }
    }

    /// An ejected replica that is to be tried now.
    fn probe(&mut self, now: Instant) -> Option<usize> {
        self.probe_at.filter(|at| *at <= now)?;
        let is_due = |replica: &Replica| replica.ejection.probe_at().is_some_and(|at| at <= now);
        let index = self.serving + self.replicas[self.serving..].iter().position(is_due)?;
        self.replicas[index].ejection.probe();
        self.set_probe_at();
        Some(index)
    }

    /// The best of up to three that get calls.
    fn best_of_three(&self, tried: &[ReplicaId], now: Instant, random: &mut Rng) -> Option<usize> {
        let mut best = Best::default();
        let mut growing = Best::default();
        let mut again = Best::default();
        let (sampled, count) = sample(self.serving, random);
        for index in sampled.into_iter().take(count) {
            let replica = &self.replicas[index];
            let rank = if tried.contains(&replica.id) {
                &mut again
            } else if replica.is_held_back(now, random) {
                &mut growing
            } else {
                &mut best
            };
            rank.offer(index, replica.load.score(&self.service, now));
        }
        best.index.or(growing.index).or_else(|| self.best_untried(tried, now)).or(again.index)
    }

    /// The best of all that get calls and have not failed this one.
    fn best_untried(&self, tried: &[ReplicaId], now: Instant) -> Option<usize> {
        let mut best = Best::default();
        for (index, replica) in self.replicas[..self.serving].iter().enumerate() {
            if !tried.contains(&replica.id) {
                best.offer(index, replica.load.score(&self.service, now));
            }
        }
        best.index
    }

    fn position(&self, id: ReplicaId) -> Option<usize> {
        self.replicas.iter().position(|replica| replica.id == id)
    }

    /// Moves a replica that gets calls to those that are ejected. Says where it is now.
    fn move_if_serving(&mut self, index: usize) -> usize {
        if index >= self.serving {
            return index;
        }
        self.serving -= 1;
        self.replicas.swap(index, self.serving);
        self.serving
    }

    fn set_probe_at(&mut self) {
        self.probe_at = self.replicas[self.serving..].iter().filter_map(|replica| replica.ejection.probe_at()).min();
    }
}

impl Replica {
    /// Whether it is passed over this time, so that its share grows.
    fn is_held_back(&self, now: Instant, random: &mut Rng) -> bool {
        self.joined.is_some_and(|joined| {
            let age = now.saturating_duration_since(joined);
            age < GROWS_FOR && random.f64() * GROWS_FOR.as_secs_f64() >= age.as_secs_f64()
        })
    }
}

/// The first of those with the lowest score.
#[derive(Debug, Default)]
struct Best {
    index: Option<usize>,
    score: f64,
}

impl Best {
    fn offer(&mut self, index: usize, score: f64) {
        if self.index.is_none() || score < self.score {
            *self = Self { index: Some(index), score };
        }
    }
}

/// Up to three different numbers below `count`, in random order, so that ties end at random.
fn sample(count: usize, random: &mut Rng) -> ([usize; COMPARED], usize) {
    let [mut first, mut second, mut third] = [0; COMPARED];
    if count > 0 {
        first = random.usize(..count);
    }
    if count > 1 {
        second = random.usize(..count - 1);
        second += usize::from(second >= first);
    }
    if count > 2 {
        third = random.usize(..count - 2);
        third += usize::from(third >= first.min(second));
        third += usize::from(third >= first.max(second));
    }
    ([first, second, third], count.min(COMPARED))
}
