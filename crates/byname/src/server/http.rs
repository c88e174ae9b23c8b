//! One HTTP request, read, dispatched and answered: the same for HTTP/1 and HTTP/2.

use std::convert::Infallible;
use std::future::poll_fn;
use std::mem::take;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, RETRY_AFTER,
    SEC_WEBSOCKET_VERSION, UPGRADE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method as Verb, Request as HttpRequest, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::Server;
use super::connection_timeouts::ConnectionActivity;
use super::host_and_origin::{Rejection, RequestRules, transfer_coding};
use super::join_all::join;
use super::request_body::{self, BodyDeadline, RequestBody};
use super::response_body::{self, ReplyBody, ReplyContent};
use super::stream_body::RequestLines;
use super::websocket_upgrade;
use crate::arguments::EncodedArguments;
use crate::codec::{self, Codec};
use crate::context::while_caller_may_be_gone;
use crate::deadline::{before, later};
use crate::dispatch::Dispatch;
use crate::error::{Code, Error, Executed};
use crate::escape::{quoted, quoted_bytes};
use crate::limits::Limits;
use crate::outcome::{Failure, Items, Returned};
use crate::permits::CallPermits;
use crate::request::{CallArguments, Reply, Request};
use crate::wire::stream_lines::{self, StreamFormat};
use crate::wire::{HttpReply, Way, WireError, headers, json_rpc, path_way, plain_way};

/// Calls at once on one HTTP/2 connection.
pub(super) const STREAMS: u32 = 256;

/// What all connections of a server share.
pub(super) struct ServerEndpoint {
    dispatch: Arc<Dispatch>,
    frames: bool,
    gate: RequestRules,
    path: String,
    plain: bool,
    by_path: bool,
    json_rpc: bool,
    ways: HeaderValue,
    keep_alive: HeaderValue,
    /// Connections are closed sooner than byname's clients expect of a server that doesn't say.
    idles_briefly: bool,
    /// Paths are what an outer server leaves of them.
    is_mounted: bool,
}

/// One connection, as its requests see it.
pub(super) struct Session {
    endpoint: Arc<ServerEndpoint>,
    activity: Arc<ConnectionActivity>,
    peer: Option<SocketAddr>,
    /// The host that was found to be ours: nearly always all requests of a connection name the same.
    host: OnceLock<HeaderValue>,
    functions: Arc<CallPermits>,
    /// Frames take over once the answer to the request that asked for them is out.
    upgrade: OnceLock<OnUpgrade>,
}

/// What a request asks for.
enum RequestTarget<'p> {
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

impl ServerEndpoint {
    pub(super) fn new(server: &Server, dispatch: Arc<Dispatch>, private: bool, is_mounted: bool) -> Self {
        let frames = server.frames && !is_mounted;
        let gate = RequestRules {
            private,
            hosts: server.hosts.clone(),
            origins: server.origins.clone(),
            require_json: server.require_json,
        };
        let ways = headers::ALL_WAYS.split(", ").zip([server.plain, server.path, server.json_rpc, frames]);
        let ways: Vec<_> = ways.filter_map(|(way, offered)| offered.then_some(way)).collect();
        let dispatch_idle = dispatch.limits().idle;
        let idle = dispatch_idle.as_secs();
        Self {
            dispatch,
            frames,
            gate,
            path: server.endpoint.clone(),
            plain: server.plain,
            by_path: server.path,
            json_rpc: server.json_rpc,
            ways: HeaderValue::try_from(ways.join(", ")).expect("these words can stand in a header"),
            idles_briefly: dispatch_idle < Limits::default().idle,
            keep_alive: HeaderValue::try_from(format!("timeout={idle}")).expect("digits can stand in a header"),
            is_mounted,
        }
    }

    pub(super) fn dispatch(&self) -> &Arc<Dispatch> {
        &self.dispatch
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn target<'p>(&self, path: &'p str) -> RequestTarget<'p> {
        let rest = if self.path == "/" { path } else { path.strip_prefix(self.path.as_str()).unwrap_or("-") };
        match rest {
            "" | "/" => RequestTarget::Plain,
            "/!live" => RequestTarget::Live,
            "/!ready" => RequestTarget::Ready,
            _ => match rest.strip_prefix('/') {
                Some(name) => RequestTarget::Path(name),
                None => RequestTarget::Nothing,
            },
        }
    }
}

