//! In what order the parts of a mixture are trained.
//!
//! Latent variable distillation (paper, section 3; LVD, arXiv 2210.04398) makes the latents visible: with a cluster for
//! every patch, patch circuits and latent tree are learned apart ([`lvd`]). Then the latents are forgotten again and EM
//! runs on log p(x) itself. [`training`] is the one epoch loop that all of it goes through.

pub mod config;
mod members;
pub mod likelihoods;
pub mod lvd;
pub mod training;
pub mod growing;

use crate::data::augment::Augment;
use crate::data::pictures::Pictures;
use crate::group::Group;
use crate::run::metrics::Metrics;
use crate::run::stage::StageFolder;

/// What every stage of distillation works with.
pub struct Session<'a> {
    /// Name of the stage, for progress and metrics.
    pub name: &'a str,
    /// Its folder.
    pub stage: &'a StageFolder,
    /// Where measurements go.
    pub metrics: &'a mut Metrics,
    /// Pictures to learn from.
    pub train: &'a Pictures,
    /// Pictures to watch.
    pub valid: &'a Pictures,
    /// What is done to training pictures where clusters are not given.
    pub augment: Augment,
    /// Seed of every random choice.
    pub seed: u64,
    /// Pictures evaluated in one go; statistics do not depend on it but for rounding.
    pub micro_batch: usize,
    /// Validation pictures looked at after every epoch.
    pub watched: usize,
    /// Over which processes statistics are summed before every step.
    pub group: &'a dyn Group,
}

impl Session<'_> {
    /// The same session under the name of a part of the stage.
    pub fn named<'s>(&'s mut self, name: &'s str) -> Session<'s> {
        Session { name, metrics: self.metrics, ..*self }
    }
}
