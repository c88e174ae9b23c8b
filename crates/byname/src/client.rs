//! The client: calls to one service, by typed stub or by name. [`Client`], [`Call`].

mod address_order;
mod affinity;
#[cfg(feature = "etcd")]
mod announced_replicas;
mod await_all;
mod call;
mod call_errors;
mod call_lanes;
mod coded_bodies;
mod connect;
mod connection_pool;
mod discover;
mod discovery;
mod discovery_state;
#[cfg(feature = "dns")]
mod dns;
#[cfg(not(feature = "dns"))]
#[path = "client/without_dns.rs"]
mod dns;
mod ejection;
mod endpoint;
mod endpoint_set;
mod endpoint_url;
#[cfg(feature = "etcd")]
mod etcd_replicas;
#[cfg(not(feature = "etcd"))]
#[path = "client/without_etcd.rs"]
mod etcd_replicas;
mod explanation;
mod frame_attempt;
pub(crate) mod frame_connection;
mod frame_connection_plan;
mod frame_connection_set;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod hedge;
mod http1_connection;
mod http_attempt;
mod http_connections;
mod http_exchange;
mod http_instance_search;
mod http_replica_choice;
mod http_request;
mod idle_connection_sweeper;
mod instance_search;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(not(feature = "kubernetes"))]
#[path = "client/without_kubernetes.rs"]
mod kubernetes;
mod kubernetes_service;
mod latency_histogram;
mod name_addresses;
mod outgoing_call;
mod policy;
#[cfg(feature = "schema")]
mod remembered_comparisons;
mod rendezvous_hash;
mod renewed_token;
mod replica_address;
mod replica_choice;
mod replica_file;
mod replica_load;
mod replica_outcome;
mod replica_source;
mod replica_subset;
mod reply_stream;
mod retry;
mod retry_budget;
mod route;
mod runtime_connections;
mod service;
mod service_target;
mod service_url;
mod short_lived_clients;
mod stream_call;
#[cfg(feature = "schema")]
mod stub_check;
#[cfg(feature = "schema")]
mod stub_comparison;
#[cfg(not(feature = "schema"))]
#[path = "client/without_stub_comparison.rs"]
mod stub_comparison;
mod throttle;
#[cfg(feature = "tls")]
mod tls;
mod tried_replicas;
mod typed_result;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use byname_schema::ServiceSchema;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;
use serde_json::Value;

pub use self::call::{ByName, Call, WithMetadata};
pub(crate) use self::call::{call, call_borrowed};
pub use self::discover::{Discover, DiscoverFuture, KnownReplicas, Replicas};
pub use self::explanation::{
    ExplainedConnections, ExplainedReplica, ExplainedService, ExplainedSetting, Explanation, ReplicaState,
    SettingSource,
};
use self::explanation::{hedge_value, policy_settings, repeated_setting, usual_timeout};
pub use self::policy::Policy;
use self::policy::PolicySet;
use self::renewed_token::RenewedToken;
use self::replica_subset::ReplicaSubset;
use self::route::Route;
use self::service::Service;
use self::service_target::{GivenReplicas, ServiceTarget};
use self::service_url::ServiceUrl;
pub use self::stream_call::StreamCall;
pub use self::typed_result::Remote;

use crate::bearer_token::{self, IssuedToken};
use crate::codec::Codec;
use crate::content_coding;
use crate::dispatch::Dispatch;
use crate::error::{CallError, Code, Error};
use crate::interceptor::{InterceptorChain, Next};
use crate::limits_and_timeouts::Limits;
use crate::metadata;
use crate::method::Method;
use crate::name;
use crate::request::{Reply, Request};
use crate::runtime::{self, ClientHome};
use crate::stats::ClientStats;
use crate::transport::ClientTls;

