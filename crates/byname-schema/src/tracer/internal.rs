//! Enums whose tag is among the properties of their variants.

use super::{Blocked, Place, Tracer, UNKNOWN, name_in};
use crate::probe::Sample;
use crate::probe_error::Said;
use crate::type_schema::{Alternative, NodeId, OpenReason, Shape};

impl Tracer<'_> {
    /// `expects` is how the enum calls itself.
    pub(super) fn internally_tagged(&mut self, place: &Place, node: NodeId, expects: &str) -> Result<(), Blocked> {
        let place = place.copied(expects);
        let Some(Said::MissingField(tag)) = self.try_with(&place, &Sample::Map(Vec::new())).said else {
            self.done(node, Shape::Any, Some(OpenReason::Buffered));
            return Ok(());
        };
        let Some(Said::UnknownVariant(variants)) = self.try_with(&place.entry(tag), &Sample::str(UNKNOWN)).said else {
            self.done(node, Shape::Any, Some(OpenReason::Buffered));
            return Ok(());
        };
        let mut alternatives = Vec::new();
        for variant in variants {
            let tagged = (Sample::str(tag), Sample::str(variant));
            let object = self.object_by_index(&place, &[tagged])?;
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
            let (tag, variant) = (tag.to_owned(), (*variant).to_owned());
            alternatives.push(Alternative::Internal { tag, variant, object });
        }
        self.done(node, Shape::OneOf(alternatives), None);
        self.part(node).node.name = name_in(expects);
        Ok(())
    }
}
