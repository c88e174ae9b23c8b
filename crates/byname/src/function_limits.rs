//! Limits of single functions and of their callers: [`FunctionLimits`].

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use tokio::time::Instant;

use crate::call_semaphore::{CallPermits, Permit};
use crate::error::{Code, Error};

/// What [`Server::limits_for`](crate::Server::limits_for) sets. All functions that its pattern matches count together. Nothing is
/// limited by default.
///
/// A caller is known by what its connection proves (a certificate, the user of a unix socket), or else by its IP address. Behind a
/// proxy that the server [trusts](crate::Server::trust_proxy) it is the address of the proxy's client. Of an IPv6 address the first
/// half counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionLimits {
    /// The most calls in flight. 0 refuses all.
    pub in_flight: Option<usize>,
    /// The most calls in flight of one caller. 0 refuses all.
    pub in_flight_per_caller: Option<usize>,
    /// The most calls a second, at least 1.
    pub rate: Option<u32>,
    /// The most calls of one caller a second.
    pub rate_per_caller: Option<u32>,
    /// How many calls may come at once within a rate. `None` is as many as come in a second.
    pub burst: Option<u32>,
}

/// The permits that a call has of the limits of its function.
#[derive(Debug, Default)]
pub(crate) struct FunctionPermits {
    permits: Vec<Permit>,
    callers: Vec<CallerPermit>,
}

/// Limits that some functions have together.
#[derive(Debug)]
pub(crate) struct FunctionLimit {
    /// What has set it, for messages.
    source: String,
    permits: Option<Arc<CallPermits>>,
    caller_permits: Option<Arc<CallerPermits>>,
    rate: Option<(u32, FunctionRate)>,
    caller_rate: Option<(u32, CallerRates)>,
}

type FunctionRate = RateLimiter<NotKeyed, InMemoryState, RateClock, NoOpMiddleware<Nanos>>;

#[derive(Debug)]
struct CallerRates {
    limiter: RateLimiter<u64, HashMapStateStore<u64>, RateClock, NoOpMiddleware<Nanos>>,
    /// How many calls there were since callers were last forgotten.
    calls: AtomicUsize,
}

/// After this number of calls callers are forgotten whose rates are as if they had never called.
const CALLS_BETWEEN_CLEANUPS: usize = 4096;

impl FunctionLimit {
    /// The limit that the attribute of a function sets.
    pub(crate) fn of_attribute(in_flight: usize) -> Self {
        let source = format!("`#[rpc(in_flight = {in_flight})]`");
        let permits = Some(CallPermits::new(in_flight));
        Self { source, permits, caller_permits: None, rate: None, caller_rate: None }
    }

    /// The limits that a server sets for `pattern`.
    ///
    /// # Errors
    ///
    /// A rate or a burst of zero, a burst without a rate, and limits that limit nothing.
    pub(crate) fn of_pattern(pattern: &str, limits: &FunctionLimits) -> Result<Self, Error> {
        let invalid = |why: &str| {
            Err(Error::refused(Code::InvalidArgument, format!("`Server::limits_for({pattern:?}, …)` sets {why}")))
        };
        let FunctionLimits { in_flight, in_flight_per_caller, rate, rate_per_caller, burst } = *limits;
        if *limits == FunctionLimits::default() {
            return invalid("no limit; set one, or leave it out");
        }
        let is_rated = rate.is_some() || rate_per_caller.is_some();
        if burst.is_some() && !is_rated {
            return invalid("a `burst`, which needs `rate` or `rate_per_caller`");
        }
        if [rate, rate_per_caller, burst].contains(&Some(0)) {
            return invalid(
                "a rate or a burst of 0, with which every call would fail; close the functions by `ServerHandle::close`",
            );
        }
        let quota = |rate: u32| {
            let whole = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
            Quota::per_second(whole(rate)).allow_burst(whole(burst.unwrap_or(rate)))
        };
        let clock = RateClock::start();
        Ok(Self {
            source: format!("`Server::limits_for({pattern:?}, …)`"),
            permits: in_flight.map(CallPermits::new),
            caller_permits: in_flight_per_caller.map(|most| Arc::new(CallerPermits { most, held: Mutex::default() })),
            rate: rate.map(|rate| (rate, RateLimiter::direct_with_clock(quota(rate), clock))),
            caller_rate: rate_per_caller.map(|rate| {
                let limiter = RateLimiter::hashmap_with_clock(quota(rate), clock);
                (rate, CallerRates { limiter, calls: AtomicUsize::new(0) })
            }),
        })
    }

    /// Takes what a call of the function `name` needs. `caller` is a number that stands for who calls.
    ///
    /// # Errors
    ///
    /// `resource_exhausted`, with the time after which to try again.
    pub(crate) fn take(&self, name: &str, caller: u64, held: &mut FunctionPermits) -> Result<(), Error> {
        let source = &self.source;
        if let Some(permits) = &self.permits {
            let permit = permits.try_acquire().ok_or_else(|| {
                let limit = permits.limit();
                exhausted(format!("{limit} calls of `{name}` are in flight, as many as {source} allows"), SOON)
            })?;
            held.permits.push(permit);
        }
        if let Some(permits) = &self.caller_permits {
            let permit = permits.try_acquire(caller).ok_or_else(|| {
                let limit = permits.most;
                let why = format!("{limit} calls of `{name}` by this caller are in flight, as many as {source} allows");
                exhausted(why, SOON)
            })?;
            held.callers.push(permit);
        }
        if let Some((rate, callers)) = &self.caller_rate {
            callers.clean_up();
            callers.limiter.check_key(&caller).map_err(|until| {
                let why = format!("this caller calls `{name}` more often than {source} allows ({rate} calls a second)");
                exhausted(why, wait(&until, callers.limiter.clock()))
            })?;
        }
        if let Some((rate, limiter)) = &self.rate {
            limiter.check().map_err(|until| {
                let why = format!("`{name}` is called more often than {source} allows ({rate} calls a second)");
                exhausted(why, wait(&until, limiter.clock()))
            })?;
        }
        Ok(())
    }
}