/// A handle to one service. It is cheap to clone, and clones share their connections.
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
/// A client works from any async runtime and from plain threads, and may be in a `static`. Each connection belongs to
/// the tokio runtime that opened it. Calls that are made outside of tokio run on one background thread that all clients
/// share. The client connects at its first call.
///
/// Make a client once and keep it. Clients share no connections, not even two clients of the same address, because each
/// may have other limits. A client that is made for one call opens a connection for it, and leaves a socket in
/// TIME_WAIT. If 32 clients of one address are dropped within a minute after one or two calls each, a warning is logged
/// with `tracing`, at most once in ten minutes for an address.
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
/// # When a call is repeated
///
/// A client repeats a call that failed with `unavailable` or `resource_exhausted`, if that is safe: if the function is
/// declared `idempotent` or `readonly`, or if [it did not run](crate::Executed::No). A call is sent three times at most, and
/// never after its deadline. The delays are random, from 0 up to 50 ms and then 100 ms. [`policy`](Self::policy) changes both. If the error says when to come again
/// ([`Error::retry_after`]), that is added, but at most 5 s.
///
/// All calls of a client share a budget: a tenth of the calls, and at least one a second. A call of which nothing was sent
/// is repeated without it. [`Error::without_retry`] ends the call at once. While a function serves a repetition
/// ([`Context::attempt`](crate::Context::attempt)), the calls that it makes are not repeated in turn.
///
/// # In tests
///
/// Tests with tokio's clock paused use [`Client::local`]. While a runtime waits for a socket, a paused clock advances
/// to the next deadline, and the call fails with `deadline_exceeded`.
#[derive(Clone)]
pub struct Client {
    scope: Arc<CallScope>,
}

/// The transport of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Frames: many calls at once on one connection. With 64 calls in flight at once, a runtime of several threads opens more to
    /// the same server, at most four. The first calls use HTTP. When the server has offered frames, the
    /// client opens a connection of frames in the background, and closes those of HTTP. If the server or a proxy does
    /// not support frames, calls continue over HTTP. If a name has several addresses, the client opens a connection to
    /// each, up to twenty. For each call it compares three of them, and uses the one with the lowest estimated load.
    ///
    /// One address may stand for several servers, because a balancer forwards each connection to one of them. The client
    /// notices it by further connections, up to five in the first second, and keeps one to each server. Those that
    /// lead to a server that has one are closed before any call. [`Limits::connection_age`] is the age at which a
    /// connection is replaced.
    #[default]
    Frames,
    /// Only HTTP/1.1. If a name has several addresses, each call goes to the least loaded of three of them too. The client
    /// notices several servers behind one address by further connections, five in the first few thousand calls, and the
    /// servers take turns.
    Http,
}

/// The settings that all calls of one handle share.
#[derive(Clone)]
struct CallScope {
    way: Route,
    prefix: String,
    timeout: Option<Duration>,
    policies: PolicySet,
    headers: HeaderMap,
    /// Whether the baggage of a call that is served goes with the calls that are made meanwhile.
    passes_baggage_on: bool,
    refused: Option<Error>,
    /// The token of its calls, if it expires. Another one is in `headers`.
    token: Option<Arc<RenewedToken>>,
    /// Whether its calls have a token.
    has_token: bool,
    /// Whether a token may be sent where others can read it.
    exposes_token: bool,
    encoded: bool,
    codec: Codec,
    interceptors: InterceptorChain,
    home: ClientHome,
}

impl CallScope {
    fn new(way: Route) -> Self {
        Self {
            way,
            prefix: String::new(),
            timeout: None,
            policies: PolicySet::default(),
            headers: HeaderMap::new(),
            passes_baggage_on: false,
            refused: None,
            token: None,
            has_token: false,
            exposes_token: false,
            encoded: false,
            codec: Codec::default(),
            interceptors: InterceptorChain::default(),
            home: ClientHome::here(),
        }
    }

    fn set_policy(&mut self, pattern: &str, change: impl Fn(&mut Policy) + Send + Sync + 'static) {
        let usual = Policy::new(self.way.limits().call, false);
        if let Err(error) = self.policies.push(pattern, usual, change) {
            self.refused = Some(error);
        }
    }

