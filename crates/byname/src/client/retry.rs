//! Whether a call that failed is repeated, and when. A state machine: no sockets, no clock.

use std::time::Duration;

use super::policy::Policy;
use crate::error::{Code, Error, Executed};
use crate::untrusted_text::excerpt;

/// The attempts at one call.
#[derive(Debug)]
pub(super) struct Attempts {
    repetition: Repetition,
    /// How often the call is sent at most.
    most: usize,
    /// The longest delay before the second attempt.
    first_delay: Duration,
    /// The call is made while a repetition is served.
    in_repetition: bool,
    /// The number of the attempt that is made now, as its server sees it.
    number: u32,
    /// Why the attempts before this one failed.
    failed: Vec<Error>,
    /// What a further attempt would have needed.
    missing: Option<&'static str>,
}

/// When a call may be sent again although it may have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// Never.
    IfNotRun,
    /// Always.
    Idempotent,
    /// It has a key, and its server knows whether it has run. If it is certain that it has run, its reply is stored and would come
    /// again.
    ByKey,
    /// It has a key, and it is not known which server knows it.
    KeyIsLost,
}

/// What follows the failure of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AfterFailure {
    /// Another attempt after this time.
    Again(Duration),
    GiveUp,
    /// The server has forbidden another attempt, or there are too many. Nobody further up should make one either.
    GiveUpForAll,
}

/// The longest first delay after `resource_exhausted` that does not say when to come again, unless the policy has a longer one.
const FIRST_DELAY_OF_EXHAUSTED: Duration = Duration::from_secs(1);
/// The longest delay, however often it was doubled.
const LONGEST_DELAY: Duration = Duration::from_secs(20);
/// The most that the word of a server adds to a delay.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5);
/// The most bytes of the message of an earlier attempt.
const LONGEST_MESSAGE: usize = 256;

/// What a repetition draws on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RetryCost {
    /// No server has had work with the attempt that failed.
    Free,
    Budget,
}

impl Attempts {
    /// `serving` is the attempt of the call during which this one is made; 1 also if there is none.
    pub(super) fn new(repetition: Repetition, serving: u32, policy: &Policy) -> Self {
        Self {
            repetition,
            most: usize::try_from(policy.attempts).unwrap_or(usize::MAX),
            first_delay: policy.first_delay,
            in_repetition: serving > 1,
            number: serving,
            failed: Vec::new(),
            missing: None,
        }
    }

    /// An attempt has failed, `left` before the deadline. `random` is from 0 to 1. `withdraw` asks the budget, once at most
    /// and only if the answer decides.
    pub(super) fn failed(
        &mut self,
        error: &Error,
        random: f64,
        left: Duration,
        withdraw: impl FnOnce() -> bool,
    ) -> AfterFailure {
        let Some(cost) = self.cost(error) else {
            if self.repetition == Repetition::KeyIsLost && error.executed() == Executed::Unknown && can_pass(error) {
                self.missing = Some(
                    "it has a key, and the server that may have run it has not said on its connection that it knows keys",
                );
            }
            return AfterFailure::GiveUp;
        };
        // An attempt beside another may have failed so.
        if !error.allows_retry() || !self.failed.iter().all(Error::allows_retry) {
            return AfterFailure::GiveUpForAll;
        }
        let delay = self.delay(error, random);
        if self.failed.len() + 1 >= self.most {
            return AfterFailure::GiveUp;
        }
        if delay >= left {
            self.missing = Some("no time is left for another attempt");
            return AfterFailure::GiveUp;
        }
        if cost == RetryCost::Budget {
            if self.in_repetition {
                self.missing = Some("it was made while a repetition is served, and such calls are not repeated");
                return AfterFailure::GiveUpForAll;
            }
            if !withdraw() {
                self.missing = Some("the retry budget of the client is used up");
                return AfterFailure::GiveUpForAll;
            }
            self.number = self.number.saturating_add(1);
        }
        self.failed.push(error.clone());
        AfterFailure::Again(delay)
    }

    /// The call has a key, and it is not known which server it has reached.
    pub(super) fn key_is_lost(&mut self) {
        self.repetition = Repetition::KeyIsLost;
    }

