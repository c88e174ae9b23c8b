//! Call a function in another service by its name.

// The attribute's expansion refers to `::byname`; inside this crate that is this crate.
extern crate self as byname;

#[doc(hidden)]
#[path = "export.rs"]
pub mod __private;
mod arguments;
mod call;
mod client;
mod codec;
mod context;
mod dispatch;
mod error;
mod limits;
mod local;
mod method;
mod name;
mod registry;
mod runtime;
mod server;
mod timer;
mod wire;

use std::sync::Arc;

pub use arguments::{Args, Argument, Returns};
pub use byname_macros::rpc;
pub use client::{Call, Client, ClientBuilder, Remote, WithMetadata};
pub use context::Context;
pub use error::{CallError, Code, Error, Executed, Kind, MethodError};
pub use http::HeaderMap;
pub use limits::Limits;
pub use method::{Callable, Handler, Method, Param, Source};
pub use server::{Bound, Listen, Serve, Server};

/// An `#[rpc]` function, as [`Server::method`] takes it. The attribute implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `#[rpc]` function that can be served",
    label = "expected the name of a function that bears `#[rpc]` and has a body",
    note = "a declaration without a body is for callers only; closures and other functions go to `Server::function`"
)]
pub trait Function {
    #[doc(hidden)]
    fn handler() -> Handler;
}

/// A type whose `impl` block bears `#[rpc]`, as [`Server::inject`] takes it. The attribute implements it.
#[diagnostic::on_unimplemented(
    message = "the methods of `{Self}` can't be served",
    label = "expected a type whose `impl` block bears `#[rpc]`",
    note = "write `#[rpc]` above `impl {Self} {{ … }}`"
)]
pub trait Instance: Sized + Send + Sync + 'static {
    #[doc(hidden)]
    fn bind(this: Arc<Self>) -> Vec<Handler>;
}

/// A [`Server`] with every `#[rpc]` function of this package, or of the crates that it names: `server!(math, admin)`.
///
/// Naming a crate links it; nothing else that happens to be linked is ever served. A package without an `#[rpc]`
/// function is an error when the server starts. Methods are not included: inject their instance.
///
/// ```
/// use byname::{rpc, Client};
///
/// #[rpc]
/// async fn add(a: i64, b: i64) -> i64 { a + b }
///
/// let data = Client::local(&byname::server!())?;
/// # Ok::<(), byname::Error>(())
/// ```
#[macro_export]
macro_rules! server {
    () => {
        $crate::Server::new().registered(
            ::core::concat!("package `", ::core::env!("CARGO_PKG_NAME"), "`"),
            |spec| spec.package == ::core::env!("CARGO_PKG_NAME"),
        )
    };
    ($($name:ident),+ $(,)?) => {{
        $(use $name as _;)+
        $crate::Server::new()$(.registered(
            ::core::concat!("crate `", ::core::stringify!($name), "`"),
            |spec| spec.module.split("::").next() == ::core::option::Option::Some(::core::stringify!($name)),
        ))+
    }};
}
