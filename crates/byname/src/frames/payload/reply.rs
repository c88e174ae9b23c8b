//! REPLY and ERROR: how a call ends that is not answered by a stream.

use bytes::{Buf, Bytes};
use http::HeaderMap;

use super::{part, put_part, read_any_metadata, write_any_metadata};
use crate::codec::{self, Codec, EncodedParts};
use crate::error::{Error, Kind};
use crate::frames::header::{FrameHeader, kind};
use crate::frames::{Violation, WriteQueue};
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::request::Reply;
use crate::wire;

/// REPLY: the value that a function returned, encoded. Returns the length of the payload.
pub(crate) fn put_value(id: u64, metadata: &HeaderMap, value: Bytes, queue: &mut WriteQueue) -> usize {
    if metadata.is_empty() {
        let length = value.len();
        queue.put_bytes(FrameHeader::new(kind::REPLY, 0, 0, id), value);
        return length;
    }
    let start = queue.open();
    let flags = write_any_metadata(metadata, queue.buffer());
    queue.buffer().extend_from_slice(&value);
    let length = queue.since(start).len();
    queue.close(start, FrameHeader::new(kind::REPLY, flags, 0, id));
    length
}

/// REPLY: an encoded value in parts, which are written from where they are. Returns the length of the payload.
pub(crate) fn put_parts(id: u64, metadata: &HeaderMap, mut value: EncodedParts, queue: &mut WriteQueue) -> usize {
    let mut before = Vec::new();
    let flags = write_any_metadata(metadata, &mut before);
    if !before.is_empty() {
        value.prepend(before.into());
    }
    let length = value.len();
    queue.put_parts(FrameHeader::new(kind::REPLY, flags, 0, id), value);
    length
}

/// REPLY without metadata, whose value was encoded into the frame that was opened at `start`.
pub(crate) fn end_value(id: u64, start: usize, queue: &mut WriteQueue) {
    queue.close(start, FrameHeader::new(kind::REPLY, 0, 0, id));
}

/// ERROR: the error as JSON, and the function's own error in the codec of the connection. Returns the length of the payload.
pub(crate) fn put_failure(id: u64, metadata: &HeaderMap, failure: Failure, queue: &mut WriteQueue) -> usize {
    let (error, data) = match failure {
        Failure::Method { error, data } => match data.join() {
            ReturnedValue::Encoded(_, data) => (error, data),
            _ => (error, Bytes::new()),
        },
        Failure::Rpc(error) => (error, Bytes::new()),
    };
    let error = serde_json::to_vec(&error).unwrap_or_else(|_| b"{}".to_vec());
    let start = queue.open();
    let flags = write_any_metadata(metadata, queue.buffer());
    put_part(&error, queue.buffer());
    queue.buffer().extend_from_slice(&data);
    let length = queue.since(start).len();
    queue.close(start, FrameHeader::new(kind::ERROR, flags, 0, id));
    length
}

/// What a REPLY or an ERROR says, whose values are in `codec`.
pub(crate) fn read(codec: Codec, header: &FrameHeader, mut payload: Bytes) -> Result<Reply, Violation> {
    let mut rest = &payload[..];
    let metadata = read_any_metadata(header, &mut rest)?;
    if header.kind == kind::REPLY {
        let value_at = payload.len() - rest.len();
        payload.advance(value_at);
        let value = ReturnedValue::Encoded(codec, payload);
        return Ok(Reply { result: Ok(Returned::Value(value)), metadata });
    }
    let error = part(&mut rest)?;
    let error: Error = wire::read_error(error).map_err(|_| Violation("the error of a reply is not an ERROR object"))?;
    let failure = match error.kind() {
        Kind::Method => {
            // An own error without data is `null`.
            let data = if rest.is_empty() { codec::nothing(codec).into() } else { payload.slice_ref(rest) };
            Failure::Method { error: error.data_is(None), data: ReturnedValue::Encoded(codec, data) }
        }
        Kind::Rpc => Failure::Rpc(error),
    };
    Ok(Reply { result: Err(failure), metadata })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::error::{Code, Executed};
    use crate::frames::fuzzing::queued;
    use crate::frames::payload::tests::metadata;
    use crate::limits_and_timeouts::Limit;

    /// The reply that is read of what was put, and its kind.
    fn read_back(put: impl FnOnce(&mut WriteQueue)) -> (u8, Reply) {
        let mut queue = WriteQueue::new();
        put(&mut queue);
        let [(header, payload)] = &queued(&mut queue)[..] else { panic!("one frame") };
        assert_eq!(header.id, 7);
        (header.kind, read(Codec::MessagePack, header, payload.clone().into()).unwrap())
    }

    fn encoded(value: ReturnedValue) -> Vec<u8> {
        match value {
            ReturnedValue::Encoded(Codec::MessagePack, bytes) => bytes.into(),
            _ => panic!("it is in the codec of the connection"),
        }
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was_written(metadata in metadata(), value: Vec<u8>) {
            let (kind, reply) = read_back(|queue| _ = put_value(7, &metadata, value.clone().into(), queue));
            let Ok(Returned::Value(returned)) = reply.result else { panic!("a value") };
            prop_assert_eq!((kind, encoded(returned), reply.metadata), (kind::REPLY, value.clone(), metadata));
            let (kind, reply) = read_back(|queue| {
                let start = queue.open();
                queue.buffer().extend_from_slice(&value);
                end_value(7, start, queue);
            });
            let Ok(Returned::Value(returned)) = reply.result else { panic!("a value") };
            prop_assert_eq!((kind, encoded(returned), reply.metadata.len()), (kind::REPLY, value, 0));
        }

        #[test]
        fn a_failure_is_read_as_it_was_written(
            metadata in metadata(),
            message in ".{0,30}",
            retry_after in proptest::option::of(0..u64::from(u32::MAX)),
            data: Vec<u8>,
        ) {
            let mut error = Error::new(Code::ResourceExhausted, message).executed_is(Executed::No).of_limit(Limit::Message);
            if let Some(ms) = retry_after {
                error = error.with_retry_after(Duration::from_millis(ms));
            }
            let (kind, reply) = read_back(|queue| _ = put_failure(7, &metadata, error.clone().into(), queue));
            let Err(Failure::Rpc(read)) = reply.result else { panic!("an error of ours") };
            prop_assert_eq!((kind, read, reply.metadata), (kind::ERROR, error.clone(), metadata.clone()));

            let error = error.kind_is(Kind::Method);
            let own = Failure::Method {
                error: error.clone(),
                data: ReturnedValue::Encoded(Codec::MessagePack, data.clone().into()),
            };
            let (kind, reply) = read_back(|queue| _ = put_failure(7, &metadata, own, queue));
            let Err(Failure::Method { error: read, data: own }) = reply.result else { panic!("the function's error") };
            let data = if data.is_empty() { codec::nothing(Codec::MessagePack).to_vec() } else { data };
            prop_assert_eq!((kind, read, encoded(own), reply.metadata), (kind::ERROR, error, data, metadata));
        }
    }

    #[test]
    fn a_malformed_error_breaks_the_protocol() {
        let header = FrameHeader::new(kind::ERROR, 0, 0, 7);
        for wrong in [&b""[..], b"\0\0\0\x02[]", b"\0\0\0\x09{}"] {
            assert!(read(Codec::Json, &header, Bytes::copy_from_slice(wrong)).is_err());
        }
    }
}
