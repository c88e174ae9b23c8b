//! A function that streams its result, and whoever takes its items: [`Producing`].

use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::{Instrument as _, Span};

use super::{Running, SetBy, Supervised, late_by, stopping};
use crate::error::{Code, Error, Executed};
use crate::handler::{Outcome, Output, Yielded};
use crate::returned::items::{Next, Source};
use crate::returned::{Failure, Value};
use crate::runtime;
use crate::timer::{Timer, later};

/// The items of a function at work. Dropping it is the caller going away: the stream is dropped where it stands.
pub(super) struct Producing {
    running: Option<Running>,
    allowed: Duration,
    set_by: SetBy,
    timer: Timer,
    /// How long the next item may take once the first has come.
    idle: Duration,
    has_begun: bool,
    /// How it ended, to be said after the items before that.
    last: Option<Failure>,
    /// The server has waited for its streams long enough.
    parting: Pin<Box<WaitForCancellationFutureOwned>>,
    span: Span,
}

impl Producing {
    pub(super) fn new(mut supervised: Supervised, idle: Duration, parting: WaitForCancellationFutureOwned) -> Self {
        Self {
            running: supervised.running.take(),
            allowed: supervised.allowed,
            set_by: supervised.set_by,
            timer: Timer::default(),
            idle,
            has_begun: false,
            last: None,
            parting: Box::pin(parting),
            span: Span::current(),
        }
    }

    fn try_poll(&mut self, cx: &mut Task<'_>, room: usize) -> Poll<Next> {
        let Some(running) = &mut self.running else {
            return Poll::Ready(Next::End);
        };
        if self.parting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Next::Failed(stopping(&running.entry.handler.method.name).into()));
        }
        if let Some(yielded) = yielded(running) {
            yielded.set_room(room);
        }
        if let Some(failure) = self.last.take() {
            return Poll::Ready(Next::Failed(failure));
        }
        let polled = running.poll(cx);
        if let Some(batch) = yielded(running).and_then(Yielded::take) {
            // A panic may come behind items.
            if let Poll::Ready(outcome @ Outcome::Rpc(_)) = polled {
                self.last = Some(running.failure(outcome, nothing));
            }
            self.has_begun = true;
            running.context.set_deadline(later(Instant::now(), self.idle));
            return Poll::Ready(Next::Batch(batch));
        }
        match polled {
            Poll::Ready(Outcome::Ok) => return Poll::Ready(Next::End),
            Poll::Ready(outcome) => {
                let data = yielded(running).and_then(Yielded::take_data);
                let failure = running.failure(outcome, || data.unwrap_or_else(nothing));
                return Poll::Ready(Next::Failed(failure));
            }
            Poll::Pending => {}
        }
        std::task::ready!(self.timer.poll_at(cx, running.context.deadline()));
        let name = &running.entry.handler.method.name;
        Poll::Ready(Next::Failed(Failure::Rpc(if self.has_begun {
            let why = format!(
                "the stream of `{name}` had no item for {:?} (`Limits::stream_idle` of the server); send one now and \
                 then, or raise it",
                self.idle
            );
            Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Yes).of_limit("stream_idle")
        } else {
            late_by(name, self.allowed, self.set_by)
        })))
    }
}

fn nothing() -> Value {
    Output::Local(None).into_value()
}

fn yielded(running: &mut Running) -> Option<&mut Yielded> {
    match &mut running.output {
        Output::Stream(yielded) => yielded.as_deref_mut(),
        _ => None,
    }
}

impl Source for Producing {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>, room: usize) -> Poll<Next> {
        let this = &mut *self;
        let span = this.span.clone();
        let next = std::task::ready!(if span.is_disabled() {
            this.try_poll(cx, room)
        } else {
            span.in_scope(|| this.try_poll(cx, room))
        });
        if let Next::Failed(failure) = &next
            && !span.is_disabled()
        {
            let (Failure::Rpc(error) | Failure::Method { error, .. }) = failure;
            span.record("rpc.code", error.code().as_str());
        }
        if !matches!(next, Next::Batch(_)) {
            this.stop();
        }
        Poll::Ready(next)
    }
}

impl Producing {
    /// What has given its stream is dropped: whoever streams is used to that. What hasn't yet runs until it has, unless
    /// it is `readonly`.
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

impl Drop for Producing {
    fn drop(&mut self) {
        self.stop();
    }
}
