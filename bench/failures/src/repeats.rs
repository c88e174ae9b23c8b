//! What an application writes around a client that repeats nothing: attempts, each with a limit, and the budget of tower.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower::retry::budget::{Budget, TpsBudget};

use crate::peers::{DEADLINE, Failed};

/// As many attempts as byname makes, with the same delays.
const ATTEMPTS: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// An attempt that may be repeated is given up in time for two more.
const ATTEMPT: Duration = Duration::from_millis(600);

/// The default is tower's budget with its defaults: a fifth of the calls, and ten a second.
pub struct Repeats {
    budget: Option<TpsBudget>,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { budget: Some(TpsBudget::default()) }
    }
}

impl Repeats {
    /// All three attempts, as in the example of tower's `Policy`.
    pub fn without_budget() -> Self {
        Self { budget: None }
    }

    /// Repeats after every failure.
    pub async fn idempotent<F: Future<Output = Result<u32, Failed>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<u32, Failed> {
        let attempt = || async {
            let late = |_| Err(Failed { did_not_run: false, why: "an attempt took too long".into() });
            timeout(ATTEMPT, attempt()).await.unwrap_or_else(late)
        };
        self.until_the_deadline(attempt, |_| true).await
    }

    /// Repeats what was not sent.
    pub async fn once<F: Future<Output = Result<u32, Failed>>>(&self, attempt: impl Fn() -> F) -> Result<u32, Failed> {
        self.until_the_deadline(attempt, |failed| failed.did_not_run).await
    }

    async fn until_the_deadline<F: Future<Output = Result<u32, Failed>>>(
        &self,
        attempt: impl Fn() -> F,
        may_repeat: impl Fn(&Failed) -> bool,
    ) -> Result<u32, Failed> {
        let calls = async {
            if let Some(budget) = &self.budget {
                budget.deposit();
            }
            let mut made = 1;
            loop {
                match attempt().await {
                    Err(failed) if made < ATTEMPTS && may_repeat(&failed) && self.withdraw() => {
                        sleep((FIRST_DELAY * (1 << (made - 1))).mul_f64(fastrand::f64())).await;
                        made += 1;
                    }
                    ended => return ended,
                }
            }
        };
        let late = |_| Err(Failed { did_not_run: false, why: "no answer before the deadline".into() });
        timeout(DEADLINE, calls).await.unwrap_or_else(late)
    }

    fn withdraw(&self) -> bool {
        self.budget.as_ref().is_none_or(Budget::withdraw)
    }
}
