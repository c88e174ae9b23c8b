//! Calls by frames that have a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::HeaderMap;
use tokio::time::Instant;

use crate::call::Reply;
use crate::client::frames::{Begun, CallPayload, Ended, Link, Sending, Upload, UploadTask};
use crate::client::host::Host;
use crate::client::outgoing::Outgoing;
use crate::error::{Code, Error, Executed};
use crate::frames::header::kind;
use crate::returned::items::{Batch, Items, Next, Source};
use crate::returned::{Failure, Returned};
use crate::timer::before;

impl Host {
    /// One attempt of a call that has a stream, up to its first item or its end. `None` if it was not sent.
    pub(in crate::client) async fn stream_by_frames(
        self: &Arc<Self>,
        link: &Arc<Link>,
        outgoing: &mut Outgoing,
    ) -> Option<Reply> {
        let mut sending = link.call();
        let left = outgoing.deadline.saturating_duration_since(Instant::now());
        let items = outgoing.take_items();
        let mut frame =
            CallPayload::with_streams(left, &outgoing.headers, &outgoing.args, outgoing.takes_stream, items.is_some());
        let sent = poll_fn(|cx| sending.poll_send(outgoing.asked(), &mut frame, cx));
        match before(outgoing.deadline, sent).await {
            Some(Ok(())) => {}
            Some(Err(unsent)) => {
                outgoing.put_items(items);
                return self.ended(&outgoing.name, outgoing.allowed, link, Err(unsent));
            }
            None => return Some(self.late(&outgoing.name, outgoing.allowed, Executed::No).into()),
        }
        let mut upload = items.map(|items| Upload::new(items, link.codec()));
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
            Ok(Begun::Items) => {
                let upload = upload.filter(|_| !is_uploaded);
                let metadata = sending.take_metadata();
                let receiving = Receiving::new(sending, upload, Arc::clone(self), &outgoing.name, outgoing.allowed);
                Some(Reply { result: Ok(Returned::Stream(Items::new(receiving))), metadata })
            }
            Ok(Begun::Ended(ended)) => {
                let Some(reply) = self.ended(&outgoing.name, outgoing.allowed, link, Ok(ended)) else {
                    return self.send_again(upload, outgoing);
                };
                // The answer may say that the call did not run.
                outgoing.put_items(upload.and_then(Upload::into_untouched));
                Some(reply)
            }
            Err(failure) => Some(Reply { result: Err(failure), metadata: HeaderMap::new() }),
        }
    }

    /// The call was not run. It is sent again if nothing was taken of its own stream.
    fn send_again(&self, upload: Option<Upload>, outgoing: &mut Outgoing) -> Option<Reply> {
        outgoing.put_items(upload.and_then(Upload::into_untouched));
        outgoing.is_spent.then(|| {
            let why = format!(
                "the connection to {} ended when part of the stream of `{}` had been sent, and the call was not run; call \
                 again with the whole stream",
                self.url(),
                outgoing.name
            );
            Error::refused(Code::Unavailable, why).into()
        })
    }
}

/// The stream that answers a call.
struct Receiving {
    sending: Sending,
    host: Arc<Host>,
    name: Box<str>,
    allowed: Duration,
    /// The task that sends the caller's stream meanwhile.
    _upload: Option<UploadTask>,
    /// Why the caller's stream broke off.
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Receiving {
    fn new(sending: Sending, upload: Option<Upload>, host: Arc<Host>, name: &str, allowed: Duration) -> Self {
        let failure = Arc::<Mutex<_>>::default();
        let upload = upload.and_then(|upload| upload.spawn(&sending, Arc::clone(&failure)));
        Self { sending, host, name: name.into(), allowed, _upload: upload, failure }
    }

    fn ended(&self, ended: Ended) -> Next {
        if let Some(failure) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Next::Failed(failure);
        }
        match ended {
            Ended::Answered(header, _) if header.kind == kind::END => Next::End,
            Ended::Unsent(why) | Ended::Unknown(why) => {
                let why = format!("the stream of `{}` broke off: {why}", self.name);
                Next::Failed(Error::new(Code::Unavailable, why).executed_is(Executed::Yes).into())
            }
            Ended::Late => {
                let idle = self.host.limits().stream_idle;
                let why = format!(
                    "the stream of `{}` had no item for {idle:?} (`Limits::stream_idle` of the client); send one now and \
                     then, or raise it",
                    self.name
                );
                let error = Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Yes);
                Next::Failed(error.of_limit("stream_idle").into())
            }
            ended => match self.host.ended(&self.name, self.allowed, self.sending.link(), Ok(ended)) {
                Some(Reply { result: Err(failure), .. }) => Next::Failed(failure),
                Some(Reply { result: Ok(Returned::Stream(_)), .. }) => Next::End,
                _ => {
                    let why = format!("a single value came amid the stream of `{}`", self.name);
                    Next::Failed(Error::new(Code::Internal, why).executed_is(Executed::Yes).into())
                }
            },
        }
    }
}

impl Source for Receiving {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<Next> {
        Poll::Ready(match ready!(self.sending.poll_items(cx)) {
            Ok(items) => Next::Batch(Batch::Encoded(items)),
            Err(ended) => self.ended(ended),
        })
    }
}
