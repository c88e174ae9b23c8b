//! Whether a request is let in, and which way it is answered by.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Method as Verb};
use tokio::time::Instant;

use super::admitted_request::{AdmittedRequest, CallerInfo};
use super::answer::{HttpAnswer, Rejection};
use super::builtin::Builtin;
use super::host_and_origin::transfer_coding;
use super::path::PathWay;
use super::plain::PlainWay;
use super::request_body::RequestBody;
use super::response_body::ReplyContent;
use super::verbs::{self, Verbs};
use super::websocket_upgrade;
use super::{GrantedUpgrade, Session, WayIn};
use crate::deadline::later;
use crate::metadata;
use crate::wire::{Way, headers};

/// What a request asks for.
#[derive(Clone, Copy)]
pub(super) enum RequestTarget {
    /// A call, its name in the body.
    Plain,
    /// A call of the name that begins here in the path.
    Path {
        name_at: usize,
    },
    /// What stands under a reserved name.
    Builtin(&'static Builtin),
    Nothing,
}

impl RequestTarget {
    /// What `path` asks for at this endpoint.
    pub(super) fn of(path: &str, endpoint: &str) -> Self {
        let rest = if endpoint == "/" { Some(path) } else { path.strip_prefix(endpoint) };
        match rest {
            Some("" | "/") => Self::Plain,
            Some(rest) => match rest.strip_prefix('/') {
                Some(name) => match Builtin::find(name) {
                    Some(builtin) => Self::Builtin(builtin),
                    None => Self::Path { name_at: path.len() - name.len() },
                },
                None => Self::Nothing,
            },
            None => Self::Nothing,
        }
    }

    /// The way whose callers read what is rejected here.
    fn errors(self) -> Way {
        match self {
            Self::Plain => Way::Plain,
            Self::Path { .. } | Self::Builtin(_) | Self::Nothing => Way::Path,
        }
    }
}

/// The answer to a request; `body` is left where it wasn't looked at.
pub(super) async fn route<B: RequestBody>(
    session: &Session,
    target: RequestTarget,
    head: &mut Parts,
    body: &mut Option<B>,
) -> HttpAnswer {
    let request = AdmittedRequest { caller: CallerInfo { session, deadline: None }, head, body, began: Instant::now() };
    let mut origin = None;
    let mut out = match admit(request, target, &mut origin).await {
        Ok(out) => out,
        Err(rejection) => rejection.into_answer(target.errors()),
    };
    if let Some(origin) = origin {
        session.endpoint.cors.allow(out.headers_mut(), origin);
    }
    out
}

/// Answers a request if it is let in. `origin` is set where a page of another site asks that may.
async fn admit<B: RequestBody>(
    mut request: AdmittedRequest<'_, B>,
    target: RequestTarget,
    origin: &mut Option<HeaderValue>,
) -> Result<HttpAnswer, Rejection> {
    let (session, endpoint) = (request.caller.session, request.endpoint());
    let head = &mut *request.head;
    transfer_coding(&head.headers)?;
    let is_known = session.is_known(head);
    let host = match session.host.get().map(HeaderValue::to_str) {
        Some(Ok(host)) if is_known => host,
        _ => endpoint.gate.host(head)?,
    };
    verbs::check_known(&head.method)?;
    if let RequestTarget::Builtin(builtin) = target
        && builtin.is_probe
    {
        return answer_by(builtin, request).await;
    }
    if !is_known {
        endpoint.gate.is_ours(host, session.peer.as_ref().is_some_and(|peer| peer.connection.is_unix()))?;
        if let Some(host) = head.headers.get(HOST) {
            // Another one that is ours as well may have been first; that one is kept.
            let _ = session.host.set(host.clone());
        }
    }
    *origin = endpoint.gate.origin(head, host)?.cloned();
    if endpoint.frames && matches!(target, RequestTarget::Plain) && websocket_upgrade::is_asked_for(head) {
        return upgrade(request);
    }
    request.caller.deadline = headers::timeout(&head.headers)?.map(|timeout| later(request.began, timeout));
    if head.method == Verb::OPTIONS && origin.is_some() {
        return Ok(endpoint.cors.preflight());
    }
    match target {
        RequestTarget::Plain if endpoint.plain || endpoint.json_rpc => answer_by(PlainWay, request).await,
        RequestTarget::Path { name_at } if endpoint.by_path => {
            let name = head.uri.path()[name_at..].to_owned();
            answer_by(PathWay { name }, request).await
        }
        RequestTarget::Builtin(builtin) => answer_by(builtin, request).await,
        // The server as a whole.
        _ if head.method == Verb::OPTIONS && head.uri.path() == "*" => Ok(Verbs::Read.allowing()),
        _ => Err(endpoint.nothing(head.uri.path())),
    }
}

/// Answers by one way, whose callers read what is rejected as that way writes it.
async fn answer_by<W: WayIn, B: RequestBody>(way: W, request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
    match way.answer(request).await {
        Err(rejection) => Ok(rejection.into_answer(W::ERRORS)),
        answered => answered,
    }
}

/// Answers a handshake of WebSocket: the connection goes on with frames.
fn upgrade<B: RequestBody>(request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
    let has_body = request.body.as_ref().is_some_and(|body| !body.is_end_stream());
    let is_ready = request.endpoint().dispatch().is_ready();
    let (granted, connection) = websocket_upgrade::grant(request.head, has_body, is_ready)?;
    // There is one at most: nothing is read of HTTP after the answer that grants it.
    let is_forwarded = metadata::is_forwarded(&request.head.headers);
    let _ = request.caller.session.upgrade.set(GrantedUpgrade { connection, is_forwarded });
    Ok(granted.map(ReplyContent::Whole))
}
