//! The clients of this process, for `GET /rpc/!explain`.

use std::sync::{Mutex, PoisonError, Weak};

/// A client that can say what it knows of its service.
pub(crate) trait ExplainedClient: Send + Sync {
    /// In lines.
    fn explained(&self) -> String;
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
    let clients: Vec<_> = {
        let clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        clients.iter().filter_map(Weak::upgrade).collect()
    };
    match &clients[..] {
        [] => "this process has no client\n".to_owned(),
        clients => {
            let explained: Vec<_> = clients.iter().map(|client| client.explained()).collect();
            format!("{HEADING}\n{}", explained.join("\n"))
        }
    }
}
