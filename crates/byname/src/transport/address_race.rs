//! Which of a service's addresses is tried next, and when: [`AddressRace`]. A state machine without sockets and without a
//! clock.

use std::time::Duration;
use std::vec;

use tokio::time::Instant;

use crate::address::Address;

/// How long an address may take for each step before the next is tried beside it (RFC 8305's connection attempt delay).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The addresses of one new connection. The first one that is ready is used.
#[derive(Debug)]
pub(super) struct AddressRace {
    waiting: vec::IntoIter<Address>,
    /// In the order of their start.
    running: Vec<RunningAddress>,
    started: usize,
    /// When the next address starts. `None` if it starts at once.
    next_at: Option<Instant>,
}

#[derive(Debug)]
struct RunningAddress {
    id: usize,
    address: Address,
    step: ConnectStep,
    /// The next address was started because this one took too long.
    is_slow: bool,
}

/// What an address is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectStep {
    Connecting,
    /// The TLS handshake.
    Securing,
    /// From HTTP to frames.
    Upgrading,
}

impl AddressRace {
    pub(super) fn new(addresses: Vec<Address>) -> Self {
        Self { waiting: addresses.into_iter(), running: Vec::new(), started: 0, next_at: None }
    }

    /// The address to start now, if there is one, and its id.
    pub(super) fn start(&mut self, now: Instant) -> Option<(usize, Address)> {
        if self.next_at.is_some_and(|at| now < at) {
            return None;
        }
        let address = self.waiting.next()?;
        // They are not slow if the next one starts only because another failed.
        if self.next_at.is_some() {
            for running in &mut self.running {
                running.is_slow = true;
            }
        }
        let id = self.started;
        self.started += 1;
        self.next_at = Some(now + NEXT_ADDRESS);
        let step = ConnectStep::Connecting;
        self.running.push(RunningAddress { id, address: address.clone(), step, is_slow: false });
        Some((id, address))
    }

