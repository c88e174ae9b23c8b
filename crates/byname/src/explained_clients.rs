//! The clients of this process, for `GET /rpc/!explain`, `!stats` and `!metrics`.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::client_counters::{self, ClientCounters};
use crate::stats::{ClientStats, ShownCalls, ShownClient, ShownReplica};

/// A client that can say what it knows of its service.
pub(crate) trait ExplainedClient: Send + Sync {
    /// In lines.
    fn explained(&self) -> String;

    /// What it has now.
    fn live(&self) -> LiveClient;
}

/// What a client has now.
pub(crate) struct LiveClient {
    /// Of its URL.
    pub(crate) counters: Arc<ClientCounters>,
    pub(crate) waiting: usize,
    pub(crate) connections: usize,
    pub(crate) replicas: Vec<ShownReplica>,
}

static CLIENTS: Mutex<Vec<Weak<dyn ExplainedClient>>> = Mutex::new(Vec::new());

/// A client was made. Those that are gone are forgotten.
pub(crate) fn add(client: Weak<dyn ExplainedClient>) {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    // Not each time: a program may have many clients.
    if clients.len() == clients.capacity() {
        clients.retain(|client| client.strong_count() > 0);
    }
    clients.push(client);
}

/// Policies belong to handles, of which a client may have many.
const HEADING: &str = "The clients of this process. What handles say by `Client::policy` and `Client::timeout`, and functions by \
                       `#[rpc(…)]`, is not shown here: `Client::explain` and `Call::explain` show it.\n";

/// What all clients say of their services, in the order in which they were made.
pub(crate) fn explained() -> String {
    match &clients()[..] {
        [] => "this process has no client\n".to_owned(),
        clients => {
            let explained: Vec<_> = clients.iter().map(|client| client.explained()).collect();
            format!("{HEADING}\n{}", explained.join("\n"))
        }
    }
}

/// What the clients of each URL have counted, and what they have now. A URL is there after its last client is gone, so that no counter
/// decreases.
pub(crate) fn shown() -> Vec<ShownClient> {
    let live = live();
    client_counters::all().iter().map(|counters| shown_of(counters, &live)).collect()
}

/// What the clients of one URL have counted.
pub(crate) fn stats_of(counters: &Arc<ClientCounters>) -> ClientStats {
    shown_of(counters, &live()).stats
}

fn shown_of(counters: &Arc<ClientCounters>, live: &[LiveClient]) -> ShownClient {
    let live = live.iter().filter(|client| Arc::ptr_eq(&client.counters, counters));
    let stats = ClientStats {
        url: counters.url().to_owned(),
        functions: counters.functions(),
        waiting: live.clone().map(|client| client.waiting).sum(),
        connections: live.clone().map(|client| client.connections).sum(),
        connections_opened: counters.opened(),
    };
    let calls = ShownCalls::of(counters.recent(), |_| true);
    ShownClient { stats, calls, replicas: live.flat_map(|client| client.replicas.clone()).collect() }
}

fn live() -> Vec<LiveClient> {
    clients().iter().map(|client| client.live()).collect()
}

fn clients() -> Vec<Arc<dyn ExplainedClient>> {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}
