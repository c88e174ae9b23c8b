//! What went over the connections of a case: its form as text, and how bytes become that.

use std::fmt::Write as _;

use super::service::Action;
use crate::harness::peer::{self, Frame};

/// The names of the kinds of frames, from 1.
const KINDS: [&str; 11] =
    ["HELLO", "NAME", "CALL", "REPLY", "ERROR", "CANCEL", "GOAWAY", "ITEM", "END", "CREDIT", "LOAD"];

/// A script with all that was sent, in its order, and its outcomes.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) events: Vec<Event>,
    pub(crate) outcomes: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Sent(Sent),
    Acted(Action),
}

/// What one side has sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) connection: usize,
    pub(crate) by_client: bool,
    pub(crate) what: Message,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Http(Http),
    Frame(Frame),
    /// The payload of a close frame of WebSocket.
    Close(Vec<u8>),
}

/// A whole request or answer. Its body is without the marks of `chunked`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The bytes to send, with the length that the body has and this host.
    pub(crate) fn bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            let length = self.body.len().to_string();
            let value = match name.as_str() {
                "host" => host,
                // The answer to HEAD says the length of a body that is not there.
                "content-length" if length != "0" => &length,
                _ => value,
            };
            write!(bytes, "{name}: {value}\r\n").unwrap();
        }
        bytes += "\r\n";
        let mut bytes = bytes.into_bytes();
        match self.header("transfer-encoding") {
            Some(_) if self.body.is_empty() => bytes.extend(b"0\r\n\r\n"),
            Some(_) => {
                bytes.extend(format!("{:x}\r\n", self.body.len()).into_bytes());
                bytes.extend([&self.body, &b"\r\n0\r\n\r\n"[..]].concat());
            }
            None => bytes.extend(&self.body),
        }
        bytes
    }
}

/// Cuts what one side of a connection sends into messages.
#[derive(Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    /// The rest of the WebSocket message that came last.
    frames: Vec<u8>,
    by_frames: bool,
    pub(crate) is_client: bool,
    /// The answer is one to HEAD.
    pub(crate) without_body: bool,
}

