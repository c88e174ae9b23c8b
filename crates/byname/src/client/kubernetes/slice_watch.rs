//! The replicas of a service of Kubernetes, kept by a watch: [`KubernetesReplicas`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::api_server::{ApiFailure, ApiServer};
use super::endpoint_slice::SliceEvent;
use super::pod_account::PodAccount;
use super::service_endpoints::{NextQuestion, ServiceEndpoints};
use super::watch_back_off::WatchBackOff;
use crate::client::endpoint_url::EndpointUrls;
use crate::client::kubernetes_service::KubernetesService;
use crate::client::replica_address::ReplicaAddress;
use crate::client::service_url::{AddressOptions, HostAndPort, ReplicaPlace};
use crate::deadline::{before, later, until};
use crate::error::Error;
use crate::json_over_http::{JsonConnection, JsonValues};
use crate::runtime;

/// A watch that is silent for this long is replaced by another. The API server sends a bookmark each minute.
const SILENCE: Duration = Duration::from_secs(70);

/// A watch that no lookup has waited for during this time is closed.
const UNUSED: Duration = Duration::from_secs(20);

/// How often a list is begun again because one of its parts has expired.
const MOST_LISTS: u32 = 3;

/// A watch that ends earlier without a word counts as a failure.
const SOON: Duration = Duration::from_secs(10);

/// The first lookup lists the EndpointSlices. A later one waits until the replicas change, or until the API server says that
/// they have not.
pub(in crate::client) struct KubernetesReplicas {
    api: ApiServer,
    /// What servers see as the host, and the name in their certificates.
    domain: String,
    urls: EndpointUrls,
    watching: Arc<AsyncMutex<SliceWatch>>,
    /// From 0 to 1.
    chance: fn() -> f64,
}

struct SliceWatch {
    known: ServiceEndpoints,
    watch: Option<RunningWatch>,
    /// The connection of the list, for the watch.
    kept: Option<JsonConnection>,
    back_off: WatchBackOff,
    /// When the last lookup ended.
    looked: Instant,
    /// The version that discovery has. `None` before the first answer with replicas.
    delivered: Option<u64>,
}

struct RunningWatch {
    values: JsonValues,
    /// When it began, or told something.
    heard: Instant,
}

/// What waiting for the API server has brought.
enum WatchNews {
    /// Something was told, which the known endpoints include.
    Told,
    /// It ended, or the list must be repeated.
    Over,
}

impl KubernetesReplicas {
    pub(in crate::client) fn new(service: &KubernetesService, urls: EndpointUrls) -> Result<Self, Error> {
        Self::with(service, urls, PodAccount::of_this_pod(&service.to_string())?, fastrand::f64)
    }

    fn with(
        service: &KubernetesService,
        urls: EndpointUrls,
        account: PodAccount,
        chance: fn() -> f64,
    ) -> Result<Self, Error> {
        let watching = SliceWatch {
            known: ServiceEndpoints::new(service.clone()),
            watch: None,
            kept: None,
            back_off: WatchBackOff::default(),
            looked: Instant::now(),
            delivered: None,
        };
        let this = Self {
            api: ApiServer::new(service, account)?,
            domain: format!("{}.{}.svc", service.service, service.namespace),
            urls,
            watching: Arc::new(AsyncMutex::new(watching)),
            chance,
        };
        // A certificate can't be checked without a name that TLS knows.
        this.replica(SocketAddr::from(([127, 0, 0, 1], 1))).map_err(|why| Error::refused(why.code(), why.message()))?;
        Ok(this)
    }

    /// The replicas, when there is something to say: others than discovery has, or that they are still these.
    pub(in crate::client) async fn look_up(&self) -> io::Result<Vec<ReplicaAddress>> {
        let mut watching = self.watching.lock().await;
        let found = self.find(&mut watching).await;
        watching.looked = Instant::now();
        close_when_unused(Arc::downgrade(&self.watching), watching.looked);
        found?;
        let version = watching.known.version();
        match watching.known.replicas() {
            Ok(addresses) => {
                watching.delivered = Some(version);
                addresses.into_iter().map(|address| self.replica(address).map_err(io::Error::other)).collect()
            }
            Err(why) => {
                // The last good answer stays in use until there is something else.
                watching.delivered = watching.delivered.map(|_| version);
                Err(io::Error::new(io::ErrorKind::NotFound, why))
            }
        }
    }

