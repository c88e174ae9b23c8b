//! The live view on a terminal of any size: [`draw`].

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::ascii_text::ascii;
use super::overview::Overview;
use super::page::{self, BOLD, DIM, Part, WARNING};
use super::screen_state::{ScreenState, Section};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TerminalAbilities {
    pub(crate) has_colors: bool,
    /// Letters beyond ASCII.
    pub(crate) has_unicode: bool,
}

pub(crate) fn draw(frame: &mut Frame<'_>, state: &mut ScreenState, overview: &Overview, abilities: TerminalAbilities) {
    let area = frame.area();
    draw_on(frame.buffer_mut(), area, state, overview, abilities);
}

fn draw_on(
    buffer: &mut Buffer,
    area: Rect,
    state: &mut ScreenState,
    overview: &Overview,
    abilities: TerminalAbilities,
) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let foot = foot(state, overview, width);
    let mut lines = page::head(overview, Some(width));
    // The body needs a part of a small screen too.
    lines.truncate((height / 2).max(1));
    lines.push(Line::default());
    let room = height.saturating_sub(lines.len() + 1);
    lines.extend(if state.shows_keys { keys() } else { body(state, overview, width, room) });
    lines.truncate(height.saturating_sub(1));
    for (y, line) in lines.iter().enumerate() {
        set_line(buffer, area, y, line);
    }
    set_line(buffer, area, height.saturating_sub(1), &foot);
    adapt(buffer, area, abilities);
}

fn set_line(buffer: &mut Buffer, area: Rect, y: usize, line: &Line<'_>) {
    if let Ok(y) = u16::try_from(y)
        && y < area.height
    {
        buffer.set_line(area.x, area.y + y, line, area.width);
        // A number that is cut off would be another number.
        if line.width() > usize::from(area.width) && area.width > 0 {
            buffer.set_stringn(area.x + area.width - 1, area.y + y, "…", 1, DIM);
        }
    }
}

/// The parts in this many lines.
fn body(state: &mut ScreenState, overview: &Overview, width: usize, room: usize) -> Vec<Line<'static>> {
    let functions = || {
        let arranged = state.arranged(&overview.functions);
        let title = functions_title(state, overview, arranged.len());
        page::functions(&arranged, &title, Some(width))
    };
    let empty = |part: Part, said: &str| match part.rows.is_empty() {
        true => Part { rows: vec![Line::styled(format!("  {said}"), DIM)], ..part },
        false => part,
    };
    let none_found = if state.filter.is_empty() { "no functions" } else { "no function has this text in its name" };
    let (main, others) = match state.section {
        Section::All => {
            let mut others = Vec::new();
            if overview.servers.len() > 1 {
                others.push(page::servers(&overview.servers));
            }
            others.push(page::clients(overview));
            others.push(page::failed_calls(&overview.failed, &state.filter));
            others.retain(|part| !part.rows.is_empty());
            (empty(functions(), none_found), others)
        }
        Section::Functions => (empty(functions(), none_found), Vec::new()),
        Section::Servers => (page::servers(&overview.servers), Vec::new()),
        Section::Clients => (empty(page::clients(overview), "the service has made no client"), Vec::new()),
        Section::Errors => (empty(page::failed_calls(&overview.failed, &state.filter), "none"), Vec::new()),
    };
    // The other parts get up to half of the room, and what the functions leave.
    let main_wants = main.top.len() + main.rows.len();
    let others_want: Vec<usize> = others.iter().map(|part| 1 + part.top.len() + part.rows.len()).collect();
    let shares = shared(room.saturating_sub(main_wants).max(room / 2), &others_want);
    let main_room = room - shares.iter().sum::<usize>();
    let page = main_room.saturating_sub(main.top.len());
    state.fit(main.rows.len(), page);
    let mut lines = main.top;
    lines.extend(main.rows.into_iter().skip(state.scroll).take(page));
    lines.truncate(main_room);
    for (mut part, share) in others.into_iter().zip(shares) {
        let rows = share.saturating_sub(1 + part.top.len());
        if let Some(title) = part.top.first_mut().filter(|_| rows < part.rows.len()) {
            title.push_span(format!(" ({rows} of {})", part.rows.len()));
        }
        let all = [Line::default()].into_iter().chain(part.top).chain(part.rows);
        lines.extend(all.take(share));
    }
    lines
}

