//! The replicas of a service that announce themselves in etcd: [`EtcdReplicas`].

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::{Handle, Id};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::announced_replicas::AnnouncedReplicas;
use super::endpoint_url::EndpointUrls;
use super::replica_address::ListedReplica;
use crate::deadline::{before, later, until};
use crate::error::Error;
use crate::etcd::{EtcdCluster, EtcdConnection, EtcdWatch, WatchNews};
use crate::etcd_url::EtcdUrl;
use crate::replica_line::replica_line;
use crate::runtime;
use crate::untrusted_text::quoted;

/// A watch that says nothing for this long is checked: the keys are read, and must be those that are known.
const CHECK: Duration = Duration::from_secs(10);

/// A watch that no lookup has waited for during this time is closed.
const UNUSED: Duration = Duration::from_secs(20);

/// A lookup reads the keys if there is no answer yet. A later one waits for a change, or until the watch is checked.
pub(super) struct EtcdReplicas {
    cluster: EtcdCluster,
    urls: EndpointUrls,
    /// Locked by a lookup until its end.
    watching: Mutex<Arc<AsyncMutex<Watching>>>,
}

/// What was found.
pub(super) struct EtcdAnswer {
    pub(super) replicas: Vec<ListedReplica>,
    /// A value that is no address.
    pub(super) wrong: Option<String>,
    version: u64,
    /// Where it was found.
    watching: Arc<AsyncMutex<Watching>>,
}

struct Watching {
    known: AnnouncedReplicas,
    /// The runtime of the connections.
    home: Option<Id>,
    watch: Option<EtcdWatch>,
    /// The connection for checks, to the member of the watch.
    beside: Option<EtcdConnection>,
    /// When the member has shown last that it is there.
    heard: Instant,
    /// When the last lookup ended.
    looked: Instant,
    /// The version that discovery has.
    delivered: Option<u64>,
}

/// Why a watch does not go on.
enum WatchEnd {
    Compacted,
    Lost(io::Error),
}

impl EtcdReplicas {
    pub(super) fn new(url: EtcdUrl, urls: EndpointUrls) -> Result<Box<Self>, Error> {
        let watching = Mutex::new(Watching::new(&url));
        Ok(Box::new(Self { cluster: EtcdCluster::new(url), urls, watching }))
    }

    /// The last lookup does not go on, and has locked what it knew.
    pub(super) fn begin_anew(&self) {
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = Watching::new(self.cluster.url());
    }

    pub(super) async fn look_up(&self) -> io::Result<EtcdAnswer> {
        let shared = Arc::clone(&self.watching.lock().unwrap_or_else(PoisonError::into_inner));
        let mut watching = shared.lock().await;
        let found = self.find(&mut watching).await;
        watching.looked = Instant::now();
        close_when_unused(Arc::downgrade(&shared), watching.looked);
        found?;
        let (replicas, wrong) = self.listed(&watching.known);
        let version = watching.known.version();
        if replicas.is_empty() {
            // The last good answer stays in use until there is something else.
            watching.delivered = watching.delivered.map(|_| version);
            let none = || "etcd has no replica there; servers announce themselves by `Serve::announce`".to_owned();
            return Err(io::Error::other(wrong.unwrap_or_else(none)));
        }
        drop(watching);
        Ok(EtcdAnswer { replicas, wrong, version, watching: shared })
    }

    /// Discovery has this answer.
    pub(super) async fn delivered(&self, answer: &EtcdAnswer) {
        answer.watching.lock().await.delivered = Some(answer.version);
    }

    /// Returns when there is something to say: something else than discovery has, or that it is still so.
    async fn find(&self, watching: &mut Watching) -> io::Result<()> {
        // Before the first answer a call waits for this lookup.
        let has_time = watching.delivered.is_some();
        if !has_time || later(watching.looked, UNUSED) < Instant::now() {
            watching.forget();
        }
        let here = Handle::current().id();
        if watching.home.replace(here) != Some(here) {
            // Only their own runtime reads from the connections, and it may do nothing any more.
            (watching.watch, watching.beside) = (None, None);
        }
        loop {
            let Some(revision) = watching.known.next_revision() else {
                return self.read(watching, has_time).await;
            };
            if watching.delivered != Some(watching.known.version()) {
                return Ok(());
            }
            match self.wait(watching, revision).await {
                Ok(()) => return Ok(()),
                Err(WatchEnd::Compacted) => {
                    tracing::debug!("{} was compacted, and its keys are read again", self.cluster.url());
                }
                Err(WatchEnd::Lost(why)) => {
                    self.cluster.failed();
                    tracing::debug!("the watch of {} is lost, and its keys are read again: {why}", self.cluster.url());
                }
            }
            watching.forget();
        }
    }

