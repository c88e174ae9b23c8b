//! The service that a client talks to, and where its replicas are: [`ServiceTarget`].

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::discover::{Discover, KnownReplicas};
use super::discovery::{Answer, Discovery};
use super::dns::SrvSource;
use super::endpoint_url::{EndpointUrl, EndpointUrls};
use super::etcd_replicas::EtcdReplicas;
use super::kubernetes::KubernetesReplicas;
use super::replica_address::{ListedReplica, ReplicaAddress};
use super::replica_file::ReplicaFile;
use super::replica_source::{KnownNames, OwnSource, ReplicaSource};
use super::replica_subset::ReplicaSubset;
use super::service_url::{ServicePlace, ServiceUrl};
use crate::address::Address;
use crate::call_telemetry::CalledServer;
use crate::clock_and_chance::random_number;
use crate::error::{Code, Error};
use crate::host_and_port::HostAndPort;
use crate::replica_line::{AddressOptions, ReplicaPlace};
use crate::transport::ClientTls;

/// Clones share what is known of the replicas.
#[derive(Clone)]
pub(super) struct ServiceTarget {
    url: Arc<ServiceUrl>,
    /// The URL's host, or what stands for it.
    server: Arc<str>,
    is_exposed: bool,
    places: ReplicaPlaces,
    subset: ReplicaSubset,
}

#[derive(Clone)]
enum ReplicaPlaces {
    /// They never change.
    Fixed(Answer),
    Discovered(Arc<Discovery>),
}

/// What the user has said of where the replicas are, beside the URL.
#[derive(Clone, Debug)]
pub(super) enum GivenReplicas {
    Addresses(Vec<Address>),
    Discover(Arc<dyn Discover>),
}

impl ServiceTarget {
    pub(super) fn new(
        mut url: ServiceUrl,
        tls: Option<ClientTls>,
        given: Option<GivenReplicas>,
    ) -> Result<Self, Error> {
        let invalid = |why: String| Err(Error::refused(Code::InvalidArgument, why));
        let takes_tls = !matches!(url.place, ServicePlace::Hosts(_) | ServicePlace::Sockets(_));
        if tls.is_some() && !url.is_https {
            if !takes_tls {
                let why = format!("a client has `ClientBuilder::tls`, but its URL is {}; write https://", url.shown());
                return invalid(why);
            }
            url.is_https = true;
        }
        let urls = EndpointUrls::new(&url, tls);
        let listed = |place: ReplicaPlace| {
            let url = Arc::new(urls.of(&place, AddressOptions::default())?);
            Ok::<_, Error>(ListedReplica { place, url })
        };
        let (is_exposed, places) = match (&url.place, given) {
            (place, Some(given)) => {
                let Some(only) = the_only(place) else {
                    let what = match given {
                        GivenReplicas::Addresses(_) => "`ClientBuilder::addresses`",
                        GivenReplicas::Discover(_) => "`ClientBuilder::discover`",
                    };
                    let why = format!("{} says where the replicas are, and so does {what}; leave one out", url.shown());
                    return invalid(why);
                };
                let endpoint = urls.of(&only, AddressOptions::default())?;
                match given {
                    GivenReplicas::Addresses(addresses) => {
                        if urls.has_tls() && addresses.iter().any(Address::is_unix) {
                            let why = format!(
                                "{} has a unix socket among its addresses, which has no TLS; write http://",
                                url.shown()
                            );
                            return invalid(why);
                        }
                        let (endpoint, local) = (Arc::new(endpoint), addresses.iter().all(Address::is_of_this_machine));
                        let replicas =
                            addresses.into_iter().map(|address| ReplicaAddress { address, url: Arc::clone(&endpoint) });
                        (!local, ReplicaPlaces::fixed(replicas.collect()))
                    }
                    GivenReplicas::Discover(discover) => {
                        let source = ReplicaSource::Own(OwnSource::new(discover, endpoint));
                        (true, ReplicaPlaces::discovered(&url, source))
                    }
                }
            }
            (ServicePlace::Hosts(hosts), None) => {
                let elements: Vec<_> =
                    hosts.iter().map(|host| listed(ReplicaPlace::Host(host.clone()))).collect::<Result<_, _>>()?;
                let local = hosts.iter().all(HostAndPort::is_of_this_machine);
                (!local, ReplicaPlaces::of_list(&url, elements))
            }
            (ServicePlace::Sockets(sockets), None) => {
                let elements: Vec<_> = sockets
                    .iter()
                    .map(|socket| listed(ReplicaPlace::Socket(socket.clone())))
                    .collect::<Result<_, _>>()?;
                (false, ReplicaPlaces::of_list(&url, elements))
            }
            (ServicePlace::File { path, .. }, None) => {
                let file = ReplicaFile::new(path.clone(), urls);
                (true, ReplicaPlaces::discovered(&url, ReplicaSource::File { file, names: KnownNames::default() }))
            }
            (ServicePlace::Srv(name), None) => {
                let records = Box::new(SrvSource::new(name, &url, urls)?);
                (true, ReplicaPlaces::discovered(&url, ReplicaSource::Srv { records, names: KnownNames::default() }))
            }
            (ServicePlace::Kubernetes(service), None) => {
                let source = ReplicaSource::Kubernetes(Box::new(KubernetesReplicas::new(service, urls)?));
                (true, ReplicaPlaces::discovered(&url, source))
            }
            (ServicePlace::Etcd(etcd), None) => {
                let etcd = EtcdReplicas::new(etcd.clone(), urls)?;
                let source = ReplicaSource::Etcd { etcd, names: KnownNames::default() };
                (true, ReplicaPlaces::discovered(&url, source))
            }
        };
        let is_exposed = is_exposed && !url.is_https;
        let subset = ReplicaSubset::random(random_number());
        let server = url.server().into();
        Ok(Self { url: Arc::new(url), server, is_exposed, places, subset })
    }

