//! Code lengths of many pictures, streamed.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::mask::Mask;
use super::observed::Observed;
use super::{Decomposition, Mixture};
use crate::data::batches::Batch;
use crate::data::pictures::Pictures;
use crate::evaluate::Score;
use crate::patch::{PatchEvidence, Reading};
use crate::random::Draws;
use crate::run::interrupt;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Which number stands for log P(x).
    pub reading: Reading,
    /// Draws of the noise for the density reading.
    pub draws: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// The part of every picture that is looked at.
    pub observed: Observed,
    /// Pictures in one go.
    pub batch: usize,
}

impl Measure {
    /// One draw, whole pictures, by the reading that a model learns from.
    #[must_use]
    pub fn plain(model: &Mixture, seed: u64, batch: usize) -> Self {
        Self { reading: model.readings()[0], draws: 1, seed, observed: Observed::All, batch }
    }

    /// How often a picture is looked at.
    fn passes(&self) -> u64 {
        if self.reading == Reading::Density { self.draws as u64 } else { 1 }
    }

    /// What is seen of pixels the `pass`-th time.
    fn evidence(&self, model: &Mixture, pixels: &Tensor, indices: &[usize], pass: u64) -> Result<PatchEvidence> {
        let noise = Draws { seed: self.seed, purpose: "noise of an evaluation", pass, pictures: indices };
        self.observed.of(model, model.evidence(pixels, self.reading, &noise)?)
    }
}

/// Code lengths in nats, one number a picture.
#[derive(Debug, Default)]
pub struct CodeLengths {
    /// -log p(x); for the density reading the mean over draws of the noise.
    pub total: Vec<f64>,
    /// -log p(z(x)) of the most probable clusters z(x).
    pub latent: Vec<f64>,
    /// -log p(x | z(x)).
    pub conditional: Vec<f64>,
    /// -log of the mean over draws of p(x + u): the tighter, importance-weighted bound.
    pub importance: Vec<f64>,
}

impl CodeLengths {
    /// Mean code length in bits per dimension.
    #[must_use]
    pub fn score(&self, dimensions: usize) -> Score {
        Score::of(&self.total, dimensions)
    }
}

/// Code lengths of the first `count` pictures; `tick` is called with the number of pictures done.
///
/// # Errors
/// When pictures cannot be read or do not fit the model; a refusal where it has no such reading or marginal.
pub fn code_lengths(
    model: &Mixture,
    pictures: &Pictures,
    count: usize,
    measure: &Measure,
    mut tick: impl FnMut(usize),
) -> Result<CodeLengths> {
    let mut all = CodeLengths::default();
    let draws = measure.passes();
    let _guard = tch::no_grad_guard();
    for batch in pictures.batches(0..count.min(pictures.len()), measure.batch) {
        interrupt::check()?;
        let Batch { indices, pixels, .. } = batch?;
        let decomposed = (0..draws).map(|pass| model.decompose(&measure.evidence(model, &pixels, &indices, pass)?));
        let decomposed = decomposed.collect::<Result<Vec<_>>>()?;
        let stacked = |part: fn(&Decomposition) -> &Tensor| {
            Tensor::stack(&decomposed.iter().map(|d| part(d).shallow_clone()).collect::<Vec<_>>(), 0)
        };
        let mean = |t: Tensor| Vec::<f64>::try_from(t.mean_dim([0i64].as_slice(), false, Kind::Double));
        let total = stacked(|d| &d.total);
        let importance: Tensor = (draws as f64).ln() - (-&total).logsumexp(0, false);
        all.importance.extend(Vec::<f64>::try_from(importance)?);
        all.total.extend(mean(total)?);
        check_finite(&all.total, indices[0])?;
        all.latent.extend(mean(stacked(|d| &d.latent))?);
        all.conditional.extend(mean(stacked(|d| &d.conditional))?);
        tick(all.total.len());
    }
    Ok(all)
}

/// -log p(x) of the first `count` pictures, without its parts: for the density reading the mean over draws of the noise.
///
/// # Errors
/// As [`code_lengths`].
pub fn totals(model: &Mixture, pictures: &Pictures, count: usize, measure: &Measure) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    let _guard = tch::no_grad_guard();
    for batch in pictures.batches(0..count.min(pictures.len()), measure.batch) {
        interrupt::check()?;
        let Batch { indices, pixels, .. } = batch?;
        let drawn = (0..measure.passes()).map(|pass| {
            let patches = measure.evidence(model, &pixels, &indices, pass)?;
            model.log_likelihood(&model.patch_log_likelihood(&patches)?)
        });
        let drawn = Tensor::stack(&drawn.collect::<Result<Vec<_>>>()?, 0);
        all.extend(Vec::<f64>::try_from(-drawn.mean_dim([0i64].as_slice(), false, Kind::Double))?);
        check_finite(&all, indices[0])?;
    }
    Ok(all)
}

/// Codes z(x) of pictures in order, int64 `[N, L]` on the CPU.
///
/// # Errors
/// When pictures cannot be read or do not fit the model.
pub fn codes(model: &Mixture, pictures: &Pictures, measure: &Measure, mut tick: impl FnMut(usize)) -> Result<Tensor> {
    let mut all = Vec::new();
    let _guard = tch::no_grad_guard();
    for batch in pictures.batches(0..pictures.len(), measure.batch) {
        interrupt::check()?;
        let Batch { indices, pixels, observed } = batch?;
        let noise = Draws { seed: measure.seed, purpose: "noise of codes", pass: 0, pictures: &indices };
        let patches = model.evidence(&pixels, measure.reading, &noise)?;
        let patches = match observed {
            Some(observed) => model.observe(patches, &Mask::new(&observed)?)?,
            None => patches,
        };
        let (_, posterior) = model.posterior(&model.patch_log_likelihood(&patches)?)?;
        all.push(posterior.argmax(-1, false).to_device(Device::Cpu));
        tick(indices[indices.len() - 1] + 1);
    }
    Ok(Tensor::cat(&all, 0))
}

/// Refuse to go on with code lengths of which one from this picture on is no number.
fn check_finite(nats: &[f64], from: usize) -> Result<()> {
    let wrong = nats[from..].iter().position(|nats| !nats.is_finite());
    anyhow::ensure!(
        wrong.is_none(),
        "picture {}: its likelihood is not finite: the model gives no number for it",
        from + wrong.unwrap_or(0)
    );
    Ok(())
}
