//! What a JSON Schema accepts, as alternatives that can be compared: [`Schemas`], [`Alternative`].
//!
//! It reads what this crate writes. Other words of JSON Schema are not understood, and such a schema accepts anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use crate::declared::{ANNOTATIONS, DECLARED, is_unknown};
use crate::references::referred_name;

/// How deep samples and checks of values go.
const DEEPEST: usize = 64;

/// How deep a sample is at most.
const SAMPLE: usize = 40;

/// The most parts of a sample. A type can need more: one whose parts need other parts several times each.
const PARTS: usize = 1_000;

/// What a sample has so far.
struct SampleSearch {
    /// How many more parts it may have.
    parts: usize,
    /// The schemas that the part stands in. A small value of a type has no other value of it inside.
    path: Vec<*const Value>,
}

impl Default for SampleSearch {
    fn default() -> Self {
        Self { parts: PARTS, path: Vec::new() }
    }
}

/// The definitions of one document.
#[derive(Clone, Copy)]
pub(super) struct Schemas<'s> {
    pub(super) definitions: &'s BTreeMap<String, Value>,
}

/// One kind of value that a schema accepts.
#[derive(Clone, Debug)]
pub(super) enum Alternative<'s> {
    Any,
    /// A value of which nothing is known.
    Unknown,
    Null,
    Bool,
    Integer {
        least: Option<i128>,
        greatest: Option<i128>,
        without_zero: bool,
    },
    Number,
    Text(Text<'s>),
    Array(Array<'s>),
    Object(Object<'s>),
}

#[derive(Clone, Debug)]
pub(super) enum Text<'s> {
    Any,
    /// One of these.
    Words(Vec<&'s str>),
    /// A string of one character.
    Char,
    /// A guess, from one string that the type has accepted.
    Format(&'s str),
    /// A text that is none of these words.
    Except(Vec<&'s str>),
    /// Whole numbers as the keys of a map.
    Numeral {
        signed: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Array<'s> {
    pub(super) first: Vec<&'s Value>,
    /// The items behind the first ones. `None` if there may be none.
    pub(super) rest: Option<&'s Value>,
    pub(super) least: usize,
    pub(super) greatest: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Object<'s> {
    pub(super) properties: BTreeMap<&'s str, &'s Value>,
    pub(super) required: BTreeSet<&'s str>,
    /// Names of one property. The first one is written.
    pub(super) aliases: Vec<Aliases<'s>>,
    pub(super) others: Others<'s>,
}

#[derive(Clone, Debug)]
pub(super) struct Aliases<'s> {
    pub(super) names: Vec<&'s str>,
    pub(super) is_required: bool,
}

/// The properties of an object that are not listed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Others<'s> {
    /// They are read and ignored.
    Ignored,
    Refused,
    /// Those of a map.
    Entries {
        names: Option<&'s Value>,
        values: &'s Value,
    },
}

impl<'s> Schemas<'s> {
    /// The schema that a reference stands for.
    pub(super) fn resolved(self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        for _ in 0..DEEPEST {
            let Some(name) = referred_name(schema) else {
                return schema;
            };
            match self.definitions.get(&name) {
                Some(found) => schema = found,
                None => return &Value::Bool(true),
            }
        }
        schema
    }

    pub(super) fn alternatives(self, schema: &'s Value) -> Vec<Alternative<'s>> {
        let mut found = Vec::new();
        self.collect(schema, &mut HashMap::new(), &mut found);
        found
    }

    /// `met` has the schemas that were met, by their addresses, and whether all of their alternatives are found. A schema that is
    /// an alternative of itself means nothing, and accepts anything.
    fn collect(self, schema: &'s Value, met: &mut HashMap<*const Value, bool>, found: &mut Vec<Alternative<'s>>) {
        let schema = self.resolved(schema);
        match met.insert(schema, false) {
            None => {}
            Some(true) => {
                met.insert(schema, true);
                return;
            }
            Some(false) => return found.push(Alternative::Unknown),
        }
        self.collect_parts(schema, met, found);
        met.insert(schema, true);
    }

    fn collect_parts(self, schema: &'s Value, met: &mut HashMap<*const Value, bool>, found: &mut Vec<Alternative<'s>>) {
        if is_unknown(schema) {
            return found.push(Alternative::Unknown);
        }
        match schema {
            Value::Bool(false) => return,
            Value::Object(_) => {}
            _ => return found.push(Alternative::Unknown),
        }
        if let Some(parts) = schema.get("anyOf").and_then(Value::as_array) {
            return parts.iter().for_each(|part| self.collect(part, met, found));
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            let words: Option<Vec<_>> = words.iter().map(Value::as_str).collect();
            return found.push(words.map_or(Alternative::Unknown, |words| Alternative::Text(Text::Words(words))));
        }
        if let Some(word) = schema.get("const") {
            let word = word.as_str().map(|word| Alternative::Text(Text::Words(vec![word])));
            return found.push(word.unwrap_or(Alternative::Unknown));
        }
        let types: Vec<_> = match schema.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            // The keys of a map.
            None if schema.get("pattern").is_some() => vec!["string"],
            _ if says_nothing(schema) => return found.push(Alternative::Any),
            _ => return found.push(Alternative::Unknown),
        };
        found.extend(types.into_iter().map(|name| alternative(name, schema)));
    }

    /// A small value that the schema accepts. `None` if there is none, or none of a usual size.
    pub(super) fn sample(self, schema: &'s Value) -> Option<Value> {
        self.sample_within(schema, &mut SampleSearch::default())
    }

    /// As [`sample`](Self::sample), of one alternative.
    pub(super) fn sample_of(self, alternative: &Alternative<'s>) -> Option<Value> {
        self.sample_of_within(alternative, &mut SampleSearch::default())
    }

    /// An object with the required properties.
    pub(super) fn least_object(self, object: &Object<'s>) -> Option<Map<String, Value>> {
        self.least_object_within(object, &mut SampleSearch::default())
    }

    /// Whether there is a value of an alternative, of whatever size.
    pub(super) fn has_value(self, alternative: &Alternative<'s>) -> bool {
        self.has_value_of(alternative, &mut HashMap::new())
    }

    /// `known` has the schemas that were met, and `false` while they are looked at: a value that contains itself is none.
    fn has_value_in(self, schema: &'s Value, known: &mut HashMap<*const Value, bool>) -> bool {
        let schema = self.resolved(schema);
        if let Some(known) = known.get(&std::ptr::from_ref(schema)) {
            return *known;
        }
        known.insert(schema, false);
        let found = self.alternatives(schema).iter().any(|one| self.has_value_of(one, known));
        known.insert(schema, found);
        found
    }

    fn has_value_of(self, alternative: &Alternative<'s>, known: &mut HashMap<*const Value, bool>) -> bool {
        match alternative {
            Alternative::Array(array) => {
                (0..array.least).all(|at| array.item(at).is_some_and(|item| self.has_value_in(item, known)))
            }
            Alternative::Object(object) => object
                .needed()
                .iter()
                .all(|name| object.properties.get(name).is_some_and(|property| self.has_value_in(property, known))),
            Alternative::Text(text) => text.sample().is_some(),
            Alternative::Any
            | Alternative::Unknown
            | Alternative::Null
            | Alternative::Bool
            | Alternative::Integer { .. }
            | Alternative::Number => true,
        }
    }

    fn sample_within(self, schema: &'s Value, search: &mut SampleSearch) -> Option<Value> {
        let schema = self.resolved(schema);
        if search.path.len() >= SAMPLE || search.path.contains(&std::ptr::from_ref(schema)) {
            return None;
        }
        search.parts = search.parts.checked_sub(1)?;
        let mut alternatives = self.alternatives(schema);
        // An optional value says more if it is there.
        alternatives.sort_by_key(|one| matches!(one, Alternative::Null));
        search.path.push(schema);
        let found = alternatives.iter().find_map(|one| self.sample_of_within(one, search));
        search.path.pop();
        found
    }

    fn sample_of_within(self, alternative: &Alternative<'s>, search: &mut SampleSearch) -> Option<Value> {
        Some(match alternative {
            Alternative::Any => json!({ "any": "value" }),
            Alternative::Unknown => json!("…"),
            Alternative::Null => Value::Null,
            Alternative::Bool => json!(true),
            Alternative::Integer { least, greatest, without_zero } => {
                let from_zero = if *without_zero { 1 } else { 0 };
                let number = from_zero.max(least.unwrap_or(from_zero)).min(greatest.unwrap_or(i128::MAX));
                number_value(number)
            }
            Alternative::Number => json!(0.5),
            Alternative::Text(text) => json!(text.sample()?),
            Alternative::Array(array) => {
                let length = array.least.max(usize::from(array.greatest != Some(0)));
                let item = |at| self.sample_within(array.item(at)?, search);
                match (0..length).map(item).collect::<Option<Vec<_>>>() {
                    Some(items) => Value::Array(items),
                    None if array.least == 0 => json!([]),
                    None => return None,
                }
            }
            Alternative::Object(object) => Value::Object(self.least_object_within(object, search)?),
        })
    }

    fn least_object_within(self, object: &Object<'s>, search: &mut SampleSearch) -> Option<Map<String, Value>> {
        let of = |name: &&'s str| {
            let sample = self.sample_within(object.properties.get(*name)?, search)?;
            Some(((*name).to_owned(), sample))
        };
        object.needed().iter().map(of).collect()
    }

    /// Whether the schema accepts the value.
    pub(super) fn accept(self, schema: &'s Value, value: &Value) -> bool {
        self.accept_within(schema, value, DEEPEST)
    }

    fn accept_within(self, schema: &'s Value, value: &Value, room: usize) -> bool {
        let Some(room) = room.checked_sub(1) else {
            return true;
        };
        self.accept_by_one(&self.alternatives(schema), value, room)
    }

    /// Whether one of the alternatives accepts the value.
    pub(super) fn accept_by_one_of(self, alternatives: &[Alternative<'s>], value: &Value) -> bool {
        self.accept_by_one(alternatives, value, DEEPEST)
    }

    fn accept_by_one(self, alternatives: &[Alternative<'s>], value: &Value, room: usize) -> bool {
        alternatives.iter().any(|one| match (one, value) {
            (Alternative::Any | Alternative::Unknown, _)
            | (Alternative::Null, Value::Null)
            | (Alternative::Bool, Value::Bool(_)) => true,
            (Alternative::Number, Value::Number(_)) => true,
            (Alternative::Integer { least, greatest, without_zero }, Value::Number(number)) => whole(number)
                .is_some_and(|number| {
                    least.is_none_or(|least| least <= number)
                        && greatest.is_none_or(|greatest| number <= greatest)
                        && !(*without_zero && number == 0)
                }),
            (Alternative::Text(kind), Value::String(text)) => kind.accepts(text),
            (Alternative::Array(array), Value::Array(items)) => {
                array.least <= items.len()
                    && array.greatest.is_none_or(|greatest| items.len() <= greatest)
                    && items
                        .iter()
                        .enumerate()
                        .all(|(at, item)| array.item(at).is_some_and(|schema| self.accept_within(schema, item, room)))
            }
            (Alternative::Object(object), Value::Object(members)) => self.accept_object(object, members, room),
            _ => false,
        })
    }

    fn accept_object(self, object: &Object<'s>, members: &Map<String, Value>, room: usize) -> bool {
        let has_needed = object.required.iter().all(|name| members.contains_key(*name))
            && object.aliases.iter().all(|of| {
                let given = of.names.iter().filter(|name| members.contains_key(**name)).count();
                given == 1 || given == 0 && !of.is_required
            });
        has_needed
            && members.iter().all(|(name, value)| match (object.properties.get(name.as_str()), object.others) {
                (Some(schema), _) => self.accept_within(schema, value, room),
                (None, Others::Ignored) => true,
                (None, Others::Refused) => false,
                (None, Others::Entries { names, values }) => {
                    names.is_none_or(|names| self.accept_within(names, &json!(name), room))
                        && self.accept_within(values, value, room)
                }
            })
    }
}

impl<'s> Array<'s> {
    pub(super) fn item(&self, at: usize) -> Option<&'s Value> {
        self.first.get(at).copied().or(self.rest)
    }
}

impl<'s> Object<'s> {
    /// The properties without which an object is refused, by the names that are written.
    pub(super) fn needed(&self) -> BTreeSet<&'s str> {
        let aliased = self.aliases.iter().filter(|of| of.is_required).map(|of| of.names[0]);
        self.required.iter().copied().chain(aliased).collect()
    }

    /// Whether it is another name of a property, which is read and never written.
    pub(super) fn is_alias(&self, name: &str) -> bool {
        self.aliases.iter().any(|of| of.names[1..].contains(&name))
    }

    /// The word that a property must have, by which variants are told apart.
    pub(super) fn tag(&self, name: &str) -> Option<&'s str> {
        self.properties.get(name)?.get("const")?.as_str()
    }

    /// Whether it is the variant for unknown ones.
    pub(super) fn is_other(&self) -> bool {
        self.properties.values().any(|schema| excepted(schema).is_some())
    }

    /// Whether it is the variant for unknown ones, and this one is known.
    pub(super) fn is_other_than(&self, known: &Object<'_>) -> bool {
        self.properties.iter().any(|(name, schema)| {
            let words = excepted(schema).unwrap_or_default();
            known.tag(name).is_some_and(|tag| words.contains(&tag))
        })
    }

    /// The tags, and the name of the only property of a variant with a content.
    pub(super) fn variant(&self) -> Option<&'s str> {
        let tag = self.properties.keys().find_map(|name| self.tag(name));
        let keyed = || match (&self.required.iter().collect::<Vec<_>>()[..], self.others) {
            ([only], Others::Refused) if self.properties.len() == 1 => Some(**only),
            _ => None,
        };
        tag.or_else(keyed)
    }
}

