//! Decides whether a request is admitted, and which way answers it.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Method as Verb};
use tokio::time::Instant;

use super::admitted_request::{AdmittedRequest, CallerInfo};
use super::allowed_methods::{self, Verbs};
use super::answer::{HttpAnswer, Rejection};
use super::builtin::Builtin;
use super::console::ConsoleFile;
use super::host_and_origin::{may_name_no_host, transfer_coding};
use super::path_calls::PathWay;
use super::plain_calls::PlainWay;
use super::request_body::RequestBody;
use super::response_body::ReplyContent;
use super::websocket_upgrade;
use super::{GrantedUpgrade, ServerEndpoint, Session, WayIn};
use crate::access_log::CallWay;
use crate::call_record::CallRecord;
use crate::deadline::later;
use crate::metadata;
use crate::wire::{Way, headers};

/// The target of a request.
#[derive(Clone, Copy)]
pub(super) enum RequestTarget {
    /// A call whose name is in the body.
    Plain,
    /// A call whose name begins at this offset of the path.
    Path {
        name_at: usize,
    },
    /// A service at a reserved name.
    Builtin(&'static Builtin),
    Nothing,
}

impl RequestTarget {
    /// The target that `path` means at this endpoint.
    pub(super) fn of(path: &str, endpoint: &ServerEndpoint) -> Self {
        let rest = if endpoint.path == "/" { Some(path) } else { path.strip_prefix(&*endpoint.path) };
        match rest {
            Some("" | "/") => Self::Plain,
            Some(rest) => match rest.strip_prefix('/') {
                Some(name) => match Builtin::find(name, endpoint) {
                    Some(builtin) => Self::Builtin(builtin),
                    None => Self::Path { name_at: path.len() - name.len() },
                },
                None => Self::Nothing,
            },
            None => Self::Nothing,
        }
    }

