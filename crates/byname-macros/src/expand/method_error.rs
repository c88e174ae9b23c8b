//! `#[derive(MethodError)]`: the code and the message of each case.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::DeriveInput;
use syn::parse_quote;

use super::never;
use crate::check::{self, ErrorCase, OwnError};
use crate::errors::Errors;

pub(super) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let written = match syn::parse2::<DeriveInput>(item) {
        Ok(written) => written,
        Err(error) => return error.to_compile_error(),
    };
    let checked = check::own_error(written, &mut errors);
    let byname = &checked.library;
    if errors.is_empty() {
        let (code, message) = (code(&checked), message(&checked));
        implementation(&checked, quote!(#code #message))
    } else {
        let never = never();
        let code = quote!(fn code(&self) -> #byname::Code { #never });
        let (implementation, errors) = (implementation(&checked, code), errors.to_compile_errors());
        quote!(#implementation #errors)
    }
}

fn implementation(error: &OwnError, methods: TokenStream) -> TokenStream {
    let OwnError { library: byname, ident, .. } = error;
    let mut generics = error.generics.clone();
    if generics.type_params().next().is_some() && error.cases.iter().any(|case| case.has_message) {
        let (_, arguments, _) = error.generics.split_for_impl();
        let displayed = parse_quote!(#ident #arguments: ::core::fmt::Display);
        generics.make_where_clause().predicates.push(displayed);
    }
    let (parameters, arguments, bounds) = generics.split_for_impl();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        #[allow(deprecated)]
        impl #parameters #byname::MethodError for #ident #arguments #bounds {
            #methods
        }
    }
}

fn code(error: &OwnError) -> TokenStream {
    let byname = &error.library;
    let cases = error.cases.iter().map(|ErrorCase { pattern, code, .. }| quote!(#pattern => #byname::Code::#code,));
    quote_spanned! {Span::mixed_site()=>
        fn code(&self) -> #byname::Code {
            match *self { #(#cases)* }
        }
    }
}

/// The whole `Display` of the cases that have one for callers; none where no case has.
fn message(error: &OwnError) -> Option<TokenStream> {
    let byname = &error.library;
    let hidden = error.cases.iter().filter(|case| !case.has_message).map(|case| &case.pattern);
    if error.cases.iter().all(|case| !case.has_message) {
        return None;
    }
    // A type without `Display` is shown at its name.
    let here = Span::mixed_site().located_at(error.ident.span());
    let byname_here = error.library.at(here);
    let text = quote_spanned!(here=> #byname_here::__private::MessageOfDisplay::message(self));
    Some(quote_spanned! {Span::mixed_site()=>
        fn message(&self) -> ::core::option::Option<#byname::__private::String> {
            match *self {
                #(#hidden => ::core::option::Option::None,)*
                _ => ::core::option::Option::Some(#text),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(item: TokenStream) -> String {
        let tokens = expand(item);
        if let Err(error) = syn::parse2::<syn::File>(tokens.clone()) {
            panic!("{error}: {tokens}");
        }
        crate::source_text::normalised(tokens)
    }

    #[test]
    fn variants_have_their_codes_and_the_type_has_the_rest() {
        let text = expanded(quote! {
            #[code(aborted)]
            enum E<T> { #[code(not_found)] A(T), #[method_error(message = false)] B { b: u8 }, C }
        });
        for part in [
            "impl<T>::byname::MethodError for E<T>where E<T>: ::core::fmt::Display{",
            "Self::A{..} =>::byname::Code::NotFound, Self::B{..} =>::byname::Code::Aborted, Self::C{..} =>::byname::Code::Aborted",
            "Self::B{..} =>::core::option::Option::None, _ =>::core::option::Option::Some(",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn display_is_not_called_when_message_is_false() {
        for item in [
            quote!(
                #[method_error(message = false)]
                struct E;
            ),
            quote!(
                enum E {
                    #[method_error(message = false)]
                    A,
                    #[method_error(message = false)]
                    B,
                }
            ),
            quote!(
                enum E {}
            ),
        ] {
            let text = expanded(item);
            assert!(text.contains("fn code") && !text.contains("fn message"), "{text}");
        }
    }

    #[test]
    fn an_invalid_contract_keeps_its_trait_and_its_crate_path() {
        let text = expanded(quote!(
            #[method_error(crate = my::rpc)]
            struct E(#[code(aborted)] u8);
        ));
        assert!(text.contains("impl my::rpc::MethodError for E") && !text.contains("byname"), "{text}");
        assert_eq!(text.matches("::core::compile_error!").count(), 1, "{text}");
        let text = expanded(quote!(
            #[method_error(crate = my::rpc)]
            struct E(u8);
        ));
        assert!(text.contains("my::rpc::__private::MessageOfDisplay") && !text.contains("byname"), "{text}");
        let text = expanded(quote!(union E { a: u8 }));
        assert_eq!(text.matches("::core::compile_error!").count(), 1, "{text}");
    }
}
