//! The order in which a new connection tries the addresses of a service: [`AddressOrder`]. A state machine without sockets and
//! without a clock.

use crate::address::Address;

/// The addresses of a service, and at which of them calls or handshakes timed out. Such an address is used only if there is
/// no other, until it answers: a replica that is stopped or hangs still accepts connections.
#[derive(Debug, Default)]
pub(super) struct AddressOrder {
    /// The addresses when the last connection was opened.
    known: Vec<Address>,
    /// AddressOrder where a call or a handshake timed out and no call was answered since. The latest time-out stands last.
    late: Vec<Address>,
}

impl AddressOrder {
    /// A call to this address timed out, or a connection to it was not ready in time.
    pub(super) fn timed_out(&mut self, address: &Address) {
        self.late.retain(|late| late != address);
        self.late.push(address.clone());
    }

    /// A call to this address was answered.
    pub(super) fn answered(&mut self, address: &Address) {
        if !self.late.is_empty() {
            self.late.retain(|late| late != address);
        }
    }

    /// Puts addresses into the order in which a new connection tries them.
    pub(super) fn order(&mut self, addresses: &mut [Address]) {
        self.late.retain(|late| addresses.contains(late));
        addresses.sort_by_key(|address| self.late.iter().position(|late| late == address).map_or(0, |at| at + 1));
        self.known = addresses.to_vec();
    }

    /// Whether a new connection is better than one to this address.
    pub(super) fn is_avoided(&self, address: &Address) -> bool {
        self.late.contains(address) && self.known.iter().any(|known| !self.late.contains(known))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    fn at(port: u16) -> Address {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    /// The order in which a new connection tries addresses 1, 2 and 3.
    fn order(known: &mut AddressOrder) -> [u16; 3] {
        let mut addresses = [at(1), at(2), at(3)];
        known.order(&mut addresses);
        addresses.map(|address| address.port().unwrap())
    }

    #[test]
    fn an_address_whose_calls_time_out_is_used_last_until_it_answers() {
        let mut known = AddressOrder::default();
        assert_eq!(order(&mut known), [1, 2, 3]);
        known.timed_out(&at(1));
        assert!(known.is_avoided(&at(1)), "a new connection goes elsewhere");
        assert_eq!(order(&mut known), [2, 3, 1]);
        known.timed_out(&at(3));
        assert_eq!(order(&mut known), [2, 1, 3]);
        known.timed_out(&at(1));
        assert_eq!(order(&mut known), [2, 3, 1], "the one that timed out first is tried first");
        known.answered(&at(1));
        assert_eq!(order(&mut known), [1, 2, 3]);
        assert!(!known.is_avoided(&at(1)));
    }

    #[test]
    fn the_only_address_is_used_despite_time_outs() {
        let mut known = AddressOrder::default();
        known.order(&mut [at(1)]);
        known.timed_out(&at(1));
        assert!(!known.is_avoided(&at(1)));
        order(&mut known);
        assert!(known.is_avoided(&at(1)));
        known.timed_out(&at(2));
        known.timed_out(&at(3));
        assert!(!known.is_avoided(&at(1)), "all of them are late");
    }

    proptest! {
        #[test]
        fn an_order_keeps_every_address_and_never_avoids_all(
            events in proptest::collection::vec((1..5u16, any::<bool>()), 0..20),
            known in proptest::sample::subsequence(vec![1, 2, 3, 4], 1..=4),
        ) {
            let mut order = AddressOrder::default();
            for (port, answers) in events {
                let mut addresses: Vec<_> = known.iter().map(|port| at(*port)).collect();
                let before = addresses.clone();
                order.order(&mut addresses);
                prop_assert!(addresses.len() == before.len() && before.iter().all(|address| addresses.contains(address)));
                prop_assert!(!addresses.iter().all(|address| order.is_avoided(address)));
                // Those that are avoided come last.
                let first_avoided = addresses.iter().position(|address| order.is_avoided(address));
                let after = addresses.iter().skip(first_avoided.unwrap_or(addresses.len()));
                prop_assert!(after.clone().all(|address| order.is_avoided(address)));
                if answers { order.answered(&at(port)) } else { order.timed_out(&at(port)) }
                prop_assert!(!(answers && order.is_avoided(&at(port))));
            }
        }
    }
}
