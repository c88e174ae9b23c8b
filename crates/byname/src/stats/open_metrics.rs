//! Statistics in the text format of OpenMetrics, under the names of OpenTelemetry's conventions: [`open_metrics`].

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::{ClientStats, FunctionStats, ServerStats};
use crate::error::Code;
use crate::function_counters::{CONVENTIONAL, CountedDurations, bucket_end};
use crate::host_and_port::HostAndPort;

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text for a server and for the clients of its process, of which no two have the same URL.
pub(crate) fn open_metrics(server: ServerStats, clients: Vec<ClientStats>) -> String {
    let mut registry = Registry::default();
    let clients = clients.into_iter().map(|client| (ServerLabels::of(&client.url), client)).collect();
    registry.register_collector(Box::new(StatsCollector { server, clients }));
    let mut written = String::new();
    text::encode(&mut written, &registry).expect("text can be written to memory");
    written
}

#[derive(Debug)]
struct StatsCollector {
    server: ServerStats,
    clients: Vec<(ServerLabels, ClientStats)>,
}

/// Where the service of a client is.
#[derive(Debug)]
struct ServerLabels(Vec<(&'static str, String)>);

impl ServerLabels {
    /// One host and its port, or else the whole URL.
    fn of(url: &str) -> Self {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
        let is_host = url.starts_with("http://") || url.starts_with("https://");
        let default_port = if url.starts_with("https://") { 443 } else { 80 };
        Self(match HostAndPort::parse(authority, Some(default_port)) {
            Ok(HostAndPort { host, port, .. }) if is_host => {
                vec![("server_address", host), ("server_port", port.to_string())]
            }
            _ => vec![("server_address", url.to_owned())],
        })
    }
}

/// A label with its value.
type MetricLabel<'l> = (&'static str, &'l str);

type MetricLabels<'l> = &'l [MetricLabel<'l>];

/// A metric of which each function has a value.
struct FunctionMetric {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    ty: MetricType,
    value: fn(&FunctionStats) -> u64,
}

fn counter(
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    value: fn(&FunctionStats) -> u64,
) -> FunctionMetric {
    FunctionMetric { name, help, unit, ty: MetricType::Counter, value }
}

fn gauge(name: &'static str, help: &'static str, value: fn(&FunctionStats) -> u64) -> FunctionMetric {
    FunctionMetric { name, help, unit: None, ty: MetricType::Gauge, value }
}

/// What a server has for each function, besides the duration.
fn server_metrics() -> [FunctionMetric; 6] {
    [
        gauge("byname_server_calls_in_flight", "Functions that run now.", |stats| stats.in_flight),
        counter("byname_server_shed", "Calls that were refused because there were too many.", None, |stats| stats.shed),
        counter("byname_server_request", "The size of requests.", Some(Unit::Bytes), |stats| stats.request_bytes),
        counter(
            "byname_server_response",
            "The size of replies and of the items of streams.",
            Some(Unit::Bytes),
            |stats| stats.response_bytes,
        ),
        counter("byname_server_items_received", "The items of streams that callers sent.", None, |stats| {
            stats.items_received
        }),
        counter("byname_server_items_sent", "The items of streams that were returned.", None, |stats| stats.items_sent),
    ]
}

/// What a client has for each function, besides the duration.
fn client_metrics() -> [FunctionMetric; 7] {
    [
        gauge("byname_client_calls_in_flight", "Calls that have not ended.", |stats| stats.in_flight),
        counter("byname_client_retries", "Attempts after the first.", None, |stats| stats.retries),
        counter("byname_client_hedges", "Calls that were sent to a second replica beside the first.", None, |stats| {
            stats.hedges
        }),
        counter("byname_client_request", "The size of requests.", Some(Unit::Bytes), |stats| stats.request_bytes),
        counter(
            "byname_client_response",
            "The size of replies and of the items of streams.",
            Some(Unit::Bytes),
            |stats| stats.response_bytes,
        ),
        counter("byname_client_items_received", "The items of streams that were returned.", None, |stats| {
            stats.items_received
        }),
        counter("byname_client_items_sent", "The items of streams that were sent.", None, |stats| stats.items_sent),
    ]
}

const SYSTEM: MetricLabel<'static> = ("rpc_system_name", "byname");

impl Collector for StatsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_server(&mut encoder)?;
        if !self.clients.is_empty() {
            self.encode_clients(&mut encoder)?;
        }
        Ok(())
    }
}

impl StatsCollector {
    fn encode_server(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let server = &self.server;
        let functions = || server.functions.iter().chain((server.other.calls > 0).then_some(&server.other));
        let unit = Some(&Unit::Seconds);
        let help = "How long calls took at the server, from their arrival to the end of their reply.";
        let mut family = encoder.encode_descriptor("rpc_server_call_duration", help, unit, MetricType::Histogram)?;
        for stats in functions() {
            encode_durations(&mut family, stats, &[])?;
        }
        for FunctionMetric { name, help, unit, ty, value } in server_metrics() {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), ty)?;
            for stats in functions() {
                encode_value(&mut family, ty, &[("rpc_method", stats.name.as_ref())], value(stats))?;
            }
        }
        let accepted = server.connections_accepted;
        for (name, help, ty, value) in [
            ("byname_server_connections", "Connections that are open.", MetricType::Gauge, server.connections as u64),
            ("byname_server_connections_accepted", "Connections that were accepted.", MetricType::Counter, accepted),
            (
                "byname_server_in_flight",
                "Calls in flight, as the limit counts them.",
                MetricType::Gauge,
                server.in_flight as u64,
            ),
            (
                "byname_server_in_flight_limit",
                "How many calls may be in flight.",
                MetricType::Gauge,
                server.in_flight_limit as u64,
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, ty)?;
            match ty {
                MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                _ => metric.encode_gauge(&whole(value))?,
            }
        }
        Ok(())
    }

    fn encode_clients(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let clients = || {
            self.clients.iter().map(|(labels, client)| {
                let labels: Vec<_> = labels.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
                (labels, client)
            })
        };
        let unit = Some(&Unit::Seconds);
        let help = "How long calls took for their callers, with all attempts.";
        let mut family = encoder.encode_descriptor("rpc_client_call_duration", help, unit, MetricType::Histogram)?;
        for (labels, client) in clients() {
            for stats in &client.functions {
                encode_durations(&mut family, stats, &labels)?;
            }
        }
        for FunctionMetric { name, help, unit, ty, value } in client_metrics() {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), ty)?;
            for (mut labels, client) in clients() {
                for stats in &client.functions {
                    labels.push(("rpc_method", stats.name.as_ref()));
                    encode_value(&mut family, ty, &labels, value(stats))?;
                    labels.pop();
                }
            }
        }
        let help = "Connections that are open.";
        let mut family = encoder.encode_descriptor("byname_client_connections", help, None, MetricType::Gauge)?;
        for (labels, client) in clients() {
            encode_value(&mut family, MetricType::Gauge, &labels, client.connections as u64)?;
        }
        let help = "Connections that were opened.";
        let mut family =
            encoder.encode_descriptor("byname_client_connections_opened", help, None, MetricType::Counter)?;
        for (labels, client) in clients() {
            encode_value(&mut family, MetricType::Counter, &labels, client.connections_opened)?;
        }
        Ok(())
    }
}

