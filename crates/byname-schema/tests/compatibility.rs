//! Two versions of a service: what breaks is shown by a witness, and what is compatible is taken.

use byname_schema::{AcceptedBreaks, Difference, SchemaDefinitions, ServiceSchema, differences};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// A service with a function `f` that takes and returns values of this schema.
fn service(schema: &Value, definitions: &Value) -> ServiceSchema {
    let argument = json!({ "name": "a", "schema": schema, "required": true });
    let function = json!({ "name": "f", "arguments": [argument], "returns": { "schema": true } });
    ServiceSchema::from_json(&json!({ "version": 1, "functions": [function], "$defs": definitions })).unwrap()
}

fn validator(schema: &Value, definitions: &Value) -> Validator {
    // `allOf`, because the words beside a reference count too.
    jsonschema::validator_for(&json!({ "allOf": [schema], "$defs": definitions })).expect("a schema is valid")
}

/// The rules that old clients break, with the place.
fn broken(old: &Value, new: &Value) -> Vec<String> {
    let found = differences(&service(old, &json!({})), &service(new, &json!({})));
    let of =
        |difference: &Difference| difference.breaks_old_clients().map(|of| format!("{} {}", difference.place, of.rule));
    found.iter().filter_map(of).collect()
}

#[test]
fn each_kind_of_break_has_its_rule_and_its_place() {
    let object = |properties: Value, required: Value| json!({ "type": "object", "properties": properties, "required": required });
    let integer = |greatest: u64| json!({ "type": "integer", "minimum": 0, "maximum": greatest });
    let optional = |inner: Value| json!({ "anyOf": [inner, { "type": "null" }] });
    let list = |item: Value| json!({ "type": "array", "items": item });
    let closed =
        |properties: Value| json!({ "type": "object", "properties": properties, "additionalProperties": false });
    let kinds = [
        (integer(255), integer(127), "arguments.a range-narrower"),
        (list(integer(255)), list(integer(9)), "arguments.a[] range-narrower"),
        (optional(integer(9)), integer(9), "arguments.a null-refused"),
        (json!({ "type": "string" }), integer(9), "arguments.a type-differs"),
        (json!({ "type": "number" }), integer(9), "arguments.a type-differs"),
        (json!({ "enum": ["a", "b"] }), json!({ "enum": ["a"] }), "arguments.a variant-unknown"),
        (json!({ "type": "string" }), json!({ "enum": ["a"] }), "arguments.a text-narrower"),
        (json!({ "type": "string" }), json!({ "type": "string", "format": "uuid" }), "arguments.a text-narrower"),
        (
            object(json!({ "x": integer(9) }), json!([])),
            object(json!({ "x": integer(9) }), json!(["x"])),
            "arguments.a.x property-required",
        ),
        (
            list(object(json!({ "x": integer(9) }), json!(["x"]))),
            list(object(json!({ "x": integer(8), "y": true }), json!(["x"]))),
            "arguments.a[].x range-narrower",
        ),
        (object(json!({ "x": integer(9) }), json!([])), closed(json!({})), "arguments.a.x property-unknown"),
        (
            json!({ "type": "object", "properties": { "x": integer(9) }, "required": ["x"], "additionalProperties": false }),
            json!({ "type": "object", "properties": { "y": integer(9) }, "required": ["y"], "additionalProperties": false }),
            "arguments.a.x property-unknown arguments.a.y property-required",
        ),
        (
            list(json!(true)),
            json!({ "type": "array", "prefixItems": [true], "items": false, "minItems": 1 }),
            "arguments.a length-differs",
        ),
    ];
    for (old, new, expected) in kinds {
        assert_eq!(broken(&old, &new).join(" "), expected, "{old} -> {new}");
    }
}

