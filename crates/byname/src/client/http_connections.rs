//! The HTTP connections of a service: how many may be in use, which one a call gets, and when another is opened.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::affinity::ReplicaWish;
use super::call_errors::{late, paused_clock, to_milliseconds};
use super::connect::{connect, no_replica};
use super::endpoint::{Endpoint, IdleHttpConnection};
use super::endpoint_set::{ChosenEndpoint, EndpointCount, EndpointSet};
use super::explanation::ExplainedConnections;
use super::frame_connection_set::FrameConnectionSet;
use super::http_instance_search::ConnectionInstance;
use super::http1_connection::Http1Connection;
use super::outgoing_call::OutgoingCall;
use super::replica_choice::ReplicaView;
use super::replica_load::ReplicaOutcome;
use super::service_target::ServiceTarget;
use crate::address::Address;
use crate::clock_and_chance::random_fraction;
use crate::codec::Codec;
use crate::deadline::{DeadlineTimer, before, later};
use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::{Limit, Limits};
use crate::runtime;
use crate::transport::{
    AttemptProgress, ConnectFailure, FailedAddress, HandshakeRefusal, TransportStream, first_to_connect,
};
use crate::wire::headers::AnsweringServer;
use crate::wire::instance_and_load::InstanceId;

/// How long a connection to a foreign server is kept if the server does not say: less than any server keeps it.
const UNKNOWN_IDLE: Duration = Duration::from_secs(4);

pub(super) struct HttpConnections {
    pub(super) target: ServiceTarget,
    pub(super) limits: Limits,
    endpoints: Arc<EndpointSet>,
    /// Which answer of discovery the endpoints are listed by.
    listed: AtomicU64,
    /// How often a connection was taken, or opened because there was none.
    uses: AtomicU64,
    /// How many were opened.
    opened: AtomicU64,
    /// How many calls have waited for a permit, and for how many microseconds.
    waited: AtomicU64,
    waited_for: AtomicU64,
    /// A permit for each connection that may be in use; waiters are served in order.
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Connections of frames, if the caller wants them. Calls go by these once the server has offered it.
    frames: Option<Arc<FrameConnectionSet>>,
}

/// The connection of one call.
pub(super) struct CallConnection {
    pub(super) connection: PooledConnection,
    pub(super) count: EndpointCount,
    pub(super) is_reused: bool,
    pub(super) permit: OwnedSemaphorePermit,
}

/// A connection that a call uses.
pub(super) struct PooledConnection {
    pub(super) http1: Http1Connection,
    pub(super) endpoint: Arc<Endpoint>,
    /// The runtime that opened it. Only that runtime learns when the socket is ready.
    pub(super) runtime: Handle,
    /// Waits for the deadline of each call in turn.
    pub(super) timer: DeadlineTimer,
    /// The server at its other end.
    pub(super) instance: ConnectionInstance,
}

impl HttpConnections {
    pub(super) fn new(target: ServiceTarget, limits: Limits, frames: Option<Codec>, compress: bool) -> Self {
        let endpoints = EndpointSet::new(compress, limits.connections, target.subset());
        let waiting = Arc::<AtomicUsize>::default();
        let frames = frames.map(|codec| {
            let (endpoints, waiting) = (Arc::clone(&endpoints), Arc::clone(&waiting));
            FrameConnectionSet::new(target.clone(), limits.clone(), codec, move |runtime| {
                // A queued call may hold a permit for an idle connection; keep it.
                if waiting.load(Ordering::Relaxed) > 0 {
                    return;
                }
                let idle = endpoints.let_go(runtime);
                // Sockets are closed outside of the lock.
                drop(idle);
            })
        });
        let permits = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let [listed, uses, opened, waited, waited_for] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { target, limits, endpoints, listed, uses, opened, waited, waited_for, permits, waiting, frames }
    }

    pub(super) fn frames(&self) -> Option<&Arc<FrameConnectionSet>> {
        self.frames.as_ref()
    }

    /// How often one of these connections was used.
    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// What is known of each replica that calls are spread over.
    pub(super) fn views(&self, now: Instant) -> Vec<(Address, ReplicaView)> {
        self.endpoints.views(now)
    }

    /// How many are open: those that calls use, and those that are idle.
    pub(super) fn open_count(&self) -> usize {
        let permits = self.limits.connections.clamp(1, Semaphore::MAX_PERMITS);
        permits.saturating_sub(self.permits.available_permits()) + self.endpoints.idle_count()
    }

    /// How many calls wait for a connection.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How these connections were used.
    pub(super) fn use_of_connections(&self) -> ExplainedConnections {
        let opened = self.opened.load(Ordering::Relaxed);
        ExplainedConnections {
            http_opened: opened,
            http_reused: self.uses().saturating_sub(opened),
            waited: self.waited.load(Ordering::Relaxed),
            waited_for: Duration::from_micros(self.waited_for.load(Ordering::Relaxed)),
            ..ExplainedConnections::default()
        }
    }

