//! The task that reads and writes a connection: [`ConnectionDriver`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::call_table::{FrameCallEnd, WaitingCall};
use super::stream_calls::ItemRun;
use super::{ConnectionStatus, FrameConnection, FrameConnectionState, window};
use crate::deadline::{DeadlineTimer, later};
use crate::error::Executed;
use crate::frames::header::{self, FrameHeader, flag, kind};
use crate::frames::payload::{self, load, put_cancel, stream};
use crate::frames::{self, Assembled, FrameSocket, GivenUp, MessageAssembly, PieceInPlace, Received, Violation};
use crate::limits_and_timeouts::Limits;
use crate::outcome::items::EncodedItems;

/// The task yields after this number of answers. So the next calls are written while the server works on the others.
const AT_ONCE: usize = 32;

/// The task that reads and writes a connection. It ends with the connection.
#[derive(Debug)]
pub(in crate::client) struct ConnectionDriver<S> {
    link: Arc<FrameConnection>,
    socket: FrameSocket<S>,
    /// The rest of a message whose first answers were delivered.
    unread: Bytes,
    assembly: MessageAssembly,
    /// How long a connection without a call is kept.
    idle: Duration,
    idle_since: Instant,
    /// How long the server may read nothing of what is written.
    write_progress: Duration,
    timer: DeadlineTimer,
    wakers: Vec<Waker>,
    /// How many answers were delivered in this poll.
    just_ended: usize,
    /// It has yielded to other callers since the last write.
    has_yielded: bool,
    /// When answers were read, if the clock was read since.
    read_at: Option<Instant>,
    /// What the server's GOAWAY says.
    goodbye: Option<Arc<str>>,
    has_ended: bool,
}

