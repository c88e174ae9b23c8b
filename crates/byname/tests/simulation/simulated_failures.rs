//! Random failures of a fleet, in virtual time: replicas crash, restart, drain, stall, slow down and lose each other, while
//! they are called. A ledger counts what ran. The promises are checked for each call.
//!
//! `cargo test --release -p byname --features simulation --test simulation -- --ignored --nocapture ten_thousand_seeds`
//! runs a million calls. `BYNAME_SEED=17` runs one seed alone, and prints its events.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::AddAssign;
use std::thread;
use std::time::Duration;

use byname::simulation::{self, CALLER, Latency, Simulation};
use byname::{CallError, Client, Executed, Server, Transport, rpc};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const REPLICAS: [&str; 3] = ["orders-1", "orders-2", "orders-3"];

/// Calls of one seed that are made while replicas fail.
const CALLS: u64 = 100;

/// How long they fail.
const FAILING: Duration = Duration::from_secs(10);

/// How much later than its deadline a call may end.
const LATE: Duration = Duration::from_millis(100);

/// The factor of each answer, so that it is the answer of one call only.
const FACTOR: u64 = 1_000_003;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

thread_local! {
    /// How often the function of each call has begun.
    static LEDGER: RefCell<BTreeMap<u64, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// The function of a call begins.
async fn work(id: u64, takes: u64) {
    LEDGER.with_borrow_mut(|ledger| *ledger.entry(id).or_default() += 1);
    if takes > 0 {
        sleep(ms(takes)).await;
    }
}

fn runs(id: u64) -> u32 {
    LEDGER.with_borrow(|ledger| ledger.get(&id).copied().unwrap_or_default())
}

#[rpc]
async fn charge(id: u64, takes: u64) -> u64 {
    work(id, takes).await;
    id * FACTOR
}

#[rpc(idempotent)]
async fn put(id: u64, takes: u64) -> u64 {
    work(id, takes).await;
    id * FACTOR
}

#[rpc(readonly)]
async fn get(id: u64, takes: u64) -> u64 {
    work(id, takes).await;
    id * FACTOR
}

/// Long arguments and long answers come in pieces.
#[rpc]
async fn copy(id: u64, takes: u64, text: String) -> (u64, String) {
    work(id, takes).await;
    (id * FACTOR, text)
}

/// Its own error.
#[rpc]
async fn decline(id: u64, takes: u64) -> Result<u64, String> {
    work(id, takes).await;
    Err(format!("declined {id}"))
}

/// What came of the calls of some seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    calls: u64,
    answered: u64,
    not_run: u64,
    unknown: u64,
    dropped: u64,
    /// Functions that ran again, of idempotent calls.
    repeated: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.not_run += other.not_run;
        self.unknown += other.unknown;
        self.dropped += other.dropped;
        self.repeated += other.repeated;
    }
}

/// How one call ended.
enum Ended {
    Answered,
    /// It failed, and its error says whether the function ran.
    Failed(Executed, String),
    /// Nobody waited for its end.
    Dropped,
}

fn server() -> Server {
    Server::new()
        .method::<charge>()
        .method::<put>()
        .method::<get>()
        .method::<copy>()
        .method::<decline>()
        .limits(|limits| limits.drain = Duration::from_secs(3))
}

