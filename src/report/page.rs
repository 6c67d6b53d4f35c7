//! The report as one HTML page: no script, nothing fetched, light or dark as the reader likes.

use std::collections::BTreeSet;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::differences::{labels, last, over_seeds, seconds};
use super::markdown::{HEADS, cells, computed_by};
use super::summary::{Picture, StageClusters, Summary};
use super::{charts, escape};
use crate::run::results::Row;
use crate::run::results::verdict;

const STYLE: &str = include_str!("style.css");

/// The page.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn page(runs: &[Summary], mixed: bool) -> Result<String> {
    let labels = labels(runs);
    let names: BTreeSet<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let title = format!("{} – lvd", names.join(", "));
    let sections = runs.iter().zip(&labels).map(|(run, label)| section(run, label)).collect::<Result<Vec<Markup>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (names.join(", ")) }
                    p { "Test split, bits per dimension: bpd = prior + residual − refund. ± is one standard error over pictures." }
                    @if runs.len() > 1 { (comparison(runs, &labels, mixed)?) }
                    @for section in sections { (section) }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// Columns that a narrow screen leaves out: all but model, bits per dimension and their standard error.
fn is_more(column: usize) -> bool {
    ![0, 2, 3].contains(&column)
}

/// The last models of all runs side by side, means over seeds, and bits against size and time.
fn comparison(runs: &[Summary], labels: &[String], mixed: bool) -> Result<Markup> {
    let points = |x: &dyn Fn(&Summary, &Row) -> Option<f64>| -> Vec<(f64, f64, String)> {
        let one = |(run, label): (&Summary, &String)| {
            let row = last(run).into_iter().min_by(|a, b| a.bits_per_dimension.total_cmp(&b.bits_per_dimension))?;
            Some((x(run, row)?, row.bits_per_dimension, label.clone()))
        };
        runs.iter().zip(labels).filter_map(one).collect()
    };
    let sizes = points(&|_, row| row.parameters.map(|n| n as f64));
    let times = points(&|run, _| Some(seconds(run)));
    let charts = [(sizes, "parameters"), (times, "seconds of training")];
    let charts = charts.into_iter().filter(|(points, _)| points.len() > 1);
    let charts = charts.map(|(points, title)| charts::scatter(&points, title)).collect::<Result<Vec<_>>>()?;
    let groups = over_seeds(runs);
    Ok(html! {
        h2 { "All runs" }
        @if mixed { p.warning { "These numbers are counted by different rules or on different pictures: the last column says which." } }
        p { "The last model of every run; its other rows stand below." }
        div.wide { table {
            thead { tr {
                th scope="col" { "run" }
                @for (i, head) in HEADS.iter().enumerate() { th.more[is_more(i)] scope="col" { (head) } }
                @if mixed { th scope="col" { "counted by" } }
            } }
            tbody { @for (run, label) in runs.iter().zip(labels) { @for row in last(run) { tr {
                th scope="row" { (label) }
                @for (i, cell) in cells(row).iter().enumerate() { td.more[is_more(i)] { (cell) } }
                @if mixed { td { (run.kind()) } }
            } } } }
        } }
        @if !groups.is_empty() {
            h3 { "Over seeds" }
            div.wide { table {
                thead { tr { @for head in ["runs", "reading", "mean bpd", "sd", "seeds"] { th scope="col" { (head) } } } }
                tbody { @for group in groups { tr {
                    th scope="row" { (group.label) }
                    td { (group.reading) }
                    td { (format!("{:.4}", group.mean)) }
                    td { (group.deviation.map_or("–".to_owned(), |sd| format!("{sd:.4}"))) }
                    td { (group.runs) }
                } } }
            } }
        }
        @if !charts.is_empty() { div.grid { @for chart in charts { figure { (PreEscaped(chart)) } } } }
    })
}

