//! The network between simulated machines, as a state machine: [`SimulatedNetwork`]. It behaves like TCP above a network that delays,
//! holds and cuts. It has no clock: each step gets the time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fastrand::Rng;

use super::event_trace::EventTrace;
use super::latency::Latency;

/// Bytes that one direction of a connection holds: on their way, and not read yet.
const CAPACITY: usize = 256 << 10;

/// Connections that may wait to be accepted at one port.
const BACKLOG: usize = 1024;

/// The first port of the callers' ends.
const FIRST_PORT: u16 = 40_000;

/// One write in this many arrives in two pieces.
const SPLITS: u8 = 16;

/// The number of a machine.
pub(crate) type MachineId = usize;

/// The end of a connection that connected, and the end that accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Caller = 0,
    Server = 1,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndId {
    connection: u64,
    side: Side,
}

/// A port that a machine listens at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerId {
    machine: MachineId,
    port: u16,
    serial: u64,
}

/// What a caller finds when it looks at its new connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Connecting {
    Waiting,
    Open,
    Failed(io::ErrorKind),
}

#[derive(Debug)]
pub(crate) struct SimulatedNetwork {
    random: Rng,
    trace: EventTrace,
    /// The names of the machines.
    names: Vec<String>,
    /// What arrives when. Of two that arrive at one time, the one that was sent first is the first.
    due: BTreeMap<(Duration, u64), Delivery>,
    sent: u64,
    bytes: u64,
    connections: BTreeMap<u64, Connection>,
    last_connection: u64,
    listeners: BTreeMap<(MachineId, u16), PortListener>,
    last_listener: u64,
    ports: BTreeMap<MachineId, u16>,
    latency: Latency,
    /// Of all bytes from the first machine to the second.
    latency_between: BTreeMap<(MachineId, MachineId), Latency>,
    /// What is added to all bytes of a machine.
    slow: BTreeMap<MachineId, Latency>,
    /// From the first machine to the second nothing arrives.
    cut: BTreeSet<(MachineId, MachineId)>,
    /// What would have arrived otherwise.
    held: Vec<Delivery>,
}

/// The arrival of the first packet that is on its way to one end of a connection.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    connection: u64,
    to: Side,
}

#[derive(Debug)]
struct Connection {
    ends: [ConnectionEnd; 2],
}

#[derive(Debug)]
struct ConnectionEnd {
    machine: MachineId,
    address: SocketAddr,
    /// The other side has answered.
    is_open: bool,
    /// Bytes that have arrived.
    arrived: BytesMut,
    /// The other side sends no more bytes.
    is_finished: bool,
    failed: Option<io::ErrorKind>,
    /// Packets to this end, in their order.
    incoming: VecDeque<Packet>,
    /// The bytes of these packets.
    incoming_bytes: usize,
    /// When the last of them arrives.
    last_arrival: Duration,
    /// This side sends no more bytes.
    has_finished: bool,
    /// Nobody holds this end any more.
    is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
enum Packet {
    Connect,
    Accepted,
    Data(Bytes),
    Finish,
    Reset,
}

#[derive(Debug)]
struct PortListener {
    serial: u64,
    /// Only for callers on the same machine.
    is_loopback: bool,
    is_closing: bool,
    waiting: VecDeque<u64>,
    waker: Option<Waker>,
}

impl SimulatedNetwork {
    /// `kept` is how many events its trace keeps.
    pub(crate) fn new(seed: u64, kept: usize) -> Self {
        Self {
            random: Rng::with_seed(seed),
            trace: EventTrace::new(kept),
            names: Vec::new(),
            due: BTreeMap::new(),
            sent: 0,
            bytes: 0,
            connections: BTreeMap::new(),
            last_connection: 0,
            listeners: BTreeMap::new(),
            last_listener: 0,
            ports: BTreeMap::new(),
            latency: Latency::lognormal(Duration::from_millis(1), 0.5),
            latency_between: BTreeMap::new(),
            slow: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: Vec::new(),
        }
    }

    /// Adds a machine. Returns its number.
    pub(crate) fn add_machine(&mut self, name: &str) -> MachineId {
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    pub(crate) fn machine(&self, name: &str) -> Option<MachineId> {
        self.names.iter().position(|known| known == name)
    }

    pub(crate) fn name(&self, machine: MachineId) -> &str {
        &self.names[machine]
    }

    /// The IP address of a machine.
    pub(crate) fn ip(machine: MachineId) -> IpAddr {
        let number = u32::try_from(machine).unwrap_or(u32::MAX).saturating_add(1);
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | number).into()
    }

