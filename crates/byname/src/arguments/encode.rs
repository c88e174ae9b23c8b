//! From Rust to the wire.

use std::any::Any;

use serde_core::Serialize;

use super::arities::for_every_arity;
use super::builder::Args;
use super::encoded::{EncodedArguments, KeywordMap};
use crate::codec::{self, Codec};
use crate::error::{Code, Error};
use crate::method::Param;
use crate::outcome::items::CallStream;

/// A stub's arguments: a tuple of up to sixteen.
pub trait ToArguments: Send {
    /// Appends them by name, as one map. Only what can't be misread is left out: a `None` without a default. A value
    /// equal to its default is sent, for the server may have another default.
    #[doc(hidden)]
    fn to_keyword(&self, params: &[Param], codec: Codec, out: &mut Vec<u8>) -> Result<(), Error>;
    /// Takes the stream out, where one goes with the call.
    #[doc(hidden)]
    fn take_stream(&mut self) -> Option<CallStream> {
        None
    }
}

macro_rules! tuples {
    ($(($($type:ident . $index:tt),*))*) => {$(
        impl<$($type: Serialize + Send),*> ToArguments for ($($type,)*) {
            #[allow(unused_variables, reason = "the empty tuple uses none")]
            fn to_keyword(&self, params: &[Param], codec: Codec, out: &mut Vec<u8>) -> Result<(), Error> {
                #[allow(unused_mut, reason = "the empty tuple adds none")]
                let mut keyword = KeywordMap::new(codec, out);
                $(keyword.add(&self.$index, &params[$index])?;)*
                keyword.end();
                Ok(())
            }
        }
    )*};
}
for_every_arity!(tuples);

/// The arguments of a call by name: a tuple or sequence is by position, a struct or map by name, `()` none, and
/// [`Args`] says itself.
pub(crate) fn encode_dynamic<A: Serialize + 'static>(name: &str, args: &A) -> Result<EncodedArguments, Error> {
    let unencodable = |why: String| {
        Error::refused(Code::InvalidArgument, format!("the arguments of `{name}` can't be encoded: {why}"))
    };
    if let Some(args) = (args as &dyn Any).downcast_ref::<Args>() {
        return args.encoded().map_err(unencodable);
    }
    let mut text = Vec::new();
    codec::encode(Codec::Json, args, &mut text).map_err(unencodable)?;
    match text.first() {
        Some(b'[') => Ok(EncodedArguments::by_position(Codec::Json, text.into())),
        Some(b'{') => Ok(EncodedArguments::by_name(Codec::Json, text.into())),
        _ if text == b"null" => Ok(EncodedArguments::none(Codec::Json)),
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
        Param {
            name: name.into(),
            ty: "".into(),
            optional,
            default: default.map(Into::into),
            default_packed: default.map(|text| codec::to_message_pack(text.as_bytes()).unwrap()),
            schema: |_| byname_schema::TypeSchema::unknown(),
        }
    }

    #[test]
    fn stubs_leave_out_only_what_cannot_be_misread() {
        let params = [
            param("a", false, None),
            param("b", true, None),
            param("c", false, Some("10")),
            param("d", true, Some("10")),
        ];
        let keyword = |args: (Option<u8>, Option<u8>, u8, Option<u8>)| {
            let mut out = Vec::new();
            args.to_keyword(&params, Codec::Json, &mut out).unwrap();
            let mut packed = b"before".to_vec();
            args.to_keyword(&params, Codec::MessagePack, &mut packed).unwrap();
            assert_eq!(codec::to_json(&packed[6..]).unwrap(), out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(keyword((Some(1), Some(2), 3, Some(4))), r#"{"a":1,"b":2,"c":3,"d":4}"#);
        assert_eq!(keyword((None, None, 10, None)), r#"{"a":null,"c":10,"d":null}"#, "defaults are sent");
        assert_eq!(keyword((Some(1), None, 3, Some(10))), r#"{"a":1,"c":3,"d":10}"#);
    }

    #[test]
    fn a_name_and_its_arguments() {
        let parts = |encoded: EncodedArguments| {
            (
                String::from_utf8(encoded.positional.to_vec()).unwrap(),
                String::from_utf8(encoded.keyword.to_vec()).unwrap(),
            )
        };
        let dynamic = |encoded: Result<EncodedArguments, Error>| encoded.map(parts).unwrap();
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
