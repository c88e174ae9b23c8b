//! Checks what an `impl` block and a contract have in common: methods, and the client that calls them.

use syn::{Ident, Receiver, ReceiverKind};

use super::function::{self, Within};
use super::{Function, name};
use crate::ast::{self, Member};
use crate::attr::{Options, Place};
use crate::errors::Errors;

/// What is made of the members.
pub(super) struct Methods {
    pub(super) methods: Vec<Function>,
    /// A mistake: one has the name that the way to the stub must have.
    pub(super) has_on: bool,
}

/// Where the members stand.
pub(super) struct Home {
    /// Of its methods.
    pub(super) place: Place,
    /// What to do with a member that can't be called.
    pub(super) elsewhere: &'static str,
}

/// Checks the methods, each by `further` too, and passes other members to `other`.
pub(super) fn methods<Other>(
    members: &[Member<Other>],
    home: &Home,
    within: &Within<'_>,
    stub: &Ident,
    other: impl Fn(&Other, &mut Errors),
    further: impl Fn(&ast::Function, &Function, &mut Errors),
    errors: &mut Errors,
) -> Methods {
    let mut methods: Vec<Function> = Vec::new();
    let mut has_on = false;
    for member in members {
        let written = match member {
            Member::Function(function) => function,
            Member::Other(member) => {
                other(member, errors);
                continue;
            }
        };
        if !receiver(written, home, errors) {
            continue;
        }
        let options = Options::from_attributes(&written.rpc, home.place, errors);
        let method = function::method(written, options, within, errors);
        further(written, &method, errors);
        if method.ident == "on" {
            on(&method, stub, errors);
            has_on = true;
            continue;
        }
        twins(&methods, &method, errors);
        methods.push(method);
    }
    Methods { methods, has_on }
}

/// The stub's name that was chosen, if it is a good one.
pub(super) fn chosen_stub(options: &Options, errors: &mut Errors) -> Option<Ident> {
    options.stub.as_ref().filter(|stub| !function::stub(stub, &options.library(), errors)).cloned()
}

/// The prefix, if it is a good one.
pub(super) fn prefix(options: &Options, errors: &mut Errors) -> Option<String> {
    let prefix = options.prefix.as_ref()?;
    let text = prefix.value();
    if text.is_empty() {
        errors.at(prefix, "a prefix can't be empty", "remove the option if the names need no prefix");
        return None;
    }
    if let Err((wrong, help)) = name::check(&format!("{text}.x")) {
        errors.at(prefix, wrong, help);
        return None;
    }
    Some(text)
}

/// Whether it is a method that can be called on a shared instance.
fn receiver(function: &ast::Function, home: &Home, errors: &mut Errors) -> bool {
    const SHARED: &str = "take `&self`: calls run at the same time and share the instance";
    match function.signature.receiver() {
        Some(Receiver { kind: ReceiverKind::Reference(_, None, None), .. }) => true,
        Some(receiver) => {
            let help = match &receiver.kind {
                ReceiverKind::Reference(_, _, Some(_)) => {
                    "take `&self`, and keep data that changes in an atomic or behind a lock"
                }
                _ => SHARED,
            };
            errors.at(receiver, "an exported method must take `&self`", help);
            false
        }
        None => {
            errors.at(
                &function.signature.ident,
                format_args!(
                    "`{}` doesn't take `&self`, so it can't be called on an instance",
                    function.signature.ident
                ),
                format_args!("{}, or make it a free function", home.elsewhere),
            );
            false
        }
    }
}

fn on(method: &Function, stub: &Ident, errors: &mut Errors) {
    errors.at(
        &method.ident,
        format_args!("a method named `on` collides with `{stub}::on`, which takes the client of the calls"),
        "rename the method in Rust and keep its name for callers: `#[rpc(name = \"on\")]`",
    );
}

fn twins(methods: &[Function], method: &Function, errors: &mut Errors) {
    for name in method.names() {
        let twin = methods.iter().find(|other| other.names().any(|other| other.text == name.text));
        if let Some(twin) = twin {
            errors.at(
                &name.token,
                format_args!("the name `{}` is already taken by `{}`", name.text, twin.ident),
                "change one of the two names with `#[rpc(name = \"…\")]`",
            );
        }
    }
}
