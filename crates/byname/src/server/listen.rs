//! Bind, accept, drain.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{info, warn};

use super::Server;
use super::connection;
use super::http::Endpoint;
use super::watchdog::Watchdog;
use crate::dispatch::Dispatch;
use crate::error::{Code, Error, Executed};
use crate::quote::quoted;
use crate::runtime::{self, BoxFuture};

/// Connections that may wait to be accepted. With the usual 128, two clients that start together overflow it, and whoever
/// is turned away tries again only after a second.
const BACKLOG: u32 = 1024;

/// Where a server listens: an address, as text or as a [`SocketAddr`], or a listener that is bound already.
#[derive(Debug)]
pub struct Listen(At);

#[derive(Debug)]
enum At {
    Name(String),
    Address(SocketAddr),
    Std(std::net::TcpListener),
    Tokio(TcpListener),
}

impl From<&str> for Listen {
    fn from(name: &str) -> Self {
        Self(At::Name(name.into()))
    }
}

impl From<String> for Listen {
    fn from(name: String) -> Self {
        Self(At::Name(name))
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self(At::Address(address))
    }
}

impl From<std::net::TcpListener> for Listen {
    fn from(listener: std::net::TcpListener) -> Self {
        Self(At::Std(listener))
    }
}

impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Self {
        Self(At::Tokio(listener))
    }
}

/// A server about to serve. Await it to serve until the end, or [`bind`](Self::bind) it first to learn its address.
#[must_use = "a server serves when this is awaited"]
pub struct Serve {
    server: Server,
    at: Listen,
    until: Option<BoxFuture<()>>,
}

impl std::fmt::Debug for Serve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serve").field("server", &self.server).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Serve {
    pub(super) fn new(server: Server, at: Listen) -> Self {
        Self { server, at, until: None }
    }

    /// Drains when this future ends, in place of SIGTERM and ctrl-c.
    pub fn until(mut self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Some(Box::pin(end));
        self
    }

    /// Binds without serving yet; connections made from now on wait to be accepted.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// let server = byname::Server::new().function("ping", || async { "pong" });
    /// let bound = server.serve("127.0.0.1:0").until(async {}).bind().await?;
    /// println!("serving at {}", bound.local_addr());
    /// bound.await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Server::serve`] at its start.
    pub async fn bind(self) -> Result<Bound, Error> {
        let listener = listener(self.at.0).await?;
        let address = listener.local_addr().map_err(|why| cannot_listen("the given listener", why))?;
        let private = address.ip().is_loopback();
        let dispatch = self.server.something(private)?;
        let endpoint = Endpoint::new(&self.server, Arc::new(dispatch), private, false);
        Ok(Bound { listener, address, endpoint: Arc::new(endpoint), until: self.until })
    }
}

impl IntoFuture for Serve {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.bind().await?.await })
    }
}

/// A server that is bound and serves when awaited.
#[must_use = "a server serves when this is awaited"]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    endpoint: Arc<Endpoint>,
    until: Option<BoxFuture<()>>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Bound {
    /// The address, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl IntoFuture for Bound {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(run(self))
    }
}

async fn run(bound: Bound) -> Result<(), Error> {
    let Bound { listener, address, endpoint, until } = bound;
    let mut until = match until {
        Some(until) => until,
        None => told_to_stop()?,
    };
    let dispatch = endpoint.dispatch();
    for method in dispatch.methods() {
        let package = method.source.package;
        info!(rpc.method = %method.name, package, "serving `{}` of {package}", method.signature());
    }
    info!(%address, "serving {} functions at http://{address}{}", dispatch.methods().len(), endpoint.path());

    let _watchdog = Watchdog::new(&endpoint);
    let (stop, stopped) = watch::channel(());
    // Dropped before `stop` is, also where this future is dropped: connections that are woken find it said.
    let ends = Ends(dispatch);
    loop {
        let accepted = poll_fn(|cx| match until.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => listener.poll_accept(cx).map(Some),
        });
        match accepted.await {
            None => break,
            Some(Ok((stream, peer))) => serve_one(stream, peer, &endpoint, &stopped),
            Some(Err(why)) => not_accepted(why).await,
        }
    }
    // Before any reply says that its connection ends: whoever is told so opens another, and is not to find this one.
    accept_the_last(listener, &endpoint, &stopped);
    drop(ends);
    // Whoever has written a call by now is to be heard: the sockets are looked at once more.
    tokio::task::yield_now().await;
    drop(stopped);
    drain(&endpoint, stop).await
}

/// A server that wants calls, until this is dropped.
struct Ends<'d>(&'d Dispatch);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.stop_being_ready();
    }
}

