//! Structs, and variants with named fields.

use super::{Blocked, Place, Step, Tracer, UNKNOWN};
use crate::probe::{Run, Sample};
use crate::probe_error::Said;
use crate::type_schema::{NodeId, OpenReason, Property, Shape};

/// The most fields that are looked for by number.
const FIELDS: usize = 256;

impl Tracer {
    /// An object whose properties have these names. Aliases are among them. The entries of `base` are always there, and not
    /// of the object.
    pub(super) fn object(
        &mut self,
        place: &Place,
        base: &[(Sample, Sample)],
        name: Option<&'static str>,
        fields: &[&'static str],
    ) -> Result<NodeId, Blocked> {
        let mut values = Vec::new();
        for field in fields {
            values.push(self.node(&place.with(Step::Entry { before: base.to_vec(), key: Sample::str(field) }))?);
        }
        let value = |field: &str| fields.iter().position(|name| *name == field).map(|at| values[at]);
        let mut entries = base.to_vec();
        let mut required = Vec::new();
        let mut open = None;
        loop {
            let Some(run) = self.try_with(place, &Sample::Map(entries.clone())) else {
                open = self.stopped;
                break;
            };
            if run.is_taken == Some(true) {
                break;
            }
            let missing = match run.said.last() {
                Some(Said::MissingField(field)) if !required.contains(field) => *field,
                _ => {
                    open = Some(OpenReason::Refuses);
                    break;
                }
            };
            required.push(missing);
            let sample = value(missing).map(|value| self.sample(value)).transpose()?.flatten();
            let Some(sample) = sample else {
                // The fields that are checked behind it are not known.
                open = Some(OpenReason::Unknown);
                break;
            };
            entries.push((Sample::str(missing), sample));
        }
        let mut properties: Vec<Property> = Vec::new();
        let mut aliases = Vec::new();
        for (field, value) in fields.iter().zip(&values) {
            match self.primary(place, field, *value, &entries)? {
                Some(primary) if primary != *field => aliases.push((primary, (*field).to_owned())),
                _ => properties.push(Property {
                    name: (*field).to_owned(),
                    aliases: Vec::new(),
                    value: *value,
                    is_required: required.contains(field),
                }),
            }
        }
        for (primary, alias) in aliases {
            let property = properties.iter_mut().find(|property| property.name == primary);
            property.expect("the field of an alias has its own name among the fields").aliases.push(alias);
        }
        let sample = open.is_none().then(|| Sample::Map(entries.clone()));
        let mut with_more = entries;
        with_more.push((Sample::str(UNKNOWN), Sample::Null));
        let is_closed = match self.try_with(place, &Sample::Map(with_more)) {
            Some(Run { is_taken: Some(true), .. }) => false,
            Some(run) => matches!(run.said.last(), Some(Said::UnknownField)),
            None => false,
        };
        let node = self.leaf(Shape::Object { properties, is_closed }, sample, open);
        self.part(node).node.name = name;
        Ok(node)
    }

    /// An object whose type does not say its names. A derived `Deserialize` takes a number in place of the name of a field, and two
    /// values for one field are an error that has the name.
    pub(super) fn object_by_index(&mut self, place: &Place, base: &[(Sample, Sample)]) -> Result<NodeId, Blocked> {
        let mut fields = Vec::new();
        let mut is_whole = false;
        while fields.len() < FIELDS {
            let key = Sample::Int(fields.len() as i128);
            let value = self.node(&place.with(Step::Entry { before: base.to_vec(), key: key.clone() }))?;
            let Some(sample) = self.sample(value)? else { break };
            let mut twice = base.to_vec();
            twice.extend([(key.clone(), sample.clone()), (key, sample)]);
            match self.try_with(place, &Sample::Map(twice)).and_then(|run| run.said.last().cloned()) {
                Some(Said::DuplicateField(field)) => fields.push(field),
                _ => {
                    is_whole = true;
                    break;
                }
            }
        }
        let node = self.object(place, base, None, &fields)?;
        if !is_whole {
            self.part(node).node.open.get_or_insert(OpenReason::Unknown);
        }
        Ok(node)
    }

    /// The field that a name stands for: two values for one field are an error that has the name of the field.
    fn primary(
        &mut self,
        place: &Place,
        field: &str,
        value: NodeId,
        entries: &[(Sample, Sample)],
    ) -> Result<Option<&'static str>, Blocked> {
        // A value that contains this one has no sample yet. `null` will do if it is an option.
        let Some(sample) = self.sample(value)? else {
            return Ok(None);
        };
        let mut twice: Vec<_> = entries.iter().filter(|(key, _)| *key != Sample::str(field)).cloned().collect();
        twice.extend([(Sample::str(field), sample.clone()), (Sample::str(field), sample)]);
        let run = self.try_with(place, &Sample::Map(twice));
        Ok(run.and_then(|run| match run.said.last() {
            Some(Said::DuplicateField(primary)) => Some(*primary),
            _ => None,
        }))
    }
}
