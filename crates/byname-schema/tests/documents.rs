//! The documents of other formats: what their specifications ask for.

use std::collections::BTreeSet;

use byname_schema::{SchemaDefinitions, ServiceSchema};
use serde::Deserialize;
use serde_json::{Value, json};

/// A service with readonly functions of these names, which take and return values of a schema with these definitions.
fn service(names: &[&str], schema: &Value, definitions: &Value) -> ServiceSchema {
    let argument = json!({ "name": "a", "schema": schema, "required": true });
    let function = |name: &&str| json!({ "name": name, "arguments": [argument], "returns": { "schema": schema }, "readonly": true });
    let functions: Vec<_> = names.iter().map(function).collect();
    ServiceSchema::from_json(&json!({ "version": 1, "functions": functions, "$defs": definitions })).unwrap()
}

/// What the references of a document lead to, each of which must be there.
fn referred(document: &Value, part: &Value, found: &mut Vec<Value>) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                found.push(document.pointer(pointer).unwrap_or_else(|| panic!("{reference} in {document:#}")).clone());
            }
            members.values().for_each(|member| referred(document, member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| referred(document, item, found)),
        _ => {}
    }
}

#[test]
fn components_have_names_that_openapi_and_openrpc_take() {
    #[derive(Deserialize)]
    struct Größe {
        _width: u8,
    }
    #[derive(Deserialize)]
    #[serde(rename = "Page<Größe>")]
    struct Page {
        _items: Vec<Größe>,
        _next: Option<Box<Page>>,
        _same: Same,
        _problem: Problem,
    }
    // A type has the name that another one would get.
    #[derive(Deserialize)]
    #[serde(rename = "Page_Gr__e_")]
    struct Same {
        _here: bool,
    }
    #[derive(Deserialize)]
    #[serde(rename = "Problem")]
    struct Problem {
        _own: char,
    }
    let mut written = SchemaDefinitions::at("#/$defs/");
    let schema = written.add(&byname_schema::describe::<Page>());
    let service = service(&["f"], &schema, &json!(written.into_map()));
    for document in [service.to_openapi(None), service.to_openrpc(None)] {
        let names: Vec<_> = document["components"]["schemas"].as_object().unwrap().keys().collect();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
        assert!(names.iter().all(|name| !name.is_empty() && name.chars().all(is_plain)), "{names:?}");
        assert_eq!(names.iter().filter(|name| !name.starts_with("Problem")).count(), 3, "{names:?}");
        let mut found = Vec::new();
        referred(&document, &document, &mut found);
        for property in ["_width", "_items", "_here", "_own"] {
            assert!(found.iter().any(|schema| schema["properties"][property].is_object()), "{property}: {document:#}");
        }
    }
}

#[test]
fn each_operation_has_an_id_of_its_own() {
    let names = ["orders", "orders.get", "orders.get_", "orders.get.get"];
    let document = service(&names, &json!(true), &json!({})).to_openapi(None);
    let paths = document["paths"].as_object().unwrap();
    let operations: Vec<_> = paths.values().flat_map(|path| path.as_object().unwrap().values()).collect();
    let ids: BTreeSet<_> = operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!((operations.len(), ids.len()), (8, 8), "{ids:?}");
    assert!(names.iter().all(|name| ids.contains(name)), "the id of a POST is the name: {ids:?}");
}

#[test]
fn a_number_in_openapi_says_how_wide_it_is() {
    #[derive(Deserialize)]
    struct Numbers {
        _byte: u8,
        _short: i32,
        _wider: Option<Vec<u32>>,
        _long: i64,
        _unsigned: std::num::NonZeroU64,
        _widest: u128,
        _float: f64,
    }
    let mut written = SchemaDefinitions::at("#/$defs/");
    let schema = written.add(&byname_schema::describe::<Numbers>());
    let service = service(&["f"], &schema, &json!(written.into_map()));
    let document = service.to_openapi(None);
    let properties = &document["components"]["schemas"]["Numbers"]["properties"];
    let format = |name: &str| &properties[name]["format"];
    assert_eq!(["_byte", "_short"].map(format), ["int32"; 2]);
    assert_eq!([format("_long"), &properties["_wider"]["anyOf"][0]["items"]["format"]], ["int64"; 2]);
    assert_eq!(
        (format("_unsigned"), format("_float"), format("_widest")),
        (&json!("uint64"), &json!("double"), &Value::Null)
    );
    let of_openrpc = &service.to_openrpc(None)["components"]["schemas"]["Numbers"]["properties"]["_long"];
    assert_eq!(of_openrpc["format"], Value::Null, "it is a word of OpenAPI");
}
