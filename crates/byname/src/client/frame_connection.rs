//! The client's side of one connection that many calls share.

mod call_table;
mod driver;
mod frame_call;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod handshake;
mod stream_calls;
mod upgrade_policy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::call_table::CallTable;
pub(super) use self::call_table::FrameCallEnd;
use self::driver::ConnectionDriver;
pub(super) use self::frame_call::{BegunStream, CallHead, FrameCall, Unsent};
pub(super) use self::handshake::open;
pub(super) use self::stream_calls::{FrameUpload, UploadTask};
pub(super) use self::upgrade_policy::Upgrades;
use super::tried_replicas::AttemptedServer;
use crate::address::Address;
use crate::codec::{self, Codec};
use crate::deadline::later;
use crate::error::{Code, Error, Executed};
use crate::fingerprint_queue::{finds_fingerprints, known_fingerprint};
use crate::frames::header::{FrameHeader, flag, kind};
pub(super) use crate::frames::payload::call::CallPayload;
use crate::frames::payload::{self, Hello, NAMES, put_cancel, reply, stream};
use crate::frames::{FlowControl, ShapeExchange, SharedState, SharedStreams, StateGuard, Violation, WriteQueue};
use crate::limits_and_timeouts::{Limit, Limits, in_bytes};
use crate::outcome::item_parts::ItemParts;
use crate::outcome::items::EncodedItems;
use crate::outcome::{Items, Returned};
use crate::request::Reply;
use crate::wire::headers::KeySharing;
use crate::wire::instance_and_load::{InstanceId, ReportedLoad};

/// How many bytes of unfinished replies are kept for each of [`Limits::message`].
const WINDOW: usize = 4;

/// A connection, as its callers see it. A caller that sends something wakes the driver, which writes all frames at once.
#[derive(Debug)]
pub(super) struct FrameConnection {
    /// Its task is the driver.
    state: SharedState<FrameConnectionState>,
    /// How many calls were in flight when it was last known. It is read without the lock.
    in_flight: AtomicUsize,
    /// The codec of values.
    codec: Codec,
    opened: Instant,
    address: Address,
    /// Which server is at the other end, if it says so.
    instance: Option<InstanceId>,
    /// Which servers know the replies of the calls with a key that it has run.
    keys: Option<KeySharing>,
    /// When another connection replaces it. It is random, near [`Limits::connection_age`].
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
    shapes: ShapeExchange,
    status: ConnectionStatus,
    /// The server's HELLO.
    server: Hello,
    /// What the server said last of its load.
    reported: Option<ReportedLoad>,
    /// Calls that wait until others end, because the server accepts no more at once, in their order.
    queue: BTreeMap<u64, Waker>,
    most_queued: usize,
    /// The tickets for the queue that were given out.
    tickets: u64,
    /// No deadline of a call is before this.
    earliest: Option<Instant>,
    /// When the last call was sent, if the driver has not looked at the clock since.
    sent_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionStatus {
    Open,
    /// Calls in flight are answered, and no new calls begin.
    Leaving,
    Over,
}

impl FrameConnection {
    fn new(address: Address, server: Hello, codec: Codec, limits: &Limits, now: Instant, jitter: f64) -> Self {
        let (instance, keys) = (server.instance, server.keys);
        let until = later(now, limits.jittered_connection_age(jitter));
        let codecs = vec![codec.name().into()];
        let (message, window) = (limits.message, window(limits));
        let shapes = finds_fingerprints();
        let hello = Hello { message, window, calls: 1, codecs, instance: None, keys: None, shapes, batches: true };
        let mut write_queue = WriteQueue::new();
        write_queue.set_window(server.window);
        hello.put(&mut write_queue);
        let mut flows = FlowControl::default();
        flows.set_batches(server.batches);
        let state = FrameConnectionState {
            calls: CallTable::new(),
            write_queue,
            flows,
            stream_idle: limits.stream_idle,
            writes: 0,
            names: BTreeMap::new(),
            shapes: ShapeExchange::agreed_on(shapes && server.shapes),
            status: ConnectionStatus::Open,
            server,
            queue: BTreeMap::new(),
            most_queued: limits.waiting,
            tickets: 0,
            earliest: None,
            sent_at: None,
            reported: None,
        };
        let in_flight = AtomicUsize::new(0);
        Self { state: SharedState::new(state), in_flight, codec, opened: now, address, instance, keys, until }
    }

    fn state(&self) -> StateGuard<'_, FrameConnectionState> {
        self.state.lock()
    }

    /// The codec of values on this connection.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// What the server said last of its calls in flight, if it did.
    pub(super) fn reported_calls(&self) -> Option<u32> {
        self.state().reported.as_ref().map(|load| load.calls)
    }

    /// How many calls are in flight, about.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many calls wait until the server accepts more at once.
    pub(super) fn queued(&self) -> usize {
        self.state().queue.len()
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().status == ConnectionStatus::Open
    }

    /// Which server is at the other end, if it says so.
    pub(super) fn instance(&self) -> Option<InstanceId> {
        self.instance
    }

    /// What a repetition of a call with a key has to know of the server at the other end.
    pub(super) fn attempted_server(&self) -> AttemptedServer {
        AttemptedServer { instance: self.instance, address: self.address.clone(), keys: self.keys }
    }

