//! A report as text for the terminal: [`summary`].

use anstyle::{AnsiColor, Style};

use super::buckets::{self, Bucket};
use super::recorder::OWN_ERROR;
use super::report::{LoadReport, Percentiles, Report};
use crate::figures;
use crate::terminal_text::inert;

/// The report as text with styles for a terminal of this width, or for a program, which gets whole lines. The code that prints it removes the
/// styles where they are not wanted.
pub(super) fn summary(report: &Report, width: Option<usize>) -> String {
    let mut out = String::new();
    head(&mut out, report);
    counts(&mut out, report);
    if let Some(latency) = &report.latency {
        heading(&mut out, "latency");
        let counted = latency_note(report);
        for (name, nanos) in latency.named() {
            let style = severity(nanos, latency);
            line(&mut out, &format!("  {name:<6} {style}{:>10}{style:#}", figures::time(nanos)));
        }
        if !counted.is_empty() {
            line(&mut out, &format!("  {DIM}{counted}{DIM:#}"));
        }
        heading(&mut out, "histogram");
        histogram(&mut out, &report.histogram, latency, width.unwrap_or(80));
    }
    sending(&mut out, report);
    errors(&mut out, report, width);
    out
}

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();

/// The most rows of a histogram.
const ROWS: usize = 20;

/// The longest bar. On a wide terminal longer ones show no more.
const LONGEST_BAR: usize = 60;

pub(super) fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn heading(out: &mut String, text: &str) {
    line(out, &format!("\n{BOLD}{text}{BOLD:#}"));
}

fn head(out: &mut String, report: &Report) {
    let Report { function, url, connections, .. } = report;
    let connections = match (report.transport.as_str(), connections.frames) {
        ("http", _) => format!("over HTTP, {}", plural(connections.http, "connection")),
        (_, 0) => format!("over HTTP, {}: there was none by frames", plural(connections.http, "connection")),
        (_, frames) => format!("by frames, {}", plural(frames, "connection")),
    };
    line(out, &format!("{BOLD}{}{BOLD:#} at {}", inert(function), inert(url)));
    line(out, &connections);
    let load = match report.load {
        LoadReport::Closed { concurrency } => {
            format!("closed loop, {} in flight", plural(concurrency as u64, "call"))
        }
        LoadReport::Open { calls_per_second, max_in_flight } => format!(
            "open loop, {} calls a second, at most {} in flight",
            figures::rate(calls_per_second),
            figures::count(max_in_flight as u64)
        ),
    };
    let warm_up = match report.warm_up_ns {
        0 => "without warm-up".to_owned(),
        nanos => format!("after {} of warm-up", figures::time(nanos)),
    };
    let interrupted = if report.is_interrupted { ", interrupted" } else { "" };
    let measured = figures::time(report.measured_ns);
    line(out, &format!("{load}, {measured} {warm_up}{interrupted}"));
}

fn counts(out: &mut String, report: &Report) {
    let failed = report.calls - report.answered;
    let style = if failed == 0 { GOOD } else { BAD };
    let share = if failed == 0 { String::new() } else { format!("  {}", figures::share(failed, report.calls)) };
    out.push('\n');
    line(out, &format!("  calls           {:>12}", figures::count(report.calls)));
    line(out, &format!("  calls a second  {BOLD}{:>12}{BOLD:#}", figures::rate(report.calls_per_second)));
    line(out, &format!("  errors          {style}{:>12}{style:#}{share}", figures::count(failed)));
    if report.given_up > 0 {
        let said = format!(
            "{} in flight {} given up. The latency is without them, and would be longer.",
            plural(report.given_up, "call"),
            if report.given_up == 1 { "was" } else { "were" }
        );
        line(out, &format!("  {BAD}{said}{BAD:#}"));
    }
}

/// Which calls the percentiles are about, where it is not all of them.
fn latency_note(report: &Report) -> String {
    let timed_out = report.errors.get("deadline_exceeded").map_or(0, |errors| errors.calls);
    let refused = report.calls - report.answered - timed_out;
    match (timed_out, refused) {
        (0, 0) => String::new(),
        (0, _) => format!("of the {} that were answered with a value", plural(report.answered, "call")),
        _ => format!(
            "of {} that were answered with a value and {} that timed out, which would have taken longer",
            plural(report.answered, "call"),
            figures::count(timed_out)
        ),
    }
}

