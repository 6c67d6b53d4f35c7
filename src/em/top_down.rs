//! Top-down probabilities: how often a state is used when the circuit generates data, `TD(child) = W^T TD(parent)`.

use tch::{Kind, Tensor};

use crate::circuit::Circuit;
use crate::circuit::parameters::Parameters;
use crate::circuit::plan::{BlockInput, Plan};

/// `TD(n) theta(n, c)` for every table entry, in the shapes of the parameters. The share of each tree is its share of
/// the root counts in `counts`, which are multiplied by `scale` (and should then sum to 1 over the trees).
#[must_use]
pub fn joint(circuit: &Circuit, counts: &Parameters, scale: f64) -> Parameters {
    let plan = circuit.plan();
    let mut joint = Parameters::zeros(plan, circuit.kind(), circuit.device());
    let mut probabilities: Vec<Tensor> = Vec::with_capacity(plan.blocks.len());
    for block in &plan.blocks {
        let tables = block.tables.of(&circuit.parameters().edges[block.pool]);
        let above = match &block.parents {
            Some((parent, rows)) => rows.of(&probabilities[*parent]),
            None => block.tables.of(&counts.edges[block.pool]).sum_dim_intlist(-1, false, circuit.kind()) * scale,
        };
        let edges = tables * above.unsqueeze(-1);
        let states = edges.sum_dim_intlist(1, false, circuit.kind());
        block.tables.add(&mut joint.edges[block.pool], &edges);
        if let Some(BlockInput::Discrete { pool, offsets, .. }) = &block.input {
            add_inputs(plan, *pool, offsets, &states, &mut joint.inputs[*pool]);
        }
        probabilities.push(states);
    }
    for (inputs, tables) in joint.inputs.iter_mut().zip(&circuit.parameters().inputs) {
        *inputs *= tables;
    }
    joint
}

/// Add each region's state probabilities `[R, K]` to every value row of its input table.
fn add_inputs(plan: &Plan, pool: usize, offsets: &Tensor, states: &Tensor, inputs: &mut Tensor) {
    for segment in &plan.input_pools[pool].segments {
        let end = segment.start + segment.tables * (segment.categories + 1);
        let inside = offsets.ge(segment.start).logical_and(&offsets.lt(end)).squeeze_dim(-1).nonzero().squeeze_dim(-1);
        let tables = (offsets.squeeze_dim(-1).index_select(0, &inside) - segment.start)
            .divide_scalar_mode(segment.categories + 1, "floor")
            .to_kind(Kind::Int64);
        let by_table = Tensor::zeros([segment.tables, states.size()[1]], (states.kind(), states.device())).index_add(
            0,
            &tables,
            &states.index_select(0, &inside),
        );
        let _ = segment.values(inputs).g_add_(&by_table.unsqueeze(1));
    }
}
