//! Which calls with a key run, and which get a reply that is there already: [`KeyWindow`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::deadline::later;
use crate::idempotency_key::IdempotencyKey;

/// The keys of a server. It has no clock. `W` is how a duplicate waits for the reply of a call that runs, and
/// `R` is such a reply.
///
/// A key stays for the window after its call has ended, and as long as its call runs. It is never removed before, because a duplicate
/// could run then. So a key for which there is no room is refused, and a reply for which there is no room is not kept: then a duplicate
/// learns only that the call has run.
#[derive(Debug)]
pub(crate) struct KeyWindow<W, R> {
    entries: HashMap<Arc<str>, KeyEntry<W, R>>,
    /// The keys whose calls have ended, and when they are forgotten. The first comes first.
    ended: VecDeque<(Instant, Arc<str>)>,
    window: Duration,
    /// How many bytes all entries may take.
    room: usize,
    used: usize,
}

#[derive(Debug)]
struct KeyEntry<W, R> {
    arguments: [u8; 20],
    size: usize,
    state: KeyState<W, R>,
}

#[derive(Debug)]
enum KeyState<W, R> {
    Runs(W),
    Ran(R),
    /// There was no room for its reply.
    RanWithoutReply,
}

/// What becomes of a call with a key.
#[derive(Debug)]
pub(crate) enum KeyedStart<W, R> {
    /// It runs. [`KeyWindow::ended`] or [`KeyWindow::released`] must be told.
    Run,
    /// The first call with this key runs.
    Wait(W),
    Reply(R),
    /// The first call has run, and its reply was not kept.
    NoReply,
    /// The first call had other arguments.
    OtherArguments,
    /// There is no room for another key. The next one is forgotten after this time, if any call has ended.
    Full(Option<Duration>),
}

/// What an entry takes beside its key and its reply, about.
const OVERHEAD: usize = 512;

impl<W: Clone, R: Clone> KeyWindow<W, R> {
    pub(crate) fn new(window: Duration, room: usize) -> Self {
        Self { entries: HashMap::new(), ended: VecDeque::new(), window, room, used: 0 }
    }

    /// Whether this key is known.
    pub(crate) fn knows(&mut self, key: &IdempotencyKey, now: Instant) -> bool {
        self.forget(now);
        self.entries.contains_key(key.as_str())
    }

    /// A call with this key has come. `waiter` is for its duplicates, if it runs.
    pub(crate) fn begin(&mut self, key: &IdempotencyKey, waiter: W, now: Instant) -> KeyedStart<W, R> {
        self.forget(now);
        if let Some(entry) = self.entries.get(key.as_str()) {
            return match &entry.state {
                _ if entry.arguments != key.arguments() => KeyedStart::OtherArguments,
                KeyState::Runs(waiter) => KeyedStart::Wait(waiter.clone()),
                KeyState::Ran(reply) => KeyedStart::Reply(reply.clone()),
                KeyState::RanWithoutReply => KeyedStart::NoReply,
            };
        }
        let size = OVERHEAD + key.as_str().len();
        if size > self.room.saturating_sub(self.used) {
            let next = self.ended.front().map(|(until, _)| until.saturating_duration_since(now));
            return KeyedStart::Full(next);
        }
        self.used += size;
        let entry = KeyEntry { arguments: key.arguments(), size, state: KeyState::Runs(waiter) };
        self.entries.insert(Arc::clone(key.text()), entry);
        KeyedStart::Run
    }

    /// The call that runs with this key has ended. With its reply comes the number of its bytes. Returns whether there was room for
    /// it.
    pub(crate) fn ended(&mut self, key: &IdempotencyKey, reply: Option<(R, usize)>, now: Instant) -> bool {
        self.forget(now);
        let room = self.room - self.used;
        let Some(entry) = self.entries.get_mut(key.as_str()) else { return false };
        let fits = reply.filter(|(_, size)| *size <= room);
        let is_kept = fits.is_some();
        entry.state = match fits {
            Some((reply, size)) => {
                entry.size += size;
                self.used += size;
                KeyState::Ran(reply)
            }
            None => KeyState::RanWithoutReply,
        };
        self.ended.push_back((later(now, self.window), Arc::clone(key.text())));
        is_kept
    }

