//! What a server says of its functions: `Server::schema`, `GET /rpc/!schema`.

use byname::{Client, Code, Server, ServiceSchema, Streaming, Transport, rpc};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::harness::{Running, get, post, raw, verb};

#[derive(Serialize, Deserialize)]
struct Order {
    customer: String,
    lines: Vec<Line>,
    #[serde(default)]
    express: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    article: u32,
    quantity: std::num::NonZeroU8,
    parts: Option<Vec<Line>>,
}

#[derive(Serialize, Deserialize, byname::MethodError)]
enum OrderError {
    SoldOut { article: u32 },
    Closed,
}

impl std::fmt::Display for OrderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no order")
    }
}

mod stock {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Line {
        place: char,
    }

    /// Where it is.
    #[rpc(readonly)]
    pub(super) async fn find(article: u32) -> Option<Line> {
        (article == 7).then_some(Line { place: 'a' })
    }
}

/// Places an order.
#[rpc(alias = "orders.new", keyed, name = "orders.place", timeout = "3s")]
async fn place(order: Order, #[rpc(default = 2)] tries: u8) -> Result<u64, OrderError> {
    match order.lines.is_empty() {
        true => Err(OrderError::Closed),
        false => Ok(u64::from(tries)),
    }
}

#[rpc(readonly)]
fn watch(from: Option<i64>) -> impl Stream<Item = Percent> {
    futures_util::stream::iter(from.into_iter().map(|_| Percent(1)))
}

#[rpc]
async fn total(numbers: Streaming<i32>) -> i32 {
    drop(numbers);
    0
}

#[derive(Serialize, Deserialize)]
#[serde(try_from = "u8")]
struct Percent(u8);

impl TryFrom<u8> for Percent {
    type Error = String;
    fn try_from(value: u8) -> Result<Self, String> {
        if value <= 100 { Ok(Self(value)) } else { Err(format!("{value} is more than all")) }
    }
}

fn orders() -> Server {
    Server::new().method::<place>().method::<stock::find>().method::<watch>().method::<total>()
}

/// The function of this name in a document.
fn function<'d>(document: &'d Value, name: &str) -> &'d Value {
    let mut functions = document["functions"].as_array().unwrap().iter();
    functions.find(|function| function["name"] == name).unwrap_or_else(|| panic!("{name} is not in {document:#}"))
}

#[test]
fn a_function_is_described_with_its_types() {
    let schema = orders().schema();
    let document = &schema.to_json();
    assert_eq!(
        function(document, "orders.place"),
        &json!({
            "name": "orders.place",
            "aliases": ["orders.new"],
            "doc": "Places an order.",
            "signature": "orders.place(order: Order, tries: u8 = 2) -> Result<u64, OrderError>",
            "arguments": [
                { "name": "order", "type": "Order", "required": true, "schema": { "$ref": "#/$defs/Order" } },
                {
                    "name": "tries", "type": "u8", "required": false, "default": 2,
                    "schema": { "type": "integer", "minimum": 0, "maximum": 255 },
                },
            ],
            "returns": {
                "type": "Result<u64, OrderError>",
                "schema": { "type": "integer", "minimum": 0, "maximum": u64::MAX },
            },
            "error": { "schema": { "$ref": "#/$defs/OrderError" } },
            "keyed": true,
            "fingerprint": "3ecd7e2750903e61684908027d374ab9",
            "timeout_ms": 3000,
            "priority": "default",
            "source": { "package": "byname", "module": "functions::schema" },
        })
    );
    let line = json!({ "$ref": "#/$defs/Line" });
    assert_eq!(
        document["$defs"]["Order"],
        json!({
            "type": "object",
            "properties": {
                "customer": { "type": "string" },
                "lines": { "type": "array", "items": line },
                "express": { "type": "boolean" },
            },
            "required": ["customer", "lines"],
            "x-order": ["customer", "lines", "express"],
        })
    );
    assert_eq!(document["$defs"]["Line"]["required"], json!(["article", "quantity"]));
    assert_eq!(document["$defs"]["Line"]["properties"]["parts"]["anyOf"][0]["items"], line);
    // Another type of the same name.
    assert_eq!(document["$defs"]["Line2"]["required"], json!(["place"]));
    assert_eq!(
        function(document, "find")["returns"]["schema"],
        json!({ "anyOf": [{ "$ref": "#/$defs/Line2" }, { "type": "null" }] })
    );
    let watch = function(document, "watch");
    assert_eq!((&watch["streams"], &watch["arguments"][0]["required"]), (&json!(true), &json!(false)));
    assert_eq!(function(document, "total")["takes"]["schema"]["minimum"], json!(i32::MIN));
    assert_eq!(schema.open(), ["watch: returns (it refuses some values of its shape, as by `try_from`)"]);
}

