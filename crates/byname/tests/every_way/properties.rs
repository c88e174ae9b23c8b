//! Properties of every value: it comes back unchanged, and every request is answered.

use std::collections::BTreeMap;

use crate::harness::{Caller, Running, everything, get};
use byname::{Args, Client, Code, Codec, rpc};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Line(i32, u32),
    Named { label: String, inner: Option<Box<Shape>> },
}

type Numbers = (i8, u16, i64, u64, i128, u128, f32, f64);
type Kinds = (bool, char, String, Option<String>, Option<Option<u8>>, Vec<Option<i32>>);
type Whole = (Numbers, Kinds, BTreeMap<String, Vec<u8>>, BTreeMap<i64, ()>, Shape);

#[rpc]
async fn mirror(
    numbers: Numbers,
    kinds: Kinds,
    by_text: BTreeMap<String, Vec<u8>>,
    by_number: BTreeMap<i64, ()>,
    shape: Shape,
) -> Whole {
    (numbers, kinds, by_text, by_number, shape)
}

#[rpc]
async fn borrows(text: &str, list: &[i64], shape: &Shape) -> (String, Vec<i64>, Shape) {
    (text.to_owned(), list.to_vec(), shape.clone())
}

/// A server of everything with its runtime, for as long as the test runs.
struct World {
    runtime: Runtime,
    running: Running,
    clients: Vec<Client>,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = everything().method::<mirror>().method::<borrows>();
        let local = Client::local(&server).unwrap();
        let running = runtime.block_on(Running::new(server.clone()));
        let plain_only = runtime.block_on(Running::new(server.path(false)));
        let packed = local.encoded(true).codec(Codec::MessagePack);
        let clients = vec![running.client(), plain_only.client(), local.encoded(true), packed, local];
        // Dropping the handle of a server would not stop it; its runtime does.
        std::mem::forget(plain_only);
        Self { runtime, running, clients }
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn finite() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    prop_oneof![
        POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO,
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
        Just(0.1 + 0.2)
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Nothing),
        finite().prop_map(Shape::Circle),
        any::<(i32, u32)>().prop_map(|(from, to)| Shape::Line(from, to)),
    ];
    leaf.prop_recursive(4, 8, 1, |inner| {
        (any::<String>(), proptest::option::of(inner))
            .prop_map(|(label, inner)| Shape::Named { label, inner: inner.map(Box::new) })
    })
}

fn whole() -> impl Strategy<Value = Whole> {
    use proptest::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    let single = POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO;
    let long = prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1)];
    let unsigned = prop_oneof![any::<u64>(), Just(u64::MAX), Just((1 << 63) + 1)];
    let numbers = (any::<i8>(), any::<u16>(), long, unsigned, any::<i128>(), any::<u128>(), single, finite());
    // What is inside of an `Option` of an `Option` can't be told from JSON when it is nothing.
    let twice = proptest::option::of(any::<u8>().prop_map(Some));
    let list = proptest::collection::vec(any::<Option<i32>>(), 0..5);
    let kinds = (any::<bool>(), any::<char>(), any::<String>(), any::<Option<String>>(), twice, list);
    let by_text = proptest::collection::btree_map(any::<String>(), any::<Vec<u8>>(), 0..3);
    let by_number = proptest::collection::btree_map(any::<i64>(), Just(()), 0..3);
    (numbers, kinds, by_text, by_number, shape())
}

#[test]
fn arguments_of_every_type_are_read_as_they_were_written() {
    let world = World::new();
    proptest!(config(150), |(sent in whole(), split in 0usize..=5)| {
        let (numbers, kinds, by_text, by_number, shape) = sent.clone();
        let names = ["numbers", "kinds", "by_text", "by_number", "shape"];
        for client in &world.clients {
            world.runtime.block_on(async {
                let typed = mirror::on(client, numbers, kinds.clone(), by_text.clone(), by_number.clone(), shape.clone());
                prop_assert_eq!(&typed.await.unwrap(), &sent);
                let positional = client.call::<Whole>("mirror", sent.clone());
                prop_assert_eq!(&positional.await.unwrap(), &sent);
                let mut mixed = Args::new();
                for (at, name) in names.into_iter().enumerate() {
                    macro_rules! add {
                        ($value:expr) => {
                            if at < split { mixed.arg($value) } else { mixed.kwarg(name, $value) }
                        };
                    }
                    mixed = match at {
                        0 => add!(numbers),
                        1 => add!(&kinds),
                        2 => add!(&by_text),
                        3 => add!(&by_number),
                        _ => add!(&shape),
                    };
                }
                prop_assert_eq!(&client.call::<Whole>("mirror", mixed).await.unwrap(), &sent);
                Ok(())
            })?;
        }
    });
}

