//! ITEM, END and CREDIT: the payloads of streams.

use http::HeaderMap;

use super::{number, read_any_metadata, write_any_metadata};
use crate::frames::header::{FrameHeader, kind};
use crate::frames::{PIECE, Violation, WriteQueue};

/// What is wrong with a CREDIT, or a CALL that takes a stream, without a number.
pub(super) const NO_CREDIT: &str = "credit without a number";

/// ITEM: one value of a stream, with the metadata of the answer where it is the first. Whether it is a large message,
/// which goes out in pieces.
#[inline]
pub(crate) fn put_item(id: u64, metadata: &HeaderMap, item: &[u8], queue: &mut WriteQueue) -> bool {
    let header = FrameHeader::new(kind::ITEM, 0, 0, id);
    if metadata.is_empty() && item.len() <= PIECE {
        queue.put_small(header, item);
        return false;
    }
    put_rare_item(header, metadata, item, queue)
}

/// An item with metadata, or one that may be a large message.
fn put_rare_item(header: FrameHeader, metadata: &HeaderMap, item: &[u8], queue: &mut WriteQueue) -> bool {
    let start = queue.open();
    let flags = write_any_metadata(metadata, queue.buffer());
    queue.buffer().extend_from_slice(item);
    let is_large = queue.since(start).len() > PIECE;
    queue.close(start, FrameHeader { flags, ..header });
    is_large
}

/// The metadata and the value of an item that has come whole.
pub(crate) fn read_item<'p>(header: &FrameHeader, payload: &'p [u8]) -> Result<(HeaderMap, &'p [u8]), Violation> {
    let mut rest = payload;
    let metadata = read_any_metadata(header, &mut rest)?;
    Ok((metadata, rest))
}

/// END: the stream is whole. The metadata of the answer, where no item carried it.
pub(crate) fn put_end(id: u64, metadata: &HeaderMap, queue: &mut WriteQueue) {
    let start = queue.open();
    let flags = write_any_metadata(metadata, queue.buffer());
    queue.close(start, FrameHeader::new(kind::END, flags, 0, id));
}

pub(crate) fn read_end(header: &FrameHeader, payload: &[u8]) -> Result<HeaderMap, Violation> {
    read_any_metadata(header, &mut &*payload)
}

/// CREDIT: the peer may send so many bytes more.
pub(crate) fn put_credit(id: u64, bytes: u32, queue: &mut WriteQueue) {
    queue.put_small(FrameHeader::new(kind::CREDIT, 0, 0, id), &bytes.to_be_bytes());
}

pub(crate) fn read_credit(payload: &[u8]) -> Result<u32, Violation> {
    number(&mut &*payload, NO_CREDIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frames::fuzzing::queued;
    use crate::frames::payload::tests::metadata;

    proptest! {
        #[test]
        fn items_and_their_end_are_read_as_they_were_written(id: u64, metadata in metadata(), item: Vec<u8>) {
            let mut queue = WriteQueue::new();
            prop_assert!(!put_item(id, &metadata, &item, &mut queue));
            put_end(id, &metadata, &mut queue);
            let [(first, payload), (last, end)] = &queued(&mut queue)[..] else { panic!("two frames") };
            prop_assert_eq!((first.kind, first.id, last.kind, last.id), (kind::ITEM, id, kind::END, id));
            prop_assert_eq!(read_item(first, payload), Ok((metadata.clone(), item.as_slice())));
            prop_assert_eq!(read_end(last, end), Ok(metadata));
        }

        #[test]
        fn credit_is_read_as_it_was_written(id: u64, bytes: u32) {
            let mut queue = WriteQueue::new();
            put_credit(id, bytes, &mut queue);
            let [(header, payload)] = &queued(&mut queue)[..] else { panic!("one frame") };
            prop_assert_eq!((header.kind, header.id, read_credit(payload)), (kind::CREDIT, id, Ok(bytes)));
            prop_assert!(read_credit(&payload[..3]).is_err());
        }
    }

    #[test]
    fn only_an_item_that_goes_out_in_pieces_is_large() {
        let (mut queue, none) = (WriteQueue::new(), HeaderMap::new());
        assert!(!put_item(1, &none, &[0; PIECE], &mut queue));
        assert_eq!(queued(&mut queue).len(), 1);
        assert!(put_item(1, &none, &[0; PIECE + 1], &mut queue) && queue.holds(1));
        let header = ("x-long".try_into().unwrap(), "x".repeat(PIECE).try_into().unwrap());
        assert!(put_item(2, &HeaderMap::from_iter([header]), b"1", &mut queue) && queue.holds(2));
    }
}
