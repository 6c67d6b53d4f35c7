//! Charts as SVG that takes its text colour from the page.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::summary::Point;
use crate::run::results::Row;

const BLUE: RGBColor = RGBColor(46, 119, 187);
const ORANGE: RGBColor = RGBColor(217, 119, 6);
const GREY: RGBColor = RGBColor(128, 128, 128);
const SIZE: (u32, u32) = (360, 220);

/// Training (orange) and validation (blue) of a stage over its epochs.
///
/// # Errors
/// When the chart cannot be drawn.
pub fn curve(points: &[Point]) -> Result<String> {
    let values = || points.iter().flat_map(|p| [Some(p.valid), p.train]).flatten().filter(|v| v.is_finite());
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let margin = ((high - low) * 0.08).max(0.001);
    let last = points.iter().map(|p| p.epoch).max().unwrap_or(0).max(1);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..last as f64, low - margin..high + margin)
            .map_err(drawing)?;
        let format = |x: &f64| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .x_labels(6)
            .x_label_formatter(&format)
            .y_labels(5)
            .y_label_formatter(&|y| format!("{y:.3}"))
            .label_style(("sans-serif", 12))
            .draw()
            .map_err(drawing)?;
        let valid = points.iter().map(|p| (p.epoch as f64, p.valid));
        let train = points.iter().filter_map(|p| Some((p.epoch as f64, p.train?)));
        for (line, colour) in [(train.collect::<Vec<_>>(), ORANGE), (valid.collect(), BLUE)] {
            chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2))).map_err(drawing)?;
            chart.draw_series(line.iter().map(|&p| Circle::new(p, 2, colour.filled()))).map_err(drawing)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(for_pages(&svg))
}

/// Prior (orange) and residual (blue) of every row, stacked; the refund is what lies behind the tick of the total.
///
/// # Errors
/// When the chart cannot be drawn.
pub fn decomposition(rows: &[Row]) -> Result<String> {
    let most = rows.iter().map(|r| r.latent_bpd + r.conditional_bpd).fold(0.0, f64::max).max(0.001);
    let height = 26 * rows.len() as u32 + 40;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (720, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .x_label_area_size(24)
            .build_cartesian_2d(0.0..most * 1.02, 0.0..rows.len() as f64)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .x_label_formatter(&|x| format!("{x:.2}"))
            .label_style(("sans-serif", 12))
            .draw()
            .map_err(drawing)?;
        for (i, row) in rows.iter().enumerate() {
            let top = (rows.len() - i) as f64;
            let (prior, sum) = (row.latent_bpd, row.latent_bpd + row.conditional_bpd);
            let bar = |from: f64, to: f64, colour: RGBColor| {
                Rectangle::new([(from, top - 0.85), (to, top - 0.15)], colour.mix(0.8).filled())
            };
            let total = row.bits_per_dimension;
            let tick = PathElement::new([(total, top - 0.95), (total, top - 0.05)], GREY.stroke_width(3));
            chart.draw_series([bar(0.0, prior, ORANGE), bar(prior, sum, BLUE)]).map_err(drawing)?;
            chart.draw_series([tick]).map_err(drawing)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(for_pages(&svg))
}

/// Shares of clusters, largest first, as bars.
///
/// # Errors
/// When the chart cannot be drawn.
pub fn shares(shares: &[f64]) -> Result<String> {
    let most = shares.iter().copied().fold(0.0, f64::max).max(1e-6);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (720, 160)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .x_label_area_size(24)
            .y_label_area_size(46)
            .build_cartesian_2d(0.0..shares.len() as f64, 0.0..most * 1.05)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .y_labels(4)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{:.1} %", y * 100.0))
            .label_style(("sans-serif", 12))
            .draw()
            .map_err(drawing)?;
        let bar = |(i, share): (usize, &f64)| {
            Rectangle::new([(i as f64 + 0.1, 0.0), (i as f64 + 0.9, *share)], BLUE.mix(0.8).filled())
        };
        chart.draw_series(shares.iter().enumerate().map(bar)).map_err(drawing)?;
        root.present().map_err(drawing)?;
    }
    Ok(for_pages(&svg))
}

/// Black text becomes that of the page, and the drawing scales with its column.
fn for_pages(svg: &str) -> String {
    svg.replace("fill=\"#000000\"", "fill=\"currentColor\"").replacen(
        "<svg ",
        "<svg class=\"chart\" role=\"presentation\" ",
        1,
    )
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a chart cannot be drawn: {error}")
}
