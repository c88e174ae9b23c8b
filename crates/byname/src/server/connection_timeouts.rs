//! A socket that measures how long its peer is quiet, and that closes connections gracefully.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tracing::debug;

use super::end_reason::EndReason;
use crate::deadline::{DeadlineTimer, later};
use crate::limits_and_timeouts::Limits;
use crate::peer::Peer;
use crate::transport::TransportStream;

/// The running calls of one connection. The service counts them and the socket reads the count.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    working: AtomicUsize,
    /// Whether a call has ended since the socket last looked.
    ended: AtomicBool,
    /// Whether many calls share the connection (HTTP/2). Then writes to the socket say nothing about one reply.
    is_shared: bool,
    /// Replies that wait to be taken, by the half of the [period](SocketTimeouts::replies_stall) that they last progressed in.
    replies: [AtomicUsize; 2],
    half: AtomicUsize,
    /// Whether a reply has said that the connection ends with it.
    announced: AtomicBool,
    /// Why the server closes this connection, once it does.
    parting: OnceLock<EndReason>,
    /// Whether the body of the current request was not read to its end, and will not be.
    unread: AtomicBool,
    /// The peer has closed its half: it sends nothing more, and may still read.
    half_closed: AtomicBool,
}

/// A running call. Dropping it ends it.
#[derive(Debug)]
pub(super) struct CallGuard {
    activity: Arc<ConnectionActivity>,
    /// Where it is counted among the replies, after it has one.
    reply: Option<usize>,
}

impl ConnectionActivity {
    pub(super) fn new(is_shared: bool) -> Self {
        Self {
            working: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            parting: OnceLock::new(),
            unread: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            is_shared,
            replies: Default::default(),
            half: AtomicUsize::new(0),
        }
    }

    pub(super) fn begin(self: &Arc<Self>) -> CallGuard {
        self.working.fetch_add(1, Ordering::Relaxed);
        CallGuard { activity: Arc::clone(self), reply: None }
    }

    fn has_replies(&self) -> bool {
        self.replies.iter().any(|replies| replies.load(Ordering::Relaxed) > 0)
    }

    /// Begins the next half of a period. Returns whether a reply has waited since before the last half began.
    fn next_half(&self) -> bool {
        let next = 1 - self.half.load(Ordering::Relaxed);
        let stalled = self.replies[next].load(Ordering::Relaxed) > 0;
        self.half.store(next, Ordering::Relaxed);
        stalled
    }

    fn is_idle(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0
    }

    /// The reply that is sent now says that the connection ends with it.
    pub(super) fn announce_end(&self) {
        self.announced.store(true, Ordering::Relaxed);
    }

    /// From now on no further call is read.
    pub(super) fn part(&self, why: EndReason) {
        let _ = self.parting.set(why);
    }

    pub(super) fn is_parting(&self) -> bool {
        self.parting.get().is_some()
    }

    /// The rest of a request's body is not read, so no other request can be found after it.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_left_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Whether an HTTP/1 peer has closed its half during a call. It may be gone, or it may wait for its answer.
    pub(super) fn is_half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Relaxed)
    }

    pub(super) fn close_half(&self) {
        self.half_closed.store(true, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) && self.ended.swap(false, Ordering::Relaxed)
    }
}

impl CallGuard {
    /// Whether other calls run on the same connection.
    pub(super) fn is_one_of_many(&self) -> bool {
        self.activity.is_shared
    }

    /// There is a reply, or the client has read a piece of it.
    pub(super) fn has_progressed(&mut self) {
        if self.activity.is_shared {
            let half = self.activity.half.load(Ordering::Relaxed);
            self.activity.replies[half].fetch_add(1, Ordering::Relaxed);
            self.takes_no_more();
            self.reply = Some(half);
        }
    }

