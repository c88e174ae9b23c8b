//! The signals that end a command early: [`Interrupts`].

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::CommandError;

/// Ctrl-C, and on Unix SIGTERM: `timeout` sends it, and what stops a container.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    signals: [Signal; 2],
}

impl Interrupts {
    #[cfg(unix)]
    pub(crate) fn new() -> Result<Self, CommandError> {
        let received = |kind| {
            signal(kind).map_err(|why| CommandError::other(format!("the signals that end it can't be received: {why}")))
        };
        Ok(Self { signals: [received(SignalKind::interrupt())?, received(SignalKind::terminate())?] })
    }

    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn new() -> Result<Self, CommandError> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
