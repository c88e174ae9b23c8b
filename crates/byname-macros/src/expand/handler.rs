//! The server's side of functions: from decoded arguments to their futures.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::{client, output, stub};
use crate::check::{Function, Manner, OutputKind, Passing};

/// The handlers of methods as a block that ends in their `Vec`, for the instance `this`, which is an `Arc`.
///
/// `ty` is the type of the instance, `callees` that or the trait as a path that the methods' names follow.
pub(super) fn handlers(methods: &[Function], ty: &TokenStream, callees: &TokenStream) -> TokenStream {
    let this = Ident::new("this", Span::mixed_site());
    let deprecated = methods.iter().any(|method| method.deprecated.is_some());
    let allow = deprecated.then(|| quote!(#[allow(deprecated)]));
    let handlers = methods.iter().enumerate().map(|(index, method)| {
        let Function { cfgs, ident, .. } = method;
        let name = client::method_static(index);
        let handler = handler(method, &quote!(&#name), &quote!(#callees::#ident), Some(Instance { this: &this, ty }));
        quote_spanned!(Span::mixed_site()=> #(#cfgs)* #allow handlers.push(#handler);)
    });
    quote_spanned! {Span::mixed_site()=>
        let mut handlers = ::std::vec::Vec::new();
        #(#handlers)*
        handlers
    }
}

/// The instance that a method is called on.
pub(super) struct Instance<'a> {
    /// The variable that holds it in an `Arc`.
    this: &'a Ident,
    ty: &'a TokenStream,
}

/// The expression of a `Handler` that calls `callee`, for a method on a clone of `instance`.
pub(super) fn handler(
    function: &Function,
    method: &TokenStream,
    callee: &TokenStream,
    instance: Option<Instance<'_>>,
) -> TokenStream {
    // The compiler's errors about the future are shown at the function's name.
    let here = Span::mixed_site().located_at(function.ident.span());
    let byname = function.library.at(here);
    let owned = function.arguments.iter().map(|argument| &argument.owned);
    let arguments = stub::streamed(function, quote!((#(#owned,)*)));
    // Generated names, because an argument may have the name of the function.
    let names: Vec<Ident> =
        (0..function.arguments.len()).map(|index| format_ident!("argument_{index}", span = here)).collect();
    let this = instance.as_ref().map(|instance| instance.this);
    let ty = instance.as_ref().map_or_else(|| quote!(()), |instance| instance.ty.clone());
    let output = &function.output.ty;
    let (ok, err) = match function.output.kind {
        OutputKind::Result(_) => (output::ok(&function.library, output), output::err(&function.library, output)),
        _ => (output.clone(), quote!(())),
    };
    let serves = quote_spanned!(here=> (&#byname::__private::HandlerMaker::<#ty, #arguments, #ok, #err>::new()));
    let future = future(function, callee, this, &names, &serves, here);
    let pattern = match function.takes {
        Some(_) => quote_spanned!(here=> #byname::__private::ArgumentsWithStream((#(#names,)*), stream)),
        None => quote_spanned!(here=> (#(#names,)*)),
    };
    let closure = match this {
        None => quote_spanned!(here=> |#pattern| #future),
        Some(this) => quote_spanned! {here=>
            {
                let #this = ::core::clone::Clone::clone(&#this);
                move |#pattern| {
                    let #this = ::core::clone::Clone::clone(&#this);
                    #future
                }
            }
        },
    };
    let summary = summary(&byname, here);
    let serve = match (&function.output.kind, function.output.streams) {
        (OutputKind::Result(_), false) => quote_spanned!(here=> fallible(#method, #summary, #closure)),
        (_, false) => quote_spanned!(here=> plain(#method, #closure)),
        (OutputKind::Result(_), true) => quote_spanned!(here=> stream_fallible(#method, #closure)),
        (_, true) => quote_spanned!(here=> stream(#method, #closure)),
    };
    quote_spanned! {here=>
        {
            use #byname::__private::{SummaryOfAny as _, SummaryOfMethodError as _};
            use #byname::__private::{ServesFit as _, ServesUnfit as _};
            #serves.#serve
        }
    }
}

/// The closure that asks a function's own error for its code and its message.
pub(super) fn summary(byname: &TokenStream, here: Span) -> TokenStream {
    quote_spanned!(here=> |error| (&#byname::__private::OwnError(error)).summary())
}

fn future(
    function: &Function,
    callee: &TokenStream,
    this: Option<&Ident>,
    names: &[Ident],
    serves: &TokenStream,
    here: Span,
) -> TokenStream {
    let byname = function.library.at(here);
    let mut borrows = this.is_some();
    let this = this.map(|this| quote!(&#this,));
    let mut arguments = Vec::new();
    for (argument, name) in function.arguments.iter().zip(names) {
        arguments.push(match &argument.passing {
            Passing::Borrowed(_) => quote!(&#name),
            Passing::OptionBorrowed(referent) => {
                quote_spanned!(here=> #byname::__private::borrowed::<_, #referent>(&#name))
            }
            Passing::Owned | Passing::Unknown => quote!(#name),
        });
        borrows |= matches!(argument.passing, Passing::Borrowed(_) | Passing::OptionBorrowed(_));
    }
    if function.takes.is_some() {
        arguments.push(quote_spanned!(here=> #byname::__private::stream(stream)));
    }
    let mut call = quote_spanned!(here=> #callee(#this #(#arguments),*));
    if function.output.streams {
        if function.manner == Manner::Async {
            call = quote_spanned!(here=> #call.await);
        }
        let summary = summary(&byname, here);
        let yields = match function.output.kind {
            OutputKind::Result(_) => quote_spanned!(here=> yields_fallible(#summary, #call)),
            _ => quote_spanned!(here=> yields(#call)),
        };
        // The stream may borrow what the future owns.
        return quote_spanned!(here=> async move { let stream = #serves.#yields; stream.await });
    }
    match function.manner {
        // The function's own future is enough if it borrows nothing.
        Manner::Async if !borrows => call,
        Manner::Async => quote_spanned!(here=> async move { #call.await }),
        Manner::Inline => quote_spanned!(here=> async move { #call }),
        Manner::Blocking => quote_spanned!(here=> #byname::__private::blocking(move || #call)),
    }
}
