//! byname's choice as a [`Balancer`].

use fastrand::Rng;
use tokio::time::Instant;

use super::replica_choice::{ReplicaChoice, ReplicaId, SentCall};
use super::replica_load::ReplicaOutcome;
use crate::balancer::{Balancer, Ended, Load};

pub struct BynameClient {
    choice: ReplicaChoice,
    /// By their numbers in the simulation.
    replicas: Vec<ReplicaId>,
    random: Rng,
}

/// A call in flight.
pub struct BynameCall(SentCall);

impl Balancer for BynameClient {
    type Sent = BynameCall;

    fn new(replicas: usize, random: Rng, now: Instant) -> Self {
        let mut choice = ReplicaChoice::new(now);
        let replicas = (0..replicas).map(|_| choice.add(now)).collect();
        Self { choice, replicas, random }
    }

    fn join(&mut self, _: usize, now: Instant) {
        self.replicas.push(self.choice.join(now));
    }

    fn choose(&mut self, _: &[Load], now: Instant) -> (usize, BynameCall) {
        let sent = self.choice.choose(&[], now, &mut self.random).expect("there are replicas");
        let replica = self.replicas.iter().position(|id| *id == sent.replica).expect("it is one of them");
        (replica, BynameCall(sent))
    }

    fn ended(&mut self, BynameCall(sent): BynameCall, ended: Ended, now: Instant) {
        if let Some(report) = ended.report.filter(|_| ended.is_answered) {
            self.choice.reported(&sent, report, now);
        }
        let outcome = match (ended.is_answered, ended.is_refused) {
            (true, _) => ReplicaOutcome::Answered,
            (false, true) => ReplicaOutcome::Refused,
            (false, false) => ReplicaOutcome::Failed,
        };
        self.choice.ended(sent, outcome, now);
    }
}
