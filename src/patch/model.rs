//! What a family of patch circuits can do: p(patch | cluster) for all clusters at once.

use std::any::Any;
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use crate::em::EmConfig;

/// The value of a pixel that was not observed, in patches of integers.
pub const MISSING: i64 = i16::MIN as i64;

/// What a family learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchInput {
    /// Integers.
    Integers,
    /// Integers with noise drawn evenly from [0, 1) added.
    Dequantised,
}

/// Which marginals and conditionals of a patch a family computes exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marginals {
    /// Of any set of pixels.
    Any,
    /// Of any set of pixels, of the density only.
    Density,
}

/// One cluster of a model, to be copied into another.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The model.
    pub model: &'a dyn PatchModel,
    /// Which of its clusters.
    pub cluster: usize,
    /// The share of all patches that it will have.
    pub share: f64,
}

/// A family of distributions over patches, one member per cluster.
///
/// Patches are integers `[N, D]` (int16) in the order row, column, channel; [`MISSING`] marks what was not observed.
/// Families with a density also read dequantised patches, floats with NaN for what was not observed, and learn from them
/// ([`input`](PatchModel::input)). Training is: [`start`](PatchModel::start), then any number of times [`accumulate`](PatchModel::accumulate) for
/// micro-batches followed by one [`step`](PatchModel::step).
pub trait PatchModel: Any {
    /// Number of clusters K.
    fn clusters(&self) -> usize;

    /// Where the tensors live.
    fn device(&self) -> Device;

    /// What the family learns from.
    fn input(&self) -> PatchInput {
        PatchInput::Integers
    }

    /// Free numbers.
    fn parameter_count(&self) -> usize;

    /// log p(patch | cluster) in nats, `[N, K]`.
    ///
    /// # Errors
    /// When patches have another size or a value out of range.
    fn log_likelihood(&self, patches: &Tensor) -> Result<Tensor>;

    /// Begin a training on a data set of `examples` patches: forget accumulated statistics and learning state.
    fn start(&mut self, config: &EmConfig, examples: f64);

    /// Add the sufficient statistics of a micro-batch with `weights` `[N, K]` (posteriors of the clusters).
    ///
    /// # Errors
    /// When patches have another size or a value out of range.
    fn accumulate(&mut self, patches: &Tensor, weights: &Tensor) -> Result<()>;

    /// Pairs of patch and cluster with a weight below this are left out of the statistics.
    fn truncation(&self) -> f64;

    /// M-step of size `eta` from what was accumulated.
    fn step(&mut self, eta: f64);

    /// Whether [`reseed`](PatchModel::reseed) can be asked for.
    fn can_reseed(&self) -> bool {
        true
    }

    /// Make cluster `to` a perturbed copy of cluster `from`, in the middle of a training.
    ///
    /// # Errors
    /// When the model cannot be rebuilt.
    fn reseed(&mut self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> Result<()>;

    /// A model whose i-th cluster is a copy of the i-th part: a cluster of this model or of another one of the same family
    /// and configuration.
    ///
    /// # Errors
    /// When a model is of another family, or trees with several heads would be torn apart.
    fn gather(&self, parts: &[Part]) -> Result<Box<dyn PatchModel>>;

    /// Clusters to take the place of one, each made from some patches of it `[n, D]`: trees are found anew, Gaussians start
    /// as copies. They still have to be trained.
    ///
    /// # Errors
    /// When a group has no patches.
    fn instead(&self, cluster: usize, groups: &[Tensor], rng: &mut ChaCha8Rng) -> Result<Box<dyn PatchModel>>;

    /// Forget what was learned: parameters at random on the same structure.
    fn randomise(&mut self, rng: &mut ChaCha8Rng);

    /// Draw patches from one cluster: int64 `[count, D]`.
    fn sample(&self, cluster: usize, count: usize, rng: &mut ChaCha8Rng) -> Tensor;

    /// Which marginals are exact.
    fn marginals(&self) -> Marginals;

    /// Parameters as named tensors.
    fn tensors(&self) -> Vec<(String, Tensor)>;

    /// Learning state as named tensors, for exact resumption.
    fn learning_state(&self) -> Vec<(String, Tensor)>;

    /// Take up the parameters of [`tensors`](PatchModel::tensors).
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()>;

    /// Take up [`learning_state`](PatchModel::learning_state), after the parameters that were saved with it.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    fn restore_learning(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()>;
}

/// A patch model as the family that it has to be of.
///
/// # Errors
/// When it is of another one.
pub fn same_family<T: PatchModel>(model: &dyn PatchModel) -> Result<&T> {
    (model as &dyn Any).downcast_ref().context("clusters of different families cannot be joined in one model")
}
