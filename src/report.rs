//! A report on finished runs, from their folders alone: one page that needs nothing else, or tables in Markdown, CSV and LaTeX.

mod escape;
mod limits;
pub mod points;
pub mod summary;
pub mod differences;
pub mod charts;
pub mod markdown;
pub mod plain;
pub mod page;

use std::path::PathBuf;

use anyhow::Result;

use crate::{refusal, require};
use summary::Summary;

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One self-contained HTML page.
    Html,
    /// Tables in Markdown.
    Md,
    /// All rows with all digits, for programs.
    Csv,
    /// A LaTeX table; of several runs their last models.
    Latex,
}

/// The last models of runs as a table for the terminal, and means over seeds where there are several.
///
/// # Errors
/// A refusal where a folder holds no results.
pub fn last_models(runs: &[PathBuf]) -> Result<String> {
    let runs: Vec<Summary> = runs.iter().map(|run| Summary::read(run)).collect::<Result<_>>()?;
    let labels = differences::labels(&runs);
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(4);
    let mut lines = vec![format!(
        "{:<width$}  {:<8} {:>8} {:>7} {:>11} {:>8}",
        "run", "reading", "bpd", "+-", "parameters", "seconds"
    )];
    for (run, label) in runs.iter().zip(&labels) {
        for row in differences::last(run) {
            let parameters = row.parameters.map_or_else(|| "-".to_owned(), |n| n.to_string());
            lines.push(format!(
                "{label:<width$}  {:<8} {:>8.4} {:>7.4} {parameters:>11} {:>8.0}",
                row.reading,
                row.bits_per_dimension,
                row.standard_error,
                differences::seconds(run)
            ));
        }
    }
    for group in differences::over_seeds(&runs) {
        let deviation = group.deviation.map_or("-".to_owned(), |deviation| format!("{deviation:.4}"));
        let seeds = if group.runs == 1 {
            "of 1 seed".to_owned()
        } else {
            format!("and standard deviation of {} seeds", group.runs)
        };
        let (label, reading) = (&group.label, &group.reading);
        lines.push(format!("{label:<width$}  {reading:<8} {:>8.4} {deviation:>7} (mean {seeds})", group.mean));
    }
    Ok(lines.join("\n"))
}

/// Report on runs; with `mixed`, also on runs whose numbers cannot be compared.
///
/// # Errors
/// A refusal where a folder holds no results, or where protocols or test pictures differ and `mixed` is off.
pub fn report(runs: &[PathBuf], form: Form, mixed: bool) -> Result<String> {
    for (i, run) in runs.iter().enumerate() {
        let twice =
            runs[..i].iter().any(|other| other.canonicalize().ok().is_some_and(|o| run.canonicalize().ok() == Some(o)));
        require!(!twice, "{}: is named twice", run.display());
    }
    let runs: Vec<Summary> = runs.iter().map(|run| Summary::read(run)).collect::<Result<_>>()?;
    let comparable = runs.windows(2).all(|pair| pair[0].comparable(&pair[1]));
    if !comparable && !mixed {
        let lines: Vec<String> =
            runs.iter().map(|run| format!("\n  {}: {}", run.folder.display(), run.kind())).collect();
        return Err(refusal!(
            "the runs cannot be compared: their protocols or their test pictures differ{}\n  report on them one by one, or give \
             --allow-mixed, which names each row",
            lines.concat()
        ));
    }
    Ok(match form {
        Form::Html => page::page(&runs, !comparable)?,
        Form::Md => markdown::tables(&runs, !comparable),
        Form::Csv => plain::csv(&runs)?,
        Form::Latex => plain::latex(&runs),
    })
}