    /// The way whose error form is used for rejections, before the way in and by it.
    fn errors(self) -> Way {
        match self {
            Self::Plain => Way::Plain,
            Self::Path { .. } | Self::Builtin(_) | Self::Nothing => Way::Path,
        }
    }
}

/// The answer to a request. `body` stays `Some` if it was not read. `tells_load` is set if the caller is to learn how busy
/// the server is.
pub(super) async fn route<B: RequestBody>(
    session: &Session,
    target: RequestTarget,
    head: &mut Parts,
    body: &mut Option<B>,
    tells_load: &mut bool,
) -> HttpAnswer {
    let began = Instant::now();
    let client = session.client(head);
    let caller = CallerInfo { session, client: client.as_ref(), deadline: None };
    let mut record = record(caller, target, head, began);
    let request = AdmittedRequest { caller, head: &mut *head, body, began, record: &mut record, unread: None };
    let mut origin = None;
    let mut out = match admit(request, target, &mut origin, tells_load).await {
        Ok(out) => out,
        Err(rejection) => {
            record.refused(&rejection.error);
            rejection.into_answer(target.errors())
        }
    };
    record.sent(|| match out.body() {
        ReplyContent::Whole(body) if head.method != Verb::HEAD => body.len(),
        _ => 0,
    });
    if let Some(origin) = origin {
        session.endpoint.cors.allow(out.headers_mut(), origin);
    }
    out
}

/// The record of the call of a request.
fn record(caller: CallerInfo<'_>, target: RequestTarget, head: &Parts, began: Instant) -> CallRecord {
    let endpoint = caller.endpoint();
    let dispatch = endpoint.dispatch();
    let way = match target {
        RequestTarget::Plain => CallWay::Plain,
        RequestTarget::Path { .. } => CallWay::Path,
        RequestTarget::Builtin(_) | RequestTarget::Nothing => return CallRecord::none(),
    };
    let mut record = dispatch.telemetry().record(way, caller.peer(), &head.headers, began);
    let is_upgrade = || endpoint.frames && way == CallWay::Plain && websocket_upgrade::is_asked_for(head);
    let is_console = || way == CallWay::Plain && ConsoleFile::asked_for(head).is_some();
    if head.method == Verb::OPTIONS || is_upgrade() || is_console() {
        record.discard();
    } else if let RequestTarget::Path { name_at } = target {
        record.named(|| {
            let name = &head.uri.path()[name_at..];
            dispatch.logged_name(name, dispatch.entry(name))
        });
    }
    record
}

/// Answers a request if it is admitted. `origin` is set if a page of another allowed site calls.
async fn admit<B: RequestBody>(
    mut request: AdmittedRequest<'_, B>,
    target: RequestTarget,
    origin: &mut Option<HeaderValue>,
    tells_load: &mut bool,
) -> Result<HttpAnswer, Rejection> {
    let (session, endpoint) = (request.caller.session, request.endpoint());
    let head = &mut *request.head;
    let is_usual = headers::are_usual(&head.headers);
    if !is_usual {
        transfer_coding(&head.headers)?;
    }
    let is_known = session.is_known(head);
    let probe = match target {
        RequestTarget::Builtin(builtin) if builtin.is_probe => Some(builtin),
        _ => None,
    };
    let host = match session.host.get().map(HeaderValue::to_str) {
        Some(Ok(host)) if is_known => host,
        // A probe accepts every name, so it also accepts none where HTTP allows that. haproxy asks so.
        _ if probe.is_some() && may_name_no_host(head) => "",
        _ => endpoint.gate.host(head)?,
    };
    allowed_methods::check_known(&head.method)?;
    if let Some(probe) = probe {
        return probe.answer(request).await;
    }
    if !is_known {
        endpoint.gate.is_ours(host, session.peer.as_ref().is_some_and(|peer| peer.connection.is_unix()))?;
        if let Some(host) = head.headers.get(HOST) {
            // Another accepted host may have been stored first. It is kept.
            let _ = session.host.set(host.clone());
        }
    }
    let console = if matches!(target, RequestTarget::Plain) { ConsoleFile::asked_for(head) } else { None };
    let mut foreign = None;
    let from = if is_usual { Ok(None) } else { endpoint.gate.origin(head, host) };
    match from {
        Ok(from) => *origin = from.cloned(),
        // Pages of other sites may link to the console.
        Err(rejection) if console.is_some_and(|file| file.is_visited(head)) => foreign = Some(rejection),
        Err(rejection) => return Err(rejection),
    }
    if endpoint.frames && matches!(target, RequestTarget::Plain) && websocket_upgrade::is_asked_for(head) {
        return upgrade(request);
    }
    request.caller.deadline = headers::timeout(&head.headers)?.map(|timeout| later(request.began, timeout));
    *tells_load = request.caller.deadline.is_some();
    if head.method == Verb::OPTIONS && origin.is_some() {
        return Ok(endpoint.cors.preflight());
    }
    if !is_usual {
        endpoint.dispatch().console_token().check(&head.headers)?;
    }
    // A page of another origin would learn the token.
    if let Some(file) = console.filter(|_| origin.is_none())
        && let Some(out) = Box::pin(file.answer(request.caller, &head.headers)).await
    {
        return out;
    }
    if let Some(rejection) = foreign {
        return Err(rejection);
    }
    if matches!(target, RequestTarget::Plain | RequestTarget::Path { .. }) {
        endpoint.takes_calls()?;
        metadata::hide(&mut head.headers, endpoint.dispatch().secret_headers());
    }
    match target {
        RequestTarget::Plain if endpoint.plain || endpoint.json_rpc => PlainWay.answer(request).await,
        RequestTarget::Path { name_at } if endpoint.by_path => {
            let name = head.uri.path()[name_at..].into();
            PathWay { name }.answer(request).await
        }
        RequestTarget::Builtin(builtin) => builtin.answer(request).await,
        // The server as a whole.
        _ if head.method == Verb::OPTIONS && head.uri.path() == "*" => Ok(Verbs::Read.allowing()),
        _ => Err(endpoint.nothing(head.uri.path())),
    }
}

/// Answers a WebSocket handshake. The connection continues with frames.
fn upgrade<B: RequestBody>(request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
    // Some layers of an outer server wrap a body in one that doesn't say that it is empty.
    let has_body = websocket_upgrade::announces_body(request.head)
        && request.body.as_ref().is_some_and(|body| !body.is_end_stream());
    let is_ready = request.endpoint().dispatch().admission().is_ready();
    let (granted, connection) = websocket_upgrade::grant(request.head, has_body, is_ready)?;
    // There is at most one, because no HTTP is read after the answer that grants it.
    let client = request.caller.client.cloned();
    let is_forwarded = metadata::is_forwarded(&request.head.headers);
    let _ = request.caller.session.upgrade.set(GrantedUpgrade { connection, client, is_forwarded });
    Ok(granted.map(ReplyContent::Whole))
}
