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
    for (part, share) in others.into_iter().zip(shares) {
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
