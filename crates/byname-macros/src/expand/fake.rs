//! The generated function that makes a fake of a function or method from a closure.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::{handler, output, stub};
use crate::check::{Function, OutputKind};

/// An associated function called `name`, or with a `receiver` a method. `method` is the expression of the function's
/// description.
///
/// The bounds name `Fn` and the types, so that the closure's arguments need none and a closure of another shape is an error
/// at the closure.
pub(super) fn fake(
    function: &Function,
    name: &Ident,
    vis: &TokenStream,
    receiver: &TokenStream,
    method: &TokenStream,
) -> TokenStream {
    let Function { library: byname, output, .. } = function;
    let owned = function.arguments.iter().map(|argument| &argument.owned);
    let stream = function.takes.iter().map(|stream| {
        let ty = &stream.ty;
        quote!(#ty)
    });
    let inputs = owned.map(|owned| quote!(#owned)).chain(stream);
    let returned = &output.ty;
    let bound = if output.streams {
        quote_spanned!(Span::mixed_site()=> #byname::__private::Stream<Item = #returned> + ::core::marker::Send + 'static)
    } else {
        quote_spanned!(Span::mixed_site()=> ::core::future::Future<Output = #returned> + ::core::marker::Send + 'static)
    };
    let handler = made(function, method);
    let doc =
        format!(" A fake of `{}`, for `Server::inject` in tests: `closure` answers its calls.", function.name.text);
    quote_spanned! {Span::mixed_site()=>
        #[doc = #doc]
        #[allow(dead_code, clippy::type_complexity, clippy::unused_self)]
        #vis fn #name<Closure, Returned>(#receiver closure: Closure) -> #byname::Fake
        where
            Closure: ::core::ops::Fn(#(#inputs),*) -> Returned + ::core::marker::Send + ::core::marker::Sync + 'static,
            Returned: #bound,
        {
            #byname::Fake::new(#handler)
        }
    }
}

/// The handler that calls `closure`, whose work before it returns is a part of the call.
fn made(function: &Function, method: &TokenStream) -> TokenStream {
    let byname = &function.library;
    let owned = function.arguments.iter().map(|argument| &argument.owned);
    let arguments = stub::streamed(function, quote!((#(#owned,)*)));
    let names: Vec<Ident> = (0..function.arguments.len())
        .map(|index| format_ident!("argument_{index}", span = Span::mixed_site()))
        .collect();
    let output = &function.output.ty;
    let fallible = matches!(function.output.kind, OutputKind::Result(_));
    let (ok, err) = match fallible {
        true => (output::ok(byname, output), output::err(byname, output)),
        false => (output.clone(), quote!(())),
    };
    let maker =
        quote_spanned!(Span::mixed_site()=> (&#byname::__private::HandlerMaker::<(), #arguments, #ok, #err>::new()));
    let (pattern, stream) = match function.takes {
        Some(_) => (
            quote_spanned!(Span::mixed_site()=> #byname::__private::ArgumentsWithStream((#(#names,)*), stream)),
            Some(quote_spanned!(Span::mixed_site()=> #byname::__private::stream(stream))),
        ),
        None => (quote!((#(#names,)*)), None),
    };
    let inputs = names.iter().map(|name| quote!(#name)).chain(stream);
    let call = quote_spanned!(Span::mixed_site()=> closure(#(#inputs),*));
    let summary = handler::summary(&quote!(#byname), Span::mixed_site());
    let (serve, future) = match (fallible, function.output.streams) {
        (false, false) => (quote!(plain), quote_spanned!(Span::mixed_site()=> #call.await)),
        (true, false) => (quote!(fallible), quote_spanned!(Span::mixed_site()=> #call.await)),
        (false, true) => {
            (quote!(stream), quote_spanned!(Span::mixed_site()=> let stream = #maker.yields(#call); stream.await))
        }
        (true, true) => (
            quote!(stream_fallible),
            quote_spanned!(Span::mixed_site()=> let stream = #maker.yields_fallible(#summary, #call); stream.await),
        ),
    };
    let summary = (fallible && !function.output.streams).then(|| quote!(#summary,));
    quote_spanned! {Span::mixed_site()=>
        {
            use #byname::__private::{SummaryOfAny as _, SummaryOfMethodError as _};
            use #byname::__private::{ServesFit as _, ServesUnfit as _};
            let closure = ::std::sync::Arc::new(closure);
            #maker.#serve(#method, #summary move |#pattern| {
                let closure = ::core::clone::Clone::clone(&closure);
                async move { #future }
            })
        }
    }
}
