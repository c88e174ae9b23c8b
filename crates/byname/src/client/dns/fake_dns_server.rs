//! A server of DNS for tests, on loopback, over UDP and TCP: [`FakeDnsServer`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::name_resolver::{DnsServers, NameResolver, ResolverSetup};

/// Answers what the test has set. A name that it does not know is answered with NXDOMAIN.
pub(super) struct FakeDnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct Zone {
    records: BTreeMap<(Name, RecordType), Vec<Record>>,
    /// Sent along with every answer.
    additionals: Vec<Record>,
    /// Names and types that are answered with this code.
    codes: BTreeMap<(Name, RecordType), ResponseCode>,
    /// Over UDP every answer is empty and says that it is truncated.
    is_truncated: bool,
    /// Nothing is answered.
    is_silent: bool,
    /// Names and types that are not answered.
    silent: Vec<(Name, RecordType)>,
    /// The types that were asked for, with `/tcp` if it was over TCP.
    asked: Vec<String>,
}

impl FakeDnsServer {
    pub(super) async fn new() -> Self {
        let zone = Arc::<Mutex<Zone>>::default();
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The port may be taken for UDP.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let (by_udp, by_tcp) = (Arc::clone(&zone), Arc::clone(&zone));
        let over_udp = tokio::spawn(async move {
            let mut query = vec![0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut query).await {
                if let Some(answer) = by_udp.lock().unwrap().answer(&query[..length], false) {
                    udp.try_send_to(&answer, from).unwrap();
                }
            }
        });
        let over_tcp = tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&by_tcp)));
            }
        });
        Self { address, zone, tasks: [over_udp, over_tcp] }
    }

    /// A resolver that asks this server.
    pub(super) fn resolver(&self, hosts: Hosts) -> NameResolver {
        self.resolver_within(hosts, Duration::from_secs(10))
    }

    /// A resolver that gives up after this time.
    pub(super) fn resolver_within(&self, hosts: Hosts, timeout: Duration) -> NameResolver {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = self.address.port();
            connection
        });
        let server = NameServerConfig::new(self.address.ip(), true, connections.into());
        let mut options = ResolverOpts::default();
        (options.timeout, options.attempts) = (timeout, 0);
        let search = vec!["search.test.".parse().unwrap()];
        let config = ResolverConfig::from_parts(None, search, vec![server]);
        NameResolver::of(ResolverSetup { hosts, servers: Ok(DnsServers { config, options }) })
    }

    /// The A and AAAA records of a name.
    pub(super) fn addresses(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let ips = addresses.iter().map(|address| address.parse().unwrap());
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = ips.partition(IpAddr::is_ipv4);
        self.set(name, RecordType::A, v4.into_iter().map(|ip| record(name, ttl, of_ip(ip))).collect());
        self.set(name, RecordType::AAAA, v6.into_iter().map(|ip| record(name, ttl, of_ip(ip))).collect());
    }

    /// SRV records: priority, weight, port, target.
    pub(super) fn targets(&self, name: &str, ttl: u32, targets: &[(u16, u16, u16, &str)]) {
        let srv = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            record(name, ttl, RData::SRV(SRV::new(priority, weight, port, target.parse().unwrap())))
        };
        self.set(name, RecordType::SRV, targets.iter().map(srv).collect());
    }

    /// `name` is an alias of `other`.
    pub(super) fn alias(&self, name: &str, ttl: u32, other: &str) {
        self.set(name, RecordType::CNAME, vec![record(name, ttl, RData::CNAME(CNAME(other.parse().unwrap())))]);
    }

    /// An address that is sent along with every answer.
    pub(super) fn along(&self, name: &str, ttl: u32, ip: &str) {
        self.zone.lock().unwrap().additionals.push(record(name, ttl, of_ip(ip.parse().unwrap())));
    }

    pub(super) fn code(&self, name: &str, kind: RecordType, code: ResponseCode) {
        self.zone.lock().unwrap().codes.insert((name.parse().unwrap(), kind), code);
    }

    pub(super) fn forget(&self) {
        *self.zone.lock().unwrap() = Zone::default();
    }

    pub(super) fn truncate(&self) {
        self.zone.lock().unwrap().is_truncated = true;
    }

    pub(super) fn silence(&self) {
        self.zone.lock().unwrap().is_silent = true;
    }

    pub(super) fn silence_of(&self, name: &str, kind: RecordType) {
        self.zone.lock().unwrap().silent.push((name.parse().unwrap(), kind));
    }

    /// What was asked since this was called before.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.zone.lock().unwrap().asked)
    }

    fn set(&self, name: &str, kind: RecordType, records: Vec<Record>) {
        self.zone.lock().unwrap().records.insert((name.parse().unwrap(), kind), records);
    }
}

impl Drop for FakeDnsServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Zone {
    fn answer(&mut self, query: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).unwrap();
        let question = query.queries.first().unwrap().clone();
        let (mut name, kind) = (question.name().to_lowercase(), question.query_type());
        self.asked.push(format!("{name} {kind}{}", if is_tcp { "/tcp" } else { "" }));
        if self.is_silent || self.silent.contains(&(name.clone(), kind)) {
            return None;
        }
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_available = true;
        answer.add_query(question);
        answer.metadata.response_code = match self.codes.get(&(name.clone(), kind)) {
            Some(code) => *code,
            None if self.records.keys().any(|(known, _)| *known == name) => ResponseCode::NoError,
            None => ResponseCode::NXDomain,
        };
        if self.is_truncated && !is_tcp {
            answer.metadata.truncation = true;
        } else if answer.metadata.response_code == ResponseCode::NoError {
            // As a recursive server answers: the alias, and what it leads to.
            while kind != RecordType::CNAME
                && let Some(alias) = self.records.get(&(name.clone(), RecordType::CNAME))
            {
                answer.add_answers(alias.iter().cloned());
                let RData::CNAME(CNAME(other)) = &alias[0].data else { unreachable!() };
                name = other.clone();
            }
            answer.add_answers(self.records.get(&(name, kind)).cloned().unwrap_or_default());
            answer.add_additionals(self.additionals.clone());
        }
        let written = answer.to_vec().unwrap();
        if is_tcp || written.len() <= query.max_payload().into() {
            return Some(written);
        }
        let mut truncated = Message::response(answer.metadata.id, answer.metadata.op_code);
        truncated.metadata.truncation = true;
        truncated.add_query(answer.queries[0].clone());
        Some(truncated.to_vec().unwrap())
    }
}

async fn serve(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await.unwrap();
        let Some(answer) = zone.lock().unwrap().answer(&query, true) else { return };
        stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

fn of_ip(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn record(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name.parse().unwrap(), ttl, data)
}
