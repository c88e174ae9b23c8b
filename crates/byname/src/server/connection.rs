//! One connection, from its first bytes to its end.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Extensions;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::connection_timeouts::{ConnectionActivity, TimedSocket, last_answer, linger};
use super::end_reason::{EndReason, last_moment, log_expiry, unfinished};
use super::frame_connection::{self, FrameCaller};
use super::http::{GrantedUpgrade, STREAMS, ServerEndpoint, Session, answer};
use super::proxy_protocol::read_client;
use crate::limits_and_timeouts::Limits;
use crate::networks::NetworkList;
use crate::ordered_watch as watch;
use crate::peer::Peer;
use crate::transport::{Handshake, ServerTls, TransportStream};

/// The first bytes of an HTTP/2 connection with prior knowledge. No supported method begins with `PR`.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// The most bytes that are buffered of one HTTP/1 connection, unless [`Limits::header`](crate::Limits::header) is more.
const BUFFER: usize = 400 << 10;

/// How often a quiet HTTP/2 peer is pinged, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);

pub(super) async fn serve(
    mut stream: TransportStream,
    mut peer: Peer,
    endpoint: Arc<ServerEndpoint>,
    mut stopped: watch::Receiver<()>,
) {
    let limits = endpoint.dispatch().limits().clone();
    let counters = Arc::clone(endpoint.dispatch().telemetry().counters());
    let _open = counters.accept();
    if let Some(networks) = endpoint.proxy_protocol() {
        // Boxed, so that a connection does not keep the memory of this.
        match Box::pin(introduced(&mut stream, &peer, networks, &mut stopped, &limits)).await {
            Ok(client) => peer = client,
            Err(why) => return debug!(%peer, "closed a connection: {why}"),
        }
    }
    let (mut stream, peer, until) = match endpoint.tls() {
        None => (stream, Arc::new(peer), None),
        // Boxed, so that a connection doesn't keep the room of its handshake.
        Some(tls) => match Box::pin(secured(tls, stream, peer, &limits, &mut stopped)).await {
            Some(secured) => secured,
            None => return,
        },
    };
    let (early, is_http2) = match beginning(&mut stream, &mut stopped, &limits).await {
        Some(Ok(FirstBytes::Http { early, is_http2 })) => (early, is_http2),
        // Within TLS these bytes are no handshake of this connection.
        Some(Ok(FirstBytes::Tls(early))) if endpoint.tls().is_some() => (early, false),
        Some(Ok(FirstBytes::Tls(_))) => {
            debug!(%peer, "rejected a connection: the peer speaks TLS, this port is plain HTTP; call it with http://");
            return reject(stream, &with_tls(), peer, &limits).await;
        }
        Some(Err(why)) => return debug!(%peer, "a connection ended before its first request: {why}"),
        None if endpoint.dispatch().admission().is_ready() => {
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
    let part = |why| {
        log_expiry(&peer, why);
        activity.part(why);
    };
    let goes_on = || endpoint.dispatch().admission().is_ready() && until.is_none_or(|until| Instant::now() < until);
    let ended = if is_http2 {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
        http2.keep_alive_interval(PING).keep_alive_timeout(PING);
        http2.max_header_list_size(u32::try_from(limits.header).unwrap_or(u32::MAX));
        let connection = pin!(http2.serve_connection(io, service));
        let end = |connection: Pin<&mut _>, why| {
            part(why);
            http2::Connection::graceful_shutdown(connection);
        };
        drive(connection, goes_on, told_to_end(&mut stopped.clone(), until), end, &limits).await
    } else {
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(None);
        // A caller may close its half after its request and read the answer.
        http1.half_close(true);
        http1.max_header_size(limits.header).max_buf_size(limits.header.max(BUFFER));
        let connection = pin!(http1.serve_connection(io, service).with_upgrades());
        let end = |connection: Pin<&mut _>, why| {
            part(why);
            http1::UpgradeableConnection::graceful_shutdown(connection);
        };
        drive(connection, goes_on, told_to_end(&mut stopped.clone(), until), end, &limits).await
    };
    if let (Ok(()), Some(upgrade)) = (&ended, session.upgrade()) {
        return upgraded(upgrade, peer, Arc::clone(&endpoint), stopped, until).await;
    }
    match ended {
        Ok(()) => {}
        Err(Undriven::Unfinished) => {
            debug!(%peer, "closed a connection {}", unfinished(&limits));
        }
        Err(Undriven::Failed(why)) if why.is_parse_too_large() => {
            debug!(%peer, "closed a connection whose header exceeds {} bytes (`Limits::header`)", limits.header);
        }
        Err(Undriven::Failed(why)) => debug!(%peer, "a connection ended: {why}"),
    }
}

/// Serves frames after an upgrade from HTTP.
async fn upgraded(
    upgrade: GrantedUpgrade,
    peer: Arc<Peer>,
    endpoint: Arc<ServerEndpoint>,
    mut stopped: watch::Receiver<()>,
    until: Option<Instant>,
) {
    let peer = upgrade.client.unwrap_or(peer);
    let upgraded = match upgrade.connection.await {
        Ok(upgraded) => upgraded,
        Err(why) => return debug!(%peer, "a connection ended before its first frame: {why}"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TimedSocket>>() else {
        return debug!(%peer, "a connection was not the one that had asked for frames, which is a defect of byname");
    };
    let (stream, early) = parts.io.into_inner().into_inner();
    let early = [early, parts.read_buf].concat();
    let extensions = Extensions::new();
    let caller = FrameCaller { peer: Some(peer), is_forwarded: upgrade.is_forwarded, extensions };
    let told_to_end = told_to_end(&mut stopped, until);
    frame_connection::serve(stream, early.into(), caller, endpoint, told_to_end, until).await;
}

/// Waits until a connection must end: with its server, or with the certificate of its client. The caller keeps the
/// receiver to the end of its connection, because the drain waits until all receivers are dropped.
pub(super) async fn told_to_end(stopped: &mut watch::Receiver<()>, until: Option<Instant>) -> EndReason {
    let Some(until) = until else {
        let _ = stopped.changed().await;
        return EndReason::ServerStops;
    };
    // Boxed, so that other connections don't have the room of its timer.
    match Box::pin(timeout_at(until, stopped.changed())).await {
        Ok(_) => EndReason::ServerStops,
        Err(_) => EndReason::CertificateExpired,
    }
}

/// Does the TLS handshake. Returns the time when the client's certificate expires. A failure is logged and returns `None`.
async fn secured(
    tls: &ServerTls,
    stream: TransportStream,
    mut peer: Peer,
    limits: &Limits,
    stopped: &mut watch::Receiver<()>,
) -> Option<(TransportStream, Arc<Peer>, Option<Instant>)> {
    let (stream, words) = match in_time(limits.handshake, tls.accept(stream, &peer), stopped, limits).await {
        Some(Handshake::Done(secured)) => {
            peer.identity = secured.identity;
            return Some((secured.stream, Arc::new(peer), secured.until));
        }
        Some(Handshake::Plain(stream)) => {
            debug!(%peer, "rejected a connection: the peer speaks plain HTTP, this port is TLS; call it with https://");
            (Some(stream), without_tls())
        }
        Some(Handshake::Failed(stream)) => (stream, Vec::new()),
        // A server that stops gives it less time.
        None if stopped.has_changed().unwrap_or(true) => {
            debug!(%peer, "closed a connection whose TLS handshake was not finished when the server stopped");
            return None;
        }
        None => {
            tls.log_stalled(&peer);
            return None;
        }
    };
    if let Some(stream) = stream {
        reject(stream, &words, peer.into(), limits).await;
    }
    None
}

/// Closes a connection with these last words. What the peer has sent, and still sends, is read and ignored: otherwise its
/// unread bytes would make the close a reset, which can destroy the words.
async fn reject(mut stream: TransportStream, words: &[u8], peer: Arc<Peer>, limits: &Limits) {
    stream.write_last_words(words);
    let activity = Arc::new(ConnectionActivity::new(false));
    TimedSocket::new(stream, Bytes::new(), peer, activity, limits, true).close().await;
}

/// The answer to a TLS handshake on a port without TLS. A client that expects TLS sees by it that this is none.
fn with_tls() -> Vec<u8> {
    let body = r#"{"err":{"code":"failed_precondition","message":"this port speaks plain HTTP, but the connection began with a TLS handshake; call it with http://","executed":"no","kind":"rpc"}}"#;
    last_answer("400 Bad Request", body)
}

/// The answer to a request that came without TLS.
fn without_tls() -> Vec<u8> {
    let body = r#"{"err":{"code":"failed_precondition","message":"this port requires TLS, but the request came without it; call it with https://","executed":"no","kind":"rpc"}}"#;
    last_answer("400 Bad Request", body)
}

/// The peer as its proxy introduces it, or why the connection is not served.
async fn introduced(
    stream: &mut TransportStream,
    proxy: &Peer,
    networks: &NetworkList,
    stopped: &mut watch::Receiver<()>,
    limits: &Limits,
) -> io::Result<Peer> {
    if !networks.contains(&proxy.connection) {
        return Err(io::Error::other("it is from none of the networks of `Listen::proxy_protocol`"));
    }
    match in_time(limits.header_read, read_client(stream), stopped, limits).await {
        Some(client) => Ok(match client? {
            Some(address) => Peer { address, ..proxy.clone() },
            None => proxy.clone(),
        }),
        None => Err(io::Error::other(
            "its header of the PROXY protocol, which `Listen::proxy_protocol` requires, took too long \
             (`Limits::header_read`)",
        )),
    }
}

/// The first bytes of a connection.
enum FirstBytes {
    Http {
        early: Bytes,
        is_http2: bool,
    },
    /// They are the beginning of a TLS handshake.
    Tls(Bytes),
}

/// The first bytes. `None` if no request comes in time.
async fn beginning(
    stream: &mut TransportStream,
    stopped: &mut watch::Receiver<()>,
    limits: &Limits,
) -> Option<io::Result<FirstBytes>> {
    in_time(limits.header_read, first_bytes(stream), stopped, limits).await
}

/// What a peer does first, if it does it in time. When the server stops, there is less time.
async fn in_time<F: Future>(
    limit: Duration,
    first: F,
    stopped: &mut watch::Receiver<()>,
    limits: &Limits,
) -> Option<F::Output> {
    let mut first = pin!(first);
    match timeout(limit, until_stopped(first.as_mut(), stopped)).await {
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
pub(super) async fn until_stopped<F: Future>(
    mut future: Pin<&mut F>,
    stopped: &mut watch::Receiver<()>,
) -> Option<F::Output> {
    let mut stop = pin!(stopped.changed());
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => stop.as_mut().poll(cx).map(|_| None),
    })
    .await
}

/// Why a connection of HTTP was not driven to its end.
enum Undriven {
    Failed(hyper::Error),
    /// Its calls did not end in time after it was told to end.
    Unfinished,
}

/// Drives a connection. When it is told to end, it accepts no further call.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    goes_on: impl Fn() -> bool,
    told_to_end: impl Future<Output = EndReason>,
    end: impl Fn(Pin<&mut C>, EndReason),
    limits: &Limits,
) -> Result<(), Undriven>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut stop = pin!(told_to_end);
    let (mut listening, mut told, mut last) = (false, false, None);
    poll_fn(|cx: &mut Context<'_>| {
        // Poll first: a call that arrived before the stop is answered.
        let mut polled = connection.as_mut().poll(cx);
        // Tell the connection only once, and only if it really ends.
        if polled.is_pending() && !told && (!listening || !goes_on()) {
            listening = true;
            let Poll::Ready(why) = stop.as_mut().poll(cx) else { return Poll::Pending };
            told = true;
            last = last_moment(why, limits);
            end(connection.as_mut(), why);
            polled = connection.as_mut().poll(cx);
        }
        match (polled, &mut last) {
            (Poll::Ready(ended), _) => Poll::Ready(ended.map_err(Undriven::Failed)),
            (Poll::Pending, Some(last)) => last.as_mut().poll(cx).map(|()| Err(Undriven::Unfinished)),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await
}

/// Reads until the version of HTTP is known. Returns the bytes that were read.
async fn first_bytes(stream: &mut TransportStream) -> io::Result<FirstBytes> {
    let mut early = BytesMut::with_capacity(8 * 1024);
    loop {
        if stream.read_buf(&mut early).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if early[0] == TLS_HANDSHAKE {
            return Ok(FirstBytes::Tls(early.freeze()));
        }
        let known = early.len().min(PREFACE.len());
        if early[..known] != PREFACE[..known] {
            return Ok(FirstBytes::Http { early: early.freeze(), is_http2: false });
        }
        if known == PREFACE.len() {
            return Ok(FirstBytes::Http { early: early.freeze(), is_http2: true });
        }
    }
}

#[cfg(feature = "tls")]
#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::time_provider::TimeProvider;
    use rustls::{ClientConfig, HandshakeKind, RootCertStore};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    use super::*;
    use crate::client::{Client, Transport};
    use crate::error::{Code, Executed};
    use crate::peer::Identity;
    use crate::transport::{ClientTls, Pem};

    /// A clock that a test sets, in seconds since 1970.
    #[derive(Debug)]
    struct SteppedClock(AtomicU64);

    impl TimeProvider for SteppedClock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
        }
    }

    const END_OF_2099: u64 = 4_102_444_800;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate and its key, in PEM.
    fn sign(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
    }

    /// What the connection has proven.
    async fn proven() -> Option<String> {
        match crate::Context::current()?.peer()?.identity.as_ref()? {
            Identity::Certificate(certificate) => certificate.spiffe_id().map(str::to_owned),
            _ => None,
        }
    }

    /// A client that keeps its sessions.
    struct Resuming {
        address: SocketAddr,
        config: Arc<ClientConfig>,
    }

    impl Resuming {
        /// What a connection brings: its handshake, and the answer to a call of `proven`.
        async fn connect(&self) -> io::Result<(HandshakeKind, String)> {
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
            let name = ServerName::IpAddress(self.address.ip().into());
            let mut stream = connector.connect(name, TcpStream::connect(self.address).await?).await?;
            let request =
                "POST /rpc/proven HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok((stream.get_ref().1.handshake_kind().unwrap(), answer))
        }
    }

    #[tokio::test]
    async fn a_session_is_not_resumed_once_its_certificate_has_expired() {
        let authority = authority();
        let billing = sign(&authority, |params| {
            params.not_after = date_time_ymd(2100, 1, 1);
            params.subject_alt_names.push(SanType::URI("spiffe://prod/billing".try_into().unwrap()));
        });
        let clock = Arc::new(SteppedClock(AtomicU64::new(END_OF_2099 - 86_400)));
        let (certificate, key) = sign(&authority, |_| ());
        let tls = ServerTls::pem(&certificate, &key).unwrap().require_clients(Pem::text(authority.pem())).unwrap();
        let server = crate::Server::new().function("proven", proven).tls(tls.with_clock(Arc::clone(&clock) as _));
        let bound = server.serve("127.0.0.1:0").until(std::future::pending()).bind().await.unwrap();
        let address = bound.local_addr().socket_addr().unwrap();
        let serving = tokio::spawn(bound.into_future());

        let client = |protocol: &str| {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let chain = vec![CertificateDer::from_pem_slice(billing.0.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(billing.1.as_bytes()).unwrap();
            let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key);
            let mut config = config.unwrap();
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            Resuming { address, config: Arc::new(config) }
        };
        let (http1, http2) = (client("http/1.1"), client("h2"));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (found, answer) = http1.connect().await.unwrap();
            assert!(found == kind && answer.ends_with("\"spiffe://prod/billing\""), "{found:?} {answer}");
        }
        // It does not speak HTTP/2, but it gets its ticket.
        assert_eq!(http2.connect().await.unwrap().0, HandshakeKind::Full);
        let bynames = [Transport::Http, Transport::Frames].map(|transport| {
            let tls = ClientTls::new().roots(Pem::text(authority.pem())).unwrap();
            let tls = tls.identity(Pem::text(&billing.0), Pem::text(&billing.1)).unwrap();
            Client::builder(format!("https://{address}")).transport(transport).tls(tls).build().unwrap()
        });
        for client in &bynames {
            let proven = client.call::<Option<String>>("proven", ()).await.unwrap();
            assert_eq!(proven.as_deref(), Some("spiffe://prod/billing"));
        }

        clock.0.store(END_OF_2099 + 1, Ordering::Relaxed);
        // Each makes a full handshake, as a client without a session does.
        for client in [http1, http2, client("http/1.1")] {
            let why = client.connect().await.unwrap_err().to_string();
            assert!(why.contains("CertificateExpired"), "{why}");
        }
        // Longer than byname's clients keep their connections.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(70)).await;
        tokio::time::resume();
        for client in &bynames {
            let error = client.call::<Option<String>>("proven", ()).await.unwrap_err();
            let error = error.rpc().unwrap();
            assert_eq!((error.code(), error.executed()), (Code::Unauthenticated, Executed::No), "{error}");
            assert!(error.message().contains("rejects this client's certificate: it has expired"), "{error}");
        }
        serving.abort();
    }
}
