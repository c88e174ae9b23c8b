//! The spans of generated tokens, so that the compiler's own errors about them are shown at what the user wrote.

use proc_macro2::{Ident, Span, TokenStream};

/// The first and the last span of `tokens`. Together they make an error cover all of them.
pub(crate) fn ends(tokens: &TokenStream) -> (Span, Span) {
    let mut spans = tokens.clone().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::call_site);
    (first, spans.last().unwrap_or(first))
}

/// Generated `tokens` whose whole is shown at `place`.
pub(crate) fn at(place: &TokenStream, tokens: TokenStream) -> TokenStream {
    let (first, last) = ends(place);
    let mut tokens: Vec<_> = tokens.into_iter().collect();
    if let Some(token) = tokens.first_mut() {
        token.set_span(first);
    }
    if let Some(token) = tokens.last_mut() {
        token.set_span(last);
    }
    tokens.into_iter().collect()
}

/// The same tokens, each with the span `span`.
pub(crate) fn all_at(span: Span, tokens: TokenStream) -> TokenStream {
    let tokens = tokens.into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    tokens.collect()
}

/// A name with the span of the attribute's call site, at its own location: lints about names ignore it.
pub(crate) fn unlinted(ident: &Ident) -> Ident {
    let mut ident = ident.clone();
    ident.set_span(Span::call_site().located_at(ident.span()));
    ident
}
