//! What an idle connection costs each peer's server in memory, with the peer's own client at the other end.

use std::io::{BufRead, BufReader, Read, stdin};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use nix::unistd::Pid;

use crate::machine;
use crate::peers::{self, AnyPeer};
use crate::process::{self, ServerProcess, Under};

#[derive(Args)]
pub struct Options {
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = peers::parser(),
        default_value = "floor,byname-frames,byname-http,tarpc,tonic,jsonrpsee-ws,jsonrpsee-http,axum-hyper"
    )]
    pub peers: Vec<&'static AnyPeer>,
    /// How many connections are opened, half of them by each of two clients
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
}

pub fn run(options: &Options) -> Result<()> {
    println!("{}\n", machine::describe()?);
    println!("{} connections that were each used once and are idle", options.connections);
    for peer in &options.peers {
        let server = ServerProcess::start(peer)?;
        let resident = || machine::resident(Pid::from_raw(server.id().try_into()?));
        let hold = |connections| Holder::start(peer, server.address(), connections);
        // The first ones pay for what all share.
        let _first = hold(100)?;
        let before = resident()?;
        let half = options.connections / 2;
        let _idle = [hold(half)?, hold(options.connections - half)?];
        let each = resident()?.saturating_sub(before) as f64 / options.connections as f64 / 1024.0;
        println!("{:<16} {each:6.2} KiB each", peer.name);
    }
    Ok(())
}

/// A client that holds connections open, and does not outlive this value.
struct Holder(Child);

impl Holder {
    /// Returns once all are open.
    fn start(peer: &AnyPeer, server: SocketAddr, connections: usize) -> Result<Self> {
        let mut command = process::role("hold", Under::Nothing)?;
        command.arg(peer.name).arg(server.to_string()).arg(connections.to_string());
        let mut holder = Holder(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        let output = holder.0.stdout.take().expect("it is piped");
        let said = BufReader::new(output).lines().next().transpose()?;
        said.context("a client ended early")?;
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Args)]
pub struct HoldOptions {
    #[arg(value_parser = peers::parser())]
    pub peer: &'static AnyPeer,
    /// The address that the server printed
    pub server: SocketAddr,
    pub connections: usize,
}

/// Says when all are open, and holds them until its input ends.
pub fn hold(options: &HoldOptions) -> Result<()> {
    machine::raise_file_limit()?;
    machine::runtime()?.block_on(async {
        let _open = options.peer.open(options.server, options.connections).await?;
        println!("open");
        // The clients' tasks run on, so that they answer what a server asks of idle ones.
        tokio::task::spawn_blocking(|| stdin().read_to_end(&mut Vec::new())).await??;
        Ok(())
    })
}
