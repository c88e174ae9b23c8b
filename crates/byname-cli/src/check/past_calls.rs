//! How often the functions of a service that runs were called: [`PastCalls`].

use std::collections::HashMap;
use std::time::Duration;

use crate::figures;
use crate::service::{Service, ServiceOptions};
use crate::top::server_addresses::server_addresses;
use crate::top::stats_reply::StatsReply;

/// The calls that the servers of a service have counted.
#[derive(Debug, Default)]
pub(super) struct PastCalls {
    /// By registered name. Calls by an alias are among them.
    calls: HashMap<String, u64>,
    /// Of the server that started last.
    pub(super) uptime_ms: u64,
    pub(super) servers: usize,
}

/// The counters are an addition to what was asked for.
const TIMEOUT: Duration = Duration::from_secs(5);

impl PastCalls {
    /// `None` if a server does not show its counters, or if it is not known which servers there are.
    pub(super) async fn of(service: &Service, options: &ServiceOptions) -> Option<Self> {
        let options = ServiceOptions { timeout: Some(options.timeout.unwrap_or(TIMEOUT)), ..options.clone() };
        let mut replies = Vec::new();
        for url in server_addresses(&service.url).ok()? {
            replies.push(crate::top::asked(&service.at(&url).client(&options).ok()?).await.ok()?);
        }
        Some(Self::counted(&replies))
    }

    /// Calls of this function. `None` if it has no counter.
    pub(super) fn calls(&self, function: &str) -> Option<u64> {
        self.calls.get(function).copied()
    }

    /// Such as `1,204 calls since start (3 h 12 min)`.
    pub(super) fn line(&self, function: &str) -> Option<String> {
        let calls = self.calls(function)?;
        let noun = if calls == 1 { "call" } else { "calls" };
        let of = match self.servers {
            1 => String::new(),
            servers => format!(", the last of {servers} servers"),
        };
        Some(format!("{} {noun} since start ({}{of})", figures::count(calls), figures::long_time(self.uptime_ms)))
    }

    fn counted(replies: &[StatsReply]) -> Self {
        let mut counted = Self {
            calls: HashMap::new(),
            uptime_ms: replies.iter().map(|reply| reply.uptime_ms).min().unwrap_or(0),
            servers: replies.len(),
        };
        for function in replies.iter().flat_map(|reply| &reply.functions) {
            // What has not ended is called too.
            let calls = function.calls.saturating_add(function.in_flight);
            let sum = counted.calls.entry(function.name.clone()).or_default();
            *sum = sum.saturating_add(calls);
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::stats_reply::FunctionCounters;

    fn reply(uptime_ms: u64, calls: u64) -> StatsReply {
        let add = FunctionCounters { name: "add".to_owned(), calls, ..FunctionCounters::default() };
        StatsReply { uptime_ms, functions: vec![add], ..StatsReply::default() }
    }

    #[test]
    fn a_line_says_since_when() {
        let line = |replies: &[StatsReply]| PastCalls::counted(replies).line("add");
        assert_eq!(line(&[reply(11_520_000, 1_204)]).unwrap(), "1,204 calls since start (3 h 12 min)");
        assert_eq!(line(&[reply(5_000, 1)]).unwrap(), "1 call since start (5 s)");
        assert_eq!(line(&[reply(5_000, 0)]).unwrap(), "0 calls since start (5 s)");
        let both = [reply(5_000, 2), reply(90_000, 3)];
        assert_eq!(line(&both).unwrap(), "5 calls since start (5 s, the last of 2 servers)");
        assert_eq!(PastCalls::counted(&both).line("sub"), None);
    }
}
