//! Enums whose tag is among the properties of their variants.

use super::{Blocked, Place, Tracer, UNKNOWN, name_in};
use crate::probe::Sample;
use crate::probe_error::Said;
use crate::type_schema::{Alternative, NodeId, OpenReason, Shape};

/// The most variants of an enum that takes unknown ones.
const VARIANTS: i128 = 64;

impl Tracer<'_> {
    /// `expects` is how the enum calls itself.
    pub(super) fn internally_tagged(&mut self, place: &Place, node: NodeId, expects: &str) -> Result<(), Blocked> {
        let place = place.copied(expects);
        let Some(Said::MissingField(tag)) = self.try_with(&place, &Sample::Map(Vec::new())).said else {
            self.done(node, Shape::Any, Some(OpenReason::Buffered));
            return Ok(());
        };
        let unknown = self.try_with(&place.entry(tag), &Sample::str(UNKNOWN));
        let variants: Vec<_> = match unknown.said {
            Some(Said::UnknownVariant(variants)) => {
                variants.iter().map(|name| (Sample::str(name), (*name).to_owned())).collect()
            }
            // The names of the others are found at the end.
            None if unknown.is_taken => {
                self.unnamed_variants.push(node);
                (0..VARIANTS).map(|index| (Sample::Int(index), index.to_string())).collect()
            }
            _ => {
                self.done(node, Shape::Any, Some(OpenReason::Buffered));
                return Ok(());
            }
        };
        let mut alternatives = Vec::new();
        for (name, variant) in variants {
            let object = self.object_by_index(&place, &[(Sample::str(tag), name)])?;
            if let Shape::Object { properties, .. } = &mut self.part(object).node.shape
                && let Some(at) = properties.iter().position(|property| property.name == tag)
            {
                // The enum takes the tag away from what is inside.
                properties.remove(at);
                self.part(object).node.open = Some(OpenReason::Buffered);
            }
            if let Some(sample) = self.sample(object)? {
                self.part(node).sample.get_or_insert(sample);
            }
            alternatives.push(Alternative::Internal { tag: tag.to_owned(), variant, object });
        }
        if unknown.is_taken {
            alternatives.push(Alternative::OtherTag { tag: tag.to_owned() });
        }
        self.done(node, Shape::OneOf(alternatives), None);
        self.part(node).node.name = name_in(expects);
        Ok(())
    }
}
