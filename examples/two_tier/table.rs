//! The rows as a table, and what they say.

use crate::measure::{Measured, Row};
use crate::page::{BEST, BOLD, DIM, GREEN, Page, YELLOW, grouped, plural};

/// What the article found to be right.
const ARTICLES: usize = 128;

/// What stands beside the bar on one side of the table, spaces included.
const NUMBERS: usize = 27;
const FRAME: usize = 13;

pub fn show(page: &Page, rows: &[Row]) {
    let bar = (page.width.saturating_sub(FRAME) / 2).saturating_sub(NUMBERS);
    let side = NUMBERS + bar;
    let rule = |left, middle, right| {
        let (first, side) = ("─".repeat(9), "─".repeat(side));
        println!("{}", page.paint(DIM, &format!("{left}{first}{middle}{side}{middle}{side}{right}")));
    };
    let line = page.paint(DIM, "│");
    let print = |first: &str, kept: &str, fresh: &str| println!("{line} {first} {line}{kept}{line}{fresh}{line}");
    let titles = page.paint(DIM, &format!(" calls/s {:bar$} opened TIME_WAIT ", ""));

    rule("┌", "┬", "┐");
    let (kept, fresh) =
        (format!(" {:<1$}", "kept alive", side - 1), format!(" {:<1$}", "one for each request", side - 1));
    print(&page.paint(DIM, "connec-"), &page.paint(BOLD, &kept), &page.paint(BOLD, &fresh));
    print(&page.paint(DIM, "  tions"), &titles, &titles);
    rule("├", "┼", "┤");
    let best = best(rows);
    let most = rows.iter().flat_map(|row| [row.kept.per_second, row.fresh.per_second]).fold(0.0, f64::max);
    for row in rows {
        let is_best = row.connections == best.connections;
        let first = format!("{} {:>5}", if is_best { "►" } else { " " }, row.connections);
        let colour = if is_best { BEST } else { "" };
        let half = |measured: &Measured, bar_colour| {
            let calls = page.paint(colour, &format!("{:>7}", grouped(measured.per_second.round())));
            let bar = page.paint(bar_colour, &drawn(measured.per_second / most, bar));
            let left = measured.time_wait.map_or("–".into(), grouped);
            let left = page.paint(if left == "0" { "" } else { YELLOW }, &format!("{left:>9}"));
            format!(" {calls} {bar} {:>6} {left} ", grouped(measured.opened))
        };
        print(&page.paint(colour, &first), &half(&row.kept, GREEN), &half(&row.fresh, YELLOW));
    }
    rule("└", "┴", "┘");
}

/// A bar of `width` characters, of which a share is filled, to an eighth of a character.
fn drawn(share: f64, width: usize) -> String {
    let eighths = (share * (width * 8) as f64).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]);
    format!("{bar:<width$}")
}

fn best(rows: &[Row]) -> &Row {
    let faster = |a: &&Row, b: &&Row| a.kept.per_second.total_cmp(&b.kept.per_second);
    rows.iter().max_by(faster).expect("a sweep has a row")
}

/// What the table says of the article, in two sentences.
pub fn verdict(rows: &[Row]) -> String {
    let best = best(rows);
    let speed = |row: &Row| format!("{} calls a second", grouped(row.kept.per_second.round()));
    let near: Vec<_> = rows
        .iter()
        .filter(|row| row.connections != best.connections && row.kept.per_second >= 0.9 * best.kept.per_second)
        .map(|row| row.connections.to_string())
        .collect();
    let near = match near.as_slice() {
        [] => String::new(),
        [one] => format!("; {one} comes within a tenth of it"),
        [some @ .., last] => format!("; {} and {last} come within a tenth of it", some.join(", ")),
    };
    let articles = match rows.iter().find(|row| row.connections == ARTICLES) {
        Some(row) if row.connections == best.connections => ", as in the article".to_owned(),
        Some(row) => format!(", where the article's {ARTICLES} made {}", grouped(row.kept.per_second.round())),
        None => String::new(),
    };
    let fastest = format!("Kept alive, {} did most here: {}{articles}{near}.", plural(best.connections), speed(best));

    let fresh = rows.iter().map(|row| row.fresh.per_second).fold(0.0, f64::max);
    let times = best.kept.per_second / fresh;
    let total = |side: fn(&Row) -> &Measured| {
        rows.iter().map(|row| side(row).time_wait).sum::<Option<usize>>().map(|sum| match sum {
            0 => "none".to_owned(),
            sum => grouped(sum),
        })
    };
    let calls: u32 = rows.iter().map(|row| row.fresh.calls).sum();
    let sockets = match (total(|row| &row.fresh), total(|row| &row.kept)) {
        (Some(fresh), Some(kept)) => format!(
            "whose {} calls left {fresh} sockets in TIME_WAIT while kept connections left {kept} (each leaves one, once, \
             when its client goes)",
            grouped(calls)
        ),
        _ => "whose sockets in TIME_WAIT can't be counted on this system, which has no /proc/net/tcp".to_owned(),
    };
    format!(
        "{fastest} That is {times:.1} times the best that was reached with a connection for each request, {sockets}."
    )
}

pub fn failures(rows: &[Row]) -> String {
    let halves = || rows.iter().flat_map(|row| [&row.kept, &row.fresh]);
    let calls = grouped(halves().map(|half| half.calls).sum::<u32>());
    let failed: Vec<_> = halves().flat_map(|half| &half.failed).collect();
    match failed.as_slice() {
        [] => format!("Of {calls} calls none failed."),
        [first, ..] => format!("Of {calls} calls {} failed, the first with: {first}", failed.len()),
    }
}
