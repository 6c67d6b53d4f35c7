//! Questions to a trained model: `lvd sample`, `inpaint`, `score`, `latents`, `explain`, `ask`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::pictures::PictureArgs;
use crate::device::{self, DeviceChoice};
use crate::experiment::drawing::{self, Inpainting, Targets};
use crate::experiment::question::{self, Asked};
use crate::experiment::scoring::{self, Latents, Scoring};
use crate::experiment::stage::Stage;
use crate::patch::Reading;
use crate::query::mask::MaskWords;
use crate::run::outputs;

/// What every question about pictures is told.
#[derive(Debug, Args)]
struct Common {
    /// Run folder.
    run: PathBuf,
    #[command(flatten)]
    pictures: PictureArgs,
    /// Which number stands for log P(x); the one that the model learned from if not given.
    #[arg(long, value_enum)]
    reading: Option<Reading>,
    /// Seed of noise, random masks and samples, instead of the run's.
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

impl Common {
    /// See that these files can be written and are neither pictures nor masks that are read.
    fn check(&self, targets: &[(Option<&PathBuf>, &'static str)], masks: &[&MaskWords]) -> Result<()> {
        let files =
            masks.iter().filter_map(|words| if let MaskWords::File(path) = words { Some(&**path) } else { None });
        let inputs: Vec<&Path> = files.chain(self.pictures.path()).collect();
        outputs::check(&named(targets), &inputs, &self.run)
    }

    /// Model and pictures: the first so many, or all but no more than `most`.
    fn open(&self, first: Option<u32>, most: usize, cuda: Option<&Path>) -> Result<Asked> {
        let device = device::open(self.device, cuda)?;
        let first = first.map(|count| count as usize);
        let asked = Asked::open(&self.run, &self.pictures.wanted()?, self.reading, self.seed, first, device)?;
        Ok(if first.is_none() { asked.at_most(most) } else { asked })
    }
}

#[derive(Debug, Args)]
pub(super) struct SampleArgs {
    /// Run folder.
    run: PathBuf,
    /// Pictures to draw; the first of many are those of few.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// A sheet of them to look at.
    #[arg(long, value_name = "FILE.png")]
    out: Option<PathBuf>,
    /// The pictures, uint8 [N, H, W, C].
    #[arg(long, value_name = "FILE.npy")]
    npy: Option<PathBuf>,
    /// Stage whose model is meant; the last one of distillation if not given.
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// Seed, instead of the run's.
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Pictures that are completed.
#[derive(Debug, Args)]
struct Completed {
    #[command(flatten)]
    common: Common,
    /// The pixels that are observed: all, none, top, bottom, left, right, center:SIDE, chessboard, box:ROW,COLUMN,HEIGHT,WIDTH,
    /// random:SHARE, or a file (.png: bright is observed; .npy: not zero is observed).
    #[arg(long, default_value = "top")]
    observed: MaskWords,
    /// The mask says what is missing.
    #[arg(long)]
    invert: bool,
    /// The first so many pictures; 8 if not given, or all where there are fewer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    first: Option<u32>,
    /// A sheet to look at: a row for every picture, the original and what is observed of it first.
    #[arg(long, value_name = "FILE.png")]
    out: Option<PathBuf>,
    /// The completions, uint8 [N, H, W, C] or, of inpaint, [N, count, H, W, C].
    #[arg(long, value_name = "FILE.npy")]
    npy: Option<PathBuf>,
}

/// Those of some files that are named, with their endings.
fn named<'a>(files: &[(Option<&'a PathBuf>, &'static str)]) -> Vec<(&'a Path, &'static str)> {
    files.iter().filter_map(|(path, ending)| Some((path.as_ref()?.as_path(), *ending))).collect()
}

/// Pictures on a sheet where no number is given.
const ON_A_SHEET: usize = 8;

impl Completed {
    fn open(&self, cuda: Option<&Path>) -> Result<(Asked, Targets)> {
        self.common.check(&[(self.out.as_ref(), "png"), (self.npy.as_ref(), "npy")], &[&self.observed])?;
        let targets = Targets { png: self.out.clone(), npy: self.npy.clone() };
        Ok((self.common.open(self.first, ON_A_SHEET, cuda)?, targets))
    }
}

#[derive(Debug, Args)]
pub(super) struct InpaintArgs {
    #[command(flatten)]
    completed: Completed,
    /// Samples of the rest of every picture.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    count: u32,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    completed: Completed,
}

#[derive(Debug, Args)]
pub(super) struct ScoreArgs {
    #[command(flatten)]
    common: Common,
    /// The table to write.
    #[arg(long, value_name = "FILE.csv")]
    out: PathBuf,
    /// The pixels A whose probability is asked, as in `lvd inpaint`.
    #[arg(long, default_value = "all")]
    observed: MaskWords,
    /// The mask says what is not asked.
    #[arg(long)]
    invert: bool,
    /// The pixels B that are given: the probability of A given B.
    #[arg(long, default_value = "none")]
    given: MaskWords,
    /// A sheet of pictures and, beside each, the bits of its patches given all others: bright is odd. Not for models of
    /// wavelet coefficients.
    #[arg(long, value_name = "FILE.png")]
    map: Option<PathBuf>,
    /// Only the first so many pictures.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    first: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct LatentsArgs {
    #[command(flatten)]
    common: Common,
    /// The array to write: the most probable cluster of every patch, int64 [N, L].
    #[arg(long, value_name = "FILE.npy")]
    out: PathBuf,
    /// The posterior p(z | x) instead, float32 [N, L, K].
    #[arg(long, conflicts_with = "map")]
    posterior: bool,
    /// The clusters that are most probable together instead, int64 [N, L].
    #[arg(long)]
    map: bool,
    /// Only the first so many pictures.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    first: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// Run folder.
    run: PathBuf,
    /// Stage whose model is meant; the last one of distillation if not given.
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// Only this reading.
    #[arg(long, value_enum)]
    reading: Option<Reading>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn sample(args: &SampleArgs, cuda: Option<&Path>) -> Result<String> {
    outputs::check(&named(&[(args.out.as_ref(), "png"), (args.npy.as_ref(), "npy")]), &[], &args.run)?;
    let device = device::open(args.device, cuda)?;
    let targets = Targets { png: args.out.clone(), npy: args.npy.clone() };
    let said = drawing::sample(&args.run, args.stage, args.seed, args.count as usize, &targets, device)?;
    Ok(told(&said, args.json))
}

pub(super) fn inpaint(args: &InpaintArgs, cuda: Option<&Path>) -> Result<String> {
    let InpaintArgs { completed, count } = args;
    let wanted =
        Inpainting { observed: completed.observed.clone(), inverted: completed.invert, samples: *count as usize };
    let (asked, targets) = completed.open(cuda)?;
    Ok(told(&drawing::inpaint(&asked, &wanted, &targets)?, completed.common.json))
}

pub(super) fn explain(args: &ExplainArgs, cuda: Option<&Path>) -> Result<String> {
    let completed = &args.completed;
    let (asked, targets) = completed.open(cuda)?;
    let said = drawing::explained(&asked, &completed.observed, completed.invert, &targets)?;
    Ok(told(&said, completed.common.json))
}

pub(super) fn score(args: &ScoreArgs, cuda: Option<&Path>) -> Result<String> {
    let scoring = Scoring { observed: args.observed.clone(), given: args.given.clone(), inverted: args.invert };
    args.common.check(&[(Some(&args.out), "csv"), (args.map.as_ref(), "png")], &[&args.observed, &args.given])?;
    let asked = args.common.open(args.first, usize::MAX, cuda)?;
    Ok(told(&scoring::score(&asked, &scoring, &args.out, args.map.as_deref())?, args.common.json))
}

pub(super) fn latents(args: &LatentsArgs, cuda: Option<&Path>) -> Result<String> {
    let which = match (args.posterior, args.map) {
        (true, _) => Latents::Posterior,
        (_, true) => Latents::Joint,
        _ => Latents::Codes,
    };
    args.common.check(&[(Some(&args.out), "npy")], &[])?;
    Ok(told(&scoring::latents(&args.common.open(args.first, usize::MAX, cuda)?, which, &args.out)?, args.common.json))
}

pub(super) fn ask(args: &AskArgs, cuda: Option<&Path>) -> Result<String> {
    let device = device::open(DeviceChoice::Cpu, cuda)?;
    let abilities = question::abilities(&args.run, args.stage, args.reading, device)?;
    Ok(if args.json { abilities.to_string() } else { question::abilities_table(&abilities) })
}

/// JSON, or a line for every entry.
fn told(said: &Value, json: bool) -> String {
    if json {
        return said.to_string();
    }
    let line = |(key, value): (&String, &Value)| {
        let list = |all: &Vec<Value>| all.iter().map(shown).collect::<Vec<_>>().join(" | ");
        format!("{}: {}", key.replace('_', " "), value.as_array().map_or_else(|| shown(value), list))
    };
    said.as_object().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

fn shown(value: &Value) -> String {
    match (value.as_str(), value.as_f64()) {
        (Some(text), _) => text.to_owned(),
        (_, Some(number)) if value.is_f64() => format!("{number:.4}"),
        _ => value.to_string(),
    }
}
