//! Runs the peers in turn, each measurement in a fresh pair of processes.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::load::Outcome;
use crate::machine;
use crate::measurement::Measurement;
use crate::peers::{self, AnyPeer, PEERS};
use crate::plots;
use crate::process::{self, Under};
use crate::report;
use crate::server::Ended;
use crate::versions;
use crate::work::Work;

pub use crate::process::ServerProcess;

#[derive(Args)]
pub struct Options {
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seconds before each measurement
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// The peers, in the order in which they run. By default all but `floor-websocket`, `byname-frames-4` and those on
    /// several threads or over unix sockets. Those over TLS exist only with the feature `tls`
    #[arg(long, value_delimiter = ',', value_parser = peers::parser())]
    pub peers: Vec<&'static AnyPeer>,
    #[arg(long, value_delimiter = ',', value_enum, default_value = "add,record,payload,stream")]
    pub works: Vec<Work>,
    /// Calls in flight, for payloads at most 32; or streams at once, at most 128
    #[arg(long, value_delimiter = ',', default_value = "1,128")]
    pub in_flight: Vec<usize>,
    /// 1, 8, 32, 128 and 512 calls in flight
    #[arg(long, conflicts_with = "in_flight")]
    pub sweep: bool,
    /// Draws plots into this directory
    #[arg(long)]
    pub plots: Option<PathBuf>,
}

impl Options {
    /// What is measured in a round: peers that are compared one right after the other, because the machine's mood changes.
    fn round(&self) -> Vec<Setting> {
        let peers: Vec<_> = match self.peers.as_slice() {
            [] => PEERS.iter().filter(|peer| !peer.only_by_name).collect(),
            chosen => chosen.to_vec(),
        };
        let in_flight: &[usize] = if self.sweep { &[1, 8, 32, 128, 512] } else { &self.in_flight };
        let mut settings = Vec::new();
        for &work in &self.works {
            let mut counts: Vec<_> = in_flight.iter().map(|count| *count.min(&work.max_in_flight())).collect();
            counts.dedup();
            for in_flight in counts {
                let able = peers.iter().filter(|peer| peer.can(work));
                settings.extend(able.map(|peer| Setting { peer, work, in_flight }));
            }
        }
        settings
    }
}

#[derive(Clone, Copy)]
struct Setting {
    peer: &'static AnyPeer,
    work: Work,
    in_flight: usize,
}

pub fn run(options: &Options) -> Result<()> {
    let round = options.round();
    println!("{}", heading(options, &round)?);
    let total = options.rounds * round.len();
    let mut measurements = Vec::with_capacity(total);
    let began = Instant::now();
    for number in 1..=options.rounds {
        for setting in &round {
            let Setting { peer, work, in_flight } = setting;
            let measurement =
                measure(options, number, setting).with_context(|| format!("{} {work} @{in_flight}", peer.name))?;
            let done = measurements.len() + 1;
            let left = began.elapsed() / done as u32 * (total - done) as u32;
            let minutes = left.as_secs_f64() / 60.0;
            eprintln!("[{done:>3}/{total}, {minutes:.1} min left] {}", report::line(&measurement));
            measurements.push(measurement);
        }
    }
    println!("{}", report::tables(&measurements));
    if let Some(directory) = &options.plots {
        for file in plots::draw(&measurements, directory)? {
            println!("{}", file.display());
        }
    }
    let failures: u64 = measurements.iter().map(|m| m.outcome.failures).sum();
    ensure!(failures == 0, "{failures} calls failed");
    Ok(())
}

fn heading(options: &Options, round: &[Setting]) -> Result<String> {
    let Options { rounds, seconds, warm_up, .. } = options;
    let mut text = machine::describe()?;
    let mut known = HashSet::new();
    for Setting { peer, .. } in round {
        if known.insert(peer.name) {
            let tls = if report::is_over_tls(peer.name) { &["rustls"][..] } else { &[] };
            let packages = [peer.packages, tls].concat();
            write!(text, "\npeer:    {}: {}", peer.name, versions::of(&packages)?)?;
        }
    }
    write!(text, "\nrounds:  {rounds}, of {seconds} s each after {warm_up} s of warm-up")?;
    Ok(text)
}

fn measure(options: &Options, round: usize, setting: &Setting) -> Result<Measurement> {
    let Setting { peer, work, in_flight } = *setting;
    let mut server = ServerProcess::start(peer)?;
    let address = server.address();
    // Its port may have been another server's a moment ago.
    let before = machine::time_wait(address)?;
    let arguments = [
        format!("--work={work}"),
        format!("--in-flight={in_flight}"),
        format!("--warm-up={}", options.warm_up),
        format!("--seconds={}", options.seconds),
        format!("--server-process={}", server.id()),
    ];
    let output = process::run_client(Under::Nothing, peer, address, &arguments)?;
    let outcome: Outcome = serde_json::from_slice(&output.stdout)?;
    let after = machine::time_wait_at_rest(address)?;
    let Ended { connections, allocations } = server.end()?;
    Ok(Measurement {
        round,
        peer: peer.name,
        work,
        in_flight,
        server_allocations: allocations as f64 / outcome.calls as f64,
        outcome,
        connections,
        time_wait: after.difference(&before).count() as u64,
    })
}
