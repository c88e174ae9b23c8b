//! Which connections of frames a service has and wants: [`FrameConnectionPlan`]. A state machine without sockets, without a
//! clock and without chance of its own.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::address_order::AddressOrder;
use super::affinity::Affinity;
use super::frame_connection::Upgrades;
use super::replica_choice::{ReplicaId, ReplicaView, SentCall};
use super::replica_load::ReplicaOutcome;
use super::replica_subset::ReplicaSubset;
use super::runtime_connections::{LOOK, OpenedLink, RuntimeConnections};
use crate::address::Address;
use crate::deadline::later;
use crate::wire::instance_and_load::InstanceId;

/// If an address is missing, the plan is looked at again after this time, or when the pause after a failure is over.
const LOOK_FOR_MISSING: Duration = Duration::from_secs(1);

/// The connections of each runtime, and when another is opened. `K` names a runtime, or some threads of it, and `L` is a connection.
#[derive(Debug)]
pub(super) struct FrameConnectionPlan<K, L> {
    /// The server has offered frames before. A client that makes one call needs no such connection.
    was_offered: bool,
    /// A call had one of these connections to go by.
    was_used: bool,
    /// So had a call since this was asked last.
    is_in_use: bool,
    members: Vec<RuntimeConnections<K, L>>,
    /// Which addresses come first if there are many.
    subset: ReplicaSubset,
    /// The last search for several instances behind one address has found none.
    search_was_vain: bool,
    /// When another may be opened anywhere.
    upgrades: Upgrades,
    /// When another may be opened at addresses that could not be connected to, or whose connections were cut.
    pauses: Vec<(Address, Upgrades)>,
    /// Addresses that did not change to frames in time come last.
    order: AddressOrder,
}