/// How a connection ended.
#[derive(Debug)]
pub(in crate::client) struct DriverEnd {
    pub(in crate::client) why: Arc<str>,
    /// It ended without notice, while calls were in flight or before any was sent.
    pub(in crate::client) was_cut: bool,
    pub(in crate::client) age: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ConnectionDriver<S> {
    /// `unread` came after the server's HELLO.
    pub(super) fn new(link: Arc<FrameConnection>, socket: FrameSocket<S>, unread: Bytes, limits: &Limits) -> Self {
        Self {
            socket,
            unread,
            assembly: MessageAssembly::new(window(limits), limits.message),
            idle: limits.pool_idle,
            idle_since: link.opened,
            link,
            write_progress: limits.write_progress,
            timer: DeadlineTimer::default(),
            wakers: Vec::new(),
            just_ended: 0,
            has_yielded: false,
            read_at: None,
            goodbye: None,
            has_ended: false,
        }
    }

    pub(in crate::client) fn link(&self) -> &Arc<FrameConnection> {
        &self.link
    }

    fn try_poll(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, frames::SocketEnd> {
        self.link.state.register_task(cx);
        self.just_ended = 0;
        loop {
            let is_more = loop {
                if self.unread.is_empty() {
                    match self.socket.next_or_piece(kind::REPLY, &mut self.assembly)? {
                        Some(Received::Frames(message)) => self.unread = message,
                        Some(Received::Piece(header, piece)) => {
                            self.take_piece(header, piece)?;
                            continue;
                        }
                        None => break false,
                    }
                }
                if self.take()? {
                    break true;
                }
            };
            self.wake();
            let blocked = loop {
                if self.socket.has_written_all() {
                    let mut state = self.link.state.lock_for_task();
                    if state.write_queue.is_empty() {
                        break false;
                    }
                    // A runtime of several threads runs this task right after the first caller that sends something.
                    // The others that were woken with it go first, so that their calls share the write.
                    if state.calls.untaken() > self.just_ended && !self.has_yielded {
                        self.has_yielded = true;
                        state.stay_awake();
                        drop(state);
                        cx.waker().wake_by_ref();
                        return Ok(Poll::Pending);
                    }
                    self.has_yielded = false;
                    state.writes += 1;
                    self.socket.fill(&mut state.write_queue);
                    if !state.flows.is_empty() {
                        let FrameConnectionState { flows, write_queue, .. } = &mut *state;
                        self.wakers.extend(flows.written(0, |id| write_queue.holds(id)));
                    }
                }
                if self.socket.poll_flush(cx)?.is_pending() {
                    break true;
                }
            };
            // Streams that may continue.
            self.wake();
            if is_more {
                // First the callers that were just answered: their next calls are written while the rest is read.
                self.read_at = None;
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            if self.socket.poll_read(cx)?.is_pending() {
                return self.wait(cx, blocked);
            }
        }
    }

    fn wake(&mut self) {
        // Usually no task must be woken. An empty `drain` costs as much as one wake, so it is skipped.
        if !self.wakers.is_empty() {
            self.wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// Nothing can be done now: waits until something is due, and does it.
    fn wait(&mut self, cx: &mut Context<'_>, blocked: bool) -> Result<Poll<()>, frames::SocketEnd> {
        let mut state = self.link.state();
        // A time of this poll is near enough to now. Without one a timer may have woken the task, so the clock is read.
        let known = self.read_at.take().max(state.sent_at.take());
        if let Some(now) = known
            && !blocked
            && state.status == ConnectionStatus::Open
            && let Some(armed_at) = self.timer.armed_at()
            && state.earliest.is_none_or(|earliest| armed_at <= earliest)
            && !self.assembly.is_newly_untidy()
            && !state.write_queue.is_newly_untidy()
            && self.socket.goes_on(now)
        {
            let is_idle = state.calls.waiting() == 0;
            // It is idle since the last answer.
            self.idle_since = now;
            if !is_idle || armed_at <= later(now, self.idle) {
                return Ok(Poll::Pending);
            }
        }
        let now = known.unwrap_or_else(Instant::now);
        let mut at = match self.socket.patience(blocked, self.write_progress, now) {
            Ok(at) => at,
            Err(GivenUp::Silent) => return Err(timed_out("the server no longer answers")),
            Err(GivenUp::Stalled) => return Err(timed_out("the server reads no requests (`Limits::write_progress`)")),
        };
        if let Some(tidy) = self.assembly.tidy(now) {
            at = at.min(tidy);
        }
        if let Some(tidy) = state.write_queue.tidy(now) {
            at = at.min(tidy);
        }
        if state.earliest.is_some_and(|earliest| earliest <= now) {
            drop(state);
            self.expire(now);
            cx.waker().wake_by_ref();
            return Ok(Poll::Pending);
        }
        if state.calls.waiting() > 0 {
            self.idle_since = now;
            at = state.earliest.map_or(at, |earliest| at.min(earliest));
        } else {
            let until = later(self.idle_since, self.idle);
            if state.status == ConnectionStatus::Leaving && !blocked || until <= now {
                state.status = ConnectionStatus::Over;
                return Ok(Poll::Ready(()));
            }
            at = at.min(until);
        }
        drop(state);
        if self.timer.poll_in_one_task(cx, at).is_ready() {
            cx.waker().wake_by_ref();
        }
        Ok(Poll::Pending)
    }

    /// Ends the calls whose deadline has passed, and tells the server.
    fn expire(&mut self, now: Instant) {
        let mut wakers = Vec::new();
        let mut state = self.link.state();
        let FrameConnectionState { calls, write_queue, flows, earliest, .. } = &mut *state;
        *earliest = None;
        let mut refused = Vec::new();
        let expired = |waiting: WaitingCall| {
            if waiting.deadline > now {
                *earliest = Some(earliest.map_or(waiting.deadline, |earliest| earliest.min(waiting.deadline)));
                return None;
            }
            if !write_queue.take_back(waiting.id) {
                write_queue.give_up(waiting.id);
                put_cancel(waiting.id, write_queue);
            }
            refused.extend(flows.refuse(waiting.id));
            Some(FrameCallEnd::Late)
        };
        calls.end_each(expired, &mut wakers);
        wakers.append(&mut refused);
        state.all_in_queue(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Reads the frames of a message, up to [`AT_ONCE`] answers. Returns whether there are more.
    fn take(&mut self) -> Result<bool, Violation> {
        let message = std::mem::take(&mut self.unread);
        let mut rest = &message[..];
        let mut answers = 0;
        let mut state = self.link.state();
        let mut read_at = None;
        let mut run = ItemRun::default();
        let codec = self.link.codec;
        // Drops the pieces of answers to calls that no longer wait.
        self.assembly.keep(|id| state.calls.is_waiting(id));
        while let Some((header, payload)) = header::next(&mut rest)? {
            if run.goes_on(&header) && payload.len() <= self.assembly.largest() {
                let start = payload.as_ptr().addr() - message.as_ptr().addr();
                run.spans.push(start..start + payload.len());
                continue;
            }
            match header.kind {
                // The call no longer waits for it.
                kind::REPLY | kind::ERROR | kind::ITEM | kind::END if !state.calls.is_waiting(header.id) => {}
                kind::ITEM if header.has(flag::BATCH) => {
                    run.end(&mut state, &message, codec, &mut self.wakers)?;
                    if self.assembly.has_begun(&header) {
                        return Err(Violation("an ITEM with several values between the pieces of another one"));
                    }
                    let (metadata, items) = stream::read_batch(&header, payload)?;
                    if header.has(flag::METADATA) {
                        state.flows.keep_metadata(header.id, metadata);
                    }
                    let (items, is_beyond) = items.up_to(self.assembly.largest());
                    if let Some(items) = items {
                        state.came_together(header.id, codec, items, &message, &mut self.wakers)?;
                    }
                    if is_beyond {
                        state.came_too_large(header.id, &mut self.wakers);
                    }
                }
                kind::ITEM => match self.assembly.take(&header, payload)? {
                    // The next frame of this item is no item by itself.
                    Assembled::Part => run.end(&mut state, &message, codec, &mut self.wakers)?,
                    Assembled::Whole(item) => {
                        if run.id != header.id || header.has(flag::METADATA) {
                            run.end(&mut state, &message, codec, &mut self.wakers)?;
                            run.id = header.id;
                        }
                        let item = state.item(&header, item)?;
                        let start = item.as_ptr().addr() - message.as_ptr().addr();
                        run.spans.push(start..start + item.len());
                    }
                    Assembled::Joined(item) => {
                        run.end(&mut state, &message, codec, &mut self.wakers)?;
                        let value = item.slice_ref(state.item(&header, &item)?);
                        state.came(header.id, EncodedItems::one(codec, value), &mut self.wakers)?;
                    }
                    Assembled::TooLarge => {
                        run.end(&mut state, &message, codec, &mut self.wakers)?;
                        state.came_too_large(header.id, &mut self.wakers);
                    }
                },
                kind::CREDIT => {
                    let more = stream::read_credit(payload)?;
                    self.wakers.extend(state.flows.credit(header.id, more));
                }
                kind::CANCEL => self.wakers.extend(state.flows.refuse(header.id)),
                kind::REPLY | kind::ERROR | kind::END => {
                    run.end(&mut state, &message, codec, &mut self.wakers)?;
                    self.wakers.extend(state.flows.refuse(header.id));
                    let now = *read_at.get_or_insert_with(Instant::now);
                    self.read_at = read_at;
                    let ended = match self.assembly.take(&header, payload)? {
                        Assembled::Part => continue,
                        Assembled::Whole(payload) => FrameCallEnd::Answered(header, message.slice_ref(payload), now),
                        Assembled::Joined(whole) => FrameCallEnd::Answered(header, whole, now),
                        // An ERROR may say that it did not.
                        Assembled::TooLarge if header.kind == kind::ERROR => FrameCallEnd::TooLarge(Executed::Unknown),
                        Assembled::TooLarge => FrameCallEnd::TooLarge(Executed::Yes),
                    };
                    self.wakers.extend(state.calls.end(header.id, ended));
                    self.wakers.extend(state.next_in_queue());
                    answers += 1;
                    self.just_ended += 1;
                    if answers >= AT_ONCE && !rest.is_empty() {
                        self.unread = message.slice_ref(rest);
                        self.link.in_flight.store(state.calls.waiting(), Ordering::Relaxed);
                        return Ok(true);
                    }
                }
                kind::GOAWAY => {
                    if state.status == ConnectionStatus::Open {
                        state.status = ConnectionStatus::Leaving;
                    }
                    let (last, why) = payload::read_go_away(&header, payload);
                    let why: Arc<str> = why.into();
                    self.goodbye = Some(Arc::clone(&why));
                    let beyond =
                        |waiting: WaitingCall| (waiting.id > last).then(|| FrameCallEnd::Unsent(Arc::clone(&why)));
                    state.calls.end_each(beyond, &mut self.wakers);
                    state.all_in_queue(&mut self.wakers);
                }
                kind::SHAPE => state.shapes.came(&header, payload)?,
                kind::LOAD => state.reported = Some(load::read(payload)?),
                kind::HELLO => return Err(Violation("a second HELLO")),
                _ => {}
            }
        }
        run.end(&mut state, &message, codec, &mut self.wakers)?;
        self.link.in_flight.store(state.calls.waiting(), Ordering::Relaxed);
        Ok(false)
    }

    /// A piece of an answer has come.
    fn take_piece(&mut self, header: FrameHeader, piece: PieceInPlace) -> Result<(), Violation> {
        let mut state = self.link.state();
        self.assembly.keep(|id| state.calls.is_waiting(id));
        if !state.calls.is_waiting(header.id) {
            return Ok(());
        }
        self.wakers.extend(state.flows.refuse(header.id));
        let now = Instant::now();
        self.read_at = Some(now);
        let ended = match self.assembly.take_in_place(&header, piece)? {
            Assembled::Joined(whole) => FrameCallEnd::Answered(header, whole, now),
            Assembled::TooLarge => FrameCallEnd::TooLarge(Executed::Yes),
            Assembled::Part | Assembled::Whole(_) => return Ok(()),
        };
        self.wakers.extend(state.calls.end(header.id, ended));
        self.wakers.extend(state.next_in_queue());
        Ok(())
    }

    /// The connection has ended: the calls in flight are not answered.
    fn end(&mut self, why: &Arc<str>) -> DriverEnd {
        let mut wakers = std::mem::take(&mut self.wakers);
        let mut state = self.link.state();
        let FrameConnectionState { calls, write_queue, writes, status, .. } = &mut *state;
        // If nothing but HELLO was written on a connection, it was of no use either.
        let was_cut = *status == ConnectionStatus::Open && (calls.waiting() > 0 || *writes <= 1);
        *status = ConnectionStatus::Over;
        // The first write of which no byte was written.
        let first_unwritten = *writes - u64::from(self.socket.has_written_none() && *writes > 0);
        let how = |waiting: WaitingCall| {
            // The server runs only calls that it has completely.
            let unsent = write_queue.holds(waiting.id) || waiting.write >= first_unwritten;
            Some(if unsent { FrameCallEnd::Unsent(Arc::clone(why)) } else { FrameCallEnd::Unknown(Arc::clone(why)) })
        };
        calls.end_each(how, &mut wakers);
        wakers.extend(state.flows.refuse_all());
        state.all_in_queue(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        let age = Instant::now().saturating_duration_since(self.link.opened);
        DriverEnd { why: Arc::clone(why), was_cut, age }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for ConnectionDriver<S> {
    type Output = DriverEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<DriverEnd> {
        let this = &mut *self;
        assert!(!this.has_ended, "the driver of a connection was polled after its end, which is a defect of byname");
        let why: Arc<str> = match this.try_poll(cx) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {
                this.socket.close(1000, "");
                // This writes what the socket accepts without waiting. The server notices the end anyway.
                let _ = this.socket.poll_flush(cx);
                "it was no longer needed".into()
            }
            Err(frames::SocketEnd::Violation(violation)) => {
                this.socket.close(1002, &violation.to_string());
                let _ = this.socket.poll_flush(cx);
                violation.to_string().into()
            }
            Err(ended @ frames::SocketEnd::Closed) => this.goodbye.take().unwrap_or_else(|| ended.to_string().into()),
            Err(ended) => ended.to_string().into(),
        };
        this.has_ended = true;
        Poll::Ready(this.end(&why))
    }
}

impl<S> Drop for ConnectionDriver<S> {
    /// Its runtime or its client is gone: the calls in flight are not answered.
    fn drop(&mut self) {
        let mut wakers = std::mem::take(&mut self.wakers);
        let mut state = self.link.state();
        state.status = ConnectionStatus::Over;
        let why: Arc<str> = "the runtime that it was opened in is gone".into();
        state.calls.end_each(|_| Some(FrameCallEnd::Unknown(Arc::clone(&why))), &mut wakers);
        wakers.extend(state.flows.refuse_all());
        state.all_in_queue(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn timed_out(why: &str) -> frames::SocketEnd {
    frames::SocketEnd::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::super::tests::link;
    use super::super::{CallHead, CallPayload, FrameCall};
    use super::*;
    use crate::arguments::EncodedArguments;
    use crate::codec::Codec;
    use crate::frames::fuzzing::Scripted;
    use crate::frames::websocket::WebSocketRole;

    #[tokio::test]
    #[should_panic(expected = "the driver of a connection was polled after its end")]
    async fn polling_a_driver_after_its_end_panics() {
        let socket = FrameSocket::new(Scripted::new(Vec::new(), 100), WebSocketRole::Client, &[], Instant::now());
        let mut driver = ConnectionDriver::new(link(), socket, Bytes::new(), &Limits::default());
        (&mut driver).await;
        (&mut driver).await;
    }

    /// One poll of a driver whose two calls were answered, and of which one caller has sent another.
    #[tokio::test]
    async fn a_write_waits_once_for_the_callers_that_were_woken_before() {
        let cx = &mut Context::from_waker(Waker::noop());
        let link = link();
        let socket = FrameSocket::new(Scripted::new(Vec::new(), 1000), WebSocketRole::Client, &[], Instant::now());
        let mut driver = ConnectionDriver::new(Arc::clone(&link), socket, Bytes::new(), &Limits::default());
        let mut calls = [(); 2].map(|()| Arc::clone(&link).call());
        calls.iter_mut().for_each(|call| send(call, cx));
        assert!(Pin::new(&mut driver).poll(cx).is_pending());
        assert_eq!(link.state().writes, 1);

        for is_taken in [true, false] {
            let before = link.state().writes;
            for call in &calls {
                let id = call.id.expect("it was sent");
                link.state().calls.end(id, FrameCallEnd::Late);
            }
            assert!(calls[0].poll_ended(cx).is_ready());
            send(&mut calls[0], cx);
            assert!(Pin::new(&mut driver).poll(cx).is_pending());
            assert_eq!(link.state().writes, before, "the other caller has not gone on");
            if is_taken {
                assert!(calls[1].poll_ended(cx).is_ready());
                send(&mut calls[1], cx);
            }
            assert!(Pin::new(&mut driver).poll(cx).is_pending());
            assert_eq!(link.state().writes, before + 1, "it does not wait twice");
        }
    }

    fn send(call: &mut FrameCall, cx: &mut Context<'_>) {
        let hour = Duration::from_secs(3600);
        let head = CallHead { name: "f", method: None, deadline: Instant::now() + hour, began: None };
        let args = EncodedArguments::none(Codec::Json);
        let mut frame = CallPayload::new(hour, &HeaderMap::new(), &args);
        assert!(matches!(call.poll_send(head, &mut frame, cx), Poll::Ready(Ok(()))));
    }
}
