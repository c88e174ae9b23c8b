//! Types as people write them, described and compared with what serde accepts.
#![allow(dead_code, reason = "types are only read")]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::{NonZeroI32, NonZeroU8};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use byname_schema::{TypeSchema, describe, describe_both};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Plain {
    id: u32,
    name: String,
    note: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Closed {
    first_name: String,
    #[serde(alias = "surname", alias = "familyName")]
    last_name: String,
    #[serde(default, alias = "mail")]
    email: Option<String>,
    #[serde(skip)]
    cached: u8,
}
#[derive(Deserialize)]
struct Meters(f64);
#[derive(Deserialize)]
struct Pair(i8, String);
#[derive(Deserialize)]
struct Nothing;
#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<u64>,
}
#[derive(Deserialize)]
struct Tree {
    value: i32,
    children: Vec<Tree>,
}
#[derive(Deserialize)]
struct List {
    head: u8,
    tail: Option<Box<List>>,
}
#[derive(Deserialize)]
enum Expr {
    Add(Box<Expr>, Box<Expr>),
    Neg(Box<Expr>),
    Num(f64),
    Call { name: String, args: Vec<Expr> },
    Nil,
}
#[derive(Deserialize)]
struct Forest(Vec<Forest>);
#[derive(Deserialize)]
struct Husband {
    wife: Option<Box<Wife>>,
}
#[derive(Deserialize)]
struct Wife {
    husband: Option<Box<Husband>>,
    wed: (Option<Box<Husband>>, u16),
}
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(PartialEq, Eq, Hash)]
enum Status {
    Open,
    InProgress,
    #[serde(alias = "finished")]
    Done,
}
#[derive(Deserialize)]
enum Fallback {
    Known,
    #[serde(other)]
    Unknown,
}
#[derive(Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Unit,
    New(u8),
    Tup(u8, String),
    Rec { a: u8, b: Option<String> },
    Again(Box<Adjacent>),
}
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Even(String);
impl TryFrom<String> for Even {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.len().is_multiple_of(2) { Ok(Self(text)) } else { Err("odd") }
    }
}
#[derive(Deserialize)]
#[serde(try_from = "u8")]
struct Percent(u8);
impl TryFrom<u8> for Percent {
    type Error = &'static str;
    fn try_from(value: u8) -> Result<Self, &'static str> {
        if value <= 100 { Ok(Self(value)) } else { Err("more than all") }
    }
}
#[derive(Deserialize)]
struct Bounds {
    low: u8,
    high: u8,
}
#[derive(Deserialize)]
#[serde(try_from = "Bounds")]
struct Range(Bounds);
impl TryFrom<Bounds> for Range {
    type Error = &'static str;
    fn try_from(bounds: Bounds) -> Result<Self, &'static str> {
        if bounds.low <= bounds.high { Ok(Self(bounds)) } else { Err("reversed") }
    }
}
#[derive(Deserialize)]
struct Invoice {
    #[serde(rename = "type")]
    kind: Status,
    lines: Vec<Line>,
    totals: BTreeMap<String, i64>,
    by_number: HashMap<u16, Line>,
    percent: Percent,
    address: std::net::IpAddr,
    raw: serde_json::Value,
}
#[derive(Deserialize)]
struct Line {
    quantity: NonZeroU8,
    delta: NonZeroI32,
    price: (u64, char),
    grid: [[u8; 3]; 2],
}
mod other {
    #[derive(serde::Deserialize)]
    pub(crate) struct Line {
        pub(crate) text: Option<Box<Line>>,
    }
}
#[derive(Deserialize)]
struct TwoLines {
    a: Line,
    b: other::Line,
}
#[derive(Deserialize)]
struct Panics {
    #[serde(deserialize_with = "panics")]
    value: u8,
}
fn panics<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let _ = u8::deserialize(deserializer)?;
    panic!("on purpose")
}
#[derive(Deserialize)]
enum Never {}
#[derive(Deserialize)]
struct Foreign {
    at: chrono::DateTime<chrono::Utc>,
    day: chrono::NaiveDate,
    id: uuid::Uuid,
    link: url::Url,
    price: rust_decimal::Decimal,
    #[serde(with = "serde_bytes")]
    blob: Vec<u8>,
}
#[derive(Deserialize)]
struct Generic<A, B = u8> {
    a: A,
    b: Option<B>,
}
#[derive(Deserialize)]
struct Defaulted {
    #[serde(default = "seven")]
    level: u8,
    #[serde(default)]
    nested: Option<Box<Defaulted>>,
}
fn seven() -> u8 {
    7
}
#[derive(Deserialize)]
#[serde(default)]
struct AllDefaulted {
    a: u8,
    b: String,
}
impl Default for AllDefaulted {
    fn default() -> Self {
        Self { a: 1, b: String::new() }
    }
}
#[derive(Deserialize)]
#[serde(transparent)]
struct Wrapper {
    inner: Vec<u16>,
}
#[derive(Deserialize)]
#[serde(from = "Pair")]
struct FromPair(i8);
impl From<Pair> for FromPair {
    fn from(pair: Pair) -> Self {
        Self(pair.0)
    }
}
#[derive(Deserialize)]
struct Nested {
    maybe: Option<Option<u8>>,
    unit: (),
    #[allow(clippy::type_complexity, reason = "it is deep on purpose")]
    deep: Vec<Option<BTreeMap<String, Vec<(u8, Option<Status>)>>>>,
}
#[derive(Deserialize)]
struct Keys {
    by_char: BTreeMap<char, u8>,
    by_bool: BTreeMap<bool, u8>,
    by_status: HashMap<Status, Option<u8>>,
    by_signed: BTreeMap<i8, ()>,
}
#[derive(Deserialize)]
#[serde(tag = "t")]
enum Tagged {
    A,
    B { x: Option<u8> },
    C(Plain),
    D(BTreeMap<String, u8>),
}
#[derive(Deserialize)]
#[serde(untagged)]
enum StringOr {
    Text(String),
    Full(Plain),
}
#[derive(Deserialize)]
#[serde(untagged)]
enum Overlap {
    Small { a: u8 },
    Large { a: u8, b: u8 },
}
#[derive(Deserialize)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Renamed {
    FirstOne { some_field: u8 },
    SecondOne(#[serde(default)] u8),
}
#[derive(Deserialize)]
struct Lengthy {
    hash: [u8; 32],
    pair: (String, [bool; 2]),
}
#[derive(Deserialize)]
struct Validated {
    #[serde(deserialize_with = "at_most_ten")]
    ten: u32,
    other: u32,
}
fn at_most_ten<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = u32::deserialize(deserializer)?;
    if value <= 10 { Ok(value) } else { Err(serde::de::Error::custom("more than ten")) }
}
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    Created { id: u32, by: Option<String>, tags: Vec<String> },
    Moved(Move),
    Closed,
}
#[derive(Deserialize)]
struct Move {
    from: (i8, i8),
    #[serde(default)]
    speed: f32,
    kind: Option<Status>,
}
#[derive(Deserialize)]
#[serde(tag = "op", deny_unknown_fields)]
enum Command {
    Set { key: String, value: u8 },
    Get { key: String },
}
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Flag(bool),
    Small(u8),
    Text(String),
    Missing,
}
#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64, label: Option<String> },
    Points(Vec<(i32, i32)>),
}
#[derive(Deserialize)]
struct Envelope {
    id: u64,
    #[serde(flatten)]
    shape: Move,
    events: Vec<Event>,
    scalar: Scalar,
}
#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    Null,
    Number(f64),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}
