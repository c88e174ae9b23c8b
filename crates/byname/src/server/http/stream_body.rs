//! Streams over HTTP: the lines of an answer, and the lines of a request.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use tokio::time::Instant;

use super::compression::DecodedBody;
use super::request_body::{self, RequestBody};
use crate::codec::{self, Codec};
use crate::content_coding::{BodyEncoder, ContentCoding, PIECE};
use crate::deadline::{DeadlineTimer, later};
use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::{Limit, in_bytes};
use crate::outcome::Failure;
use crate::outcome::items::{EncodedItems, ItemBatch, ItemSource, Items, NextItems, ROOM};
use crate::server::connection_timeouts::ConnectionActivity;
use crate::wire::octet_stream;
use crate::wire::stream_lines::{LineSplitter, LineTooLong, StreamFormat};

/// After this time without an item, a stream sends an empty line.
const BEAT: Duration = Duration::from_secs(15);

/// The same interval for a reader that closed its half of the connection. If the reader is gone, it answers the first line
/// with a reset, and the second line fails.
const PROBE: Duration = Duration::from_secs(1);

/// The longest item into which the raw bytes of a request are cut.
const LONGEST_PART: usize = 64 << 10;

/// After this number of batches the task yields. Then these are written, and other calls of the thread continue.
const AT_ONCE: u8 = 2;

/// How the items of a stream are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodyFormat {
    /// Each item with the text that separates it from other items and from the end.
    Text(StreamFormat),
    /// Raw bytes, without separators. An error breaks off the body.
    Octets,
}

impl BodyFormat {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text(format) => format.content_type(),
            Self::Octets => octet_stream::OCTETS,
        }
    }

    fn put_item(self, codec: Codec, item: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match (self, codec) {
            (Self::Octets, _) => octet_stream::put_item(codec, item, out)?,
            (Self::Text(format), Codec::Json) => format.item(item, out),
            (Self::Text(format), Codec::MessagePack) => format.item(&codec::to_json(item)?, out),
        }
        Ok(())
    }

    /// Appends the error that ends a stream.
    fn put_failure(self, failure: Failure, out: &mut Vec<u8>) -> Result<(), String> {
        match (self, failure) {
            (Self::Text(format), failure) => {
                format.failure(failure, out);
                Ok(())
            }
            (Self::Octets, Failure::Method { error, .. } | Failure::Rpc(error)) => Err(error.to_string()),
        }
    }
}

/// The items of a stream in the form in which they are sent.
#[derive(Debug)]
pub(super) struct StreamBody {
    items: Option<Items>,
    format: BodyFormat,
    count: u64,
    timer: DeadlineTimer,
    last: Instant,
    reader: StreamReader,
    compressor: Option<Box<StreamCompressor>>,
    /// How many batches were handed over since the task yielded or waited.
    batches: u8,
}

/// Compresses what a stream sends, in pieces.
#[derive(Debug)]
struct StreamCompressor {
    encoder: BodyEncoder,
    /// Not compressed yet.
    rest: Bytes,
    /// Compressed, and not sent before `rest` is compressed too.
    out: Vec<u8>,
}

/// The caller that reads a stream.
#[derive(Debug)]
pub(super) struct StreamReader {
    pub(super) activity: Arc<ConnectionActivity>,
    /// The name of the function, if it is dropped when its caller may be gone.
    pub(super) readonly: Option<Arc<str>>,
}

impl StreamBody {
    pub(super) fn new(items: Items, format: BodyFormat, reader: StreamReader) -> Self {
        let (timer, last) = (DeadlineTimer::default(), Instant::now());
        Self { items: Some(items), format, count: 0, timer, last, reader, compressor: None, batches: 0 }
    }

    /// Compresses the stream. Nothing of it was sent yet.
    pub(super) fn compress(&mut self, encoder: BodyEncoder) {
        self.compressor = Some(Box::new(StreamCompressor { encoder, rest: Bytes::new(), out: Vec::new() }));
    }

