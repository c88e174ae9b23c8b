//! The result of a run, as it is written to a file: [`Report`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use byname::Transport;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::buckets::{self, Bucket};
use super::collector::Collector;
use super::plan::{Load, Plan};
use super::recorder::{ErrorCount, Window, nanos};

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The version of this format.
    pub(super) format: u32,
    pub(super) url: String,
    pub(super) function: String,
    pub(super) load: LoadReport,
    pub(super) transport: String,
    pub(super) connections: ConnectionCounts,
    pub(super) workers: usize,
    pub(super) warm_up_ns: u64,
    /// The length of the window that was measured.
    pub(super) measured_ns: u64,
    pub(super) is_interrupted: bool,
    /// The calls that were in flight when the run was interrupted again, and were not waited for.
    #[serde(default)]
    pub(super) given_up: u64,
    /// The calls of the window that have ended.
    pub(super) calls: u64,
    pub(super) answered: u64,
    /// The calls that were answered with a value within the window, a second.
    pub(super) calls_per_second: f64,
    /// The failed calls by their code. `method` are errors that the function itself returned.
    pub(super) errors: BTreeMap<String, ErrorCount>,
    pub(super) warm_up_errors: u64,
    /// Of the calls that were answered with a value or have timed out.
    pub(super) latency: Option<Percentiles>,
    pub(super) histogram: Vec<Bucket>,
    /// How the schedule of an open loop was kept.
    pub(super) sending: Option<Sending>,
    pub(super) slice_ns: u64,
    pub(super) slices: Vec<SliceReport>,
}

/// When calls were sent.
///
/// serde copies the fields of an enum with a tag, and a copied float is lost where serde_json keeps all digits. So it has none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LoadReport {
    Closed { concurrency: usize },
    Open { calls_per_second: f64, max_in_flight: usize },
}

/// The connections by frames at the end, and those of HTTP that were opened. By frames, the first calls go over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ConnectionCounts {
    pub(super) frames: u64,
    pub(super) http: u64,
}

/// How the schedule of an open loop was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sending {
    /// The calls that were due and were never sent.
    pub(super) unsent: u64,
    /// The calls that were sent late because the most were in flight.
    pub(super) without_room: u64,
    /// How much later than intended calls were sent. The latency has this in it.
    pub(super) delay: Option<Percentiles>,
}

/// Percentiles of times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Percentiles {
    /// How many times there are.
    pub(super) count: u64,
    pub(super) min_ns: u64,
    pub(super) p50_ns: u64,
    pub(super) p75_ns: u64,
    pub(super) p90_ns: u64,
    pub(super) p95_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
    pub(super) max_ns: u64,
}

/// A part of the window. All have the same length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SliceReport {
    pub(super) calls_per_second: f64,
    pub(super) failed: u64,
    pub(super) latency: Option<Percentiles>,
}

/// What the workers say at their end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkerEnds {
    pub(super) unsent: u64,
    pub(super) given_up: u64,
    pub(super) connections: ConnectionCounts,
    pub(super) is_interrupted: bool,
}

const FORMAT: u32 = 1;

impl Report {
    pub(super) fn new(
        (url, function): (&str, &str),
        plan: &Plan,
        window: &Window,
        collector: &Collector,
        ends: WorkerEnds,
    ) -> Self {
        let total = collector.total();
        // A number of calls ends with the last of them.
        let has_ended_by_calls = plan.call_budget().is_some_and(|calls| total.calls >= calls);
        let until = if has_ended_by_calls { total.last_end.min(window.until()) } else { window.until() };
        let measured = until.saturating_sub(window.from());
        let (slice, slices) = collector.slices(measured);
        let seconds = slice.as_secs_f64();
        let slices = slices.iter().map(|slice| SliceReport {
            calls_per_second: slice.answered as f64 / seconds,
            failed: slice.failed,
            latency: Percentiles::of(&slice.latency),
        });
        Self {
            format: FORMAT,
            url: url.to_owned(),
            function: function.to_owned(),
            load: match plan.load {
                Load::Closed { concurrency } => LoadReport::Closed { concurrency },
                Load::Open { rate, max_in_flight } => LoadReport::Open { calls_per_second: rate, max_in_flight },
            },
            transport: if plan.transport == Transport::Http { "http" } else { "frames" }.to_owned(),
            connections: ends.connections,
            workers: plan.workers,
            warm_up_ns: nanos(plan.warm_up),
            measured_ns: nanos(measured),
            is_interrupted: ends.is_interrupted,
            given_up: ends.given_up,
            calls: total.calls,
            answered: total.answered,
            calls_per_second: if measured.is_zero() {
                0.0
            } else {
                total.answered_within as f64 / measured.as_secs_f64()
            },
            errors: total.errors.clone(),
            warm_up_errors: total.warm_up_errors,
            latency: Percentiles::of(&total.latency),
            histogram: buckets::narrow(
                total.latency.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())),
            ),
            sending: total.delay.as_ref().map(|delay| Sending {
                unsent: ends.unsent,
                without_room: total.without_room,
                delay: Percentiles::of(delay),
            }),
            slice_ns: nanos(slice),
            slices: slices.collect(),
        }
    }

    /// Whether all calls were sent and answered with a value, and there was one.
    pub(super) fn is_success(&self) -> bool {
        let has_unsent = self.sending.is_some_and(|sending| sending.unsent > 0);
        let has_failed = self.answered < self.calls || self.warm_up_errors > 0 || self.given_up > 0;
        self.answered > 0 && !has_failed && !has_unsent
    }

    /// As JSON, in lines.
    pub(super) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report has only strings as keys");
        text.push('\n');
        text
    }

    /// Reads a report that was written by [`to_json`](Self::to_json).
    ///
    /// # Errors
    ///
    /// A file that can't be read or is not a report, with what to do.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|why| {
            format!("{shown} can't be read: {why}; give a file that `byname bench --json` has written")
        })?;
        Self::from_json(&text).map_err(|why| format!("{shown} {why}"))
    }

    fn from_json(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let unreadable = |why| {
            format!("is not a report of `byname bench`: {why}; give a file that `byname bench --json` has written")
        };
        let Head { format } = serde_json::from_str(text).map_err(unreadable)?;
        if format != FORMAT {
            return Err(format!(
                "has the format {format}, expected {FORMAT}; make it again with this version of `byname bench --json`"
            ));
        }
        serde_json::from_str(text).map_err(unreadable)
    }
}

