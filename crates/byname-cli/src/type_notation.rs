//! A JSON Schema as people read it: [`TypeNotation`].

use byname::ServiceSchema;
use serde_json::Value;

/// Writes the schemas of a service in one line each: `{ article: u32, note?: string | null }`.
pub(crate) struct TypeNotation<'s> {
    pub(crate) schema: &'s ServiceSchema,
}

impl TypeNotation<'_> {
    pub(crate) fn of(&self, schema: &Value) -> String {
        if let Some(name) = ServiceSchema::referred_name(schema) {
            return name;
        }
        if let Some(parts) = schema["anyOf"].as_array() {
            return parts.iter().map(|part| self.of(part)).collect::<Vec<_>>().join(" | ");
        }
        if let Some(words) = schema["enum"].as_array() {
            return words.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
        }
        if let Some(word) = schema.get("const") {
            return word.to_string();
        }
        match schema["type"].as_str() {
            Some("integer") => integer(&schema["minimum"], &schema["maximum"]),
            Some("string") if schema["format"].is_string() => {
                format!("string ({})", schema["format"].as_str().unwrap_or_default())
            }
            Some("array") => match schema["prefixItems"].as_array() {
                Some(items) => format!("[{}]", items.iter().map(|item| self.of(item)).collect::<Vec<_>>().join(", ")),
                None => {
                    let item = self.of(&schema["items"]);
                    if item.contains(' ') { format!("({item})[]") } else { format!("{item}[]") }
                }
            },
            Some("object") => self.object(schema),
            Some(other) => other.to_owned(),
            None if schema == &Value::Bool(false) => "never".to_owned(),
            None => "any".to_owned(),
        }
    }

    fn object(&self, schema: &Value) -> String {
        let required = schema["required"].as_array();
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|of| of == name));
        let property = |(name, of): (&String, &Value)| {
            let mark = if is_required(name) { "" } else { "?" };
            format!("{name}{mark}: {}", self.of(of))
        };
        let mut parts: Vec<_> = schema["properties"].as_object().into_iter().flatten().map(property).collect();
        if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
            parts.push(format!("[key]: {}", self.of(values)));
        }
        if parts.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", parts.join(", ")) }
    }

    /// The definitions that a schema refers to, each once, in the order in which they are met.
    pub(crate) fn definitions(&self, schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(members) => {
                if let Some(name) = ServiceSchema::referred_name(schema)
                    && !found.contains(&name)
                {
                    found.push(name.clone());
                    if let Some(definition) = self.schema.definitions.get(&name) {
                        self.definitions(definition, found);
                    }
                }
                members.values().for_each(|member| self.definitions(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| self.definitions(item, found)),
            _ => {}
        }
    }
}

/// Whether a type in Rust's notation is `byname::Bytes`, which is text in JSON: base64.
pub(crate) fn is_bytes(ty: &str) -> bool {
    let ty = ty.strip_prefix("Option<").and_then(|ty| ty.strip_suffix('>')).unwrap_or(ty);
    ty.rsplit("::").next() == Some("Bytes")
}

/// The name of the type in Rust that has this range, or the range.
fn integer(least: &Value, greatest: &Value) -> String {
    let known = match (least.as_i64(), greatest.as_u64()) {
        (Some(0), Some(greatest)) => [u8::MAX.into(), u16::MAX.into(), u32::MAX.into(), u64::MAX]
            .iter()
            .position(|of| *of == greatest)
            .map(|at| ["u8", "u16", "u32", "u64"][at]),
        (Some(least), Some(greatest)) => [i8::MIN.into(), i16::MIN.into(), i32::MIN.into(), i64::MIN]
            .iter()
            .position(|of| *of == least && greatest == of.unsigned_abs() - 1)
            .map(|at| ["i8", "i16", "i32", "i64"][at]),
        _ => Some("integer"),
    };
    known.map_or_else(|| format!("{least}..={greatest}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_in_one_line() {
        let schema = ServiceSchema::from_json(&json!({ "version": 1, "functions": [] })).unwrap();
        let notation = TypeNotation { schema: &schema };
        let kinds = [
            (json!({ "type": "integer", "minimum": 0, "maximum": 255 }), "u8"),
            (json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }), "i64"),
            (json!({ "type": "integer", "minimum": 1, "maximum": 12 }), "1..=12"),
            (json!({ "anyOf": [{ "$ref": "#/$defs/Line" }, { "type": "null" }] }), "Line | null"),
            (json!({ "type": "array", "items": { "enum": ["a", "b"] } }), "(\"a\" | \"b\")[]"),
            (
                json!({ "type": "object", "properties": { "a": true, "b": { "type": "string" } }, "required": ["b"] }),
                "{ a?: any, b: string }",
            ),
            (json!({ "type": "object", "additionalProperties": { "type": "number" } }), "{ [key]: number }"),
            (json!({ "$ref": "#/$defs/Gr%C3%B6%C3%9Fe%3Ca~1b%3E" }), "Größe<a/b>"),
        ];
        for (schema, expected) in kinds {
            assert_eq!(notation.of(&schema), expected);
        }
    }

    #[test]
    fn bytes_are_known_by_their_type() {
        assert!(["Bytes", "byname::Bytes", "Option<byname::Bytes>"].into_iter().all(is_bytes));
        assert!(!["Vec<u8>", "MyBytes", "Vec<Bytes>"].into_iter().any(is_bytes));
    }

    #[test]
    fn a_definition_is_found_by_a_name_of_any_letters() {
        let definitions = json!({ "Größe A": { "type": "array", "items": { "$ref": "#/$defs/a~1b" } }, "a/b": true });
        let schema = ServiceSchema::from_json(&json!({ "version": 1, "functions": [], "$defs": definitions })).unwrap();
        let mut found = Vec::new();
        let reference = json!({ "$ref": "#/$defs/Gr%C3%B6%C3%9Fe%20A" });
        TypeNotation { schema: &schema }.definitions(&reference, &mut found);
        assert_eq!(found, ["Größe A", "a/b"]);
    }
}
