//! Statistics in the text format of OpenMetrics, under the names of OpenTelemetry's conventions: [`open_metrics`].

use std::collections::HashSet;
use std::fmt;

use http::HeaderMap;
use http::header::ACCEPT;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::{ClientStats, FunctionStats, ServerStats};
use crate::error::Code;
use crate::function_counters::{CONVENTIONAL, CountedDurations, bucket_end};
use crate::host_and_port::HostAndPort;
use crate::telemetry_names::OTHER;

/// The formats that collectors of metrics read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    OpenMetrics,
    /// The older format of Prometheus, which some collectors read alone.
    PrometheusText,
}

/// The text for a server and for the clients of its process.
pub(crate) fn open_metrics(server: ServerStats, clients: Vec<ClientStats>) -> String {
    let mut registry = Registry::default();
    let clients = by_labels(clients);
    registry.register_collector(Box::new(StatsCollector { server, clients }));
    let mut written = String::new();
    text::encode(&mut written, &registry).expect("text can be written to memory");
    written
}

/// Clients of different URLs may have the same labels, such as those of a host by name and with its default port. They count as one,
/// because Prometheus drops all but one of the samples with the same labels.
fn by_labels(clients: Vec<ClientStats>) -> Vec<(ServerLabels, ClientStats)> {
    let mut merged: Vec<(ServerLabels, ClientStats)> = Vec::new();
    for client in clients {
        let labels = ServerLabels::of(&client.url);
        match merged.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, sum)) => sum.merge(client),
            None => merged.push((labels, client)),
        }
    }
    merged
}

impl MetricsFormat {
    /// The one to send to a caller that accepts these types. A collector that reads OpenMetrics says so.
    pub(crate) fn for_accept(headers: &HeaderMap) -> Self {
        let accepts = |essence: &str| {
            let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let mut ranges = values.flat_map(|value| value.split(','));
            ranges.any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(essence))
        };
        if accepts("text/plain") && !accepts("application/openmetrics-text") {
            Self::PrometheusText
        } else {
            Self::OpenMetrics
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PrometheusText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// This text of OpenMetrics in the format.
    pub(crate) fn write(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::PrometheusText => prometheus_text(&open_metrics),
        }
    }
}

