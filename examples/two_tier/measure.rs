//! The same work over 1 to 512 connections between the tiers, kept alive and made for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use byname::{Client, Transport};
use tokio::task::JoinSet;

use crate::Failure;
use crate::business::Shop;
use crate::data::{CUSTOMERS, Store};
use crate::page::{Page, grouped, plural};
use crate::sockets;
use crate::tier::Tier;

/// How much is measured.
pub struct Plan {
    /// The numbers of connections.
    pub sweep: Vec<usize>,
    /// Calls in flight at any time: as many as the most connections, so that each of them can be in use.
    pub callers: usize,
    pub kept_calls: u32,
    /// Fewer, because each leaves a port taken for a minute, and a machine has some 28,000.
    pub fresh_calls: u32,
    /// What was left out, and why.
    pub note: Option<String>,
}

/// The same work at one number of connections, twice.
pub struct Row {
    pub connections: usize,
    pub kept: Measured,
    pub fresh: Measured,
}

pub struct Measured {
    pub per_second: f64,
    pub opened: usize,
    /// `None` where the system doesn't say.
    pub time_wait: Option<usize>,
    pub calls: u32,
    pub failed: Vec<String>,
}

/// File descriptors of a process beside the sockets of its callers and of its connections to the data tier.
const OTHER_FILES: u64 = 64;

impl Plan {
    pub fn quick() -> Self {
        Self { sweep: vec![1, 8], callers: 8, kept_calls: 400, fresh_calls: 200, note: None }
    }

    /// Raises how many files this process may open, and so its tiers, which are started after it.
    pub fn full() -> Self {
        let sweep: Vec<usize> = (0..10).map(|power| 1 << power).collect();
        let mut plan = Self { sweep, callers: 512, kept_calls: 10_000, fresh_calls: 2_000, note: None };
        // The business tier has a socket for each caller, and one for each connection to the data tier.
        let files = rlimit::increase_nofile_limit(4096).unwrap_or(256);
        let room = usize::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX);
        if room < plan.callers {
            plan.callers = room.max(1);
            plan.sweep.retain(|connections| *connections <= room.max(1));
            plan.note = Some(format!(
                "A process may open only {files} files here: rows of more than {} connections are left out \
                 (`ulimit -n` moves that).",
                plan.callers
            ));
        }
        plan
    }

    pub fn in_words(&self) -> String {
        let [kept, fresh] = [self.kept_calls, self.fresh_calls].map(grouped);
        let note = self.note.as_ref().map(|note| format!(" {note}")).unwrap_or_default();
        format!(
            "{} calls of order_summary are in flight at any time. Each makes one call to the data tier, over one of at \
             most so many connections: kept alive ({kept} calls a row), or made for each request and closed after it \
             ({fresh} calls a row, since each leaves a port taken for a minute).{note}",
            self.callers
        )
    }
}

pub async fn sweep(page: &Page, plan: &Plan, data_tier: &Tier, business_tier: &Tier) -> Result<Vec<Row>, Failure> {
    let store = Store::on(&data_tier.client()?);
    // So many that no caller ever waits at the door: only the connections behind it change.
    let shop = Client::builder(business_tier.url())
        .transport(Transport::Http)
        .limits(|limits| limits.connections = plan.callers)
        .build()?;
    work(plan, &shop, 2 * plan.callers as u32).await;

    let measure = async |connections, keep| -> Result<Measured, Failure> {
        let how = if keep { "kept alive" } else { "one for each request" };
        page.meanwhile(&format!("  measuring: {}, {how} …", plural(connections)));
        Shop::on(&shop).connect(connections, keep).await?;
        store.visitors().await?;
        let (mut calls, mut failed) = (plan.fresh_calls, Vec::new());
        if keep {
            // They open here, and are counted, before the clock runs.
            failed = work(plan, &shop, plan.callers as u32).await;
            calls = plan.kept_calls;
        }
        let began = Instant::now();
        let late = work(plan, &shop, calls).await;
        let per_second = f64::from(calls - late.len() as u32) / began.elapsed().as_secs_f64();
        failed.extend(late);
        let visitors = store.visitors().await?;
        let time_wait = sockets::in_time_wait(&visitors, data_tier.address).await;
        Ok(Measured { per_second, opened: visitors.len(), time_wait, calls, failed })
    };

    let mut rows = Vec::new();
    for &connections in &plan.sweep {
        let kept = measure(connections, true).await?;
        let fresh = measure(connections, false).await?;
        rows.push(Row { connections, kept, fresh });
    }
    page.meanwhile("");
    Ok(rows)
}

/// Makes so many calls, always as many at once as there are callers. What failed comes back.
async fn work(plan: &Plan, shop: &Client, calls: u32) -> Vec<String> {
    let next = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..plan.callers {
        let (next, shop) = (Arc::clone(&next), Shop::on(shop));
        callers.spawn(async move {
            let mut failed = Vec::new();
            loop {
                let call = next.fetch_add(1, Ordering::Relaxed);
                if call >= calls {
                    return failed;
                }
                if let Err(error) = shop.order_summary(1 + call % CUSTOMERS).await {
                    failed.push(error.to_string());
                }
            }
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}
