//! What an experiment says about patches and their circuits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::model::PatchInput;
use crate::em::InputFamily;
use crate::refusal::Problems;
use crate::structure::config::TreeConfig;

/// Patches and the circuit on each of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchConfig {
    /// Side length in pixels.
    pub size: usize,
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
    /// What the family learns from.
    #[must_use]
    pub fn input(&self) -> PatchInput {
        match self {
            Self::Hclt(_) => PatchInput::Integers,
            Self::Gaussian(_) => PatchInput::Dequantised,
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

/// Hidden Chow-Liu trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HcltConfig {
    /// Hidden states of every variable.
    pub states: usize,
    /// Family of the inputs.
    pub inputs: InputFamily,
    /// Trees: one for each cluster, from the cluster's own patches, unless shared.
    pub tree: TreeConfig,
    /// Patches of each cluster that its tree and its first tables are made from, at most.
    pub start_examples: usize,
    /// Trees evaluated as one batched forest; 0: one on a CPU (its tables stay in the cache), all on a GPU.
    pub forest: usize,
    /// Pairs of patch and cluster with a posterior below this are left out of the statistics, never of likelihoods.
    pub truncate_posterior: f64,
}

impl Default for HcltConfig {
    fn default() -> Self {
        Self {
            states: 16,
            inputs: InputFamily::Categorical,
            tree: TreeConfig::default(),
            start_examples: 20_000,
            forest: 0,
            truncate_posterior: 1e-4,
        }
    }
}

/// Gaussian scale mixtures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GaussianConfig {
    /// Which covariances the shapes have.
    pub covariance: Covariance,
    /// Contrast scales; 1 for plain Gaussians.
    pub scales: usize,
    /// Which variables have a scale in common; where there are two groups, all pairs of scales are looked at.
    pub scale_groups: ScaleGroups,
    /// The scales go from exp(-span) to exp(span).
    pub span: f64,
    /// Patches that the prior on every shape counts for (lambda).
    pub prior_strength: f64,
    /// The prior's shape is this share of the covariance of all patches, and 1/12 on the diagonal (tau).
    pub prior_scale: f64,
    /// Least eigenvalue of a shape; 1/12 is the variance of the noise that makes integers continuous.
    pub floor: f64,
    /// Where first parameters come from.
    pub start: GaussianStart,
    /// Patches of each cluster that they are made from, at most.
    pub start_examples: usize,
    /// Pairs of patch and cluster with a posterior below this are left out of the statistics, never of likelihoods.
    pub truncate_posterior: f64,
    /// The ordered reading leaves out clusters and scales whose density is so many nats below the best one's: what is
    /// counted is then a bound, never less than the exact number of bits.
    pub ordered_window: f64,
    /// Compute in float64 instead of float32.
    pub double: bool,
}

/// Which covariances Gaussians have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Covariance {
    /// Any.
    #[default]
    Full,
    /// Those of factor analysers: low rank plus a diagonal.
    LowRank {
        /// The rank.
        rank: usize,
    },
}

impl Covariance {
    /// The rank where there is one.
    #[must_use]
    pub fn rank(self) -> Option<i64> {
        match self {
            Self::Full => None,
            Self::LowRank { rank } => Some(rank as i64),
        }
    }

    /// Free numbers of a covariance of `d` variables; a rotation of the factors changes nothing.
    #[must_use]
    pub fn parameters(self, d: usize) -> usize {
        match self {
            Self::LowRank { rank } if rank < d => d * rank + d - rank * (rank - 1) / 2,
            _ => d * (d + 1) / 2,
        }
    }
}

/// Which variables of a Gaussian have a contrast scale in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleGroups {
    /// All of them.
    #[default]
    One,
    /// The first of three channels, and the other two: luma and chroma.
    LumaChroma,
}

