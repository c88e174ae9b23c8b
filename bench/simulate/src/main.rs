//! Which replica a call goes to, in a simulation: byname's choice beside others, in the same scenarios with the same seeds.

mod balancer;
mod peak_ewma;
mod plots;
#[path = "../../../crates/byname/src/client/rendezvous_hash.rs"]
#[allow(dead_code, reason = "no call of the simulation has a key")]
mod rendezvous_hash;
#[path = "../../../crates/byname/src/client/replica_subset.rs"]
mod replica_subset;
mod with_ejection;
#[allow(clippy::duplicate_mod, reason = "the client's files are compiled once with its ejection and once without")]
mod without_ejection;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use balancer::{LastReport, Oracle, OwnCalls};
use world::{Change, Run, Scenario, Service, Subsets};

#[derive(Parser)]
struct Options {
    /// How many seeds each cell is run with, from 1
    #[arg(long, default_value_t = 15)]
    seeds: u64,
    /// Only scenarios whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Only balancers whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    balancers: Vec<String>,
    /// Draws the plots of docs/reliability.md into this directory, and prints no tables
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// Runs a scenario with one balancer and one seed.
type Simulation = fn(&Scenario, u64) -> Run;

/// The balancers that are compared.
const BALANCERS: [(&str, Simulation); 6] = [
    ("byname", world::run::<with_ejection::BynameClient>),
    ("byname without ejection", world::run::<without_ejection::BynameClient>),
    ("tower p2c PeakEwma", world::run::<peak_ewma::TowerPeakEwma>),
    ("own calls in flight", world::run::<OwnCalls>),
    ("last report", world::run::<LastReport>),
    ("oracle", world::run::<Oracle>),
];

/// A scenario, and what is to be seen in it.
struct Experiment {
    name: String,
    scenario: Scenario,
    figures: Vec<Figure>,
}

struct Figure {
    name: &'static str,
    of: Box<dyn Fn(&Run) -> f64>,
}

fn main() {
    let options = Options::parse();
    if let Some(directory) = &options.plots {
        match plots::draw(directory, options.seeds) {
            Ok(files) => files.iter().for_each(|file| println!("{}", file.display())),
            Err(why) => {
                eprintln!("the plots can't be drawn: {why}");
                std::process::exit(1);
            }
        }
        return;
    }
    let has = |names: &[String], name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    for experiment in experiments().iter().filter(|experiment| has(&options.scenarios, &experiment.name)) {
        println!("\n{}, {} seeds: median (least, most)\n", experiment.name, options.seeds);
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["balancer"].into_iter().chain(experiment.figures.iter().map(|figure| figure.name)));
        for (name, run) in BALANCERS.iter().filter(|(name, _)| has(&options.balancers, name)) {
            let runs: Vec<Run> = (1..=options.seeds).map(|seed| run(&experiment.scenario, seed)).collect();
            let cells = experiment.figures.iter().map(|figure| spread(runs.iter().map(&figure.of).collect()));
            table.add_row([(*name).to_owned()].into_iter().chain(cells));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }
}

fn spread(mut values: Vec<f64>) -> String {
    values.sort_unstable_by(f64::total_cmp);
    let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    let places = if median.abs() < 10.0 { 3 } else { 1 };
    format!("{median:.places$} ({least:.places$}, {most:.places$})")
}

fn experiments() -> Vec<Experiment> {
    let tail = || [latency("p99 ms", 0.99), latency("p99.9 ms", 0.999)];
    let mut all = Vec::new();
    let mut add = |name: String, scenario: Scenario, figures: Vec<Figure>| {
        all.push(Experiment { name, scenario, figures: figures.into_iter().chain(tail()).collect() });
    };
    for clients in [1, 20, 100] {
        let name = format!("equal: 20 replicas, load 0.9, {clients} clients");
        let scenario = Scenario { measured: seconds(5, 25), ..Scenario::new(clients, 20, 0.9) };
        add(name, scenario, vec![latency("p50 ms", 0.5)]);
    }
    for clients in [1, 20, 100] {
        let at = Duration::from_secs(5);
        let changes = vec![(at, Change::Slow(0, 10.0)), (at, Change::Failing(1, 1.0)), (at, Change::Failing(2, 1.0))];
        let name = format!("faulty: 20 replicas, one slow, two failing at 5 s, load 0.7, {clients} clients");
        let scenario = Scenario { changes, measured: seconds(5, 35), ..Scenario::new(clients, 20, 0.7) };
        add(name, scenario, vec![failed()]);
    }
    for clients in [1, 20, 100] {
        let changes = vec![(Duration::from_secs(5), Change::Frozen(0, Duration::from_secs(5)))];
        let name = format!("frozen: one of 20 replicas for 5 s of 10 s, load 0.9, {clients} clients");
        let scenario = Scenario { changes, measured: seconds(5, 15), ..Scenario::new(clients, 20, 0.9) };
        add(name, scenario, vec![failed()]);
    }
    for clients in [1, 20] {
        let at = Duration::from_secs(10);
        let slow = (at, Change::Slow(0, 10.0));
        let failing = |share| (at, Change::Failing(1, share));
        for (what, load, changes) in [
            ("one ten times slower", 0.5, vec![slow]),
            ("one failing", 0.5, vec![failing(1.0)]),
            ("one failing", 0.62, vec![failing(1.0)]),
            ("one failing every second call", 0.5, vec![failing(0.5)]),
            ("one ten times slower and one failing", 0.25, vec![slow, failing(1.0)]),
        ] {
            let figures = changes.iter().map(|(_, change)| moved(*change)).chain([failed()]).collect();
            let name = format!("moved: 3 replicas, {what} at 10 s, load {load}, {clients} clients");
            let scenario = Scenario { changes, measured: seconds(10, 20), ..Scenario::new(clients, 3, load) };
            add(name, scenario, figures);
        }
    }
    for clients in [1, 20] {
        let refusing = Change::Refusing(0, Duration::from_secs(10));
        let name = format!("refusing: one of 3 replicas for 10 s from 10 s, load 0.5, {clients} clients");
        let changes = vec![(Duration::from_secs(10), refusing)];
        let scenario = Scenario { changes, measured: seconds(10, 35), ..Scenario::new(clients, 3, 0.5) };
        let back = share_of_first("share of it from 25 s to 35 s", 250, 350);
        add(name, scenario, vec![moved(refusing), back, failed()]);
    }
    for clients in [1, 100] {
        let changes = vec![(Duration::from_secs(10), Change::JoinsCold)];
        let name = format!("joins cold: a 21st replica at 10 s, load 0.9 of 20, {clients} clients");
        let scenario = Scenario { changes, measured: seconds(10, 20), ..Scenario::new(clients, 20, 0.9) };
        let figures = vec![share_of_last("share in 10 s", 100, 200), share_of_last("in the next second", 200, 210)];
        add(name, scenario, figures);
    }
    for (clients, load) in [(1, 0.1), (1, 0.7), (100, 0.1), (100, 0.7)] {
        for (what, service) in [("lognormal", Service::Lognormal), ("mixed", Service::Mixed)] {
            let name = format!("herd: 3 equal replicas, {what} service, load {load}, {clients} clients");
            let scenario = Scenario { service, measured: seconds(5, 35), ..Scenario::new(clients, 3, load) };
            add(name, scenario, vec![skew(50, 350)]);
        }
    }
    for (how, subsets) in [("at random", Subsets::Random), ("by their numbers", Subsets::Numbered)] {
        for load in [0.7, 0.9] {
            let name = format!("subsets: each of 100 clients has 20 of 100 replicas {how}, load {load}");
            let scenario = Scenario { subsets, measured: seconds(2, 12), ..Scenario::new(100, 100, load) };
            add(name, scenario, vec![fewest_clients(), most_clients(), skew(20, 120)]);
        }
    }
    all
}

fn seconds(from: u64, to: u64) -> (Duration, Duration) {
    (Duration::from_secs(from), Duration::from_secs(to))
}

fn latency(name: &'static str, quantile: f64) -> Figure {
    let of = move |run: &Run| {
        let index = (run.latencies.len() as f64 * quantile) as usize;
        run.latencies.get(index).copied().unwrap_or(f32::NAN).into()
    };
    Figure { name, of: Box::new(of) }
}

fn failed() -> Figure {
    let of = |run: &Run| run.failed as f64 * 100.0 / (run.failed + run.latencies.len()) as f64;
    Figure { name: "failed %", of: Box::new(of) }
}

/// How many of the calls of a replica that has become bad go elsewhere from 5 s to 10 s after that.
fn moved(change: Change) -> Figure {
    let (name, index) = match change {
        Change::Slow(index, _) => ("moved from the slow %", index),
        Change::Failing(index, _) => ("moved from the failing %", index),
        Change::Refusing(index, _) => ("moved from the refusing %", index),
        Change::Frozen(..) | Change::JoinsCold => unreachable!("these don't last"),
    };
    let share = move |run: &Run, from: usize, to: usize| {
        let its: u32 = run.sent[from..to].iter().map(|sent| sent[index]).sum();
        let all: u32 = run.sent[from..to].iter().flatten().sum();
        f64::from(its) / f64::from(all)
    };
    let of = move |run: &Run| 100.0 * (1.0 - share(run, 150, 200) / share(run, 50, 100));
    Figure { name, of: Box::new(of) }
}

/// The calls of the last replica beside those of an average one.
fn share_of_last(name: &'static str, from: usize, to: usize) -> Figure {
    let of = move |run: &Run| {
        let tenths = &run.sent[from..to];
        let last: u32 = tenths.iter().filter_map(|sent| sent.last()).sum();
        let all: u32 = tenths.iter().flatten().sum();
        f64::from(last) * tenths[0].len() as f64 / f64::from(all)
    };
    Figure { name, of: Box::new(of) }
}

/// The calls of the first replica beside those of an average one.
fn share_of_first(name: &'static str, from: usize, to: usize) -> Figure {
    let of = move |run: &Run| {
        let tenths = &run.sent[from..to];
        let first: u32 = tenths.iter().map(|sent| sent[0]).sum();
        let all: u32 = tenths.iter().flatten().sum();
        f64::from(first) * tenths[0].len() as f64 / f64::from(all)
    };
    Figure { name, of: Box::new(of) }
}

/// The largest share of a replica beside the smallest.
fn skew(from: usize, to: usize) -> Figure {
    let of = move |run: &Run| {
        let count = run.sent[from].len();
        let sums = (0..count).map(|index| run.sent[from..to].iter().map(|sent| sent[index]).sum::<u32>());
        f64::from(sums.clone().max().unwrap_or(0)) / f64::from(sums.min().unwrap_or(0))
    };
    Figure { name: "largest / smallest", of: Box::new(of) }
}

/// The replica with the fewest clients.
fn fewest_clients() -> Figure {
    let of = |run: &Run| f64::from(run.connections.iter().copied().min().unwrap_or(0));
    Figure { name: "fewest clients", of: Box::new(of) }
}

/// The replica with the most.
fn most_clients() -> Figure {
    let of = |run: &Run| f64::from(run.connections.iter().copied().max().unwrap_or(0));
    Figure { name: "most clients", of: Box::new(of) }
}

/// What was to be reached (docs/decisions/0140).
#[cfg(test)]
mod goals {
    use super::*;

