//! `lvd sweep`: one experiment with keys set to several values, a run folder a point, stages shared.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::experiment::{everything, in_folder};
use crate::device::{self, DeviceChoice};
use crate::experiment::sweep::{Shard, points};
use crate::experiment::{read, taken};
use crate::report::{self, Form};
use crate::run::{RunFolder, atomic_write};

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// The experiment file, or its name.
    experiment: PathBuf,
    /// Set a key to a value, or to several separated by commas, such as latents.clusters=4,8,16; all combinations are run.
    #[arg(long = "set", value_name = "KEY=VALUE[,VALUE...]", required = true)]
    set: Vec<String>,
    /// Folder of the run folders, instead of runs/NAME-sweep.
    #[arg(long, value_name = "DIR")]
    sweep_dir: Option<PathBuf>,
    /// Only this part of the points, such as 1/4: for several GPUs or machines that share the folder.
    #[arg(long, value_name = "PART/PARTS")]
    shard: Option<Shard>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Run all points, then report on those that are finished.
pub(super) fn execute(args: &SweepArgs, cuda: Option<&Path>) -> Result<String> {
    let points = points(&args.set)?;
    // A mistake in any point ends the sweep before anything is computed.
    let experiment = read::named(&args.experiment)?;
    let configs = points.iter().map(|point| {
        let config = read::read(&experiment, &point.sets).with_context(|| point.name.clone())?;
        taken::pinned(config)
    });
    let configs = configs.collect::<Result<Vec<_>>>()?;
    let device = device::open(args.device, cuda)?;
    let root = args.sweep_dir.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-sweep", configs[0].name)));
    let folders: Vec<PathBuf> = points.iter().map(|point| root.join(&point.name)).collect();
    for (number, config) in configs.iter().enumerate().filter(|(number, _)| args.shard.is_none_or(|s| s.has(*number))) {
        tracing::info!("point {} of {}: {}", number + 1, points.len(), points[number].name);
        let others = folders.iter().filter(|other| **other != folders[number]);
        let others = others.filter_map(|other| RunFolder::read(other).ok()).collect();
        in_folder(config, &folders[number], device, |conductor| {
            conductor.share(others);
            everything(conductor)
        })
        .with_context(|| points[number].name.clone())?;
    }
    let finished: Vec<PathBuf> = folders.into_iter().filter(|run| RunFolder::is_finished(run)).collect();
    let page = root.join("report.html");
    atomic_write(&page, report::report(&finished, Form::Html, false)?)?;
    let table = report::last_models(&finished)?;
    Ok(format!("{table}\n{} of {} points finished; report: {}", finished.len(), points.len(), page.display()))
}
