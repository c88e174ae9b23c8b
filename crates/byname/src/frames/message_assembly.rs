//! Messages that come in pieces: [`MessageAssembly`].

use std::collections::HashMap;

use bytes::Bytes;
use tokio::time::Instant;

use super::buffer_pool::BufferPool;
use super::header::{FrameHeader, flag};
use super::{PIECE, Violation};

/// The most unfinished messages, unless the window has room for more pieces of [`PIECE`] bytes. A message without bytes
/// uses memory too.
const UNFINISHED: usize = 4096;

/// The received pieces of messages that are not complete. A state machine.
#[derive(Debug)]
pub(crate) struct MessageAssembly {
    /// By kind and id.
    parts: HashMap<(u8, u64), MessagePart>,
    kept: usize,
    /// The most bytes that are kept, of all messages together.
    window: usize,
    /// The largest message.
    largest: usize,
    /// A little more than the length of the last complete message. The next message gets this much room at once.
    likely: usize,
    spares: BufferPool,
}

#[derive(Debug)]
struct MessagePart {
    state: AssemblyState,
    /// Whether nothing of it came since the last [`refuse_still`](Assembly::refuse_still).
    is_still: bool,
}

#[derive(Debug)]
enum AssemblyState {
    Kept(Vec<u8>),
    /// This many bytes of it are [lent](MessageAssembly::lend).
    Lent(usize),
    /// Nothing of it is kept. Its sender is told at its end.
    TooLarge,
    /// Its sender was told. The rest of it is ignored.
    Refused,
}

/// A piece of a large message that was read into the buffer of the message, where it begins at `from`.
#[derive(Debug)]
pub(crate) struct PieceInPlace {
    pub(super) buffer: Vec<u8>,
    pub(super) from: usize,
}

/// The payload of a frame.
enum ReceivedPiece<'p> {
    Elsewhere(&'p [u8]),
    InPlace(PieceInPlace),
}

impl ReceivedPiece<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Elsewhere(payload) => payload.len(),
            Self::InPlace(PieceInPlace { buffer, from }) => buffer.len() - from,
        }
    }
}

/// What a frame completes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Assembled<'p> {
    /// A whole message in one piece.
    Whole(&'p [u8]),
    /// A whole message that came in several pieces.
    Joined(Bytes),
    /// Nothing yet, or a message that was refused before.
    Part,
    /// A message that is larger than allowed. Nothing of it was kept.
    TooLarge,
}

impl MessageAssembly {
    pub(crate) fn new(window: usize, largest: usize) -> Self {
        Self { parts: HashMap::new(), kept: 0, window, largest, likely: 0, spares: BufferPool::new(largest) }
    }

    /// The length of the longest message that is accepted.
    pub(crate) fn largest(&self) -> usize {
        self.largest
    }

    /// Whether a frame continues a message.
    pub(crate) fn has_begun(&self, header: &FrameHeader) -> bool {
        !self.parts.is_empty() && self.parts.contains_key(&(header.kind, header.id))
    }