    /// The median of a figure of a scenario, with seeds 1 to 3.
    fn median(scenario: &str, figure: &str, simulation: Simulation) -> f64 {
        let experiments = experiments();
        let found = experiments.iter().find(|experiment| experiment.name.starts_with(scenario));
        let Experiment { scenario, figures, .. } = found.expect("there is such a scenario");
        let figure = figures.iter().find(|one| one.name == figure).expect("it has such a figure");
        let mut values: Vec<f64> = (1..=3).map(|seed| (figure.of)(&simulation(scenario, seed))).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[1]
    }

    const OURS: Simulation = world::run::<with_ejection::BynameClient>;
    const PEAK_EWMA: Simulation = world::run::<peak_ewma::TowerPeakEwma>;

    #[test]
    fn with_many_clients_p99_is_at_most_four_fifths_of_peak_ewma() {
        let of = |simulation| median("equal: 20 replicas, load 0.9, 100 clients", "p99 ms", simulation);
        let (ours, peak_ewma) = (of(OURS), of(PEAK_EWMA));
        assert!(ours <= 0.8 * peak_ewma, "{ours} ms against {peak_ewma}");
    }

    #[test]
    fn replicas_that_fail_at_once_fail_few_calls() {
        let of = |simulation| {
            median("faulty: 20 replicas, one slow, two failing at 5 s, load 0.7, 100 clients", "failed %", simulation)
        };
        let (ours, peak_ewma) = (of(OURS), of(PEAK_EWMA));
        assert!(ours <= 0.15 * peak_ewma && ours <= 0.2, "{ours} % against {peak_ewma}");
    }

