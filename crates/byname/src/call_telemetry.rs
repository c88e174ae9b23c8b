//! What is recorded of each call, on the side that serves it and on the side that makes it: its span, and on a server its entry in
//! the access log. [`CallTelemetry`], [`RecordedCall`].

#[cfg(feature = "otel")]
mod otel_bridge;
#[cfg(not(feature = "otel"))]
#[path = "call_telemetry/without_otel.rs"]
mod otel_bridge;

use std::borrow::Cow;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::span::Id;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Span};

use crate::access_log::{AccessEntry, CallWay};
use crate::call_record::CallRecord;
use crate::codec::Codec;
use crate::context::{Context, may_caller_be_gone};
use crate::error::{Code, Error, Executed};
use crate::method::Method;
use crate::outcome::items::{ItemSource, Items, NextItems};
use crate::outcome::{Failure, Returned};
use crate::peer::Peer;
use crate::server_counters::ServerCounters;
use crate::telemetry_names::{
    ATTEMPTS, ERROR_TYPE, HEDGE, OK, OTEL_KIND, OTEL_NAME, PARENT_ID, RETRY, RPC_METHOD, RPC_RESPONSE_STATUS_CODE,
    SERVER_ADDRESS, SERVER_PORT, SPAN_ID, TRACE_ID,
};
use crate::trace_context::{CallSpan, RemoteSpan, ServedSpan, TRACEPARENT, TraceIds, ids, trace_state};
use crate::untrusted_text::excerpt;

/// The most bytes of the message of an error in a trace.
const LONGEST_MESSAGE: usize = 512;

/// What the calls of one server leave behind.
pub(crate) struct CallTelemetry {
    /// Whether each call is an event of the access log.
    logs_access: bool,
    counters: Arc<ServerCounters>,
}

/// The span of a call, if a subscriber wants it. The result of the call is recorded once. A call that is dropped before is
/// recorded as cancelled.
#[derive(Debug)]
pub(crate) struct RecordedCall(Option<Box<OpenSpan>>);

/// A span whose call has no result yet.
#[derive(Debug)]
struct OpenSpan {
    span: Span,
    kind: SpanKind,
    /// OpenTelemetry has the span too.
    is_exported: bool,
}

/// The side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpanKind {
    Client,
    Server,
}

/// The server that a client calls, as its URL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CalledServer<'s> {
    pub(crate) address: &'s str,
    pub(crate) port: Option<u16>,
}

impl CallTelemetry {
    /// For a server whose functions have these names.
    pub(crate) fn new(names: impl Iterator<Item = Cow<'static, str>>) -> Self {
        Self { logs_access: false, counters: Arc::new(ServerCounters::new(names)) }
    }

    pub(crate) fn counters(&self) -> &Arc<ServerCounters> {
        &self.counters
    }

    /// Whether there is an access log: off until this says otherwise.
    pub(crate) fn log_access(&mut self, on: bool) {
        self.logs_access = on;
    }

    pub(crate) fn logs_access(&self) -> bool {
        self.logs_access
    }

    /// The record of a call that began then. The code that runs the call adds its result.
    pub(crate) fn record(
        &self,
        way: CallWay,
        peer: Option<&Arc<Peer>>,
        metadata: &HeaderMap,
        began: Instant,
    ) -> CallRecord {
        let access = match self.logs_access {
            true => AccessEntry::new(way, peer.cloned(), ids(metadata), began),
            false => AccessEntry::none(),
        };
        CallRecord::new(Arc::clone(&self.counters), way, began, access)
    }
}

impl RecordedCall {
    /// A call that is served. Its span has the registered name, so that there are never more names than functions. `place` is
    /// set to where it is in its trace, if the span is recorded.
    #[inline]
    pub(crate) fn served(method: &Method, metadata: &HeaderMap, place: &mut Option<ServedSpan>) -> Self {
        if may_be_wanted() { Self::open_served(method, metadata, place) } else { Self::none() }
    }

    #[cold]
    fn open_served(method: &Method, metadata: &HeaderMap, place: &mut Option<ServedSpan>) -> Self {
        let span = tracing::info_span!(
            // Filters of users may name it.
            target: "byname::dispatch",
            "rpc.serve",
            { RPC_METHOD } = &*method.name,
            { RPC_RESPONSE_STATUS_CODE } = Empty,
            { ERROR_TYPE } = Empty,
            { TRACE_ID } = Empty,
            { SPAN_ID } = Empty,
            { PARENT_ID } = Empty,
            { OTEL_NAME } = Empty,
            { OTEL_KIND } = Empty,
        );
        let Some(mut open) = OpenSpan::new(span, SpanKind::Server) else {
            return Self::none();
        };
        let exported = open.export(&method.name, RemoteSpan::of(metadata), Some(metadata));
        let found = exported.map_or_else(|| CallSpan::of_headers(metadata, true), |(span, _)| span);
        open.record_ids(place.get_or_insert_default().get_or_init(|| found).into());
        Self(Some(open))
    }