impl Text<'_> {
    pub(super) fn sample(&self) -> Option<String> {
        Some(match self {
            Self::Any => "text".to_owned(),
            Self::Words(words) => (*words.first()?).to_owned(),
            Self::Char => "a".to_owned(),
            Self::Except(words) => other_than(words),
            Self::Numeral { signed: true } => "-1".to_owned(),
            Self::Numeral { signed: false } => "1".to_owned(),
            Self::Format(format) => match *format {
                "uuid" => "67e55044-10b1-426f-9247-bb680e5fe0c8",
                "date-time" => "2026-01-31T12:00:00Z",
                "date" => "2026-01-31",
                "time" => "12:00:00Z",
                "uri" => "https://example.com/",
                "ipv4" => "192.0.2.1",
                "ipv6" => "2001:db8::1",
                "email" => "ada@example.com",
                _ => return None,
            }
            .to_owned(),
        })
    }

    fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Words(words) => words.contains(&text),
            Self::Char => text.chars().count() == 1,
            Self::Except(words) => !words.contains(&text),
            // Only its sample is known to be one.
            Self::Format(_) => self.sample().as_deref() == Some(text),
            Self::Numeral { signed } => {
                let digits = if *signed { text.strip_prefix('-').unwrap_or(text) } else { text };
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            }
        }
    }
}

