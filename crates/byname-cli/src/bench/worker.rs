//! What sends the load: each worker is a thread with a runtime and connections of its own. So a call takes no lock of the
//! load generator, and wakes no other thread. [`start`].

use std::cell::{Cell, RefCell};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{io, thread};

use byname::{CallError, Client};
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{MissedTickBehavior, interval};

use super::BenchTarget;
use super::plan::{Load, Plan};
use super::recorder::{CallTimes, Recorder, TICK, Ticked, Window};
use super::report::ConnectionCounts;
use super::schedule::{Schedule, SendTimes, Step};

/// What all workers share.
pub(super) struct SharedLoad {
    pub(super) target: Arc<BenchTarget>,
    pub(super) plan: Plan,
    pub(super) window: Window,
    /// The calls of the window that are still to be sent, if their number is given.
    budget: Option<AtomicU64>,
    /// Workers wait for their calls no longer.
    has_given_up: watch::Sender<bool>,
}

/// What a worker says.
#[derive(Debug)]
pub(super) enum Said {
    /// It has its clients, and waits for the start.
    Ready,
    Measured(Box<Ticked>),
    /// It has ended.
    Ended {
        /// The calls that were due and not sent.
        unsent: u64,
        /// The calls that were in flight, and were not waited for.
        given_up: u64,
        connections: ConnectionCounts,
    },
    /// It can't send load.
    Failed(String),
}

impl SharedLoad {
    pub(super) fn new(target: Arc<BenchTarget>, plan: Plan) -> Self {
        let budget = plan.call_budget().map(AtomicU64::new);
        Self { target, window: plan.window(), plan, budget, has_given_up: watch::Sender::new(false) }
    }

    /// Workers end without waiting for the calls in flight.
    pub(super) fn give_up(&self) {
        self.has_given_up.send_replace(true);
    }

    async fn given_up(&self) {
        // The sender lives as long as this.
        let _ = self.has_given_up.subscribe().wait_for(|has_given_up| *has_given_up).await;
    }

    /// Whether another call may be sent that is intended for this time.
    fn takes_another(&self, intended: Duration) -> bool {
        intended < self.window.until()
            && (intended < self.window.from()
                || self
                    .budget
                    .as_ref()
                    .is_none_or(|budget| budget.fetch_update(Relaxed, Relaxed, |calls| calls.checked_sub(1)).is_ok()))
    }
}

/// Starts the worker of this number. It begins when it gets the moment from which all times are counted.
///
/// # Errors
///
/// The system starts no further thread.
pub(super) fn start(
    worker: usize,
    load: Arc<SharedLoad>,
    begin: oneshot::Receiver<Instant>,
    said: UnboundedSender<Said>,
) -> io::Result<()> {
    thread::Builder::new().name(format!("bench-{worker}")).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(why) => {
                let _ = said.send(Said::Failed(format!("a worker has no runtime: {why}")));
                return;
            }
        };
        LocalSet::new().block_on(&runtime, async {
            // The receiver is gone if the command was ended.
            if let Err(why) = run(worker, load, begin, &said).await {
                let _ = said.send(Said::Failed(why));
            }
        });
    })?;
    Ok(())
}

async fn run(
    number: usize,
    load: Arc<SharedLoad>,
    begin: oneshot::Receiver<Instant>,
    said: &UnboundedSender<Said>,
) -> Result<(), String> {
    let clients = load.target.clients(&load.plan, number)?;
    let _ = said.send(Said::Ready);
    let Ok(epoch) = begin.await else { return Ok(()) };
    let worker = Rc::new(Worker {
        clients,
        epoch,
        recorder: RefCell::new(Recorder::new(load.plan.has_schedule())),
        said: said.clone(),
        in_flight: Cell::new(0),
        sent: Cell::new(0),
        unsent: Cell::new(0),
        wants_answer: Cell::new(false),
        wake: Arc::new(Notify::new()),
        load,
    });
    let reporting = spawn_local(Rc::clone(&worker).report_each_tick());
    tokio::select! {
        sent = worker.send_load(number) => sent?,
        () = worker.load.given_up() => {}
    }
    let given_up = worker.in_flight.get() as u64;
    reporting.abort();
    let rest = worker.recorder.borrow_mut().take_rest();
    worker.hand_over(rest);
    let connections = worker.connections().await;
    let _ = said.send(Said::Ended { unsent: worker.unsent.get(), given_up, connections });
    Ok(())
}

struct Worker {
    load: Arc<SharedLoad>,
    /// Calls use them in turn.
    clients: Vec<Client>,
    epoch: Instant,
    recorder: RefCell<Recorder>,
    said: UnboundedSender<Said>,
    in_flight: Cell<usize>,
    sent: Cell<usize>,
    /// The calls that were due and not sent.
    unsent: Cell<u64>,
    /// The open loop waits for the end of a call.
    wants_answer: Cell<bool>,
    wake: Arc<Notify>,
}

impl Worker {
    async fn send_load(self: &Rc<Self>, number: usize) -> Result<(), String> {
        match self.load.plan.load {
            Load::Closed { .. } => {
                self.closed_loop(number).await;
                Ok(())
            }
            Load::Open { rate, .. } => self.open_loop(number, rate).await,
        }
    }

