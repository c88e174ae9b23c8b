//! The endpoints of a service: [`EndpointSet`] finds them by their addresses, and says which one the next call over HTTP
//! goes to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use tokio::runtime::Id;
use tokio::time::Instant;

use super::address_order::AddressOrder;
use super::affinity::ReplicaWish;
use super::discovery::Answer;
use super::endpoint::{Endpoint, IdleHttpConnection};
use super::http_instance_search::{ConnectionInstance, HttpInstanceSearch};
use super::http_replica_choice::HttpReplicaChoice;
use super::replica_address::ReplicaAddress;
use super::replica_choice::{ReplicaId, ReplicaView, SentCall};
use super::replica_load::ReplicaOutcome;
use super::replica_subset::ReplicaSubset;
use super::runtime_connections::SPREAD;
use crate::address::Address;
use crate::clock_and_chance::random_source;
use crate::wire::instance_and_load::InstanceId;

pub(super) struct EndpointSet {
    known: Mutex<KnownEndpoints>,
    /// Whether bodies are compressed.
    compress: bool,
    /// The turn of the connection that became idle last.
    turns: AtomicU64,
}

struct KnownEndpoints {
    endpoints: Vec<Arc<Endpoint>>,
    order: AddressOrder,
    replicas: HttpReplicaChoice,
    chance: Rng,
    search: HttpInstanceSearch,
    /// The answer of discovery that they are listed by.
    version: u64,
}

/// Where the next call goes.
#[derive(Default)]
pub(super) struct ChosenEndpoint {
    /// `None` if there is no choice.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// An idle connection, if there is one. It goes to the chosen endpoint, if one was chosen.
    pub(super) idle: Option<(Arc<Endpoint>, IdleHttpConnection)>,
    pub(super) count: EndpointCount,
}

/// A call over HTTP counts at its replica until [`ended`](Self::ended) says how it ended. Dropping this means that the
/// caller gave up. With one replica nothing is counted.
#[derive(Default)]
pub(super) struct EndpointCount(Option<(Arc<EndpointSet>, SentCall)>);

impl EndpointSet {
    /// Calls are spread over at most as many endpoints as there may be connections, but always over two, so that a call
    /// that has failed at one can go to another.
    pub(super) fn new(compress: bool, connections: usize, subset: ReplicaSubset) -> Arc<Self> {
        let known = KnownEndpoints {
            endpoints: Vec::new(),
            order: AddressOrder::default(),
            replicas: HttpReplicaChoice::new(connections.clamp(2, SPREAD), subset, Instant::now()),
            chance: random_source(),
            search: HttpInstanceSearch::new(),
            version: 0,
        };
        Arc::new(Self { known: Mutex::new(known), compress, turns: AtomicU64::new(0) })
    }

    /// How many connections are idle.
    pub(super) fn idle_count(&self) -> usize {
        self.known().idle()
    }

    /// These addresses are those of the service now. Returns them in the order in which a new connection of this call tries
    /// them: that of the chosen endpoint first, and those last that the call should not go to.
    pub(super) fn ordered(
        &self,
        mut addresses: Vec<Address>,
        chosen: &ChosenEndpoint,
        wish: ReplicaWish<'_>,
    ) -> Vec<Address> {
        let mut known = self.known();
        known.order.order(&mut addresses);
        if let Some(pinned) = wish.pinned {
            addresses.retain(|address| *address == pinned.address);
        }
        if let Some(first) = &chosen.endpoint {
            addresses.sort_by_cached_key(|address| {
                (address != first.address(), known.replicas.is_avoided(address, wish.tried))
            });
        }
        addresses
    }

    /// Only the replicas of this answer are those of the service now, unless a later answer is known. Returns the idle
    /// connections to others.
    pub(super) fn list(&self, answer: &Answer, now: Instant) -> Vec<IdleHttpConnection> {
        let mut closed = Vec::new();
        let known = &mut *self.known();
        if answer.version < known.version {
            return closed;
        }
        known.version = answer.version;
        let replicas = &*answer.replicas;
        for endpoint in &known.endpoints {
            let is_listed = replicas.iter().any(|replica| endpoint.is_of(replica));
            endpoint.set_listed(is_listed);
            if !is_listed {
                closed.extend(std::iter::from_fn(|| endpoint.pool().take_oldest()));
            }
        }
        let KnownEndpoints { endpoints, replicas: choice, .. } = known;
        choice.list(replicas, now, |replica| at(endpoints, replica, self.compress));
        closed
    }

