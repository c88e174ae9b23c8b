//! An `impl` block: the client of its type, the fakes of its methods, and the glue that serves an instance.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use super::{client, fake, handler, never};
use crate::check::{Block, Client};
use crate::crate_path::Library;
use crate::source_text;

pub(super) fn expand(block: &Block) -> TokenStream {
    let Block { ty, client: Client { library: byname, cfgs, methods, .. }, .. } = block;
    let item = item(block);
    let stubs = client::methods(&block.client);
    let handlers = handler::handlers(methods, &quote!(Self), &quote!(Self));
    let fakes = fakes(block);
    let all = client::all_specs();
    let registration = registration(byname, &ty.to_token_stream(), &quote_spanned!(Span::mixed_site()=> || #all));
    quote_spanned! {Span::mixed_site()=>
        #item
        #(#cfgs)*
        const _: () = {
            #stubs
            #fakes
            #registration
            const _: () = #byname::__private::shared::<#ty>();
            impl #byname::Instance for #ty {
                type Fakes = __BynameFakes;
                fn bind(this: ::std::sync::Arc<Self>) -> ::std::vec::Vec<#byname::__private::Handler> {
                    #handlers
                }
            }
        };
    }
}

/// Lets a server name the methods of a type that is linked and not served. `methods` is a function that returns
/// their descriptions.
pub(super) fn registration(byname: &Library, ty: &TokenStream, methods: &TokenStream) -> TokenStream {
    quote_spanned! {Span::mixed_site()=>
        use #byname::__private::inventory::submit as __byname_submit;
        __byname_submit! {
            #byname::__private::BlockRegistration {
                methods: #methods,
                ty: ::core::any::type_name::<#ty>,
                file: ::core::file!(),
                line: ::core::line!(),
            }
        }
    }
}

/// The type whose methods make the fakes, for `Fake::of`. Nobody can name it; it is `pub` because a type of a trait's
/// implementation must be as visible as the block's own type.
fn fakes(block: &Block) -> TokenStream {
    let fakes = block.client.methods.iter().enumerate().map(|(index, method)| {
        let (cfgs, known) = (&method.cfgs, client::method_static(index));
        let vis = method.vis.to_token_stream();
        let receiver = quote_spanned!(Span::mixed_site()=> &self,);
        let fake = fake::fake(method, &method.ident, &vis, &receiver, &quote!(&#known));
        quote!(#(#cfgs)* #fake)
    });
    let doc = format!(" Makes fakes of the methods of `{}`.", source_text::normalised(&block.ty));
    quote_spanned! {Span::mixed_site()=>
        #[doc = #doc]
        #[allow(unreachable_pub)]
        #[derive(::core::fmt::Debug, ::core::default::Default)]
        pub struct __BynameFakes;
        impl __BynameFakes { #(#fakes)* }
    }
}

/// Stands in for the expansion when there is an error, so that no other error follows.
pub(super) fn fallback(block: &Block) -> TokenStream {
    let Block { ty, client: Client { library: byname, cfgs, .. }, .. } = block;
    let item = item(block);
    let stubs = client::never(&block.client);
    let never = never();
    quote_spanned! {Span::mixed_site()=>
        #item
        #stubs
        #(#cfgs)*
        impl #byname::Instance for #ty {
            type Fakes = ();
            fn bind(_: ::std::sync::Arc<Self>) -> ::std::vec::Vec<#byname::__private::Handler> { #never }
        }
    }
}

/// The type that makes the calls, and the way to it from the block's own type.
fn item(block: &Block) -> TokenStream {
    let Block { ty, client: Client { library: byname, vis, cfgs, .. }, .. } = block;
    let item = client::item(&block.client, &source_text::normalised(ty));
    let stub = client::ident(&block.client);
    let on = (!block.has_on).then(|| {
        quote_spanned! {Span::mixed_site()=>
            #(#cfgs)*
            impl #ty {
                /// The same methods where `client` points to.
                #vis fn on(client: &#byname::Client) -> #stub {
                    #stub { client: ::core::clone::Clone::clone(client) }
                }
            }
        }
    });
    quote!(#item #on)
}
