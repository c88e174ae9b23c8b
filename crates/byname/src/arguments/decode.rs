//! From the wire to Rust.

use std::any::{Any, TypeId};
use std::fmt;

use serde_core::Deserialize;
use serde_core::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::arities::for_every_arity;
use super::encoded::EncodedArguments;
use super::{Argument, unknown};
use crate::codec::{self, Codec, ErrorPath};
use crate::error::{Code, Error};
use crate::limits_and_timeouts::Limit;
use crate::method::{Method, Param};
use crate::outcome::Items;

/// A function's arguments: a tuple of up to sixteen.
pub trait FromArguments: Send + Sized + 'static {
    #[doc(hidden)]
    type Slots;
    #[doc(hidden)]
    fn slots() -> Self::Slots;
    /// Reads the argument at `index`; `false` if it was there already.
    #[doc(hidden)]
    fn fill<'de, D: Deserializer<'de>>(slots: &mut Self::Slots, index: usize, value: D) -> Result<bool, D::Error>;
    /// The tuple, or the first argument that is missing.
    #[doc(hidden)]
    fn finish(slots: Self::Slots, params: &[Param]) -> Result<Self, MissingArgument>;
    /// Whether the argument is one [`Bytes`](crate::Bytes), or the items of the stream are.
    #[doc(hidden)]
    fn are_bytes() -> bool {
        TypeId::of::<Self>() == TypeId::of::<(codec::Bytes,)>()
    }
    /// Takes the stream that came with the call, or gives it back where there is no argument for one.
    #[doc(hidden)]
    fn take_items(&mut self, items: Items, _: &Method, _: usize) -> Result<(), Items> {
        Err(items)
    }
    /// Whether an argument is a stream, and none came.
    #[doc(hidden)]
    fn lacks_items(&self) -> bool {
        false
    }
}

/// What a function is called with.
pub(crate) struct CallInput<'a> {
    pub(crate) args: ArgumentSource<'a>,
    /// What its caller streams in.
    pub(crate) items: Option<Items>,
    /// How deep its items may be nested.
    pub(crate) nesting: usize,
}

/// The index of an argument that is missing.
#[derive(Debug)]
pub struct MissingArgument(usize);

/// Where arguments come from.
pub(crate) enum ArgumentSource<'a> {
    /// An array and a map; empty is none. Neither may be nested deeper than `nesting`.
    Encoded { codec: Codec, positional: &'a [u8], keyword: &'a [u8], nesting: usize },
    /// Text by name: each is tried as a string first, then as JSON.
    Query(&'a [(String, String)]),
    /// The tuple itself.
    Local(Box<dyn Any + Send>),
}

impl<'a> ArgumentSource<'a> {
    /// Encoded ones, which may be nested as deep as `nesting`.
    pub(crate) fn encoded(args: &'a EncodedArguments, nesting: usize) -> Self {
        let EncodedArguments { codec, positional, keyword } = args;
        Self::Encoded { codec: *codec, positional, keyword, nesting }
    }
}

/// Reads the arguments of `method`. Every error names the argument, in the same words whatever the source.
pub(crate) fn decode<A: FromArguments>(method: &Method, call: CallInput<'_>) -> Result<A, Error> {
    let invalid = |why: String| {
        Error::refused(Code::InvalidArgument, format!("{why}; the signature is `{}`", method.signature()))
    };
    let CallInput { args, items, nesting } = call;
    let mut args = values::<A>(method, args)?;
    if let Some(items) = items
        && args.take_items(items, method, nesting).is_err()
    {
        return Err(invalid(format!("`{}` takes no stream, but one was sent", method.name)));
    }
    match &method.takes {
        Some(stream) if args.lacks_items() => Err(invalid(format!(
            "argument `{}` is missing: it is a stream, whose items are sent with the call",
            stream.name
        ))),
        _ => Ok(args),
    }
}

