//! The replicas of a service, from lists and events: [`ServiceEndpoints`]. A state machine without sockets and without a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::endpoint_slice::{EndpointSlice, SliceEvent, SlicePage, SlicePort};
use crate::client::kubernetes_service::{KubernetesService, ServicePort};

/// The EndpointSlices of a service, and from where on they are watched.
#[derive(Debug)]
pub(super) struct ServiceEndpoints {
    service: KubernetesService,
    slices: BTreeMap<String, EndpointSlice>,
    place: WatchPlace,
    /// Each once, IPv4 first.
    replicas: BTreeSet<SocketAddr>,
    version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum WatchPlace {
    /// The slices must be listed.
    Unlisted,
    /// A part of the list is there. The slices before it stay in use.
    Listing { slices: BTreeMap<String, EndpointSlice>, next: String },
    /// Everything is known up to this version.
    At(String),
}

/// What to ask the API server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextQuestion {
    /// The part of the list that begins here, or the first.
    List { from: Option<String> },
    /// What happens after this version.
    Watch { from: String },
}

impl ServiceEndpoints {
    pub(super) fn new(service: KubernetesService) -> Self {
        Self { service, slices: BTreeMap::new(), place: WatchPlace::Unlisted, replicas: BTreeSet::new(), version: 0 }
    }

    pub(super) fn next_question(&self) -> NextQuestion {
        match &self.place {
            WatchPlace::Unlisted => NextQuestion::List { from: None },
            WatchPlace::Listing { next, .. } => NextQuestion::List { from: Some(next.clone()) },
            WatchPlace::At(version) => NextQuestion::Watch { from: version.clone() },
        }
    }

    /// Different replicas have different numbers.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The replicas, or why there are none.
    pub(super) fn replicas(&self) -> Result<Vec<SocketAddr>, String> {
        if self.replicas.is_empty() { Err(self.why_none()) } else { Ok(self.replicas.iter().copied().collect()) }
    }

    /// The next part of the list has come.
    pub(super) fn listed(&mut self, page: SlicePage) {
        let mut slices = match std::mem::replace(&mut self.place, WatchPlace::Unlisted) {
            WatchPlace::Listing { slices, .. } => slices,
            WatchPlace::Unlisted | WatchPlace::At(_) => BTreeMap::new(),
        };
        slices.extend(page.slices.into_iter().map(|slice| (slice.name.clone(), slice)));
        match page.next {
            Some(next) => self.place = WatchPlace::Listing { slices, next },
            None => {
                self.slices = slices;
                self.place = WatchPlace::At(page.resource_version);
                self.changed();
            }
        }
    }

    /// The watch has told something. After a failure the slices are listed again.
    pub(super) fn told(&mut self, event: SliceEvent) {
        let place = match event {
            SliceEvent::Is(slice, version) => {
                self.slices.insert(slice.name.clone(), slice);
                WatchPlace::At(version)
            }
            SliceEvent::Gone(name, version) => {
                self.slices.remove(&name);
                WatchPlace::At(version)
            }
            SliceEvent::Bookmark(version) => WatchPlace::At(version),
            SliceEvent::Failed { .. } => WatchPlace::Unlisted,
        };
        self.place = place;
        self.changed();
    }

    /// What happened since the last event can't be told any more. The slices stay in use until they are listed.
    pub(super) fn expired(&mut self) {
        self.place = WatchPlace::Unlisted;
    }

    fn changed(&mut self) {
        let found = self.slices.values().flat_map(|slice| {
            let port = self.port_of(slice);
            slice.ready.iter().filter_map(move |ip| Some(SocketAddr::new(*ip, port?)))
        });
        let found: BTreeSet<_> = found.collect();
        if found != self.replicas {
            self.replicas = found;
            self.version += 1;
        }
    }

    fn port_of(&self, slice: &EndpointSlice) -> Option<u16> {
        match (&self.service.port, slice.ports.as_slice()) {
            (ServicePort::Only, [only]) => Some(only.number),
            (ServicePort::Only, _) => None,
            (ServicePort::Name(name), ports) => ports.iter().find(|port| port.name == *name).map(|port| port.number),
            // A service without ports has endpoints whose ports are not told.
            (ServicePort::Number(number), []) => Some(*number),
            (ServicePort::Number(number), ports) => ports.iter().any(|port| port.number == *number).then_some(*number),
        }
    }

    fn why_none(&self) -> String {
        let KubernetesService { namespace, service, port } = &self.service;
        if self.slices.is_empty() {
            return format!(
                "the namespace `{namespace}` has no EndpointSlice of a service `{service}`; are both names right?"
            );
        }
        let count = |of: fn(&EndpointSlice) -> usize| self.slices.values().map(of).sum::<usize>();
        let ready = count(|slice| slice.ready.len());
        if ready == 0 {
            let all = count(|slice| slice.unready);
            return format!("of the {all} endpoints of the service `{service}` in `{namespace}` none is ready");
        }
        let mut ports: Vec<String> = self.slices.values().flat_map(|slice| &slice.ports).map(shown).collect();
        ports.sort();
        ports.dedup();
        match port {
            _ if ports.is_empty() => format!(
                "the service `{service}` in `{namespace}` has no port of TCP; write the number of one, such as \
                 k8s://{namespace}/{service}:8080"
            ),
            ServicePort::Only => format!(
                "the pods of the service `{service}` in `{namespace}` have the ports {}; write one of them, such as \
                 k8s://{namespace}/{service}:{}",
                ports.join(", "),
                ports[0].split(' ').next().unwrap_or_default()
            ),
            ServicePort::Name(_) | ServicePort::Number(_) => {
                format!("{} has a port that the pods don't have; their ports are {}", self.service, ports.join(", "))
            }
        }
    }
}

