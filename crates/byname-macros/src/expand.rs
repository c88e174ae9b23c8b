//! Writes the item back, with what makes it callable from elsewhere.

mod block;
mod client;
mod contract;
mod fake;
mod function;
mod handler;
mod method_error;
mod output;
mod spec;
mod stub;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::Path;

use crate::ast::{self, Item};
use crate::attr::{Options, Place};
use crate::check;
use crate::errors::Errors;

/// The whole attribute: its options and the item under it.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    match Item::parse(&item) {
        Ok(Item::Function(written)) => function(options, &written),
        Ok(Item::Block(written)) => match &written.head.trait_ {
            Some((path, _)) => implementation(options, path, &written),
            None => block(options, &written),
        },
        Ok(Item::Contract(written)) => contract(options, &written),
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

/// The derive macro: what it adds to the type.
pub(crate) fn method_error(item: TokenStream) -> TokenStream {
    method_error::expand(item)
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

fn implementation(options: TokenStream, path: &Path, written: &ast::Block) -> TokenStream {
    let mut errors = Errors::default();
    let library = check::implementation(written, options, &mut errors);
    let expansion = contract::implementation(&library, path, written);
    with_errors(&errors, quote!(#written #expansion))
}

fn contract(options: TokenStream, written: &ast::Contract) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(options, Place::Contract, &mut errors);
    let checked = check::contract(written, options, &mut errors);
    if errors.is_empty() {
        contract::expand(written, &checked)
    } else {
        let fallback = contract::fallback(written, &checked);
        with_errors(&errors, fallback)
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
        crate::source_text::normalised(tokens)
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
        assert!(text.starts_with(&crate::source_text::normalised(item)), "{text}");
        assert!(text.contains("pub struct add{}"), "{text}");
        assert!(text.contains("name: \"add\"") && text.contains("name: \"b\", ty: \"i64\""), "{text}");
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
        assert!(text.starts_with("#[doc = \" Calls `add`.\"]pub struct add{}"), "{text}");
        assert!(text.contains("Declared for add") && !text.contains("inventory"), "{text}");
        assert!(text.contains("HasBody<add>"), "{text}");
    }

    #[test]
    fn an_invalid_function_still_defines_its_stub() {
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
    fn a_contract_is_a_trait_with_futures_a_client_and_a_marker() {
        let text = expanded(
            quote!(prefix = "users"),
            quote! {
                /// Who there is.
                pub(crate) trait Users: Send {
                    #[rpc(readonly)]
                    async fn get(&self, #[rpc(default = 1)] id: u64) -> Result<User, UserError>;
                }
            },
        );
        assert!(text.contains("pub(crate)trait Users: ::core::marker::Send + ::core::marker::Sync"), "{text}");
        let method = "fn get(&self, id: u64) -> impl::core::future::Future<Output = Result<User, UserError>>";
        assert!(text.contains(method), "{text}");
        for part in [
            "pub(crate)struct UsersClient{",
            "pub(crate)struct UsersContract{}",
            "pub(crate)fn get<>(&self, id: u64) -> ::byname::Call<",
            "impl Users for UsersClient{",
            "impl<__BynameService: Users>::byname::Contract<__BynameService>for UsersContract",
            "name: \"users.get\"",
            "returns: \"Result<User, UserError>\"",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("#[rpc"), "{text}");
        assert_eq!(errors(&text), 0);
    }

    #[test]
    fn an_implementation_stays_as_it_is_and_can_be_injected() {
        let item = quote! {
            impl<T: Store> users::Users for Db<T> {
                async fn get(&self, id: u64) -> Result<User, UserError> { self.0.get(id).await }
            }
        };
        let text = expanded(quote!(), item.clone());
        assert!(text.starts_with(&crate::source_text::normalised(item)), "{text}");
        assert!(text.contains("impl<T: Store>::byname::Instance for Db<T>"), "{text}");
        assert!(!text.contains("struct ") && !text.contains("inventory"), "{text}");
        assert_eq!(errors(&text), 0);
    }

    #[test]
    fn a_block_and_an_implementation_for_one_type_are_registered_once() {
        for item in [
            quote!(impl Counter { async fn bump(&self) {} async fn get(&self) {} }),
            quote!(impl Users for Db { async fn get(&self, id: u64) -> Result<User, UserError> {} }),
        ] {
            let text = expanded(quote!(), item);
            assert_eq!(text.matches("BlockRegistration").count(), 1, "{text}");
            assert_eq!(errors(&text), 0);
        }
    }

    #[test]
    fn an_invalid_contract_still_defines_its_types() {
        let text = expanded(
            quote!(),
            quote! {
                trait Users {
                    async fn get(&self, id: u64) -> Result<User, UserError>;
                    fn count(&self) -> Result<u64, UserError>;
                }
            },
        );
        for part in ["trait Users", "struct UsersClient", "struct UsersContract", "impl Users for UsersClient{}"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert_eq!(errors(&text), 1);

        let text = expanded(
            quote!(),
            quote!(
                trait Users<T> {
                    type Id;
                    fn new() -> Self;
                }
            ),
        );
        assert!(text.starts_with("trait Users<T>") && !text.contains("for UsersClient"), "{text}");
        assert_eq!(errors(&text), 3);
    }

    #[test]
    fn the_library_is_where_the_option_says_and_nowhere_else() {
        let function = quote! {
            async fn all(a: &str, #[rpc(default = 1)] b: u8, c: Streaming<u8>) -> impl Stream<Item = Result<u8, E>> {}
        };
        let items = [
            function.clone(),
            quote!(
                async fn add(a: i64) -> i64;
            ),
            quote!(
                fn slow(a: &[u8]) -> Result<(), E> {}
            ),
            quote!(impl Counter { async fn get(&self, #[a::b::rpc(default = 1)] a: u8) -> u8 { a } fn bump(&self) {} }),
            quote! {
                trait Users {
                    async fn get(&self, #[rpc(default = 1)] id: u64) -> Result<User, UserError>;
                    fn all(&self) -> impl Stream<Item = Result<User, UserError>>;
                }
            },
            quote!(impl Users for Db { async fn get(&self, id: u64) -> Result<User, UserError> {} }),
            // Mistakes, around which there are stand-ins.
            quote!(
                fn wrong(a: &mut i64) -> i64 {}
            ),
            quote!(impl Counter { fn new() -> Self {} fn get(&self) {} }),
            quote!(
                trait Users {
                    fn count(&self) -> Result<u64, UserError>;
                    async fn all(&self) -> impl Stream<Item = Result<User, UserError>>;
                }
            ),
        ];
        for item in items {
            let text = expanded(quote!(crate = my::rpc), item.clone());
            assert!(text.contains("my::rpc::"), "{text}");
            assert!(!text.contains("byname::") && !text.contains("::my::rpc"), "{text}");
            assert!(!text.contains("#[a::b::rpc"), "{text}");
            let text = expanded(quote!(crate = ::other), item);
            assert!(text.contains("::other::") && !text.contains("byname::"), "{text}");
        }
        let text = expanded(
            quote!(blocking, crate = my::rpc),
            quote!(
                fn slow() {}
            ),
        );
        assert!(text.contains("my::rpc::__private::blocking") && !text.contains("byname::"), "{text}");
    }

    #[test]
    fn items_of_other_kinds_stay_alone() {
        for item in [
            quote!(
                struct A;
            ),
            quote!(
                mod a {}
            ),
            quote!(
                use a::b;
            ),
        ] {
            let text = expanded(quote!(), item.clone());
            assert!(text.starts_with(&crate::source_text::normalised(item)), "{text}");
            assert_eq!(errors(&text), 1);
        }
    }
}