fn alternative<'s>(name: &str, schema: &'s Value) -> Alternative<'s> {
    let bound = |name: &str| schema.get(name).and_then(|bound| bound.as_number()?.as_i128());
    let length = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok());
    match name {
        "null" => Alternative::Null,
        "boolean" => Alternative::Bool,
        "integer" => Alternative::Integer {
            least: bound("minimum"),
            greatest: bound("maximum"),
            without_zero: schema.get("not").is_some(),
        },
        "number" => Alternative::Number,
        "string" => Alternative::Text(match (schema.get("format"), schema.get("pattern").and_then(Value::as_str)) {
            (Some(Value::String(format)), _) => Text::Format(format),
            (_, Some("^[0-9]+$")) => Text::Numeral { signed: false },
            (_, Some("^-?[0-9]+$")) => Text::Numeral { signed: true },
            _ if length("maxLength") == Some(1) => Text::Char,
            _ if let Some(words) = excepted(schema) => Text::Except(words),
            _ => Text::Any,
        }),
        "array" => {
            let first: Vec<_> = schema.get("prefixItems").and_then(Value::as_array).into_iter().flatten().collect();
            let rest = match schema.get("items") {
                None => Some(&Value::Bool(true)),
                Some(Value::Bool(false)) => None,
                items => items,
            };
            let greatest = if rest.is_none() { Some(first.len()) } else { length("maxItems") };
            Alternative::Array(Array { first, rest, least: length("minItems").unwrap_or(0), greatest })
        }
        "object" => Alternative::Object(object(schema)),
        _ => Alternative::Unknown,
    }
}

