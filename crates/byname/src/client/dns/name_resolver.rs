//! The addresses of names, from the hosts file and from DNS: [`NameResolver`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};

use super::fresh_for;
use super::record_answer::{RecordAnswer, shortest_ttl};
use super::search_list::candidates;
use crate::address::Address;
use crate::client::await_all::await_all;
use crate::client::discover::FRESH;
use crate::client::name_addresses::{NameAddresses, not_found};
use crate::host_and_port::HostAndPort;
use crate::runtime::BoxFuture;

/// Looks up names: in the hosts file, then in DNS. It keeps no answer, because discovery does. The files of the system are read
/// for each lookup, so that a change of them is noticed, and no connection to a server of DNS outlives a runtime.
#[derive(Clone, Default)]
pub(in crate::client) struct NameResolver {
    /// In place of the system's.
    given: Option<Arc<ResolverSetup>>,
}

/// What the files of the system say.
pub(super) struct ResolverSetup {
    pub(super) hosts: Hosts,
    pub(super) servers: Result<DnsServers, String>,
}

/// Which servers are asked, and how.
pub(super) struct DnsServers {
    pub(super) config: ResolverConfig,
    pub(super) options: ResolverOpts,
}

/// Asks for the records of one lookup.
pub(super) struct RecordQueries {
    config: ResolverConfig,
    ndots: usize,
    resolver: TokioResolver,
}

impl NameResolver {
    /// The addresses of a name.
    pub(in crate::client) async fn addresses(&self, host: &HostAndPort) -> io::Result<NameAddresses> {
        let name = Name::from_ascii(&host.host).map_err(|why| not_found(&format!("it is not a name of DNS: {why}")))?;
        // RFC 6761: no server is asked for it.
        if name.is_localhost() {
            let both = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(NameAddresses { addresses: at(host, both), fresh_for: FRESH, missing: None });
        }
        let setup = self.setup().await?;
        let listed = addresses_in(&setup.hosts, &name);
        if !listed.is_empty() {
            return Ok(NameAddresses { addresses: at(host, listed), fresh_for: FRESH, missing: None });
        }
        let queries = RecordQueries::new(&setup)?;
        let (mut failure, mut name_exists) = (None, false);
        for candidate in queries.candidates(&name) {
            let (v4, v6) = queries.addresses(candidate).await;
            if let Some(found) = joined(host, &v4, &v6) {
                return Ok(found);
            }
            for answer in [v4, v6] {
                match answer {
                    RecordAnswer::Absent { name_exists: exists } => name_exists |= exists,
                    RecordAnswer::Failed { why, is_answered: true } => _ = failure.get_or_insert(why),
                    // Another name must not stand for this one because a server is silent.
                    RecordAnswer::Failed { why, .. } => return Err(not_found(&failure.unwrap_or(why))),
                    RecordAnswer::Found(_) => {}
                }
            }
        }
        Err(not_found(&match failure {
            Some(why) => why,
            None if name_exists => "the name has no address in DNS".to_owned(),
            None => "the name is not in DNS".to_owned(),
        }))
    }

    /// What lookups of other records need.
    pub(super) async fn queries(&self) -> io::Result<RecordQueries> {
        RecordQueries::new(&*self.setup().await?)
    }

    async fn setup(&self) -> io::Result<Arc<ResolverSetup>> {
        match &self.given {
            Some(given) => Ok(Arc::clone(given)),
            None => crate::runtime::run_blocking(ResolverSetup::of_the_system).await.map_err(io::Error::other),
        }
    }

    /// Asks these servers in place of the system's.
    #[cfg(test)]
    pub(super) fn of(setup: ResolverSetup) -> Self {
        Self { given: Some(Arc::new(setup)) }
    }
}

impl ResolverSetup {
    fn of_the_system() -> Arc<Self> {
        let servers = match system_conf::read_system_conf() {
            Ok((config, options)) => Ok(DnsServers { config, options }),
            Err(why) => Err(format!("can't read which servers of DNS this system uses: {why}")),
        };
        Arc::new(Self { hosts: Hosts::from_system().unwrap_or_default(), servers })
    }
}

impl RecordQueries {
    fn new(setup: &ResolverSetup) -> io::Result<Self> {
        let DnsServers { config, options } = setup.servers.as_ref().map_err(|why| not_found(why))?;
        let mut building = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
        let mut changed = options.clone();
        changed.cache_size = 0;
        changed.use_hosts_file = ResolveHosts::Never;
        // There are no statistics about the servers at the first query.
        changed.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        *building.options_mut() = changed;
        let resolver = building.build().map_err(|why| not_found(&format!("can't ask DNS: {why}")))?;
        Ok(Self { config: config.clone(), ndots: options.ndots, resolver })
    }

    /// The names to ask for, one after the other.
    pub(super) fn candidates(&self, name: &Name) -> Vec<Name> {
        candidates(name, &self.config, self.ndots)
    }

    pub(super) async fn records(&self, name: Name, kind: RecordType) -> RecordAnswer {
        RecordAnswer::of(&self.resolver, name, kind).await
    }

    /// The records of both families.
    async fn addresses(&self, name: Name) -> (RecordAnswer, RecordAnswer) {
        let both = [RecordType::A, RecordType::AAAA].map(|kind| -> BoxFuture<_> {
            let (resolver, name) = (self.resolver.clone(), name.clone());
            Box::pin(async move { RecordAnswer::of(&resolver, name, kind).await })
        });
        let mut answers = await_all(both.into()).await.into_iter();
        let absent = || RecordAnswer::Absent { name_exists: false };
        (answers.next().unwrap_or_else(absent), answers.next().unwrap_or_else(absent))
    }
}

/// What is known of a name whose A and AAAA records were asked for, if there is an address.
fn joined(host: &HostAndPort, v4: &RecordAnswer, v6: &RecordAnswer) -> Option<NameAddresses> {
    let (mut found, mut ttl, mut missing) = (Vec::new(), u32::MAX, None);
    for (answer, kind) in [(v4, RecordType::A), (v6, RecordType::AAAA)] {
        match answer {
            RecordAnswer::Found(lookup) => {
                found.extend(ips(lookup));
                ttl = ttl.min(shortest_ttl(lookup.answers(), kind));
            }
            RecordAnswer::Absent { .. } => {}
            RecordAnswer::Failed { why, .. } => missing = Some(format!("its {kind} records: {why}")),
        }
    }
    let longest = if missing.is_some() { FRESH } else { Duration::MAX };
    let fresh_for = fresh_for(ttl).min(longest);
    (!found.is_empty()).then(|| NameAddresses { addresses: at(host, found), fresh_for, missing })
}

/// The addresses of a name in the hosts file, IPv4 first.
fn addresses_in(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let of_kind = |kind| hosts.lookup_static_host(&Query::query(name.to_lowercase(), kind));
    [RecordType::A, RecordType::AAAA].into_iter().filter_map(of_kind).flat_map(|found| ips(&found)).collect()
}

fn ips(found: &Lookup) -> Vec<IpAddr> {
    found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

fn at(host: &HostAndPort, ips: Vec<IpAddr>) -> Vec<Address> {
    ips.into_iter().map(|ip| SocketAddr::new(ip, host.port).into()).collect()
}
