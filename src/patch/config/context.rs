//! What an experiment says about the pixels around patches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gaussian::GaussianConfig;
use crate::data::windows::WindowShape;
use crate::refusal::Problems;

/// Who weighs the experts of a patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GateConfig {
    /// Constants.
    #[default]
    None,
    /// A small network that looks at the context.
    Network(NetworkConfig),
    /// The likelihoods, under every expert and scale, of the pixels next to the patch.
    Ring(RingConfig),
}

/// A gate by the likelihoods of a ring of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RingConfig {
    /// Pixels of the context that are at most so many rows and columns away from the patch.
    pub width: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { width: 1 }
    }
}

/// A gate network with two hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Units of a hidden layer.
    pub units: usize,
    /// Adam's learning rate, times the step size of EM.
    pub rate: f64,
    /// The experts move with every so many steps of the network.
    pub experts_every: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { units: 128, rate: 2e-3, experts_every: 4 }
    }
}

impl GateConfig {
    /// Note what is wrong with the values, for patches with so many pixels of context.
    pub fn check(&self, context: usize, path: &str, problems: &mut Problems) {
        match self {
            Self::None => {}
            Self::Network(network) => {
                problems.check(network.units > 0, format!("{path}.units"), "expected at least 1, found 0");
                let every = format!("{path}.experts_every");
                problems.check(network.experts_every > 0, every, "expected at least 1, found 0");
                let fine = network.rate > 0.0 && network.rate <= 1.0;
                let message = format!("expected more than 0 and at most 1, found {}", network.rate);
                problems.check(fine, format!("{path}.rate"), message);
            }
            Self::Ring(RingConfig { width }) => {
                let message = format!("expected at least 1 and at most patch.context, {context}, found {width}");
                problems.check(context == 0 || (1..=context).contains(width), format!("{path}.width"), message);
            }
        }
        problems.check(*self == Self::None || context > 0, path, "expected none: the patches have no context");
    }
}

/// Patches of a side with a context, and the gate over them.
#[derive(Clone, Copy, Debug)]
pub struct ContextConfig {
    /// Side of a patch.
    pub patch: usize,
    /// Pixels around it.
    pub context: usize,
    /// The gate.
    pub gate: GateConfig,
}

impl ContextConfig {
    /// Free numbers of so many experts with so many groups of scales, and of their gate.
    #[must_use]
    pub fn parameters(&self, gaussian: &GaussianConfig, channels: usize, experts: usize) -> usize {
        let window = WindowShape { patch: self.patch, context: self.context, channels };
        let scales = gaussian.scales.pow(gaussian.scale_groups.count() as u32);
        // A mean, and regressions on the numbers before; group by group this comes to the same.
        let regressed = |numbers: usize, before: usize| numbers * before + numbers * (numbers + 3) / 2;
        let each = scales - 1 + regressed(window.patch_numbers(), window.context_numbers());
        let gate = match self.gate {
            GateConfig::None => 0,
            GateConfig::Network(network) => {
                let (units, outputs) = (network.units, experts + scales);
                units * (window.features() + 1) + units * (units + 1) + outputs * (units + 1)
            }
            // The experts' weights, and of each the ring's mean and covariance, on which nothing depends under other gates.
            GateConfig::Ring(ring) => experts * regressed(window.ring(ring.width).numel() * channels, 0) + experts - 1,
        };
        experts * each + gate
    }

    /// The window of so many numbers.
    #[must_use]
    pub fn window(&self, numbers: usize) -> WindowShape {
        let of_one = WindowShape { patch: self.patch, context: self.context, channels: 1 };
        WindowShape { channels: numbers / of_one.numbers(), ..of_one }
    }
}
