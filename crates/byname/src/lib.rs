//! Call a function in another service by its name.
//!
//! One attribute, [`#[rpc]`](macro@rpc), on a plain function: it stays callable as it is, and can be called from anywhere, by
//! a typed stub, by its name, or by anything that speaks JSON over HTTP.
//!
//! ```
//! use byname::{rpc, Client, Server};
//!
//! /// Adds two integers.
//! #[rpc(readonly)]
//! pub async fn add(a: i64, b: i64) -> i64 { a + b }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // A service. In a program of its own: `Server::new().method::<add>().serve("127.0.0.1:8080").await?`.
//!     let server = Server::new().method::<add>().serve("127.0.0.1:0").bind().await?;
//!     let address = server.local_addr();
//!     tokio::spawn(server.into_future());
//!
//!     // Another service.
//!     let data = Client::new(format!("{address}/rpc"))?;
//!     assert_eq!(add(1, 2).await, 3); // local, untouched
//!     assert_eq!(add::on(&data, 1, 2).await?, 3); // remote, typed, the same item
//!     assert_eq!(data.call::<i64>("add", (1, 2)).await?, 3); // by name
//!     Ok(())
//! }
//! ```
//!
//! # Goals, the earlier wins
//!
//! 1. **Plain functions.** A function keeps its signature and stays callable locally.
//! 2. **Never wrong.** No wrong result, no silent duplicate, no truncated success, no lost error. Where the outcome is
//!    unknown, [`Error::executed`] says that it is.
//! 3. **Fast without asking.** The defaults are the fast path.
//! 4. **Open.** Whatever Rust can call, `curl` can call.
//! 5. **Explains itself.** Every error says what to do next; every limit names its knob.
//! 6. **Small.** Few concepts, few dependencies, one way to do a thing.
//!
//! Not goals: an IDL, a service mesh or discovery of its own, exactly-once delivery, runtimes other than tokio.
//!
//! # The life of a call
//!
//! 1. A stub puts the arguments into a [`Call`]. A `Call` is a lazy future.
//! 2. Its first poll encodes the arguments, fixes the deadline and takes a connection. If the caller is itself serving a
//!    call, the deadline is at most the one of that call ([`Context`]).
//! 3. The server reads the head, checks where the request comes from, and reads the body.
//! 4. It finds the function by name, checks the limits, decodes the arguments and runs the function.
//! 5. The reply comes back the same way. A failure is an [`Error`]: its [`Code`] says what went wrong, its [`Executed`] says
//!    whether the function ran. If the function itself returned `Err`, the caller gets [`CallError::Method`].
//!
//! A function may also return a sequence, `impl Stream<Item = T>`, and take one as its last argument, [`Streaming`]. Its stub
//! gives a [`StreamCall`], whose items arrive while they are made.
//!
//! # What is promised
//!
//! - **At most once by default.** A call is sent again only if it provably did not run. A function that is declared
//!   `idempotent` or `readonly` runs at least once.
//! - **Every call has a deadline**, 30 s by default. At the deadline the caller gets an error. The function is told by
//!   [`Context::cancellation`] and runs on.
//! - **A function that has started runs to its end**, even if its caller goes away. So its state stays consistent. A
//!   `readonly` function is dropped instead.
//! - **A truncated stream never looks complete.** Its last item is an error. Dropping a stream stops the function that makes
//!   its items. A slow reader slows nobody else.
//! - **Calls have no order.** Only the items of one stream have one.
//! - **A server is closed by default.** It serves only what you give it. At a loopback address it answers only to loopback
//!   names. It rejects requests from web pages of other sites.
//! - **Every limit is in [`Limits`].** An error about a limit names it.
//!
//! # Features
//!
//! All are off by default.
//!
//! - **`tls`**: TLS and mutual TLS by [rustls](https://docs.rs/rustls), as `Server::tls`, `ServerTls`,
//!   `ClientTls` and `https://` in a client's URL. The cryptography is that of `ring`, and can be replaced.
//! - **`compression`**: bodies over HTTP in zstd and gzip, as [`Server::compress`] and [`ClientBuilder::compress`].
//! - **`etcd`**: replicas that announce themselves in etcd, as [`Serve::announce`] and `etcd://` in a client's URL.
//! - **`dns`**: `srv://` in a client's URL, by [hickory-resolver](https://docs.rs/hickory-resolver). Names are asked again when
//!   their TTL says so.
//! - **`kubernetes`**: `k8s://namespace/service` in a client's URL. It turns on `tls`.
//! - **`schema`**: a server describes its functions with the schemas of their types, as [`Server::schema`] and `GET /rpc/!schema`, in OpenAPI and in
//!   OpenRPC. Two versions are compared by `assert_compatible!` and `Client::check`. The command line `byname` shows it to people.
//! - **`activation`**: the sockets that systemd hands over, as [`Listen::activated`].
//! - **`simulation`**: tests in virtual time, on a network that fails, as `byname::simulation`.

