//! A connection of frames on the server: many calls at once, answered in the order in which they end.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod stream_calls;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::str;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::debug;
use tracing::field::display;

use super::connection_timeouts::linger;
use super::end_reason::{EndReason, last_moment, log_expiry, unfinished};
use super::http::ServerEndpoint;
use super::http::request_body;
use crate::access_log::CallWay;
use crate::admission::Admission;
use crate::arguments::EncodedArguments;
use crate::call_record::CallRecord;
use crate::call_semaphore::CallPermits;
use crate::clock_and_chance::{RealInstant, real_now};
use crate::codec::{self, Codec};
use crate::deadline::{DeadlineTimer, later};
use crate::dispatch::inline::{InlineCall, Polled};
use crate::error::{Code, Error, Executed};
use crate::fingerprint_queue::{finds_fingerprints, known_fingerprint};
use crate::frames::header::{self, FrameHeader, flag, kind};
use crate::frames::payload::call::ReceivedCall;
use crate::frames::payload::{self, Hello, load, reply, stream};
use crate::frames::websocket::WebSocketRole;
use crate::frames::{
    Assembled, FlowControl, FrameSocket, GivenUp, MessageAssembly, PIECE, PieceInPlace, Received, ShapeExchange,
    SharedState, SharedStreams, SocketEnd, Violation, WriteQueue, wake,
};
use crate::limits_and_timeouts::{Limit, in_bytes};
use crate::outcome::items::EncodedItems;
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::peer::Peer;
use crate::registry::RegistryEntry;
use crate::request::{CallArguments, Reply, Request};
use crate::runtime::{self, BoxFuture};
use crate::server_counters::ServerCallRun;
use crate::untrusted_text::beginning;

/// The most calls in flight on one connection.
pub(super) const CALLS: usize = 4096;

/// The longest part of a name that is kept. It is longer than the name of any function.
const NAME: usize = 256;

/// While more bytes than this wait to be written, no further call is read.
const UNWRITTEN: usize = 1 << 20;

/// After so many calls their answers are written, so that the caller works on them while the next calls are answered.
const AT_ONCE: usize = 32;

/// How many bytes of unfinished messages are kept for each of [`Limits::message`](crate::Limits::message).
const WINDOW: usize = 4;

/// Who has opened a connection of frames. Every call has this from its connection.
pub(super) struct FrameCaller {
    /// `None` if an outer server doesn't say who it is.
    pub(super) peer: Option<Arc<Peer>>,
    /// A proxy has passed on the request for the upgrade, so that the peer is the proxy.
    pub(super) is_forwarded: bool,
    /// What the layers of an outer server have added to the request for the upgrade.
    pub(super) extensions: Extensions,
}

/// Serves one connection from its upgrade to its end, which comes at `until` at the latest. `early` are bytes that were
/// read from it before.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    early: Bytes,
    caller: FrameCaller,
    endpoint: Arc<ServerEndpoint>,
    told_to_end: impl Future<Output = EndReason>,
    until: Option<Instant>,
) {
    let mut connection = FrameServer::new(stream, &early, caller, endpoint);
    let mut stop = pin!(told_to_end);
    let (mut is_told, mut listening, mut last) = (false, false, None);
    let ended = poll_fn(|cx| {
        let mut polled = connection.poll(cx);
        let goes_on =
            connection.endpoint.dispatch().admission().is_ready() && until.is_none_or(|until| Instant::now() < until);
        if polled.is_pending() && !is_told && (!listening || !goes_on) {
            listening = true;
            let Poll::Ready(why) = stop.as_mut().poll(cx) else { return Poll::Pending };
            is_told = true;
            last = last_moment(why, connection.endpoint.dispatch().limits());
            if let Some(peer) = &connection.caller.peer {
                log_expiry(peer, why);
            }
            connection.leave(why);
            polled = connection.poll(cx);
        }
        match (polled, &mut last) {
            (Poll::Pending, Some(last)) => last.as_mut().poll(cx).map(|()| {
                debug!("closed a connection of frames {}", unfinished(connection.endpoint.dispatch().limits()));
                SocketEnd::Closed
            }),
            (polled, _) => polled,
        }
    })
    .await;
    let peer = connection.caller.peer.as_deref().map(display);
    debug!(peer, "a connection of frames ended: {ended}");
    connection.part(ended).await;
}

