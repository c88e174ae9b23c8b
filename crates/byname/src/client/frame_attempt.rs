//! One attempt of a call by frames, and what its end means.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::call_errors::{broken, late, reply_too_large};
use super::frame_connection::{self, CallPayload, FrameCallEnd, FrameConnection, Unsent};
use super::frame_connection_set::FrameConnectionSet;
use super::outgoing_call::OutgoingCall;
use crate::arguments::EncodedArguments;
use crate::deadline::before;
use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::Limit;
use crate::request::Reply;

/// One attempt of a call without streams. `None` if it was not sent.
pub(super) async fn attempt(
    frames: &FrameConnectionSet,
    link: &Arc<FrameConnection>,
    outgoing: &OutgoingCall,
    args: &EncodedArguments,
) -> Option<Reply> {
    let mut sending = link.call();
    let left = outgoing.deadline.saturating_duration_since(Instant::now());
    let mut frame = CallPayload::new(left, &outgoing.headers, args);
    let polled = poll_fn(|cx| sending.poll(outgoing.asked(), &mut frame, cx));
    let Some(ended) = before(outgoing.deadline, polled).await else {
        let executed = if sending.is_queued() { Executed::No } else { Executed::Unknown };
        return Some(late(&outgoing.name, outgoing.allowed, executed).into());
    };
    ended_reply(frames, link, &outgoing.name, outgoing.allowed, ended)
}

/// What a call by frames came to. `None` if it was not sent.
pub(super) fn ended_reply(
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
        FrameCallEnd::Answered(header, payload) => match frame_connection::read(link.codec(), &header, &payload) {
            Ok(reply) => reply,
            Err(violation) => {
                let why = format!("the reply of `{name}` can't be read: {violation}");
                Error::new(Code::Internal, why).into()
            }
        },
        FrameCallEnd::TooLarge(executed) => {
            reply_too_large(name, frames.limits().message, link.codec(), executed).into()
        }
        FrameCallEnd::Late => late(name, allowed, Executed::Unknown).into(),
        FrameCallEnd::Unsent(why) => broken(&frames.url(), name, Executed::No, &why).into(),
        FrameCallEnd::Unknown(why) => broken(&frames.url(), name, Executed::Unknown, &why).into(),
    }
}
