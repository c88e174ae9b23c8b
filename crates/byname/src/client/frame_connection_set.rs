//! The connections of frames of one service: which ones are opened and when, and by which one a call goes. Each runtime has
//! one, or several if the service's name has several addresses.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::address_order::AddressOrder;
use super::connect::addresses;
use super::frame_connection::{FrameConnection, Upgrades, open};
use super::service_target::ServiceTarget;
use crate::address::Address;
use crate::codec::Codec;
use crate::deadline::{DeadlineTimer, later};
use crate::limits_and_timeouts::Limits;
use crate::runtime;

/// Calls are spread over at most this many addresses of a name.
const SPREAD: usize = 4;

/// How often to check whether another connection is needed.
const LOOK: Duration = Duration::from_secs(10);

pub(super) struct FrameConnectionSet {
    target: ServiceTarget,
    limits: Limits,
    /// The codec of values, if the server can read it.
    codec: Codec,
    /// Called with each runtime whose calls go by frames from now on.
    opened: Box<dyn Fn(Id) + Send + Sync>,
    known: Mutex<KnownOffer>,
}

#[derive(Debug, Default)]
struct KnownOffer {
    /// The server has offered frames before. A client that makes one call needs no such connection.
    was_offered: bool,
    /// A call had one of these connections to go by.
    was_used: bool,
    members: Vec<RuntimeConnections>,
    upgrades: Upgrades,
    /// Addresses that did not change to frames in time come last.
    addresses: AddressOrder,
}

/// The connections of one runtime.
#[derive(Debug)]
struct RuntimeConnections {
    runtime: Id,
    /// The oldest first.
    links: Vec<(Address, Arc<FrameConnection>)>,
    /// As many as there are addresses to spread calls over.
    wanted: usize,
    /// One is being opened.
    is_opening: bool,
}

impl FrameConnectionSet {
    pub(super) fn new(
        target: ServiceTarget,
        limits: Limits,
        codec: Codec,
        opened: impl Fn(Id) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { target, limits, codec, opened: Box::new(opened), known: Mutex::default() })
    }

    pub(super) fn url(&self) -> String {
        self.target.url()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The connection that the next call of this runtime goes by: any of them.
    pub(super) fn get(&self, runtime: Id) -> Option<Arc<FrameConnection>> {
        let mut known = self.known();
        let link = match known.member(runtime)?.links.as_slice() {
            [] => return None,
            [(_, only)] => Arc::clone(only),
            // By chance: with turns, a caller that asks twice for each call would always get every second one.
            many => Arc::clone(&many[fastrand::usize(..many.len())].1),
        };
        known.was_used = true;
        Some(link)
    }

    /// The server offers frames. A connection is opened in the background, unless there is one or it is too early.
    pub(super) fn offered(self: &Arc<Self>) {
        let runtime = Handle::current();
        let mut known = self.known();
        if std::mem::replace(&mut known.was_offered, true) && known.begin(runtime.id(), Instant::now()) {
            drop(known);
            self.start(&runtime);
        }
    }

    /// Whether a call had one of these connections to go by.
    pub(super) fn was_used(&self) -> bool {
        self.known().was_used
    }

    /// A connection takes no further call.
    pub(super) fn forget(&self, link: &Arc<FrameConnection>) {
        let mut known = self.known();
        for member in &mut known.members {
            member.links.retain(|(_, known)| !Arc::ptr_eq(known, link));
        }
        known.members.retain(|member| !member.links.is_empty() || member.is_opening);
    }

    /// Opens another connection of this runtime if one is needed.
    fn look(self: &Arc<Self>, runtime: &Handle) {
        let mut known = self.known();
        if known.member(runtime.id()).is_some() && known.begin(runtime.id(), Instant::now()) {
            drop(known);
            self.start(runtime);
        }
    }

    fn start(self: &Arc<Self>, runtime: &Handle) {
        let opening = OpeningGuard { set: Arc::downgrade(self), runtime: runtime.id() };
        runtime::spawn(runtime, keep(opening));
    }

    fn failed(&self, why: &str) {
        self.known().upgrades.failed(Instant::now(), fastrand::f64());
        tracing::debug!("no further connection of frames with {}: {why}", self.target.url());
    }

    fn known(&self) -> MutexGuard<'_, KnownOffer> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownOffer {
    fn member(&mut self, runtime: Id) -> Option<&mut RuntimeConnections> {
        self.members.iter_mut().find(|member| member.runtime == runtime)
    }

    /// The addresses for another connection of this runtime, the best first.
    fn candidates(&mut self, runtime: Id, addresses: Vec<Address>) -> Vec<Address> {
        let mut candidates = self.member(runtime).map(|member| member.candidates(addresses)).unwrap_or_default();
        self.addresses.order(&mut candidates);
        candidates
    }

    /// Whether the caller must open another connection for this runtime. It counts as begun then.
    fn begin(&mut self, runtime: Id, now: Instant) -> bool {
        if !self.upgrades.may_try(now) {
            return false;
        }
        let Some(member) = self.member(runtime) else {
            self.members.push(RuntimeConnections { runtime, links: Vec::new(), wanted: 1, is_opening: true });
            return true;
        };
        let needs_one = member.links.len() < member.wanted || member.links.iter().any(|(_, link)| link.until() <= now);
        needs_one && !std::mem::replace(&mut member.is_opening, true)
    }
}