#[test]
fn each_bound_that_became_narrower_is_named() {
    let integer = |least: i64, greatest: i64| json!({ "type": "integer", "minimum": least, "maximum": greatest });
    let list = |item: Value, least: u64, greatest: u64| json!({ "type": "array", "items": item, "minItems": least, "maxItems": greatest });
    let any = json!({ "type": "integer" });
    let without_zero = |of: Value| {
        let mut of = of;
        of["not"] = json!({ "const": 0 });
        of
    };
    let kinds = [
        (integer(i64::MIN, i64::MAX), integer(0, 255), &["numbers below 0 and above 255 are refused"][..]),
        (any.clone(), integer(-128, 127), &["numbers below -128 and above 127 are refused"]),
        (integer(0, 300), integer(0, 255), &["numbers above 255 are refused"]),
        (integer(-1, 9), integer(0, 9), &["numbers below 0 are refused"]),
        (integer(-9, 9), without_zero(integer(-9, 9)), &["0 is refused"]),
        (integer(-9, 9), without_zero(integer(-1, 1)), &["0 and numbers below -1 and above 1 are refused"]),
        (integer(0, 9), integer(1, 9), &["numbers below 1 are refused"]),
        (list(any.clone(), 0, 9), list(any.clone(), 2, 3), &["fewer than 2 and more than 3 items are refused"]),
        (
            list(integer(-1, 300), 0, 9),
            list(integer(0, 255), 0, 3),
            &["more than 3 items are refused", "numbers below 0 and above 255 are refused"],
        ),
    ];
    for (old, new, expected) in kinds {
        let found = differences(&service(&old, &json!({})), &service(&new, &json!({})));
        let why: Vec<_> = found.iter().filter_map(|of| Some(of.breaks_old_clients()?.why.as_str())).collect();
        assert_eq!(why, expected, "{old} -> {new}");
    }
}

#[test]
fn what_adds_is_compatible_for_old_clients() {
    let object = |properties: Value, required: Value| json!({ "type": "object", "properties": properties, "required": required });
    let kinds = [
        (json!({ "type": "integer", "minimum": 0, "maximum": 9 }), json!({ "type": "number" })),
        (object(json!({ "x": true }), json!(["x"])), object(json!({ "x": true, "y": true }), json!(["x"]))),
        (object(json!({ "x": true }), json!(["x"])), object(json!({}), json!([]))),
        (json!({ "enum": ["a"] }), json!({ "enum": ["b", "a"] })),
        (json!({ "type": "null" }), json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] })),
        // The same shape by another name.
        (
            json!({ "type": "array", "items": { "type": "string" } }),
            json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }] } }),
        ),
    ];
    for (old, new) in kinds {
        assert_eq!(broken(&old, &new), [""; 0], "{old} -> {new}");
    }
}

#[test]
fn a_schema_that_is_an_alternative_of_itself_is_compared() {
    let itself = json!({ "$ref": "#/$defs/P" });
    let of = |other: Value| service(&itself, &json!({ "P": { "anyOf": [{ "anyOf": [itself, itself] }, other] } }));
    let (null, text) = (of(json!({ "type": "null" })), of(json!({ "type": "string" })));
    // It means nothing, so nothing is claimed of it.
    assert_eq!(differences(&null, &text), []);
}

#[test]
fn a_type_is_compared_whatever_letters_its_name_has() {
    #[derive(serde::Deserialize)]
    struct Größe {
        _width: u8,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename = "Page<a/b~c> 100%")]
    struct Page {
        _items: Vec<Größe>,
    }
    let mut written = SchemaDefinitions::at("#/$defs/");
    let schema = written.add(&byname_schema::describe::<Page>());
    let mut definitions = written.into_map();
    let old = service(&schema, &json!(definitions));
    definitions.get_mut("Größe").unwrap()["properties"]["_width"]["maximum"] = json!(9);
    let found = differences(&old, &service(&schema, &json!(definitions)));
    let breaks: Vec<_> = found.iter().filter_map(Difference::breaks_old_clients).collect();
    assert_eq!(breaks.len(), 1, "{found:?}");
    assert_eq!(breaks[0].witness, Some(json!({ "a": { "_items": [{ "_width": 255 }] } })));
    assert_eq!(old.resolved(&schema), &old.definitions["Page<a/b~c> 100%"]);
}

