//! Writes the item back, with what makes it callable from elsewhere.

mod block;
mod function;
mod handler;
mod output;
mod spec;
mod stub;

use crate::ast::{self, Item};
use crate::attr::{Options, Place};
use crate::check;
use crate::errors::Errors;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

/// The whole attribute: its options and the item under it.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    match Item::parse(&item) {
        Ok(Item::Function(written)) => function(options, &written),
        Ok(Item::Block(written)) => block(options, &written),
        Ok(Item::Other(keyword)) => {
            let mut errors = Errors::default();
            check::other(&keyword, &mut errors);
            with_errors(&errors, item)
        }
        Err(error) => {
            let mut errors = Errors::default();
            errors.push(error);
            with_errors(&errors, item)
        }
    }
}

fn function(options: TokenStream, written: &ast::Function) -> TokenStream {
    let mut errors = Errors::default();
    if check::inside_a_block(written, &mut errors) {
        return with_errors(&errors, written);
    }
    let options = Options::parse(options, Place::Function, &mut errors);
    let checked = check::free(written, options, &mut errors);
    // A declaration has told what it knows; Rust has no place for a function without a body.
    let written = checked.has_body.then_some(written);
    if errors.is_empty() {
        let expansion = function::expand(&checked);
        quote!(#written #expansion)
    } else {
        let fallback = function::fallback(&checked);
        with_errors(&errors, quote!(#written #fallback))
    }
}

fn block(options: TokenStream, written: &ast::Block) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(options, Place::Block, &mut errors);
    let checked = check::block(written, options, &mut errors);
    match checked {
        Some(checked) if errors.is_empty() => {
            let expansion = block::expand(&checked);
            quote!(#written #expansion)
        }
        Some(checked) => {
            let fallback = block::fallback(&checked);
            with_errors(&errors, quote!(#written #fallback))
        }
        None => with_errors(&errors, written),
    }
}

fn with_errors(errors: &Errors, item: impl ToTokens) -> TokenStream {
    let errors = errors.to_compile_errors();
    quote!(#item #errors)
}

/// The body of what stands in after an error.
fn never() -> TokenStream {
    quote!(::core::unimplemented!())
}
