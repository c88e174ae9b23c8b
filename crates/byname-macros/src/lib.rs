//! The `#[rpc]` attribute and `#[derive(MethodError)]` of [byname](https://docs.rs/byname). Use them through that crate.
//!
//! They work in stages, each a pure function over tokens: `attr` reads the options, `ast` the item, `check` decides what
//! both mean and collects what is wrong, `expand` writes the item back with what makes it callable from elsewhere.

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

/// Makes a function, or the methods of a type or a trait, callable from elsewhere by name.
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
/// The function is left as it is, `async` or not. Beside it stands a type of the same name, its *stub*, with one
/// associated function `on`, so that a single `use math::add` brings both. `add::on(&client, …)` takes what the function
/// takes and returns a `Call`: a future, lazy and owned, that gives
///
/// - `Result<T, byname::Error>` for a function that returns `T`,
/// - `Result<T, CallError<E>>` for one that returns `Result<T, E>`: `CallError::Method` is the function's own error,
///   `CallError::Rpc` says why the call failed.
///
/// A function is served where it is given to a server, by `Server::method::<add>()` or with its whole package by
/// `server!()`.
///
/// **Arguments** and results are any types that implement serde's `Serialize` and `Deserialize` and are
/// `Send + 'static`, sixteen arguments at most. `&str`, `&[T]`, `&Path` and `&T` are borrowed for the call, inside an `Option`
/// too; other borrows are rejected. Each argument has a name, because callers may pass it by name. Callers may leave out an
/// `Option`, under any alias, and an argument with a default.
///
/// **Results** whose type's path ends in `Result` (`io::Result<T>`, an alias of your own) can fail. A `Result` under
/// another name is rejected, because its errors would be sent as successes. Futures must be `Send`.
///
/// **A stream** is returned as `impl Stream<Item = T>`, or of `Result<T, E>`, by a function that is `async` or not: the stub
/// then returns a `StreamCall`, a stream of what a `Call` would give. It must be `Send`; it may borrow the instance and the
/// arguments. A stream is taken as the last argument, a `Streaming<T>`.
///
/// **Without a body** it is a declaration, the typed stub for callers that don't have the server's code. It can't be
/// called locally or served; a call of it is a compile error.
///
/// ```
/// # use byname::rpc;
/// #[rpc]
/// pub async fn add(a: i64, b: i64) -> i64;
/// ```
///
/// **In a test** `add::fake(|a, b| async move { a - b })` answers in place of `add`: `Server::inject` takes it. The closure
/// has the function's arguments, owned, and its result.
///
/// # On an `impl` block
///
/// Every method with `&self` can be called, private ones included; methods that are not to be called, and functions
/// without `self`, belong in another `impl` block. A type has one block with `#[rpc]`, and neither the block nor its
/// methods are generic. A server gets an instance by `Server::inject(counter)`, which all calls share. At its start the
/// server logs the methods of blocks that are linked and of which it has no instance. In a test
/// `Fake::of::<Counter>().bump(|by| async move { … })` answers in place of one method.
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
///     /// Adds to it.
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
/// let counter: CounterClient = Counter::on(&data);        // to keep
/// assert_eq!(counter.get().await?, 5);                    // calls `counter.total`
/// # Ok(()) }
/// ```
///
/// # On a trait
///
/// The trait is a *contract*, in a crate of its own that the service and its callers share. The service implements it, and
/// so does the client that is made of it, `UsersClient`: code that takes `&impl Users` runs on either, in tests on
/// whatever implements it. All its methods can be called; the options stand here, and none but `crate` at an implementation.
/// A third type, `UsersContract`, serves an instance by `Server::contract`, and makes fakes of single methods for tests:
/// `UsersContract::get(|id| async move { … })`.
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
/// // A caller, here or elsewhere.
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
/// Methods are `async`, take `&self` and return a `Result` whose error is `From<byname::Error>`, so that a call that failed
/// has somewhere to go. Futures are `Send` and the trait is `Send + Sync + 'static`: generic code can be spawned. It is
/// neither generic nor dyn compatible. Where it is chosen at run time whether a service is near or far, there is one type,
/// `UsersClient`, over a client made by `Client::new` or `Client::local`. The client's own methods are stubs as any other:
/// `users.get(1)` on a `UsersClient` is a `Call`, with options and with both errors apart.
///
/// A type has one `impl` with `#[rpc]`. One that implements several contracts is served by
/// `Server::contract::<UsersContract, _>(db)` for each, and its `impl`s bear nothing. The log at the start names the methods
/// of an `impl` with `#[rpc]` that is not served; not those of a generic one, whose types are not known before there is an
/// instance, and not those of an `impl` that bears nothing.
///
/// # Options of a function or method
///
/// | option | default | what it does |
/// | --- | --- | --- |
/// | `name = "users.get"` | the function's name, `r#type` as `type` | The name on the wire. |
/// | `alias = "get_user"` | none | Another name that is answered to. It may be repeated. |
/// | `readonly` | no | It changes nothing: a GET may call it, it may be sent again, and it is dropped when its caller goes away. Implies `idempotent`. |
/// | `idempotent` | no | Running it twice is as good as once: it may be sent again when it is unknown whether it ran. Without it a call is sent again only when it provably did not run. |
/// | `timeout = "2s"` | what the client's limits say, 30 s | How long a call of it may take, unless the caller says otherwise. A whole number of `ms`, `s` or `m`. |
/// | `max_age = "60s"` | none: `no-store` | With `readonly`: how long a browser may keep a success that it got by GET. A whole number of `s`, `m`, `h` or `d`. |
/// | `public` | no | With `max_age`: proxies and other caches of many users may keep it too. The answer must not depend on who asks. |
/// | `blocking` | no | Not in contracts: the function, not `async`, keeps its thread busy: it runs on a thread that may be. |
/// | `crate = my_framework::byname` | `::byname` | Functions only: where the library is, if it has another name or is handed on by another crate. |
/// | `stub = log_rpc` | the function's name | Functions only: the name of the stub, where a type or a module has the function's name already, or a crate that is named here by it, such as `log`. |
///
/// # Options of an `impl` block or a trait
///
/// | option | default | what it does |
/// | --- | --- | --- |
/// | `prefix = "counter"` | none | Stands before each method's name, aliases included, with a dot: `counter.bump`. |
/// | `stub = RemoteCounter` | the type's name and `Client` | The name of the type whose methods make the calls. |
/// | `crate = my_framework::byname` | `::byname` | Where the library is; also on the `impl` of a contract. |
///
/// # Options of an argument
///
/// `#[rpc(default = EXPR)]` gives the value of an argument that a caller leaves out. The expression has the argument's
/// type, a literal for `&str`, and is evaluated once, at the first use of the function. Bare `#[rpc(default)]` is what
/// `Default` makes of the type. A stub always sends the argument, so
/// that the server's own default, which may be another, never takes the place of a value; `None` is sent as `null`. A server
/// that doesn't know the argument yet gets the call once more without it, if the value is the default that the caller knows.
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
/// Names consist of parts with dots between, each of ASCII letters, digits and `_` and beginning with no digit, at most
/// 128 bytes together with the prefix. Those that begin with `rpc.` are JSON-RPC's. Within a block all names and aliases
/// differ, which the compiler checks; what a server is given may not share names either, which it checks when it starts.
///
/// # Other attributes
///
/// The documentation comment goes to callers (`Method::doc`) and to the stub, there without its examples. `#[cfg]` on
/// the function, the method or the block counts for the stub as well, `#[deprecated]` warns its callers. `#[cfg]` on an
/// argument is rejected.
///
/// # Errors
///
/// The compiler rejects what can't be called, at the place of the mistake and with the remedy: generic, `unsafe`,
/// `const` and `extern` functions, `&mut` and nested borrows, `impl Trait`, patterns in place of a name, types without
/// serde, futures that are not `Send`, unknown options and options in the wrong place.
#[proc_macro_attribute]
pub fn rpc(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(options.into(), item.into()).into()
}

/// Implements the trait of the same name for a struct or an enum: the code of a function's own error, and its message.
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
/// | `#[code(not_found)]` | a variant, or the type: for a struct, or for variants without one | The code, as on the wire. Without it: `unknown`. |
/// | `#[method_error(message = false)]` | a variant, or the type | Callers read the beginning of the value, and not the `Display`. On the type no `Display` is needed. |
/// | `#[method_error(crate = my_framework::byname)]` | the type | Where the library is, if it has another name. |
#[proc_macro_derive(MethodError, attributes(code, method_error))]
pub fn method_error(item: TokenStream) -> TokenStream {
    expand::method_error(item.into()).into()
}
