//! A server that gets more calls than it can run: byname, tonic, axum and tarpc under an open loop. ../README.md says how it
//! is measured.
//!
//! The [`loader`] makes the calls of a plan ([`arrivals`]) from one CPU. The [`server`] is this program again, on another CPU.
//! Each of the [`scenarios`] prints a table of the [`calls`].

mod arrivals;
mod calls;
mod function;
#[path = "../../simulate/src/bin/admission/limit_rules.rs"]
#[allow(dead_code, reason = "the simulation compares more rules")]
mod limit_rules;
mod loader;
mod machine;
mod network;
mod peers;
mod plots;
mod scenarios;
mod server;
mod tables;
mod versions;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use arrivals::Arrivals;
use function::Function;
use peers::Peer;
use scenarios::Tested;

#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Runs the server of one peer alone, until its standard input ends
    Serve(server::Options),
}

#[derive(Args)]
struct Options {
    /// Only these scenarios
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Only these peers
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// The loads of `steps`, as multiples of the peer's capacity
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.85,1,2,5,10,20,50")]
    loads: Vec<f64>,
    /// The length of each load, whose first third is not counted
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The time that a call has, from its intended send time
    #[arg(long, default_value_t = 100)]
    deadline_ms: u64,
    /// What the server does for a call
    #[arg(long, default_value = "cpu")]
    function: Function,
    /// The CPU time of a call
    #[arg(long, default_value_t = 1000)]
    work_us: u64,
    /// How the intended send times lie
    #[arg(long, default_value = "poisson")]
    arrivals: Arrivals,
    /// What the random send times begin from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The connections of each caller
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// The limit of calls in flight of peers that have a fixed one, in place of the best of 8, 32 and 128
    #[arg(long)]
    concurrency: Option<usize>,
    /// The calls in flight with which the capacity is measured, in place of 16, or more where functions wait
    #[arg(long)]
    in_flight: Option<usize>,
    /// The calls a second that count as the capacity of every peer, in place of those that were measured
    #[arg(long)]
    capacity: Option<f64>,
    /// How many calls a connection of HTTP/2 may have in flight, in place of hyper's 200; the others wait in the client
    #[arg(long)]
    streams: Option<u32>,
    /// How many cancelled streams a connection of HTTP/2 may have before its server closes it, in place of hyper's 20
    #[arg(long)]
    cancelled_streams: Option<usize>,
    /// The worker threads of the server's runtime, all on one CPU
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Draws the plots of `steps` into this directory
    #[arg(long)]
    plots: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// From half of the capacity to fifty times the capacity
    Steps,
    /// What the CPU time of a refused call is, at the highest load
    Cost,
    /// Ten times the capacity, then half of it again
    Drop,
    /// One of ten callers makes fifty times its fair share of the calls
    Caller,
}

fn main() -> Result<()> {
    let line = CommandLine::parse();
    match &line.role {
        Some(Role::Serve(options)) => server::serve(options),
        None => run(&line.options),
    }
}

fn run(options: &Options) -> Result<()> {
    options.check()?;
    if options.has(Scenario::Caller) {
        network::enter()?;
    }
    machine::raise_file_limit()?;
    machine::pin(machine::LOADER_CPU)?;
    // One thread: the loader never takes the server's CPU.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_scenarios(options))
}

async fn run_scenarios(options: &Options) -> Result<()> {
    println!("{}", machine::describe()?);
    println!("{}\n", versions::of(&options.peers())?);
    println!("{}", options.describe());
    let concurrency = scenarios::limit::choose(options).await?;
    let mut tested = Vec::new();
    for (peer, concurrency) in concurrency {
        tested.push(Tested::measure(peer, concurrency, options).await?);
    }
    scenarios::print_capacities(&tested);
    if options.has(Scenario::Steps) || options.has(Scenario::Cost) {
        scenarios::steps::run(&tested, options).await?;
    }
    if options.has(Scenario::Drop) {
        scenarios::load_drop::run(&tested, options).await?;
    }
    if options.has(Scenario::Caller) {
        scenarios::greedy_caller::run(&tested, options).await?;
    }
    Ok(())
}

impl Options {
    fn check(&self) -> Result<()> {
        ensure!(self.seconds > 0.0, "--seconds is {}, and a load needs some time", self.seconds);
        ensure!(self.deadline_ms > 0, "--deadline-ms is 0, and no call can be answered in that time");
        ensure!(self.connections > 0, "--connections is 0, and a call needs one");
        ensure!(self.workers > 0, "--workers is 0, and the server needs one");
        let capacity = self.capacity.unwrap_or(1.0);
        ensure!(capacity > 0.0 && capacity.is_finite(), "--capacity is {capacity}, and it is a number above 0");
        ensure!(self.streams != Some(0), "--streams is 0, and a call needs one");
        ensure!(self.concurrency != Some(0), "--concurrency is 0, which refuses every call");
        ensure!(!self.loads.is_empty(), "--loads is empty, and there is nothing to measure");
        for load in &self.loads {
            ensure!(*load > 0.0 && load.is_finite(), "--loads has {load}, and a load is a number above 0");
        }
        Ok(())
    }

    fn has(&self, scenario: Scenario) -> bool {
        self.scenarios.is_empty() || self.scenarios.contains(&scenario)
    }

    fn peers(&self) -> Vec<Peer> {
        let usual = || Peer::value_variants().iter().copied().filter(|peer| !peer.is_rule());
        if self.peers.is_empty() { usual().collect() } else { self.peers.clone() }
    }

    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// What comes before is not counted.
    fn warm_up(&self) -> Duration {
        self.length() / 3
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// The calls in flight with which the capacity is measured: enough to keep the server's CPU busy.
    fn closed_loop(&self) -> usize {
        self.in_flight.unwrap_or(match self.function {
            Function::Cpu | Function::Blocking => 16,
            Function::Mixed => 64,
            Function::Wait => 1024,
        })
    }

    fn describe(&self) -> String {
        format!(
            "function {}, deadlines of {} ms, {} connections, {} arrivals with seed {}, {} s for each load, one server CPU \
             with {} worker thread(s)",
            self.function.describe(Duration::from_micros(self.work_us)),
            self.deadline_ms,
            self.connections,
            self.arrivals.name(),
            self.seed,
            self.seconds,
            self.workers,
        )
    }
}
