//! One host: its connections, who may use one now, and what is known of its server.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::{Handle, Id};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection_pool::ConnectionPool;
use super::frame_connection::{self, CallPayload, FrameCallEnd, FrameConnection, Unsent, too_large};
use super::frame_connections::FrameConnections;
use super::http1_connection::{ExchangeError, Http1Connection, HttpResponse, UnreadBody};
use super::outgoing_call::OutgoingCall;
use super::retry::Attempts;
use super::retry_budget::RetryBudget;
use super::service_url::ServiceUrl;
use super::tcp_connect::{addresses, connect};
use super::typed_result::unasked_stream;
use crate::codec::{self, Codec};
use crate::deadline::{self, DeadlineTimer, before, later, until};
use crate::error::{Code, Error, Executed};
use crate::limits::Limits;
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::request::Reply;
use crate::runtime::{self, BoxFuture};
use crate::wire::{Way, headers, path_way, plain_way, reply};

/// How long a connection to a server that isn't byname's and doesn't say is kept: less than any server closes it after.
const UNKNOWN_IDLE: Duration = Duration::from_secs(4);

/// Up to this size a body is written in one piece with its head.
const ONE_PIECE: usize = 16 << 10;

/// What else there is to say of a time-out in a test.
const PAUSED: &str = "; tokio's clock is paused in this runtime, which advances it to the next time-out while a socket is \
                      waited for: test with `Client::local`, or let the clock run";

/// Everything that clones of a client share.
pub(super) struct ServiceHost {
    target: ServiceUrl,
    limits: Limits,
    pool: Arc<Mutex<ConnectionPool<PooledConnection, Id>>>,
    /// A permit for each connection that may be in use; waiters are served in order.
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    sweeping: AtomicBool,
    sweeper: Mutex<Option<AbortHandle>>,
    /// The server has said that it takes calls by path.
    by_path: AtomicBool,
    budget: RetryBudget,
    /// Connections that calls share, where frames are wanted.
    links: Option<Arc<FrameConnections>>,
}

/// A connection, and what stays with it from call to call.
pub(super) struct PooledConnection {
    pub(super) http1: Http1Connection,
    /// Where it goes.
    pub(super) address: SocketAddr,
    /// Where it was opened: elsewhere nobody would tell when its socket is ready.
    runtime: Handle,
    /// Waits for the deadline of each call in turn.
    timer: DeadlineTimer,
}

/// What one exchange came to.
pub(super) struct HttpOutcome {
    pub(super) result: Result<HttpResponse, ExchangeError>,
    pub(super) way: Way,
    /// The connection takes another call.
    pub(super) is_kept: bool,
}

