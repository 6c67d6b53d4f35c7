//! A proposed split or merge: what it would look like, and what it would bring on held-out patches.
//!
//! With `log p(x) = log sum_j w_j p(x | j)` over held-out patches x, cluster k replaced by two of weights `a_1`, `a_2` gains
//!
//! ```text
//! g(x) = log(sum_{j != k} w_j p(x | j) + w_k sum_c a_c p(x | c)) - log p(x)
//! ```
//!
//! and clusters i, j replaced by one cost the same with its parts exchanged. Nothing of it is an approximation but that
//! patches of which k has a posterior below 1e-4 are taken to be as they were.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{IndexOp, Kind, Tensor};

use super::config::GainGrowing;
use crate::patch::PatchModel;

/// Patches in one go.
const ROWS: i64 = 4096;
/// Posteriors below this are not looked at.
const NEGLIGIBLE: f64 = 1e-4;

/// Patches that gains are measured on, under the present mixture.
pub struct HeldOut {
    /// `[n, D]`.
    pub patches: Tensor,
    /// `log w_k p(x | k)`, float64 `[n, K]`.
    pub joint: Tensor,
    /// log p(x), float64 `[n]`.
    pub total: Tensor,
}

impl HeldOut {
    /// Patches `[n, D]` under clusters with these log-weights.
    ///
    /// # Errors
    /// When the patches do not fit.
    pub fn new(model: &dyn PatchModel, log_weights: &Tensor, patches: Tensor) -> Result<Self> {
        let parts = patches.split(ROWS, 0).into_iter().map(|some| model.log_likelihood(&model.complete(&some)));
        let parts: Vec<Tensor> = parts.collect::<Result<_>>()?;
        let joint = Tensor::cat(&parts, 0).to_kind(Kind::Double) + log_weights;
        let total = joint.logsumexp(1, false);
        Ok(Self { patches, joint, total })
    }

    /// Posteriors of the clusters `[n, K]`.
    pub fn posterior(&self) -> Tensor {
        (&self.joint - self.total.unsqueeze(1)).exp()
    }

    /// The gain in nats over all patches, and its standard error, when clusters `old` are replaced by those of a model
    /// with weights of their own (logarithms `[C]`).
    fn gain(&self, old: &[usize], new: &dyn PatchModel, log_weights: &Tensor) -> Result<(f64, f64)> {
        let kept = Tensor::ones([self.joint.size()[1]], (Kind::Bool, self.joint.device()));
        for &k in old {
            let _ = kept.get(k as i64).fill_(0);
        }
        let others = self.joint.masked_fill(&kept.logical_not(), f64::NEG_INFINITY).logsumexp(1, false) - &self.total;
        let rows = others.lt((1.0 - NEGLIGIBLE).ln()).nonzero().squeeze_dim(1);
        if rows.numel() == 0 {
            return Ok((0.0, 0.0));
        }
        let patches = self.patches.index_select(0, &rows);
        let parts = patches.split(ROWS, 0).into_iter().map(|some| new.log_likelihood(&new.complete(&some)));
        let likelihood = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0).to_kind(Kind::Double);
        let instead = (likelihood + log_weights).logsumexp(1, false) - self.total.i(&rows);
        let change = others.i(&rows).logaddexp(&instead);
        let n = self.total.numel() as f64;
        let sum = change.sum(Kind::Double).double_value(&[]);
        let squares = change.square().sum(Kind::Double).double_value(&[]);
        Ok((sum, (squares - sum * sum / n).max(0.0).sqrt()))
    }
}

/// New clusters in place of old ones.
pub struct Proposal {
    /// The clusters that they replace.
    pub old: Vec<usize>,
    /// The new clusters.
    pub model: Box<dyn PatchModel>,
    /// Their weights, as logarithms.
    pub log_weights: Vec<f64>,
    /// Training patches that they learned from.
    pub members: usize,
    /// What they bring on the held-out patches, in nats, and its standard error.
    pub gain: f64,
    /// Standard error of the gain.
    pub error: f64,
}

/// What a proposal replaces and brings: all that is to be known to choose it.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The clusters that are replaced: one by a split, two by a merge.
    pub old: &'a [usize],
    /// What is gained, in nats.
    pub gain: f64,
    /// Standard error of the gain.
    pub error: f64,
}

