//! Arguments between Rust tuples and the wire: by position, by name, or both.

mod arities;
mod builder;
mod decode;
mod encode;
mod encoded;
mod unknown;

pub use self::builder::Args;
pub(crate) use self::decode::MissingArgument;
pub(crate) use self::decode::{ArgumentSource, CallInput, decode, is_optional};
pub(crate) use self::encode::encode_dynamic;
pub(crate) use self::encoded::EncodedArguments;
pub(crate) use self::unknown::told as unknown_argument;
pub use self::{decode::FromArguments, encode::ToArguments};

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

/// What can be an argument of an `#[rpc]` function: anything that serde can write and read, owned and `Send`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of an `#[rpc]` function",
    label = "an argument crosses the wire, so it must implement `serde::Serialize` and `serde::Deserialize`",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to it, or to the types it is made of; arguments are also `Send + 'static`"
)]
pub trait Argument: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Argument for T {}

/// What an `#[rpc]` function can return, and what its `Result` can hold on either side: anything that serde can write
/// and read, owned and `Send`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be returned by an `#[rpc]` function",
    label = "a result crosses the wire, so it must implement `serde::Serialize` and `serde::Deserialize`",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to it, or to the types it is made of; results are also `Send + 'static`",
    note = "for an error of another crate return a `Result<_, byname::Internal>`, which takes any by `?`, or turn it into one of yours with `map_err`"
)]
pub trait Returns: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Returns for T {}