    /// The same service, of which the client uses these replicas if there are many.
    pub(super) fn with_subset(self, subset: ReplicaSubset) -> Self {
        Self { subset, ..self }
    }

    /// Which replicas the client uses if there are many.
    pub(super) fn subset(&self) -> ReplicaSubset {
        self.subset
    }

    pub(super) fn url(&self) -> String {
        self.url.shown()
    }

    /// The server as the URL names it.
    pub(super) fn server(&self) -> CalledServer<'_> {
        CalledServer { address: &self.server, port: self.url.port() }
    }

    /// Which service it is, whatever the path.
    pub(super) fn site(&self) -> String {
        self.url.site()
    }

    /// Whether others can read what is sent: it is not encrypted, and it may leave this machine.
    pub(super) fn is_exposed(&self) -> bool {
        self.is_exposed
    }

    /// The replicas for a new connection.
    pub(super) async fn answer(&self) -> io::Result<Answer> {
        match &self.places {
            ReplicaPlaces::Fixed(answer) => Ok(answer.clone()),
            ReplicaPlaces::Discovered(discovery) => Box::pin(discovery.answer()).await,
        }
    }

    /// The service is used. Returns the replicas if they are others than those that were `seen`.
    pub(super) fn changed_since(&self, seen: &AtomicU64) -> Option<Answer> {
        let answer = match &self.places {
            ReplicaPlaces::Fixed(answer) if answer.version == seen.load(Ordering::Relaxed) => return None,
            ReplicaPlaces::Fixed(answer) => answer.clone(),
            ReplicaPlaces::Discovered(discovery) => discovery.used()?,
        };
        (seen.swap(answer.version, Ordering::Relaxed) != answer.version).then_some(answer)
    }

    /// The addresses, if they are known. The next lookup begins if the service is used and they are old.
    pub(super) fn looked_up(&self, is_used: bool) -> Option<Vec<Address>> {
        let answer = match &self.places {
            ReplicaPlaces::Fixed(answer) => Some(answer.clone()),
            ReplicaPlaces::Discovered(discovery) if is_used => discovery.used(),
            ReplicaPlaces::Discovered(discovery) => discovery.known().map(|(answer, ..)| answer),
        };
        Some(answer?.addresses())
    }

    /// When a client that is used should look at the addresses again, if they may change.
    pub(super) fn look_at(&self, now: Instant) -> Option<Instant> {
        match &self.places {
            ReplicaPlaces::Fixed(_) => None,
            ReplicaPlaces::Discovered(discovery) => Some(discovery.look_at(now)),
        }
    }

    /// No address of this answer could be connected to. Returns another answer, if there is one.
    pub(super) async fn other_than(&self, failed: &Answer) -> Option<Answer> {
        match &self.places {
            ReplicaPlaces::Fixed(_) => None,
            ReplicaPlaces::Discovered(discovery) => Box::pin(discovery.other_than(failed.version)).await,
        }
    }

    /// How calls to this address are addressed, if it is a replica.
    pub(super) fn endpoint_url(&self, address: &Address) -> Option<Arc<EndpointUrl>> {
        self.last_answer()?
            .0
            .replicas
            .iter()
            .find(|replica| replica.address == *address)
            .map(|replica| Arc::clone(&replica.url))
    }

    /// Whether there are other replicas than the one at this address. An address of the other family of IP often is the same
    /// machine.
    pub(super) fn is_one_of_several(&self, address: &Address) -> bool {
        let is_other = |other: &Address| other != address && other.is_of_the_family_of(address);
        self.last_answer().is_some_and(|(answer, ..)| answer.replicas.iter().any(|replica| is_other(&replica.address)))
    }

    pub(super) fn known(&self) -> Option<KnownReplicas> {
        let (answer, age, failure) = self.last_answer()?;
        Some(KnownReplicas { addresses: answer.addresses(), age, failure })
    }

    fn last_answer(&self) -> Option<(Answer, Duration, Option<String>)> {
        match &self.places {
            ReplicaPlaces::Fixed(answer) => Some((answer.clone(), Duration::ZERO, None)),
            ReplicaPlaces::Discovered(discovery) => discovery.known(),
        }
    }
}

impl ReplicaPlaces {
    fn fixed(replicas: Vec<ReplicaAddress>) -> Self {
        Self::Fixed(Answer { replicas: Arc::new(replicas), version: 1 })
    }

    fn discovered(url: &ServiceUrl, source: ReplicaSource) -> Self {
        Self::Discovered(Arc::new(Discovery::new(url.shown(), source)))
    }

    fn of_list(url: &ServiceUrl, elements: Vec<ListedReplica>) -> Self {
        match elements.iter().map(ListedReplica::without_lookup).collect() {
            Some(replicas) => Self::fixed(replicas),
            None => Self::discovered(url, ReplicaSource::List { elements, names: KnownNames::default() }),
        }
    }
}

impl fmt::Debug for ServiceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceTarget").field(&self.url()).finish()
    }
}

/// The one host or socket that a URL names.
fn the_only(place: &ServicePlace) -> Option<ReplicaPlace> {
    match place {
        ServicePlace::Hosts(hosts) if hosts.len() == 1 => Some(ReplicaPlace::Host(hosts[0].clone())),
        ServicePlace::Sockets(sockets) if sockets.len() == 1 => Some(ReplicaPlace::Socket(sockets[0].clone())),
        _ => None,
    }
}
