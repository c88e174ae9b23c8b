//! The simulation: what it does to machines and connections, and that a seed is always the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use byname::simulation::{self, CALLER, Latency, Simulation, SimulationRun};
use byname::{CallError, Client, Code, Error, Executed, Server, Transport, rpc};
use tokio::time::{Instant, sleep};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[rpc(readonly)]
async fn double(n: i64) -> i64 {
    2 * n
}

/// Not idempotent.
#[rpc]
async fn add_one(n: i64) -> i64 {
    sleep(ms(20)).await;
    n + 1
}

/// The machine that answered.
fn whoami(name: &'static str) -> Server {
    Server::new().method::<double>().method::<add_one>().function("whoami", move || async move { name })
}

/// The error of a call.
fn failure<T: std::fmt::Debug, E>(result: Result<T, CallError<E>>) -> Error
where
    CallError<E>: std::error::Error,
{
    match result.expect_err("it fails") {
        CallError::Rpc(error) => error,
        other => panic!("{other}"),
    }
}

/// Runs one seed, which succeeds.
fn passes<F>(scenario: impl FnOnce(Simulation) -> F) -> SimulationRun
where
    F: Future<Output = Result<(), Box<dyn std::error::Error>>>,
{
    let run = simulation::run(1, scenario);
    if let Err(why) = &run.result {
        panic!("{why}\n{}", run.trace);
    }
    run
}

#[test]
fn a_call_goes_end_to_end_in_virtual_time() {
    let run = passes(|sim| async move {
        sim.latency(Latency::constant(ms(100)));
        sim.machine("one", || whoami("one"));
        let client = Client::new("one:80")?;
        let began = Instant::now();
        assert_eq!(double::on(&client, 21).await?, 42);
        // There and back to connect, there and back to call.
        assert_eq!(began.elapsed(), ms(400));
        Ok(())
    });
    assert_eq!(run.time, ms(400), "{}", run.trace);
}
