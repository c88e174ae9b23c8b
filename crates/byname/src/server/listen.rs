//! Where a server listens, and how it accepts: [`Listen`], [`Serve`], [`Bound`].

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::Server;
use super::announcement::Announcement;
use super::announcers::Announcers;
use super::bind::{BoundListeners, ListenAddress, bind, cannot_listen};
use super::blocking_watchdog::Watchdog;
use super::connection;
use super::drain::drain;
use super::forwarded::TrustedProxies;
use super::http::ServerEndpoint;
use super::server_handle::ServerHandle;
use super::signals::ToldBySignals;
use super::unix_socket::UnixSocket;
use crate::address::Address;
use crate::dispatch::Dispatch;
use crate::error::{Code, Error};
use crate::networks::NetworkList;
use crate::ordered_watch as watch;
use crate::peer::Peer;
use crate::runtime::{self, BoxFuture, told_to_stop};
use crate::simulated_world::is_simulated;
use crate::transport::{TransportListener, TransportStream};

/// Where a server listens: an address, as text or as a [`SocketAddr`], [a unix socket](Self::unix), a listener that is
/// already bound, or sockets that systemd hands over.
#[derive(Debug)]
pub struct Listen {
    at: ListenAddress,
    /// Which proxies must introduce their clients.
    proxy_protocol: Option<Result<NetworkList, Error>>,
}

impl Listen {
    pub(super) fn at(at: ListenAddress) -> Self {
        Self { at, proxy_protocol: None }
    }

    /// A unix socket at a path, whatever the path looks like, to set its permissions. `"unix:/run/orders.sock"` is the
    /// same with those that it has without being told.
    ///
    /// ```no_run
    /// use byname::{Listen, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// # let server = Server::new().function("ping", || async { "pong" });
    /// server.serve(Listen::unix("/run/orders/orders.sock").mode(0o660)).await
    /// # }
    /// ```
    pub fn unix(path: impl AsRef<Path>) -> UnixSocket {
        UnixSocket::at(path.as_ref().into())
    }

    /// Requires the header of the PROXY protocol, version 1 or 2, at the beginning of every connection, and accepts
    /// connections from these networks only. The header says who the proxy's client is: it is the
    /// [`Peer::address`](crate::Peer::address) of all calls of the connection. haproxy sends it with `send-proxy-v2`, nginx
    /// with `proxy_protocol on` in a `stream`, and balancers of cloud providers can send it too. If the server has TLS, the
    /// header comes before the handshake.
    ///
    /// ```no_run
    /// use byname::{Listen, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// # let server = Server::new().function("ping", || async { "pong" });
    /// server.serve(Listen::from("0.0.0.0:8080").proxy_protocol(["10.0.0.0/8"])).await
    /// # }
    /// ```
    ///
    /// A network is an address with a prefix or without, or `unix` for a unix socket. Any other connection is closed, and
    /// so is one without the header, or whose header takes longer than
    /// [`Limits::header_read`](crate::Limits::header_read): checks of a balancer must send the header as well. A proxy that
    /// speaks for itself (`LOCAL`) or does not know its client (`UNKNOWN`) is the caller. Others reach this server through
    /// the proxy, so it has the rules about names of a server that is not on loopback, wherever it listens.
    #[must_use]
    pub fn proxy_protocol<N: Into<String>>(mut self, networks: impl IntoIterator<Item = N>) -> Self {
        self.proxy_protocol = Some(NetworkList::parse("Listen::proxy_protocol", networks));
        self
    }
}

impl From<&str> for Listen {
    fn from(name: &str) -> Self {
        Self::at(ListenAddress::Name(name.into()))
    }
}

impl From<String> for Listen {
    fn from(name: String) -> Self {
        Self::at(ListenAddress::Name(name))
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::at(ListenAddress::Address(address))
    }
}

impl From<std::net::TcpListener> for Listen {
    fn from(listener: std::net::TcpListener) -> Self {
        Self::at(ListenAddress::Std(listener))
    }
}

impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Self {
        Self::at(ListenAddress::Tokio(listener))
    }
}

impl From<UnixSocket> for Listen {
    fn from(socket: UnixSocket) -> Self {
        Self::at(ListenAddress::Unix(socket))
    }
}

/// A server about to serve. Await it to serve until the end, or [`bind`](Self::bind) it first to learn its address.
#[must_use = "a server serves when this is awaited"]
pub struct Serve {
    server: Server,
    at: Listen,
    until: Option<BoxFuture<()>>,
    /// Where, and which address.
    announcements: Vec<(String, String)>,
}

impl std::fmt::Debug for Serve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serve").field("server", &self.server).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Serve {
    pub(super) fn new(server: Server, at: Listen) -> Self {
        Self { server, at, until: None, announcements: Vec::new() }
    }

    /// Drains when this future ends, instead of at SIGTERM and ctrl-c. Use it in a program that handles signals itself.
    /// Without it, both signals end the process at once when no server is left.
    pub fn until(mut self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Some(Box::pin(end));
        self
    }

    /// Announces the server, for clients that look for it in etcd. `address` is what they connect to: `10.0.0.7:8080`, a name
    /// with its port, or a unix socket of their machine. [Options](crate::Client::new) may follow, such as
    /// `?tls=orders.internal`. The address at which the server listens is often another, such as `0.0.0.0:8080`.
    ///
    /// ```no_run
    /// use byname::Server;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// # let server = Server::new().function("ping", || async { "pong" });
    /// server
    ///     .serve("0.0.0.0:8080")
    ///     .announce("etcd://10.0.0.1:2379,10.0.0.2:2379/orders", "10.0.0.7:8080")
    ///     .await
    /// # }
    /// ```
    ///
    /// The key is `orders/` and an id that is new for each start, and its value is `{"address": "10.0.0.7:8080"}`. The key is
    /// written when the server is bound and awaited. It ends ten seconds after the server has ended without a drain, or
    /// can't reach etcd any more. Then the server announces itself again as soon as it can. When the server is told to stop,
    /// it takes its key out before anything else, and waits two seconds for that at most.
    ///
    /// If etcd does not answer, the server serves all the same. It logs a warning, and tries again until it has announced
    /// itself. Call this again to announce the server at a second place. It needs the feature `etcd`.
    ///
    /// # Errors
    ///
    /// When the server is bound: `invalid_argument` if the URL or the address is invalid, and `failed_precondition` without
    /// the feature.
    pub fn announce(mut self, url: impl Into<String>, address: impl Into<String>) -> Self {
        self.announcements.push((url.into(), address.into()));
        self
    }

    /// Binds without serving yet. New connections wait to be accepted.
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
        let proxy_protocol = self.at.proxy_protocol.transpose()?;
        let announcements = self.announcements.iter().map(|(url, address)| Announcement::new(url, address));
        let announcements = announcements.collect::<Result<Vec<_>, _>>()?;
        let BoundListeners { listeners, are_kept_open } = bind(self.at.at).await?;
        let addresses = listeners.iter().map(TransportListener::local_addr).collect::<io::Result<Vec<_>>>();
        let addresses = addresses.map_err(|why| cannot_listen("the given listener", why))?;
        if self.server.tls.is_some()
            && let Some(socket) = addresses.iter().find(|address| address.is_unix())
        {
            let why = format!("can't serve TLS at {socket}: a unix socket needs none; leave out `Server::tls` there");
            return Err(Error::refused(Code::FailedPrecondition, why));
        }
        if self.server.tls.is_some() && is_simulated() {
            let why = "can't serve TLS in a simulation, which has none; leave out `Server::tls` there";
            return Err(Error::refused(Code::FailedPrecondition, why));
        }
        let private = proxy_protocol.is_none() && addresses.iter().all(Address::is_of_this_machine);
        let dispatch = self.server.something(private)?;
        let mut endpoint = ServerEndpoint::new(&self.server, Arc::new(dispatch), private, false);
        if !addresses.iter().any(Address::is_unix) {
            let trusting = [
                ("Server::trust_proxy", endpoint.trusted_proxies().is_some_and(TrustedProxies::has_unix)),
                ("Listen::proxy_protocol", proxy_protocol.as_ref().is_some_and(NetworkList::has_unix)),
            ];
            for (method, _) in trusting.iter().filter(|(_, has_unix)| *has_unix) {
                warn!(
                    "`{method}` names `unix`, but the server listens at no unix socket; name the networks of the proxies"
                );
            }
        }
        endpoint.require_proxy_protocol(proxy_protocol);
        let (endpoint, until) = (Arc::new(endpoint), self.until);
        Ok(Bound { listeners, are_kept_open, addresses, endpoint, until, announcements })
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
    /// One or more listeners, with the same number of addresses.
    listeners: Vec<TransportListener>,
    are_kept_open: bool,
    addresses: Vec<Address>,
    endpoint: Arc<ServerEndpoint>,
    until: Option<BoxFuture<()>>,
    announcements: Vec<Announcement>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Bound {
    /// The address, with the port that was chosen. For `localhost`, the first of its two addresses. For sockets that were
    /// handed over, the first.
    pub fn local_addr(&self) -> Address {
        self.addresses[0].clone()
    }

    /// What changes the server while it runs.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(self.endpoint.dispatch()))
    }

    /// All addresses: two for `localhost`, one for each socket that was handed over, otherwise one.
    pub fn local_addrs(&self) -> &[Address] {
        &self.addresses
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
    let Bound { mut listeners, are_kept_open, addresses, endpoint, until, announcements } = bound;
    // Dropped with this future, at the end or before. After that, signals end the process again.
    let (by_signals, mut until) = match until.or_else(told_to_stop) {
        Some(until) => (None, until),
        None => {
            let failed = |why: io::Error| Error::refused(Code::Internal, format!("can't wait for signals: {why}"));
            let (by_signals, told) = ToldBySignals::new().map_err(failed)?;
            (Some(by_signals), told)
        }
    };
    let dispatch = endpoint.dispatch();
    for method in dispatch.methods() {
        let package = method.source.package;
        let of = if package.is_empty() { "" } else { " of " };
        debug!("serving `{}`{of}{package}", method.signature());
    }
    dispatch.log_not_served();
    dispatch.log_closed();
    let names = dispatch.names_for_log();
    for address in addresses {
        let scheme = match address.is_unix() {
            true => "",
            false if endpoint.tls().is_some() => "https://",
            false => "http://",
        };
        let (count, path) = (dispatch.methods().len(), endpoint.path());
        let (s, comma) = (if count == 1 { "" } else { "s" }, if scheme.is_empty() { ", " } else { "" });
        info!(functions = names, "serving {count} function{s} at {scheme}{address}{comma}{path}");
    }
    let _reloading = endpoint
        .tls()
        .cloned()
        .map(|tls| ReloadTask(runtime::spawn(&Handle::current(), async move { tls.watch().await })));

    // The one thread of a simulation is blocked by nothing but its functions, in no virtual time.
    let _watchdog = (!is_simulated()).then(|| Watchdog::new(&endpoint));
    let announcers = Announcers::start(announcements, endpoint.instance());
    let (stop, stopped) = watch::channel(());
    // Dropped before `stop`, also when this future is dropped, so that connections that are woken find the state set.
    let ends = EndReadiness(dispatch);
    accept_until(until.as_mut(), &mut listeners, &endpoint, &stopped).await;
    // Clients go elsewhere while this server still accepts.
    accept_until(pin!(announcers.withdraw()), &mut listeners, &endpoint, &stopped).await;
    let hint = if by_signals.is_some() { "; another ctrl-c ends the process at once" } else { "" };
    let delay = dispatch.limits_now().drain_delay;
    if !delay.is_zero() {
        dispatch.admission().stop_looking_ready();
        info!("told to stop: not ready any more, and calls are served for {delay:?} before the drain{hint}");
        accept_until(pin!(tokio::time::sleep(delay)), &mut listeners, &endpoint, &stopped).await;
    }
    // Before any reply says that its connection ends. A client that reads this opens another connection, which must not
    // reach this listener.
    for listener in listeners {
        if are_kept_open {
            continue;
        }
        accept_the_last(listener, &endpoint, &stopped);
    }
    drop(ends);
    // A call that has been written by now must be read, so the sockets are polled once more.
    tokio::task::yield_now().await;
    drop(stopped);
    drain(&endpoint, &stop, hint).await
}

