//! Whether a reader accepts all that a writer sends: [`mismatches`].

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::alternatives::{Alternative, Array, Object, Others, Schemas, Text, number_value, other_than};

/// A place in which a reader refuses what a writer sends.
#[derive(Clone, Debug)]
pub(super) struct Mismatch {
    pub(super) rule: &'static str,
    /// `lines[].quantity`, from the schemas that were compared.
    pub(super) path: String,
    /// What the reader refuses.
    pub(super) why: String,
    /// A whole value that the writer may send and the reader refuses. `None` if it is too large to be shown.
    pub(super) witness: Option<Value>,
}

/// The places in which `reader` refuses what `writer` sends. Both are schemas with their documents.
pub(super) fn mismatches(writer: (Schemas<'_>, &Value), reader: (Schemas<'_>, &Value)) -> Vec<Mismatch> {
    let mut comparison = Comparison { writer: writer.0, reader: reader.0, known: HashMap::new() };
    let found = comparison.compare(writer.1, reader.1);
    // What is not shown by its witness is not claimed.
    let is_shown = |witness: &Value| writer.0.accept(writer.1, witness) && !reader.0.accept(reader.1, witness);
    found.into_iter().filter(|found| found.witness.as_ref().is_none_or(is_shown)).collect()
}

/// The most mismatches of one pair of types. The same types can stand in many places of each other.
const MOST: usize = 32;

struct Comparison<'w, 'r> {
    writer: Schemas<'w>,
    reader: Schemas<'r>,
    /// What was found for a pair, by the addresses. `None` while it is compared: a type that contains itself meets it again.
    known: HashMap<(*const Value, *const Value), Option<Vec<Mismatch>>>,
}

impl<'w, 'r> Comparison<'w, 'r> {
    fn compare(&mut self, writer: &'w Value, reader: &'r Value) -> Vec<Mismatch> {
        let (writer, reader) = (self.writer.resolved(writer), self.reader.resolved(reader));
        let pair: (*const Value, *const Value) = (writer, reader);
        if let Some(known) = self.known.get(&pair) {
            return known.clone().unwrap_or_default();
        }
        self.known.insert(pair, None);
        let readers = self.reader.alternatives(reader);
        let mut found = Vec::new();
        let writers = self.writer.alternatives(writer);
        // A struct with one field looks like a variant, but is the only shape.
        let is_only = writers.len() == 1 && readers.len() == 1;
        for sent in writers {
            found.extend(self.sent(&sent, &readers, is_only));
        }
        found.truncate(MOST);
        self.known.insert(pair, Some(found.clone()));
        found
    }

