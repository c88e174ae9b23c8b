//! One address of a service: its idle HTTP connections, and what its answers have said of it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::coded_bodies::CodedBodies;
use super::connection_pool::ConnectionPool;
use super::endpoint_url::EndpointUrl;
use super::http_instance_search::ConnectionInstance;
use super::http1_connection::Http1Connection;
use super::idle_connection_sweeper::Sweeper;
use super::replica_address::ReplicaAddress;
use crate::address::Address;
use crate::deadline::DeadlineTimer;
use crate::wire::headers::{AnsweringServer, KeySharing};

/// One address of a service.
pub(super) struct Endpoint {
    address: Address,
    /// How calls to it are addressed.
    url: Arc<EndpointUrl>,
    /// It is among the replicas of the service.
    is_listed: AtomicBool,
    pool: Arc<Mutex<ConnectionPool<IdleHttpConnection, Id>>>,
    sweeper: Sweeper,
    /// The server there takes calls by path.
    takes_paths: AtomicBool,
    /// Which servers know the replies of calls with a key, as its server has said. It is read and written as a whole.
    keys: AtomicU8,
    /// If bodies are compressed: which requests the server there accepts.
    coded: Option<CodedBodies>,
}

/// A connection that no call uses, and what stays with it from call to call.
pub(super) struct IdleHttpConnection {
    pub(super) http1: Http1Connection,
    /// The runtime that opened it. Only that runtime learns when the socket is ready.
    pub(super) runtime: Handle,
    /// Waits for the deadline of each call in turn.
    pub(super) timer: DeadlineTimer,
    /// The server at its other end.
    pub(super) instance: ConnectionInstance,
}

impl Endpoint {
    pub(super) fn new(ReplicaAddress { address, url }: ReplicaAddress, compress: bool) -> Self {
        Self {
            address,
            url,
            is_listed: AtomicBool::new(true),
            pool: Arc::new(Mutex::new(ConnectionPool::new())),
            sweeper: Sweeper::new(),
            takes_paths: AtomicBool::new(false),
            keys: AtomicU8::new(keys_number(None)),
            coded: compress.then(CodedBodies::default),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is at the address of this replica, and calls to it are addressed in the same way.
    pub(super) fn is_of(&self, replica: &ReplicaAddress) -> bool {
        self.address == replica.address && self.url == replica.url
    }

    pub(super) fn url(&self) -> &Arc<EndpointUrl> {
        &self.url
    }

    pub(super) fn is_listed(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
    }

    pub(super) fn set_listed(&self, is_listed: bool) {
        self.is_listed.store(is_listed, Ordering::Relaxed);
    }

    pub(super) fn takes_paths(&self) -> bool {
        self.takes_paths.load(Ordering::Relaxed)
    }

    pub(super) fn keys(&self) -> Option<KeySharing> {
        let number = self.keys.load(Ordering::Relaxed);
        [KeySharing::Own, KeySharing::Shared].into_iter().find(|keys| keys_number(Some(*keys)) == number)
    }

    pub(super) fn coded(&self) -> Option<&CodedBodies> {
        self.coded.as_ref()
    }

    /// Notes what the server there offers.
    pub(super) fn learn(&self, server: &AnsweringServer, headers: &HeaderMap) {
        if server.takes_paths != self.takes_paths() {
            self.takes_paths.store(server.takes_paths, Ordering::Relaxed);
        }
        // Only answers to calls with a key say it.
        if server.keys.is_some() {
            self.keys.store(keys_number(server.keys), Ordering::Relaxed);
        }
        if let Some(coded) = &self.coded {
            coded.learn(headers);
        }
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, ConnectionPool<IdleHttpConnection, Id>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection until then. Its turn is its place among all connections of the service.
    pub(super) fn keep(&self, connection: IdleHttpConnection, turn: u64, until: Instant) {
        let owner = connection.runtime.id();
        let mut pool = self.pool();
        let sweeps_on = self.sweeper.begins().then(|| connection.runtime.clone());
        let instance = connection.instance.id();
        pool.put(connection, owner, instance, turn, until);
        drop(pool);
        if let Some(runtime) = sweeps_on {
            self.sweeper.start(&self.pool, &runtime, until);
        }
    }
}

/// How it is kept in an atomic number.
fn keys_number(keys: Option<KeySharing>) -> u8 {
    match keys {
        None => 0,
        Some(KeySharing::Own) => 1,
        Some(KeySharing::Shared) => 2,
    }
}
