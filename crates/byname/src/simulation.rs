//! Services in virtual time, on a simulated network that fails: tests of what happens when machines crash, restart, stall or
//! lose each other. It needs the feature `simulation`, as a dev-dependency:
//!
//! ```toml
//! [dev-dependencies]
//! byname = { path = "…/crates/byname", features = ["simulation"] }
//! ```
//!
//! A scenario starts machines, calls them, and makes things fail:
//!
//! ```
//! use std::time::Duration;
//!
//! use byname::simulation::{self, Latency};
//! use byname::{Client, Server, rpc};
//!
//! #[rpc(readonly)]
//! async fn double(n: i64) -> i64 {
//!     2 * n
//! }
//!
//! # fn main() {
//! # /*
//! #[test]
//! fn a_crash_of_one_replica_fails_no_call() {
//! # */
//!     simulation::check(0..20, |sim| async move {
//!         sim.machine("orders-1", || Server::new().method::<double>());
//!         sim.machine("orders-2", || Server::new().method::<double>());
//!         sim.latency(Latency::lognormal(Duration::from_millis(2), 0.5));
//!         let orders = Client::new("orders-1:80,orders-2:80")?;
//!         for n in 0..20 {
//!             if n == sim.random(0..20) as i64 {
//!                 sim.crash("orders-1");
//!             }
//!             assert_eq!(double::on(&orders, n).await?, 2 * n);
//!         }
//!         Ok(())
//!     });
//! # }
//! ```
//!
//! The clients and servers are the real ones, with their retries, limits, connections and drains. What is simulated is below
//! them: the network, the clock and chance. One thread runs everything. The clock stands still while code runs, and jumps to
//! the next event when all code waits, so that an hour of waiting takes no time. Everything that is random follows from the
//! seed. So each seed is another course of events, and a seed that fails fails again: its number is printed, and
//! `BYNAME_SEED=17 cargo test name_of_the_test` runs it alone and prints all of its events.
//!
//! # Machines and names
//!
//! Each machine has an IP address, and its name is the name of a host: `orders-1:80`. The scenario runs on the machine
//! [`CALLER`]. [`Simulation::name`] gives several machines one name. Code of a machine is what its [`Program`] runs, and the
//! tasks that byname starts for it. **Start tasks of your own by [`spawn`] or by [`Context::spawn`](crate::Context::spawn).**
//! `tokio::spawn` starts a task that belongs to no machine: it can make calls with a client that was made on a machine, but
//! it can't listen, and it does not end when a machine crashes. State that a machine must lose in a crash is made in its
//! closure, because the closure is called again after each restart. What is outside of the closure survives, as a database
//! does.
//!
//! # The network
//!
//! Connections behave like those of TCP. Bytes of one connection arrive in their order, each piece after a
//! [latency](Simulation::latency). Sometimes a piece arrives as two. A closed port refuses connections.
//!
//! | | what happens | calls see |
//! | --- | --- | --- |
//! | [`crash`](Simulation::crash) | all tasks of the machine end, its ports close | a reset, then refused connections |
//! | [`drain`](Simulation::drain) | the program is told to stop as by SIGTERM | the real drain |
//! | [`pause`](Simulation::pause) | the machine runs nothing, its system still accepts | silence |
//! | [`partition`](Simulation::partition) | bytes between two machines are held | silence, and connects that hang |
//! | [`partition_one_way`](Simulation::partition_one_way) | only bytes in one direction are held | calls that arrive and are not answered |
//! | [`drop_connections`](Simulation::drop_connections) | connections are cut, with what is on its way | a reset |
//! | [`slow`](Simulation::slow) | everything from and to a machine takes longer | slow answers |
//!
//! # What is not simulated
//!
//! - Files, and sockets of the operating system. TLS and unix sockets are errors in a simulation.
//! - Time that code takes: it takes none. A function that takes time awaits `tokio::time::sleep`.
//! - `#[rpc(blocking)]` functions run on the one thread, at once. They can't wait for other calls.
//! - Chance and time of other crates. `std::time`, threads, random numbers of other crates,
//!   `tokio::select!` without `biased`, and the order of a `HashMap` differ from run to run. Use
//!   [`Simulation::random`], `tokio::time`, `biased` and `BTreeMap` where they matter. [`run`] returns the events of a seed:
//!   if two runs of it differ, something of this kind is in the scenario.
//! - The resolution of virtual time is one millisecond.

mod machine_set;
mod program;

use std::any::Any;
use std::error::Error;
use std::net::IpAddr;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

