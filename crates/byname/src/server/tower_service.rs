//! A server as a part of another HTTP server: [`HttpService`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tower_service::Service;
use tracing::field::display;
use tracing::{debug, info, warn};

use super::Server;
use super::connection::{told_to_end, until_stopped};
use super::drain::drain;
use super::frame_connection::{self, FrameCaller};
use super::http::{GrantedUpgrade, ReplyBody, RequestBody, ServerEndpoint, Session, answer};
use super::server_handle::ServerHandle;
use crate::error::{Code, Error};
use crate::ordered_watch as watch;
use crate::peer::Peer;
use crate::runtime::{self, BoxFuture};

/// A [`Server`] as a `tower::Service`, to be mounted in an HTTP server that has routes of its own, such as an axum
/// application. [`Server::into_service`] makes it.
///
/// When its last clone is dropped, its connections of frames are told to end. Their running calls are answered if the
/// runtime lives long enough: when `main` returns, it does not. [`drain`](Self::drain) waits for them.
#[derive(Clone)]
pub struct HttpService {
    mounted: Arc<MountedServer>,
    peer_from: Option<Arc<PeerFrom>>,
}

/// What the clones of a service share.
struct MountedServer {
    endpoint: Arc<ServerEndpoint>,
    /// Tells the connections of frames to end. Each has a receiver.
    stop: watch::Sender<()>,
}

/// Finds the caller in the extensions of a request.
type PeerFrom = dyn Fn(&Extensions) -> Option<Peer> + Send + Sync;

impl std::fmt::Debug for HttpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let MountedServer { endpoint, stop } = &*self.mounted;
        let mut out = f.debug_struct("HttpService");
        out.field("path", &endpoint.path()).field("connections", &stop.receiver_count()).finish_non_exhaustive()
    }
}

impl HttpService {
    /// Sets how to find the caller in the extensions of a request, if it is neither a [`Peer`] nor a [`SocketAddr`].
    /// axum stores the address as its `ConnectInfo`:
    ///
    /// ```
    /// use std::net::SocketAddr;
    ///
    /// use axum::{Router, extract::ConnectInfo};
    /// use byname::{Context, Server, rpc};
    ///
    /// #[rpc(readonly)]
    /// async fn peer() -> Option<String> { Some(Context::current()?.peer()?.to_string()) }
    ///
    /// # fn main() -> Result<(), byname::Error> {
    /// let rpc = Server::new().method::<peer>().into_service()?;
    /// let rpc = rpc.peer_from(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0));
    /// let app = Router::new().nest_service("/api", rpc).into_make_service_with_connect_info::<SocketAddr>();
    /// # let _ = app; Ok(()) }
    /// ```
    ///
    /// If `find` returns `None`, a `Peer` in the extensions is used, or else a `SocketAddr`.
    ///
    /// A `Peer` also says what the connection has proven. An application that accepts TLS itself puts the certificate of
    /// the client into it (`ClientCertificate::from_der`, feature `tls`). Rules and functions then read the same
    /// [`identity`](Peer::identity) as in a server with `Server::tls`. byname does not end the connection when that
    /// certificate expires, because it belongs to the outer server.
    #[must_use]
    pub fn peer_from<P: Into<Peer>>(mut self, find: impl Fn(&Extensions) -> Option<P> + Send + Sync + 'static) -> Self {
        self.peer_from = Some(Arc::new(move |extensions| find(extensions).map(Into::into)));
        self
    }

