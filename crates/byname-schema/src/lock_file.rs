//! The schema of a service in a file that is committed and reviewed: [`ServiceSchema::to_lock`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::declared::{ANNOTATIONS, DECLARED, VARIANTS};
use crate::service_schema::{DocumentMember, SchemaDocumentError, ServiceSchema};

/// The longest line, if it can be broken.
const WIDTH: usize = 120;

impl ServiceSchema {
    /// What clients rely on, as the content of a lock file: JSON, with functions in the order of their names. What is only
    /// for people is left out.
    pub fn to_lock(&self) -> String {
        let mut locked = self.clone();
        locked.functions.sort_by(|a, b| a.name.cmp(&b.name));
        locked.open.sort();
        locked.change_schemas(&mut |schema| {
            if let Value::Object(words) = schema {
                let is_declared = |word: &str| [DECLARED, VARIANTS].contains(&word) || ANNOTATIONS.contains(&word);
                words.retain(|word, _| !is_declared(word));
            }
        });
        let mut document = locked.to_json();
        for function in document["functions"].as_array_mut().into_iter().flatten() {
            if let Some(members) = function.as_object_mut() {
                members.retain(|name, _| !FOR_PEOPLE.contains(&name.as_str()));
            }
        }
        let mut text = String::new();
        write_value(&document, 0, 0, &mut text);
        text.push('\n');
        text
    }

    /// Reads a lock file, or a document as a server has it.
    ///
    /// # Errors
    ///
    /// It is not JSON, or not the schema of a service, or a server made it without schemas. A type that JSON Schema does not have, and a
    /// reference to a definition that is not there, would be read as any value, so they are errors too.
    pub fn from_text(text: &str) -> Result<Self, SchemaDocumentError> {
        let document: Value = serde_json::from_str(without_mark(text))
            .map_err(|why| SchemaDocumentError::new(format!("it is not JSON: {why}")))?;
        let schema = Self::from_json(&document)?;
        match &schema.note {
            Some(note) => Err(SchemaDocumentError::new(format!("it has no schemas: {note}"))),
            None => {
                let document = DocumentMember::whole(&document);
                SchemaCheck { service: &schema }.document(&document)?;
                Ok(schema)
            }
        }
    }
}

/// Checks that each schema of a document says what it seems to say.
struct SchemaCheck<'s> {
    service: &'s ServiceSchema,
}

/// The types of JSON Schema.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

impl SchemaCheck<'_> {
    fn document(&self, document: &DocumentMember<'_>) -> Result<(), SchemaDocumentError> {
        for function in document.list("functions")? {
            let arguments = function.list("arguments")?;
            let others = ["takes", "returns", "error"].into_iter().filter_map(|name| function.optional_member(name));
            for schema in arguments.into_iter().chain(others).filter_map(|of| of.optional_member("schema")) {
                self.schema(&schema)?;
            }
        }
        document.optional_member("$defs").map_or(Ok(()), |of| self.members(&of))
    }

    fn schema(&self, schema: &DocumentMember<'_>) -> Result<(), SchemaDocumentError> {
        if schema.value.is_boolean() {
            return Ok(());
        }
        if !schema.value.is_object() {
            return Err(schema.wrong("expected a schema: an object, `true` or `false`"));
        }
        if let Some(reference) = schema.optional_member("$ref") {
            let is_there = |name: &String| self.service.definitions.contains_key(name);
            if !ServiceSchema::referred_name(schema.value).is_some_and(|name| is_there(&name)) {
                let why = format!(
                    "{} names no member of `$defs`; add the definition, or write the file again",
                    reference.value
                );
                return Err(reference.wrong(&why));
            }
        }
        if let Some(of) = schema.optional_member("type") {
            let types = of.value.as_array().map_or(std::slice::from_ref(of.value), Vec::as_slice);
            if let Some(unknown) = types.iter().find(|ty| !ty.as_str().is_some_and(|ty| TYPES.contains(&ty))) {
                return Err(
                    of.wrong(&format!("{unknown} is not a type of JSON Schema; expected one of {}", TYPES.join(", ")))
                );
            }
        }
        for name in ["properties", "patternProperties", "dependentSchemas"] {
            schema.optional_member(name).map_or(Ok(()), |of| self.members(&of))?;
        }
        for name in ["anyOf", "oneOf", "allOf", "prefixItems"] {
            if schema.optional_member(name).is_some() {
                schema.list(name)?.iter().try_for_each(|of| self.schema(of))?;
            }
        }
        let inner = ["items", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else"];
        inner.into_iter().filter_map(|name| schema.optional_member(name)).try_for_each(|of| self.schema(&of))
    }

    /// Schemas by name.
    fn members(&self, of: &DocumentMember<'_>) -> Result<(), SchemaDocumentError> {
        let Some(members) = of.value.as_object() else {
            return Err(of.wrong("expected an object"));
        };
        members.keys().filter_map(|name| of.optional_member(name)).try_for_each(|schema| self.schema(&schema))
    }
}

/// The text without the byte order mark that some editors put before it.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Members of a function that change nothing for a program.
const FOR_PEOPLE: [&str; 6] = ["deprecated", "doc", "fingerprint", "priority", "signature", "source"];

/// Writes a value in one line if it fits, otherwise with a line for each part.
fn write_value(value: &Value, indent: usize, behind: usize, text: &mut String) {
    let in_line = in_one_line(value);
    if indent + behind + in_line.chars().count() < WIDTH {
        text.push_str(&in_line);
        return;
    }
    let inner = " ".repeat(indent + 2);
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push_str("{\n");
            for (at, (name, member)) in sorted(members).into_iter().enumerate() {
                let name = format!("{}: ", Value::from(name.as_str()));
                let _ = write!(text, "{inner}{name}");
                write_value(member, indent + 2, name.chars().count(), text);
                text.push_str(if at + 1 < members.len() { ",\n" } else { "\n" });
            }
            let _ = write!(text, "{}}}", " ".repeat(indent));
        }
        Value::Array(items) if !items.is_empty() => {
            text.push_str("[\n");
            for (at, item) in items.iter().enumerate() {
                text.push_str(&inner);
                write_value(item, indent + 2, 0, text);
                text.push_str(if at + 1 < items.len() { ",\n" } else { "\n" });
            }
            let _ = write!(text, "{}]", " ".repeat(indent));
        }
        _ => text.push_str(&in_line),
    }
}

/// The order must not depend on the feature `preserve_order` of serde_json, which another crate of the program may turn on.
fn sorted(members: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    members.iter().collect()
}

fn in_one_line(value: &Value) -> String {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let members = sorted(members)
                .into_iter()
                .map(|(name, member)| format!("{}: {}", Value::from(name.as_str()), in_one_line(member)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(in_one_line).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
