//! The upgrade from HTTP/1.1 to frames: the WebSocket handshake (RFC 6455, section 4.2).

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method as Verb, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;

use super::answer::Rejection;
use crate::error::{Code, Error};
use crate::frames::SUBPROTOCOL;
use crate::frames::websocket;

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked_for(head: &Parts) -> bool {
    head.method == Verb::GET && head.version == Version::HTTP_11 && names(&head.headers, &UPGRADE, "websocket")
}

/// Whether the header says that a body follows (RFC 9112, section 6.3).
pub(super) fn announces_body(head: &Parts) -> bool {
    let headers = &head.headers;
    headers.contains_key(TRANSFER_ENCODING) || headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0")
}

/// The connection, and the answer after which it carries frames. Or the reason for a rejection.
pub(super) fn grant(
    head: &mut Parts,
    has_body: bool,
    is_ready: bool,
) -> Result<(Response<Bytes>, OnUpgrade), Rejection> {
    let wrong = |status, why: &'static str| Rejection::new(status, Error::refused(Code::InvalidArgument, why));
    let headers = &head.headers;
    if !names(headers, &CONNECTION, "upgrade") {
        return Err(wrong(StatusCode::BAD_REQUEST, "`upgrade: websocket` came without `connection: upgrade`"));
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let why = "`sec-websocket-version` must be present once, with the value 13";
        return Err(wrong(StatusCode::UPGRADE_REQUIRED, why)
            .with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
            .with(UPGRADE, HeaderValue::from_static("websocket"))
            .with(CONNECTION, HeaderValue::from_static("upgrade")));
    }
    if !names(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        let why = "this endpoint speaks `byname.v1` over WebSocket: ask for it with `sec-websocket-protocol`";
        return Err(wrong(StatusCode::BAD_REQUEST, why));
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| websocket::is_key(key.as_bytes()));
    let Some(key) = key else {
        let why = "`sec-websocket-key` must be present once, with sixteen bytes in base64";
        return Err(wrong(StatusCode::BAD_REQUEST, why));
    };
    if has_body {
        let why = "a WebSocket handshake must have no body: its bytes would be read as frames";
        return Err(wrong(StatusCode::BAD_REQUEST, why));
    }
    if !is_ready {
        let why = "the server is stopping and accepts no new connections; connect to another one";
        return Err(Rejection::new(StatusCode::SERVICE_UNAVAILABLE, Error::refused(Code::Unavailable, why)));
    }
    let accept = websocket::accept(key.as_bytes());
    let Some(upgrade) = head.extensions.remove::<OnUpgrade>() else {
        let why = "the HTTP server around byname passes no upgrade on; call over HTTP";
        return Err(Rejection::new(StatusCode::NOT_IMPLEMENTED, Error::refused(Code::Unimplemented, why)));
    };
    let mut granted = Response::new(Bytes::new());
    *granted.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = granted.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).expect("base64 can stand in a header"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok((granted, upgrade))
}

/// The value of a header, if it is present exactly once.
fn only<'h>(headers: &'h HeaderMap, header: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(header).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether a list in a header contains this word.
fn names(headers: &HeaderMap, header: &HeaderName, word: &str) -> bool {
    let lists = headers.get_all(header).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}