fn section(run: &Summary, label: &str) -> Result<Markup> {
    let bars = charts::decomposition(&run.rows)?;
    let curves = run.curves().into_iter().filter(|(_, points)| points.len() > 1);
    let curves = curves.map(|(stage, points)| Ok((stage, charts::curve(&points)?))).collect::<Result<Vec<_>>>()?;
    let images = run.rows.first().map_or(0, |row| row.num_images);
    Ok(html! {
        section {
            h2 { (label) }
            p.facts { (escape::line(&run.folder.display().to_string())) ": " (images) " test pictures, " (run.kind()) ", seed " (run.manifest.seed) ", " (computed_by(run)) ", started " (escape::line(&run.manifest.started)) }
            (stages(run))
            @if let Some(verdict) = verdict(&run.rows) { p { strong { (escape::line(&verdict)) } "." } }
            @if let Some((below, student)) = run.below_teacher() {
                p { "The student is " strong { (format!("{below:.4} bits")) } " per dimension below its teacher's own bound: prior "
                    (format!("{:.4}", student.latent_bpd)) ", residual " (format!("{:.4}", student.conditional_bpd)) ", refund "
                    (format!("{:.4}", student.refund_bpd())) "." }
            }
            h3 { "Where the bits go" }
            p { span.prior { "prior" } " and " span.residual { "residual" } ", row by row as above; the tick is the total, what lies to its right is the refund." }
            figure { (PreEscaped(bars)) }
            @if !curves.is_empty() {
                h3 { "Training" }
                p { "Bits per dimension after every epoch: " span.prior { "training" } " pictures during the epoch, " span.residual { "validation" } " pictures after it." }
                div.grid { @for (stage, chart) in curves { figure { (PreEscaped(chart)) figcaption { (escape::line(&stage)) } } } }
            }
            (growing(run))
            (clusters(run)?)
            (samples(run))
            details { summary { "Configuration" } pre { (run.config) } }
        }
    })
}

/// The table of stages.
fn stages(run: &Summary) -> Markup {
    let best = run.rows.iter().map(|row| row.bits_per_dimension).fold(f64::INFINITY, f64::min);
    html! {
        div.wide { table {
            thead { tr { @for (i, head) in HEADS.iter().enumerate() { th.more[is_more(i)] scope="col" { (head) } } } }
            tbody { @for row in &run.rows {
                tr.best[row.bits_per_dimension <= best] {
                    @let cells = cells(row);
                    th scope="row" { (cells[0]) }
                    @for (i, cell) in cells.iter().enumerate().skip(1) { td.more[is_more(i)] { (cell) } }
                }
            } }
        } }
    }
}

/// What growing decided, round by round.
fn growing(run: &Summary) -> Markup {
    let lines: Vec<_> = run.decisions().collect();
    let Some(first) = lines.first() else { return html! {} };
    let keys: Vec<&String> = first.values.keys().collect();
    html! {
        h3 { "Growing" }
        div.wide.low { table {
            thead { tr { th scope="col" { "round" } @for key in &keys { th scope="col" { (escape::line(key).replace('_', " ")) } } } }
            tbody { @for line in &lines { tr {
                th scope="row" { (line.step) }
                @for key in &keys { td { (number(line.values.get(*key))) } }
            } } }
        } }
    }
}

fn number(value: Option<&serde_json::Value>) -> String {
    match value {
        None => String::new(),
        Some(serde_json::Value::String(text)) => escape::line(text),
        Some(value) if value.is_f64() => value.as_f64().map_or_else(String::new, |x| format!("{x:.1}")),
        Some(value) => value.to_string(),
    }
}

/// Sizes and mean patches of clusters: the teacher's, and the finished model's.
fn clusters(run: &Summary) -> Result<Markup> {
    let mut parts = Vec::new();
    for StageClusters { stage, sizes } in &run.clusters {
        parts.push(html! {
            h3 { (escape::line(&sizes.title)) }
            p { (sizes.shares.len()) " clusters, largest first: shares and mean patches, weighted by posteriors, of "
                (sizes.pictures) " pictures." }
            figure { (PreEscaped(charts::shares(&sizes.shares)?)) }
            @if let Some(picture) = run.pictures.iter().find(|p| p.name == format!("{stage}-clusters")) {
                (image(picture, &format!("mean patches of {} clusters, numbered from 1 row by row, 16 a row", sizes.shares.len())))
            }
        });
    }
    Ok(html! { @for part in parts { (part) } })
}

fn samples(run: &Summary) -> Markup {
    let drawn: Vec<&Picture> = run.pictures.iter().filter(|p| p.name.ends_with("-samples")).collect();
    html! {
        h3 { "Samples" }
        @if drawn.is_empty() {
            p { "This run folder holds no pictures: it was evaluated by an earlier version. " code { "lvd run" } " draws them." }
        }
        @for picture in drawn {
            @let stage = picture.name.trim_end_matches("-samples");
            (image(picture, &format!("pictures drawn from the model of stage {stage}")))
        }
        @if let Some(real) = run.pictures.iter().find(|p| p.name == "real") {
            (image(real, "real pictures of the validation part"))
        }
        @for picture in run.pictures.iter().filter(|p| p.name.ends_with("-nearest")) {
            (image(picture, "above: drawn pictures; below each: the training picture that is nearest to it, by squared distance"))
        }
    }
}

fn image(picture: &Picture, what: &str) -> Markup {
    let what = escape::line(what);
    let data = format!("data:image/png;base64,{}", STANDARD.encode(&picture.png));
    html! { figure { img src=(data) alt=(what); figcaption { (what) } } }
}
