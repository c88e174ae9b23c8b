//! The server: this program as a process of its own, on a CPU of its own.

use std::io::{BufRead, stdin};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Builder;

use crate::function::{Function, Work};
use crate::machine;
use crate::peers::{Limit, Peer};

#[derive(Args)]
pub struct Options {
    peer: Peer,
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
    #[arg(long, default_value = "cpu")]
    function: Function,
    #[arg(long, default_value_t = 1000)]
    work_us: u64,
    /// The calls in flight that peers with a fixed limit admit
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// The connections that share the limit where it is that of a connection
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// How many calls a connection of HTTP/2 may have in flight
    #[arg(long)]
    streams: Option<u32>,
    /// How many cancelled streams a connection of HTTP/2 may have before it is closed
    #[arg(long)]
    cancelled_streams: Option<usize>,
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

/// Serves until the standard input ends. Each line of the input is answered with what the server has used.
pub fn serve(options: &Options) -> Result<()> {
    machine::leave_session();
    machine::raise_file_limit()?;
    machine::pin(machine::SERVER_CPU)?;
    let work = Arc::new(Work::new(options.function, Duration::from_micros(options.work_us)));
    let runtime = Builder::new_multi_thread().worker_threads(options.workers).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.address).await?;
        println!("{}", listener.local_addr()?);
        let counted = Arc::clone(&work);
        std::thread::spawn(move || {
            for line in stdin().lock().lines() {
                match (line, machine::process_cpu()) {
                    (Ok(_), Ok(cpu)) => println!("{} {}", counted.ran(), cpu.as_nanos()),
                    _ => break,
                }
            }
            std::process::exit(0);
        });
        let limit = Limit {
            in_flight: options.concurrency,
            connections: options.connections,
            streams: options.streams,
            cancelled_streams: options.cancelled_streams,
        };
        // In a task, so that the worker threads accept the connections too.
        tokio::spawn(options.peer.serve(listener, work, limit)).await?
    })
}

/// A server, seen from the program that started it. It does not outlive this value.
pub struct ServerProcess {
    process: Child,
    requests: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub address: SocketAddr,
}

/// What a server has used since its start.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// How often its function began.
    pub ran: u64,
    pub cpu: Duration,
    /// The time in which its CPU was not idle, for whatever.
    busy: Duration,
}

impl Usage {
    pub fn since(self, before: Usage) -> Usage {
        Usage { ran: self.ran - before.ran, cpu: self.cpu - before.cpu, busy: self.busy - before.busy }
    }

    /// What others have taken of the server's CPU, in percent of this time.
    pub fn others_percent(&self, seconds: f64) -> f64 {
        self.busy.saturating_sub(self.cpu).as_secs_f64() * 100.0 / seconds
    }

    #[cfg(test)]
    pub fn of(ran: u64, cpu: Duration) -> Self {
        Self { ran, cpu, busy: cpu }
    }
}

impl ServerProcess {
    /// `ip` is where it listens.
    pub async fn start(peer: Peer, concurrency: usize, ip: &str, options: &crate::Options) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", &peer.argument(), "--address", &format!("{ip}:0")])
            .args(["--function", &options.function.argument(), "--work-us", &options.work_us.to_string()])
            .args(["--concurrency", &concurrency.to_string(), "--connections", &options.connections.to_string()])
            .args(["--workers", &options.workers.to_string()])
            .args(options.streams.map(|most| format!("--streams={most}")))
            .args(options.cancelled_streams.map(|most| format!("--cancelled-streams={most}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let requests = process.stdin.take().context("its input is piped")?;
        let mut lines = BufReader::new(process.stdout.take().context("its output is piped")?).lines();
        let said = lines.next_line().await?.with_context(|| format!("the server of {} ended early", peer.name()))?;
        let address = said.parse().with_context(|| format!("the server says its address, and not {said}"))?;
        Ok(Self { process, requests, lines, address })
    }

    pub async fn usage(&mut self) -> Result<Usage> {
        self.requests.write_all(b"\n").await?;
        let said = self.lines.next_line().await?.context("the server ended early")?;
        let busy = machine::busy(machine::SERVER_CPU)?;
        let (ran, nanos) = said.split_once(' ').context("a server says two numbers")?;
        Ok(Usage { ran: ran.parse()?, cpu: Duration::from_nanos(nanos.parse()?), busy })
    }

    pub async fn end(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}
