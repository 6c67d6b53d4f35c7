//! The region graph: which hidden variable sums over which, and which observed variables it covers.
//!
//! Region r with children c and input variable v stands for the vector of functions, one per state j,
//!
//! ```text
//! m_r(j) = p(x_v | r = j) * prod_c sum_k W_c[j, k] m_c(k)
//! ```
//!
//! A root has a virtual parent, so its table is the prior over its states. Usually that parent has one state; with
//! several, the **heads**, the tree stands for as many distributions that differ in the root's table only.

use std::collections::HashMap;

use anyhow::Result;

use crate::require;

/// What a region reads from the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// One of the integers `0..categories`, with a table p(value | state).
    Discrete {
        /// How many values the variable takes.
        categories: usize,
    },
    /// A given vector of log-likelihoods, one per state (soft evidence); no parameters.
    Soft,
}

/// The leaf of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Which observed variable.
    pub variable: usize,
    /// How it is observed.
    pub kind: InputKind,
    /// Regions with the same tie share one input table.
    pub tie: usize,
}

/// A hidden variable.
#[derive(Clone, Debug)]
pub struct Region {
    /// Index of the region that sums over this one; none for the root of a tree.
    pub parent: Option<usize>,
    /// How many states it has.
    pub states: usize,
    /// Its leaf, if it has one.
    pub input: Option<Input>,
    /// Regions with the same tie share the table to their parent.
    pub tie: usize,
}

/// A valid forest of regions over the variables `0..variables`; every tree covers the same scope.
#[derive(Clone, Debug)]
pub struct RegionGraph {
    regions: Vec<Region>,
    variables: usize,
    roots: Vec<usize>,
    trees: Vec<usize>,
    depths: Vec<usize>,
    heads: usize,
}

impl RegionGraph {
    /// Check and keep the regions.
    ///
    /// # Errors
    /// Names the region where the graph is no forest, where two children of a product share a variable (not
    /// decomposable), where trees cover different scopes (not smooth), or where tied tables differ in shape.
    pub fn new(regions: Vec<Region>, variables: usize) -> Result<Self> {
        require!(!regions.is_empty(), "a region graph needs at least one region, this one has none");
        let depths = depths(&regions)?;
        let roots: Vec<usize> = (0..regions.len()).filter(|&r| regions[r].parent.is_none()).collect();
        let trees = trees(&regions, &depths, &roots);
        check_inputs(&regions, variables)?;
        check_scopes(&regions, &trees, roots.len(), variables)?;
        check_ties(&regions)?;
        Ok(Self { regions, variables, roots, trees, depths, heads: 1 })
    }

    /// The same graph with so many heads on every tree.
    #[must_use]
    pub fn with_heads(self, heads: usize) -> Self {
        Self { heads: heads.max(1), ..self }
    }

    /// Heads of every tree.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// All regions; indices are those of [`Region::parent`].
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// How many observed variables.
    #[must_use]
    pub fn variables(&self) -> usize {
        self.variables
    }

    /// The root of every tree.
    #[must_use]
    pub fn roots(&self) -> &[usize] {
        &self.roots
    }

    /// Which tree each region belongs to.
    #[must_use]
    pub fn trees(&self) -> &[usize] {
        &self.trees
    }

    /// Distance of each region from its root.
    #[must_use]
    pub fn depths(&self) -> &[usize] {
        &self.depths
    }

    /// States of the parent: the number of heads for a root.
    #[must_use]
    pub fn parent_states(&self, region: usize) -> usize {
        self.regions[region].parent.map_or(self.heads, |p| self.regions[p].states)
    }

    /// Categories of every discrete variable (0 where no discrete input reads it).
    #[must_use]
    pub fn categories(&self) -> Vec<usize> {
        let mut categories = vec![0; self.variables];
        for input in self.regions.iter().filter_map(|r| r.input) {
            if let InputKind::Discrete { categories: c } = input.kind {
                categories[input.variable] = c;
            }
        }
        categories
    }
}

fn depths(regions: &[Region]) -> Result<Vec<usize>> {
    let mut depths = Vec::with_capacity(regions.len());
    for start in 0..regions.len() {
        let (mut at, mut depth) = (start, 0);
        while let Some(parent) = regions[at].parent {
            require!(
                parent < regions.len(),
                "region {at}: its parent is region {parent}, there are only {}",
                regions.len()
            );
            depth += 1;
            require!(depth < regions.len(), "region {start}: following its parents goes round in a circle");
            at = parent;
        }
        depths.push(depth);
    }
    Ok(depths)
}

