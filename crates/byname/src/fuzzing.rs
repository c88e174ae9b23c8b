//! Every parser that bytes from outside reach, for the targets in `fuzz/` and for their twins among the properties. Each
//! takes any bytes, must not panic, and asserts what has to hold of whatever it could read.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_core::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::arguments::{self, ArgumentSource, EncodedArguments};
pub use crate::client::frame_connection::fuzzing::client_answers;
pub use crate::client::fuzzing::{response, url};
use crate::codec::{self, Codec};
use crate::error::Error;
pub use crate::frames::fuzzing::{assembly, frames, websocket};
use crate::handler::Handler;
use crate::method::{Method, Param, Source as Place};
use crate::name;
use crate::outcome::Failure;
pub use crate::server::frame_connection::fuzzing::server_calls;
pub use crate::server::fuzzing::{forwarded, proxy_protocol};
use crate::trace_context::{BAGGAGE, CallSpan, RemoteSpan, TRACEPARENT, TRACESTATE, pass_baggage_on, trace_state};
use crate::wire::headers::AnsweringServer;
use crate::wire::instance_and_load::{InstanceId, ReportedLoad};
use crate::wire::{Way, headers, json_rpc_format, path_format, plain_format, query, reply};

/// A parser's name and the parser.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 19] = [
    ("envelope", envelope),
    ("json_rpc", json_rpc),
    ("path_body", path_body),
    ("query", query),
    ("header_values", header_values),
    ("arguments", arguments),
    ("message_pack", message_pack),
    ("integers", integers),
    ("received_error", received_error),
    ("response", response),
    ("url", url),
    ("names", names),
    ("websocket", websocket),
    ("frames", frames),
    ("assembly", assembly),
    ("client_answers", client_answers),
    ("server_calls", server_calls),
    ("forwarded", forwarded),
    ("proxy_protocol", proxy_protocol),
];

/// The body of a call on the plain way: what is read is written back as the same call.
pub fn envelope(data: &[u8]) {
    let Ok((name, args)) = plain_format::read(&Bytes::copy_from_slice(data)) else {
        return;
    };
    if name::check(&name).is_err() {
        return;
    }
    let again = plain_format::write(&name, &args);
    let (name_again, args_again) = plain_format::read(&again.into()).expect("what was read is written");
    assert_eq!(name_again, name);
    let or =
        |part: &Bytes, empty: &'static [u8]| if part.is_empty() { Bytes::from_static(empty) } else { part.clone() };
    assert_eq!(args_again.positional, or(&args.positional, b"[]"));
    assert_eq!(args_again.keyword, or(&args.keyword, b"{}"));
}

/// The body of a call of JSON-RPC, or of several: each is answered by its id, which is echoed as it came.
pub fn json_rpc(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let is = json_rpc_format::is(&body);
    assert!(!is || plain_format::read(&body).is_err(), "no body is both");
    let asked = match json_rpc_format::read(&body, 3) {
        json_rpc_format::JsonRpcBody::Single(asked) => vec![asked],
        json_rpc_format::JsonRpcBody::Batch(asked) => asked,
    };
    assert!((1..=3).contains(&asked.len()));
    for asked in asked {
        match asked.call {
            Ok((_, args)) => {
                assert!(is);
                assert!(args.positional.is_empty() || args.keyword.is_empty());
            }
            Err(no_call) => {
                let id = asked.id.clone().expect("what is no call is answered");
                serde_json::from_slice::<&RawValue>(&json_rpc_format::no_call(&id, no_call))
                    .expect("the answer is JSON");
            }
        }
        if let Some(id) = asked.id {
            serde_json::from_slice::<&RawValue>(&json_rpc_format::success(&id, b"null")).expect("the answer is JSON");
        }
    }
}

