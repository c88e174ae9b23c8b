//! A schema in the words of JSON Schema 2020-12.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::declared::ORDER;
use crate::type_schema::{Alternative, NodeId, Property, Shape, TypeSchema};

impl TypeSchema {
    /// As JSON Schema 2020-12. Structs and enums that stand in several places, and types that contain themselves, are in `$defs`.
    pub fn to_json_schema(&self) -> Value {
        let mut definitions = SchemaDefinitions::at("#/$defs/");
        let mut value = definitions.write(self, false);
        if let (Value::Object(object), false) = (&mut value, definitions.by_name.is_empty()) {
            object.insert("$defs".to_owned(), json!(definitions.by_name));
        }
        value
    }
}

/// The definitions of a document with several schemas. Types of one name and one shape are written once.
#[derive(Clone, Debug)]
pub struct SchemaDefinitions {
    prefix: &'static str,
    by_name: BTreeMap<String, Value>,
}

impl SchemaDefinitions {
    /// They stand behind this reference: `#/$defs/`.
    pub fn at(prefix: &'static str) -> Self {
        Self { prefix, by_name: BTreeMap::new() }
    }

    /// The JSON Schema of a type. All structs and enums are references.
    pub fn add(&mut self, schema: &TypeSchema) -> Value {
        self.write(schema, true)
    }

    /// The definitions by their names.
    pub fn into_map(self) -> BTreeMap<String, Value> {
        self.by_name
    }

    fn write(&mut self, schema: &TypeSchema, all_named: bool) -> Value {
        let mut shared = Vec::new();
        find_shared(schema, schema.root, &mut Vec::new(), &mut HashSet::new(), all_named, &mut shared);
        let mut nths = vec![1; shared.len()];
        loop {
            let mut names = HashMap::new();
            for (at, id) in shared.iter().enumerate() {
                let base = schema.node(*id).name.as_deref().unwrap_or("Value");
                // Two types of one name in this schema.
                while names.values().any(|taken| *taken == numbered(base, nths[at])) {
                    nths[at] += 1;
                }
                names.insert(*id, numbered(base, nths[at]));
            }
            let mut writer = SchemaWriter { schema, prefix: self.prefix, names, defined: BTreeMap::new() };
            let value = writer.write(schema.root);
            let SchemaWriter { names, defined, .. } = writer;
            let differs = |name: &String| self.by_name.get(name).is_some_and(|known| *known != defined[name]);
            match shared.iter().position(|id| differs(&names[id])) {
                // Its name is that of a type of another schema.
                Some(at) => nths[at] += 1,
                None => {
                    self.by_name.extend(defined);
                    return value;
                }
            }
        }
    }
}

fn numbered(name: &str, nth: usize) -> String {
    if nth == 1 { name.to_owned() } else { format!("{name}{nth}") }
}

struct SchemaWriter<'s> {
    schema: &'s TypeSchema,
    prefix: &'static str,
    /// The names of the parts that are written once, and referred to.
    names: HashMap<NodeId, String>,
    defined: BTreeMap<String, Value>,
}

