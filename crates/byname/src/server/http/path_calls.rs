//! `POST /rpc/name` with the arguments as the body, and `GET /rpc/name?a=1` for `readonly` functions.

use std::sync::Arc;

use http::Method as Verb;
use http::StatusCode;
use http::header::ALLOW;

use super::WayIn;
use super::admitted_request::{AdmittedRequest, CalledFunction};
use super::allowed_methods::Verbs;
use super::answer::{HttpAnswer, Rejection};
use super::caching::CacheRules;
use super::request_body::RequestBody;
use crate::arguments::EncodedArguments;
use crate::codec::Codec;
use crate::outcome::Items;
use crate::registry::RegistryEntry;
use crate::request::CallArguments;
use crate::wire::{self, Way, octet_stream, path_format, query};

pub(super) struct PathWay {
    pub(super) name: Arc<str>,
}

impl WayIn for PathWay {
    async fn answer<B: RequestBody>(self, mut request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
        let Self { name } = self;
        let dispatch = request.endpoint().dispatch();
        let entry = dispatch.entry(&name);
        dispatch.record_name(request.record, &name, entry, &request.head.headers);
        let called = CalledFunction { way: Way::Path, name, entry };
        let verb = &request.head.method;
        if *verb == Verb::POST {
            return match read_post(&mut request, entry).await {
                Ok((args, items)) => request.call(called, args, items.map(|items| *items)).await,
                Err(rejection) => reject(request, called, *rejection).await,
            };
        }
        let Some(method) = entry.map(|entry| &*entry.handler.method) else {
            let args = EncodedArguments::none(Codec::Json);
            return request.call(called, CallArguments::Encoded(args), None).await;
        };
        if method.readonly && [Verb::GET, Verb::HEAD].contains(verb) {
            let args = match query::read(request.head.uri.query().unwrap_or("")) {
                Ok(args) => args,
                Err(error) => return reject(request, called, error.into()).await,
            };
            let caching = CacheRules::new(method, &request.head.headers);
            let out = request.call(called, CallArguments::Query(args), None).await?;
            return Ok(caching.apply(out));
        }
        let allowed = if method.readonly { Verbs::Read } else { Verbs::Call };
        let refused = CallArguments::Refused(allowed.wrong_verb(Some(&called.name), verb, request.head.uri.path()));
        let is_question = *verb == Verb::OPTIONS;
        // Interceptors may answer that there is no such function.
        let mut out = request.call(called, refused, None).await?;
        if out.status() == StatusCode::METHOD_NOT_ALLOWED {
            if is_question {
                return Ok(allowed.allowing());
            }
            out.headers_mut().insert(ALLOW, allowed.header());
        }
        Ok(out)
    }
}

/// The arguments of a POST, and the stream that its caller sends. What few calls have is boxed, because each call moves the
/// result several times.
async fn read_post<B: RequestBody>(
    request: &mut AdmittedRequest<'_, B>,
    entry: Option<&Arc<RegistryEntry>>,
) -> Result<(CallArguments, Option<Box<Items>>), Box<Rejection>> {
    let takes_bytes = entry.is_some_and(|entry| entry.handler.takes_bytes()) && octet_stream::is(&request.head.headers);
    if entry.is_some_and(|entry| entry.handler.method.takes.is_some()) {
        let args = query::read(request.head.uri.query().unwrap_or("")).map_err(Rejection::from)?;
        let items = if takes_bytes { Items::new(request.octets()?) } else { Items::new(request.lines()?) };
        return Ok((CallArguments::Query(args), Some(Box::new(items))));
    }
    let patience = request.endpoint().dispatch().patience_with(entry);
    let body = request.read_body(patience).await?;
    let args = if takes_bytes { octet_stream::read(body) } else { path_format::read(body).map_err(Rejection::from)? };
    Ok((CallArguments::Encoded(args), None))
}

/// The answer to a request whose arguments can't be read. How they must be written depends on the function, so rules
/// decide first whether the caller may learn it.
async fn reject<'r, B: RequestBody>(
    request: AdmittedRequest<'r, B>,
    called: CalledFunction<'r>,
    rejection: Rejection,
) -> Result<HttpAnswer, Rejection> {
    if !request.endpoint().dispatch().has_rules() {
        return Err(rejection);
    }
    let expected = wire::status(&rejection.error);
    // Boxed, so that it adds nothing to the future of each other request.
    let out = Box::pin(request.call(called, CallArguments::Refused(rejection.error.clone()), None)).await?;
    if out.status() == expected { Err(rejection) } else { Ok(out) }
}
