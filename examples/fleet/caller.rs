//! The caller: it looks at orders, which may be repeated, and places some, which may not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use byname::{Client, Error, Executed};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::REPLICAS;
use crate::replica::Orders;

/// Calls at once, and how often each of them calls.
const TASKS: u64 = 64;
const EVERY: Duration = Duration::from_millis(20);

/// What came of the calls.
#[derive(Default)]
pub struct Calls {
    pub looks: Outcomes,
    pub places: Outcomes,
    /// Orders that were placed, as the caller was told.
    pub placed: Vec<u64>,
    /// Orders of which the caller was told that they were not placed.
    pub not_placed: Vec<u64>,
}

#[derive(Default)]
pub struct Outcomes {
    pub succeeded: u64,
    pub did_not_run: u64,
    pub may_have_run: u64,
    /// The last failure, for a person.
    pub last_failure: Option<String>,
}

/// What is drawn while calls are made.
#[derive(Default)]
pub struct Meter {
    /// Answers since the last look, by replica.
    answers: [AtomicU64; REPLICAS],
    latencies: Mutex<Vec<Duration>>,
    failed: AtomicU64,
    /// Since the beginning.
    failed_in_all: AtomicU64,
}

pub struct Caller {
    pub meter: Arc<Meter>,
    ends: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Calls>>,
}

impl Caller {
    pub fn start(client: &Client) -> Self {
        let (meter, ends) = (Arc::<Meter>::default(), Arc::<AtomicBool>::default());
        let call = |task| tokio::spawn(calls(client.clone(), task, Arc::clone(&meter), Arc::clone(&ends)));
        let tasks = (0..TASKS).map(call).collect();
        Self { meter, ends, tasks }
    }

    /// Waits for the calls in flight.
    pub async fn end(self) -> Calls {
        self.ends.store(true, Ordering::Relaxed);
        let mut all = Calls::default();
        for task in self.tasks {
            let calls = task.await.expect("a caller does not panic");
            all.looks.add(calls.looks);
            all.places.add(calls.places);
            all.placed.extend(calls.placed);
            all.not_placed.extend(calls.not_placed);
        }
        all
    }
}

async fn calls(client: Client, task: u64, meter: Arc<Meter>, ends: Arc<AtomicBool>) -> Calls {
    let orders = Orders::on(&client);
    let mut calls = Calls::default();
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut order = task;
    while !ends.load(Ordering::Relaxed) {
        every.tick().await;
        order += TASKS;
        let began = Instant::now();
        // Every fourth call places an order.
        let answered = if (order / TASKS).is_multiple_of(4) {
            let placed = orders.place(order).await;
            match &placed {
                Ok(_) => calls.placed.push(order),
                Err(error) if error.executed() == Executed::No => calls.not_placed.push(order),
                Err(_) => {}
            }
            calls.places.note(placed)
        } else {
            calls.looks.note(orders.look(order).await.map(|(replica, _)| replica))
        };
        meter.note(answered, began.elapsed());
    }
    calls
}

impl Outcomes {
    /// Which replica answered, if one did.
    fn note(&mut self, answered: Result<u8, Error>) -> Option<u8> {
        match answered {
            Ok(replica) => {
                self.succeeded += 1;
                return Some(replica);
            }
            Err(error) => {
                if error.executed() == Executed::No {
                    self.did_not_run += 1;
                } else {
                    self.may_have_run += 1;
                }
                self.last_failure = Some(error.to_string());
            }
        }
        None
    }

    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.did_not_run += other.did_not_run;
        self.may_have_run += other.may_have_run;
        self.last_failure = other.last_failure.or(self.last_failure.take());
    }

    pub fn all(&self) -> u64 {
        self.succeeded + self.did_not_run + self.may_have_run
    }
}

/// What was seen since the last look.
pub struct Reading {
    pub answers: [u64; REPLICAS],
    pub failed: u64,
    pub median: Duration,
    pub slowest: Duration,
}

impl Meter {
    fn note(&self, answered: Option<u8>, took: Duration) {
        match answered.and_then(|replica| self.answers.get(usize::from(replica))) {
            Some(answers) => answers.fetch_add(1, Ordering::Relaxed),
            None => {
                self.failed_in_all.fetch_add(1, Ordering::Relaxed);
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        self.latencies.lock().expect("nobody panics with it").push(took);
    }

    /// How many calls have failed since the beginning.
    pub fn failed_in_all(&self) -> u64 {
        self.failed_in_all.load(Ordering::Relaxed)
    }

    pub fn read(&self) -> Reading {
        let mut latencies = std::mem::take(&mut *self.latencies.lock().expect("nobody panics with it"));
        latencies.sort_unstable();
        let answers = std::array::from_fn(|replica| self.answers[replica].swap(0, Ordering::Relaxed));
        let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
        let slowest = latencies.last().copied().unwrap_or_default();
        Reading { answers, failed: self.failed.swap(0, Ordering::Relaxed), median, slowest }
    }
}
