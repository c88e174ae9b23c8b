//! One attempt of a call over HTTP: a connection, the exchange on it, and what the answer means.

use std::mem::take;
use std::sync::Arc;

use http::StatusCode;

use super::affinity::ReplicaWish;
use super::call_errors::{broken, late, reply_too_large, set_replica};
use super::coded_bodies;
use super::endpoint::Endpoint;
use super::endpoint_set::EndpointCount;
use super::http_connections::{CallConnection, HttpConnections, no_other_replica};
use super::http_exchange::{HttpExchange, HttpOutcome};
use super::http_request::BodyCoding;
use super::http1_connection::{ExchangeError, HttpResponse, UnreadBody};
use super::outgoing_call::OutgoingCall;
use super::replica_outcome::replica_outcome;
use super::reply_stream;
use super::tried_replicas::{AttemptedServer, TriedReplicas};
use super::typed_result::unasked_stream;
use crate::arguments::EncodedArguments;
use crate::codec::Codec;
use crate::error::{Code, Error, Executed};
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::request::Reply;
use crate::wire::instance_and_load::ReportedLoad;
use crate::wire::{Way, headers, path_format, reply};

/// One attempt. It goes to none of the replicas that were `tried`, if there is another. Its own replica is added to them.
pub(super) async fn attempt(
    connections: &Arc<HttpConnections>,
    outgoing: &OutgoingCall,
    args: &EncodedArguments,
    tried: &TriedReplicas,
) -> Reply {
    counted(exchange(connections, outgoing, args, tried, false).await)
}

/// As [`attempt`], for an attempt beside another: nothing is sent to a replica that was tried.
pub(super) async fn attempt_elsewhere(
    connections: &Arc<HttpConnections>,
    outgoing: &OutgoingCall,
    args: &EncodedArguments,
    tried: &TriedReplicas,
) -> Reply {
    counted(exchange(connections, outgoing, args, tried, true).await)
}

fn counted((mut reply, count): (Reply, EndpointCount)) -> Reply {
    set_replica(&mut reply, || count.address());
    // With one replica nothing is counted.
    if count.replica().is_some() {
        let load = ReportedLoad::of_answer(&reply.metadata);
        count.ended(replica_outcome(&reply), load.map(|load| load.calls));
    }
    reply
}

/// One exchange. A kept connection that turns out to be closed is replaced by the next one.
async fn exchange(
    connections: &Arc<HttpConnections>,
    outgoing: &OutgoingCall,
    args: &EncodedArguments,
    tried: &TriedReplicas,
    only_elsewhere: bool,
) -> (Reply, EndpointCount) {
    // A replica has not failed the call because it had closed a connection, or because it does not take this way.
    let failed = tried.all();
    let mut has_changed_way = false;
    let mut may_compress = true;
    loop {
        let wish = ReplicaWish { only_elsewhere, ..outgoing.wish(&failed) };
        let got = match connections.get(outgoing, wish).await {
            Ok(got) => got,
            Err(error) => return (error.into(), EndpointCount::default()),
        };
        let CallConnection { connection, count, is_reused, permit } = got;
        let replica = count.replica();
        // A new connection may lead elsewhere than was chosen.
        if only_elsewhere && replica.is_none_or(|replica| failed.contains(&replica)) {
            connections.keep(connection, None);
            return (no_other_replica().into(), EndpointCount::default());
        }
        // An attempt beside this one goes to another.
        tried.extend(replica);
        let endpoint = Arc::clone(&connection.endpoint);
        if outgoing.is_keyed() {
            let (instance, address) = (connection.instance.id(), endpoint.address().clone());
            tried.went_to(AttemptedServer { instance, address, keys: endpoint.keys() });
        }
        let coding = match endpoint.coded() {
            Some(coded) => Box::pin(coded.coding_for(endpoint.takes_paths(), outgoing, args, may_compress)).await,
            None => BodyCoding::NONE,
        };
        let was_coded = coding.coded.is_some();
        let exchanged = if outgoing.has_streams() {
            match Box::pin(reply_stream::http::attempt(connections, connection, permit, outgoing, args)).await {
                Ok(exchanged) => Some(exchanged),
                Err(reply) => return (reply, count),
            }
        } else {
            HttpExchange::start(connections, connection, permit, outgoing, args, coding).await
        };
        match exchanged {
            // The server had closed it, and not a byte of this call went out.
            Some(HttpOutcome { result: Err(ExchangeError::Unsent(_)), .. }) if is_reused => {}
            // The server closed it while the call was on its way, and says so.
            Some(HttpOutcome { result: Ok(answer), is_kept: false, .. })
                if is_reused && !outgoing.upload.is_taken() && is_goodbye(&outgoing.name, &answer) => {}
            Some(mut exchanged) => {
                let way = exchanged.way;
                if endpoint.coded().is_some()
                    && let Ok(answer) = &mut exchanged.result
                    && let Err(error) =
                        Box::pin(coded_bodies::decode(&outgoing.name, answer, connections.limits.message)).await
                {
                    let metadata = take(&mut answer.headers);
                    return (Reply { result: Err(error.into()), metadata }, count);
                }
                let is_unsupported =
                    matches!(&exchanged.result, Ok(answer) if answer.status == StatusCode::UNSUPPORTED_MEDIA_TYPE);
                let done = read(connections, &endpoint, outgoing, exchanged);
                // Another replica, or a proxy, may accept less than what answered before.
                if is_unsupported && was_coded && did_not_run(&done) {
                    may_compress = false;
                    continue;
                }
                if !is_switched_off(way, &done) {
                    return (done, count);
                }
                if path_format::write(args).is_none() && headers::offers(&done.metadata, Way::Path) {
                    let error = needs_the_plain_way(&connections.target.url(), &outgoing.name);
                    return (Reply { result: Err(error.into()), ..done }, count);
                }
                if has_changed_way || outgoing.upload.is_taken() {
                    return (done, count);
                }
                has_changed_way = true;
            }
            None => {
                return (
                    late(&connections.target.url(), &outgoing.name, outgoing.allowed, Executed::Unknown).into(),
                    count,
                );
            }
        }
    }
}

