//! A contract: the trait with futures that are `Send`, the client that implements it, and the code that serves other
//! implementations.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{ItemTrait, Path, ReturnType, Type, parse_quote};

use super::block::registration;
use super::{client, fake, handler, never, output};
use crate::ast::{self, Body, Member};
use crate::check::{self, Client, Contract, Function};
use crate::crate_path::Library;
use crate::macro_rules_fragments::{bare, bare_mut};
use crate::spans::{all_at, ends, unlinted};

pub(super) fn expand(written: &ast::Contract, contract: &Contract) -> TokenStream {
    let Contract { ident, client: Client { cfgs, methods, .. }, .. } = contract;
    let item = item(written, contract, false);
    let types = types(contract);
    let stubs = client::methods(&contract.client);
    let client = client_impl(contract);
    let handlers = handler::handlers(methods, &quote!(__BynameService), &quote!(<__BynameService as #ident>));
    let all = client::all_specs();
    let marker = marker_impl(contract, &handlers, &quote!(#all));
    let fakes = fakes(contract);
    let checks = methods.iter().map(|method| {
        let cfgs = &method.cfgs;
        output::converts(&method.library, &method.output).map(|check| quote!(#(#cfgs)* #check))
    });
    quote_spanned! {Span::mixed_site()=>
        #item
        #types
        #(#cfgs)*
        const _: () = {
            #stubs
            #client
            #marker
            #fakes
            #(#checks)*
        };
    }
}

/// Stands in for the expansion when there is an error, so that no other error follows.
pub(super) fn fallback(written: &ast::Contract, contract: &Contract) -> TokenStream {
    let Contract { ident, client: Client { cfgs, .. }, .. } = contract;
    let item = item(written, contract, true);
    let types = types(contract);
    let stubs = client::never(&contract.client);
    // Here every method has a body, so there is nothing to write.
    let impls = contract.implementable.then(|| {
        let stub = client::ident(&contract.client);
        let never = never();
        let handlers = quote_spanned!(Span::mixed_site()=> let _ = this; #never);
        let marker = marker_impl(contract, &handlers, &never);
        quote!(#(#cfgs)* const _: () = { impl #ident for #stub {} #marker };)
    });
    quote!(#item #types #stubs #impls)
}

/// What `#[rpc]` on the `impl` of a contract adds to it: the type can be injected.
pub(super) fn implementation(byname: &Library, path: &Path, written: &ast::Block) -> TokenStream {
    let ty = &written.head.self_ty;
    let (generics, _, clause) = written.head.generics.split_for_impl();
    let cfgs = check::cfgs(&written.attrs);
    // If the trait is not a contract, the call finds `NoContract`, and the compiler says so at the trait.
    let (_, here) = ends(&path.to_token_stream());
    let here = Span::mixed_site().located_at(here);
    let call = quote_spanned!(here=> this.__byname_handlers());
    // The methods of a linked `impl` are known without an instance, but only if the type is not generic.
    let linked = written.head.generics.params.is_empty().then(|| {
        let methods = quote_spanned!(Span::mixed_site()=> methods::<#ty>);
        let registration = registration(byname, &ty.to_token_stream(), &methods);
        quote_spanned! {Span::mixed_site()=>
            #(#cfgs)*
            const _: () = {
                fn methods<__BynameService: #path>() -> &'static [&'static #byname::__private::MethodSpec] {
                    use #byname::__private::NoContractMethods as _;
                    __BynameService::__byname_methods()
                }
                #registration
            };
        }
    });
    quote_spanned! {Span::mixed_site()=>
        #(#cfgs)*
        impl #generics #byname::Instance for #ty #clause {
            type Fakes = #byname::__private::FakesAreMadeByTheTypeBesideTheTrait;
            fn bind(this: ::std::sync::Arc<Self>) -> ::std::vec::Vec<#byname::__private::Handler> {
                fn handlers<__BynameService: #path>(
                    this: ::std::sync::Arc<__BynameService>,
                ) -> ::std::vec::Vec<#byname::__private::Handler> {
                    use #byname::__private::NoContract as _;
                    #call
                }
                handlers(this)
            }
        }
        #linked
    }
}

/// The trait. With `bodies` its methods have bodies: after an error, an implementation must not be a second error.
fn item(written: &ast::Contract, contract: &Contract, bodies: bool) -> TokenStream {
    let ast::Contract { attrs, head, .. } = written;
    let ItemTrait { vis, unsafety, trait_token, ident, generics, supertraits, .. } = head;
    let clause = &generics.where_clause;
    let byname = &contract.client.library;
    let members = written.members.iter().map(|member| match member {
        Member::Function(function) => method(byname, function, bodies),
        Member::Other(other) => other.to_token_stream(),
    });
    // Other supertraits are an error already, which must stay the only one.
    let besides = bodies.then(|| {
        let supertraits = supertraits.iter();
        quote!(#(#supertraits +)*)
    });
    let marker = unlinted(&contract.marker);
    let bind = contract.implementable.then(|| {
        quote_spanned! {Span::mixed_site()=>
            #[doc(hidden)]
            fn __byname_handlers(self: ::std::sync::Arc<Self>) -> ::std::vec::Vec<#byname::__private::Handler>
            where
                Self: ::core::marker::Sized,
            {
                <#marker as #byname::Contract<::std::sync::Arc<Self>>>::handlers(self)
            }
            #[doc(hidden)]
            fn __byname_methods() -> &'static [&'static #byname::__private::MethodSpec]
            where
                Self: ::core::marker::Sized,
            {
                <#marker as #byname::Contract<Self>>::methods()
            }
        }
    });
    let braces = written.braces(quote!(#(#members)* #bind));
    quote_spanned! {Span::mixed_site()=>
        #(#attrs)*
        #vis #unsafety #trait_token #ident #generics:
            #besides ::core::marker::Send + ::core::marker::Sync + 'static
        #clause
        #braces
    }
}

/// A method with the future that it returns, which an `async fn` implements as well. Where there is an error it has a body.
fn method(byname: &Library, function: &ast::Function, body: bool) -> TokenStream {
    let ast::Function { attrs, vis, .. } = function;
    let mut signature = function.signature.clone();
    if signature.asyncness.take().is_some() {
        let future = match &signature.output {
            ReturnType::Default => future(&quote!(())),
            ReturnType::Type(_, ty) => future(&ty.to_token_stream()),
        };
        signature.output = parse_quote!(-> #future);
    } else if let ReturnType::Type(_, ty) = &mut signature.output
        && let Type::ImplTrait(stream) = bare_mut(ty)
    {
        stream.bounds.push(parse_quote!(::core::marker::Send));
    }
    let streams = check::streams(&function.signature.output);
    if let (false, Body::None(semicolon)) = (body, &function.body) {
        return quote!(#(#attrs)* #vis #signature #semicolon);
    }
    signature.generics.make_where_clause().predicates.push(parse_quote!(Self: ::core::marker::Sized));
    let never = match &signature.output {
        _ if streams && function.signature.asyncness.is_some() => {
            quote!(async { #byname::__private::no_stream() })
        }
        _ if streams => quote!(#byname::__private::no_stream()),
        ReturnType::Type(_, ty) if matches!(bare(ty), Type::ImplTrait(_)) => {
            let never = never();
            quote!(async { #never })
        }
        _ => never(),
    };
    quote_spanned! {Span::mixed_site()=>
        #(#attrs)*
        #[allow(unused_variables)]
        #vis #signature { #never }
    }
}

/// What an `async fn` of this output returns, shown where the output is.
fn future(output: &TokenStream) -> TokenStream {
    let (first, last) = ends(output);
    let token = quote_spanned!(first=> impl);
    let send = all_at(last, quote!(::core::marker::Send));
    quote!(#token ::core::future::Future<Output = #output> + #send)
}

/// The client, and the type that stands for the contract.
fn types(contract: &Contract) -> TokenStream {
    let Contract { ident, client: Client { vis, cfgs, .. }, .. } = contract;
    let client = client::item(&contract.client, &ident.to_string());
    let marker = unlinted(&contract.marker);
    let item = all_at(marker.span(), quote!(#vis struct #marker));
    let doc = format!(
        " [`{ident}`] for `Server::contract`, which serves an instance by it. Its functions make fakes of single methods, for \
         `Server::inject` in tests; the other methods are `unimplemented`."
    );
    quote_spanned! {Span::mixed_site()=>
        #client
        #[doc = #doc]
        #(#cfgs)*
        #item {}
    }
}

/// The client's methods as the trait has them: with one error, which a failed call becomes.
fn client_impl(contract: &Contract) -> TokenStream {
    let Contract { ident, client, .. } = contract;
    let (byname, stub) = (&client.library, client::ident(client));
    let methods = client.methods.iter().map(|method| {
        let Function { ident, cfgs, deprecated, arguments, takes, output, .. } = method;
        let allow = deprecated.as_ref().map(|_| quote!(#[allow(deprecated)]));
        let stream = takes.iter().map(|stream| (&stream.ident, &stream.ty));
        let arguments = arguments.iter().map(|argument| (&argument.ident, &argument.ty));
        let (names, types): (Vec<_>, Vec<_>) = arguments.chain(stream).unzip();
        let (output, streams) = (&output.ty, output.streams);
        if streams {
            return quote_spanned! {Span::mixed_site()=>
                #(#cfgs)*
                #allow
                fn #ident(
                    &self,
                    #(#names: #types),*
                ) -> impl #byname::__private::Stream<Item = #output> + ::core::marker::Send {
                    use #byname::__private::{ConvertsStreamFit as _, ConvertsStreamUnfit as _};
                    #byname::__private::StreamErrorConverter(#stub::#ident(self, #(#names),*)).convert()
                }
            };
        }
        quote_spanned! {Span::mixed_site()=>
            #(#cfgs)*
            #allow
            async fn #ident(&self, #(#names: #types),*) -> #output {
                use #byname::__private::{ConvertsFit as _, ConvertsUnfit as _};
                #byname::__private::ErrorConverter(#stub::#ident(self, #(#names),*)).convert().await
            }
        }
    });
    quote_spanned!(Span::mixed_site()=> impl #ident for #stub { #(#methods)* })
}

/// A fake of each method, on the type that stands for the contract.
fn fakes(contract: &Contract) -> TokenStream {
    let marker = unlinted(&contract.marker);
    let vis = contract.client.vis.to_token_stream();
    let fakes = contract.client.methods.iter().enumerate().map(|(index, method)| {
        let (cfgs, known) = (&method.cfgs, client::method_static(index));
        let fake = fake::fake(method, &method.ident, &vis, &quote!(), &quote!(&#known));
        quote!(#(#cfgs)* #fake)
    });
    quote_spanned!(Span::mixed_site()=> impl #marker { #(#fakes)* })
}

/// What a server needs to serve an instance by the contract, or an `Arc` of one. `methods` describes the methods.
fn marker_impl(contract: &Contract, handlers: &TokenStream, methods: &TokenStream) -> TokenStream {
    let (byname, ident) = (&contract.client.library, &contract.ident);
    let marker = unlinted(&contract.marker);
    quote_spanned! {Span::mixed_site()=>
        impl<__BynameService: #ident> #byname::Contract<__BynameService> for #marker {
            fn handlers(instance: __BynameService) -> ::std::vec::Vec<#byname::__private::Handler> {
                <Self as #byname::Contract<::std::sync::Arc<__BynameService>>>::handlers(::std::sync::Arc::new(instance))
            }
            fn methods() -> &'static [&'static #byname::__private::MethodSpec] { #methods }
        }
        impl<__BynameService: #ident> #byname::Contract<::std::sync::Arc<__BynameService>> for #marker {
            fn handlers(
                this: ::std::sync::Arc<__BynameService>,
            ) -> ::std::vec::Vec<#byname::__private::Handler> {
                #handlers
            }
            fn methods() -> &'static [&'static #byname::__private::MethodSpec] { #methods }
        }
    }
}
