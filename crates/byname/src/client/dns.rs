//! Names and SRV records, asked from the servers of DNS, which say how long an answer holds.

#[cfg(test)]
mod fake_dns_server;
mod name_resolver;
mod record_answer;
mod search_list;
mod srv_source;
mod srv_targets;

use std::time::Duration;

pub(super) use self::name_resolver::NameResolver;
pub(super) use self::srv_source::SrvSource;

/// An answer with a shorter TTL holds as long as this.
const SHORTEST: Duration = Duration::from_secs(1);

/// An answer with a longer TTL holds as long as this. Connections of frames follow a change up to ten seconds later, and the
/// calls are to follow within thirty.
const LONGEST: Duration = Duration::from_secs(20);

/// How long an answer with this TTL holds, in seconds.
fn fresh_for(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hickory_resolver::Hosts;
    use hickory_resolver::proto::op::ResponseCode;
    use hickory_resolver::proto::rr::RecordType;

    use super::fake_dns_server::FakeDnsServer;
    use super::name_resolver::ResolverSetup;
    use super::*;
    use crate::address::Address;
    use crate::client::discover::FRESH;
    use crate::client::discovery::Discovery;
    use crate::client::name_addresses::NameAddresses;
    use crate::client::replica_address::ListedReplica;
    use crate::client::replica_source::{KnownNames, ReplicaSource};
    use crate::host_and_port::HostAndPort;
    use crate::replica_line::ReplicaPlace;

    fn hosts(content: &str) -> Hosts {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(content.as_bytes()).unwrap();
        hosts
    }

    async fn found(resolver: &NameResolver, name: &str) -> Result<NameAddresses, String> {
        let host = HostAndPort { host: name.to_owned(), port: 80, authority: format!("{name}:80") };
        resolver.addresses(&host).await.map_err(|why| why.to_string())
    }

    fn shown(addresses: &[Address]) -> String {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The addresses of a name at port 80, and what was asked for them.
    async fn addresses(server: &FakeDnsServer, name: &str) -> (String, Vec<String>) {
        server.asked();
        let result = found(&server.resolver(Hosts::default()), name).await;
        let mut asked = server.asked();
        asked.sort();
        (result.map_or_else(|why| why, |found| shown(&found.addresses)), asked)
    }

    /// The targets as `place host-header`.
    async fn targets(server: &FakeDnsServer, url: &str) -> Result<(Vec<String>, Duration), String> {
        let source = SrvSource::asking(url, server.resolver(Hosts::default()));
        let (listed, fresh_for) = source.look_up().await.map_err(|why| why.to_string())?;
        let shown = |replica: &ListedReplica| {
            let host = replica.place.host().unwrap();
            format!("{} {}{}", host.authority, replica.url.authority.to_str().unwrap(), replica.url.path)
        };
        Ok((listed.iter().map(shown).collect(), fresh_for))
    }

    #[tokio::test]
    async fn an_answer_holds_as_long_as_its_ttl_within_bounds() {
        let server = FakeDnsServer::new().await;
        for (ttl, seconds) in [(0, 1), (1, 1), (7, 7), (20, 20), (21, 20), (300, 20)] {
            server.addresses("orders.test.", ttl, &["10.0.0.1", "fd00::1"]);
            let found = found(&server.resolver(Hosts::default()), "orders.test").await.unwrap();
            assert_eq!(found.fresh_for, Duration::from_secs(seconds), "{ttl}");
            assert_eq!((shown(&found.addresses).as_str(), found.missing), ("10.0.0.1:80 [fd00::1]:80", None));
        }
        server.alias("shop.test.", 3, "orders.test.");
        let found = found(&server.resolver(Hosts::default()), "shop.test").await.unwrap();
        assert_eq!((shown(&found.addresses).as_str(), found.fresh_for.as_secs()), ("10.0.0.1:80 [fd00::1]:80", 3));
    }

    #[tokio::test]
    async fn the_hosts_file_is_read_first_and_localhost_is_both_loopback_addresses() {
        let server = FakeDnsServer::new().await;
        server.addresses("orders.test.", 60, &["10.0.0.1"]);
        let resolver = server.resolver(hosts("10.0.0.9 Orders.test other\nfd00::9 orders.test\n10.9.9.9 localhost\n"));
        let listed = found(&resolver, "orders.TEST").await.unwrap();
        assert_eq!((shown(&listed.addresses).as_str(), listed.fresh_for), ("10.0.0.9:80 [fd00::9]:80", FRESH));
        assert_eq!(shown(&found(&resolver, "other").await.unwrap().addresses), "10.0.0.9:80");
        for localhost in ["localhost", "LOCALHOST.", "a.localhost"] {
            let both = found(&resolver, localhost).await.unwrap().addresses;
            assert_eq!(shown(&both), "127.0.0.1:80 [::1]:80", "{localhost}");
        }
        assert_eq!(server.asked(), [""; 0]);
    }

    #[tokio::test]
    async fn the_hosts_file_is_enough_without_servers() {
        let setup = ResolverSetup { hosts: hosts("10.0.0.9 orders.test"), servers: Err("no file".into()) };
        let resolver = NameResolver::of(setup);
        assert_eq!(shown(&found(&resolver, "orders.test").await.unwrap().addresses), "10.0.0.9:80");
        let why = found(&resolver, "other.test").await.unwrap_err();
        assert_eq!(why, "failed to lookup address information: no file");
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let both = found(&NameResolver::default(), "localhost").await.unwrap().addresses;
        assert_eq!(shown(&both), "127.0.0.1:80 [::1]:80");
    }

    #[tokio::test]
    async fn a_name_is_completed_only_where_servers_say_that_it_is_not_there() {
        let server = FakeDnsServer::new().await;
        server.addresses("orders.search.test.", 60, &["10.0.0.1"]);
        let (first, second) = (["orders.search.test. A", "orders.search.test. AAAA"], ["orders. A", "orders. AAAA"]);
        assert_eq!(addresses(&server, "orders").await, ("10.0.0.1:80".into(), first.map(Into::into).into()));
        let (none, asked) = addresses(&server, "orders.").await;
        let missing = "failed to lookup address information: the name is not in DNS";
        assert_eq!((none.as_str(), asked), (missing, second.map(Into::into).into()));
        server.addresses("a.orders.", 60, &[]);
        let (none, asked) = addresses(&server, "a.orders").await;
        assert!(none.ends_with("the name has no address in DNS") && asked.len() == 4, "{none} {asked:?}");

        // A server that refuses to tell is no end, as in the resolver of the system.
        for kind in [RecordType::A, RecordType::AAAA] {
            server.code("orders.search.test.", kind, ResponseCode::ServFail);
        }
        let (failed, asked) = addresses(&server, "orders").await;
        assert!(failed.contains("Server Failure") && asked.len() == 4, "{failed} {asked:?}");
        server.addresses("orders.", 60, &["10.0.0.2"]);
        assert_eq!(addresses(&server, "orders").await.0, "10.0.0.2:80");
        server.silence();
        server.asked();
        let late =
            found(&server.resolver_within(Hosts::default(), Duration::from_millis(100)), "orders").await.unwrap_err();
        assert!(late.contains("timed out"), "{late}");
        assert!(server.asked().iter().all(|asked| asked.starts_with("orders.search.test.")));
    }

    #[tokio::test]
    async fn an_answer_in_parts_says_what_is_missing_and_does_not_hold_long() {
        let server = FakeDnsServer::new().await;
        server.addresses("orders.test.", 60, &["10.0.0.1", "fd00::1"]);
        server.code("orders.test.", RecordType::AAAA, ResponseCode::ServFail);
        let part = found(&server.resolver(Hosts::default()), "orders.test").await.unwrap();
        assert_eq!((shown(&part.addresses).as_str(), part.fresh_for), ("10.0.0.1:80", FRESH));
        assert!(part.missing.as_ref().unwrap().starts_with("its AAAA records: "), "{part:?}");
    }

    #[tokio::test]
    async fn a_truncated_answer_is_asked_for_over_tcp() {
        let server = FakeDnsServer::new().await;
        let all: Vec<_> = (1..=200).map(|last| format!("10.0.0.{last}")).collect();
        server.addresses("orders.test.", 60, &all.iter().map(String::as_str).collect::<Vec<_>>());
        server.truncate();
        let (found, asked) = addresses(&server, "orders.test").await;
        assert_eq!(found.split(' ').count(), 200);
        assert_eq!(asked, ["orders.test. A", "orders.test. A/tcp", "orders.test. AAAA", "orders.test. AAAA/tcp"]);
    }

    #[tokio::test]
    async fn what_is_no_name_of_dns_says_so() {
        let server = FakeDnsServer::new().await;
        let (why, asked) = addresses(&server, &"x".repeat(64)).await;
        assert!(why.contains("is not a name of DNS") && asked.is_empty(), "{why} {asked:?}");
    }

    #[tokio::test]
    async fn srv_targets_of_the_lowest_priority_are_replicas() {
        let server = FakeDnsServer::new().await;
        let name = "_rpc._tcp.orders.test.";
        server.targets(name, 9, &[(2, 9, 80, "spare.test."), (1, 0, 81, "a.test."), (1, 9, 82, "b.test.")]);
        let url = "srv://_rpc._tcp.orders.test?endpoint=/shop";
        let (listed, fresh_for) = targets(&server, url).await.unwrap();
        assert_eq!(listed, ["a.test.:81 orders.test:81/shop", "b.test.:82 orders.test:82/shop"]);
        assert_eq!(fresh_for.as_secs(), 9);

        // Addresses that are sent along are not asked for.
        server.along("a.test.", 4, "10.0.0.1");
        server.along("a.test.", 8, "fd00::1");
        let (listed, fresh_for) = targets(&server, url).await.unwrap();
        let both = ["10.0.0.1:81 orders.test:81/shop", "[fd00::1]:81 orders.test:81/shop"];
        assert_eq!((&listed[..2], listed[2].as_str()), (&both.map(String::from)[..], "b.test.:82 orders.test:82/shop"));
        assert_eq!(fresh_for.as_secs(), 4);

        server.alias("_rpc._tcp.shop.test.", 3, name);
        let (listed, fresh_for) = targets(&server, "srv://_rpc._tcp.shop.test").await.unwrap();
        assert_eq!((listed[0].as_str(), fresh_for.as_secs()), ("10.0.0.1:81 shop.test:81/rpc", 3));
    }

    #[tokio::test]
    async fn aliases_are_followed_up_to_a_limit() {
        let server = FakeDnsServer::new().await;
        let name = |at: usize| format!("_rpc._tcp.a{at}.test.");
        server.targets(&name(9), 9, &[(1, 1, 81, "a.test.")]);
        for at in 0..9 {
            server.alias(&name(at), 60, &name(at + 1));
        }
        let (listed, _) = targets(&server, "srv://_rpc._tcp.a1.test").await.unwrap();
        assert_eq!(listed, ["a.test.:81 a1.test:81/rpc"]);
        targets(&server, "srv://_rpc._tcp.a0.test").await.expect_err("there are nine aliases");
    }

    #[tokio::test]
    async fn an_alias_that_is_not_answered_is_a_failure_and_no_other_name_stands_for_it() {
        let server = FakeDnsServer::new().await;
        server.targets("_rpc._tcp.orders.test.search.test.", 9, &[(1, 1, 81, "other.test.")]);
        let url = "srv://_rpc._tcp.orders.test";
        let resolver = || server.resolver_within(Hosts::default(), Duration::from_millis(100));
        // The name is an alias, whose own query fails.
        server.alias("_rpc._tcp.orders.test.", 9, "_rpc._tcp.gone.test.");
        server.silence_of("_rpc._tcp.orders.test.", RecordType::CNAME);
        let why = SrvSource::asking(url, resolver()).look_up().await.expect_err("it is not known").to_string();
        assert!(why.contains("timed out"), "{why}");
        server.forget();
        server.alias("_rpc._tcp.orders.test.", 9, "_rpc._tcp.gone.test.");
        server.code("_rpc._tcp.orders.test.", RecordType::CNAME, ResponseCode::ServFail);
        let why = SrvSource::asking(url, resolver()).look_up().await.expect_err("it is not known").to_string();
        assert!(why.contains("Server Failure"), "{why}");
    }

    #[tokio::test]
    async fn more_targets_than_are_looked_up_at_once_are_found() {
        let server = FakeDnsServer::new().await;
        let names: Vec<_> = (1..=70).map(|at| format!("a{at}.test.")).collect();
        server.targets(
            "_rpc._tcp.orders.test.",
            9,
            &names.iter().map(|name| (1, 1, 81, name.as_str())).collect::<Vec<_>>(),
        );
        for (at, name) in names.iter().enumerate() {
            server.addresses(name, 60, &[&format!("10.0.0.{}", at + 1)]);
        }
        let answer = discovery_of_targets(&server).answer().await.unwrap();
        assert_eq!(answer.addresses().len(), 70);
    }

    #[tokio::test]
    async fn srv_records_that_name_no_target_say_why() {
        let server = FakeDnsServer::new().await;
        server.targets("_rpc._tcp.gone.test.", 9, &[(0, 0, 0, ".")]);
        for (url, reason) in [
            ("srv://_rpc._tcp.gone.test", "the service is not available"),
            ("srv://_rpc._tcp.none.test", "there are no SRV records of `_rpc._tcp.none.test` in DNS"),
        ] {
            let why = targets(&server, url).await.unwrap_err();
            assert!(why.contains(reason), "{why}");
        }
        server.code("_rpc._tcp.gone.test.", RecordType::SRV, ResponseCode::ServFail);
        assert!(targets(&server, "srv://_rpc._tcp.gone.test").await.unwrap_err().contains("Server Failure"));
    }

    fn discovery_of_a_name(server: &FakeDnsServer) -> Discovery {
        let url = crate::client::service_url::ServiceUrl::parse("orders.test:80").unwrap();
        let urls = crate::client::endpoint_url::EndpointUrls::new(&url, None);
        let host = HostAndPort { host: "orders.test".into(), port: 80, authority: "orders.test:80".into() };
        let place = ReplicaPlace::Host(host);
        let url = std::sync::Arc::new(urls.of(&place, Default::default()).unwrap());
        let names = KnownNames::asking(server.resolver(Hosts::default()));
        Discovery::new(
            "orders.test".into(),
            ReplicaSource::List { elements: vec![ListedReplica { place, url }], names },
        )
    }

    fn discovery_of_targets(server: &FakeDnsServer) -> Discovery {
        let resolver = server.resolver(Hosts::default());
        let records = Box::new(SrvSource::asking("srv://_rpc._tcp.orders.test", resolver.clone()));
        Discovery::new("orders.test".into(), ReplicaSource::Srv { records, names: KnownNames::asking(resolver) })
    }

    /// Uses the service until it is at this address alone.
    async fn until(discovery: &Discovery, address: &str) {
        let expected = Address::from(address.parse::<SocketAddr>().unwrap());
        let seen = async {
            while discovery.used().unwrap().addresses() != [expected.clone()] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect(address);
    }

    #[tokio::test]
    async fn a_change_is_noticed_when_the_ttl_is_over() {
        let server = FakeDnsServer::new().await;
        server.addresses("orders.test.", 1, &["10.0.0.1"]);
        server.targets("_rpc._tcp.orders.test.", 1, &[(1, 1, 81, "orders.test.")]);
        let (name, targets) = (discovery_of_a_name(&server), discovery_of_targets(&server));
        assert_eq!(shown(&name.answer().await.unwrap().addresses()), "10.0.0.1:80");
        assert_eq!(shown(&targets.answer().await.unwrap().addresses()), "10.0.0.1:81");
        server.addresses("orders.test.", 1, &["10.0.0.2"]);
        until(&name, "10.0.0.2:80").await;
        until(&targets, "10.0.0.2:81").await;
        server.targets("_rpc._tcp.orders.test.", 1, &[(1, 1, 82, "orders.test.")]);
        until(&targets, "10.0.0.2:82").await;
    }

    #[tokio::test]
    async fn a_family_that_is_not_found_keeps_its_last_addresses() {
        let server = FakeDnsServer::new().await;
        server.addresses("orders.test.", 1, &["10.0.0.1", "fd00::1"]);
        let discovery = discovery_of_a_name(&server);
        discovery.answer().await.unwrap();
        server.addresses("orders.test.", 1, &["10.0.0.2"]);
        server.code("orders.test.", RecordType::AAAA, ResponseCode::ServFail);
        let failed = async {
            while discovery.known().unwrap().2.is_none() {
                discovery.used().unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), failed).await.unwrap();
        let (answer, _, failure) = discovery.known().unwrap();
        assert_eq!(shown(&answer.addresses()), "10.0.0.2:80 [fd00::1]:80");
        assert!(failure.as_ref().unwrap().starts_with("`orders.test:80`: its AAAA records: "), "{failure:?}");
    }

    #[tokio::test]
    async fn the_last_answer_is_kept_when_the_name_is_gone() {
        let server = FakeDnsServer::new().await;
        server.addresses("orders.test.", 1, &["10.0.0.1"]);
        server.targets("_rpc._tcp.orders.test.", 1, &[(1, 1, 81, "orders.test.")]);
        let (name, targets) = (discovery_of_a_name(&server), discovery_of_targets(&server));
        name.answer().await.unwrap();
        targets.answer().await.unwrap();
        server.forget();
        for (discovery, address, reason) in
            [(name, "10.0.0.1:80", "the name is not in DNS"), (targets, "10.0.0.1:81", "there are no SRV records")]
        {
            let failed = async {
                while discovery.known().unwrap().2.is_none() {
                    assert_eq!(shown(&discovery.used().unwrap().addresses()), address);
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), failed).await.unwrap();
            let (answer, _, failure) = discovery.known().unwrap();
            assert_eq!(shown(&answer.addresses()), address);
            assert!(failure.as_ref().unwrap().contains(reason), "{failure:?}");
        }
    }
}
