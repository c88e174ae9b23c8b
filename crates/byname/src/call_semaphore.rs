//! A counting semaphore for calls that run: [`CallPermits`].

use std::pin::pin;
use std::sync::Arc;

#[cfg(not(byname_loom))]
use {
    std::sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    tokio::sync::Notify,
};

#[cfg(byname_loom)]
use {
    self::modelled::Notify,
    loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// A semaphore without a queue. To acquire or release a permit costs one atomic operation. A caller can wait until all
/// permits are released.
#[derive(Debug)]
pub(crate) struct CallPermits {
    acquired: AtomicUsize,
    limit: AtomicUsize,
    /// A caller waits until all permits are released.
    is_awaited: AtomicBool,
    all_released: Notify,
}

/// The permit to run one call. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct Permit(Arc<CallPermits>);

/// The permit of a call.
pub(crate) enum HeldPermit {
    Own(Permit),
    /// Shared with the interceptors of the call, because an interceptor may drop the request, and a function may outlive its
    /// caller.
    Shared(Arc<Permit>),
    /// Of a question about the server itself. The first permit counts such questions.
    Question(Arc<[Permit; 2]>),
}

impl HeldPermit {
    /// The same permit twice. It is released when both are dropped.
    pub(crate) fn shared(self) -> (Self, Self) {
        match self {
            Self::Own(permit) => Self::Shared(Arc::new(permit)).shared(),
            Self::Shared(permit) => (Self::Shared(Arc::clone(&permit)), Self::Shared(permit)),
            Self::Question(permits) => (Self::Question(Arc::clone(&permits)), Self::Question(permits)),
        }
    }
}

impl CallPermits {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            acquired: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            is_awaited: AtomicBool::new(false),
            all_released: Notify::new(),
        })
    }

    /// A permit; `None` if all are acquired.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        self.try_acquire_within(self.limit())
    }

    /// A permit; `None` if this number of them is acquired.
    pub(crate) fn try_acquire_within(self: &Arc<Self>, most: usize) -> Option<Permit> {
        let another = |acquired| (acquired < most).then(|| acquired + 1);
        self.acquired.fetch_update(Ordering::SeqCst, Ordering::SeqCst, another).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// How many may be acquired.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// This number may be acquired from now on. Those that are acquired stay so.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many permits are acquired.
    pub(crate) fn acquired(&self) -> usize {
        self.acquired.load(Ordering::Relaxed)
    }

    /// Whether no permit is left.
    pub(crate) fn are_exhausted(&self) -> bool {
        self.acquired() >= self.limit()
    }

    /// Waits until all permits are released.
    pub(crate) async fn all_released(&self) {
        loop {
            let mut released = pin!(self.all_released.notified());
            // A notification counts from here on, so a release after the check below is not missed.
            released.as_mut().enable();
            self.is_awaited.store(true, Ordering::SeqCst);
            // This writes too, so that a later release sees the waiting caller.
            if self.acquired.fetch_add(0, Ordering::SeqCst) == 0 {
                return;
            }
            released.await;
        }
    }

    fn release(&self) {
        if self.acquired.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_awaited.load(Ordering::SeqCst) {
            self.all_released.notify_waiters();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_acquired_than_there_are() {
        let permits = CallPermits::new(2);
        let (first, second) = (permits.try_acquire(), permits.try_acquire());
        assert!(first.is_some() && second.is_some() && permits.try_acquire().is_none() && permits.are_exhausted());
        assert_eq!(permits.acquired(), 2);
        drop(first);
        assert!(!permits.are_exhausted() && permits.acquired() == 1);
        assert!(permits.try_acquire().is_some());
    }

    #[tokio::test]
    async fn the_last_release_ends_the_waiting() {
        let permits = CallPermits::new(2);
        permits.all_released().await;
        let (first, second) = (permits.try_acquire(), permits.try_acquire());
        let mut waiting = Box::pin(permits.all_released());
        let mut is_waiting =
            async || std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(is_waiting().await);
        drop(first);
        assert!(is_waiting().await);
        drop(second);
        assert!(!is_waiting().await);
    }
}

/// The part of tokio's `Notify` that [`CallPermits`] uses, as its documentation describes it: whoever began to wait
/// before a notification gets it.
#[cfg(byname_loom)]
mod modelled {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use loom::sync::{Mutex, MutexGuard};

    #[derive(Debug)]
    pub(super) struct Notify(Mutex<Waiting>);

    #[derive(Debug, Default)]
    struct Waiting {
        notifications: usize,
        wakers: Vec<Waker>,
    }

    pub(super) struct Notified<'n> {
        notify: &'n Notify,
        after: usize,
    }

    impl Notify {
        pub(super) fn new() -> Self {
            Self(Mutex::new(Waiting::default()))
        }

        fn waiting(&self) -> MutexGuard<'_, Waiting> {
            self.0.lock().expect("nobody panics with it")
        }

        pub(super) fn notified(&self) -> Notified<'_> {
            Notified { notify: self, after: self.waiting().notifications }
        }

        pub(super) fn notify_waiters(&self) {
            let mut waiting = self.waiting();
            waiting.notifications += 1;
            waiting.wakers.drain(..).for_each(Waker::wake);
        }
    }

    impl Notified<'_> {
        pub(super) fn enable(self: Pin<&mut Self>) {}
    }

    impl Future for Notified<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let mut waiting = self.notify.waiting();
            if waiting.notifications > self.after {
                return Poll::Ready(());
            }
            waiting.wakers.push(cx.waker().clone());
            Poll::Pending
        }
    }
}

#[cfg(all(test, byname_loom))]
mod loom_tests {
    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// A missed notification is a deadlock, which loom reports.
    #[test]
    fn the_last_release_wakes_a_task_that_waits_for_all() {
        loom::model(|| {
            let permits = CallPermits::new(2);
            let takers =
                [permits.try_acquire(), permits.try_acquire()].map(|permit| thread::spawn(move || drop(permit)));
            block_on(permits.all_released());
            assert_eq!(permits.acquired.load(Ordering::SeqCst), 0);
            for taker in takers {
                taker.join().expect("it doesn't panic");
            }
        });
    }
}
