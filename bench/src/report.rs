//! What a person reads: the medians with their spread, the ratios.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::figures::{self, Figure, distinct, median_min_max, text};
use crate::measurement::Measurement;
use crate::work::Work;

/// One measurement, for those who wait.
pub fn line(measurement: &Measurement) -> String {
    let Measurement { round, peer, work, in_flight, outcome, .. } = measurement;
    let mut line = format!(
        "round {round}  {work:<7} @{in_flight:<4} {peer:<14} {:>9} {}",
        text(figures::THROUGHPUT.of(measurement)),
        figures::THROUGHPUT.name(*work),
    );
    if figures::P50.is_of(*work) {
        line += &format!("  p50 {} µs", text(outcome.p50_us));
    }
    if let Some(failure) = &outcome.first_failure {
        let failures = outcome.failures;
        line += &format!("  {failures} FAILED, the first: {failure}");
    }
    line
}

/// A table of medians and one of ratios for each work and number of calls in flight.
pub fn tables(measurements: &[Measurement]) -> String {
    let mut text = String::new();
    for (work, in_flight) in distinct(measurements.iter().map(|m| (m.work, m.in_flight))) {
        let of_both = |m: &&Measurement| (m.work, m.in_flight) == (work, in_flight);
        let measured: Vec<_> = measurements.iter().filter(of_both).collect();
        text += &format!("\n{work} @{in_flight}: the median (min–max) of the rounds\n\n");
        text += &format!("{}\n", medians(work, &measured));
        if let Some(ratios) = ratios(work, &measured) {
            text += "\nRatios, round by round\n\n";
            text += &format!("{ratios}\n");
        }
    }
    text
}

/// Those that can be divided by each other.
const RATIOS: [Figure; 5] = [figures::THROUGHPUT, figures::P50, figures::P99, figures::SERVER_CPU, figures::CLIENT_CPU];

const COUNTS: [Figure; 6] = [
    Figure::new("server allocations/call", |m| m.server_allocations),
    Figure::new("client allocations/call", |m| m.outcome.client_allocations),
    Figure::new("connections", |m| m.connections as f64),
    Figure::new("TIME_WAIT", |m| m.time_wait as f64),
    Figure::new("failures", |m| m.outcome.failures as f64),
    Figure::new("others' CPU %", |m| m.outcome.others_cpus * 100.0),
];

/// Whether a peer is one of those that the others are compared with.
pub fn is_ours(peer: &str) -> bool {
    peer == "byname" || peer.starts_with("byname-")
}

fn medians(work: Work, measured: &[&Measurement]) -> Table {
    let figures = || RATIOS.iter().chain(&COUNTS).filter(|figure| figure.is_of(work));
    let mut table = table("peer", work, figures());
    for peer in distinct(measured.iter().map(|m| m.peer)) {
        let cells = figures().map(|figure| {
            let of_peer = measured.iter().filter(|m| m.peer == peer);
            spread(of_peer.map(|m| figure.of(m)).collect())
        });
        table.add_row([peer.to_owned()].into_iter().chain(cells));
    }
    table
}

fn ratios(work: Work, measured: &[&Measurement]) -> Option<Table> {
    let (ours, others): (Vec<_>, Vec<_>) =
        distinct(measured.iter().map(|m| m.peer)).into_iter().partition(|p| is_ours(p));
    if ours.is_empty() || others.is_empty() {
        return None;
    }
    let figures = || RATIOS.iter().filter(|figure| figure.is_of(work));
    let mut table = table("ratio", work, figures());
    for our in ours {
        for other in &others {
            let cells = figures().map(|figure| spread(rates(measured, our, other, figure)));
            table.add_row([format!("{our} / {other}")].into_iter().chain(cells));
        }
    }
    Some(table)
}

/// Our figure divided by a peer's in each round.
fn rates(measured: &[&Measurement], ours: &str, other: &str, figure: &Figure) -> Vec<f64> {
    let of = |name| measured.iter().filter(move |m| m.peer == name);
    let pairs = of(ours).flat_map(|ours| {
        let same_round = of(other).filter(|theirs| theirs.round == ours.round);
        same_round.map(move |theirs| (ours, theirs))
    });
    pairs.map(|(ours, theirs)| figure.of(ours) / figure.of(theirs)).collect()
}

fn table<'f>(first: &str, work: Work, figures: impl Iterator<Item = &'f Figure>) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let names = figures.map(|figure| figure.name(work));
    table.set_header([first.to_owned()].into_iter().chain(names));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn spread(mut figures: Vec<f64>) -> String {
    let Some((median, min, max)) = median_min_max(&mut figures) else {
        return "–".to_owned();
    };
    let [median, min, max] = [median, min, max].map(text);
    if min == max { median } else { format!("{median} ({min}–{max})") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Outcome;

    #[test]
    fn ratios_are_of_the_same_round() {
        let rounds = [(1, "byname", 200), (1, "other", 100), (2, "byname", 90), (2, "other", 30), (3, "other", 1)];
        let measurements = rounds.map(|(round, peer, calls)| measurement(round, peer, calls));
        let measured: Vec<_> = measurements.iter().collect();
        assert_eq!(rates(&measured, "byname", "other", &figures::THROUGHPUT), [2.0, 3.0]);
        assert!(ratios(Work::Add, &measured[1..2]).is_none());
    }

    #[test]
    fn a_stream_has_items_and_no_latency() {
        let measurements =
            ["byname", "other"].map(|peer| Measurement { work: Work::Stream, ..measurement(1, peer, 1) });
        let text = tables(&measurements);
        assert!(text.contains("stream @1") && text.contains("| items/s ") && text.contains("byname / other"), "{text}");
        assert!(!text.contains("p50") && !text.contains("call"), "{text}");
    }

    #[test]
    fn the_spread_is_left_out_where_there_is_none() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), "2 (1–3)");
        assert_eq!(spread(vec![1.0, 2.0]), "1.50 (1–2)");
        assert_eq!(spread(vec![128.0, 128.0]), "128");
        assert_eq!(spread(vec![]), "–");
    }

    fn measurement(round: usize, peer: &'static str, calls: u64) -> Measurement {
        Measurement {
            round,
            peer,
            work: Work::Add,
            in_flight: 1,
            outcome: Outcome {
                calls,
                failures: 0,
                first_failure: None,
                seconds: 1.0,
                p50_us: 1.0,
                p99_us: 1.0,
                server_cpu_us: 1.0,
                client_cpu_us: 1.0,
                client_allocations: 1.0,
                others_cpus: 0.0,
            },
            server_allocations: 1.0,
            connections: 1,
            time_wait: 0,
        }
    }
}
