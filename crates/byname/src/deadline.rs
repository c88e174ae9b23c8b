//! Deadlines, and a timer for deadlines that move with every call.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock_and_chance::{RealInstant, real_now};
use crate::runtime;

/// The time `wait` after `from`. If the clock cannot represent it, it is a century later, which means never.
pub(crate) fn later(from: Instant, wait: Duration) -> Instant {
    from.checked_add(wait).unwrap_or_else(|| from + Duration::from_secs(100 * 365 * 24 * 3600))
}

/// Whether tokio's clock is ahead of the real one, because a test paused and advanced it.
pub(crate) fn is_ahead() -> bool {
    // In this order a clock that was not paused is never ahead.
    let tokios = Instant::now().into_std();
    RealInstant::from(tokios) > real_now()
}

/// Waits until `deadline`, in any runtime.
pub(crate) async fn until(deadline: Instant) {
    let mut timer = DeadlineTimer::default();
    poll_fn(|cx| timer.poll_at(cx, deadline)).await;
}

/// The output of `future`, or `None` at the deadline, in any runtime.
pub(crate) async fn before<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = DeadlineTimer::default();
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.poll_at(cx, deadline).map(|()| None),
    })
    .await
}

/// A timer for deadlines that mostly move later and are hardly ever reached. It stays armed at an early deadline and looks
/// again when that fires. So moving the deadline costs nothing.
///
/// tokio's timer panics if the runtime that made it is gone. A call can be polled in another runtime after that.
#[derive(Debug, Default)]
pub(crate) struct DeadlineTimer(Option<ArmedTimer>);

#[derive(Debug)]
struct ArmedTimer {
    sleep: Pin<Box<Sleep>>,
    runtime: Id,
}

impl DeadlineTimer {
    /// As [`poll_at`](Self::poll_at), for a timer that only one task ever polls. It checks nothing while it is armed early
    /// enough and has not fired.
    pub(crate) fn poll_in_one_task(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        match &self.0 {
            Some(ArmedTimer { sleep, .. }) if sleep.deadline() <= deadline && !sleep.is_elapsed() => Poll::Pending,
            _ => self.poll_at(cx, deadline),
        }
    }

    /// When it fires, if it is armed and has not fired.
    #[inline]
    pub(crate) fn armed_at(&self) -> Option<Instant> {
        let sleep = &self.0.as_ref()?.sleep;
        (!sleep.is_elapsed()).then(|| sleep.deadline())
    }

    /// Ready after `deadline`. Otherwise the task is woken by then.
    pub(crate) fn poll_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = &mut self.armed(deadline).sleep;
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

    /// The timer of the runtime that polls this.
    fn armed(&mut self, deadline: Instant) -> &mut ArmedTimer {
        let now_in = runtime::current();
        if self.0.as_ref().is_some_and(|armed| armed.runtime != now_in.id()) {
            self.0 = None;
        }
        self.0.get_or_insert_with(|| ArmedTimer { sleep: sleep_in(&now_in, deadline), runtime: now_in.id() })
    }
}

fn sleep_in(runtime: &Handle, deadline: Instant) -> Pin<Box<Sleep>> {
    let _entered = runtime.enter();
    Box::pin(sleep_until(deadline))
}
