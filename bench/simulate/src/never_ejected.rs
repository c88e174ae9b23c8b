//! In the place of the client's ejection: no replica is ever ejected.

use tokio::time::Instant;

use super::replica_load::ReplicaOutcome;

#[derive(Debug)]
pub(super) struct Ejection;

impl Ejection {
    pub(super) fn new(_: Instant) -> Self {
        Self
    }

    pub(super) fn ended(&mut self, _: ReplicaOutcome, _: Instant) -> bool {
        false
    }

    pub(super) fn eject(&mut self, _: Instant) {}

    pub(super) fn is_serving(&self) -> bool {
        true
    }

    pub(super) fn probe_at(&self) -> Option<Instant> {
        None
    }

    pub(super) fn probe(&mut self) {}

    pub(super) fn probed(&mut self, _: ReplicaOutcome, _: Instant) {}

    pub(super) fn readmit(&mut self, _: Instant) {}
}