struct FrameServer<S> {
    socket: FrameSocket<S>,
    endpoint: Arc<ServerEndpoint>,
    caller: FrameCaller,
    /// The codec of values, once the client has said it.
    codec: Option<Codec>,
    /// The rest of a message whose first calls were answered, or for which there was no room.
    unread: Bytes,
    names: Vec<Option<NumberedName>>,
    shapes: ShapeExchange,
    assembly: MessageAssembly,
    /// When messages of which no further piece came are refused.
    look: Option<Instant>,
    /// Calls that have not come whole.
    incomplete: HashMap<u64, CallRecord>,
    /// Replies of functions that were polled inline.
    write_queue: WriteQueue,
    /// Calls that have a task of their own.
    running: HashMap<u64, AbortHandle>,
    shared: Arc<SharedState<SharedReplies>>,
    /// Permits for the functions of this connection, including functions whose callers are gone.
    functions: Arc<CallPermits>,
    /// Whether a call in flight has a stream.
    has_streams: bool,
    last_id: u64,
    /// Why it accepts no further call, once it does not.
    leaving: Option<EndReason>,
    last_call: Instant,
    /// When calls were read, if the clock was read since.
    read_at: Option<Instant>,
    /// Since when calls have been waiting to be read.
    backlog_since: Option<Instant>,
    /// The longest that a call waited for its task, in microseconds, of those whose replies were gathered since everything
    /// was written.
    waited: u32,
    /// When the last inline poll ended.
    clock: RealInstant,
    /// When the calls came that are being answered.
    batch_began: RealInstant,
    /// The calls that were answered at once and are not counted yet.
    answered: ServerCallRun,
    timer: DeadlineTimer,
}

/// The function for the number of a name.
struct NumberedName {
    name: Arc<str>,
    entry: Option<Arc<RegistryEntry>>,
}

/// The streams of a call.
struct ReceivedStreams {
    /// How many bytes of its answer the caller accepts at first, if that is a stream.
    credit: u32,
    /// Whether the caller brings one.
    brings: bool,
}

/// What the tasks of calls share with the connection: their replies, and the streams of their calls.
struct SharedReplies {
    write_queue: WriteQueue,
    ended: Vec<u64>,
    flows: FlowControl,
    /// The longest that a call waited for its task, in microseconds, of those whose replies are in the queue.
    waited: u32,
}

impl SharedStreams for SharedReplies {
    fn streams(&mut self) -> (&mut FlowControl, &mut WriteQueue) {
        (&mut self.flows, &mut self.write_queue)
    }

