//! How many TLS handshakes a server does in a second, with the same client for every server.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use nix::unistd::Pid;
use rustls::HandshakeKind;
use rustls::client::Resumption;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use crate::machine::{self, CpuTime};
use crate::peers::{self, AnyPeer};
use crate::process::ServerProcess;
use crate::report::spread;
use crate::tls::BareClient;

#[derive(Args)]
pub struct Options {
    /// Servers over TLS that speak HTTP/2. The figures of the first are divided by those of the others
    #[arg(long, value_delimiter = ',', value_parser = peers::parser(), default_value = "byname-frames-tls,tonic-tls")]
    pub peers: Vec<&'static AnyPeer>,
    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seconds before each measurement
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Handshakes at once
    #[arg(long, default_value_t = 16)]
    pub in_flight: usize,
}

pub fn run(options: &Options) -> Result<()> {
    println!("{}\n", machine::describe()?);
    println!("TLS 1.3, {} handshakes at once, each on a connection of its own", options.in_flight);
    let runtime = machine::side(1, machine::Threads::One)?;
    machine::raise_file_limit()?;
    let mut measured = Vec::new();
    for round in 1..=options.rounds {
        for kind in [Kind::Full, Kind::Resumed] {
            for peer in &options.peers {
                let what = format!("round {round}  {kind:<7} {}", peer.name);
                let figures = measure(&runtime, options, peer, kind).with_context(|| what.clone())?;
                let Figures { per_second, server_cpu_us } = figures;
                eprintln!("{what}: {per_second:.0} a second, server {server_cpu_us:.0} µs each");
                measured.push(Measured { round, kind, peer: peer.name, figures });
            }
        }
    }
    println!("\nThe median (min–max) of the rounds\n\n{}", medians(options, &measured));
    if options.peers.len() > 1 {
        println!("\nRatios, round by round\n\n{}", ratios(options, &measured));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Full,
    Resumed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Full => "full",
            Kind::Resumed => "resumed",
        })
    }
}

struct Measured {
    round: usize,
    kind: Kind,
    peer: &'static str,
    figures: Figures,
}

struct Figures {
    per_second: f64,
    server_cpu_us: f64,
}

fn measure(runtime: &Runtime, options: &Options, peer: &AnyPeer, kind: Kind) -> Result<Figures> {
    let server = ServerProcess::start(peer)?;
    let process = Pid::from_raw(server.id().try_into()?);
    let warm_up = Duration::try_from_secs_f64(options.warm_up)?;
    let window = Duration::try_from_secs_f64(options.seconds)?;
    LocalSet::new().block_on(runtime, async {
        let done = Rc::new(Cell::new(0_u64));
        let mut slots = JoinSet::new();
        for _ in 0..options.in_flight {
            slots.spawn_local(repeat(server.address(), kind, Rc::clone(&done)));
        }
        watch(&mut slots, warm_up).await?;
        let (before, began, cpu) = (done.get(), Instant::now(), CpuTime::of(process)?);
        watch(&mut slots, window).await?;
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu.elapsed()?);
        let handshakes = (done.get() - before) as f64;
        ensure!(handshakes > 0.0, "no handshake was done in the window");
        Ok(Figures { per_second: handshakes / seconds, server_cpu_us: cpu.as_secs_f64() * 1e6 / handshakes })
    })
}

/// Lets the slots run for a while. They end only by an error.
async fn watch(slots: &mut JoinSet<Result<()>>, duration: Duration) -> Result<()> {
    tokio::select! {
        () = sleep(duration) => Ok(()),
        Some(ended) = slots.join_next() => {
            ended??;
            bail!("a slot ended too early");
        }
    }
}

/// Does one handshake after the other. The first is full: no session is known that could be resumed.
async fn repeat(server: SocketAddr, kind: Kind, done: Rc<Cell<u64>>) -> Result<()> {
    let resumption = match kind {
        Kind::Full => Resumption::disabled(),
        Kind::Resumed => Resumption::default(),
    };
    let client = BareClient::new(b"h2", resumption)?;
    let mut expected = HandshakeKind::Full;
    loop {
        let seen = handshake(&client, server).await?;
        ensure!(seen == expected, "expected a handshake that is {expected:?}, got {seen:?}");
        if kind == Kind::Resumed {
            expected = HandshakeKind::Resumed;
        }
        done.set(done.get() + 1);
    }
}

/// Opens a connection, and closes it once the server has said its first frame of HTTP/2. Tickets come before that.
async fn handshake(client: &BareClient, server: SocketAddr) -> Result<HandshakeKind> {
    const SETTINGS: u8 = 4;
    let mut stream = client.connect(server).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await?;
    ensure!(frame[3] == SETTINGS, "expected SETTINGS, got {frame:?}");
    let kind = stream.get_ref().1.handshake_kind().context("the handshake is not done")?;
    stream.shutdown().await?;
    Ok(kind)
}

fn medians(options: &Options, measured: &[Measured]) -> Table {
    let mut table = table("peer");
    for kind in [Kind::Full, Kind::Resumed] {
        for peer in &options.peers {
            let of_peer = || of(measured, kind, peer.name).map(|(_, figures)| figures);
            let per_second = of_peer().map(|figures| figures.per_second).collect();
            let cpu = of_peer().map(|figures| figures.server_cpu_us).collect();
            table.add_row([peer.name.to_owned(), kind.to_string(), spread(per_second), spread(cpu)]);
        }
    }
    table
}

fn ratios(options: &Options, measured: &[Measured]) -> Table {
    let mut table = table("ratio");
    let [first, others @ ..] = options.peers.as_slice() else { return table };
    for kind in [Kind::Full, Kind::Resumed] {
        for other in others {
            let pairs = || {
                of(measured, kind, first.name).flat_map(|(round, figures)| {
                    let same_round = of(measured, kind, other.name).filter(move |(theirs, _)| *theirs == round);
                    same_round.map(move |(_, theirs)| (figures, theirs))
                })
            };
            let per_second = pairs().map(|(our, their)| our.per_second / their.per_second).collect();
            let cpu = pairs().map(|(our, their)| our.server_cpu_us / their.server_cpu_us).collect();
            let name = format!("{} / {}", first.name, other.name);
            table.add_row([name, kind.to_string(), spread(per_second), spread(cpu)]);
        }
    }
    table
}

fn of<'m>(measured: &'m [Measured], kind: Kind, peer: &'m str) -> impl Iterator<Item = (usize, &'m Figures)> {
    let of_peer = measured.iter().filter(move |measured| measured.kind == kind && measured.peer == peer);
    of_peer.map(|measured| (measured.round, &measured.figures))
}

fn table(first: &str) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([first, "handshake", "handshakes/s", "server CPU µs/handshake"]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
