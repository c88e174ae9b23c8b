//! Where the calls of a client go: to a service by its address, or to a server in this process.

use std::borrow::Cow;
use std::sync::Arc;

use http::Extensions;
use http::header::AUTHORIZATION;
use tokio::time::Instant;

use super::affinity::Affinity;
use super::outgoing_call::{CallDeadline, CallUpload, OutgoingCall};
use super::policy::Policy;
use super::renewed_token::{RenewedToken, is_refused};
use super::service::Service;
use super::tried_replicas::TriedReplicas;
use crate::access_log::CallWay;
use crate::call_telemetry::CalledServer;
use crate::dispatch::Dispatch;
use crate::error::{Code, Error};
use crate::limits_and_timeouts::Limits;
use crate::metadata;
use crate::method::Method;
use crate::outcome::Failure;
use crate::priority::Priority;
use crate::request::{CallArguments, Reply, Request};
use crate::runtime::BoxFuture;

#[derive(Clone)]
pub(super) enum Route {
    Remote(Arc<Service>),
    Local(Arc<Dispatch>),
}

impl Route {
    pub(super) fn limits(&self) -> &Limits {
        match self {
            Route::Remote(service) => service.limits(),
            Route::Local(dispatch) => dispatch.limits(),
        }
    }

    /// The server that calls go to, as the URL names it. `None` within the process.
    pub(super) fn server(&self) -> Option<CalledServer<'_>> {
        match self {
            Route::Remote(service) => Some(service.server()),
            Route::Local(_) => None,
        }
    }

    /// `token` is where the token in the headers came from.
    pub(super) fn send(
        &self,
        request: Request,
        method: Option<&'static Method>,
        policy: Policy,
        affinity: Option<Affinity>,
        CallDeadline { deadline, allowed }: CallDeadline,
        token: Option<Arc<RenewedToken>>,
    ) -> BoxFuture<Reply> {
        // Interceptors may have added some.
        if let Err(error) = metadata::check_size(&request.metadata) {
            return Box::pin(std::future::ready(error.into()));
        }
        match self {
            Route::Local(dispatch) => {
                let Some((token, again)) = token.and_then(|token| Some((token, same_again(&request)?))) else {
                    return run_local(dispatch, request, method);
                };
                let (dispatch, first) = (Arc::clone(dispatch), run_local(dispatch, request, method));
                Box::pin(async move {
                    let reply = first.await;
                    if !matches!(&reply.result, Err(Failure::Rpc(error)) if is_refused(error)) {
                        return reply;
                    }
                    let mut again = again;
                    let Some(other) = token.other_than(again.metadata.get(AUTHORIZATION), deadline).await else {
                        return reply;
                    };
                    again.metadata.insert(AUTHORIZATION, other);
                    run_local(&dispatch, again, method).await
                })
            }
            Route::Remote(service) => {
                let Request {
                    name, args: CallArguments::Encoded(args), metadata: headers, items, takes_stream, ..
                } = request
                else {
                    let why = "the arguments were not encoded, which is a defect of byname";
                    return Box::pin(std::future::ready(Error::refused(Code::Internal, why).into()));
                };
                let name = Cow::Owned(name.as_ref().to_owned());
                let upload = CallUpload::new(items);
                let outgoing = OutgoingCall {
                    name,
                    args,
                    method,
                    policy,
                    affinity,
                    pinned: None,
                    headers,
                    deadline,
                    allowed,
                    upload,
                    takes_stream,
                    token,
                };
                Arc::clone(service).call(outgoing, None, TriedReplicas::default())
            }
        }
    }
}

/// A call of a function in this process.
fn run_local(dispatch: &Arc<Dispatch>, mut request: Request, method: Option<&'static Method>) -> BoxFuture<Reply> {
    let dispatch = Arc::clone(dispatch);
    let mut record = dispatch.telemetry().record(CallWay::Local, None, &request.metadata, Instant::now());
    dispatch.record_name(&mut record, &request.name, dispatch.entry(&request.name), &request.metadata);
    if let Err(error) = metadata::check_taken(&request.metadata, dispatch.limits().header) {
        record.refused(&error);
        return Box::pin(std::future::ready(error.into()));
    }
    metadata::hide(&mut request.metadata, dispatch.secret_headers());
    // What this side found out of the call has no authority on the other.
    let mut request = Request { extensions: Extensions::new(), method: None, ..request };
    // The caller is this process, so it is trusted.
    request.priority = Priority::said(&request.metadata);
    request.span = record.span();
    if let (Some(caller), CallArguments::Encoded(args)) = (method, &mut request.args)
        && let Some(entry) = dispatch.entry(&request.name)
    {
        args.remove_unknown_defaults(caller, &entry.handler.method);
    }
    if let CallArguments::Encoded(args) = &request.args {
        record.received(args.positional.len() + args.keyword.len());
    }
    request.items = request.items.map(|items| record.takes(items));
    Box::pin(async move {
        let Reply { result, metadata } = dispatch.run(request).await;
        Reply { result: record.end_local(result), metadata }
    })
}

/// A second request for the same call. `None` if the first takes what can't be sent twice.
fn same_again(request: &Request) -> Option<Request> {
    let CallArguments::Encoded(args) = &request.args else {
        return None;
    };
    let args = CallArguments::Encoded(args.clone());
    let again = Request::new(Arc::clone(&request.name), args, request.metadata.clone());
    let (deadline, takes_stream) = (request.deadline, request.takes_stream);
    request.items.is_none().then_some(Request { deadline, takes_stream, ..again })
}
