//! JSON as serde_json writes and reads it, but with exact integers.

use std::borrow::Cow;
use std::fmt;

use serde_core::Serialize;
use serde_core::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::de::SliceRead;
use serde_json::value::RawValue;

use super::decode_error_path::ErrorPath;
use super::finite_floats::FiniteFloats;
use super::json_exact_integers::ExactIntegers;
use super::json_scan::{SHORTEST_WIDE_INTEGER, wide_integers};
use super::json_writer::JsonWriter;
use super::reserved_keys::{Refused, has_private_key};
use super::serde_json_internals::{EXPECTED_VALUE, EXPECTED_WORD, PREFIX, cut_position};

/// Appends `value`.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    value.serialize(FiniteFloats::new(JsonWriter::new(out)))
}

/// Reads one value that fills `text` completely, from the deserializer of `text`. An integer is never rounded, unless
/// the type asks for a float. No object may use serde_json's private keys.
///
/// The deserializer is one of bytes, which checks each string. One of a `str` would not, and makes a `str` that is not UTF-8
/// of a key like `é` if the type wants keys of type `bool`.
pub(crate) fn read<'de, S: DeserializeSeed<'de>>(
    text: &[u8],
    json: &mut serde_json::Deserializer<SliceRead<'de>>,
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    let value = match integers_to_watch(text)? {
        wide if wide.is_empty() => seed.deserialize(&mut *json)?,
        wide => seed.deserialize(ExactIntegers::new(&mut *json, &wide, None))?,
    };
    json.end().map(|()| value)
}

/// The wide integers of `text`, which must have no private key.
#[inline]
fn integers_to_watch(text: &[u8]) -> Result<Vec<u64>, serde_json::Error> {
    const { assert!(SHORTEST_WIDE_INTEGER <= PREFIX.len()) };
    // A number of a stream is too short for either, and is read in less time than the two searches take.
    if text.len() < SHORTEST_WIDE_INTEGER {
        return Ok(Vec::new());
    }
    refuse_private_keys(text)?;
    Ok(wide_integers(text))
}

/// As [`read`], but slower: it records in `path` where an error is. For a value that is JSON and that [`read`] has
/// failed to read.
#[cold]
pub(crate) fn read_with_path<'de, S: DeserializeSeed<'de>>(
    text: &[u8],
    json: &mut serde_json::Deserializer<SliceRead<'de>>,
    seed: S,
    path: &ErrorPath,
) -> Result<S::Value, serde_json::Error> {
    refuse_private_keys(text)?;
    let value = seed.deserialize(ExactIntegers::new(&mut *json, &wide_integers(text), Some(path)))?;
    json.end().map(|()| value)
}

/// Why `text` is not JSON, with line and column. `None` if it is JSON.
#[cold]
pub(crate) fn malformed(text: &[u8]) -> Option<String> {
    if text.trim_ascii().is_empty() {
        return Some("it is empty".to_owned());
    }
    let error = serde_json::from_slice::<&RawValue>(text).err()?;
    let why = error.to_string();
    let expected = [EXPECTED_VALUE, EXPECTED_WORD].into_iter().find_map(|words| why.strip_prefix(words));
    Some(match expected {
        Some(position) => format!("it is not JSON: expected a JSON value{position}"),
        None => format!("it is not JSON: {why}"),
    })
}

/// Whether the error says that an enum expected a string or an object, and got neither.
pub(crate) fn is_value_refused(error: &serde_json::Error) -> bool {
    cut_position(&error.to_string()) == EXPECTED_VALUE
}

/// As [`read`], but a large integer may be rounded. For values that byname itself reads.
pub(crate) fn read_loosely<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    refuse_private_keys(text)?;
    serde_json::from_slice(text)
}

fn refuse_private_keys(text: &[u8]) -> Result<(), serde_json::Error> {
    if has_private_key(text) { Err(serde_json::Error::custom(Refused)) } else { Ok(()) }
}

/// The entries of the object `text`, with each value still encoded. `None` if it is not an object.
pub(super) fn entries(text: &[u8]) -> Option<Vec<(Cow<'_, str>, &[u8])>> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let entries = json.deserialize_map(Entries).ok()?;
    json.end().is_ok().then_some(entries)
}

/// The items of an array, each still encoded.
pub(super) fn items(text: &[u8]) -> Option<Vec<&[u8]>> {
    let items: Vec<&RawValue> = serde_json::from_slice(text).ok()?;
    Some(items.into_iter().map(|item| item.get().as_bytes()).collect())
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(Cow<'de, str>, &'de [u8])>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut entries = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            entries.push((Cow::Owned(name), value.get().as_bytes()));
        }
        Ok(entries)
    }
}
