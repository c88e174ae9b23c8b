//! The members of a JSON object, not decoded.

use std::fmt;

use serde_core::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What to do with members of other names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownMembers {
    Ignored,
    Refused,
}

/// The members with these names of the JSON object `text`; `None` for a member that is missing.
pub(super) fn members<'a, const N: usize>(
    text: &'a [u8],
    names: &'static [&'static str; N],
    others: UnknownMembers,
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(serde_json::Error::custom("it is not a JSON object"));
    }
    let mut values = [None; N];
    let mut json = serde_json::Deserializer::from_slice(text);
    ObjectMembers { names, values: &mut values, others }.deserialize(&mut json)?;
    json.end().map(|()| values)
}

/// Whether the object at the beginning of `text` has a member of this name. The rest of `text` is not read and may be
/// invalid.
pub(super) fn has(text: &[u8], name: &'static [&'static str; 1]) -> bool {
    let mut found = false;
    let has = HasMember { name, found: &mut found };
    // After the member was found there is always an error, because the rest was not read.
    let _ = serde_json::Deserializer::from_slice(text).deserialize_map(has);
    found
}

struct ObjectMembers<'v, 'a> {
    names: &'static [&'static str],
    values: &'v mut [Option<&'a RawValue>],
    others: UnknownMembers,
}

impl<'a> DeserializeSeed<'a> for ObjectMembers<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for ObjectMembers<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(at) = map.next_key_seed(MemberName { names: self.names, others: self.others })? {
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

struct HasMember<'v> {
    name: &'static [&'static str; 1],
    found: &'v mut bool,
}

impl<'a> Visitor<'a> for HasMember<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(at) = map.next_key_seed(MemberName { names: self.name, others: UnknownMembers::Ignored })? {
            if at.is_some() {
                *self.found = true;
                break;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// The name of a member, as its index among the names.
struct MemberName {
    names: &'static [&'static str],
    others: UnknownMembers,
}

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let at = self.names.iter().position(|known| *known == name);
        match at {
            None if self.others == UnknownMembers::Refused => Err(E::unknown_field(name, self.names)),
            at => Ok(at),
        }
    }
}
