//! A server: functions in, calls answered. [`Server`], [`Serve`], [`Bound`].

#[cfg(unix)]
mod activated;
mod bind;
mod blocking_watchdog;
mod connection;
mod connection_timeouts;
mod drain;
pub(crate) mod frame_connection;
#[cfg(unix)]
mod given_unix;
#[cfg(all(unix, feature = "activation"))]
mod handed_over;
mod http;
mod listen;
#[cfg(all(unix, not(feature = "activation")))]
mod not_handed_over;
#[cfg_attr(not(unix), allow(dead_code, reason = "only unix has signals"))]
mod signals;
mod tower_service;
mod unix_socket;

pub use self::http::Cors;
pub use self::listen::{Bound, Listen, Serve};
pub use self::tower_service::HttpService;
pub use self::unix_socket::UnixSocket;

use crate::dispatch::{Dispatch, Listing};
use crate::error::{Code, Error};
use crate::escape::quoted;
use crate::handler::{Callable, Contract, Function, FunctionName, Handler, Inject, Registration};
use crate::interceptor::{InterceptorChain, Next};
use crate::limits::Limits;
use crate::method::{Method, MethodSpec, Source};
use crate::registry::Registry;
use crate::request::{Reply, Request};
use crate::wire::path_way;

/// What a process serves. Nothing is served that isn't named here.
///
/// ```no_run
/// use byname::{rpc, Server};
///
/// #[rpc(readonly)]
/// async fn add(a: i64, b: i64) -> i64 { a + b }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), byname::Error> {
/// Server::new().method::<add>().serve("127.0.0.1:8080").await
/// # }
/// ```
///
/// Then `curl -d '[1,2]' localhost:8080/rpc/add` prints `3`.
#[derive(Clone, Debug)]
#[must_use = "a server does nothing before `serve`"]
pub struct Server {
    handlers: Vec<Handler>,
    refused: Option<Error>,
    limits: Limits,
    endpoint: String,
    hosts: Vec<String>,
    origins: Vec<String>,
    cors: Cors,
    listing: Option<bool>,
    plain: bool,
    path: bool,
    json_rpc: bool,
    frames: bool,
    require_json: bool,
    interceptors: InterceptorChain,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server of nothing yet. `byname::server!()` is one of every `#[rpc]` function of the package.
    pub fn new() -> Self {
        Self {
            handlers: Vec::new(),
            refused: None,
            limits: Limits::default(),
            endpoint: "/rpc".into(),
            hosts: Vec::new(),
            origins: Vec::new(),
            cors: Cors::default(),
            listing: None,
            plain: true,
            path: true,
            json_rpc: true,
            frames: true,
            require_json: false,
            interceptors: InterceptorChain::default(),
        }
    }

    /// Serves one `#[rpc]` function: `.method::<add>()`.
    pub fn method<F: Function>(mut self) -> Self {
        self.handlers.push(F::handler());
        self
    }

    /// Serves the methods of an instance, a value or an `Arc` of one, whose `impl` block bears `#[rpc]`. In tests it also
    /// takes a [`Fake`](crate::Fake) of one function.
    pub fn inject(mut self, instance: impl Inject) -> Self {
        self.handlers.extend(instance.handlers());
        self
    }

    /// As [`inject`](Self::inject), each name behind `prefix` and a dot: two instances of one type can be served side
    /// by side. A client reaches them by [`Client::prefix`](crate::Client::prefix).
    pub fn inject_as(mut self, prefix: &str, instance: impl Inject) -> Self {
        self.handlers.extend(instance.handlers().iter().map(|handler| handler.prefixed(prefix)));
        self
    }

    /// Serves the methods of one `#[rpc]` trait of an instance, a value or an `Arc` of one that implements it:
    /// `.contract::<UsersContract, _>(db)`. For a type that implements several; for one, `#[rpc]` on its `impl` and
    /// [`inject`](Self::inject) do the same.
    pub fn contract<C: Contract<T>, T>(mut self, instance: T) -> Self {
        self.handlers.extend(C::handlers(instance));
        self
    }

    /// Serves any async function or closure under a name, for what can't bear the attribute. Its arguments are owned:
    /// `String`, not `&str`. Callers pass them by position, and by name where they are named: a typed stub passes all by
    /// name. Without names they are `arg0`, `arg1`, ….
    ///
    /// ```
    /// # use byname::Server;
    /// Server::new()
    ///     .function("double", |n: i64| async move { n * 2 })
    ///     .function(("divide", ["a", "b"]), |a: i64, b: i64| async move { a / b });
    /// ```
    #[track_caller]
    pub fn function<A: crate::arguments::FromArguments>(
        mut self,
        name: impl FunctionName<A>,
        function: impl Callable<A>,
    ) -> Self {
        let at = std::panic::Location::caller();
        let source = Source { package: "", module: "Server::function", file: at.file(), line: at.line() };
        self.handlers.push(Handler::function(name.names(), source, function));
        self
    }