impl Offer<'_> {
    /// Whether the two replace a cluster in common.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        self.old.iter().any(|k| other.old.contains(k))
    }
}

impl Proposal {
    /// What it offers.
    #[must_use]
    pub fn offer(&self) -> Offer<'_> {
        Offer { old: &self.old, gain: self.gain, error: self.error }
    }
}

/// What every proposal starts from.
pub struct Present<'a> {
    /// How proposals are made.
    pub config: &'a GainGrowing,
    /// The clusters as they are.
    pub model: &'a dyn PatchModel,
    /// Their weights, as logarithms.
    pub log_weights: &'a [f64],
    /// What gains are measured on.
    pub held_out: &'a HeldOut,
}

impl Present<'_> {
    /// Cut cluster k in two along the principal axis of its patches `[n, D]`, and train the halves on them; none where all
    /// patches lie on one side, as equal ones do.
    ///
    /// # Errors
    /// When the patches do not fit.
    pub fn split(&self, k: usize, members: &Tensor, rng: &mut ChaCha8Rng) -> Result<Option<Proposal>> {
        let side = along_principal_axis(members).gt(0.0);
        let count = side.sum(Kind::Int64).int64_value(&[]);
        if count == 0 || count == members.size()[0] {
            return Ok(None);
        }
        let half = |of: &Tensor| members.index_select(0, &of.nonzero().squeeze_dim(1));
        let pair = self.model.refit(k, &[half(&side), half(&side.logical_not())], rng)?;
        let side = side.to_kind(Kind::Float);
        let start = Tensor::stack(&[&side, &(1.0 - &side)], 1);
        self.learn(pair, self.log_weights[k], vec![k], members, start).map(Some)
    }

    /// Put clusters i and j together, with their patches `[n, D]`; i should be the larger one.
    ///
    /// # Errors
    /// When the patches do not fit.
    pub fn merge(&self, (i, j): (usize, usize), members: &Tensor, rng: &mut ChaCha8Rng) -> Result<Proposal> {
        let one = self.model.refit(i, &[members.shallow_clone()], rng)?;
        let weight = (self.log_weights[i].exp() + self.log_weights[j].exp()).ln();
        let start = Tensor::ones([members.size()[0], 1], (Kind::Float, members.device()));
        self.learn(one, weight, vec![i, j], members, start)
    }

    /// EM of the new clusters on their patches from first responsibilities `[n, C]`, then their gain.
    fn learn(
        &self,
        mut new: Box<dyn PatchModel>,
        log_weight: f64,
        old: Vec<usize>,
        members: &Tensor,
        mut responsibilities: Tensor,
    ) -> Result<Proposal> {
        let config = self.config;
        let n = members.size()[0];
        new.begin(&config.em, n as f64);
        let mut shares = Tensor::zeros([new.clusters() as i64], (Kind::Double, members.device()));
        for step in 0..config.steps {
            if step > 0 {
                let parts = members.split(ROWS, 0).into_iter().map(|some| new.log_likelihood(&new.complete(&some)));
                let likelihood = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0);
                responsibilities = (likelihood.to_kind(Kind::Double) + &shares).softmax(1, Kind::Float);
            }
            for (some, weights) in members.split(ROWS, 0).iter().zip(responsibilities.split(ROWS, 0)) {
                new.accumulate(&new.complete(some), &weights)?;
            }
            new.step(config.eta);
            shares = (responsibilities.sum_dim_intlist(0, false, Kind::Double) + 1.0).log();
            shares = &shares - shares.logsumexp(0, false);
        }
        let weights = shares + log_weight;
        let (gain, error) = self.held_out.gain(&old, &*new, &weights)?;
        let log_weights = Vec::try_from(weights)?;
        Ok(Proposal { old, model: new, log_weights, members: n as usize, gain, error })
    }
}

/// Where patches `[n, D]` lie along the longest axis of their covariance, `[n]`, about their mean.
fn along_principal_axis(patches: &Tensor) -> Tensor {
    let x = patches.to_kind(Kind::Double);
    let x = &x - x.mean_dim([0i64].as_slice(), true, Kind::Double);
    let (_, vectors) = x.tr().matmul(&x).linalg_eigh("L"); // rising
    x.mv(&vectors.select(1, -1))
}
