//! A server in virtual time, scheduled as tokio schedules byname's: worker threads poll tasks, and a task that is polled
//! keeps its thread.
//!
//! Each worker has a slot for the task that was woken last, and there is one queue for the others, first come first
//! served. Sockets and timers are looked at when a worker has nothing to do, and after every 61 polls. Until then a call that
//! has come is not noticed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use fastrand::Rng;

use crate::candidates::Admission;
use crate::round_shares::{ArrivedCall, LEVELS};

/// Nanoseconds.
pub type Time = u64;

pub const MICRO: Time = 1_000;
pub const MILLI: Time = 1_000_000;
pub const SECOND: Time = 1_000_000_000;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// It computes for so long.
    Computes(Time),
    /// It computes, waits for a database, and computes.
    Waits(Time, Time, Time),
    /// 90 % compute for 0.1 ms, 9 % wait for a database for 5 ms, 1 % compute for 50 ms.
    Mixed,
}

impl Function {
    fn plan(self, random: &mut Rng) -> Plan {
        match self {
            Self::Computes(first) => Plan { first, wait: 0, second: 0 },
            Self::Waits(first, wait, second) => Plan { first, wait, second },
            Self::Mixed => match random.u32(..100) {
                0 => Plan { first: 50 * MILLI, wait: 0, second: 0 },
                1..10 => Plan { first: 100 * MICRO, wait: 5 * MILLI, second: 100 * MICRO },
                _ => Plan { first: 100 * MICRO, wait: 0, second: 0 },
            },
        }
    }

    /// The time of a thread that a call takes on average.
    fn work(self) -> Time {
        match self {
            Self::Computes(first) => first,
            Self::Waits(first, _, second) => first + second,
            Self::Mixed => 90 * MICRO + 18 * MICRO + 500 * MICRO,
        }
    }

    /// The longest time that a poll keeps a thread.
    pub fn longest_poll(self) -> Time {
        match self {
            Self::Computes(first) => first,
            Self::Waits(first, ..) => first,
            Self::Mixed => 50 * MILLI,
        }
    }
}

/// How calls come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A task for each of eight connections reads frames, and gives each call a task of its own.
    Tasks,
    /// It polls each call in place.
    InPlace,
    /// Each call comes on a connection of its own, whose task reads it and runs it.
    Http,
}

/// Who makes the calls, and how important they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallMix {
    /// One caller, and one priority.
    Alike,
    /// Ten callers. The first makes this number of calls for each call of one of the others.
    OneBusy(u32),
    /// Calls of four priorities, equally many.
    Priorities,
}

impl CallMix {
    fn call(self, random: &mut Rng) -> ArrivedCall {
        match self {
            Self::Alike => ArrivedCall { level: 2, caller: 0 },
            Self::OneBusy(times) => {
                let nth = u64::from(random.u32(..times + 9));
                ArrivedCall { level: 2, caller: (nth + 1).saturating_sub(times.into()) }
            }
            Self::Priorities => ArrivedCall { level: random.usize(..LEVELS), caller: 0 },
        }
    }
}

pub struct Scenario {
    pub way: Way,
    pub function: Function,
    pub threads: usize,
    pub deadline: Time,
    pub mix: CallMix,
    /// The load from a time on, as a share of what the server can serve.
    pub loads: Vec<(Time, f64)>,
    pub end: Time,
}

impl Scenario {
    /// The calls in a second that keep all workers busy.
    pub fn capacity(&self) -> f64 {
        let own = match self.way {
            Way::Tasks => READ + SPAWN + ANSWER,
            Way::InPlace => READ + ANSWER,
            Way::Http => HTTP_READ,
        };
        self.threads as f64 * SECOND as f64 / (self.function.work() + own) as f64
    }
}

/// What came of one call.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub came: Time,
    pub ended: Time,
    /// From its coming to its first poll.
    pub waited: Time,
    pub what: Ended,
    pub call: ArrivedCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Answered,
    Refused,
    /// Its deadline had passed before its first poll.
    Late,
}

const CONNECTIONS: usize = 8;
/// To read a call, or to read and refuse it.
const READ: Time = 1_500;
const SPAWN: Time = 1_000;
const ANSWER: Time = 1_000;
/// To read a request of HTTP and answer it, whatever the answer.
const HTTP_READ: Time = 5_000;
/// Polling a connection, besides its calls.
const POLL: Time = 1_500;
const PROBE: Time = 300;
/// The polls after which a worker looks at sockets and timers.
const EVENT_INTERVAL: u32 = 61;
/// The polls in a row that the slot of a worker gets.
const SLOT_POLLS: u32 = 3;
/// The calls in one poll of a connection, roughly: after that its budget is used up.
const BUDGET: u32 = 2_048;

