//! What documents of other formats need: references to another place, schemas that are objects, a title, a version.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use serde_json::{Value, json};
use sha1_smol::Sha1;

use crate::declared::{DECLARED, ORDER, UNKNOWN};
use crate::service_schema::{ArgumentSchema, ServiceSchema};

impl ServiceSchema {
    /// The same service, whose schemas refer to components at this place in place of `#/$defs/`. The definitions have the names that
    /// components may have. All schemas are objects, because many generators do not read `true` and `false`.
    pub(crate) fn with_components_at(&self, place: &str) -> Self {
        let moved = MovedDefinitions { place, names: self.component_names() };
        let mut service = self.clone();
        service.change_schemas(&mut |schema| moved.change(schema));
        service.definitions = std::mem::take(&mut service.definitions)
            .into_iter()
            .map(|(name, schema)| (moved.name(name), schema))
            .collect();
        service
    }

    /// The names of definitions that components may not have, with those that they get. OpenAPI and OpenRPC take ASCII letters,
    /// digits, `.`, `-` and `_`; a type can have any letters.
    fn component_names(&self) -> HashMap<String, String> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
        let (plain, others): (Vec<_>, Vec<_>) =
            self.definitions.keys().partition(|name| !name.is_empty() && name.chars().all(is_plain));
        let mut taken: HashSet<String> = plain.into_iter().cloned().collect();
        let mut names = HashMap::new();
        for name in others {
            let mut component = name.replace(|letter| !is_plain(letter), "_");
            while component.is_empty() || !taken.insert(component.clone()) {
                component.push('_');
            }
            names.insert(name.clone(), component);
        }
        names
    }
}

/// Where definitions are in another document.
struct MovedDefinitions<'m> {
    place: &'m str,
    /// Of those that have another name there.
    names: HashMap<String, String>,
}

impl MovedDefinitions<'_> {
    fn name(&self, name: String) -> String {
        self.names.get(&name).cloned().unwrap_or(name)
    }

    /// Changes a schema, but not those in it.
    fn change(&self, schema: &mut Value) {
        if let Some(name) = referred_name(schema) {
            schema["$ref"] = json!(format!("{}{}", self.place, self.name(name)));
        }
        let members = match schema {
            Value::Bool(true) => return *schema = json!({}),
            Value::Bool(false) => return *schema = json!({ "not": {} }),
            Value::Object(members) => members,
            _ => return,
        };
        if members.get("items") == Some(&Value::Bool(false)) {
            let first = members.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            members.remove("items");
            members.insert("maxItems".to_owned(), json!(first));
        }
        members.remove(UNKNOWN);
        members.remove(ORDER);
        if let Some(Value::Object(declared)) = members.remove(DECLARED) {
            members.extend(declared);
        }
    }
}

/// The name of the definition that a schema refers to: of `#/$defs/Size%20A`, `Size A`. It is the other direction of how references are
/// written: a name in a JSON pointer within the fragment of a URI.
pub(crate) fn referred_name(schema: &Value) -> Option<String> {
    let written = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
    let mut bytes = Vec::new();
    let mut rest = written.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        bytes.push(escaped.map_or(*first, |(high, low)| high << 4 | low));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    Some(String::from_utf8_lossy(&bytes).replace("~1", "/").replace("~0", "~"))
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The version of a document that has no number: it differs where what clients rely on differs.
pub(crate) struct DocumentVersion(String);

impl DocumentVersion {
    pub(crate) fn of(schema: &ServiceSchema) -> Self {
        Self(Sha1::from(schema.to_lock()).digest().to_string()[..12].to_owned())
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
