//! The access log: one event a call, when its outcome is known. [`AccessEntry`].

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::time::Instant;
use tracing::Level;

use crate::codec::Codec;
use crate::error::{Code, Error, Executed};
use crate::outcome::Failure;
use crate::outcome::items::{ItemBatch, ItemSource, Items, NextItems};
use crate::peer::Peer;
use crate::telemetry_names::{
    CLIENT_ADDRESS, CLIENT_PORT, DURATION_MS, EXECUTED, IDENTITY, ITEMS_RECEIVED, ITEMS_SENT, OK, OTHER, PARENT_ID,
    REQUEST_BYTES, RESPONSE_BYTES, RPC_METHOD, RPC_METHOD_ORIGINAL, RPC_RESPONSE_STATUS_CODE, SPAN_ID, TRACE_ID, WAY,
};
use crate::trace_context::{ServedSpan, TraceIds};
use crate::untrusted_text::excerpt;

/// The tracing target of the events.
const TARGET: &str = "byname::access";

/// The most bytes of an identity. A SPIFFE ID has no more.
const LONGEST_IDENTITY: usize = 2048;

/// How a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallWay {
    Plain,
    Path,
    JsonRpc,
    Frames,
    Local,
}

/// Which function was called.
#[derive(Clone, Debug)]
pub(crate) enum LoggedName {
    Registered(Cow<'static, str>),
    /// No function has this name. It is escaped and cut.
    Unknown(String),
}

/// The entry of a call in the access log, if the log is on. Dropping the entry logs the event. The last result that was set
/// counts. Without a result the event says that the caller is gone.
#[derive(Debug)]
#[must_use = "the event comes when this is dropped"]
pub(crate) struct AccessEntry(Option<Box<AccessRecord>>);

#[derive(Clone, Debug)]
struct AccessRecord {
    name: Option<LoggedName>,
    peer: Option<Arc<Peer>>,
    way: CallWay,
    began: Instant,
    code: &'static str,
    executed: Executed,
    bytes_in: Option<usize>,
    bytes_out: Option<usize>,
    items: Option<u64>,
    /// Of the stream that the caller sends.
    taken: Option<Arc<TakenCounts>>,
    /// What the caller says.
    came_with: Option<TraceIds>,
    /// The call's own place in its trace, once something has needed it.
    span: ServedSpan,
}

/// How much has come of a stream that a caller sends.
#[derive(Debug, Default)]
pub(crate) struct TakenCounts {
    items: AtomicU64,
    bytes: AtomicU64,
}

impl TakenCounts {
    pub(crate) fn add(&self, items: usize, bytes: usize) {
        self.items.fetch_add(items as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl AccessEntry {
    /// No entry, because the access log is off.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(way: CallWay, peer: Option<Arc<Peer>>, came_with: Option<TraceIds>, began: Instant) -> Self {
        Self(Some(Box::new(AccessRecord {
            name: None,
            peer,
            way,
            began,
            code: Code::Cancelled.as_str(),
            executed: Executed::Unknown,
            bytes_in: None,
            bytes_out: None,
            items: None,
            taken: None,
            came_with,
            span: ServedSpan::default(),
        })))
    }

    /// Drops the entry without an event, because the request is not a call.
    pub(crate) fn discard(&mut self) {
        self.0 = None;
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Which function was called.
    pub(crate) fn named(&mut self, name: impl FnOnce() -> LoggedName) {
        if let Some(record) = &mut self.0 {
            record.name = Some(name());
        }
    }

    /// This entry and the other are of one call, which began with this one. This one is dropped without an event.
    pub(crate) fn begin(mut self, later: &mut AccessEntry) {
        if let (Some(record), Some(later)) = (self.0.take(), &mut later.0) {
            later.began = record.began;
        }
    }

    /// Where the place of the call in its trace goes, for the entry to have it too.
    pub(crate) fn span(&self) -> Option<ServedSpan> {
        self.0.as_ref().map(|record| record.span.clone())
    }

    /// Corrects the way: a JSON-RPC call looks like a plain call until its body is read.
    pub(crate) fn came_by(&mut self, way: CallWay) {
        if let Some(record) = &mut self.0 {
            record.way = way;
        }
    }

    /// Sets the size of the request, in bytes.
    pub(crate) fn received(&mut self, bytes: usize) {
        if let Some(record) = &mut self.0 {
            record.bytes_in = Some(bytes);
        }
    }

    /// The caller sends a stream. Where what comes of it is counted, if there is an entry.
    pub(crate) fn takes(&mut self) -> Option<Arc<TakenCounts>> {
        let record = self.0.as_mut()?;
        Some(Arc::clone(record.taken.get_or_insert_default()))
    }

    /// Sets the size of the reply, in bytes.
    pub(crate) fn sent(&mut self, bytes: impl FnOnce() -> usize) {
        if let Some(record) = &mut self.0 {
            record.bytes_out = Some(bytes());
        }
    }

    pub(crate) fn succeeded(&mut self) {
        if let Some(record) = &mut self.0 {
            (record.code, record.executed) = (OK, Executed::Yes);
        }
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        let (Failure::Rpc(error) | Failure::Method { error, .. }) = failure;
        self.refused(error);
    }

    pub(crate) fn refused(&mut self, error: &Error) {
        if let Some(record) = &mut self.0 {
            (record.code, record.executed) = (error.code().as_str(), error.executed());
        }
    }

    /// The caller is gone. Whether the function ran stays.
    pub(crate) fn cancelled(&mut self) {
        if let Some(record) = &mut self.0 {
            record.code = Code::Cancelled.as_str();
        }
    }

    /// One entry for each call of a batch. `parts` are the sizes of the calls in bytes. Empty without an access log.
    pub(crate) fn split(mut self, parts: impl Iterator<Item = usize>) -> Vec<Self> {
        let Some(whole) = self.0.take() else {
            return Vec::new();
        };
        let part = |bytes| {
            let span = ServedSpan::default();
            Self(Some(Box::new(AccessRecord { bytes_in: Some(bytes), span, ..AccessRecord::clone(&whole) })))
        };
        parts.map(part).collect()
    }

    /// Its answer is a stream, and nothing of it was sent.
    fn of_stream(mut self) -> Self {
        if let Some(record) = &mut self.0 {
            (record.code, record.executed) = (Code::Cancelled.as_str(), Executed::Unknown);
            (record.items, record.bytes_out) = (Some(0), None);
        }
        self
    }

    /// The items of a stream that answers the call. Their end is its end.
    pub(crate) fn follow(self, items: Items) -> Items {
        if self.0.is_none() {
            return items;
        }
        Items::new(LoggedItems { items, access: self.of_stream() })
    }
}

impl Drop for AccessEntry {
    #[inline]
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            record.log();
        }
    }
}

impl CallWay {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            CallWay::Plain => "plain",
            CallWay::Path => "path",
            CallWay::JsonRpc => "json-rpc",
            CallWay::Frames => "frames",
            CallWay::Local => "local",
        }
    }
}

