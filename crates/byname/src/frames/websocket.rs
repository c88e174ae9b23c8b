//! The part of WebSocket (RFC 6455) that frames need: binary messages without extensions, pings, the close.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, Bytes, BytesMut};

use super::header::HEADER;
use super::wire_buffer::WireBuffer;
use super::{LONGEST, Violation};
use crate::clock_and_chance::UnpredictableNumbers;
use crate::untrusted_text::beginning;

/// The longest message that is accepted. The longest frame fits with its header.
const LONGEST_MESSAGE: usize = LONGEST + HEADER;

/// A message with at least this number of bytes is large.
const LARGE: usize = 16 << 10;

/// The longest payload of a control frame.
const LONGEST_CONTROL: usize = 125;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The end of the connection. A client masks what it sends, a server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebSocketRole {
    Client,
    Server,
}

/// A message of the peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WebSocketMessage {
    Binary(BytesMut),
    Ping(BytesMut),
    Pong,
    Close,
}

/// Reads messages. A state machine: bytes in, messages out.
#[derive(Debug)]
pub(crate) struct WebSocketReader {
    side: WebSocketRole,
    /// The received part of a message in fragments.
    fragments: Option<BytesMut>,
    /// The message that is not complete, if it is a large one.
    incomplete: Option<IncompleteMessage>,
}

/// A large message of which only the beginning has come.
#[derive(Debug)]
pub(super) struct IncompleteMessage {
    pub(super) mask: Option<[u8; 4]>,
    /// Where its payload is in the bytes that come.
    pub(super) payload: Range<usize>,
}

/// The header of one WebSocket frame.
struct WebSocketFrame {
    is_final: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    payload: Range<usize>,
}

impl WebSocketReader {
    pub(crate) fn new(side: WebSocketRole) -> Self {
        Self { side, fragments: None, incomplete: None }
    }

    /// Takes the next message off the front of `buffer`. `None` until it is complete.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<WebSocketMessage>, Violation> {
        loop {
            let Some(frame) = self.frame(buffer)? else {
                return Ok(None);
            };
            if buffer.len() < frame.payload.end {
                let is_whole = frame.opcode == BINARY && frame.is_final && self.fragments.is_none();
                if is_whole && frame.payload.len() >= LARGE {
                    let WebSocketFrame { mask, payload, .. } = frame;
                    self.incomplete = Some(IncompleteMessage { mask, payload });
                } else {
                    buffer.reserve(frame.payload.end - buffer.len());
                }
                return Ok(None);
            }
            buffer.advance(frame.payload.start);
            let mut payload = buffer.split_to(frame.payload.len());
            if let Some(key) = frame.mask {
                mask(&mut payload, key);
            }
            match (frame.opcode, frame.is_final, self.fragments.take()) {
                (CLOSE, ..) => {
                    check_close(&payload)?;
                    return Ok(Some(WebSocketMessage::Close));
                }
                (PING, _, fragments) => {
                    self.fragments = fragments;
                    return Ok(Some(WebSocketMessage::Ping(payload)));
                }
                (PONG, _, fragments) => {
                    self.fragments = fragments;
                    return Ok(Some(WebSocketMessage::Pong));
                }
                (BINARY, true, None) => return Ok(Some(WebSocketMessage::Binary(payload))),
                (BINARY, false, None) => self.fragments = Some(payload),
                (CONTINUATION, is_final, Some(mut whole)) => {
                    if whole.len() + payload.len() > LONGEST_MESSAGE {
                        return Err(Violation("a WebSocket message is too long"));
                    }
                    whole.extend_from_slice(&payload);
                    if is_final {
                        return Ok(Some(WebSocketMessage::Binary(whole)));
                    }
                    self.fragments = Some(whole);
                }
                (TEXT, ..) => return Err(Violation("a text message; frames must be in binary messages")),
                _ => return Err(Violation("fragments of WebSocket messages that don't belong together")),
            }
        }
    }

    /// If [`next`](Self::next) has returned nothing because of a large message, what is known of it. The buffer has no room for it yet.
    pub(super) fn take_incomplete(&mut self) -> Option<IncompleteMessage> {
        self.incomplete.take()
    }

    fn frame(&self, bytes: &[u8]) -> Result<Option<WebSocketFrame>, Violation> {
        let &[first, second, ..] = bytes else {
            return Ok(None);
        };
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(Violation("reserved bits of a WebSocket frame are set"));
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(Violation("an unknown opcode of WebSocket"));
        }
        if (second & 0x80 != 0) != (self.side == WebSocketRole::Server) {
            return Err(Violation("a frame of a client must be masked, a frame of a server must not"));
        }
        let (length, at) = match second & 0x7f {
            126 => match bytes.get(2..4) {
                Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
                _ => return Ok(None),
            },
            127 => match bytes.get(2..10) {
                Some(&[a, b, c, d, e, f, g, h]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
                _ => return Ok(None),
            },
            short => (short.into(), 2),
        };
        if length > LONGEST_MESSAGE as u64 {
            return Err(Violation("a WebSocket message is too long"));
        }
        let least = match second & 0x7f {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if length < least {
            return Err(Violation("a WebSocket length in more bytes than necessary"));
        }
        let length = length as usize;
        if opcode >= CLOSE && (!is_final || length > LONGEST_CONTROL) {
            return Err(Violation("a control frame of WebSocket is in fragments or too long"));
        }
        let (mask, at) = match (self.side, bytes.get(at..at + 4)) {
            (WebSocketRole::Client, _) => (None, at),
            (WebSocketRole::Server, Some(&[a, b, c, d])) => (Some([a, b, c, d]), at + 4),
            (WebSocketRole::Server, _) => return Ok(None),
        };
        Ok(Some(WebSocketFrame { is_final, opcode, mask, payload: at..at + length }))
    }
}

