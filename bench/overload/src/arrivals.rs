//! When calls are to be sent. It does not depend on the answers: an open loop. Pure.

use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;

/// How the intended send times lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// At equal distances
    Even,
    /// At random, independent of each other
    Poisson,
}

/// A load that stays the same for some time.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    pub length: Duration,
    /// Calls a second.
    pub rate: f64,
}

/// A call that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// The intended send time, from the start of the load.
    pub at: Duration,
    /// Which of the callers makes it.
    pub caller: usize,
}

/// The intended send times of one caller, in their order.
pub fn times(arrivals: Arrivals, seed: u64, phases: &[Phase]) -> Vec<Duration> {
    let mut random = Rng::with_seed(seed);
    let mut times = Vec::new();
    let mut start = Duration::ZERO;
    for phase in phases {
        let mut at = 0.0;
        loop {
            at += match arrivals {
                Arrivals::Even => 1.0,
                // 1 minus the random number is above zero.
                Arrivals::Poisson => -(1.0 - random.f64()).ln(),
            } / phase.rate;
            if at > phase.length.as_secs_f64() {
                break;
            }
            times.push(start + Duration::from_secs_f64(at));
        }
        start += phase.length;
    }
    times
}

/// The calls of all callers, in their order.
pub fn plan(callers: &[Vec<Duration>]) -> Vec<Planned> {
    let of = |(caller, times): (usize, &Vec<Duration>)| {
        times.iter().map(|at| Planned { at: *at, caller }).collect::<Vec<_>>()
    };
    let mut plan: Vec<Planned> = callers.iter().enumerate().flat_map(of).collect();
    plan.sort_by_key(|planned| planned.at);
    plan
}

impl Arrivals {
    pub fn name(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Poisson => "Poisson",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(seconds: u64, rate: f64) -> Phase {
        Phase { length: Duration::from_secs(seconds), rate }
    }

    #[test]
    fn even_calls_have_equal_distances() {
        let times = times(Arrivals::Even, 1, &[phase(1, 4.0)]);
        assert_eq!(times, [250, 500, 750, 1000].map(Duration::from_millis));
    }

    #[test]
    fn a_phase_begins_where_the_last_one_ends() {
        let times = times(Arrivals::Poisson, 1, &[phase(2, 10_000.0), phase(3, 1_000.0)]);
        assert!(times.is_sorted());
        let (first, second) = times.split_at(times.partition_point(|at| *at < Duration::from_secs(2)));
        // Five times the standard deviation.
        assert!((19_300..=20_700).contains(&first.len()), "{}", first.len());
        assert!((2_720..=3_280).contains(&second.len()), "{}", second.len());
        assert!(times.last().is_some_and(|at| *at <= Duration::from_secs(5)));
    }

    #[test]
    fn a_seed_gives_the_same_times_again() {
        let of = |seed| times(Arrivals::Poisson, seed, &[phase(1, 100.0)]);
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }

    #[test]
    fn the_calls_of_callers_are_merged() {
        let [one, two, three] = [1, 2, 3].map(Duration::from_millis);
        let planned = plan(&[vec![one, three], vec![two]]);
        let expected = [(one, 0), (two, 1), (three, 0)].map(|(at, caller)| Planned { at, caller });
        assert_eq!(planned, expected);
    }
}
