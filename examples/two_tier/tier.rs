//! A tier is a process: how one is started and ended, and what it does with its life.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use byname::{Client, Server, Transport};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::Failure;

/// A tier, seen from the caller.
pub struct Tier {
    pub role: &'static str,
    pub address: SocketAddr,
    pub pid: u32,
    child: Child,
}

impl Tier {
    /// Starts this very program in another role and waits for it to say where it listens.
    pub async fn start(role: &'static str, arguments: &[String]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut said = String::new();
        if let Some(stdout) = &mut child.stdout {
            BufReader::new(stdout).read_line(&mut said).await?;
        }
        let Ok(address) = said.trim().parse() else {
            return Err(format!("the {role} tier ended before it served: {}", child.wait().await?).into());
        };
        Ok(Self { role, address, pid: child.id().unwrap_or_default(), child })
    }

    pub fn url(&self) -> String {
        format!("{}/rpc", self.address)
    }

    pub fn client(&self) -> Result<Client, Failure> {
        // What is measured here is HTTP's connections, kept or not.
        Ok(Client::builder(self.url()).transport(Transport::Http).build()?)
    }

    /// Closes its stdin, which ends it. One that doesn't end is killed when `self` is dropped.
    pub async fn end(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        match tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => Err(format!("the {} tier ended badly: {}", self.role, status?).into()),
            Err(_) => Err(format!("the {} tier did not end within 5 s", self.role).into()),
        }
    }
}

/// What a tier does: it serves at a free port, says at which, and ends when its stdin does.
///
/// The system closes a process's pipes however that process ends, so no tier outlives its caller.
pub async fn serve(server: Server) -> Result<(), Failure> {
    let (open, closed) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(open);
    });
    let stdin_closes = async {
        let _ = closed.await;
    };
    let bound = server.serve("127.0.0.1:0").until(stdin_closes).bind().await?;
    println!("{}", bound.local_addr());
    Ok(bound.await?)
}