/// Reads all arguments but a stream.
fn values<A: FromArguments>(method: &Method, source: ArgumentSource<'_>) -> Result<A, Error> {
    let invalid = |why: String| {
        Error::refused(Code::InvalidArgument, format!("{why}; the signature is `{}`", method.signature()))
    };
    let params = &method.params;
    let mut slots = A::slots();
    let mut unknown = None;
    let invalid_or_unknown = |why: String, name: Option<Box<str>>| match name {
        Some(name) => unknown::says(invalid(why), &name),
        None => invalid(why),
    };
    match source {
        ArgumentSource::Local(tuple) => {
            let tuple =
                tuple.downcast::<A>().map_err(|_| invalid("a caller in this process sent other types".into()))?;
            return Ok(*tuple);
        }
        ArgumentSource::Encoded { codec: Codec::MessagePack, positional, keyword, nesting } => {
            for part in [positional, keyword] {
                if part.is_empty() {
                    continue;
                }
                // It counts the depth as it goes.
                let into = SlotFiller::<A> { slots: &mut slots, method, unknown: &mut unknown, path: None };
                if let Err(error) = codec::MessagePackReader::new(part, nesting).whole(into) {
                    return Err(in_json_words::<A>(method, positional, keyword, nesting)
                        .unwrap_or_else(|| invalid(codec::without_position(&error.to_string()).into_owned())));
                }
            }
        }
        ArgumentSource::Encoded { codec: Codec::Json, positional, keyword, nesting } => {
            if [positional, keyword].iter().any(|part| codec::deeper_than(Codec::Json, nesting, part)) {
                return Err(too_deep(nesting));
            }
            let parts = [positional, keyword];
            let filler = SlotFiller::<A> { slots: &mut slots, method, unknown: &mut unknown, path: None };
            if let Err(error) = fill_from_json(filler, parts) {
                let why = why_unreadable::<A>(method, parts, &error);
                return Err(invalid_or_unknown(why, unknown));
            }
        }
        ArgumentSource::Query(pairs) => {
            for (name, text) in pairs {
                let index = method.param(name).map_err(|why| invalid_or_unknown(why, method.unknown(name)))?;
                // As a value and not as a bare `str`: an `Option` or a newtype of a string takes it too.
                let string = serde_json::Value::String(text.clone());
                let fresh = A::fill(&mut slots, index, string).or_else(|as_string| {
                    let fill = FillSeed::<A> { slots: &mut slots, index };
                    let text = text.as_bytes();
                    codec::json::read(text, &mut serde_json::Deserializer::from_slice(text), fill)
                        .map_err(|as_json| why_unreadable_query::<A>(index, name, text, [as_string, as_json]))
                });
                match fresh {
                    Ok(true) => {}
                    Ok(false) => return Err(invalid(twice(name))),
                    Err(why) => return Err(invalid(why)),
                }
            }
        }
    }
    A::finish(slots, params)
        .map_err(|MissingArgument(index)| invalid(format!("argument `{}` is missing", params[index].name)))
}

/// Fills the slots from an array and an object, each empty where there is none of the kind.
fn fill_from_json<A: FromArguments>(into: SlotFiller<'_, A>, parts: [&[u8]; 2]) -> Result<(), serde_json::Error> {
    let SlotFiller { slots, method, unknown, path } = into;
    for part in parts {
        if part.is_empty() {
            continue;
        }
        let mut json = serde_json::Deserializer::from_slice(part);
        // The depth is counted already; serde_json would stop one short of it, in other words.
        json.disable_recursion_limit();
        let into = SlotFiller::<A> { slots: &mut *slots, method, unknown: &mut *unknown, path };
        match path {
            None => codec::json::read(part, &mut json, into)?,
            Some(path) => codec::json::read_with_path(part, &mut json, into, path)?,
        }
    }
    Ok(())
}

