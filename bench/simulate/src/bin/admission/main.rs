//! Which calls a server admits when more come than it can run, in a simulation: byname's rule beside others, in the same
//! scenarios with the same seeds.

#[path = "../../../../../crates/byname/src/admission_rounds.rs"]
#[allow(dead_code, reason = "no caller of the simulation comes back")]
mod admission_rounds;
mod candidates;
mod figures;
mod limit_rules;
#[path = "../../../../../crates/byname/src/round_shares.rs"]
mod round_shares;
mod server;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use candidates::{Admission, AdmittedShare, ByLimit, Byname};
use figures::{Figures, RISE, median};
use limit_rules::{Fixed, Gradient2, InFlightByDelay, OldestWaits, Step};
use round_shares::ArrivedCall;
use server::{CallMix, Function, MICRO, MILLI, SECOND, Scenario, Time, Way};

#[derive(Parser)]
struct Options {
    /// How many seeds each cell is run with, from 1
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Only scenarios whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Only rules whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    rules: Vec<String>,
    /// The calls that come from the second second to the fourth, as multiples of what the server can run
    #[arg(long, value_delimiter = ',', default_value = "0.8,0.95,2,10,50")]
    loads: Vec<f64>,
    /// The deadlines of all calls, in milliseconds
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    deadlines: Vec<u64>,
    /// The threads of the server
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Prints what happens in each tenth of a second, with the first seed
    #[arg(long)]
    trace: bool,
    /// Prints what callers and priorities get in place of the rules
    #[arg(long)]
    shares: bool,
}

/// Makes a rule for a server. The argument is the number of its threads.
type Rule = fn(usize) -> Box<dyn Admission>;

/// The rules that are compared.
const RULES: [(&str, Rule); 9] = [
    ("byname", |threads| Box::new(Byname::new(threads))),
    ("10,000 in flight", |_| Box::new(ByLimit(Fixed(10_000)))),
    ("100 in flight", |_| Box::new(ByLimit(Fixed(100)))),
    ("AIMD on delay", |_| Box::new(ByLimit(InFlightByDelay::new(Step::Aimd, 20.0)))),
    ("target over delay", |_| Box::new(ByLimit(InFlightByDelay::new(Step::Ratio, 2.0)))),
    ("Gradient2", |_| Box::new(ByLimit(Gradient2::new()))),
    ("oldest waits", |_| Box::new(ByLimit(OldestWaits::new(0)))),
    ("oldest waits for 100 ms", |_| Box::new(ByLimit(OldestWaits::new(100 * MILLI)))),
    ("share of calls", |_| Box::new(AdmittedShare::new())),
];

/// What is called, and how its calls come.
#[derive(Clone, Copy)]
struct Experiment {
    name: &'static str,
    way: Way,
    function: Function,
}

const fn experiment(name: &'static str, way: Way, function: Function) -> Experiment {
    Experiment { name, way, function }
}

const EXPERIMENTS: [Experiment; 9] = [
    experiment("0.1 ms of CPU", Way::Tasks, Function::Computes(100 * MICRO)),
    experiment("1 ms of CPU", Way::Tasks, Function::Computes(MILLI)),
    experiment("50 ms of CPU", Way::Tasks, Function::Computes(50 * MILLI)),
    experiment("a database, 5 ms", Way::Tasks, Function::Waits(100 * MICRO, 5 * MILLI, 100 * MICRO)),
    experiment("mixed", Way::Tasks, Function::Mixed),
    experiment("a peer, 500 ms", Way::Tasks, Function::Waits(50 * MICRO, 500 * MILLI, 50 * MICRO)),
    experiment("in place, 0.02 ms of CPU", Way::InPlace, Function::Computes(20 * MICRO)),
    experiment("HTTP, 1 ms of CPU", Way::Http, Function::Computes(MILLI)),
    experiment("HTTP, 50 ms of CPU", Way::Http, Function::Computes(50 * MILLI)),
];

