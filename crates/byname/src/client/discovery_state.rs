//! Which answer of discovery holds, and when the next lookup begins: [`DiscoveryState`]. A state machine without I/O and
//! without a clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::discover::FRESH;
use crate::deadline::later;

/// The time between the beginnings of two lookups, at least.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a lookup notes that it is polled.
pub(super) const POLLED: Duration = Duration::from_secs(1);

/// A lookup that was not polled for this time is replaced by another: its runtime is not polled any more, or its caller is not.
/// Calls that wait for the first answer wait for longer by default, which is `Limits::connect`.
const UNPOLLED: Duration = Duration::from_secs(3);

/// The last good answer, and the lookup that runs. `R` is what an answer says, and `H` names a runtime.
#[derive(Debug)]
pub(super) struct DiscoveryState<R, H> {
    known: Option<KnownAnswer<R>>,
    running: Option<RunningLookup<H>>,
    /// How many lookups have begun.
    lookups: u64,
    /// The last lookup that failed.
    failed_lookup: Option<u64>,
    /// When the last lookup began.
    begun: Option<Instant>,
    /// Before this the next one does not begin.
    ask_at: Option<Instant>,
    /// Why there is no new answer, since the last good one.
    failure: Option<String>,
}

#[derive(Debug)]
struct KnownAnswer<R> {
    replicas: Arc<R>,
    at: Instant,
    /// It counts the answers that were different.
    version: u64,
    /// The lookup after it waits until something changes.
    is_watched: bool,
}

#[derive(Debug)]
struct RunningLookup<H> {
    number: u64,
    /// The runtime of its task. `None` if a call looks up by itself.
    home: Option<H>,
    /// When it was polled last.
    polled: Instant,
}

/// A lookup that counts as begun. The caller must begin it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BegunLookup {
    pub(super) number: u64,
    /// It replaces one that is not polled, and may hold what it needs.
    pub(super) is_takeover: bool,
}

/// What a call without an answer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstAnswer {
    LookUp(BegunLookup),
    /// Wait for this lookup, and ask again at this time.
    Wait {
        lookup: u64,
        until: Instant,
    },
}

/// What a good answer has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerNews {
    pub(super) is_changed: bool,
    /// There were failures before it.
    pub(super) has_recovered: bool,
}

/// What to do about an answer whose addresses all failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DoubtedAnswer {
    /// Begin a lookup. `waits` says whether its end is near.
    Ask { lookup: BegunLookup, waits: bool },
    /// A lookup runs that ends soon. Ask again at this time.
    Wait { until: Instant },
    /// Nothing else can be known now.
    Keep,
}

impl<R: PartialEq, H: PartialEq> DiscoveryState<R, H> {
    pub(super) fn new() -> Self {
        let (known, running, failed_lookup, begun, ask_at, failure) = (None, None, None, None, None, None);
        Self { known, running, lookups: 0, failed_lookup, begun, ask_at, failure }
    }

    /// The last good answer, and which one it is.
    pub(super) fn known(&self) -> Option<(&Arc<R>, u64)> {
        self.known.as_ref().map(|known| (&known.replicas, known.version))
    }