/// What is said of arguments in JSON that can't be read: that they are no JSON, or which part of which argument is wrong.
#[cold]
fn why_unreadable<A: FromArguments>(method: &Method, parts: [&[u8]; 2], error: &serde_json::Error) -> String {
    let given = parts.into_iter().filter(|part| !part.is_empty());
    if let Some(why) = given.into_iter().find_map(codec::json::malformed) {
        return format!("the arguments can't be read: {why}");
    }
    let (mut slots, path) = (A::slots(), ErrorPath::default());
    let filler = SlotFiller::<A> { slots: &mut slots, method, unknown: &mut None, path: Some(&path) };
    let again = fill_from_json(filler, parts).err();
    codec::without_position(&again.as_ref().unwrap_or(error).to_string()).into_owned()
}

/// What is said of the text of an argument that is neither the string nor the JSON that the function takes. What is no
/// JSON was meant as a string, and so was what may be the name of a variant.
#[cold]
fn why_unreadable_query<A: FromArguments>(
    index: usize,
    name: &str,
    text: &[u8],
    [as_string, as_json]: [serde_json::Error; 2],
) -> String {
    let path = ErrorPath::default();
    if codec::json::malformed(text).is_some() || codec::json::is_value_refused(&as_json) {
        return wrong(name, &path, &as_string);
    }
    let (mut slots, json) = (A::slots(), &mut serde_json::Deserializer::from_slice(text));
    let fill = FillSeed::<A> { slots: &mut slots, index };
    let again = codec::json::read_with_path(text, json, fill, &path).err();
    wrong(name, &path, &again.unwrap_or(as_json))
}

/// What is said of the same arguments in JSON; `None` where that has nothing to say against them.
#[cold]
fn in_json_words<A: FromArguments>(
    method: &Method,
    positional: &[u8],
    keyword: &[u8],
    nesting: usize,
) -> Option<Error> {
    if [positional, keyword].iter().any(|part| codec::deeper_than(Codec::MessagePack, nesting, part)) {
        return Some(too_deep(nesting));
    }
    let json = |part: &[u8]| if part.is_empty() { Ok(Vec::new()) } else { codec::to_json(part) };
    let (positional, keyword) = (json(positional).ok()?, json(keyword).ok()?);
    let source = ArgumentSource::Encoded { codec: Codec::Json, positional: &positional, keyword: &keyword, nesting };
    values::<A>(method, source).err()
}

fn too_deep(limit: usize) -> Error {
    let why =
        format!("the arguments are nested deeper than {limit} (`Limits::nesting` of the server); send them flatter");
    Error::refused(Code::InvalidArgument, why).of_limit(Limit::Nesting)
}

/// Whether an argument of this type may be left out: it is an `Option`, under whatever name.
pub(crate) fn is_optional<T: Argument>() -> bool {
    T::deserialize(OmittedArgument).is_ok()
}

fn twice(name: &str) -> String {
    format!("argument `{name}` is given twice")
}

fn wrong(name: &str, path: &ErrorPath, why: &dyn fmt::Display) -> String {
    format!("argument `{name}{}`: {}", path.suffix(), codec::without_position(&why.to_string()))
}

/// Fills the slots from one array or object.
struct SlotFiller<'s, A: FromArguments> {
    slots: &'s mut A::Slots,
    method: &'s Method,
    /// Where the name of an argument goes that the function doesn't have.
    unknown: &'s mut Option<Box<str>>,
    /// Where an error is, for who asks.
    path: Option<&'s ErrorPath>,
}

impl<'de, A: FromArguments> DeserializeSeed<'de> for SlotFiller<'_, A> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, A: FromArguments> Visitor<'de> for SlotFiller<'_, A> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("arguments: an array (by position) or an object (by name)")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let count = self.method.params.len();
        for index in 0..count {
            let slot = ArgumentSlot::<A> { slots: self.slots, index, method: self.method, path: self.path };
            if seq.next_element_seed(slot)?.is_none() {
                return Ok(());
            }
        }
        let mut given = count;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            given += 1;
        }
        if given > count {
            let plural = if count == 1 { "" } else { "s" };
            return Err(S::Error::custom(format_args!(
                "`{}` takes {count} argument{plural}, {given} were given",
                self.method.name
            )));
        }
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(index) = map.next_key_seed(ArgumentKey { method: self.method, unknown: self.unknown })? {
            let slot = ArgumentSlot::<A> { slots: self.slots, index, method: self.method, path: self.path };
            map.next_value_seed(slot)?;
        }
        Ok(())
    }
}

