//! Which function of the user each thread runs at this moment, readable from other threads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::clock_and_chance::{RealInstant, real_now};

static ALL: Mutex<Vec<Weak<WatchedThread>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: Arc<WatchedThread> = WatchedThread::known();
}

/// One thread. Only the thread itself writes here.
#[derive(Default)]
struct WatchedThread {
    now: AtomicUsize,
    /// In nanoseconds; 0 while the thread runs nothing, and while `now` changes.
    since: AtomicU64,
}

impl WatchedThread {
    fn known() -> Arc<Self> {
        let thread = Arc::<Self>::default();
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|thread| thread.strong_count() > 0);
        all.push(Arc::downgrade(&thread));
        thread
    }

    fn put(&self, now: usize, since: u64) {
        self.since.store(0, Ordering::Release);
        self.now.store(now, Ordering::Release);
        self.since.store(since, Ordering::Release);
    }

    fn get(&self) -> (usize, u64) {
        (self.now.load(Ordering::Acquire), self.since.load(Ordering::Acquire))
    }
}

/// Restores what the thread ran before when it is dropped, also after a panic.
struct RestoreOnDrop(usize, u64);

impl Drop for RestoreOnDrop {
    fn drop(&mut self) {
        let _ = OWN.try_with(|own| own.put(self.0, self.1));
    }
}

/// Runs one poll of the function that `id` identifies. Other threads can see it meanwhile.
pub(crate) fn run<T>(id: usize, began: RealInstant, piece: impl FnOnce() -> T) -> T {
    let _before = OWN.try_with(|own| {
        let (now, since_then) = own.get();
        own.put(id, began.nanos().max(1));
        RestoreOnDrop(now, since_then)
    });
    piece()
}

/// Functions that have run on a thread without a break for `limit` or longer, with the time.
pub(crate) fn kept_for(limit: Duration) -> Vec<(usize, Duration)> {
    let now = real_now().nanos();
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = all.iter().filter_map(Weak::upgrade).filter_map(|thread| {
        let since = thread.since.load(Ordering::Acquire);
        let (id, still) = thread.get();
        let took = Duration::from_nanos(now.saturating_sub(since));
        (since != 0 && since == still && took >= limit).then_some((id, took))
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What this test's thread runs, by ids that no other test has.
    fn seen(limit: Duration) -> Vec<usize> {
        kept_for(limit).into_iter().map(|(id, _)| id).filter(|id| [1, 2].contains(id)).collect()
    }

    #[test]
    fn the_running_function_of_a_thread_is_known_when_nested_too() {
        assert!(seen(Duration::ZERO).is_empty());
        run(1, real_now(), || {
            assert_eq!(seen(Duration::ZERO), [1]);
            assert!(seen(Duration::MAX).is_empty());
            run(2, real_now(), || assert_eq!(seen(Duration::ZERO), [2]));
            assert_eq!(seen(Duration::ZERO), [1]);
        });
        assert!(seen(Duration::ZERO).is_empty());
        let panicked = std::panic::catch_unwind(|| run(1, real_now(), || panic!("on purpose")));
        assert!(panicked.is_err());
        assert!(seen(Duration::ZERO).is_empty());
    }

    #[test]
    fn a_thread_that_has_ended_is_forgotten() {
        let ended = std::thread::spawn(|| OWN.with(Arc::downgrade)).join().unwrap();
        assert_eq!(ended.strong_count(), 0);
        std::thread::spawn(|| OWN.with(|_| ())).join().unwrap();
        let all = ALL.lock().unwrap();
        assert!(!all.iter().any(|thread| thread.ptr_eq(&ended)));
    }
}