    /// A connection for one call.
    pub(super) async fn get(&self, outgoing: &OutgoingCall, wish: ReplicaWish<'_>) -> Result<CallConnection, Error> {
        if let Some(answer) = self.target.changed_since(&self.listed) {
            // Sockets are closed outside of the lock.
            drop(self.endpoints.list(&answer, Instant::now()));
        }
        let permit = self.permit(outgoing).await?;
        let mut chosen = self.choose(wish).ok_or_else(no_other_replica)?;
        match chosen.idle.take() {
            // The server may have closed it since. The connection notices that before it sends.
            Some((endpoint, IdleHttpConnection { http1, runtime, timer, instance })) => {
                self.uses.fetch_add(1, Ordering::Relaxed);
                let connection = PooledConnection { http1, endpoint, runtime, timer, instance };
                Ok(CallConnection { connection, count: chosen.count, is_reused: true, permit })
            }
            None => {
                // A large future, and few calls need it.
                let (connection, count) = Box::pin(self.open(outgoing, chosen, wish)).await?;
                Ok(CallConnection { connection, count, is_reused: false, permit })
            }
        }
    }

    /// The right to use one connection, in the order of asking.
    async fn permit(&self, outgoing: &OutgoingCall) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        Box::pin(self.wait_for_permit(outgoing)).await
    }

    async fn wait_for_permit(&self, outgoing: &OutgoingCall) -> Result<OwnedSemaphorePermit, Error> {
        let waiting = PermitWaiter::begin(&self.waiting);
        if waiting.before >= self.limits.waiting {
            let why = format!(
                "{} calls to {} wait for one of its {} connections, which is `Limits::waiting`; make fewer calls at once",
                waiting.before,
                self.target.url(),
                self.limits.connections
            );
            return Err(Error::refused(Code::ResourceExhausted, why).of_limit(Limit::Waiting));
        }
        let began = Instant::now();
        let acquired = before(outgoing.deadline, Arc::clone(&self.permits).acquire_owned()).await;
        let waited_for = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(1, Ordering::Relaxed);
        self.waited_for.fetch_add(waited_for, Ordering::Relaxed);
        match acquired {
            Some(permit) => permit.map_err(|_| Error::refused(Code::Internal, "the semaphore was closed")),
            None => {
                let why = format!(
                    "`{}` waited {:?} for one of the {} connections to {} (`Limits::connections`); allow more \
                     connections, more time, or make fewer calls at once",
                    outgoing.name,
                    to_milliseconds(outgoing.allowed),
                    self.limits.connections,
                    self.target.url()
                );
                Err(Error::refused(Code::DeadlineExceeded, why).of_limit(Limit::Connections))
            }
        }
    }

    /// `None` if the call goes only to another replica and there is none.
    fn choose(&self, wish: ReplicaWish<'_>) -> Option<ChosenEndpoint> {
        let mut closed = Vec::new();
        let room = self.limits.connections.max(1) - self.busy();
        let chosen = self.endpoints.choose(Handle::current().id(), wish, room, Instant::now(), &mut closed);
        // Sockets are closed outside of the lock.
        drop(closed);
        chosen
    }

    /// How many connections are in use.
    fn busy(&self) -> usize {
        self.limits.connections.max(1) - self.permits.available_permits().min(self.limits.connections)
    }

    async fn open(
        &self,
        outgoing: &OutgoingCall,
        mut chosen: ChosenEndpoint,
        wish: ReplicaWish<'_>,
    ) -> Result<(PooledConnection, EndpointCount), Error> {
        let surplus = self.endpoints.make_room(self.busy(), self.limits.connections.max(1));
        drop(surplus);
        let until = outgoing.deadline.min(later(Instant::now(), self.limits.connect));
        let (mut is_unix, mut failed, mut stalled) = (false, Vec::new(), Vec::new());
        let connecting = async {
            let found = before(until, self.target.answer()).await;
            let mut answer = found.ok_or(ConnectFailure::Late("no answer"))?.map_err(ConnectFailure::Failed)?;
            let mut is_second = false;
            // The first call of a client that looks up its replicas.
            if self.listed.compare_exchange(0, answer.version, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                drop(self.endpoints.list(&answer, Instant::now()));
                chosen = self.choose(wish).unwrap_or_default();
            }
            loop {
                let addresses = self.endpoints.ordered(answer.addresses(), &chosen, wish);
                is_unix = addresses.iter().all(Address::is_unix);
                let replicas = &answer.replicas;
                let attempt = |address: Address, progress| async move {
                    let replica = replicas.iter().find(|replica| replica.address == address).ok_or_else(no_replica)?;
                    Ok((replica.clone(), connect(&address, replica.url.tls.as_deref(), &progress).await?))
                };
                let outcome = first_to_connect(addresses, until, attempt).await;
                for address in &outcome.stalled {
                    self.endpoints.timed_out(address);
                }
                (failed, stalled) = (outcome.failed, outcome.stalled);
                let why = match outcome.result {
                    Err(ConnectFailure::Failed(why)) if !is_second => why,
                    other => {
                        // Meanwhile others may have been listed, and this replica is new among the endpoints.
                        if self.listed.load(Ordering::Relaxed) != answer.version {
                            self.listed.store(0, Ordering::Relaxed);
                        }
                        return other.map(|(_, connected)| connected);
                    }
                };
                // The answer may be old. Another one is tried in the same call.
                match before(until, self.target.other_than(&answer)).await.flatten() {
                    Some(other) => (answer, is_second) = (other, true),
                    None => return Err(ConnectFailure::Failed(why)),
                }
            }
        };
        let failure = match connecting.await {
            Ok((replica, stream)) => {
                self.uses.fetch_add(1, Ordering::Relaxed);
                self.opened.fetch_add(1, Ordering::Relaxed);
                let (endpoint, count) = self.endpoints.connected(&replica, chosen, Instant::now());
                let IdleHttpConnection { http1, runtime, timer, instance } = self.opened(stream);
                return Ok((PooledConnection { http1, endpoint, runtime, timer, instance }, count));
            }
            Err(failure) => failure,
        };
        chosen.count.ended(ReplicaOutcome::Failed, None);
        Err(match failure {
            ConnectFailure::Failed(why) => match HandshakeRefusal::of(&why) {
                Some(refusal) => {
                    let refusing = failed.iter().find(|failed| failed.is_refusal);
                    let mut error = self.refused(refusal);
                    if let Some(refusing) = refusing.filter(|refusing| self.target.is_one_of_several(&refusing.address))
                    {
                        error.set_replica(refusing.address.clone());
                    }
                    error
                }
                None => {
                    let hint = if is_unix { hint_about_a_socket(&why) } else { hint(&why) };
                    let why = if failed.len() > 1 { by_address(&failed) } else { why.to_string() };
                    self.unreachable(&format!("{why}{hint}"))
                }
            },
            ConnectFailure::Late(_) if until == outgoing.deadline => {
                late(&self.target.url(), &outgoing.name, outgoing.allowed, Executed::No)
            }
            ConnectFailure::Late(missing) => {
                let limit = self.limits.connect;
                let is_of_several = stalled.iter().any(|address| self.target.is_one_of_several(address));
                let where_to = if is_of_several { format!(" at {}", some_of(&stalled)) } else { String::new() };
                let also = if failed.is_empty() { String::new() } else { format!("; {}", by_address(&failed)) };
                let why = format!("{missing}{where_to} within {limit:?} (`Limits::connect`){also}{}", paused_clock());
                self.unreachable(&why).of_limit(Limit::Connect)
            }
        })
    }

    /// A connection that was opened now.
    fn opened(&self, stream: TransportStream) -> IdleHttpConnection {
        let old_at = later(Instant::now(), self.limits.jittered_connection_age(random_fraction()));
        IdleHttpConnection {
            http1: Http1Connection::new(stream).old_at(old_at),
            runtime: Handle::current(),
            timer: DeadlineTimer::default(),
            instance: ConnectionInstance::Unknown,
        }
    }

    /// Opens another connection to this endpoint, for later calls: it may lead to another server. Nothing comes of a failure.
    async fn look_for_another(&self, endpoint: &Arc<Endpoint>) {
        let until = later(Instant::now(), self.limits.connect);
        let progress = AttemptProgress::default();
        let connecting = connect(endpoint.address(), endpoint.url().tls.as_deref(), &progress);
        if let Some(Ok(stream)) = before(until, connecting).await
            && endpoint.is_listed()
        {
            self.opened.fetch_add(1, Ordering::Relaxed);
            self.endpoints.keep(endpoint, self.opened(stream), later(Instant::now(), self.limits.pool_idle));
        }
    }

    /// One side refuses the other.
    pub(super) fn refused(&self, refusal: &HandshakeRefusal) -> Error {
        Error::refused(refusal.code, format!("can't connect to {}: {refusal}", self.target.url()))
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::refused(Code::Unavailable, format!("can't connect to {}: {why}", self.target.url())).unsent()
    }

    /// Keeps a connection after an answer, for as long as the server keeps it. It is closed instead if it is old, or if calls
    /// go by frames by now and no call waits for a connection.
    pub(super) fn keep(
        self: &Arc<Self>,
        mut connection: PooledConnection,
        answered: Option<(&AnsweringServer, &HeaderMap)>,
    ) {
        let by_frames = self.frames.as_ref().is_some_and(|frames| frames.codec_now(connection.runtime.id()).is_some());
        if by_frames && self.waiting.load(Ordering::Relaxed) == 0 || !connection.endpoint.is_listed() {
            return;
        }
        connection.http1.release();
        let server = answered.map(|(server, _)| server);
        let said = server.and_then(|server| server.keep_alive);
        let until = match said {
            // Earlier than the server, so that no call meets a connection that is just being closed.
            Some(said) => said.mul_f64(0.8).min(said.saturating_sub(Duration::from_secs(1))),
            None if server.is_some_and(|server| server.is_byname) => self.limits.pool_idle,
            None => UNKNOWN_IDLE,
        };
        let now = Instant::now();
        let until = connection.http1.kept_until(later(now, until.min(self.limits.pool_idle)));
        if until <= now {
            return;
        }
        // By frames there is another search.
        if self.frames.is_none() || server.is_some_and(|server| !server.offers_frames) {
            let room = self.limits.connections.max(1).saturating_sub(self.busy());
            let instance = || InstanceId::of_answer(answered?.1);
            if self.endpoints.answered(&connection.endpoint, &mut connection.instance, instance, room) {
                let (connections, endpoint) = (Arc::downgrade(self), Arc::clone(&connection.endpoint));
                runtime::spawn(&connection.runtime, async move {
                    if let Some(connections) = connections.upgrade() {
                        connections.look_for_another(&endpoint).await;
                    }
                });
            }
        }
        let PooledConnection { http1, endpoint, runtime, timer, instance } = connection;
        self.endpoints.keep(&endpoint, IdleHttpConnection { http1, runtime, timer, instance }, until);
    }

    /// A call there timed out. The next call goes to another endpoint, if there is one.
    pub(super) fn timed_out(&self, endpoint: &Endpoint) {
        self.endpoints.timed_out(endpoint.address());
    }

    /// Notes what the server there offers.
    pub(super) fn learn(&self, endpoint: &Endpoint, server: &AnsweringServer, headers: &HeaderMap) {
        endpoint.learn(server, headers);
        if let Some(frames) = &self.frames
            && server.offers_frames
        {
            frames.offered();
        }
    }
}

