//! One attempt of a call without streams by frames, and what its end means.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::call_errors::{broken, late, reply_too_large, set_replica};
use super::frame_connection::{self, CallHead, CallPayload, FrameCall, FrameCallEnd, FrameConnection, Unsent};
use super::frame_connection_set::{ChosenConnection, FrameConnectionSet, ReplicaCount};
use super::outgoing_call::OutgoingCall;
use super::replica_choice::ReplicaId;
use super::replica_load::ReplicaOutcome;
use super::replica_outcome::replica_outcome;
use crate::arguments::EncodedArguments;
use crate::deadline::DeadlineTimer;
use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::Limit;
use crate::request::Reply;

/// One attempt. It is no future, because a call that holds it says its name and its deadline at each poll.
pub(super) struct FrameAttempt {
    call: FrameCall,
    /// It counts at its replica.
    count: ReplicaCount,
    /// What is sent, while it waits in the queue.
    queued: Option<Box<QueuedFrame>>,
}

struct QueuedFrame {
    frame: CallPayload,
    /// The connection knows no deadline of a call that is not sent.
    timer: DeadlineTimer,
}

impl FrameAttempt {
    /// Sends the call, or puts it into the queue if the server accepts no more calls at once. Otherwise says why not.
    pub(super) fn start(
        chosen: ChosenConnection,
        head: CallHead<'_>,
        mut frame: CallPayload,
        cx: &mut Context<'_>,
    ) -> Result<Self, (Unsent, Arc<FrameConnection>)> {
        let ChosenConnection { link, count } = chosen;
        let mut call = link.call();
        match call.poll_send(head, &mut frame, cx) {
            Poll::Ready(Ok(())) => Ok(Self { call, count, queued: None }),
            Poll::Ready(Err(unsent)) => Err((unsent, Arc::clone(call.link()))),
            Poll::Pending => {
                let mut queued = Box::new(QueuedFrame { frame, timer: DeadlineTimer::default() });
                match queued.timer.poll_at(cx, head.deadline) {
                    Poll::Ready(()) => Err((Unsent::Late, Arc::clone(call.link()))),
                    Poll::Pending => Ok(Self { call, count, queued: Some(queued) }),
                }
            }
        }
    }

    pub(super) fn link(&self) -> &Arc<FrameConnection> {
        self.call.link()
    }

    /// The replica at which it counts.
    pub(super) fn replica(&self) -> Option<ReplicaId> {
        self.count.replica()
    }

    /// The call has ended. `reply` is what it came to, if it was sent.
    pub(super) fn ended(&mut self, reply: Option<&Reply>) {
        // With one replica nothing is counted.
        if self.count.replica().is_some() {
            std::mem::take(&mut self.count).ended(reply.map_or(ReplicaOutcome::Cancelled, replica_outcome));
        }
    }

    /// How the call ended, or why it was not sent.
    pub(super) fn poll(&mut self, head: CallHead<'_>, cx: &mut Context<'_>) -> Poll<Result<FrameCallEnd, Unsent>> {
        let Some(queued) = &mut self.queued else {
            return self.call.poll_ended(cx).map(Ok);
        };
        match self.call.poll_send(head, &mut queued.frame, cx) {
            Poll::Ready(Ok(())) => {
                self.queued = None;
                Poll::Pending
            }
            Poll::Ready(Err(unsent)) => Poll::Ready(Err(unsent)),
            Poll::Pending => {
                ready!(queued.timer.poll_at(cx, head.deadline));
                Poll::Ready(Err(Unsent::Late))
            }
        }
    }
}

/// One attempt, from its start to its end. `None` if the call was not sent.
pub(super) async fn attempt(
    frames: &FrameConnectionSet,
    chosen: ChosenConnection,
    outgoing: &OutgoingCall,
    args: &EncodedArguments,
) -> Option<Reply> {
    let left = outgoing.deadline.saturating_duration_since(Instant::now());
    let frame = CallPayload::new(left, &outgoing.headers, args);
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let started = FrameAttempt::start(chosen, outgoing.head(), frame, &mut Context::from_waker(&waker));
    match started {
        Ok(mut started) => {
            let ended = poll_fn(|cx| started.poll(outgoing.head(), cx)).await;
            let reply = ended_reply(frames, started.link(), &outgoing.name, outgoing.allowed, ended);
            started.ended(reply.as_ref());
            reply
        }
        Err((unsent, link)) => ended_reply(frames, &link, &outgoing.name, outgoing.allowed, Err(unsent)),
    }
}

/// What a call by frames came to. `None` if it was not sent.
pub(super) fn ended_reply(
    frames: &FrameConnectionSet,
    link: &Arc<FrameConnection>,
    name: &str,
    allowed: Duration,
    ended: Result<FrameCallEnd, Unsent>,
) -> Option<Reply> {
    let mut reply = reply_of(frames, link, name, allowed, ended);
    if let Some(reply) = &mut reply {
        set_replica(reply, || frames.is_one_of_several(link.address()).then(|| link.address().clone()));
    }
    reply
}

fn reply_of(
    frames: &FrameConnectionSet,
    link: &Arc<FrameConnection>,
    name: &str,
    allowed: Duration,
    ended: Result<FrameCallEnd, Unsent>,
) -> Option<Reply> {
    match ended {
        Ok(FrameCallEnd::Unsent(_)) => None,
        Ok(ended) => Some(answered(frames, link, name, allowed, ended)),
        Err(Unsent::Over) => {
            frames.forget(link);
            None
        }
        Err(Unsent::Crowded(waiting)) => {
            let why = format!(
                "{waiting} calls to {} wait because its server accepts no more calls at once, which is \
                 `Limits::waiting`; make fewer calls at once",
                frames.url()
            );
            Some(Error::refused(Code::ResourceExhausted, why).of_limit(Limit::Waiting).into())
        }
        Err(Unsent::Late) => Some(late(&frames.url(), name, allowed, Executed::No).into()),
        Err(Unsent::TooLarge(size, largest)) => {
            Some(frame_connection::too_large(name, link.codec(), size, largest).into())
        }
    }
}

fn answered(
    frames: &FrameConnectionSet,
    link: &FrameConnection,
    name: &str,
    allowed: Duration,
    ended: FrameCallEnd,
) -> Reply {
    match ended {
        FrameCallEnd::Answered(header, payload, _) => match frame_connection::read(link.codec(), &header, payload) {
            Ok(reply) => reply,
            Err(violation) => {
                let why = format!("the reply of `{name}` can't be read: {violation}");
                Error::new(Code::Internal, why).into()
            }
        },
        FrameCallEnd::TooLarge(executed) => {
            reply_too_large(name, frames.limits().message, link.codec(), executed).into()
        }
        FrameCallEnd::Late => late(&frames.url(), name, allowed, Executed::Unknown).into(),
        FrameCallEnd::Unsent(why) => broken(&frames.url(), name, Executed::No, &why).into(),
        FrameCallEnd::Unknown(why) => broken(&frames.url(), name, Executed::Unknown, &why).into(),
    }
}
