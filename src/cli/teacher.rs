//! `lvd teacher`: look at a TorchScript module, write a teacher's features.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use super::experiment::{ExperimentArgs, with_conductor};
use super::output::Output;
use crate::data::Split;
use crate::data::pictures::PictureShape;
use crate::device::{self, DeviceChoice};
use crate::experiment::read;
use crate::experiment::stage::Stage;
use crate::experiment::teaching;
use crate::require;
use crate::run::sha256_file;
use crate::teacher::TeacherConfig;
use crate::teacher::torchscript::archive::Archive;
use crate::teacher::torchscript::contract::Contract;
use crate::teacher::torchscript::inspect::{Candidate, inspect};

/// What is asked about a teacher.
#[derive(Debug, Subcommand)]
pub enum TeacherCommand {
    /// Say what a TorchScript module is and gives, how fast, and whether it meets the contract.
    Inspect(InspectArgs),
    /// Write a teacher's features of all patches: float32 [N, L, F], or the codes of a teacher of codes, int64 [N, L].
    Features(FeaturesArgs),
}

/// Which module, and on what pictures.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The module's file.
    #[arg(value_name = "MODULE.pt")]
    module: PathBuf,
    /// Height and width of the pictures that it is shown; if not given, those of its contract, else 32.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: Option<u16>,
    /// Their channels, 1 or 3; if not given, those of its contract, else 3.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3))]
    channels: Option<u16>,
    /// Levels of their numbers.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(2..=256))]
    levels: u16,
    /// Side of a patch; if not given, the first of 4, 8, 2, 16, 1, 32 that the module's grid goes with.
    #[arg(long)]
    patch: Option<u16>,
    /// Method that is called, instead of the one that the contract names.
    #[arg(long)]
    method: Option<String>,
    /// Take the contract from the teacher of this experiment.
    #[arg(long, value_name = "EXPERIMENT.yaml")]
    experiment: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Which teacher, and where its features go.
#[derive(Debug, Args)]
pub struct FeaturesArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// The file that is written.
    #[arg(long, value_name = "FILE.npy")]
    out: PathBuf,
    /// Which part of the data.
    #[arg(long, value_enum, default_value = "train")]
    split: Split,
}

impl TeacherCommand {
    /// Whether there is something to save when the user asks to stop.
    #[must_use]
    pub fn saves(&self) -> bool {
        matches!(self, Self::Features(_))
    }
}

/// Do what was asked; returns what is to be printed.
///
/// # Errors
/// Refusals and faults.
pub fn execute(command: &TeacherCommand, cuda: Option<&Path>) -> Result<Output> {
    match command {
        TeacherCommand::Inspect(args) => look(args, cuda),
        TeacherCommand::Features(args) => with_conductor(&args.experiment, cuda, |conductor, _| {
            conductor.ensure(Stage::Teacher)?;
            let shape = teaching::write_features(&conductor.context, args.split, &args.out)?;
            Ok(format!("{}: {shape:?}, SHA-256 {}", args.out.display(), sha256_file(&args.out)?))
        })
        .map(Output::from),
    }
}

/// The report on a module; a refusal after it where the contract is not met.
fn look(args: &InspectArgs, cuda: Option<&Path>) -> Result<Output> {
    require!(args.channels != Some(2), "--channels: expected 1 or 3, found 2");
    let mut contract = match &args.experiment {
        None => Contract::default(),
        Some(path) => match read::read(path, &[])?.teacher {
            TeacherConfig::TorchScript(config) => config.contract,
            _ => return Err(crate::refusal!("{}: its teacher is no torchscript module", path.display())),
        },
    };
    contract.method = args.method.clone().or(contract.method);
    let own = Archive::open(&args.module)?.contract.unwrap_or_default();
    let input = contract.over(&own).input;
    let [height, width] = match (args.size, input.size) {
        (Some(size), _) => [usize::from(size); 2],
        (None, Some(size)) => size.map(|side| side.clamp(1, 4096) as usize),
        (None, None) => [32; 2],
    };
    let channels = args.channels.map_or_else(|| input.channels.unwrap_or(3).clamp(1, 3) as usize, usize::from);
    let candidate = Candidate {
        module: args.module.clone(),
        shape: PictureShape { height, width, channels, levels: usize::from(args.levels) },
        patch: args.patch.map(usize::from),
        contract,
    };
    let found = inspect(&candidate, device::open(args.device, cuda)?)?;
    let text = if args.json { found.json() } else { found.text() };
    let fault = found.difference().map(|difference| crate::refusal!("the contract is not met: {difference}"));
    Ok(Output { text, fault })
}
