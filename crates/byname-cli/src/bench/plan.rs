//! What load is sent: [`Plan`], from the options of the command.

use std::time::Duration;

use byname::Transport;

use super::BenchOptions;
use super::recorder::Window;
use super::schedule::SendTimes;

/// What load is sent, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) load: Load,
    pub(super) warm_up: Duration,
    /// `None` if only the number of calls ends the load.
    pub(super) duration: Option<Duration>,
    pub(super) calls: Option<u64>,
    pub(super) timeout: Duration,
    pub(super) transport: Transport,
    /// All workers together. By frames these are clients, which have one connection to each replica.
    pub(super) connections: usize,
    /// Each has a thread.
    pub(super) workers: usize,
}

/// When a call is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// When another one is answered, so that always this number is in flight.
    Closed { concurrency: usize },
    /// At a fixed rate.
    Open { rate: f64, max_in_flight: usize },
}

const DEFAULT_CONCURRENCY: usize = 32;
const DEFAULT_MAX_IN_FLIGHT: usize = 1024;
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
const DEFAULT_WARM_UP: Duration = Duration::from_secs(1);

impl Plan {
    /// `cpus` is the number of threads that run at once.
    ///
    /// # Errors
    ///
    /// An option that is out of its range, with what to give instead.
    pub(super) fn new(options: &BenchOptions, cpus: usize) -> Result<Self, String> {
        let load = match options.rate {
            Some(rate) => {
                if !rate.is_finite() || rate <= 0.0 || rate > MOST_RATE {
                    return Err(format!("--rate {rate}: expected calls a second, more than 0 and at most {MOST_RATE}"));
                }
                Load::Open { rate, max_in_flight: options.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT) }
            }
            None => Load::Closed { concurrency: options.concurrency.unwrap_or(DEFAULT_CONCURRENCY) },
        };
        let (most, most_option) = match load {
            Load::Closed { concurrency } => (concurrency, "--concurrency"),
            Load::Open { max_in_flight, .. } => (max_in_flight, "--max-in-flight"),
        };
        let counts = [
            (Some(most), most_option),
            (options.connections, "--connections"),
            (options.threads, "--threads"),
            (options.calls.map(|calls| usize::try_from(calls).unwrap_or(usize::MAX)), "--calls"),
        ];
        for (count, option) in counts {
            if count == Some(0) {
                return Err(format!("{option} 0: expected at least 1"));
            }
        }
        for (time, option) in [(options.duration, "--duration"), (options.timeout, "--timeout")] {
            if time.is_some_and(|time| time.is_zero()) {
                return Err(format!("{option} 0: expected a time such as 10s"));
            }
        }
        let transport = if options.http { Transport::Http } else { Transport::Frames };
        let workers = options.threads.unwrap_or(cpus).max(1).min(most);
        // A worker shares no connection with another.
        let workers = options.connections.map_or(workers, |connections| workers.min(connections));
        let connections = options.connections.unwrap_or(match transport {
            Transport::Frames => workers,
            Transport::Http => most,
        });
        let duration = options.duration.or(options.calls.is_none().then_some(DEFAULT_DURATION));
        // With a number of calls the user may mean just these.
        let warm_up = if options.calls.is_some() { Duration::ZERO } else { DEFAULT_WARM_UP };
        Ok(Self {
            load,
            warm_up: options.warm_up.unwrap_or(warm_up),
            duration,
            calls: options.calls,
            timeout: options.timeout.unwrap_or(DEFAULT_TIMEOUT),
            transport,
            connections,
            workers,
        })
    }

    /// What is measured of the load.
    pub(super) fn window(&self) -> Window {
        let length = match (self.load, self.calls) {
            (Load::Open { rate, .. }, Some(calls)) => {
                let times = SendTimes::new(rate, 0, 1);
                let first = times.index_at(self.warm_up);
                let length = times.at(first.saturating_add(calls)).saturating_sub(self.warm_up);
                Some(self.duration.map_or(length, |duration| duration.min(length)))
            }
            _ => self.duration,
        };
        Window::new(self.warm_up, length)
    }

    /// How many calls a closed loop sends in the window. The number of an open loop follows from its times.
    pub(super) fn call_budget(&self) -> Option<u64> {
        self.calls.filter(|_| matches!(self.load, Load::Closed { .. }))
    }

    pub(super) fn has_schedule(&self) -> bool {
        matches!(self.load, Load::Open { .. })
    }

    /// How many calls this worker has in flight at most.
    pub(super) fn in_flight_of(&self, worker: usize) -> usize {
        match self.load {
            Load::Closed { concurrency } => share(concurrency, worker, self.workers),
            Load::Open { max_in_flight, .. } => share(max_in_flight, worker, self.workers),
        }
    }

    /// How many connections this worker has at most.
    pub(super) fn connections_of(&self, worker: usize) -> usize {
        share(self.connections, worker, self.workers)
    }
}

