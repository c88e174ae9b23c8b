//! The connections of frames of one runtime: [`RuntimeConnections`]. A state machine without sockets, without a clock and
//! without chance of its own.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::affinity::Affinity;
use super::instance_search::InstanceSearch;
use super::replica_choice::{ReplicaChoice, ReplicaId, ReplicaView, SentCall};
use super::replica_load::ReplicaOutcome;
use super::replica_subset::ReplicaSubset;
use crate::address::Address;
use crate::deadline::later;
use crate::wire::instance_and_load::InstanceId;

/// The most connections of one runtime.
pub(super) const SPREAD: usize = 20;

/// How often to check whether another connection is needed.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// A runtime that has made no call for so long opens no connection. Otherwise connections that are closed because they are
/// idle would be opened again.
const UNUSED: Duration = Duration::from_secs(30);

/// After this number of connections that did not lead to the instance of an old connection, the old one is closed: a
/// balancer may have taken the instance out.
const RENEWALS: u32 = 6;

/// Calls go by one connection for each address, or by several for an address that stands for several instances. `K` names a
/// runtime, and `L` is a connection.
#[derive(Debug)]
pub(super) struct RuntimeConnections<K, L> {
    pub(super) runtime: K,
    /// The oldest first. No two of them lead to the same instance.
    links: Vec<PlannedConnection<L>>,
    /// Which of them the next call goes by.
    choice: ReplicaChoice,
    /// The addresses that calls are spread over, those of the subset first. They are of one family.
    listed: Vec<Address>,
    /// Addresses without a connection, because what is behind them has one by another address.
    covered: Vec<(Address, InstanceId)>,
    search: InstanceSearch,
    /// When the last call was made.
    used_at: Instant,
    /// All that was looked for in the beginning was found.
    is_complete: bool,
    /// Why one is being opened.
    opening: Option<OpeningPurpose>,
}

/// A connection that was opened.
#[derive(Clone, Debug)]
pub(super) struct OpenedLink<L> {
    pub(super) address: Address,
    /// `None` if the server says none.
    pub(super) instance: Option<InstanceId>,
    pub(super) link: L,
    /// When another replaces it.
    pub(super) until: Instant,
}

#[derive(Debug)]
struct PlannedConnection<L> {
    opened: OpenedLink<L>,
    replica: ReplicaId,
    /// The connections that were opened to replace it and did not.
    renewals: u32,
}

#[derive(Clone, Debug)]
enum OpeningPurpose {
    /// There are fewer connections than addresses.
    Spread,
    /// This one is too old.
    Renewal(ReplicaId),
    /// There may be another instance behind this address.
    Search(Option<Address>),
}

impl<K, L: Clone> RuntimeConnections<K, L> {
    /// A runtime whose first connection is being opened. `search_was_vain` as for [`InstanceSearch::new`].
    pub(super) fn new(runtime: K, search_was_vain: bool, now: Instant) -> Self {
        Self {
            runtime,
            links: Vec::new(),
            choice: ReplicaChoice::new(now),
            listed: Vec::new(),
            covered: Vec::new(),
            search: InstanceSearch::new(search_was_vain, now),
            used_at: now,
            is_complete: false,
            opening: Some(OpeningPurpose::Spread),
        }
    }

    /// The connection that the next call goes by.
    pub(super) fn choose(&mut self, tried: &[ReplicaId], now: Instant, chance: &mut Rng) -> Option<(L, SentCall)> {
        self.used_at = now;
        let sent = self.choice.choose(tried, now, chance)?;
        let chosen = self.links.iter().find(|planned| planned.replica == sent.replica);
        let chosen = chosen.expect("each replica to choose from has its connection");
        Some((chosen.opened.link.clone(), sent))
    }

