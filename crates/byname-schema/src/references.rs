//! What documents of other formats need: references to another place, a title, a version.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};
use sha1_smol::Sha1;

use crate::service_schema::{ArgumentSchema, ServiceSchema};

/// The same document, whose references to `#/$defs/` go to this place.
pub(crate) fn moved_references(document: Value, to: &str) -> Value {
    match document {
        Value::Object(members) => {
            let moved = members.into_iter().map(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    let moved = reference.strip_prefix("#/$defs/").map(|name| format!("{to}{name}"));
                    (key, Value::String(moved.unwrap_or(reference)))
                }
                // These are values of the service.
                ("const" | "enum" | "default", value) => (key, value),
                (_, value) => (key, moved_references(value, to)),
            });
            Value::Object(moved.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| moved_references(item, to)).collect()),
        other => other,
    }
}

/// The version of a document that has no number: it differs where the documents differ.
pub(crate) struct DocumentVersion(String);

impl DocumentVersion {
    pub(crate) fn of(schema: &ServiceSchema) -> Self {
        Self(Sha1::from(schema.to_json().to_string()).digest().to_string()[..12].to_owned())
    }
}

impl fmt::Display for DocumentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ServiceSchema {
    /// The packages that have the functions.
    pub(crate) fn title(&self) -> String {
        let packages: BTreeSet<_> = self.functions.iter().map(|function| function.package.as_str()).collect();
        let packages: Vec<_> = packages.into_iter().filter(|package| !package.is_empty()).collect();
        if packages.is_empty() { "a service".to_owned() } else { packages.join(", ") }
    }
}

impl ArgumentSchema {
    pub(crate) fn schema_with_default(&self) -> Value {
        let mut schema = self.schema.clone();
        if let Some(default) = &self.default {
            match &mut schema {
                Value::Object(members) => drop(members.insert("default".to_owned(), default.clone())),
                other => *other = json!({ "default": default }),
            }
        }
        schema
    }
}
