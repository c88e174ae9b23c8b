//! The content codings of HTTP bodies (RFC 9110, section 8.4): gzip and zstd. No sockets, no clock: bytes in, bytes
//! out.
//!
//! Without the feature `compression` there is no coding, and the types have no values.

mod accepted;
#[cfg(feature = "compression")]
mod gzip;
#[cfg(all(test, feature = "compression"))]
mod tests;
#[cfg(feature = "compression")]
mod zstd;

pub(crate) use self::accepted::{AcceptedCodings, accepts_gzip};

use std::fmt;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use tokio::task::yield_now;

#[cfg(feature = "compression")]
use self::gzip::{GzipDecoder, GzipEncoder};
#[cfg(feature = "compression")]
use self::zstd::{ZstdDecoder, ZstdEncoder};
use crate::error::{Code, Error};

/// Bodies of at most this size are sent as they are: a smaller packet would save nothing.
pub(crate) const LONGEST_PLAIN: usize = 1 << 10;

/// How many bytes are coded at once. The caller lets others run between two pieces.
pub(crate) const PIECE: usize = 32 << 10;

/// A coding that this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentCoding {
    #[cfg(feature = "compression")]
    Zstd,
    #[cfg(feature = "compression")]
    Gzip,
}

/// A coding that this build does not know, or several on one body. They are as the header says.
#[derive(Debug)]
pub(crate) struct UnknownCoding(pub(crate) HeaderValue);

/// Why a body can't be decoded, or can't be compressed.
#[derive(Debug)]
pub(crate) struct CodingError(String);

/// Compresses one body.
#[derive(Debug)]
pub(crate) enum BodyEncoder {
    #[cfg(feature = "compression")]
    Zstd(ZstdEncoder),
    #[cfg(feature = "compression")]
    Gzip(GzipEncoder),
}

/// Decodes one body.
#[derive(Debug)]
pub(crate) enum BodyDecoder {
    #[cfg(feature = "compression")]
    Zstd(ZstdDecoder),
    #[cfg(feature = "compression")]
    Gzip(GzipDecoder),
}

/// Decodes one body in pieces, as it arrives. Never more than one piece is decoded ahead of its reader.
#[derive(Debug)]
pub(crate) struct PieceDecoder {
    decoder: BodyDecoder,
    /// Not decoded yet.
    input: Bytes,
    /// The last piece has filled its room, so another one may be there without further input.
    may_have_more: bool,
    /// Reused for each piece.
    room: Vec<u8>,
}

/// Whether this build can compress. `who` is the method that asks for it.
pub(crate) fn check_available(who: &str) -> Result<(), Error> {
    if !ContentCoding::ALL.is_empty() {
        return Ok(());
    }
    let why = format!(
        "`{who}` needs the feature `compression` of byname, which is off by default: add `features = [\"compression\"]` to \
         byname in Cargo.toml"
    );
    Err(Error::refused(Code::FailedPrecondition, why))
}

impl ContentCoding {
    /// In the order of preference.
    pub(crate) const ALL: &[Self] = &[
        #[cfg(feature = "compression")]
        Self::Zstd,
        #[cfg(feature = "compression")]
        Self::Gzip,
    ];

    /// The value of `accept-encoding` that names all of them.
    pub(crate) const ALL_NAMES: HeaderValue = HeaderValue::from_static("zstd, gzip");

    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "compression")]
            Self::Zstd => "zstd",
            #[cfg(feature = "compression")]
            Self::Gzip => "gzip",
        }
    }

    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// The coding of this name. `x-gzip` is an old name of gzip.
    fn named(name: &[u8]) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
        Self::ALL.iter().copied().find(|coding| coding.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The coding that `content-encoding` names. `None` for a body that is as it is.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, UnknownCoding> {
        let mut coding = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                    continue;
                }
                match Self::named(name) {
                    Some(named) if coding.is_none() => coding = Some(named),
                    _ => return Err(UnknownCoding(value.clone())),
                }
            }
        }
        Ok(coding)
    }
}

impl BodyEncoder {
    /// `length` is that of the body, if it is known.
    pub(crate) fn new(coding: ContentCoding, length: Option<usize>) -> Result<Self, CodingError> {
        match coding {
            #[cfg(feature = "compression")]
            ContentCoding::Zstd => ZstdEncoder::new(length).map(Self::Zstd),
            #[cfg(feature = "compression")]
            ContentCoding::Gzip => Ok(Self::Gzip(GzipEncoder::new())),
        }
    }

    /// Compresses more of the body, and appends to `out` what is complete.
    pub(crate) fn put(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        match *self {
            #[cfg(feature = "compression")]
            Self::Zstd(ref mut encoder) => encoder.put(piece, out),
            #[cfg(feature = "compression")]
            Self::Gzip(ref mut encoder) => encoder.put(piece, out),
        }
    }