/// One argument's place.
struct ArgumentSlot<'s, A: FromArguments> {
    slots: &'s mut A::Slots,
    index: usize,
    method: &'s Method,
    path: Option<&'s ErrorPath>,
}

impl<'de, A: FromArguments> DeserializeSeed<'de> for ArgumentSlot<'_, A> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let name = &self.method.params[self.index].name;
        match A::fill(self.slots, self.index, deserializer) {
            Ok(true) => Ok(()),
            Ok(false) => Err(D::Error::custom(twice(name))),
            Err(why) => {
                let whole = ErrorPath::default();
                Err(D::Error::custom(wrong(name, self.path.unwrap_or(&whole), &why)))
            }
        }
    }
}

/// [`FromArguments::fill`].
struct FillSeed<'s, A: FromArguments> {
    slots: &'s mut A::Slots,
    index: usize,
}

impl<'de, A: FromArguments> DeserializeSeed<'de> for FillSeed<'_, A> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        A::fill(self.slots, self.index, deserializer)
    }
}

/// An argument's name, as its index.
struct ArgumentKey<'s> {
    method: &'s Method,
    unknown: &'s mut Option<Box<str>>,
}

impl<'de> DeserializeSeed<'de> for ArgumentKey<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ArgumentKey<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an argument's name")
    }

    fn visit_str<E: serde_core::de::Error>(self, name: &str) -> Result<usize, E> {
        self.method.param(name).map_err(|why| {
            *self.unknown = self.method.unknown(name);
            E::custom(why)
        })
    }
}

/// A deserializer for what was left out: only an `Option` can be made of it.
struct OmittedArgument;

impl<'de> Deserializer<'de> for OmittedArgument {
    type Error = serde_core::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("left out"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    serde_core::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        newtype_struct tuple_struct map struct enum identifier ignored_any
    }
}

fn fill_one<'de, T: Deserialize<'de>, D: Deserializer<'de>>(slot: &mut Option<T>, value: D) -> Result<bool, D::Error> {
    if slot.is_some() {
        IgnoredAny::deserialize(value)?;
        return Ok(false);
    }
    *slot = Some(T::deserialize(value)?);
    Ok(true)
}

fn finish_one<T: Argument>(slot: Option<T>, index: usize, params: &[Param]) -> Result<T, MissingArgument> {
    if let Some(value) = slot {
        return Ok(value);
    }
    match &params[index].default {
        Some(default) => codec::decode(Codec::Json, default.as_bytes()).map_err(|_| MissingArgument(index)),
        None => T::deserialize(OmittedArgument).map_err(|_| MissingArgument(index)),
    }
}

