//! The behaviour of a function: from encoded arguments to an encoded reply. Types are erased only here.

mod streaming_function;

use std::any::TypeId;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use byname_schema::{TimeBudget, TypeSchema};
use serde_core::Serialize;

pub(crate) use self::streaming_function::YieldedItems;
pub use self::streaming_function::Yields;
use crate::arguments::{self, Argument, FromArguments};
use crate::codec::encoded_parts::{self, LeftOut};
use crate::codec::{self, Codec, EncodedParts, ResultShape};
use crate::error::{Code, Error, Executed, Internal, MethodErrorSummary};
use crate::method::{Method, MethodSpec, Param, SchemaFn, Source};
use crate::outcome::{OwnMessage, ReturnedValue};
use crate::priority::Priority;

/// A function that can be called, with its description. `#[rpc]` makes handlers.
#[derive(Clone)]
pub struct Handler {
    pub(crate) method: Arc<Method>,
    begin: BeginFn,
    types: TypeIds,
    takes_bytes: bool,
}

type BeginFn = Arc<dyn Fn(&Method, arguments::CallInput<'_>) -> Result<Pin<Box<dyn Invocation>>, Error> + Send + Sync>;

/// A function that runs.
pub(crate) trait Invocation: Send {
    /// Polls the function. When it is done, its result is in `out`.
    fn poll_into(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ResultTarget) -> Poll<FunctionResult>;
}

/// Where a result is written.
pub(crate) enum ResultTarget {
    /// It is encoded and appended to these bytes.
    Encoded(Codec, Vec<u8>),
    /// The value itself, for a caller in the same process.
    Local(Option<Box<dyn std::any::Any + Send>>),
    /// The items of a stream, which are read while the function makes them. It is `None` only during a poll of the
    /// function.
    Stream(Option<Box<YieldedItems>>),
}

impl ResultTarget {
    /// The value, from which these bytes were left out.
    pub(crate) fn into_value_with(self, left_out: LeftOut) -> ReturnedValue {
        match self {
            ResultTarget::Encoded(codec, bytes) => ReturnedValue::Parts(codec, EncodedParts::new(bytes, left_out)),
            other => other.into_value(),
        }
    }

    pub(crate) fn into_value(self) -> ReturnedValue {
        match self {
            ResultTarget::Encoded(codec, bytes) => ReturnedValue::Encoded(codec, bytes.into()),
            ResultTarget::Local(value) => ReturnedValue::Local(value.unwrap_or_else(|| Box::new(()))),
            ResultTarget::Stream(_) => ReturnedValue::Local(Box::new(())),
        }
    }
}

/// The state of a function after a poll. The value is in [`ResultTarget`].
pub(crate) enum FunctionResult {
    /// A value, or the end of a stream.
    Ok,
    /// A value whose large bytes are left out of the output.
    OkWithout(LeftOut),
    /// More items. The function continues.
    Items,
    /// The function's own error.
    Method(Code, OwnMessage),
    /// An error of byname. Nothing is in the output.
    Rpc(Error),
    /// The result can't be encoded, with the reason.
    Unencodable(String),
}

/// The types of the arguments, of the result and of the function's own error. If a caller in the same process has the same
/// types, values need no encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeIds {
    args: TypeId,
    ok: TypeId,
    err: TypeId,
}

impl TypeIds {
    pub(crate) fn of<A: 'static, T: 'static, E: 'static>() -> Self {
        Self { args: TypeId::of::<A>(), ok: TypeId::of::<T>(), err: TypeId::of::<E>() }
    }
}

/// The error type of a function that has no error.
pub(crate) enum NoError {}

impl Handler {
    /// A function that does not return a `Result`.
    #[doc(hidden)]
    pub fn plain<A, F, Fut, T>(method: &'static Method, function: F) -> Self
    where
        A: FromArguments,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        Self::whole(method.clone(), function)
    }

