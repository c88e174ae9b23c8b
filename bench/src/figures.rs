//! The figures that a measurement holds, and what many of them come to.

use crate::measurement::Measurement;
use crate::work::Work;

pub struct Figure {
    name: &'static str,
    of: fn(&Measurement) -> f64,
    is_of_streams: bool,
}

impl Figure {
    pub const fn new(name: &'static str, of: fn(&Measurement) -> f64) -> Self {
        Figure { name, of, is_of_streams: true }
    }

    const fn of_calls_only(mut self) -> Self {
        self.is_of_streams = false;
        self
    }

    pub fn name(&self, work: Work) -> String {
        self.name.replace("call", work.unit())
    }

    /// Whether the work has it.
    pub fn is_of(&self, work: Work) -> bool {
        self.is_of_streams || work != Work::Stream
    }

    pub fn of(&self, measurement: &Measurement) -> f64 {
        (self.of)(measurement)
    }
}

pub const THROUGHPUT: Figure = Figure::new("calls/s", |m| m.outcome.calls as f64 / m.outcome.seconds);
pub const P50: Figure = Figure::new("p50 µs", |m| m.outcome.p50_us).of_calls_only();
pub const P99: Figure = Figure::new("p99 µs", |m| m.outcome.p99_us).of_calls_only();
pub const SERVER_CPU: Figure = Figure::new("server CPU µs/call", |m| m.outcome.server_cpu_us);
pub const CLIENT_CPU: Figure = Figure::new("client CPU µs/call", |m| m.outcome.client_cpu_us);

pub fn median_min_max(figures: &mut [f64]) -> Option<(f64, f64, f64)> {
    figures.sort_by(f64::total_cmp);
    let (min, max) = (*figures.first()?, *figures.last()?);
    let upper = figures.len() / 2;
    let lower = (figures.len() - 1) / 2;
    Some((f64::midpoint(figures[lower], figures[upper]), min, max))
}

/// Three digits that mean something, and thousands apart.
pub fn text(figure: f64) -> String {
    let decimals = match figure.abs() {
        size if size == size.trunc() || size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.0995 => 2,
        _ => 4,
    };
    let text = format!("{figure:.decimals$}");
    let whole = text.split('.').next().map_or(0, str::len);
    let mut grouped = String::with_capacity(text.len() + whole / 3);
    for (position, digit) in text.chars().enumerate() {
        if position > 0 && position < whole && (whole - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_mean_something() {
        let texts =
            [2_170_482.3, 21_704.8, 1860.2, 128.0, 99.96, 23.84, 9.996, 3.2041, 0.1352, 0.03124, 0.0, 1.0].map(text);
        assert_eq!(
            texts,
            ["2,170,482", "21,705", "1,860", "128", "100", "23.8", "10.0", "3.20", "0.14", "0.0312", "0", "1"]
        );
    }
}
