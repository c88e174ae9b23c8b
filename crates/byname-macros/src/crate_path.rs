//! Where the expansion finds the library: [`Library`].

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::Path;
use syn::ext::IdentExt;

/// The path of the library in generated code.
#[derive(Clone, Default)]
pub(crate) struct Library {
    /// As `crate = …` has it.
    pub(crate) chosen: Option<Path>,
}

impl Library {
    /// The path for code that seems to stand there. A chosen one stays where it was written: if it leads nowhere, all the
    /// errors about that are one.
    pub(crate) fn at(&self, here: Span) -> TokenStream {
        match &self.chosen {
            Some(path) => path.to_token_stream(),
            None => quote_spanned!(here=> ::byname),
        }
    }

    /// Whether its path begins with this name, so that something else of the name would be found in its place.
    pub(crate) fn begins_with(&self, name: &str) -> bool {
        let chosen = self.chosen.as_ref().filter(|path| path.leading_colon.is_none());
        chosen.and_then(|path| path.segments.first()).is_some_and(|first| first.ident.unraw() == name)
    }
}

impl ToTokens for Library {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.at(Span::mixed_site()));
    }
}
