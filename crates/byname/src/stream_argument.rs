//! A stream as an argument: [`Streaming`].

use std::any::{Any, TypeId};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};

use futures_core::Stream;
use serde_core::de::Deserializer;

use crate::arguments::{Argument, FromArguments, MissingArgument, ToArguments};
use crate::codec::{self, Codec};
use crate::error::{Code, Error, Executed};
use crate::method::{Method, Param};
use crate::outcome::Failure;
use crate::outcome::item_sink::{ItemSink, UnfitItem};
use crate::outcome::items::{CallStream, ItemBatch, ItemSource, Items, NextItems, ROOM};

/// A stream that a function takes as its last argument. It gives the items that the caller sends while the function runs.
///
/// Each item is an `Ok`. An `Err` is the last one: the caller has gone away, or an item can't be read. So a truncated stream
/// never looks complete. A caller makes a `Streaming` from any stream of items, or from a collection by `from` or `collect`.
///
/// ```
/// use byname::{rpc, Client, Error, Server, Streaming};
///
/// /// Adds up what comes.
/// #[rpc]
/// async fn sum(mut numbers: Streaming<i64>) -> Result<i64, Error> {
///     let mut sum = 0;
///     while let Some(number) = numbers.next().await {
///         sum += number?;
///     }
///     Ok(sum)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let data = Client::local(&Server::new().method::<sum>())?;
/// assert_eq!(sum(Streaming::from(vec![1, 2, 3])).await?, 6); // here
/// assert_eq!(sum::on(&data, (1..=3).collect()).await?, 6); // there
/// # Ok(()) }
/// ```
pub struct Streaming<T>(Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>);

impl<T: Send + 'static> Streaming<T> {
    /// The items of `stream`.
    pub fn new(stream: impl Stream<Item = T> + Send + 'static) -> Self {
        Self(Box::pin(InfallibleItems(Box::pin(stream))))
    }

    /// The items of a stream that may fail. Its first `Err` ends it. A function in another process is told that the stream
    /// failed, and not why.
    pub fn fallible(stream: impl Stream<Item = Result<T, Error>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// The next item; `None` at the end. It is cancel-safe: dropping the future loses no item.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl<T: Send + 'static> From<Vec<T>> for Streaming<T> {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Send + 'static> FromIterator<T> for Streaming<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items: Vec<T> = items.into_iter().collect();
        Self(Box::pin(ReadyItems(items.into_iter())))
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streaming")
    }
}

/// Items that exist already.
struct ReadyItems<T>(std::vec::IntoIter<T>);

impl<T> Unpin for ReadyItems<T> {}

impl<T> Stream for ReadyItems<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

/// A stream that can't fail.
struct InfallibleItems<S>(Pin<Box<S>>);

impl<S: Stream> Stream for InfallibleItems<S> {
    type Item = Result<S::Item, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx).map(|item| item.map(Ok))
    }
}

impl<T: Argument> Streaming<T> {
    /// The stream as the function reads it.
    pub(crate) fn received(items: Items, name: Arc<str>, nesting: usize) -> Self {
        Self(Box::pin(DecodingStream {
            items: Some(items),
            batch: None,
            count: 0,
            name,
            nesting,
            item: std::marker::PhantomData,
        }))
    }

    /// The stream as the caller sends it.
    pub(crate) fn upload(self) -> CallStream {
        let encode = |typed: Box<dyn Any + Send>, codec: Option<Codec>, largest: usize| {
            let stream = typed.downcast::<Self>().map(|stream| *stream).unwrap_or_else(|_| Self::from(Vec::new()));
            Items::new(EncodingStream { stream: Some(stream), sink: ItemSink::new(codec, largest), failure: None })
        };
        CallStream::new(Box::new(self), encode)
    }
}

/// Encodes the items of a caller's stream while they are made.
struct EncodingStream<T> {
    stream: Option<Streaming<T>>,
    sink: ItemSink,
    /// Why the stream failed. It is reported after the items before the failure.
    failure: Option<Error>,
}

