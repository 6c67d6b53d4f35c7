//! The downward pass: flows, which are expected counts given the evidence.
//!
//! With the flow `F_p` of a region's parent (for a root: the weight of the example) and `Q = F_p / S_r`,
//!
//! ```text
//! flow of edge (j, k):  F_p(j) W[j, k] M_r(k) / S_r(j)      counts_W += W * (Q^T M_r)      F_r = M_r * (Q W)
//! ```
//!
//! Flows are theta * d log p / d theta; those of a region sum to the weight of the example. Where a message underflowed
//! to 0 its flow is 0, not NaN.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::Circuit;
use super::evidence::Evidence;
use super::forward::{BlockMessages, Messages};
use super::parameters::Parameters;
use super::plan::{Block, BlockInput};
use crate::group::{Sum, sum_number};

/// Rows added to the input tables at a time on the CPU.
const CHUNK: i64 = 16_384;

/// Weight of examples after which sums in the circuit's own precision go into float64 totals: float32 loses what is below
/// half a unit in its last place, a flow of 1/8 beside a sum of four million.
const SETTLED: f64 = 4096.0;

/// Sufficient statistics of a circuit, added up over micro-batches: memory does not grow with the batch.
#[derive(Debug)]
pub struct Statistics {
    /// For edges `Q^T M`, still without the factor W; for inputs the flows by row; since the totals were last added to.
    sums: Parameters,
    /// The same of what came before, float64.
    totals: Option<Parameters>,
    /// Weight of the examples in the sums.
    unsettled: f64,
    /// How many examples the batch had: the sum of the weights, unless the circuit is one part of a larger mixture that
    /// shares the examples out.
    pub weight: f64,
}

impl Statistics {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(circuit: &Circuit) -> Self {
        let sums = Parameters::zeros(circuit.plan(), circuit.kind(), circuit.device());
        Self { sums, totals: None, unsettled: 0.0, weight: 0.0 }
    }

    /// Examples of this weight are in the sums.
    fn seen(&mut self, weight: f64) {
        self.weight += weight;
        self.unsettled += weight;
        if self.unsettled >= SETTLED {
            self.settle();
        }
    }

    /// Move the sums into the totals.
    fn settle(&mut self) {
        self.unsettled = 0.0;
        match &self.totals {
            Some(totals) => totals.add(&self.sums),
            None => self.totals = Some(self.sums.to_kind(Kind::Double)),
        }
        self.sums.zero();
    }

    /// Hand out every sum over examples, to be summed over further parts of the data.
    ///
    /// # Errors
    /// Those of `sum`.
    pub fn hand_out(&mut self, sum: &mut Sum) -> Result<()> {
        self.settle();
        for tensor in self.totals.iter().flat_map(|totals| totals.edges.iter().chain(&totals.inputs)) {
            sum(tensor)?;
        }
        sum_number(&mut self.weight, sum)
    }

    /// What was added up, in the circuit's precision: for edges still without the factor W, for inputs the flows of missing
    /// values too.
    #[must_use]
    pub fn into_sums(mut self, circuit: &Circuit) -> Parameters {
        if self.totals.is_some() {
            self.settle();
        }
        self.totals.map_or(self.sums, |totals| totals.to_kind(circuit.kind()))
    }

    /// Expected counts of every edge and input value. The circuit's tables must be those the flows were computed with.
    #[must_use]
    pub fn into_counts(self, circuit: &Circuit) -> Parameters {
        let mut counts = self.into_sums(circuit);
        for (sums, tables) in counts.edges.iter_mut().zip(&circuit.parameters().edges) {
            // Where a table holds a hard zero the sum may have overflowed.
            let _ = sums.masked_fill_(&tables.eq(0.0), 0.0).g_mul_(tables);
        }
        for (inputs, pool) in counts.inputs.iter_mut().zip(&circuit.plan().input_pools) {
            for segment in &pool.segments {
                let _ = segment.of(inputs).narrow(1, segment.categories, 1).zero_();
            }
        }
        counts
    }
}

