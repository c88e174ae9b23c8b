//! What a client does about slow and failed calls, by pattern of names: [`Policy`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Code, Error};
use crate::name::NamePattern;
use crate::priority::Priority;

/// What a client does about slow and failed calls. [`Client::policy`](super::Client::policy) changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// How often a call is sent at most: 3 by default, and 1 if it is not to be repeated. It does not change which calls are
    /// repeated, nor the budget. It has no effect within the process.
    pub attempts: u32,
    /// The longest delay before the second attempt: 50 ms by default. The delay is random, from 0 up to this. It doubles with
    /// each further attempt, up to 20 s. After `resource_exhausted` that does not say when to come again, this is at least
    /// 1 s.
    pub first_delay: Duration,
    /// Whether a slow call is sent to a second replica while the first still works on it. The first answer counts, and the
    /// other attempt is cancelled. By default it is what `#[rpc(hedge)]` says: off.
    ///
    /// It has an effect only on `readonly` functions without streams that are called by a stub, by a client that has
    /// several replicas. The second attempt is made when the call is older than the slowest hundredth of
    /// the function's answered calls, and at least 1 ms. Second attempts add at most 1 % to these calls. Each is one of
    /// [`attempts`](Self::attempts). A call is not hedged after a failed attempt, or while a repetition is served.
    pub hedge: bool,
    /// How long a call may take, from its first poll. By default it is that of [`Client::timeout`](super::Client::timeout),
    /// else that of `#[rpc(timeout = "…")]`, else [`Limits::call`](crate::Limits::call).
    pub timeout: Duration,
    /// How important the calls are when a server can't serve all. By default nothing is said: calls that a function makes
    /// then have the priority of the call that it serves, and others that of `#[rpc(priority = "…")]`.
    pub priority: Option<Priority>,
}

/// The patterns whose policies have changed each setting last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PolicySources {
    pub(super) timeout: Option<String>,
    pub(super) attempts: Option<String>,
    pub(super) first_delay: Option<String>,
    pub(super) hedge: Option<String>,
    pub(super) priority: Option<String>,
}

impl Policy {
    /// The policy of a call that no pattern matches.
    #[inline]
    pub(super) fn new(timeout: Duration, hedge: bool) -> Self {
        Self { attempts: 3, first_delay: Duration::from_millis(50), hedge, timeout, priority: None }
    }
}

/// The policies of a client. A pattern that is less specific comes before one that is more specific.
#[derive(Clone, Default)]
pub(super) struct PolicySet(Vec<PolicyRule>);

#[derive(Clone)]
struct PolicyRule {
    pattern: NamePattern,
    change: Arc<dyn Fn(&mut Policy) + Send + Sync>,
}

impl PolicySet {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a policy. Of several with equally specific patterns the last has precedence. `usual` is a policy that it may
    /// change.
    ///
    /// # Errors
    ///
    /// A pattern that is none, and values with which every call would fail.
    pub(super) fn push(
        &mut self,
        pattern: &str,
        mut usual: Policy,
        change: impl Fn(&mut Policy) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let invalid = |why: String| Error::refused(Code::InvalidArgument, why);
        let pattern = NamePattern::parse(pattern).map_err(|why| invalid(format!("a policy of the client: {why}")))?;
        change(&mut usual);
        if usual.attempts == 0 {
            return Err(invalid(format!(
                "the policy for `{pattern}` has 0 attempts, and a call needs one; 1 means that it is not repeated"
            )));
        }
        if usual.timeout.is_zero() {
            return Err(invalid(format!(
                "the policy for `{pattern}` has a time-out of zero, with which every call would fail; allow more time"
            )));
        }
        let place = self.0.partition_point(|rule| rule.pattern.specificity() <= pattern.specificity());
        self.0.insert(place, PolicyRule { pattern, change: Arc::new(change) });
        Ok(())
    }

    /// The policy of calls of this name, as all patterns that match it change it.
    pub(super) fn apply(&self, name: &str, mut policy: Policy) -> Policy {
        for rule in self.0.iter().filter(|rule| rule.pattern.matches(name)) {
            (rule.change)(&mut policy);
        }
        // The change may depend on what it gets.
        policy.attempts = policy.attempts.max(1);
        policy
    }
}

impl PolicySet {
    /// Which patterns have changed each setting last, in policies for this name.
    pub(super) fn sources(&self, name: &str, mut policy: Policy) -> PolicySources {
        let mut sources = PolicySources::default();
        for rule in self.0.iter().filter(|rule| rule.pattern.matches(name)) {
            let before = policy.clone();
            (rule.change)(&mut policy);
            let pattern = || Some(rule.pattern.to_string());
            if policy.timeout != before.timeout {
                sources.timeout = pattern();
            }
            if policy.attempts != before.attempts {
                sources.attempts = pattern();
            }
            if policy.first_delay != before.first_delay {
                sources.first_delay = pattern();
            }
            if policy.hedge != before.hedge {
                sources.hedge = pattern();
            }
            if policy.priority != before.priority {
                sources.priority = pattern();
            }
        }
        sources
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|rule| rule.pattern.to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn usual() -> Policy {
        Policy::new(MINUTE, false)
    }

    /// Policies that set the number of attempts.
    fn attempts(policies: &[(&str, u32)]) -> PolicySet {
        let mut set = PolicySet::default();
        for &(pattern, attempts) in policies {
            set.push(pattern, usual(), move |policy| policy.attempts = attempts).unwrap();
        }
        set
    }

    #[test]
    fn the_most_specific_pattern_has_precedence_and_among_equal_ones_the_last() {
        let set = attempts(&[("a.b.c", 5), ("a.*", 3), ("*", 2), ("a.b.*", 4), ("d", 6), ("d", 7), ("*", 1)]);
        let of = |name| set.apply(name, usual()).attempts;
        assert_eq!(["a.b.c", "a.b.d", "a.c", "a", "d"].map(of), [5, 4, 3, 1, 7]);
    }

    #[test]
    fn a_policy_leaves_what_it_does_not_set_to_less_specific_ones() {
        let mut set = attempts(&[("*", 2)]);
        set.push("orders.*", usual(), |policy| policy.hedge = true).unwrap();
        set.push("orders.get", usual(), |policy| policy.timeout = MINUTE * 2).unwrap();
        let policy = set.apply("orders.get", usual());
        assert_eq!((policy.attempts, policy.hedge, policy.timeout), (2, true, MINUTE * 2));
        assert_eq!(set.apply("users.get", usual()), Policy { attempts: 2, ..usual() });
        assert_eq!(PolicySet::default().apply("users.get", usual()), usual());
    }

    #[test]
    fn what_cannot_be_a_policy_is_refused() {
        let mut set = PolicySet::default();
        let why = set.push("orders*", usual(), |_| ()).unwrap_err();
        assert!(why.message().starts_with("a policy of the client: `orders*` is not a pattern"), "{why}");
        let why = set.push("orders.*", usual(), |policy| policy.attempts = 0).unwrap_err();
        assert!(why.message().starts_with("the policy for `orders.*` has 0 attempts"), "{why}");
        let why = set.push("*", usual(), |policy| policy.timeout = Duration::ZERO).unwrap_err();
        assert!(why.message().starts_with("the policy for `*` has a time-out of zero"), "{why}");
        assert!(set.is_empty());
        set.push("*", usual(), |policy| policy.attempts -= 3 * u32::from(policy.hedge)).unwrap();
        assert_eq!(set.apply("x", Policy { hedge: true, ..usual() }).attempts, 1);
    }
}