use self::machine_set::{MachineSet, ProgramEnd};
pub use self::program::Program;
use crate::clock_and_chance::SeededRun;
use crate::runtime::spawn_awaited;
pub use crate::simulated_world::Latency;
use crate::simulated_world::{SimulatedNetwork, SimulatedWorld};

/// The name of the machine that runs the scenario.
pub const CALLER: &str = "caller";

/// How much virtual time a scenario may take.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How many events the message about a failure shows.
const SHOWN: usize = 40;

/// The variable of the environment that chooses one seed.
const SEED: &str = "BYNAME_SEED";

/// Runs a scenario once for each seed, in virtual time. The first seed that fails is printed, with the last events before
/// the failure.
///
/// If the variable `BYNAME_SEED` is set, only that seed runs, and all of its events are printed.
///
/// # Panics
///
/// If the scenario returns an error or panics, if the [`Program`] of a machine fails although nothing told it to stop, if
/// the scenario takes more than a day of virtual time, and if it is called inside of a tokio runtime: use `#[test]`, and not
/// `#[tokio::test]`.
#[track_caller]
pub fn check<F>(seeds: impl IntoIterator<Item = u64>, mut scenario: impl FnMut(Simulation) -> F)
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
{
    if let Ok(seed) = std::env::var(SEED) {
        let Ok(seed) = seed.trim().parse() else {
            panic!("`{SEED}` is {seed:?}, expected the number of a seed, such as {SEED}=17");
        };
        let SimulationRun { result, trace, time } = run(seed, scenario);
        eprint!("{trace}");
        if let Err(why) = result {
            panic!("seed {seed} failed after {time:?} of virtual time: {why}");
        }
        return;
    }
    for seed in seeds {
        let SimulationRun { result, trace, time } = run_and_keep(seed, SHOWN, &mut scenario);
        if let Err(why) = result {
            panic!(
                "seed {seed} failed after {time:?} of virtual time: {why}\n{trace}{SEED}={seed} runs this seed alone, and \
                 prints all of its events"
            );
        }
    }
}

/// Runs a scenario with one seed. It does not panic if the scenario does.
///
/// ```
/// use byname::{Client, Server, simulation};
///
/// let run = || {
///     simulation::run(7, |sim| async move {
///         sim.machine("one", || Server::new().function("ping", || async { "pong" }));
///         let answer: String = Client::new("one:80")?.call("ping", ()).await?;
///         assert_eq!(answer, "pong");
///         Ok(())
///     })
/// };
/// let (one, two) = (run(), run());
/// assert!(one.result.is_ok());
/// assert!(one.trace.contains("one        runs `ping`"));
/// assert_eq!(one.trace, two.trace);
/// ```
///
/// # Panics
///
/// If it is called inside of a tokio runtime.
#[track_caller]
pub fn run<F>(seed: u64, scenario: impl FnOnce(Simulation) -> F) -> SimulationRun
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
{
    run_and_keep(seed, usize::MAX, scenario)
}

/// Starts a task that belongs to the machine that starts it: it ends when the machine crashes, and it can listen and connect
/// there. Outside of a simulation it is `tokio::spawn`.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    spawn_awaited(&Handle::current(), future)
}

/// What came of one seed.
#[derive(Debug)]
#[non_exhaustive]
pub struct SimulationRun {
    /// What the scenario returned, or why it failed.
    pub result: Result<(), Box<dyn Error + Send + Sync>>,
    /// The events, one for each line: the virtual time in seconds, the machine, and what happened there. Two runs of one seed
    /// have the same.
    pub trace: String,
    /// How much virtual time the scenario took.
    pub time: Duration,
}

/// A simulation, from inside its scenario. It is cheap to clone, and a clone is the same simulation.
///
/// Its methods panic if a name is not that of a machine.
#[derive(Clone)]
pub struct Simulation {
    seed: u64,
    world: Arc<SimulatedWorld>,
    machines: MachineSet,
    random: Arc<Mutex<Rng>>,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("seed", &self.seed).field("time", &self.time()).finish_non_exhaustive()
    }
}

impl Simulation {
    /// Adds a machine and starts its program. `program` is called once for each start. Its name is a host's name.
    ///
    /// ```
    /// use byname::{Client, Server, rpc, simulation};
    ///
    /// #[rpc(readonly)]
    /// async fn add(a: i64, b: i64) -> i64 { a + b }
    ///
    /// simulation::check(0..3, |sim| async move {
    ///     sim.machine("sums", || Server::new().method::<add>());
    ///     assert_eq!(add::on(&Client::new("sums:80")?, 1, 2).await?, 3);
    ///     Ok(())
    /// });
    /// ```
    #[track_caller]
    pub fn machine<P: Program>(&self, name: &str, program: impl FnMut() -> P + Send + 'static) {
        self.machines.add(name, program);
    }