macro_rules! tuples {
    ($(($($type:ident . $index:tt),*))*) => {$(
        impl<$($type: Argument),*> FromArguments for ($($type,)*) {
            type Slots = ($(Option<$type>,)*);

            #[allow(clippy::unused_unit, reason = "the empty tuple")]
            fn slots() -> Self::Slots {
                ($(None::<$type>,)*)
            }

            #[allow(unused_variables, reason = "the empty tuple uses none")]
            fn fill<'de, De: Deserializer<'de>>(
                slots: &mut Self::Slots,
                index: usize,
                value: De,
            ) -> Result<bool, De::Error> {
                match index {
                    $($index => fill_one(&mut slots.$index, value),)*
                    _ => Err(De::Error::custom("more parameters than arguments")),
                }
            }

            #[allow(unused_variables, reason = "the empty tuple uses none")]
            fn finish(slots: Self::Slots, params: &[Param]) -> Result<Self, MissingArgument> {
                Ok(($(finish_one(slots.$index, $index, params)?,)*))
            }
        }
    )*};
}
for_every_arity!(tuples);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Serialize;

    use super::*;
    use crate::fuzzing::three;

    #[derive(Debug, Serialize, serde::Deserialize)]
    enum Color {
        Red,
        Gray(u8),
    }

    /// What is said of the first argument.
    fn why<T: Argument>(args: ArgumentSource<'_>) -> String {
        let call = CallInput { args, items: None, nesting: 128 };
        let error = decode::<(T, Option<u8>, Vec<f64>)>(&three(), call).err().expect("it can't be read");
        let (why, _) = error.message().split_once("; the signature is `").expect("the signature is there");
        why.to_owned()
    }

    fn query<T: Argument>(text: &str) -> String {
        why::<T>(ArgumentSource::Query(&[("a".to_owned(), text.to_owned())]))
    }

    #[test]
    fn the_error_about_an_unreadable_query_helps() {
        let expected = |why: &str, words: &str| assert_eq!(why, format!("argument `a{words}"));
        // No JSON: it was meant as a string.
        expected(&query::<u32>("abc"), "`: invalid type: string \"abc\", expected u32");
        expected(&query::<bool>(""), "`: invalid type: string \"\", expected a boolean");
        let date = "2026-11-26T11:17:03";
        expected(&query::<std::net::IpAddr>(date), "`: invalid IP address syntax");
        expected(&query::<Color>("Blue"), "`: unknown variant `Blue`, expected `Red` or `Gray`");
        // JSON, and a name.
        expected(&query::<Color>("7"), "`: unknown variant `7`, expected `Red` or `Gray`");
        // JSON of another type.
        expected(&query::<u32>("1.5"), "`: invalid type: floating point `1.5`, expected u32");
        expected(&query::<u8>("300"), "`: invalid value: integer `300`, expected u8");
        expected(&query::<Vec<u8>>("[1,null]"), "[1]`: invalid type: null, expected u8");
        expected(&query::<Color>(r#"{"Gray":"x"}"#), ".Gray`: invalid type: string \"x\", expected u8");
        expected(&query::<Duration>(r#"{"secs":1}"#), "`: missing field `nanos`");
    }

    #[test]
    fn the_part_of_an_argument_is_named_in_either_codec() {
        let says = |text: &str, words: &str| {
            let packed = codec::to_message_pack(text.as_bytes()).unwrap();
            for (codec, bytes) in [(Codec::Json, text.as_bytes()), (Codec::MessagePack, &packed)] {
                let (positional, keyword): (&[u8], &[u8]) =
                    if text.starts_with('[') { (bytes, b"") } else { (b"", bytes) };
                let source = ArgumentSource::Encoded { codec, positional, keyword, nesting: 128 };
                assert_eq!(why::<Vec<(u8, Option<Color>)>>(source), words, "{codec:?} {text}");
            }
        };
        says(r#"[[[1,null],["x",null]]]"#, "argument `a[1][0]`: invalid type: string \"x\", expected u8");
        says(r#"{"b":1,"a":[[1,{"Gray":-1}]]}"#, "argument `a[0][1].Gray`: invalid value: integer `-1`, expected u8");
        says(r#"{"a":true}"#, "argument `a`: invalid type: boolean `true`, expected a sequence");
        says(r#"[[],"x"]"#, "argument `b`: invalid type: string \"x\", expected u8");
    }

    #[test]
    fn the_error_about_invalid_json_arguments_has_the_place() {
        let body = b"{\"a\": 1,\n \"b\": two}";
        let source = ArgumentSource::Encoded { codec: Codec::Json, positional: b"", keyword: body, nesting: 128 };
        let words = "the arguments can't be read: it is not JSON: expected a JSON value at line 2 column 8";
        assert_eq!(why::<u8>(source), words);
    }
}
