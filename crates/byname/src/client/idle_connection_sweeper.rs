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

    /// Starts the task, which looks at the pool when its first connection expires.
    pub(super) fn start<C: Send + 'static>(
        &self,
        pool: &Arc<Mutex<ConnectionPool<C, Id>>>,
        runtime: &Handle,
        first: Instant,
    ) {
        let guard = RunningGuard(Some(Arc::clone(&self.is_running)));
        let task = runtime::spawn(runtime, sweep(Arc::downgrade(pool), guard, first));
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

/// It does not look before the first expiry: a client that makes one call after the other has an empty pool then, and would
/// start a task for each call.
async fn sweep<C>(pool: Weak<Mutex<ConnectionPool<C, Id>>>, mut guard: RunningGuard, first: Instant) {
    let mut next = Some(first);
    while let Some(expiry) = next {
        sleep_until(expiry).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        let old = pool.lock().unwrap_or_else(PoisonError::into_inner).expire(Instant::now());
        // Sockets are closed outside of the lock.
        drop(old);
        next = next_sweep(&pool, &mut guard);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_task_serves_calls_that_follow_each_other() {
        let (sweeper, pool) = (Sweeper::new(), Arc::new(Mutex::new(ConnectionPool::<(), Id>::new())));
        let expiry = Instant::now() + Duration::from_secs(50);
        assert!(sweeper.begins());
        sweeper.start(&pool, &Handle::current(), expiry);
        // The next call has taken the connection before the task is polled, and puts it back.
        tokio::task::yield_now().await;
        assert!(!sweeper.begins(), "it runs");
        pool.lock().unwrap().put((), Handle::current().id(), None, 1, expiry);
        sleep_until(expiry + Duration::from_millis(1)).await;
        assert_eq!(pool.lock().unwrap().next_expiry(), None, "it was closed");
        assert!(sweeper.begins(), "the task has ended");
    }
}
