//! The server: registers functions and answers calls. [`Server`], [`Serve`], [`Bound`].

#[cfg(unix)]
mod activated;
#[cfg(feature = "etcd")]
mod announcement;
#[cfg(not(feature = "etcd"))]
#[path = "server/without_etcd.rs"]
mod announcement;
mod announcers;
mod bind;
mod blocking_watchdog;
mod connection;
mod connection_timeouts;
mod drain;
mod end_reason;
mod forwarded;
pub(crate) mod frame_connection;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
#[cfg(unix)]
mod given_unix;
#[cfg(all(unix, feature = "activation"))]
mod handed_over;
mod http;
mod limits_file;
mod listen;
#[cfg(all(unix, not(feature = "activation")))]
mod not_handed_over;
mod proxy_protocol;
#[cfg_attr(not(unix), allow(dead_code, reason = "only unix has signals"))]
mod server_handle;
mod signals;
#[cfg(feature = "tls")]
mod tls;
mod tower_service;
mod unix_socket;

pub use self::forwarded::ProxyHeader;
pub use self::http::Cors;
pub use self::listen::{Bound, Listen, Serve};
pub use self::server_handle::ServerHandle;
pub use self::tower_service::HttpService;
pub use self::unix_socket::UnixSocket;

use std::fmt;
use std::sync::Arc;

use self::forwarded::TrustedProxies;
use self::http::AllowedOrigins;
use crate::access_rules::AccessRules;
use crate::content_coding;
use crate::dispatch::{Dispatch, Listing};
use crate::error::{Code, Error};
use crate::function_limits::FunctionLimits;
use crate::handler::{Callable, Contract, Function, FunctionName, Handler, Inject, Registration};
use crate::interceptor::{InterceptorChain, Next};
use crate::key_store::KeyStore;
use crate::limits_and_timeouts::Limits;
use crate::metadata;
use crate::method::{Method, MethodSpec, Source};
use crate::networks::NetworkList;
use crate::registry::Registry;
use crate::request::{Reply, Request};
use crate::service_schema;
use crate::transport::ServerTls;
use crate::untrusted_text::quoted;
use crate::wire::path_format;

/// A server and the functions that it serves. Only functions that are added to it are served.
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
    console: Option<bool>,
    plain: bool,
    path: bool,
    json_rpc: bool,
    metrics: Option<bool>,
    explains_clients: bool,
    /// `None` until the user says it: then only an own listener offers frames.
    frames: Option<bool>,
    require_json: bool,
    access_log: bool,
    compress: bool,
    trusted_proxies: Option<TrustedProxies>,
    trusted_priority: NetworkList,
    interceptors: InterceptorChain,
    rules: AccessRules,
    function_limits: Vec<(String, FunctionLimits)>,
    key_store: Option<KeyStoreHandle>,
    sensitive_headers: Vec<String>,
    tls: Option<ServerTls>,
}

/// The store of the user, which need not be `Debug`.
#[derive(Clone)]
struct KeyStoreHandle(Arc<dyn KeyStore>);

