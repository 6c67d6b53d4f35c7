//! `lvd sweep`: one experiment with keys set to several values, a run folder a point, stages shared.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::experiment::{everything, in_folder};
use crate::data;
use crate::device::{self, DeviceChoice};
use crate::experiment::config::Config;
use crate::experiment::sweep::{Point, Shard, points};
use crate::experiment::{models, read, taken};
use crate::report::{self, Form};
use crate::require;
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
    let configs = read_all(&experiment, &points)?;
    let device = device::open(args.device, cuda)?;
    let root = args.sweep_dir.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-sweep", configs[0].name)));
    require!(!root.exists() || root.is_dir(), "{}: is no folder: name another one by --sweep-dir", root.display());
    std::fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
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
    let points_there = folders.into_iter().zip(&configs);
    let finished = points_there.filter(|(run, config)| RunFolder::is_finished(run) && is_of(run, config));
    let finished: Vec<PathBuf> = finished.map(|(run, _)| run).collect();
    let page = root.join("report.html");
    atomic_write(&page, report::report(&finished, Form::Html, false)?)?;
    let table = report::last_models(&finished)?;
    Ok(format!("{table}\n{} of {} points finished; report: {}", finished.len(), points.len(), page.display()))
}

/// The experiments of all points, whose pictures can be opened; what is wrong with any of them is told at once.
fn read_all(experiment: &Path, points: &[Point]) -> Result<Vec<Config>> {
    let (mut configs, mut problems, mut opened) = (Vec::new(), Vec::new(), Vec::new());
    for point in points {
        let config = read::read(experiment, &point.sets).and_then(taken::pinned).and_then(|config| {
            let what = (config.data.clone(), config.seed, config.patch.clone());
            if !opened.contains(&what) {
                let data = data::open(&config.data, config.seed)?;
                models::view(&config, data.train.shape())?;
                opened.push(what);
            }
            Ok(config)
        });
        match config {
            Ok(config) => configs.push(config),
            Err(error) => problems.push(format!("{}: {error:#}", point.name)),
        }
    }
    require!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(configs)
}

/// Whether a run is one of this experiment, and not one that an older sweep left under the same name.
fn is_of(run: &Path, config: &Config) -> bool {
    let without_root = |config: &Config| {
        let mut value = serde_json::to_value(config).ok()?;
        value.pointer_mut("/data")?.as_object_mut()?.remove("root");
        value.as_object_mut()?.remove("compute");
        Some(value)
    };
    let theirs = RunFolder::read(run).and_then(|run| read::of_run(&run)).ok();
    theirs.and_then(|theirs| without_root(&theirs)) == without_root(config)
}