#[test]
fn functions_and_arguments_are_compared_in_both_directions() {
    let argument =
        |name: &str, required: bool| json!({ "name": name, "schema": { "type": "string" }, "required": required });
    let function = |name: &str, arguments: Value, more: Value| {
        let mut function = json!({ "name": name, "arguments": arguments, "returns": { "schema": { "type": "null" } } });
        function.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        function
    };
    let of = |functions: Value| ServiceSchema::from_json(&json!({ "version": 1, "functions": functions })).unwrap();
    let old = of(json!([
        function("a", json!([argument("x", true)]), json!({ "readonly": true })),
        function("gone", json!([]), json!({})),
        function("moved", json!([argument("x", true), argument("y", true)]), json!({})),
        function("named", json!([]), json!({ "aliases": ["old_name"] })),
    ]));
    let new = of(json!([
        function("a", json!([argument("x", true), argument("note", false), argument("must", true)]), json!({})),
        function("moved", json!([argument("y", true), argument("x", true)]), json!({ "keyed": true })),
        function("renamed", json!([]), json!({ "aliases": ["named"] })),
        function("added", json!([]), json!({})),
    ]));
    let told: Vec<_> = differences(&old, &new)
        .iter()
        .map(|difference| {
            let rule = |of: Option<&byname_schema::Break>| of.map_or("-", |of| of.rule);
            let Difference { function, place, .. } = difference;
            let (old, new) = (rule(difference.breaks_old_clients()), rule(difference.breaks_new_clients()));
            format!("{function} {place}: {old} {new}")
        })
        .collect();
    assert_eq!(
        told,
        [
            "a : readonly-removed -",
            "a arguments.must: argument-required argument-unknown",
            "a arguments.note: - argument-unknown",
            "added : - function-missing",
            "gone : function-missing -",
            "moved : keyed-added -",
            "moved arguments.x: argument-moved argument-moved",
            "moved arguments.y: argument-moved argument-moved",
            "old_name : function-missing -",
            "renamed : - function-missing",
        ]
    );
    let witness = differences(&old, &new)[1].breaks_old_clients().unwrap().witness.clone();
    assert_eq!(witness, Some(json!({ "x": "text" })));
}

/// The texts of what breaks old clients whose argument is of the first type, where the second one is taken.
fn broken_texts(old: &Value, new: &Value, definitions: &Value) -> Vec<String> {
    let found = differences(&service(old, definitions), &service(new, definitions));
    found.iter().filter_map(Difference::breaks_old_clients).map(ToString::to_string).collect()
}

#[test]
fn ranges_beyond_64_bits_are_compared() {
    let of = |schema: byname_schema::TypeSchema| schema.to_json_schema();
    let (u64s, i64s) = (of(byname_schema::describe::<u64>()), of(byname_schema::describe::<i64>()));
    let (u128s, i128s) = (of(byname_schema::describe::<u128>()), of(byname_schema::describe::<i128>()));
    let rule = |old: &Value, new: &Value| {
        let found = broken_texts(old, new, &json!({}));
        found.iter().filter(|text| text.contains("[range-narrower]")).count()
    };
    assert_eq!([rule(&u128s, &u64s), rule(&i128s, &i64s), rule(&i128s, &u128s)], [1, 1, 1]);
    assert_eq!([rule(&u64s, &u128s), rule(&i64s, &i128s), rule(&u64s, &i128s)], [0, 0, 0]);
}

