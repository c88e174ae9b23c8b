//! JSON-RPC 2.0: `POST /rpc` with an object that has the member `jsonrpc`, or with an array of such objects, a batch.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use serde_core::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json_object::{UnknownMembers, has, members};
use super::{HttpReply, WireError, headers};
use crate::arguments::EncodedArguments;
use crate::codec::{self, Codec};
use crate::error::{Code, Error, Kind};
use crate::limits_and_timeouts::Limit;

/// What a body contains.
pub(crate) enum JsonRpcBody {
    /// One request, or a body that is rejected as a whole.
    Single(JsonRpcRequest),
    Batch(Vec<JsonRpcRequest>),
}

/// One request of a body.
pub(crate) struct JsonRpcRequest {
    /// The id as it was written; `null` if it is unknown. A request without an id is a notification, which gets no reply.
    pub(crate) id: Option<Bytes>,
    pub(crate) call: Result<(String, EncodedArguments), InvalidRequest>,
    /// Of its text.
    pub(crate) length: usize,
}

/// Why something is not a valid request.
pub(crate) struct InvalidRequest {
    json_rpc_code: i32,
    error: Error,
}

/// The `error.code` of an error that the function returned.
const OWN: i32 = -32000;
const NULL: Bytes = Bytes::from_static(b"null");

/// Server: whether a body is JSON-RPC, valid or not.
pub(crate) fn is(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"[") || has(body, &["jsonrpc"])
}

/// Server: the requests of a body. If a batch has more than `most`, none is read.
pub(crate) fn read(body: &Bytes, most: usize) -> JsonRpcBody {
    let is_batch = body.trim_ascii_start().starts_with(b"[");
    let read = if is_batch { batch(body, most) } else { single(body).map(JsonRpcBody::Single) };
    let invalid = |no_call| JsonRpcRequest { id: Some(NULL), call: Err(no_call), length: body.len() };
    read.unwrap_or_else(|no_call| JsonRpcBody::Single(invalid(no_call)))
}

/// Server: a success.
pub(crate) fn success(id: &[u8], value: &[u8]) -> Bytes {
    [b"{\"jsonrpc\":\"2.0\",\"result\":", value, b",\"id\":", id, b"}"].concat().into()
}

/// Server: a failure.
pub(crate) fn failure(id: &[u8], refusal: &WireError) -> Bytes {
    let code = match refusal.error().kind() {
        Kind::Method => OWN,
        Kind::Rpc => refusal.error().code().json_rpc_code(),
    };
    error(id, code, refusal)
}

/// Server: the reply to an invalid request.
pub(crate) fn no_call(id: &[u8], no_call: InvalidRequest) -> Bytes {
    error(id, no_call.json_rpc_code, &WireError::from(no_call.error))
}

/// Server: the replies of a batch, joined.
pub(crate) fn together(replies: &[Bytes]) -> Bytes {
    let mut body = Vec::with_capacity(1 + replies.iter().map(|reply| reply.len() + 1).sum::<usize>());
    for reply in replies {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(reply);
    }
    body.push(b']');
    body.into()
}

/// Server: the reply; none if every request was a notification.
pub(crate) fn answer(body: Option<Bytes>) -> HttpReply {
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT };
    HttpReply { status, content_type: headers::JSON, retry_after: None, body: body.unwrap_or_default() }
}

fn error(id: &[u8], code: i32, refusal: &WireError) -> Bytes {
    let message = serde_json::to_vec(refusal.error().message()).unwrap_or_else(|_| b"\"\"".to_vec());
    let (code, whole) = (code.to_string(), refusal.json());
    [
        b"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":",
        code.as_bytes(),
        b",\"message\":",
        &message,
        b",\"data\":",
        &whole,
        b"},\"id\":",
        id,
        b"}",
    ]
    .concat()
    .into()
}

fn single(body: &Bytes) -> Result<JsonRpcRequest, InvalidRequest> {
    let asked = request(body, body);
    if asked.call.is_err() {
        // If the text is not valid JSON, that error goes first. Unlike `IgnoredAny`, this checks UTF-8 too.
        serde_json::from_slice::<&RawValue>(body).map_err(|why| InvalidRequest::text(&why))?;
    }
    Ok(asked)
}

