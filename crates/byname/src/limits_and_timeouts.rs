//! Every limit and time-out in one place, with its default.

use std::time::Duration;

/// Every limit and time-out, with its default. An error about a limit names the field here that moves it.
///
/// A server and a client each have their own; a field that concerns only one side says so.
///
/// ```
/// use std::time::Duration;
/// use byname::{Client, Server};
///
/// let server = Server::new().limits(|limits| limits.message = 64 << 20);
/// let client = Client::builder("localhost:8080/rpc").limits(|limits| limits.connect = Duration::from_secs(1)).build()?;
/// # Ok::<(), byname::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Client: time to open one connection, all addresses of the name together. 5 s.
    pub connect: Duration,
    /// How long a call may take where neither the call, the client nor `#[rpc(timeout = …)]` says otherwise. On the
    /// server it counts for callers that send no `byname-timeout-ms`. 30 s.
    pub call: Duration,
    /// How long a stream may go without an item once the first has come; on the server also how long its reader may take
    /// none. It then fails with `deadline_exceeded`. Until the first item [`call`](Self::call) counts, or what stands for
    /// it. 5 min.
    pub stream_idle: Duration,
    /// Server: from the first byte of a request to the end of its header, and from accepting a connection to its
    /// first request. 10 s.
    pub header_read: Duration,
    /// Server: from accepting a connection to the end of its TLS handshake, where the server has
    /// [TLS](crate#features). 10 s.
    pub handshake: Duration,
    /// Server: the longest pause between two pieces of a body that is being received. 30 s.
    pub body_progress: Duration,
    /// Server: the longest time that a reply may wait for the client to take any of it. 30 s.
    pub write_progress: Duration,
    /// Server: how long a connection without a call stays open; it is announced as `keep-alive: timeout=…`. 75 s.
    pub idle: Duration,
    /// Client: how long a connection without a call is kept. Less where the server announces less; at most 4 s where
    /// it announces nothing and is no byname. 60 s.
    pub pool_idle: Duration,
    /// Client: the age at which another connection replaces one, so that calls reach servers that were added later. It is
    /// random for each connection, up to a fifth more or less. Calls in flight end on the old connection. Over HTTP a
    /// connection is closed after the call during which it reached this age. 10 min.
    pub connection_age: Duration,
    /// Server: how long calls are served as before once the server is told to stop, while `!ready` is answered 503. Only
    /// then the listener closes and the drain begins. For orchestrators and balancers that go on sending connections
    /// until they have seen it; `docs/guide/deploying.md` says which. 0 s.
    pub drain_delay: Duration,
    /// Server: how long calls in flight may take to end once the drain has begun, and their connections with them. A peer that doesn't close a connection that has ended is waited for half a second of it at most. 30 s.
    pub drain: Duration,
    /// The largest request and the largest reply, in bytes of the body; the replies of a batch count together. 4 MiB.
    pub message: usize,
    /// Server: how deep arrays and objects may be nested in a request: 128, which is also the most it can be.
    pub nesting: usize,
    /// Server: how many requests one batch of JSON-RPC may have, notifications included; a larger one is refused as a
    /// whole. Each of them counts as one call by every other limit. 100.
    pub batch: usize,
    /// Server: the size of a request's header in bytes, first line included, and of the headers that a call by frames or
    /// within the process has. 64 KiB. A client sends at most 32 KiB of headers on a call.
    pub header: usize,
    /// Client: connections to one host, kept alive or in use. 128.
    pub connections: usize,
    /// Client: calls to one host that may wait for a connection. 65,536.
    pub waiting: usize,
    /// Client: how long a connection may wait for the reply of a call that was dropped or timed out, so that it can be
    /// used again; then it is closed. 5 s.
    pub abandoned: Duration,
    /// Server: functions running at once, over all connections; more are refused with `resource_exhausted`, not
    /// executed. Calls of a low [`Priority`](crate::Priority) are refused sooner. 10,000.
    pub in_flight: usize,
    /// Server: how long calls may wait for a thread while there are more than its threads can run. A server notices that when calls
    /// wait for ten times as long and have waited for longer than this for a tenth of a second. Then it refuses as many as it
    /// can't run, with `resource_exhausted`, not executed. [`Duration::MAX`] refuses none. 5 ms; in a build without optimization,
    /// where everything takes longer, 100 ms.
    pub queue_delay: Duration,
    /// Server: how long the reply of a call with an [`idempotency_key`](crate::Call::idempotency_key) is kept after its end, in
    /// the memory of the server. A duplicate that comes later runs again. 10 min.
    pub key_window: Duration,
    /// Server: how many bytes these keys and replies may take together. A call with another key is refused then with
    /// `resource_exhausted`, not executed. 64 MiB.
    pub key_bytes: usize,
    /// Server: how long a function may keep its thread in one go before a warning names it, once, and another thread is
    /// woken to go on with other calls. `docs/reliability.md` says which. 100 ms.
    pub slow_poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(30),
            stream_idle: Duration::from_secs(300),
            header_read: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            body_progress: Duration::from_secs(30),
            write_progress: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            pool_idle: Duration::from_secs(60),
            connection_age: Duration::from_secs(600),
            drain_delay: Duration::ZERO,
            drain: Duration::from_secs(30),
            message: 4 << 20,
            nesting: 128,
            batch: 100,
            header: 64 << 10,
            connections: 128,
            waiting: 65_536,
            abandoned: Duration::from_secs(5),
            in_flight: 10_000,
            queue_delay: Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 5 }),
            key_window: Duration::from_secs(600),
            key_bytes: 64 << 20,
            slow_poll: Duration::from_millis(100),
        }
    }
}

