//! Trees with several heads: pruned, grown by a head, and gathered from other models.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::forest::Width;
use super::trees::{HcltPatches, lock};
use crate::circuit::flows::Statistics;
use crate::circuit::grow::Growth;
use crate::circuit::tree_tables::TreeTables;
use crate::patch::model::{Infer, Part, same_family};
use crate::require;
use crate::structure::chow_liu::Parents;

/// How a tree gets another head.
#[derive(Clone, Copy, Debug)]
pub struct NewHead {
    /// The head whose double is added.
    pub of: usize,
    /// Share of every region's states that are doubled: those with most flow.
    pub share: f64,
    /// Weight of cross edges (see [`Growth`]).
    pub cross: f64,
    /// Standard deviation of the perturbation.
    pub noise: f64,
}

impl HcltPatches {
    /// A model of one tree with its tables (as many heads as the root's table has rows); the rest is this model's.
    ///
    /// # Errors
    /// When the tables do not fit the tree.
    pub fn of_tables(&self, tree: usize, tables: &TreeTables, rng: &mut ChaCha8Rng) -> Result<Self> {
        let root = self.trees[tree].iter().position(Option::is_none).unwrap_or(0);
        let (heads, states) = tables.edges[root].size2()?;
        let width = Width { heads: heads as usize, states: states as usize };
        let marginals = self.marginals.narrow(0, tree as i64, 1);
        let mut new = Self::uniform(&self.config, vec![self.trees[tree].clone()], width, &self.ranges, &marginals)?;
        new.set_tables(0, tables, 0.0, rng);
        Ok(new)
    }

    /// The same tree with so many heads, all of them equal.
    #[must_use]
    pub fn with_equal_heads(&self, tree: usize, heads: i64) -> TreeTables {
        let mut tables = self.tables(tree);
        let root = root(&self.trees[tree]);
        tables.edges[root] = tables.edges[root].narrow(0, 0, 1).repeat([heads, 1]);
        tables
    }

    /// Expected counts of the edges of the only tree, by region, for patches `[N, D]` with weights `[N, heads]`.
    ///
    /// # Errors
    /// When the patches do not fit.
    pub fn edge_counts(&self, patches: &Tensor, weights: &Tensor) -> Result<Vec<Tensor>> {
        let _guard = tch::no_grad_guard();
        let values = self.values(&self.complete(patches))?;
        let forest = lock(&self.forests[0]);
        let mut statistics = Statistics::new(&forest.circuit);
        forest.accumulate(&values, &weights.to_kind(Kind::Float), 0.0, &mut statistics)?;
        let counts = statistics.into_counts(&forest.circuit);
        Ok(forest.circuit.tree_edges(&counts, 0))
    }
}

/// How many of so many states are doubled.
#[must_use]
pub fn doubled(states: usize, share: f64) -> usize {
    ((states as f64 * share).round() as usize).clamp(1, states)
}

/// The tables of a tree with a head more, from the flows `counts` of the patches of the head that is doubled.
pub fn grown(
    tables: &TreeTables,
    parents: &Parents,
    counts: &[Tensor],
    head: NewHead,
    rng: &mut ChaCha8Rng,
) -> TreeTables {
    let chosen = counts.iter().map(|counts| {
        let flow = counts.sum_dim_intlist(0, false, Kind::Double);
        flow.topk(doubled(flow.numel(), head.share) as i64, 0, true, true).1.sort(0, false).0
    });
    let chosen = chosen.collect();
    Growth { doubled: chosen, head: head.of as i64, cross: head.cross, noise: head.noise }.apply(tables, parents, rng)
}

/// The variable at the root of a tree.
#[must_use]
pub fn root(parents: &Parents) -> usize {
    parents.iter().position(Option::is_none).unwrap_or(0)
}

/// Trees of other models as one model, all their heads included (see [`gather`](crate::patch::Grow::gather)).
pub(super) fn gather(own: &HcltPatches, parts: &[Part]) -> Result<HcltPatches> {
    let _guard = tch::no_grad_guard();
    let parts: Vec<(&HcltPatches, usize)> =
        parts.iter().map(|part| Ok((same_family(part.model)?, part.cluster))).collect::<Result<_>>()?;
    let width = parts.first().map_or(own.width, |(part, _)| part.width);
    let mut whole = Vec::new();
    for heads in parts.chunks(width.heads) {
        let (model, first) = heads[0];
        let together = heads.len() == width.heads
            && first % width.heads == 0
            && heads.iter().enumerate().all(|(i, (m, k))| std::ptr::eq(*m, model) && *k == first + i);
        require!(
            together && model.width == width,
            "heads of a tree cannot be taken apart, nor trees of other widths joined"
        );
        whole.push((model, first / width.heads));
    }
    let trees = whole.iter().map(|(m, t)| m.trees[*t].clone()).collect();
    let marginals: Vec<Tensor> = whole.iter().map(|(m, t)| m.marginals.get(*t as i64)).collect();
    let mut new = HcltPatches::uniform(&own.config, trees, width, &own.ranges, &Tensor::stack(&marginals, 0))?;
    let mut rng = crate::random::rng(0, "no noise", 0);
    for (i, (model, tree)) in whole.into_iter().enumerate() {
        new.set_tables(i, &model.tables(tree), 0.0, &mut rng);
    }
    Ok(new)
}
