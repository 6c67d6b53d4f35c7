//! Commands on an experiment: `lvd run`, its stages one by one, `lvd plan`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use tch::Device;

use crate::data::{self, DataSet};
use crate::device::{self, DeviceChoice};
use crate::experiment::config::{Config, SOURCES};
use crate::experiment::context::Context;
use crate::experiment::stage::Stage;
use crate::experiment::stages::Conductor;
use crate::experiment::{evaluation, forecast, models, pixel_teacher, plan, read, rows, taken};
use crate::run::results::{self, Row};
use crate::run::{Manifest, RunFolder, progress, whole};
use crate::teacher::TeacherConfig;

#[derive(Debug, Args)]
pub(super) struct ExperimentArgs {
    /// The experiment file, or the name of one in experiments/ such as `mnist` or `cifar10/context`.
    experiment: PathBuf,
    /// Override a key of the experiment, such as distill.joint.epochs=3; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Seed of all random choices, instead of the experiment's.
    #[arg(long)]
    seed: Option<u64>,
    /// Run folder, instead of runs/NAME.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

impl ExperimentArgs {
    /// The experiment with its overrides and the hashes of its weights.
    pub(super) fn config(&self) -> Result<Config> {
        let mut overrides = self.set.clone();
        overrides.extend(self.seed.map(|seed| format!("seed={seed}")));
        taken::pinned(read::read(&read::named(&self.experiment)?, &overrides)?)
    }

    fn run_dir(&self, config: &Config) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| Path::new("runs").join(&config.name))
    }
}

/// Run one stage with what it needs, or everything.
pub(super) fn run(args: &ExperimentArgs, cuda: Option<&Path>, stage: Option<Stage>) -> Result<String> {
    with_conductor(args, cuda, |conductor, dir| {
        if let Some(stage) = stage {
            conductor.ensure(stage)?;
            conductor.tell_reused();
            return Ok(format!("{stage}: done, in {}", dir.display()));
        }
        let rows = everything(conductor)?;
        Ok(format!("{}\nrun folder: {}", rows::table(&rows), dir.display()))
    })
}

/// All stages of an experiment, and their evaluation.
pub(super) fn everything(conductor: &mut Conductor) -> Result<Vec<Row>> {
    if progress::is_seen() {
        whole::begin(forecast::parts(&conductor.context)?);
    }
    for stage in Stage::wanted(conductor.context.config) {
        conductor.ensure(stage)?;
    }
    conductor.tell_reused();
    whole::enter(forecast::TEST);
    let mut rows = evaluation::evaluate(&conductor.context)?;
    whole::passed(forecast::TEST);
    whole::enter(pixel_teacher::NAME);
    rows.extend(pixel_teacher::run(conductor)?);
    whole::end();
    results::write(conductor.context.run.root(), &rows)?;
    conductor.context.run.finish()?;
    Ok(rows)
}

/// Run all stages of distillation.
pub(super) fn distill(args: &ExperimentArgs, cuda: Option<&Path>) -> Result<String> {
    run(args, cuda, Some(Stage::last(&args.config()?)))
}

/// Work in the run folder of an experiment.
pub(super) fn with_conductor(
    args: &ExperimentArgs,
    cuda: Option<&Path>,
    work: impl FnOnce(&mut Conductor, &Path) -> Result<String>,
) -> Result<String> {
    let config = args.config()?;
    let device = device::open(args.device, cuda)?;
    let dir = args.run_dir(&config);
    in_folder(&config, &dir, device, |conductor| work(conductor, &dir))
}

/// Work on an experiment in a folder.
pub(super) fn in_folder<T>(
    config: &Config,
    dir: &Path,
    device: Device,
    work: impl FnOnce(&mut Conductor) -> Result<T>,
) -> Result<T> {
    device::set_threads(config.compute.threads)?;
    let data = data::open(&config.data, config.seed)?;
    models::view(config, data.train.shape())?;
    taken::check(config, dir, data.train.shape())?;
    let folder = RunFolder::open(dir)?;
    folder.open_log()?;
    let manifest = manifest(config, &data, device);
    let pictures = manifest.data.clone();
    folder.begin(config, manifest, &SOURCES)?;
    work(&mut Conductor::new(Context::new(config, &folder, &data, device)?, &pictures)?)
}

fn manifest(config: &Config, data: &DataSet, device: Device) -> Manifest {
    let mut manifest = Manifest::now(device, config.seed, config.protocol.name());
    manifest.data = data.hashes();
    let (stage, hash) = match (&config.init_from, &config.teacher) {
        (Some(_), _) => (Stage::Taken, config.init_sha256.clone()),
        (None, TeacherConfig::TorchScript(teacher)) => (Stage::Teacher, teacher.sha256.clone()),
        (None, TeacherConfig::Features(given)) => (Stage::Teacher, given.sha256.clone()),
        (None, TeacherConfig::VqVae(_) | TeacherConfig::Pixel(_)) => (Stage::Teacher, None),
    };
    manifest.weights.extend(hash.map(|hash| (stage.name().to_owned(), hash)));
    manifest
}

/// Say what an experiment would do.
pub(super) fn describe(args: &ExperimentArgs, cuda: Option<&Path>) -> Result<String> {
    let config = args.config()?;
    let device = device::open(args.device, cuda)?;
    device::set_threads(config.compute.threads)?;
    let data = data::open(&config.data, config.seed)?;
    plan::describe(&config, &data, &args.run_dir(&config), device)
}