impl CallerRates {
    fn clean_up(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) % CALLS_BETWEEN_CLEANUPS == CALLS_BETWEEN_CLEANUPS - 1 {
            self.limiter.retain_recent();
        }
    }
}

/// When to try again after a limit of calls in flight.
const SOON: Duration = Duration::from_millis(100);

/// The error names no limit of the server. So clients do not conclude that the whole service has too much to do.
fn exhausted(why: String, retry_after: Duration) -> Error {
    Error::refused(Code::ResourceExhausted, format!("{why}; try again later")).with_retry_after(retry_after)
}

/// In whole milliseconds, because that is what callers are told.
fn wait(until: &NotUntil<Nanos>, clock: &RateClock) -> Duration {
    let wait = until.wait_time_from(clock.now());
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
}

/// tokio's clock, which a test can pause.
#[derive(Clone, Copy, Debug)]
struct RateClock {
    start: Instant,
}

impl RateClock {
    fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RateClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Instant::now().saturating_duration_since(self.start).into()
    }
}

/// How many calls of each caller are in flight.
#[derive(Debug)]
struct CallerPermits {
    most: usize,
    /// Callers without calls are not in it.
    held: Mutex<HashMap<u64, usize>>,
}

/// The permit of one call of a caller. Dropping it releases it.
#[derive(Debug)]
struct CallerPermit {
    permits: Arc<CallerPermits>,
    caller: u64,
}

impl CallerPermits {
    fn try_acquire(self: &Arc<Self>, caller: u64) -> Option<CallerPermit> {
        let mut held = self.held();
        let calls = held.entry(caller).or_default();
        if *calls >= self.most {
            if *calls == 0 {
                held.remove(&caller);
            }
            return None;
        }
        *calls += 1;
        Some(CallerPermit { permits: Arc::clone(self), caller })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallerPermit {
    fn drop(&mut self) {
        let mut held = self.permits.held();
        if let Some(calls) = held.get_mut(&self.caller) {
            *calls -= 1;
            if *calls == 0 {
                held.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(change: impl FnOnce(&mut FunctionLimits)) -> FunctionLimit {
        let mut limits = FunctionLimits::default();
        change(&mut limits);
        FunctionLimit::of_pattern("reports.*", &limits).unwrap()
    }

    fn take(limit: &FunctionLimit, caller: u64) -> Result<FunctionPermits, Error> {
        let mut permits = FunctionPermits::default();
        limit.take("reports.get", caller, &mut permits).map(|()| permits)
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_its_own_calls_in_flight() {
        let limit = limit(|limits| (limits.in_flight, limits.in_flight_per_caller) = (Some(3), Some(2)));
        let mut held = vec![take(&limit, 1).unwrap(), take(&limit, 1).unwrap()];
        let refused = take(&limit, 1).unwrap_err();
        let expected = "2 calls of `reports.get` by this caller are in flight, as many as \
                        `Server::limits_for(\"reports.*\", …)` allows; try again later";
        assert_eq!((refused.message(), refused.limit()), (expected, None));
        held.push(take(&limit, 2).unwrap());
        let refused = take(&limit, 3).unwrap_err();
        assert!(refused.message().starts_with("3 calls of `reports.get` are in flight"), "{refused}");
        held.clear();
        take(&limit, 1).unwrap();
        assert!(limit.caller_permits.unwrap().held().is_empty(), "callers without calls are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_admits_a_burst_and_then_says_when_to_come_again() {
        let limit = limit(|limits| (limits.rate, limits.burst) = (Some(10), Some(2)));
        take(&limit, 1).unwrap();
        take(&limit, 2).unwrap();
        let refused = take(&limit, 3).unwrap_err();
        assert!(refused.message().contains("(10 calls a second); try again later"), "{refused}");
        let after = refused.retry_after().unwrap();
        assert!((100..=101).contains(&after.as_millis()), "{after:?}");
        tokio::time::advance(after).await;
        take(&limit, 3).unwrap();
        assert!(take(&limit, 3).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_its_own_rate_and_is_forgotten_after_a_while() {
        let limit = limit(|limits| limits.rate_per_caller = Some(1));
        take(&limit, 1).unwrap();
        assert!(take(&limit, 1).unwrap_err().message().starts_with("this caller calls `reports.get` more often"));
        take(&limit, 2).unwrap();
        for caller in 0..2 * CALLS_BETWEEN_CLEANUPS as u64 {
            tokio::time::advance(Duration::from_millis(10)).await;
            let _ = take(&limit, 1000 + caller);
        }
        let (_, callers) = limit.caller_rate.unwrap();
        assert!(callers.limiter.len() <= CALLS_BETWEEN_CLEANUPS + 101, "{} callers", callers.limiter.len());
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let why = |change: fn(&mut FunctionLimits)| {
            let mut limits = FunctionLimits::default();
            change(&mut limits);
            FunctionLimit::of_pattern("a.*", &limits).unwrap_err().message().to_owned()
        };
        assert!(why(|_| ()).starts_with("`Server::limits_for(\"a.*\", …)` sets no limit"));
        assert!(why(|limits| limits.burst = Some(1)).contains("a `burst`, which needs `rate`"));
        assert!(why(|limits| limits.rate = Some(0)).contains("a rate or a burst of 0"));
    }
}
