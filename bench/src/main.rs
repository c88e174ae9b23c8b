//! Measures byname beside its peers. README.md says how, and what the figures mean.
//!
//! [`compare`] starts this program again as a [`server`] and as a [`client`], which puts [`load`] on one
//! of the [`peers`] with the calls of [`work`], and [`report`] prints what came of it.

mod accept;
mod allocate;
mod client;
mod compare;
mod figures;
#[cfg(feature = "tls")]
mod handshakes;
mod idle;
mod idle_peers;
mod instructions;
mod load;
mod machine;
mod measurement;
mod peer;
mod peers;
mod plots;
mod process;
mod report;
mod server;
#[cfg(feature = "tls")]
mod tls;
mod versions;
mod work;

use anyhow::Result;
use clap::{Parser, Subcommand};

fn main() -> Result<()> {
    let command = CommandLine::parse();
    match command.role {
        None => compare::run(&command.comparison),
        Some(Role::Server(options)) => server::run(&options),
        Some(Role::Client(options)) => client::run(&options),
        Some(Role::Idle(options)) => idle::run(&options),
        Some(Role::IdlePeers(options)) => idle_peers::run(&options),
        Some(Role::Hold(options)) => idle_peers::hold(&options),
        #[cfg(feature = "tls")]
        Some(Role::Handshakes(options)) => handshakes::run(&options),
        Some(Role::Instructions(options)) => instructions::run(&options),
    }
}

/// Measures byname beside its peers: without a command, all of them in turn.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(flatten)]
    comparison: compare::Options,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Runs one peer's server alone, until it is interrupted
    Server(server::Options),
    /// Puts load on a server that was started with `bench server`
    Client(client::Options),
    /// Prints what an idle connection costs a server in memory
    Idle(idle::Options),
    /// Prints the same for all peers, each with its own client
    IdlePeers(idle_peers::Options),
    /// Holds idle connections to a server open
    Hold(idle_peers::HoldOptions),
    /// Prints how many TLS handshakes a server does in a second, full ones and resumed ones
    #[cfg(feature = "tls")]
    Handshakes(handshakes::Options),
    /// Prints the instructions that a call takes, beside the last that were recorded; needs valgrind
    Instructions(instructions::Options),
}
