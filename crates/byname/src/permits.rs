//! How many of something there are at once: a count with a limit, whose end can be waited for.

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

/// So many places, all free at first. A semaphore that nobody queues for, and that costs one operation to take or to
/// give back.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    most: usize,
    /// Somebody waits until all are free.
    is_awaited: AtomicBool,
    free: Notify,
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), most, is_awaited: AtomicBool::new(false), free: Notify::new() })
    }

    /// A place, unless all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let another = |taken| (taken < self.most).then(|| taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, another).ok()?;
        Some(Place(Arc::clone(self)))
    }

    /// Whether none can be taken now.
    pub(crate) fn are_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.most
    }

    /// Waits until no place is taken.
    pub(crate) async fn all_free(&self) {
        loop {
            let mut freed = pin!(self.free.notified());
            // It counts from here on; so whatever is given back after the look is not missed.
            freed.as_mut().enable();
            self.is_awaited.store(true, Ordering::SeqCst);
            // It writes as well, so that whoever gives back after it sees that somebody waits.
            if self.taken.fetch_add(0, Ordering::SeqCst) == 0 {
                return;
            }
            freed.await;
        }
    }

    fn give_back(&self) {
        if self.taken.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_awaited.load(Ordering::SeqCst) {
            self.free.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_there_are() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some() && places.take().is_none() && places.are_taken());
        drop(first);
        assert!(!places.are_taken());
        assert!(places.take().is_some());
    }

    #[tokio::test]
    async fn the_last_that_is_given_back_ends_the_waiting() {
        let places = Places::new(2);
        places.all_free().await;
        let (first, second) = (places.take(), places.take());
        let mut waiting = Box::pin(places.all_free());
        let mut is_waiting =
            async || std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(is_waiting().await);
        drop(first);
        assert!(is_waiting().await);
        drop(second);
        assert!(!is_waiting().await);
    }
}

/// What [`Places`] takes of tokio's `Notify`, as its documentation has it: whoever began to wait before a notification
/// gets it.
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

    /// A notification that is missed would be a deadlock, which loom reports.
    #[test]
    fn whoever_waits_until_all_are_free_sees_the_last_given_back() {
        loom::model(|| {
            let places = Places::new(2);
            let takers = [places.take(), places.take()].map(|place| thread::spawn(move || drop(place)));
            block_on(places.all_free());
            assert_eq!(places.taken.load(Ordering::SeqCst), 0);
            for taker in takers {
                taker.join().expect("it doesn't panic");
            }
        });
    }
}