    /// What changes the server while it runs.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(self.mounted.endpoint.dispatch()))
    }

    /// Ends the calls of this service. Await it when the application is told to stop, and let the outer server stop
    /// afterwards. So callers are told where the outer server would only close their connections:
    ///
    /// ```
    /// # use axum::Router;
    /// # use byname::Server;
    /// # async fn told_to_stop() {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::new().function("ping", || async { "pong" });
    /// let rpc = server.frames(true).into_service()?;
    /// let app = Router::new().nest_service("/api", rpc.clone());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(async move {
    ///         told_to_stop().await;
    ///         if let Err(unfinished) = rpc.drain().await {
    ///             eprintln!("{unfinished}");
    ///         }
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// `!ready` is answered 503 at once. After [`Limits::drain_delay`](crate::Limits::drain_delay), further calls are
    /// rejected with `unavailable`, not executed, and connections of frames are told to end by GOAWAY. Then this waits for
    /// the running calls and for those connections, for at most [`Limits::drain`](crate::Limits::drain). Streams that
    /// have not ended after half of that time are ended.
    ///
    /// The future does nothing before it is polled. A drain that has begun is not undone if its future is dropped, and
    /// further calls of this method wait for the same end.
    ///
    /// # Errors
    ///
    /// `deadline_exceeded` at [`Limits::drain`](crate::Limits::drain), with the names of the functions that still run.
    pub fn drain(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let mounted = Arc::clone(&self.mounted);
        async move {
            let dispatch = mounted.endpoint.dispatch();
            let delay = dispatch.limits_now().drain_delay;
            dispatch.admission().stop_looking_ready();
            if !delay.is_zero() && dispatch.admission().is_ready() {
                info!("told to stop: not ready any more, and calls are served for {delay:?} before the drain");
                tokio::time::sleep(delay).await;
            }
            dispatch.admission().stop_being_ready();
            // A call that has been written by now must be read, so the sockets are polled once more.
            tokio::task::yield_now().await;
            drain(&mounted.endpoint, &mounted.stop, "").await
        }
    }
}

impl Drop for MountedServer {
    /// The application is gone. Its connections of frames do not belong to the outer server, which can't end them.
    fn drop(&mut self) {
        let dispatch = self.endpoint.dispatch();
        let open = self.stop.receiver_count();
        if open > 0 && dispatch.admission().is_ready() {
            warn!(
                "the application that the server was mounted in is gone without `HttpService::drain`; connections of \
                 frames that are told to end: {open}"
            );
        }
        // Before `stop` is dropped, so that connections that are woken find it.
        dispatch.admission().stop_being_ready();
    }
}

/// Serves frames after an upgrade by the outer server.
async fn upgraded(
    upgrade: OnUpgrade,
    caller: FrameCaller,
    endpoint: Arc<ServerEndpoint>,
    mut stopped: watch::Receiver<()>,
) {
    let why = match until_stopped(pin!(upgrade), &mut stopped).await {
        Some(Ok(stream)) => {
            let told_to_end = told_to_end(&mut stopped, None);
            let stream = TokioIo::new(stream);
            return frame_connection::serve(stream, Bytes::new(), caller, endpoint, told_to_end, None).await;
        }
        Some(Err(why)) => why.to_string(),
        // A layer may have replaced the answer that granted it. Then hyper says nothing until the connection ends.
        None => "the server is stopping".to_owned(),
    };
    let peer = caller.peer.as_deref().map(display);
    debug!(peer, "a connection ended before its first frame: {why}");
}

