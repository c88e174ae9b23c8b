//! An `impl` block: the client of its type, and the glue that serves an instance.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};

use super::{client, handler, never};
use crate::check::{Block, Client};
use crate::source_text;

pub(super) fn expand(block: &Block) -> TokenStream {
    let Block { ty, client: Client { library: byname, cfgs, methods, .. }, .. } = block;
    let item = item(block);
    let stubs = client::methods(&block.client);
    let handlers = handler::handlers(methods, &quote!(Self), &quote!(Self));
    quote_spanned! {Span::mixed_site()=>
        #item
        #(#cfgs)*
        const _: () = {
            #stubs
            const _: () = #byname::__private::shared::<#ty>();
            impl #byname::Instance for #ty {
                fn bind(this: ::std::sync::Arc<Self>) -> ::std::vec::Vec<#byname::__private::Handler> {
                    #handlers
                }
            }
        };
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
                    #stub::on(client)
                }
            }
        }
    });
    quote!(#item #on)
}
