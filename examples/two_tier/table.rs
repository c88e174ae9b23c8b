//! The rows as a table, and what they say.

use crate::measure::{Measured, Row};
use crate::page::{BOLD, DIM, GREEN, Page, YELLOW, grouped};

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
        let colour = if is_best { "1;32" } else { "0" };
        let half = |measured: &Measured, bar_colour| {
            let calls = page.paint(colour, &format!("{:>7}", grouped(measured.per_second.round())));
            let bar = page.paint(bar_colour, &drawn(measured.per_second / most, bar));
            let left = measured.time_wait.map_or("–".into(), |left| grouped(left));
            let left = page.paint(if left == "0" { "0" } else { YELLOW }, &format!("{left:>9}"));
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
    bar.extend(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8].chars());
    format!("{bar:<width$}")
}

fn best(rows: &[Row]) -> &Row {
    let faster = |a: &&Row, b: &&Row| a.kept.per_second.total_cmp(&b.kept.per_second);
    rows.iter().max_by(faster).expect("a sweep has a row")
}

/// What the table says of the article, in two sentences.
pub fn verdict(rows: &[Row]) -> String {
    let best = best(rows);
    let near: Vec<_> = rows.iter().filter(|row| row.kept.per_second >= 0.9 * best.kept.per_second).collect();
    let also = match near.as_slice() {
        [first, .., last] => format!(", and {} to {} are within a tenth of it", first.connections, last.connections),
        _ => String::new(),
    };
    let at = |row: &Row| format!("{} calls a second", grouped(row.kept.per_second.round()));
    let articles = rows.iter().find(|row| row.connections == ARTICLES);
    let (most, much) = (best.connections, at(best));
    let connections = match articles {
        Some(row) if row.connections == most => {
            format!("Kept alive, {most} connections were the fastest here as they were in the article: {much}{also}.")
        }
        Some(row) => format!(
            "Kept alive, {most} connections were the fastest here with {much}{also}; the article's {ARTICLES} made {}.",
            at(row)
        ),
        None => format!("Kept alive, {most} connections were the fastest here with {much}{also}."),
    };
    let fastest_fresh = rows.iter().map(|row| row.fresh.per_second).fold(0.0, f64::max);
    let times = best.kept.per_second / fastest_fresh;
    let sum = |side: fn(&Row) -> &Measured| {
        rows.iter().map(|row| side(row).time_wait).sum::<Option<usize>>().map(|sum| grouped(sum))
    };
    let requests: u32 = rows.iter().map(|row| row.fresh.calls).sum();
    let sockets = match (sum(|row| &row.fresh), sum(|row| &row.kept)) {
        (Some(fresh), Some(kept)) => {
            format!("{} such calls left {fresh} sockets in TIME_WAIT, kept connections left {kept}", grouped(requests))
        }
        _ => "what was left in TIME_WAIT can't be read on this system, which has no /proc/net/tcp".into(),
    };
    format!("{connections} That is {times:.1} times what a connection for each request reaches at best, and {sockets}.")
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