#[derive(Deserialize)]
#[serde(tag = "kind")]
enum Filter {
    And { all: Vec<Filter> },
    Is { field: String, value: Scalar },
    Nested { inner: Command },
}

#[derive(Deserialize)]
struct Branch(BTreeMap<String, Branch>, u8);
#[derive(Deserialize)]
#[serde(transparent)]
struct Levels {
    inner: Option<Vec<Levels>>,
}
#[derive(Deserialize, Serialize)]
struct Halves {
    #[serde(serialize_with = "as_text")]
    text: u16,
    #[serde(rename(serialize = "written", deserialize = "read"))]
    renamed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    list: Vec<u8>,
    options: Vec<Option<State>>,
    named: BTreeMap<String, Joined>,
    same: Same,
}
fn as_text<S: Serializer>(value: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
#[derive(Deserialize, Serialize)]
enum State {
    On,
    #[serde(rename(serialize = "off"))]
    Off,
    Level(u8),
}
#[derive(Deserialize, Serialize, Clone)]
#[serde(into = "String")]
struct Joined {
    first: String,
    second: String,
}
impl From<Joined> for String {
    fn from(joined: Joined) -> Self {
        joined.first + &joined.second
    }
}
#[derive(Deserialize, Serialize)]
struct Same {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    list: Vec<u8>,
    wide: i128,
    unit: Option<()>,
    #[serde(skip)]
    cached: u8,
    kind: Kind,
}
#[derive(Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    Plain,
    With { value: Option<u8> },
}

/// Its code is written by hand, and its errors name a field that it does not list.
struct ByHand;
impl<'de> Deserialize<'de> for ByHand {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ByHand;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("fields")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<ByHand, A::Error> {
                let mut count = 0;
                while map.next_entry::<String, u8>()?.is_some() {
                    count += 1;
                }
                if count > 1 { Err(serde::de::Error::duplicate_field("hidden")) } else { Ok(ByHand) }
            }
        }
        deserializer.deserialize_struct("ByHand", &["shown"], Visitor)
    }
}

