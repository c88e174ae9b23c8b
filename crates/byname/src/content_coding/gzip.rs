//! gzip (RFC 1952). A body is one member.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{CodingError, ContentCoding};

/// The level below makes answers half as long again, and the one above takes a quarter more time for 2 %.
const LEVEL: u32 = 3;

/// The window that every decoder has: 32 KiB.
const WINDOW_BITS: u8 = 15;

/// How much room is made at once.
const ROOM: usize = 8 << 10;

#[derive(Debug)]
pub(crate) struct GzipEncoder(Compress);

impl GzipEncoder {
    pub(super) fn new() -> Self {
        Self(Compress::new_gzip(Compression::new(LEVEL), WINDOW_BITS))
    }

    pub(super) fn put(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        while !piece.is_empty() {
            let (used, _) = self.step(piece, out, FlushCompress::None)?;
            piece = &piece[used..];
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), CodingError> {
        // All is out once there is room left.
        while {
            self.step(&[], out, FlushCompress::Sync)?;
            out.len() == out.capacity()
        } {}
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), CodingError> {
        while self.step(&[], out, FlushCompress::Finish)?.1 != Status::StreamEnd {}
        Ok(())
    }

    fn step(&mut self, piece: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> Result<(usize, Status), CodingError> {
        if out.capacity() - out.len() < ROOM / 2 {
            out.reserve(ROOM);
        }
        let before = self.0.total_in();
        let status = self.0.compress_vec(piece, out, flush);
        let status = status.map_err(|why| CodingError::corrupt(ContentCoding::Gzip, &why.to_string()))?;
        Ok(((self.0.total_in() - before) as usize, status))
    }
}

#[derive(Debug)]
pub(crate) struct GzipDecoder {
    member: Decompress,
    has_ended: bool,
}

impl GzipDecoder {
    pub(super) fn new() -> Self {
        Self { member: Decompress::new_gzip(WINDOW_BITS), has_ended: false }
    }

    pub(super) fn decode(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), CodingError> {
        if !self.has_ended {
            let before = self.member.total_in();
            let status = self.member.decompress_vec(input, out, FlushDecompress::None);
            let status = status.map_err(|why| {
                let why = why.message().unwrap_or("its data is malformed");
                CodingError::corrupt(ContentCoding::Gzip, why)
            })?;
            *input = &input[(self.member.total_in() - before) as usize..];
            self.has_ended = status == Status::StreamEnd;
        }
        if self.has_ended && !input.is_empty() {
            // A new member takes 20 bytes of the sender, and memory and time of the reader.
            let why = "more bytes follow its end; send one member, and nothing behind it";
            return Err(CodingError::corrupt(ContentCoding::Gzip, why));
        }
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), CodingError> {
        if self.has_ended { Ok(()) } else { Err(CodingError::cut_off(ContentCoding::Gzip)) }
    }
}