/// Calls one function, and checks its answer.
async fn call(client: &Client, kind: u64, id: u64, takes: u64, timeout: Duration, length: usize) -> Outcome<Ended> {
    let expected = id * FACTOR;
    let answer = match kind {
        0..=3 => charge::on(client, id, takes).timeout(timeout).await,
        4 => put::on(client, id, takes).timeout(timeout).await,
        5..=6 => get::on(client, id, takes).timeout(timeout).await,
        7 => client.call::<u64>("charge", (id, takes)).timeout(timeout).await.map_err(|error| match error {
            CallError::Rpc(error) => error,
            other => panic!("{other}"),
        }),
        8 => {
            let text = id.to_string().repeat(length);
            copy::on(client, id, takes, text.clone()).timeout(timeout).await.map(|(answer, copied)| {
                assert_eq!(copied, text, "the text of call {id}");
                answer
            })
        }
        _ => match decline::on(client, id, takes).timeout(timeout).await {
            Ok(answer) => return Err(format!("call {id} was not declined, but got {answer}").into()),
            Err(CallError::Method(why)) if why == format!("declined {id}") => return Ok(Ended::Answered),
            Err(CallError::Rpc(error)) => Err(error),
            Err(other) => return Err(format!("call {id} got another error: {other}").into()),
        },
    };
    match answer {
        Ok(answer) if answer == expected => Ok(Ended::Answered),
        Ok(answer) => Err(format!("call {id} got the answer {answer}, expected {expected}").into()),
        Err(error) => Ok(Ended::Failed(error.executed(), error.to_string())),
    }
}

/// Makes one call at some time, and checks when it ends.
async fn call_some_time(sim: Simulation, client: Client, id: u64, began: Instant) -> Outcome<(u64, u64, Ended)> {
    let kind = sim.random(0..10);
    let takes = if sim.chance(0.5) { 0 } else { sim.random(0..300) };
    let timeout = ms(sim.random(50..4000));
    let length = sim.random(1..20_000) as usize;
    let (at, is_dropped) = (ms(sim.random(0..FAILING.as_millis() as u64)), sim.chance(0.05));
    let gives_up = ms(sim.random(1..500));
    sleep_until(began + at).await;
    let called = Instant::now();
    let calling = call(&client, kind, id, takes, timeout, length);
    let ended = if is_dropped {
        match tokio::time::timeout(gives_up, calling).await {
            Ok(ended) => ended?,
            Err(_) => Ended::Dropped,
        }
    } else {
        calling.await?
    };
    let took = called.elapsed();
    if took > timeout + LATE {
        return Err(format!("call {id} ended after {took:?}, its time was {timeout:?}").into());
    }
    Ok((id, kind, ended))
}

/// Makes replicas fail.
async fn fail_replicas(sim: Simulation, began: Instant) -> Outcome {
    while began.elapsed() < FAILING {
        sleep(ms(sim.random(10..1500))).await;
        let replica = REPLICAS[sim.random(0..3) as usize];
        let lasts = ms(sim.random(1..2500));
        let fault = sim.random(0..10);
        let sim = sim.clone();
        simulation::spawn(async move {
            match fault {
                0 | 1 => {
                    sim.crash(replica);
                    sleep(lasts).await;
                    sim.restart(replica);
                }
                2 => sim.restart(replica),
                3 | 4 => {
                    // Its own errors, and a crash meanwhile, are no failure of the drain.
                    let _ = sim.drain(replica).await;
                    sim.restart(replica);
                }
                5 => {
                    sim.partition(CALLER, replica);
                    sleep(lasts).await;
                    sim.heal(CALLER, replica);
                }
                6 => {
                    let (from, to) = if sim.chance(0.5) { (CALLER, replica) } else { (replica, CALLER) };
                    sim.partition_one_way(from, to);
                    sleep(lasts).await;
                    sim.heal(from, to);
                }
                7 => {
                    sim.pause(replica);
                    sleep(lasts).await;
                    sim.resume(replica);
                }
                8 => {
                    sim.slow(replica, Latency::lognormal(ms(sim.random(10..300)), 1.0));
                    sleep(lasts).await;
                    sim.slow(replica, Latency::ZERO);
                }
                _ => sim.drop_connections(CALLER, replica),
            }
        });
    }
    Ok(())
}

