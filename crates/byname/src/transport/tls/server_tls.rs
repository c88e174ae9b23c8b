//! The TLS settings of a server: [`ServerTls`].

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::certificate_names::{CertificateNames, date, not_after};
use super::client_tls::{root_store, unusable};
use super::key_pair::KeyPair;
use super::pem::{Pem, PemContent};
use super::rejection::{self, TlsSide, Trust};
use super::rejection_log::{RejectionKind, RejectionLog};
use super::reload::{LoggedFailure, NotLoaded};
use super::session_tickets::{SessionTickets, in_one_handshake};
use super::stream::TlsStream;
use super::verifiers::{ClientVerifier, noting_the_rejected};
use super::{LOOK, default_provider};
use crate::deadline::later;
use crate::error::Error;
use crate::peer::{ClientCertificate, Identity};
use crate::runtime;
use crate::transport::{Handshake, SecuredStream, TransportStream};

/// The first byte of TLS.
const HANDSHAKE_RECORD: u8 = 0x16;

/// The TLS settings of a server, for [`Server::tls`](crate::Server::tls): its certificate, and the client certificates that
/// it accepts.
///
/// ```no_run
/// use byname::{Server, ServerTls, rpc};
///
/// #[rpc(readonly)]
/// async fn add(a: i64, b: i64) -> i64 { a + b }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), byname::Error> {
/// let tls = ServerTls::files("cert.pem", "key.pem")?.require_clients("ca.pem")?;
/// Server::new().method::<add>().tls(tls).serve("0.0.0.0:8443").await
/// # }
/// ```
///
/// It supports TLS 1.2 and 1.3, and by ALPN HTTP/2, HTTP/1.1 and HTTP/1.0. Early data (0-RTT) is never accepted, because an
/// attacker can replay it.
///
/// A running server reads the files every five seconds. Changed files are used for new connections. Files that can't be
/// used, such as a certificate whose key is not written yet, cause one warning, and the server keeps the previous content.
/// [`reload`](Self::reload) reads the files at once. All clones share the loaded content.
///
/// The log says why a handshake was rejected, as a WARN: for each reason at most one in a second, which says how many more
/// there were. The others are at level DEBUG, and so is a client that closes its connection during the handshake.
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<SharedServerTls>,
}

struct SharedServerTls {
    settings: ServerTlsSettings,
    loaded: RwLock<Arc<LoadedServerTls>>,
    rejections: RejectionLog,
}

#[derive(Clone)]
struct ServerTlsSettings {
    certificate: ServerCertificate,
    clients: Option<AcceptedClients>,
    revocations: Option<Pem>,
    provider: Arc<CryptoProvider>,
    /// What certificates and sessions are checked by.
    clock: Arc<dyn TimeProvider>,
}

#[derive(Clone)]
enum ServerCertificate {
    Pair { certificate: Pem, key: Pem },
    Resolver(Arc<dyn ResolvesServerCert>),
}

/// The clients whose certificates are accepted.
#[derive(Clone)]
struct AcceptedClients {
    roots: Pem,
    are_required: bool,
}

/// The content of the files of a [`ServerTls`].
#[derive(Clone, PartialEq, Eq)]
struct ServerFiles {
    pair: Option<(PemContent, PemContent)>,
    clients: Option<PemContent>,
    revocations: Option<PemContent>,
}

/// The settings for new connections.
struct LoadedServerTls {
    files: ServerFiles,
    config: Arc<ServerConfig>,
    tickets: Arc<SessionTickets>,
}

/// A handshake that failed, and what is left of its connection. It has no kind if the client has ended the connection.
pub(super) struct FailedHandshake {
    kind: Option<RejectionKind>,
    pub(super) why: String,
    stream: Option<TransportStream>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ServerTls");
        match &self.shared.settings.certificate {
            ServerCertificate::Pair { certificate, .. } => shown.field("certificate", certificate),
            ServerCertificate::Resolver(resolver) => shown.field("resolver", resolver),
        };
        shown.finish_non_exhaustive()
    }
}

impl ServerTls {
    /// The server's certificate and its private key, from files. Intermediate certificates follow the server's certificate
    /// in the same file.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if a file can't be read, isn't PEM, or the key isn't the certificate's.
    pub fn files(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        Self::pair(Pem::file(certificate), Pem::file(key))
    }

    /// As [`files`](Self::files), from memory.
    ///
    /// # Errors
    ///
    /// As [`files`](Self::files).
    pub fn pem(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::pair(Pem::text(certificate), Pem::text(key))
    }

