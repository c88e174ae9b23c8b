//! Enums with a tag that take unknown variants. No error tells the names of the others, so they are found by what the type writes.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

use super::written::{Path, named};
use super::{Tracer, UNKNOWN};
use crate::probe::{Sample, Written};
use crate::type_schema::{Alternative, NodeId, OpenReason, Shape};

impl Tracer<'_> {
    /// Gives the variants their names. A derived `Deserialize` takes the number of a variant in place of its name.
    pub(super) fn name_variants(&mut self, root: NodeId, write: Option<fn(&Sample) -> Written>) {
        for node in std::mem::take(&mut self.unnamed_variants) {
            let names = write.and_then(|write| self.names_of_variants(root, node, write));
            let Shape::OneOf(alternatives) = &mut self.parts[node.0].node.shape else { continue };
            let Some(names) = names else {
                let part = self.part(node);
                (part.node.shape, part.node.open) = (Shape::Any, Some(OpenReason::Buffered));
                continue;
            };
            let Some(other) = alternatives.pop() else { continue };
            alternatives.truncate(names.len());
            let mut objects = Vec::new();
            for (alternative, name) in alternatives.iter_mut().zip(names) {
                if let Alternative::Internal { tag, variant, object } = alternative {
                    objects.push((*object, named(tag, Sample::str(&name))));
                    *variant = name;
                }
            }
            alternatives.push(other);
            for (object, tagged) in objects {
                let part = self.part(object);
                for sample in part.sample.iter_mut().chain(&mut part.others) {
                    *sample = with(sample, &tagged);
                }
            }
        }
    }

    /// The names of the variants before the one for unknown ones, which is the last. `None` if they are not found.
    fn names_of_variants(&self, root: NodeId, node: NodeId, write: fn(&Sample) -> Written) -> Option<Vec<String>> {
        let path = self.way_to(root, node)?;
        let Shape::OneOf(alternatives) = &self.parts[node.0].node.shape else { return None };
        let written = |object: Sample, tag: &str| {
            let whole = path.iter().rev().try_fold(object, |value, (id, at)| self.around(*id, *at, value))?;
            let Written::Json(mut value) = write(&whole) else { return None };
            for (id, at) in &path {
                value = self.part_inside(*id, *at, value)?;
            }
            value.get(tag)?.as_str().map(str::to_owned)
        };
        let Some(Alternative::OtherTag { tag }) = alternatives.last() else { return None };
        let other = written(Sample::Map(vec![named(tag, Sample::str(UNKNOWN))]), tag)?;
        let mut names = Vec::new();
        for alternative in alternatives {
            let Alternative::Internal { object, .. } = alternative else { return None };
            let sample = self.parts[object.0].sample.clone()?;
            let name = written(sample.clone(), tag)?;
            if name == other {
                return Some(names);
            }
            // The type reads it by this name too.
            let again = written(with(&sample, &named(tag, Sample::str(&name))), tag)?;
            if again != name {
                return None;
            }
            names.push(name);
        }
        None
    }

    /// The parts around a part, from the outermost. `None` if it is reached through a part without samples.
    fn way_to(&self, root: NodeId, node: NodeId) -> Option<Path> {
        let mut seen = HashSet::from([root]);
        let mut waiting = VecDeque::from([(root, Path::new())]);
        while let Some((id, path)) = waiting.pop_front() {
            if id == node {
                return Some(path);
            }
            for (at, inner) in self.inside(id) {
                if seen.insert(inner) {
                    waiting.push_back((inner, [path.as_slice(), &[(id, at)]].concat()));
                }
            }
        }
        None
    }

    /// What was written of the part inside a part that has this number.
    fn part_inside(&self, id: NodeId, at: usize, mut value: Value) -> Option<Value> {
        let inside = match &self.parts[id.0].node.shape {
            Shape::Optional(_) => return Some(value),
            Shape::Sequence(_) => value.get_mut(0)?,
            Shape::Tuple { .. } => value.get_mut(at)?,
            Shape::Map { .. } => value.as_object_mut()?.values_mut().next()?,
            Shape::Object { properties, .. } => value.get_mut(&properties[at].name)?,
            Shape::OneOf(alternatives) => match &alternatives[at] {
                Alternative::Keyed(name, _) => value.get_mut(name)?,
                Alternative::Adjacent { content: Some(content), .. } => value.get_mut(&content.name)?,
                _ => return Some(value),
            },
            _ => return None,
        };
        Some(inside.take())
    }
}

/// An object with this entry in place of the one of its key.
fn with(object: &Sample, entry: &(Sample, Sample)) -> Sample {
    let Sample::Map(entries) = object else { return object.clone() };
    let others = entries.iter().filter(|(key, _)| *key != entry.0).cloned();
    Sample::Map(std::iter::once(entry.clone()).chain(others).collect())
}
