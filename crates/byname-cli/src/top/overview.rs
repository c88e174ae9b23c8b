//! What is shown of the servers at one moment: [`Overview`].

use std::collections::HashMap;

use super::function_figures::{CANCELLED, FunctionFigures};
use super::server_watch::ServerWatch;
use super::stats_reply::{ClientCounters, EndedCall, FunctionCounters, ReplicaState, StatsReply};

/// All that is shown, with the functions of all servers together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overview {
    pub(crate) servers: Vec<ServerFigures>,
    pub(crate) functions: Vec<FunctionFigures>,
    /// All functions together.
    pub(crate) total: FunctionFigures,
    pub(crate) clients: Vec<ClientFigures>,
    /// The last calls that failed, newest first.
    pub(crate) failed: Vec<EndedCall>,
    /// The longest window of a server. 0 before the second reply.
    pub(crate) window_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServerFigures {
    pub(crate) address: String,
    pub(crate) instance: String,
    pub(crate) uptime_ms: u64,
    pub(crate) connections: u64,
    pub(crate) in_flight: u64,
    pub(crate) in_flight_limit: Option<u64>,
    pub(crate) draining: bool,
    pub(crate) is_answered: bool,
    /// What is to be known beside the figures: no answer, a restart.
    pub(crate) notice: Option<String>,
    /// All of its functions.
    pub(crate) total: FunctionFigures,
}

/// A client of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClientFigures {
    /// The server that has it.
    pub(crate) of: String,
    pub(crate) url: String,
    pub(crate) connections: u64,
    /// All of its functions.
    pub(crate) total: FunctionFigures,
    pub(crate) replicas: Vec<ReplicaState>,
}

/// The most failed calls that are kept.
const FAILED: usize = 100;

impl Overview {
    pub(crate) fn of(watches: &[ServerWatch]) -> Self {
        let mut overview = Self::default();
        let mut places: HashMap<String, usize> = HashMap::new();
        for watch in watches {
            let functions = watch.functions();
            let mut total = FunctionFigures::default();
            for figures in functions {
                total.add(&figures);
                match places.get(&figures.name) {
                    Some(&place) => overview.functions[place].add(&figures),
                    None => {
                        places.insert(figures.name.clone(), overview.functions.len());
                        overview.functions.push(figures);
                    }
                }
            }
            overview.total.add(&total);
            // What a server said before it stopped answering is of another time.
            if let Some(last) = watch.last().filter(|_| watch.failure.is_none()) {
                overview.window_ms = overview.window_ms.max(watch.window_ms());
                overview
                    .clients
                    .extend(last.clients.iter().enumerate().map(|(at, client)| client_figures(watch, at, client)));
                let kept = if last.failed.is_empty() { &last.recent } else { &last.failed };
                overview
                    .failed
                    .extend(kept.iter().filter(|call| !["ok", CANCELLED].contains(&call.code.as_str())).cloned());
            }
            overview.servers.push(server_figures(watch, total));
        }
        overview.failed.sort_by_key(|call| call.ended_ms_ago);
        overview.failed.truncate(FAILED);
        overview
    }
}

fn server_figures(watch: &ServerWatch, total: FunctionFigures) -> ServerFigures {
    let notice = match &watch.failure {
        Some(why) => Some(why.clone()),
        None if watch.is_shared => Some(
            "several servers answer at this address, and the figures begin anew with each; name the address of each server, with commas".to_owned(),
        ),
        None if watch.is_restarted => Some("restarted: its counters begin anew".to_owned()),
        None => None,
    };
    let mut figures = ServerFigures {
        address: watch.address.clone(),
        is_answered: watch.failure.is_none() && watch.last().is_some(),
        notice,
        total,
        ..ServerFigures::default()
    };
    if let Some(StatsReply { instance, uptime_ms, server, .. }) = watch.last() {
        figures.instance.clone_from(instance);
        figures.uptime_ms = *uptime_ms;
        figures.connections = server.connections;
        figures.in_flight = server.in_flight;
        figures.in_flight_limit = server.in_flight_limit;
        figures.draining = server.draining;
    }
    figures
}

