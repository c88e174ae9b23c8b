//! What the server does for a call: the same code for all peers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::machine::thread_cpu;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Function {
    /// Takes CPU time, in one poll
    Cpu,
    /// Takes CPU time, on a thread for blocking code
    Blocking,
    /// Waits 20 ms on a timer, as for a database
    Wait,
    /// Half of the CPU time, a wait of 20 ms, the other half
    Mixed,
}

const WAIT: Duration = Duration::from_millis(20);

/// The function of a server, and how often it ran.
pub struct Work {
    function: Function,
    cpu: Duration,
    ran: AtomicU64,
}

impl Work {
    pub fn new(function: Function, cpu: Duration) -> Self {
        Self { function, cpu, ran: AtomicU64::new(0) }
    }

    pub async fn run(&self, number: u64) -> u64 {
        self.ran.fetch_add(1, Ordering::Relaxed);
        let cpu = self.cpu;
        match self.function {
            Function::Cpu => burn(cpu),
            Function::Blocking => spawn_blocking(move || burn(cpu)).await.expect("burning does not panic"),
            Function::Wait => sleep(WAIT).await,
            Function::Mixed => {
                burn(cpu / 2);
                sleep(WAIT).await;
                burn(cpu / 2);
            }
        }
        number
    }

    /// How often the function began.
    pub fn ran(&self) -> u64 {
        self.ran.load(Ordering::Relaxed)
    }
}

/// Takes this CPU time of the thread. What other threads and the host take of the CPU meanwhile does not count.
fn burn(cpu: Duration) {
    let now = || thread_cpu().expect("every thread has a clock of its CPU time");
    let end = now() + cpu;
    while now() < end {}
}

impl Function {
    /// How the program takes its name.
    pub fn argument(self) -> String {
        self.to_possible_value().expect("no function is hidden").get_name().to_owned()
    }

    pub fn describe(self, cpu: Duration) -> String {
        match self {
            Self::Cpu => format!("of {cpu:?} CPU"),
            Self::Blocking => format!("of {cpu:?} CPU on a thread for blocking code"),
            Self::Wait => format!("that waits {WAIT:?}"),
            Self::Mixed => format!("of {cpu:?} CPU that waits {WAIT:?} in between"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_takes_the_cpu_time() {
        let before = thread_cpu().unwrap();
        burn(Duration::from_millis(2));
        assert!(thread_cpu().unwrap() - before >= Duration::from_millis(2));
    }

    #[tokio::test]
    async fn the_function_answers_with_its_number_and_counts() {
        for function in Function::value_variants() {
            let work = Work::new(*function, Duration::from_micros(10));
            assert_eq!((work.run(7).await, work.ran()), (7, 1));
        }
    }
}
