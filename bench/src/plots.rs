//! Draws the medians against the calls in flight: a file for each work and figure.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use plotters::chart::ChartBuilder;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::{self, Figure, distinct, median_min_max};
use crate::measurement::Measurement;
use crate::work::Work;

/// Returns the files that it wrote.
pub fn draw(measurements: &[Measurement], directory: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let mut files = Vec::new();
    for work in distinct(measurements.iter().map(|m| m.work)) {
        let of_work: Vec<_> = measurements.iter().filter(|m| m.work == work).collect();
        for plot in PLOTS.iter().filter(|plot| plot.figure.is_of(work)) {
            let file = directory.join(format!("{work}-{}.svg", plot.file.replace("call", work.unit())));
            plot.draw(&file, work, &series(&of_work, &plot.figure))?;
            files.push(file);
        }
    }
    Ok(files)
}

struct Plot {
    file: &'static str,
    title: &'static str,
    figure: Figure,
}

const PLOTS: [Plot; 3] = [
    Plot { file: "calls", title: "calls a second", figure: figures::THROUGHPUT },
    Plot { file: "p50", title: "median of the latency, µs", figure: figures::P50 },
    Plot { file: "p99", title: "99th percentile of the latency, µs", figure: figures::P99 },
];

/// One peer's medians by calls in flight.
struct Series {
    peer: &'static str,
    points: Vec<(usize, f64)>,
}

fn series(measured: &[&Measurement], figure: &Figure) -> Vec<Series> {
    let peers = distinct(measured.iter().map(|m| m.peer)).into_iter();
    let of_peer = peers.map(|peer| {
        let mut counts = distinct(measured.iter().filter(|m| m.peer == peer).map(|m| m.in_flight));
        counts.sort_unstable();
        let medians = counts.into_iter().filter_map(|count| {
            let rounds = measured.iter().filter(|m| m.peer == peer && m.in_flight == count);
            let (median, ..) = median_min_max(&mut rounds.map(|m| figure.of(m)).collect::<Vec<_>>())?;
            Some((count, median))
        });
        Series { peer, points: medians.collect() }
    });
    of_peer.collect()
}

const SIZE: (u32, u32) = (820, 500);
const NAMES: u32 = 120;
const LINE_HEIGHT: i32 = 15;

impl Plot {
    fn draw(&self, file: &Path, work: Work, series: &[Series]) -> Result<()> {
        let points = || series.iter().flat_map(|series| &series.points);
        // A place for each number, at the same distance: 1, 8, 32, 128, 512.
        let mut places = distinct(points().map(|(count, _)| *count));
        places.sort_unstable();
        let place = |count: usize| places.iter().position(|known| *known == count).unwrap_or_default() as f64;
        let lowest = points().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
        let decades = 10_f64.powf(lowest.log10().floor())..10_f64.powf(highest.log10().ceil());

        let root = SVGBackend::new(file, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(format!("{work}: {}", self.title.replace("call", work.unit())), FONT.into_font().resize(17.0))
            .margin(10)
            .margin_right(NAMES)
            .x_label_area_size(42)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..(places.len().max(2) - 1) as f64, decades.log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(RGBColor(244, 244, 244))
            .bold_line_style(RGBColor(214, 214, 214))
            .axis_style(RGBColor(120, 120, 120))
            .label_style(FONT.into_font().resize(13.0))
            .disable_x_mesh()
            .x_labels(places.len())
            .x_label_formatter(&|x| label(&places, *x))
            .y_label_formatter(&|y| figures::text(*y))
            .x_desc(if work == Work::Stream { "streams at once" } else { "calls in flight" })
            .draw()?;
        let mut names = Vec::new();
        for Series { peer, points } in series {
            let mut at = points.iter().map(|(count, value)| (place(*count), *value));
            let Style { color, width, dashed } = style(peer);
            let stroke = color.stroke_width(width);
            if dashed {
                chart.draw_series(DashedLineSeries::new(at.clone(), 9, 6, stroke))?;
            } else {
                chart.draw_series(LineSeries::new(at.clone(), stroke))?;
            }
            chart.draw_series(at.clone().map(|point| Circle::new(point, width + 1, color.filled())))?;
            if let Some(last) = at.next_back() {
                names.push((chart.backend_coord(&last), *peer, color));
            }
        }
        for ((x, y), peer, color) in apart(names) {
            let text = FONT.into_font().resize(13.0).color(&color).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(peer, (x + 10, y), text))?;
        }
        root.present()?;
        Ok(())
    }
}

const FONT: (&str, u32) = ("sans-serif", 13);

fn label(places: &[usize], x: f64) -> String {
    let near = x.round();
    let count = places.get(near as usize).filter(|_| (x - near).abs() < 0.01);
    count.map(usize::to_string).unwrap_or_default()
}

struct Style {
    color: RGBColor,
    width: u32,
    dashed: bool,
}

/// A colour for each family of peers; what is not its plain form is dashed.
fn style(peer: &str) -> Style {
    let (family, variant) = peer.split_once('-').unwrap_or((peer, ""));
    let color = match family {
        "byname" => RGBColor(200, 30, 40),
        "floor" => RGBColor(110, 110, 110),
        "tarpc" => RGBColor(30, 100, 190),
        "tonic" => RGBColor(30, 140, 70),
        "jsonrpsee" => RGBColor(215, 120, 0),
        _ => RGBColor(130, 70, 160),
    };
    let width = if family == "byname" { 3 } else { 2 };
    Style { color, width, dashed: !matches!(variant, "" | "ws" | "hyper") }
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
    let mut highest = SIZE.1 as i32 - 50;
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
        let names = [100, 101, 460, 459, 470].map(|y| ((0, y), "peer", RED));
        let apart: Vec<_> = apart(names.to_vec()).iter().map(|((_, y), ..)| *y).collect();
        assert_eq!(apart, [100, 115, 420, 435, 450]);
    }

    #[test]
    fn only_the_places_have_labels() {
        assert_eq!(label(&[1, 8, 32], 2.0), "32");
        assert_eq!(label(&[1, 8, 32], 0.5), "");
        assert_eq!(label(&[1, 8, 32], 3.0), "");
    }
}
