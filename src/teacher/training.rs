//! Training of the VQ-VAE-2 by Adam: `nll_weight * decoder nats per dimension + quantiser losses`.
//!
//! The caller drives: [`Trainer::run`] hands every step's [`Progress`] to an observer, which may show it, save
//! [`Trainer::state`] or stop. A stopped training that is restored and goes on equals an unbroken one bit for bit, for
//! a seed, device and number of threads: batch orders and restarts are functions of the seed and the step alone.
//! Model selection is on validation pictures, by the honest bound (decoder plus codes).

mod saved;

use super::Teacher;
use super::quantiser::{Quantised, Quantiser, Usage, stream};
use super::vqvae::{CodePrior, VqVae, VqVaeConfig};
use super::weights::NamedTensors;
use crate::adam::{Adam, one_cycle};
use crate::data::pictures::Pictures;
use crate::{random, require};
use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use serde::Serialize;
use std::ops::ControlFlow;
use tch::{Device, Kind};

/// The levels' names in tensors, in the order of [`Trainer`]'s pairs.
const LEVELS: [&str; 2] = ["bottom", "top"];

/// A training under way.
pub struct Trainer {
    config: VqVaeConfig,
    train: Pictures,
    valid: Pictures,
    device: Device,
    seed: u64,
    model: VqVae,
    adam: Adam,
    usage: [Usage; 2],
    /// Steps done.
    step: u64,
    /// Decoder nats of this epoch's batches.
    train_nats: f64,
    best: Option<Best>,
    /// An epoch, and the order of its pictures once it is needed.
    order: (usize, Vec<usize>),
}

struct Best {
    epoch: usize,
    nats: f64,
    tensors: NamedTensors,
}

/// What a step brought.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// Steps done, this one included.
    pub step: u64,
    /// Steps of the whole training if it is not stopped early.
    pub steps: u64,
    /// The epoch this step belongs to, from 1.
    pub epoch: usize,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// The loss that was descended.
    pub loss: f64,
    /// With the last step of an epoch: how the model does.
    pub epoch_end: Option<EpochReport>,
}

/// How the model does after an epoch; nats are means per picture.
#[derive(Clone, Debug, Serialize)]
pub struct EpochReport {
    /// Decoder nats on the training batches of this epoch (while the model changed).
    pub train_decoder_nats: f64,
    /// Decoder nats on the validation pictures.
    pub valid_decoder_nats: f64,
    /// Nats of the codes of the validation pictures.
    pub valid_code_nats: f64,
    /// Effective number of bottom codes in use on the training pictures.
    pub perplexity_bottom: f64,
    /// Effective number of top codes in use on the training pictures.
    pub perplexity_top: f64,
    /// Whether the validation bound is the best so far.
    pub best: bool,
}

/// Why a run came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Complete,
    /// The validation bound did not improve for `patience` epochs.
    EarlyStop,
    /// The observer asked to stop; a later run goes on.
    Interrupted,
}

impl Trainer {
    /// A training from the start: fresh weights, codebooks set on the first batch.
    ///
    /// # Errors
    /// When there are no pictures, training and validation pictures differ in shape, or the patch does not divide it.
    pub fn new(config: &VqVaeConfig, train: Pictures, valid: Pictures, device: Device, seed: u64) -> Result<Self> {
        for (name, pictures) in [("training", &train), ("validation", &valid)] {
            require!(!pictures.is_empty(), "teacher: there are no {name} pictures: choose a split that has some");
        }
        require!(
            train.shape() == valid.shape(),
            "teacher: expected validation pictures of the training pictures' shape {:?}, found {:?}",
            train.shape(),
            valid.shape()
        );
        let mut model = VqVae::fresh(config, train.shape(), seed, device)?;
        for (_, parameter) in model.parameters() {
            let _ = parameter.set_requires_grad(true);
        }
        let usage = [&model.bottom, &model.top].map(|level| Usage::new(level.codes(), device));
        let adam = Adam::new(&model.parameters());
        let config = config.clone();
        let first = first_batch(&train, config.batch, seed)?;
        initialise_codebooks(&mut model, &first, seed)?;
        Ok(Self {
            config,
            train,
            valid,
            device,
            seed,
            model,
            adam,
            usage,
            step: 0,
            train_nats: 0.0,
            best: None,
            order: (0, Vec::new()),
        })
    }

