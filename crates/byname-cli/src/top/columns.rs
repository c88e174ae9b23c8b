//! The columns of functions: [`fitting_columns`].

use unicode_width::UnicodeWidthStr as _;

use super::function_figures::FunctionFigures;
use super::latency_window::WindowLatency;
use crate::figures;
use crate::terminal_text::inert;

/// A column of the table of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Name,
    Calls,
    Trend,
    Errors,
    ErrorShare,
    P50,
    P99,
    Max,
    InFlight,
    Shed,
}

/// As they stand in the table.
const ORDER: [Column; 10] = [
    Column::Name,
    Column::Calls,
    Column::Trend,
    Column::Errors,
    Column::ErrorShare,
    Column::P50,
    Column::P99,
    Column::Max,
    Column::InFlight,
    Column::Shed,
];

/// Which ones a narrow table keeps: the first ones.
const IMPORTANCE: [Column; 9] = [
    Column::Calls,
    Column::P99,
    Column::ErrorShare,
    Column::InFlight,
    Column::P50,
    Column::Errors,
    Column::Shed,
    Column::Max,
    Column::Trend,
];

/// A longer name is cut where a column would have to go for it.
const NAME: usize = 17;

/// The longest trend.
const LONGEST_TREND: usize = 30;

/// The columns that fit, with their widths. Without a width, as for a program, all but the trend, and whole names.
pub(crate) fn fitting_columns(width: Option<usize>, longest_name: usize) -> Vec<(Column, usize)> {
    let Some(width) = width else {
        let all = ORDER.into_iter().filter(|&column| column != Column::Trend);
        return all
            .map(|column| (column, if column == Column::Name { longest_name.max(4) } else { column.width() }))
            .collect();
    };
    let mut name = longest_name.clamp(4, NAME).min(width);
    let mut room = width - name;
    let mut chosen = Vec::new();
    for column in IMPORTANCE {
        if column.width() < room {
            room -= column.width() + 1;
            chosen.push(column);
        } else {
            // A narrower one that is less important would stand there without what it belongs to.
            break;
        }
    }
    let longer = longest_name.saturating_sub(name).min(room);
    (name, room) = (name + longer, room - longer);
    let of = |column| match column {
        Column::Name => (column, name),
        Column::Trend => (column, (column.width() + room).min(LONGEST_TREND)),
        _ => (column, column.width()),
    };
    ORDER.into_iter().filter(|column| *column == Column::Name || chosen.contains(column)).map(of).collect()
}

impl Column {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Calls => "CALLS/S",
            Self::Trend => "",
            Self::Errors => "ERR/S",
            Self::ErrorShare => "ERR %",
            Self::P50 => "P50",
            Self::P99 => "P99",
            Self::Max => "MAX",
            Self::InFlight => "IN FLIGHT",
            Self::Shed => "SHED/S",
        }
    }

    /// The least width.
    fn width(self) -> usize {
        match self {
            Self::Name => NAME,
            Self::Calls => 8,
            Self::Trend => 10,
            Self::ErrorShare => 5,
            Self::P50 | Self::P99 | Self::Max => 7,
            Self::InFlight => 9,
            Self::Errors | Self::Shed => 6,
        }
    }

    pub(crate) fn text(self, of: &FunctionFigures, width: usize) -> String {
        let Some(calls) = of.calls_per_second() else {
            return match self {
                Self::Name => of.name.clone(),
                // 0 of a server that does not answer is not known.
                Self::InFlight if of.in_flight > 0 => figures::narrow_count(of.in_flight, width),
                Self::Trend => String::new(),
                _ => "–".to_owned(),
            };
        };
        match self {
            Self::Name => of.name.clone(),
            Self::Calls => figures::narrow_rate(calls, width),
            Self::Trend => bars(&of.trend, width),
            Self::Errors => figures::narrow_rate(of.errors_per_second, width),
            Self::ErrorShare => match of.calls {
                None | Some(0) => "–".to_owned(),
                Some(calls) => figures::share(of.errors, calls).trim_end_matches(" %").to_owned(),
            },
            Self::P50 => latency(of.latency.percentile(0.5)),
            Self::P99 => latency(of.latency.percentile(0.99)),
            Self::Max => latency(of.latency.max()),
            Self::InFlight => figures::narrow_count(of.in_flight, width),
            Self::Shed => figures::narrow_rate(of.shed_per_second, width),
        }
    }

    /// The cell in its width. Numbers end where those of other rows end.
    pub(crate) fn cell(self, text: &str, width: usize) -> String {
        let text = cut(text, width);
        let space = " ".repeat(width.saturating_sub(text.width()));
        if matches!(self, Self::Name | Self::Trend) { format!("{text}{space}") } else { format!("{space}{text}") }
    }
}

