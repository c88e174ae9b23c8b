//! Services at reserved names: `/rpc/!live` and similar. No function has such a name.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method as Verb, StatusCode};

use super::admitted_request::AdmittedRequest;
use super::allowed_methods::Verbs;
use super::answer::{HttpAnswer, Rejection, answer};
use super::path_calls::PathWay;
use super::request_body::RequestBody;
use super::{ServerEndpoint, WayIn};
use crate::error::{Code, Error};
use crate::explained_clients;
use crate::metadata;
use crate::outcome::{Failure, Returned};
use crate::request::CallArguments;
use crate::runtime;
use crate::service_schema::ServiceDocument;
use crate::stats::{CountedDocument, MetricsFormat};
use crate::wire::{HttpReply, Way, WireError};

/// All of them.
const BUILTINS: &[Builtin] = &[
    // Is the process alive?
    Builtin { name: "!live", is_probe: true, is_offered: |_| true, reply: BuiltinReply::Page(|_| probed(true)) },
    // Does it want calls?
    Builtin {
        name: "!ready",
        is_probe: true,
        is_offered: |_| true,
        reply: BuiltinReply::Page(|endpoint| probed(endpoint.dispatch().admission().looks_ready())),
    },
    // What do the clients of this process know of their services?
    Builtin {
        name: "!explain",
        is_probe: false,
        is_offered: |endpoint| endpoint.explains_clients,
        reply: BuiltinReply::Page(|_| {
            let body = explained_clients::explained().into();
            // Durations have a µ.
            HttpReply { status: StatusCode::OK, content_type: "text/plain; charset=utf-8", retry_after: None, body }
        }),
    },
    // What can be called here?
    Builtin::listing("!schema", ServiceDocument::Schema),
    // What was counted?
    Builtin::counted("!stats", CountedDocument::Stats),
    Builtin::counted("!metrics", CountedDocument::Metrics),
    #[cfg(feature = "schema")]
    Builtin::listing("!openapi.json", ServiceDocument::OpenApi),
    #[cfg(feature = "schema")]
    Builtin::listing("!openrpc.json", ServiceDocument::OpenRpc),
];

/// A service at a reserved name.
#[derive(Debug)]
pub(super) struct Builtin {
    name: &'static str,
    /// Orchestrators probe by address, with any host name. The answers reveal nothing about the server.
    pub(super) is_probe: bool,
    /// Whether the server has it. If not, it is a name as any other that is unknown.
    is_offered: fn(&ServerEndpoint) -> bool,
    reply: BuiltinReply,
}

#[derive(Debug)]
enum BuiltinReply {
    Page(fn(&ServerEndpoint) -> HttpReply),
    /// A page about the functions that the caller may learn of. For a caller that may learn none, its name is a name as any other
    /// that is unknown. It may take its time. A POST calls it as a function.
    Listing(ServiceDocument),
    /// A page about what was counted. It is called as a function, whatever the verb.
    Counted(CountedDocument),
}

impl Builtin {
    const fn listing(name: &'static str, document: ServiceDocument) -> Self {
        Self { name, is_probe: false, is_offered: |_| true, reply: BuiltinReply::Listing(document) }
    }

    const fn counted(name: &'static str, document: CountedDocument) -> Self {
        Self { name, is_probe: false, is_offered: |_| true, reply: BuiltinReply::Counted(document) }
    }

    pub(super) fn find(name: &str, endpoint: &ServerEndpoint) -> Option<&'static Self> {
        // Every call's name is checked here, and none begins with `!`. Prometheus encodes it.
        let reserved = name.strip_prefix('!').or_else(|| name.strip_prefix("%21"))?;
        BUILTINS.iter().find(|builtin| &builtin.name[1..] == reserved && (builtin.is_offered)(endpoint))
    }
}

