//! A client: calls to one service, by typed stub or by name. [`Client`], [`Call`].

mod call;
mod call_errors;
mod connect;
mod connection_pool;
mod frame_attempt;
pub(crate) mod frame_connection;
mod frame_connection_set;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod http1_connection;
mod http_attempt;
mod http_connections;
mod http_exchange;
mod http_request;
mod outgoing_call;
mod reply_stream;
mod retry;
mod retry_budget;
mod route;
mod service_host;
mod service_url;
mod short_lived_clients;
mod stream_call;
mod sweeper;
mod typed_result;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;
use serde_json::Value;

pub use self::call::{ByName, Call, WithMetadata};
pub(crate) use self::call::{call, call_borrowed};
use self::route::Route;
use self::service_host::ServiceHost;
pub use self::stream_call::StreamCall;
pub use self::typed_result::Remote;

use crate::codec::Codec;
use crate::dispatch::Dispatch;
use crate::error::{CallError, Code, Error};
use crate::interceptor::{InterceptorChain, Next};
use crate::limits::Limits;
use crate::metadata;
use crate::name;
use crate::request::{Reply, Request};
use crate::runtime;

/// A handle on one service. Cheap to clone; clones share their connections.
///
/// ```
/// use byname::{rpc, Client};
///
/// #[rpc(readonly)]
/// pub async fn add(a: i64, b: i64) -> i64 { a + b }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let data = Client::new("127.0.0.1:8080/rpc")?; // http:// when there is no scheme
/// assert_eq!(add(1, 2).await, 3); // local, untouched
/// assert_eq!(add::on(&data, 1, 2).await?, 3); // remote, typed, the same item
/// let sum: i64 = data.call("add", (1, 2)).await?; // by name
/// # Ok(()) }
/// ```
///
/// A client works from any async runtime and from plain threads, and may live in a `static`: each connection belongs to
/// the tokio runtime that opened it, and a call made outside of tokio runs on one background thread that all clients
/// share. Nothing is connected before the first call.
///
/// Make a client once and keep it. Clients share no connections, not even two of the same address: each may have other
/// limits. A client that is made for one call opens a connection for it, and leaves a socket in TIME_WAIT. When 32 clients
/// of one address were dropped within a minute after one or two calls each, a warning says so, through `tracing` and at
/// most once in ten minutes for an address.
///
/// ```
/// use std::sync::LazyLock;
///
/// use byname::Client;
///
/// static DATA: LazyLock<Client> = LazyLock::new(|| Client::new("data:8080").expect("the address is right"));
/// # assert!(format!("{:?}", *DATA).contains("data:8080"));
/// ```
///
/// Tests with tokio's clock paused use [`Client::local`]: while a socket is waited for, a paused clock advances to the next
/// deadline, and the call fails with `deadline_exceeded`.
#[derive(Clone)]
pub struct Client {
    scope: Arc<CallScope>,
}

/// What calls travel by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Frames, many calls at once on one connection: the first calls go over HTTP, and once the server has offered it a
    /// connection of frames is opened in the background, and those of HTTP are let go. Where the server or a proxy in
    /// between can't, calls go on over HTTP. A name of several addresses is given a connection to each, up to four, and
    /// calls go by any of them.
    #[default]
    Frames,
    /// HTTP/1.1 alone.
    Http,
}

/// What calls through one handle have in common.
#[derive(Clone)]
struct CallScope {
    way: Route,
    prefix: String,
    timeout: Option<Duration>,
    headers: HeaderMap,
    refused: Option<Error>,
    encoded: bool,
    codec: Codec,
    interceptors: InterceptorChain,
}

impl CallScope {
    fn new(way: Route) -> Self {
        Self {
            way,
            prefix: String::new(),
            timeout: None,
            headers: HeaderMap::new(),
            refused: None,
            encoded: false,
            codec: Codec::default(),
            interceptors: InterceptorChain::default(),
        }
    }
}

