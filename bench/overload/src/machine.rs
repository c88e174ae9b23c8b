//! What is asked of the operating system.

use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::utsname::uname;
use nix::time::ClockId;
use nix::unistd::{Pid, setsid};
use procfs::{CpuInfo, Current, CurrentSI, KernelStats};

pub const LOADER_CPU: usize = 0;
pub const SERVER_CPU: usize = 1;

/// Lets this thread, and those that it starts, run on this CPU only.
pub fn pin(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)
        .with_context(|| format!("cannot run on CPU {cpu}; the loader and the server need a CPU each, 0 and 1"))
}

/// Begins a session. Linux shares out CPU time between sessions, and what a session may have of one CPU becomes less with what
/// it wants of another: a server with many threads would take CPU time from the loader.
pub fn leave_session() {
    // It fails where this is the first process of a session or a group, as when a shell has started it.
    let _ = setsid();
}

/// Lets this process open as many files as it may at all.
pub fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// The CPU time of all threads of this process.
pub fn process_cpu() -> Result<Duration> {
    Ok(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into())
}

/// The CPU time of this thread. It stands still while another thread has the CPU.
pub fn thread_cpu() -> Result<Duration> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.into())
}

/// The time since the machine's start in which a CPU was not idle, whatever took it: processes, the kernel, the host of a virtual
/// machine.
pub fn busy(cpu: usize) -> Result<Duration> {
    let stats = KernelStats::current()?;
    let times = stats.cpu_time.get(cpu).with_context(|| format!("the kernel says nothing about CPU {cpu}"))?;
    let interrupts = times.irq.unwrap_or(0) + times.softirq.unwrap_or(0);
    let ticks = times.user + times.nice + times.system + interrupts + times.steal.unwrap_or(0);
    Ok(Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64))
}

/// When, where and by which compiler's code it was measured, a line for each.
pub fn describe() -> Result<String> {
    let cpus = CpuInfo::current()?;
    let system = uname()?;
    Ok(format!(
        "date:    {}\nmachine: {}, {} cores\nkernel:  {} {}\nrustc:   {}",
        httpdate::fmt_http_date(SystemTime::now()),
        cpus.model_name(0).unwrap_or("unknown"),
        cpus.num_cores(),
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        env!("BENCH_RUSTC"),
    ))
}

/// The commit that is checked out, where there is one.
pub fn commit() -> Option<String> {
    let git = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]).output();
    let name = String::from_utf8(git.ok()?.stdout).ok()?;
    (!name.is_empty()).then(|| name.trim().to_owned())
}
