//! The load: a call every millisecond, however long the others take. Every fourth must not be repeated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::Row;
use crate::peers::{Caller, Failed};

const EVERY: Duration = Duration::from_millis(1);

/// Calls before the load begins, for connections are opened by the first.
const WARM_UP: u64 = 200;

/// Numbers of calls that are not of the load.
const BEFORE: u64 = 1 << 40;

pub struct Calls(Vec<Call>);

struct Call {
    order: u64,
    places: bool,
    began: Duration,
    took: Duration,
    answer: Result<u32, Failed>,
}

/// Calls until `until` is over, and waits for the calls in flight.
pub async fn run(caller: &Arc<dyn Caller>, until: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Calls> {
    let warm_up = async {
        for order in 0..WARM_UP {
            let _ = caller.look(BEFORE + order).await;
        }
    };
    // Where every call fails they take long.
    let _ = tokio::time::timeout(Duration::from_secs(2), warm_up).await;
    let began = Instant::now();
    let mut every = interval(EVERY);
    let mut running = JoinSet::new();
    let mut calls = Vec::new();
    let mut order = 0;
    tokio::pin!(until);
    loop {
        tokio::select! {
            ended = &mut until => break ended?,
            ended = running.join_next(), if !running.is_empty() => calls.extend(ended.transpose()?),
            _ = every.tick() => {
                order += 1;
                running.spawn(call(Arc::clone(caller), order, began));
            }
        }
    }
    while let Some(ended) = running.join_next().await {
        calls.push(ended?);
    }
    Ok(Calls(calls))
}

async fn call(caller: Arc<dyn Caller>, order: u64, began: Instant) -> Call {
    let sent = Instant::now();
    let places = order.is_multiple_of(4);
    let answer = if places { caller.place(order).await } else { caller.look(order).await };
    Call { order, places, began: sent - began, took: sent.elapsed(), answer }
}

impl Calls {
    /// Those that begin from then on.
    pub fn since(self, began: Duration) -> Self {
        Self(self.0.into_iter().filter(|call| call.began >= began).collect())
    }

    /// What callers saw. `ran` is how often each order was placed.
    pub fn row(&self, ran: &HashMap<u64, usize>) -> Row {
        let (looks, places): (Vec<_>, Vec<_>) = self.0.iter().partition(|call: &&Call| !call.places);
        let failed = |calls: &[&Call]| calls.iter().filter(|call| call.answer.is_err()).count();
        let says_not = |call: &&Call| call.answer.as_ref().is_err_and(|failed| failed.did_not_run);
        let of_failed = |count: usize| if failed(&places) == 0 { "–".to_owned() } else { count.to_string() };
        let has_run = |call: &&Call| ran.contains_key(&call.order);
        let said = places.iter().copied().filter(says_not);
        for calls in [&looks, &places] {
            if let Some(failed) = calls.iter().find_map(|call| call.answer.as_ref().err()) {
                eprintln!("  a failure: {}", failed.why);
            }
        }
        vec![
            ("repeatable calls", looks.len().to_string()),
            ("failed", failed(&looks).to_string()),
            ("p99 ms", percentile(&looks, 0.99)),
            ("longest ms", percentile(&looks, 1.0)),
            ("other calls", places.len().to_string()),
            ("failed, others", failed(&places).to_string()),
            ("… did not run, and says so", of_failed(said.clone().filter(|call| !has_run(call)).count())),
            ("… says so, but ran", of_failed(said.filter(has_run).count())),
            ("run twice", ran.values().filter(|count| **count > 1).count().to_string()),
        ]
    }

    pub fn failed(&self) -> usize {
        self.0.iter().filter(|call| call.answer.is_err()).count()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Of the calls that were answered.
    pub fn p99(&self) -> String {
        percentile(&self.0.iter().filter(|call| call.answer.is_ok()).collect::<Vec<_>>(), 0.99)
    }
}

/// In milliseconds, failed calls included: their callers waited too.
fn percentile(calls: &[&Call], quantile: f64) -> String {
    let mut times: Vec<_> = calls.iter().map(|call| call.took).collect();
    times.sort_unstable();
    let index = ((times.len() as f64 * quantile) as usize).min(times.len().saturating_sub(1));
    times.get(index).map(|time| format!("{:.0}", time.as_secs_f64() * 1000.0)).unwrap_or_default()
}
