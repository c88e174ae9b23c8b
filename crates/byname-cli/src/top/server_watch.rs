//! What is known of one server by its replies: [`ServerWatch`]. It has no clock: each reply says how old its server is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::function_figures::FunctionFigures;
use super::stats_reply::{FunctionCounters, StatsReply};

/// The replies of a server, as many as the window needs.
#[derive(Clone, Debug)]
pub(crate) struct ServerWatch {
    pub(crate) address: String,
    window_ms: u64,
    /// Of one instance, oldest first.
    replies: VecDeque<StatsReply>,
    /// The instances before this one. Each of them is never seen again, unless several servers share the address.
    past_instances: BTreeSet<String>,
    /// Why the last question has no answer.
    pub(crate) failure: Option<String>,
    /// Whether the instance is another one than before, and its window is still short.
    pub(crate) is_restarted: bool,
    /// Whether instances take turns.
    pub(crate) is_shared: bool,
    /// Calls a second by function, for each of the last intervals.
    trends: BTreeMap<String, VecDeque<f64>>,
}

/// The most intervals of a trend.
pub(crate) const TREND: usize = 60;

/// An address behind which instances are replaced all the time is not remembered without end.
const PAST_INSTANCES: usize = 64;

impl ServerWatch {
    pub(crate) fn new(address: String, window_ms: u64) -> Self {
        Self {
            address,
            window_ms,
            replies: VecDeque::new(),
            past_instances: BTreeSet::new(),
            failure: None,
            is_restarted: false,
            is_shared: false,
            trends: BTreeMap::new(),
        }
    }

    /// Takes the next reply.
    pub(crate) fn answered(&mut self, reply: StatsReply) {
        self.failure = None;
        if let Some(last) = self.replies.back_mut() {
            if last.instance != reply.instance {
                let past = std::mem::take(&mut last.instance);
                self.begin_anew(past, &reply.instance);
            } else if reply.uptime_ms <= last.uptime_ms {
                // Two replies of one moment have nothing between them.
                return;
            } else {
                // Only those of the last reply are shown.
                (last.recent, last.failed) = (Vec::new(), Vec::new());
                self.add_trends(&reply);
            }
        }
        let window_begin = reply.uptime_ms.saturating_sub(self.window_ms);
        self.replies.push_back(reply);
        while self.replies.get(1).is_some_and(|second| second.uptime_ms <= window_begin) {
            self.replies.pop_front();
        }
        self.is_restarted &= self.window_ms() < self.window_ms;
    }

    pub(crate) fn failed(&mut self, why: &str) {
        self.failure = Some(why.replace('\n', "; "));
    }

    pub(crate) fn last(&self) -> Option<&StatsReply> {
        self.replies.back()
    }

    /// The first and the last reply of the window, which are two.
    pub(crate) fn window(&self) -> Option<(&StatsReply, &StatsReply)> {
        match (self.replies.front(), self.replies.back()) {
            (Some(first), Some(last)) if self.replies.len() > 1 => Some((first, last)),
            _ => None,
        }
    }

    /// How long the window is. 0 before the second reply.
    pub(crate) fn window_ms(&self) -> u64 {
        self.window().map_or(0, |(first, last)| last.uptime_ms - first.uptime_ms)
    }

    /// The figures of each function, in the order of the server. Of a server that does not answer it is not known what it does now.
    pub(crate) fn functions(&self) -> Vec<FunctionFigures> {
        let Some(last) = self.last() else {
            return Vec::new();
        };
        let first = self.window().filter(|_| self.failure.is_none()).map(|(first, _)| first);
        let figures = |function: &FunctionCounters| {
            let zero = FunctionCounters::default();
            let earlier = first.map(|first| first.function(&function.name).unwrap_or(&zero));
            let mut figures = FunctionFigures::between(earlier, function, self.window_ms());
            if self.failure.is_some() {
                figures.in_flight = 0;
                return figures;
            }
            figures.trend = self.trends.get(&function.name).map(|of| of.iter().copied().collect()).unwrap_or_default();
            figures
        };
        last.functions.iter().map(figures).collect()
    }

    fn begin_anew(&mut self, past: String, now: &str) {
        self.is_shared |= self.past_instances.contains(now);
        self.is_restarted = true;
        self.replies.clear();
        self.trends.clear();
        if self.past_instances.len() >= PAST_INSTANCES {
            self.past_instances.pop_first();
        }
        self.past_instances.insert(past);
    }

    fn add_trends(&mut self, reply: &StatsReply) {
        let Some(last) = self.replies.back() else {
            return;
        };
        let elapsed_ms = reply.uptime_ms - last.uptime_ms;
        for function in &reply.functions {
            let before = last.function(&function.name).map_or(0, |function| function.calls);
            let rate = a_second(function.calls.saturating_sub(before), elapsed_ms);
            let trend = self.trends.entry(function.name.clone()).or_default();
            trend.push_back(rate);
            if trend.len() > TREND {
                trend.pop_front();
            }
        }
    }
}

