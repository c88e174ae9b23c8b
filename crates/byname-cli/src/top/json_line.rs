//! An overview as an object for programs: [`to_json`].

use serde_json::{Value, json};

use super::function_figures::FunctionFigures;
use super::overview::{ClientFigures, Overview, ServerFigures};
use super::stats_reply::EndedCall;

/// Figures of the window, and what is so now. Members may be added.
pub(crate) fn to_json(overview: &Overview) -> Value {
    json!({
        "window_ms": overview.window_ms,
        "servers": overview.servers.iter().map(server).collect::<Vec<_>>(),
        "functions": overview.functions.iter().map(function).collect::<Vec<_>>(),
        "clients": overview.clients.iter().map(client).collect::<Vec<_>>(),
        "recent_errors": overview.failed.iter().map(failed_call).collect::<Vec<_>>(),
    })
}

fn server(of: &ServerFigures) -> Value {
    json!({
        "address": of.address,
        "instance": of.instance,
        "uptime_ms": of.uptime_ms,
        "answered": of.is_answered,
        "notice": of.notice,
        "connections": of.connections,
        "in_flight": of.in_flight,
        "in_flight_limit": of.in_flight_limit,
        "draining": of.draining,
        "calls_per_s": of.total.calls_per_second(),
        "errors_per_s": of.total.errors_per_second,
    })
}

fn function(of: &FunctionFigures) -> Value {
    let micros = |share| of.latency.percentile(share).map(|latency| latency.micros());
    json!({
        "name": of.name,
        "calls": of.calls,
        "calls_per_s": of.calls_per_second(),
        "errors": of.codes,
        "errors_per_s": of.errors_per_second,
        "cancelled_per_s": of.cancelled_per_second,
        "p50_us": micros(0.5),
        "p99_us": micros(0.99),
        "max_us": of.latency.max().map(|latency| latency.micros()),
        "in_flight": of.in_flight,
        "shed_per_s": of.shed_per_second,
        "calls_since_start": of.total_calls,
    })
}

fn client(of: &ClientFigures) -> Value {
    let replica = |replica: &super::stats_reply::ReplicaState| {
        json!({
            "address": replica.address,
            "state": replica.state,
            "in_flight": replica.in_flight,
            "latency_us": replica.latency_us,
        })
    };
    json!({
        "server": of.of,
        "url": of.url,
        "connections": of.connections,
        "in_flight": of.total.in_flight,
        "calls_per_s": of.total.calls_per_second(),
        "errors_per_s": of.total.errors_per_second,
        "retries_per_s": of.total.retries_per_second,
        "hedges_per_s": of.total.hedges_per_second,
        "p99_us": of.total.latency.percentile(0.99).map(|latency| latency.micros()),
        "replicas": of.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

fn failed_call(of: &EndedCall) -> Value {
    json!({
        "kind": of.kind,
        "name": of.name,
        "code": of.code,
        "ended_ms_ago": of.ended_ms_ago,
        "duration_us": of.duration_us,
        "url": of.url,
        "trace_id": of.trace_id,
    })
}
