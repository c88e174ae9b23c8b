//! What byname asks of etcd, over its JSON gateway: [`EtcdCluster`]. Which member is asked, and the messages.

mod gateway;
mod member_choice;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

pub(crate) use self::gateway::{KeyChange, Keys, LeaseId, WatchNews};
use self::member_choice::MemberChoice;
use crate::clock_and_chance::random_fraction;
use crate::etcd_url::EtcdUrl;
use crate::host_and_port::HostAndPort;
use crate::json_over_http::{JsonConnection, JsonRequest, JsonServer, JsonValues};

/// A cluster of etcd. One member is asked at a time, and another after a failure.
#[derive(Debug)]
pub(crate) struct EtcdCluster {
    url: EtcdUrl,
    servers: Vec<JsonServer>,
    choice: Mutex<MemberChoice>,
}

/// A connection to one member.
#[derive(Debug)]
pub(crate) struct EtcdConnection {
    server: JsonServer,
    connection: JsonConnection,
}

/// The changes below the prefix, from one member.
#[derive(Debug)]
pub(crate) struct EtcdWatch {
    server: JsonServer,
    values: JsonValues,
}

impl EtcdCluster {
    pub(crate) fn new(url: EtcdUrl) -> Self {
        let server = |member: &HostAndPort| JsonServer { host: member.host.clone(), port: member.port, tls: None };
        let servers: Vec<_> = url.members.iter().map(server).collect();
        let choice = Mutex::new(MemberChoice::new(servers.len(), random_fraction()));
        Self { url, servers, choice }
    }

    pub(crate) fn url(&self) -> &EtcdUrl {
        &self.url
    }

    pub(crate) fn members(&self) -> usize {
        self.servers.len()
    }

    /// How long to wait before the next member is asked, after a failure.
    pub(crate) fn pause(&self) -> Duration {
        self.choice().pause()
    }

    /// A new connection to the member that is asked now.
    pub(crate) async fn connect(&self) -> io::Result<EtcdConnection> {
        self.connect_beyond(0).await
    }

    /// A new connection to the member that is asked after this number of failures.
    pub(crate) async fn connect_beyond(&self, failures: usize) -> io::Result<EtcdConnection> {
        let member = (self.choice().current() + failures) % self.servers.len().max(1);
        let server = self.servers[member].clone();
        let connection = server.connect().await.map_err(|why| named(&server, why))?;
        Ok(EtcdConnection { server, connection })
    }

    /// The member has failed: another is asked next.
    pub(crate) fn failed(&self) {
        self.choice().failed(random_fraction());
    }

    /// The member does what it was asked for: the next failure is the first.
    pub(crate) fn answered(&self) {
        self.choice().answered();
    }

    fn choice(&self) -> MutexGuard<'_, MemberChoice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EtcdConnection {
    /// The keys below the prefix.
    pub(crate) async fn keys(&mut self, prefix: &str) -> io::Result<Keys> {
        let answer = self.ask(gateway::range(prefix)).await?;
        gateway::keys(&answer).ok_or_else(|| self.unknown(&answer))
    }

    /// Another connection to the same member.
    pub(crate) async fn beside(watch: &EtcdWatch) -> io::Result<Self> {
        let server = watch.server.clone();
        let connection = server.connect().await.map_err(|why| named(&server, why))?;
        Ok(Self { server, connection })
    }

    /// The changes below the prefix, from this revision.
    pub(crate) async fn watch(self, prefix: &str, revision: i64) -> io::Result<EtcdWatch> {
        let Self { server, connection } = self;
        let values = connection.stream(gateway::watch(prefix, revision)).await.map_err(|why| named(&server, why))?;
        Ok(EtcdWatch { server, values })
    }

    /// A new lease of this many seconds.
    pub(crate) async fn grant(&mut self, seconds: u64) -> io::Result<LeaseId> {
        let answer = self.ask(gateway::grant(seconds)).await?;
        gateway::granted(&answer).ok_or_else(|| self.unknown(&answer))
    }

    /// Whether the lease is alive. Then it lasts for its whole time again.
    pub(crate) async fn keep_alive(&mut self, lease: LeaseId) -> io::Result<bool> {
        let answer = self.ask(gateway::keep_alive(lease)).await?;
        gateway::is_alive(&answer).ok_or_else(|| self.unknown(&answer))
    }

    /// Whether this key is there, and ends with the lease.
    pub(crate) async fn has(&mut self, key: &str, lease: LeaseId) -> io::Result<bool> {
        let answer = self.ask(gateway::one_key(key)).await?;
        gateway::ends_with(&answer, lease).ok_or_else(|| self.unknown(&answer))
    }

    /// Ends the lease, and deletes its keys. It may have ended already.
    pub(crate) async fn revoke(&mut self, lease: LeaseId) -> io::Result<()> {
        let (status, answer) = self.exchange(gateway::revoke(lease)).await?;
        if gateway::is_not_found(&answer) {
            return Ok(());
        }
        self.accepted(status, answer).map(drop)
    }

    /// Writes a key that ends with the lease.
    pub(crate) async fn put(&mut self, key: &str, value: &str, lease: LeaseId) -> io::Result<()> {
        self.ask(gateway::put(key, value, lease)).await.map(drop)
    }

    pub(crate) async fn delete(&mut self, key: &str) -> io::Result<()> {
        self.ask(gateway::delete(key)).await.map(drop)
    }

    async fn ask(&mut self, request: JsonRequest) -> io::Result<Value> {
        let (status, answer) = self.exchange(request).await?;
        self.accepted(status, answer)
    }

    async fn exchange(&mut self, request: JsonRequest) -> io::Result<(StatusCode, Value)> {
        self.connection.ask(request).await.map_err(|why| named(&self.server, why))
    }

    /// The answer, unless it says that something is wrong.
    fn accepted(&self, status: StatusCode, answer: Value) -> io::Result<Value> {
        match gateway::error(&answer) {
            None if status.is_success() => Ok(answer),
            None => Err(self.unknown(&answer)),
            Some(why) => Err(named(&self.server, io::Error::other(why))),
        }
    }

    fn unknown(&self, answer: &Value) -> io::Error {
        named(&self.server, io::Error::new(io::ErrorKind::InvalidData, gateway::not_of_etcd(answer)))
    }
}

impl EtcdWatch {
    /// The next news. It waits for ever if there are none. A wait that is dropped loses nothing.
    pub(crate) async fn next(&mut self) -> io::Result<WatchNews> {
        let value = self.values.next().await.map_err(|why| named(&self.server, why))?;
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the watch has ended");
        let value = value.ok_or_else(ended).map_err(|why| named(&self.server, why))?;
        if let Some(why) = gateway::error(&value) {
            return Err(named(&self.server, io::Error::other(why)));
        }
        gateway::news(&value).ok_or_else(|| {
            named(&self.server, io::Error::new(io::ErrorKind::InvalidData, gateway::not_of_etcd(&value)))
        })
    }
}

fn named(server: &JsonServer, why: io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("etcd at {server}: {why}"))
}
