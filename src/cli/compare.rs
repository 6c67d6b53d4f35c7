//! `lvd compare`: runs on the same pictures, picture by picture.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::pictures::PictureArgs;
use crate::device::{self, DeviceChoice};
use crate::experiment::eval::{self, Report, Request};
use crate::mixture::observed::Observed;
use crate::patch::Reading;

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Run folder that the others are compared with.
    first: PathBuf,
    /// Further run folders.
    #[arg(required = true, value_name = "RUN")]
    others: Vec<PathBuf>,
    #[command(flatten)]
    pictures: PictureArgs,
    /// Which number stands for log P(x), of all runs; the one that each model learned from if not given.
    #[arg(long, value_enum)]
    reading: Option<Reading>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Bits per dimension of every run, and of every run but the first less the first: the mean over pictures of the differences, whose
/// standard error is much smaller than those of the runs.
pub(super) fn execute(args: &CompareArgs, cuda: Option<&Path>) -> Result<String> {
    let runs: Vec<PathBuf> = std::iter::once(&args.first).chain(&args.others).cloned().collect();
    let device = device::open(args.device, cuda)?;
    device::set_threads(eval::threads(&runs)?)?;
    let wanted = args.pictures.wanted()?;
    if wanted.data.is_none() {
        eval::same_pictures(&runs, &wanted.split.to_string())?;
    }
    let request = Request { wanted, reading: args.reading, draws: 1, observed: Observed::All };
    let reports = runs.iter().map(|run| eval::evaluate(run, &request, device)).collect::<Result<Vec<_>>>()?;
    let first = &reports[0];
    let differences = reports[1..].iter().map(|other| other.less(first)).collect::<Result<Vec<_>>>()?;
    if args.json {
        let rows = differences.iter().zip(&args.others).map(|((score, better), run)| {
            json!({
                "run": run, "less": args.first, "difference_bits_per_dimension": score.bits_per_dimension,
                "standard_error": score.standard_error, "share_of_pictures_below": better,
            })
        });
        let rows: Vec<Value> = rows.collect();
        let all: Vec<_> = reports.iter().map(Report::json).collect();
        return Ok(json!({"runs": all, "differences": rows}).to_string());
    }
    let mut lines: Vec<String> = reports.iter().map(Report::line).collect();
    for ((score, better), run) in differences.iter().zip(&args.others) {
        lines.push(format!(
            "{} less {}: {:+.4} +- {:.4} bits per dimension over {} pictures, below it on {:.0} % of them",
            run.display(),
            args.first.display(),
            score.bits_per_dimension,
            score.standard_error,
            score.num_images,
            100.0 * better
        ));
    }
    let readings: BTreeSet<&str> = reports.iter().map(|report| report.measure.reading.name()).collect();
    if readings.len() > 1 {
        let names: Vec<&str> = readings.into_iter().collect();
        lines.push(format!(
            "careful: these are of several readings ({}), and a density is a bound; --reading compares one",
            names.join(", ")
        ));
    }
    Ok(lines.join("\n"))
}
