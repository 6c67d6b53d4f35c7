//! First parameters of Gaussian patches: moments of every cluster's patches, or splitting of one Gaussian.

use std::sync::Mutex;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

use super::component::Component;
use super::mixtures::{GaussianPatches, lock, reordered};
use crate::em::EmConfig;
use crate::patch::config::{GaussianConfig, GaussianStart};
use crate::patch::model::{Infer, Learn};
use crate::require;

/// Patches in one go.
const ROWS: i64 = 4096;
/// EM rounds after every splitting, and patches they look at.
const ROUNDS: usize = 3;
const SEEN: i64 = 65_536;

/// Components from dequantised patches `[n_k, D]` of every cluster.
///
/// # Errors
/// A refusal when there are fewer patches than clusters.
pub fn from_members(
    config: &GaussianConfig,
    members: &[Tensor],
    ranges: &[(i64, i64)],
    device: Device,
) -> Result<GaussianPatches> {
    let _guard = tch::no_grad_guard();
    let all = Tensor::cat(members, 0).to_device(device);
    let n = all.size()[0];
    require!(
        n >= members.len() as i64,
        "{n} patches are too few for {} Gaussians\n  choose fewer clusters (latents.clusters)",
        members.len()
    );
    let (centre, covariance) = moments(&all);
    let mut model = GaussianPatches::empty(config, ranges, &centre, &covariance);
    match config.start {
        GaussianStart::Splitting => model.grow(&all, members.len())?,
        GaussianStart::Clusters => {
            for patches in members {
                let (mean, covariance) = moments(&model.centred(patches)?);
                let count = patches.size()[0] as f64;
                let new = Component::from_covariance(&mean, &covariance, count, count / n as f64, &model.common);
                model.components.push(Mutex::new(new));
            }
        }
    }
    Ok(model)
}

/// Mean `[D]` and covariance `[D, D]` of x `[N, D]`, float64.
pub fn moments(x: &Tensor) -> (Tensor, Tensor) {
    let mean = x.mean_dim([0i64].as_slice(), false, Kind::Double);
    let d = mean.size()[0];
    let mut scatter = Tensor::zeros([d, d], (Kind::Double, mean.device()));
    for some in x.split(ROWS, 0) {
        let centred = some.to_kind(Kind::Double) - &mean;
        scatter += centred.tr().matmul(&centred);
    }
    (mean, scatter / x.size()[0] as f64)
}

/// Cut a component in two along its longest axis: it moves half a deviation to one side, the one returned to the other.
pub fn split(component: &mut Component) -> Component {
    let axis = component.principal_axis() * 0.5;
    let shape = &component.shape - axis.outer(&axis);
    let side = |sign: f64| {
        let mean = &component.mean + &axis * sign;
        Component::of_shape(&mean, &shape, &component.log_weights, component.share / 2.0, &component.common)
    };
    let (one, other) = (side(1.0), side(-1.0));
    *component = one;
    other
}

impl GaussianPatches {
    /// Split the largest components until there are `clusters`, with rounds of EM on some of the patches in between.
    fn grow(&mut self, patches: &Tensor, clusters: usize) -> Result<()> {
        let n = patches.size()[0];
        let stride = (n / SEEN).max(1);
        let seen = patches.slice(0, 0, n, stride).contiguous();
        let zero = self.centre.zeros_like();
        let covariance = reordered(&self.covariance, &self.order);
        let whole = Component::from_covariance(&zero, &covariance, n as f64, 1.0, &self.common);
        self.components = vec![Mutex::new(whole)];
        while self.components.len() < clusters {
            let mut order: Vec<usize> = (0..self.components.len()).collect();
            order.sort_by(|&a, &b| lock(&self.components[b]).share.total_cmp(&lock(&self.components[a]).share));
            for k in order.into_iter().take(clusters - self.components.len()) {
                let other = split(&mut lock(&self.components[k]));
                self.components.push(Mutex::new(other));
            }
            for _ in 0..ROUNDS {
                self.round(&seen)?;
            }
        }
        Ok(())
    }

    /// One full EM round, components weighted by their shares.
    fn round(&mut self, patches: &Tensor) -> Result<()> {
        self.begin(&EmConfig::default(), patches.size()[0] as f64);
        let shares: Vec<f64> = self.components.iter().map(|c| lock(c).share.max(1e-12).ln()).collect();
        let shares = Tensor::from_slice(&shares).to_device(self.device());
        for some in patches.split(ROWS, 0) {
            let posterior = (self.log_likelihood(&self.complete(&some))? + &shares).softmax(1, Kind::Double);
            self.accumulate(&self.complete(&some), &posterior.to_kind(Kind::Float))?;
        }
        self.step(1.0);
        Ok(())
    }
}

/// Standard normal numbers `[count]`, float64, on the CPU.
pub fn normal(count: usize, rng: &mut ChaCha8Rng) -> Tensor {
    let numbers: Vec<f64> = StandardNormal.sample_iter(rng).take(count).collect();
    Tensor::from_slice(&numbers)
}
