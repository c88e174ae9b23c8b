//! The `#[rpc]` attribute of [byname](https://docs.rs/byname). Use it through that crate.

mod ast;
mod attr;
mod check;
mod errors;
mod expand;
mod place;
mod text;

use proc_macro::TokenStream;

/// Makes a function callable from elsewhere, by its name.
#[proc_macro_attribute]
pub fn rpc(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(options.into(), item.into()).into()
}
