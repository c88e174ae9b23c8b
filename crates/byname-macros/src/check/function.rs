//! Checks one function or method.

use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{Attribute, GenericParam, Ident, LitStr, Pat, ReturnType, Safety, Signature, Type};

use super::{Argument, Function, Manner, Name, Output, OutputKind, Passing, Takes, cfgs, name, types};
use crate::ast::{self, Body};
use crate::attr::{Options, Place};
use crate::crate_path::Library;
use crate::errors::Errors;
use crate::source_text;

/// As many as the library has tuples for.
const MOST_ARGUMENTS: usize = 16;

/// Names that stand for types or crates everywhere: a stub of that name would hide them.
const TAKEN: &[&str] = &[
    "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
    "f16", "f32", "f64", "f128", "std", "core", "alloc", "byname",
];

/// What a method takes from its block or its contract.
pub(super) struct Within<'a> {
    pub(super) library: Library,
    pub(super) prefix: Option<String>,
    /// What `Self` is, in a block.
    pub(super) ty: Option<&'a Type>,
}

/// Checks a function outside of blocks.
pub(crate) fn free(function: &ast::Function, options: Options, errors: &mut Errors) -> Function {
    once(&function.rpc, errors);
    let mut checked = check(function, options, None, errors);
    if stub(&checked.stub, &checked.library, errors) {
        checked.stub = format_ident!("{}_rpc", checked.stub.unraw());
    }
    checked
}

/// Checks a method of a block or a trait with the attribute.
pub(super) fn method(function: &ast::Function, options: Options, within: &Within<'_>, errors: &mut Errors) -> Function {
    check(function, options, Some(within), errors)
}

/// Whether a function is inside a block without the attribute, which is an error.
pub(crate) fn inside_a_block(function: &ast::Function, errors: &mut Errors) -> bool {
    const BLOCK: &str = "put `#[rpc]` on the `impl` block or the trait: this exports its methods with `&self`";
    let signature = &function.signature;
    if let Some(receiver) = signature.receiver() {
        errors.at(receiver, "`#[rpc]` can't be on a single method", BLOCK);
        return true;
    }
    let types = signature.inputs.to_token_stream().into_iter();
    let types = types.chain(signature.output.to_token_stream());
    if let Some(word) = types::find_self(types.collect()) {
        errors.at(
            word,
            "`#[rpc]` can't be on a function inside an `impl` block",
            "move the function out of the block, and write the type's name in place of `Self`",
        );
        return true;
    }
    false
}

/// Rejects a second attribute on the same item, which would read the expansion of this one.
pub(super) fn once(others: &[Attribute], errors: &mut Errors) {
    if let Some(second) = others.first() {
        errors.at(
            second,
            "`#[rpc]` is given twice on this item",
            "put all options into one attribute: `#[rpc(readonly, name = \"…\")]`",
        );
    }
}

/// Rejects the name of a stub that would hide a name that is used everywhere.
pub(super) fn stub(stub: &Ident, library: &Library, errors: &mut Errors) -> bool {
    let name = stub.unraw().to_string();
    let taken = TAKEN.contains(&name.as_str()) || library.begins_with(&name);
    if taken {
        errors.at(
            stub,
            format_args!("a stub named `{name}` would hide the usual meaning of `{name}` in this module"),
            format_args!("name it differently: `#[rpc(stub = {name}_rpc)]`"),
        );
    }
    taken
}

fn check(function: &ast::Function, options: Options, within: Option<&Within<'_>>, errors: &mut Errors) -> Function {
    let signature = &function.signature;
    let library = match within {
        Some(within) => within.library.clone(),
        None => options.library(),
    };
    qualifiers(function, errors);
    let generic = generics(signature, errors);
    let mut written = function.arguments.as_slice();
    let takes = takes(&mut written, generic, within, errors);
    let arguments = arguments(written, generic, within, &library, errors);
    let output = match &signature.output {
        ReturnType::Default => Output { ty: quote!(()), kind: OutputKind::Value, streams: false },
        ReturnType::Type(_, ty) if generic => {
            Output { ty: ty.to_token_stream(), kind: OutputKind::Unknown, streams: false }
        }
        ReturnType::Type(_, ty) => types::output(&said_outside(ty, within), errors),
    };
    let manner = manner(signature, &options, errors);
    if let (Manner::Blocking, true, Some(blocking)) = (manner, output.streams, &options.blocking) {
        errors.at(
            blocking,
            "a function that returns a stream can't be `blocking`: it returns at once, and its items are made later",
            "remove `blocking`, and make the items on a thread that sends them over a channel",
        );
    }
    let streams = output.streams || takes.is_some();
    kept_answers(&options, streams, errors);
    hedging(&options, streams, errors);
    keyed(&options, streams, errors);
    let prefix = within.and_then(|within| within.prefix.as_deref());
    let (name, aliases) = names(&signature.ident, &options, prefix, errors);
    let mut attrs = function.attrs.iter();
    let deprecated = attrs.find(|attribute| attribute.path().is_ident("deprecated"));
    Function {
        library,
        ident: signature.ident.clone(),
        vis: function.vis.clone(),
        stub: options.stub.unwrap_or_else(|| signature.ident.clone()),
        name,
        aliases,
        doc: source_text::doc(&function.attrs),
        cfgs: cfgs(&function.attrs),
        deprecated: deprecated.cloned(),
        arguments,
        takes,
        output,
        manner,
        idempotent: options.idempotent || options.readonly,
        readonly: options.readonly,
        keyed: options.keyed.is_some(),
        hedge: options.hedge.is_some(),
        timeout_ms: options.timeout_ms,
        priority: options.priority,
        in_flight: options.in_flight,
        max_age_s: options.max_age.map(|max_age| max_age.seconds),
        public: options.public.is_some(),
        hidden: options.hidden,
        has_body: matches!(function.body, Body::Braces(_)),
    }
}

