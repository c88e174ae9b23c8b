//! Draws the good calls and the 99th percentile against the load.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::scenarios::steps::Step;

/// Returns the files that it wrote.
pub fn draw(steps: &[Step], directory: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let loads = distinct(steps.iter().map(|step| step.load));
    let good = series(steps, &loads, |step| Some(step.good_a_second() * 100.0 / step.capacity));
    let p99 = series(steps, &loads, Step::p99);
    let values = || p99.iter().flat_map(|series| &series.points).map(|(_, value)| *value);
    let decades = decades(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let (good_file, p99_file) = (directory.join("overload-good.svg"), directory.join("overload-p99.svg"));
    let caption = "calls a second that were answered in time, in percent of the capacity";
    draw_one(&good_file, caption, &loads, 0.0..110.0, &good)?;
    let caption = "99th percentile of the latency of these calls, ms";
    draw_one(&p99_file, caption, &loads, decades.log_scale(), &p99)?;
    Ok(vec![good_file, p99_file])
}

/// One peer's values, by the place of the load.
struct Series {
    peer: &'static str,
    points: Vec<(f64, f64)>,
}

fn series(steps: &[Step], loads: &[f64], figure: impl Fn(&Step) -> Option<f64>) -> Vec<Series> {
    let of = |peer| {
        let of_peer = steps.iter().filter(|step| step.peer == peer);
        let place = |load| loads.iter().position(|known| *known == load).unwrap_or_default() as f64;
        Series { peer, points: of_peer.filter_map(|step| Some((place(step.load), figure(step)?))).collect() }
    };
    distinct(steps.iter().map(|step| step.peer)).into_iter().map(of).collect()
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

/// The powers of ten around the values.
fn decades(lowest: f64, highest: f64) -> Range<f64> {
    if lowest > highest {
        return 1.0..10.0;
    }
    let from = lowest.max(0.001).log10().floor();
    10_f64.powf(from)..10_f64.powf(highest.log10().ceil().max(from + 1.0))
}

const SIZE: (u32, u32) = (820, 420);
const NAMES: u32 = 120;
const LINE_HEIGHT: i32 = 16;
const FONT: (&str, u32) = ("sans-serif", 13);

fn draw_one<Y>(file: &Path, caption: &str, loads: &[f64], y: Y, series: &[Series]) -> Result<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    // A place for each load, at the same distance.
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, FONT.into_font().resize(16.0))
        .margin(10)
        .margin_right(NAMES)
        .x_label_area_size(42)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..(loads.len().max(2) - 1) as f64, y)?;
    let text = |x: &f64| {
        let load = loads.get(x.round() as usize).filter(|_| (x - x.round()).abs() < 0.01);
        load.map(f64::to_string).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .light_line_style(RGBColor(244, 244, 244))
        .bold_line_style(RGBColor(214, 214, 214))
        .axis_style(RGBColor(120, 120, 120))
        .label_style(FONT.into_font().resize(13.0))
        .disable_x_mesh()
        .x_labels(loads.len())
        .x_label_formatter(&text)
        .y_label_formatter(&f64::to_string)
        .x_desc("load, as a multiple of the capacity")
        .draw()?;
    let mut names = Vec::new();
    // byname comes last, above the others.
    for Series { peer, points } in series.iter().rev() {
        let Style { color, width, dashed } = style(peer);
        let stroke = color.stroke_width(width);
        if dashed {
            chart.draw_series(DashedLineSeries::new(points.iter().copied(), 9, 6, stroke))?;
        } else {
            chart.draw_series(LineSeries::new(points.iter().copied(), stroke))?;
        }
        chart.draw_series(points.iter().map(|point| Circle::new(*point, width + 1, color.filled())))?;
        if let Some(last) = points.last() {
            names.push((chart.backend_coord(last), *peer, color));
        }
    }
    for ((x, y), peer, color) in apart(names) {
        let text = FONT.into_font().resize(13.0).color(&color).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(peer, (x + 10, y), text))?;
    }
    root.present()?;
    Ok(())
}

struct Style {
    color: RGBColor,
    width: u32,
    dashed: bool,
}

/// A colour for each family of peers; what is not its plain form is dashed.
fn style(peer: &str) -> Style {
    let (family, variant) = peer.split_once('-').unwrap_or((peer, ""));
    let color = match (family, variant) {
        ("byname", "fixed") => RGBColor(215, 120, 0),
        ("byname", _) => RGBColor(200, 30, 40),
        ("tarpc", _) => RGBColor(30, 100, 190),
        ("tonic", _) => RGBColor(30, 140, 70),
        _ => RGBColor(130, 70, 160),
    };
    let width = if family == "byname" { 3 } else { 2 };
    Style { color, width, dashed: !matches!(variant, "" | "frames") }
}

type Name = ((i32, i32), &'static str, RGBColor);

/// Moves the names up and down until none lies on another.
fn apart(mut names: Vec<Name>) -> Vec<Name> {
    names.sort_by_key(|((_, y), ..)| *y);
    for nth in 1..names.len() {
        let lowest = names[nth - 1].0.1 + LINE_HEIGHT;
        names[nth].0.1 = names[nth].0.1.max(lowest);
    }
    // What was pushed below the axis pushes back.
    let mut highest = SIZE.1 as i32 - 60;
    for ((_, y), ..) in names.iter_mut().rev() {
        *y = (*y).min(highest);
        highest = *y - LINE_HEIGHT;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_lie_on_each_other() {
        let names = [100, 101, 351, 355, 358].map(|y| ((0, y), "peer", RED));
        let apart: Vec<_> = apart(names.to_vec()).iter().map(|((_, y), ..)| *y).collect();
        assert_eq!(apart, [100, 116, 328, 344, 360]);
    }

    #[test]
    fn the_axis_has_whole_decades() {
        assert_eq!([decades(2.0, 70.0), decades(1.0, 1.0)], [1.0..100.0, 1.0..10.0]);
        assert_eq!(decades(f64::INFINITY, 0.0), 1.0..10.0);
    }
}
