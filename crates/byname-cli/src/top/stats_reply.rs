//! What a server answers to `GET /rpc/!stats`: [`StatsReply`]. Members that this version does not know are ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The counters of a server since its start.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct StatsReply {
    /// The id of the process. Another one has counters of its own.
    pub(crate) instance: String,
    pub(crate) uptime_ms: u64,
    pub(crate) functions: Vec<FunctionCounters>,
    #[serde(default)]
    pub(crate) server: ServerCounters,
    /// The last calls, newest first.
    #[serde(default)]
    pub(crate) recent: Vec<EndedCall>,
    /// The last calls that failed, newest first, where the server keeps them.
    #[serde(default)]
    pub(crate) failed: Vec<EndedCall>,
    #[serde(default)]
    pub(crate) clients: Vec<ClientCounters>,
}

/// The counters of a function, on either side.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct FunctionCounters {
    pub(crate) name: String,
    /// The calls that ended, failed ones included.
    pub(crate) calls: u64,
    pub(crate) in_flight: u64,
    /// By code.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) shed: u64,
    /// The number of calls in each bucket that is not empty, by its upper bound in microseconds. The last bucket has none.
    pub(crate) latency: Vec<(Option<u64>, u64)>,
    pub(crate) retries: u64,
    pub(crate) hedges: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ServerCounters {
    pub(crate) in_flight: u64,
    pub(crate) in_flight_limit: Option<u64>,
    pub(crate) connections: u64,
    pub(crate) draining: bool,
}

/// A call that ended, on either side.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct EndedCall {
    /// `server`, or `client` for a call that the process made.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) code: String,
    pub(crate) ended_ms_ago: u64,
    pub(crate) duration_us: u64,
    /// The URL of the service that a client called.
    pub(crate) url: Option<String>,
    pub(crate) trace_id: Option<String>,
}

/// A client of the process.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ClientCounters {
    pub(crate) url: String,
    pub(crate) functions: Vec<FunctionCounters>,
    pub(crate) connections: u64,
    pub(crate) replicas: Vec<ReplicaState>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaState {
    pub(crate) address: String,
    pub(crate) state: String,
    pub(crate) in_flight: u64,
    pub(crate) latency_us: Option<u64>,
}

impl StatsReply {
    /// # Errors
    ///
    /// The reply has another form.
    pub(crate) fn read(document: &Value) -> Result<Self, String> {
        Self::deserialize(document).map_err(|why| {
            format!("the service has answered `!stats` in another form than this version of byname reads: {why}")
        })
    }

    pub(crate) fn function(&self, name: &str) -> Option<&FunctionCounters> {
        self.functions.iter().find(|function| function.name == name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_members_are_ignored_and_most_may_be_missing() {
        let reply = StatsReply::read(&json!({
            "instance": "9f2c", "uptime_ms": 5, "colour": "red",
            "functions": [{ "name": "add", "calls": 3, "latency": [[64, 2], [null, 1]], "mood": [1] }],
            "server": { "in_flight": 1, "in_flight_limit": null },
            "clients": [{ "url": "http://data:8080/rpc", "replicas": [{ "address": "10.0.0.1:8080", "latency_us": null }] }],
        }));
        let reply = reply.unwrap();
        assert_eq!(reply.function("add").unwrap().latency, [(Some(64), 2), (None, 1)]);
        assert_eq!((reply.server.in_flight, reply.server.in_flight_limit), (1, None));
    }

    #[test]
    fn what_is_not_such_a_reply_is_an_error() {
        for document in
            [json!(null), json!({}), json!({ "instance": "a", "uptime_ms": -1, "functions": [] }), json!("<html>")]
        {
            let why = StatsReply::read(&document).unwrap_err();
            assert!(why.contains("`!stats`"), "{why}");
        }
    }
}
