//! Enums with a tag and a content beside it.

use super::{Blocked, Place, Step, Tracer, UNKNOWN};
use crate::probe::Sample;
use crate::probe_error::Said;
use crate::type_schema::{Alternative, NodeId, OpenReason, Property, Shape};

impl Tracer<'_> {
    /// `names` are those of the tag and of the content.
    pub(super) fn adjacent(
        &mut self,
        place: &Place,
        node: NodeId,
        names: &'static [&'static str],
    ) -> Result<(), Blocked> {
        let [tag, content] = names else {
            self.done(node, Shape::Any, Some(OpenReason::Unknown));
            return Ok(());
        };
        let verdict = self.try_with(&place.entry(tag), &Sample::str(UNKNOWN));
        let Some(Said::UnknownVariant(variants)) = verdict.said else {
            self.done(node, Shape::Any, Some(OpenReason::Unknown));
            return Ok(());
        };
        let mut alternatives: Vec<Option<Alternative>> = vec![None; variants.len()];
        let mut open = None;
        loop {
            let before = alternatives.iter().flatten().count();
            for (at, variant) in variants.iter().enumerate() {
                if alternatives[at].is_some() {
                    continue;
                }
                let tagged = (Sample::str(tag), Sample::str(variant));
                let only_tag = vec![tagged.clone()];
                let key = Sample::str(content);
                let inside = place.with(Step::Entry { before: vec![tagged.clone()], key: key.clone() });
                let Ok(value) = self.node(&inside) else { continue };
                let is_required = !self.takes(place, &Sample::Map(only_tag.clone()));
                let sample = if is_required {
                    let Ok(sample) = self.sample(value) else { continue };
                    sample.map(|sample| vec![tagged, (key, sample)])
                } else {
                    Some(only_tag)
                };
                let content = Property { name: (*content).to_owned(), aliases: Vec::new(), value, is_required };
                let mut is_closed = false;
                match sample.filter(|entries| self.takes(place, &Sample::Map(entries.clone()))) {
                    Some(entries) => {
                        let unknown = (Sample::str(UNKNOWN), Sample::Null);
                        is_closed = !self.takes(place, &Sample::Map([entries.as_slice(), &[unknown]].concat()));
                        self.part(node).sample.get_or_insert(Sample::Map(entries));
                    }
                    None => open = Some(self.refuses()),
                }
                let (tag, variant) = ((*tag).to_owned(), (*variant).to_owned());
                alternatives[at] = Some(Alternative::Adjacent { tag, variant, content: Some(content), is_closed });
            }
            let after = alternatives.iter().flatten().count();
            if after == variants.len() {
                break;
            }
            if after == before {
                return Err(Blocked);
            }
        }
        self.done(node, Shape::OneOf(alternatives.into_iter().flatten().collect()), open);
        Ok(())
    }
}