    /// How old the last good answer is.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.known.as_ref().map(|known| now.saturating_duration_since(known.at))
    }

    /// When a client that is used should look at the answer again: a lookup is due then, or may have ended.
    pub(super) fn look_at(&self, now: Instant) -> Instant {
        let soon = now + PAUSE;
        if self.running.is_some() { soon } else { self.ask_at.map_or(soon, |at| at.max(soon)) }
    }

    /// Why the last lookup had no good answer, if so.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Why this lookup had no good answer, if so.
    pub(super) fn failure_of(&self, lookup: u64) -> Option<&str> {
        self.failure().filter(|_| self.failed_lookup == Some(lookup))
    }

    /// A call of this runtime needs the first answer. One call looks it up by itself.
    pub(super) fn first(&mut self, here: &H, now: Instant) -> FirstAnswer {
        match &self.running {
            Some(running) if now < running.unpolled_at(here, now) => {
                FirstAnswer::Wait { lookup: running.number, until: running.unpolled_at(here, now) }
            }
            _ => FirstAnswer::LookUp(self.begin(None, now)),
        }
    }

    /// A call of this runtime uses the answer. Returns the lookup that it must begin in the background, if one is due.
    pub(super) fn used(&mut self, here: H, now: Instant) -> Option<BegunLookup> {
        let is_due = match &self.running {
            Some(running) => now >= running.unpolled_at(&here, now),
            None => self.ask_at.is_none_or(|at| at <= now),
        };
        (is_due && self.known.is_some()).then(|| self.begin(Some(here), now))
    }

    /// No address of this answer could be connected to.
    pub(super) fn doubted(&mut self, version: u64, here: H, now: Instant) -> DoubtedAnswer {
        let Some(known) = self.known.as_ref().filter(|known| known.version == version) else {
            return DoubtedAnswer::Keep;
        };
        let waits = !known.is_watched;
        if let Some(running) = &self.running {
            let until = running.unpolled_at(&here, now);
            if now < until {
                return if waits { DoubtedAnswer::Wait { until } } else { DoubtedAnswer::Keep };
            }
        } else if self.begun.is_some_and(|begun| now < begun + PAUSE) {
            return DoubtedAnswer::Keep;
        }
        DoubtedAnswer::Ask { lookup: self.begin(Some(here), now), waits }
    }

    /// A lookup is polled. Returns whether it counts still.
    pub(super) fn polled(&mut self, lookup: u64, now: Instant) -> bool {
        match &mut self.running {
            Some(running) if running.number == lookup => {
                running.polled = now;
                true
            }
            _ => false,
        }
    }

    /// A lookup has ended with an answer that can be used. `missing` says what of it could not be found.
    pub(super) fn answered(
        &mut self,
        replicas: R,
        fresh_for: Duration,
        missing: Option<String>,
        now: Instant,
    ) -> AnswerNews {
        self.running = None;
        self.ask_at = Some(self.earliest(now, fresh_for));
        let had_failed = std::mem::replace(&mut self.failure, missing).is_some();
        let (replicas, version, is_changed) = match self.known.take() {
            Some(known) if *known.replicas == replicas => (known.replicas, known.version, false),
            Some(known) => (Arc::new(replicas), known.version + 1, true),
            None => (Arc::new(replicas), 1, true),
        };
        self.known = Some(KnownAnswer { replicas, at: now, version, is_watched: fresh_for.is_zero() });
        AnswerNews { is_changed, has_recovered: had_failed && self.failure.is_none() }
    }

    /// A lookup has ended without an answer that can be used. Returns whether the one before it had one.
    pub(super) fn failed(&mut self, why: String, now: Instant) -> bool {
        self.failed_lookup = self.running.take().map(|running| running.number);
        self.ask_at = Some(self.earliest(now, FRESH));
        self.failure.replace(why).is_none()
    }

    /// A lookup was dropped: its caller has gone, or its runtime has ended. The next one may begin at once. Returns whether it
    /// counted still.
    pub(super) fn abandoned(&mut self, lookup: u64) -> bool {
        let is_last = self.running.take_if(|running| running.number == lookup).is_some();
        if is_last {
            self.ask_at = None;
        }
        is_last
    }

    fn begin(&mut self, home: Option<H>, now: Instant) -> BegunLookup {
        self.lookups += 1;
        self.begun = Some(now);
        let number = self.lookups;
        let is_takeover = self.running.replace(RunningLookup { number, home, polled: now }).is_some();
        BegunLookup { number, is_takeover }
    }

    fn earliest(&self, now: Instant, wait: Duration) -> Instant {
        let pause = self.begun.map_or(now, |begun| begun + PAUSE);
        later(now, wait).max(pause)
    }
}

impl<H: PartialEq> RunningLookup<H> {
    /// When a call of this runtime may begin another one, if it is not polled meanwhile. A runtime that makes calls polls its
    /// tasks.
    fn unpolled_at(&self, here: &H, now: Instant) -> Instant {
        if self.home.as_ref() == Some(here) { later(now, Duration::MAX) } else { self.polled + UNPOLLED }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A runtime.
    const HERE: &str = "here";

    fn answered_first(replicas: u8, fresh_for: Duration, now: Instant) -> DiscoveryState<u8, &'static str> {
        let mut state = DiscoveryState::new();
        assert!(state.used(HERE, now).is_none(), "the first answer is looked up by the call that waits for it");
        assert_eq!(state.first(&HERE, now), FirstAnswer::LookUp(BegunLookup { number: 1, is_takeover: false }));
        let news = state.answered(replicas, fresh_for, None, now);
        assert_eq!(news, AnswerNews { is_changed: true, has_recovered: false });
        state
    }

    #[test]
    fn a_lookup_begins_when_the_answer_is_old_and_only_one() {
        let now = Instant::now();
        let mut state = answered_first(1, 3 * SECOND, now);
        assert!(state.used(HERE, now + 2 * SECOND).is_none());
        let old = now + 3 * SECOND;
        assert!(
            state.used(HERE, old).is_some()
                && state.used(HERE, old).is_none()
                && state.used(HERE, old + 60 * SECOND).is_none()
        );
        assert_eq!(state.known(), Some((&Arc::new(1), 1)), "the old answer is used meanwhile");
        assert_eq!(state.age(old), Some(3 * SECOND));
        assert!(!state.answered(1, 3 * SECOND, None, old).is_changed);
        assert_eq!((state.known(), state.age(old)), (Some((&Arc::new(1), 1)), Some(Duration::ZERO)));
        assert!(state.used(HERE, old + 3 * SECOND).is_some());
        assert!(state.answered(2, 3 * SECOND, None, old + 3 * SECOND).is_changed);
        assert_eq!(state.known(), Some((&Arc::new(2), 2)));
    }