#[test]
fn code_by_hand_may_name_fields_that_it_does_not_list() {
    let (schema, _) = described::<ByHand>();
    assert_eq!(schema["properties"]["shown"]["maximum"], 255);
}

/// The schema of a type, with the places that are open, as `path: reason`.
fn described<T: DeserializeOwned>() -> (Value, Vec<String>) {
    let schema = describe::<T>();
    (schema.to_json_schema(), open_places(&schema))
}

fn open_places(schema: &TypeSchema) -> Vec<String> {
    schema.open().iter().map(|place| format!("{}: {:?}", place.path, place.reason)).collect()
}

/// What the type and the schema say of values. Values that the type takes and the schema refuses are wrong, and so are the
/// reverse where the schema is not open.
#[derive(Default)]
struct Verdicts {
    alike: usize,
    types: usize,
    open: Vec<String>,
    /// All schemas, to be read.
    described: String,
    too_strict: Vec<String>,
    too_loose: Vec<String>,
}

impl Verdicts {
    fn compare<T: DeserializeOwned>(&mut self, good: &[Value]) {
        self.compare_with::<T>(&describe::<T>(), good);
    }

    /// Holds also against the schema what the type writes of the values.
    fn compare_both<T: Serialize + DeserializeOwned>(&mut self, good: &[Value]) {
        let described = describe_both::<T>();
        self.compare_with::<T>(&described, good);
        let schema = described.to_json_schema();
        for value in good.iter().flat_map(mutations) {
            let Ok(read) = serde_json::from_value::<T>(value) else { continue };
            let written = serde_json::to_value(read).unwrap();
            if described.open().is_empty() && !jsonschema::is_valid(&schema, &written) {
                self.too_strict.push(format!("{}: {written} is written of {schema}", std::any::type_name::<T>()));
            }
        }
    }

    fn compare_with<T: DeserializeOwned>(&mut self, described: &TypeSchema, good: &[Value]) {
        let (schema, open) = (described.to_json_schema(), open_places(described));
        let validator = jsonschema::validator_for(&schema).expect("a schema is valid");
        let name = std::any::type_name::<T>();
        self.types += 1;
        let ours = name.rsplit("serde_types::").next().unwrap_or_default();
        self.described.push_str(&format!("{ours}\n  {schema}\n"));
        open.iter().for_each(|open| self.described.push_str(&format!("  open at {open}\n")));
        self.open.extend((!open.is_empty()).then(|| format!("{name}: {open:?}")));
        for value in good {
            assert!(serde_json::from_value::<T>(value.clone()).is_ok(), "{name} takes {value}");
            for value in mutations(value) {
                let is_taken = serde_json::from_value::<T>(value.clone()).is_ok();
                match (is_taken, validator.is_valid(&value)) {
                    (true, false) => self.too_strict.push(format!("{name}: {value} of {schema}")),
                    (false, true) if open.is_empty() => self.too_loose.push(format!("{name}: {value} of {schema}")),
                    _ => self.alike += 1,
                }
            }
        }
    }
}

/// The value, and values that differ in one place. serde reads a struct from an array too, so arrays stand only where arrays
/// stood. A whole number with a point is one for JSON Schema and not for serde, so there is none. serde takes the number of a variant
/// in place of its tag where it copies the value.
fn mutations(value: &Value) -> Vec<Value> {
    let mut all = vec![value.clone()];
    let others = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(200),
        json!(70_000),
        json!(0.5),
        json!(""),
        json!("a"),
        json!("abc"),
        json!("12"),
        json!({}),
        json!({ "a": 1 }),
        json!({ "Num": 1.5 }),
    ];
    all.extend(others);
    match value {
        Value::Array(items) => {
            all.push(json!([]));
            for (at, item) in items.iter().enumerate() {
                all.extend(mutations(item).into_iter().map(|changed| {
                    let mut items = items.clone();
                    items[at] = changed;
                    Value::Array(items)
                }));
            }
            all.extend((0..items.len()).map(|at| {
                let mut items = items.clone();
                items.remove(at);
                Value::Array(items)
            }));
            all.extend(
                items.first().map(|first| Value::Array([items.as_slice(), std::slice::from_ref(first)].concat())),
            );
        }
        Value::Object(entries) => {
            for (key, inner) in entries {
                let is_tag = ["op", "kind", "type", "t"].contains(&key.as_str());
                let changed = mutations(inner).into_iter().filter(|changed| !(is_tag && changed.is_u64()));
                all.extend(changed.map(|changed| {
                    let mut entries = entries.clone();
                    entries.insert(key.clone(), changed);
                    Value::Object(entries)
                }));
                let mut without = entries.clone();
                let inner = without.remove(key).unwrap();
                all.push(Value::Object(without.clone()));
                without.insert(format!("{key}2"), inner);
                all.push(Value::Object(without));
            }
            let mut more = entries.clone();
            more.insert("more".to_owned(), json!(1));
            all.push(Value::Object(more));
        }
        _ => {}
    }
    all
}