/// The words that a string may not be: those of the variants that are known.
fn excepted(schema: &Value) -> Option<Vec<&str>> {
    schema.get("not")?.get("enum")?.as_array()?.iter().map(Value::as_str).collect()
}

/// A text that is none of these words.
pub(super) fn other_than(words: &[&str]) -> String {
    let mut other = "text".to_owned();
    while words.contains(&other.as_str()) {
        other.push('x');
    }
    other
}

fn object(schema: &Value) -> Object<'_> {
    let members = |name: &str| schema.get(name).and_then(Value::as_object).into_iter().flatten();
    let list = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    let others = match schema.get("additionalProperties") {
        None => Others::Ignored,
        Some(Value::Bool(false)) => Others::Refused,
        Some(values) => Others::Entries { names: schema.get("propertyNames"), values },
    };
    Object {
        properties: members("properties").map(|(name, schema)| (name.as_str(), schema)).collect(),
        required: list("required").filter_map(Value::as_str).collect(),
        aliases: list("allOf").filter_map(aliases).collect(),
        others,
    }
}

/// `{"oneOf": [{"required": ["name"]}, {"required": ["alias"]}]}`, with a third part if none of them is needed.
fn aliases(condition: &Value) -> Option<Aliases<'_>> {
    let parts = condition.get("oneOf")?.as_array()?;
    let names: Vec<_> = parts.iter().filter_map(|part| part.get("required")?.get(0)?.as_str()).collect();
    let is_required = names.len() == parts.len();
    (!names.is_empty()).then_some(Aliases { names, is_required })
}

/// Whether a schema has no words that a value could disagree with.
fn says_nothing(schema: &Value) -> bool {
    let is_ignored = |word: &String| word == DECLARED || ANNOTATIONS.contains(&word.as_str());
    schema.as_object().is_some_and(|words| words.keys().all(is_ignored))
}

/// A whole number, also one that is wider than 64 bits.
fn whole(number: &serde_json::Number) -> Option<i128> {
    let is_wide = |float: &f64| float.fract() == 0.0 && (2_f64.powi(63)..2_f64.powi(126)).contains(&float.abs());
    let float = || number.as_f64().filter(is_wide);
    number.as_i128().or_else(|| float().map(|float| float as i128))
}

/// A number as JSON, also one that is wider than 64 bits.
pub(super) fn number_value(number: i128) -> Value {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => json!(number),
        (_, Ok(number)) => json!(number),
        _ => serde_json::from_str(&number.to_string()).unwrap_or(Value::Null),
    }
}
