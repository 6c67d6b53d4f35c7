//! The tables of a circuit as the walk reads them.

use super::kernels::pack;
use super::memory::numbers;
use crate::circuit::parameters::Parameters;
use crate::circuit::plan::EdgePool;

/// Copies of the edge tables in the order in which products read them.
#[derive(Debug, Default)]
pub struct Packed {
    /// `[states, parent states]`, in panels: what S is made with.
    upward: Vec<f32>,
    /// `[parent states, states]`, in panels: what flows are made with.
    downward: Vec<f32>,
    /// Where each table begins in both, and where the last one ends.
    starts: Vec<[usize; 2]>,
}

/// All tables.
pub struct Tables<'a> {
    packed: &'a Packed,
    /// Input tables by pool, `[rows, states]` each.
    pub inputs: Vec<&'a [f32]>,
}

impl Packed {
    /// Take the tables of a circuit.
    pub fn update(&mut self, parameters: &Parameters, pools: &[EdgePool]) {
        self.upward.clear();
        self.downward.clear();
        self.starts.clear();
        self.starts.push([0, 0]);
        for (tables, pool) in parameters.edges.iter().zip(pools) {
            let (above, states) = (pool.parent_states as usize, pool.states as usize);
            for table in numbers::<f32>(tables).chunks_exact(above * states) {
                pack(states, above, |k, j| table[j * states + k], &mut self.upward);
                pack(above, states, |j, k| table[j * states + k], &mut self.downward);
                self.starts.push([self.upward.len(), self.downward.len()]);
            }
        }
    }
}

impl<'a> Tables<'a> {
    /// Those of a circuit with these parameters, of which packed copies exist.
    pub fn new(packed: &'a Packed, parameters: &'a Parameters) -> Self {
        Self { packed, inputs: parameters.inputs.iter().map(numbers::<f32>).collect() }
    }

    /// An edge table `[states, parent states]` in panels.
    #[must_use]
    pub fn upward(&self, table: usize) -> &[f32] {
        &self.packed.upward[self.packed.starts[table][0]..self.packed.starts[table + 1][0]]
    }

    /// An edge table `[parent states, states]` in panels.
    #[must_use]
    pub fn downward(&self, table: usize) -> &[f32] {
        &self.packed.downward[self.packed.starts[table][1]..self.packed.starts[table + 1][1]]
    }
}
