//! Session tickets of a server, which end with the certificate of their client: [`SessionTickets`].
//!
//! rustls gives a ticketer the session as opaque bytes. What else belongs to the session is kept in a task-local of the
//! handshake: rustls verifies the client, and makes and opens tickets, while the task polls the handshake.

use std::cell::Cell;
use std::sync::Arc;

use rustls::Error;
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;

use super::certificate_names::not_after;

/// The end of a session without a certificate, in seconds since 1970: only the keys of its ticket end.
const NEVER: u64 = u64::MAX;

tokio::task_local! {
    /// When the session of this handshake ends, in seconds since 1970.
    static SESSION_END: Cell<u64>;
}

/// Runs the handshake of one connection. Only within it are tickets made.
pub(super) async fn in_one_handshake<F: Future>(handshake: F) -> F::Output {
    SESSION_END.scope(Cell::new(NEVER), handshake).await
}

/// The client of this handshake has proven these certificates. Its session ends when the first of them does.
pub(super) fn session_ends_with<'c>(certificates: impl Iterator<Item = &'c CertificateDer<'c>>) {
    let end = certificates.filter_map(not_after).map(|end| end.as_secs()).min().unwrap_or(NEVER);
    let _ = SESSION_END.try_with(|session| session.set(end));
}

/// Makes and opens tickets. A ticket begins with the end of its session.
#[derive(Debug)]
pub(super) struct SessionTickets {
    sealed: Arc<dyn ProducesTickets>,
    clock: Arc<dyn TimeProvider>,
}

impl SessionTickets {
    /// Tickets with new keys.
    pub(super) fn new(clock: Arc<dyn TimeProvider>) -> Result<Self, Error> {
        Ok(Self { sealed: rustls::crypto::ring::Ticketer::new()?, clock })
    }

    /// The seconds until a session ends. `None` if it has ended, or if nobody knows the time.
    fn left(&self, end: u64) -> Option<u64> {
        let now = self.clock.current_time()?.as_secs();
        end.checked_sub(now).filter(|&left| left > 0)
    }
}

impl ProducesTickets for SessionTickets {
    fn enabled(&self) -> bool {
        true
    }

