//! Which calls may run: [`Admission`].

mod closed_functions;

use std::borrow::Cow;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::HeaderMap;
use tokio::runtime::Handle;

pub(crate) use self::closed_functions::{ClosedBy, ClosedFunctions, ClosedPattern};
use crate::admission_rounds::{AdmissionRounds, LongPolls};
use crate::call_semaphore::{CallPermits, HeldPermit, Permit};
use crate::clock_and_chance::{RealInstant, random_fraction, random_number, real_now};
use crate::error::{Code, Error};
use crate::limits_and_timeouts::{Limit, Limits};
use crate::metadata;
use crate::networks::NetworkList;
use crate::peer::Peer;
use crate::priority::Priority;
use crate::round_shares::ArrivedCall;
use crate::runtime;

/// How many calls of a server may run, how many do, and whether it wants more.
///
/// Every way in, a call that is polled inline, and a client within the process take their permits here.
pub(crate) struct Admission {
    permits: Arc<CallPermits>,
    /// How many of the calls in flight ask about the server itself.
    questions: Arc<CallPermits>,
    /// Which calls are admitted while a queue stands in front of the threads.
    rounds: AdmissionRounds,
    /// Makes the numbers of callers unpredictable.
    secret: u64,
    /// Whether `!ready` is answered 503 while calls are still accepted.
    leaving: AtomicBool,
    draining: AtomicBool,
    /// Who may raise the priority of calls without a proven identity.
    trusted: NetworkList,
}