#[test]
fn nothing_is_claimed_of_what_is_sent_if_that_is_not_known() {
    let (open, any, number) = (json!(true), json!({}), json!({ "type": "integer" }));
    assert_eq!(broken_texts(&open, &number, &json!({})), [""; 0]);
    let any = broken_texts(&any, &number, &json!({}));
    assert!(any.len() == 1 && any[0].contains("any value is sent, and a whole number is expected"), "{any:?}");
    assert_eq!(broken_texts(&number, &open, &json!({})), [""; 0]);
}

/// Types that contain the next one in these fields, down to a number of this size.
fn nested(levels: usize, fields: &[&str], greatest: u32) -> Value {
    let object = |level: usize| {
        let properties: serde_json::Map<_, _> = fields
            .iter()
            .map(|field| ((*field).to_owned(), json!({ "$ref": format!("#/$defs/L{}", level + 1) })))
            .collect();
        json!({ "type": "object", "properties": properties, "required": fields })
    };
    let mut definitions: serde_json::Map<_, _> =
        (0..levels).map(|level| (format!("L{level}"), object(level))).collect();
    definitions.insert(format!("L{levels}"), json!({ "type": "integer", "minimum": 0, "maximum": greatest }));
    definitions.into()
}

#[test]
fn a_break_deep_inside_is_found_with_its_witness_and_one_in_many_places_without() {
    let service = |definitions: &Value| service(&json!({ "$ref": "#/$defs/L0" }), definitions);
    let breaks = |levels, fields: &[&str]| {
        let (old, new) = (service(&nested(levels, fields, 255)), service(&nested(levels, fields, 9)));
        differences(&old, &new).iter().filter_map(Difference::breaks_old_clients).cloned().collect::<Vec<_>>()
    };
    let deep = breaks(30, &["a"]);
    assert!(deep.len() == 1 && deep[0].rule == "range-narrower" && deep[0].witness.is_some(), "{deep:?}");
    // A value has 3 to the power of 20 numbers.
    let wide = breaks(20, &["a", "b", "c"]);
    assert!(!wide.is_empty() && wide.iter().all(|of| of.witness.is_none()), "{}", wide.len());
    let endless = json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/L0" } }, "required": ["a"] });
    let none = differences(&service(&json!({ "L0": endless })), &service(&json!({ "L0": { "type": "boolean" } })));
    assert!(none.iter().all(|of| of.breaks_old_clients().is_none()), "a type without values breaks nothing: {none:?}");
}

#[test]
fn an_argument_that_may_no_longer_be_left_out_is_told_before_its_null() {
    let of = |required: bool, schema: Value| {
        ServiceSchema::from_json(&json!({ "version": 1, "functions": [{
            "name": "f", "arguments": [{ "name": "a", "schema": schema, "required": required }], "returns": { "schema": true },
        }] }))
        .unwrap()
    };
    let number = json!({ "type": "integer" });
    let found = differences(&of(false, json!({ "anyOf": [number, { "type": "null" }] })), &of(true, number.clone()));
    let breaks: Vec<_> = found
        .iter()
        .filter_map(Difference::breaks_old_clients)
        .map(|of| (of.rule, of.witness.clone().unwrap()))
        .collect();
    assert_eq!(breaks, [("argument-required", json!({})), ("null-refused", json!({ "a": null }))]);
}

#[test]
fn a_variant_for_unknown_ones_hides_no_change_of_a_known_one() {
    use serde::{Deserialize, Serialize};
    #[derive(Deserialize, Serialize)]
    #[serde(tag = "t")]
    enum Wide {
        A {
            x: u32,
        },
        B,
        #[serde(other)]
        Other,
    }
    #[derive(Deserialize, Serialize)]
    #[serde(tag = "t")]
    enum Narrow {
        A {
            x: u16,
        },
        #[serde(other)]
        Other,
    }
    #[derive(Deserialize, Serialize)]
    #[serde(tag = "t")]
    enum Strict {
        A { x: u32 },
    }
    let wide = byname_schema::describe_both::<Wide>().to_json_schema();
    let narrow = byname_schema::describe_both::<Narrow>().to_json_schema();
    let strict = byname_schema::describe_both::<Strict>().to_json_schema();
    let broken = broken_texts(&wide, &narrow, &json!({}));
    assert!(broken.len() == 1 && broken[0].contains("above 65535"), "only A, because B is read as unknown: {broken:?}");
    assert_eq!(broken_texts(&narrow, &wide, &json!({})), [""; 0]);
    assert_eq!(broken_texts(&strict, &wide, &json!({})), [""; 0]);
    let broken = broken_texts(&wide, &strict, &json!({}));
    assert!(broken.len() == 1 && broken[0].contains("the variant `B` is not known"), "{broken:?}");
}

