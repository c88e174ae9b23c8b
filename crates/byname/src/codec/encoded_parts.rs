//! Large [`Bytes`](super::Bytes) that are not copied: they share the memory of the message that they came in, and are a part of
//! their own in the value that goes out, [`EncodedParts`].
//!
//! serde passes only slices on. What shares memory is handed over beside it, by thread locals, from the functions here to the
//! `Deserialize` and `Serialize` of `Bytes` and back.

use std::cell::{Cell, RefCell};
use std::ptr;

use bytes::{Bytes, BytesMut};

/// Only longer bytes share memory. A copy of shorter ones costs little.
pub(crate) const COPIED: usize = 64 << 10;

/// An encoded value in parts, which follow each other without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedParts {
    parts: Vec<Bytes>,
    length: usize,
}

impl EncodedParts {
    /// An encoded value, with the bytes that are left out of it and the positions where they belong, in their order.
    pub(crate) fn new(encoded: Vec<u8>, left_out: LeftOut) -> Self {
        let encoded = match encoded.len() {
            // It may have room for a value that is not in parts.
            ..=COPIED => Bytes::copy_from_slice(&encoded),
            _ => Bytes::from(encoded),
        };
        let length = encoded.len() + total(&left_out);
        let mut parts = Vec::with_capacity(2 * left_out.len() + 1);
        let mut from = 0;
        for (at, bytes) in left_out {
            parts.push(encoded.slice(from..at));
            parts.push(bytes);
            from = at;
        }
        parts.push(encoded.slice(from..));
        parts.retain(|part| !part.is_empty());
        Self { parts, length }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The same value in one piece.
    pub(crate) fn join(mut self) -> Bytes {
        if self.parts.len() == 1 {
            return self.parts.remove(0);
        }
        let mut joined = BytesMut::with_capacity(self.length);
        self.parts.iter().for_each(|part| joined.extend_from_slice(part));
        joined.freeze()
    }

    /// Puts these bytes in front.
    pub(crate) fn prepend(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        self.parts.insert(0, bytes);
    }

    /// If it has one part, that part.
    pub(crate) fn single(&self) -> Option<&Bytes> {
        match self.parts.as_slice() {
            [single] => Some(single),
            _ => None,
        }
    }

    /// The bytes from `from` on, up to `most` of them.
    pub(crate) fn range(&self, from: usize, most: usize) -> impl Iterator<Item = Bytes> + '_ {
        let to = from.saturating_add(most);
        let mut begin = 0;
        self.parts.iter().filter_map(move |part| {
            let (start, end) = (begin, begin + part.len());
            begin = end;
            let (start, end) = (start.max(from) - start, end.min(to).saturating_sub(start));
            (start < end).then(|| part.slice(start..end))
        })
    }
}

impl From<Bytes> for EncodedParts {
    fn from(bytes: Bytes) -> Self {
        Self { length: bytes.len(), parts: vec![bytes] }
    }
}

/// Bytes that are left out of a buffer, with the positions where they belong, in their order.
pub(crate) type LeftOut = Vec<(usize, Bytes)>;

/// How many bytes are left out.
pub(crate) fn total(left_out: &LeftOut) -> usize {
    left_out.iter().map(|(_, bytes)| bytes.len()).sum()
}

thread_local! {
    static AROUND_SERDE: RefCell<AroundSerde> =
        const { RefCell::new(AroundSerde { decoded: None, serialized: None, left_out: Vec::new() }) };
    /// The buffer that is being encoded. It is apart from the rest because every value is encoded so.
    static BUFFER: Cell<LeavingBuffer> = const { Cell::new(LeavingBuffer { address: 0, count: 0 }) };
}

/// What goes around serde.
struct AroundSerde {
    /// The message that is being decoded.
    decoded: Option<Bytes>,
    /// The bytes that are being serialized.
    serialized: Option<Bytes>,
    /// What was left out of the buffer, behind what was left out of those whose encoding led to this one.
    left_out: LeftOut,
}

/// A buffer from which large bytes are left out.
#[derive(Clone, Copy)]
struct LeavingBuffer {
    /// The address of the `Vec`. 0 if there is none.
    address: usize,
    /// How many were left out.
    count: usize,
}

