//! byname by frames with another rule of admission in place of its own: the rule moves `Limits::in_flight`.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use byname::{Context, Server, ServerHandle, rpc};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::byname::{LEFT, is_by_frames};
use crate::function::Work;
use crate::limit_rules::LimitRule;

/// How often the rule is asked for its limit.
const EVERY: Duration = Duration::from_millis(1);

/// The calls in flight are counted by the time that they take, in windows of this length.
const WINDOW: u64 = 100_000_000;

struct RuledJobs {
    work: Arc<Work>,
    ruled: Arc<Ruled>,
}

#[rpc]
impl RuledJobs {
    async fn work(&self, number: u64) -> u64 {
        let _ends = self.ruled.starts();
        self.work.run(number).await
    }
}

pub async fn serve(listener: TcpListener, work: Arc<Work>, rule: Box<dyn LimitRule>) -> Result<()> {
    let began = Instant::now();
    let ruled = Arc::new(Ruled { began, state: Mutex::new(RuleState { rule, window: 0, taken: 0, in_flight: 0 }) });
    let jobs = RuledJobs { work, ruled: Arc::clone(&ruled) };
    let limit = ruled.lock().rule.limit(0);
    let bound = Server::new()
        .inject(jobs)
        .method::<is_by_frames>()
        .limits(|limits| (limits.in_flight, limits.queue_delay) = (limit, Duration::MAX))
        .serve(listener)
        .bind()
        .await?;
    let handle = bound.handle();
    tokio::spawn(send_probes(Arc::clone(&ruled)));
    // A thread of its own, because the threads of the runtime are late.
    thread::spawn(move || move_limit(&ruled, &handle));
    Ok(bound.await?)
}

fn move_limit(ruled: &Ruled, handle: &ServerHandle) {
    let mut set = handle.limits().in_flight;
    loop {
        thread::sleep(EVERY);
        let limit = ruled.lock().rule.limit(ruled.now());
        if limit != set {
            handle.change_limits(|limits| limits.in_flight = limit).expect("this limit can be moved");
            set = limit;
        }
    }
}

async fn send_probes(ruled: Arc<Ruled>) {
    loop {
        let sent = ruled.now();
        if ruled.lock().rule.wants_probe(sent) {
            go_through_the_queue().await;
            let returned = ruled.now();
            ruled.lock().rule.probed(returned, returned - sent);
        } else {
            sleep(EVERY).await;
        }
    }
}

/// A task that wakes itself goes to the end of the queue. `yield_now` would wait until the driver is polled.
async fn go_through_the_queue() {
    let mut is_polled = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Ruled {
    began: Instant,
    state: Mutex<RuleState>,
}

struct RuleState {
    rule: Box<dyn LimitRule>,
    /// When the window began, what its calls have taken, and the mean of the calls in flight in the window before.
    window: u64,
    taken: u64,
    in_flight: usize,
}

impl Ruled {
    /// A call gets its first poll.
    fn starts(&self) -> RuledCall<'_> {
        let now = self.now();
        let waited = arrived().map_or(0, |arrived| nanos(arrived.elapsed()));
        self.lock().rule.started(now, waited);
        RuledCall { ruled: self, arrived: now.saturating_sub(waited) }
    }

    fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, RuleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the message of the call was whole. The server counts the deadline from there.
fn arrived() -> Option<Instant> {
    let context = Context::current()?;
    let left = context.header(LEFT)?.parse().ok()?;
    context.deadline().checked_sub(Duration::from_micros(left))
}

struct RuledCall<'r> {
    ruled: &'r Ruled,
    arrived: u64,
}

impl Drop for RuledCall<'_> {
    fn drop(&mut self) {
        let now = self.ruled.now();
        let took = now - self.arrived;
        self.ruled.lock().ended(now, took);
    }
}

impl RuleState {
    fn ended(&mut self, now: u64, took: u64) {
        self.taken += took;
        let length = now - self.window;
        if length >= WINDOW {
            // By Little's law.
            self.in_flight = self.taken.div_ceil(length) as usize;
            (self.window, self.taken) = (now, 0);
        }
        self.rule.ended(now, took, self.in_flight);
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit_rules::Fixed;

    #[test]
    fn the_calls_in_flight_are_counted_by_their_time() {
        let mut state = RuleState { rule: Box::new(Fixed(1)), window: 0, taken: 0, in_flight: 0 };
        for ended in 1..=20 {
            state.ended(ended * WINDOW / 20, WINDOW / 4);
        }
        assert_eq!(state.in_flight, 5);
    }
}
