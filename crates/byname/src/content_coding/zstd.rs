//! zstd (RFC 8878). A body is one frame or several.

use std::fmt;

use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, get_error_name, is_error_kind, zstd_sys};

use super::{CodingError, ContentCoding};

/// The next levels take twice the time, and answers get no shorter.
const LEVEL: i32 = 1;

/// The largest window of a frame over HTTP: 8 MiB (RFC 9659). It is memory of the reader.
const LARGEST_WINDOW_LOG: u32 = 23;

/// The window of a stream, 32 KiB as that of gzip, and the size of the table of what is in it. Each open stream needs the
/// memory.
const STREAM_WINDOW_LOG: u32 = 15;
const STREAM_HASH_LOG: u32 = 13;

/// How much room is made at once.
const ROOM: usize = 8 << 10;

pub(crate) struct ZstdEncoder(Box<CCtx<'static>>);

impl ZstdEncoder {
    pub(super) fn new(length: Option<usize>) -> Result<Self, CodingError> {
        let Some(mut context) = CCtx::try_create().map(Box::new) else {
            return Err(CodingError::corrupt(ContentCoding::Zstd, "there is no memory for it"));
        };
        let set = context.set_parameter(CParameter::CompressionLevel(LEVEL)).and_then(|_| match length {
            // A short body needs less memory, also of its reader.
            Some(length) => context.set_pledged_src_size(Some(length as u64)),
            None => context
                .set_parameter(CParameter::WindowLog(STREAM_WINDOW_LOG))
                .and_then(|_| context.set_parameter(CParameter::HashLog(STREAM_HASH_LOG))),
        });
        set.map_err(failed)?;
        Ok(Self(context))
    }

    pub(super) fn put(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        let mut input = InBuffer::around(piece);
        while input.pos() < piece.len() {
            self.0.compress_stream(&mut room(out), &mut input).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), CodingError> {
        while self.0.flush_stream(&mut room(out)).map_err(failed)? > 0 {}
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CodingError> {
        while self.0.end_stream(&mut room(out)).map_err(failed)? > 0 {}
        Ok(())
    }

    /// Its memory, in bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.0.sizeof()
    }
}

impl fmt::Debug for ZstdEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdEncoder").finish_non_exhaustive()
    }
}

pub(crate) struct ZstdDecoder {
    context: Box<DCtx<'static>>,
    /// The last frame has ended. Not so before the first.
    is_between_frames: bool,
}

impl ZstdDecoder {
    pub(super) fn new() -> Self {
        let mut context = Box::new(DCtx::create());
        context.set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW_LOG)).expect("zstd knows this parameter");
        Self { context, is_between_frames: false }
    }

    pub(super) fn decode(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        if input.is_empty() && self.is_between_frames {
            return Ok(());
        }
        let length = out.len();
        let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around_pos(out, length));
        let rest = self.context.decompress_stream(&mut to, &mut from).map_err(failed)?;
        *input = &input[from.pos()..];
        self.is_between_frames = rest == 0;
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), CodingError> {
        if self.is_between_frames { Ok(()) } else { Err(CodingError::cut_off(ContentCoding::Zstd)) }
    }
}

impl fmt::Debug for ZstdDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdDecoder").finish_non_exhaustive()
    }
}

/// Room at the end of `out`.
fn room(out: &mut Vec<u8>) -> OutBuffer<'_, Vec<u8>> {
    if out.capacity() - out.len() < ROOM / 2 {
        out.reserve(ROOM);
    }
    let length = out.len();
    OutBuffer::around_pos(out, length)
}

fn failed(code: usize) -> CodingError {
    if is_error_kind(code, zstd_sys::ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge) {
        let why = "its window is larger than the 8 MiB that HTTP allows; compress it with a smaller one";
        return CodingError::corrupt(ContentCoding::Zstd, why);
    }
    CodingError::corrupt(ContentCoding::Zstd, get_error_name(code))
}
