//! The calls of a connection of frames that have a stream, in either direction.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{Connection, Replies, put_failure, put_reply};
use crate::call::{Reply, Request};
use crate::codec;
use crate::dispatch::Dispatch;
use crate::error::{Code, Error, Executed};
use crate::frames::format::{self, Header, flag, kind};
use crate::frames::{Doorbell, Found, Pump, Pumped, Taken, Violation, wake};
use crate::returned::items::{Batch, Encoded, Items, Next, Source};
use crate::returned::{Failure, Returned};
use crate::timer::{Timer, later};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Runs a call whose caller takes a stream, of which `credit` may be sent at first, or `brings` one.
    pub(super) fn stream(&mut self, id: u64, credit: u32, brings: bool, mut request: Request) {
        self.has_streams = true;
        let granted = self.shared.lock().flows.open(id, credit, brings);
        if brings {
            self.outbound.put(Header::new(kind::CREDIT, 0, 0, id), |frame| frame.extend(granted.to_be_bytes()));
            request.items = Some(Items::new(Uploaded { shared: Arc::clone(&self.shared), id }));
        }
        let (shared, dispatch) = (Arc::clone(&self.shared), Arc::clone(self.endpoint.dispatch()));
        let task = tokio::spawn(async move {
            let (name, limit) = (Arc::clone(&request.name), dispatch.limits().message);
            let Reply { result, metadata } = dispatch.run(request).await;
            let last = match result {
                Ok(Returned::Stream(items)) => send(&shared, &dispatch, id, items, metadata, &name).await,
                result => Last::Reply(Reply { result, metadata }),
            };
            let mut replies = shared.lock();
            let outbound = &mut replies.outbound;
            match last {
                Last::End(metadata) => {
                    let flags = if metadata.is_empty() { 0 } else { flag::METADATA };
                    outbound.put(Header::new(kind::END, flags, 0, id), |frame| {
                        if !metadata.is_empty() {
                            format::write_metadata(&metadata, frame);
                        }
                    });
                }
                Last::Failed(failure, metadata) => put_failure(outbound, id, failure, metadata),
                Last::Reply(reply) => put_reply(outbound, id, reply, limit, &name),
                Last::Nothing => {}
            }
            let closed = replies.flows.close(id);
            replies.ended.push(id);
            shared.ring(replies);
            wake(closed);
        });
        self.running.insert(id, task.abort_handle());
    }

    /// An item of what a caller streams in.
    pub(super) fn item(&mut self, header: &Header, payload: &[u8]) -> Result<(), Violation> {
        if !self.has_streams || !self.shared.lock().flows.receives(header.id) {
            self.assembly.forget(kind::ITEM, header.id);
            return Ok(());
        }
        let codec = self.codec.unwrap_or_default();
        let reader = match self.assembly.take(header, payload)? {
            Taken::Whole(item) => self.shared.lock().flows.came_alone(header.id, codec, item)?,
            Taken::Assembled(item) => self.shared.lock().flows.came(header.id, Encoded::one(codec, item))?,
            Taken::Part => return Ok(()),
            Taken::TooLarge => {
                let limit = self.endpoint.dispatch().limits().message;
                let why = format!(
                    "an item of the stream has more than {limit} bytes (`Limits::message` of the server); make it \
                     smaller, or raise it{}",
                    codec::shorter(codec)
                );
                let error = Error::new(Code::ResourceExhausted, why).of_limit("message");
                self.shared.lock().flows.ended(header.id, Err(error))
            }
        };
        wake([reader]);
        Ok(())
    }

    /// Something was written: streams that wait for that are woken.
    pub(super) fn let_streams_go_on(&mut self) {
        let mut replies = self.shared.lock();
        let unwritten = self.outbound.len();
        let Replies { flows, outbound, .. } = &mut *replies;
        self.has_streams = !flows.is_empty();
        let wakers = flows.written(unwritten, |id| outbound.holds(id) || self.outbound.holds(id));
        drop(replies);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

/// What a call ends with, with the metadata that no item bore.
enum Last {
    End(HeaderMap),
    Failed(Failure, HeaderMap),
    Reply(Reply),
    /// Whoever called has gone.
    Nothing,
}

/// Sends the items of a stream, as its reader takes them.
async fn send(
    shared: &Doorbell<Replies>,
    dispatch: &Dispatch,
    id: u64,
    mut items: Items,
    metadata: HeaderMap,
    name: &str,
) -> Last {
    let mut pump = Pump::new(metadata);
    let idle = dispatch.limits().stream_idle;
    let (mut timer, mut held_since) = (Timer::default(), None);
    let mut parting = pin!(dispatch.streams_end());
    let pumped = poll_fn(|cx| {
        let polled = pump.poll(shared, id, &mut items, cx);
        if polled.is_ready() || !pump.is_held_up() {
            held_since = None;
            return polled;
        }
        // While it is not asked for items, the function can't say that it is over.
        if parting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Pumped::Failed(crate::dispatch::stopping(name).into()));
        }
        let since = *held_since.get_or_insert_with(Instant::now);
        timer.poll_at(cx, later(since, idle)).map(|()| {
            let why = format!(
                "no item of the stream of `{name}` was taken for {idle:?} (`Limits::stream_idle` of the server); read \
                 it sooner, or raise it"
            );
            let error = Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Yes).of_limit("stream_idle");
            Pumped::Failed(error.into())
        })
    })
    .await;
    match pumped {
        Pumped::End => Last::End(pump.take_metadata()),
        Pumped::Failed(failure) => Last::Failed(failure, pump.take_metadata()),
        Pumped::Unwanted => Last::Nothing,
    }
}

/// What a caller streams in, as its function reads it.
struct Uploaded {
    shared: Arc<Doorbell<Replies>>,
    id: u64,
}

impl Source for Uploaded {
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<Next> {
        let mut replies = self.shared.lock();
        match replies.flows.take(self.id, cx) {
            Found::Items(items, more) => {
                if let Some(more) = more {
                    let header = Header::new(kind::CREDIT, 0, 0, self.id);
                    replies.outbound.put(header, |frame| frame.extend(more.to_be_bytes()));
                    self.shared.ring(replies);
                }
                Poll::Ready(Next::Batch(Batch::Encoded(items)))
            }
            Found::Nothing => Poll::Pending,
            Found::End => Poll::Ready(Next::End),
            Found::Cut(error) => Poll::Ready(Next::Failed(error.into())),
            Found::Gone => {
                let why = "the caller has gone or waits no longer, and the rest of its stream does not come";
                Poll::Ready(Next::Failed(Error::new(Code::Cancelled, why).into()))
            }
        }
    }
}

impl Drop for Uploaded {
    /// The function has read all it wants.
    fn drop(&mut self) {
        let mut replies = self.shared.lock();
        if replies.flows.stop_receiving(self.id) {
            replies.outbound.put(Header::new(kind::CANCEL, 0, 0, self.id), |_| ());
            self.shared.ring(replies);
        }
    }
}
