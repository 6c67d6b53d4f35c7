//! A mixture as named tensors, and back.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tch::Tensor;

use super::{Mixture, Prior};
use crate::circuit::parameters::take_up;
use crate::structure::chow_liu::Parents;

const TREE: &str = "prior.tree";
const WEIGHTS: &str = "prior.log_weights";

impl Mixture {
    /// All parameters, and the structure of the latent tree as the parent of every position (-1 for the root).
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut named = self.patches.tensors();
        match &self.prior {
            Prior::Independent(log_weights) => named.push((WEIGHTS.to_owned(), log_weights.shallow_clone())),
            Prior::Tree(tree) => {
                named.extend(tree.parameters().named("prior"));
                named.push((TREE.to_owned(), parents_tensor(tree)));
            }
        }
        named
    }

    /// Take up parameters of [`Mixture::tensors`].
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        self.patches.restore(tensors)?;
        match &mut self.prior {
            Prior::Independent(log_weights) => {
                take_up(WEIGHTS, log_weights, tensors)?;
            }
            Prior::Tree(tree) => tree.update(|parameters, _| parameters.restore("prior", tensors))?,
        }
        Ok(())
    }
}

/// The latent tree's structure in a checkpoint; none where p(z) is independent over positions.
///
/// # Errors
/// When the tensor is no list of parents.
pub fn saved_parents(tensors: &BTreeMap<String, Tensor>) -> Result<Option<Parents>> {
    let Some(tensor) = tensors.get(TREE) else { return Ok(None) };
    ensure!(
        tensor.dim() == 1,
        "tensor {TREE} of the checkpoint has shape {:?}, expected one number a position",
        tensor.size()
    );
    let parents: Vec<i64> = Vec::try_from(tensor.to_kind(tch::Kind::Int64).contiguous().view(-1))?;
    Ok(Some(parents.into_iter().map(|p| usize::try_from(p).ok()).collect()))
}

fn parents_tensor(tree: &crate::circuit::Circuit) -> Tensor {
    let graph = tree.graph();
    let parents = graph.regions().iter().take(graph.variables()).map(|r| r.parent.map_or(-1, |p| p as i64));
    Tensor::from_slice(&parents.collect::<Vec<_>>())
}