impl Server {
    /// This server as a `tower::Service`, for an application that has routes and layers of its own.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use byname::{rpc, Server};
    ///
    /// #[rpc(readonly)]
    /// async fn add(a: i64, b: i64) -> i64 { a + b }
    ///
    /// # fn main() -> Result<(), byname::Error> {
    /// // Calls go to /api/rpc, and POST /api/rpc/add is one.
    /// let rpc = Server::new().method::<add>().into_service()?;
    /// let app: Router = Router::new().route("/", get(|| async { "hello" })).nest_service("/api", rpc);
    /// # Ok(()) }
    /// ```
    ///
    /// The path is the part that the outer server leaves: [`endpoint`](Self::endpoint) is relative to the mount point,
    /// and `.endpoint("/")` answers at the mount point itself. The extensions of the request, for example a user that a
    /// middleware has inserted, are the extensions of the call: interceptors read them from
    /// [`Request::extensions`](crate::Request::extensions), functions from
    /// [`Context::extensions`](crate::Context::extensions). A [`Peer`] among them is the caller, and otherwise a
    /// [`SocketAddr`] is the caller's address. [`HttpService::peer_from`] finds them elsewhere.
    ///
    /// Every layer of tower-http fits around it, directly and through axum.
    ///
    /// Everything about calls works as usual: [`Limits`](crate::Limits)' `call`, `message`, `body_progress`, `nesting`
    /// and `in_flight`, deadlines, interceptors, and the rules about `Host`, as for an address that others can reach.
    /// Name your hosts with [`hosts`](Self::hosts). Pages of other sites need [`origins`](Self::origins), whatever a
    /// CORS layer says. The outer server is responsible for connections of HTTP: `header`, `header_read`,
    /// `write_progress` and `idle` have no effect on them, and neither has SIGTERM. Callers are told to keep a connection
    /// for at most five seconds. [`HttpService::drain`] ends the calls when the application stops.
    ///
    /// Frames are off here until [`.frames(true)`](Self::frames), because a layer around this service sees one request
    /// for the upgrade and none of the calls that follow. With frames, authorization belongs in
    /// [interceptors](Self::intercept): the request for the upgrade has no headers of any call, but its extensions are
    /// those of each call on its connection. The outer server must be built on hyper, as axum and axum-server are, and
    /// let HTTP/1.1 upgrade. The limits `idle`, `write_progress` and `drain` hold on connections of frames.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve) at its start: two functions with one name, nothing to serve. Also if the server has TLS,
    /// because only the outer server has connections.
    pub fn into_service(self) -> Result<HttpService, Error> {
        if self.tls.is_some() {
            let why = "a server that is mounted in another has no connections, so `Server::tls` can do nothing; give the \
                       outer server its TLS";
            return Err(Error::refused(Code::FailedPrecondition, why));
        }
        let dispatch = self.something(false)?;
        dispatch.log_not_served();
        dispatch.log_closed();
        let endpoint = ServerEndpoint::new(&self, Arc::new(dispatch), false, true);
        let mounted = MountedServer { endpoint: Arc::new(endpoint), stop: watch::channel(()).0 };
        Ok(HttpService { mounted: Arc::new(mounted), peer_from: None })
    }
}

impl<B: RequestBody> Service<Request<B>> for HttpService {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut extensions = std::mem::take(request.extensions_mut());
        let found = self.peer_from.as_ref().and_then(|peer_from| peer_from(&extensions));
        let peer = found.or_else(|| extensions.get::<Peer>().cloned());
        let peer = peer.or_else(|| extensions.get::<SocketAddr>().map(|&address| address.into())).map(Arc::new);
        // The service may be dropped after this call. Its calls are still answered.
        let mounted = Arc::clone(&self.mounted);
        let endpoint = Arc::clone(&mounted.endpoint);
        let upgrade = if endpoint.offers_frames() { extensions.remove::<OnUpgrade>() } else { None };
        let Some(upgrade) = upgrade else {
            let session = Arc::new(Session::of_one_request(endpoint, peer, extensions));
            return Box::pin(async move {
                let _mounted = mounted;
                answer(session, request).await
            });
        };
        request.extensions_mut().insert(upgrade);
        let of_calls = (peer.clone(), extensions.clone());
        // Before the endpoint is asked whether the server stops, so that a later stop reaches the connection.
        let stopped = mounted.stop.subscribe();
        let session = Arc::new(Session::of_one_request(Arc::clone(&endpoint), peer, extensions));
        Box::pin(async move {
            let _mounted = mounted;
            let answered = answer(Arc::clone(&session), request).await;
            if let Some(GrantedUpgrade { connection, client, is_forwarded }) = session.upgrade() {
                let (peer, extensions) = of_calls;
                let caller = FrameCaller { peer: client.or(peer), is_forwarded, extensions };
                runtime::spawn(&Handle::current(), upgraded(connection, caller, endpoint, stopped));
            }
            answered
        })
    }
}