    /// The client has read all available pieces of the reply.
    pub(super) fn takes_no_more(&mut self) {
        if let Some(half) = self.reply.take() {
            self.activity.replies[half].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.takes_no_more();
        self.activity.ended.store(true, Ordering::Relaxed);
        self.activity.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a connection is read from after its end was sent: what crossed it on the way is to meet an open socket, for
/// the reset of a closed one can destroy what the peer has not read yet.
const LINGER: Duration = Duration::from_millis(500);

/// How long at most, where more comes all the time: the rest of a body that was refused.
const LONGEST_LINGER: Duration = Duration::from_secs(5);

/// The answer on an HTTP/1 connection whose peer does not know that it ends. A call that is on its way did not run, and
/// no later call will. HTTP defines 408 for a request that arrives after the server has given up waiting.
fn goodbye(why: EndReason) -> Vec<u8> {
    not_waited_for(match why {
        EndReason::CertificateExpired => {
            r#"{"err":{"code":"unavailable","message":"the certificate of the client has expired, so the server had closed this connection before the call came; it was not run","executed":"no","kind":"rpc"}}"#
        }
        EndReason::ServerStops | EndReason::Idle => {
            r#"{"err":{"code":"unavailable","message":"the server is stopping and had closed this connection before the call came; it was not run","executed":"no","kind":"rpc"}}"#
        }
    })
}

/// How long the server waits at the end of a connection, within its limit for the whole drain.
pub(super) fn linger(limits: &Limits) -> Duration {
    LINGER.min(limits.drain / 4)
}

/// A socket that ends with an error if its peer is idle for too long, sends a header too slowly, or does not read what
/// is written. The service watches the pauses within a body.
pub(super) struct TimedSocket {
    stream: TransportStream,
    /// Bytes that were read before the HTTP version was known.
    early: Bytes,
    peer: Arc<Peer>,
    activity: Arc<ConnectionActivity>,
    quiet: SocketTimeouts,
    reading: DeadlineTimer,
    writing: DeadlineTimer,
    replying: DeadlineTimer,
    /// How long to wait for the peer at the end, and the maximum if more bytes keep coming.
    linger: (Duration, Duration),
    /// Whether the peer sends nothing more.
    has_end: bool,
    parting: Option<LingeringClose>,
}

/// The end of a connection that this side closes: send the goodbye if the peer needs one, close our half, and ignore
/// what still comes.
#[derive(Debug)]
struct LingeringClose {
    goodbye: Bytes,
    is_half_closed: bool,
    /// The deadline for the next bytes.
    next: Instant,
    until: Instant,
}

/// How long nothing has happened, and what should have happened. It has no clock of its own.
#[derive(Debug)]
struct SocketTimeouts {
    limits: SocketTimeoutLimits,
    /// Only HTTP/1 has headers that can be slow. Between two frames of HTTP/2 a connection is idle.
    has_headers: bool,
    /// When the first byte of a header came, while no call was running.
    header_since: Option<Instant>,
    /// When something last happened: on HTTP/1 any byte, on HTTP/2 a call, because its peer answers pings forever.
    last: Instant,
    write_blocked_since: Option<Instant>,
    /// When the current half of the period began in which replies are counted, while there are any.
    half_since: Option<Instant>,
}

#[derive(Debug)]
struct SocketTimeoutLimits {
    idle: Duration,
    header_read: Duration,
    write_progress: Duration,
}

impl SocketTimeouts {
    fn new(limits: &Limits, has_headers: bool, now: Instant) -> Self {
        let limits = SocketTimeoutLimits {
            idle: limits.idle,
            header_read: limits.header_read,
            write_progress: limits.write_progress,
        };
        Self { limits, has_headers, header_since: None, last: now, write_blocked_since: None, half_since: None }
    }

    fn has_read(&mut self, working: bool, now: Instant) {
        if self.has_headers {
            self.last = now;
            if !working {
                self.header_since.get_or_insert(now);
            }
        }
    }

    fn has_written(&mut self, now: Instant) {
        self.write_blocked_since = None;
        if self.has_headers {
            self.last = now;
            // A reply was sent, so the next byte begins a header.
            self.header_since = None;
        }
    }

    fn has_called(&mut self, now: Instant) {
        self.last = now;
    }

    /// When to give up reading, and the limit that says so. While a call runs, or the rest of its answer waits to be
    /// read, there is no read deadline.
    fn read_deadline(&self, working: bool) -> Option<(Instant, &'static str)> {
        let answering = self.has_headers && self.write_blocked_since.is_some();
        match self.header_since {
            _ if working || answering => None,
            Some(since) => Some((later(since, self.limits.header_read), "header_read")),
            None => Some((later(self.last, self.limits.idle), "idle")),
        }
    }

    /// When to check whether an HTTP/2 reply has waited too long: its stream may have no window while other streams are
    /// busy. Each reply has at least one `Limits::write_progress` and at most two.
    fn replies_stall(&mut self, are_any: bool, now: Instant) -> Option<Instant> {
        if self.has_headers || !are_any {
            self.half_since = None;
            return None;
        }
        Some(later(*self.half_since.get_or_insert(now), self.limits.write_progress))
    }

    fn write_deadline(&mut self, now: Instant) -> Instant {
        later(*self.write_blocked_since.get_or_insert(now), self.limits.write_progress)
    }
}

impl TimedSocket {
    pub(super) fn new(
        stream: TransportStream,
        early: Bytes,
        peer: Arc<Peer>,
        activity: Arc<ConnectionActivity>,
        limits: &Limits,
        has_headers: bool,
    ) -> Self {
        let quiet = SocketTimeouts::new(limits, has_headers, Instant::now());
        Self {
            stream,
            early,
            peer,
            activity,
            quiet,
            reading: DeadlineTimer::default(),
            writing: DeadlineTimer::default(),
            replying: DeadlineTimer::default(),
            linger: (linger(limits), LONGEST_LINGER.min(limits.drain / 4)),
            has_end: false,
            parting: None,
        }
    }

    /// The socket, and the bytes that were read from it before.
    pub(super) fn into_inner(self) -> (TransportStream, Bytes) {
        (self.stream, self.early)
    }

    /// Closes the connection to a peer that has sent no request before the server stopped.
    pub(super) async fn part(self) {
        self.activity.part(EndReason::ServerStops);
        self.close().await;
    }

    /// Closes the connection. What was written before is not lost.
    pub(super) async fn close(mut self) {
        // On any error here, the peer is gone.
        let _ = poll_fn(|cx| Pin::new(&mut self).poll_shutdown(cx)).await;
    }

    /// Checks whether the peer of a running call has closed its half, or is gone, which is an error.
    fn look_for_the_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.early.is_empty()
            && let Poll::Ready(has_more) = self.stream.poll_has_more(cx)
            && !has_more?
        {
            self.has_end = true;
            self.activity.close_half();
            // The call checks this when it is polled.
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Whether a reply has waited too long to be read.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(half_ends) = self.quiet.replies_stall(self.activity.has_replies(), Instant::now()) {
            ready!(self.replying.poll_at(cx, half_ends));
            if self.activity.next_half() {
                return Poll::Ready(());
            }
            self.quiet.half_since = None;
        }
        Poll::Pending
    }

    fn give_up(&mut self, limit: &str) -> io::Error {
        debug!(peer = %self.peer, "closed a connection that was too quiet (`Limits::{limit}`)");
        if limit == "header_read" {
            // Nothing else is written between two calls, so this can't be inside another reply.
            let body = r#"{"err":{"code":"deadline_exceeded","message":"the header was too slow (`Limits::header_read` of the server)","executed":"no","kind":"rpc","limit":"header_read"}}"#;
            self.stream.write_last_words(&not_waited_for(body));
        }
        io::Error::new(io::ErrorKind::TimedOut, format!("`Limits::{limit}`"))
    }

    /// Whether the peer may still expect that this connection accepts another call.
    fn needs_goodbye(&self) -> bool {
        // HTTP/2 has its own goodbye, which says up to which call the server answers.
        self.quiet.has_headers && !self.activity.announced.load(Ordering::Relaxed)
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let told = self.activity.parting.get().copied();
        let goodbye_for = told.filter(|_| self.needs_goodbye());
        let (linger, longest) = self.linger;
        let parting = self.parting.get_or_insert_with(|| {
            let now = Instant::now();
            LingeringClose {
                goodbye: goodbye_for.map(goodbye).unwrap_or_default().into(),
                is_half_closed: false,
                next: later(now, linger),
                until: later(now, if told.is_some() { linger } else { longest }),
            }
        });
        match parting.poll(&mut self.stream, linger, cx) {
            Poll::Pending => self.writing.poll_at(cx, parting.next.min(parting.until)).map(Ok),
            ended => ended,
        }
    }
}

impl LingeringClose {
    /// Ready when the peer has closed as well. After this has begun, no call is read, so the goodbye is true.
    fn poll(&mut self, stream: &mut TransportStream, linger: Duration, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.goodbye.is_empty() {
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, &self.goodbye))?;
            self.goodbye.advance(count);
        }
        if !self.is_half_closed {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.is_half_closed = true;
        }
        let mut unread = [0; 4096];
        loop {
            let mut unread = ReadBuf::new(&mut unread);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut unread))?;
            if unread.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            if now >= self.until {
                return Poll::Ready(Ok(()));
            }
            self.next = later(now, linger);
        }
    }
}