    /// The endpoint of this replica, to which a connection was opened. A call that was sent to another one has failed there.
    pub(super) fn connected(
        self: &Arc<Self>,
        replica: &ReplicaAddress,
        mut chosen: ChosenEndpoint,
        now: Instant,
    ) -> (Arc<Endpoint>, EndpointCount) {
        if let Some(endpoint) = chosen.endpoint.filter(|endpoint| endpoint.is_of(replica)) {
            if let Some((_, sent)) = &mut chosen.count.0 {
                self.known().replicas.sent_only_now(sent, now);
            }
            return (endpoint, chosen.count);
        }
        chosen.count.ended(ReplicaOutcome::Failed, None);
        let KnownEndpoints { endpoints, replicas, .. } = &mut *self.known();
        let sent = replicas.connected(replica, now, |replica| at(endpoints, replica, self.compress));
        (at(endpoints, replica, self.compress), EndpointCount::new(self, sent))
    }

    /// What is known of each replica that calls are spread over.
    pub(super) fn views(&self, now: Instant) -> Vec<(Address, ReplicaView)> {
        self.known().replicas.views(now).collect()
    }

    /// A call there timed out, or a connection to it was not ready in time. The next call goes to another endpoint, if
    /// there is one.
    pub(super) fn timed_out(&self, address: &Address) {
        self.known().order.timed_out(address);
    }

    /// Where the next call of this runtime goes. There is `room` for this number of idle connections. Those that are too old
    /// are moved to `closed`: the caller drops them. `None` if the call goes only to another replica and there is none.
    pub(super) fn choose(
        self: &Arc<Self>,
        runtime: Id,
        wish: ReplicaWish<'_>,
        room: usize,
        now: Instant,
        closed: &mut Vec<IdleHttpConnection>,
    ) -> Option<ChosenEndpoint> {
        let known = &mut *self.known();
        if let Some(pinned) = wish.pinned {
            let endpoint = known.endpoints.iter().find(|endpoint| *endpoint.address() == pinned.address).cloned();
            let idle = endpoint.as_ref().and_then(|endpoint| endpoint.pool().take(&runtime, now, closed));
            let idle = endpoint.clone().zip(idle);
            return Some(ChosenEndpoint { idle, endpoint, ..ChosenEndpoint::default() });
        }
        if !known.replicas.has_several() {
            if wish.only_elsewhere {
                return None;
            }
            let idle = known.take_newest(runtime, now, closed);
            return Some(ChosenEndpoint { idle, ..ChosenEndpoint::default() });
        }
        let KnownEndpoints { replicas, chance, .. } = known;
        let Some((mut endpoint, mut sent)) = replicas.choose(wish, now, chance) else {
            return Some(ChosenEndpoint::default());
        };
        // Before a connection is taken: one that is put back unused would be kept for longer.
        if wish.only_elsewhere && wish.tried.contains(&sent.replica) {
            replicas.ended(sent, ReplicaOutcome::Cancelled, None, now);
            return None;
        }
        let mut idle = endpoint.pool().take(&runtime, now, closed);
        // A connection to another replica would be closed for a new one.
        if idle.is_none() && wish.affinity.is_none() && !sent.is_probe() && known.idle() > room {
            let KnownEndpoints { replicas, chance, .. } = known;
            let is_excluded = |(id, endpoint): &(ReplicaId, &Arc<Endpoint>)| {
                wish.tried.contains(id) || endpoint.pool().newest(&runtime).is_none()
            };
            let excluded: Vec<_> = replicas.members().filter(is_excluded).map(|(id, _)| id).collect();
            if excluded.len() < replicas.members().count() {
                replicas.ended(sent, ReplicaOutcome::Cancelled, None, now);
                let Some(other) = replicas.choose(ReplicaWish { tried: &excluded, ..wish }, now, chance) else {
                    return Some(ChosenEndpoint::default());
                };
                (endpoint, sent) = other;
                idle = endpoint.pool().take(&runtime, now, closed);
            }
        }
        let count = EndpointCount::new(self, Some(sent));
        Some(ChosenEndpoint { idle: idle.map(|idle| (Arc::clone(&endpoint), idle)), endpoint: Some(endpoint), count })
    }

