//! What a function can know of the call that it serves: [`Context`].

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::deadline::later;
use crate::error::Error;
use crate::idempotency_key::IdempotencyKey;
use crate::metadata;
use crate::peer::Peer;
use crate::priority::Priority;
use crate::runtime;
use crate::trace_context::{self, CallSpan, ServedSpan, TraceIds};

tokio::task_local! {
    static CURRENT: Context;
}

/// How much earlier than its own deadline a call ends the calls that it makes: at most this.
const LONGEST_MARGIN: Duration = Duration::from_millis(5);
/// And at most this part of the time that is left.
const MARGIN_OF_LEFT: u32 = 20;

thread_local! {
    static MAY_BE_GONE: Cell<bool> = const { Cell::new(false) };
}

/// Polls a call whose caller may have gone away. Functions in it that have not ended are told so and run on.
pub(crate) fn while_caller_may_be_gone<T>(poll: impl FnOnce() -> T) -> T {
    /// Resets the flag also after a panic.
    struct Reset;

    impl Drop for Reset {
        fn drop(&mut self) {
            MAY_BE_GONE.set(false);
        }
    }

    MAY_BE_GONE.set(true);
    let _reset = Reset;
    poll()
}

/// Whether the call that is polled here [may have lost its caller](while_caller_may_be_gone).
pub(crate) fn may_caller_be_gone() -> bool {
    MAY_BE_GONE.get()
}

/// The call that a function serves: its metadata, caller, deadline and cancellation.
///
/// There is no context parameter. [`Context::current`] gives the call that the running function serves. It is `None` if the
/// function was called locally. It is valid in everything that the function awaits in its own task, in the body of a stream
/// that the function returns, and in `#[rpc(blocking)]` functions. [`Context::spawn`] carries it into another task.
///
/// ```
/// use byname::{rpc, Context};
///
/// /// Who is calling?
/// #[rpc(readonly)]
/// async fn whoami() -> String {
///     match Context::current() {
///         Some(call) => call.header("x-user").unwrap_or("a stranger").to_owned(),
///         None => "myself".to_owned(),
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(whoami().await, "myself");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Context(Arc<ContextInner>);

#[derive(Debug)]
struct ContextInner {
    method: Arc<str>,
    metadata: HeaderMap,
    extensions: Extensions,
    peer: Option<Arc<Peer>>,
    deadline: Instant,
    priority: Priority,
    /// How far a stream has extended the deadline, in microseconds.
    moved: AtomicI64,
    readonly: bool,
    cancelled: OnceLock<CancellationToken>,
    reply_metadata: OnceLock<Box<Mutex<HeaderMap>>>,
    /// A call that the function made was not repeated because there were too many repetitions.
    is_final: AtomicBool,
    /// Its place in its trace. It is found, or the trace begun, when the first call that needs it is made.
    span: OnceLock<ServedSpan>,
}

