//! What an experiment says about progressive growing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::em::schedule::Schedule;
use crate::em::{EmConfig, Rule};
use crate::patch::hclt::heads::doubled;
use crate::refusal::Problems;

/// Which clusters are refined while the circuits learn, and by what rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "criterion", rename_all = "snake_case", deny_unknown_fields)]
pub enum GrowingConfig {
    /// The paper's: circuits with several heads, the worst of which get another one.
    Paper(PaperGrowing),
    /// Splits whose gain on validation pictures is measured.
    Gain(GainGrowing),
}

/// The paper's rule (its released code). The clusters of `latents` are its global clusters; each gets a circuit with two
/// heads, then one more after every round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PaperGrowing {
    /// Heads of all circuits together: a multiple of the global clusters, at least twice as many.
    pub final_clusters: usize,
    /// EM of every round; a batch is of patches of one global cluster.
    pub em: EmConfig,
    /// Patches of a global cluster that are looked at, at most.
    pub examples: usize,
    /// Nats that a patch's own head is ahead of the others when patches choose again.
    pub bonus: f64,
    /// The worst heads that hold this share of the patches are refined.
    pub worst: f64,
    /// Edges with less flow than this share of the patches are cut.
    pub prune: f64,
    /// Least share of the states that are doubled.
    pub grow: f64,
    /// Weight of cross edges.
    pub cross: f64,
    /// Standard deviation of the factors that new numbers are multiplied by.
    pub noise: f64,
}

impl Default for PaperGrowing {
    fn default() -> Self {
        Self {
            final_clusters: 1600,
            em: EmConfig {
                epochs: 50,
                batch: 256,
                rule: Rule::Average,
                step: Schedule::Inertia { from: 0.9, middle: None, to: 0.99 },
                pseudocount: 0.1,
                input_pseudocount: 0.1,
                back_off: None,
            },
            examples: 65_536,
            bonus: 1.0,
            worst: 0.4,
            prune: 1e-4,
            grow: 0.2,
            cross: 0.2,
            noise: 0.2,
        }
    }
}

/// Splits by measured gain, merges, and EM of the mixture in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GainGrowing {
    /// Clusters after the last round, where as many splits are worth it.
    pub final_clusters: usize,
    /// Rounds; the number of clusters grows by the same factor in each.
    pub rounds: usize,
    /// EM of the mixture after the splits of every round.
    pub em: EmConfig,
    /// Training patches of a cluster that a proposal learns from, at most.
    pub examples: usize,
    /// Validation pictures that gains are measured on, at most.
    pub held_out: usize,
    /// EM steps of a proposal, each of size `eta`: with less than 1 the parent stays in as a prior.
    pub steps: usize,
    /// Size of these steps.
    pub eta: f64,
    /// A split has to gain this many of its standard errors.
    pub confidence: f64,
}

impl Default for GainGrowing {
    fn default() -> Self {
        let step = Schedule::Linear { from: 0.5, to: 0.1 };
        Self {
            final_clusters: 128,
            rounds: 3,
            em: EmConfig { epochs: 2, step, ..EmConfig::default() },
            examples: 30_000,
            held_out: 500,
            steps: 4,
            eta: 0.4,
            confidence: 1.0,
        }
    }
}

impl GrowingConfig {
    /// Clusters when growing ends.
    #[must_use]
    pub fn final_clusters(&self) -> usize {
        match self {
            Self::Paper(paper) => paper.final_clusters,
            Self::Gain(gain) => gain.final_clusters,
        }
    }

    /// EM of a round.
    #[must_use]
    pub fn em(&self) -> &EmConfig {
        match self {
            Self::Paper(paper) => &paper.em,
            Self::Gain(gain) => &gain.em,
        }
    }

    /// Note what is wrong with the values; `clusters` are those that growing starts from.
    pub fn check(&self, path: &str, clusters: usize, problems: &mut Problems) {
        let last = self.final_clusters();
        let place = format!("{path}.final_clusters");
        let message = format!("expected at least the initial clusters, latents.clusters = {clusters}, found {last}");
        problems.check(last >= clusters, &place, message);
        self.em().check(&format!("{path}.em"), problems);
        match self {
            Self::Paper(paper) => {
                let heads = paper.heads(clusters);
                let message = format!(
                    "expected a multiple of latents.clusters = {clusters}, twice as many or more: circuits have two heads or more, found {last}"
                );
                let even = last < clusters || (heads * clusters == last && heads > 1);
                problems.check(even, place, message);
                paper.check(path, problems);
            }
            Self::Gain(gain) => gain.check(path, problems),
        }
    }
}

impl PaperGrowing {
    /// States of every region after each round, from those at first; one number for each number of heads from 2 on.
    #[must_use]
    pub fn states(&self, first: usize, clusters: usize) -> Vec<usize> {
        let mut states = vec![first];
        for heads in 2..self.heads(clusters) {
            let last = states[states.len() - 1];
            states.push(last + doubled(last, self.share(heads)));
        }
        states
    }

    /// Share of the states that are doubled when a tree with so many heads gets another one.
    #[must_use]
    pub fn share(&self, heads: usize) -> f64 {
        (1.0 / (heads as f64 + 1.0)).max(self.grow)
    }

    /// Heads of every circuit when growing ends.
    #[must_use]
    pub fn heads(&self, clusters: usize) -> usize {
        self.final_clusters / clusters.max(1)
    }

    fn check(&self, path: &str, problems: &mut Problems) {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        for (name, value) in [
            ("worst", self.worst),
            ("prune", self.prune),
            ("grow", self.grow),
            ("cross", self.cross),
            ("noise", self.noise),
        ] {
            problems.check(share(value), format!("{path}.{name}"), format!("expected 0 to 1, found {value}"));
        }
        let message = format!("expected a number of at least 0, found {}", self.bonus);
        problems.check(self.bonus >= 0.0 && self.bonus.is_finite(), format!("{path}.bonus"), message);
        problems.check(self.examples > 0, format!("{path}.examples"), "expected at least 1, found 0");
        let message = "expected at least 1 patch, found 0: heads are trained by mini-batches";
        problems.check(self.em.batch > 0, format!("{path}.em.batch"), message);
    }
}

impl GainGrowing {
    /// Clusters after a round, from 1: the same factor every time.
    #[must_use]
    pub fn clusters_after(&self, clusters: usize, round: usize) -> usize {
        let ratio = self.final_clusters as f64 / clusters as f64;
        (clusters as f64 * ratio.powf(round as f64 / self.rounds as f64)).round() as usize
    }

    fn check(&self, path: &str, problems: &mut Problems) {
        for (name, value) in
            [("rounds", self.rounds), ("examples", self.examples), ("held_out", self.held_out), ("steps", self.steps)]
        {
            problems.check(value > 0, format!("{path}.{name}"), "expected at least 1, found 0");
        }
        let message = format!("expected more than 0 and at most 1, found {}", self.eta);
        problems.check(self.eta > 0.0 && self.eta <= 1.0, format!("{path}.eta"), message);
        let message = format!("expected a number of at least 0, found {}", self.confidence);
        problems.check(self.confidence >= 0.0 && self.confidence.is_finite(), format!("{path}.confidence"), message);
    }
}
