//! The path way: the name is in the path. `POST /rpc/add` has the arguments as its body, and the reply is the bare value.
//! `GET` is for `readonly` functions.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{HttpReply, headers};
use crate::arguments::EncodedArguments;
use crate::codec::Codec;
use crate::error::{Code, Error, Executed};
use crate::untrusted_text::quoted;

/// Characters that a path can't contain unencoded (RFC 3986, section 3.3). Percent signs are checked separately.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Both sides: checks that the path of an endpoint arrives as it is written. The error says why not, and how to write it.
pub(crate) fn check(path: &str) -> Result<(), String> {
    if let Some(dots) = path.split('/').find(|segment| matches!(*segment, "." | "..")) {
        return Err(format!("clients resolve its segment `{dots}` before they send it; write the path without it"));
    }
    let is_hex = |text: &str| text.len() >= 2 && text.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    let mut parts = path.split('%');
    let mut right = utf8_percent_encode(parts.next().unwrap_or_default(), ENCODED).to_string();
    for part in parts {
        right.push_str(if is_hex(part) { "%" } else { "%25" });
        right.extend(utf8_percent_encode(part, ENCODED));
    }
    match right == path {
        true => Ok(()),
        false => Err(format!("its path must be percent-encoded: {}", quoted(&right))),
    }
}

/// Server: the arguments of a POST.
pub(crate) fn read(body: Bytes) -> Result<EncodedArguments, Error> {
    let text = body.trim_ascii();
    match text.first() {
        None => Ok(EncodedArguments::none(Codec::Json)),
        Some(b'[') => Ok(EncodedArguments::by_position(Codec::Json, body)),
        Some(b'{') => Ok(EncodedArguments::by_name(Codec::Json, body)),
        Some(_) if text == b"null" => Ok(EncodedArguments::none(Codec::Json)),
        Some(_) => Err(Error::refused(
            Code::InvalidArgument,
            "the body must be a JSON array (arguments by position) or a JSON object (by name), or empty",
        )),
    }
}

/// Server: a success.
pub(crate) fn success(value: Bytes) -> HttpReply {
    HttpReply { status: StatusCode::OK, content_type: headers::JSON, retry_after: None, body: value }
}

/// Client: the body of a call. `None` if some arguments are by position and some by name, which only the plain way can
/// carry.
pub(crate) fn write(args: &EncodedArguments) -> Option<Bytes> {
    match (args.positional.is_empty(), args.keyword.is_empty()) {
        (false, false) => None,
        (false, true) => Some(args.positional.clone()),
        (true, false) => Some(args.keyword.clone()),
        (true, true) => Some(Bytes::from_static(b"[]")),
    }
}

/// Client: the value of a success, not decoded.
pub(super) fn value(name: &str, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Result<Bytes, Error> {
    // Any web server may answer 200. The header says that this is the value of a function.
    if headers::is_byname(headers) {
        return Ok(body.clone());
    }
    let status = status.as_u16();
    let why = format!(
        "`{name}` was answered {status} by something that is no longer a byname server (no `byname-protocol`); what is at its address now?"
    );
    Err(Error::new(Code::Internal, why).executed_is(Executed::Unknown))
}
