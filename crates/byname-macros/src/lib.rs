//! The `#[rpc]` attribute and `#[derive(MethodError)]` of [byname](https://docs.rs/byname). Use them through that crate.
//!
//! They work in stages, each a pure function over tokens: `attr` reads the options, `ast` reads the item, `check` decides
//! what both mean and collects mistakes, and `expand` writes the item with the code that makes it callable.

mod ast;
mod attr;
mod check;
mod crate_path;
mod errors;
mod expand;
mod macro_rules_fragments;
mod source_text;
mod spans;

use proc_macro::TokenStream;

// The tests of byname compile the examples, so that this package does not depend on it.
#[cfg_attr(not(doctest), doc = include_str!("rpc_attribute.md"))]
#[proc_macro_attribute]
pub fn rpc(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(options.into(), item.into()).into()
}

#[cfg_attr(not(doctest), doc = include_str!("method_error_derive.md"))]
#[proc_macro_derive(MethodError, attributes(code, method_error))]
pub fn method_error(item: TokenStream) -> TokenStream {
    expand::method_error(item.into()).into()
}
