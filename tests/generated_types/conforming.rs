//! Values made from a schema: [`value`].

use serde_json::{Map, Value, json};

use crate::instance::{Instance as _, Random};

/// How deep values are, if the schema lets them end there.
const DEPTH: usize = 6;
/// Beyond this depth there is no value.
const MOST: usize = 24;

/// A value that conforms to the schema. `None` if none was found.
pub(crate) fn value(schema: &Value, random: &mut Random) -> Option<Value> {
    Maker { root: schema, random }.make(schema, 0)
}

struct Maker<'s, 'r> {
    root: &'s Value,
    random: &'r mut Random,
}

impl Maker<'_, '_> {
    fn make(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        if depth > MOST || *schema == json!(false) {
            return None;
        }
        if *schema == json!(true) || *schema == json!({}) {
            return Some(Value::instance(self.random));
        }
        if let Some(path) = schema["$ref"].as_str() {
            // Names of generated types have spaces, and nothing else that is escaped.
            let name = path.strip_prefix("#/$defs/")?.replace("%20", " ");
            let root = self.root;
            return self.make(&root["$defs"][name], depth + 1);
        }
        if let Some(constant) = schema.get("const") {
            return Some(constant.clone());
        }
        if let Some(constants) = schema["enum"].as_array() {
            return Some(self.random.choose(constants));
        }
        if let Some(alternatives) = schema["anyOf"].as_array() {
            let mut order: Vec<_> = alternatives.iter().collect();
            self.random.numbers.shuffle(&mut order);
            if depth > DEPTH {
                order.sort_by_key(|alternative| alternative["type"] != "null" && alternative.get("enum").is_none());
            }
            return order.into_iter().find_map(|alternative| self.make(alternative, depth + 1));
        }
        match &schema["type"] {
            Value::Array(types) => {
                let mut of_one = schema.clone();
                of_one["type"] = self.random.choose(types);
                self.make(&of_one, depth)
            }
            Value::String(name) => match name.as_str() {
                "null" => Some(Value::Null),
                "boolean" => Some(json!(self.random.numbers.bool())),
                "integer" => Some(self.integer(schema)),
                "number" => Some(self.random.choose(&[json!(0.5), json!(-2), json!(1e-300), json!(u64::MAX)])),
                "string" => Some(json!(self.string(schema))),
                "array" => self.array(schema, depth),
                "object" => self.object(schema, depth),
                other => unreachable!("no schema has the type {other}"),
            },
            _ => unreachable!("no schema looks like {schema}"),
        }
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let least = schema["minimum"].as_i64().map_or(i64::MIN.into(), i128::from);
        let greatest = schema["maximum"].as_u64().map_or(u64::MAX.into(), i128::from);
        let some = [0, 1, 2, 3, 10, 77, 100, 255, 1_001, 65_535, -1, -128, least, least + 1, greatest - 1, greatest];
        let is_zero_left_out = schema["not"]["const"] == json!(0);
        let some: Vec<_> = some
            .into_iter()
            .filter(|number| (least..=greatest).contains(number) && !(*number == 0 && is_zero_left_out))
            .collect();
        match self.random.choose(&some) {
            number @ 0.. => json!(number as u64),
            number => json!(number as i64),
        }
    }

    fn string(&mut self, schema: &Value) -> String {
        if let Some(pattern) = schema["pattern"].as_str() {
            let number = self.random.numbers.u8(..100);
            // JSON Schema can't say how great a number in a key is.
            let is_negative = pattern.starts_with("^-") && number > 0 && self.random.numbers.bool();
            return if is_negative { format!("-{number}") } else { number.to_string() };
        }
        let some: &[_] = match schema["format"].as_str() {
            Some("date-time") => &["2026-11-28T09:30:00Z"],
            Some("ipv4") => &["192.0.2.1"],
            Some(format) => unreachable!("no generated type has the format {format}"),
            None if schema["maxLength"] == json!(1) => &["a", "1", "ß"],
            None if schema.get("not").is_some() => &["", "none of the variants"],
            None => return self.random.text(),
        };
        self.random.choose(some).to_owned()
    }

    fn array(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        if let Some(items) = schema["prefixItems"].as_array() {
            let made: Option<Vec<_>> = items.iter().map(|item| self.make(item, depth + 1)).collect();
            return made.map(Value::Array);
        }
        if schema["maxItems"] == json!(0) {
            return Some(json!([]));
        }
        if let Some(length) = schema["minItems"].as_u64() {
            let made: Option<Vec<_>> = (0..length).map(|_| self.make(&schema["items"], depth + 1)).collect();
            return made.map(Value::Array);
        }
        let length = if depth > DEPTH { 0 } else { self.random.numbers.usize(..3) };
        // An element for which there is no value is left out.
        Some((0..length).filter_map(|_| self.make(&schema["items"], depth + 1)).collect())
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        let mut made = Map::new();
        let nothing = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&nothing);
        let is_in = |list: &Value, name: &str| list.as_array().is_some_and(|names| names.contains(&json!(name)));
        let conditions = schema["allOf"].as_array().map_or(&[][..], Vec::as_slice);
        // Each condition is that one of several names is there, or none.
        let groups: Vec<_> = conditions.iter().filter_map(|condition| condition["oneOf"].as_array()).collect();
        let mut in_groups = Vec::new();
        for group in groups {
            let names: Vec<_> = group.iter().filter_map(|one| one["required"][0].as_str()).collect();
            in_groups.extend(names.iter().copied());
            let may_be_absent = group.len() > names.len();
            if may_be_absent && (depth > DEPTH || self.random.numbers.bool()) {
                continue;
            }
            let name = self.random.choose(&names);
            made.insert(name.to_owned(), self.make(&properties[name], depth + 1)?);
        }
        for (name, property) in properties.iter().filter(|(name, _)| !in_groups.contains(&name.as_str())) {
            if is_in(&schema["required"], name) {
                made.insert(name.clone(), self.make(property, depth + 1)?);
            } else if depth <= DEPTH
                && self.random.numbers.bool()
                && let Some(value) = self.make(property, depth + 1)
            {
                made.insert(name.clone(), value);
            }
        }
        match &schema["additionalProperties"] {
            Value::Bool(false) => {}
            Value::Null => {
                if self.random.numbers.u8(..4) == 0 {
                    made.insert("more".to_owned(), Value::instance(self.random));
                }
            }
            others => {
                let length = if depth > DEPTH { 0 } else { self.random.numbers.usize(..3) };
                for _ in 0..length {
                    if let (Some(name), Some(value)) = (self.name(schema, depth), self.make(others, depth + 1)) {
                        made.insert(name, value);
                    }
                }
            }
        }
        Some(Value::Object(made))
    }

    fn name(&mut self, schema: &Value, depth: usize) -> Option<String> {
        let mut names = schema.get("propertyNames").cloned().unwrap_or(json!({ "type": "string" }));
        if names.get("pattern").is_some() {
            names["type"] = json!("string");
        }
        match self.make(&names, depth + 1)? {
            Value::String(name) => Some(name),
            _ => None,
        }
    }
}