/// An answer without a request. No call ran.
fn not_waited_for(body: &str) -> Vec<u8> {
    last_answer("408 Request Timeout", body)
}

/// An answer after which the connection ends.
pub(super) fn last_answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = "connection: close\r\nbyname-protocol: 1\r\ncontent-type: application/json";
    format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

impl AsyncRead for TimedSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.early.is_empty() {
            let count = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early[..count]);
            this.early.advance(count);
            this.quiet.has_read(!this.activity.is_idle(), Instant::now());
            return Poll::Ready(Ok(()));
        }
        let working = !this.activity.is_idle();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Pending => {}
            ready => {
                this.has_end = buf.filled().len() == before;
                this.quiet.has_read(working, Instant::now());
                return ready;
            }
        }
        if !this.quiet.has_headers && (working || this.activity.has_ended()) {
            this.quiet.has_called(Instant::now());
        }
        if !this.quiet.has_headers && this.poll_stalled(cx).is_ready() {
            return Poll::Ready(Err(this.give_up("write_progress")));
        }
        match this.quiet.read_deadline(working) {
            Some((deadline, limit)) if this.reading.poll_in_one_task(cx, deadline).is_ready() => {
                Poll::Ready(Err(this.give_up(limit)))
            }
            _ => Poll::Pending,
        }
    }
}

