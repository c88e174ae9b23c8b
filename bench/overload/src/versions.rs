//! The versions that this was built with, as Cargo chose them.

use std::collections::HashSet;

use anyhow::{Context, Result};
use cargo_lock::Lockfile;

use crate::machine;
use crate::peers::Peer;

pub fn of(peers: &[Peer]) -> Result<String> {
    let lock: Lockfile = include_str!("../Cargo.lock").parse()?;
    let mut names: Vec<&str> = peers.iter().flat_map(|peer| peer.packages()).copied().chain(["tokio"]).collect();
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(*name));
    let version = |name: &str| {
        let package = lock.packages.iter().find(|package| package.name.as_str() == name);
        let version = &package.with_context(|| format!("Cargo.lock has no {name}"))?.version;
        let commit = machine::commit().filter(|_| name == "byname").map(|commit| format!(" ({commit})"));
        Ok(format!("{name} {version}{}", commit.unwrap_or_default()))
    };
    Ok(names.into_iter().map(version).collect::<Result<Vec<_>>>()?.join(", "))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_peer_has_versions() {
        of(Peer::value_variants()).unwrap();
    }
}