/// Checks the payload of a close frame: empty, or a code and a reason (RFC 6455, sections 5.5.1 and 7.4).
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    let (code, reason) = match payload {
        [] => return Ok(()),
        [_] => return Err(Violation("a close frame of one byte; a code has two bytes")),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
    };
    // IANA has registered the first of these ranges. 1004, 1005, 1006 and 1015 are never sent in a frame.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation("a close frame with a code that must not be sent"));
    }
    match str::from_utf8(reason) {
        Ok(_) => Ok(()),
        Err(_) => Err(Violation("a close frame whose reason is not UTF-8")),
    }
}

/// Writes messages.
#[derive(Debug)]
pub(crate) struct WebSocketWriter {
    /// Those of a client.
    keys: Option<MaskingKeys>,
}

/// The keys that a client masks its messages with. They cannot be predicted (RFC 6455, section 10.3).
#[derive(Debug)]
struct MaskingKeys {
    numbers: UnpredictableNumbers,
    /// How many numbers were taken. Each of them makes two keys.
    taken: u64,
    next: Option<u32>,
}

impl MaskingKeys {
    fn new() -> Self {
        Self { numbers: UnpredictableNumbers::new(), taken: 0, next: None }
    }

    fn take(&mut self) -> [u8; 4] {
        let key = self.next.take().unwrap_or_else(|| {
            self.taken += 1;
            let number = self.numbers.at(self.taken);
            self.next = Some((number >> 32) as u32);
            number as u32
        });
        key.to_ne_bytes()
    }
}

impl WebSocketWriter {
    pub(crate) fn new(side: WebSocketRole) -> Self {
        Self { keys: (side == WebSocketRole::Client).then(MaskingKeys::new) }
    }

    /// Appends one binary message of these parts.
    pub(crate) fn binary(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) {
        self.write(BINARY, parts, out);
    }

    pub(crate) fn ping(&mut self, out: &mut Vec<u8>) {
        self.write(PING, &[], out);
    }

    pub(crate) fn pong(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.write(PONG, &[payload], out);
    }

    /// `code` is one of RFC 6455, section 7.4.
    pub(crate) fn close(&mut self, code: u16, why: &str, out: &mut Vec<u8>) {
        let why = beginning(why, LONGEST_CONTROL - 2);
        self.write(CLOSE, &[&code.to_be_bytes(), why.as_bytes()], out);
    }

