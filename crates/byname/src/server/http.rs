//! Reads, dispatches and answers one HTTP request, in the same way for HTTP/1 and HTTP/2.
//!
//! [`route`] lets a request in and chooses its [`WayIn`].

mod admitted_request;
mod allowed_methods;
mod allowed_origins;
mod answer;
mod builtin;
mod caching;
#[cfg_attr(not(feature = "compression"), allow(unreachable_code, unused_variables, reason = "there is no coding"))]
mod compression;
mod console;
mod cors;
mod host_and_origin;
mod json_rpc_calls;
mod path_calls;
mod plain_calls;
pub(super) mod request_body;
mod response_body;
mod route;
mod stream_body;
mod usual_headers;
mod websocket_upgrade;

use std::convert::Infallible;
use std::mem::take;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HOST, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Extensions, HeaderValue, Method as Verb, Request as HttpRequest, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;

use self::admitted_request::AdmittedRequest;
pub(super) use self::allowed_origins::AllowedOrigins;
use self::answer::{HttpAnswer, Rejection};
use self::caching::MayBeKept;
use self::compression::LengthUnknown;
pub use self::cors::Cors;
use self::cors::CorsHeaders;
use self::host_and_origin::RequestRules;
pub(super) use self::request_body::RequestBody;
pub(super) use self::response_body::ReplyBody;
use self::response_body::ReplyContent;
use self::route::{RequestTarget, route};
use self::usual_headers::UsualHeaders;
use super::Server;
use super::connection_timeouts::ConnectionActivity;
use super::forwarded::TrustedProxies;
use crate::call_semaphore::CallPermits;
use crate::content_coding::AcceptedCodings;
use crate::dispatch::Dispatch;
use crate::error::{Code, Error};
use crate::limits_and_timeouts::Limits;
use crate::networks::NetworkList;
use crate::peer::Peer;
use crate::transport::ServerTls;
use crate::untrusted_text::quoted;
use crate::wire::headers;
use crate::wire::instance_and_load::{InstanceId, ReportedLoad};

/// The limit of concurrent calls on one HTTP/2 connection.
pub(super) const STREAMS: u32 = 256;

/// Up to this number of calls in flight, the header that reports it need not be written anew for each answer.
const PREPARED_LOADS: usize = 64;

/// How long callers of a mounted server are told to keep a connection, at most. The outer server may close it soon.
const MOUNTED_IDLE: Duration = Duration::from_secs(5);

/// The state that all connections of a server share.
pub(super) struct ServerEndpoint {
    dispatch: Arc<Dispatch>,
    instance: InstanceId,
    /// The header of a load for each of the smallest numbers of calls in flight.
    load_headers: [HeaderValue; PREPARED_LOADS],
    frames: bool,
    gate: RequestRules,
    cors: CorsHeaders,
    trusted_proxies: Option<TrustedProxies>,
    /// The proxies that must introduce their clients at the beginning of each connection.
    proxy_protocol: Option<NetworkList>,
    path: String,
    plain: bool,
    by_path: bool,
    json_rpc: bool,
    explains_clients: bool,
    usual_headers: UsualHeaders,
    keep_alive: HeaderValue,
    /// Whether idle connections are closed sooner than byname's clients expect by default.
    idles_briefly: bool,
    /// Whether an outer server has removed a part of the path.
    is_mounted: bool,
    tls: Option<ServerTls>,
    compresses: bool,
}

/// One connection, from the view of its requests.
pub(super) struct Session {
    endpoint: Arc<ServerEndpoint>,
    activity: Arc<ConnectionActivity>,
    peer: Option<Arc<Peer>>,
    /// The host that was accepted. Nearly all requests of a connection name the same host.
    host: OnceLock<HeaderValue>,
    functions: Arc<CallPermits>,
    /// The extensions that the layers of an outer server have added to its one request.
    extensions: Extensions,
    /// The connection that changes to frames after the answer to the upgrade request.
    upgrade: OnceLock<GrantedUpgrade>,
}

/// A connection that changes to frames.
#[derive(Clone)]
pub(super) struct GrantedUpgrade {
    pub(super) connection: OnUpgrade,
    /// Who asked for it, if a proxy has said so: all calls by frames are this client's.
    pub(super) client: Option<Arc<Peer>>,
    /// Whether a proxy has passed on the upgrade request.
    pub(super) is_forwarded: bool,
}

/// A way of calling over HTTP, or another service at a path.
trait WayIn {
    /// Answers a request. Rejections are written in the form that [`RequestTarget::errors`] says.
    fn answer<B: RequestBody>(
        self,
        request: AdmittedRequest<'_, B>,
    ) -> impl Future<Output = Result<HttpAnswer, Rejection>> + Send;
}

