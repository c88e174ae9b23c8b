//! The replicas of a service of Kubernetes, kept by a watch: [`KubernetesReplicas`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
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
use crate::clock_and_chance::random_fraction;
use crate::deadline::{before, later, until};
use crate::error::Error;
use crate::host_and_port::HostAndPort;
use crate::json_over_http::{JsonConnection, JsonValues};
use crate::replica_line::{AddressOptions, ReplicaPlace};
use crate::runtime;

/// A watch that is silent for this long is replaced by another. The API server sends a bookmark each minute.
const SILENCE: Duration = Duration::from_secs(70);

/// A watch that no lookup has waited for during this time is closed.
const UNUSED: Duration = Duration::from_secs(20);

/// How often a list is begun again because one of its parts has expired.
const MOST_LISTS: u32 = 3;

/// A watch that ends earlier counts as a failure. One that lasts this long ends a row of failures.
const SOON: Duration = Duration::from_secs(10);

/// The first lookup lists the EndpointSlices. A later one waits until the replicas change, or until the API server says that
/// they have not.
pub(in crate::client) struct KubernetesReplicas {
    api: ApiServer,
    /// What servers see as the host, and the name in their certificates.
    domain: String,
    urls: EndpointUrls,
    service: KubernetesService,
    /// Locked by a lookup until its end.
    watching: Mutex<Arc<AsyncMutex<SliceWatch>>>,
    /// From 0 to 1.
    chance: fn() -> f64,
}

struct SliceWatch {
    known: ServiceEndpoints,
    /// The runtime of the connections.
    home: Option<Id>,
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
    began: Instant,
    /// When it began, or told something.
    heard: Instant,
}

/// What waiting for the API server has brought.
enum SliceNews {
    /// Something was told, which the known endpoints include.
    Told,
    /// It ended, or the list must be repeated.
    Over,
}

impl KubernetesReplicas {
    pub(in crate::client) fn new(service: &KubernetesService, urls: EndpointUrls) -> Result<Self, Error> {
        Self::with(service, urls, PodAccount::of_this_pod(&service.to_string())?, random_fraction)
    }

    fn with(
        service: &KubernetesService,
        urls: EndpointUrls,
        account: PodAccount,
        chance: fn() -> f64,
    ) -> Result<Self, Error> {
        let this = Self {
            api: ApiServer::new(service, account)?,
            domain: format!("{}.{}.svc", service.service, service.namespace),
            urls,
            service: service.clone(),
            watching: Mutex::new(SliceWatch::new(service)),
            chance,
        };
        // A certificate can't be checked without a name that TLS knows.
        this.replica(SocketAddr::from(([127, 0, 0, 1], 1)))?;
        Ok(this)
    }

    /// The last lookup does not go on, and has locked what it knew.
    pub(in crate::client) fn begin_anew(&self) {
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = SliceWatch::new(&self.service);
    }

