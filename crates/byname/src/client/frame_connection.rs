//! One connection that many calls share, from the client's side.

mod call_table;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod handshake;
mod stream_calls;
mod upgrade_policy;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::call_table::CallTable;
pub(super) use self::call_table::FrameCallEnd;
pub(super) use self::handshake::open;
use self::stream_calls::ItemRun;
pub(super) use self::stream_calls::{BegunStream, FrameUpload, UploadTask};
pub(super) use self::upgrade_policy::Upgrades;
use crate::codec::{self, Codec};
use crate::deadline::{DeadlineTimer, later};
use crate::error::{Code, Error, Executed};
use crate::frames::header::{self, FrameHeader, flag, kind};
pub(super) use crate::frames::payload::call::CallPayload;
use crate::frames::payload::{self, Hello, NAMES, put_cancel, reply, stream};
use crate::frames::{
    self, Assembled, FlowControl, FrameSocket, GivenUp, MessageAssembly, SharedState, SharedStreams, StateGuard,
    Violation, WriteQueue, wake,
};
use crate::limits::Limits;
use crate::outcome::{Items, Returned, items};
use crate::request::Reply;

/// How many bytes of unfinished replies are kept for each of [`Limits::message`].
const WINDOW: usize = 4;

/// After so many answers the task yields, so that the next calls are written while the server works on the others.
const AT_ONCE: usize = 32;

/// After about this time, give or take a quarter, another connection replaces this one, so that calls reach servers that
/// were added since.
const AGE: Duration = Duration::from_secs(300);

/// A connection, as its callers see it. A caller that sends something wakes the driver, which writes all frames at once.
#[derive(Debug)]
pub(super) struct FrameConnection {
    /// Its task is the driver.
    state: SharedState<FrameConnectionState>,
    /// The codec of values.
    codec: Codec,
    opened: Instant,
    /// When another connection replaces it.
    until: Instant,
}

#[derive(Debug)]
struct FrameConnectionState {
    calls: CallTable,
    write_queue: WriteQueue,
    flows: FlowControl,
    /// How long the next item of a stream may take.
    stream_idle: Duration,
    /// The number of writes so far.
    writes: u64,
    names: BTreeMap<Box<str>, u16>,
    status: ConnectionStatus,
    /// The server's HELLO.
    server: Hello,
    /// Calls that wait until others end, because the server accepts no more at once, in their order.
    queue: BTreeMap<u64, Waker>,
    most_queued: usize,
    /// The tickets for the queue that were given out.
    tickets: u64,
    /// No deadline of a call is before this.
    earliest: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionStatus {
    Open,
    /// Calls in flight are answered, and no others begin.
    Leaving,
    Over,
}

/// Why a call was not sent.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The connection accepts no further call.
    Over,
    /// The arguments are larger than the server accepts: their bytes, and the most that it accepts.
    TooLarge(usize, usize),
    /// The queue is full: how many calls wait in it.
    Crowded(usize),
}

impl FrameConnection {
    fn new(server: Hello, codec: Codec, limits: &Limits, now: Instant, jitter: f64) -> Self {
        let codecs = vec![codec.name().into()];
        let hello = Hello { message: limits.message, window: window(limits), calls: 1, codecs };
        let mut write_queue = WriteQueue::new();
        write_queue.set_window(server.window);
        hello.put(&mut write_queue);
        let state = FrameConnectionState {
            calls: CallTable::new(),
            write_queue,
            flows: FlowControl::default(),
            stream_idle: limits.stream_idle,
            writes: 0,
            names: BTreeMap::new(),
            status: ConnectionStatus::Open,
            server,
            queue: BTreeMap::new(),
            most_queued: limits.waiting,
            tickets: 0,
            earliest: None,
        };
        Self { state: SharedState::new(state), codec, opened: now, until: later(now, AGE.mul_f64(0.75 + jitter / 2.0)) }
    }

