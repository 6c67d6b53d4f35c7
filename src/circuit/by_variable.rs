//! Tables by tree and variable: the layout of files, the same whatever blocks and pools the regions are evaluated in and
//! whatever forests the trees were shared out over.
//!
//! ```text
//! roots      [T, heads, H]      p(state of the root) under every head
//! edges      [T, R, H, H]       p(state | state of the parent); zeros for the root
//! inputs     [T, V, C, H]       p(value | state), C the most values of a variable, zeros behind a variable's last
//! emissions  [T, V, H, K]       p(cluster | state), where latents have hidden states
//! ```
//!
//! For trees of R regions, of which the first V have the variables' discrete inputs in their order and the others none; or of
//! V regions and one more per variable, with the soft evidence, where there are emissions: these have no place among the edges
//! (`structure::hclt` makes such). Shared tables appear once for every region that reads them.

use std::ops::Range;

use anyhow::Result;
use tch::Tensor;

use super::Circuit;
use super::parameters::Parameters;
use crate::require;
use crate::run::checkpoint::Named;

/// The four tensors of a forest, or views of those that a file holds.
struct Tables {
    roots: Tensor,
    edges: Tensor,
    inputs: Option<Tensor>,
    emissions: Option<Tensor>,
    /// Values of every variable.
    categories: Vec<i64>,
}

impl Circuit {
    /// Tensors in the shapes of the tables (tables, or counts), by tree and variable.
    ///
    /// # Panics
    /// Where trees have other regions than these.
    #[must_use]
    pub fn by_variable(&self, all: &Parameters) -> Vec<(String, Tensor)> {
        let _guard = tch::no_grad_guard();
        let tables = Tables::zeros(self);
        for tree in 0..self.trees() {
            for (region, (edge, input)) in self.views(all, tree).into_iter().enumerate() {
                let (mut place, input_place) = tables.places(self, tree, region);
                place.copy_(&edge);
                if let (Some(input), Some(mut place)) = (input, input_place) {
                    place.copy_(&input);
                }
            }
        }
        tables.named().into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }

    /// Fill tensors in the shapes of the tables from those of [`Circuit::by_variable`], of which this circuit's trees are
    /// the `trees`-th.
    ///
    /// # Errors
    /// When a tensor is missing or does not fit; the message names it.
    pub fn put_by_variable(&self, into: &Parameters, saved: &Named, trees: &Range<usize>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let tables = Tables::zeros(self).read(saved, trees)?;
        for tree in 0..self.trees() {
            for (region, (mut edge, input)) in self.views(into, tree).into_iter().enumerate() {
                let (place, input_place) = tables.places(self, tree, region);
                edge.copy_(&place);
                if let (Some(mut input), Some(place)) = (input, input_place) {
                    input.copy_(&place);
                }
            }
        }
        Ok(())
    }

    fn trees(&self) -> usize {
        self.plan().trees as usize
    }
}

impl Tables {
    fn zeros(circuit: &Circuit) -> Self {
        let (graph, plan) = (circuit.graph(), circuit.plan());
        let (trees, variables) = (plan.trees, graph.variables());
        let regions = graph.regions().len() / trees as usize;
        assert!(regions >= variables, "{regions} regions for {variables} variables");
        let states = graph.regions()[0].states as i64;
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (circuit.kind(), circuit.device()));
        let categories: Vec<i64> = graph.categories().iter().map(|&n| n as i64).collect();
        let most = categories.iter().copied().max().unwrap_or(0);
        let emitting = graph.regions()[..regions].get(variables).filter(|region| region.input.is_some());
        let emitted = emitting.map(|region| region.states as i64);
        let regions = if emitted.is_some() { variables } else { regions } as i64;
        let variables = variables as i64;
        Self {
            roots: zeros(&[trees, plan.heads, states]),
            edges: zeros(&[trees, regions, states, states]),
            inputs: (!plan.input_pools.is_empty()).then(|| zeros(&[trees, variables, most, states])),
            emissions: emitted.map(|clusters| zeros(&[trees, variables, states, clusters])),
            categories,
        }
    }

    fn named(self) -> Vec<(&'static str, Tensor)> {
        let all = [
            ("roots", Some(self.roots)),
            ("edges", Some(self.edges)),
            ("inputs", self.inputs),
            ("emissions", self.emissions),
        ];
        all.into_iter().filter_map(|(name, tensor)| Some((name, tensor?))).collect()
    }

    /// Of these shapes but for the number of trees: some trees of what a file holds.
    fn read(&self, saved: &Named, trees: &Range<usize>) -> Result<Self> {
        let of = |name: &str, mine: &Tensor| {
            let mut shape = mine.size();
            shape[0] = -1;
            let found = saved.tensor(name, &shape)?;
            let kinds = (found.kind(), mine.kind());
            let name = saved.name(name);
            require!(
                kinds.0 == kinds.1,
                "tensor {name} of the checkpoint is of kind {:?}, expected {:?}",
                kinds.0,
                kinds.1
            );
            let there = found.size()[0];
            require!(
                trees.end as i64 <= there,
                "tensor {name} of the checkpoint holds {there} trees, expected {}",
                trees.end
            );
            Ok(found.narrow(0, trees.start as i64, trees.len() as i64))
        };
        let optional = |name, mine: &Option<Tensor>| mine.as_ref().map(|mine| of(name, mine)).transpose();
        Ok(Self {
            roots: of("roots", &self.roots)?,
            edges: of("edges", &self.edges)?,
            inputs: optional("inputs", &self.inputs)?,
            emissions: optional("emissions", &self.emissions)?,
            categories: self.categories.clone(),
        })
    }

    /// Where a tree's `region`-th region has its edge table and its input table.
    fn places(&self, circuit: &Circuit, tree: usize, region: usize) -> (Tensor, Option<Tensor>) {
        let graph = circuit.graph();
        let (variables, each) = (graph.variables(), graph.regions().len() / self.roots.size()[0] as usize);
        let own = |all: &Tensor, v: usize| all.get(tree as i64).get(v as i64);
        if let Some(emissions) = self.emissions.as_ref().filter(|_| region >= variables) {
            return (own(emissions, region - variables), None);
        }
        let is_root = graph.roots()[tree] == tree * each + region;
        let edge = if is_root { self.roots.get(tree as i64) } else { own(&self.edges, region) };
        let input = self.inputs.as_ref().filter(|_| region < variables);
        let input = input.map(|all| own(all, region).narrow(0, 0, self.categories[region]));
        (edge, input)
    }
}
