//! A function or a declaration: the stub, and for a function the glue that serves it.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use super::{fake, handler, never, output, spec, stub};
use crate::check::{Function, Manner};
use crate::spans::{all_at, unlinted};

pub(super) fn expand(function: &Function) -> TokenStream {
    let stub = item(function);
    let declared = declared(function);
    let local = (!function.has_body && function.stub == function.ident).then(|| no_local_function(function));
    let served = function.has_body.then(|| served(function));
    let checks = output::checks(function);
    let cfgs = &function.cfgs;
    quote_spanned! {Span::mixed_site()=>
        #stub
        #local
        #(#cfgs)*
        const _: () = {
            #declared
            #served
            #checks
        };
    }
}

/// Stands in for the expansion when there is an error, so that no other error follows.
pub(super) fn fallback(function: &Function) -> TokenStream {
    let (byname, ty) = (&function.library, stub_ident(function));
    let receiver = quote_spanned!(Span::mixed_site()=> _: &#byname::Client,);
    let never = never();
    let on = stub::never(function, &on_ident(function), &receiver);
    let stub = struct_and_impl(function, &ty, &on);
    let cfgs = &function.cfgs;
    quote_spanned! {Span::mixed_site()=>
        #stub
        #(#cfgs)*
        impl #byname::__private::Declared for #ty {
            fn method() -> &'static #byname::__private::Method { #never }
        }
        #(#cfgs)*
        impl #byname::Function for #ty {
            fn handler() -> #byname::__private::Handler { #never }
        }
    }
}

/// The type of the function's name, and its `on`.
fn item(function: &Function) -> TokenStream {
    let (byname, ty) = (&function.library, stub_ident(function));
    let method = quote_spanned!(Span::mixed_site()=> <Self as #byname::__private::Declared>::method());
    let client = quote_spanned!(Span::mixed_site()=> client);
    let receiver = quote!(#client: &#byname::Client,);
    let on = stub::on(function, &on_ident(function), &receiver, &client, &method);
    let vis = function.vis.to_token_stream();
    let fake = fake::fake(function, &shown_here("fake", function), &vis, &quote!(), &method);
    struct_and_impl(function, &ty, &quote!(#on #fake))
}

fn struct_and_impl(function: &Function, ty: &Ident, on: &TokenStream) -> TokenStream {
    let Function { vis, cfgs, .. } = function;
    // The compiler shows all of it if its name is taken already.
    let item = all_at(ty.span(), quote!(#vis struct #ty));
    // A function has its own page in the documentation; of a declaration there is only this.
    let doc = if function.has_body {
        quote!(#[doc(hidden)])
    } else {
        let doc = stub::doc(function);
        quote!(#(#[doc = #doc])*)
    };
    quote_spanned! {Span::mixed_site()=>
        #doc
        #(#cfgs)*
        #item {}
        #(#cfgs)*
        impl #ty { #on }
    }
}

/// A function of the declaration's name that nothing can call: a call of it would otherwise be an error about the stub's
/// type, with advice that leads nowhere.
fn no_local_function(function: &Function) -> TokenStream {
    let Function { library: byname, vis, cfgs, output, .. } = function;
    let ident = unlinted(&function.ident);
    let ty = stub_ident(function);
    let stream = function.takes.iter().map(|stream| (&stream.ident, &stream.ty));
    let inputs = function.arguments.iter().map(|argument| (&argument.ident, &argument.ty)).chain(stream);
    let inputs = inputs.map(|(ident, ty)| quote!(#ident: #ty));
    let returned = &output.ty;
    let returned = match function.manner {
        _ if output.streams => quote!(#byname::__private::NoStream<#returned>),
        Manner::Async => quote!(::core::future::Pending<#returned>),
        _ => returned.clone(),
    };
    // The lifetime keeps the compiler from seeing at the declaration that this never holds.
    quote_spanned! {Span::mixed_site()=>
        #[doc(hidden)]
        #[allow(dead_code, unused_variables, clippy::too_many_arguments)]
        #(#cfgs)*
        #vis fn #ident(#(#inputs),*) -> #returned
        where
            for<'body> #byname::__private::Declaration<'body>: #byname::__private::HasBody<#ty>,
        {
            ::core::unreachable!()
        }
    }
}

fn stub_ident(function: &Function) -> Ident {
    unlinted(&function.stub)
}

/// `on`, with the location of the function.
fn on_ident(function: &Function) -> Ident {
    shown_here("on", function)
}

fn shown_here(name: &str, function: &Function) -> Ident {
    Ident::new(name, Span::mixed_site().located_at(function.ident.span()))
}

fn declared(function: &Function) -> TokenStream {
    let (byname, ty) = (&function.library, stub_ident(function));
    let spec = spec::spec(function);
    quote_spanned! {Span::mixed_site()=>
        static __BYNAME_SPEC: #byname::__private::MethodSpec = #spec;
        impl #byname::__private::Declared for #ty {
            fn method() -> &'static #byname::__private::Method {
                static METHOD: ::std::sync::LazyLock<#byname::__private::Method> =
                    ::std::sync::LazyLock::new(|| #byname::__private::Method::new(&__BYNAME_SPEC));
                &METHOD
            }
        }
    }
}

fn served(function: &Function) -> TokenStream {
    let (byname, ty) = (&function.library, stub_ident(function));
    let method = quote_spanned!(Span::mixed_site()=> <#ty as #byname::__private::Declared>::method());
    let ident = &function.ident;
    let handler = handler::handler(function, &method, &quote!(#ident), None);
    let allow = function.deprecated.as_ref().map(|_| quote!(#[allow(deprecated)]));
    quote_spanned! {Span::mixed_site()=>
        impl #byname::Function for #ty {
            #allow
            fn handler() -> #byname::__private::Handler { #handler }
        }
        use #byname::__private::inventory::submit as __byname_submit;
        __byname_submit! {
            #byname::__private::Registration {
                handler: <#ty as #byname::Function>::handler,
                spec: &__BYNAME_SPEC,
                path: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#ident)),
            }
        }
    }
}