impl Admission {
    /// Admits `in_flight` calls at once.
    /// For functions whose long polls are told to `long_polls`.
    pub(crate) fn new(limits: &Limits, long_polls: Arc<LongPolls>) -> Arc<Self> {
        let rounds = AdmissionRounds::new(long_polls);
        rounds.set_target(limits.queue_delay);
        Arc::new(Self {
            permits: CallPermits::new(limits.in_flight),
            questions: CallPermits::new(usize::MAX),
            rounds,
            secret: random_number(),
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
        // Most calls by frames have no headers.
        if caller.metadata.is_empty() { own } else { self.priority_said(own, caller) }
    }

    fn priority_said(&self, own: Priority, caller: CallerTrust<'_>) -> Priority {
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
        peer.identity.is_some() && !caller.is_forwarded() || self.trusted.contains(&peer.address)
    }

    /// The permit to run a call of this priority that has come now. It is held until the function ends.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` if calls have to wait too long for a thread, or if all permits are held that calls of this
    /// priority may have.
    #[inline]
    pub(crate) fn try_admit(
        self: &Arc<Self>,
        priority: Priority,
        caller: CallerTrust<'_>,
        now: RealInstant,
    ) -> Result<Permit, Error> {
        if self.rounds.wants_probe(now.nanos()) {
            self.send_probe(now);
        }
        if !self.rounds.admits(|| self.arrived(priority, caller)) {
            return Err(queued_too_long());
        }
        let most = share(priority, self.permits.limit());
        self.permits.try_acquire_within(most).ok_or_else(|| self.overloaded(priority, most))
    }

    /// As [`try_admit`](Self::try_admit), for a question about the server itself: it needs a permit, but the answer leaves it out.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn try_admit_question(
        self: &Arc<Self>,
        priority: Priority,
        caller: CallerTrust<'_>,
    ) -> Result<HeldPermit, Error> {
        let permit = self.try_admit(priority, caller, real_now())?;
        Ok(match self.questions.try_acquire() {
            // In this order the figure is never lower than what runs.
            Some(question) => HeldPermit::Question(Arc::new([question, permit])),
            None => HeldPermit::Own(permit),
        })
    }

    /// A call that was admitted `waited` for the first poll of its task.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` if that is too long.
    #[inline]
    pub(crate) fn start(&self, waited: Duration) -> Result<(), Error> {
        if self.rounds.starts(waited, || real_now().nanos()) { Ok(()) } else { Err(queued_too_long()) }
    }

    /// Sends an empty task through the queue of the runtime. A task that was spawned is the next one of its thread, and a task
    /// that wakes itself goes to the end of the queue. The second task pushes the probe out of the place of the next one,
    /// from which other threads take nothing.
    #[cold]
    fn send_probe(self: &Arc<Self>, now: RealInstant) {
        // A call within the process may come without a runtime.
        let Ok(runtime) = Handle::try_current() else {
            return self.rounds.probe_returned(now.nanos());
        };
        self.rounds.set_threads(runtime.metrics().num_workers());
        let probe = QueueProbe(Arc::clone(self));
        let mut is_polled = false;
        runtime::spawn(&runtime, async move {
            poll_fn(|cx| {
                if std::mem::replace(&mut is_polled, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            drop(probe);
        });
        runtime::spawn(&runtime, async {});
    }

    /// The call, as it gets its share.
    #[cold]
    fn arrived(&self, priority: Priority, caller: CallerTrust<'_>) -> ArrivedCall {
        ArrivedCall { level: priority as usize, caller: self.caller(caller) }
    }

    /// A number that stands for a caller, which is known by its proven identity, or else by its address. An owner of IPv6
    /// addresses usually has all with the same first half.
    #[cold]
    pub(crate) fn caller(&self, caller: CallerTrust<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.secret.hash(&mut hasher);
        if let Some(peer) = caller.peer {
            match caller.proven_name() {
                Some(name) => name.hash(&mut hasher),
                None => match peer.address.ip() {
                    Some(IpAddr::V6(address)) => address.octets()[..8].hash(&mut hasher),
                    address => address.hash(&mut hasher),
                },
            }
        }
        hasher.finish()
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
    /// interceptors, and calls whose tasks were not polled yet. A function counts until it ends, even if its caller is gone.
    /// A stream counts until its last item. A request over HTTP counts once it was read.
    pub(crate) fn in_flight(&self) -> usize {
        self.permits.acquired()
    }

    /// The calls in flight for those who look at the server: without those who look.
    pub(crate) fn in_flight_besides_questions(&self) -> usize {
        self.permits.acquired().saturating_sub(self.questions.acquired())
    }

    /// Calls of a connection have been waiting to be read for as long as this.
    pub(crate) fn waits(&self, waited: Duration) {
        self.rounds.waits(waited, real_now().nanos());
    }

    /// How long a call waits for a thread now. Zero while no calls come.
    pub(crate) fn queue_delay(&self) -> Duration {
        self.rounds.queue_delay(real_now().nanos())
    }

    /// Sets how long calls may wait for a thread.
    pub(crate) fn set_queue_delay(&self, delay: Duration) {
        self.rounds.set_target(delay);
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

/// What says who a caller is, and whether it may raise the priority of its calls.
#[derive(Clone, Copy)]
pub(crate) struct CallerTrust<'c> {
    pub(crate) metadata: &'c HeaderMap,
    pub(crate) peer: Option<&'c Peer>,
    /// A proxy has passed on its connection.
    pub(crate) is_forwarded: bool,
}

impl<'c> CallerTrust<'c> {
    /// What its connection proves, in one name.
    pub(crate) fn proven_name(&self) -> Option<Cow<'c, str>> {
        self.peer?.proven_name().filter(|_| !self.is_forwarded())
    }

    /// Whether the identity of the connection is that of a proxy.
    fn is_forwarded(&self) -> bool {
        let is_at_the_connection = |peer: &Peer| peer.address == peer.connection;
        self.is_forwarded || !self.peer.is_none_or(is_at_the_connection) || metadata::is_forwarded(self.metadata)
    }
}

/// A task that goes through the queue of the runtime. It has returned when it is dropped.
struct QueueProbe(Arc<Admission>);

impl Drop for QueueProbe {
    fn drop(&mut self) {
        self.0.rounds.probe_returned(real_now().nanos());
    }
}

#[cold]
fn queued_too_long() -> Error {
    let why = "there are more calls than the threads of the server can run, and this one would wait for longer than \
               `Limits::queue_delay` of the server; try again later";
    Error::refused(Code::ResourceExhausted, why)
        .of_limit(Limit::QueueDelay)
        .with_retry_after(AdmissionRounds::retry_after(random_fraction()))
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
        let admission = Admission::new(&Limits { in_flight: 4, ..Limits::default() }, Arc::default());
        let nobody = HeaderMap::new();
        let caller = CallerTrust { metadata: &nobody, peer: None, is_forwarded: false };
        let admit = |priority| admission.try_admit(priority, caller, real_now());
        let held: Vec<_> = (0..3).map(|_| admit(Priority::Batch).unwrap()).collect();
        let refused = admit(Priority::Batch).unwrap_err();
        assert!(
            refused.message().starts_with("3 or more calls are in flight, and a call of priority `batch` "),
            "{refused}"
        );
        assert_eq!(refused.limit(), Some("in_flight"));
        let last = admit(Priority::Normal).unwrap();
        assert!(admit(Priority::Critical).is_err());
        drop((held, last));
        assert!(admit(Priority::Batch).is_ok());
    }
}