    /// A call that is made.
    #[inline]
    pub(crate) fn made<'s>(name: &str, server: impl FnOnce() -> Option<CalledServer<'s>>) -> Self {
        if may_be_wanted() { Self::open_made(name, server()) } else { Self::none() }
    }

    #[cold]
    fn open_made(name: &str, server: Option<CalledServer<'_>>) -> Self {
        let span = tracing::info_span!(
            target: "byname::client::call",
            "rpc.call",
            { RPC_METHOD } = name,
            { SERVER_ADDRESS } = Empty,
            { SERVER_PORT } = Empty,
            { RPC_RESPONSE_STATUS_CODE } = Empty,
            { ERROR_TYPE } = Empty,
            { ATTEMPTS } = Empty,
            { TRACE_ID } = Empty,
            { SPAN_ID } = Empty,
            { PARENT_ID } = Empty,
            { OTEL_NAME } = Empty,
            { OTEL_KIND } = Empty,
        );
        let open = OpenSpan::new(span, SpanKind::Client);
        if let Some(open) = &open
            && let Some(CalledServer { address, port }) = server
        {
            open.span.record(SERVER_ADDRESS, address);
            if let Some(port) = port {
                open.span.record(SERVER_PORT, port);
            }
        }
        Self(open)
    }

    /// Nothing is recorded.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The span, to do something in it.
    #[inline]
    pub(crate) fn span(&self) -> Option<&Span> {
        self.0.as_ref().map(|open| &open.span)
    }

    /// Records what the call has come to. A stream that has begun is followed to its end.
    #[inline]
    pub(crate) fn end(mut self, result: Result<Returned, Failure>) -> Result<Returned, Failure> {
        match result {
            Ok(Returned::Stream(items)) if self.is_some() => {
                Ok(Returned::Stream(Items::new(RecordedItems { items, call: self })))
            }
            result => {
                self.record(&result);
                result
            }
        }
    }

    #[inline]
    pub(crate) fn record<T>(&mut self, result: &Result<T, Failure>) {
        if let Some(open) = self.0.take() {
            open.close_with(result);
        }
    }

    fn failed(&mut self, error: &Error) {
        if let Some(open) = self.0.take() {
            open.close(Some(error.code()), Some(error));
        }
    }
}

/// Whether a subscriber may want the span of a call. Making a span that none wants costs more than this.
#[inline]
fn may_be_wanted() -> bool {
    LevelFilter::current() >= LevelFilter::INFO
}

impl Drop for RecordedCall {
    #[inline]
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.close(Some(Code::Cancelled), None);
        }
    }
}

impl OpenSpan {
    /// `None` if the span is not recorded.
    fn new(span: Span, kind: SpanKind) -> Option<Box<Self>> {
        is_recorded(&span).then(|| Box::new(Self { span, kind, is_exported: false }))
    }

    #[cold]
    fn close_with<T>(&self, result: &Result<T, Failure>) {
        match result {
            // It runs to its end, but its result is for a caller that has gone.
            _ if self.kind == SpanKind::Server && may_caller_be_gone() => self.close(Some(Code::Cancelled), None),
            Ok(_) => self.close(None, None),
            Err(failure) => self.close(Some(failure.error().code()), Some(failure.error())),
        }
    }

    /// Records the result: the code of an error, if it is one, and what the error says.
    #[cold]
    fn close(&self, code: Option<Code>, error: Option<&Error>) {
        let Some(code) = code else {
            self.span.record(RPC_RESPONSE_STATUS_CODE, OK);
            return;
        };
        self.span.record(RPC_RESPONSE_STATUS_CODE, code.as_str());
        // A log would have it twice.
        if self.is_exported {
            self.span.record(ERROR_TYPE, code.as_str());
            if self.kind == SpanKind::Client || is_fault_of_server(code) {
                otel_bridge::fail(&self.span, error.map(said).unwrap_or_default());
            }
        }
    }

    /// Gives the span to OpenTelemetry, if it has a subscriber there.
    fn export(
        &mut self,
        name: &str,
        parent: Option<RemoteSpan>,
        came: Option<&HeaderMap>,
    ) -> Option<(CallSpan, Option<HeaderValue>)> {
        let exported = otel_bridge::export(&self.span, self.kind.as_str(), name, parent, came);
        self.is_exported = exported.is_some();
        exported
    }

    fn record_ids(&self, TraceIds { trace, span, parent }: TraceIds) {
        self.span.record(TRACE_ID, tracing::field::display(trace));
        // A field that is recorded without a value leaves a gap in a log.
        for (name, id) in [(SPAN_ID, span), (PARENT_ID, parent)] {
            if let Some(id) = id {
                self.span.record(name, tracing::field::display(id));
            }
        }
    }
}

