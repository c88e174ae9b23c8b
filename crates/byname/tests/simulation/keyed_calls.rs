//! Calls with an idempotency key while servers fail, in virtual time: callers send duplicates, run out of time and go away.
//! A ledger counts what ran.
//!
//! `cargo test --release -p byname --features simulation --test simulation -- --ignored --nocapture hundred_thousand_keyed_calls`
//! makes a hundred thousand calls. `BYNAME_SEED=17` runs one seed alone, and prints its events.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use byname::simulation::{self, CALLER, Latency, Simulation};
use byname::{
    Client, Code, Context, Executed, IdempotencyKey, KeyClaim, KeyStore, KeyStoreFuture, Server, StoredReply,
    Transport, rpc,
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Of one seed.
const KEYS: u64 = 100;

/// How long servers fail.
const FAILING: Duration = Duration::from_secs(10);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Where the replies are, and what duplicates there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// In the memory of a server that does not end. Callers send duplicates.
    OneServer,
    /// In the memory of servers that are killed. Only the client itself sends calls again.
    KilledServers,
    /// In a store that all servers share, and that the function writes in one step with its work. Callers send duplicates, and
    /// servers are killed.
    SharedStore,
}

#[derive(Default)]
struct Ledger {
    /// How often each function has begun, and has done its work.
    begun: BTreeMap<u64, u32>,
    done: BTreeMap<u64, u32>,
    /// The store.
    replies: BTreeMap<String, Vec<u8>>,
    kept: Option<Kept>,
}

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::default();
}

#[rpc(keyed)]
async fn pay(id: u64, takes: u64) -> u64 {
    LEDGER.with_borrow_mut(|ledger| *ledger.begun.entry(id).or_default() += 1);
    if takes > 0 {
        sleep(ms(takes)).await;
    }
    let context = Context::current().unwrap();
    let key = context.idempotency_key().unwrap();
    // As a transaction: nothing ends a process in the middle of it.
    LEDGER.with_borrow_mut(|ledger| {
        if ledger.kept == Some(Kept::SharedStore) {
            if ledger.replies.contains_key(key.as_str()) {
                return;
            }
            let reply = StoredReply::success(key, &(id * 7)).unwrap();
            ledger.replies.insert(key.to_string(), reply.to_bytes());
        }
        *ledger.done.entry(id).or_default() += 1;
    });
    id * 7
}

struct LedgerStore;

impl KeyStore for LedgerStore {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey) -> KeyStoreFuture<'a, KeyClaim> {
        Box::pin(async move {
            sleep(ms(1)).await;
            let stored = LEDGER.with_borrow(|ledger| ledger.replies.get(key.as_str()).cloned());
            Ok(stored.map_or(Ok(KeyClaim::Run), |stored| StoredReply::from_bytes(&stored).map(KeyClaim::Reply))?)
        })
    }

    fn complete<'a>(&'a self, key: &'a IdempotencyKey, reply: &'a StoredReply) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            sleep(ms(1)).await;
            LEDGER.with_borrow_mut(|ledger| {
                ledger.replies.entry(key.to_string()).or_insert_with(|| reply.to_bytes());
            });
            Ok(())
        })
    }
}

fn server() -> Server {
    let server = Server::new().method::<pay>().limits(|limits| limits.drain = Duration::from_secs(3));
    match LEDGER.with_borrow(|ledger| ledger.kept) {
        Some(Kept::SharedStore) => server.key_store(LedgerStore),
        _ => server,
    }
}

/// How a call ended.
struct Ended {
    id: u64,
    /// `None` if nobody waited for its end.
    result: Option<Result<u64, byname::Error>>,
}

/// What came of the calls of some seeds.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    calls: u64,
    answered: u64,
    failed: u64,
    dropped: u64,
    /// Calls with other arguments that were refused.
    refused: u64,
    done: u64,
}

async fn call_some_time(sim: Simulation, client: Client, id: u64, began: Instant, may_differ: bool) -> Outcome<Ended> {
    let takes = if id.is_multiple_of(2) { 0 } else { (id * 37) % 300 };
    let timeout = ms(sim.random(50..4000));
    let (at, is_dropped) = (ms(sim.random(0..FAILING.as_millis() as u64)), sim.chance(0.05));
    let (gives_up, differs) = (ms(sim.random(1..500)), may_differ && sim.chance(0.02));
    sleep_until(began + at).await;
    let takes = if differs { 1000 } else { takes };
    let call = pay::on(&client, id, takes).idempotency_key(&format!("key-{id}")).timeout(timeout);
    let result = match is_dropped {
        true => tokio::time::timeout(gives_up, call).await.ok(),
        false => Some(call.await),
    };
    Ok(Ended { id, result })
}

async fn fail_servers(sim: Simulation, replicas: &'static [&'static str], began: Instant, may_kill: bool) {
    while began.elapsed() < FAILING {
        sleep(ms(sim.random(10..700))).await;
        let replica = replicas[sim.random(0..replicas.len() as u64) as usize];
        let lasts = ms(sim.random(1..2000));
        let fault = sim.random(if may_kill { 0..8 } else { 4..8 });
        let sim = sim.clone();
        simulation::spawn(async move {
            match fault {
                0..=2 => {
                    sim.crash(replica);
                    sleep(lasts).await;
                    sim.restart(replica);
                }
                3 => sim.restart(replica),
                4 => {
                    sim.partition(CALLER, replica);
                    sleep(lasts).await;
                    sim.heal(CALLER, replica);
                }
                5 => {
                    let (from, to) = if sim.chance(0.5) { (CALLER, replica) } else { (replica, CALLER) };
                    sim.partition_one_way(from, to);
                    sleep(lasts).await;
                    sim.heal(from, to);
                }
                6 => {
                    sim.slow(replica, Latency::lognormal(ms(sim.random(10..300)), 1.0));
                    sleep(lasts).await;
                    sim.slow(replica, Latency::ZERO);
                }
                _ => sim.drop_connections(CALLER, replica),
            }
        });
    }
}

