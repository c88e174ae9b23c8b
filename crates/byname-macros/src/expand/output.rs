//! The return type, which only the compiler can resolve.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};

use crate::check::{Function, Output, OutputKind, Takes};
use crate::crate_path::Library;
use crate::spans::{at, ends};

/// The type of a success of a function that returns a `Result`, which may be an alias.
pub(super) fn ok(byname: &Library, result: &TokenStream) -> TokenStream {
    at(result, quote!(<#result as #byname::__private::ReturnValue>::Ok))
}

pub(super) fn err(byname: &Library, result: &TokenStream) -> TokenStream {
    at(result, quote!(<#result as #byname::__private::ReturnValue>::Err))
}

/// Rejects results and items that can't be sent. Nothing else requires this of them, so there is one error, at the
/// type.
pub(super) fn checks(function: &Function) -> TokenStream {
    let byname = &function.library;
    let output = value_checks(byname, &function.output);
    let stream = function.takes.iter().map(|Takes { item, .. }| {
        quote_spanned!(Span::mixed_site()=> const _: () = #byname::__private::streamed::<#item>();)
    });
    quote!(#output #(#stream)*)
}

fn value_checks(byname: &Library, output: &Output) -> Option<TokenStream> {
    let ty = &output.ty;
    match &output.kind {
        OutputKind::Unknown => None,
        OutputKind::Value => {
            let hidden_result = hidden_result(byname, ty);
            Some(quote_spanned! {Span::mixed_site()=>
                const _: () = #byname::__private::returned::<#ty>();
                #hidden_result
            })
        }
        OutputKind::Result(places) => {
            let ok = at(&places.ok, ok(byname, ty));
            let err = at(&places.err, err(byname, ty));
            Some(quote_spanned! {Span::mixed_site()=>
                const _: () = #byname::__private::returned::<#ok>();
                const _: () = #byname::__private::returned::<#err>();
            })
        }
    }
}

/// A `Result` under another name would go out as a success.
fn hidden_result(library: &Library, ty: &TokenStream) -> TokenStream {
    let (first, last) = ends(ty);
    let byname = library.at(last);
    let arguments = quote_spanned! {last=>
        (
            !#byname::__private::IsResult::<#ty>::VALUE,
            "this is a `Result` under another name: its errors would go out as successes\n\
             help: write `Result<…>` or a path that ends in `Result`, such as `io::Result<…>`"
        )
    };
    let assert = quote_spanned!(first=> ::core::assert! #arguments);
    let byname = library;
    quote_spanned! {Span::mixed_site()=>
        const _: () = {
            use #byname::__private::NotResult as _;
            #assert
        };
    }
}

/// Rejects an error type of a contract that a failed call can't be converted to.
pub(super) fn converts(byname: &Library, output: &Output) -> Option<TokenStream> {
    let OutputKind::Result(places) = &output.kind else {
        return None;
    };
    let err = at(&places.err, err(byname, &output.ty));
    Some(quote_spanned!(Span::mixed_site()=> const _: () = #byname::__private::converts::<#err>();))
}
