//! What is asked of the operating system.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::utsname::uname;
use nix::time::ClockId;
use nix::unistd::Pid;
use procfs::net::TcpState;
use procfs::process::Process;
use procfs::{CpuInfo, Current, CurrentSI, KernelStats};
use tokio::runtime::{Builder, Runtime};

/// What each side of a measurement runs on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threads {
    /// tokio's current-thread runtime, on a CPU of its own.
    One,
    /// tokio's multi-threaded runtime with this many worker threads, on a CPU of its own.
    OnOneCpu(usize),
    /// The same, on the first CPUs of the machine, as many as there are threads. The other side shares them.
    OnSharedCpus(usize),
}

/// What a side runs on whose CPU is this one.
pub fn side(cpu: usize, threads: Threads) -> Result<Runtime> {
    let mut cpus = CpuSet::new();
    match threads {
        Threads::One | Threads::OnOneCpu(_) => cpus.set(cpu)?,
        Threads::OnSharedCpus(threads) => (0..threads).try_for_each(|cpu| cpus.set(cpu))?,
    }
    sched_setaffinity(Pid::this(), &cpus).with_context(|| format!("cannot run {threads:?}, by itself on CPU {cpu}"))?;
    match threads {
        Threads::One => runtime(),
        Threads::OnOneCpu(threads) | Threads::OnSharedCpus(threads) => {
            Ok(Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
        }
    }
}

/// Lets this process open as many files as it may at all.
pub fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// The memory of a process that is in RAM, in bytes.
pub fn resident(process: Pid) -> Result<u64> {
    let status = Process::new(process.as_raw())?.status()?;
    let kib = status.vmrss.context("the kernel doesn't say how much memory a process has")?;
    Ok(kib * 1024)
}

/// A runtime of one thread.
pub fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The CPU time of all threads of a process, in user space and in the kernel, from now on.
///
/// Unlike `/proc/<pid>/stat` the clock counts nanoseconds, and unlike `getrusage` it can be read
/// for another process.
pub struct CpuTime {
    clock: ClockId,
    start: Duration,
}

impl CpuTime {
    pub fn of(process: Pid) -> Result<Self> {
        let clock = ClockId::pid_cpu_clock_id(process)
            .with_context(|| format!("cannot read the CPU time of process {process}"))?;
        let start = clock.now()?.into();
        Ok(CpuTime { clock, start })
    }

    pub fn elapsed(&self) -> Result<Duration> {
        Ok(Duration::from(self.clock.now()?).saturating_sub(self.start))
    }
}

/// The CPU time of the whole machine from now on, whoever took it: processes, the kernel, the host of a virtual machine.
pub struct Busy {
    start: f64,
}

impl Busy {
    pub fn now() -> Result<Self> {
        Ok(Busy { start: busy_seconds()? })
    }

    pub fn elapsed(&self) -> Result<Duration> {
        Ok(Duration::try_from_secs_f64((busy_seconds()? - self.start).max(0.0))?)
    }
}

fn busy_seconds() -> Result<f64> {
    let cpus = KernelStats::current()?.total;
    let steal = cpus.steal.unwrap_or(0);
    let interrupts = cpus.irq.unwrap_or(0) + cpus.softirq.unwrap_or(0);
    let ticks = cpus.user + cpus.nice + cpus.system + interrupts + steal;
    Ok(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// The connections in TIME_WAIT that have this address at either end.
pub fn time_wait(address: SocketAddr) -> Result<HashSet<[SocketAddr; 2]>> {
    Ok(connections(address)?.time_wait)
}

/// The same, once all other connections of this address are gone: the side that ends last may need a moment.
pub fn time_wait_at_rest(address: SocketAddr) -> Result<HashSet<[SocketAddr; 2]>> {
    let began = Instant::now();
    loop {
        let connections = connections(address)?;
        if connections.open == 0 {
            return Ok(connections.time_wait);
        }
        let open = connections.open;
        ensure!(began.elapsed() < Duration::from_secs(10), "{open} ends of connections to {address} stay open");
        sleep(Duration::from_millis(5));
    }
}

struct Connections {
    time_wait: HashSet<[SocketAddr; 2]>,
    /// Ends that wait for something else.
    open: usize,
}

fn connections(address: SocketAddr) -> Result<Connections> {
    let mut connections = Connections { time_wait: HashSet::new(), open: 0 };
    for socket in procfs::net::tcp()? {
        let ends = [socket.local_address, socket.remote_address];
        match socket.state {
            _ if !ends.contains(&address) => {}
            TcpState::Listen => {}
            TcpState::TimeWait => {
                connections.time_wait.insert(ends);
            }
            _ => connections.open += 1,
        }
    }
    Ok(connections)
}

/// When, where and by which compiler's code it was measured, a line for each.
pub fn describe() -> Result<String> {
    let cpus = CpuInfo::current()?;
    let system = uname()?;
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    Ok(format!(
        "date:    {}\nmachine: {}, {} cores\nkernel:  {} {}, TCP {}\nrustc:   {}",
        httpdate::fmt_http_date(SystemTime::now()),
        cpus.model_name(0).unwrap_or("unknown"),
        cpus.num_cores(),
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        congestion.trim(),
        env!("BENCH_RUSTC"),
    ))
}

/// The commit that is checked out, where there is one.
pub fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    (!name.is_empty()).then(|| name.trim().to_owned())
}