fn batch(body: &Bytes, most: usize) -> Result<JsonRpcBody, InvalidRequest> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = json.deserialize_seq(BatchItems { most }).and_then(|items| json.end().map(|()| items));
    let (items, count) = read.map_err(|why| InvalidRequest::text(&why))?;
    if count > most {
        let why = format!("the batch has {count} requests, more than {most} (`Limits::batch` of the server)");
        let error = Error::refused(Code::ResourceExhausted, why).of_limit(Limit::Batch);
        return Err(InvalidRequest { json_rpc_code: Code::ResourceExhausted.json_rpc_code(), error });
    }
    if count == 0 {
        return Err(InvalidRequest::request("a batch has at least one request"));
    }
    Ok(JsonRpcBody::Batch(items.into_iter().map(|item| request(body, item.get().as_bytes())).collect()))
}

/// Reads one request. `text` is a part of `body`.
fn request(body: &Bytes, text: &[u8]) -> JsonRpcRequest {
    let length = text.len();
    // `ext` is reserved, as on the plain way.
    let [version, method, params, id, _] =
        match members(text, &["jsonrpc", "method", "params", "id", "ext"], UnknownMembers::Refused) {
            Ok(members) => members,
            Err(why) => {
                // The sender finds the reply by the id, if the id is certain.
                let id = match members(text, &["id"], UnknownMembers::Ignored) {
                    Ok([Some(id)]) => own_id(body, id),
                    _ => None,
                };
                let call = Err(InvalidRequest::request(&codec::without_position(&why.to_string())));
                return JsonRpcRequest { id: id.or(Some(NULL)), call, length };
            }
        };
    let call = call(body, version, method, params);
    match id.map(|id| own_id(body, id)) {
        Some(Some(id)) => JsonRpcRequest { id: Some(id), call, length },
        Some(None) => {
            let call = call.and_then(|_| Err(InvalidRequest::request("`id` must be a string, a number or null")));
            JsonRpcRequest { id: Some(NULL), call, length }
        }
        None if call.is_ok() => JsonRpcRequest { id: None, call, length },
        // A notification must be a valid request. An invalid one gets a reply.
        None => JsonRpcRequest { id: Some(NULL), call, length },
    }
}

fn call(
    body: &Bytes,
    version: Option<&RawValue>,
    method: Option<&RawValue>,
    params: Option<&RawValue>,
) -> Result<(String, EncodedArguments), InvalidRequest> {
    let text = |raw: &RawValue| codec::decode::<String>(Codec::Json, raw.get().as_bytes());
    match version.map(text) {
        Some(Ok(version)) if version == "2.0" => {}
        Some(_) => return Err(InvalidRequest::request("`jsonrpc` must be \"2.0\"")),
        None => return Err(InvalidRequest::request("missing field `jsonrpc`")),
    }
    let method = method.ok_or_else(|| InvalidRequest::request("missing field `method`"))?;
    let name = text(method).map_err(|why| InvalidRequest::request(&format!("`method`: {why}")))?;
    let slice = |raw: &RawValue| body.slice_ref(raw.get().as_bytes());
    let args = match params {
        None => EncodedArguments::none(Codec::Json),
        Some(raw) => match raw.get().as_bytes().first() {
            Some(b'[') => EncodedArguments::by_position(Codec::Json, slice(raw)),
            Some(b'{') => EncodedArguments::by_name(Codec::Json, slice(raw)),
            // This is not in the specification, but many clients do it.
            Some(b'n') => EncodedArguments::none(Codec::Json),
            _ => {
                let why = "`params` must be an array (arguments by position) or an object (by name)";
                return Err(InvalidRequest::request(why));
            }
        },
    };
    Ok((name, args))
}