    /// One alternative of the writer, which one of the reader has to accept.
    fn sent(&mut self, sent: &Alternative<'w>, readers: &[Alternative<'r>], is_only: bool) -> Vec<Mismatch> {
        if let Alternative::Text(Text::Words(words)) = sent
            && words.len() > 1
        {
            let each = words.iter().map(|word| Alternative::Text(Text::Words(vec![*word])));
            return each.flat_map(|word| self.sent(&word, readers, is_only)).collect();
        }
        // What is not known is not compared, and the variant for unknown ones is hardly sent.
        match sent {
            Alternative::Unknown => return Vec::new(),
            Alternative::Object(object) if object.is_other() => return Vec::new(),
            _ => {}
        }
        let mut nearest: Option<Vec<Mismatch>> = None;
        for taken in readers {
            let Some(found) = self.included(sent, taken, is_only) else {
                continue;
            };
            if found.is_empty() {
                return found;
            }
            // Of two variants the one that differs least was meant.
            if nearest.as_ref().is_none_or(|nearest| found.len() < nearest.len()) {
                nearest = Some(found);
            }
        }
        nearest.unwrap_or_else(|| self.refused(sent, readers))
    }

    /// No alternative of the reader is of its kind.
    fn refused(&self, sent: &Alternative<'w>, readers: &[Alternative<'r>]) -> Vec<Mismatch> {
        let mut samples: Vec<_> = self.writer.sample_of(sent).into_iter().collect();
        let is_too_large = samples.is_empty() && self.writer.has_value(sent);
        match sent {
            Alternative::Any => {
                samples.extend([json!(null), json!(true), json!(-0.5), json!("any text"), json!([null])])
            }
            Alternative::Text(Text::Char) => samples.extend(('!'..'~').map(|letter| json!(letter))),
            Alternative::Text(Text::Numeral { .. }) => samples.extend((0..100).map(|number| json!(number.to_string()))),
            _ => {}
        }
        let witness = samples.into_iter().find(|sample| !self.reader.accept_by_one_of(readers, sample));
        if witness.is_none() && !is_too_large {
            return Vec::new();
        }
        let variant = match sent {
            Alternative::Text(Text::Words(words)) => words.first().copied(),
            Alternative::Object(object) => object.variant(),
            _ => None,
        };
        let is_enum = readers.iter().any(|one| match one {
            Alternative::Text(Text::Words(_)) => true,
            Alternative::Object(object) => object.variant().is_some(),
            _ => false,
        });
        let (rule, why) = match (variant, sent) {
            (Some(variant), _) if is_enum => ("variant-unknown", format!("the variant `{variant}` is not known")),
            (_, Alternative::Null) if !readers.is_empty() => ("null-refused", "`null` is refused".to_owned()),
            _ => {
                let expected: Vec<_> = readers.iter().map(kind).collect();
                let expected = if expected.is_empty() { "nothing".to_owned() } else { expected.join(" or ") };
                ("type-differs", format!("{} is sent, and {expected} is expected", kind(sent)))
            }
        };
        vec![Mismatch { rule, path: String::new(), why, witness }]
    }

    /// The mismatches of two alternatives of one kind. `None` if they are of two kinds.
    fn included(&mut self, sent: &Alternative<'w>, taken: &Alternative<'r>, is_only: bool) -> Option<Vec<Mismatch>> {
        let one = |rule, why: String, witness: Value| Some(vec![mismatch(rule, why, Some(witness))]);
        match (sent, taken) {
            (_, Alternative::Any | Alternative::Unknown)
            | (Alternative::Null, Alternative::Null)
            | (Alternative::Bool, Alternative::Bool)
            | (Alternative::Integer { .. } | Alternative::Number, Alternative::Number) => Some(Vec::new()),
            (Alternative::Number, Alternative::Integer { .. }) => {
                one("type-differs", "a number is sent, and a whole number is expected".to_owned(), json!(0.5))
            }
            (
                Alternative::Integer { least, greatest, without_zero },
                Alternative::Integer { least: lower, greatest: upper, without_zero: refuses_zero },
            ) => {
                let lower = lower.filter(|lower| least.is_none_or(|least| least < *lower));
                let upper = upper.filter(|upper| greatest.is_none_or(|greatest| greatest > *upper));
                let has_zero = least.is_none_or(|least| least <= 0) && greatest.is_none_or(|greatest| greatest >= 0);
                let refuses_zero = *refuses_zero && !without_zero && has_zero;
                let witness = match (lower, upper) {
                    (Some(lower), _) => number_value(least.unwrap_or_else(|| beyond(lower, -1))),
                    (None, Some(upper)) => number_value(greatest.unwrap_or_else(|| beyond(upper, 1))),
                    (None, None) if refuses_zero => json!(0),
                    (None, None) => return Some(Vec::new()),
                };
                one("range-narrower", format!("{} refused", refused_numbers(lower, upper, refuses_zero)), witness)
            }
            (Alternative::Text(sent), Alternative::Text(taken)) => text(sent, taken),
            (Alternative::Array(sent), Alternative::Array(taken)) => Some(self.array(sent, taken)),
            (Alternative::Object(sent), Alternative::Object(taken)) => {
                // Other variants of an enum.
                if !is_only
                    && sent.variant().is_some()
                    && taken.variant().is_some()
                    && sent.variant() != taken.variant()
                {
                    return None;
                }
                if taken.is_other_than(sent) {
                    return None;
                }
                Some(self.object(sent, taken))
            }
            _ => None,
        }
    }

    fn array(&mut self, sent: &Array<'w>, taken: &Array<'r>) -> Vec<Mismatch> {
        let of_length = |this: &Self, length: usize| -> Option<Vec<Value>> {
            (0..length).map(|at| this.writer.sample(sent.item(at)?)).collect()
        };
        let fewer = (sent.least < taken.least).then_some(taken.least);
        let more = taken.greatest.filter(|most| sent.greatest.is_none_or(|greatest| greatest > *most));
        let length = match (fewer, more) {
            (Some(least), Some(most)) => {
                Some((format!("fewer than {least} and more than {most} items are refused"), sent.least))
            }
            (Some(least), None) => Some((format!("fewer than {least} items are refused"), sent.least)),
            (None, Some(most)) => Some((format!("more than {most} items are refused"), most + 1)),
            (None, None) => None,
        };
        let mut found = Vec::new();
        if let Some((why, length)) = length {
            let witness = of_length(self, length);
            found.extend(self.shown(sent.clone(), mismatch("length-differs", why, witness.map(Value::Array))));
        }
        let places = sent.first.len().max(taken.first.len()) + usize::from(sent.rest.is_some());
        for at in 0..places {
            let (Some(item), Some(expected)) = (sent.item(at), taken.item(at)) else {
                break;
            };
            let is_one_of_many = at >= sent.first.len() && at >= taken.first.len();
            for inner in self.compare(item, expected) {
                // The others around it.
                let around = |other| {
                    if other == at { inner.witness.clone() } else { self.writer.sample(sent.item(other)?) }
                };
                let witness: Option<Vec<_>> = (0..sent.least.max(at + 1)).map(around).collect();
                let step = if is_one_of_many { "[]".to_owned() } else { format!("[{at}]") };
                found.extend(self.shown(sent.clone(), inner.within(&step, witness.map(Value::Array))));
            }
        }
        found
    }

    fn object(&mut self, sent: &Object<'w>, taken: &Object<'r>) -> Vec<Mismatch> {
        let least = self.writer.least_object(sent);
        if least.is_none() && !self.writer.has_value(&Alternative::Object(sent.clone())) {
            return Vec::new();
        }
        let written = sent.needed();
        let mut found = Vec::new();
        for name in &taken.required {
            if !written.contains(name) {
                found.push(required(name, sent, least.clone()));
            }
        }
        for aliases in taken.aliases.iter().filter(|aliases| aliases.is_required) {
            if !aliases.names.iter().any(|name| written.contains(name)) {
                found.push(required(aliases.names[0], sent, least.clone()));
            }
        }
        for (name, value) in &sent.properties {
            if sent.is_alias(name) {
                continue;
            }
            let with = |value: Option<Value>| {
                let mut members = least.clone()?;
                members.insert((*name).to_owned(), value?);
                Some(Value::Object(members))
            };
            match (taken.properties.get(name), taken.others) {
                (Some(expected), _) => {
                    found.extend(self.compare(value, expected).into_iter().map(|inner| {
                        let witness = with(inner.witness.clone());
                        inner.within(name, witness)
                    }));
                }
                (None, Others::Ignored) => {}
                (None, Others::Refused) => {
                    let why = format!("`{name}` is not known, and is refused");
                    found.extend(
                        self.shown_of(value, |value| mismatch("property-unknown", why, with(value)).below(name)),
                    );
                }
                (None, Others::Entries { values, .. }) => {
                    found.extend(self.compare(value, values).into_iter().map(|inner| {
                        let witness = with(inner.witness.clone());
                        inner.within(name, witness)
                    }));
                }
            }
        }
        if let Others::Entries { names, values } = sent.others {
            found.extend(self.entries(names, values, least.as_ref(), taken));
        }
        found
    }

    /// A mismatch of an array, if there is such an array.
    fn shown(&self, sent: Array<'w>, found: Mismatch) -> Vec<Mismatch> {
        let is_shown = found.witness.is_some() || self.writer.has_value(&Alternative::Array(sent));
        is_shown.then_some(found).into_iter().collect()
    }

    /// A mismatch with a value of this schema, if there is one.
    fn shown_of(&self, schema: &'w Value, found: impl FnOnce(Option<Value>) -> Mismatch) -> Option<Mismatch> {
        let value = self.writer.sample(schema);
        let has_value = || self.writer.alternatives(schema).iter().any(|one| self.writer.has_value(one));
        (value.is_some() || has_value()).then(|| found(value))
    }

    /// The entries of a map.
    fn entries(
        &mut self,
        names: Option<&'w Value>,
        values: &'w Value,
        least: Option<&Map<String, Value>>,
        taken: &Object<'r>,
    ) -> Vec<Mismatch> {
        let key = match names {
            Some(names) => self.writer.sample(names).and_then(|name| name.as_str().map(str::to_owned)),
            None => Some("key".to_owned()),
        };
        let Some(key) = key else {
            return Vec::new();
        };
        let with = |key: &str, value: Option<Value>| {
            let mut members = least?.clone();
            members.insert(key.to_owned(), value?);
            Some(Value::Object(members))
        };
        match taken.others {
            Others::Ignored => Vec::new(),
            Others::Refused => {
                let refused =
                    |value| mismatch("property-unknown", "other properties are refused".to_owned(), with(&key, value));
                self.shown_of(values, refused).into_iter().collect()
            }
            Others::Entries { names: expected, values: expected_values } => {
                let mut found: Vec<_> = self
                    .compare(values, expected_values)
                    .into_iter()
                    .map(|inner| {
                        let witness = with(&key, inner.witness.clone());
                        inner.within("{}", witness)
                    })
                    .collect();
                if let Some(expected) = expected {
                    static ANY_NAME: std::sync::LazyLock<Value> =
                        std::sync::LazyLock::new(|| json!({ "type": "string" }));
                    let any: &'w Value = names.unwrap_or(&ANY_NAME);
                    let value = self.writer.sample(values);
                    found.extend(self.compare(any, expected).into_iter().map(|inner| {
                        let witness = inner.witness.as_ref().and_then(Value::as_str);
                        let witness = witness.and_then(|key| with(key, value.clone()));
                        inner.within("{key}", witness)
                    }));
                }
                found
            }
        }
    }
}

