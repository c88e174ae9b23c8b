//! Calls over HTTP that have a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::arguments::EncodedArguments;
use crate::client::call_errors;
use crate::client::http_connections::{HttpConnections, PooledConnection};
use crate::client::http_exchange::HttpOutcome;
use crate::client::http_request::{self, BodyCoding};
use crate::client::http1_connection::{BegunResponse, ExchangeError, Outflow, Written};
use crate::client::outgoing_call::OutgoingCall;
use crate::client::typed_result::unasked_stream;
use crate::codec::{self, Codec};
use crate::content_coding::{ContentCoding, PieceDecoder};
use crate::deadline::{DeadlineTimer, before, later};
use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::{Limit, in_bytes};
use crate::outcome::Returned;
use crate::outcome::items::{ItemBatch, ItemSource, Items, NextItems};
use crate::request::Reply;
use crate::wire::headers;
use crate::wire::reply_lines::{NextReplyLines, ReplyLines};

/// One attempt, up to the answer or to the first item of the stream. An answer without a stream is `Ok`, and so is a
/// connection that turned out to be closed before anything was sent. A stream and a failure are `Err`: the reply is
/// complete.
pub(in crate::client) async fn attempt(
    connections: &Arc<HttpConnections>,
    mut connection: PooledConnection,
    permit: OwnedSemaphorePermit,
    outgoing: &OutgoingCall,
    args: &EncodedArguments,
) -> Result<HttpOutcome, Reply> {
    let items = outgoing.upload.take();
    let coding = BodyCoding { accepts: connection.endpoint.coded().is_some(), coded: None };
    let (head, body, way) = http_request::write(
        connection.endpoint.url(),
        connection.endpoint.takes_paths(),
        outgoing,
        args,
        items.is_some(),
        coding,
    );
    if let Err(why) = connection.http1.look() {
        outgoing.upload.put_back(items);
        let result = Err(connection.http1.failed(ExchangeError::Unsent(why)));
        return Ok(HttpOutcome { result, way, is_kept: false });
    }
    let mut out = Outflow::new(head, &body, items);
    if let Some(items) = out.items() {
        items.encode_in(Codec::Json);
    }
    let (idle, mut timer) = (connections.limits.stream_idle, DeadlineTimer::default());
    let written = poll_fn(|cx| match out.poll_request(&mut connection.http1, cx) {
        Poll::Ready(written) => Poll::Ready(Some(written)),
        Poll::Pending => timer.poll_at(cx, out.until(outgoing.deadline, idle)).map(|()| None),
    });
    let endpoint = Arc::clone(&connection.endpoint);
    let late = || {
        connections.timed_out(&endpoint);
        Reply::from(call_errors::late(&connections.target.url(), &outgoing.name, outgoing.allowed, Executed::Unknown))
    };
    match written.await {
        None => return Err(late()),
        Some(Ok(Written::Failed(failure))) => {
            return Err(Reply { result: Err(failure), metadata: HeaderMap::new() });
        }
        Some(Err(why)) if !out.has_begun() => {
            outgoing.upload.put_back(out.into_untouched());
            let result = Err(ExchangeError::Unsent(why.to_string()));
            return Ok(HttpOutcome { result, way, is_kept: false });
        }
        Some(_) => {}
    }
    let (until, limit) = (out.until(outgoing.deadline, idle), connections.limits.message);
    let answered = async {
        match BegunResponse::read(&mut connection.http1).await? {
            Some(begun) => Ok(Err(begun)),
            None => connection.http1.answer(limit).await.map(Ok),
        }
    };
    match before(until, answered).await {
        None => Err(late()),
        Some(Err(why)) => {
            let result = Err(connection.http1.failed(ExchangeError::Unknown(why)));
            Ok(HttpOutcome { result, way, is_kept: false })
        }
        Some(Ok(Ok((answer, keeps)))) => {
            let is_kept = keeps && out.has_ended();
            outgoing.upload.put_back(out.into_untouched());
            if is_kept {
                connections.keep(connection, Some((&answer.server, &answer.headers)));
            }
            Ok(HttpOutcome { result: Ok(answer), way, is_kept })
        }
        Some(Ok(Err(begun))) if !outgoing.takes_stream => {
            Err(Reply { result: Err(unasked_stream(&outgoing.name).into()), metadata: begun.headers })
        }
        Some(Ok(Err(begun))) => {
            let coding = endpoint.coded().and_then(|_| ContentCoding::of(&begun.headers).ok().flatten());
            if coding.is_none()
                && let Some(why) = headers::foreign_coding(&outgoing.name, &begun.headers)
            {
                return Err(Error::new(Code::Internal, why).executed_is(Executed::Yes).into());
            }
            connections.learn(&endpoint, &begun.server, &begun.headers);
            let metadata = begun.headers.clone();
            let mut items = Items::new(HttpReplyItems {
                connections: Arc::clone(connections),
                open: Some(OpenResponse { connection, begun, out, _permit: permit }),
                lines: ReplyLines::new(limit.saturating_add(64)),
                decoding: coding.map(|coding| Box::new(PieceDecoder::new(coding))),
                name: outgoing.name.as_ref().into(),
                timer: DeadlineTimer::default(),
                until,
                idle,
                has_begun: false,
            });
            let result = items.begin().await.map(|()| Returned::Stream(items));
            Err(Reply { result, metadata })
        }
    }
}

