//! Which connections are idle, and which addresses to prefer. State machines: no sockets, no clock.

use tokio::time::Instant;

use crate::address::Address;

/// Idle connections of one host. The most recently used one is taken first, so that connections which are not needed grow
/// old and are closed.
#[derive(Debug)]
pub(super) struct ConnectionPool<C, K> {
    idle: Vec<IdleConnection<C, K>>,
    /// How often a connection was taken, or opened because there was none.
    pub(super) uses: u64,
    pub(super) addresses: Addresses,
}

/// The addresses of one host, and at which of them calls or handshakes timed out. Such an address is used only if there is
/// no other, until it answers: a replica that is stopped or hangs still accepts connections.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The addresses when the last connection was opened.
    known: Vec<Address>,
    /// Addresses where a call or a handshake timed out and no call was answered since. The latest time-out stands last.
    late: Vec<Address>,
}

impl Addresses {
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
    fn is_avoided(&self, address: &Address) -> bool {
        self.late.contains(address) && self.known.iter().any(|known| !self.late.contains(known))
    }
}

#[derive(Debug)]
struct IdleConnection<C, K> {
    connection: C,
    /// Where it goes.
    address: Address,
    /// The runtime it belongs to.
    owner: K,
    until: Instant,
}

impl<C, K: PartialEq> ConnectionPool<C, K> {
    pub(super) fn new() -> Self {
        Self { idle: Vec::new(), uses: 0, addresses: Addresses::default() }
    }

    /// The most recently used connection of this owner that is not too old and goes to an address that answers. Those that
    /// are too old are moved to `closed`: the caller drops them.
    pub(super) fn take(&mut self, owner: &K, now: Instant, closed: &mut Vec<C>) -> Option<C> {
        while let Some(at) = self.usable(owner) {
            let idle = self.idle.remove(at);
            if idle.until > now {
                self.uses += 1;
                return Some(idle.connection);
            }
            closed.push(idle.connection);
        }
        None
    }

    fn usable(&self, owner: &K) -> Option<usize> {
        self.idle.iter().rposition(|idle| idle.owner == *owner && !self.addresses.is_avoided(&idle.address))
    }

    pub(super) fn put(&mut self, connection: C, address: Address, owner: K, until: Instant) {
        self.idle.push(IdleConnection { connection, address, owner, until });
    }

    /// Takes out what is too old.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<C> {
        self.idle.extract_if(.., |idle| idle.until <= now).map(|idle| idle.connection).collect()
    }

    /// Takes out all of this owner's.
    pub(super) fn let_go(&mut self, owner: &K) -> Vec<C> {
        self.idle.extract_if(.., |idle| idle.owner == *owner).map(|idle| idle.connection).collect()
    }

    /// When the next one will be too old.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.idle.iter().map(|idle| idle.until).min()
    }

    /// Makes room for a new connection beside `busy` ones. It takes out the oldest idle ones, which can only belong to
    /// other owners.
    pub(super) fn make_room(&mut self, busy: usize, limit: usize) -> Vec<C> {
        let surplus = (self.idle.len() + busy).saturating_sub(limit).min(self.idle.len());
        self.idle.drain(..surplus).map(|idle| idle.connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(port: u16) -> Address {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn take(pool: &mut ConnectionPool<u8, &'static str>, owner: &'static str, now: Instant) -> (Option<u8>, Vec<u8>) {
        let mut closed = Vec::new();
        let taken = pool.take(&owner, now, &mut closed);
        (taken, closed)
    }

    #[test]
    fn the_most_recently_used_connection_is_taken_and_no_old_one() {
        let (mut pool, now, s) = (ConnectionPool::new(), Instant::now(), Duration::from_secs);
        pool.put(1, at(1), "a", now + s(60));
        pool.put(2, at(1), "a", now + s(10));
        pool.put(3, at(1), "a", now + s(60));
        assert_eq!(take(&mut pool, "a", now), (Some(3), vec![]));
        assert_eq!(take(&mut pool, "a", now + s(10)), (Some(1), vec![2]));
        assert_eq!(take(&mut pool, "a", now), (None, vec![]));
    }

    #[test]
    fn a_runtime_gets_only_its_own() {
        let (mut pool, now) = (ConnectionPool::new(), Instant::now());
        let until = now + Duration::from_secs(60);
        pool.put(1, at(1), "a", until);
        assert_eq!(take(&mut pool, "b", now), (None, vec![]));
        assert!(pool.make_room(1, 2).is_empty());
        pool.put(2, at(1), "b", until);
        assert_eq!(pool.let_go(&"b"), vec![2]);
        assert_eq!(pool.make_room(2, 2), vec![1], "idle and busy together keep to the limit");
    }

    #[test]
    fn what_is_old_is_swept() {
        let (mut pool, now, s) = (ConnectionPool::new(), Instant::now(), Duration::from_secs);
        assert_eq!(pool.next_expiry(), None);
        pool.put(1, at(1), "a", now + s(60));
        pool.put(2, at(1), "b", now + s(4));
        assert_eq!(pool.next_expiry(), Some(now + s(4)));
        assert_eq!(pool.expire(now + s(4)), vec![2]);
        assert_eq!(pool.next_expiry(), Some(now + s(60)));
    }

    /// The order in which a new connection tries addresses 1, 2 and 3.
    fn order<C, K: PartialEq>(pool: &mut ConnectionPool<C, K>) -> [u16; 3] {
        let mut addresses = [at(1), at(2), at(3)];
        pool.addresses.order(&mut addresses);
        addresses.map(|address| address.port().unwrap())
    }

    #[test]
    fn an_address_whose_calls_time_out_is_used_last_until_it_answers() {
        let (mut pool, now) = (ConnectionPool::new(), Instant::now());
        let until = now + Duration::from_secs(60);
        assert_eq!(order(&mut pool), [1, 2, 3]);
        pool.put(1, at(1), "a", until);
        pool.addresses.timed_out(&at(1));
        assert_eq!(take(&mut pool, "a", now), (None, vec![]), "a new connection goes elsewhere");
        assert_eq!(order(&mut pool), [2, 3, 1]);
        pool.addresses.timed_out(&at(3));
        assert_eq!(order(&mut pool), [2, 1, 3]);
        pool.addresses.timed_out(&at(1));
        assert_eq!(order(&mut pool), [2, 3, 1], "the one that timed out first is tried first");
        pool.addresses.answered(&at(1));
        assert_eq!(order(&mut pool), [1, 2, 3]);
        assert_eq!(take(&mut pool, "a", now), (Some(1), vec![]));
    }

    #[test]
    fn the_only_address_is_used_despite_time_outs() {
        let (mut pool, now) = (ConnectionPool::new(), Instant::now());
        let until = now + Duration::from_secs(60);
        pool.addresses.order(&mut [at(1)]);
        pool.put(1, at(1), "a", until);
        pool.addresses.timed_out(&at(1));
        assert_eq!(take(&mut pool, "a", now), (Some(1), vec![]));
        order(&mut pool);
        pool.put(1, at(1), "a", until);
        assert_eq!(take(&mut pool, "a", now), (None, vec![]));
        pool.addresses.timed_out(&at(2));
        pool.addresses.timed_out(&at(3));
        assert_eq!(take(&mut pool, "a", now), (Some(1), vec![]), "all of them are late");
    }
}
