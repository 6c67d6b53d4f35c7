//! The tables of a report in Markdown.

use std::fmt::Write;

use super::differences::{labels, over_seeds};
use super::escape;
use super::summary::Summary;
use crate::run::results::Row;
use crate::run::results::verdict;

/// The cells of a row: model, reading, bpd, standard error, prior, residual, refund, parameters, seconds.
#[must_use]
pub fn cells(row: &Row) -> [String; 9] {
    let four = |x: f64| format!("{:.4}", if x.abs() < 5e-5 { 0.0 } else { x });
    [
        escape::line(&row.label),
        escape::line(&row.reading),
        four(row.bits_per_dimension),
        four(row.standard_error),
        four(row.latent_bpd),
        four(row.conditional_bpd),
        four(row.refund_bpd()),
        row.parameters.map_or_else(|| "–".to_owned(), |n| n.to_string()),
        format!("{:.0}", row.seconds),
    ]
}

/// Their names.
pub const HEADS: [&str; 9] =
    ["model", "reading", "bpd", "±", "prior", "residual", "refund", "parameters", "training, s"];

/// One table of all runs' rows.
#[must_use]
pub fn tables(runs: &[Summary], mixed: bool) -> String {
    let many = runs.len() > 1;
    let mut heads: Vec<&str> = if many { vec!["run"] } else { Vec::new() };
    heads.extend(HEADS);
    if mixed {
        heads.push("counted by");
    }
    let names = labels(runs);
    let mut text = String::new();
    line(&mut text, &heads.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
    let _ = writeln!(text, "|{}", "---|".repeat(heads.len()));
    for (run, name) in runs.iter().zip(&names) {
        for row in &run.rows {
            let mut all: Vec<String> = if many { vec![name.clone()] } else { Vec::new() };
            all.extend(cells(row));
            if mixed {
                all.push(run.kind());
            }
            line(&mut text, &all);
        }
    }
    let _ = writeln!(
        text,
        "\nTest split, bits per dimension; bpd = prior + residual - refund; ± is one standard error over pictures."
    );
    seeds(&mut text, runs);
    for (run, name) in runs.iter().zip(&names) {
        let (n, kind) = (run.rows.first().map_or(0, |row| row.num_images), run.kind());
        let _ = writeln!(
            text,
            "\n- {}",
            escape::markdown(&format!(
                "{name}: {}, {n} pictures, {kind}, seed {}, {}",
                run.folder.display(),
                run.manifest.seed,
                computed_by(run)
            ))
        );
        if let Some(verdict) = verdict(&run.rows) {
            let _ = writeln!(text, "  {}.", escape::line(&verdict));
        }
        if let Some((below, _)) = run.below_teacher() {
            let _ = writeln!(text, "  The student is {below:.4} bits below its teacher's own bound.");
        }
    }
    text
}

/// A row of a table.
fn line(text: &mut String, cells: &[String]) {
    let escaped: Vec<String> = cells.iter().map(|cell| escape::markdown(cell)).collect();
    let _ = writeln!(text, "| {} |", escaped.join(" | "));
}

/// The table of means over seeds, where some runs differ in their seed alone.
fn seeds(text: &mut String, runs: &[Summary]) {
    let groups = over_seeds(runs);
    if groups.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nLast models, mean and standard deviation over seeds:\n");
    let cells = |cells: [&str; 5]| cells.map(str::to_owned);
    line(text, &cells(["runs", "reading", "bpd", "±", "seeds"]));
    let _ = writeln!(text, "|{}", "---|".repeat(5));
    for group in groups {
        let mean = format!("{:.4}", group.mean);
        let deviation = group.deviation.map_or("–".to_owned(), |deviation| format!("{deviation:.4}"));
        line(text, &cells([&group.label, &group.reading, &mean, &deviation, &group.runs.to_string()]));
    }
}

/// What computed a run.
#[must_use]
pub fn computed_by(run: &Summary) -> String {
    let m = &run.manifest;
    let (device, name) = (&m.device.device, &m.device.name);
    escape::line(&format!("lvd {} ({}), libtorch {}, {device} ({name})", m.version, m.commit, m.libtorch))
}
