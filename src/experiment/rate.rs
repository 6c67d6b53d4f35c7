//! How fast patch circuits learn on this machine: measured on a few random patches, for the times that `lvd plan` states.

use std::time::Instant;

use anyhow::Result;
use rand::RngExt;
use tch::{Device, Kind, Tensor};

use crate::data::view::View;
use crate::em::EmConfig;
use crate::patch::config::{FamilyConfig, PatchConfig, Start};
use crate::patch::{self, PatchInput};
use crate::random::rng;

/// Clusters and patches that are measured.
const CLUSTERS: usize = 4;
const PATCHES: i64 = 1024;
/// Numbers of a cluster beyond which nothing is measured.
const MOST: f64 = 3e7;

/// Seconds of the parts of EM on patches.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Likelihood of one patch under one cluster.
    pub likelihood: f64,
    /// Statistics of one patch in one cluster.
    pub statistics: f64,
    /// M-step of one cluster.
    pub step: f64,
}

impl Rate {
    /// Measure circuits of this kind on the device; takes about a second. None where they are too large for that.
    ///
    /// # Errors
    /// When the circuits cannot be made.
    pub fn measure(config: &PatchConfig, view: &View, device: Device) -> Result<Option<Self>> {
        if numbers(config, view) > MOST {
            return Ok(None);
        }
        let _guard = tch::no_grad_guard();
        let patches = random_patches(view, config.family.input());
        let members = patches.chunk(CLUSTERS as i64, 0);
        let mut random = rng(0, "rate", 1);
        let mut model = patch::start(config, &members, &view.ranges(), Start::Quantile, device, &mut random)?;
        let patches = patches.to_device(device);
        let own = Tensor::arange(PATCHES, (Kind::Int64, device)).divide_scalar_mode(PATCHES / CLUSTERS as i64, "floor");
        let weights = own.one_hot(CLUSTERS as i64).to_kind(Kind::Float);
        model.start(&EmConfig::default(), PATCHES as f64);
        let mut once = || -> Result<Self> {
            let started = Instant::now();
            let _ = model.log_likelihood(&patches)?.sum(Kind::Double).double_value(&[]);
            let likelihood = started.elapsed().as_secs_f64() / (PATCHES as f64 * CLUSTERS as f64);
            let started = Instant::now();
            model.accumulate(&patches, &weights)?;
            let statistics = started.elapsed().as_secs_f64() / PATCHES as f64;
            let started = Instant::now();
            model.step(0.1);
            Ok(Self { likelihood, statistics, step: started.elapsed().as_secs_f64() / CLUSTERS as f64 })
        };
        once()?;
        once().map(Some)
    }

    /// Seconds of `epochs` passes over `patches` patches where each meets `clusters` of them, with `steps` M-steps of
    /// `moved` clusters in every pass. A patch is taken to enter the statistics of one cluster.
    #[must_use]
    pub fn seconds(&self, epochs: usize, patches: usize, clusters: usize, steps: usize, moved: usize) -> f64 {
        let pass = patches as f64 * (clusters as f64 * self.likelihood + self.statistics);
        epochs as f64 * (pass + (steps * moved) as f64 * self.step)
    }
}

/// Numbers of a cluster's tables or matrices, and of messages.
fn numbers(config: &PatchConfig, view: &View) -> f64 {
    let d = view.variables() as f64;
    match &config.family {
        FamilyConfig::Hclt(hclt) => {
            let categories: f64 = view.ranges().iter().map(|(low, high)| (high - low + 1) as f64).sum();
            let states = hclt.states as f64;
            states * (d * states + categories + d * PATCHES as f64)
        }
        FamilyConfig::Gaussian(gaussian) => d * d + (gaussian.scales.pow(2) as i64 * PATCHES) as f64,
    }
}

/// `[PATCHES, D]`, of the kind that a family learns from.
fn random_patches(view: &View, input: PatchInput) -> Tensor {
    let mut rng = rng(0, "rate", 0);
    let columns = view.ranges().into_iter().map(|(low, high)| {
        let values: Vec<i64> = (0..PATCHES).map(|_| rng.random_range(low..=high)).collect();
        Tensor::from_slice(&values)
    });
    let integers = Tensor::stack(&columns.collect::<Vec<_>>(), 1);
    match input {
        PatchInput::Integers => integers.to_kind(Kind::Int16),
        PatchInput::Dequantised => integers.to_kind(Kind::Float) + 0.5,
    }
}

/// A time for people.
#[must_use]
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_cost_patches_times_clusters_and_steps_cost_clusters() {
        let rate = Rate { likelihood: 1e-3, statistics: 2e-3, step: 0.5 };
        assert!((rate.seconds(3, 100, 8, 4, 8) - 3.0 * (100.0 * 10e-3 + 16.0)).abs() < 1e-9);
        assert!((rate.seconds(2, 100, 0, 5, 1) - 2.0 * (0.2 + 2.5)).abs() < 1e-9);
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [5.2, 600.0, 7200.0, 864_000.0].map(duration);
        assert_eq!(told, ["5 s", "10 min", "2.0 h", "10.0 days"]);
    }
}