    /// A function that returns a `Result`. `summary` gives the code and message for its own errors.
    #[doc(hidden)]
    pub fn fallible<A, F, Fut, T, E>(
        method: &'static Method,
        summary: fn(&E) -> MethodErrorSummary,
        function: F,
    ) -> Self
    where
        A: FromArguments,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + Send + 'static,
        E: Serialize + Send + 'static,
    {
        let begin = move |method: &Method, call: arguments::CallInput<'_>| {
            let future = function(arguments::decode::<A>(method, call)?);
            Ok(Box::pin(Fallible { future, summary }) as Pin<Box<dyn Invocation>>)
        };
        Self {
            method: Arc::new(method.clone()),
            begin: Arc::new(begin),
            types: TypeIds::of::<A, T, E>(),
            takes_bytes: A::are_bytes(),
        }
    }

    /// A function that returns a stream, as a future that yields its items.
    #[doc(hidden)]
    pub fn stream<A, F, Fut, T, E>(method: &'static Method, function: F) -> Self
    where
        A: FromArguments,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
        T: 'static,
        E: 'static,
    {
        let begin = move |method: &Method, call: arguments::CallInput<'_>| {
            let future = function(arguments::decode::<A>(method, call)?);
            Ok(Box::pin(streaming_function::Streams { future, has_ended: false }) as Pin<Box<dyn Invocation>>)
        };
        Self {
            method: Arc::new(method.clone()),
            begin: Arc::new(begin),
            types: TypeIds::of::<A, T, E>(),
            takes_bytes: A::are_bytes(),
        }
    }

    /// Any callable at run time.
    pub(crate) fn function<A, F>(name: FunctionNames, source: Source, function: F) -> Self
    where
        A: FromArguments,
        F: Callable<A>,
    {
        let FunctionNames { name, arguments } = name;
        let argument = |at: usize| match &arguments {
            Some(names) => names[at].clone(),
            None => format!("arg{at}"),
        };
        let params = F::param_types().into_iter().enumerate();
        let method = Method {
            name: name.into(),
            aliases: Vec::new(),
            doc: "".into(),
            params: params
                .map(|(at, CallableParam { ty, optional, schema })| Param {
                    name: argument(at).into(),
                    ty: ty.into(),
                    optional,
                    default: None,
                    default_packed: None,
                    schema,
                })
                .collect(),
            returns: std::any::type_name::<F::Output>().into(),
            takes: None,
            streams: false,
            fallible: false,
            idempotent: false,
            readonly: false,
            keyed: false,
            hedge: false,
            blocking: false,
            timeout: None,
            priority: Priority::Normal,
            in_flight: None,
            max_age: None,
            public: false,
            hidden: false,
            deprecated: None,
            returns_schema: None,
            error_schema: None,
            traced: Arc::default(),
            source,
        };
        // A closure may do some of its work before it returns its future. That work is part of the call.
        let function = Arc::new(function);
        Self::whole(method, move |args| {
            let function = Arc::clone(&function);
            async move { function.call(args).await }
        })
    }

    fn whole<A, F, Fut, T>(method: Method, function: F) -> Self
    where
        A: FromArguments,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let begin = move |method: &Method, call: arguments::CallInput<'_>| {
            let future = function(arguments::decode::<A>(method, call)?);
            Ok(Box::pin(Plain { future }) as Pin<Box<dyn Invocation>>)
        };
        Self {
            method: Arc::new(method),
            begin: Arc::new(begin),
            types: TypeIds::of::<A, T, NoError>(),
            takes_bytes: A::are_bytes(),
        }
    }

    /// Decodes the arguments and makes the invocation, which starts at its first poll.
    pub(crate) fn begin(&self, call: arguments::CallInput<'_>) -> Result<Pin<Box<dyn Invocation>>, Error> {
        (self.begin)(&self.method, call)
    }

    /// Whether a caller in the same process can pass values of these types without encoding.
    pub(crate) fn takes(&self, types: TypeIds) -> bool {
        self.types == types
    }

    /// Whether its only argument is [`Bytes`](crate::Bytes), or a stream of them.
    pub(crate) fn takes_bytes(&self) -> bool {
        self.takes_bytes
    }

    /// Whether it returns [`Bytes`](crate::Bytes), or a stream of them.
    pub(crate) fn returns_bytes(&self) -> bool {
        self.types.ok == TypeId::of::<codec::Bytes>()
    }

    pub(crate) fn prefixed(&self, prefix: &str) -> Self {
        Self { method: Arc::new(Method::clone(&self.method).prefixed(prefix)), ..self.clone() }
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handler").field(&self.method.signature()).finish()
    }
}

