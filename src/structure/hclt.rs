//! From trees over variables to region graphs: hidden Chow-Liu trees, their forests, and the tree over patch latents.
//!
//! A hidden Chow-Liu tree (HCLT; Liu and Van den Broeck, 2021) gives every variable of a tree a hidden state of its own:
//! tables between hidden states follow the tree's edges, a leaf table hangs on every hidden state.

use std::collections::HashMap;

use anyhow::Result;

use super::chow_liu::Parents;
use super::region_graph::{Input, InputKind, Region, RegionGraph};

/// One HCLT per entry of `trees`, all over the same variables, as a forest with tables of their own. Regions behind those of
/// the variables have no input.
///
/// # Errors
/// When an entry is no tree over `categories.len()` variables, or trees differ in their number of regions; the message names
/// the tree or the region.
pub fn forest(trees: &[Parents], states: usize, categories: &[usize]) -> Result<RegionGraph> {
    let variables = categories.len();
    let each = trees.first().map_or(variables, Vec::len);
    let mut regions = Vec::with_capacity(trees.len() * each);
    for (t, parents) in trees.iter().enumerate() {
        let count = parents.len();
        crate::require!(count >= variables, "tree {t} has {count} variables, expected {variables}");
        crate::require!(count == each, "tree {t} has {count} regions, tree 0 has {each}");
        for (v, &parent) in parents.iter().enumerate() {
            let id = t * each + v;
            let input = |&categories| Input { variable: v, kind: InputKind::Discrete { categories }, tie: id };
            let parent = parent.map(|p| t * each + p);
            regions.push(Region { parent, states, input: categories.get(v).map(input), tie: id });
        }
    }
    RegionGraph::new(regions, variables)
}

/// How edge tables of the latent tree are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tying {
    /// A table of its own for every edge.
    Untied,
    /// All edges that bridge the same displacement (rows, columns) share one table.
    Displacement,
}

/// The tree over the latents of a grid with `columns` columns, with soft evidence on `clusters` values per position.
///
/// `hidden: None` makes the clusters themselves the states of the tree; `Some(h)` gives every position h hidden
/// states with an emission table p(cluster | hidden state).
///
/// # Errors
/// When `parents` is no tree; the message names the region.
pub fn latent_tree(
    parents: &Parents,
    columns: usize,
    clusters: usize,
    hidden: Option<usize>,
    tying: Tying,
) -> Result<RegionGraph> {
    let positions = parents.len();
    let soft = |variable| Some(Input { variable, kind: InputKind::Soft, tie: variable });
    let mut displacements = HashMap::new();
    let mut regions = Vec::with_capacity(2 * positions);
    for (i, &parent) in parents.iter().enumerate() {
        let tie = match (tying, parent) {
            (Tying::Displacement, Some(p)) => {
                let steps = (i / columns).abs_diff(p / columns) * columns + (i % columns).abs_diff(p % columns);
                let signs = (i / columns < p / columns, i % columns < p % columns);
                *displacements.entry((steps, signs)).or_insert(i)
            }
            _ => i,
        };
        let input = if hidden.is_none() { soft(i) } else { None };
        regions.push(Region { parent, states: hidden.unwrap_or(clusters), input, tie });
    }
    if hidden.is_some() {
        regions.extend((0..positions).map(|i| {
            let tie = if tying == Tying::Untied { positions + i } else { positions };
            Region { parent: Some(i), states: clusters, input: soft(i), tie }
        }));
    }
    RegionGraph::new(regions, positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forest_keeps_its_trees_apart() {
        let graph = forest(&[vec![None, Some(0)], vec![Some(1), None]], 4, &[2, 5]).unwrap();
        assert_eq!(graph.roots(), [0, 3]);
        assert_eq!(graph.trees(), [0, 0, 1, 1]);
        assert_eq!(graph.categories(), [2, 5]);
    }

    #[test]
    fn displacements_share_tables_only_in_the_same_direction() {
        // A 2 x 2 grid: 0-1 and 2-3 go right, 0-2 goes down.
        let graph = latent_tree(&vec![None, Some(0), Some(0), Some(2)], 2, 5, None, Tying::Displacement).unwrap();
        let ties: Vec<usize> = graph.regions().iter().map(|r| r.tie).collect();
        assert_eq!(ties[1], ties[3]);
        assert_ne!(ties[1], ties[2]);
        let left = latent_tree(&vec![Some(1), None, Some(0), Some(2)], 2, 5, None, Tying::Displacement).unwrap();
        assert_ne!(left.regions()[0].tie, left.regions()[3].tie);
    }

    #[test]
    fn hidden_states_get_an_emission_region_each() {
        let graph = latent_tree(&vec![None, Some(0)], 2, 5, Some(3), Tying::Untied).unwrap();
        assert_eq!(graph.regions().len(), 4);
        assert_eq!(graph.regions()[3].states, 5);
        assert_eq!(graph.parent_states(3), 3);
    }
}
