//! Growing: states of a tree are doubled, with edges between the old and the new, and a head is added.
//!
//! State k and its double k' have the same children and the same input, so any sharing of the weight of an edge between
//! them leaves every likelihood as it was. An old state above gives the old state below `1 / (1 + c)` of the weight and
//! its double the rest, a new state above the other way round; c are the cross edges. What is new is then perturbed.

use rand::Rng;
use rand_distr::{Distribution, Normal};
use tch::{Kind, Tensor};

use super::tree_tables::TreeTables;
use crate::structure::chow_liu::Parents;

/// No factor of a perturbation is below this.
const LEAST: f64 = 0.05;

/// How a tree grows.
pub struct Growth {
    /// The states to double by region, int64 `[n]` each.
    pub doubled: Vec<Tensor>,
    /// The head whose double is added.
    pub head: i64,
    /// Weight of a cross edge, as a share of the weight of the edge that it accompanies.
    pub cross: f64,
    /// Standard deviation of the factors, around 1, that new numbers are multiplied by.
    pub noise: f64,
}

impl Growth {
    /// The tables of the grown tree, whose regions have these parents.
    pub fn apply(&self, tables: &TreeTables, parents: &Parents, rng: &mut impl Rng) -> TreeTables {
        let head = Tensor::from_slice(&[self.head]).to_device(tables.edges[0].device());
        let edges = parents.iter().zip(&tables.edges).zip(&self.doubled).map(|((parent, table), doubled)| {
            self.edges(table, parent.map_or(&head, |p| &self.doubled[p]), doubled, rng)
        });
        let edges = edges.collect();
        let inputs = tables.inputs.iter().zip(&self.doubled);
        let inputs = inputs.map(|(input, doubled)| input.as_ref().map(|t| self.inputs(t, doubled, rng))).collect();
        TreeTables { edges, inputs }
    }

    /// `[P, K]` with the rows and the columns named doubled.
    fn edges(&self, table: &Tensor, rows: &Tensor, columns: &Tensor, rng: &mut impl Rng) -> Tensor {
        let (many, few) = (1.0 / (1.0 + self.cross), self.cross / (1.0 + self.cross));
        let share = |rows: &Tensor, mine: f64, others: f64| {
            let moved = rows.index_select(1, columns);
            let kept = rows.index_copy(1, columns, &(&moved * mine));
            (kept, moved * others)
        };
        let (old, to_new) = share(table, many, few);
        let (across, new) = share(&table.index_select(0, rows), few, many);
        let old = Tensor::cat(&[old, self.noisy(&to_new, rng)], 1);
        let new = self.noisy(&Tensor::cat(&[across, new], 1), rng);
        normalised(&Tensor::cat(&[old, new], 0), 1)
    }

    /// `[categories, K]` with the columns named doubled.
    fn inputs(&self, table: &Tensor, columns: &Tensor, rng: &mut impl Rng) -> Tensor {
        let new = normalised(&self.noisy(&table.index_select(1, columns), rng), 0);
        Tensor::cat(&[table.shallow_clone(), new], 1)
    }

    fn noisy(&self, table: &Tensor, rng: &mut impl Rng) -> Tensor {
        if self.noise == 0.0 {
            return table.shallow_clone();
        }
        let normal = Normal::new(1.0, self.noise).expect("the noise is a finite number of at least 0");
        let factors: Vec<f64> = normal.sample_iter(rng).take(table.numel()).map(|f: f64| f.max(LEAST)).collect();
        table
            * Tensor::from_slice(&factors).view(table.size().as_slice()).to_device(table.device()).to_kind(table.kind())
    }
}

fn normalised(table: &Tensor, dim: i64) -> Tensor {
    table / table.sum_dim_intlist(dim, true, Kind::Double).to_kind(table.kind())
}