/// An `#[rpc]` function, for [`Server::method`](crate::Server::method). The attribute implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `#[rpc]` function that can be served",
    label = "expected the name of a function that has `#[rpc]` and a body",
    note = "a declaration without a body is for callers only; closures and other functions go to `Server::function`"
)]
pub trait Function {
    #[doc(hidden)]
    fn handler() -> Handler;
}

/// A type with an `impl` block that has `#[rpc]`: its own, or that of one contract. The attribute implements it, so a
/// type has one such block. [`Server::contract`](crate::Server::contract) serves other contracts of the type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `impl` block with `#[rpc]`",
    label = "expected a type whose `impl` block has `#[rpc]`",
    note = "write `#[rpc]` above the `impl` block that has the methods"
)]
pub trait Instance: Sized + 'static {
    /// The type that [`Fake::of`] makes.
    #[doc(hidden)]
    type Fakes: Default;

    #[doc(hidden)]
    fn bind(this: Arc<Self>) -> Vec<Handler>;
}

/// The argument of [`Server::inject`](crate::Server::inject): an [`Instance`], or an [`Arc`] of one.
#[diagnostic::on_unimplemented(
    message = "the methods of `{Self}` can't be served",
    label = "expected an instance of a type whose `impl` block has `#[rpc]`, or an `Arc` of one",
    note = "write `#[rpc]` above the `impl` block that has the methods"
)]
pub trait Inject {
    #[doc(hidden)]
    fn handlers(self) -> Vec<Handler>;
}

#[diagnostic::do_not_recommend]
impl<T: Instance> Inject for T {
    fn handlers(self) -> Vec<Handler> {
        T::bind(Arc::new(self))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Instance> Inject for Arc<T> {
    fn handlers(self) -> Vec<Handler> {
        T::bind(self)
    }
}

/// The type that belongs to an `#[rpc]` trait (`UsersContract` for `Users`). With it,
/// [`Server::contract`](crate::Server::contract) serves a `T` that implements the trait, or an [`Arc`] of one. The
/// attribute implements it.
#[diagnostic::on_unimplemented(
    message = "`{T}` can't be served by `{Self}`",
    label = "expected the type beside an `#[rpc]` trait, and an instance that implements the trait, or an `Arc` of one",
    note = "`.contract::<UsersContract, _>(db)` serves a `db` whose type has an `impl Users`"
)]
pub trait Contract<T> {
    #[doc(hidden)]
    fn handlers(instance: T) -> Vec<Handler>;

    #[doc(hidden)]
    fn methods() -> &'static [&'static MethodSpec];
}