    async fn find(&self, watching: &mut SliceWatch) -> io::Result<()> {
        let Some(delivered) = watching.delivered else {
            // A call waits for the first answer, which must not be that of the lookup before.
            watching.known.expired();
            (watching.watch, watching.kept) = (None, None);
            return self.list(watching).await.map_err(|why| self.error(watching, why));
        };
        while watching.known.version() == delivered {
            let news = match watching.known.next_question() {
                NextQuestion::List { .. } => {
                    self.wait(watching).await;
                    self.list(watching).await.map(|()| WatchNews::Told)
                }
                NextQuestion::Watch { from } => self.watch(watching, &from).await,
            };
            match news {
                Ok(WatchNews::Told) => break,
                Ok(WatchNews::Over) => {}
                Err(ApiFailure::Expired) => watching.known.expired(),
                Err(ApiFailure::Failed(why)) => return Err(self.error(watching, ApiFailure::Failed(why))),
            }
        }
        Ok(())
    }

    /// Lists all slices.
    async fn list(&self, watching: &mut SliceWatch) -> Result<(), ApiFailure> {
        watching.watch = None;
        let mut expired = 0;
        while let NextQuestion::List { from } = watching.known.next_question() {
            match self.api.list(&mut watching.kept, from.as_deref()).await {
                Ok(page) => watching.known.listed(page),
                Err(ApiFailure::Expired) if expired < MOST_LISTS => {
                    expired += 1;
                    watching.known.expired();
                }
                Err(why) => return Err(why),
            }
        }
        watching.back_off.answered();
        Ok(())
    }

    /// Waits for what the watch tells next, and begins one if there is none.
    async fn watch(&self, watching: &mut SliceWatch, from: &str) -> Result<WatchNews, ApiFailure> {
        let running = match &mut watching.watch {
            Some(running) => running,
            none => {
                let delay = watching.back_off.delay((self.chance)());
                until(later(Instant::now(), delay)).await;
                let values = self.api.watch(watching.kept.take(), from).await?;
                none.insert(RunningWatch { values, heard: Instant::now() })
            }
        };
        let mut news = WatchNews::Over;
        loop {
            // What has come already is taken together.
            let limit = match news {
                WatchNews::Told => Instant::now(),
                WatchNews::Over => later(running.heard, SILENCE),
            };
            let told = match before(limit, running.values.next()).await {
                Some(Ok(Some(told))) => SliceEvent::of(&told),
                Some(Ok(None)) => Err("the watch has ended".to_owned()),
                Some(Err(why)) => Err(why.to_string()),
                None if matches!(news, WatchNews::Told) => return Ok(news),
                None => Err(format!("the watch was silent for {SILENCE:?}")),
            };
            match told {
                Ok(SliceEvent::Failed { expired, why }) => {
                    tracing::debug!("the EndpointSlices are listed again: {why}");
                    watching.watch = None;
                    watching.known.expired();
                    if !expired {
                        watching.back_off.failed();
                    }
                    return Ok(WatchNews::Over);
                }
                Ok(event) => {
                    watching.known.told(event);
                    watching.back_off.answered();
                    (running.heard, news) = (Instant::now(), WatchNews::Told);
                }
                Err(why) => {
                    tracing::debug!("a watch of EndpointSlices is replaced: {why}");
                    if running.heard.elapsed() < SOON {
                        watching.back_off.failed();
                    }
                    watching.watch = None;
                    return Ok(news);
                }
            }
        }
    }

    async fn wait(&self, watching: &SliceWatch) {
        until(later(Instant::now(), watching.back_off.delay((self.chance)()))).await;
    }

    fn error(&self, watching: &mut SliceWatch, why: ApiFailure) -> io::Error {
        watching.back_off.failed();
        (watching.watch, watching.kept) = (None, None);
        match why {
            ApiFailure::Failed(why) => why,
            ApiFailure::Expired => self.api.error("a part of its list has expired"),
        }
    }

    fn replica(&self, address: SocketAddr) -> Result<ReplicaAddress, Error> {
        let (host, port) = (self.domain.clone(), address.port());
        let called = HostAndPort { authority: format!("{host}:{port}"), host, port };
        let url = self.urls.of(&ReplicaPlace::Host(called), AddressOptions::default())?;
        Ok(ReplicaAddress { address: address.into(), url: Arc::new(url) })
    }
}

/// Closes the connection of a client that makes no calls any more. What is known stays, and the next watch begins there.
fn close_when_unused(watching: Weak<AsyncMutex<SliceWatch>>, looked: Instant) {
    runtime::spawn(&Handle::current(), async move {
        until(later(looked, UNUSED)).await;
        // It is locked while a lookup uses it.
        if let Some(watching) = watching.upgrade()
            && let Ok(mut watching) = watching.try_lock()
            && watching.looked == looked
        {
            (watching.watch, watching.kept) = (None, None);
        }
    });
}