#[test]
fn a_type_takes_what_its_schema_takes() {
    let mut verdicts = Verdicts::default();
    let line = json!({ "quantity": 1, "delta": -3, "price": [5, "€"], "grid": [[1, 2, 3], [4, 5, 6]] });
    let tree = json!({ "value": 1, "children": [{ "value": 2, "children": [] }] });
    let expr = json!({ "Add": [{ "Num": 1.5 }, { "Call": { "name": "f", "args": ["Nil", { "Neg": "Nil" }] } }] });
    verdicts.compare::<Plain>(&[json!({ "id": 1, "name": "a", "note": "n", "tags": ["x"] })]);
    verdicts.compare::<Closed>(&[
        json!({ "firstName": "a", "lastName": "b", "email": "e" }),
        json!({ "firstName": "a", "surname": "b", "mail": null }),
    ]);
    verdicts.compare::<Meters>(&[json!(1.5)]);
    verdicts.compare::<Pair>(&[json!([-1, "a"])]);
    verdicts.compare::<Nothing>(&[json!(null)]);
    verdicts.compare::<Page<Tree>>(&[json!({ "items": [tree], "next": 7 })]);
    verdicts.compare::<List>(&[json!({ "head": 1, "tail": { "head": 2, "tail": null } })]);
    verdicts.compare::<Expr>(&[expr]);
    verdicts.compare::<Forest>(&[json!([[], [[]]])]);
    verdicts.compare::<Husband>(&[json!({ "wife": { "husband": { "wife": null }, "wed": [null, 1999] } })]);
    verdicts.compare::<Status>(&[json!("in_progress"), json!("finished")]);
    verdicts.compare::<Fallback>(&[json!("Known"), json!("anything")]);
    verdicts.compare::<Adjacent>(&[
        json!({ "t": "New", "c": 1 }),
        json!({ "t": "Tup", "c": [1, "a"] }),
        json!({ "t": "Again", "c": { "t": "New", "c": 2 } }),
        json!({ "t": "Unit" }),
        json!({ "t": "Rec", "c": { "a": 1, "b": "x" } }),
    ]);
    verdicts.compare::<Even>(&[json!("ab")]);
    verdicts.compare::<Percent>(&[json!(99)]);
    verdicts.compare::<Line>(std::slice::from_ref(&line));
    verdicts.compare::<Invoice>(&[json!({
        "type": "open", "lines": [line], "totals": { "a": 1 }, "by_number": { "12": line }, "percent": 3,
        "address": "::1", "raw": { "x": [1] },
    })]);
    verdicts.compare::<TwoLines>(&[json!({ "a": line, "b": { "text": { "text": null } } })]);
    verdicts.compare::<Never>(&[]);
    verdicts.compare::<Result<u8, String>>(&[json!({ "Ok": 1 }), json!({ "Err": "a" })]);
    verdicts.compare::<Duration>(&[json!({ "secs": 1, "nanos": 2 })]);
    verdicts.compare::<SystemTime>(&[json!({ "secs_since_epoch": 1, "nanos_since_epoch": 2 })]);
    verdicts.compare::<(u8, Cow<'static, str>, Arc<u8>, BTreeSet<i64>)>(&[json!([1, "a", 2, [3]])]);
    verdicts.compare::<std::ops::Range<u8>>(&[json!({ "start": 1, "end": 2 })]);
    verdicts.compare::<u128>(&[json!(1)]);
    verdicts.compare::<HashMap<Status, bool>>(&[json!({ "open": true })]);
    let moved = json!({ "type": "moved", "from": [1, 2], "speed": 0.5, "kind": "done" });
    let created = json!({ "type": "created", "id": 1, "by": null, "tags": ["a"] });
    verdicts.compare::<Event>(&[created.clone(), moved.clone(), json!({ "type": "closed" })]);
    verdicts.compare::<Command>(&[json!({ "op": "Set", "key": "a", "value": 1 }), json!({ "op": "Get", "key": "a" })]);
    verdicts.compare::<Scalar>(&[json!(true), json!(7), json!("a"), json!(null)]);
    verdicts.compare::<Shape>(&[
        json!({ "radius": 0.5 }),
        json!({ "width": 1.5, "height": 0.5, "label": "a" }),
        json!([[1, 2], [3, 4]]),
    ]);
    verdicts.compare::<Envelope>(&[json!({
        "id": 1, "from": [1, 2], "speed": 0.5, "kind": null, "events": [created, moved], "scalar": "a",
    })]);
    verdicts.compare::<Json>(&[json!({ "a": [null, 1.5, { "b": [] }] })]);
    verdicts.compare::<Filter>(&[
        json!({ "kind": "And", "all": [{ "kind": "Is", "field": "a", "value": 1 }] }),
        json!({ "kind": "Nested", "inner": { "op": "Get", "key": "a" } }),
    ]);
    verdicts.compare::<Foreign>(&[json!({
        "at": "2026-11-28T09:30:00Z", "day": "2026-11-28", "id": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "link": "https://example.com/", "price": "1.5", "blob": [1, 2],
    })]);
    verdicts.compare::<Generic<u8>>(&[json!({ "a": 1, "b": 2 })]);
    verdicts.compare::<Generic<String, Vec<Pair>>>(&[json!({ "a": "a", "b": [[1, "x"]] })]);
    verdicts.compare::<Generic<Generic<bool>>>(&[json!({ "a": { "a": true, "b": 1 }, "b": 2 })]);
    verdicts.compare::<Defaulted>(&[json!({ "level": 1, "nested": { "level": 2 } })]);
    verdicts.compare::<AllDefaulted>(&[json!({ "a": 1, "b": "x" })]);
    verdicts.compare::<Wrapper>(&[json!([1, 2])]);
    verdicts.compare::<FromPair>(&[json!([1, "a"])]);
    verdicts.compare::<Nested>(&[json!({ "maybe": 1, "unit": null, "deep": [null, { "a": [[1, "open"]] }] })]);
    verdicts.compare::<Keys>(&[json!({
        "by_char": { "a": 1 }, "by_bool": { "true": 1 }, "by_status": { "open": null }, "by_signed": { "-1": null },
    })]);
    verdicts.compare::<Tagged>(&[
        json!({ "t": "A" }),
        json!({ "t": "B", "x": 1 }),
        json!({ "t": "C", "id": 1, "name": "a", "note": null, "tags": [] }),
        json!({ "t": "D", "k": 1 }),
    ]);
    verdicts.compare::<StringOr>(&[json!("a"), json!({ "id": 1, "name": "a", "tags": ["b"] })]);
    verdicts.compare::<Overlap>(&[json!({ "a": 1 }), json!({ "a": 1, "b": 2 })]);
    verdicts.compare::<Flat>(&[json!({ "a": 1, "x": [1] })]);
    verdicts.compare::<Renamed>(&[json!({ "first-one": { "someField": 1 } }), json!({ "second-one": 2 })]);
    verdicts.compare::<Lengthy>(&[json!({ "hash": vec![7; 32], "pair": ["a", [true, false]] })]);
    verdicts.compare::<Validated>(&[json!({ "ten": 3, "other": 70_000 })]);
    verdicts.compare::<Option<Box<str>>>(&[json!("a"), json!(null)]);
    verdicts.compare::<Vec<Vec<Option<bool>>>>(&[json!([[true, null]])]);
    verdicts.compare::<std::path::PathBuf>(&[json!("/a")]);
    verdicts.compare::<std::num::NonZeroU64>(&[json!(1)]);
    verdicts.compare::<i128>(&[json!(-1)]);
    verdicts.compare::<char>(&[json!("ß")]);
    verdicts.compare::<Value>(&[json!({ "a": [1] })]);
    verdicts.compare::<serde_json::Map<String, Value>>(&[json!({ "a": [1] })]);
    verdicts.compare::<std::net::SocketAddr>(&[json!("127.0.0.1:80")]);
    verdicts.compare::<std::ops::Bound<u8>>(&[json!({ "Included": 1 }), json!("Unbounded")]);
    verdicts.compare::<std::cell::Cell<u8>>(&[json!(1)]);
    verdicts.compare::<std::collections::VecDeque<f32>>(&[json!([0.5])]);
    verdicts.compare::<Branch>(&[json!([{ "a": [{}, 1] }, 2])]);
    verdicts.compare::<Levels>(&[json!([[null], []])]);
    let same = json!({
        "note": null, "list": [1], "wide": -1, "unit": null, "kind": { "kind": "with", "value": 1 },
    });
    verdicts.compare_both::<Halves>(&[json!({
        "text": 1, "read": true, "list": [1], "options": [null, "On", { "Level": 1 }],
        "named": { "a": { "first": "a", "second": "b" } }, "same": same,
    })]);
    verdicts.compare_both::<Same>(&[same]);
    insta::assert_snapshot!(verdicts.described);
    println!("{} verdicts alike, {} of {} types are open", verdicts.alike, verdicts.open.len(), verdicts.types);
    verdicts.open.iter().for_each(|open| println!("{open}"));
    let show = |wrong: &[String]| wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        verdicts.too_strict.is_empty(),
        "{} too strict:\n{}",
        verdicts.too_strict.len(),
        show(&verdicts.too_strict)
    );
    assert!(verdicts.too_loose.is_empty(), "{} too loose:\n{}", verdicts.too_loose.len(), show(&verdicts.too_loose));
}

