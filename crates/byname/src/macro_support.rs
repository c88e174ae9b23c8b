//! What the expansion of `#[rpc]` and `server!` refers to. Nothing here is for users.

pub use std::string::String;

pub use inventory;

pub use crate::arguments::{FromArguments, ToArguments};
pub use crate::handler::{BlockRegistration, Handler, Registration, Yields};
#[cfg(feature = "schema")]
pub use crate::lock_file::assert_compatible;
pub use crate::method::{EncodedDefault, Method, MethodSpec, ParamSpec, SchemaFn, StubMethods};
pub use crate::priority::Priority;

use std::any::TypeId;
use std::future::Pending;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use byname_schema::{TimeBudget, TypeSchema};
pub use futures_core::Stream;
use serde_core::Serialize;
#[cfg(feature = "schema")]
use serde_core::de::DeserializeOwned;

use crate::arguments::{self, Argument, Returns};
use crate::client::{self, Call, Client, Remote, StreamCall};
use crate::codec::{self, Codec};
use crate::context::Context;
use crate::error::{CallError, Code, Error, Internal, MethodError, MethodErrorSummary};
use crate::handler::NoError;
use crate::runtime;
pub use crate::stream_argument::ArgumentsWithStream;
use crate::stream_argument::Streaming;

/// The stub type of a function or of a declaration.
pub trait Declared {
    /// What is known of it.
    fn method() -> &'static Method;
}

/// A stub, or the stubs of a block or a contract, which [`Client::check`](crate::Client::check) compares with a service.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no stub",
    label = "expected the name of an `#[rpc]` function, or the client of a block or a contract, such as `UsersClient`"
)]
pub trait Stubs {
    /// What is known of each function.
    fn methods() -> Vec<&'static Method>;
}

impl<F: Declared> Stubs for F {
    fn methods() -> Vec<&'static Method> {
        vec![F::method()]
    }
}

/// What a function without a body is called on in this process: nothing has [`HasBody`] here.
#[derive(Debug)]
pub struct Declaration<'body>(PhantomData<&'body ()>);

/// Never implemented.
#[diagnostic::on_unimplemented(
    message = "`{F}` has no body here: it is declared for callers of another service",
    label = "call it where it is served: `{F}::on(&client, …)`"
)]
pub trait HasBody<F> {}

/// Whether a function stands in the crate of this name.
pub fn is_in_crate(spec: &MethodSpec, name: &str) -> bool {
    spec.module.split("::").next() == Some(name)
}

/// Whether an argument of this type may be left out.
pub fn optional<T: Argument>() -> bool {
    arguments::is_optional::<T>()
}

/// A type, to be described if it can be read and written and the feature `schema` is on. What the type must be to cross the wire is checked elsewhere.
#[derive(Debug)]
pub struct DescribedType<T>(PhantomData<T>);

