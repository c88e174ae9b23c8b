//! The figures that a measurement holds, and what many of them come to.

use crate::measurement::Measurement;

pub struct Figure {
    pub name: &'static str,
    pub decimals: usize,
    of: fn(&Measurement) -> f64,
}

impl Figure {
    pub const fn new(name: &'static str, decimals: usize, of: fn(&Measurement) -> f64) -> Self {
        Figure { name, decimals, of }
    }

    pub fn of(&self, measurement: &Measurement) -> f64 {
        (self.of)(measurement)
    }
}

pub const THROUGHPUT: Figure = Figure::new("1000 calls/s", 1, |m| m.outcome.calls as f64 / m.outcome.seconds / 1e3);
pub const P50: Figure = Figure::new("p50 µs", 1, |m| m.outcome.p50_us);
pub const P99: Figure = Figure::new("p99 µs", 1, |m| m.outcome.p99_us);
pub const SERVER_CPU: Figure = Figure::new("server CPU µs/call", 2, |m| m.outcome.server_cpu_us);
pub const CLIENT_CPU: Figure = Figure::new("client CPU µs/call", 2, |m| m.outcome.client_cpu_us);

pub fn median_min_max(figures: &mut [f64]) -> Option<(f64, f64, f64)> {
    figures.sort_by(f64::total_cmp);
    let (min, max) = (*figures.first()?, *figures.last()?);
    let upper = figures.len() / 2;
    let lower = (figures.len() - 1) / 2;
    Some((f64::midpoint(figures[lower], figures[upper]), min, max))
}

/// In the order of their first appearance.
pub fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut seen, item| {
        if !seen.contains(&item) {
            seen.push(item);
        }
        seen
    })
}