/// Terminals with fewer columns are narrow.
const NARROW: usize = 60;

fn histogram(out: &mut String, narrow: &[Bucket], latency: &Percentiles, width: usize) {
    let rows = buckets::at_most(ROWS, narrow);
    let total = rows.iter().map(|bucket| bucket.count).sum::<u64>();
    let most = rows.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    let counts = rows.iter().map(|bucket| figures::count(bucket.count).len()).max().unwrap_or(0);
    let marks: Vec<String> = rows.iter().map(|bucket| marks(bucket, latency)).collect();
    let marks_width = marks.iter().map(String::len).max().unwrap_or(0);
    // The bounds, the count and the spaces between; then the share and the marks, for which a narrow terminal has no room.
    let is_narrow = width < NARROW;
    let other_columns = 2 + 17 + 1 + 1 + counts + if is_narrow { 0 } else { 2 + 7 + 2 + marks_width };
    let longest = width.saturating_sub(other_columns).clamp(4, LONGEST_BAR);
    for (bucket, marks) in rows.iter().zip(&marks) {
        let style = severity(bucket.from_ns, latency);
        let bar = bar(bucket.count, most, longest);
        let (from, to) = (figures::round_time(bucket.from_ns), figures::round_time(bucket.to_ns));
        let (count, share) = (figures::count(bucket.count), figures::share(bucket.count, total));
        let marks = if marks.is_empty() { String::new() } else { format!("  {DIM}{marks}{DIM:#}") };
        let bar = format!("{style}{bar:<longest$}{style:#}");
        let further = if is_narrow { String::new() } else { format!("  {share:>7}{marks}") };
        line(out, &format!("  {from:>7} – {to:>7} {bar} {count:>counts$}{further}"));
    }
}