fn main() {
    let options = Options::parse();
    if options.shares {
        return print_shares(&options);
    }
    let has = |names: &[String], name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    for experiment in EXPERIMENTS.iter().filter(|experiment| has(&options.scenarios, experiment.name)) {
        for deadline in options.deadlines.iter().map(|deadline| deadline * MILLI) {
            let unloaded = experiment.unloaded_p99(options.threads);
            let (name, seeds) = (experiment.name, options.seeds);
            println!("\n{name}, deadlines of {} ms, {seeds} seeds: medians\n", deadline / MILLI);
            let mut table = Table::new();
            table.load_style(ASCII_MARKDOWN);
            table.set_header([
                "rule",
                "load",
                "good %",
                "refused %",
                "p50 ms",
                "p99 ms",
                "of idle",
                "met s",
                "ended s",
            ]);
            for (rule, admission) in RULES.iter().filter(|(rule, _)| has(&options.rules, rule)) {
                for load in &options.loads {
                    let scenario = experiment.scenario(*load, deadline, options.threads);
                    let run =
                        |seed| Figures::of(&scenario, admission(options.threads), seed, options.trace && seed == 1);
                    let runs: Vec<Figures> = (1..=seeds).map(run).collect();
                    let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(figure).collect());
                    let p99 = of(|run| run.p99);
                    table.add_row([
                        (*rule).to_owned(),
                        load.to_string(),
                        format!("{:.1}", of(|run| run.good)),
                        format!("{:.1}", of(|run| run.refused)),
                        format!("{:.1}", of(|run| run.p50)),
                        format!("{p99:.1}"),
                        format!("{:.1}", p99 / unloaded),
                        format!("{:.1}", of(|run| run.met)),
                        format!("{:.2}", of(|run| run.ended)),
                    ]);
                }
            }
            for column in table.column_iter_mut().skip(1) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            println!("{table}");
        }
    }
}

impl Experiment {
    /// Half of what the server can run, then `load`, then half again.
    fn scenario(self, load: f64, deadline: Time, threads: usize) -> Scenario {
        let before = load.min(0.5);
        let loads = vec![(0, before), (RISE, load), (figures::FALL, before)];
        let (way, function, mix) = (self.way, self.function, CallMix::Alike);
        Scenario { way, function, threads, deadline, mix, loads, end: figures::END }
    }

    /// Ten callers of which nine want four fifths of a tenth of what the server can run, and one wants fifty tenths. The
    /// calls that are answered, in percent of what the nine want, and of what they leave to the one.
    fn fairness(self, admission: Box<dyn Admission>, threads: usize, seed: u64) -> [f64; 2] {
        let mut scenario = self.scenario(0.72 + 5.0, SECOND, threads);
        // 5 / 0.08 calls for each of another.
        scenario.mix = CallMix::OneBusy(62);
        let run = server::run(&scenario, admission, seed);
        let left = 0.28 * scenario.capacity();
        let served = |wanted, is_chosen: fn(ArrivedCall) -> bool| figures::served(&run, &scenario, wanted, is_chosen);
        [served(None, |call| call.caller > 0), served(Some(left), |call| call.caller == 0)]
    }

    /// Calls of four priorities, equally many, and together `load` times what the server can run. The calls of each that are
    /// answered in percent, from the least important.
    fn priorities(self, admission: Box<dyn Admission>, load: f64, threads: usize, seed: u64) -> [f64; 4] {
        let mut scenario = self.scenario(load, SECOND, threads);
        scenario.mix = CallMix::Priorities;
        let run = server::run(&scenario, admission, seed);
        [0, 1, 2, 3].map(|level| figures::served(&run, &scenario, None, |call: ArrivedCall| call.level == level))
    }

    /// The 99th percentile in milliseconds at half of what the server can run.
    fn unloaded_p99(self, threads: usize) -> f64 {
        let scenario = self.scenario(0.5, SECOND, threads);
        median(
            (1..=5).map(|seed| Figures::of(&scenario, Box::new(ByLimit(Fixed(usize::MAX))), seed, false).p99).collect(),
        )
    }
}