    /// Appends one binary message of these parts and of `rest`, which has `length_of_rest` bytes. It is written from where it is if `out`
    /// shares and if nothing is masked.
    pub(super) fn binary_sharing(
        &mut self,
        parts: &[&[u8]],
        rest: impl Iterator<Item = Bytes>,
        length_of_rest: usize,
        out: &mut WireBuffer,
    ) {
        let length = length_of_rest + parts.iter().map(|part| part.len()).sum::<usize>();
        let is_copied = self.keys.is_some() || !out.shares();
        let Some(key) = self.begin(BINARY, length, if is_copied { length } else { 0 }, out.own()) else {
            parts.iter().for_each(|part| out.own().extend_from_slice(part));
            return rest.for_each(|part| out.push(part));
        };
        let mut at = 0;
        for part in parts {
            at = append_masked(part, key, at, out.own());
        }
        for part in rest {
            at = append_masked(&part, key, at, out.own());
        }
    }

    #[inline]
    fn write(&mut self, opcode: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let Some(key) = self.begin(opcode, length, length, out) else {
            return parts.iter().for_each(|part| out.extend_from_slice(part));
        };
        let mut at = 0;
        for part in parts {
            at = append_masked(part, key, at, out);
        }
    }

    /// Appends the header of a message, and makes room for `room` bytes. Returns the key that masks the message.
    #[inline]
    fn begin(&mut self, opcode: u8, length: usize, room: usize, out: &mut Vec<u8>) -> Option<[u8; 4]> {
        let masked = if self.keys.is_some() { 0x80 } else { 0 };
        out.reserve(room + 14);
        out.push(0x80 | opcode);
        match length {
            0..126 => out.push(masked | length as u8),
            126..=0xffff => {
                out.push(masked | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let key = self.keys.as_mut()?.take();
        out.extend_from_slice(&key);
        Some(key)
    }
}

/// How many bytes are copied before they are masked, so that they are in the nearest cache.
const MASKED_AT_ONCE: usize = 4 << 10;

/// Appends a part of a message, masked. It begins at byte `at` of the message. Returns where it ends.
#[inline]
fn append_masked(part: &[u8], mut key: [u8; 4], at: usize, out: &mut Vec<u8>) -> usize {
    key.rotate_left(at % 4);
    // All but the last of these have a multiple of four bytes.
    for block in part.chunks(MASKED_AT_ONCE) {
        let start = out.len();
        out.extend_from_slice(block);
        mask(&mut out[start..], key);
    }
    at + part.len()
}

/// Masks a payload, or unmasks it.
pub(super) fn mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (at, byte) in rest.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

/// A new key for a handshake.
pub(crate) fn key() -> String {
    let numbers = UnpredictableNumbers::new();
    let bytes: Vec<u8> = (0..2).flat_map(|half| numbers.at(half).to_ne_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

/// The answer to a key: RFC 6455, section 4.2.2.
pub(crate) fn accept(key: &[u8]) -> String {
    const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(key);
    sha1.update(MAGIC);
    BASE64_STANDARD.encode(sha1.digest().bytes())
}

/// Whether this is a valid key of a handshake: sixteen bytes.
pub(crate) fn is_key(key: &[u8]) -> bool {
    BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(side: WebSocketRole, bytes: &[u8]) -> Result<Vec<WebSocketMessage>, Violation> {
        let (mut reader, mut buffer, mut messages) = (WebSocketReader::new(side), BytesMut::from(bytes), Vec::new());
        while let Some(message) = reader.next(&mut buffer)? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn the_handshake_of_the_specification() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_key(key().as_bytes()) && key() != key());
        assert!(!is_key(b"") && !is_key(b"AAAA") && !is_key(b"no base 64 at all"));
    }

    #[test]
    fn the_examples_of_the_specification() {
        assert!(read(WebSocketRole::Client, &[0x81, 0x05, b'H', b'e', b'l', b'l', b'o']).is_err(), "text");
        let masked = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(read(WebSocketRole::Server, &masked), Ok(vec![WebSocketMessage::Binary(b"Hello"[..].into())]));
        let fragments = [0x02, 0x03, b'H', b'e', b'l', 0x89, 0x01, b'x', 0x80, 0x02, b'l', b'o'];
        let read_over = vec![WebSocketMessage::Ping(b"x"[..].into()), WebSocketMessage::Binary(b"Hello"[..].into())];
        assert_eq!(read(WebSocketRole::Client, &fragments), Ok(read_over));
    }

    #[test]
    fn protocol_violations_are_rejected() {
        let wrong: [(&str, WebSocketRole, &[u8]); 12] = [
            ("unmasked from a client", WebSocketRole::Server, &[0x82, 0x00]),
            ("masked from a server", WebSocketRole::Client, &[0x82, 0x80, 0, 0, 0, 0]),
            ("a reserved bit", WebSocketRole::Client, &[0xc2, 0x00]),
            ("an unknown opcode", WebSocketRole::Client, &[0x83, 0x00]),
            ("text", WebSocketRole::Client, &[0x81, 0x00]),
            ("a ping in fragments", WebSocketRole::Client, &[0x09, 0x00]),
            ("a ping that is too long", WebSocketRole::Client, &[0x89, 126, 0, 126]),
            ("a continuation of nothing", WebSocketRole::Client, &[0x80, 0x00]),
            ("a message within another", WebSocketRole::Client, &[0x02, 0x00, 0x82, 0x00]),
            ("too long", WebSocketRole::Client, &[0x82, 127, 0, 0, 0, 0, 0, 0x11, 0, 0]),
            ("a length in two bytes too many", WebSocketRole::Client, &[0x82, 126, 0, 125]),
            ("a length in six bytes too many", WebSocketRole::Client, &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ];
        for (what, side, bytes) in wrong {
            assert!(read(side, bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn a_close_frame_is_empty_or_has_a_valid_code_and_text() {
        let close = |payload: &[u8]| read(WebSocketRole::Client, &[&[0x88, payload.len() as u8], payload].concat());
        assert_eq!(close(b""), Ok(vec![WebSocketMessage::Close]));
        for code in 0..=u16::MAX {
            let may_be_sent = matches!(
                code,
                1000 | 1001 | 1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 1011 | 1012 | 1013 | 1014 | 3000..=4999
            );
            assert_eq!(close(&code.to_be_bytes()).is_ok(), may_be_sent, "{code}");
        }
        assert_eq!(close(&[0x03, 0xe8, 0xc3, 0xbc]), Ok(vec![WebSocketMessage::Close]));
        for wrong in [&[0x03][..], &[0x03, 0xe8, 0xfc], &[0x03, 0xe8, 0xed, 0xa0, 0x80]] {
            assert!(close(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_are_read_as_they_were_written_however_they_are_split(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
            long in 0..70_000usize,
            cuts in proptest::collection::vec(1..40usize, 1..20),
            from_client in any::<bool>(),
        ) {
            let (from, to) = if from_client { (WebSocketRole::Client, WebSocketRole::Server) } else { (WebSocketRole::Server, WebSocketRole::Client) };
            let (mut writer, mut wire) = (WebSocketWriter::new(from), Vec::new());
            let long = vec![7; long];
            for message in messages.iter().chain([&long]) {
                let (a, b) = message.split_at(message.len() / 3);
                writer.binary(&[a, b], &mut wire);
                writer.ping(&mut wire);
            }
            let (mut reader, mut buffer, mut came) = (WebSocketReader::new(to), BytesMut::new(), Vec::new());
            let mut cuts = cuts.iter().cycle();
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at((cuts.next().unwrap() * 97).min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
                while let Some(message) = reader.next(&mut buffer).unwrap() {
                    if let WebSocketMessage::Binary(payload) = message {
                        came.push(payload.to_vec());
                    }
                }
            }
            prop_assert_eq!(came.len(), messages.len() + 1);
            prop_assert!(came.iter().eq(messages.iter().chain([&long])));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), server in any::<bool>()) {
            let _ = read(if server { WebSocketRole::Server } else { WebSocketRole::Client }, &bytes);
        }
    }
}