    /// Keeps a connection until then, after an answer.
    pub(super) fn keep(&self, endpoint: &Endpoint, connection: IdleHttpConnection, until: Instant) {
        self.known().order.answered(endpoint.address());
        endpoint.keep(connection, self.turns.fetch_add(1, Ordering::Relaxed), until);
    }

    /// A connection to this endpoint has answered. `said` reads the instance of its server. Returns whether another one is to be
    /// opened there, because others may be behind the same address. There is `room` for this number of idle connections, this
    /// one included.
    pub(super) fn answered(
        &self,
        endpoint: &Endpoint,
        instance: &mut ConnectionInstance,
        said: impl FnOnce() -> Option<InstanceId>,
        room: usize,
    ) -> bool {
        let known = &mut *self.known();
        if matches!(instance, ConnectionInstance::Unknown) {
            *instance = known.search.told(endpoint.address(), said());
        }
        known.search.answered() && known.idle() + 1 < room
    }

    /// Makes room for a new connection beside `busy` ones. Returns the oldest idle ones.
    pub(super) fn make_room(&self, busy: usize, limit: usize) -> Vec<IdleHttpConnection> {
        let known = self.known();
        let surplus = (known.idle() + busy).saturating_sub(limit);
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

impl KnownEndpoints {
    /// The idle connection of this runtime that was used last, at an endpoint that answers.
    fn take_newest(
        &self,
        runtime: Id,
        now: Instant,
        closed: &mut Vec<IdleHttpConnection>,
    ) -> Option<(Arc<Endpoint>, IdleHttpConnection)> {
        loop {
            let usable = self.endpoints.iter().filter(|endpoint| !self.order.is_avoided(endpoint.address()));
            let newest = usable.filter_map(|endpoint| Some((endpoint.pool().newest(&runtime)?, endpoint)));
            let (_, endpoint) = newest.max_by_key(|(turn, _)| *turn)?;
            if let Some(taken) = endpoint.pool().take(&runtime, now, closed) {
                return Some((Arc::clone(endpoint), taken));
            }
        }
    }

    /// How many connections are idle.
    fn idle(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.pool().len()).sum()
    }
}

/// The endpoint of this replica. Endpoints that nothing uses any more are forgotten.
fn at(endpoints: &mut Vec<Arc<Endpoint>>, replica: &ReplicaAddress, compress: bool) -> Arc<Endpoint> {
    if let Some(found) = endpoints.iter().find(|endpoint| endpoint.is_of(replica)) {
        return Arc::clone(found);
    }
    endpoints.retain(|endpoint| Arc::strong_count(endpoint) > 1 || endpoint.pool().len() > 0);
    let added = Arc::new(Endpoint::new(replica.clone(), compress));
    endpoints.push(Arc::clone(&added));
    added
}

impl EndpointCount {
    fn new(set: &Arc<EndpointSet>, sent: Option<SentCall>) -> Self {
        Self(sent.filter(SentCall::is_counted).map(|sent| (Arc::clone(set), sent)))
    }

    /// The replica at which the call counts.
    pub(super) fn replica(&self) -> Option<ReplicaId> {
        self.0.as_ref().map(|(_, sent)| sent.replica)
    }

    /// The address of that replica, if it is still one.
    pub(super) fn address(&self) -> Option<Address> {
        let (set, sent) = self.0.as_ref()?;
        let known = set.known();
        let (_, endpoint) = known.replicas.members().find(|(id, _)| *id == sent.replica)?;
        Some(endpoint.address().clone())
    }

    /// The call has ended. `calls` is what the replica said of its calls in flight, if it did.
    pub(super) fn ended(mut self, outcome: ReplicaOutcome, calls: Option<u32>) {
        self.give_back(outcome, calls);
    }