impl ScaleGroups {
    /// How many groups.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::LumaChroma => 2,
        }
    }

    /// The `d` variables of a patch (row, column, channel) group by group, int64 `[D]`, and how many each group has.
    pub fn order(self, d: i64) -> (Tensor, Vec<i64>) {
        let all = Tensor::arange(d, (Kind::Int64, Device::Cpu));
        match self {
            Self::One => (all, vec![d]),
            Self::LumaChroma => {
                let channels = all.view([-1, 3]);
                let order = Tensor::cat(&[channels.select(1, 0), channels.narrow(1, 1, 2).reshape([-1])], 0);
                (order, vec![d / 3, d - d / 3])
            }
        }
    }
}

/// Where first parameters of Gaussians come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GaussianStart {
    /// Moments of every cluster's patches.
    #[default]
    Clusters,
    /// One Gaussian, split along its longest axis again and again, with rounds of EM in between; goes with no epochs of
    /// hard EM.
    Splitting,
}

impl Default for GaussianConfig {
    fn default() -> Self {
        Self {
            covariance: Covariance::Full,
            scales: 9,
            scale_groups: ScaleGroups::One,
            span: 1.0,
            prior_strength: 50.0,
            prior_scale: 0.05,
            floor: 1.0 / 12.0,
            start: GaussianStart::Clusters,
            start_examples: 2_000,
            truncate_posterior: 1e-3,
            ordered_window: 14.0,
            double: false,
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
    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        problems.check(self.size > 0, format!("{path}.size"), "expected at least 1, found 0");
        let path = format!("{path}.family");
        match &self.family {
            FamilyConfig::Hclt(hclt) => hclt.check(&path, problems),
            FamilyConfig::Gaussian(gaussian) => gaussian.check(&path, problems),
        }
    }
}

impl GaussianConfig {
    /// Free numbers of a cluster whose patches have `d` numbers.
    #[must_use]
    pub fn parameters(&self, d: usize) -> usize {
        d + self.covariance.parameters(d) + self.scales.pow(self.scale_groups.count() as u32) - 1
    }

    /// All combinations of scales of so many groups: `[S, G]`, float64.
    pub fn scale_grid(&self, groups: usize) -> Tensor {
        let n = self.scales;
        let log_scale = |s: usize| if n == 1 { 0.0 } else { self.span * (2.0 * s as f64 / (n as f64 - 1.0) - 1.0) };
        let rows =
            (0..n.pow(groups as u32)).flat_map(|s| (0..groups).map(move |g| log_scale(s / n.pow(g as u32) % n).exp()));
        Tensor::from_slice(&rows.collect::<Vec<_>>()).view([-1, groups as i64])
    }

    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let mut least = |name: &str, value: f64, least: f64| {
            let message = format!("expected a number of at least {least}, found {value}");
            problems.check(
                value >= least && (value.is_finite() || name == "ordered_window"),
                format!("{path}.{name}"),
                message,
            );
        };
        least("covariance.rank", self.covariance.rank().unwrap_or(1) as f64, 1.0);
        least("scales", self.scales as f64, 1.0);
        least("start_examples", self.start_examples as f64, 2.0);
        least("span", self.span, 0.0);
        least("prior_strength", self.prior_strength, 0.0);
        least("prior_scale", self.prior_scale, 0.0);
        least("floor", self.floor, 0.0);
        least("ordered_window", self.ordered_window, 0.0);
        problems.check(
            self.prior_strength > 0.0 || self.floor > 0.0,
            format!("{path}.prior_strength"),
            "expected more than 0 where floor is 0: the covariance of a cluster may be singular",
        );
        problems.check(
            (0.0..0.5).contains(&self.truncate_posterior),
            format!("{path}.truncate_posterior"),
            format!("expected at least 0 and below 0.5, found {}", self.truncate_posterior),
        );
    }
}

impl HcltConfig {
    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        problems.check(self.states > 0, format!("{path}.states"), "expected at least 1, found 0");
        problems.check(self.start_examples > 0, format!("{path}.start_examples"), "expected at least 1, found 0");
        problems.check(
            (0.0..0.5).contains(&self.truncate_posterior),
            format!("{path}.truncate_posterior"),
            format!("expected at least 0 and below 0.5, found {}", self.truncate_posterior),
        );
        self.tree.check(&format!("{path}.tree"), problems);
    }
}
