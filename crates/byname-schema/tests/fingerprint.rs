//! Types that agree have one fingerprint, and types that differ have two.
#![allow(dead_code, reason = "types are only read")]

use std::collections::{BTreeMap, HashMap};

use byname_schema::describe;
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn print<T: DeserializeOwned>() -> Option<[u8; 16]> {
    describe::<T>().fingerprint()
}

macro_rules! types {
    ($($name:ident: $item:item)*) => {$(
        mod $name {
            #[allow(unused_imports, reason = "some need none")]
            use super::*;
            #[derive(Deserialize)]
            $item
        }
    )*};
}

types! {
    order: pub(crate) struct Order { id: u32, lines: Vec<Option<String>> }
    purchase: pub(crate) struct Purchase { lines: Vec<Option<String>>, #[serde(rename = "id")] number: u32 }
    wider: pub(crate) struct Order { id: u64, lines: Vec<Option<String>> }
    renamed: pub(crate) struct Order { number: u32, lines: Vec<Option<String>> }
    defaulted: pub(crate) struct Order { #[serde(default)] id: u32, lines: Vec<Option<String>> }
    aliased: pub(crate) struct Order { #[serde(alias = "number")] id: u32, lines: Vec<Option<String>> }
    more: pub(crate) struct Order { id: u32, lines: Vec<Option<String>>, note: Option<String> }
    tree: pub(crate) struct Tree { value: u8, left: Option<Box<Tree>>, right: Option<Box<Tree>> }
    node: pub(crate) struct Node { right: Option<Box<Node>>, left: Option<Box<Node>>, value: u8 }
    list: pub(crate) struct List { value: u8, left: Option<Box<List>>, right: Option<u8> }
    state: pub(crate) enum State { On, Off, At { level: u8 }, Named(String) }
    mode: pub(crate) enum Mode { Named(String), Off, At { level: u8 }, On }
    fewer: pub(crate) enum State { On, Off, At { level: u8 } }
    either: #[serde(untagged)] pub(crate) enum Either { Number(u8), Text(String) }
    reverse: #[serde(untagged)] pub(crate) enum Either { Text(String), Number(u8) }
    checked: #[serde(try_from = "u8")] pub(crate) struct Even(pub(crate) u8);
}

impl TryFrom<u8> for checked::Even {
    type Error = &'static str;
    fn try_from(value: u8) -> Result<Self, &'static str> {
        if value.is_multiple_of(2) { Ok(Self(value)) } else { Err("odd") }
    }
}

#[test]
fn names_of_types_and_the_order_of_fields_do_not_count() {
    assert!(print::<order::Order>().is_some());
    assert_eq!(print::<order::Order>(), print::<purchase::Purchase>());
    assert_eq!(print::<tree::Tree>(), print::<node::Node>());
    assert_eq!(print::<state::State>(), print::<mode::Mode>());
    assert_eq!(print::<HashMap<String, (u8, char)>>(), print::<BTreeMap<Box<str>, (u8, char)>>());
    // The same part, once shared and once not.
    assert_eq!(print::<(order::Order, order::Order)>(), print::<(order::Order, purchase::Purchase)>());
    assert_eq!(print::<(tree::Tree, tree::Tree)>(), print::<(node::Node, tree::Tree)>());
}

#[test]
fn what_is_taken_counts() {
    let all = [
        print::<order::Order>(),
        print::<wider::Order>(),
        print::<renamed::Order>(),
        print::<defaulted::Order>(),
        print::<aliased::Order>(),
        print::<more::Order>(),
        print::<tree::Tree>(),
        print::<list::List>(),
        print::<state::State>(),
        print::<fewer::State>(),
        print::<either::Either>(),
        print::<reverse::Either>(),
        print::<Option<u8>>(),
        print::<Vec<u8>>(),
        print::<(u8,)>(),
        print::<(u8, u8)>(),
        print::<[u8; 3]>(),
        print::<u8>(),
        print::<std::num::NonZeroI8>(),
        print::<i8>(),
        print::<f32>(),
        print::<()>(),
        print::<serde_json::Value>(),
        print::<BTreeMap<String, u8>>(),
        print::<BTreeMap<u8, u8>>(),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(one.is_some(), "{at}");
        assert!(!all[..at].contains(one), "{at}");
    }
    // Two sides that read any number as one.
    assert_eq!(print::<f32>(), print::<f64>());
}

#[test]
fn an_open_type_has_none() {
    assert_eq!(print::<checked::Even>(), None);
    assert_eq!(print::<Vec<checked::Even>>(), None);
}

/// The value does not change from version to version, or between machines.
#[test]
fn the_fingerprint_of_a_type_stays() {
    let hex: String = print::<order::Order>().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "d0ebaf14844e5ce8877854e73f9e3bf6");
}
