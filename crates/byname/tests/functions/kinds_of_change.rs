//! Kinds of change of a service, each run old against new and new against old. The table in `docs/compatibility.md` is theirs.
//!
//! `KINDS=overwrite cargo test -p byname --features schema --test functions kinds_of_change` writes the table again.

#![allow(unreachable_pub, reason = "the modules stand in macros")]

use std::{env, fs, path::Path};

use byname::{Difference, Server, Streaming, differences, rpc};
use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::harness::{Running, get, post, post_with, raw};

/// A row of the table: the rule that a direction breaks.
struct Kind {
    what: &'static str,
    old_client: Option<&'static str>,
    new_client: Option<&'static str>,
}

/// A change of the type `T`. Values of both versions are given as JSON.
macro_rules! of_type {
    ($what:literal, { $($old:item)* } [$($a:tt),*], { $($new:item)* } [$($b:tt),*]) => {{
        #[allow(dead_code, reason = "types are only read and written")]
        mod old { use serde::{Deserialize, Serialize}; $(#[derive(Serialize, Deserialize)] $old)* }
        #[allow(dead_code, reason = "types are only read and written")]
        mod new { use serde::{Deserialize, Serialize}; $(#[derive(Serialize, Deserialize)] $new)* }
        type_changed::<old::T, new::T>($what, &[$(serde_json::json!($a)),*], &[$(serde_json::json!($b)),*])
    }};
}

fn type_changed<Old, New>(what: &'static str, old: &[Value], new: &[Value]) -> Kind
where
    Old: Serialize + DeserializeOwned + Send + 'static,
    New: Serialize + DeserializeOwned + Send + 'static,
{
    let of_old = Server::new().function(("f", ["a"]), |_: Old| async {}).schema();
    let of_new = Server::new().function(("f", ["a"]), |_: New| async {}).schema();
    let found = differences(&of_old, &of_new);
    Kind {
        what,
        old_client: sent::<Old, New>(what, old, found.iter().filter_map(Difference::breaks_old_clients)),
        new_client: sent::<New, Old>(what, new, found.iter().filter_map(Difference::breaks_new_clients)),
    }
}

/// What `Writer` writes is read by `Reader`, or there is a break whose witness `Writer` takes and `Reader` refuses.
fn sent<'d, Writer: Serialize + DeserializeOwned, Reader: DeserializeOwned>(
    what: &str,
    values: &[Value],
    mut breaks: impl Iterator<Item = &'d byname::Break>,
) -> Option<&'static str> {
    let Some(broken) = breaks.next() else {
        for value in values {
            let written = serde_json::to_value(serde_json::from_value::<Writer>(value.clone()).unwrap()).unwrap();
            let read = serde_json::from_value::<Reader>(written.clone());
            assert!(read.is_ok(), "{what}: {written} is refused: {:?}", read.err());
        }
        return None;
    };
    let witness = &broken.witness.as_ref().unwrap()["a"];
    let taken = serde_json::from_value::<Writer>(witness.clone());
    assert!(taken.is_ok(), "{what}: {witness} is not one of the writer: {:?}", taken.err());
    assert!(serde_json::from_value::<Reader>(witness.clone()).is_err(), "{what}: {witness} is read");
    Some(broken.rule)
}

fn of_types() -> Vec<Kind> {
    vec![
        of_type!("a field is added that may be left out: `Option`, `#[serde(default)]`",
            { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T { a: u8, b: Option<u8> } } [{ "a": 1 }, { "a": 1, "b": 2 }]),
        of_type!("a field is added that is required",
            { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T { a: u8, b: u8 } } [{ "a": 1, "b": 2 }]),
        of_type!("a required field is removed",
            { pub struct T { a: u8, b: u8 } } [{ "a": 1, "b": 2 }], { pub struct T { a: u8 } } [{ "a": 1 }]),
        of_type!("an optional field is removed",
            { pub struct T { a: u8, b: Option<u8> } } [{ "a": 1, "b": 2 }], { pub struct T { a: u8 } } [{ "a": 1 }]),
        of_type!("a field is renamed", { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T { b: u8 } } [{ "b": 1 }]),
        of_type!("a field is renamed, and keeps the old name as `alias`",
            { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T { #[serde(alias = "a")] b: u8 } } [{ "b": 1 }]),
        of_type!("a field gets an `alias`",
            { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T { #[serde(alias = "b")] a: u8 } } [{ "a": 1 }]),
        of_type!("a field gets `#[serde(default)]`",
            { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T { #[serde(default)] a: u8 } } [{ "a": 1 }]),
        of_type!("a field becomes an `Option`",
            { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T { a: Option<u8> } } [{ "a": 1 }, { "a": null }]),
        of_type!("an `Option` becomes required",
            { pub struct T { a: Option<u8> } } [{ "a": 1 }], { pub struct T { a: u8 } } [{ "a": 1 }]),
        of_type!("the order of fields changes",
            { pub struct T { a: u8, b: bool } } [{ "a": 1, "b": true }], { pub struct T { b: bool, a: u8 } } [{ "a": 1, "b": true }]),
        of_type!("the type is renamed",
            { pub struct A { a: u8 } pub struct T(A); } [{ "a": 1 }], { pub struct B { a: u8 } pub struct T(B); } [{ "a": 1 }]),
        of_type!("the type gets a newtype around it", { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct N(u8); pub struct T { a: N } } [{ "a": 1 }]),
        of_type!("`deny_unknown_fields` is added",
            { pub struct T { a: u8 } } [{ "a": 1 }], { #[serde(deny_unknown_fields)] pub struct T { a: u8 } } [{ "a": 1 }]),
        of_type!("an optional field is added to a type with `deny_unknown_fields`",
            { #[serde(deny_unknown_fields)] pub struct T { a: u8 } } [{ "a": 1 }],
            { #[serde(deny_unknown_fields)] pub struct T { a: u8, b: Option<u8> } } [{ "a": 1, "b": 2 }]),
        of_type!("`rename_all` is added",
            { pub struct T { first_name: String } } [{ "first_name": "a" }],
            { #[serde(rename_all = "camelCase")] pub struct T { first_name: String } } [{ "firstName": "a" }]),
        of_type!(
            "an integer becomes wider: `u8` to `u32`",
            {
                pub struct T(u8);
            }[255],
            {
                pub struct T(u32);
            }[256]
        ),
        of_type!(
            "an integer becomes narrower: `u32` to `u16`",
            {
                pub struct T(u32);
            }[1],
            {
                pub struct T(u16);
            }[1]
        ),
        of_type!(
            "an integer gets a sign: `u32` to `i64`",
            {
                pub struct T(u32);
            }[1],
            {
                pub struct T(i64);
            }[1]
        ),
        of_type!(
            "an integer gets a sign in the same width: `u32` to `i32`",
            {
                pub struct T(u32);
            }[1],
            {
                pub struct T(i32);
            }[1]
        ),
        of_type!(
            "an integer becomes `NonZero`",
            {
                pub struct T(u8);
            }[1],
            {
                pub struct T(std::num::NonZeroU8);
            }[1]
        ),
        of_type!(
            "an integer becomes a float",
            {
                pub struct T(u32);
            }[1],
            {
                pub struct T(f64);
            }[0.5]
        ),
        of_type!(
            "an integer becomes a `String`",
            {
                pub struct T(u32);
            }[1],
            {
                pub struct T(String);
            }["1"]
        ),
        of_type!(
            "a `bool` becomes an enum",
            {
                pub struct T(bool);
            }[true],
            {
                pub enum T {
                    Yes,
                    No,
                }
            }["Yes"]
        ),
        of_type!(
            "a `String` becomes a `char`",
            {
                pub struct T(String);
            }["a"],
            {
                pub struct T(char);
            }["a"]
        ),
        of_type!(
            "a `String` becomes an enum of names",
            {
                pub struct T(String);
            }["A"],
            {
                pub enum T {
                    A,
                }
            }["A"]
        ),
        of_type!("a value becomes a `Vec`", { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T { a: Vec<u8> } } [{ "a": [1] }]),
        of_type!(
            "a `Vec` becomes a set",
            {
                pub struct T(Vec<u8>);
            }[[1, 1]],
            {
                pub struct T(std::collections::BTreeSet<u8>);
            }[[1]]
        ),
        of_type!(
            "a tuple gets another item",
            {
                pub struct T(u8, u8);
            }[[1, 2]],
            {
                pub struct T(u8, u8, u8);
            }[[1, 2, 3]]
        ),
        of_type!(
            "an array becomes a `Vec`",
            {
                pub struct T([u8; 2]);
            }[[1, 2]],
            {
                pub struct T(Vec<u8>);
            }[[1]]
        ),
        of_type!("a struct becomes a map",
            { pub struct T { a: u8 } } [{ "a": 1 }], { pub struct T(std::collections::BTreeMap<String, u8>); } [{ "b": 1 }]),
        of_type!("the keys of a map become numbers",
            { pub struct T(std::collections::BTreeMap<String, u8>); } [{ "a": 1 }], { pub struct T(std::collections::BTreeMap<u32, u8>); } [{ "1": 1 }]),
        of_type!("an enum gets another variant", { pub enum T { A } } ["A"], { pub enum T { A, B } } ["A", "B"]),
        of_type!(
            "an enum gets another variant, and the old one has `#[serde(other)]`",
            {
                pub enum T {
                    A,
                    #[serde(other)]
                    Unknown,
                }
            }["A"],
            {
                pub enum T {
                    A,
                    B,
                    #[serde(other)]
                    Unknown,
                }
            }["B"]
        ),
        of_type!(
            "a variant is removed",
            {
                pub enum T {
                    A,
                    B,
                }
            }["A"],
            {
                pub enum T {
                    A,
                }
            }["A"]
        ),
        of_type!(
            "a variant is renamed, and keeps the old name as `alias`",
            {
                pub enum T {
                    A,
                }
            }["A"],
            {
                pub enum T {
                    #[serde(alias = "A")]
                    B,
                }
            }["B"]
        ),
        of_type!("a variant gets a content", { pub enum T { A, B } } ["A"], { pub enum T { A(u8), B } } [{ "A": 1 }]),
        of_type!("a field is added to a variant",
            { pub enum T { A { a: u8 } } } [{ "A": { "a": 1 } }], { pub enum T { A { a: u8, b: u8 } } } [{ "A": { "a": 1, "b": 2 } }]),
        of_type!("an enum gets a tag: `#[serde(tag = \"type\")]`",
            { pub enum T { A { a: u8 } } } [{ "A": { "a": 1 } }],
            { #[serde(tag = "type")] pub enum T { A { a: u8 } } } [{ "type": "A", "a": 1 }]),
        of_type!("a type deep inside changes",
            { pub struct L { a: u32 } pub struct T(Vec<Option<L>>); } [[{ "a": 1 }]],
            { pub struct L { a: u8 } pub struct T(Vec<Option<L>>); } [[{ "a": 1 }]]),
        of_type!("a type that contains itself gets an optional field",
            { pub struct T { a: Option<Box<T>> } } [{ "a": { "a": null } }], { pub struct T { a: Option<Box<T>>, b: Option<u8> } } [{ "a": null, "b": 1 }]),
    ]
}

/// Two versions of a service, with the requests of a client of each. A request works if both versions answer it alike.
async fn service_changed(
    what: &'static str,
    old: (fn() -> Server, &[String]),
    new: (fn() -> Server, &[String]),
) -> Kind {
    let found = differences(&old.0().schema(), &new.0().schema());
    let (of_old, of_new) = (Running::new(old.0()).await, Running::new(new.0()).await);
    let rules = [
        found.iter().find_map(Difference::breaks_old_clients).map(|of| of.rule),
        found.iter().find_map(Difference::breaks_new_clients).map(|of| of.rule),
    ];
    for ((own, other, requests), rule) in [(&of_old, &of_new, old.1), (&of_new, &of_old, new.1)].into_iter().zip(rules)
    {
        // What is wrong with a repetition does not show in one call.
        if rule == Some("idempotent-removed") {
            continue;
        }
        let mut differs = 0;
        for request in requests {
            let (usual, answer) = (raw(own.address, request).await, raw(other.address, request).await);
            assert_eq!(usual.status, 200, "{what}: {}", usual.body);
            let is_alike = (usual.status, &usual.body) == (answer.status, &answer.body)
                && usual.header("content-type") == answer.header("content-type");
            differs += usize::from(!is_alike);
        }
        assert_eq!(differs > 0, rule.is_some(), "{what}: {differs} requests of {requests:?}, {rule:?}");
    }
    Kind { what, old_client: rules[0], new_client: rules[1] }
}

mod versions {
    use super::*;

    macro_rules! version {
        ($name:ident, $($function:item)*) => {
            pub(super) mod $name {
                use super::*;
                $($function)*
            }
        };
    }

    version!(
        plain,
        #[rpc]
        pub async fn f(a: u8) -> u8 {
            a
        }
    );
    version!(
        optional,
        #[rpc]
        pub async fn f(a: u8, b: Option<u8>) -> u8 {
            a + b.unwrap_or_default()
        }
    );
    version!(
        defaulted,
        #[rpc]
        pub async fn f(a: u8, #[rpc(default = 0)] b: u8) -> u8 {
            a + b
        }
    );
    version!(
        required,
        #[rpc]
        pub async fn f(a: u8, b: u8) -> u8 {
            a + b
        }
    );
    version!(
        swapped,
        #[rpc]
        pub async fn f(b: u8, a: u8) -> u8 {
            a + 2 * b
        }
    );
    version!(
        twice,
        #[rpc]
        pub async fn f(a: u8, b: u8) -> u8 {
            a + 2 * b
        }
    );
    version!(
        renamed_argument,
        #[rpc]
        pub async fn f(x: u8) -> u8 {
            x
        }
    );
    version!(
        renamed,
        #[rpc]
        pub async fn g(a: u8) -> u8 {
            a
        }
    );
    version!(
        aliased,
        #[rpc(alias = "f")]
        pub async fn g(a: u8) -> u8 {
            a
        }
    );
    version!(
        readonly,
        #[rpc(readonly)]
        pub async fn f(a: u8) -> u8 {
            a
        }
    );
    version!(
        idempotent,
        #[rpc(idempotent)]
        pub async fn f(a: u8) -> u8 {
            a
        }
    );
    version!(
        keyed,
        #[rpc(keyed)]
        pub async fn f(a: u8) -> u8 {
            a
        }
    );
    version!(
        hidden,
        #[rpc(hidden)]
        pub async fn more(a: u8) -> u8 {
            a
        }
    );
    version!(
        result,
        #[rpc]
        pub async fn f(a: u8) -> Result<u8, String> {
            Ok(a)
        }
    );
    version!(
        streams,
        #[rpc]
        pub fn f(a: u8) -> impl Stream<Item = u8> {
            futures_util::stream::iter([a])
        }
    );
    version!(
        takes,
        #[rpc]
        pub async fn f(a: u8, mut items: Streaming<u8>) -> u8 {
            let _ = items.next().await;
            a
        }
    );
    version!(
        deprecated,
        #[deprecated]
        #[rpc]
        pub async fn f(a: u8) -> u8 {
            a
        }
    );
}

async fn of_services() -> Vec<Kind> {
    use versions::*;
    let by_name = || [post("/rpc/f", r#"{"a":1}"#)];
    let (by_position, two) = ([post("/rpc/f", "[1,2]")], [post("/rpc/f", r#"{"a":1,"b":2}"#)]);
    let plain = || Server::new().method::<plain::f>();
    let old = &by_name()[..];
    vec![
        service_changed(
            "a function is added",
            (plain, old),
            (|| Server::new().method::<plain::f>().method::<renamed::g>(), &[post("/rpc/g", "[1]")]),
        )
        .await,
        service_changed(
            "a function is added with `#[rpc(hidden)]`",
            (plain, old),
            (|| Server::new().method::<plain::f>().method::<hidden::more>(), old),
        )
        .await,
        service_changed(
            "a function is removed",
            (|| Server::new().method::<plain::f>().method::<renamed::g>(), &[post("/rpc/g", "[1]")]),
            (plain, old),
        )
        .await,
        service_changed(
            "a function is renamed",
            (plain, old),
            (|| Server::new().method::<renamed::g>(), &[post("/rpc/g", "[1]")]),
        )
        .await,
        service_changed(
            "a function is renamed, and keeps the old name as `alias`",
            (plain, old),
            (|| Server::new().method::<aliased::g>(), &[post("/rpc/g", "[1]")]),
        )
        .await,
        service_changed(
            "an `Option` argument is added at the end",
            (plain, old),
            (|| Server::new().method::<optional::f>(), &two),
        )
        .await,
        service_changed(
            "an argument with a default is added at the end",
            (plain, old),
            (|| Server::new().method::<defaulted::f>(), &two),
        )
        .await,
        service_changed("a required argument is added", (plain, old), (|| Server::new().method::<required::f>(), &two))
            .await,
        service_changed(
            "an argument gets a default",
            (|| Server::new().method::<required::f>(), &two),
            (|| Server::new().method::<defaulted::f>(), old),
        )
        .await,
        service_changed("an argument is removed", (|| Server::new().method::<required::f>(), &two), (plain, old)).await,
        service_changed(
            "an argument is renamed",
            (plain, old),
            (|| Server::new().method::<renamed_argument::f>(), &[post("/rpc/f", r#"{"x":1}"#)]),
        )
        .await,
        service_changed(
            "two arguments change their places",
            (|| Server::new().method::<twice::f>(), &by_position),
            (|| Server::new().method::<swapped::f>(), &by_position),
        )
        .await,
        service_changed(
            "`readonly` is added",
            (plain, old),
            (|| Server::new().method::<readonly::f>(), &[get("/rpc/f?a=1")]),
        )
        .await,
        service_changed(
            "`readonly` is removed",
            (|| Server::new().method::<readonly::f>(), &[get("/rpc/f?a=1")]),
            (plain, old),
        )
        .await,
        service_changed("`idempotent` is removed", (|| Server::new().method::<idempotent::f>(), old), (plain, old))
            .await,
        service_changed("`keyed` is added", (plain, old), (|| Server::new().method::<keyed::f>(), &[])).await,
        service_changed(
            "an `alias` is removed",
            (|| Server::new().method::<aliased::g>(), old),
            (|| Server::new().method::<renamed::g>(), &[post("/rpc/g", "[1]")]),
        )
        .await,
        service_changed("`idempotent` is added", (plain, old), (|| Server::new().method::<idempotent::f>(), old)).await,
        service_changed(
            "`keyed` is removed",
            (|| Server::new().method::<keyed::f>(), &[post_with("/rpc/f", "idempotency-key: k\r\n", r#"{"a":1}"#)]),
            (plain, old),
        )
        .await,
        service_changed(
            "a result gets an error: `u8` to `Result<u8, String>`",
            (plain, old),
            (|| Server::new().method::<result::f>(), old),
        )
        .await,
        service_changed("a value becomes a stream", (plain, old), (|| Server::new().method::<streams::f>(), old)).await,
        service_changed(
            "a stream argument is added",
            (plain, old),
            (|| Server::new().method::<takes::f>(), &[post("/rpc/f?a=1", "1\n")]),
        )
        .await,
        #[allow(deprecated, reason = "that is the subject")]
        service_changed("`#[deprecated]` is added", (plain, old), (|| Server::new().method::<deprecated::f>(), old))
            .await,
    ]
}

/// The table in Markdown.
fn table(kinds: &[Kind]) -> String {
    let mut table = "| change | old client, new server | new client, old server |\n| --- | --- | --- |\n".to_owned();
    let cell = |rule: Option<&str>| rule.map_or("works".to_owned(), |rule| format!("`{rule}`"));
    for Kind { what, old_client, new_client } in kinds {
        table.push_str(&format!("| {what} | {} | {} |\n", cell(*old_client), cell(*new_client)));
    }
    table
}

#[tokio::test]
async fn the_kinds_of_change_do_what_the_table_says() {
    let kinds: Vec<_> = of_types().into_iter().chain(of_services().await).collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let text = fs::read_to_string(&page).unwrap();
    let (begin, end) = ("<!-- The test `kinds_of_change` writes this table. -->\n", "<!-- The end of the table. -->");
    let from = text.find(begin).expect("the page has the table") + begin.len();
    let to = text.find(end).expect("the table has an end");
    let table = table(&kinds);
    if env::var_os("KINDS").is_some_and(|value| value == "overwrite") {
        fs::write(&page, [&text[..from], &table, &text[to..]].concat()).unwrap();
        return;
    }
    assert!(
        text[from..to] == table,
        "docs/compatibility.md differs; write it with `KINDS=overwrite cargo test -p byname --features schema --test functions \
         kinds_of_change`:\n{table}"
    );
}
