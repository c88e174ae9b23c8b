//! Services at reserved names: `/rpc/!live` and similar. No function has such a name.

use bytes::Bytes;
use http::{HeaderMap, Method as Verb, StatusCode};

use super::admitted_request::AdmittedRequest;
use super::allowed_methods::Verbs;
use super::answer::{HttpAnswer, Rejection, answer};
use super::request_body::RequestBody;
use super::{ServerEndpoint, WayIn};
use crate::wire::HttpReply;

/// All of them.
const BUILTINS: &[Builtin] = &[
    // Is the process alive?
    Builtin { name: "!live", is_probe: true, reply: |_| probed(true) },
    // Does it want calls?
    Builtin { name: "!ready", is_probe: true, reply: |endpoint| probed(endpoint.dispatch().looks_ready()) },
];

/// A service at a reserved name.
#[derive(Debug)]
pub(super) struct Builtin {
    name: &'static str,
    /// Orchestrators probe by address, with any host name. The answers reveal nothing about the server.
    pub(super) is_probe: bool,
    reply: fn(&ServerEndpoint) -> HttpReply,
}

impl Builtin {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        // Every call's name is checked here, and none begins with `!`.
        name.starts_with('!').then(|| BUILTINS.iter().find(|builtin| builtin.name == name)).flatten()
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
    let (status, text) = if well { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") };
    HttpReply { status, content_type: "text/plain", retry_after: None, body: Bytes::from_static(text.as_bytes()) }
}
