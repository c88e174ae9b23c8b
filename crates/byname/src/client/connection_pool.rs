//! Which connections of an endpoint are idle: [`ConnectionPool`]. A state machine: no sockets, no clock.

use tokio::time::Instant;

/// Idle connections of one endpoint. The most recently used one is taken first, so that connections which are not needed
/// grow old and are closed.
#[derive(Debug)]
pub(super) struct ConnectionPool<C, K> {
    idle: Vec<IdleConnection<C, K>>,
}

#[derive(Debug)]
struct IdleConnection<C, K> {
    connection: C,
    /// The runtime it belongs to.
    owner: K,
    /// Its place among all connections of the service: a later one became idle later.
    turn: u64,
    until: Instant,
}

impl<C, K: PartialEq> ConnectionPool<C, K> {
    pub(super) fn new() -> Self {
        Self { idle: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.idle.len()
    }

    /// The turn of the connection of this owner that [`take`](Self::take) would look at first.
    pub(super) fn newest(&self, owner: &K) -> Option<u64> {
        self.idle.iter().rfind(|idle| idle.owner == *owner).map(|idle| idle.turn)
    }

    /// The turn of the connection that became idle first.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.idle.first().map(|idle| idle.turn)
    }

    /// The most recently used connection of this owner that is not too old. Those that are too old are moved to `closed`:
    /// the caller drops them.
    pub(super) fn take(&mut self, owner: &K, now: Instant, closed: &mut Vec<C>) -> Option<C> {
        while let Some(at) = self.idle.iter().rposition(|idle| idle.owner == *owner) {
            let idle = self.idle.remove(at);
            if idle.until > now {
                return Some(idle.connection);
            }
            closed.push(idle.connection);
        }
        None
    }

    pub(super) fn put(&mut self, connection: C, owner: K, turn: u64, until: Instant) {
        self.idle.push(IdleConnection { connection, owner, turn, until });
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

    /// Takes out the one that became idle first.
    pub(super) fn take_oldest(&mut self) -> Option<C> {
        (!self.idle.is_empty()).then(|| self.idle.remove(0).connection)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn take(pool: &mut ConnectionPool<u8, &'static str>, owner: &'static str, now: Instant) -> (Option<u8>, Vec<u8>) {
        let mut closed = Vec::new();
        let taken = pool.take(&owner, now, &mut closed);
        (taken, closed)
    }

    #[test]
    fn the_most_recently_used_connection_is_taken_and_no_old_one() {
        let (mut pool, now, s) = (ConnectionPool::new(), Instant::now(), Duration::from_secs);
        pool.put(1, "a", 1, now + s(60));
        pool.put(2, "a", 2, now + s(10));
        pool.put(3, "a", 3, now + s(60));
        assert_eq!((pool.newest(&"a"), pool.oldest()), (Some(3), Some(1)));
        assert_eq!(take(&mut pool, "a", now), (Some(3), vec![]));
        assert_eq!(take(&mut pool, "a", now + s(10)), (Some(1), vec![2]));
        assert_eq!(take(&mut pool, "a", now), (None, vec![]));
    }

    #[test]
    fn a_runtime_gets_only_its_own() {
        let (mut pool, now) = (ConnectionPool::new(), Instant::now());
        let until = now + Duration::from_secs(60);
        pool.put(1, "a", 1, until);
        assert_eq!((pool.newest(&"b"), take(&mut pool, "b", now)), (None, (None, vec![])));
        pool.put(2, "b", 2, until);
        pool.put(3, "a", 3, until);
        assert_eq!(pool.let_go(&"b"), vec![2]);
        assert_eq!((pool.take_oldest(), pool.len()), (Some(1), 1));
    }

    #[test]
    fn what_is_old_is_swept() {
        let (mut pool, now, s) = (ConnectionPool::new(), Instant::now(), Duration::from_secs);
        assert_eq!(pool.next_expiry(), None);
        pool.put(1, "a", 1, now + s(60));
        pool.put(2, "b", 2, now + s(4));
        assert_eq!(pool.next_expiry(), Some(now + s(4)));
        assert_eq!(pool.expire(now + s(4)), vec![2]);
        assert_eq!(pool.next_expiry(), Some(now + s(60)));
    }

    proptest! {
        #[test]
        fn a_connection_is_taken_once_by_its_owner_in_its_time(
            events in proptest::collection::vec((0..6u8, 0..3u8, 0..90u64), 0..60),
        ) {
            let (mut pool, mut now) = (ConnectionPool::new(), Instant::now());
            // What the pool holds: the turn, which is the connection too, its owner and its end.
            let mut held: Vec<(u64, u8, Instant)> = Vec::new();
            for (turn, (event, owner, seconds)) in (0u64..).zip(events) {
                match event {
                    0 | 1 => {
                        let until = now + Duration::from_secs(seconds);
                        pool.put(turn, owner, turn, until);
                        held.push((turn, owner, until));
                    }
                    2 => {
                        let mut closed = Vec::new();
                        let taken = pool.take(&owner, now, &mut closed);
                        let expected = held.iter().rfind(|(_, whose, until)| *whose == owner && *until > now);
                        prop_assert_eq!(taken, expected.map(|(turn, ..)| *turn));
                        prop_assert!(held.iter().filter(|(turn, ..)| closed.contains(turn)).all(|(.., until)| *until <= now));
                        held.retain(|(turn, ..)| Some(*turn) != taken && !closed.contains(turn));
                    }
                    3 => {
                        let mut expired = pool.expire(now);
                        expired.sort_unstable();
                        let expected: Vec<_> = held.extract_if(.., |(.., until)| *until <= now).map(|(turn, ..)| turn).collect();
                        prop_assert_eq!(expired, expected);
                    }
                    4 => {
                        let oldest = held.first().map(|(turn, ..)| *turn);
                        prop_assert_eq!(pool.take_oldest(), oldest);
                        held.retain(|(turn, ..)| Some(*turn) != oldest);
                    }
                    _ => now += Duration::from_secs(seconds),
                }
                prop_assert_eq!(pool.len(), held.len());
                prop_assert_eq!(pool.next_expiry(), held.iter().map(|(.., until)| *until).min());
            }
        }
    }
}
