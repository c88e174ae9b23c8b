//! The body of a request, decoded as it arrives: [`DecodedBody`].

use std::error::Error;
use std::fmt;
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use hyper::body::{Body, Frame};

use crate::content_coding::{BodyDecoder, ContentCoding, PIECE, UndecodableBody};

/// After this many pieces without a pause, other tasks of the thread get a turn.
const PIECES_IN_A_TURN: u32 = 8;

/// A body that is decoded, or that has no coding. Never more than one piece is decoded ahead of its reader.
pub(in crate::server::http) struct DecodedBody<B> {
    encoded: B,
    decoding: Option<Box<Decoding>>,
}

struct Decoding {
    decoder: BodyDecoder,
    /// Not decoded yet.
    input: Bytes,
    /// A piece has filled its room, so the next one may be there without further input.
    may_have_more: bool,
    /// Reused for each piece.
    room: Vec<u8>,
    /// How many encoded bytes may still come.
    left: u64,
    pieces: u32,
}

/// More encoded bytes have come than a body within the limit has.
#[derive(Debug)]
pub(in crate::server::http) struct TooManyEncodedBytes;

impl<B: Body + Unpin> DecodedBody<B> {
    /// A body that may decode to at most `limit` bytes, which its reader counts. Coding makes no body much longer, so the
    /// encoded bytes have a limit too: a sender can't keep the decoder at work with data that decodes to nothing.
    pub(in crate::server::http) fn whole(encoded: B, coding: ContentCoding, limit: usize) -> Self {
        let left = (limit as u64).saturating_mul(2).saturating_add(1 << 10);
        Self { encoded, decoding: Some(Box::new(Decoding::new(coding, left))) }
    }

    /// The body of a stream, which has no limit as a whole.
    pub(in crate::server::http) fn of_stream(encoded: B, coding: Option<ContentCoding>) -> Self {
        Self { encoded, decoding: coding.map(|coding| Box::new(Decoding::new(coding, u64::MAX))) }
    }

    /// The body as it comes.
    pub(in crate::server::http) fn encoded(&mut self) -> &mut B {
        &mut self.encoded
    }
}

impl Decoding {
    fn new(coding: ContentCoding, left: u64) -> Self {
        Self {
            decoder: BodyDecoder::new(coding),
            input: Bytes::new(),
            may_have_more: false,
            room: Vec::with_capacity(PIECE),
            left,
            pieces: 0,
        }
    }

    fn take_in(&mut self, data: Bytes) -> Result<(), TooManyEncodedBytes> {
        self.left = self.left.checked_sub(data.len() as u64).ok_or(TooManyEncodedBytes)?;
        self.input = data;
        Ok(())
    }

    /// The next piece of what has come, if there is one.
    fn next(&mut self) -> Result<Option<Bytes>, UndecodableBody> {
        while !self.input.is_empty() || take(&mut self.may_have_more) {
            let mut input = &self.input[..];
            self.room.clear();
            self.decoder.decode(&mut input, &mut self.room)?;
            let used = self.input.len() - input.len();
            self.input.advance(used);
            self.may_have_more = self.room.len() == self.room.capacity();
            if !self.room.is_empty() {
                return Ok(Some(Bytes::copy_from_slice(&self.room)));
            }
        }
        Ok(None)
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
            decoding.pieces += 1;
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
        decoding.pieces += 1;
        Poll::Ready(Some(Ok(match decoding.next()? {
            Some(piece) => Frame::data(piece),
            // Bytes have come, which is progress, although nothing can be decoded yet.
            None => Frame::trailers(HeaderMap::new()),
        })))
    }
}

impl fmt::Display for TooManyEncodedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more bytes came than a body within the limit has")
    }
}

impl Error for TooManyEncodedBytes {}
