//! Instructions a call, counted by callgrind: the same on every run, where a clock is too coarse or its machine too busy.
//!
//! A side runs under callgrind twice with different numbers of calls. The difference is that of the calls alone: start,
//! connecting and warming up are in both.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, process};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::peers::{self, AnyPeer, PEERS};
use crate::process::{ServerProcess, Under, run_client};
use crate::report;
use crate::work::Work;

#[derive(Args)]
pub struct Options {
    /// byname in all its ways when left out
    #[arg(long, value_delimiter = ',', value_parser = peers::parser())]
    pub peers: Vec<&'static AnyPeer>,
    #[arg(long, value_delimiter = ',', value_enum, default_value = "add,record")]
    pub works: Vec<Work>,
    /// Calls in flight. With more than one it matters how many share a wake-up, which changes with the speed
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub in_flight: Vec<usize>,
    /// How many calls are counted
    #[arg(long, default_value_t = 6000)]
    pub calls: u64,
    /// Keeps what was counted in bench/instructions.toml, to be committed
    #[arg(long)]
    pub record: bool,
}

/// By peer, then by what was counted.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

pub fn run(options: &Options) -> Result<()> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let mut recorded = read(&file)?;
    let clock = SlowClock::build()?;
    let peers: Vec<_> = match options.peers.as_slice() {
        [] => {
            let ours = PEERS.iter().filter(|peer| !peer.only_by_name && report::is_ours(peer.name));
            // valgrind lacks instructions of the processor, and the cryptography takes others there.
            ours.filter(|peer| !report::is_over_tls(peer.name)).collect()
        }
        chosen => chosen.to_vec(),
    };
    println!("user instructions a call                      now   recorded   change");
    for peer in peers {
        for &work in &options.works {
            for &in_flight in &options.in_flight {
                for side in [Side::Server, Side::Client] {
                    let what = format!("{work} @{in_flight} {side:?}").to_lowercase();
                    let now =
                        per_call(&clock, peer, work, in_flight, side, options.calls).with_context(|| what.clone())?;
                    let last = recorded.entry(peer.name.to_owned()).or_default();
                    println!("{:<36} {now:>12} {}", format!("{} {what}", peer.name), beside(now, last.get(&what)));
                    last.insert(what, now);
                }
            }
        }
    }
    if options.record {
        fs::write(&file, format!("{HEADING}{}", toml::to_string(&recorded)?))?;
        println!("kept in {}", file.display());
    }
    Ok(())
}

const HEADING: &str = "\
# User instructions a call, as `bench instructions --record` counted them with callgrind. They depend on the compiler and
# on the C library, but neither on the machine's speed nor on what else it does.

";

fn read(file: &PathBuf) -> Result<Counts> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(toml::from_str(&text)?)
}

fn beside(now: u64, last: Option<&u64>) -> String {
    match last {
        Some(&last) => format!("{last:>10} {:>+7.1} %", (now as f64 / last as f64 - 1.0) * 100.0),
        None => format!("{:>10} {:>9}", "–", "–"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Server,
    Client,
}

fn per_call(clock: &SlowClock, peer: &AnyPeer, work: Work, in_flight: usize, side: Side, calls: u64) -> Result<u64> {
    let slots = in_flight as u64;
    // As many as a slot needs until its buffers have their size, its connection is the one that it keeps, and the client has
    // stopped to look for other servers behind the address.
    let few = 2000;
    let more = calls.div_ceil(slots);
    let fewer = count(clock, peer, work, in_flight, side, few)?;
    let all = count(clock, peer, work, in_flight, side, few + more)?;
    Ok(all.saturating_sub(fewer) / (more * slots))
}

/// What one side executes, from its start to its end.
fn count(clock: &SlowClock, peer: &AnyPeer, work: Work, in_flight: usize, side: Side, each: u64) -> Result<u64> {
    let under = |this, preload| if side == this { Under::Callgrind { preload } } else { Under::Nothing };
    let mut server = ServerProcess::start_under(under(Side::Server, Some(clock.0.as_path())), peer)?;
    let arguments = [format!("--work={work}"), format!("--in-flight={in_flight}"), format!("--calls-each={each}")];
    let client = run_client(under(Side::Client, None), peer, server.address(), &arguments)?;
    server.end()?;
    let said = match side {
        Side::Server => server.errors()?,
        Side::Client => String::from_utf8_lossy(&client.stderr).into_owned(),
    };
    collected(&said).with_context(|| format!("callgrind said: {said}"))
}

/// A library whose clock is slow, which does not outlive this value. A server reads it, so that its functions are always
/// polled as quick ones, however long callgrind makes their polls. A client decides nothing by the time that its own code takes.
struct SlowClock(PathBuf);

impl SlowClock {
    fn build() -> Result<Self> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/slow_clock.c");
        let library = env::temp_dir().join(format!("byname-bench-slow-clock-{}.so", process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        let status = compiler.status().with_context(|| format!("{compiler:?}: it needs a C compiler"))?;
        ensure!(status.success(), "{compiler:?} failed");
        Ok(Self(library))
    }
}

impl Drop for SlowClock {
    fn drop(&mut self) {
        // It is a file in the temporary directory.
        let _ = fs::remove_file(&self.0);
    }
}

/// From a line like `==42== Collected : 123456`.
fn collected(said: &str) -> Option<u64> {
    let (_, count) = said.lines().find_map(|line| line.split_once("Collected :"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrind_is_understood() {
        let said = "==7== Callgrind, a call-graph generating cache profiler\n==7== Events    : Ir\n==7== Collected : 1234567\n";
        assert_eq!(collected(said), Some(1_234_567));
        assert_eq!(collected("==7== valgrind: no such tool\n"), None);
    }

    #[test]
    fn what_is_recorded_can_be_read() {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
        assert!(read(&file).is_ok());
    }
}
