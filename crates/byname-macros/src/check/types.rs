//! What may be passed and what may come back.

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{GenericArgument, Ident, PathArguments, Type, TypeParamBound, TypeReference};

use super::{Output, OutputKind, Passing, ResultPlaces};
use crate::crate_path::Library;
use crate::errors::Errors;
use crate::macro_rules_fragments::bare;
use crate::source_text;
use crate::spans::at;

/// How an argument of this type is passed, and what the server holds of it.
pub(super) fn argument(ty: &Type, library: &Library, errors: &mut Errors) -> (Passing, TokenStream) {
    let before = errors.len();
    let (passing, owned) = match bare(ty) {
        Type::Reference(reference) => {
            (Passing::Borrowed(bare(&reference.elem).to_token_stream()), referent(reference, library, errors))
        }
        ty => match option_of(ty).map(bare) {
            Some(Type::Reference(reference)) => {
                let owned = referent(reference, library, errors);
                let owned = quote!(::core::option::Option<#owned>);
                (Passing::OptionBorrowed(bare(&reference.elem).to_token_stream()), at(&ty.to_token_stream(), owned))
            }
            _ => {
                decoded(ty, "an argument", errors);
                (Passing::Owned, ty.to_token_stream())
            }
        },
    };
    if errors.len() > before {
        return (Passing::Unknown, owned);
    }
    (passing, owned)
}

pub(super) fn output(ty: &Type, errors: &mut Errors) -> Output {
    let ty = bare(ty);
    match stream_item(ty) {
        Some(item) => Output { streams: true, ..value(bare(item), "the item of a stream", errors) },
        None => value(ty, "a result", errors),
    }
}

fn value(ty: &Type, what: &str, errors: &mut Errors) -> Output {
    let before = errors.len();
    match ty {
        Type::Reference(reference) => errors.at(
            reference,
            format_args!("{what} can't be borrowed: it is sent to another process"),
            format_args!("write `{}`", owned_text(&reference.elem)),
        ),
        Type::Never(never) => errors.at(never, "a function that never returns can't answer", "return a value, or `()`"),
        ty => decoded(ty, what, errors),
    }
    let kind = if errors.len() > before {
        OutputKind::Unknown
    } else {
        result(ty).map_or(OutputKind::Value, OutputKind::Result)
    };
    Output { ty: ty.to_token_stream(), kind, streams: false }
}

/// `T`, where the type is an `impl Stream<Item = T>`, whatever else it is.
pub(super) fn stream_item(ty: &Type) -> Option<&Type> {
    let Type::ImplTrait(opaque) = bare(ty) else {
        return None;
    };
    opaque.bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else {
            return None;
        };
        let stream = bound.path.segments.last().filter(|last| last.ident == "Stream")?;
        let PathArguments::AngleBracketed(arguments) = &stream.arguments else {
            return None;
        };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
            _ => None,
        })
    })
}

/// `T`, where the type is a `Streaming<T>`.
pub(super) fn streaming_item(ty: &Type) -> Option<&Type> {
    only_argument(bare(ty), "Streaming")
}

/// `T`, where the type is written as an `Option<T>`.
fn option_of(ty: &Type) -> Option<&Type> {
    only_argument(ty, "Option")
}

/// `T`, where the type is a path that ends in `name<T>`.
fn only_argument<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let Type::Path(path) = ty else {
        return None;
    };
    let last = path.path.segments.last().filter(|last| path.qself.is_none() && last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(only)) if arguments.args.len() == 1 => Some(only),
        _ => None,
    }
}

/// The owned type for a borrowed one, as people write it.
pub(super) fn owned_text(ty: &Type) -> String {
    match bare(ty) {
        Type::Reference(reference) => owned_text(&reference.elem),
        Type::Path(path) if path.path.is_ident("str") => "String".into(),
        Type::Slice(slice) => format!("Vec<{}>", source_text::normalised(&slice.elem)),
        ty => match option_of(ty).map(bare) {
            Some(Type::Reference(reference)) => format!("Option<{}>", owned_text(&reference.elem)),
            _ => source_text::normalised(ty),
        },
    }
}

