//! Without the feature `simulation` there are no processes but this one.

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::BoxFuture;

pub(crate) use self::NoClientHome as ClientHome;

/// The process in which a client was made.
#[derive(Clone)]
pub(crate) struct NoClientHome;

impl NoClientHome {
    pub(crate) const fn here() -> Self {
        Self
    }

    pub(crate) const fn enter(&self) {}
}

/// Starts a task.
#[track_caller]
pub(crate) fn spawn_here<F>(runtime: &Handle, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    runtime.spawn(future)
}

pub(crate) const fn told_to_stop() -> Option<BoxFuture<()>> {
    None
}
