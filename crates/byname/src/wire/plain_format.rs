//! The plain way, which the original has: `POST /rpc` with `{"fun", "args", "kwargs"}`. The reply is `{"ret": …}` or
//! `{"err": ERROR}`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;

use super::json_object::{UnknownMembers, members};
use super::{HttpReply, headers};
use crate::arguments::EncodedArguments;
use crate::codec::{self, Codec};
use crate::error::{Code, Error, Executed};

/// Server: the name and the arguments.
pub(crate) fn read(body: &Bytes) -> Result<(String, EncodedArguments), Error> {
    let no_call = |why: &str| {
        invalid(format!("the body is not a call: {why}; expected {{\"fun\": name, \"args\": […], \"kwargs\": {{…}}}}"))
    };
    // `ext` is reserved. A server that does not know what is in it ignores it.
    let [fun, args, kwargs, _] = members(body, &["fun", "args", "kwargs", "ext"], UnknownMembers::Refused)
        .map_err(|why| no_call(&codec::why_no_json(body, &why)))?;
    let fun = fun.ok_or_else(|| no_call("missing field `fun`"))?;
    let fun = codec::decode(Codec::Json, fun.get().as_bytes()).map_err(|why| no_call(&format!("`fun`: {why}")))?;
    let part = |raw: Option<&RawValue>, opening: &str, what: &str| match raw.map(RawValue::get) {
        None | Some("null") => Ok(Bytes::new()),
        Some(text) if text.starts_with(opening) => Ok(body.slice_ref(text.as_bytes())),
        Some(_) => Err(invalid(what.to_owned())),
    };
    let args = EncodedArguments {
        codec: Codec::Json,
        positional: part(args, "[", "`args` must be an array: the arguments by position")?,
        keyword: part(kwargs, "{", "`kwargs` must be an object: the arguments by name")?,
    };
    Ok((fun, args))
}

/// Server: a success.
pub(crate) fn success(value: &[u8]) -> HttpReply {
    let body = [b"{\"ret\":", value, b"}"].concat().into();
    HttpReply { status: StatusCode::OK, content_type: headers::JSON, retry_after: None, body }
}

/// Client: the body of a call.
pub(crate) fn write(name: &str, args: &EncodedArguments) -> Vec<u8> {
    let positional: &[u8] = if args.positional.is_empty() { b"[]" } else { &args.positional };
    let keyword: &[u8] = if args.keyword.is_empty() { b"{}" } else { &args.keyword };
    // An invalid name is rejected before this point, so the name needs no escapes.
    [b"{\"fun\":\"", name.as_bytes(), b"\",\"args\":", positional, b",\"kwargs\":", keyword, b"}"].concat()
}

/// Client: the value of a success, not decoded.
pub(super) fn value(name: &str, status: StatusCode, body: &Bytes) -> Result<Bytes, Error> {
    match members(body, &["ret"], UnknownMembers::Ignored) {
        Ok([Some(ret)]) => Ok(body.slice_ref(ret.get().as_bytes())),
        _ => {
            let status = status.as_u16();
            let why = format!(
                "`{name}` was answered {status} with a body that is not {{\"ret\": …}}; is it an RPC endpoint?"
            );
            Err(Error::new(Code::Internal, why).executed_is(Executed::Unknown))
        }
    }
}

fn invalid(why: String) -> Error {
    Error::refused(Code::InvalidArgument, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;
    use crate::wire::Way;
    use http::HeaderMap;

    fn parts(body: &'static str) -> Result<(String, String, String), String> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        match read(&Bytes::from_static(body.as_bytes())) {
            Ok((name, args)) => Ok((name, text(args.positional), text(args.keyword))),
            Err(error) => Err(error.message().to_owned()),
        }
    }

    #[test]
    fn the_envelope_is_strict() {
        let all = (String::from("f"), String::from("[1]"), String::from("{\"a\": 2}"));
        assert_eq!(parts(r#"{"fun": "f", "args": [1], "kwargs": {"a": 2}}"#), Ok(all.clone()));
        assert_eq!(parts(r#"{"kwargs": {"a": 2}, "ext": {"x": [1]}, "args": [1], "fun": "\u0066"}"#), Ok(all));
        assert_eq!(parts(r#"{"fun": "f"}"#), Ok(("f".into(), "".into(), "".into())));
        assert!(parts(r#"{"fun": "f", "fun": "g"}"#).unwrap_err().contains("duplicate field `fun`"));
        assert!(parts(r#"{"fun": "f", "arg": []}"#).unwrap_err().contains("unknown field `arg`"));
        assert!(parts(r#"{"fun": "f", "args": {}}"#).unwrap_err().contains("`args` must be an array"));
        assert!(parts(r#"{"fun": "f", "kwargs": []}"#).unwrap_err().contains("`kwargs` must be an object"));
        for bad in ["", "null", "[]", r#"["f", [1], {}]"#, "{", r#"{"fun": 1}"#, r#"{"args": []}"#, r#"{"fun": "f"} x"#]
        {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_server_reads_requests_as_the_client_wrote_them() {
        let args = EncodedArguments::by_position(Codec::Json, Bytes::from_static(b"[1]"));
        let (name, args) = read(&write("a.b", &args).into()).unwrap();
        assert_eq!((name.as_str(), &args.positional[..], &args.keyword[..]), ("a.b", &b"[1]"[..], &b"{}"[..]));
    }

    /// What a reply without headers is that is no success.
    fn refused(status: StatusCode, reason: Option<&[u8]>, body: &'static str) -> (Code, Executed) {
        let body = Bytes::from_static(body.as_bytes());
        match super::super::reply(Way::Plain, "f", status, reason, &HeaderMap::new(), &body).unwrap_err() {
            Failure::Rpc(error) => (error.code(), error.executed()),
            Failure::Method { .. } => panic!("no function ran"),
        }
    }

    #[test]
    fn a_502_is_classified_by_its_reason_and_body() {
        let unavailable = (Code::Unavailable, Executed::Unknown);
        assert_eq!(
            refused(StatusCode::BAD_GATEWAY, Some(b"no func found err"), ""),
            (Code::Unimplemented, Executed::No)
        );
        assert_eq!(refused(StatusCode::BAD_GATEWAY, Some(b"Bad Gateway"), "<html>nginx</html>"), unavailable);
        assert_eq!(refused(StatusCode::BAD_GATEWAY, None, ""), unavailable);
        let ours = r#"{"err":{"code":"unimplemented","message":"x","executed":"no","kind":"rpc"}}"#;
        assert_eq!(refused(StatusCode::BAD_GATEWAY, Some(b"Bad Gateway"), ours), (Code::Unimplemented, Executed::No));
    }

    #[test]
    fn a_malformed_success_is_an_error() {
        for body in ["", "3", "{}", "{\"ret\":", "<html>", "[{\"ret\":1}]"] {
            assert_eq!(refused(StatusCode::OK, None, body), (Code::Internal, Executed::Unknown), "{body}");
        }
    }
}
