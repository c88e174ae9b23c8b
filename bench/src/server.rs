//! The server's side: one peer on a CPU of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::accept::accepted;
use crate::allocate;
use crate::machine;
use crate::peers::{self, AnyPeer};

#[derive(Args)]
pub struct Options {
    #[arg(value_parser = peers::parser())]
    pub peer: &'static AnyPeer,
    /// The port on 127.0.0.1; any that is free when it is 0
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// The CPU that the server may run on
    #[arg(long, default_value_t = 0)]
    pub cpu: usize,
}

/// The first line that a server prints.
#[derive(Serialize, Deserialize)]
pub struct Listening {
    pub address: SocketAddr,
}

/// The last line, once the server was asked to end.
#[derive(Serialize, Deserialize)]
pub struct Ended {
    pub connections: u64,
    /// Between the opening and the closing of the client's window.
    pub allocations: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let runtime = machine::side(options.cpu, options.peer.threads)?;
    machine::raise_file_limit()?;
    allocate::listen()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        println!("{}", serde_json::to_string(&Listening { address })?);
        let mut told = pin!(async {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
        });
        tokio::select! {
            biased;
            () = &mut told => {}
            ended = options.peer.serve(listener) => {
                ended?;
                // A peer may heed the signals as well, and see them first.
                timeout(Duration::from_secs(1), told).await.context("the server ended without a signal")?;
            }
        }
        let ended = Ended { connections: accepted(), allocations: allocate::marked() };
        println!("{}", serde_json::to_string(&ended)?);
        Ok(())
    })
}