fn shown(port: &SlicePort) -> String {
    match port.name.as_str() {
        "" => port.number.to_string(),
        name => format!("{name} ({})", port.number),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn endpoints(url: &str) -> ServiceEndpoints {
        ServiceEndpoints::new(KubernetesService::parse(url).unwrap())
    }

    fn slice(name: &str, ports: &[(&str, u16)], ready: &[&str]) -> EndpointSlice {
        let ports =
            ports.iter().map(|(name, number)| SlicePort { name: (*name).to_owned(), number: *number }).collect();
        let ready = ready.iter().map(|ip| ip.parse().unwrap()).collect();
        EndpointSlice { name: name.to_owned(), ports, ready, unready: 1 }
    }

    fn page(slices: Vec<EndpointSlice>, next: Option<&str>, resource_version: &str) -> SlicePage {
        SlicePage { slices, next: next.map(str::to_owned), resource_version: resource_version.to_owned() }
    }

    fn shown(endpoints: &ServiceEndpoints) -> String {
        let joined = |all: Vec<SocketAddr>| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        endpoints.replicas().map_or_else(|why| why, joined)
    }

    fn watch(from: &str) -> NextQuestion {
        NextQuestion::Watch { from: from.to_owned() }
    }

    #[test]
    fn a_list_is_watched_from_where_it_ends() {
        let mut known = endpoints("shop/orders");
        assert_eq!((known.next_question(), known.version()), (NextQuestion::List { from: None }, 0));
        known.listed(page(vec![slice("a", &[("", 80)], &["10.0.0.2", "10.0.0.1"])], Some("more"), "5"));
        assert_eq!((known.next_question(), known.version()), (NextQuestion::List { from: Some("more".into()) }, 0));
        known.listed(page(vec![slice("b", &[("", 81)], &["fd00::1", "10.0.0.1"])], None, "5"));
        assert_eq!((known.next_question(), known.version()), (watch("5"), 1));
        assert_eq!(shown(&known), "10.0.0.1:80 10.0.0.1:81 10.0.0.2:80 [fd00::1]:81", "IPv4 first");

        // A pod that moves from one slice to another stands in both for a moment.
        known.told(SliceEvent::Is(slice("c", &[("", 80)], &["10.0.0.1"]), "6".into()));
        assert_eq!((known.next_question(), known.version()), (watch("6"), 1), "it was known");
        known.told(SliceEvent::Is(slice("a", &[("", 80)], &[]), "7".into()));
        assert_eq!(shown(&known), "10.0.0.1:80 10.0.0.1:81 [fd00::1]:81");
        known.told(SliceEvent::Gone("b".into(), "8".into()));
        known.told(SliceEvent::Bookmark("99".into()));
        assert_eq!((shown(&known).as_str(), known.next_question(), known.version()), ("10.0.0.1:80", watch("99"), 3));
    }

    #[test]
    fn what_can_not_be_told_any_more_is_listed_again() {
        let mut known = endpoints("shop/orders");
        known.listed(page(vec![slice("a", &[("", 80)], &["10.0.0.1"])], None, "5"));
        for is_event in [true, false] {
            match is_event {
                true => known.told(SliceEvent::Failed { expired: true, why: "too old".into() }),
                false => known.expired(),
            }
            assert_eq!(
                (known.next_question(), shown(&known).as_str()),
                (NextQuestion::List { from: None }, "10.0.0.1:80")
            );
            known.listed(page(vec![slice("b", &[("", 80)], &["10.0.0.2"])], Some("more"), "9"));
            assert_eq!(shown(&known), "10.0.0.1:80", "the list is not complete");
            // The token of the next part has expired.
            known.expired();
            assert_eq!(known.next_question(), NextQuestion::List { from: None });
            known.listed(page(vec![slice("a", &[("", 80)], &["10.0.0.1"])], None, "9"));
            assert_eq!((known.next_question(), known.version()), (watch("9"), 1));
        }
        known.expired();
        known.listed(page(vec![], None, "10"));
        assert!(shown(&known).contains("has no EndpointSlice of a service `orders`"), "{}", shown(&known));
    }

    #[test]
    fn the_port_is_the_only_one_or_the_one_that_is_named() {
        let two = [("http", 8080), ("metrics", 9090)];
        for (url, ports, expected) in [
            ("shop/orders", &[("http", 8080)][..], "10.0.0.1:8080"),
            ("shop/orders:http", &two[..], "10.0.0.1:8080"),
            ("shop/orders:9090", &two[..], "10.0.0.1:9090"),
            ("shop/orders:8080", &[][..], "10.0.0.1:8080"),
            (
                "shop/orders",
                &two[..],
                "the ports http (8080), metrics (9090); write one of them, such as k8s://shop/orders:http",
            ),
            (
                "shop/orders:grpc",
                &two[..],
                "k8s://shop/orders:grpc has a port that the pods don't have; their ports are http",
            ),
            ("shop/orders:80", &two[..], "their ports are http (8080), metrics (9090)"),
            ("shop/orders:http", &[][..], "write the number of one, such as k8s://shop/orders:8080"),
            ("shop/orders", &[][..], "has no port of TCP"),
        ] {
            let mut known = endpoints(url);
            known.listed(page(vec![slice("a", ports, &["10.0.0.1"])], None, "1"));
            assert!(shown(&known).contains(expected), "{url} {ports:?}: {}", shown(&known));
        }
        // While a deployment changes the number of a port, its slices have both.
        let mut known = endpoints("shop/orders:http");
        let slices = vec![slice("a", &[("http", 8080)], &["10.0.0.1"]), slice("b", &[("http", 8081)], &["10.0.0.2"])];
        known.listed(page(slices, None, "1"));
        assert_eq!(shown(&known), "10.0.0.1:8080 10.0.0.2:8081");
        known.listed(page(vec![slice("a", &two, &[])], None, "2"));
        assert_eq!(shown(&known), "of the 1 endpoints of the service `orders` in `shop` none is ready");
    }

    #[derive(Clone, Debug)]
    enum Event {
        Set(u8, Vec<u8>),
        Delete(u8),
        Bookmark,
        Fail,
        Expire,
        List(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..4u8, proptest::collection::vec(0..6u8, 0..4)).prop_map(|(slice, ips)| Event::Set(slice, ips)),
            3 => (0..4u8).prop_map(Event::Delete),
            2 => Just(Event::Bookmark),
            1 => Just(Event::Fail),
            1 => Just(Event::Expire),
            3 => (1..3usize).prop_map(Event::List),
        ]
    }

    fn ip(last: u8) -> IpAddr {
        if last < 4 { [10, 0, 0, last].into() } else { [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into() }
    }

    proptest! {
        /// Against a cluster that is told in full, by lists of any length and by events.
        #[test]
        fn what_is_known_is_what_the_cluster_has(events in proptest::collection::vec(event(), 0..60)) {
            let mut cluster: BTreeMap<String, EndpointSlice> = BTreeMap::new();
            let mut now = 1_u32;
            let mut known = endpoints("shop/orders");
            for event in events {
                let before = (known.replicas().unwrap_or_default(), known.version());
                let is_watching = matches!(known.next_question(), NextQuestion::Watch { .. });
                let told = match event {
                    Event::Set(name, ips) => {
                        now += 1;
                        let name = format!("s{name}");
                        let ready = ips.into_iter().map(ip).collect();
                        let ports = vec![SlicePort { name: String::new(), number: 80 }];
                        let slice = EndpointSlice { name: name.clone(), ports, ready, unready: 0 };
                        cluster.insert(name, slice.clone());
                        Some(SliceEvent::Is(slice, now.to_string()))
                    }
                    Event::Delete(name) => {
                        let name = format!("s{name}");
                        cluster.remove(&name).map(|_| {
                            now += 1;
                            SliceEvent::Gone(name, now.to_string())
                        })
                    }
                    Event::Bookmark => Some(SliceEvent::Bookmark(now.to_string())),
                    Event::Fail => Some(SliceEvent::Failed { expired: true, why: String::new() }),
                    Event::Expire => {
                        known.expired();
                        None
                    }
                    Event::List(parts) => {
                        known.expired();
                        let all: Vec<_> = cluster.values().cloned().collect();
                        let length = all.len().div_ceil(parts).max(1);
                        let pages: Vec<_> = if all.is_empty() { vec![Vec::new()] } else { all.chunks(length).map(<[_]>::to_vec).collect() };
                        let last = pages.len() - 1;
                        for (at, slices) in pages.into_iter().enumerate() {
                            let is_listing = matches!(known.next_question(), NextQuestion::List { .. });
                            prop_assert!(is_listing);
                            let next = (at < last).then_some("more");
                            known.listed(page(slices, next, &now.to_string()));
                        }
                        None
                    }
                };
                if let Some(told) = told && is_watching {
                    known.told(told);
                }
                if let NextQuestion::Watch { from } = known.next_question() {
                    prop_assert_eq!(from, now.to_string());
                    let expected: BTreeSet<_> =
                        cluster.values().flat_map(|slice| &slice.ready).map(|ip| SocketAddr::new(*ip, 80)).collect();
                    prop_assert_eq!(known.replicas().unwrap_or_default(), expected.into_iter().collect::<Vec<_>>());
                }
                prop_assert_eq!(before.1 == known.version(), before.0 == known.replicas().unwrap_or_default());
            }
        }
    }
}