#[test]
fn borrowed_arguments_are_read_as_they_were_written() {
    let world = World::new();
    let strategy = (any::<String>(), any::<Vec<i64>>(), shape());
    proptest!(config(100), |((text, list, shape) in strategy)| {
        for client in &world.clients {
            let came = world.runtime.block_on(borrows::on(client, &text, &list, &shape)).unwrap();
            prop_assert_eq!(came, (text.clone(), list.clone(), shape.clone()));
        }
    });
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        finite().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop_oneof![
            Just(i64::MIN).prop_map(Value::from),
            Just(u64::MAX).prop_map(Value::from),
            Just((1u64 << 53) + 1).prop_map(Value::from),
            Just(i64::MAX as u64 + 1).prop_map(Value::from),
            Just(-0.0).prop_map(Value::from),
            Just("\u{0}\u{7f}\u{2028}\u{fffd}\u{10ffff}\"\\/").prop_map(Value::from),
        ],
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn every_json_value_is_echoed_exactly() {
    let world = World::new();
    proptest!(config(200), |(sent in value())| {
        for client in &world.clients {
            let came: Value = world.runtime.block_on(client.call("echo", (sent.clone(),))).unwrap();
            // As text: numbers compare equal that are written otherwise.
            prop_assert_eq!(came.to_string(), sent.to_string());
        }
    });
}

/// Bytes of every kind, the closer to a call the better.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let jsonish = "[\\[\\]{}\",:0-9a-z\\\\.+\\- ]{0,60}";
    prop_oneof![
        any::<Vec<u8>>(),
        jsonish.prop_map(String::into_bytes),
        jsonish.prop_map(|text| format!("[{text}]").into_bytes()),
        jsonish.prop_map(|text| format!("{{\"fun\":\"edges\",\"args\":[{text}]}}").into_bytes()),
        (jsonish, value()).prop_map(|(text, id)| {
            let call = format!(r#"{{"jsonrpc":"2.0","method":"edges","params":[{text}],"id":{id}}}"#);
            format!("[{call},{id},{call}]").into_bytes()
        }),
        (any::<Vec<u8>>(), any::<Vec<u8>>()).prop_map(|(one, two)| {
            [b"{\"fun\":\"echo\",\"args\":[\"", &one[..], b"\"],\"kwargs\":{\"", &two, b"\":1}}"].concat()
        }),
        value().prop_map(|value| format!("{{\"fun\":\"greet\",\"kwargs\":{value},\"ext\":{value}}}").into_bytes()),
        (value(), 0usize..80).prop_map(|(value, cut)| {
            let mut text = format!("{{\"fun\":\"echo\",\"args\":[{value}]}}").into_bytes();
            text.truncate(text.len().saturating_sub(cut));
            text
        }),
    ]
}

/// ERROR in a reply of JSON-RPC, unless it is a success.
fn json_rpc_error(reply: &Value) -> Option<&Value> {
    assert!(reply["jsonrpc"] == "2.0" && reply.get("id").is_some(), "{reply}");
    assert_ne!(reply.get("result").is_some(), reply.get("error").is_some(), "{reply}");
    reply.get("error").map(|error| &error["data"])
}

#[test]
fn every_body_is_answered_and_the_connection_continues() {
    let world = World::new();
    let caller = Mutex::new(world.runtime.block_on(Caller::to(world.running.address)));
    proptest!(config(400), |(body in body(), way in prop_oneof![Just("/rpc"), Just("/rpc/edges"), Just("/rpc/echo")])| {
        world.runtime.block_on(async {
            let head = format!("POST {way} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
            let answer = caller.lock().await.ask([head.as_bytes(), &body].concat()).await;
            let json = answer.json();
            let errors: Vec<&Value> = match &json {
                Value::Array(replies) if way == "/rpc" => replies.iter().filter_map(json_rpc_error).collect(),
                reply if way == "/rpc" && reply.get("jsonrpc").is_some() => json_rpc_error(reply).into_iter().collect(),
                reply if answer.status == 200 => {
                    prop_assert!(way != "/rpc" || reply.get("ret").is_some(), "{:?}", answer);
                    Vec::new()
                }
                reply if way == "/rpc" => vec![&reply["err"]],
                reply => vec![reply],
            };
            for error in errors {
                let code = serde_json::from_value::<Code>(error["code"].clone());
                prop_assert!(code.is_ok_and(|code| code != Code::Internal), "{:?}", answer);
                prop_assert!(error["message"].is_string(), "{:?}", answer);
                prop_assert_eq!(&error["executed"], "no", "{:?}", answer);
            }
            Ok(())
        })?;
    });
    assert_eq!(world.runtime.block_on(async { caller.lock().await.ask(get("/rpc/add?a=1&b=2")).await.body }), "3");
}

#[test]
fn every_query_is_answered_and_text_comes_back() {
    let world = World::new();
    let caller = Mutex::new(world.runtime.block_on(Caller::to(world.running.address)));
    proptest!(config(200), |(text in any::<String>(), raw in "[!$-;=?-~]{0,40}")| {
        world.runtime.block_on(async {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let answer = caller.lock().await.ask(get(&format!("/rpc/echo?value={encoded}"))).await;
            prop_assert_eq!(answer.json(), Value::from(text));
            let answer = caller.lock().await.ask(get(&format!("/rpc/greet?{raw}"))).await;
            prop_assert!(answer.status == 200 || answer.json()["code"] == "invalid_argument", "{:?}", answer);
            Ok(())
        })?;
    });
}
