//! What types declare by schemars stands beside the shape that their `Deserialize` has.

use byname_schema::{SchemaDefinitions, ServiceSchema, TimeBudget, describe_both, describe_declared_within};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn declared<T: Serialize + DeserializeOwned + JsonSchema>() -> Value {
    describe_declared_within::<T>(&TimeBudget::default()).to_json_schema()
}

/// An order of a customer.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    /// Who has ordered.
    #[schemars(length(min = 1, max = 40), pattern("^[A-Z]"))]
    customer: String,
    /// How to reach them.
    #[schemars(email)]
    address: Option<String>,
    /// What was ordered.
    #[schemars(length(min = 1))]
    lines: Vec<Line>,
    /// The first one again.
    first: Line,
    #[serde(default)]
    #[schemars(range(max = 100))]
    discount: u8,
    state: State,
    payment: Payment,
}

/// One article.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Line {
    #[schemars(range(min = 1, max = 9))]
    quantity: u32,
    /// What is in the box.
    parts: Vec<Line>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum State {
    /// Nothing was sent.
    Open,
    Sent,
    /// It came back.
    Returned {
        /// Why it did.
        reason: String,
    },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
enum Payment {
    /// By card.
    Card {
        /// The last digits.
        #[schemars(length(equal = 4))]
        digits: String,
    },
    Cash,
}

#[test]
fn texts_formats_and_limits_are_those_that_the_type_declares() {
    let schema = declared::<Order>();
    let properties = &schema["properties"];
    assert_eq!(schema["description"], "An order of a customer.");
    assert_eq!(
        properties["customer"],
        json!({
            "type": "string",
            "description": "Who has ordered.",
            "x-declared": { "minLength": 1, "maxLength": 40, "pattern": "^[A-Z]" },
        })
    );
    let text = json!({ "type": "string", "x-declared": { "format": "email" } });
    assert_eq!(
        properties["address"],
        json!({ "anyOf": [text, { "type": "null" }], "description": "How to reach them." })
    );
    assert_eq!(
        properties["lines"],
        json!({
            "type": "array",
            "items": { "$ref": "#/$defs/Line" },
            "description": "What was ordered.",
            "x-declared": { "minItems": 1 },
        })
    );
    assert_eq!(properties["first"], json!({ "$ref": "#/$defs/Line", "description": "The first one again." }));
    assert_eq!(
        properties["discount"],
        json!({ "type": "integer", "minimum": 0, "maximum": 255, "default": 0, "x-declared": { "maximum": 100 } })
    );
    let line = &schema["$defs"]["Line"];
    assert_eq!(line["description"], "One article.");
    assert_eq!(line["properties"]["quantity"]["x-declared"], json!({ "minimum": 1, "maximum": 9 }));
    assert_eq!(line["properties"]["parts"]["description"], "What is in the box.");
    assert_eq!(
        properties["state"]["anyOf"],
        json!([
            { "enum": ["Open", "Sent"], "x-enumDescriptions": { "Open": "Nothing was sent." } },
            {
                "type": "object",
                "properties": { "Returned": {
                    "type": "object",
                    "properties": { "reason": { "type": "string", "description": "Why it did." } },
                    "required": ["reason"],
                } },
                "required": ["Returned"],
                "additionalProperties": false,
                "description": "It came back.",
            },
        ])
    );
    let card = &properties["payment"]["anyOf"][0];
    assert_eq!((&card["description"], &card["properties"]["by"]), (&json!("By card."), &json!({ "const": "card" })));
    assert_eq!(
        card["properties"]["digits"],
        json!({
            "type": "string",
            "description": "The last digits.",
            "x-declared": { "minLength": 4, "maxLength": 4 },
        })
    );
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Selector {
    /// By its number.
    Number(u32),
    /// By its name.
    Name { name: String },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "t", content = "c")]
enum Event {
    /// It moved.
    Moved(Place),
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Place(
    /// To the east.
    f64,
    #[schemars(range(min = -90.0, max = 90.0))] f64,
);

#[test]
fn variants_and_elements_have_theirs() {
    let selector = declared::<Selector>();
    assert_eq!(selector["anyOf"][0]["description"], "By its number.");
    assert_eq!(selector["anyOf"][1]["description"], "By its name.");
    let event = declared::<Event>();
    assert_eq!(event["description"], "It moved.", "{event:#}");
    let place = declared::<Place>();
    assert_eq!(place["prefixItems"][0]["description"], "To the east.");
    assert_eq!(place["prefixItems"][1]["x-declared"], json!({ "minimum": -90.0, "maximum": 90.0 }));
}

/// A type that reads something else than it declares.
#[derive(Serialize, Deserialize)]
struct Other {
    number: u8,
}

impl JsonSchema for Other {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Other".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "array", "description": "A list.", "items": { "minimum": 7 }, "minItems": 2 })
    }
}

/// A date, as this program writes it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", description = "A date.")]
struct Date(String);

impl TryFrom<String> for Date {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.starts_with("2026") { Ok(Self(text)) } else { Err("not a date of this year") }
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.0
    }
}

struct Broken;

impl Serialize for Broken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl<'de> Deserialize<'de> for Broken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bool::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Broken {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Broken".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        panic!("on purpose")
    }
}

#[test]
fn the_shape_is_the_one_that_is_read_whatever_is_declared() {
    let mut other = declared::<Other>();
    assert_eq!(other.as_object_mut().unwrap().remove("description"), Some(json!("A list.")));
    assert_eq!(other, describe_both::<Other>().to_json_schema());
    assert_eq!(declared::<Date>()["description"], "A date.");
    assert_eq!(declared::<Broken>(), json!({ "type": "boolean" }));
}

/// A service with one function.
fn service<T: Serialize + DeserializeOwned + JsonSchema>(is_declared: bool) -> ServiceSchema {
    let mut definitions = SchemaDefinitions::at("#/$defs/");
    let schema = match is_declared {
        true => definitions.add(&describe_declared_within::<T>(&TimeBudget::default())),
        false => definitions.add(&describe_both::<T>()),
    };
    let function = json!({
        "name": "f", "arguments": [{ "name": "a", "schema": schema, "required": true }], "returns": { "schema": true },
    });
    let document = json!({ "version": 1, "functions": [function], "$defs": definitions.into_map() });
    ServiceSchema::from_json(&document).unwrap()
}

#[test]
fn what_is_declared_stands_in_openapi_and_changes_nothing_for_a_comparison() {
    let (with, without) = (service::<Order>(true), service::<Order>(false));
    let openapi = with.to_openapi(None);
    assert_eq!(
        openapi["components"]["schemas"]["Order"]["properties"]["customer"],
        json!({
            "type": "string", "description": "Who has ordered.", "minLength": 1, "maxLength": 40, "pattern": "^[A-Z]",
        })
    );
    assert!(!openapi.to_string().contains("x-declared"));
    assert!(!openapi.to_string().contains("x-order") && !with.to_lock().contains("x-order"));
    assert_eq!(byname_schema::differences(&with, &without), []);
    assert_eq!(with.to_lock(), without.to_lock());
}

#[test]
fn members_have_the_order_of_the_type_where_not_all_are_required() {
    let schema = describe_both::<Order>().to_json_schema();
    assert_eq!(schema["x-order"], json!(["customer", "address", "lines", "first", "discount", "state", "payment"]));
}

#[test]
fn the_fingerprint_is_that_of_the_shape() {
    let declared = describe_declared_within::<Order>(&TimeBudget::default());
    assert_eq!(declared.fingerprint(), describe_both::<Order>().fingerprint());
}