impl<T> DescribedType<T> {
    /// Nothing of the type is here.
    #[allow(clippy::new_without_default, reason = "it is written by the attribute only")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// The method of types that declare something of themselves by schemars. It is found before that of [`DescribeReadable`], which takes one
/// reference less.
pub trait DescribeDeclared {
    /// The schema of the type.
    fn describe(&self, budget: &TimeBudget) -> TypeSchema;
}

#[cfg(feature = "schemars")]
impl<T: Serialize + DeserializeOwned + schemars::JsonSchema> DescribeDeclared for &&DescribedType<T> {
    fn describe(&self, budget: &TimeBudget) -> TypeSchema {
        byname_schema::describe_declared_within::<T>(budget)
    }
}

/// The method of types that can be read and written. It is found before that of [`DescribeOpaque`], which takes one reference less.
pub trait DescribeReadable {
    /// The schema of the type.
    fn describe(&self, budget: &TimeBudget) -> TypeSchema;
}

#[cfg(feature = "schema")]
impl<T: Serialize + DeserializeOwned> DescribeReadable for &DescribedType<T> {
    fn describe(&self, budget: &TimeBudget) -> TypeSchema {
        byname_schema::describe_both_within::<T>(budget)
    }
}

/// The method of all other types.
pub trait DescribeOpaque {
    /// Any value.
    fn describe(&self, budget: &TimeBudget) -> TypeSchema;
}

impl<T> DescribeOpaque for DescribedType<T> {
    fn describe(&self, _: &TimeBudget) -> TypeSchema {
        TypeSchema::unknown()
    }
}

/// Whether a function's error is a type of its own, whose value goes to the caller, and not one of the library.
pub fn is_own_error<E>() -> bool {
    ![TypeId::of::<Error>(), TypeId::of::<Internal>()].contains(&byname_schema::type_id::<E>())
}

/// Refuses a result that can't cross the wire.
pub const fn returned<T: Returns>() {}

/// Refuses the items of a stream that can't cross the wire.
pub const fn streamed<T: Argument>() {}

/// The stream of a call, which decoding has put there.
pub fn stream<T>(stream: Option<Streaming<T>>) -> Streaming<T> {
    stream.unwrap_or_else(|| unreachable!("a call without its stream is refused"))
}

/// Refuses an instance that calls can't share. A contract asks the same of what implements it, in words of its own.
pub const fn shared<T: Send + Sync + 'static>() {}

/// What the error of a contract's method must be: the trait has no other place for a call that failed.
#[diagnostic::on_unimplemented(
    message = "a call that failed can't become a `{Self}`",
    label = "the error of a contract's method must implement `From<byname::Error>`",
    note = "add a variant for it, such as `Rpc(byname::Error)`, and \
            `impl From<byname::Error> for {Self} {{ fn from(error: byname::Error) -> Self {{ Self::Rpc(error) }} }}`"
)]
pub trait FromError: From<Error> {}

#[diagnostic::do_not_recommend]
impl<E: From<Error>> FromError for E {}

/// Refuses an error that a call which failed can't become.
pub const fn converts<E: FromError>() {}

/// The default of an argument. It has the declared type, which may be borrowed.
pub fn encode_default<T: Serialize + ?Sized>(value: &T) -> Result<EncodedDefault, Error> {
    let encode = |codec| {
        let mut out = Vec::new();
        codec::encode(codec, value, &mut out).map_err(|why| Error::new(Code::Internal, why))?;
        Ok::<_, Error>(out)
    };
    let json = String::from_utf8(encode(Codec::Json)?).map_err(|why| Error::new(Code::Internal, why.to_string()))?;
    Ok(EncodedDefault { json, message_pack: encode(Codec::MessagePack)? })
}

/// Runs a blocking function on a thread that may be blocked, as part of the same call. A panic goes on in the caller.
#[expect(clippy::manual_async_fn, reason = "the future must be `Send` whatever is in it, and say so here")]
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
        match runtime::run_blocking(run).await {
            Ok(value) => value,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(failed) => panic!("a blocking function was not run: {failed}"),
            },
        }
    }
}

/// What the server holds of an argument that the function borrows.
pub trait Borrowed {
    /// It is borrowed from this.
    type Owned;
}

impl<T> Borrowed for T {
    type Owned = T;
}

impl<T> Borrowed for [T] {
    type Owned = Vec<T>;
}

impl Borrowed for str {
    type Owned = String;
}

impl Borrowed for std::path::Path {
    type Owned = std::path::PathBuf;
}

impl Borrowed for std::ffi::OsStr {
    type Owned = std::ffi::OsString;
}

impl Borrowed for std::ffi::CStr {
    type Owned = std::ffi::CString;
}

/// An argument that the function borrows inside an `Option`.
pub fn borrowed<O: std::borrow::Borrow<T>, T: ?Sized>(owned: &Option<O>) -> Option<&T> {
    owned.as_ref().map(O::borrow)
}

/// The two sides of a `Result`, whatever alias it is written with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Result` but is not the standard `Result`",
    label = "expected a type that is a `Result<T, E>`, perhaps by an alias",
    note = "give your type another name: by that one, callers expect an error that may come instead of the value"
)]
pub trait ReturnValue {
    /// Of a success.
    type Ok;
    /// Of a failure.
    type Err;
}

