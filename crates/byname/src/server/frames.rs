//! A connection that bears frames: many calls at once, answered as they end.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod streams;

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::str;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tracing::{Instrument as _, debug};

use super::body;
use super::http::Endpoint;
use super::watch::linger;
use crate::arguments::{Encoded, Source};
use crate::call::{Args, Reply, Request};
use crate::codec::{self, Codec};
use crate::dispatch::{self, Origin, Supervised};
use crate::error::{Code, Error, Executed};
use crate::frames::format::{self, Header, Hello, flag, kind};
use crate::frames::websocket::Side;
use crate::frames::{
    Assembly, Doorbell, Ended, Flows, GivenUp, Outbound, PIECE, Socket, Streams, Taken, Violation, wake,
};
use crate::metadata;
use crate::places::Places;
use crate::registry::Entry;
use crate::returned::{Failure, Returned, Value};
use crate::timer::{Timer, later};

/// Calls that may be at work on one connection.
pub(super) const CALLS: usize = 4096;

/// Names that one connection may know by number.
const NAMES: u16 = 4096;

/// The longest part of a name that is kept: longer than any that a function can have.
const NAME: usize = 256;

/// While more bytes than this wait to be written, no further call is read.
const UNWRITTEN: usize = 1 << 20;

/// So many calls are answered in one go, while their caller works on the answers to those before.
const AT_ONCE: usize = 32;

/// How many bytes of unfinished messages are kept for each of [`Limits::message`](crate::Limits::message).
const WINDOW: usize = 4;

/// Serves one connection from its upgrade to its end.
pub(super) async fn serve(
    stream: TcpStream,
    early: Bytes,
    peer: SocketAddr,
    endpoint: Arc<Endpoint>,
    mut stopped: watch::Receiver<()>,
) {
    let mut connection = Connection::new(stream, &early, peer, endpoint);
    let mut stop = pin!(stopped.changed());
    let (mut is_told, mut listening) = (false, false);
    let ended = poll_fn(|cx| {
        let polled = connection.poll(cx);
        let wants_calls = connection.endpoint.dispatch().is_ready();
        if polled.is_pending() && !is_told && (!listening || !wants_calls) {
            listening = true;
            if stop.as_mut().poll(cx).is_ready() {
                is_told = true;
                connection.leave();
                return connection.poll(cx);
            }
        }
        polled
    })
    .await;
    debug!(%peer, "a connection of frames ended: {ended}");
    connection.part(ended).await;
}

struct Connection<S> {
    socket: Socket<S>,
    endpoint: Arc<Endpoint>,
    peer: SocketAddr,
    /// What values are in, once the client has said it.
    codec: Option<Codec>,
    /// The rest of a message, of which the first calls were answered already, or for which there was no room.
    unread: Bytes,
    names: Vec<Option<Name>>,
    assembly: Assembly,
    /// When the messages in pieces of which nothing more has come are refused.
    look: Option<Instant>,
    /// Replies of functions that were polled here.
    outbound: Outbound,
    /// Calls that have a task of their own.
    running: HashMap<u64, AbortHandle>,
    shared: Arc<Doorbell<Replies>>,
    /// What functions may be running, those included that nobody waits for any more.
    functions: Arc<Places>,
    /// A call of those that run has a stream.
    has_streams: bool,
    last_id: u64,
    is_leaving: bool,
    last_call: Instant,
    /// When the last call that was polled here gave its thread back.
    clock: std::time::Instant,
    timer: Timer,
}

/// What a name on this connection stands for.
struct Name {
    name: Arc<str>,
    entry: Option<Arc<Entry>>,
}

/// Where calls in tasks of their own leave their replies, and find what is streamed to them.
struct Replies {
    outbound: Outbound,
    ended: Vec<u64>,
    flows: Flows,
}

impl Streams for Replies {
    fn streams(&mut self) -> (&mut Flows, &mut Outbound) {
        (&mut self.flows, &mut self.outbound)
    }