impl Percentiles {
    /// `None` if nothing was recorded.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min_ns: histogram.min(),
            p50_ns: histogram.value_at_quantile(0.5),
            p75_ns: histogram.value_at_quantile(0.75),
            p90_ns: histogram.value_at_quantile(0.9),
            p95_ns: histogram.value_at_quantile(0.95),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        })
    }

    /// The ones that are shown, with their names.
    pub(super) fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("p50", self.p50_ns),
            ("p75", self.p75_ns),
            ("p90", self.p90_ns),
            ("p95", self.p95_ns),
            ("p99", self.p99_ns),
            ("p99.9", self.p999_ns),
            ("max", self.max_ns),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::BenchOptions;
    use super::super::recorder::{CallTimes, Recorder};
    use super::*;

    /// A run of one second with a call each millisecond. The call of millisecond N takes N microseconds.
    pub(in super::super) fn report(options: BenchOptions, micros: impl Fn(u64) -> u64) -> Report {
        let options = BenchOptions {
            duration: Some(Duration::from_secs(1)),
            warm_up: Some(Duration::ZERO),
            threads: Some(1),
            ..options
        };
        let plan = Plan::new(&options, 1).unwrap();
        let (window, mut collector) = (plan.window(), Collector::new(plan.has_schedule()));
        let mut recorder = Recorder::new(plan.has_schedule());
        for n in 0..1_000 {
            let sent = Duration::from_millis(n);
            let times =
                CallTimes { intended: sent, sent, ended: sent + Duration::from_micros(micros(n)), had_no_room: false };
            let ticked = recorder.record(&window, times, &Ok(()));
            ticked.inspect(|ticked| collector.add(ticked));
        }
        recorder.take_rest().inspect(|ticked| collector.add(ticked));
        Report::new(("localhost:8080", "add"), &plan, &window, &collector, WorkerEnds::default())
    }

    #[test]
    fn a_report_has_all_calls_in_its_buckets_and_slices() {
        let report = report(BenchOptions::default(), |n| 100 + n % 10);
        assert_eq!((report.calls, report.answered, report.calls_per_second), (1_000, 1_000, 1_000.0));
        assert_eq!(report.histogram.iter().map(|bucket| bucket.count).sum::<u64>(), 1_000);
        assert_eq!((report.slices.len(), report.slice_ns), (10, 100_000_000));
        assert_eq!(report.slices.iter().map(|slice| slice.calls_per_second).sum::<f64>(), 10_000.0);
        assert!(report.is_success());
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = report(BenchOptions { rate: Some(1_000.0), ..BenchOptions::default() }, |n| 100 + n);
        assert_eq!(Report::from_json(&report.to_json()).unwrap(), report);
    }

    #[test]
    fn other_files_are_refused_with_a_remedy() {
        let why = Report::from_json("{}").unwrap_err();
        assert!(why.starts_with("is not a report of `byname bench`: missing field `format`"), "{why}");
        let why = Report::from_json(r#"{"format": 2}"#).unwrap_err();
        assert_eq!(why, "has the format 2, expected 1; make it again with this version of `byname bench --json`");
    }

    #[test]
    fn calls_that_were_not_sent_or_not_waited_for_are_no_success() {
        let report = report(BenchOptions { rate: Some(1_000.0), ..BenchOptions::default() }, |_| 100);
        assert!(report.is_success());
        assert!(!Report { given_up: 1, ..report.clone() }.is_success());
        let unsent = Sending { unsent: 1, ..report.sending.unwrap() };
        assert!(!Report { sending: Some(unsent), ..report }.is_success());
    }

    #[test]
    fn a_run_without_calls_is_no_success() {
        let plan = Plan::new(&BenchOptions::default(), 1).unwrap();
        let nothing = Collector::new(false);
        let report = Report::new(("localhost:8080", "add"), &plan, &plan.window(), &nothing, WorkerEnds::default());
        assert_eq!((report.latency, report.calls_per_second, report.is_success()), (None, 0.0, false));
    }
}