#[test]
fn all_breaks_of_one_place_are_found() {
    let (old, new) = (json!({ "enum": ["A", "B", "C"] }), json!({ "enum": ["A"] }));
    let found = broken_texts(&old, &new, &json!({}));
    assert!(found.len() == 2 && found[0].contains("`B`") && found[1].contains("`C`"), "{found:?}");
}

#[test]
fn witnesses_of_types_that_contain_themselves_are_small_and_long_ones_are_cut_in_a_text() {
    let node = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "next": { "anyOf": [{ "$ref": "#/$defs/Node" }, { "type": "null" }] } },
        "required": ["name", "next"],
    });
    let old = json!({ "type": "array", "items": { "$ref": "#/$defs/Node" } });
    let found = broken_texts(&old, &json!({ "type": "boolean" }), &json!({ "Node": node }));
    assert!(found[0].len() < 200, "{found:?}");
    let fields: serde_json::Map<_, _> =
        (0..100).map(|at| (format!("field{at}"), json!({ "type": "string" }))).collect();
    let names: Vec<_> = fields.keys().cloned().collect();
    let wide = json!({ "type": "object", "properties": fields, "required": names });
    let found = broken_texts(&wide, &json!({ "type": "boolean" }), &json!({}));
    assert!(found[0].ends_with('…') && found[0].chars().count() < 300, "{found:?}");
}

#[test]
fn a_lock_file_says_what_it_seems_to_say() {
    let document = |schema: Value, definitions: Value| {
        let function = json!({
            "name": "f", "arguments": [{ "name": "a", "required": true, "schema": schema }], "returns": { "schema": true }
        });
        json!({ "version": 1, "functions": [function], "$defs": definitions }).to_string()
    };
    let wrong = [
        (
            json!({ "$ref": "#/$defs/Line" }),
            json!({ "Lime": true }),
            "`functions[0].arguments[0].schema.$ref`: \"#/$defs/Line\" names no",
        ),
        (json!({ "$ref": "other.json" }), json!({}), "schema.$ref`: \"other.json\" names no"),
        (json!({ "anyOf": [{ "type": "strin" }] }), json!({}), "schema.anyOf[0].type`: \"strin\" is not a type"),
        (json!({ "type": ["string", "any"] }), json!({}), "\"any\" is not a type"),
        (
            json!(true),
            json!({ "Line": { "type": "object", "properties": { "n": { "type": 7 } } } }),
            "`$defs.Line.properties.n.type`: 7",
        ),
        (json!({ "items": "x" }), json!({}), "schema.items`: expected a schema"),
    ];
    for (schema, definitions, expected) in wrong {
        let why = ServiceSchema::from_text(&document(schema, definitions)).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }
    let schema = json!({ "type": ["string", "array"], "items": { "$ref": "#/$defs/Gr%C3%B6%C3%9Fe" }, "x-note": { "type": "new" } });
    ServiceSchema::from_text(&document(schema, json!({ "Größe": {} }))).unwrap();
}