impl Session {
    pub(super) fn new(
        endpoint: Arc<ServerEndpoint>,
        activity: Arc<ConnectionActivity>,
        peer: Option<SocketAddr>,
    ) -> Self {
        let functions = CallPermits::new(endpoint.functions());
        Self { endpoint, activity, peer, host: OnceLock::new(), functions, upgrade: OnceLock::new() }
    }

    /// The connection itself, where frames were asked for and granted.
    pub(super) fn upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade.get().cloned()
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
    let (mut head, body) = request.into_parts();
    let mut body = Some(body);
    let version = head.version;
    let is_head = head.method == Verb::HEAD;
    let is_get = is_head || head.method == Verb::GET;
    let target = endpoint.target(head.uri.path());
    let says_idle =
        version <= Version::HTTP_11 && (endpoint.idles_briefly || !matches!(target, RequestTarget::Path(_)));
    let mut out = endpoint.route(&session, &mut head, &mut body).await;
    if let Some(body) = body {
        // It was answered unread. The next request can come only behind it.
        skip(&head, pin!(body), &session.activity).await;
    }
    let headers = out.headers_mut();
    headers.insert(headers::PROTOCOL, headers::VERSION);
    headers.insert(headers::WAYS, endpoint.ways.clone());
    if says_idle {
        headers.insert(headers::KEEP_ALIVE, endpoint.keep_alive.clone());
    }
    if version <= Version::HTTP_11 && (!endpoint.dispatch.is_ready() || session.activity.has_left_unread()) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        session.activity.announce_end();
    }
    if is_get {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if is_head {
        leave_out_body(&mut out);
    }
    if version == Version::HTTP_2 {
        out.extensions_mut().clear();
        // The original's 502 is told from a proxy's by its reason, which HTTP/2 doesn't carry.
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
        && out.status() != StatusCode::NO_CONTENT
    {
        out.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
}

/// Reads over what is left of a request's body, if that costs little; if not, its connection has no further request. Over
/// HTTP/2 the stream ends with its answer, whatever was read of it.
async fn skip<B: RequestBody>(head: &Parts, body: Pin<&mut B>, activity: &ConnectionActivity) {
    if head.version > Version::HTTP_11 || body.is_end_stream() {
        return;
    }
    // A client that waits to be asked for its body may send none, and to read is to ask.
    let waits =
        head.headers.get(EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits || !request_body::skip(body).await {
        activity.leave_unread();
    }
}

type HttpAnswer = Response<ReplyContent>;

/// Where a call comes from and until when it is waited for.
struct CallerInfo<'s> {
    session: &'s Session,
    began: Instant,
    deadline: Option<Instant>,
    /// How it takes a stream.
    form: StreamFormat,
}

impl ServerEndpoint {
    /// What is answered; `body` is left where it wasn't looked at.
    async fn route<B: RequestBody>(&self, session: &Session, head: &mut Parts, body: &mut Option<B>) -> HttpAnswer {
        let began = Instant::now();
        let target = self.target(head.uri.path());
        let way = if matches!(target, RequestTarget::Plain) { Way::Plain } else { Way::Path };
        if let Err(turned) = transfer_coding(&head.headers) {
            let mut out = turn(way, turned);
            out.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return out;
        }
        let known = session.is_known(head);
        let host = match session.host.get().map(HeaderValue::to_str) {
            Some(Ok(host)) if known => Ok(host),
            _ => self.gate.host(head),
        };
        let host = match host {
            Ok(host) => host,
            Err(turned) => return turn(way, turned),
        };
        if !is_known_verb(&head.method) {
            let why = format!("{} is no method that this server knows; use POST", quoted(head.method.as_str()));
            return refuse(way, Error::refused(Code::Unimplemented, why), Some(StatusCode::NOT_IMPLEMENTED));
        }
        // Orchestrators probe by address, whatever name the server goes by; these two say nothing of it.
        match target {
            RequestTarget::Live => return probe(head, true),
            RequestTarget::Ready => return probe(head, self.dispatch.looks_ready()),
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
        let origin = match self.gate.origin(head, host) {
            Ok(origin) => origin.cloned(),
            Err(turned) => return turn(way, turned),
        };
        if self.frames && matches!(target, RequestTarget::Plain) && websocket_upgrade::is_asked_for(head) {
            let has_body = body.as_ref().is_some_and(|body| !body.is_end_stream());
            return match websocket_upgrade::grant(head, has_body, self.dispatch.is_ready()) {
                Ok((granted, connection)) => {
                    // There is one at most: nothing is read of HTTP after the answer that grants it.
                    let _ = session.upgrade.set(connection);
                    granted.map(ReplyContent::Whole)
                }
                Err((status, error)) => {
                    let mut out = refuse(way, error, Some(status));
                    if status == StatusCode::UPGRADE_REQUIRED {
                        let headers = out.headers_mut();
                        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                    }
                    out
                }
            };
        }
        let deadline = match headers::timeout(&head.headers) {
            Ok(timeout) => timeout.map(|timeout| later(began, timeout)),
            Err(error) => return refuse(way, error, None),
        };
        let form = StreamFormat::asked_for(&head.headers);
        let caller = CallerInfo { session, began, deadline, form };
        let mut out = if head.method == Verb::OPTIONS && origin.is_some() {
            preflight()
        } else {
            match target {
                RequestTarget::Plain if self.plain || self.json_rpc => self.plain(head, body, caller).await,
                RequestTarget::Path(name) if self.by_path => {
                    let name = name.to_owned();
                    self.by_path(name, head, body, caller).await
                }
                // The server as a whole.
                _ if head.method == Verb::OPTIONS && head.uri.path() == "*" => allowing(Verbs::Read),
                _ => self.nothing(way, head.uri.path()),
            }
        };
        if let Some(origin) = origin {
            out.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            out.headers_mut().append(VARY, HeaderValue::from_static("origin"));
        }
        out
    }

    fn nothing(&self, way: Way, asked: &str) -> HttpAnswer {
        // Where this is mounted is known to the outer server alone.
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
            _ => "this server takes no calls over HTTP; let it by `Server::plain` or `Server::path`".to_owned(),
        };
        refuse(way, Error::refused(Code::Unimplemented, why), Some(StatusCode::NOT_FOUND))
    }

    async fn plain<B: RequestBody>(
        &self,
        head: &mut Parts,
        body: &mut Option<B>,
        caller: CallerInfo<'_>,
    ) -> HttpAnswer {
        if head.method != Verb::POST {
            return refuse_verb(Way::Plain, head, Verbs::Call);
        }
        if self.plain && stream_lines::is(&head.headers) {
            return self.plain_lines(head, body, caller).await;
        }
        match self.body(head, body, &caller, None).await {
            Ok(body) => match plain_way::read(&body) {
                // Boxed, so that the other ways don't carry its size.
                Err(_) if self.json_rpc && json_rpc::is(&body) => {
                    Box::pin(self.json_rpc(body, take(&mut head.headers), caller)).await
                }
                _ if !self.plain => self.nothing(Way::Plain, head.uri.path()),
                Ok((name, args)) => self.call(Way::Plain, name, CallArguments::Encoded(args), head, caller).await,
                Err(error) => refuse(Way::Plain, error, None),
            },
            Err(turned) => turn(Way::Plain, turned),
        }
    }

    /// A call whose first line is what a plain body is, and whose others are the items of its stream.
    async fn plain_lines<B: RequestBody>(
        &self,
        head: &mut Parts,
        body: &mut Option<B>,
        caller: CallerInfo<'_>,
    ) -> HttpAnswer {
        let limits = self.dispatch.limits();
        let mut lines = match self.lines(head, body, &caller) {
            Ok(lines) => lines,
            Err(turned) => return turn(Way::Plain, turned),
        };
        let until = caller.deadline.unwrap_or_else(|| later(caller.began, self.dispatch.patience(None)));
        let first = match before(until, poll_fn(|cx| lines.poll_line(cx))).await {
            Some(Ok(line)) => line.unwrap_or_default(),
            Some(Err(error)) => return refuse(Way::Plain, error.executed_is(Executed::No), None),
            None => return refuse(Way::Plain, request_body::stalled(limits.body_progress), None),
        };
        match plain_way::read(&first) {
            Ok((name, args)) => {
                let (args, items) = (CallArguments::Encoded(args), Items::new(lines));
                self.call_with(Way::Plain, name, args, Some(items), head, caller).await
            }
            Err(error) => refuse(Way::Plain, error, None),
        }
    }

    async fn json_rpc(&self, body: Bytes, metadata: HeaderMap, caller: CallerInfo<'_>) -> HttpAnswer {
        let limits = self.dispatch.limits();
        match json_rpc::read(&body, limits.batch) {
            json_rpc::JsonRpcBody::Single(asked) => {
                let room = AtomicUsize::new(limits.message);
                let (reply, metadata) = self.json_rpc_call(asked, metadata, &caller, &room).await;
                // Nobody asked for the headers of a notification either.
                let metadata = if reply.is_some() { metadata } else { HeaderMap::new() };
                finish(json_rpc::answer(reply), metadata)
            }
            json_rpc::JsonRpcBody::Batch(asked) => {
                // Less a comma for each, and the brackets.
                let room = AtomicUsize::new(limits.message.saturating_sub(asked.len() + 1));
                let call = |asked| self.json_rpc_call(asked, metadata.clone(), &caller, &room);
                let is_half_closed = || caller.session.activity.is_half_closed();
                let replies = join(asked.into_iter().map(call), is_half_closed).await;
                // Headers that a function sets are about its own reply, and here they would be about all.
                let replies: Vec<_> = replies.into_iter().filter_map(|(reply, _)| reply).collect();
                let body = (!replies.is_empty()).then(|| json_rpc::together(&replies));
                finish(json_rpc::answer(body), HeaderMap::new())
            }
        }
    }

    /// One request of JSON-RPC, run to its end; a notification has no reply. What functions say takes from `room`, in
    /// the order of coming: so one answer never holds more than fits, however many calls it is to.
    async fn json_rpc_call(
        &self,
        asked: json_rpc::JsonRpcRequest,
        metadata: HeaderMap,
        caller: &CallerInfo<'_>,
        room: &AtomicUsize,
    ) -> (Option<Bytes>, HeaderMap) {
        let (name, args) = match asked.call {
            Ok(call) => call,
            Err(no_call) => return (asked.id.map(|id| json_rpc::no_call(&id, no_call)), HeaderMap::new()),
        };
        let said = name.clone();
        let none = StreamsOfCall { items: None, takes_stream: false };
        let reply = self.run(name, &said, CallArguments::Encoded(args), none, metadata, caller).await;
        let Some(id) = asked.id else {
            return (None, reply.metadata);
        };
        let of_function = is_of_function(&reply.result);
        let body = match reply.result {
            Ok(Returned::Value(value)) => match value.into_json() {
                Some(value) => json_rpc::success(&id, &value),
                None => json_rpc::failure(&id, &not_encoded().into()),
            },
            Ok(Returned::Stream(_)) => json_rpc::failure(&id, &not_encoded().into()),
            Err(failure) => json_rpc::failure(&id, &failure.into()),
        };
        let fits = || room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(body.len()));
        if of_function && fits().is_err() {
            let (length, limit) = (body.len(), self.dispatch.limits().message);
            let why = format!(
                "the reply of `{said}` has {length} bytes, and all replies of an answer together have at most {limit} \
                 (`Limits::message` of the server){}",
                codec::shorter(Codec::Json)
            );
            return (Some(json_rpc::failure(&id, &does_not_fit(why).into())), HeaderMap::new());
        }
        (Some(body), reply.metadata)
    }

    async fn by_path<B: RequestBody>(
        &self,
        name: String,
        head: &mut Parts,
        body: &mut Option<B>,
        caller: CallerInfo<'_>,
    ) -> HttpAnswer {
        if head.method == Verb::POST && self.dispatch.takes_stream(&name) {
            let args = match head.uri.query().map_or_else(|| Ok(Vec::new()), path_way::read_query) {
                Ok(pairs) => CallArguments::Query(pairs),
                Err(error) => return refuse(Way::Path, error, None),
            };
            let items = match self.lines(head, body, &caller) {
                Ok(lines) => Items::new(lines),
                Err(turned) => return turn(Way::Path, turned),
            };
            return self.call_with(Way::Path, name, args, Some(items), head, caller).await;
        }
        let args = match head.method {
            Verb::POST => match self.body(head, body, &caller, Some(&name)).await {
                Ok(body) => path_way::read(body).map(CallArguments::Encoded),
                Err(turned) => return turn(Way::Path, turned),
            },
            ref verb => match self.dispatch.is_readonly(&name) {
                Some(true) if [Verb::GET, Verb::HEAD].contains(verb) => {
                    path_way::read_query(head.uri.query().unwrap_or("")).map(CallArguments::Query)
                }
                Some(readonly) => {
                    let allowed = if readonly { Verbs::Read } else { Verbs::Call };
                    let refused = CallArguments::Refused(wrong_verb(Some(&name), verb, head.uri.path(), allowed));
                    let is_question = *verb == Verb::OPTIONS;
                    let mut out = self.call(Way::Path, name, refused, head, caller).await;
                    if out.status() == StatusCode::METHOD_NOT_ALLOWED {
                        if is_question {
                            return allowing(allowed);
                        }
                        out.headers_mut().insert(ALLOW, allowed.header());
                    }
                    return out;
                }
                None => Ok(CallArguments::Encoded(EncodedArguments::none(Codec::Json))),
            },
        };
        match args {
            Ok(args) => self.call(Way::Path, name, args, head, caller).await,
            Err(error) => refuse(Way::Path, error, None),
        }
    }

    /// Takes the body, if it says that it is of a kind that is taken.
    fn takes_body<B: RequestBody>(&self, head: &Parts, body: &mut Option<B>) -> Result<B, Rejection> {
        self.gate.content_type(&head.headers, body.as_ref().is_some_and(|body| !body.is_end_stream()))?;
        let encoding = head.headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
        let Some(encoding) = encoding else {
            return Ok(body.take().expect("a body is taken once"));
        };
        let encoding = quoted_bytes(encoding.as_bytes());
        let why = format!("`content-encoding` is {encoding}, expected none; send the body as it is");
        let error = Error::refused(Code::InvalidArgument, why);
        Err(Rejection { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, error })
    }

    /// The body of a call, line by line.
    fn lines<B: RequestBody>(
        &self,
        head: &Parts,
        body: &mut Option<B>,
        caller: &CallerInfo<'_>,
    ) -> Result<RequestLines<B>, Rejection> {
        let body = self.takes_body(head, body)?;
        Ok(RequestLines::new(body, self.dispatch.limits().message, Arc::clone(&caller.session.activity)))
    }

    /// Reads the body of a call of this name, which may stand in the body itself.
    async fn body<B: RequestBody>(
        &self,
        head: &Parts,
        body: &mut Option<B>,
        caller: &CallerInfo<'_>,
        name: Option<&str>,
    ) -> Result<Bytes, Rejection> {
        let mut body = pin!(self.takes_body(head, body)?);
        let until = match caller.deadline {
            Some(deadline) => BodyDeadline { deadline, by_caller: true },
            None => BodyDeadline { deadline: later(caller.began, self.dispatch.patience(name)), by_caller: false },
        };
        match request_body::read(body.as_mut(), self.dispatch.limits(), until).await {
            Ok(body) => Ok(body),
            Err(error) => {
                let activity = &caller.session.activity;
                match error.limit() {
                    Some("message") => skip(head, body, activity).await,
                    // It was waited for already, or has broken off.
                    _ => activity.leave_unread(),
                }
                Err(plainly(error))
            }
        }
    }

    async fn call(
        &self,
        way: Way,
        name: String,
        args: CallArguments,
        head: &mut Parts,
        caller: CallerInfo<'_>,
    ) -> HttpAnswer {
        self.call_with(way, name, args, None, head, caller).await
    }

    /// A call, and what its caller streams in.
    async fn call_with(
        &self,
        way: Way,
        name: String,
        args: CallArguments,
        items: Option<Items>,
        head: &mut Parts,
        caller: CallerInfo<'_>,
    ) -> HttpAnswer {
        // Only an error needs the name again, and there it is only for words.
        let said = name.clone();
        let refused = matches!(args, CallArguments::Refused(_));
        let streams = StreamsOfCall { items, takes_stream: true };
        let Reply { result, metadata } = self.run(name, &said, args, streams, take(&mut head.headers), &caller).await;
        let of_function = is_of_function(&result);
        let answered = match result {
            Ok(Returned::Value(value)) => match (value.into_json(), way) {
                (Some(value), Way::Plain) => plain_way::success(&value),
                (Some(value), Way::Path) => path_way::success(value),
                (None, _) => return refuse(way, not_encoded(), None),
            },
            Ok(Returned::Stream(items)) => {
                let readonly = self.dispatch.is_readonly(&said) == Some(true);
                let reader = readonly.then(|| (Arc::clone(&caller.session.activity), said));
                return response_body::stream(items, caller.form, reader, metadata);
            }
            Err(failure) => {
                let refusal = WireError::from(failure);
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
                "the reply of `{said}` has {length} bytes, more than {limit} (`Limits::message` of the server); \
                 return less, or raise it{}",
                codec::shorter(Codec::Json)
            );
            return refuse(way, does_not_fit(why), None);
        }
        finish(answered, metadata)
    }

    /// Runs a call as one of its connection's; `said` is its name once more.
    async fn run(
        &self,
        name: String,
        said: &str,
        args: CallArguments,
        streams: StreamsOfCall,
        metadata: HeaderMap,
        caller: &CallerInfo<'_>,
    ) -> Reply {
        let Some(share) = caller.session.functions.try_acquire() else {
            let most = self.functions();
            let why =
                format!("{most} functions that were called on this connection still run; wait until some have ended");
            return Error::refused(Code::ResourceExhausted, why).with_retry_after(Duration::from_millis(100)).into();
        };
        let mut request = Request::new(name.into(), args, metadata);
        (request.peer, request.deadline, request.share) = (caller.session.peer, caller.deadline, Some(share));
        (request.items, request.takes_stream) = (streams.items, streams.takes_stream);
        // What is streamed in may be whole and not read yet; a function that is told would find it broken off.
        let mut is_to_be_told = request.items.is_none();
        let mut running = pin!(self.dispatch.run(request));
        poll_fn(|cx| {
            let polled = running.as_mut().poll(cx);
            if polled.is_ready() || !caller.session.activity.is_half_closed() {
                return polled;
            }
            if self.dispatch.is_readonly(said) == Some(true) {
                return Poll::Ready(half_closed(said).into());
            }
            if std::mem::take(&mut is_to_be_told) {
                return while_caller_may_be_gone(|| running.as_mut().poll(cx));
            }
            polled
        })
        .await
    }

    /// How many functions one connection may have running, those included that nobody waits for any more: as many as
    /// HTTP/2 has streams, so that opening and resetting streams in turn starts no more, or as a batch has calls.
    fn functions(&self) -> usize {
        let streams = STREAMS as usize;
        streams.max(self.dispatch.limits().batch)
    }
}

/// The streams of a call.
struct StreamsOfCall {
    items: Option<Items>,
    takes_stream: bool,
}

/// What is ours to say is always said; what the function says must fit.
fn is_of_function(result: &Result<Returned, Failure>) -> bool {
    match result {
        Ok(_) | Err(Failure::Method { .. }) => true,
        Err(Failure::Rpc(error)) => error.data().is_some(),
    }
}

/// A function that only reads is not run to its end for a caller that has probably gone.
pub(super) fn half_closed(name: &str) -> Error {
    let why = format!(
        "the caller closed its half of the connection while `{name}` was at work, which is `readonly` and was dropped; \
         keep the connection open until the answer is there"
    );
    Error::new(Code::Cancelled, why).executed_is(Executed::Unknown)
}

fn does_not_fit(why: String) -> Error {
    Error::new(Code::ResourceExhausted, why).of_limit("message").executed_is(Executed::Yes)
}

fn not_encoded() -> Error {
    Error::new(Code::Internal, "a value was not encoded, which is a defect of byname")
}

fn plainly(error: Error) -> Rejection {
    let status = StatusCode::from_u16(crate::wire::status(&error)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Rejection { status, error }
}

fn turn(way: Way, turned: Rejection) -> HttpAnswer {
    let mut out = refuse(way, turned.error, Some(turned.status));
    if turned.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        out.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    out
}

fn refuse(way: Way, error: Error, status: Option<StatusCode>) -> HttpAnswer {
    let refusal = WireError::from(Failure::Rpc(error));
    let status = status.map_or_else(|| refusal.status(way), |status| status.as_u16());
    finish(refusal.answer(way, status), HeaderMap::new())
}

/// The methods of HTTP that something answers to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verbs {
    /// A function, or the endpoint.
    Call,
    /// A function that changes nothing.
    Read,
    Probe,
}

impl Verbs {
    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Call => "POST, OPTIONS",
            Self::Read => "GET, HEAD, POST, OPTIONS",
            Self::Probe => "GET, HEAD, OPTIONS",
        })
    }

    fn words(self) -> &'static str {
        match self {
            Self::Call => "POST",
            Self::Read => "POST or GET",
            Self::Probe => "GET",
        }
    }
}