/// Nothing is sent for an attempt beside another.
pub(super) fn no_other_replica() -> Error {
    Error::refused(Code::Unavailable, "there is no other replica").unsent()
}

/// The most addresses that a message names.
const NAMED: usize = 3;

/// Why each of these addresses can't be connected to. Those with the same cause are named together.
fn by_address(failed: &[FailedAddress]) -> String {
    let mut causes: Vec<(&str, Vec<Address>)> = Vec::new();
    for FailedAddress { address, why, .. } in failed {
        match causes.iter_mut().find(|(cause, _)| cause == why) {
            Some((_, addresses)) => addresses.push(address.clone()),
            None => causes.push((why, vec![address.clone()])),
        }
    }
    let (told, rest) = causes.split_at(causes.len().min(NAMED));
    let told: Vec<_> = told.iter().map(|(why, addresses)| format!("{why} at {}", some_of(addresses))).collect();
    match rest.iter().map(|(_, addresses)| addresses.len()).sum::<usize>() {
        0 => told.join("; "),
        more => format!("{}; other causes at {more} more", told.join("; ")),
    }
}

/// Some of these addresses, and the number of the rest.
fn some_of(addresses: &[Address]) -> String {
    let (told, rest) = addresses.split_at(addresses.len().min(NAMED));
    let told = told.iter().map(Address::to_string).collect::<Vec<_>>().join(", ");
    if rest.is_empty() { told } else { format!("{told} and {} more", rest.len()) }
}

/// What a failed connect means to a person.
fn hint(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::ConnectionRefused => "; is the server running there?",
        io::ErrorKind::NotFound => "; is that the host's name?",
        _ => "",
    }
}

/// As [`hint`], where the address is the path of a unix socket.
fn hint_about_a_socket(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::NotFound => "; is the server running, and is that its path?",
        io::ErrorKind::NotADirectory => {
            "; the path ends with the file of the socket, and `ClientBuilder::endpoint` sets the path of the calls"
        }
        io::ErrorKind::ConnectionRefused => "; the socket is there, but no server listens at it",
        io::ErrorKind::PermissionDenied => "; the server lets other users in by `Listen::unix(path).mode(0o660)`",
        _ => "",
    }
}

/// A call that waits for a permit.
struct PermitWaiter<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> PermitWaiter<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for PermitWaiter<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests may run as the superuser, whom no permission stops.
    #[test]
    fn who_may_not_connect_to_a_socket_learns_who_decides() {
        let why = hint_about_a_socket(&io::ErrorKind::PermissionDenied.into());
        assert!(why.ends_with("; the server lets other users in by `Listen::unix(path).mode(0o660)`"), "{why}");
    }
}