    /// A certificate for each connection, chosen by your code, for example by the requested server name.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if the cryptography can't be used.
    pub fn resolver(resolver: Arc<dyn ResolvesServerCert>) -> Result<Self, Error> {
        Self::of(ServerCertificate::Resolver(resolver))
    }

    /// Requires a certificate from every client, signed by one of these roots. Functions read its names from
    /// [`Peer::identity`](crate::Peer::identity).
    ///
    /// The connection ends when the certificate expires. Calls in flight are answered before. The TLS sessions of the client
    /// end with it: the next connection makes a full handshake, with the certificate that the client has then.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if the file can't be read or holds no certificate.
    pub fn require_clients(self, roots: impl Into<Pem>) -> Result<Self, Error> {
        let clients = Some(AcceptedClients { roots: roots.into(), are_required: true });
        self.with(|settings| settings.clients = clients)
    }

    /// As [`require_clients`](Self::require_clients), but the certificate is optional. Clients without one are served, and
    /// have no identity.
    ///
    /// # Errors
    ///
    /// As [`require_clients`](Self::require_clients).
    pub fn accept_clients(self, roots: impl Into<Pem>) -> Result<Self, Error> {
        let clients = Some(AcceptedClients { roots: roots.into(), are_required: false });
        self.with(|settings| settings.clients = clients)
    }

    /// Revocation lists for client certificates. A client whose certificate is on a list is rejected. A certificate whose
    /// issuer has no list here is accepted. A list that is out of date is used.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if the file can't be read or holds no revocation list.
    pub fn revocations(self, lists: impl Into<Pem>) -> Result<Self, Error> {
        let lists = lists.into();
        self.with(|settings| settings.revocations = Some(lists))
    }

    /// Another cryptography provider instead of `ring`.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if it can't be used with the certificate.
    pub fn provider(self, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        self.with(|settings| settings.provider = provider)
    }

    /// Reads the files now. Returns whether their content has changed. New connections use the new content, and open
    /// connections continue. If the client roots or the revocation lists have changed, earlier sessions can't be resumed.
    ///
    /// # Errors
    ///
    /// As at the start. The previous content stays in use.
    pub fn reload(&self) -> Result<bool, Error> {
        self.look().map_err(|not_loaded| not_loaded.why)
    }

    fn pair(certificate: Pem, key: Pem) -> Result<Self, Error> {
        Self::of(ServerCertificate::Pair { certificate, key })
    }

    fn of(certificate: ServerCertificate) -> Result<Self, Error> {
        let new = Self::new(ServerTlsSettings {
            certificate,
            clients: None,
            revocations: None,
            provider: default_provider(),
            clock: Arc::new(DefaultTimeProvider),
        })?;
        new.warn_of_certificate();
        Ok(new)
    }

