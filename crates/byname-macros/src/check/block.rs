//! Checks an `impl` block.

use syn::ext::IdentExt;
use syn::{Ident, ImplItem, ItemImpl, Receiver, ReceiverKind, Type, Visibility};

use super::function::{self, Within};
use super::{Block, Function, cfgs, name};
use crate::ast::{self, Body, Member};
use crate::attr::{Options, Place};
use crate::errors::Errors;

/// Nothing is made of a block whose type can't have a stub.
pub(crate) fn block(block: &ast::Block, options: Options, errors: &mut Errors) -> Option<Block> {
    function::once(&block.rpc, errors);
    let ident = head(&block.head, errors)?;
    let chosen = options.stub.as_ref().filter(|stub| !function::stub(stub, errors)).cloned();
    let within = Within { prefix: prefix(&options, errors), ty: &block.head.self_ty };
    let stub = chosen.unwrap_or_else(|| {
        let name = format!("{}Client", ident.unraw());
        Ident::new(&name, ident.span())
    });
    let mut methods: Vec<Function> = Vec::new();
    let mut has_on = false;
    for member in &block.members {
        let written = match member {
            Member::Function(function) => function,
            Member::Other(other) => {
                no_method(other, errors);
                continue;
            }
        };
        if !receiver(written, errors) {
            continue;
        }
        let options = Options::from_attributes(&written.rpc, Place::Method, errors);
        let method = function::method(written, options, &within, errors);
        body(written, errors);
        if method.ident == "on" {
            on(&method, &stub, errors);
            has_on = true;
            continue;
        }
        twins(&methods, &method, errors);
        methods.push(method);
    }
    if methods.is_empty() && errors.is_empty() {
        errors.at(
            &block.head.self_ty,
            "this block has no method to call",
            "add one with `&self`, or remove the `#[rpc]`",
        );
    }
    Some(Block {
        ty: (*block.head.self_ty).clone(),
        has_on,
        stub,
        vis: most_visible(&methods),
        cfgs: cfgs(&block.attrs),
        methods,
    })
}

/// The prefix, if it is a good one.
fn prefix(options: &Options, errors: &mut Errors) -> Option<String> {
    let prefix = options.prefix.as_ref()?;
    let text = prefix.value();
    if text.is_empty() {
        errors.at(prefix, "a prefix can't be empty", "leave it out for bare names");
        return None;
    }
    if let Err((wrong, help)) = name::check(&format!("{text}.x")) {
        errors.at(prefix, wrong, help);
        return None;
    }
    Some(text)
}

/// The name of the type that the block is about.
fn head(head: &ItemImpl, errors: &mut Errors) -> Option<Ident> {
    if let Some((path, _)) = &head.trait_ {
        errors.at(
            path,
            "`#[rpc]` on the `impl` of a trait is not supported yet",
            "put it on an `impl` block of the type itself, whose methods may call those of the trait",
        );
        return None;
    }
    if !head.generics.params.is_empty() {
        errors.at(
            &head.generics.params,
            "a block whose methods are called by their names can't be generic",
            "write it for one type, such as `impl Store<String>`",
        );
        return None;
    }
    match &*head.self_ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last().map(|last| last.ident.clone()),
        ty => {
            errors.at(
                ty,
                "`#[rpc]` goes on the `impl` block of a type that has a name",
                "define a struct, and write the block for that",
            );
            None
        }
    }
}

/// Whether it is a method that can be called on a shared instance.
fn receiver(function: &ast::Function, errors: &mut Errors) -> bool {
    const SHARED: &str = "take `&self`: calls run at the same time and share the instance";
    match function.signature.receiver() {
        Some(Receiver { kind: ReceiverKind::Reference(_, None, None), .. }) => true,
        Some(receiver) => {
            let help = match &receiver.kind {
                ReceiverKind::Reference(_, _, Some(_)) => {
                    "take `&self`, and keep what changes in an atomic or behind a lock"
                }
                _ => SHARED,
            };
            errors.at(receiver, "a method that is called from elsewhere takes `&self`", help);
            false
        }
        None => {
            errors.at(
                &function.signature.ident,
                format_args!(
                    "`{}` doesn't take `&self`, so it can't be called on an instance",
                    function.signature.ident
                ),
                "move it to an `impl` block without `#[rpc]`, or make it a function of its own",
            );
            false
        }
    }
}

fn no_method(item: &ImplItem, errors: &mut Errors) {
    const ELSEWHERE: &str = "move it to an `impl` block without `#[rpc]`";
    match item {
        ImplItem::Const(item) => errors.at(&item.ident, "a constant can't be called", ELSEWHERE),
        ImplItem::Type(item) => errors.at(&item.ident, "a type can't be called", ELSEWHERE),
        ImplItem::Macro(item) => {
            errors.at(&item.mac.path, "`#[rpc]` can't see the methods that a macro makes", ELSEWHERE)
        }
        item => errors.at(item, "only methods can be called", ELSEWHERE),
    }
}

fn body(function: &ast::Function, errors: &mut Errors) {
    if let Body::None(semicolon) = &function.body {
        errors.at(
            semicolon,
            "a method in an `impl` block needs a body",
            "write one; only functions outside of blocks can be declared without",
        );
    }
}

fn on(method: &Function, stub: &Ident, errors: &mut Errors) {
    errors.at(
        &method.ident,
        format_args!("a method called `on` collides with `{stub}::on`, which says where calls go"),
        "call it differently in Rust, and keep the name for callers: `#[rpc(name = \"on\")]`",
    );
}

fn twins(methods: &[Function], method: &Function, errors: &mut Errors) {
    for name in method.names() {
        let twin = methods.iter().find(|other| other.names().any(|other| other.text == name.text));
        if let Some(twin) = twin {
            errors.at(
                &name.token,
                format_args!("`{}` is a name of `{}` already", name.text, twin.ident),
                "names in a block must differ: change one with `#[rpc(name = \"…\")]`",
            );
        }
    }
}

fn most_visible(methods: &[Function]) -> Visibility {
    let rank = |vis: &Visibility| match vis {
        Visibility::Public(_) => 3,
        Visibility::Restricted(vis) if vis.path.is_ident("crate") => 2,
        Visibility::Restricted(_) => 1,
        Visibility::Inherited => 0,
    };
    methods.iter().map(|method| &method.vis).max_by_key(|vis| rank(vis)).cloned().unwrap_or(Visibility::Inherited)
}
