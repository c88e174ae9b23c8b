//! Where the attempts at one call have gone to: [`TriedReplicas`].

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderMap;

use super::replica_choice::ReplicaId;
use crate::address::Address;
use crate::wire::headers::{AnsweringServer, KeySharing};
use crate::wire::instance_and_load::InstanceId;

/// The replicas to which a call was sent. Attempts beside each other share it, so that they go to different ones.
#[derive(Debug, Default)]
pub(super) struct TriedReplicas(Mutex<AttemptedReplicas>);

#[derive(Debug, Default)]
struct AttemptedReplicas {
    ids: Vec<ReplicaId>,
    last: Option<AttemptedServer>,
}

/// The server that the last attempt at a call with a key went to.
#[derive(Clone, Debug)]
pub(super) struct AttemptedServer {
    /// `None` if it has not said which one it is.
    pub(super) instance: Option<InstanceId>,
    pub(super) address: Address,
    /// Which servers know the replies of the calls with a key that it has run, if it has said so.
    pub(super) keys: Option<KeySharing>,
}

impl AttemptedServer {
    /// The same server, which has answered with these headers.
    pub(super) fn told_by(self, answer: &HeaderMap) -> Self {
        let instance = self.instance.or_else(|| InstanceId::of_answer(answer));
        let keys = AnsweringServer::of(answer).keys.or(self.keys);
        Self { instance, keys, ..self }
    }
}

impl TriedReplicas {
    pub(super) fn new(tried: Option<ReplicaId>, last: Option<AttemptedServer>) -> Self {
        Self(Mutex::new(AttemptedReplicas { ids: Vec::from_iter(tried), last }))
    }

    /// An attempt goes to this replica. `None` if the client counts no replicas.
    pub(super) fn extend(&self, replica: Option<ReplicaId>) {
        let Some(replica) = replica else { return };
        let ids = &mut self.attempted().ids;
        if !ids.contains(&replica) {
            ids.push(replica);
        }
    }

    /// All of them, in the order of the attempts.
    pub(super) fn all(&self) -> Vec<ReplicaId> {
        self.attempted().ids.clone()
    }

    /// An attempt at a call with a key goes to this server.
    pub(super) fn went_to(&self, server: AttemptedServer) {
        self.attempted().last = Some(server);
    }

    /// The server that the last attempt at a call with a key went to.
    pub(super) fn last_server(&self) -> Option<AttemptedServer> {
        self.attempted().last.clone()
    }

    fn attempted(&self) -> MutexGuard<'_, AttemptedReplicas> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