    /// Whether this function has the same structure on both sides, if both have said it.
    pub(super) fn is_same_function(&self, name: &str) -> Option<bool> {
        let state = self.state();
        state.shapes.agreement(*state.names.get(name)?)
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
    pub(super) fn call(self: Arc<Self>) -> FrameCall {
        FrameCall { link: self, id: None, ticket: None }
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
        if let Some(method) = call.method {
            this.shapes.called(number, || known_fingerprint(method), &mut this.write_queue);
        }
        let id = this.calls.begin(this.writes, call.deadline, cx.waker().clone());
        self.in_flight.store(this.calls.waiting(), Ordering::Relaxed);
        if this.earliest.is_none_or(|earliest| call.deadline < earliest) {
            this.earliest = Some(call.deadline);
        }
        if frame.has_streams() {
            let credit = this.flows.open(id, 0, frame.takes_stream());
            frame.set_credit(credit);
        }
        this.sent_at = call.began.or(this.sent_at);
        frame.put(number, id, &mut this.write_queue);
        self.state.unlock_and_wake(state);
        Poll::Ready(Ok(id))
    }
}

impl SharedStreams for FrameConnectionState {
    fn streams(&mut self) -> (&mut FlowControl, &mut WriteQueue) {
        (&mut self.flows, &mut self.write_queue)
    }

    fn has_sent(&mut self, id: u64) {
        self.await_item(id);
    }
}

impl FrameConnectionState {
    /// The number that stands for a name. The server is told at the first use of the name. `None` if there are no more
    /// numbers.
    fn number(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.names.get(name) {
            return Some(*number);
        }
        let number = u16::try_from(self.names.len()).ok().filter(|number| *number < NAMES)?;
        self.names.insert(name.into(), number);
        payload::put_name(number, name, &mut self.write_queue);
        self.shapes.named(number);
        Some(number)
    }

    /// A call has sent or received an item: its deadline is that of the next item. It may be earlier than the deadline
    /// of the call.
    fn await_item(&mut self, id: u64) {
        let deadline = later(Instant::now(), self.stream_idle);
        self.calls.set_deadline(id, deadline);
        if self.earliest.is_none_or(|earliest| deadline < earliest) {
            self.earliest = Some(deadline);
        }
    }

    /// Items have come.
    fn came(&mut self, id: u64, items: EncodedItems, wakers: &mut Vec<Waker>) -> Result<(), Violation> {
        self.flows.came(id, items)?;
        self.await_item(id);
        wakers.extend(self.calls.waker(id));
        Ok(())
    }

    /// Several items have come in one frame of `message`.
    fn came_together(
        &mut self,
        id: u64,
        codec: Codec,
        items: ItemParts<'_>,
        message: &Bytes,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), Violation> {
        self.flows.came_together(id, codec, items, message)?;
        self.await_item(id);
        wakers.extend(self.calls.waker(id));
        Ok(())
    }

    /// An item has come that is larger than allowed, which ends its call.
    fn came_too_large(&mut self, id: u64, wakers: &mut Vec<Waker>) {
        put_cancel(id, &mut self.write_queue);
        wakers.extend(self.flows.refuse(id));
        wakers.extend(self.calls.end(id, FrameCallEnd::TooLarge(Executed::Yes)));
        wakers.extend(self.next_in_queue());
    }

    /// The value of an item. Its metadata is kept for the reader.
    fn item<'p>(&mut self, header: &FrameHeader, payload: &'p [u8]) -> Result<&'p [u8], Violation> {
        let (metadata, item) = stream::read_item(header, payload)?;
        if header.has(flag::METADATA) {
            self.flows.keep_metadata(header.id, metadata);
        }
        Ok(item)
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

/// Reads an answer.
pub(super) fn read(codec: Codec, header: &FrameHeader, payload: Bytes) -> Result<Reply, Violation> {
    if header.kind != kind::END {
        return reply::read(codec, header, payload);
    }
    let metadata = stream::read_end(header, &payload)?;
    let empty = Items::new(stream_calls::EmptyStream);
    Ok(Reply { result: Ok(Returned::Stream(empty)), metadata })
}

/// How many bytes of unfinished replies are kept.
fn window(limits: &Limits) -> usize {
    limits.message.saturating_mul(WINDOW)
}

/// The error of a request that is larger than the server accepts.
pub(super) fn too_large(name: &str, codec: Codec, size: usize, largest: usize) -> Error {
    let shorter = codec::shorter(codec);
    let why = format!(
        "the request of `{name}` has {}, more than the {largest} that the server takes (`Limits::message` of \
         the server); send less, or raise the limit{shorter}",
        in_bytes(size)
    );
    Error::refused(Code::ResourceExhausted, why).of_limit(Limit::Message)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn link() -> Arc<FrameConnection> {
        let codecs = Vec::new();
        let server = Hello {
            message: 1000,
            window: 1000,
            calls: 2,
            codecs,
            instance: None,
            keys: None,
            shapes: false,
            batches: false,
        };
        Arc::new(FrameConnection::new(
            Address::Unix(None),
            server,
            Codec::Json,
            &Limits::default(),
            Instant::now(),
            0.5,
        ))
    }
}
