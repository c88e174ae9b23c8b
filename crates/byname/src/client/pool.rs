//! Which connections are idle. A state machine: no sockets, no clock.

use tokio::time::Instant;

/// Idle connections of one host, the most recently used on top, so that those that aren't needed grow old.
#[derive(Debug)]
pub(super) struct Pool<C, K> {
    idle: Vec<Idle<C, K>>,
}

#[derive(Debug)]
struct Idle<C, K> {
    connection: C,
    /// The runtime it belongs to.
    owner: K,
    until: Instant,
}

impl<C, K: PartialEq> Pool<C, K> {
    pub(super) fn new() -> Self {
        Self { idle: Vec::new() }
    }

    /// The most recently used connection of this owner that is not too old; those that are come back in `closed`, to be
    /// dropped by the caller.
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

    pub(super) fn put(&mut self, connection: C, owner: K, until: Instant) {
        self.idle.push(Idle { connection, owner, until });
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

    /// Makes room for a new connection beside `busy` ones: the oldest idle ones, which can only be other owners', go.
    pub(super) fn make_room(&mut self, busy: usize, limit: usize) -> Vec<C> {
        let surplus = (self.idle.len() + busy).saturating_sub(limit).min(self.idle.len());
        self.idle.drain(..surplus).map(|idle| idle.connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn take(pool: &mut Pool<u8, &'static str>, owner: &'static str, now: Instant) -> (Option<u8>, Vec<u8>) {
        let mut closed = Vec::new();
        let taken = pool.take(&owner, now, &mut closed);
        (taken, closed)
    }

    #[test]
    fn the_last_used_goes_first_and_the_old_never() {
        let (mut pool, now, s) = (Pool::new(), Instant::now(), Duration::from_secs);
        pool.put(1, "a", now + s(60));
        pool.put(2, "a", now + s(10));
        pool.put(3, "a", now + s(60));
        assert_eq!(take(&mut pool, "a", now), (Some(3), vec![]));
        assert_eq!(take(&mut pool, "a", now + s(10)), (Some(1), vec![2]));
        assert_eq!(take(&mut pool, "a", now), (None, vec![]));
    }

    #[test]
    fn a_runtime_gets_only_its_own() {
        let (mut pool, now) = (Pool::new(), Instant::now());
        let until = now + Duration::from_secs(60);
        pool.put(1, "a", until);
        assert_eq!(take(&mut pool, "b", now), (None, vec![]));
        assert!(pool.make_room(1, 2).is_empty());
        pool.put(2, "b", until);
        assert_eq!(pool.let_go(&"b"), vec![2]);
        assert_eq!(pool.make_room(2, 2), vec![1], "idle and busy together keep to the limit");
    }

    #[test]
    fn what_is_old_is_swept() {
        let (mut pool, now, s) = (Pool::new(), Instant::now(), Duration::from_secs);
        assert_eq!(pool.next_expiry(), None);
        pool.put(1, "a", now + s(60));
        pool.put(2, "b", now + s(4));
        assert_eq!(pool.next_expiry(), Some(now + s(4)));
        assert_eq!(pool.expire(now + s(4)), vec![2]);
        assert_eq!(pool.next_expiry(), Some(now + s(60)));
    }
}
