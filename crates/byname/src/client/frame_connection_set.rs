//! The connections of frames of one service. [`FrameConnectionPlan`](super::frame_connection_plan::FrameConnectionPlan) says
//! which ones are opened and by which one a call goes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, ready};
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::{Handle, Id, RuntimeFlavor};
use tokio::time::Instant;

use super::affinity::ReplicaWish;
use super::call_lanes::{CallLane, LaneWatch};
use super::connect::addresses;
use super::frame_connection::{FrameConnection, open};
use super::frame_connection_plan::FrameConnectionPlan;
use super::replica_choice::{ReplicaId, ReplicaView, SentCall};
use super::replica_load::ReplicaOutcome;
use super::runtime_connections::OpenedLink;
use super::service_target::ServiceTarget;
use crate::address::Address;
use crate::clock_and_chance::{random_fraction, random_source};
use crate::codec::Codec;
use crate::deadline::{DeadlineTimer, later, until};
use crate::limits_and_timeouts::Limits;
use crate::runtime;

/// Each runtime has one connection, or several if the service has several addresses, or several servers behind one.
/// A busy runtime of several threads has several; see [`LaneWatch`].
pub(super) struct FrameConnectionSet {
    target: ServiceTarget,
    limits: Limits,
    /// The codec of values, if the server can read it.
    codec: Codec,
    /// Called with each runtime whose calls go by frames from now on.
    opened: Box<dyn Fn(Id) + Send + Sync>,
    opened_count: AtomicU64,
    known: Mutex<KnownConnections>,
}

struct KnownConnections {
    plan: FrameConnectionPlan<CallLane, Arc<FrameConnection>>,
    chance: Rng,
    watch: LaneWatch,
}

/// The connection of one call.
pub(super) struct ChosenConnection {
    pub(super) link: Arc<FrameConnection>,
    pub(super) count: ReplicaCount,
}

/// A call counts at its replica until [`ended`](Self::ended) says how it ended. Dropping this means that the caller gave up.
/// With one replica nothing is counted.
#[derive(Default)]
pub(super) struct ReplicaCount(Option<Box<CountedCall>>);

struct CountedCall {
    set: Arc<FrameConnectionSet>,
    link: Arc<FrameConnection>,
    lane: CallLane,
    /// `None` once it has ended.
    sent: Option<SentCall>,
}

impl FrameConnectionSet {
    pub(super) fn new(
        target: ServiceTarget,
        limits: Limits,
        codec: Codec,
        opened: impl Fn(Id) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let plan = FrameConnectionPlan::new(target.subset());
        Arc::new(Self {
            target,
            limits,
            codec,
            opened: Box::new(opened),
            opened_count: AtomicU64::new(0),
            known: Mutex::new(KnownConnections { plan, chance: random_source(), watch: LaneWatch::default() }),
        })
    }

    pub(super) fn url(&self) -> String {
        self.target.url()
    }

