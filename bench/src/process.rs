//! This program in its other roles, each as a process of its own that ends when this one is killed.

use std::env;
use std::io::{BufRead, BufReader, Lines, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use crate::peers::AnyPeer;
use crate::server::{Ended, Listening};

/// What a process is run under.
#[derive(Clone, Copy)]
pub enum Under<'a> {
    Nothing,
    /// It says on the standard error how many instructions it saw. The library is preloaded.
    Callgrind {
        preload: Option<&'a Path>,
    },
}

/// A server, which does not outlive this value.
pub struct ServerProcess {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    listening: Listening,
}

impl ServerProcess {
    pub fn start(peer: &AnyPeer) -> Result<Self> {
        ServerProcess::start_under(Under::Nothing, peer)
    }

    pub fn start_under(under: Under<'_>, peer: &AnyPeer) -> Result<Self> {
        let mut command = role("server", under)?;
        command.arg(peer.name).stdout(Stdio::piped());
        if let Under::Callgrind { .. } = under {
            command.stderr(Stdio::piped());
        }
        let mut process = command.spawn().with_context(|| format!("{command:?}"))?;
        let output = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        match read(&mut lines) {
            Ok(listening) => Ok(ServerProcess { process, lines, listening }),
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error)
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn end(&mut self) -> Result<Ended> {
        kill(Pid::from_raw(self.process.id().try_into()?), Signal::SIGTERM)?;
        read(&mut self.lines)
    }

    /// What it wrote to its standard error until it ended, where that is not this program's.
    pub fn errors(&mut self) -> Result<String> {
        let mut text = String::new();
        if let Some(mut errors) = self.process.stderr.take() {
            errors.read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read<T: DeserializeOwned>(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<T> {
    let line = lines.next().context("the server ended early")??;
    Ok(serde_json::from_str(&line)?)
}

/// Runs a client to its end.
pub fn run_client(under: Under<'_>, peer: &AnyPeer, server: SocketAddr, arguments: &[String]) -> Result<Output> {
    let mut command = role("client", under)?;
    command.arg(peer.name).arg(server.to_string()).args(arguments);
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

pub fn role(name: &str, under: Under<'_>) -> Result<Command> {
    let program = env::current_exe()?;
    let mut command = match under {
        Under::Nothing => Command::new(program),
        Under::Callgrind { preload } => {
            let mut command = Command::new("valgrind");
            if let Some(library) = preload {
                command.env("LD_PRELOAD", library);
            }
            command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
            command
        }
    };
    command.arg(name);
    // SAFETY: prctl is async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
    Ok(command)
}
