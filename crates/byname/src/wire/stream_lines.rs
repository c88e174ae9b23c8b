//! Streams over HTTP as lines: one JSON object a line (NDJSON), or server-sent events.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use super::error_object::WireError;
use crate::codec::Codec;
use crate::outcome::Failure;
use crate::outcome::items::EncodedItems;

/// The content type of NDJSON.
pub(crate) const NDJSON: &str = "application/x-ndjson";

const EVENTS: &str = "text/event-stream";

/// The format of a stream in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFormat {
    /// `{"item": …}`, and at the end `{"end": …}` or `{"err": ERROR}`.
    Lines,
    /// Items are messages; `end` and `err` are events of these names.
    Events,
}

impl StreamFormat {
    /// The format that the caller asks for.
    pub(crate) fn asked_for(headers: &HeaderMap) -> Self {
        // Comparing the few names takes less time than a look-up.
        if headers.keys().all(|name| *name != ACCEPT) {
            return Self::Lines;
        }
        let accepts = headers.get_all(ACCEPT).into_iter().filter_map(|accept| accept.to_str().ok());
        let events = |one: &str| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(EVENTS);
        if accepts.flat_map(|accept| accept.split(',')).any(events) { Self::Events } else { Self::Lines }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Lines => NDJSON,
            Self::Events => EVENTS,
        }
    }

    /// An item. It is JSON without line breaks.
    pub(crate) fn item(self, json: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Lines => put(out, [b"{\"item\":", json, b"}\n"]),
            Self::Events => put(out, [b"data: ", json, b"\n\n"]),
        }
    }

    /// The end, with the number of items.
    pub(crate) fn end(self, count: u64, out: &mut Vec<u8>) {
        let line = match self {
            Self::Lines => format!("{{\"end\":{count}}}\n"),
            Self::Events => format!("event: end\ndata: {count}\n\n"),
        };
        out.extend_from_slice(line.as_bytes());
    }

    /// The end by an error.
    pub(crate) fn failure(self, failure: Failure, out: &mut Vec<u8>) {
        let error = WireError::from(failure).json();
        match self {
            Self::Lines => put(out, [b"{\"err\":", error.as_slice(), b"}\n"]),
            Self::Events => put(out, [b"event: err\ndata: ", error.as_slice(), b"\n\n"]),
        }
    }

    /// An empty line or comment, so that proxies see that the connection is in use.
    pub(crate) fn beat(self) -> &'static [u8] {
        match self {
            Self::Lines => b"\n",
            Self::Events => b":\n\n",
        }
    }
}

fn put(out: &mut Vec<u8>, parts: [&[u8]; 3]) {
    parts.into_iter().for_each(|part| out.extend_from_slice(part));
}

/// Whether a body is NDJSON.
pub(crate) fn is(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    [NDJSON, "application/ndjson", "application/jsonl"].iter().any(|known| essence.eq_ignore_ascii_case(known))
}

/// The most memory that is kept after a long line was taken.
const KEPT: usize = 256 << 10;

/// Splits a body into lines.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    rest: BytesMut,
    /// The largest capacity that `rest` had. A line that was taken shares the memory, so the current capacity does not show
    /// it.
    most_room: usize,
    /// How many bytes of the rest are known to have no line break.
    looked: usize,
    /// The longest line.
    longest: usize,
}

/// A line is longer than the limit.
#[derive(Debug)]
pub(crate) struct LineTooLong;

impl LineSplitter {
    pub(crate) fn new(longest: usize) -> Self {
        Self { rest: BytesMut::new(), most_room: 0, looked: 0, longest }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        self.most_room = self.most_room.max(self.rest.capacity());
    }

