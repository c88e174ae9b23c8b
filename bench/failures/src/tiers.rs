//! A client and three tiers below it, the last of which fails calls. Each client repeats as its kind does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::peers::{Caller, Peer, Unavailable, Work, Worked};
use crate::{Row, load};

struct Bottom {
    calls: AtomicU64,
    /// The part of them that fails.
    fails: f64,
}

impl Work for Arc<Bottom> {
    fn look(&self, _: u64) -> BoxFuture<'static, Worked> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let worked = if fastrand::f64() < self.fails { Err(Unavailable) } else { Ok(0) };
        async { worked }.boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'static, Worked> {
        self.look(order)
    }
}

/// Calls the tier below. Both kinds of calls may be repeated here.
struct Tier(Arc<dyn Caller>);

impl Work for Tier {
    fn look(&self, order: u64) -> BoxFuture<'static, Worked> {
        let below = Arc::clone(&self.0);
        async move { below.look(order).await.map_err(|_| Unavailable) }.boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'static, Worked> {
        self.look(order)
    }
}

/// Looks only.
struct Looks(Arc<dyn Caller>);

impl Caller for Looks {
    fn look(&self, order: u64) -> BoxFuture<'_, Result<u32, crate::peers::Failed>> {
        self.0.look(order)
    }

    fn place(&self, order: u64) -> BoxFuture<'_, Result<u32, crate::peers::Failed>> {
        self.0.look(order)
    }
}

/// `fails` is the part of the calls that the last tier fails.
pub async fn run(peer: Peer, fails: f64) -> Result<Row> {
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let bottom = Arc::new(Bottom { calls: AtomicU64::new(0), fails });
    let mut caller = serve(peer, Arc::new(Arc::clone(&bottom)), &stop).await?;
    for _ in 0..2 {
        caller = serve(peer, Arc::new(Tier(caller)), &stop).await?;
    }
    let caller: Arc<dyn Caller> = Arc::new(Looks(caller));
    let mut warm = 0;
    let calls = load::run(&caller, async {
        warm = bottom.calls.load(Ordering::Relaxed);
        sleep(Duration::from_secs(10)).await;
        Ok(())
    });
    let calls = calls.await?;
    let reached = bottom.calls.load(Ordering::Relaxed) - warm;
    let (count, failed) = (calls.count(), calls.failed());
    Ok(vec![
        ("calls", count.to_string()),
        ("calls at the last tier", reached.to_string()),
        ("for each call", format!("{:.2}", reached as f64 / count as f64)),
        ("failed", failed.to_string()),
        ("failed, %", format!("{:.1}", failed as f64 * 100.0 / count as f64)),
    ])
}

async fn serve(peer: Peer, work: Arc<dyn Work>, stop: &CancellationToken) -> Result<Arc<dyn Caller>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let caller = peer.caller(&[listener.local_addr()?])?;
    tokio::spawn(peer.serve(listener, work, None, stop.clone()));
    Ok(caller)
}