impl Limits {
    /// The names of the fields that differ and that no running server can change.
    pub(crate) fn fixed_fields_that_differ(&self, other: &Self) -> Vec<String> {
        let Self { in_flight, queue_delay, drain, drain_delay, .. } = *other;
        let now = Self { in_flight, queue_delay, drain, drain_delay, ..self.clone() };
        let fields = |limits: &Self| format!("{limits:#?}").lines().map(str::to_owned).collect::<Vec<_>>();
        let differing = std::iter::zip(fields(&now), fields(other)).filter(|(now, other)| now != other);
        differing.filter_map(|(now, _)| Some(now.trim().split_once(':')?.0.to_owned())).collect()
    }

    /// The limits of a server, for people: the fields with their values.
    pub(crate) fn of_server(&self) -> Vec<(String, String)> {
        const OF_CLIENTS: [&str; 6] = ["abandoned", "connect", "connection_age", "connections", "pool_idle", "waiting"];
        let written = format!("{self:#?}");
        let fields = written.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
        let of_server = fields.filter(|(name, _)| !OF_CLIENTS.contains(name));
        of_server.map(|(name, value)| (format!("Limits::{name}"), value.to_owned())).collect()
    }

    /// The age at which another connection replaces one. `jitter` is random, from 0 to 1.
    pub(crate) fn jittered_connection_age(&self, jitter: f64) -> Duration {
        let fifth = self.connection_age / 5;
        (self.connection_age - fifth).saturating_add((fifth * 2).mul_f64(jitter))
    }
}

/// A field of [`Limits`] that an error is about.
///
/// On the wire it is a name, because another version of byname may have limits that this one does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Batch,
    BodyProgress,
    Call,
    Connect,
    Connections,
    Drain,
    Header,
    InFlight,
    KeyBytes,
    Message,
    Nesting,
    QueueDelay,
    StreamIdle,
    Waiting,
}

impl Limit {
    /// The name of the field.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Limit::Batch => "batch",
            Limit::BodyProgress => "body_progress",
            Limit::Call => "call",
            Limit::Connect => "connect",
            Limit::Connections => "connections",
            Limit::Drain => "drain",
            Limit::Header => "header",
            Limit::InFlight => "in_flight",
            Limit::KeyBytes => "key_bytes",
            Limit::Message => "message",
            Limit::Nesting => "nesting",
            Limit::QueueDelay => "queue_delay",
            Limit::StreamIdle => "stream_idle",
            Limit::Waiting => "waiting",
        }
    }
}

/// A size, as messages have it.
pub(crate) fn in_bytes(size: usize) -> String {
    if size == 1 { "1 byte".to_owned() } else { format!("{size} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_no_plural() {
        assert_eq!([0, 1, 2].map(in_bytes), ["0 bytes", "1 byte", "2 bytes"]);
    }

    #[test]
    fn the_age_of_connections_differs_by_a_fifth() {
        let mut limits = Limits::default();
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let ages = [0.0, 0.5, 1.0].map(|jitter| limits.jittered_connection_age(jitter));
        assert_eq!(ages, [minutes(8), minutes(10), minutes(12)]);
        limits.connection_age = Duration::MAX;
        assert_eq!(limits.jittered_connection_age(1.0), Duration::MAX);
        limits.connection_age = Duration::ZERO;
        assert_eq!(limits.jittered_connection_age(1.0), Duration::ZERO);
    }

    #[test]
    fn the_fields_that_differ_are_named() {
        let (start, mut other) = (Limits::default(), Limits::default());
        (other.in_flight, other.drain, other.drain_delay) = (1, Duration::ZERO, Duration::MAX);
        assert_eq!(start.fixed_fields_that_differ(&other), [""; 0]);
        (other.message, other.connect) = (1, Duration::ZERO);
        assert_eq!(start.fixed_fields_that_differ(&other), ["connect", "message"]);
    }

    #[test]
    fn each_limit_of_an_error_is_a_field() {
        let fields = format!("{:?}", Limits::default());
        for limit in [
            Limit::Batch,
            Limit::BodyProgress,
            Limit::Call,
            Limit::Connect,
            Limit::Connections,
            Limit::Drain,
            Limit::Header,
            Limit::InFlight,
            Limit::KeyBytes,
            Limit::Message,
            Limit::Nesting,
            Limit::QueueDelay,
            Limit::StreamIdle,
            Limit::Waiting,
        ] {
            let field = format!(" {}: ", limit.as_str());
            assert!(fields.contains(&field), "{limit:?} is no field of {fields}");
        }
    }
}
