//! A call as its frame has it: [`CallPayload`].

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::{self as payload, FrameHeader, flag};
use crate::arguments::Encoded;
use crate::error::Error;
use crate::frames::{PIECE, SPARE, WriteQueue};

thread_local! {
    /// Where this thread's next call is written, so that it allocates nothing.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A thread whose calls have become small gives a larger buffer back after about so many.
const CALLS: u8 = 64;

/// The payload of a CALL.
#[derive(Debug)]
pub(crate) struct CallPayload {
    payload: Vec<u8>,
    flags: u8,
    /// The bytes of the arguments.
    size: usize,
}

impl CallPayload {
    /// A call with these arguments.
    pub(crate) fn new(left: Duration, headers: &HeaderMap, args: &Encoded) -> Self {
        Self::with_streams(left, headers, args, false, false)
    }

    /// One whose answer is a stream, or that brings one.
    pub(crate) fn with_streams(left: Duration, headers: &HeaderMap, args: &Encoded, takes: bool, brings: bool) -> Self {
        let streams = if takes { flag::STREAM } else { 0 } | if brings { flag::ITEMS } else { 0 };
        let mut frame = Self::begin(left, headers, streams);
        let Encoded { codec: _, positional, keyword } = args;
        if !positional.is_empty() && !keyword.is_empty() {
            frame.flags |= flag::MIXED;
            payload::put_part(positional, &mut frame.payload);
        } else {
            frame.payload.extend_from_slice(positional);
        }
        frame.payload.extend_from_slice(keyword);
        frame.size = positional.len() + keyword.len();
        frame
    }

    /// A call whose arguments `write` appends by name.
    pub(crate) fn by_name(
        left: Duration,
        headers: &HeaderMap,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut frame = Self::begin(left, headers, 0);
        let before = frame.payload.len();
        write(&mut frame.payload)?;
        frame.size = frame.payload.len() - before;
        Ok(frame)
    }

    fn begin(left: Duration, headers: &HeaderMap, flags: u8) -> Self {
        let mut frame = Self { payload: SCRATCH.try_with(Cell::take).unwrap_or_default(), flags, size: 0 };
        frame.payload.extend_from_slice(&millis(left));
        if frame.takes_stream() {
            frame.payload.extend_from_slice(&[0; 4]);
        }
        if !headers.is_empty() {
            frame.flags |= flag::METADATA;
            payload::write_metadata(headers, &mut frame.payload);
        }
        frame
    }

    /// The bytes of its arguments.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// What is left of the time that the call is allowed.
    pub(crate) fn set_left(&mut self, left: Duration) {
        self.payload[..4].copy_from_slice(&millis(left));
    }

    /// Whether a stream is taken for an answer.
    pub(crate) fn takes_stream(&self) -> bool {
        self.flags & flag::STREAM != 0
    }

    /// Whether there is a stream in either direction.
    pub(crate) fn has_streams(&self) -> bool {
        self.flags & (flag::STREAM | flag::ITEMS) != 0
    }

    /// How much of the stream may be answered at first.
    pub(crate) fn set_credit(&mut self, credit: u32) {
        if self.takes_stream() {
            self.payload[4..8].copy_from_slice(&credit.to_be_bytes());
        }
    }

    /// Puts it into what goes out next, once.
    pub(crate) fn put(&mut self, header: FrameHeader, write_queue: &mut WriteQueue) {
        let header = FrameHeader { flags: header.flags | self.flags, ..header };
        if self.payload.len() > PIECE {
            // What goes away is replaced by what has gone out.
            let payload = std::mem::replace(&mut self.payload, write_queue.spare());
            write_queue.put_bytes(header, Bytes::from(payload));
        } else {
            write_queue.put(header, |frames| frames.extend_from_slice(&self.payload));
            if self.payload.capacity() > PIECE && fastrand::u8(..CALLS) == 0 {
                self.payload = Vec::new();
            }
        }
    }
}

impl Drop for CallPayload {
    fn drop(&mut self) {
        if self.payload.capacity() > SPARE {
            // The thread may make no other call for as long as it lives.
            return;
        }
        self.payload.clear();
        let payload = std::mem::take(&mut self.payload);
        // On a thread that ends nothing is kept.
        let _ = SCRATCH.try_with(|scratch| scratch.set(payload));
    }
}

/// As it stands in the frame, where 0 is for who doesn't say.
fn millis(left: Duration) -> [u8; 4] {
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_no_memory_of_a_call_beyond_its_bound() {
        let kept = |length: usize| {
            let write = |payload: &mut Vec<u8>| {
                payload.resize(payload.len() + length, 7);
                Ok(())
            };
            drop(CallPayload::by_name(Duration::from_secs(1), &HeaderMap::new(), write).unwrap());
            let scratch = SCRATCH.take();
            let capacity = scratch.capacity();
            SCRATCH.set(scratch);
            capacity
        };
        assert!((1000..SPARE).contains(&kept(1000)));
        assert_eq!(kept(SPARE + 1), 0);
        assert!((100_000..SPARE).contains(&kept(100_000)), "what is smaller is used again");
    }
}
