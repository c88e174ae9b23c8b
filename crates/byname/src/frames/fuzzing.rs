//! The readers of frames, for [`crate::fuzzing`], and scripts of frames for both ends of a connection.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::header::{self, FrameHeader, flag, kind};
use super::payload::{self, Hello, load, stream};
use super::websocket::{WebSocketMessage, WebSocketReader, WebSocketRole, WebSocketWriter};
use super::{Assembled, MessageAssembly, PIECE, PieceInPlace, Violation};
#[cfg(test)]
use super::{WriteQueue, wire_buffer::WireBuffer};

/// The data: the side that reads (lowest bit), the number of cuts (upper four bits), the cuts, the bytes.
pub fn websocket(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let Some((cuts, bytes)) = rest.split_at_checked(usize::from(first >> 4)) else {
        return;
    };
    let (side, other) = if first & 1 == 0 {
        (WebSocketRole::Client, WebSocketRole::Server)
    } else {
        (WebSocketRole::Server, WebSocketRole::Client)
    };
    let whole = messages(side, [bytes]);
    assert_eq!(messages(side, bytes.chunks(1)), whole, "it is the same byte for byte");
    let mut later = bytes;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = later.split_at(usize::from(*cut).min(later.len()));
        pieces.push(piece);
        later = rest;
    }
    pieces.push(later);
    assert_eq!(messages(side, pieces), whole, "it is the same in pieces");
    let (mut writer, mut again) = (WebSocketWriter::new(other), Vec::new());
    for message in &whole.0 {
        match message {
            WebSocketMessage::Binary(payload) => writer.binary(&[payload], &mut again),
            WebSocketMessage::Ping(payload) => writer.pong(payload, &mut again),
            WebSocketMessage::Pong => writer.ping(&mut again),
            WebSocketMessage::Close => writer.close(1000, "", &mut again),
        }
    }
    let (again, violation) = messages(side, [&again[..]]);
    assert_eq!((again.len(), violation), (whole.0.len(), None));
    for (again, message) in again.into_iter().zip(whole.0) {
        match message {
            WebSocketMessage::Ping(_) => assert_eq!(again, WebSocketMessage::Pong),
            WebSocketMessage::Pong => assert_eq!(again, WebSocketMessage::Ping(BytesMut::new())),
            message => assert_eq!(again, message),
        }
    }
}

/// The result of reading bytes that come in pieces: the messages up to the close, and then the violation.
pub(crate) fn messages<'p>(
    side: WebSocketRole,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<WebSocketMessage>, Option<Violation>) {
    let (mut reader, mut buffer, mut messages) = (WebSocketReader::new(side), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match reader.next(&mut buffer) {
                Ok(None) => break,
                Ok(Some(message)) => messages.push(message),
                Err(violation) => return (messages, Some(violation)),
            }
            if messages.last() == Some(&WebSocketMessage::Close) {
                return (messages, None);
            }
        }
    }
    (messages, None)
}

/// A message of frames. A payload that was read is written back as the same bytes, or as the same value.
pub fn frames(data: &[u8]) {
    let mut rest = data;
    loop {
        let before = rest;
        match header::next(&mut rest) {
            Ok(Some((header, payload))) => {
                let taken = &before[..before.len() - rest.len()];
                assert_eq!(taken, [&header.write(), payload].concat());
                read_payload(&header, payload);
            }
            Ok(None) => return assert!(before.is_empty()),
            Err(_) => return assert_eq!(rest, before, "nothing is taken of what is none"),
        }
    }
}

