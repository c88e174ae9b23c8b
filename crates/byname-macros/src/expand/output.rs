//! What comes back, where only the compiler knows what it is.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};

use crate::check::{Output, OutputKind};

/// Refuses results that can't be sent, at their place in the signature.
pub(super) fn checks(output: &Output) -> Option<TokenStream> {
    let ty = &output.ty;
    let (first, last) = ends(ty);
    match output.kind {
        OutputKind::Unknown => None,
        OutputKind::Result => {
            let (ok, err) = (ok(ty), err(ty));
            Some(quote! {
                const _: () = ::byname::__private::returned::<#ok>();
                const _: () = ::byname::__private::returned::<#err>();
            })
        }
        // A `Result` under another name would go out as a success.
        OutputKind::Value => Some(quote! {
            const _: () = ::byname::__private::returned::<#ty>();
        }),
    }
}
