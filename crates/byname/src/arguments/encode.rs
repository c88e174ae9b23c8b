//! From Rust to the wire.

use std::any::Any;

use bytes::Bytes;
use serde_core::Serialize;

use super::Args;
use crate::codec;
use crate::error::{Code, Error};
use crate::method::Param;

/// Encoded arguments: a JSON array and a JSON object, each empty where there is none of the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) positional: Bytes,
    pub(crate) keyword: Bytes,
}

/// A stub's arguments: a tuple of up to sixteen.
pub trait ToArguments: Send {
    /// Writes them by name, as one JSON object. What the server fills in itself is left out: `None`, and values
    /// equal to their default; so a new client can call an old server.
    #[doc(hidden)]
    fn to_keyword(&self, params: &[Param], out: &mut Vec<u8>) -> Result<(), Error>;
}

fn write_one<T: Serialize>(value: &T, param: &Param, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    if start > 1 {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(param.name.as_bytes());
    out.extend_from_slice(b"\":");
    let at = out.len();
    codec::encode(value, out).map_err(|why| {
        Error::refused(Code::InvalidArgument, format!("argument `{}` can't be encoded: {why}", param.name))
    })?;
    let text = &out[at..];
    if (param.optional && text == b"null") || param.default.as_ref().is_some_and(|default| text == default.as_bytes()) {
        out.truncate(start);
    }
    Ok(())
}

macro_rules! tuples {
    ($(($($type:ident . $index:tt),*))*) => {$(
        impl<$($type: Serialize + Send),*> ToArguments for ($($type,)*) {
            #[allow(unused_variables, reason = "the empty tuple uses none")]
            fn to_keyword(&self, params: &[Param], out: &mut Vec<u8>) -> Result<(), Error> {
                debug_assert!(out.is_empty());
                out.push(b'{');
                $(write_one(&self.$index, &params[$index], out)?;)*
                out.push(b'}');
                Ok(())
            }
        }
    )*};
}
super::decode::for_every_arity!(tuples);

/// The arguments of a call by name: a tuple or sequence is by position, a struct or map by name, `()` none, and
/// [`Args`] says itself.
pub(crate) fn encode_dynamic<A: Serialize + 'static>(name: &str, args: &A) -> Result<Encoded, Error> {
    let unencodable = |why: String| {
        Error::refused(Code::InvalidArgument, format!("the arguments of `{name}` can't be encoded: {why}"))
    };
    if let Some(args) = (args as &dyn Any).downcast_ref::<Args>() {
        return args.encoded().map_err(unencodable);
    }
    let mut text = Vec::new();
    codec::encode(args, &mut text).map_err(unencodable)?;
    match text.first() {
        Some(b'[') => Ok(Encoded { positional: text.into(), keyword: Bytes::new() }),
        Some(b'{') => Ok(Encoded { positional: Bytes::new(), keyword: text.into() }),
        _ if text == b"null" => Ok(Encoded::default()),
        _ => Err(Error::refused(
            Code::InvalidArgument,
            format!(
                "the arguments of `{name}` are one `{}`, expected a tuple (by position) or a struct or map (by name): \
                 for one argument write `(x,)`",
                std::any::type_name::<A>()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &'static str, optional: bool, default: Option<&str>) -> Param {
        Param { name: name.into(), ty: "".into(), optional, default: default.map(Into::into) }
    }

    #[test]
    fn stubs_leave_out_what_the_server_fills_in() {
        let params = [param("a", false, None), param("b", true, None), param("c", false, Some("10"))];
        let keyword = |args: (Option<u8>, Option<u8>, u8)| {
            let mut out = Vec::new();
            args.to_keyword(&params, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(keyword((Some(1), Some(2), 3)), r#"{"a":1,"b":2,"c":3}"#);
        assert_eq!(keyword((None, None, 10)), r#"{"a":null}"#, "only what may be left out is");
        assert_eq!(keyword((Some(1), None, 3)), r#"{"a":1,"c":3}"#);
    }

    #[test]
    fn a_name_and_its_arguments() {
        let parts = |encoded: Encoded| {
            (
                String::from_utf8(encoded.positional.to_vec()).unwrap(),
                String::from_utf8(encoded.keyword.to_vec()).unwrap(),
            )
        };
        let dynamic = |encoded: Result<Encoded, Error>| encoded.map(parts).unwrap();
        assert_eq!(dynamic(encode_dynamic("f", &(1, "x"))), ("[1,\"x\"]".into(), "".into()));
        assert_eq!(dynamic(encode_dynamic("f", &vec![1])), ("[1]".into(), "".into()));
        assert_eq!(dynamic(encode_dynamic("f", &())), ("".into(), "".into()));
        let map = std::collections::BTreeMap::from([("a", 1)]);
        assert_eq!(dynamic(encode_dynamic("f", &map)), ("".into(), "{\"a\":1}".into()));
        let mixed = Args::new().arg(1).arg(2).kwarg("c \"", 3);
        assert_eq!(dynamic(encode_dynamic("f", &mixed)), ("[1,2]".into(), r#"{"c \"":3}"#.into()));

        let error = encode_dynamic("f", &7).unwrap_err();
        assert!(error.message().contains("`(x,)`"), "{error}");
        let error = encode_dynamic("f", &Args::new().arg(f64::NAN)).unwrap_err();
        assert!(error.message().contains("NaN"), "{error}");
    }
}
