//! Which connections of frames a service has and wants: [`FrameConnectionPlan`]. A state machine without sockets, without a
//! clock and without chance of its own.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::address_order::AddressOrder;
use super::frame_connection::Upgrades;
use super::replica_choice::{ReplicaChoice, ReplicaId, SentCall};
use super::replica_load::ReplicaOutcome;
use crate::address::Address;
use crate::deadline::later;

/// Calls are spread over at most this many addresses of a service.
pub(super) const SPREAD: usize = 20;

/// If an address is missing, the plan is looked at again after this time, or when the pause after a failure is over.
const LOOK_FOR_MISSING: Duration = Duration::from_secs(1);

/// How often to check otherwise whether another connection is needed.
const LOOK: Duration = Duration::from_secs(10);

/// The connections of each runtime, and when another is opened. `K` names a runtime, and `L` is a connection.
#[derive(Debug)]
pub(super) struct FrameConnectionPlan<K, L> {
    /// The server has offered frames before. A client that makes one call needs no such connection.
    was_offered: bool,
    /// A call had one of these connections to go by.
    was_used: bool,
    /// So had a call since this was asked last.
    is_in_use: bool,
    members: Vec<RuntimeConnections<K, L>>,
    /// When another may be opened anywhere.
    upgrades: Upgrades,
    /// When another may be opened at addresses whose connections were cut.
    cut: Vec<(Address, Upgrades)>,
    /// Addresses that did not change to frames in time come last.
    order: AddressOrder,
}

/// The connections of one runtime.
#[derive(Debug)]
struct RuntimeConnections<K, L> {
    runtime: K,
    /// The oldest first.
    links: Vec<PlannedConnection<L>>,
    /// Which of them the next call goes by.
    choice: ReplicaChoice,
    /// As many as there are addresses to spread calls over.
    wanted: usize,
    /// There were as many at some time.
    is_complete: bool,
    /// One is being opened.
    is_opening: bool,
}

#[derive(Debug)]
struct PlannedConnection<L> {
    address: Address,
    link: L,
    replica: ReplicaId,
    /// When another replaces it.
    until: Instant,
}

impl<K: Copy + PartialEq, L: Clone> FrameConnectionPlan<K, L> {
    pub(super) fn new() -> Self {
        let (upgrades, order) = (Upgrades::default(), AddressOrder::default());
        Self {
            was_offered: false,
            was_used: false,
            is_in_use: false,
            members: Vec::new(),
            upgrades,
            cut: Vec::new(),
            order,
        }
    }

    /// The connection that the next call of this runtime goes by. The call is given back when it has ended. `tried` are the
    /// replicas at which it has failed.
    pub(super) fn choose(
        &mut self,
        runtime: K,
        tried: &[ReplicaId],
        now: Instant,
        chance: &mut Rng,
    ) -> Option<(L, SentCall)> {
        let member = self.members.iter_mut().find(|member| member.runtime == runtime)?;
        let sent = member.choice.choose(tried, now, chance)?;
        let chosen = member.links.iter().find(|planned| planned.replica == sent.replica);
        let chosen = chosen.expect("each replica to choose from has its connection");
        (self.was_used, self.is_in_use) = (true, true);
        Some((chosen.link.clone(), sent))
    }

    /// Any connection of this runtime. No call goes by it yet.
    pub(super) fn any(&self, runtime: K) -> Option<&L> {
        self.members.iter().find(|member| member.runtime == runtime)?.links.first().map(|planned| &planned.link)
    }

    /// A call has ended. `calls` is what the replica said of its calls in flight, if it did.
    pub(super) fn call_ended(
        &mut self,
        runtime: K,
        sent: SentCall,
        outcome: ReplicaOutcome,
        calls: Option<u32>,
        now: Instant,
    ) {
        let Some(member) = self.member(runtime) else { return };
        // A replica that fails at once looks idle. And without an answer the report is that of an earlier one.
        if let Some(calls) = calls.filter(|_| outcome == ReplicaOutcome::Answered) {
            member.choice.reported(&sent, calls, now);
        }
        member.choice.ended(sent, outcome, now);
    }

