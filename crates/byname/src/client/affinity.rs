//! Which replica the calls with one key go to: [`Affinity`], and what a call wants of its replica: [`ReplicaWish`].

use std::fmt::Display;
use std::num::NonZeroU64;

use super::rendezvous_hash::{key_hash, rendezvous_hash};
use super::replica_choice::ReplicaId;
use crate::address::Address;
use crate::wire::instance_and_load::InstanceId;

/// A key whose calls go to the same replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Affinity(NonZeroU64);

/// The server of the first attempt at a call with a key, which may have run there.
#[derive(Clone, Debug)]
pub(super) struct PinnedServer {
    pub(super) instance: InstanceId,
    pub(super) address: Address,
}

/// What a call wants of its replica.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReplicaWish<'a> {
    /// The replicas at which it has failed. It goes to another one, if there is one.
    pub(super) tried: &'a [ReplicaId],
    pub(super) affinity: Option<Affinity>,
    /// It goes to this server or nowhere.
    pub(super) pinned: Option<&'a PinnedServer>,
    /// It goes to another one or nowhere.
    pub(super) only_elsewhere: bool,
}

impl Affinity {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(NonZeroU64::new(key_hash(key)).unwrap_or(NonZeroU64::MIN))
    }

    /// Sorts replicas: the one that the calls go to comes first. If it is gone, the next one takes its place. `name` is what
    /// all clients call a replica.
    pub(super) fn sort<R, N: Display>(self, replicas: &mut [R], name: impl Fn(&R) -> N) {
        replicas.sort_by_cached_key(|replica| u64::MAX - rendezvous_hash(self.0.get(), &name(replica)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn first(key: u32, replicas: &[u16]) -> u16 {
        let mut sorted = replicas.to_vec();
        Affinity::new(&key.to_le_bytes()).sort(&mut sorted, |replica| format!("10.0.0.{replica}:8080"));
        sorted[0]
    }

    #[test]
    fn keys_are_spread_evenly_and_only_those_of_a_replica_that_goes_move() {
        let mut keys = BTreeMap::new();
        for key in 0..3000 {
            let with_all = first(key, &[1, 2, 3]);
            *keys.entry(with_all).or_insert(0) += 1;
            assert_eq!(first(key, &[3, 2, 1]), with_all, "the order of discovery does not matter");
            let without_two = first(key, &[1, 3]);
            assert!(with_all == 2 || without_two == with_all);
        }
        assert!(keys.values().all(|count| (850..1150).contains(count)), "{keys:?}");
    }
}
