//! When a client holds back calls of a service that refuses them: [`Throttle`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::Limit;

/// The throttle of all calls of a client, as in "Handling Overload" of Google's book on site reliability. A service that
/// refuses more than half of the calls gets about twice as many as it accepts, and [`ALWAYS`] a second besides.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Whether there were refusals lately. As long as there were none, a call costs the look at this.
    is_active: AtomicBool,
    counts: Mutex<Option<CallCounts>>,
}

impl Throttle {
    /// Whether a call may be sent. `calls` is the number of all calls of the client until `now`, modulo 2^32, and `chance` is
    /// random, from 0 to 1.
    ///
    /// # Errors
    ///
    /// Why it is not sent.
    #[inline]
    pub(super) fn admit(
        &self,
        name: &str,
        now: Instant,
        calls: u32,
        chance: impl FnOnce() -> f64,
    ) -> Result<(), Error> {
        if !self.is_active.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.admit_lately_refused(name, now, calls, chance())
    }

    #[cold]
    fn admit_lately_refused(&self, name: &str, now: Instant, calls: u32, chance: f64) -> Result<(), Error> {
        let mut counts = self.counts();
        let Some(lately) = counts.as_mut() else {
            return Ok(());
        };
        lately.count(calls, now);
        if lately.refused < FORGOTTEN {
            *counts = None;
            self.is_active.store(false, Ordering::Relaxed);
            return Ok(());
        }
        if chance >= lately.held_back() {
            return Ok(());
        }
        let refused = lately.refused / lately.calls * 100.0;
        let why = format!(
            "`{name}` was not sent, because {refused:.0} % of the latest calls of this client were refused; the last refusal \
             was: {}",
            lately.last
        );
        lately.hold_back();
        Err(Error::refused(lately.code, why).with_retry_after(MEMORY))
    }

    /// A call has failed. `calls` is the number of all calls until `now`.
    pub(super) fn failed(&self, error: &Error, now: Instant, calls: u32) {
        if is_refusal(error) {
            let mut counts = self.counts();
            let counts = counts.get_or_insert_with(|| CallCounts::new(calls, now));
            counts.refuse(calls, now);
            (counts.code, counts.last) = (error.code(), error.message().to_owned());
            self.is_active.store(true, Ordering::Relaxed);
        }
    }

    /// The share of calls that are not sent now.
    pub(super) fn held_back(&self, now: Instant, calls: u32) -> f64 {
        self.counts().as_mut().map_or(0.0, |counts| {
            counts.count(calls, now);
            counts.held_back()
        })
    }

    fn counts(&self) -> MutexGuard<'_, Option<CallCounts>> {
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
/// How many calls a second are sent at least.
const ALWAYS: f64 = 10.0;
/// As few refusals as this are forgotten.
const FORGOTTEN: f64 = 0.5;

/// How many calls there were lately, and how many of them were refused, by the service or here. A state machine without a
/// clock.
#[derive(Debug)]
struct CallCounts {
    calls: f64,
    refused: f64,
    /// How many calls were counted, and when.
    counted: u32,
    at: Instant,
    /// That of the last refusal by the service.
    code: Code,
    /// The message of that.
    last: String,
}

impl CallCounts {
    fn new(counted: u32, at: Instant) -> Self {
        Self { calls: 0.0, refused: 0.0, counted, at, code: Code::Unavailable, last: String::new() }
    }

    fn count(&mut self, calls: u32, now: Instant) {
        let kept = (-now.saturating_duration_since(self.at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        // Of several threads one may have read the number before others, and comes here after them.
        let more = u32::try_from(calls.wrapping_sub(self.counted).cast_signed()).unwrap_or(0);
        self.calls = self.calls * kept + f64::from(more);
        self.refused *= kept;
        (self.counted, self.at) = (self.counted.wrapping_add(more), self.at.max(now));
    }

    fn refuse(&mut self, calls: u32, now: Instant) {
        self.count(calls, now);
        self.refused += 1.0;
        // It may have been sent before the counting began.
        self.calls = self.calls.max(self.refused);
    }

    /// A call was not sent.
    fn hold_back(&mut self) {
        self.calls += 1.0;
        self.refused += 1.0;
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
            Self { throttle: Throttle::default(), now: Instant::now(), calls: 0, chance: fastrand::Rng::with_seed(7) }
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
                    if self.throttle.admit("f", self.now, self.calls, || chance).is_err() {
                        continue;
                    }
                    self.calls = self.calls.wrapping_add(1);
                    came += 1;
                    if room >= 1.0 {
                        room -= 1.0;
                    } else {
                        self.throttle.failed(&busy(), self.now, self.calls);
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
            let (throttle, now) = (Throttle::default(), Instant::now());
            (1..=1000).for_each(|calls| throttle.failed(&refusal, now, calls));
            let held_back = throttle.admit("f", now, 1000, || 0.0).unwrap_err();
            assert_eq!((held_back.code(), held_back.executed()), (refusal.code(), Executed::No));
            assert!(held_back.message().ends_with(refusal.message()), "{held_back}");
        }
    }

    /// A thread reads the number of calls, and another one that read a greater number comes first.
    #[test]
    fn numbers_of_calls_may_come_out_of_order() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for calls in (1..=1000).chain([998, 1001, 1000]) {
            throttle.failed(&busy(), now, calls);
        }
        assert!(throttle.admit("f", now, 999, || 0.5).is_err());
        assert!(throttle.held_back(now, 1001) > 0.9);
        // Also where the number begins again.
        let throttle = Throttle::default();
        for calls in (u32::MAX - 500..=u32::MAX).chain(0..500).chain([u32::MAX, 498]) {
            throttle.failed(&busy(), now, calls);
        }
        assert!(throttle.held_back(now, 500) > 0.9);
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