impl SpanKind {
    const fn as_str(self) -> &'static str {
        match self {
            SpanKind::Client => "client",
            SpanKind::Server => "server",
        }
    }
}

/// Puts the trace of a call that is made into its headers. `serving` is the call that is served meanwhile, and `own` are the
/// headers that were set for this call alone. A trace that the caller has set goes out as it is. Returns where the call is in its trace,
/// if it belongs to one.
pub(crate) fn put_trace(
    call: &mut RecordedCall,
    name: &str,
    serving: Option<&Context>,
    own: &HeaderMap,
    headers: &mut HeaderMap,
) -> Option<TraceIds> {
    let set = match serving {
        _ if own.contains_key(TRACEPARENT) => Some(own),
        None if headers.contains_key(TRACEPARENT) => Some(&*headers),
        _ => None,
    };
    if let Some(set) = set {
        let parent = RemoteSpan::of(set);
        let ids = parent.map(|RemoteSpan { trace, id, .. }| TraceIds { trace, span: None, parent: Some(id) });
        if let Some(open) = &mut call.0 {
            open.export(name, parent, Some(set));
            if let Some(ids) = ids {
                open.record_ids(ids);
            }
        }
        return ids;
    }
    let served = serving.map(|serving| serving.span().as_parent());
    let came = serving.map(Context::metadata);
    let exported = call.0.as_mut().and_then(|open| open.export(name, served, came));
    let (span, state) = match (exported, served) {
        (Some(exported), _) => exported,
        (None, Some(served)) => (CallSpan::under(served), None),
        (None, None) if call.is_some() => (CallSpan::begin(true), None),
        (None, None) => return None,
    };
    span.put(state.or_else(|| came.and_then(trace_state)), headers);
    if let Some(open) = &call.0 {
        open.record_ids(span.into());
    }
    Some(span.into())
}

/// Whether a subscriber gets this span. A thread without a subscriber has such spans too, while other threads have one.
fn is_recorded(span: &Span) -> bool {
    let has_subscriber = |(_, subscriber): (&Id, &Dispatch)| !subscriber.is::<NoSubscriber>();
    !span.is_disabled() && span.with_subscriber(has_subscriber).unwrap_or_default()
}

thread_local! {
    /// How often the call was sent that is polled here, if it was more than once.
    static SENT: Cell<u32> = const { Cell::new(0) };
}

/// Polls a call that is made. Also gives how often it was sent, once it has ended, if that was more than once.
pub(crate) fn counting_attempts<T>(poll: impl FnOnce() -> T) -> (T, u32) {
    // The call may be a part of another.
    let of_outer = SENT.replace(0);
    let polled = poll();
    (polled, SENT.replace(of_outer))
}

/// Records how often the call was sent in whose span this runs.
pub(crate) fn record_attempts(sent: u32) {
    if sent > 1 {
        SENT.set(sent);
    }
    // It is a number, and the current span is a look-up.
    if may_be_wanted() {
        Span::current().record(ATTEMPTS, sent);
    }
}

/// Records that the call in whose span this runs is sent again after an attempt that failed.
#[cold]
pub(crate) fn record_retry(number: u32, error: &Error) {
    if may_be_wanted() {
        otel_bridge::attempt(&Span::current(), RETRY, number, Some((error.code().as_str(), said(error))));
    }
}

/// Records that the call in whose span this runs is sent to another server beside the first.
#[cold]
pub(crate) fn record_hedge(number: u32) {
    if may_be_wanted() {
        otel_bridge::attempt(&Span::current(), HEDGE, number, None);
    }
}

/// What an error says, for a trace. Empty if it is about arguments, which it may quote.
fn said(error: &Error) -> String {
    match (error.code(), error.executed()) {
        (Code::InvalidArgument, Executed::No | Executed::Unknown) => String::new(),
        _ => excerpt(error.message(), LONGEST_MESSAGE),
    }
}

/// Whether a server that answers with this code is what has failed, and not the call.
fn is_fault_of_server(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The items of a stream that answers a call. Their end is the end of the call.
struct RecordedItems {
    items: Items,
    call: RecordedCall,
}

impl ItemSource for RecordedItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>, room: usize) -> Poll<NextItems> {
        let next = ready!(self.items.poll_next(cx, room));
        match &next {
            NextItems::Batch(_) => {}
            NextItems::End => self.call.record(&Ok(())),
            NextItems::Failed(failure) => self.call.failed(failure.error()),
        }
        Poll::Ready(next)
    }

    fn encode_in(mut self: Pin<&mut Self>, codec: Codec) {
        self.items.encode_in(codec);
    }

    fn give_up(mut self: Pin<&mut Self>, why: &Failure) {
        self.call.failed(why.error());
        self.items.give_up(why);
    }
}
