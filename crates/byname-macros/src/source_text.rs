//! Source as text: types as people read them, and documentation comments.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Expr, ExprLit, Lit, Meta};

use crate::macro_rules_fragments::visible;

/// Writes tokens the same way whatever compiler prints them: the text is part of a service's schema, which is compared.
pub(crate) fn normalised(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(tokens.to_token_stream(), &mut text);
    text
}

/// The lines of a documentation comment, each without the space that follows the slashes.
///
/// A comment made by a macro (`#[doc = include_str!("…")]`) is left out.
pub(crate) fn doc(attrs: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attrs {
        if let Some(text) = doc_text(attribute) {
            let text = text.trim_end_matches([' ', '\n']);
            lines.extend(text.split('\n').map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()));
        }
    }
    lines.join("\n").trim_matches('\n').to_owned()
}

/// The reason in `#[deprecated]`, empty if it gives none.
pub(crate) fn deprecation_reason(attribute: &Attribute) -> String {
    let mut reason = String::new();
    match &attribute.meta {
        Meta::Path(_) => {}
        Meta::NameValue(meta) => reason = string(&meta.value).unwrap_or_default(),
        // What is wrong in it is an error of the compiler.
        Meta::List(_) => {
            let _ = attribute.parse_nested_meta(|meta| {
                let value: Expr = meta.value()?.parse()?;
                if meta.path.is_ident("note") {
                    reason = string(&value).unwrap_or_default();
                }
                Ok(())
            });
        }
    }
    reason
}

fn string(value: &Expr) -> Option<String> {
    match visible(value) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

fn doc_text(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => string(&meta.value),
        _ => None,
    }
}

fn write(tokens: TokenStream, text: &mut String) {
    let mut joint = false;
    let mut commas = 0;
    for token in tokens {
        let was_joint = std::mem::replace(&mut joint, false);
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => {
                joint = punct.spacing() == Spacing::Joint;
                let sign = punct.as_char();
                commas += usize::from(sign == ',');
                let operator = matches!(sign, '=' | '+' | '-' | '*');
                if operator && !was_joint && !text.ends_with([' ', '<', '(']) && !text.is_empty() {
                    text.push(' ');
                }
                if sign == '>' && text.ends_with(", ") {
                    text.truncate(text.len() - ", ".len());
                }
                text.push(sign);
                let arrow = sign == '>' && was_joint && text.ends_with("->");
                let colon = sign == ':' && !joint && !was_joint;
                if matches!(sign, ',' | ';') || operator && !joint || arrow || colon {
                    text.push(' ');
                }
            }
            word => {
                if text.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
    text.truncate(text.trim_end().len());
    // A comma at the end of a list is dropped, except in a tuple of one.
    if commas > 1 && text.ends_with(',') {
        text.pop();
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::*;

    #[test]
    fn types_read_as_people_write_them() {
        let written = |tokens: TokenStream| normalised(tokens);
        assert_eq!(written(quote!(Vec<u8>)), "Vec<u8>");
        assert_eq!(
            written(quote!(std::collections::HashMap<String, Vec<(i64, u8)>>)),
            "std::collections::HashMap<String, Vec<(i64, u8)>>"
        );
        assert_eq!(written(quote!([u8; 4])), "[u8; 4]");
        assert_eq!(written(quote!(&'static str)), "&'static str");
        assert_eq!(written(quote!((i64,))), "(i64,)");
        assert_eq!(written(quote!((i64, u8,))), "(i64, u8)");
        assert_eq!(written(quote!(Map<i64, u8,>)), "Map<i64, u8>");
        assert_eq!(written(quote!(())), "()");
        assert_eq!(written(quote!(Box<dyn Fn(i64) -> i64 + Send>)), "Box<dyn Fn(i64) -> i64 + Send>");
        assert_eq!(written(quote!(<A as B>::C)), "<A as B>::C");
        assert_eq!(written(quote!(A<B = C>)), "A<B = C>");
    }

    #[test]
    fn documentation_loses_its_margin() {
        let attrs: Vec<Attribute> = vec![
            parse_quote!(#[doc = " Adds."]),
            parse_quote!(#[doc = ""]),
            parse_quote!(#[inline]),
            parse_quote!(#[doc = "   indented  "]),
        ];
        assert_eq!(doc(&attrs), "Adds.\n\n  indented");
        assert_eq!(doc(&[]), "");
    }
}
