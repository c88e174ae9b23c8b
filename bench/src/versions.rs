//! The versions that were built, as Cargo chose them.

use anyhow::{Context, Result};
use cargo_lock::Lockfile;

use crate::machine;

pub fn of(packages: &[&str]) -> Result<String> {
    let lock: Lockfile = include_str!("../Cargo.lock").parse()?;
    let bench = lock.packages.iter().find(|p| p.name.as_str() == env!("CARGO_PKG_NAME"));
    let dependencies = &bench.context("Cargo.lock without this package")?.dependencies;
    let mut versions = Vec::new();
    for name in packages.iter().chain(&["tokio"]) {
        let dependency = dependencies.iter().find(|d| d.name.as_str() == *name);
        let version = &dependency.with_context(|| format!("{name} is no dependency"))?.version;
        let commit = if *name == "byname" { machine::commit() } else { None };
        let commit = commit.map(|commit| format!(" ({commit})"));
        versions.push(format!("{name} {version}{}", commit.unwrap_or_default()));
    }
    Ok(versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PEERS;

    #[test]
    fn every_peer_has_versions() {
        for peer in PEERS {
            of(peer.packages).unwrap();
        }
    }
}
