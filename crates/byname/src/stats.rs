//! What was counted of calls, for programs and people: [`ServerStats`], [`ClientStats`].

mod open_metrics;
mod stats_json;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub(crate) use self::open_metrics::{MetricsFormat, open_metrics};
pub(crate) use self::stats_json::{ShownCalls, ShownClient, ShownReplica, stats_json};
use crate::error::Code;
use crate::function_counters::{CountedDurations, CountedFunction, bucket_end};

/// What a server has counted since its start: [`ServerHandle::stats`](crate::ServerHandle::stats). `GET /rpc/!metrics` has the same for
/// Prometheus, and `GET /rpc/!stats` as JSON.
///
/// The counters only grow. For a rate, subtract two of them.
#[derive(Clone)]
#[non_exhaustive]
pub struct ServerStats {
    /// The random number of the server. Another one has begun to count anew.
    pub instance: String,
    /// How long it has counted.
    pub uptime: Duration,
    /// Each function, in the order of registration.
    pub functions: Vec<FunctionStats>,
    /// The calls of names that no function has, under the name `_OTHER`, and those that were refused before their name was read.
    pub other: FunctionStats,
    /// Calls that are in flight now, as [`Limits::in_flight`](crate::Limits::in_flight) counts them, without those that ask about the
    /// server itself, such as `!stats`.
    pub in_flight: usize,
    /// [`Limits::in_flight`](crate::Limits::in_flight), as it is now.
    pub in_flight_limit: usize,
    /// How long a call waits for a thread now, as [`Limits::queue_delay`](crate::Limits::queue_delay) measures it. Zero while no calls
    /// come.
    pub queue_delay: Duration,
    /// Connections that are open now. 0 for a server that is mounted in another.
    pub connections: usize,
    /// All connections that were accepted.
    pub connections_accepted: u64,
    /// Whether the server is stopping.
    pub draining: bool,
}

/// What a client has counted since it was made: [`Client::stats`](crate::Client::stats). All handles of a client count together.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientStats {
    /// The URL of the service.
    pub url: String,
    /// Each function that was called, by name. A function that is called by a name the service does not know counts as `_OTHER`, and so
    /// does each name beyond the first 1,000.
    pub functions: Vec<FunctionStats>,
    /// Calls that wait now, until a connection is free or until the server accepts more at once.
    pub waiting: usize,
    /// Connections that are open now.
    pub connections: usize,
    /// All connections that were opened.
    pub connections_opened: u64,
}

/// What was counted of the calls of one function.
#[derive(Clone)]
#[non_exhaustive]
pub struct FunctionStats {
    /// Its registered name.
    pub name: Cow<'static, str>,
    /// Calls that have ended, with success or not. A stream ends with its last item.
    pub calls: u64,
    /// Calls that have not ended. At a server: functions that run, also of callers that are gone.
    pub in_flight: u64,
    /// Calls that failed, by code. Only codes that occurred. `cancelled` also counts calls whose caller went away.
    pub errors: Vec<(Code, u64)>,
    /// Calls that were refused because there were too many. They are among the errors.
    pub shed: u64,
    /// The bytes of requests, with the items of the streams that callers send. At a server as the access log has them in `request_bytes`; at
    /// a client the arguments, without headers.
    pub request_bytes: u64,
    /// The bytes of replies, and of the items of streams.
    pub response_bytes: u64,
    /// The items of streams that callers sent.
    pub items_received: u64,
    /// The items of streams that were returned.
    pub items_sent: u64,
    /// Attempts after the first. At a client.
    pub retries: u64,
    /// Calls that were sent to a second replica beside the first. At a client.
    pub hedges: u64,
    /// How long the calls took together.
    pub duration: Duration,
    counted: CountedFunction,
}

/// A document about what was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountedDocument {
    /// As JSON.
    Stats,
    /// In the text format of OpenMetrics.
    Metrics,
}

