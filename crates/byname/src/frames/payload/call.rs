//! CALL: [`CallPayload`] is what a client writes, [`ReceivedCall`] what a server reads.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::stream::NO_CREDIT;
use super::{number, part, put_part, read_metadata, write_any_metadata};
use crate::arguments::EncodedArguments;
use crate::clock_and_chance::once_in;
use crate::codec::EncodedParts;
use crate::codec::encoded_parts::{self, LeftOut};
use crate::error::Error;
use crate::frames::header::{FrameHeader, flag, kind};
use crate::frames::{PIECE, SPARE, Violation, WriteQueue};
use crate::metadata;

thread_local! {
    /// Where this thread's next call is written, so that it allocates nothing.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A thread whose calls have become small frees a larger buffer after about so many.
const CALLS: u8 = 64;

/// The payload of a CALL: the time-out, the first credit of a stream that answers it, metadata, arguments.
#[derive(Debug)]
pub(crate) struct CallPayload {
    payload: Vec<u8>,
    /// Large bytes that are left out of it.
    left_out: LeftOut,
    flags: u8,
    /// The bytes of the arguments.
    size: usize,
}

impl CallPayload {
    /// A call with these arguments.
    pub(crate) fn new(left: Duration, headers: &HeaderMap, args: &EncodedArguments) -> Self {
        Self::with_streams(left, headers, args, false, false)
    }

    /// A call that takes a stream for its answer, or brings one.
    pub(crate) fn with_streams(
        left: Duration,
        headers: &HeaderMap,
        args: &EncodedArguments,
        takes: bool,
        brings: bool,
    ) -> Self {
        let streams = if takes { flag::STREAM } else { 0 } | if brings { flag::ITEMS } else { 0 };
        let mut frame = Self::begin(left, headers, streams);
        let EncodedArguments { codec: _, positional, keyword } = args;
        if !positional.is_empty() && !keyword.is_empty() {
            frame.flags |= flag::MIXED;
            put_part(positional, &mut frame.payload);
        } else {
            frame.payload.extend_from_slice(positional);
        }
        frame.payload.extend_from_slice(keyword);
        frame.size = positional.len() + keyword.len();
        frame
    }

    /// A call whose arguments `write` appends by name.
    #[inline]
    pub(crate) fn by_name(
        left: Duration,
        headers: &HeaderMap,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut frame = Self::begin(left, headers, 0);
        let before = frame.payload.len();
        let (written, left_out) = encoded_parts::leaving_out(&mut frame.payload, write);
        written?;
        frame.left_out = left_out;
        frame.size = frame.payload.len() - before + encoded_parts::total(&frame.left_out);
        Ok(frame)
    }

    fn begin(left: Duration, headers: &HeaderMap, flags: u8) -> Self {
        let payload = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let mut frame = Self { payload, left_out: Vec::new(), flags, size: 0 };
        frame.payload.extend_from_slice(&millis(left));
        if frame.takes_stream() {
            frame.payload.extend_from_slice(&[0; 4]);
        }
        frame.flags |= write_any_metadata(headers, &mut frame.payload);
        frame
    }

    /// The bytes of its arguments.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The time that is left of what the call is allowed.
    pub(crate) fn set_left(&mut self, left: Duration) {
        self.payload[..4].copy_from_slice(&millis(left));
    }

    /// Whether the answer may be a stream.
    pub(crate) fn takes_stream(&self) -> bool {
        self.flags & flag::STREAM != 0
    }

    /// Whether there is a stream in either direction.
    pub(crate) fn has_streams(&self) -> bool {
        self.flags & (flag::STREAM | flag::ITEMS) != 0
    }

    /// How many bytes of the stream that answers it may be sent at first.
    pub(crate) fn set_credit(&mut self, credit: u32) {
        if self.takes_stream() {
            self.payload[4..8].copy_from_slice(&credit.to_be_bytes());
        }
    }

    /// Puts it into the queue, once, as the call with this id of the function with this number.
    pub(crate) fn put(&mut self, number: u16, id: u64, queue: &mut WriteQueue) {
        let header = FrameHeader::new(kind::CALL, self.flags, number, id);
        if !self.left_out.is_empty() {
            let payload =
                if self.payload.len() > PIECE { std::mem::take(&mut self.payload) } else { self.payload.clone() };
            queue.put_parts(header, EncodedParts::new(payload, std::mem::take(&mut self.left_out)));
        } else if self.payload.len() > PIECE {
            // The buffer is replaced by that of a message that has been written out.
            let payload = std::mem::replace(&mut self.payload, queue.spare());
            queue.put_bytes(header, Bytes::from(payload));
        } else {
            queue.put_small(header, &self.payload);
            if self.payload.capacity() > PIECE && once_in(CALLS) {
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
        // A thread that ends keeps nothing.
        let _ = SCRATCH.try_with(|scratch| scratch.set(payload));
    }
}

/// A time-out in the frame, where 0 stands for none.
fn millis(left: Duration) -> [u8; 4] {
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1).to_be_bytes()
}

/// A call as its server reads it.
#[derive(Debug, PartialEq)]
pub(crate) struct ReceivedCall<'p> {
    /// `None` where the caller doesn't say.
    pub(crate) timeout: Option<Duration>,
    /// The answer may be a stream, and how many bytes of it may be sent at first.
    pub(crate) credit: Option<u32>,
    /// The caller sends a stream.
    pub(crate) brings_stream: bool,
    /// Or why they are rejected.
    pub(crate) metadata: Result<HeaderMap, Error>,
    pub(crate) positional: &'p [u8],
    /// The arguments by name where there are some by position, else all of them.
    pub(crate) keyword: &'p [u8],
}

impl<'p> ReceivedCall<'p> {
    /// Reads one whose metadata may have as many bytes as `most`, which is what a head may have over HTTP. Its headers of
    /// authority and those named `secret` are marked sensitive.
    pub(crate) fn read(
        header: &FrameHeader,
        payload: &'p [u8],
        most: usize,
        secret: &[HeaderName],
    ) -> Result<Self, Violation> {
        let mut rest = payload;
        let timeout = number(&mut rest, "a call without a time-out")?;
        let timeout = (timeout > 0).then(|| Duration::from_millis(timeout.into()));
        let credit = if header.has(flag::STREAM) { Some(number(&mut rest, NO_CREDIT)?) } else { None };
        let brings_stream = header.has(flag::ITEMS);
        let metadata = match header.has(flag::METADATA) {
            true => read_headers(&mut rest, most, secret)?,
            false => Ok(HeaderMap::new()),
        };
        let positional = if header.has(flag::MIXED) { part(&mut rest)? } else { b"" };
        Ok(Self { timeout, credit, brings_stream, metadata, positional, keyword: rest })
    }

    /// Whether there is a stream in either direction.
    pub(crate) fn has_streams(&self) -> bool {
        self.credit.is_some() || self.brings_stream
    }
}

/// Takes the metadata of a call off the front.
fn read_headers(rest: &mut &[u8], most: usize, secret: &[HeaderName]) -> Result<Result<HeaderMap, Error>, Violation> {
    let mut behind = *rest;
    let text = part(&mut behind)?;
    // Quotes and escapes make JSON longer, by twice at most for what a header can hold.
    if text.len() / 2 > most.saturating_add(1024) {
        *rest = behind;
        return Ok(Err(metadata::too_large(most)));
    }
    let mut headers = read_metadata(rest)?;
    metadata::hide(&mut headers, secret);
    Ok(metadata::check_taken(&headers, most).map(|()| headers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Codec;
    use crate::frames::fuzzing::queued;
    use crate::frames::payload::tests::metadata;

    /// More than any metadata here has.
    const MOST: usize = 64 << 10;

    proptest! {
        #[test]
        fn a_call_is_read_as_it_was_written(
            left in 1..u64::from(u32::MAX),
            metadata in metadata(),
            positional: Vec<u8>,
            keyword: Vec<u8>,
            credit: Option<u32>,
            brings_stream: bool,
            number: u16,
            id: u64,
        ) {
            let args = EncodedArguments {
                codec: Codec::Json,
                positional: positional.clone().into(),
                keyword: keyword.clone().into(),
            };
            let timeout = Duration::from_millis(left);
            let takes = credit.is_some();
            let mut call = CallPayload::with_streams(Duration::from_millis(9), &metadata, &args, takes, brings_stream);
            prop_assert_eq!(call.size(), positional.len() + keyword.len());
            prop_assert_eq!((call.takes_stream(), call.has_streams()), (takes, takes || brings_stream));
            call.set_left(timeout);
            call.set_credit(credit.unwrap_or_default());
            let mut queue = WriteQueue::new();
            call.put(number, id, &mut queue);
            let [(header, payload)] = &queued(&mut queue)[..] else { panic!("one frame") };
            prop_assert_eq!((header.kind, header.number, header.id), (kind::CALL, number, id));
            let read = ReceivedCall::read(header, payload, MOST, &[]).unwrap();
            prop_assert_eq!(read.has_streams(), takes || brings_stream);
            // One kind of arguments alone says itself which it is.
            let (positional, keyword) = match keyword.is_empty() {
                true => (&b""[..], &positional[..]),
                false => (&positional[..], &keyword[..]),
            };
            let timeout = Some(timeout);
            let metadata = Ok(metadata);
            prop_assert_eq!(read, ReceivedCall { timeout, credit, brings_stream, metadata, positional, keyword });
        }

        #[test]
        fn arguments_by_name_are_read_as_they_were_written(metadata in metadata(), keyword: Vec<u8>) {
            let write = |payload: &mut Vec<u8>| {
                payload.extend_from_slice(&keyword);
                Ok(())
            };
            let mut call = CallPayload::by_name(Duration::from_secs(1), &metadata, write).unwrap();
            prop_assert_eq!(call.size(), keyword.len());
            let mut queue = WriteQueue::new();
            call.put(1, 2, &mut queue);
            let [(header, payload)] = &queued(&mut queue)[..] else { panic!("one frame") };
            let read = ReceivedCall::read(header, payload, MOST, &[]).unwrap();
            prop_assert_eq!((read.positional, read.keyword, read.metadata), (&b""[..], &keyword[..], Ok(metadata)));
        }

        #[test]
        fn a_call_that_is_cut_off_is_refused(cut in 0..22usize) {
            let args = EncodedArguments { codec: Codec::Json, positional: "[1]".into(), keyword: r#"{"b":2}"#.into() };
            let metadata = HeaderMap::from_iter([("a".try_into().unwrap(), "b".try_into().unwrap())]);
            let mut call = CallPayload::with_streams(Duration::from_secs(1), &metadata, &args, true, false);
            let mut queue = WriteQueue::new();
            call.put(1, 2, &mut queue);
            let [(header, payload)] = &queued(&mut queue)[..] else { panic!("one frame") };
            prop_assert!(ReceivedCall::read(header, &payload[..cut], MOST, &[]).is_err());
        }
    }

    #[test]
    fn the_last_millisecond_is_sent_as_one_and_zero_means_no_time() {
        assert_eq!(millis(Duration::from_micros(10)), 1u32.to_be_bytes());
        assert_eq!(millis(Duration::from_secs(1 << 32)), u32::MAX.to_be_bytes());
        let read = ReceivedCall::read(&FrameHeader::new(kind::CALL, 0, 1, 1), &[0; 4], MOST, &[]).unwrap();
        assert_eq!((read.timeout, read.credit, read.keyword), (None, None, &b""[..]));
    }

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