    /// Whether the service has other replicas than the one at this address.
    pub(super) fn is_one_of_several(&self, address: &Address) -> bool {
        self.target.is_one_of_several(address)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The connection that the next call of this runtime goes by. The call is sent now.
    pub(super) fn choose(
        self: &Arc<Self>,
        runtime: &Handle,
        wish: ReplicaWish<'_>,
        now: Instant,
    ) -> Option<ChosenConnection> {
        let mut known = self.known();
        let (lane, missing) = known.lane(runtime, now);
        let KnownConnections { plan, chance, .. } = &mut *known;
        let chosen = match wish.affinity {
            // The connections of other lanes may lead to other servers.
            _ if let Some(pinned) = wish.pinned => {
                lane.all().find_map(|lane| Some((lane, plan.choose_instance(lane, pinned.instance, now)?)))
            }
            None => plan.choose(lane, wish.tried, now, chance).map(|chosen| (lane, chosen)),
            Some(affinity) => {
                lane.all().find_map(|lane| Some((lane, plan.choose_by(lane, affinity, wish.tried, now)?)))
            }
        };
        drop(known);
        if let Some(missing) = missing {
            self.start(runtime, missing);
        }
        let (lane, (link, sent)) = chosen?;
        let counted = sent.is_counted().then(|| {
            let (set, link) = (Arc::clone(self), Arc::clone(&link));
            Box::new(CountedCall { set, link, lane, sent: Some(sent) })
        });
        Some(ChosenConnection { link, count: ReplicaCount(counted) })
    }

    /// The codec of this runtime's calls, if they go by frames now.
    pub(super) fn codec_now(&self, runtime: Id) -> Option<Codec> {
        self.known().plan.links(|lane| lane.runtime == runtime).next().map(|link| link.codec())
    }

    /// The server offers frames. A connection is opened in the background, unless there is one or it is too early.
    pub(super) fn offered(self: &Arc<Self>) {
        let runtime = Handle::current();
        let lane = CallLane::first(runtime.id());
        if self.known().plan.offered(lane, Instant::now()) {
            self.start(&runtime, lane);
        }
    }

    /// Each connection with what is known of its replica.
    pub(super) fn views(&self, now: Instant) -> Vec<(Arc<FrameConnection>, ReplicaView)> {
        self.known().plan.views(now).collect()
    }

    /// How many connections were opened.
    pub(super) fn opened_count(&self) -> u64 {
        self.opened_count.load(Ordering::Relaxed)
    }

    /// How many connections a runtime of several threads has to one server, at most.
    pub(super) fn lanes(&self) -> usize {
        self.known().watch.lanes()
    }

    /// Whether a call had one of these connections to go by.
    pub(super) fn was_used(&self) -> bool {
        self.known().plan.was_used()
    }

    /// A connection takes no further call.
    pub(super) fn forget(&self, link: &Arc<FrameConnection>) {
        self.known().plan.forget(Instant::now(), |known| Arc::ptr_eq(known, link));
    }

    /// Opens another connection for these calls if one is needed. Connections to addresses that are gone take no further
    /// call. Returns when to look again because of the addresses, if calls were made since it was asked last.
    fn look(self: &Arc<Self>, runtime: &Handle, lane: CallLane) -> Option<Instant> {
        let is_used = self.known().plan.take_use();
        if let Some(addresses) = self.target.looked_up(is_used) {
            let gone = self.known().plan.addresses_are(&addresses, Instant::now());
            gone.into_iter().for_each(|link| link.leave());
        }
        if self.known().plan.needs_another(lane, Instant::now()) {
            self.start(runtime, lane);
        }
        self.target.look_at(Instant::now()).filter(|_| is_used)
    }

    fn start(self: &Arc<Self>, runtime: &Handle, lane: CallLane) {
        let opening = OpeningGuard { set: Arc::downgrade(self), lane };
        runtime::spawn(runtime, keep(opening));
    }

    fn failed(&self, lane: CallLane, tried: &[Address], why: &str) {
        self.known().plan.failed(lane, tried, Instant::now(), random_fraction());
        tracing::debug!("no further connection of frames with {}: {why}", self.target.url());
    }

    fn known(&self) -> MutexGuard<'_, KnownConnections> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownConnections {
    /// The lane of the next call of this task, and the lane for which the caller must open a connection.
    fn lane(&mut self, runtime: &Handle, now: Instant) -> (CallLane, Option<CallLane>) {
        let first = CallLane::first(runtime.id());
        if runtime.runtime_flavor() != RuntimeFlavor::MultiThread
            || self.plan.links(|lane| lane == first).nth(1).is_some()
        {
            return (first, None);
        }
        let in_flight = || self.plan.links(|lane| lane.runtime == first.runtime).map(|link| link.in_flight()).sum();
        let lanes = self.watch.sent(in_flight, || runtime.metrics().num_workers());
        let own = first.of_this_task(lanes);
        let has_link = |lane: &CallLane| self.plan.any(*lane).is_some();
        if has_link(&own) {
            return (own, None);
        }
        let other = first.all().find(has_link);
        let missing = (other.is_some() && self.plan.may_open(own, now)).then_some(own);
        (other.unwrap_or(first), missing)
    }
}

impl ReplicaCount {
    /// The replica at which the call counts.
    pub(super) fn replica(&self) -> Option<ReplicaId> {
        self.0.as_ref()?.sent.as_ref().map(|sent| sent.replica)
    }

