//! Polls several futures in one task.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Runs all futures at the same time, as a part of the current task, and returns their outputs in order. When
/// `concerns_all` says so, each is polled once more, whether it was woken or not.
pub(super) async fn join<F: Future>(
    futures: impl IntoIterator<Item = F>,
    concerns_all: impl Fn() -> bool,
) -> Vec<F::Output> {
    let task = Arc::new(Mutex::new(Waker::noop().clone()));
    let mut parts: Vec<_> = futures.into_iter().map(|future| JoinedFuture::new(future, &task)).collect();
    let mut has_concerned_all = false;
    poll_fn(|cx| {
        if !has_concerned_all && concerns_all() {
            has_concerned_all = true;
            parts.iter().for_each(|part| part.signal.came.store(true, Ordering::Release));
        }
        task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        let waiting = parts.iter_mut().map(JoinedFuture::poll).filter(Poll::is_pending).count();
        if waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    parts.into_iter().filter_map(|part| part.output).collect()
}

struct JoinedFuture<F: Future> {
    future: Option<Pin<Box<F>>>,
    output: Option<F::Output>,
    signal: Arc<WakeSignal>,
    waker: Waker,
}

/// Wakes the task, and records which future was woken. The others are not polled then.
struct WakeSignal {
    came: AtomicBool,
    task: Arc<Mutex<Waker>>,
}

impl<F: Future> JoinedFuture<F> {
    fn new(future: F, task: &Arc<Mutex<Waker>>) -> Self {
        let signal = Arc::new(WakeSignal { came: AtomicBool::new(true), task: Arc::clone(task) });
        Self { future: Some(Box::pin(future)), output: None, waker: Arc::clone(&signal).into(), signal }
    }

    fn poll(&mut self) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        if !self.signal.came.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let output = std::task::ready!(future.as_mut().poll(&mut Context::from_waker(&self.waker)));
        (self.future, self.output) = (None, Some(output));
        Poll::Ready(())
    }
}

impl Wake for WakeSignal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.came.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn outcomes_are_in_the_order_of_the_calls() {
        assert_eq!(join([ready(1), ready(2)], || false).await, [1, 2]);
        assert!(join(std::iter::empty::<std::future::Ready<u8>>(), || false).await.is_empty());
        let (send, receive): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        let ends = async {
            for (at, send) in send.into_iter().enumerate().rev() {
                tokio::task::yield_now().await;
                send.send(at).unwrap();
            }
        };
        let (came, ()) = tokio::join!(join(receive, || false), ends);
        assert_eq!(came, [Ok(0), Ok(1), Ok(2)]);
    }

    #[tokio::test]
    async fn only_woken_calls_are_polled_except_for_events_that_concern_all() {
        let concerns_all = Cell::new(false);
        let polls = [const { Cell::new(0) }; 2];
        let (send, receive): (Vec<_>, Vec<_>) = (0..2).map(|_| oneshot::channel::<()>()).unzip();
        let counted = receive.into_iter().zip(&polls).map(|(mut receive, polls)| {
            poll_fn(move |cx| {
                polls.set(polls.get() + 1);
                Pin::new(&mut receive).poll(cx)
            })
        });
        let mut joined = Box::pin(join(counted, || concerns_all.get()));
        let mut poll = || joined.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(!poll() && !poll());
        let mut send = send.into_iter();
        send.next().unwrap().send(()).unwrap();
        assert!(!poll());
        assert_eq!([polls[0].get(), polls[1].get()], [2, 1]);
        concerns_all.set(true);
        assert!(!poll() && !poll());
        assert_eq!([polls[0].get(), polls[1].get()], [2, 2]);
        send.next().unwrap().send(()).unwrap();
        assert!(poll());
        assert_eq!([polls[0].get(), polls[1].get()], [2, 3]);
    }
}
