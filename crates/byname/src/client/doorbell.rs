//! The waker of a connection that is driven by one caller after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;

/// How often a connection that rings while it is driven is driven again at once. After that its task gets a turn.
const ROUNDS: usize = 3;

/// One waker for the whole life of a connection, so that its socket never has to take another, whoever calls.
///
/// While the connection is driven it stays silent: what its parts tell each other would wake the task that is running
/// already, once for each call. What rang meanwhile is looked after before the driver goes to sleep.
#[derive(Debug)]
pub(super) struct Doorbell {
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Bell {
    driver: AtomicWaker,
    is_driven: AtomicBool,
    has_rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The driver clears `is_driven` before it reads `has_rung`: of the two at least one sees the other.
        self.has_rung.store(true, Ordering::SeqCst);
        if !self.is_driven.load(Ordering::SeqCst) {
            self.driver.wake();
        }
    }
}

impl Doorbell {
    pub(super) fn new() -> Self {
        let bell = Arc::<Bell>::default();
        Self { waker: Waker::from(Arc::clone(&bell)), bell }
    }

    /// For a poll on nobody's behalf.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Polls `drive` with the connection's waker on behalf of the task of `cx`, until it is ready or sleeps in silence.
    /// Once it was ready, nobody is woken before the next call.
    pub(super) fn drive<T>(
        &self,
        cx: &mut Context<'_>,
        mut drive: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let bell = &*self.bell;
        for _ in 0..ROUNDS {
            bell.is_driven.store(true, Ordering::Relaxed);
            bell.has_rung.store(false, Ordering::Relaxed);
            if let Poll::Ready(value) = drive(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(value);
            }
            bell.driver.register(cx.waker());
            bell.is_driven.store(false, Ordering::SeqCst);
            if !bell.has_rung.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_wakes_who_sleeps_and_nobody_else() {
        let (bell, count) = (Doorbell::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        let woken = || count.0.load(Ordering::Relaxed);

        let mut outside = None;
        let polled = bell.drive(cx, |cx| {
            outside = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        outside.as_ref().unwrap().wake_by_ref();
        assert_eq!(woken(), 1, "asleep");

        let mut rounds = 0;
        let polled = bell.drive(cx, |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            if rounds == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        assert!(polled.is_ready());
        assert_eq!((rounds, woken()), (2, 1), "driven again at once");
        outside.unwrap().wake_by_ref();
        assert_eq!(woken(), 1, "no call is there");
    }

    #[test]
    fn a_connection_that_never_stops_ringing_lets_others_run() {
        let (bell, count) = (Doorbell::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let polled = bell.drive(&mut Context::from_waker(&waker), |cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
