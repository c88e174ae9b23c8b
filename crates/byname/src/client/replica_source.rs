//! Where the replicas of a service are looked up: [`ReplicaSource`].

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::discover::{Discover, FRESH, Replicas};
use super::endpoint_url::EndpointUrl;
use super::replica_address::{ListedReplica, ReplicaAddress};
use super::replica_file::ReplicaFile;
use super::service_url::{HostAndPort, ReplicaPlace};
use crate::address::Address;
use crate::catch_panic::caught;
use crate::runtime::BoxFuture;
use crate::simulated_world;
use crate::untrusted_text::{excerpt, quoted};

/// The most bytes of an error of the user's code in a message.
const LONGEST_ERROR: usize = 300;

pub(super) enum ReplicaSource {
    /// Hosts and sockets, of which some are names.
    List { elements: Vec<ListedReplica>, names: KnownNames },
    /// A file with a list.
    File { file: ReplicaFile, names: KnownNames },
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

/// The last addresses of the names in a list.
#[derive(Default)]
pub(super) struct KnownNames(Mutex<Vec<(HostAndPort, Vec<Address>)>>);

pub(super) struct OwnSource {
    discover: Arc<dyn Discover>,
    url: Arc<EndpointUrl>,
    /// The last good answer.
    known: Mutex<Option<Replicas>>,
}

impl ReplicaSource {
    pub(super) async fn look_up(&self) -> io::Result<FoundReplicas> {
        match self {
            Self::List { elements, names } => resolve(elements, names).await,
            Self::File { file, names } => resolve(&file.read().await.map_err(io::Error::other)?, names).await,
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
    let lookups = elements.iter().map(|element| -> BoxFuture<_> {
        match &element.place {
            ReplicaPlace::Host(host) => Box::pin(addresses_of(host.clone())),
            ReplicaPlace::Socket(socket) => Box::pin(std::future::ready(Ok(vec![socket.clone()]))),
        }
    });
    let results = all(lookups.collect()).await;
    let (mut replicas, mut failure): (Vec<ReplicaAddress>, Option<io::Error>) = (Vec::new(), None);
    let mut missing: Option<String> = None;
    for (element, result) in elements.iter().zip(results) {
        let addresses = match (&element.place, result) {
            (ReplicaPlace::Host(host), Ok(found)) => {
                names.keep(host, &found);
                found
            }
            (_, Ok(found)) => found,
            (place, Err(why)) => {
                let ReplicaPlace::Host(host) = place else { continue };
                missing.get_or_insert_with(|| format!("{}: {why}", quoted(&host.authority)));
                failure.get_or_insert(why);
                names.known(host)
            }
        };
        for address in addresses {
            add(&mut replicas, ReplicaAddress { address, url: Arc::clone(&element.url) });
        }
    }
    match failure {
        Some(why) if replicas.is_empty() => Err(why),
        // Of one name the last good answer is kept with its age.
        Some(why) if elements.len() == 1 => Err(why),
        _ => Ok(FoundReplicas { replicas, fresh_for: FRESH, missing }),
    }
}

/// The addresses of a host. The resolver of the system says nothing of their TTL.
async fn addresses_of(host: HostAndPort) -> io::Result<Vec<Address>> {
    if let Some(address) = host.address() {
        return Ok(vec![address]);
    }
    let not_found = |why| io::Error::new(io::ErrorKind::NotFound, why);
    if let Some(found) = simulated_world::resolve(&host.host, host.port) {
        return Ok(found?.into_iter().map(Address::from).collect());
    }
    let found =
        tokio::net::lookup_host((host.host.as_str(), host.port)).await.map_err(|why| not_found(why.to_string()))?;
    let found: Vec<_> = found.map(|address: SocketAddr| Address::from(address)).collect();
    if found.is_empty() { Err(not_found("the name has no address".to_owned())) } else { Ok(found) }
}

/// Awaits all of them at once.
async fn all<T>(mut futures: Vec<BoxFuture<T>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(done) = Pin::new(future).poll(cx)
            {
                *result = Some(done);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Two names may have one address. The first of them is used.
fn add(replicas: &mut Vec<ReplicaAddress>, replica: ReplicaAddress) {
    if !replicas.iter().any(|known| known.address == replica.address) {
        replicas.push(replica);
    }
}

impl KnownNames {
    fn known(&self, host: &HostAndPort) -> Vec<Address> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().find(|(known, _)| known == host).map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    fn keep(&self, host: &HostAndPort, addresses: &[Address]) {
        if host.address().is_some() {
            return;
        }
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|(known, _)| known != host);
        names.push((host.clone(), addresses.to_vec()));
    }
}
