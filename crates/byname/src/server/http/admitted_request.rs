//! A request that was admitted: its way in reads its body, runs the call, and writes the answer.

use std::future::poll_fn;
use std::mem::take;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::answer::{HttpAnswer, Rejection, answer_with};
use super::compression::{self, DecodedBody};
use super::request_body::{self, BodyDeadline, RequestBody};
use super::response_body;
use super::stream_body::{
    BodyFormat, BodyReader, RequestLines, RequestOctets, StreamReader, UnreadRequestBody, drop_rest, half_closed,
};
use super::{ServerEndpoint, Session};
use crate::call_record::CallRecord;
use crate::codec::{self, Codec};
use crate::content_coding::ContentCoding;
use crate::context::while_caller_may_be_gone;
use crate::deadline::later;
use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::{Limit, in_bytes};
use crate::outcome::{Failure, Items, Returned, ReturnedValue};
use crate::peer::Peer;
use crate::registry::RegistryEntry;
use crate::request::{CallArguments, Reply, Request};
use crate::trace_context::ServedSpan;
use crate::wire::stream_lines::StreamFormat;
use crate::wire::{Way, WireError, octet_stream, path_format, plain_format};

/// The input of a way in.
pub(super) struct AdmittedRequest<'r, B: RequestBody> {
    pub(super) caller: CallerInfo<'r>,
    pub(super) head: &'r mut Parts,
    /// Stays `Some` if it was not read.
    pub(super) body: &'r mut Option<B>,
    pub(super) began: Instant,
    /// Of the call.
    pub(super) record: &'r mut CallRecord,
    /// The body of a stream, if the call ended before any of it was read. Only with rules.
    pub(super) unread: Option<UnreadRequestBody<B>>,
}

/// Where a call comes from, and its deadline.
#[derive(Clone, Copy)]
pub(super) struct CallerInfo<'r> {
    pub(super) session: &'r Session,
    /// Who has sent the request, if a trusted proxy has passed it on.
    pub(super) client: Option<&'r Arc<Peer>>,
    /// When the caller stops waiting, if it says so.
    pub(super) deadline: Option<Instant>,
}

/// The function that a request calls.
pub(super) struct CalledFunction<'r> {
    pub(super) way: Way,
    /// As it was called. It may be an alias.
    pub(super) name: Arc<str>,
    /// What the registry has under this name, looked up once for each call.
    pub(super) entry: Option<&'r Arc<RegistryEntry>>,
}

impl CalledFunction<'_> {
    fn is_readonly(&self) -> bool {
        self.entry.is_some_and(|entry| entry.handler.method.readonly)
    }
}

/// The streams of a call.
pub(super) struct StreamsOfCall {
    pub(super) items: Option<Items>,
    pub(super) takes_stream: bool,
}

