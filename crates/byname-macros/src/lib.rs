//! The `#[rpc]` attribute and `#[derive(MethodError)]` of [byname](https://docs.rs/byname). Use them through that crate.
//!
//! They work in stages, each a pure function over tokens: `attr` reads the options, `ast` reads the item, `check` decides
//! what both mean and collects mistakes, and `expand` writes the item with the code that makes it callable.

mod ast;
mod attr;
mod check;
mod crate_path;
mod errors;
mod expand;
mod macro_rules_fragments;
mod source_text;
mod spans;

use proc_macro::TokenStream;

/// Makes a function, or the methods of a type or a trait, callable by name from other programs.
///
/// ```
/// use byname::{rpc, Client, Server};
///
/// /// Adds two integers.
/// #[rpc(readonly)]
/// pub async fn add(a: i64, b: i64) -> i64 { a + b }
///
/// async fn service() -> Result<(), byname::Error> {
///     Server::new().method::<add>().serve("127.0.0.1:8080").await
/// }
///
/// async fn caller() -> Result<(), byname::Error> {
///     let data = Client::new("127.0.0.1:8080/rpc")?;
///     add(1, 2).await;                  // local: the function stays as it is
///     add::on(&data, 1, 2).await?;      // remote: the same arguments, after the client
///     Ok(())
/// }
/// ```
///
/// # On a function
///
/// The function stays as it is, `async` or not. The attribute adds a type of the same name, the *stub*, with one associated
/// function `on`. A single `use math::add` imports both. `add::on(&client, …)` takes the function's arguments after the client
/// and returns a `Call`. This is a lazy future without borrows, and its output is
///
/// - `Result<T, byname::Error>` for a function that returns `T`,
/// - `Result<T, CallError<E>>` for one that returns `Result<T, E>`: `CallError::Method` is the function's own error,
///   `CallError::Rpc` says why the call failed.
///
/// A server serves a function after `Server::method::<add>()`. `server!()` makes a server with all functions of a package.
///
/// **Arguments** and results are any types that implement serde's `Serialize` and `Deserialize` and are
/// `Send + 'static`. A function has at most sixteen arguments. `&str`, `&[T]`, `&Path` and `&T` are borrowed for the call, inside an `Option`
/// too; other borrows are rejected. Each argument has a name, because callers may pass it by name. Callers may leave out an
/// `Option`, under any alias, and an argument with a default.
///
/// **Results** can fail if the path of their type ends in `Result` (`io::Result<T>`, an alias of your own). A `Result` under
/// another name is rejected, because its errors would be sent as successes. Futures must be `Send`.
///
/// **A stream** is the result `impl Stream<Item = T>`, or `impl Stream<Item = Result<T, E>>`. The function may be `async`. The
/// stub then returns a `StreamCall`, a stream whose items are like the outputs of a `Call`. The stream must be `Send`. It may
/// borrow the instance and the arguments. A function takes a stream as its last argument, a `Streaming<T>`.
///
/// **Without a body** the function is a declaration: a typed stub for callers that don't have the server's code. It can't be
/// served, and a local call of it is a compile error.
///
/// ```
/// # use byname::rpc;
/// #[rpc]
/// pub async fn add(a: i64, b: i64) -> i64;
/// ```
///
/// **In a test** `add::fake(|a, b| async move { a - b })` makes a fake of `add` for `Server::inject`. The closure takes the
/// function's arguments as owned values and returns the function's result.
///
/// # On an `impl` block
///
/// Every method with `&self` can be called, private methods too. Put methods that callers must not call, and functions without
/// `self`, into another `impl` block. A type has one block with `#[rpc]`. Neither the block nor its methods are generic.
/// `Server::inject(counter)` serves an instance, which all calls share. At its start the server logs the methods of blocks that
/// are linked but have no instance. In a test `Fake::of::<Counter>().bump(|by| async move { … })` makes a fake of one method.
///
/// ```
/// use std::sync::atomic::{AtomicI64, Ordering};
/// use byname::{rpc, Client, Server};
///
/// #[derive(Default)]
/// pub struct Counter { total: AtomicI64 }
///
/// #[rpc(prefix = "counter")]
/// impl Counter {
///     /// Adds to the total and returns it.
///     pub async fn bump(&self, by: i64) -> i64 { self.total.fetch_add(by, Ordering::Relaxed) + by }
///
///     #[rpc(readonly, name = "total")]
///     pub fn get(&self) -> i64 { self.total.load(Ordering::Relaxed) }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), byname::Error> {
/// let server = Server::new().inject(Counter::default());
/// let data = Client::local(&server)?;
/// assert_eq!(Counter::on(&data).bump(5).await?, 5);       // calls `counter.bump`
/// let counter: CounterClient = Counter::on(&data);        // can be kept
/// assert_eq!(counter.get().await?, 5);                    // calls `counter.total`
/// # Ok(()) }
/// ```
///
/// # On a trait
///
/// The trait is a *contract*, in a crate that the service and its callers share. The service implements it. The attribute
/// generates a client, `UsersClient`, that implements it too. So code that takes `&impl Users` runs on both, and in tests on any
/// other implementation. All methods of the trait can be called. Write the options on the trait; an implementation accepts only
/// `crate`. The attribute also generates `UsersContract`, which `Server::contract` needs to serve an instance. It makes fakes of
/// single methods for tests: `UsersContract::get(|id| async move { … })`.
///
/// ```
/// use byname::{rpc, Client, Server};
///
/// #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// pub struct User { name: String }
///
/// #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// pub enum UserError { NoSuchUser, Rpc(byname::Error) }
///
/// impl From<byname::Error> for UserError {
///     fn from(error: byname::Error) -> Self { UserError::Rpc(error) }
/// }
///
/// #[rpc(prefix = "users")]
/// pub trait Users {
///     #[rpc(readonly)]
///     async fn get(&self, id: u64) -> Result<User, UserError>;
/// }
///
/// // The service.
/// pub struct Db;
///
/// #[rpc]
/// impl Users for Db {
///     async fn get(&self, id: u64) -> Result<User, UserError> {
///         if id == 1 { Ok(User { name: "Ada".into() }) } else { Err(UserError::NoSuchUser) }
///     }
/// }
///
/// // A caller, in this process or in another one.
/// async fn greet(users: &impl Users, id: u64) -> Result<String, UserError> {
///     Ok(format!("Hello {}", users.get(id).await?.name))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let data = Client::local(&Server::new().inject(Db))?;   // or `Client::new("127.0.0.1:8080/rpc")?`
/// let users = UsersClient::on(&data);
/// assert_eq!(greet(&users, 1).await.unwrap(), "Hello Ada");
/// assert_eq!(greet(&Db, 1).await.unwrap(), "Hello Ada");
/// # Ok(()) }
/// ```
///
/// Methods are `async`, take `&self` and return a `Result`. Its error must implement `From<byname::Error>`, because a failed
/// call becomes this error. The futures are `Send` and the trait is `Send + Sync + 'static`, so generic code can be spawned. The
/// trait is neither generic nor dyn compatible. To choose a local or a remote service at run time, use `UsersClient` over a client
/// made by `Client::local` or `Client::new`. The methods of `UsersClient` itself are stubs: `users.get(1)` is a `Call`, with
/// options, and its error distinguishes the function's own error from a failed call.
///
/// A type has one `impl` with `#[rpc]`. If a type implements several contracts, serve it by
/// `Server::contract::<UsersContract, _>(db)` for each contract, and write no `#[rpc]` on its `impl`s. At its start the server logs
/// the methods of an `impl` with `#[rpc]` that is not served. It does not log those of a generic `impl`, because their types are
/// known only with an instance.
///
/// # Options of a function or method
///
/// | option | default | what it does |
/// | --- | --- | --- |
/// | `name = "users.get"` | the function's name, `r#type` as `type` | The name on the wire. |
/// | `alias = "get_user"` | none | Another name of the function. The option may be repeated. |
/// | `readonly` | no | The function changes nothing: a GET may call it, a call that failed may be repeated, and the function is dropped when its caller goes away. Implies `idempotent`. |
/// | `hedge` | no | With `readonly`, and without streams: a slow call is sent to a second replica while the first still works on it. The first answer counts, and the other attempt is cancelled. `Policy::hedge` has the conditions. |
/// | `idempotent` | no | To run the function twice has the same effect as to run it once. So the client repeats a call that failed with `unavailable` or `resource_exhausted`, three attempts at most. Without this option it repeats a call only if it provably did not run. |
/// | `timeout = "2s"` | the client's `Limits::call`, 30 s | The time for a call, unless the caller sets another. A whole number of `ms`, `s` or `m`. |
/// | `max_age = "60s"` | none: `no-store` | With `readonly`: how long a browser may cache a successful answer to a GET. A whole number of `s`, `m`, `h` or `d`. |
/// | `public` | no | With `max_age`: proxies and other shared caches may cache the answer too. It must be the same for all callers. |
/// | `blocking` | no | Not in contracts. The function is not `async` and blocks its thread, so it runs on a thread for blocking code. |
/// | `crate = my_framework::byname` | `::byname` | Functions only: the path of the library, if it has another name or another crate re-exports it. |
/// | `stub = log_rpc` | the function's name | Functions only: the name of the stub. It is needed if a type, a module or a crate, such as `log`, already has the function's name. |
///
/// # Options of an `impl` block or a trait
///
/// | option | default | what it does |
/// | --- | --- | --- |
/// | `prefix = "counter"` | none | The first part of each method's name and alias, followed by a dot: `counter.bump`. |
/// | `stub = RemoteCounter` | the type's name and `Client` | The name of the type whose methods make the calls. |
/// | `crate = my_framework::byname` | `::byname` | The path of the library. It is also an option of the `impl` of a contract. |
///
/// # Options of an argument
///
/// `#[rpc(default = EXPR)]` gives the value of an argument that a caller leaves out. The expression has the argument's
/// type, a literal for `&str`, and is evaluated once, at the first use of the function. Bare `#[rpc(default)]` is what
/// `Default` makes of the type. A stub always sends the argument, so
/// that the server's own default, which may differ, never replaces a value. `None` is sent as `null`. If a server doesn't know
/// the argument yet and the value is the caller's default, the client sends the call once more without the argument.
///
/// ```
/// # use byname::rpc;
/// #[rpc]
/// pub async fn search(
///     word: &str,
///     #[rpc(default = 10)] limit: u32,
///     #[rpc(default = "en")] language: &str,
///     after: Option<u64>,
/// ) -> Vec<String> {
///     vec![format!("{word} in {language}: {limit} from {after:?}")]
/// }
/// ```
///
/// # Names
///
/// A name consists of parts separated by dots. A part consists of ASCII letters, digits and `_` and does not begin with a digit.
/// A name has at most 128 bytes together with the prefix. Names that begin with `rpc.` are reserved for JSON-RPC. Within a
/// block all names and aliases must differ; the compiler checks this. All names of a server must differ too; the server checks
/// this when it starts.
///
/// # Other attributes
///
/// Callers can read the documentation comment (`Method::doc`). The stub has it too, without the examples. A `#[cfg]` on the
/// function, the method or the block also applies to the stub. `#[deprecated]` warns the callers. A `#[cfg]` on an argument is
/// rejected.
///
/// # Errors
///
/// The compiler rejects items that can't be called, at the place of the mistake and with the remedy: generic, `unsafe`,
/// `const` and `extern` functions, `&mut` and nested borrows, `impl Trait`, patterns in place of a name, types without
/// serde, futures that are not `Send`, unknown options and options in the wrong place.
#[proc_macro_attribute]
pub fn rpc(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(options.into(), item.into()).into()
}