fn read_payload(header: &FrameHeader, mut payload: &[u8]) {
    if header.kind == kind::HELLO
        && let Ok(hello) = Hello::read(payload)
    {
        assert_eq!(Hello::read(&hello.write()), Ok(hello));
    }
    if header.kind == kind::LOAD
        && let Ok(read) = load::read(payload)
    {
        assert_eq!(&load::frame(read)[header::HEADER..], payload);
    }
    if header.kind == kind::SHAPE
        && let Ok(read) = payload::read_shape(payload)
    {
        assert_eq!(read.0, payload);
    }
    if header.kind == kind::ITEM
        && header.has(flag::BATCH)
        && let Ok((metadata, items)) = stream::read_batch(header, payload)
    {
        assert!(payload.ends_with(items.bytes()) && (metadata.is_empty() || header.has(flag::METADATA)));
        assert!(items.count() > 0 && items.cost() > items.last());
    }
    if header.has(flag::METADATA) {
        let Ok(metadata) = payload::read_metadata(&mut payload) else {
            return;
        };
        let mut again = Vec::new();
        payload::write_metadata(&metadata, &mut again);
        let mut again = again.as_slice();
        assert_eq!(payload::read_metadata(&mut again), Ok(metadata));
        assert!(again.is_empty());
    }
    let before = payload;
    if let Ok(part) = payload::part(&mut payload) {
        let mut again = Vec::new();
        payload::put_part(part, &mut again);
        assert_eq!([&again, payload].concat(), before);
    }
}

/// The data: the window and the largest message, in units of 64 bytes, then three bytes for each step: kind, id and
/// length. The first step may begin the maximum number of messages.
pub fn assembly(data: &[u8]) {
    let Some((&[window, largest], steps)) = data.split_first_chunk() else {
        return;
    };
    let (window, largest) = (usize::from(window) * 64, usize::from(largest) * 64);
    let mut assembly = MessageAssembly::new(window, largest);
    let mut sent = HashMap::<(u8, u64), Vec<u8>>::new();
    for (at, &[what, id, length]) in steps.as_chunks::<3>().0.iter().enumerate() {
        let mut header = FrameHeader::new(3 + (what >> 1 & 1), what & flag::MORE, 0, id.into());
        let length = usize::from(length) << ((what >> 2 & 3) * 3);
        let (times, length) = match what >> 4 {
            0 => {
                assembly.forget(header.kind, header.id);
                sent.remove(&(header.kind, header.id));
                continue;
            }
            1 => {
                let is_wanted = |other: u64| other & u64::from(id) == 0;
                assembly.keep(is_wanted);
                sent.retain(|(_, id), _| is_wanted(*id));
                continue;
            }
            2 if at == 0 => (4095, length & 0xf),
            _ => (1, length),
        };
        for time in 0..times {
            header.id = u64::from(id) | time << 8;
            let payload = vec![at as u8; length];
            let key = (header.kind, header.id);
            assert_eq!(assembly.has_begun(&header), sent.contains_key(&key));
            let so_far = sent.entry(key).or_default();
            so_far.extend_from_slice(&payload);
            let all = so_far.len();
            let announced = FrameHeader { length: payload.len() as u32, ..header };
            let lent = if what & 0x80 != 0 { assembly.lend(&announced) } else { None };
            let taken = match lent {
                Some(mut buffer) => {
                    let from = buffer.len();
                    buffer.extend_from_slice(&payload);
                    assembly.take_in_place(&header, PieceInPlace { buffer, from })
                }
                None => assembly.take(&header, &payload),
            };
            match taken {
                Ok(Assembled::Part) => assert!(header.has(flag::MORE)),
                Ok(whole @ (Assembled::Whole(_) | Assembled::Joined(_))) => {
                    assert!(!header.has(flag::MORE) && all <= largest);
                    let whole = match &whole {
                        Assembled::Joined(whole) => whole,
                        Assembled::Whole(whole) => *whole,
                        _ => unreachable!("it is whole"),
                    };
                    assert_eq!(sent.remove(&key).as_deref(), Some(whole));
                }
                Ok(Assembled::TooLarge) => {
                    assert!(!header.has(flag::MORE) && all > largest);
                    sent.remove(&key);
                }
                Err(_) => {
                    let all: usize = sent.values().map(Vec::len).sum();
                    return assert!(all > window || sent.len() > 4096.max(window / PIECE), "who keeps to it is borne");
                }
            }
        }
        assert_eq!(assembly.is_waiting(), !sent.is_empty());
        let kept: usize = sent.values().map(Vec::len).filter(|length| *length <= largest).sum();
        assert!(kept <= window, "{kept} bytes are kept, of at most {window}");
    }
}

