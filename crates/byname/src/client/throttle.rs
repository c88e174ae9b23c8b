//! When a client holds back calls of a service that refuses them: [`Throttle`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::Limit;
use crate::priority::Priority;

/// The throttle of all calls of a client, as in "Handling Overload" of Google's book on site reliability. A service that
/// refuses more than half of the calls of a priority gets about twice as many of them as it accepts, and [`ALWAYS`] a second
/// besides. A server refuses the least important calls first, so the more important ones are not held back for these.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Whether there were refusals lately. As long as there were none, a call costs the look at this.
    is_active: AtomicBool,
    counts: Mutex<Counting>,
}

#[derive(Debug)]
enum Counting {
    /// There were no refusals lately. `calls` were made until `since`, modulo 2^32.
    Off {
        calls: u32,
        since: Instant,
    },
    On(CallCounts),
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self { is_active: AtomicBool::new(false), counts: Mutex::new(Counting::Off { calls: 0, since: now }) }
    }

    /// Whether a call may be sent. `chance` is random, from 0 to 1. `calls` is the number of all calls until `now`, modulo 2^32.
    ///
    /// # Errors
    ///
    /// Why it is not sent.
    #[inline]
    pub(super) fn admit(
        &self,
        name: &str,
        priority: impl FnOnce() -> Priority,
        now: Instant,
        calls: impl FnOnce() -> u32,
        chance: impl FnOnce() -> f64,
    ) -> Result<(), Error> {
        if !self.is_active.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.admit_lately_refused(name, priority(), now, calls(), chance())
    }

    #[cold]
    fn admit_lately_refused(
        &self,
        name: &str,
        priority: Priority,
        now: Instant,
        calls: u32,
        chance: f64,
    ) -> Result<(), Error> {
        let mut counts = self.counts();
        let Counting::On(lately) = &mut *counts else {
            return Ok(());
        };
        lately.decay(now);
        if lately.levels.iter().all(|level| level.refused < FORGOTTEN) {
            *counts = Counting::Off { calls, since: now };
            self.is_active.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let level = &mut lately.levels[priority as usize];
        let is_held_back = chance < level.held_back();
        level.calls += 1.0;
        if !is_held_back {
            return Ok(());
        }
        level.refused += 1.0;
        let refused = level.refused / level.calls * 100.0;
        let why = format!(
            "`{name}` was not sent, because {refused:.0} % of the latest calls of this client with priority `{priority}` were \
             refused; the last refusal was: {}",
            lately.last
        );
        Err(Error::refused(lately.code, why).with_retry_after(MEMORY))
    }

    /// A call has failed. `calls` is the number of all calls until `now`.
    pub(super) fn failed(&self, error: &Error, priority: Priority, now: Instant, calls: u32) {
        if !is_refusal(error) {
            return;
        }
        let mut counting = self.counts();
        if let Counting::Off { calls: before, since } = *counting {
            let mut counts = CallCounts::new(now);
            // Those that were made in the memory, if they came evenly. Their priorities are not known. Of several threads one
            // may have read the number before others, and comes here after them.
            let made = f64::from(calls.wrapping_sub(before).cast_signed().max(0));
            let share = MEMORY.as_secs_f64() / now.saturating_duration_since(since).as_secs_f64().max(1e-9);
            counts.levels[priority as usize].calls = made * share.min(1.0);
            *counting = Counting::On(counts);
            self.is_active.store(true, Ordering::Relaxed);
        }
        if let Counting::On(counts) = &mut *counting {
            counts.decay(now);
            counts.levels[priority as usize].refuse();
            (counts.code, counts.last) = (error.code(), error.message().to_owned());
        }
    }

    /// The share of calls that are not sent now.
    pub(super) fn held_back(&self, now: Instant) -> f64 {
        match &mut *self.counts() {
            Counting::Off { .. } => 0.0,
            Counting::On(counts) => {
                counts.decay(now);
                let calls: f64 = counts.levels.iter().map(|level| level.calls).sum();
                let held_back: f64 = counts.levels.iter().map(|level| level.calls * level.held_back()).sum();
                if calls > 0.0 { held_back / calls } else { 0.0 }
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counting> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server says that it has too much to do, or can't serve. The limit of one function says nothing about the others.
/// A connection that broke, or that could not be opened, does not count, because another replica may serve.
fn is_refusal(error: &Error) -> bool {
    !error.is_unsent()
        && error.executed() == Executed::No
        && match error.code() {
            // A function that is closed says when to come again.
            Code::Unavailable => error.retry_after().is_none(),
            Code::ResourceExhausted => error
                .limit()
                .is_some_and(|limit| [Limit::InFlight, Limit::QueueDelay].map(Limit::as_str).contains(&limit)),
            _ => false,
        }
}

/// The time in which counts decay to a third. It is short, so that a client calls as before a second after its service does.
const MEMORY: Duration = Duration::from_millis(200);
/// How many calls are sent for each that is accepted. More than one, so that the client soon notices that the service accepts
/// more.
const FOR_EACH_ACCEPTED: f64 = 2.0;
/// How many calls of each priority a second are sent at least.
const ALWAYS: f64 = 10.0;
/// As few refusals as this are forgotten.
const FORGOTTEN: f64 = 0.5;

/// How many calls there were lately, and how many of them were refused, by the service or here. A state
/// machine without a clock.
#[derive(Debug)]
struct CallCounts {
    levels: [LevelCounts; Priority::ALL.len()],
    at: Instant,
    /// That of the last refusal by the service.
    code: Code,
    /// The message of that.
    last: String,
}

/// The calls of one priority.
#[derive(Clone, Copy, Debug, Default)]
struct LevelCounts {
    calls: f64,
    refused: f64,
}

impl CallCounts {
    fn new(at: Instant) -> Self {
        Self { levels: Default::default(), at, code: Code::Unavailable, last: String::new() }
    }

    fn decay(&mut self, now: Instant) {
        let kept = (-now.saturating_duration_since(self.at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        for level in &mut self.levels {
            level.calls *= kept;
            level.refused *= kept;
        }
        self.at = self.at.max(now);
    }
}

impl LevelCounts {
    fn refuse(&mut self) {
        self.refused += 1.0;
        // It may have been sent before the counting began.
        self.calls = self.calls.max(self.refused);
    }

    fn held_back(&self) -> f64 {
        let accepted = (self.calls - self.refused).max(0.0);
        let sent_anyway = FOR_EACH_ACCEPTED * accepted + ALWAYS * MEMORY.as_secs_f64();
        ((self.calls - sent_anyway) / (self.calls + 1.0)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client of a service, step by step.
    struct Client {
        throttle: Throttle,
        now: Instant,
        calls: u32,
        chance: fastrand::Rng,
    }

    impl Client {
        fn new() -> Self {
            let now = Instant::now();
            Self { throttle: Throttle::new(now), now, calls: 0, chance: fastrand::Rng::with_seed(7) }
        }

        /// Makes `a_second` calls a second for `seconds`. The service accepts `accepted` of them a second, evenly. Returns how
        /// many came to it in the last second.
        fn makes(&mut self, a_second: u32, seconds: u32, accepted: u32) -> u32 {
            let (mut came, mut room) = (0, 1.0);
            for _ in 0..seconds {
                came = 0;
                for _ in 0..a_second {
                    self.now += Duration::from_secs(1) / a_second;
                    room = f64::min(room + f64::from(accepted) / f64::from(a_second), 10.0);
                    let chance = self.chance.f64();
                    if self.throttle.admit("f", || Priority::Normal, self.now, || self.calls, || chance).is_err() {
                        continue;
                    }
                    self.calls = self.calls.wrapping_add(1);
                    came += 1;
                    if room >= 1.0 {
                        room -= 1.0;
                    } else {
                        self.throttle.failed(&busy(), Priority::Normal, self.now, self.calls);
                    }
                }
            }
            came
        }
    }

    fn busy() -> Error {
        Error::refused(Code::ResourceExhausted, "busy").of_limit(Limit::InFlight)
    }

    #[test]
    fn a_service_that_accepts_nothing_gets_few_calls() {
        let mut client = Client::new();
        assert!((5..=20).contains(&client.makes(1000, 30, 0)));
        // A client that calls as seldom as that is not throttled at all.
        assert_eq!(Client::new().makes(10, 60, 0), 10);
    }

    #[test]
    fn a_service_gets_about_twice_what_it_accepts() {
        let mut client = Client::new();
        assert!((180..=250).contains(&client.makes(1000, 40, 100)));
    }

    #[test]
    fn everything_is_sent_a_second_after_the_service_or_the_client_is_as_before() {
        // The service accepts more.
        for accepted in [0, 10, 100] {
            let mut client = Client::new();
            client.makes(1000, 30, accepted);
            client.makes(1000, 1, 1000);
            assert!(client.makes(1000, 1, 1000) >= 950, "{accepted}");
            client.makes(1000, 4, 1000);
            assert!(!client.throttle.is_active.load(Ordering::Relaxed), "the refusals are forgotten");
        }
        // The client calls less often.
        let mut client = Client::new();
        client.makes(5000, 10, 500);
        client.makes(500, 1, 500);
        let came = client.makes(500, 1, 500);
        assert!(came >= 475, "{came}");
    }

    #[test]
    fn few_refusals_hold_nothing_back() {
        let mut client = Client::new();
        assert_eq!(client.makes(1000, 30, 700), 1000);
    }

    #[test]
    fn a_call_that_is_held_back_has_the_code_of_the_refusals() {
        for refusal in [busy(), Error::refused(Code::Unavailable, "it stops")] {
            let now = Instant::now();
            let throttle = Throttle::new(now);
            (1..=1000).for_each(|calls| throttle.failed(&refusal, Priority::Normal, now, calls));
            let held_back = throttle.admit("f", || Priority::Normal, now, || 1000, || 0.0).unwrap_err();
            assert_eq!((held_back.code(), held_back.executed()), (refusal.code(), Executed::No));
            assert!(held_back.message().ends_with(refusal.message()), "{held_back}");
        }
    }

    #[test]
    fn important_calls_are_not_held_back_for_others() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        (1..=1000).for_each(|calls| throttle.failed(&busy(), Priority::Batch, now, calls));
        let admit = |priority| throttle.admit("f", || priority, now, || 1000, || 0.5);
        (1..=1000).for_each(|_| assert!(admit(Priority::Critical).is_ok()));
        let held_back = admit(Priority::Batch).unwrap_err();
        assert!(held_back.message().contains("with priority `batch` were refused"), "{held_back}");
        let share = throttle.held_back(now);
        assert!((0.4..0.6).contains(&share), "{share}");
        (1..=1000).for_each(|_| throttle.failed(&busy(), Priority::Critical, now, 2000));
        assert!(admit(Priority::Critical).is_err());
    }

    /// A hundred calls are made at once, and the service has room for 40 of them, which are in flight then.
    #[test]
    fn calls_in_flight_count_as_accepted() {
        let begin = Instant::now();
        for (made, since) in [(100, Duration::ZERO), (100, Duration::from_millis(20)), (1_000, Duration::from_secs(2))]
        {
            let (throttle, now) = (Throttle::new(begin), begin + since);
            (0..30).for_each(|_| throttle.failed(&busy(), Priority::Normal, now, made));
            assert!(throttle.held_back(now) == 0.0, "{made} calls in {since:?}");
            (0..60).for_each(|_| throttle.failed(&busy(), Priority::Normal, now, made));
            assert!(throttle.held_back(now) > 0.5, "{made} calls in {since:?}");
        }
        // A number from before that of another thread.
        let throttle = Throttle::new(begin);
        throttle.failed(&busy(), Priority::Normal, begin, u32::MAX);
        (0..10).for_each(|_| throttle.failed(&busy(), Priority::Normal, begin, 1));
        assert!(throttle.held_back(begin) > 0.5);
    }

    #[test]
    fn only_what_speaks_of_the_service_is_a_refusal() {
        let of_a_function = Error::refused(Code::ResourceExhausted, "as many calls of `f` are in flight …");
        let of_the_function = Error::new(Code::Unavailable, "its database").executed_is(Executed::Yes);
        let late = Error::new(Code::DeadlineExceeded, "late");
        for (error, is) in [
            (busy(), true),
            (Error::refused(Code::Unavailable, "can't connect").unsent(), false),
            (Error::refused(Code::Unavailable, "it stops"), true),
            (Error::new(Code::Unavailable, "reset").executed_is(Executed::Unknown), false),
            (of_a_function, false),
            (of_the_function, false),
            (late, false),
        ] {
            assert_eq!(is_refusal(&error), is, "{error}");
        }
    }

    proptest! {
        #[test]
        fn at_least_what_it_accepts_is_sent(a_second in 1..2000u32, accepted in 0..2000u32) {
            let mut client = Client::new();
            let came = client.makes(a_second, 30, accepted);
            prop_assert!(came >= accepted.min(a_second) * 9 / 10, "{came}");
            // Which calls are sent is random, so the count spreads by the root of its mean.
            let mean = FOR_EACH_ACCEPTED * f64::from(accepted) + ALWAYS;
            let most = mean + 8.0 * mean.sqrt();
            prop_assert!(f64::from(came) <= most || came == a_second || accepted * 2 > a_second, "{came} > {most}");
        }
    }
}
