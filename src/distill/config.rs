//! What an experiment says about distillation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::growing::config::GrowingConfig;
use crate::data::augment::Augment;
use crate::em::EmConfig;
use crate::em::schedule::Schedule;
use crate::latent_tree::LatentTreeConfig;
use crate::refusal::Problems;

/// The stages of latent variable distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DistillConfig {
    /// EM of every patch circuit on the patches of its own cluster.
    pub hard: EmConfig,
    /// EM of the mixture of all patch circuits, weighted by posteriors.
    pub soft: EmConfig,
    /// Progressive growing of the clusters, between `soft` and `tree`; none without it.
    pub growing: Option<GrowingConfig>,
    /// The tree over patch latents.
    pub tree: LatentTreeConfig,
    /// EM of tree and patch circuits on log p(x).
    pub joint: EmConfig,
    /// What is done to training pictures in all stages but `hard`.
    pub augment: Augment,
}

impl Default for DistillConfig {
    fn default() -> Self {
        let refine = EmConfig { step: Schedule::Linear { from: 0.5, to: 0.05 }, ..EmConfig::default() };
        Self {
            hard: EmConfig { epochs: 2, ..EmConfig::default() },
            soft: EmConfig { epochs: 5, ..refine.clone() },
            growing: None,
            tree: LatentTreeConfig::default(),
            joint: EmConfig { epochs: 5, ..refine },
            augment: Augment::default(),
        }
    }
}

impl DistillConfig {
    /// Note what is wrong with the values; `clusters` are those of the teacher.
    pub fn check(&self, path: &str, clusters: usize, problems: &mut Problems) {
        if let Some(growing) = &self.growing {
            growing.check(&format!("{path}.growing"), clusters, problems);
        }
        self.hard.check(&format!("{path}.hard"), problems);
        self.soft.check(&format!("{path}.soft"), problems);
        self.tree.check(&format!("{path}.tree"), problems);
        self.joint.check(&format!("{path}.joint"), problems);
    }
}
