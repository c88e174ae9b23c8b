//! What schemars says of a type beside its shape, at the places of the schema that was traced: [`DeclaredWords`].
//!
//! The shape comes from the type's `Deserialize`. From schemars come words for people, and formats and limits that the type has
//! declared. Nothing says that its `Deserialize` refuses other values, so a comparison must not use them.

use std::collections::{BTreeMap, HashMap};

#[cfg(feature = "schemars")]
use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::type_schema::NodeId;
#[cfg(feature = "schemars")]
use crate::type_schema::{Alternative, Shape, TypeSchema};

/// Words of a schema that a program may ignore.
pub(crate) const ANNOTATIONS: [&str; 7] =
    ["default", "deprecated", "description", "examples", "readOnly", "writeOnly", ORDER];

/// The member of a schema that has the formats and limits.
pub(crate) const DECLARED: &str = "x-declared";

/// The properties of an object in the order in which they are declared.
pub(crate) const ORDER: &str = "x-order";

/// What the words of an enum mean.
pub(crate) const VARIANTS: &str = "x-enumDescriptions";

/// In place of `true`, if other words stand beside it.
pub(crate) const UNKNOWN: &str = "x-unknown";

/// The words that were declared, by the place that they stand at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DeclaredWords {
    of_node: HashMap<NodeId, Map<String, Value>>,
    /// Of a property or of a variant, by its name.
    of_member: HashMap<NodeId, BTreeMap<String, Map<String, Value>>>,
}

impl DeclaredWords {
    /// The words of a whole type.
    pub(crate) fn put_node(&self, id: NodeId, schema: &mut Value) {
        if let Some(words) = self.of_node.get(&id) {
            put(words, schema);
        }
    }

    /// The words of one of its properties or variants.
    pub(crate) fn put_member(&self, id: NodeId, name: &str, schema: &mut Value) {
        if let Some(words) = self.of_member.get(&id).and_then(|members| members.get(name)) {
            put(words, schema);
        }
    }

    /// The descriptions of these variants of an enum.
    pub(crate) fn put_descriptions(&self, id: NodeId, variants: &[&String], schema: &mut Value) {
        let members = self.of_member.get(&id);
        for variant in variants {
            if let Some(description) = members.and_then(|members| members.get(*variant)?.get("description")) {
                schema[VARIANTS][*variant] = description.clone();
            }
        }
    }
}

/// Whether nothing is known of the values of this schema.
#[cfg(feature = "documents")]
pub(crate) fn is_unknown(schema: &Value) -> bool {
    *schema == true || schema.get(UNKNOWN) == Some(&Value::Bool(true))
}

fn put(words: &Map<String, Value>, schema: &mut Value) {
    if *schema == true {
        *schema = json!({ UNKNOWN: true });
    }
    for (word, value) in words {
        if ANNOTATIONS.contains(&word.as_str()) {
            schema[word] = value.clone();
        } else {
            schema[DECLARED][word] = value.clone();
        }
    }
}

#[cfg(feature = "schemars")]
impl TypeSchema {
    /// Takes over what schemars says of the type. Where the two shapes differ, nothing is taken over.
    pub(crate) fn declare(&mut self, declared: &Value) {
        let mut reader = DeclarationReader {
            schema: self,
            definitions: declared.get("$defs"),
            words: DeclaredWords::default(),
            seen: HashSet::new(),
        };
        reader.read(self.root, declared, Owner::Node);
        self.declared = reader.words;
    }
}

#[cfg(feature = "schemars")]
struct DeclarationReader<'d> {
    schema: &'d TypeSchema,
    definitions: Option<&'d Value>,
    words: DeclaredWords,
    /// The places that were read, each with what is declared of it. A type may contain itself.
    seen: HashSet<(NodeId, *const Value)>,
}

/// Whose words those of a declaration are.
#[cfg(feature = "schemars")]
enum Owner<'d> {
    /// Those of the type itself.
    Node,
    /// Those of a property or of a variant of this type.
    Member(NodeId, &'d str),
    /// Those of the type, but for annotations: they were read already, as those of the place around it.
    NodeAround,
    /// They were read already.
    Read,
}

#[cfg(feature = "schemars")]
impl<'d> DeclarationReader<'d> {
    fn read(&mut self, id: NodeId, declared: &'d Value, owner: Owner<'d>) {
        let node = self.schema.node(id);
        let words = words_for(&node.shape, declared);
        if !words.is_empty() {
            match owner {
                Owner::Node => drop(self.words.of_node.entry(id).or_insert(words)),
                Owner::Member(of, name) => {
                    self.words.of_member.entry(of).or_default().entry(name.to_owned()).or_insert(words);
                }
                Owner::NodeAround => {
                    let limits = words.into_iter().filter(|(word, _)| !ANNOTATIONS.contains(&word.as_str()));
                    self.words.of_node.entry(id).or_insert(limits.collect());
                }
                Owner::Read => {}
            }
        }
        if !self.seen.insert((id, declared)) {
            return;
        }
        if let Some(definition) = self.referred(declared) {
            return self.read(id, definition, Owner::Node);
        }
        match &node.shape {
            Shape::Optional(inner) => match parts(declared).map(|parts| parts.iter().filter(|part| !is_null(part))) {
                // `"type": ["string", "null"]`.
                None => self.read(*inner, declared, Owner::NodeAround),
                Some(mut parts) => {
                    if let (Some(part), None) = (parts.next(), parts.next()) {
                        self.read(*inner, part, Owner::Node);
                    }
                }
            },
            Shape::Sequence(item) => self.read_at(*item, declared.get("items")),
            Shape::Tuple { items, .. } => {
                let declared = declared.get("prefixItems").and_then(Value::as_array).into_iter().flatten();
                items.iter().zip(declared).for_each(|(item, declared)| self.read(*item, declared, Owner::Node));
            }
            Shape::Map { value, .. } => self.read_at(*value, declared.get("additionalProperties")),
            Shape::Object { properties, .. } => {
                for property in properties {
                    if let Some(declared) = declared.get("properties").and_then(|all| all.get(&property.name)) {
                        self.read(property.value, declared, Owner::Member(id, &property.name));
                    }
                }
            }
            Shape::OneOf(alternatives) => self.read_alternatives(id, alternatives, declared),
            Shape::Any
            | Shape::Null
            | Shape::Bool
            | Shape::Integer { .. }
            | Shape::Number
            | Shape::Char
            | Shape::String { .. }
            | Shape::Bytes { .. } => {}
        }
    }

