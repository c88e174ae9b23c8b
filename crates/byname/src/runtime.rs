//! The runtime that callers without one share, and tasks on any runtime.

mod tokio_budget;

use std::pin::Pin;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

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
    if tokio_budget::is_polling() { Err(future) } else { Ok(current().block_on(future)) }
}

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs work that may block its thread, on a thread that may be blocked.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    spawn_blocking(work).await
}

/// Starts a task that nobody waits for. The future is boxed, because tokio's code is compiled once for each type of task,
/// in every user's build.
pub(crate) fn spawn(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let work: BoxFuture<()> = Box::pin(work);
    runtime.spawn(work)
}
