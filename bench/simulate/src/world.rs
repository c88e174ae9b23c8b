//! Clients that call replicas in virtual time: discrete events in one thread.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::balancer::{Balancer, Ended, Load};
use super::replica_subset::ReplicaSubset;

/// What happens, except for chance.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub clients: usize,
    pub replicas: usize,
    /// The calls that come, as a share of what these replicas can serve.
    pub load: f64,
    pub service: Service,
    pub subsets: Subsets,
    pub changes: Vec<(Duration, Change)>,
    /// The calls that are sent in this time are in the figures.
    pub measured: (Duration, Duration),
}

impl Scenario {
    /// One in which nothing happens, and nothing is measured.
    pub fn new(clients: usize, replicas: usize, load: f64) -> Self {
        let (service, measured) = (Service::Lognormal, (Duration::ZERO, Duration::ZERO));
        Self { clients, replicas, load, service, subsets: Subsets::All, changes: Vec::new(), measured }
    }
}

/// Which replicas a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsets {
    All,
    /// Twenty, by rendezvous hashing.
    Random,
    /// Twenty, by the number of the client.
    Numbered,
}

/// How long serving takes. The mean is always the same.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    Lognormal,
    /// Nineteen in twenty calls take 1 ms, and the others 81 ms.
    Mixed,
}

#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Serving takes this many times as long.
    Slow(usize, f64),
    /// It fails this share of its calls at once.
    Failing(usize, f64),
    /// It refuses all calls at once for so long.
    Refusing(usize, Duration),
    /// It stands still for so long.
    Frozen(usize, Duration),
    /// One more replica, that takes five times as long for its first calls.
    JoinsCold,
}

/// What came of one run.
pub struct Run {
    /// Of the calls that were answered, in milliseconds, sorted.
    pub latencies: Vec<f32>,
    pub failed: usize,
    /// The calls that were sent to each replica, in each tenth of a second from the beginning.
    pub sent: Vec<Vec<u32>>,
    /// How many clients have each replica.
    pub connections: Vec<u32>,
}

const WORKERS: usize = 4;
/// The mean time that serving takes, and the sigma of its lognormal distribution.
const SERVICE: f64 = 0.005;
const SIGMA: f64 = 0.8;
/// From a client to a replica, or back.
const NETWORK: u64 = 250_000;
/// How long a replica needs to fail a call at once.
const FAILS_IN: u64 = 100_000;
/// After it a call has failed.
const DEADLINE: u64 = 1_000_000_000;
/// The number of calls for which a cold replica is slow.
const COLD_CALLS: u32 = 200;
const COLD: f64 = 5.0;
const TENTH: u64 = 100_000_000;
/// The replicas of a client that has a subset.
const SUBSET: usize = 20;

pub fn run<B: Balancer>(scenario: &Scenario, seed: u64) -> Run {
    let clock = PausedClock::new();
    let _entered = clock.runtime.enter();
    let mut world = World::<B>::new(scenario, seed);
    let mut time = 0;
    while let Some((at, event)) = world.next() {
        clock.advance(at - time);
        time = at;
        if at >= world.end {
            break;
        }
        world.time = at;
        world.happens(event);
    }
    world.result()
}

/// tokio's clock, which tower's balancer reads too.
struct PausedClock {
    runtime: Runtime,
}

