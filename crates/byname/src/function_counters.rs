//! What is counted of the calls of one function, on either side: [`FunctionCounters`]. Counting takes no lock.

mod duration_counts;

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use self::duration_counts::{CONVENTIONAL, DurationCounts, bucket, bucket_end};
use crate::error::{Code, Error, Executed};

/// The result of a call: `None` for a success.
pub(crate) type CallCode = Option<Code>;

/// The codes, and the success before them.
const CODES: usize = Code::ALL.len() + 1;

/// The counters of one function. They only grow.
#[derive(Debug, Default)]
pub(crate) struct FunctionCounters {
    /// The calls that have begun, where that is counted.
    begun: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    items_received: AtomicU64,
    items_sent: AtomicU64,
    /// Calls that were refused because there were too many.
    shed: AtomicU64,
    retries: AtomicU64,
    hedges: AtomicU64,
    /// How long calls took, by their result. The memory for a result is taken when it occurs.
    durations: [OnceLock<Box<DurationCounts>>; CODES],
}

/// What one call adds to the counters at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EndedCall {
    pub(crate) code: CallCode,
    /// How long it took, in nanoseconds.
    pub(crate) nanos: u64,
    pub(crate) is_shed: bool,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) items_received: u64,
    pub(crate) items_sent: u64,
}

impl FunctionCounters {
    /// A call begins.
    pub(crate) fn begin(&self) {
        add(&self.begun, 1);
    }

    /// A call has ended. Returns how many calls with its result were in its bucket before.
    #[inline]
    pub(crate) fn end(&self, call: &EndedCall) -> u64 {
        let before = self.durations(call.code).add(bucket(call.nanos), 1, call.nanos);
        add(&self.request_bytes, call.request_bytes);
        add(&self.response_bytes, call.response_bytes);
        if call.code.is_some() && call.is_shed {
            add(&self.shed, 1);
        }
        if call.items_received | call.items_sent != 0 {
            add(&self.items_received, call.items_received);
            add(&self.items_sent, call.items_sent);
        }
        before
    }

    /// As [`end`](Self::end) for a call that succeeded, which most do.
    #[inline]
    pub(crate) fn succeeded(&self, nanos: u64, request_bytes: usize, response_bytes: usize) -> u64 {
        let before = self.durations(None).add(bucket(nanos), 1, nanos);
        add(&self.request_bytes, request_bytes as u64);
        add(&self.response_bytes, response_bytes as u64);
        before
    }

    /// Items of a caller's stream have come. Their bytes are a part of the request.
    pub(crate) fn receive_items(&self, items: usize, bytes: usize) {
        add(&self.items_received, items as u64);
        add(&self.request_bytes, bytes as u64);
    }

    /// Items of the caller's stream go to the server. Their bytes are a part of the request.
    pub(crate) fn send_items(&self, items: usize, bytes: usize) {
        add(&self.items_sent, items as u64);
        add(&self.request_bytes, bytes as u64);
    }

    /// A call is sent again.
    pub(crate) fn retried(&self) {
        add(&self.retries, 1);
    }

    /// A call was sent to a second replica beside the first.
    pub(crate) fn hedged(&self) {
        add(&self.hedges, 1);
    }

    fn durations(&self, code: CallCode) -> &DurationCounts {
        self.durations[code.map_or(0, |code| code as usize + 1)].get_or_init(Box::default)
    }

    /// What was counted until now. The counters are read one after another, so a call that ends meanwhile may be in some of them.
    pub(crate) fn read(&self) -> CountedFunction {
        let codes = std::iter::once(None).chain(Code::ALL.map(Some));
        let durations = codes.zip(&self.durations).filter_map(|(code, counts)| Some((code, counts.get()?.read())));
        let durations: Vec<_> = durations.collect();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountedFunction {
            begun: get(&self.begun),
            request_bytes: get(&self.request_bytes),
            response_bytes: get(&self.response_bytes),
            items_received: get(&self.items_received),
            items_sent: get(&self.items_sent),
            shed: get(&self.shed),
            retries: get(&self.retries),
            hedges: get(&self.hedges),
            durations,
        }
    }
}

/// Calls of one function that ended one after another on one task, with the same result and in the same bucket. They are added to
/// the counters together, because an addition that other threads see costs more than the rest of counting.
#[derive(Debug, Default)]
pub(crate) struct CallRun {
    function: usize,
    bucket: usize,
    calls: u64,
    nanos: u64,
    request_bytes: u64,
    response_bytes: u64,
}

impl CallRun {
    /// Whether a call of this function and of this time can be added without adding the others to the counters first.
    #[inline]
    pub(crate) fn takes(&self, function: usize, bucket: usize) -> bool {
        self.calls == 0 || (function, bucket) == (self.function, self.bucket)
    }

    /// Adds a call that succeeded and that it [takes](Self::takes).
    #[inline]
    pub(crate) fn add(
        &mut self,
        function: usize,
        bucket: usize,
        nanos: u64,
        request_bytes: usize,
        response_bytes: usize,
    ) {
        (self.function, self.bucket) = (function, bucket);
        self.calls += 1;
        self.nanos += nanos;
        self.request_bytes += request_bytes as u64;
        self.response_bytes += response_bytes as u64;
    }