fn functions_title(state: &ScreenState, overview: &Overview, shown: usize) -> String {
    let all = overview.functions.len();
    let counted = if shown == all { format!("{all}") } else { format!("{shown} of {all}") };
    let order = if state.is_reversed { "least first" } else { "most first" };
    let order = if state.sort.name() == "name" { if state.is_reversed { "z first" } else { "a first" } } else { order };
    format!("functions ({counted}), by {}, {order}", state.sort.name())
}

/// How much each one gets of the room, which is not more than it wants. Who wants little leaves the rest to the others.
fn shared(mut room: usize, wanted: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; wanted.len()];
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&at| wanted[at]);
    for (done, &at) in order.iter().enumerate() {
        let share = wanted[at].min(room / (wanted.len() - done));
        // A title without a row says nothing.
        shares[at] = if share < 3.min(wanted[at]) { 0 } else { share };
        room -= shares[at];
    }
    shares
}

fn foot(state: &ScreenState, overview: &Overview, width: usize) -> Line<'static> {
    if state.is_filtering {
        return Line::styled(
            format!("filter: {}▏  Enter keeps it, Esc clears it", super::columns::shown(&state.filter)),
            BOLD,
        );
    }
    let mut text = String::new();
    if state.is_paused {
        text.push_str("PAUSED  ");
    }
    if overview.window_ms == 0 && overview.servers.iter().any(|server| server.is_answered) {
        text.push_str("waiting for the second reply  ");
    }
    if !state.filter.is_empty() {
        text.push_str(&format!("filter: {}  ", super::columns::shown(&state.filter)));
    }
    let style = if text.is_empty() { DIM } else { WARNING };
    let keys = "q quit  s sort  / filter  space pause  tab part  ? keys";
    // Where not all keys have room, the one that lists them has.
    text.push_str(if text.chars().count() + keys.len() <= width { keys } else { "? keys" });
    Line::styled(text, style)
}

fn keys() -> Vec<Line<'static>> {
    let rows = [
        ("q, Esc, Ctrl-C", "quit"),
        ("c  e  l  n", "sort by calls, errors, p99 latency, name"),
        ("s", "sort by the next of them"),
        ("r", "reverse the order"),
        ("/", "show only functions with a text in their name; Enter keeps it, Esc clears it"),
        ("space, p", "pause, and continue"),
        ("Tab, Shift-Tab", "the next part, the one before: all, functions, servers, clients, errors"),
        ("arrows, j  k", "scroll; page up, page down, Home and End too"),
        ("Ctrl-Z", "to the shell; `fg` continues"),
        ("? h", "this list; any key closes it"),
    ];
    rows.into_iter().map(|(keys, what)| Line::raw(format!("{keys:<16}{what}"))).collect()
}

