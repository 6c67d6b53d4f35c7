//! p(z): a tree over the latents of a picture's patches, a circuit with soft evidence.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::circuit::Circuit;
use crate::circuit::evidence::Evidence;
use crate::circuit::flows::Statistics;
use crate::em::schedule::Schedule;
use crate::em::{self, EmConfig, InputFamily, Learner, Rule};
use crate::refusal::Problems;
use crate::structure::chow_liu::Parents;
use crate::structure::config::TreeConfig;
use crate::structure::hclt::{self, Tying};

/// Pictures whose codes are turned into one-hot evidence in one go.
const CHUNK: i64 = 256;
/// EM steps on the codes where hidden states have to be found.
const HIDDEN_STEPS: usize = 10;

/// The tree over patch latents and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LatentTreeConfig {
    /// The tree: by mutual information of the codes, or by hand.
    pub tree: TreeConfig,
    /// Whose clusters the mutual information is of.
    pub codes: Codes,
    /// Which edges share a table.
    pub tying: Tying,
    /// Hidden states per position with an emission p(cluster | state); without it the clusters are the states.
    pub hidden: Option<usize>,
    /// EM with soft evidence, patch circuits fixed; its pseudocount also smooths the first tables.
    pub em: EmConfig,
    /// Keep what the patch circuits say about all training patches on the disk while the tree learns, two bytes for every
    /// patch and cluster, in place of asking them anew in every epoch.
    pub cache: bool,
}

/// Codes of the training pictures that a tree is found from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codes {
    /// The most probable cluster of every patch under the patch circuits.
    #[default]
    Posterior,
    /// The teacher's: what stage `latents` made of its features.
    Teacher,
}

impl Default for LatentTreeConfig {
    fn default() -> Self {
        Self {
            tree: TreeConfig::default(),
            codes: Codes::Posterior,
            tying: Tying::Untied,
            hidden: None,
            em: EmConfig { epochs: 1, ..EmConfig::default() },
            cache: false,
        }
    }
}

impl LatentTreeConfig {
    /// Note what is wrong with the values.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        self.tree.check(&format!("{path}.tree"), problems);
        let message = "expected chow_liu or given, found quad_tree: every region of a latent tree is that of a patch";
        problems.check(self.tree != TreeConfig::QuadTree {}, format!("{path}.tree.kind"), message);
        self.em.check(&format!("{path}.em"), problems);
        problems.check(self.hidden != Some(0), format!("{path}.hidden"), "expected at least 1, found 0");
    }
}

/// The tree over positions for codes `[N, L]` in `0..clusters`.
///
/// # Errors
/// When a tree given by hand has another number of positions.
pub fn parents(config: &LatentTreeConfig, codes: &Tensor, clusters: usize) -> Result<Parents> {
    // Codes are categories without order, so every one is a bin of its own.
    let tree = match &config.tree {
        TreeConfig::ChowLiu { pseudocount, examples, shared, .. } => TreeConfig::ChowLiu {
            bins: clusters.max(2),
            pseudocount: *pseudocount,
            examples: *examples,
            shared: *shared,
        },
        other => other.clone(),
    };
    tree.tree(codes, &vec![(0, clusters as i64 - 1); codes.size()[1] as usize])
}

/// A circuit of this structure with uniform tables.
///
/// # Errors
/// When `parents` is no tree.
pub fn uniform(
    config: &LatentTreeConfig,
    parents: &Parents,
    columns: usize,
    clusters: usize,
    device: Device,
) -> Result<Circuit> {
    let graph = hclt::latent_tree(parents, columns, clusters, config.hidden, config.tying)?;
    Ok(Circuit::uniform(graph, Kind::Float, device))
}

/// Set the tables from codes `[N, L]`: co-occurrence counts where the clusters are the states, else a few full EM steps
/// from perturbed tables.
///
/// # Errors
/// When the codes have another number of positions.
pub fn fit_codes(
    config: &LatentTreeConfig,
    circuit: &mut Circuit,
    codes: &Tensor,
    clusters: usize,
    rng: &mut ChaCha8Rng,
) -> Result<()> {
    let full = EmConfig { rule: Rule::Average, step: Schedule::Constant { eta: 1.0 }, ..config.em.clone() };
    let marginals = em::uniform_marginals(circuit.plan(), circuit);
    let mut learner = Learner::new(&full, InputFamily::Categorical, codes.size()[0] as f64, circuit, marginals);
    if config.hidden.is_some() {
        circuit.update(|parameters, plan| parameters.perturb(plan, 0.5, rng));
    }
    for _ in 0..config.hidden.map_or(1, |_| HIDDEN_STEPS) {
        let mut statistics = Statistics::new(circuit);
        let count = codes.size()[0];
        for start in (0..count).step_by(CHUNK as usize) {
            let some = codes.narrow(0, start, CHUNK.min(count - start)).to_device(circuit.device());
            let evidence = Evidence::soft(&certain(&some, clusters as i64), circuit.plan())?;
            let messages = circuit.forward(&evidence, true)?;
            let _ = circuit.flows(&messages, &messages.log_likelihood.ones_like(), &mut statistics);
        }
        learner.step(circuit, statistics, 1.0);
    }
    Ok(())
}

/// Soft evidence that is certain of codes `[B, L]`: 0 at the code, minus infinity elsewhere, `[B, L, K]`.
pub fn certain(codes: &Tensor, clusters: i64) -> Tensor {
    codes.to_kind(Kind::Int64).one_hot(clusters).to_kind(Kind::Float).log()
}
