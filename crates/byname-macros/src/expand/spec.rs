//! The description of a function, as a constant.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;

use super::output;
use crate::attr::DefaultValue;
use crate::check::{Argument, Function, Manner, Output, OutputKind, Takes};
use crate::crate_path::Library;
use crate::source_text;

pub(super) fn spec(function: &Function) -> TokenStream {
    let Function { library: byname, doc, idempotent, readonly, keyed, hedge, public, hidden, .. } = function;
    let name = &function.name.text;
    let aliases = function.aliases.iter().map(|alias| &alias.text);
    let params = function.arguments.iter().map(|argument| param(byname, argument));
    let mut returns = source_text::normalised(&function.output.ty);
    if function.output.streams {
        returns = format!("impl Stream<Item = {returns}>");
    }
    let (returns_schema, error_schema) = output_schemas(byname, &function.output);
    let streams = function.output.streams;
    let takes = option(function.takes.as_ref().map(|stream| {
        let (name, ty, schema) = (stream.ident.unraw().to_string(), taken(stream), schema(byname, &stream.item));
        quote!((#name, #ty, #schema))
    }));
    let fallible = matches!(function.output.kind, OutputKind::Result(_));
    let blocking = function.manner == Manner::Blocking;
    let timeout_ms = option(function.timeout_ms.map(|timeout| quote!(#timeout)));
    let priority = function.priority.as_ref().map(|variant| Ident::new(&variant.to_string(), Span::mixed_site()));
    let priority = priority.unwrap_or_else(|| Ident::new("Normal", Span::mixed_site()));
    let in_flight = option(function.in_flight.map(|limit| quote!(#limit)));
    let max_age_s = option(function.max_age_s.map(|max_age| quote!(#max_age)));
    let deprecated =
        option(function.deprecated.as_ref().map(source_text::deprecation_reason).map(|reason| quote!(#reason)));
    quote_spanned! {Span::mixed_site()=>
        #byname::__private::MethodSpec {
            name: #name,
            aliases: &[#(#aliases),*],
            doc: #doc,
            params: &[#(#params),*],
            takes: #takes,
            returns: #returns,
            returns_schema: #returns_schema,
            error_schema: #error_schema,
            streams: #streams,
            fallible: #fallible,
            idempotent: #idempotent,
            readonly: #readonly,
            keyed: #keyed,
            hedge: #hedge,
            blocking: #blocking,
            timeout_ms: #timeout_ms,
            priority: #byname::__private::Priority::#priority,
            in_flight: #in_flight,
            max_age_s: #max_age_s,
            public: #public,
            hidden: #hidden,
            deprecated: #deprecated,
            package: ::core::env!("CARGO_PKG_NAME"),
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: ::core::line!(),
        }
    }
}

fn param(byname: &Library, argument: &Argument) -> TokenStream {
    let Argument { ty, owned, text, default, .. } = argument;
    let name = argument.ident.unraw().to_string();
    let default = option(default.as_ref().map(|default| {
        let (ty, value) = match default {
            // It has the declared type, so that `&str` takes a literal.
            DefaultValue::Expr(expr) => (ty.to_token_stream(), expr.to_token_stream()),
            // A borrowed type may have no `Default`, although its owned type has one.
            DefaultValue::OfType(word) => {
                let here = Span::mixed_site().located_at(word.span());
                (owned.clone(), quote_spanned!(here=> ::core::default::Default::default()))
            }
        };
        quote_spanned! {Span::mixed_site()=>
            || {
                let value: #ty = #value;
                #byname::__private::encode_default::<#ty>(&value)
            }
        }
    }));
    let schema = schema(byname, owned);
    quote_spanned! {Span::mixed_site()=>
        #byname::__private::ParamSpec {
            name: #name,
            ty: #text,
            schema: #schema,
            optional: #byname::__private::optional::<#owned>,
            default: #default,
        }
    }
}

/// A closure that makes the schema of a type. It asks nothing of the type, so a type that can't cross the wire is one error only.
fn schema(byname: &Library, ty: &impl ToTokens) -> TokenStream {
    quote_spanned! {Span::mixed_site()=>
        |__budget| {
            use #byname::__private::{DescribeDeclared as _, DescribeOpaque as _, DescribeReadable as _};
            (&&&#byname::__private::DescribedType::<#ty>::new()).describe(__budget)
        }
    }
}

/// The schemas of a success, or of an item, and of the function's own error.
fn output_schemas(byname: &Library, output: &Output) -> (TokenStream, TokenStream) {
    let (ok, err) = match output.kind {
        OutputKind::Unknown => (None, None),
        OutputKind::Value => (Some(output.ty.clone()), None),
        OutputKind::Result(_) => (Some(output::ok(byname, &output.ty)), Some(output::err(byname, &output.ty))),
    };
    let of_error = err.map(|err| {
        let schema = schema(byname, &err);
        quote_spanned! {Span::mixed_site()=>
            |__budget| {
                let __schema: #byname::__private::SchemaFn = #schema;
                #byname::__private::is_own_error::<#err>().then(|| __schema(__budget))
            }
        }
    });
    (option(ok.map(|ok| schema(byname, &ok))), option(of_error))
}

/// The type of a stream that is an argument, as people write it.
fn taken(stream: &Takes) -> String {
    format!("Streaming<{}>", source_text::normalised(&stream.item))
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}
