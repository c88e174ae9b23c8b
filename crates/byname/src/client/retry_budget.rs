//! How many calls may be sent again, in all: a bucket of tokens.

use std::sync::atomic::{AtomicU32, Ordering};

/// Each answered call adds a tenth of a token. Each repetition takes one. The bucket holds ten. So repetitions stay near a
/// tenth of the calls, and several tiers that all retry do not multiply each other's load.
#[derive(Debug)]
pub(super) struct RetryBudget(AtomicU32);

const TOKEN: u32 = 10;
const STORE: u32 = 10 * TOKEN;

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(STORE))
    }

    /// A call was answered.
    pub(super) fn deposit(&self) {
        // Nearly always full; a lost race loses a tenth of a token.
        let tokens = self.0.load(Ordering::Relaxed);
        if tokens < STORE {
            self.0.store(tokens + 1, Ordering::Relaxed);
        }
    }

    /// Whether one may be sent again.
    pub(super) fn withdraw(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| tokens.checked_sub(TOKEN)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_a_tenth_of_the_calls() {
        let budget = RetryBudget::new();
        let store = std::iter::repeat_with(|| budget.withdraw()).take_while(|granted| *granted).count();
        assert_eq!(store, 10);
        let granted = (0..1000).filter(|_| {
            budget.deposit();
            budget.withdraw()
        });
        assert_eq!(granted.count(), 100);
    }
}