/// Such as `85.3 µs`, or `>10.0 s` where only the lower bound is known.
pub(crate) fn latency(of: Option<WindowLatency>) -> String {
    match of {
        None => "–".to_owned(),
        Some(WindowLatency::Micros(micros)) => figures::time(micros.saturating_mul(1_000)),
        Some(WindowLatency::Beyond(micros)) => format!(">{}", figures::time(micros.saturating_mul(1_000))),
    }
}

/// The last numbers as bars, as many as fit. The greatest one is a whole bar.
pub(crate) fn bars(numbers: &[f64], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let numbers = &numbers[numbers.len().saturating_sub(width)..];
    let most = numbers.iter().copied().fold(0.0, f64::max);
    let level = |&number: &f64| {
        let share = if most > 0.0 { number / most } else { 0.0 };
        // The cast is of a number between 0 and 7.
        LEVELS[((share * 7.0).ceil() as usize).min(7)]
    };
    numbers.iter().map(level).collect()
}

/// Text of others in one line, which a terminal does not act on.
pub(crate) fn shown(text: &str) -> String {
    inert(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// The text in at most this width, in which wide letters count twice.
pub(crate) fn cut(text: &str, width: usize) -> String {
    let text = shown(text);
    if text.width() <= width {
        return text;
    }
    let mut kept = String::new();
    for letter in text.chars() {
        // Letters that join are narrower together, never wider.
        let mut longer = kept.clone();
        longer.push(letter);
        if longer.width() + 1 > width {
            break;
        }
        kept = longer;
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(columns: &[(Column, usize)]) -> usize {
        columns.iter().map(|(_, width)| width).sum::<usize>() + columns.len() - 1
    }

    #[test]
    fn columns_fit_every_width() {
        for width in 0..300 {
            for longest in [0, 3, 17, 40, 1_000] {
                let columns = fitting_columns(Some(width), longest);
                assert!(total(&columns) <= width, "{width} {longest}: {columns:?}");
            }
        }
    }

    #[test]
    fn eighty_columns_have_room_for_all_figures() {
        let columns =
            |width| fitting_columns(Some(width), 30).into_iter().map(|(column, _)| column).collect::<Vec<_>>();
        let all_but_trend: Vec<_> = ORDER.into_iter().filter(|&column| column != Column::Trend).collect();
        assert_eq!(columns(80), all_but_trend);
        assert_eq!(columns(91), ORDER);
        assert_eq!(columns(40), [Column::Name, Column::Calls, Column::ErrorShare, Column::P99]);
        assert_eq!(columns(10), [Column::Name]);
    }

    #[test]
    fn text_is_cut_by_its_width() {
        assert_eq!(cut("orders.get", 10), "orders.get");
        assert_eq!(cut("orders.get", 7), "orders…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!((cut("日本語", 1), cut("日本語", 0)), ("…".to_owned(), String::new()));
        assert_eq!(cut("a\u{1b}[31m\nb", 40), "a\\u{1b}[31m\\nb");
        for width in 0..20 {
            assert!(cut("e\u{301}e\u{301}👩‍👩‍👧x日", width).width() <= width);
        }
    }

    #[test]
    fn bars_show_the_last_numbers() {
        assert_eq!(bars(&[0.0, 1.0, 7.0], 3), "▁▂█");
        assert_eq!(bars(&[9.0, 0.0, 0.0], 2), "▁▁");
        assert_eq!((bars(&[], 5), bars(&[1.0], 0)), (String::new(), String::new()));
    }
}
