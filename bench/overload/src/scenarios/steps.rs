//! Loads from half of the capacity to fifty times the capacity, and what a refused call costs.

use std::time::Duration;

use anyhow::Result;

use super::{Loaded, Tested};
use crate::calls::{Calls, Ended};
use crate::server::Usage;
use crate::tables::{self, figure, percent};
use crate::{Options, Scenario, plots};

/// What was seen of a peer at one load, in the time that is counted.
pub struct Step {
    pub peer: &'static str,
    pub load: f64,
    pub capacity: f64,
    cpu_of_call: Duration,
    seconds: f64,
    calls: Calls,
    usage: Usage,
}

/// At or below this load the server has time for every call.
const IDLE: f64 = 0.5;

/// A share of unsent calls above which the loader has not kept the rate.
const UNSENT_PERCENT: f64 = 1.0;

pub async fn run(tested: &[Tested], options: &Options) -> Result<()> {
    let highest = options.loads.iter().copied().fold(0.0, f64::max);
    let loads = if options.has(Scenario::Steps) { options.loads.clone() } else { vec![highest] };
    let mut steps = Vec::new();
    // All peers with one load, then with the next: what disturbs the machine for a while disturbs all of them.
    for load in loads {
        for tested in tested {
            let loaded = tested.load(load, options).await?;
            steps.push(Step::new(tested, load, loaded, options));
            eprintln!("{} at {load} times its capacity is done", tested.peer.name());
        }
    }
    let of = |tested: &Tested| steps.iter().filter(|step| step.peer == tested.peer.name()).collect::<Vec<_>>();
    if options.has(Scenario::Steps) {
        let header = [
            "peer",
            "load",
            "calls/s",
            "good/s",
            "of capacity %",
            "of peak %",
            "p50 ms",
            "p99 ms",
            "of idle",
            "late/s",
            "refused/s",
            "held back/s",
            "failed/s",
            "in vain/s",
            "CPU %",
            "others' CPU %",
            "sent late, p99 ms",
            "unsent %",
        ];
        let rows = tested.iter().flat_map(|tested| rows(&of(tested)));
        tables::print("Loads, as multiples of the capacity", header, rows);
        if let Some(directory) = &options.plots {
            for file in plots::draw(&steps, directory)? {
                eprintln!("{} is drawn", file.display());
            }
        }
    }
    if options.has(Scenario::Cost) {
        let title = format!("The server's CPU time of a call, at {highest} times the capacity");
        let header = ["peer", "capacity, calls/s", "served µs", "refused/s", "refused µs", "of a served one %"];
        let at_highest = |tested| of(tested).into_iter().find(|step| step.load == highest);
        tables::print(&title, header, tested.iter().filter_map(at_highest).map(Step::cost_row));
    }
    Ok(())
}

/// The rows of one peer.
fn rows(steps: &[&Step]) -> Vec<[String; 18]> {
    let peak = steps.iter().map(|step| step.good_a_second()).fold(0.0, f64::max);
    let idle = steps.iter().find(|step| step.load <= IDLE).and_then(|step| step.p99());
    steps.iter().map(|step| step.row(peak, idle)).collect()
}

impl Step {
    fn new(tested: &Tested, load: f64, loaded: Loaded, options: &Options) -> Self {
        Self {
            peer: tested.peer.name(),
            load,
            capacity: tested.capacity,
            cpu_of_call: tested.cpu_of_call,
            seconds: (options.length() - options.warm_up()).as_secs_f64(),
            calls: loaded.calls.within(options.warm_up()..options.length()),
            usage: loaded.usage,
        }
    }

    pub fn good_a_second(&self) -> f64 {
        self.a_second(Ended::Good)
    }

    /// Of the calls that were answered in time, in milliseconds.
    pub fn p99(&self) -> Option<f64> {
        self.calls.latency(0.99)
    }

    fn a_second(&self, ended: Ended) -> f64 {
        self.calls.ended(ended) as f64 / self.seconds
    }

