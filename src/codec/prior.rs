//! `p(z_i | patches coded before)`: the same weights everywhere, or a belief on the latent tree.

use anyhow::Result;

use super::filter::{Filter, Tree, dot};
use super::tables::{doubles, floats, tree};
use super::walk::normalise;
use crate::require;
use crate::run::checkpoint::Named;

/// p(z).
#[derive(Debug)]
pub enum Prior {
    /// `ln p(z_i)` `[K]`, the same at every position.
    Independent(Vec<f64>),
    /// A tree over the positions.
    Tree(Box<LatentTree>),
}

/// A tree over the positions, whose states are the clusters or emit them.
#[derive(Debug)]
pub struct LatentTree {
    tree: Tree,
    /// p(state of the root) `[H]`.
    root: Vec<f64>,
    /// p(cluster | state) `[L, H, K]`; none where the states are the clusters.
    emissions: Option<Vec<f32>>,
    clusters: usize,
}

impl Prior {
    /// From a model's tensors (docs/format.md).
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    pub fn from_tensors(saved: &Named, positions: usize, clusters: usize) -> Result<Self> {
        let (l, k) = (positions as i64, clusters as i64);
        if !saved.has("parents") {
            return Ok(Self::Independent(doubles(saved, "log_weights", &[k])?.0));
        }
        let parents = saved.integers("parents", &[l])?;
        let (root, sizes) = doubles(saved, "roots", &[1, 1, -1])?;
        let states = sizes[2];
        let (edges, _) = floats(saved, "edges", &[1, l, states as i64, states as i64])?;
        let hidden = saved.has("emissions");
        let emissions = hidden.then(|| floats(saved, "emissions", &[1, l, states as i64, k])).transpose()?;
        require!(
            hidden || states == clusters,
            "the latent tree of the checkpoint has {states} states, expected {clusters}"
        );
        let tree = tree(&parents, states, edges)?;
        Ok(Self::Tree(Box::new(LatentTree { tree, root, emissions: emissions.map(|(all, _)| all), clusters })))
    }
}

/// What is known of the clusters of one picture.
#[derive(Debug)]
pub struct Belief<'a> {
    prior: &'a Prior,
    filter: Option<Filter>,
    /// `ln p(z_i | seen)` `[K]`.
    log_weights: Vec<f64>,
    likelihood: Vec<f64>,
}

impl<'a> Belief<'a> {
    /// Before a picture begins.
    #[must_use]
    pub fn new(prior: &'a Prior) -> Self {
        match prior {
            Prior::Independent(log_weights) => {
                Self { prior, filter: None, log_weights: log_weights.clone(), likelihood: Vec::new() }
            }
            Prior::Tree(latents) => {
                let mut filter = Filter::new(&latents.tree);
                filter.start(&latents.tree, &latents.root);
                let (log_weights, likelihood) = (vec![0.0; latents.clusters], vec![0.0; latents.tree.states]);
                Self { prior, filter: Some(filter), log_weights, likelihood }
            }
        }
    }

    /// `ln p(z_i = k | patches observed so far)` `[K]` of position i.
    pub fn weights(&mut self, position: usize) -> &[f64] {
        if let (Prior::Tree(latents), Some(filter)) = (self.prior, &mut self.filter) {
            let states = filter.marginal(&latents.tree, position);
            match &latents.emissions {
                None => self.log_weights.copy_from_slice(states),
                Some(all) => {
                    self.log_weights.fill(0.0);
                    for (row, &state) in emissions_of(all, position, latents).zip(states) {
                        self.log_weights.iter_mut().zip(row).for_each(|(sum, &p)| *sum += state * f64::from(p));
                    }
                }
            }
            normalise(&mut self.log_weights);
            self.log_weights.iter_mut().for_each(|weight| *weight = libm::log(*weight));
        }
        &self.log_weights
    }

    /// p(patch i | cluster) `[K]`, up to a factor.
    pub fn observe(&mut self, position: usize, evidence: &[f64]) {
        if let (Prior::Tree(latents), Some(filter)) = (self.prior, &mut self.filter) {
            match &latents.emissions {
                None => self.likelihood.copy_from_slice(evidence),
                Some(all) => {
                    let rows = emissions_of(all, position, latents);
                    self.likelihood.iter_mut().zip(rows).for_each(|(out, row)| *out = dot(row, evidence));
                }
            }
            filter.observe(&latents.tree, position, &self.likelihood);
        }
    }

    /// Whether [`Belief::observe`] changes anything.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.filter.is_some()
    }
}

/// Rows p(cluster | state) of a position.
fn emissions_of<'a>(all: &'a [f32], position: usize, latents: &LatentTree) -> std::slice::ChunksExact<'a, f32> {
    let size = latents.tree.states * latents.clusters;
    all[position * size..(position + 1) * size].chunks_exact(latents.clusters)
}