    /// Puts an interceptor around every call, whichever way it comes in, also in this process: it sees who calls what,
    /// may leave a finding for the function, refuse the call, and look at the reply. The one added first is the
    /// outermost. The arguments are not decoded yet. Names that nothing is served under come through as well.
    ///
    /// ```
    /// use byname::{rpc, Code, Context, Error, Next, Request, Server};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// #[rpc(readonly)]
    /// async fn whoami() -> Option<String> {
    ///     Context::current()?.extensions().get::<User>().map(|user| user.0.clone())
    /// }
    ///
    /// Server::new().method::<whoami>().intercept(|mut request: Request, next: Next| async move {
    ///     match request.header("authorization") {
    ///         Some("Bearer 1234") => request.extensions_mut().insert(User("ada".into())),
    ///         _ => return Err(Error::new(Code::Unauthenticated, "say who you are: authorization: Bearer …")),
    ///     };
    ///     Ok(next.run(request).await)
    /// });
    /// ```
    ///
    /// An error of its own goes out like one of a function's, with what is known of whether the function ran; a panic is
    /// caught. Interceptors count as part of the call: they hold its place under [`Limits::in_flight`] and end at its
    /// deadline.
    pub fn intercept<F, Fut>(mut self, interceptor: F) -> Self
    where
        F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Reply>> + Send + 'static,
    {
        self.interceptors.push(interceptor);
        self
    }

    /// Moves limits and time-outs: `.limits(|limits| limits.message = 64 << 20)`.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// The path of the endpoint, `/rpc` unless told otherwise. It is written as it stands in a URL, percent-encoded where
    /// that is needed; any other fails the start.
    pub fn endpoint(mut self, path: &str) -> Self {
        self.endpoint = format!("/{}", path.trim_matches('/'));
        self
    }