#[test]
fn an_accepted_break_names_its_rule_and_its_place() {
    let (old, new) = (json!({ "type": "string" }), json!({ "type": "boolean" }));
    let found = differences(&service(&old, &json!({})), &service(&new, &json!({})));
    let accepted = AcceptedBreaks::parse("type-differs f arguments.a: it was never used\n").unwrap();
    assert!(accepted.accept(&found[0], found[0].breaks_old_clients().unwrap()));
    assert_eq!(accepted.reason(&found[0], found[0].breaks_old_clients().unwrap()), Some("it was never used"));
    let other = AcceptedBreaks::parse("type-differs f arguments.b: it was never used\n").unwrap();
    assert!(!other.accept(&found[0], found[0].breaks_old_clients().unwrap()));
    assert_eq!(other.unused(&found), ["type-differs f arguments.b: it was never used"]);
    for wrong in ["type-differs f arguments.a", "type-differs f arguments.a: ", "f: why", "a b c d: why"] {
        assert!(AcceptedBreaks::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn files_are_read_as_editors_and_git_leave_them() {
    let written = service(&json!({ "type": "string" }), &json!({})).to_lock();
    let edited = format!("\u{feff}{}", written.replace('\n', "\r\n"));
    assert_eq!(ServiceSchema::from_text(&edited).unwrap().to_lock(), written);
    let accepted = "\u{feff}# May\r\ntype-differs f arguments.a: it was never used\r\n";
    assert_eq!(AcceptedBreaks::parse(accepted), AcceptedBreaks::parse("type-differs f arguments.a: it was never used"));
}

#[test]
fn a_lock_file_is_read_as_what_it_was_written_from() {
    let schema = json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/X" } }, "required": ["x"] });
    let definitions = json!({ "X": { "enum": ["a".repeat(60), "b".repeat(60)] } });
    let service = service(&schema, &definitions);
    let lock = service.to_lock();
    assert!(lock.lines().all(|line| line.chars().count() <= 140), "{lock}");
    assert_eq!(differences(&ServiceSchema::from_text(&lock).unwrap(), &service), []);
    assert_eq!(ServiceSchema::from_text(&lock).unwrap().to_lock(), lock);
    for wrong in ["", "[]", "{}", r#"{"version":2,"functions":[]}"#, r#"{"version":1}"#] {
        assert!(ServiceSchema::from_text(wrong).is_err(), "{wrong}");
    }
}

/// How many pairs of random schemas are compared, and how many values of each.
const PAIRS: usize = 2_000;
const VALUES: usize = 1_000;

#[test]
fn compatible_values_are_taken_and_witnesses_are_refused() {
    let (mut compatible, mut broken) = (0, 0);
    for seed in 0..PAIRS {
        let mut random = Random(seed as u64 + 1);
        let old = RandomService::new(&mut random);
        let new = match random.below(4) {
            0 => RandomService::new(&mut random),
            _ => old.changed(&mut random),
        };
        let found = differences(&service(&old.schema, &old.definitions), &service(&new.schema, &new.definitions));
        let (of_old, of_new) = (validator(&old.schema, &old.definitions), validator(&new.schema, &new.definitions));
        let directions = [
            (&old, &of_old, &of_new, found.iter().filter_map(Difference::breaks_old_clients).collect::<Vec<_>>()),
            (&new, &of_new, &of_old, found.iter().filter_map(Difference::breaks_new_clients).collect::<Vec<_>>()),
        ];
        for (writer, of_writer, of_reader, breaks) in directions {
            let told = || {
                format!(
                    "seed {seed}: {} with {} -> {} with {}",
                    old.schema, old.definitions, new.schema, new.definitions
                )
            };
            for of in &breaks {
                let witness = &of.witness.as_ref().unwrap()["a"];
                assert!(of_writer.is_valid(witness), "it is not sent: {of}, {}", told());
                assert!(!of_reader.is_valid(witness), "it is taken: {of}, {}", told());
            }
            broken += usize::from(!breaks.is_empty());
            if breaks.is_empty() {
                compatible += 1;
                for _ in 0..VALUES {
                    if let Some(value) = writer.written(&writer.schema, &mut random, 6) {
                        assert!(of_writer.is_valid(&value), "{value} is not one of {}", told());
                        assert!(of_reader.is_valid(&value), "{value} is refused, {}", told());
                    }
                }
            }
        }
    }
    println!("{compatible} directions are compatible, {broken} are broken");
    assert!(compatible > PAIRS / 10 && broken > PAIRS / 10, "{compatible} and {broken}");
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

#[derive(Clone, Debug)]
struct RandomService {
    schema: Value,
    definitions: Value,
}

const NAMES: [&str; 4] = ["w", "x", "y", "z"];

impl RandomService {
    fn new(random: &mut Random) -> Self {
        let definitions = json!({ "P": schema(random, 2), "Q": schema(random, 2) });
        Self { schema: schema(random, 3), definitions }
    }

    /// The same with a change in one place.
    fn changed(&self, random: &mut Random) -> Self {
        let mut new = self.clone();
        let at = random.below(8);
        if change(&mut new.schema, at, random).is_some() {
            change(&mut new.definitions["P"], random.below(4), random);
        }
        new
    }

    /// A value that a writer of this schema sends.
    fn written(&self, schema: &Value, random: &mut Random, room: usize) -> Option<Value> {
        let room = room.checked_sub(1)?;
        if let Some(name) = schema["$ref"].as_str() {
            return self.written(&self.definitions[&name["#/$defs/".len()..]], random, room);
        }
        if schema == &json!({}) {
            return Some(
                [json!(null), json!(7), json!("text"), json!([true]), json!({ "q": 1 })][random.below(5) as usize]
                    .clone(),
            );
        }
        if let Some(parts) = schema["anyOf"].as_array() {
            let from = random.below(parts.len() as u64) as usize;
            return (0..parts.len()).find_map(|at| self.written(&parts[(from + at) % parts.len()], random, room));
        }
        if let Some(words) = schema["enum"].as_array() {
            return Some(words[random.below(words.len() as u64) as usize].clone());
        }
        if let Some(word) = schema.get("const") {
            return Some(word.clone());
        }
        Some(match schema["type"].as_str()? {
            "null" => Value::Null,
            "boolean" => json!(random.below(2) == 0),
            "number" => json!(random.below(100) as f64 + 0.5),
            "string" if schema["maxLength"] == 1 => json!(random.one_of(&["a", "ß"])),
            "string" => json!(random.one_of(&["", "a", "text", "long text"])),
            "integer" => {
                let (least, greatest) = (schema["minimum"].as_i64()?, schema["maximum"].as_i64()?);
                json!(
                    [least, greatest, least + random.below((greatest - least) as u64 + 1) as i64]
                        [random.below(3) as usize]
                )
            }
            "array" => {
                let first = schema["prefixItems"].as_array().cloned().unwrap_or_default();
                let more = if schema["items"] == json!(false) { 0 } else { random.below(3) as usize };
                let schemas = first.iter().chain(std::iter::repeat_n(&schema["items"], more));
                let items: Option<Vec<_>> = schemas.map(|item| self.written(item, random, room)).collect();
                match items {
                    Some(items) => Value::Array(items),
                    None if first.is_empty() => json!([]),
                    None => return None,
                }
            }
            _ => {
                let mut members = Map::new();
                for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                    let is_needed = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
                    if is_needed || random.below(2) == 0 {
                        match self.written(property, random, room) {
                            Some(value) => drop(members.insert(name.clone(), value)),
                            None if is_needed => return None,
                            None => {}
                        }
                    }
                }
                if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
                    members.extend(self.written(values, random, room).map(|value| ("key".to_owned(), value)));
                }
                Value::Object(members)
            }
        })
    }
}

fn schema(random: &mut Random, room: usize) -> Value {
    let kinds = if room == 0 { 7 } else { 14 };
    match random.below(kinds) {
        0 => json!({ "type": "string" }),
        1 => {
            let least = [0, 0, -128][random.below(3) as usize];
            let greatest = [127, 255, 65535][random.below(3) as usize];
            json!({ "type": "integer", "minimum": least, "maximum": greatest })
        }
        2 => json!({ "type": "boolean" }),
        3 => json!({ "type": "number" }),
        4 => json!({ "enum": [random.one_of(&["a", "b"]), random.one_of(&["c", "d"])] }),
        5 => json!({ "$ref": random.one_of(&["#/$defs/P", "#/$defs/Q"]) }),
        6 => [json!({}), json!({ "type": "string", "minLength": 1, "maxLength": 1 })][random.below(2) as usize].clone(),
        7 => json!({ "type": "array", "items": schema(random, room - 1) }),
        8 => {
            json!({ "type": "array", "prefixItems": [schema(random, room - 1), schema(random, room - 1)], "items": false, "minItems": 2 })
        }
        9 => json!({ "anyOf": [schema(random, room - 1), { "type": "null" }] }),
        10 => json!({ "type": "object", "additionalProperties": schema(random, room - 1) }),
        // An enum with a tag, and one with the content behind its name.
        11 => {
            let variant = |random: &mut Random, name: &str| json!({ "type": "object", "properties": { "t": { "const": name }, "v": schema(random, room - 1) }, "required": ["t", "v"] });
            json!({ "anyOf": [variant(random, "A"), variant(random, "B")] })
        }
        12 => {
            let variant = |random: &mut Random, name: &str| json!({ "type": "object", "properties": { name: schema(random, room - 1) }, "required": [name], "additionalProperties": false });
            json!({ "anyOf": [variant(random, "A"), variant(random, "B"), { "enum": ["C"] }] })
        }
        _ => {
            let mut object = json!({ "type": "object", "properties": {} });
            for name in NAMES {
                if random.below(2) == 0 {
                    object["properties"][name] = schema(random, room - 1);
                    if random.below(2) == 0 {
                        match &mut object["required"] {
                            Value::Array(names) => names.push(json!(name)),
                            none => *none = json!([name]),
                        }
                    }
                }
            }
            if random.below(3) == 0 {
                object["additionalProperties"] = json!(false);
            }
            object
        }
    }
}

/// Changes the schema, or the part of it that is `at` steps inside. What is left of the steps, if it has no such part.
fn change(of: &mut Value, at: u64, random: &mut Random) -> Option<u64> {
    if at == 0 {
        match random.below(5) {
            0 if of["properties"].is_object() => {
                let name = random.one_of(&NAMES);
                of["properties"][name] = schema(random, 1);
            }
            1 if of["required"]
                .as_array()
                .is_some_and(|names| names.iter().any(|name| NAMES.contains(&name.as_str().unwrap()))) =>
            {
                of["required"].as_array_mut().unwrap().retain(|name| !NAMES.contains(&name.as_str().unwrap()));
            }
            2 if of["maximum"].is_u64() => of["maximum"] = json!(1000),
            3 => *of = json!({ "anyOf": [of.clone(), { "type": "null" }] }),
            _ => *of = schema(random, 1),
        }
        return None;
    }
    let mut left = at - 1;
    let parts: Vec<&mut Value> = match of {
        Value::Object(members) => members
            .iter_mut()
            .flat_map(|(name, member)| match (name.as_str(), member) {
                ("properties", Value::Object(properties)) => {
                    properties.values_mut().filter(|of| of.get("const").is_none()).collect()
                }
                ("anyOf" | "prefixItems", Value::Array(parts)) => parts.iter_mut().collect(),
                ("items" | "additionalProperties", part @ Value::Object(_)) => vec![part],
                _ => Vec::new(),
            })
            .collect(),
        _ => Vec::new(),
    };
    for part in parts {
        left = change(part, left, random)?;
    }
    Some(left)
}
