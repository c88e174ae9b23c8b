//! Values that differ from others in one place: [`changed`].

use serde_json::{Map, Value, json};

use crate::instance::Random;

/// The names of tags in generated types.
const TAGS: [&str; 4] = ["kind", "op", "t", "type"];

/// The value, with a change in one place. The spellings that docs/protocol.md names are left out, which serde takes and no schema
/// has: arrays and empty objects stand only where such stood, and no number stands in the place of a tag. A whole number with a
/// point is an integer for JSON Schema and not for serde, so there is none.
pub(crate) fn changed(value: &Value, random: &mut Random) -> Value {
    let mut value = value.clone();
    let nth = random.numbers.usize(..count(&value));
    change_nth(&mut value, nth, false, random);
    value
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Changes the part with this number, in the order in which the parts are written.
fn change_nth(value: &mut Value, mut nth: usize, is_tag: bool, random: &mut Random) {
    if nth == 0 {
        return change(value, is_tag, random);
    }
    nth -= 1;
    let parts: Vec<_> = match value {
        Value::Array(items) => items.iter_mut().map(|item| (item, false)).collect(),
        Value::Object(entries) => entries.iter_mut().map(|(key, part)| (part, TAGS.contains(&key.as_str()))).collect(),
        _ => return,
    };
    for (part, is_tag) in parts {
        let inside = count(part);
        if nth < inside {
            return change_nth(part, nth, is_tag, random);
        }
        nth -= inside;
    }
}

fn change(value: &mut Value, is_tag: bool, random: &mut Random) {
    match value {
        Value::Array(items) if random.numbers.bool() => change_length(items, random),
        Value::Object(entries) if !entries.is_empty() && random.numbers.u8(..3) > 0 => change_keys(entries, random),
        Value::Object(entries) if random.numbers.bool() => drop(entries.insert("more".to_owned(), json!(1))),
        _ => *value = other(is_tag, random),
    }
}

fn change_length(items: &mut Vec<Value>, random: &mut Random) {
    match items.first().cloned() {
        Some(first) if random.numbers.bool() => items.push(first),
        // An empty array is read as a struct without fields.
        Some(_) if items.len() > 1 => drop(items.remove(random.numbers.usize(..items.len()))),
        _ => items.push(other(false, random)),
    }
}

fn change_keys(entries: &mut Map<String, Value>, random: &mut Random) {
    let keys: Vec<_> = entries.keys().cloned().collect();
    let key = random.choose(&keys);
    let Some(value) = entries.remove(&key) else { return };
    // A single `null` under another name is read as the variant for unknown ones.
    if random.numbers.bool() && !(value.is_null() && entries.is_empty()) {
        // JSON Schema can't say how great a number in a key is.
        let other = if key.parse::<i128>().is_ok() { format!("{key}x") } else { format!("{key}2") };
        entries.insert(other, value);
    }
}

fn other(is_tag: bool, random: &mut Random) -> Value {
    let plain = [json!(null), json!(true), json!(0.5), json!(""), json!("a"), json!("12"), json!({ "a": 1 })];
    let numbers = [json!(0), json!(1), json!(-1), json!(200), json!(70_000), json!(5_000_000_000_u64)];
    // With the tag of another variant, an empty object may stand in place of `null`.
    let names = [json!("First"), json!({ "First": 1.5 })];
    match random.numbers.u8(..5) {
        0..=1 if !is_tag => random.choose(&numbers),
        2 if !is_tag => random.choose(&names),
        _ => random.choose(&plain),
    }
}
