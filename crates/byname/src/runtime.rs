//! The runtime that callers without one share, and tasks on any runtime.

use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::task::coop::poll_proceed;

/// It has one thread, which starts at the first use and never ends, because a runtime must not be dropped in async code.
static BACKGROUND: LazyLock<Runtime> = LazyLock::new(|| {
    let build = Builder::new_multi_thread().worker_threads(1).thread_name("byname").enable_all().build();
    build.expect("the operating system refused byname's background thread")
});

/// The runtime of the caller, or the shared one if the caller has none.
pub(crate) fn current() -> Handle {
    Handle::try_current().unwrap_or_else(|_| BACKGROUND.handle().clone())
}

/// Runs a future on this thread and blocks the thread. Returns the future if the thread is inside async code.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, F> {
    if is_polling() { Err(future) } else { Ok(current().block_on(future)) }
}

/// Whether tokio is polling a task on this thread. Threads that may block have a runtime too, so the presence of one is no
/// answer. But only a task that is being polled has a budget, and a budget can be used up.
fn is_polling() -> bool {
    // This is more than tokio gives a task. The budget is restored when these are dropped, in reverse order.
    const BEYOND: usize = 1024;
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

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Starts a task that nobody waits for. The future is boxed, because tokio's code is compiled once for each type of task,
/// in every user's build.
pub(crate) fn spawn(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let work: BoxFuture<()> = Box::pin(work);
    runtime.spawn(work)
}