    /// Whether a call had one of these connections to go by.
    pub(super) fn was_used(&self) -> bool {
        self.was_used
    }

    /// Whether a call had one of these connections to go by since this was asked last.
    pub(super) fn take_use(&mut self) -> bool {
        std::mem::take(&mut self.is_in_use)
    }

    /// These are the addresses of the service now. Returns the connections to others, which no further call goes by. If a
    /// runtime has only such, they stay until another replaces them.
    pub(super) fn addresses_are(&mut self, addresses: &[Address], now: Instant) -> Vec<L> {
        self.members.iter_mut().flat_map(|member| member.addresses_are(addresses, now)).collect()
    }

    /// The server offers frames. Whether the caller must open a connection for this runtime.
    pub(super) fn offered(&mut self, runtime: K, now: Instant) -> bool {
        std::mem::replace(&mut self.was_offered, true) && self.begin(runtime, now)
    }

    /// Whether the caller must open another connection for this runtime, which has one.
    pub(super) fn needs_another(&mut self, runtime: K, now: Instant) -> bool {
        self.member(runtime).is_some() && self.begin(runtime, now)
    }

    /// The addresses for another connection of this runtime, the best first.
    pub(super) fn candidates(
        &mut self,
        runtime: K,
        mut addresses: Vec<Address>,
        now: Instant,
        chance: &mut Rng,
    ) -> Vec<Address> {
        self.cut.retain(|(address, _)| addresses.contains(address));
        addresses.retain(|address| self.cut.iter().all(|(cut, upgrades)| cut != address || upgrades.may_try(now)));
        let mut candidates =
            self.member(runtime).map(|member| member.candidates(addresses, chance)).unwrap_or_default();
        self.order.order(&mut candidates);
        candidates
    }

    /// An address held up the opening of a connection.
    pub(super) fn stalled(&mut self, address: &Address) {
        self.order.timed_out(address);
    }

    /// A connection is open, and calls go by it too until then. Returns the connection that it replaces.
    pub(super) fn opened(&mut self, runtime: K, address: Address, link: L, until: Instant, now: Instant) -> Option<L> {
        self.upgrades.opened();
        self.order.answered(&address);
        self.member(runtime)?.install(address, link, until, now)
    }

    /// No connection could be opened. `jitter` is random, from 0 to 1.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        self.upgrades.failed(now, jitter);
    }

    /// The opening is over, whatever came of it.
    pub(super) fn opening_ended(&mut self, runtime: K) {
        if let Some(member) = self.member(runtime) {
            member.is_opening = false;
        }
        self.forget_members();
    }

    /// A connection to this address has ended; `was_cut` if it ended without notice during calls. `jitter` is random, from
    /// 0 to 1.
    pub(super) fn ended(&mut self, address: &Address, was_cut: bool, age: Duration, now: Instant, jitter: f64) {
        match self.cut.iter_mut().find(|(cut, _)| cut == address) {
            Some((_, upgrades)) => upgrades.ended(was_cut, age, now, jitter),
            None => {
                let mut upgrades = Upgrades::default();
                upgrades.ended(was_cut, age, now, jitter);
                self.cut.push((address.clone(), upgrades));
            }
        }
    }

    /// No further call goes by the connections that this is true of.
    pub(super) fn forget(&mut self, now: Instant, is_over: impl Fn(&L) -> bool) {
        for member in &mut self.members {
            for planned in member.links.extract_if(.., |planned| is_over(&planned.link)) {
                member.choice.leave(planned.replica, now);
            }
        }
        self.forget_members();
    }

    /// When to ask again whether this runtime [needs another](Self::needs_another).
    pub(super) fn look_at(&self, runtime: K, now: Instant) -> Instant {
        let member = self.members.iter().find(|member| member.runtime == runtime);
        let is_missing = member.is_some_and(|member| member.links.len() < member.wanted);
        if is_missing { later(now, LOOK_FOR_MISSING).max(self.upgrades.not_before(now)) } else { later(now, LOOK) }
    }

    /// Takes out all connections.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = L> {
        self.members.iter_mut().flat_map(|member| member.links.drain(..)).map(|planned| planned.link)
    }

    fn member(&mut self, runtime: K) -> Option<&mut RuntimeConnections<K, L>> {
        self.members.iter_mut().find(|member| member.runtime == runtime)
    }

    fn forget_members(&mut self) {
        self.members.retain(|member| !member.links.is_empty() || member.is_opening);
    }

    /// Whether the caller must open another connection for this runtime. It counts as begun then.
    fn begin(&mut self, runtime: K, now: Instant) -> bool {
        if !self.upgrades.may_try(now) {
            return false;
        }
        let Some(member) = self.member(runtime) else {
            self.members.push(RuntimeConnections::new(runtime, now));
            return true;
        };
        let needs_one = member.links.len() < member.wanted || member.links.iter().any(|planned| planned.until <= now);
        needs_one && !std::mem::replace(&mut member.is_opening, true)
    }
}

