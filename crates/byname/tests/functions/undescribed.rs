//! What a server says of its functions in a build without schemas of types.

use byname::{Server, rpc};

/// Adds.
#[rpc(readonly)]
async fn add(a: i64, #[rpc(default = 2)] b: i64) -> i64 {
    a + b
}

#[test]
fn functions_are_listed_without_schemas_and_the_document_says_why() {
    let schema = Server::new().method::<add>().schema();
    let document = schema.to_json();
    let function = &document["functions"][0];
    assert_eq!(function["signature"], "add(a: i64, b: i64 = 2) -> i64");
    assert_eq!(function["arguments"][1]["default"], 2);
    let (note, of_a) = (&document["note"], &function["arguments"][0]["schema"]);
    match cfg!(feature = "schema") {
        true => assert!(note.is_null() && of_a["type"] == "integer", "{document:#}"),
        false => assert!(note.as_str().unwrap().contains("feature `schema`") && *of_a == true, "{document:#}"),
    }
    assert!(schema.open().is_empty());
}