impl<'r, B: RequestBody> AdmittedRequest<'r, B> {
    pub(super) fn endpoint(&self) -> &'r ServerEndpoint {
        self.caller.endpoint()
    }

    /// Reads the body. It may take `patience` if the caller set no time-out.
    pub(super) async fn read_body(&mut self, patience: Duration) -> Result<Bytes, Rejection> {
        let (body, coding) = self.take_body()?;
        let mut body = pin!(body);
        let until = self.body_deadline(patience);
        let limits = self.endpoint().dispatch().limits();
        let read = match coding {
            None => request_body::read(body.as_mut(), limits, until).await,
            Some(coding) => {
                let decoded = DecodedBody::whole(body.as_mut(), coding, limits.message);
                Box::pin(async { request_body::read(pin!(decoded), limits, until).await }).await
            }
        };
        match read {
            Ok(body) => {
                self.record.received(body.len());
                Ok(body)
            }
            Err(error) => {
                let activity = &self.caller.session.activity;
                match error.limit() {
                    Some("message") => request_body::skip_or_close(self.head, body, activity).await,
                    // The server has already waited for it, or it has broken off.
                    _ => activity.leave_unread(),
                }
                // For every way: the status of the code.
                Err(Rejection::new(crate::wire::status(&error), error))
            }
        }
    }

    fn body_deadline(&self, patience: Duration) -> BodyDeadline {
        match self.caller.deadline {
            Some(deadline) => BodyDeadline { deadline, by_caller: true },
            None => BodyDeadline { deadline: later(self.began, patience), by_caller: false },
        }
    }

    /// The body, line by line.
    pub(super) fn lines(&mut self) -> Result<RequestLines<B>, Rejection> {
        let longest = self.endpoint().dispatch().limits().message;
        Ok(RequestLines::new(self.body_reader()?, longest))
    }

    /// The body as raw bytes.
    pub(super) fn octets(&mut self) -> Result<RequestOctets<B>, Rejection> {
        let longest = self.endpoint().dispatch().limits().message;
        Ok(RequestOctets::new(self.body_reader()?, longest))
    }

    /// Takes the body to read it in pieces. With rules, the body is kept if nothing of it is read.
    fn body_reader(&mut self) -> Result<BodyReader<B>, Rejection> {
        let (body, coding) = self.take_body()?;
        self.unread = self.endpoint().dispatch().has_rules().then(Arc::default);
        Ok(BodyReader::new(body, coding, Arc::clone(&self.caller.session.activity), self.unread.clone()))
    }

    /// Takes the body and its coding, if the content type and the coding are accepted.
    fn take_body(&mut self) -> Result<(B, Option<ContentCoding>), Rejection> {
        let has_body = self.body.as_ref().is_some_and(|body| !body.is_end_stream());
        self.endpoint().gate.content_type(&self.head.headers, has_body)?;
        let coding = match self.head.headers.contains_key(CONTENT_ENCODING) {
            true => compression::coding_of(&self.head.headers, self.endpoint().compresses())?,
            false => None,
        };
        Ok((self.body.take().expect("a body is taken once"), coding))
    }

    /// Reads the body of a stream that was not read. If a rule has refused the call, it is read as the body of a call of a
    /// name that does not exist, so that the time and the form of the refusal don't tell that the function exists.
    async fn use_up(
        &mut self,
        unread: UnreadRequestBody<B>,
        expect: Option<HeaderValue>,
        is_refused: bool,
    ) -> Result<(), Rejection> {
        let Some(mut body) = unread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let activity = &self.caller.session.activity;
        if !is_refused {
            drop_rest(body.encoded().as_mut(), activity);
            return Ok(());
        }
        let dispatch = self.endpoint().dispatch();
        body.limit_encoded(dispatch.limits().message);
        let until = self.body_deadline(dispatch.patience());
        let by_caller = until.by_caller;
        let Err(error) = request_body::read(Pin::new(&mut body), dispatch.limits(), until).await else {
            return Ok(());
        };
        if error.limit() == Some("message") {
            self.head.headers.extend(expect.map(|expect| (EXPECT, expect)));
            request_body::skip_or_close(self.head, body.encoded().as_mut(), activity).await;
        } else {
            activity.leave_unread();
        }
        match by_caller && error.code() == Code::DeadlineExceeded {
            true => Err(Rejection::new(crate::wire::status(&error), error)),
            false => Ok(()),
        }
    }

    /// Calls a function, with the stream that its caller sends, and writes the result.
    pub(super) async fn call(
        mut self,
        called: CalledFunction<'r>,
        args: CallArguments,
        items: Option<Items>,
    ) -> Result<HttpAnswer, Rejection> {
        let way = called.way;
        if way == Way::Plain {
            self.endpoint().dispatch().record_name(self.record, &called.name, called.entry, &self.head.headers);
        }
        // By a request with the wrong verb.
        let refused = matches!(&args, CallArguments::Refused(error) if error.code() == Code::Unimplemented);
        let format = StreamFormat::asked_for(&self.head.headers);
        let gets_bytes = way == Way::Path
            && called.entry.is_some_and(|entry| entry.handler.returns_bytes())
            && octet_stream::is_asked_for(&self.head.headers);
        let items = items.map(|items| self.record.takes(items));
        let streams = StreamsOfCall { items, takes_stream: true };
        let metadata = take(&mut self.head.headers);
        let expect = self.unread.as_ref().and_then(|_| metadata.get(EXPECT).cloned());
        let span = self.record.span();
        let AnsweredCall { reply, is_caller_gone } = self.caller.run(&called, args, streams, metadata, span).await;
        let Reply { result, metadata } = reply;
        if let Some(unread) = self.unread.take() {
            Box::pin(self.use_up(unread, expect, is_refusal(&result))).await?;
        }
        self.record.ended_for(is_caller_gone, &result);
        let of_function = is_of_function(&result);
        let reply = match result {
            Ok(Returned::Value(ReturnedValue::Encoded(codec, value))) if gets_bytes => {
                octet_stream::success(codec, &value).map_err(|_| not_encoded())?
            }
            Ok(Returned::Value(value)) => match (value.into_json(), way) {
                (Some(value), Way::Plain) => plain_format::success(&value),
                (Some(value), Way::Path) => path_format::success(value),
                (None, _) => return Err(not_encoded().into()),
            },
            Ok(Returned::Stream(items)) => {
                let activity = Arc::clone(&self.caller.session.activity);
                let reader = StreamReader { activity, readonly: called.is_readonly().then_some(called.name) };
                let format = if gets_bytes { BodyFormat::Octets } else { BodyFormat::Text(format) };
                let items = self.record.take().follow(items);
                return Ok(response_body::stream(items, format, reader, metadata));
            }
            Err(failure) => {
                let refusal = WireError::from(failure);
                let status = match refusal.status(way) {
                    StatusCode::NOT_FOUND if refused => StatusCode::METHOD_NOT_ALLOWED,
                    status => status,
                };
                refusal.answer(way, status)
            }
        };
        let (length, limit) = (reply.body.len(), self.endpoint().dispatch().limits().message);
        if of_function && length > limit {
            let why = format!(
                "the reply of `{}` has {}, more than {limit} (`Limits::message` of the server); \
                 return less, or raise the limit{}",
                called.name,
                in_bytes(length),
                codec::shorter(Codec::Json)
            );
            return Err(does_not_fit(why).into());
        }
        let usual = || self.endpoint().usual_headers.of_json(self.caller.deadline.is_some());
        Ok(answer_with(reply, metadata, usual))
    }
}

