//! Ancestral sampling: states from the roots down, then values.

use rand::{Rng, RngExt};
use tch::{IndexOp, Kind, Tensor};

use super::Circuit;
use super::forward::{BlockMessages, Messages};
use super::plan::{Block, BlockInput};

impl Circuit {
    /// Draw `count` examples from one head, numbered tree by tree: int64 `[count, V]`, the value of every discrete input
    /// and the state of every region with a soft input. With `messages` of as many examples, each is drawn from the
    /// posterior given its evidence: `p(state k | state j above) ~ W[j, k] M(k)`; observed values stay as they are.
    pub fn sample(&self, head: usize, count: usize, messages: Option<&Messages>, rng: &mut impl Rng) -> Tensor {
        let _guard = tch::no_grad_guard();
        let plan = self.plan();
        let (tree, head) = (head / plan.heads as usize, head as i64 % plan.heads);
        let out = Tensor::zeros([self.graph().variables() as i64, count as i64], (Kind::Int64, self.device()));
        let mut states: Vec<Option<Tensor>> = self.graph().regions().iter().map(|_| None).collect();
        for (b, block) in plan.blocks.iter().enumerate() {
            let tables = block.tables.of(&self.parameters().edges[block.pool]);
            let messages = messages.and_then(|all| all.blocks.get(b));
            for (row, &r) in block.regions.iter().enumerate().filter(|(_, r)| self.graph().trees()[**r] == tree) {
                let above = self.graph().regions()[r].parent.and_then(|p| states[p].as_ref());
                let table = tables.get(row as i64);
                let prior = above.map_or_else(
                    || table.narrow(0, head, 1).expand([count as i64, -1], false),
                    |s| table.index_select(0, s),
                );
                let state = draw(&messages.map_or(prior.shallow_clone(), |m| prior * m.regions.get(row as i64)), rng);
                if let Some(input) = self.graph().regions()[r].input {
                    let value = self.value(block, messages, row, input.variable, &state, rng);
                    out.i(input.variable as i64).copy_(&value);
                }
                states[r] = Some(state);
            }
        }
        out.transpose(0, 1)
    }

    /// The value of a region's input given its states `[count]`: the state itself for a soft input.
    fn value(
        &self,
        block: &Block,
        messages: Option<&BlockMessages>,
        row: usize,
        variable: usize,
        state: &Tensor,
        rng: &mut impl Rng,
    ) -> Tensor {
        let Some(BlockInput::Discrete { pool, offsets, .. }) = &block.input else { return state.shallow_clone() };
        let start = offsets.int64_value(&[row as i64, 0]);
        let len = self.plan().categories.int64_value(&[variable as i64, 0]);
        let table = self.parameters().inputs[*pool].narrow(0, start, len).transpose(0, 1);
        let drawn = draw(&table.index_select(0, state), rng);
        let Some(rows) = messages.and_then(|m| m.rows.as_ref()) else { return drawn };
        let seen = rows.get(row as i64) - start;
        seen.where_self(&seen.lt(len), &drawn)
    }
}

/// One index per row of probabilities `[N, K]`, by inverting the cumulative sum: int64 `[N]`.
pub fn draw(probabilities: &Tensor, rng: &mut impl Rng) -> Tensor {
    let (n, k) = probabilities.size2().expect("probabilities are [N, K]");
    let cumulative = probabilities.to_kind(Kind::Double).cumsum(1, Kind::Double);
    let uniform: Vec<f64> = (0..n).map(|_| rng.random::<f64>()).collect();
    let threshold = Tensor::from_slice(&uniform).to_device(probabilities.device()).unsqueeze(1);
    let threshold = threshold * cumulative.narrow(1, k - 1, 1);
    cumulative.le_tensor(&threshold).sum_dim_intlist(1, false, Kind::Int64).clamp_max(k - 1)
}