#[derive(Clone, Copy)]
struct Plan {
    first: Time,
    wait: Time,
    second: Time,
}

struct Call {
    came: Time,
    read: Time,
    waited: Time,
    plan: Plan,
    connection: usize,
    stage: Stage,
    arrived: ArrivedCall,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unread,
    Unstarted,
    Waits,
}

#[derive(Clone, Copy)]
enum Task {
    Connection(usize),
    Call(u32),
    /// Its first poll sends it to the end of the queue.
    Probe(bool, Time),
}

#[derive(Default)]
struct Connection {
    socket: VecDeque<u32>,
    is_queued: bool,
    /// The driver has told that there is something to read.
    is_readable: bool,
}

#[derive(Default)]
struct Worker {
    slot: Option<Task>,
    slot_polls: u32,
    polls: u32,
    doing: Doing,
}

#[derive(Clone, Copy, Default)]
enum Doing {
    #[default]
    Nothing,
    /// It reads the calls of a connection. The number is how many it has read.
    Reading(usize, u32),
    /// It polls a call in place, among others of a connection.
    InPlace(usize, u32, u32),
    Polling(Task, Done),
}

#[derive(Clone, Copy)]
enum Done {
    Refused,
    Late,
    Waits,
    Answered,
    Probed,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Step(usize),
    Timer(u32),
}

pub struct Server<'s> {
    scenario: &'s Scenario,
    admission: Box<dyn Admission>,
    random: Rng,
    time: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    planned: u64,
    workers: Vec<Worker>,
    queue: VecDeque<Task>,
    /// What the driver has not told yet.
    unnoticed: VecDeque<Task>,
    connections: Vec<Connection>,
    calls: Vec<Call>,
    free: Vec<u32>,
    waiting: usize,
    in_flight: usize,
    outcomes: Vec<Outcome>,
}

pub fn run(scenario: &Scenario, admission: Box<dyn Admission>, seed: u64) -> Vec<Outcome> {
    let mut server = Server {
        scenario,
        admission,
        random: Rng::with_seed(seed),
        time: 0,
        events: BinaryHeap::new(),
        planned: 0,
        workers: (0..scenario.threads).map(|_| Worker::default()).collect(),
        queue: VecDeque::new(),
        unnoticed: VecDeque::new(),
        connections: (0..CONNECTIONS).map(|_| Connection::default()).collect(),
        calls: Vec::new(),
        free: Vec::new(),
        waiting: 0,
        in_flight: 0,
        outcomes: Vec::new(),
    };
    server.plan(0, Event::Arrival);
    while let Some(Reverse((at, _, event))) = server.events.pop() {
        if at > scenario.end {
            break;
        }
        server.time = at;
        match event {
            Event::Arrival => server.arrival(),
            Event::Step(worker) => server.step(worker),
            Event::Timer(call) => server.notice(Task::Call(call)),
        }
    }
    server.outcomes
}