    fn row(&self, peak: f64, idle: Option<f64>) -> [String; 18] {
        let good = self.good_a_second();
        let of_idle = self.p99().zip(idle).map(|(p99, idle)| p99 / idle);
        let in_vain = (self.usage.ran as f64 / self.seconds - good).max(0.0);
        let unsent = percent(self.calls.ended(Ended::Unsent) as f64, self.calls.count() as f64).unwrap_or_default();
        let behind = if unsent > UNSENT_PERCENT { " (rate not kept)" } else { "" };
        [
            self.peer.to_owned(),
            self.load.to_string(),
            format!("{:.0}", self.calls.made() as f64 / self.seconds),
            format!("{good:.0}"),
            figure(percent(good, self.capacity), 1),
            figure(percent(good, peak), 1),
            figure(self.calls.latency(0.5), 1),
            figure(self.p99(), 1),
            figure(of_idle, 1),
            format!("{:.0}", self.a_second(Ended::Late)),
            format!("{:.0}", self.a_second(Ended::Refused)),
            format!("{:.0}", self.a_second(Ended::HeldBack)),
            format!("{:.0}", self.a_second(Ended::Failed)),
            format!("{in_vain:.0}"),
            format!("{:.0}", self.usage.cpu.as_secs_f64() * 100.0 / self.seconds),
            format!("{:.0}", self.usage.others_percent(self.seconds)),
            figure(self.calls.send_delay(0.99), 1),
            format!("{unsent:.1}{behind}"),
        ]
    }

    fn cost_row(&self) -> [String; 6] {
        let served = self.cpu_of_call.as_secs_f64() * 1e6;
        let refused = self.calls.ended(Ended::Refused);
        let cost = cost_of_refusal(self.usage, self.cpu_of_call, refused, self.calls.ended(Ended::Late));
        [
            self.peer.to_owned(),
            format!("{:.0}", self.capacity),
            format!("{served:.0}"),
            format!("{:.0}", self.a_second(Ended::Refused)),
            figure(cost, 1),
            figure(cost.and_then(|cost| percent(cost, served)), 1),
        ]
    }
}

/// The fewest refusals that give a figure.
const FEWEST: usize = 100;

/// In microseconds: what the functions that ran did not take, shared out among the refused calls. It also has what the requests
/// of late calls took, so there is no figure where more calls are late than refused.
fn cost_of_refusal(usage: Usage, cpu_of_call: Duration, refused: usize, late: usize) -> Option<f64> {
    let rest = usage.cpu.as_secs_f64() - usage.ran as f64 * cpu_of_call.as_secs_f64();
    (refused >= FEWEST.max(late)).then(|| rest * 1e6 / refused as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Call;

    #[test]
    fn a_refused_call_costs_what_the_others_leave() {
        let usage = Usage::of(800, Duration::from_millis(1000));
        assert_eq!(cost_of_refusal(usage, Duration::from_millis(1), 2000, 2000).map(f64::round), Some(100.0));
        assert_eq!(cost_of_refusal(usage, Duration::from_millis(1), 2000, 2001), None);
        assert_eq!(cost_of_refusal(usage, Duration::from_millis(1), FEWEST - 1, 0), None);
    }

    #[test]
    fn shares_are_of_the_capacity_the_peak_and_the_idle_server() {
        let call = |at, took, ended| {
            let [at, took] = [at, took].map(Duration::from_millis);
            Call { at, caller: 0, send_delay: Duration::ZERO, took, ended }
        };
        let step = |load, good: u64, took| {
            let mut calls: Vec<_> = (0..good).map(|at| call(at, took, Ended::Good)).collect();
            calls.push(call(0, 1, Ended::Refused));
            let usage = Usage::of(good + 10, Duration::from_millis(500));
            let cpu_of_call = Duration::from_millis(1);
            Step { peer: "peer", load, capacity: 100.0, cpu_of_call, seconds: 1.0, calls: Calls(calls), usage }
        };
        let steps = [step(0.5, 50, 2), step(1.0, 100, 4), step(10.0, 90, 6)];
        let rows = rows(&steps.iter().collect::<Vec<_>>());
        assert_eq!(rows[2][1..6], ["10", "91", "90", "90.0", "90.0"]);
        assert_eq!(rows[2][8], "3.0");
        assert_eq!(rows[2][10..15], ["1", "0", "0", "10", "50"]);
    }
}
