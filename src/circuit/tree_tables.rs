//! The tables of one tree of a forest, taken out and put back.

use rand::Rng;
use tch::{Kind, Tensor};

use super::Circuit;
use super::parameters::Parameters;
use super::plan::{BlockInput, Plan};

/// The tables of one tree, by region (in the graph's order): to the parent `[parent states, states]` (a root's
/// parent states are its heads), and of the
/// discrete input `[categories, states]`.
#[derive(Debug)]
pub struct TreeTables {
    /// Edge tables.
    pub edges: Vec<Tensor>,
    /// Input tables, where regions have discrete inputs.
    pub inputs: Vec<Option<Tensor>>,
}

impl Circuit {
    /// A copy of the tables of one tree. Trees must not share tables for this to be meaningful.
    #[must_use]
    pub fn tree_tables(&self, tree: usize) -> TreeTables {
        let views = self.views(self.parameters(), tree);
        TreeTables {
            edges: views.iter().map(|v| v.0.copy()).collect(),
            inputs: views.iter().map(|v| v.1.as_ref().map(Tensor::copy)).collect(),
        }
    }

    /// Of tensors in the shapes of the tables, such as expected counts, those of one tree's edges by region: views.
    #[must_use]
    pub fn tree_edges(&self, all: &Parameters, tree: usize) -> Vec<Tensor> {
        self.views(all, tree).into_iter().map(|v| v.0).collect()
    }

    /// Replace the tables of one tree by `tables` (of a tree with the same shapes, region by region), each entry
    /// multiplied by a number drawn evenly from `[1 - noise, 1 + noise]`, rows normalised.
    pub fn set_tree_tables(&mut self, tree: usize, tables: &TreeTables, noise: f64, rng: &mut impl Rng) {
        let views = self.views(self.parameters(), tree);
        self.update(|_, _| {
            for ((mut edge, input), (new_edge, new_input)) in
                views.into_iter().zip(tables.edges.iter().zip(&tables.inputs))
            {
                edge.copy_(&noisy(new_edge, noise, -1, rng));
                if let (Some(mut input), Some(new)) = (input, new_input) {
                    input.copy_(&noisy(new, noise, 0, rng));
                }
            }
        });
    }

    /// Replace the tables of one tree by those of a tree with the same shapes, number by number.
    pub fn put_tree_tables(&mut self, tree: usize, tables: &TreeTables) {
        let views = self.views(self.parameters(), tree);
        self.update(|_, _| put(views, tables));
    }

    /// Copy one tree's part of tensors in the shapes of another circuit's tables, which has an equal tree of this number.
    pub fn copy_tree(&self, to: &Parameters, tree: usize, other: &Self, from: &Parameters) {
        let from = other.views(from, tree);
        let (edges, inputs) = from.into_iter().unzip();
        put(self.views(to, tree), &TreeTables { edges, inputs });
    }

    /// Views of a tree's tables by region, in the graph's order.
    pub(super) fn views(&self, parameters: &Parameters, tree: usize) -> Vec<(Tensor, Option<Tensor>)> {
        let plan: &Plan = self.plan();
        let mut views = Vec::new();
        for block in &plan.blocks {
            for (row, &r) in block.regions.iter().enumerate().filter(|(_, r)| self.graph().trees()[**r] == tree) {
                let table = block.tables.row(row);
                let edge = parameters.edges[block.pool].get(table);
                let input = match (&block.input, self.graph().regions()[r].input) {
                    (Some(BlockInput::Discrete { pool, offsets, .. }), Some(input)) => {
                        let start = offsets.int64_value(&[row as i64, 0]);
                        let categories = plan.categories.int64_value(&[input.variable as i64, 0]);
                        Some(parameters.inputs[*pool].narrow(0, start, categories))
                    }
                    _ => None,
                };
                views.push((r, (edge, input)));
            }
        }
        views.sort_by_key(|(r, _)| *r);
        views.into_iter().map(|(_, v)| v).collect()
    }
}

fn put(views: Vec<(Tensor, Option<Tensor>)>, tables: &TreeTables) {
    for ((mut edge, input), (new_edge, new_input)) in views.into_iter().zip(tables.edges.iter().zip(&tables.inputs)) {
        edge.copy_(new_edge);
        if let (Some(mut input), Some(new)) = (input, new_input) {
            input.copy_(new);
        }
    }
}

fn noisy(table: &Tensor, noise: f64, dim: i64, rng: &mut impl Rng) -> Tensor {
    let table = table.to_kind(Kind::Double) * super::parameters::noise_like(&table.to_kind(Kind::Double), noise, rng);
    &table / table.sum_dim_intlist(dim, true, Kind::Double)
}