impl Client {
    /// A client of the service at `url`: `host:port/path`, with or without `http://`, or `unix:/path` of a unix socket.
    /// Without a path it is `/rpc`; [`ClientBuilder::endpoint`] sets another at a unix socket.
    ///
    /// # Errors
    ///
    /// `invalid_argument` when it is no such address, with what to write instead; `https://` is refused by name until byname speaks TLS.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// A client with other limits.
    pub fn builder(url: impl AsRef<str>) -> ClientBuilder {
        let (transport, codec) = (Transport::default(), Codec::default());
        ClientBuilder {
            url: url.as_ref().into(),
            endpoint: None,
            limits: Limits::default(),
            addresses: Vec::new(),
            transport,
            codec,
        }
    }

    pub(crate) fn in_process(dispatch: Arc<Dispatch>) -> Self {
        let scope = CallScope { codec: Codec::Json, ..CallScope::new(Route::Local(dispatch)) };
        Self { scope: Arc::new(scope) }
    }

    /// Calls a function by its name.
    ///
    /// A tuple or a sequence is arguments by position, a struct or a map by name, `()` none, and
    /// [`Args`](crate::Args) both; anything else is an error that suggests `(x,)`.
    ///
    /// ```
    /// # async fn example(data: byname::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let sum = data.call::<i64>("add", (1, 2)).await?;
    /// let one: u64 = data.call("count", ("x",)).await?;
    /// # Ok(()) }
    /// ```
    pub fn call<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        args: impl Serialize + 'static,
    ) -> Call<ByName, Result<T, CallError<Value>>> {
        call::by_name(self, name, &args)
    }

    /// Calls a function that returns a stream by its name; arguments as in [`call`](Self::call).
    ///
    /// ```
    /// # async fn example(data: byname::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut lines = data.stream::<String>("follow", ("/var/log/syslog",));
    /// while let Some(line) = lines.next().await {
    ///     println!("{}", line?);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stream<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        args: impl Serialize + 'static,
    ) -> StreamCall<ByName, Result<T, CallError<Value>>> {
        StreamCall::new(call::by_name(self, name, &args))
    }

    /// Calls a function by its name and hands the result to `callback`, from any thread, in async code or not. Inside a
    /// tokio runtime the callback runs in a task of it, otherwise on byname's background thread, which it must not
    /// block.
    ///
    /// ```
    /// # fn example(data: byname::Client) {
    /// data.call_then::<i64>("add", (1, 2), |result| match result {
    ///     Ok(sum) => println!("{sum}"),
    ///     Err(error) => eprintln!("{error}"),
    /// });
    /// # }
    /// ```
    pub fn call_then<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        args: impl Serialize + 'static,
        callback: impl FnOnce(Result<T, CallError<Value>>) + Send + 'static,
    ) {
        let call = self.call::<T>(name, args);
        runtime::current().spawn(async move { callback(call.await) });
    }

    /// Calls a function by its name and wants no answer. A failure is logged, nothing more: whoever must know uses
    /// [`call`](Self::call).
    pub fn notify(&self, name: &str, args: impl Serialize + 'static) {
        let said = name.to_owned();
        self.call_then::<serde_core::de::IgnoredAny>(name, args, move |result| {
            if let Err(error) = result {
                tracing::warn!(rpc.method = %said, "notification `{said}` failed: {error}");
            }
        });
    }

    /// The same service, every name behind `prefix` and a dot: what `inject_as` serves. One that is no name fails the
    /// calls.
    #[must_use]
    pub fn prefix(&self, prefix: &str) -> Self {
        self.scoped(|scope| {
            if let Err(why) = name::check(prefix) {
                scope.refused = Some(Error::refused(Code::InvalidArgument, format!("as a prefix, {why}")));
            }
            scope.prefix = format!("{}{prefix}.", scope.prefix);
        })
    }

    /// The same service with another deadline for each call, counted from its first poll.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        self.scoped(|scope| scope.timeout = Some(timeout))
    }

    /// The same service with a header on each call. One that [`Call::header`] would refuse fails the calls.
    #[must_use]
    pub fn header(&self, name: &str, value: &str) -> Self {
        self.scoped(|scope| {
            scope.refused = metadata::set(&mut scope.headers, name, value).err().or(scope.refused.take())
        })
    }

    /// The same service with an interceptor around each call: it sees the request before it is sent, may change its
    /// headers, refuse it or look at the reply. The one added first is the outermost. What is sent again is sent within:
    /// an interceptor sees a call once. See [`Server::intercept`](crate::Server::intercept) for its shape.
    ///
    /// ```
    /// # fn sign(name: &str) -> String { name.to_owned() }
    /// # fn example(data: byname::Client) {
    /// use byname::{Next, Request};
    ///
    /// let signed = data.intercept(|mut request: Request, next: Next| async move {
    ///     let signature = sign(request.name());
    ///     request.set_header("x-signature", &signature)?;
    ///     Ok::<_, byname::Error>(next.run(request).await)
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn intercept<F, Fut>(&self, interceptor: F) -> Self
    where
        F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Reply>> + Send + 'static,
    {
        self.scoped(|scope| scope.interceptors.push(interceptor))
    }

    /// In a client made by [`Client::local`]: whether arguments and results are encoded and decoded all the same, so
    /// that a test sees what the wire would do to them. Off by default; elsewhere it has no meaning.
    #[must_use]
    pub fn encoded(&self, on: bool) -> Self {
        self.scoped(|scope| scope.encoded = on)
    }

    /// What this handle's calls are encoded in, where there is a choice: with [`encoded`](Self::encoded), and on frames.
    #[doc(hidden)]
    #[must_use]
    pub fn codec(&self, codec: Codec) -> Self {
        self.scoped(|scope| scope.codec = codec)
    }

    fn scoped(&self, change: impl FnOnce(&mut CallScope)) -> Self {
        let mut scope = CallScope::clone(&self.scope);
        change(&mut scope);
        Self { scope: Arc::new(scope) }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match &self.scope.way {
            Route::Remote(host) => host.url(),
            Route::Local(_) => "this process".into(),
        };
        f.debug_struct("Client").field("to", &to).field("prefix", &self.scope.prefix).finish_non_exhaustive()
    }
}

