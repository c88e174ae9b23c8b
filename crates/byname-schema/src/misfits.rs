//! The parts of a schema that a value does not fit: [`TypeSchema::misfits`].

use serde_json::{Map, Number, Value};

use crate::type_schema::{Alternative, NodeId, Property, Shape, TypeSchema};

impl TypeSchema {
    /// The innermost parts that the value does not fit. None if it fits. [`TypeSchema::to_json_schema`] says the same of the value.
    pub(crate) fn misfits(&self, value: &Value) -> Vec<NodeId> {
        self.misfits_of(self.root, value)
    }

    fn misfits_of(&self, id: NodeId, value: &Value) -> Vec<NodeId> {
        let own = |fits: bool| if fits { Vec::new() } else { vec![id] };
        match (&self.node(id).shape, value) {
            (Shape::Any, _) => Vec::new(),
            (Shape::Null, value) => own(value.is_null()),
            (Shape::Bool, value) => own(value.is_boolean()),
            (Shape::Integer { least, greatest, without_zero }, Value::Number(number)) => {
                own(is_integer(number, *least, *greatest, *without_zero))
            }
            // serde_json writes NaN and infinities so, which byname does not send.
            (Shape::Number, value) => own(value.is_number() || value.is_null()),
            (Shape::Char, Value::String(text)) => own(text.chars().count() == 1),
            (Shape::String { .. }, value) => own(value.is_string()),
            (Shape::Bytes { .. }, Value::Array(items)) => {
                own(items.iter().all(|item| item.as_u64().is_some_and(|byte| byte <= u8::MAX.into())))
            }
            (Shape::Bytes { or_string }, value) => own(*or_string && value.is_string()),
            (Shape::Optional(_), Value::Null) => Vec::new(),
            (Shape::Optional(inner), value) => match self.behind_options(*inner) {
                Some(inner) => self.misfits_of(inner, value),
                None => vec![id],
            },
            (Shape::Sequence(item), Value::Array(items)) => {
                items.iter().flat_map(|value| self.misfits_of(*item, value)).collect()
            }
            (Shape::Tuple { items, least }, Value::Array(values)) => {
                match (*least..=items.len()).contains(&values.len()) {
                    true => items.iter().zip(values).flat_map(|(item, value)| self.misfits_of(*item, value)).collect(),
                    false => vec![id],
                }
            }
            (Shape::Map { key, value }, Value::Object(entries)) => entries
                .iter()
                .flat_map(|(name, inside)| [self.misfits_of_name(*key, name), self.misfits_of(*value, inside)].concat())
                .collect(),
            (Shape::Object { properties, is_closed }, Value::Object(entries)) => {
                self.misfits_of_object(id, properties, *is_closed, None, entries)
            }
            (Shape::OneOf(alternatives), value) => self.misfits_of_alternatives(id, alternatives, value),
            _ => vec![id],
        }
    }

    /// `None` if there are only options of themselves.
    fn behind_options(&self, mut id: NodeId) -> Option<NodeId> {
        for _ in &self.nodes {
            match self.node(id).shape {
                Shape::Optional(inner) => id = inner,
                _ => return Some(id),
            }
        }
        None
    }

    /// Keys are strings, whatever their type.
    fn misfits_of_name(&self, key: NodeId, name: &str) -> Vec<NodeId> {
        let fits = match self.node(key).shape {
            Shape::Integer { least, greatest, .. } => {
                // A number that is too great is one of 128 bits.
                name.parse().map_or(true, |number: i128| (least..=greatest).contains(&number))
                    && name.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit())
            }
            Shape::Bool => ["true", "false"].contains(&name),
            _ => return self.misfits_of(key, &Value::from(name)),
        };
        if fits { Vec::new() } else { vec![key] }
    }

    /// `tag` is a property that is not one of the object.
    fn misfits_of_object(
        &self,
        id: NodeId,
        properties: &[Property],
        is_closed: bool,
        tag: Option<&str>,
        entries: &Map<String, Value>,
    ) -> Vec<NodeId> {
        let mut misfits = Vec::new();
        let mut known = entries.keys().filter(|key| tag == Some(key)).count();
        for property in properties {
            let names = std::iter::once(&property.name).chain(&property.aliases);
            let values: Vec<_> = names.filter_map(|name| entries.get(name)).collect();
            match values.as_slice() {
                [] if property.is_required => misfits.push(id),
                [] => {}
                [value] => misfits.extend(self.misfits_of(property.value, value)),
                _ => misfits.push(id),
            }
            known += values.len();
        }
        misfits.extend((is_closed && known < entries.len()).then_some(id));
        misfits
    }

    fn misfits_of_alternatives(&self, id: NodeId, alternatives: &[Alternative], value: &Value) -> Vec<NodeId> {
        let mut nearest: Option<Vec<NodeId>> = None;
        for alternative in alternatives {
            if let Alternative::OtherTag { tag } = alternative {
                let is_other = |name: &str| !alternatives.iter().any(|one| one.tagged() == Some(name));
                if value.get(tag).and_then(Value::as_str).is_some_and(is_other) {
                    return Vec::new();
                }
                continue;
            }
            match self.misfits_of_alternative(id, alternative, value) {
                Some(misfits) if misfits.is_empty() => return misfits,
                // If it is like several of them, it is not known which one it should be.
                Some(misfits) => nearest = Some(if nearest.is_some() { vec![id] } else { misfits }),
                None => {}
            }
        }
        nearest.unwrap_or_else(|| vec![id])
    }

    /// `None` if the value has the name of another alternative.
    fn misfits_of_alternative(&self, id: NodeId, alternative: &Alternative, value: &Value) -> Option<Vec<NodeId>> {
        let has_tag = |tag: &str, variant: &str| value.get(tag).is_some_and(|name| name == variant);
        match (alternative, value) {
            (Alternative::Unit(name), value) => (value == name).then(Vec::new),
            (Alternative::OtherTag { .. }, _) => None,
            (Alternative::OtherString, value) => value.is_string().then(Vec::new),
            (Alternative::Keyed(name, content), Value::Object(entries)) if entries.len() == 1 => {
                entries.get(name).map(|value| self.misfits_of(*content, value))
            }
            (Alternative::Adjacent { tag, variant, content, is_closed }, Value::Object(entries))
                if has_tag(tag, variant) =>
            {
                Some(self.misfits_of_object(id, content.as_slice(), *is_closed, Some(tag), entries))
            }
            (Alternative::Internal { tag, variant, object }, Value::Object(entries)) if has_tag(tag, variant) => {
                Some(match &self.node(*object).shape {
                    Shape::Object { properties, is_closed } => {
                        self.misfits_of_object(*object, properties, *is_closed, Some(tag), entries)
                    }
                    _ => Vec::new(),
                })
            }
            (Alternative::Untagged(content), value) => Some(self.misfits_of(*content, value)),
            _ => None,
        }
    }
}

fn is_integer(number: &Number, least: i128, greatest: i128, without_zero: bool) -> bool {
    match number.as_i128() {
        Some(number) => (least..=greatest).contains(&number) && !(without_zero && number == 0),
        // One of more than 64 bits is read as a float.
        None => number.as_f64().is_some_and(|number| {
            number.fract() == 0.0
                && number.abs() >= i64::MAX as f64
                && (least < i64::MIN.into() || greatest > u64::MAX.into())
        }),
    }
}