/// Rejects `max_age` and `public` on functions whose answers no cache keeps.
fn kept_answers(options: &Options, streams: bool, errors: &mut Errors) {
    match (&options.max_age, &options.public) {
        (Some(max_age), _) if !options.readonly => errors.at(
            &max_age.text,
            "`max_age` is for `readonly` functions: an answer from a cache does not run the function",
            "add `readonly` if the function changes nothing, or remove `max_age`",
        ),
        (Some(max_age), _) if streams => errors.at(
            &max_age.text,
            "`max_age` is for functions without streams: caches don't keep streams",
            "remove `max_age`, or return the items in a `Vec`",
        ),
        (None, Some(public)) => errors.at(
            public,
            "`public` needs `max_age`: without it no cache may keep the answer",
            "add `max_age = \"60s\"`, or remove `public`",
        ),
        _ => {}
    }
}

/// Rejects `keyed` on functions for which a key does nothing.
fn keyed(options: &Options, streams: bool, errors: &mut Errors) {
    match &options.keyed {
        Some(keyed) if options.readonly || options.idempotent => errors.at(
            keyed,
            "`keyed` is for functions that must not run twice: this one may, by `idempotent` or `readonly`",
            "remove `keyed`, or the other option",
        ),
        Some(keyed) if streams => errors.at(
            keyed,
            "`keyed` is for functions without streams: a stream is not kept for a second caller",
            "remove `keyed`, or take and return the items in a `Vec`",
        ),
        _ => {}
    }
}

/// Rejects `hedge` on functions that can't run beside themselves.
fn hedging(options: &Options, streams: bool, errors: &mut Errors) {
    match &options.hedge {
        Some(hedge) if !options.readonly => errors.at(
            hedge,
            "`hedge` is for `readonly` functions: the function may run at two replicas at once",
            "add `readonly` if the function changes nothing, or remove `hedge`",
        ),
        Some(hedge) if streams => errors.at(
            hedge,
            "`hedge` is for functions without streams: a call with a stream goes to one replica",
            "remove `hedge`, or return the items in a `Vec`",
        ),
        _ => {}
    }
}

/// `Self` is another type in the stub, so its name is written for it.
fn said_outside(ty: &Type, within: Option<&Within<'_>>) -> Type {
    let Some(this) = within.and_then(|within| within.ty) else {
        return ty.clone();
    };
    let tokens = types::without_self(ty.to_token_stream(), &this.to_token_stream());
    syn::parse2(tokens).unwrap_or_else(|_| ty.clone())
}

fn qualifiers(function: &ast::Function, errors: &mut Errors) {
    let signature = &function.signature;
    if let Some(constness) = &signature.constness {
        errors.at(
            constness,
            "an exported function can't be `const`",
            "remove `const`, or call it from a second function that has `#[rpc]`",
        );
    }
    if let Safety::Unsafe(unsafety) = &signature.safety {
        errors.at(
            unsafety,
            "an exported function can't be `unsafe`: a caller in another process can't meet its safety conditions",
            "check what it needs inside a safe function, and put `#[rpc]` on that",
        );
    }
    if let Some(abi) = &signature.abi {
        errors.at(
            abi,
            "`#[rpc]` goes on Rust functions",
            "remove `extern`, or call it from a second function that has `#[rpc]`",
        );
    }
    if let Some(variadic) = &function.variadic {
        errors.at(
            variadic.dots,
            "the number of arguments must be fixed",
            "take a `Vec` for a variable number of values",
        );
    }
}

/// Whether the function has parameters of its own, which is an error.
fn generics(signature: &Signature, errors: &mut Errors) -> bool {
    let Some(first) = signature.generics.params.first() else {
        return false;
    };
    let help = match first {
        GenericParam::Lifetime(_) => {
            "leave lifetimes out, as in `name: &str`; an argument is borrowed for the call only"
        }
        _ => "write one function for each type, or take an enum with a variant for each type",
    };
    errors.at(&signature.generics.params, "an exported function can't be generic", help);
    true
}

