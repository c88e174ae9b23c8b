//! Several futures at once: [`await_all`].

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use crate::runtime::BoxFuture;

/// The outputs of all these futures, in their order.
pub(super) async fn await_all<T>(mut futures: Vec<BoxFuture<T>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(done) = Pin::new(future).poll(cx)
            {
                *result = Some(done);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}
