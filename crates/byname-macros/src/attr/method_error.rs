//! Reads the attributes that belong to `#[derive(MethodError)]`: `#[code(…)]` and `#[method_error(…)]`.

use proc_macro2::Span;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, Meta, Path};

use super::distance;
use crate::errors::Errors;
use crate::macro_rules_fragments::visible;

/// What the attributes in one place say.
#[derive(Default)]
pub(crate) struct ErrorOptions {
    /// The variant of `Code`.
    pub(crate) code: Option<Ident>,
    /// The `Display` is not for callers.
    pub(crate) hides_message: bool,
    pub(crate) library: Option<Path>,
}

/// Where they stand.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ErrorPlace {
    Type,
    Variant,
    Field,
}

impl ErrorOptions {
    pub(crate) fn of(attrs: &[Attribute], place: ErrorPlace, errors: &mut Errors) -> Self {
        let mut options = ErrorOptions::default();
        let mut seen = Vec::new();
        for attribute in attrs {
            let name = match attribute.path().get_ident() {
                Some(ident) if ident == "code" => "code",
                Some(ident) if ident == "method_error" => "method_error",
                _ => continue,
            };
            if place == ErrorPlace::Field {
                let wrong = format_args!("`#[{name}(…)]` can't be on a field");
                errors.at(attribute, wrong, "write it on the variant or on the type");
                continue;
            }
            if seen.contains(&name) {
                let wrong = format_args!("`#[{name}(…)]` is given twice");
                errors.at(
                    attribute,
                    wrong,
                    if name == "code" { "keep one of them" } else { "put all options into one attribute" },
                );
                continue;
            }
            seen.push(name);
            match name {
                "code" => options.code = code(attribute, errors),
                _ => options.set(attribute, place, errors),
            }
        }
        options
    }

    fn set(&mut self, attribute: &Attribute, place: ErrorPlace, errors: &mut Errors) {
        if !matches!(&attribute.meta, Meta::List(list) if !list.tokens.is_empty()) {
            errors.at(attribute, "`#[method_error]` needs options in parentheses", place.help());
            return;
        }
        let read = attribute.parse_nested_meta(|setting| {
            if setting.path.is_ident("message") {
                self.hides_message = true;
                if !matches!(value(&setting)?, Expr::Lit(ExprLit { lit: Lit::Bool(keep), .. }) if !keep.value) {
                    let help =
                        "write `message = false`, or remove the option: then the message is the `Display` of the error";
                    errors.at(&setting.path, "`message` can only be `false`", help);
                }
            } else if setting.path.is_ident("crate") && place == ErrorPlace::Type {
                match value(&setting)? {
                    Expr::Path(path) if path.qself.is_none() => self.library = Some(path.path),
                    other => errors.at(
                        other,
                        "`crate` expects the path of byname, without quotes",
                        "write `#[method_error(crate = my_framework::byname)]`",
                    ),
                }
            } else {
                let name = setting.path.to_token_stream().to_string();
                if !setting.input.is_empty() && !setting.input.peek(syn::Token![,]) {
                    value(&setting)?;
                }
                errors.at(&setting.path, format_args!("unknown option `{name}`"), place.help());
            }
            Ok(())
        });
        if let Err(error) = read {
            errors.push(error);
        }
    }
}

impl ErrorPlace {
    fn help(self) -> &'static str {
        match self {
            ErrorPlace::Type => {
                "on a type the options are `message = false` and `crate = my_framework::byname`; write the code as \
                 `#[code(not_found)]`"
            }
            _ => "on a variant the option is `message = false`; write the code as `#[code(not_found)]`",
        }
    }
}

fn value(setting: &ParseNestedMeta<'_>) -> syn::Result<Expr> {
    Ok(visible(&setting.value()?.parse()?).clone())
}

/// The codes as they are on the wire, and the variants of `Code`.
const CODES: [(&str, &str); 16] = [
    ("cancelled", "Cancelled"),
    ("unknown", "Unknown"),
    ("invalid_argument", "InvalidArgument"),
    ("deadline_exceeded", "DeadlineExceeded"),
    ("not_found", "NotFound"),
    ("already_exists", "AlreadyExists"),
    ("permission_denied", "PermissionDenied"),
    ("resource_exhausted", "ResourceExhausted"),
    ("failed_precondition", "FailedPrecondition"),
    ("aborted", "Aborted"),
    ("out_of_range", "OutOfRange"),
    ("unimplemented", "Unimplemented"),
    ("internal", "Internal"),
    ("unavailable", "Unavailable"),
    ("data_loss", "DataLoss"),
    ("unauthenticated", "Unauthenticated"),
];

