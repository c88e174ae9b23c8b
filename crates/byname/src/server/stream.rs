//! Streams over HTTP: the lines of an answer, and those of a request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::body::{self, RequestBody};
use super::http::half_closed;
use super::watch::Activity;
use crate::codec::Codec;
use crate::error::{Code, Error};
use crate::returned::items::{Batch, Encoded, Items, Next, ROOM, Source};
use crate::timer::{Timer, later};
use crate::wire::lines::{Form, Lines, TooLong};

/// How long a stream is silent before it says so.
const BEAT: Duration = Duration::from_secs(15);

/// The items of a stream as they go out.
#[derive(Debug)]
pub(super) struct StreamBody {
    items: Option<Items>,
    form: Form,
    count: u64,
    timer: Timer,
    last: Instant,
    /// The connection and the name of a stream that changes nothing: it ends once its reader may have gone.
    reader: Option<(Arc<Activity>, String)>,
}

impl StreamBody {
    pub(super) fn new(items: Items, form: Form, reader: Option<(Arc<Activity>, String)>) -> Self {
        Self { items: Some(items), form, count: 0, timer: Timer::default(), last: Instant::now(), reader }
    }

    /// What goes out next; `None` at the end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(items) = &mut self.items else {
            return Poll::Ready(None);
        };
        let mut out = Vec::new();
        match items.poll_next(cx, ROOM) {
            Poll::Ready(Next::Batch(Batch::Encoded(batch))) => {
                for item in batch.rest() {
                    self.form.item(item, &mut out);
                    self.count += 1;
                }
            }
            // What goes out over HTTP is encoded.
            Poll::Ready(Next::Batch(Batch::Local(_)) | Next::End) => {
                self.form.end(self.count, &mut out);
                self.items = None;
            }
            Poll::Ready(Next::Failed(failure)) => {
                self.form.failure(failure, &mut out);
                self.items = None;
            }
            Poll::Pending => {
                if let Some((activity, name)) = &self.reader
                    && activity.is_half_closed()
                {
                    self.form.failure(half_closed(name).into(), &mut out);
                    self.items = None;
                    return Poll::Ready(Some(out.into()));
                }
                ready!(self.timer.poll_at(cx, later(self.last, BEAT)));
                out.extend_from_slice(self.form.beat());
            }
        }
        self.last = Instant::now();
        Poll::Ready(Some(out.into()))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.items.is_none()
    }
}

/// The lines of a request's body, each an item.
pub(super) struct RequestLines<B: RequestBody> {
    body: Pin<Box<B>>,
    lines: Lines,
    has_ended: bool,
    longest: usize,
    activity: Arc<Activity>,
}

impl<B: RequestBody> Drop for RequestLines<B> {
    fn drop(&mut self) {
        if self.has_ended || self.body.is_end_stream() {
            return;
        }
        // What is there already may be all.
        let rest = self.body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()));
        if !matches!(rest, Poll::Ready(None)) && !self.body.is_end_stream() {
            self.activity.leave_unread();
        }
    }
}

impl<B: RequestBody> RequestLines<B> {
    pub(super) fn new(body: B, longest: usize, activity: Arc<Activity>) -> Self {
        Self { body: Box::pin(body), lines: Lines::new(longest), has_ended: false, longest, activity }
    }

    /// The next line.
    pub(super) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            match self.lines.next() {
                Ok(Some(line)) => return Poll::Ready(Ok(Some(line))),
                Ok(None) if self.has_ended => return Poll::Ready(Ok(self.lines.last())),
                Ok(None) => {}
                Err(TooLong) => {
                    let why = format!(
                        "a line of the request has more than {} bytes (`Limits::message` of the server); send shorter \
                         ones, or raise it",
                        self.longest
                    );
                    return Poll::Ready(Err(Error::new(Code::ResourceExhausted, why).of_limit("message")));
                }
            }
            match ready!(self.body.as_mut().poll_frame(cx)) {
                None => self.has_ended = true,
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        while data.has_remaining() {
                            let chunk = data.chunk();
                            self.lines.put(chunk);
                            let length = chunk.len();
                            data.advance(length);
                        }
                    }
                }
                Some(Err(why)) => {
                    self.has_ended = true;
                    self.activity.leave_unread();
                    return Poll::Ready(Err(body::broken(&*why.into())));
                }
            }
        }
    }
}

impl<B: RequestBody> Source for RequestLines<B> {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<Next> {
        Poll::Ready(match ready!(self.poll_line(cx)) {
            Ok(Some(line)) => Next::Batch(Batch::Encoded(Encoded::one(Codec::Json, line))),
            Ok(None) => Next::End,
            Err(error) => Next::Failed(error.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// An item each minute, and an end.
    struct Slow {
        left: u8,
        next: Pin<Box<tokio::time::Sleep>>,
    }

    impl Source for Slow {
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<Next> {
            if self.left == 0 {
                return Poll::Ready(Next::End);
            }
            ready!(self.next.as_mut().poll(cx));
            self.left -= 1;
            self.next.set(tokio::time::sleep(Duration::from_secs(60)));
            Poll::Ready(Next::Batch(Batch::Encoded(Encoded::one(Codec::Json, Bytes::from_static(b"1")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_items_says_that_it_is_there() {
        for (form, expected) in [
            (Form::Lines, "\n\n\n{\"item\":1}\n\n\n\n{\"item\":1}\n{\"end\":2}\n"),
            (Form::Events, ":\n\n:\n\n:\n\ndata: 1\n\n:\n\n:\n\n:\n\ndata: 1\n\nevent: end\ndata: 2\n\n"),
        ] {
            let items = Items::new(Slow { left: 2, next: Box::pin(tokio::time::sleep(Duration::from_secs(59))) });
            let mut body = StreamBody::new(items, form, None);
            let mut all = Vec::new();
            while let Some(piece) = poll_fn(|cx| body.poll_data(cx)).await {
                all.extend_from_slice(&piece);
            }
            assert_eq!(String::from_utf8(all).unwrap(), expected);
        }
    }
}
