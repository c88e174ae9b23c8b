//! The replicas that SRV records name: [`SrvSource`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::fresh_for;
use super::name_resolver::NameResolver;
use super::record_answer::{RecordAnswer, shortest_ttl};
use super::srv_targets::{SrvTarget, preferred};
use crate::client::endpoint_url::EndpointUrls;
use crate::client::replica_address::ListedReplica;
#[cfg(test)]
use crate::client::service_url::ServicePlace;
use crate::client::service_url::ServiceUrl;
use crate::error::{Code, Error};
use crate::host_and_port::HostAndPort;
use crate::replica_line::{AddressOptions, ReplicaPlace};
use crate::untrusted_text::quoted;

/// How many aliases are followed to the records.
const MOST_ALIASES: usize = 8;

/// SRV records as a source of replicas. The targets of the lowest priority are used, whatever their weights are.
pub(in crate::client) struct SrvSource {
    name: Name,
    /// What servers see as the host, and the name in their certificates: the name without the service and the protocol. What
    /// DNS answers does not decide which certificates are accepted.
    domain: String,
    urls: EndpointUrls,
    resolver: NameResolver,
}

impl SrvSource {
    /// `name` is `_service._protocol.domain`.
    pub(in crate::client) fn new(name: &str, url: &ServiceUrl, urls: EndpointUrls) -> Result<Self, Error> {
        let invalid = |why: String| Error::refused(Code::InvalidArgument, format!("{}: {why}", url.shown()));
        let parsed = Name::from_ascii(name).map_err(|why| invalid(format!("it is not a name of DNS: {why}")))?;
        let domain = name.splitn(3, '.').nth(2).unwrap_or(name).trim_end_matches('.').to_owned();
        let source = Self { name: parsed, domain, urls, resolver: NameResolver::default() };
        // A certificate can't be checked without a name that TLS knows.
        source.listed(String::from("target"), 1)?;
        Ok(source)
    }

    /// The targets, and how long the records hold.
    pub(in crate::client) async fn look_up(&self) -> io::Result<(Vec<ListedReplica>, Duration)> {
        let (found, ttl) = self.records().await.map_err(io::Error::other)?;
        let mut targets: Vec<SrvTarget> = Vec::new();
        for record in found.answers() {
            if let RData::SRV(srv) = &record.data {
                targets.push(SrvTarget { priority: srv.priority, name: srv.target.clone(), port: srv.port });
            }
        }
        let targets = preferred(targets).map_err(io::Error::other)?;
        let (mut listed, mut ttl) = (Vec::with_capacity(targets.len()), ttl);
        for target in targets {
            // A server may send the addresses along with the records.
            let along = found.additionals().iter().filter(|record| record.name == target.name);
            let along: Vec<_> = along.filter_map(|record| Some((record.data.ip_addr()?, record.ttl))).collect();
            if along.is_empty() {
                listed.push(self.listed(target.name.to_ascii(), target.port).map_err(io::Error::other)?);
            }
            for (ip, own_ttl) in along {
                ttl = ttl.min(own_ttl);
                listed.push(self.listed(ip.to_string(), target.port).map_err(io::Error::other)?);
            }
        }
        Ok((listed, fresh_for(ttl)))
    }

    /// An answer with SRV records, and its TTL.
    async fn records(&self) -> Result<(Lookup, u32), String> {
        let queries = self.resolver.queries().await.map_err(|why| why.to_string())?;
        let mut failure = None;
        for candidate in queries.candidates(&self.name) {
            let (mut name, mut ttl) = (candidate, u32::MAX);
            for _ in 0..=MOST_ALIASES {
                match queries.records(name.clone(), RecordType::SRV).await {
                    RecordAnswer::Found(found) => {
                        let ttl = ttl.min(shortest_ttl(found.answers(), RecordType::SRV));
                        return Ok((found, ttl));
                    }
                    RecordAnswer::Absent { .. } => {}
                    RecordAnswer::Failed { why, is_answered: true } => _ = failure.get_or_insert(why),
                    // Another name must not stand for this one because a server is silent.
                    RecordAnswer::Failed { why, .. } => return Err(failure.unwrap_or(why)),
                }
                // The resolver does not follow an alias to SRV records that are in the same answer.
                let alias = match queries.records(name, RecordType::CNAME).await {
                    RecordAnswer::Found(alias) => alias,
                    RecordAnswer::Absent { .. } => break,
                    RecordAnswer::Failed { why, is_answered: true } => {
                        failure.get_or_insert(why);
                        break;
                    }
                    RecordAnswer::Failed { why, .. } => return Err(failure.unwrap_or(why)),
                };
                let Some(next) = alias.answers().iter().find_map(aliased) else { break };
                ttl = ttl.min(shortest_ttl(alias.answers(), RecordType::CNAME));
                name = next;
            }
        }
        let missing = || format!("there are no SRV records of {} in DNS", quoted(&self.name.to_ascii()));
        Err(failure.unwrap_or_else(missing))
    }

    fn listed(&self, host: String, port: u16) -> Result<ListedReplica, Error> {
        let called = HostAndPort { authority: format!("{}:{port}", self.domain), host: self.domain.clone(), port };
        let url = Arc::new(self.urls.of(&ReplicaPlace::Host(called), AddressOptions::default())?);
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Ok(ListedReplica { place: ReplicaPlace::Host(HostAndPort { host, port, authority }), url })
    }
}

fn aliased(record: &Record) -> Option<Name> {
    if let RData::CNAME(alias) = &record.data { Some(alias.0.clone()) } else { None }
}

#[cfg(test)]
impl SrvSource {
    /// The records of this URL, asked by this resolver.
    pub(in crate::client) fn asking(url: &str, resolver: NameResolver) -> Self {
        let url = ServiceUrl::parse(url).unwrap();
        let ServicePlace::Srv(name) = &url.place else { panic!("it has no SRV records: {url:?}") };
        Self { resolver, ..Self::new(name, &url, EndpointUrls::new(&url, None)).unwrap() }
    }
}
