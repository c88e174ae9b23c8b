//! Which answer of discovery holds, and when the next lookup begins: [`DiscoveryState`]. A state machine without I/O and
//! without a clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::discover::FRESH;

/// The time between the beginnings of two lookups, at least.
const PAUSE: Duration = Duration::from_secs(1);

/// The last good answer, and the lookup that runs. `R` is what an answer says.
#[derive(Debug)]
pub(super) struct DiscoveryState<R> {
    known: Option<KnownAnswer<R>>,
    is_running: bool,
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
    /// Begin a lookup. It counts as begun. `waits` says whether its end is near.
    Ask { waits: bool },
    /// A lookup runs that ends soon.
    Wait,
    /// Nothing else can be known now.
    Keep,
}

impl<R: PartialEq> DiscoveryState<R> {
    pub(super) fn new() -> Self {
        Self { known: None, is_running: false, begun: None, ask_at: None, failure: None }
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
        if self.is_running { soon } else { self.ask_at.map_or(soon, |at| at.max(soon)) }
    }

    /// Why the last lookup had no good answer, if so.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// A call waits for the first answer, and looks it up by itself.
    pub(super) fn first_begun(&mut self, now: Instant) {
        self.begin(now);
    }

    /// A call uses the answer. Whether the caller must begin a lookup in the background, which counts as begun then.
    pub(super) fn used(&mut self, now: Instant) -> bool {
        let is_due = self.known.is_some() && !self.is_running && self.ask_at.is_none_or(|at| at <= now);
        if is_due {
            self.begin(now);
        }
        is_due
    }

    /// No address of this answer could be connected to.
    pub(super) fn doubted(&mut self, version: u64, now: Instant) -> DoubtedAnswer {
        let Some(known) = self.known.as_ref().filter(|known| known.version == version) else {
            return DoubtedAnswer::Keep;
        };
        let waits = !known.is_watched;
        if self.is_running {
            return if waits { DoubtedAnswer::Wait } else { DoubtedAnswer::Keep };
        }
        if self.begun.is_some_and(|begun| now < begun + PAUSE) {
            return DoubtedAnswer::Keep;
        }
        self.begin(now);
        DoubtedAnswer::Ask { waits }
    }

    /// A lookup has ended with an answer that can be used. `missing` says what of it could not be found.
    pub(super) fn answered(
        &mut self,
        replicas: R,
        fresh_for: Duration,
        missing: Option<String>,
        now: Instant,
    ) -> AnswerNews {
        self.is_running = false;
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
        self.is_running = false;
        self.ask_at = Some(self.earliest(now, FRESH));
        self.failure.replace(why).is_none()
    }

    /// A lookup was dropped: its caller has gone, or its runtime has ended. The next one may begin at once.
    pub(super) fn abandoned(&mut self) {
        self.is_running = false;
        self.ask_at = None;
    }

    fn begin(&mut self, now: Instant) {
        self.is_running = true;
        self.begun = Some(now);
    }

