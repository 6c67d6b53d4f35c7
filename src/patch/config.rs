//! What an experiment says about patches and their circuits.

mod context;
mod gaussian;
mod hclt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::Reading;
use crate::refusal::Problems;
pub use context::{ContextConfig, GateConfig, NetworkConfig, RingConfig};
pub use gaussian::{Covariance, GaussianConfig, GaussianStart, ScaleGroups};
pub use hclt::HcltConfig;

/// Patches and the circuit on each of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchConfig {
    /// Side length in pixels.
    pub size: usize,
    /// Pixels around a patch, above it and to its left, that its circuit sees (Gaussians only): the picture model becomes a
    /// chain of conditional circuits, without a latent tree. 0 for patches that see themselves alone.
    #[serde(default)]
    pub context: usize,
    /// With a context: who weighs the experts.
    #[serde(default)]
    pub gate: GateConfig,
    /// Family of the patch circuits.
    pub family: FamilyConfig,
}

/// Family of the patch circuits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FamilyConfig {
    /// A hidden Chow-Liu tree for each cluster.
    Hclt(HcltConfig),
    /// A Gaussian scale mixture for each cluster.
    Gaussian(GaussianConfig),
}

impl FamilyConfig {
    /// The reading that the family learns from.
    #[must_use]
    pub fn reading(&self) -> Reading {
        match self {
            Self::Hclt(_) => Reading::Exact,
            Self::Gaussian(_) => Reading::Density,
        }
    }

    /// Patches of every cluster that the first parameters are made from, at most.
    #[must_use]
    pub fn start_examples(&self) -> usize {
        match self {
            Self::Hclt(hclt) => hclt.start_examples,
            Self::Gaussian(gaussian) => gaussian.start_examples,
        }
    }
}

/// Where the first tables of a circuit come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Counts with quantile bins of the values as hidden states.
    #[default]
    Quantile,
    /// Counts with clusters of the values around each variable, near in the tree, as hidden states.
    Neighbourhoods,
    /// Random tables.
    Random,
}

impl PatchConfig {
    /// The context, where patches have one.
    #[must_use]
    pub fn context(&self) -> Option<ContextConfig> {
        let context = ContextConfig { patch: self.size, context: self.context, gate: self.gate };
        (self.context > 0).then_some(context)
    }

    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        problems.check(self.size > 0, format!("{path}.size"), "expected at least 1, found 0");
        self.gate.check(self.context, &format!("{path}.gate"), problems);
        let path = format!("{path}.family");
        match &self.family {
            FamilyConfig::Hclt(hclt) => hclt.check(&path, problems),
            FamilyConfig::Gaussian(gaussian) => gaussian.check(&path, problems),
        }
    }
}