    #[test]
    fn a_client_looks_again_when_a_lookup_is_due_or_may_have_ended() {
        let now = Instant::now();
        let mut state = answered_first(1, 3 * SECOND, now);
        assert_eq!(state.look_at(now), now + 3 * SECOND);
        assert_eq!(state.look_at(now + 9 * SECOND), now + 10 * SECOND, "it was not used since then");
        assert!(state.used(HERE, now + 9 * SECOND).is_some());
        assert_eq!(state.look_at(now + 9 * SECOND), now + 10 * SECOND, "the lookup runs");
        state.answered(2, Duration::ZERO, None, now + 9 * SECOND);
        assert_eq!(state.look_at(now + 9 * SECOND), now + 10 * SECOND, "it is watched");
    }

    #[test]
    fn a_failure_keeps_the_answer_and_is_new_once() {
        let now = Instant::now();
        let mut state = answered_first(1, SECOND, now);
        assert!(state.used(HERE, now + SECOND).is_some());
        assert!(state.failed("the server is down".into(), now + SECOND));
        assert_eq!((state.known(), state.failure()), (Some((&Arc::new(1), 1)), Some("the server is down")));
        assert!(
            state.used(HERE, now + SECOND + FRESH - SECOND).is_none()
                && state.used(HERE, now + SECOND + FRESH).is_some()
        );
        assert!(!state.failed("it is down".into(), now + 7 * SECOND), "it was said before");
        assert_eq!(state.age(now + 9 * SECOND), Some(9 * SECOND), "it gets older");
        assert!(state.used(HERE, now + 60 * SECOND).is_some());
        let news = state.answered(1, SECOND, None, now + 60 * SECOND);
        assert_eq!((news, state.failure()), (AnswerNews { is_changed: false, has_recovered: true }, None));
    }

    #[test]
    fn an_answer_in_parts_holds_and_is_a_failure() {
        let now = Instant::now();
        let mut state = answered_first(1, SECOND, now);
        let part = state.answered(2, SECOND, Some("`b` has no address".into()), now);
        assert_eq!(part, AnswerNews { is_changed: true, has_recovered: false });
        assert_eq!((state.known(), state.failure()), (Some((&Arc::new(2), 2)), Some("`b` has no address")));
        assert!(state.answered(1, SECOND, None, now).has_recovered);
    }

    #[test]
    fn a_lookup_that_was_dropped_is_repeated_at_the_next_use() {
        let now = Instant::now();
        let mut state = answered_first(1, SECOND, now);
        assert!(state.used(HERE, now + SECOND).is_some());
        state.abandoned(state.lookups);
        assert!(state.used(HERE, now + SECOND).is_some());
    }

    #[test]
    fn an_answer_whose_addresses_fail_is_looked_up_again_at_most_once_a_second() {
        let now = Instant::now();
        let mut state = answered_first(1, 60 * SECOND, now);
        assert_eq!(state.doubted(1, HERE, now), DoubtedAnswer::Keep, "it is new");
        let lookup = BegunLookup { number: 2, is_takeover: false };
        assert_eq!(state.doubted(1, HERE, now + SECOND), DoubtedAnswer::Ask { lookup, waits: true });
        let waiting = state.doubted(1, HERE, now + 9 * SECOND);
        assert!(matches!(waiting, DoubtedAnswer::Wait { until } if until > now + 999 * SECOND), "{waiting:?}");
        state.answered(2, 60 * SECOND, None, now + 9 * SECOND);
        assert_eq!(state.doubted(1, HERE, now + 99 * SECOND), DoubtedAnswer::Keep, "there is another one");
        assert!(matches!(state.doubted(2, HERE, now + 99 * SECOND), DoubtedAnswer::Ask { waits: true, .. }));
    }

    #[test]
    fn nobody_waits_for_a_lookup_that_waits_for_a_change() {
        let now = Instant::now();
        let mut state = answered_first(1, Duration::ZERO, now);
        assert!(state.used(HERE, now).is_none(), "a source that always answers at once is not asked by each call");
        assert!(state.used(HERE, now + SECOND).is_some());
        assert_eq!(state.doubted(1, HERE, now + 99 * SECOND), DoubtedAnswer::Keep);
        state.answered(2, Duration::ZERO, None, now + 99 * SECOND);
        assert!(state.used(HERE, now + 99 * SECOND).is_some(), "it waited for long, so the next one begins at once");
        state.abandoned(state.lookups);
        assert!(matches!(state.doubted(2, HERE, now + 200 * SECOND), DoubtedAnswer::Ask { waits: false, .. }));
    }

