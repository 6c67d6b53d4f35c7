//! Pruning: edges that carry next to no flow are cut.
//!
//! A cut edge is a **hard zero** in its table: it takes no part in any likelihood, gets no flow, and `em` leaves it as it
//! is. Every row keeps its largest edge, so a pruned circuit stays smooth, decomposable and normalised.

use tch::{Kind, Tensor};

use super::Circuit;
use super::tree_tables::TreeTables;

impl TreeTables {
    /// Cut the edges whose expected counts (`[parent states, states]` by region) are below `least`; the rows of a table
    /// that lost some are normalised again. Returns how many were cut.
    pub fn prune(&mut self, counts: &[Tensor], least: f64) -> usize {
        self.edges.iter_mut().zip(counts).map(|(table, counts)| prune(table, counts, least)).sum()
    }
}

fn prune(table: &mut Tensor, counts: &Tensor, least: f64) -> usize {
    let best = table.argmax(-1, true);
    let cut = counts.lt(least).logical_and(&table.gt(0.0)).scatter_value(1, &best, 0);
    let count = cut.sum(Kind::Int64).int64_value(&[]);
    if count > 0 {
        let kept = table.masked_fill(&cut, 0.0);
        let lost = cut.any_dim(1, true);
        *table = (&kept / kept.sum_dim_intlist(-1, true, kept.kind())).where_self(&lost, table);
    }
    count as usize
}

impl Circuit {
    /// How many edges are cut.
    #[must_use]
    pub fn cut_edges(&self) -> usize {
        let cut = |table: &Tensor| table.eq(0.0).sum(Kind::Int64).int64_value(&[]) as usize;
        self.parameters().edges.iter().map(cut).sum()
    }
}