/// The stream of a reply over HTTP.
struct HttpReplyItems {
    connections: Arc<HttpConnections>,
    open: Option<OpenResponse>,
    lines: ReplyLines,
    decoding: Option<Box<PieceDecoder>>,
    name: Box<str>,
    timer: DeadlineTimer,
    until: Instant,
    idle: Duration,
    has_begun: bool,
}

struct OpenResponse {
    connection: PooledConnection,
    begun: BegunResponse,
    out: Outflow,
    /// To use the connection.
    _permit: OwnedSemaphorePermit,
}

impl HttpReplyItems {
    fn broken(&self, code: Code, why: &str) -> NextItems {
        let why = format!("the stream of `{}` broke off: {why}", self.name);
        NextItems::Failed(Error::new(code, why).executed_is(Executed::Yes).into())
    }

    fn try_poll(&mut self, cx: &mut Context<'_>) -> Poll<NextItems> {
        let Some(OpenResponse { connection, begun, out, .. }) = &mut self.open else {
            return Poll::Ready(NextItems::End);
        };
        if let Some(failure) = out.poll_rest(&mut connection.http1, cx) {
            return Poll::Ready(NextItems::Failed(failure));
        }
        loop {
            match self.lines.next(&self.name) {
                Some(NextReplyLines::Items(items)) => {
                    self.has_begun = true;
                    self.until = later(Instant::now(), self.idle);
                    return Poll::Ready(NextItems::Batch(ItemBatch::Encoded(items)));
                }
                Some(NextReplyLines::End) => return Poll::Ready(NextItems::End),
                Some(NextReplyLines::Failed(failure)) => return Poll::Ready(NextItems::Failed(failure)),
                Some(NextReplyLines::Invalid(why)) => {
                    let why = format!("one of its lines is not an item: {why}");
                    return Poll::Ready(self.broken(Code::Internal, &why));
                }
                Some(NextReplyLines::TooLong) => {
                    let limit = in_bytes(self.connections.limits.message);
                    let why = format!(
                        "an item of the stream of `{}` is larger than {limit} (`Limits::message` of the client); ask \
                         for smaller ones, or raise the limit{}",
                        self.name,
                        codec::shorter(Codec::Json)
                    );
                    let error = Error::new(Code::ResourceExhausted, why).of_limit(Limit::Message);
                    return Poll::Ready(NextItems::Failed(error.executed_is(Executed::Yes).into()));
                }
                None => {}
            }
            if let Some(decoding) = &mut self.decoding {
                match decoding.next() {
                    Ok(Some(piece)) => {
                        self.lines.put(piece);
                        continue;
                    }
                    Ok(None) => {}
                    Err(why) => return Poll::Ready(self.broken(Code::Internal, &why.to_string())),
                }
            }
            match begun.poll_body(&mut connection.http1, cx) {
                Poll::Ready(Ok(Some(data))) => match &mut self.decoding {
                    Some(decoding) => decoding.take_in(data),
                    None => self.lines.put(&data),
                },
                Poll::Ready(Ok(None)) => return Poll::Ready(self.broken(Code::Unavailable, "it ended without `end`")),
                Poll::Ready(Err(why)) => return Poll::Ready(self.broken(Code::Unavailable, &why)),
                Poll::Pending => {
                    ready!(self.timer.poll_at(cx, self.until));
                    let idle = self.idle;
                    let why = match self.has_begun {
                        true => format!("no item came for {idle:?} (`Limits::stream_idle` of the client)"),
                        false => "no item came before its deadline; allow more time with `.timeout(…)`".to_owned(),
                    };
                    return Poll::Ready(self.broken(Code::DeadlineExceeded, &why));
                }
            }
        }
    }
}

impl ItemSource for HttpReplyItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: usize) -> Poll<NextItems> {
        let this = &mut *self;
        let next = ready!(this.try_poll(cx));
        if matches!(next, NextItems::End)
            && let Some(mut open) = this.open.take()
        {
            // The connection is kept only if the end of the body has come with the end of the stream.
            let ended = open.begun.poll_body(&mut open.connection.http1, cx);
            let OpenResponse { connection, begun, out, _permit } = open;
            if matches!(ended, Poll::Ready(Ok(None))) && out.has_ended() && begun.leaves_for_another(&connection.http1)
            {
                this.connections.keep(connection, Some((&begun.server, &begun.headers)));
            }
        }
        if matches!(next, NextItems::Failed(_)) {
            this.open = None;
        }
        Poll::Ready(next)
    }
}