impl Mismatch {
    /// The same one, of the value around it.
    fn within(self, step: &str, witness: Option<Value>) -> Self {
        Self { witness, ..self.below(step) }
    }

    fn below(mut self, step: &str) -> Self {
        self.path = match self.path.is_empty() || self.path.starts_with('[') {
            true => format!("{step}{}", self.path),
            false => format!("{step}.{}", self.path),
        };
        self
    }
}

fn mismatch(rule: &'static str, why: String, witness: Option<Value>) -> Mismatch {
    Mismatch { rule, path: String::new(), why, witness }
}

/// The numbers that are refused, with the verb: `numbers below 0 and above 255 are`.
fn refused_numbers(lower: Option<i128>, upper: Option<i128>, is_zero: bool) -> String {
    let lower = lower.map(|lower| format!("below {lower}"));
    let upper = upper.map(|upper| format!("above {upper}"));
    let ends: Vec<_> = lower.into_iter().chain(upper).collect();
    match (ends.is_empty(), is_zero) {
        (true, _) => "0 is".to_owned(),
        (false, false) => format!("numbers {} are", ends.join(" and ")),
        (false, true) => format!("0 and numbers {} are", ends.join(" and ")),
    }
}

/// A number that is beyond this one, in this direction. If it has more than 64 bits, it is one that a float has too, because some
/// programs keep no other ones.
fn beyond(bound: i128, direction: i128) -> i128 {
    let next = bound.saturating_add(direction);
    let is_usual = i64::try_from(next).is_ok() || u64::try_from(next).is_ok();
    if is_usual { next } else { direction << 64 }
}

