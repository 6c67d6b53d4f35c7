//! `lvd eval`: a trained model on any pictures of its size.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use ndarray::Array1;
use serde_json::{Value, json};
use tch::Device;

use super::config::Config;
use super::context::stage_fingerprint;
use super::models;
use super::protocol::Protocol;
use super::read;
use super::stage::Stage;
use crate::data::pictures::{PictureShape, Pictures};
use crate::data::{self, Format, PictureOptions, Split};
use crate::evaluate::{Score, bits_per_dimension};
use crate::mixture::observed::Observed;
use crate::mixture::score::{CodeLengths, Measure, code_lengths};
use crate::patch::Reading;
use crate::run::{RunFolder, atomically, progress};
use crate::{device, refusal, require};

/// What to evaluate on.
#[derive(Clone, Debug)]
pub struct Request {
    /// Stage whose model is meant; where none is named, the last one of distillation that has a model, else a baseline.
    pub stage: Option<Stage>,
    /// Pictures of the user's own instead of a split of the experiment's data.
    pub data: Option<(PathBuf, Format)>,
    /// Whether those pictures have 256 levels and are to be brought to the model's.
    pub requantise: bool,
    /// Split of the experiment's data.
    pub split: Split,
    /// The protocol that the user expects.
    pub protocol: Option<Protocol>,
    /// Which number stands for log P(x); the one that the model learned from where none is named.
    pub reading: Option<Reading>,
    /// Draws of the noise for the density reading.
    pub draws: usize,
    /// The part of every picture that is looked at.
    pub observed: Observed,
    /// Where the root of the data sets is, if not where the run found it.
    pub root: Option<PathBuf>,
}

/// A model's score on some pictures.
pub struct Report {
    /// Run folder.
    pub run: PathBuf,
    /// Stage of the model.
    pub stage: Stage,
    /// Protocol of the run.
    pub protocol: Protocol,
    /// What the pictures are called.
    pub split: String,
    /// The score.
    pub score: Score,
    /// Reading and noise.
    pub measure: Measure,
    /// Code lengths by picture.
    pub lengths: CodeLengths,
    color: String,
    device: Device,
    elapsed: f64,
}

/// Evaluate the model of a run folder.
///
/// # Errors
/// Refusals when the folder holds no such model, the protocol differs, or the pictures do not fit.
pub fn evaluate(run: &Path, request: &Request, device: Device) -> Result<Report> {
    let started = Instant::now();
    let folder = RunFolder::read(run)?;
    let mut config = read::of_run(&folder)?;
    device::set_threads(config.compute.threads)?;
    if let Some(root) = &request.root {
        config.data.root = Some(root.clone());
    }
    if let Some(wanted) = request.protocol {
        require!(
            wanted == config.protocol,
            "{}: its model counts bits under protocol {}, you ask for {}\n  a model must be trained for a protocol; numbers of different protocols cannot be compared",
            run.display(),
            config.protocol.name(),
            wanted.name()
        );
    }
    let stage = request.stage.map_or_else(|| last_stage(&folder), Ok)?;
    check_current(&folder, &config, stage)?;
    let (pictures, split) = pictures(&folder, &config, request)?;
    require!(!pictures.is_empty(), "{split}: there are no pictures to evaluate");
    let model = models::load(&folder, &config, stage, device)?.fitted(pictures.shape());
    check_shape(model.view().shape(), pictures.shape())?;
    let bar = progress::bar(stage.name(), pictures.len() as u64);
    let plain = Measure::plain(&model, config.seed, stage.micro_batch(&config));
    let reading = request.reading.unwrap_or(plain.reading);
    require!(
        reading == Reading::Density || request.draws == 1,
        "--draws {}: only the density reading draws noise, this is the {} one",
        request.draws,
        reading.name()
    );
    let measure = Measure { reading, draws: request.draws, observed: request.observed, ..plain };
    let lengths = code_lengths(&model, &pictures, pictures.len(), &measure, |n| bar.set_position(n as u64))?;
    bar.finish_and_clear();
    let score = lengths.score(request.observed.dimensions(&model));
    let (protocol, color) = (config.protocol, config.color.name().to_owned());
    let elapsed = started.elapsed().as_secs_f64();
    Ok(Report { run: run.to_owned(), stage, protocol, split, score, measure, lengths, color, device, elapsed })
}

/// See that runs can be compared; the threads that the first of them computed with.
///
/// # Errors
/// A refusal that names the protocols where they differ.
pub fn threads(runs: &[PathBuf]) -> Result<Option<usize>> {
    let configs = runs.iter().map(|run| Ok((run, read::of_run(&RunFolder::read(run)?)?)));
    let configs: Vec<(&PathBuf, Config)> = configs.collect::<Result<_>>()?;
    let (first, of_first) = &configs[0];
    if let Some((other, of_other)) = configs.iter().find(|(_, config)| config.protocol != of_first.protocol) {
        return Err(refusal!(
            "runs of different protocols cannot be compared: {} is {}, {} is {}",
            first.display(),
            of_first.protocol.name(),
            other.display(),
            of_other.protocol.name()
        ));
    }
    Ok(of_first.compute.threads)
}

pub(super) fn last_stage(folder: &RunFolder) -> Result<Stage> {
    for stage in Stage::BY_INTEREST {
        // A stage with a record whose model is gone is not passed over: reading it says what to do.
        if folder.stage(stage.name()).record()?.is_some() {
            return Ok(stage);
        }
    }
    Err(refusal!("{}: no circuit has been trained here yet", folder.root().display()))
}