impl fmt::Debug for KeyStoreHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyStore")
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server without functions. `byname::server!()` is a server with every `#[rpc]` function of the package.
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
            console: None,
            plain: true,
            path: true,
            json_rpc: true,
            metrics: None,
            explains_clients: false,
            frames: None,
            require_json: false,
            access_log: false,
            compress: false,
            trusted_proxies: None,
            trusted_priority: NetworkList::default(),
            interceptors: InterceptorChain::default(),
            rules: AccessRules::default(),
            function_limits: Vec::new(),
            key_store: None,
            sensitive_headers: Vec::new(),
            tls: None,
        }
    }

    /// Serves one `#[rpc]` function: `.method::<add>()`.
    pub fn method<F: Function>(mut self) -> Self {
        self.handlers.push(F::handler());
        self
    }

    /// Serves the methods of an instance whose `impl` block has `#[rpc]`. It is a value or an `Arc`. In tests it may
    /// also be a [`Fake`](crate::Fake) of one function or method.
    pub fn inject(mut self, instance: impl Inject) -> Self {
        self.handlers.extend(instance.handlers());
        self
    }

    /// As [`inject`](Self::inject), with `prefix` and a dot before each name. So two instances of one type can be
    /// served side by side. A client calls them with [`Client::prefix`](crate::Client::prefix).
    pub fn inject_as(mut self, prefix: &str, instance: impl Inject) -> Self {
        self.handlers.extend(instance.handlers().iter().map(|handler| handler.prefixed(prefix)));
        self
    }

    /// Serves the methods of one `#[rpc]` trait that `instance` implements: `.contract::<UsersContract, _>(db)`. The
    /// instance is a value or an `Arc`. Use this for a type that implements several such traits. For a type with one,
    /// `#[rpc]` on its `impl` and [`inject`](Self::inject) do the same.
    pub fn contract<C: Contract<T>, T>(mut self, instance: T) -> Self {
        self.handlers.extend(C::handlers(instance));
        self
    }

    /// Serves any async function or closure under a name, for code that can't have the attribute. Its arguments are
    /// owned: `String`, not `&str`. Callers pass them by position. Callers can pass them by name if you give names, and
    /// a typed stub always passes by name. Without names they are `arg0`, `arg1`, ….
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

    /// Adds an interceptor around every call, over every way in and also in this process. It sees the caller and the
    /// name. It may store data for the function, reject the call, and look at the reply. The interceptor that is added
    /// first is the outermost. The arguments are not decoded yet. Calls of unknown names pass through it as well.
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
    ///     match request.bearer() {
    ///         Some(token) if token.matches("1234") => request.extensions_mut().insert(User("ada".into())),
    ///         _ => return Err(Error::new(Code::Unauthenticated, "say who you are: authorization: Bearer …")),
    ///     };
    ///     Ok(next.run(request).await)
    /// });
    /// ```
    ///
    /// An error that the interceptor returns is sent like an error of a function; `executed` says whether the function
    /// ran. A panic is caught. Interceptors are a part of the call: they use its permit of [`Limits::in_flight`] and
    /// end at its deadline.
    pub fn intercept<F, Fut>(mut self, interceptor: F) -> Self
    where
        F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Reply>> + Send + 'static,
    {
        self.interceptors.push(interceptor);
        self
    }

    /// Says who may call the functions whose registered names match `pattern`: the callers that `admits` is true for. A
    /// pattern is a name, `a.*` for all names below `a`, or `*`.
    ///
    /// The first rule that matches a function decides about its calls, over every way in and also in this process. An
    /// alias is decided by the name that it stands for. **If there is a rule, functions that no rule matches can't be
    /// called.** Rules run after all [interceptors](Self::intercept), which establish who the caller is.
    ///
    /// ```
    /// use byname::{rpc, Next, Request, Server};
    ///
    /// #[derive(Clone)]
    /// struct User { is_admin: bool }
    ///
    /// #[rpc(name = "orders.get", readonly)]
    /// async fn get(id: u64) -> String { format!("order {id}") }
    ///
    /// #[rpc(name = "admin.erase")]
    /// async fn erase() {}
    ///
    /// Server::new()
    ///     .method::<get>()
    ///     .method::<erase>()
    ///     .intercept(|mut request: Request, next: Next| async move {
    ///         if request.bearer().is_some_and(|token| token.matches("1234")) {
    ///             request.extensions_mut().insert(User { is_admin: true });
    ///         }
    ///         next.run(request).await
    ///     })
    ///     .allow("admin.*", |request| request.extensions().get::<User>().is_some_and(|user| user.is_admin))
    ///     .allow_anyone("orders.get");
    /// ```
    ///
    /// A call that is refused does not run. Its error is `permission_denied`, or `unauthenticated` if the caller sent no
    /// bearer token and its connection proves nothing. With an `authorization` of another kind it is `permission_denied` if
    /// something is in the extensions of the call: an interceptor has put it there, or the application that the server is
    /// [mounted](Self::into_service) in. The log says at level DEBUG which rule refused.
    /// A rule that panics refuses. The probes `!live` and `!ready` need no rule.
    ///
    /// A caller that may not call every function gets the same answer for a hidden function and for a name that no
    /// function has. To find out whether a caller may call every function, byname asks the rules about each function when
    /// the called name does not exist. [`Request::method`] says which function a rule is asked about.
    ///
    /// A pattern that is invalid, that matches no function, or whose functions are all decided by earlier rules is an
    /// error at the start. Without it a misspelt name would leave a function to a wider rule. A function that no rule
    /// matches is a warning in the log.
    pub fn allow(mut self, pattern: &str, admits: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.rules.push(pattern, admits);
        self
    }

    /// Admits every caller to the functions whose registered names match `pattern`. It is a rule as those of
    /// [`allow`](Self::allow).
    pub fn allow_anyone(mut self, pattern: &str) -> Self {
        self.rules.push_anyone(pattern);
        self
    }

    /// Limits the functions whose registered names match `pattern` (`reports.get`, `reports.*` or `*`), all together, and single
    /// callers of them. With several calls of this method all limits hold. A call beyond a limit is refused before its arguments are
    /// decoded: `resource_exhausted`, not executed, with the time after which to try again.
    ///
    /// ```
    /// use byname::{rpc, Server};
    ///
    /// # #[rpc(name = "reports.month")] async fn month(month: u32) -> String { month.to_string() }
    /// Server::new().method::<month>().limits_for("reports.*", |limits| {
    ///     limits.in_flight = Some(8);
    ///     limits.rate_per_caller = Some(10);
    /// });
    /// ```
    ///
    /// A pattern that is invalid or matches no function, and a rate of zero, are errors at the start.
    pub fn limits_for(mut self, pattern: &str, change: impl FnOnce(&mut FunctionLimits)) -> Self {
        let mut limits = FunctionLimits::default();
        change(&mut limits);
        self.function_limits.push((pattern.to_owned(), limits));
        self
    }

    /// Keeps the replies of calls with an [`idempotency_key`](crate::Call::idempotency_key) in this store, for example in a
    /// database, so that such a call runs once also if the server restarts, or if the repetition goes to another server.
    /// Without this the server keeps them in its memory, for [`Limits::key_window`].
    ///
    /// A second call of this method replaces the first.
    pub fn key_store(mut self, store: impl KeyStore) -> Self {
        self.key_store = Some(KeyStoreHandle(Arc::new(store)));
        self
    }

    /// Headers whose values are secrets, such as `x-api-key`. `Debug` of a call's headers shows them as `Sensitive`, and
    /// so does that of [`Context`](crate::Context). `authorization`, `proxy-authorization`, `cookie` and `set-cookie` are
    /// secrets without this. No log line and no error of byname has the value of such a header.
    ///
    /// A name that can't be a header is an error at the start.
    ///
    /// ```
    /// # use byname::Server;
    /// Server::new().function("double", |n: i64| async move { n * 2 }).sensitive_headers(["x-api-key"]);
    /// ```
    pub fn sensitive_headers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.sensitive_headers.extend(names.into_iter().map(Into::into));
        self
    }

    /// Changes limits and time-outs: `.limits(|limits| limits.message = 64 << 20)`.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// The path of the endpoint, `/rpc` by default. Write it percent-encoded, as in a URL. Any other form is an error
    /// at the start.
    pub fn endpoint(mut self, path: &str) -> Self {
        self.endpoint = format!("/{}", path.trim_matches('/'));
        self
    }

    /// The names of this server. A request with another `Host` is answered 421. Each name is a host, or a host and a
    /// port. A dot at the end of a host is ignored: `orders.internal.` is `orders.internal`. By default, a server that is
    /// bound to a loopback address accepts only loopback names, so that a web page can't reach it by DNS rebinding. Any
    /// other server accepts every name, also at a unix socket, which no web page can reach. Loopback names are always
    /// accepted at a loopback address and at a unix socket.
    pub fn hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.hosts.extend(hosts.into_iter().map(|host| host.into().to_ascii_lowercase()));
        self
    }

    /// Proxies that may say who their client is, and the one header in which they say it. A call that comes from one of
    /// these networks has the client as its [`Peer::address`](crate::Peer::address): the first address in the header, from
    /// the right, that is not in the networks itself. [`Peer::connection`](crate::Peer::connection) stays the proxy's.
    ///
    /// ```
    /// use byname::{ProxyHeader, Server};
    ///
    /// Server::new().trust_proxy(["10.0.0.0/8", "fd00::/8", "127.0.0.1"], ProxyHeader::XForwardedFor);
    /// ```
    ///
    /// A network is an address with a prefix or without, or `unix` for the other end of any unix socket. A network of all
    /// addresses (`0.0.0.0/0`, `::/0`) is an error at the start: every caller could name any client. Name only
    /// proxies that set this header themselves or add to it, because callers can send it too. The header is ignored if it
    /// comes from elsewhere, and the other header is always ignored. If the header is missing or malformed, or says
    /// `unknown`, the address is the proxy's, so let no rule rely on that address. A connection that changes to frames
    /// keeps the client of the request that asked for the change. A second call of this method replaces the first.
    pub fn trust_proxy<N: Into<String>>(mut self, networks: impl IntoIterator<Item = N>, header: ProxyHeader) -> Self {
        match TrustedProxies::new(networks, header) {
            Ok(proxies) => self.trusted_proxies = Some(proxies),
            Err(why) => drop(self.refused.get_or_insert(why)),
        }
        self
    }

    /// Networks whose callers may raise the [`Priority`](crate::Priority) of their calls. A caller with a proven
    /// [`Peer::identity`](crate::Peer::identity) may do so anyway. All others can only lower it: a call is never more
    /// important than `#[rpc(priority = "…")]` of its function, or than `default`, because every caller would call its own calls
    /// critical.
    ///
    /// ```
    /// # use byname::Server;
    /// Server::new().trust_priority(["10.0.0.0/8", "127.0.0.1"]);
    /// ```
    ///
    /// Networks are written as for [`trust_proxy`](Self::trust_proxy). The address is [`Peer::address`](crate::Peer::address):
    /// behind a trusted proxy that of its client. The identity of a proxy is not that of its clients. A second call of this
    /// method replaces the first.
    pub fn trust_priority<N: Into<String>>(mut self, networks: impl IntoIterator<Item = N>) -> Self {
        match NetworkList::parse("Server::trust_priority", networks) {
            Ok(networks) => self.trusted_priority = networks,
            Err(why) => drop(self.refused.get_or_insert(why)),
        }
        self
    }

    /// Web origins, such as `https://app.example`, whose pages may call, in addition to the server's own pages. The
    /// server answers preflights itself. It needs no CORS layer, and such a layer admits no page. [`cors`](Self::cors)
    /// sets what else pages may do.
    ///
    /// ```
    /// # use byname::Server;
    /// Server::new().origins(["https://app.example", "https://*.preview.example", "http://localhost:3000"]);
    /// ```
    ///
    /// A `*` is the first label of a host, and exactly one: `https://*.preview.example` is
    /// `https://pr-17.preview.example`, but neither `https://preview.example` nor `https://a.b.preview.example`. `*` alone
    /// is every page of the web. Use it only for functions that anybody may call from anywhere. Capital letters, the port
    /// of the scheme, and the long form of an IPv6 address make no difference. A host that is not ASCII must be written as
    /// browsers send it (`xn--…`). `null` is the origin of every page that has none: files, sandboxed frames, `data:` URLs.
    /// Any site can make such a page, so it admits as many as `*` does. An invalid origin is an error when the server
    /// starts, and so is another one beside `*`.
    pub fn origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        let as_sent = |origin: O| origin.into().trim_end_matches('/').to_ascii_lowercase();
        self.origins.extend(origins.into_iter().map(as_sent));
        self
    }

    /// What the pages of [`origins`](Self::origins) may do in addition to calling: set other headers, read the headers
    /// of answers, send cookies. Without `origins` it has no effect.
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

    /// Whether callers may learn names: the answer to an unknown name suggests similar names, or says how to serve the
    /// `#[rpc]` function of that name. Such callers also see the schema and the [console](Self::console). On by default on a
    /// loopback address and at a unix socket without [`hosts`](Self::hosts), otherwise off. The default never applies to a
    /// request with `forwarded`, `x-forwarded-for`, `x-real-ip` or `via`: a proxy has passed it on, and its caller may be
    /// anywhere.
    pub fn listing(mut self, on: bool) -> Self {
        self.listing = Some(on);
        self
    }

    /// Whether a browser that opens the endpoint, `http://localhost:8080/rpc`, sees the console: the functions with forms to
    /// call them, their figures and recent calls. It is on where [`listing`](Self::listing) is on by default or was turned
    /// on, so on a loopback address. `console(true)` turns it on everywhere and for requests that a proxy has passed on,
    /// `console(false)` turns it off everywhere.
    ///
    /// ```
    /// use byname::{Code, Error, Next, Request, Server};
    ///
    /// # let server = Server::new().function("double", |n: i64| async move { n * 2 });
    /// server.console(true).intercept(|request: Request, next: Next| async move {
    ///     // The page and its files have this name. The proxy in front has signed the user in.
    ///     if request.name() == "!console" && request.header("x-signed-in-user").is_none() {
    ///         return Err(Error::new(Code::PermissionDenied, "the console is for those who are signed in"));
    ///     }
    ///     Ok(next.run(request).await)
    /// });
    /// ```
    ///
    /// A request for the page passes the rules for [`hosts`](Self::hosts) and [`origins`](Self::origins), then all
    /// [interceptors](Self::intercept), as a call of the name `!console`, and then the rules of [`allow`](Self::allow): the
    /// page is shown to a caller that may call some function, and has the functions that this caller may call. What the page
    /// calls passes all of that as every other call does. The page may also read the listing and the figures where they
    /// are off otherwise.
    ///
    /// # What protects the calls of the page
    ///
    /// - **A page of another site** can't call: its requests are refused by `Sec-Fetch-Site` and `Origin`, and its
    ///   bodies by their content type. It can't read the page, and can't show it in a frame. It can link to it. A link
    ///   may fill in a form, and only the user sends it.
    /// - **A call from the page** of a function that is not `readonly` has the header `byname-console` with a token that the
    ///   server made at its start. A call with another token is refused with 403 before interceptors see it. So an
    ///   interceptor that finds the header knows that the call comes from the page of this server, and may refuse it:
    ///   `request.header("byname-console").is_some()`. The token says which page calls, not who. Anyone who may
    ///   load the page can read it. It is not shown by `Debug`, and no call hands it on.
    /// - **A name that an attacker points to this address** (DNS rebinding) is refused by the rule for hosts. Off
    ///   loopback, set [`hosts`](Self::hosts).
    /// - **Texts of the service**, such as documentation and errors, are shown as text. The page has a content security
    ///   policy without inline scripts and styles, loads nothing from elsewhere, and creates no HTML from text.
    /// - **What users type** stays in the tab: the history of calls has no headers, and ends with the tab.
    ///
    /// With several replicas behind one address each has its own token. The page gets the token of the replica that
    /// answers, and repeats the refused call once, which did not run.
    pub fn console(mut self, on: bool) -> Self {
        self.console = Some(on);
        self
    }

    /// Whether `GET /rpc/!metrics` has what was counted of the calls of each function and of the clients of this process, for
    /// Prometheus, and `GET /rpc/!stats` the same as JSON, for `byname top`. By default that is where [`listing`](Self::listing) is on.
    /// Both go through the rules for hosts and origins and through interceptors, and show only functions that the caller may
    /// [call](Self::allow). They have names, codes, times and the addresses of other services, and nothing of callers, arguments or results.
    /// Counting itself is always on.
    ///
    /// ```
    /// # use byname::Server;
    /// let server = Server::new().function("double", |n: i64| async move { n * 2 }).metrics(true);
    /// ```
    ///
    /// ```console
    /// $ curl localhost:8080/rpc/!metrics
    /// ```
    ///
    /// In the process the same is in [`ServerHandle::stats`] and [`Client::stats`](crate::Client::stats).
    pub fn metrics(mut self, on: bool) -> Self {
        self.metrics = Some(on);
        self
    }

    /// Whether `GET /rpc/!explain` says what the clients of this process know of their services: the replicas with their load
    /// and state, the connections, the limits, as [`Client::explain`](crate::Client::explain) does. Off by default. It goes
    /// through the rules for hosts and origins, but not through [`allow`](Self::allow) or interceptors. So turn it on only
    /// where every caller may see the addresses of your services.
    ///
    /// ```console
    /// $ curl localhost:8080/rpc/!explain
    /// ```
    pub fn explain_clients(mut self, on: bool) -> Self {
        self.explains_clients = on;
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

    /// Whether frames are offered: many calls at once on one connection. Clients of byname change to them by
    /// themselves, and browsers use them with `new WebSocket(url, "byname.v1")`. On by default, but off where the server
    /// is [mounted](Self::into_service) in another, until `.frames(true)` turns it on there: layers around a mounted
    /// server see the upgrade and none of its calls.
    pub fn frames(mut self, on: bool) -> Self {
        self.frames = Some(on);
        self
    }

    /// Whether every request with a body must have `content-type: application/json`, not only requests of browsers.
    /// Turn it on behind a proxy that removes `Origin` and `Sec-Fetch-Site`. Off by default, because the original
    /// client sends another type.
    pub fn require_json(mut self, on: bool) -> Self {
        self.require_json = on;
        self
    }

    /// Whether each call is one event of `tracing`, at level INFO with the target `byname::access`. Off by default.
    ///
    /// ```
    /// # use byname::Server;
    /// let server = Server::new().function("double", |n: i64| async move { n * 2 }).access_log(true);
    /// // INFO byname::access: rpc.method="double" rpc.response.status_code="ok" duration_ms=0.183 way="path" …
    /// ```
    ///
    /// The names of its fields are stable. Those with a dot are of OpenTelemetry's [conventions for
    /// RPC](https://opentelemetry.io/docs/specs/semconv/rpc/). A field is absent if its value is not known.
    ///
    /// | field | type | |
    /// | --- | --- | --- |
    /// | `rpc.method` | string | the registered name of the function, also if an alias was called; `_OTHER` if no function has the name |
    /// | `rpc.method_original` | string | the name as the caller wrote it, escaped, of at most 128 bytes, if no function has it |
    /// | `rpc.response.status_code` | string | `ok`, or the [`Code`] of the error that the caller gets. `cancelled` also if the caller went away before the end |
    /// | `duration_ms` | number | milliseconds from the head of the request, or the first frame of the call, until the answer is handed to the connection; of a stream until its end. Its resolution is a microsecond |
    /// | `way` | string | `plain`, `path`, `json-rpc`, `frames`, or `local` within the process |
    /// | `executed` | string | `yes`, `no` or `unknown`: whether the function ran |
    /// | `client.address`, `client.port` | string, integer | the address of [`Context::peer`](crate::Context::peer), of a unix socket with the credentials; absent within the process |
    /// | `identity` | string | who has opened the connection, if the connection proves it: the [SPIFFE ID](crate::Peer::spiffe_id) of a client's certificate, otherwise its first name, escaped; `uid 1000` at a unix socket. Behind a proxy it is the proxy's |
    /// | `request_bytes` | integer | the body of the request, of a JSON-RPC batch the call's own part, of frames the payload of the call; of a stream that the caller sends also the bytes of its items. Absent if no body was read |
    /// | `response_bytes` | integer | the body of the answer, of a JSON-RPC batch the call's own part, of frames the payload of the answer; of a stream the bytes of its items |
    /// | `items_received` | integer | the items of the caller's stream that came to the function; absent if the caller sent none |
    /// | `items_sent` | integer | the items of the stream that the function returned; absent if it returned none |
    /// | `trace_id` | string | the trace of the call: of the caller's `traceparent` if it sent a valid one, otherwise the one that the call began. A call begins one if its span is recorded, or if its function makes a call |
    /// | `span_id` | string | the call itself in its trace, under the same conditions |
    /// | `parent_id` | string | the call that made it, from the `traceparent` |
    ///
    /// Calls that are refused are events too, whether a limit, a rule about `Host` or `Origin` or a malformed body is the
    /// reason. Probes, preflights, upgrades, requests for other paths and what is not HTTP are not calls.
    pub fn access_log(mut self, on: bool) -> Self {
        self.access_log = on;
        self
    }

    /// Whether bodies over HTTP are compressed, in zstd and gzip. Off by default. It needs the feature `compression`:
    /// without it the server does not start. Frames are not compressed.
    ///
    /// ```
    /// # use byname::Server;
    /// let server = Server::new().function("double", |n: i64| async move { n * 2 });
    /// # #[cfg(feature = "compression")]
    /// let service = server.compress(true).into_service()?;
    /// # Ok::<(), byname::Error>(())
    /// ```
    ///
    /// **Answers** with a body of more than 1 KiB are compressed as the caller's `accept-encoding` prefers, zstd before
    /// gzip if it accepts both alike. Streams are compressed too, and each item can be decoded as soon as it arrives. An
    /// open stream then needs up to 400 KiB more memory. Raw bytes (`application/octet-stream`) are sent as they are,
    /// because they are often compressed already. So is an answer whose function has set `cache-control: no-transform`:
    ///
    /// ```
    /// # use byname::Context;
    /// # async fn f() -> Result<(), byname::Error> {
    /// Context::current().expect("in a call").reply_header("cache-control", "no-transform")?;
    /// # Ok(()) }
    /// ```
    ///
    /// **Requests** may have `content-encoding: zstd` or `gzip`.
    ///
    /// Limits and the [access log](Self::access_log) count bytes without compression. Above all,
    /// [`Limits::message`] counts what a body becomes, while it is decoded. A body that would become larger is rejected, and
    /// not decoded any further.
    ///
    /// **The length of a compressed answer reveals something about its content**, also over TLS. If an answer contains a
    /// secret beside text that an attacker can choose, the attacker can guess the secret piece by piece and see by the
    /// length which guess was right (the attack is called BREACH). Leave compression off, or set `no-transform`, where that
    /// is so.
    pub fn compress(mut self, on: bool) -> Self {
        self.compress = on;
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
    /// An `#[rpc]` function or an `#[rpc] impl` that is linked into the program but not served may have been forgotten.
    /// The server logs such functions and methods at its start, and tells callers of one if [`listing`](Self::listing)
    /// is on. It can't name a generic `impl<T> Users for Db<T>` of a contract, because only types without parameters
    /// register what is linked. It does not name an `impl` of a contract without `#[rpc]`, which is for
    /// [`contract`](Self::contract).
    pub fn methods(&self) -> impl ExactSizeIterator<Item = &Method> {
        self.handlers.iter().map(|handler| &*handler.method)
    }

    /// What this server can do: its functions with the schemas of their types, as `GET /rpc/!schema` answers it where
    /// [`listing`](Self::listing) is on.
    ///
    /// The schemas are there with the feature `schema`. They are made by running each type's own `Deserialize` on invented values:
    /// once, in a second for each function at most, on a thread of its own. A type whose code panics or never ends is open. With `panic = "abort"` such a type ends the process.
    ///
    /// ```
    /// # use byname::{Server, rpc};
    /// #[rpc]
    /// async fn add(a: i64, b: i64) -> i64 {
    ///     a + b
    /// }
    ///
    /// let schema = Server::new().method::<add>().schema();
    /// let b = &schema.functions[0].arguments[1];
    /// assert_eq!((b.name.as_str(), b.required), ("b", true));
    /// # if cfg!(feature = "schema") {
    /// assert_eq!(b.schema["type"], "integer");
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If no thread can be started.
    pub fn schema(&self) -> byname_schema::ServiceSchema {
        service_schema::described(self.handlers.iter().map(|handler| Arc::clone(&handler.method)).collect())
    }

    /// Serves at an address (`"127.0.0.1:8080"`; port 0 chooses a free one), at a unix socket
    /// (`"unix:/run/orders.sock"`), or at a listener that is already bound, until the process is told to stop (SIGTERM,
    /// ctrl-c, or [`Serve::until`]). `localhost` is both 127.0.0.1 and `[::1]`, on one port. For any other name, it is
    /// the first of its addresses that can be bound.
    ///
    /// Processes of the server's own user may connect to a unix socket; [`Listen::unix`] sets other permissions. The
    /// server replaces the file of a server that has ended, but not of a live one, and removes its file at the end.
    ///
    /// The first signal starts the drain. Another ctrl-c during the drain ends the process at once. So does either
    /// signal after this future has ended or was dropped.
    ///
    /// # Errors
    ///
    /// When awaited: two functions with one name, nothing to serve, an address that can't be bound. At the end:
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
                    "{what} has no `#[rpc]` function that is linked into this program; a library is linked if \
                     the program uses an item of it, or if `server!(its_name)` names it"
                ),
            ));
        }
        self.handlers.extend(found.into_iter().map(|(_, handler)| handler));
        self
    }

    /// As [`dispatch`](Self::dispatch), for a server that must serve something, at a path that callers can reach.
    fn something(&self, private: bool) -> Result<Dispatch, Error> {
        path_format::check(&self.endpoint).map_err(|why| {
            let why = format!("no client can reach the endpoint {}: {why}", quoted(&self.endpoint));
            Error::refused(Code::InvalidArgument, why)
        })?;
        AllowedOrigins::parse(&self.origins)?;
        self.cors.check(&self.origins)?;
        if self.compress {
            content_coding::check_available("Server::compress")?;
        }
        let dispatch = self.dispatch(private)?;
        if dispatch.methods().len() == 0 {
            return Err(Error::refused(
                Code::FailedPrecondition,
                "there is nothing to serve: add `.method::<f>()`, `.inject(instance)` or `.function(name, f)`",
            ));
        }
        Ok(dispatch)
    }

    /// The dispatch that runs the calls. `private` says that only this machine can reach the server.
    pub(crate) fn dispatch(&self, private: bool) -> Result<Dispatch, Error> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let mut registry = Registry::default();
        for handler in &self.handlers {
            registry.add(handler.clone())?;
        }
        for (pattern, limits) in &self.function_limits {
            registry.limit(pattern, limits)?;
        }
        let listing = match self.listing {
            Some(true) => Listing::Always,
            None if private && self.hosts.is_empty() => Listing::OnThisMachine,
            _ => Listing::Never,
        };
        let mut dispatch = Dispatch::new(registry, self.limits.clone(), listing, self.interceptors.clone());
        dispatch.log_access(self.access_log);
        dispatch.show_console(self.console);
        if let Some(on) = self.metrics {
            dispatch.show_metrics(on);
        }
        dispatch.trust_priority(self.trusted_priority.clone());
        if let Some(KeyStoreHandle(store)) = &self.key_store {
            dispatch.keep_replies(Arc::clone(store));
        }
        let sensitive = self.sensitive_headers.iter().map(|name| metadata::name(name));
        dispatch.hide_headers(sensitive.collect::<Result<_, _>>()?);
        dispatch.keep_rules(self.rules.clone())?;
        dispatch.take_certificates(self.tls.as_ref().is_some_and(ServerTls::accepts_clients));
        Ok(dispatch)
    }
}
