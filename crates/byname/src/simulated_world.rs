//! The machines and the network of a simulation, for the code that runs on them: [`SimulatedWorld`]. A thread has one at most.

mod event_trace;
mod latency;
mod network;
mod simulated_stream;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

pub use self::latency::Latency;
use self::network::Connecting;
pub(crate) use self::network::{MachineId, SimulatedNetwork};
pub(crate) use self::simulated_stream::{SimulatedListener, SimulatedStream};
use crate::runtime::SimulatedProcess;

thread_local! {
    static WORLD: RefCell<Option<Arc<SimulatedWorld>>> = const { RefCell::new(None) };
}

pub(crate) struct SimulatedWorld {
    /// When it began, by the virtual clock of its runtime.
    began: Instant,
    network: Mutex<SimulatedNetwork>,
    /// Names of several machines.
    names: Mutex<Vec<(String, Vec<MachineId>)>>,
    /// Something arrives earlier than the one who delivers knows.
    changed: Notify,
}

/// Until this is dropped, code on this thread runs in a world.
pub(crate) struct EnteredWorld;

impl SimulatedWorld {
    /// A new world. It is made inside the runtime whose clock it has.
    pub(crate) fn new(network: SimulatedNetwork) -> Arc<Self> {
        let (names, changed) = (Mutex::default(), Notify::new());
        Arc::new(Self { began: Instant::now(), network: Mutex::new(network), names, changed })
    }

    /// Makes it the world of this thread. `None` if there is one.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<EnteredWorld> {
        WORLD.with_borrow_mut(|world| {
            let is_first = world.is_none();
            is_first.then(|| {
                *world = Some(Arc::clone(self));
                EnteredWorld
            })
        })
    }

    /// How long it has been there.
    pub(crate) fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.began)
    }

    /// Changes the network.
    pub(crate) fn step<T>(&self, step: impl FnOnce(&mut SimulatedNetwork, Duration) -> T) -> T {
        let now = self.now();
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        let before = network.next_due();
        let done = step(&mut network, now);
        if network.next_due() != before {
            self.changed.notify_one();
        }
        done
    }

    /// Delivers what is sent, as long as this is polled.
    pub(crate) async fn deliver(&self) {
        loop {
            let next = self.step(|network, now| {
                network.advance(now);
                network.next_due()
            });
            match next {
                // Either that is due or something earlier was sent.
                Some(next) => drop(timeout_at(self.began + next, self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }

    /// Gives several machines a name.
    pub(crate) fn set_name(&self, name: &str, machines: Vec<MachineId>) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|(known, _)| known != name);
        names.push((name.to_owned(), machines));
    }

    fn addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let ips = |machines: &[MachineId]| machines.iter().map(|machine| SimulatedNetwork::ip(*machine)).collect();
        if let Some((_, machines)) = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(host)) {
            return Some(ips(machines));
        }
        drop(names);
        self.step(|network, _| network.machine(host)).map(|machine| ips(&[machine]))
    }
}

impl Drop for EnteredWorld {
    fn drop(&mut self) {
        // Dropped outside of the borrow.
        let _gone = WORLD.take();
    }
}

/// Whether this thread runs in a simulation.
pub(crate) fn is_simulated() -> bool {
    WORLD.with_borrow(Option::is_some)
}

/// Adds an event of the machine whose code runs to the trace.
pub(crate) fn note(event: fmt::Arguments<'_>) {
    if let (Some(world), Some(process)) = (WORLD.with_borrow(Clone::clone), SimulatedProcess::current())
        && !process.is_over()
    {
        world.step(|network, now| network.note(now, process.machine(), event));
    }
}

/// The addresses of a name. `None` outside of a simulation.
pub(crate) fn resolve(host: &str, port: u16) -> Option<io::Result<Vec<SocketAddr>>> {
    let world = WORLD.with_borrow(Clone::clone)?;
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]));
    }
    let found = world.addresses(host).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("no machine of the simulation has the name `{host}`"))
    });
    Some(found.map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()))
}

/// Connects from the machine whose code runs.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<SimulatedStream> {
    let (world, machine) = here()?;
    let end = world.step(|network, now| network.connect(machine, address, now))?;
    // If this future is dropped, the connection is closed.
    let stream = SimulatedStream::new(Arc::clone(&world), end);
    poll_fn(|cx| match world.step(|network, _| network.connecting(end, cx.waker())) {
        Connecting::Waiting => Poll::Pending,
        Connecting::Open => Poll::Ready(Ok(())),
        Connecting::Failed(kind) => Poll::Ready(Err(io::Error::from(kind))),
    })
    .await?;
    Ok(stream)
}

/// Listens on the machine whose code runs: at all of its addresses, at its own, or for callers on the same machine.
pub(crate) fn listen(host: &str, port: u16) -> io::Result<SimulatedListener> {
    let (world, machine) = here()?;
    let is_loopback = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip == SimulatedNetwork::ip(machine) => false,
        Ok(ip) if ip.is_loopback() => true,
        Err(_) if host.eq_ignore_ascii_case("localhost") => true,
        Err(_) if world.step(|network, _| network.machine(host)) == Some(machine) => false,
        _ => {
            let name = world.step(|network, _| network.name(machine).to_owned());
            let why = format!(
                "the machine `{name}` does not have this address; listen at 0.0.0.0, or at 127.0.0.1 for this machine"
            );
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, why));
        }
    };
    let (id, address) = world.step(|network, now| network.listen(machine, port, is_loopback, now))?;
    Ok(SimulatedListener::new(world, id, address))
}

/// The world, and the machine whose code runs.
fn here() -> io::Result<(Arc<SimulatedWorld>, MachineId)> {
    let world = WORLD.with_borrow(Clone::clone);
    let world = world.ok_or_else(|| io::Error::other("the simulation has ended"))?;
    let process = SimulatedProcess::current().ok_or_else(|| {
        io::Error::other(
            "this code runs on no machine of the simulation; start its task by `byname::simulation::spawn` in place of \
             `tokio::spawn`",
        )
    })?;
    if process.is_over() {
        return Err(io::Error::other("the process of this machine has ended"));
    }
    Ok((world, process.machine()))
}
