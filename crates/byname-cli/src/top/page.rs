//! The parts of what is shown, in lines: [`head`], [`functions`], [`servers`], [`clients`], [`failed_calls`].

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

use super::columns::{Column, bars, cut, fitting_columns, latency, shown};
use super::function_figures::{CANCELLED, FunctionFigures};
use super::overview::{ClientFigures, Overview, ServerFigures};
use super::stats_reply::{EndedCall, ReplicaState};
use crate::figures;
use crate::terminal_text::counted;

/// A part with a title.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// The title, and names of columns. They stay when the rows are scrolled.
    pub(crate) top: Vec<Line<'static>>,
    pub(crate) rows: Vec<Line<'static>>,
}

pub(crate) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
pub(crate) const DIM: Style = Style::new().add_modifier(Modifier::DIM);
pub(crate) const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
pub(crate) const WARNING: Style = Style::new().fg(Color::Yellow);
const TREND: Style = Style::new().fg(Color::Cyan);

/// What is known of the servers together. `None` is a width without end, of a program.
pub(crate) fn head(overview: &Overview, width: Option<usize>) -> Vec<Line<'static>> {
    let mut items = Vec::new();
    match overview.servers.as_slice() {
        [server] => {
            items.push(Span::styled(shown(&server.address), BOLD));
            items.extend(of_server(server));
        }
        servers => {
            let answered = servers.iter().filter(|server| server.is_answered).count();
            items.push(Span::styled(format!("{} servers", figures::count(servers.len() as u64)), BOLD));
            if answered < servers.len() {
                items.push(Span::styled(format!("{} without an answer", servers.len() - answered), BAD));
            }
            let connections = servers
                .iter()
                .filter(|server| server.is_answered)
                .map(|server| server.connections)
                .fold(0, u64::saturating_add);
            items.push(Span::raw(count_of(connections, "connection")));
            items.push(Span::raw(format!("{} in flight", figures::count(overview.total.in_flight))));
        }
    }
    let mut lines = flowed(items, width);
    if overview.window_ms > 0 {
        lines.extend(flowed(of_total(&overview.total, overview.window_ms), width));
    }
    let notices = overview.servers.iter().filter_map(|server| Some((server, server.notice.as_ref()?)));
    for (server, notice) in notices {
        let said = if overview.servers.len() > 1 { format!("{}: {notice}", server.address) } else { notice.clone() };
        let style = if server.is_answered { WARNING } else { BAD };
        lines.extend(wrapped(&shown(&said), width).into_iter().map(|line| Line::styled(line, style)));
    }
    lines
}

/// The table of functions.
pub(crate) fn functions(functions: &[&FunctionFigures], title: &str, width: Option<usize>) -> Part {
    let longest = functions.iter().map(|of| shown(&of.name).width()).max().unwrap_or(0);
    let columns = fitting_columns(width, longest);
    let heading = columns.iter().map(|(column, width)| column.cell(column.heading(), *width)).collect::<Vec<_>>();
    let mut top = Vec::new();
    if !title.is_empty() {
        top.push(Line::styled(title.to_owned(), BOLD));
    }
    top.push(Line::styled(heading.join(" ").trim_end().to_owned(), DIM));
    let rows = functions.iter().map(|of| function(of, &columns)).collect();
    Part { top, rows }
}

/// A line for each server, where there are several.
pub(crate) fn servers(servers: &[ServerFigures]) -> Part {
    let row = |server: &ServerFigures| {
        let mut items = vec![Span::raw(shown(&server.address))];
        if !server.is_answered {
            items.push(Span::styled("no answer", BAD));
        }
        items.extend(of_server(server));
        if let Some(calls) = server.total.calls_per_second() {
            items.push(Span::raw(format!("{} calls/s", figures::rate(calls))));
            items.extend(errors(&server.total));
        }
        indented(items)
    };
    Part { top: vec![Line::styled("servers", BOLD)], rows: servers.iter().map(row).collect() }
}

/// The clients of the servers, each with its replicas.
pub(crate) fn clients(overview: &Overview) -> Part {
    let mut rows = Vec::new();
    for client in &overview.clients {
        rows.push(client_line(client, overview.servers.len() > 1));
        rows.extend(client.replicas.iter().map(replica));
    }
    Part { top: vec![Line::styled("clients of this service, with their replicas", BOLD)], rows }
}

