//! What a socket writes next: [`WireBuffer`].

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Shorter bytes are copied, because each slice of a write costs time too.
const COPIED: usize = 4 << 10;

/// The most slices of one write.
pub(super) const SLICES: usize = 16;

/// Bytes of its own, and shared ones between them. Large parts of messages are written from where they are. A state machine.
#[derive(Debug, Default)]
pub(crate) struct WireBuffer {
    own: Vec<u8>,
    /// How many of its own bytes are written.
    written: usize,
    /// Shared bytes that are not written, each with the number of own bytes that go before it.
    shared: VecDeque<(usize, Bytes)>,
    /// How many bytes were shared since the last [`clear`](Self::clear).
    shared_length: usize,
    /// Whether bytes are shared and not copied.
    shares: bool,
}

impl WireBuffer {
    /// `shares` says that the stream can write many slices at once.
    pub(super) fn new(shares: bool) -> Self {
        Self { shares, ..Self::default() }
    }

    /// Its own bytes, to which others are appended.
    pub(crate) fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    pub(super) fn shares(&self) -> bool {
        self.shares
    }

    /// Appends bytes that need not be copied.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !self.shares || bytes.len() < COPIED {
            return self.own.extend_from_slice(&bytes);
        }
        self.shared_length += bytes.len();
        self.shared.push_back((self.own.len(), bytes));
    }

    /// How many bytes there are, with those that are written already.
    pub(super) fn len(&self) -> usize {
        self.own.len() + self.shared_length
    }

    pub(super) fn is_written(&self) -> bool {
        self.written == self.own.len() && self.shared.is_empty()
    }

    /// The bytes that are not written, if none of them are shared.
    #[inline]
    pub(super) fn single(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.own[self.written..])
    }

    /// The first of what is not written. Returns how many slices there are.
    pub(super) fn slices<'w>(&'w self, slices: &mut [IoSlice<'w>; SLICES]) -> usize {
        let (mut count, mut from) = (0, self.written);
        let mut put = |bytes: &'w [u8]| {
            if !bytes.is_empty()
                && let Some(slice) = slices.get_mut(count)
            {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
        };
        for (at, bytes) in self.shared.iter().take(SLICES) {
            put(&self.own[from..*at]);
            put(bytes);
            from = *at;
        }
        if self.shared.len() <= SLICES {
            put(&self.own[from..]);
        }
        count
    }

    /// `count` more bytes are written.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some((at, bytes)) = self.shared.front_mut() {
            let own = count.min(*at - self.written);
            self.written += own;
            count -= own;
            if self.written < *at {
                return;
            }
            let of_it = count.min(bytes.len());
            bytes.advance(of_it);
            count -= of_it;
            if !bytes.is_empty() {
                return;
            }
            self.shared.pop_front();
        }
        self.written += count;
    }

    /// Forgets what is written, which has to be all, and keeps room for `room` bytes.
    pub(super) fn clear(&mut self, room: usize) {
        debug_assert!(self.is_written());
        self.own.clear();
        self.own.shrink_to(room);
        (self.written, self.shared_length) = (0, 0);
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.own.capacity()
    }

    /// What is not written.
    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let (mut all, mut from) = (Vec::new(), self.written);
        for (at, bytes) in &self.shared {
            all.extend_from_slice(&self.own[from..*at]);
            all.extend_from_slice(bytes);
            from = *at;
        }
        all.extend_from_slice(&self.own[from..]);
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everything_is_written_in_order_whatever_each_write_takes(
            parts in proptest::collection::vec((any::<bool>(), prop_oneof![0..40usize, COPIED..COPIED + 40]), 0..30),
            takes in proptest::collection::vec(prop_oneof![1..30usize, 1..3 * COPIED, COPIED..9 * COPIED], 4..20),
            shares: bool,
        ) {
            let (mut wire, mut expected) = (WireBuffer::new(shares), Vec::new());
            for (at, (is_own, length)) in parts.into_iter().enumerate() {
                let part = vec![at as u8; length];
                expected.extend_from_slice(&part);
                match is_own {
                    true => wire.own().extend_from_slice(&part),
                    false => wire.push(part.into()),
                }
            }
            prop_assert_eq!(wire.len(), expected.len());
            prop_assert_eq!(wire.to_vec(), &expected[..]);
            let (mut written, mut takes) = (Vec::new(), takes.into_iter().cycle());
            while !wire.is_written() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = wire.slices(&mut slices);
                let offered = || slices[..count].iter().flat_map(|slice| slice.iter().copied());
                let length: usize = slices[..count].iter().map(|slice| slice.len()).sum();
                prop_assert!(count > 0 && slices[..count].iter().all(|slice| !slice.is_empty()));
                prop_assert!(wire.single().is_none_or(|single| single.len() == length));
                let taken = takes.next().unwrap().min(length);
                written.extend(offered().take(taken));
                wire.advance(taken);
            }
            prop_assert_eq!(written, expected);
            wire.clear(10);
            prop_assert_eq!((wire.len(), wire.is_written()), (0, true));
        }
    }
}