async fn keyed(sim: Simulation, kept: Kept) -> Outcome<Tally> {
    LEDGER.set(Ledger { kept: Some(kept), ..Ledger::default() });
    let replicas: &'static [&'static str] = match kept {
        Kept::OneServer => &["bank-1"],
        Kept::KilledServers | Kept::SharedStore => &["bank-1", "bank-2", "bank-3"],
    };
    for replica in replicas {
        sim.machine(replica, server);
    }
    sim.name("bank", replicas.iter().copied());
    let client = |transport| Client::builder("bank:80").transport(transport).build();
    let clients = [client(Transport::Frames)?, client(Transport::Http)?];
    let began = Instant::now();
    let duplicates = if kept == Kept::KilledServers { 1 } else { 3 };
    let failing = simulation::spawn(fail_servers(sim.clone(), replicas, began, kept != Kept::OneServer));
    let calls: Vec<_> = (1..=KEYS)
        .flat_map(|id| std::iter::repeat_n(id, duplicates))
        .map(|id| {
            let client = clients[sim.random(0..2) as usize].clone();
            simulation::spawn(call_some_time(sim.clone(), client, id, began, duplicates > 1))
        })
        .collect();
    let mut ended = Vec::new();
    for call in join_all(calls).await {
        ended.push(call??);
    }
    failing.await?;
    // Functions end, and faults too.
    sleep(Duration::from_secs(10)).await;
    let mut tally = Tally::default();
    LEDGER.with_borrow(|ledger| {
        for (id, done) in &ledger.done {
            tally.done += 1;
            if *done > 1 {
                return Err(format!("the call with key {id} ran {done} times"));
            }
        }
        let mut outcomes: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for Ended { id, result } in &ended {
            tally.calls += 1;
            let begun = ledger.begun.get(id).copied().unwrap_or_default();
            match result {
                None => tally.dropped += 1,
                Some(Ok(answer)) if ledger.done.contains_key(id) && *answer == id * 7 => tally.answered += 1,
                Some(Ok(answer)) => return Err(format!("the call with key {id} got {answer}, and never ran")),
                Some(Err(error)) => {
                    tally.failed += 1;
                    tally.refused += u64::from(error.code() == Code::InvalidArgument);
                    if error.executed() == Executed::Yes && begun == 0 {
                        return Err(format!("the call with key {id} never ran, and its error says so: {error}"));
                    }
                }
            }
            outcomes.entry(*id).or_default().push(result);
        }
        // The word of one call may be about itself alone, so all calls of a key have to say that they did not run.
        for (id, results) in outcomes {
            let says_not_run = |result: &&Option<Result<u64, byname::Error>>| {
                matches!(result, Some(Err(error)) if error.executed() == Executed::No)
            };
            if ledger.begun.contains_key(&id) && results.iter().all(says_not_run) {
                return Err(format!("the call with key {id} ran, and its errors say that it did not: {results:?}"));
            }
        }
        Ok(())
    })?;
    Ok(tally)
}

fn seeds(kept: Kept, seeds: impl Iterator<Item = u64>) -> Tally {
    let mut all = Tally::default();
    let sum = RefCell::new(&mut all);
    simulation::check(seeds, |sim| async {
        let tally = keyed(sim, kept).await?;
        let sum = &mut **sum.borrow_mut();
        sum.calls += tally.calls;
        sum.answered += tally.answered;
        sum.failed += tally.failed;
        sum.dropped += tally.dropped;
        sum.refused += tally.refused;
        sum.done += tally.done;
        Ok(())
    });
    println!("{kept:?}: {all:?}");
    all
}

#[test]
fn a_key_runs_once_at_a_server_that_callers_lose() {
    let tally = seeds(Kept::OneServer, 0..30);
    assert!(tally.done > 2500 && tally.answered > 2 * tally.done && tally.refused > 0, "{tally:?}");
}

#[test]
fn a_key_runs_once_at_servers_that_are_killed() {
    let tally = seeds(Kept::KilledServers, 0..60);
    assert!(tally.done > 4000 && tally.answered > 4000, "{tally:?}");
}

#[test]
fn a_key_runs_once_at_servers_with_one_store() {
    let tally = seeds(Kept::SharedStore, 0..30);
    assert!(tally.done > 2500 && tally.answered > 2 * tally.done && tally.refused > 0, "{tally:?}");
}

#[test]
#[ignore = "it takes a minute with optimization"]
fn hundred_thousand_keyed_calls() {
    let kinds = [(Kept::OneServer, 120), (Kept::KilledServers, 300), (Kept::SharedStore, 120)];
    let calls: u64 = kinds.into_iter().map(|(kept, count)| seeds(kept, 1000..1000 + count).calls).sum();
    assert!(calls >= 100_000, "{calls}");
}