    fn state(&self) -> StateGuard<'_, FrameConnectionState> {
        self.state.lock()
    }

    /// The codec of values on this connection.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().status == ConnectionStatus::Open
    }

    /// When another connection replaces it.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Accepts no further call. The connection ends with the last call in flight.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        if state.status == ConnectionStatus::Open {
            state.status = ConnectionStatus::Leaving;
        }
        self.state.unlock_and_wake(state);
    }

    /// Begins a call, which is not sent yet.
    pub(super) fn call(self: &Arc<Self>) -> FrameCall {
        FrameCall { link: Arc::clone(self), id: None, ticket: None }
    }

    /// Puts a call into the write queue. `Pending` while the server accepts no more at once; the call then has a `ticket`
    /// for the queue.
    fn poll_send(
        &self,
        call: CallHead<'_>,
        frame: &mut CallPayload,
        ticket: &mut Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<u64, Unsent>> {
        let mut state = self.state();
        let this = &mut *state;
        if this.status != ConnectionStatus::Open {
            return Poll::Ready(Err(Unsent::Over));
        }
        let (size, largest) = (frame.size(), this.server.message);
        if size > largest {
            return Poll::Ready(Err(Unsent::TooLarge(size, largest)));
        }
        if this.calls.waiting() >= this.server.calls.min(call_table::MOST) {
            let ticket = match *ticket {
                Some(ticket) => ticket,
                None if this.queue.len() >= this.most_queued => {
                    return Poll::Ready(Err(Unsent::Crowded(this.queue.len())));
                }
                None => {
                    this.tickets += 1;
                    *ticket.insert(this.tickets)
                }
            };
            this.queue.insert(ticket, cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(ticket) = ticket.take() {
            this.queue.remove(&ticket);
            // A part of its time has passed in the queue.
            frame.set_left(call.deadline.saturating_duration_since(Instant::now()));
        }
        let Some(number) = this.number(call.name) else {
            // A number is never reused for another name: a large call with that number may not be written yet.
            this.status = ConnectionStatus::Leaving;
            self.state.unlock_and_wake(state);
            return Poll::Ready(Err(Unsent::Over));
        };
        let id = this.calls.begin(this.writes, call.deadline, cx.waker().clone());
        if this.earliest.is_none_or(|earliest| call.deadline < earliest) {
            this.earliest = Some(call.deadline);
        }
        if frame.has_streams() {
            let credit = this.flows.open(id, 0, frame.takes_stream());
            frame.set_credit(credit);
        }
        frame.put(number, id, &mut this.write_queue);
        self.state.unlock_and_wake(state);
        Poll::Ready(Ok(id))
    }
}

/// The name and the deadline of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallHead<'c> {
    pub(super) name: &'c str,
    pub(super) deadline: Instant,
}

impl SharedStreams for FrameConnectionState {
    fn streams(&mut self) -> (&mut FlowControl, &mut WriteQueue) {
        (&mut self.flows, &mut self.write_queue)
    }

    fn has_sent(&mut self, id: u64) {
        self.calls.set_deadline(id, later(Instant::now(), self.stream_idle));
    }
}

impl FrameConnectionState {
    /// The number that stands for a name. The server is told at its first use. `None` when there are no more numbers.
    fn number(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.names.get(name) {
            return Some(*number);
        }
        let number = u16::try_from(self.names.len()).ok().filter(|number| *number < NAMES)?;
        self.names.insert(name.into(), number);
        payload::put_name(number, name, &mut self.write_queue);
        Some(number)
    }

    /// A call has ended, so the first call of the queue may be sent.
    fn next_in_queue(&mut self) -> Option<Waker> {
        self.queue.pop_first().map(|(_, waker)| waker)
    }

    /// Many calls have ended, or all will: all calls of the queue are woken.
    fn all_in_queue(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(std::mem::take(&mut self.queue).into_values());
    }
}

/// A call on its way. Dropping it cancels the call: one that has not started is not run.
#[derive(Debug)]
pub(super) struct FrameCall {
    link: Arc<FrameConnection>,
    /// Its id, once it is sent and until it has ended.
    id: Option<u64>,
    /// Its place in the queue.
    ticket: Option<u64>,
}

impl FrameCall {
    pub(super) fn link(&self) -> &Arc<FrameConnection> {
        &self.link
    }

    /// Whether it waits in the queue.
    pub(super) fn is_queued(&self) -> bool {
        self.id.is_none()
    }

    /// Sends it. Ready once it is sent; the task that polled is then woken at its end.
    pub(super) fn poll_send(
        &mut self,
        call: CallHead<'_>,
        frame: &mut CallPayload,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        let sent = ready!(self.link.poll_send(call, frame, &mut self.ticket, cx));
        Poll::Ready(sent.map(|id| self.id = Some(id)))
    }

    /// How it ended, once it is sent.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<FrameCallEnd> {
        let id = self.sent_id();
        let ended = ready!(self.link.state().calls.poll(id, cx));
        self.id = None;
        Poll::Ready(ended)
    }

    /// The id of a call that is sent and has not ended.
    ///
    /// # Panics
    ///
    /// When it is not sent, or has ended: nothing would ever wake who polls it.
    fn sent_id(&self) -> u64 {
        self.id.expect("a call by frames is polled once it is sent, and not after its end")
    }

    /// Sends it and waits for its end; or why it was not sent.
    pub(super) fn poll(
        &mut self,
        call: CallHead<'_>,
        frame: &mut CallPayload,
        cx: &mut Context<'_>,
    ) -> Poll<Result<FrameCallEnd, Unsent>> {
        if self.id.is_none()
            && let Err(unsent) = ready!(self.poll_send(call, frame, cx))
        {
            return Poll::Ready(Err(unsent));
        }
        self.poll_ended(cx).map(Ok)
    }
}

