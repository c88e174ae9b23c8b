//! The lines of a stream that a function returns, as the client reads them: [`ReplyLines`].

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::error_object;
use super::json_object::{UnknownMembers, members};
use super::stream_lines::{LineSplitter, LineTooLong};
use crate::codec::json_value_end::{past_blanks, value_end};
use crate::codec::{self, Codec};
use crate::outcome::Failure;
use crate::outcome::items::EncodedItems;

/// The lines of a stream, while they come.
#[derive(Debug)]
pub(crate) struct ReplyLines {
    lines: LineSplitter,
}

/// What comes next in a stream.
pub(crate) enum NextReplyLines {
    /// Items that are valid JSON, at least one.
    Items(EncodedItems),
    End,
    Failed(Failure),
    /// A line is longer than the limit.
    TooLong,
    /// Why a line is not one of a stream.
    Invalid(String),
}

impl ReplyLines {
    /// `longest` is the limit of a line in bytes.
    pub(crate) fn new(longest: usize) -> Self {
        Self { lines: LineSplitter::new(longest) }
    }

    /// Adds more of the body.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.lines.put(bytes);
    }

    /// What the next lines of the stream of `name` are; `None` until more of the body has come. Items come before what is
    /// behind them. It is not asked again after anything else than items.
    pub(crate) fn next(&mut self, name: &str) -> Option<NextReplyLines> {
        match self.lines.parts(item_line) {
            Some(items) => Some(NextReplyLines::Items(items)),
            None => self.next_of_any_lines(name),
        }
    }

    /// As [`next`](Self::next), one line at a time.
    fn next_of_any_lines(&mut self, name: &str) -> Option<NextReplyLines> {
        let mut bytes = Vec::new();
        let mut spans = Vec::new();
        loop {
            match self.lines.next() {
                Ok(Some(line)) => match read(name, &line) {
                    Ok(Some(StreamLine::Item(item))) => {
                        spans.push(bytes.len()..bytes.len() + item.len());
                        bytes.extend_from_slice(&item);
                        continue;
                    }
                    Ok(None) => continue,
                    // The items before this line are returned first.
                    Ok(Some(_)) | Err(_) if !spans.is_empty() => self.lines.put_back(&line),
                    Ok(Some(StreamLine::End)) => return Some(NextReplyLines::End),
                    Ok(Some(StreamLine::Failed(failure))) => return Some(NextReplyLines::Failed(failure)),
                    Err(why) => return Some(NextReplyLines::Invalid(why)),
                },
                Err(LineTooLong) if spans.is_empty() => return Some(NextReplyLines::TooLong),
                Ok(None) | Err(LineTooLong) => {}
            }
            if spans.is_empty() {
                return None;
            }
            return Some(NextReplyLines::Items(EncodedItems::new(Codec::Json, bytes.into(), spans)));
        }
    }
}

/// The item in the line that begins at `start`, and where the next line begins. `None` unless the line is whole, and an object
/// that begins with a valid `item` and has nothing else.
fn item_line(text: &[u8], start: usize) -> Option<(Range<usize>, usize)> {
    const BEGIN: &[u8] = b"{\"item\":";
    let begin = text[start..].starts_with(BEGIN).then_some(start + BEGIN.len())?;
    let item = past_blanks(text, begin);
    let end = value_end(text, item)?;
    let close = past_blanks(text, end);
    let line_break = (text.get(close) == Some(&b'}')).then(|| past_blanks(text, close + 1))?;
    (text.get(line_break) == Some(&b'\n')).then_some((item..end, line_break + 1))
}

enum StreamLine {
    Item(Bytes),
    End,
    Failed(Failure),
}