    fn new(settings: ServerTlsSettings) -> Result<Self, Error> {
        let loaded = settings.load(settings.read()?, None)?;
        let loaded = RwLock::new(Arc::new(loaded));
        let shared = SharedServerTls { settings, loaded, rejections: RejectionLog::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn with(&self, change: impl FnOnce(&mut ServerTlsSettings)) -> Result<Self, Error> {
        let mut settings = self.shared.settings.clone();
        change(&mut settings);
        Self::new(settings)
    }

    fn loaded(&self) -> Arc<LoadedServerTls> {
        Arc::clone(&self.shared.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Certificates and sessions are checked at the time of this clock.
    #[cfg(test)]
    pub(crate) fn with_clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        self.with(|settings| settings.clock = clock).unwrap()
    }

    /// As [`reload`](Self::reload), with the content that can't be used.
    fn look(&self) -> Result<bool, NotLoaded<ServerFiles>> {
        let loaded = self.loaded();
        let files = self.shared.settings.read().map_err(|why| NotLoaded { why, files: None })?;
        if files == loaded.files {
            return Ok(false);
        }
        let new = self.shared.settings.load(files.clone(), Some(&loaded));
        let new = new.map_err(|why| NotLoaded { why, files: Some(files) })?;
        *self.shared.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        self.warn_of_certificate();
        Ok(true)
    }

    /// The certificate for new connections, and where it is from. `None` if the user's code chooses it.
    fn certificate(&self) -> Option<(&Pem, CertificateDer<'static>)> {
        let ServerCertificate::Pair { certificate, .. } = &self.shared.settings.certificate else { return None };
        let chain = certificate.certificates(&self.loaded().files.pair.as_ref()?.0).ok()?;
        Some((certificate, chain.into_iter().next()?))
    }

    /// What messages say of the certificate for new connections.
    fn in_use(&self) -> String {
        let Some((_, certificate)) = self.certificate() else {
            return "certificates are chosen for each connection".to_owned();
        };
        let names = names(&certificate);
        match not_after(&certificate) {
            Some(until) => format!("the certificate for {names} is valid until {}", date(until)),
            None => format!("the certificate is for {names}"),
        }
    }

    /// A certificate that clients will reject is loaded with a warning: the clock may be wrong, and clients of others may
    /// look at no names.
    fn warn_of_certificate(&self) {
        let Some((pem, certificate)) = self.certificate() else { return };
        if let Some(until) = not_after(&certificate)
            && until.as_secs() < UnixTime::now().as_secs()
        {
            warn!("the certificate in {}, for {}, expired on {}", pem.name(), names(&certificate), date(until));
        }
        if CertificateNames::of(&certificate).list().is_none() {
            let pem = pem.name();
            warn!(
                "the certificate in {pem} has no name, and clients will reject it; make one with the server's names in its \
                 subjectAltName"
            );
        }
    }

    /// Reloads changed files while this is awaited, and logs the results.
    pub(crate) async fn watch(&self) {
        let mut failure = LoggedFailure::default();
        loop {
            tokio::time::sleep(LOOK).await;
            let tls = self.clone();
            // Files may be slow.
            let Ok(looked) = runtime::run_blocking(move || tls.look()).await else { continue };
            match looked {
                Ok(is_changed) => {
                    let has_failed = failure.end();
                    if is_changed {
                        info!("the certificates of the server were loaded again: {}", self.in_use());
                    } else if has_failed {
                        info!("the files of the server's certificates hold again what is in use: {}", self.in_use());
                    }
                }
                Err(not_loaded) => {
                    let why = not_loaded.why.clone();
                    if failure.is_new(not_loaded) {
                        warn!("the certificates of the server were not loaded again, and the old ones stay: {why}");
                    }
                }
            }
        }
    }

    /// The handshake on a new connection. A failure is logged.
    pub(crate) async fn accept(&self, stream: TransportStream, peer: &(dyn Display + Sync)) -> Handshake {
        let FailedHandshake { kind, why, stream } = match self.handshake(stream).await {
            Ok(handshake) => return handshake,
            Err(failed) => failed,
        };
        match kind {
            Some(kind) => self.shared.rejections.log(kind, peer, &why),
            // Checks that only open a connection do so, and clients that need it no more.
            None => debug!(%peer, "a connection ended before its first request: {why}"),
        }
        Handshake::Failed(stream)
    }

    pub(super) async fn handshake(&self, stream: TransportStream) -> Result<Handshake, FailedHandshake> {
        let TransportStream::Tcp(socket) = stream else {
            let why = "it has TLS already, which is a defect of byname".to_owned();
            return Err(FailedHandshake { kind: Some(RejectionKind::Defect), why, stream: Some(stream) });
        };
        let mut first = [0];
        let ended = match socket.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE_RECORD => None,
            Ok(1) => return Ok(Handshake::Plain(socket.into())),
            Ok(_) => Some("the client closed the connection before the TLS handshake".to_owned()),
            Err(why) => Some(why.to_string()),
        };
        if let Some(why) = ended {
            return Err(FailedHandshake { kind: None, why, stream: None });
        }
        let loaded = self.loaded();
        let accept = TlsAcceptor::from(Arc::clone(&loaded.config)).accept(socket).into_fallible();
        let stream = match in_one_handshake(noting_the_rejected(accept)).await {
            (Ok(stream), _) => stream,
            (Err((why, socket)), rejected) => {
                let trust = self.shared.settings.trust();
                let refusal = rejection::of_handshake(TlsSide::Server, &why, rejected.as_ref(), &trust);
                let (kind, why) = (RejectionKind::of(&why), refusal.why);
                return Err(FailedHandshake { kind, why, stream: Some(socket.into()) });
            }
        };
        let session = stream.get_ref().1;
        debug!("a TLS handshake is done: {:?}, {:?}", session.protocol_version(), session.handshake_kind());
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let until = match certificate.and_then(not_after) {
            None => None,
            Some(until) => {
                // The certificate may have expired during the handshake.
                let now = loaded.config.time_provider.current_time().unwrap_or(until);
                let left = until.as_secs().saturating_sub(now.as_secs());
                if left == 0 {
                    let why = format!("the certificate of the client expired on {} during the handshake", date(until));
                    let (kind, stream) = (Some(RejectionKind::ExpiredMeanwhile), Some(TlsStream::new(stream).into()));
                    return Err(FailedHandshake { kind, why, stream });
                }
                Some(later(Instant::now(), Duration::from_secs(left)))
            }
        };
        let identity = certificate.and_then(|der| ClientCertificate::from_der(&**der).ok()).map(Identity::Certificate);
        Ok(Handshake::Done(SecuredStream { stream: TlsStream::new(stream).into(), identity, until }))
    }

    /// Whether clients may show certificates.
    pub(crate) fn accepts_clients(&self) -> bool {
        self.shared.settings.clients.is_some()
    }

    /// Logs a handshake that has taken too long.
    pub(crate) fn log_stalled(&self, peer: &dyn Display) {
        let why = "the client did not finish the TLS handshake in time (`Limits::handshake`)";
        self.shared.rejections.log(RejectionKind::Stalled, peer, why);
    }
}

impl ServerTlsSettings {
    /// The present content of the files.
    fn read(&self) -> Result<ServerFiles, Error> {
        let pair = match &self.certificate {
            ServerCertificate::Pair { certificate, key } => Some((certificate.read()?, key.read()?)),
            ServerCertificate::Resolver(_) => None,
        };
        Ok(ServerFiles {
            pair,
            clients: self.clients.as_ref().map(|clients| clients.roots.read()).transpose()?,
            revocations: self.revocations.as_ref().map(Pem::read).transpose()?,
        })
    }

    /// The settings for new connections with this content.
    fn load(&self, files: ServerFiles, before: Option<&LoadedServerTls>) -> Result<LoadedServerTls, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|why| unusable(&why))?;
        let builder = match (&self.clients, &files.clients) {
            (Some(clients), Some(content)) => {
                let named_roots = clients.roots.certificates(content)?;
                let roots = Arc::new(root_store(&clients.roots, &named_roots)?);
                let mut webpki = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&self.provider));
                if !clients.are_required {
                    webpki = webpki.allow_unauthenticated();
                }
                if let (Some(pem), Some(content)) = (&self.revocations, &files.revocations) {
                    webpki = webpki.with_crls(pem.revocations(content)?).allow_unknown_revocation_status();
                }
                let webpki = webpki.build().map_err(|why| unusable(&why))?;
                builder.with_client_cert_verifier(Arc::new(ClientVerifier { webpki, named_roots }))
            }
            _ => {
                // Nothing uses the lists without client certificates, but they are checked.
                if let (Some(pem), Some(content)) = (&self.revocations, &files.revocations) {
                    pem.revocations(content)?;
                }
                builder.with_no_client_auth()
            }
        };
        let mut config = match &self.certificate {
            ServerCertificate::Resolver(resolver) => builder.with_cert_resolver(Arc::clone(resolver)),
            ServerCertificate::Pair { certificate, key } => {
                let (certificates, private) = files.pair.clone().unwrap_or_default();
                let pair = KeyPair { side: TlsSide::Server, certificate, key };
                let certified = pair.load(&certificates, &private, builder.crypto_provider())?;
                builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        config.alpn_protocols = ["h2", "http/1.1", "http/1.0"].map(|protocol| protocol.as_bytes().to_vec()).into();
        // Who was accepted before may not be any more.
        let kept = before.filter(|before| {
            (&before.files.clients, &before.files.revocations) == (&files.clients, &files.revocations)
        });
        let tickets = match kept {
            Some(before) => Arc::clone(&before.tickets),
            None => Arc::new(SessionTickets::new(Arc::clone(&self.clock)).map_err(|why| unusable(&why))?),
        };
        config.time_provider = Arc::clone(&self.clock);
        config.ticketer = Arc::clone(&tickets) as _;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(LoadedServerTls { files, config: Arc::new(config), tickets })
    }

    /// The names of what is gone by, for messages.
    fn trust(&self) -> Trust {
        let roots = self.clients.as_ref().map(|clients| clients.roots.roots_in());
        Trust { roots: roots.unwrap_or_default(), revocations: self.revocations.as_ref().map(Pem::name) }
    }
}

fn names(certificate: &CertificateDer<'_>) -> String {
    CertificateNames::of(certificate).list().unwrap_or_else(|| "no name".to_owned())
}