/// Makes a [`Client`] with other limits.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ClientBuilder {
    url: String,
    endpoint: Option<String>,
    limits: Limits,
    addresses: Vec<String>,
    transport: Transport,
    codec: Codec,
}

impl ClientBuilder {
    /// Moves limits and time-outs: `.limits(|limits| limits.connections = 32)`.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// The path of the server's endpoint, `/rpc` unless told otherwise, for a URL that has no path:
    ///
    /// ```
    /// let orders = byname::Client::builder("unix:/run/orders.sock").endpoint("/api").build()?;
    /// # Ok::<(), byname::Error>(())
    /// ```
    pub fn endpoint(mut self, path: &str) -> Self {
        self.endpoint = Some(path.to_owned());
        self
    }

    /// The addresses of the service's replicas, as text (`10.0.0.1:8080`, `unix:/run/orders.sock`) or as
    /// [`SocketAddr`](std::net::SocketAddr)s, in place of those that the name in the URL has. As with a name's, each new connection of HTTP goes to the first that takes it, those
    /// where calls timed out last, and frames are spread over up to four of them.
    ///
    /// ```
    /// let replicas = ["10.0.0.1:8080", "10.0.0.2:8080"];
    /// let data = byname::Client::builder("data.internal/rpc").addresses(replicas).build()?;
    /// # Ok::<(), byname::Error>(())
    /// ```
    pub fn addresses<A: ToString>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.addresses.extend(addresses.into_iter().map(|address| address.to_string()));
        self
    }

    /// What calls travel by: [`Transport::Frames`] unless told otherwise.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// What frames carry; MessagePack unless told otherwise. Over HTTP it is JSON whatever is said here.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The client. It connects at its first call.
    ///
    /// # Errors
    ///
    /// As [`Client::new`].
    pub fn build(self) -> Result<Client, Error> {
        let mut target = service_url::ServiceUrl::parse(&self.url)?;
        if let Some(endpoint) = &self.endpoint {
            target.set_endpoint(&self.url, endpoint)?;
        }
        if !self.addresses.is_empty() {
            target.addresses =
                self.addresses.iter().map(|address| service_url::replica(address)).collect::<Result<_, _>>()?;
        }
        let frames = (self.transport == Transport::Frames).then_some(self.codec);
        let host = ServiceHost::new(target, self.limits, frames);
        Ok(Client { scope: Arc::new(CallScope::new(Route::Remote(Arc::new(host)))) })
    }
}
