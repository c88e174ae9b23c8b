//! What may differ between a recorded message and the one that is sent today. Everything else must be equal.
//!
//! - `host`, `date`, `content-length` and the key of a WebSocket with its answer differ from run to run. Lengths are
//!   checked by reading.
//! - `byname-timeout-ms` and the time-out of a CALL are what was left of the time of a call.
//! - An ERROR whose `kind` is `rpc` may have another `message` and `detail`: these texts are not a part of the protocol.
//! - Limits in HELLO, and the first credit of a CALL, may be larger.
//! - The lists below: what was added since the transcript was recorded, which an old peer ignores.

use serde_json::{Map, Value};

use super::transcript::{Http, Message};
use crate::harness::peer::{self, Frame};

const LOAD: u8 = 11;

/// Headers of answers.
const NEW_ANSWER_HEADERS: [&str; 2] = ["byname-instance", "byname-load"];
/// Headers of requests.
const NEW_REQUEST_HEADERS: [&str; 0] = [];
/// Kinds of frames from a server, which an old client ignores as every unknown kind.
pub(crate) const NEW_KINDS: [u8; 1] = [LOAD];
/// Members of a server's HELLO.
const NEW_HELLO_MEMBERS: [&str; 3] = ["batches", "instance", "keys"];
/// Members of a client's HELLO.
const NEW_CLIENT_HELLO_MEMBERS: [&str; 1] = ["batches"];
/// Members of ERROR. The functions here set none of them, so none is sent.
const NEW_ERROR_MEMBERS: [&str; 0] = [];

/// Whether an old client that accepted `old` accepts `new`, the answer of today's server.
pub(crate) fn answer(old: &Message, new: &Message) -> Result<(), String> {
    match (old, new) {
        (Message::Http(old), Message::Http(new)) => http_answer(old, new),
        (Message::Frame(old), Message::Frame(new)) => frame_of_server(old, new),
        _ if old == new => Ok(()),
        _ => Err("another message".to_owned()),
    }
}

fn http_answer(old: &Http, new: &Http) -> Result<(), String> {
    same("the first line", &old.first, &new.first)?;
    let varies = ["content-length", "date", "sec-websocket-accept"];
    headers(old, new, &varies, &NEW_ANSWER_HEADERS)?;
    let is_json = old.header("content-type").is_some_and(|kind| kind.contains("json") || kind.contains("event-stream"));
    if is_json { json_lines(&old.body, &new.body) } else { same("the body", &old.body, &new.body) }
}

/// Whether an old server that answered `old` gets the same from `new`, the request of today's client.
pub(crate) fn request(old: &Http, new: &Http) -> Result<(), String> {
    same("the first line", &old.first, &new.first)?;
    headers(old, new, &["host", "content-length", "byname-timeout-ms", "sec-websocket-key"], &NEW_REQUEST_HEADERS)?;
    same("the body", &old.body, &new.body)
}

/// A frame of today's client, whose id and number are those of the transcript.
pub(crate) fn frame_of_client(old: &Frame, new: &Frame, is_first_piece: bool) -> Result<(), String> {
    const STREAM: u8 = 8;
    let head = |frame: &Frame| (frame.kind, frame.flags, frame.number, frame.id);
    same("the header", &head(old), &head(new))?;
    match old.kind {
        peer::HELLO => hello(&old.payload, &new.payload, &NEW_CLIENT_HELLO_MEMBERS),
        peer::CALL if is_first_piece => {
            let behind_time = if old.flags & STREAM == 0 { 4 } else { 8 };
            same("the call", &old.payload.get(behind_time..), &new.payload.get(behind_time..))
        }
        _ => same("the payload", &old.payload, &new.payload),
    }
}

fn frame_of_server(old: &Frame, new: &Frame) -> Result<(), String> {
    let head = |frame: &Frame| (frame.kind, frame.flags, frame.number, frame.id);
    same("the header", &head(old), &head(new))?;
    match old.kind {
        peer::HELLO => hello(&old.payload, &new.payload, &NEW_HELLO_MEMBERS),
        peer::ERROR => {
            let [old, new] = [old, new].map(|frame| parts_of_error(frame.flags, &frame.payload));
            same("the metadata", &old.0, &new.0)?;
            json_lines(old.1, new.1)?;
            same("the function's own error", &old.2, &new.2)
        }
        _ => same("the payload", &old.payload, &new.payload),
    }
}

/// The metadata, ERROR, and the function's own error.
fn parts_of_error(flags: u8, payload: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let part = |bytes: &'_ [u8]| 4 + u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let (metadata, rest) = payload.split_at(if flags & peer::METADATA == 0 { 0 } else { part(payload) });
    let (error, own) = rest.split_at(part(rest));
    (metadata, &error[4..], own)
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, old: &T, new: &T) -> Result<(), String> {
    if old == new { Ok(()) } else { Err(format!("{what} was {old:?} and is {new:?}")) }
}

fn headers(old: &Http, new: &Http, varies: &[&str], added: &[&str]) -> Result<(), String> {
    for (name, value) in &old.headers {
        match new.header(name) {
            None => return Err(format!("the header {name} is missing")),
            Some(_) if varies.contains(&name.as_str()) => {}
            Some(now) => same(name, value.as_str(), now)?,
        }
    }
    match new.headers.iter().find(|(name, _)| old.header(name).is_none() && !added.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("the header {name} is new")),
        None => Ok(()),
    }
}

fn hello(old: &[u8], new: &[u8], added: &[&str]) -> Result<(), String> {
    let [old, new]: [Map<String, Value>; 2] = [old, new].map(|hello| serde_json::from_slice(hello).unwrap());
    for (name, value) in &old {
        let is_limit = ["message", "window", "calls"].contains(&name.as_str());
        match new.get(name) {
            Some(now) if is_limit && now.as_u64() >= value.as_u64() => {}
            now => same(name, &Some(value), &now)?,
        }
    }
    match new.keys().find(|name| !old.contains_key(*name) && !added.contains(&name.as_str())) {
        Some(name) => Err(format!("HELLO has the new member {name}")),
        None => Ok(()),
    }
}

/// JSON on one line or on several, also as server-sent events.
fn json_lines(old: &[u8], new: &[u8]) -> Result<(), String> {
    let [old, new] = [old, new].map(|body| {
        let lines = body.split(|byte| *byte == b'\n').map(|line| {
            let data = line.strip_prefix(b"data: ").unwrap_or(line);
            match serde_json::from_slice::<Value>(data) {
                Ok(mut value) => {
                    without_texts(&mut value);
                    value.to_string()
                }
                Err(_) => String::from_utf8_lossy(line).into_owned(),
            }
        });
        lines.collect::<Vec<_>>()
    });
    same("the JSON", &old, &new)
}

/// Removes what errors say to people.
fn without_texts(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let is_error = |object: &Map<String, Value>| {
                ["code", "executed", "kind"].iter().all(|name| object.contains_key(*name)) && object["kind"] == "rpc"
            };
            // JSON-RPC has the text of an error beside the ERROR as well.
            if is_error(object) || object.get("data").and_then(Value::as_object).is_some_and(is_error) {
                for name in ["message", "detail"].iter().chain(&NEW_ERROR_MEMBERS) {
                    if let Some(text) = object.get_mut(*name) {
                        *text = Value::Null;
                    }
                }
            }
            object.values_mut().for_each(without_texts);
        }
        Value::Array(values) => values.iter_mut().for_each(without_texts),
        _ => {}
    }
}
