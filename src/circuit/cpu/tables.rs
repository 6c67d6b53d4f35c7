//! The tables of a circuit as the walk reads them.

use tch::Device;

use super::kernels::{pack, pack_transposed, padded};
use super::memory::numbers;
use crate::circuit::parameters::Parameters;
use crate::circuit::plan::EdgePool;
use crate::device;

/// Copies of the edge tables in the order in which products read them.
#[derive(Debug)]
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
    /// Room for tables of these shapes.
    #[must_use]
    pub fn new(pools: &[EdgePool]) -> Self {
        let (mut starts, mut end) = (vec![[0, 0]], [0, 0]);
        for pool in pools {
            let (above, states) = (pool.parent_states as usize, pool.states as usize);
            for _ in 0..pool.tables {
                end = [end[0] + states * padded(above), end[1] + above * padded(states)];
                starts.push(end);
            }
        }
        Self { upward: vec![0.0; end[0]], downward: vec![0.0; end[1]], starts }
    }

    /// Take the tables of a circuit.
    pub fn update(&mut self, parameters: &Parameters, pools: &[EdgePool]) {
        let (mut upward, mut downward) = (&mut self.upward[..], &mut self.downward[..]);
        let mut work = Vec::with_capacity(self.starts.len());
        for (tables, pool) in parameters.edges.iter().zip(pools) {
            let (above, states) = (pool.parent_states as usize, pool.states as usize);
            for table in numbers::<f32>(tables).chunks_exact(above * states) {
                let up = upward.split_off_mut(..states * padded(above)).expect("room for the table");
                let down = downward.split_off_mut(..above * padded(states)).expect("room for the table");
                work.push((table, states, up, down));
            }
        }
        device::spread(Device::Cpu, work, |(table, states, up, down)| {
            pack_transposed(table, states, up);
            pack(table, states, down);
        });
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
