//! Where the replicas of a service are looked up: [`ReplicaSource`].

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::await_all::await_all;
use super::discover::{Discover, FRESH, Replicas};
use super::dns::{NameResolver, SrvSource};
use super::endpoint_url::EndpointUrl;
use super::etcd_replicas::EtcdReplicas;
use super::kubernetes::KubernetesReplicas;
use super::name_addresses::NameAddresses;
use super::replica_address::{ListedReplica, ReplicaAddress};
use super::replica_file::ReplicaFile;
use crate::address::Address;
use crate::catch_panic::caught;
use crate::host_and_port::HostAndPort;
use crate::replica_line::ReplicaPlace;
use crate::runtime::BoxFuture;
use crate::simulated_world;
use crate::untrusted_text::{excerpt, quoted};

/// The most bytes of an error of the user's code in a message.
const LONGEST_ERROR: usize = 300;

/// The most names that are looked up at once.
const MOST_LOOKUPS: usize = 32;

pub(super) enum ReplicaSource {
    /// Hosts and sockets, of which some are names.
    List { elements: Vec<ListedReplica>, names: KnownNames },
    /// A file with a list.
    File { file: ReplicaFile, names: KnownNames },
    /// The targets of SRV records.
    Srv { records: Box<SrvSource>, names: KnownNames },
    /// A service of Kubernetes.
    Kubernetes(Box<KubernetesReplicas>),
    /// Servers that announce themselves.
    Etcd { etcd: Box<EtcdReplicas>, names: KnownNames },
    /// Code of the user.
    Own(OwnSource),
}

/// The result of a lookup.
pub(super) struct FoundReplicas {
    /// Not empty.
    pub(super) replicas: Vec<ReplicaAddress>,
    pub(super) fresh_for: Duration,
    /// What could not be found. The last good answer stands for it, if there was one.
    pub(super) missing: Option<String>,
}

/// The names in a list: how they are looked up, and their last addresses.
#[derive(Default)]
pub(super) struct KnownNames {
    resolver: NameResolver,
    known: Mutex<Vec<(HostAndPort, Vec<Address>)>>,
}

pub(super) struct OwnSource {
    discover: Arc<dyn Discover>,
    url: Arc<EndpointUrl>,
    /// The last good answer.
    known: Mutex<Option<Replicas>>,
}

impl ReplicaSource {
    /// The last lookup is not polled any more, and keeps what it has locked. The next one begins without that.
    pub(super) fn begin_anew(&self) {
        match self {
            Self::Kubernetes(service) => service.begin_anew(),
            Self::Etcd { etcd, .. } => etcd.begin_anew(),
            Self::List { .. } | Self::File { .. } | Self::Srv { .. } | Self::Own(_) => {}
        }
    }

    pub(super) async fn look_up(&self) -> io::Result<FoundReplicas> {
        match self {
            Self::List { elements, names } => resolve(elements, names).await,
            Self::File { file, names } => {
                let found = resolve(&file.read().await.map_err(io::Error::other)?, names).await?;
                // The file is read as often as ever.
                Ok(FoundReplicas { fresh_for: found.fresh_for.min(FRESH), ..found })
            }
            Self::Srv { records, names } => {
                let (targets, fresh_for) = records.look_up().await?;
                let found = resolve(&targets, names).await?;
                Ok(FoundReplicas { fresh_for: found.fresh_for.min(fresh_for), ..found })
            }
            Self::Kubernetes(service) => {
                let mut replicas = Vec::new();
                service.look_up().await?.into_iter().for_each(|replica| add(&mut replicas, replica));
                // The next lookup waits until something changes.
                Ok(FoundReplicas { replicas, fresh_for: Duration::ZERO, missing: None })
            }
            Self::Etcd { etcd, names } => {
                let answer = etcd.look_up().await?;
                let found = resolve(&answer.replicas, names).await?;
                etcd.delivered(&answer).await;
                // The next lookup waits until something changes.
                let missing = answer.wrong.or(found.missing);
                Ok(FoundReplicas { fresh_for: Duration::ZERO, missing, ..found })
            }
            Self::Own(own) => own.look_up().await.map_err(io::Error::other),
        }
    }
}

impl OwnSource {
    pub(super) fn new(discover: Arc<dyn Discover>, url: EndpointUrl) -> Self {
        Self { discover, url: Arc::new(url), known: Mutex::default() }
    }

