//! The client's side: a closed loop, in which every slot makes its next call when the last is answered, or reads its next
//! stream when the last is over.

use std::iter;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::allocate::{self, allocations};
use crate::machine::{Busy, CpuTime};
use crate::peer::{Caller, Peer};
use crate::work::{self, Work};

pub struct Load {
    pub server: SocketAddr,
    pub server_process: Option<Pid>,
    pub work: Work,
    pub in_flight: usize,
    pub warm_up: Duration,
    pub window: Duration,
}

/// What was seen in the window, but for the failures: those of the whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Calls, or items of streams.
    pub calls: u64,
    pub failures: u64,
    pub first_failure: Option<String>,
    pub seconds: f64,
    /// Of calls, like the next; streams have none.
    pub p50_us: f64,
    pub p99_us: f64,
    pub server_cpu_us: f64,
    pub client_cpu_us: f64,
    pub client_allocations: f64,
    /// CPUs that neither side had, but were not idle.
    pub others_cpus: f64,
}

pub async fn generate<P: Peer>(peer: &P, load: Load) -> Result<Outcome> {
    let state = Arc::new(State::new(load.in_flight)?);
    let mut slots = start(peer, &load, u64::MAX, &state).await?;
    watch(&mut slots, load.warm_up).await?;
    let window = Window::open(&state, load.server_process)?;
    watch(&mut slots, load.window).await?;
    // A slow work may need longer for its first reply than a short window is.
    while state.is_empty_since(window.items)? && window.began.elapsed() < load.window + DRAIN {
        watch(&mut slots, Duration::from_millis(10)).await?;
    }
    let mut outcome = window.close(&state)?;
    state.over.store(true, Relaxed);
    let drained = timeout(DRAIN, async {
        while let Some(slot) = slots.join_next().await {
            slot??;
        }
        Ok::<_, anyhow::Error>(())
    });
    drained.await.context("calls were never answered")??;
    // A failure counts whenever it comes: while warming up, and in the last call of a slot.
    let tally = state.whole_tally()?;
    outcome.failures = tally.failures;
    outcome.first_failure = tally.first_failure;
    Ok(outcome)
}

/// Makes so many calls in each slot, or reads so many items, and measures nothing.
pub async fn call<P: Peer>(peer: &P, load: Load, each: u64) -> Result<()> {
    let state = Arc::new(State::new(load.in_flight)?);
    let mut slots = start(peer, &load, each, &state).await?;
    while let Some(slot) = slots.join_next().await {
        slot??;
    }
    let failure = state.whole_tally()?.first_failure;
    ensure!(failure.is_none(), "calls failed, the first: {failure:?}");
    Ok(())
}

/// Opens connections one after the other, and makes one call on each.
pub async fn open<P: Peer>(peer: &P, server: SocketAddr, connections: usize) -> Result<Vec<P::Caller>> {
    let mut open = Vec::with_capacity(connections);
    for nth in 0..connections {
        // A client for each: within one it is the client that decides about connections.
        for mut caller in peer.connect(server, 1).await? {
            let sum = caller.add(1, 2).await.with_context(|| format!("connection {nth}"))?;
            ensure!(sum == 3, "wrong reply: {sum}");
            caller.settle().await?;
            open.push(caller);
        }
    }
    Ok(open)
}

async fn start<P: Peer>(peer: &P, load: &Load, each: u64, state: &Arc<State>) -> Result<JoinSet<Result<()>>> {
    let mut callers = peer.connect(load.server, load.in_flight).await?;
    for caller in &mut callers {
        caller.settle().await?;
    }
    let slots = callers.into_iter().enumerate();
    let length = work::stream_length(load.in_flight);
    Ok(slots.map(|(slot, caller)| run_slot(caller, slot, load.work, length, each, Arc::clone(state))).collect())
}

const DRAIN: Duration = Duration::from_secs(40);

/// What is measured lies between its opening and its closing.
struct Window {
    began: Instant,
    server: Option<Server>,
    client: CpuTime,
    allocations: u64,
    items: u64,
    machine: Busy,
}

struct Server {
    process: Pid,
    cpu: CpuTime,
}

