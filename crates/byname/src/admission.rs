//! Which calls may run: [`Admission`].

mod closed_functions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;

pub(crate) use self::closed_functions::{ClosedBy, ClosedFunctions, ClosedPattern};
use crate::call_semaphore::{CallPermits, Permit};
use crate::error::{Code, Error};
use crate::limits_and_timeouts::Limit;
use crate::metadata;
use crate::networks::NetworkList;
use crate::peer::Peer;
use crate::priority::Priority;

/// How many calls of a server may run, how many do, and whether it wants more.
///
/// Every way in, a call that is polled inline, and a client within the process take their permits here.
pub(crate) struct Admission {
    permits: Arc<CallPermits>,
    /// How many calls have come whose tasks were not polled yet.
    unstarted: AtomicUsize,
    /// Whether `!ready` is answered 503 while calls are still accepted.
    leaving: AtomicBool,
    draining: AtomicBool,
    /// Who may raise the priority of calls without a proven identity.
    trusted: NetworkList,
}

impl Admission {
    /// Admits `in_flight` calls at once.
    pub(crate) fn new(in_flight: usize) -> Arc<Self> {
        Arc::new(Self {
            permits: CallPermits::new(in_flight),
            unstarted: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            trusted: NetworkList::default(),
        })
    }

    /// Sets who may raise the priority of calls without a proven identity: none until this says otherwise.
    pub(crate) fn trust(&mut self, networks: NetworkList) {
        self.trusted = networks;
    }

    /// How important a call is. A caller that is not trusted can only lower the priority of the function.
    #[inline]
    pub(crate) fn priority(&self, own: Priority, caller: CallerTrust<'_>) -> Priority {
        match Priority::said(caller.metadata) {
            None => own,
            Some(said) if said <= own || self.trusts(caller) => said,
            Some(_) => own,
        }
    }

    /// Whether a caller may raise the priority of its calls. The identity of a connection is not that of the client of a
    /// proxy.
    fn trusts(&self, caller: CallerTrust<'_>) -> bool {
        let Some(peer) = caller.peer else {
            return false;
        };
        let is_forwarded =
            caller.is_forwarded || peer.address != peer.connection || metadata::is_forwarded(caller.metadata);
        peer.identity.is_some() && !is_forwarded || self.trusted.contains(&peer.address)
    }

    /// The permit to run a call of this priority. It is held until the function ends.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` if all permits are held that calls of this priority may have.
    #[inline]
    pub(crate) fn try_admit(&self, priority: Priority) -> Result<Permit, Error> {
        let most = share(priority, self.permits.limit());
        self.permits.try_acquire_within(most).ok_or_else(|| self.overloaded(priority, most))
    }

    #[cold]
    fn overloaded(&self, priority: Priority, most: usize) -> Error {
        let why = match most == self.permits.limit() {
            true => format!("{most} calls are in flight, which is `Limits::in_flight` of the server; try again later"),
            false => format!(
                "{most} or more calls are in flight, and a call of priority `{priority}` may not use the rest of \
                 `Limits::in_flight` of the server; try again later"
            ),
        };
        Error::refused(Code::ResourceExhausted, why)
            .of_limit(Limit::InFlight)
            .with_retry_after(Duration::from_millis(100))
    }

    /// The calls in flight, as the server reports them to its callers: functions that run, calls that are with the
    /// interceptors, and [`UnstartedCall`]s. A function counts until it ends, even if its caller is gone. A stream counts
    /// until its last item. A request over HTTP counts once it was read.
    pub(crate) fn in_flight(&self) -> usize {
        self.permits.acquired() + self.unstarted.load(Ordering::Relaxed)
    }

    /// A call has come that gets a task of its own. Drop this at the first poll of the task, before the call is admitted.
    pub(crate) fn unstarted(self: &Arc<Self>) -> UnstartedCall {
        self.unstarted.fetch_add(1, Ordering::Relaxed);
        UnstartedCall(Arc::clone(self))
    }

    /// Admits this number of calls at once from now on.
    pub(crate) fn set_in_flight(&self, in_flight: usize) {
        self.permits.set_limit(in_flight);
    }

    /// How many calls are admitted at once.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.permits.limit()
    }

    /// Waits until no function runs.
    pub(crate) async fn idle(&self) {
        self.permits.all_released().await;
    }

    /// Whether the server wants new calls.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn stop_being_ready(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether `!ready` says that the server wants new calls. It stops saying so before calls are rejected.
    pub(crate) fn looks_ready(&self) -> bool {
        self.is_ready() && !self.leaving.load(Ordering::Relaxed)
    }

    pub(crate) fn stop_looking_ready(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }
}

/// How many calls may be in flight when one of this priority is admitted. The rest is for more important ones.
#[inline]
fn share(priority: Priority, limit: usize) -> usize {
    match priority {
        Priority::Critical | Priority::Normal => limit,
        // One at least, if there is any.
        Priority::Sheddable => limit - limit / 10,
        Priority::Batch => limit - limit / 4,
    }
}

/// What says whether a caller may raise the priority of its calls.
#[derive(Clone, Copy)]
pub(crate) struct CallerTrust<'c> {
    pub(crate) metadata: &'c HeaderMap,
    pub(crate) peer: Option<&'c Peer>,
    /// A proxy has passed on its connection.
    pub(crate) is_forwarded: bool,
}

/// A call whose task was not polled yet. It is in flight, and has no permit.
pub(crate) struct UnstartedCall(Arc<Admission>);

impl Drop for UnstartedCall {
    fn drop(&mut self) {
        self.0.unstarted.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_important_calls_leave_room_for_more_important_ones() {
        let most = |limit| Priority::ALL.map(|priority| share(priority, limit));
        assert_eq!(most(10_000), [7_500, 9_000, 10_000, 10_000]);
        assert_eq!(most(20), [15, 18, 20, 20]);
        assert_eq!([most(1), most(0)], [[1; 4], [0; 4]]);
        assert_eq!(most(usize::MAX)[3], usize::MAX);
        let admission = Admission::new(4);
        let held: Vec<_> = (0..3).map(|_| admission.try_admit(Priority::Batch).unwrap()).collect();
        let refused = admission.try_admit(Priority::Batch).unwrap_err();
        assert!(
            refused.message().starts_with("3 or more calls are in flight, and a call of priority `batch` "),
            "{refused}"
        );
        assert_eq!(refused.limit(), Some("in_flight"));
        let last = admission.try_admit(Priority::Normal).unwrap();
        assert!(admission.try_admit(Priority::Critical).is_err());
        drop((held, last));
        assert!(admission.try_admit(Priority::Batch).is_ok());
    }
}
