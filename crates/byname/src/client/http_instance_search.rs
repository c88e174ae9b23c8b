//! When a client opens another HTTP connection to look for other servers behind the same address: [`HttpInstanceSearch`]. A
//! state machine without sockets and without a clock.

use std::sync::Arc;

use crate::address::Address;
use crate::wire::instance_and_load::InstanceId;

/// After this number of tries in a row that found none, no further instance is looked for. A balancer that chooses at random
/// between two servers hides one of them from all of these tries once in 32 times.
const TRIES: u32 = 5;

/// The same if an instance was lost. Another may replace it, and needs time to start.
const TRIES_AFTER_LOSS: u32 = 16;

/// How many calls come before the first try. A client that makes fewer needs no second connection. Each further try that
/// finds none comes after four times as many calls, up to the most.
const FIRST: u64 = 16;
const MOST: u64 = 4096;

/// The most instances that have a connection, all addresses together.
const INSTANCES: usize = 20;

/// The search of a client whose calls go over HTTP.
///
/// One address may stand for several instances: a balancer forwards each connection to one of them. To find them, a client
/// opens a further connection. The first answer on it says which instance is at its other end.
#[derive(Debug)]
pub(super) struct HttpInstanceSearch {
    /// The instances that have connections. The connections have clones.
    instances: Vec<(Address, Arc<InstanceId>)>,
    /// An address had several instances at some time.
    has_found: bool,
    calls: u64,
    /// The number of the call after which the next try is due.
    next: u64,
    /// The tries in a row that found none.
    fruitless: u32,
    most: u32,
}

/// Which instance is at the other end of a connection.
#[derive(Debug)]
pub(super) enum ConnectionInstance {
    /// It has not answered yet.
    Unknown,
    /// It does not say.
    Unnamed,
    Named(Arc<InstanceId>),
}

impl HttpInstanceSearch {
    pub(super) fn new() -> Self {
        Self { instances: Vec::new(), has_found: false, calls: 0, next: FIRST, fruitless: 0, most: TRIES }
    }

    /// A connection to this address has answered for the first time, and this is what the answer says of its server.
    pub(super) fn told(&mut self, address: &Address, instance: Option<InstanceId>) -> ConnectionInstance {
        let Some(instance) = instance else {
            return ConnectionInstance::Unnamed;
        };
        self.forget_lost();
        if let Some((_, known)) = self.instances.iter().find(|(_, known)| **known == instance) {
            return ConnectionInstance::Named(Arc::clone(known));
        }
        if self.instances.iter().any(|(other, _)| other == address) {
            (self.has_found, self.fruitless, self.most, self.next) = (true, 0, TRIES, self.calls + FIRST);
        }
        let known = Arc::new(instance);
        self.instances.push((address.clone(), Arc::clone(&known)));
        ConnectionInstance::Named(known)
    }

    /// A call was answered. Whether another connection is to be opened to its address now.
    pub(super) fn answered(&mut self) -> bool {
        self.calls += 1;
        if self.has_found {
            self.forget_lost();
        }
        let is_over = self.fruitless >= self.most || self.instances.is_empty() || self.instances.len() >= INSTANCES;
        if is_over || self.calls < self.next {
            return false;
        }
        // Until it is known what it finds, it has found nothing.
        self.fruitless += 1;
        self.next = self.calls + FIRST.saturating_mul(4u64.saturating_pow(self.fruitless)).min(MOST);
        true
    }

    /// Forgets instances whose connections have all ended. If an address had several, another may take the place.
    fn forget_lost(&mut self) {
        let before = self.instances.len();
        self.instances.retain(|(_, known)| Arc::strong_count(known) > 1);
        if self.has_found && self.instances.len() < before {
            (self.fruitless, self.most, self.next) = (0, TRIES_AFTER_LOSS, self.calls + FIRST);
        }
    }
}