impl Window {
    fn open(state: &State, server: Option<Pid>) -> Result<Self> {
        if let Some(process) = server {
            allocate::mark(process)?;
        }
        for tally in &state.tallies {
            tally.lock().expect("no slot panics").latency.reset();
        }
        let server = server.map(|process| Ok::<_, anyhow::Error>(Server { process, cpu: CpuTime::of(process)? }));
        Ok(Window {
            server: server.transpose()?,
            client: CpuTime::of(Pid::this())?,
            allocations: allocations(),
            items: state.items(),
            machine: Busy::now()?,
            began: Instant::now(),
        })
    }

    fn close(self, state: &State) -> Result<Outcome> {
        let seconds = self.began.elapsed().as_secs_f64();
        let client = self.client.elapsed()?;
        let allocated = allocations() - self.allocations;
        let server = self.server.as_ref().map(|server| server.cpu.elapsed()).transpose()?;
        if let Some(Server { process, .. }) = self.server {
            allocate::mark(process)?;
        }
        let ours = client + server.unwrap_or_default();
        let others = self.machine.elapsed()?.saturating_sub(ours);
        let tally = state.whole_tally()?;
        let calls = tally.latency.len() + state.items() - self.items;
        if calls == 0 {
            bail!("nothing succeeded; the first failure: {:?}", tally.first_failure);
        }
        let per_call = |cpu: Duration| cpu.as_secs_f64() * 1e6 / calls as f64;
        let micros_at = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Outcome {
            calls,
            failures: tally.failures,
            first_failure: tally.first_failure,
            seconds,
            p50_us: micros_at(0.50),
            p99_us: micros_at(0.99),
            server_cpu_us: server.map_or(0.0, per_call),
            client_cpu_us: per_call(client),
            client_allocations: allocated as f64 / calls as f64,
            others_cpus: others.as_secs_f64() / seconds,
        })
    }
}

struct State {
    over: AtomicBool,
    /// How many items came in each slot, which alone writes there.
    items: Vec<AtomicU64>,
    /// One for each thread of the runtime: a histogram for each slot would fill the cache, and a single one would move
    /// between the cores with each call.
    tallies: Vec<Mutex<Tally>>,
}

/// The most threads of a runtime that have a [`Tally`] of their own.
const TALLIES: usize = 8;

thread_local! {
    /// Which tally is this thread's.
    static TALLY: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % TALLIES
    };
}

struct Tally {
    /// Nanoseconds of every call that succeeded.
    latency: Histogram<u64>,
    failures: u64,
    first_failure: Option<String>,
}

impl Tally {
    fn new() -> Result<Self> {
        let latency = Histogram::new_with_bounds(100, 60_000_000_000, 3)?;
        Ok(Tally { latency, failures: 0, first_failure: None })
    }
}

impl State {
    fn new(slots: usize) -> Result<Self> {
        Ok(State {
            over: AtomicBool::new(false),
            items: iter::repeat_with(AtomicU64::default).take(slots).collect(),
            tallies: iter::repeat_with(|| Tally::new().map(Mutex::new)).take(TALLIES).collect::<Result<_>>()?,
        })
    }