impl ServiceHost {
    pub(super) fn new(target: ServiceUrl, limits: Limits, frames: Option<Codec>) -> Self {
        let pool = Arc::new(Mutex::new(ConnectionPool::new()));
        let waiting = Arc::<AtomicUsize>::default();
        let links = frames.map(|codec| {
            let (pool, waiting) = (Arc::clone(&pool), Arc::clone(&waiting));
            FrameConnections::new(target.clone(), limits.clone(), codec, move |runtime| {
                // Whoever was told that one is free would have to open another.
                if waiting.load(Ordering::Relaxed) > 0 {
                    return;
                }
                let idle = lock(&pool).let_go(&runtime);
                // Sockets are closed outside of the lock.
                drop(idle);
            })
        });
        let permits = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            target,
            limits,
            pool,
            permits,
            waiting,
            sweeping: AtomicBool::new(false),
            sweeper: Mutex::new(None),
            by_path: AtomicBool::new(false),
            budget: RetryBudget::new(),
            links,
        }
    }

    /// A connection that calls share, where there is one now.
    pub(super) fn link(&self) -> Option<Arc<FrameConnection>> {
        self.links.as_ref()?.get(Handle::try_current().ok()?.id())
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn url(&self) -> String {
        self.target.url()
    }

    /// One call, sent as often as it may be. `first` is what its first attempt came to, where there was one.
    pub(super) async fn call(self: Arc<Self>, mut outgoing: OutgoingCall, mut first: Option<Reply>) -> Reply {
        let mut attempts = Attempts::new(outgoing.is_idempotent());
        loop {
            let done = match first.take() {
                Some(done) => done,
                None => self.attempt(&mut outgoing).await,
            };
            let error = match &done.result {
                Err(Failure::Rpc(error)) => error,
                _ => {
                    self.budget.deposit();
                    return done;
                }
            };
            // At most once for each argument, and without a pause: the server is there and has answered.
            if outgoing.remove_unknown(error) {
                tracing::debug!(rpc.method = %outgoing.name, "sending `{}` again without an argument: {error}", outgoing.name);
                continue;
            }
            let Some(wait) = attempts.again(error, fastrand::f64()).filter(|_| !outgoing.is_spent) else {
                return done;
            };
            if later(Instant::now(), wait) >= outgoing.deadline || !self.budget.withdraw() {
                return done;
            }
            tracing::debug!(rpc.method = %outgoing.name, "sending `{}` again in {wait:?}: {error}", outgoing.name);
            until(later(Instant::now(), wait)).await;
        }
    }

    /// One attempt, by frames where there is a connection that bears them, else over HTTP.
    async fn attempt(self: &Arc<Self>, outgoing: &mut OutgoingCall) -> Reply {
        while let Some(link) = self.link() {
            if let Err(error) = outgoing.put_in(link.codec()) {
                return error.into();
            }
            if outgoing.has_streams() {
                match self.stream_by_frames(&link, outgoing).await {
                    Some(reply) => return reply,
                    None => continue,
                }
            }
            let mut sending = link.call();
            let left = outgoing.deadline.saturating_duration_since(Instant::now());
            let mut frame = CallPayload::new(left, &outgoing.headers, &outgoing.args);
            let polled = poll_fn(|cx| sending.poll(outgoing.asked(), &mut frame, cx));
            let Some(ended) = before(outgoing.deadline, polled).await else {
                let executed = if sending.is_queued() { Executed::No } else { Executed::Unknown };
                return self.late(&outgoing.name, outgoing.allowed, executed).into();
            };
            if let Some(reply) = self.ended(&outgoing.name, outgoing.allowed, &link, ended) {
                return reply;
            }
        }
        match outgoing.put_in(Codec::Json) {
            Ok(()) => self.over_http(outgoing).await,
            Err(error) => error.into(),
        }
    }

    /// What a call by frames came to; nothing where it was not sent.
    pub(super) fn ended(
        &self,
        name: &str,
        allowed: Duration,
        link: &Arc<FrameConnection>,
        ended: Result<FrameCallEnd, Unsent>,
    ) -> Option<Reply> {
        match ended {
            Ok(FrameCallEnd::Unsent(_)) => None,
            Ok(ended) => Some(self.answered(name, allowed, link, ended)),
            Err(Unsent::Over) => {
                if let Some(links) = &self.links {
                    links.forget(link);
                }
                None
            }
            Err(Unsent::Crowded(waiting)) => {
                let why = format!(
                    "{waiting} calls to {} wait for others to end, of which its server takes no more at once, and that \
                     is `Limits::waiting`; call less at once",
                    self.url()
                );
                Some(Error::refused(Code::ResourceExhausted, why).of_limit("waiting").into())
            }
            Err(Unsent::TooLarge(size, largest)) => Some(too_large(name, link.codec(), size, largest).into()),
        }
    }

    fn answered(&self, name: &str, allowed: Duration, link: &FrameConnection, ended: FrameCallEnd) -> Reply {
        let (why, executed, when, what) = match ended {
            FrameCallEnd::Answered(header, payload) => match frame_connection::read(link.codec(), &header, &payload) {
                Ok(reply) => return reply,
                Err(violation) => {
                    let why = format!("the reply of `{name}` can't be read: {violation}");
                    return Error::new(Code::Internal, why).into();
                }
            },
            FrameCallEnd::TooLarge(executed) => return self.too_large(name, link.codec(), executed).into(),
            FrameCallEnd::Late => return self.late(name, allowed, Executed::Unknown).into(),
            FrameCallEnd::Unsent(why) => (why, Executed::No, "before", "it did not run"),
            FrameCallEnd::Unknown(why) => (why, Executed::Unknown, "after", "it may have run"),
        };
        let why = format!("the connection to {} broke {when} `{name}` was sent; {what}: {why}", self.url());
        Error::new(Code::Unavailable, why).executed_is(executed).into()
    }

    fn too_large(&self, name: &str, codec: Codec, executed: Executed) -> Error {
        let (limit, shorter) = (self.limits.message, codec::shorter(codec));
        let why = format!(
            "the reply of `{name}` is larger than {limit} bytes (`Limits::message` of the client); ask for less, or raise \
             it{shorter}"
        );
        Error::new(Code::ResourceExhausted, why).of_limit("message").executed_is(executed)
    }

    /// One attempt, on as many kept connections as turn out to be closed.
    async fn over_http(self: &Arc<Self>, outgoing: &mut OutgoingCall) -> Reply {
        let mut turned = false;
        loop {
            let permit = match self.permit(outgoing).await {
                Ok(permit) => permit,
                Err(error) => return error.into(),
            };
            let (connection, reused) = match self.kept() {
                Some(connection) => (connection, true),
                None => match self.open(outgoing).await {
                    Ok(connection) => (connection, false),
                    Err(error) => return error.into(),
                },
            };
            let exchanged = if outgoing.has_streams() {
                match self.stream_over_http(connection, permit, outgoing).await {
                    Ok(exchanged) => Some(exchanged),
                    Err(reply) => return reply,
                }
            } else {
                HttpExchange::start(self, connection, permit, outgoing).await
            };
            match exchanged {
                // The server had closed it, and not a byte of this call went out.
                Some(HttpOutcome { result: Err(ExchangeError::Unsent(_)), .. }) if reused => {}
                // It had closed it while the call was on its way, and says so.
                Some(HttpOutcome { result: Ok(answer), is_kept: false, .. })
                    if reused && !outgoing.is_spent && is_goodbye(&outgoing.name, &answer) => {}
                Some(exchanged) => {
                    let way = exchanged.way;
                    let done = self.read(outgoing, exchanged);
                    if !is_switched_off(way, &done) {
                        return done;
                    }
                    if path_way::write(&outgoing.args).is_none() && headers::offers(&done.metadata, Way::Path) {
                        return Reply { result: Err(self.mixed(&outgoing.name).into()), ..done };
                    }
                    if turned || outgoing.is_spent {
                        return done;
                    }
                    turned = true;
                }
                None => return self.late(&outgoing.name, outgoing.allowed, Executed::Unknown).into(),
            }
        }
    }

    /// The right to use one connection, in the order of asking.
    async fn permit(&self, outgoing: &OutgoingCall) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = PermitWaiter::begin(&self.waiting);
        if waiting.before >= self.limits.waiting {
            let why = format!(
                "{} calls to {} wait for one of its {} connections, which is `Limits::waiting`; call less at once",
                waiting.before,
                self.url(),
                self.limits.connections
            );
            return Err(Error::refused(Code::ResourceExhausted, why).of_limit("waiting"));
        }
        match before(outgoing.deadline, Arc::clone(&self.permits).acquire_owned()).await {
            Some(permit) => permit.map_err(|_| Error::refused(Code::Internal, "the semaphore was closed")),
            None => {
                let why = format!(
                    "`{}` waited {:?} for one of the {} connections to {} (`Limits::connections`); allow more \
                     connections, more time, or call less at once",
                    outgoing.name,
                    outgoing.allowed,
                    self.limits.connections,
                    self.url()
                );
                Err(Error::refused(Code::DeadlineExceeded, why).of_limit("connections"))
            }
        }
    }

    /// A kept connection. Its server may have closed it meanwhile, which it notices before it sends.
    fn kept(&self) -> Option<PooledConnection> {
        let owner = Handle::current().id();
        let mut closed = Vec::new();
        let kept = self.pool().take(&owner, Instant::now(), &mut closed);
        // Sockets are closed outside of the lock.
        drop(closed);
        kept
    }

    async fn open(&self, outgoing: &OutgoingCall) -> Result<PooledConnection, Error> {
        let busy = self.limits.connections.max(1) - self.permits.available_permits().min(self.limits.connections);
        let surplus = self.pool().make_room(busy, self.limits.connections.max(1));
        drop(surplus);
        let until = outgoing.deadline.min(later(Instant::now(), self.limits.connect));
        let connecting = async {
            let mut addresses = addresses(&self.target).await?;
            self.pool().addresses.order(&mut addresses);
            connect(addresses).await
        };
        match before(until, connecting).await {
            Some(Ok((address, stream))) => {
                let (http1, timer) = (Http1Connection::new(stream), DeadlineTimer::default());
                Ok(PooledConnection { http1, address, runtime: Handle::current(), timer })
            }
            Some(Err(why)) => Err(self.unreachable(&hint(&why))),
            None if until == outgoing.deadline => Err(self.late(&outgoing.name, outgoing.allowed, Executed::No)),
            None => {
                let paused = if deadline::is_ahead() { PAUSED } else { "" };
                let why = format!("no answer within {:?} (`Limits::connect`){paused}", self.limits.connect);
                Err(self.unreachable(&why).of_limit("connect"))
            }
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::refused(Code::Unavailable, format!("can't connect to {}: {why}", self.url()))
    }

    /// A call whose arguments only the plain way can bear, where the server doesn't offer it.
    fn mixed(&self, name: &str) -> Error {
        let why = format!(
            "`{name}` was called with arguments both by position and by name, which takes the plain way, and the server \
             at {} offers only the way by path; give all by position or all by name, or let it offer both with \
             `Server::plain(true)`",
            self.url()
        );
        Error::refused(Code::Unimplemented, why)
    }

    pub(super) fn late(&self, name: &str, allowed: Duration, executed: Executed) -> Error {
        let what = match executed {
            Executed::No => "it was not sent",
            _ => "it may have run, or be running",
        };
        let mut why = format!("`{name}` was not answered within {allowed:?}, {what}; allow more with `.timeout(…)`");
        if deadline::is_ahead() {
            why.push_str(PAUSED);
        }
        Error::new(Code::DeadlineExceeded, why).executed_is(executed)
    }

    /// The request, head and body; a small body is in one piece with its head.
    ///
    /// Behind one that `brings` a stream come its lines, each a chunk or several in one; the first line is the call, so it
    /// goes the plain way.
    pub(super) fn request(&self, outgoing: &OutgoingCall, brings: bool) -> (Vec<u8>, Bytes, Way) {
        let by_path = self.by_path.load(Ordering::Relaxed) && !brings;
        let (way, body) = match by_path.then(|| path_way::write(&outgoing.args)).flatten() {
            Some(body) => (Way::Path, body),
            None => (Way::Plain, Bytes::from(plain_way::write(&outgoing.name, &outgoing.args))),
        };
        let mut head = Vec::with_capacity(256 + ONE_PIECE.min(body.len()));
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| head.extend_from_slice(part));
        // The endpoint's path was parsed as one, and a name's characters can all stand in it.
        let path = self.target.path.as_bytes();
        match way {
            Way::Plain if path.is_empty() => put(&[b"POST /"]),
            Way::Plain => put(&[b"POST ", path]),
            Way::Path => put(&[b"POST ", path, b"/", outgoing.name.as_bytes()]),
        }
        let left = outgoing.deadline.saturating_duration_since(Instant::now()).as_millis().min(u64::MAX.into());
        put(&[b" HTTP/1.1\r\nhost: ", self.target.authority.as_bytes()]);
        let content_type: &[u8] = if brings { b"application/x-ndjson" } else { b"application/json" };
        put(&[
            b"\r\ncontent-type: ",
            content_type,
            b"\r\nbyname-timeout-ms: ",
            itoa::Buffer::new().format(left as u64).as_bytes(),
        ]);
        match brings {
            true => put(&[b"\r\ntransfer-encoding: chunked\r\n"]),
            false => put(&[b"\r\ncontent-length: ", itoa::Buffer::new().format(body.len()).as_bytes(), b"\r\n"]),
        }
        for (name, value) in &outgoing.headers {
            put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
        put(&[b"\r\n"]);
        if brings {
            // A line of its own, which is a chunk of its own.
            put(&[format!("{:x}\r\n", body.len() + 1).as_bytes(), &body, b"\n\r\n"]);
            return (head, Bytes::new(), way);
        }
        if body.len() > ONE_PIECE {
            return (head, body, way);
        }
        head.extend_from_slice(&body);
        (head, Bytes::new(), way)
    }

    /// Notes what the server offers.
    pub(super) fn learn(&self, headers: &HeaderMap) {
        let offers_path = headers::offers(headers, Way::Path);
        if offers_path != self.by_path.load(Ordering::Relaxed) {
            self.by_path.store(offers_path, Ordering::Relaxed);
        }
        if let Some(links) = &self.links
            && headers::offers_frames(headers)
        {
            links.offered();
        }
    }

    fn read(self: &Arc<Self>, outgoing: &OutgoingCall, exchanged: HttpOutcome) -> Reply {
        let name = &outgoing.name;
        let HttpOutcome { result, way, .. } = exchanged;
        let answer = match result {
            Ok(answer) => answer,
            Err(broken) => {
                let (why, executed, when, what) = match broken {
                    ExchangeError::Unsent(why) => (why, Executed::No, "before", "it did not run"),
                    ExchangeError::Unknown(why) => (why, Executed::Unknown, "after", "it may have run"),
                };
                let why = format!("the connection to {} broke {when} `{name}` was sent; {what}: {why}", self.url());
                return Error::new(Code::Unavailable, why).executed_is(executed).into();
            }
        };
        self.learn(&answer.headers);
        if answer.is_open_ended && way == Way::Path && (200..300).contains(&answer.status) {
            let why = format!(
                "the reply of `{name}` doesn't say how long it is, so one that was cut off would look whole; let the \
                 proxy before {} speak HTTP/1.1",
                self.url()
            );
            return Error::new(Code::Unavailable, why).into();
        }
        let body = match answer.body {
            Ok(body) => body,
            Err(UnreadBody::Stream) => {
                return Reply { result: Err(unasked_stream(name).into()), metadata: answer.headers };
            }
            Err(UnreadBody::TooLarge) => {
                let executed = if answer.status == 200 { Executed::Yes } else { Executed::Unknown };
                let error = self.too_large(name, Codec::Json, executed);
                return Reply { result: Err(error.into()), metadata: answer.headers };
            }
        };
        let reason = answer.reason.as_deref();
        let read = reply(way, name, answer.status, reason, &answer.headers, &body);
        Reply {
            result: read.map(|value| Returned::Value(ReturnedValue::Encoded(Codec::Json, value))),
            metadata: answer.headers,
        }
    }

    /// A call was answered, or refused for good.
    pub(super) fn deposit(&self) {
        self.budget.deposit();
    }

    /// Keeps a connection after an answer, for as long as its server will, unless nobody waits for it and calls go by
    /// frames meanwhile.
    pub(super) fn keep(self: &Arc<Self>, mut connection: PooledConnection, answered: Option<&HeaderMap>) {
        let by_frames = self.links.as_ref().is_some_and(|links| links.get(connection.runtime.id()).is_some());
        if by_frames && self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        connection.http1.release();
        let said = answered.and_then(headers::keep_alive);
        let is_byname = answered.is_some_and(headers::is_byname);
        let until = match said {
            // Earlier than the server, so that a call never meets a connection that is just being closed.
            Some(said) => said.mul_f64(0.8).min(said.saturating_sub(Duration::from_secs(1))),
            None if is_byname => self.limits.pool_idle,
            None => UNKNOWN_IDLE,
        };
        let until = later(Instant::now(), until.min(self.limits.pool_idle));
        let (address, owner) = (connection.address, connection.runtime.id());
        let mut pool = self.pool();
        pool.addresses.answered(address);
        let sweeper = (!self.sweeping.swap(true, Ordering::Relaxed)).then(|| connection.runtime.clone());
        pool.put(connection, address, owner, until);
        drop(pool);
        if let Some(runtime) = sweeper {
            let task = runtime::spawn(&runtime, sweep(SweeperGuard(Arc::downgrade(self))));
            *self.sweeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        }
    }

    /// A call by this connection was not answered in time: the next goes to another address, where there is one.
    pub(super) fn timed_out(&self, address: SocketAddr) {
        self.pool().addresses.timed_out(address);
    }

    /// When the sweeper has to look again; `None` ends it. All under the lock, so that what is kept later starts another.
    fn next_sweep(&self) -> Option<Instant> {
        let pool = self.pool();
        let next = pool.next_expiry();
        if next.is_none() {
            self.sweeping.store(false, Ordering::Relaxed);
        }
        next
    }

    fn pool(&self) -> MutexGuard<'_, ConnectionPool<PooledConnection, Id>> {
        lock(&self.pool)
    }
}

