//! What the clients of one service count: [`ClientCounters`], [`ClientCallRecord`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use crate::clock_and_chance::is_seeded;
use crate::codec::Codec;
use crate::error::{Code, Executed};
use crate::function_counters::{CountedFunction, EndedCall, FunctionCounters, is_shed, nanos};
use crate::method::Method;
use crate::outcome::items::{ItemSource, Items, NextItems};
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::recent_calls::{CallSide, RecentCall, RecentCallList};
use crate::stats::FunctionStats;
use crate::telemetry_names::OTHER;
use crate::trace_context::TraceIds;

/// The most names that are counted by themselves, of calls by name.
const NAMES: usize = 1_000;

/// Stubs whose functions have a smaller number are found by it, and others by their name.
const NUMBERED: usize = 512;

/// The most URLs whose clients count together.
const URLS: usize = 256;

/// The counters of the clients of one URL.
#[derive(Debug)]
pub(crate) struct ClientCounters {
    url: Box<str>,
    by_number: OnceLock<Box<[OnceLock<Arc<ClientFunction>>]>>,
    by_name: RwLock<HashMap<Box<str>, Arc<ClientFunction>>>,
    other: Arc<ClientFunction>,
    recent: Arc<RecentCallList>,
    /// Connections that were opened.
    opened: AtomicU64,
}

/// The counters of one function.
#[derive(Debug)]
pub(crate) struct ClientFunction {
    name: Box<str>,
    /// Whether the service has a function of this name. Otherwise the name is whatever the program called.
    is_known: AtomicBool,
    counters: FunctionCounters,
    /// What was counted before the name was known. It stays among the other names, so that their counters never decrease.
    as_unknown: FunctionCounters,
    url: Box<str>,
    recent: Arc<RecentCallList>,
}

/// The counters of all URLs that the clients of this process have had.
pub(crate) fn all() -> Vec<Arc<ClientCounters>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

static ALL: Mutex<Vec<Arc<ClientCounters>>> = Mutex::new(Vec::new());

impl ClientCounters {
    /// The counters of this URL. They outlive its clients, so that what they count never decreases. In a simulation each client has its
    /// own, because it is to see nothing of another run.
    pub(crate) fn of(url: String) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_seeded()
            && let Some(counters) = all.iter().find(|counters| *counters.url == *url)
        {
            return Arc::clone(counters);
        }
        let counters = Arc::new(Self::new(url.into()));
        if !is_seeded() && all.len() < URLS {
            all.push(Arc::clone(&counters));
        }
        counters
    }

    fn new(url: Box<str>) -> Self {
        let recent = Arc::<RecentCallList>::default();
        Self {
            by_number: OnceLock::new(),
            by_name: RwLock::default(),
            other: Arc::new(ClientFunction::new(OTHER, &url, &recent, true)),
            recent,
            url,
            opened: AtomicU64::new(0),
        }
    }

    /// The counters of a function that is called by this name. `method` is that of the stub, if one calls it.
    #[inline]
    pub(crate) fn function(&self, name: &str, method: Option<&'static Method>) -> Arc<ClientFunction> {
        if let Some(method) = method
            && let Some(slot) = self.by_number.get_or_init(empty_slots).get(method.number())
        {
            let function = slot.get_or_init(|| self.named(&method.name, true));
            // A prefix of the client makes another name.
            if std::ptr::eq(name, &*method.name) || *function.name == *name {
                return Arc::clone(function);
            }
        }
        self.named(name, method.is_some())
    }

    fn named(&self, name: &str, is_known: bool) -> Arc<ClientFunction> {
        if let Some(function) = self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(function);
        }
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if by_name.len() >= NAMES {
            return by_name.get(name).unwrap_or(&self.other).clone();
        }
        let new = || Arc::new(ClientFunction::new(name, &self.url, &self.recent, is_known));
        Arc::clone(by_name.entry(name.into()).or_insert_with(new))
    }

    /// The statistics of each function, by name.
    pub(crate) fn functions(&self) -> Vec<FunctionStats> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let mut named: Vec<_> = by_name.values().cloned().collect();
        drop(by_name);
        named.sort_by(|a, b| a.name.cmp(&b.name));
        let mut other = self.other.counters.read();
        let mut functions = Vec::new();
        let mut others_in_flight = in_flight(&other);
        for function in named {
            let (mut all, counted) = (function.as_unknown.read(), function.counters.read());
            other.merge(all.clone());
            all.merge(counted.clone());
            match function.is_known.load(Ordering::Relaxed) {
                true => functions.push(FunctionStats::new(function.name.to_string().into(), in_flight(&all), counted)),
                false => {
                    others_in_flight += in_flight(&all);
                    other.merge(counted);
                }
            }
        }
        if other.calls() > 0 || others_in_flight > 0 {
            functions.push(FunctionStats::new(OTHER.into(), others_in_flight, other));
        }
        functions
    }

    pub(crate) fn recent(&self) -> &RecentCallList {
        &self.recent
    }

    /// A client has opened this many further connections.
    pub(crate) fn add_opened(&self, opened: u64) {
        self.opened.fetch_add(opened, Ordering::Relaxed);
    }

    /// How many connections were opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

