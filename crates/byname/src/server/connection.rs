//! One connection, from its first bytes to its end.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::connection_timeouts::{ConnectionActivity, TimedSocket, linger};
use super::frame_connection::{self, FrameCaller};
use super::http::{GrantedUpgrade, STREAMS, ServerEndpoint, Session, answer};
use crate::limits_and_timeouts::Limits;
use crate::peer::Peer;
use crate::transport::TransportStream;

/// The first bytes of an HTTP/2 connection with prior knowledge. No supported method begins with `PR`.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most bytes that are buffered of one HTTP/1 connection, unless [`Limits::header`](crate::Limits::header) is more.
const BUFFER: usize = 400 << 10;

/// How often a quiet HTTP/2 peer is pinged, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);

pub(super) async fn serve(
    mut stream: TransportStream,
    peer: Arc<Peer>,
    endpoint: Arc<ServerEndpoint>,
    mut stopped: watch::Receiver<()>,
) {
    let limits = endpoint.dispatch().limits().clone();
    let (early, is_http2) = match beginning(&mut stream, &mut stopped, &limits).await {
        Some(Ok(first)) => first,
        Some(Err(why)) => return debug!(%peer, "a connection ended before its first request: {why}"),
        None if endpoint.dispatch().is_ready() => {
            return debug!(%peer, "closed a connection that asked nothing (`Limits::header_read`)");
        }
        None => {
            let activity = Arc::new(ConnectionActivity::new(false));
            return TimedSocket::new(stream, Bytes::new(), Arc::clone(&peer), activity, &limits, true).part().await;
        }
    };
    let activity = Arc::new(ConnectionActivity::new(is_http2));
    let io =
        TokioIo::new(TimedSocket::new(stream, early, Arc::clone(&peer), Arc::clone(&activity), &limits, !is_http2));
    let session = Arc::new(Session::new(Arc::clone(&endpoint), Arc::clone(&activity), Some(Arc::clone(&peer))));
    let served = Arc::clone(&session);
    let service = service_fn(move |request| answer(Arc::clone(&served), request));
    let is_ready = || endpoint.dispatch().is_ready();
    let ended = if is_http2 {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
        http2.keep_alive_interval(PING).keep_alive_timeout(PING);
        http2.max_header_list_size(u32::try_from(limits.header).unwrap_or(u32::MAX));
        let connection = pin!(http2.serve_connection(io, service));
        let end = |connection: Pin<&mut _>| {
            activity.part();
            http2::Connection::graceful_shutdown(connection);
        };
        drive(connection, is_ready, stopped.clone(), end).await
    } else {
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(None);
        // A caller may close its half after its request and read the answer.
        http1.half_close(true);
        http1.max_header_size(limits.header).max_buf_size(limits.header.max(BUFFER));
        let connection = pin!(http1.serve_connection(io, service).with_upgrades());
        let end = |connection: Pin<&mut _>| {
            activity.part();
            http1::UpgradeableConnection::graceful_shutdown(connection);
        };
        drive(connection, is_ready, stopped.clone(), end).await
    };
    if let (Ok(()), Some(upgrade)) = (&ended, session.upgrade()) {
        return upgraded(upgrade, peer, Arc::clone(&endpoint), stopped).await;
    }
    match ended {
        Ok(()) => {}
        Err(why) if why.is_parse_too_large() => {
            debug!(%peer, "closed a connection whose header exceeds {} bytes (`Limits::header`)", limits.header);
        }
        Err(why) => debug!(%peer, "a connection ended: {why}"),
    }
}

/// Serves frames after an upgrade from HTTP.
async fn upgraded(
    upgrade: GrantedUpgrade,
    peer: Arc<Peer>,
    endpoint: Arc<ServerEndpoint>,
    stopped: watch::Receiver<()>,
) {
    let upgraded = match upgrade.connection.await {
        Ok(upgraded) => upgraded,
        Err(why) => return debug!(%peer, "a connection ended before its first frame: {why}"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TimedSocket>>() else {
        return debug!(%peer, "a connection was not the one that had asked for frames, which is a defect of byname");
    };
    let (stream, early) = parts.io.into_inner().into_inner();
    let early = [early, parts.read_buf].concat();
    frame_connection::serve(
        stream,
        early.into(),
        FrameCaller { peer, is_forwarded: upgrade.is_forwarded },
        endpoint,
        stopped,
    )
    .await;
}

/// The first bytes, and whether they are HTTP/2. `None` if no request comes in time.
async fn beginning(
    stream: &mut TransportStream,
    stopped: &mut watch::Receiver<()>,
    limits: &Limits,
) -> Option<io::Result<(Bytes, bool)>> {
    let mut first = pin!(first_bytes(stream));
    match timeout(limits.header_read, until_stopped(first.as_mut(), stopped)).await {
        Ok(None) => {
            // The server stops while a client that has just connected is about to send a request. The mark makes the
            // stop visible again, as for every connection that is served.
            stopped.mark_changed();
            timeout(linger(limits), first).await.ok()
        }
        first => first.ok().flatten(),
    }
}

/// The output of `future`, or `None` when the server is told to stop.
async fn until_stopped<F: Future>(mut future: Pin<&mut F>, stopped: &mut watch::Receiver<()>) -> Option<F::Output> {
    let mut stop = pin!(stopped.changed());
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => stop.as_mut().poll(cx).map(|_| None),
    })
    .await
}

/// Drives a connection. When the server is told to stop, the connection accepts no further call.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    is_ready: impl Fn() -> bool,
    mut stopped: watch::Receiver<()>,
    end: impl Fn(Pin<&mut C>),
) -> C::Output
where
    C: Future,
{
    let mut stop = pin!(stopped.changed());
    let (mut listening, mut told) = (false, false);
    poll_fn(|cx: &mut Context<'_>| {
        // Poll first: a call that arrived before the stop is answered.
        let polled = connection.as_mut().poll(cx);
        // Tell the connection only once, and only if the server really stops.
        if polled.is_pending() && !told && (!listening || !is_ready()) {
            listening = true;
            if stop.as_mut().poll(cx).is_pending() {
                return polled;
            }
            told = true;
            end(connection.as_mut());
            return connection.as_mut().poll(cx);
        }
        polled
    })
    .await
}

/// Reads until the version of HTTP is known. Returns the bytes that were read.
async fn first_bytes(stream: &mut TransportStream) -> io::Result<(Bytes, bool)> {
    let mut early = BytesMut::with_capacity(8 * 1024);
    loop {
        if stream.read_buf(&mut early).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if early[0] == 0x16 {
            return Err(io::Error::other("the peer speaks TLS, this port is plain HTTP; call it with http://"));
        }
        let known = early.len().min(PREFACE.len());
        if early[..known] != PREFACE[..known] {
            return Ok((early.freeze(), false));
        }
        if known == PREFACE.len() {
            return Ok((early.freeze(), true));
        }
    }
}
