//! Whether a call that failed is sent again. A state machine: no sockets, no clock.

use std::time::Duration;

use crate::error::{Code, Error, Executed};

/// The attempts at one call.
#[derive(Debug)]
pub(super) struct Attempts {
    idempotent: bool,
    left: u32,
    wait: Duration,
}

/// How often a call is sent at most, and the first pause between two.
const ATTEMPTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(50);

impl Attempts {
    pub(super) fn new(idempotent: bool) -> Self {
        Self { idempotent, left: ATTEMPTS - 1, wait: FIRST_WAIT }
    }

    /// How long to wait before sending again; `None` to give up. `jitter` is random, from 0 to 1.
    ///
    /// A call that may have run is sent again only if it is idempotent. A call that did not run is sent again only if the
    /// reason can pass: a wrong argument stays wrong.
    pub(super) fn again(&mut self, error: &Error, jitter: f64) -> Option<Duration> {
        let harmless = match error.executed() {
            Executed::No => true,
            Executed::Unknown => self.idempotent,
            Executed::Yes => false,
        };
        let can_pass = match error.code() {
            Code::Unavailable => true,
            Code::ResourceExhausted => error.retry_after().is_some(),
            _ => false,
        };
        if !harmless || !can_pass || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let wait = self.wait;
        self.wait *= 4;
        Some(error.retry_after().unwrap_or_default().saturating_add(wait.mul_f64(0.5 + jitter / 2.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(idempotent: bool, error: &Error) -> usize {
        let mut attempts = Attempts::new(idempotent);
        1 + std::iter::from_fn(|| attempts.again(error, 0.5)).count()
    }

    #[test]
    fn a_call_that_may_have_run_is_sent_again_only_if_idempotent() {
        let broken = Error::new(Code::Unavailable, "broken");
        assert_eq!(sent(false, &broken), 1);
        assert_eq!(sent(true, &broken), 3);
        assert_eq!(sent(false, &broken.clone().executed_is(Executed::No)), 3);
        assert_eq!(sent(true, &broken.executed_is(Executed::Yes)), 1);
    }

    #[test]
    fn permanent_errors_are_not_retried() {
        for code in [Code::InvalidArgument, Code::Unimplemented, Code::DeadlineExceeded, Code::Internal] {
            assert_eq!(sent(true, &Error::refused(code, "")), 1, "{code}");
        }
        let full = Error::refused(Code::ResourceExhausted, "full");
        assert_eq!(sent(true, &full), 1, "a limit that names no time");
        assert_eq!(sent(false, &full.with_retry_after(Duration::from_secs(1))), 3);
    }

    #[test]
    fn pauses_grow_and_honour_the_server() {
        let error = Error::refused(Code::Unavailable, "");
        let mut attempts = Attempts::new(false);
        assert_eq!(attempts.again(&error, 1.0), Some(Duration::from_millis(50)));
        assert_eq!(attempts.again(&error, 0.0), Some(Duration::from_millis(100)));
        let error = error.with_retry_after(Duration::from_secs(2));
        assert_eq!(Attempts::new(false).again(&error, 1.0), Some(Duration::from_millis(2050)));
    }
}
