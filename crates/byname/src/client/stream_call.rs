//! A call whose answer is a stream: [`StreamCall`].

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::runtime::Handle;

use super::call::{Call, on_a_runtime};
use super::stub_comparison::ComparedCall;
use super::typed_result::Remote;
use crate::arguments::Argument;
use crate::error::{Code, Error, Executed};
use crate::outcome::items::{ItemBatch, Items, NextItems, ROOM};
use crate::outcome::{Returned, ReturnedValue};
use crate::priority::Priority;
use crate::request::Reply;
use crate::runtime::{self, BoxFuture};
use crate::stream_argument::Streaming;

/// A stream that is called for when it is first polled: `follow::on(&client, 7)`.
///
/// Its items are those that the function yields, each as a `Result`: an `Err` is the last, and says why there are no
/// more. A stream that ends without one is whole; one that was cut off never is. It owns what it needs, is `Send`, and
/// `'static` where its arguments are. Dropping it stops the function's stream where it stands.
///
/// Items are made and sent as far as they are read, and some ahead: over frames up to 256 KiB of them, less where many
/// streams share a connection. Over HTTP a stream has one of [`Limits::connections`](crate::Limits::connections) to itself
/// until its end.
///
/// ```
/// use byname::{rpc, Client, Server};
/// use futures_util::{Stream, stream};
///
/// /// Counts down.
/// #[rpc(readonly)]
/// fn countdown(from: u32) -> impl Stream<Item = u32> {
///     stream::iter((1..=from).rev())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), byname::Error> {
/// let data = Client::local(&Server::new().method::<countdown>())?;
/// let mut numbers = countdown::on(&data, 3);
/// while let Some(number) = numbers.next().await {
///     println!("{}", number?);
/// }
/// # Ok(()) }
/// ```
#[must_use = "a stream is called for when it is polled"]
pub struct StreamCall<A, R> {
    progress: StreamCallState<A, R>,
}

enum StreamCallState<A, R> {
    /// The call, and the room that is asked for at once.
    Calling(Call<A, R>, usize),
    Flowing(OpenStream),
    /// It has ended with an error, which is being explained.
    Explaining(BoxFuture<Reply>, Box<str>),
    Over,
}

/// A stream that has begun.
struct OpenStream {
    name: Box<str>,
    compared: Option<ComparedCall>,
    items: Items,
    batch: Option<ItemBatch>,
    /// How much is asked for at once.
    room: usize,
}

impl<A, R> StreamCall<A, R> {
    /// Made by the attribute's expansion of a call.
    #[doc(hidden)]
    pub fn new(mut call: Call<A, R>) -> Self {
        call.take_a_stream();
        // Within the process no item is made before it is asked for.
        let room = if call.is_local() { 1 } else { ROOM };
        Self { progress: StreamCallState::Calling(call, room) }
    }

    /// How long the first item may take, from the first poll, in place of the client's and the function's own. Those
    /// after it have [`Limits::stream_idle`](crate::Limits::stream_idle) each. As [`Call::timeout`] besides.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.change(|call| call.timeout(timeout))
    }

    /// A header on this call; see [`Call::header`].
    pub fn header(self, name: &str, value: &str) -> Self {
        self.change(|call| call.header(name, value))
    }

    /// Calls with the same key go to the same replica; see [`Call::affinity`].
    pub fn affinity(self, key: impl AsRef<[u8]>) -> Self {
        self.change(|call| call.affinity(key))
    }

    /// How important this call is; see [`Call::priority`].
    pub fn priority(self, priority: Priority) -> Self {
        self.change(|call| call.priority(priority))
    }

    fn change(self, change: impl FnOnce(Call<A, R>) -> Call<A, R>) -> Self {
        let progress = match self.progress {
            StreamCallState::Calling(call, room) => StreamCallState::Calling(change(call), room),
            other => other,
        };
        Self { progress }
    }
}

impl<R> StreamCall<super::ByName, R> {
    /// The stream that the function takes, in a call by name.
    pub fn streaming<T: Argument>(self, stream: Streaming<T>) -> Self {
        self.change(|call| call.streaming(stream))
    }
}

