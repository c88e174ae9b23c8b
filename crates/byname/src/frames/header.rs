//! A frame's header of sixteen bytes, and how a message of frames is split into them. Payloads are in
//! [`payload`](super::payload).

use super::{LONGEST, Violation};

/// The size of a header.
pub(crate) const HEADER: usize = 16;

/// The kinds of frames. Other kinds are ignored.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const NAME: u8 = 2;
    pub(crate) const CALL: u8 = 3;
    pub(crate) const REPLY: u8 = 4;
    pub(crate) const ERROR: u8 = 5;
    pub(crate) const CANCEL: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const ITEM: u8 = 8;
    pub(crate) const END: u8 = 9;
    pub(crate) const CREDIT: u8 = 10;
    pub(crate) const LOAD: u8 = 11;
    pub(crate) const SHAPE: u8 = 12;
}

pub(crate) mod flag {
    /// The message continues in another frame of the same kind and id.
    pub(crate) const MORE: u8 = 1;
    /// The payload begins with metadata.
    pub(crate) const METADATA: u8 = 2;
    /// CALL: positional arguments come before those by name.
    pub(crate) const MIXED: u8 = 4;
    /// CALL: the caller accepts a stream as the answer. The first credit follows the time-out.
    pub(crate) const STREAM: u8 = 8;
    /// CALL: the caller sends a stream of items.
    pub(crate) const ITEMS: u8 = 16;
    /// ITEM: the payload has several values, each as a part.
    pub(crate) const BATCH: u8 = 64;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// The number of a name, in NAME, CALL and SHAPE.
    pub(crate) number: u16,
    /// The id of a call; 0 in frames that concern the whole connection.
    pub(crate) id: u64,
}

impl FrameHeader {
    pub(crate) fn new(kind: u8, flags: u8, number: u16, id: u64) -> Self {
        Self { length: 0, kind, flags, number, id }
    }

    pub(crate) fn write(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.length.to_be_bytes());
        (bytes[4], bytes[5]) = (self.kind, self.flags);
        bytes[6..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..].copy_from_slice(&self.id.to_be_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8; HEADER]) -> Self {
        let [l0, l1, l2, l3, kind, flags, n0, n1, i0, i1, i2, i3, i4, i5, i6, i7] = *bytes;
        Self {
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            kind,
            flags,
            number: u16::from_be_bytes([n0, n1]),
            id: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Takes the first frame off `bytes`: its header and its payload. A frame never continues in the next WebSocket message.
pub(crate) fn next<'b>(bytes: &mut &'b [u8]) -> Result<Option<(FrameHeader, &'b [u8])>, Violation> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return match bytes.is_empty() {
            true => Ok(None),
            false => Err(Violation("a frame's header is cut off")),
        };
    };
    let header = FrameHeader::read(header);
    if header.length as usize > LONGEST {
        return Err(Violation("a frame is longer than 1 MiB; longer messages come in pieces"));
    }
    let Some((payload, rest)) = rest.split_at_checked(header.length as usize) else {
        return Err(Violation("a frame is cut off by the end of its WebSocket message"));
    };
    *bytes = rest;
    Ok(Some((header, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let header = FrameHeader { length: 3, ..FrameHeader::new(kind::CALL, flag::MIXED, 7, 1 << 40) };
        let bytes = [&header.write()[..], b"abc", &FrameHeader::new(kind::CANCEL, 0, 0, 2).write()].concat();
        let mut rest = bytes.as_slice();
        assert_eq!(next(&mut rest), Ok(Some((header, &b"abc"[..]))));
        assert_eq!(next(&mut rest), Ok(Some((FrameHeader::new(kind::CANCEL, 0, 0, 2), &b""[..]))));
        assert_eq!(next(&mut rest), Ok(None));
        for cut in 1..HEADER + 3 {
            assert!(next(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        let long = FrameHeader { length: LONGEST as u32 + 1, ..header };
        assert!(next(&mut &long.write()[..]).is_err());
    }
}