/// The body of a call by path: by position or by name, never both.
pub fn path_body(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    if let Ok(args) = path_format::read(body.clone()) {
        assert!(args.positional.is_empty() || args.keyword.is_empty());
        let again =
            path_format::read(path_format::write(&args).expect("one kind only")).expect("what was read is written");
        assert!(again.keyword == args.keyword || args.keyword.is_empty());
    }
}

/// A query: what is read comes back when it is written with every byte escaped.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(pairs) = query::read(text) else {
        return;
    };
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let again: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    assert_eq!(query::read(&again.join("&")).expect("it was text"), pairs);
    let _ = sum().begin(call(ArgumentSource::Query(&pairs)));
}

/// Headers of both sides: the time that is left, how long a connection is kept, which server it is and how busy.
pub fn header_values(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let one = |name| HeaderMap::from_iter([(name, value.clone())]);
    if let Ok(Some(timeout)) = headers::timeout(&one(headers::TIMEOUT)) {
        let again = HeaderValue::from(timeout.as_millis() as u64);
        let again = headers::timeout(&HeaderMap::from_iter([(headers::TIMEOUT, again)]));
        assert_eq!(again.expect("it is a number"), Some(timeout));
    }
    let _ = AnsweringServer::of(&one(headers::KEEP_ALIVE));
    if let Some(load) = ReportedLoad::of_answer(&one(headers::LOAD)) {
        let again = HeaderMap::from_iter([(headers::LOAD, load.to_header())]);
        assert_eq!(ReportedLoad::of_answer(&again), Some(load));
    }
    if let Some(instance) = InstanceId::of_answer(&one(headers::INSTANCE)) {
        assert!(instance.to_header().as_bytes().eq_ignore_ascii_case(data));
    }
    if let Some(parent) = RemoteSpan::of(&one(TRACEPARENT)) {
        let (made, mut told) = (CallSpan::under(parent), HeaderMap::new());
        made.put(None, &mut told);
        assert_eq!(RemoteSpan::of(&told), Some(made.as_parent()));
    }
    trace_members(value.clone());
    let mut offers = one(headers::WAYS);
    offers.insert(headers::PROTOCOL, headers::VERSION);
    let _ = (headers::offers(&offers, Way::Plain), headers::offers(&offers, Way::Path));
    assert_eq!(headers::is_byname(&one(headers::PROTOCOL)), data == b"1");
}

/// The members of a `tracestate` and of a `baggage`: what was passed on is passed on unchanged.
fn trace_members(value: HeaderValue) {
    let passed_on = |state: HeaderValue, baggage: HeaderValue| {
        let mut served = HeaderMap::from_iter([(TRACESTATE, state), (BAGGAGE, baggage)]);
        served.insert(TRACEPARENT, CallSpan::begin(false).traceparent());
        let mut made = HeaderMap::new();
        pass_baggage_on(&served, &mut made);
        (trace_state(&served), made.remove(BAGGAGE))
    };
    let (state, baggage) = passed_on(value.clone(), value);
    let of = |passed: &Option<HeaderValue>| passed.clone().unwrap_or(HeaderValue::from_static(""));
    assert_eq!(passed_on(of(&state), of(&baggage)), (state, baggage));
}

/// Arguments by position, up to the first NUL, and by name behind it.
pub fn arguments(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (positional, keyword) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if [positional, keyword].iter().any(|part| codec::deeper_than(Codec::Json, 128, part)) {
        return;
    }
    let method = three();
    let Ok(read) = arguments::decode::<Read>(
        &method,
        call(ArgumentSource::Encoded { codec: Codec::Json, positional, keyword, nesting: 128 }),
    ) else {
        return;
    };
    let mut again = Vec::new();
    codec::encode(Codec::Json, &(&read.0, read.1, &read.2), &mut again).expect("what was read can be written");
    let source = ArgumentSource::Encoded { codec: Codec::Json, positional: &again, keyword: &[], nesting: 128 };
    assert_eq!(arguments::decode::<Read>(&method, call(source)).expect("what was written is read"), read);
}

