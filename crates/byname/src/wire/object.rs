//! The members of a JSON object, still encoded.

use std::fmt;

use serde_core::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::codec;

/// What becomes of members that nobody asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    Ignored,
    Refused,
}

/// The members of these names of the object that `text` is; `None` for one that is not there.
pub(super) fn members<'a, const N: usize>(
    text: &'a [u8],
    names: &'static [&'static str; N],
    others: Others,
) -> Result<[Option<&'a RawValue>; N], String> {
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object".to_owned());
    }
    let mut values = [None; N];
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = Members { names, values: &mut values, others }.deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|why| codec::without_position(&why.to_string()).into_owned())?;
    Ok(values)
}

struct Members<'v, 'a> {
    names: &'static [&'static str],
    values: &'v mut [Option<&'a RawValue>],
    others: Others,
}

impl<'a> DeserializeSeed<'a> for Members<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Members<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(at) = map.next_key_seed(Name { names: self.names, others: self.others })? {
            match at {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(at) if self.values[at].is_some() => return Err(M::Error::duplicate_field(self.names[at])),
                Some(at) => self.values[at] = Some(map.next_value()?),
            }
        }
        Ok(())
    }
}

/// A member's name, as its index among the names.
struct Name {
    names: &'static [&'static str],
    others: Others,
}

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let at = self.names.iter().position(|known| *known == name);
        match at {
            None if self.others == Others::Refused => Err(E::unknown_field(name, self.names)),
            at => Ok(at),
        }
    }
}
