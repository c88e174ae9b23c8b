//! The bodies of requests.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Version;
use http::header::EXPECT;
use http::request::Parts;
use hyper::body::Body;
use tokio::time::Instant;

use super::compression::TooManyEncodedBytes;
use crate::codec::{self, Codec};
use crate::content_coding::CodingError;
use crate::deadline::{DeadlineTimer, later};
use crate::error::{Code, Error};
use crate::limits_and_timeouts::{Limit, Limits, in_bytes};
use crate::server::connection_timeouts::ConnectionActivity;

/// The body of a request: hyper's own, or one that the layers of another server have wrapped.
pub trait RequestBody:
    Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

impl<B> RequestBody for B where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

/// The deadline for reading a body.
pub(super) struct BodyDeadline {
    pub(super) deadline: Instant,
    /// Whether the caller set it. Otherwise it is a limit of the server.
    pub(super) by_caller: bool,
}

/// Reads the whole body of a request, within the limit of size, the limit of pauses and the deadline of the call. The
/// caller must [skip](skip) the rest of a body that is rejected.
pub(super) async fn read<B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>>(
    mut body: Pin<&mut B>,
    limits: &Limits,
    until: BodyDeadline,
) -> Result<Bytes, Error> {
    let BodyDeadline { deadline, by_caller } = until;
    let too_large = || {
        let limit = in_bytes(limits.message);
        let shorter = codec::shorter(Codec::Json);
        let why = format!(
            "the request is larger than {limit} (`Limits::message` of the server); send less, or raise the limit{shorter}"
        );
        Error::refused(Code::ResourceExhausted, why).of_limit(Limit::Message)
    };
    if body.size_hint().lower() > limits.message as u64 {
        return Err(too_large());
    }
    let mut whole = Bytes::new();
    let mut more = BytesMut::new();
    let mut timer = DeadlineTimer::default();
    while !body.is_end_stream() {
        let mut pause_ends = None;
        let frame = poll_fn(|cx| {
            match body.as_mut().poll_frame(cx) {
                // HTTP/2 has frames without data. They are no progress, however many come.
                Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(|data| !data.has_remaining()) => {
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(frame) => return Poll::Ready(Ok(frame)),
                Poll::Pending => {}
            }
            let pause_ends = *pause_ends.get_or_insert_with(|| later(Instant::now(), limits.body_progress));
            timer.poll_at(cx, pause_ends.min(deadline)).map(|()| Err(pause_ends < deadline))
        });
        let data = match frame.await {
            Ok(None) => break,
            // For `Bytes` this makes no copy.
            Ok(Some(Ok(frame))) => {
                frame.into_data().map_or_else(|_| Bytes::new(), |mut data| data.copy_to_bytes(data.remaining()))
            }
            Ok(Some(Err(why))) => {
                let why = why.into();
                return Err(if why.is::<TooManyEncodedBytes>() { too_large() } else { broken(&*why) });
            }
            Err(true) => return Err(stalled(limits.body_progress)),
            Err(false) => {
                let knob = if by_caller { "" } else { ", or raise `Limits::call` of the server" };
                let why = format!("the deadline of the call passed before its body was there; allow more time{knob}");
                let error = Error::refused(Code::DeadlineExceeded, why);
                return Err(if by_caller { error } else { error.of_limit(Limit::Call) });
            }
        };
        if whole.len() + more.len() + data.len() > limits.message {
            return Err(too_large());
        }
        // Nearly every body is one piece, which needs no copy.
        if whole.is_empty() && more.is_empty() {
            whole = data;
        } else {
            more.extend_from_slice(&std::mem::take(&mut whole));
            more.extend_from_slice(&data);
        }
    }
    Ok(if more.is_empty() { whole } else { more.freeze() })
}

/// The most bytes of an unused body that are read so that its connection can continue.
const SKIPPED: u64 = 256 << 10;

/// How long the server waits for a body that it does not use.
const SKIPPED_FOR: Duration = Duration::from_millis(500);

/// Reads and ignores the rest of a request's body, if that costs little. Otherwise the connection accepts no further
/// request. Over HTTP/2 the stream ends with its answer, whatever was read of it.
pub(super) async fn skip_or_close<B: RequestBody>(head: &Parts, body: Pin<&mut B>, activity: &ConnectionActivity) {
    if head.version > Version::HTTP_11 || body.is_end_stream() {
        return;
    }
    // A client that waits for `100 Continue` may send no body, and reading would ask for it.
    let waits =
        head.headers.get(EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits || !skip(body).await {
        activity.leave_unread();
    }
}

/// Reads an unused body to its end, unless it is too long or too late. Returns whether the end was reached.
async fn skip<B: RequestBody>(mut body: Pin<&mut B>) -> bool {
    if body.size_hint().lower() > SKIPPED {
        return false;
    }
    let until = later(Instant::now(), SKIPPED_FOR);
    let (mut timer, mut skipped) = (DeadlineTimer::default(), 0);
    poll_fn(|cx| {
        loop {
            if body.is_end_stream() {
                return Poll::Ready(true);
            }
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Ok(frame))) => {
                    skipped += frame.data_ref().map_or(0, |data| data.remaining() as u64);
                    if skipped > SKIPPED {
                        return Poll::Ready(false);
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Pending => return timer.poll_at(cx, until).map(|()| false),
            }
        }
    })
    .await
}

/// The rest of a body does not come.
pub(in crate::server) fn stalled(limit: Duration) -> Error {
    let why =
        format!("no bytes of the body arrived for {limit:?} (`Limits::body_progress` of the server); send it whole");
    Error::refused(Code::DeadlineExceeded, why).of_limit(Limit::BodyProgress)
}

/// The error for a body that is incomplete or invalid.
pub(super) fn broken(why: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
    if let Some(why) = why.downcast_ref::<CodingError>() {
        return Error::refused(Code::InvalidArgument, format!("the request's body can't be decoded: {why}"));
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(why);
    let mut source = None;
    while let Some(error) = cause {
        source = source.or(error.downcast_ref::<io::Error>().map(io::Error::kind));
        cause = error.source();
    }
    match source {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
            Error::refused(Code::InvalidArgument, format!("the request's body is badly chunked: {why}"))
        }
        _ => Error::refused(Code::Cancelled, format!("the request's body broke off: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::task::Context;

    #[cfg(feature = "compression")]
    use futures_util::StreamExt as _;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use tokio::time::sleep;

    use super::*;

    /// Returns this data every second.
    struct Ticking {
        data: &'static [u8],
        tick: Pin<Box<tokio::time::Sleep>>,
    }

    impl Body for Ticking {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::ready!(self.tick.as_mut().poll(cx));
            self.tick.set(sleep(Duration::from_secs(1)));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.data)))))
        }
    }

    async fn refused(data: &'static [u8]) -> Error {
        let limits = Limits { body_progress: Duration::from_secs(10), ..Limits::default() };
        let until = BodyDeadline { deadline: Instant::now() + Duration::from_secs(60), by_caller: true };
        read(pin!(ticking(data)), &limits, until).await.unwrap_err()
    }

    fn ticking(data: &'static [u8]) -> Ticking {
        Ticking { data, tick: Box::pin(sleep(Duration::ZERO)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_used_is_read_up_to_a_size_and_a_time() {
        let begun = Instant::now();
        assert!(skip(pin!(Full::new(Bytes::from_static(b"all there")))).await);
        let most = Bytes::from(vec![0; SKIPPED as usize]);
        assert!(skip(pin!(Full::new(most.clone()))).await);
        assert!(!skip(pin!(Full::new(Bytes::from([most, Bytes::from_static(b"x")].concat())))).await);
        assert!(begun.elapsed().is_zero());
        assert!(!skip(pin!(ticking(b"x"))).await);
        assert_eq!(begun.elapsed(), SKIPPED_FOR);
        // Without a length: it ends when too many bytes have come.
        let pieces = futures_util::stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 1000]))));
        assert!(!skip(pin!(StreamBody::new(pieces))).await);
        assert_eq!(begun.elapsed(), SKIPPED_FOR);
    }

    #[cfg(feature = "compression")]
    #[tokio::test(start_paused = true)]
    async fn a_compressed_body_makes_progress_before_it_decodes_to_anything() {
        use crate::content_coding::{ContentCoding, encode_whole};
        use crate::server::http::compression::DecodedBody;

        let encoded = encode_whole(ContentCoding::Zstd, b"a text that is so short that it is one block").await.unwrap();
        let ticks = futures_util::stream::iter(encoded).then(async |byte| {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![byte])))
        });
        let body = DecodedBody::whole(Box::pin(StreamBody::new(ticks)), ContentCoding::Zstd, 1000);
        let (begun, limits) = (Instant::now(), Limits { body_progress: Duration::from_secs(10), ..Limits::default() });
        let until = BodyDeadline { deadline: begun + Duration::from_secs(600), by_caller: true };
        let whole = read(pin!(body), &limits, until).await.unwrap();
        assert_eq!(&whole[..], b"a text that is so short that it is one block");
        assert!(begun.elapsed() > 4 * limits.body_progress, "it took {:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_data_do_not_count_as_progress() {
        let begun = Instant::now();
        assert_eq!(refused(b"").await.limit(), Some("body_progress"));
        assert_eq!(begun.elapsed().as_secs(), 10);
        // A body that makes progress has time until its deadline.
        assert_eq!(refused(b"x").await.limit(), None);
        assert_eq!(begun.elapsed().as_secs(), 70);
    }
}
