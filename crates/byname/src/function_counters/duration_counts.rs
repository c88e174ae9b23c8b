//! How many calls took how long, in buckets whose width grows with the time: [`DurationCounts`].

use super::CountedDurations;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bounds, in microseconds, that OpenTelemetry's conventions name for the duration of a call: 0.005 to 10 seconds. Each is the end
/// of a bucket.
pub(crate) const CONVENTIONAL: [u64; 14] = [
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000, 5_000_000,
    7_500_000, 10_000_000,
];

/// Times of 2^26 microseconds or more, which is about 67 s, are in the last bucket.
const LAST_POWER: u32 = 26;
/// A power of two has 2^3 buckets.
const BITS: u32 = 3;
/// The buckets before they are split at the conventional bounds. Below 2^3 each microsecond has one.
const PLAIN: usize = ((LAST_POWER - BITS + 1) << BITS) as usize + 1;
pub(crate) const BUCKETS: usize = PLAIN + CONVENTIONAL.len();

/// The counts of calls by their time.
#[derive(Debug)]
pub(crate) struct DurationCounts {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Default for DurationCounts {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), nanos: AtomicU64::new(0) }
    }
}

impl DurationCounts {
    /// Adds calls to a bucket. Returns how many were in it before.
    #[inline]
    pub(crate) fn add(&self, bucket: usize, calls: u64, nanos: u64) -> u64 {
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.buckets[bucket].fetch_add(calls, Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> CountedDurations {
        let buckets = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        CountedDurations { buckets, nanos: self.nanos.load(Ordering::Relaxed) }
    }
}

/// The bucket of a time in nanoseconds. A time that is the end of a bucket is in it.
#[inline]
pub(crate) fn bucket(nanos: u64) -> usize {
    // The whole microseconds before the last one that has begun.
    let before = nanos.saturating_sub(1) / 1_000;
    if before < 1 << BITS {
        // Quick functions take no longer. These buckets have a microsecond each.
        return before as usize;
    }
    let SplitBucket { first, at } = SPLIT[plain(before)];
    usize::from(first) + usize::from(before >= at)
}

/// The longest time of a bucket in microseconds. `None` for the last one, which has no end.
pub(crate) fn bucket_end(bucket: usize) -> Option<u64> {
    // The first of the plain buckets that is not before it.
    let plain = SPLIT.partition_point(|split| usize::from(split.first) <= bucket) - 1;
    let SplitBucket { first, at } = SPLIT[plain];
    match (plain, usize::from(first) == bucket && at != u64::MAX) {
        (_, true) => Some(at),
        (plain, false) if plain == PLAIN - 1 => None,
        (plain, false) => Some(plain_end(plain)),
    }
}

/// The bucket by powers of two of a time that is longer than `before` microseconds, and not a microsecond longer than that. A bucket
/// ends at a multiple of its width, and has that time.
#[inline]
const fn plain(before: u64) -> usize {
    if before < 1 << BITS {
        return before as usize;
    }
    let power = before.ilog2();
    if power >= LAST_POWER {
        return PLAIN - 1;
    }
    let part = (before >> (power - BITS)) & ((1 << BITS) - 1);
    (((power - BITS + 1) << BITS) as u64 + part) as usize
}

const fn plain_end(plain: usize) -> u64 {
    if plain < 1 << BITS {
        return plain as u64 + 1;
    }
    let (power, part) = ((plain >> BITS) as u32 + BITS - 1, plain as u64 & ((1 << BITS) - 1));
    (1 << power) + ((part + 1) << (power - BITS))
}

/// A bucket by powers of two, which may be split in two.
#[derive(Clone, Copy)]
struct SplitBucket {
    /// The number of its first part.
    first: u8,
    /// The end of the first part; the largest number if it is not split.
    at: u64,
}

static SPLIT: [SplitBucket; PLAIN] = {
    let mut split = [SplitBucket { first: 0, at: u64::MAX }; PLAIN];
    let (mut plain_at, mut bound_at, mut next) = (0, 0, 0);
    while plain_at < PLAIN {
        split[plain_at].first = next;
        next += 1;
        if bound_at < CONVENTIONAL.len() && plain(CONVENTIONAL[bound_at] - 1) == plain_at {
            split[plain_at].at = CONVENTIONAL[bound_at];
            next += 1;
            bound_at += 1;
        }
        plain_at += 1;
    }
    assert!(bound_at == CONVENTIONAL.len() && next as usize == BUCKETS);
    split
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_conventional_bound_is_the_end_of_a_bucket() {
        let ends: Vec<_> = (0..BUCKETS).filter_map(bucket_end).collect();
        assert!(ends.is_sorted() && ends.len() == BUCKETS - 1, "{ends:?}");
        for bound in CONVENTIONAL {
            let at = bucket(bound * 1_000);
            assert_eq!(bucket_end(at), Some(bound));
            assert_eq!(bucket(bound * 1_000 + 1), at + 1);
        }
    }

    #[test]
    fn times_beyond_both_ends_are_counted() {
        assert_eq!((bucket(0), bucket(1), bucket_end(0)), (0, 0, Some(1)));
        assert_eq!((bucket(u64::MAX), bucket_end(BUCKETS - 1)), (BUCKETS - 1, None));
        assert_eq!(bucket_end(BUCKETS - 2), Some(1 << LAST_POWER));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_time_is_in_its_bucket(nanos in 1..(1_000u64 << LAST_POWER)) {
            let at = bucket(nanos);
            let end = bucket_end(at).unwrap() * 1_000;
            let begin = if at == 0 { 0 } else { bucket_end(at - 1).unwrap() * 1_000 };
            prop_assert!(begin < nanos && nanos <= end, "{begin} {nanos} {end}");
            // A bucket is at most an eighth as wide as the times in it, or a microsecond.
            prop_assert!(end - begin <= (begin / 8).max(1_000), "{begin} {end}");
        }
    }
}