/// A function that replaces an `#[rpc]` function in a test. Pass it to [`Server::inject`](crate::Server::inject). It is
/// made from a closure with the types of the function:
///
/// | function | fake |
/// | --- | --- |
/// | a function, a declaration | `add::fake(\|a, b\| async move { … })` |
/// | a method of an `impl` block | `Fake::of::<Counter>().bump(\|by\| async move { … })` |
/// | a method of a contract | `UsersContract::get(\|id\| async move { … })` |
///
/// ```
/// use byname::{Client, Server, rpc};
///
/// #[rpc]
/// async fn add(a: i64, b: i64) -> i64; // the service has the body
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), byname::Error> {
/// let fake = add::fake(|a, b| async move { a + b + 1000 });
/// let data = Client::local(&Server::new().inject(fake))?;
/// assert_eq!(add::on(&data, 1, 2).await?, 1003);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a fake answers nothing before `Server::inject`"]
pub struct Fake(Handler);

impl Fake {
    /// What makes fakes of the methods of a type whose `impl` block has `#[rpc]`: it has a method for each, of the same name
    /// and as visible, which takes a closure. Methods that are not faked are unimplemented. The fakes of a contract are made
    /// by the type beside the trait.
    ///
    /// ```
    /// use byname::{Client, Fake, Server, rpc};
    ///
    /// struct Counter;
    ///
    /// #[rpc(prefix = "counter")]
    /// impl Counter {
    ///     async fn bump(&self, by: i64) -> i64 { by }
    ///     async fn total(&self) -> i64 { 0 }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), byname::Error> {
    /// let fake = Fake::of::<Counter>().bump(|by| async move { by + 1000 });
    /// let data = Client::local(&Server::new().inject(fake))?;
    /// assert_eq!(Counter::on(&data).bump(5).await?, 1005);
    /// assert_eq!(Counter::on(&data).total().await.unwrap_err().code(), byname::Code::Unimplemented);
    /// # Ok(()) }
    /// ```
    pub fn of<T: Instance>() -> T::Fakes {
        T::Fakes::default()
    }

    #[doc(hidden)]
    pub fn new(handler: Handler) -> Self {
        Self(handler)
    }
}

#[diagnostic::do_not_recommend]
impl Inject for Fake {
    fn handlers(self) -> Vec<Handler> {
        vec![self.0]
    }
}

/// A function of a package, as found by `server!`.
#[derive(Debug)]
pub struct Registration {
    /// Makes its handler.
    pub handler: fn() -> Handler,
    /// Its description.
    pub spec: &'static MethodSpec,
    /// Its path in Rust, which begins with its crate.
    pub path: &'static str,
}

inventory::collect!(Registration);

/// A type whose `impl` block has `#[rpc]`, its own or that of a contract. Its methods can be served once there is an instance.
#[derive(Debug)]
pub struct BlockRegistration {
    /// Returns what is known of its methods.
    pub methods: fn() -> &'static [&'static MethodSpec],
    /// Returns the name of the type.
    pub ty: fn() -> &'static str,
    /// The file with the block.
    pub file: &'static str,
    /// The line of the block.
    pub line: u32,
}

inventory::collect!(BlockRegistration);

/// A closure or function of up to sixteen arguments that returns a future, for [`Server::function`](crate::Server::function).
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be served as a function",
    label = "expected an async function or a closure that returns a future, with up to 16 arguments",
    note = "arguments are owned: `String` for `&str`, `Vec<T>` for `&[T]`; an `#[rpc]` function may borrow them",
    note = "arguments implement `serde::Serialize` and `serde::Deserialize`, the result implements `serde::Serialize`, and \
            the future is `Send`",
    note = "write the types of a closure's arguments: `|a: i64, b: i64| async move {{ a + b }}`"
)]
pub trait Callable<A>: Send + Sync + 'static {
    /// Its result.
    type Output: Serialize + Send + 'static;

    #[doc(hidden)]
    type Future: Future<Output = Self::Output> + Send + 'static;

    #[doc(hidden)]
    fn call(&self, args: A) -> Self::Future;

    #[doc(hidden)]
    fn param_types() -> Vec<CallableParam>;
}

/// What is known of an argument of a [`Callable`].
#[derive(Debug)]
pub struct CallableParam {
    ty: &'static str,
    /// Whether it may be left out.
    optional: bool,
    schema: SchemaFn,
}

/// The name of a function for [`Server::function`](crate::Server::function), by itself or with the names of its arguments:
/// `"add"` or `("add", ["a", "b"])`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a function and its arguments",
    label = "expected a name, or a name and the names of all arguments",
    note = "write `\"add\"`, or `(\"add\", [\"a\", \"b\"])` for a function of two arguments"
)]
pub trait FunctionName<A> {
    #[doc(hidden)]
    fn names(self) -> FunctionNames;
}