impl Drop for FrameCall {
    fn drop(&mut self) {
        if self.id.is_none() && self.ticket.is_none() {
            return;
        }
        let mut state = self.link.state();
        let closed = match self.id {
            Some(id) if !state.flows.is_empty() => state.flows.close(id),
            _ => [None, None],
        };
        // A call that is no longer in the queue was woken to be sent, and passes that on.
        let mut leaves_a_place = self.ticket.is_some_and(|ticket| state.queue.remove(&ticket).is_none());
        if let Some(id) = self.id
            && state.calls.remove(id)
        {
            leaves_a_place = true;
            if !state.write_queue.take_back(id) {
                state.write_queue.give_up(id);
                put_cancel(id, &mut state.write_queue);
            }
        }
        let next = if leaves_a_place { state.next_in_queue() } else { None };
        self.link.state.unlock_and_wake(state);
        wake([next]);
        wake(closed);
    }
}

/// The task that reads and writes a connection. It ends with the connection.
#[derive(Debug)]
pub(super) struct ConnectionDriver<S> {
    link: Arc<FrameConnection>,
    socket: FrameSocket<S>,
    /// The rest of a message whose first answers were delivered.
    unread: Bytes,
    assembly: MessageAssembly,
    /// How long a connection without a call is kept.
    idle: Duration,
    idle_since: Instant,
    /// How long the server may accept nothing that is written.
    write_progress: Duration,
    timer: DeadlineTimer,
    wakers: Vec<Waker>,
    has_ended: bool,
}

/// How a connection came to its end.
#[derive(Debug)]
pub(super) struct DriverEnd {
    pub(super) why: Arc<str>,
    /// It ended without notice, while calls were in flight or before any was sent.
    pub(super) was_cut: bool,
    pub(super) age: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ConnectionDriver<S> {
    /// `unread` came after the server's HELLO.
    fn new(link: Arc<FrameConnection>, socket: FrameSocket<S>, unread: Bytes, limits: &Limits) -> Self {
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
            has_ended: false,
        }
    }

    pub(super) fn link(&self) -> &Arc<FrameConnection> {
        &self.link
    }