/// Accepts and serves connections until `end`.
async fn accept_until<F: Future<Output = ()> + ?Sized>(
    mut end: Pin<&mut F>,
    listeners: &mut [TransportListener],
    endpoint: &Arc<ServerEndpoint>,
    stopped: &watch::Receiver<()>,
) {
    loop {
        let accepted = poll_fn(|cx| match end.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => poll_accept(listeners, cx).map(Some),
        });
        match accepted.await {
            None => return,
            Some(Ok((stream, peer))) => {
                serve_one(stream, peer, endpoint, stopped);
                // The next turn is the other listener's.
                listeners.rotate_left(1);
            }
            Some(Err(why)) => not_accepted(why).await,
        }
    }
}

fn poll_accept(listeners: &[TransportListener], cx: &mut Context<'_>) -> Poll<io::Result<(TransportStream, Peer)>> {
    for listener in listeners {
        if let Poll::Ready(accepted) = listener.poll_accept(cx) {
            return Poll::Ready(accepted);
        }
    }
    Poll::Pending
}

/// The task that reloads certificates. It ends when this is dropped.
struct ReloadTask(JoinHandle<()>);

impl Drop for ReloadTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Marks a server as ready for calls until this is dropped.
struct EndReadiness<'d>(&'d Dispatch);