impl<K, L> RuntimeConnections<K, L> {
    /// A runtime whose first connection is being opened.
    fn new(runtime: K, now: Instant) -> Self {
        Self {
            runtime,
            links: Vec::new(),
            choice: ReplicaChoice::new(now),
            wanted: 1,
            is_complete: false,
            is_opening: true,
        }
    }

    /// The addresses for another connection, the best first. Calls are spread over addresses of one family, because the
    /// IPv4 and the IPv6 address of a server are often the same machine.
    fn candidates(&mut self, mut addresses: Vec<Address>, chance: &mut Rng) -> Vec<Address> {
        let family = self.family(&addresses);
        let is_of_family =
            |address: &Address| family.as_ref().is_some_and(|family| family.is_of_the_family_of(address));
        chance.shuffle(&mut addresses);
        addresses.sort_by_key(|address| !is_of_family(address));
        self.wanted = addresses.iter().filter(|address| is_of_family(address)).count().clamp(1, SPREAD);
        let is_linked = |address: &Address| self.links.iter().any(|planned| planned.address == *address);
        let (linked, free): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_linked);
        match self.links.first() {
            // The first connection may go anywhere.
            None => free,
            // Another beside those that there are.
            Some(_) if self.links.len() < self.wanted => free.into_iter().filter(is_of_family).collect(),
            // One in place of the oldest.
            Some(PlannedConnection { address: oldest, .. }) => {
                let again = linked.into_iter().filter(|address| address == oldest);
                free.into_iter().filter(is_of_family).chain(again).collect()
            }
        }
    }

    fn addresses_are(&mut self, addresses: &[Address], now: Instant) -> Vec<L> {
        if let Some(family) = self.family(addresses) {
            let of_family = addresses.iter().filter(|address| family.is_of_the_family_of(address));
            self.wanted = of_family.count().clamp(1, SPREAD);
        }
        let is_listed = |planned: &PlannedConnection<L>| addresses.contains(&planned.address);
        if !self.links.iter().any(is_listed) {
            for planned in &mut self.links {
                planned.until = planned.until.min(now);
            }
            return Vec::new();
        }
        let mut gone = Vec::new();
        for planned in self.links.extract_if(.., |planned| !is_listed(planned)) {
            self.choice.leave(planned.replica, now);
            gone.push(planned.link);
        }
        gone
    }

    /// An address of the family that calls are spread over: that of the oldest connection to one of these.
    fn family(&self, addresses: &[Address]) -> Option<Address> {
        let linked = self.links.iter().map(|planned| &planned.address).find(|linked| addresses.contains(linked));
        linked.or(addresses.first()).cloned()
    }

    /// Calls go by this connection too from now on. Returns the connection that it replaces.
    fn install(&mut self, address: Address, link: L, until: Instant, now: Instant) -> Option<L> {
        let same = self.links.iter().position(|linked| linked.address == address);
        let old = match same {
            None if self.links.len() >= self.wanted => Some(0),
            same => same,
        };
        let old = old.map(|at| self.links.remove(at));
        // The same replica by another connection is known already.
        let replica = match &old {
            Some(old) if same.is_some() => old.replica,
            // One that joins the others gets its share little by little.
            _ if self.is_complete => self.choice.join(now),
            _ => self.choice.add(now),
        };
        if let Some(old) = &old
            && old.replica != replica
        {
            self.choice.leave(old.replica, now);
        }
        self.links.push(PlannedConnection { address, link, replica, until });
        self.is_complete |= self.wanted > 1 && self.links.len() >= self.wanted;
        old.map(|old| old.link)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use fastrand::Rng;
    use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(port: u16) -> Address {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn at_ipv6(port: u16) -> Address {
        std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)).into()
    }

    fn opens(plan: &mut FrameConnectionPlan<u8, u32>, runtime: u8, port: u16, link: u32, now: Instant) -> Option<u32> {
        let old = plan.opened(runtime, at(port), link, now + HOUR, now);
        plan.opening_ended(runtime);
        old
    }

    /// The connection of a call that ends at once.
    fn goes_by(plan: &mut FrameConnectionPlan<u8, u32>, runtime: u8, now: Instant) -> Option<u32> {
        let (link, sent) = plan.choose(runtime, &[], now, &mut Rng::with_seed(1))?;
        plan.call_ended(runtime, sent, ReplicaOutcome::Answered, None, now);
        Some(link)
    }

    #[test]
    fn a_connection_is_opened_at_the_second_offer_and_one_at_a_time() {
        let (mut plan, now) = (FrameConnectionPlan::<u8, u32>::new(), Instant::now());
        assert!(!plan.offered(1, now), "a client that makes one call needs none");
        assert!(plan.offered(1, now));
        assert!(!plan.offered(1, now), "one is being opened");
        assert!(plan.offered(2, now), "each runtime has its own");
        assert_eq!((goes_by(&mut plan, 1, now), plan.was_used()), (None, false));
        assert_eq!(opens(&mut plan, 1, 1, 10, now), None);
        assert!(!plan.offered(1, now) && !plan.needs_another(1, now), "there is one address");
        assert_eq!((goes_by(&mut plan, 1, now), goes_by(&mut plan, 2, now)), (Some(10), None));
        assert!(plan.was_used());
        assert!(!plan.needs_another(3, now), "that runtime has made no call");
    }

    #[test]
    fn calls_are_spread_over_the_addresses_of_one_family() {
        let (mut plan, now) = (FrameConnectionPlan::<u8, u32>::new(), Instant::now());
        let addresses = || vec![at(1), at_ipv6(1), at(2)];
        let mut chance = Rng::with_seed(1);
        plan.offered(1, now);
        assert!(plan.offered(1, now));
        assert_eq!(plan.candidates(1, addresses(), now, &mut chance).len(), 3, "the first may go anywhere");
        opens(&mut plan, 1, 1, 10, now);
        assert!(plan.needs_another(1, now), "there are two of its family");
        assert_eq!(plan.candidates(1, addresses(), now, &mut chance), [at(2)]);
        opens(&mut plan, 1, 2, 20, now);
        assert!(!plan.needs_another(1, now));
        // A call that goes on makes the other one better.
        let (first, going_on) = plan.choose(1, &[], now, &mut chance).unwrap();
        let (second, also_going_on) = plan.choose(1, &[], now, &mut chance).unwrap();
        assert_eq!(first + second, 30);
        plan.call_ended(1, going_on, ReplicaOutcome::Answered, Some(0), now);
        assert_eq!(goes_by(&mut plan, 1, now), Some(first));
        plan.forget(now, |link| *link == 10);
        plan.call_ended(1, also_going_on, ReplicaOutcome::Failed, None, now);
        assert_eq!(goes_by(&mut plan, 1, now), Some(20), "there is no choice");
        assert!(plan.needs_another(1, now));
    }

    #[test]
    fn an_old_connection_is_replaced_elsewhere_or_at_its_own_address() {
        let (mut plan, now) = (FrameConnectionPlan::<u8, u32>::new(), Instant::now());
        let mut chance = Rng::with_seed(1);
        plan.offered(1, now);
        plan.offered(1, now);
        opens(&mut plan, 1, 1, 10, now);
        assert!(!plan.needs_another(1, now + HOUR / 2) && plan.needs_another(1, now + HOUR));
        assert_eq!(plan.candidates(1, vec![at(1)], now, &mut chance), [at(1)]);
        assert_eq!(opens(&mut plan, 1, 1, 11, now + HOUR), Some(10));
        assert!(plan.needs_another(1, now + HOUR * 2));
        assert_eq!(plan.candidates(1, vec![at(7)], now, &mut chance), [at(7)], "the name has changed");
        assert_eq!(opens(&mut plan, 1, 7, 12, now + HOUR * 2), Some(11));
    }

    #[test]
    fn an_address_that_held_up_the_opening_comes_last() {
        let (mut plan, now) = (FrameConnectionPlan::<u8, u32>::new(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        plan.stalled(&at(1));
        for seed in 0..8 {
            let candidates = plan.candidates(1, vec![at(1), at(2)], now, &mut Rng::with_seed(seed));
            assert_eq!(candidates, [at(2), at(1)]);
        }
    }

    /// A plan whose runtime 1 has connections 10 and 20 to two addresses.
    fn with_two(now: Instant) -> FrameConnectionPlan<u8, u32> {
        let mut plan = FrameConnectionPlan::new();
        plan.offered(1, now);
        reopen(&mut plan, [10, 20], now);
        plan
    }

    fn reopen(plan: &mut FrameConnectionPlan<u8, u32>, [one, two]: [u32; 2], now: Instant) {
        assert!(plan.offered(1, now));
        plan.candidates(1, vec![at(1), at(2)], now, &mut Rng::with_seed(1));
        opens(plan, 1, 1, one, now);
        assert!(plan.needs_another(1, now));
        opens(plan, 1, 2, two, now);
    }

    /// Which connections calls go by that end at once.
    fn used_by_many(plan: &mut FrameConnectionPlan<u8, u32>, now: Instant) -> BTreeSet<u32> {
        let mut chance = Rng::with_seed(1);
        let call = |_| {
            let (link, sent) = plan.choose(1, &[], now, &mut chance).unwrap();
            plan.call_ended(1, sent, ReplicaOutcome::Answered, None, now);
            link
        };
        (0..50).map(call).collect()
    }

    #[test]
    fn a_report_that_came_with_no_answer_to_the_call_is_ignored() {
        let now = Instant::now();
        let mut plan = with_two(now);
        let mut chance = Rng::with_seed(1);
        // A report counts as long as answers usually take.
        let at_both = [(); 2].map(|()| plan.choose(1, &[], now, &mut chance).unwrap().1);
        let later = now + Duration::from_millis(10);
        for sent in at_both {
            plan.call_ended(1, sent, ReplicaOutcome::Answered, Some(0), later);
        }
        let (_, given_up) = plan.choose(1, &[], later, &mut chance).unwrap();
        plan.call_ended(1, given_up, ReplicaOutcome::Cancelled, Some(1000), later);
        assert_eq!(used_by_many(&mut plan, later), [10, 20].into());
    }

    #[test]
    fn a_call_that_ends_late_is_not_counted_at_a_later_replica() {
        let now = Instant::now();
        let mut plan = with_two(now);
        let mut chance = Rng::with_seed(1);
        let late: Vec<_> = (0..20).map(|_| plan.choose(1, &[], now, &mut chance).unwrap().1).collect();
        plan.forget(now, |_| true);
        reopen(&mut plan, [30, 40], now);
        assert_eq!(used_by_many(&mut plan, now), [30, 40].into());
        for (index, sent) in late.into_iter().enumerate() {
            let outcome = if index < 10 { ReplicaOutcome::Answered } else { ReplicaOutcome::Failed };
            plan.call_ended(1, sent, outcome, (index < 10).then_some(1000), now);
        }
        assert_eq!(used_by_many(&mut plan, now), [30, 40].into());
    }

    #[test]
    fn an_address_whose_connections_are_cut_again_and_again_is_left_alone_for_a_while() {
        let (mut plan, now) = (FrameConnectionPlan::<u8, u32>::new(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        for _ in 0..3 {
            plan.ended(&at(1), true, Duration::from_secs(1), now, 0.5);
        }
        let mut candidates = |now| plan.candidates(1, vec![at(1), at(2)], now, &mut Rng::with_seed(1));
        assert_eq!(candidates(now), [at(2)]);
        assert_eq!(candidates(now + Duration::from_secs(60)).len(), 2);
    }

    #[test]
    fn a_replica_that_is_missing_is_looked_for_sooner() {
        let (mut plan, now) = (FrameConnectionPlan::<u8, u32>::new(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        opens(&mut plan, 1, 1, 10, now);
        assert_eq!(plan.look_at(1, now), now + LOOK);
        plan.needs_another(1, now + HOUR);
        plan.candidates(1, vec![at(1), at(2)], now, &mut Rng::with_seed(1));
        assert_eq!(plan.look_at(1, now), now + LOOK_FOR_MISSING);
        for _ in 0..3 {
            plan.failed(now, 0.5);
        }
        assert_eq!(plan.look_at(1, now), now + Duration::from_secs(4));
    }

    #[test]
    fn a_connection_to_an_address_that_is_gone_is_left_when_there_is_another() {
        let (mut plan, now) = (FrameConnectionPlan::<u8, u32>::new(), Instant::now());
        let mut chance = Rng::with_seed(1);
        plan.offered(1, now);
        plan.offered(1, now);
        plan.candidates(1, vec![at(1), at(2)], now, &mut chance);
        opens(&mut plan, 1, 1, 10, now);
        opens(&mut plan, 1, 2, 20, now);
        assert!(!plan.take_use() && goes_by(&mut plan, 1, now).is_some());
        assert!(plan.take_use() && !plan.take_use(), "since it was asked last");
        assert!(plan.addresses_are(&[at(2), at(1)], now).is_empty());
        assert_eq!(plan.addresses_are(&[at(2), at(3)], now), [10]);
        assert!(plan.needs_another(1, now), "one to the third");
        assert_eq!(plan.candidates(1, vec![at(2), at(3)], now, &mut chance), [at(3)]);
        opens(&mut plan, 1, 3, 30, now);
        // All are gone, and what is new is of another family.
        assert!(plan.addresses_are(&[at_ipv6(4)], now).is_empty());
        assert!(goes_by(&mut plan, 1, now).is_some(), "they are better than none");
        assert!(plan.needs_another(1, now));
        assert_eq!(plan.candidates(1, vec![at_ipv6(4)], now, &mut chance), [at_ipv6(4)]);
        assert_eq!(plan.opened(1, at_ipv6(4), 40, now + HOUR, now), Some(20));
        plan.opening_ended(1);
        assert_eq!(plan.addresses_are(&[at_ipv6(4)], now), [30]);
        assert!(!plan.needs_another(1, now));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Offered(u8),
        Look(u8),
        /// The opening for this runtime succeeds at that one of the candidates, or fails.
        Ends(u8, Option<usize>),
        /// A connection of this runtime ends.
        Breaks(u8, bool),
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let runtime = || 0..3u8;
        prop_oneof![
            runtime().prop_map(Event::Offered),
            runtime().prop_map(Event::Look),
            (runtime(), proptest::option::weighted(0.8, 0..8usize)).prop_map(|(who, at)| Event::Ends(who, at)),
            (runtime(), any::<bool>()).prop_map(|(who, was_cut)| Event::Breaks(who, was_cut)),
            (0..4000u64).prop_map(Event::Pass),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn calls_leave_no_address_for_nothing(
            linked in proptest::collection::btree_set(1..6u16, 1..5),
            listed in proptest::collection::btree_set(1..9u16, 1..8),
        ) {
            let (mut plan, now) = (FrameConnectionPlan::<u8, u16>::new(), Instant::now());
            plan.offered(1, now);
            plan.offered(1, now);
            plan.candidates(1, linked.iter().map(|port| at(*port)).collect(), now, &mut Rng::with_seed(1));
            for port in &linked {
                plan.opened(1, at(*port), *port, now + HOUR, now);
            }
            plan.opening_ended(1);
            let addresses: Vec<_> = listed.iter().map(|port| at(*port)).collect();
            let left = plan.addresses_are(&addresses, now);
            let kept: Vec<_> = linked.intersection(&listed).copied().collect();
            if kept.is_empty() {
                prop_assert!(left.is_empty() && plan.needs_another(1, now));
            } else {
                prop_assert_eq!(left, linked.difference(&listed).copied().collect::<Vec<_>>());
                prop_assert_eq!(plan.needs_another(1, now), kept.len() < SPREAD.min(listed.len()));
            }
            prop_assert!(plan.choose(1, &[], now, &mut Rng::with_seed(1)).is_some());
        }

        #[test]
        fn a_runtime_has_one_connection_for_each_of_a_few_addresses(
            events in proptest::collection::vec(event(), 0..60),
            addresses in 1..7u16,
            seed in any::<u64>(),
        ) {
            let (mut plan, mut now, mut chance) = (FrameConnectionPlan::<u8, u32>::new(), Instant::now(), Rng::with_seed(seed));
            let mut opening = [false; 3];
            // The connections of each runtime, by what the machine said of them.
            let mut open: BTreeMap<u32, (u8, Address)> = BTreeMap::new();
            let mut next = 0;
            for event in events {
                let begun = match event {
                    Event::Offered(who) => plan.offered(who, now).then_some(who),
                    Event::Look(who) => plan.needs_another(who, now).then_some(who),
                    Event::Ends(who, at) if opening[usize::from(who)] => {
                        let all: Vec<_> = (1..=addresses).map(self::at).collect();
                        let candidates = plan.candidates(who, all, now, &mut chance);
                        match at.and_then(|at| candidates.get(at % candidates.len().max(1))) {
                            Some(address) => {
                                next += 1;
                                let until = now + Duration::from_secs(300);
                                let old = plan.opened(who, address.clone(), next, until, now);
                                if let Some(old) = old {
                                    prop_assert_eq!(open.remove(&old).map(|(owner, _)| owner), Some(who));
                                }
                                open.insert(next, (who, address.clone()));
                            }
                            None => plan.failed(now, chance.f64()),
                        }
                        plan.opening_ended(who);
                        opening[usize::from(who)] = false;
                        None
                    }
                    Event::Breaks(who, was_cut) => {
                        let link = open.iter().find(|(_, (owner, _))| *owner == who).map(|(link, _)| *link);
                        if let Some((link, (_, address))) = link.and_then(|link| open.remove_entry(&link)) {
                            plan.ended(&address, was_cut, Duration::from_secs(1), now, chance.f64());
                            plan.forget(now, |known| *known == link);
                        }
                        None
                    }
                    Event::Pass(seconds) => {
                        now += Duration::from_secs(seconds);
                        None
                    }
                    Event::Ends(..) => None,
                };
                if let Some(who) = begun {
                    prop_assert!(!std::mem::replace(&mut opening[usize::from(who)], true), "one at a time");
                }
                for who in 0..3 {
                    let own: Vec<_> = open.iter().filter(|(_, (owner, _))| *owner == who).collect();
                    prop_assert!(own.len() <= SPREAD.min(addresses.into()));
                    for (index, (_, (_, address))) in own.iter().enumerate() {
                        prop_assert!(own[..index].iter().all(|(_, (_, other))| other != address), "{:?}", own);
                    }
                    match plan.choose(who, &[], now, &mut chance) {
                        Some((chosen, sent)) => {
                            prop_assert!(own.iter().any(|(link, _)| **link == chosen));
                            let outcome = [ReplicaOutcome::Answered, ReplicaOutcome::Failed][chance.usize(..2)];
                            plan.call_ended(who, sent, outcome, None, now);
                        }
                        None => prop_assert!(own.is_empty()),
                    }
                }
            }
        }
    }
}
