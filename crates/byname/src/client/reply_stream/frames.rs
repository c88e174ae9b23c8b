//! Calls by frames that have a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::HeaderMap;
use tokio::time::Instant;

use crate::arguments::EncodedArguments;
use crate::client::call_errors::late;
use crate::client::frame_attempt::ended_reply;
use crate::client::frame_connection::{BegunStream, CallPayload, FrameCall, FrameCallEnd, FrameUpload, UploadTask};
use crate::client::frame_connection_set::{ChosenConnection, FrameConnectionSet};
use crate::client::outgoing_call::OutgoingCall;
use crate::client::replica_load::ReplicaOutcome;
use crate::client::replica_outcome::replica_outcome;
use crate::deadline::before;
use crate::error::{Code, Error, Executed};
use crate::frames::header::kind;
use crate::limits_and_timeouts::Limit;
use crate::outcome::items::{ItemBatch, ItemSource, Items, NextItems};
use crate::outcome::{Failure, Returned};
use crate::request::Reply;

/// One attempt of a call that has a stream, up to its first item or its end. `None` if it was not sent.
pub(in crate::client) async fn attempt(
    frames: &Arc<FrameConnectionSet>,
    chosen: ChosenConnection,
    outgoing: &OutgoingCall,
    args: &EncodedArguments,
) -> Option<Reply> {
    let ChosenConnection { link, count } = chosen;
    let mut sending = Arc::clone(&link).call();
    let left = outgoing.deadline.saturating_duration_since(Instant::now());
    let items = outgoing.upload.take();
    let mut frame = CallPayload::with_streams(left, &outgoing.headers, args, outgoing.takes_stream, items.is_some());
    let sent = poll_fn(|cx| sending.poll_send(outgoing.head(), &mut frame, cx));
    match before(outgoing.deadline, sent).await {
        Some(Ok(())) => {}
        Some(Err(unsent)) => {
            outgoing.upload.put_back(items);
            return ended_reply(frames, &link, &outgoing.name, outgoing.allowed, Err(unsent));
        }
        None => return Some(late(&frames.url(), &outgoing.name, outgoing.allowed, Executed::No).into()),
    }
    let mut upload = items.map(|items| FrameUpload::new(items, link.codec()));
    let mut is_uploaded = false;
    let begun = poll_fn(|cx| {
        if let Some(upload) = &mut upload
            && !is_uploaded
            && let Poll::Ready(ended) = upload.poll(&sending, cx)
        {
            is_uploaded = true;
            if let Some(failure) = ended {
                return Poll::Ready(Err(failure));
            }
        }
        sending.poll_begun(cx).map(Ok)
    });
    match begun.await {
        Ok(BegunStream::Items) => {
            count.ended(ReplicaOutcome::Answered);
            let upload = upload.filter(|_| !is_uploaded);
            let metadata = sending.take_metadata();
            let receiving = FrameReplyItems::new(sending, upload, Arc::clone(frames), &outgoing.name, outgoing.allowed);
            Some(Reply { result: Ok(Returned::Stream(Items::new(receiving))), metadata })
        }
        Ok(BegunStream::Ended(ended)) => {
            let Some(reply) = ended_reply(frames, &link, &outgoing.name, outgoing.allowed, Ok(ended)) else {
                return send_again(frames, upload, outgoing);
            };
            count.ended(replica_outcome(&reply));
            // The answer may say that the call did not run.
            outgoing.upload.put_back(upload.and_then(FrameUpload::into_untouched));
            Some(reply)
        }
        Err(failure) => Some(Reply { result: Err(failure), metadata: HeaderMap::new() }),
    }
}

/// The call was not run. It is sent again if nothing was taken of its own stream.
fn send_again(frames: &FrameConnectionSet, upload: Option<FrameUpload>, outgoing: &OutgoingCall) -> Option<Reply> {
    outgoing.upload.put_back(upload.and_then(FrameUpload::into_untouched));
    outgoing.upload.is_taken().then(|| {
        let why = format!(
            "the connection to {} ended after a part of the stream of `{}` was sent; the call did not run; call \
             again with the whole stream",
            frames.url(),
            outgoing.name
        );
        Error::refused(Code::Unavailable, why).into()
    })
}

/// The stream that answers a call.
struct FrameReplyItems {
    sending: FrameCall,
    frames: Arc<FrameConnectionSet>,
    name: Box<str>,
    allowed: Duration,
    /// The task that sends the caller's stream meanwhile.
    _upload: Option<UploadTask>,
    /// Why the caller's stream broke off.
    failure: Arc<Mutex<Option<Failure>>>,
}

impl FrameReplyItems {
    fn new(
        sending: FrameCall,
        upload: Option<FrameUpload>,
        frames: Arc<FrameConnectionSet>,
        name: &str,
        allowed: Duration,
    ) -> Self {
        let failure = Arc::<Mutex<_>>::default();
        let upload = upload.and_then(|upload| upload.spawn(&sending, Arc::clone(&failure)));
        Self { sending, frames, name: name.into(), allowed, _upload: upload, failure }
    }

    fn ended(&self, ended: FrameCallEnd) -> NextItems {
        if let Some(failure) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return NextItems::Failed(failure);
        }
        match ended {
            FrameCallEnd::Answered(header, ..) if header.kind == kind::END => NextItems::End,
            FrameCallEnd::Unsent(why) | FrameCallEnd::Unknown(why) => {
                let why = format!("the stream of `{}` broke off: {why}", self.name);
                NextItems::Failed(Error::new(Code::Unavailable, why).executed_is(Executed::Yes).into())
            }
            FrameCallEnd::Late => {
                let idle = self.frames.limits().stream_idle;
                let why = format!(
                    "the stream of `{}` had no item for {idle:?} (`Limits::stream_idle` of the client); send one now and \
                     then, or raise the limit",
                    self.name
                );
                let error = Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Yes);
                NextItems::Failed(error.of_limit(Limit::StreamIdle).into())
            }
            ended => match ended_reply(&self.frames, self.sending.link(), &self.name, self.allowed, Ok(ended)) {
                Some(Reply { result: Err(failure), .. }) => NextItems::Failed(failure),
                Some(Reply { result: Ok(Returned::Stream(_)), .. }) => NextItems::End,
                _ => {
                    let why = format!("a single value came in the middle of the stream of `{}`", self.name);
                    NextItems::Failed(Error::new(Code::Internal, why).executed_is(Executed::Yes).into())
                }
            },
        }
    }
}

impl ItemSource for FrameReplyItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<NextItems> {
        Poll::Ready(match ready!(self.sending.poll_items(cx)) {
            Ok(items) => NextItems::Batch(ItemBatch::Encoded(items)),
            Err(ended) => self.ended(ended),
        })
    }
}