// The attribute's expansion refers to `::byname`; inside this crate that is this crate.
extern crate self as byname;

#[doc(hidden)]
#[path = "macro_support.rs"]
pub mod __private;
mod access_log;
mod access_rules;
mod address;
mod admission;
mod admission_rounds;
mod arguments;
mod bearer_token;
mod call_record;
mod call_semaphore;
mod call_telemetry;
mod catch_panic;
mod client;
mod client_counters;
mod clock_and_chance;
mod codec;
mod console_access;
#[cfg_attr(
    not(feature = "compression"),
    allow(clippy::ptr_arg, dead_code, unused_mut, unused_variables, reason = "there is no coding")
)]
mod content_coding;
mod context;
mod deadline;
mod dispatch;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod etcd_url;
mod explained_clients;
mod fingerprint_queue;
mod frames;
mod function_counters;
mod function_limits;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod handler;
mod host_and_port;
mod idempotency_key;
mod in_process;
mod interceptor;
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
mod json_over_http;
mod key_store;
mod key_window;
mod limits_and_timeouts;
#[cfg(feature = "schema")]
mod lock_file;
mod metadata;
mod method;
mod name;
mod networks;
mod ordered_watch;
mod outcome;
mod peer;
mod priority;
mod recent_calls;
mod registry;
mod replica_line;
mod request;
mod round_shares;
mod running_functions;
mod runtime;
mod server;
mod server_counters;
mod service_schema;
#[cfg(feature = "simulation")]
mod simulated_world;
#[cfg(not(feature = "simulation"))]
#[path = "simulated_world/without_simulation.rs"]
mod simulated_world;
#[cfg(feature = "simulation")]
pub mod simulation;
mod stats;
mod stream_argument;
mod telemetry_names;
mod trace_context;
mod transport;
mod untrusted_text;
mod wire;

pub use address::Address;
pub use arguments::{Args, Argument, Returns};
pub use bearer_token::{BearerToken, IssuedToken};
pub use byname_macros::{MethodError, rpc};
#[cfg(feature = "schema")]
pub use byname_schema::{AcceptedBreaks, Break, Difference, Verdict, differences};
pub use byname_schema::{ArgumentSchema, FunctionSchema, SchemaDocumentError, ServiceSchema};
pub use client::{
    ByName, Call, Client, ClientBuilder, Discover, DiscoverFuture, ExplainedConnections, ExplainedReplica,
    ExplainedService, ExplainedSetting, Explanation, KnownReplicas, Policy, Remote, ReplicaState, Replicas,
    SettingSource, StreamCall, Transport, WithMetadata,
};
pub use codec::{Bytes, Codec};
pub use context::Context;
pub use error::{CallError, Code, Error, Executed, Internal, Kind, MethodError};
pub use function_limits::FunctionLimits;
pub use handler::Handler;
pub use handler::{Callable, Contract, Fake, Function, FunctionName, Inject, Instance};
pub use http::{Extensions, HeaderMap};
pub use idempotency_key::IdempotencyKey;
pub use interceptor::Next;
pub use key_store::{KeyClaim, KeyStore, KeyStoreFuture, StoredReply};
pub use limits_and_timeouts::Limits;
pub use method::{Method, Param, Source};
pub use peer::{ClientCertificate, Identity, Peer, UnixCredentials};
pub use priority::Priority;
pub use request::{Reply, Request};
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use rustls;
pub use server::{Bound, Cors, HttpService, Listen, ProxyHeader, Serve, Server, ServerHandle, UnixSocket};
pub use stats::{ClientStats, FunctionStats, ServerStats};
pub use stream_argument::Streaming;
#[cfg(feature = "tls")]
pub use transport::{ClientTls, Pem, ServerTls};

/// A [`Server`] with every `#[rpc]` function of this package, or of the crates that it names: `server!(math, admin)`.
///
/// Naming a crate links it; nothing else that happens to be linked is ever served. A package without an `#[rpc]`
/// function is an error when the server starts. Methods are not included: inject their instance.
///
/// ```standalone_crate
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
        $(use ::$name as _;)+
        $crate::Server::new()$(.registered(
            ::core::concat!("crate `", ::core::stringify!($name), "`"),
            |spec| $crate::__private::is_in_crate(spec, ::core::stringify!($name)),
        ))+
    }};
}

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", env!("CARGO_PKG_README")))]
struct Readme;

/// The examples of the attribute and of the derive compile. Their package can't depend on this one.
#[cfg(doctest)]
#[doc = include_str!("../../byname-macros/src/rpc_attribute.md")]
#[doc = include_str!("../../byname-macros/src/method_error_derive.md")]
struct Macros;
