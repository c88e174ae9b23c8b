//! What a function can know of the call that it serves: [`Context`].

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::deadline::later;
use crate::error::Error;
use crate::metadata;
use crate::trace_context;

tokio::task_local! {
    static CURRENT: Context;
}

thread_local! {
    static MAY_BE_GONE: Cell<bool> = const { Cell::new(false) };
}

/// Polls a call whose caller may have gone. The functions in it that are not done are told, and run on.
pub(crate) fn while_caller_may_be_gone<T>(poll: impl FnOnce() -> T) -> T {
    /// A panic must not leave it set.
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

/// The call that a function serves: its metadata, caller, deadline and cancellation.
///
/// There is no context parameter. [`Context::current`] is the call of the running function, `None` when the function is
/// called locally. It holds in everything the function awaits in its own task, in the body of a stream that it returns, and in
/// `#[rpc(blocking)]` functions;
/// [`Context::spawn`] carries it into another task.
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
    peer: Option<SocketAddr>,
    deadline: Instant,
    /// By how many microseconds a stream has moved the deadline.
    moved: AtomicI64,
    readonly: bool,
    cancelled: OnceLock<CancellationToken>,
    reply_metadata: OnceLock<Mutex<HeaderMap>>,
    /// What its trace knows it by, once it says so to others.
    span: OnceLock<u64>,
}

impl Context {
    /// The call that is being served, if one is.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The name that was called.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// One header of the call, or the first of its name; `None` too where it isn't text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.metadata.get(name)?.to_str().ok()
    }

    /// All headers of the call.
    pub fn metadata(&self) -> &HeaderMap {
        &self.0.metadata
    }

    /// What the server's interceptors found out about the call, by type; see
    /// [`Server::intercept`](crate::Server::intercept).
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// The address of the caller, or of the proxy before it; `None` in a call within the process.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// When the caller stops waiting. Calls made meanwhile inherit it. Where a stream is returned or taken, each item
    /// moves it to [`Limits::stream_idle`](crate::Limits::stream_idle) from then.
    pub fn deadline(&self) -> Instant {
        let moved = self.0.moved.load(Ordering::Relaxed);
        let by = Duration::from_micros(moved.unsigned_abs());
        match moved {
            0.. => later(self.0.deadline, by),
            _ => self.0.deadline.checked_sub(by).unwrap_or(self.0.deadline),
        }
    }

    /// A token that is cancelled when the caller went away or its deadline passed. The function runs on all the
    /// same, so that its state stays whole; watch the token to end early. Over HTTP/1 a caller that closed its half of the
    /// connection counts as one that went away; should it still read, it gets what the function returns.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.cancelled.get_or_init(CancellationToken::new).clone()
    }

    /// Adds a header to the reply. Callers read it through [`Call::with_metadata`](crate::Call::with_metadata).
    ///
    /// # Errors
    ///
    /// As [`Call::header`](crate::Call::header): `invalid_argument` when name or value can't stand in a header,
    /// `resource_exhausted` when the headers of the reply are too many or too large.
    pub fn reply_header(&self, name: &str, value: &str) -> Result<(), Error> {
        let headers = self.0.reply_metadata.get_or_init(Mutex::default);
        metadata::append_to_reply(&mut headers.lock().unwrap_or_else(PoisonError::into_inner), name, value)
    }

    /// The `traceparent` of what is done to serve this call: its caller's trace, with an id of this call's own for the
    /// parent, always the same. Calls through a [`Client`](crate::Client) bear it by themselves; set it on requests that
    /// are made in other ways. `None` where the caller named no trace, or not as
    /// [W3C Trace Context](https://www.w3.org/TR/trace-context/) has it.
    pub fn traceparent(&self) -> Option<String> {
        let value = trace_context::traceparent(&self.0.metadata, || self.span())?;
        value.to_str().ok().map(str::to_owned)
    }

    /// Spawns a task that serves the same call: [`Context::current`] is this one in it. A plain `tokio::spawn` is
    /// detached from the call on purpose.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(CURRENT.scope(self.clone(), future))
    }

    pub(crate) fn new(
        method: Arc<str>,
        metadata: HeaderMap,
        extensions: Extensions,
        peer: Option<SocketAddr>,
        deadline: Instant,
        readonly: bool,
    ) -> Self {
        Self(Arc::new(ContextInner {
            method,
            metadata,
            extensions,
            peer,
            deadline,
            moved: AtomicI64::new(0),
            readonly,
            cancelled: OnceLock::new(),
            reply_metadata: OnceLock::new(),
            span: OnceLock::new(),
        }))
    }

    /// An item has come or gone: the caller goes on waiting.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        let base = self.0.deadline;
        let by = |wait: Duration| i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        let moved = match deadline.checked_duration_since(base) {
            Some(later) => by(later),
            None => -by(base.saturating_duration_since(deadline)),
        };
        self.0.moved.store(moved, Ordering::Relaxed);
    }

    /// Puts the trace that this call belongs to, if any, among the headers of a call that it makes.
    pub(crate) fn pass_trace_on(&self, made: &mut HeaderMap) {
        trace_context::pass_on(&self.0.metadata, || self.span(), made);
    }

    fn span(&self) -> u64 {
        *self.0.span.get_or_init(trace_context::new_span)
    }

    /// Runs `f` as part of this call.
    pub(crate) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), f)
    }

    pub(crate) fn cancel(&self) {
        self.cancellation().cancel();
    }

    /// Tells the function, if what is polled now [may have no caller](while_caller_may_be_gone) any more.
    pub(crate) fn cancel_if_caller_may_be_gone(&self) {
        if MAY_BE_GONE.get() {
            self.cancel();
        }
    }

    /// Cancellation reaches the calls that a function makes only where nothing can be left half done.
    pub(crate) fn is_readonly(&self) -> bool {
        self.0.readonly
    }

    pub(crate) fn take_reply_metadata(&self) -> HeaderMap {
        match self.0.reply_metadata.get() {
            Some(headers) => std::mem::take(&mut *headers.lock().unwrap_or_else(PoisonError::into_inner)),
            None => HeaderMap::new(),
        }
    }
}