/// The name, and the names of the arguments.
#[derive(Debug)]
pub struct FunctionNames {
    name: String,
    /// One for each argument of the function.
    arguments: Option<Vec<String>>,
}

macro_rules! function_names {
    ($($name:ty),*) => {$(
        #[diagnostic::do_not_recommend]
        impl<A> FunctionName<A> for $name {
            fn names(self) -> FunctionNames {
                self.into()
            }
        }

        impl From<$name> for FunctionNames {
            fn from(name: $name) -> Self {
                Self { name: name.into(), arguments: None }
            }
        }
    )*};
}
function_names!(&str, String, &String, Box<str>, std::borrow::Cow<'_, str>);

#[cfg(feature = "schema")]
fn describe<T: Argument>(budget: &TimeBudget) -> TypeSchema {
    byname_schema::describe_both_within::<T>(budget)
}

/// Nothing is made of the type, because that takes time to build.
#[cfg(not(feature = "schema"))]
#[allow(clippy::extra_unused_type_parameters, reason = "the feature uses it")]
fn describe<T>(_: &TimeBudget) -> TypeSchema {
    TypeSchema::unknown()
}

macro_rules! callables {
    ($(($($type:ident),*))*) => {$(
        #[diagnostic::do_not_recommend]
        impl<Func, Fut, $($type: Argument),*> Callable<($($type,)*)> for Func
        where
            Func: Fn($($type),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output: Serialize + Send + 'static> + Send + 'static,
        {
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case, reason = "the type's letter names the argument as well")]
            fn call(&self, ($($type,)*): ($($type,)*)) -> Fut {
                self($($type),*)
            }

            fn param_types() -> Vec<CallableParam> {
                vec![$(CallableParam {
                    ty: std::any::type_name::<$type>(),
                    optional: arguments::is_optional::<$type>(),
                    schema: describe::<$type>,
                }),*]
            }
        }

        #[diagnostic::do_not_recommend]
        impl<Name: Into<String>, Word: Into<String>, $($type),*> FunctionName<($($type,)*)>
            for (Name, [Word; <[&str]>::len(&[$(stringify!($type)),*])])
        {
            fn names(self) -> FunctionNames {
                let arguments = self.1.into_iter().map(Into::into).collect();
                FunctionNames { name: self.0.into(), arguments: Some(arguments) }
            }
        }
    )*};
}
callables! {
    () (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G)
    (A, B, C, D, E, F, G, H) (A, B, C, D, E, F, G, H, I) (A, B, C, D, E, F, G, H, I, J)
    (A, B, C, D, E, F, G, H, I, J, K) (A, B, C, D, E, F, G, H, I, J, K, L) (A, B, C, D, E, F, G, H, I, J, K, L, M)
    (A, B, C, D, E, F, G, H, I, J, K, L, M, N) (A, B, C, D, E, F, G, H, I, J, K, L, M, N, O)
    (A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P)
}

pin_project_lite::pin_project! {
    /// A function whose result is a value. If it is a `Result`, that is found when it is encoded.
    struct Plain<Fut> {
        #[pin]
        future: Fut,
    }
}

impl<Fut> Invocation for Plain<Fut>
where
    Fut: Future<Output: Serialize + Send + 'static> + Send,
{
    fn poll_into(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ResultTarget) -> Poll<FunctionResult> {
        let value = ready!(self.project().future.poll(cx));
        Poll::Ready(match out {
            ResultTarget::Stream(_) => FunctionResult::Unencodable("it returns no stream".into()),
            ResultTarget::Local(slot) => {
                *slot = Some(Box::new(value));
                FunctionResult::Ok
            }
            ResultTarget::Encoded(codec, bytes) => {
                let start = bytes.len();
                let (shape, left_out) =
                    encoded_parts::leaving_out(bytes, |bytes| codec::encode_returned(*codec, &value, bytes));
                match shape {
                    Ok(ResultShape::Value | ResultShape::Ok) => succeeded(left_out),
                    Ok(ResultShape::Err) => {
                        encoded_parts::join(bytes, left_out);
                        FunctionResult::Method(Code::Unknown, OwnMessage::value(*codec, &bytes[start..]))
                    }
                    Ok(ResultShape::Ours) => {
                        encoded_parts::join(bytes, left_out);
                        let ours = codec::decode(*codec, &bytes[start..]);
                        bytes.truncate(start);
                        ours.map_or_else(FunctionResult::Unencodable, FunctionResult::Rpc)
                    }
                    Err(why) => {
                        bytes.truncate(start);
                        FunctionResult::Unencodable(why)
                    }
                }
            }
        })
    }
}

