//! Checks an `impl` block: of a type, or of a contract for it.

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::{Ident, ImplItem, ItemImpl, Type, Visibility, parse_quote};

use super::function::{self, Within};
use super::members::{self, Home};
use super::{Block, Client, Function, cfgs};
use crate::ast::{self, Body, Member};
use crate::attr::{Options, Place};
use crate::crate_path::Library;
use crate::errors::Errors;
use crate::macro_rules_fragments::bare;

const HOME: Home = Home { place: Place::Method, elsewhere: "move it to an `impl` block without `#[rpc]`" };

/// Nothing is made of a block whose type can't have a stub.
pub(crate) fn block(block: &ast::Block, options: Options, errors: &mut Errors) -> Option<Block> {
    function::once(&block.rpc, errors);
    let ident = head(&block.head, errors)?;
    let chosen = members::chosen_stub(&options, errors);
    let library = options.library();
    let within =
        Within { library: library.clone(), prefix: members::prefix(&options, errors), ty: Some(&block.head.self_ty) };
    let stub = chosen.unwrap_or_else(|| {
        let name = format!("{}Client", ident.unraw());
        Ident::new(&name, ident.span())
    });
    let further = |written: &ast::Function, _: &Function, errors: &mut Errors| body(written, errors);
    let members::Methods { methods, has_on } =
        members::methods(&block.members, &HOME, &within, &stub, no_method, further, errors);
    if methods.is_empty() && errors.is_empty() {
        errors.at(
            &block.head.self_ty,
            "this block has no method that callers can call",
            "add one with `&self`, or remove the `#[rpc]`",
        );
    }
    Some(Block {
        ty: (*block.head.self_ty).clone(),
        has_on,
        client: Client { library, stub, vis: most_visible(&methods), cfgs: cfgs(&block.attrs), methods },
    })
}

/// Checks the `impl` of a contract, whose options stand in the contract, but for where the library is.
pub(crate) fn implementation(block: &ast::Block, options: TokenStream, errors: &mut Errors) -> Library {
    function::once(&block.rpc, errors);
    let options = Options::parse(options, Place::Implementation, errors);
    for member in &block.members {
        let Member::Function(function) = member else {
            continue;
        };
        body(function, errors);
        let on_arguments = function.arguments.iter().flat_map(|argument| &argument.rpc);
        for attribute in function.rpc.iter().chain(on_arguments) {
            errors.at(
                attribute,
                "the options of a contract's methods go on the trait",
                "move it to the trait, which callers and services share",
            );
        }
    }
    options.library()
}

/// The name of the type that the block is about.
fn head(head: &ItemImpl, errors: &mut Errors) -> Option<Ident> {
    if !head.generics.params.is_empty() {
        errors.at(
            &head.generics.params,
            "an `impl` block with `#[rpc]` can't be generic",
            "write it for one type, such as `impl Store<String>`",
        );
        return None;
    }
    match bare(&head.self_ty) {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last().map(|last| last.ident.clone()),
        ty => {
            errors.at(
                ty,
                "`#[rpc]` goes on the `impl` block of a type that has a name",
                "define a struct and write the block for it",
            );
            None
        }
    }
}

fn no_method(item: &ImplItem, errors: &mut Errors) {
    match item {
        ImplItem::Const(item) => errors.at(&item.ident, "a constant can't be called", HOME.elsewhere),
        ImplItem::Type(item) => errors.at(&item.ident, "a type can't be called", HOME.elsewhere),
        ImplItem::Macro(item) => {
            errors.at(&item.mac.path, "`#[rpc]` can't see the methods that a macro makes", HOME.elsewhere)
        }
        item => errors.at(item, "only methods can be called", HOME.elsewhere),
    }
}

fn body(function: &ast::Function, errors: &mut Errors) {
    if let Body::None(semicolon) = &function.body {
        errors.at(
            semicolon,
            "a method in an `impl` block needs a body",
            "write a body; only a function outside of `impl` blocks can be declared without one",
        );
    }
}

/// How visible the client is: as its methods, but at least in the whole crate, so that a call of a private method from
/// elsewhere is an error at that method.
fn most_visible(methods: &[Function]) -> Visibility {
    let rank = |vis: &Visibility| match vis {
        Visibility::Public(_) => 3,
        Visibility::Restricted(vis) if vis.path.is_ident("crate") => 2,
        Visibility::Restricted(_) => 1,
        Visibility::Inherited => 0,
    };
    let most = methods.iter().map(|method| &method.vis).max_by_key(|vis| rank(vis));
    most.filter(|vis| rank(vis) > 1).cloned().unwrap_or_else(|| parse_quote!(pub(crate)))
}
