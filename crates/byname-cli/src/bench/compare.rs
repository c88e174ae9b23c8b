//! Two reports beside each other: [`comparison`].

use anstyle::Style;

use super::report::{LoadReport, Percentiles, Report, SliceReport};
use super::summary::{BAD, BOLD, DIM, GOOD, WARNING, line};
use crate::figures;
use crate::terminal_text::inert;

/// A table of both with ratios, with styles for a terminal. The names are those of the files.
pub(super) fn comparison((first_name, first): (&str, &Report), (second_name, second): (&str, &Report)) -> String {
    let mut out = String::new();
    line(&mut out, &format!("  A  {BOLD}{first_name}{BOLD:#}: {}", described(first)));
    line(&mut out, &format!("  B  {BOLD}{second_name}{BOLD:#}: {}", described(second)));
    if described(first) != described(second) {
        line(&mut out, &format!("  {WARNING}The runs have sent different load.{WARNING:#}"));
    }
    out.push('\n');
    line(&mut out, &format!("  {BOLD}{:<15}{:>12}{:>12}{:>9}{BOLD:#}", "", "A", "B", "B / A"));
    for row in rows(first, second) {
        let (style, said) = match row.verdict {
            Verdict::Noise => (DIM, "within the noise"),
            Verdict::Better => (GOOD, "better"),
            Verdict::Worse => (BAD, "worse"),
            Verdict::Unknown => (DIM, "the noise is not known"),
            Verdict::None => (Style::new(), ""),
        };
        let ratio = row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let cells = format!("{:<15}{:>12}{:>12}{ratio:>9}", row.name, row.first, row.second);
        line(&mut out, &format!("  {cells}  {style}{said}{style:#}"));
    }
    out.push('\n');
    line(&mut out, &format!("  {DIM}{NOISE}{DIM:#}"));
    out
}

const NOISE: &str = "Within the noise: in their middle halves, the slices of one run are like those of the other.";

/// With fewer slices the noise of a run is not known.
const FEWEST_SLICES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Better,
    Worse,
    /// The difference is not greater than what differs within the runs.
    Noise,
    /// There are too few slices.
    Unknown,
    /// It is not judged.
    None,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    first: String,
    second: String,
    ratio: Option<f64>,
    verdict: Verdict,
}

fn described(report: &Report) -> String {
    let load = match report.load {
        LoadReport::Closed { concurrency } => format!("{concurrency} in flight"),
        LoadReport::Open { calls_per_second, .. } => format!("{} calls a second", figures::rate(calls_per_second)),
    };
    let way = if report.transport == "http" { "over HTTP" } else { "by frames" };
    format!("{} {way}, {load}", inert(&report.function))
}

fn rows(first: &Report, second: &Report) -> Vec<Row> {
    let calls = |slice: &SliceReport| Some(slice.calls_per_second);
    let mut rows = vec![Row {
        name: "calls a second",
        first: figures::rate(first.calls_per_second),
        second: figures::rate(second.calls_per_second),
        ratio: ratio(first.calls_per_second, second.calls_per_second),
        // An open loop sends what it is told to.
        verdict: match (first.load, second.load) {
            (LoadReport::Closed { .. }, LoadReport::Closed { .. }) => {
                verdict(&figures_of(first, calls), &figures_of(second, calls), true)
            }
            _ => Verdict::None,
        },
    }];
    let failed = |report: &Report| report.calls - report.answered;
    rows.push(Row {
        name: "errors",
        first: figures::count(failed(first)),
        second: figures::count(failed(second)),
        ratio: None,
        verdict: Verdict::None,
    });
    if let (Some(first_latency), Some(second_latency)) = (first.latency, second.latency) {
        let named = first_latency.named().into_iter().zip(second_latency.named());
        for (index, ((name, first_ns), (_, second_ns))) in named.enumerate() {
            let of = |slice: &SliceReport| slice.latency.and_then(|latency| slice_percentile(&latency, index));
            rows.push(Row {
                name,
                first: figures::time(first_ns),
                second: figures::time(second_ns),
                ratio: ratio(first_ns as f64, second_ns as f64),
                verdict: match name {
                    // One call makes it.
                    "max" => Verdict::None,
                    _ => verdict(&figures_of(first, of), &figures_of(second, of), false),
                },
            });
        }
    }
    rows
}