/// The last calls that failed.
pub(crate) fn failed_calls(calls: &[EndedCall], filter: &str) -> Part {
    let filter = filter.to_lowercase();
    let chosen = calls.iter().filter(|call| call.name.to_lowercase().contains(&filter));
    Part { top: vec![Line::styled("recent errors", BOLD)], rows: chosen.map(failed_call).collect() }
}

fn of_server(server: &ServerFigures) -> Vec<Span<'static>> {
    let mut items = Vec::new();
    // Of a server that does not answer none of these is known.
    if server.is_answered {
        items.push(Span::raw(format!("up {}", figures::long_time(server.uptime_ms))));
        items.push(Span::raw(count_of(server.connections, "connection")));
        let limit = server.in_flight_limit.map(|limit| format!(" of {}", figures::count(limit))).unwrap_or_default();
        let is_full = server.in_flight_limit.is_some_and(|limit| server.in_flight >= limit);
        let in_flight = format!("{}{limit} in flight", figures::count(server.in_flight));
        items.push(Span::styled(in_flight, if is_full { BAD } else { Style::new() }));
        if server.draining {
            items.push(Span::styled("draining", WARNING));
        }
    }
    items
}

fn of_total(total: &FunctionFigures, window_ms: u64) -> Vec<Span<'static>> {
    let mut items =
        vec![Span::styled(format!("{} calls/s", figures::rate(total.calls_per_second().unwrap_or(0.0))), BOLD)];
    if total.trend.len() > 1 {
        items.push(Span::styled(bars(&total.trend, 20), TREND));
    }
    items.extend(errors(total));
    if total.shed_per_second > 0.0 {
        items.push(Span::styled(format!("{} shed/s", figures::rate(total.shed_per_second)), BAD));
    }
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        items.push(Span::raw(format!("{name} {}", latency(total.latency.percentile(share)))));
    }
    items.push(Span::styled(format!("over {}", figures::time(window_ms.saturating_mul(1_000_000))), DIM));
    items
}

/// The errors with their share and the most frequent codes, and the calls whose caller went away.
fn errors(total: &FunctionFigures) -> Vec<Span<'static>> {
    let mut items = Vec::new();
    if total.errors == 0 {
        items.push(Span::styled("no errors", DIM));
    } else {
        let share = figures::share(total.errors, total.calls.unwrap_or(0));
        let mut codes: Vec<_> = total.codes.iter().filter(|&(code, _)| code != CANCELLED).collect();
        codes.sort_by_key(|&(code, &count)| (std::cmp::Reverse(count), code.clone()));
        let codes: Vec<_> = codes.into_iter().take(3).map(|(code, _)| shown(code)).collect();
        items.push(Span::styled(
            format!("{} errors/s ({share}: {})", figures::rate(total.errors_per_second), codes.join(", ")),
            BAD,
        ));
    }
    if total.cancelled_per_second > 0.0 {
        items.push(Span::styled(format!("{} cancelled/s", figures::rate(total.cancelled_per_second)), DIM));
    }
    items
}

fn function(of: &FunctionFigures, columns: &[(Column, usize)]) -> Line<'static> {
    let style = |column| match column {
        Column::Name => BOLD,
        Column::Trend => TREND,
        Column::Errors | Column::ErrorShare if of.errors > 0 => BAD,
        Column::Shed if of.shed_per_second > 0.0 => BAD,
        // What is 0 is not what is looked for.
        Column::Errors | Column::ErrorShare | Column::Shed => DIM,
        _ => Style::new(),
    };
    let mut spans = Vec::new();
    for (column, width) in columns {
        if !spans.is_empty() {
            spans.push(Span::raw(" "));
        }
        spans.push(Span::styled(column.cell(&column.text(of, *width), *width), style(*column)));
    }
    Line::from(spans)
}

fn client_line(client: &ClientFigures, has_several_servers: bool) -> Line<'static> {
    let mut items = Vec::new();
    if has_several_servers {
        items.push(Span::raw(format!("{}:", shown(&client.of))));
    }
    items.push(Span::raw(shown(&client.url)));
    if let Some(calls) = client.total.calls_per_second() {
        items.push(Span::raw(format!("{} calls/s", figures::rate(calls))));
        items.extend(errors(&client.total));
        items.push(Span::raw(format!("p99 {}", latency(client.total.latency.percentile(0.99)))));
        for (rate, what) in [(client.total.retries_per_second, "retries"), (client.total.hedges_per_second, "hedges")] {
            if rate > 0.0 {
                items.push(Span::styled(format!("{} {what}/s", figures::rate(rate)), WARNING));
            }
        }
    }
    items.push(Span::raw(format!("{} in flight", figures::count(client.total.in_flight))));
    items.push(Span::raw(count_of(client.connections, "connection")));
    indented(items)
}