/// Whether a method is known at all: another one is not wrong here, it is wrong everywhere.
fn is_known_verb(verb: &Verb) -> bool {
    let others = [Verb::HEAD, Verb::OPTIONS, Verb::PUT, Verb::DELETE, Verb::PATCH, Verb::TRACE];
    *verb == Verb::POST || *verb == Verb::GET || others.contains(verb)
}

fn wrong_verb(name: Option<&str>, verb: &Verb, path: &str, allowed: Verbs) -> Error {
    let why = match name {
        Some(name) if allowed == Verbs::Call && [Verb::GET, Verb::HEAD].contains(verb) => {
            format!("{verb} may only call `readonly` functions, and {} is none; use POST", quoted(name))
        }
        _ => format!("{} calls nothing at {}; use {}", quoted(verb.as_str()), quoted(path), allowed.words()),
    };
    Error::refused(Code::Unimplemented, why)
}

fn refuse_verb(way: Way, head: &Parts, allowed: Verbs) -> HttpAnswer {
    if head.method == Verb::OPTIONS {
        return allowing(allowed);
    }
    let error = wrong_verb(None, &head.method, head.uri.path(), allowed);
    let mut out = refuse(way, error, Some(StatusCode::METHOD_NOT_ALLOWED));
    out.headers_mut().insert(ALLOW, allowed.header());
    out
}

