//! The runtime that callers without one share, and tasks and blocking work on any runtime. tokio-console shows a task by the place
//! that started it, so what starts one has `#[track_caller]`.

#[cfg(feature = "simulation")]
mod simulated_process;
#[cfg(not(feature = "simulation"))]
#[path = "runtime/without_simulation.rs"]
mod simulated_process;
mod tokio_budget;

use std::pin::Pin;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

#[cfg(feature = "simulation")]
pub(crate) use self::simulated_process::SimulatedProcess;
use self::simulated_process::spawn_here;
pub(crate) use self::simulated_process::{ClientHome, told_to_stop};
use crate::clock_and_chance::is_seeded;

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

/// Runs work that may block its thread, on a thread that may be blocked. In a simulation, which has one thread, it is this
/// one.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if is_seeded() { Ok(work()) } else { spawn_blocking(work).await }
}

/// Starts a task that nobody waits for. The future is boxed, because tokio's code is compiled once for each type of task,
/// in every user's build.
#[track_caller]
pub(crate) fn spawn(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let work: BoxFuture<()> = Box::pin(work);
    spawn_here(runtime, work)
}

/// Starts a task whose result somebody may wait for.
#[track_caller]
pub(crate) fn spawn_awaited<F>(runtime: &Handle, work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    spawn_here(runtime, work)
}