/// How often it happened in a second. 0 if no time has passed.
pub(crate) fn a_second(count: u64, elapsed_ms: u64) -> f64 {
    if elapsed_ms == 0 { 0.0 } else { count as f64 * 1e3 / elapsed_ms as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::latency_window::WindowLatency;

    fn reply(instance: &str, uptime_ms: u64, calls: u64) -> StatsReply {
        let add = FunctionCounters {
            name: "add".to_owned(),
            calls,
            errors: BTreeMap::from([("internal".to_owned(), calls / 10)]),
            latency: vec![(Some(64), calls)],
            ..FunctionCounters::default()
        };
        StatsReply { instance: instance.to_owned(), uptime_ms, functions: vec![add], ..StatsReply::default() }
    }

    fn watch(replies: impl IntoIterator<Item = StatsReply>) -> ServerWatch {
        let mut watch = ServerWatch::new("shop:80".to_owned(), 2_000);
        replies.into_iter().for_each(|reply| watch.answered(reply));
        watch
    }

    #[test]
    fn one_reply_has_no_rates() {
        let watch = watch([reply("a", 5_000, 100)]);
        let add = &watch.functions()[0];
        assert_eq!((watch.window_ms(), add.calls, add.total_calls), (0, None, 100));
    }

    #[test]
    fn figures_are_those_between_two_replies() {
        let watch = watch([reply("a", 5_000, 100), reply("a", 6_000, 400)]);
        let add = &watch.functions()[0];
        assert_eq!(
            (watch.window_ms(), add.calls, add.errors, add.calls_per_second()),
            (1_000, Some(300), 30, Some(300.0))
        );
        assert_eq!(add.latency.max(), Some(WindowLatency::Micros(64)));
    }

    #[test]
    fn the_window_slides() {
        let replies = (0..10).map(|second| reply("a", 5_000 + second * 1_000, second * second * 100));
        let watch = watch(replies);
        assert_eq!((watch.window_ms(), watch.functions()[0].calls), (2_000, Some(8_100 - 4_900)));
        assert_eq!(watch.functions()[0].trend.len(), 9);
    }

    #[test]
    fn a_window_with_a_gap_is_as_long_as_the_gap() {
        let watch = watch([reply("a", 1_000, 0), reply("a", 2_000, 10), reply("a", 60_000, 20)]);
        assert_eq!((watch.window_ms(), watch.functions()[0].calls), (58_000, Some(10)));
    }

    #[test]
    fn after_a_restart_counters_begin_anew() {
        let mut watch = watch([reply("a", 5_000, 100), reply("a", 6_000, 400), reply("b", 100, 7)]);
        assert!(watch.is_restarted && !watch.is_shared);
        assert_eq!((watch.window_ms(), watch.functions()[0].calls, watch.functions()[0].trend.len()), (0, None, 0));
        watch.answered(reply("b", 1_100, 17));
        assert_eq!((watch.functions()[0].calls, watch.is_restarted), (Some(10), true));
        watch.answered(reply("b", 2_100, 17));
        assert!(!watch.is_restarted);
    }

    #[test]
    fn instances_that_take_turns_share_the_address() {
        let watch = watch([reply("a", 5_000, 100), reply("b", 100, 7), reply("a", 6_000, 400)]);
        assert!(watch.is_shared);
    }

    #[test]
    fn replies_of_one_moment_and_counters_that_go_back_are_no_calls() {
        let watch =
            watch([reply("a", 5_000, 100), reply("a", 5_000, 200), reply("a", 4_000, 300), reply("a", 6_000, 50)]);
        let add = &watch.functions()[0];
        assert_eq!((watch.window_ms(), add.calls, add.errors), (1_000, Some(0), 0));
    }

    #[test]
    fn a_function_that_is_new_had_no_calls() {
        let mut later = reply("a", 6_000, 110);
        later.functions.push(FunctionCounters { name: "_OTHER".to_owned(), calls: 4, ..FunctionCounters::default() });
        let watch = watch([reply("a", 5_000, 100), later]);
        assert_eq!(watch.functions()[1].calls, Some(4));
    }

    #[test]
    fn a_failure_stays_until_the_next_reply() {
        let mut watch = watch([reply("a", 5_000, 100), reply("a", 6_000, 200)]);
        watch.failed("no answer");
        assert_eq!((watch.failure.as_deref(), watch.functions()[0].calls), (Some("no answer"), None));
        watch.answered(reply("a", 7_000, 300));
        assert_eq!((watch.failure.as_deref(), watch.functions()[0].calls), (None, Some(200)));
    }
}
