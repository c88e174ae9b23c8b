//! Services at reserved names: `/rpc/!live` and similar. No function has such a name.

use bytes::Bytes;
use http::{HeaderMap, Method as Verb, StatusCode};

use super::admitted_request::AdmittedRequest;
use super::allowed_methods::Verbs;
use super::answer::{HttpAnswer, Rejection, answer};
use super::request_body::RequestBody;
use super::{ServerEndpoint, WayIn};
use crate::explained_clients;
use crate::wire::HttpReply;

/// All of them.
const BUILTINS: &[Builtin] = &[
    // Is the process alive?
    Builtin { name: "!live", is_probe: true, is_offered: |_| true, reply: |_| probed(true) },
    // Does it want calls?
    Builtin {
        name: "!ready",
        is_probe: true,
        is_offered: |_| true,
        reply: |endpoint| probed(endpoint.dispatch().admission().looks_ready()),
    },
    // What do the clients of this process know of their services?
    Builtin {
        name: "!explain",
        is_probe: false,
        is_offered: |endpoint| endpoint.explains_clients,
        reply: |_| {
            let body = explained_clients::explained().into();
            // Durations have a µ.
            HttpReply { status: StatusCode::OK, content_type: "text/plain; charset=utf-8", retry_after: None, body }
        },
    },
];

/// A service at a reserved name.
#[derive(Debug)]
pub(super) struct Builtin {
    name: &'static str,
    /// Orchestrators probe by address, with any host name. The answers reveal nothing about the server.
    pub(super) is_probe: bool,
    /// Whether the server has it. If not, it is a name as any other that is unknown.
    is_offered: fn(&ServerEndpoint) -> bool,
    reply: fn(&ServerEndpoint) -> HttpReply,
}

impl Builtin {
    pub(super) fn find(name: &str, endpoint: &ServerEndpoint) -> Option<&'static Self> {
        // Every call's name is checked here, and none begins with `!`.
        if !name.starts_with('!') {
            return None;
        }
        BUILTINS.iter().find(|builtin| builtin.name == name && (builtin.is_offered)(endpoint))
    }
}

impl WayIn for &Builtin {
    async fn answer<B: RequestBody>(self, request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
        if ![Verb::GET, Verb::HEAD].contains(&request.head.method) {
            return Verbs::Probe.refuse(request.head);
        }
        Ok(answer((self.reply)(request.endpoint()), HeaderMap::new()))
    }
}

fn probed(well: bool) -> HttpReply {
    let (status, said) = if well { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") };
    let body = Bytes::from_static(said.as_bytes());
    HttpReply { status, content_type: "text/plain", retry_after: None, body }
}