impl Context {
    /// The call that is being served; `None` if there is none.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The name that was called.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// The first header of this name; `None` also if its value is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.metadata.get(name)?.to_str().ok()
    }

    /// All headers of the call.
    pub fn metadata(&self) -> &HeaderMap {
        &self.0.metadata
    }

    /// Values that the server's interceptors set, by type. See [`Server::intercept`](crate::Server::intercept). If the
    /// server is [mounted](crate::Server::into_service) in an application, also what its middleware put into the request.
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// Who is at the other end: the caller, or the proxy in front of the server. `None` for a call within the process.
    pub fn peer(&self) -> Option<&Peer> {
        self.0.peer.as_deref()
    }

    /// When the caller stops waiting. Calls that the function makes end before it, by a twentieth of the time that is left
    /// when they are made, and by 5 ms at most. So the function can still handle their errors, and its caller
    /// hears of them. If the function returns or takes a stream, each item extends the deadline to
    /// [`Limits::stream_idle`](crate::Limits::stream_idle) from then on.
    pub fn deadline(&self) -> Instant {
        let moved = self.0.moved.load(Ordering::Relaxed);
        let by = Duration::from_micros(moved.unsigned_abs());
        match moved {
            0.. => later(self.0.deadline, by),
            _ => self.0.deadline.checked_sub(by).unwrap_or(self.0.deadline),
        }
    }

    /// When the calls end that the function makes now.
    pub(crate) fn calls_until(&self, now: Instant) -> Instant {
        let deadline = self.deadline();
        let left = deadline.saturating_duration_since(now);
        deadline.checked_sub(LONGEST_MARGIN.min(left / MARGIN_OF_LEFT)).unwrap_or(deadline)
    }

    /// Which attempt at the call this is: 1, or more if a client has sent the call before and repeats it. Calls that the
    /// function makes while it serves a repetition are not repeated in turn, unless nothing of them was sent. Clients say it
    /// in the header `byname-attempt`.
    pub fn attempt(&self) -> u32 {
        metadata::attempt(&self.0.metadata)
    }

    /// The key with which this call runs once. `None` if its caller sent none. A function whose work is in the database of its
    /// [`KeyStore`](crate::KeyStore) stores its reply by this key, in one transaction with the work.
    pub fn idempotency_key(&self) -> Option<&IdempotencyKey> {
        self.0.extensions.get()
    }

    /// How important this call is. The calls that the function makes inherit it, unless they or the client's
    /// [`Policy`](crate::Policy) say otherwise.
    pub fn priority(&self) -> Priority {
        self.0.priority
    }

    /// A token that is cancelled when the caller goes away or the deadline passes. The function runs on, so that its state
    /// stays consistent. Watch the token to end early. Over HTTP/1 a caller that closes its half of the connection counts as
    /// gone; if it still reads, it gets the result.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.cancelled.get_or_init(CancellationToken::new).clone()
    }

    /// Adds a header to the reply. Callers read it through [`Call::with_metadata`](crate::Call::with_metadata).
    ///
    /// # Errors
    ///
    /// As [`Call::header`](crate::Call::header): `invalid_argument` if the name or the value is not allowed,
    /// `resource_exhausted` if the reply has too many headers or too large ones.
    pub fn reply_header(&self, name: &str, value: &str) -> Result<(), Error> {
        let headers = self.0.reply_metadata.get_or_init(Box::default);
        metadata::append_to_reply(&mut headers.lock().unwrap_or_else(PoisonError::into_inner), name, value)
    }

    /// The `traceparent` for requests that this function makes: the trace of the call, and the span id of the call as the
    /// parent. It stays the same during the call. Calls through a [`Client`](crate::Client) are joined to the trace by
    /// themselves; set it on other requests. If the caller sent no `traceparent`, or one that is not valid
    /// [W3C Trace Context](https://www.w3.org/TR/trace-context/), the trace begins with this call.
    pub fn traceparent(&self) -> String {
        String::from_utf8_lossy(self.span().traceparent().as_bytes()).into_owned()
    }

    /// Spawns a task that is a part of the call that is served now: [`Context::current`] and the span are the same there, and calls
    /// that it makes inherit the deadline, the trace, the priority and the attempt. In a `readonly` function the task ends with the function, if
    /// the caller goes away or the deadline passes: then its handle returns a
    /// [`JoinError`](tokio::task::JoinError) that is cancelled.
    ///
    /// If no call is served, because the function was called locally, this is a plain `tokio::spawn`. The plain
    /// `tokio::spawn` is always detached from the call. Use it for work that goes on after the deadline: a task that is a
    /// part of the call can make no further call then.
    ///
    /// ```
    /// use byname::{Client, Context, Error, Server, rpc};
    ///
    /// #[rpc(readonly)]
    /// async fn price(item: u64) -> u64 { item * 100 }
    ///
    /// #[rpc(readonly)]
    /// async fn total(items: Vec<u64>) -> Result<u64, Error> {
    ///     let prices = Client::local(&Server::new().method::<price>())?;
    ///     let one_each = items.into_iter().map(|item| Context::spawn(price::on(&prices, item)));
    ///     let mut total = 0;
    ///     for task in one_each.collect::<Vec<_>>() {
    ///         total += task.await.unwrap()?;
    ///     }
    ///     Ok(total)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let shop = Client::local(&Server::new().method::<total>())?;
    /// assert_eq!(total::on(&shop, vec![1, 2]).await?, 300);
    /// assert_eq!(total(vec![1, 2]).await?, 300); // called locally
    /// # Ok(()) }
    /// ```
    ///
    /// Outside of tokio the task runs on byname's background thread.
    #[track_caller]
    pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let runtime = runtime::current();
        let future = future.in_current_span();
        let Some(context) = Self::current() else {
            return runtime::spawn_awaited(&runtime, future);
        };
        if !context.is_readonly() {
            return runtime::spawn_awaited(&runtime, CURRENT.scope(context, future));
        }
        let cancelled = context.cancellation().cancelled_owned();
        let (say, abort) = oneshot::channel::<AbortHandle>();
        let ends_with_the_call = async move {
            if let Some(output) = unless(cancelled, future).await {
                return output;
            }
            if let Ok(abort) = abort.await {
                abort.abort();
            }
            // The runtime drops it here.
            pending().await
        };
        let task = runtime::spawn_awaited(&runtime, CURRENT.scope(context, ends_with_the_call));
        // The task may have ended by itself.
        let _ = say.send(task.abort_handle());
        task
    }

    pub(crate) fn new(
        method: Arc<str>,
        metadata: HeaderMap,
        extensions: Extensions,
        peer: Option<Arc<Peer>>,
        deadline: Instant,
        priority: Priority,
        readonly: bool,
    ) -> Self {
        Self(Arc::new(ContextInner {
            method,
            metadata,
            extensions,
            peer,
            deadline,
            priority,
            moved: AtomicI64::new(0),
            readonly,
            cancelled: OnceLock::new(),
            reply_metadata: OnceLock::new(),
            is_final: AtomicBool::new(false),
            span: OnceLock::new(),
        }))
    }

    /// Shares the place of this call in its trace with those who record it.
    pub(crate) fn sharing(self, span: Option<ServedSpan>) -> Self {
        if let Some(span) = span {
            // It is new, so it has none.
            let _ = self.0.span.set(span);
        }
        self
    }

    /// An item was received or sent, so the caller waits longer.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        let base = self.0.deadline;
        let by = |wait: Duration| i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        let moved = match deadline.checked_duration_since(base) {
            Some(later) => by(later),
            None => -by(base.saturating_duration_since(deadline)),
        };
        self.0.moved.store(moved, Ordering::Relaxed);
    }

    /// Where this call is in its trace, by the ids that exist. None is made.
    #[allow(dead_code, reason = "the list of recent calls reads them")]
    pub(crate) fn trace_ids(&self) -> Option<TraceIds> {
        match self.0.span.get().and_then(ServedSpan::get) {
            Some(span) => Some(span.into()),
            None => trace_context::ids(&self.0.metadata),
        }
    }

    /// Where this call is in its trace. The trace begins here if its caller named none.
    pub(crate) fn span(&self) -> CallSpan {
        let span = self.0.span.get_or_init(ServedSpan::default);
        span.get_or_init(|| CallSpan::of_headers(&self.0.metadata, false))
    }

    /// Adds the baggage of this call to the headers of a call that the function makes.
    pub(crate) fn pass_baggage_on(&self, made: &mut HeaderMap) {
        trace_context::pass_baggage_on(&self.0.metadata, made);
    }

    /// Adds the number of this attempt, if it is not the first, to the headers of a call that the function makes.
    pub(crate) fn pass_attempt_on(&self, made: &mut HeaderMap) {
        if let Some(attempt) = self.0.metadata.get(&metadata::ATTEMPT).filter(|_| self.attempt() > 1) {
            made.insert(metadata::ATTEMPT, attempt.clone());
        }
    }

    /// The priority that the calls inherit which the function makes, if it is not the usual one.
    pub(crate) fn inherited_priority(&self) -> Option<Priority> {
        Some(self.0.priority).filter(|priority| *priority != Priority::Normal)
    }

    /// If the function fails now, its caller repeats nothing, whatever error the function makes of the one that it got.
    pub(crate) fn set_final(&self) {
        self.0.is_final.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_final(&self) -> bool {
        self.0.is_final.load(Ordering::Relaxed)
    }

    /// Runs `f` as a part of this call.
    pub(crate) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), f)
    }

    pub(crate) fn cancel(&self) {
        self.cancellation().cancel();
    }

    /// Tells the function if its caller [may have gone away](while_caller_may_be_gone).
    pub(crate) fn cancel_if_caller_may_be_gone(&self) {
        if MAY_BE_GONE.get() {
            self.cancel();
        }
    }

    /// Cancellation reaches the calls that a function makes only if nothing can be left half done.
    pub(crate) fn is_readonly(&self) -> bool {
        self.0.readonly
    }

    /// Whether the function has ever set a header of the reply.
    pub(crate) fn has_reply_metadata(&self) -> bool {
        self.0.reply_metadata.get().is_some()
    }

    pub(crate) fn take_reply_metadata(&self) -> HeaderMap {
        match self.0.reply_metadata.get() {
            Some(headers) => std::mem::take(&mut *headers.lock().unwrap_or_else(PoisonError::into_inner)),
            None => HeaderMap::new(),
        }
    }
}

