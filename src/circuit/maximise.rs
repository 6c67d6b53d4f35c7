//! The most probable states and values of a circuit given evidence, exactly, by max-product:
//!
//! ```text
//! m_r(k) = max_v ln p(x_r = v | k) + sum_c u_c(k),     u_r(j) = max_k (ln W_r[j, k] + m_r(k))
//! ```
//!
//! with v the observed value where there is one. States and missing values are maximised together: where the states are
//! summed out, the most probable values of a circuit cannot be found in polynomial time.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::Circuit;
use super::evidence::{Evidence, Observed};
use super::plan::{Block, BlockInput};

/// Numbers that one maximum over the states looks at in one go.
const MOST: i64 = 1 << 23;

/// What max-product leaves behind.
#[derive(Debug)]
pub struct Maximum {
    /// ln of the largest joint probability of evidence, states and missing values, by tree and head: float64 `[B, T * heads]`.
    pub log_probability: Tensor,
    /// By block.
    blocks: Vec<Best>,
}

#[derive(Debug)]
struct Best {
    /// The best state for each state above, int64 `[R, B, parent states]`.
    states: Tensor,
    /// The best value for each state, int64 `[R, B, states]`, for discrete inputs.
    values: Option<Tensor>,
}

impl Circuit {
    /// The largest joint probability of evidence that all trees share or that is soft, with missing values and all states.
    ///
    /// # Errors
    /// When the evidence does not fit the graph.
    pub fn maximise(&self, evidence: &Evidence) -> Result<Maximum> {
        let _guard = tch::no_grad_guard();
        let plan = self.plan();
        let size = [plan.trees, evidence.examples, plan.heads];
        let heads = Tensor::zeros(size, (Kind::Double, self.device()));
        let mut above: Vec<Tensor> = plan.blocks.iter().map(|_| Tensor::new()).collect();
        let mut best = Vec::with_capacity(plan.blocks.len());
        for (b, block) in plan.blocks.iter().enumerate().rev() {
            let (mut messages, values) = self.best_input(block, evidence)?;
            for children in &block.children {
                children.parents.add(&mut messages, &children.children.of(&above[children.block]));
            }
            let tables = block.tables.of(&self.parameters().edges[block.pool]).to_kind(Kind::Double).log();
            let rows = (0..block.regions.len() as i64).map(|row| best_states(&messages.get(row), &tables.get(row)));
            let (largest, states): (Vec<Tensor>, Vec<Tensor>) = rows.unzip();
            above[b] = Tensor::stack(&largest, 0);
            if block.parents.is_none() {
                let _ = heads.shallow_clone().index_add_(0, &block.trees, &above[b]);
            }
            best.push(Best { states: Tensor::stack(&states, 0), values });
        }
        best.reverse();
        let log_probability = heads.transpose(0, 1).reshape([evidence.examples, plan.trees * plan.heads]);
        Ok(Maximum { log_probability, blocks: best })
    }

    /// Where the maximum of one head, numbered tree by tree, is: int64 `[B, V]`, the value of every discrete input and the
    /// state of every region with a soft input.
    pub fn maximiser(&self, head: usize, maximum: &Maximum) -> Tensor {
        let _guard = tch::no_grad_guard();
        let plan = self.plan();
        let (tree, head) = (head / plan.heads as usize, head as i64 % plan.heads);
        let examples = maximum.log_probability.size()[0];
        let out = Tensor::zeros([self.graph().variables() as i64, examples], (Kind::Int64, self.device()));
        let at_head = Tensor::full([examples], head, (Kind::Int64, self.device()));
        let mut chosen: Vec<Option<Tensor>> = self.graph().regions().iter().map(|_| None).collect();
        for (block, best) in plan.blocks.iter().zip(&maximum.blocks) {
            for (row, &r) in block.regions.iter().enumerate().filter(|(_, r)| self.graph().trees()[**r] == tree) {
                let above = self.graph().regions()[r].parent.and_then(|p| chosen[p].as_ref()).unwrap_or(&at_head);
                let state = pick(&best.states.get(row as i64), above);
                if let Some(input) = self.graph().regions()[r].input {
                    let value = best.values.as_ref().map(|values| pick(&values.get(row as i64), &state));
                    out.get(input.variable as i64).copy_(value.as_ref().unwrap_or(&state));
                }
                chosen[r] = Some(state);
            }
        }
        out.transpose(0, 1)
    }

    /// `max_v ln p(v | k)` `[R, B, states]`, float64, and the values where it is taken.
    fn best_input(&self, block: &Block, evidence: &Evidence) -> Result<(Tensor, Option<Tensor>)> {
        let size = [block.regions.len() as i64, evidence.examples, block.states];
        match (&block.input, &evidence.input) {
            (None, _) => Ok((Tensor::zeros(size, (Kind::Double, self.device())), None)),
            (Some(BlockInput::Soft { variables }), Observed::Soft(values)) => {
                Ok((variables.of(values).to_kind(Kind::Double), None))
            }
            (Some(BlockInput::Discrete { pool, offsets, variables, .. }), Observed::Shared(seen)) => {
                let (seen, categories) = (variables.of(seen), variables.of(&self.plan().categories));
                let row = |row: i64| {
                    let (start, len) = (offsets.int64_value(&[row, 0]), categories.int64_value(&[row, 0]));
                    let table = self.parameters().inputs[*pool].narrow(0, start, len).to_kind(Kind::Double).log();
                    best_values(&table, &seen.get(row))
                };
                let (largest, values): (Vec<Tensor>, Vec<Tensor>) = (0..size[0]).map(row).unzip();
                Ok((Tensor::stack(&largest, 0), Some(Tensor::stack(&values, 0))))
            }
            _ => Err(crate::refusal!("the circuit reads another kind of evidence than it is given")),
        }
    }
}

/// The largest entry of ln p(v | k) `[values, states]` over v for every state, or that of the value seen, int64 `[B]` (the
/// number of values where it is missing); and its v: `[B, states]` each.
fn best_values(table: &Tensor, seen: &Tensor) -> (Tensor, Tensor) {
    let (values, states) = table.size2().expect("input tables are [values, states]");
    let (most, at) = table.max_dim(0, false);
    let missing = seen.eq(values).unsqueeze(1);
    let known = seen.clamp_max(values - 1);
    let largest = most.unsqueeze(0).where_self(&missing, &table.index_select(0, &known));
    let at = at.unsqueeze(0).where_self(&missing, &known.unsqueeze(1));
    (largest, at.expand([-1, states], false).contiguous())
}

/// `max_k (table[j, k] + message[b, k])` and its k: `[B, J]` each, from `[B, K]` and `[J, K]`.
fn best_states(message: &Tensor, table: &Tensor) -> (Tensor, Tensor) {
    let step = (MOST / table.numel().max(1) as i64).max(1);
    let parts = message.split(step, 0).into_iter();
    let (largest, at): (Vec<Tensor>, Vec<Tensor>) =
        parts.map(|some| (some.unsqueeze(1) + table.unsqueeze(0)).max_dim(2, false)).unzip();
    (Tensor::cat(&largest, 0), Tensor::cat(&at, 0))
}

/// The entries `[B]` of `[B, states]` at a state of each row.
fn pick(all: &Tensor, state: &Tensor) -> Tensor {
    all.gather(1, &state.unsqueeze(1), false).squeeze_dim(1)
}