    /// The policy of calls of this function.
    #[inline]
    fn policy(&self, name: &str, method: Option<&Method>) -> Policy {
        let timeout = self.timeout.or(method.and_then(|method| method.timeout)).unwrap_or(self.way.limits().call);
        let usual = Policy::new(timeout, method.is_some_and(|method| method.hedge));
        if self.policies.is_empty() { usual } else { self.policies.apply(name, usual) }
    }

    /// What a call of this function would do. `own` is the time-out of the call itself, and `service` what is known of the
    /// service.
    fn explained(
        &self,
        name: &str,
        method: Option<&'static Method>,
        own: Option<Duration>,
        service: Option<ExplainedService>,
    ) -> Explanation {
        let (timeout, timeout_source) = match (self.timeout, method.and_then(|method| method.timeout)) {
            (Some(timeout), _) => (timeout, SettingSource::Client),
            (None, Some(timeout)) => (timeout, SettingSource::Attribute),
            (None, None) => usual_timeout(self.way.limits()),
        };
        let is_hedged = method.is_some_and(|method| method.hedge);
        let usual = Policy::new(timeout, is_hedged);
        let set_by = self.policies.sources(name, usual.clone());
        let policy = self.policies.apply(name, usual);
        let hedge = match (&self.way, &service) {
            _ if !policy.hedge => "off".to_owned(),
            (Route::Remote(remote), Some(service)) => {
                let delay = method.and_then(|method| remote.hedge_delay(method));
                hedge_value(method, policy.attempts, service.has_several_replicas(), delay)
            }
            _ => "on".to_owned(),
        };
        let mut settings = policy_settings(&policy, timeout_source, method, hedge, &set_by);
        if let Some(own) = own {
            settings[0] = ExplainedSetting { name: "timeout", value: format!("{own:?}"), source: SettingSource::Call };
        }
        settings.push(repeated_setting(method));
        let is_hopeless = own.unwrap_or(policy.timeout).is_zero();
        let refused = self.refusal().or_else(|| is_hopeless.then(|| call::no_time(name)));
        Explanation { name: name.to_owned(), settings, refused, service }
    }

    /// Why no call can be made, if so.
    fn refusal(&self) -> Option<Error> {
        if self.refused.is_none()
            && self.has_token
            && !self.exposes_token
            && let Route::Remote(service) = &self.way
            && service.is_exposed()
        {
            let why = format!(
                "a bearer token for {} could be read by others, because the connection is not encrypted and leaves this \
                 machine; use https://, or `Client::allow_plaintext_token` if the network is trusted",
                service.url()
            );
            return Some(Error::refused(Code::FailedPrecondition, why));
        }
        self.refused.clone()
    }
}