    /// Whether a second attempt may be made beside the first.
    pub(super) fn may_hedge(&self) -> bool {
        self.failed.is_empty() && self.most > 1 && !self.in_repetition
    }

    /// A second attempt is made beside the first, with this number.
    pub(super) fn hedged(&mut self) -> u32 {
        self.number = self.number.saturating_add(1);
        self.number
    }

    /// One of two attempts beside each other has failed, and the other goes on.
    pub(super) fn failed_beside_another(&mut self, error: Error) {
        self.failed.push(error);
    }

    /// The number of the attempt that is made now. An attempt of which nothing was sent does not count.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The error of a call whose last attempt failed with `last`: it tells each attempt with its replica, whether any of them
    /// may have run, and why there is no further one.
    pub(super) fn conclude(&self, last: Error) -> Error {
        if self.failed.is_empty() && last.replica().is_none() && self.missing.is_none() {
            return last;
        }
        let all = self.failed.len() + 1;
        let mut message = last.message().to_owned();
        // The text of the other side stays as it is.
        if let Some(replica) = last.replica().filter(|_| !last.is_of_peer()) {
            message.push_str(&format!(" (at {replica})"));
        }
        for (at, error) in self.failed.iter().enumerate() {
            let is_the_same = error.message() == last.message() && error.code() == last.code();
            let what = match is_the_same && error.executed() == last.executed() {
                true => "the same error".to_owned(),
                false => {
                    let (code, executed) = (error.code(), error.executed().as_str());
                    format!("{code} (executed: {executed}): {}", excerpt(error.message(), LONGEST_MESSAGE))
                }
            };
            message.push_str(&format!("\nattempt {} of {all}{}: {what}", at + 1, at_its_replica(error)));
        }
        if !self.failed.is_empty() && last.replica().is_some() && last.is_of_peer() {
            message.push_str(&format!("\nattempt {all} of {all}{}: the error above", at_its_replica(&last)));
        }
        if let Some(missing) = self.missing {
            message.push_str(&format!("\nnot sent again: {missing}"));
        }
        let executed = self.failed.iter().map(Error::executed).fold(last.executed(), more_executed);
        last.message_is(message).executed_is(executed)
    }

    /// What a repetition draws on, if it is safe and the cause can pass.
    fn cost(&self, error: &Error) -> Option<RetryCost> {
        let is_safe = match self.repetition {
            _ if error.executed() == Executed::No => true,
            Repetition::Idempotent => true,
            Repetition::ByKey => error.executed() == Executed::Unknown,
            Repetition::IfNotRun | Repetition::KeyIsLost => false,
        };
        if !is_safe || !can_pass(error) {
            return None;
        }
        Some(if error.is_unsent() { RetryCost::Free } else { RetryCost::Budget })
    }

    fn delay(&self, error: &Error, random: f64) -> Duration {
        let first = match (error.code(), error.retry_after()) {
            (Code::ResourceExhausted, None) => self.first_delay.max(FIRST_DELAY_OF_EXHAUSTED),
            _ => self.first_delay,
        };
        // More doublings than these reach the longest delay from a microsecond.
        let doublings = self.failed.len().min(25);
        let longest = first.saturating_mul(1 << doublings).min(LONGEST_DELAY);
        let own = longest.mul_f64(random);
        own + error.retry_after().unwrap_or_default().min(LONGEST_RETRY_AFTER)
    }
}

/// Where an attempt went to, if there are several replicas.
fn at_its_replica(error: &Error) -> String {
    error.replica().map(|replica| format!(", at {replica}")).unwrap_or_default()
}

/// Whether the cause of an error is a passing one. A wrong argument stays wrong, and a large message stays large.
fn can_pass(error: &Error) -> bool {
    match error.code() {
        Code::Unavailable => true,
        Code::ResourceExhausted if error.retry_after().is_some() => true,
        // A function that ran and does not say when its own resource is there again.
        Code::ResourceExhausted if error.executed() == Executed::Yes => false,
        Code::ResourceExhausted => matches!(error.limit(), None | Some("in_flight")),
        _ => false,
    }
}

