//! A network of this program's own, in which every caller has its own address.
//!
//! A connection to an address of the same machine comes from that address. So a server that listens at all of them sees a
//! caller's address as the one that the caller connects to.

use std::env;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Set in the program that runs in the network.
const ENTERED: &str = "OVERLOAD_NETWORK";

/// How many callers have addresses.
pub const CALLERS: u8 = 10;

pub fn address(caller: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, caller + 1)
}

/// Starts this program again in a network namespace, in place of itself, unless it is there. A user namespace gives the right
/// to do so.
pub fn enter() -> Result<()> {
    if env::var_os(ENTERED).is_none() {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]).arg(env::current_exe()?).args(env::args_os().skip(1));
        return Err(command.env(ENTERED, "1").exec()).context(
            "the scenario `caller` needs the program `unshare`; `--scenarios steps,cost,drop` does without it",
        );
    }
    ip(&["link", "set", "lo", "up"])?;
    for caller in 0..CALLERS {
        ip(&["address", "add", &format!("{}/32", address(caller)), "dev", "lo"])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(arguments).status().context("the scenario `caller` needs the program `ip`")?;
    ensure!(status.success(), "`ip {}` failed: {status}", arguments.join(" "));
    Ok(())
}