    /// The next bytes to send; `None` at the end. After an error the body is broken off.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(compressor) = &mut self.compressor
            && !compressor.rest.is_empty()
        {
            return compressor.poll(self.items.is_none(), cx).map(Some);
        }
        if self.batches >= AT_ONCE {
            self.batches = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.batches += 1;
        let mut out = Vec::new();
        while out.is_empty() && self.items.is_some() {
            if let Err(why) = ready!(self.poll_into(cx, &mut out)) {
                if let Some(mut items) = self.items.take() {
                    items.give_up(&Error::new(Code::Internal, why.clone()).executed_is(Executed::Yes).into());
                }
                return Poll::Ready(Some(Err(io::Error::other(why))));
            }
        }
        self.last = Instant::now();
        match &mut self.compressor {
            Some(compressor) if !out.is_empty() => {
                compressor.rest = out.into();
                compressor.poll(self.items.is_none(), cx).map(Some)
            }
            _ => Poll::Ready((!out.is_empty()).then(|| Ok(out.into()))),
        }
    }

    fn poll_into(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<(), String>> {
        let Some(items) = &mut self.items else {
            return Poll::Ready(Ok(()));
        };
        match items.poll_next(cx, ROOM) {
            Poll::Ready(NextItems::Batch(ItemBatch::Encoded(batch))) => {
                // What an item costs beside its bytes is more than what stands around it in a line or in an event.
                out.reserve(batch.cost());
                for item in batch.rest() {
                    self.format.put_item(batch.codec, item, out)?;
                    self.count += 1;
                }
            }
            // Items that are sent over HTTP are always encoded.
            Poll::Ready(NextItems::Batch(ItemBatch::Local(_)) | NextItems::End) => {
                if let BodyFormat::Text(format) = self.format {
                    format.end(self.count, out);
                }
                self.items = None;
            }
            Poll::Ready(NextItems::Failed(failure)) => {
                self.items = None;
                self.format.put_failure(failure, out)?;
            }
            Poll::Pending => {
                self.batches = 0;
                let may_be_gone = self.reader.activity.is_half_closed();
                if may_be_gone && let Some(name) = &self.reader.readonly {
                    let failure = half_closed(name).into();
                    items.give_up(&failure);
                    self.items = None;
                    return Poll::Ready(self.format.put_failure(failure, out));
                }
                let BodyFormat::Text(format) = self.format else {
                    // A stream of raw bytes has no room for anything else.
                    return Poll::Pending;
                };
                ready!(self.timer.poll_at(cx, later(self.last, if may_be_gone { PROBE } else { BEAT })));
                out.extend_from_slice(format.beat());
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.items.is_none() && self.compressor.as_ref().is_none_or(|compressor| compressor.rest.is_empty())
    }
}

impl StreamCompressor {
    /// Compresses a piece of `rest`. Other tasks of the thread run before the next piece. At the end of `rest` all of it is
    /// sent. `is_last` says that nothing follows.
    fn poll(&mut self, is_last: bool, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let Self { encoder, rest, out } = self;
        let piece = rest.split_to(PIECE.min(rest.len()));
        encoder.put(&piece, out).map_err(io::Error::other)?;
        if !rest.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // What is sent can be decoded at once: the next item may come much later.
        let end = if is_last { encoder.finish(out) } else { encoder.flush(out) };
        end.map_err(io::Error::other)?;
        Poll::Ready(Ok(mem::take(out).into()))
    }
}

/// A `readonly` function does not run to its end for a caller that is probably gone.
pub(super) fn half_closed(name: &str) -> Error {
    let why = format!(
        "the caller closed its half of the connection while `{name}` ran, which is `readonly` and was dropped; \
         keep the connection open until the answer arrives"
    );
    Error::new(Code::Cancelled, why).executed_is(Executed::Unknown)
}

/// A request's body that is read in pieces. If it is not read to its end, its connection accepts no further request.
pub(super) struct BodyReader<B: RequestBody> {
    /// `None` once it was given back.
    body: Option<DecodedBody<Pin<Box<B>>>>,
    has_begun: bool,
    has_ended: bool,
    activity: Arc<ConnectionActivity>,
    /// Where a body goes of which nothing was read.
    unread: Option<UnreadRequestBody<B>>,
}

/// The body of a call whose stream was not read.
pub(super) type UnreadRequestBody<B> = Arc<Mutex<Option<DecodedBody<Pin<Box<B>>>>>>;

impl<B: RequestBody> BodyReader<B> {
    /// `unread` gets the body if nothing of it is read.
    pub(super) fn new(
        body: B,
        coding: Option<ContentCoding>,
        activity: Arc<ConnectionActivity>,
        unread: Option<UnreadRequestBody<B>>,
    ) -> Self {
        let body = Some(DecodedBody::of_stream(Box::pin(body), coding));
        Self { body, has_begun: false, has_ended: false, activity, unread }
    }

    /// More of the body; `None` at its end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        self.has_begun = true;
        let Some(body) = &mut self.body else {
            unreachable!("it is given back when its reader is dropped");
        };
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                None => {
                    self.has_ended = true;
                    return Poll::Ready(Ok(None));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                Some(Err(why)) => {
                    self.has_ended = true;
                    self.activity.leave_unread();
                    return Poll::Ready(Err(request_body::broken(&*why)));
                }
            }
        }
    }
}

impl<B: RequestBody> Drop for BodyReader<B> {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|_| !self.has_ended) else {
            return;
        };
        if !self.has_begun
            && let Some(unread) = &self.unread
        {
            *unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
            return;
        }
        drop_rest(body.encoded().as_mut(), &self.activity);
    }
}