impl SchemaWriter<'_> {
    fn write(&mut self, id: NodeId) -> Value {
        let Some(name) = self.names.get(&id).cloned() else {
            return self.write_node(id);
        };
        let reference = json!({ "$ref": format!("{}{}", self.prefix, escape(&name)) });
        if !self.defined.contains_key(&name) {
            self.defined.insert(name.clone(), Value::Null);
            let written = self.write_node(id);
            self.defined.insert(name, written);
        }
        reference
    }

    fn write_node(&mut self, id: NodeId) -> Value {
        let mut written = self.write_shape(id);
        self.schema.declared.put_node(id, &mut written);
        written
    }

    fn write_shape(&mut self, id: NodeId) -> Value {
        let schema = self.schema;
        let node = schema.node(id);
        match &node.shape {
            // Both accept every value. Of the first it is known that the type does.
            Shape::Any if node.open.is_none() => json!({}),
            Shape::Any => json!(true),
            Shape::Null => json!({ "type": "null" }),
            Shape::Bool => json!({ "type": "boolean" }),
            Shape::Integer { least, greatest, without_zero } => integer(*least, *greatest, *without_zero),
            Shape::Number => json!({ "type": "number" }),
            Shape::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
            Shape::String { format: None } => json!({ "type": "string" }),
            Shape::String { format: Some(format) } => json!({ "type": "string", "format": format }),
            Shape::Bytes { or_string } => {
                let types = if *or_string { json!(["array", "string"]) } else { json!("array") };
                json!({ "type": types, "items": { "type": "integer", "minimum": 0, "maximum": 255 } })
            }
            Shape::Optional(inner) => match self.write(*inner) {
                any if any == true || any == json!({}) => any,
                inner => json!({ "anyOf": [inner, { "type": "null" }] }),
            },
            Shape::Sequence(item) => json!({ "type": "array", "items": self.write(*item) }),
            Shape::Tuple { items, least } => {
                let length = items.len();
                let items: Vec<_> = items.iter().map(|item| self.write(*item)).collect();
                match items.as_slice() {
                    // `prefixItems` may not be empty.
                    [] => json!({ "type": "array", "maxItems": 0 }),
                    [first, rest @ ..] if rest.len() > 3 && rest.iter().all(|item| item == first) => {
                        json!({ "type": "array", "items": first, "minItems": least, "maxItems": length })
                    }
                    _ => json!({ "type": "array", "prefixItems": items, "items": false, "minItems": least }),
                }
            }
            Shape::Map { key, value } => {
                let mut object = json!({ "type": "object", "additionalProperties": self.write(*value) });
                if let Some(names) = self.names(*key) {
                    object["propertyNames"] = names;
                }
                object
            }
            Shape::Object { properties, is_closed } => self.object(id, properties, *is_closed),
            Shape::OneOf(alternatives) => self.alternatives(id, alternatives),
        }
    }

    /// What the keys of a map look like, if not every string is one.
    fn names(&mut self, key: NodeId) -> Option<Value> {
        match &self.schema.node(key).shape {
            Shape::String { format: None } | Shape::Any => None,
            Shape::Integer { least: 0.., .. } => Some(json!({ "pattern": "^[0-9]+$" })),
            Shape::Integer { .. } => Some(json!({ "pattern": "^-?[0-9]+$" })),
            Shape::Bool => Some(json!({ "enum": ["false", "true"] })),
            _ => Some(self.write(key)),
        }
    }

    fn object(&mut self, id: NodeId, properties: &[Property], is_closed: bool) -> Value {
        let mut written = Map::new();
        let mut required = Vec::new();
        let mut conditions = Vec::new();
        for property in properties {
            let mut value = self.write(property.value);
            self.schema.declared.put_member(id, &property.name, &mut value);
            for alias in &property.aliases {
                written.insert(alias.clone(), value.clone());
            }
            written.insert(property.name.clone(), value);
            let names: Vec<_> = std::iter::once(&property.name).chain(&property.aliases).collect();
            let one_of = || -> Vec<_> { names.iter().map(|name| json!({ "required": [name] })).collect() };
            match (property.is_required, names.len()) {
                (true, 1) => required.push(&property.name),
                (true, _) => conditions.push(json!({ "oneOf": one_of() })),
                (false, 1) => {}
                (false, _) => {
                    let mut none_or_one = one_of();
                    none_or_one.push(json!({ "not": { "anyOf": one_of() } }));
                    conditions.push(json!({ "oneOf": none_or_one }));
                }
            }
        }
        let mut object = json!({ "type": "object", "properties": written });
        // `properties` have the order of the alphabet, and `required` has that of the declaration.
        if required.len() < properties.len() && properties.len() > 1 {
            object[ORDER] = properties.iter().map(|property| property.name.as_str()).collect();
        }
        if !required.is_empty() {
            object["required"] = json!(required);
        }
        if is_closed {
            object["additionalProperties"] = json!(false);
        }
        if !conditions.is_empty() {
            object["allOf"] = json!(conditions);
        }
        object
    }

    fn alternatives(&mut self, id: NodeId, alternatives: &[Alternative]) -> Value {
        let mut strings = Vec::new();
        let mut others = Vec::new();
        for alternative in alternatives {
            match alternative {
                Alternative::Unit(name) => strings.push(name),
                Alternative::OtherString => {
                    let keyed = |alternative: &Alternative| match alternative {
                        Alternative::Keyed(name, _) => Some(name.clone()),
                        _ => None,
                    };
                    let keyed: Vec<_> = alternatives.iter().filter_map(keyed).collect();
                    others.push(match keyed.is_empty() {
                        true => json!({ "type": "string" }),
                        false => json!({ "type": "string", "not": { "enum": keyed } }),
                    });
                }
                Alternative::OtherTag { tag } => {
                    let known: Vec<_> = alternatives.iter().filter_map(Alternative::tagged).collect();
                    let mut other = json!({ "type": "string" });
                    if !known.is_empty() {
                        other["not"] = json!({ "enum": known });
                    }
                    let properties = Map::from_iter([(tag.clone(), other)]);
                    others.push(json!({ "type": "object", "properties": properties, "required": [tag] }));
                }
                Alternative::Keyed(name, content) => {
                    let content = self.write(*content);
                    let properties = Map::from_iter([(name.clone(), content)]);
                    let mut keyed = json!({
                        "type": "object", "properties": properties, "required": [name], "additionalProperties": false,
                    });
                    self.schema.declared.put_member(id, name, &mut keyed);
                    others.push(keyed);
                }
                Alternative::Adjacent { tag, variant, content, is_closed } => {
                    let mut properties = Map::from_iter([(tag.clone(), json!({ "const": variant }))]);
                    let mut required = vec![tag];
                    if let Some(content) = content {
                        properties.insert(content.name.clone(), self.write(content.value));
                        required.extend(content.is_required.then_some(&content.name));
                    }
                    let mut object = json!({ "type": "object", "properties": properties, "required": required });
                    if *is_closed {
                        object["additionalProperties"] = json!(false);
                    }
                    self.schema.declared.put_member(id, variant, &mut object);
                    others.push(object);
                }
                Alternative::Internal { tag, variant, object } => {
                    let inner = *object;
                    let mut object = match &self.schema.node(inner).shape {
                        Shape::Object { properties, is_closed } => self.object(inner, properties, *is_closed),
                        _ => json!({ "type": "object", "properties": {} }),
                    };
                    object["properties"][tag] = json!({ "const": variant });
                    match &mut object["required"] {
                        Value::Array(required) => required.insert(0, json!(tag)),
                        none => *none = json!([tag]),
                    }
                    self.schema.declared.put_member(id, variant, &mut object);
                    others.push(object);
                }
                Alternative::Untagged(content) => others.push(self.write(*content)),
            }
        }
        if !strings.is_empty() {
            let mut words = json!({ "enum": strings });
            self.schema.declared.put_descriptions(id, &strings, &mut words);
            others.insert(0, words);
        }
        match others.len() {
            1 => others.remove(0),
            // A type without values.
            0 => json!(false),
            _ => json!({ "anyOf": others }),
        }
    }
}

