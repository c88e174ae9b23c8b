//! Writes the item back, with what makes it callable from elsewhere.

mod block;
mod function;
mod handler;
mod output;
mod spec;
mod stub;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use crate::ast::{self, Item};
use crate::attr::{Options, Place};
use crate::check;
use crate::errors::Errors;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(options: TokenStream, item: TokenStream) -> String {
        let tokens = expand(options, item);
        if let Err(error) = syn::parse2::<syn::File>(tokens.clone()) {
            panic!("{error}: {tokens}");
        }
        crate::text::normalised(tokens)
    }

    fn errors(text: &str) -> usize {
        text.matches("::core::compile_error!").count()
    }

    #[test]
    fn the_function_comes_first_and_untouched() {
        let item = quote! {
            #[inline]
            pub async fn add(a: i64, b: i64) -> i64 { a + b }
        };
        let text = expanded(quote!(readonly), item.clone());
        assert!(text.starts_with(&crate::text::normalised(item)), "{text}");
        assert!(text.contains("pub struct add{}"), "{text}");
        assert!(text.contains("\"add(a: i64, b: i64) -> i64\""), "{text}");
        assert_eq!(errors(&text), 0);
    }

    #[test]
    fn a_declaration_is_neither_written_nor_served() {
        let text = expanded(
            quote!(),
            quote!(
                pub async fn add(a: i64) -> i64;
            ),
        );
        assert!(text.starts_with("#[doc(hidden)]pub struct add{}"), "{text}");
        assert!(text.contains("Declared for add") && !text.contains("inventory"), "{text}");
    }

    #[test]
    fn a_mistake_leaves_the_item_and_its_stub() {
        let text = expanded(
            quote!(idempotant),
            quote!(
                fn add(a: &mut i64) -> i64 {
                    *a
                }
            ),
        );
        assert!(text.starts_with("fn add(a: &mut i64) -> i64{") && text.contains("struct add{}"), "{text}");
        assert!(!text.contains("inventory"), "{text}");
        assert_eq!(errors(&text), 2);

        let text = expanded(quote!(), quote!(impl Counter { fn new() -> Self { Counter } fn get(&self) {} }));
        assert!(text.contains("struct CounterClient") && text.contains("Instance for Counter"), "{text}");
        assert_eq!(errors(&text), 1);
    }

    #[test]
    fn items_of_other_kinds_stay_alone() {
        for item in [
            quote!(
                struct A;
            ),
            quote!(
                trait A {
                    fn a(&self);
                }
            ),
            quote!(
                mod a {}
            ),
            quote!(
                use a::b;
            ),
        ] {
            let text = expanded(quote!(), item.clone());
            assert!(text.starts_with(&crate::text::normalised(item)), "{text}");
            assert_eq!(errors(&text), 1);
        }
    }
}
