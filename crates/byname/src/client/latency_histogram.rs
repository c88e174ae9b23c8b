//! How long answers took, in buckets whose width grows with the time: [`LatencyHistogram`].

use std::time::Duration;

/// Counts of answers by their time. A bucket is at most an eighth as wide as the times in it.
#[derive(Clone, Debug)]
pub(super) struct LatencyHistogram {
    counts: [u32; BUCKETS],
    total: u32,
}

/// Times below 2^10 microseconds, which is about 1 ms, are in one bucket.
const FIRST_POWER: u32 = 10;
/// The last bucket begins below 2^26 microseconds, which is about 67 s, and has all longer times.
const LAST_POWER: u32 = 26;
/// A power of two has 2^3 buckets.
const BITS: u32 = 3;
const BUCKETS: usize = (((LAST_POWER - FIRST_POWER) << BITS) + 1) as usize;

impl LatencyHistogram {
    pub(super) fn new() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }

    pub(super) fn record(&mut self, took: Duration) {
        self.counts[bucket(took)] += 1;
        self.total += 1;
    }

    /// How many answers there are.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// A time within which 99 of 100 answers came. It is the end of a bucket.
    pub(super) fn percentile_99(&self) -> Duration {
        let slower = self.total / 100;
        let mut seen = 0;
        let index = self.counts.iter().rposition(|count| {
            seen += count;
            seen > slower
        });
        end(index.unwrap_or(0))
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let Some(power) = micros.checked_ilog2().filter(|power| *power >= FIRST_POWER) else {
        return 0;
    };
    // The bits after the first one.
    let part = (micros >> (power - BITS)) & ((1 << BITS) - 1);
    let index = ((power - FIRST_POWER) << BITS) as usize + part as usize + 1;
    index.min(BUCKETS - 1)
}

/// The end of a bucket.
fn end(index: usize) -> Duration {
    let (power, part) = (FIRST_POWER + (index >> BITS) as u32, (index as u64) & ((1 << BITS) - 1));
    Duration::from_micros((1 << power) + (part << (power - BITS)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: impl IntoIterator<Item = u64>) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::new();
        times.into_iter().for_each(|micros| histogram.record(Duration::from_micros(micros)));
        histogram
    }

    #[test]
    fn the_slowest_hundredth_is_beyond_the_percentile() {
        let histogram = of((1..=100).map(|n| n * 10_000));
        assert_eq!(histogram.total(), 100);
        let percentile = histogram.percentile_99();
        assert!((990_000..1_115_000).contains(&percentile.as_micros()), "{percentile:?}");
        let one_of_fifty = of((1..=100).map(|n| if n % 50 == 0 { 500_000 } else { 2_000 }));
        assert!(one_of_fifty.percentile_99() >= Duration::from_millis(500));
        let one_of_a_hundred = of((1..=100).map(|n| if n % 100 == 0 { 500_000 } else { 2_000 }));
        assert!(one_of_a_hundred.percentile_99() < Duration::from_micros(2_300));
        assert_eq!(LatencyHistogram::new().percentile_99(), end(0));
    }

    #[test]
    fn times_beyond_both_ends_are_counted() {
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::from_micros(1023))), (0, 0));
        assert_eq!(bucket(Duration::from_micros(1024)), 1);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(end(BUCKETS - 1), Duration::from_micros(1 << LAST_POWER));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_time_is_less_than_the_end_of_its_bucket_and_near_it(micros in 1024..(1u64 << LAST_POWER)) {
            let (took, end) = (Duration::from_micros(micros), end(bucket(Duration::from_micros(micros))));
            prop_assert!(took < end && end <= took.mul_f64(1.125) + Duration::from_micros(1), "{took:?} {end:?}");
        }

        #[test]
        fn at_most_a_hundredth_is_slower(times in proptest::collection::vec(0..60_000_000u64, 100..400)) {
            let percentile = of(times.iter().copied()).percentile_99();
            let slower = times.iter().filter(|micros| Duration::from_micros(**micros) >= percentile).count();
            prop_assert!(slower <= times.len() / 100);
        }
    }
}