/// The id as it was written, if it is a valid id.
fn own_id(body: &Bytes, id: &RawValue) -> Option<Bytes> {
    let may_be = matches!(id.get().as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9' | b'n'));
    may_be.then(|| body.slice_ref(id.get().as_bytes()))
}

impl InvalidRequest {
    /// A request that is valid by itself, and not where it is.
    pub(crate) fn new(error: Error) -> Self {
        Self { json_rpc_code: -32600, error }
    }

    pub(crate) fn error(&self) -> &Error {
        &self.error
    }

    /// The body is not JSON.
    fn text(why: &serde_json::Error) -> Self {
        // The position is one in the body, as the sender sees it.
        Self { json_rpc_code: -32700, error: Error::refused(Code::InvalidArgument, format!("Parse error: {why}")) }
    }

    /// The body is JSON, but not a request.
    fn request(why: &str) -> Self {
        let why = format!(
            "Invalid Request: {why}; expected {{\"jsonrpc\": \"2.0\", \"method\": name, \"params\": […] or {{…}}, \
             \"id\": …}}, or an array of these"
        );
        Self { json_rpc_code: -32600, error: Error::refused(Code::InvalidArgument, why) }
    }
}

/// The items of an array, not decoded, and their number. Items beyond `most` are only counted.
struct BatchItems {
    most: usize,
}

impl<'a> Visitor<'a> for BatchItems {
    type Value = (Vec<&'a RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.most {
            match array.next_element()? {
                Some(item) => items.push(item),
                None => {
                    let count = items.len();
                    return Ok((items, count));
                }
            }
        }
        let mut count = items.len();
        while array.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((items, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Whether it is a batch, and its requests.
    fn all(message: JsonRpcBody) -> (bool, Vec<JsonRpcRequest>) {
        match message {
            JsonRpcBody::Single(asked) => (false, vec![asked]),
            JsonRpcBody::Batch(asked) => (true, asked),
        }
    }

    /// The id of a request, and its call or the code of its error.
    type Said = (Option<String>, Result<String, i32>);

    fn asked(body: &'static str, most: usize) -> (bool, Vec<Said>) {
        let (batch, asked) = all(read(&Bytes::from_static(body.as_bytes()), most));
        let said = |asked: JsonRpcRequest| {
            let call =
                asked.call.map(|(name, args)| format!("{name}{}{}", text(&args.positional), text(&args.keyword)));
            (asked.id.as_ref().map(text), call.map_err(|no_call| no_call.json_rpc_code))
        };
        (batch, asked.into_iter().map(said).collect())
    }

    fn one(body: &'static str) -> Said {
        let (batch, mut asked) = asked(body, 100);
        assert!(!batch && asked.len() == 1, "{body}");
        asked.remove(0)
    }

    #[test]
    fn a_body_is_json_rpc_if_it_is_an_array_or_says_so() {
        for yes in [
            "[",
            " \n[1]",
            r#"{"jsonrpc""#,
            r#"{"jsonrpc":"2.0"}"#,
            r#" {"id":[{"a":1}],"json\u0072pc":1}"#,
            r#"{"fun":"f","jsonrpc":null"#,
            r#"{"jsonrpc":"2.0","method":"foobar, "params":"bar","baz]"#,
        ] {
            assert!(is(yes.as_bytes()), "{yes}");
        }
        for no in [
            "",
            "1",
            "\"jsonrpc\"",
            "{",
            "{}",
            r#"{"fun":"jsonrpc"}"#,
            r#"{"fun":"f","args":[{"jsonrpc":"2.0"}]}"#,
            r#"{"a":1 "jsonrpc":"2.0"}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\"}",
        ] {
            assert!(!is(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn an_id_is_kept_as_it_was_written() {
        for id in ["1", "1.0", "1e3", "-0", "18446744073709551617", "null", "\"\"", r#""\u0061\/\ud800""#, "\"ä\""] {
            let body: &'static str = format!(r#"{{"jsonrpc":"2.0","method":"f","id": {id} }}"#).leak();
            assert_eq!(one(body), (Some(id.into()), Ok("f".into())));
        }
        assert_eq!(one(r#"{"jsonrpc":"2.0","method":"f"}"#), (None, Ok("f".into())));
        for id in ["true", "[1]", "{}"] {
            let body: &'static str = format!(r#"{{"jsonrpc":"2.0","method":"f","id":{id}}}"#).leak();
            assert_eq!(one(body), (Some("null".into()), Err(-32600)), "{id}");
        }
    }

    #[test]
    fn params_are_by_position_or_by_name() {
        let call = |body| one(body).1;
        assert_eq!(call(r#"{"jsonrpc":"2.0","method":"f","params":[1, 2],"id":1}"#), Ok("f[1, 2]".into()));
        assert_eq!(call(r#"{"id":1,"params":{"a":1},"method":"\u0066","jsonrpc":"2.0"}"#), Ok("f{\"a\":1}".into()));
        assert_eq!(call(r#"{"jsonrpc":"2\u002e0","method":"f","params":null,"ext":[],"id":1}"#), Ok("f".into()));
        for bad in ["1", "\"bar\"", "true"] {
            let body: &'static str = format!(r#"{{"jsonrpc":"2.0","method":"f","params":{bad},"id":1}}"#).leak();
            assert_eq!(one(body), (Some("1".into()), Err(-32600)), "{bad}");
        }
    }

    #[test]
    fn an_invalid_request_is_answered_by_its_id_if_the_id_is_certain() {
        for (body, id) in [
            (r#"{"jsonrpc":"1.0","method":"f","id":7}"#, "7"),
            (r#"{"jsonrpc":2.0,"method":"f","id":7}"#, "7"),
            (r#"{"jsonrpc":"2.0","id":7}"#, "7"),
            (r#"{"jsonrpc":"2.0","method":1,"id":7}"#, "7"),
            (r#"{"jsonrpc":"2.0","method":"\ud800","id":7}"#, "7"),
            (r#"{"jsonrpc":"2.0","method":"f","parms":[],"id":7}"#, "7"),
            (r#"{"jsonrpc":"2.0","method":"f","method":"g","id":7}"#, "7"),
            (r#"{"jsonrpc":"2.0","method":"f","id":7,"id":8}"#, "null"),
            (r#"{"jsonrpc":"2.0","jsonrpc":"2.0","method":"f"}"#, "null"),
            (r#"{"jsonrpc":"2.0","method":"f","params":1}"#, "null"),
            (r#"{"jsonrpc":"2.0"}"#, "null"),
        ] {
            assert_eq!(one(body), (Some(id.into()), Err(-32600)), "{body}");
        }
        for body in [
            r#"{"jsonrpc":"2.0","method":"f","id":7"#,
            r#"{"jsonrpc":"2.0","method":"f","id":7}{}"#,
            r#"{"jsonrpc":"2.0","jsonrpc":"2.0",x}"#,
            r#"{"jsonrpc":"2.0","parms":[1,],"id":7}"#,
            r#"{"jsonrpc":"1.0","id":01}"#,
            "[",
            "[1,]",
            "[1] 2",
            r#"[{"jsonrpc":"2.0","method":"f","id":1},{"jsonrpc":"2.0","method"]"#,
        ] {
            assert_eq!(one(body), (Some("null".into()), Err(-32700)), "{body}");
        }
        for body in [&b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\",\"id\":1}"[..], b"[1,\"\xc0\x80\"]"] {
            let (_, asked) = all(read(&Bytes::from_static(body), 100));
            assert!(asked[0].call.as_ref().is_err_and(|no_call| no_call.json_rpc_code == -32700), "{body:?}");
        }
    }

    #[test]
    fn a_batch_is_read_item_by_item_and_counted() {
        let f = |id: &str| (Some(id.to_owned()), Ok("f".to_owned()));
        let wrong = (Some("null".to_owned()), Err(-32600));
        let three = r#"[{"jsonrpc":"2.0","method":"f","id":1},{"jsonrpc":"2.0","method":"f","id":1}, [] ]"#;
        assert_eq!(asked(three, 3), (true, vec![f("1"), f("1"), wrong.clone()]));
        let limit = Code::ResourceExhausted.json_rpc_code();
        assert_eq!(asked(three, 2), (false, vec![(Some("null".to_owned()), Err(limit))]));
        assert_eq!(asked("[]", 0), (false, vec![wrong.clone()]));
        assert_eq!(asked(r#"[1,"a",null,{}]"#, 100), (true, vec![wrong; 4]));
    }

    #[test]
    fn the_reader_does_not_limit_depth() {
        let deep = |open: &str, close: &str| Bytes::from(format!("{}1{}", open.repeat(100_000), close.repeat(100_000)));
        for body in [deep("[", "]"), deep("{\"jsonrpc\":", "}"), deep("[{\"params\":", "}]")] {
            let (_, asked) = all(read(&body, 100));
            assert!(asked.iter().all(|asked| asked.call.is_err()));
        }
    }

    #[test]
    fn replies_are_written_as_the_specification_requires() {
        assert_eq!(text(&success(b"1e3", b"[1]")), r#"{"jsonrpc":"2.0","result":[1],"id":1e3}"#);
        let error = WireError::from(Error::refused(Code::NotFound, "no \"x\""));
        let first = text(&failure(b"\"a\"", &error));
        assert_eq!(
            first,
            r#"{"jsonrpc":"2.0","error":{"code":-32005,"message":"no \"x\"","data":{"code":"not_found","message":"no \"x\"","executed":"no","kind":"rpc"}},"id":"a"}"#
        );
        assert_eq!(together(&[b"{}"[..].into(), b"{}"[..].into()]), "[{},{}]");
    }
}
