//! The streams of the calls on one connection, as one side sees them: [`Flows`].

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::task::{Context, Waker};

use http::HeaderMap;

use super::{Outbound, Violation};
use crate::call::items::{Encoded, ROOM};
use crate::error::Error;

/// How many bytes of items a reader lets its sender be ahead, headers included: so many at most, and at least, and all
/// streams of a connection together about as many as these.
const MOST: usize = 256 << 10;
const LEAST: usize = 4 << 10;
const SHARED: usize = 4 << 20;

/// While more bytes than this wait to be written, no further item is made.
const UNWRITTEN: usize = 1 << 20;

/// What is there of streams, and how far they may go on. A state machine.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    flows: HashMap<u64, Flow>,
    /// Senders that wait for what others have put to be written.
    waiting: Vec<Waker>,
    /// The bytes that wait to be written beside those in the outbound that is at hand.
    unwritten: usize,
    /// Whose last item is a large message that has not gone out, and must not be overtaken.
    large: Vec<u64>,
}

/// The streams of one call: at most one in each direction.
#[derive(Debug)]
struct Flow {
    /// What has come and was not read.
    inbox: VecDeque<Encoded>,
    held: usize,
    /// What the peer may still send; its last item may go beyond.
    left: isize,
    /// What came with the first.
    metadata: HeaderMap,
    /// Whether items are wanted from the peer.
    receives: bool,
    /// How the peer's stream ended.
    end: Option<Result<(), Error>>,
    reader: Option<Waker>,
    /// What may still be sent.
    credit: isize,
    writer: Option<Waker>,
    /// The peer wants no more items.
    is_unwanted: bool,
}

/// Whether there is room for items.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For so many bytes; the last item may go beyond.
    Bytes(usize),
    /// The sender is woken when it is to look again.
    None,
    /// There is nobody to read them any more.
    Unwanted,
}

/// What a reader finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// Items, and how much more the peer may send now.
    Items(Encoded, Option<u32>),
    /// Nothing yet; the reader is woken.
    Nothing,
    End,
    Cut(Error),
    /// The call is over.
    Gone,
}

impl Flows {
    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Begins the streams of a call: `credit` is what may be sent at first. What comes back is what the peer may send,
    /// where it `receives`.
    pub(crate) fn open(&mut self, id: u64, credit: u32, receives: bool) -> u32 {
        let window = if receives { window(self.flows.len() + 1) } else { 0 };
        let flow = Flow {
            inbox: VecDeque::new(),
            held: 0,
            left: window as isize,
            metadata: HeaderMap::new(),
            receives,
            end: None,
            reader: None,
            credit: credit as isize,
            writer: None,
            is_unwanted: false,
        };
        self.flows.insert(id, flow);
        window as u32
    }

    /// The call is over; whoever still sends or reads finds out.
    #[must_use]
    pub(crate) fn close(&mut self, id: u64) -> [Option<Waker>; 2] {
        self.large.retain(|large| *large != id);
        match self.flows.remove(&id) {
            Some(flow) => [flow.reader, flow.writer],
            None => [None, None],
        }
    }

    /// All calls are over.
    #[must_use]
    pub(crate) fn close_all(&mut self) -> Vec<Waker> {
        let flows = mem::take(&mut self.flows).into_values();
        flows.flat_map(|flow| [flow.reader, flow.writer]).flatten().chain(mem::take(&mut self.waiting)).collect()
    }

    /// The peer may be sent so many bytes more.
    pub(crate) fn credit(&mut self, id: u64, more: u32) -> Option<Waker> {
        let flow = self.flows.get_mut(&id)?;
        flow.credit = flow.credit.saturating_add(more as isize);
        flow.writer.take()
    }

    /// The peer wants no more items of this call, or can't have them.
    pub(crate) fn refuse(&mut self, id: u64) -> Option<Waker> {
        let flow = self.flows.get_mut(&id)?;
        flow.is_unwanted = true;
        flow.writer.take()
    }

