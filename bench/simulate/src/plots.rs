//! Draws what docs/reliability.md shows: where the calls go when a replica becomes bad, and the latencies.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::balancer::{LastReport, OwnCalls};
use super::world::{self, Change, Run, Scenario};
use super::{Simulation, peak_ewma, with_ejection};

type Failure = Box<dyn std::error::Error>;

/// Who is drawn, and how.
struct Drawn {
    name: &'static str,
    simulation: Simulation,
    color: RGBColor,
    width: u32,
}

static DRAWN: [Drawn; 4] = [
    Drawn {
        name: "byname",
        simulation: world::run::<with_ejection::BynameClient>,
        color: RGBColor(200, 30, 40),
        width: 3,
    },
    Drawn {
        name: "tower p2c PeakEwma",
        simulation: world::run::<peak_ewma::TowerPeakEwma>,
        color: RGBColor(30, 140, 70),
        width: 2,
    },
    Drawn { name: "own calls in flight", simulation: world::run::<OwnCalls>, color: RGBColor(30, 100, 190), width: 2 },
    Drawn { name: "last report", simulation: world::run::<LastReport>, color: RGBColor(130, 70, 160), width: 2 },
];

const SIZE: (u32, u32) = (820, 420);
const NAMES: u32 = 160;
const LINE_HEIGHT: i32 = 16;
const FONT: (&str, u32) = ("sans-serif", 13);

/// When a replica becomes bad, and how long each point of a share is.
const BAD_AT: u64 = 10;
const TENTHS: usize = 5;

/// Returns the files that it wrote.
pub fn draw(directory: &Path, seeds: u64) -> Result<Vec<PathBuf>, Failure> {
    fs::create_dir_all(directory)?;
    let slow = Share { file: "share-slow.svg", what: "becomes ten times slower", change: Change::Slow(0, 10.0) };
    let failing =
        Share { file: "share-failing.svg", what: "fails every call at once", change: Change::Failing(0, 1.0) };
    let shares = [slow, failing].map(|share| share.draw(directory, seeds));
    shares.into_iter().chain([draw_latency(directory, seeds)]).collect()
}

/// The share of the calls at a replica of three that becomes bad.
struct Share {
    file: &'static str,
    what: &'static str,
    change: Change,
}

impl Share {
    fn draw(&self, directory: &Path, seeds: u64) -> Result<PathBuf, Failure> {
        let at = Duration::from_secs(BAD_AT);
        let measured = (at, Duration::from_secs(BAD_AT + 10));
        let scenario = Scenario { changes: vec![(at, self.change)], measured, ..Scenario::new(20, 3, 0.5) };
        let of = |drawn: &'static Drawn| {
            let runs: Vec<Run> = (1..=seeds).map(|seed| (drawn.simulation)(&scenario, seed)).collect();
            (drawn, points(&runs))
        };
        let series: Vec<_> = DRAWN[..3].iter().map(of).collect();
        let caption = format!("share of the calls at one of three replicas, which {} at 0 s (20 clients)", self.what);
        let axis = Axis { caption: &caption, x: -5.0..10.0, y: 0.0..80.0, x_text: "s", places: None };
        axis.draw(&directory.join(self.file), &series)
    }
}

/// The time in seconds since the change, and the share in percent, of all seeds together.
fn points(runs: &[Run]) -> Vec<(f64, f64)> {
    let tenths = runs.iter().map(|run| run.sent.len()).min().unwrap_or_default();
    let share = |start: usize| {
        let sent = || runs.iter().flat_map(|run| &run.sent[start..start + TENTHS]);
        let all: u32 = sent().flatten().sum();
        f64::from(sent().map(|sent| sent[0]).sum::<u32>()) * 100.0 / f64::from(all.max(1))
    };
    let time = |start: usize| (start as f64 + TENTHS as f64 / 2.0) / 10.0 - BAD_AT as f64;
    let starts = (0..tenths / TENTHS).map(|nth| nth * TENTHS);
    starts.map(|start| (time(start), share(start))).filter(|(time, _)| (-5.0..=10.0).contains(time)).collect()
}

