//! The curve of what it costs by the number of invariants.

use crate::report::Size;
use plotters::prelude::*;
use std::path::Path;

/// Draws cores and memory over the number of invariants.
pub(crate) fn write(path: &Path, sizes: &[Size]) {
    let area = SVGBackend::new(path, (800, 360)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let (left, right) = area.split_horizontally(400);
    let points = |value: fn(&Size) -> f64| sizes.iter().map(|it| (count(it), value(it))).collect::<Vec<_>>();
    draw(&left, "cores", &points(|it| it.steady.usage.cores()));
    draw(&right, "MiB resident", &points(|it| it.steady.resident_mebibytes));
    area.present().unwrap();
}

fn count(size: &Size) -> f64 {
    f64::from(u32::try_from(size.invariants).unwrap())
}

fn draw(area: &DrawingArea<SVGBackend, plotters::coord::Shift>, title: &str, points: &[(f64, f64)]) {
    let end = |axis: fn(&(f64, f64)) -> f64| points.iter().map(axis).fold(0.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..end(|it| it.0), 0.0..end(|it| it.1))
        .unwrap();
    chart.configure_mesh().x_desc("invariants, each every 5 s").x_labels(5).light_line_style(WHITE).draw().unwrap();
    chart.draw_series(LineSeries::new(points.iter().copied(), &BLUE)).unwrap();
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, BLUE.filled()))).unwrap();
}