fn empty_slots() -> Box<[OnceLock<Arc<ClientFunction>>]> {
    (0..NUMBERED).map(|_| OnceLock::new()).collect()
}

fn in_flight(counted: &CountedFunction) -> u64 {
    counted.begun.saturating_sub(counted.calls())
}

impl ClientFunction {
    fn new(name: &str, url: &str, recent: &Arc<RecentCallList>, is_known: bool) -> Self {
        Self {
            name: name.into(),
            is_known: AtomicBool::new(is_known),
            counters: FunctionCounters::default(),
            as_unknown: FunctionCounters::default(),
            url: url.into(),
            recent: Arc::clone(recent),
        }
    }

    /// Where it counts now.
    pub(crate) fn counters(&self) -> &FunctionCounters {
        if self.is_known.load(Ordering::Relaxed) { &self.counters } else { &self.as_unknown }
    }
}

/// The record of one call. Dropping it counts the call as one that its caller has dropped.
#[derive(Debug)]
pub(crate) struct ClientCallRecord {
    /// `None` if the call was counted, or is not to be counted.
    function: Option<Arc<ClientFunction>>,
    /// `None` only where there is no function.
    began: Option<Instant>,
    request_bytes: usize,
    /// Most calls have none.
    details: Option<Box<CallDetails>>,
}

/// What is known of few calls.
#[derive(Clone, Copy, Debug, Default)]
struct CallDetails {
    trace: Option<TraceIds>,
    /// How often it was sent, if that was more than once.
    attempts: u32,
}

impl ClientCallRecord {
    /// The call is not counted.
    pub(crate) const fn none() -> Self {
        Self { function: None, began: None, request_bytes: 0, details: None }
    }

    /// A call of this function begins.
    #[inline]
    pub(crate) fn begin(&mut self, function: Arc<ClientFunction>, now: Instant) {
        function.counters().begin();
        (self.function, self.began) = (Some(function), Some(now));
    }

    /// Where the call is in its trace.
    pub(crate) fn belongs_to(&mut self, trace: TraceIds) {
        self.details.get_or_insert_default().trace = Some(trace);
    }

    /// How often the call was sent.
    #[inline]
    pub(crate) fn sent(&mut self, attempts: u32) {
        if attempts > 1 && self.function.is_some() {
            self.details.get_or_insert_default().attempts = attempts;
        }
    }

    /// The size of the request, in bytes.
    pub(crate) fn sends(&mut self, bytes: usize) {
        self.request_bytes = bytes;
    }

    /// The stream that the caller sends. Its items are counted when they go, and their bytes are a part of the request.
    pub(crate) fn sending(&self, items: Items) -> Items {
        match &self.function {
            Some(function) => Items::new(SentItems { items, function: Arc::clone(function) }),
            None => items,
        }
    }

