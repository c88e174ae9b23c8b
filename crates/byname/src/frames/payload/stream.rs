//! ITEM, END and CREDIT: the payloads of streams.

use std::mem;

use http::HeaderMap;

use super::{number, read_any_metadata, write_any_metadata};
use crate::frames::header::{FrameHeader, flag, kind};
use crate::frames::{PIECE, Violation, WriteQueue};
use crate::outcome::item_parts::{self, ItemParts};
use crate::outcome::items::EncodedItems;

/// The longest payload of an ITEM with several values. It is never cut into pieces.
const BATCH: usize = PIECE;

/// What is wrong with a CREDIT, or a CALL that takes a stream, without a number.
pub(super) const NO_CREDIT: &str = "credit without a number";

/// Items of a stream, with the metadata of the answer where they are the first: as few frames as possible where the peer
/// reads `batches`, else a frame for each. Whether the last one is a large message, which goes out in pieces.
pub(crate) fn put_items(
    id: u64,
    metadata: &HeaderMap,
    items: &EncodedItems,
    batches: bool,
    queue: &mut WriteQueue,
) -> bool {
    let none = HeaderMap::new();
    if !batches {
        let mut metadata = metadata;
        let put = |is_large, item| put_item(id, mem::replace(&mut metadata, &none), item, queue) | is_large;
        return items.rest().fold(false, put);
    }
    match items.parts() {
        Some(parts) if metadata.is_empty() && items.size().0 > 1 && parts.len() <= BATCH => {
            queue.put_small(FrameHeader::new(kind::ITEM, flag::BATCH, 0, id), parts);
            false
        }
        _ => put_in_several(id, metadata, items, queue),
    }
}

/// Items that are not one ITEM with several values: the first one alone if there is metadata, and each one alone that is large.
fn put_in_several(id: u64, metadata: &HeaderMap, items: &EncodedItems, queue: &mut WriteQueue) -> bool {
    let (all, none) = (items.rest().collect::<Vec<_>>(), HeaderMap::new());
    let (mut rest, mut is_large, mut metadata) = (&all[..], false, metadata);
    while !rest.is_empty() {
        let mut length = 0;
        let fits = |item: &&&[u8]| {
            length += item_parts::LENGTH + item.len();
            length <= BATCH
        };
        let together = if metadata.is_empty() { rest.iter().take_while(fits).count().max(1) } else { 1 };
        let (now, later) = rest.split_at(together);
        is_large |= match now {
            [item] => put_item(id, mem::replace(&mut metadata, &none), item, queue),
            several => {
                queue.put(FrameHeader::new(kind::ITEM, flag::BATCH, 0, id), |out| {
                    several.iter().for_each(|item| item_parts::put(item, out));
                });
                false
            }
        };
        rest = later;
    }
    is_large
}

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

/// The metadata and the values of an ITEM that has several.
pub(crate) fn read_batch<'p>(header: &FrameHeader, payload: &'p [u8]) -> Result<(HeaderMap, ItemParts<'p>), Violation> {
    if header.has(flag::MORE) {
        return Err(Violation("an ITEM with several values in pieces"));
    }
    if payload.len() > BATCH {
        return Err(Violation("an ITEM with several values is longer than 64 KiB"));
    }
    let mut rest = payload;
    let metadata = read_any_metadata(header, &mut rest)?;
    let items = ItemParts::read(rest).ok_or(Violation("an ITEM with several values has none, or is cut off"))?;
    Ok((metadata, items))
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
    use crate::codec::Codec;
    use crate::frames::fuzzing::queued;
    use crate::frames::payload::tests::metadata;
    use crate::frames::{Assembled, MessageAssembly};
    use crate::outcome::growing_items::GrowingItems;

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
        fn items_are_read_as_they_were_written_with_and_without_batches(
            id: u64,
            metadata in metadata(),
            mut lengths in proptest::collection::vec(prop_oneof![9 => 0..30usize, 1 => 0..40_000usize], 0..20),
            // What is in pieces comes behind the others.
            last in prop_oneof![0..30usize, 60_000..64_000usize, PIECE + 1..PIECE + 9],
            batches: bool,
            are_parts: bool,
        ) {
            lengths.push(last);
            let values: Vec<_> = (0..).zip(&lengths).map(|(at, length)| vec![at; *length]).collect();
            let (mut growing, mut bytes, mut spans) = (GrowingItems::default(), Vec::new(), Vec::new());
            for value in &values {
                growing.copy(value);
                spans.push(bytes.len()..bytes.len() + value.len());
                bytes.extend_from_slice(value);
            }
            let items = if are_parts { growing.take(Codec::Json).unwrap() } else { EncodedItems::new(Codec::Json, bytes.into(), spans) };
            let mut queue = WriteQueue::new();
            queue.set_window(usize::MAX);
            let is_large = put_items(id, &metadata, &items, batches, &mut queue);
            let (mut assembly, mut came, mut is_first) = (MessageAssembly::new(usize::MAX, usize::MAX), Vec::new(), true);
            while !queue.is_empty() {
                for (header, payload) in queued(&mut queue) {
                    prop_assert_eq!((header.kind, header.id), (kind::ITEM, id));
                    let first = std::mem::take(&mut is_first);
                    if header.has(flag::BATCH) {
                        prop_assert!(batches);
                        let (read, parts) = read_batch(&header, &payload).unwrap();
                        prop_assert!(read.is_empty() && parts.count() > 1);
                        let parts = EncodedItems::of_parts(Codec::Json, parts.bytes().to_vec().into(), parts.count(), parts.last());
                        came.extend(parts.rest().map(<[u8]>::to_vec));
                        continue;
                    }
                    let whole = match assembly.take(&header, &payload).unwrap() {
                        Assembled::Whole(item) => item.to_vec(),
                        Assembled::Joined(item) => item.to_vec(),
                        _ => continue,
                    };
                    let (read, item) = read_item(&header, &whole).unwrap();
                    prop_assert!(!first || read == metadata);
                    came.push(item.to_vec());
                }
            }
            prop_assert_eq!(is_large, values.iter().any(|value| value.len() > PIECE));
            prop_assert!(came == values);
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
