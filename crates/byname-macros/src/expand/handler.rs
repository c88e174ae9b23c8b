//! The server's side of one function: from decoded arguments to its future.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::output;
use crate::check::{Function, Manner, OutputKind, Passing};

/// The expression of a `Handler` that calls `callee`, for a method on a clone of `instance`.
pub(super) fn handler(
    function: &Function,
    method: &TokenStream,
    callee: &TokenStream,
    instance: Option<&Ident>,
) -> TokenStream {
    // What the compiler says of the future is said at the function's name.
    let here = Span::mixed_site().located_at(function.ident.span());
    let owned = function.arguments.iter().map(|argument| &argument.owned);
    let arguments = quote!((#(#owned,)*));
    // Names of our own, as an argument may be called what the function is called.
    let names: Vec<Ident> =
        (0..function.arguments.len()).map(|index| format_ident!("argument_{index}", span = here)).collect();
    let future = future(function, callee, instance, &names, here);
    let closure = match instance {
        None => quote_spanned!(here=> |(#(#names,)*)| #future),
        Some(instance) => quote_spanned! {here=>
            {
                let #instance = ::std::sync::Arc::clone(&#instance);
                move |(#(#names,)*)| {
                    let #instance = ::std::sync::Arc::clone(&#instance);
                    #future
                }
            }
        },
    };
    let instance = instance.map_or_else(|| quote!(()), |_| quote!(Self));
    let output = &function.output.ty;
    let (ok, err, serve) = match function.output.kind {
        OutputKind::Result(_) => (
            output::ok(output),
            output::err(output),
            quote_spanned! {here=>
                fallible(#method, |error| (&::byname::__private::CodeOf(error)).code(), #closure)
            },
        ),
        _ => (output.clone(), quote!(()), quote_spanned!(here=> plain(#method, #closure))),
    };
    quote_spanned! {here=>
        {
            use ::byname::__private::{CodeOfAny as _, CodeOfMethodError as _};
            use ::byname::__private::{ServesFit as _, ServesUnfit as _};
            (&::byname::__private::Serves::<#instance, #arguments, #ok, #err>::new()).#serve
        }
    }
}

fn future(
    function: &Function,
    callee: &TokenStream,
    instance: Option<&Ident>,
    names: &[Ident],
    here: Span,
) -> TokenStream {
    let mut borrows = instance.is_some();
    let instance = instance.map(|instance| quote!(&#instance,));
    let mut arguments = Vec::new();
    for (argument, name) in function.arguments.iter().zip(names) {
        if let Passing::Borrowed(_) = argument.passing {
            borrows = true;
            arguments.push(quote!(&#name));
        } else {
            arguments.push(quote!(#name));
        }
    }
    let call = quote_spanned!(here=> #callee(#instance #(#arguments),*));
    match function.manner {
        // The function's own future will do, where it borrows nothing.
        Manner::Async if !borrows => call,
        Manner::Async => quote_spanned!(here=> async move { #call.await }),
        Manner::Inline => quote_spanned!(here=> async move { #call }),
        Manner::Blocking => quote_spanned!(here=> ::byname::__private::blocking(move || #call)),
    }
}
