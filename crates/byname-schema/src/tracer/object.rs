//! Structs, and variants with named fields.

use super::{ANY_VALUE, Blocked, Place, Step, Tracer, UNKNOWN, Verdict};
use crate::probe::Sample;
use crate::probe_error::Said;
use crate::type_schema::{NodeId, OpenReason, Property, Shape};

/// The most fields that are looked for by number.
const FIELDS: usize = 256;

impl Tracer<'_> {
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
            values.push(self.node(&place.field(base, Sample::str(field)))?);
        }
        let value = |field: &str| fields.iter().position(|name| *name == field).map(|at| values[at]);
        let mut entries = base.to_vec();
        let mut required = Vec::new();
        let mut open = None;
        loop {
            let verdict = self.try_with(place, &Sample::Map(entries.clone()));
            if verdict.is_taken {
                break;
            }
            let missing = match verdict.said {
                Some(Said::MissingField(field)) => field,
                _ => {
                    open = Some(self.refuses());
                    break;
                }
            };
            if required.contains(&missing) {
                // It is there, so that of another object is missing. Which one was missing before is not known.
                required.retain(|field| *field != missing);
                open = Some(OpenReason::Buffered);
                break;
            }
            if place.copied.is_some() && !fields.contains(&missing) {
                // Of an object around this one.
                break;
            }
            required.push(missing);
            let sample = value(missing).map(|value| self.sample(value)).transpose()?.flatten();
            let Some(sample) = sample else {
                // The fields that are checked behind it are not known.
                open = Some(OpenReason::Unknown);
                break;
            };
            entries.push((Sample::str(missing), sample));
        }
        if place.copied.is_some() && self.drop_conditional(place, fields, &values, &entries, &mut required) {
            open = open.or(Some(OpenReason::Buffered));
        }
        let mut properties: Vec<Property> = Vec::new();
        let mut aliases = Vec::new();
        let (mut names, mut varied) = (Vec::new(), Vec::new());
        for (field, value) in fields.iter().zip(&values) {
            match self.primary(place, field, *value, &entries)? {
                // Code that is written by hand may name a field that is not there.
                Some(primary) if primary != *field && fields.contains(&primary) => {
                    aliases.push((primary, (*field).to_owned()));
                }
                _ => {
                    names.push(*field);
                    varied.push(*value);
                    properties.push(Property {
                        name: (*field).to_owned(),
                        aliases: Vec::new(),
                        value: *value,
                        is_required: required.contains(field),
                    });
                }
            }
        }
        for (primary, alias) in aliases {
            match properties.iter_mut().find(|property| property.name == primary) {
                Some(property) => property.aliases.push(alias),
                // Two names that stand for each other: which one is the alias is not known.
                None => open = open.or(Some(OpenReason::Unknown)),
            }
        }
        let sample = open.is_none().then(|| Sample::Map(entries.clone()));
        let mut with_more = entries.clone();
        with_more.push((Sample::str(UNKNOWN), Sample::Null));
        let is_closed = matches!(self.try_with(place, &Sample::Map(with_more)).said, Some(Said::UnknownField));
        let node = self.leaf(Shape::Object { properties, is_closed }, sample, open);
        self.part(node).node.name = name.map(str::to_owned);
        if open.is_none() {
            let changed = |at: usize, other| {
                let key = Sample::str(names[at]);
                let mut changed: Vec<_> = entries.iter().filter(|(name, _)| *name != key).cloned().collect();
                changed.push((key, other));
                Sample::Map(changed)
            };
            self.vary(place, node, &varied, changed);
        }
        Ok(node)
    }

    /// Leaves out the fields that have to be there only with some values of another one, as the content of an enum beside its tag.
    fn drop_conditional(
        &mut self,
        place: &Place,
        fields: &[&'static str],
        values: &[NodeId],
        entries: &[(Sample, Sample)],
        required: &mut Vec<&'static str>,
    ) -> bool {
        let before = required.len();
        for (field, value) in fields.iter().zip(values) {
            if !matches!(self.parts[value.0].node.shape, Shape::OneOf(_)) {
                continue;
            }
            let key = Sample::str(field);
            for other in self.others(*value) {
                required.retain(|name| {
                    let without: Vec<_> = entries
                        .iter()
                        .filter(|(entry, _)| *entry != Sample::str(name))
                        .map(|(entry, value)| {
                            (entry.clone(), if *entry == key { other.clone() } else { value.clone() })
                        })
                        .collect();
                    *name == *field || !self.try_with(place, &Sample::Map(without)).is_taken
                });
            }
        }
        required.len() < before
    }

    /// An object whose type does not say its names. A derived `Deserialize` takes a number in place of the name of a field, and two
    /// values for one field are an error that has the name.
    pub(super) fn object_by_index(&mut self, place: &Place, base: &[(Sample, Sample)]) -> Result<NodeId, Blocked> {
        let mut fields = Vec::new();
        let mut is_whole = false;
        let without = self.try_with(place, &Sample::Map(base.to_vec()));
        while fields.len() < FIELDS {
            let key = Sample::Int(fields.len() as i128);
            let mut nulls = base.to_vec();
            nulls.extend([(key.clone(), Sample::Null), (key.clone(), Sample::Null)]);
            let verdict = self.try_with(place, &Sample::Map(nulls));
            // Behind the last field, a number is refused or changes nothing.
            if matches!(&verdict.said, Some(Said::InvalidValue(expected)) if expected.starts_with("field index ")) {
                is_whole = true;
                break;
            }
            if verdict == without {
                // If nothing is said of this variant, that does not tell.
                is_whole = (verdict.is_taken || verdict.said.is_some())
                    && (!fields.is_empty() || self.has_sequence(place, base) && !self.has_more(place, base, &without));
                break;
            }
            let value = self.node(&place.field(base, key.clone()))?;
            let Some(sample) = self.sample(value)? else { break };
            let mut twice = base.to_vec();
            twice.extend([(key.clone(), sample.clone()), (key, sample)]);
            match self.try_with(place, &Sample::Map(twice)).said {
                Some(Said::DuplicateField(field)) => fields.push(field),
                _ => break,
            }
        }
        let node = self.object(place, base, None, &fields)?;
        if !is_whole {
            let node = &mut self.part(node).node;
            node.open.get_or_insert(OpenReason::Unknown);
            if let Shape::Object { is_closed, .. } = &mut node.shape {
                *is_closed = false;
            }
        }
        Ok(node)
    }

    /// Whether the field that is missing is one of this object, and not of one around it.
    fn has_more(&mut self, place: &Place, base: &[(Sample, Sample)], without: &Verdict) -> bool {
        let Some(Said::MissingField(name)) = without.said else {
            return false;
        };
        let with = [base, &[(Sample::str(name), Sample::Null)]].concat();
        self.try_with(place, &Sample::Map(with)) != *without
    }

    /// Whether an array is read in place of an object. It is not if parts of the object are flattened. Then no field has a number.
    fn has_sequence(&mut self, place: &Place, base: &[(Sample, Sample)]) -> bool {
        let tag = base.iter().map(|(_, tag)| tag.clone()).collect();
        let verdict = self.try_with(place, &Sample::Seq(tag));
        verdict.is_taken || !matches!(verdict.said, None | Some(Said::InvalidType(_)))
    }

    /// A struct with parts that are flattened. Only the fields that have to be there are found.
    pub(super) fn flattened(&mut self, place: &Place, node: NodeId) -> Result<(), Blocked> {
        let mut properties: Vec<Property> = Vec::new();
        let mut entries = Vec::new();
        let mut reason = OpenReason::Buffered;
        // The fields behind a tag are those of one variant.
        let mut is_behind_tag = false;
        loop {
            let verdict = self.try_with(place, &Sample::Map(entries.clone()));
            if verdict.is_taken {
                self.part(node).sample = Some(Sample::Map(entries));
                break;
            }
            let missing = match verdict.said {
                Some(Said::MissingField(field)) if entries.iter().all(|(key, _)| *key != Sample::str(field)) => field,
                _ => {
                    reason = self.stopped.unwrap_or(OpenReason::Unknown);
                    break;
                }
            };
            let with_it = [entries.as_slice(), &[(Sample::str(missing), Sample::Null)]].concat();
            if self.try_with(place, &Sample::Map(with_it)).said == Some(Said::MissingField(missing)) {
                // It is there, so that of an object inside is missing.
                reason = OpenReason::Unknown;
                break;
            }
            let step = Step::Entry { before: entries.clone(), key: Sample::str(missing) };
            let mut inside = place.with(step);
            if self.copies(&inside) {
                (inside.copied, inside.inside) = (Some(place.steps.len()), vec!["flattened".to_owned()]);
            }
            let value = self.node(&inside)?;
            if !is_behind_tag {
                let name = missing.to_owned();
                properties.push(Property { name, aliases: Vec::new(), value, is_required: true });
            }
            // A tag whose words could not be found out is any value.
            let may_be_tag = matches!(self.parts[value.0].node.shape, Shape::OneOf(_) | Shape::Any);
            is_behind_tag |= inside.copied.is_some() && may_be_tag;
            match self.sample(value)? {
                Some(sample) => entries.push((Sample::str(missing), sample)),
                None => break,
            }
        }
        self.done(node, Shape::Object { properties, is_closed: false }, Some(reason));
        Ok(())
    }

    /// Whether any value is copied in this place.
    fn copies(&mut self, place: &Place) -> bool {
        let ask = self.run(place.asked()).and_then(|run| run.ask);
        ask.is_some_and(|ask| ask.expects == ANY_VALUE)
            && [Sample::Null, Sample::Bool(true), Sample::str(UNKNOWN), Sample::Seq(Vec::new())]
                .iter()
                .all(|sample| self.takes(place, sample))
    }

    /// The field that a name stands for: two values for one field are an error that has the name of the field.
    fn primary(
        &mut self,
        place: &Place,
        field: &str,
        value: NodeId,
        entries: &[(Sample, Sample)],
    ) -> Result<Option<&'static str>, Blocked> {
        // Without a value that is taken it can't be found out.
        let Some(sample) = self.sample(value)? else {
            return Ok(None);
        };
        let mut twice: Vec<_> = entries.iter().filter(|(key, _)| *key != Sample::str(field)).cloned().collect();
        twice.extend([(Sample::str(field), sample.clone()), (Sample::str(field), sample)]);
        Ok(match self.try_with(place, &Sample::Map(twice)).said {
            Some(Said::DuplicateField(primary)) => Some(primary),
            _ => None,
        })
    }
}