impl<T: Argument> ItemSource for EncodingStream<T> {
    fn encode_in(mut self: Pin<&mut Self>, codec: Codec) {
        self.sink.encode_in(codec);
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>, room: usize) -> Poll<NextItems> {
        let Self { stream, sink, failure } = &mut *self;
        sink.set_room(room);
        while let Some(items) = stream {
            match items.0.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => match sink.push(item) {
                    Ok(false) => {}
                    Ok(true) => break,
                    Err(unfit) => {
                        *failure = Some(match unfit {
                            UnfitItem::TooLarge(error) => error,
                            UnfitItem::Unencodable(why) => Error::new(
                                Code::InvalidArgument,
                                format!("an item of the stream can't be encoded: {why}"),
                            ),
                        });
                        *stream = None;
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    *failure = Some(error);
                    *stream = None;
                }
                Poll::Ready(None) => *stream = None,
                Poll::Pending if sink.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(match (sink.take(), failure) {
            (Some(batch), _) => NextItems::Batch(batch),
            (None, Some(error)) => NextItems::Failed(error.clone().into()),
            (None, None) => NextItems::End,
        })
    }
}

/// A tuple of arguments and the stream argument behind them.
#[derive(Debug)]
pub struct ArgumentsWithStream<A, T>(pub A, pub Option<Streaming<T>>);

impl<A: FromArguments, T: Argument> FromArguments for ArgumentsWithStream<A, T> {
    type Slots = A::Slots;

    fn slots() -> Self::Slots {
        A::slots()
    }

    fn fill<'de, D: Deserializer<'de>>(slots: &mut Self::Slots, index: usize, value: D) -> Result<bool, D::Error> {
        A::fill(slots, index, value)
    }

    fn finish(slots: Self::Slots, params: &[Param]) -> Result<Self, MissingArgument> {
        Ok(Self(A::finish(slots, params)?, None))
    }

    fn are_bytes() -> bool {
        TypeId::of::<T>() == TypeId::of::<codec::Bytes>()
    }

    fn take_items(&mut self, items: Items, method: &Method, nesting: usize) -> Result<(), Items> {
        let name = method.takes.as_ref().map_or("", |stream| &*stream.name);
        self.1 = Some(Streaming::received(items, name.into(), nesting));
        Ok(())
    }

    fn lacks_items(&self) -> bool {
        self.1.is_none()
    }
}

impl<A: ToArguments, T: Argument> ToArguments for ArgumentsWithStream<A, T> {
    fn to_keyword(&self, params: &[Param], codec: Codec, out: &mut Vec<u8>) -> Result<(), Error> {
        self.0.to_keyword(params, codec, out)
    }

    fn take_stream(&mut self) -> Option<CallStream> {
        self.1.take().map(Streaming::upload)
    }
}

/// Decodes the items of the caller while the function reads them.
struct DecodingStream<T> {
    items: Option<Items>,
    batch: Option<ItemBatch>,
    count: u64,
    /// The name of the argument, for error messages.
    name: Arc<str>,
    nesting: usize,
    item: std::marker::PhantomData<fn() -> T>,
}

impl<T: Argument> DecodingStream<T> {
    fn read(&mut self) -> Option<Result<T, Error>> {
        let decoded = match self.batch.as_mut()? {
            ItemBatch::Local(item) => {
                item.take()?.downcast().map(|item| *item).map_err(|_| "it is of another type".to_owned())
            }
            ItemBatch::Encoded(batch) => {
                let (codec, nesting) = (batch.codec, self.nesting);
                let item = batch.take()?;
                if let Some(items) = &mut self.items {
                    items.goes_on();
                }
                if codec::deeper_than(codec, nesting, item) {
                    Err(format!("it is nested deeper than {nesting} (`Limits::nesting` of the server)"))
                } else {
                    codec::decode(codec, item)
                }
            }
        };
        self.count += 1;
        Some(decoded.map_err(|why| {
            let why = format!("item {} of the stream `{}` can't be read: {why}", self.count, self.name);
            Error::new(Code::InvalidArgument, why).executed_is(Executed::Yes)
        }))
    }
}

impl<T: Argument> Stream for DecodingStream<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(item) = self.read() {
                if item.is_err() {
                    (self.items, self.batch) = (None, None);
                }
                return Poll::Ready(Some(item));
            }
            // What brings the items can use its memory again.
            self.batch = None;
            let Some(items) = &mut self.items else {
                return Poll::Ready(None);
            };
            match ready!(items.poll_next(cx, ROOM)) {
                NextItems::Batch(batch) => self.batch = Some(batch),
                NextItems::End => self.items = None,
                NextItems::Failed(failure) => {
                    self.items = None;
                    let (Failure::Rpc(error) | Failure::Method { error, .. }) = failure;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