impl Reader {
    pub(crate) fn of(is_client: bool) -> Self {
        Self { is_client, ..Self::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Option<Message> {
        if !self.by_frames {
            let (http, length) = self.http()?;
            self.bytes.drain(..length);
            self.by_frames = http.header("upgrade") == Some("websocket");
            return Some(Message::Http(http));
        }
        loop {
            if let Some(frame) = peer::take_frame(&mut self.frames) {
                return Some(Message::Frame(frame));
            }
            match peer::take_message(&mut self.bytes, self.is_client)? {
                (2, frames) => self.frames = frames,
                (8, payload) => return Some(Message::Close(payload)),
                // A ping or a pong.
                _ => {}
            }
        }
    }

    fn http(&self) -> Option<(Http, usize)> {
        let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.bytes[..end]).expect("a head in ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next()?.to_owned();
        let headers = lines.map(|line| line.split_once(':').expect("a header"));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let mut http = Http { first, headers, body: Vec::new() };
        let rest = &self.bytes[end..];
        if self.without_body {
            return Some((http, end));
        }
        if http.header("transfer-encoding").is_some() {
            let mut at = 0;
            loop {
                let line = rest[at..].windows(2).position(|window| window == b"\r\n")?;
                let length = usize::from_str_radix(std::str::from_utf8(&rest[at..at + line]).unwrap(), 16).unwrap();
                at += line + 2;
                http.body.extend_from_slice(rest.get(at..at + length)?);
                at += length + 2;
                if rest.len() < at {
                    return None;
                }
                if length == 0 {
                    return Some((http, end + at));
                }
            }
        }
        let length = http.header("content-length").map_or(0, |length| length.parse().unwrap());
        http.body = rest.get(..length)?.to_vec();
        Some((http, end + length))
    }
}

/// The text of a transcript.
pub(crate) fn written(cases: &[Case]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for case in cases {
        write!(text, "\ncase {}\n", case.name).unwrap();
        for event in &case.events {
            match event {
                Event::Acted(action) => writeln!(text, "! {}", action.name()).unwrap(),
                Event::Sent(sent) => {
                    let side = if sent.by_client { '>' } else { '<' };
                    let lines = match &sent.what {
                        Message::Http(http) => {
                            let headers = http.headers.iter().map(|(name, value)| format!("{name}: {value}"));
                            let ends = [String::new(), escaped(&http.body)];
                            [http.first.clone()].into_iter().chain(headers).chain(ends).collect()
                        }
                        Message::Frame(Frame { kind, flags, number, id, payload }) => {
                            let kind = KINDS[usize::from(*kind) - 1];
                            vec![format!("{kind} flags={flags} number={number} id={id} {}", escaped(payload))]
                        }
                        Message::Close(payload) => vec![format!("CLOSE {}", escaped(payload))],
                    };
                    for line in lines {
                        writeln!(text, "{} {side} {line}", sent.connection).unwrap();
                    }
                }
            }
        }
        for outcome in &case.outcomes {
            writeln!(text, "= {outcome}").unwrap();
        }
    }
    text
}

const INTRODUCTION: &str = r"# Recorded by `tests/previous_release.rs`, which explains how it is replayed. Do not edit.
#
# 1 > ...   the client sends on connection 1
# 1 < ...   the server sends on connection 1
# ! ...     what the script does to the server, or waits for
# = ...     what the calls of the script gave, in their order
#
# A message of HTTP is its head, an empty line, and its body in one line. A frame is one line: its kind, its header, and
# its payload. \xNN is a byte, \{x*100} is a hundred of the same. Left out are: marks of chunks, WebSocket's headers and
# masks, pings, all but the first warm-up over HTTP, and connections without a call.
";

/// Reads what [`written`] has written.
pub(crate) fn read(text: &str) -> Vec<Case> {
    let mut cases = Vec::<Case>::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("case ") {
            cases.push(Case { name: name.to_owned(), events: Vec::new(), outcomes: Vec::new() });
            continue;
        }
        let case = cases.last_mut().expect("a case has begun");
        if let Some(action) = line.strip_prefix("! ") {
            case.events.push(Event::Acted(Action::named(action)));
        } else if let Some(outcome) = line.strip_prefix("= ") {
            case.outcomes.push(outcome.to_owned());
        } else {
            let mut parts = line.splitn(3, ' ');
            let connection = parts.next().unwrap().parse().expect("the number of a connection");
            let by_client = parts.next() == Some(">");
            let first = parts.next().unwrap();
            let (kind, rest) = first.split_once(' ').unwrap_or((first, ""));
            let what = if kind == "CLOSE" {
                Message::Close(unescaped(rest))
            } else if let Some(at) = KINDS.iter().position(|known| *known == kind) {
                let mut parts = rest.splitn(4, ' ');
                let mut number = || parts.next().unwrap().split_once('=').unwrap().1.parse::<u64>().unwrap();
                let (flags, number, id) = (number() as u8, number() as u16, number());
                let payload = unescaped(parts.next().unwrap());
                Message::Frame(Frame { kind: at as u8 + 1, flags, number, id, payload })
            } else {
                let mut next = || lines.next().unwrap().splitn(3, ' ').nth(2).unwrap().to_owned();
                let mut headers = Vec::new();
                loop {
                    match next() {
                        end if end.is_empty() => break,
                        line => {
                            let (name, value) = line.split_once(": ").expect("a header");
                            headers.push((name.to_owned(), value.to_owned()));
                        }
                    }
                }
                Message::Http(Http { first: first.to_owned(), headers, body: unescaped(&next()) })
            };
            case.events.push(Event::Sent(Sent { connection, by_client, what }));
        }
    }
    cases
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        let one = match run[0] {
            b'\\' => r"\\".to_owned(),
            b'\n' => r"\n".to_owned(),
            byte @ b' '..=b'~' => char::from(byte).to_string(),
            byte => format!(r"\x{byte:02x}"),
        };
        if run.len() < 32 {
            text += &one.repeat(run.len());
        } else {
            write!(text, r"\{{{one}*{}}}", run.len()).unwrap();
        }
    }
    text
}

fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.bytes().next() {
        rest = &rest[1..];
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let kind = rest.bytes().next().expect("something is escaped");
        rest = &rest[1..];
        match kind {
            b'n' => bytes.push(b'\n'),
            b'x' => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            b'{' => {
                let (run, behind) = rest.split_once('}').expect("a run ends");
                // The byte itself may be an asterisk.
                let (one, count) = run.rsplit_once('*').expect("a run has a length");
                bytes.extend(unescaped(one).repeat(count.parse().unwrap()));
                rest = behind;
            }
            other => bytes.push(other),
        }
    }
    bytes
}