fn serve_one(stream: TcpStream, peer: SocketAddr, endpoint: &Arc<Endpoint>, stopped: &watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let connection = connection::serve(stream, peer, Arc::clone(endpoint), stopped.clone());
    runtime::spawn(&Handle::current(), connection);
}

async fn not_accepted(why: io::Error) {
    // The connection was gone before we took it.
    if is_of_one(&why) {
        return;
    }
    // Most likely out of file descriptors; asking again at once would spin.
    warn!("can't accept a connection, trying again in 100 ms: {why}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Whether only the one connection failed that was to be accepted.
fn is_of_one(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// Closes a listener. What the kernel has accepted for us would be reset with it: that is served, and told to close.
/// The kernel itself is asked, until the very moment of closing, since tokio knows only what it was told a while ago.
fn accept_the_last(listener: TcpListener, endpoint: &Arc<Endpoint>, stopped: &watch::Receiver<()>) {
    let Ok(listener) = listener.into_std() else {
        return;
    };
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    serve_one(stream, peer, endpoint, stopped);
                }
            }
            Err(why) if is_of_one(&why) => {}
            Err(_) => return,
        }
    }
}

async fn drain(endpoint: &Endpoint, stop: watch::Sender<()>) -> Result<(), Error> {
    let dispatch = endpoint.dispatch();
    let limit = dispatch.limits().drain;
    info!("draining: no new calls, {:?} for those in flight", limit);
    let _ = stop.send(());
    let ended = async {
        stop.closed().await;
        dispatch.idle().await;
    };
    let mut ended = pin!(tokio::time::timeout(limit, ended));
    // Streams may never end by themselves; they get half of the time for it.
    let ended = match tokio::time::timeout(limit / 2, ended.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            dispatch.end_streams();
            ended.await
        }
    };
    if ended.is_ok() {
        return Ok(());
    }
    let active = dispatch.active();
    let names: Vec<_> = active.iter().map(|(name, count)| format!("`{name}` ({count})")).collect();
    let what = match names.as_slice() {
        [] => "connections that would not close".to_owned(),
        names => names.join(", "),
    };
    let why =
        format!("stopped after {limit:?} (`Limits::drain`) with work unfinished: {what}; allow more, or end it sooner");
    warn!("{why}");
    Err(Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Unknown).of_limit("drain"))
}

async fn listener(at: At) -> Result<TcpListener, Error> {
    match at {
        At::Name(name) => named(&name).await.map_err(|why| cannot_listen(&quoted(&name), why)),
        At::Address(address) => listen_at(address).map_err(|why| cannot_listen(&quoted(&address.to_string()), why)),
        At::Std(listener) => listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .map_err(|why| cannot_listen("the given listener", why)),
        At::Tokio(listener) => Ok(listener),
    }
}

/// At the first address of the name that can be bound.
async fn named(name: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let unknown = |why: io::Error| match why.kind() {
        io::ErrorKind::InvalidInput => why,
        _ => io::Error::new(io::ErrorKind::NotFound, why),
    };
    for address in tokio::net::lookup_host(name).await.map_err(unknown)? {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that starts again must not wait for the sockets that it left in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_listen(at: &str, why: io::Error) -> Error {
    let hint = match why.kind() {
        io::ErrorKind::AddrInUse => "; another process has the port, or port 0 takes a free one",
        io::ErrorKind::InvalidInput => "; expected host:port, such as 127.0.0.1:8080",
        io::ErrorKind::NotFound | io::ErrorKind::AddrNotAvailable => {
            "; expected host:port of this machine, such as 127.0.0.1:8080"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 are the superuser's",
        _ => "",
    };
    Error::refused(Code::Unavailable, format!("can't listen at {at}: {why}{hint}"))
}

/// Ends when the process is asked to: SIGTERM (what orchestrators send) or ctrl-c.
fn told_to_stop() -> Result<BoxFuture<()>, Error> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |why: io::Error| Error::refused(Code::Internal, format!("can't wait for signals: {why}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        Ok(Box::pin(poll_fn(move |cx| {
            if terminate.poll_recv(cx).is_ready() || interrupt.poll_recv(cx).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })))
    }
    #[cfg(not(unix))]
    Ok(Box::pin(async {
        let _ = tokio::signal::ctrl_c().await;
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_fails_is_asked_again_only_after_a_pause() {
        let began = Instant::now();
        let paused = async |error: io::Error| {
            let before = Instant::now();
            not_accepted(error).await;
            before.elapsed()
        };
        // By the clock of the test, which moves only for who waits.
        for exhausted in [24, 23, 105, 12] {
            assert_eq!(paused(io::Error::from_raw_os_error(exhausted)).await, Duration::from_millis(100));
        }
        for gone in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset] {
            assert_eq!(paused(gone.into()).await, Duration::ZERO);
        }
        assert_eq!(began.elapsed(), Duration::from_millis(400));
    }
}
