//! The connections of one host that many calls share: one for each runtime, opened once the server has offered it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::frames::{Link, Upgrades, open};
use super::host::Host;
use crate::runtime;
use crate::timer::{before, later};

/// How long after a replacement could not be opened the next is tried.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The server has offered it before: a client that makes one call needs no connection for many.
    was_offered: bool,
    members: Vec<Member>,
    upgrades: Upgrades,
}

#[derive(Debug)]
struct Member {
    runtime: Id,
    link: Option<Arc<Link>>,
    /// One is being opened.
    is_opening: bool,
}

impl Links {
    /// The connection that calls of this runtime go by.
    pub(super) fn get(&self, runtime: Id) -> Option<Arc<Link>> {
        self.known().member(runtime)?.link.clone()
    }

    /// The server takes frames: a connection is opened in the background, unless there is one or it is too early.
    pub(super) fn offered(&self, host: &Arc<Host>) {
        let handle = Handle::current();
        let mut known = self.known();
        if !std::mem::replace(&mut known.was_offered, true)
            || known.member(handle.id()).is_some_and(|member| member.is_opening || member.link.is_some())
            || !known.upgrades.may_try(Instant::now())
        {
            return;
        }
        known.begin(handle.id());
        drop(known);
        start(host, &handle);
    }

    /// Calls go by this connection from now on; the one that it replaces comes back.
    fn install(&self, runtime: Id, link: &Arc<Link>) -> Option<Arc<Link>> {
        let mut known = self.known();
        known.upgrades.opened();
        known.member(runtime)?.link.replace(Arc::clone(link))
    }

    /// A connection takes no further call.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        let mut known = self.known();
        for member in &mut known.members {
            if member.link.as_ref().is_some_and(|known| Arc::ptr_eq(known, link)) {
                member.link = None;
            }
        }
        known.members.retain(|member| member.link.is_some() || member.is_opening);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn member(&mut self, runtime: Id) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.runtime == runtime)
    }

    fn begin(&mut self, runtime: Id) {
        match self.member(runtime) {
            Some(member) => member.is_opening = true,
            None => self.members.push(Member { runtime, link: None, is_opening: true }),
        }
    }
}

impl Drop for Links {
    /// With the last client go its connections, once the calls that wait are answered.
    fn drop(&mut self) {
        for member in &mut self.known().members {
            if let Some(link) = member.link.take() {
                link.leave();
            }
        }
    }
}

fn start(host: &Arc<Host>, runtime: &Handle) {
    let opening = Opening { host: Arc::downgrade(host), runtime: runtime.id() };
    runtime::spawn(runtime, keep(opening));
}

/// Opens a connection and drives it to its end.
async fn keep(opening: Opening) {
    let Some(host) = opening.host.upgrade() else {
        return;
    };
    let Some(codec) = host.frames() else {
        return;
    };
    let opened = open(host.target(), codec, host.limits()).await;
    let mut driver = match opened {
        Ok(driver) => driver,
        Err(why) => {
            host.links().known().upgrades.failed(Instant::now(), fastrand::f64());
            return tracing::debug!("no frames with {}, calls go on over HTTP: {why}", host.url());
        }
    };
    let link = Arc::clone(driver.link());
    if let Some(old) = host.links().install(opening.runtime, &link) {
        old.leave();
    }
    let weak = Weak::clone(&opening.host);
    drop(opening);
    drop(host);

    let mut until = link.until();
    let over = loop {
        match before(until, &mut driver).await {
            Some(over) => break over,
            None => {
                until = later(Instant::now(), AGAIN);
                if let Some(host) = weak.upgrade()
                    && link.is_open()
                {
                    host.links().known().begin(Handle::current().id());
                    start(&host, &Handle::current());
                }
            }
        }
    };
    if let Some(host) = weak.upgrade() {
        tracing::debug!("a connection of frames with {} ended: {}", host.url(), over.why);
        host.links().known().upgrades.ended(over.was_cut, over.age, Instant::now(), fastrand::f64());
        host.links().forget(&link);
    }
}

/// A connection that is being opened, until this is dropped.
struct Opening {
    host: Weak<Host>,
    runtime: Id,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(host) = self.host.upgrade() {
            let mut known = host.links().known();
            if let Some(member) = known.member(self.runtime) {
                member.is_opening = false;
            }
            known.members.retain(|member| member.link.is_some() || member.is_opening);
        }
    }
}