impl<K: Copy + PartialEq, L: Clone> FrameConnectionPlan<K, L> {
    pub(super) fn new(subset: ReplicaSubset) -> Self {
        let (upgrades, order) = (Upgrades::default(), AddressOrder::default());
        Self {
            was_offered: false,
            was_used: false,
            is_in_use: false,
            members: Vec::new(),
            subset,
            search_was_vain: false,
            upgrades,
            pauses: Vec::new(),
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
        let chosen = self.member(runtime)?.choose(tried, now, chance)?;
        (self.was_used, self.is_in_use) = (true, true);
        Some(chosen)
    }

    /// As [`choose`](Self::choose), for a call that wants the replica of its key.
    pub(super) fn choose_by(
        &mut self,
        runtime: K,
        affinity: Affinity,
        tried: &[ReplicaId],
        now: Instant,
    ) -> Option<(L, SentCall)> {
        let chosen = self.member(runtime)?.choose_by(affinity, tried, now)?;
        (self.was_used, self.is_in_use) = (true, true);
        Some(chosen)
    }

    /// As [`choose`](Self::choose), for a call that goes to this server.
    pub(super) fn choose_instance(&mut self, runtime: K, instance: InstanceId, now: Instant) -> Option<(L, SentCall)> {
        let chosen = self.member(runtime)?.choose_instance(instance, now)?;
        (self.was_used, self.is_in_use) = (true, true);
        Some(chosen)
    }

    /// Any connection of this runtime. No call goes by it yet.
    pub(super) fn any(&self, runtime: K) -> Option<&L> {
        self.members.iter().find(|member| member.runtime == runtime)?.any()
    }

    /// The connections of these runtimes.
    pub(super) fn links(&self, is_of: impl Fn(K) -> bool) -> impl Iterator<Item = &L> {
        self.members.iter().filter(move |member| is_of(member.runtime)).flat_map(RuntimeConnections::all)
    }

    /// Each connection with what is known of its replica.
    pub(super) fn views(&self, now: Instant) -> impl Iterator<Item = (L, ReplicaView)> {
        self.members.iter().flat_map(move |member| member.views(now))
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
        if let Some(member) = self.member(runtime) {
            member.call_ended(sent, outcome, calls, now);
        }
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
        // Otherwise a connection is missing that may not be opened yet.
        let (usable, subset) = (self.usable(addresses, now), self.subset);
        self.members.iter_mut().flat_map(|member| member.addresses_are(&usable, subset, now)).collect()
    }

    /// The server offers frames. Whether the caller must open a connection for this runtime.
    pub(super) fn offered(&mut self, runtime: K, now: Instant) -> bool {
        std::mem::replace(&mut self.was_offered, true) && self.begin(runtime, now)
    }

    /// Whether the caller must open a connection for this runtime, although others have one that its calls can go by.
    pub(super) fn may_open(&mut self, runtime: K, now: Instant) -> bool {
        self.begin(runtime, now)
    }

    /// Whether the caller must open another connection for this runtime, which has one.
    pub(super) fn needs_another(&mut self, runtime: K, now: Instant) -> bool {
        self.member(runtime).is_some() && self.begin(runtime, now)
    }

    /// The addresses for another connection of this runtime, the best first.
    pub(super) fn candidates(&mut self, runtime: K, addresses: Vec<Address>, now: Instant) -> Vec<Address> {
        self.pauses.retain(|(address, _)| addresses.contains(address));
        let addresses = self.usable(&addresses, now);
        let subset = self.subset;
        let member = self.member(runtime);
        let mut candidates = member.map(|member| member.candidates(&addresses, subset, now)).unwrap_or_default();
        self.order.order(&mut candidates);
        candidates
    }

    /// An address held up the opening of a connection.
    pub(super) fn stalled(&mut self, address: &Address) {
        self.order.timed_out(address);
    }

    /// A connection is open. Calls go by it too until then, unless it leads to an instance that has one. Returns the
    /// connections that no further call goes by: those that it replaces, or itself. `jitter` is random, from 0 to 1.
    pub(super) fn opened(&mut self, runtime: K, opened: OpenedLink<L>, now: Instant, jitter: f64) -> Vec<L> {
        self.upgrades.opened();
        if let Some((_, upgrades)) = self.pauses.iter_mut().find(|(address, _)| *address == opened.address) {
            upgrades.opened();
        }
        self.order.answered(&opened.address);
        let Some(member) = self.member(runtime) else { return vec![opened.link] };
        let left = member.opened(opened, now, jitter);
        let (has_several, has_searched) = (member.has_several(), member.has_searched());
        self.search_was_vain = !has_several && (has_searched || self.search_was_vain);
        left
    }

    /// No connection could be opened for this runtime at these addresses. `jitter` is random, from 0 to 1.
    pub(super) fn failed(&mut self, runtime: K, tried: &[Address], now: Instant, jitter: f64) {
        let (mut was_needed, mut are_others_used) = (true, false);
        if let Some(member) = self.member(runtime) {
            was_needed = member.failed(now, jitter);
            are_others_used = member.any().is_some() && !tried.iter().any(|address| member.is_linked_to(address));
        }
        if was_needed && are_others_used && !tried.is_empty() {
            // Other addresses have connections. These do not hold up any further one, for example to a new replica.
            tried.iter().for_each(|address| self.pauses_at(address).failed_beside_others(now, jitter));
        } else if was_needed {
            self.upgrades.failed(now, jitter);
        }
    }

    /// The opening is over, whatever came of it.
    pub(super) fn opening_ended(&mut self, runtime: K) {
        if let Some(member) = self.member(runtime) {
            member.opening_ended();
        }
        self.forget_members();
    }

    /// A connection to this address has ended; `was_cut` if it ended without notice during calls. `jitter` is random, from
    /// 0 to 1.
    pub(super) fn ended(&mut self, address: &Address, was_cut: bool, age: Duration, now: Instant, jitter: f64) {
        self.pauses_at(address).ended(was_cut, age, now, jitter);
    }

    /// No further call goes by the connections that this is true of.
    pub(super) fn forget(&mut self, now: Instant, is_over: impl Fn(&L) -> bool) {
        for member in &mut self.members {
            member.forget(now, &is_over);
        }
        self.forget_members();
    }

    /// When to ask again whether this runtime [needs another](Self::needs_another). It is later than now.
    pub(super) fn look_at(&self, runtime: K, now: Instant) -> Instant {
        match self.members.iter().find(|member| member.runtime == runtime) {
            Some(member) if member.is_missing() => later(now, LOOK_FOR_MISSING).max(self.upgrades.not_before(now)),
            Some(member) => {
                let pauses = self.pauses.iter().map(|(_, upgrades)| upgrades.not_before(now));
                pauses.filter(|ends| *ends > now).fold(member.look_at(now), Instant::min)
            }
            None => later(now, LOOK),
        }
    }

    /// Takes out all connections.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = L> {
        self.members.iter_mut().flat_map(RuntimeConnections::take_all)
    }

