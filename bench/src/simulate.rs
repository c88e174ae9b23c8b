//! Which replica a call goes to, in simulations: byname's choice beside others, in the same scenarios with the same seeds.

mod balancer;
mod peak_ewma;
mod with_ejection;
mod without_ejection;
mod world;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use self::balancer::{LastReport, Oracle, OwnCalls};
use self::world::{Change, Run, Scenario, Service};

#[derive(Args)]
pub struct Options {
    /// How many seeds each cell is run with, from 1
    #[arg(long, default_value_t = 9)]
    pub seeds: u64,
    /// Only scenarios whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    pub scenarios: Vec<String>,
    /// Only balancers whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    pub balancers: Vec<String>,
}

/// The balancers that are compared.
const BALANCERS: [(&str, fn(&Scenario, u64) -> Run); 6] = [
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

pub fn run(options: &Options) -> Result<()> {
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
    Ok(())
}

fn spread(mut values: Vec<f64>) -> String {
    values.sort_unstable_by(f64::total_cmp);
    let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    let places = if median < 10.0 { 3 } else { 1 };
    format!("{median:.places$} ({least:.places$}, {most:.places$})")
}

fn experiments() -> Vec<Experiment> {
    let mut all = Vec::new();
    for clients in [1, 20, 100] {
        all.push(Experiment {
            name: format!("equal: 20 replicas, load 0.9, {clients} clients"),
            scenario: Scenario { clients, replicas: 20, load: 0.9, service: Service::Lognormal, changes: Vec::new(), measured: seconds(5, 25) },
            figures: vec![latency("p50 ms", 0.5), latency("p99 ms", 0.99), latency("p99.9 ms", 0.999)],
        });
    }
    for clients in [1, 20, 100] {
        let at = Duration::from_secs(5);
        let changes = vec![(at, Change::Slow(0, 10.0)), (at, Change::Failing(1)), (at, Change::Failing(2))];
        all.push(Experiment {
            name: format!("faulty: 20 replicas, one slow, two failing at 5 s, load 0.7, {clients} clients"),
            scenario: Scenario { clients, replicas: 20, load: 0.7, service: Service::Lognormal, changes, measured: seconds(5, 35) },
            figures: vec![latency("p99 ms", 0.99), latency("p99.9 ms", 0.999), failed()],
        });
    }
    for clients in [1, 20, 100] {
        let changes = vec![(Duration::from_secs(5), Change::Frozen(0, Duration::from_secs(5)))];
        all.push(Experiment {
            name: format!("frozen: one of 20 replicas for 5 s of 10 s, load 0.9, {clients} clients"),
            scenario: Scenario { clients, replicas: 20, load: 0.9, service: Service::Lognormal, changes, measured: seconds(5, 15) },
            figures: vec![failed(), latency("p99 ms", 0.99), latency("p99.9 ms", 0.999)],
        });
    }
    for clients in [1, 20] {
        for (name, change) in [("ten times slower", Change::Slow(0, 10.0)), ("failing", Change::Failing(0))] {
            let changes = vec![(Duration::from_secs(10), change)];
            all.push(Experiment {
                name: format!("moved: one of 3 replicas {name} at 10 s, load 0.5, {clients} clients"),
                scenario: Scenario { clients, replicas: 3, load: 0.5, service: Service::Lognormal, changes, measured: seconds(10, 20) },
                figures: vec![moved(), failed(), latency("p99 ms", 0.99), latency("p99.9 ms", 0.999)],
            });
        }
    }
    for clients in [1, 100] {
        let changes = vec![(Duration::from_secs(10), Change::JoinsCold)];
        all.push(Experiment {
            name: format!("joins cold: a 21st replica at 10 s, load 0.9 of 20, {clients} clients"),
            scenario: Scenario { clients, replicas: 20, load: 0.9, service: Service::Lognormal, changes, measured: seconds(10, 20) },
            figures: vec![
                share_of_last("share in 10 s", 100, 200),
                share_of_last("in 10 s to 20 s", 200, 210),
                latency("p99 ms", 0.99),
                latency("p99.9 ms", 0.999),
            ],
        });
    }
    for (clients, load) in [(1, 0.1), (1, 0.7), (100, 0.1), (100, 0.7)] {
        for (name, service) in [("lognormal", Service::Lognormal), ("mixed", Service::Mixed)] {
            all.push(Experiment {
                name: format!("herd: 3 equal replicas, {name} service, load {load}, {clients} clients"),
                scenario: Scenario { clients, replicas: 3, load, service, changes: Vec::new(), measured: seconds(5, 35) },
                figures: vec![skew(), latency("p99 ms", 0.99), latency("p99.9 ms", 0.999)],
            });
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

/// How many of the first replica's calls go elsewhere from 5 s to 10 s after the change.
fn moved() -> Figure {
    let share = |run: &Run, from: usize, to: usize| {
        let first: u32 = run.sent[from..to].iter().map(|sent| sent[0]).sum();
        let all: u32 = run.sent[from..to].iter().flatten().sum();
        f64::from(first) / f64::from(all)
    };
    let of = move |run: &Run| 100.0 * (1.0 - share(run, 150, 200) / share(run, 50, 100));
    Figure { name: "moved %", of: Box::new(of) }
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

/// The largest share of a replica beside the smallest.
fn skew() -> Figure {
    let of = |run: &Run| {
        let count = run.sent[50].len();
        let sums = (0..count).map(|index| run.sent[50..350].iter().map(|sent| sent[index]).sum::<u32>());
        f64::from(sums.clone().max().unwrap_or(0)) / f64::from(sums.min().unwrap_or(0))
    };
    Figure { name: "largest / smallest", of: Box::new(of) }
}
