//! A function that streams its result, and the reader of its items: [`FunctionItems`].

use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::{Instrument as _, Span};

use super::{DeadlineSetter, RunningFunction, SupervisedCall, late_by, stopping};
use crate::deadline::{DeadlineTimer, later};
use crate::error::{Code, Error, Executed};
use crate::handler::{FunctionResult, ResultTarget, YieldedItems};
use crate::limits_and_timeouts::Limit;
use crate::outcome::items::{ItemSource, NextItems};
use crate::outcome::{Failure, ReturnedValue};
use crate::runtime;

/// The items of a running function. Dropping it means that the caller is gone: the stream is dropped at once.
pub(super) struct FunctionItems {
    running: Option<RunningFunction>,
    allowed: Duration,
    set_by: DeadlineSetter,
    timer: DeadlineTimer,
    /// How long each item after the first may take.
    idle: Duration,
    has_begun: bool,
    /// How it ended. It is reported after the items.
    last: Option<Failure>,
    /// Ready when the server no longer waits for its streams.
    parting: Pin<Box<WaitForCancellationFutureOwned>>,
    span: Span,
}

impl FunctionItems {
    pub(super) fn new(mut supervised: SupervisedCall, idle: Duration, parting: WaitForCancellationFutureOwned) -> Self {
        Self {
            running: supervised.running.take(),
            allowed: supervised.time.allowed(),
            set_by: supervised.set_by,
            timer: DeadlineTimer::default(),
            idle,
            has_begun: false,
            last: None,
            parting: Box::pin(parting),
            span: Span::current(),
        }
    }

    fn try_poll(&mut self, cx: &mut Task<'_>, room: usize) -> Poll<NextItems> {
        let Some(running) = &mut self.running else {
            return Poll::Ready(NextItems::End);
        };
        if self.parting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(NextItems::Failed(stopping(&running.entry.handler.method.name).into()));
        }
        if let Some(yielded) = yielded(running) {
            yielded.set_room(room);
        }
        if let Some(failure) = self.last.take() {
            return Poll::Ready(NextItems::Failed(failure));
        }
        let polled = running.poll(cx);
        if let Some(batch) = yielded(running).and_then(YieldedItems::take) {
            // A panic may come after items.
            if let Poll::Ready(outcome @ FunctionResult::Rpc(_)) = polled {
                self.last = Some(running.failure(outcome, nothing));
            }
            self.has_begun = true;
            running.context.set_deadline(later(Instant::now(), self.idle));
            return Poll::Ready(NextItems::Batch(batch));
        }
        match polled {
            Poll::Ready(FunctionResult::Ok) => return Poll::Ready(NextItems::End),
            Poll::Ready(outcome) => {
                let data = yielded(running).and_then(YieldedItems::take_data);
                let failure = running.failure(outcome, || data.unwrap_or_else(nothing));
                return Poll::Ready(NextItems::Failed(failure));
            }
            Poll::Pending => {}
        }
        std::task::ready!(self.timer.poll_at(cx, running.context.deadline()));
        let is_flowing = yielded(running).is_none_or(|yielded| yielded.is_flowing());
        let is_stopped = is_flowing || running.context.is_readonly();
        let name = &running.entry.handler.method.name;
        Poll::Ready(NextItems::Failed(Failure::Rpc(if self.has_begun {
            let why = format!(
                "the stream of `{name}` had no item for {:?} (`Limits::stream_idle` of the server); send one now and \
                 then, or raise the limit",
                self.idle
            );
            Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Yes).of_limit(Limit::StreamIdle)
        } else {
            late_by(name, is_stopped, self.allowed, self.set_by)
        })))
    }
}

fn nothing() -> ReturnedValue {
    ResultTarget::Local(None).into_value()
}

fn yielded(running: &mut RunningFunction) -> Option<&mut YieldedItems> {
    match &mut running.output {
        ResultTarget::Stream(yielded) => yielded.as_deref_mut(),
        _ => None,
    }
}

impl ItemSource for FunctionItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>, room: usize) -> Poll<NextItems> {
        let this = &mut *self;
        let span = this.span.clone();
        let next = std::task::ready!(if span.is_disabled() {
            this.try_poll(cx, room)
        } else {
            span.in_scope(|| this.try_poll(cx, room))
        });
        if !matches!(next, NextItems::Batch(_)) {
            this.stop();
        }
        Poll::Ready(next)
    }
}

impl FunctionItems {
    /// A function that has returned its stream is dropped, as any stream may be. A function that has not runs until it
    /// has, unless it is `readonly`.
    fn stop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        running.context.cancel();
        let is_flowing = yielded(&mut running).is_none_or(|yielded| yielded.is_flowing());
        if is_flowing || running.context.is_readonly() || running.invocation.is_none() {
            let _entered = self.span.enter();
            drop(running);
            return;
        }
        let until_it_streams = async move {
            std::future::poll_fn(|cx| match running.poll(cx) {
                Poll::Pending if yielded(&mut running).is_some_and(|yielded| !yielded.is_flowing()) => Poll::Pending,
                _ => Poll::Ready(()),
            })
            .await;
        };
        runtime::spawn(&runtime::current(), until_it_streams.instrument(self.span.clone()));
    }
}

impl Drop for FunctionItems {
    fn drop(&mut self) {
        self.stop();
    }
}
