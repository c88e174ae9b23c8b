//! Where the items of a stream go that are made here: [`ItemSink`].

use std::any::Any;
use std::mem;
use std::ops::Range;

use bytes::Bytes;
use serde_core::Serialize;

use super::items::{EncodedItems, ItemBatch, OVERHEAD, ROOM};
use crate::codec::{self, Codec};
use crate::error::{Code, Error};
use crate::limits_and_timeouts::{Limit, in_bytes};

/// The most items that are made in one go, whoever else waits.
const AT_ONCE: usize = 256;

/// Collects items, encoded or one as it is, up to what there is room for.
#[derive(Debug)]
pub(crate) struct ItemSink {
    /// None for items as they are.
    codec: Option<Codec>,
    bytes: Vec<u8>,
    spans: Vec<Range<usize>>,
    local: Option<Box<dyn Any + Send>>,
    /// What may go in before it is full.
    room: usize,
    /// The most bytes of one item.
    largest: usize,
    /// How many bytes and items were taken last: as much room is made for the next.
    likely: (usize, usize),
}

/// Why an item can't go out.
pub(crate) enum UnfitItem {
    TooLarge(Error),
    Unencodable(String),
}

impl ItemSink {
    pub(crate) fn new(codec: Option<Codec>, largest: usize) -> Self {
        Self { codec, bytes: Vec::new(), spans: Vec::new(), local: None, room: 0, largest, likely: (0, 0) }
    }

    /// What items are encoded in from now on, if they are at all.
    pub(crate) fn encode_in(&mut self, codec: Codec) {
        self.codec = self.codec.map(|_| codec);
    }

    /// Until when it is not full.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.local.is_none()
    }

    /// Adds an item; whether it is full now.
    pub(crate) fn push<T: Serialize + Send + 'static>(&mut self, item: T) -> Result<bool, UnfitItem> {
        let Some(codec) = self.codec else {
            self.local = Some(Box::new(item));
            return Ok(true);
        };
        if self.spans.is_empty() {
            let (bytes, items) = self.likely;
            self.bytes.reserve(bytes);
            self.spans.reserve(items);
        }
        let start = self.bytes.len();
        if let Err(why) = codec::encode(codec, &item, &mut self.bytes) {
            self.bytes.truncate(start);
            return Err(UnfitItem::Unencodable(why));
        }
        let end = self.bytes.len();
        if end - start > self.largest {
            self.bytes.truncate(start);
            let why = format!(
                "an item of the stream has {}, more than {} (`Limits::message`); make it smaller, or raise the limit{}",
                in_bytes(end - start),
                self.largest,
                codec::shorter(codec)
            );
            return Err(UnfitItem::TooLarge(Error::new(Code::ResourceExhausted, why).of_limit(Limit::Message)));
        }
        self.spans.push(start..end);
        Ok(end + self.spans.len() * OVERHEAD >= self.room || self.spans.len() >= AT_ONCE)
    }

    /// What is in it, if anything is.
    pub(crate) fn take(&mut self) -> Option<ItemBatch> {
        match self.codec {
            None => self.local.take().map(|item| ItemBatch::Local(Some(item))),
            Some(_) if self.spans.is_empty() => None,
            Some(codec) => {
                // A small item would be held in the memory that a large one took.
                self.likely = (self.bytes.len().min(ROOM), self.spans.len());
                let bytes = Bytes::from(mem::take(&mut self.bytes));
                Some(ItemBatch::Encoded(EncodedItems::new(codec, bytes, mem::take(&mut self.spans))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_item_is_not_held_in_the_memory_of_a_large_one() {
        let mut sink = ItemSink::new(Some(Codec::Json), 8 << 20);
        for length in [5 << 20, 1] {
            assert!(sink.push("x".repeat(length)).is_ok());
            if length == 1 {
                assert!(sink.bytes.capacity() <= ROOM, "{}", sink.bytes.capacity());
            }
            assert!(sink.take().is_some());
        }
    }
}