fn integer(least: i128, greatest: i128, without_zero: bool) -> Value {
    let mut written = json!({ "type": "integer" });
    // JSON has greater numbers, but no reader of schemas takes them.
    if let Ok(least) = i64::try_from(least) {
        written["minimum"] = json!(least);
    }
    if let Ok(greatest) = u64::try_from(greatest) {
        written["maximum"] = json!(greatest);
    }
    if without_zero {
        written["not"] = json!({ "const": 0 });
    }
    written
}

/// A name in a JSON pointer within the fragment of a URI.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.replace('~', "~0").replace('/', "~1").bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => escaped.push(byte.into()),
            _ if b"-._~!$&'()*+,;=:@?".contains(&byte) => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The parts through which a cycle goes, and those with names, all or those that stand in several places, in the order in
/// which they are found.
fn find_shared(
    schema: &TypeSchema,
    id: NodeId,
    path: &mut Vec<NodeId>,
    done: &mut HashSet<NodeId>,
    all_named: bool,
    found: &mut Vec<NodeId>,
) {
    let is_cycle = path.contains(&id);
    let is_again = is_cycle || done.contains(&id);
    let is_named = schema.node(id).name.is_some();
    if (is_cycle || is_named && (is_again || all_named)) && !found.contains(&id) {
        found.push(id);
    }
    if is_again {
        return;
    }
    path.push(id);
    for (_, child) in schema.node(id).shape.children() {
        find_shared(schema, child, path, done, all_named, found);
    }
    path.pop();
    done.insert(id);
}