/// That of [`byname::Limits::call`].
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Intended times are counted in nanoseconds.
const MOST_RATE: f64 = 1e8;

fn share(whole: usize, worker: usize, workers: usize) -> usize {
    whole / workers + usize::from(worker < whole % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(options: BenchOptions) -> Plan {
        Plan::new(&options, 4).unwrap()
    }

    #[test]
    fn the_defaults_are_a_closed_loop_by_frames() {
        let plan = plan(BenchOptions::default());
        assert_eq!(plan.load, Load::Closed { concurrency: 32 });
        assert_eq!((plan.warm_up, plan.duration), (Duration::from_secs(1), Some(Duration::from_secs(10))));
        assert_eq!((plan.transport, plan.connections, plan.workers), (Transport::Frames, 4, 4));
    }

    #[test]
    fn all_in_flight_and_all_connections_are_shared() {
        let plan = plan(BenchOptions { concurrency: Some(10), http: true, ..BenchOptions::default() });
        assert_eq!((0..4).map(|worker| plan.in_flight_of(worker)).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!((0..4).map(|worker| plan.connections_of(worker)).sum::<usize>(), 10);
    }

    #[test]
    fn a_worker_has_a_call_and_a_connection_at_least() {
        assert_eq!(plan(BenchOptions { concurrency: Some(3), ..BenchOptions::default() }).workers, 3);
        assert_eq!(plan(BenchOptions { connections: Some(1), ..BenchOptions::default() }).workers, 1);
    }

    #[test]
    fn a_number_of_calls_has_no_warm_up_and_no_end() {
        let plan = plan(BenchOptions { calls: Some(100), ..BenchOptions::default() });
        assert_eq!((plan.warm_up, plan.duration, plan.call_budget()), (Duration::ZERO, None, Some(100)));
        assert!(plan.window().until() > Duration::from_secs(1 << 30));
    }

    #[test]
    fn an_open_loop_of_some_calls_ends_before_the_next() {
        let second = Some(Duration::from_secs(1));
        let options = BenchOptions { calls: Some(50), rate: Some(100.0), warm_up: second, ..BenchOptions::default() };
        let plan = plan(options.clone());
        assert_eq!((plan.window().until(), plan.call_budget()), (Duration::from_millis(1_500), None));
        let shorter = Plan::new(&BenchOptions { duration: Some(Duration::from_millis(7)), ..options }, 4).unwrap();
        assert_eq!(shorter.window().until(), Duration::from_millis(1_007));
    }

    #[test]
    fn options_out_of_range_are_errors() {
        let why = |options: BenchOptions| Plan::new(&options, 4).unwrap_err();
        let zero = BenchOptions { concurrency: Some(0), ..BenchOptions::default() };
        assert_eq!(why(zero), "--concurrency 0: expected at least 1");
        let negative = BenchOptions { rate: Some(-1.0), ..BenchOptions::default() };
        assert_eq!(why(negative), "--rate -1: expected calls a second, more than 0 and at most 100000000");
        let no_time = BenchOptions { duration: Some(Duration::ZERO), ..BenchOptions::default() };
        assert_eq!(why(no_time), "--duration 0: expected a time such as 10s");
    }
}