#[test]
fn a_type_that_writes_something_else_than_it_reads_is_open() {
    #[derive(Serialize, Deserialize)]
    struct Reading {
        #[serde(serialize_with = "as_text")]
        value: u16,
        wide: (u128, i128),
        parts: Vec<Option<f32>>,
        nothing: (),
    }
    fn as_text<S: serde::Serializer>(value: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }
    #[rpc]
    async fn read() -> Reading {
        Reading { value: 1, wide: (1, 1), parts: Vec::new(), nothing: () }
    }
    #[rpc]
    async fn copy(bytes: byname::Bytes) -> Result<byname::Bytes, OrderError> {
        Ok(bytes)
    }
    let schema = Server::new().method::<read>().method::<copy>().schema();
    let open: Vec<_> = schema.open().iter().filter(|open| open.contains("writes something else")).collect();
    assert_eq!(open, ["read: returns.value (it writes something else than it reads, as by `serialize_with`)"]);
}

#[rpc]
async fn fails() -> Result<u8, byname::Error> {
    Ok(1)
}

#[rpc]
async fn fails_inside() -> Result<u8, byname::Internal> {
    Ok(1)
}

#[test]
fn an_error_of_the_library_is_no_own_error() {
    let schema = Server::new().method::<fails>().method::<fails_inside>().schema();
    let document = schema.to_json();
    for name in ["fails", "fails_inside"] {
        let function = function(&document, name);
        assert!(function["error"].is_null() && function["fingerprint"].is_string(), "{function:#}");
    }
    assert!(schema.open().is_empty());
}

#[test]
fn a_function_without_an_attribute_is_described_but_for_its_result() {
    let greet = |name: String, loud: Option<bool>| async move { format!("{name}{loud:?}") };
    let schema = Server::new().function(("greet", ["name", "loud"]), greet).schema();
    let document = schema.to_json();
    let arguments = &function(&document, "greet")["arguments"];
    assert_eq!(arguments[0]["schema"], json!({ "type": "string" }));
    assert_eq!(arguments[1]["required"], json!(false));
    assert_eq!(schema.open(), ["greet: returns (what it takes is not known)"]);
}

#[test]
fn a_fingerprint_is_equal_if_only_the_names_of_types_differ() {
    #[derive(Serialize, Deserialize)]
    struct Purchase {
        lines: Vec<Item>,
        customer: String,
        #[serde(default)]
        express: bool,
    }
    #[derive(Serialize, Deserialize)]
    struct Item {
        quantity: std::num::NonZeroU8,
        article: u32,
        parts: Option<Vec<Item>>,
    }
    #[rpc]
    async fn buy(order: Purchase, #[rpc(default = 2)] tries: u8) -> Result<u64, OrderError> {
        drop(order);
        Ok(tries.into())
    }
    #[rpc]
    async fn buy_often(order: Purchase, #[rpc(default = 3)] tries: u8) -> Result<u64, OrderError> {
        drop(order);
        Ok(tries.into())
    }
    let schema = orders().method::<buy>().method::<buy_often>().schema();
    let document = schema.to_json();
    let print = |name| &function(&document, name)["fingerprint"];
    assert!(print("buy").is_string());
    assert_eq!(print("buy"), print("orders.place"));
    assert_ne!(print("buy"), print("buy_often"));
    assert!(print("watch").is_null(), "an item is open");
}