/// What OPTIONS is answered.
fn allowing(verbs: Verbs) -> HttpAnswer {
    let mut out = Response::new(ReplyContent::default());
    *out.status_mut() = StatusCode::NO_CONTENT;
    out.headers_mut().insert(ALLOW, verbs.header());
    out
}

fn finish(answered: HttpReply, metadata: HeaderMap) -> HttpAnswer {
    let HttpReply { status, content_type, retry_after, body } = answered;
    let mut out = Response::new(ReplyContent::Whole(body));
    *out.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == 502 {
        out.extensions_mut().insert(ReasonPhrase::from_static(headers::NO_FUNC.as_bytes()));
    }
    if !metadata.is_empty() {
        *out.headers_mut() = metadata;
    }
    if status != 204 {
        out.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Some(seconds) = retry_after {
        out.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    out
}

fn probe(head: &Parts, well: bool) -> HttpAnswer {
    if head.method != Verb::GET && head.method != Verb::HEAD {
        return refuse_verb(Way::Path, head, Verbs::Probe);
    }
    let (status, text) = if well { (200, "ok\n") } else { (503, "draining\n") };
    let body = Bytes::from_static(text.as_bytes());
    finish(HttpReply { status, content_type: "text/plain", retry_after: None, body }, HeaderMap::new())
}

fn preflight() -> HttpAnswer {
    let mut out = Response::new(ReplyContent::Whole(Bytes::new()));
    *out.status_mut() = StatusCode::NO_CONTENT;
    let headers = out.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let allowed = "authorization, byname-timeout-ms, content-type, idempotency-key, traceparent, tracestate";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    out
}
