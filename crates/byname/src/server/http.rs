//! One HTTP request, read, dispatched and answered: the same for HTTP/1 and HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL,
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method as Verb, Request as HttpRequest, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use tokio::time::Instant;

use super::Server;
use super::body::{self, ReplyBody, RequestBody};
use super::gate::{Gate, Turned};
use super::watch::Activity;
use crate::arguments::Encoded;
use crate::call::{Args, Failure, Reply, Request, Returned, Value};
use crate::dispatch::Dispatch;
use crate::error::{Code, Error, Executed};
use crate::limits::Limits;
use crate::timer::later;
use crate::wire::{Answered, Refusal, Way, headers, path, plain};

/// What all connections of a server share.
pub(super) struct Endpoint {
    dispatch: Arc<Dispatch>,
    gate: Gate,
    path: String,
    plain: bool,
    by_path: bool,
    ways: HeaderValue,
    keep_alive: HeaderValue,
    /// Connections are closed sooner than byname's clients expect of a server that doesn't say.
    idles_briefly: bool,
}

/// One connection, as its requests see it.
pub(super) struct Session {
    endpoint: Arc<Endpoint>,
    activity: Arc<Activity>,
    peer: Option<SocketAddr>,
    /// The host that was found to be ours: nearly always all requests of a connection name the same.
    host: OnceLock<HeaderValue>,
}

/// What a request asks for.
enum Target<'p> {
    /// A call, its name in the body.
    Plain,
    /// A call of this name.
    Path(&'p str),
    /// Is the process alive?
    Live,
    /// Does it want calls?
    Ready,
    Nothing,
}

impl Endpoint {
    pub(super) fn new(server: &Server, dispatch: Arc<Dispatch>, private: bool) -> Self {
        let gate = Gate {
            private,
            hosts: server.hosts.clone(),
            origins: server.origins.clone(),
            require_json: server.require_json,
        };
        let ways = match (server.plain, server.path) {
            (true, true) => headers::BOTH_WAYS,
            (true, false) => "plain",
            (false, true) => "path",
            (false, false) => "",
        };
        let dispatch_idle = dispatch.limits().idle;
        let idle = dispatch_idle.as_secs();
        Self {
            dispatch,
            gate,
            path: server.endpoint.clone(),
            plain: server.plain,
            by_path: server.path,
            ways: HeaderValue::from_static(ways),
            idles_briefly: dispatch_idle < Limits::default().idle,
            keep_alive: HeaderValue::try_from(format!("timeout={idle}")).expect("digits can stand in a header"),
        }
    }

    pub(super) fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn target<'p>(&self, path: &'p str) -> Target<'p> {
        let rest = if self.path == "/" { path } else { path.strip_prefix(self.path.as_str()).unwrap_or("-") };
        match rest {
            "" | "/" => Target::Plain,
            "/!live" => Target::Live,
            "/!ready" => Target::Ready,
            _ => match rest.strip_prefix('/') {
                Some(name) => Target::Path(name),
                None => Target::Nothing,
            },
        }
    }
}

impl Session {
    pub(super) fn new(endpoint: Arc<Endpoint>, activity: Arc<Activity>, peer: Option<SocketAddr>) -> Self {
        Self { endpoint, activity, peer, host: OnceLock::new() }
    }

    /// Whether this request names the host that was found to be ours before, and no other.
    fn is_known(&self, head: &Parts) -> bool {
        let mut named = head.headers.get_all(HOST).iter();
        let named = (named.next(), named.next());
        head.uri.authority().is_none() && named.0.is_some() && named == (self.host.get(), None)
    }
}

/// Answers one request. Its end is when the reply's body is handed over.
pub(super) async fn answer<B: RequestBody>(
    session: Arc<Session>,
    request: HttpRequest<B>,
) -> Result<Response<ReplyBody>, Infallible> {
    let working = session.activity.begin();
    let endpoint = &*session.endpoint;
    let (head, body) = request.into_parts();
    let version = head.version;
    let is_get = head.method == Verb::GET;
    let target = endpoint.target(head.uri.path());
    let says_idle = version <= Version::HTTP_11 && (endpoint.idles_briefly || !matches!(target, Target::Path(_)));
    let mut out = endpoint.route(&session, head, body).await;
    let headers = out.headers_mut();
    headers.insert(headers::PROTOCOL, headers::VERSION);
    headers.insert(headers::WAYS, endpoint.ways.clone());
    if says_idle {
        headers.insert(headers::KEEP_ALIVE, endpoint.keep_alive.clone());
    }
    if version <= Version::HTTP_11 && !endpoint.dispatch.is_ready() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        session.activity.announce_end();
    }
    if is_get {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if version == Version::HTTP_2 {
        out.extensions_mut().clear();
        // The original's 502 is told from a proxy's by its reason, which HTTP/2 doesn't carry.
        if out.status() == StatusCode::BAD_GATEWAY {
            *out.status_mut() = StatusCode::NOT_FOUND;
        }
    }
    Ok(out.map(|data| ReplyBody::new(data, working)))
}