#[derive(Serialize, Deserialize)]
struct Explosive(#[serde(deserialize_with = "explode")] u8);

fn explode<'de, D: serde::Deserializer<'de>>(_: D) -> Result<u8, D::Error> {
    panic!("on purpose")
}

#[test]
fn a_type_whose_code_panics_is_open() {
    let schema = Server::new().function("take", |_: Explosive| async {}).schema();
    assert_eq!(function(&schema.to_json(), "take")["arguments"][0]["schema"], json!(true));
    assert_eq!(schema.open()[0], "take: arguments.arg0 (its code has panicked)");
}

#[tokio::test]
async fn the_document_is_at_a_page_for_those_who_may_learn_names() {
    let running = Running::new(orders()).await;
    let answer = raw(running.address, get("/rpc/!schema")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(document, orders().schema().to_json());
    let called = raw(running.address, post("/rpc/!schema", "{}")).await;
    assert_eq!(serde_json::from_str::<Value>(&called.body).unwrap(), document);
    let refused = raw(running.address, verb("DELETE", "/rpc/!schema", "")).await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, OPTIONS"), "{}", refused.body);
    // A proxy has passed it on, so its caller may be anywhere.
    let forwarded = raw(running.address, verb("GET", "/rpc/!schema", "x-forwarded-for: 192.0.2.1\r\n")).await;
    let unknown = raw(running.address, verb("GET", "/rpc/!scheme", "x-forwarded-for: 192.0.2.1\r\n")).await;
    assert_eq!(forwarded.status, unknown.status);
    assert_eq!(forwarded.body, unknown.body.replace("!scheme", "!schema"));
    assert!(!forwarded.body.contains("orders"), "{}", forwarded.body);
}

#[tokio::test]
async fn a_server_without_a_listing_has_no_such_page() {
    let running = Running::new(orders().listing(false)).await;
    let answer = raw(running.address, get("/rpc/!schema")).await;
    let unknown = raw(running.address, get("/rpc/!scheme")).await;
    assert_eq!((answer.status, answer.body), (unknown.status, unknown.body.replace("!scheme", "!schema")));
}

#[tokio::test]
async fn a_caller_sees_the_functions_that_it_may_call() {
    let is_ours = |request: &byname::Request| request.header("x-team") == Some("orders");
    let running = Running::new(orders().allow("orders.*", is_ours).allow("*", |_| true)).await;
    let names = async |headers| {
        let answer = raw(running.address, verb("GET", "/rpc/!schema", headers)).await;
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        let functions = document["functions"].as_array().unwrap().iter();
        functions.map(|function| function["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["find", "watch", "total"]);
    assert_eq!(names("x-team: orders\r\n").await, ["orders.place", "find", "watch", "total"]);
}

#[tokio::test]
async fn a_client_asks_for_the_schema_by_every_way() {
    let running = Running::new(orders()).await;
    let expected = orders().schema();
    assert_eq!(ServiceSchema::from_json(&expected.to_json()), Ok(expected.clone()));
    let clients = [
        Client::builder(running.address.to_string()).transport(Transport::Http).build().unwrap(),
        Client::new(running.address.to_string()).unwrap(),
        Client::local(&orders()).unwrap(),
        Client::new(running.address.to_string()).unwrap().prefix("orders"),
    ];
    for client in clients {
        // The second call goes by the path or by frames.
        for _ in 0..2 {
            assert_eq!(client.schema().await.unwrap(), expected, "{client:?}");
        }
    }
    let closed = Running::new(orders().listing(false)).await;
    let refused = Client::new(closed.address.to_string()).unwrap().schema().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");
}

/// Is left out of documents.
#[rpc(hidden)]
async fn restock(article: u32) -> u32 {
    article
}

#[deprecated = "use orders.place"]
#[rpc]
async fn order(article: u32) -> u32 {
    article
}

#[deprecated(since = "1.0.0", note = "nothing replaces it")]
#[rpc]
async fn count() -> u32 {
    0
}

#[tokio::test]
async fn hidden_functions_are_not_told_of_and_deprecated_ones_say_so() {
    #[allow(deprecated, reason = "that is the subject")]
    let server = || Server::new().method::<restock>().method::<order>().method::<count>().method::<total>();
    let schema = server().schema();
    let told: Vec<_> = schema.functions.iter().map(|of| (&*of.name, of.deprecated.as_deref())).collect();
    assert_eq!(told, [("order", Some("use orders.place")), ("count", Some("nothing replaces it")), ("total", None)]);
    assert_eq!(schema.to_openapi(None)["paths"]["/order"]["post"]["deprecated"], true);
    let client = Client::local(&server()).unwrap();
    assert_eq!(client.call::<u32>("restock", (7,)).await.unwrap(), 7, "it can be called");
    let unknown = client.call::<u32>("restok", (7,)).await.unwrap_err().to_string();
    assert!(!unknown.contains("restock"), "{unknown}");
}

#[tokio::test]
async fn the_service_is_described_as_openapi_and_as_openrpc() {
    let running = Running::new(orders()).await;
    let page = async |name: &str| -> Value {
        let answer = raw(running.address, get(name)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    };
    let openapi = page("/rpc/!openapi.json").await;
    assert_eq!(openapi["servers"][0]["url"], "/rpc");
    let place = &openapi["paths"]["/orders.place"];
    assert!(place["get"].is_null() && place["post"]["parameters"][0]["name"] == "idempotency-key", "{place:#}");
    let body = &place["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["properties"]["order"]["$ref"], "#/components/schemas/Order");
    assert_eq!((&body["required"], &body["properties"]["tries"]["default"]), (&json!(["order"]), &json!(2)));
    let find = &openapi["paths"]["/find"]["get"];
    assert_eq!(find["parameters"][0]["schema"]["maximum"], u32::MAX);
    let openrpc = page("/rpc/!openrpc.json").await;
    let names: Vec<_> = openrpc["methods"].as_array().unwrap().iter().map(|method| &method["name"]).collect();
    assert_eq!(names, ["orders.place", "find"], "no streams");
    assert_eq!(openrpc["components"]["schemas"]["Line2"]["required"], json!(["place"]));
    let asked = post("/rpc", r#"{"jsonrpc":"2.0","method":"rpc.discover","id":1}"#);
    let mut discovered: Value = serde_json::from_str(&raw(running.address, asked).await.body).unwrap();
    discovered["result"]["servers"] = openrpc["servers"].clone();
    assert_eq!(discovered["result"], openrpc);
}

#[rpc(prefix = "users")]
trait Users {
    async fn name(&self, id: u32) -> Result<String, byname::Error>;
}

struct NoUsers;

#[rpc]
impl Users for NoUsers {
    async fn name(&self, id: u32) -> Result<String, byname::Error> {
        Ok(id.to_string())
    }
}

mod older {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Line {
        place: String,
        shelf: u8,
    }

    #[rpc]
    pub(super) async fn find(article: u64) -> Option<Line> {
        let _ = article;
        None
    }

    #[rpc]
    pub(super) async fn gone() {}
}

#[tokio::test]
async fn a_client_compares_its_stubs_with_the_service() {
    let running = Running::new(orders().inject(NoUsers)).await;
    let client = Client::new(running.address.to_string()).unwrap();
    client.check(byname::stubs![place, stock::find, watch, total, UsersClient]).await.unwrap();
    let differs = client.check(byname::stubs![older::find, older::gone, UsersClient]).await.unwrap_err();
    assert_eq!(differs.code(), Code::FailedPrecondition);
    assert_eq!(
        differs.message(),
        "the service differs from what this client was built for:\n  \
         find arguments.article: numbers above 4294967295 are refused [range-narrower], for example {\"article\":18446744073709551615}\n  \
         find returns.shelf: `shelf` is required, and is not sent [property-required], for example {\"place\":\"a\"}\n  \
         gone: the server has no function `gone` [function-missing]"
    );
    let elsewhere = client.prefix("a").check(byname::stubs![stock::find]).await.unwrap_err();
    assert!(elsewhere.message().contains("no function `a.find`"), "{elsewhere}");
}

#[cfg(feature = "schemars")]
#[test]
fn what_types_declare_by_schemars_stands_in_their_schemas() {
    /// A parcel.
    #[derive(Serialize, Deserialize, schemars::JsonSchema)]
    struct Parcel {
        /// In grams.
        #[schemars(range(max = 20_000))]
        weight: u32,
    }

    #[rpc]
    async fn send(parcel: Parcel, #[rpc(default = 1)] tries: u8) -> Result<Vec<Parcel>, OrderError> {
        Ok((0..tries).map(|_| Parcel { weight: parcel.weight }).collect())
    }

    let schema = Server::new().method::<send>().schema();
    let parcel = &schema.to_json()["$defs"]["Parcel"];
    assert_eq!(parcel["description"], "A parcel.");
    assert_eq!(parcel["properties"]["weight"]["x-declared"], json!({ "maximum": 20_000 }));
    let openapi = schema.to_openapi(None);
    assert_eq!(openapi["components"]["schemas"]["Parcel"]["properties"]["weight"]["maximum"], 20_000);
    assert_eq!(function(&schema.to_json(), "send")["error"]["schema"], json!({ "$ref": "#/$defs/OrderError" }));
}
