//! Likelihoods, samples and moments given what was observed of pictures.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::circuit::Circuit;
use crate::circuit::evidence::Evidence;
use crate::circuit::sample::draw;
use crate::mixture::{Mixture, Prior};
use crate::patch::PatchEvidence;

/// Moments of patches given what was observed, in the model's own numbers (its colour space); float64 `[B, L, D]` each.
#[derive(Debug)]
pub struct Moments {
    /// `E[x | x_O]`.
    pub mean: Tensor,
    /// `Var[x | x_O]`; 0 where x was observed.
    pub variance: Tensor,
}

/// log p(what was observed) in nats, float64 `[B]`, for evidence `[B, L, D]`; 0 where nothing was.
///
/// # Errors
/// Where the patches do not fit, or the reading has no such marginal.
pub fn log_likelihood(model: &Mixture, evidence: &PatchEvidence) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let nats = model.log_likelihood(&model.patch_log_likelihood(evidence)?)?;
    Ok(match evidence.observed() {
        Some(observed) => nats.masked_fill(&observed.flatten(1, 2).any_dim(1, false).logical_not(), 0.0),
        None => nats,
    })
}

/// Draw `count` completions of each picture from p(missing | observed): `[B, count, L, D]`, observed values as they are.
/// Integers, or float64 where the model is a density.
///
/// Clusters are drawn from p(z | observed), downward through the latent tree given its messages, then what is missing of
/// each patch given its cluster. Patches that see others are drawn in raster order.
///
/// # Errors
/// Where the patches do not fit, or the reading has no conditionals.
pub fn samples(model: &Mixture, evidence: &PatchEvidence, count: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let (b, l, _) = evidence.values().size3()?;
    let times = count as i64;
    let own = model.view().variables() as i64;
    let numbers = Tensor::arange(b, (Kind::Int64, evidence.values().device()));
    let repeated = evidence.rows(&numbers.repeat_interleave_self_int(times, 0, None));
    let drawn = if model.view().context > 0 {
        model.complete_in_order(&repeated, rng)?
    } else {
        let log_likelihood = model.patch_log_likelihood(evidence)?.repeat_interleave_self_int(times, 0, None);
        let codes = draw_codes(model, &log_likelihood, rng)?;
        model.patches().sample_given(&repeated.flat(), &codes.reshape([-1]), rng)?
    };
    Ok(drawn.reshape([b, times, l, own]))
}

/// Draw clusters z, int64 `[B, L]`, from p(z | observed), given `ln p(x_i | k)` of what was observed, `[B, L, K]`.
fn draw_codes(model: &Mixture, log_likelihood: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let (b, l, k) = log_likelihood.size3()?;
    if let Prior::Tree(tree) = model.prior() {
        let messages = tree.forward(&Evidence::soft(log_likelihood, tree.plan())?, true)?;
        return Ok(tree.sample(0, b as usize, Some(&messages), rng));
    }
    let (_, posterior) = model.posterior(log_likelihood)?;
    Ok(draw(&posterior.reshape([b * l, k]), rng).view([b, l]))
}

/// Mean and variance of every number given what was observed of pictures `[B, L, D]`, exactly, by the law of total
/// expectation over clusters, scales and states.
///
/// # Errors
/// Where the patches do not fit, or the reading has no conditionals.
pub fn moments(model: &Mixture, evidence: &PatchEvidence) -> Result<Moments> {
    let _guard = tch::no_grad_guard();
    let size = evidence.values().size();
    let (_, posterior) = model.posterior(&model.patch_log_likelihood(evidence)?)?;
    let weights = posterior.reshape([size[0] * size[1], -1]).to_kind(Kind::Double);
    let weights = &weights / weights.sum_dim_intlist(1, true, Kind::Double);
    let [mean, second] = model.patches().expectation(&evidence.flat(), &weights)?;
    let variance = (second - mean.square()).clamp_min(0.0);
    let variance = match evidence.observed() {
        Some(observed) => variance.masked_fill(&observed.reshape(variance.size()), 0.0),
        None => variance.zeros_like(),
    };
    Ok(Moments { mean: mean.view(size.as_slice()), variance: variance.view(size.as_slice()) })
}

/// -log p(patch | all other patches) in nats, float64 `[B, L]`, for whole pictures `[B, L, D]`: where is a picture odd? Of
/// patches that see others, -log p(patch | pixels around it).
///
/// # Errors
/// Where the patches do not fit.
pub fn patch_surprise(model: &Mixture, patches: &PatchEvidence) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let log_likelihood = model.patch_log_likelihood(patches)?;
    if let Prior::Tree(tree) = model.prior() {
        return tree_surprise(tree, &log_likelihood);
    }
    let (b, l, k) = log_likelihood.size3()?;
    let alone = log_likelihood.reshape([b * l, 1, k]);
    Ok(-model.log_likelihood(&alone)?.view([b, l]))
}

/// log p(all but patch i) - log p(all), a pass through the tree for every i.
fn tree_surprise(tree: &Circuit, log_likelihood: &Tensor) -> Result<Tensor> {
    let total = |soft: &Tensor| {
        Ok::<_, anyhow::Error>(tree.log_likelihood(&Evidence::soft(soft, tree.plan())?)?.squeeze_dim(-1))
    };
    let all = total(log_likelihood)?;
    let without = |i: i64| {
        let others = log_likelihood.copy();
        let _ = others.select(1, i).zero_();
        Ok(total(&others)? - &all)
    };
    let parts = (0..log_likelihood.size()[1]).map(without).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::stack(&parts, 1))
}