impl fmt::Debug for ServerStats {
    /// Short enough for a log: functions that were not called are one number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stats = f.debug_struct("ServerStats");
        stats.field("instance", &self.instance).field("uptime", &self.uptime);
        stats.field("in_flight", &format_args!("{} of {}", self.in_flight, self.in_flight_limit));
        if !self.queue_delay.is_zero() {
            stats.field("queue_delay", &self.queue_delay);
        }
        stats.field("connections", &format_args!("{} of {}", self.connections, self.connections_accepted));
        if self.draining {
            stats.field("draining", &true);
        }
        CalledFunctions(&self.functions).put_into(&mut stats);
        if self.other.is_called() {
            stats.field("other", &self.other);
        }
        stats.finish()
    }
}

impl fmt::Debug for ClientStats {
    /// Short enough for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stats = f.debug_struct("ClientStats");
        stats.field("url", &self.url);
        if self.waiting > 0 {
            stats.field("waiting", &self.waiting);
        }
        stats.field("connections", &format_args!("{} of {}", self.connections, self.connections_opened));
        CalledFunctions(&self.functions).put_into(&mut stats);
        stats.finish()
    }
}

impl fmt::Debug for FunctionStats {
    /// On one line: figures that are 0 are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, calls, in_flight, errors, shed, request_bytes, response_bytes, .. } = self;
        write!(f, "{name} {{ calls: {calls}")?;
        for (code, count) in errors {
            write!(f, ", {code}: {count}")?;
        }
        for (label, share) in [("p50", 0.5), ("p99", 0.99)].into_iter().filter(|_| *calls > 0) {
            match self.percentile(share) {
                Some(time) => write!(f, ", {label}: {time:?}")?,
                None => write!(f, ", {label}: above 67s")?,
            }
        }
        for (label, count) in [
            ("in_flight", in_flight),
            ("shed", shed),
            ("retries", &self.retries),
            ("hedges", &self.hedges),
            ("request_bytes", request_bytes),
            ("response_bytes", response_bytes),
            ("items_received", &self.items_received),
            ("items_sent", &self.items_sent),
        ] {
            if *count > 0 {
                write!(f, ", {label}: {count}")?;
            }
        }
        f.write_str(" }")
    }
}

/// The functions of a server or of a client, as `Debug` shows them.
struct CalledFunctions<'s>(&'s [FunctionStats]);

impl CalledFunctions<'_> {
    fn put_into(&self, stats: &mut fmt::DebugStruct<'_, '_>) {
        stats.field("functions", self);
        let not_called = self.0.iter().filter(|function| !function.is_called()).count();
        if not_called > 0 {
            stats.field("functions_not_called", &not_called);
        }
    }
}

impl fmt::Debug for CalledFunctions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().filter(|function| function.is_called())).finish()
    }
}

impl CountedDocument {
    /// The one that a call of this name asks for.
    pub(crate) fn called(name: &str) -> Option<Self> {
        match name {
            "!stats" => Some(Self::Stats),
            "!metrics" => Some(Self::Metrics),
            _ => None,
        }
    }
}

impl ClientStats {
    /// Adds what the clients of another URL have counted.
    fn merge(&mut self, other: Self) {
        self.waiting += other.waiting;
        self.connections += other.connections;
        self.connections_opened += other.connections_opened;
        for function in other.functions {
            match self.functions.iter_mut().find(|known| known.name == function.name) {
                Some(known) => known.merge(function),
                None => self.functions.push(function),
            }
        }
    }
}

impl FunctionStats {
    pub(crate) fn new(name: Cow<'static, str>, in_flight: u64, counted: CountedFunction) -> Self {
        let errors = counted.durations.iter().filter_map(|(code, counted)| Some(((*code)?, counted.calls())));
        Self {
            name,
            calls: counted.calls(),
            in_flight,
            errors: errors.collect(),
            shed: counted.shed,
            request_bytes: counted.request_bytes,
            response_bytes: counted.response_bytes,
            items_received: counted.items_received,
            items_sent: counted.items_sent,
            retries: counted.retries,
            hedges: counted.hedges,
            duration: Duration::from_nanos(counted.durations.iter().map(|(_, counted)| counted.nanos).sum()),
            counted,
        }
    }

    fn is_called(&self) -> bool {
        self.calls + self.in_flight > 0
    }

