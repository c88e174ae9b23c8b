//! What the expansion of `#[rpc]` and `server!` refers to. Nothing here is for users.

pub use inventory;

pub use crate::arguments::{FromArguments, ToArguments};
pub use crate::client::{call, call_borrowed};
pub use crate::method::{Handler, Method, MethodSpec, ParamSpec};

use std::marker::PhantomData;

use crate::arguments::{self, Argument};
use crate::codec;
use crate::context::Context;
use crate::error::{Code, Error, MethodError};

/// A function of a package, as `server!` finds it.
#[derive(Debug)]
pub struct Registration {
    /// Makes its handler.
    pub handler: fn() -> Handler,
    /// What is known of it.
    pub spec: &'static MethodSpec,
}

inventory::collect!(Registration);

/// The stub type of a function or of a declaration.
pub trait Declared {
    /// What is known of it.
    fn method() -> &'static Method;
}

/// Whether an argument of this type may be left out.
pub fn optional<T: Argument>() -> bool {
    arguments::is_optional::<T>()
}

/// The default of an argument as JSON.
pub fn default_json<T: Argument>(value: &T) -> Result<String, Error> {
    let mut out = Vec::new();
    codec::encode(value, &mut out).map_err(|why| Error::new(Code::Internal, why))?;
    String::from_utf8(out).map_err(|why| Error::new(Code::Internal, why.to_string()))
}

/// Runs a blocking function on a thread that may be blocked, as part of the same call. A panic goes on in the caller.
pub fn blocking<F, T>(function: F) -> impl Future<Output = T> + Send
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    async move {
        let context = Context::current();
        let run = move || match context {
            Some(context) => context.enter(function),
            None => function(),
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(value) => value,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(failed) => panic!("a blocking function was not run: {failed}"),
            },
        }
    }
}

/// The two sides of a `Result`, whatever alias it is written with.
pub trait Returned {
    /// Of a success.
    type Ok;
    /// Of a failure.
    type Err;
}

impl<T, E> Returned for Result<T, E> {
    type Ok = T;
    type Err = E;
}

/// `IsResult::<T>::VALUE` is true for a `Result`: the inherent constant goes before the trait's.
#[derive(Debug)]
pub struct IsResult<T>(PhantomData<T>);

impl<T, E> IsResult<Result<T, E>> {
    /// It is one.
    pub const VALUE: bool = true;
}

/// See [`IsResult`].
pub trait NotResult {
    /// It is none.
    const VALUE: bool = false;
}

impl<T> NotResult for IsResult<T> {}

/// The code of a function's own error, by autoref: the first trait where there is a [`MethodError`], else the second.
#[derive(Debug)]
pub struct CodeOf<'a, E>(pub &'a E);

/// See [`CodeOf`].
pub trait CodeOfMethodError {
    /// What the error says.
    fn code(&self) -> Code;
}

impl<E: MethodError> CodeOfMethodError for CodeOf<'_, E> {
    fn code(&self) -> Code {
        self.0.code()
    }
}

/// See [`CodeOf`].
pub trait CodeOfAny {
    /// `unknown`.
    fn code(&self) -> Code;
}

impl<E> CodeOfAny for &CodeOf<'_, E> {
    fn code(&self) -> Code {
        Code::Unknown
    }
}