    fn read_at(&mut self, id: NodeId, declared: Option<&'d Value>) {
        if let Some(declared) = declared {
            self.read(id, declared, Owner::Node);
        }
    }

    fn read_alternatives(&mut self, id: NodeId, alternatives: &'d [Alternative], declared: &'d Value) {
        let Some(parts) = parts(declared) else { return };
        let untagged = |one: &Alternative| matches!(one, Alternative::Untagged(_));
        if alternatives.iter().all(untagged) && alternatives.len() == parts.len() {
            for (alternative, part) in alternatives.iter().zip(parts) {
                if let Alternative::Untagged(content) = alternative {
                    self.read(*content, part, Owner::Node);
                }
            }
            return;
        }
        for alternative in alternatives {
            let property = |part: &'d Value, name: &str| part.get("properties").and_then(|all| all.get(name));
            let with_tag = |tag: &str, variant: &str| {
                parts.iter().find(|part| property(part, tag).is_some_and(|tag| tag["const"] == *variant))
            };
            match alternative {
                Alternative::Unit(name) => {
                    if let Some(part) = parts.iter().find(|part| part["const"] == *name.as_str()) {
                        self.own_words(id, name, part);
                    }
                }
                Alternative::Keyed(name, content) => {
                    if let Some((part, inner)) = parts.iter().find_map(|part| Some((part, property(part, name)?))) {
                        self.own_words(id, name, part);
                        self.read(*content, inner, Owner::Node);
                    }
                }
                Alternative::Internal { tag, variant, object } => {
                    if let Some(part) = with_tag(tag, variant) {
                        self.own_words(id, variant, part);
                        self.read(*object, part, Owner::Read);
                    }
                }
                Alternative::Adjacent { tag, variant, content, .. } => {
                    if let Some(part) = with_tag(tag, variant) {
                        self.own_words(id, variant, part);
                        if let Some(content) = content {
                            self.read_at(content.value, property(part, &content.name));
                        }
                    }
                }
                Alternative::OtherString | Alternative::OtherTag { .. } | Alternative::Untagged(_) => {}
            }
        }
    }

    /// The words of a variant. It has annotations only.
    fn own_words(&mut self, id: NodeId, name: &str, declared: &Value) {
        let words = words_for(&Shape::Any, declared);
        if !words.is_empty() {
            self.words.of_member.entry(id).or_default().entry(name.to_owned()).or_insert(words);
        }
    }

    fn referred(&self, declared: &Value) -> Option<&'d Value> {
        let name = declared.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
        self.definitions?.get(name.replace("~1", "/").replace("~0", "~"))
    }
}

#[cfg(feature = "schemars")]
fn parts(declared: &Value) -> Option<&Vec<Value>> {
    declared.get("oneOf").or_else(|| declared.get("anyOf"))?.as_array()
}

#[cfg(feature = "schemars")]
fn is_null(declared: &Value) -> bool {
    declared["type"] == "null"
}

/// The words of a declaration that say more of this shape than it says itself.
#[cfg(feature = "schemars")]
fn words_for(shape: &Shape, declared: &Value) -> Map<String, Value> {
    let limits: &[&str] = match shape {
        Shape::String { .. } | Shape::Char => {
            &["contentEncoding", "contentMediaType", "format", "maxLength", "minLength", "pattern"]
        }
        // For numbers the format is the name of the Rust type.
        Shape::Integer { .. } | Shape::Number => {
            &["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"]
        }
        Shape::Sequence(_) => &["maxItems", "minItems", "uniqueItems"],
        Shape::Map { .. } | Shape::Object { .. } => &["maxProperties", "minProperties"],
        Shape::Any if declared["type"] == "string" => &["contentEncoding", "contentMediaType", "format"],
        Shape::Any
        | Shape::Null
        | Shape::Bool
        | Shape::Bytes { .. }
        | Shape::Optional(_)
        | Shape::Tuple { .. }
        | Shape::OneOf(_) => &[],
    };
    let is_new = |word: &str, value: &Value| match (shape, word) {
        (Shape::Integer { least, .. }, "minimum") => value.as_i64().is_some_and(|value| i128::from(value) > *least),
        (Shape::Integer { greatest, .. }, "maximum") => {
            value.as_u64().is_none_or(|value| i128::from(value) < *greatest)
        }
        (Shape::String { format }, "format") => value.as_str() != *format,
        _ => true,
    };
    let words = declared.as_object().into_iter().flatten();
    let taken = words.filter(|(word, value)| {
        ANNOTATIONS.contains(&word.as_str()) || limits.contains(&word.as_str()) && is_new(word, value)
    });
    taken.map(|(word, value)| (word.clone(), value.clone())).collect()
}