/// In the older format a counter is described under the name of its samples, and there are no units and no end.
fn prometheus_text(open_metrics: &str) -> String {
    let counters: HashSet<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(name) => {
                text.extend(["# ", kind, " ", name, "_total ", rest, "\n"]);
            }
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[derive(Debug)]
struct StatsCollector {
    server: ServerStats,
    clients: Vec<(ServerLabels, ClientStats)>,
}

/// Where the service of a client is.
#[derive(Debug, PartialEq, Eq)]
struct ServerLabels(Vec<(&'static str, String)>);

/// The path that has no label.
const USUAL_PATH: &str = "/rpc";

impl ServerLabels {
    /// One host and its port, or else the whole URL. Behind one host there may be several services, which differ in their paths.
    fn of(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_host = url.starts_with("http://") || url.starts_with("https://");
        let default_port = if url.starts_with("https://") { 443 } else { 80 };
        Self(match HostAndPort::parse(authority, Some(default_port)) {
            Ok(HostAndPort { host, port, .. }) if is_host => {
                let mut labels = vec![("server_address", host), ("server_port", port.to_string())];
                if path != USUAL_PATH {
                    labels.push(("url_path", path.to_owned()));
                }
                labels
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
            // A series that appears with its first call does not increase by it.
            if stats.name != OTHER && stats.durations().iter().all(|(code, _)| code.is_some()) {
                encode_duration(&mut family, stats, None, &CountedDurations::default(), &[])?;
            }
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
        let help = "How long a call waits for a thread.";
        let mut metric =
            encoder.encode_descriptor("byname_server_queue_delay", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        metric.encode_gauge(&server.queue_delay.as_secs_f64())
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
        let help = "Calls that wait for a connection, or until the server accepts more.";
        let mut family = encoder.encode_descriptor("byname_client_waiting", help, None, MetricType::Gauge)?;
        for (labels, client) in clients() {
            encode_value(&mut family, MetricType::Gauge, &labels, client.waiting as u64)?;
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
    stats.durations().iter().try_for_each(|(code, counted)| encode_duration(family, stats, *code, counted, more))
}

/// The histogram of one function and result.
fn encode_duration(
    family: &mut MetricEncoder<'_>,
    stats: &FunctionStats,
    code: Option<Code>,
    counted: &CountedDurations,
    more: MetricLabels<'_>,
) -> fmt::Result {
    let status = code.map_or("ok", Code::as_str);
    let mut labels = vec![SYSTEM, ("rpc_method", stats.name.as_ref()), ("rpc_response_status_code", status)];
    if code.is_some() {
        labels.push(("error_type", status));
    }
    labels.extend_from_slice(more);
    let sum = counted.nanos as f64 / 1e9;
    let buckets = conventional_buckets(counted);
    family.encode_family(&labels.as_slice())?.encode_histogram::<NoLabelSet>(sum, counted.calls(), &buckets, None)
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
            queue_delay: Duration::from_millis(7),
            connections: 2,
            connections_accepted: 3,
            draining: false,
        };
        let client = |url: &str| ClientStats {
            url: url.into(),
            functions: vec![stats("counter.bump")],
            waiting: 5,
            connections: 1,
            connections_opened: 4,
        };
        let urls = [
            "http://data:8080/rpc",
            "unix:/run/a\"b.sock",
            "http://gate/a/rpc",
            "http://gate:80/a/rpc",
            "http://gate/b/rpc",
        ];
        let text = open_metrics(server, urls.map(client).into());
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
            "# UNIT byname_server_queue_delay_seconds seconds",
            "byname_server_queue_delay_seconds 0.007",
            r#"byname_client_waiting{server_address="data",server_port="8080"} 5"#,
            r#"byname_client_waiting{server_address="gate",server_port="80",url_path="/a/rpc"} 10"#,
            r#"byname_client_connections_opened_total{server_address="data",server_port="8080"} 4"#,
            r#"byname_client_connections{server_address="unix:/run/a\"b.sock"} 1"#,
            r#"byname_client_connections{server_address="gate",server_port="80",url_path="/a/rpc"} 2"#,
            r#"byname_client_connections_opened_total{server_address="gate",server_port="80",url_path="/b/rpc"} 4"#,
            r#"byname_client_request_bytes_total{server_address="gate",server_port="80",url_path="/a/rpc",rpc_method="counter.bump"} 60"#,
            r#"byname_client_retries_total{server_address="data",server_port="8080",rpc_method="counter.bump"} 0"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        assert!(!text.contains("_OTHER"), "{text}");
        let mut series: Vec<_> = text.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        series.sort_unstable();
        assert!(series.windows(2).all(|two| two[0] != two[1]), "two series with the same labels\n{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        let older = prometheus_text(&text);
        for line in [
            "# HELP byname_server_request_bytes_total The size of requests.",
            "# TYPE byname_server_request_bytes_total counter",
            r#"byname_server_request_bytes_total{rpc_method="add"} 30"#,
            "# TYPE byname_server_calls_in_flight gauge",
            "# TYPE rpc_server_call_duration_seconds histogram",
        ] {
            assert!(older.lines().any(|written| written == line), "{line}\n{older}");
        }
        let samples =
            |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(samples(&older), samples(&text));
        assert!(!older.contains("# UNIT") && !older.contains("# EOF"), "{older}");
    }

    #[test]
    fn the_older_format_is_for_those_who_accept_no_other() {
        for (accept, expected) in [
            ("text/plain;version=0.0.4", MetricsFormat::PrometheusText),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", MetricsFormat::PrometheusText),
            ("application/vnd.google.protobuf;q=0.7, Text/Plain;q=0.3", MetricsFormat::PrometheusText),
            ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", MetricsFormat::OpenMetrics),
            ("text/html,*/*;q=0.8", MetricsFormat::OpenMetrics),
            ("", MetricsFormat::OpenMetrics),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, http::HeaderValue::from_static(accept))]);
            assert_eq!(MetricsFormat::for_accept(&headers), expected, "{accept}");
        }
        assert_eq!(MetricsFormat::for_accept(&HeaderMap::new()), MetricsFormat::OpenMetrics);
    }
}
