//! What the user types, as types; and the work it asks for.

mod teacher;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tch::Device;

use crate::data::{self, DataSet, Format, Split};
use crate::device::{self, DeviceChoice};
use crate::experiment::config::{Config, SOURCES};
use crate::experiment::context::Context;
use crate::experiment::eval::{self, Request};
use crate::experiment::protocol::Protocol;
use crate::experiment::stage::Stage;
use crate::experiment::stages::Conductor;
use crate::experiment::{evaluation, plan, read, rows, teaching};
use crate::mixture::Reading;
use crate::mixture::observed::Observed;
use crate::report::{self, Form};
use crate::require;
use crate::run::{Manifest, RunFolder, atomic_write};
use crate::teacher::TeacherConfig;

/// Distil deep generative models into probabilistic circuits and measure them in bits per dimension.
#[derive(Debug, Parser)]
#[command(name = "lvd", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on stderr.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Folder of the CUDA part of libtorch (`libtorch_cuda.so`), if the loader does not find it.
    #[arg(long, global = true, value_name = "DIR")]
    libtorch_cuda: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all stages of an experiment but those already done, evaluate, print the table of results.
    Run(ExperimentArgs),
    /// Train the teacher alone.
    TrainTeacher(ExperimentArgs),
    /// Assign latents to all training patches, with what that needs.
    AssignLatents(ExperimentArgs),
    /// Distil, with what that needs; no baselines, no evaluation.
    Distill(ExperimentArgs),
    /// Evaluate trained models on a split or on any pictures of their size.
    Eval(EvalArgs),
    /// Look at a TorchScript module, or write a teacher's features.
    #[command(subcommand)]
    Teacher(teacher::TeacherCommand),
    /// Show stages, sizes, memory and what would be reused; write nothing.
    Plan(ExperimentArgs),
    /// Report on finished runs: a self-contained HTML page, or tables in Markdown.
    Report(ReportArgs),
    /// Print the JSON schema of experiment files.
    Schema,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct ExperimentArgs {
    /// The experiment file.
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

#[derive(Debug, Args)]
struct EvalArgs {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Pictures of your own, instead of a split of the experiment's data.
    #[arg(long, value_name = "PATH", requires = "format")]
    data: Option<PathBuf>,
    /// Their format.
    #[arg(long, value_enum, requires = "data")]
    format: Option<Format>,
    /// Which part of the data.
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// The protocol you expect; a run of another one is refused.
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// Stage whose model is evaluated; the last one of distillation if not given.
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// Which number stands for log P(x); the one that the model learned from if not given.
    #[arg(long, value_enum)]
    reading: Option<Reading>,
    /// Draws of the noise for the density reading.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// Pixels of which the probability is asked; the others are summed out.
    #[arg(long, value_enum, default_value = "all")]
    observed: Observed,
    /// Root folder of the data sets, instead of the one that the run used.
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
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

#[derive(Debug, Args)]
struct ReportArgs {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value = "html")]
    format: Form,
    /// Where it is written; a page goes to report.html in the first run folder if not given, tables to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Report on runs of different protocols or test pictures too, every row with its own.
    #[arg(long)]
    allow_mixed: bool,
}

impl ReportArgs {
    fn write(&self) -> Result<String> {
        let text = report::report(&self.runs, self.format, self.allow_mixed)?;
        let usual = (self.format == Form::Html).then(|| self.runs[0].join("report.html"));
        match self.out.clone().or(usual) {
            None => Ok(text.trim_end().to_owned()),
            Some(path) => {
                atomic_write(&path, text)?;
                Ok(path.display().to_string())
            }
        }
    }
}