/// Compares one type, and says where it is open.
fn compared<T: DeserializeOwned>(good: &[Value]) -> Vec<String> {
    let mut verdicts = Verdicts::default();
    verdicts.compare::<T>(good);
    assert!(verdicts.too_strict.is_empty(), "too strict: {:?}", verdicts.too_strict);
    assert!(verdicts.too_loose.is_empty(), "too loose: {:?}", verdicts.too_loose);
    described::<T>().1
}

/// As [`compared`], with what the type writes.
fn compared_both<T: Serialize + DeserializeOwned>(good: &[Value]) -> Vec<String> {
    let mut verdicts = Verdicts::default();
    verdicts.compare_both::<T>(good);
    assert!(verdicts.too_strict.is_empty(), "too strict: {:?}", verdicts.too_strict);
    assert!(verdicts.too_loose.is_empty(), "too loose: {:?}", verdicts.too_loose);
    open_places(&describe_both::<T>())
}

#[test]
fn a_type_that_is_written_by_hand_is_open_where_it_differs() {
    /// It reads a number.
    #[derive(Deserialize)]
    struct Hex(u8);
    impl Serialize for Hex {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&format_args!("{:x}", self.0))
        }
    }
    /// It writes only some values as it reads them.
    #[derive(Deserialize)]
    struct Level(i32);
    impl Serialize for Level {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 0 { serializer.serialize_str("none") } else { serializer.serialize_i32(self.0) }
        }
    }
    #[derive(Deserialize, Serialize)]
    #[serde(tag = "t", content = "c")]
    enum Both {
        Color(Vec<(u8, Hex)>),
        Levels(Option<BTreeMap<String, Level>>),
    }
    /// A number as options of options, of which only the innermost is written.
    #[derive(Deserialize)]
    struct Natural(Option<Box<Natural>>);
    impl Serialize for Natural {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u8(self.0.is_some().into())
        }
    }
    assert_eq!(compared_both::<Hex>(&[json!(255)]), [": WritesOther"]);
    assert_eq!(open_places(&describe_both::<Natural>()), [": WritesOther"]);
    assert_eq!(compared_both::<Level>(&[json!(1)]), [": WritesOther"]);
    let open = compared_both::<Both>(&[json!({ "t": "Color", "c": [[1, 2]] }), json!({ "t": "Levels" })]);
    assert_eq!(open, ["Color[][1]: WritesOther", "Levels.{}: WritesOther"]);
    assert!(open_places(&describe_both::<(u128, i128)>()).is_empty());
}

