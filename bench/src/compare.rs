//! Runs the peers in turn, each measurement in a fresh pair of processes.

use std::env;
use std::fmt::Write;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use crate::load::Outcome;
use crate::machine;
use crate::measurement::Measurement;
use crate::peers::{self, AnyPeer, PEERS};
use crate::report;
use crate::server::{Ended, Listening};
use crate::versions;
use crate::work::Work;

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
    /// The peers, in the order in which they run; all when left out
    #[arg(long, value_delimiter = ',', value_parser = peers::parser())]
    pub peers: Vec<&'static AnyPeer>,
    #[arg(long, value_delimiter = ',', value_enum, default_value = "add,record")]
    pub works: Vec<Work>,
    /// Calls in flight
    #[arg(long, value_delimiter = ',', default_value = "1,128")]
    pub in_flight: Vec<usize>,
}

pub fn run(options: &Options) -> Result<()> {
    let peers: Vec<_> = match options.peers.as_slice() {
        [] => PEERS.iter().collect(),
        chosen => chosen.to_vec(),
    };
    println!("{}", heading(options, &peers)?);
    let total = options.rounds * options.works.len() * options.in_flight.len() * peers.len();
    let mut measurements = Vec::with_capacity(total);
    for round in 1..=options.rounds {
        for &work in &options.works {
            for &in_flight in &options.in_flight {
                // Peers that are compared run one right after the other: the machine's mood changes.
                for peer in &peers {
                    let measurement = measure(options, round, peer, work, in_flight)
                        .with_context(|| format!("{} {work} @{in_flight}", peer.name))?;
                    let done = measurements.len() + 1;
                    eprintln!("[{done:>3}/{total}] {}", report::line(&measurement));
                    measurements.push(measurement);
                }
            }
        }
    }
    println!("{}", report::tables(&measurements));
    let failures: u64 = measurements.iter().map(|m| m.outcome.failures).sum();
    ensure!(failures == 0, "{failures} calls failed");
    Ok(())
}

fn heading(options: &Options, peers: &[&AnyPeer]) -> Result<String> {
    let Options { rounds, seconds, warm_up, .. } = options;
    let mut text = machine::describe()?;
    for peer in peers {
        write!(text, "\npeer:    {}: {}", peer.name, versions::of(peer.packages)?)?;
    }
    write!(text, "\nrounds:  {rounds}, of {seconds} s each after {warm_up} s of warm-up")?;
    Ok(text)
}

fn measure(options: &Options, round: usize, peer: &AnyPeer, work: Work, in_flight: usize) -> Result<Measurement> {
    let mut server = ServerProcess::start(peer)?;
    let address = server.listening.address;
    // Its port may have been another server's a moment ago.
    let before = machine::time_wait(address)?;
    let outcome = run_client(options, peer, work, in_flight, &server)?;
    // The client's sockets are closed by its end, the server's a moment later.
    sleep(Duration::from_millis(100));
    let after = machine::time_wait(address)?;
    Ok(Measurement {
        round,
        peer: peer.name,
        work,
        in_flight,
        outcome,
        connections: server.end()?.connections,
        time_wait: after.difference(&before).count() as u64,
    })
}

fn run_client(
    options: &Options,
    peer: &AnyPeer,
    work: Work,
    in_flight: usize,
    server: &ServerProcess,
) -> Result<Outcome> {
    let arguments = [
        peer.name.to_owned(),
        server.listening.address.to_string(),
        format!("--work={work}"),
        format!("--in-flight={in_flight}"),
        format!("--warm-up={}", options.warm_up),
        format!("--seconds={}", options.seconds),
        format!("--server-process={}", server.process.id()),
    ];
    let output = role("client")?.args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A server, which does not outlive this value.
pub struct ServerProcess {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    listening: Listening,
}

impl ServerProcess {
    pub fn start(peer: &AnyPeer) -> Result<Self> {
        let mut process = role("server")?.arg(peer.name).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        match read(&mut lines) {
            Ok(listening) => Ok(ServerProcess { process, lines, listening }),
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error)
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn end(&mut self) -> Result<Ended> {
        kill(Pid::from_raw(self.process.id().try_into()?), Signal::SIGTERM)?;
        read(&mut self.lines)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read<T: DeserializeOwned>(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<T> {
    let line = lines.next().context("the server ended early")??;
    Ok(serde_json::from_str(&line)?)
}

/// This program in another role, which ends when the comparison is killed.
fn role(name: &str) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(name);
    // SAFETY: prctl is async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
    Ok(command)
}