/// Do what was asked; returns what is to be printed on stdout.
///
/// # Errors
/// Refusals and faults, for `main` to print.
pub fn execute(cli: &Cli) -> Result<String> {
    let cuda = cli.libtorch_cuda.as_deref();
    match &cli.command {
        Command::Run(args) => run(args, cuda, None),
        Command::TrainTeacher(args) => run(args, cuda, Some(Stage::Teacher)),
        Command::AssignLatents(args) => run(args, cuda, Some(Stage::Latents)),
        Command::Distill(args) => run(args, cuda, Some(Stage::Joint)),
        Command::Eval(args) => evaluate(args, cuda),
        Command::Teacher(command) => teacher::execute(command, cuda),
        Command::Plan(args) => {
            let config = args.config()?;
            let data = data::open(&config.data, config.seed)?;
            let device = device::open(args.device, cuda)?;
            device::set_threads(config.compute.threads)?;
            plan::describe(&config, &data, &args.run_dir(&config), device)
        }
        Command::Report(args) => args.write(),
        Command::Schema => Ok(serde_json::to_string_pretty(&read::schema())?),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "lvd", &mut script);
            Ok(String::from_utf8(script)?)
        }
    }
}

impl ExperimentArgs {
    fn config(&self) -> Result<Config> {
        let mut overrides = self.set.clone();
        overrides.extend(self.seed.map(|seed| format!("seed={seed}")));
        teaching::pinned(read::read(&self.experiment, &overrides)?)
    }

    fn run_dir(&self, config: &Config) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| Path::new("runs").join(&config.name))
    }
}

/// Run one stage with what it needs, or everything.
fn run(args: &ExperimentArgs, cuda: Option<&Path>, stage: Option<Stage>) -> Result<String> {
    with_conductor(args, cuda, |conductor, dir| {
        if let Some(stage) = stage {
            conductor.ensure(stage)?;
            return Ok(format!("{stage}: done, in {}", dir.display()));
        }
        for stage in Stage::wanted(conductor.context.config) {
            conductor.ensure(stage)?;
        }
        let rows = evaluation::evaluate(&conductor.context)?;
        conductor.context.run.finish()?;
        Ok(format!("{}\nrun folder: {}", rows::table(&rows), dir.display()))
    })
}

/// Work in the run folder of an experiment.
fn with_conductor(
    args: &ExperimentArgs,
    cuda: Option<&Path>,
    work: impl FnOnce(&mut Conductor, &Path) -> Result<String>,
) -> Result<String> {
    let config = args.config()?;
    let data = data::open(&config.data, config.seed)?;
    let device = device::open(args.device, cuda)?;
    device::set_threads(config.compute.threads)?;
    let dir = args.run_dir(&config);
    crate::experiment::models::view(&config, data.train.shape())?;
    let folder = RunFolder::open(&dir)?;
    folder.start_log()?;
    let manifest = manifest(&config, &data, device);
    let pictures = manifest.data.clone();
    folder.begin(&config, manifest, &SOURCES)?;
    work(&mut Conductor::new(Context::new(&config, &folder, &data, device)?, &pictures)?, &dir)
}

fn manifest(config: &Config, data: &DataSet, device: Device) -> Manifest {
    let mut manifest = Manifest::now(device, config.seed, config.protocol.name());
    manifest.data = data.hashes();
    if let TeacherConfig::TorchScript(teacher) = &config.teacher {
        manifest.weights.extend(teacher.sha256.clone().map(|hash| (Stage::Teacher.name().to_owned(), hash)));
    }
    manifest
}

fn evaluate(args: &EvalArgs, cuda: Option<&Path>) -> Result<String> {
    let single = args.runs.len() == 1;
    require!(
        single || !(args.json || args.per_image.is_some()),
        "--json and --per-image take one RUN, found {}",
        args.runs.len()
    );
    let device = device::open(args.device, cuda)?;
    let request = Request {
        stage: args.stage,
        data: args.data.clone().zip(args.format),
        split: args.split,
        protocol: args.protocol,
        reading: args.reading,
        draws: args.draws as usize,
        observed: args.observed,
        root: args.data_root.clone(),
    };
    let reports = eval::evaluate_all(&args.runs, &request, device)?;
    if let (Some(path), Some(report)) = (&args.per_image, reports.first()) {
        report.write_per_image(path)?;
    }
    match reports.first() {
        Some(report) if args.json => Ok(report.json().to_string()),
        _ => Ok(reports.iter().map(eval::Report::line).collect::<Vec<_>>().join("\n")),
    }
}
