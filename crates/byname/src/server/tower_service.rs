//! A server as a part of another HTTP server: [`HttpService`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tower_service::Service;

use super::Server;
use super::connection_timeouts::ConnectionActivity;
use super::http::{ReplyBody, RequestBody, ServerEndpoint, Session, answer};
use crate::error::Error;
use crate::runtime::BoxFuture;

/// Announced to callers: their connections are the outer server's, which may close them soon.
const IDLE: Duration = Duration::from_secs(5);

/// A [`Server`] as a `tower::Service`, to be mounted in an HTTP server that has routes of its own, such as an axum
/// application. [`Server::into_service`] makes it.
#[derive(Clone)]
pub struct HttpService {
    endpoint: Arc<ServerEndpoint>,
}

impl std::fmt::Debug for HttpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpService").field("path", &self.endpoint.path()).finish_non_exhaustive()
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
    /// The path is what the outer server leaves of it: [`endpoint`](Self::endpoint) counts from there, and
    /// `.endpoint("/")` answers at the very place of mounting. A caller's address is known where the outer server puts a
    /// [`SocketAddr`] into the request's extensions.
    ///
    /// Every layer of tower-http fits around it, directly and through axum.
    ///
    /// What concerns a call holds as ever: [`Limits`](crate::Limits)' `call`, `message`, `body_progress`, `nesting` and
    /// `in_flight`, deadlines, interceptors, and the rules about `Host`, as on an address that others can reach: name
    /// yours by [`hosts`](Self::hosts). Pages of other sites call by [`origins`](Self::origins), whatever a layer for CORS
    /// says. What concerns connections is the outer server's: `header`, `header_read`, `write_progress`, `idle` and
    /// `drain` do nothing here, and neither does SIGTERM. Callers are told to keep a connection for five seconds at most.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve) at its start: two functions under one name, nothing to serve.
    pub fn into_service(mut self) -> Result<HttpService, Error> {
        let announced = self.limits.idle.min(IDLE);
        self.limits.idle = announced;
        let dispatch = self.something(false)?;
        let endpoint = ServerEndpoint::new(&self, Arc::new(dispatch), false, true);
        Ok(HttpService { endpoint: Arc::new(endpoint) })
    }
}

impl<B: RequestBody> Service<Request<B>> for HttpService {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<SocketAddr>().copied();
        let session = Session::new(Arc::clone(&self.endpoint), Arc::new(ConnectionActivity::new(false)), peer);
        Box::pin(answer(Arc::new(session), request))
    }
}