impl ServerEndpoint {
    pub(super) fn new(server: &Server, dispatch: Arc<Dispatch>, private: bool, is_mounted: bool) -> Self {
        let frames = server.frames.unwrap_or(!is_mounted);
        let gate = RequestRules {
            private,
            hosts: server.hosts.clone(),
            origins: AllowedOrigins::parse(&server.origins).expect("they were checked at the start"),
            require_json: server.require_json,
        };
        let ways = headers::ALL_WAYS.split(", ").zip([server.plain, server.path, server.json_rpc, frames]);
        let ways: Vec<_> = ways.filter_map(|(way, offered)| offered.then_some(way)).collect();
        let ways = HeaderValue::try_from(ways.join(", ")).expect("these words can stand in a header");
        let limit = dispatch.limits().idle;
        // The connections of a mounted server belong to the outer one.
        let announced = if is_mounted { limit.min(MOUNTED_IDLE) } else { limit };
        let idle = announced.as_secs();
        let instance = dispatch.instance();
        Self {
            dispatch,
            instance,
            load_headers: std::array::from_fn(|calls| ReportedLoad { calls: calls as u32, queue_delay: 0 }.to_header()),
            frames,
            gate,
            cors: CorsHeaders::new(&server.cors),
            trusted_proxies: server.trusted_proxies.clone(),
            proxy_protocol: None,
            path: server.endpoint.clone(),
            plain: server.plain,
            by_path: server.path,
            json_rpc: server.json_rpc,
            explains_clients: server.explains_clients,
            usual_headers: UsualHeaders::new(ways, instance.to_header()),
            idles_briefly: announced < Limits::default().idle,
            keep_alive: HeaderValue::try_from(format!("timeout={idle}")).expect("digits can stand in a header"),
            is_mounted,
            tls: server.tls.clone(),
            compresses: server.compress,
        }
    }

    pub(super) fn require_proxy_protocol(&mut self, of: Option<NetworkList>) {
        self.proxy_protocol = of;
    }

    pub(super) fn trusted_proxies(&self) -> Option<&TrustedProxies> {
        self.trusted_proxies.as_ref()
    }

    pub(super) fn proxy_protocol(&self) -> Option<&NetworkList> {
        self.proxy_protocol.as_ref()
    }

    pub(super) fn dispatch(&self) -> &Arc<Dispatch> {
        &self.dispatch
    }

    /// Which server this is.
    pub(super) fn instance(&self) -> InstanceId {
        self.instance
    }

    /// How busy the server is now. A call waited for `queue_delay` microseconds.
    pub(super) fn load(&self, queue_delay: u32) -> ReportedLoad {
        let calls = u32::try_from(self.dispatch.admission().in_flight()).unwrap_or(u32::MAX);
        ReportedLoad { calls, queue_delay }
    }

    /// The load as a header. Nothing measures how long a call over HTTP waits.
    fn load_header(&self) -> HeaderValue {
        let load = self.load(0);
        match self.load_headers.get(load.calls as usize) {
            Some(prepared) => prepared.clone(),
            None => load.to_header(),
        }
    }

    /// What connections begin with, if not with HTTP.
    pub(super) fn tls(&self) -> Option<&ServerTls> {
        self.tls.as_ref()
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn compresses(&self) -> bool {
        self.compresses
    }

    pub(super) fn offers_frames(&self) -> bool {
        self.frames
    }

    /// Rejects a call that comes to a mounted server after its drain has begun: the outer server may still accept
    /// connections. On an own listener, a call that is read is answered, because no connection is accepted any more.
    fn takes_calls(&self) -> Result<(), Rejection> {
        if !self.is_mounted || self.dispatch.admission().is_ready() {
            return Ok(());
        }
        let why = "the application is stopping and accepts no further calls; this call was not run, send it again";
        Err(Rejection::new(StatusCode::SERVICE_UNAVAILABLE, Error::refused(Code::Unavailable, why)))
    }

    /// How many functions one connection may run, including functions whose callers are gone. The limit is the number
    /// of HTTP/2 streams, so that opening and resetting streams starts no more functions, or the size of a batch.
    fn functions(&self) -> usize {
        let streams = STREAMS as usize;
        streams.max(self.dispatch.limits().batch)
    }

    /// The rejection for a path without a function or service.
    fn nothing(&self, asked: &str) -> Rejection {
        // Only the outer server knows where this server is mounted.
        let mount = if self.is_mounted { "…" } else { "" };
        let (path, asked) = (format!("{mount}{}", self.path), quoted(&format!("{mount}{asked}")));
        let below = path.trim_end_matches('/');
        let why = match (self.plain, self.by_path, self.json_rpc) {
            (_, true, _) => format!("nothing is at {asked}: a call is `POST {below}/name` with its arguments as JSON"),
            (true, ..) => {
                format!("nothing is at {asked}: a call is `POST {path}` with `{{\"fun\", \"args\", \"kwargs\"}}`")
            }
            (.., true) => {
                format!("nothing is at {asked}: a call is `POST {path}` with `{{\"jsonrpc\": \"2.0\", …}}`")
            }
            _ => "this server takes no calls over HTTP; allow them with `Server::plain` or `Server::path`".to_owned(),
        };
        Rejection::new(StatusCode::NOT_FOUND, Error::refused(Code::Unimplemented, why))
    }
}

impl Session {
    pub(super) fn new(
        endpoint: Arc<ServerEndpoint>,
        activity: Arc<ConnectionActivity>,
        peer: Option<Arc<Peer>>,
    ) -> Self {
        let functions = CallPermits::new(endpoint.functions());
        Self {
            endpoint,
            activity,
            peer,
            host: OnceLock::new(),
            functions,
            extensions: Extensions::new(),
            upgrade: OnceLock::new(),
        }
    }