    /// Reads all keys, from the first member that answers.
    async fn read(&self, watching: &mut Watching, has_time: bool) -> io::Result<()> {
        let mut failures = Vec::new();
        for _ in 0..self.cluster.members() {
            if has_time {
                until(later(Instant::now(), self.cluster.pause())).await;
            }
            let prefix = &self.cluster.url().prefix;
            let read = async {
                let mut connection = self.cluster.connect().await?;
                let keys = connection.keys(prefix).await?;
                Ok::<_, io::Error>((connection, keys))
            };
            match read.await {
                Ok((connection, keys)) => {
                    watching.known.read(keys);
                    (watching.beside, watching.heard) = (Some(connection), Instant::now());
                    return Ok(());
                }
                Err(why) => {
                    self.cluster.failed();
                    failures.push(why.to_string());
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, failures.join("; ")))
    }

    /// Waits for a change, or until the watch is checked.
    async fn wait(&self, watching: &mut Watching, revision: i64) -> Result<(), WatchEnd> {
        let prefix = &self.cluster.url().prefix;
        let delivered = watching.known.version();
        let mut watch = match watching.watch.take() {
            Some(watch) => watch,
            None => {
                let connection = match watching.beside.take() {
                    Some(connection) => connection,
                    None => self.cluster.connect().await.map_err(WatchEnd::Lost)?,
                };
                connection.watch(prefix, revision).await.map_err(WatchEnd::Lost)?
            }
        };
        loop {
            // What has come already is taken together.
            let is_changed = watching.known.version() != delivered;
            let limit = if is_changed { Instant::now() } else { later(watching.heard, CHECK) };
            match before(limit, watch.next()).await {
                Some(Ok(WatchNews::Changed { changes, revision })) => {
                    self.cluster.answered();
                    watching.known.changed(changes, revision);
                    watching.heard = Instant::now();
                }
                Some(Ok(WatchNews::Compacted)) => return Err(WatchEnd::Compacted),
                Some(Err(why)) => return Err(WatchEnd::Lost(why)),
                None if is_changed => break,
                None => {
                    let mut beside = match watching.beside.take() {
                        Some(beside) => beside,
                        None => EtcdConnection::beside(&watch).await.map_err(WatchEnd::Lost)?,
                    };
                    let keys = beside.keys(prefix).await.map_err(WatchEnd::Lost)?;
                    // The member may answer here while the connection of the watch is dead.
                    if !watching.known.is_same(&keys) {
                        return Err(WatchEnd::Lost(io::Error::other("it has not told of a change")));
                    }
                    (watching.beside, watching.heard) = (Some(beside), Instant::now());
                    break;
                }
            }
        }
        watching.watch = Some(watch);
        Ok(())
    }

    /// What the values say. Of those that are wrong the first is told.
    fn listed(&self, known: &AnnouncedReplicas) -> (Vec<ListedReplica>, Option<String>) {
        let (mut replicas, mut wrong) = (Vec::new(), None);
        for (key, value) in known.entries() {
            match self.replica(value) {
                Ok(replica) => replicas.push(replica),
                Err(why) => {
                    wrong.get_or_insert_with(|| {
                        format!(
                            "the value of {} in etcd is not that of a replica: {}: {why}; expected \
                             {{\"address\": \"10.0.0.1:8080\"}}",
                            quoted(&key),
                            quoted(value)
                        )
                    });
                }
            }
        }
        (replicas, wrong)
    }

    fn replica(&self, value: &str) -> Result<ListedReplica, String> {
        let value: Value = serde_json::from_str(value).map_err(|why| format!("it is not JSON: {why}"))?;
        let address = value.get("address").and_then(Value::as_str).ok_or("it has no text `address`")?;
        let (place, options) = replica_line(address)?;
        // Who can write into etcd does not decide which certificate is accepted where the URL does.
        if options.tls.is_some() && self.urls.tls_name().is_some_and(|name| Some(name) != options.tls.as_deref()) {
            return Err("its option `tls` is not that of the client's URL".into());
        }
        let url = self.urls.of(&place, options).map_err(|why| why.message().to_owned())?;
        Ok(ListedReplica { place, url: Arc::new(url) })
    }
}

impl Watching {
    fn new(url: &EtcdUrl) -> Arc<AsyncMutex<Self>> {
        let (known, now) = (AnnouncedReplicas::new(&url.prefix), Instant::now());
        let (home, watch, beside, delivered) = (None, None, None, None);
        Arc::new(AsyncMutex::new(Self { known, home, watch, beside, heard: now, looked: now, delivered }))
    }

    /// The keys must be read again. Their values stay in use.
    fn forget(&mut self) {
        self.known.lost();
        (self.watch, self.beside) = (None, None);
    }
}

/// Closes the connections of a client that makes no calls any more.
fn close_when_unused(watching: Weak<AsyncMutex<Watching>>, looked: Instant) {
    runtime::spawn(&Handle::current(), async move {
        until(later(looked, UNUSED)).await;
        // It is locked while a lookup uses it.
        if let Some(watching) = watching.upgrade()
            && let Ok(mut watching) = watching.try_lock()
            && watching.looked == looked
        {
            watching.forget();
        }
    });
}