    /// The names that this server goes by: requests whose `Host` is another are answered 421. Each is a host, or a host
    /// and a port. Without it a server that is bound to a loopback address answers to loopback names only (so that a
    /// web page can't reach it by rebinding a name), any other to every name, and so does one at a unix socket, which no
    /// page reaches. Loopback names stay its own at both, whatever is listed.
    pub fn hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.hosts.extend(hosts.into_iter().map(|host| host.into().to_ascii_lowercase()));
        self
    }

    /// Web origins, such as `https://app.example`, whose pages may call besides the server's own. The server answers
    /// preflights itself: it needs no layer for CORS around it, and such a layer lets no page in. What pages may do beside
    /// calling is set by [`cors`](Self::cors).
    pub fn origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        let as_sent = |origin: O| origin.into().trim_end_matches('/').to_ascii_lowercase();
        self.origins.extend(origins.into_iter().map(as_sent));
        self
    }

    /// What the pages of [`origins`](Self::origins) may do beside calling: set other headers, read the headers of answers,
    /// send cookies. Without `origins` it has no effect.
    ///
    /// ```
    /// # use byname::Server;
    /// use std::time::Duration;
    ///
    /// Server::new().origins(["https://app.example"]).cors(|cors| {
    ///     cors.allow_headers(["x-tenant"])
    ///         .expose_headers(["x-total-count"])
    ///         .allow_credentials(true)
    ///         .max_age(Duration::from_secs(600))
    /// });
    /// ```
    pub fn cors(mut self, change: impl FnOnce(Cors) -> Cors) -> Self {
        self.cors = change(self.cors);
        self
    }

    /// Whether callers may learn names: an unknown name is answered with near ones, or with how to serve the `#[rpc]`
    /// function of that name. On by default on a loopback address
    /// and at a unix socket, without [`hosts`](Self::hosts), for requests that no proxy passes on: one with `forwarded`,
    /// `x-forwarded-for`, `x-real-ip` or `via` may come from anywhere. Else off.
    pub fn listing(mut self, on: bool) -> Self {
        self.listing = Some(on);
        self
    }

    /// Whether `POST /rpc` with the name in the body is offered. On by default.
    pub fn plain(mut self, on: bool) -> Self {
        self.plain = on;
        self
    }

    /// Whether `/rpc/name` is offered. On by default.
    pub fn path(mut self, on: bool) -> Self {
        self.path = on;
        self
    }

    /// Whether JSON-RPC 2.0 is offered: `POST /rpc` with `"jsonrpc": "2.0"`, and batches. On by default.
    pub fn json_rpc(mut self, on: bool) -> Self {
        self.json_rpc = on;
        self
    }

    /// Whether frames are offered: many calls at once on one connection, which clients go over to by themselves, and
    /// browsers by `new WebSocket(url, "byname.v1")`. On by default; a server that is mounted in another has none.
    pub fn frames(mut self, on: bool) -> Self {
        self.frames = on;
        self
    }

    /// Whether every request with a body must say `content-type: application/json`, not only those of browsers. Turn it
    /// on behind a proxy that strips `Origin` and `Sec-Fetch-Site`. Off by default: the original client says otherwise.
    pub fn require_json(mut self, on: bool) -> Self {
        self.require_json = on;
        self
    }

    /// The functions that this server serves, in the order in which they were added.
    ///
    /// ```
    /// # use byname::Server;
    /// let server = Server::new().function("double", |n: i64| async move { n * 2 });
    /// let names: Vec<_> = server.methods().map(|method| &*method.name).collect();
    /// assert_eq!(names, ["double"]);
    /// ```
    ///
    /// An `#[rpc]` function that is linked into the program but is not served was perhaps forgotten. The log names such
    /// functions at the start, and callers of one learn it where [`listing`](Self::listing) is on. Methods of an `impl`
    /// block are unknown until an instance is injected.
    pub fn methods(&self) -> impl ExactSizeIterator<Item = &Method> {
        self.handlers.iter().map(|handler| &*handler.method)
    }

    /// Serves at an address (`"127.0.0.1:8080"`, a port of 0 takes a free one), at a unix socket
    /// (`"unix:/run/orders.sock"`), or at a listener that is bound already, until the process is told to stop (SIGTERM, ctrl-c, or [`Serve::until`]). `localhost` is both 127.0.0.1 and
    /// `[::1]`, on one port; any other name is the first of its addresses that can be bound.
    ///
    /// A unix socket lets in processes of the server's own user; [`Listen::unix`] sets other permissions. The file of a
    /// server that has ended is replaced, that of one that lives is not, and the file is removed at the end.
    ///
    /// The first signal drains. Another ctrl-c during the drain ends the process at once, and so does either signal once
    /// this future has ended or was dropped.
    ///
    /// # Errors
    ///
    /// When awaited: two functions under one name, nothing to serve, an address that can't be bound; after the end,
    /// functions that were still running at [`Limits::drain`].
    pub fn serve(self, at: impl Into<Listen>) -> Serve {
        Serve::new(self, at.into())
    }

    /// The functions of whole packages, found by `server!`.
    #[doc(hidden)]
    pub fn registered(mut self, what: &str, belongs: impl Fn(&MethodSpec) -> bool) -> Self {
        let mut found = inventory::iter::<Registration>()
            .filter(|registration| belongs(registration.spec))
            .map(|registration| (registration.spec, (registration.handler)()))
            .collect::<Vec<_>>();
        found.sort_by_key(|(spec, _)| (spec.file, spec.line));
        if found.is_empty() && self.refused.is_none() {
            self.refused = Some(Error::refused(
                Code::FailedPrecondition,
                format!(
                    "{what} has no `#[rpc]` function that is linked into this program; a library is linked when \
                     something of it is used or `server!(its_name)` names it"
                ),
            ));
        }
        self.handlers.extend(found.into_iter().map(|(_, handler)| handler));
        self
    }

    /// As [`dispatch`](Self::dispatch), of a server that must serve something, at a path that callers can reach.
    fn something(&self, private: bool) -> Result<Dispatch, Error> {
        path_way::check(&self.endpoint).map_err(|why| {
            let why = format!("no client can reach the endpoint {}: {why}", quoted(&self.endpoint));
            Error::refused(Code::InvalidArgument, why)
        })?;
        self.cors.check(&self.origins)?;
        let dispatch = self.dispatch(private)?;
        if dispatch.methods().len() == 0 {
            return Err(Error::refused(
                Code::FailedPrecondition,
                "there is nothing to serve: add `.method::<f>()`, `.inject(instance)` or `.function(name, f)`",
            ));
        }
        Ok(dispatch)
    }

    /// What calls are run by. `private` says that only this machine can reach it.
    pub(crate) fn dispatch(&self, private: bool) -> Result<Dispatch, Error> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let mut registry = Registry::default();
        for handler in &self.handlers {
            registry.add(handler.clone())?;
        }
        let listing = match self.listing {
            Some(true) => Listing::Always,
            None if private && self.hosts.is_empty() => Listing::OnThisMachine,
            _ => Listing::Never,
        };
        Ok(Dispatch::new(registry, self.limits.clone(), listing, self.interceptors.clone()))
    }
}