impl Client {
    /// A client of the service at `url`:
    ///
    /// | `url` | the replicas |
    /// | --- | --- |
    /// | `orders.internal:8080/rpc` | every address of the name. It is resolved again every five seconds while the client is used. With the feature `dns` it is resolved again when its TTL is over, after 1 to 20 seconds |
    /// | `10.0.0.1:8080,10.0.0.2:8080/rpc` | each element of the list. A name stands for all its addresses |
    /// | `unix:/run/orders.sock` | the unix socket. Further ones follow after a comma: `,unix:/run/b.sock` |
    /// | `file:///etc/orders.replicas` | the lines of the file, such as `10.0.0.1:8080` or `unix:/run/orders.sock`. `#` begins a comment. The file is read again every five seconds while the client is used |
    /// | `srv://_rpc._tcp.orders.internal` | the targets of these SRV records that have the lowest priority. Weights are ignored. Servers see the host `orders.internal`. It needs the feature `dns` |
    /// | `k8s://shop/orders` | the ready pods of the service `orders` in the namespace `shop` of Kubernetes, by the account of the pod that the client is in. If the pods have several ports, `k8s://shop/orders:http` names one, or gives its number. Servers see the host `orders.shop.svc`. The pods are watched while the client is used. It needs the feature `kubernetes` |
    /// | `etcd://10.0.0.1:2379,10.0.0.2:2379/orders` | the servers that [announce](crate::Serve::announce) themselves in this cluster of etcd, below `orders/`. It is watched while the client is used. It needs the feature `etcd` |
    ///
    /// Without a scheme it is `http://`. The scheme stands once, before the first host, and the path once, after the last.
    /// `https://` needs the feature `tls`. Other places of replicas are given to [`ClientBuilder::discover`].
    ///
    /// Options follow after a `?`, joined by `&`, at the end of the URL or of a line of a file:
    ///
    /// - `endpoint=/rpc` is the path of the server's endpoint, where there is no other. The default is `/rpc`.
    /// - `tls=orders.internal` encrypts with TLS. The server's certificate must have this name, and it is the host that the
    ///   server sees.
    ///
    /// ```
    /// use byname::Client;
    ///
    /// let list = Client::new("10.0.0.1:8080,10.0.0.2:8080/rpc")?;
    /// let file = Client::new("file:///etc/orders.replicas?endpoint=/orders")?;
    /// # Ok::<(), byname::Error>(())
    /// ```
    ///
    /// If the replicas can't be looked up, or there are none, the last ones that were found stay in use.
    /// [`replicas`](Self::replicas) returns them and their age.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if the address is invalid, with the expected form. `failed_precondition` for `k8s://` outside of a pod.
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
            addresses: None,
            discover: None,
            transport,
            codec,
            subset: None,
            compress: false,
            tls: None,
        }
    }

    pub(crate) fn in_process(dispatch: Arc<Dispatch>) -> Self {
        let scope = CallScope { codec: Codec::Json, ..CallScope::new(Route::Local(dispatch)) };
        Self { scope: Arc::new(scope) }
    }

    /// Calls a function by its name.
    ///
    /// A tuple or a sequence gives arguments by position, a struct or a map by name, `()` none, and
    /// [`Args`](crate::Args) both. Anything else is an error that suggests `(x,)`.
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

    /// What the service can do: its functions with the schemas of their types, as [`Server::schema`](crate::Server::schema) makes
    /// it. A service answers only callers that may learn its names ([`Server::listing`](crate::Server::listing)).
    ///
    /// ```
    /// # async fn example(shop: byname::Client) -> Result<(), byname::Error> {
    /// for function in shop.schema().await?.functions {
    ///     println!("{}", function.signature);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of any call. `unimplemented` if this caller may not learn the names, or if the service has no schema.
    pub async fn schema(&self) -> Result<ServiceSchema, Error> {
        let document = call::document::<Result<Value, Error>>(self, "!schema").await?;
        let read = ServiceSchema::from_json(&document);
        read.map_err(|why| {
            Error::new(
                Code::Internal,
                format!("the service has answered with another schema than this version of byname reads: {why}"),
            )
        })
    }

    /// What the server has counted of its calls, as `GET /rpc/!stats` answers it. With several servers the answer is from one of them.
    ///
    /// ```
    /// # async fn example(shop: byname::Client) -> Result<(), byname::Error> {
    /// println!("{}", shop.service_stats().await?["server"]["in_flight"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of any call. `unimplemented` if this caller may not see it.
    pub async fn service_stats(&self) -> Result<Value, Error> {
        call::document::<Result<Value, Error>>(self, "!stats").await
    }

    /// What the clients of this process have counted of their calls to this URL. `None` for a client [within the
    /// process](Self::local), whose calls the server counts.
    ///
    /// ```
    /// # use byname::{Client, Server};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::new().function("double", |n: i64| async move { n * 2 });
    /// # let bound = server.serve("127.0.0.1:0").bind().await?;
    /// # let data = Client::new(bound.local_addr().to_string())?;
    /// # tokio::spawn(bound.into_future());
    /// data.call::<i64>("double", (21,)).await?;
    /// let stats = data.stats().expect("it is in another process");
    /// let double = &stats.functions[0];
    /// println!("{} calls, p99 {:?}", double.calls, double.percentile(0.99));
    /// # assert_eq!((&*double.name, double.calls, double.in_flight), ("double", 1, 0));
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Option<ClientStats> {
        match &self.scope.way {
            Route::Remote(service) => Some(service.stats()),
            Route::Local(_) => None,
        }
    }

    /// What this client would do now with a call of this function by its name: each effective setting and where it came
    /// from, the replicas and what is known of them, the connections. [`Call::explain`] does the same for a stub, which knows
    /// what `#[rpc(…)]` says. Nothing is sent. The replicas are looked up if they are not known yet.
    ///
    /// ```
    /// # async fn example(shop: byname::Client) {
    /// println!("{}", shop.explain("orders.get").await);
    /// # }
    /// ```
    pub async fn explain(&self, name: &str) -> Explanation {
        self.explained(name, None, None).await
    }

    async fn explained(&self, name: &str, method: Option<&'static Method>, own: Option<Duration>) -> Explanation {
        let name = &format!("{}{name}", self.scope.prefix);
        let service = match &self.scope.way {
            Route::Remote(service) => {
                service.look_up().await;
                Some(service.explained(Some(name)))
            }
            _ => None,
        };
        self.scope.explained(name, method, own, service)
    }

    /// Calls a function that returns a stream by its name. The arguments are as in [`call`](Self::call).
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

    /// Calls a function by its name and passes the result to `callback`. It works from any thread, in async code or
    /// not. Inside a tokio runtime the callback runs in a task of that runtime. Otherwise it runs on byname's
    /// background thread, and must not block it.
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
        runtime::spawn(&runtime::current(), async move { callback(call.await) });
    }

    /// Calls a function by its name and ignores the answer. A failure is only logged. To handle failures, use
    /// [`call`](Self::call).
    pub fn notify(&self, name: &str, args: impl Serialize + 'static) {
        let said = name.to_owned();
        self.call_then::<serde_core::de::IgnoredAny>(name, args, move |result| {
            if let Err(error) = result {
                tracing::warn!(rpc.method = %said, "notification `{said}` failed: {error}");
            }
        });
    }

    /// What is known of the addresses of the service. `None` before the first call looks them up, and for calls within the
    /// process.
    ///
    /// ```
    /// # fn example(orders: byname::Client) {
    /// if let Some(known) = orders.replicas() {
    ///     println!("{} replicas, found {:?} ago", known.addresses.len(), known.age);
    /// }
    /// # }
    /// ```
    pub fn replicas(&self) -> Option<KnownReplicas> {
        match &self.scope.way {
            Route::Remote(service) => service.replicas(),
            Route::Local(_) => None,
        }
    }

    /// The same service, with `prefix` and a dot before every name, for functions that `inject_as` serves. With an
    /// invalid prefix, calls fail.
    #[must_use]
    pub fn prefix(&self, prefix: &str) -> Self {
        self.scoped(|scope| {
            if let Err(why) = name::check(prefix) {
                scope.refused = Some(Error::refused(Code::InvalidArgument, format!("as a prefix, {why}")));
            }
            scope.prefix = format!("{}{prefix}.", scope.prefix);
        })
    }

    /// The same service with another deadline for each call, counted from its first poll. It replaces what a
    /// [policy](Self::policy) for `*` says, if that was set before.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        self.scoped(|scope| {
            scope.timeout = Some(timeout);
            if !scope.policies.is_empty() {
                scope.set_policy("*", move |policy| policy.timeout = timeout);
            }
        })
    }

    /// The same service with another policy for calls of some functions: how often they are sent, how long they may take,
    /// whether they are hedged. [`Policy`] has the settings and their defaults.
    ///
    /// `pattern` is the name of a function, `orders.*` for all names below `orders`, or `*`. Names are whole, with the
    /// [prefix](Self::prefix) of a handle.
    ///
    /// ```
    /// # fn example(shop: byname::Client) {
    /// use std::time::Duration;
    ///
    /// let shop = shop
    ///     .policy("*", |p| p.timeout = Duration::from_secs(2))
    ///     .policy("orders.*", |p| p.attempts = 2)
    ///     .policy("orders.get", |p| p.hedge = true); // two attempts within 2 s
    /// # }
    /// ```
    ///
    /// What counts is, in this order: an option of the call itself, such as [`Call::timeout`]; the policy; `#[rpc(…)]` on the
    /// function; the default. Of several patterns that match, the most specific counts for what it sets, and among equal ones
    /// the last.
    ///
    /// `change` runs once for each call, and must be quick. It gets the policy as less specific patterns have set it.
    ///
    /// Calls fail with `invalid_argument` if `pattern` is not a pattern, or if the policy has no attempt or no time.
    #[must_use]
    pub fn policy(&self, pattern: &str, change: impl Fn(&mut Policy) + Send + Sync + 'static) -> Self {
        self.scoped(|scope| scope.set_policy(pattern, change))
    }

    /// The same service with a header on each call. With a header that [`Call::header`] would reject, calls fail.
    #[must_use]
    pub fn header(&self, name: &str, value: &str) -> Self {
        self.scoped(|scope| {
            scope.refused = metadata::set(&mut scope.headers, name, value).err().or(scope.refused.take())
        })
    }

    /// The same service, whose calls have the [`baggage`](https://www.w3.org/TR/baggage/) of the call during which they are
    /// made: the values that its callers have put beside their trace, such as the plan of a customer. Off by default, because
    /// everybody on the way can read them, and another service may not be meant to. A `baggage` that is set for a call itself has
    /// precedence.
    ///
    /// At most 64 members and 8 KiB are passed on, whole members from the front. A function reads its own by
    /// [`Context::header`](crate::Context::header). **Never decide by baggage what a caller may do.** Every caller can write
    /// into it whatever it likes.
    ///
    /// ```
    /// # fn example(data: byname::Client) {
    /// let data = data.pass_on_baggage(true);
    /// # }
    /// ```
    #[must_use]
    pub fn pass_on_baggage(&self, on: bool) -> Self {
        self.scoped(|scope| scope.passes_baggage_on = on)
    }

    /// The same service with `authorization: Bearer` and this token on each call.
    ///
    /// Over plain TCP to another machine everybody on the way could read the token. There calls fail with
    /// `failed_precondition`, unless [`allow_plaintext_token`](Self::allow_plaintext_token) says that the network is
    /// trusted. Calls also fail if `token` can't be a bearer token ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)).
    /// Neither `Debug` nor the log shows the token.
    ///
    /// ```
    /// # fn example(data: byname::Client) {
    /// let data = data.bearer("mF_9.B5f-4.1JqM");
    /// # }
    /// ```
    #[must_use]
    pub fn bearer(&self, token: &str) -> Self {
        self.scoped(|scope| {
            (scope.token, scope.has_token) = (None, true);
            match bearer_token::header(token) {
                Ok(value) => {
                    scope.headers.insert(AUTHORIZATION, value);
                }
                Err(error) => scope.refused = Some(error),
            }
        })
    }

    /// As [`bearer`](Self::bearer), for tokens that expire. `fetch` gets a token, and is called once for all calls that
    /// need it, also those of clones of this handle. It is called again when four fifths of the token's time are over.
    /// Meanwhile calls use the token that there is.
    ///
    /// ```
    /// # async fn ask_the_issuer() -> Result<(String, u64), std::io::Error> { Ok(("x".into(), 60)) }
    /// # fn example(data: byname::Client) {
    /// use std::time::Duration;
    /// use byname::IssuedToken;
    ///
    /// let data = data.bearer_from(|| async {
    ///     let (token, seconds) = ask_the_issuer().await?;
    ///     Ok::<_, std::io::Error>(IssuedToken::new(token, Duration::from_secs(seconds)))
    /// });
    /// # }
    /// ```
    ///
    /// If `fetch` fails, takes longer than 30 s or panics, the calls that wait for the token fail with `unavailable` and
    /// are not sent. The next call fetches again. If a renewal fails, the old token is used until its end.
    ///
    /// If the server refuses a call as `unauthenticated` and did not run it, a new token is fetched, once for all calls that
    /// had the old one, and the call is sent once more. If the new token is refused too, or if there is none, the call
    /// fails with the error of the server. Such a fetch begins at most once a second. A call whose stream has begun is not
    /// sent again. Within the process the arguments of a call with such a token are encoded, so that it can be repeated.
    ///
    /// A call that has
    /// an `authorization` of its own keeps it. Interceptors of the client do not see the token.
    #[must_use]
    pub fn bearer_from<F, Fut, E>(&self, fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<IssuedToken, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.scoped(|scope| {
            scope.headers.remove(AUTHORIZATION);
            (scope.token, scope.has_token) = (Some(Arc::new(RenewedToken::new(fetch))), true);
        })
    }

    /// The same service, whose [tokens](Self::bearer) may go over plain TCP to other machines. Use it only where nobody
    /// else can read what is sent, for example in a WireGuard network.
    #[must_use]
    pub fn allow_plaintext_token(&self) -> Self {
        self.scoped(|scope| scope.exposes_token = true)
    }

    /// The same service with an interceptor around each call. It sees the request before it is sent, and may change its
    /// headers, reject it or look at the reply. The interceptor that is added first is the outermost. Retries happen
    /// inside: an interceptor sees a call once. See [`Server::intercept`](crate::Server::intercept) for its form.
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

    /// For a client made by [`Client::local`]: whether arguments and results are encoded and decoded anyway, so that a
    /// test sees the effect of the wire. Off by default. It has no effect for other clients.
    #[must_use]
    pub fn encoded(&self, on: bool) -> Self {
        self.scoped(|scope| scope.encoded = on)
    }

    /// The codec of this handle's calls, where there is a choice: with [`encoded`](Self::encoded), and by frames.
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
            Route::Remote(service) => service.url(),
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
    addresses: Option<Vec<String>>,
    discover: Option<Arc<dyn Discover>>,
    /// The number of this client, and how many there are.
    subset: Option<(u32, u32)>,
    transport: Transport,
    codec: Codec,
    compress: bool,
    tls: Option<ClientTls>,
}