    /// What this thread has counted.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        TALLY.with(|at| self.tallies[*at].lock().expect("no slot panics"))
    }

    /// What all threads have counted.
    fn whole_tally(&self) -> Result<Tally> {
        let mut whole = Tally::new()?;
        for tally in &self.tallies {
            let tally = tally.lock().expect("no slot panics");
            whole.latency.add(&tally.latency)?;
            whole.failures += tally.failures;
            whole.first_failure = whole.first_failure.or_else(|| tally.first_failure.clone());
        }
        Ok(whole)
    }

    /// Whether nothing came since the window opened, when there had been so many items.
    fn is_empty_since(&self, items: u64) -> Result<bool> {
        let tally = self.whole_tally()?;
        Ok(tally.latency.is_empty() && tally.failures == 0 && self.items() == items)
    }

    fn items(&self) -> u64 {
        self.items.iter().map(|items| items.load(Relaxed)).sum()
    }

    fn record<T>(&self, reply: Result<T>, took: Duration) -> Option<T> {
        match reply {
            Ok(reply) => {
                self.tally().latency.saturating_record(took.as_nanos() as u64);
                Some(reply)
            }
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    fn fail(&self, error: &anyhow::Error) {
        let mut tally = self.tally();
        tally.failures += 1;
        tally.first_failure.get_or_insert_with(|| format!("{error:#}"));
    }
}

/// Lets the slots run for a while. One that ends by itself has had a wrong reply.
async fn watch(slots: &mut JoinSet<Result<()>>, duration: Duration) -> Result<()> {
    tokio::select! {
        () = sleep(duration) => Ok(()),
        Some(ended) = slots.join_next() => {
            ended??;
            bail!("a slot ended too early");
        }
    }
}

/// Makes so many calls, one after the other, or reads so many items, from streams of this length.
async fn run_slot<C: Caller>(
    mut caller: C,
    slot: usize,
    work: Work,
    length: u64,
    calls: u64,
    state: Arc<State>,
) -> Result<()> {
    let users = work::users(slot);
    let payload = match work {
        Work::Payload => work::payload_bytes(slot),
        Work::Add | Work::Record | Work::Stream => Bytes::new(),
    };
    let mut n = 0;
    while n < calls && !state.over.load(Relaxed) {
        let mut count = 1;
        let failed = match work {
            Work::Add => {
                let (a, b) = work::addends(slot, n);
                let (reply, took) = timed(caller.add(a, b)).await;
                let sum = state.record(reply, took);
                let right = sum.is_none_or(|sum| sum == work::add(a, b));
                ensure!(right, "wrong reply: {sum:?} for add({a}, {b})");
                sum.is_none()
            }
            Work::Record => {
                // Peers differ in whether they want their own; so each is given its own.
                let own = users.clone();
                let (reply, took) = timed(caller.record(own)).await;
                let echo = state.record(reply, took);
                let right = echo.as_ref().is_none_or(|echo| *echo == users);
                ensure!(right, "wrong reply: {echo:?} for {users:?}");
                echo.is_none()
            }
            Work::Payload => {
                let (reply, took) = timed(caller.payload(payload.clone())).await;
                let echo = state.record(reply, took);
                let right = echo.as_ref().is_none_or(|echo| *echo == payload);
                ensure!(
                    right,
                    "wrong reply: {} bytes that are not those that were sent",
                    echo.unwrap_or_default().len()
                );
                echo.is_none()
            }
            Work::Stream => {
                count = length.min(calls - n);
                let read = read_stream(&mut caller, work::first_number(slot), count, &state.items[slot]).await?;
                read.inspect_err(|error| state.fail(error)).is_err()
            }
        };
        n += count;
        if failed {
            // A peer that fails at once must not starve the clock.
            sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

/// Reads one stream to its end, or to its failure, which is the inner error.
async fn read_stream<C: Caller>(caller: &mut C, from: u64, count: u64, came: &AtomicU64) -> Result<Result<()>> {
    let items = match caller.numbers(from, count).await {
        Ok(items) => items,
        Err(error) => return Ok(Err(error)),
    };
    let mut items = pin!(items);
    let mut expected = work::numbers(from, count);
    while let Some(item) = items.next().await {
        let item = match item {
            Ok(item) => item,
            Err(error) => return Ok(Err(error)),
        };
        let right = expected.next();
        ensure!(right == Some(item), "wrong item: {item}, not {right:?}");
        came.store(came.load(Relaxed) + 1, Relaxed);
    }
    ensure!(expected.is_empty(), "a stream of {count} items without its last {}", expected.count());
    Ok(Ok(()))
}

async fn timed<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let reply = call.await;
    (reply, began.elapsed())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::net::TcpListener;
    use tokio::task::yield_now;

    use super::*;
    use crate::peer::Numbers;
    use crate::work::User;

    #[tokio::test]
    async fn a_wrong_reply_ends_it_all() {
        let error = generate(&Wrong, load(Work::Add)).await.unwrap_err();
        assert!(error.to_string().starts_with("wrong reply"), "{error}");
        let error = generate(&Wrong, load(Work::Record)).await.unwrap_err();
        assert!(error.to_string().starts_with("wrong reply: Some([])"), "{error}");
        let error = generate(&Wrong, load(Work::Payload)).await.unwrap_err();
        assert!(error.to_string().starts_with("wrong reply: 1048575 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_stream_ends_it_all() {
        for (items, wrong) in [
            (vec![0, 2], "wrong item: 2, not Some(1)"),
            (vec![0, 1, 2], "a stream of 4 items without its last 1"),
            (vec![0, 1, 2, 3, 4], "wrong item: 4, not None"),
        ] {
            let state = Arc::new(State::new(1).unwrap());
            let error = run_slot(Yielding(items), 0, Work::Stream, 100, 4, state).await.unwrap_err();
            assert_eq!(error.to_string(), wrong);
        }
        let state = Arc::new(State::new(1).unwrap());
        run_slot(Yielding(vec![0, 1, 2, 3]), 0, Work::Stream, 4, 8, Arc::clone(&state)).await.unwrap();
        assert_eq!(state.items(), 8);
    }

    #[tokio::test]
    async fn failures_are_counted_and_are_no_calls() {
        let outcome = generate(&Failing::default(), load(Work::Add)).await.unwrap();
        assert!(outcome.calls > 0 && outcome.failures > 0, "{outcome:?}");
        assert_eq!(outcome.first_failure.as_deref(), Some("odd"));
        let error = generate(&Failing::default(), load(Work::Record)).await.unwrap_err();
        assert!(error.to_string().starts_with("nothing succeeded"), "{error}");
        let error = generate(&Failing::default(), load(Work::Stream)).await.unwrap_err();
        assert!(error.to_string().starts_with("nothing succeeded"), "{error}");
    }

    #[tokio::test]
    async fn a_failure_ends_a_counted_run() {
        let error = call(&Failing::default(), load(Work::Add), 10).await.unwrap_err();
        assert_eq!(error.to_string(), "calls failed, the first: Some(\"odd\")");
    }

    fn load(work: Work) -> Load {
        Load {
            server: ([127, 0, 0, 1], 0).into(),
            server_process: None,
            work,
            in_flight: 2,
            warm_up: Duration::from_millis(5),
            window: Duration::from_millis(50),
        }
    }

    #[derive(Clone, Default)]
    struct Wrong;

    impl Caller for Wrong {
        async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
            yield_now().await;
            Ok(a + b + 1)
        }

        async fn record(&mut self, _: Vec<User>) -> Result<Vec<User>> {
            yield_now().await;
            Ok(vec![])
        }

        async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
            yield_now().await;
            Ok(bytes.slice(1..))
        }
    }

    struct Yielding(Vec<u64>);

    impl Caller for Yielding {
        async fn add(&mut self, _: i64, _: i64) -> Result<i64> {
            unreachable!("it only yields")
        }

        async fn record(&mut self, _: Vec<User>) -> Result<Vec<User>> {
            unreachable!("it only yields")
        }

        async fn payload(&mut self, _: Bytes) -> Result<Bytes> {
            unreachable!("it only yields")
        }

        async fn numbers(&mut self, _: u64, _: u64) -> Result<impl Numbers> {
            Ok(stream::iter(self.0.clone()).map(Ok))
        }
    }

    #[derive(Clone, Default)]
    struct Failing {
        calls: u64,
    }

    impl Caller for Failing {
        async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
            yield_now().await;
            self.calls += 1;
            ensure!(self.calls.is_multiple_of(2), "odd");
            Ok(a + b)
        }

        async fn record(&mut self, _: Vec<User>) -> Result<Vec<User>> {
            bail!("always")
        }

        async fn payload(&mut self, _: Bytes) -> Result<Bytes> {
            bail!("always")
        }
    }

    macro_rules! peer {
        ($caller:ty) => {
            impl Peer for $caller {
                const PACKAGES: &'static [&'static str] = &[];

                type Caller = Self;

                async fn serve(&self, _: TcpListener) -> Result<()> {
                    unreachable!("its callers answer by themselves")
                }

                async fn connect(&self, _: SocketAddr, slots: usize) -> Result<Vec<Self>> {
                    Ok(vec![Self::default(); slots])
                }
            }
        };
    }

    peer!(Wrong);
    peer!(Failing);
}
