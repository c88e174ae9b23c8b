//! Buffers of large messages, which the next large messages reuse: [`BufferPool`].

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::deadline::later;

/// The most buffers that are kept.
const MOST: usize = 4;

/// How long buffers are kept when no large message comes.
const KEPT: Duration = Duration::from_secs(1);

/// Messages whose memory is reused once nobody else holds them. Memory that the allocator returns to the kernel and takes
/// again costs a page fault for each 4 KiB, which costs more than reading it. A state machine.
#[derive(Debug)]
pub(super) struct BufferPool {
    /// The oldest first.
    kept: Vec<Bytes>,
    /// The most bytes that are kept.
    most: usize,
    /// A buffer was kept since the last [`tidy`](Self::tidy).
    is_used: bool,
    until: Option<Instant>,
}

impl BufferPool {
    pub(super) fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most, is_used: false, until: None }
    }

    /// An empty buffer, if there is one.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let free = self.kept.iter().position(Bytes::is_unique)?;
        let mut spare = self.kept.remove(free).try_into_mut().ok()?;
        // Otherwise the rest of the message would be moved to the front.
        spare.clear();
        Some(spare.into())
    }

    /// Keeps the buffer of a message.
    pub(super) fn keep(&mut self, message: &Bytes) {
        if message.len() > self.most {
            return;
        }
        let mut bytes = message.len() + self.kept.iter().map(Bytes::len).sum::<usize>();
        while bytes > self.most || self.kept.len() >= MOST {
            bytes -= self.kept.remove(0).len();
        }
        self.kept.push(message.clone());
        self.is_used = true;
    }

    /// Something large was used that is released together with what is kept here.
    pub(super) fn used(&mut self) {
        self.is_used = true;
    }

    /// Whether anything is to be released later.
    pub(super) fn is_in_use(&self) -> bool {
        self.is_used || self.until.is_some()
    }

    /// Whether [`tidy`](Self::tidy) has to say anew when to call it.
    #[inline]
    pub(super) fn is_new_in_use(&self) -> bool {
        self.is_used && self.until.is_none()
    }

    /// Frees buffers that were not used for a while. Returns when to call this again, if any are kept.
    pub(super) fn tidy(&mut self, now: Instant) -> Option<Instant> {
        if std::mem::take(&mut self.is_used) {
            self.until = Some(later(now, KEPT));
        }
        if self.until.is_some_and(|until| until <= now) {
            self.kept = Vec::new();
            self.until = None;
        }
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(spares: &mut BufferPool, length: usize) -> Bytes {
        let mut buffer = spares.take().unwrap_or_default();
        assert!(buffer.is_empty());
        buffer.resize(length, 7);
        let message = Bytes::from(buffer);
        spares.keep(&message);
        message
    }

    #[test]
    fn memory_is_reused_when_nobody_holds_it() {
        let mut spares = BufferPool::new(10_000);
        let first = message(&mut spares, 1000);
        let second = message(&mut spares, 1000);
        assert_ne!(first.as_ptr(), second.as_ptr(), "the first is still there");
        let at = first.as_ptr();
        drop(first);
        assert_eq!(message(&mut spares, 900).as_ptr(), at);
        assert!(second.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let mut spares = BufferPool::new(3000);
        for length in [1000, 1000, 1500, 4000] {
            drop(message(&mut spares, length));
            assert!(spares.kept.iter().map(Bytes::len).sum::<usize>() <= 3000);
        }
        let held: Vec<_> = (0..9).map(|_| message(&mut spares, 10)).collect();
        assert_eq!((held.len(), spares.kept.len()), (9, MOST));
    }

    #[test]
    fn buffers_unused_for_a_time_are_released() {
        let (mut spares, now) = (BufferPool::new(3000), Instant::now());
        assert_eq!(spares.tidy(now), None);
        drop(message(&mut spares, 1000));
        assert_eq!(spares.tidy(now), Some(now + KEPT));
        drop(message(&mut spares, 1000));
        assert_eq!(spares.tidy(now + KEPT / 2), Some(now + KEPT * 3 / 2));
        assert_eq!((spares.tidy(now + KEPT), spares.kept.len()), (Some(now + KEPT * 3 / 2), 1));
        assert_eq!((spares.tidy(now + KEPT * 3 / 2), spares.kept.len()), (None, 0));
    }
}