    /// Adds what was counted elsewhere of a function of the same name.
    fn merge(&mut self, other: Self) {
        let mut counted = std::mem::take(&mut self.counted);
        counted.merge(other.counted);
        *self = Self::new(std::mem::take(&mut self.name), self.in_flight + other.in_flight, counted);
    }

    /// The time within which this share of all calls ended, from 0 to 1: `percentile(0.99)` is the p99. It is at most an eighth too
    /// long. `None` if no call has ended, or if the time is more than 67 s.
    ///
    /// # Panics
    ///
    /// If `share` is not from 0 to 1.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        assert!((0.0..=1.0).contains(&share), "a share is from 0 to 1: {share}");
        let CountedDurations { buckets, .. } = self.counted.all_durations();
        let calls: u64 = buckets.iter().sum();
        let (rank, mut seen) = ((calls as f64 * share).ceil().max(1.0) as u64, 0);
        let at = buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bucket_end(at?).map(Duration::from_micros)
    }

    /// The calls by their code and time, for formats of metrics.
    fn durations(&self) -> &[(Option<Code>, CountedDurations)] {
        &self.counted.durations
    }

    /// The times of all calls.
    fn all_durations(&self) -> CountedDurations {
        self.counted.all_durations()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function_counters::{EndedCall, FunctionCounters};

    #[test]
    fn statistics_are_short_enough_for_a_log() {
        let counters = FunctionCounters::default();
        let call = EndedCall { nanos: 1_000_000, request_bytes: 5, response_bytes: 3, ..EndedCall::default() };
        for _ in 0..9 {
            counters.end(&call);
        }
        counters.end(&EndedCall { code: Some(Code::NotFound), ..call });
        let of = |name: &'static str, counters: &FunctionCounters| FunctionStats::new(name.into(), 0, counters.read());
        let add = "add { calls: 10, not_found: 1, p50: 1.024ms, p99: 1.024ms, request_bytes: 50, response_bytes: 30 }";
        assert_eq!(format!("{:#?}", of("add", &counters)), add);
        let never = FunctionCounters::default();
        let stats = ServerStats {
            instance: "07".into(),
            uptime: Duration::from_secs(3),
            functions: vec![of("add", &counters), of("sub", &never), of("mul", &never)],
            other: of("_OTHER", &never),
            in_flight: 1,
            in_flight_limit: 10,
            queue_delay: Duration::from_millis(7),
            connections: 2,
            connections_accepted: 4,
            draining: false,
        };
        let head =
            r#"ServerStats { instance: "07", uptime: 3s, in_flight: 1 of 10, queue_delay: 7ms, connections: 2 of 4"#;
        assert_eq!(format!("{stats:?}"), format!("{head}, functions: [{add}], functions_not_called: 2 }}"));
        let client = ClientStats {
            url: "http://data/rpc".into(),
            functions: vec![of("add", &counters)],
            waiting: 2,
            connections: 1,
            connections_opened: 3,
        };
        let head = r#"ClientStats { url: "http://data/rpc", waiting: 2, connections: 1 of 3"#;
        assert_eq!(format!("{client:?}"), format!("{head}, functions: [{add}] }}"));
    }

    #[test]
    fn a_percentile_is_the_end_of_a_bucket() {
        let counters = FunctionCounters::default();
        let stats = || FunctionStats::new("f".into(), 0, counters.read());
        assert_eq!((stats().percentile(0.5), stats().calls), (None, 0));
        for micros in 1..=100 {
            counters.end(&EndedCall { nanos: micros * 100_000, ..EndedCall::default() });
        }
        let at = |share| stats().percentile(share).unwrap().as_micros();
        assert_eq!(at(0.0), 104);
        assert!((5_000..=5_600).contains(&at(0.5)) && (9_900..=11_000).contains(&at(0.99)), "{} {}", at(0.5), at(0.99));
        assert_eq!(at(1.0), 10_000);
        counters.end(&EndedCall { nanos: 70_000_000_000, ..EndedCall::default() });
        assert_eq!(stats().percentile(1.0), None);
    }
}
