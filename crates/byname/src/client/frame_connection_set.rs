//! The connections of frames of one service. [`FrameConnectionPlan`](super::frame_connection_plan::FrameConnectionPlan) says
//! which ones are opened and by which one a call goes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, ready};
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::connect::addresses;
use super::frame_connection::{FrameConnection, open};
use super::frame_connection_plan::FrameConnectionPlan;
use super::service_target::ServiceTarget;
use crate::codec::Codec;
use crate::deadline::{DeadlineTimer, later};
use crate::limits_and_timeouts::Limits;
use crate::runtime;

/// How often to check whether another connection is needed.
const LOOK: Duration = Duration::from_secs(10);

/// Each runtime has one connection, or several if the service's name has several addresses.
pub(super) struct FrameConnectionSet {
    target: ServiceTarget,
    limits: Limits,
    /// The codec of values, if the server can read it.
    codec: Codec,
    /// Called with each runtime whose calls go by frames from now on.
    opened: Box<dyn Fn(Id) + Send + Sync>,
    plan: Mutex<FrameConnectionPlan<Id, Arc<FrameConnection>>>,
}

impl FrameConnectionSet {
    pub(super) fn new(
        target: ServiceTarget,
        limits: Limits,
        codec: Codec,
        opened: impl Fn(Id) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { target, limits, codec, opened: Box::new(opened), plan: Mutex::new(FrameConnectionPlan::new()) })
    }

    pub(super) fn url(&self) -> String {
        self.target.url()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The connection that the next call of this runtime goes by.
    pub(super) fn get(&self, runtime: Id) -> Option<Arc<FrameConnection>> {
        self.plan().choose(runtime, |count| fastrand::usize(..count))
    }

    /// The server offers frames. A connection is opened in the background, unless there is one or it is too early.
    pub(super) fn offered(self: &Arc<Self>) {
        let runtime = Handle::current();
        if self.plan().offered(runtime.id(), Instant::now()) {
            self.start(&runtime);
        }
    }

    /// Whether a call had one of these connections to go by.
    pub(super) fn was_used(&self) -> bool {
        self.plan().was_used()
    }

    /// A connection takes no further call.
    pub(super) fn forget(&self, link: &Arc<FrameConnection>) {
        self.plan().forget(|known| Arc::ptr_eq(known, link));
    }

    /// Opens another connection of this runtime if one is needed. Connections to addresses that are gone take no further
    /// call.
    fn look(self: &Arc<Self>, runtime: &Handle) {
        let is_used = self.plan().take_use();
        if let Some(addresses) = self.target.looked_up(is_used) {
            let gone = self.plan().addresses_are(&addresses, Instant::now());
            gone.into_iter().for_each(|link| link.leave());
        }
        if self.plan().needs_another(runtime.id(), Instant::now()) {
            self.start(runtime);
        }
    }

    fn start(self: &Arc<Self>, runtime: &Handle) {
        let opening = OpeningGuard { set: Arc::downgrade(self), runtime: runtime.id() };
        runtime::spawn(runtime, keep(opening));
    }

    fn failed(&self, why: &str) {
        self.plan().failed(Instant::now(), fastrand::f64());
        tracing::debug!("no further connection of frames with {}: {why}", self.target.url());
    }

    fn plan(&self) -> MutexGuard<'_, FrameConnectionPlan<Id, Arc<FrameConnection>>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FrameConnectionSet {
    /// The last client is gone: its connections end once the calls in flight are answered.
    fn drop(&mut self) {
        self.plan().take_all().for_each(|link| link.leave());
    }
}

/// Opens a connection and drives it to its end.
async fn keep(opening: OpeningGuard) {
    let Some(set) = opening.set.upgrade() else {
        return;
    };
    let runtime = Handle::current();
    let candidates = match addresses(&set.target).await {
        Ok(addresses) => set.plan().candidates(opening.runtime, addresses, &mut Rng::new()),
        Err(why) => return set.failed(&why.to_string()),
    };
    let (opened, stalled) = open(&set.target, candidates, set.codec, &set.limits).await;
    for address in &stalled {
        set.plan().stalled(address);
    }
    let (address, mut driver) = match opened {
        Ok(opened) => opened,
        Err(why) => return set.failed(&why),
    };
    let link = Arc::clone(driver.link());
    let old = set.plan().opened(opening.runtime, address, Arc::clone(&link), link.until());
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
        set.plan().ended(over.was_cut, over.age, Instant::now(), fastrand::f64());
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
            set.plan().opening_ended(self.runtime);
        }
    }
}
