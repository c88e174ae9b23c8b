//! When a client looks for another instance of a service, and behind which address: [`InstanceSearch`]. A state machine
//! without sockets, without a clock and without chance of its own.

use std::time::Duration;

use tokio::time::Instant;

use crate::address::Address;
use crate::deadline::later;

/// After this number of tries in a row that found none, no further instance is looked for. A balancer that chooses at random
/// between two servers hides one of them from all of these tries once in 32 times.
const TRIES: u32 = 5;

/// The same if the last search has ended without any.
const TRIES_IF_NONE_BEFORE: u32 = 1;

/// The same if an instance was lost. Another may replace it, and needs time to start. The tries take about nine minutes.
const TRIES_AFTER_LOSS: u32 = 16;

/// The pause after the first try that found none. Each further one is four times as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The search of one runtime.
///
/// One address may stand for several instances: a balancer forwards each connection to one of them. To find them, a client
/// opens a further connection, and reads which instance is at its other end.
#[derive(Debug)]
pub(super) struct InstanceSearch {
    /// The tries in a row that found none, at all addresses.
    fruitless: u32,
    /// The tries at each address since one was found there.
    tries: Vec<(Address, u32)>,
    /// How many tries the search has, if no instance is missing.
    most: u32,
    /// Instances that were lost and not replaced.
    lost: u32,
    not_before: Instant,
    /// Another instance was found at some time.
    has_found: bool,
}

impl InstanceSearch {
    /// `was_vain` if the last search of this service has found no address with several instances.
    pub(super) fn new(was_vain: bool, now: Instant) -> Self {
        let most = if was_vain { TRIES_IF_NONE_BEFORE } else { TRIES };
        Self { fruitless: 0, tries: Vec::new(), most, lost: 0, not_before: now, has_found: false }
    }

    pub(super) fn is_over(&self) -> bool {
        self.fruitless >= if self.lost > 0 { TRIES_AFTER_LOSS } else { self.most }
    }

