//! The replicas that the attempts at one call have gone to: [`TriedReplicas`].

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::replica_choice::ReplicaId;

/// The replicas to which a call was sent. Attempts beside each other share it, so that they go to different ones.
#[derive(Debug, Default)]
pub(super) struct TriedReplicas(Mutex<Vec<ReplicaId>>);

impl TriedReplicas {
    pub(super) fn new(tried: Option<ReplicaId>) -> Self {
        Self(Mutex::new(Vec::from_iter(tried)))
    }

    /// An attempt goes to this replica. `None` if the client counts no replicas.
    pub(super) fn extend(&self, replica: Option<ReplicaId>) {
        let Some(replica) = replica else { return };
        let mut ids = self.ids();
        if !ids.contains(&replica) {
            ids.push(replica);
        }
    }

    /// All of them, in the order of the attempts.
    pub(super) fn all(&self) -> Vec<ReplicaId> {
        self.ids().clone()
    }

    fn ids(&self) -> MutexGuard<'_, Vec<ReplicaId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