    fn member(&mut self, runtime: K) -> Option<&mut RuntimeConnections<K, L>> {
        self.members.iter_mut().find(|member| member.runtime == runtime)
    }

    /// Those of the addresses that have a connection, or may have another one.
    fn usable(&self, addresses: &[Address], now: Instant) -> Vec<Address> {
        let is_paused =
            |address| self.pauses.iter().any(|(paused, upgrades)| paused == address && !upgrades.may_try(now));
        let is_linked = |address| self.members.iter().any(|member| member.is_linked_to(address));
        addresses.iter().filter(|address| !is_paused(*address) || is_linked(address)).cloned().collect()
    }

    fn pauses_at(&mut self, address: &Address) -> &mut Upgrades {
        let index = self.pauses.iter().position(|(paused, _)| paused == address).unwrap_or_else(|| {
            self.pauses.push((address.clone(), Upgrades::default()));
            self.pauses.len() - 1
        });
        &mut self.pauses[index].1
    }

    fn forget_members(&mut self) {
        self.members.retain(|member| !member.is_unused());
    }

    /// Whether the caller must open another connection for this runtime. It counts as begun then.
    fn begin(&mut self, runtime: K, now: Instant) -> bool {
        if !self.upgrades.may_try(now) {
            return false;
        }
        if let Some(member) = self.member(runtime) {
            return member.begin(now);
        }
        self.members.push(RuntimeConnections::new(runtime, self.search_was_vain, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use fastrand::Rng;
    use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::super::runtime_connections::SPREAD;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(port: u16) -> Address {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn at_ipv6(port: u16) -> Address {
        std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)).into()
    }

    fn plan() -> FrameConnectionPlan<u8, u32> {
        FrameConnectionPlan::new(ReplicaSubset::random(1))
    }

    /// To a server that says no instance.
    fn link<L>(address: Address, link: L, until: Instant) -> OpenedLink<L> {
        OpenedLink { address, instance: None, link, until }
    }

    fn opens(plan: &mut FrameConnectionPlan<u8, u32>, runtime: u8, port: u16, link: u32, now: Instant) -> Option<u32> {
        let mut left = plan.opened(runtime, self::link(at(port), link, now + HOUR), now, 0.5);
        plan.opening_ended(runtime);
        assert!(left.len() <= 1);
        left.pop()
    }

    /// The connection of a call that ends at once.
    fn goes_by(plan: &mut FrameConnectionPlan<u8, u32>, runtime: u8, now: Instant) -> Option<u32> {
        let (link, sent) = plan.choose(runtime, &[], now, &mut Rng::with_seed(1))?;
        plan.call_ended(runtime, sent, ReplicaOutcome::Answered, None, now);
        Some(link)
    }

    #[test]
    fn a_connection_is_opened_at_the_second_offer_and_one_at_a_time() {
        let (mut plan, now) = (plan(), Instant::now());
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
        let (mut plan, now) = (plan(), Instant::now());
        let addresses = || vec![at(1), at_ipv6(1), at(2)];
        let mut chance = Rng::with_seed(1);
        plan.offered(1, now);
        assert!(plan.offered(1, now));
        assert_eq!(plan.candidates(1, addresses(), now).len(), 3, "the first may go anywhere");
        opens(&mut plan, 1, 1, 10, now);
        assert!(plan.needs_another(1, now), "there are two of its family");
        assert_eq!(plan.candidates(1, addresses(), now), [at(2)]);
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
        let (mut plan, now) = (plan(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        opens(&mut plan, 1, 1, 10, now);
        assert!(!plan.needs_another(1, now + HOUR / 2) && !plan.needs_another(1, now + HOUR), "it is not used");
        goes_by(&mut plan, 1, now + HOUR);
        assert!(plan.needs_another(1, now + HOUR));
        assert_eq!(plan.candidates(1, vec![at(1)], now + HOUR), [at(1)]);
        assert_eq!(opens(&mut plan, 1, 1, 11, now + HOUR), Some(10));
        goes_by(&mut plan, 1, now + HOUR * 2);
        assert!(plan.needs_another(1, now + HOUR * 2));
        assert_eq!(plan.candidates(1, vec![at(7)], now + HOUR * 2), [at(7)], "the name has changed");
        assert_eq!(opens(&mut plan, 1, 7, 12, now + HOUR * 2), Some(11));
    }

    #[test]
    fn an_address_that_held_up_the_opening_comes_last() {
        let (mut plan, now) = (plan(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        plan.stalled(&at(1));
        for identity in 0..8 {
            plan.subset = ReplicaSubset::random(identity);
            assert_eq!(plan.candidates(1, vec![at(1), at(2)], now), [at(2), at(1)]);
        }
    }

    /// A plan whose runtime 1 has connections 10 and 20 to two addresses.
    fn with_two(now: Instant) -> FrameConnectionPlan<u8, u32> {
        let mut plan = plan();
        plan.offered(1, now);
        reopen(&mut plan, [10, 20], now);
        plan
    }

    fn reopen(plan: &mut FrameConnectionPlan<u8, u32>, [one, two]: [u32; 2], now: Instant) {
        assert!(plan.offered(1, now));
        plan.candidates(1, vec![at(1), at(2)], now);
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
        let (mut plan, now) = (plan(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        for _ in 0..3 {
            plan.ended(&at(1), true, Duration::from_secs(1), now, 0.5);
        }
        let mut candidates = |now| plan.candidates(1, vec![at(1), at(2)], now);
        assert_eq!(candidates(now), [at(2)]);
        assert_eq!(candidates(now + Duration::from_secs(60)).len(), 2);
    }

    /// A simulation found that others were opened instead, one after the other without a pause.
    #[test]
    fn while_an_address_is_left_alone_no_connection_is_opened_in_its_place() {
        let (mut plan, now) = (plan(), Instant::now());
        let all = [at(1), at(2), at(3)];
        plan.offered(1, now);
        plan.offered(1, now);
        for port in 1..=3 {
            assert!(port == 1 || plan.needs_another(1, now));
            plan.candidates(1, all.to_vec(), now);
            opens(&mut plan, 1, port, u32::from(port), now);
        }
        for _ in 0..3 {
            plan.ended(&at(3), true, Duration::from_secs(1), now, 0.5);
        }
        plan.forget(now, |link| *link == 3);
        assert!(plan.addresses_are(&all, now).is_empty());
        assert!(!plan.needs_another(1, now));
        let later = now + Duration::from_secs(60);
        assert!(goes_by(&mut plan, 1, later).is_some(), "it is used");
        assert!(plan.addresses_are(&all, later).is_empty());
        assert!(plan.needs_another(1, later));
        assert_eq!(plan.candidates(1, all.to_vec(), later), [at(3)]);
    }

    #[test]
    fn an_address_that_fails_holds_up_no_other() {
        let (mut plan, now) = (plan(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        opens(&mut plan, 1, 1, 10, now);
        let fails_at_2 = |plan: &mut FrameConnectionPlan<u8, u32>, now| {
            plan.addresses_are(&[at(1), at(2)], now);
            assert!(goes_by(plan, 1, now).is_some() && plan.needs_another(1, now));
            assert_eq!(plan.candidates(1, vec![at(1), at(2)], now), [at(2)]);
            plan.failed(1, &[at(2)], now, 0.5);
            plan.opening_ended(1);
            plan.addresses_are(&[at(1), at(2)], now);
            assert!(!plan.needs_another(1, now), "it has failed just now");
        };
        fails_at_2(&mut plan, now);
        plan.addresses_are(&[at(1), at(2), at(3)], now);
        assert!(plan.needs_another(1, now), "a replica is new");
        assert_eq!(plan.candidates(1, vec![at(1), at(2), at(3)], now), [at(3)]);
        plan.opening_ended(1);
        // It is tried again after pauses that stay short.
        let mut now = now + Duration::from_secs(1);
        for seconds in [2, 4, 5, 5, 5] {
            fails_at_2(&mut plan, now);
            assert_eq!(plan.look_at(1, now), now + Duration::from_secs(seconds));
            now += Duration::from_secs(seconds);
        }
        // Another one replaces the one that is connected.
        now -= Duration::from_secs(1);
        plan.addresses_are(&[at(2), at(4)], now);
        assert!(plan.needs_another(1, now));
        assert_eq!(plan.candidates(1, vec![at(2), at(4)], now), [at(4)]);
    }

    #[test]
    fn a_replica_that_is_missing_is_looked_for_sooner() {
        let (mut plan, now) = (plan(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        opens(&mut plan, 1, 1, 10, now);
        assert_eq!(plan.look_at(1, now), now + LOOK);
        plan.needs_another(1, now + HOUR);
        plan.candidates(1, vec![at(1), at(2)], now);
        assert_eq!(plan.look_at(1, now), now + LOOK_FOR_MISSING);
        for _ in 0..3 {
            plan.failed(1, &[at(1)], now, 0.5);
        }
        assert_eq!(plan.look_at(1, now), now + Duration::from_secs(4));
    }

    #[test]
    fn one_search_without_another_instance_is_enough_for_a_client() {
        let (mut plan, mut now) = (plan(), Instant::now());
        let alone = |link, until| OpenedLink {
            instance: InstanceId::read("0000000000000001"),
            ..self::link(at(1), link, until)
        };
        plan.offered(1, now);
        let mut tries = |plan: &mut FrameConnectionPlan<u8, u32>, links: std::ops::Range<u32>| {
            assert!(plan.offered(1, now));
            plan.candidates(1, vec![at(1)], now);
            assert!(plan.opened(1, alone(0, now + HOUR), now, 0.5).is_empty());
            plan.opening_ended(1);
            let mut tries = 0;
            for link in links {
                goes_by(plan, 1, now);
                if plan.needs_another(1, now) {
                    assert_eq!(plan.candidates(1, vec![at(1)], now), [at(1)]);
                    assert_eq!(
                        plan.opened(1, alone(link, now + HOUR), now, 0.5),
                        [link],
                        "it leads to the same instance"
                    );
                    plan.opening_ended(1);
                    tries += 1;
                }
                now = plan.look_at(1, now);
            }
            plan.forget(now, |_| true);
            tries
        };
        assert_eq!(tries(&mut plan, 1..20), 5);
        assert_eq!(tries(&mut plan, 1..20), 1, "after a restart of the server");
    }

    #[test]
    fn a_connection_to_an_address_that_is_gone_is_left_when_there_is_another() {
        let (mut plan, now) = (plan(), Instant::now());
        plan.offered(1, now);
        plan.offered(1, now);
        plan.candidates(1, vec![at(1), at(2)], now);
        opens(&mut plan, 1, 1, 10, now);
        opens(&mut plan, 1, 2, 20, now);
        assert!(!plan.take_use() && goes_by(&mut plan, 1, now).is_some());
        assert!(plan.take_use() && !plan.take_use(), "since it was asked last");
        assert!(plan.addresses_are(&[at(2), at(1)], now).is_empty());
        assert_eq!(plan.addresses_are(&[at(2), at(3)], now), [10]);
        assert!(plan.needs_another(1, now), "one to the third");
        assert_eq!(plan.candidates(1, vec![at(2), at(3)], now), [at(3)]);
        opens(&mut plan, 1, 3, 30, now);
        // All are gone, and what is new is of another family.
        assert!(plan.addresses_are(&[at_ipv6(4)], now).is_empty());
        assert!(goes_by(&mut plan, 1, now).is_some(), "they are better than none");
        assert!(plan.needs_another(1, now));
        assert_eq!(plan.candidates(1, vec![at_ipv6(4)], now), [at_ipv6(4)]);
        assert_eq!(plan.opened(1, link(at_ipv6(4), 40, now + HOUR), now, 0.5), [20]);
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
            let (mut plan, now) = (FrameConnectionPlan::<u8, u16>::new(ReplicaSubset::random(1)), Instant::now());
            plan.offered(1, now);
            plan.offered(1, now);
            plan.candidates(1, linked.iter().map(|port| at(*port)).collect(), now);
            for port in &linked {
                plan.opened(1, link(at(*port), *port, now + HOUR), now, 0.5);
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
            let (mut plan, mut now, mut chance) = (plan(), Instant::now(), Rng::with_seed(seed));
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
                        let candidates = plan.candidates(who, all, now);
                        match at.and_then(|at| candidates.get(at % candidates.len().max(1))) {
                            Some(address) => {
                                next += 1;
                                let until = now + Duration::from_secs(300);
                                for old in plan.opened(who, link(address.clone(), next, until), now, chance.f64()) {
                                    prop_assert_eq!(open.remove(&old).map(|(owner, _)| owner), Some(who));
                                }
                                open.insert(next, (who, address.clone()));
                            }
                            None => plan.failed(who, &candidates, now, chance.f64()),
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
