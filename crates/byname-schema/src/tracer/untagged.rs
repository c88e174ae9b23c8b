//! Enums without a tag: the first variant that takes the value is it.

use super::{Blocked, Place, Tracer, UNKNOWN};
use crate::probe::Sample;
use crate::probe_error::Said;
use crate::type_schema::{Alternative, NodeId, Shape};

impl Tracer<'_> {
    /// A type that copies the value whole. If it is an enum, each of its variants refuses a value that none takes by one
    /// error, which says what the variant expects.
    pub(super) fn untagged(&mut self, place: &Place) -> Result<NodeId, Blocked> {
        let place = place.copied("untagged");
        let Some(words) = self.words_of_variants(&place) else {
            return Ok(self.any(&place));
        };
        let node = self.reserve(None);
        let mut alternatives = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let variant = Place { variant: Some((at, words.len())), ..place.clone() };
            let of_variant = match word {
                word if word.starts_with("struct ") => self.object_by_index(&variant, &[])?,
                word => self.of_word(&variant, word)?,
            };
            let is_null = self.takes(&variant, &Sample::Null);
            if let Some(sample) = self.sample(of_variant)? {
                self.part(node).sample.get_or_insert(sample);
            }
            alternatives.push(Alternative::Untagged(of_variant));
            let shape = &self.parts[of_variant.0].node.shape;
            if is_null && !matches!(shape, Shape::Null | Shape::Any) {
                let null = self.leaf(Shape::Null, Some(Sample::Null), None);
                alternatives.push(Alternative::Untagged(null));
            }
        }
        self.done(node, Shape::OneOf(alternatives), None);
        Ok(node)
    }

    /// What each variant expects. A value that none takes has one error for each, and one for the enum.
    fn words_of_variants(&mut self, place: &Place) -> Option<Vec<String>> {
        let values = [
            Sample::Bool(true),
            Sample::Seq(Vec::new()),
            Sample::Null,
            Sample::Int(-1),
            Sample::Float(0.5),
            Sample::str(UNKNOWN),
            Sample::Map(vec![(Sample::str(UNKNOWN), Sample::Null)]),
        ];
        values.into_iter().find_map(|value| {
            let run = self.run(place.tried(&value))?;
            let (last, variants) = run.said.split_last()?;
            if run.is_taken == Some(true) || *last != Said::Other || variants.is_empty() {
                return None;
            }
            variants
                .iter()
                .map(|said| match said {
                    Said::InvalidType(word) => Some(word.clone()),
                    _ => None,
                })
                .collect()
        })
    }
}
