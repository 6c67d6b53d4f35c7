//! What an experiment says about hidden Chow-Liu trees.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::em::InputFamily;
use crate::refusal::Problems;
use crate::structure::config::TreeConfig;

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
