//! Replicas that fail under load: what callers of byname see beside those of tonic, tarpc and axum + reqwest.
//!
//! `cargo run --release --manifest-path bench/failures/Cargo.toml` prints the tables of docs/reliability.md.

mod load;
#[path = "../../../examples/fleet/path.rs"]
mod path;
mod peers;
mod race;
mod repeats;
mod replica;
mod scenarios;
mod share;
mod tiers;

use std::path::PathBuf;

use anyhow::{Result, bail};
use cargo_lock::Lockfile;
use clap::{Parser, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use peers::Peer;

#[derive(Parser)]
#[command(version, about)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only these scenarios
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Only these peers
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
}

#[derive(Subcommand)]
enum Command {
    /// What a replica's process does
    #[command(hide = true)]
    Replica { peer: Peer, number: u32, address: String, ledger: PathBuf },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Killed,
    Stopped,
    BlackHole,
    Restarts,
    Slow,
    Failing,
    Race,
    Tiers,
    TiersPartly,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Command::Replica { peer, number, address, ledger }) = options.command {
        return replica::serve(peer, number, &address, &ledger).await;
    }
    let peers = if options.peers.is_empty() { Peer::value_variants() } else { &options.peers[..] };
    println!("{}", versions(peers)?);
    let scenarios = if options.scenarios.is_empty() { Scenario::value_variants() } else { &options.scenarios[..] };
    for scenario in scenarios {
        println!("\n{}\n", scenario.title());
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        for peer in peers {
            let Some(row) = scenario.run(*peer).await? else { continue };
            table.set_header(["peer"].into_iter().chain(row.iter().map(|(name, _)| *name)));
            table.add_row([peer.name().to_owned()].into_iter().chain(row.into_iter().map(|(_, value)| value)));
            eprintln!("{} is done", peer.name());
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }
    Ok(())
}

/// What is seen of a peer, by the names of the columns.
type Row = Vec<(&'static str, String)>;

impl Scenario {
    fn title(self) -> &'static str {
        match self {
            Self::Killed => "One of three replicas is killed after 2 s and starts again 2 s later, twice in 12 s",
            Self::Stopped => "One of three replicas is stopped by SIGSTOP after 2 s for 5 s, of 12 s",
            Self::BlackHole => "The network to one of three replicas swallows everything after 2 s for 5 s, of 12 s",
            Self::Restarts => "Three replicas restart in turn by SIGTERM, ten times",
            Self::Slow => "One of three replicas is ten times slower from 3 s on, of 12 s",
            Self::Failing => "One of three replicas fails every call at once from 3 s on, of 12 s",
            Self::Race => "A call goes out while the server closes its connection, for 10 s",
            Self::Tiers => "A client over three tiers, the last of which fails every call, for 10 s",
            Self::TiersPartly => "The same, where the last tier fails 30 % of the calls that it gets",
        }
    }

    async fn run(self, peer: Peer) -> Result<Option<Row>> {
        if peer.is_for_tiers() && !matches!(self, Self::Tiers | Self::TiersPartly) {
            return Ok(None);
        }
        Ok(match self {
            Self::Killed => Some(scenarios::killed(peer).await?),
            Self::Stopped => Some(scenarios::stopped(peer).await?),
            Self::BlackHole => Some(scenarios::black_hole(peer).await?),
            Self::Restarts => Some(scenarios::restarts(peer).await?),
            Self::Slow => Some(share::slow(peer).await?),
            Self::Failing => Some(share::failing(peer).await?),
            Self::Race => race::run(peer).await?,
            Self::Tiers => Some(tiers::run(peer, 1.0).await?),
            Self::TiersPartly => Some(tiers::run(peer, 0.3).await?),
        })
    }
}

/// The versions that this was built with.
fn versions(peers: &[Peer]) -> Result<String> {
    let lock = Lockfile::load(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"))?;
    let mut names: Vec<&str> = peers.iter().flat_map(|peer| peer.packages()).copied().collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    let mut versions = Vec::new();
    for name in names {
        let Some(package) = lock.packages.iter().find(|package| package.name.as_str() == name) else {
            bail!("Cargo.lock has no {name}")
        };
        versions.push(format!("{name} {}", package.version));
    }
    Ok(versions.join(", "))
}
