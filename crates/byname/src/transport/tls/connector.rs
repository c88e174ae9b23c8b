//! Connections of a client over TLS: [`TlsConnector`].

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::LOOK;
use super::client_tls::{ClientFiles, ClientTls};
use super::rejection::{self, TlsSide, Trust};
use super::reload::{LoggedFailure, NotLoaded};
use super::stream::TlsStream;
use super::verifiers::noting_the_rejected;
use crate::deadline::later;
use crate::error::{Code, Error};
use crate::runtime;
use crate::transport::{HandshakeRefusal, TransportStream};

/// Makes connections over TLS to the servers of one name. Clones share their sessions.
#[derive(Clone)]
pub(crate) struct TlsConnector {
    tls: Arc<ClientTls>,
    name: ServerName<'static>,
    trust: Arc<Trust>,
    /// What connections use, once there has been one.
    current: Arc<Mutex<Option<CurrentConfig>>>,
    /// Held while the files are read.
    reading: Arc<AsyncMutex<()>>,
}

struct CurrentConfig {
    config: Arc<ClientConfig>,
    files: Arc<ClientFiles>,
    /// When the files are looked at again.
    look: Instant,
    failure: LoggedFailure<ClientFiles>,
}

impl std::fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsConnector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TlsConnector {
    /// For servers that the user calls `host`.
    pub(crate) fn new(tls: Option<ClientTls>, host: &str) -> Result<Self, Error> {
        let tls = tls.unwrap_or_default();
        let name = tls.name_of(host)?;
        let trust = Arc::new(tls.trust());
        Ok(Self { tls: Arc::new(tls), name, trust, current: Arc::default(), reading: Arc::default() })
    }

    /// The handshake on a new connection.
    pub(crate) async fn connect(&self, socket: TcpStream) -> io::Result<TransportStream> {
        let config = self
            .config()
            .await
            .map_err(|error| HandshakeRefusal { code: error.code(), why: error.message().to_owned() })?;
        let connector = tokio_rustls::TlsConnector::from(config);
        match noting_the_rejected(connector.connect(self.name.clone(), socket)).await {
            (Ok(stream), _) => Ok(TlsStream::new(stream).into()),
            (Err(why), rejected) => {
                Err(rejection::of_handshake(TlsSide::Client, &why, rejected.as_ref(), &self.trust).into())
            }
        }
    }

    /// The configuration for what the files hold. The first connections wait until the files are read. Files that are read
    /// again may hang, so only one connection waits for them.
    async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let known = self.current().as_ref().map(|known| (Arc::clone(&known.config), known.look));
        let reading = match known {
            Some((config, look)) if look > Instant::now() => return Ok(config),
            Some((config, _)) => match Arc::clone(&self.reading).try_lock_owned() {
                Ok(reading) => reading,
                Err(_) => return Ok(config),
            },
            None => Arc::clone(&self.reading).lock_owned().await,
        };
        let this = self.clone();
        // In a task: what the files hold is kept, even if this connection waits no longer.
        let looking = tokio::spawn(async move {
            let _reading = reading;
            this.look(Instant::now()).await
        });
        looking.await.map_err(|why| Error::refused(Code::Internal, why.to_string()))?
    }

    /// Reads the files, unless they were read a moment ago.
    async fn look(&self, now: Instant) -> Result<Arc<ClientConfig>, Error> {
        let known = match &mut *self.current() {
            // It was read while this connection waited.
            Some(known) if known.look > now => return Ok(Arc::clone(&known.config)),
            Some(known) => {
                known.look = later(now, LOOK);
                Some(Arc::clone(&known.files))
            }
            None => None,
        };
        let tls = Arc::clone(&self.tls);
        // Files and the platform's store may be slow.
        let loaded = runtime::run_blocking(move || load(&tls, known.as_deref()));
        let loaded = loaded.await.map_err(|why| Error::refused(Code::Internal, why.to_string()))?;
        match (loaded, &mut *self.current()) {
            (Ok(Some((config, files))), current) => {
                if current.is_some() {
                    info!("the TLS of a client was loaded again: its files have changed");
                }
                let (config, files, look) = (Arc::new(config), Arc::new(files), later(now, LOOK));
                let failure = LoggedFailure::default();
                *current = Some(CurrentConfig { config: Arc::clone(&config), files, look, failure });
                Ok(config)
            }
            (Ok(None), Some(known)) => {
                if known.failure.end() {
                    info!("the files of a client's TLS hold again what is in use");
                }
                Ok(Arc::clone(&known.config))
            }
            (Err(not_loaded), Some(known)) => {
                let why = not_loaded.why.clone();
                if known.failure.is_new(not_loaded) {
                    warn!("the TLS of a client was not loaded again, and stays as it was: {why}");
                }
                Ok(Arc::clone(&known.config))
            }
            (Ok(None), None) => Err(Error::refused(Code::Internal, "a client's TLS was not loaded")),
            (Err(not_loaded), None) => Err(not_loaded.why),
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<CurrentConfig>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration for what the files hold; `None` if that is what is known.
fn load(
    tls: &ClientTls,
    known: Option<&ClientFiles>,
) -> Result<Option<(ClientConfig, ClientFiles)>, NotLoaded<ClientFiles>> {
    let files = tls.read().map_err(|why| NotLoaded { why, files: None })?;
    if known == Some(&files) {
        return Ok(None);
    }
    let platform = if tls.takes_the_platforms_roots() { platforms_roots() } else { Ok(RootCertStore::empty()) };
    match platform.and_then(|platform| tls.config(&files, &platform)) {
        Ok(config) => Ok(Some((config, files))),
        Err(why) => Err(NotLoaded { why, files: Some(files) }),
    }
}

/// The roots that the platform trusts.
fn platforms_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let why = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join(", ")) };
        let why = format!(
            "this machine has no root certificates{why}; install them (`apt-get install ca-certificates`), or give \
             yours to `ClientTls::roots`"
        );
        return Err(Error::refused(Code::FailedPrecondition, why));
    }
    Ok(roots)
}
