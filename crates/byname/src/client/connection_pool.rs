//! Which connections of an endpoint are idle: [`ConnectionPool`]. A state machine: no sockets, no clock.

use tokio::time::Instant;

use crate::wire::instance_and_load::InstanceId;

/// Idle connections of one endpoint. The most recently used one is taken first, so that connections which are not needed
/// grow old and are closed. If they lead to several servers, the servers take turns.
#[derive(Debug)]
pub(super) struct ConnectionPool<C, K> {
    idle: Vec<IdleConnection<C, K>>,
    /// They may lead to several servers.
    is_mixed: bool,
    /// The servers of connections that were taken meanwhile. The one that was taken last is the last.
    taken: Vec<InstanceId>,
}

#[derive(Debug)]
struct IdleConnection<C, K> {
    connection: C,
    /// The runtime it belongs to.
    owner: K,
    /// The server at its other end, if it has said so.
    instance: Option<InstanceId>,
    /// Its place among all connections of the service: a later one became idle later.
    turn: u64,
    until: Instant,
}

/// How many servers are remembered at most.
const MOST_REMEMBERED: usize = 64;

impl<C, K: PartialEq> ConnectionPool<C, K> {
    pub(super) fn new() -> Self {
        Self { idle: Vec::new(), is_mixed: false, taken: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.idle.len()
    }

    /// The turn of the connection of this owner that [`take`](Self::take) would look at first.
    pub(super) fn newest(&self, owner: &K) -> Option<u64> {
        self.next(owner).map(|at| self.idle[at].turn)
    }

    /// The turn of the connection that became idle first.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.idle.first().map(|idle| idle.turn)
    }

    /// The next connection of this owner that is not too old: one whose server is not known yet, else the most recently used
    /// one to the server whose turn it is. Those that are too old are moved to `closed`:
    /// the caller drops them.
    pub(super) fn take(&mut self, owner: &K, now: Instant, closed: &mut Vec<C>) -> Option<C> {
        while let Some(at) = self.next(owner) {
            let idle = self.idle.remove(at);
            if idle.until > now {
                if let Some(instance) = idle.instance.filter(|_| self.is_mixed) {
                    self.taken.retain(|taken| *taken != instance);
                    self.taken.push(instance);
                }
                return Some(idle.connection);
            }
            closed.push(idle.connection);
        }
        None
    }

    pub(super) fn put(&mut self, connection: C, owner: K, instance: Option<InstanceId>, turn: u64, until: Instant) {
        self.is_mixed = self.idle.iter().any(|idle| idle.instance != instance);
        if self.taken.len() > MOST_REMEMBERED {
            self.taken.clear();
        }
        self.idle.push(IdleConnection { connection, owner, instance, turn, until });
    }

    /// Takes out what is too old.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<C> {
        self.idle.extract_if(.., |idle| idle.until <= now).map(|idle| idle.connection).collect()
    }

    /// Takes out all of this owner's.
    pub(super) fn let_go(&mut self, owner: &K) -> Vec<C> {
        self.idle.extract_if(.., |idle| idle.owner == *owner).map(|idle| idle.connection).collect()
    }

    /// The index of the connection that is taken next.
    fn next(&self, owner: &K) -> Option<usize> {
        let newest = self.idle.iter().rposition(|idle| idle.owner == *owner)?;
        if !self.is_mixed {
            return Some(newest);
        }
        let mine = self.idle.iter().enumerate().filter(|(_, idle)| idle.owner == *owner);
        // The lowest place is that of a server that is not known yet, or from which nothing was taken. Of equals the last.
        let place = |idle: &IdleConnection<C, K>| {
            idle.instance.map(|instance| self.taken.iter().position(|taken| *taken == instance))
        };
        mine.rev().min_by_key(|(_, idle)| place(idle)).map(|(at, _)| at)
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
        pool.put(1, "a", None, 1, now + s(60));
        pool.put(2, "a", None, 2, now + s(10));
        pool.put(3, "a", None, 3, now + s(60));
        assert_eq!((pool.newest(&"a"), pool.oldest()), (Some(3), Some(1)));
        assert_eq!(take(&mut pool, "a", now), (Some(3), vec![]));
        assert_eq!(take(&mut pool, "a", now + s(10)), (Some(1), vec![2]));
        assert_eq!(take(&mut pool, "a", now), (None, vec![]));
    }

    #[test]
    fn a_runtime_gets_only_its_own() {
        let (mut pool, now) = (ConnectionPool::new(), Instant::now());
        let until = now + Duration::from_secs(60);
        pool.put(1, "a", None, 1, until);
        assert_eq!((pool.newest(&"b"), take(&mut pool, "b", now)), (None, (None, vec![])));
        pool.put(2, "b", None, 2, until);
        pool.put(3, "a", None, 3, until);
        assert_eq!(pool.let_go(&"b"), vec![2]);
        assert_eq!((pool.take_oldest(), pool.len()), (Some(1), 1));
    }

    #[test]
    fn servers_take_turns_and_an_unknown_one_comes_first() {
        let (mut pool, now) = (ConnectionPool::new(), Instant::now());
        let until = now + Duration::from_secs(60);
        let [one, two] = ["0000000000000001", "0000000000000002"].map(InstanceId::read);
        // Two connections to one server, and one to another.
        for (connection, instance) in [(1, one), (2, one), (3, two)] {
            pool.put(connection, "a", instance, connection.into(), until);
        }
        let mut order = Vec::new();
        for turn in 4..10 {
            let taken = take(&mut pool, "a", now).0.unwrap();
            order.push(taken);
            pool.put(taken, "a", if taken == 3 { two } else { one }, turn, until);
        }
        assert_eq!(order, [3, 2, 3, 2, 3, 2]);
        pool.put(4, "a", None, 10, until);
        pool.put(5, "b", one, 11, until);
        assert_eq!((take(&mut pool, "a", now).0, take(&mut pool, "b", now).0), (Some(4), Some(5)));
        // At once, all are used.
        let at_once = [(); 4].map(|()| take(&mut pool, "a", now).0);
        assert_eq!(at_once, [Some(3), Some(2), Some(1), None]);
    }

    #[test]
    fn what_is_old_is_swept() {
        let (mut pool, now, s) = (ConnectionPool::new(), Instant::now(), Duration::from_secs);
        assert_eq!(pool.next_expiry(), None);
        pool.put(1, "a", None, 1, now + s(60));
        pool.put(2, "b", None, 2, now + s(4));
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
                        pool.put(turn, owner, None, turn, until);
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
