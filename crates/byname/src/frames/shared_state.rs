//! State that callers share with the task of a connection, with the waker of the task: [`SharedState`].

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

/// State behind a lock, and the waker of the one task that works on it. Callers change the state and wake the task. Of
/// several changes before the task has locked the state again, only the first wakes it. At each poll the task registers
/// its waker first and locks the state after that, so no change is missed.
#[derive(Debug)]
pub(crate) struct SharedState<T> {
    shared: Mutex<LockedState<T>>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct LockedState<T> {
    state: T,
    /// Whether the task is awake, and will lock the state.
    is_awake: bool,
}

/// The state, locked.
#[derive(Debug)]
pub(crate) struct StateGuard<'d, T>(MutexGuard<'d, LockedState<T>>);

impl<T> SharedState<T> {
    /// Assumes that the task is awake.
    pub(crate) fn new(state: T) -> Self {
        Self { shared: Mutex::new(LockedState { state, is_awake: true }), task: AtomicWaker::new() }
    }

    pub(crate) fn lock(&self) -> StateGuard<'_, T> {
        StateGuard(self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Unlocks the state, which was changed, and wakes the task unless it is awake.
    pub(crate) fn unlock_and_wake(&self, mut changed: StateGuard<'_, T>) {
        if !std::mem::replace(&mut changed.0.is_awake, true) {
            drop(changed);
            self.task.wake();
        }
    }

    /// Registers the waker of the task.
    pub(crate) fn register_task(&self, cx: &Context<'_>) {
        #[cfg(not(byname_loom))]
        self.task.register(cx.waker());
        #[cfg(byname_loom)]
        self.task.register_by_ref(cx.waker());
    }

    /// As [`lock`](Self::lock), for the task: the next change wakes it again.
    pub(crate) fn lock_for_task(&self) -> StateGuard<'_, T> {
        let mut state = self.lock();
        state.0.is_awake = false;
        state
    }
}

impl<T> StateGuard<'_, T> {
    /// The task that has locked the state locks it again soon, without being woken by a change.
    pub(crate) fn stay_awake(&mut self) {
        self.0.is_awake = true;
    }
}

impl<T> Deref for StateGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.state
    }
}

impl<T> DerefMut for StateGuard<'_, T> {
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

    /// A lost wake-up would be a deadlock, which loom reports.
    #[test]
    fn every_change_is_seen_by_the_task() {
        // Without a bound on preemptions it takes minutes.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let shared = Arc::new(SharedState::new(0));
            let callers = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let mut state = shared.lock();
                    *state += 1;
                    shared.unlock_and_wake(state);
                })
            });
            let mut taken = 0;
            block_on(poll_fn(|cx| {
                shared.register_task(cx);
                taken += std::mem::take(&mut *shared.lock_for_task());
                if taken == 2 { Poll::Ready(()) } else { Poll::Pending }
            }));
            for caller in callers {
                caller.join().expect("it doesn't panic");
            }
        });
    }
}
