//! A function or a declaration: the stub, and for a function the glue that serves it.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};

use super::{handler, never, output, spec, stub};
use crate::check::Function;
use crate::place::{all_at, unlinted};

pub(super) fn expand(function: &Function) -> TokenStream {
    let stub = item(function);
    let declared = declared(function);
    let served = function.has_body.then(|| served(function));
    let checks = output::checks(function);
    let cfgs = &function.cfgs;
    quote_spanned! {Span::mixed_site()=>
        #stub
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
    struct_and_impl(function, &ty, &on)
}

fn struct_and_impl(function: &Function, ty: &Ident, on: &TokenStream) -> TokenStream {
    let Function { vis, cfgs, .. } = function;
    // The compiler shows it whole where its name is taken already.
    let item = all_at(ty.span(), quote!(#vis struct #ty));
    quote_spanned! {Span::mixed_site()=>
        #[doc(hidden)]
        #(#cfgs)*
        #item {}
        #(#cfgs)*
        impl #ty { #on }
    }
}

fn stub_ident(function: &Function) -> Ident {
    unlinted(&function.stub)
}

/// `on`, which is found where the function is.
fn on_ident(function: &Function) -> Ident {
    Ident::new("on", Span::mixed_site().located_at(function.ident.span()))
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
