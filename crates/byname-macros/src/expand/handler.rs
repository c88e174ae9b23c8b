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
    let owned = function.arguments.iter().map(|argument| &argument.owned);
    let arguments = quote!((#(#owned,)*));
    // Names of our own, as an argument may be called what the function is called.
    let names: Vec<Ident> = (0..function.arguments.len())
        .map(|index| format_ident!("argument_{index}", span = Span::mixed_site()))
        .collect();
    let future = future(function, callee, instance, &names);
    let closure = match instance {
        None => quote_spanned!(Span::mixed_site()=> |(#(#names,)*)| #future),
        Some(instance) => quote_spanned! {Span::mixed_site()=>
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
    let (ok, err, serve) = match function.output.kind {
        OutputKind::Result => (
            output::ok(&function.output.ty),
            output::err(&function.output.ty),
            quote_spanned! {Span::mixed_site()=>
                fallible(#method, |error| (&::byname::__private::CodeOf(error)).code(), #closure)
            },
        ),
        _ => (
            function.output.ty.clone(),
            quote!(()),
            quote_spanned!(Span::mixed_site()=> plain(#method, #closure)),
        ),
    };
    quote_spanned! {Span::mixed_site()=>
        (&::byname::__private::Serves::<#instance, #arguments, #ok, #err>::new()).#serve
    }
}

/// What must be in scope where there are handlers.
pub(super) fn traits() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use ::byname::__private::{CodeOfAny as _, CodeOfMethodError as _, ServesFit as _, ServesUnfit as _};
    }
}

fn future(
    function: &Function,
    callee: &TokenStream,
    instance: Option<&Ident>,
    names: &[Ident],
) -> TokenStream {
    let instance = instance.map(|instance| quote!(&#instance,));
    let mut borrows = instance.is_some();
    let arguments = function.arguments.iter().zip(names).map(|(argument, name)| {
        if let Passing::Borrowed(_) = argument.passing {
            borrows = true;
            quote!(&#name)
        } else {
            quote!(#name)
        }
    });
    let arguments: Vec<TokenStream> = arguments.collect();
    let call = quote_spanned!(Span::mixed_site()=> #callee(#instance #(#arguments),*));
    match function.manner {
        Manner::Async if borrows => quote_spanned!(Span::mixed_site()=> async move { #call.await }),
        Manner::Async => call,
        Manner::Inline => quote_spanned!(Span::mixed_site()=> async move { #call }),
        Manner::Blocking => quote_spanned! {Span::mixed_site()=>
            ::byname::__private::blocking(move || #call)
        },
    }
}