/// Reads one line; `None` if it has no known member.
fn read(name: &str, line: &Bytes) -> Result<Option<StreamLine>, String> {
    let [item, end, err] = members(line, &["item", "end", "err"], UnknownMembers::Ignored)
        .map_err(|why| codec::why_no_json(line, &why))?;
    Ok(match (item, end, err) {
        (Some(item), _, _) => Some(StreamLine::Item(line.slice_ref(item.get().as_bytes()))),
        (_, Some(_), _) => Some(StreamLine::End),
        (_, _, Some(_)) => Some(StreamLine::Failed(error_object::read(
            name,
            StatusCode::INTERNAL_SERVER_ERROR,
            None,
            &HeaderMap::new(),
            line,
        ))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Code, Error};
    use crate::wire::stream_lines::StreamFormat;

    /// What a stream is read as: its items, and how it ends.
    fn outcome(
        pieces: &[&[u8]],
        longest: usize,
        next: fn(&mut ReplyLines) -> Option<NextReplyLines>,
    ) -> (Vec<Vec<u8>>, String) {
        let (mut lines, mut items) = (ReplyLines::new(longest), Vec::new());
        for piece in pieces {
            lines.put(piece);
            loop {
                match next(&mut lines) {
                    None => break,
                    Some(NextReplyLines::Items(batch)) => {
                        assert!(batch.rest().next().is_some() && batch.codec == Codec::Json);
                        items.extend(batch.rest().map(<[u8]>::to_vec));
                    }
                    Some(NextReplyLines::End) => return (items, "end".to_owned()),
                    Some(NextReplyLines::Failed(failure)) => return (items, failure.error().to_string()),
                    Some(NextReplyLines::TooLong) => return (items, "too long".to_owned()),
                    Some(NextReplyLines::Invalid(why)) => return (items, format!("invalid: {why}")),
                }
            }
        }
        (items, "it is cut off".to_owned())
    }

    fn fast(pieces: &[&[u8]], longest: usize) -> (Vec<Vec<u8>>, String) {
        outcome(pieces, longest, |lines| lines.next("f"))
    }

    fn slow(pieces: &[&[u8]], longest: usize) -> (Vec<Vec<u8>>, String) {
        outcome(pieces, longest, |lines| lines.next_of_any_lines("f"))
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        let all = [&b"[1]"[..], b"\"a\"", b"{}"];
        all.iter().for_each(|item| StreamFormat::Lines.item(item, &mut out));
        let mut end = out.clone();
        StreamFormat::Lines.end(3, &mut end);
        let failure = Error::new(Code::Internal, "why").into();
        let mut err = out.clone();
        StreamFormat::Lines.failure(failure, &mut err);
        for (out, last) in [(end, "end"), (err, "internal: why")] {
            let (items, ended) = fast(&[&out], 1000);
            assert_eq!(items, all);
            assert!(ended.contains(last), "{ended}");
        }
    }

    #[test]
    fn items_that_come_together_are_one_batch_in_their_memory() {
        let mut lines = ReplyLines::new(100);
        lines.put(b"{\"item\":1}\n{\"item\": [2] }\r\n{\"item\":\"\xc3\xa9\"}\n{\"item\":4");
        let Some(NextReplyLines::Items(batch)) = lines.next("f") else { panic!() };
        assert_eq!(batch.rest().collect::<Vec<_>>(), [&b"1"[..], b"[2]", "\"é\"".as_bytes()]);
        assert!(lines.next("f").is_none());
        lines.put(b"4}\n\n{\"end\":4}\n");
        let Some(NextReplyLines::Items(batch)) = lines.next("f") else { panic!() };
        assert_eq!(batch.rest().collect::<Vec<_>>(), [b"44"]);
        assert!(matches!(lines.next("f"), Some(NextReplyLines::End)));
    }

    #[test]
    fn lines_that_are_not_plainly_items_are_read_all_the_same() {
        for (text, expected, ended) in [
            ("{\"item\":1,\"ext\":[2]}\n", &["1"][..], "cut off"),
            ("{\"ext\":2,\"item\":1}\n", &["1"], "cut off"),
            (" {\"\\u0069tem\" :1}\n", &["1"], "cut off"),
            ("{\"ext\":1}\n\n \r\n{\"item\":1}\n", &["1"], "cut off"),
            ("{\"item\":1,\"item\":2}\n", &[], "duplicate field"),
            ("{\"item\":1}\n{\"item\":01}\n", &["1"], "invalid"),
            ("{\"item\":1}\n{\"item\":[1\n]}\n", &["1"], "invalid"),
            ("{\"item\":1}}\n", &[], "invalid"),
            ("{\"item\":}\n", &[], "invalid"),
            ("[1]\n", &[], "it is not a JSON object"),
            ("{\"item\":1}\n{\"end\":1,\"item\":2}\n{\"end\":2}\n", &["1", "2"], "end"),
        ] {
            let (items, end) = fast(&[text.as_bytes()], 100);
            let items: Vec<_> = items.iter().map(|item| std::str::from_utf8(item).unwrap()).collect();
            assert_eq!(items, expected, "{text}");
            assert!(end.contains(ended), "{text}: {end}");
        }
    }

    #[test]
    fn a_line_at_the_limit_is_read_and_a_longer_one_is_not() {
        let line = "{\"item\":123}\n";
        for (longest, ended) in [(line.len() - 2, "it is cut off"), (line.len() - 3, "too long")] {
            for before in ["", "{\"item\":1}\n"] {
                let text = format!("{before}{line}");
                let (items, end) = fast(&[text.as_bytes()], longest);
                assert_eq!((items.len(), &*end), (before.lines().count() + usize::from(ended != "too long"), ended));
                assert_eq!((items, end), slow(&[text.as_bytes()], longest));
            }
        }
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let value = || {
            prop_oneof![
                "-?[0-9]{1,4}(\\.[0-9]{1,2})?([eE][+-]?[0-9])?".prop_map(String::into_bytes),
                "\"([a-zé\u{1}]|\\\\[\"\\\\nux]|\\\\u[0-9a-f]{4}){0,9}\"".prop_map(String::into_bytes),
                "(true|false|null|[\\[\\]{},: \"a-c1]{0,8})".prop_map(String::into_bytes),
                "\\[(1, ?|\\{\"a\":2\\},){0,2}[3\\]]\\]".prop_map(String::into_bytes),
                Just(b"\"\xff\"".to_vec()),
                Just(b"\"\xc3\"".to_vec()),
            ]
        };
        let blank = || "[ \t\r]{0,2}".prop_map(String::into_bytes);
        let item = (blank(), value(), blank())
            .prop_map(|(before, value, behind)| [b"{\"item\":", &before[..], &value, &behind, b"}"].concat());
        prop_oneof![
            6 => item,
            1 => (value(), value()).prop_map(|(one, other)| [b"{\"item\":", &one[..], b",\"item\":", &other, b"}"].concat()),
            1 => (value(), value()).prop_map(|(one, other)| [b"{\"ext\":", &one[..], b",\"item\":", &other, b"}"].concat()),
            1 => "(|\\r| |\\{\\}|\\{\"ext\":1\\}|[{}\\[\\]\",:a1 ]{0,9}|\\{\"end\":3\\}|\\{\"err\":\\{\"code\":\"aborted\",\"message\":\"m\"\\}\\})"
                .prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn a_stream_is_read_as_one_line_at_a_time(
            lines in proptest::collection::vec((line(), "\n|\n|\n|\r\n|\n\n|"), 0..8),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            longest in 8..64usize,
        ) {
            let text: Vec<u8> = lines.iter().flat_map(|(line, end)| [line, end.as_bytes()].concat()).collect();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(fast(&pieces, longest), slow(&pieces, longest));
            // Where it is cut makes no difference, unless a line is too long.
            prop_assert_eq!(fast(&pieces, 1000), slow(&[&text], 1000));
        }
    }
}
