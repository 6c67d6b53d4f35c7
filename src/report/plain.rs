//! The rows of a report for programs and papers: CSV, and a LaTeX table.

use std::collections::BTreeSet;

use anyhow::Result;

use super::differences::{labels, last, seconds};
use super::markdown::{HEADS, cells};
use super::summary::Summary;

/// All rows of all runs as CSV, with all digits.
///
/// # Errors
/// Never for rows in memory.
pub fn csv(runs: &[Summary]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "run",
        "folder",
        "stage",
        "model",
        "reading",
        "bits_per_dimension",
        "standard_error",
        "prior",
        "residual",
        "refund",
        "parameters",
        "seconds",
        "pictures",
        "protocol",
        "seed",
    ])?;
    for (run, label) in runs.iter().zip(labels(runs)) {
        for row in &run.rows {
            writer.write_record([
                label.clone(),
                run.folder.display().to_string(),
                row.stage.clone(),
                row.label.clone(),
                row.reading.clone(),
                row.bits_per_dimension.to_string(),
                row.standard_error.to_string(),
                row.latent_bpd.to_string(),
                row.conditional_bpd.to_string(),
                row.refund_bpd().to_string(),
                row.parameters.map_or_else(String::new, |n| n.to_string()),
                row.seconds.to_string(),
                row.num_images.to_string(),
                row.protocol.clone(),
                run.manifest.seed.to_string(),
            ])?;
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// A LaTeX table (package booktabs): all rows of one run, the last models of several.
#[must_use]
pub fn latex(runs: &[Summary]) -> String {
    let many = runs.len() > 1;
    let columns = [0, 1, 2, 3, 7, 8];
    let mut lines =
        vec![format!("\\begin{{tabular}}{{{}llrrrr}}", if many { "l" } else { "" }), "\\toprule".to_owned()];
    let mut heads: Vec<String> = if many { vec!["run".to_owned()] } else { Vec::new() };
    heads.extend(columns.map(|i| HEADS[i].replace('±', "$\\pm$")));
    lines.push(format!("{} \\\\", heads.join(" & ")));
    lines.push("\\midrule".to_owned());
    for (run, label) in runs.iter().zip(labels(runs)) {
        let rows = if many { last(run) } else { run.rows.iter().collect() };
        for row in rows {
            let cells = cells(row);
            let mut all: Vec<String> = if many { vec![label.clone()] } else { Vec::new() };
            all.extend(columns.map(|i| cells[i].clone()));
            if many {
                let last = all.len() - 1;
                all[last] = format!("{:.0}", seconds(run));
            }
            let all: Vec<String> = all.iter().map(|cell| escaped(cell)).collect();
            lines.push(format!("{} \\\\", all.join(" & ")));
        }
    }
    lines.extend(["\\bottomrule".to_owned(), "\\end{tabular}".to_owned()]);
    let kinds: BTreeSet<String> = runs.iter().map(|run| format!("% {}: {}", run.name, run.kind())).collect();
    let kinds: Vec<String> = kinds.into_iter().collect();
    format!("{}\n{}\n", kinds.join("\n"), lines.join("\n"))
}

/// A text that means nothing but itself in LaTeX.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '–' => out += "--",
            '±' => out += "$\\pm$",
            _ => out.push(c),
        }
    }
    out
}