impl PausedClock {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        Self { runtime: runtime.expect("a runtime without I/O") }
    }

    fn advance(&self, nanoseconds: u64) {
        if nanoseconds > 0 {
            // Its first poll moves the clock; then it lets tasks run, and there are none.
            let advance = pin!(tokio::time::advance(Duration::from_nanos(nanoseconds)));
            let _ = advance.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

struct World<'s, B: Balancer> {
    scenario: &'s Scenario,
    random: Rng,
    time: u64,
    end: u64,
    events: BinaryHeap<Reverse<(u64, u32, Event)>>,
    /// Counts events, so that those at the same time keep their order.
    planned: u32,
    /// The calls in the order of their deadlines.
    deadlines: VecDeque<(u64, u32)>,
    clients: Vec<Client<B>>,
    replicas: Vec<Replica>,
    loads: Vec<Load>,
    calls: Vec<Call<B::Sent>>,
    measured: (u64, u64),
    run: Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Calls,
    Arrives(u32),
    Served(u32),
    Answered(u32),
    Deadline(u32),
    Changes(usize),
    Thaws(usize),
    Accepts(usize),
}

struct Client<B> {
    balancer: B,
    /// The numbers of its replicas. `None` if it has all.
    subset: Option<Vec<usize>>,
}

/// A replica as a client knows it.
struct NumberedReplica(usize);

#[derive(Default)]
struct Replica {
    queue: VecDeque<u32>,
    running: usize,
    is_frozen: bool,
    failing: f64,
    is_refusing: bool,
    slowness: f64,
    /// Calls that it is still cold for.
    cold: u32,
    /// Calls that were served while it stood still.
    held: Vec<u32>,
}

struct Call<S> {
    client: u32,
    replica: u32,
    /// The number that the client has for the replica.
    known_as: u32,
    sent_at: u64,
    /// Until the client knows how it ended.
    sent: Option<S>,
    is_answered: bool,
    is_refused: bool,
    report: u32,
}

impl<'s, B: Balancer> World<'s, B> {
    fn new(scenario: &'s Scenario, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let now = Instant::now();
        let clients: Vec<_> = (0..scenario.clients)
            .map(|client| {
                let subset = subset(scenario, client, seed);
                let replicas = subset.as_ref().map_or(scenario.replicas, Vec::len);
                Client { balancer: B::new(replicas, random.fork(), now), subset }
            })
            .collect();
        let has = |client: &Client<B>, replica| client.subset.as_ref().is_none_or(|subset| subset.contains(&replica));
        let count = |replica| clients.iter().filter(|client| has(client, replica)).count() as u32;
        let connections = (0..scenario.replicas).map(count).collect();
        let measured = (nanoseconds(scenario.measured.0), nanoseconds(scenario.measured.1));
        let end = measured.1 + 2 * DEADLINE;
        let mut world = Self {
            scenario,
            random,
            time: 0,
            end,
            events: BinaryHeap::new(),
            planned: 0,
            deadlines: VecDeque::new(),
            clients,
            replicas: Vec::new(),
            loads: Vec::new(),
            calls: Vec::new(),
            measured,
            run: Run { latencies: Vec::new(), failed: 0, sent: Vec::new(), connections },
        };
        for _ in 0..scenario.replicas {
            world.add_replica(0);
        }
        for (nth, (at, _)) in scenario.changes.iter().enumerate() {
            world.plan(nanoseconds(*at), Event::Changes(nth));
        }
        world.plan(0, Event::Calls);
        world
    }

    fn add_replica(&mut self, cold: u32) {
        self.replicas.push(Replica { slowness: 1.0, cold, ..Replica::default() });
        self.loads.push(Load { calls: 0, slowness: 1.0, is_failing: false, is_frozen: false });
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn next(&mut self) -> Option<(u64, Event)> {
        let Reverse((at, _, _)) = *self.events.peek()?;
        if let Some(&(deadline, call)) = self.deadlines.front()
            && deadline <= at
        {
            self.deadlines.pop_front();
            return Some((deadline, Event::Deadline(call)));
        }
        self.events.pop().map(|Reverse((at, _, event))| (at, event))
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Calls => self.calls(),
            Event::Arrives(call) => self.arrives(call),
            Event::Served(call) => self.served(call),
            Event::Answered(call) => self.ends(call, true),
            Event::Deadline(call) => self.ends(call, false),
            Event::Changes(nth) => self.changes(self.scenario.changes[nth].1),
            Event::Accepts(replica) => {
                self.replicas[replica].is_refusing = false;
                self.loads[replica].is_failing = false;
            }
            Event::Thaws(replica) => {
                self.replicas[replica].is_frozen = false;
                self.loads[replica].is_frozen = false;
                for call in std::mem::take(&mut self.replicas[replica].held) {
                    self.served(call);
                }
                self.starts(replica);
            }
        }
    }

    /// A client makes a call, and the next client will.
    fn calls(&mut self) {
        let rate = self.scenario.load * (self.scenario.replicas * WORKERS) as f64 / SERVICE;
        let pause = -(1.0 - self.random.f64()).ln() / rate;
        self.plan(self.time + (pause * 1e9) as u64, Event::Calls);
        if self.time >= self.measured.1 + DEADLINE {
            return;
        }
        let client = self.random.usize(..self.clients.len());
        let (known_as, replica, sent) = self.clients[client].choose(&self.loads, Instant::now());
        self.loads[replica].calls += 1;
        let call = self.calls.len() as u32;
        let (client, sent_at) = (client as u32, self.time);
        let sent = Some(sent);
        let (replica_number, known_as) = (replica as u32, known_as as u32);
        let (is_answered, is_refused, report) = (false, false, 0);
        let call_sent =
            Call { client, replica: replica_number, known_as, sent_at, sent, is_answered, is_refused, report };
        self.calls.push(call_sent);
        self.deadlines.push_back((self.time + DEADLINE, call));
        self.plan(self.time + NETWORK, Event::Arrives(call));
        let tenth = (self.time / TENTH) as usize;
        while self.run.sent.len() <= tenth {
            self.run.sent.push(Vec::new());
        }
        let counts = &mut self.run.sent[tenth];
        counts.resize(self.replicas.len(), 0);
        counts[replica] += 1;
    }

    fn arrives(&mut self, call: u32) {
        let index = self.calls[call as usize].replica as usize;
        let (failing, is_refusing) = (self.replicas[index].failing, self.replicas[index].is_refusing);
        if is_refusing || failing > 0.0 && self.random.f64() < failing {
            self.loads[index].calls -= 1;
            self.calls[call as usize].is_refused = is_refusing;
            self.calls[call as usize].report = self.calls_in_flight(index);
            self.plan(self.time + FAILS_IN + NETWORK, Event::Answered(call));
            return;
        }
        self.replicas[index].queue.push_back(call);
        self.starts(index);
    }

    /// Free workers take calls from the queue.
    fn starts(&mut self, index: usize) {
        while self.replicas[index].running < WORKERS && !self.replicas[index].is_frozen {
            let Some(call) = self.replicas[index].queue.pop_front() else { return };
            // Its client has given up.
            if self.calls[call as usize].sent.is_none() {
                self.loads[index].calls -= 1;
                continue;
            }
            let usual = SERVICE * self.service();
            let replica = &mut self.replicas[index];
            replica.running += 1;
            let cold = if replica.cold > 0 { COLD } else { 1.0 };
            replica.cold = replica.cold.saturating_sub(1);
            let service = usual * replica.slowness * cold;
            self.plan(self.time + (service * 1e9) as u64, Event::Served(call));
        }
    }

    fn served(&mut self, call: u32) {
        let index = self.calls[call as usize].replica as usize;
        if self.replicas[index].is_frozen {
            self.replicas[index].held.push(call);
            return;
        }
        self.replicas[index].running -= 1;
        self.loads[index].calls -= 1;
        let report = self.calls_in_flight(index);
        let answered = &mut self.calls[call as usize];
        answered.is_answered = true;
        answered.report = report;
        self.plan(self.time + NETWORK, Event::Answered(call));
        self.starts(index);
    }

    /// As the server counts them.
    fn calls_in_flight(&self, index: usize) -> u32 {
        (self.replicas[index].running + self.replicas[index].queue.len()) as u32
    }

    /// The client gets an answer, or gives up.
    fn ends(&mut self, call: u32, is_answer: bool) {
        let call = &mut self.calls[call as usize];
        let Some(sent) = call.sent.take() else { return };
        let is_answered = is_answer && call.is_answered;
        let report = is_answer.then_some(call.report);
        let is_refused = is_answer && call.is_refused;
        let ended = Ended { replica: call.known_as as usize, is_answered, is_refused, report };
        if (self.measured.0..self.measured.1).contains(&call.sent_at) {
            if is_answered {
                self.run.latencies.push(((self.time - call.sent_at) as f64 / 1e6) as f32);
            } else {
                self.run.failed += 1;
            }
        }
        self.clients[call.client as usize].balancer.ended(sent, ended, Instant::now());
    }

    fn changes(&mut self, change: Change) {
        match change {
            Change::Slow(index, slowness) => {
                self.replicas[index].slowness = slowness;
                self.loads[index].slowness = slowness;
            }
            Change::Failing(index, share) => {
                self.replicas[index].failing = share;
                self.loads[index].is_failing = true;
            }
            Change::Refusing(index, length) => {
                self.replicas[index].is_refusing = true;
                self.loads[index].is_failing = true;
                self.plan(self.time + nanoseconds(length), Event::Accepts(index));
            }
            Change::Frozen(index, length) => {
                self.replicas[index].is_frozen = true;
                self.loads[index].is_frozen = true;
                self.plan(self.time + nanoseconds(length), Event::Thaws(index));
            }
            Change::JoinsCold => {
                self.add_replica(COLD_CALLS);
                for client in &mut self.clients {
                    client.balancer.join(self.replicas.len() - 1, Instant::now());
                }
            }
        }
    }

    /// How long serving takes, as a multiple of the mean.
    fn service(&mut self) -> f64 {
        match self.scenario.service {
            Service::Lognormal => {
                let radius = (-2.0 * (1.0 - self.random.f64()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * self.random.f64()).cos();
                (SIGMA * normal - SIGMA * SIGMA / 2.0).exp()
            }
            Service::Mixed if self.random.u8(..20) == 0 => 16.2,
            Service::Mixed => 0.2,
        }
    }

    fn result(mut self) -> Run {
        self.run.latencies.sort_unstable_by(f32::total_cmp);
        let replicas = self.replicas.len();
        for counts in &mut self.run.sent {
            counts.resize(replicas, 0);
        }
        self.run
    }
}

impl<B: Balancer> Client<B> {
    /// The replica of a call: the number that this client has for it, and its number among all.
    fn choose(&mut self, loads: &[Load], now: Instant) -> (usize, usize, B::Sent) {
        match &self.subset {
            None => {
                let (replica, sent) = self.balancer.choose(loads, now);
                (replica, replica, sent)
            }
            Some(subset) => {
                let loads: Vec<_> = subset.iter().map(|replica| loads[*replica].clone()).collect();
                let (known_as, sent) = self.balancer.choose(&loads, now);
                (known_as, subset[known_as], sent)
            }
        }
    }
}

impl fmt::Display for NumberedReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "10.0.{}.{}:8080", self.0 / 256, self.0 % 256)
    }
}

/// The replicas of this client. `None` if it has all.
fn subset(scenario: &Scenario, client: usize, seed: u64) -> Option<Vec<usize>> {
    let subset = match scenario.subsets {
        Subsets::All => return None,
        Subsets::Random => ReplicaSubset::random(Rng::with_seed(seed << 32 | client as u64).u64(..)),
        Subsets::Numbered => {
            ReplicaSubset::numbered(client as u32, scenario.clients as u32).expect("each client is one of the clients")
        }
    };
    let mut replicas: Vec<_> = (0..scenario.replicas).map(NumberedReplica).collect();
    subset.order(&mut replicas);
    Some(replicas.into_iter().take(SUBSET).map(|NumberedReplica(replica)| replica).collect())
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
