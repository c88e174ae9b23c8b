//! Where the items of a stream go that are made here: [`ItemSink`].

use std::any::Any;

use serde_core::Serialize;

use super::growing_items::{GrowingItems, Unfit};
use super::items::ItemBatch;
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
    encoded: GrowingItems,
    local: Option<Box<dyn Any + Send>>,
    /// What may go in before it is full.
    room: usize,
    /// The most bytes of one item.
    largest: u32,
}

/// Why an item can't go out.
pub(crate) enum UnfitItem {
    TooLarge(Error),
    Unencodable(String),
}

impl ItemSink {
    pub(crate) fn new(codec: Option<Codec>, largest: usize) -> Self {
        let largest = u32::try_from(largest).unwrap_or(u32::MAX);
        Self { codec, encoded: GrowingItems::default(), local: None, room: 0, largest }
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
        self.encoded.is_empty() && self.local.is_none()
    }

    /// Adds an item; whether it is full now.
    pub(crate) fn push<T: Serialize + Send + 'static>(&mut self, item: T) -> Result<bool, UnfitItem> {
        let Some(codec) = self.codec else {
            self.local = Some(Box::new(item));
            return Ok(true);
        };
        if let Err(unfit) = self.encoded.push(self.largest, |out| codec::encode(codec, &item, out)) {
            return Err(self.unfit(codec, unfit));
        }
        Ok(self.encoded.cost() >= self.room || self.encoded.count() >= AT_ONCE)
    }

    #[cold]
    fn unfit(&self, codec: Codec, unfit: Unfit<String>) -> UnfitItem {
        match unfit {
            Unfit::Failed(why) => UnfitItem::Unencodable(why),
            Unfit::Longer(length) => {
                let why = format!(
                    "an item of the stream has {}, more than {} (`Limits::message`); make it smaller, or raise the \
                     limit{}",
                    in_bytes(length),
                    self.largest,
                    codec::shorter(codec)
                );
                UnfitItem::TooLarge(Error::new(Code::ResourceExhausted, why).of_limit(Limit::Message))
            }
        }
    }

    /// What is in it, if anything is.
    pub(crate) fn take(&mut self) -> Option<ItemBatch> {
        match self.codec {
            None => self.local.take().map(|item| ItemBatch::Local(Some(item))),
            Some(codec) => self.encoded.take(codec).map(ItemBatch::Encoded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::items::ROOM;

    #[test]
    fn a_small_item_is_not_held_in_the_memory_of_a_large_one() {
        let mut sink = ItemSink::new(Some(Codec::Json), 8 << 20);
        for length in [5 << 20, 1] {
            assert!(sink.push("x".repeat(length)).is_ok());
            if length == 1 {
                assert!(sink.encoded.capacity() <= ROOM, "{}", sink.encoded.capacity());
            }
            assert!(sink.take().is_some());
        }
    }
}
