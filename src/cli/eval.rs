//! `lvd eval`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::output::Output;
use super::pictures::PictureArgs;
use crate::device::{self, DeviceChoice};
use crate::experiment::eval::{self, Request};
use crate::experiment::protocol::Protocol;
use crate::experiment::subject::Wanted;
use crate::mixture::observed::Observed;
use crate::patch::Reading;
use crate::require;
use crate::run::outputs;

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    pictures: PictureArgs,
    /// The protocol you expect; a run of another one is refused.
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// Which number stands for log P(x); the one that the model learned from if not given.
    #[arg(long, value_enum)]
    reading: Option<Reading>,
    /// Draws of the noise for the density reading.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Pixels of which the probability is asked; the others are summed out.
    #[arg(long, value_enum, default_value = "all")]
    observed: Observed,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write log p(x) of every picture in nats, float64 (N numbers).
    #[arg(long, value_name = "FILE.npy")]
    per_image: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Evaluate and say how well.
pub(super) fn execute(args: &EvalArgs, cuda: Option<&Path>) -> Result<Output> {
    let single = args.runs.len() == 1;
    require!(
        single || !(args.json || args.per_image.is_some()),
        "--json and --per-image take one RUN, found {}",
        args.runs.len()
    );
    if let Some(out) = &args.per_image {
        let inputs: Vec<&Path> = args.pictures.path().into_iter().collect();
        outputs::check(&[(out, "npy")], &inputs, &args.runs[0])?;
    }
    let device = device::open(args.device, cuda)?;
    let request = Request {
        wanted: Wanted { protocol: args.protocol, ..args.pictures.wanted()? },
        reading: args.reading,
        draws: args.draws as usize,
        observed: args.observed,
    };
    device::set_threads(eval::threads(&args.runs)?)?;
    let mut lines = Vec::new();
    for run in &args.runs {
        let report = match eval::evaluate(run, &request, device) {
            Ok(report) => report,
            // What is known already is said before what went wrong.
            Err(fault) => return Ok(Output { text: lines.join("\n"), fault: Some(fault) }),
        };
        lines.push(if args.json { report.json().to_string() } else { report.line() });
        if let Some(path) = &args.per_image
            && let Err(fault) = report.write_per_image(path)
        {
            return Ok(Output { text: lines.join("\n"), fault: Some(fault) });
        }
    }
    Ok(lines.join("\n").into())
}
