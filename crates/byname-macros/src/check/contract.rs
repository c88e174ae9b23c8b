//! Checks a trait.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, ItemTrait, ReturnType, TraitItem, TypeParamBound};

use super::function::{self, Within};
use super::members::{self, Home};
use super::{Client, Contract, Function, OutputKind, cfgs, types};
use crate::ast::{self, Body, Member};
use crate::attr::{Options, Place};
use crate::errors::Errors;
use crate::source_text;

const HOME: Home = Home { place: Place::ContractMethod, elsewhere: "move it to a trait without `#[rpc]`" };

pub(crate) fn contract(contract: &ast::Contract, options: Options, errors: &mut Errors) -> Contract {
    function::once(&contract.rpc, errors);
    let ItemTrait { vis, ident, .. } = &contract.head;
    let named = |what: &str| Ident::new(&format!("{}{what}", ident.unraw()), ident.span());
    let plain = head(&contract.head, errors);
    let stub = members::chosen_stub(&options, errors).unwrap_or_else(|| named("Client"));
    let library = options.library();
    let within = Within { library: library.clone(), prefix: members::prefix(&options, errors), ty: None };
    let further = |written: &ast::Function, checked: &Function, errors: &mut Errors| {
        method(ident, written, checked, errors);
    };
    let members::Methods { mut methods, .. } =
        members::methods(&contract.members, &HOME, &within, &stub, no_method, further, errors);
    for method in &mut methods {
        method.vis = vis.clone();
    }
    if methods.is_empty() && errors.is_empty() {
        errors.at(
            ident,
            "this contract has no method that callers can call",
            "add one with `&self`, or remove the `#[rpc]`",
        );
    }
    Contract {
        ident: ident.clone(),
        marker: named("Contract"),
        implementable: plain && contract.members.iter().all(|member| matches!(member, Member::Function(_))),
        client: Client { library, stub, vis: vis.clone(), cfgs: cfgs(&contract.attrs), methods },
    }
}

/// Whether the client can implement a trait that begins so.
fn head(head: &ItemTrait, errors: &mut Errors) -> bool {
    let before = errors.len();
    if let Some(unsafety) = &head.unsafety {
        errors.at(
            unsafety,
            "a contract can't be `unsafe`: a client can't meet its safety conditions",
            "remove `unsafe`, and check the conditions in the implementation",
        );
    }
    if !head.generics.params.is_empty() {
        errors.at(
            &head.generics.params,
            "a contract can't be generic: its methods are called by name",
            "write one trait for each type, or take an enum with a variant for each type",
        );
    }
    let given = |bound: &TypeParamBound| match bound {
        TypeParamBound::Lifetime(lifetime) => lifetime.ident == "static",
        TypeParamBound::Trait(bound) => ["Send", "Sync"].contains(&&*bound.to_token_stream().to_string()),
        _ => false,
    };
    let asked = head.supertraits.iter().find(|bound| !given(bound)).map(ToTokens::to_token_stream);
    let predicate = || Some(head.generics.where_clause.as_ref()?.predicates.first()?.to_token_stream());
    if let Some(bound) = asked.or_else(predicate) {
        errors.at(
            bound,
            "a contract can't require other traits: the client that implements it has only the contract's methods",
            format_args!(
                "remove the bound here and write it where it is needed: `fn f(it: impl {} + Debug)`; a contract is `Send \
                 + Sync + 'static` by itself",
                head.ident
            ),
        );
    }
    errors.len() == before
}

/// What a contract asks of a method besides.
fn method(contract: &Ident, written: &ast::Function, method: &Function, errors: &mut Errors) {
    let signature = &written.signature;
    if let Body::Braces(_) = &written.body {
        errors.at(
            &signature.ident,
            "a contract's method can't have a body: the service implements it",
            format_args!(
                "end it with a semicolon; put code that only calls other methods into a function: `async fn {}(it: &impl {})`",
                signature.ident, contract
            ),
        );
    }
    let types = written.arguments.iter().map(|argument| argument.ty.to_token_stream());
    let types = types.chain([signature.output.to_token_stream()]);
    if let Some(word) = types.into_iter().find_map(types::find_self) {
        errors.at(
            word,
            "`Self` is a different type on each side: the client on one, the service on the other",
            "write a type that both sides share",
        );
        return;
    }
    if let OutputKind::Unknown = method.output.kind {
        return;
    }
    if method.output.streams {
        if let Some(asyncness) = &signature.asyncness {
            errors.at(
                asyncness,
                "a contract's method that returns a stream can't be `async`: the caller waits for the items of the stream",
                format_args!("write `fn {}`; await inside the stream", signature.ident),
            );
        }
    } else if signature.asyncness.is_none() {
        errors.at(
            signature.fn_token,
            "a contract's method must be `async`: the client waits for the answer",
            format_args!("write `async fn {}`", signature.ident),
        );
    }
    if let OutputKind::Value = method.output.kind {
        let ty = match &signature.output {
            ReturnType::Default => signature.ident.to_token_stream(),
            ReturnType::Type(_, ty) => ty.to_token_stream(),
        };
        errors.at(
            ty,
            "a contract's method must return a `Result`: a call can fail",
            format_args!(
                "write `{}Result<{}, byname::Error>{}`, or an error of yours that is `From<byname::Error>`; an alias must \
                 end in `Result`",
                if method.output.streams { "impl Stream<Item = " } else { "" },
                source_text::normalised(&method.output.ty),
                if method.output.streams { ">" } else { "" },
            ),
        );
    }
}

fn no_method(item: &TraitItem, errors: &mut Errors) {
    match item {
        TraitItem::Const(item) => errors.at(&item.ident, "a constant can't be called", HOME.elsewhere),
        TraitItem::Type(item) => {
            errors.at(&item.ident, "a type can't be called", "write a type that both sides share in its place")
        }
        TraitItem::Macro(item) => {
            errors.at(&item.mac.path, "`#[rpc]` can't see the methods that a macro makes", HOME.elsewhere)
        }
        item => errors.at(item, "only methods can be called", HOME.elsewhere),
    }
}
