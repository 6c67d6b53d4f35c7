//! Charts as SVG that takes its text colour from the page.

use anyhow::{Result, anyhow};
use maud::html;
use plotters::prelude::*;

use super::escape;
use super::summary::Point;
use crate::run::results::Row;

const BLUE: RGBColor = RGBColor(46, 119, 187);
const ORANGE: RGBColor = RGBColor(217, 119, 6);
const GREY: RGBColor = RGBColor(128, 128, 128);
const SIZE: (u32, u32) = (360, 230);
const BITS: &str = "bits per dimension";

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
            .margin_right(18)
            .x_label_area_size(38)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..last as f64, low - margin..high + margin)
            .map_err(drawing)?;
        let format = |x: &f64| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .x_labels((last as usize + 1).min(6))
            .x_desc("epoch")
            .y_desc(BITS)
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
    let end = points.last().map_or(f64::NAN, |point| point.valid);
    Ok(for_pages(
        &svg,
        &format!("validation from {:.4} to {end:.4} bits per dimension over {last} epochs", points[0].valid),
    ))
}

/// Bits per dimension of runs against another number, `(x, bits, name)`; on a logarithmic axis.
///
/// # Errors
/// When the chart cannot be drawn.
pub fn scatter(points: &[(f64, f64, String)], title: &str) -> Result<String> {
    let ends = |of: &dyn Fn(&(f64, f64, String)) -> f64| {
        let all = || points.iter().map(of);
        (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max))
    };
    let ((left, right), (low, high)) = (ends(&|p| p.0.max(1e-3)), ends(&|p| p.1));
    let margin = ((high - low) * 0.12).max(0.002);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (480, 300)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(18)
            .x_label_area_size(38)
            .y_label_area_size(62)
            .build_cartesian_2d((left / 1.3).ln()..(right * 2.0).ln(), low - margin..high + margin)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .x_labels(5)
            .x_desc(title)
            .y_desc(BITS)
            .x_label_formatter(&|x| short(x.exp()))
            .y_label_formatter(&|y| format!("{y:.3}"))
            .label_style(("sans-serif", 12))
            .draw()
            .map_err(drawing)?;
        for (x, y, name) in points {
            let at = (x.max(1e-3).ln(), *y);
            chart.draw_series([Circle::new(at, 4, BLUE.filled())]).map_err(drawing)?;
            let text = Text::new(name.clone(), (at.0 + (right / left).ln().max(0.3) * 0.03, at.1), ("sans-serif", 11));
            chart.draw_series([text]).map_err(drawing)?;
        }
        root.present().map_err(drawing)?;
    }
    let told: Vec<String> = points.iter().map(|(x, y, name)| format!("{name}: {y:.4} at {}", short(*x))).collect();
    Ok(for_pages(&svg, &format!("bits per dimension against {title}: {}", told.join("; "))))
}

/// A number in few letters.
fn short(x: f64) -> String {
    match x {
        x if x >= 1e6 => format!("{:.3} M", x / 1e6).replace(".000", ""),
        x if x >= 1e3 => format!("{:.1} k", x / 1e3).replace(".0 ", " "),
        x if x >= 10.0 => format!("{x:.0}"),
        x => format!("{x:.1}"),
    }
}

/// Prior (orange) and residual (blue) of every row, stacked; the refund is what lies behind the tick of the total.
///
/// # Errors
/// When the chart cannot be drawn.
pub fn decomposition(rows: &[Row]) -> Result<String> {
    let most = rows.iter().map(|r| r.latent_bpd + r.conditional_bpd).fold(0.0, f64::max).max(0.001);
    let height = 40 * rows.len() as u32 + 50;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (720, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .margin_left(18)
            .margin_right(18)
            .x_label_area_size(36)
            .build_cartesian_2d(0.0..most * 1.02, 0.0..rows.len() as f64)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .x_desc(BITS)
            .x_label_formatter(&|x| format!("{x:.2}"))
            .label_style(("sans-serif", 12))
            .draw()
            .map_err(drawing)?;
        for (i, row) in rows.iter().enumerate() {
            let top = (rows.len() - i) as f64;
            let (prior, sum) = (row.latent_bpd, row.latent_bpd + row.conditional_bpd);
            let bar = |from: f64, to: f64, colour: RGBColor| {
                Rectangle::new([(from, top - 0.95), (to, top - 0.45)], colour.mix(0.8).filled())
            };
            let total = row.bits_per_dimension;
            let tick = PathElement::new([(total, top - 1.0), (total, top - 0.4)], GREY.stroke_width(3));
            let name = Text::new(
                format!("{} ({}): {total:.4}", escape::line(&row.label), escape::line(&row.reading)),
                (0.0, top - 0.08),
                ("sans-serif", 12),
            );
            chart.draw_series([name]).map_err(drawing)?;
            chart.draw_series([bar(0.0, prior, ORANGE), bar(prior, sum, BLUE)]).map_err(drawing)?;
            chart.draw_series([tick]).map_err(drawing)?;
        }
        root.present().map_err(drawing)?;
    }
    let told: Vec<String> = rows.iter().map(|row| format!("{} {:.4}", row.label, row.bits_per_dimension)).collect();
    Ok(for_pages(&svg, &format!("bits per dimension, prior and residual of every row: {}", told.join("; "))))
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
            .margin_right(18)
            .x_label_area_size(36)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..shares.len() as f64, 0.0..most * 1.05)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .y_labels(4)
            .x_labels(shares.len().min(12))
            .x_desc("cluster, largest first")
            .y_desc("share of patches")
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
    let [most, least] = [shares.first(), shares.last()].map(|share| 100.0 * share.copied().unwrap_or(0.0));
    Ok(for_pages(&svg, &format!("shares of {} clusters, from {most:.1} % to {least:.1} %", shares.len())))
}

/// Black text becomes that of the page, and the drawing scales with its column.
/// `told` is what it shows, in words.
fn for_pages(svg: &str, told: &str) -> String {
    let told = html! { (escape::line(told)) }.into_string().replace('"', "&quot;");
    let start = format!("<svg class=\"chart\" role=\"img\" aria-label=\"{told}\" ");
    svg.replace("fill=\"#000000\"", "fill=\"currentColor\"").replacen("<svg ", &start, 1)
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a chart cannot be drawn: {error}")
}
