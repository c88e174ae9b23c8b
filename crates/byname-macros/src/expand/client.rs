//! The type whose methods make the calls of an `impl` block or a contract.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::{output, spec, stub};
use crate::check::{Client, Function};
use crate::spans::{all_at, unlinted};

/// The type and its `on`. `of` is the name of the type or trait in the documentation.
pub(super) fn item(client: &Client, of: &str) -> TokenStream {
    let Client { library: byname, vis, cfgs, .. } = client;
    let stub = ident(client);
    // The compiler shows all of it if its name is taken already.
    let item = all_at(stub.span(), quote!(#vis struct #stub));
    let doc = format!(" Calls the methods of [`{of}`] through a client.");
    quote_spanned! {Span::mixed_site()=>
        #[doc = #doc]
        #(#cfgs)*
        #[derive(::core::clone::Clone)]
        #item {
            client: #byname::Client,
        }
        #(#cfgs)*
        impl #stub {
            /// Calls go where `client` points to.
            #vis fn on(client: &#byname::Client) -> Self {
                Self { client: ::core::clone::Clone::clone(client) }
            }
        }
    }
}

/// The description of each method, its stub, and the check of its result.
pub(super) fn methods(client: &Client) -> TokenStream {
    let stub = ident(client);
    let methods = client.methods.iter().enumerate();
    let statics = methods.clone().map(|(index, method)| known(index, method));
    let byname = &client.library;
    let specs = methods.clone().map(|(index, method)| {
        let (cfgs, spec) = (&method.cfgs, spec_static(index));
        quote!(#(#cfgs)* &#spec,)
    });
    let all = all_specs();
    let described = methods.clone().map(|(index, method)| {
        let (cfgs, known) = (&method.cfgs, method_static(index));
        quote!(#(#cfgs)* &*#known,)
    });
    let stubs = methods.map(|(index, method)| on(index, method));
    let checks = client.methods.iter().map(|method| {
        let cfgs = &method.cfgs;
        let checks = output::checks(method);
        quote!(#(#cfgs)* const _: () = { #checks };)
    });
    quote_spanned! {Span::mixed_site()=>
        #(#statics)*
        static #all: &[&#byname::__private::MethodSpec] = &[#(#specs)*];
        impl #stub { #(#stubs)* }
        impl #byname::__private::Stubs for #stub {
            fn methods() -> ::std::vec::Vec<&'static #byname::__private::Method> {
                ::std::vec![#(#described)*]
            }
        }
        #(#checks)*
    }
}

/// Stubs that have only signatures.
pub(super) fn never(client: &Client) -> TokenStream {
    let Client { cfgs, .. } = client;
    let stub = ident(client);
    let methods = client.methods.iter().map(|method| {
        let cfgs = &method.cfgs;
        let on = stub::never(method, &method.ident, &quote!(&self,));
        quote!(#(#cfgs)* #on)
    });
    quote_spanned! {Span::mixed_site()=>
        #(#cfgs)*
        impl #stub { #(#methods)* }
    }
}

/// Its name.
pub(super) fn ident(client: &Client) -> Ident {
    unlinted(&client.stub)
}

/// The static in which [`methods`] keeps the description of a method.
pub(super) fn method_static(index: usize) -> Ident {
    format_ident!("__BYNAME_METHOD_{index}")
}

/// The static in which [`methods`] lists the descriptions of all methods.
pub(super) fn all_specs() -> Ident {
    Ident::new("__BYNAME_SPECS", Span::mixed_site())
}

fn spec_static(index: usize) -> Ident {
    format_ident!("__BYNAME_SPEC_{index}")
}

fn known(index: usize, method: &Function) -> TokenStream {
    let Function { library: byname, cfgs, .. } = method;
    let (name, known) = (method_static(index), spec_static(index));
    let spec = spec::spec(method);
    quote_spanned! {Span::mixed_site()=>
        #(#cfgs)*
        static #known: #byname::__private::MethodSpec = #spec;
        #(#cfgs)*
        static #name: ::std::sync::LazyLock<#byname::__private::Method> =
            ::std::sync::LazyLock::new(|| #byname::__private::Method::new(&#known));
    }
}

fn on(index: usize, method: &Function) -> TokenStream {
    let cfgs = &method.cfgs;
    let name = method_static(index);
    let on = stub::on(
        method,
        &method.ident,
        &quote_spanned!(Span::mixed_site()=> &self,),
        &quote_spanned!(Span::mixed_site()=> &self.client),
        &quote_spanned!(Span::mixed_site()=> &#name),
    );
    quote!(#(#cfgs)* #on)
}
