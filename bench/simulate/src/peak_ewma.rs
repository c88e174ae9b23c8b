//! tower's `p2c` with `PeakEwma`: its own code, under tokio's paused clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fastrand::Rng;
use futures_util::stream::Stream;
use tokio::time::Instant;
use tower::balance::p2c::Balance;
use tower::discover::Change;
use tower::load::{CompleteOnResponse, PeakEwma};
use tower::util::rng;
use tower::{BoxError, Service};

use super::balancer::{Balancer, Ended, Load};

/// As in tower's example.
const DEFAULT_LATENCY: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);

pub struct TowerPeakEwma {
    balance: Balance<Joining, Rc<CallSlot>>,
    joining: Joining,
}

/// A call in flight.
pub struct TowerCall {
    slot: Rc<CallSlot>,
    future: Pin<Box<dyn Future<Output = Result<(), BoxError>>>>,
}

/// Says which replica has got a call, and how the call ended.
#[derive(Default)]
struct CallSlot {
    replica: Cell<usize>,
    is_answered: Cell<Option<bool>>,
}

/// The replicas that the balancer doesn't know yet.
#[derive(Clone, Default)]
struct Joining(Rc<RefCell<VecDeque<usize>>>);

/// A service whose calls end when the simulation says so.
struct SimulatedReplica(usize);

struct SimulatedCall(Rc<CallSlot>);

struct SeededRng(Rng);

impl Balancer for TowerPeakEwma {
    type Sent = TowerCall;

    fn new(replicas: usize, random: Rng, _: Instant) -> Self {
        let joining = Joining(Rc::new(RefCell::new((0..replicas).collect())));
        Self { balance: Balance::from_rng(joining.clone(), SeededRng(random)), joining }
    }

    fn join(&mut self, replica: usize, _: Instant) {
        self.joining.0.borrow_mut().push_back(replica);
    }

    fn choose(&mut self, _: &[Load], _: Instant) -> (usize, TowerCall) {
        let is_ready = self.balance.poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(is_ready, Poll::Ready(Ok(()))), "every replica is always ready");
        let slot = Rc::new(CallSlot::default());
        let future = Box::pin(self.balance.call(Rc::clone(&slot)));
        (slot.replica.get(), TowerCall { slot, future })
    }

    fn ended(&mut self, mut sent: TowerCall, ended: Ended, _: Instant) {
        // A call whose deadline has passed is dropped, as by a time-out.
        if ended.report.is_some() {
            sent.slot.is_answered.set(Some(ended.is_answered));
            let end = sent.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(end.is_ready(), "the call has ended");
        }
    }
}

impl Stream for Joining {
    type Item = Result<Change<usize, PeakEwma<SimulatedReplica>>, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(replica) = self.0.borrow_mut().pop_front() else { return Poll::Pending };
        let decay = DECAY.as_nanos() as f64;
        let service = PeakEwma::new(SimulatedReplica(replica), DEFAULT_LATENCY, decay, CompleteOnResponse::default());
        Poll::Ready(Some(Ok(Change::Insert(replica, service))))
    }
}

impl Service<Rc<CallSlot>> for SimulatedReplica {
    type Response = ();
    type Error = BoxError;
    type Future = SimulatedCall;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, slot: Rc<CallSlot>) -> SimulatedCall {
        slot.replica.set(self.0);
        SimulatedCall(slot)
    }
}

impl Future for SimulatedCall {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.is_answered.get() {
            None => Poll::Pending,
            Some(true) => Poll::Ready(Ok(())),
            Some(false) => Poll::Ready(Err("the replica fails".into())),
        }
    }
}

impl rng::Rng for SeededRng {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}
