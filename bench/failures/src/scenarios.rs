//! Three replicas, each a process, and what happens to them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::path::NetworkPath;
use crate::peers::Peer;
use crate::replica::{self, Replica};
use crate::{Row, load};

const BEFORE: Duration = Duration::from_secs(2);
const AWAY: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(5);

pub async fn killed(peer: Peer) -> Result<Row> {
    let (mut replicas, folder) = start(peer).await?;
    let caller = peer.caller(&addresses(&replicas))?;
    let deeds = async {
        sleep(BEFORE).await;
        for replica in &mut replicas[..2] {
            replica.kill().await?;
            sleep(Duration::from_secs(2)).await;
            replica.start_again().await?;
            sleep(Duration::from_secs(3)).await;
        }
        Ok(())
    };
    let calls = load::run(&caller, deeds).await?;
    end(replicas, folder, &calls).await
}

pub async fn stopped(peer: Peer) -> Result<Row> {
    let (replicas, folder) = start(peer).await?;
    let caller = peer.caller(&addresses(&replicas))?;
    let deeds = async {
        sleep(BEFORE).await;
        replicas[0].signal("STOP")?;
        sleep(AWAY).await;
        replicas[0].signal("CONT")?;
        sleep(AFTER).await;
        Ok(())
    };
    let calls = load::run(&caller, deeds).await?;
    end(replicas, folder, &calls).await
}

pub async fn black_hole(peer: Peer) -> Result<Row> {
    let (replicas, folder) = start(peer).await?;
    let path = NetworkPath::open(replicas[0].address).await?;
    let mut addresses = addresses(&replicas);
    addresses[0] = path.address;
    let caller = peer.caller(&addresses)?;
    let deeds = async {
        sleep(BEFORE).await;
        path.swallow();
        sleep(AWAY).await;
        path.pass();
        sleep(AFTER).await;
        Ok(())
    };
    let calls = load::run(&caller, deeds).await?;
    end(replicas, folder, &calls).await
}

pub async fn restarts(peer: Peer) -> Result<Row> {
    let (mut replicas, folder) = start(peer).await?;
    let caller = peer.caller(&addresses(&replicas))?;
    let deeds = async {
        for turn in 0..10 {
            sleep(Duration::from_secs(1)).await;
            replicas[turn % 3].end().await?;
            replicas[turn % 3].start_again().await?;
        }
        sleep(Duration::from_secs(1)).await;
        Ok(())
    };
    let calls = load::run(&caller, deeds).await?;
    end(replicas, folder, &calls).await
}

async fn start(peer: Peer) -> Result<(Vec<Replica>, PathBuf)> {
    let folder = std::env::temp_dir().join(format!("byname-failures-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut replicas = Vec::new();
    for number in 0..3 {
        replicas.push(Replica::start(peer, number, &folder).await?);
    }
    Ok((replicas, folder))
}

fn addresses(replicas: &[Replica]) -> Vec<SocketAddr> {
    replicas.iter().map(|replica| replica.address).collect()
}

/// What came of it, by the ledgers too.
async fn end(replicas: Vec<Replica>, folder: PathBuf, calls: &load::Calls) -> Result<Row> {
    for mut replica in replicas {
        replica.end().await?;
    }
    let row = calls.row(&replica::placed(&folder)?);
    std::fs::remove_dir_all(folder)?;
    Ok(row)
}