/// Arguments in MessagePack, by position and by name, the length of the first before them: they come to what they are as
/// JSON, in value and in error.
pub fn message_pack(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let (positional, keyword) = data.split_at(data.len().min(first.into()));
    let method = three();
    // It is text in JSON, and yet an array reads it.
    let has_bin = data.iter().any(|byte| (0xc4..=0xc6).contains(byte));
    let read = |codec, positional: &[u8], keyword: &[u8]| {
        arguments::decode::<Read>(&method, call(ArgumentSource::Encoded { codec, positional, keyword, nesting: 5 }))
    };
    let came = read(Codec::MessagePack, positional, keyword);
    if let Ok(read) = &came {
        let mut again = Vec::new();
        codec::encode(Codec::MessagePack, &(&read.0, read.1, &read.2), &mut again).expect("what was read is written");
        let source =
            ArgumentSource::Encoded { codec: Codec::MessagePack, positional: &again, keyword: &[], nesting: 128 };
        assert_eq!(&arguments::decode::<Read>(&method, call(source)).expect("what was written is read"), read);
    }
    let json = |part: &[u8]| if part.is_empty() { Ok(Vec::new()) } else { codec::to_json(part) };
    match (json(positional), json(keyword)) {
        (Ok(positional), Ok(keyword)) => match read(Codec::Json, &positional, &keyword) {
            // An array of numbers may be bytes in MessagePack, which are no deeper than a string.
            Err(error) if error.limit() == Some("nesting") => {}
            Err(_) if has_bin => {}
            json => assert_eq!(came, json),
        },
        _ => assert!(came.is_err()),
    }
    type Maps = (BTreeMap<i64, f32>, BTreeMap<String, Result<u8, String>>, Option<char>);
    if let Ok(text) = codec::to_json(data) {
        let text: &[u8] = &text;
        assert_eq!(codec::decode::<Value>(Codec::MessagePack, data), codec::decode(Codec::Json, text));
        assert_eq!(codec::decode::<Maps>(Codec::MessagePack, data), codec::decode(Codec::Json, text));
        assert_eq!(codec::decode::<byname::Bytes>(Codec::MessagePack, data), codec::decode(Codec::Json, text));
        let integers = codec::decode::<Vec<i128>>(Codec::MessagePack, data);
        assert!(has_bin || integers == codec::decode(Codec::Json, text));
        let again = codec::to_message_pack(text).expect("it is JSON");
        let hash = codec::canonical_hash(Codec::Json, text);
        assert!(hash.is_ok() && hash == codec::canonical_hash(Codec::MessagePack, data));
        assert_eq!(hash, codec::canonical_hash(Codec::MessagePack, &again));
        assert_eq!(codec::decode::<Value>(Codec::MessagePack, &again), codec::decode(Codec::Json, text));
    }
}

/// Any JSON: it comes as what it is, with nothing in it that speaks for a library. Integers are exact or an error, whatever
/// takes them.
pub fn integers(data: &[u8]) {
    if codec::deeper_than(Codec::Json, 100, data) {
        return;
    }
    if let Ok(value) = codec::decode::<Value>(Codec::Json, data) {
        let plain: Plain = serde_json::from_slice(data).expect("it is JSON");
        assert_eq!(Plain::from(&value), plain);
        let mut again = Vec::new();
        codec::encode(Codec::Json, &value, &mut again).expect("what was read can be written");
        assert_eq!(codec::decode::<Value>(Codec::Json, &again).expect("what was written is read"), value);
    }
    if let Ok(integer) = codec::decode::<i128>(Codec::Json, data) {
        let text = std::str::from_utf8(data).expect("it was JSON").trim();
        assert_eq!(text.parse(), Ok(integer), "a digit was lost");
        match codec::decode::<Value>(Codec::Json, data) {
            Ok(value) => {
                let shown = value.to_string();
                assert!(shown == integer.to_string() || text == "-0", "{shown} is not {integer}");
            }
            Err(_) => assert!(i64::try_from(integer).is_err() && u64::try_from(integer).is_err()),
        }
    }
}

