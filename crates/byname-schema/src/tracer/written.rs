//! What a type writes, held against what it reads.

use std::collections::{HashSet, VecDeque};

use super::{TUPLE, Tracer, UNKNOWN};
use crate::probe::{Sample, Written};
use crate::type_schema::{Alternative, NodeId, OpenReason, Shape, TypeSchema};

/// The most values of a type that are written.
const VALUES: usize = 10_000;

/// The parts around a part, from the outermost, each with the number of the part inside it.
pub(super) type Path = Vec<(NodeId, usize)>;

impl Tracer<'_> {
    /// Opens the parts that the type writes otherwise than it reads them. What is written depends on the place, as with
    /// `serialize_with`, so each part is written in each place in which it stands.
    pub(super) fn open_what_is_written_otherwise(&mut self, write: fn(&Sample) -> Written, schema: &mut TypeSchema) {
        let mut wholes = self.values(schema.root);
        let mut seen = HashSet::from([schema.root]);
        let mut waiting = VecDeque::from([(schema.root, Path::new())]);
        let mut written = 0;
        loop {
            for whole in std::mem::take(&mut wholes) {
                written += 1;
                if written > VALUES || self.budget.is_spent() {
                    self.stopped.get_or_insert(OpenReason::TooLarge);
                }
                if self.stopped.is_some() {
                    return;
                }
                match write(&whole) {
                    Written::Json(value) => {
                        for misfit in schema.misfits(&value) {
                            schema.nodes[misfit.0].open.get_or_insert(OpenReason::WritesOther);
                        }
                    }
                    Written::Nothing => {}
                    Written::Panicked => self.stopped = Some(OpenReason::Panicked),
                }
            }
            let Some((id, path)) = waiting.pop_front() else { return };
            for (at, inner) in self.inside(id) {
                let path = [path.as_slice(), &[(id, at)]].concat();
                let whole = |value| path.iter().rev().try_fold(value, |value, (id, at)| self.around(*id, *at, value));
                let before = wholes.len();
                wholes.extend(self.values(inner).into_iter().filter_map(whole));
                // Behind a part without samples nothing can be reached.
                if wholes.len() > before && seen.insert(inner) {
                    waiting.push_back((inner, path));
                }
            }
        }
    }

    /// Values of a part, in which each part of it is there, and absent where it may be.
    fn values(&self, id: NodeId) -> Vec<Sample> {
        let part = &self.parts[id.0];
        let mut values: Vec<_> = part.sample.iter().chain(&part.others).cloned().collect();
        match &part.node.shape {
            // `skip_serializing_if` often leaves it out.
            Shape::Integer { .. } => values.push(Sample::Int(0)),
            Shape::Number => values.push(Sample::Float(0.0)),
            Shape::OneOf(alternatives) => {
                values.extend(alternatives.iter().filter_map(|alternative| match alternative {
                    Alternative::Unit(name) => Some(Sample::str(name)),
                    Alternative::OtherString => Some(Sample::str(UNKNOWN)),
                    Alternative::OtherTag { tag } => Some(Sample::Map(vec![named(tag, Sample::str(UNKNOWN))])),
                    Alternative::Adjacent { tag, variant, .. } => {
                        Some(Sample::Map(vec![named(tag, Sample::str(variant))]))
                    }
                    _ => None,
                }))
            }
            _ => {}
        }
        for (at, inner) in self.inside(id) {
            let sample = self.parts[inner.0].sample.clone();
            values
                .extend(sample.and_then(|sample| self.around(id, at, sample)).filter(|value| !values.contains(value)));
        }
        values
    }

    /// The parts inside a part, with their numbers.
    pub(super) fn inside(&self, id: NodeId) -> Vec<(usize, NodeId)> {
        match &self.parts[id.0].node.shape {
            // Some alternatives have nothing inside.
            Shape::OneOf(alternatives) => {
                let child = |(at, alternative): (usize, &Alternative)| Some((at, alternative.child()?.1));
                alternatives.iter().enumerate().filter_map(child).collect()
            }
            // An array can be long, and its elements are alike.
            Shape::Tuple { items, .. } => items.iter().copied().enumerate().take(TUPLE).collect(),
            shape => shape.children().into_iter().map(|(_, child)| child).enumerate().collect(),
        }
    }

    /// A value of a part with this value in the part inside it that has this number.
    pub(super) fn around(&self, id: NodeId, at: usize, value: Sample) -> Option<Sample> {
        let part = &self.parts[id.0];
        let sample_of = |id: NodeId| self.parts[id.0].sample.clone();
        Some(match (&part.node.shape, &part.sample) {
            (Shape::Optional(_), _) => value,
            (Shape::Sequence(_), _) => Sample::Seq(vec![value]),
            (Shape::Map { value: of, .. }, _) if at == 0 => Sample::Map(vec![(value, sample_of(*of)?)]),
            (Shape::Map { key, .. }, _) => Sample::Map(vec![(sample_of(*key)?, value)]),
            (Shape::Tuple { .. }, Some(Sample::Seq(items))) => {
                let mut items = items.clone();
                *items.get_mut(at)? = value;
                Sample::Seq(items)
            }
            (Shape::Object { properties, .. }, Some(Sample::Map(entries))) => {
                let new = named(&properties[at].name, value);
                let others = entries.iter().filter(|(key, _)| *key != new.0).cloned();
                Sample::Map(others.chain([new.clone()]).collect())
            }
            (Shape::OneOf(alternatives), _) => match &alternatives[at] {
                Alternative::Keyed(name, _) => Sample::Map(vec![named(name, value)]),
                Alternative::Adjacent { tag, variant, content: Some(content), .. } => {
                    Sample::Map(vec![named(tag, Sample::str(variant)), named(&content.name, value)])
                }
                _ => value,
            },
            _ => return None,
        })
    }
}

pub(super) fn named(key: &str, value: Sample) -> (Sample, Sample) {
    (Sample::str(key), value)
}
