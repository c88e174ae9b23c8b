//! JSON-RPC 2.0: one request or a batch, in a body that was read already.

mod concurrent_batch;

use std::mem::take;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderMap;

use self::concurrent_batch::join;
use super::WayIn;
use super::admitted_request::{
    AdmittedRequest, AnsweredCall, CalledFunction, CallerInfo, StreamsOfCall, does_not_fit, is_of_function, not_encoded,
};
use super::answer::{HttpAnswer, Rejection, answer};
use super::request_body::RequestBody;
use crate::access_log::CallWay;
use crate::call_record::CallRecord;
use crate::codec::{self, Codec};
use crate::error::{Code, Error};
use crate::idempotency_key::has_key;
use crate::limits_and_timeouts::in_bytes;
use crate::outcome::Returned;
use crate::request::CallArguments;
use crate::wire::{Way, json_rpc_format};

pub(super) struct JsonRpcWay {
    pub(super) body: Bytes,
}

impl WayIn for JsonRpcWay {
    async fn answer<B: RequestBody>(self, request: AdmittedRequest<'_, B>) -> Result<HttpAnswer, Rejection> {
        let (caller, mut record) = (request.caller, request.record.take());
        record.came_by(CallWay::JsonRpc);
        let limits = caller.endpoint().dispatch().limits();
        let metadata = take(&mut request.head.headers);
        Ok(match json_rpc_format::read(&self.body, limits.batch) {
            json_rpc_format::JsonRpcBody::Single(asked) => {
                let room = AtomicUsize::new(limits.message);
                let (reply, metadata) = call(asked, metadata, caller, &room, record).await;
                // A notification has no reply, so it has no headers either.
                let metadata = if reply.is_some() { metadata } else { HeaderMap::new() };
                answer(json_rpc_format::answer(reply), metadata)
            }
            json_rpc_format::JsonRpcBody::Batch(mut asked) => {
                if has_key(&metadata) {
                    asked.iter_mut().for_each(refuse_key);
                }
                // Without the brackets and one comma for each.
                let room = AtomicUsize::new(limits.message.saturating_sub(asked.len() + 1));
                let mut records = record.split(asked.iter().map(|asked| asked.length)).into_iter();
                let call = |asked| {
                    let record = records.next().unwrap_or(CallRecord::none());
                    call(asked, metadata.clone(), caller, &room, record)
                };
                let is_half_closed = || caller.session.activity.is_half_closed();
                let replies = join(asked.into_iter().map(call), is_half_closed).await;
                // Headers that a function sets belong to its own reply. Here they would apply to all replies.
                let replies: Vec<_> = replies.into_iter().filter_map(|(reply, _)| reply).collect();
                let body = (!replies.is_empty()).then(|| json_rpc_format::together(&replies));
                answer(json_rpc_format::answer(body), HeaderMap::new())
            }
        })
    }
}

/// One key would be that of all calls.
fn refuse_key(asked: &mut json_rpc_format::JsonRpcRequest) {
    if asked.call.is_ok() {
        let why = "a batch can't have an `idempotency-key`, because each of its calls would need its own; send the calls that \
                   need one by themselves";
        asked.call = Err(json_rpc_format::InvalidRequest::new(Error::refused(Code::InvalidArgument, why)));
    }
}

/// Runs one JSON-RPC request to its end. A notification has no reply. The results of functions take from `room`, in the
/// order in which they end. So one answer never holds more than fits, for any number of calls.
async fn call(
    asked: json_rpc_format::JsonRpcRequest,
    metadata: HeaderMap,
    caller: CallerInfo<'_>,
    room: &AtomicUsize,
    mut record: CallRecord,
) -> (Option<Bytes>, HeaderMap) {
    let (reply, metadata) = answer_to(asked, metadata, caller, room, &mut record).await;
    record.sent(|| reply.as_ref().map_or(0, Bytes::len));
    (reply, metadata)
}

async fn answer_to(
    asked: json_rpc_format::JsonRpcRequest,
    metadata: HeaderMap,
    caller: CallerInfo<'_>,
    room: &AtomicUsize,
    record: &mut CallRecord,
) -> (Option<Bytes>, HeaderMap) {
    let (name, args) = match asked.call {
        Ok(call) => call,
        Err(no_call) => {
            record.refused(no_call.error());
            return (asked.id.map(|id| json_rpc_format::no_call(&id, no_call)), HeaderMap::new());
        }
    };
    let entry = caller.endpoint().dispatch().entry(&name);
    caller.endpoint().dispatch().record_name(record, &name, entry, &metadata);
    let called = CalledFunction { way: Way::Plain, name: name.into(), entry };
    let none = StreamsOfCall { items: None, takes_stream: false };
    let AnsweredCall { reply, is_caller_gone } =
        caller.run(&called, CallArguments::Encoded(args), none, metadata, record.span()).await;
    record.ended_for(is_caller_gone, &reply.result);
    let Some(id) = asked.id else {
        return (None, reply.metadata);
    };
    let of_function = is_of_function(&reply.result);
    let body = match reply.result {
        Ok(Returned::Value(value)) => match value.into_json() {
            Some(value) => json_rpc_format::success(&id, &value),
            None => refuse(&id, not_encoded(), record),
        },
        Ok(Returned::Stream(_)) => refuse(&id, not_encoded(), record),
        Err(failure) => json_rpc_format::failure(&id, &failure.into()),
    };
    let fits = || room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(body.len()));
    if of_function && fits().is_err() {
        let (length, limit) = (body.len(), caller.endpoint().dispatch().limits().message);
        let why = format!(
            "the reply of `{}` has {}, and all replies of an answer together may have at most {limit} \
             (`Limits::message` of the server){}",
            called.name,
            in_bytes(length),
            codec::shorter(Codec::Json)
        );
        return (Some(refuse(&id, does_not_fit(why), record)), HeaderMap::new());
    }
    (Some(body), reply.metadata)
}

fn refuse(id: &[u8], error: Error, record: &mut CallRecord) -> Bytes {
    record.refused(&error);
    json_rpc_format::failure(id, &error.into())
}