#[test]
fn a_property_that_is_required_and_not_written_opens_its_struct() {
    #[derive(Deserialize, Serialize)]
    struct Zero {
        #[serde(skip_serializing_if = "is_zero")]
        count: i32,
    }
    fn is_zero(count: &i32) -> bool {
        *count == 0
    }
    #[derive(Deserialize, Serialize)]
    struct Secret {
        #[serde(skip_serializing)]
        password: String,
    }
    assert_eq!(compared_both::<Vec<Zero>>(&[json!([{ "count": 0 }])]), ["[]: WritesOther"]);
    assert_eq!(compared_both::<Secret>(&[json!({ "password": "a" })]), [": WritesOther"]);
}

/// serde_json writes it as `null`, and byname does not send it.
#[test]
fn a_number_that_json_can_not_hold_opens_nothing() {
    #[derive(Deserialize, Serialize)]
    struct Measured {
        #[serde(default = "not_a_number")]
        value: f64,
    }
    fn not_a_number() -> f64 {
        f64::NAN
    }
    assert!(describe_both::<Measured>().open().is_empty());
}

#[test]
fn a_type_writes_without_end_or_panics() {
    /// One of the samples is the greatest number.
    #[derive(Deserialize, Serialize)]
    #[serde(from = "Vec<u64>")]
    struct Numbers(#[serde(serialize_with = "all_below")] u64);
    impl From<Vec<u64>> for Numbers {
        fn from(numbers: Vec<u64>) -> Self {
            Self(numbers.first().copied().unwrap_or_default().wrapping_sub(1))
        }
    }
    fn all_below<S: Serializer>(end: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(0..*end)
    }
    #[derive(Deserialize, Serialize)]
    struct Broken {
        #[serde(serialize_with = "panics_when_written")]
        value: u8,
    }
    fn panics_when_written<S: Serializer>(_: &u8, _: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose")
    }
    assert!(open_places(&describe_both::<Numbers>()).is_empty());
    assert_eq!(open_places(&describe_both::<Broken>()), [": Panicked"]);
    assert!(open_places(&describe::<Broken>()).is_empty());
}

#[test]
fn a_tuple_may_be_empty() {
    let open = compared::<[u8; 0]>(&[json!([])]);
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_name_of_several_words_can_be_referred_to() {
    #[derive(Deserialize)]
    #[serde(rename = "A tree, 100% növény")]
    struct Plant {
        branches: Vec<Plant>,
    }
    let open = compared::<Plant>(&[json!({ "branches": [{ "branches": [] }] })]);
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_last_elements_of_an_array_may_have_defaults() {
    #[derive(Deserialize)]
    struct Version(u8, #[serde(default)] u8, #[serde(default)] u8);
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Point(i8, i8);
    let open = [compared::<Version>(&[json!([1, 2, 3])]), compared::<Point>(&[json!([1, 2])])].concat();
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn an_adjacent_enum_may_refuse_other_properties() {
    #[derive(Deserialize)]
    #[serde(tag = "t", content = "c", deny_unknown_fields)]
    enum Strict {
        Unit,
        New(u8),
    }
    let open = compared::<Strict>(&[json!({ "t": "New", "c": 1 }), json!({ "t": "Unit" })]);
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_content_that_is_refused_before_its_tag_is_open() {
    #[derive(Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Wide {
        Number(Option<u128>),
    }
    #[derive(Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Numbered {
        Map(BTreeMap<u8, u8>),
    }
    assert_eq!(compared::<Wide>(&[json!({ "t": "Number", "c": null })]), [": Buffered"]);
    assert_eq!(compared::<Numbered>(&[json!({ "t": "Map", "c": {} })]), [": Buffered"]);
}

#[test]
fn a_copied_map_with_other_keys_than_strings_is_open() {
    #[derive(Deserialize)]
    #[serde(tag = "t")]
    enum Counted {
        By { number: BTreeMap<u8, u8> },
        In { status: HashMap<Status, u8> },
    }
    let open =
        compared::<Counted>(&[json!({ "t": "By", "number": {} }), json!({ "t": "In", "status": { "open": 1 } })]);
    assert!(open.contains(&"By.number.{key}: Buffered".to_owned()), "{open:?}");
    assert!(open.contains(&"In.status.{key}: Buffered".to_owned()), "{open:?}");
}

#[test]
fn a_type_that_compares_its_parts_is_open() {
    #[derive(Deserialize)]
    #[serde(try_from = "(u8, u8)")]
    struct Ordered((u8, u8));
    impl TryFrom<(u8, u8)> for Ordered {
        type Error = &'static str;
        fn try_from(pair: (u8, u8)) -> Result<Self, &'static str> {
            if pair.0 <= pair.1 { Ok(Self(pair)) } else { Err("reversed") }
        }
    }
    #[derive(Deserialize)]
    struct Both {
        bounds: Bounds,
        range: Range,
    }
    let bounds = json!({ "low": 1, "high": 2 });
    assert_eq!(compared::<Range>(std::slice::from_ref(&bounds)), [": Refuses"]);
    assert_eq!(compared::<Ordered>(&[json!([1, 2])]), [": Refuses"]);
    assert_eq!(compared::<Both>(&[json!({ "bounds": bounds, "range": bounds })]), ["range: Refuses"]);
}

#[test]
fn a_copied_number_may_be_0_though_another_is_not_less() {
    #[derive(Deserialize)]
    struct Named {
        name: String,
        #[serde(flatten)]
        range: Range,
    }
    let open = compared::<Named>(&[json!({ "name": "a", "low": 0, "high": 0 })]);
    assert!(!open.is_empty());
}

#[test]
fn a_variant_with_flattened_parts_is_open() {
    #[derive(Deserialize)]
    #[serde(tag = "t")]
    enum Tagged {
        Map {
            #[serde(flatten)]
            rest: BTreeMap<String, u8>,
        },
        Unit,
        Struct {
            number: u8,
            #[serde(flatten)]
            plain: Plain,
        },
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Flat {
            #[serde(flatten)]
            defaults: AllDefaulted,
        },
    }
    let open = compared::<Tagged>(&[
        json!({ "t": "Map", "a": 1 }),
        json!({ "t": "Unit" }),
        json!({ "t": "Struct", "number": 1, "id": 1, "name": "a" }),
    ]);
    assert_eq!(open, ["Map: Unknown", "Struct: Unknown"]);
    assert_eq!(compared::<Untagged>(&[json!({ "a": 1, "b": "x" })]), [": Unknown"]);
}

#[test]
fn a_flattened_content_may_be_absent() {
    #[derive(Deserialize)]
    struct Flattened {
        id: u8,
        #[serde(flatten)]
        event: Change,
    }
    #[derive(Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Change {
        Set(u8),
        Clear,
    }
    let open = compared::<Flattened>(&[json!({ "id": 1, "t": "Set", "c": 1 }), json!({ "id": 1, "t": "Clear" })]);
    assert!(!open.is_empty());
}

#[test]
fn a_field_of_a_struct_inside_a_flattened_one_is_no_field_of_its_own() {
    #[derive(Deserialize)]
    struct Flattened {
        #[serde(flatten)]
        outer: Outer,
    }
    #[derive(Deserialize)]
    struct Outer {
        inner: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        tagged: TwoTags,
    }
    #[derive(Deserialize)]
    #[serde(tag = "op")]
    enum TwoTags {
        One(Tagged),
    }
    let open = compared::<Flattened>(&[json!({ "inner": { "tagged": { "op": "One", "t": "A" } } })]);
    assert!(!open.is_empty());
}

#[test]
fn a_variant_takes_null_though_one_behind_it_takes_the_field_too() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Struct { a: Option<f64>, b: bool },
        Map(BTreeMap<String, Option<u8>>),
    }
    compared::<Either>(&[json!({ "a": null, "b": true }), json!({ "a": null, "x": 1 })]);
}

