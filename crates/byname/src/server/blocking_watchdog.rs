//! A thread that detects functions that block the runtime's threads.
//!
//! A function that blocks delays other calls too. If its thread was the one that waited for the sockets, tokio wakes no
//! other thread to wait instead, and every call waits. So while a function blocks, which may be forever, the watchdog
//! logs its name and spawns a task from outside. A thread wakes for the task, finds nothing else to do, and waits for
//! the sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::dispatcher::{get_default, with_default};
use tracing::subscriber::NoSubscriber;
use tracing::warn;

use super::http::ServerEndpoint;
use crate::running_functions;
use crate::runtime;

/// The shortest interval between two checks, even if [`Limits::slow_poll`](crate::Limits::slow_poll) is shorter.
const PAUSE: Duration = Duration::from_millis(10);

/// Watches until it is dropped.
pub(super) struct Watchdog {
    _until: mpsc::Sender<()>,
}

impl Watchdog {
    pub(super) fn new(endpoint: &Arc<ServerEndpoint>) -> Self {
        let limit = endpoint.dispatch().limits().slow_poll;
        let (endpoint, runtime) = (Arc::downgrade(endpoint), Handle::current());
        let (until, over) = mpsc::channel();
        // Whether the last task from outside has run. One waiting task is enough.
        let ran = Arc::new(AtomicBool::new(true));
        let watch = move || {
            while over.recv_timeout(limit.max(PAUSE)) == Err(RecvTimeoutError::Timeout) {
                let kept = running_functions::kept_for(limit);
                if kept.is_empty() {
                    continue;
                }
                if ran.swap(false, Ordering::AcqRel) {
                    let ran = Arc::clone(&ran);
                    runtime::spawn(&runtime, async move { ran.store(true, Ordering::Release) });
                }
                let Some(endpoint) = endpoint.upgrade() else { return };
                for (id, took) in kept {
                    endpoint.dispatch().kept(id, took);
                }
            }
        };
        // The log subscriber may be set only for the thread of the server.
        let log = get_default(Clone::clone);
        let watch = move || if log.is::<NoSubscriber>() { watch() } else { with_default(&log, watch) };
        if let Err(why) = thread::Builder::new().name("byname-watchdog".into()).spawn(watch) {
            warn!("functions that keep their thread are not noticed before they end: {why}");
        }
        Self { _until: until }
    }
}