fn client_figures(watch: &ServerWatch, at: usize, client: &ClientCounters) -> ClientFigures {
    // A program may have several clients of one URL. The clients of one moment stand in the same order a moment later, unless one ended.
    let first = watch.window().map(|(first, _)| first.clients.get(at).filter(|earlier| earlier.url == client.url));
    let zero = FunctionCounters::default();
    let mut total = FunctionFigures::default();
    for function in &client.functions {
        let earlier = first.map(|client| {
            let same = client.and_then(|client| client.functions.iter().find(|earlier| earlier.name == function.name));
            same.unwrap_or(&zero)
        });
        total.add(&FunctionFigures::between(earlier, function, watch.window_ms()));
    }
    ClientFigures {
        of: watch.address.clone(),
        url: client.url.clone(),
        connections: client.connections,
        total,
        replicas: client.replicas.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::stats_reply::ServerCounters;

    fn counters(name: &str, calls: u64) -> FunctionCounters {
        FunctionCounters { name: name.to_owned(), calls, in_flight: 1, ..FunctionCounters::default() }
    }

    fn reply(uptime_ms: u64, functions: Vec<FunctionCounters>) -> StatsReply {
        StatsReply { instance: "a".to_owned(), uptime_ms, functions, ..StatsReply::default() }
    }

    fn watch(address: &str, replies: [StatsReply; 2]) -> ServerWatch {
        let mut watch = ServerWatch::new(address.to_owned(), 10_000);
        replies.into_iter().for_each(|reply| watch.answered(reply));
        watch
    }

    #[test]
    fn functions_of_several_servers_are_one_row_each() {
        let first = watch("a:1", [reply(1_000, vec![counters("add", 1)]), reply(2_000, vec![counters("add", 11)])]);
        let both = vec![counters("sub", 3), counters("add", 5)];
        let second = watch("b:1", [reply(70_000, Vec::new()), reply(71_000, both)]);
        let overview = Overview::of(&[first, second]);
        let rows: Vec<_> = overview.functions.iter().map(|of| (of.name.as_str(), of.calls)).collect();
        assert_eq!(rows, [("add", Some(15)), ("sub", Some(3))]);
        assert_eq!(overview.total.calls, Some(18));
        assert_eq!(overview.servers.iter().map(|server| server.total.calls).collect::<Vec<_>>(), [Some(10), Some(8)]);
    }

    #[test]
    fn failed_calls_are_listed_newest_first() {
        let call = |code: &str, at| EndedCall { code: code.to_owned(), ended_ms_ago: at, ..EndedCall::default() };
        let with = |calls: &[EndedCall]| {
            let mut last = reply(2_000, Vec::new());
            last.recent = calls.to_vec();
            watch("a:1", [reply(1_000, Vec::new()), last])
        };
        let overview = Overview::of(&[
            with(&[call("internal", 9), call("ok", 4)]),
            with(&[call("not_found", 5), call(CANCELLED, 6)]),
        ]);
        assert_eq!(overview.failed.iter().map(|call| call.ended_ms_ago).collect::<Vec<_>>(), [5, 9]);
    }

    #[test]
    fn a_server_that_stops_answering_adds_nothing() {
        let replies = || {
            let mut last = reply(2_000, vec![counters("add", 11)]);
            last.recent = vec![EndedCall { code: "internal".to_owned(), ..EndedCall::default() }];
            last.clients = vec![ClientCounters::default()];
            [reply(1_000, vec![counters("add", 1)]), last]
        };
        let mut gone = watch("b:1", replies());
        gone.failed("there is no server");
        let overview = Overview::of(&[watch("a:1", replies()), gone.clone()]);
        assert_eq!((overview.functions[0].calls, overview.total.in_flight), (Some(10), 1));
        assert_eq!((overview.clients.len(), overview.failed.len()), (1, 1));
        let overview = Overview::of(&[gone]);
        assert_eq!((overview.functions[0].calls, overview.total.in_flight, overview.window_ms), (None, 0, 0));
    }

    #[test]
    fn clients_of_the_servers_have_rates() {
        let with = |uptime, calls| {
            let client = ClientCounters {
                url: "http://data/rpc".to_owned(),
                functions: vec![counters("get", calls)],
                ..ClientCounters::default()
            };
            StatsReply { clients: vec![client], ..reply(uptime, Vec::new()) }
        };
        let overview = Overview::of(&[watch("a:1", [with(1_000, 5), with(3_000, 25)])]);
        assert_eq!(overview.clients[0].total.calls_per_second(), Some(10.0));
    }

    #[test]
    fn a_server_without_an_answer_has_a_notice() {
        let mut last = reply(2_000, Vec::new());
        last.server = ServerCounters { draining: true, connections: 3, ..ServerCounters::default() };
        let mut watch = watch("a:1", [reply(1_000, Vec::new()), last]);
        watch.failed("there is no server\nattempt 1 of 2: the same error");
        let server = &Overview::of(&[watch]).servers[0];
        assert_eq!(
            (server.notice.as_deref(), server.is_answered),
            (Some("there is no server; attempt 1 of 2: the same error"), false)
        );
        assert!(server.draining && server.connections == 3);
        let silent = ServerWatch::new("b:1".to_owned(), 1_000);
        assert!(!Overview::of(&[silent]).servers[0].is_answered);
    }
}