impl WayIn for &Builtin {
    async fn answer<B: RequestBody>(self, request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
        let reply = match self.reply {
            BuiltinReply::Page(_) if !is_read(request.head) => return Verbs::Probe.refuse(request.head),
            BuiltinReply::Page(page) => page(request.endpoint()),
            BuiltinReply::Counted(document) => return Box::pin(counted(self.name, document, request)).await,
            BuiltinReply::Listing(document) => {
                let (endpoint, headers) = (request.endpoint(), &mut request.head.headers);
                metadata::hide(headers, endpoint.dispatch().secret_headers());
                let nothing = CallArguments::Query(Vec::new());
                let mut asked = request.caller.request(self.name.into(), nothing, headers.clone());
                // A POST calls it as a function.
                let is_call = request.head.method == Verb::POST;
                let listed = if is_call { None } else { endpoint.dispatch().listed(&mut asked) };
                let Some(methods) = listed else {
                    if !endpoint.by_path {
                        return Err(endpoint.nothing(request.head.uri.path()));
                    }
                    endpoint.takes_calls()?;
                    return Box::pin(PathWay { name: self.name.into() }.answer(request)).await;
                };
                if !is_read(request.head) {
                    return Verbs::Probe.refuse(request.head);
                }
                let path = request.head.uri.path();
                let path = path.rsplit_once('/').map_or("", |(endpoint, _)| endpoint).trim_end_matches('/').to_owned();
                let page = move || {
                    let body = format!("{:#}\n", document.of(methods, Some(&path))).into();
                    HttpReply { status: StatusCode::OK, content_type: "application/json", retry_after: None, body }
                };
                match runtime::run_blocking(page).await {
                    Ok(reply) => reply,
                    Err(_) => return Err(Error::new(Code::Internal, "the page could not be made").into()),
                }
            }
        };
        Ok(answer(reply, HeaderMap::new()))
    }
}

async fn counted<B: RequestBody>(
    name: &'static str,
    document: CountedDocument,
    request: AdmittedRequest<'_, B>,
) -> Result<HttpAnswer, Rejection> {
    let endpoint = request.endpoint();
    if request.head.method != Verb::POST && !is_read(request.head) {
        return Verbs::Probe.refuse(request.head);
    }
    metadata::hide(&mut request.head.headers, endpoint.dispatch().secret_headers());
    let nothing = CallArguments::Query(Vec::new());
    let format = MetricsFormat::for_accept(&request.head.headers);
    let asked = request.caller.request(name.into(), nothing, std::mem::take(&mut request.head.headers));
    let reply = endpoint.dispatch().run(asked).await;
    let value = match reply.result {
        Ok(Returned::Value(value)) => value.into_json(),
        Ok(Returned::Stream(_)) => None,
        Err(Failure::Rpc(error)) if error.code() == Code::Unimplemented && !endpoint.by_path => {
            return Err(endpoint.nothing(request.head.uri.path()));
        }
        Err(failure) => {
            let refusal = WireError::from(failure);
            let status = refusal.status(Way::Path);
            return Ok(answer(refusal.answer(Way::Path, status), reply.metadata));
        }
    };
    let Some(value) = value else {
        return Err(Error::new(Code::Internal, "the page could not be made").into());
    };
    let (content_type, body) = match document {
        CountedDocument::Stats => ("application/json", value),
        CountedDocument::Metrics => {
            let text: String = serde_json::from_slice(&value).unwrap_or_default();
            (format.content_type(), format.write(text).into())
        }
    };
    Ok(answer(HttpReply { status: StatusCode::OK, content_type, retry_after: None, body }, reply.metadata))
}

fn is_read(head: &Parts) -> bool {
    [Verb::GET, Verb::HEAD].contains(&head.method)
}

fn probed(well: bool) -> HttpReply {
    let (status, said) = if well { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") };
    let body = Bytes::from_static(said.as_bytes());
    HttpReply { status, content_type: "text/plain", retry_after: None, body }
}
