//! The server closes an idle connection just as the next call goes out, from two milliseconds before to one after: no call
//! by frames fails, and none runs twice.
//!
//! `BYNAME_EDGE_CALLS=1000000 cargo test --release --test replicas -- --ignored --nocapture --test-threads 1 idle_edge::` is the
//! long run, whose figures stand in `docs/reliability.md`. Without the variable it is thousands of calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Caller, Running, post, within};
use byname::{Client, Context, Server, rpc};
use tokio::io::AsyncReadExt;
use tokio::task::yield_now;

/// How long the server keeps a connection without a call.
const IDLE: Duration = Duration::from_millis(5);

/// The sweep, in steps around the edge.
const BEFORE: Duration = Duration::from_millis(2);
const STEP: Duration = Duration::from_micros(37);
const STEPS: u32 = 80;

/// Callers at once, each with connections of its own.
const CALLERS: u64 = 8;

/// How many calls each caller makes at the edge in a long run: their sum is `BYNAME_EDGE_CALLS`.
fn many() -> u64 {
    std::env::var("BYNAME_EDGE_CALLS").map_or(400, |calls| calls.parse::<u64>().unwrap().div_ceil(CALLERS))
}

/// Which calls ran, and how often.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<HashMap<u64, usize>>>);

#[rpc]
impl Ledger {
    /// Not idempotent. Says what it came by: every request of HTTP says what host it is for.
    async fn once(&self, id: u64) -> String {
        *self.0.lock().unwrap().entry(id).or_default() += 1;
        if Context::current().unwrap().header("host").is_some() { "http" } else { "frames" }.into()
    }
}

impl Ledger {
    fn ran(&self, id: u64) -> usize {
        self.0.lock().unwrap().get(&id).copied().unwrap_or(0)
    }

    /// Serves this on threads of its own, so that it acts while a caller does.
    async fn serve(&self) -> Running {
        Running::new(Server::new().inject(self.clone()).limits(|limits| limits.idle = IDLE)).await
    }
}

/// The next moment of the sweep, after a connection was last used.
async fn edge(used: Instant, n: u64) {
    let step = u32::try_from(n % u64::from(STEPS)).unwrap();
    let at = used + IDLE - BEFORE + STEP * step;
    while Instant::now() < at {
        yield_now().await;
    }
}

/// What became of the calls at the edge.
#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    by_frames: u64,
    over_http: u64,
    closed: u64,
}

/// Callers that call at the edge, until both of what may happen there have, for a machine that is busy may be too late
/// for one of them. Each is told from which number on its calls may be counted.
async fn sweep<F: Future<Output = Seen> + Send + 'static>(caller: impl Fn(u64) -> F, is_met: impl Fn(&Seen) -> bool) {
    let mut seen = Seen::default();
    for round in 0..100 {
        let callers: Vec<_> = (0..CALLERS).map(|number| tokio::spawn(caller(round << 48 | number << 32))).collect();
        for caller in callers {
            let one = caller.await.unwrap();
            seen.calls += one.calls;
            seen.by_frames += one.by_frames;
            seen.over_http += one.over_http;
            seen.closed += one.closed;
        }
        if is_met(&seen) {
            println!("{seen:?}");
            return;
        }
    }
    panic!("the edge was never met: {seen:?}");
}

async fn by_frames(calls: u64) {
    let ledger = Ledger::default();
    let running = ledger.serve().await;
    let address = running.address.to_string();
    let caller = |first| {
        let client = Client::builder(&address).build().unwrap();
        let ledger = ledger.clone();
        async move {
            let (mut seen, mut id) = (Seen::default(), first);
            let mut once = async || {
                id += 1;
                let way = within(client.call::<String>("once", (id,)).into_future()).await;
                let way = way.unwrap_or_else(|why| panic!("{why}"));
                assert_eq!(ledger.ran(id), 1);
                way
            };
            for n in 0..calls {
                while once().await != "frames" {}
                edge(Instant::now(), n).await;
                match once().await.as_str() {
                    "frames" => seen.by_frames += 1,
                    _ => seen.over_http += 1,
                }
                seen.calls += 1;
            }
            seen
        }
    };
    sweep(caller, |seen| seen.by_frames > 0 && seen.over_http > 0).await;
}

/// byname's client closes before the server would. One that doesn't can meet the end of its connection, as HTTP has it,
/// but then its call did not run.
async fn over_http(calls: u64) {
    let ledger = Ledger::default();
    let running = ledger.serve().await;
    let address = running.address;
    let caller = |first| {
        let ledger = ledger.clone();
        async move {
            let (mut seen, mut id) = (Seen::default(), first);
            for n in 0..calls {
                let mut caller = Caller::to(address).await;
                id += 1;
                assert_eq!(caller.ask(post("/rpc/once", &format!("[{id}]"))).await.status, 200);
                edge(Instant::now(), n).await;
                id += 1;
                caller.send(post("/rpc/once", &format!("[{id}]"))).await;
                let mut answer = Vec::new();
                // The server may close by RST.
                let _ = within(caller.stream.read_buf(&mut answer)).await;
                let is_answered = answer.starts_with(b"HTTP/1.1 200 ");
                assert!(is_answered || answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
                if is_answered {
                    seen.over_http += 1;
                } else {
                    seen.closed += 1;
                }
                assert_eq!(ledger.ran(id), usize::from(is_answered));
                seen.calls += 1;
            }
            seen
        }
    };
    sweep(caller, |seen| seen.over_http > 0 && seen.closed > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_by_frames_that_meets_the_end_of_an_idle_connection_runs_once() {
    by_frames(60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_http_that_meets_the_end_of_an_idle_connection_is_answered_or_did_not_run() {
    over_http(60).await;
}

#[ignore = "thousands of calls; .ci/run runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_by_frames_that_meet_the_end_of_an_idle_connection_run_once() {
    by_frames(many()).await;
}

#[ignore = "thousands of calls; .ci/run runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_over_http_that_meet_the_end_of_an_idle_connection_are_answered_or_did_not_run() {
    over_http(many()).await;
}