impl<T, E> ReturnValue for Result<T, E> {
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

/// What a function's own error says of itself, by autoref: the first trait where there is a [`MethodError`], else the
/// second.
#[derive(Debug)]
pub struct OwnError<'a, E>(pub &'a E);

/// See [`OwnError`].
pub trait SummaryOfMethodError {
    /// What the error says.
    fn summary(&self) -> MethodErrorSummary;
}

impl<E: MethodError> SummaryOfMethodError for OwnError<'_, E> {
    fn summary(&self) -> MethodErrorSummary {
        MethodErrorSummary { code: self.0.code(), message: self.0.message() }
    }
}

/// See [`OwnError`].
pub trait SummaryOfAny {
    /// Nothing.
    fn summary(&self) -> MethodErrorSummary;
}

impl<E> SummaryOfAny for &OwnError<'_, E> {
    fn summary(&self) -> MethodErrorSummary {
        MethodErrorSummary::of_any(self.0)
    }
}

/// What `#[derive(MethodError)]` takes as the message of an error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `Display`, which `MethodError` takes as its message",
    label = "expected a type that implements `std::fmt::Display`",
    note = "implement `Display`, by hand or by `#[derive(thiserror::Error)]`, or write `#[method_error(message = false)]`: \
            callers then read the beginning of the value"
)]
pub trait MessageOfDisplay {
    /// Its text.
    fn message(&self) -> String;
}

#[diagnostic::do_not_recommend]
impl<E: std::fmt::Display> MessageOfDisplay for E {
    fn message(&self) -> String {
        self.to_string()
    }
}

/// Makes a call, by autoref: to [`CallsFit`] where arguments and result can cross the wire, else to [`CallsUnfit`].
///
/// What can't cross is refused where the types stand, by [`optional`] and [`returned`], which nothing else repeats: a
/// missing `Serialize` is one error and not one in each piece of glue. Programs with such an error never run.
#[derive(Debug)]
pub struct CallMaker<A, R>(PhantomData<(A, R)>);

