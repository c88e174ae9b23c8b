//! Which endpoint the next call over HTTP goes to: [`HttpReplicaChoice`]. A state machine without sockets, without a clock and
//! without chance of its own.

use std::sync::Arc;

use fastrand::Rng;
use tokio::time::Instant;

use super::affinity::{Affinity, ReplicaWish};
use super::endpoint::Endpoint;
use super::replica_address::ReplicaAddress;
use super::replica_choice::{ReplicaChoice, ReplicaId, ReplicaView, SentCall};
use super::replica_load::ReplicaOutcome;
use super::replica_subset::ReplicaSubset;
use crate::address::Address;

/// The replicas of a service, and those of them that calls over HTTP are spread over.
pub(super) struct HttpReplicaChoice {
    /// As discovery answered last.
    listed: Vec<ReplicaAddress>,
    /// Calls are spread over these. They are of one family, because the IPv4 and the IPv6 address of a server are often the
    /// same machine.
    members: Vec<HttpReplica>,
    /// The largest number of them.
    most: usize,
    /// Which ones, if there are more.
    subset: ReplicaSubset,
    choice: ReplicaChoice,
}

struct HttpReplica {
    id: ReplicaId,
    endpoint: Arc<Endpoint>,
}

impl HttpReplicaChoice {
    pub(super) fn new(most: usize, subset: ReplicaSubset, now: Instant) -> Self {
        Self { listed: Vec::new(), members: Vec::new(), most, subset, choice: ReplicaChoice::new(now) }
    }

    /// Whether there are several to choose from.
    pub(super) fn has_several(&self) -> bool {
        self.members.len() > 1
    }

    /// Those that calls are spread over.
    pub(super) fn members(&self) -> impl Iterator<Item = (ReplicaId, &Arc<Endpoint>)> {
        self.members.iter().map(|member| (member.id, &member.endpoint))
    }

    /// Whether a call should go elsewhere than to this address: it has failed there, or the replica is ejected.
    pub(super) fn is_avoided(&self, address: &Address, tried: &[ReplicaId]) -> bool {
        let member = self.members.iter().find(|member| member.endpoint.address() == address);
        member.is_some_and(|member| tried.contains(&member.id) || self.choice.is_ejected(member.id))
    }

    /// What is known of each of them.
    pub(super) fn views(&self, now: Instant) -> impl Iterator<Item = (Address, ReplicaView)> {
        self.choice.views(now).filter_map(|view| {
            let member = self.members.iter().find(|member| member.id == view.id)?;
            Some((member.endpoint.address().clone(), view))
        })
    }

    /// Only these are the replicas of the service now. `endpoint` finds the endpoint of a replica.
    pub(super) fn list(
        &mut self,
        replicas: &[ReplicaAddress],
        now: Instant,
        endpoint: impl FnMut(&ReplicaAddress) -> Arc<Endpoint>,
    ) {
        self.listed = replicas.to_vec();
        let is_listed = |member: &&HttpReplica| replicas.iter().any(|replica| member.endpoint.is_of(replica));
        let stays = self.members.iter().find(is_listed).map(|member| member.endpoint.address().clone());
        if let Some(family) = stays.or_else(|| Some(replicas.first()?.address.clone())) {
            self.spread_over(&family, now, endpoint);
        }
    }

    /// A connection to this replica was opened, where another was chosen or none. If it is of another family, calls are
    /// spread over that one from now on. A call that is sent there now counts.
    pub(super) fn connected(
        &mut self,
        replica: &ReplicaAddress,
        now: Instant,
        endpoint: impl FnMut(&ReplicaAddress) -> Arc<Endpoint>,
    ) -> Option<SentCall> {
        let first = self.members.first().map(|member| member.endpoint.address());
        let is_other_family = first.is_none_or(|first| !first.is_of_the_family_of(&replica.address));
        if is_other_family && self.listed.contains(replica) {
            self.spread_over(&replica.address, now, endpoint);
        }
        let member = self.members.iter().find(|member| member.endpoint.is_of(replica))?;
        self.choice.send_to(member.id, now)
    }

    /// The endpoint of the next call. The call is sent now.
    pub(super) fn choose(
        &mut self,
        wish: ReplicaWish<'_>,
        now: Instant,
        chance: &mut Rng,
    ) -> Option<(Arc<Endpoint>, SentCall)> {
        let sent = match wish.affinity {
            None => self.choice.choose(wish.tried, now, chance)?,
            Some(affinity) => self.choose_by(affinity, wish.tried, now)?,
        };
        let chosen = self.members.iter().find(|member| member.id == sent.replica);
        Some((Arc::clone(&chosen.expect("each replica to choose from is a member").endpoint), sent))
    }

