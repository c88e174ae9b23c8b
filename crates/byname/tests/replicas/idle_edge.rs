//! A connection ends, because it is idle, just as the next call goes out, from two milliseconds before to one after: no call of
//! byname's client fails, and none runs twice.
//!
//! `BYNAME_EDGE_CALLS=1000000 cargo test --release --test replicas -- --ignored --nocapture idle_edge::` is the long run, whose
//! figures stand in `docs/reliability.md`. Without the variable it is thousands of calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Caller, Running, post, within};
use byname::{Context, Server, Transport, rpc};
use tokio::io::AsyncReadExt;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, sleep_until};

/// How long a server keeps a connection without a call.
const IDLE: Duration = Duration::from_millis(50);

/// The same for byname's client over HTTP. It is the least time of which the client keeps a connection for a part.
const IDLE_SAID: Duration = Duration::from_secs(2);

/// How long that client keeps a connection that the server keeps for `IDLE_SAID`.
const KEPT: Duration = Duration::from_secs(1);

/// The sweep, in steps around the edge.
const BEFORE: Duration = Duration::from_millis(2);
const STEP: Duration = Duration::from_micros(37);
const STEPS: u64 = 80;

/// A timer ends up to this much late. A caller sleeps until then before its moment, and yields from then on.
const TIMER: Duration = Duration::from_millis(1);

/// A machine that is busy lets a caller call so much later than it wanted to. Its call may find the connection closed already.
const LATE: Duration = Duration::from_millis(1);

/// Callers at once, each with connections of its own. They sleep nearly all the time.
const CALLERS: u64 = 96;

/// The same where a connection is kept for `KEPT` and there are many calls. They need 2000 open files.
const PATIENT_CALLERS: u64 = 1000;

/// How many calls a long run makes at all edges.
fn many() -> u64 {
    std::env::var("BYNAME_EDGE_CALLS").map_or(9600, |calls| calls.parse().unwrap())
}

/// Which calls ran, and how often.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<HashMap<u64, usize>>>);

#[rpc]
impl Ledger {
    /// Not idempotent. Says by which connection it came: whether by frames, and the port of its caller.
    async fn once(&self, id: u64) -> (bool, u16) {
        *self.0.lock().unwrap().entry(id).or_default() += 1;
        let context = Context::current().unwrap();
        let port = context.peer().unwrap().connection.socket_addr().unwrap().port();
        // Every request of HTTP says what host it is for.
        (context.header("host").is_none(), port)
    }
}

impl Ledger {
    fn ran(&self, id: u64) -> usize {
        self.0.lock().unwrap().get(&id).copied().unwrap_or(0)
    }

    async fn serve(&self, idle: Duration) -> Running {
        Running::new(Server::new().inject(self.clone()).limits(|limits| limits.idle = idle)).await
    }

    /// All has ended: what was answered has run once, and nothing else has run.
    fn settle(&self, answered: u64) {
        let ran = self.0.lock().unwrap();
        let twice: Vec<_> = ran.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "these ran more than once: {twice:?}");
        assert_eq!(ran.len() as u64, answered, "a call has run that was not answered");
    }
}

/// Waits for a moment of the sweep. Whether the caller is late.
async fn edge(end: Instant, turn: u64) -> bool {
    let at = end - BEFORE + STEP * u32::try_from(turn % STEPS).unwrap();
    sleep_until((at - TIMER).into()).await;
    while Instant::now() < at {
        yield_now().await;
    }
    at.elapsed() > LATE
}

/// What became of the calls at the edge.
#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    /// They went out by the connection that was about to end.
    by_the_old_connection: u64,
    by_another: u64,
    /// The connection was closed instead of an answer, and the call had not run.
    closed: u64,
    late: u64,
    /// All calls that were answered, also those that were not at the edge.
    answered: u64,
}

/// The part of a run that one caller makes.
struct Part {
    /// From which number on its calls may be counted.
    first: u64,
    calls: u64,
    /// Where it begins in the sweep.
    turn: u64,
}

/// Callers that call at the edge, until both of what may happen there have, for a machine that is busy may be too late
/// for one of them.
async fn sweep<F: Future<Output = Seen> + Send + 'static>(
    calls: u64,
    callers: u64,
    caller: impl Fn(Part) -> F,
    is_met: impl Fn(&Seen) -> bool,
) -> Seen {
    let mut seen = Seen::default();
    let (callers, calls) = (callers.min(calls), calls.div_ceil(callers));
    for round in 0..100_u64 {
        let part = |number: u64| Part { first: round << 48 | number << 32, calls, turn: number * calls };
        let mut running: JoinSet<_> = (0..callers).map(|number| caller(part(number))).collect();
        while let Some(one) = running.join_next().await {
            let one = one.unwrap();
            seen.calls += one.calls;
            seen.by_the_old_connection += one.by_the_old_connection;
            seen.by_another += one.by_another;
            seen.closed += one.closed;
            seen.late += one.late;
            seen.answered += one.answered;
        }
        if is_met(&seen) {
            println!("{seen:?}");
            return seen;
        }
    }
    panic!("the edge was never met: {seen:?}");
}

