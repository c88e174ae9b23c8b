//! Which replicas a client connects to if there are many: [`ReplicaSubset`]. It is pure.

use std::fmt::Display;

use super::rendezvous_hash::rendezvous_hash;

/// Orders the replicas of a service for one client. The client connects to the first ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplicaSubset(SubsetRule);

#[derive(Clone, Copy, Debug)]
enum SubsetRule {
    /// Rendezvous hashing: each client orders the replicas by a hash of itself and of the replica.
    Random { identity: u64 },
    /// All clients have the replicas in the same order, as a ring. They begin at places with equal distances.
    Numbered { client: u32, clients: u32 },
}

impl ReplicaSubset {
    /// Of a client that knows nothing of the others. Its identity is random.
    pub(super) fn random(identity: u64) -> Self {
        Self(SubsetRule::Random { identity })
    }

    /// Of the client with this number, from 0. `None` if there are not as many clients.
    pub(super) fn numbered(client: u32, clients: u32) -> Option<Self> {
        (client < clients).then_some(Self(SubsetRule::Numbered { client, clients }))
    }

    /// Moves the replicas that the client connects to first to the front.
    pub(super) fn order<R: Display>(self, replicas: &mut [R]) {
        match self.0 {
            SubsetRule::Random { identity } => {
                replicas.sort_by_cached_key(|replica| rendezvous_hash(identity, replica))
            }
            SubsetRule::Numbered { client, clients } => {
                replicas.sort_by_cached_key(|replica| rendezvous_hash(0, replica));
                let start = u64::from(client) * replicas.len() as u64 / u64::from(clients);
                replicas.rotate_left(start as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 20;

    fn replicas(count: u16) -> Vec<String> {
        (0..count).map(|number| format!("10.0.{}.{}:8080", number / 256, number % 256)).collect()
    }

    fn subset(of: ReplicaSubset, replicas: &[String]) -> BTreeSet<String> {
        let mut ordered = replicas.to_vec();
        of.order(&mut ordered);
        ordered.into_iter().take(SIZE).collect()
    }

    #[test]
    fn clients_with_numbers_have_replicas_equally_often() {
        for (clients, count) in [(100, 100), (100, 103), (7, 41), (30, 600), (1000, 21)] {
            let replicas = replicas(count);
            let mut counts: BTreeMap<_, u32> = replicas.iter().map(|replica| (replica.clone(), 0)).collect();
            for client in 0..clients {
                for replica in subset(ReplicaSubset::numbered(client, clients).unwrap(), &replicas) {
                    *counts.get_mut(&replica).unwrap() += 1;
                }
            }
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            assert!(most - least <= 1, "{clients} clients and {count} replicas: {least} to {most}");
        }
        assert!(ReplicaSubset::numbered(3, 3).is_none() && ReplicaSubset::numbered(0, 0).is_none());
    }

    #[test]
    fn the_order_of_clients_with_numbers_is_the_same_in_every_version() {
        let mut ordered = replicas(4);
        ReplicaSubset::numbered(1, 2).unwrap().order(&mut ordered);
        assert_eq!(ordered, ["10.0.0.1:8080", "10.0.0.3:8080", "10.0.0.0:8080", "10.0.0.2:8080"]);
    }

    proptest! {
        #[test]
        fn a_replica_that_comes_or_goes_changes_one_of_a_random_subset_at_most(
            identity: u64, count in 21..200u16, gone in 0..200usize,
        ) {
            let of = ReplicaSubset::random(identity);
            let all = replicas(count);
            let (before, gone) = (subset(of, &all), &all[gone % all.len()]);
            let rest: Vec<_> = all.iter().filter(|replica| *replica != gone).cloned().collect();
            let after = subset(of, &rest);
            prop_assert_eq!(after.difference(&before).count(), usize::from(before.contains(gone)));
        }

        #[test]
        fn a_replica_that_comes_or_goes_changes_two_of_a_numbered_subset_at_most(
            client in 0..100u32, clients in 1..100u32, count in 22..200u16, gone in 0..200usize,
        ) {
            let of = ReplicaSubset::numbered(client % clients, clients).unwrap();
            let all = replicas(count);
            let (before, gone) = (subset(of, &all), &all[gone % all.len()]);
            let rest: Vec<_> = all.iter().filter(|replica| *replica != gone).cloned().collect();
            prop_assert!(subset(of, &rest).difference(&before).count() <= 2);
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(identity: u64, clients in 1..100u32, seed: u64) {
            let mut shuffled = replicas(50);
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            for of in [ReplicaSubset::random(identity), ReplicaSubset::numbered(clients / 2, clients).unwrap()] {
                prop_assert_eq!(subset(of, &shuffled), subset(of, &replicas(50)));
            }
        }
    }
}