    /// Counts a call as sent to this replica.
    #[cfg(test)]
    pub(super) fn send_to(&mut self, id: ReplicaId, now: Instant) -> Option<SentCall> {
        self.choice.send_to(id, now)
    }

    fn choose_by(&mut self, affinity: Affinity, tried: &[ReplicaId], now: Instant) -> Option<SentCall> {
        let mut members: Vec<_> = self.members.iter().collect();
        affinity.sort(&mut members, |member| member.endpoint.address().to_string());
        // The sort is stable: the others keep their order.
        members.sort_by_key(|member| tried.contains(&member.id));
        members.into_iter().find_map(|member| self.choice.choose_this(member.id, tried, now))
    }

    /// The connection for this call was opened first.
    pub(super) fn sent_only_now(&self, sent: &mut SentCall, now: Instant) {
        self.choice.sent_only_now(sent, now);
    }

    /// A call has ended. `calls` is what the replica said of its calls in flight, if it did.
    pub(super) fn ended(&mut self, sent: SentCall, outcome: ReplicaOutcome, calls: Option<u32>, now: Instant) {
        // A replica that fails at once looks idle.
        if let Some(calls) = calls.filter(|_| outcome == ReplicaOutcome::Answered) {
            self.choice.reported(&sent, calls, now);
        }
        self.choice.ended(sent, outcome, now);
    }