    /// What a ticket says of itself to the client. Some clients do not offer a ticket after this time.
    fn lifetime(&self) -> u32 {
        let end = SESSION_END.try_with(Cell::get).unwrap_or(NEVER);
        let left = self.left(end).and_then(|left| u32::try_from(left).ok()).unwrap_or(u32::MAX);
        self.sealed.lifetime().min(left)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let end = SESSION_END.try_with(Cell::get).ok()?;
        self.left(end)?;
        self.sealed.encrypt(&[&end.to_be_bytes(), session].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let mut opened = self.sealed.decrypt(ticket)?;
        let end = u64::from_be_bytes(*opened.first_chunk()?);
        self.left(end)?;
        // The tickets of the resumed session end at the same time.
        let _ = SESSION_END.try_with(|session| session.set(end));
        Some(opened.split_off(size_of::<u64>()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
    use rustls::client::ResolvesClientCert;
    use rustls::crypto::ring::{default_provider, sign::any_supported_type};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
    use rustls::sign::CertifiedKey;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, HandshakeKind, RootCertStore, SignatureScheme, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::{Pem, ServerTls};
    use super::*;
    use crate::peer::Identity;
    use crate::transport::{Handshake, SecuredStream};

    /// When the year 2100 begins.
    const NEW_YEAR: u64 = 4_102_444_800;

    /// A clock that a test sets, in seconds since 1970.
    #[derive(Debug)]
    struct SteppedClock(AtomicU64);

    impl TimeProvider for SteppedClock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
        }
    }

    /// The certificate of a client, which it renews while it keeps its sessions.
    #[derive(Debug, Default)]
    struct RenewedCertificate(Mutex<Option<Arc<CertifiedKey>>>);

    impl RenewedCertificate {
        fn set(&self, certificate: Option<Arc<CertifiedKey>>) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
        }
    }

    impl ResolvesClientCert for RenewedCertificate {
        fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        CertifiedIssuer::self_signed(signing("the root"), KeyPair::generate().unwrap()).unwrap()
    }

    fn signing(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// A certificate of a client with a URI, and the certificate that signed it, if it is not the root.
    fn certified(
        authority: &Issuer<'_, KeyPair>,
        uri: &str,
        last_year: i32,
        intermediate: Option<CertificateDer<'static>>,
    ) -> Arc<CertifiedKey> {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.not_after = date_time_ymd(last_year + 1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let mut chain = vec![params.signed_by(&key, authority).unwrap().der().clone()];
        chain.extend(intermediate);
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Arc::new(CertifiedKey::new(chain, any_supported_type(&key).unwrap()))
    }

    /// A server that accepts clients of one authority, and a client that keeps its sessions.
    struct Connections {
        clock: Arc<SteppedClock>,
        certificate: Arc<RenewedCertificate>,
        server: ServerTls,
        client: Arc<ClientConfig>,
    }

    impl Connections {
        fn new(authority: &Authority, version: &'static SupportedProtocolVersion) -> Self {
            let clock = Arc::new(SteppedClock(AtomicU64::new(NEW_YEAR - 86_400)));
            let key = KeyPair::generate().unwrap();
            let signed = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, authority).unwrap();
            let server = ServerTls::pem(signed.pem(), key.serialize_pem()).unwrap();
            let server = server.accept_clients(Pem::text(authority.pem())).unwrap().with_clock(Arc::clone(&clock) as _);
            let certificate = Arc::new(RenewedCertificate::default());
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let client = ClientConfig::builder_with_provider(Arc::new(default_provider()));
            let client = client.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots);
            let client = Arc::new(client.with_client_cert_resolver(Arc::clone(&certificate) as _));
            Self { clock, certificate, server, client }
        }

        /// The kind of the next handshake and the SPIFFE ID that the server finds, or why the server rejects it.
        async fn next(&self) -> Result<(HandshakeKind, Option<String>), String> {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let accepted = async {
                let (socket, _) = listener.accept().await.unwrap();
                match self.server.handshake(socket.into()).await {
                    Ok(Handshake::Done(SecuredStream { mut stream, identity, .. })) => {
                        stream.write_all(b"!").await.unwrap();
                        stream.shutdown().await.unwrap();
                        Ok(identity)
                    }
                    Err(failed) => Err(failed.why),
                    Ok(_) => unreachable!("the client speaks TLS"),
                }
            };
            let connected = async {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.client));
                let socket = TcpStream::connect(address).await?;
                let mut stream = connector.connect(ServerName::IpAddress(address.ip().into()), socket).await?;
                // The tickets come before this byte.
                stream.read_u8().await?;
                Ok::<_, std::io::Error>(stream.get_ref().1.handshake_kind().unwrap())
            };
            let (identity, kind) = tokio::join!(accepted, connected);
            let id = identity?.map(|identity| match identity {
                Identity::Certificate(certificate) => certificate.spiffe_id().unwrap().to_owned(),
                Identity::Unix(_) => unreachable!("the client has a certificate"),
            });
            Ok((kind.unwrap(), id))
        }
    }

    #[tokio::test]
    async fn a_session_ends_with_its_certificate_and_a_renewed_one_is_verified() {
        let authority = authority();
        for version in [&TLS12, &TLS13] {
            let connections = Connections::new(&authority, version);
            let found = |kind, id: &str| Ok((kind, Some(id.to_owned())));
            let (old, new) = ("spiffe://prod/old", "spiffe://prod/new");
            connections.certificate.set(Some(certified(&authority, old, 2099, None)));
            assert_eq!(connections.next().await, found(HandshakeKind::Full, old), "{version:?}");
            assert_eq!(connections.next().await, found(HandshakeKind::Resumed, old), "{version:?}");
            // These tickets are of a session that was itself resumed.
            connections.clock.0.store(NEW_YEAR - 1, Ordering::Relaxed);
            assert_eq!(connections.next().await, found(HandshakeKind::Resumed, old), "{version:?}");
            connections.certificate.set(Some(certified(&authority, new, 2199, None)));
            assert_eq!(connections.next().await, found(HandshakeKind::Resumed, old), "{version:?}");
            connections.clock.0.store(NEW_YEAR, Ordering::Relaxed);
            assert_eq!(connections.next().await, found(HandshakeKind::Full, new), "{version:?}");
            assert_eq!(connections.next().await, found(HandshakeKind::Resumed, new), "{version:?}");
        }
    }

    #[tokio::test]
    async fn a_client_without_a_new_certificate_is_rejected_in_its_handshake() {
        let authority = authority();
        for version in [&TLS12, &TLS13] {
            let connections = Connections::new(&authority, version);
            connections.certificate.set(Some(certified(&authority, "spiffe://prod/old", 2099, None)));
            connections.next().await.unwrap();
            // webpki accepts a certificate in the second in which it ends.
            connections.clock.0.store(NEW_YEAR, Ordering::Relaxed);
            let why = connections.next().await.unwrap_err();
            assert_eq!(why, "the certificate of the client expired on 2100-01-01 during the handshake");
            connections.clock.0.store(NEW_YEAR + 1, Ordering::Relaxed);
            let why = connections.next().await.unwrap_err();
            let expired =
                "the client's certificate, for `spiffe://prod/old`, expired on 2100-01-01; today is 2100-01-01 ";
            assert!(why.starts_with(expired), "{why}");
        }
    }

    #[tokio::test]
    async fn a_session_ends_with_the_first_certificate_of_its_chain() {
        let root = authority();
        let mut params = signing("an intermediate");
        params.not_after = date_time_ymd(2100, 1, 1);
        let intermediate = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
        let connections = Connections::new(&root, &TLS13);
        let (old, new) = ("spiffe://prod/old", "spiffe://prod/new");
        let chain = Some(intermediate.der().clone());
        connections.certificate.set(Some(certified(&intermediate, old, 2199, chain)));
        assert_eq!(connections.next().await.unwrap().0, HandshakeKind::Full);
        assert_eq!(connections.next().await.unwrap().0, HandshakeKind::Resumed);
        connections.clock.0.store(NEW_YEAR, Ordering::Relaxed);
        connections.certificate.set(Some(certified(&root, new, 2199, None)));
        assert_eq!(connections.next().await, Ok((HandshakeKind::Full, Some(new.to_owned()))));
    }

    #[tokio::test]
    async fn a_session_without_a_certificate_does_not_end_with_one() {
        let connections = Connections::new(&authority(), &TLS13);
        assert_eq!(connections.next().await, Ok((HandshakeKind::Full, None)));
        connections.clock.0.store(NEW_YEAR, Ordering::Relaxed);
        assert_eq!(connections.next().await, Ok((HandshakeKind::Resumed, None)));
    }

    #[tokio::test]
    async fn a_ticket_lives_no_longer_than_its_certificate() {
        let authority = authority();
        let clock = Arc::new(SteppedClock(AtomicU64::new(NEW_YEAR - 60)));
        let tickets = SessionTickets::new(Arc::clone(&clock) as _).unwrap();
        let certificate = certified(&authority, "spiffe://prod/old", 2099, None);
        let ticket = in_one_handshake(async {
            assert_eq!(tickets.lifetime(), 12 * 60 * 60);
            session_ends_with(certificate.cert.iter());
            assert_eq!(tickets.lifetime(), 60);
            tickets.encrypt(b"the session").unwrap()
        });
        let ticket = ticket.await;
        in_one_handshake(async {
            assert_eq!(tickets.decrypt(&ticket).unwrap(), b"the session");
            assert_eq!(tickets.lifetime(), 60, "that of the resumed session");
            clock.0.store(NEW_YEAR, Ordering::Relaxed);
            assert_eq!(tickets.decrypt(&ticket), None);
            assert_eq!(tickets.encrypt(b"the session"), None, "it has ended");
        })
        .await;
        assert_eq!(tickets.encrypt(b"the session"), None, "it belongs to no handshake");
    }
}