impl Circuit {
    /// Add the flows of a batch with `weights` `[B, T * heads]` to the statistics; returns log p(evidence) as
    /// [`Circuit::log_likelihood`] does, but any number for trees in which an example has no weight.
    ///
    /// # Errors
    /// When the evidence does not fit the graph.
    pub fn accumulate(&self, evidence: &Evidence, weights: &Tensor, statistics: &mut Statistics) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let sums = &mut statistics.sums;
        let walked = self.walk.as_ref().and_then(|walk| walk.count(evidence, self.parameters(), weights, sums));
        let Some(found) = walked else {
            let messages = self.forward(evidence, true)?;
            let _ = self.flows(&messages, weights, statistics);
            return Ok(messages.log_likelihood);
        };
        statistics.seen(weights.sum(Kind::Double).double_value(&[]));
        Ok(evidence.without_the_silent(self.plan(), found))
    }

    /// Add the flows of a batch with `weights` `[B, T * heads]` to the statistics; returns the posterior of each soft input's
    /// states `[B, V, K]` times the weight, where the circuit reads soft evidence.
    pub fn flows(&self, messages: &Messages, weights: &Tensor, statistics: &mut Statistics) -> Option<Tensor> {
        let sums = &mut statistics.sums;
        let posterior = self.downward(messages, weights, |block, message, ratio, flow| {
            add_edges(block, ratio, &message.regions, &mut sums.edges[block.pool]);
            if let (Some(BlockInput::Discrete { pool, .. }), Some(rows)) = (&block.input, &message.rows) {
                add_inputs(&rows.view(-1), &flow.view([-1, block.states]), &mut sums.inputs[*pool]);
            }
        });
        statistics.seen(weights.sum(Kind::Double).double_value(&[]));
        posterior
    }

    /// The posterior of each soft input's states given the evidence, `[B, V, K]`, where the circuit reads such: the downward
    /// pass without counts.
    #[must_use]
    pub fn posterior(&self, messages: &Messages) -> Option<Tensor> {
        self.downward(messages, &messages.log_likelihood.ones_like(), |_, _, _, _| ())
    }

    /// The downward pass from examples with `weights` `[B, T * heads]`: calls `visit` with every block, its messages, `Q` of
    /// its parents `[R, B, parent states]` and its flow `[R, B, states]`, roots first; returns the flows of soft inputs
    /// `[B, V, K]`.
    pub(super) fn downward(
        &self,
        messages: &Messages,
        weights: &Tensor,
        mut visit: impl FnMut(&Block, &BlockMessages, &Tensor, &Tensor),
    ) -> Option<Tensor> {
        let _guard = tch::no_grad_guard();
        let plan = self.plan();
        let all = [plan.categories.size()[0], messages.log_likelihood.size()[0]];
        let weights = weights.to_kind(self.kind()).view([-1, plan.trees, plan.heads]).transpose(0, 1).contiguous();
        let mut flows: Vec<Tensor> = Vec::with_capacity(plan.blocks.len());
        let mut posterior = None;
        if messages.blocks.is_empty() {
            // No examples: no messages either.
            let soft = plan.blocks.iter().find(|block| matches!(block.input, Some(BlockInput::Soft { .. })));
            return soft.map(|block| Tensor::zeros([0, all[0], block.states], (self.kind(), self.device())));
        }
        for (block, message) in plan.blocks.iter().zip(&messages.blocks) {
            let parent = match &block.parents {
                Some((parent, rows)) => rows.of(&flows[*parent]),
                // A root without likelihood (hard zeros) has no flow.
                None => weights.index_select(0, &block.trees) * message.sums.gt(0.0),
            };
            let divisor = message.sums.clamp_min(f64::from(f32::MIN_POSITIVE));
            let ratio = parent.div_out(&divisor, &divisor);
            let mut flow = ratio.bmm(&block.tables.of(&self.parameters().edges[block.pool]));
            let _ = flow.g_mul_(&message.regions);
            visit(block, message, &ratio, &flow);
            if let Some(BlockInput::Soft { variables }) = &block.input {
                let shape = [all[0], all[1], block.states];
                let out = posterior.get_or_insert_with(|| flow.new_zeros(shape, (self.kind(), self.device())));
                variables.add(out, &flow);
            }
            flows.push(flow);
        }
        posterior.map(|p| p.transpose(0, 1))
    }
}

/// `edges[tables] += ratio^T messages`, region by region.
fn add_edges(block: &Block, ratio: &Tensor, messages: &Tensor, edges: &mut Tensor) {
    let ratio = ratio.transpose(1, 2);
    if let super::plan::Select::Range(start, len) = block.tables {
        let _ = edges.narrow(0, start, len).baddbmm_(&ratio, messages);
    } else {
        block.tables.add(edges, &ratio.bmm(messages));
    }
}

/// `inputs[rows] += flows`. On the CPU libtorch sorts the rows; in smaller portions that is cheaper.
fn add_inputs(rows: &Tensor, flows: &Tensor, inputs: &mut Tensor) {
    let chunk = if rows.device().is_cuda() { rows.size()[0] } else { CHUNK };
    for (rows, flows) in rows.split(chunk, 0).iter().zip(flows.split(chunk, 0)) {
        let _ = inputs.index_add_(0, rows, &flows);
    }
}
