//! Reads the item under the attribute, no further than is needed: bodies stay token trees.
//!
//! The `#[rpc(…)]` attributes inside an item (on arguments, on the methods of a block) are taken
//! out of it here. Everything else is written back as it was read.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{
    Attribute, FnArg, Ident, ImplItem, ItemImpl, ItemTrait, LitStr, Pat, Path, Result, Signature, Token, TraitItem,
    Type, Variadic, Visibility,
};

use crate::macro_rules_fragments::{visible_end, visible_group};

pub(crate) enum Item {
    Function(Function),
    Block(Block),
    Contract(Contract),
    /// An item of another kind, by its keyword.
    Other(Ident),
}

impl Item {
    pub(crate) fn parse(item: &TokenStream) -> Result<Self> {
        let item = &visible_end(item.clone());
        let kind = |input: ParseStream| {
            input.call(Attribute::parse_outer)?;
            input.parse::<Visibility>()?;
            let kind = if starts_function(input) {
                Kind::Function
            } else if starts_block(input) {
                Kind::Block
            } else if starts_contract(input) {
                Kind::Contract
            } else {
                Kind::Other(keyword(input)?)
            };
            input.parse::<TokenStream>()?;
            Ok(kind)
        };
        match kind.parse2(item.clone())? {
            Kind::Function => syn::parse2(item.clone()).map(Item::Function),
            Kind::Block => Block::parse(item).map(Item::Block),
            Kind::Contract => Contract::parse(item).map(Item::Contract),
            Kind::Other(keyword) => Ok(Item::Other(keyword)),
        }
    }
}

/// A function, a declaration of one without a body, or a method.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    /// Further `#[rpc(…)]` attributes on it.
    pub(crate) rpc: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) signature: Signature,
    /// Those of `signature` other than `self`, with the attributes that were taken out of it.
    pub(crate) arguments: Vec<Argument>,
    /// Removed from `signature`: it is a mistake, for which the compiler would also report an error.
    pub(crate) variadic: Option<Variadic>,
    pub(crate) body: Body,
}

pub(crate) struct Argument {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) rpc: Vec<Attribute>,
    pub(crate) pat: Pat,
    pub(crate) ty: Type,
}

pub(crate) enum Body {
    Braces(Group),
    /// A declaration ends in a semicolon.
    None(Token![;]),
}

impl Parse for Function {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut attrs = input.call(Attribute::parse_outer)?;
        let rpc = take_rpc(&mut attrs);
        let vis = input.parse()?;
        let mut signature: Signature = input.parse()?;
        let mut arguments = Vec::new();
        for input in &mut signature.inputs {
            if let FnArg::Typed(argument) = input {
                arguments.push(Argument {
                    rpc: take_rpc(&mut argument.attrs),
                    attrs: argument.attrs.clone(),
                    pat: (*argument.pat).clone(),
                    ty: (*argument.ty).clone(),
                });
            }
        }
        let variadic = signature.variadic.take();
        let body = if input.peek(Token![;]) { Body::None(input.parse()?) } else { Body::Braces(visible_group(input)?) };
        Ok(Function { attrs, rpc, vis, signature, arguments, variadic, body })
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Function { attrs, vis, signature, .. } = self;
        tokens.extend(match &self.body {
            Body::Braces(body) => quote!(#(#attrs)* #vis #signature #body),
            // A missing body is an error already. This body prevents a second one.
            Body::None(_) => quote! {
                #(#attrs)*
                #[allow(unused_variables)]
                #vis #signature { ::core::unimplemented!() }
            },
        });
    }
}

/// An `impl` block, of a type or of a contract for it.
pub(crate) type Block = Members<ItemImpl, ImplItem>;

/// A trait.
pub(crate) type Contract = Members<ItemTrait, TraitItem>;

/// An item with others in its braces.
pub(crate) struct Members<Head, Other> {
    pub(crate) attrs: Vec<Attribute>,
    /// Further `#[rpc(…)]` attributes on it.
    pub(crate) rpc: Vec<Attribute>,
    /// The item without its attributes and members.
    pub(crate) head: Head,
    pub(crate) members: Vec<Member<Other>>,
    written_head: TokenStream,
    inner_attrs: Vec<Attribute>,
    braces: Group,
}

pub(crate) enum Member<Other> {
    Function(Box<Function>),
    Other(Other),
}

impl<Head: Parse, Other: Parse> Members<Head, Other> {
    fn parse(item: &TokenStream) -> Result<Self> {
        let attrs_and_rest =
            |input: ParseStream| Ok((input.call(Attribute::parse_outer)?, input.parse::<TokenStream>()?));
        let (mut attrs, rest) = attrs_and_rest.parse2(item.clone())?;
        let rpc = take_rpc(&mut attrs);
        let mut written_head: Vec<TokenTree> = rest.into_iter().collect();
        let braces = match written_head.pop() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => group,
            last => return Err(syn::Error::new_spanned(last, "expected a block in braces")),
        };
        let written_head: TokenStream = written_head.into_iter().collect();
        let head = syn::parse2(quote!(#written_head {}))?;
        let members = |input: ParseStream| {
            let inner_attrs = input.call(Attribute::parse_inner)?;
            let mut members = Vec::new();
            while !input.is_empty() {
                members.push(input.parse()?);
            }
            Ok((inner_attrs, members))
        };
        let (inner_attrs, members) = members.parse2(braces.stream())?;
        Ok(Members { attrs, rpc, head, members, written_head, inner_attrs, braces })
    }
}

impl<Head, Other> Members<Head, Other> {
    /// The braces around the given members.
    pub(crate) fn braces(&self, members: impl ToTokens) -> Group {
        let mut inside = TokenStream::new();
        inside.append_all(&self.inner_attrs);
        members.to_tokens(&mut inside);
        let mut braces = Group::new(Delimiter::Brace, inside);
        braces.set_span(self.braces.span());
        braces
    }
}

impl<Other: Parse> Parse for Member<Other> {
    fn parse(input: ParseStream) -> Result<Self> {
        let ahead = input.fork();
        ahead.call(Attribute::parse_outer)?;
        ahead.parse::<Visibility>()?;
        if starts_function(&ahead) {
            input.parse().map(Box::new).map(Member::Function)
        } else {
            input.parse().map(Member::Other)
        }
    }
}

impl<Other: ToTokens> ToTokens for Member<Other> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Member::Function(function) => function.to_tokens(tokens),
            Member::Other(other) => other.to_tokens(tokens),
        }
    }
}

