//! Makes the calls: an open loop by a plan, and a closed loop that measures the capacity.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

use crate::arrivals::Planned;
use crate::calls::{Call, Calls, Ended};
use crate::peers::{Caller, NoAnswer};

/// Calls that the loader would make later than this are not made. If they were, all calls would be late, and the latencies
/// would be the loader's.
const TOO_LATE: Duration = Duration::from_millis(10);

/// How many calls the loader makes at most before it looks for answers.
const AT_ONCE: usize = 16;

/// Makes the calls of the plan, and waits for their ends. Times count from `start`, and there is a task for each call.
///
/// The loader waits without sleeping: the CPU is its own, and a sleep would be a millisecond too long.
pub async fn open_loop(
    callers: &[Arc<dyn Caller>],
    plan: &[Planned],
    deadline: Duration,
    start: Instant,
) -> Result<Calls> {
    let results = Arc::new(Results::with_room(plan.len()));
    let running = TaskTracker::new();
    let mut made = 0;
    for (number, planned) in plan.iter().enumerate() {
        let intended = start + planned.at;
        let mut now = Instant::now();
        while now < intended || made == AT_ONCE {
            yield_now().await;
            (now, made) = (Instant::now(), 0);
        }
        made += 1;
        let send_delay = now - intended;
        let call = Call { at: planned.at, caller: planned.caller, send_delay, took: send_delay, ended: Ended::Unsent };
        if send_delay > TOO_LATE {
            results.calls().push(call);
            continue;
        }
        let (caller, results) = (Arc::clone(&callers[planned.caller]), Arc::clone(&results));
        running.spawn(async move {
            let left = (intended + deadline).saturating_duration_since(Instant::now());
            if left.is_zero() {
                results.calls().push(call);
                return;
            }
            let answer = caller.call(number as u64, left);
            let ended = match timeout_at(intended + deadline, answer).await {
                Ok(answer) => results.ended(number as u64, answer),
                Err(_) => Ended::Late,
            };
            let took = intended.elapsed();
            let ended = if ended == Ended::Good && took > deadline { Ended::Late } else { ended };
            results.calls().push(Call { took, ended, ..call });
        });
    }
    running.close();
    running.wait().await;
    if let Some(failure) = results.first_failure.lock().expect("no task panics").take() {
        eprintln!("  a failure: {failure}");
    }
    let calls = std::mem::take(&mut *results.calls());
    if calls.len() != plan.len() {
        bail!("{} calls were planned, and {} ended", plan.len(), calls.len());
    }
    Ok(Calls(calls))
}

struct Results {
    calls: Mutex<Vec<Call>>,
    first_failure: Mutex<Option<String>>,
}

impl Results {
    fn with_room(count: usize) -> Self {
        Self { calls: Mutex::new(Vec::with_capacity(count)), first_failure: Mutex::default() }
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().expect("no task panics")
    }

    fn ended(&self, number: u64, answer: Result<u64, NoAnswer>) -> Ended {
        let failure = match answer {
            Ok(answer) if answer == number => return Ended::Good,
            Err(NoAnswer::Late) => return Ended::Late,
            Err(NoAnswer::Refused) => return Ended::Refused,
            Err(NoAnswer::HeldBack) => return Ended::HeldBack,
            Ok(answer) => format!("call {number} was answered {answer}"),
            Err(NoAnswer::Failed(why)) => why,
        };
        self.first_failure.lock().expect("no task panics").get_or_insert(failure);
        Ended::Failed
    }
}

/// The answers of a closed loop.
#[derive(Clone, Default)]
pub struct Answers(Arc<AtomicU64>);

impl Answers {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps this number of calls in flight until `end`, and counts the answers.
pub async fn closed_loop(caller: &Arc<dyn Caller>, in_flight: usize, end: Instant, answers: &Answers) -> Result<()> {
    /// So much time that no call is late.
    const DEADLINE: Duration = Duration::from_secs(10);
    let over = Arc::new(AtomicBool::new(false));
    let mut slots = JoinSet::new();
    for slot in 0..in_flight as u64 {
        let (caller, over, answers) = (Arc::clone(caller), Arc::clone(&over), answers.clone());
        slots.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                match caller.call(slot, DEADLINE).await {
                    Ok(answer) if answer == slot => drop(answers.0.fetch_add(1, Ordering::Relaxed)),
                    Ok(answer) => bail!("call {slot} was answered {answer}"),
                    // A fixed limit may be smaller than the number of slots.
                    Err(NoAnswer::Refused | NoAnswer::HeldBack) => sleep(Duration::from_millis(1)).await,
                    Err(NoAnswer::Late) => bail!("a call took longer than {DEADLINE:?}"),
                    Err(NoAnswer::Failed(why)) => bail!("a call failed: {why}"),
                }
            }
            Ok(())
        });
    }
    sleep_until(end).await;
    over.store(true, Ordering::Relaxed);
    while let Some(slot) = slots.join_next().await {
        slot??;
    }
    Ok(())
}
