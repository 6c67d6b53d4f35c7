//! What an experiment says about Gaussian scale mixtures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::refusal::Problems;

/// Gaussian scale mixtures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GaussianConfig {
    /// Which covariances the shapes have.
    pub covariance: Covariance,
    /// Contrast scales; 1 for plain Gaussians.
    pub scales: usize,
    /// Which variables have a scale in common; where there are several groups, all combinations of scales are looked at.
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
    /// Luma and chroma, and of both the finest coefficients of a transform (those in an odd row or column) and the others.
    LumaChromaLevels,
}

/// More combinations of scales than these are a slip of the pen.
const MOST_SCALES: usize = 1024;

impl ScaleGroups {
    /// How many groups.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::LumaChroma => 2,
            Self::LumaChromaLevels => 4,
        }
    }

    /// The `d` variables of a square patch (row, column, channel) group by group, int64 `[D]`, and how many each has.
    pub fn order(self, d: i64) -> (Tensor, Vec<i64>) {
        let side = (((d / 3) as f64).sqrt() as i64).max(1);
        let group_of = |variable: i64| {
            let (pixel, chroma) = (variable / 3, i64::from(variable % 3 > 0));
            let fine = pixel / side % 2 == 1 || pixel % side % 2 == 1;
            match self {
                Self::One => 0,
                Self::LumaChroma => chroma,
                Self::LumaChromaLevels => 2 * chroma + i64::from(fine),
            }
        };
        let groups: Vec<Vec<i64>> =
            (0..self.count() as i64).map(|g| (0..d).filter(|&variable| group_of(variable) == g).collect()).collect();
        (Tensor::from_slice(&groups.concat()), groups.iter().map(|group| group.len() as i64).collect())
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
            problems.check(value >= least && value.is_finite(), format!("{path}.{name}"), message);
        };
        least("covariance.rank", self.covariance.rank().unwrap_or(1) as f64, 1.0);
        least("scales", self.scales as f64, 1.0);
        least("start_examples", self.start_examples as f64, 2.0);
        least("span", self.span, 0.0);
        least("prior_strength", self.prior_strength, 0.0);
        least("prior_scale", self.prior_scale, 0.0);
        least("floor", self.floor, 0.0);
        least("ordered_window", self.ordered_window, 0.0);
        let combinations = self.scales.saturating_pow(self.scale_groups.count() as u32);
        problems.check(
            combinations <= MOST_SCALES,
            format!("{path}.scales"),
            format!("expected at most {MOST_SCALES} combinations of scales of all groups, found {combinations}"),
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 2 x 2 pixels in colour, the first in an even row and column.
    #[test]
    fn groups_part_luma_from_chroma_and_fine_from_coarse() {
        let numbers = |groups: ScaleGroups| {
            let (order, sizes) = groups.order(12);
            (Vec::<i64>::try_from(order).unwrap(), sizes)
        };
        assert_eq!(numbers(ScaleGroups::One), ((0..12).collect(), vec![12]));
        assert_eq!(numbers(ScaleGroups::LumaChroma), (vec![0, 3, 6, 9, 1, 2, 4, 5, 7, 8, 10, 11], vec![4, 8]));
        let levels = (vec![0, 3, 6, 9, 1, 2, 4, 5, 7, 8, 10, 11], vec![1, 3, 2, 6]);
        assert_eq!(numbers(ScaleGroups::LumaChromaLevels), levels);
        assert_eq!(ScaleGroups::One.order(1).1, vec![1]);
    }
}
