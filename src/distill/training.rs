//! The epoch loop: batches in seeded order, statistics by micro-batch, one EM step a batch, validation every epoch.
//!
//! It can stop after any step: model, learning state and step number go to the stage's partial checkpoint, and since
//! every random choice is a function of seed, stage and epoch, a resumed run ends where an unbroken one does.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::Session;
use super::likelihoods::Likelihoods;
use crate::data::augment::Augment;
use crate::data::batches::{Batch, Prefetcher, epoch_order};
use crate::data::view::View;
use crate::em::EmConfig;
use crate::evaluate::{Score, bits_per_dimension};
use crate::mixture::mask::Mask;
use crate::mixture::score::{self, Measure};
use crate::mixture::train::{LearningParts, Training};
use crate::mixture::{Mixture, Prior};
use crate::patch::PatchEvidence;
use crate::random::{Draws, rng};
use crate::refusal::Interrupted;
use crate::run::{checkpoint, interrupt, progress, told};

/// How patches get their clusters.
pub enum Clusters<'a> {
    /// By their posterior under the model.
    Posterior,
    /// Given: int64 `[N, L]` for the training pictures in order.
    Given(&'a Tensor),
    /// By their posterior under patch circuits that stay as they are and have said all they have to say.
    Kept(&'a Likelihoods),
}

/// Micro-batches of pictures read ahead.
const AHEAD: usize = 4;
/// File of the best model so far, while a stage is under way.
const BEST: &str = "best.safetensors";

struct Loop<'a, 'b> {
    session: &'a mut Session<'b>,
    config: &'a EmConfig,
    batch: usize,
    steps_per_epoch: usize,
    bar: ProgressBar,
    best: f64,
    /// When the epoch began, as far as this session goes.
    began: Instant,
}

/// Train parts of a mixture by EM as the configuration says, and leave it as it was after the epoch (0: the start) that
/// served the watched validation pictures best.
///
/// # Errors
/// [`Interrupted`] when the user stops it, with everything saved; faults of data and disk.
pub fn train(
    session: &mut Session,
    model: &mut Mixture,
    parts: LearningParts,
    config: &EmConfig,
    clusters: &Clusters,
) -> Result<()> {
    let pictures = session.train.len();
    let batch = if config.batch == 0 { pictures } else { config.batch.min(pictures) };
    let steps_per_epoch = pictures.div_ceil(batch);
    let bar = progress::bar(session.name, (pictures * config.epochs) as u64);
    let mut run = Loop { session, config, batch, steps_per_epoch, bar, best: f64::INFINITY, began: Instant::now() };
    let mut training = Training::new(model, parts, config, pictures);
    let done = run.resume(&mut training)?;
    if done == 0 {
        run.session.metrics.forget(run.session.name)?;
        run.measure(&mut training, 0, Nats::default(), None)?;
    }
    for epoch in done / steps_per_epoch..config.epochs {
        run.epoch(&mut training, epoch, done, clusters)?;
    }
    run.bar.finish_and_clear();
    let best = run.session.stage.state(BEST);
    model.restore(&checkpoint::load(&best, model.patches().device())?.named())
}

impl Loop<'_, '_> {
    /// Steps already done, with their results taken up.
    fn resume(&mut self, training: &mut Training) -> Result<usize> {
        let path = self.session.stage.partial();
        // The best model is always saved before the partial one: without it the rest is of no use.
        if !path.exists() || !self.session.stage.state(BEST).exists() {
            return Ok(0);
        }
        let saved = checkpoint::load(&path, training.model.patches().device())?;
        let steps: usize = saved.entry("steps")?.parse().with_context(|| format!("{}: steps", path.display()))?;
        self.best = saved.entry("best")?.parse().with_context(|| format!("{}: best", path.display()))?;
        training.restore(&saved.named())?;
        self.session.metrics.rewind(self.session.name, (steps / self.steps_per_epoch) as u64)?;
        tracing::info!(
            "{}: going on after step {steps} of {}",
            self.session.name,
            self.steps_per_epoch * self.config.epochs
        );
        self.bar.set_position((steps * self.batch).min(self.session.train.len() * self.config.epochs) as u64);
        Ok(steps)
    }

    fn epoch(&mut self, training: &mut Training, epoch: usize, done: usize, clusters: &Clusters) -> Result<()> {
        let order = epoch_order(self.session.train.len(), self.session.seed, epoch as u64);
        let mut step = done.max(epoch * self.steps_per_epoch);
        let (seed, augment) = (self.session.seed, self.session.augment);
        let [noise, shifts] = ["noise", "shifts"].map(|what| format!("{}: {what}", self.session.name));
        let left = order[(step - epoch * self.steps_per_epoch) * self.batch..].to_vec();
        let (mut nats, mut pending) = (Nats::default(), 0);
        let mut batches = Prefetcher::new(self.session.train.clone(), left, self.session.micro_batch, AHEAD)?;
        while let Some(some) = batches.next() {
            let some = some?;
            let draws = |purpose| Draws { seed, purpose, pass: epoch as u64, pictures: &some.indices };
            nats.add(&accumulate(training, &some, clusters, augment, [&draws(&noise), &draws(&shifts)])?);
            self.bar.inc(some.indices.len() as u64);
            pending += some.indices.len();
            if pending < self.batch && batches.left() > 0 {
                continue;
            }
            pending = 0;
            let last = (self.config.epochs * self.steps_per_epoch - 1).max(1);
            training.sum_over(self.session.group)?;
            training.step(self.config.step.at(step as f64 / last as f64));
            step += 1;
            if step == (epoch + 1) * self.steps_per_epoch {
                // A given cluster may be as small as it likes: only clusters that the model chose can lose their data.
                if !matches!(clusters, Clusters::Given(_)) {
                    self.reseed(training, epoch)?;
                }
                self.finish_epoch(training, epoch, nats, batches.seconds_waited())?;
            }
            if interrupt::requested() {
                self.save(training, step)?;
                return Err(Interrupted.into());
            }
        }
        Ok(())
    }

    fn reseed(&self, training: &mut Training, epoch: usize) -> Result<()> {
        for (to, from) in training.reseed(&mut rng(self.session.seed, self.session.name, epoch as u64))? {
            tracing::info!(
                "{}: cluster {to} lost its data and is now a perturbed copy of cluster {from}",
                self.session.name
            );
        }
        Ok(())
    }

    fn finish_epoch(&mut self, training: &mut Training, epoch: usize, nats: Nats, waited: f64) -> Result<()> {
        self.measure(training, epoch + 1, nats, Some(waited))?;
        self.save(training, (epoch + 1) * self.steps_per_epoch)
    }

    /// Validation after an epoch; the model is kept where it is the best so far.
    fn measure(&mut self, training: &mut Training, epoch: usize, nats: Nats, waited: Option<f64>) -> Result<()> {
        let valid = watch(self.session, training.model)?;
        let mut values = json!({"valid_bpd": valid.bits_per_dimension, "valid_se": valid.standard_error});
        if nats.numbers > 0 {
            values["train_bpd"] = json!(bits_per_dimension(nats.sum, nats.numbers));
        }
        if let Some(waited) = waited {
            values["waited_for_pictures_s"] = json!(waited);
            values["truncated_share"] = json!(training.truncated_share());
        }
        self.bar.set_message(format!("valid {:.4} bpd", valid.bits_per_dimension));
        let taken = self.taken(epoch);
        tracing::info!("{} {epoch}/{}  {}{taken}", self.session.name, self.config.epochs, told::line(&values));
        self.session.metrics.write(self.session.name, epoch as u64, &values)?;
        anyhow::ensure!(
            valid.nats_mean.is_finite(),
            "{}: the likelihood is not finite after epoch {epoch}",
            self.session.name
        );
        if valid.bits_per_dimension < self.best {
            self.best = valid.bits_per_dimension;
            checkpoint::save(&self.session.stage.state(BEST), &training.model.tensors(), &BTreeMap::new())?;
        }
        Ok(())
    }

    /// How long the epoch took, where it is one of this session.
    fn taken(&mut self, epoch: usize) -> String {
        let taken = std::mem::replace(&mut self.began, Instant::now()).elapsed().as_secs_f64();
        if epoch == 0 { String::new() } else { format!("  {}", told::seconds(taken)) }
    }

    fn save(&self, training: &Training, steps: usize) -> Result<()> {
        let mut tensors = training.model.tensors();
        tensors.extend(training.state());
        let metadata = [("steps", steps.to_string()), ("best", self.best.to_string())];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
        checkpoint::save(&self.session.stage.partial(), &tensors, &metadata)
    }
}

/// Code length of some pictures in nats, and how many numbers they have.
#[derive(Clone, Copy, Debug, Default)]
struct Nats {
    sum: f64,
    numbers: usize,
}

impl Nats {
    fn add(&mut self, other: &Self) {
        *self = Self { sum: self.sum + other.sum, numbers: self.numbers + other.numbers };
    }
}

/// Statistics of a micro-batch; its code length where that is a by-product.
fn accumulate(
    training: &mut Training,
    some: &Batch,
    clusters: &Clusters,
    augment: Augment,
    [noise, shifts]: [&Draws; 2],
) -> Result<Nats> {
    match clusters {
        Clusters::Posterior => {
            let independent = !matches!(training.model.prior(), Prior::Tree(_));
            let augment = Augment { shifts: augment.shifts && independent, ..augment };
            let patches = augmented(training.model, some, augment, [noise, shifts])?;
            let total = training.accumulate(&patches)?.sum(Kind::Double).double_value(&[]);
            let view = training.model.view();
            let seen = match (&some.observed, patches.observed()) {
                (Some(_), Some(observed)) => observed.sum(Kind::Int64).int64_value(&[]) as usize,
                _ => patches.values().numel() / view.numbers() * view.variables(),
            };
            Ok(Nats { sum: -total, numbers: seen })
        }
        Clusters::Kept(likelihoods) => {
            let known = likelihoods.of(&some.indices, training.model.patches().device());
            let total = training.accumulate_likelihoods(&known)?.sum(Kind::Double).double_value(&[]);
            // Bits per dimension are told where all dimensions were seen.
            let numbers = some.observed.is_none().then(|| some.indices.len() * training.model.view().dimensions());
            Ok(numbers.map_or_else(Nats::default, |numbers| Nats { sum: -total, numbers }))
        }
        Clusters::Given(codes) => {
            let model = &*training.model;
            let patches = model.evidence(&some.pixels, model.readings()[0], noise)?;
            let patches = observed(model, model.view(), patches, some.observed.as_ref())?;
            training.accumulate_assigned(&patches, &some.rows_of(codes))?;
            Ok(Nats::default())
        }
    }
}

/// Patches `[B, L, D]` of a micro-batch as it is seen this time; `[1, P, D]` where shifts gave pictures of several sizes,
/// which only independent latents allow.
fn augmented(model: &Mixture, some: &Batch, augment: Augment, [noise, shifts]: [&Draws; 2]) -> Result<PatchEvidence> {
    let reading = model.readings()[0];
    // What is missing is mirrored and cut with its picture, as a further channel.
    let masks = some.observed.as_ref().map(|observed| observed.unsqueeze(-1).to_kind(Kind::Uint8));
    let pixels = masks.map_or_else(|| some.pixels.shallow_clone(), |masks| Tensor::cat(&[&some.pixels, &masks], -1));
    let channels = some.pixels.size()[3];
    let groups = augment.apply(model.view(), &pixels, shifts).into_iter().map(|seen| {
        let noise = Draws { pictures: &seen.pictures, ..*noise };
        let evidence = model.evidence_of(&seen.view, &seen.pixels.narrow(3, 0, channels), reading, &noise)?;
        let mask = some.observed.as_ref().map(|_| seen.pixels.select(3, channels).ge(1));
        let evidence = observed(model, &seen.view, evidence, mask.as_ref())?;
        Ok(match seen.view.whole() {
            // Windows that stick out of a picture teach nothing that whole ones do not.
            Some(whole) => PatchEvidence::new(&evidence.values().index_select(1, &whole), reading),
            None => evidence,
        })
    });
    let mut groups = groups.collect::<Result<Vec<_>>>()?;
    if groups.len() == 1 {
        return Ok(groups.remove(0));
    }
    let flat = |of: fn(&PatchEvidence) -> Option<&Tensor>| {
        let parts: Option<Vec<Tensor>> = groups.iter().map(|patches| Some(of(patches)?.flatten(0, 1))).collect();
        parts.map(|parts| Tensor::cat(&parts, 0).unsqueeze(0))
    };
    let values = flat(|patches| Some(patches.values())).expect("patches have values");
    let evidence = PatchEvidence::new(&values, reading);
    Ok(match flat(PatchEvidence::observed) {
        Some(observed) => evidence.with_observed(&observed),
        None => evidence,
    })
}

/// Patches of which only what a mask `[B, H, W]` says was observed, where there is one.
fn observed(model: &Mixture, view: &View, patches: PatchEvidence, mask: Option<&Tensor>) -> Result<PatchEvidence> {
    match mask {
        Some(mask) => model.observe_in(view, patches, &Mask::new(mask)?),
        None => Ok(patches),
    }
}

/// What one pass of a model over all training pictures says about their patches, kept in the stage's folder.
///
/// # Errors
/// Faults of data and disk.
pub fn likelihoods(session: &Session, model: &Mixture) -> Result<Likelihoods> {
    Likelihoods::kept(session, model, |batch| {
        let draws = Draws { seed: session.seed, purpose: "noise of codes", pass: 0, pictures: &batch.indices };
        let patches = model.evidence(&batch.pixels, model.readings()[0], &draws)?;
        observed(model, model.view(), patches, batch.observed.as_ref())
    })
}

/// Score of the first validation pictures.
///
/// # Errors
/// When pictures cannot be read.
pub fn watch(session: &Session, model: &Mixture) -> Result<Score> {
    let measure = Measure::plain(model, session.seed, session.micro_batch);
    Ok(Score::of(&score::totals(model, session.valid, session.watched, &measure)?, model.view().dimensions()))
}

/// The codes of the training pictures as the model sees them, int64 `[N, L]` on the CPU.
///
/// # Errors
/// When pictures cannot be read.
pub fn codes(session: &Session, model: &Mixture) -> Result<Tensor> {
    let bar = progress::bar(&format!("{}: codes", session.name), session.train.len() as u64);
    let measure = Measure::plain(model, session.seed, session.micro_batch);
    let codes = score::codes(model, session.train, &measure, |n| bar.set_position(n as u64))?;
    bar.finish_and_clear();
    Ok(codes.to_device(Device::Cpu).to_kind(Kind::Int64))
}