/// Implements the trait of the same name for a struct or an enum. It gives a function's own error a code and a message.
///
/// ```
/// use std::fmt;
///
/// use byname::MethodError;
///
/// #[derive(Debug, serde::Serialize, serde::Deserialize, MethodError)]
/// #[code(failed_precondition)]
/// enum BankError {
///     #[code(not_found)]
///     NoSuchAccount(u64),
///     Overdrawn { missing: u64 },
///     /// Its `Display` is for the log only.
///     #[code(internal)]
///     #[method_error(message = false)]
///     Ledger,
/// }
///
/// impl fmt::Display for BankError {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         match self {
///             BankError::NoSuchAccount(id) => write!(f, "there is no account {id}"),
///             BankError::Overdrawn { missing } => write!(f, "{missing} are missing"),
///             BankError::Ledger => write!(f, "/var/ledger is not readable"),
///         }
///     }
/// }
/// ```
///
/// | attribute | where | what it does |
/// | --- | --- | --- |
/// | `#[code(not_found)]` | a variant, or the type: for a struct, or for variants without a code | The code, spelled as in the protocol. Without it the code is `unknown`. |
/// | `#[method_error(message = false)]` | a variant, or the type | The message is the beginning of the value instead of the `Display`. With this option on the type, no `Display` is needed. |
/// | `#[method_error(crate = my_framework::byname)]` | the type | The path of the library, if it has another name. |
#[proc_macro_derive(MethodError, attributes(code, method_error))]
pub fn method_error(item: TokenStream) -> TokenStream {
    expand::method_error(item.into()).into()
}
