//! LOAD: how busy the server is.

use crate::frames::Violation;
use crate::frames::header::{FrameHeader, HEADER, kind};
use crate::wire::instance_and_load::ReportedLoad;

/// The length of the payload.
const PAYLOAD: usize = 8;

/// The length of the whole frame.
pub(crate) const LOAD_FRAME: usize = HEADER + PAYLOAD;

/// LOAD, as a whole frame.
pub(crate) fn frame(load: ReportedLoad) -> [u8; LOAD_FRAME] {
    let header = FrameHeader { length: PAYLOAD as u32, ..FrameHeader::new(kind::LOAD, 0, 0, 0) };
    let mut frame = [0; LOAD_FRAME];
    frame[..HEADER].copy_from_slice(&header.write());
    frame[HEADER..HEADER + 4].copy_from_slice(&load.calls.to_be_bytes());
    frame[HEADER + 4..].copy_from_slice(&load.queue_delay.to_be_bytes());
    frame
}

pub(crate) fn read(payload: &[u8]) -> Result<ReportedLoad, Violation> {
    let &[c0, c1, c2, c3, d0, d1, d2, d3] = payload else {
        return Err(Violation("a LOAD whose payload has not 8 bytes"));
    };
    Ok(ReportedLoad { calls: u32::from_be_bytes([c0, c1, c2, c3]), queue_delay: u32::from_be_bytes([d0, d1, d2, d3]) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frames::header;

    proptest! {
        #[test]
        fn a_load_is_read_as_it_was_written(calls: u32, queue_delay: u32) {
            let load = ReportedLoad { calls, queue_delay };
            let frame = frame(load);
            let mut rest = &frame[..];
            let (header, payload) = header::next(&mut rest).unwrap().expect("a frame");
            prop_assert_eq!((header.kind, header.flags, header.number, header.id), (kind::LOAD, 0, 0, 0));
            prop_assert_eq!((read(payload), rest), (Ok(load), &b""[..]));
        }
    }

    #[test]
    fn a_load_of_another_length_is_malformed() {
        for length in (0..20).filter(|length| *length != PAYLOAD) {
            assert!(read(&vec![0; length]).is_err(), "{length}");
        }
    }
}
