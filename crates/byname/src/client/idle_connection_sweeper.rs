//! The task that closes connections which have been idle for too long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::connection_pool::ConnectionPool;
use crate::runtime;

/// The sweeper of one pool. Its task runs while the pool has a connection, and ends when this is dropped.
pub(super) struct Sweeper {
    is_running: Arc<AtomicBool>,
    task: Mutex<Option<AbortHandle>>,
}

impl Sweeper {
    pub(super) fn new() -> Self {
        Self { is_running: Arc::default(), task: Mutex::new(None) }
    }

    /// Whether a task must be started. It counts as running from now on. Called while the pool is locked, as the task
    /// decides under the same lock that it ends.
    pub(super) fn begins(&self) -> bool {
        !self.is_running.swap(true, Ordering::Relaxed)
    }

    /// Starts the task.
    pub(super) fn start<C: Send + 'static>(&self, pool: &Arc<Mutex<ConnectionPool<C, Id>>>, runtime: &Handle) {
        let guard = RunningGuard(Some(Arc::clone(&self.is_running)));
        let task = runtime::spawn(runtime, sweep(Arc::downgrade(pool), guard));
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

async fn sweep<C>(pool: Weak<Mutex<ConnectionPool<C, Id>>>, mut guard: RunningGuard) {
    while let Some(next) = pool.upgrade().and_then(|pool| next_sweep(&pool, &mut guard)) {
        sleep_until(next).await;
        if let Some(pool) = pool.upgrade() {
            let old = pool.lock().unwrap_or_else(PoisonError::into_inner).expire(Instant::now());
            // Sockets are closed outside of the lock.
            drop(old);
        }
    }
}

/// When to look again; `None` ends the task. The flag changes under the lock, so that the next connection which is kept
/// starts another task.
fn next_sweep<C>(pool: &Mutex<ConnectionPool<C, Id>>, guard: &mut RunningGuard) -> Option<Instant> {
    let pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    let next = pool.next_expiry();
    if next.is_none() {
        guard.end();
    }
    next
}

/// The task runs until this has ended or is dropped with the task's runtime.
struct RunningGuard(Option<Arc<AtomicBool>>);

impl RunningGuard {
    fn end(&mut self) {
        if let Some(is_running) = self.0.take() {
            is_running.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.end();
    }
}