    /// What the call came to, and when its answer was read, if that is known. A stream that answers it is counted until its end.
    #[inline]
    pub(crate) fn end(&mut self, result: &mut Result<Returned, Failure>, read_at: Option<Instant>) {
        match result {
            Ok(Returned::Value(ReturnedValue::Encoded(_, value))) => self.succeeded(value.len(), read_at),
            _ => self.end_seldom(result),
        }
    }

    /// Most calls end by this. It is [`count`](Self::count) for a success.
    #[inline]
    fn succeeded(&mut self, response_bytes: usize, read_at: Option<Instant>) {
        let (Some(function), Some(began)) = (self.function.take(), self.began) else { return };
        let nanos = nanos(read_at.unwrap_or_else(Instant::now).saturating_duration_since(began));
        if !function.is_known.load(Ordering::Relaxed) {
            function.is_known.store(true, Ordering::Relaxed);
        }
        let number = function.counters.succeeded(nanos, self.request_bytes, response_bytes);
        if function.recent.wants(None, number..number + 1, nanos) {
            self.offer(&function, &EndedCall { nanos, ..EndedCall::default() });
        }
    }

    #[cold]
    fn end_seldom(&mut self, result: &mut Result<Returned, Failure>) {
        if self.function.is_none() {
            return;
        }
        let mut ended = EndedCall::default();
        match result {
            Ok(Returned::Value(_)) => {}
            Ok(Returned::Stream(items)) => {
                let record = std::mem::replace(self, Self::none());
                let inner = std::mem::replace(items, Items::new(NoItems));
                *items = Items::new(ReceivedItems { items: inner, record, received: EndedCall::default() });
                return;
            }
            Err(failure) => self.failed(&mut ended, failure),
        }
        self.count(ended);
    }

    fn count(&mut self, mut ended: EndedCall) {
        let (Some(function), Some(began)) = (self.function.take(), self.began) else { return };
        ended.nanos = nanos(Instant::now().saturating_duration_since(began));
        ended.request_bytes = self.request_bytes as u64;
        if ended.code.is_none() {
            function.is_known.store(true, Ordering::Relaxed);
        }
        let number = function.counters().end(&ended);
        if function.recent.wants(ended.code, number..number + 1, ended.nanos) {
            self.offer(&function, &ended);
        }
    }

    #[cold]
    fn offer(&self, function: &ClientFunction, ended: &EndedCall) {
        let CallDetails { trace, attempts } = self.details.as_deref().copied().unwrap_or_default();
        let side = CallSide::Client { url: function.url.to_string(), attempts };
        function.recent.offer(RecentCall::new(function.name.to_string().into(), ended, side, trace));
    }

    #[cold]
    fn failed(&self, ended: &mut EndedCall, failure: &Failure) {
        let (Failure::Rpc(error) | Failure::Method { error, .. }) = failure;
        (ended.code, ended.is_shed) = (Some(error.code()), is_shed(error));
        if error.executed() == Executed::Yes
            && let Some(function) = &self.function
        {
            function.is_known.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for ClientCallRecord {
    #[inline]
    fn drop(&mut self) {
        if self.function.is_some() {
            self.dropped();
        }
    }
}

impl ClientCallRecord {
    #[cold]
    fn dropped(&mut self) {
        self.count(EndedCall { code: Some(Code::Cancelled), ..EndedCall::default() });
    }
}

/// The items of the caller's stream on their way to the server, counted.
struct SentItems {
    items: Items,
    function: Arc<ClientFunction>,
}

impl ItemSource for SentItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: usize) -> Poll<NextItems> {
        let next = ready!(self.items.poll_next(cx, room));
        if let NextItems::Batch(batch) = &next {
            let (items, bytes) = batch.size();
            self.function.counters().send_items(items, bytes);
        }
        Poll::Ready(next)
    }

    fn encode_in(mut self: Pin<&mut Self>, codec: Codec) {
        self.items.encode_in(codec);
    }

    fn give_up(mut self: Pin<&mut Self>, why: &Failure) {
        self.items.give_up(why);
    }
}

/// The items of a stream on their way to the caller, counted.
struct ReceivedItems {
    items: Items,
    record: ClientCallRecord,
    received: EndedCall,
}

impl ItemSource for ReceivedItems {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: usize) -> Poll<NextItems> {
        let next = ready!(self.items.poll_next(cx, room));
        match &next {
            NextItems::Batch(batch) => {
                let (items, bytes) = batch.size();
                self.received.items_received += items as u64;
                self.received.response_bytes += bytes as u64;
            }
            NextItems::End => {
                let ended = self.received;
                self.record.count(ended);
            }
            NextItems::Failed(failure) => {
                let mut ended = self.received;
                self.record.failed(&mut ended, failure);
                self.record.count(ended);
            }
        }
        Poll::Ready(next)
    }