    #[test]
    fn a_replica_that_freezes_costs_few_calls() {
        for clients in [1, 20, 100] {
            let scenario = format!("frozen: one of 20 replicas for 5 s of 10 s, load 0.9, {clients} clients");
            let failed = median(&scenario, "failed %", OURS);
            assert!(failed <= 0.1, "{failed} % with {clients} clients");
        }
    }

    #[test]
    fn calls_move_away_from_a_replica_that_gets_slow_or_fails() {
        for clients in [1, 20] {
            let of = |what, figure| {
                median(&format!("moved: 3 replicas, {what} at 10 s, load 0.5, {clients} clients"), figure, OURS)
            };
            let (slow, failing) =
                (of("one ten times slower", "moved from the slow %"), of("one failing", "moved from the failing %"));
            assert!(slow >= 90.0 && failing >= 90.0, "{slow} % and {failing} % with {clients} clients");
        }
    }

    #[test]
    fn calls_move_away_from_a_slow_replica_also_where_another_one_fails() {
        for clients in [1, 20] {
            let scenario = format!(
                "moved: 3 replicas, one ten times slower and one failing at 10 s, load 0.25, {clients} clients"
            );
            let moved = median(&scenario, "moved from the slow %", OURS);
            assert!(moved >= 90.0, "{moved} % with {clients} clients");
        }
    }

