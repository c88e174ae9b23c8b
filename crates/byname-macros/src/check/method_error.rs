//! Checks a type under `#[derive(MethodError)]`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Data, DeriveInput, Fields, Generics, Ident};

use crate::attr::{ErrorOptions, ErrorPlace};
use crate::crate_path::Library;
use crate::errors::Errors;

/// A type whose values are functions' own errors.
pub(crate) struct OwnError {
    pub(crate) library: Library,
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    /// One for each variant, or one for a struct.
    pub(crate) cases: Vec<ErrorCase>,
}

pub(crate) struct ErrorCase {
    pub(crate) pattern: TokenStream,
    /// The variant of `Code`.
    pub(crate) code: Ident,
    /// Its `Display` is for callers.
    pub(crate) has_message: bool,
}

pub(crate) fn own_error(written: DeriveInput, errors: &mut Errors) -> OwnError {
    let whole = ErrorOptions::of(&written.attrs, ErrorPlace::Type, errors);
    let case = |pattern, own: ErrorOptions| ErrorCase {
        pattern,
        code: own.code.or_else(|| whole.code.clone()).unwrap_or_else(|| Ident::new("Unknown", Span::mixed_site())),
        has_message: !(whole.hides_message || own.hides_message),
    };
    let cases = match &written.data {
        Data::Struct(data) => {
            fields(&data.fields, errors);
            vec![case(quote!(Self { .. }), ErrorOptions::default())]
        }
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                fields(&variant.fields, errors);
                let ident = &variant.ident;
                let own = ErrorOptions::of(&variant.attrs, ErrorPlace::Variant, errors);
                case(quote!(Self::#ident { .. }), own)
            })
            .collect(),
        Data::Union(data) => {
            let help = "make it an enum with one variant for each case";
            errors.at(data.union_token, "`MethodError` is for structs and enums", help);
            Vec::new()
        }
    };
    let library = Library { chosen: whole.library };
    OwnError { library, ident: written.ident, generics: written.generics, cases }
}

fn fields(fields: &Fields, errors: &mut Errors) {
    for field in fields {
        ErrorOptions::of(&field.attrs, ErrorPlace::Field, errors);
    }
}