fn encode_value(family: &mut MetricEncoder<'_>, ty: MetricType, labels: MetricLabels<'_>, value: u64) -> fmt::Result {
    let mut metric = family.encode_family(&labels)?;
    match ty {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => metric.encode_gauge(&whole(value)),
    }
}

/// A gauge has a sign.
fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The histograms of one function: one for each result.
fn encode_durations(family: &mut MetricEncoder<'_>, stats: &FunctionStats, more: MetricLabels<'_>) -> fmt::Result {
    for (code, counted) in stats.durations() {
        let status = code.map_or("ok", Code::as_str);
        let mut labels = vec![SYSTEM, ("rpc_method", stats.name.as_ref()), ("rpc_response_status_code", status)];
        if code.is_some() {
            labels.push(("error_type", status));
        }
        labels.extend_from_slice(more);
        let sum = counted.nanos as f64 / 1e9;
        let buckets = conventional_buckets(counted);
        family.encode_family(&labels.as_slice())?.encode_histogram::<NoLabelSet>(
            sum,
            counted.calls(),
            &buckets,
            None,
        )?;
    }
    Ok(())
}

/// The counts in the buckets of the conventions: their ends in seconds, the last one without an end.
fn conventional_buckets(counted: &CountedDurations) -> Vec<(f64, u64)> {
    let mut buckets: Vec<_> = CONVENTIONAL.iter().map(|micros| (*micros as f64 / 1e6, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    for (at, count) in counted.buckets.iter().enumerate() {
        let end = bucket_end(at).unwrap_or(u64::MAX);
        buckets[CONVENTIONAL.partition_point(|bound| *bound < end)].1 += count;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::function_counters::{EndedCall, FunctionCounters};

    #[test]
    fn the_text_has_each_result_of_each_function() {
        let counters = FunctionCounters::default();
        for (millis, code) in [(5, None), (6, None), (80_000, Some(Code::Unavailable))] {
            let nanos = millis * 1_000_000;
            counters.end(&EndedCall { code, nanos, request_bytes: 10, ..EndedCall::default() });
        }
        let stats = |name: &'static str| FunctionStats::new(name.into(), 1, counters.read());
        let none = FunctionStats::new("_OTHER".into(), 0, FunctionCounters::default().read());
        let server = ServerStats {
            instance: "1".into(),
            uptime: Duration::ZERO,
            functions: vec![stats("add")],
            other: none,
            in_flight: 1,
            in_flight_limit: 10,
            connections: 2,
            connections_accepted: 3,
            draining: false,
        };
        let client = |url: &str| ClientStats {
            url: url.into(),
            functions: vec![stats("counter.bump")],
            connections: 1,
            connections_opened: 4,
        };
        let text = open_metrics(server, vec![client("http://data:8080/rpc"), client("unix:/run/a\"b.sock")]);
        for line in [
            "# TYPE rpc_server_call_duration_seconds histogram",
            "# UNIT rpc_server_call_duration_seconds seconds",
            r#"rpc_server_call_duration_seconds_sum{rpc_system_name="byname",rpc_method="add",rpc_response_status_code="ok"} 0.011"#,
            r#"rpc_server_call_duration_seconds_bucket{le="0.005",rpc_system_name="byname",rpc_method="add",rpc_response_status_code="ok"} 1"#,
            r#"rpc_server_call_duration_seconds_bucket{le="0.01",rpc_system_name="byname",rpc_method="add",rpc_response_status_code="ok"} 2"#,
            r#"rpc_server_call_duration_seconds_bucket{le="10.0",rpc_system_name="byname",rpc_method="add",rpc_response_status_code="unavailable",error_type="unavailable"} 0"#,
            r#"rpc_server_call_duration_seconds_bucket{le="+Inf",rpc_system_name="byname",rpc_method="add",rpc_response_status_code="unavailable",error_type="unavailable"} 1"#,
            r#"byname_server_request_bytes_total{rpc_method="add"} 30"#,
            r#"byname_server_calls_in_flight{rpc_method="add"} 1"#,
            "byname_server_connections_accepted_total 3",
            "byname_server_in_flight_limit 10",
            r#"byname_client_connections_opened_total{server_address="data",server_port="8080"} 4"#,
            r#"byname_client_connections{server_address="unix:/run/a\"b.sock"} 1"#,
            r#"byname_client_retries_total{server_address="data",server_port="8080",rpc_method="counter.bump"} 0"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        assert!(!text.contains("_OTHER"), "{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    }
}
