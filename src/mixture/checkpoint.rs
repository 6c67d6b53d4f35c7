//! A mixture as named tensors, and back.

use anyhow::Result;
use tch::{Device, Tensor};

use super::{Mixture, Prior};
use crate::circuit::parameters::Parameters;
use crate::run::checkpoint::{Named, prefixed};
use crate::structure::chow_liu::Parents;

const PARENTS: &str = "parents";
const WEIGHTS: &str = "log_weights";

impl Mixture {
    /// All parameters; with a latent tree, the parent of every position (-1 for the root).
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let prior = match &self.prior {
            Prior::Independent(log_weights) => vec![(WEIGHTS.to_owned(), log_weights.shallow_clone())],
            Prior::Given => Vec::new(),
            Prior::Tree(tree) => {
                let mut named = tree.by_variable(tree.parameters());
                named.push((PARENTS.to_owned(), parents_tensor(tree)));
                named
            }
        };
        let mut named = prefixed("patch", self.patches.tensors());
        named.extend(prefixed("prior", prior));
        named.push(("ranges".to_owned(), ranges_tensor(&self.view.ranges())));
        named
    }

    /// Take up parameters of [`Mixture::tensors`].
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    pub fn restore(&mut self, saved: &Named) -> Result<()> {
        let ranges = ranges_tensor(&self.view.ranges());
        let fits = saved.tensor("ranges", &ranges.size())?.to_device(Device::Cpu) == ranges;
        crate::require!(fits, "tensor ranges of the checkpoint holds other values than pictures have here");
        self.patches.restore(&saved.under("patch"))?;
        let saved = saved.under("prior");
        match &mut self.prior {
            Prior::Independent(log_weights) => {
                *log_weights = saved.doubles(WEIGHTS, &log_weights.size())?.to_device(log_weights.device());
            }
            Prior::Given => {}
            Prior::Tree(tree) => {
                let new = Parameters::uniform(tree.plan(), tree.kind(), tree.device());
                tree.put_by_variable(&new, &saved, &(0..1))?;
                tree.update(|parameters, _| parameters.assign(&new));
            }
        }
        Ok(())
    }
}

/// The latent tree's structure in a checkpoint; none where p(z) is independent over positions.
///
/// # Errors
/// When the tensor is no list of parents.
pub fn saved_parents(saved: &Named, positions: usize) -> Result<Option<Parents>> {
    let saved = saved.under("prior");
    if !saved.has(PARENTS) {
        return Ok(None);
    }
    let parents = saved.integers(PARENTS, &[positions as i64])?;
    Ok(Some(parents.into_iter().map(|p| usize::try_from(p).ok()).collect()))
}

/// Smallest and largest value of every variable of a patch: int64 `[D, 2]`.
fn ranges_tensor(ranges: &[(i64, i64)]) -> Tensor {
    let flat: Vec<i64> = ranges.iter().flat_map(|&(low, high)| [low, high]).collect();
    Tensor::from_slice(&flat).view([-1, 2])
}

fn parents_tensor(tree: &crate::circuit::Circuit) -> Tensor {
    let graph = tree.graph();
    let parents = graph.regions().iter().take(graph.variables()).map(|r| r.parent.map_or(-1, |p| p as i64));
    Tensor::from_slice(&parents.collect::<Vec<_>>())
}