impl AccessRecord {
    #[cold]
    fn log(&self) {
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let ids = self.span.get().map(TraceIds::from).or(self.came_with);
        let (method, original) = match &self.name {
            Some(LoggedName::Registered(name)) => (Some(&**name), None),
            Some(LoggedName::Unknown(name)) => (Some(OTHER), Some(&**name)),
            None => (None, None),
        };
        let taken = self.taken.as_deref();
        let (bytes_in, items_received) = match taken {
            None => (self.bytes_in.map(bytes), None),
            Some(taken) => {
                let head = self.bytes_in.map(bytes).unwrap_or_default();
                let came = |count: &AtomicU64| count.load(Ordering::Relaxed);
                (Some(head + came(&taken.bytes)), Some(came(&taken.items)))
            }
        };
        let peer = self.peer.as_deref();
        let address = peer.map(|peer| match peer.address.ip() {
            Some(ip) => ip.to_string(),
            None => peer.to_string(),
        });
        tracing::event!(target: TARGET, Level::INFO, {
            { RPC_METHOD } = method,
            { RPC_METHOD_ORIGINAL } = original,
            { RPC_RESPONSE_STATUS_CODE } = self.code,
            { DURATION_MS } = self.began.elapsed().as_micros() as f64 / 1000.0,
            { WAY } = self.way.as_str(),
            { EXECUTED } = self.executed.as_str(),
            { CLIENT_ADDRESS } = address.map(tracing::field::display),
            { CLIENT_PORT } = peer.and_then(|peer| peer.address.port()),
            { IDENTITY } = peer.and_then(Peer::proven_name).map(|name| excerpt(&name, LONGEST_IDENTITY)),
            { REQUEST_BYTES } = bytes_in,
            { RESPONSE_BYTES } = self.bytes_out.map(bytes),
            { ITEMS_RECEIVED } = items_received,
            { ITEMS_SENT } = self.items,
            { TRACE_ID } = ids.map(|ids| tracing::field::display(ids.trace)),
            { SPAN_ID } = ids.and_then(|ids| ids.span).map(tracing::field::display),
            { PARENT_ID } = ids.and_then(|ids| ids.parent).map(tracing::field::display),
        });
    }
}

/// The items of a stream on their way to the caller, counted.
struct LoggedItems {
    items: Items,
    access: AccessEntry,
}

impl LoggedItems {
    fn count(&mut self, batch: &ItemBatch) {
        let Some(record) = &mut self.access.0 else {
            return;
        };
        let (count, bytes) = batch.size();
        *record.items.get_or_insert_default() += count as u64;
        if matches!(batch, ItemBatch::Encoded(_)) {
            *record.bytes_out.get_or_insert_default() += bytes;
        }
    }
}

impl ItemSource for LoggedItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: usize) -> Poll<NextItems> {
        let next = ready!(self.items.poll_next(cx, room));
        match &next {
            NextItems::Batch(batch) => self.count(batch),
            NextItems::End => {
                self.access.succeeded();
                drop(self.access.take());
            }
            NextItems::Failed(failure) => {
                self.access.failed(failure);
                drop(self.access.take());
            }
        }
        Poll::Ready(next)
    }

    fn encode_in(mut self: Pin<&mut Self>, codec: Codec) {
        self.items.encode_in(codec);
    }

    fn give_up(mut self: Pin<&mut Self>, why: &Failure) {
        self.access.failed(why);
        self.items.give_up(why);
    }
}
