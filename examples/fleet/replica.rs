//! A replica is a process: what it serves, and how one is started, ended and ill-treated.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use byname::{Server, rpc};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::Failure;
use crate::path::NetworkPath;

/// What a replica serves.
pub struct Orders {
    replica: u8,
    ledger: Mutex<File>,
}

#[rpc]
impl Orders {
    /// May be repeated: it changes nothing.
    #[rpc(readonly)]
    pub async fn look(&self, order: u64) -> (u8, u64) {
        work().await;
        (self.replica, order)
    }

    /// Must not be repeated: each run is a line of the ledger.
    pub async fn place(&self, order: u64) -> u8 {
        work().await;
        let mut ledger = self.ledger.lock().expect("writing a line does not panic");
        ledger.write_all(format!("{order}\n").as_bytes()).expect("the ledger can be written");
        self.replica
    }
}

/// What an order takes of a database that this example does not have.
async fn work() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// The work of a replica's process. It ends when its stdin does.
pub async fn serve(name: &str, address: &str, ledger: &str) -> Result<(), Failure> {
    let (open, closed) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(open);
    });
    let stdin_closes = async {
        let _ = closed.await;
    };
    let ledger = Mutex::new(OpenOptions::new().create(true).append(true).open(ledger)?);
    let server = Server::new().inject(Orders { replica: name.parse()?, ledger });
    let bound = server.serve(address).until(stdin_closes).bind().await?;
    println!("{}", bound.local_addr());
    Ok(bound.await?)
}

/// A replica, seen from the program that started it.
pub struct Replica {
    pub number: usize,
    ledger: PathBuf,
    /// Where it listens, also after it was started again.
    address: SocketAddr,
    path: NetworkPath,
    process: Mutex<Option<Child>>,
}

impl Replica {
    pub async fn start(number: usize, folder: &Path) -> Result<Self, Failure> {
        let ledger = folder.join(format!("ledger-{number}"));
        let (process, address) = spawn(number, "127.0.0.1:0", &ledger).await?;
        let path = NetworkPath::open(address).await?;
        Ok(Self { number, ledger, address, path, process: Mutex::new(Some(process)) })
    }

    /// Where callers reach it.
    pub fn path_address(&self) -> SocketAddr {
        self.path.address
    }

    pub fn path(&self) -> &NetworkPath {
        &self.path
    }

    /// Starts it again at its address.
    pub async fn start_again(&self) -> Result<(), Failure> {
        let (process, _) = spawn(self.number, &self.address.to_string(), &self.ledger).await?;
        *self.process() = Some(process);
        Ok(())
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) -> Result<(), Failure> {
        let Some(id) = self.process().as_ref().and_then(Child::id) else {
            return Err(format!("replica {} does not run", self.number).into());
        };
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("replica {} got no {name}", self.number).into()) }
    }

    /// Waits until it has ended, after a signal that ends it.
    pub async fn ended(&self) -> Result<(), Failure> {
        let process = self.process().take();
        if let Some(mut process) = process {
            process.wait().await?;
        }
        Ok(())
    }

    /// Lets it answer what it has begun, and end.
    pub async fn end(&self) -> Result<(), Failure> {
        let process = self.process().take();
        let Some(mut process) = process else { return Ok(()) };
        drop(process.stdin.take());
        let status = process.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("replica {} ended badly: {status}", self.number).into()) }
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().expect("nobody panics with it")
    }
}

async fn spawn(number: usize, address: &str, ledger: &Path) -> Result<(Child, SocketAddr), Failure> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["replica", &number.to_string(), address])
        .arg(ledger)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = &mut process.stdout {
        BufReader::new(stdout).read_line(&mut said).await?;
    }
    let Ok(address) = said.trim().parse() else {
        return Err(format!("replica {number} ended before it served: {}", process.wait().await?).into());
    };
    Ok((process, address))
}
