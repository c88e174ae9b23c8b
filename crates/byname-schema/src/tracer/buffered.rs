//! Values that a type copies before it looks at them. Nothing is asked of them, so serde's words are all that there is: an
//! error says what was expected in place of a value of the wrong type.

use super::{Blocked, Place, Tracer, UNKNOWN, name_in};
use crate::probe::Sample;
use crate::probe_error::Said;
use crate::type_schema::{NodeId, OpenReason, Shape};

/// How deep copied values are looked into.
const DEPTH: usize = 6;

impl Tracer<'_> {
    pub(super) fn buffered(&mut self, place: &Place) -> Result<NodeId, Blocked> {
        let Some(word) = self.word(place) else {
            return Ok(self.any(place));
        };
        if place.inside.len() >= DEPTH || place.inside.contains(&word) {
            return Ok(self.open(OpenReason::Recursive));
        }
        let node = self.of_word(place, &word)?;
        let shape = &self.parts[node.0].node.shape;
        if matches!(shape, Shape::Any | Shape::Null) || !self.takes(place, &Sample::Null) {
            return Ok(node);
        }
        Ok(self.leaf(Shape::Optional(node), Some(Sample::Null), None))
    }

    /// What the type expects in this place, in its own words.
    fn word(&mut self, place: &Place) -> Option<String> {
        let values = [Sample::Bool(true), Sample::str(UNKNOWN), Sample::Seq(Vec::new()), Sample::Int(-1)];
        values.into_iter().find_map(|value| match self.try_with(place, &value).said {
            Some(Said::InvalidType(word)) => Some(word),
            _ => None,
        })
    }

    /// The shape that serde, or a derived `Deserialize`, calls so.
    pub(super) fn of_word(&mut self, place: &Place, word: &str) -> Result<NodeId, Blocked> {
        let number = |text: &str| text.rsplit(' ').next().and_then(|length| length.parse().ok());
        // Without this word, what refuses 0 is a type around the number, which compares it with others.
        let is_nonzero = word.starts_with("a nonzero ");
        Ok(match word.strip_prefix("a nonzero ").unwrap_or(word) {
            "a boolean" => self.tried_leaf(place, Shape::Bool, [Sample::Bool(true), Sample::Bool(false)]),
            "i8" => self.integer(place, i8::MIN.into(), i8::MAX.into(), is_nonzero),
            "i16" => self.integer(place, i16::MIN.into(), i16::MAX.into(), is_nonzero),
            "i32" => self.integer(place, i32::MIN.into(), i32::MAX.into(), is_nonzero),
            "i64" | "isize" => self.integer(place, i64::MIN.into(), i64::MAX.into(), is_nonzero),
            "u8" => self.integer(place, 0, u8::MAX.into(), is_nonzero),
            "u16" => self.integer(place, 0, u16::MAX.into(), is_nonzero),
            "u32" => self.integer(place, 0, u32::MAX.into(), is_nonzero),
            "u64" | "usize" => self.integer(place, 0, u64::MAX.into(), is_nonzero),
            "f32" | "f64" => self.tried_leaf(place, Shape::Number, [Sample::Float(0.5), Sample::Int(3)]),
            "a character" => self.tried_leaf(place, Shape::Char, ["a", "ß", "世"].map(Sample::str)),
            "a string" => self.string(place),
            "unit" => self.tried_leaf(place, Shape::Null, [Sample::Null]),
            "a sequence" => {
                let node = self.reserve(None);
                self.sequence(&place.copied(word), node);
                node
            }
            "a map" => {
                let node = self.reserve(None);
                self.map(&place.copied(word), node);
                node
            }
            word if word.starts_with("unit ") => self.tried_leaf(place, Shape::Null, [Sample::Null]),
            word if word.starts_with("a tuple of size ") || word.starts_with("an array of length ") => {
                match number(word) {
                    Some(length) => self.tuple(&place.copied(word), length, word)?,
                    None => self.open(OpenReason::Buffered),
                }
            }
            word if word.starts_with("struct ") => {
                let node = self.object_by_index(&place.copied(word), &[])?;
                if !word.starts_with("struct variant ") {
                    self.part(node).node.name = name_in(word);
                }
                node
            }
            word if word.starts_with("internally tagged enum ") => {
                let node = self.reserve(None);
                self.internally_tagged(place, node, word)?;
                node
            }
            "string or map" => self.buffered_enum(&place.copied(word))?,
            _ => self.any(place),
        })
    }

    fn buffered_enum(&mut self, place: &Place) -> Result<NodeId, Blocked> {
        match self.try_with(place, &Sample::str(UNKNOWN)).said {
            Some(Said::UnknownVariant(variants)) => {
                let node = self.reserve(None);
                self.tagged(place, node, None, variants)?;
                Ok(node)
            }
            _ => Ok(self.open(OpenReason::Buffered)),
        }
    }
}
