//! Encoded items one behind the other, each behind its length in four bytes, as frames carry them: [`ItemParts`].

/// What an item costs beside its bytes, in whatever counts bytes: its header, in a frame of its own.
pub(crate) const OVERHEAD: usize = 16;

/// How many bytes the length of an item has.
pub(crate) const LENGTH: usize = 4;

/// At least one item, each behind its length. The lengths were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ItemParts<'b> {
    bytes: &'b [u8],
    count: usize,
    /// The bytes of the last one.
    last: usize,
}

impl<'b> ItemParts<'b> {
    /// `None` without an item, or if a length goes beyond the bytes.
    pub(crate) fn read(bytes: &'b [u8]) -> Option<Self> {
        let (mut rest, mut count, mut last) = (bytes, 0, 0);
        while !rest.is_empty() {
            let item = next(rest)?;
            rest = &rest[LENGTH + item.len()..];
            (count, last) = (count + 1, item.len());
        }
        (count > 0).then_some(Self { bytes, count, last })
    }

    /// Those before the first one of more than `largest` bytes, and whether there is such a one.
    pub(crate) fn up_to(self, largest: usize) -> (Option<Self>, bool) {
        if self.bytes.len() <= largest {
            return (Some(self), false);
        }
        let mut rest = self.bytes;
        while let Some(item) = next(rest) {
            if item.len() > largest {
                return (Self::read(&self.bytes[..self.bytes.len() - rest.len()]), true);
            }
            rest = &rest[LENGTH + item.len()..];
        }
        (Some(self), false)
    }

    pub(crate) fn bytes(self) -> &'b [u8] {
        self.bytes
    }

    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// The bytes of the last one.
    pub(crate) fn last(self) -> usize {
        self.last
    }

    /// What all of them cost, as [`OVERHEAD`] has it.
    pub(crate) fn cost(self) -> usize {
        cost(self.bytes.len(), self.count)
    }
}

/// The item at the beginning of these bytes, if it is there as a whole.
#[inline]
pub(crate) fn next(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..u32::from_be_bytes(*length) as usize)
}

/// Appends one item.
pub(crate) fn put(item: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(item.len() as u32).to_be_bytes());
    out.extend_from_slice(item);
}

/// What `count` items cost, as [`OVERHEAD`] has it, that take `bytes` bytes with their lengths.
pub(super) fn cost(bytes: usize, count: usize) -> usize {
    bytes - count * LENGTH + count * OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_are_cut_off_are_none() {
        let mut bytes = Vec::new();
        put(b"ab", &mut bytes);
        put(b"", &mut bytes);
        assert_eq!(ItemParts::read(&bytes).map(|parts| (parts.count(), parts.last())), Some((2, 0)));
        for cut in (0..bytes.len()).filter(|cut| *cut != LENGTH + 2) {
            assert_eq!(ItemParts::read(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(ItemParts::read(&[0xff; 9]), None);
    }
}