    fn spread_over(
        &mut self,
        family: &Address,
        now: Instant,
        mut endpoint: impl FnMut(&ReplicaAddress) -> Arc<Endpoint>,
    ) {
        let mut addresses = Vec::with_capacity(self.listed.len());
        for ReplicaAddress { address, .. } in &self.listed {
            if address.is_of_the_family_of(family) && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        self.subset.order(&mut addresses);
        addresses.truncate(self.most);
        let chosen =
            addresses.iter().filter_map(|address| self.listed.iter().find(|replica| replica.address == *address));
        let chosen: Vec<_> = chosen.collect();
        let is_first = self.members.is_empty();
        self.members.retain(|member| {
            let stays = chosen.iter().any(|replica| member.endpoint.is_of(replica));
            if !stays {
                self.choice.leave(member.id, now);
            }
            stays
        });
        for replica in chosen {
            if self.members.iter().any(|member| member.endpoint.is_of(replica)) {
                continue;
            }
            // One that joins the others gets its share little by little.
            let id = if is_first { self.choice.add(now) } else { self.choice.join(now) };
            self.members.push(HttpReplica { id, endpoint: endpoint(replica) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;
    use crate::client::endpoint_url::EndpointUrl;

    fn replica(address: impl Into<SocketAddr>) -> ReplicaAddress {
        ReplicaAddress { address: address.into().into(), url: Arc::new(EndpointUrl::plain()) }
    }

    fn v4(port: u16) -> ReplicaAddress {
        replica((Ipv4Addr::LOCALHOST, port))
    }

    fn v6(port: u16) -> ReplicaAddress {
        replica((Ipv6Addr::LOCALHOST, port))
    }

    fn endpoint(replica: &ReplicaAddress) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(replica.clone(), false))
    }

    fn ports(choice: &HttpReplicaChoice) -> Vec<u16> {
        let mut ports: Vec<_> =
            choice.members().map(|(_, endpoint)| endpoint.address().port().expect("it has one")).collect();
        ports.sort_unstable();
        ports
    }

    struct Fixture {
        choice: HttpReplicaChoice,
        now: Instant,
        chance: Rng,
    }

    impl Fixture {
        fn new(most: usize) -> Self {
            let now = Instant::now();
            Self { choice: HttpReplicaChoice::new(most, ReplicaSubset::random(1), now), now, chance: Rng::with_seed(1) }
        }

        fn list(&mut self, replicas: &[ReplicaAddress]) -> Vec<u16> {
            self.choice.list(replicas, self.now, endpoint);
            ports(&self.choice)
        }

        fn connected(&mut self, replica: &ReplicaAddress) -> Option<SentCall> {
            self.choice.connected(replica, self.now, endpoint)
        }

        /// The port of a call that is answered at once.
        fn call(&mut self) -> u16 {
            let (endpoint, sent) =
                self.choice.choose(ReplicaWish::default(), self.now, &mut self.chance).expect("there is one");
            self.choice.ended(sent, ReplicaOutcome::Answered, Some(0), self.now);
            endpoint.address().port().expect("it has one")
        }
    }

    #[test]
    fn calls_are_spread_over_the_replicas_that_are_listed() {
        let mut known = Fixture::new(20);
        assert!(known.choice.choose(ReplicaWish::default(), known.now, &mut known.chance).is_none());
        assert_eq!(known.list(&[v4(1), v4(2), v4(3), v4(1)]), [1, 2, 3]);
        let mut calls = BTreeMap::new();
        for _ in 0..3000 {
            *calls.entry(known.call()).or_insert(0) += 1;
        }
        assert!(calls.values().all(|count| (850..1150).contains(count)), "{calls:?}");
        assert_eq!(known.list(&[v4(2)]), [2]);
        assert!(!known.choice.has_several() && known.call() == 2);
    }

    #[test]
    fn calls_are_spread_over_one_family_of_addresses_the_one_that_connects() {
        let mut known = Fixture::new(20);
        assert_eq!(known.list(&[v6(1), v4(1), v6(2), v4(2)]), [1, 2]);
        assert!(known.choice.members().all(|(_, endpoint)| endpoint.address().ip().unwrap().is_ipv6()));
        let sent = known.connected(&v4(2)).expect("it counts");
        assert!(known.choice.members().all(|(_, endpoint)| endpoint.address().ip().unwrap().is_ipv4()));
        assert_eq!(ports(&known.choice), [1, 2]);
        known.choice.ended(sent, ReplicaOutcome::Answered, None, known.now);
        // A new answer changes nothing about that.
        known.list(&[v6(1), v4(1), v4(3)]);
        assert!(known.choice.members().all(|(_, endpoint)| endpoint.address().ip().unwrap().is_ipv4()));
        assert_eq!(ports(&known.choice), [1, 3]);
    }

    #[test]
    fn a_connection_to_an_address_that_is_gone_changes_nothing() {
        let mut known = Fixture::new(20);
        known.list(&[v4(1), v4(2)]);
        assert!(known.connected(&v6(9)).is_none() && known.connected(&v4(9)).is_none());
        assert_eq!(ports(&known.choice), [1, 2]);
    }

    #[test]
    fn with_more_replicas_than_connections_some_are_left_out_and_others_change_nothing() {
        let mut known = Fixture::new(2);
        let before = known.list(&[v4(1), v4(2), v4(3)]);
        assert_eq!(before.len(), 2);
        assert_eq!(known.list(&[v4(3), v4(2), v4(1)]), before);
        let mut there = before.clone();
        assert_eq!(known.list(&there.iter().copied().map(v4).collect::<Vec<_>>()), before);
        there.remove(0);
        assert_eq!(known.list(&there.iter().copied().map(v4).collect::<Vec<_>>()), there);
    }

    proptest! {
        #[test]
        fn a_call_goes_to_a_replica_that_is_listed_and_to_an_untried_one_if_there_is_one(
            lists in proptest::collection::vec(proptest::collection::vec((any::<bool>(), 1..6u16), 1..6), 1..12),
            seed: u64,
        ) {
            let mut known = Fixture::new(3);
            known.chance = Rng::with_seed(seed);
            for list in lists {
                let listed: Vec<_> = list.iter().map(|(is_v4, port)| if *is_v4 { v4(*port) } else { v6(*port) }).collect();
                known.list(&listed);
                prop_assert!(known.choice.members.len() <= 3 && !known.choice.members.is_empty());
                prop_assert!(known.choice.members().all(|(_, endpoint)| listed.iter().any(|it| endpoint.is_of(it))));
                let mut tried = Vec::new();
                let serving = known.choice.members.len();
                for _ in 0..serving {
                    let (endpoint, sent) = known.choice.choose(ReplicaWish { tried: &tried, ..ReplicaWish::default() }, known.now, &mut known.chance).expect("there is one");
                    prop_assert!(!tried.contains(&sent.replica));
                    prop_assert!(listed.iter().any(|it| endpoint.is_of(it)));
                    tried.push(sent.replica);
                    known.choice.ended(sent, ReplicaOutcome::Answered, None, known.now);
                }
                let connected = &listed[usize::try_from(seed % 5).expect("small") % listed.len()];
                if let Some(sent) = known.connected(connected) {
                    known.choice.ended(sent, ReplicaOutcome::Cancelled, None, known.now);
                }
                prop_assert!(known.choice.members[0].endpoint.address().is_of_the_family_of(&connected.address));
            }
        }
    }
}