    pub(crate) fn note(&mut self, now: Duration, machine: MachineId, event: fmt::Arguments<'_>) {
        self.trace.note(now, &self.names[machine], event);
    }

    /// An event that belongs to no machine.
    pub(crate) fn note_for_all(&mut self, now: Duration, event: fmt::Arguments<'_>) {
        self.trace.note(now, "-", event);
    }

    /// The events, and how much was sent.
    pub(crate) fn trace(&self) -> String {
        format!("{}{} packets and {} bytes were sent\n", self.trace, self.sent, self.bytes)
    }

    pub(crate) fn set_latency(&mut self, latency: Latency) {
        self.latency = latency;
    }

    pub(crate) fn set_latency_between(&mut self, one: MachineId, other: MachineId, latency: Latency) {
        self.latency_between.insert((one, other), latency);
        self.latency_between.insert((other, one), latency);
    }

    pub(crate) fn set_slow(&mut self, machine: MachineId, by: Latency) {
        self.slow.insert(machine, by);
    }

    /// From now on nothing arrives at `to` that comes from `from`. It is held.
    pub(crate) fn cut(&mut self, from: MachineId, to: MachineId) {
        self.cut.insert((from, to));
    }

    /// What was held is sent again.
    pub(crate) fn heal(&mut self, from: MachineId, to: MachineId, now: Duration) {
        if !self.cut.remove(&(from, to)) {
            return;
        }
        for delivery in mem::take(&mut self.held) {
            match self.route_of(delivery) {
                Some(route) if route == (from, to) => self.schedule(delivery, now),
                Some(_) => self.held.push(delivery),
                None => {}
            }
        }
    }

    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Delivers what has arrived by now.
    pub(crate) fn advance(&mut self, now: Duration) {
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now
        {
            let delivery = entry.remove();
            match self.route_of(delivery) {
                Some(route) if self.cut.contains(&route) => self.held.push(delivery),
                Some(_) => self.deliver(delivery, now),
                None => {}
            }
        }
    }