    /// The call with this key was not run after all, or its reply is stored elsewhere.
    pub(crate) fn released(&mut self, key: &IdempotencyKey) {
        if let Some(entry) = self.entries.remove(key.as_str()) {
            self.used -= entry.size;
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((until, _)) = self.ended.front()
            && *until <= now
            && let Some((_, text)) = self.ended.pop_front()
            && let Some(entry) = self.entries.remove(&text)
        {
            self.used -= entry.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    /// Of one entry with a key of one byte.
    const ENTRY: usize = OVERHEAD + "f c 0".len();

    fn key(number: u8, arguments: u8) -> IdempotencyKey {
        IdempotencyKey::new("f", "c", &char::from(b'0' + number).to_string(), [arguments; 20])
    }

    fn window(room: usize) -> KeyWindow<(), ()> {
        KeyWindow::new(WINDOW, room)
    }

    #[test]
    fn a_duplicate_waits_and_then_gets_the_reply() {
        let (mut keys, now) = (window(10_000), Instant::now());
        let first = key(1, 1);
        assert!(matches!(keys.begin(&first, (), now), KeyedStart::Run));
        assert!(matches!(keys.begin(&first, (), now), KeyedStart::Wait(())));
        assert!(matches!(keys.begin(&key(1, 2), (), now), KeyedStart::OtherArguments));
        assert!(matches!(keys.begin(&key(2, 1), (), now), KeyedStart::Run));
        assert!(keys.ended(&first, Some(((), 9)), now));
        assert!(matches!(keys.begin(&first, (), now), KeyedStart::Reply(_)));
        assert!(matches!(keys.begin(&key(1, 2), (), now), KeyedStart::OtherArguments));
        let last = now + WINDOW - Duration::from_nanos(1);
        assert!(matches!(keys.begin(&first, (), last), KeyedStart::Reply(_)));
        assert!(matches!(keys.begin(&first, (), now + WINDOW), KeyedStart::Run));
        assert!(matches!(keys.begin(&key(2, 1), (), now + WINDOW), KeyedStart::Wait(())), "it still runs");
    }

    #[test]
    fn a_call_that_was_not_run_leaves_nothing() {
        let (mut keys, now) = (window(ENTRY), Instant::now());
        for _ in 0..3 {
            assert!(matches!(keys.begin(&key(1, 1), (), now), KeyedStart::Run));
            keys.released(&key(1, 1));
        }
        assert_eq!((keys.used, keys.entries.len()), (0, 0));
    }

    #[test]
    fn a_full_window_refuses_new_keys_until_old_ones_are_forgotten() {
        let (mut keys, now) = (window(2 * ENTRY), Instant::now());
        assert!(matches!(keys.begin(&key(1, 1), (), now), KeyedStart::Run));
        assert!(matches!(keys.begin(&key(2, 1), (), now), KeyedStart::Run));
        assert!(matches!(keys.begin(&key(3, 1), (), now), KeyedStart::Full(None)));
        assert!(!keys.ended(&key(1, 1), Some(((), 9)), now), "there is no room for the reply");
        assert!(matches!(keys.begin(&key(1, 1), (), now), KeyedStart::NoReply));
        let later = now + Duration::from_secs(20);
        assert!(matches!(keys.begin(&key(3, 1), (), later), KeyedStart::Full(Some(after)) if after.as_secs() == 40));
        assert!(matches!(keys.begin(&key(3, 1), (), now + WINDOW), KeyedStart::Run));
    }

    #[test]
    fn without_room_every_key_is_refused() {
        assert!(matches!(window(0).begin(&key(1, 1), (), Instant::now()), KeyedStart::Full(None)));
    }

    proptest! {
        /// No key runs twice within the window, whatever happens, and the room is never exceeded.
        #[test]
        fn a_key_runs_once_within_its_window(
            room in 0..8 * ENTRY,
            deeds in proptest::collection::vec((0..6u8, 0..4u8, 2..1200usize, 0..30u64), 0..300),
        ) {
            let (mut keys, mut now) = (window(room), Instant::now());
            // Of each key: whether it runs, and when its call has ended.
            let mut runs: HashMap<u8, bool> = HashMap::new();
            let mut ended: HashMap<u8, Instant> = HashMap::new();
            for (number, deed, length, pass) in deeds {
                let key = key(number, 1);
                let is_running = runs.get(&number).copied().unwrap_or_default();
                match deed {
                    0 => now += Duration::from_secs(pass),
                    1 if is_running => {
                        keys.ended(&key, Some(((), length)), now);
                        runs.insert(number, false);
                        ended.insert(number, now);
                    }
                    2 if is_running => {
                        keys.released(&key);
                        runs.insert(number, false);
                    }
                    _ => match keys.begin(&key, (), now) {
                        KeyedStart::Run => {
                            prop_assert!(!is_running);
                            prop_assert!(ended.get(&number).is_none_or(|at| *at + WINDOW <= now));
                            runs.insert(number, true);
                        }
                        KeyedStart::Wait(()) => prop_assert!(is_running),
                        KeyedStart::Reply(_) | KeyedStart::NoReply => prop_assert!(!is_running && ended.contains_key(&number)),
                        KeyedStart::Full(_) => prop_assert!(keys.used + ENTRY > room),
                        KeyedStart::OtherArguments => prop_assert!(false),
                    },
                }
                prop_assert!(keys.used <= room);
                prop_assert_eq!(keys.used, keys.entries.values().map(|entry| entry.size).sum::<usize>());
            }
        }
    }
}