    fn has_sent(&mut self, _: u64) {}
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameServer<S> {
    fn new(stream: S, early: &[u8], caller: FrameCaller, endpoint: Arc<ServerEndpoint>) -> Self {
        let limits = endpoint.dispatch().limits();
        let window = limits.message.saturating_mul(WINDOW);
        let codecs = [Codec::MessagePack, Codec::Json].map(|codec| codec.name().to_owned()).into();
        let instance = Some(endpoint.instance());
        let keys = Some(endpoint.dispatch().key_sharing());
        let shapes = finds_fingerprints();
        let (message, calls) = (limits.message, CALLS);
        let hello = Hello { message, window, calls, codecs, instance, keys, shapes, batches: true };
        let mut write_queue = WriteQueue::new();
        hello.put(&mut write_queue);
        let now = Instant::now();
        let replies = SharedReplies {
            write_queue: WriteQueue::new(),
            ended: Vec::new(),
            flows: FlowControl::default(),
            waited: 0,
        };
        Self {
            socket: FrameSocket::new(stream, WebSocketRole::Server, early, now),
            caller,
            codec: None,
            unread: Bytes::new(),
            names: Vec::new(),
            shapes: ShapeExchange::default(),
            assembly: MessageAssembly::new(window, limits.message),
            look: None,
            incomplete: HashMap::new(),
            write_queue,
            running: HashMap::new(),
            shared: Arc::new(SharedState::new(replies)),
            functions: CallPermits::new(CALLS),
            has_streams: false,
            last_id: 0,
            leaving: None,
            last_call: now,
            read_at: None,
            backlog_since: None,
            waited: 0,
            clock: now.into_std().into(),
            batch_began: now.into_std().into(),
            answered: ServerCallRun::new(Arc::clone(endpoint.dispatch().telemetry().counters())),
            timer: DeadlineTimer::default(),
            endpoint,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SocketEnd> {
        match self.try_poll(cx) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(ended)) | Err(ended) => Poll::Ready(ended),
        }
    }

    /// Reads and answers what has come, then writes, until neither can go on.
    fn try_poll(&mut self, cx: &mut Context<'_>) -> Result<Poll<SocketEnd>, SocketEnd> {
        self.shared.register_task(cx);
        loop {
            while self.write_queue.len() < UNWRITTEN {
                if self.unread.is_empty() {
                    match self.socket.next_or_piece(kind::CALL, &mut self.assembly)? {
                        Some(Received::Frames(message)) => self.unread = message,
                        Some(Received::Piece(header, piece)) => {
                            self.take_piece(&header, piece, cx)?;
                            continue;
                        }
                        None => break,
                    }
                }
                self.take(cx)?;
                if !self.unread.is_empty() {
                    break;
                }
            }
            let is_more = self.write_queue.len() >= UNWRITTEN || !self.unread.is_empty();
            self.notice_backlog();
            self.gather();
            if !self.write_queue.is_empty() {
                self.write_queue.set_before_answer(load::frame(self.endpoint.load(self.waited)));
            }
            let unwritten = self.socket.poll_write(cx, &mut self.write_queue)?.is_pending();
            if self.has_streams {
                self.let_streams_go_on();
            }
            if !unwritten {
                self.waited = 0;
                let is_done = self.running.is_empty() && !self.assembly.is_waiting() && self.write_queue.is_empty();
                if self.leaving.is_some() && is_done {
                    return Ok(Poll::Ready(SocketEnd::Closed));
                }
                if is_more {
                    // There is room again for calls that have come.
                    continue;
                }
            }
            if self.write_queue.len() >= UNWRITTEN || self.socket.poll_read(cx)?.is_pending() {
                return self.wait(cx, unwritten);
            }
        }
    }

    /// Nothing can be done now. Waits until something is due, and does it.
    fn wait(&mut self, cx: &mut Context<'_>, unwritten: bool) -> Result<Poll<SocketEnd>, SocketEnd> {
        // A time of this poll is near enough to now. Without one a timer may have woken the task, so the clock is read.
        let known = self.read_at.take();
        let limits = self.endpoint.dispatch().limits();
        if let Some(now) = known
            && !unwritten
            && self.leaving.is_none()
            && let Some(armed_at) = self.timer.armed_at()
            && !self.assembly.is_waiting()
            && !self.assembly.is_newly_untidy()
            && !self.write_queue.is_newly_untidy()
            && self.socket.goes_on(now)
            && (!self.running.is_empty() || armed_at <= later(self.last_call, limits.idle))
        {
            self.look = None;
            return Ok(Poll::Pending);
        }
        let now = known.unwrap_or_else(Instant::now);
        let mut at = match self.socket.patience(unwritten, limits.write_progress, now) {
            Ok(at) => at,
            Err(GivenUp::Silent) => return Err(timed_out("the client no longer answers")),
            Err(GivenUp::Stalled) => return Err(timed_out("the client reads no replies (`Limits::write_progress`)")),
        };
        if !self.assembly.is_waiting() {
            self.look = None;
        } else {
            let look = *self.look.get_or_insert_with(|| later(now, limits.body_progress));
            if look <= now {
                self.look = None;
                self.refuse_still();
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            at = at.min(look);
        }
        let was_untidy = self.write_queue.is_untidy();
        for tidy in [self.assembly.tidy(now), self.write_queue.tidy(now)].into_iter().flatten() {
            at = at.min(tidy);
        }
        if was_untidy && !self.write_queue.is_untidy() {
            self.shared.lock().write_queue.release();
        }
        if !unwritten && self.running.is_empty() {
            let until = later(self.last_call, limits.idle);
            if until <= now {
                if self.leaving.is_some() {
                    // The rest of an unfinished message will not come.
                    return Ok(Poll::Ready(SocketEnd::Closed));
                }
                self.leave(EndReason::Idle);
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            at = at.min(until);
        }
        if self.timer.poll_in_one_task(cx, at).is_ready() {
            cx.waker().wake_by_ref();
        }
        Ok(Poll::Pending)
    }

    /// Tells how long calls have been waiting to be read. A client that does not read its answers makes them wait itself.
    fn notice_backlog(&mut self) {
        if self.unread.is_empty() || self.write_queue.len() >= UNWRITTEN {
            self.backlog_since = None;
            return;
        }
        let now = Instant::now();
        let since = *self.backlog_since.get_or_insert(now);
        self.endpoint.dispatch().admission().waits(now.saturating_duration_since(since));
    }

    /// Takes over the replies of calls that ended in their tasks.
    fn gather(&mut self) {
        let mut replies = self.shared.lock_for_task();
        self.write_queue.append(&mut replies.write_queue);
        if !replies.ended.is_empty() {
            for id in replies.ended.drain(..) {
                self.running.remove(&id);
            }
            self.last_call = Instant::now();
            self.waited = self.waited.max(std::mem::take(&mut replies.waited));
        }
    }

    /// Accepts no call after the last that has come, and says so by GOAWAY.
    fn leave(&mut self, why: EndReason) {
        let why = *self.leaving.get_or_insert(why);
        payload::put_go_away(self.last_id, why.words(), &mut self.write_queue);
    }

    /// Reads the frames of a message, up to [`AT_ONCE`] calls and while there is room for answers.
    fn take(&mut self, cx: &mut Context<'_>) -> Result<(), Violation> {
        let message = std::mem::take(&mut self.unread);
        let mut rest = &message[..];
        let (mut now, mut calls) = (None, 0);
        while calls < AT_ONCE
            && self.write_queue.len() < UNWRITTEN
            && let Some((header, payload)) = header::next(&mut rest)?
        {
            match header.kind {
                kind::HELLO => self.greet(&Hello::read(payload)?)?,
                _ if self.codec.is_none() => return Err(Violation("the first frame must be HELLO")),
                kind::NAME => self.name(&header, payload)?,
                kind::SHAPE => self.shapes.came(&header, payload)?,
                kind::CALL if !self.assembly.has_begun(&header) && !self.begin(&header)? => {}
                kind::CALL => {
                    let now = *now.get_or_insert_with(|| {
                        let now = Instant::now();
                        (self.last_call, self.read_at, self.clock) = (now, Some(now), real_now());
                        self.batch_began = self.clock;
                        now
                    });
                    match self.assembly.take(&header, payload)? {
                        Assembled::Part => {}
                        Assembled::Whole(call) => self.call(&header, call, None, now, cx)?,
                        Assembled::Joined(call) => self.call(&header, &call, Some(&call), now, cx)?,
                        Assembled::TooLarge => self.too_large(&header),
                    }
                    calls += 1;
                }
                kind::CANCEL => self.cancel(header.id),
                kind::CREDIT => {
                    let more = stream::read_credit(payload)?;
                    wake([self.shared.lock().flows.credit(header.id, more)]);
                }
                kind::ITEM => self.item(&header, payload, &message)?,
                kind::END => wake([self.shared.lock().flows.ended(header.id, Ok(()))]),
                _ => {}
            }
        }
        if !rest.is_empty() {
            self.unread = message.slice_ref(rest);
        }
        self.answered.flush();
        Ok(())
    }

    /// A piece of a call has come.
    fn take_piece(&mut self, header: &FrameHeader, piece: PieceInPlace, cx: &mut Context<'_>) -> Result<(), Violation> {
        if self.codec.is_none() {
            return Err(Violation("the first frame must be HELLO"));
        }
        if !self.assembly.has_begun(header) && !self.begin(header)? {
            return Ok(());
        }
        let now = Instant::now();
        (self.last_call, self.read_at, self.clock) = (now, Some(now), real_now());
        self.batch_began = self.clock;
        match self.assembly.take_in_place(header, piece)? {
            Assembled::Joined(call) => self.call(header, &call, Some(&call), now, cx)?,
            Assembled::TooLarge => self.too_large(header),
            Assembled::Part | Assembled::Whole(_) => {}
        }
        self.answered.flush();
        Ok(())
    }

    fn greet(&mut self, hello: &Hello) -> Result<(), Violation> {
        if self.codec.is_some() {
            return Err(Violation("a second HELLO"));
        }
        self.write_queue.set_window(hello.window);
        self.shapes = ShapeExchange::agreed_on(finds_fingerprints() && hello.shapes);
        self.shared.lock().flows.set_batches(hello.batches);
        let [codec] = hello.codecs.as_slice() else {
            return Err(Violation("the client's HELLO must name one codec that the server offers"));
        };
        let unknown = Violation("the client's HELLO must name one codec that the server offers");
        self.codec = Some(Codec::named(codec).ok_or(unknown)?);
        Ok(())
    }

    fn name(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), Violation> {
        let (number, name) = payload::read_name(header, payload)?;
        let entry = self.endpoint.dispatch().entry(name).cloned();
        let name = beginning(name, NAME).into();
        let at = usize::from(number);
        if self.names.len() <= at {
            self.names.resize_with(at + 1, || None);
        }
        self.names[at] = Some(NumberedName { name, entry });
        self.shapes.named(number);
        Ok(())
    }

    /// The first piece of a call has come. Returns whether the call is accepted. Small calls may overtake it.
    fn begin(&mut self, header: &FrameHeader) -> Result<bool, Violation> {
        let id = header.id;
        if id == 0 || self.running.contains_key(&id) {
            return Err(Violation("the id of a call is 0 or already in use"));
        }
        if let Some(leaving) = self.leaving {
            let why = format!("{}; this call was not run", payload::no_further_calls(leaving.words()));
            let record = self.record(header, &HeaderMap::new(), Instant::now(), None);
            self.put(id, Error::refused(Code::Unavailable, why).into(), "", record);
            if header.has(flag::MORE) {
                self.assembly.refuse_rest(header)?;
            }
            return Ok(false);
        }
        self.last_id = self.last_id.max(id);
        if header.has(flag::MORE) {
            let record = self.record(header, &HeaderMap::new(), Instant::now(), None);
            self.incomplete.insert(id, record);
        }
        Ok(true)
    }

    /// The record of the call of this frame.
    fn record(&self, header: &FrameHeader, metadata: &HeaderMap, now: Instant, payload: Option<&[u8]>) -> CallRecord {
        let dispatch = self.endpoint.dispatch();
        let mut record = dispatch.telemetry().record(CallWay::Frames, self.caller.peer.as_ref(), metadata, now);
        if let Some(Some(numbered)) = self.names.get(usize::from(header.number)) {
            dispatch.record_name(&mut record, &numbered.name, numbered.entry.as_ref(), metadata);
        }
        if let Some(payload) = payload {
            record.received(payload.len());
        }
        record
    }

    /// Answers or begins a call. Its payload is `assembled` if it came in pieces.
    fn call(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        assembled: Option<&Bytes>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let Some(Some(name)) = self.names.get(usize::from(header.number)) else {
            return Err(Violation("a CALL whose number has no name"));
        };
        if let Some(entry) = &name.entry {
            let known = || known_fingerprint(&entry.handler.method);
            self.shapes.called(header.number, known, &mut self.write_queue);
        }
        let codec = self.codec.unwrap_or_default();
        let dispatch = self.endpoint.dispatch();
        let call = ReceivedCall::read(header, payload, dispatch.limits().header, dispatch.secret_headers())?;
        let streams = call.has_streams();
        let quick = name.entry.as_ref().filter(|entry| {
            // Large arguments take time to decode, however quick the function is.
            entry.is_quick() && payload.len() <= PIECE && !streams
        });
        // A quick call that ends at once has no record, unless more than its time is to be known of it.
        let has_headers = call.metadata.as_ref().map_or(true, |metadata| !metadata.is_empty());
        let mut record = None;
        if quick.is_none() || has_headers || assembled.is_some() || dispatch.telemetry().logs_access() {
            let none = HeaderMap::new();
            let mut begun = self.record(header, call.metadata.as_ref().unwrap_or(&none), now, Some(payload));
            if assembled.is_some() {
                self.incomplete.remove(&header.id).unwrap_or(CallRecord::none()).begin(&mut begun);
            }
            record = Some(Box::new(begun));
        }
        let ReceivedCall { timeout, credit, brings_stream, metadata, positional, keyword } = call;
        let checked = metadata.and_then(|metadata| {
            dispatch.console_token().check(&metadata)?;
            Ok(metadata)
        });
        let metadata = match checked {
            Ok(metadata) => metadata,
            Err(error) => {
                let record = self.record_of(record, header, now, payload);
                self.put(header.id, error.into(), "", record);
                return Ok(());
            }
        };
        let deadline = timeout.map(|timeout| later(now, timeout));
        let (id, peer, extensions) = (header.id, self.caller.peer.clone(), &self.caller.extensions);
        let dispatch = self.endpoint.dispatch();
        // A function that is polled inline needs a permit only if it goes on in a task.
        if self.functions.are_exhausted() {
            let record = self.record_of(record, header, now, payload);
            let why =
                format!("{CALLS} functions that were called on this connection still run; wait until some have ended");
            let busy = Error::refused(Code::ResourceExhausted, why).with_retry_after(Duration::from_millis(100));
            self.put(id, busy.into(), "", record);
            return Ok(());
        }
        let Some(entry) = quick else {
            let record = self.record_of(record, header, now, payload);
            let owned = |part| match assembled {
                Some(whole) => whole.slice_ref(part),
                None => Bytes::copy_from_slice(part),
            };
            let args = CallArguments::Encoded(EncodedArguments {
                codec,
                positional: owned(positional),
                keyword: owned(keyword),
            });
            let (dispatch, entry, name) = (Arc::clone(dispatch), name.entry.clone(), Arc::clone(&name.name));
            let mut request = Request::new(Arc::clone(&name), args, metadata);
            (request.peer, request.deadline, request.share) = (peer, deadline, self.functions.try_acquire());
            (request.is_forwarded, request.extensions) = (self.caller.is_forwarded, extensions.clone());
            request.span = record.span();
            // It is refused here, because its task would have to wait for a thread before it is.
            if let Err(refused) = dispatch.admit_early(entry.as_ref(), &mut request) {
                self.put(id, refused.into(), "", record);
                return Ok(());
            }
            if streams {
                request.takes_stream = credit.is_some();
                let streams = ReceivedStreams { credit: credit.unwrap_or_default(), brings: brings_stream };
                self.stream(id, streams, entry, request, now, record);
                return Ok(());
            }
            if assembled.is_some() {
                // Its result probably has a similar size.
                request.room = self.write_queue.spare();
            }
            let call = Box::pin(async move { dispatch.run_found(entry.as_ref(), request).await });
            self.spawn(id, name, call, Some(now), record);
            return Ok(());
        };
        let limit = dispatch.limits().message;
        let start = self.write_queue.open();
        let (name, functions) = (&name.name, &self.functions);
        let call = InlineCall {
            dispatch,
            entry,
            name,
            metadata,
            extensions,
            is_forwarded: self.caller.is_forwarded,
            peer,
            deadline,
            codec,
            positional,
            keyword,
            now,
            span: record.as_ref().and_then(|record| record.span()),
            functions,
        };
        let reply = match call.poll(&mut self.clock, self.write_queue.buffer(), cx) {
            Polled::Value(metadata) => {
                let value = self.write_queue.since(start);
                if metadata.is_none() && value.len() <= limit {
                    match record {
                        None => {
                            let nanos = self.clock.nanos().saturating_sub(self.batch_began.nanos());
                            self.answered.add(entry.index, nanos, payload.len(), value.len());
                        }
                        Some(mut record) => {
                            record.sent(|| value.len());
                            record.succeeded();
                        }
                    }
                    reply::end_value(id, start, &mut self.write_queue);
                    return Ok(());
                }
                let value = ReturnedValue::Encoded(codec, Bytes::copy_from_slice(value));
                Reply {
                    result: Ok(Returned::Value(value)),
                    metadata: metadata.map(|headers| *headers).unwrap_or_default(),
                }
            }
            Polled::Reply(reply) => reply,
            Polled::Running(call) => {
                let record = self.record_of(record, header, now, payload);
                let name = Arc::clone(name);
                self.write_queue.abandon(start);
                self.spawn(id, name, Box::pin(call), None, record);
                return Ok(());
            }
        };
        let mut record = self.record_of(record, header, now, payload);
        self.write_queue.abandon(start);
        put_reply(&mut self.write_queue, id, reply, limit, name, &mut record);
        Ok(())
    }

    /// The record of a call without headers, if it has none yet.
    fn record_of(
        &self,
        begun: Option<Box<CallRecord>>,
        header: &FrameHeader,
        now: Instant,
        payload: &[u8],
    ) -> CallRecord {
        match begun {
            Some(record) => *record,
            None => self.record(header, &HeaderMap::new(), now, Some(payload)),
        }
    }

    fn put(&mut self, id: u64, reply: Reply, name: &str, mut record: CallRecord) {
        let limit = self.endpoint.dispatch().limits().message;
        put_reply(&mut self.write_queue, id, reply, limit, name, &mut record);
    }

    /// Gives a call a task of its own, so that it delays no other. `work` is on the heap already, because tokio moves the
    /// future of a task several times. It has waited since `unstarted_since`, if it was not polled yet.
    fn spawn(
        &mut self,
        id: u64,
        name: Arc<str>,
        work: BoxFuture<Reply>,
        unstarted_since: Option<Instant>,
        mut record: CallRecord,
    ) {
        let shared = Arc::clone(&self.shared);
        let limit = self.endpoint.dispatch().limits().message;
        let admission = Arc::clone(self.endpoint.dispatch().admission());
        let task = runtime::spawn_awaited(&Handle::current(), async move {
            let (waited, started) = match unstarted_since {
                Some(since) => first_polled(&admission, since),
                None => (0, Ok(())),
            };
            let reply = match started {
                Ok(()) => work.await,
                Err(refused) => {
                    drop(work);
                    refused.into()
                }
            };
            let mut replies = shared.lock();
            replies.waited = replies.waited.max(waited);
            put_reply(&mut replies.write_queue, id, reply, limit, &name, &mut record);
            replies.ended.push(id);
            shared.unlock_and_wake(replies);
        });
        self.running.insert(id, task.abort_handle());
    }

    /// Runs a call that has a stream.
    fn stream(
        &mut self,
        id: u64,
        ReceivedStreams { credit, brings }: ReceivedStreams,
        entry: Option<Arc<RegistryEntry>>,
        mut request: Request,
        now: Instant,
        mut record: CallRecord,
    ) {
        self.has_streams = true;
        let granted = self.shared.lock().flows.open(id, credit, brings);
        if brings {
            stream::put_credit(id, granted, &mut self.write_queue);
            request.items = Some(record.takes(stream_calls::uploaded(&self.shared, id)));
        }
        let (shared, dispatch) = (Arc::clone(&self.shared), Arc::clone(self.endpoint.dispatch()));
        let answering = stream_calls::answer(shared, dispatch, now, id, entry, request, record);
        let task = runtime::spawn_awaited(&Handle::current(), answering);
        self.running.insert(id, task.abort_handle());
    }

    /// An item of the caller's stream, or several ones, in a frame of `message`.
    fn item(&mut self, header: &FrameHeader, payload: &[u8], message: &Bytes) -> Result<(), Violation> {
        if !self.has_streams || !self.shared.lock().flows.receives(header.id) {
            self.assembly.forget(kind::ITEM, header.id);
            return Ok(());
        }
        let codec = self.codec.unwrap_or_default();
        if header.has(flag::BATCH) {
            return self.batch(header, payload, message, codec);
        }
        let reader = match self.assembly.take(header, payload)? {
            Assembled::Whole(item) => self.shared.lock().flows.came_alone(header.id, codec, item)?,
            Assembled::Joined(item) => self.shared.lock().flows.came(header.id, EncodedItems::one(codec, item))?,
            Assembled::Part => return Ok(()),
            Assembled::TooLarge => self.item_too_large(header.id, codec),
        };
        wake([reader]);
        Ok(())
    }

    /// Several items of the caller's stream in one frame.
    fn batch(&mut self, header: &FrameHeader, payload: &[u8], message: &Bytes, codec: Codec) -> Result<(), Violation> {
        if self.assembly.has_begun(header) {
            return Err(Violation("an ITEM with several values between the pieces of another one"));
        }
        let (_, items) = stream::read_batch(header, payload)?;
        let (items, is_beyond) = items.up_to(self.assembly.largest());
        if let Some(items) = items {
            wake([self.shared.lock().flows.came_together(header.id, codec, items, message)?]);
        }
        if is_beyond {
            wake([self.item_too_large(header.id, codec)]);
        }
        Ok(())
    }

    /// An item of the caller's stream is larger than allowed. Returns the waker of the reader.
    fn item_too_large(&mut self, id: u64, codec: Codec) -> Option<Waker> {
        let error = stream_calls::item_too_large(self.endpoint.dispatch().limits().message, codec);
        self.shared.lock().flows.ended(id, Err(error))
    }

    /// Frames were written: streams that waited for that are woken.
    fn let_streams_go_on(&mut self) {
        let mut replies = self.shared.lock();
        let unwritten = self.write_queue.len();
        let SharedReplies { flows, write_queue, .. } = &mut *replies;
        self.has_streams = !flows.is_empty();
        let wakers = flows.written(unwritten, |id| write_queue.holds(id) || self.write_queue.holds(id));
        drop(replies);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn cancel(&mut self, id: u64) {
        self.assembly.forget(kind::CALL, id);
        drop(self.take_incomplete(id));
        self.write_queue.give_up(id);
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
        if self.has_streams {
            self.assembly.forget(kind::ITEM, id);
            let mut replies = self.shared.lock();
            replies.write_queue.give_up(id);
            let closed = replies.flows.close(id);
            drop(replies);
            wake(closed);
        }
    }

    /// Rejects the calls of which no bytes came for a while.
    fn refuse_still(&mut self) {
        let limit = self.endpoint.dispatch().limits().body_progress;
        for (kind, id) in self.assembly.refuse_still(self.socket.is_reading_piece()) {
            if kind == kind::ITEM {
                wake([self.shared.lock().flows.ended(id, Err(request_body::stalled(limit)))]);
            } else {
                let record = self.take_incomplete(id);
                self.put(id, request_body::stalled(limit).into(), "", record);
            }
        }
    }

    /// The entry of a call that does not come whole.
    fn take_incomplete(&mut self, id: u64) -> CallRecord {
        if self.incomplete.is_empty() {
            return CallRecord::none();
        }
        self.incomplete.remove(&id).unwrap_or(CallRecord::none())
    }

    fn too_large(&mut self, header: &FrameHeader) {
        let record = match self.incomplete.remove(&header.id) {
            Some(begun) => begun,
            None => self.record(header, &HeaderMap::new(), Instant::now(), None),
        };
        let limit = in_bytes(self.endpoint.dispatch().limits().message);
        let shorter = codec::shorter(self.codec.unwrap_or_default());
        let why = format!(
            "the request has more than {limit} (`Limits::message` of the server); send less, or raise the limit{shorter}"
        );
        let error = Error::refused(Code::ResourceExhausted, why).of_limit(Limit::Message);
        self.put(header.id, error.into(), "", record);
    }

    /// Sends why the connection ends, and gives the peer time to read it.
    async fn part(mut self, ended: SocketEnd) {
        let mut close = match &ended {
            SocketEnd::Closed if self.socket.is_closed() => None,
            SocketEnd::Closed => Some((1001, self.leaving.map_or("", EndReason::words).to_owned())),
            SocketEnd::Violation(violation) => Some((1002, violation.to_string())),
            // Nothing that is written would arrive.
            SocketEnd::Io(_) => return,
        };
        let until = later(Instant::now(), linger(self.endpoint.dispatch().limits()));
        let mut timer = DeadlineTimer::default();
        let mut is_half_closed = false;
        poll_fn(|cx| {
            if timer.poll_at(cx, until).is_ready() {
                return Poll::Ready(());
            }
            if !is_half_closed {
                loop {
                    if std::task::ready!(self.socket.poll_write(cx, &mut self.write_queue)).is_err() {
                        return Poll::Ready(());
                    }
                    // After the replies, because the peer reads nothing after it.
                    match close.take() {
                        Some((code, why)) => self.socket.close(code, &why),
                        None => break,
                    }
                }
                let _ = std::task::ready!(self.socket.poll_shutdown(cx));
                is_half_closed = true;
            }
            self.socket.poll_end(cx)
        })
        .await;
    }
}

impl<S> Drop for FrameServer<S> {
    /// The caller is gone. Functions that have started run to their end, unless they are `readonly`.
    fn drop(&mut self) {
        // In the order of the calls, which that of the table is not.
        let mut running: Vec<_> = self.running.iter().collect();
        running.sort_unstable_by_key(|(id, _)| **id);
        running.into_iter().for_each(|(_, task)| task.abort());
        let gone = self.shared.lock().flows.close_all();
        gone.into_iter().for_each(Waker::wake);
    }
}

/// Puts a reply, and notes in `record` what the caller gets.
fn put_reply(write_queue: &mut WriteQueue, id: u64, reply: Reply, limit: usize, name: &str, record: &mut CallRecord) {
    record.ended(&reply.result);
    let Reply { result, metadata } = reply;
    let error = match result {
        Ok(Returned::Value(ReturnedValue::Encoded(_, value))) if value.len() <= limit => {
            let length = reply::put_value(id, &metadata, value, write_queue);
            return record.sent(|| length);
        }
        Ok(Returned::Value(ReturnedValue::Parts(codec, value))) => {
            if value.len() <= limit {
                let length = reply::put_parts(id, &metadata, value, write_queue);
                return record.sent(|| length);
            }
            too_large(name, codec, value.len(), limit)
        }
        Err(Failure::Method { data: ReturnedValue::Encoded(codec, data), .. }) if data.len() > limit => {
            too_large(name, codec, data.len(), limit)
        }
        Err(Failure::Rpc(error)) if error.data().is_some() => {
            // The data is what a function attached. It may have any size.
            match serde_json::to_vec(&error).map_or(0, |text| text.len()) {
                length if length > limit => too_large(name, Codec::Json, length, limit),
                _ => {
                    let length = reply::put_failure(id, &metadata, error.into(), write_queue);
                    return record.sent(|| length);
                }
            }
        }
        Err(failure) => {
            let length = reply::put_failure(id, &metadata, failure, write_queue);
            return record.sent(|| length);
        }
        Ok(Returned::Value(ReturnedValue::Encoded(codec, value))) => too_large(name, codec, value.len(), limit),
        Ok(Returned::Value(ReturnedValue::Local(_))) => {
            Error::new(Code::Internal, "a value was not encoded, which is a defect of byname")
        }
        Ok(Returned::Stream(_)) => Error::new(Code::Internal, "a stream went astray, which is a defect of byname"),
    };
    record.refused(&error);
    let length = reply::put_failure(id, &HeaderMap::new(), error.into(), write_queue);
    record.sent(|| length);
}

/// What a function returned is larger than the server sends.
fn too_large(name: &str, codec: Codec, length: usize, limit: usize) -> Error {
    let shorter = codec::shorter(codec);
    let why = format!(
        "the reply of `{name}` has {}, more than {limit} (`Limits::message` of the server); return less, or \
         raise the limit{shorter}",
        in_bytes(length)
    );
    Error::new(Code::ResourceExhausted, why).of_limit(Limit::Message).executed_is(Executed::Yes)
}

/// A call that has come at `since` is polled first, in a task of its own. How long it has waited, and whether it may start.
fn first_polled(admission: &Admission, since: Instant) -> (u32, Result<(), Error>) {
    let waited = Instant::now().saturating_duration_since(since);
    (micros(waited), admission.start(waited))
}

/// A time that was measured, in microseconds: at least 1, because 0 means that none was.
fn micros(waited: Duration) -> u32 {
    u32::try_from(waited.as_micros()).unwrap_or(u32::MAX).max(1)
}

fn timed_out(why: &str) -> SocketEnd {
    SocketEnd::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}