impl ClientBuilder {
    /// Changes limits and time-outs: `.limits(|limits| limits.connections = 32)`.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// The path of the server's endpoint, for a URL that has no path. The default is `/rpc`.
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
    /// [`SocketAddr`](std::net::SocketAddr)s. They replace the addresses of the name in the URL and are used in the same
    /// way: each new HTTP connection goes to the first address where it is ready, with its TLS. An address that takes
    /// more than 250 ms for a step is overtaken by the next. Addresses that stalled, or whose calls timed out, come last.
    /// By frames the client has a connection to each address, up to twenty. A call goes to the least busy of three of them, as
    /// far as the client knows: by its own calls in flight, the load that servers report, latency and failures. A replica
    /// that fails again and again gets no calls for a while.
    ///
    /// ```
    /// let replicas = ["10.0.0.1:8080", "10.0.0.2:8080"];
    /// let data = byname::Client::builder("data.internal/rpc").addresses(replicas).build()?;
    /// # Ok::<(), byname::Error>(())
    /// ```
    /// [`build`](Self::build) rejects a list without an address, and an address that is there twice.
    pub fn addresses<A: ToString>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.addresses.get_or_insert_default().extend(addresses.into_iter().map(|address| address.to_string()));
        self
    }

    /// Where the replicas are, as your own code says it: a registry, an inventory, a configuration that is watched. The
    /// addresses replace those of the name in the URL, and are used in the same way. With `https://` each of them must have
    /// a certificate with the name in the URL. [`Discover`] has an example.
    pub fn discover(mut self, discover: impl Discover) -> Self {
        self.discover = Some(Arc::new(discover));
        self
    }

    /// Which of the service's clients this is, of how many: `client` counts from 0. It concerns services with more than
    /// twenty replicas. A client connects to twenty of them.
    ///
    /// Without this, each client chooses at random, and some replicas have more clients than others: with 100 clients and
    /// 100 replicas about 11 to 30. With it, the numbers of clients differ by one at most. Use it if your clients are
    /// numbered, as the pods of a StatefulSet are. If there are fewer clients than a twentieth of the replicas, the replicas
    /// that no client connects to have no calls.
    ///
    /// ```
    /// use byname::{Client, Error};
    ///
    /// fn orders(pod: u32) -> Result<Client, Error> {
    ///     Client::builder("orders:8080/rpc").subset(pod, 50).build()
    /// }
    /// ```
    ///
    /// If two clients have the same number, or the number of clients is wrong, calls go on and are spread less equally.
    /// [`build`](Self::build) rejects a `client` that is not below `clients`, with `invalid_argument`.
    pub fn subset(mut self, client: u32, clients: u32) -> Self {
        self.subset = Some((client, clients));
        self
    }

    /// The transport of calls. The default is [`Transport::Frames`].
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// The codec of frames. The default is MessagePack. Over HTTP it is always JSON.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Whether bodies over HTTP are compressed, in zstd and gzip. Off by default. It needs the feature `compression`.
    ///
    /// Answers are compressed if the server does it, byname with [`Server::compress`](crate::Server::compress) or any
    /// other. Requests of more than 1 KiB are compressed once the server has said that it accepts it, except the streams that
    /// they bring. [`Limits::message`] counts bytes without compression. Frames are not compressed:
    /// [`Transport::Http`] keeps a client with HTTP.
    ///
    /// ```
    /// # #[cfg(feature = "compression")] {
    /// use byname::{Client, Transport};
    ///
    /// let data = Client::builder("data.example/rpc").transport(Transport::Http).compress(true).build()?;
    /// # }
    /// # Ok::<(), byname::Error>(())
    /// ```
    ///
    /// Without this a client asks for no compression, and an answer that a proxy has compressed nevertheless is an error.
    pub fn compress(mut self, on: bool) -> Self {
        self.compress = on;
        self
    }

    /// Makes the client. It connects at its first call.
    ///
    /// # Errors
    ///
    /// As [`Client::new`]. `failed_precondition` for [`compress`](Self::compress) without the feature `compression`.
    /// `invalid_argument` for a [`subset`](Self::subset) that is none.
    pub fn build(self) -> Result<Client, Error> {
        if self.compress {
            content_coding::check_available("ClientBuilder::compress")?;
        }
        let mut url = ServiceUrl::parse(&self.url)?;
        if let Some(endpoint) = &self.endpoint {
            url.set_endpoint(&self.url, endpoint)?;
        }
        let given = match (self.addresses, self.discover) {
            (None, discover) => discover.map(GivenReplicas::Discover),
            (Some(addresses), None) => Some(GivenReplicas::Addresses(service_url::replicas(&addresses)?)),
            (Some(_), Some(_)) => {
                let why = format!(
                    "a client of {} has both `ClientBuilder::addresses` and `ClientBuilder::discover`; leave one out",
                    url.shown()
                );
                return Err(Error::refused(Code::InvalidArgument, why));
            }
        };
        let mut target = ServiceTarget::new(url, self.tls, given)?;
        if let Some((client, clients)) = self.subset {
            let Some(subset) = ReplicaSubset::numbered(client, clients) else {
                let why = format!(
                    "a client of {} has `ClientBuilder::subset({client}, {clients})`; the clients are numbered from 0, so the \
                     first number must be less than the second",
                    target.url()
                );
                return Err(Error::refused(Code::InvalidArgument, why));
            };
            target = target.with_subset(subset);
        }
        let frames = (self.transport == Transport::Frames).then_some(self.codec);
        let service = Service::new(target, self.limits, frames, self.compress);
        Ok(Client { scope: Arc::new(CallScope::new(Route::Remote(service))) })
    }
}