    /// Gives several machines one name, as DNS does. Clients look names up again every five seconds while they are used, so
    /// another call of this with the same name is noticed.
    #[track_caller]
    pub fn name<'m>(&self, name: &str, machines: impl IntoIterator<Item = &'m str>) {
        let machines = machines.into_iter().map(|machine| self.machines.id(machine)).collect();
        self.world.set_name(name, machines);
    }

    /// The IP address of a machine.
    #[track_caller]
    pub fn ip(&self, machine: &str) -> IpAddr {
        SimulatedNetwork::ip(self.machines.id(machine))
    }

    /// Ends the process of a machine at once. Its tasks are dropped, its ports are closed, and its connections are reset. The
    /// machine itself is still there: it answers connects with a refusal. A machine that loses its power says nothing any
    /// more: [`isolate`](Self::isolate) it before.
    #[track_caller]
    pub fn crash(&self, machine: &str) {
        self.machines.crash(machine);
    }

    /// Starts the program of a machine again. If it still runs, it crashes before.
    #[track_caller]
    pub fn restart(&self, machine: &str) {
        self.machines.restart(machine);
    }

    /// Tells the program of a machine to stop, as SIGTERM does, and waits for its end. A server drains: it finishes its calls.
    /// [`restart`](Self::restart) starts it again.
    ///
    /// ```
    /// # use byname::{Client, Server, rpc, simulation};
    /// # #[rpc(readonly)]
    /// # async fn add(a: i64, b: i64) -> i64 { a + b }
    /// simulation::check(0..3, |sim| async move {
    ///     sim.machine("sums", || Server::new().method::<add>());
    ///     sim.drain("sums").await?;
    ///     assert!(add::on(&Client::new("sums:80")?, 1, 2).await.is_err());
    ///     sim.restart("sums");
    ///     assert_eq!(add::on(&Client::new("sums:80")?, 1, 2).await?, 3);
    ///     Ok(())
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// What the program returns, such as the error about functions that were still running at
    /// [`Limits::drain`](crate::Limits::drain). A crash before its end is an error.
    #[track_caller]
    pub fn drain(
        &self,
        machine: &str,
    ) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + use<> {
        let mut end = self.machines.tell_to_stop(machine);
        let machine = machine.to_owned();
        async move {
            let ended = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
            match ended {
                Some(ProgramEnd::Returned(result)) => Ok(result?),
                Some(ProgramEnd::Crashed) | None => {
                    Err(format!("the machine `{machine}` crashed before its end").into())
                }
            }
        }
    }

    /// Runs nothing on a machine until [`resume`](Self::resume), as SIGSTOP does, or a long pause of a virtual machine. Its
    /// connections stay open, and what is sent to it waits.
    #[track_caller]
    pub fn pause(&self, machine: &str) {
        self.machines.pause(machine);
    }

    /// Ends a [`pause`](Self::pause).
    #[track_caller]
    pub fn resume(&self, machine: &str) {
        self.machines.go_on(machine);
    }

    /// Nothing arrives between two machines any more, until [`heal`](Self::heal). The bytes are held, and neither side sees an error.
    #[track_caller]
    pub fn partition(&self, one: &str, other: &str) {
        self.partition_one_way(one, other);
        self.partition_one_way(other, one);
    }

    /// Nothing from one machine arrives at the other any more, until [`heal`](Self::heal). The other direction stays.
    #[track_caller]
    pub fn partition_one_way(&self, from: &str, to: &str) {
        let (one, other) = (self.machines.id(from), self.machines.id(to));
        self.world.step(|network, now| {
            network.note_for_all(now, format_args!("nothing arrives from {from} at {to}"));
            network.cut(one, other);
        });
    }

    /// A [`partition`](Self::partition) between a machine and every other.
    #[track_caller]
    pub fn isolate(&self, machine: &str) {
        self.machines.id(machine);
        for other in self.machines.names().iter().filter(|other| *other != machine) {
            self.partition(machine, other);
        }
    }

    /// Ends partitions between two machines, in both directions. What was held arrives after another latency.
    #[track_caller]
    pub fn heal(&self, one: &str, other: &str) {
        let (first, second) = (self.machines.id(one), self.machines.id(other));
        self.world.step(|network, now| {
            network.note_for_all(now, format_args!("{one} and {other} reach each other"));
            network.heal(first, second, now);
            network.heal(second, first, now);
        });
    }

    /// Ends all partitions.
    pub fn heal_all(&self) {
        let names = self.machines.names();
        self.world.step(|network, now| {
            network.note_for_all(now, format_args!("all machines reach each other"));
            for one in 0..names.len() {
                (0..names.len()).for_each(|other| network.heal(one, other, now));
            }
        });
    }

    /// Cuts all connections between two machines. What is on its way is lost. Both sides see a reset, and may connect again.
    #[track_caller]
    pub fn drop_connections(&self, one: &str, other: &str) {
        let (first, second) = (self.machines.id(one), self.machines.id(other));
        self.world.step(|network, now| {
            network.note_for_all(now, format_args!("the connections between {one} and {other} are cut"));
            network.drop_connections(first, second, now);
        });
    }

    /// The latency between different machines. The default is [lognormal](Latency::lognormal), with a median of 1 ms and a
    /// sigma of 0.5.
    pub fn latency(&self, latency: Latency) {
        self.world.step(|network, _| network.set_latency(latency));
    }

    /// The latency between two machines, in both directions, in place of [`latency`](Self::latency).
    #[track_caller]
    pub fn latency_between(&self, one: &str, other: &str, latency: Latency) {
        let (one, other) = (self.machines.id(one), self.machines.id(other));
        self.world.step(|network, _| network.set_latency_between(one, other, latency));
    }

    /// A latency that is added to everything from and to a machine. [`Latency::ZERO`] makes it as fast as it was.
    #[track_caller]
    pub fn slow(&self, machine: &str, by: Latency) {
        let id = self.machines.id(machine);
        self.world.step(|network, now| {
            network.note(now, id, format_args!("is slow: {by:?}"));
            network.set_slow(id, by);
        });
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number of this range at random, which follows from the seed.
    ///
    /// # Panics
    ///
    /// If the range is empty.
    #[track_caller]
    pub fn random(&self, range: Range<u64>) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).u64(range)
    }

    /// True with this probability, which follows from the seed: always with 1, never with 0.
    pub fn chance(&self, probability: f64) -> bool {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64() < probability
    }

    /// The virtual time since the beginning.
    pub fn time(&self) -> Duration {
        self.world.now()
    }

    /// Adds a line to the events.
    pub fn note(&self, event: impl std::fmt::Display) {
        self.world.step(|network, now| network.note_for_all(now, format_args!("{event}")));
    }

    fn new(seed: u64, kept: usize) -> Self {
        let world = SimulatedWorld::new(SimulatedNetwork::new(seed, kept));
        let machines = MachineSet::new(&world, CALLER);
        // Another sequence than that of the network.
        let random = Arc::new(Mutex::new(Rng::with_seed(!seed)));
        Self { seed, world, machines, random }
    }
}