    /// Appends the rest of what was put, so that a decoder can give out all of it.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), CodingError> {
        match *self {
            #[cfg(feature = "compression")]
            Self::Zstd(ref mut encoder) => encoder.flush(out),
            #[cfg(feature = "compression")]
            Self::Gzip(ref mut encoder) => encoder.flush(out),
        }
    }

    /// Appends the end of the body. Nothing follows.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CodingError> {
        match *self {
            #[cfg(feature = "compression")]
            Self::Zstd(ref mut encoder) => encoder.finish(out),
            #[cfg(feature = "compression")]
            Self::Gzip(ref mut encoder) => encoder.finish(out),
        }
    }
}

impl BodyDecoder {
    pub(crate) fn new(coding: ContentCoding) -> Self {
        match coding {
            #[cfg(feature = "compression")]
            ContentCoding::Zstd => Self::Zstd(ZstdDecoder::new()),
            #[cfg(feature = "compression")]
            ContentCoding::Gzip => Self::Gzip(GzipDecoder::new()),
        }
    }

    /// Decodes from the front of `input` into the free room of `out`, which does not grow. If there is no free room
    /// left, more may come without further input.
    pub(crate) fn decode(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        match *self {
            #[cfg(feature = "compression")]
            Self::Zstd(ref mut decoder) => decoder.decode(input, out),
            #[cfg(feature = "compression")]
            Self::Gzip(ref mut decoder) => decoder.decode(input, out),
        }
    }

    /// Whether the body may end here.
    pub(crate) fn end(&self) -> Result<(), CodingError> {
        match *self {
            #[cfg(feature = "compression")]
            Self::Zstd(ref decoder) => decoder.end(),
            #[cfg(feature = "compression")]
            Self::Gzip(ref decoder) => decoder.end(),
        }
    }
}

impl PieceDecoder {
    pub(crate) fn new(coding: ContentCoding) -> Self {
        let (decoder, room) = (BodyDecoder::new(coding), Vec::with_capacity(PIECE));
        Self { decoder, input: Bytes::new(), may_have_more: false, room }
    }

    /// More of the body, when [`next`](Self::next) has returned all before it.
    pub(crate) fn take_in(&mut self, data: Bytes) {
        self.input = data;
    }

    /// The next piece of what has come, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, CodingError> {
        while !self.input.is_empty() || self.may_have_more {
            let mut input = &self.input[..];
            self.room.clear();
            self.decoder.decode(&mut input, &mut self.room)?;
            let used = self.input.len() - input.len();
            self.input.advance(used);
            self.may_have_more = self.room.len() == self.room.capacity();
            if !self.room.is_empty() {
                return Ok(Some(&self.room));
            }
        }
        Ok(None)
    }

    /// Whether the body may end here.
    pub(crate) fn end(&self) -> Result<(), CodingError> {
        self.decoder.end()
    }
}

/// Compresses a body piece by piece, and lets other tasks of the thread run in between.
pub(crate) async fn encode_whole(coding: ContentCoding, body: &[u8]) -> Result<Vec<u8>, CodingError> {
    let mut encoder = BodyEncoder::new(coding, Some(body.len()))?;
    let mut out = Vec::new();
    for (nth, piece) in body.chunks(PIECE).enumerate() {
        if nth > 0 {
            yield_now().await;
        }
        encoder.put(piece, &mut out)?;
    }
    encoder.finish(&mut out)?;
    Ok(out)
}

/// Decodes a body piece by piece, and lets other tasks of the thread run in between. `None` if it has more than `limit`
/// bytes. Then at most one piece more than that is decoded.
pub(crate) async fn decode_whole(
    coding: ContentCoding,
    mut body: &[u8],
    limit: usize,
) -> Result<Option<Vec<u8>>, CodingError> {
    let mut decoder = BodyDecoder::new(coding);
    // The free room of `out` can be much larger than a piece.
    let (mut out, mut room) = (Vec::new(), Vec::with_capacity(PIECE));
    loop {
        room.clear();
        decoder.decode(&mut body, &mut room)?;
        if out.len() + room.len() > limit {
            return Ok(None);
        }
        out.extend_from_slice(&room);
        if body.is_empty() && room.len() < room.capacity() {
            decoder.end()?;
            return Ok(Some(out));
        }
        yield_now().await;
    }
}

#[cfg(feature = "compression")]
impl CodingError {
    fn corrupt(coding: ContentCoding, why: &str) -> Self {
        Self(format!("it is not valid {}: {why}", coding.name()))
    }

    fn cut_off(coding: ContentCoding) -> Self {
        Self(format!("its {} data ends too early; send all of it", coding.name()))
    }
}

impl fmt::Display for CodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodingError {}
