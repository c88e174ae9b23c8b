//! One request and its answer on one connection, until the deadline: [`HttpExchange`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::endpoint::Endpoint;
use super::http_connections::{HttpConnections, PooledConnection};
use super::http_instance_search::ConnectionInstance;
use super::http_request::{self, BodyCoding};
use super::http1_connection::{ExchangeError, Http1Connection, HttpResponse};
use super::outgoing_call::OutgoingCall;
use crate::arguments::EncodedArguments;
use crate::deadline::{DeadlineTimer, later};
use crate::runtime::{self, BoxFuture};
use crate::wire::Way;
use crate::wire::headers::AnsweringServer;

/// A request and its answer. If the caller drops it, the connection waits for the answer by itself and goes back to the
/// pool: closing it would cost the next call a new connection and leave a socket in TIME_WAIT.
pub(super) struct HttpExchange {
    connections: Arc<HttpConnections>,
    running: Option<ExchangeRun>,
    way: Way,
    deadline: Instant,
}

struct ExchangeRun {
    work: BoxFuture<(Result<HttpResponse, ExchangeError>, Option<Http1Connection>)>,
    endpoint: Arc<Endpoint>,
    runtime: Handle,
    timer: DeadlineTimer,
    instance: ConnectionInstance,
    permit: OwnedSemaphorePermit,
}

/// What an exchange came to.
pub(super) struct HttpOutcome {
    pub(super) result: Result<HttpResponse, ExchangeError>,
    pub(super) way: Way,
    /// The connection takes another call.
    pub(super) is_kept: bool,
}

impl HttpExchange {
    pub(super) fn start(
        connections: &Arc<HttpConnections>,
        connection: PooledConnection,
        permit: OwnedSemaphorePermit,
        outgoing: &OutgoingCall,
        args: &EncodedArguments,
        coding: BodyCoding,
    ) -> Self {
        let PooledConnection { http1, endpoint, runtime, timer, instance } = connection;
        let (head, body, way) =
            http_request::write(endpoint.url(), endpoint.takes_paths(), outgoing, args, false, coding);
        let work = Box::pin(http1.exchange(head, body, connections.limits.message));
        let running = Some(ExchangeRun { work, endpoint, runtime, timer, instance, permit });
        Self { connections: Arc::clone(connections), running, way, deadline: outgoing.deadline }
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
            this.connections.timed_out(&running.endpoint);
            return Poll::Ready(None);
        };
        let is_kept = http1.is_some();
        if let Some(ExchangeRun { endpoint, runtime, timer, instance, permit, .. }) = this.running.take() {
            // First the connection, then the permit: the call that gets the permit finds the connection.
            if let Some(http1) = http1 {
                let connection = PooledConnection { http1, endpoint, runtime, timer, instance };
                this.connections.keep(connection, answered(&result));
            }
            drop(permit);
        }
        Poll::Ready(Some(HttpOutcome { result, way: this.way, is_kept }))
    }
}

/// What an answer says of its server.
fn answered(result: &Result<HttpResponse, ExchangeError>) -> Option<(&AnsweringServer, &HeaderMap)> {
    result.as_ref().ok().map(|answer| (&answer.server, &answer.headers))
}

impl Drop for HttpExchange {
    fn drop(&mut self) {
        let Some(ExchangeRun { work, endpoint, runtime, timer, instance, permit }) = self.running.take() else {
            return;
        };
        let connections = Arc::clone(&self.connections);
        let until = later(Instant::now(), connections.limits.abandoned);
        // In the runtime of the socket. The call may be dropped in another.
        runtime::spawn(&runtime, async move {
            match timeout_at(until, work).await {
                Ok((result, Some(http1))) => {
                    let connection = PooledConnection { http1, endpoint, runtime: Handle::current(), timer, instance };
                    connections.keep(connection, answered(&result));
                }
                Ok((_, None)) => {}
                Err(_) => connections.timed_out(&endpoint),
            }
            drop(permit);
        });
    }
}