/// One seed: calls while replicas fail, then calls that must succeed.
async fn fleet(sim: Simulation) -> Outcome<Tally> {
    LEDGER.take();
    for replica in REPLICAS {
        sim.machine(replica, server);
    }
    sim.name("orders", REPLICAS);
    let urls = ["orders:80", "orders-1:80,orders-2:80,orders-3:80", "orders-1:80"];
    let client = |transport| Client::builder(urls[sim.random(0..3) as usize]).transport(transport).build();
    let clients = [client(Transport::Frames)?, client(Transport::Http)?, client(Transport::Frames)?];
    let began = Instant::now();
    let failing = simulation::spawn(fail_replicas(sim.clone(), began));
    let calls: Vec<_> = (1..=CALLS)
        .map(|id| {
            let client = clients[sim.random(0..3) as usize].clone();
            simulation::spawn(call_some_time(sim.clone(), client, id, began))
        })
        .collect();
    let mut tally = Tally::default();
    let mut ended = Vec::new();
    for call in join_all(calls).await {
        ended.push(call??);
    }
    failing.await??;
    // Functions end, and faults too.
    sleep(Duration::from_secs(10)).await;
    for (id, kind, ended) in ended {
        let (runs, is_repeatable) = (runs(id), (4..=6).contains(&kind));
        tally.calls += 1;
        match ended {
            Ended::Answered => tally.answered += 1,
            Ended::Failed(Executed::No, _) => tally.not_run += 1,
            Ended::Failed(..) => tally.unknown += 1,
            Ended::Dropped => tally.dropped += 1,
        }
        let wrong = match &ended {
            Ended::Answered if runs == 0 => "it was answered, and never ran",
            Ended::Failed(Executed::No, _) if runs > 0 => "its error says that it did not run",
            Ended::Failed(Executed::Yes, _) if runs == 0 => "its error says that it ran",
            _ if runs > 1 && !is_repeatable => "it is not idempotent",
            _ if runs > 3 => "it has three attempts",
            _ => {
                tally.repeated += u64::from(runs.saturating_sub(1));
                continue;
            }
        };
        let why = if let Ended::Failed(_, why) = &ended { why } else { "" };
        return Err(format!("call {id} (kind {kind}) ran {runs} times, but {wrong}: {why}").into());
    }
    // Everything works again.
    sim.heal_all();
    for replica in REPLICAS {
        sim.resume(replica);
        sim.slow(replica, Latency::ZERO);
        sim.restart(replica);
    }
    sleep(Duration::from_secs(35)).await;
    for (client, id) in clients.iter().zip(CALLS + 1..) {
        let answer = get::on(client, id, 0).await?;
        assert_eq!(answer, id * FACTOR);
        let answer = charge::on(client, id, 0).await?;
        assert_eq!((answer, runs(id)), (id * FACTOR, 2));
        tally.calls += 2;
        tally.answered += 2;
    }
    Ok(tally)
}

/// Runs seeds, and adds up what came of their calls.
fn seeds(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut all = Tally::default();
    let sum = RefCell::new(&mut all);
    simulation::check(seeds, |sim| async {
        let tally = fleet(sim).await?;
        **sum.borrow_mut() += tally;
        Ok(())
    });
    all
}

#[test]
fn no_call_is_lost_repeated_or_late_while_replicas_fail() {
    let tally = seeds(0..200);
    println!("{tally:?}");
    assert!(tally.calls >= 200 * CALLS || std::env::var_os("BYNAME_SEED").is_some());
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..100 {
        let run = || simulation::run(seed, |sim| async { fleet(sim).await.map(drop) });
        let (one, two) = (run(), run());
        let differ = one.trace.lines().zip(two.trace.lines()).find(|(one, two)| one != two);
        assert!(one.trace == two.trace, "seed {seed}: {differ:?}");
        assert!(one.trace.lines().count() > 500, "{}", one.trace);
    }
}

#[test]
#[ignore = "it takes minutes, and `--release`"]
fn ten_thousand_seeds() {
    let began = std::time::Instant::now();
    let count = thread::available_parallelism().map_or(1, usize::from);
    let tally = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..count).map(|at| scope.spawn(move || seeds((at as u64..10_000).step_by(count)))).collect();
        let mut all = Tally::default();
        threads.into_iter().for_each(|thread| all += thread.join().unwrap());
        all
    });
    println!("10,000 seeds in {:.0?}: {tally:?}", began.elapsed());
    assert!(tally.calls >= 1_000_000);
}