/// What a peer sends, in WebSocket messages: five bytes for each frame (kind, flags, number, id, length) and its
/// payload. The highest flag ends a message, the next flag repeats the payload. In their place the highest bit of the
/// kind is the flag BATCH. Bytes of the kind 255 are sent unchanged.
pub(crate) fn script(from: WebSocketRole, mut data: &[u8], id: impl Fn(u8) -> u64, wire: &mut Vec<u8>) {
    let (mut writer, mut message) = (WebSocketWriter::new(from), Vec::new());
    while let Some((&[kind, flags, number, whose, length], rest)) = data.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        data = rest;
        let payload = payload.repeat(if flags & 0x40 == 0 { 1 } else { 50 });
        if kind == u8::MAX {
            wire.extend_from_slice(&payload);
            continue;
        }
        let batch = if kind & 0x80 == 0 { 0 } else { flag::BATCH };
        let header = FrameHeader::new(kind & 0x7f, flags & 0x3f | batch, number.into(), id(whose));
        message.extend_from_slice(&FrameHeader { length: payload.len() as u32, ..header }.write());
        message.extend_from_slice(&payload);
        if flags & 0x80 != 0 || data.is_empty() {
            writer.binary(&[&message], wire);
            message.clear();
        }
    }
}

/// The frames of all messages in `wire`, as `side` reads them, up to the first invalid one.
pub(crate) fn headers(side: WebSocketRole, wire: &[u8]) -> (Vec<FrameHeader>, Option<Violation>) {
    let (messages, mut violation) = messages(side, [wire]);
    let mut headers = Vec::new();
    for message in messages {
        let WebSocketMessage::Binary(frames) = message else {
            continue;
        };
        let mut rest = &frames[..];
        loop {
            match header::next(&mut rest) {
                Ok(Some((header, _))) => headers.push(header),
                Ok(None) => break,
                Err(cut) => {
                    violation.get_or_insert(cut);
                    break;
                }
            }
        }
    }
    (headers, violation)
}

/// The frames that a queue sends next, with their payloads.
#[cfg(test)]
pub(crate) fn queued(queue: &mut WriteQueue) -> Vec<(FrameHeader, Vec<u8>)> {
    let mut wire = WireBuffer::default();
    queue.fill(&mut WebSocketWriter::new(WebSocketRole::Server), &mut wire);
    let (messages, violation) = messages(WebSocketRole::Client, [&wire.to_vec()[..]]);
    assert_eq!(violation, None);
    let mut frames = Vec::new();
    for message in messages {
        let WebSocketMessage::Binary(message) = message else { panic!("a queue has frames only") };
        let mut rest = &message[..];
        while let Some((header, payload)) = header::next(&mut rest).expect("frames are whole") {
            frames.push((header, payload.to_vec()));
        }
    }
    frames
}

/// A stream that delivers a script, with a limit of bytes for each read, and that keeps what is written.
pub(crate) struct Scripted {
    pub(crate) comes: Vec<u8>,
    pub(crate) at: usize,
    pub(crate) most: usize,
    /// How often nothing comes before the end.
    pub(crate) pauses: usize,
    pub(crate) written: Arc<Mutex<Vec<u8>>>,
}

impl Scripted {
    pub(crate) fn new(comes: Vec<u8>, most: usize) -> Self {
        Self { comes, at: 0, most, pauses: 8, written: Arc::default() }
    }
}

impl AsyncRead for Scripted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = &self.comes[self.at..];
        if left.is_empty() && self.pauses > 0 {
            self.pauses -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = &left[..self.most.min(left.len()).min(buf.remaining())];
        buf.put_slice(piece);
        self.at += piece.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..self.most.min(bytes.len())];
        self.written.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
