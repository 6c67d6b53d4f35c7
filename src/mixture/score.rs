//! Code lengths of many pictures, streamed.

use anyhow::Result;
use tch::Tensor;

use super::Mixture;
use crate::data::pictures::Pictures;
use crate::evaluate::Score;

/// Code lengths in nats, one number a picture.
#[derive(Debug, Default)]
pub struct CodeLengths {
    /// -log p(x).
    pub total: Vec<f64>,
    /// -log p(z(x)) of the most probable clusters z(x).
    pub latent: Vec<f64>,
    /// -log p(x | z(x)).
    pub conditional: Vec<f64>,
}

impl CodeLengths {
    /// Mean code length in bits per dimension.
    #[must_use]
    pub fn score(&self, dimensions: usize) -> Score {
        Score::of(&self.total, dimensions)
    }
}

/// Code lengths of the first `count` pictures, `batch` at a time; `tick` is called with the number of pictures done.
///
/// # Errors
/// When pictures cannot be read or do not fit the model.
pub fn code_lengths(
    model: &Mixture,
    pictures: &Pictures,
    count: usize,
    batch: usize,
    mut tick: impl FnMut(usize),
) -> Result<CodeLengths> {
    let mut all = CodeLengths::default();
    let count = count.min(pictures.len());
    for start in (0..count).step_by(batch) {
        let indices: Vec<usize> = (start..(start + batch).min(count)).collect();
        let parts = model.decompose(&model.patches_of(&pictures.batch(&indices)?))?;
        let numbers = |tensor: &Tensor| Vec::<f64>::try_from(tensor);
        all.total.extend(numbers(&parts.total)?);
        all.latent.extend(numbers(&parts.latent)?);
        all.conditional.extend(numbers(&parts.conditional)?);
        tick(start + indices.len());
    }
    Ok(all)
}

/// Codes z(x) of pictures in order, int64 `[N, L]` on the CPU.
///
/// # Errors
/// When pictures cannot be read or do not fit the model.
pub fn codes(
    model: &Mixture,
    pictures: &Pictures,
    count: usize,
    batch: usize,
    mut tick: impl FnMut(usize),
) -> Result<Tensor> {
    let mut all = Vec::new();
    let count = count.min(pictures.len());
    for start in (0..count).step_by(batch) {
        let indices: Vec<usize> = (start..(start + batch).min(count)).collect();
        let patches = model.patches_of(&pictures.batch(&indices)?);
        let (_, posterior) = model.posterior(&model.patch_log_likelihood(&patches)?)?;
        all.push(posterior.argmax(-1, false).to_device(tch::Device::Cpu));
        tick(start + indices.len());
    }
    Ok(Tensor::cat(&all, 0))
}
