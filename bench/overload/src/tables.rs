//! Tables in Markdown.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

/// Prints a table with its title. The first column is text, and the others are figures.
pub fn print<const COLUMNS: usize>(
    title: &str,
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) {
    let rows = rows.into_iter().map(Vec::from);
    print_wide(title, header.map(str::to_owned).to_vec(), rows);
}

/// The same with a number of columns that depends on the run.
pub fn print_wide(title: &str, header: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{title}\n\n{table}");
}

/// A figure of a table, or a dash where there is none.
pub fn figure(value: Option<f64>, decimals: usize) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

/// What part of a whole is, in percent.
pub fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part * 100.0 / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!(figure(Some(12.345), 1), "12.3");
        assert_eq!([figure(None, 1), figure(Some(f64::NAN), 0)], ["–", "–"]);
    }

    #[test]
    fn a_share_of_nothing_is_not_known() {
        assert_eq!([percent(1.0, 4.0), percent(0.0, 4.0), percent(0.0, 0.0)], [Some(25.0), Some(0.0), None]);
    }
}
