//! SIGTERM and SIGINT in a process that serves.
//!
//! tokio never removes its signal handler, so a process whose server is gone would ignore both signals forever. The
//! flags here belong to a second handler, which runs when the signal arrives. If no server is left, it does what the
//! operating system does in a process without handlers.

use std::io;

use crate::runtime::BoxFuture;

/// A server that is stopped by signals. While one lives, the first signal starts the drain. Then a second ctrl-c ends
/// the process.
pub(super) struct ToldBySignals(());

#[cfg(unix)]
mod unix {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, LazyLock, Mutex, PoisonError};
    use std::task::Poll;

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag;
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    struct Process {
        servers: Mutex<usize>,
        /// Whether there are no servers. Then either signal ends the process.
        is_idle: Arc<AtomicBool>,
        /// Whether the servers have been told to stop. Then SIGINT ends the process, even if its threads are blocked.
        is_told: Arc<AtomicBool>,
    }

    static PROCESS: LazyLock<io::Result<Process>> = LazyLock::new(|| {
        let is_idle = Arc::new(AtomicBool::new(true));
        let process = Process { servers: Mutex::new(0), is_idle, is_told: Arc::default() };
        for signal in [SIGTERM, SIGINT] {
            flag::register_conditional_default(signal, Arc::clone(&process.is_idle))?;
        }
        // In this order, so that the first SIGINT finds the flag unset.
        flag::register_conditional_default(SIGINT, Arc::clone(&process.is_told))?;
        flag::register(SIGINT, Arc::clone(&process.is_told))?;
        Ok(process)
    });

    impl Process {
        fn change(&self, change: impl FnOnce(&mut usize)) {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut servers);
            self.is_idle.store(*servers == 0, Ordering::SeqCst);
        }
    }

    impl ToldBySignals {
        /// The second part ends when the process is told to stop: SIGTERM (what orchestrators send) or SIGINT (ctrl-c).
        pub(in crate::server) fn new() -> io::Result<(Self, BoxFuture<()>)> {
            let process = PROCESS.as_ref().map_err(|why| io::Error::new(why.kind(), why.to_string()))?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            process.is_told.store(false, Ordering::SeqCst);
            process.change(|servers| *servers += 1);
            let told = poll_fn(move |cx| {
                if terminate.poll_recv(cx).is_pending() && interrupt.poll_recv(cx).is_pending() {
                    return Poll::Pending;
                }
                process.is_told.store(true, Ordering::SeqCst);
                Poll::Ready(())
            });
            Ok((Self(()), Box::pin(told)))
        }
    }

    impl Drop for ToldBySignals {
        fn drop(&mut self) {
            if let Ok(process) = &*PROCESS {
                process.change(|servers| *servers -= 1);
            }
        }
    }
}

#[cfg(not(unix))]
impl ToldBySignals {
    /// The second part ends at ctrl-c.
    pub(super) fn new() -> io::Result<(Self, BoxFuture<()>)> {
        let told = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        Ok((Self(()), Box::pin(told)))
    }
}