    /// When the next address starts, if there is one.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at.filter(|_| self.waiting.len() > 0)
    }

    /// An address has come to its next step, and may take as long again.
    pub(super) fn moved(&mut self, id: usize, step: ConnectStep, now: Instant) {
        let newest = self.running.last().map(|newest| newest.id);
        if let Some(running) = self.running.iter_mut().find(|running| running.id == id) {
            running.step = step;
        }
        if newest == Some(id) {
            self.next_at = Some(now + NEXT_ADDRESS);
        }
    }

    /// An address has failed. The next one starts at once.
    pub(super) fn failed(&mut self, id: usize) {
        self.running.retain(|running| running.id != id);
        self.next_at = None;
    }

    /// The addresses that held up the connection, now that this one is used, or none at the end of the time.
    pub(super) fn stalled(&self, used: Option<&Address>) -> Vec<Address> {
        let others = || self.running.iter().filter(|running| Some(&running.address) != used);
        let mut stalled: Vec<_> = others().filter(|running| running.is_slow).collect();
        if stalled.is_empty() && used.is_none() {
            stalled = others().collect();
        }
        stalled.into_iter().map(|running| running.address.clone()).collect()
    }

    /// What was waited for in vain.
    pub(super) fn missing(&self) -> &'static str {
        let is_in_handshake = self.running.iter().any(|running| running.step == ConnectStep::Securing);
        if is_in_handshake { "the TLS handshake did not finish" } else { "no answer" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    const STEP: Duration = Duration::from_millis(1);

    fn at(port: u16) -> Address {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn race(ports: &[u16]) -> AddressRace {
        AddressRace::new(ports.iter().map(|port| at(*port)).collect())
    }

    #[test]
    fn the_next_address_starts_while_a_step_of_the_last_takes_long() {
        let now = Instant::now();
        let mut race = race(&[1, 2, 3]);
        assert_eq!(race.start(now), Some((0, at(1))));
        assert_eq!((race.start(now), race.next_at()), (None, Some(now + NEXT_ADDRESS)));
        // It has accepted: its handshake gets as long.
        let accepted = now + NEXT_ADDRESS - STEP;
        race.moved(0, ConnectStep::Securing, accepted);
        assert_eq!(race.start(accepted + NEXT_ADDRESS - STEP), None);
        let late = accepted + NEXT_ADDRESS;
        assert_eq!(race.start(late), Some((1, at(2))));
        // Only the newest holds up the next.
        race.moved(0, ConnectStep::Upgrading, late + STEP);
        assert_eq!(race.start(late + NEXT_ADDRESS), Some((2, at(3))));
        assert_eq!(race.next_at(), None);
        assert_eq!(race.start(late + NEXT_ADDRESS * 9), None);
    }

    #[test]
    fn the_next_address_starts_at_once_when_one_fails() {
        let now = Instant::now();
        let mut race = race(&[1, 2, 3]);
        race.start(now);
        race.failed(0);
        assert_eq!(race.start(now), Some((1, at(2))));
        assert_eq!(race.start(now), None);
        race.failed(1);
        assert_eq!(race.start(now), Some((2, at(3))));
        race.failed(2);
        assert_eq!((race.start(now), race.next_at()), (None, None));
        assert_eq!(race.stalled(None), []);
    }

    #[test]
    fn an_address_that_was_overtaken_after_its_time_has_stalled() {
        let now = Instant::now();
        let mut race = race(&[1, 2, 3]);
        race.start(now);
        race.start(now + NEXT_ADDRESS);
        assert_eq!(race.stalled(Some(&at(2))), [at(1)]);
        assert_eq!(race.stalled(Some(&at(1))), [], "the second was not given its time");
        // The third starts because the first failed: the second has not stalled.
        race.failed(0);
        assert_eq!(race.start(now + NEXT_ADDRESS), Some((2, at(3))));
        assert_eq!(race.stalled(Some(&at(3))), []);
    }

    #[test]
    fn at_the_end_of_the_time_the_last_has_stalled_only_if_no_other_has() {
        let now = Instant::now();
        let mut race = race(&[1, 2]);
        race.start(now);
        assert_eq!(race.stalled(None), [at(1)]);
        race.start(now + NEXT_ADDRESS);
        assert_eq!(race.stalled(None), [at(1)], "the second gets its turn next time");
        race.failed(0);
        assert_eq!(race.stalled(None), [at(2)]);
    }

    #[test]
    fn what_was_waited_for_is_a_handshake_if_any_was() {
        let now = Instant::now();
        let mut race = race(&[1, 2]);
        race.start(now);
        race.start(now + NEXT_ADDRESS);
        assert_eq!(race.missing(), "no answer");
        race.moved(0, ConnectStep::Securing, now);
        assert_eq!(race.missing(), "the TLS handshake did not finish");
        race.moved(0, ConnectStep::Upgrading, now);
        assert_eq!(race.missing(), "no answer");
    }

    proptest! {
        #[test]
        fn every_address_is_tried_once_and_a_new_one_only_when_another_failed_or_took_its_time(
            count in 1..6u16,
            events in proptest::collection::vec((0..4u8, 0..6usize, 0..300u64), 0..40),
        ) {
            let mut race = race(&(1..=count).collect::<Vec<_>>());
            let mut now = Instant::now();
            let mut started = Vec::new();
            let mut may_start_at = now;
            for (event, id, pause) in events {
                match event {
                    0 => race.moved(id, ConnectStep::Securing, now),
                    1 => {
                        race.failed(id);
                        may_start_at = now;
                    }
                    _ => now += Duration::from_millis(pause),
                }
                if let Some((_, address)) = race.start(now) {
                    prop_assert!(now >= may_start_at, "too early");
                    prop_assert!(!started.contains(&address));
                    started.push(address);
                    may_start_at = now + NEXT_ADDRESS;
                }
                prop_assert!(race.stalled(None).iter().all(|stalled| started.contains(stalled)));
                prop_assert!(started.last().is_none_or(|used| !race.stalled(Some(used)).contains(used)));
            }
            for _ in 0..count {
                started.extend(race.start(now).map(|(_, address)| address));
                now += NEXT_ADDRESS;
            }
            prop_assert_eq!(started.len(), usize::from(count));
        }
    }
}
