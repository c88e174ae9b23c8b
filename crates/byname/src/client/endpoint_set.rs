//! The endpoints of a service: [`EndpointSet`] finds them by their addresses, and says which is tried first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Id;
use tokio::time::Instant;

use super::address_order::AddressOrder;
use super::endpoint::{Endpoint, IdleHttpConnection};
use super::replica_address::ReplicaAddress;
use crate::address::Address;

pub(super) struct EndpointSet {
    known: Mutex<KnownEndpoints>,
    /// Whether bodies are compressed.
    compress: bool,
    /// The turn of the connection that became idle last.
    turns: AtomicU64,
}

#[derive(Default)]
struct KnownEndpoints {
    endpoints: Vec<Arc<Endpoint>>,
    order: AddressOrder,
}

impl EndpointSet {
    pub(super) fn new(compress: bool) -> Self {
        Self { known: Mutex::default(), compress, turns: AtomicU64::new(0) }
    }

    /// These addresses are those of the service now. Returns them in the order in which a new connection tries them.
    pub(super) fn ordered(&self, mut addresses: Vec<Address>) -> Vec<Address> {
        self.known().order.order(&mut addresses);
        addresses
    }

    /// Only these are the replicas of the service now. Returns the idle connections to others.
    pub(super) fn list(&self, replicas: &[ReplicaAddress]) -> Vec<IdleHttpConnection> {
        let mut closed = Vec::new();
        for endpoint in &self.known().endpoints {
            let is_listed = replicas.iter().any(|replica| endpoint.is_of(replica));
            endpoint.set_listed(is_listed);
            if !is_listed {
                closed.extend(std::iter::from_fn(|| endpoint.pool().take_oldest()));
            }
        }
        closed
    }

    /// The endpoint of this replica. Endpoints that nothing uses any more are forgotten.
    pub(super) fn at(&self, replica: ReplicaAddress) -> Arc<Endpoint> {
        let mut known = self.known();
        if let Some(found) = known.endpoints.iter().find(|endpoint| endpoint.is_of(&replica)) {
            return Arc::clone(found);
        }
        known.endpoints.retain(|endpoint| Arc::strong_count(endpoint) > 1 || endpoint.pool().len() > 0);
        let added = Arc::new(Endpoint::new(replica, self.compress));
        known.endpoints.push(Arc::clone(&added));
        added
    }

    /// A call there timed out, or a connection to it was not ready in time. The next call goes to another endpoint, if
    /// there is one.
    pub(super) fn timed_out(&self, address: &Address) {
        self.known().order.timed_out(address);
    }

    /// The idle connection of this runtime that was used last, at an endpoint that answers. Those that are too old are
    /// moved to `closed`: the caller drops them.
    pub(super) fn take_idle(
        &self,
        runtime: Id,
        now: Instant,
        closed: &mut Vec<IdleHttpConnection>,
    ) -> Option<(Arc<Endpoint>, IdleHttpConnection)> {
        let known = self.known();
        loop {
            let usable = known.endpoints.iter().filter(|endpoint| !known.order.is_avoided(endpoint.address()));
            let newest = usable.filter_map(|endpoint| Some((endpoint.pool().newest(&runtime)?, endpoint)));
            let (_, endpoint) = newest.max_by_key(|(turn, _)| *turn)?;
            if let Some(taken) = endpoint.pool().take(&runtime, now, closed) {
                return Some((Arc::clone(endpoint), taken));
            }
        }
    }

    /// Keeps a connection until then, after an answer.
    pub(super) fn keep(&self, endpoint: &Endpoint, connection: IdleHttpConnection, until: Instant) {
        self.known().order.answered(endpoint.address());
        endpoint.keep(connection, self.turns.fetch_add(1, Ordering::Relaxed), until);
    }

    /// Makes room for a new connection beside `busy` ones. Returns the oldest idle ones, which can only belong to other
    /// runtimes or to endpoints that are avoided.
    pub(super) fn make_room(&self, busy: usize, limit: usize) -> Vec<IdleHttpConnection> {
        let known = self.known();
        let idle: usize = known.endpoints.iter().map(|endpoint| endpoint.pool().len()).sum();
        let surplus = (idle + busy).saturating_sub(limit);
        let oldest = || {
            let first = known.endpoints.iter().filter_map(|endpoint| Some((endpoint.pool().oldest()?, endpoint)));
            first.min_by_key(|(turn, _)| *turn).and_then(|(_, endpoint)| endpoint.pool().take_oldest())
        };
        std::iter::from_fn(oldest).take(surplus).collect()
    }

    /// Takes out all idle connections of this runtime.
    pub(super) fn let_go(&self, runtime: Id) -> Vec<IdleHttpConnection> {
        self.known().endpoints.iter().flat_map(|endpoint| endpoint.pool().let_go(&runtime)).collect()
    }

    fn known(&self) -> MutexGuard<'_, KnownEndpoints> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