fn lock<T>(pool: &Mutex<T>) -> MutexGuard<'_, T> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for ServiceHost {
    /// With the last client goes the task that would close its idle connections.
    fn drop(&mut self) {
        let sweeper = self.sweeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sweeper) = sweeper.take() {
            sweeper.abort();
        }
    }
}

/// Whether a call did not run because its server takes none by this way any more, or never did: plain is how a client
/// begins with a server that it doesn't know.
fn is_switched_off(way: Way, done: &Reply) -> bool {
    let Err(Failure::Rpc(error)) = &done.result else {
        return false;
    };
    error.code() == Code::Unimplemented
        && error.executed() == Executed::No
        && headers::is_byname(&done.metadata)
        && !headers::offers(&done.metadata, way)
}

/// Whether an answer is the last word of a server that had closed a kept connection before the call came: it was not
/// run, and is as good as not sent.
fn is_goodbye(name: &str, answer: &HttpResponse) -> bool {
    let (408, Ok(body)) = (answer.status, &answer.body) else {
        return false;
    };
    let read = reply(Way::Plain, name, answer.status, None, &answer.headers, body);
    matches!(read, Err(Failure::Rpc(error)) if error.code() == Code::Unavailable && error.executed() == Executed::No)
}

/// What a failed connect means to a person.
fn hint(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::ConnectionRefused => format!("{why}; is the server running there?"),
        io::ErrorKind::NotFound => format!("{why}; is that the host's name?"),
        _ => why.to_string(),
    }
}

