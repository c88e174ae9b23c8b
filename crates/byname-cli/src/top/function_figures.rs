//! The figures of a function in a window: [`FunctionFigures`].

use std::collections::BTreeMap;

use super::latency_window::LatencyWindow;
use super::server_watch::a_second;
use super::stats_reply::FunctionCounters;

/// The code of a call whose caller went away. A client with hedging drops the slower of two attempts, and that attempt ends with
/// this code. The function has not failed.
pub(crate) const CANCELLED: &str = "cancelled";

/// What a function did in a window. Those of several servers can be added.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FunctionFigures {
    pub(crate) name: String,
    /// The calls that ended in the window. `None` before the second reply.
    pub(crate) calls: Option<u64>,
    calls_per_second: f64,
    /// Without the calls whose caller went away.
    pub(crate) errors: u64,
    pub(crate) errors_per_second: f64,
    pub(crate) cancelled_per_second: f64,
    /// Only codes that occurred in the window, with [`CANCELLED`].
    pub(crate) codes: BTreeMap<String, u64>,
    pub(crate) shed_per_second: f64,
    pub(crate) retries_per_second: f64,
    pub(crate) hedges_per_second: f64,
    pub(crate) latency: LatencyWindow,
    /// Now.
    pub(crate) in_flight: u64,
    /// The calls that ended since the start.
    pub(crate) total_calls: u64,
    /// Calls a second in each of the last intervals, oldest first.
    pub(crate) trend: Vec<f64>,
}

impl FunctionFigures {
    /// `earlier` is `None` if there is no window yet.
    pub(crate) fn between(earlier: Option<&FunctionCounters>, later: &FunctionCounters, elapsed_ms: u64) -> Self {
        let mut figures =
            Self { name: later.name.clone(), in_flight: later.in_flight, total_calls: later.calls, ..Self::default() };
        let Some(earlier) = earlier else {
            return figures;
        };
        let calls = later.calls.saturating_sub(earlier.calls);
        for (code, &count) in &later.errors {
            let count = count.saturating_sub(earlier.errors.get(code).copied().unwrap_or(0));
            if count > 0 {
                match code.as_str() {
                    CANCELLED => figures.cancelled_per_second = a_second(count, elapsed_ms),
                    _ => figures.errors = figures.errors.saturating_add(count),
                }
                figures.codes.insert(code.clone(), count);
            }
        }
        let rate = |later: u64, earlier: u64| a_second(later.saturating_sub(earlier), elapsed_ms);
        figures.calls = Some(calls);
        figures.calls_per_second = a_second(calls, elapsed_ms);
        figures.errors_per_second = a_second(figures.errors, elapsed_ms);
        figures.shed_per_second = rate(later.shed, earlier.shed);
        figures.retries_per_second = rate(later.retries, earlier.retries);
        figures.hedges_per_second = rate(later.hedges, earlier.hedges);
        figures.latency = LatencyWindow::between(&earlier.latency, &later.latency);
        figures
    }

    /// Adds what the function, or another one, did at the same time.
    pub(crate) fn add(&mut self, other: &Self) {
        if let Some(calls) = other.calls {
            self.calls = Some(self.calls.unwrap_or(0).saturating_add(calls));
        }
        self.calls_per_second += other.calls_per_second;
        self.errors = self.errors.saturating_add(other.errors);
        self.errors_per_second += other.errors_per_second;
        self.cancelled_per_second += other.cancelled_per_second;
        for (code, &count) in &other.codes {
            let of = self.codes.entry(code.clone()).or_default();
            *of = of.saturating_add(count);
        }
        self.shed_per_second += other.shed_per_second;
        self.retries_per_second += other.retries_per_second;
        self.hedges_per_second += other.hedges_per_second;
        self.latency.add(&other.latency);
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.total_calls = self.total_calls.saturating_add(other.total_calls);
        // The last intervals are the same ones.
        let missing = other.trend.len().saturating_sub(self.trend.len());
        self.trend.splice(0..0, std::iter::repeat_n(0.0, missing));
        let offset = self.trend.len() - other.trend.len();
        for (sum, rate) in self.trend[offset..].iter_mut().zip(&other.trend) {
            *sum += rate;
        }
    }

    /// `None` before the second reply.
    pub(crate) fn calls_per_second(&self) -> Option<f64> {
        self.calls.map(|_| self.calls_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_went_away_is_no_error() {
        let counters = |cancelled, internal| FunctionCounters {
            calls: cancelled + internal,
            errors: BTreeMap::from([(CANCELLED.to_owned(), cancelled), ("internal".to_owned(), internal)]),
            ..FunctionCounters::default()
        };
        let mut figures = FunctionFigures::between(Some(&counters(1, 1)), &counters(9, 3), 2_000);
        assert_eq!((figures.errors, figures.errors_per_second, figures.cancelled_per_second), (2, 1.0, 4.0));
        assert_eq!(figures.codes[CANCELLED], 8);
        figures.add(&figures.clone());
        assert_eq!(figures.cancelled_per_second, 8.0);
    }

    #[test]
    fn figures_of_several_servers_are_added() {
        let counters = |calls, errors| FunctionCounters {
            name: "add".to_owned(),
            calls,
            errors: BTreeMap::from([("internal".to_owned(), errors)]),
            shed: errors,
            in_flight: 1,
            latency: vec![(Some(64), calls)],
            ..FunctionCounters::default()
        };
        let of = |trend: &[f64]| FunctionFigures {
            trend: trend.to_vec(),
            ..FunctionFigures::between(Some(&counters(10, 0)), &counters(30, 2), 2_000)
        };
        let mut sum = of(&[1.0]);
        sum.add(&of(&[5.0, 7.0]));
        assert_eq!(
            (sum.calls, sum.calls_per_second(), sum.errors, sum.errors_per_second),
            (Some(40), Some(20.0), 4, 2.0)
        );
        assert_eq!((sum.codes["internal"], sum.shed_per_second, sum.in_flight), (4, 2.0, 2));
        assert_eq!(sum.trend, [5.0, 8.0]);
        // A server without a window adds no calls.
        sum.add(&FunctionFigures::between(None, &counters(99, 9), 0));
        assert_eq!((sum.calls, sum.in_flight), (Some(40), 3));
    }
}