impl<A, R> CallMaker<A, R> {
    /// Of these types.
    #[allow(clippy::new_without_default, reason = "the expansion calls it, nobody else does")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// See [`CallMaker`].
pub trait CallsFit<A, R> {
    /// With arguments that are all owned.
    fn call(&self, client: &Client, method: &'static Method, args: A) -> Call<A, R>
    where
        A: 'static;
    /// With borrowed ones among them.
    fn call_borrowed(&self, client: &Client, method: &'static Method, args: A) -> Call<A, R>;
}

impl<A: ToArguments, R: Remote> CallsFit<A, R> for CallMaker<A, R> {
    fn call(&self, client: &Client, method: &'static Method, args: A) -> Call<A, R>
    where
        A: 'static,
    {
        client::call(client, method, args)
    }

    fn call_borrowed(&self, client: &Client, method: &'static Method, args: A) -> Call<A, R> {
        client::call_borrowed(client, method, args)
    }
}

/// See [`CallMaker`].
pub trait CallsUnfit<A, R> {
    /// Never called.
    fn call(&self, _: &Client, _: &'static Method, _: A) -> Call<A, R> {
        unreachable!("the compiler refuses these types")
    }
    /// Never called.
    fn call_borrowed(&self, _: &Client, _: &'static Method, _: A) -> Call<A, R> {
        unreachable!("the compiler refuses these types")
    }
}

impl<A, R> CallsUnfit<A, R> for &CallMaker<A, R> {}

/// Makes a handler, by autoref as [`CallMaker`] does, for a method of `I` or, where that is `()`, for a function. `E` is its
/// own error, `()` for none.
#[derive(Debug)]
pub struct HandlerMaker<I, A, T, E>(PhantomData<(I, A, T, E)>);

impl<I, A, T, E> HandlerMaker<I, A, T, E> {
    /// Of these types.
    #[allow(clippy::new_without_default, reason = "the expansion calls it, nobody else does")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// See [`HandlerMaker`].
pub trait ServesFit<A, T, E> {
    /// For a function that returns no `Result`.
    fn plain<F, Fut>(&self, method: &'static Method, function: F) -> Handler
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static;
    /// For a function that returns a `Result`.
    fn fallible<F, Fut>(&self, method: &'static Method, summary: fn(&E) -> MethodErrorSummary, function: F) -> Handler
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static;
    /// For a function that returns a stream, made by [`yields`](Self::yields).
    fn stream<F, Fut>(&self, method: &'static Method, function: F) -> Handler
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static;
    /// For a function that returns a stream of results, made by [`yields_fallible`](Self::yields_fallible).
    fn stream_fallible<F, Fut>(&self, method: &'static Method, function: F) -> Handler
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static;
    /// Runs a stream of values to its end.
    fn yields<S: Stream<Item = T>>(&self, stream: S) -> Yields<S, E>;
    /// Runs a stream of results to its end or its first error.
    fn yields_fallible<S: Stream<Item = Result<T, E>>>(
        &self,
        summary: fn(&E) -> MethodErrorSummary,
        stream: S,
    ) -> Yields<S, E>;
}

impl<I: Send + Sync, A: FromArguments, T: Returns, E: Returns> ServesFit<A, T, E> for HandlerMaker<I, A, T, E> {
    fn plain<F, Fut>(&self, method: &'static Method, function: F) -> Handler
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        Handler::plain(method, function)
    }

    fn fallible<F, Fut>(&self, method: &'static Method, summary: fn(&E) -> MethodErrorSummary, function: F) -> Handler
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        Handler::fallible(method, summary, function)
    }

    fn stream<F, Fut>(&self, method: &'static Method, function: F) -> Handler
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Handler::stream::<A, F, Fut, T, NoError>(method, function)
    }

    fn stream_fallible<F, Fut>(&self, method: &'static Method, function: F) -> Handler
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Handler::stream::<A, F, Fut, T, E>(method, function)
    }

    fn yields<S: Stream<Item = T>>(&self, stream: S) -> Yields<S, E> {
        Yields::plain(stream)
    }

    fn yields_fallible<S: Stream<Item = Result<T, E>>>(
        &self,
        summary: fn(&E) -> MethodErrorSummary,
        stream: S,
    ) -> Yields<S, E> {
        Yields::fallible(stream, summary)
    }
}

/// See [`HandlerMaker`].
pub trait ServesUnfit<A, T, E> {
    /// Never called.
    fn plain<F: Fn(A) -> Fut, Fut>(&self, _: &'static Method, _: F) -> Handler {
        unreachable!("the compiler refuses these types")
    }
    /// Never called.
    fn fallible<F: Fn(A) -> Fut, Fut>(&self, _: &'static Method, _: fn(&E) -> MethodErrorSummary, _: F) -> Handler {
        unreachable!("the compiler refuses these types")
    }
    /// Never called.
    fn stream<F: Fn(A) -> Fut, Fut>(&self, _: &'static Method, _: F) -> Handler {
        unreachable!("the compiler refuses these types")
    }
    /// Never called.
    fn stream_fallible<F: Fn(A) -> Fut, Fut>(&self, _: &'static Method, _: F) -> Handler {
        unreachable!("the compiler refuses these types")
    }
    /// Never called.
    fn yields<S>(&self, _: S) -> Pending<()> {
        unreachable!("the compiler refuses these types")
    }
    /// Never called.
    fn yields_fallible<S>(&self, _: fn(&E) -> MethodErrorSummary, _: S) -> Pending<()> {
        unreachable!("the compiler refuses these types")
    }
}

impl<I, A, T, E> ServesUnfit<A, T, E> for &HandlerMaker<I, A, T, E> {}

/// Makes one error of the two of a contract's call, by autoref: by [`ConvertsFit`] where that can be, else by
/// [`ConvertsUnfit`].
#[derive(Debug)]
pub struct ErrorConverter<A, T, E>(pub Call<A, Result<T, CallError<E>>>);

/// See [`ErrorConverter`].
pub trait ConvertsFit<T, E> {
    /// The call, with the error that the trait has.
    fn convert(self) -> impl Future<Output = Result<T, E>> + Send;
}

impl<A: Send, T: Send, E: From<Error> + Send> ConvertsFit<T, E> for ErrorConverter<A, T, E> {
    async fn convert(self) -> Result<T, E> {
        self.0.await.map_err(|error| match error {
            CallError::Method(error) => error,
            CallError::Rpc(error) => E::from(error),
        })
    }
}

/// See [`ErrorConverter`].
pub trait ConvertsUnfit<T, E> {
    /// Never called.
    fn convert(&self) -> Pending<Result<T, E>> {
        unreachable!("the compiler refuses these types")
    }
}

impl<A, T, E> ConvertsUnfit<T, E> for ErrorConverter<A, T, E> {}

/// Makes one error of the two of the items of a contract's stream, as [`ErrorConverter`] does.
#[derive(Debug)]
pub struct StreamErrorConverter<A, T, E>(pub StreamCall<A, Result<T, CallError<E>>>);

/// See [`StreamErrorConverter`].
pub trait ConvertsStreamFit<T, E> {
    /// The stream, with the error that the trait has.
    fn convert(self) -> impl Stream<Item = Result<T, E>> + Send;
}

impl<A: Send, T: Send, E: From<Error> + Send> ConvertsStreamFit<T, E> for StreamErrorConverter<A, T, E>
where
    Result<T, CallError<E>>: Remote,
{
    fn convert(self) -> impl Stream<Item = Result<T, E>> + Send {
        self
    }
}

impl<A: Send, T, E: From<Error>> Stream for StreamErrorConverter<A, T, E>
where
    Result<T, CallError<E>>: Remote,
{
    type Item = Result<T, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map(|item| {
            item.map(|item| {
                item.map_err(|error| match error {
                    CallError::Method(error) => error,
                    CallError::Rpc(error) => E::from(error),
                })
            })
        })
    }
}

/// See [`StreamErrorConverter`].
pub trait ConvertsStreamUnfit<T, E> {
    /// Never called.
    fn convert(&self) -> NoStream<Result<T, E>> {
        unreachable!("the compiler refuses these types")
    }
}

impl<A, T, E> ConvertsStreamUnfit<T, E> for StreamErrorConverter<A, T, E> {}

/// Stands in for a stream where there is an error.
#[derive(Debug)]
pub struct NoStream<T>(PhantomData<fn() -> T>);

/// See [`NoStream`].
pub fn no_stream<T>() -> NoStream<T> {
    NoStream(PhantomData)
}

impl<T> Stream for NoStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Option<T>> {
        Poll::Ready(None)
    }
}

/// Found in place of a contract's own method where `#[rpc]` is on the `impl` of another trait.
pub trait NoContract {
    /// Never called.
    fn __byname_handlers(&self) -> Vec<Handler>
    where
        Self: OfContract,
    {
        unreachable!("the compiler refuses this trait")
    }
}

impl<T> NoContract for Arc<T> {}

/// As [`NoContract`], which makes the error.
pub trait NoContractMethods {
    /// None.
    fn __byname_methods() -> &'static [&'static MethodSpec] {
        &[]
    }
}

impl<T> NoContractMethods for T {}

/// What [`Fake::of`](crate::Fake::of) makes of a type that implements a contract: `UsersContract::get(…)` makes the fakes.
#[derive(Debug, Default)]
pub struct FakesAreMadeByTheTypeBesideTheTrait;

/// Implemented by nothing: its message is what matters.
#[diagnostic::on_unimplemented(
    message = "this trait is not a contract",
    label = "expected a trait that has `#[rpc]`",
    note = "write `#[rpc]` above the trait, or remove it from this `impl` block"
)]
pub trait OfContract {}