    /// Train until the end, an early stop or the observer's word; the observer is called after every step.
    ///
    /// # Errors
    /// When the loss is not finite, pictures cannot be read, or the observer fails.
    pub fn run(&mut self, observer: &mut dyn FnMut(&Self, &Progress) -> Result<ControlFlow<()>>) -> Result<Ending> {
        loop {
            if self.exhausted() {
                return Ok(Ending::EarlyStop);
            }
            if self.step == self.steps() {
                return Ok(Ending::Complete);
            }
            let progress = self.advance()?;
            if observer(self, &progress)?.is_break() {
                return Ok(Ending::Interrupted);
            }
        }
    }

    /// The model of the best epoch so far, or the present one before the first epoch's end.
    ///
    /// # Errors
    /// When its tensors cannot be copied.
    pub fn best_model(&self) -> Result<VqVae> {
        let tensors = self.best.as_ref().map_or_else(|| self.model.to_tensors(), |best| copies(&best.tensors));
        VqVae::from_tensors(&self.config, self.train.shape(), tensors, self.device)
    }

    /// Steps of the whole training if it is not stopped early.
    #[must_use]
    pub fn steps(&self) -> u64 {
        (self.config.epochs * self.steps_per_epoch()) as u64
    }

    fn steps_per_epoch(&self) -> usize {
        self.train.len().div_ceil(self.config.batch)
    }

    /// Epochs completed.
    #[must_use]
    pub fn epochs_done(&self) -> usize {
        self.step as usize / self.steps_per_epoch()
    }

    /// Whether the bound has not improved for `patience` epochs.
    fn exhausted(&self) -> bool {
        self.best.as_ref().is_some_and(|best| self.epochs_done() - best.epoch >= self.config.patience)
    }

    /// One gradient step and what belongs to it, the end of an epoch included.
    fn advance(&mut self) -> Result<Progress> {
        let (epoch, batch) = (self.epochs_done(), self.step as usize % self.steps_per_epoch());
        if self.order.0 != epoch || self.order.1.is_empty() {
            self.order = (epoch, order(self.train.len(), self.seed, epoch));
        }
        let order = &self.order.1;
        let start = batch * self.config.batch;
        let indices = &order[start..order.len().min(start + self.config.batch)];
        let pixels = self.model.receive(&self.train.batch(indices)?)?;
        let learning_rate = one_cycle(self.config.learning_rate, self.step, self.steps());
        let loss = self.descend(&pixels, learning_rate)?;
        self.step += 1;
        let ended = batch + 1 == self.steps_per_epoch();
        let epoch_end = if ended { Some(self.end_epoch()?) } else { None };
        Ok(Progress { step: self.step, steps: self.steps(), epoch: epoch + 1, learning_rate, loss, epoch_end })
    }

    fn descend(&mut self, pixels: &tch::Tensor, learning_rate: f64) -> Result<f64> {
        let levels = self.model.encode(pixels);
        let nats = self.model.decoder_nats(&levels, pixels);
        let dimensions = self.model.frame().dimensions() as f64;
        let codebooks = self.model.bottom.loss(&levels.bottom) + self.model.top.loss(&levels.top);
        let loss = nats.mean(Kind::Double) * (self.config.nll_weight / dimensions) + codebooks;
        let value = f64::try_from(&loss)?;
        ensure!(
            value.is_finite(),
            "teacher: the loss became {value} at step {}: lower teacher.learning_rate (now {})",
            self.step + 1,
            self.config.learning_rate
        );
        self.adam.descend(&loss, learning_rate, self.step + 1);
        self.train_nats += f64::try_from(nats.sum(Kind::Double))?;
        self.revive([&levels.bottom, &levels.top]);
        Ok(value)
    }