    fn give_back(&mut self, outcome: ReplicaOutcome, calls: Option<u32>) {
        if let Some((set, sent)) = self.0.take() {
            set.known().replicas.ended(sent, outcome, calls, Instant::now());
        }
    }
}

impl Drop for EndpointCount {
    /// The caller gave up.
    fn drop(&mut self) {
        self.give_back(ReplicaOutcome::Cancelled, None);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::client::endpoint_url::EndpointUrl;

    fn replica(port: u16) -> ReplicaAddress {
        ReplicaAddress { address: SocketAddr::from(([127, 0, 0, 1], port)).into(), url: Arc::new(EndpointUrl::plain()) }
    }

    fn answer(version: u64, ports: &[u16]) -> Answer {
        Answer { replicas: Arc::new(ports.iter().copied().map(replica).collect()), version }
    }

    fn set(ports: &[u16]) -> Arc<EndpointSet> {
        let set = EndpointSet::new(false, 128, ReplicaSubset::random(1));
        set.list(&answer(1, ports), Instant::now());
        set
    }

    fn ports(addresses: &[Address]) -> Vec<u16> {
        addresses.iter().filter_map(Address::port).collect()
    }

    #[test]
    fn an_older_answer_that_is_listed_late_changes_nothing() {
        let (set, now) = (set(&[1]), Instant::now());
        let listed = |set: &EndpointSet| {
            let mut listed = ports(&set.views(now).into_iter().map(|(address, _)| address).collect::<Vec<_>>());
            listed.sort_unstable();
            listed
        };
        set.list(&answer(3, &[1, 2]), now);
        set.list(&answer(2, &[1]), now);
        assert_eq!(listed(&set), [1, 2]);
        set.list(&answer(4, &[2]), now);
        assert_eq!(listed(&set), [2]);
    }

    #[tokio::test]
    async fn a_call_that_goes_only_elsewhere_is_not_sent_where_there_is_no_other_replica() {
        let (set, now, runtime) = (set(&[1, 2]), Instant::now(), tokio::runtime::Handle::current().id());
        let ids: Vec<_> = set.views(now).into_iter().map(|(_, view)| view.id).collect();
        let choose = |set: &Arc<EndpointSet>, tried: &[ReplicaId], only_elsewhere| {
            let wish = ReplicaWish { tried, only_elsewhere, ..ReplicaWish::default() };
            set.choose(runtime, wish, 10, now, &mut Vec::new())
        };
        let in_flight = || set.views(now).iter().map(|(_, view)| view.in_flight).sum::<u32>();
        assert!(choose(&set, &ids, true).is_none() && in_flight() == 0);
        let chosen = choose(&set, &ids[..1], true).expect("there is another");
        assert_eq!((chosen.count.replica(), in_flight()), (Some(ids[1]), 1));
        assert!(choose(&set, &ids, false).is_some());
        let alone = self::set(&[1]);
        assert!(choose(&alone, &[], true).is_none() && choose(&alone, &[], false).is_some());
    }

    #[test]
    fn a_connection_is_tried_at_the_chosen_replica_first_and_where_the_call_has_failed_last() {
        let (set, now) = (set(&[1, 2, 3]), Instant::now());
        let id = |port: u16| {
            let views = set.views(now);
            views
                .iter()
                .find(|(address, _)| address.port() == Some(port))
                .map(|(_, view)| view.id)
                .expect("it is listed")
        };
        let addresses = || answer(1, &[1, 2, 3]).addresses();
        let chosen = |port| ChosenEndpoint {
            endpoint: Some(at(&mut set.known().endpoints, &replica(port), false)),
            ..ChosenEndpoint::default()
        };
        let tried = [id(1)];
        let wish = ReplicaWish { tried: &tried, ..ReplicaWish::default() };
        assert_eq!(ports(&set.ordered(addresses(), &chosen(2), wish)), [2, 3, 1]);
        assert_eq!(ports(&set.ordered(addresses(), &chosen(3), ReplicaWish::default())), [3, 1, 2]);
        assert_eq!(ports(&set.ordered(addresses(), &ChosenEndpoint::default(), wish)), [1, 2, 3], "there is no choice");
        // The first replica fails until it is ejected.
        let first = id(1);
        for _ in 0..5 {
            let sent = set.known().replicas.send_to(first, now).expect("it is listed");
            set.known().replicas.ended(sent, ReplicaOutcome::Failed, None, now);
        }
        assert_eq!(ports(&set.ordered(addresses(), &chosen(2), ReplicaWish::default())), [2, 3, 1]);
    }
}
