//! What is to be seen in a run.

use crate::candidates::Admission;
use crate::limit_rules::TARGET;
use crate::round_shares::ArrivedCall;
use crate::server::{self, Ended, MICRO, MILLI, Outcome, SECOND, Scenario, Time};

/// When the load rises, from when on it counts as steady, when it falls, and the end.
pub const RISE: Time = SECOND;
const STEADY: Time = 2 * SECOND;
pub const FALL: Time = 4 * SECOND;
pub const END: Time = 6 * SECOND;

/// The length of the pieces in which [`Figures::met`] is measured.
const PIECE: Time = SECOND / 5;

pub struct Figures {
    /// Answers within their deadline in the steady state, as a percentage of what the server can run.
    pub good: f64,
    /// Of the calls that ended then, in percent.
    pub refused: f64,
    /// Latencies of the calls that were answered, in milliseconds.
    pub p50: f64,
    pub p99: f64,
    /// From the rise to the end of the last piece in which half of the admitted calls waited for too long, in seconds: for
    /// twice the target, or twice the longest poll of the function. The wait begins when the call comes to the socket.
    pub met: f64,
    /// From the fall to the last refusal, in seconds.
    pub ended: f64,
}

impl Figures {
    pub fn of(scenario: &Scenario, admission: Box<dyn Admission>, seed: u64, prints: bool) -> Self {
        let run = server::run(scenario, admission, seed);
        if prints {
            print(&run);
        }
        let latencies = latencies(&run);
        Self {
            good: good(&run, scenario),
            refused: refused(&run),
            p50: quantile(&latencies, 0.5),
            p99: quantile(&latencies, 0.99),
            met: met(&run, scenario),
            ended: ended(&run),
        }
    }
}

/// Of the calls that come in the steady state and are chosen, how many are answered within their deadline, in percent of
/// `wanted` calls a second, or of all that come.
pub fn served(
    run: &[Outcome],
    scenario: &Scenario,
    wanted: Option<f64>,
    is_chosen: impl Fn(ArrivedCall) -> bool,
) -> f64 {
    let came = run.iter().filter(|one| (STEADY..FALL).contains(&one.came) && is_chosen(one.call));
    let (mut all, mut answered) = (0, 0);
    for one in came {
        all += 1;
        answered += u32::from(one.what == Ended::Answered && one.ended - one.came <= scenario.deadline);
    }
    let seconds = (FALL - STEADY) as f64 / SECOND as f64;
    100.0 * f64::from(answered) / wanted.map_or(f64::from(all), |wanted| wanted * seconds)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    sorted.get((sorted.len() as f64 * quantile) as usize).copied().unwrap_or(f64::NAN)
}

fn good(run: &[Outcome], scenario: &Scenario) -> f64 {
    let is_good = |one: &&Outcome| {
        one.what == Ended::Answered && one.ended - one.came <= scenario.deadline && (STEADY..FALL).contains(&one.ended)
    };
    let seconds = (FALL - STEADY) as f64 / SECOND as f64;
    100.0 * run.iter().filter(is_good).count() as f64 / (scenario.capacity() * seconds)
}

fn refused(run: &[Outcome]) -> f64 {
    let (mut all, mut refused) = (0, 0);
    for one in run.iter().filter(|one| (STEADY..FALL).contains(&one.ended)) {
        all += 1;
        refused += u32::from(one.what == Ended::Refused);
    }
    100.0 * f64::from(refused) / f64::from(all)
}

fn latencies(run: &[Outcome]) -> Vec<f64> {
    let answered = run.iter().filter(|one| one.what == Ended::Answered && (STEADY..FALL).contains(&one.ended));
    let mut all: Vec<f64> = answered.map(|one| (one.ended - one.came) as f64 / MILLI as f64).collect();
    all.sort_unstable_by(f64::total_cmp);
    all
}

fn met(run: &[Outcome], scenario: &Scenario) -> f64 {
    let longest = 2 * TARGET.max(scenario.function.longest_poll());
    let mut waits = vec![Vec::new(); ((FALL - RISE) / PIECE) as usize];
    for one in run.iter().filter(|one| one.what == Ended::Answered) {
        let started = one.came + one.waited;
        if (RISE..FALL).contains(&started) {
            waits[((started - RISE) / PIECE) as usize].push(one.waited);
        }
    }
    let is_late = |waits: &mut Vec<Time>| {
        waits.sort_unstable();
        waits.get(waits.len() / 2).is_some_and(|median| *median > longest)
    };
    let last = waits.iter_mut().rposition(is_late);
    last.map_or(0.0, |at| (at as u64 + 1) as f64 * PIECE as f64 / SECOND as f64)
}

fn ended(run: &[Outcome]) -> f64 {
    let last = run.iter().filter(|one| one.what == Ended::Refused && one.ended > FALL).map(|one| one.ended).max();
    last.map_or(0.0, |at| (at - FALL) as f64 / SECOND as f64)
}

fn print(run: &[Outcome]) {
    let tenth = SECOND / 10;
    for start in (0..END / tenth).map(|at| at * tenth) {
        let ended: Vec<_> = run.iter().filter(|one| (start..start + tenth).contains(&one.ended)).collect();
        let [answered, refused, late] = [Ended::Answered, Ended::Refused, Ended::Late].map(|what| {
            let mut waits: Vec<_> = ended.iter().filter(|one| one.what == what).map(|one| one.waited).collect();
            waits.sort_unstable();
            let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
            format!("{:>6} after {:>7} µs", waits.len(), median / MICRO)
        });
        println!("{:>4} ms: answered {answered}, refused {refused}, late {late}", start / MILLI);
    }
}
