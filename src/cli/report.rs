//! `lvd report`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::report::{self, Form, points};
use crate::run::{atomic_write, outputs};

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Run folders, or the folder of a sweep, which stands for all of its finished points.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value = "html")]
    format: Form,
    /// Where it is written; a page goes to report.html in the first folder if not given, tables to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Report on runs of different protocols or test pictures too, every row with its own.
    #[arg(long)]
    allow_mixed: bool,
}

/// Write the report; returns it, or where it is.
pub(super) fn execute(args: &ReportArgs) -> Result<String> {
    let runs = points::runs(&args.runs)?;
    if let Some(out) = args.out.as_ref().filter(|out| **out != usual_page(&args.runs)) {
        for run in &runs {
            outputs::check(&[(out, "")], &[], run)?;
        }
    }
    let text = report::report(&runs, args.format, args.allow_mixed)?;
    let usual = (args.format == Form::Html).then(|| usual_page(&args.runs));
    match args.out.clone().or(usual) {
        None => Ok(text.trim_end().to_owned()),
        Some(path) => {
            atomic_write(&path, text)?;
            Ok(path.display().to_string())
        }
    }
}

/// Where the page goes where no file is named.
fn usual_page(runs: &[PathBuf]) -> PathBuf {
    runs[0].join("report.html")
}