/// The percentile of a slice, if enough calls lie beyond it.
fn slice_percentile(latency: &Percentiles, index: usize) -> Option<f64> {
    const FEWEST: [u64; 7] = [10, 20, 50, 100, 500, 5_000, 1];
    (latency.count >= FEWEST[index]).then(|| latency.named()[index].1 as f64)
}

fn figures_of(report: &Report, figure: impl Fn(&SliceReport) -> Option<f64>) -> Vec<f64> {
    report.slices.iter().filter_map(figure).collect()
}

/// Judges by the middle halves of the slices: if they overlap, the difference lies within the noise.
fn verdict(first: &[f64], second: &[f64], more_is_better: bool) -> Verdict {
    if first.len() < FEWEST_SLICES || second.len() < FEWEST_SLICES {
        return Verdict::Unknown;
    }
    let ((first_low, first_high), (second_low, second_high)) = (middle_half(first), middle_half(second));
    if first_low <= second_high && second_low <= first_high {
        Verdict::Noise
    } else if (second_low > first_high) == more_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    }
}

/// Between which bounds the middle half of the figures lies.
fn middle_half(figures: &[f64]) -> (f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    (sorted[last / 4], sorted[last - last / 4])
}

fn ratio(first: f64, second: f64) -> Option<f64> {
    (first > 0.0).then(|| second / first)
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::super::BenchOptions;
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn a_difference_is_judged_by_the_middle_halves() {
        let around = |middle: f64| -> Vec<f64> { (0..9).map(|n| middle + f64::from(n)).collect() };
        assert_eq!(middle_half(&around(0.0)), (2.0, 6.0));
        assert_eq!(verdict(&around(0.0), &around(4.0), true), Verdict::Noise);
        assert_eq!(verdict(&around(0.0), &around(5.0), true), Verdict::Better);
        assert_eq!(verdict(&around(0.0), &around(5.0), false), Verdict::Worse);
        assert_eq!(verdict(&around(5.0), &around(0.0), true), Verdict::Worse);
        assert_eq!(verdict(&around(5.0), &around(0.0), false), Verdict::Better);
        assert_eq!(verdict(&around(0.0), &around(5.0)[..4], true), Verdict::Unknown);
    }

    #[test]
    fn two_runs_are_shown_with_ratios() {
        let first = report(BenchOptions::default(), |n| 100 + n % 20);
        let second = report(BenchOptions::default(), |n| 200 + n % 20);
        let text = strip_str(&comparison(("a.json", &first), ("b.json", &second))).to_string();
        assert!(text.starts_with("  A  a.json: add by frames, 32 in flight\n  B  b.json: add by frames"), "{text}");
        assert!(text.contains("  calls a second        1,000       1,000     1.00  within the noise\n"), "{text}");
        assert!(text.contains("  p50                  109 µs      209 µs     1.92  worse\n"), "{text}");
        // A slice has too few calls for it.
        assert!(
            text.contains("  p99.9                119 µs      219 µs     1.84  the noise is not known\n"),
            "{text}"
        );
        assert!(!text.contains("different load"), "{text}");
    }

    #[test]
    fn a_different_load_is_said() {
        let first = report(BenchOptions::default(), |_| 100);
        let second = report(BenchOptions { concurrency: Some(64), ..BenchOptions::default() }, |_| 100);
        let text = strip_str(&comparison(("a.json", &first), ("b.json", &second))).to_string();
        assert!(text.contains("The runs have sent different load."), "{text}");
    }
}