    /// Note the codes' use and move dead codes onto vectors of this batch.
    fn revive(&mut self, quantised: [&Quantised; 2]) {
        let levels: [&mut Quantiser; 2] = [&mut self.model.bottom, &mut self.model.top];
        for (((level, usage), quantised), name) in levels.into_iter().zip(&mut self.usage).zip(quantised).zip(LEVELS) {
            usage.note(&quantised.codes);
            let dead = usage.dead(self.config.restart_after);
            if dead.numel() > 0 {
                let mut rng = stream(self.seed, "restart", name, self.step);
                let moved = level.restart(&dead, &quantised.continuous, &mut rng);
                self.adam.forget(&format!("{name}.codebook"), &moved);
            }
        }
    }

    /// Set the prior, measure on validation pictures, keep the best, start counting anew.
    fn end_epoch(&mut self) -> Result<EpochReport> {
        if self.config.code_prior == CodePrior::Empirical {
            self.model.bottom.set_prior(&self.usage[0].counts);
            self.model.top.set_prior(&self.usage[1].counts);
        }
        let [valid_decoder_nats, valid_code_nats] = self.validate()?;
        let nats = valid_decoder_nats + valid_code_nats;
        let best = self.best.as_ref().is_none_or(|best| nats < best.nats);
        if best {
            self.best = Some(Best { epoch: self.epochs_done(), nats, tensors: self.model.to_tensors() });
        }
        let [perplexity_bottom, perplexity_top] = [0, 1].map(|level| self.usage[level].perplexity());
        let train_decoder_nats = self.train_nats / self.train.len() as f64;
        self.train_nats = 0.0;
        for usage in &mut self.usage {
            let _ = usage.counts.zero_();
        }
        Ok(EpochReport {
            train_decoder_nats,
            valid_decoder_nats,
            valid_code_nats,
            perplexity_bottom,
            perplexity_top,
            best,
        })
    }

    /// Mean decoder nats and code nats of the validation pictures.
    fn validate(&self) -> Result<[f64; 2]> {
        let mut totals = [0.0; 2];
        for batch in self.valid.batches(0..self.valid.len(), self.config.batch) {
            if let Some(bound) = self.model.bound(&batch?.pixels)? {
                totals[0] += f64::try_from(bound.decoder.sum(Kind::Double))?;
                totals[1] += f64::try_from(bound.codes.sum(Kind::Double))?;
            }
        }
        Ok(totals.map(|total| total / self.valid.len() as f64))
    }
}

fn copies(tensors: &[(String, tch::Tensor)]) -> NamedTensors {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect()
}

/// The order of the training pictures in an epoch.
fn order(pictures: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pictures).collect();
    order.shuffle(&mut random::rng(seed, "teacher order", epoch as u64));
    order
}

fn first_batch(train: &Pictures, batch: usize, seed: u64) -> Result<tch::Tensor> {
    let mut indices = order(train.len(), seed, 0);
    indices.truncate(batch);
    train.batch(&indices)
}

/// Set both codebooks on a batch, the top one first: the bottom vectors depend on it.
fn initialise_codebooks(model: &mut VqVae, pixels: &tch::Tensor, seed: u64) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let pixels = model.receive(pixels)?;
    let (features, top) = model.encode_up(&pixels);
    model.top.initialise(&top, &mut stream(seed, "codebook", "top", 0));
    let bottom = model.encode_down(&features, &model.top.quantise(&top).embedded);
    model.bottom.initialise(&bottom, &mut stream(seed, "codebook", "bottom", 0));
    Ok(())
}
