//! An argument that a server doesn't know: how it says so, and the same call without it.

use serde_json::{Value, json};

use super::EncodedArguments;
use crate::codec::{self, Codec};
use crate::error::{Code, Error, Executed};
use crate::method::{Method, Param};

/// The member of an error's data that names the argument.
const MEMBER: &str = "unknown_argument";

/// The longest name that is sent back, in bytes: a caller can send one of any length.
const LONGEST: usize = 128;

/// Server: the error about an argument of this name, which says it in words already.
pub(super) fn says(error: Error, name: &str) -> Error {
    if name.len() > LONGEST { error } else { error.with_data(json!({ MEMBER: name })) }
}

/// Client: the argument that the server doesn't know, where that is why it did not run the call.
pub(crate) fn told(error: &Error) -> Option<&str> {
    if error.code() != Code::InvalidArgument || error.executed() != Executed::No {
        return None;
    }
    error.data()?.get(MEMBER)?.as_str()
}

impl EncodedArguments {
    /// Removes the argument of this name if its value is its default at the caller, `method`. The function that doesn't
    /// know the argument then does what it did before there was one.
    pub(crate) fn remove_default(&mut self, method: &Method, name: &str) -> bool {
        let Some(param) = method.params.iter().find(|param| param.name == name && param.default.is_some()) else {
            return false;
        };
        match without(self.codec, &self.keyword, param) {
            Some(keyword) => {
                self.keyword = keyword.into();
                true
            }
            None => false,
        }
    }

    /// Removes what `callee` doesn't know and has the default of `caller`.
    pub(crate) fn remove_unknown_defaults(&mut self, caller: &Method, callee: &Method) {
        let knows = |name: &str| callee.params.iter().chain(&callee.takes).any(|param| param.name == name);
        for param in &caller.params {
            if param.default.is_some() && !knows(&param.name) {
                self.remove_default(caller, &param.name);
            }
        }
    }
}

/// The map without the entry of `param`; `None` where it has none, or one of another value than the default.
fn without(codec: Codec, map: &[u8], param: &Param) -> Option<Vec<u8>> {
    let entries = codec::entries(codec, map)?;
    let (_, value) = entries.iter().find(|(name, _)| *name == param.name)?;
    if !is_default(codec, value, param) {
        return None;
    }
    let rest = entries.iter().filter(|(name, _)| *name != param.name);
    let mut out = Vec::with_capacity(map.len());
    match codec {
        Codec::MessagePack => codec::LengthKind::Map.begin(entries.len() - 1, &mut out),
        Codec::Json => out.push(b'{'),
    }
    for (at, (name, value)) in rest.enumerate() {
        super::encode::put_name(codec, at == 0, name, &mut out);
        out.extend_from_slice(value);
    }
    if codec == Codec::Json {
        out.push(b'}');
    }
    Some(out)
}

/// Whether this is the default. The entries of a map have no order.
fn is_default(codec: Codec, value: &[u8], param: &Param) -> bool {
    let Some(default) = param.encoded_default(codec) else {
        return false;
    };
    let read = |bytes| codec::decode::<Value>(codec, bytes).ok();
    value == default || read(value).is_some_and(|value| read(default) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::ToArguments;
    use crate::fuzzing::three;

    #[test]
    fn only_a_default_is_removed() {
        let method = three();
        for codec in [Codec::Json, Codec::MessagePack] {
            let encoded = |c: &[f64]| {
                let mut keyword = Vec::new();
                (7, Some(1), c).to_keyword(&method.params, codec, &mut keyword).unwrap();
                EncodedArguments::by_name(codec, keyword.into())
            };
            let mut other = encoded(&[1.5, 2.0]);
            for name in ["a", "b", "c", "d"] {
                assert!(!other.remove_default(&method, name), "{name}");
            }
            assert_eq!(other, encoded(&[1.5, 2.0]));

            let mut default = encoded(&[1.5]);
            assert!(default.remove_default(&method, "c"));
            assert!(!default.remove_default(&method, "c"), "it is gone");
            let left = default.into_codec(Codec::Json).unwrap();
            assert_eq!(left.keyword, br#"{"a":7,"b":1}"#[..]);
        }
    }

    #[test]
    fn the_entries_of_a_map_have_no_order() {
        let param = Param {
            name: "a".into(),
            ty: "".into(),
            optional: false,
            default: Some(r#"{"x":1,"y":2}"#.into()),
            default_packed: None,
        };
        assert!(is_default(Codec::Json, br#"{"y":2,"x":1}"#, &param));
        assert!(!is_default(Codec::Json, br#"{"y":2}"#, &param));
    }

    #[test]
    fn an_error_names_the_argument_only_where_the_call_did_not_run() {
        let refused = |code| Error::refused(code, "");
        assert_eq!(told(&says(refused(Code::InvalidArgument), "a")), Some("a"));
        assert_eq!(told(&says(refused(Code::InvalidArgument).executed_is(Executed::Yes), "a")), None);
        assert_eq!(told(&says(refused(Code::Unavailable), "a")), None);
        assert_eq!(told(&refused(Code::InvalidArgument)), None);
        let longest = "x".repeat(LONGEST);
        assert_eq!(told(&says(refused(Code::InvalidArgument), &longest)), Some(longest.as_str()));
        assert_eq!(told(&says(refused(Code::InvalidArgument), &"x".repeat(LONGEST + 1))), None);
    }
}