#[track_caller]
fn run_and_keep<F>(seed: u64, kept: usize, scenario: impl FnOnce(Simulation) -> F) -> SimulationRun
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
{
    assert!(
        Handle::try_current().is_err(),
        "a simulation has a runtime of its own, and can't run inside another; call it in `#[test]`, not in `#[tokio::test]`"
    );
    let _seeded = SeededRun::begin(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without sockets needs nothing of the operating system");
    let simulation = runtime.block_on(async { Simulation::new(seed, kept) });
    let Simulation { world, machines, .. } = &simulation;
    let entered = world.enter().expect("a simulation is entered outside of every other");
    let caller = machines.caller();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let delivering = Arc::clone(world);
            tokio::spawn(async move { delivering.deliver().await });
            let mut failure = pin!(machines.failure());
            let mut scenario = pin!(caller.run(async { scenario(simulation.clone()).await }));
            let ended = std::future::poll_fn(|cx| match failure.as_mut().poll(cx) {
                Poll::Ready(why) => Poll::Ready(Err(why.into())),
                Poll::Pending => scenario.as_mut().poll(cx),
            });
            match tokio::time::timeout(LIMIT, ended).await {
                Ok(result) => result,
                Err(_) => Err(format!("it did not end within {LIMIT:?} of virtual time").into()),
            }
        })
    }));
    let (time, trace) = runtime.block_on(async { (world.now(), world.step(|network, _| network.trace())) });
    // The tasks are dropped while the runtime and the world are there.
    machines.end_all();
    runtime.block_on(async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    });
    drop(runtime);
    drop(entered);
    let result = outcome.unwrap_or_else(|panic| Err(format!("it panicked: {}", said(&*panic)).into()));
    SimulationRun { result, trace, time }
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("its message is not text")
}
