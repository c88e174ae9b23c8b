//! Encoded items that are collected in one buffer: [`GrowingItems`].

use std::mem;

use super::item_parts::{ItemParts, LENGTH, cost, put};
use super::items::{EncodedItems, ROOM};
use crate::codec::Codec;

/// Items that are collected in one buffer, each behind its length.
#[derive(Debug, Default)]
pub(crate) struct GrowingItems {
    bytes: Vec<u8>,
    count: usize,
    /// The bytes of the last one.
    last: usize,
    /// How many bytes were taken last: as much room is made for the next.
    likely: usize,
}

impl GrowingItems {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// What all of them cost, as [`OVERHEAD`](super::item_parts::OVERHEAD) has it.
    #[inline]
    pub(crate) fn cost(&self) -> usize {
        cost(self.bytes.len(), self.count)
    }

    /// Adds what `write` appends, unless it fails or has more than `largest` bytes.
    #[inline]
    pub(crate) fn push<E>(
        &mut self,
        largest: u32,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), Unfit<E>> {
        if self.count == 0 {
            self.bytes.reserve(self.likely);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH]);
        let written = write(&mut self.bytes);
        let length = self.bytes.len() - start - LENGTH;
        let unfit = match (written, u32::try_from(length)) {
            (Ok(()), Ok(short)) if short <= largest => {
                if let Some(place) = self.bytes[start..].first_chunk_mut() {
                    *place = short.to_be_bytes();
                }
                (self.count, self.last) = (self.count + 1, length);
                return Ok(());
            }
            (Ok(()), _) => Unfit::Longer(length),
            (Err(why), _) => Unfit::Failed(why),
        };
        self.bytes.truncate(start);
        Err(unfit)
    }

    /// Adds a copy of an item.
    pub(crate) fn copy(&mut self, item: &[u8]) {
        self.bytes.reserve(if self.count == 0 { self.likely } else { 0 });
        put(item, &mut self.bytes);
        (self.count, self.last) = (self.count + 1, item.len());
    }

    /// Adds a copy of all of these.
    pub(crate) fn extend(&mut self, items: ItemParts<'_>) {
        self.bytes.reserve(if self.count == 0 { self.likely } else { 0 });
        self.bytes.extend_from_slice(items.bytes());
        (self.count, self.last) = (self.count + items.count(), items.last());
    }

    /// What was collected, if anything was.
    pub(crate) fn take(&mut self, codec: Codec) -> Option<EncodedItems> {
        if self.count == 0 {
            return None;
        }
        // A small item would be held in the memory that a large one took.
        self.likely = self.bytes.len().min(ROOM);
        let (bytes, count) = (mem::take(&mut self.bytes), mem::take(&mut self.count));
        Some(EncodedItems::of_parts(codec, bytes.into(), count, self.last))
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Why an item was not added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit<E> {
    Failed(E),
    /// It has this many bytes.
    Longer(usize),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::item_parts::OVERHEAD;

    proptest! {
        #[test]
        fn items_are_read_as_they_were_collected(items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20)) {
            let mut growing = GrowingItems::default();
            for (at, item) in items.iter().enumerate() {
                match at % 3 {
                    0 => {
                        let written = growing.push(40, |out| {
                            out.extend_from_slice(item);
                            Ok::<_, ()>(())
                        });
                        prop_assert_eq!(written, Ok(()));
                    }
                    1 => growing.copy(item),
                    _ => {
                        let mut part = Vec::new();
                        put(item, &mut part);
                        growing.extend(ItemParts::read(&part).unwrap());
                    }
                }
                let refused = growing.push(2, |out| {
                    out.extend_from_slice(b"abc");
                    if at % 2 == 0 { Ok(()) } else { Err(()) }
                });
                prop_assert_eq!(refused, Err(if at % 2 == 0 { Unfit::Longer(3) } else { Unfit::Failed(()) }));
            }
            let cost: usize = items.iter().map(|item| item.len() + OVERHEAD).sum();
            prop_assert_eq!((growing.count(), growing.cost()), (items.len(), cost));
            let bytes = growing.bytes.clone();
            let parts = ItemParts::read(&bytes).expect("they are whole");
            prop_assert_eq!((parts.count(), parts.cost(), parts.last()), (items.len(), cost, items.last().unwrap().len()));
            let mut taken = growing.take(Codec::Json).expect("there are some");
            prop_assert!(growing.is_empty() && growing.take(Codec::Json).is_none());
            prop_assert_eq!((taken.size(), taken.cost()), ((items.len(), cost - items.len() * OVERHEAD), cost));
            prop_assert_eq!(taken.cost_before_the_last(), cost - items.last().unwrap().len() - OVERHEAD);
            prop_assert!(taken.rest().eq(items.iter().map(Vec::as_slice)));
            for item in &items {
                prop_assert_eq!(taken.take(), Some(&item[..]));
            }
            prop_assert_eq!(taken.take(), None);
            prop_assert_eq!(taken.rest().count(), 0);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0..9u8, 0..60), largest in 0..20usize) {
            let Some(parts) = ItemParts::read(&bytes) else { return Ok(()) };
            let all = EncodedItems::of_parts(Codec::Json, bytes.clone().into(), parts.count(), parts.last());
            let before: Vec<_> = all.rest().take_while(|item| item.len() <= largest).collect();
            let (up_to, is_beyond) = parts.up_to(largest);
            prop_assert_eq!(is_beyond, before.len() < parts.count());
            prop_assert_eq!(up_to.map_or(0, ItemParts::count), before.len());
        }
    }
}