impl RuntimeConnections {
    /// The addresses for another connection, the best first. Calls are spread over addresses of one family, because the
    /// IPv4 and the IPv6 address of a server are often the same machine.
    fn candidates(&mut self, mut addresses: Vec<Address>) -> Vec<Address> {
        let family = self.links.first().map(|(address, _)| address).or(addresses.first()).cloned();
        let is_of_family =
            |address: &Address| family.as_ref().is_some_and(|family| family.is_of_the_family_of(address));
        fastrand::shuffle(&mut addresses);
        addresses.sort_by_key(|address| !is_of_family(address));
        self.wanted = addresses.iter().filter(|address| is_of_family(address)).count().clamp(1, SPREAD);
        let is_linked = |address: &Address| self.links.iter().any(|(linked, _)| linked == address);
        let (linked, free): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_linked);
        match self.links.first() {
            // The first connection may go anywhere.
            None => free,
            // Another beside those that there are.
            Some(_) if self.links.len() < self.wanted => free.into_iter().filter(is_of_family).collect(),
            // One in place of the oldest.
            Some((oldest, _)) => {
                let again = linked.into_iter().filter(|address| address == oldest);
                free.into_iter().filter(is_of_family).chain(again).collect()
            }
        }
    }

    /// Calls go by this connection too from now on. Returns the connection that it replaces.
    fn install(&mut self, address: Address, link: &Arc<FrameConnection>) -> Option<Arc<FrameConnection>> {
        let old = match self.links.iter().position(|(linked, _)| *linked == address) {
            None if self.links.len() >= self.wanted => Some(0),
            same => same,
        };
        let old = old.map(|at| self.links.remove(at).1);
        self.links.push((address, Arc::clone(link)));
        old
    }
}

impl Drop for FrameConnectionSet {
    /// The last client is gone: its connections end once the calls in flight are answered.
    fn drop(&mut self) {
        for (_, link) in self.known().members.iter_mut().flat_map(|member| member.links.drain(..)) {
            link.leave();
        }
    }
}

/// Opens a connection and drives it to its end.
async fn keep(opening: OpeningGuard) {
    let Some(set) = opening.set.upgrade() else {
        return;
    };
    let runtime = Handle::current();
    let candidates = match addresses(&set.target).await {
        Ok(addresses) => set.known().candidates(opening.runtime, addresses),
        Err(why) => return set.failed(&why.to_string()),
    };
    let (opened, stalled) = open(&set.target, candidates, set.codec, &set.limits).await;
    for address in &stalled {
        set.known().addresses.timed_out(address);
    }
    let (address, mut driver) = match opened {
        Ok(opened) => opened,
        Err(why) => return set.failed(&why),
    };
    let link = Arc::clone(driver.link());
    let old = {
        let mut known = set.known();
        known.upgrades.opened();
        known.addresses.answered(&address);
        known.member(opening.runtime).and_then(|member| member.install(address, &link))
    };
    if let Some(old) = old {
        old.leave();
    }
    (set.opened)(opening.runtime);
    let weak = Weak::clone(&opening.set);
    drop(opening);
    // There may be more addresses.
    set.look(&runtime);
    drop(set);

    let mut look_at = link.until().min(later(Instant::now(), LOOK));
    let mut timer = DeadlineTimer::default();
    let over = poll_fn(|cx| {
        loop {
            if let Poll::Ready(over) = Pin::new(&mut driver).poll(cx) {
                return Poll::Ready(over);
            }
            ready!(timer.poll_in_one_task(cx, look_at));
            if let Some(set) = weak.upgrade()
                && link.is_open()
            {
                set.look(&runtime);
            }
            look_at = later(Instant::now(), LOOK);
        }
    })
    .await;
    if let Some(set) = weak.upgrade() {
        tracing::debug!("a connection of frames with {} ended: {}", set.target.url(), over.why);
        set.known().upgrades.ended(over.was_cut, over.age, Instant::now(), fastrand::f64());
        set.forget(&link);
        // If none is left, the next answer over HTTP offers another.
        set.look(&runtime);
    }
}

/// A connection that is being opened, until this is dropped.
struct OpeningGuard {
    set: Weak<FrameConnectionSet>,
    runtime: Id,
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        if let Some(set) = self.set.upgrade() {
            let mut known = set.known();
            if let Some(member) = known.member(self.runtime) {
                member.is_opening = false;
            }
            known.members.retain(|member| !member.links.is_empty() || member.is_opening);
        }
    }
}