    /// The connection of a call that wants the replica of its key. `tried` as for [`choose`](Self::choose).
    pub(super) fn choose_by(&mut self, affinity: Affinity, tried: &[ReplicaId], now: Instant) -> Option<(L, SentCall)> {
        self.used_at = now;
        let mut links: Vec<_> = self.links.iter().collect();
        affinity.sort(&mut links, |planned| match planned.opened.instance {
            // All clients see the same instances behind one address.
            Some(instance) if self.count_at(&planned.opened.address) > 1 => instance.to_string(),
            _ => planned.opened.address.to_string(),
        });
        // The sort is stable: the others keep their order.
        links.sort_by_key(|planned| tried.contains(&planned.replica));
        let (chosen, sent) = links
            .into_iter()
            .find_map(|planned| Some((planned, self.choice.choose_this(planned.replica, tried, now)?)))?;
        let link = chosen.opened.link.clone();
        Some((link, sent))
    }

    /// The connection of a call that goes to this server. `None` if there is none.
    pub(super) fn choose_instance(&mut self, instance: InstanceId, now: Instant) -> Option<(L, SentCall)> {
        self.used_at = now;
        let planned = &self.links[self.position_of(Some(instance))?];
        let sent = self.choice.send_to(planned.replica, now)?;
        Some((planned.opened.link.clone(), sent))
    }

    /// Any connection. No call goes by it yet.
    pub(super) fn any(&self) -> Option<&L> {
        self.links.first().map(|planned| &planned.opened.link)
    }

    /// All connections.
    pub(super) fn all(&self) -> impl Iterator<Item = &L> {
        self.links.iter().map(|planned| &planned.opened.link)
    }

    /// Each connection with what is known of its replica.
    pub(super) fn views(&self, now: Instant) -> impl Iterator<Item = (L, ReplicaView)> {
        self.choice.views(now).filter_map(|view| {
            let planned = self.links.iter().find(|planned| planned.replica == view.id)?;
            Some((planned.opened.link.clone(), view))
        })
    }

    /// A call has ended. `calls` is what the replica said of its calls in flight, if it did.
    pub(super) fn call_ended(&mut self, sent: SentCall, outcome: ReplicaOutcome, calls: Option<u32>, now: Instant) {
        // A replica that fails at once looks idle. And without an answer the report is that of an earlier one.
        if let Some(calls) = calls.filter(|_| outcome == ReplicaOutcome::Answered) {
            self.choice.reported(&sent, calls, now);
        }
        self.choice.ended(sent, outcome, now);
    }

    /// Whether there is no connection, and none is being opened.
    pub(super) fn is_unused(&self) -> bool {
        self.links.is_empty() && self.opening.is_none()
    }

    /// Whether an address is missing.
    pub(super) fn is_missing(&self) -> bool {
        self.places() < self.wanted()
    }

    /// Whether an address stands for several instances.
    pub(super) fn has_several(&self) -> bool {
        self.links.iter().any(|planned| self.count_at(&planned.opened.address) > 1)
    }

    /// Whether no further instance is looked for behind the addresses.
    pub(super) fn has_searched(&self) -> bool {
        self.search.is_over()
    }