const ONE_CODE: &str = "write one code, such as `#[code(not_found)]`";

/// The variant of `Code` that is named in the parentheses.
fn code(attribute: &Attribute, errors: &mut Errors) -> Option<Ident> {
    let (wrong, help) = match &attribute.meta {
        Meta::List(list) => match list.parse_args::<Expr>().as_ref().map(visible) {
            Ok(Expr::Path(path)) if path.qself.is_none() => return named(&path.path, errors),
            Ok(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => {
                let help = match near(&text.value()) {
                    Some(word) => format!("write `#[code({word})]`"),
                    None => ONE_CODE.to_owned(),
                };
                errors.at(text, "a code is written without quotes", help);
                return None;
            }
            _ => ("`#[code(…)]` needs exactly one code in its parentheses", ONE_CODE),
        },
        _ => ("`#[code]` needs a code in parentheses", ONE_CODE),
    };
    errors.at(attribute, wrong, help);
    None
}

fn named(path: &Path, errors: &mut Errors) -> Option<Ident> {
    let text = path.to_token_stream().to_string().replace(' ', "");
    if let Some(ident) = path.get_ident()
        && let Some((_, variant)) = CODES.iter().find(|(word, _)| ident.unraw() == word)
    {
        return Some(Ident::new(variant, Span::mixed_site().located_at(ident.span())));
    }
    let last = path.segments.last().map(|last| last.ident.unraw().to_string()).unwrap_or_default();
    let help = match near(&last) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("the codes are {}", CODES.map(|(word, _)| format!("`{word}`")).join(", ")),
    };
    errors.at(path, format_args!("unknown code `{text}`"), help);
    None
}

/// The code that was probably meant, be it written as in Rust or with a mistake.
fn near(text: &str) -> Option<&'static str> {
    let plain = |text: &str| text.replace(['_', '-', ' '], "").to_lowercase();
    let text = plain(text);
    let nearest = CODES.iter().map(|(word, _)| (distance(&text, &plain(word)), *word)).min();
    nearest.filter(|(distance, word)| *distance <= word.len() / 3).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn read(attrs: &[Attribute], place: ErrorPlace) -> (ErrorOptions, Vec<String>) {
        let mut errors = Errors::default();
        let options = ErrorOptions::of(attrs, place, &mut errors);
        (options, errors.messages())
    }

    #[test]
    fn every_attribute_where_it_belongs() {
        let attrs: Vec<Attribute> = parse_quote! {
            #[doc = "Of others."]
            #[code(data_loss)]
            #[method_error(message = false, crate = ::my::rpc)]
        };
        let (options, mistakes) = read(&attrs, ErrorPlace::Type);
        assert!(mistakes.is_empty() && options.hides_message && options.library.is_some(), "{mistakes:?}");
        assert_eq!(options.code.unwrap(), "DataLoss");
        let (_, mistakes) = read(&attrs, ErrorPlace::Variant);
        assert_eq!(mistakes.len(), 1, "where the library is counts for the type: {mistakes:?}");
        let (_, mistakes) = read(&attrs, ErrorPlace::Field);
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    }

    #[test]
    fn one_message_for_each_mistake() {
        let mistakes: [(Attribute, &str); 12] = [
            (parse_quote!(#[code]), "needs a code in parentheses"),
            (parse_quote!(#[code = "not_found"]), "needs a code in parentheses"),
            (parse_quote!(#[code()]), "needs exactly one code"),
            (parse_quote!(#[code(not_found, aborted)]), "needs exactly one code"),
            (parse_quote!(#[code("not_found")]), "write `#[code(not_found)]`"),
            (parse_quote!(#[code(notfound)]), "did you mean `not_found`?"),
            (parse_quote!(#[code(Code::NotFound)]), "did you mean `not_found`?"),
            (parse_quote!(#[code(teapot)]), "the codes are `cancelled`, "),
            (parse_quote!(#[method_error]), "needs options in parentheses"),
            (parse_quote!(#[method_error(message = true)]), "`message` can only be `false`"),
            (parse_quote!(#[method_error(crate = "a::b")]), "without quotes"),
            (parse_quote!(#[method_error(code = "not_found")]), "write the code as `#[code(not_found)]`"),
        ];
        for (attribute, words) in mistakes {
            let (_, found) = read(std::slice::from_ref(&attribute), ErrorPlace::Type);
            assert!(matches!(&found[..], [one] if one.contains(words)), "{words}: {found:?}");
        }
        let twice: Vec<Attribute> = parse_quote!(#[code(aborted)] #[code(aborted)]);
        assert_eq!(read(&twice, ErrorPlace::Variant).1.len(), 1);
    }
}