/// Takes the stream off the end of the arguments, where there is one.
fn takes(
    written: &mut &[ast::Argument],
    generic: bool,
    within: Option<&Within<'_>>,
    errors: &mut Errors,
) -> Option<Takes> {
    let (last, before) = written.split_last()?;
    for argument in before {
        if types::streaming_item(&argument.ty).is_some() {
            errors.at(
                &argument.ty,
                "a function can take only one stream, as its last argument",
                "move the stream to the end; merge two streams into one stream of an enum",
            );
        }
    }
    let ty = said_outside(&last.ty, within);
    let item = types::streaming_item(&ty).filter(|_| !generic)?;
    *written = before;
    let options = Options::from_attributes(&last.rpc, Place::Argument, errors);
    if let Some(default) = &options.default {
        errors.at(
            default,
            "a stream can't have a default",
            "remove the default; an empty stream is `Streaming::from(vec![])`",
        );
    }
    types::decoded(item, "the item of a stream", errors);
    let ident = argument_name(&last.pat, errors).unwrap_or_else(|| format_ident!("stream"));
    Some(Takes { ident, item: item.to_token_stream(), ty })
}

fn arguments(
    written: &[ast::Argument],
    generic: bool,
    within: Option<&Within<'_>>,
    library: &Library,
    errors: &mut Errors,
) -> Vec<Argument> {
    if let Some(surplus) = written.get(MOST_ARGUMENTS) {
        errors.at(
            &surplus.pat,
            format_args!("a function can have {MOST_ARGUMENTS} arguments at most"),
            "put arguments that belong together into a struct",
        );
    }
    let mut arguments = Vec::new();
    for (index, argument) in written.iter().enumerate() {
        let options = Options::from_attributes(&argument.rpc, Place::Argument, errors);
        for attribute in &argument.attrs {
            if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
                errors.at(
                    attribute,
                    "an argument can't have a `#[cfg]`: the caller and the service may be compiled differently",
                    "put the `#[cfg]` on two functions, each with its `#[rpc]`",
                );
            }
        }
        let ident = argument_name(&argument.pat, errors);
        let ty = said_outside(&argument.ty, within);
        let (passing, owned) =
            if generic { (Passing::Unknown, ty.to_token_stream()) } else { types::argument(&ty, library, errors) };
        arguments.push(Argument {
            ident: ident.unwrap_or_else(|| format_ident!("argument_{index}")),
            text: types::owned_text(&ty),
            ty,
            passing,
            owned,
            default: options.default,
        });
    }
    arguments
}

fn argument_name(pat: &Pat, errors: &mut Errors) -> Option<Ident> {
    match pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => Some(pat.ident.clone()),
        Pat::Wild(wild) => {
            errors.at(
                wild,
                "an argument needs a name: callers may pass it by name",
                "write `_name` if it isn't used yet",
            );
            None
        }
        pat => {
            errors.at(
                pat,
                "an argument needs a name: callers may pass it by name",
                "give it a name, and destructure it in the body with `let`",
            );
            None
        }
    }
}

fn manner(signature: &Signature, options: &Options, errors: &mut Errors) -> Manner {
    match (&signature.asyncness, &options.blocking) {
        (Some(_), Some(blocking)) => {
            errors.at(
                blocking,
                "`blocking` is for functions that are not `async`",
                "remove `blocking`, or remove `async` if the function blocks its thread",
            );
            Manner::Async
        }
        (Some(_), None) => Manner::Async,
        (None, Some(_)) => Manner::Blocking,
        (None, None) => Manner::Inline,
    }
}

/// The name on the wire and the aliases, each with the prefix.
fn names(ident: &Ident, options: &Options, prefix: Option<&str>, errors: &mut Errors) -> (Name, Vec<Name>) {
    let whole = |name: String| match prefix {
        Some(prefix) => format!("{prefix}.{name}"),
        None => name,
    };
    let given = |given: &LitStr, errors: &mut Errors| {
        let text = whole(given.value());
        if let Err((wrong, help)) = name::check(&text) {
            errors.at(given, wrong, help);
        }
        let token = given.token().into();
        Name { text, token }
    };
    let own = match &options.name {
        Some(name) => given(name, errors),
        None => {
            let text = whole(ident.unraw().to_string());
            if let Err((wrong, _)) = name::check(&text) {
                errors.at(ident, wrong, "give the function another name: `#[rpc(name = \"…\")]`");
            }
            let token = ident.clone().into();
            Name { text, token }
        }
    };
    let mut aliases: Vec<Name> = Vec::new();
    for alias in &options.aliases {
        let alias = given(alias, errors);
        if std::iter::once(&own).chain(&aliases).any(|name| name.text == alias.text) {
            errors.at(
                &alias.token,
                format_args!("this function already has the name `{}`", alias.text),
                "remove this alias",
            );
        }
        aliases.push(alias);
    }
    (own, aliases)
}