    async fn closed_loop(self: &Rc<Self>, number: usize) {
        let slots = (0..self.load.plan.in_flight_of(number)).map(|slot| {
            let worker = Rc::clone(self);
            spawn_local(async move {
                let client = &worker.clients[slot % worker.clients.len()];
                loop {
                    let sent = worker.now();
                    if !worker.load.takes_another(sent) {
                        break;
                    }
                    worker.in_flight.set(worker.in_flight.get() + 1);
                    let result = worker.load.target.call(client).await;
                    worker.record(sent, sent, false, &result);
                    worker.in_flight.set(worker.in_flight.get() - 1);
                    if result.is_err() {
                        // A call that fails at once has not waited, so the others have had no turn.
                        yield_now().await;
                    }
                }
            })
        });
        for slot in slots.collect::<Vec<_>>() {
            // A panic is shown by its thread, and the calls of the others count.
            let _ = slot.await;
        }
    }

    async fn open_loop(self: &Rc<Self>, number: usize, rate: f64) -> Result<(), String> {
        let Self { load, wake, epoch, .. } = &**self;
        let times = SendTimes::new(rate, number, load.plan.workers);
        let mut schedule = Schedule::new(times, load.plan.in_flight_of(number));
        let pacer = (Arc::clone(load), Arc::clone(wake), *epoch);
        thread::Builder::new()
            .name(format!("bench-pacer-{number}"))
            .spawn(move || pace(&pacer.0.window, times, pacer.2, &pacer.1))
            .map_err(|why| format!("a worker has no thread for its schedule: {why}"))?;
        loop {
            match schedule.step(self.now(), load.window.until(), self.in_flight.get()) {
                Step::Send { intended, had_no_room } => {
                    self.send(intended, had_no_room);
                    // Others get the thread also if the worker is always late.
                    if self.sent.get().is_multiple_of(32) {
                        yield_now().await;
                    }
                }
                Step::WaitUntil(_) => wake.notified().await,
                Step::WaitForAnswer => self.answer_or_wake().await,
                Step::Over { unsent } => {
                    self.unsent.set(unsent);
                    break;
                }
            }
        }
        while self.in_flight.get() > 0 {
            self.answer_or_wake().await;
        }
        Ok(())
    }

    fn send(self: &Rc<Self>, intended: Duration, had_no_room: bool) {
        self.in_flight.set(self.in_flight.get() + 1);
        let nth = self.sent.replace(self.sent.get().wrapping_add(1));
        let worker = Rc::clone(self);
        spawn_local(async move {
            let sent = worker.now();
            let result = worker.load.target.call(&worker.clients[nth % worker.clients.len()]).await;
            worker.record(intended, sent, had_no_room, &result);
            worker.in_flight.set(worker.in_flight.get() - 1);
            if worker.wants_answer.get() {
                worker.wake.notify_one();
            }
        });
    }

    async fn answer_or_wake(&self) {
        self.wants_answer.set(true);
        self.wake.notified().await;
        self.wants_answer.set(false);
    }

    fn record(
        &self,
        intended: Duration,
        sent: Duration,
        had_no_room: bool,
        result: &Result<IgnoredAny, CallError<Value>>,
    ) {
        let call = CallTimes { intended, sent, ended: self.now(), had_no_room };
        let earlier = self.recorder.borrow_mut().record(&self.load.window, call, result);
        self.hand_over(earlier);
    }

    /// Without it, calls that take long would keep what was measured before them.
    async fn report_each_tick(self: Rc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let earlier = self.recorder.borrow_mut().take_before(&self.load.window, self.now());
            self.hand_over(earlier);
        }
    }

    fn hand_over(&self, ticked: Option<Ticked>) {
        if let Some(ticked) = ticked {
            let _ = self.said.send(Said::Measured(Box::new(ticked)));
        }
    }

    async fn connections(&self) -> ConnectionCounts {
        let mut counts = ConnectionCounts::default();
        for client in &self.clients {
            if let Some(service) = client.explain(&self.load.target.name).await.service {
                // Those that looked for further servers behind an address are closed again.
                counts.frames += service.replicas.iter().filter(|replica| replica.is_by_frames).count() as u64;
                counts.http += service.connections.http_opened;
            }
        }
        counts
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// Wakes a worker at its intended times. It is a thread because tokio's timers are exact to a millisecond only.
fn pace(window: &Window, times: SendTimes, epoch: Instant, wake: &Notify) {
    /// The window may be closed at any time.
    const LONGEST: Duration = Duration::from_millis(50);
    sleep_exactly();
    let mut woken_at = Duration::ZERO;
    loop {
        // Counted from the last wake-up: a time that passes meanwhile is not left out.
        let next = times.next_after(woken_at);
        let mut now = epoch.elapsed();
        while now < next && now < window.until() {
            thread::sleep((next.min(window.until()) - now).min(LONGEST));
            now = epoch.elapsed();
        }
        woken_at = now;
        wake.notify_one();
        if now >= window.until() {
            return;
        }
    }
}

/// Without it, Linux lets a thread sleep up to 50 µs longer than it asks for.
#[cfg(target_os = "linux")]
fn sleep_exactly() {
    // If it is refused, the report shows that calls are sent later.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

#[cfg(not(target_os = "linux"))]
fn sleep_exactly() {}