    fn try_poll(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, frames::SocketEnd> {
        self.link.state.register_task(cx);
        loop {
            let is_more = loop {
                if self.unread.is_empty() {
                    match self.socket.next()? {
                        Some(message) => self.unread = message,
                        None => break false,
                    }
                }
                if self.take()? {
                    break true;
                }
            };
            self.wakers.drain(..).for_each(Waker::wake);
            let blocked = loop {
                if self.socket.has_written_all() {
                    let mut state = self.link.state.lock_for_task();
                    if state.write_queue.is_empty() {
                        break false;
                    }
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
            self.wakers.drain(..).for_each(Waker::wake);
            if is_more {
                // First the callers that were just answered: their next calls are written while the rest is read.
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            if self.socket.poll_read(cx)?.is_pending() {
                return self.wait(cx, blocked);
            }
        }
    }

    /// Nothing can be done now: waits until something is due, and does it.
    fn wait(&mut self, cx: &mut Context<'_>, blocked: bool) -> Result<Poll<()>, frames::SocketEnd> {
        let now = Instant::now();
        let mut at = match self.socket.patience(blocked, self.write_progress, now) {
            Ok(at) => at,
            Err(GivenUp::Silent) => return Err(timed_out("the server no longer answers")),
            Err(GivenUp::Stalled) => return Err(timed_out("the server takes no requests (`Limits::write_progress`)")),
        };
        if let Some(tidy) = self.assembly.tidy(now) {
            at = at.min(tidy);
        }
        let mut state = self.link.state();
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
        let expired = |waiting: call_table::WaitingCall| {
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
        let mut run = ItemRun::default();
        let codec = self.link.codec;
        // Pieces of answers that nobody waits for any more are dropped.
        self.assembly.keep(|id| state.calls.is_waiting(id));
        while let Some((header, payload)) = header::next(&mut rest)? {
            if run.goes_on(&header) && payload.len() <= self.assembly.largest() {
                let start = payload.as_ptr().addr() - message.as_ptr().addr();
                run.spans.push(start..start + payload.len());
                continue;
            }
            match header.kind {
                // Nobody waits for it any more.
                kind::REPLY | kind::ERROR | kind::ITEM | kind::END if !state.calls.is_waiting(header.id) => {}
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
                    Assembled::Assembled(item) => {
                        run.end(&mut state, &message, codec, &mut self.wakers)?;
                        let value = item.slice_ref(state.item(&header, &item)?);
                        state.came(header.id, items::EncodedItems::one(codec, value), &mut self.wakers)?;
                    }
                    Assembled::TooLarge => {
                        run.end(&mut state, &message, codec, &mut self.wakers)?;
                        put_cancel(header.id, &mut state.write_queue);
                        self.wakers.extend(state.flows.refuse(header.id));
                        self.wakers.extend(state.calls.end(header.id, FrameCallEnd::TooLarge(Executed::Yes)));
                        self.wakers.extend(state.next_in_queue());
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
                    let ended = match self.assembly.take(&header, payload)? {
                        Assembled::Part => continue,
                        Assembled::Whole(payload) => FrameCallEnd::Answered(header, message.slice_ref(payload)),
                        Assembled::Assembled(whole) => FrameCallEnd::Answered(header, whole),
                        // An ERROR may say that it did not.
                        Assembled::TooLarge if header.kind == kind::ERROR => FrameCallEnd::TooLarge(Executed::Unknown),
                        Assembled::TooLarge => FrameCallEnd::TooLarge(Executed::Yes),
                    };
                    self.wakers.extend(state.calls.end(header.id, ended));
                    self.wakers.extend(state.next_in_queue());
                    answers += 1;
                    if answers >= AT_ONCE && !rest.is_empty() {
                        self.unread = message.slice_ref(rest);
                        return Ok(true);
                    }
                }
                kind::GOAWAY => {
                    if state.status == ConnectionStatus::Open {
                        state.status = ConnectionStatus::Leaving;
                    }
                    let last = payload::read_go_away(&header);
                    let why: Arc<str> = "the server is stopping, and takes no further call on this connection".into();
                    let beyond = |waiting: call_table::WaitingCall| {
                        (waiting.id > last).then(|| FrameCallEnd::Unsent(Arc::clone(&why)))
                    };
                    state.calls.end_each(beyond, &mut self.wakers);
                    state.all_in_queue(&mut self.wakers);
                }
                kind::HELLO => return Err(Violation("HELLO comes once")),
                _ => {}
            }
        }
        run.end(&mut state, &message, codec, &mut self.wakers)?;
        Ok(false)
    }

    /// The connection is over: the calls in flight are not answered.
    fn end(&mut self, why: &Arc<str>) -> DriverEnd {
        let mut wakers = std::mem::take(&mut self.wakers);
        let mut state = self.link.state();
        let FrameConnectionState { calls, write_queue, writes, status, .. } = &mut *state;
        // A connection on which nothing but HELLO was written was of no use either.
        let was_cut = *status == ConnectionStatus::Open && (calls.waiting() > 0 || *writes <= 1);
        *status = ConnectionStatus::Over;
        // The first write of which no byte was written.
        let first_unwritten = *writes - u64::from(self.socket.has_written_none() && *writes > 0);
        let how = |waiting: call_table::WaitingCall| {
            // The server runs no call that it has not completely.
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
                // As far as possible without waiting: the server notices the end anyway.
                let _ = this.socket.poll_flush(cx);
                "it was no longer needed".into()
            }
            Err(frames::SocketEnd::Violation(violation)) => {
                this.socket.close(1002, &violation.to_string());
                let _ = this.socket.poll_flush(cx);
                violation.to_string().into()
            }
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

/// What an answer says.
pub(super) fn read(codec: Codec, header: &FrameHeader, payload: &Bytes) -> Result<Reply, Violation> {
    if header.kind != kind::END {
        return reply::read(codec, header, payload);
    }
    let metadata = stream::read_end(header, payload)?;
    let empty = Items::new(stream_calls::EmptyStream);
    Ok(Reply { result: Ok(Returned::Stream(empty)), metadata })
}

/// How many bytes of unfinished replies are kept.
fn window(limits: &Limits) -> usize {
    limits.message.saturating_mul(WINDOW)
}

fn timed_out(why: &str) -> frames::SocketEnd {
    frames::SocketEnd::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}

/// A request that is larger than the server takes.
pub(super) fn too_large(name: &str, codec: Codec, size: usize, largest: usize) -> Error {
    let shorter = codec::shorter(codec);
    let why = format!(
        "the request of `{name}` has {size} bytes, more than the {largest} that the server takes (`Limits::message` of \
         the server); send less, or raise it{shorter}"
    );
    Error::refused(Code::ResourceExhausted, why).of_limit("message")
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::frames::fuzzing::Scripted;
    use crate::frames::websocket::WebSocketRole;

    fn link() -> Arc<FrameConnection> {
        let server = Hello { message: 1000, window: 1000, calls: 2, codecs: Vec::new() };
        Arc::new(FrameConnection::new(server, Codec::Json, &Limits::default(), Instant::now(), 0.5))
    }

    /// Without the check it would wait for ever.
    #[test]
    #[should_panic(expected = "a call by frames is polled once it is sent")]
    fn polling_a_call_that_is_not_sent_for_its_end_panics() {
        let _ = link().call().poll_ended(&mut Context::from_waker(Waker::noop()));
    }

    #[tokio::test]
    #[should_panic(expected = "the driver of a connection was polled after its end")]
    async fn polling_a_driver_after_its_end_panics() {
        let socket = FrameSocket::new(Scripted::new(Vec::new(), 100), WebSocketRole::Client, &[], Instant::now());
        let mut driver = ConnectionDriver::new(link(), socket, Bytes::new(), &Limits::default());
        (&mut driver).await;
        (&mut driver).await;
    }
}