impl<Head, Other: ToTokens> ToTokens for Members<Head, Other> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Members { attrs, written_head, members, .. } = self;
        let braces = self.braces(quote!(#(#members)*));
        tokens.extend(quote!(#(#attrs)* #written_head #braces));
    }
}

/// Whether `path` names this attribute. What stands before is anything: the library may have another name here.
pub(crate) fn is_rpc(path: &Path) -> bool {
    path.segments.last().is_some_and(|last| last.ident.unraw() == "rpc")
}

enum Kind {
    Function,
    Block,
    Contract,
    Other(Ident),
}

fn starts_function(input: ParseStream) -> bool {
    let ahead = input.fork();
    loop {
        if ahead.peek(Token![fn]) {
            return true;
        }
        let qualifier = ahead.peek(Token![const])
            || ahead.peek(Token![async])
            || ahead.peek(Token![unsafe])
            || ahead.peek(Token![extern])
            || ahead.peek(LitStr);
        let taken =
            if ahead.peek(LitStr) { ahead.parse::<LitStr>().is_ok() } else { ahead.call(Ident::parse_any).is_ok() };
        if !qualifier || !taken {
            return false;
        }
    }
}

fn starts_block(input: ParseStream) -> bool {
    input.peek(Token![impl]) || (input.peek(Token![unsafe]) || input.peek(Token![default])) && input.peek2(Token![impl])
}

fn starts_contract(input: ParseStream) -> bool {
    input.peek(Token![trait]) || input.peek(Token![unsafe]) && input.peek2(Token![trait])
}

/// The word that says what an item is: `struct`, `enum`, `mod` and so on.
fn keyword(input: ParseStream) -> Result<Ident> {
    let word = input.call(Ident::parse_any)?;
    let qualifies = word == "unsafe" || word == "auto" || word == "extern";
    if qualifies && input.peek(Ident::peek_any) {
        return keyword(input);
    }
    Ok(word)
}

fn take_rpc(attrs: &mut Vec<Attribute>) -> Vec<Attribute> {
    attrs.extract_if(.., |attribute| is_rpc(attribute.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(item: TokenStream) -> String {
        match Item::parse(&item) {
            Ok(Item::Function(_)) => "function".into(),
            Ok(Item::Block(_)) => "block".into(),
            Ok(Item::Contract(_)) => "contract".into(),
            Ok(Item::Other(keyword)) => keyword.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn items_are_recognised_by_their_first_words() {
        assert_eq!(
            kind(quote!(
                async fn f() {}
            )),
            "function"
        );
        assert_eq!(
            kind(quote!(
                #[a]
                pub(crate) const unsafe extern "C" fn f();
            )),
            "function"
        );
        assert_eq!(kind(quote!(impl A {})), "block");
        assert_eq!(
            kind(quote!(
                unsafe impl<T> A<T> for B {}
            )),
            "block"
        );
        assert_eq!(
            kind(quote!(
                pub struct A;
            )),
            "struct"
        );
        assert_eq!(
            kind(quote!(
                pub unsafe trait A {}
            )),
            "contract"
        );
        assert_eq!(
            kind(quote!(
                const A: u8 = 1;
            )),
            "const"
        );
        assert_eq!(
            kind(quote!(
                extern "C" {}
            )),
            "extern"
        );
        assert_eq!(
            kind(quote!(
                macro_rules! a {
                    () => {};
                }
            )),
            "macro_rules"
        );
    }

    #[test]
    fn writes_back_what_it_read_without_its_own_attributes() {
        let item = quote! {
            #[doc = "Adds."]
            pub(crate) async fn add(#[rpc(default = 1)] #[allow(unused)] a: i64, mut b: &str) -> i64 { a ... b }
        };
        let Ok(Item::Function(function)) = Item::parse(&item) else {
            panic!("a function");
        };
        assert_eq!(
            function.to_token_stream().to_string(),
            quote! {
                #[doc = "Adds."]
                pub(crate) async fn add(#[allow(unused)] a: i64, mut b: &str) -> i64 { a ... b }
            }
            .to_string()
        );

        let item = quote! {
            #[cfg(all())]
            impl a::Counter {
                #![allow(unused)]
                #[rpc(name = "x")]
                #[inline]
                pub fn x(&self, #[byname::rpc(default = 2)] a: i64) {}
                const A: i64 = 1;
            }
        };
        let Ok(Item::Block(block)) = Item::parse(&item) else {
            panic!("a block");
        };
        assert_eq!(
            block.to_token_stream().to_string(),
            quote! {
                #[cfg(all())]
                impl a::Counter {
                    #![allow(unused)]
                    #[inline]
                    pub fn x(&self, a: i64) {}
                    const A: i64 = 1;
                }
            }
            .to_string()
        );
    }
}