fn replica(of: &ReplicaState) -> Line<'static> {
    let latency = of.latency_us.map_or_else(|| "–".to_owned(), |micros| figures::time(micros.saturating_mul(1_000)));
    let style = if of.state.starts_with("gets calls") { Style::new() } else { WARNING };
    let mut line = indented(vec![
        Span::raw(format!("  {}", shown(&of.address))),
        Span::styled(shown(&of.state), style),
        Span::raw(format!("{} in flight", figures::count(of.in_flight))),
        Span::raw(latency),
    ]);
    line.spans.insert(0, Span::raw(""));
    line
}

fn failed_call(call: &EndedCall) -> Line<'static> {
    let ago = format!("{} ago", figures::long_time(call.ended_ms_ago));
    let mut items = vec![
        Span::styled(format!("{ago:>9}"), DIM),
        Span::raw(shown(&call.name)),
        Span::styled(shown(&call.code), BAD),
    ];
    items.push(Span::raw(figures::time(call.duration_us.saturating_mul(1_000))));
    if call.kind == "client" {
        items.push(Span::raw(format!("called at {}", shown(call.url.as_deref().unwrap_or("an unknown service")))));
    }
    if let Some(trace) = &call.trace_id {
        items.push(Span::styled(format!("trace {}", shown(trace)), DIM));
    }
    indented(items)
}

fn count_of(number: u64, what: &str) -> String {
    match usize::try_from(number) {
        Ok(number @ 0..=999) => counted(number, what),
        _ => format!("{} {what}s", figures::count(number)),
    }
}

fn indented(items: Vec<Span<'static>>) -> Line<'static> {
    let mut spans = Vec::new();
    for item in items {
        spans.extend([Span::raw("  "), item]);
    }
    Line::from(spans)
}

/// The items in lines of this width, with two spaces between them. An item that is wider than a line is cut.
fn flowed(items: Vec<Span<'static>>, width: Option<usize>) -> Vec<Line<'static>> {
    let width = width.unwrap_or(usize::MAX);
    let mut lines: Vec<Line<'static>> = Vec::new();
    let mut used = 0;
    for mut item in items {
        if item.width() > width {
            item.content = cut(&item.content, width).into();
        }
        match lines.last_mut() {
            Some(line) if used + 2 + item.width() <= width => {
                used += 2 + item.width();
                line.spans.extend([Span::raw("  "), item]);
            }
            _ => {
                used = item.width();
                lines.push(Line::from(item));
            }
        }
    }
    lines
}

/// Text in lines of this width, broken at spaces.
fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else {
        return vec![text.to_owned()];
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let word = cut(word, width);
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            *line = word;
        } else if line.width() + 1 + word.width() <= width {
            line.push(' ');
            line.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_flow_into_lines() {
        let items = || ["shop:80", "up 3 h", "2 connections"].map(Span::raw).to_vec();
        let lines = |width| flowed(items(), width).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(lines(None), ["shop:80  up 3 h  2 connections"]);
        assert_eq!(lines(Some(16)), ["shop:80  up 3 h", "2 connections"]);
        assert_eq!(lines(Some(8)), ["shop:80", "up 3 h", "2 conne…"]);
    }

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrapped("there is no server", Some(9)), ["there is", "no server"]);
        assert_eq!(wrapped("incomprehensible", Some(6)), ["incom…"]);
        assert_eq!(wrapped("", Some(0)), [""]);
    }

    #[test]
    fn a_failed_call_has_its_time_and_trace() {
        let call = EndedCall {
            kind: "client".to_owned(),
            name: "get".to_owned(),
            code: "unavailable".to_owned(),
            ended_ms_ago: 65_300,
            duration_us: 200,
            url: Some("http://data/rpc".to_owned()),
            trace_id: Some("4bf9".to_owned()),
        };
        assert_eq!(
            failed_call(&call).to_string(),
            "  1 min 5 s ago  get  unavailable  200 µs  called at http://data/rpc  trace 4bf9"
        );
    }
}