    /// Listens at a port of a machine. Port 0 is a free one.
    pub(crate) fn listen(
        &mut self,
        machine: MachineId,
        port: u16,
        is_loopback: bool,
        now: Duration,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        let port = if port == 0 { self.free_port(machine) } else { port };
        if self.listeners.contains_key(&(machine, port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.last_listener += 1;
        let serial = self.last_listener;
        let listener = PortListener { serial, is_loopback, is_closing: false, waiting: VecDeque::new(), waker: None };
        self.listeners.insert((machine, port), listener);
        self.note(now, machine, format_args!("listens at port {port}"));
        let ip = if is_loopback { Ipv4Addr::LOCALHOST.into() } else { Self::ip(machine) };
        Ok((ListenerId { machine, port, serial }, SocketAddr::new(ip, port)))
    }

    /// The next connection that waits to be accepted. Otherwise `waker` is woken when there is one.
    pub(crate) fn accept(
        &mut self,
        listener: ListenerId,
        waker: Option<&Waker>,
        now: Duration,
    ) -> io::Result<Option<(EndId, SocketAddr)>> {
        let Some(found) = self.listener(listener) else { return Err(io::ErrorKind::NotConnected.into()) };
        let Some(connection) = found.waiting.pop_front() else {
            found.waker = waker.cloned();
            return Ok(None);
        };
        let Some(caller) = self.connections.get(&connection).map(|known| &known.ends[Side::Caller as usize]) else {
            return Err(io::ErrorKind::ConnectionAborted.into());
        };
        let (from, address) = (caller.machine, caller.address);
        let caller = self.names[from].clone();
        self.note(now, listener.machine, format_args!("accepts connection {connection} from {caller}"));
        Ok(Some((EndId { connection, side: Side::Server }, address)))
    }

    /// The port is closed for new connections. Those that wait can still be accepted.
    pub(crate) fn close_port(&mut self, listener: ListenerId) {
        if let Some(found) = self.listener(listener) {
            found.is_closing = true;
        }
    }

    /// Nobody accepts any more.
    pub(crate) fn drop_listener(&mut self, listener: ListenerId, now: Duration) {
        if self.listener(listener).is_none() {
            return;
        }
        let Some(gone) = self.listeners.remove(&(listener.machine, listener.port)) else { return };
        self.note(now, listener.machine, format_args!("closes port {}", listener.port));
        for connection in gone.waiting {
            self.nobody_accepts(connection);
            self.reset(EndId { connection, side: Side::Server }, now);
        }
    }

    /// Starts to connect.
    pub(crate) fn connect(&mut self, from: MachineId, to: SocketAddr, now: Duration) -> io::Result<EndId> {
        let target = match to.ip() {
            ip if ip.is_loopback() => from,
            ip => (0..self.names.len()).find(|machine| Self::ip(*machine) == ip).ok_or_else(|| {
                io::Error::new(io::ErrorKind::HostUnreachable, "no machine of the simulation has this address")
            })?,
        };
        let ip = if to.ip().is_loopback() { to.ip() } else { Self::ip(from) };
        let caller = SocketAddr::new(ip, self.free_port(from));
        self.last_connection += 1;
        let connection = self.last_connection;
        let ends = [ConnectionEnd::new(from, caller), ConnectionEnd::new(target, to)];
        self.connections.insert(connection, Connection { ends });
        let (name, port) = (self.names[target].clone(), to.port());
        self.note(now, from, format_args!("connects to {name}:{port} as connection {connection}"));
        self.send(EndId { connection, side: Side::Caller }, Packet::Connect, now);
        Ok(EndId { connection, side: Side::Caller })
    }

    /// How far a connection of this side is. `waker` is woken when there is more.
    pub(crate) fn connecting(&mut self, end: EndId, waker: &Waker) -> Connecting {
        let Some(own) = self.end(end) else { return Connecting::Failed(io::ErrorKind::ConnectionAborted) };
        match own.failed {
            // A port that is closed answers with a reset.
            Some(io::ErrorKind::ConnectionReset) if !own.is_open => {
                Connecting::Failed(io::ErrorKind::ConnectionRefused)
            }
            Some(kind) => Connecting::Failed(kind),
            None if own.is_open => Connecting::Open,
            None => {
                own.reader = Some(waker.clone());
                Connecting::Waiting
            }
        }
    }

    /// Looks at what can be read: how many bytes, 0 at the end. `None` if nothing has come; then `waker` is woken later.
    pub(crate) fn readable(&mut self, end: EndId, waker: Option<&Waker>) -> io::Result<Option<usize>> {
        let Some(own) = self.end(end) else { return Err(io::ErrorKind::NotConnected.into()) };
        if !own.arrived.is_empty() {
            return Ok(Some(own.arrived.len()));
        }
        if let Some(kind) = own.failed {
            return Err(kind.into());
        }
        if own.is_finished {
            return Ok(Some(0));
        }
        if let Some(waker) = waker {
            own.reader = Some(waker.clone());
        }
        Ok(None)
    }

    /// Takes up to `most` bytes that have arrived.
    pub(crate) fn read(&mut self, end: EndId, most: usize) -> Bytes {
        let Some(own) = self.end(end) else { return Bytes::new() };
        let taken = own.arrived.split_to(most.min(own.arrived.len())).freeze();
        let other = EndId { side: end.side.other(), ..end };
        if let Some(writer) = self.end(other).and_then(|other| other.writer.take()) {
            writer.wake();
        }
        taken
    }

    /// Sends as many bytes as there is room for. `None` if there is none; then `waker` is woken when there is.
    pub(crate) fn write(
        &mut self,
        end: EndId,
        parts: &[io::IoSlice<'_>],
        waker: Option<&Waker>,
        now: Duration,
    ) -> io::Result<Option<usize>> {
        let other = EndId { side: end.side.other(), ..end };
        let Some(own) = self.end(end) else { return Err(io::ErrorKind::NotConnected.into()) };
        if own.failed.is_some() || own.has_finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.end(other).map_or(CAPACITY, |other| other.room());
        if room == 0 {
            if let (Some(own), Some(waker)) = (self.end(end), waker) {
                own.writer = Some(waker.clone());
            }
            return Ok(None);
        }
        let mut piece = BytesMut::new();
        for part in parts {
            let count = part.len().min(room - piece.len());
            piece.extend_from_slice(&part[..count]);
        }
        let count = piece.len();
        if count == 0 {
            return Ok(Some(0));
        }
        self.bytes += count as u64;
        if count > 1 && self.random.u8(..SPLITS) == 0 {
            let first = piece.split_to(self.random.usize(1..count));
            self.send(end, Packet::Data(first.freeze()), now);
        }
        self.send(end, Packet::Data(piece.freeze()), now);
        Ok(Some(count))
    }

    /// This side sends no more bytes.
    pub(crate) fn finish(&mut self, end: EndId, now: Duration) {
        let Some(own) = self.end(end) else { return };
        if own.failed.is_none() && !mem::replace(&mut own.has_finished, true) {
            let machine = own.machine;
            self.note(now, machine, format_args!("closes connection {}", end.connection));
            self.send(end, Packet::Finish, now);
        }
    }

    /// Nobody holds this end any more.
    pub(crate) fn close(&mut self, end: EndId, now: Duration) {
        let Some(own) = self.end(end) else { return };
        own.is_gone = true;
        match () {
            () if own.failed.is_some() => {}
            // The answer to it finds nobody.
            () if !own.is_open => {}
            // As the kernel does if there are bytes that were not read.
            () if !own.arrived.is_empty() => self.reset(end, now),
            () => self.finish(end, now),
        }
        self.forget(end.connection);
    }

    /// The process of a machine has ended: its ports are closed, and its connections are reset.
    pub(crate) fn end_process(&mut self, machine: MachineId, now: Duration) {
        let ports: Vec<_> = self.listeners.keys().filter(|(on, _)| *on == machine).copied().collect();
        for port in ports {
            for connection in self.listeners.remove(&port).into_iter().flat_map(|listener| listener.waiting) {
                self.nobody_accepts(connection);
            }
        }
        let of_machine = |end: &EndId, network: &Self| {
            let end = network.connections.get(&end.connection).map(|known| &known.ends[end.side as usize]);
            end.is_some_and(|end| end.machine == machine && end.failed.is_none())
        };
        let numbers: Vec<_> = self.connections.keys().copied().collect();
        for connection in numbers {
            for side in [Side::Caller, Side::Server] {
                let end = EndId { connection, side };
                if of_machine(&end, self) {
                    self.reset(end, now);
                }
            }
        }
    }

    /// Cuts all connections between two machines. What is on its way is lost, and both sides see a reset.
    pub(crate) fn drop_connections(&mut self, one: MachineId, other: MachineId, now: Duration) {
        let numbers: Vec<_> = self.connections.keys().copied().collect();
        for connection in numbers {
            let Some(known) = self.connections.get_mut(&connection) else { continue };
            let machines = [known.ends[0].machine, known.ends[1].machine];
            if machines != [one, other] && machines != [other, one] {
                continue;
            }
            for end in &mut known.ends {
                end.incoming.clear();
                end.incoming_bytes = 0;
            }
            for side in [Side::Caller, Side::Server] {
                self.send(EndId { connection, side }, Packet::Reset, now);
            }
        }
    }

    /// A connection that waited to be accepted waits in vain.
    fn nobody_accepts(&mut self, connection: u64) {
        if let Some(own) = self.end(EndId { connection, side: Side::Server }) {
            own.is_gone = true;
        }
    }

    /// Ends a connection of this side without a word that could be lost: the other side sees a reset.
    fn reset(&mut self, end: EndId, now: Duration) {
        let Some(own) = self.end(end) else { return };
        if own.failed.is_some() {
            return;
        }
        own.fail(io::ErrorKind::ConnectionAborted);
        let machine = own.machine;
        self.note(now, machine, format_args!("resets connection {}", end.connection));
        self.send(end, Packet::Reset, now);
        self.forget(end.connection);
    }

    /// Sends a packet of this end to the other.
    fn send(&mut self, from: EndId, packet: Packet, now: Duration) {
        let to = EndId { side: from.side.other(), ..from };
        if let Some(end) = self.end(to) {
            if let Packet::Data(data) = &packet {
                end.incoming_bytes += data.len();
            }
            end.incoming.push_back(packet);
            self.schedule(Delivery { connection: to.connection, to: to.side }, now);
        }
    }

    /// Decides when one more packet arrives.
    fn schedule(&mut self, delivery: Delivery, now: Duration) {
        let Some(route) = self.route_of(delivery) else { return };
        let at = now + self.latency(route);
        let Some(end) = self.end(EndId { connection: delivery.connection, side: delivery.to }) else { return };
        end.last_arrival = end.last_arrival.max(at);
        let at = end.last_arrival;
        self.sent += 1;
        self.due.insert((at, self.sent), delivery);
    }

    fn latency(&mut self, (from, to): (MachineId, MachineId)) -> Duration {
        if from == to {
            return Duration::ZERO;
        }
        let mut latency = self.latency_between.get(&(from, to)).unwrap_or(&self.latency).draw(&mut self.random);
        for machine in [from, to] {
            if let Some(slow) = self.slow.get(&machine) {
                latency += slow.draw(&mut self.random);
            }
        }
        latency
    }

    fn deliver(&mut self, Delivery { connection, to }: Delivery, now: Duration) {
        let (end, back) = (EndId { connection, side: to }, EndId { connection, side: to.other() });
        let spoils = self.random.bool();
        let Some(own) = self.end(end) else { return };
        // Those that were on their way are lost.
        let Some(packet) = own.incoming.pop_front() else { return };
        let wakes = match packet {
            Packet::Connect => return self.connected(end, now),
            Packet::Accepted if own.is_gone => return self.reset(end, now),
            Packet::Accepted => {
                own.is_open = true;
                own.reader.take()
            }
            Packet::Data(data) => {
                own.incoming_bytes -= data.len();
                if own.is_gone {
                    if own.failed.is_none() {
                        self.reset(end, now);
                    }
                } else if own.failed.is_none() {
                    own.arrived.extend_from_slice(&data);
                }
                self.end(end).and_then(|own| own.reader.take())
            }
            Packet::Finish => {
                own.is_finished = true;
                own.reader.take()
            }
            Packet::Reset => {
                // A reset may destroy bytes that were not read.
                if spoils {
                    own.arrived.clear();
                }
                if own.failed.is_none() {
                    own.fail(io::ErrorKind::ConnectionReset);
                }
                None
            }
        };
        let writer = self.end(back).filter(|back| back.writer.is_some()).and_then(|back| back.writer.take());
        wakes.into_iter().chain(writer).for_each(Waker::wake);
        self.forget(connection);
    }

    /// A caller has come to the port that it wants.
    fn connected(&mut self, end: EndId, now: Duration) {
        let Some(known) = self.connections.get(&end.connection) else { return };
        let (from, machine) = (known.ends[0].machine, known.ends[1].machine);
        let port = known.ends[1].address.port();
        let listener = self.listeners.get_mut(&(machine, port)).filter(|listener| {
            !listener.is_closing && listener.waiting.len() < BACKLOG && (from == machine || !listener.is_loopback)
        });
        let Some(listener) = listener else {
            self.note(now, machine, format_args!("refuses connection {} at port {port}", end.connection));
            if let Some(own) = self.end(end) {
                (own.is_gone, own.failed) = (true, Some(io::ErrorKind::ConnectionRefused));
            }
            self.send(end, Packet::Reset, now);
            return;
        };
        listener.waiting.push_back(end.connection);
        let waker = listener.waker.take();
        if let Some(own) = self.end(end) {
            own.is_open = true;
        }
        self.send(end, Packet::Accepted, now);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Forgets a connection that nobody holds and nothing travels on.
    fn forget(&mut self, connection: u64) {
        let is_over = |end: &ConnectionEnd| end.is_gone && end.incoming.is_empty();
        if self.connections.get(&connection).is_some_and(|known| known.ends.iter().all(is_over)) {
            self.connections.remove(&connection);
        }
    }

    fn end(&mut self, end: EndId) -> Option<&mut ConnectionEnd> {
        self.connections.get_mut(&end.connection).map(|known| &mut known.ends[end.side as usize])
    }

    fn listener(&mut self, id: ListenerId) -> Option<&mut PortListener> {
        self.listeners.get_mut(&(id.machine, id.port)).filter(|found| found.serial == id.serial)
    }

    /// From which machine to which.
    fn route_of(&self, delivery: Delivery) -> Option<(MachineId, MachineId)> {
        let known = self.connections.get(&delivery.connection)?;
        Some((known.ends[delivery.to.other() as usize].machine, known.ends[delivery.to as usize].machine))
    }

    fn free_port(&mut self, machine: MachineId) -> u16 {
        let port = self.ports.entry(machine).or_insert(FIRST_PORT);
        *port = port.checked_add(1).unwrap_or(FIRST_PORT);
        *port
    }
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Caller => Self::Server,
            Self::Server => Self::Caller,
        }
    }
}

impl ConnectionEnd {
    fn new(machine: MachineId, address: SocketAddr) -> Self {
        Self {
            machine,
            address,
            is_open: false,
            arrived: BytesMut::new(),
            is_finished: false,
            failed: None,
            incoming: VecDeque::new(),
            incoming_bytes: 0,
            last_arrival: Duration::ZERO,
            has_finished: false,
            is_gone: false,
            reader: None,
            writer: None,
        }
    }

    /// How many more bytes may be sent to this end.
    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.incoming_bytes + self.arrived.remaining())
    }

    fn fail(&mut self, kind: io::ErrorKind) {
        self.failed = Some(kind);
        [self.reader.take(), self.writer.take()].into_iter().flatten().for_each(Waker::wake);
    }
}
