//! `POST /rpc` with the name in the body. A body of JSON-RPC is passed on.

use std::future::poll_fn;

use http::Method as Verb;

use super::WayIn;
use super::admitted_request::{AdmittedRequest, CalledFunction};
use super::allowed_methods::Verbs;
use super::answer::{HttpAnswer, Rejection};
use super::json_rpc_calls::JsonRpcWay;
use super::request_body::{self, RequestBody};
use crate::deadline::{before, later};
use crate::error::Executed;
use crate::outcome::Items;
use crate::request::CallArguments;
use crate::wire::{Way, json_rpc_format, plain_format, stream_lines};

pub(super) struct PlainWay;

impl WayIn for PlainWay {
    async fn answer<B: RequestBody>(self, mut request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
        let endpoint = request.endpoint();
        let dispatch = endpoint.dispatch();
        if request.head.method != Verb::POST {
            return Verbs::Call.refuse(request.head);
        }
        if endpoint.plain && stream_lines::is(&request.head.headers) {
            return answer_lines(request).await;
        }
        let body = request.read_body(dispatch.patience()).await?;
        match plain_format::read(&body) {
            // Boxed, so that the other ways do not include its size.
            Err(_) if endpoint.json_rpc && json_rpc_format::is(&body) => {
                Box::pin(JsonRpcWay { body }.answer(request)).await
            }
            _ if !endpoint.plain => Err(endpoint.nothing(request.head.uri.path())),
            Ok((name, args)) => {
                let called = CalledFunction { way: Way::Plain, entry: dispatch.entry(&name), name: name.into() };
                request.call(called, CallArguments::Encoded(args), None).await
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A call whose first line is a plain body. The other lines are the items of its stream.
async fn answer_lines<B: RequestBody>(mut request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
    let dispatch = request.endpoint().dispatch();
    let mut lines = request.lines()?;
    let until = request.caller.deadline.unwrap_or_else(|| later(request.began, dispatch.patience()));
    let first = match before(until, poll_fn(|cx| lines.poll_line(cx))).await {
        Some(line) => line.map_err(|error| error.executed_is(Executed::No))?.unwrap_or_default(),
        None => return Err(request_body::stalled(dispatch.limits().body_progress).into()),
    };
    let (name, args) = plain_format::read(&first)?;
    let called = CalledFunction { way: Way::Plain, entry: dispatch.entry(&name), name: name.into() };
    request.call(called, CallArguments::Encoded(args), Some(Items::new(lines))).await
}