    /// Whether the caller must open another connection. It counts as begun then.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_needed = self.is_missing() || self.oldest_overdue(now).is_some() || self.is_search_due(now);
        let begins = is_needed && now < later(self.used_at, UNUSED) && self.opening.is_none();
        if begins {
            self.opening = Some(OpeningPurpose::Spread);
        }
        begins
    }

    /// The opening is over, whatever came of it.
    pub(super) fn opening_ended(&mut self) {
        self.opening = None;
    }

    /// The addresses for another connection, the best first. These are all addresses of the service. Calls are spread over
    /// addresses of one family, because the IPv4 and the IPv6 address of a server are often the same machine.
    pub(super) fn candidates(&mut self, addresses: &[Address], subset: ReplicaSubset, now: Instant) -> Vec<Address> {
        self.list(addresses, subset, now);
        let mut purpose = OpeningPurpose::Spread;
        let mut candidates: Vec<_> = if self.links.is_empty() {
            // The first connection may go anywhere.
            let mut others: Vec<_> =
                addresses.iter().filter(|address| !self.listed.contains(address)).cloned().collect();
            subset.order(&mut others);
            self.listed.iter().cloned().chain(others).collect()
        } else if self.is_missing() {
            self.listed.iter().filter(|address| !self.has_place(address)).cloned().collect()
        } else if let Some(overdue) = self.oldest_overdue(now) {
            let PlannedConnection { opened, replica, .. } = &self.links[overdue];
            purpose = OpeningPurpose::Renewal(*replica);
            let is_candidate = |address: &&Address| **address == opened.address || self.count_at(address) == 0;
            self.listed.iter().filter(is_candidate).cloned().collect()
        } else {
            let has_instance = |address: &&Address| self.has_instance(address);
            let chosen = self.search.choose(self.listed.iter().filter(has_instance)).cloned();
            purpose = OpeningPurpose::Search(chosen.clone());
            chosen.into_iter().collect()
        };
        self.opening = Some(purpose);
        candidates.retain(|address| addresses.contains(address));
        candidates
    }

    /// No connection could be opened. Whether one was needed. `jitter` is random, from 0 to 1.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) -> bool {
        let Some(OpeningPurpose::Search(address)) = &self.opening else { return true };
        self.search.found_none(address.as_ref(), now, jitter);
        self.note_completion();
        false
    }

    /// Calls go by this connection too from now on, unless another one leads to the same instance. Returns the connections
    /// that no further call goes by: those that it replaces, or itself. `jitter` is random, from 0 to 1.
    pub(super) fn opened(&mut self, opened: OpenedLink<L>, now: Instant, jitter: f64) -> Vec<L> {
        let mut left = Vec::new();
        let is_search = matches!(self.opening, Some(OpeningPurpose::Search(_)));
        let same_address = self.links.iter().position(|planned| planned.opened.address == opened.address);
        if let Some(twin) = self.position_of(opened.instance) {
            if self.links[twin].opened.until > now {
                left.push(self.turn_down(opened, is_search, now, jitter));
            } else {
                left.push(self.replace(twin, opened));
            }
        } else if let Some(at) = same_address {
            let has_instances = opened.instance.is_some() && self.links[at].opened.instance.is_some();
            if has_instances {
                self.search.found(&opened.address, now);
                if self.links.len() >= SPREAD {
                    left.extend(self.earliest(|_| true).map(|earliest| self.remove(earliest, now)));
                }
                self.add(opened, now);
            } else if is_search {
                left.push(self.turn_down(opened, is_search, now, jitter));
            } else {
                left.push(self.replace(at, opened));
            }
        } else {
            let victim = if !self.is_missing() && !self.links.is_empty() {
                self.earliest(|_| true)
            } else if self.links.len() >= SPREAD {
                self.earliest(|planned| self.count_at(&planned.opened.address) > 1)
            } else {
                None
            };
            left.extend(victim.map(|victim| self.remove(victim, now)));
            self.search.reached_address(now);
            self.add(opened, now);
        }
        left.extend(self.count_renewal(now));
        self.covered
            .retain(|(_, instance)| self.links.iter().any(|planned| planned.opened.instance == Some(*instance)));
        self.note_completion();
        left
    }

    /// These are the addresses of the service now. Returns the connections to others, which no further call goes by. If
    /// there are only such, they stay until another replaces them.
    pub(super) fn addresses_are(&mut self, addresses: &[Address], subset: ReplicaSubset, now: Instant) -> Vec<L> {
        self.list(addresses, subset, now);
        let is_listed = |planned: &PlannedConnection<L>| addresses.contains(&planned.opened.address);
        if !self.links.iter().any(is_listed) {
            for planned in &mut self.links {
                planned.opened.until = planned.opened.until.min(now);
            }
            return Vec::new();
        }
        let mut gone = Vec::new();
        for planned in self.links.extract_if(.., |planned| !is_listed(planned)) {
            self.choice.leave(planned.replica, now);
            gone.push(planned.opened.link);
        }
        gone
    }

    pub(super) fn is_linked_to(&self, address: &Address) -> bool {
        self.count_at(address) > 0
    }

    /// No further call goes by the connections that this is true of.
    pub(super) fn forget(&mut self, now: Instant, is_over: impl Fn(&L) -> bool) {
        let over: Vec<_> = self.links.extract_if(.., |planned| is_over(&planned.opened.link)).collect();
        for planned in over {
            self.choice.leave(planned.replica, now);
            if self.count_at(&planned.opened.address) > 0 {
                self.search.lost(now);
            }
        }
    }

    /// When to ask again whether another connection is needed, if none is missing.
    pub(super) fn look_at(&self, now: Instant) -> Instant {
        let look = later(now, LOOK);
        self.search.next_after(now).filter(|_| self.may_search()).map_or(look, |next| next.min(look))
    }

    /// Takes out all connections.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = L> {
        self.links.drain(..).map(|planned| planned.opened.link)
    }

    /// Calls are spread over these addresses of the service now. If there is a better replica than one that has a
    /// connection, it replaces that.
    fn list(&mut self, addresses: &[Address], subset: ReplicaSubset, now: Instant) {
        let Some(family) = self.family(addresses) else { return };
        let mut listed = Vec::with_capacity(addresses.len());
        for address in addresses {
            if family.is_of_the_family_of(address) && !listed.contains(address) {
                listed.push(address.clone());
            }
        }
        subset.order(&mut listed);
        if listed == self.listed {
            return;
        }
        self.listed = listed;
        self.search.addresses_are(&self.listed);
        self.covered.retain(|(address, _)| self.listed.contains(address));
        let best = &self.listed[..self.wanted()];
        if self.listed.len() > best.len() && best.iter().any(|address| !self.has_place(address)) {
            for planned in &mut self.links {
                if !best.contains(&planned.opened.address) {
                    planned.opened.until = planned.opened.until.min(now);
                }
            }
        }
    }

    /// An address of the family that calls are spread over: that of the oldest connection to one of these.
    fn family(&self, addresses: &[Address]) -> Option<Address> {
        let linked = self.links.iter().map(|planned| &planned.opened.address);
        linked.clone().find(|linked| addresses.contains(linked)).or(addresses.first()).cloned()
    }

    /// How many addresses are to have a connection.
    fn wanted(&self) -> usize {
        self.listed.len().clamp(1, SPREAD)
    }

    /// How many addresses have a connection, or need none.
    fn places(&self) -> usize {
        let is_first = |(at, planned): &(usize, &PlannedConnection<L>)| {
            self.links[..*at].iter().all(|earlier| earlier.opened.address != planned.opened.address)
        };
        let linked = self.links.iter().enumerate().filter(is_first).count();
        linked + self.covered.iter().filter(|(address, _)| self.is_covered(address)).count()
    }

    fn has_place(&self, address: &Address) -> bool {
        self.count_at(address) > 0 || self.is_covered(address)
    }

    /// Whether there is no connection to this address, but one to the instance behind it.
    fn is_covered(&self, address: &Address) -> bool {
        let behind = self.covered.iter().find(|(covered, _)| covered == address);
        behind.is_some_and(|(_, instance)| self.position_of(Some(*instance)).is_some()) && self.count_at(address) == 0
    }

    fn count_at(&self, address: &Address) -> usize {
        self.links.iter().filter(|planned| planned.opened.address == *address).count()
    }

    /// Whether an instance behind this address is known.
    fn has_instance(&self, address: &Address) -> bool {
        let has_one =
            |planned: &PlannedConnection<L>| planned.opened.address == *address && planned.opened.instance.is_some();
        self.links.iter().any(has_one) || self.is_covered(address)
    }

    fn position_of(&self, instance: Option<InstanceId>) -> Option<usize> {
        self.links.iter().position(|planned| instance.is_some() && planned.opened.instance == instance)
    }

    /// Of those connections that this is true of, the one that is replaced first.
    fn earliest(&self, is_meant: impl Fn(&PlannedConnection<L>) -> bool) -> Option<usize> {
        let meant = self.links.iter().enumerate().filter(|(_, planned)| is_meant(planned));
        meant.min_by_key(|(_, planned)| planned.opened.until).map(|(at, _)| at)
    }

    fn oldest_overdue(&self, now: Instant) -> Option<usize> {
        self.earliest(|planned| planned.opened.until <= now)
    }

    fn may_search(&self) -> bool {
        self.links.len() < SPREAD && self.links.iter().any(|planned| planned.opened.instance.is_some())
    }

    fn is_search_due(&self, now: Instant) -> bool {
        self.search.is_due(now) && self.may_search()
    }

    fn add(&mut self, opened: OpenedLink<L>, now: Instant) {
        // One that joins the others gets its share little by little.
        let replica = if self.is_complete { self.choice.join(now) } else { self.choice.add(now) };
        self.links.push(PlannedConnection { opened, replica, renewals: 0 });
    }

    fn remove(&mut self, at: usize, now: Instant) -> L {
        let planned = self.links.remove(at);
        self.choice.leave(planned.replica, now);
        planned.opened.link
    }

    /// The same replica gets another connection.
    fn replace(&mut self, at: usize, opened: OpenedLink<L>) -> L {
        let old = self.links.remove(at);
        self.links.push(PlannedConnection { opened, replica: old.replica, renewals: 0 });
        old.opened.link
    }

    /// This connection leads to no instance that is new.
    fn turn_down(&mut self, opened: OpenedLink<L>, is_search: bool, now: Instant, jitter: f64) -> L {
        let OpenedLink { address, instance, link, .. } = opened;
        if is_search {
            self.search.found_none(Some(&address), now, jitter);
        }
        if let Some(instance) = instance {
            self.covered.retain(|(covered, _)| *covered != address);
            self.covered.push((address, instance));
        }
        link
    }

    /// Another connection was opened to replace one. If that is still there, and this was tried often, it is removed.
    fn count_renewal(&mut self, now: Instant) -> Option<L> {
        let Some(OpeningPurpose::Renewal(replica)) = self.opening else { return None };
        let is_old = |planned: &PlannedConnection<L>| planned.replica == replica && planned.opened.until <= now;
        let at = self.links.iter().position(is_old)?;
        self.links[at].renewals += 1;
        (self.links[at].renewals >= RENEWALS && self.links.len() > 1).then(|| self.remove(at, now))
    }

    fn note_completion(&mut self) {
        let is_searching = self.may_search() && !self.search.is_over();
        self.is_complete |= !self.listed.is_empty() && !self.is_missing() && !is_searching;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use fastrand::Rng;
    use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(port: u16) -> Address {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn instance(number: u16) -> Option<InstanceId> {
        InstanceId::read(&format!("{number:016x}"))
    }

    fn to(port: u16, number: u16, link: u32, until: Instant) -> OpenedLink<u32> {
        OpenedLink { address: at(port), instance: instance(number), link, until }
    }

    /// A client of `10.0.0.1:port` for these ports.
    struct Client {
        connections: RuntimeConnections<(), u32>,
        addresses: Vec<Address>,
        now: Instant,
        links: u32,
    }

    impl Client {
        fn of(ports: impl IntoIterator<Item = u16>) -> Self {
            let now = Instant::now();
            let connections = RuntimeConnections::new((), false, now);
            Self { connections, addresses: ports.into_iter().map(at).collect(), now, links: 0 }
        }

        fn candidates(&mut self) -> Vec<Address> {
            self.connections.candidates(&self.addresses, ReplicaSubset::random(7), self.now)
        }

        /// A connection is opened to this instance. Returns those that are left.
        fn opens(&mut self, port: u16, number: u16) -> Vec<u32> {
            self.links += 1;
            let left = self.connections.opened(to(port, number, self.links, self.now + HOUR), self.now, 0.5);
            self.connections.opening_ended();
            left
        }

        /// Opens what is needed, at the best address, where a balancer chooses among the instances. Returns how often.
        fn opens_all(&mut self, mut chosen: impl FnMut(&Address) -> u16) -> u32 {
            let mut opened = 0;
            self.connections.used_at = self.now;
            // The first one was begun from the start.
            while self.connections.links.is_empty() || self.connections.begin(self.now) {
                let address = self.candidates().first().expect("there is an address").clone();
                let number = chosen(&address);
                self.opens(address.port().unwrap(), number);
                opened += 1;
                assert!(opened < 200, "it goes on forever");
            }
            opened
        }

        /// For so long a call is made each time when the next try is due, and all connections that are needed are opened.
        fn is_used_for(&mut self, time: Duration, mut chosen: impl FnMut(&Address) -> u16) {
            let end = self.now + time;
            while self.now < end {
                self.opens_all(&mut chosen);
                self.calls(1);
                self.now = self.connections.look_at(self.now).min(end);
            }
        }

        /// How many of these calls each instance gets. Each ends before the next.
        fn calls(&mut self, count: usize) -> BTreeMap<u64, usize> {
            let (mut calls, mut chance) = (BTreeMap::new(), Rng::with_seed(1));
            for _ in 0..count {
                let (link, sent) = self.connections.choose(&[], self.now, &mut chance).unwrap();
                self.connections.call_ended(sent, ReplicaOutcome::Answered, None, self.now);
                let planned = self.connections.links.iter().find(|planned| planned.opened.link == link).unwrap();
                let instance = planned.opened.instance.map(|instance| instance.to_string()).unwrap_or_default();
                *calls.entry(u64::from_str_radix(&instance, 16).unwrap_or(0)).or_default() += 1;
            }
            calls
        }

        fn instances(&self) -> BTreeSet<String> {
            let instance = |planned: &PlannedConnection<u32>| planned.opened.instance.unwrap().to_string();
            self.connections.links.iter().map(instance).collect()
        }
    }

    /// A balancer that sends each connection to the next of these.
    fn in_turn(count: u16) -> impl FnMut(&Address) -> u16 {
        let mut last = 0;
        move |_| {
            last = last % count + 1;
            last
        }
    }

    #[test]
    fn a_connection_to_an_instance_that_has_one_is_left() {
        let mut client = Client::of([1]);
        client.candidates();
        assert!(client.opens(1, 1).is_empty());
        assert!(client.connections.begin(client.now), "there may be another instance behind the address");
        assert_eq!(client.candidates(), [at(1)]);
        assert_eq!(client.opens(1, 1), [2]);
        assert!(!client.connections.begin(client.now), "first there is a pause");
        assert_eq!(client.calls(10), [(1, 10)].into());
    }

    #[test]
    fn all_instances_behind_one_address_share_the_calls_from_the_beginning() {
        for count in [2, 3, 7] {
            let mut client = Client::of([1]);
            client.opens_all(in_turn(count));
            assert_eq!(client.connections.links.len(), usize::from(count));
            let calls = client.calls(700);
            let fair = 700 / usize::from(count);
            assert!(calls.values().all(|calls| calls.abs_diff(fair) < fair / 4), "{calls:?}");
        }
    }

    #[test]
    fn a_balancer_that_chooses_at_random_hides_no_instance_for_long() {
        let found = |seed| {
            let (mut client, mut random) = (Client::of([1]), Rng::with_seed(seed));
            client.is_used_for(Duration::from_secs(5), move |_| random.u16(1..=2));
            client.instances().len()
        };
        let hidden = (0..1000).filter(|seed| found(*seed) == 1).count();
        assert!((10..60).contains(&hidden), "{hidden} of 1000, where 31 are to be expected");
    }

    #[test]
    fn there_are_no_more_than_twenty_connections() {
        let mut client = Client::of([1]);
        client.opens_all(in_turn(50));
        assert_eq!((client.connections.links.len(), client.instances().len()), (SPREAD, SPREAD));
        client.now += HOUR;
        client.opens_all(in_turn(50));
        assert_eq!((client.connections.links.len(), client.instances().len()), (SPREAD, SPREAD));
    }

    #[test]
    fn a_server_without_an_instance_has_one_connection() {
        let mut client = Client::of([1]);
        client.candidates();
        client.connections.opened(OpenedLink { instance: None, ..to(1, 1, 1, client.now + HOUR) }, client.now, 0.5);
        client.connections.opening_ended();
        assert!(!client.connections.begin(client.now));
        client.now += HOUR;
        client.calls(1);
        assert!(client.connections.begin(client.now));
        assert_eq!(client.candidates(), [at(1)]);
        assert_eq!(client.opens(1, 5), [1], "it replaces the old one");
    }

    #[test]
    fn a_client_that_makes_no_calls_opens_no_connection() {
        let mut client = Client::of([1, 2]);
        client.is_used_for(Duration::from_secs(5), |address| address.port().unwrap());
        client.now += UNUSED;
        // Connections are closed when they are idle.
        let idle = client.connections.links[0].opened.link;
        client.connections.forget(client.now, |link| *link == idle);
        assert!(client.connections.is_missing() && !client.connections.begin(client.now));
        client.calls(1);
        assert!(client.connections.begin(client.now));
    }

    #[test]
    fn an_instance_that_ends_is_replaced_without_waiting_for_the_age() {
        let mut client = Client::of([1]);
        client.is_used_for(Duration::from_secs(5), in_turn(2));
        let ended = client.connections.links.iter().find(|planned| planned.opened.instance == instance(1)).unwrap();
        let ended = ended.opened.link;
        client.connections.forget(client.now, |link| *link == ended);
        // Its successor takes a minute to start. Meanwhile the balancer knows only the other.
        client.is_used_for(Duration::from_secs(60), |_| 2);
        assert_eq!(client.instances().len(), 1);
        client.is_used_for(Duration::from_secs(75), |_| 3);
        assert_eq!(client.instances().len(), 2);
    }

    #[test]
    fn an_instance_that_the_balancer_no_longer_chooses_is_left_at_the_age() {
        let mut client = Client::of([1]);
        client.is_used_for(Duration::from_secs(5), in_turn(3));
        client.is_used_for(HOUR - LOOK, |_| 2);
        assert_eq!(client.instances().len(), 3, "they are alive, and their connections are young");
        client.is_used_for(LOOK * 2, |_| 2);
        assert_eq!(client.instances().len(), 1);
    }

    #[test]
    fn an_instance_behind_two_addresses_has_one_connection() {
        let mut client = Client::of([1, 2]);
        let mut balancers = in_turn(3);
        client.is_used_for(Duration::from_secs(5), &mut balancers);
        assert_eq!(client.instances().len(), 3);
        let mut client = Client::of([1, 2]);
        client.is_used_for(Duration::from_secs(5), |_| 1);
        assert_eq!((client.instances().len(), client.connections.is_missing()), (1, false));
        // Its connection ends, and it can't be reached by one of the addresses.
        let link = client.connections.links[0].opened.link;
        client.connections.candidates(&client.addresses, ReplicaSubset::random(7), client.now);
        client.connections.forget(client.now, |known| *known == link);
        assert!(client.connections.is_missing());
    }

    #[test]
    fn an_address_that_is_new_has_its_connection_although_another_stands_for_many() {
        let mut client = Client::of([1]);
        client.opens_all(in_turn(30));
        client.addresses.push(at(2));
        let left = client.connections.addresses_are(&client.addresses, ReplicaSubset::random(7), client.now);
        assert!(left.is_empty() && client.connections.begin(client.now));
        assert_eq!(client.candidates(), [at(2)]);
        assert_eq!(client.opens(2, 99).len(), 1);
        assert!(client.connections.links.len() == SPREAD && client.connections.count_at(&at(2)) == 1);
    }

    #[test]
    fn a_failed_search_is_no_failure_to_connect() {
        let mut client = Client::of([1]);
        client.candidates();
        client.opens(1, 1);
        assert!(client.connections.begin(client.now));
        client.candidates();
        assert!(!client.connections.failed(client.now, 0.5));
    }

    #[test]
    fn a_replica_of_the_subset_replaces_one_that_is_none() {
        let mut client = Client::of(1..=40);
        client.opens_all(|address| address.port().unwrap());
        let linked = |client: &Client| -> BTreeSet<u16> {
            let ports = client.connections.links.iter().map(|planned| planned.opened.address.port().unwrap());
            ports.collect()
        };
        let before = linked(&client);
        let best = |client: &Client| -> BTreeSet<u16> {
            client.connections.listed[..SPREAD].iter().map(|address| address.port().unwrap()).collect()
        };
        assert_eq!((before.len(), &before), (SPREAD, &best(&client)));
        client.addresses.extend((41..=60).map(at));
        let left = client.connections.addresses_are(&client.addresses, ReplicaSubset::random(7), client.now);
        assert!(left.is_empty(), "connections are left one by one");
        client.opens_all(|address| address.port().unwrap());
        assert_eq!(linked(&client), best(&client));
        assert!(linked(&client).intersection(&before).count() >= SPREAD / 3, "most of the subset stays");
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// All connections that are needed are opened, each to an instance that is chosen by this number.
        Opens(u16),
        Fails,
        /// A connection ends.
        Ends(usize),
        Calls,
        Pass(u64),
        /// Only the first addresses are listed.
        Listed(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => any::<u16>().prop_map(Event::Opens),
            1 => Just(Event::Fails),
            2 => any::<usize>().prop_map(Event::Ends),
            3 => Just(Event::Calls),
            3 => prop_oneof![0..100u64, 0..4_000_000u64].prop_map(Event::Pass),
            1 => (1..=4usize).prop_map(Event::Listed),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn each_instance_has_one_connection_and_each_address_is_reached(
            behind in proptest::collection::vec(proptest::collection::vec(0..40u16, 1..30), 4),
            events in proptest::collection::vec(event(), 0..80),
        ) {
            let mut client = Client::of(0..4);
            let all = client.addresses.clone();
            // By their numbers. The instance 0 says none.
            let mut open: BTreeMap<u32, u16> = BTreeMap::new();
            for event in events {
                match event {
                    Event::Opens(choice) => {
                        let mut opened = 0;
                        client.connections.used_at = client.now;
                        let looked_up = |client: &mut Client| {
                            client.connections.addresses_are(&client.addresses, ReplicaSubset::random(7), client.now)
                        };
                        while open.is_empty() || client.connections.begin(client.now) {
                            let candidates = client.candidates();
                            opened += 1;
                            prop_assert!(opened < 500, "it goes on forever");
                            let Some(address) = candidates.first() else {
                                client.connections.failed(client.now, 0.5);
                                client.connections.opening_ended();
                                continue;
                            };
                            prop_assert!(client.addresses.contains(address));
                            let port = address.port().unwrap();
                            let those = &behind[usize::from(port)];
                            let number = those[(usize::from(choice) + opened) % those.len()];
                            client.links += 1;
                            let until = client.now + Duration::from_secs(600);
                            let mut link = to(port, number, client.links, until);
                            link.instance = link.instance.filter(|_| number > 0);
                            open.insert(client.links, number);
                            for left in client.connections.opened(link, client.now, 0.5) {
                                prop_assert!(open.remove(&left).is_some(), "it was not left before");
                            }
                            client.connections.opening_ended();
                            for left in looked_up(&mut client) {
                                prop_assert!(open.remove(&left).is_some());
                            }
                        }
                        prop_assert!(!client.connections.is_missing());
                        prop_assert!(client.connections.oldest_overdue(client.now).is_none());
                    }
                    Event::Fails => {
                        if !open.is_empty() && client.connections.begin(client.now) {
                            client.candidates();
                            client.connections.failed(client.now, 0.5);
                            client.connections.opening_ended();
                        }
                    }
                    Event::Ends(which) => {
                        let which = open.keys().nth(which % open.len().max(1)).copied();
                        if let Some(which) = which {
                            open.remove(&which);
                            client.connections.forget(client.now, |link| *link == which);
                        }
                    }
                    Event::Calls => {
                        let sent = client.connections.choose(&[], client.now, &mut Rng::with_seed(1));
                        prop_assert_eq!(sent.is_some(), !open.is_empty());
                        if let Some((link, sent)) = sent {
                            prop_assert!(open.contains_key(&link));
                            client.connections.call_ended(sent, ReplicaOutcome::Answered, None, client.now);
                        }
                    }
                    Event::Pass(milliseconds) => client.now += Duration::from_millis(milliseconds),
                    Event::Listed(count) => {
                        client.addresses = all[..count].to_vec();
                        for left in client.connections.addresses_are(&client.addresses, ReplicaSubset::random(7), client.now) {
                            prop_assert!(open.remove(&left).is_some());
                        }
                    }
                }
                prop_assert_eq!(client.connections.links.len(), open.len());
                prop_assert!(open.len() <= SPREAD);
                let instances: Vec<_> = open.values().filter(|number| **number > 0).collect();
                prop_assert_eq!(instances.iter().collect::<BTreeSet<_>>().len(), instances.len(), "{:?}", open);
                prop_assert!(client.connections.look_at(client.now) > client.now);
            }
        }
    }
}