/// byname's client, by connections that end after `kept`. Over HTTP the client ends them, so that it can't meet the server's end.
async fn by_client(transport: Transport, calls: u64, callers: u64, idle: Duration, kept: Duration) {
    let ledger = Ledger::default();
    let running = ledger.serve(idle).await;
    let caller = |Part { first, calls, turn }| {
        let client = running.client_by(transport);
        let ledger = ledger.clone();
        async move {
            let (mut seen, mut id) = (Seen::default(), first);
            for n in 0..calls {
                let mut once = async || {
                    id += 1;
                    let way = within(client.call::<(bool, u16)>("once", (id,)).into_future()).await;
                    let way = way.unwrap_or_else(|why| panic!("{why}"));
                    assert_eq!(ledger.ran(id), 1);
                    seen.answered += 1;
                    way
                };
                let mut pause = Duration::from_millis(1);
                let (before, late) = loop {
                    let (by_frames, port) = once().await;
                    if by_frames || transport == Transport::Http {
                        break (port, edge(Instant::now() + kept, turn + n).await);
                    }
                    // Frames are being connected. The other callers need the machine meanwhile.
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(64));
                };
                let (_, port) = once().await;
                if port == before {
                    seen.by_the_old_connection += 1;
                } else {
                    seen.by_another += 1;
                }
                seen.late += u64::from(late);
                seen.calls += 1;
            }
            seen
        }
    };
    let is_met = |seen: &Seen| seen.by_the_old_connection > 0 && seen.by_another > 0;
    let seen = sweep(calls, callers, caller, is_met).await;
    running.stopped().await.unwrap();
    ledger.settle(seen.answered);
}

async fn by_frames(calls: u64) {
    by_client(Transport::Frames, calls, CALLERS, IDLE, IDLE).await;
}

async fn over_http(calls: u64) {
    by_client(Transport::Http, calls, (calls / 25).clamp(CALLERS, PATIENT_CALLERS), IDLE_SAID, KEPT).await;
}

/// byname's client closes before the server would. One that doesn't can meet the end of its connection, as HTTP has it,
/// but then its call did not run.
async fn over_http_by_another_client(calls: u64) {
    let ledger = Ledger::default();
    let running = ledger.serve(IDLE).await;
    let address = running.address;
    let caller = |Part { first, calls, turn }| {
        let ledger = ledger.clone();
        async move {
            let (mut seen, mut id) = (Seen::default(), first);
            for n in 0..calls {
                let mut caller = Caller::to(address).await;
                id += 1;
                assert_eq!(caller.ask(post("/rpc/once", &format!("[{id}]"))).await.status, 200);
                seen.late += u64::from(edge(Instant::now() + IDLE, turn + n).await);
                id += 1;
                caller.send(post("/rpc/once", &format!("[{id}]"))).await;
                let mut answer = Vec::new();
                // The server may close by RST.
                let _ = within(caller.stream.read_buf(&mut answer)).await;
                let is_answered = answer.starts_with(b"HTTP/1.1 200 ");
                assert!(is_answered || answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
                if is_answered {
                    seen.by_the_old_connection += 1;
                } else {
                    seen.closed += 1;
                }
                assert_eq!(ledger.ran(id), usize::from(is_answered));
                seen.answered += 1 + u64::from(is_answered);
                seen.calls += 1;
            }
            seen
        }
    };
    let is_met = |seen: &Seen| seen.by_the_old_connection > 0 && seen.closed > 0;
    let seen = sweep(calls, CALLERS, caller, is_met).await;
    running.stopped().await.unwrap();
    ledger.settle(seen.answered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_by_frames_that_meets_the_end_of_an_idle_connection_runs_once() {
    by_frames(480).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_http_that_meets_the_end_of_an_idle_connection_runs_once() {
    over_http(192).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_http_that_meets_the_end_of_an_idle_connection_is_answered_or_did_not_run() {
    over_http_by_another_client(480).await;
}

#[ignore = "thousands of calls; .ci/run runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_by_frames_that_meet_the_end_of_an_idle_connection_run_once() {
    by_frames(many() / 2).await;
}

#[ignore = "thousands of calls; .ci/run runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_over_http_that_meet_the_end_of_an_idle_connection_run_once() {
    over_http(many() / 4).await;
}

#[ignore = "thousands of calls; .ci/run runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_over_http_that_meet_the_end_of_an_idle_connection_are_answered_or_did_not_run() {
    over_http_by_another_client(many() / 4).await;
}