    /// No peer can be sent anything any more; what has come can still be read.
    #[must_use]
    pub(crate) fn refuse_all(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.waiting);
        for flow in self.flows.values_mut() {
            flow.is_unwanted = true;
            wakers.extend(flow.writer.take());
        }
        wakers
    }

    /// Items have come. Those that nobody wants are let go.
    pub(crate) fn came(&mut self, id: u64, items: Encoded) -> Result<Option<Waker>, Violation> {
        let Some(flow) = self.flows.get_mut(&id).filter(|flow| flow.receives && flow.end.is_none()) else {
            return Ok(None);
        };
        for cost in items.costs() {
            if flow.left <= 0 {
                return Err(Violation("an item was sent without credit"));
            }
            flow.left = flow.left.saturating_sub_unsigned(cost);
            flow.held += cost;
        }
        flow.inbox.push_back(items);
        Ok(flow.reader.take())
    }

    /// Whether there are items to be read.
    pub(crate) fn has_items(&self, id: u64) -> bool {
        self.flows.get(&id).is_some_and(|flow| !flow.inbox.is_empty())
    }

    pub(crate) fn keep_metadata(&mut self, id: u64, metadata: HeaderMap) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.metadata = metadata;
        }
    }

    pub(crate) fn take_metadata(&mut self, id: u64) -> HeaderMap {
        self.flows.get_mut(&id).map(|flow| mem::take(&mut flow.metadata)).unwrap_or_default()
    }

    /// The peer's stream has ended, or was cut.
    pub(crate) fn ended(&mut self, id: u64, how: Result<(), Error>) -> Option<Waker> {
        let flow = self.flows.get_mut(&id).filter(|flow| flow.end.is_none())?;
        flow.end = Some(how);
        flow.reader.take()
    }

    /// Takes what has come of a stream.
    pub(crate) fn take(&mut self, id: u64, cx: &mut Context<'_>) -> Found {
        let window = window(self.flows.len());
        let Some(flow) = self.flows.get_mut(&id) else {
            return Found::Gone;
        };
        if let Some(items) = flow.inbox.pop_front() {
            flow.held -= items.cost();
            return Found::Items(items, flow.grant(window));
        }
        match &flow.end {
            Some(Ok(())) => Found::End,
            Some(Err(error)) => Found::Cut(error.clone()),
            None => {
                flow.reader = Some(cx.waker().clone());
                Found::Nothing
            }
        }
    }

    /// Its reader wants no more; whether the peer is to be told.
    pub(crate) fn stop_receiving(&mut self, id: u64) -> bool {
        let Some(flow) = self.flows.get_mut(&id) else {
            return false;
        };
        (flow.inbox, flow.held) = (VecDeque::new(), 0);
        mem::replace(&mut flow.receives, false) && flow.end.is_none()
    }

    /// How many items may be sent now, of which `unwritten` bytes wait to be written.
    pub(crate) fn room(&mut self, id: u64, unwritten: usize, cx: &mut Context<'_>) -> Room {
        let Some(flow) = self.flows.get_mut(&id).filter(|flow| !flow.is_unwanted) else {
            return Room::Unwanted;
        };
        flow.writer = Some(cx.waker().clone());
        if flow.credit <= 0 {
            return Room::None;
        }
        if self.unwritten + unwritten >= UNWRITTEN || self.large.contains(&id) {
            self.waiting.push(cx.waker().clone());
            return Room::None;
        }
        Room::Bytes(flow.credit.unsigned_abs().min(ROOM))
    }

    /// Whether all items have gone out that must not be overtaken by the end of their stream.
    pub(crate) fn may_end(&mut self, id: u64, cx: &mut Context<'_>) -> bool {
        let may = !self.large.contains(&id);
        if !may {
            self.waiting.push(cx.waker().clone());
        }
        may
    }

    /// So much was sent, the last item by itself as a large message.
    pub(crate) fn sent(&mut self, id: u64, cost: usize, is_large: bool) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.credit = flow.credit.saturating_sub_unsigned(cost);
            if is_large {
                self.large.push(id);
            }
        }
    }

    /// Some was written: so much still waits in all. Who waits for that looks again.
    #[must_use]
    pub(crate) fn written(&mut self, unwritten: usize, holds: impl Fn(u64) -> bool) -> Vec<Waker> {
        self.unwritten = unwritten;
        self.large.retain(|large| holds(*large));
        if unwritten < UNWRITTEN { mem::take(&mut self.waiting) } else { Vec::new() }
    }
}

impl Flow {
    /// What the peer may send beside what it was told, once that is worth a frame.
    fn grant(&mut self, window: usize) -> Option<u32> {
        let more = (window as isize).saturating_sub(self.left).saturating_sub_unsigned(self.held);
        if !self.receives || more * 2 < window as isize {
            return None;
        }
        self.left += more;
        u32::try_from(more).ok()
    }
}

/// How far ahead the sender of one of so many streams may be.
fn window(streams: usize) -> usize {
    (SHARED / streams.max(1)).clamp(LEAST, MOST)
}

/// What both ends of a connection keep behind their [`Doorbell`](super::Doorbell).
pub(crate) trait Streams {
    fn streams(&mut self) -> (&mut Flows, &mut Outbound);
    /// Items of this call were sent.
    fn has_sent(&mut self, id: u64);
}