    fn earliest(&self, now: Instant, wait: Duration) -> Instant {
        let pause = self.begun.map_or(now, |begun| begun + PAUSE);
        crate::deadline::later(now, wait).max(pause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answered_first(replicas: u8, fresh_for: Duration, now: Instant) -> DiscoveryState<u8> {
        let mut state = DiscoveryState::new();
        assert!(!state.used(now), "the first answer is looked up by the call that waits for it");
        state.first_begun(now);
        let news = state.answered(replicas, fresh_for, None, now);
        assert_eq!(news, AnswerNews { is_changed: true, has_recovered: false });
        state
    }

    #[test]
    fn a_lookup_begins_when_the_answer_is_old_and_only_one() {
        let now = Instant::now();
        let mut state = answered_first(1, 3 * SECOND, now);
        assert!(!state.used(now + 2 * SECOND));
        let old = now + 3 * SECOND;
        assert!(state.used(old) && !state.used(old) && !state.used(old + 60 * SECOND));
        assert_eq!(state.known(), Some((&Arc::new(1), 1)), "the old answer is used meanwhile");
        assert_eq!(state.age(old), Some(3 * SECOND));
        assert!(!state.answered(1, 3 * SECOND, None, old).is_changed);
        assert_eq!((state.known(), state.age(old)), (Some((&Arc::new(1), 1)), Some(Duration::ZERO)));
        assert!(state.used(old + 3 * SECOND));
        assert!(state.answered(2, 3 * SECOND, None, old + 3 * SECOND).is_changed);
        assert_eq!(state.known(), Some((&Arc::new(2), 2)));
    }

    #[test]
    fn a_client_looks_again_when_a_lookup_is_due_or_may_have_ended() {
        let now = Instant::now();
        let mut state = answered_first(1, 3 * SECOND, now);
        assert_eq!(state.look_at(now), now + 3 * SECOND);
        assert_eq!(state.look_at(now + 9 * SECOND), now + 10 * SECOND, "it was not used since then");
        assert!(state.used(now + 9 * SECOND));
        assert_eq!(state.look_at(now + 9 * SECOND), now + 10 * SECOND, "the lookup runs");
        state.answered(2, Duration::ZERO, None, now + 9 * SECOND);
        assert_eq!(state.look_at(now + 9 * SECOND), now + 10 * SECOND, "it is watched");
    }

    #[test]
    fn a_failure_keeps_the_answer_and_is_new_once() {
        let now = Instant::now();
        let mut state = answered_first(1, SECOND, now);
        assert!(state.used(now + SECOND));
        assert!(state.failed("the server is down".into(), now + SECOND));
        assert_eq!((state.known(), state.failure()), (Some((&Arc::new(1), 1)), Some("the server is down")));
        assert!(!state.used(now + SECOND + FRESH - SECOND) && state.used(now + SECOND + FRESH));
        assert!(!state.failed("it is down".into(), now + 7 * SECOND), "it was said before");
        assert_eq!(state.age(now + 9 * SECOND), Some(9 * SECOND), "it gets older");
        assert!(state.used(now + 60 * SECOND));
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
        assert!(state.used(now + SECOND));
        state.abandoned();
        assert!(state.used(now + SECOND));
    }

    #[test]
    fn an_answer_whose_addresses_fail_is_looked_up_again_at_most_once_a_second() {
        let now = Instant::now();
        let mut state = answered_first(1, 60 * SECOND, now);
        assert_eq!(state.doubted(1, now), DoubtedAnswer::Keep, "it is new");
        assert_eq!(state.doubted(1, now + SECOND), DoubtedAnswer::Ask { waits: true });
        assert_eq!(state.doubted(1, now + 9 * SECOND), DoubtedAnswer::Wait);
        state.answered(2, 60 * SECOND, None, now + 9 * SECOND);
        assert_eq!(state.doubted(1, now + 99 * SECOND), DoubtedAnswer::Keep, "there is another one");
        assert_eq!(state.doubted(2, now + 99 * SECOND), DoubtedAnswer::Ask { waits: true });
    }

    #[test]
    fn nobody_waits_for_a_lookup_that_waits_for_a_change() {
        let now = Instant::now();
        let mut state = answered_first(1, Duration::ZERO, now);
        assert!(!state.used(now), "a source that always answers at once is not asked by each call");
        assert!(state.used(now + SECOND));
        assert_eq!(state.doubted(1, now + 99 * SECOND), DoubtedAnswer::Keep);
        state.answered(2, Duration::ZERO, None, now + 99 * SECOND);
        assert!(state.used(now + 99 * SECOND), "it waited for long, so the next one begins at once");
        state.abandoned();
        assert_eq!(state.doubted(2, now + 200 * SECOND), DoubtedAnswer::Ask { waits: false });
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
                        let begins = state.used(now);
                        prop_assert!(!(begins && is_running), "one at a time");
                        prop_assert_eq!(begins, !is_running && now >= due);
                        if begins {
                            (is_running, begun) = (true, now);
                        }
                    }
                    Event::Doubted => {
                        let version = state.known().unwrap().1;
                        if let DoubtedAnswer::Ask { .. } = state.doubted(version, now) {
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
                        state.abandoned();
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
