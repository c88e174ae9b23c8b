//! An `impl` block: the client of its type, and the glue that serves an instance.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::{handler, never, output, spec, stub};
use crate::check::{Block, Function};
use crate::place::all_at;
use crate::text;

pub(super) fn expand(block: &Block) -> TokenStream {
    let client = client(block);
    let cfgs = &block.cfgs;
    let methods = block.methods.iter().enumerate();
    let statics = methods.clone().map(|(index, method)| statics(index, method));
    let stubs = methods.clone().map(|(index, method)| on(index, method));
    let stub = stub_ident(block);
    let instance = instance(block);
    let checks = block.methods.iter().map(|method| {
        let cfgs = &method.cfgs;
        output::checks(&method.output).map(|check| quote!(#(#cfgs)* #check))
    });
    quote_spanned! {Span::mixed_site()=>
        #client
        #(#cfgs)*
        const _: () = {
            #(#statics)*
            impl #stub { #(#stubs)* }
            #instance
            #(#checks)*
        };
    }
}

/// Stands in for the expansion when there is an error, so that no other error follows.
pub(super) fn fallback(block: &Block) -> TokenStream {
    let client = client(block);
    let stub = stub_ident(block);
    let Block { ty, cfgs, .. } = block;
    let never = never();
    let methods = block.methods.iter().map(|method| {
        let cfgs = &method.cfgs;
        let on = stub::never(method, &method.ident, &quote!(&self,));
        quote!(#(#cfgs)* #on)
    });
    quote_spanned! {Span::mixed_site()=>
        #client
        #(#cfgs)*
        impl #stub { #(#methods)* }
        #(#cfgs)*
        impl ::byname::Instance for #ty {
            fn bind(_: ::std::sync::Arc<Self>) -> ::std::vec::Vec<::byname::__private::Handler> { #never }
        }
    }
}

/// The type that makes the calls, and the way to it from the block's own type.
fn client(block: &Block) -> TokenStream {
    let Block { ty, vis, cfgs, .. } = block;
    let stub = stub_ident(block);
    let on = (!block.has_on).then(|| {
        quote_spanned! {Span::mixed_site()=>
            #(#cfgs)*
            impl #ty {
                /// The same methods where `client` points to.
                #vis fn on(client: &::byname::Client) -> #stub {
                    #stub::on(client)
                }
            }
        }
    });
    // The compiler shows it whole where its name is taken already.
    let item = all_at(stub.span(), quote!(#vis struct #stub));
    let doc = format!(" Calls the methods of [`{}`] where a client points to.", text::normalised(ty));
    quote_spanned! {Span::mixed_site()=>
        #[doc = #doc]
        #(#cfgs)*
        #[derive(::core::clone::Clone)]
        #item {
            client: ::byname::Client,
        }
        #(#cfgs)*
        impl #stub {
            /// Calls go where `client` points to.
            #vis fn on(client: &::byname::Client) -> Self {
                Self { client: ::core::clone::Clone::clone(client) }
            }
        }
        #on
    }
}

fn stub_ident(block: &Block) -> Ident {
    let mut ident = block.stub.clone();
    ident.set_span(Span::call_site().located_at(ident.span()));
    ident
}

fn statics(index: usize, method: &Function) -> TokenStream {
    let cfgs = &method.cfgs;
    let name = method_static(index);
    let spec = spec::spec(method);
    quote_spanned! {Span::mixed_site()=>
        #(#cfgs)*
        static #name: ::std::sync::LazyLock<::byname::__private::Method> = {
            static __BYNAME_SPEC: ::byname::__private::MethodSpec = #spec;
            ::std::sync::LazyLock::new(|| ::byname::__private::Method::new(&__BYNAME_SPEC))
        };
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

fn instance(block: &Block) -> TokenStream {
    let ty = &block.ty;
    let this = format_ident!("this", span = Span::mixed_site());
    let deprecated = block.methods.iter().any(|method| method.deprecated.is_some());
    let allow = deprecated.then(|| quote!(#[allow(deprecated)]));
    let handlers = block.methods.iter().enumerate().map(|(index, method)| {
        let Function { cfgs, ident, .. } = method;
        let name = method_static(index);
        let handler = handler::handler(method, &quote!(&#name), &quote!(Self::#ident), Some(&this));
        quote_spanned!(Span::mixed_site()=> #(#cfgs)* handlers.push(#handler);)
    });
    quote_spanned! {Span::mixed_site()=>
        impl ::byname::Instance for #ty {
            #allow
            fn bind(#this: ::std::sync::Arc<Self>) -> ::std::vec::Vec<::byname::__private::Handler> {
                let mut handlers = ::std::vec::Vec::new();
                #(#handlers)*
                handlers
            }
        }
    }
}

fn method_static(index: usize) -> Ident {
    format_ident!("__BYNAME_METHOD_{index}")
}