fn read(connections: &HttpConnections, endpoint: &Endpoint, outgoing: &OutgoingCall, exchanged: HttpOutcome) -> Reply {
    let name = &outgoing.name;
    let HttpOutcome { result, way, .. } = exchanged;
    let answer = match result {
        Ok(answer) => answer,
        Err(ExchangeError::Unsent(why)) => return broken(&connections.target.url(), name, Executed::No, &why).into(),
        Err(ExchangeError::Refused(refusal)) => return connections.refused(&refusal).into(),
        Err(ExchangeError::Unknown(why)) => {
            return broken(&connections.target.url(), name, Executed::Unknown, &why).into();
        }
    };
    connections.learn(endpoint, &answer.server, &answer.headers);
    if answer.is_open_ended && way == Way::Path && answer.status.is_success() {
        let why = format!(
            "the reply of `{name}` has no length, so a reply that was cut off would look complete; let the \
             proxy before {} speak HTTP/1.1",
            connections.target.url()
        );
        return Error::new(Code::Unavailable, why).into();
    }
    let body = match answer.body {
        Ok(body) => body,
        Err(UnreadBody::Stream) => {
            return Reply { result: Err(unasked_stream(name).into()), metadata: answer.headers };
        }
        Err(UnreadBody::TooLarge) => {
            let executed = if answer.status == StatusCode::OK { Executed::Yes } else { Executed::Unknown };
            let error = reply_too_large(name, connections.limits.message, Codec::Json, executed);
            return Reply { result: Err(error.into()), metadata: answer.headers };
        }
    };
    let reason = answer.reason.as_deref();
    let read = reply(way, name, answer.status, reason, &answer.headers, &body);
    Reply {
        result: read.map(|value| Returned::Value(ReturnedValue::Encoded(Codec::Json, value))),
        metadata: answer.headers,
    }
}

/// Only the plain way can carry the arguments, and the server does not offer it.
fn needs_the_plain_way(url: &str, name: &str) -> Error {
    let why = format!(
        "`{name}` was called with arguments both by position and by name, which takes the plain way, and the server at \
         {url} offers only the way by path; give all by position or all by name, or let it offer both with \
         `Server::plain(true)`"
    );
    Error::refused(Code::Unimplemented, why)
}

/// Whether a call did not run because its server does not take this way, or no longer takes it. A client begins with the
/// plain way at a server that it doesn't know.
fn is_switched_off(way: Way, done: &Reply) -> bool {
    matches!(&done.result, Err(Failure::Rpc(error)) if error.code() == Code::Unimplemented)
        && did_not_run(done)
        && headers::is_byname(&done.metadata)
        && !headers::offers(&done.metadata, way)
}

fn did_not_run(done: &Reply) -> bool {
    matches!(&done.result, Err(Failure::Rpc(error)) if error.executed() == Executed::No)
}

/// Whether an answer is the last word of a server that had closed a kept connection before the call came. Such a call was
/// not run, as if it had not been sent.
fn is_goodbye(name: &str, answer: &HttpResponse) -> bool {
    let (StatusCode::REQUEST_TIMEOUT, Ok(body)) = (answer.status, &answer.body) else {
        return false;
    };
    let read = reply(Way::Plain, name, answer.status, None, &answer.headers, body);
    matches!(read, Err(Failure::Rpc(error)) if error.code() == Code::Unavailable && error.executed() == Executed::No)
}
