//! Three replicas in this process, one of which becomes bad: which share of the calls still goes there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::peers::{Peer, Unavailable, Work, Worked};
use crate::replica::SERVING;
use crate::{Row, load};

const WELL: Duration = Duration::from_secs(3);

/// From the beginning of the failure to the share that counts, and how long that is counted.
const REACTION: Duration = Duration::from_secs(5);
const COUNTED: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Counted {
    number: u32,
    is_slow: AtomicBool,
    is_failing: AtomicBool,
    calls: AtomicU64,
}

impl Work for Arc<Counted> {
    fn look(&self, _: u64) -> BoxFuture<'static, Worked> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let number = self.number;
        if self.is_failing.load(Ordering::Relaxed) {
            return async { Err(Unavailable) }.boxed();
        }
        let times = if self.is_slow.load(Ordering::Relaxed) { 10 } else { 1 };
        sleep(SERVING * times).map(move |()| Ok(number)).boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'static, Worked> {
        self.look(order)
    }
}

pub async fn slow(peer: Peer) -> Result<Row> {
    run(peer, |replica| replica.is_slow.store(true, Ordering::Relaxed)).await
}

pub async fn failing(peer: Peer) -> Result<Row> {
    run(peer, |replica| replica.is_failing.store(true, Ordering::Relaxed)).await
}

async fn run(peer: Peer, ill: impl Fn(&Counted)) -> Result<Row> {
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let (mut replicas, mut addresses) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let replica = Arc::new(Counted { number, ..Counted::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        tokio::spawn(peer.serve(listener, Arc::new(Arc::clone(&replica)), None, stop.clone()));
        replicas.push(replica);
    }
    let caller = peer.caller(&addresses)?;
    let counts = || replicas.iter().map(|replica| replica.calls.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let share = |from: &[u64], to: &[u64]| {
        let all: u64 = to.iter().sum::<u64>() - from.iter().sum::<u64>();
        format!("{:.1}", (to[0] - from[0]) as f64 * 100.0 / all as f64)
    };
    let (mut before, mut after) = (String::new(), String::new());
    let calls = load::run(&caller, async {
        let start = counts();
        sleep(WELL).await;
        before = share(&start, &counts());
        ill(&replicas[0]);
        sleep(REACTION).await;
        let start = counts();
        sleep(COUNTED).await;
        after = share(&start, &counts());
        Ok(())
    });
    let calls = calls.await?.since(WELL);
    Ok(vec![
        ("its share before, %", before),
        ("its share 5 s later, %", after),
        ("calls from 3 s on", calls.count().to_string()),
        ("failed", calls.failed().to_string()),
        ("p99 of the answered, ms", calls.p99()),
    ])
}
