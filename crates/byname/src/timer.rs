//! A timer for deadlines that move with every call.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// `wait` after `from`. A time that the clock can't show is as good as never, which here is a century.
pub(crate) fn later(from: Instant, wait: Duration) -> Instant {
    from.checked_add(wait).unwrap_or_else(|| from + Duration::from_secs(100 * 365 * 24 * 3600))
}

/// Waits for deadlines that mostly move later and are hardly ever reached: it stays armed at an early one and looks
/// again when that fires, so that moving a deadline costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// As [`poll_at`](Self::poll_at), for a timer that is only ever polled by one task: nothing is looked at while it
    /// is armed early enough and has not fired.
    pub(crate) fn poll_in_one_task(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        match &self.0 {
            Some(sleep) if sleep.deadline() <= deadline && !sleep.is_elapsed() => Poll::Pending,
            _ => self.poll_at(cx, deadline),
        }
    }

    /// Ready once `deadline` has passed; otherwise the task is woken by then.
    pub(crate) fn poll_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