/// That a function ran outweighs that it may have run, and both that it did not.
fn more_executed(a: Executed, b: Executed) -> Executed {
    match (a, b) {
        (Executed::Yes, _) | (_, Executed::Yes) => Executed::Yes,
        (Executed::Unknown, _) | (_, Executed::Unknown) => Executed::Unknown,
        (Executed::No, Executed::No) => Executed::No,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits_and_timeouts::Limit;

    const LONG: Duration = Duration::from_secs(60);

    /// Of a call with the default policy.
    fn usual_attempts(idempotent: bool, serving: u32) -> Attempts {
        Attempts::new(repetition(idempotent), serving, &policy(3, 50))
    }

    fn repetition(idempotent: bool) -> Repetition {
        if idempotent { Repetition::Idempotent } else { Repetition::IfNotRun }
    }

    fn policy(attempts: u32, first_delay: u64) -> Policy {
        Policy { attempts, first_delay: Duration::from_millis(first_delay), ..Policy::new(LONG, false) }
    }

    /// What follows this error again and again, while the budget grants everything.
    fn steps(mut attempts: Attempts, error: &Error) -> Vec<AfterFailure> {
        let mut steps = Vec::new();
        loop {
            let step = attempts.failed(error, 1.0, LONG, || true);
            steps.push(step);
            if !matches!(step, AfterFailure::Again(_)) {
                return steps;
            }
        }
    }

    fn sent(idempotent: bool, error: &Error) -> usize {
        steps(usual_attempts(idempotent, 1), error).len()
    }

    fn no_budget() -> bool {
        panic!("the budget does not decide here")
    }

    #[test]
    fn a_call_that_may_have_run_is_repeated_only_if_idempotent() {
        let broken = Error::new(Code::Unavailable, "broken");
        assert_eq!((sent(false, &broken), sent(true, &broken)), (1, 3));
        let ran = broken.clone().executed_is(Executed::Yes);
        assert_eq!((sent(false, &ran), sent(true, &ran)), (1, 3));
        let refused = broken.executed_is(Executed::No);
        assert_eq!((sent(false, &refused), sent(true, &refused)), (3, 3));
    }

    #[test]
    fn a_call_with_a_key_is_repeated_while_it_may_have_run_and_its_server_is_known() {
        let sent = |repetition, executed| {
            let error = Error::new(Code::Unavailable, "broken").executed_is(executed);
            steps(Attempts::new(repetition, 1, &policy(3, 50)), &error).len()
        };
        let of =
            |repetition| [Executed::No, Executed::Unknown, Executed::Yes].map(|executed| sent(repetition, executed));
        assert_eq!(of(Repetition::ByKey), [3, 3, 1], "the reply of a call that has run is stored");
        assert_eq!(of(Repetition::KeyIsLost), [3, 1, 1]);
        let error = Error::new(Code::Unavailable, "broken");
        let mut attempts = Attempts::new(Repetition::ByKey, 1, &policy(3, 50));
        attempts.key_is_lost();
        assert_eq!(attempts.failed(&error, 1.0, LONG, no_budget), AfterFailure::GiveUp);
        assert_eq!(
            attempts.conclude(error).message(),
            "broken\nnot sent again: it has a key, and the server that may have run it has not said on its connection that it knows keys"
        );
    }

    #[test]
    fn an_error_that_a_repetition_cannot_cure_ends_the_call() {
        for code in Code::ALL {
            let passes = matches!(code, Code::Unavailable | Code::ResourceExhausted);
            assert_eq!(sent(true, &Error::refused(code, "")), if passes { 3 } else { 1 }, "{code}");
        }
        let full = || Error::refused(Code::ResourceExhausted, "full");
        assert_eq!(sent(true, &full().of_limit(Limit::InFlight)), 3);
        for limit in [Limit::Message, Limit::Header, Limit::Batch, Limit::Waiting] {
            assert_eq!(sent(true, &full().of_limit(limit)), 1, "{limit:?}");
        }
        assert_eq!(sent(true, &full().of_limit(Limit::Waiting).with_retry_after(Duration::ZERO)), 3, "it says when");
        assert_eq!(sent(true, &full().executed_is(Executed::Yes)), 1, "a quota of the function itself");
        let never = Error::refused(Code::Unavailable, "").without_retry();
        assert_eq!(steps(usual_attempts(true, 1), &never), [AfterFailure::GiveUpForAll]);
    }

    #[test]
    fn delays_double_and_are_random_from_zero() {
        let delays = |error: &Error, random: f64| {
            let mut attempts = usual_attempts(true, 1);
            [(); 2].map(|()| match attempts.failed(error, random, LONG, || true) {
                AfterFailure::Again(delay) => delay.as_millis(),
                other => panic!("{other:?}"),
            })
        };
        let error = Error::refused(Code::Unavailable, "");
        assert_eq!((delays(&error, 1.0), delays(&error, 0.5), delays(&error, 0.0)), ([50, 100], [25, 50], [0, 0]));
        let said = error.with_retry_after(Duration::from_secs(2));
        assert_eq!((delays(&said, 1.0), delays(&said, 0.0)), ([2050, 2100], [2000, 2000]));
        let forever = Error::refused(Code::ResourceExhausted, "").with_retry_after(Duration::MAX);
        assert_eq!(delays(&forever, 1.0), [5050, 5100]);
        let full = Error::refused(Code::ResourceExhausted, "");
        assert_eq!((delays(&full, 1.0), delays(&full, 0.0)), ([1000, 2000], [0, 0]));
    }

    #[test]
    fn no_attempt_begins_after_the_deadline_or_draws_on_the_budget_for_it() {
        let error = Error::refused(Code::Unavailable, "");
        let left = Duration::from_millis(50);
        assert_eq!(usual_attempts(true, 1).failed(&error, 1.0, left, no_budget), AfterFailure::GiveUp);
        let again = usual_attempts(true, 1).failed(&error, 0.5, left, || true);
        assert_eq!(again, AfterFailure::Again(Duration::from_millis(25)));
    }

    #[test]
    fn the_error_says_why_attempts_ended_early() {
        let error = Error::refused(Code::Unavailable, "busy");
        let told = |serving, left, has_budget| {
            let mut attempts = usual_attempts(true, serving);
            attempts.failed(&error, 1.0, left, || has_budget);
            attempts.conclude(error.clone()).message().to_owned()
        };
        assert_eq!(
            told(1, Duration::from_millis(20), true),
            "busy\nnot sent again: no time is left for another attempt"
        );
        assert_eq!(told(1, LONG, false), "busy\nnot sent again: the retry budget of the client is used up");
        assert_eq!(
            told(2, LONG, true),
            "busy\nnot sent again: it was made while a repetition is served, and such calls are not repeated"
        );
        let mut attempts = Attempts::new(Repetition::Idempotent, 1, &policy(u32::MAX, 50));
        attempts.failed(&error, 1.0, LONG, || true);
        attempts.failed(&error, 1.0, Duration::from_millis(60), || true);
        let expected = "busy\nattempt 1 of 2: the same error\nnot sent again: no time is left for another attempt";
        assert_eq!(attempts.conclude(error.clone()).message(), expected);
        let all = (0..3).fold(usual_attempts(true, 1), |mut attempts, _| {
            attempts.failed(&error, 1.0, LONG, || true);
            attempts
        });
        assert!(!all.conclude(error).message().contains("not sent again"), "the number of attempts says it");
    }

    #[test]
    fn what_no_server_has_seen_costs_nothing_and_does_not_count() {
        let mut attempts = usual_attempts(false, 1);
        let unsent = Error::new(Code::Unavailable, "nobody there").unsent();
        assert!(matches!(attempts.failed(&unsent, 1.0, LONG, no_budget), AfterFailure::Again(_)));
        assert_eq!(attempts.number(), 1);
        let refused = Error::refused(Code::Unavailable, "stopping");
        assert!(matches!(attempts.failed(&refused, 1.0, LONG, || true), AfterFailure::Again(_)));
        assert_eq!(attempts.number(), 2);
        assert_eq!(attempts.failed(&unsent, 1.0, LONG, no_budget), AfterFailure::GiveUp, "three attempts in all");
    }

    #[test]
    fn without_budget_nobody_further_up_repeats_the_call_either() {
        let broken = Error::new(Code::Unavailable, "broken");
        assert_eq!(usual_attempts(true, 1).failed(&broken, 1.0, LONG, || false), AfterFailure::GiveUpForAll);
        assert_eq!(usual_attempts(false, 1).failed(&broken, 1.0, LONG, no_budget), AfterFailure::GiveUp);
    }

    #[test]
    fn while_a_repetition_is_served_only_what_was_not_sent_is_repeated() {
        let broken = Error::new(Code::Unavailable, "broken");
        assert_eq!(steps(usual_attempts(true, 2), &broken), [AfterFailure::GiveUpForAll]);
        assert_eq!(usual_attempts(true, 2).number(), 2, "the call is a part of that attempt");
        assert_eq!(steps(usual_attempts(true, 2), &broken.unsent()).len(), 3);
    }

    #[test]
    fn the_error_tells_each_attempt_in_one_line_and_whether_any_may_have_run() {
        let mut attempts = usual_attempts(true, 1);
        let last = Error::new(Code::Unavailable, "can't connect").unsent();
        assert_eq!(attempts.conclude(last.clone()).message(), "can't connect");
        attempts.failed(&last, 0.0, LONG, || true);
        let same = attempts.conclude(last.clone());
        assert_eq!(same.message(), "can't connect\nattempt 1 of 2: the same error");
        assert_eq!(same.executed(), Executed::No);
        attempts.failed(&Error::new(Code::Unavailable, "it\nbroke"), 0.0, LONG, || true);
        let expected = "can't connect\nattempt 1 of 3: the same error\n\
                        attempt 2 of 3: unavailable (executed: unknown): it\\nbroke";
        let told = attempts.conclude(last.clone());
        assert_eq!((told.message(), told.executed()), (expected, Executed::Unknown));
        let executed = |earlier: Executed, last: Executed| {
            let mut attempts = usual_attempts(true, 1);
            let error = Error::new(Code::Unavailable, "");
            attempts.failed(&error.clone().executed_is(earlier), 0.0, LONG, || true);
            attempts.conclude(error.executed_is(last)).executed()
        };
        assert_eq!(executed(Executed::Yes, Executed::No), Executed::Yes);
        assert_eq!(executed(Executed::No, Executed::Yes), Executed::Yes);
        assert_eq!(executed(Executed::No, Executed::Unknown), Executed::Unknown);
    }

    #[test]
    fn a_policy_sets_the_number_of_attempts_and_the_first_delay() {
        let error = Error::refused(Code::Unavailable, "");
        let delays = |policy: &Policy, error: &Error| {
            let steps = steps(Attempts::new(Repetition::Idempotent, 1, policy), error);
            let delay = |step: &AfterFailure| match step {
                AfterFailure::Again(delay) => Some(delay.as_millis()),
                _ => None,
            };
            steps.iter().map_while(delay).collect::<Vec<_>>()
        };
        assert!(delays(&policy(1, 50), &error).is_empty());
        assert_eq!(delays(&policy(2, 50), &error), [50]);
        assert_eq!(delays(&policy(5, 10), &error), [10, 20, 40, 80]);
        assert_eq!(delays(&policy(4, 0), &error), [0, 0, 0]);
        assert_eq!(delays(&policy(5, 4_000), &error), [4_000, 8_000, 16_000, 20_000], "the longest delay");
        assert_eq!(delays(&policy(3, u64::MAX), &error), [20_000, 20_000]);
        let full = Error::refused(Code::ResourceExhausted, "");
        assert_eq!(delays(&policy(2, 50), &full), [1_000]);
        assert_eq!(delays(&policy(2, 3_000), &full), [3_000]);
        let often = delays(&policy(40, 1), &error.with_retry_after(Duration::ZERO));
        assert_eq!(often.iter().filter(|delay| **delay == 20_000).count(), 24, "{often:?}");
    }

    #[test]
    fn an_attempt_beside_the_first_has_its_number_and_is_one_of_the_attempts() {
        let error = Error::new(Code::Unavailable, "broken");
        let mut attempts = usual_attempts(true, 1);
        assert!(attempts.may_hedge());
        assert_eq!(attempts.hedged(), 2);
        attempts.failed_beside_another(error.clone());
        assert!(!attempts.may_hedge(), "there is never a third");
        assert!(matches!(attempts.failed(&error, 1.0, LONG, || true), AfterFailure::Again(_)));
        assert_eq!(attempts.number(), 3);
        assert_eq!(attempts.failed(&error, 1.0, LONG, no_budget), AfterFailure::GiveUp);
        assert_eq!(attempts.conclude(error).message().lines().count(), 3);
    }

    #[test]
    fn no_attempt_is_made_beside_the_first_where_only_one_is_made() {
        assert!(!Attempts::new(Repetition::Idempotent, 1, &policy(1, 50)).may_hedge());
        assert!(!usual_attempts(true, 2).may_hedge(), "the call is made while a repetition is served");
        let mut failed = usual_attempts(true, 1);
        failed.failed(&Error::refused(Code::Unavailable, ""), 0.0, LONG, || true);
        assert!(!failed.may_hedge());
    }

    #[test]
    fn never_again_counts_also_if_another_attempt_says_less() {
        let error = Error::new(Code::Unavailable, "broken");
        let mut attempts = usual_attempts(true, 1);
        attempts.hedged();
        attempts.failed_beside_another(error.clone().without_retry());
        assert_eq!(attempts.failed(&error, 1.0, LONG, no_budget), AfterFailure::GiveUpForAll);
    }

    fn any_error() -> impl Strategy<Value = Error> {
        let executed = prop_oneof![Just(Executed::No), Just(Executed::Unknown), Just(Executed::Yes)];
        let code = prop_oneof![Just(Code::Unavailable), Just(Code::ResourceExhausted), Just(Code::Internal)];
        let retry_after = proptest::option::of(0..100_000u64);
        (code, executed, retry_after, any::<[bool; 2]>()).prop_map(|(code, executed, retry_after, [ended, unsent])| {
            let mut error = Error::new(code, "failed").executed_is(executed);
            if let Some(ms) = retry_after {
                error = error.with_retry_after(Duration::from_millis(ms));
            }
            if unsent {
                error = error.unsent();
            }
            if ended { error.without_retry() } else { error }
        })
    }

    proptest! {
        #[test]
        fn whatever_fails_the_rules_hold(
            idempotent: bool,
            serving in 1..4u32,
            most in 1..6u32,
            first_delay in prop_oneof![Just(50), 0..100_000u64],
            failures in proptest::collection::vec((any_error(), 0.0..=1.0f64, any::<bool>()), 1..8),
            mut left in 0..40_000u64,
        ) {
            let mut attempts = Attempts::new(repetition(idempotent), serving, &policy(most, first_delay));
            let (mut sent, mut drawn) = (1, 0);
            for (error, random, budget) in failures {
                let number = attempts.number();
                let mut asked = false;
                let step = attempts.failed(&error, random, Duration::from_millis(left), || {
                    asked = true;
                    budget
                });
                if let AfterFailure::Again(delay) = step {
                    prop_assert!(idempotent || error.executed() == Executed::No);
                    prop_assert!(error.allows_retry() && error.code() != Code::Internal);
                    prop_assert!(delay < Duration::from_millis(left));
                    prop_assert!(delay <= LONGEST_DELAY + LONGEST_RETRY_AFTER);
                    prop_assert!(serving == 1 || error.is_unsent());
                    prop_assert_eq!(asked, !error.is_unsent());
                    drawn += u32::from(asked);
                    left -= u64::try_from(delay.as_millis()).unwrap();
                    sent += 1;
                } else {
                    prop_assert_eq!(attempts.number(), number);
                    let told = attempts.conclude(error.clone());
                    let told_why = attempts.missing.is_some();
                    prop_assert_eq!(told.message().lines().count(), sent + usize::from(told_why));
                    prop_assert_eq!(told.code(), error.code());
                    prop_assert!(error.executed() == Executed::No || told.executed() != Executed::No);
                    break;
                }
                prop_assert_eq!(attempts.number(), serving + drawn);
                prop_assert!(sent <= most as usize);
            }
        }
    }
}