/// Refuse a stage that is not done, or was made from another configuration or from other stages than the folder holds.
pub(super) fn check_current(folder: &RunFolder, config: &Config, stage: Stage) -> Result<()> {
    require!(
        stage.has_circuit(),
        "stage {stage} leaves no circuit\n  circuits come from the stages {}",
        with_circuits()
    );
    let root = folder.root().display();
    let wanted = Stage::wanted(config);
    require!(
        wanted.contains(&stage),
        "{root}: the experiment has no stage {stage}\n  it has the stages {}",
        wanted.iter().map(|s| s.name()).collect::<Vec<_>>().join(", ")
    );
    let record = folder.stage(stage.name()).record()?;
    let record = record.ok_or_else(|| refusal!("{root}: stage {stage} is not done\n  finish it by `lvd run`"))?;
    let now = stage_fingerprint(config, folder, &folder.manifest()?.data, stage)?;
    require!(
        now.is_some_and(|now| now == record.fingerprint),
        "{root}: stage {stage} was made from another configuration than config.yaml holds now, or from an earlier state of \
         the stages before it\n  bring it up to date by `lvd run`"
    );
    Ok(())
}

fn with_circuits() -> String {
    Stage::ALL.iter().filter(|s| s.has_circuit()).map(|s| s.name()).collect::<Vec<_>>().join(", ")
}

fn pictures(folder: &RunFolder, config: &Config, request: &Request) -> Result<(Pictures, String)> {
    if let Some((path, format)) = &request.data {
        let levels = config.data.levels;
        let name = path.display().to_string();
        if request.requantise {
            let pictures = data::open_pictures(*format, path, PictureOptions { levels: 256, ..config.data.options() })?;
            return Ok((pictures.requantised(levels)?, format!("{name}, {levels} of 256 levels")));
        }
        return Ok((data::open_pictures(*format, path, PictureOptions { levels, ..config.data.options() })?, name));
    }
    let set = data::open(&config.data, config.seed)?;
    let pictures = set.part(request.split).clone();
    check_same(folder, request.split, &pictures)?;
    Ok((pictures, request.split.to_string()))
}

/// A split of the run's own data must be the one that the run was made with.
pub(super) fn check_same(folder: &RunFolder, split: Split, pictures: &Pictures) -> Result<()> {
    let Some(expected) = folder.manifest()?.data.remove(&split.to_string()) else { return Ok(()) };
    let found = pictures.sha256();
    require!(
        found == expected,
        "{}: the {split} pictures are not those of the run (SHA-256)\n  expected {expected}\n  found    {found}\n  bring the files \
         back, or name pictures of your own by --data",
        folder.root().display()
    );
    Ok(())
}

/// Pictures of another shape than the model was trained for are refused.
fn check_shape(expected: PictureShape, found: PictureShape) -> Result<()> {
    require!(
        found == expected,
        "the pictures are {} x {} x {} with {} levels, the model was trained for {} x {} x {} with {}{}",
        found.height,
        found.width,
        found.channels,
        found.levels,
        expected.height,
        expected.width,
        expected.channels,
        expected.levels,
        if found.levels == 256 && expected.levels < 256 {
            "\n  --requantise brings 256 levels to the model's"
        } else {
            ""
        }
    );
    Ok(())
}

impl Report {
    /// Everything as one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let mean = |nats: &[f64]| nats.iter().sum::<f64>() / nats.len() as f64;
        json!({
            "run": self.run,
            "stage": self.stage,
            "bits_per_dimension": self.score.bits_per_dimension,
            "standard_error": self.score.standard_error,
            "nats_mean": self.score.nats_mean,
            "nats_latent": mean(&self.lengths.latent),
            "nats_conditional": mean(&self.lengths.conditional),
            "reading": self.measure.reading.name(),
            "draws": self.measure.draws,
            "importance_bits_per_dimension": bits_per_dimension(mean(&self.lengths.importance), self.score.num_dimensions),
            "observed": self.measure.observed,
            "num_images": self.score.num_images,
            "num_dimensions": self.score.num_dimensions,
            "protocol": self.protocol.name(),
            "color_space": self.color,
            "split": self.split,
            "device": device::describe(self.device).device,
            "elapsed_s": self.elapsed,
        })
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let s = &self.score;
        format!(
            "{} ({}, {}{}): {:.4} +- {:.4} bits per dimension on {} pictures ({}), protocol {}",
            self.run.display(),
            self.stage,
            self.measure.reading.name(),
            self.part(),
            s.bits_per_dimension,
            s.standard_error,
            s.num_images,
            self.split,
            self.protocol.name()
        )
    }

    /// The part of the pictures that was looked at, where it was not all.
    fn part(&self) -> String {
        let name = self.measure.observed.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        if self.measure.observed == Observed::All { String::new() } else { format!(", observed: {name}") }
    }

    /// Write log p(x) in nats, one float64 a picture, as .npy.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_per_image(&self, path: &Path) -> Result<()> {
        let log_likelihoods: Vec<f64> = self.lengths.total.iter().map(|nats| -nats).collect();
        let array = Array1::from_vec(log_likelihoods);
        atomically(path, |temporary| Ok(ndarray_npy::write_npy(temporary, &array)?))
    }
}