/// The percentiles that lie in this bucket.
fn marks(bucket: &Bucket, latency: &Percentiles) -> String {
    let [p50, _, p90, _, p99, p999, max] = latency.named();
    let here =
        [p50, p90, p99, p999, max].into_iter().filter(|(_, nanos)| (bucket.from_ns..bucket.to_ns).contains(nanos));
    here.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

/// A bar in eighths of a character. One call can be seen.
fn bar(count: u64, most: u64, longest: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (count as f64 / most as f64 * longest as f64 * 8.0).round() as usize;
    let eighths = eighths.max(usize::from(count > 0));
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// The fast nine tenths, the slow tenth, and the slowest hundredth.
fn severity(nanos: u64, latency: &Percentiles) -> Style {
    match nanos {
        n if n <= latency.p90_ns => GOOD,
        n if n <= latency.p99_ns => WARNING,
        _ => BAD,
    }
}

fn sending(out: &mut String, report: &Report) {
    let (Some(sending), LoadReport::Open { max_in_flight, .. }) = (report.sending, report.load) else {
        return;
    };
    if sending.delay.is_none() && sending.without_room == 0 && sending.unsent == 0 {
        return;
    }
    heading(out, "schedule");
    if let Some(delay) = sending.delay {
        line(
            out,
            &format!(
                "  sent after the intended time: p50 {}, p99 {}, max {}; the latency has this in it",
                figures::time(delay.p50_ns),
                figures::time(delay.p99_ns),
                figures::time(delay.max_ns)
            ),
        );
    }
    let most = figures::count(max_in_flight as u64);
    if sending.without_room > 0 {
        let (calls, share) = (plural(sending.without_room, "call"), figures::share(sending.without_room, report.calls));
        let said = format!("{calls} ({share}) waited, because {most} calls were in flight (--max-in-flight)");
        line(out, &format!("  {WARNING}{said}{WARNING:#}"));
    }
    if sending.unsent > 0 {
        let (calls, share) =
            (plural(sending.unsent, "call"), figures::share(sending.unsent, report.calls + sending.unsent));
        let said = format!(
            "{calls} ({share}) of the schedule were never sent: the server or this machine is too slow for the rate.\n  \
             The latency is that of the others, and would have grown with a longer run."
        );
        line(out, &format!("  {BAD}{said}{BAD:#}"));
    }
}

fn errors(out: &mut String, report: &Report, width: Option<usize>) {
    if !report.errors.is_empty() {
        heading(out, "errors");
    }
    for (code, errors) in &report.errors {
        let code = if code == OWN_ERROR { "error of the function" } else { code };
        line(out, &format!("  {BAD}{code:<21}{BAD:#} {:>12}", figures::count(errors.calls)));
        let example = &inert(errors.example.lines().next().unwrap_or_default());
        let shown = width.map_or_else(|| example.to_owned(), |width| cut(example, width.saturating_sub(4).max(20)));
        line(out, &format!("    {DIM}{shown}{DIM:#}"));
    }
    if report.warm_up_errors > 0 {
        let said = format!("{} failed during the warm-up", plural(report.warm_up_errors, "call"));
        line(out, &format!("\n  {BAD}{said}{BAD:#}"));
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(width - 1).collect();
    format!("{beginning}…")
}

fn plural(n: u64, what: &str) -> String {
    format!("{} {what}{}", figures::count(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::super::BenchOptions;
    use super::super::recorder::ErrorCount;
    use super::super::report::tests::report;
    use super::*;

    fn plain(report: &Report, width: usize) -> String {
        strip_str(&summary(report, Some(width))).to_string()
    }

    #[test]
    fn a_summary_has_figures_percentiles_and_a_histogram() {
        let mut report = report(BenchOptions::default(), |n| if n % 100 == 99 { 900 } else { 125 + n % 2 * 50 });
        report.connections.frames = 1;
        assert_eq!(
            plain(&report, 80),
            "\
add at localhost:8080
by frames, 1 connection
closed loop, 32 calls in flight, 1.00 s without warm-up

  calls                  1,000
  calls a second         1,000
  errors                     0

latency
  p50        125 µs
  p75        175 µs
  p90        175 µs
  p95        175 µs
  p99        175 µs
  p99.9      900 µs
  max        900 µs

histogram
   120 µs –  150 µs ████████████████████████████████████ 500   50.0 %  p50
   150 µs –  200 µs ███████████████████████████████████▎ 490   49.0 %  p90 p99
   200 µs –  250 µs                                        0    0.0 %
   250 µs –  300 µs                                        0    0.0 %
   300 µs –  400 µs                                        0    0.0 %
   400 µs –  500 µs                                        0    0.0 %
   500 µs –  600 µs                                        0    0.0 %
   600 µs –  800 µs                                        0    0.0 %
   800 µs –    1 ms ▊                                     10    1.0 %  p99.9 max
"
        );
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        let report = report(BenchOptions::default(), |n| 100 + n * n / 10);
        for width in [40, 59, 60, 80, 100, 200] {
            let text = plain(&report, width);
            let (_, rows) = text.split_once("histogram").unwrap();
            let longest = rows.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width, "{longest} in {text}");
        }
    }

    #[test]
    fn what_was_not_sent_in_time_is_said() {
        let mut report = report(BenchOptions { rate: Some(2_000.0), ..BenchOptions::default() }, |_| 100);
        let sending = report.sending.as_mut().unwrap();
        (sending.without_room, sending.unsent) = (500, 1_000);
        let text = plain(&report, 80);
        assert!(text.contains("open loop, 2,000 calls a second, at most 1,024 in flight"), "{text}");
        assert!(text.contains("500 calls (50.0 %) waited, because 1,024 calls were in flight"), "{text}");
        assert!(text.contains("1,000 calls (50.0 %) of the schedule were never sent"), "{text}");
    }

    #[test]
    fn errors_are_shown_by_code() {
        let mut report = report(BenchOptions::default(), |_| 100);
        report.answered = 900;
        let failed = |calls, example: &str| ErrorCount { calls, example: example.to_owned() };
        report.errors.insert("unavailable".to_owned(), failed(60, "connection refused"));
        report.errors.insert(OWN_ERROR.to_owned(), failed(40, "no account 7"));
        report.errors.insert("not_found".to_owned(), failed(1, "no \u{202e}\u{1b}account"));
        let text = plain(&report, 80);
        assert!(text.contains("  errors                   100  10.0 %\n"), "{text}");
        assert!(text.contains("    no \\u{202e}\\u{1b}account\n"), "{text}");
        assert!(text.contains("  error of the function           40\n    no account 7\n"), "{text}");
        assert!(text.contains("  unavailable                     60\n    connection refused\n"), "{text}");
        assert!(text.contains("of the 900 calls that were answered with a value\n"), "{text}");
    }
}