/// The 99th percentile with 1, 20 and 100 clients.
fn draw_latency(directory: &Path, seeds: u64) -> Result<PathBuf, Failure> {
    const CLIENTS: [usize; 3] = [1, 20, 100];
    let measured = (Duration::from_secs(5), Duration::from_secs(25));
    let p99 = |drawn: &Drawn, clients| {
        let scenario = Scenario { measured, ..Scenario::new(clients, 20, 0.9) };
        let runs = (1..=seeds).map(|seed| (drawn.simulation)(&scenario, seed));
        let mut all: Vec<f32> = runs.map(|run| run.latencies[run.latencies.len() * 99 / 100]).collect();
        all.sort_unstable_by(f32::total_cmp);
        f64::from(all[all.len() / 2])
    };
    let of =
        |drawn| (drawn, CLIENTS.iter().enumerate().map(|(at, clients)| (at as f64, p99(drawn, *clients))).collect());
    let series: Vec<(&'static Drawn, Vec<(f64, f64)>)> = DRAWN.iter().map(of).collect();
    let highest = series.iter().flat_map(|(_, points)| points).map(|(_, value)| *value).fold(0.0, f64::max);
    let caption = "99th percentile of the latency, ms (20 equal replicas, load 0.9)";
    let y = 0.0..(highest / 10.0).ceil() * 10.0;
    let axis = Axis { caption, x: 0.0..2.0, y, x_text: "clients", places: Some(&CLIENTS) };
    axis.draw(&directory.join("balancing-p99.svg"), &series)
}

struct Axis<'a> {
    caption: &'a str,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    x_text: &'a str,
    /// Numbers that stand at 0, 1, 2 …
    places: Option<&'a [usize]>,
}

impl Axis<'_> {
    fn draw(self, file: &Path, series: &[(&'static Drawn, Vec<(f64, f64)>)]) -> Result<PathBuf, Failure> {
        let root = SVGBackend::new(file, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(self.caption, FONT.into_font().resize(16.0))
            .margin(10)
            .margin_right(NAMES)
            .x_label_area_size(42)
            .y_label_area_size(50)
            .build_cartesian_2d(self.x, self.y)?;
        let text = |x: &f64| match self.places {
            None => format!("{x:.0}"),
            Some(places) => {
                places.get(*x as usize).filter(|_| x.fract() == 0.0).map(usize::to_string).unwrap_or_default()
            }
        };
        chart
            .configure_mesh()
            .light_line_style(RGBColor(244, 244, 244))
            .bold_line_style(RGBColor(214, 214, 214))
            .axis_style(RGBColor(120, 120, 120))
            .label_style(FONT.into_font().resize(13.0))
            .disable_x_mesh()
            .x_labels(self.places.map_or(16, <[usize]>::len))
            .x_label_formatter(&text)
            .y_label_formatter(&|y| format!("{y:.0}"))
            .x_desc(self.x_text)
            .draw()?;
        let mut names = Vec::new();
        // byname comes last, above the others.
        for (drawn, points) in series.iter().rev() {
            let Drawn { name, color, width, .. } = drawn;
            chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(*width)))?;
            if self.places.is_some() {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, width + 1, color.filled())))?;
            }
            if let Some(last) = points.last() {
                names.push((chart.backend_coord(last), *name, *color));
            }
        }
        names.sort_by_key(|((_, y), ..)| *y);
        // Names stand beside the ends of their lines, and not on each other: those at the axis go up.
        let mut highest = SIZE.1 as i32 - 60;
        for ((_, y), ..) in names.iter_mut().rev() {
            *y = (*y).min(highest);
            highest = *y - LINE_HEIGHT;
        }
        for ((x, y), name, color) in names {
            let style = FONT.into_font().resize(13.0).color(&color).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(name, (x + 10, y), style))?;
        }
        root.present()?;
        Ok(file.to_owned())
    }
}