impl<A: Send, R: Remote> StreamCall<A, R> {
    /// The next item, or `None` at the end. Dropping what this returns loses nothing.
    pub async fn next(&mut self) -> Option<R> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl OpenStream {
    /// The next of the items that have come.
    #[inline]
    fn take<R: Remote>(&mut self) -> Option<R> {
        match &mut self.batch {
            Some(ItemBatch::Encoded(batch)) => {
                let codec = batch.codec;
                batch.take().map(|item| R::read_item(&self.name, codec, item))
            }
            Some(ItemBatch::Local(item)) => {
                item.take().map(|item| R::read(&self.name, Ok(Returned::Value(ReturnedValue::Local(item)))))
            }
            None => None,
        }
    }

    /// Waits for items. The end of the stream, if there are no more.
    fn poll_more<R: Remote>(&mut self, cx: &mut Task<'_>) -> Poll<Result<(), Option<R>>> {
        Poll::Ready(match ready!(self.items.poll_next(cx, self.room)) {
            NextItems::Batch(batch) => {
                self.batch = Some(batch);
                Ok(())
            }
            NextItems::End => Err(None),
            NextItems::Failed(failure) => Err(Some(R::read(&self.name, Err(failure)))),
        })
    }
}

/// Arguments are never pinned.
impl<A, R> Unpin for StreamCall<A, R> {}

impl<A: Send, R: Remote> Stream for StreamCall<A, R> {
    type Item = R;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<R>> {
        loop {
            match &mut self.progress {
                StreamCallState::Calling(call, room) => {
                    let room = *room;
                    let reply = ready!(call.poll_reply(cx));
                    let name: Box<str> = call.name().into();
                    let compared = call.take_comparison();
                    if let Some(error) = ComparedCall::explicable(&reply.result)
                        && let Some(compared) = compared
                    {
                        self.progress = StreamCallState::Explaining(explained(compared, error), name);
                        continue;
                    }
                    let flowing = |items| OpenStream { name: name.clone(), compared, items, batch: None, room };
                    self.progress = match reply.result {
                        Ok(Returned::Stream(items)) => StreamCallState::Flowing(flowing(items)),
                        Ok(Returned::Value(_)) => {
                            self.progress = StreamCallState::Over;
                            return Poll::Ready(Some(R::read(&name, Err(no_stream(&name).into()))));
                        }
                        Err(failure) => {
                            self.progress = StreamCallState::Over;
                            return Poll::Ready(Some(R::read(&name, Err(failure))));
                        }
                    };
                }
                StreamCallState::Flowing(flowing) => {
                    let item = match flowing.take::<R>() {
                        Some(item) if !item.is_failure() => return Poll::Ready(Some(item)),
                        Some(failed) => Some(failed),
                        None => match ready!(flowing.poll_more::<R>(cx)) {
                            Ok(()) => continue,
                            Err(last) => last,
                        },
                    };
                    if let Some(error) = item.as_ref().and_then(R::unreadable)
                        && let Some(compared) = flowing.compared.take()
                    {
                        let name = std::mem::take(&mut flowing.name);
                        self.progress = StreamCallState::Explaining(explained(compared, error.clone()), name);
                        continue;
                    }
                    self.progress = StreamCallState::Over;
                    return Poll::Ready(item);
                }
                StreamCallState::Explaining(reply, name) => {
                    // It may have begun in a runtime and be polled outside of one.
                    let outside = Handle::try_current().is_err().then(runtime::current);
                    let _entered = outside.as_ref().map(Handle::enter);
                    let reply = ready!(reply.as_mut().poll(cx));
                    let failed = R::read(name, reply.result);
                    self.progress = StreamCallState::Over;
                    return Poll::Ready(Some(failed));
                }
                StreamCallState::Over => return Poll::Ready(None),
            }
        }
    }
}

fn explained(compared: ComparedCall, error: Error) -> BoxFuture<Reply> {
    on_a_runtime(Box::pin(async move { compared.explained(error).await.into() }))
}

impl<A, R> fmt::Debug for StreamCall<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.progress {
            StreamCallState::Calling(call, _) => f.debug_tuple("StreamCall").field(&call.name()).finish(),
            StreamCallState::Flowing(flowing) => f.debug_tuple("StreamCall").field(&flowing.name).finish(),
            StreamCallState::Explaining(_, name) => f.debug_tuple("StreamCall").field(name).finish(),
            StreamCallState::Over => f.write_str("StreamCall"),
        }
    }
}

fn no_stream(name: &str) -> Error {
    let why = format!(
        "`{name}` returned a single value, but was called for a stream; call it with its stub or `Client::call`"
    );
    Error::new(Code::FailedPrecondition, why).executed_is(Executed::Yes)
}
