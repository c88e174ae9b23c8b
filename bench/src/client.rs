//! The client's side: puts load on a server that runs already, and prints what came of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use nix::unistd::Pid;

use crate::load::Load;
use crate::machine;
use crate::peers::{self, AnyPeer};
use crate::work::Work;

#[derive(Args)]
pub struct Options {
    #[arg(value_parser = peers::parser())]
    pub peer: &'static AnyPeer,
    /// The address that the server printed
    pub server: SocketAddr,
    #[arg(long, value_enum, default_value_t = Work::Add)]
    pub work: Work,
    /// Calls in flight, or streams at once
    #[arg(long, default_value_t = 128)]
    pub in_flight: usize,
    /// Seconds before the measurement
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Seconds of measurement
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// The server's process, to read its CPU time
    #[arg(long)]
    pub server_process: Option<i32>,
    /// Makes so many calls in each slot instead, or reads so many items, and measures nothing
    #[arg(long)]
    pub calls_each: Option<u64>,
    /// The CPU that the client may run on
    #[arg(long, default_value_t = 1)]
    pub cpu: usize,
}

pub fn run(options: &Options) -> Result<()> {
    let runtime = machine::side(options.cpu, options.peer.threads)?;
    let load = Load {
        server: options.server,
        server_process: options.server_process.map(Pid::from_raw),
        work: options.work,
        in_flight: options.in_flight,
        warm_up: Duration::try_from_secs_f64(options.warm_up)?,
        window: Duration::try_from_secs_f64(options.seconds)?,
    };
    if let Some(each) = options.calls_each {
        return runtime.block_on(options.peer.call(load, each));
    }
    let outcome = runtime.block_on(options.peer.load(load))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