    /// Whether another instance is to be looked for now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_over() && self.not_before <= now
    }

    /// When the next try is due, if the pause before it is not over.
    pub(super) fn next_after(&self, now: Instant) -> Option<Instant> {
        (!self.is_over() && self.not_before > now).then_some(self.not_before)
    }

    /// The address for the next try: one with the fewest tries.
    pub(super) fn choose<'a>(&self, addresses: impl Iterator<Item = &'a Address>) -> Option<&'a Address> {
        addresses
            .min_by_key(|address| self.tries.iter().find(|(tried, _)| tried == *address).map_or(0, |(_, count)| *count))
    }

    /// Another instance is behind this address. There may be more.
    pub(super) fn found(&mut self, address: &Address, now: Instant) {
        self.tries.retain(|(tried, _)| tried != address);
        (self.fruitless, self.most, self.lost) = (0, TRIES, self.lost.saturating_sub(1));
        (self.not_before, self.has_found) = (now, true);
    }

    /// An address that had no connection has one. If other addresses stand for several instances, so may this one.
    pub(super) fn reached_address(&mut self, now: Instant) {
        if self.has_found {
            (self.fruitless, self.not_before) = (0, now);
        }
    }

    /// A try at this address has found no other instance. `jitter` is random, from 0 to 1.
    pub(super) fn found_none(&mut self, address: Option<&Address>, now: Instant, jitter: f64) {
        let pause = FIRST_PAUSE.saturating_mul(4u32.saturating_pow(self.fruitless)).min(LONGEST_PAUSE);
        self.not_before = later(now, pause.mul_f64(0.75 + jitter / 2.0));
        self.fruitless += 1;
        let Some(address) = address else { return };
        match self.tries.iter_mut().find(|(tried, _)| tried == address) {
            Some((_, count)) => *count += 1,
            None => self.tries.push((address.clone(), 1)),
        }
    }

    /// The connection to one of several instances behind an address has ended.
    pub(super) fn lost(&mut self, now: Instant) {
        self.lost += 1;
        (self.fruitless, self.not_before) = (0, now);
    }

    /// Only these are addresses of the service now.
    pub(super) fn addresses_are(&mut self, addresses: &[Address]) {
        self.tries.retain(|(tried, _)| addresses.contains(tried));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(port: u16) -> Address {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    /// Makes tries that find nothing until the search is over. Returns their number, and how long they took.
    fn all_tries(search: &mut InstanceSearch, mut now: Instant) -> (u32, Duration) {
        let (mut tries, begun) = (0, now);
        while !search.is_over() {
            now = search.next_after(now).unwrap_or(now);
            assert!(search.is_due(now));
            search.found_none(Some(&at(1)), now, 0.5);
            tries += 1;
        }
        (tries, now - begun)
    }

    #[test]
    fn a_search_ends_after_a_few_tries_within_a_second() {
        let (mut search, now) = (InstanceSearch::new(false, Instant::now()), Instant::now());
        let (tries, took) = all_tries(&mut search, now);
        assert_eq!((tries, took), (TRIES, Duration::from_millis(10 + 40 + 160 + 640)));
        assert!(!search.is_due(now + Duration::from_secs(3600)));
        let mut search = InstanceSearch::new(true, now);
        assert_eq!(all_tries(&mut search, now), (1, Duration::ZERO), "the last search has found none");
    }

    #[test]
    fn an_instance_that_was_found_begins_the_search_again() {
        let (mut search, now) = (InstanceSearch::new(true, Instant::now()), Instant::now());
        search.found(&at(1), now);
        assert!(search.is_due(now));
        assert_eq!(all_tries(&mut search, now).0, TRIES);
    }

    #[test]
    fn an_address_that_is_reached_begins_the_search_again_where_one_has_several_instances() {
        let (mut search, now) = (InstanceSearch::new(false, Instant::now()), Instant::now());
        all_tries(&mut search, now);
        search.reached_address(now);
        assert!(search.is_over(), "no address is known to have several");
        search.found(&at(1), now);
        all_tries(&mut search, now);
        search.reached_address(now);
        assert_eq!(all_tries(&mut search, now).0, TRIES);
    }

    #[test]
    fn a_lost_instance_is_looked_for_as_long_as_another_takes_to_start() {
        let (mut search, now) = (InstanceSearch::new(false, Instant::now()), Instant::now());
        all_tries(&mut search, now);
        search.lost(now);
        let (tries, took) = all_tries(&mut search, now);
        assert!(tries == TRIES_AFTER_LOSS && took > Duration::from_secs(500), "{tries} in {took:?}");
        search.lost(now);
        search.found(&at(1), now);
        search.found(&at(1), now);
        assert_eq!(all_tries(&mut search, now).0, TRIES, "both are replaced");
    }

    #[test]
    fn the_address_with_the_fewest_tries_is_next() {
        let (mut search, now) = (InstanceSearch::new(false, Instant::now()), Instant::now());
        let addresses = [at(1), at(2)];
        search.found_none(Some(&at(1)), now, 0.5);
        assert_eq!(search.choose(addresses.iter()), Some(&at(2)));
        search.found_none(Some(&at(2)), now, 0.5);
        search.found_none(Some(&at(2)), now, 0.5);
        assert_eq!(search.choose(addresses.iter()), Some(&at(1)));
        search.found(&at(2), now);
        assert_eq!(search.choose(addresses.iter()), Some(&at(2)));
        search.found_none(Some(&at(2)), now, 0.5);
        search.addresses_are(&[at(2)]);
        assert_eq!(search.choose(addresses.iter()), Some(&at(1)), "its tries are forgotten");
        assert_eq!(search.choose([].iter()), None);
    }

    proptest! {
        #[test]
        fn between_two_events_there_are_few_tries_and_no_pause_is_longer_than_the_longest(
            events in proptest::collection::vec((0..3u8, 0..100_000u64, 0.0..1.0f64), 0..60),
        ) {
            let mut now = Instant::now();
            let mut search = InstanceSearch::new(false, now);
            let mut tries = 0;
            for (event, milliseconds, jitter) in events {
                match event {
                    0 => search.lost(now),
                    1 => search.found(&at(1), now),
                    _ => now += Duration::from_millis(milliseconds),
                }
                if event < 2 {
                    tries = 0;
                    prop_assert!(!search.is_over());
                }
                if search.is_due(now) {
                    search.found_none(Some(&at(1)), now, jitter);
                    tries += 1;
                    prop_assert!(!search.is_due(now), "first there is a pause");
                }
                prop_assert!(tries <= TRIES_AFTER_LOSS);
                prop_assert!(search.next_after(now).is_none_or(|next| next <= now + LONGEST_PAUSE.mul_f64(1.25)));
            }
        }
    }
}
