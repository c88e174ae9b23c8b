//! More calls than the threads of a server can run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::within;
use byname::{Client, Code, Executed, Server, Transport, rpc};
use futures_util::future::join_all;

/// A server on a thread of its own, so that its callers have no part in its queue.
struct OwnThread {
    address: String,
    _stop: std::sync::mpsc::Sender<()>,
}

impl OwnThread {
    fn serve(server: Server) -> Self {
        let (bound, address) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let serving = runtime.block_on(server.serve("127.0.0.1:0").bind()).unwrap();
            bound.send(serving.local_addr().to_string()).unwrap();
            runtime.spawn(serving.into_future());
            let _ = stopped.recv();
            runtime.shutdown_background();
        });
        Self { address: address.recv().unwrap(), _stop: stop }
    }
}

static RUN: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Keeps its thread for a millisecond.
#[rpc]
async fn compute(transport: usize) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1) {}
    RUN[transport].fetch_add(1, Ordering::Relaxed);
}

/// As many calls as the server runs in two seconds come at once.
#[tokio::test]
async fn calls_that_would_wait_too_long_are_refused_and_do_not_run() {
    for (nth, transport) in [Transport::Http, Transport::Frames].into_iter().enumerate() {
        let server = Server::new().method::<compute>().limits(|limits| limits.queue_delay = Duration::from_millis(5));
        let server = OwnThread::serve(server);
        let client = Client::builder(&server.address).transport(transport);
        let client = client.limits(|limits| limits.connections = 256).build().unwrap();
        let client = client.policy("*", |policy| policy.attempts = 1);
        let answers = within(join_all((0..2000).map(|_| compute::on(&client, nth)))).await;
        let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        let answered = answers.len() - refused.len();
        assert!(answered > 0 && !refused.is_empty(), "{transport:?}: {answered} of {}", answers.len());
        assert_eq!(RUN[nth].load(Ordering::Relaxed), answered, "a call that was refused did not run");
        for refused in refused {
            assert_eq!((refused.code(), refused.executed()), (Code::ResourceExhausted, Executed::No), "{refused}");
            assert!(matches!(refused.limit(), Some("queue_delay") | None), "{refused}");
            let after = refused.retry_after().unwrap();
            assert!((100..=300).contains(&after.as_millis()), "{after:?}");
        }
        // The limit ends with the load.
        within(async { while compute::on(&client, nth).await.is_err() {} }).await;
    }
}