    async fn look_up(&self) -> Result<FoundReplicas, String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let panicked = |_| "`Discover::replicas` panicked".to_owned();
        let failed = |why| format!("`Discover::replicas` failed: {}", excerpt(why, LONGEST_ERROR));
        let mut looking = caught(|| self.discover.replicas(known.as_ref())).map_err(panicked)?;
        let found = poll_fn(|cx| match caught(|| looking.as_mut().poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(found)) => Poll::Ready(found.map_err(failed)),
            Err(panic) => Poll::Ready(Err(panicked(panic))),
        })
        .await?;
        if let Some(wrong) = found.addresses().iter().find(|address| !self.is_usable(address)) {
            let why = match wrong {
                Address::Unix(Some(_)) => "a unix socket has no TLS",
                _ => "it has no port or no path",
            };
            return Err(format!("{} is not an address of a replica: {why}", quoted(&wrong.to_string())));
        }
        let mut replicas: Vec<ReplicaAddress> = Vec::new();
        for address in found.addresses() {
            add(&mut replicas, ReplicaAddress { address: address.clone(), url: Arc::clone(&self.url) });
        }
        if replicas.is_empty() {
            return Err("`Discover::replicas` answered no address".to_owned());
        }
        let fresh_for = found.time();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(FoundReplicas { replicas, fresh_for, missing: None })
    }

    fn is_usable(&self, address: &Address) -> bool {
        match address {
            Address::Tcp(address) => address.port() > 0,
            Address::Unix(path) => path.is_some() && self.url.tls.is_none(),
            Address::Ip(_) => false,
        }
    }
}

/// All replicas of a list. It fails only if none was found.
async fn resolve(elements: &[ListedReplica], names: &KnownNames) -> io::Result<FoundReplicas> {
    let mut results = Vec::with_capacity(elements.len());
    for some in elements.chunks(MOST_LOOKUPS) {
        let lookups = some.iter().map(|element| -> BoxFuture<_> {
            match &element.place {
                ReplicaPlace::Host(host) => Box::pin(addresses_of(host.clone(), names.resolver.clone())),
                ReplicaPlace::Socket(socket) => Box::pin(std::future::ready(Ok(unchanging(socket.clone())))),
            }
        });
        results.extend(await_all(lookups.collect()).await);
    }
    let (mut replicas, mut failure): (Vec<ReplicaAddress>, Option<io::Error>) = (Vec::new(), None);
    let (mut missing, mut fresh_for): (Option<String>, _) = (None, Duration::MAX);
    for (element, result) in elements.iter().zip(results) {
        let addresses = match (&element.place, result) {
            (ReplicaPlace::Host(host), Ok(found)) => {
                fresh_for = fresh_for.min(found.fresh_for);
                let mut addresses = found.addresses;
                if let Some(why) = found.missing {
                    missing.get_or_insert_with(|| format!("{}: {why}", quoted(&host.authority)));
                    // One of the two families was not found.
                    let mut known = names.known(host);
                    known.retain(|known| !addresses.iter().any(|found| found.is_of_the_family_of(known)));
                    addresses.extend(known);
                }
                names.keep(host, &addresses);
                addresses
            }
            (_, Ok(found)) => found.addresses,
            (place, Err(why)) => {
                let ReplicaPlace::Host(host) = place else { continue };
                missing.get_or_insert_with(|| format!("{}: {why}", quoted(&host.authority)));
                failure.get_or_insert(why);
                fresh_for = fresh_for.min(FRESH);
                names.known(host)
            }
        };
        for address in addresses {
            add(&mut replicas, ReplicaAddress { address, url: Arc::clone(&element.url) });
        }
    }
    names.forget_others(elements);
    match failure {
        Some(why) if replicas.is_empty() => Err(why),
        // Of one name the last good answer is kept with its age.
        Some(why) if elements.len() == 1 => Err(why),
        _ => Ok(FoundReplicas { replicas, fresh_for, missing }),
    }
}

/// The addresses of a host.
async fn addresses_of(host: HostAndPort, resolver: NameResolver) -> io::Result<NameAddresses> {
    match host.address() {
        Some(address) => Ok(unchanging(address)),
        None => match simulated_world::resolve(&host.host, host.port) {
            Some(found) => {
                let addresses = found?.into_iter().map(Address::from).collect();
                Ok(NameAddresses { addresses, fresh_for: FRESH, missing: None })
            }
            None => resolver.addresses(&host).await,
        },
    }
}

fn unchanging(address: Address) -> NameAddresses {
    NameAddresses { addresses: vec![address], fresh_for: Duration::MAX, missing: None }
}

/// Two names may have one address. The first of them is used.
fn add(replicas: &mut Vec<ReplicaAddress>, replica: ReplicaAddress) {
    if !replicas.iter().any(|known| known.address == replica.address) {
        replicas.push(replica);
    }
}

impl KnownNames {
    /// Looks up names by this resolver.
    #[cfg(all(test, feature = "dns"))]
    pub(super) fn asking(resolver: NameResolver) -> Self {
        Self { resolver, known: Mutex::default() }
    }

    fn known(&self, host: &HostAndPort) -> Vec<Address> {
        let names = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().find(|(known, _)| known == host).map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    fn keep(&self, host: &HostAndPort, addresses: &[Address]) {
        if host.address().is_some() {
            return;
        }
        let mut names = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|(known, _)| known != host);
        names.push((host.clone(), addresses.to_vec()));
    }

    /// The list may have had other names before.
    fn forget_others(&self, elements: &[ListedReplica]) {
        let mut names = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_listed = |host: &HostAndPort| elements.iter().any(|element| element.place.host() == Some(host));
        names.retain(|(known, _)| is_listed(known));
    }
}