/// `None` if nothing can be handed over because the thread ends.
fn with<T>(access: impl FnOnce(&mut AroundSerde) -> T) -> Option<T> {
    AROUND_SERDE.try_with(|around| access(&mut around.borrow_mut())).ok()
}

/// Runs `decode`, which reads `message`. Large `Bytes` that make up at least half of `message` share its memory.
pub(crate) fn sharing<T>(message: &Bytes, decode: impl FnOnce() -> T) -> T {
    /// The message whose decoding led to this one.
    struct Outer(Option<Bytes>);

    impl Drop for Outer {
        fn drop(&mut self) {
            with(|around| around.decoded = self.0.take());
        }
    }

    if message.len() <= COPIED {
        return decode();
    }
    let _outer = Outer(with(|around| around.decoded.replace(message.clone())).flatten());
    decode()
}

/// The same bytes, in the memory of the message that is being decoded, if they are to share it.
pub(super) fn shared(bytes: &[u8]) -> Option<Bytes> {
    if bytes.len() <= COPIED {
        return None;
    }
    with(|around| {
        let message = around.decoded.as_ref()?;
        let (part, whole) = (bytes.as_ptr_range(), message.as_ptr_range());
        // The type may be decoding something else.
        let is_part = whole.start <= part.start && part.end <= whole.end;
        (is_part && bytes.len() >= message.len() / 2).then(|| message.slice_ref(bytes))
    })
    .flatten()
}

/// Runs `encode`, which appends to `out`. Large `Bytes` are left out and returned.
#[inline]
pub(crate) fn leaving_out<T>(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> T) -> (T, LeftOut) {
    let scope = LeavingScope { outer: BUFFER.replace(LeavingBuffer { address: address(out), count: 0 }) };
    let encoded = encode(out);
    let left_out = if BUFFER.get().count == 0 { Vec::new() } else { take_left_out() };
    drop(scope);
    (encoded, left_out)
}

/// Ends the work on a buffer, also when encoding panics.
struct LeavingScope {
    outer: LeavingBuffer,
}

impl Drop for LeavingScope {
    #[inline]
    fn drop(&mut self) {
        if BUFFER.get().count > 0 {
            drop(take_left_out());
        }
        BUFFER.set(self.outer);
    }
}

/// Takes what was left out of the buffer.
#[cold]
fn take_left_out() -> LeftOut {
    let buffer = BUFFER.get();
    BUFFER.set(LeavingBuffer { count: 0, ..buffer });
    with(|AroundSerde { left_out, .. }| left_out.split_off(left_out.len() - buffer.count)).unwrap_or_default()
}

/// Serializes `bytes` by `serialize`, which may [leave them out](leave_out).
pub(super) fn offering<T>(bytes: &Bytes, serialize: impl FnOnce() -> T) -> T {
    /// The writer that serializes them may be that of another crate.
    struct Offer;

    impl Drop for Offer {
        fn drop(&mut self) {
            with(|around| around.serialized = None);
        }
    }

    if bytes.len() <= COPIED || BUFFER.get().address == 0 {
        return serialize();
    }
    with(|around| around.serialized = Some(bytes.clone()));
    let _offer = Offer;
    serialize()
}

/// Leaves the bytes that are being serialized out at the end of `out`. Returns `false` if they have to be appended.
pub(super) fn leave_out(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let buffer = BUFFER.get();
    if bytes.len() <= COPIED || buffer.address != address(out) {
        return false;
    }
    let is_left_out = with(|AroundSerde { serialized, left_out, .. }| {
        let offered = serialized.take_if(|offered| ptr::eq::<[u8]>(&**offered, bytes));
        let is_left_out = offered.is_some();
        left_out.extend(offered.map(|offered| (out.len(), offered)));
        is_left_out
    });
    if is_left_out != Some(true) {
        return false;
    }
    BUFFER.set(LeavingBuffer { count: buffer.count + 1, ..buffer });
    true
}

/// What is in `out` behind `start` has moved from `before` bytes behind it to `after` bytes behind it.
#[cold]
pub(super) fn moved(out: &mut Vec<u8>, start: usize, before: usize, after: usize) {
    each_behind(out, start, |at| *at = *at - before + after);
}