    /// Whether the rest of some message is expected.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.parts.is_empty() && self.parts.values().any(|part| !matches!(part.state, AssemblyState::Refused))
    }

    /// Lends the buffer of the message of which this frame is a piece, so that the piece can be read into it and
    /// [taken](Self::take_in_place). `None` if it is not a piece, or if nothing of its message is kept.
    pub(super) fn lend(&mut self, header: &FrameHeader) -> Option<Vec<u8>> {
        let length = header.length as usize;
        let likely = self.likely_now();
        match self.parts.get_mut(&(header.kind, header.id)) {
            Some(MessagePart { state, .. }) => match state {
                AssemblyState::Kept(bytes) if bytes.len() + length <= self.largest => {
                    let lent = AssemblyState::Lent(bytes.len());
                    match std::mem::replace(state, lent) {
                        AssemblyState::Kept(bytes) => Some(bytes),
                        _ => None,
                    }
                }
                _ => None,
            },
            None if header.has(flag::MORE) && length <= self.largest => {
                let mut bytes = self.spares.take().unwrap_or_default();
                bytes.reserve_exact(likely.max(length));
                Some(bytes)
            }
            None => None,
        }
    }

    /// How much room the next message that begins gets at once. The room for all messages together stays within the window.
    fn likely_now(&self) -> usize {
        if (self.parts.len() + 1).saturating_mul(self.likely) <= self.window { self.likely } else { 0 }
    }

    pub(crate) fn take<'p>(&mut self, header: &FrameHeader, payload: &'p [u8]) -> Result<Assembled<'p>, Violation> {
        self.take_piece(header, ReceivedPiece::Elsewhere(payload))
    }

    /// As [`take`](Self::take), of a piece that was read into the buffer that was lent for it.
    pub(crate) fn take_in_place(
        &mut self,
        header: &FrameHeader,
        piece: PieceInPlace,
    ) -> Result<Assembled<'static>, Violation> {
        self.take_piece(header, ReceivedPiece::InPlace(piece))
    }

    fn take_piece<'p>(&mut self, header: &FrameHeader, payload: ReceivedPiece<'p>) -> Result<Assembled<'p>, Violation> {
        let key = (header.kind, header.id);
        let more = header.has(flag::MORE);
        let begins = !self.has_begun(header);
        if begins
            && !more
            && let ReceivedPiece::Elsewhere(payload) = payload
        {
            return Ok(match payload.len() > self.largest {
                true => Assembled::TooLarge,
                false => Assembled::Whole(payload),
            });
        }
        if begins && self.parts.len() >= UNFINISHED.max(self.window / PIECE) {
            return Err(Violation("more unfinished messages than 4096"));
        }
        let (likely, length) = (self.likely_now(), payload.len());
        let part = self
            .parts
            .entry(key)
            .or_insert_with(|| MessagePart { state: AssemblyState::Kept(Vec::new()), is_still: false });
        // A piece without bytes is no progress.
        part.is_still &= length == 0;
        let so_far = part.state.kept();
        match (&mut part.state, payload) {
            (AssemblyState::Kept(_) | AssemblyState::Lent(_), _) if so_far + length > self.largest => {
                self.kept -= so_far;
                part.state = AssemblyState::TooLarge;
            }
            (AssemblyState::Kept(bytes), ReceivedPiece::Elsewhere(payload)) => {
                self.kept += length;
                if bytes.is_empty() && likely > length {
                    *bytes = self.spares.take().unwrap_or_default();
                    bytes.reserve_exact(likely);
                }
                bytes.extend_from_slice(payload);
            }
            (AssemblyState::Kept(_) | AssemblyState::Lent(_), ReceivedPiece::InPlace(piece)) => {
                self.kept += length;
                part.state = AssemblyState::Kept(piece.buffer);
            }
            // The piece whose buffer was lent comes next.
            (AssemblyState::Lent(_), ReceivedPiece::Elsewhere(_))
            | (AssemblyState::TooLarge | AssemblyState::Refused, _) => {}
        }
        if self.kept > self.window {
            return Err(Violation("more bytes of unfinished messages than the window allows"));
        }
        if more {
            return Ok(Assembled::Part);
        }
        Ok(match self.parts.remove(&key).map(|part| part.state) {
            Some(AssemblyState::Kept(whole)) => {
                self.kept -= whole.len();
                self.likely = whole.len() + whole.len() / 16;
                // A value that shares the message holds the whole buffer, which may have had room for a longer message.
                let fitting = (whole.len() < whole.capacity() / 2).then(|| Bytes::copy_from_slice(&whole));
                let whole = Bytes::from(whole);
                self.spares.keep(&whole);
                Assembled::Joined(fitting.unwrap_or(whole))
            }
            Some(AssemblyState::TooLarge) => Assembled::TooLarge,
            Some(AssemblyState::Lent(_) | AssemblyState::Refused) | None => Assembled::Part,
        })
    }

    /// The rest of the message that this frame begins is ignored. Its sender was told.
    pub(crate) fn refuse_rest(&mut self, header: &FrameHeader) -> Result<(), Violation> {
        self.take(header, &[])?;
        if let Some(part) = self.parts.get_mut(&(header.kind, header.id)) {
            part.state = AssemblyState::Refused;
        }
        Ok(())
    }

    /// Whether [`tidy`](Self::tidy) has to say anew when to call it.
    #[inline]
    pub(crate) fn is_newly_untidy(&self) -> bool {
        self.spares.is_new_in_use()
    }

    /// Frees memory that was not used for a while. Returns when to call this again, if some is kept.
    pub(crate) fn tidy(&mut self, now: Instant) -> Option<Instant> {
        self.spares.tidy(now)
    }

    /// Refuses the messages of which nothing came since the last call of this. Returns their kinds and ids. `is_reading` says
    /// that a part of the piece has come whose buffer is lent.
    pub(crate) fn refuse_still(&mut self, is_reading: bool) -> Vec<(u8, u64)> {
        let mut refused = Vec::new();
        for (key, part) in &mut self.parts {
            if is_reading && matches!(part.state, AssemblyState::Lent(_)) {
                continue;
            }
            if matches!(part.state, AssemblyState::Refused) || !std::mem::replace(&mut part.is_still, true) {
                continue;
            }
            self.kept -= part.state.kept();
            part.state = AssemblyState::Refused;
            refused.push(*key);
        }
        refused
    }

    /// Drops the messages of all ids that are not `wanted`.
    pub(crate) fn keep(&mut self, mut wanted: impl FnMut(u64) -> bool) {
        let kept = &mut self.kept;
        self.parts.retain(|(_, id), part| {
            let is_wanted = wanted(*id);
            if !is_wanted {
                *kept -= part.state.kept();
            }
            is_wanted
        });
    }

    /// Drops a message that won't be completed.
    pub(crate) fn forget(&mut self, kind: u8, id: u64) {
        if let Some(part) = self.parts.remove(&(kind, id)) {
            self.kept -= part.state.kept();
        }
    }
}

