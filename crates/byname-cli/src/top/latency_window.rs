//! The latencies between two replies: [`LatencyWindow`].

use std::collections::BTreeMap;

/// How many calls of a window ended in each bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LatencyWindow {
    /// By upper bound in microseconds. The last bucket has none, and `u64::MAX` stands for it.
    buckets: BTreeMap<u64, u64>,
}

/// Where the last bucket begins.
const LAST_BUCKET: u64 = 1 << 26;

/// A latency of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WindowLatency {
    Micros(u64),
    /// Longer than this: the last bucket has no upper bound.
    Beyond(u64),
}

impl LatencyWindow {
    /// The calls that are in the later counters and not in the earlier ones.
    pub(crate) fn between(earlier: &[(Option<u64>, u64)], later: &[(Option<u64>, u64)]) -> Self {
        let mut buckets = BTreeMap::new();
        for &(bound, count) in later {
            let of = buckets.entry(bound.unwrap_or(u64::MAX)).or_insert(0_u64);
            *of = of.saturating_add(count);
        }
        for &(bound, count) in earlier {
            if let Some(of) = buckets.get_mut(&bound.unwrap_or(u64::MAX)) {
                *of = of.saturating_sub(count);
            }
        }
        buckets.retain(|_, count| *count > 0);
        Self { buckets }
    }

    /// Adds the calls of another server.
    pub(crate) fn add(&mut self, other: &Self) {
        for (&bound, &count) in &other.buckets {
            let of = self.buckets.entry(bound).or_default();
            *of = of.saturating_add(count);
        }
    }

    /// The latency that this share of the calls does not exceed. Inside a bucket it is interpolated. `None` without calls.
    pub(crate) fn percentile(&self, share: f64) -> Option<WindowLatency> {
        let total: f64 = self.buckets.values().map(|&count| count as f64).sum();
        let wanted = share * total;
        let (mut before, mut last) = (0.0, 0);
        for (&bound, &count) in &self.buckets {
            let count = count as f64;
            if bound == u64::MAX {
                return Some(WindowLatency::Beyond(LAST_BUCKET));
            }
            if before + count >= wanted {
                let lower = lower_bound(bound, last) as f64;
                let inside = lower + (bound as f64 - lower) * ((wanted - before) / count).clamp(0.0, 1.0);
                return Some(WindowLatency::Micros(inside.round() as u64));
            }
            (before, last) = (before + count, bound);
        }
        // Sums of many counts may be rounded.
        (last > 0).then_some(WindowLatency::Micros(last))
    }

    /// The upper bound of the slowest calls.
    pub(crate) fn max(&self) -> Option<WindowLatency> {
        self.buckets.keys().next_back().map(|&bound| match bound {
            u64::MAX => WindowLatency::Beyond(LAST_BUCKET),
            bound => WindowLatency::Micros(bound),
        })
    }
}

impl WindowLatency {
    pub(crate) fn micros(self) -> u64 {
        match self {
            Self::Micros(micros) | Self::Beyond(micros) => micros,
        }
    }
}

/// Empty buckets are not sent, so the end of the bucket before is not known. A power of two has eight buckets.
fn lower_bound(bound: u64, last: u64) -> u64 {
    let width = bound.saturating_sub(1).checked_ilog2().map_or(1, |power| (1 << power) / 8);
    last.max(bound.saturating_sub(width.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(earlier: &[(Option<u64>, u64)], later: &[(Option<u64>, u64)]) -> LatencyWindow {
        LatencyWindow::between(earlier, later)
    }

    #[test]
    fn only_calls_between_the_replies_count() {
        let of = window(&[(Some(64), 1_000)], &[(Some(64), 1_000), (Some(800), 10)]);
        assert_eq!(of.percentile(0.5), Some(WindowLatency::Micros(768)));
        assert_eq!(of.percentile(1.0), Some(WindowLatency::Micros(800)));
        assert_eq!(of.max(), Some(WindowLatency::Micros(800)));
    }

    #[test]
    fn a_percentile_is_interpolated_inside_its_bucket() {
        let of = window(&[], &[(Some(64), 50), (Some(72), 50)]);
        assert_eq!(of.percentile(0.5), Some(WindowLatency::Micros(64)));
        assert_eq!(of.percentile(0.75), Some(WindowLatency::Micros(68)));
        assert_eq!(of.percentile(0.25), Some(WindowLatency::Micros(62)));
    }

    #[test]
    fn without_calls_there_is_no_percentile() {
        assert_eq!(window(&[], &[]).percentile(0.5), None);
        assert_eq!(window(&[(Some(64), 7)], &[(Some(64), 7)]).max(), None);
        // A server that counts backwards.
        assert_eq!(window(&[(Some(64), 9)], &[(Some(64), 7)]).percentile(0.5), None);
    }

    #[test]
    fn the_last_bucket_has_no_upper_bound() {
        let of = window(&[], &[(Some(1_000), 1), (None, 9)]);
        let beyond = Some(WindowLatency::Beyond(67_108_864));
        assert_eq!((of.percentile(0.05), of.percentile(0.5)), (Some(WindowLatency::Micros(968)), beyond));
        assert_eq!((of.max(), beyond > Some(WindowLatency::Micros(u64::MAX))), (beyond, true));
    }

    #[test]
    fn bounds_and_counts_of_any_size_are_safe() {
        let of = window(&[], &[(Some(0), 1), (Some(u64::MAX), u64::MAX), (None, u64::MAX), (Some(1), 3)]);
        for share in [0.0, 0.5, 0.99, 1.0] {
            assert!(of.percentile(share).is_some());
        }
    }

    #[test]
    fn windows_of_two_servers_are_added() {
        let mut of = window(&[], &[(Some(64), 1)]);
        of.add(&window(&[], &[(Some(64), 1), (Some(800), 2)]));
        assert_eq!(of, window(&[], &[(Some(64), 2), (Some(800), 2)]));
    }
}
