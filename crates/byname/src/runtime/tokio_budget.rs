//! What byname knows of tokio beyond its documentation: each task has a budget, which is smaller than [`BEYOND`], and
//! other code has none. The tests of this file fail when a version differs.

use std::task::{Context, Poll, Waker};

use tokio::task::coop::poll_proceed;

/// More than tokio gives a task.
const BEYOND: usize = 1024;

/// Whether tokio is polling a task on this thread. To have a runtime says nothing, for threads that may block have one
/// too; but only what is polled has a budget, and a budget can be used up.
pub(super) fn is_polling() -> bool {
    // What was taken is given back when these are dropped, the last first.
    let mut taken = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    let polling = (0..BEYOND).any(|_| match poll_proceed(&mut cx) {
        Poll::Ready(proceed) => {
            taken.push(proceed);
            false
        }
        Poll::Pending => true,
    });
    while taken.pop().is_some() {}
    polling
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::task::coop::has_budget_remaining;
    use tokio::task::{spawn_blocking, yield_now};

    use super::*;

    #[test]
    fn only_polled_code_has_a_budget() {
        assert!(!is_polling(), "a thread without a runtime");
        for runtime in [Builder::new_current_thread().build(), Builder::new_multi_thread().worker_threads(1).build()] {
            let runtime = runtime.unwrap();
            runtime.block_on(async {
                assert!(is_polling(), "the future that a thread blocks on");
                yield_now().await;
                assert!(is_polling(), "and polls again");
                assert!(tokio::spawn(async { is_polling() }).await.unwrap(), "a task");
                assert!(!spawn_blocking(is_polling).await.unwrap(), "a thread that may block");
            });
            let _entered = runtime.enter();
            assert!(!is_polling(), "a thread that has a runtime, and polls nothing");
        }
    }

    #[test]
    fn asking_for_the_budget_does_not_consume_it() {
        Builder::new_current_thread().build().unwrap().block_on(async {
            for _ in 0..3 {
                assert!(is_polling());
                assert!(has_budget_remaining());
            }
        });
    }
}