/// The reader needs a property that the writer may leave out.
fn required(name: &str, sent: &Object<'_>, least: Option<Map<String, Value>>) -> Mismatch {
    let why = match sent.properties.contains_key(name) {
        true => format!("`{name}` is required, and may be left out by the sender"),
        false => format!("`{name}` is required, and is not sent"),
    };
    mismatch("property-required", why, least.map(Value::Object)).below(name)
}

fn text(sent: &Text<'_>, taken: &Text<'_>) -> Option<Vec<Mismatch>> {
    let refused =
        |why: &str, witness: &str| Some(vec![mismatch("text-narrower", why.to_owned(), Some(json!(witness)))]);
    match (sent, taken) {
        (_, Text::Any | Text::Except(_)) | (Text::Char, Text::Char) => Some(Vec::new()),
        (Text::Words(words), Text::Words(known)) => words.iter().all(|word| known.contains(word)).then(Vec::new),
        (Text::Numeral { signed }, Text::Numeral { signed: takes_sign }) if !signed || *takes_sign => Some(Vec::new()),
        (Text::Numeral { .. }, Text::Numeral { .. }) => refused("negative numbers are refused", "-1"),
        (Text::Format(sent), Text::Format(taken)) if sent == taken => Some(Vec::new()),
        (Text::Words(words), Text::Char) if words.iter().all(|word| word.chars().count() == 1) => Some(Vec::new()),
        (Text::Char | Text::Numeral { .. }, Text::Words(_)) => None,
        (Text::Any, Text::Words(known)) => refused("only the names of variants are taken", &other_than(known)),
        (_, Text::Format(format)) => {
            let witness = sent.sample()?;
            refused(&format!("only a text of the format `{format}` is taken"), &witness)
        }
        (_, Text::Char) => refused("only a single character is taken", &sent.sample()?),
        (_, Text::Numeral { .. }) => refused("only whole numbers are taken as keys", &sent.sample()?),
        (Text::Format(_) | Text::Except(_), Text::Words(_)) => None,
    }
}

fn kind(of: &Alternative<'_>) -> String {
    match of {
        Alternative::Any => "any value".to_owned(),
        Alternative::Unknown => "a value of which nothing is known".to_owned(),
        Alternative::Null => "null".to_owned(),
        Alternative::Bool => "a boolean".to_owned(),
        Alternative::Integer { .. } => "a whole number".to_owned(),
        Alternative::Number => "a number".to_owned(),
        Alternative::Text(Text::Words(words)) => format!("`{}`", words.join("`, `")),
        Alternative::Text(_) => "a string".to_owned(),
        Alternative::Array(_) => "an array".to_owned(),
        Alternative::Object(_) => "an object".to_owned(),
    }
}