/// The output of `future`, or `None` if `cancelled` ends before. Then the future is dropped.
async fn unless<F: Future>(cancelled: impl Future<Output = ()>, future: F) -> Option<F::Output> {
    let (mut cancelled, mut future) = (pin!(cancelled), pin!(future));
    poll_fn(|cx| {
        if cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(deadline: Instant) -> Context {
        Context::new("f".into(), HeaderMap::new(), Extensions::new(), None, deadline, Priority::Normal, false)
    }

    #[test]
    fn reading_the_ids_of_a_call_makes_none() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let given = |value: String| HeaderMap::from_iter([("traceparent".parse().unwrap(), value.parse().unwrap())]);
        let context = |metadata| {
            let deadline = Instant::now();
            Context::new("f".into(), metadata, Extensions::new(), None, deadline, Priority::Normal, false)
        };
        let call = context(given(format!("00-{trace}-00000000000000b7-01")));
        let ids = |call: &Context| {
            let TraceIds { trace, span, parent } = call.trace_ids()?;
            Some((trace.to_string(), span.map(|id| id.to_string()), parent.map(|id| id.to_string())))
        };
        let parent = Some("00000000000000b7".to_owned());
        assert_eq!(ids(&call), Some((trace.to_owned(), None, parent.clone())));
        let own = call.traceparent()[36..52].to_owned();
        assert_eq!(ids(&call), Some((trace.to_owned(), Some(own), parent)));
        let call = context(HeaderMap::new());
        assert_eq!(ids(&call), None);
        let begun = call.traceparent();
        assert_eq!(ids(&call), Some((begun[3..35].to_owned(), Some(begun[36..52].to_owned()), None)));
    }

    #[test]
    fn calls_end_before_the_call_that_makes_them() {
        let now = Instant::now();
        for (left, until) in [(30_000, 29_995), (100, 95), (60, 57), (20, 19), (0, 0)] {
            let ms = Duration::from_millis;
            assert_eq!(context(now + ms(left)).calls_until(now), now + ms(until), "{left}");
        }
        let late = now + Duration::from_secs(1);
        assert_eq!(context(now).calls_until(late), now, "it has passed");
    }
}