/// Leaves out what the terminal can't show.
fn adapt(buffer: &mut Buffer, area: Rect, abilities: TerminalAbilities) {
    for position in area.positions() {
        let Some(cell) = buffer.cell_mut(position) else {
            continue;
        };
        if !abilities.has_unicode && !cell.symbol().is_ascii() {
            let replaced = ascii(cell.symbol());
            cell.set_symbol(&replaced);
        }
        if !abilities.has_colors {
            let modifiers = cell.modifier;
            cell.set_style(Style::reset().add_modifier(modifiers));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::top::server_watch::ServerWatch;
    use crate::top::stats_reply::{
        ClientCounters, EndedCall, FunctionCounters, ReplicaState, ServerCounters, StatsReply,
    };

    const ALL: TerminalAbilities = TerminalAbilities { has_colors: true, has_unicode: true };

    fn function(name: &str, calls: u64, slowest_us: u64) -> FunctionCounters {
        FunctionCounters {
            name: name.to_owned(),
            calls,
            in_flight: 1,
            errors: BTreeMap::from([("not_found".to_owned(), calls / 100)]),
            latency: vec![(Some(slowest_us), calls)],
            ..FunctionCounters::default()
        }
    }

    fn reply(uptime_ms: u64, functions: Vec<FunctionCounters>) -> StatsReply {
        let replica = ReplicaState {
            address: "10.0.0.1:8080".to_owned(),
            state: "gets calls".to_owned(),
            in_flight: 1,
            latency_us: Some(300),
        };
        let client = ClientCounters {
            url: "http://data:8080/rpc".to_owned(),
            functions: functions.clone(),
            connections: 2,
            replicas: vec![replica],
        };
        let failed = EndedCall {
            kind: "server".to_owned(),
            name: "articles.get".to_owned(),
            code: "not_found".to_owned(),
            ended_ms_ago: 4_200,
            duration_us: 85,
            ..EndedCall::default()
        };
        StatsReply {
            instance: "a".to_owned(),
            uptime_ms,
            functions,
            server: ServerCounters { in_flight: 2, in_flight_limit: Some(1_024), connections: 3, draining: false },
            recent: vec![failed],
            clients: vec![client],
            failed: Vec::new(),
        }
    }

    fn overview(replies: [StatsReply; 2]) -> Overview {
        let mut watch = ServerWatch::new("shop:8080".to_owned(), 10_000);
        replies.into_iter().for_each(|reply| watch.answered(reply));
        Overview::of(&[watch])
    }

    fn usual() -> Overview {
        let at = |uptime, calls| {
            reply(uptime, vec![function("articles.get", calls, 72), function("articles.search", calls / 10, 9_000)])
        };
        overview([at(10_000, 1_000), at(12_000, 3_000)])
    }

    fn drawn(
        state: &mut ScreenState,
        overview: &Overview,
        (width, height): (u16, u16),
        abilities: TerminalAbilities,
    ) -> Buffer {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        draw_on(&mut buffer, area, state, overview, abilities);
        buffer
    }

    fn lines(buffer: &Buffer) -> Vec<String> {
        let width = usize::from(buffer.area.width).max(1);
        let text = |row: &[ratatui::buffer::Cell]| {
            row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
        };
        buffer.content.chunks(width).map(text).collect()
    }

    #[test]
    fn a_usual_screen() {
        let lines = lines(&drawn(&mut ScreenState::default(), &usual(), (80, 24), ALL));
        assert_eq!(
            lines[..16],
            [
                "shop:8080  up 12 s  3 connections  2 of 1,024 in flight",
                "1,100 calls/s  11.0 errors/s (1.0 %: not_found)  p50 68.0 µs  p99 8.89 ms",
                "over 2.00 s",
                "",
                "functions (2), by calls, most first",
                "NAME             CALLS/S  ERR/S ERR %     P50     P99     MAX IN FLIGHT SHED/S",
                "articles.get       1,000   10.0   1.0 68.0 µs 72.0 µs 72.0 µs         1      0",
                "articles.search      100   1.00   1.0 8.49 ms 8.99 ms 9.00 ms         1      0",
                "",
                "clients of this service, with their replicas",
                "  http://data:8080/rpc  1,100 calls/s  11.0 errors/s (1.0 %: not_found)  p99 8.…",
                "    10.0.0.1:8080  gets calls  1 in flight  300 µs",
                "",
                "recent errors",
                "    4 s ago  articles.get  not_found  85.0 µs",
                "",
            ]
        );
        assert_eq!(lines[23], "q quit  s sort  / filter  space pause  tab part  ? keys");
    }

    #[test]
    fn every_size_is_drawn() {
        let hostile = |text: &str| {
            let mut functions = vec![function(text, u64::MAX, u64::MAX), function("", 0, 0)];
            functions.extend((0..40).map(|n| function(&format!("{text}{n}"), n, n)));
            let mut last = reply(u64::MAX, functions);
            last.clients[0].url = text.to_owned();
            last.recent[0].name = text.to_owned();
            last.recent[0].ended_ms_ago = u64::MAX;
            overview([reply(0, Vec::new()), last])
        };
        let overviews = [
            usual(),
            Overview::default(),
            hostile("日本語👩‍👩‍👧e\u{301}\u{1b}[2J\u{202e}\n"),
            overview([StatsReply::default(), StatsReply::default()]),
        ];
        for overview in &overviews {
            for width in (0..30).chain([79, 80, 81, 120, 250]) {
                for height in (0..16).chain([24, 100]) {
                    for section in
                        [Section::All, Section::Functions, Section::Servers, Section::Clients, Section::Errors]
                    {
                        let mut state = ScreenState { section, scroll: usize::MAX, ..ScreenState::default() };
                        let buffer = drawn(&mut state, overview, (width, height), ALL);
                        let text: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
                        assert!(!text.contains(['\u{1b}', '\u{202e}', '\n']), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_terminal_without_colors_or_unicode_gets_none() {
        let abilities = TerminalAbilities { has_colors: false, has_unicode: false };
        let buffer = drawn(&mut ScreenState::default(), &usual(), (120, 30), abilities);
        assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii() && cell.fg == ratatui::style::Color::Reset));
        assert!(lines(&buffer).iter().any(|line| line.contains("68.0 us")));
    }

    #[test]
    fn the_foot_says_what_is_special() {
        let mut state = ScreenState { is_paused: true, filter: "get".to_owned(), ..ScreenState::default() };
        let foot =
            |state: &mut ScreenState, overview: &Overview| lines(&drawn(state, overview, (80, 10), ALL)).pop().unwrap();
        assert_eq!(
            foot(&mut state, &usual()),
            "PAUSED  filter: get  q quit  s sort  / filter  space pause  tab part  ? keys"
        );
        state.is_filtering = true;
        assert_eq!(foot(&mut state, &usual()), "filter: get▏  Enter keeps it, Esc clears it");
    }

    #[test]
    fn a_list_of_keys_and_an_empty_filter() {
        let mut state = ScreenState { shows_keys: true, ..ScreenState::default() };
        let all = |state: &mut ScreenState| lines(&drawn(state, &usual(), (80, 24), ALL)).join("\n");
        assert!(all(&mut state).contains("sort by calls, errors"));
        let mut state = ScreenState { filter: "zzz".to_owned(), ..ScreenState::default() };
        assert!(
            all(&mut state).contains("functions (0 of 2)") && all(&mut state).contains("no function has this text")
        );
    }

    #[test]
    fn what_has_no_room_is_counted_or_marked() {
        let mut overview = usual();
        overview.servers = vec![overview.servers[0].clone(); 9];
        let shown = lines(&drawn(&mut ScreenState::default(), &overview, (80, 24), ALL));
        let title = shown.iter().find(|line| line.starts_with("servers (")).expect("not all have room");
        let rows = shown.iter().filter(|line| line.starts_with("  shop:8080  ")).count();
        assert_eq!(*title, format!("servers ({rows} of 9)"));
        assert!(shown.iter().any(|line| line.ends_with('…')), "{shown:?}");
        let shown = lines(&drawn(&mut ScreenState::default(), &overview, (200, 60), ALL));
        assert!(shown.contains(&"servers".to_owned()), "{shown:?}");
    }

    #[test]
    fn room_is_shared() {
        assert_eq!(shared(20, &[5, 6]), [5, 6]);
        assert_eq!(shared(20, &[5, 100]), [5, 15]);
        assert_eq!(shared(10, &[50, 100]), [5, 5]);
        assert_eq!(shared(4, &[50, 100]), [0, 4]);
        assert_eq!(shared(0, &[1]), [0]);
    }
}
