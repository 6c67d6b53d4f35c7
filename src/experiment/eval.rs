//! `lvd eval`: a trained model on any pictures of its size.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use ndarray::Array1;
use serde_json::{Value, json};
use tch::Device;

use super::config::Config;
use super::protocol::Protocol;
use super::read;
use super::stage::Stage;
use super::subject::{Subject, Wanted};
use crate::evaluate::{Score, bits_per_dimension};
use crate::mixture::observed::Observed;
use crate::mixture::score::{CodeLengths, Measure, code_lengths};
use crate::patch::Reading;
use crate::run::{RunFolder, atomically, progress};
use crate::{device, refusal, require};

/// What to evaluate on.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which model, and which pictures.
    pub wanted: Wanted,
    /// Which number stands for log P(x); the one that the model learned from where none is named.
    pub reading: Option<Reading>,
    /// Draws of the noise for the density reading.
    pub draws: usize,
    /// The part of every picture that is looked at.
    pub observed: Observed,
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
    let subject = Subject::open(run, &request.wanted, device)?;
    let Subject { config, stage, model, pictures, source: split, .. } = subject;
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

/// Refuse runs whose pictures of a split are not the same.
///
/// # Errors
/// A refusal that names two of them.
pub fn same_pictures(runs: &[PathBuf], split: &str) -> Result<()> {
    let hashes = runs.iter().map(|run| Ok(RunFolder::read(run)?.manifest()?.data.remove(split)));
    let hashes = hashes.collect::<Result<Vec<Option<String>>>>()?;
    for (run, hash) in runs.iter().zip(&hashes) {
        require!(
            *hash == hashes[0],
            "{} and {} have other {split} pictures: name the same ones by --data",
            runs[0].display(),
            run.display()
        );
    }
    Ok(())
}

impl Report {
    /// Code lengths less those of another report on the same pictures, as a score of their differences, and the share of pictures on
    /// which they are smaller.
    ///
    /// # Errors
    /// A refusal where the pictures are of different numbers or sizes.
    pub fn less(&self, first: &Self) -> Result<(Score, f64)> {
        let [theirs, mine] = [first, self].map(|report| &report.lengths.total);
        let same = mine.len() == theirs.len() && first.score.num_dimensions == self.score.num_dimensions;
        require!(
            same,
            "{} and {} are of pictures of different numbers or sizes",
            first.run.display(),
            self.run.display()
        );
        let differences: Vec<f64> = mine.iter().zip(theirs).map(|(mine, theirs)| mine - theirs).collect();
        let smaller = differences.iter().filter(|difference| **difference < 0.0).count() as f64;
        Ok((Score::of(&differences, first.score.num_dimensions), smaller / differences.len() as f64))
    }

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
            "{} ({}, {}): {:.4} +- {:.4} bits per dimension{} on {} pictures ({}), protocol {}",
            self.run.display(),
            self.stage,
            self.measure.reading.name(),
            s.bits_per_dimension,
            s.standard_error,
            self.part(),
            s.num_images,
            self.split,
            self.protocol.name()
        )
    }

    /// The part of the pictures that was looked at, where it was not all: bits are of its numbers alone.
    fn part(&self) -> String {
        let name = self.measure.observed.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        let observed = self.score.num_dimensions;
        let part = format!(" of the {observed} observed numbers ({name} of a picture, the others summed out)");
        if self.measure.observed == Observed::All { String::new() } else { part }
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