#[test]
fn fields_behind_one_that_is_not_found_out_are_open() {
    #[derive(Deserialize)]
    #[serde(tag = "t", deny_unknown_fields)]
    enum Tagged {
        New { first: u128, second: u8 },
    }
    // serde reads no copied u128.
    let open = compared::<Tagged>(&[]);
    assert!(open.contains(&"New: Unknown".to_owned()), "{open:?}");
}

#[test]
fn an_enum_inside_a_variant_is_open() {
    #[derive(Deserialize)]
    #[serde(tag = "t")]
    enum SameTag {
        Event(Inner),
        End,
    }
    #[derive(Deserialize)]
    #[serde(tag = "t")]
    enum Inner {
        One { a: u8 },
    }
    #[derive(Deserialize)]
    #[serde(tag = "op")]
    enum OtherTag {
        Adjacent(Adjacent),
    }
    assert_eq!(compared::<SameTag>(&[json!({ "t": "End" })]), ["Event: Unknown"]);
    let unit = json!({ "op": "Adjacent", "t": "Unit" });
    let open = compared::<OtherTag>(&[json!({ "op": "Adjacent", "t": "New", "c": 1 }), unit]);
    assert!(!open.is_empty());
}

#[test]
fn a_name_of_another_variant_is_no_unknown_one() {
    #[derive(Deserialize)]
    enum Kind {
        Known {
            a: u8,
        },
        #[serde(other)]
        Unknown,
    }
    let open = compared::<Kind>(&[json!("x"), json!({ "Known": { "a": 1 } })]);
    assert!(open.is_empty(), "{open:?}");
    let schema = described::<Kind>().0;
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(!validator.is_valid(&json!("Known")), "{schema}");
}