    /// The next complete line that is not empty, without its line break.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        loop {
            let Some(at) = memchr::memchr(b'\n', &self.rest[self.looked..]) else {
                self.looked = self.rest.len();
                self.release();
                return if self.looked > self.longest { Err(LineTooLong) } else { Ok(None) };
            };
            let end = self.looked + at + 1;
            if end > self.longest.saturating_add(2) {
                return Err(LineTooLong);
            }
            let line = self.take(end);
            let text = line.trim_ascii();
            if !text.is_empty() {
                return Ok(Some(line.slice_ref(text)));
            }
        }
    }

    /// The parts of the next lines that `find` finds, all in the memory of these lines. `find` gets the text and the start of a
    /// line in it. It returns the part and the start of the next line, or `None` for a line at which to stop. An empty part is
    /// left out. It also stops at a line that is too long, and returns `None` if there are no parts.
    pub(super) fn parts(
        &mut self,
        find: impl Fn(&[u8], usize) -> Option<(Range<usize>, usize)>,
    ) -> Option<EncodedItems> {
        // A line whose beginning was there before is not searched again before its end is there.
        memchr::memchr(b'\n', &self.rest[self.looked..])?;
        let (mut parts, mut end) = (Vec::new(), 0);
        while let Some((part, next)) = find(&self.rest, end)
            && next - end <= self.longest.saturating_add(2)
        {
            if !part.is_empty() {
                // The other lines may be as long as the first.
                parts.reserve(if parts.is_empty() { self.rest.len() / next } else { 1 });
                parts.push(part);
            }
            end = next;
        }
        (!parts.is_empty()).then(|| EncodedItems::new(Codec::Json, self.take(end), parts))
    }

    /// The next lines as items, each whole and not too long, without empty lines. `None` if there are none.
    pub(crate) fn items(&mut self) -> Option<EncodedItems> {
        self.parts(|text, start| {
            let length = memchr::memchr(b'\n', &text[start..])?;
            let line = &text[start..start + length];
            let (from, to) = (length - line.trim_ascii_start().len(), line.trim_ascii_end().len());
            Some((start + from.min(to)..start + to, start + length + 1))
        })
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.looked = 0;
        self.rest.split_to(length).freeze()
    }

    /// Releases the memory of a long line when the rest is short. The rest is copied once for each such line.
    fn release(&mut self) {
        if self.most_room > KEPT && self.rest.len() <= KEPT / 2 {
            self.rest = BytesMut::from(&self.rest[..]);
            self.most_room = self.rest.capacity();
        }
    }

    /// Puts back the line that was taken last.
    pub(crate) fn put_back(&mut self, line: &[u8]) {
        let rest = self.rest.split();
        self.rest.extend_from_slice(line);
        self.rest.extend_from_slice(b"\n");
        self.rest.extend_from_slice(&rest);
        self.most_room = self.most_room.max(self.rest.capacity());
        self.looked = 0;
    }

    /// The last line, which has no line break.
    pub(crate) fn last(&mut self) -> Option<Bytes> {
        let line = self.rest.split().freeze();
        self.looked = 0;
        let text = line.trim_ascii();
        (!text.is_empty()).then(|| line.slice_ref(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> Vec<String> {
        let (mut lines, mut came) = (LineSplitter::new(100), Vec::new());
        let mut text = |line: Bytes| came.push(String::from_utf8(line.to_vec()).unwrap());
        for piece in pieces {
            lines.put(piece.as_bytes());
            while let Some(line) = lines.next().unwrap() {
                text(line);
            }
        }
        lines.last().into_iter().for_each(text);
        came
    }

    #[test]
    fn lines_are_joined_from_any_pieces() {
        for pieces in [&["1\n\r\n 2\r\n", "3"][..], &["1", "\n\n2", "\n", "\n3"], &["1\n2\n3\n"]] {
            assert_eq!(lines(pieces), ["1", "2", "3"], "{pieces:?}");
        }
        assert!(lines(&["\n", " \n"]).is_empty());
    }

    #[test]
    fn lines_that_came_together_are_items_of_one_batch() {
        let texts = |batch: EncodedItems| batch.rest().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut lines = LineSplitter::new(4);
        lines.put(b"\n1\n\r\n 22\r\n \n4444\n7777777\n6\n7");
        assert_eq!(texts(lines.items().unwrap()), [&b"1"[..], b"22", b"4444"]);
        assert!(lines.items().is_none(), "the next line is too long");
        assert!(lines.next().is_err());

        let mut lines = LineSplitter::new(4);
        lines.put(b"1");
        assert!(lines.items().is_none() && lines.next().unwrap().is_none());
        lines.put(b"2\n3\n \n");
        assert_eq!(texts(lines.items().unwrap()), [&b"12"[..], b"3"]);
        lines.put(b"\n");
        assert!(lines.items().is_none() && lines.next().unwrap().is_none(), "empty lines are no items");
        lines.put(b"4");
        assert_eq!(lines.last().unwrap(), "4");
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_before_it_is_whole() {
        let mut lines = LineSplitter::new(3);
        lines.put(b"123\n12");
        assert_eq!(lines.next().unwrap().unwrap(), "123");
        lines.put(b"34");
        assert!(lines.next().is_err());
        let mut lines = LineSplitter::new(3);
        lines.put(b"123456\n");
        assert!(lines.next().is_err());
    }

    #[test]
    fn the_memory_of_a_long_line_is_released_though_another_has_begun() {
        let mut lines = LineSplitter::new(8 << 20);
        let long = vec![b'x'; 5 << 20];
        for piece in long.chunks(10_000).chain([&b"\nshort"[..]]) {
            lines.put(piece);
        }
        assert_eq!(lines.next().unwrap().unwrap().len(), long.len());
        assert!(lines.next().unwrap().is_none());
        assert!(!lines.rest.try_reclaim(KEPT + 1));
        lines.put(b"er\n");
        assert_eq!(lines.next().unwrap().unwrap(), "shorter");
    }

    #[test]
    fn events_are_for_who_asks() {
        let form = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            StreamFormat::asked_for(&headers)
        };
        assert_eq!(form("text/html, Text/Event-Stream;q=0.9"), StreamFormat::Events);
        assert_eq!(form("*/*"), StreamFormat::Lines);
        let mut out = Vec::new();
        StreamFormat::Events.item(b"7", &mut out);
        StreamFormat::Events.end(1, &mut out);
        assert_eq!(out, b"data: 7\n\nevent: end\ndata: 1\n\n");
    }
}
