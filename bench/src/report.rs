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

/// Whether it is one of the peers over TLS.
pub fn is_over_tls(peer: &str) -> bool {
    peer.ends_with("-tls")
}

/// Whether the figures of a peer of ours are divided by those of another. Peers over TLS are compared with peers over TLS, and
/// the others with the others. Ours over TLS and over unix sockets are also compared with the same over plain TCP.
fn is_compared(our: &str, other: &str) -> bool {
    if is_ours(other) {
        return ["-tls", "-unix"].iter().any(|over| our.strip_suffix(over) == Some(other));
    }
    is_over_tls(our) == is_over_tls(other)
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
    let peers = distinct(measured.iter().map(|m| m.peer));
    let ours = peers.iter().filter(|peer| is_ours(peer));
    let pairs: Vec<_> = ours
        .flat_map(|our| peers.iter().filter(|other| is_compared(our, other)).map(move |other| (*our, *other)))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let figures = || RATIOS.iter().filter(|figure| figure.is_of(work));
    let mut table = table("ratio", work, figures());
    for (our, other) in pairs {
        let cells = figures().map(|figure| spread(rates(measured, our, other, figure)));
        table.add_row([format!("{our} / {other}")].into_iter().chain(cells));
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

/// The median of the figures, with the least and the greatest.
pub fn spread(mut figures: Vec<f64>) -> String {
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
    fn peers_over_tls_are_compared_with_each_other_and_ours_with_ours_over_plain_tcp() {
        let peers = ["byname-frames", "byname-frames-tls", "byname-frames-unix", "tonic", "tonic-tls"];
        let measurements = peers.map(|peer| measurement(1, peer, 1));
        let text = tables(&measurements);
        let ratios: Vec<_> = text.lines().filter(|line| line.contains(" / ")).collect();
        let expected = [
            "byname-frames / tonic ",
            "byname-frames-tls / byname-frames ",
            "byname-frames-tls / tonic-tls ",
            "byname-frames-unix / byname-frames ",
            "byname-frames-unix / tonic ",
        ];
        assert_eq!(ratios.len(), expected.len(), "{text}");
        for (line, pair) in ratios.iter().zip(expected) {
            assert!(line.contains(pair), "{line} is not {pair}");
        }
        assert!(tables(&[measurement(1, "byname-frames-unix", 1), measurement(1, "byname-frames", 1)]).contains(" / "));
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
