//! Decides what an item means, and reports its mistakes.
//!
//! A check always returns a complete result, with placeholders for mistakes. The mistakes are in [`Errors`]. The result
//! is then used to define the stub, so that no other error follows.

mod block;
mod contract;
mod function;
mod members;
mod method_error;
mod name;
mod types;

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Ident, ReturnType, Type, Visibility};

pub(crate) use block::{block, implementation};
pub(crate) use contract::contract;
pub(crate) use function::{free, inside_a_block};
pub(crate) use method_error::{ErrorCase, OwnError, own_error};

use crate::attr::DefaultValue;
use crate::crate_path::Library;
use crate::errors::Errors;

/// A function or a method that can be called from elsewhere.
pub(crate) struct Function {
    pub(crate) library: Library,
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    /// The type that `on` belongs to; of no use to a method.
    pub(crate) stub: Ident,
    /// The name on the wire.
    pub(crate) name: Name,
    pub(crate) aliases: Vec<Name>,
    pub(crate) doc: String,
    /// The `#[cfg]`s, which all that is made of the function must share.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) deprecated: Option<Attribute>,
    pub(crate) arguments: Vec<Argument>,
    /// The stream that it takes behind them.
    pub(crate) takes: Option<Takes>,
    pub(crate) output: Output,
    pub(crate) manner: Manner,
    pub(crate) idempotent: bool,
    pub(crate) readonly: bool,
    pub(crate) keyed: bool,
    pub(crate) hedge: bool,
    pub(crate) timeout_ms: Option<u64>,
    /// The variant of `Priority`.
    pub(crate) priority: Option<Ident>,
    pub(crate) in_flight: Option<usize>,
    /// How many seconds an answer may be kept, and whether by caches of many users.
    pub(crate) max_age_s: Option<u32>,
    pub(crate) public: bool,
    pub(crate) hidden: bool,
    pub(crate) has_body: bool,
}

impl Function {
    /// All names on the wire.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.name).chain(&self.aliases)
    }
}

/// A name on the wire, the prefix included, and the token that it comes from.
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) token: TokenTree,
}

pub(crate) struct Argument {
    pub(crate) ident: Ident,
    /// The declared type.
    pub(crate) ty: Type,
    pub(crate) passing: Passing,
    /// As the server holds it.
    pub(crate) owned: TokenStream,
    /// The type as it is sent, as text: `String` for `&str`.
    pub(crate) text: String,
    pub(crate) default: Option<DefaultValue>,
}

/// An argument that is a `Streaming`.
pub(crate) struct Takes {
    pub(crate) ident: Ident,
    /// As it was declared.
    pub(crate) ty: Type,
    pub(crate) item: TokenStream,
}

pub(crate) enum Passing {
    Owned,
    /// A reference to this type.
    Borrowed(TokenStream),
    /// An `Option` of one.
    OptionBorrowed(TokenStream),
    /// An error was reported: any value is accepted.
    Unknown,
}

pub(crate) struct Output {
    /// Of a stream, the type of its items.
    pub(crate) ty: TokenStream,
    pub(crate) kind: OutputKind,
    /// It is a stream.
    pub(crate) streams: bool,
}

pub(crate) enum OutputKind {
    Value,
    /// Its path ends in `Result`.
    Result(ResultPlaces),
    /// An error was reported: any type is accepted.
    Unknown,
}

/// The places in a signature that the two sides of a `Result` come from.
pub(crate) struct ResultPlaces {
    pub(crate) ok: TokenStream,
    pub(crate) err: TokenStream,
    /// Both are written: the places are the sides.
    pub(crate) are_sides: bool,
}

/// How the server runs it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Async,
    Inline,
    Blocking,
}

/// An `impl` block whose methods can be called from elsewhere.
pub(crate) struct Block {
    /// The type that the block is about.
    pub(crate) ty: Type,
    /// A mistake: a method is named `on`, which is the name of the generated function.
    pub(crate) has_on: bool,
    pub(crate) client: Client,
}

/// A trait that a service implements and a client calls.
pub(crate) struct Contract {
    pub(crate) ident: Ident,
    /// The type that names the contract in `Server::contract`.
    pub(crate) marker: Ident,
    /// Without a mistake that would keep the client from implementing it.
    pub(crate) implementable: bool,
    pub(crate) client: Client,
}

/// The type whose methods make the calls.
pub(crate) struct Client {
    pub(crate) library: Library,
    pub(crate) stub: Ident,
    pub(crate) vis: Visibility,
    /// Those of the item that it is made of.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) methods: Vec<Function>,
}

/// An item that is neither a function nor an `impl` block nor a trait.
pub(crate) fn other(keyword: &Ident, errors: &mut Errors) {
    let (what, help) = match keyword.to_string().as_str() {
        "struct" | "enum" | "union" => (
            "`#[rpc]` goes on functions, `impl` blocks and traits, not on types",
            "put it on the `impl` block that has the methods",
        ),
        "mod" => (
            "`#[rpc]` goes on functions, `impl` blocks and traits, not on modules",
            "put it on each function of the module that callers may call",
        ),
        _ => ("`#[rpc]` goes on functions, `impl` blocks and traits", "remove it here"),
    };
    errors.at(keyword, what, help);
}

/// Whether a function with this output returns a stream.
pub(crate) fn streams(output: &ReturnType) -> bool {
    matches!(output, ReturnType::Type(_, ty) if types::stream_item(ty).is_some())
}

/// The attributes that all that is made of an item must share.
pub(crate) fn cfgs(attrs: &[Attribute]) -> Vec<Attribute> {
    let cfgs = attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    cfgs.cloned().collect()
}