    #[test]
    fn a_replica_that_refuses_calls_loses_them_and_gets_them_back() {
        for clients in [1, 20] {
            let scenario = format!("refusing: one of 3 replicas for 10 s from 10 s, load 0.5, {clients} clients");
            let moved = median(&scenario, "moved from the refusing %", OURS);
            let share = median(&scenario, "share of it from 25 s to 35 s", OURS);
            assert!(moved >= 90.0 && share >= 0.4, "{moved} %, then {share} of its share, with {clients} clients");
        }
    }

    #[test]
    fn subsets_give_replicas_equal_shares() {
        for (how, most) in [("at random", 2.0), ("by their numbers", 1.15)] {
            let scenario = format!("subsets: each of 100 clients has 20 of 100 replicas {how}, load 0.7");
            let skew = median(&scenario, "largest / smallest", OURS);
            assert!(skew <= most, "{skew} with subsets {how}");
        }
    }

    #[test]
    fn equal_replicas_get_equal_shares() {
        for (clients, load) in [(1, 0.1), (1, 0.7), (100, 0.1), (100, 0.7)] {
            let scenario = format!("herd: 3 equal replicas, lognormal service, load {load}, {clients} clients");
            let skew = median(&scenario, "largest / smallest", OURS);
            assert!(skew <= 1.3, "{skew} with {clients} clients at load {load}");
        }
    }
}
