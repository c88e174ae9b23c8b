//! The invisible groups in which fragments that a macro by example captured arrive: `$body:block` is one around a group in
//! braces, `$name:literal` one around a literal.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::parse::ParseStream;
use syn::{Expr, Result, Type};

/// A group in braces, or another that is visible.
pub(crate) fn visible_group(input: ParseStream) -> Result<Group> {
    let token: TokenTree = input.parse()?;
    match within(&token) {
        Some(group) => Ok(group),
        None => Err(syn::Error::new_spanned(token, "expected a block in braces")),
    }
}

fn within(token: &TokenTree) -> Option<Group> {
    let TokenTree::Group(group) = token else {
        return None;
    };
    if group.delimiter() != Delimiter::None {
        return Some(group.clone());
    }
    let mut inside = group.stream().into_iter();
    match (inside.next(), inside.next()) {
        (Some(only), None) => within(&only),
        _ => None,
    }
}

/// The item with its invisible groups made visible: its last block, or the whole item behind its attributes.
pub(crate) fn visible_end(item: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = item.into_iter().collect();
    match tokens.pop() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::None => {
            tokens.extend(visible_end(group.stream()));
        }
        last => tokens.extend(last),
    }
    tokens.into_iter().collect()
}

/// The type without parentheses around it, visible or not.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        ty => ty,
    }
}

/// As [`bare`], to change it.
pub(crate) fn bare_mut(ty: &mut Type) -> &mut Type {
    match ty {
        Type::Group(group) => bare_mut(&mut group.elem),
        Type::Paren(paren) => bare_mut(&mut paren.elem),
        ty => ty,
    }
}

/// The expression without invisible groups around it.
pub(crate) fn visible(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => visible(&group.expr),
        expr => expr,
    }
}
