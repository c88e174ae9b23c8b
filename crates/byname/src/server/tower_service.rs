//! A server as a part of another HTTP server: [`HttpService`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Extensions, Request, Response};
use tower_service::Service;

use super::Server;
use super::http::{ReplyBody, RequestBody, ServerEndpoint, Session, answer};
use crate::error::{Code, Error};
use crate::peer::Peer;
use crate::runtime::BoxFuture;

/// Announced to callers. The connections belong to the outer server, which may close them soon.
const IDLE: Duration = Duration::from_secs(5);

/// A [`Server`] as a `tower::Service`, to be mounted in an HTTP server that has routes of its own, such as an axum
/// application. [`Server::into_service`] makes it.
#[derive(Clone)]
pub struct HttpService {
    endpoint: Arc<ServerEndpoint>,
    peer_from: Option<Arc<PeerFrom>>,
}

/// Finds the caller's address in the extensions of a request.
type PeerFrom = dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync;

impl std::fmt::Debug for HttpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpService").field("path", &self.endpoint.path()).finish_non_exhaustive()
    }
}

impl HttpService {
    /// Sets how to find a caller's address in the extensions of a request, if it is not a plain [`SocketAddr`]. axum
    /// stores it as its `ConnectInfo`:
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
    /// If `find` returns `None`, a plain `SocketAddr` in the extensions is used.
    #[must_use]
    pub fn peer_from(mut self, find: impl Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static) -> Self {
        self.peer_from = Some(Arc::new(find));
        self
    }
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
    /// [`Context::extensions`](crate::Context::extensions). A [`SocketAddr`] among them is the caller's address.
    /// [`HttpService::peer_from`] finds it elsewhere.
    ///
    /// Every layer of tower-http fits around it, directly and through axum.
    ///
    /// Everything about calls works as usual: [`Limits`](crate::Limits)' `call`, `message`, `body_progress`, `nesting`
    /// and `in_flight`, deadlines, interceptors, and the rules about `Host`, as for an address that others can reach.
    /// Name your hosts with [`hosts`](Self::hosts). Pages of other sites need [`origins`](Self::origins), whatever a
    /// CORS layer says. The outer server is responsible for connections: `header`, `header_read`, `write_progress`,
    /// `idle` and `drain` have no effect here, and neither has SIGTERM. Callers are told to keep a connection for at
    /// most five seconds.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve) at its start: two functions with one name, nothing to serve. Also if the server has TLS,
    /// because only the outer server has connections.
    pub fn into_service(mut self) -> Result<HttpService, Error> {
        if self.tls.is_some() {
            let why = "a server that is mounted in another has no connections, so `Server::tls` can do nothing; give the \
                       outer server its TLS";
            return Err(Error::refused(Code::FailedPrecondition, why));
        }
        let announced = self.limits.idle.min(IDLE);
        self.limits.idle = announced;
        let dispatch = self.something(false)?;
        dispatch.log_not_served();
        let endpoint = ServerEndpoint::new(&self, Arc::new(dispatch), false, true);
        Ok(HttpService { endpoint: Arc::new(endpoint), peer_from: None })
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
        let extensions = std::mem::take(request.extensions_mut());
        let found = self.peer_from.as_ref().and_then(|peer_from| peer_from(&extensions));
        let peer = found.or_else(|| extensions.get::<SocketAddr>().copied());
        let peer = peer.map(|address| Arc::new(Peer::from(address)));
        let session = Session::of_one_request(Arc::clone(&self.endpoint), peer, extensions);
        Box::pin(answer(Arc::new(session), request))
    }
}
