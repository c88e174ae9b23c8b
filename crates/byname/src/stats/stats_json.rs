//! Statistics as JSON: [`stats_json`].

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::{ClientStats, FunctionStats, ServerStats};
use crate::clock_and_chance::{RealInstant, real_now};
use crate::error::Code;
use crate::function_counters::bucket_end;
use crate::limits_and_timeouts::Limits;
use crate::recent_calls::{CallSide, RECENT, RecentCall, RecentCallList, SLOWEST, keep_failed};
use crate::telemetry_names::OK;

/// Calls that are shown one by one: those that ended last, those that failed last, and the slowest.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShownCalls {
    pub(crate) recent: Vec<RecentCall>,
    pub(crate) failed: Vec<RecentCall>,
    pub(crate) slowest: Vec<RecentCall>,
}

impl ShownCalls {
    /// Those of this list that are to be shown.
    pub(crate) fn of(list: &RecentCallList, is_shown: impl Fn(&RecentCall) -> bool) -> Self {
        let shown = |mut calls: Vec<RecentCall>| {
            calls.retain(&is_shown);
            calls
        };
        Self { recent: shown(list.recent()), failed: shown(list.failed()), slowest: shown(list.slowest()) }
    }
}

/// A client of the process, and what it knows of its replicas.
#[derive(Clone, Debug)]
pub(crate) struct ShownClient {
    pub(crate) stats: ClientStats,
    pub(crate) calls: ShownCalls,
    pub(crate) replicas: Vec<ShownReplica>,
}

/// A replica of a client, for people.
#[derive(Clone, Debug)]
pub(crate) struct ShownReplica {
    pub(crate) address: String,
    pub(crate) state: String,
    pub(crate) in_flight: u32,
    pub(crate) latency_us: Option<u64>,
}

/// The statistics of a server and of the clients of its process.
pub(crate) fn stats_json(server: &ServerStats, limits: &Limits, calls: ShownCalls, clients: &[ShownClient]) -> Value {
    let now = real_now();
    let mut functions: Vec<_> = server.functions.iter().map(function).collect();
    if server.other.calls > 0 {
        functions.push(function(&server.other));
    }
    let ShownCalls { mut recent, mut failed, mut slowest } = calls;
    for client in clients {
        recent.extend_from_slice(&client.calls.recent);
        failed.extend_from_slice(&client.calls.failed);
        slowest.extend_from_slice(&client.calls.slowest);
    }
    recent.sort_by_key(|call| Reverse(call.ended));
    slowest.sort_by_key(|call| Reverse(call.took));
    recent.truncate(RECENT);
    keep_failed(&mut failed);
    slowest.truncate(SLOWEST);
    let call = |call: &RecentCall| call_json(call, now);
    json!({
        "instance": server.instance,
        "uptime_ms": whole(server.uptime.as_millis()),
        "functions": functions,
        "server": {
            "in_flight": server.in_flight,
            "in_flight_limit": server.in_flight_limit,
            "queue_delay_us": whole(server.queue_delay.as_micros()),
            "connections": server.connections,
            "connections_accepted": server.connections_accepted,
            "draining": server.draining,
        },
        "limits": limits.of_server().into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Value>(),
        "recent": recent.iter().map(call).collect::<Value>(),
        "failed": failed.iter().map(call).collect::<Value>(),
        "slowest": slowest.iter().map(call).collect::<Value>(),
        "clients": clients.iter().map(client).collect::<Value>(),
    })
}

fn client(client: &ShownClient) -> Value {
    let replica = |replica: &ShownReplica| {
        let mut json = json!({"address": replica.address, "state": replica.state, "in_flight": replica.in_flight});
        if let Some(latency) = replica.latency_us {
            json["latency_us"] = latency.into();
        }
        json
    };
    json!({
        "url": client.stats.url,
        "functions": client.stats.functions.iter().map(function).collect::<Value>(),
        "waiting": client.stats.waiting,
        "connections": client.stats.connections,
        "connections_opened": client.stats.connections_opened,
        "replicas": client.replicas.iter().map(replica).collect::<Value>(),
    })
}

fn function(stats: &FunctionStats) -> Value {
    let errors: Map<_, _> =
        stats.errors.iter().map(|(code, count)| (code.as_str().to_owned(), (*count).into())).collect();
    let buckets = stats.all_durations().buckets;
    let latency = buckets.into_iter().enumerate().filter(|(_, count)| *count > 0);
    let latency: Value = latency.map(|(at, count)| json!([bucket_end(at), count])).collect();
    let mut json = json!({
        "name": stats.name,
        "calls": stats.calls,
        "in_flight": stats.in_flight,
        "errors": errors,
        "shed": stats.shed,
        "request_bytes": stats.request_bytes,
        "response_bytes": stats.response_bytes,
        "items_received": stats.items_received,
        "items_sent": stats.items_sent,
        "duration_us": whole(stats.duration.as_micros()),
        "latency": latency,
    });
    for (name, count) in [("retries", stats.retries), ("hedges", stats.hedges)] {
        if count > 0 {
            json[name] = count.into();
        }
    }
    json
}

fn call_json(call: &RecentCall, now: RealInstant) -> Value {
    let ago = now.saturating_duration_since(call.ended);
    let mut json = json!({
        "name": call.name,
        "code": call.code.map_or(OK, Code::as_str),
        "ended_ms_ago": whole(ago.as_millis()),
        "ended_ago_ns": whole(ago.as_nanos()),
        "duration_us": whole(call.took.as_micros()),
    });
    match &call.side {
        CallSide::Server { way } => (json["kind"], json["way"]) = ("server".into(), (*way).into()),
        CallSide::Client { url, attempts } => {
            (json["kind"], json["url"]) = ("client".into(), url.as_str().into());
            if *attempts > 1 {
                json["attempts"] = (*attempts).into();
            }
        }
    }
    if let Some(ids) = &call.trace {
        json["trace_id"] = ids.trace.to_string().into();
        for (name, id) in [("span_id", ids.span), ("parent_id", ids.parent)] {
            if let Some(id) = id {
                json[name] = id.to_string().into();
            }
        }
    }
    json
}

fn whole(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
