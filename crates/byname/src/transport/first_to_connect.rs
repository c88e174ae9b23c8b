//! Connecting to the first of several addresses that can be used: [`first_to_connect`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

use tokio::time::Instant;

use super::HandshakeRefusal;
use super::address_race::{AddressRace, ConnectStep};
use crate::address::Address;
use crate::deadline::before;

/// What came of connecting to one of several addresses.
pub(crate) struct ConnectOutcome<T> {
    pub(crate) result: Result<(Address, T), ConnectFailure>,
    /// The addresses that held it up.
    pub(crate) stalled: Vec<Address>,
    /// The addresses that failed, in their order.
    pub(crate) failed: Vec<FailedAddress>,
}

/// An address that can't be connected to.
pub(crate) struct FailedAddress {
    pub(crate) address: Address,
    pub(crate) why: String,
    /// The server, or this client, refuses the other.
    pub(crate) is_refusal: bool,
}

pub(crate) enum ConnectFailure {
    Failed(io::Error),
    /// There was no more time. What was waited for in vain.
    Late(&'static str),
}

/// How far the attempt at one address is.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptProgress(Arc<AtomicU8>);

/// Makes an attempt at each of the addresses, as [`AddressRace`] says, until one succeeds. An attempt is everything that
/// must be done before the connection can be used: an address that does only a part of it does not hold up the next one.
pub(crate) async fn first_to_connect<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<Address>,
    until: Instant,
    attempt: impl Fn(Address, AttemptProgress) -> F,
) -> ConnectOutcome<T> {
    let mut race = AddressRace::new(addresses);
    let (mut attempts, mut failed) = (Vec::new(), Vec::new());
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let result = loop {
        if let Some((id, address)) = race.start(Instant::now()) {
            let progress = AttemptProgress::default();
            let work = Box::pin(attempt(address.clone(), progress.clone()));
            attempts.push(ConnectAttempt { id, address, progress, step: ConnectStep::Connecting, work });
        }
        if attempts.is_empty() {
            break Err(ConnectFailure::Failed(last));
        }
        let look = race.next_at().map_or(until, |next| next.min(until));
        match before(look, next_event(&mut attempts)).await {
            Some(AttemptEvent::Moved(id, step)) => race.moved(id, step, Instant::now()),
            Some(AttemptEvent::Ended(_, address, Ok(connected))) => break Ok((address, connected)),
            Some(AttemptEvent::Ended(id, address, Err(why))) => {
                race.failed(id);
                let is_refusal = HandshakeRefusal::of(&why).is_some();
                failed.push(FailedAddress { address, why: why.to_string(), is_refusal });
                // That a server was refused says more than that another was not there.
                if HandshakeRefusal::of(&last).is_none() {
                    last = why;
                }
            }
            None if look == until => break Err(ConnectFailure::Late(race.missing())),
            None => {}
        }
    };
    let stalled = race.stalled(result.as_ref().ok().map(|(address, _)| address));
    ConnectOutcome { result, stalled, failed }
}

impl AttemptProgress {
    pub(crate) fn moved(&self, step: ConnectStep) {
        self.0.store(step as u8, Ordering::Relaxed);
    }

    fn step(&self) -> ConnectStep {
        match self.0.load(Ordering::Relaxed) {
            1 => ConnectStep::Securing,
            2 => ConnectStep::Upgrading,
            _ => ConnectStep::Connecting,
        }
    }
}

/// An attempt at one address.
struct ConnectAttempt<F> {
    id: usize,
    address: Address,
    progress: AttemptProgress,
    /// The step that was seen last.
    step: ConnectStep,
    work: Pin<Box<F>>,
}

enum AttemptEvent<T> {
    Moved(usize, ConnectStep),
    Ended(usize, Address, io::Result<T>),
}

/// Waits until an attempt comes to its next step, or ends. One that has ended is removed.
async fn next_event<T, F: Future<Output = io::Result<T>>>(attempts: &mut Vec<ConnectAttempt<F>>) -> AttemptEvent<T> {
    poll_fn(|cx| {
        for at in 0..attempts.len() {
            let attempt = &mut attempts[at];
            if let Poll::Ready(output) = attempt.work.as_mut().poll(cx) {
                let ended = attempts.swap_remove(at);
                return Poll::Ready(AttemptEvent::Ended(ended.id, ended.address, output));
            }
            let step = attempt.progress.step();
            if std::mem::replace(&mut attempt.step, step) != step {
                return Poll::Ready(AttemptEvent::Moved(attempt.id, step));
            }
        }
        Poll::Pending
    })
    .await
}