    fn has_sent(&mut self, _: u64) {}
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, early: &[u8], peer: SocketAddr, endpoint: Arc<Endpoint>) -> Self {
        let limits = endpoint.dispatch().limits();
        let window = limits.message.saturating_mul(WINDOW);
        let codecs = [Codec::MessagePack, Codec::Json].map(|codec| codec.name().to_owned()).into();
        let hello = Hello { message: limits.message, window, calls: CALLS, codecs };
        let mut outbound = Outbound::new();
        outbound.put(Header::new(kind::HELLO, 0, 0, 0), |frames| frames.extend_from_slice(&hello.write()));
        let now = Instant::now();
        let replies = Replies { outbound: Outbound::new(), ended: Vec::new(), flows: Flows::default() };
        Self {
            socket: Socket::new(stream, Side::Server, early, now),
            peer,
            codec: None,
            unread: Bytes::new(),
            names: Vec::new(),
            assembly: Assembly::new(window, limits.message),
            look: None,
            outbound,
            running: HashMap::new(),
            shared: Arc::new(Doorbell::new(replies)),
            functions: Places::new(CALLS),
            has_streams: false,
            last_id: 0,
            is_leaving: false,
            last_call: now,
            clock: now.into_std(),
            timer: Timer::default(),
            endpoint,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.try_poll(cx) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(ended)) | Err(ended) => Poll::Ready(ended),
        }
    }

    /// Takes what has come, then writes what is there, as long as there is either.
    fn try_poll(&mut self, cx: &mut Context<'_>) -> Result<Poll<Ended>, Ended> {
        self.shared.register(cx);
        loop {
            while self.outbound.len() < UNWRITTEN {
                if self.unread.is_empty() {
                    match self.socket.next()? {
                        Some(message) => self.unread = message,
                        None => break,
                    }
                }
                self.take(cx)?;
                if !self.unread.is_empty() {
                    break;
                }
            }
            let is_more = self.outbound.len() >= UNWRITTEN || !self.unread.is_empty();
            self.gather();
            let unwritten = self.socket.poll_write(cx, &mut self.outbound)?.is_pending();
            if self.has_streams {
                self.let_streams_go_on();
            }
            if !unwritten {
                let is_done = self.running.is_empty() && !self.assembly.is_waiting() && self.outbound.is_empty();
                if self.is_leaving && is_done {
                    return Ok(Poll::Ready(Ended::Closed));
                }
                if is_more {
                    // There is room for the calls that have come already.
                    continue;
                }
            }
            if self.outbound.len() >= UNWRITTEN || self.socket.poll_read(cx)?.is_pending() {
                return self.wait(cx, unwritten);
            }
        }
    }

    /// Nothing can be done now: until when to wait, and what then.
    fn wait(&mut self, cx: &mut Context<'_>, unwritten: bool) -> Result<Poll<Ended>, Ended> {
        let now = Instant::now();
        let limits = self.endpoint.dispatch().limits();
        let mut at = match self.socket.patience(unwritten, limits.write_progress, now) {
            Ok(at) => at,
            Err(GivenUp::Silent) => return Err(timed_out("the client no longer answers")),
            Err(GivenUp::Stalled) => return Err(timed_out("the client takes no replies (`Limits::write_progress`)")),
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
        for tidy in [self.assembly.tidy(now), self.outbound.tidy(now)].into_iter().flatten() {
            at = at.min(tidy);
        }
        if !unwritten && self.running.is_empty() {
            let until = later(self.last_call, limits.idle);
            if until <= now {
                if self.is_leaving {
                    // What had begun to come doesn't come.
                    return Ok(Poll::Ready(Ended::Closed));
                }
                self.leave();
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            at = at.min(until);
        }
        if self.timer.poll_at(cx, at).is_ready() {
            cx.waker().wake_by_ref();
        }
        Ok(Poll::Pending)
    }

    /// Takes the replies of calls that have ended elsewhere.
    fn gather(&mut self) {
        let mut replies = self.shared.look();
        self.outbound.append(&mut replies.outbound);
        if !replies.ended.is_empty() {
            for id in replies.ended.drain(..) {
                self.running.remove(&id);
            }
            self.last_call = Instant::now();
        }
    }

    /// Takes no call after the last that has come, and says so.
    fn leave(&mut self) {
        self.is_leaving = true;
        let last = Header::new(kind::GOAWAY, 0, 0, self.last_id);
        self.outbound.put(last, |_| ());
    }

    /// Takes the frames of a message, or as many calls of it as are answered in one go and as there is room for.
    fn take(&mut self, cx: &mut Context<'_>) -> Result<(), Violation> {
        let message = std::mem::take(&mut self.unread);
        let mut rest = &message[..];
        let (mut now, mut calls) = (None, 0);
        while calls < AT_ONCE
            && self.outbound.len() < UNWRITTEN
            && let Some((header, payload)) = format::next(&mut rest)?
        {
            match header.kind {
                kind::HELLO => self.greet(&Hello::read(payload)?)?,
                _ if self.codec.is_none() => return Err(Violation("the first frame must be HELLO")),
                kind::NAME => self.name(header.number, payload)?,
                kind::CALL if !self.assembly.has_begun(&header) && !self.begin(header.id)? => {}
                kind::CALL => {
                    let now = *now.get_or_insert_with(|| {
                        let now = Instant::now();
                        (self.last_call, self.clock) = (now, std::time::Instant::now());
                        now
                    });
                    match self.assembly.take(&header, payload)? {
                        Taken::Part => {}
                        Taken::Whole(call) => self.call(&header, call, None, now, cx)?,
                        Taken::Assembled(call) => self.call(&header, &call, Some(&call), now, cx)?,
                        Taken::TooLarge => self.too_large(header.id),
                    }
                    calls += 1;
                }
                kind::CANCEL => self.cancel(header.id),
                kind::CREDIT => {
                    let more = format::number(&mut &payload[..], format::NO_CREDIT)?;
                    wake([self.shared.lock().flows.credit(header.id, more)]);
                }
                kind::ITEM => self.item(&header, payload)?,
                kind::END => wake([self.shared.lock().flows.ended(header.id, Ok(()))]),
                _ => {}
            }
        }
        if !rest.is_empty() {
            self.unread = message.slice_ref(rest);
        }
        Ok(())
    }

    fn greet(&mut self, hello: &Hello) -> Result<(), Violation> {
        if self.codec.is_some() {
            return Err(Violation("HELLO comes once"));
        }
        self.outbound.set_window(hello.window);
        let [codec] = hello.codecs.as_slice() else {
            return Err(Violation("HELLO of a client names one codec of those that the server offers"));
        };
        let unknown = Violation("HELLO of a client names one codec of those that the server offers");
        self.codec = Some(Codec::named(codec).ok_or(unknown)?);
        Ok(())
    }

    fn name(&mut self, number: u16, name: &[u8]) -> Result<(), Violation> {
        if number >= NAMES {
            return Err(Violation("the number of a name is 4096 or more"));
        }
        let name = str::from_utf8(name).map_err(|_| Violation("a name is no UTF-8"))?;
        let entry = self.endpoint.dispatch().entry(name).cloned();
        let name = name[..name.floor_char_boundary(NAME)].into();
        let at = usize::from(number);
        if self.names.len() <= at {
            self.names.resize_with(at + 1, || None);
        }
        self.names[at] = Some(Name { name, entry });
        Ok(())
    }

    /// A call begins to come; whether it is taken. Small ones may overtake it until it is whole.
    fn begin(&mut self, id: u64) -> Result<bool, Violation> {
        if id == 0 || self.running.contains_key(&id) {
            return Err(Violation("the id of a call is 0 or that of another one"));
        }
        if self.is_leaving {
            let why = "the server is stopping and takes no further call on this connection; it was not run";
            self.put(id, Error::refused(Code::Unavailable, why).into(), "");
            return Ok(false);
        }
        self.last_id = self.last_id.max(id);
        Ok(true)
    }

    /// Takes a call, whose payload is `assembled` where it came in pieces.
    fn call(
        &mut self,
        header: &Header,
        payload: &[u8],
        assembled: Option<&Bytes>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let Some(Some(name)) = self.names.get(usize::from(header.number)) else {
            return Err(Violation("a call of a number that stands for no name"));
        };
        let codec = self.codec.unwrap_or_default();
        let most = self.endpoint.dispatch().limits().header;
        let Asked { timeout, credit, metadata, positional, keyword } = Asked::read(header, payload, most)?;
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                self.put(header.id, error.into(), "");
                return Ok(());
            }
        };
        let streams = header.has(flag::STREAM) || header.has(flag::ITEMS);
        let deadline = (timeout > 0).then(|| later(now, Duration::from_millis(timeout.into())));
        let (id, peer) = (header.id, Some(self.peer));
        let dispatch = self.endpoint.dispatch();
        // What is polled here is at work alone, unless it goes on elsewhere.
        if self.functions.are_taken() {
            let why =
                format!("{CALLS} functions that were called on this connection still run; wait until some have ended");
            let busy = Error::refused(Code::ResourceExhausted, why).with_retry_after(Duration::from_millis(100));
            self.put(id, busy.into(), "");
            return Ok(());
        }
        let quick = name.entry.as_ref().filter(|entry| {
            // What is large takes its time to read, whatever the function does with it.
            entry.is_quick() && payload.len() <= PIECE && !dispatch.is_intercepted() && !streams
        });
        let Some(entry) = quick else {
            let owned = |part| match assembled {
                Some(whole) => whole.slice_ref(part),
                None => Bytes::copy_from_slice(part),
            };
            let args = Args::Encoded(Encoded { codec, positional: owned(positional), keyword: owned(keyword) });
            let (dispatch, name) = (Arc::clone(dispatch), Arc::clone(&name.name));
            let mut request = Request::new(Arc::clone(&name), args, metadata);
            (request.peer, request.deadline, request.share) = (peer, deadline, self.functions.take());
            if streams {
                request.takes_stream = header.has(flag::STREAM);
                self.stream(id, credit, header.has(flag::ITEMS), request);
                return Ok(());
            }
            if assembled.is_some() {
                // Its result may well be as large.
                request.room = self.outbound.spare();
            }
            self.spawn(id, name, async move { dispatch.run(request).await });
            return Ok(());
        };
        let span = dispatch::span(&entry.handler.method);
        let extensions = Extensions::new();
        let origin = Origin {
            metadata,
            extensions,
            peer,
            deadline,
            place: None,
            share: None,
            room: Vec::new(),
            items: None,
            takes_stream: false,
        };
        let source = Source::Encoded { codec, positional, keyword, nesting: dispatch.nesting() };
        let start = self.outbound.open();
        let out = self.outbound.buffer();
        let run = || {
            let mut supervised = dispatch.begin(entry, Arc::clone(&name.name), origin, now, source)?;
            Ok(match poll_now(&mut supervised, out, cx) {
                Poll::Ready((result, metadata)) => Tried::Done(result, metadata),
                Poll::Pending => Tried::Running(supervised),
            })
        };
        let run = || entry.piece_from(self.clock, dispatch.limits().slow_poll, run);
        // A span that nobody watches would still be entered and left.
        let (tried, ended) = if span.is_disabled() { run() } else { span.in_scope(run) };
        self.clock = ended;
        let (result, metadata) = match tried {
            Ok(Tried::Done(result, metadata)) => (result, metadata),
            Ok(Tried::Running(mut supervised)) => {
                let name = Arc::clone(&name.name);
                supervised.keep(self.functions.take());
                self.outbound.abandon(start);
                self.spawn(id, name, supervise(supervised, span));
                return Ok(());
            }
            Err(error) => (Err(Failure::Rpc(error)), HeaderMap::new()),
        };
        dispatch::record(&span, &result);
        let limit = dispatch.limits().message;
        let value = self.outbound.since(start);
        let result = match result {
            Ok(()) if metadata.is_empty() && value.len() <= limit => {
                self.outbound.close(start, Header::new(kind::REPLY, 0, 0, id));
                return Ok(());
            }
            Ok(()) => Ok(Returned::Value(Value::Encoded(codec, Bytes::copy_from_slice(value)))),
            Err(failure) => Err(failure),
        };
        self.outbound.abandon(start);
        put_reply(&mut self.outbound, id, Reply { result, metadata }, limit, &name.name);
        Ok(())
    }

    fn put(&mut self, id: u64, reply: Reply, name: &str) {
        let limit = self.endpoint.dispatch().limits().message;
        put_reply(&mut self.outbound, id, reply, limit, name);
    }

    /// Gives a call a task of its own, so that it holds up no other.
    fn spawn(&mut self, id: u64, name: Arc<str>, work: impl Future<Output = Reply> + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        let limit = self.endpoint.dispatch().limits().message;
        let task = tokio::spawn(async move {
            let reply = work.await;
            let mut replies = shared.lock();
            put_reply(&mut replies.outbound, id, reply, limit, &name);
            replies.ended.push(id);
            shared.ring(replies);
        });
        self.running.insert(id, task.abort_handle());
    }

    fn cancel(&mut self, id: u64) {
        self.assembly.forget(kind::CALL, id);
        self.outbound.give_up(id);
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
        if self.has_streams {
            self.assembly.forget(kind::ITEM, id);
            let mut replies = self.shared.lock();
            replies.outbound.give_up(id);
            let closed = replies.flows.close(id);
            drop(replies);
            wake(closed);
        }
    }

    /// Refuses the calls of which nothing more has come for a while.
    fn refuse_still(&mut self) {
        let limit = self.endpoint.dispatch().limits().body_progress;
        for (kind, id) in self.assembly.refuse_still() {
            if kind == kind::ITEM {
                wake([self.shared.lock().flows.ended(id, Err(body::stalled(limit)))]);
            } else {
                self.put(id, body::stalled(limit).into(), "");
            }
        }
    }

    fn too_large(&mut self, id: u64) {
        let limit = self.endpoint.dispatch().limits().message;
        let shorter = codec::shorter(self.codec.unwrap_or_default());
        let why = format!(
            "the request has more than {limit} bytes (`Limits::message` of the server); send less, or raise it{shorter}"
        );
        let error = Error::refused(Code::ResourceExhausted, why).of_limit("message");
        self.put(id, error.into(), "");
    }

    /// Says why the connection ends, and lets the peer read it.
    async fn part(mut self, ended: Ended) {
        let mut close = match &ended {
            Ended::Closed if self.socket.is_closed() => None,
            Ended::Closed => Some((1001, String::new())),
            Ended::Violation(violation) => Some((1002, violation.to_string())),
            // Whatever is written would not arrive.
            Ended::Io(_) => return,
        };
        let until = later(Instant::now(), linger(self.endpoint.dispatch().limits()));
        let mut timer = Timer::default();
        let mut is_half_closed = false;
        poll_fn(|cx| {
            if timer.poll_at(cx, until).is_ready() {
                return Poll::Ready(());
            }
            if !is_half_closed {
                loop {
                    if std::task::ready!(self.socket.poll_write(cx, &mut self.outbound)).is_err() {
                        return Poll::Ready(());
                    }
                    // After the replies, for nothing is read behind it.
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

impl<S> Drop for Connection<S> {
    /// Who called has gone: what has started runs on by itself, unless it is `readonly`.
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
        let gone = self.shared.lock().flows.close_all();
        gone.into_iter().for_each(Waker::wake);
    }
}

async fn supervise(supervised: Supervised, span: tracing::Span) -> Reply {
    let reply = supervised.instrument(span.clone()).await;
    dispatch::record(&span, &reply.result);
    reply
}

/// Polls a function once, with a budget of its own.
fn poll_now(
    supervised: &mut Supervised,
    out: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<(Result<(), Failure>, HeaderMap)> {
    let once = pin!(unconstrained(poll_fn(|cx| Poll::Ready(supervised.poll_into(cx, out)))));
    match once.poll(cx) {
        Poll::Ready(polled) => polled,
        Poll::Pending => Poll::Pending,
    }
}

/// What came of a call that was begun on its connection's own task.
enum Tried {
    /// It is done, and its value is in the frame that was opened for it.
    Done(Result<(), Failure>, HeaderMap),
    Running(Supervised),
}

/// A call as it came.
struct Asked<'p> {
    /// In milliseconds; 0 where the caller doesn't say.
    timeout: u32,
    /// How much of a stream may be answered at first.
    credit: u32,
    /// Or why they are not taken.
    metadata: Result<HeaderMap, Error>,
    positional: &'p [u8],
    keyword: &'p [u8],
}

impl<'p> Asked<'p> {
    /// Reads one with headers of at most `most` bytes.
    fn read(header: &Header, payload: &'p [u8], most: usize) -> Result<Self, Violation> {
        let mut rest = payload;
        let timeout = format::number(&mut rest, "a call without a time-out")?;
        let credit = if header.has(flag::STREAM) { format::number(&mut rest, format::NO_CREDIT)? } else { 0 };
        let metadata = match header.has(flag::METADATA) {
            true => read_headers(&mut rest, most)?,
            false => Ok(HeaderMap::new()),
        };
        let positional = if header.has(flag::MIXED) { format::part(&mut rest)? } else { b"" };
        Ok(Self { timeout, credit, metadata, positional, keyword: rest })
    }
}

/// Takes the headers of a call off the front, of which there may be as many bytes as over HTTP.
fn read_headers(rest: &mut &[u8], most: usize) -> Result<Result<HeaderMap, Error>, Violation> {
    let mut behind = *rest;
    let text = format::part(&mut behind)?;
    // Quotes and escapes make JSON longer, by twice at most for what a header can hold.
    if text.len() / 2 > most.saturating_add(1024) {
        *rest = behind;
        return Ok(Err(metadata::too_large(most)));
    }
    let headers = format::read_metadata(rest)?;
    Ok(metadata::check_taken(&headers, most).map(|()| headers))
}

fn put_reply(outbound: &mut Outbound, id: u64, reply: Reply, limit: usize, name: &str) {
    let Reply { result, metadata } = reply;
    let value = match result {
        Ok(Returned::Value(Value::Encoded(_, value))) if value.len() <= limit => value,
        Ok(Returned::Value(Value::Encoded(codec, value))) => {
            let error = too_large(name, codec, value.len(), limit);
            return put_failure(outbound, id, error.into(), HeaderMap::new());
        }
        Ok(Returned::Value(Value::Local(_))) => {
            let error = Error::new(Code::Internal, "a value was not encoded, which is a defect of byname");
            return put_failure(outbound, id, error.into(), HeaderMap::new());
        }
        Ok(Returned::Stream(_)) => {
            let error = Error::new(Code::Internal, "a stream went astray, which is a defect of byname");
            return put_failure(outbound, id, error.into(), HeaderMap::new());
        }
        Err(Failure::Method { data: Value::Encoded(codec, data), .. }) if data.len() > limit => {
            let error = too_large(name, codec, data.len(), limit);
            return put_failure(outbound, id, error.into(), HeaderMap::new());
        }
        Err(Failure::Rpc(error)) if error.data().is_some() => {
            return put_own(outbound, id, error, metadata, limit, name);
        }
        Err(failure) => return put_failure(outbound, id, failure, metadata),
    };
    if metadata.is_empty() {
        return outbound.put_bytes(Header::new(kind::REPLY, 0, 0, id), value);
    }
    let start = outbound.open();
    format::write_metadata(&metadata, outbound.buffer());
    outbound.buffer().extend_from_slice(&value);
    outbound.close(start, Header::new(kind::REPLY, flag::METADATA, 0, id));
}

/// An error of ours that a function made, with data of its own.
fn put_own(outbound: &mut Outbound, id: u64, error: Error, metadata: HeaderMap, limit: usize, name: &str) {
    match serde_json::to_vec(&error).map_or(0, |text| text.len()) {
        length if length > limit => {
            let error = too_large(name, Codec::Json, length, limit);
            put_failure(outbound, id, error.into(), HeaderMap::new());
        }
        _ => put_failure(outbound, id, error.into(), metadata),
    }
}

/// What a function returned is larger than the server sends.
fn too_large(name: &str, codec: Codec, length: usize, limit: usize) -> Error {
    let shorter = codec::shorter(codec);
    let why = format!(
        "the reply of `{name}` has {length} bytes, more than {limit} (`Limits::message` of the server); return less, or \
         raise it{shorter}"
    );
    Error::new(Code::ResourceExhausted, why).of_limit("message").executed_is(Executed::Yes)
}

fn put_failure(outbound: &mut Outbound, id: u64, failure: Failure, metadata: HeaderMap) {
    let (error, data) = match failure {
        Failure::Method { error, data: Value::Encoded(_, data) } => (error, data),
        Failure::Method { error, data: Value::Local(_) } | Failure::Rpc(error) => (error, Bytes::new()),
    };
    let error = serde_json::to_vec(&error).unwrap_or_else(|_| b"{}".to_vec());
    let mut flags = 0;
    let start = outbound.open();
    if !metadata.is_empty() {
        flags |= flag::METADATA;
        format::write_metadata(&metadata, outbound.buffer());
    }
    format::put_part(&error, outbound.buffer());
    outbound.buffer().extend_from_slice(&data);
    outbound.close(start, Header::new(kind::ERROR, flags, 0, id));
}

fn timed_out(why: &str) -> Ended {
    Ended::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}
