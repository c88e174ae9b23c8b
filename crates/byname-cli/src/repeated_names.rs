//! Two properties of one name in an object of JSON: [`repeated_name`].

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A name that an object has twice, at any depth. A `Value` keeps the last of them without a word, and services refuse both.
pub(crate) fn repeated_name(json: &str) -> Option<String> {
    match json.trim_start().bytes().next() {
        Some(b'{') => {
            let Entries(entries) = serde_json::from_str(json).ok()?;
            let mut names = HashSet::new();
            let repeated = entries.iter().find(|(name, _)| !names.insert(name)).map(|(name, _)| name.clone());
            repeated.or_else(|| entries.iter().find_map(|(_, value)| repeated_name(value.get())))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            items.into_iter().find_map(|item| repeated_name(item.get()))
        }
        _ => None,
    }
}

/// The properties of an object, in their order.
struct Entries<'j>(Vec<(String, &'j RawValue)>);

impl<'j> Deserialize<'j> for Entries<'j> {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'j> Visitor<'j> for EntriesVisitor {
            type Value = Entries<'j>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Entries<'j>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_in_two_objects_and_not_twice_in_one() {
        for json in [r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#, "[1,1]", "7", r#""{\"a\":1,\"a\":2}""#, "{", ""] {
            assert_eq!(repeated_name(json), None, "{json}");
        }
        for json in [r#"{"b":1,"a":1,"a":2}"#, r#" [{"b":[{"a":1,"\u0061":1}]}]"#] {
            assert_eq!(repeated_name(json).as_deref(), Some("a"), "{json}");
        }
    }
}