impl Drop for EndReadiness<'_> {
    fn drop(&mut self) {
        self.0.admission().stop_being_ready();
    }
}

fn serve_one(stream: TransportStream, peer: Peer, endpoint: &Arc<ServerEndpoint>, stopped: &watch::Receiver<()>) {
    let connection = connection::serve(stream, peer, Arc::clone(endpoint), stopped.clone());
    runtime::spawn(&Handle::current(), connection);
}

async fn not_accepted(why: io::Error) {
    // The connection was gone before it was accepted.
    if is_of_one(&why) {
        return;
    }
    // Most likely there is no free file descriptor. Retrying at once would spin.
    warn!("can't accept a connection, trying again in 100 ms: {why}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Whether only the connection that was being accepted failed.
fn is_of_one(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// Closes a listener. Closing would reset the connections that the kernel has already accepted, so they are served, and
/// told to close. The kernel is asked directly until the moment of closing, because tokio's readiness may be out of
/// date.
fn accept_the_last(listener: TransportListener, endpoint: &Arc<ServerEndpoint>, stopped: &watch::Receiver<()>) {
    let Ok(listener) = listener.close() else {
        return;
    };
    loop {
        match listener.accept() {
            Ok((Ok(stream), peer)) => serve_one(stream, peer, endpoint, stopped),
            Ok((Err(_), _)) => {}
            Err(why) if is_of_one(&why) => {}
            Err(_) => return,
        }
    }
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
        // The paused clock of the test advances only for a task that waits.
        for exhausted in [24, 23, 105, 12] {
            assert_eq!(paused(io::Error::from_raw_os_error(exhausted)).await, Duration::from_millis(100));
        }
        for gone in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset] {
            assert_eq!(paused(gone.into()).await, Duration::ZERO);
        }
        assert_eq!(began.elapsed(), Duration::from_millis(400));
    }
}