    /// The replicas, when there is something to say: others than discovery has, or that they are still these.
    pub(in crate::client) async fn look_up(&self) -> io::Result<Vec<ReplicaAddress>> {
        let shared = self.watching();
        let mut watching = shared.lock().await;
        let found = self.find(&mut watching).await;
        watching.looked = Instant::now();
        close_when_unused(Arc::downgrade(&shared), watching.looked);
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
                Err(io::Error::other(why))
            }
        }
    }

    fn watching(&self) -> Arc<AsyncMutex<SliceWatch>> {
        Arc::clone(&self.watching.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn find(&self, watching: &mut SliceWatch) -> io::Result<()> {
        let here = Handle::current().id();
        if watching.home.replace(here) != Some(here) {
            // Only their own runtime reads from the connections, and it may do nothing any more.
            (watching.watch, watching.kept) = (None, None);
        }
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
                    // A list that has expired was begun again already.
                    return self.list(watching).await.map_err(|why| self.error(watching, why));
                }
                NextQuestion::Watch { from } => self.watch(watching, &from).await,
            };
            match news {
                Ok(SliceNews::Told) => break,
                Ok(SliceNews::Over) => {}
                Err(ApiFailure::Expired) => {
                    // The server has forgotten the version of its own list, if the list was a moment ago.
                    watching.back_off.failed();
                    watching.known.expired();
                }
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
        Ok(())
    }

    /// Waits for what the watch tells next, and begins one if there is none.
    async fn watch(&self, watching: &mut SliceWatch, from: &str) -> Result<SliceNews, ApiFailure> {
        let running = match &mut watching.watch {
            Some(running) => running,
            none => {
                // After a list, which has waited, the watch begins at once.
                if watching.kept.is_none() {
                    let delay = watching.back_off.delay((self.chance)());
                    until(later(Instant::now(), delay)).await;
                }
                let values = self.api.watch(watching.kept.take(), from).await?;
                let now = Instant::now();
                none.insert(RunningWatch { values, began: now, heard: now })
            }
        };
        let mut news = SliceNews::Over;
        loop {
            // What has come already is taken together.
            let limit = match news {
                SliceNews::Told => Instant::now(),
                SliceNews::Over => later(running.heard, SILENCE),
            };
            let told = match before(limit, running.values.next()).await {
                Some(Ok(Some(told))) => SliceEvent::of(&told),
                Some(Ok(None)) => Err("its time is over".to_owned()),
                Some(Err(why)) => Err(why.to_string()),
                None if matches!(news, SliceNews::Told) => return Ok(news),
                None => Err(format!("the watch was silent for {SILENCE:?}")),
            };
            match told {
                Ok(SliceEvent::Failed { expired, why }) => {
                    tracing::debug!("the EndpointSlices are listed again: {why}");
                    match expired && running.began.elapsed() >= SOON {
                        true => watching.back_off.answered(),
                        false => watching.back_off.failed(),
                    }
                    watching.watch = None;
                    watching.known.expired();
                    return Ok(SliceNews::Over);
                }
                Ok(event) => {
                    watching.known.told(event);
                    if running.began.elapsed() >= SOON {
                        watching.back_off.answered();
                    }
                    (running.heard, news) = (Instant::now(), SliceNews::Told);
                }
                Err(why) => {
                    tracing::debug!("a watch of EndpointSlices is replaced: {why}");
                    match running.began.elapsed() < SOON {
                        true => watching.back_off.failed(),
                        false => watching.back_off.answered(),
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
            ApiFailure::Expired => {
                watching.known.expired();
                self.api.error("a part of its list has expired")
            }
        }
    }

    fn replica(&self, address: SocketAddr) -> Result<ReplicaAddress, Error> {
        let (host, port) = (self.domain.clone(), address.port());
        let called = HostAndPort { authority: format!("{host}:{port}"), host, port };
        let url = self.urls.of(&ReplicaPlace::Host(called), AddressOptions::default())?;
        Ok(ReplicaAddress { address: address.into(), url: Arc::new(url) })
    }
}

impl SliceWatch {
    fn new(service: &KubernetesService) -> Arc<AsyncMutex<Self>> {
        Arc::new(AsyncMutex::new(Self {
            known: ServiceEndpoints::new(service.clone()),
            home: None,
            watch: None,
            kept: None,
            back_off: WatchBackOff::default(),
            looked: Instant::now(),
            delivered: None,
        }))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fake_api_server::{ApiRequest, FakeApiServer};
    use super::*;
    use crate::address::Address;
    use crate::client::discovery::Discovery;
    use crate::client::replica_source::ReplicaSource;
    use crate::client::service_url::ServiceUrl;

    const PATH: &str =
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dorders";

    /// A slice, as a cluster writes it.
    fn slice(name: &str, ips: &[&str], version: u32) -> Value {
        let endpoint = |(at, ip): (usize, &&str)| {
            json!({
                "addresses": [ip], "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": "node-1", "targetRef": { "kind": "Pod", "name": format!("{name}-{at}"), "namespace": "shop" },
            })
        };
        json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {
                "name": name, "namespace": "shop", "resourceVersion": version.to_string(),
                "labels": { "kubernetes.io/service-name": "orders" },
            },
            "addressType": if ips.iter().any(|ip| ip.contains(':')) { "IPv6" } else { "IPv4" },
            "endpoints": ips.iter().enumerate().map(endpoint).collect::<Vec<_>>(),
            "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        })
    }

    fn bookmark(version: u32) -> Value {
        json!({ "kind": "EndpointSlice", "metadata": { "resourceVersion": version.to_string() } })
    }

    fn replicas(server: &FakeApiServer) -> KubernetesReplicas {
        let url = ServiceUrl::parse("k8s://shop/orders?endpoint=/shop").unwrap();
        let service = KubernetesService::parse("shop/orders").unwrap();
        KubernetesReplicas::with(&service, EndpointUrls::new(&url, None), server.account(), || 0.0).unwrap()
    }

    async fn found(replicas: &KubernetesReplicas) -> Result<String, String> {
        let found = tokio::time::timeout(Duration::from_secs(600), replicas.look_up()).await.expect("it ends");
        let shown = |replica: &ReplicaAddress| replica.address.to_string();
        found.map(|found| found.iter().map(shown).collect::<Vec<_>>().join(" ")).map_err(|why| why.to_string())
    }

    /// What a lookup finds while the test answers.
    async fn answered<F: Future>(replicas: &KubernetesReplicas, answering: F) -> (Result<String, String>, F::Output) {
        tokio::join!(found(replicas), answering)
    }

    /// The first lookup, whose list has this slice. Returns the request of the watch that follows.
    async fn begun(server: &mut FakeApiServer, replicas: &KubernetesReplicas, ips: &[&str]) -> String {
        let listing = async { server.request().await.list(&[slice("a", ips, 4)], "5").await };
        answered(replicas, listing).await.0.unwrap()
    }

    #[tokio::test]
    async fn a_service_is_listed_in_parts_and_then_watched() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        let listing = async {
            let first = server.request().await;
            assert_eq!((first.path.as_str(), first.token.as_str()), (format!("{PATH}&limit=100").as_str(), "one"));
            let metadata = json!({ "resourceVersion": "5", "continue": "a/b+c" });
            first.answer(200, json!({ "metadata": metadata, "items": [slice("a", &["10.0.0.2"], 1)] })).await;
            let second = server.request().await;
            assert_eq!(second.path, format!("{PATH}&limit=100&continue=a%2Fb%2Bc"));
            second.list(&[slice("b", &["fd00::1"], 2), slice("c", &["10.0.0.1", "10.0.0.2"], 3)], "5").await;
        };
        let first = answered(&replicas, listing).await.0;
        assert_eq!(first.as_deref(), Ok("10.0.0.1:8080 10.0.0.2:8080 [fd00::1]:8080"));

        let telling = async {
            let request = server.request().await;
            assert!(request.path.starts_with(PATH) && request.is_watch_from("5"), "{}", request.path);
            let mut watch = request.watch().await;
            watch.tell("MODIFIED", &slice("c", &["10.0.0.1"], 6)).await;
            watch.tell("ADDED", &slice("d", &["10.0.0.9"], 7)).await;
            watch
        };
        let (mut second, mut watch) = answered(&replicas, telling).await;
        // What is told at once may be found in two lookups.
        if second.as_deref() != Ok("10.0.0.1:8080 10.0.0.2:8080 10.0.0.9:8080 [fd00::1]:8080") {
            second = found(&replicas).await;
        }
        assert_eq!(second.as_deref(), Ok("10.0.0.1:8080 10.0.0.2:8080 10.0.0.9:8080 [fd00::1]:8080"));
        watch.tell("BOOKMARK", &bookmark(20)).await;
        assert_eq!(found(&replicas).await, second, "a bookmark says that nothing has changed");
        watch.tell("DELETED", &slice("a", &["10.0.0.2"], 21)).await;
        assert_eq!(found(&replicas).await.as_deref(), Ok("10.0.0.1:8080 10.0.0.9:8080 [fd00::1]:8080"));
    }

    #[tokio::test]
    async fn a_watch_that_ends_goes_on_where_it_was() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        let telling = async {
            let mut watch = server.request().await.watch().await;
            watch.tell("BOOKMARK", &bookmark(8)).await;
            watch
        };
        let (same, watch) = answered(&replicas, telling).await;
        assert_eq!(same.as_deref(), Ok("10.0.0.1:8080"));
        let cutting = async {
            watch.end().await;
            let request = server.request().await;
            assert!(request.is_watch_from("8"), "{}", request.path);
            let mut watch = request.watch().await;
            watch.tell("MODIFIED", &slice("a", &["10.0.0.2"], 9)).await;
            watch
        };
        let (changed, watch) = answered(&replicas, cutting).await;
        assert_eq!(changed.as_deref(), Ok("10.0.0.2:8080"));
        let in_a_line = async {
            watch.cut("MODIFIED", &slice("a", &["10.0.0.7"], 10)).await;
            let request = server.request().await;
            assert!(request.is_watch_from("9"), "{}", request.path);
            let mut watch = request.watch().await;
            watch.tell("MODIFIED", &slice("a", &["10.0.0.3"], 11)).await;
        };
        assert_eq!(answered(&replicas, in_a_line).await.0.as_deref(), Ok("10.0.0.3:8080"));
    }

    #[tokio::test]
    async fn a_version_that_is_too_old_is_listed_again() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        let as_event = async {
            let mut watch = server.request().await.watch().await;
            let gone = json!({
                "kind": "Status", "status": "Failure", "message": "too old resource version: 5 (99)", "reason": "Expired",
                "code": 410,
            });
            watch.tell("ERROR", &gone).await;
            let request = server.request().await;
            assert_eq!(request.path, format!("{PATH}&limit=100"));
            request.list(&[slice("b", &["10.0.0.2"], 100)], "100").await;
        };
        assert_eq!(answered(&replicas, as_event).await.0.as_deref(), Ok("10.0.0.2:8080"));
        let as_status = async {
            let request = server.request().await;
            assert!(request.is_watch_from("100"), "{}", request.path);
            request.refuse(410, "too old resource version").await;
            let first = server.request().await;
            let metadata = json!({ "resourceVersion": "200", "continue": "x" });
            first.answer(200, json!({ "metadata": metadata, "items": [slice("c", &["10.0.0.8"], 1)] })).await;
            server.request().await.refuse(410, "the provided continue parameter is too old").await;
            let again = server.request().await;
            assert_eq!(again.path, format!("{PATH}&limit=100"));
            again.list(&[slice("b", &["10.0.0.3"], 300)], "300").await;
        };
        assert_eq!(answered(&replicas, as_status).await.0.as_deref(), Ok("10.0.0.3:8080"));
    }

    #[tokio::test]
    async fn an_api_server_that_is_away_is_found_again() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        server.stop().await;
        // The connection of the list is open still.
        let answer_late = async { drop(server.request().await) };
        let (away, ()) = answered(&replicas, answer_late).await;
        let away = away.unwrap_err();
        assert!(away.starts_with("the API server of Kubernetes at 127.0.0.1:"), "{away}");
        assert!(found(&replicas).await.is_err());
        server.start().await;
        let back = async {
            let request = server.request().await;
            assert!(request.is_watch_from("5"), "{}", request.path);
            request.watch().await.tell("MODIFIED", &slice("a", &["10.0.0.2"], 6)).await;
        };
        assert_eq!(answered(&replicas, back).await.0.as_deref(), Ok("10.0.0.2:8080"));
    }

    #[tokio::test]
    async fn a_token_is_read_again_when_it_is_replaced() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        let rotating = async {
            let old = server.request().await;
            assert_eq!(old.token, "one");
            server.rotate("two");
            old.refuse(401, "Unauthorized").await;
            let new = server.request().await;
            assert_eq!(new.token, "two");
            new.watch().await.tell("MODIFIED", &slice("a", &["10.0.0.2"], 6)).await;
        };
        assert_eq!(answered(&replicas, rotating).await.0.as_deref(), Ok("10.0.0.2:8080"));
        let refused = async {
            for _ in 0..2 {
                server.request().await.refuse(401, "Unauthorized").await;
            }
        };
        let why = answered(&replicas, refused).await.0.unwrap_err();
        assert!(why.contains("it does not accept the token `/") && why.ends_with("token`: Unauthorized"), "{why}");
    }

    #[tokio::test]
    async fn a_missing_permission_is_named() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        let said =
            "endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:shop:default\" cannot list";
        let why = answered(&replicas, async { server.request().await.refuse(403, said).await }).await.0.unwrap_err();
        for part in [
            "may not list EndpointSlices in the namespace `shop`",
            "`apiGroups: [\"discovery.k8s.io\"]`, `resources: [\"endpointslices\"]`, `verbs: [\"get\", \"list\", \"watch\"]`",
            said,
        ] {
            assert!(why.contains(part), "{why}");
        }
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        let why = answered(&replicas, async { server.request().await.refuse(403, "no").await }).await.0.unwrap_err();
        assert!(why.contains("may not watch EndpointSlices"), "{why}");
    }

    #[tokio::test]
    async fn other_failures_say_what_was_answered() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        for (status, said) in [(404, "discovery.k8s.io/v1"), (500, "status 500 Internal Server Error: no")] {
            let refusing = async { server.request().await.refuse(status, "no").await };
            let why = answered(&replicas, refusing).await.0.unwrap_err();
            assert!(why.contains(said), "{why}");
        }
        let garbage = async { server.request().await.answer(200, json!({ "items": [] })).await };
        let why = answered(&replicas, garbage).await.0.unwrap_err();
        assert!(why.contains("an object of the API server has no `.metadata.resourceVersion`"), "{why}");
        std::fs::remove_file(server.account().token).unwrap();
        let why = found(&replicas).await.unwrap_err();
        assert!(why.contains("can't read the token `/"), "{why}");
    }

    #[tokio::test]
    async fn a_service_without_ready_pods_is_a_failure_and_is_watched_all_the_same() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        let none = async |request: ApiRequest| request.list(&[], "3").await;
        for _ in 0..2 {
            let why = answered(&replicas, async { none(server.request().await).await }).await.0.unwrap_err();
            assert!(why.contains("has no EndpointSlice of a service `orders`"), "a call does not wait: {why}");
        }
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        let emptying = async {
            let mut watch = server.request().await.watch().await;
            watch.tell("MODIFIED", &slice("a", &[], 6)).await;
            watch
        };
        let (empty, mut watch) = answered(&replicas, emptying).await;
        assert!(empty.unwrap_err().contains("none is ready"));
        watch.tell("MODIFIED", &slice("a", &["10.0.0.1"], 7)).await;
        assert_eq!(found(&replicas).await.as_deref(), Ok("10.0.0.1:8080"));
    }

    #[tokio::test]
    async fn servers_see_the_name_of_the_service() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        let listing = async { server.request().await.list(&[slice("a", &["10.0.0.1"], 4)], "5").await };
        let (found, ()) = tokio::join!(replicas.look_up(), listing);
        let url = Arc::clone(&found.unwrap()[0].url);
        assert_eq!((url.authority.as_bytes(), url.path.as_str()), (&b"orders.shop.svc:8080"[..], "/shop"));
    }

    #[tokio::test]
    async fn an_account_without_files_says_so_at_once() {
        let server = FakeApiServer::new().await;
        let url = ServiceUrl::parse("k8s://shop/orders").unwrap();
        let service = KubernetesService::parse("shop/orders").unwrap();
        let account = PodAccount { roots: "/nowhere/ca.crt".into(), ..server.account() };
        let made = KubernetesReplicas::with(&service, EndpointUrls::new(&url, None), account, || 0.0);
        let why = made.err().unwrap().message().to_owned();
        assert!(
            why.starts_with("k8s://shop/orders is looked up with the account of a pod: ")
                && why.contains("/nowhere/ca.crt"),
            "{why}"
        );
    }

    /// Lets this time pass. The rest of the test runs by the real clock, because it waits for sockets.
    async fn pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn a_watch_that_is_silent_is_replaced() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        let telling = async {
            let mut watch = server.request().await.watch().await;
            watch.tell("BOOKMARK", &bookmark(8)).await;
            watch
        };
        let (_, _silent) = answered(&replicas, telling).await;
        let silent = async {
            pass(SILENCE).await;
            let request = server.request().await;
            assert!(request.is_watch_from("8"), "{}", request.path);
            request.watch().await.tell("BOOKMARK", &bookmark(9)).await;
        };
        assert_eq!(answered(&replicas, silent).await.0.as_deref(), Ok("10.0.0.1:8080"));
    }

    #[tokio::test]
    async fn a_client_that_makes_no_calls_closes_its_watch_and_goes_on_later() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        let telling = async {
            let mut watch = server.request().await.watch().await;
            watch.tell("BOOKMARK", &bookmark(8)).await;
            watch
        };
        let (_, watch) = answered(&replicas, telling).await;
        pass(UNUSED).await;
        watch.closed().await;
        let later = async {
            let request = server.request().await;
            assert!(request.is_watch_from("8"), "{}", request.path);
            request.watch().await.tell("MODIFIED", &slice("a", &["10.0.0.2"], 9)).await;
        };
        assert_eq!(answered(&replicas, later).await.0.as_deref(), Ok("10.0.0.2:8080"));
    }

    #[tokio::test]
    async fn a_list_whose_parts_expire_again_and_again_is_given_up() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        let expiring = async {
            for _ in 0..=MOST_LISTS {
                let first = server.request().await;
                assert_eq!(first.path, format!("{PATH}&limit=100"));
                first
                    .answer(200, json!({ "metadata": { "resourceVersion": "1", "continue": "x" }, "items": [] }))
                    .await;
                server.request().await.refuse(410, "the provided continue parameter is too old").await;
            }
        };
        let why = answered(&replicas, expiring).await.0.unwrap_err();
        assert!(why.contains("a part of its list has expired"), "{why}");
    }

    #[tokio::test]
    async fn lists_that_expire_after_the_first_answer_are_a_failure_with_a_delay() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        let expiring = async {
            // The first is the watch.
            for _ in 0..MOST_LISTS + 2 {
                server.request().await.refuse(410, "too old").await;
            }
        };
        let why = answered(&replicas, expiring).await.0.unwrap_err();
        assert!(why.contains("a part of its list has expired"), "{why}");
        // The watch has failed, and then the list.
        assert_eq!(delay(&replicas).await, Duration::from_secs(2));
        let listing = async {
            let request = server.request().await;
            assert_eq!(request.path, format!("{PATH}&limit=100"));
            request.list(&[slice("a", &["10.0.0.2"], 9)], "9").await;
        };
        assert_eq!(answered(&replicas, listing).await.0.as_deref(), Ok("10.0.0.2:8080"));
    }

    #[tokio::test]
    async fn the_delay_grows_while_each_watch_fails_after_a_good_list_and_ends_with_a_watch_that_lasts() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        for seconds in [1, 2, 4] {
            let failing = async {
                let failure = json!({ "kind": "Status", "status": "Failure", "message": "no", "code": 500 });
                let mut watch = server.request().await.watch().await;
                watch.tell("ERROR", &failure).await;
                server.request().await.list(&[slice("a", &["10.0.0.1"], 4)], "5").await;
            };
            assert_eq!(answered(&replicas, failing).await.0.as_deref(), Ok("10.0.0.1:8080"));
            assert_eq!(delay(&replicas).await, Duration::from_secs(seconds));
        }
        let telling = async {
            let mut watch = server.request().await.watch().await;
            watch.tell("BOOKMARK", &bookmark(8)).await;
            watch
        };
        let (_, mut watch) = answered(&replicas, telling).await;
        assert_eq!(delay(&replicas).await, Duration::from_secs(4));
        pass(SOON).await;
        watch.tell("BOOKMARK", &bookmark(9)).await;
        assert_eq!(found(&replicas).await.as_deref(), Ok("10.0.0.1:8080"));
        assert_eq!(delay(&replicas).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn the_delay_grows_while_each_watch_of_a_good_list_has_expired_at_once() {
        let mut server = FakeApiServer::new().await;
        let replicas = replicas(&server);
        begun(&mut server, &replicas, &["10.0.0.1"]).await;
        for (is_event, seconds) in [(true, 1), (false, 2), (true, 4), (false, 8)] {
            let expiring = async {
                let watch = server.request().await;
                match is_event {
                    true => {
                        let gone = json!({ "kind": "Status", "status": "Failure", "message": "too old", "code": 410 });
                        watch.watch().await.tell("ERROR", &gone).await;
                    }
                    false => watch.refuse(410, "too old resource version").await,
                }
                server.request().await.list(&[slice("a", &["10.0.0.1"], 4)], "5").await;
            };
            assert_eq!(answered(&replicas, expiring).await.0.as_deref(), Ok("10.0.0.1:8080"));
            assert_eq!(delay(&replicas).await, Duration::from_secs(seconds));
        }
    }

    /// The longest delay before the next request.
    async fn delay(replicas: &KubernetesReplicas) -> Duration {
        replicas.watching().lock().await.back_off.delay(1.0)
    }

    #[test]
    fn a_lookup_in_a_runtime_that_is_not_polled_is_taken_over() {
        let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let one_thread = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (stopped, other) = (one_thread(), one_thread());
        let mut server = serving.block_on(FakeApiServer::new());
        let source = ReplicaSource::Kubernetes(Box::new(replicas(&server)));
        let discovery = Discovery::new("k8s://shop/orders".into(), source);
        stopped.block_on(async {
            let listing = async { server.request().await.list(&[slice("a", &["10.0.0.1"], 4)], "5").await };
            tokio::join!(discovery.answer(), listing).0.unwrap();
            pass(Duration::from_secs(2)).await;
            discovery.used().unwrap();
            // The lookup in the background waits for the watch.
            let _watch = server.request().await.watch().await;
        });
        let found = other.block_on(async {
            pass(Duration::from_secs(20)).await;
            discovery.used().unwrap();
            let request = server.request().await;
            assert_eq!(request.path, format!("{PATH}&limit=100"));
            request.list(&[slice("a", &["10.0.0.2"], 6)], "7").await;
            let taken_over = async {
                while discovery.known().unwrap().0.version == 1 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), taken_over).await.unwrap();
            discovery.known().unwrap().0.addresses()
        });
        assert_eq!(found, [Address::from(SocketAddr::from(([10, 0, 0, 2], 8080)))]);
    }

    #[tokio::test]
    async fn discovery_keeps_the_last_answer_while_the_api_server_is_away() {
        let mut server = FakeApiServer::new().await;
        let source = ReplicaSource::Kubernetes(Box::new(replicas(&server)));
        let discovery = Discovery::new("k8s://shop/orders".into(), source);
        let listing = async { server.request().await.list(&[slice("a", &["10.0.0.1"], 4)], "5").await };
        let (first, ()) = tokio::join!(discovery.answer(), listing);
        let expected = first.unwrap().addresses();
        server.stop().await;
        let failed = async {
            while discovery.known().unwrap().2.is_none() {
                assert_eq!(discovery.used().unwrap().addresses(), expected);
                // The connection of the list is open still.
                server.forget_requests();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), failed).await.unwrap();
        let (answer, _, failure) = discovery.known().unwrap();
        assert_eq!(answer.addresses(), expected);
        assert!(failure.as_ref().unwrap().starts_with("the API server of Kubernetes at 127.0.0.1:"), "{failure:?}");
    }
}