/// JSON without its leaves, read by a type that serde_json knows nothing of.
#[derive(Debug, PartialEq)]
enum Plain {
    Leaf,
    Array(Vec<Plain>),
    Object(BTreeMap<String, Plain>),
}

impl From<&Value> for Plain {
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(items) => Plain::Array(items.iter().map(Plain::from).collect()),
            Value::Object(members) => {
                Plain::Object(members.iter().map(|(name, value)| (name.clone(), value.into())).collect())
            }
            _ => Plain::Leaf,
        }
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadPlain)
    }
}

struct ReadPlain;

impl<'de> Visitor<'de> for ReadPlain {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Plain, E> {
        Ok(Plain::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Plain, E> {
        Ok(Plain::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Plain, E> {
        Ok(Plain::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Plain, E> {
        Ok(Plain::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Plain, E> {
        Ok(Plain::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Plain, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Plain::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry()? {
            members.insert(name, value);
        }
        Ok(Plain::Object(members))
    }
}

/// An answer's status, a byte each for its way and its reason, and its body.
pub fn received_error(data: &[u8]) {
    let Some((&[high, low, way], body)) = data.split_first_chunk() else {
        return;
    };
    let status = StatusCode::from_u16(100 + u16::from_be_bytes([high, low]) % 500).expect("below 600");
    let way_in = if way % 2 == 0 { Way::Plain } else { Way::Path };
    let reason: Option<&[u8]> =
        [None, Some(&b""[..]), Some(b"no func found err"), Some(b"\xff")][usize::from(way / 2 % 4)];
    let body = Bytes::copy_from_slice(body);
    let mut headers = HeaderMap::new();
    headers.insert(headers::PROTOCOL, headers::VERSION);
    match reply(way_in, "f", status, reason, &headers, &body) {
        Ok(_) => assert!(status.is_success(), "{status} is no success"),
        Err(failure) => {
            let error = match failure {
                // The data is beside it.
                Failure::Method { error, .. } => error.data_is(Some(Value::Null)),
                Failure::Rpc(error) => error,
            };
            let shown = error.to_string();
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
            let text = serde_json::to_string(&error).expect("an error can be written");
            let again: Error = serde_json::from_str(&text).expect("and read");
            assert_eq!(again, error);
        }
    }
}

/// Names: whatever is one goes through the envelope and the path as it is.
pub fn names(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else {
        return;
    };
    if name::check(name).is_ok() {
        assert!(name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte)));
        let (again, _) = plain_format::read(&plain_format::write(name, &EncodedArguments::none(Codec::Json)).into())
            .expect("a name needs no escape");
        assert_eq!(again, name);
    }
}

/// What [`three`] takes.
type Read = (Value, Option<u128>, Vec<f64>);

/// A function of three arguments, of which two may be left out.
pub(crate) fn three() -> Method {
    let param = |name: &'static str, optional, default: Option<&'static str>| Param {
        name: name.into(),
        ty: "".into(),
        optional,
        default: default.map(Into::into),
        default_packed: default.and_then(|text| codec::to_message_pack(text.as_bytes()).ok()),
        schema: |_| byname_schema::TypeSchema::unknown(),
    };
    Method {
        params: vec![param("a", false, None), param("b", true, None), param("c", false, Some("[1.5]"))],
        ..Method::clone(&sum().method)
    }
}

/// A function of two integers.
/// A call without a stream.
fn call(args: ArgumentSource<'_>) -> arguments::CallInput<'_> {
    arguments::CallInput { args, items: None, nesting: 128 }
}

fn sum() -> Handler {
    let place = Place { package: "", module: "", file: "", line: 0 };
    Handler::function(
        "sum".into(),
        place,
        |a: i64, b: Option<i64>| async move { a.wrapping_add(b.unwrap_or_default()) },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of every kind, the closer to what is expected the better.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let text = |pattern: &'static str| pattern.prop_map(String::into_bytes);
        let number = "-?[0-9]{1,40}(\\.[0-9]{1,4})?(e[+-]?[0-9]{1,3})?";
        prop_oneof![
            any::<Vec<u8>>(),
            any::<String>().prop_map(String::into_bytes),
            text("[\\[\\]{}\",:0-9a-z\\\\.+\\- \\x00]{0,60}"),
            text("\\{\"fun\":\"[a-z_.\\\\u0]{0,9}\",\"args\":\\[[0-9, ]{0,9}\\],\"kwargs\":\\{(\"[ab]\":[0-9]{1,3})?\\}\\}"),
            text("(\\[|\\{\"jsonrpc\":)[\\[\\]{}\",:0-9a-z\\\\]{0,60}"),
            text("\\[?\\{(\"ext\":1,)?\"jsonrpc\":\"[12].0\",\"method\":\"[a-z\\\\u0]{0,9}\"(,\"params\":(\\[[0-9, ]{0,9}\\]|\\{\\}|null))?(,\"id\":(1.0|null|\"\\\\ud800\"|\\[\\]))?\\}(,1){0,4}\\]?"),
            text("(\\[|\\[1,|\\{\"[abc]\":){0,3}\\{\"(\\$|\\\\u0024)serde_json::private::(RawValue|Number)?\" ?:(\"[\\[\\]1-9]{0,9}\"|1)\\}[\\]}]{0,3}"),
            packed(),
            text(number),
            "-?[0-9]{1,40}".prop_map(|integer| format!("[{integer},{integer}]").into_bytes()),
            text("([a-z%+]{1,5}=[a-z0-9%+]{0,6}&){0,4}"),
            text("(timeout=[0-9]{0,21}|max=[0-9]|, ?){0,4}"),
            text("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{0,3})?"),
            text("([a-z0-9@_*/-]{1,20}=[ -~]{0,20}[ \\t]?,?){0,5}"),
            text("(http://)?[a-z0-9.:\\[\\]@%]{1,12}(:[0-9]{1,6})?(/[a-z?#%]{0,5}){0,3}"),
            text("(rpc)?[a-zA-Z_.0-9]{0,140}"),
            response_text(),
            (any::<[u8; 3]>(), "\\{(\"err\":\\{)?\"code\":\"(aborted|x)\",\"message\":\"[a-z\\x1b]{0,3}\",\"executed\":\"(no|yes)\",\"kind\":\"(rpc|method)\"(,\"data\":[0-9]{1,30})?\\}?\\}")
                .prop_map(|(head, body)| [&head[..], body.as_bytes()].concat()),
            text("((for|by|proto)=(\"?[0-9a-f.:\\[\\]_\\\\]{0,20}\"?|10.0.0.1|unknown)[;, ]{0,2}){0,4}"),
            text("([0-9a-f.:\\[\\]]{0,20}|10.0.0.1|203.0.113.7:80|, ?){0,5}"),
            text("PROXY (TCP4|TCP6|UNKNOWN)( ([0-9]{1,3}.1.1.1|[a-f0-9:]{2,9})){0,2}( [0-9]{1,6}){0,2}\r\n[a-z]{0,3}"),
            proxied(),
            web_socket(),
            proptest::collection::vec(frame(), 0..5).prop_map(|frames| frames.concat()),
            (any::<u8>(), proptest::collection::vec(step(), 0..8)).prop_map(|(first, steps)| [vec![first], steps.concat()].concat()),
        ]
    }

    /// The beginning of a connection from a proxy that speaks version 2.
    fn proxied() -> impl Strategy<Value = Vec<u8>> {
        let command = prop_oneof![0x20..=0x22u8, any::<u8>()];
        let family = prop_oneof![Just(0), Just(0x11), Just(0x21), Just(0x31), any::<u8>()];
        let addresses = prop_oneof![Just(12usize), Just(36), Just(216), 0..300usize]
            .prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length));
        (command, family, addresses, -1..2i8).prop_map(|(command, family, addresses, more)| {
            let length = (addresses.len() as u16).saturating_add_signed(more.into());
            let start = b"\r\n\r\n\0\r\nQUIT\n";
            [&start[..], &[command, family], &length.to_be_bytes(), &addresses].concat()
        })
    }

    /// Arguments in MessagePack, more or less.
    fn packed() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<i128>().prop_map(|value| in_message_pack(&value)),
            any::<f64>().prop_filter_map("NaN", |value| value.is_finite().then(|| in_message_pack(&value))),
            "[abc]".prop_map(|value| in_message_pack(&value)),
            "\\$serde_json::private::(RawValue|Number)?"
                .prop_map(|key| in_message_pack(&BTreeMap::from([(key, "[1]")]))),
            (0x80..=0x95u8).prop_map(|marker| vec![marker]),
            any::<Vec<u8>>().prop_map(|bytes| in_message_pack(&byname::Bytes::from(bytes))),
            any::<u8>().prop_map(|byte| vec![byte]),
        ];
        (0u8..20, proptest::collection::vec(piece, 0..8))
            .prop_map(|(length, pieces)| [vec![length], pieces.concat()].concat())
    }

    /// Frames of WebSocket, whole or in fragments, from either side.
    fn web_socket() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![0..=2u8, 8..=10u8, Just(0x80), Just(0x82), Just(0x89), Just(0x8a)];
        let frame = (opcode, any::<[u8; 4]>(), proptest::collection::vec(any::<u8>(), 0..200));
        (any::<bool>(), any::<[u8; 3]>(), proptest::collection::vec(frame, 0..6)).prop_map(
            |(is_server, cuts, frames)| {
                let mut bytes = [&[0x30 | u8::from(is_server)], &cuts[..]].concat();
                for (opcode, key, payload) in frames {
                    let masked = u8::from(is_server) << 7;
                    match u8::try_from(payload.len()) {
                        Ok(length @ 0..126) => bytes.extend_from_slice(&[opcode, masked | length]),
                        _ => bytes.extend_from_slice(&[opcode, masked | 126, 0, payload.len() as u8]),
                    }
                    bytes.extend_from_slice(if is_server { &key } else { &[] });
                    bytes.extend_from_slice(&payload);
                }
                bytes
            },
        )
    }

    /// What a frame bears: arguments, a HELLO, parts, metadata.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let part = |text: &'static str| {
            (text, 0..2u8).prop_map(|(text, more)| [&[0, 0, 0, text.len() as u8 + more], text.as_bytes()].concat())
        };
        prop_oneof![
            "\\{\"version\":[12](,\"(calls|window|message)\":[0-9]{1,9})?(,\"codecs\":\\[(\"json\"|\"msgpack\"|1)\\])?\\}"
                .prop_map(String::into_bytes),
            "(\\[[12](,[12])?\\]|\\{\"(a|b|value)\":([12]|\\{\"\\$serde_json::private::RawValue\":\"\\[1\\]\"\\})\\})".prop_map(|args| [&[0; 4], args.as_bytes()].concat()),
            part("\\{\"x-[ab]\":(\"a\"|\\[(\"a\",)?\"b\"\\]|1)\\}"),
            part("\\{\"code\":\"aborted\",\"message\":\"\",\"executed\":\"no\",\"kind\":\"(rpc|method)\"\\}"),
            any::<[u8; 8]>().prop_map(Vec::from),
            proptest::collection::vec(any::<u8>(), 0..100),
        ]
    }