/// Prints what callers and priorities get when there is too much.
fn print_shares(options: &Options) {
    println!(
        "\nOne caller of ten wants fifty times its share: answered of what the nine want and of what they leave, in %\n"
    );
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["function", "nine", "one"]);
    let of = |figure: &dyn Fn(Box<dyn Admission>, u64) -> f64| {
        median((1..=options.seeds).map(|seed| figure(Box::new(Byname::new(options.threads)), seed)).collect())
    };
    for experiment in &EXPERIMENTS {
        let share = |nth: usize| of(&|admission, seed| experiment.fairness(admission, options.threads, seed)[nth]);
        table.add_row([experiment.name.to_owned(), format!("{:.1}", share(0)), format!("{:.1}", share(1))]);
    }
    println!("{table}\n\nFour priorities, as many calls of each: answered in %\n");
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["function", "load", "batch", "sheddable", "default", "critical"]);
    for experiment in &EXPERIMENTS {
        for load in [1.5, 2.5, 10.0] {
            let level = |nth: usize| {
                let answered =
                    of(&|admission, seed| experiment.priorities(admission, load, options.threads, seed)[nth]);
                format!("{answered:.1}")
            };
            table.add_row([experiment.name.to_owned(), load.to_string(), level(0), level(1), level(2), level(3)]);
        }
    }
    println!("{table}");
}

/// What was to be reached (docs/decisions/0157).
#[cfg(test)]
mod goals {
    use super::*;

    const COMPUTE: [&str; 3] = ["0.1 ms of CPU", "1 ms of CPU", "50 ms of CPU"];

    fn experiment(name: &str) -> Experiment {
        *EXPERIMENTS.iter().find(|experiment| experiment.name == name).expect("there is such an experiment")
    }

    /// The median of a figure, with seeds 1 to 3.
    fn ours(name: &str, load: f64, deadline: Time, figure: fn(&Figures) -> f64) -> f64 {
        let scenario = experiment(name).scenario(load, deadline, 2);
        median((1..=3).map(|seed| figure(&Figures::of(&scenario, Box::new(Byname::new(2)), seed, false))).collect())
    }

    #[test]
    fn at_ten_times_the_load_nearly_as_many_calls_are_answered_in_time() {
        for name in ["1 ms of CPU", "50 ms of CPU", "a database, 5 ms", "mixed", "HTTP, 1 ms of CPU"] {
            for deadline in [100 * MILLI, SECOND] {
                let good = ours(name, 10.0, deadline, |run| run.good);
                assert!(good >= 90.0, "{name}: {good} % with deadlines of {} ms", deadline / MILLI);
            }
        }
    }

    #[test]
    fn the_target_is_met_and_given_up_within_a_second() {
        for name in COMPUTE {
            for load in [2.0, 10.0, 50.0] {
                let (met, ended) = (ours(name, load, SECOND, |run| run.met), ours(name, load, SECOND, |run| run.ended));
                assert!(met <= 1.0 && ended <= 1.0, "{name} at {load}: {met} s and {ended} s");
            }
        }
    }

    #[test]
    fn latencies_stay_within_three_times_those_of_an_idle_server() {
        for name in ["1 ms of CPU", "50 ms of CPU", "a database, 5 ms", "mixed"] {
            for load in [2.0, 10.0, 50.0] {
                let (p99, idle) = (ours(name, load, SECOND, |run| run.p99), experiment(name).unloaded_p99(2));
                assert!(p99 <= 3.0 * idle, "{name} at {load}: {p99} ms, idle {idle} ms");
            }
        }
    }

    #[test]
    fn one_caller_at_fifty_times_its_share_leaves_the_others_theirs() {
        for name in ["0.1 ms of CPU", "1 ms of CPU", "50 ms of CPU", "a database, 5 ms"] {
            let runs = (1..=3).map(|seed| experiment(name).fairness(Box::new(Byname::new(2)), 2, seed)[0]);
            let others = median(runs.collect());
            assert!(others >= 95.0, "{name}: {others} % of what the others want");
        }
    }

    #[test]
    fn the_least_important_calls_are_refused_first() {
        for name in ["0.1 ms of CPU", "1 ms of CPU", "a database, 5 ms"] {
            for load in [1.5, 2.5] {
                let runs: Vec<_> =
                    (1..=3).map(|seed| experiment(name).priorities(Box::new(Byname::new(2)), load, 2, seed)).collect();
                let of = |level: usize| median(runs.iter().map(|run| run[level]).collect());
                assert!(of(3) >= 80.0 && of(0) <= 10.0, "{name} at {load}: {} and {} %", of(3), of(0));
            }
        }
    }

    #[test]
    fn functions_that_wait_for_others_are_not_refused() {
        for name in ["a database, 5 ms", "a peer, 500 ms"] {
            for load in [0.8, 0.95] {
                let refused = ours(name, load, SECOND, |run| run.refused);
                assert!(refused == 0.0, "{name} at {load}: {refused} %");
            }
        }
    }
}