    /// The function of its calls. `None` if it has none.
    #[inline]
    pub(crate) fn function(&self) -> Option<usize> {
        (self.calls > 0).then_some(self.function)
    }

    /// Adds its calls to the counters of their function. Returns their numbers among those of their bucket.
    #[inline]
    pub(crate) fn flush(&mut self, counters: &FunctionCounters) -> Range<u64> {
        let before = counters.durations(None).add(self.bucket, self.calls, self.nanos);
        add(&counters.request_bytes, self.request_bytes);
        add(&counters.response_bytes, self.response_bytes);
        let numbers = before..before + self.calls;
        (self.calls, self.nanos, self.request_bytes, self.response_bytes) = (0, 0, 0, 0);
        numbers
    }
}

/// The counters of a function as they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedFunction {
    pub(crate) begun: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) items_received: u64,
    pub(crate) items_sent: u64,
    pub(crate) shed: u64,
    pub(crate) retries: u64,
    pub(crate) hedges: u64,
    /// Only of results that occurred.
    pub(crate) durations: Vec<(CallCode, CountedDurations)>,
}

/// How many calls took how long.
#[derive(Clone, Default)]
pub(crate) struct CountedDurations {
    /// By bucket; [`bucket_end`] says where one ends.
    pub(crate) buckets: Vec<u64>,
    pub(crate) nanos: u64,
}

impl CountedDurations {
    pub(crate) fn calls(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn merge(&mut self, other: &Self) {
        self.nanos += other.nanos;
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
    }
}

impl fmt::Debug for CountedDurations {
    /// Without the buckets, which are many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls in {} ns", self.calls(), self.nanos)
    }
}

impl CountedFunction {
    /// Adds what another function has counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.begun += other.begun;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.items_received += other.items_received;
        self.items_sent += other.items_sent;
        self.shed += other.shed;
        self.retries += other.retries;
        self.hedges += other.hedges;
        for (code, counted) in other.durations {
            match self.durations.iter_mut().find(|(known, _)| *known == code) {
                Some((_, sum)) => sum.merge(&counted),
                None => self.durations.push((code, counted)),
            }
        }
    }

    /// The calls that have ended.
    pub(crate) fn calls(&self) -> u64 {
        self.durations.iter().map(|(_, counted)| counted.calls()).sum()
    }

    /// The times of all calls, whatever their result.
    pub(crate) fn all_durations(&self) -> CountedDurations {
        let mut all = CountedDurations { buckets: vec![0; duration_counts::BUCKETS], nanos: 0 };
        self.durations.iter().for_each(|(_, counted)| all.merge(counted));
        all
    }
}

/// Whether a call was refused because there were too many.
pub(crate) fn is_shed(error: &Error) -> bool {
    error.code() == Code::ResourceExhausted && error.executed() == Executed::No && error.retry_after().is_some()
}

/// A time in nanoseconds, which is enough for 584 years.
#[inline]
pub(crate) fn nanos(took: Duration) -> u64 {
    took.as_secs().wrapping_mul(1_000_000_000).wrapping_add(took.subsec_nanos().into())
}

#[inline]
fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn calls_are_counted_by_their_result() {
        let counters = FunctionCounters::default();
        let ended = EndedCall { nanos: MILLI, request_bytes: 3, response_bytes: 5, ..EndedCall::default() };
        counters.end(&ended);
        counters.end(&EndedCall { items_sent: 7, items_received: 2, ..ended });
        let code = Some(Code::ResourceExhausted);
        counters.end(&EndedCall { code, is_shed: true, ..ended });
        counters.end(&EndedCall { code, ..ended });
        let read = counters.read();
        let codes: Vec<_> = read.durations.iter().map(|(code, counted)| (*code, counted.calls())).collect();
        assert_eq!(codes, [(None, 2), (code, 2)]);
        assert_eq!((read.calls(), read.shed, read.items_sent, read.items_received), (4, 1, 7, 2));
        assert_eq!((read.request_bytes, read.response_bytes), (12, 20));
        assert_eq!(read.all_durations().nanos, 4_000_000);
        assert_eq!(read.all_durations().buckets[bucket(MILLI)], 4);
    }

    #[test]
    fn a_run_of_calls_counts_as_each_of_them() {
        let counters = FunctionCounters::default();
        let mut run = CallRun::default();
        assert_eq!((run.function(), run.takes(7, 1)), (None, true));
        for _ in 0..3 {
            assert!(run.takes(7, bucket(MILLI)));
            run.add(7, bucket(MILLI), MILLI, 1, 2);
        }
        assert!(!run.takes(8, bucket(MILLI)) && !run.takes(7, bucket(2 * MILLI)));
        assert_eq!((run.function(), run.flush(&counters), run.function()), (Some(7), 0..3, None));
        run.add(7, bucket(MILLI), MILLI, 1, 2);
        assert_eq!(run.flush(&counters), 3..4);
        let read = counters.read();
        assert_eq!((read.calls(), read.request_bytes, read.response_bytes), (4, 4, 8));
        assert_eq!(read.all_durations().nanos, 4 * MILLI);
        assert_eq!(read.all_durations().buckets[bucket(MILLI)], 4);
    }
}
