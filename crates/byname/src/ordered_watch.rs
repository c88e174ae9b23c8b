//! A value that is watched: [`Sender`] and [`Receiver`]. It is tokio's channel `watch`, but those who wait are woken in the
//! order in which they began to. tokio wakes them in an order of chance, and no simulation could repeat it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Changes the value.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<WatchedValue<T>>);

/// Sees the value, and waits until it changes.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    watched: Arc<WatchedValue<T>>,
    /// The last change that was seen.
    seen: u64,
}

/// The sender is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderGone;

#[derive(Debug)]
struct WatchedValue<T> {
    value: Mutex<T>,
    changes: AtomicU64,
    is_sender_gone: AtomicBool,
    receivers: AtomicUsize,
    changed: Notify,
    no_receiver: Notify,
}

/// A sender, and a receiver that has seen this value.
pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(WatchedValue {
            value: Mutex::new(value),
            changes: AtomicU64::new(0),
            is_sender_gone: AtomicBool::new(false),
            receivers: AtomicUsize::new(0),
            changed: Notify::new(),
            no_receiver: Notify::new(),
        }))
    }

    /// A receiver that has seen the value of now.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.fetch_add(1, Ordering::AcqRel);
        Receiver { watched: Arc::clone(&self.0), seen: self.0.changes.load(Ordering::Acquire) }
    }

    /// Sets the value. Returns the one before.
    pub(crate) fn send_replace(&self, value: T) -> T {
        let mut before = value;
        self.send_modify(|now| std::mem::swap(now, &mut before));
        before
    }

    /// Changes the value.
    pub(crate) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        let mut value = self.borrow();
        change(&mut value);
        self.0.changes.fetch_add(1, Ordering::AcqRel);
        drop(value);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn borrow(&self) -> MutexGuard<'_, T> {
        self.0.value()
    }

    pub(crate) fn receiver_count(&self) -> usize {
        self.0.receivers.load(Ordering::Acquire)
    }

    /// Waits until there is no receiver.
    pub(crate) async fn closed(&self) {
        loop {
            // A waiter that leaves after this is noticed.
            let gone = self.0.no_receiver.notified();
            if self.receiver_count() == 0 {
                return;
            }
            gone.await;
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.is_sender_gone.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T> Receiver<T> {
    /// Waits for a change that was not seen.
    pub(crate) async fn changed(&mut self) -> Result<(), SenderGone> {
        let Self { watched, seen } = self;
        loop {
            let mut changed = pin!(watched.changed.notified());
            // Its place in the order.
            changed.as_mut().enable();
            let changes = watched.changes.load(Ordering::Acquire);
            if changes != *seen {
                *seen = changes;
                return Ok(());
            }
            if watched.is_sender_gone.load(Ordering::Acquire) {
                return Err(SenderGone);
            }
            changed.await;
        }
    }

    /// Waits for a value that this is true of.
    pub(crate) async fn wait_for(
        &mut self,
        mut is_awaited: impl FnMut(&T) -> bool,
    ) -> Result<MutexGuard<'_, T>, SenderGone> {
        loop {
            self.seen = self.watched.changes.load(Ordering::Acquire);
            if is_awaited(&self.watched.value()) {
                return Ok(self.watched.value());
            }
            self.changed().await?;
        }
    }

    /// Whether there is a change that was not seen.
    pub(crate) fn has_changed(&self) -> Result<bool, SenderGone> {
        if self.watched.is_sender_gone.load(Ordering::Acquire) {
            return Err(SenderGone);
        }
        Ok(self.watched.changes.load(Ordering::Acquire) != self.seen)
    }

    /// The value counts as one that was not seen.
    pub(crate) fn mark_changed(&mut self) {
        self.seen = self.watched.changes.load(Ordering::Acquire).wrapping_sub(1);
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.watched.receivers.fetch_add(1, Ordering::AcqRel);
        Self { watched: Arc::clone(&self.watched), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.watched.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.watched.no_receiver.notify_waiters();
        }
    }
}

impl<T> WatchedValue<T> {
    fn value(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_woken_in_their_order() {
        let (sender, receiver) = channel(0);
        let woken = Arc::<Mutex<Vec<u32>>>::default();
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let (mut receiver, woken) = (receiver.clone(), Arc::clone(&woken));
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    woken.lock().unwrap().push(number);
                })
            })
            .collect();
        // tokio runs 61 tasks between two polls of this one.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        sender.send_replace(1);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_once_and_none_is_missed() {
        let (sender, mut receiver) = channel(0);
        assert_eq!(receiver.has_changed(), Ok(false));
        assert!(timeout(Duration::from_secs(1), receiver.changed()).await.is_err());
        sender.send_modify(|value| *value += 1);
        let mut other = receiver.clone();
        assert_eq!((receiver.has_changed(), other.has_changed()), (Ok(true), Ok(true)));
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!((receiver.has_changed(), other.has_changed()), (Ok(false), Ok(true)));
        receiver.mark_changed();
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(sender.send_replace(5), 1);
        assert_eq!(*receiver.wait_for(|value| *value == 5).await.unwrap(), 5);
        assert_eq!(sender.subscribe().has_changed(), Ok(false));
        drop(sender);
        assert_eq!(other.changed().await, Ok(()), "what was sent before is seen");
        assert_eq!(other.changed().await, Err(SenderGone));
        assert_eq!(receiver.has_changed(), Err(SenderGone));
        assert!(receiver.wait_for(|value| *value == 6).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_waits_for_the_last_receiver() {
        let (sender, receiver) = channel(());
        let other = receiver.clone();
        drop(receiver);
        assert!(timeout(Duration::from_secs(1), sender.closed()).await.is_err());
        let waiting = tokio::spawn(async move { sender.closed().await });
        tokio::task::yield_now().await;
        drop(other);
        waiting.await.unwrap();
    }
}