    fn encode_in(mut self: Pin<&mut Self>, codec: Codec) {
        self.items.encode_in(codec);
    }

    fn give_up(mut self: Pin<&mut Self>, why: &Failure) {
        self.items.give_up(why);
    }
}

impl Drop for ReceivedItems {
    /// A stream that was dropped before its end has still brought its items.
    fn drop(&mut self) {
        let ended = EndedCall { code: Some(Code::Cancelled), ..self.received };
        self.record.count(ended);
    }
}

/// Stands in the place of a stream for a moment.
struct NoItems;

impl ItemSource for NoItems {
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>, _: usize) -> Poll<NextItems> {
        Poll::Ready(NextItems::End)
    }

    fn encode_in(self: Pin<&mut Self>, _: Codec) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn begun(counters: &ClientCounters, name: &str) -> ClientCallRecord {
        let mut record = ClientCallRecord::none();
        record.begin(counters.function(name, None), Instant::now());
        record
    }

    fn call(counters: &ClientCounters, name: &str, result: Result<Returned, Failure>) {
        begun(counters, name).end(&mut { result }, None);
    }

    fn unknown() -> Result<Returned, Failure> {
        Err(Error::refused(Code::Unimplemented, "no such function").into())
    }

    fn value() -> Result<Returned, Failure> {
        Ok(Returned::Value(ReturnedValue::Encoded(Codec::Json, "12".into())))
    }

    fn shown(counters: &ClientCounters) -> Vec<(String, u64, u64)> {
        counters.functions().iter().map(|stats| (stats.name.to_string(), stats.calls, stats.in_flight)).collect()
    }

    #[tokio::test]
    async fn names_that_the_service_does_not_have_are_counted_together() {
        let counters = ClientCounters::new("http://data:1/rpc".into());
        for name in ["a", "b", "b"] {
            call(&counters, name, unknown());
        }
        assert_eq!(shown(&counters), [("_OTHER".to_owned(), 3, 0)]);
        let waits = begun(&counters, "b");
        assert_eq!(shown(&counters), [("_OTHER".to_owned(), 3, 1)]);
        call(&counters, "b", value());
        let known = [("b".to_owned(), 1, 1), ("_OTHER".to_owned(), 3, 0)];
        assert_eq!(shown(&counters), known, "a counter that decreases is a restart for Prometheus");
        assert_eq!(counters.functions()[0].response_bytes, 2);
        drop(waits);
        assert_eq!(shown(&counters), [("b".to_owned(), 2, 0), ("_OTHER".to_owned(), 3, 0)]);
        for at in 0..2 * NAMES {
            call(&counters, &format!("f{at}"), value());
        }
        let all = shown(&counters);
        assert_eq!((all.len(), all[NAMES - 1].clone()), (NAMES, ("_OTHER".to_owned(), NAMES as u64 + 5, 0)));
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_is_cancelled() {
        let counters = ClientCounters::new("http://data:1/rpc".into());
        call(&counters, "f", value());
        let record = begun(&counters, "f");
        assert_eq!(shown(&counters), [("f".to_owned(), 1, 1)]);
        drop(record);
        assert_eq!(shown(&counters), [("f".to_owned(), 2, 0)]);
        assert_eq!(counters.functions()[0].errors, [(Code::Cancelled, 1)]);
    }
}