    /// The call has ended.
    pub(super) fn ended(mut self, outcome: ReplicaOutcome) {
        if let Some(counted) = &mut self.0 {
            counted.give_back(outcome);
        }
    }
}

impl CountedCall {
    fn give_back(&mut self, outcome: ReplicaOutcome) {
        if let Some(sent) = self.sent.take() {
            let calls = self.link.reported_calls();
            self.set.known().plan.call_ended(self.lane, sent, outcome, calls, Instant::now());
        }
    }
}

impl Drop for CountedCall {
    /// The caller gave up.
    fn drop(&mut self) {
        self.give_back(ReplicaOutcome::Cancelled);
    }
}

impl Drop for FrameConnectionSet {
    /// The last client is gone: its connections end once the calls in flight are answered.
    fn drop(&mut self) {
        self.known().plan.take_all().for_each(|link| link.leave());
    }
}

/// Opens a connection and drives it to its end.
async fn keep(opening: OpeningGuard) {
    let Some(set) = opening.set.upgrade() else {
        return;
    };
    let (runtime, lane) = (Handle::current(), opening.lane);
    let candidates = match addresses(&set.target).await {
        Ok(addresses) => set.known().plan.candidates(lane, addresses, Instant::now()),
        Err(why) => return set.failed(lane, &[], &why.to_string()),
    };
    let (opened, stalled) = open(&set.target, candidates.clone(), set.codec, &set.limits).await;
    for address in &stalled {
        set.known().plan.stalled(address);
    }
    let (address, mut driver) = match opened {
        Ok(opened) => opened,
        Err(why) => return set.failed(lane, &candidates, &why),
    };
    let link = Arc::clone(driver.link());
    let planned = OpenedLink {
        address: address.clone(),
        instance: link.instance(),
        link: Arc::clone(&link),
        until: link.until(),
    };
    set.opened_count.fetch_add(1, Ordering::Relaxed);
    let left = set.known().plan.opened(lane, planned, Instant::now(), random_fraction());
    left.iter().for_each(|left| left.leave());
    let is_used = !left.iter().any(|left| Arc::ptr_eq(left, &link));
    if is_used {
        (set.opened)(lane.runtime);
    }
    let weak = Weak::clone(&opening.set);
    drop(opening);
    // There may be more addresses, or more servers behind one.
    set.look(&runtime, lane);
    if !is_used {
        tracing::debug!("another connection of frames with {} leads to the same server: {address}", set.target.url());
        let look_at = set.known().plan.look_at(lane, Instant::now());
        drop(set);
        driver.await;
        until(look_at).await;
        if let Some(set) = weak.upgrade() {
            set.look(&runtime, lane);
        }
        return;
    }
    let look_at = |set: &FrameConnectionSet, now| set.known().plan.look_at(lane, now);
    let mut look = link.until().min(look_at(&set, Instant::now()));
    look = set.target.look_at(Instant::now()).map_or(look, |again| look.min(again));
    drop(set);

    let mut timer = DeadlineTimer::default();
    let over = poll_fn(|cx| {
        loop {
            if let Poll::Ready(over) = Pin::new(&mut driver).poll(cx) {
                return Poll::Ready(over);
            }
            ready!(timer.poll_in_one_task(cx, look));
            let now = Instant::now();
            let Some(set) = weak.upgrade() else {
                look = later(now, Duration::MAX);
                continue;
            };
            let again = if link.is_open() { set.look(&runtime, lane) } else { None };
            look = look_at(&set, now);
            look = again.map_or(look, |again| look.min(again));
        }
    })
    .await;
    if let Some(set) = weak.upgrade() {
        tracing::debug!("a connection of frames with {} ended: {}", set.target.url(), over.why);
        set.known().plan.ended(&address, over.was_cut, over.age, Instant::now(), random_fraction());
        set.forget(&link);
        // If none is left, the next answer over HTTP offers another.
        set.look(&runtime, lane);
    }
}

/// A connection that is being opened, until this is dropped.
struct OpeningGuard {
    set: Weak<FrameConnectionSet>,
    lane: CallLane,
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        if let Some(set) = self.set.upgrade() {
            set.known().plan.opening_ended(self.lane);
        }
    }
}
