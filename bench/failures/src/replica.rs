//! A replica that is a process, and its ledger of what must not run twice.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::peers::{Peer, Work, Worked};

/// What an order takes.
pub const SERVING: Duration = Duration::from_millis(2);

struct Ledger {
    number: u32,
    file: Arc<Mutex<fs::File>>,
}

impl Work for Ledger {
    fn look(&self, _: u64) -> BoxFuture<'static, Worked> {
        let number = self.number;
        sleep(SERVING).map(move |()| Ok(number)).boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'static, Worked> {
        let (number, file) = (self.number, Arc::clone(&self.file));
        async move {
            sleep(SERVING).await;
            let line = format!("{order}\n");
            file.lock().expect("writing does not panic").write_all(line.as_bytes()).expect("the ledger can be written");
            Ok(number)
        }
        .boxed()
    }
}

/// The work of a replica's process, until SIGTERM or the end of its parent.
pub async fn serve(peer: Peer, number: u32, address: &str, ledger: &Path) -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let stops = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        stops.cancel();
    });
    let file = Arc::new(Mutex::new(OpenOptions::new().create(true).append(true).open(ledger)?));
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    peer.serve(listener, Arc::new(Ledger { number, file }), None, stop).await
}

/// A replica, seen from the program that started it.
pub struct Replica {
    peer: Peer,
    number: u32,
    ledger: PathBuf,
    pub address: SocketAddr,
    process: Child,
}

impl Replica {
    pub async fn start(peer: Peer, number: u32, folder: &Path) -> Result<Self> {
        let ledger = folder.join(format!("ledger-{number}"));
        let (process, address) = spawn(peer, number, "127.0.0.1:0", &ledger).await?;
        Ok(Self { peer, number, ledger, address, process })
    }

    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.process.id().context("the replica runs")?.to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id]).status()?;
        if sent.success() { Ok(()) } else { bail!("replica {} got no {name}", self.number) }
    }

    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    pub async fn start_again(&mut self) -> Result<()> {
        (self.process, _) = spawn(self.peer, self.number, &self.address.to_string(), &self.ledger).await?;
        Ok(())
    }

    /// Lets it answer what it has begun, for three seconds at most.
    pub async fn end(&mut self) -> Result<()> {
        // `Child::wait` would close it, and a replica exits at once when its stdin ends.
        let stdin = self.process.stdin.take();
        self.signal("TERM")?;
        match tokio::time::timeout(Duration::from_secs(3), self.process.wait()).await {
            Ok(ended) => {
                let status = ended?;
                if !status.success() {
                    bail!("replica {} did not end in order after SIGTERM: {status}", self.number);
                }
            }
            Err(_) => {
                eprintln!("  replica {} did not end and was killed", self.number);
                self.process.kill().await?;
            }
        }
        drop(stdin);
        Ok(())
    }
}

async fn spawn(peer: Peer, number: u32, address: &str, ledger: &Path) -> Result<(Child, SocketAddr)> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["replica", &peer.argument(), &number.to_string(), address])
        .arg(ledger)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = &mut process.stdout {
        BufReader::new(stdout).read_line(&mut said).await?;
    }
    let address = said.trim().parse().with_context(|| format!("replica {number} serves"))?;
    Ok((process, address))
}

/// How often each order was placed.
pub fn placed(folder: &Path) -> Result<HashMap<u64, usize>> {
    let mut placed: HashMap<u64, usize> = HashMap::new();
    for ledger in fs::read_dir(folder)? {
        for line in fs::read_to_string(ledger?.path())?.lines() {
            *placed.entry(line.parse()?).or_default() += 1;
        }
    }
    Ok(placed)
}