/// Does without the rest of a body. The bytes that have already come may be all of it.
pub(super) fn drop_rest<B: RequestBody>(mut body: Pin<&mut B>, activity: &ConnectionActivity) {
    if body.is_end_stream() {
        return;
    }
    let rest = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()));
    if !matches!(rest, Poll::Ready(None)) && !body.is_end_stream() {
        activity.leave_unread();
    }
}

/// The lines of a request's body. Each is an item.
pub(super) struct RequestLines<B: RequestBody> {
    body: BodyReader<B>,
    lines: LineSplitter,
    longest: usize,
}

impl<B: RequestBody> RequestLines<B> {
    pub(super) fn new(body: BodyReader<B>, longest: usize) -> Self {
        Self { body, lines: LineSplitter::new(longest), longest }
    }

    /// The next line.
    pub(super) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            match self.lines.next() {
                Ok(Some(line)) => return Poll::Ready(Ok(Some(line))),
                Ok(None) if self.body.has_ended => return Poll::Ready(Ok(self.lines.last())),
                Ok(None) => {}
                Err(LineTooLong) => {
                    let why = format!(
                        "a line of the request has more than {} (`Limits::message` of the server); send shorter \
                         ones, or raise the limit{}",
                        in_bytes(self.longest),
                        codec::shorter(Codec::Json)
                    );
                    return Poll::Ready(Err(Error::new(Code::ResourceExhausted, why).of_limit(Limit::Message)));
                }
            }
            if let Some(data) = ready!(self.body.poll_data(cx))? {
                self.lines.put(&data);
            }
        }
    }
}

impl<B: RequestBody> ItemSource for RequestLines<B> {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<NextItems> {
        if let Some(items) = self.lines.items() {
            return Poll::Ready(NextItems::Batch(ItemBatch::Encoded(items)));
        }
        Poll::Ready(match ready!(self.poll_line(cx)) {
            Ok(Some(line)) => NextItems::Batch(ItemBatch::Encoded(EncodedItems::one(Codec::Json, line))),
            Ok(None) => NextItems::End,
            Err(error) => NextItems::Failed(error.into()),
        })
    }
}

/// The bytes of a request's body, in items as they arrive.
pub(super) struct RequestOctets<B: RequestBody> {
    body: BodyReader<B>,
    /// Bytes that have come and are not an item yet.
    rest: Bytes,
    longest: usize,
}

impl<B: RequestBody> RequestOctets<B> {
    pub(super) fn new(body: BodyReader<B>, longest: usize) -> Self {
        Self { body, rest: Bytes::new(), longest: longest.clamp(1, LONGEST_PART) }
    }
}

impl<B: RequestBody> ItemSource for RequestOctets<B> {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<NextItems> {
        while self.rest.is_empty() {
            match ready!(self.body.poll_data(cx)) {
                Ok(Some(data)) => self.rest = data,
                Ok(None) => return Poll::Ready(NextItems::End),
                Err(error) => return Poll::Ready(NextItems::Failed(error.into())),
            }
        }
        let length = self.rest.len().min(self.longest);
        let item = octet_stream::item(self.rest.split_to(length));
        Poll::Ready(NextItems::Batch(ItemBatch::Encoded(EncodedItems::one(Codec::MessagePack, item))))
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

