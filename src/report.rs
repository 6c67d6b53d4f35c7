//! A report on finished runs, from their folders alone: one page that needs nothing else, or tables in Markdown.

mod escape;
mod limits;
pub mod summary;
pub mod charts;
pub mod markdown;
pub mod page;

use std::path::PathBuf;

use anyhow::Result;

use crate::refusal;
use summary::Summary;

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One self-contained HTML page.
    Html,
    /// Tables in Markdown.
    Md,
}

/// Report on runs; with `mixed`, also on runs whose numbers cannot be compared.
///
/// # Errors
/// A refusal where a folder holds no results, or where protocols or test pictures differ and `mixed` is off.
pub fn report(runs: &[PathBuf], form: Form, mixed: bool) -> Result<String> {
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
    })
}