    #[test]
    fn a_lookup_that_is_not_polled_is_taken_over_by_another_runtime() {
        let now = Instant::now();
        let mut state = answered_first(1, SECOND, now);
        let begun = state.used("stopped", now + SECOND).unwrap();
        let seen = now + 3 * SECOND;
        assert!(state.polled(begun.number, seen));
        assert_eq!(state.used("other", seen + UNPOLLED - Duration::from_millis(1)), None);
        assert_eq!(state.used("stopped", seen + 9 * UNPOLLED), None, "it polls its tasks when it makes calls");
        assert_eq!(state.doubted(1, "other", seen), DoubtedAnswer::Wait { until: seen + UNPOLLED });
        let taken_over = state.used("other", seen + UNPOLLED).unwrap();
        assert!(taken_over.is_takeover && taken_over.number != begun.number);
        // The first one is polled again, and has nothing to say.
        assert!(!state.polled(begun.number, seen + UNPOLLED));
        state.abandoned(begun.number);
        assert_eq!(state.used("other", seen + 2 * UNPOLLED), None, "the second one runs");
        let lookup = BegunLookup { number: taken_over.number + 1, is_takeover: true };
        assert_eq!(state.doubted(1, HERE, seen + 2 * UNPOLLED), DoubtedAnswer::Ask { lookup, waits: true });
    }

    #[test]
    fn a_call_that_is_not_polled_leaves_the_first_lookup_to_another() {
        let now = Instant::now();
        let mut state = DiscoveryState::<u8, _>::new();
        let FirstAnswer::LookUp(first) = state.first(&HERE, now) else { panic!("nothing runs") };
        let waiting = FirstAnswer::Wait { lookup: first.number, until: now + UNPOLLED };
        assert_eq!(state.first(&HERE, now + SECOND), waiting, "in the same runtime too");
        let FirstAnswer::LookUp(second) = state.first(&HERE, now + UNPOLLED) else { panic!("it has stopped") };
        assert!(second.is_takeover && !state.polled(first.number, now + UNPOLLED));
        state.failed("the server is down".into(), now + UNPOLLED);
        assert_eq!(
            (state.failure_of(second.number), state.failure_of(first.number)),
            (Some("the server is down"), None)
        );
        let FirstAnswer::LookUp(third) = state.first(&HERE, now + UNPOLLED) else { panic!("nothing runs") };
        assert!(!third.is_takeover);
        state.abandoned(third.number);
        assert_eq!(state.failure_of(third.number), None, "who waited for it looks up");
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Used,
        Doubted,
        Answers(u8, u64),
        Fails,
        Abandoned,
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Used),
            1 => Just(Event::Doubted),
            2 => (0..3u8, 0..40_000u64).prop_map(|(replicas, fresh)| Event::Answers(replicas, fresh)),
            1 => Just(Event::Fails),
            1 => Just(Event::Abandoned),
            4 => (0..20_000u64).prop_map(Event::Pass),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn the_last_good_answer_holds_and_is_renewed_while_it_is_used(events in proptest::collection::vec(event(), 0..80)) {
            let mut now = Instant::now();
            let mut state = answered_first(0, FRESH, now);
            let (mut is_running, mut begun, mut good) = (false, now, (0, now));
            // When the next use must begin a lookup, at the latest.
            let mut due = now + FRESH;
            for event in events {
                match event {
                    Event::Used => {
                        let begins = state.used(HERE, now).is_some();
                        prop_assert!(!(begins && is_running), "one at a time");
                        prop_assert_eq!(begins, !is_running && now >= due);
                        if begins {
                            (is_running, begun) = (true, now);
                        }
                    }
                    Event::Doubted => {
                        let version = state.known().unwrap().1;
                        if let DoubtedAnswer::Ask { .. } = state.doubted(version, HERE, now) {
                            prop_assert!(!is_running && now >= begun + PAUSE);
                            (is_running, begun) = (true, now);
                        }
                    }
                    Event::Answers(replicas, fresh) if is_running => {
                        let fresh = Duration::from_millis(fresh);
                        let news = state.answered(replicas, fresh, None, now);
                        prop_assert_eq!(news.is_changed, replicas != good.0);
                        (is_running, good, due) = (false, (replicas, now), (now + fresh).max(begun + PAUSE));
                    }
                    Event::Fails if is_running => {
                        state.failed("it is down".into(), now);
                        (is_running, due) = (false, now + FRESH);
                    }
                    Event::Abandoned if is_running => {
                        state.abandoned(state.lookups);
                        (is_running, due) = (false, now);
                    }
                    Event::Pass(time) => now += Duration::from_millis(time),
                    _ => {}
                }
                prop_assert_eq!(**state.known().unwrap().0, good.0);
                prop_assert_eq!(state.age(now), Some(now - good.1));
            }
        }
    }
}
