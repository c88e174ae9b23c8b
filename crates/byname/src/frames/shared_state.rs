//! What callers leave for the one task that looks after a connection, and what wakes it.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::task::Context;

#[cfg(not(byname_loom))]
use {
    atomic_waker::AtomicWaker,
    std::sync::{Mutex, MutexGuard},
};

#[cfg(byname_loom)]
use loom::{
    future::AtomicWaker,
    sync::{Mutex, MutexGuard},
};

/// State behind a lock, and a task that is woken by the first who leaves something in it since the task looked last.
/// The task registers each time it is polled, looks after that, and sleeps only when it found nothing to do.
#[derive(Debug)]
pub(crate) struct Doorbell<T> {
    shared: Mutex<Shared<T>>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct Shared<T> {
    state: T,
    /// The task has been woken and will look.
    is_awake: bool,
}

/// The state, locked.
#[derive(Debug)]
pub(crate) struct Guard<'d, T>(MutexGuard<'d, Shared<T>>);

impl<T> Doorbell<T> {
    /// The task is expected to look without being woken.
    pub(crate) fn new(state: T) -> Self {
        Self { shared: Mutex::new(Shared { state, is_awake: true }), task: AtomicWaker::new() }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        Guard(self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes the task for what was left, where it doesn't look anyway.
    pub(crate) fn ring(&self, mut left: Guard<'_, T>) {
        if !std::mem::replace(&mut left.0.is_awake, true) {
            drop(left);
            self.task.wake();
        }
    }

    /// Says which task is to be woken.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        #[cfg(not(byname_loom))]
        self.task.register(cx.waker());
        #[cfg(byname_loom)]
        self.task.register_by_ref(cx.waker());
    }

    /// As [`lock`](Self::lock), for the task: whoever rings from here on wakes it.
    pub(crate) fn look(&self) -> Guard<'_, T> {
        let mut left = self.lock();
        left.0.is_awake = false;
        left
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.state
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.state
    }
}

#[cfg(all(test, byname_loom))]
mod loom_tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A wake-up that is lost would be a deadlock, which loom reports.
    #[test]
    fn whatever_is_left_is_looked_at() {
        // Without a bound on preemptions it takes minutes.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let bell = Arc::new(Doorbell::new(0));
            let callers = [(); 2].map(|()| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    let mut left = bell.lock();
                    *left += 1;
                    bell.ring(left);
                })
            });
            let mut taken = 0;
            block_on(poll_fn(|cx| {
                bell.register(cx);
                taken += std::mem::take(&mut *bell.look());
                if taken == 2 { Poll::Ready(()) } else { Poll::Pending }
            }));
            for caller in callers {
                caller.join().expect("it doesn't panic");
            }
        });
    }
}
