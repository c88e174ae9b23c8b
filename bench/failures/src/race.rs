//! A server that closes connections, and callers that call just then what must not run twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

use crate::Row;
use crate::peers::{Failed, Peer, Work, Worked};

/// How long the server keeps a connection.
const IDLE: Duration = Duration::from_millis(5);

/// The callers sweep over the edge.
const BEFORE: Duration = Duration::from_millis(2);
const STEP: Duration = Duration::from_micros(37);
const STEPS: u64 = 80;

const CALLERS: u64 = 8;
const LASTS: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Ran(Arc<Mutex<HashMap<u64, usize>>>);

impl Work for Ran {
    fn look(&self, _: u64) -> BoxFuture<'static, Worked> {
        async { Ok(0) }.boxed()
    }

    fn place(&self, order: u64) -> BoxFuture<'static, Worked> {
        *self.0.lock().expect("counting does not panic").entry(order).or_default() += 1;
        async { Ok(0) }.boxed()
    }
}

/// `None` where the server closes no connection.
pub async fn run(peer: Peer) -> Result<Option<Row>> {
    if matches!(peer, Peer::Tarpc | Peer::BynameHedged) {
        return Ok(None);
    }
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let ran = Ran::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(peer.serve(listener, Arc::new(ran.clone()), Some(IDLE), stop.clone()));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let caller = peer.caller(&[address])?;
        callers.spawn(async move {
            let (mut order, mut calls, mut failed) = (number << 32, 0, Vec::new());
            let until = Instant::now() + LASTS;
            while Instant::now() < until {
                let _ = caller.look(order).await;
                order += 1;
                let at = Instant::now() + IDLE - BEFORE + STEP * u32::try_from(order % STEPS).expect("steps are few");
                while Instant::now() < at {
                    yield_now().await;
                }
                calls += 1;
                if let Err(why) = caller.place(order).await {
                    failed.push((order, why));
                }
            }
            (calls, failed)
        });
    }
    let (mut calls, mut failed): (u64, Vec<(u64, Failed)>) = (0, Vec::new());
    while let Some(ended) = callers.join_next().await {
        let (its, failures) = ended?;
        calls += its;
        failed.extend(failures);
    }
    if let Some((_, failed)) = failed.first() {
        eprintln!("  a failure: {}", failed.why);
    }
    let ran = ran.0.lock().expect("counting does not panic");
    let says = failed.iter().filter(|(_, failed)| failed.did_not_run).count();
    let of_failed = |count: usize| if failed.is_empty() { "–".to_owned() } else { count.to_string() };
    Ok(Some(vec![
        ("calls at the edge", calls.to_string()),
        ("failed", failed.len().to_string()),
        ("… did not run", of_failed(failed.iter().filter(|(order, _)| !ran.contains_key(order)).count())),
        ("… and says so", of_failed(says)),
        ("run twice", ran.values().filter(|count| **count > 1).count().to_string()),
    ]))
}