pin_project_lite::pin_project! {
    /// A function that returns a `Result`.
    struct Fallible<Fut, E> {
        #[pin]
        future: Fut,
        summary: fn(&E) -> MethodErrorSummary,
    }
}

impl<Fut, T, E> Invocation for Fallible<Fut, E>
where
    Fut: Future<Output = Result<T, E>> + Send,
    T: Serialize + Send + 'static,
    E: Serialize + Send + 'static,
{
    fn poll_into(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ResultTarget) -> Poll<FunctionResult> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        Poll::Ready(match (result, &mut *out) {
            (Ok(value), ResultTarget::Encoded(codec, bytes)) => encoded(*codec, &value, bytes),
            (Ok(value), ResultTarget::Local(slot)) => {
                *slot = Some(Box::new(value));
                FunctionResult::Ok
            }
            (Ok(_), ResultTarget::Stream(_)) => FunctionResult::Unencodable("it returns no stream".into()),
            (Err(error), out) => own_error(error, *this.summary, out),
        })
    }
}

/// The outcome of a function's `Err`. The function's own error is in `out`; an error of byname is not.
fn own_error<E: Serialize + Send + 'static>(
    error: E,
    summary: fn(&E) -> MethodErrorSummary,
    out: &mut ResultTarget,
) -> FunctionResult {
    let any: &dyn std::any::Any = &error;
    let ours = any.downcast_ref::<Error>().cloned().or_else(|| any.downcast_ref().map(Internal::told));
    if let Some(ours) = ours {
        return FunctionResult::Rpc(ours.executed_is(Executed::Yes));
    }
    let MethodErrorSummary { code, message } = summary(&error);
    let said = message.map(OwnMessage::text);
    match out {
        ResultTarget::Encoded(codec, bytes) => {
            let start = bytes.len();
            match codec::encode(*codec, &error, bytes) {
                Ok(()) => {
                    let message = said.unwrap_or_else(|| OwnMessage::value(*codec, &bytes[start..]));
                    FunctionResult::Method(code, message)
                }
                Err(why) => {
                    bytes.truncate(start);
                    FunctionResult::Unencodable(why)
                }
            }
        }
        ResultTarget::Local(slot) => {
            // Interceptors of this process see the same message as other processes.
            let message = said.unwrap_or_else(|| {
                let mut json = Vec::new();
                let encoded = codec::encode(Codec::Json, &error, &mut json);
                OwnMessage::value(Codec::Json, encoded.map_or(b"", |()| &json))
            });
            *slot = Some(Box::new(error));
            FunctionResult::Method(code, message)
        }
        ResultTarget::Stream(_) => {
            FunctionResult::Unencodable("its error went astray, which is a defect of byname".into())
        }
    }
}

/// Appends a success. If it can't be encoded, nothing is appended.
fn encoded<T: Serialize>(codec: Codec, value: &T, bytes: &mut Vec<u8>) -> FunctionResult {
    let start = bytes.len();
    let (encoded, left_out) = encoded_parts::leaving_out(bytes, |bytes| codec::encode(codec, value, bytes));
    match encoded {
        Ok(()) => succeeded(left_out),
        Err(why) => {
            bytes.truncate(start);
            FunctionResult::Unencodable(why)
        }
    }
}

/// A value, from which these bytes were left out.
fn succeeded(left_out: LeftOut) -> FunctionResult {
    if left_out.is_empty() { FunctionResult::Ok } else { FunctionResult::OkWithout(left_out) }
}
