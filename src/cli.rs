//! What the user types, as types; and the work it asks for.

mod codec;
mod compare;
mod draft;
mod eval;
mod experiment;
pub mod output;
mod pictures;
mod question;
mod report;
mod sweep;
mod teacher;

use std::path::PathBuf;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::experiment::read;
use crate::experiment::stage::Stage;
use crate::run::interrupt;
use codec::{CompressArgs, DecompressArgs, InfoArgs};
use compare::CompareArgs;
use draft::NewArgs;
use eval::EvalArgs;
use experiment::{ExperimentArgs, run};
use output::Output;
use question::{AskArgs, ExplainArgs, InpaintArgs, LatentsArgs, SampleArgs, ScoreArgs};
use report::ReportArgs;
use sweep::SweepArgs;

/// Distil deep generative models into probabilistic circuits and measure them in bits per dimension.
#[derive(Debug, Parser)]
#[command(name = "lvd", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on stderr.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Say nothing on stderr but warnings and errors; no progress bars.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Folder of the CUDA part of libtorch (`libtorch_cuda.so`), if the loader does not find it.
    #[arg(long, global = true, value_name = "DIR")]
    libtorch_cuda: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at pictures of your own and write a first experiment for them.
    New(NewArgs),
    /// Run all stages of an experiment but those already done, evaluate, print the table of results.
    Run(ExperimentArgs),
    /// Train the teacher alone.
    TrainTeacher(ExperimentArgs),
    /// Assign latents to all training patches, with what that needs.
    AssignLatents(ExperimentArgs),
    /// Distil, with what that needs; no baselines, no evaluation.
    Distill(ExperimentArgs),
    /// Run an experiment with keys set to several values: a run folder a point, equal stages done once, a report at the end.
    Sweep(SweepArgs),
    /// Evaluate trained models on a split or on any pictures of their size.
    Eval(EvalArgs),
    /// Compare runs picture by picture: differences in bits per dimension with their own standard errors.
    Compare(CompareArgs),
    /// Code pictures without loss by a trained model.
    Compress(CompressArgs),
    /// Bring coded pictures back, bit for bit.
    Decompress(DecompressArgs),
    /// Show what a container of coded pictures holds.
    CodecInfo(InfoArgs),
    /// Draw new pictures from a trained model.
    Sample(SampleArgs),
    /// Draw what is missing of pictures, given any pixels of them.
    Inpaint(InpaintArgs),
    /// Say how probable pictures are, or parts of them given others.
    Score(ScoreArgs),
    /// Find the clusters of pictures' patches.
    Latents(LatentsArgs),
    /// Complete pictures by their most probable explanation.
    Explain(ExplainArgs),
    /// Show which questions a trained model answers exactly, nearly, or not.
    Ask(AskArgs),
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

/// Do what was asked; returns what is to be printed on stdout.
///
/// # Errors
/// Refusals and faults, for `main` to print.
pub fn execute(cli: &Cli) -> Result<Output> {
    let cuda = cli.libtorch_cuda.as_deref();
    if !cli.command.saves() {
        interrupt::end_at_once();
    }
    let said = match &cli.command {
        Command::New(args) => draft::execute(args, cuda),
        Command::Run(args) => run(args, cuda, None),
        Command::TrainTeacher(args) => run(args, cuda, Some(Stage::Teacher)),
        Command::AssignLatents(args) => run(args, cuda, Some(Stage::Latents)),
        Command::Distill(args) => experiment::distill(args, cuda),
        Command::Sweep(args) => sweep::execute(args, cuda),
        Command::Eval(args) => return eval::execute(args, cuda),
        Command::Compare(args) => compare::execute(args, cuda),
        Command::Compress(args) => codec::compress(args, cuda),
        Command::Decompress(args) => codec::decompress(args, cuda),
        Command::CodecInfo(args) => codec::info(args),
        Command::Sample(args) => question::sample(args, cuda),
        Command::Inpaint(args) => question::inpaint(args, cuda),
        Command::Score(args) => question::score(args, cuda),
        Command::Latents(args) => question::latents(args, cuda),
        Command::Explain(args) => question::explain(args, cuda),
        Command::Ask(args) => question::ask(args, cuda),
        Command::Teacher(command) => return teacher::execute(command, cuda),
        Command::Plan(args) => experiment::describe(args, cuda),
        Command::Report(args) => report::execute(args),
        Command::Schema => Ok(serde_json::to_string_pretty(&read::schema())?),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "lvd", &mut script);
            Ok(String::from_utf8(script)?)
        }
    };
    said.map(Output::from)
}

impl Command {
    /// Whether there is something to save when the user asks to stop.
    fn saves(&self) -> bool {
        match self {
            Self::Run(_) | Self::TrainTeacher(_) | Self::AssignLatents(_) | Self::Distill(_) | Self::Sweep(_) => true,
            Self::Teacher(command) => command.saves(),
            Self::New(_)
            | Self::Eval(_)
            | Self::Compare(_)
            | Self::Compress(_)
            | Self::Decompress(_)
            | Self::CodecInfo(_)
            | Self::Sample(_)
            | Self::Inpaint(_)
            | Self::Score(_)
            | Self::Latents(_)
            | Self::Explain(_)
            | Self::Ask(_)
            | Self::Plan(_)
            | Self::Report(_)
            | Self::Schema
            | Self::Completions { .. } => false,
        }
    }
}