    /// The session of one request whose connection belongs to an outer server.
    pub(super) fn of_one_request(
        endpoint: Arc<ServerEndpoint>,
        peer: Option<Arc<Peer>>,
        extensions: Extensions,
    ) -> Self {
        Self { extensions, ..Self::new(endpoint, Arc::new(ConnectionActivity::new(false)), peer) }
    }

    /// The connection itself, if frames were requested and granted.
    pub(super) fn upgrade(&self) -> Option<GrantedUpgrade> {
        self.upgrade.get().cloned()
    }

    /// Who has sent a request, if a trusted proxy has passed it on and says so.
    fn client(&self, head: &Parts) -> Option<Arc<Peer>> {
        let proxies = self.endpoint.trusted_proxies.as_ref()?;
        proxies.client(self.peer.as_deref()?, &head.headers)
    }

    /// Whether this request names exactly the host that was accepted before.
    fn is_known(&self, head: &Parts) -> bool {
        let mut named = head.headers.get_all(HOST).iter();
        let named = (named.next(), named.next());
        head.uri.authority().is_none() && named.0.is_some() && named == (self.host.get(), None)
    }
}

/// Answers one request. It ends when the body of the reply is handed over.
pub(super) async fn answer<B: RequestBody>(
    session: Arc<Session>,
    request: HttpRequest<B>,
) -> Result<Response<ReplyBody>, Infallible> {
    let working = session.activity.begin();
    let endpoint = &*session.endpoint;
    let (mut head, body) = request.into_parts();
    let mut body = Some(body);
    let version = head.version;
    let is_head = head.method == Verb::HEAD;
    let is_get = is_head || head.method == Verb::GET;
    let target = RequestTarget::of(head.uri.path(), endpoint);
    let says_idle =
        version <= Version::HTTP_11 && (endpoint.idles_briefly || !matches!(target, RequestTarget::Path { .. }));
    let accepted = endpoint.compresses().then(|| AcceptedCodings::of(&head.headers));
    let mut tells_load = false;
    let mut out = route(&session, target, &mut head, &mut body, &mut tells_load).await;
    if let Some(body) = body {
        // It was answered without reading the body. The next request comes after that body.
        request_body::skip_or_close(&head, pin!(body), &session.activity).await;
    }
    if let Some(accepted) = accepted {
        Box::pin(compression::compress(&mut out, accepted, is_head)).await;
    }
    let activity = &session.activity;
    let is_last = !endpoint.dispatch.admission().is_ready() || activity.is_parting() || activity.has_left_unread();
    if says_idle {
        out.headers_mut().insert(headers::KEEP_ALIVE, endpoint.keep_alive.clone());
    }
    if version <= Version::HTTP_11 && is_last {
        out.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        activity.announce_end();
    }
    if is_get {
        out.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if out.extensions_mut().remove::<MayBeKept>().is_none() {
            out.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        } else {
            // A cache would repeat what is true now only, and perhaps of another server.
            tells_load = false;
        }
    }
    let load = tells_load.then(|| endpoint.load_header());
    endpoint.usual_headers.complete(out.headers_mut(), load);
    if is_head {
        leave_out_body(&mut out);
    }
    if version == Version::HTTP_2 {
        out.extensions_mut().clear();
        // The original's 502 is distinguished from a proxy's by its reason, which HTTP/2 does not have.
        if out.status() == StatusCode::BAD_GATEWAY {
            *out.status_mut() = StatusCode::NOT_FOUND;
        }
    }
    Ok(out.map(|content| ReplyBody::new(content, working)))
}

/// The answer to a HEAD is that to a GET, without the body.
fn leave_out_body(out: &mut HttpAnswer) {
    let body = take(out.body_mut());
    if let ReplyContent::Whole(body) = body
        && ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&out.status())
        && out.extensions_mut().remove::<LengthUnknown>().is_none()
    {
        out.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
}