/// One who waits for a connection.
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

/// Closes connections that have been idle for too long, while there are any.
async fn sweep(mut sweeping: SweeperGuard) {
    while let Some(host) = sweeping.0.upgrade() {
        let Some(next) = host.next_sweep() else {
            sweeping.0 = Weak::new();
            return;
        };
        drop(host);
        sleep_until(next).await;
        if let Some(host) = sweeping.0.upgrade() {
            let old = host.pool().expire(Instant::now());
            drop(old);
        }
    }
}

/// Dropped with its runtime: the next idle connection starts another.
struct SweeperGuard(Weak<ServiceHost>);

impl Drop for SweeperGuard {
    fn drop(&mut self) {
        if let Some(host) = self.0.upgrade() {
            host.sweeping.store(false, Ordering::Relaxed);
        }
    }
}

/// A request and its answer. When nobody waits any more, the connection waits for the reply by itself and goes back to
/// the pool: closing it would cost the next call a new one and leave a socket in TIME_WAIT.
struct HttpExchange {
    host: Arc<ServiceHost>,
    running: Option<ExchangeRun>,
    way: Way,
    deadline: Instant,
}

struct ExchangeRun {
    work: BoxFuture<(Result<HttpResponse, ExchangeError>, Option<Http1Connection>)>,
    address: SocketAddr,
    runtime: Handle,
    timer: DeadlineTimer,
    permit: OwnedSemaphorePermit,
}

