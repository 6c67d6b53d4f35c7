//! First experts: moments of every cluster's windows.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::expert::Expert;
use super::experts::ContextPatches;
use super::gate::Gate;
use crate::patch::config::{ContextConfig, GateConfig, GaussianConfig};
use crate::patch::gaussian::start::moments;
use crate::require;

/// Experts from dequantised windows `[n_k, W]` of every cluster, of which everything is observed.
///
/// # Errors
/// A refusal when there are fewer windows than clusters.
pub fn from_members(
    config: &GaussianConfig,
    context: &ContextConfig,
    members: &[Tensor],
    ranges: &[(i64, i64)],
    device: Device,
    rng: &mut ChaCha8Rng,
) -> Result<ContextPatches> {
    let _guard = tch::no_grad_guard();
    let all = Tensor::cat(members, 0).to_device(device);
    let n = all.size()[0];
    require!(
        n >= members.len() as i64,
        "{n} patches are too few for {} experts\n  choose fewer clusters (latents.clusters)",
        members.len()
    );
    let (centre, covariance) = moments(&all);
    let mut model = ContextPatches::empty(config, context, ranges, &centre, &covariance);
    for windows in members {
        let windows = (windows.to_device(device).to_kind(Kind::Double) - &model.centre).index_select(1, &model.order);
        let (mean, covariance) = moments(&windows);
        let count = windows.size()[0] as f64;
        model.experts.push(Expert::from_covariance(&mean, &covariance, count, count / n as f64, &model.common));
    }
    if let GateConfig::Network(network) = context.gate {
        let shares: Vec<f64> = model.experts.iter().map(|expert| expert.share).collect();
        let shares = Tensor::from_slice(&shares).to_device(device);
        model.gate = Some(Gate::new(network, context.window(ranges.len()), &shares, model.common.count(), rng));
    }
    Ok(model)
}