#[test]
fn a_tagged_enum_with_a_variant_for_unknown_ones_is_described_by_what_it_writes() {
    #[derive(Deserialize, Serialize)]
    struct Log {
        first: Event,
        events: Vec<Event>,
        by_name: BTreeMap<String, Option<Event>>,
        count: u8,
    }
    #[derive(Deserialize, Serialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Event {
        OrderPlaced {
            article: u32,
            note: Option<String>,
        },
        #[serde(rename = "paid!", alias = "settled")]
        Paid(Amount),
        Cancelled,
        #[serde(other)]
        Unknown,
    }
    #[derive(Deserialize, Serialize)]
    struct Amount {
        cents: u64,
    }
    let placed = json!({ "type": "order_placed", "article": 1, "note": "x" });
    let paid = json!({ "type": "paid!", "cents": 5 });
    let open = compared_both::<Log>(&[
        json!({ "first": placed, "events": [placed, paid, { "type": "cancelled" }], "by_name": { "a": paid }, "count": 1 }),
        json!({ "first": { "type": "unknown" }, "events": [], "by_name": { "a": null }, "count": 0 }),
        json!({ "first": { "type": "moved", "to": [1] }, "events": [], "by_name": {}, "count": 0 }),
    ]);
    assert!(open.is_empty(), "{open:?}");
    let schema = describe_both::<Event>().to_json_schema();
    let tags: Vec<_> = schema["anyOf"].as_array().unwrap().iter().map(|part| &part["properties"]["type"]).collect();
    let known = json!(["order_placed", "paid!", "cancelled"]);
    let other = json!({ "type": "string", "not": { "enum": known } });
    assert_eq!(
        tags,
        [&json!({ "const": "order_placed" }), &json!({ "const": "paid!" }), &json!({ "const": "cancelled" }), &other]
    );
    // Only `Serialize` knows the names.
    assert_eq!(compared::<Event>(&[placed, paid]), [": Buffered"]);
}
