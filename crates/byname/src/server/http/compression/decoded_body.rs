//! The body of a request, decoded as it arrives: [`DecodedBody`].

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use crate::content_coding::{CodingError, ContentCoding, PieceDecoder};

/// After this many pieces without a pause, other tasks of the thread get a turn.
const PIECES_IN_A_TURN: u32 = 8;

/// A body that is decoded, or that has no coding.
pub(in crate::server::http) struct DecodedBody<B> {
    encoded: B,
    decoding: Option<Box<Decoding>>,
}

struct Decoding {
    decoder: PieceDecoder,
    /// How many encoded bytes may still come.
    left: u64,
    /// Since the last pause.
    pieces: u32,
}

/// More encoded bytes have come than a body within the limit has.
#[derive(Debug)]
pub(in crate::server::http) struct TooManyEncodedBytes;

impl<B: Body + Unpin> DecodedBody<B> {
    /// A body that may decode to at most `limit` bytes, which its reader counts.
    pub(in crate::server::http) fn whole(encoded: B, coding: ContentCoding, limit: usize) -> Self {
        let mut body = Self::of_stream(encoded, Some(coding));
        body.limit_encoded(limit);
        body
    }

    /// The body of a stream, which has no limit as a whole.
    pub(in crate::server::http) fn of_stream(encoded: B, coding: Option<ContentCoding>) -> Self {
        Self { encoded, decoding: coding.map(|coding| Box::new(Decoding::new(coding))) }
    }

    /// Limits the encoded bytes that may still come, for a body that may decode to at most `limit` bytes. Coding makes no
    /// body much longer. So a sender can't keep the decoder at work with data that decodes to nothing.
    pub(in crate::server::http) fn limit_encoded(&mut self, limit: usize) {
        if let Some(decoding) = &mut self.decoding {
            decoding.left = (limit as u64).saturating_mul(2).saturating_add(1 << 10);
        }
    }

    /// The body as it comes.
    pub(in crate::server::http) fn encoded(&mut self) -> &mut B {
        &mut self.encoded
    }
}

impl Decoding {
    fn new(coding: ContentCoding) -> Self {
        Self { decoder: PieceDecoder::new(coding), left: u64::MAX, pieces: 0 }
    }

    fn take_in(&mut self, data: Bytes) -> Result<(), TooManyEncodedBytes> {
        self.left = self.left.checked_sub(data.len() as u64).ok_or(TooManyEncodedBytes)?;
        self.decoder.take_in(data);
        Ok(())
    }

    /// The next piece of what has come, if there is one.
    fn next(&mut self) -> Result<Option<Bytes>, CodingError> {
        let piece = self.decoder.next()?.map(Bytes::copy_from_slice);
        self.pieces += u32::from(piece.is_some());
        Ok(piece)
    }
}

impl<B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + Unpin> Body for DecodedBody<B> {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { encoded, decoding } = &mut *self;
        let plain = |frame: Frame<B::Data>| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        let Some(decoding) = decoding else {
            let frame = ready!(Pin::new(encoded).poll_frame(cx));
            return Poll::Ready(frame.map(|frame| frame.map(plain).map_err(Into::into)));
        };
        if decoding.pieces == PIECES_IN_A_TURN {
            decoding.pieces = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = decoding.next()? {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Poll::Ready(frame) = Pin::new(encoded).poll_frame(cx) else {
            decoding.pieces = 0;
            return Poll::Pending;
        };
        let Some(frame) = frame else {
            decoding.decoder.end()?;
            return Poll::Ready(None);
        };
        let frame = plain(frame.map_err(Into::into)?);
        let data = match frame.into_data() {
            Ok(data) if !data.is_empty() => data,
            Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Err(frame) => return Poll::Ready(Some(Ok(frame))),
        };
        decoding.take_in(data)?;
        Poll::Ready(Some(Ok(match decoding.next()? {
            Some(piece) => Frame::data(piece),
            // Bytes have come, which is progress, although nothing can be decoded yet.
            None => Frame::trailers(HeaderMap::new()),
        })))
    }

    /// The length of a decoded body is not known before its end.
    fn size_hint(&self) -> SizeHint {
        if self.decoding.is_some() { SizeHint::default() } else { self.encoded.size_hint() }
    }
}

impl fmt::Display for TooManyEncodedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more bytes came than a body within the limit has")
    }
}

impl Error for TooManyEncodedBytes {}

#[cfg(feature = "compression")]
#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::task::Waker;

    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;
    use crate::content_coding::{PIECE, encode_whole};

    /// How a body that has come whole is read: the length of each piece, and `None` for a pause.
    fn pieces(coding: ContentCoding, length: usize) -> Vec<Option<usize>> {
        let encoded = pollster::block_on(encode_whole(coding, &vec![b' '; length])).unwrap();
        let mut body = pin!(DecodedBody::whole(Full::new(Bytes::from(encoded)), coding, length));
        let mut pieces = Vec::new();
        loop {
            match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(None) => return pieces,
                Poll::Ready(Some(frame)) => pieces.push(Some(frame.unwrap().into_data().unwrap().len())),
                Poll::Pending => pieces.push(None),
            }
        }
    }

    #[test]
    fn other_tasks_run_while_a_long_body_is_decoded() {
        for coding in ContentCoding::ALL.iter().copied() {
            let pieces = pieces(coding, 20 * PIECE);
            assert!(pieces.iter().flatten().all(|length| *length <= PIECE), "{pieces:?}");
            assert_eq!(pieces.iter().flatten().sum::<usize>(), 20 * PIECE);
            assert!(pieces.split(Option::is_none).all(|turn| turn.len() <= PIECES_IN_A_TURN as usize), "{pieces:?}");
        }
    }

    #[test]
    fn encoded_bytes_are_counted_too() {
        let frames = pollster::block_on(encode_whole(ContentCoding::Zstd, b"")).unwrap().repeat(1000);
        let read = |limit| {
            let body = Full::new(Bytes::from(frames.clone()));
            pollster::block_on(DecodedBody::whole(body, ContentCoding::Zstd, limit).collect())
        };
        assert!(read(frames.len()).unwrap().to_bytes().is_empty());
        assert!(read(1000).unwrap_err().is::<TooManyEncodedBytes>());
    }

    #[test]
    fn bytes_that_decode_to_nothing_yet_are_progress() {
        let encoded = pollster::block_on(encode_whole(ContentCoding::Gzip, b"[1,2]")).unwrap();
        let bytes = encoded.into_iter().map(|byte| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![byte]))));
        let body = StreamBody::new(futures_util::stream::iter(bytes));
        let mut body = DecodedBody::whole(body, ContentCoding::Gzip, 100);
        let first = pollster::block_on(body.frame()).unwrap().unwrap();
        assert!(first.into_data().is_err(), "a frame without data");
        let rest = pollster::block_on(body.collect()).unwrap();
        assert_eq!(&rest.to_bytes()[..], b"[1,2]");
    }
}