    impl ItemSource for Slow {
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<NextItems> {
            if self.left == 0 {
                return Poll::Ready(NextItems::End);
            }
            ready!(self.next.as_mut().poll(cx));
            self.left -= 1;
            self.next.set(tokio::time::sleep(Duration::from_secs(60)));
            Poll::Ready(NextItems::Batch(ItemBatch::Encoded(EncodedItems::one(Codec::Json, Bytes::from_static(b"1")))))
        }
    }

    /// An item at each time.
    struct Endless;

    impl ItemSource for Endless {
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>, _: usize) -> Poll<NextItems> {
            Poll::Ready(NextItems::Batch(ItemBatch::Encoded(EncodedItems::one(Codec::Json, Bytes::from_static(b"1")))))
        }
    }

    #[tokio::test]
    async fn a_stream_that_never_waits_lets_other_tasks_run() {
        let mut body = StreamBody::new(Items::new(Endless), BodyFormat::Text(StreamFormat::Lines), reader());
        let mut polled = || body.poll_data(&mut Context::from_waker(Waker::noop())).is_ready();
        for _ in 0..3 {
            assert!((0..AT_ONCE).all(|_| polled()));
            assert!(!polled(), "it yields");
        }
    }

    fn reader() -> StreamReader {
        StreamReader { activity: Arc::new(ConnectionActivity::new(false)), readonly: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_reader_is_probed_every_second() {
        let reader = reader();
        let activity = Arc::clone(&reader.activity);
        let items = Items::new(Slow { left: 1, next: Box::pin(tokio::time::sleep(Duration::from_secs(60))) });
        let mut body = StreamBody::new(items, BodyFormat::Text(StreamFormat::Lines), reader);
        let mut came = async || poll_fn(|cx| body.poll_data(cx)).await.unwrap().unwrap();
        let begun = Instant::now();
        assert_eq!((came().await, begun.elapsed()), (Bytes::from_static(b"\n"), BEAT));
        activity.close_half();
        for nth in 1..=3 {
            assert_eq!((came().await, begun.elapsed()), (Bytes::from_static(b"\n"), BEAT + nth * PROBE));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_sends_keepalive_lines() {
        for (form, expected) in [
            (StreamFormat::Lines, "\n\n\n{\"item\":1}\n\n\n\n{\"item\":1}\n{\"end\":2}\n"),
            (StreamFormat::Events, ":\n\n:\n\n:\n\ndata: 1\n\n:\n\n:\n\n:\n\ndata: 1\n\nevent: end\ndata: 2\n\n"),
        ] {
            let items = Items::new(Slow { left: 2, next: Box::pin(tokio::time::sleep(Duration::from_secs(59))) });
            let mut body = StreamBody::new(items, BodyFormat::Text(form), reader());
            let mut all = Vec::new();
            while let Some(piece) = poll_fn(|cx| body.poll_data(cx)).await {
                all.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(String::from_utf8(all).unwrap(), expected);
        }
    }

    #[cfg(feature = "compression")]
    #[tokio::test]
    async fn other_tasks_run_while_a_large_item_is_compressed() {
        use crate::content_coding::decode_whole;

        /// One item, and an end.
        struct Single(Option<Bytes>);

        impl ItemSource for Single {
            fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: usize) -> Poll<NextItems> {
                Poll::Ready(match self.0.take() {
                    Some(item) => NextItems::Batch(ItemBatch::Encoded(EncodedItems::one(Codec::Json, item))),
                    None => NextItems::End,
                })
            }
        }

        let item = format!("\"{}\"", "text and ".repeat(20 * PIECE / 9));
        for coding in ContentCoding::ALL.iter().copied() {
            let items = Items::new(Single(Some(item.clone().into())));
            let mut body = StreamBody::new(items, BodyFormat::Text(StreamFormat::Lines), reader());
            body.compress(BodyEncoder::new(coding, None).unwrap());
            let (mut sent, mut pauses) = (Vec::new(), 0);
            loop {
                match body.poll_data(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(None) => break,
                    Poll::Ready(Some(data)) => sent.extend_from_slice(&data.unwrap()),
                    Poll::Pending => pauses += 1,
                }
            }
            assert!(body.has_ended());
            assert!(pauses >= 19, "{coding:?}: {pauses}");
            let lines = decode_whole(coding, &sent, 2 * item.len()).await.unwrap().unwrap();
            assert_eq!(String::from_utf8(lines).unwrap(), format!("{{\"item\":{item}}}\n{{\"end\":1}}\n"));
        }
    }
}
