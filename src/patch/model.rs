//! What a family of patch circuits can do: p(patch | cluster) for all clusters at once, by trade.
//!
//! [`Infer`] answers questions, [`Learn`] is EM, [`Grow`] makes models out of clusters; a [`PatchModel`] does all three.

use std::any::Any;

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::evidence::{PatchEvidence, Reading};
use crate::em::EmConfig;
use crate::group::Sum;
use crate::run::checkpoint::Named;

/// Which marginals of a patch a reading has exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marginals {
    /// Of any set of pixels.
    Any,
    /// None but that of the whole patch.
    Whole,
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

/// A family of distributions over patches, one member per cluster: what a trained one can be asked.
pub trait Infer: Any {
    /// Number of clusters K.
    fn clusters(&self) -> usize;

    /// Where the tensors live.
    fn device(&self) -> Device;

    /// How patches can be read; the first reading is the one that the family learns from.
    fn readings(&self) -> Vec<Reading>;

    /// Which marginals are exact under a reading.
    fn marginals(&self, reading: Reading) -> Marginals;

    /// Free numbers.
    fn parameter_count(&self) -> usize;

    /// log p(what was observed of a patch | cluster) in nats, `[N, K]`, for evidence `[N, D]`; 0 where nothing was.
    ///
    /// # Errors
    /// When patches have another size or a value out of range, and where the reading has no such marginal.
    fn log_likelihood(&self, patches: &PatchEvidence) -> Result<Tensor>;

    /// Draw patches from one cluster: int64 `[count, D]`.
    fn sample(&self, cluster: usize, count: usize, rng: &mut ChaCha8Rng) -> Tensor;

    /// Draw what was not observed of patches `[N, D]` from p(missing | observed, cluster), the clusters int64 `[N]`: `[N, D]`,
    /// observed values as they are. Integers, or float64 where patches are read as a density.
    ///
    /// # Errors
    /// When patches have another size or a value out of range, and where the reading has no such conditional.
    fn sample_given(&self, patches: &PatchEvidence, clusters: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor>;

    /// First and second moments of patches given what was observed of them, float64 `[N, D]` each, added up over the
    /// clusters with `weights` `[N, K]`: `sum_k weight_k E[x | observed, k]`. With posteriors of the clusters for weights
    /// these are the moments of the mixture.
    ///
    /// # Errors
    /// As those of [`sample_given`](Infer::sample_given).
    fn expectation(&self, patches: &PatchEvidence, weights: &Tensor) -> Result<[Tensor; 2]>;

    /// The largest value, in nats, that log p(observed, missing, latents | cluster) takes over what was not observed and over
    /// the cluster's own latents (states or scales), float64 `[N, K]`.
    ///
    /// # Errors
    /// As those of [`sample_given`](Infer::sample_given).
    fn maximum(&self, patches: &PatchEvidence) -> Result<Tensor>;

    /// Where that maximum is for patches `[N, D]` of the clusters int64 `[N]`: `[N, D]`, observed values as they are.
    ///
    /// # Errors
    /// As those of [`sample_given`](Infer::sample_given).
    fn maximiser(&self, patches: &PatchEvidence, clusters: &Tensor) -> Result<Tensor>;

    /// Parameters as named tensors.
    fn tensors(&self) -> Vec<(String, Tensor)>;

    /// Whether the weights of the clusters are the family's own, given what it sees around a patch: likelihoods then
    /// contain them.
    fn own_weights(&self) -> bool {
        false
    }

    /// Those weights as logarithms `[N, K]`; for families that have such.
    ///
    /// # Errors
    /// When patches have another size, and where the weights are not the family's.
    fn weights(&self, _: &PatchEvidence) -> Result<Tensor> {
        Err(crate::refusal!("these patches have no weights of their own"))
    }

    /// Patches `[N, D]`, all of them observed, as the family learns from them.
    fn complete(&self, patches: &Tensor) -> PatchEvidence {
        PatchEvidence::new(patches, self.readings()[0])
    }
}

/// EM of a family: [`begin`](Learn::begin), then any number of times [`accumulate`](Learn::accumulate) for micro-batches
/// followed by one [`step`](Learn::step).
pub trait Learn: Infer {
    /// Begin a training on a data set of `examples` patches: forget accumulated statistics and learning state.
    fn begin(&mut self, config: &EmConfig, examples: f64);

    /// Add the sufficient statistics of a micro-batch `[N, D]` with `weights` `[N, K]` (posteriors of the clusters).
    ///
    /// # Errors
    /// When patches have another size or a value out of range.
    fn accumulate(&mut self, patches: &PatchEvidence, weights: &Tensor) -> Result<()>;

    /// Pairs of patch and cluster with a weight below this are left out of the statistics.
    fn truncation(&self) -> f64;

    /// Hand out, always in the same order, every tensor that was accumulated since the last step and has to be summed over
    /// all parts of the data before the next: float64, zeros where this part saw nothing.
    ///
    /// # Errors
    /// Those of `sum`.
    fn statistics(&mut self, sum: &mut Sum) -> Result<()>;

    /// M-step of size `eta` from what was accumulated.
    fn step(&mut self, eta: f64);

    /// Learning state as named tensors, for exact resumption.
    fn learning_state(&self) -> Vec<(String, Tensor)>;

    /// Take up the parameters of [`tensors`](Infer::tensors).
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    fn restore(&mut self, saved: &Named) -> Result<()>;

    /// Take up [`learning_state`](Learn::learning_state), after the parameters that were saved with it.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    fn restore_learning(&mut self, saved: &Named) -> Result<()>;
}

/// Models out of the clusters of others.
pub trait Grow: Learn {
    /// Whether [`reseed`](Grow::reseed) can be asked for.
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
    fn refit(&self, cluster: usize, groups: &[Tensor], rng: &mut ChaCha8Rng) -> Result<Box<dyn PatchModel>>;

    /// Forget what was learned: parameters at random on the same structure.
    fn randomise(&mut self, rng: &mut ChaCha8Rng);
}

/// All trades together.
pub trait PatchModel: Infer + Learn + Grow {}

impl<T: Infer + Learn + Grow> PatchModel for T {}

/// A patch model as the family that it has to be of.
///
/// # Errors
/// When it is of another one.
pub fn same_family<T: PatchModel>(model: &dyn PatchModel) -> Result<&T> {
    (model as &dyn Any).downcast_ref().context("clusters of different families cannot be joined in one model")
}
