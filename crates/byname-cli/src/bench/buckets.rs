//! Logarithmic buckets for times, whose bounds are round numbers: [`Bucket`].

use serde::{Deserialize, Serialize};

/// How many calls took a time from `from_ns` on and less than `to_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bucket {
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    pub(super) count: u64,
}

/// Puts times with their counts, in ascending order, into the narrowest buckets. They follow each other without a gap, from
/// the first that has a time to the last.
pub(super) fn narrow(times: impl IntoIterator<Item = (u64, u64)>) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for (time, count) in times {
        if buckets.is_empty() {
            let from_ns = bound_at_or_below(time, SERIES[0]);
            buckets.push(Bucket { from_ns, to_ns: bound_above(from_ns, SERIES[0]), count: 0 });
        }
        while let Some(Bucket { to_ns, .. }) = buckets.last()
            && *to_ns <= time
        {
            let from_ns = *to_ns;
            buckets.push(Bucket { from_ns, to_ns: bound_above(from_ns, SERIES[0]), count: 0 });
        }
        if let Some(last) = buckets.last_mut() {
            last.count += count;
        }
    }
    buckets
}

/// The narrowest buckets of which there are at most `most`. If even powers of ten are more, it is those.
pub(super) fn at_most(most: usize, narrow: &[Bucket]) -> Vec<Bucket> {
    let mut merged = narrow.to_vec();
    for series in &SERIES[1..] {
        if merged.len() <= most {
            break;
        }
        merged = widened(narrow, series);
    }
    merged
}

/// The bounds in each power of ten, in tenths. Each series has only bounds that the one before it has.
const SERIES: [&[u64]; 4] =
    [&[10, 12, 15, 20, 25, 30, 40, 50, 60, 80], &[10, 15, 20, 30, 50, 80], &[10, 20, 50], &[10]];

/// The lowest bound above 0, in nanoseconds. All faster times are in one bucket.
const LOWEST: u64 = 100;

fn widened(narrow: &[Bucket], series: &[u64]) -> Vec<Bucket> {
    let mut wide: Vec<Bucket> = Vec::new();
    for bucket in narrow {
        match wide.last_mut() {
            Some(last) if bucket.from_ns < last.to_ns => last.count += bucket.count,
            _ => {
                let from_ns = bound_at_or_below(bucket.from_ns, series);
                wide.push(Bucket { from_ns, to_ns: bound_above(from_ns, series), count: bucket.count });
            }
        }
    }
    wide
}

fn bound_at_or_below(time: u64, series: &[u64]) -> u64 {
    if time < LOWEST {
        return 0;
    }
    let power = 10u64.pow(time.ilog10());
    // 10 is in each series.
    let tenths = series.iter().rev().find(|tenths| power / 10 * **tenths <= time);
    power / 10 * tenths.copied().unwrap_or(10)
}

/// The bound that follows `bound`, which is one.
fn bound_above(bound: u64, series: &[u64]) -> u64 {
    if bound < LOWEST {
        return LOWEST;
    }
    let power = 10u64.pow(bound.ilog10());
    let above = series.iter().find(|tenths| power / 10 * **tenths > bound);
    (power / 10).saturating_mul(above.copied().unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(from_ns: u64, to_ns: u64, count: u64) -> Bucket {
        Bucket { from_ns, to_ns, count }
    }

    #[test]
    fn buckets_have_round_bounds_and_no_gaps() {
        assert_eq!(
            narrow([(1_199, 1), (1_200, 2), (1_499, 3), (2_500, 4)]),
            [
                bucket(1_000, 1_200, 1),
                bucket(1_200, 1_500, 5),
                bucket(1_500, 2_000, 0),
                bucket(2_000, 2_500, 0),
                bucket(2_500, 3_000, 4)
            ]
        );
        assert_eq!(narrow([(9_999, 1), (10_000, 1)]), [bucket(8_000, 10_000, 1), bucket(10_000, 12_000, 1)]);
        assert_eq!(narrow([]), []);
    }

    #[test]
    fn times_near_zero_are_in_one_bucket() {
        assert_eq!(narrow([(0, 1), (99, 1), (100, 1)]), [bucket(0, 100, 2), bucket(100, 120, 1)]);
    }

    #[test]
    fn wider_buckets_have_the_same_calls() {
        let narrow = narrow((1..2_000).map(|n| (n * 777, n)));
        let sum = |buckets: &[Bucket]| buckets.iter().map(|bucket| bucket.count).sum::<u64>();
        for most in [5, 12, 20, 30, 1_000] {
            let wide = at_most(most, &narrow);
            assert!(wide.len() <= most, "{most}: {wide:?}");
            assert_eq!(sum(&wide), sum(&narrow));
            assert!(wide.windows(2).all(|pair| pair[0].to_ns == pair[1].from_ns), "{wide:?}");
        }
        assert_eq!(at_most(1_000, &narrow), narrow);
    }
}