impl<'r> CallerInfo<'r> {
    pub(super) fn endpoint(&self) -> &'r ServerEndpoint {
        &self.session.endpoint
    }

    /// Who is calling.
    pub(super) fn peer(&self) -> Option<&'r Arc<Peer>> {
        self.client.or(self.session.peer.as_ref())
    }

    /// What the caller asks, as rules see it.
    pub(super) fn request(&self, name: Arc<str>, args: CallArguments, metadata: HeaderMap) -> Request {
        let mut request = Request::new(name, args, metadata);
        request.peer = self.peer().cloned();
        // A batch has several calls.
        request.extensions = self.session.extensions.clone();
        request
    }

    /// Runs a call as one call of its connection.
    pub(super) async fn run(
        &self,
        called: &CalledFunction<'r>,
        args: CallArguments,
        streams: StreamsOfCall,
        metadata: HeaderMap,
        span: Option<ServedSpan>,
    ) -> AnsweredCall {
        let dispatch = self.endpoint().dispatch();
        let Some(share) = self.session.functions.try_acquire() else {
            let most = self.endpoint().functions();
            let why =
                format!("{most} functions that were called on this connection still run; wait until some have ended");
            let busy = Error::refused(Code::ResourceExhausted, why).with_retry_after(Duration::from_millis(100));
            return AnsweredCall { reply: busy.into(), is_caller_gone: false };
        };
        let mut request = self.request(Arc::clone(&called.name), args, metadata);
        (request.deadline, request.share, request.span) = (self.deadline, Some(share), span);
        (request.items, request.takes_stream) = (streams.items, streams.takes_stream);
        // The stream may be complete but not read yet. A cancelled function would find it broken.
        let may_be_told = request.items.is_none();
        let mut is_caller_gone = false;
        let mut running = pin!(dispatch.run_found(called.entry, request));
        let activity = &self.session.activity;
        let reply = poll_fn(|cx| {
            let running = &mut running;
            let mut poll = |is_gone| match is_gone {
                true => while_caller_may_be_gone(|| running.as_mut().poll(cx)),
                false => running.as_mut().poll(cx),
            };
            let polled = poll(is_caller_gone);
            if is_caller_gone {
                return polled;
            }
            if polled.is_ready() || !activity.is_half_closed() {
                return polled;
            }
            if called.is_readonly() {
                return Poll::Ready(half_closed(&called.name).into());
            }
            is_caller_gone = may_be_told;
            if is_caller_gone { poll(true) } else { polled }
        });
        let reply = reply.await;
        AnsweredCall { reply, is_caller_gone }
    }
}

/// The reply to a call.
pub(super) struct AnsweredCall {
    pub(super) reply: Reply,
    /// Its caller closed its half of the connection while it waited, so it is probably gone. The reply is sent in any case.
    pub(super) is_caller_gone: bool,
}

/// Whether a rule or an interceptor has refused the call.
fn is_refusal(result: &Result<Returned, Failure>) -> bool {
    let codes = [Code::PermissionDenied, Code::Unauthenticated];
    matches!(result, Err(Failure::Rpc(error)) if error.executed() == Executed::No && codes.contains(&error.code()))
}

/// Errors of the server are always sent. Results and errors of the function must fit.
pub(super) fn is_of_function(result: &Result<Returned, Failure>) -> bool {
    match result {
        Ok(_) | Err(Failure::Method { .. }) => true,
        Err(Failure::Rpc(error)) => error.data().is_some(),
    }
}

pub(super) fn does_not_fit(why: String) -> Error {
    Error::new(Code::ResourceExhausted, why).of_limit(Limit::Message).executed_is(Executed::Yes)
}

pub(super) fn not_encoded() -> Error {
    Error::new(Code::Internal, "a value was not encoded, which is a defect of byname")
}