impl Server<'_> {
    fn plan(&mut self, after: Time, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((self.time + after, self.planned, event)));
    }

    fn arrival(&mut self) {
        let load = self.scenario.loads.iter().rev().find(|(from, _)| *from <= self.time).map_or(0.0, |(_, load)| *load);
        let rate = (load * self.scenario.capacity()).max(1e-3);
        let next = -(1.0 - self.random.f64()).ln() / rate * SECOND as f64;
        self.plan(next as Time, Event::Arrival);
        let arrived = self.scenario.mix.call(&mut self.random);
        let connection = match self.scenario.mix {
            // A caller has connections of its own.
            CallMix::OneBusy(_) if arrived.caller == 0 => 0,
            CallMix::OneBusy(_) => self.random.usize(1..CONNECTIONS),
            CallMix::Alike | CallMix::Priorities => self.random.usize(..CONNECTIONS),
        };
        let plan = self.scenario.function.plan(&mut self.random);
        let call = Call { came: self.time, read: 0, waited: 0, plan, connection, stage: Stage::Unread, arrived };
        let id = match self.free.pop() {
            Some(id) => {
                self.calls[id as usize] = call;
                id
            }
            None => {
                self.calls.push(call);
                (self.calls.len() - 1) as u32
            }
        };
        if self.scenario.way == Way::Http {
            return self.notice(Task::Call(id));
        }
        let socket = &mut self.connections[connection].socket;
        socket.push_back(id);
        if socket.len() == 1 {
            self.notice(Task::Connection(connection));
        }
    }

    /// The driver has news. A worker that has nothing to do gets it at once.
    fn notice(&mut self, task: Task) {
        self.unnoticed.push_back(task);
        if let Some(idle) = self.idle() {
            self.start_next(idle);
        }
    }

    fn idle(&self) -> Option<usize> {
        self.workers.iter().position(|worker| matches!(worker.doing, Doing::Nothing))
    }

    fn look_at_driver(&mut self, at: usize) {
        while let Some(task) = self.unnoticed.pop_front() {
            if let Task::Connection(connection) = task {
                self.connections[connection].is_readable = true;
                if std::mem::replace(&mut self.connections[connection].is_queued, true) {
                    continue;
                }
            }
            if let Some(before) = self.workers[at].slot.replace(task) {
                self.queue.push_back(before);
            }
        }
    }

    /// A task is woken by one that `worker` polls.
    fn wake(&mut self, worker: usize, task: Task) {
        if let Some(before) = self.workers[worker].slot.replace(task) {
            self.push(before);
        }
    }

    fn push(&mut self, task: Task) {
        self.queue.push_back(task);
        if let Some(idle) = self.idle() {
            self.start_next(idle);
        }
    }

    fn start_next(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        worker.doing = Doing::Nothing;
        worker.polls += 1;
        let is_due = worker.polls.is_multiple_of(EVENT_INTERVAL);
        if is_due {
            self.look_at_driver(at);
        }
        let Some(task) = self.next_task(at) else { return };
        self.start(at, task);
        // What the driver has told may be enough for other workers.
        while !self.queue.is_empty()
            && let Some(idle) = self.idle()
        {
            self.start_next(idle);
        }
    }

    fn next_task(&mut self, at: usize) -> Option<Task> {
        let worker = &mut self.workers[at];
        if worker.slot_polls < SLOT_POLLS
            && let Some(task) = worker.slot.take()
        {
            worker.slot_polls += 1;
            return Some(task);
        }
        worker.slot_polls = 0;
        if let Some(task) = self.queue.pop_front() {
            return Some(task);
        }
        if let Some(task) = self.workers[at].slot.take() {
            return Some(task);
        }
        self.look_at_driver(at);
        self.workers[at].slot.take().or_else(|| self.queue.pop_front())
    }

    fn start(&mut self, at: usize, task: Task) {
        match task {
            Task::Connection(connection) => {
                self.connections[connection].is_queued = false;
                self.workers[at].doing = Doing::Reading(connection, 0);
                self.plan(POLL, Event::Step(at));
            }
            Task::Probe(..) => {
                self.workers[at].doing = Doing::Polling(task, Done::Probed);
                self.plan(PROBE, Event::Step(at));
            }
            Task::Call(id) => {
                // It is busy from here on, and no longer the one to wake.
                self.workers[at].doing = Doing::Polling(task, Done::Answered);
                let (done, cost) = self.poll_call(id);
                self.workers[at].doing = Doing::Polling(task, done);
                self.plan(cost, Event::Step(at));
            }
        }
    }

    /// What the poll of a call's task does, and how long it takes.
    fn poll_call(&mut self, id: u32) -> (Done, Time) {
        let now = self.time;
        let (plan, stage) = (self.calls[id as usize].plan, self.calls[id as usize].stage);
        match stage {
            Stage::Waits => return (Done::Answered, plan.second + ANSWER),
            Stage::Unread => {
                self.read(id);
                if !self.admits(id) {
                    return (Done::Refused, HTTP_READ);
                }
            }
            Stage::Unstarted => self.waiting -= 1,
        }
        let call = &mut self.calls[id as usize];
        call.waited = now - call.came;
        let waited = now - call.read;
        self.admission.started(now, waited);
        if call.read + self.scenario.deadline <= now {
            return (Done::Late, ANSWER);
        }
        if stage == Stage::Unstarted && self.admission.drops(now, waited) {
            return (Done::Refused, ANSWER);
        }
        let own = if stage == Stage::Unread { HTTP_READ } else { ANSWER };
        (if plan.wait > 0 { Done::Waits } else { Done::Answered }, plan.first + own)
    }

    /// A call is whole.
    fn read(&mut self, id: u32) {
        self.calls[id as usize].read = self.time;
        if self.admission.wants_probe(self.time) {
            // An empty task that is spawned after it pushes it out of the slot.
            self.push(Task::Probe(false, self.time));
        }
    }

    fn admits(&mut self, id: u32) -> bool {
        let call = self.calls[id as usize].arrived;
        let is_admitted = self.admission.admits(self.time, self.waiting, self.in_flight, call);
        self.in_flight += usize::from(is_admitted);
        is_admitted
    }

    fn step(&mut self, at: usize) {
        match self.workers[at].doing {
            Doing::Nothing => unreachable!("a worker without a task takes no step"),
            Doing::Reading(connection, count) => return self.read_next(at, connection, count),
            Doing::InPlace(connection, count, id) => {
                self.admission.polled(self.calls[id as usize].plan.first);
                if self.calls[id as usize].plan.wait > 0 {
                    self.calls[id as usize].stage = Stage::Waits;
                    self.plan(self.calls[id as usize].plan.wait, Event::Timer(id));
                } else {
                    self.end(id, Ended::Answered);
                }
                return self.read_next(at, connection, count);
            }
            Doing::Polling(Task::Probe(false, _), _) => {
                // It wakes itself while it is polled, which sends it to the end of the queue.
                self.queue.push_back(Task::Probe(true, self.time));
            }
            Doing::Polling(Task::Probe(true, since), _) => self.admission.probed(self.time, self.time - since),
            Doing::Polling(Task::Call(id), done) => {
                let call = &self.calls[id as usize];
                if matches!(done, Done::Answered | Done::Waits) {
                    let took = if call.stage == Stage::Waits { call.plan.second } else { call.plan.first };
                    self.admission.polled(took);
                }
                match done {
                    Done::Refused if self.scenario.way == Way::Http => self.end(id, Ended::Refused),
                    Done::Late | Done::Answered | Done::Refused => {
                        let ended = match done {
                            Done::Late => Ended::Late,
                            Done::Refused => {
                                self.in_flight -= 1;
                                Ended::Refused
                            }
                            _ => Ended::Answered,
                        };
                        let connection = self.calls[id as usize].connection;
                        self.end(id, ended);
                        if self.scenario.way != Way::Http
                            && !std::mem::replace(&mut self.connections[connection].is_queued, true)
                        {
                            self.wake(at, Task::Connection(connection));
                        }
                    }
                    Done::Waits => {
                        self.calls[id as usize].stage = Stage::Waits;
                        self.plan(self.calls[id as usize].plan.wait, Event::Timer(id));
                    }
                    Done::Probed => unreachable!("a call is no probe"),
                }
            }
            Doing::Polling(Task::Connection(_), _) => unreachable!("connections are read"),
        }
        self.start_next(at);
    }

    /// Takes the next call from a connection that is polled.
    fn read_next(&mut self, at: usize, connection: usize, count: u32) {
        let from = &mut self.connections[connection];
        if count >= BUDGET {
            from.is_queued = true;
            self.queue.push_back(Task::Connection(connection));
            return self.start_next(at);
        }
        let Some(id) = from.is_readable.then(|| from.socket.pop_front()).flatten() else {
            from.is_readable = false;
            return self.start_next(at);
        };
        self.read(id);
        let now = self.time;
        let admitted = self.admits(id);
        let count = count + 1;
        let call = &mut self.calls[id as usize];
        let (doing, cost) = match (admitted, self.scenario.way) {
            (false, _) => {
                self.end(id, Ended::Refused);
                (Doing::Reading(connection, count), READ)
            }
            (true, Way::InPlace) => {
                call.waited = now - call.came;
                let cost = READ + ANSWER + call.plan.first;
                (Doing::InPlace(connection, count, id), cost)
            }
            (true, _) => {
                call.stage = Stage::Unstarted;
                self.waiting += 1;
                self.wake(at, Task::Call(id));
                (Doing::Reading(connection, count), READ + SPAWN)
            }
        };
        self.workers[at].doing = doing;
        self.plan(cost, Event::Step(at));
    }

    fn end(&mut self, id: u32, what: Ended) {
        let call = &self.calls[id as usize];
        let waited = if what == Ended::Refused { self.time - call.came } else { call.waited };
        self.outcomes.push(Outcome { came: call.came, ended: self.time, waited, what, call: call.arrived });
        if what != Ended::Refused {
            self.in_flight -= 1;
            self.admission.ended(self.time, self.time - call.read, self.in_flight + 1);
        }
        self.free.push(id);
    }
}