/// Appends what was left out of `out` behind `start` where it belongs.
#[cold]
pub(super) fn put_back(out: &mut Vec<u8>, start: usize) {
    let mut behind = 0;
    each_behind(out, start, |_| behind += 1);
    if behind == 0 {
        return;
    }
    let buffer = BUFFER.get();
    BUFFER.set(LeavingBuffer { count: buffer.count - behind, ..buffer });
    let left_out = with(|AroundSerde { left_out, .. }| left_out.split_off(left_out.len() - behind)).unwrap_or_default();
    join(out, left_out);
}

/// Puts what was left out of `out` where it belongs.
pub(crate) fn join(out: &mut Vec<u8>, left_out: LeftOut) {
    for (at, bytes) in left_out.into_iter().rev() {
        out.splice(at..at, bytes);
    }
}

/// Changes the positions of what was left out of `out` behind `start`.
fn each_behind(out: &mut Vec<u8>, start: usize, mut change: impl FnMut(&mut usize)) {
    let buffer = BUFFER.get();
    if buffer.count == 0 || buffer.address != address(out) {
        return;
    }
    with(|AroundSerde { left_out, .. }| {
        let first = left_out.len() - buffer.count;
        left_out[first..].iter_mut().filter(|(at, _)| *at > start).for_each(|(at, _)| change(at));
    });
}