    /// A frame as it is on the wire.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        (0..12u8, 0..8u8, any::<u64>(), payload()).prop_map(|(kind, flags, id, payload)| {
            [&[0, 0, 0, payload.len() as u8, kind, flags, 0, 0], &id.to_be_bytes()[..], &payload].concat()
        })
    }

    /// A frame of a script.
    fn step() -> impl Strategy<Value = Vec<u8>> {
        let flags = prop_oneof![0..8u8, 0x80..0x88u8, any::<u8>()];
        let kind = prop_oneof![0..12u8, 3..6u8, Just(255)];
        (kind, flags, 0..5u8, 0..6u8, payload()).prop_map(|(kind, flags, number, whose, payload)| {
            [&[kind, flags, number, whose, payload.len() as u8], &payload[..]].concat()
        })
    }

    fn in_message_pack(value: &impl serde::Serialize) -> Vec<u8> {
        let mut out = Vec::new();
        codec::encode(Codec::MessagePack, value, &mut out).unwrap();
        out
    }

    fn response_text() -> impl Strategy<Value = Vec<u8>> {
        let field = "(content-length: [0-9]{1,3}|transfer-encoding: (x|gzip, )?chunked|connection: close|x: y)\r\n";
        let body = prop_oneof!["[a-z]{0,40}", "([0-9a-f]{1,2}(;x)?\r\n[a-z]{0,20}\r\n){0,3}(0\r\n(x: y\r\n)?\r\n)?"];
        ("HTTP/1\\.[01] (1|2|3|5)0[0-4]( [a-zA-Z ]{0,9})?\r\n", proptest::collection::vec(field, 0..4), body)
            .prop_map(|(line, fields, body)| format!("{line}{}\r\n{body}", fields.concat()).into_bytes())
    }

    #[test]
    fn external_input_is_read_or_rejected() {
        let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(bytes in bytes())| {
            for (_, target) in TARGETS {
                target(&bytes);
            }
        });
    }

    const REQUEST: &[u8] = br#"[{"jsonrpc":"2.0","method":"f","params":[1],"id":1.0},{"jsonrpc":"2.0","method":"f"}]"#;

    /// The strategies above must reach behind the first check of each parser.
    #[test]
    fn what_is_right_is_read() {
        let response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n";
        for (_, target) in TARGETS {
            for bytes in [
                &br#"{"fun":"f","args":[1],"kwargs":{"b":2}}"#[..],
                REQUEST,
                b"[1,2]",
                br#"{"a":[{"$serde_json::private::RawValue":"[[1]]"}]}"#,
                b"\x02\x91\x01\x82\xa1b\x02\xa1c\x91\x03",
                b"a=1&b=2",
                b"timeout=5",
                b"17, 350",
                b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                b"tenant@system=1, other=2,,",
                b"9f3c62d027ab51d0",
                response,
                b"for=\"[2001:db8::1]:80\";by=10.0.0.2, for=10.0.0.1",
                b"203.0.113.7, 10.0.0.1",
                b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\nPOST",
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x67\x01\xbb",
                b"\x01\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
                b"\0\0\0\x01\x04\0\0\0\0\0\0\0\0\0\0\x013",
                b"\0\0\0\x08\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x11\0\0\x01\x5e",
                b"\xf8\x03\0\0\x01\x09\0\0\0\0[1,2]\x04\x80\0\0\x013",
            ] {
                target(bytes);
            }
        }
        assert!(plain_format::read(&Bytes::from_static(br#"{"fun":"f","args":[1]}"#)).is_ok());
        let json_rpc_format::JsonRpcBody::Batch(asked) = json_rpc_format::read(&Bytes::from_static(REQUEST), 3) else {
            panic!("an array is a batch");
        };
        assert!(asked.iter().all(|asked| asked.call.is_ok()));
        assert!(query::read("a=1&b=2").is_ok_and(|pairs| pairs.len() == 2));
    }
}