impl TimedSocket {
    /// After a slow answer, hyper reads only when bytes have come, so its read does not start the wait for the next
    /// call. This does.
    fn wait_for_the_next(&mut self, cx: &mut Context<'_>) {
        if self.quiet.has_headers
            && let Some((deadline, _)) = self.quiet.read_deadline(!self.activity.is_idle())
            && self.reading.poll_in_one_task(cx, deadline).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }

    fn after_write<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.quiet.has_written(Instant::now());
            self.wait_for_the_next(cx);
            return polled;
        }
        let deadline = self.quiet.write_deadline(Instant::now());
        match self.writing.poll_at(cx, deadline) {
            Poll::Ready(()) => Poll::Ready(Err(self.give_up("write_progress"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for TimedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.after_write(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.after_write(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes whenever it is polled, and reads nothing while a call runs.
        if self.quiet.has_headers && !self.has_end && !self.activity.is_idle() {
            self.look_for_the_end(cx)?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // HTTP/2 says itself up to which call it answers. A peer that has closed its half sends no call that could
        // cross the end.
        if self.activity.is_parting() || self.quiet.has_headers && !self.has_end {
            return self.poll_part(cx);
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_until_a_header_begins() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let mut quiet = SocketTimeouts::new(&Limits::default(), true, now);
        assert_eq!(quiet.read_deadline(false), Some((now + s(75), "idle")));
        quiet.has_read(false, now + s(5));
        quiet.has_read(false, now + s(9));
        assert_eq!(quiet.read_deadline(false), Some((now + s(15), "header_read")), "a second piece gives no more time");
        assert_eq!(quiet.read_deadline(true), None, "the call's own deadline counts now");
        quiet.has_written(now + s(20));
        assert_eq!(quiet.read_deadline(false), Some((now + s(95), "idle")));
    }

    #[test]
    fn pings_keep_no_connection() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let mut quiet = SocketTimeouts::new(&Limits::default(), false, now);
        quiet.has_called(now + s(10));
        for ping in [20, 40, 60, 80] {
            quiet.has_written(now + s(ping));
            quiet.has_read(false, now + s(ping));
        }
        assert_eq!(quiet.read_deadline(false), Some((now + s(85), "idle")));
    }

    #[test]
    fn writing_must_progress() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let mut quiet = SocketTimeouts::new(&Limits::default(), true, now);
        assert_eq!(quiet.write_deadline(now), now + s(30));
        assert_eq!(quiet.write_deadline(now + s(7)), now + s(30));
        assert_eq!(quiet.read_deadline(false), None, "the next call can't come before");
        quiet.has_written(now + s(8));
        assert_eq!(quiet.read_deadline(false), Some((now + s(83), "idle")));
        assert_eq!(quiet.write_deadline(now + s(9)), now + s(39));
    }
}