/// The address of a buffer, which tells it from others while it is encoded.
fn address(out: &mut Vec<u8>) -> usize {
    ptr::from_mut(out).addr()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::codec::{self, Codec};

    fn large(byte: u8) -> codec::Bytes {
        vec![byte; COPIED + 1].into()
    }

    /// How it is encoded in parts, and as a whole.
    fn encoded<T: Serialize>(value: &T) -> (EncodedParts, Vec<u8>) {
        let (mut out, mut whole) = (b"before".to_vec(), b"before".to_vec());
        let (encoded, left_out) = leaving_out(&mut out, |out| codec::encode(Codec::MessagePack, value, out));
        encoded.unwrap();
        codec::encode(Codec::MessagePack, value, &mut whole).unwrap();
        (EncodedParts::new(out, left_out), whole)
    }

    /// Bytes as a type of another crate serializes them.
    struct Foreign(codec::Bytes);

    impl Serialize for Foreign {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }

    #[test]
    fn large_bytes_are_parts_of_their_own_and_others_are_not() {
        #[derive(Serialize)]
        struct Picture {
            name: &'static str,
            pixels: codec::Bytes,
            small: codec::Bytes,
            more: Option<Vec<codec::Bytes>>,
        }
        let (first, second) = (large(1), large(2));
        let small = codec::Bytes::from(vec![3; COPIED]);
        let picture =
            Picture { name: "x", pixels: first.clone(), small, more: Some(vec![second.clone(), first.clone()]) };
        let (parts, whole) = encoded(&picture);
        let own = |bytes: &codec::Bytes| parts.parts.iter().filter(|part| part.as_ptr() == bytes.as_ptr()).count();
        assert_eq!((own(&first), own(&second), parts.parts.len()), (2, 1, 6));
        assert_eq!((parts.len(), parts.join()), (whole.len(), Bytes::from(whole)));

        let (parts, whole) = encoded(&Foreign(large(1)));
        assert_eq!((parts.single().is_some(), parts.join()), (true, Bytes::from(whole)), "another type");
    }

    #[test]
    fn positions_follow_a_map_whose_length_was_not_known() {
        #[derive(Serialize)]
        struct Flat {
            before: codec::Bytes,
            #[serde(flatten)]
            rest: std::collections::BTreeMap<String, codec::Bytes>,
        }
        for count in [0, 3, 20] {
            let rest = (0..count).map(|at| (at.to_string(), large(at))).collect();
            let (parts, whole) = encoded(&(Flat { before: large(99), rest }, large(98)));
            assert_eq!(parts.parts.len(), 2 * usize::from(count) + 4);
            assert!(parts.join() == whole, "{count}");
        }
    }

    #[test]
    fn bytes_as_a_key_are_the_same_error() {
        let map = std::collections::BTreeMap::from([(large(1), large(2))]);
        let mut out = Vec::new();
        let (encoded, left_out) = leaving_out(&mut out, |out| codec::encode(Codec::MessagePack, &map, out));
        assert_eq!((encoded, left_out), (codec::encode(Codec::MessagePack, &map, &mut Vec::new()), Vec::new()));
        assert_eq!(BUFFER.get().address, 0);
    }

    #[test]
    fn only_the_buffer_that_asks_leaves_bytes_out() {
        struct Encodes;

        impl Serialize for Encodes {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut inner = Vec::new();
                codec::encode(Codec::MessagePack, &large(7), &mut inner).unwrap();
                let (_, left_out) =
                    leaving_out(&mut Vec::new(), |out| codec::encode(Codec::MessagePack, &large(7), out));
                assert_eq!((inner.len(), left_out.len()), (COPIED + 6, 1));
                large(8).serialize(serializer)
            }
        }

        struct Panics;

        impl Serialize for Panics {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let _ = large(6).serialize(serializer);
                panic!("as a type may");
            }
        }

        let (parts, whole) = encoded(&[large(5), large(4)].map(|bytes| (bytes, Encodes)));
        assert!(parts.parts.len() == 8 && parts.join() == whole);
        let panics = || leaving_out(&mut Vec::new(), |out| codec::encode(Codec::MessagePack, &Panics, out));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!((BUFFER.get().address, BUFFER.get().count), (0, 0));
        let left = with(|around| (around.left_out.len(), around.serialized.is_some()));
        assert_eq!(left, Some((0, false)));
    }

    #[derive(Debug, Deserialize)]
    struct Halves {
        a: codec::Bytes,
        b: codec::Bytes,
    }

    #[test]
    fn large_bytes_share_the_message_if_they_are_half_of_it() {
        let halves = |a: usize, b: usize| {
            let mut out = Vec::new();
            let value = std::collections::BTreeMap::from([("a", vec![1; a]), ("b", vec![2; b])]);
            let value: std::collections::BTreeMap<_, codec::Bytes> =
                value.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
            codec::encode(Codec::MessagePack, &value, &mut out).unwrap();
            let message = Bytes::from(out);
            let read: Halves = codec::decode_sharing(Codec::MessagePack, &message).unwrap();
            assert!(read.a.iter().all(|byte| *byte == 1) && read.b.iter().all(|byte| *byte == 2));
            assert_eq!((read.a.len(), read.b.len()), (a, b));
            let is_shared = |bytes: &codec::Bytes| message.as_ptr_range().contains(&bytes.as_ptr());
            (is_shared(&read.a), is_shared(&read.b))
        };
        assert_eq!(halves(3 * COPIED, 2 * COPIED), (true, false));
        assert_eq!(halves(COPIED, 1), (false, false), "it is not large");
        assert_eq!(halves(COPIED + 1, 1), (true, false));
        let alone: codec::Bytes = codec::decode(Codec::MessagePack, &encoded(&large(1)).1[6..]).unwrap();
        assert!(alone == large(1), "without a message");
    }

    #[test]
    fn a_type_that_decodes_another_message_meanwhile_shares_neither_by_mistake() {
        struct Other(codec::Bytes);

        impl<'de> Deserialize<'de> for Other {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let other = Bytes::from(encoded(&large(9)).1.split_off(6));
                let shared: codec::Bytes = codec::decode_sharing(Codec::MessagePack, &other).unwrap();
                assert!(other.as_ptr_range().contains(&shared.as_ptr()));
                let copied: codec::Bytes = codec::decode(Codec::MessagePack, &other).unwrap();
                assert!(!other.as_ptr_range().contains(&copied.as_ptr()));
                codec::Bytes::deserialize(deserializer).map(Self)
            }
        }

        let message = Bytes::from(encoded(&large(3)).1.split_off(6));
        let Other(read) = codec::decode_sharing(Codec::MessagePack, &message).unwrap();
        assert!(message.as_ptr_range().contains(&read.as_ptr()) && read == large(3));
    }

    proptest! {
        #[test]
        fn a_range_is_that_of_the_whole(
            lengths in proptest::collection::vec(0..20usize, 1..6),
            from in 0..60usize,
            most in 0..60usize,
        ) {
            let mut parts = EncodedParts { parts: Vec::new(), length: 0 };
            for (at, length) in lengths.into_iter().enumerate() {
                parts.prepend(vec![at as u8; length].into());
            }
            let ranged: Vec<u8> = parts.range(from, most).flatten().collect();
            let whole = parts.join();
            let rest = &whole[from.min(whole.len())..];
            prop_assert_eq!(&ranged, &rest[..most.min(rest.len())]);
        }
    }
}