type Out = Response<bytes::Bytes>;

/// Where a call comes from and until when it is waited for.
struct Caller {
    peer: Option<SocketAddr>,
    began: Instant,
    deadline: Option<Instant>,
}

impl Endpoint {
    async fn route(&self, session: &Session, head: Parts, body: impl RequestBody) -> Out {
        let began = Instant::now();
        let target = self.target(head.uri.path());
        let way = if matches!(target, Target::Plain) { Way::Plain } else { Way::Path };
        let known = session.is_known(&head);
        let host = match session.host.get().map(HeaderValue::to_str) {
            Some(Ok(host)) if known => Ok(host),
            _ => self.gate.host(&head),
        };
        let host = match host {
            Ok(host) => host,
            Err(turned) => return turn(way, turned),
        };
        // Orchestrators probe by address, whatever name the server goes by; these two say nothing of it.
        match target {
            Target::Live => return probe(&head, true),
            Target::Ready => return probe(&head, self.dispatch.is_ready()),
            _ => {}
        }
        if !known {
            if let Err(turned) = self.gate.is_ours(host) {
                return turn(way, turned);
            }
            if let Some(host) = head.headers.get(HOST) {
                // Another one that is ours as well may have been first; that one is kept.
                let _ = session.host.set(host.clone());
            }
        }
        let origin = match self.gate.origin(&head, host) {
            Ok(origin) => origin.cloned(),
            Err(turned) => return turn(way, turned),
        };
        let deadline = match headers::timeout(&head.headers) {
            Ok(timeout) => timeout.map(|timeout| later(began, timeout)),
            Err(error) => return refuse(way, error, None),
        };
        let caller = Caller { peer: session.peer, began, deadline };
        let mut out = if head.method == Verb::OPTIONS && origin.is_some() {
            preflight()
        } else {
            match target {
                Target::Plain if self.plain => self.plain(head, body, caller).await,
                Target::Path(name) if self.by_path => {
                    let name = name.to_owned();
                    self.by_path(name, head, body, caller).await
                }
                _ => self.nothing(way),
            }
        };
        if let Some(origin) = origin {
            out.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            out.headers_mut().append(VARY, HeaderValue::from_static("origin"));
        }
        out
    }

    fn nothing(&self, way: Way) -> Out {
        let path = &self.path;
        let why = match (self.plain, self.by_path) {
            (_, true) => format!("nothing is here: a call is POST {path}/name with its arguments as JSON"),
            (true, false) => format!("nothing is here: a call is POST {path} with {{\"fun\", \"args\", \"kwargs\"}}"),
            (false, false) => "this server takes no calls over HTTP".to_owned(),
        };
        refuse(way, Error::refused(Code::Unimplemented, why), Some(StatusCode::NOT_FOUND))
    }

    async fn plain(&self, head: Parts, body: impl RequestBody, caller: Caller) -> Out {
        if head.method != Verb::POST {
            return refuse_verb(Way::Plain, &head.method, "POST");
        }
        match self.body(&head, body, &caller).await {
            Ok(body) => match plain::read(&body) {
                Ok((name, args)) => self.call(Way::Plain, name, Args::Json(args), head.headers, caller).await,
                Err(error) => refuse(Way::Plain, error, None),
            },
            Err(turned) => turn(Way::Plain, turned),
        }
    }

    async fn by_path(&self, name: String, head: Parts, body: impl RequestBody, caller: Caller) -> Out {
        let args = match head.method {
            Verb::POST => match self.body(&head, body, &caller).await {
                Ok(body) => path::read(body).map(Args::Json),
                Err(turned) => return turn(Way::Path, turned),
            },
            verb => match self.dispatch.is_readonly(&name) {
                Some(true) if verb == Verb::GET => Ok(Args::Query(path::read_query(head.uri.query().unwrap_or("")))),
                Some(readonly) => {
                    let allowed = if readonly { "POST, GET" } else { "POST" };
                    let refused = Args::Refused(wrong_verb(Way::Path, &verb, allowed));
                    let mut out = self.call(Way::Path, name, refused, head.headers, caller).await;
                    if out.status() == StatusCode::METHOD_NOT_ALLOWED {
                        out.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                    }
                    return out;
                }
                None => Ok(Args::Json(Encoded::default())),
            },
        };
        match args {
            Ok(args) => self.call(Way::Path, name, args, head.headers, caller).await,
            Err(error) => refuse(Way::Path, error, None),
        }
    }