impl HttpExchange {
    fn start(
        host: &Arc<ServiceHost>,
        connection: PooledConnection,
        permit: OwnedSemaphorePermit,
        outgoing: &OutgoingCall,
    ) -> Self {
        let PooledConnection { http1, address, runtime, timer } = connection;
        let (head, body, way) = host.request(outgoing, false);
        let work = Box::pin(http1.exchange(head, body, host.limits.message));
        let running = Some(ExchangeRun { work, address, runtime, timer, permit });
        Self { host: Arc::clone(host), running, way, deadline: outgoing.deadline }
    }
}

impl Future for HttpExchange {
    /// `None` at the deadline.
    type Output = Option<HttpOutcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<HttpOutcome>> {
        let this = &mut *self;
        let Some(running) = &mut this.running else {
            return Poll::Ready(None);
        };
        let Poll::Ready((result, http1)) = running.work.as_mut().poll(cx) else {
            ready!(running.timer.poll_at(cx, this.deadline));
            this.host.timed_out(running.address);
            return Poll::Ready(None);
        };
        let is_kept = http1.is_some();
        if let Some(ExchangeRun { address, runtime, timer, permit, .. }) = this.running.take() {
            // First the connection, then the permit: whoever waits for it finds one.
            if let Some(http1) = http1 {
                let answered = result.as_ref().ok().map(|answer| &answer.headers);
                this.host.keep(PooledConnection { http1, address, runtime, timer }, answered);
            }
            drop(permit);
        }
        Poll::Ready(Some(HttpOutcome { result, way: this.way, is_kept }))
    }
}

impl Drop for HttpExchange {
    fn drop(&mut self) {
        let Some(ExchangeRun { work, address, runtime, timer, permit }) = self.running.take() else {
            return;
        };
        let host = Arc::clone(&self.host);
        let until = later(Instant::now(), host.limits.abandoned);
        // Where its socket is, which need not be where the call was dropped.
        runtime::spawn(&runtime, async move {
            match timeout_at(until, work).await {
                Ok((result, Some(http1))) => {
                    let answered = result.as_ref().ok().map(|answer| &answer.headers);
                    host.keep(PooledConnection { http1, address, runtime: Handle::current(), timer }, answered);
                }
                Ok((_, None)) => {}
                Err(_) => host.timed_out(address),
            }
            drop(permit);
        });
    }
}