/// Writes `ty` for `Self`, so that it can be said outside the block.
pub(super) fn without_self(tokens: TokenStream, ty: &TokenStream) -> TokenStream {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(ident) if ident == "Self" => ty.clone(),
            TokenTree::Group(group) => {
                let inside = without_self(group.stream(), ty);
                let mut replaced = Group::new(group.delimiter(), inside);
                replaced.set_span(group.span());
                TokenTree::Group(replaced).into()
            }
            token => token.into(),
        })
        .collect()
}

/// Where `Self` stands, if it does.
pub(super) fn find_self(tokens: TokenStream) -> Option<Ident> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == "Self" => Some(ident),
        TokenTree::Group(group) => find_self(group.stream()),
        _ => None,
    })
}

/// What the server holds for a borrowed argument.
fn referent(reference: &TypeReference, byname: &Library, errors: &mut Errors) -> TokenStream {
    let elem = bare(&reference.elem);
    if let Some(mutability) = reference.mutability {
        errors.at(
            mutability,
            "a change to the argument can't reach the caller in another process",
            format_args!("take `{}` and return the changed value", owned_text(elem)),
        );
    } else if let Some(lifetime) = &reference.lifetime {
        let plain = TypeReference { lifetime: None, ..reference.clone() };
        errors.at(
            lifetime,
            "an argument is borrowed for the call only",
            format_args!("write `{}`, or take `{}`", source_text::normalised(plain), owned_text(elem)),
        );
    } else if let Type::TraitObject(object) = elem {
        errors.at(
            object,
            "an argument must have a type that can be decoded",
            "write the concrete type, or an enum with a variant for each type",
        );
    } else {
        decoded(elem, "an argument", errors);
    }
    at(&elem.to_token_stream(), quote!(<#elem as #byname::__private::Borrowed>::Owned))
}

/// Refuses what can't be decoded whatever it stands for: borrows, and types without a name.
pub(super) fn decoded(ty: &Type, what: &str, errors: &mut Errors) {
    if let Some(mistake) = undecodable(ty.to_token_stream(), what) {
        errors.push(mistake);
    }
}

/// The first of them, which the rest may well follow from.
fn undecodable(tokens: TokenStream, what: &str) -> Option<syn::Error> {
    let mut tokens = tokens.into_iter().peekable();
    let mistake = |tokens: &dyn ToTokens, wrong: &str, help: &str| {
        let tokens = tokens.to_token_stream();
        Some(syn::Error::new_spanned(tokens, format!("{wrong}\nhelp: {help}")))
    };
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Group(group) => {
                if let Some(mistake) = undecodable(group.stream(), what) {
                    return Some(mistake);
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == '&' => {
                return mistake(
                    &token,
                    &format!("{what} can't hold a borrow: it is decoded into an owned value"),
                    "write `String` for `&str`, `Vec<T>` for `&[T]`, and `T` for `&T`",
                );
            }
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                if let Some(TokenTree::Ident(lifetime)) = tokens.peek()
                    && lifetime != "static"
                {
                    return mistake(
                        &quote!(#token #lifetime),
                        &format!("{what} can't hold a borrow: it is decoded into an owned value"),
                        "write `'static`, or an owned type",
                    );
                }
            }
            TokenTree::Ident(word) if word == "impl" => {
                return mistake(
                    &token,
                    &format!("the type of {what} must be named: the type decides how the value is decoded"),
                    if what == "a result" {
                        "write the concrete type; for `impl Future` write `async fn`, and for a stream `impl Stream<Item = T>`"
                    } else {
                        "write the concrete type, such as `String` or `Vec<u8>`"
                    },
                );
            }
            _ => {}
        }
    }
    None
}

/// Where the sides of a type whose path ends in `Result` stand; an alias may hide one or both.
fn result(ty: &Type) -> Option<ResultPlaces> {
    let Type::Path(path) = ty else {
        return None;
    };
    let last = path.path.segments.last()?;
    if path.qself.is_some() || last.ident != "Result" {
        return None;
    }
    let sides = match &last.arguments {
        PathArguments::AngleBracketed(sides) => sides.args.iter().collect(),
        _ => Vec::new(),
    };
    let are_sides = sides.len() == 2;
    let mut sides = sides.into_iter().map(ToTokens::to_token_stream);
    let mut side = || sides.next().unwrap_or_else(|| ty.to_token_stream());
    Some(ResultPlaces { ok: side(), err: side(), are_sides })
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn refused(ty: Type) -> Option<String> {
        let mut errors = Errors::default();
        argument(&ty, &Library::default(), &mut errors);
        errors.messages().pop()
    }

    #[test]
    fn arguments_that_work() {
        let good: [Type; 13] = [
            parse_quote!(i64),
            parse_quote!(&str),
            parse_quote!(&[Vec<u8>]),
            parse_quote!(&Option<(i64, String)>),
            parse_quote!((&Point)),
            parse_quote!(Option<&str>),
            parse_quote!(std::option::Option<&[u8]>),
            parse_quote!((Option<(&Point)>)),
            parse_quote!(Option<&Option<u8>>),
            parse_quote!(Cow<'static, str>),
            parse_quote!([u8; 4]),
            parse_quote!(<A as B>::C),
            parse_quote!(()),
        ];
        for ty in good {
            let text = source_text::normalised(&ty);
            assert_eq!(refused(ty), None, "{text}");
        }
    }

    #[test]
    fn arguments_that_are_refused() {
        let bad: [(Type, &str); 15] = [
            (parse_quote!(&mut Vec<u8>), "take `Vec<u8>`"),
            (parse_quote!(&'static str), "write `&str`, or take `String`"),
            (parse_quote!(&'a [u8]), "write `&[u8]`, or take `Vec<u8>`"),
            (parse_quote!(Option<&mut str>), "take `String`"),
            (parse_quote!(Option<&'a str>), "write `&str`, or take `String`"),
            (parse_quote!(Option<&&str>), "hold a borrow"),
            (parse_quote!(Option<Option<&str>>), "hold a borrow"),
            (parse_quote!(&Option<&str>), "hold a borrow"),
            (parse_quote!(Vec<&str>), "hold a borrow"),
            (parse_quote!(&[&str]), "hold a borrow"),
            (parse_quote!(&&str), "hold a borrow"),
            (parse_quote!(Cow<'_, str>), "write `'static`"),
            (parse_quote!(impl Into<String>), "must be named"),
            (parse_quote!(Vec<impl Copy>), "must be named"),
            (parse_quote!(&dyn Copy), "can be decoded"),
        ];
        for (ty, expected) in bad {
            let text = source_text::normalised(&ty);
            let message = refused(ty).unwrap_or_else(|| panic!("{text}"));
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn results_are_known_by_the_end_of_their_path() {
        let places = |ty: Type| {
            let output = output(&ty, &mut Errors::default());
            match output.kind {
                OutputKind::Result(places) => {
                    Some((source_text::normalised(places.ok), source_text::normalised(places.err)))
                }
                _ => None,
            }
        };
        let pair = |ok: &str, err: &str| Some((ok.to_owned(), err.to_owned()));
        assert_eq!(places(parse_quote!(Result<i64, E>)), pair("i64", "E"));
        assert_eq!(places(parse_quote!(io::Result<i64>)), pair("i64", "io::Result<i64>"));
        assert_eq!(places(parse_quote!(Result)), pair("Result", "Result"));
        assert_eq!(places(parse_quote!(Option<Result<i64, E>>)), None);
        assert_eq!(places(parse_quote!(<A as B>::Result)), None);
    }

    #[test]
    fn the_type_stands_for_self() {
        let outside = without_self(quote!(Vec<(Self, Self::Item)>), &quote!(shop::Basket));
        assert_eq!(source_text::normalised(outside), "Vec<(shop::Basket, shop::Basket::Item)>");
        assert!(find_self(quote!((a, [Self; 2]))).is_some());
        assert!(find_self(quote!(self.a)).is_none());
    }
}