impl AssemblyState {
    /// How many bytes are kept of it.
    fn kept(&self) -> usize {
        match self {
            Self::Kept(bytes) => bytes.len(),
            Self::Lent(length) => *length,
            Self::TooLarge | Self::Refused => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::header::kind;

    fn piece(id: u64, more: bool) -> FrameHeader {
        FrameHeader::new(kind::CALL, if more { flag::MORE } else { 0 }, 0, id)
    }

    fn assembled(bytes: &'static [u8]) -> Assembled<'static> {
        Assembled::Joined(Bytes::from_static(bytes))
    }

    #[test]
    fn pieces_of_several_messages_may_interleave() {
        let mut assembly = MessageAssembly::new(100, 100);
        assert_eq!(assembly.take(&piece(1, true), b"ab"), Ok(Assembled::Part));
        assert_eq!(assembly.take(&piece(2, true), b"xy"), Ok(Assembled::Part));
        assert_eq!(assembly.take(&piece(3, false), b"whole"), Ok(Assembled::Whole(b"whole")));
        assert_eq!(assembly.take(&piece(1, false), b"c"), Ok(assembled(b"abc")));
        assert_eq!(assembly.take(&piece(2, false), b""), Ok(assembled(b"xy")));
        assert_eq!(assembly.kept, 0);
    }

    #[test]
    fn a_message_over_the_limit_is_reported_at_its_end_and_not_stored() {
        let mut assembly = MessageAssembly::new(100, 3);
        assert_eq!(assembly.take(&piece(1, true), b"abc"), Ok(Assembled::Part));
        for _ in 0..100 {
            assert_eq!(assembly.take(&piece(1, true), b"defg"), Ok(Assembled::Part));
            assert_eq!(assembly.kept, 0);
        }
        assert_eq!(assembly.take(&piece(1, false), b"h"), Ok(Assembled::TooLarge));
        assert_eq!(assembly.take(&piece(1, false), b"new"), Ok(Assembled::Whole(b"new")));
        assert_eq!(assembly.take(&piece(1, false), b"four"), Ok(Assembled::TooLarge));
    }

    #[test]
    fn a_stalled_message_is_rejected_and_the_rest_of_it_ignored() {
        let mut assembly = MessageAssembly::new(100, 100);
        for id in [1, 2] {
            assert_eq!(assembly.take(&piece(id, true), b"ab"), Ok(Assembled::Part));
        }
        assert!(assembly.refuse_still(false).is_empty(), "both have just come");
        assert_eq!(assembly.take(&piece(1, true), b""), Ok(Assembled::Part));
        assert_eq!(assembly.take(&piece(2, true), b"c"), Ok(Assembled::Part));
        assert_eq!(assembly.refuse_still(false), [(kind::CALL, 1)]);
        assert_eq!((assembly.kept, assembly.is_waiting()), (3, true));
        assert_eq!(assembly.take(&piece(2, false), b"d"), Ok(assembled(b"abcd")));
        assert!(!assembly.is_waiting() && assembly.refuse_still(false).is_empty());
        assert_eq!(assembly.take(&piece(1, false), b"c"), Ok(Assembled::Part));
        assert!(!assembly.has_begun(&piece(1, false)));
    }

    #[test]
    fn memory_is_reserved_as_the_last_message_took_and_within_the_window() {
        let mut assembly = MessageAssembly::new(3000, 3000);
        let room = |assembly: &MessageAssembly, id| match &assembly.parts[&(kind::CALL, id)].state {
            AssemblyState::Kept(bytes) => bytes.capacity(),
            other => panic!("{other:?}"),
        };
        assert_eq!(assembly.take(&piece(1, true), &[1; 900]), Ok(Assembled::Part));
        assert_eq!(assembly.take(&piece(1, false), &[1; 60]), Ok(assembled(&[1; 960])));
        for id in 2..=4 {
            assert_eq!(assembly.take(&piece(id, true), &[1; 9]), Ok(Assembled::Part));
        }
        assert!([2, 3].iter().all(|id| room(&assembly, *id) >= 1020));
        assert!(room(&assembly, 4) < 100, "it is one too many");
    }

    #[test]
    fn a_message_holds_no_more_than_twice_its_length() {
        let mut assembly = MessageAssembly::new(3000, 3000);
        for length in [900, 300, 900, 440, 900, 470] {
            assert_eq!(assembly.take(&piece(1, true), &vec![1; length]), Ok(Assembled::Part));
            let Ok(Assembled::Joined(whole)) = assembly.take(&piece(1, false), &[2]) else { panic!("it is whole") };
            assert_eq!((whole.len(), whole.last()), (length + 1, Some(&2)));
            assembly.spares = BufferPool::new(3000);
            let buffer = whole.try_into_mut().expect("it is not shared");
            assert!(buffer.capacity() <= 2 * buffer.len(), "{} for {}", buffer.capacity(), buffer.len());
            // The next message is put into a buffer of this size.
            let spare = Bytes::from(vec![0; 960]);
            assembly.spares.keep(&spare);
        }
    }

    #[test]
    fn memory_stays_within_the_window_and_forgotten_messages_free_it() {
        let mut assembly = MessageAssembly::new(4, 4);
        assert_eq!(assembly.take(&piece(1, true), b"abc"), Ok(Assembled::Part));
        assembly.forget(kind::CALL, 1);
        assert_eq!(assembly.take(&piece(2, true), b"abcd"), Ok(Assembled::Part));
        assert!(assembly.take(&piece(3, true), b"e").is_err());
    }
}