    async fn body(&self, head: &Parts, body: impl RequestBody, caller: &Caller) -> Result<bytes::Bytes, Turned> {
        self.gate.content_type(&head.headers, !body.is_end_stream())?;
        let encoding = head.headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
        if let Some(encoding) = encoding {
            let why = format!("the body is encoded as {encoding:?}; send it as it is");
            let error = Error::refused(Code::InvalidArgument, why);
            return Err(Turned { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, error });
        }
        let limits = self.dispatch.limits();
        let deadline = caller.deadline.unwrap_or_else(|| later(caller.began, limits.call));
        body::read(body, limits, deadline).await.map_err(plainly)
    }

    async fn call(&self, way: Way, name: String, args: Args, metadata: HeaderMap, caller: Caller) -> Out {
        // Only an error needs the name again, and there it is only for words.
        let said = name.clone();
        let Caller { peer, deadline, .. } = caller;
        let refused = matches!(args, Args::Refused(_));
        let mut request = Request::new(name, args, metadata);
        (request.peer, request.deadline) = (peer, deadline);
        let Reply { result, metadata } = self.dispatch.run(request).await;
        // What is ours to say is always said; what the function says must fit.
        let of_function = match &result {
            Ok(_) | Err(Failure::Method { .. }) => true,
            Err(Failure::Rpc(error)) => error.data().is_some(),
        };
        let answered = match result {
            Ok(Returned::Value(Value::Json(value))) => match way {
                Way::Plain => plain::success(&value),
                Way::Path => path::success(value),
            },
            Ok(Returned::Value(Value::Local(_))) => {
                let error = Error::new(Code::Internal, "a value was not encoded, which is a defect of byname");
                return refuse(way, error, None);
            }
            Ok(Returned::Stream(items)) => match items {},
            Err(failure) => {
                let refusal = Refusal::from(failure);
                let status = match refusal.status(way) {
                    404 if refused => 405,
                    status => status,
                };
                refusal.answer(way, status)
            }
        };
        let (length, limit) = (answered.body.len(), self.dispatch.limits().message);
        if of_function && length > limit {
            let why = format!(
                "the reply of `{said}` has {length} bytes, more than {limit} (`Limits::message` of the server)"
            );
            let error = Error::new(Code::ResourceExhausted, why).of_limit("message");
            return refuse(way, error.executed_is(Executed::Yes), None);
        }
        finish(answered, metadata)
    }
}

fn plainly(error: Error) -> Turned {
    let status = StatusCode::from_u16(crate::wire::status(&error)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Turned { status, error }
}

fn turn(way: Way, turned: Turned) -> Out {
    refuse(way, turned.error, Some(turned.status))
}

fn refuse(way: Way, error: Error, status: Option<StatusCode>) -> Out {
    let refusal = Refusal::from(Failure::Rpc(error));
    let status = status.map_or_else(|| refusal.status(way), |status| status.as_u16());
    finish(refusal.answer(way, status), HeaderMap::new())
}

fn wrong_verb(way: Way, verb: &Verb, allowed: &'static str) -> Error {
    let why = match (way, allowed) {
        (Way::Path, "POST") if verb == Verb::GET => {
            format!("{verb} may only call `readonly` functions, and this one is not; use POST")
        }
        _ => format!("{verb} calls nothing here; use {allowed}"),
    };
    Error::refused(Code::Unimplemented, why)
}

fn refuse_verb(way: Way, verb: &Verb, allowed: &'static str) -> Out {
    let mut out = refuse(way, wrong_verb(way, verb, allowed), Some(StatusCode::METHOD_NOT_ALLOWED));
    out.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    out
}

fn finish(answered: Answered, metadata: HeaderMap) -> Out {
    let Answered { status, content_type, retry_after, body } = answered;
    let mut out = Response::new(body);
    *out.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == 502 {
        out.extensions_mut().insert(ReasonPhrase::from_static(headers::NO_FUNC.as_bytes()));
    }
    if !metadata.is_empty() {
        *out.headers_mut() = metadata;
    }
    out.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(seconds) = retry_after {
        out.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    out
}

fn probe(head: &Parts, well: bool) -> Out {
    if head.method != Verb::GET && head.method != Verb::HEAD {
        return refuse_verb(Way::Path, &head.method, "GET, HEAD");
    }
    let (status, text) = if well { (200, "ok\n") } else { (503, "draining\n") };
    let body = bytes::Bytes::from_static(text.as_bytes());
    finish(Answered { status, content_type: "text/plain", retry_after: None, body }, HeaderMap::new())
}

fn preflight() -> Out {
    let mut out = Response::new(bytes::Bytes::new());
    *out.status_mut() = StatusCode::NO_CONTENT;
    let headers = out.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let allowed = "authorization, byname-timeout-ms, content-type, idempotency-key, traceparent, tracestate";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    out
}
