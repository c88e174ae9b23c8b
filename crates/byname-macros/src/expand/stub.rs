//! The caller's side of one function.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Lifetime;

use super::output;
use crate::check::{Argument, Function, OutputKind, Passing, ResultPlaces, Takes};

/// The function that makes the call: `receiver` is what it takes before the arguments, `client`
/// and `method` are expressions.
pub(super) fn on(
    function: &Function,
    name: &Ident,
    receiver: &TokenStream,
    client: &TokenStream,
    method: &TokenStream,
) -> TokenStream {
    let byname = &function.library;
    let arguments = function.arguments.iter().map(|argument| &argument.ident);
    let call = if borrows(function) { quote!(call_borrowed) } else { quote!(call) };
    let tuple = tuple(function);
    let result = result(function);
    let arguments = quote!((#(#arguments,)*));
    let arguments = match &function.takes {
        Some(Takes { ident, .. }) => {
            quote!(#byname::__private::ArgumentsWithStream(#arguments, ::core::option::Option::Some(#ident)))
        }
        None => arguments,
    };
    let mut body = quote_spanned! {Span::mixed_site()=>
        (&#byname::__private::CallMaker::<#tuple, #result>::new()).#call(#client, #method, #arguments)
    };
    if function.output.streams {
        body = quote_spanned!(Span::mixed_site()=> #byname::StreamCall::new(#body));
    }
    let body = quote_spanned! {Span::mixed_site()=>
        use #byname::__private::{CallsFit as _, CallsUnfit as _};
        #body
    };
    signature(function, name, receiver, &body)
}

/// The same signature with a body that never runs.
pub(super) fn never(function: &Function, name: &Ident, receiver: &TokenStream) -> TokenStream {
    let arguments = function.arguments.iter().map(|argument| &argument.ident);
    let stream = function.takes.iter().map(|stream| &stream.ident);
    let body = quote_spanned! {Span::mixed_site()=>
        let _ = (#(&#arguments,)* #(&#stream,)*);
        ::core::unimplemented!()
    };
    signature(function, name, receiver, &body)
}

/// The function with that signature and any body.
fn signature(function: &Function, name: &Ident, receiver: &TokenStream, body: &TokenStream) -> TokenStream {
    let Function { library: byname, vis, deprecated, arguments, output, .. } = function;
    let doc = doc(function);
    let borrows = borrows(function).then(|| lifetime().to_token_stream());
    let unknown = matches!(output.kind, OutputKind::Unknown).then(unknown);
    let generics = borrows.iter().chain(&unknown);
    let inputs = arguments.iter().map(|argument| {
        let ident = &argument.ident;
        let ty = passed(argument);
        quote!(#ident: #ty)
    });
    let stream = function.takes.iter().map(|Takes { ident, ty, .. }| quote!(#ident: #ty));
    let inputs = inputs.chain(stream);
    let call = if output.streams { quote!(StreamCall) } else { quote!(Call) };
    let tuple = tuple(function);
    let result = written_result(function);
    // The lint has warned at the function already. The stub has one more argument, the client or `self`.
    let many = (arguments.len() >= 7).then(|| quote!(#[allow(clippy::too_many_arguments)]));
    // The compiler shows the signature from its first to its last token: at the name of the function.
    let here = Span::mixed_site().located_at(name.span());
    let (first, last) = (quote_spanned!(here=> fn), quote_spanned!(here=> >));
    quote_spanned! {Span::mixed_site()=>
        #(#[doc = #doc])*
        #deprecated
        #many
        #vis #first #name<#(#generics),*>(#receiver #(#inputs),*) -> #byname::#call<#tuple, #result #last {
            #body
        }
    }
}

fn borrows(function: &Function) -> bool {
    let borrowed = |argument: &Argument| matches!(argument.passing, Passing::Borrowed(_) | Passing::OptionBorrowed(_));
    function.arguments.iter().any(borrowed)
}

/// The result of the call: a plain value with `byname::Error`, or both errors if the function has its own.
fn result(function: &Function) -> TokenStream {
    let (byname, ty) = (&function.library, &function.output.ty);
    match &function.output.kind {
        OutputKind::Value => quote!(::core::result::Result<#ty, #byname::Error>),
        OutputKind::Result(_) => {
            let (ok, err) = (output::ok(byname, ty), output::err(byname, ty));
            quote!(::core::result::Result<#ok, #byname::CallError<#err>>)
        }
        OutputKind::Unknown => {
            let ty = unknown();
            quote!(::core::result::Result<#ty, #byname::Error>)
        }
    }
}

/// The same as people read it in the documentation. The body has the other: a type that is called `Result` and has its sides
/// elsewhere is an error there.
fn written_result(function: &Function) -> TokenStream {
    let byname = &function.library;
    match &function.output.kind {
        OutputKind::Result(ResultPlaces { ok, err, are_sides: true }) => {
            quote!(::core::result::Result<#ok, #byname::CallError<#err>>)
        }
        _ => result(function),
    }
}

fn tuple(function: &Function) -> TokenStream {
    let unknown = |argument: &Argument| matches!(argument.passing, Passing::Unknown);
    if function.arguments.iter().any(unknown) {
        return quote!(());
    }
    let passed = function.arguments.iter().map(passed);
    let values = quote!((#(#passed,)*));
    streamed(function, values)
}

/// These arguments, and the stream behind them where there is one.
pub(super) fn streamed(function: &Function, values: TokenStream) -> TokenStream {
    let byname = &function.library;
    match &function.takes {
        Some(Takes { item, .. }) => quote!(#byname::__private::ArgumentsWithStream<#values, #item>),
        None => values,
    }
}

fn passed(argument: &Argument) -> TokenStream {
    let ty = &argument.ty;
    match &argument.passing {
        Passing::Owned => ty.to_token_stream(),
        Passing::Borrowed(referent) => {
            let lifetime = lifetime();
            quote!(&#lifetime #referent)
        }
        Passing::OptionBorrowed(referent) => {
            let lifetime = lifetime();
            quote!(::core::option::Option<&#lifetime #referent>)
        }
        Passing::Unknown => quote!(impl ::core::marker::Sized),
    }
}

/// The documentation up to its first example, which would be tested again here. A function without documentation gets a
/// generated line, so that the lint `missing_docs` warns at the function only.
pub(super) fn doc(function: &Function) -> Vec<String> {
    if function.doc.is_empty() {
        return vec![format!(" Calls `{}`.", function.name.text)];
    }
    function
        .doc
        .lines()
        .take_while(|line| !line.trim_start().starts_with("```"))
        .map(|line| format!(" {line}"))
        .collect()
}

fn lifetime() -> Lifetime {
    Lifetime::new("'call", Span::mixed_site())
}

fn unknown() -> TokenStream {
    quote_spanned!(Span::mixed_site()=> Unknown)
}