impl ConnectionInstance {
    pub(super) fn id(&self) -> Option<InstanceId> {
        match self {
            Self::Named(id) => Some(**id),
            Self::Unknown | Self::Unnamed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(port: u16) -> Address {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn instance(number: u64) -> Option<InstanceId> {
        InstanceId::read(&format!("{number:016x}"))
    }

    /// Makes this number of calls. Returns the numbers of those after which another connection is opened.
    fn tries(search: &mut HttpInstanceSearch, calls: u64) -> Vec<u64> {
        let before = search.calls;
        let due: Vec<bool> = (0..calls).map(|_| search.answered()).collect();
        let numbered = due.into_iter().zip(search.calls - calls + 1..);
        numbered.filter(|(is_due, _)| *is_due).map(|(_, call)| call - before).collect()
    }

    #[test]
    fn a_server_that_is_alone_costs_five_connections_in_the_first_thousands_of_calls() {
        let mut search = HttpInstanceSearch::new();
        let _connection = search.told(&at(1), instance(1));
        assert_eq!(tries(&mut search, 100_000), [16, 80, 336, 1360, 5456]);
        assert_eq!(tries(&mut search, 100_000), [0; 0]);
    }

    #[test]
    fn a_server_that_names_no_instance_is_not_searched_for_others() {
        let mut search = HttpInstanceSearch::new();
        assert!(matches!(search.told(&at(1), None), ConnectionInstance::Unnamed));
        assert_eq!(tries(&mut search, 100_000), [0; 0]);
    }

    #[test]
    fn where_one_was_found_more_are_looked_for() {
        let mut search = HttpInstanceSearch::new();
        let mut connections = vec![search.told(&at(1), instance(1))];
        for number in 2..=20 {
            assert_eq!(tries(&mut search, 16), [16], "{number}");
            connections.push(search.told(&at(1), instance(number)));
        }
        assert_eq!(tries(&mut search, 10_000), [0; 0], "there are enough");
    }

    #[test]
    fn servers_at_addresses_of_their_own_are_no_find() {
        let mut search = HttpInstanceSearch::new();
        let _connections = [1, 2, 3].map(|number| search.told(&at(number), instance(number.into())));
        assert_eq!(tries(&mut search, 100_000).len(), 5);
    }

    #[test]
    fn an_instance_that_is_lost_is_looked_for_again() {
        let mut search = HttpInstanceSearch::new();
        let _one = search.told(&at(1), instance(1));
        let two = search.told(&at(1), instance(2));
        assert_eq!(tries(&mut search, 100_000).len(), 5);
        drop(two);
        assert_eq!(tries(&mut search, 100_000)[0], 17);
        let three = search.told(&at(1), instance(3));
        assert_eq!(tries(&mut search, 16), [16]);
        drop(three);
        assert_eq!(tries(&mut search, 1_000_000).len(), 16);
    }

    proptest! {
        #[test]
        fn tries_are_few(steps in proptest::collection::vec((0..3u8, 0..4u64, 0..2000u64), 1..60)) {
            let mut search = HttpInstanceSearch::new();
            let (mut connections, mut all, mut changes) = (Vec::new(), 0, 1);
            for (step, number, calls) in steps {
                match step {
                    0 => {
                        let before = search.instances.len();
                        connections.push(search.told(&at(1), instance(number)));
                        changes += usize::from(search.instances.len() > before);
                    }
                    1 if !connections.is_empty() => {
                        connections.remove(usize::try_from(number).unwrap() % connections.len());
                    }
                    _ => all += tries(&mut search, calls).len(),
                }
                let open: std::collections::HashSet<_> =
                    connections.iter().filter_map(ConnectionInstance::id).map(|id| id.to_string()).collect();
                search.forget_lost();
                prop_assert_eq!(search.instances.len(), open.len());
            }
            // Each instance that comes or goes begins one search.
            prop_assert!(all <= changes * (5 + 16), "{all} tries, {changes} changes");
        }
    }
}
