//! Warns if a program makes a client for each call. Such a client opens a connection for its call, and leaves a socket in
//! TIME_WAIT when it is dropped.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::deadline::later;

/// A client that made at most this many calls was short-lived.
const FEW: u64 = 2;

/// This many short-lived clients of one address within [`WINDOW`] give a warning.
const MANY: u64 = 32;
const WINDOW: Duration = Duration::from_secs(60);

/// The pause after a warning about an address.
const PAUSE: Duration = Duration::from_secs(600);

/// The most addresses that are counted at once.
const ADDRESSES: usize = 64;

static SHORT_LIVED: Mutex<ShortLivedClients> = Mutex::new(ShortLivedClients { addresses: Vec::new() });

/// A client of this address was dropped. `calls` is the number of calls that it made.
pub(super) fn client_dropped(address: impl FnOnce() -> String, calls: u64) {
    if !(1..=FEW).contains(&calls) {
        return;
    }
    let (address, now) = (address(), Instant::now());
    let counted = SHORT_LIVED.lock().unwrap_or_else(PoisonError::into_inner).dropped(&address, calls, now);
    if let Some(ClientCount { since, clients, calls }) = counted {
        let within = now.saturating_duration_since(since);
        tracing::warn!(
            "{clients} clients of {address} were dropped within {within:.1?}, after {calls} calls in all; each opens a \
             connection of its own. Make one client and keep it, in a `static` or in the state of the application: its \
             clones share their connections"
        );
    }
}

/// The short-lived clients of the process, by address. A state machine without a clock.
struct ShortLivedClients {
    addresses: Vec<AddressRecord>,
}

struct AddressRecord {
    address: Box<str>,
    state: AddressState,
}

#[derive(Clone, Copy)]
enum AddressState {
    Counting(ClientCount),
    WarnedAt(Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClientCount {
    since: Instant,
    clients: u64,
    calls: u64,
}

impl AddressRecord {
    /// The clients that are counted now, or `None` in the pause after a warning.
    fn counting(&self, now: Instant) -> Option<ClientCount> {
        match self.state {
            AddressState::Counting(count) if later(count.since, WINDOW) > now => Some(count),
            AddressState::WarnedAt(at) if later(at, PAUSE) > now => None,
            _ => Some(ClientCount { since: now, clients: 0, calls: 0 }),
        }
    }
}

impl ShortLivedClients {
    /// Counts a client. Returns what there is to warn of.
    fn dropped(&mut self, address: &str, calls: u64, now: Instant) -> Option<ClientCount> {
        let known = self.addresses.iter().position(|record| *record.address == *address);
        let record = match known {
            Some(at) => &mut self.addresses[at],
            None => self.add(address, now)?,
        };
        let mut count = record.counting(now)?;
        count.clients += 1;
        count.calls += calls;
        let is_many = count.clients >= MANY;
        record.state = if is_many { AddressState::WarnedAt(now) } else { AddressState::Counting(count) };
        is_many.then_some(count)
    }

    /// A new record. If there are too many, it replaces the one that has counted for longest. `None` if all addresses are in
    /// the pause after a warning.
    fn add(&mut self, address: &str, now: Instant) -> Option<&mut AddressRecord> {
        let state = AddressState::Counting(ClientCount { since: now, clients: 0, calls: 0 });
        let record = AddressRecord { address: address.into(), state };
        if self.addresses.len() < ADDRESSES {
            self.addresses.push(record);
            return self.addresses.last_mut();
        }
        let is_counting = |record: &&mut AddressRecord| record.counting(now).is_some();
        let oldest = self.addresses.iter_mut().filter(is_counting).min_by_key(|record| match record.state {
            AddressState::Counting(count) => count.since,
            AddressState::WarnedAt(at) => at,
        })?;
        *oldest = record;
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn none() -> ShortLivedClients {
        ShortLivedClients { addresses: Vec::new() }
    }

    #[test]
    fn many_clients_of_an_address_give_one_warning_until_the_pause_is_over() {
        let (mut clients, now) = (none(), Instant::now());
        let mut drop_many = |times: u64, at| (0..times).filter_map(|_| clients.dropped("data:8080", 1, at)).collect();
        let drops: Vec<_> = drop_many(MANY - 1, now);
        assert_eq!(drops, []);
        let drops: Vec<_> = drop_many(1, now + 59 * S);
        assert_eq!(drops, [ClientCount { since: now, clients: MANY, calls: MANY }]);
        let warned = now + 59 * S;
        let drops: Vec<_> = drop_many(1000, warned + PAUSE - S);
        assert_eq!(drops, []);
        let drops: Vec<_> = drop_many(MANY + 5, warned + PAUSE);
        assert_eq!(drops, [ClientCount { since: warned + PAUSE, clients: MANY, calls: MANY }]);
    }

    #[test]
    fn clients_that_are_made_now_and_then_give_no_warning() {
        let (mut clients, now) = (none(), Instant::now());
        for at in 0..1000 {
            assert_eq!(clients.dropped("data:8080", 1, now + at * 2 * S), None, "one in two seconds");
        }
    }

    #[test]
    fn addresses_are_counted_apart() {
        let (mut clients, now) = (none(), Instant::now());
        for _ in 1..MANY {
            assert_eq!(clients.dropped("a:1", 1, now), None);
            assert_eq!(clients.dropped("b:1", 2, now), None);
        }
        assert_eq!(clients.dropped("b:1", 2, now).map(|count| count.calls), Some(2 * MANY));
        assert_eq!(clients.dropped("a:1", 1, now).map(|count| count.calls), Some(MANY));
    }

    #[test]
    fn the_memory_is_bounded_and_a_pause_is_not_forgotten() {
        let (mut clients, now) = (none(), Instant::now());
        for _ in 0..MANY {
            clients.dropped("warned:1", 1, now);
        }
        for port in 0..1000 {
            assert_eq!(clients.dropped(&format!("other:{port}"), 1, now + S), None);
            assert!(clients.addresses.len() <= ADDRESSES);
        }
        for _ in 0..2 * MANY {
            assert_eq!(clients.dropped("warned:1", 1, now + 2 * S), None, "its pause is not over");
        }
        let mut all_warned = none();
        for address in 0..ADDRESSES as u64 * MANY {
            all_warned.dropped(&format!("data:{}", address / MANY), 1, now);
        }
        for _ in 0..2 * MANY {
            assert_eq!(all_warned.dropped("another:1", 1, now), None, "there is no room for it");
        }
        assert!(all_warned.dropped("another:1", 1, now + PAUSE).is_none() && all_warned.addresses.len() == ADDRESSES);
        let later: Vec<_> = (1..MANY).filter_map(|_| all_warned.dropped("another:1", 1, now + PAUSE)).collect();
        assert_eq!(later.len(), 1, "the pauses of the others are over");
    }
}