fn trees(regions: &[Region], depths: &[usize], roots: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..regions.len()).collect();
    order.sort_by_key(|&r| depths[r]);
    let mut trees = vec![0; regions.len()];
    for (tree, &root) in roots.iter().enumerate() {
        trees[root] = tree;
    }
    for r in order {
        if let Some(parent) = regions[r].parent {
            trees[r] = trees[parent];
        }
    }
    trees
}

fn check_inputs(regions: &[Region], variables: usize) -> Result<()> {
    let mut categories = HashMap::new();
    for (r, region) in regions.iter().enumerate() {
        require!(region.states > 0, "region {r} has no states");
        let Some(input) = region.input else { continue };
        require!(
            input.variable < variables,
            "region {r} reads variable {}, there are only {variables}",
            input.variable
        );
        if let InputKind::Discrete { categories: found } = input.kind {
            require!(found > 0, "region {r}: variable {} has no categories", input.variable);
            let expected = *categories.entry(input.variable).or_insert(found);
            require!(
                found == expected,
                "region {r}: variable {} has {found} categories here and {expected} elsewhere",
                input.variable
            );
        }
    }
    Ok(())
}

fn check_scopes(regions: &[Region], trees: &[usize], count: usize, variables: usize) -> Result<()> {
    let mut reader = vec![None; count * variables];
    for (r, region) in regions.iter().enumerate() {
        let Some(input) = region.input else { continue };
        let seen = &mut reader[trees[r] * variables + input.variable];
        if let Some(other) = *seen {
            return Err(crate::refusal!(
                "region {r} is not decomposable: variable {} is in its scope and in that of region {other}, of the same tree",
                input.variable
            ));
        }
        *seen = Some(r);
    }
    for tree in 1..count {
        for v in 0..variables {
            require!(
                reader[tree * variables + v].is_some() == reader[v].is_some(),
                "tree {tree} is not smooth with tree 0: variable {v} is in the scope of one of them only"
            );
        }
    }
    Ok(())
}

fn check_ties(regions: &[Region]) -> Result<()> {
    let (mut edges, mut inputs) = (HashMap::new(), HashMap::new());
    for (r, region) in regions.iter().enumerate() {
        let shape = (region.parent.map_or(1, |p| regions[p].states), region.states);
        let (first, expected) = *edges.entry(region.tie).or_insert((r, shape));
        require!(
            shape == expected,
            "region {r}: its table is {shape:?}, that of region {first}, tied to it, is {expected:?}"
        );
        let Some(input) = region.input else { continue };
        let shape = (input.kind, region.states);
        let (first, expected) = *inputs.entry(input.tie).or_insert((r, shape));
        require!(
            shape == expected,
            "region {r}: its input is {shape:?}, that of region {first}, tied to it, is {expected:?}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(parent: Option<usize>, variable: usize, id: usize) -> Region {
        let input = Some(Input { variable, kind: InputKind::Discrete { categories: 2 }, tie: id });
        Region { parent, states: 3, input, tie: id }
    }

    fn error(regions: Vec<Region>, variables: usize) -> String {
        RegionGraph::new(regions, variables).unwrap_err().to_string()
    }

    #[test]
    fn a_chain_has_growing_depth_and_one_tree() {
        let graph =
            RegionGraph::new(vec![region(Some(1), 0, 0), region(Some(2), 1, 1), region(None, 2, 2)], 3).unwrap();
        assert_eq!(graph.depths(), [2, 1, 0]);
        assert_eq!(graph.trees(), [0, 0, 0]);
        assert_eq!(graph.categories(), [2, 2, 2]);
    }

    #[test]
    fn a_variable_read_twice_is_not_decomposable() {
        let message = error(vec![region(None, 0, 0), region(Some(0), 0, 1)], 1);
        assert_eq!(
            message,
            "region 1 is not decomposable: variable 0 is in its scope and in that of region 0, of the same tree"
        );
    }

    #[test]
    fn trees_over_different_variables_are_not_smooth() {
        let message = error(vec![region(None, 0, 0), region(None, 1, 1)], 2);
        assert_eq!(message, "tree 1 is not smooth with tree 0: variable 0 is in the scope of one of them only");
    }

    #[test]
    fn a_circle_a_stranger_and_unlike_ties_are_refused() {
        assert_eq!(
            error(vec![region(Some(1), 0, 0), region(Some(0), 1, 1)], 2),
            "region 0: following its parents goes round in a circle"
        );
        assert_eq!(error(vec![region(Some(7), 0, 0)], 1), "region 0: its parent is region 7, there are only 1");
        let mut tied = vec![region(None, 0, 0), region(Some(0), 1, 0)];
        tied[1].input = tied[1].input.map(|i| Input { tie: 9, ..i });
        assert_eq!(error(tied, 2), "region 1: its table is (3, 3), that of region 0, tied to it, is (1, 3)");
    }
}
