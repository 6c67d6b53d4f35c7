//! The upward pass: messages and log-likelihoods.
//!
//! For every block, deepest first, with row r of region r and all in linear space,
//!
//! ```text
//! M_r = input_r * prod_c S_c,   M_r <- M_r / sum M_r,   S_r = M_r W_r^T        [R, B, states], [R, B, parent states]
//! ```
//!
//! and the logarithms of all divisors and of a root's S add up, in float64, to the log-likelihood of the tree's heads.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::Circuit;
use super::evidence::{Evidence, Observed};
use super::plan::{Block, BlockInput};

/// A message is divided by its sum at the latest after so many factors (see [`super::FLOOR`]).
const FACTORS: usize = 3;

/// Messages of one block.
#[derive(Debug)]
pub struct BlockMessages {
    /// M: `[R, B, states]`, scaled: the largest entry is between 1 / states and 1.
    pub regions: Tensor,
    /// S: `[R, B, parent states]`.
    pub sums: Tensor,
    /// Row of the input pool that each region read: int64 `[R, B]`, for discrete inputs.
    pub rows: Option<Tensor>,
}

/// What an upward pass leaves behind.
#[derive(Debug)]
pub struct Messages {
    /// log p(evidence) in nats by tree and head: float64 `[B, T * heads]`.
    pub log_likelihood: Tensor,
    /// By block; empty where they were not kept.
    pub blocks: Vec<BlockMessages>,
}

impl Circuit {
    /// Evaluate all trees on a batch; `keep` holds on to the messages, which [`Circuit::flows`] needs.
    ///
    /// # Errors
    /// When the evidence does not fit the graph.
    pub fn forward(&self, evidence: &Evidence, keep: bool) -> Result<Messages> {
        let _guard = tch::no_grad_guard();
        let plan = self.plan();
        if evidence.examples == 0 {
            let log_likelihood = Tensor::zeros([0, plan.trees * plan.heads], (Kind::Double, self.device()));
            return Ok(Messages { log_likelihood, blocks: Vec::new() });
        }
        let mut total = Tensor::zeros([plan.trees, evidence.examples], (Kind::Double, self.device()));
        let mut heads = Tensor::zeros([plan.trees, evidence.examples, plan.heads], (Kind::Double, self.device()));
        let mut blocks: Vec<Option<BlockMessages>> = plan.blocks.iter().map(|_| None).collect();
        for (b, block) in plan.blocks.iter().enumerate().rev() {
            let (mut regions, mut scale, rows) = self.input(block, evidence)?;
            multiply_children(block, &blocks, &mut regions, &mut scale)?;
            if !keep {
                block.children.iter().for_each(|c| blocks[c.block] = None);
            }
            let sums = regions.bmm(&block.tables.of(&self.parameters().edges[block.pool]).transpose(1, 2));
            if block.parents.is_none() {
                let _ = heads.index_add_(0, &block.trees, &sums.log().to_kind(Kind::Double));
            }
            let _ = total.index_add_(0, &block.trees, &scale.to_kind(Kind::Double));
            let regions = if keep { regions } else { Tensor::new() };
            blocks[b] = Some(BlockMessages { regions, sums, rows });
        }
        let _ = heads.g_add_(&total.unsqueeze(-1));
        if let Some(silent) = evidence.silent(plan) {
            let _ = heads.masked_fill_(&silent.unsqueeze(-1), 0.0);
        }
        let blocks = if keep { blocks.into_iter().flatten().collect() } else { Vec::new() };
        let log_likelihood = heads.transpose(0, 1).reshape([evidence.examples, plan.trees * plan.heads]);
        Ok(Messages { log_likelihood, blocks })
    }

    /// Messages of a block's inputs `[R, B, K]` with largest entry between 1 / K and 1, the logarithm of what they were divided
    /// by `[R, B]`, and the rows read.
    fn input(&self, block: &Block, evidence: &Evidence) -> Result<(Tensor, Tensor, Option<Tensor>)> {
        let size = [block.regions.len() as i64, evidence.examples, block.states];
        let options = (self.kind(), self.device());
        match (&block.input, &evidence.input) {
            (None, _) => Ok((Tensor::ones(size, options), Tensor::zeros(&size[..2], options), None)),
            (Some(BlockInput::Discrete { pool, offsets, variables, .. }), Observed::Shared(values)) => {
                Ok(self.look_up(*pool, variables.of(values) + offsets, size))
            }
            (Some(BlockInput::Discrete { pool, offsets, per_tree, .. }), Observed::PerTree(values)) => {
                Ok(self.look_up(*pool, per_tree.of(values) + offsets, size))
            }
            (Some(BlockInput::Soft { variables }), Observed::Soft(values)) => {
                let values = variables.of(values).to_kind(self.kind());
                let found = values.size();
                crate::require!(found == size, "the soft evidence has shape {found:?}, expected {size:?}");
                let top = values.amax(-1, true).clamp_min_(f64::from(f32::MIN));
                Ok(((values - &top).exp_(), top.squeeze_dim(-1), None))
            }
            _ => Err(crate::refusal!("the circuit reads another kind of evidence than it is given")),
        }
    }

    fn look_up(&self, pool: usize, rows: Tensor, size: [i64; 3]) -> (Tensor, Tensor, Option<Tensor>) {
        let flat = rows.view(-1);
        let Some((tables, scales)) = self.scaled.get(pool) else {
            let mut regions = self.parameters.inputs[pool].index_select(0, &flat).view(size);
            let scale = rescale(&mut regions);
            return (regions, scale, Some(rows));
        };
        (tables.index_select(0, &flat).view(size), scales.index_select(0, &flat).view(&size[..2]), Some(rows))
    }
}

/// Divide by the sum over the states and return the logarithm of it `[R, B]`. (A product with ones: on few states several
/// times faster than a reduction.)
fn rescale(regions: &mut Tensor) -> Tensor {
    let (r, b, states) = regions.size3().expect("messages are [R, B, states]");
    let ones = Tensor::ones([states], (regions.kind(), regions.device()));
    let mut total = regions.view([-1, states]).mv(&ones).clamp_min_(f64::from(f32::MIN_POSITIVE)).view([r, b]);
    let _ = regions.g_div_(&total.unsqueeze(-1));
    total.log_()
}

fn multiply_children(
    block: &Block,
    blocks: &[Option<BlockMessages>],
    regions: &mut Tensor,
    scale: &mut Tensor,
) -> Result<()> {
    for (step, children) in block.children.iter().enumerate() {
        let messages = blocks[children.block].as_ref().context("a block was evaluated before its children")?;
        let mut product = children.parents.of(regions);
        let _ = product.g_mul_(&children.children.of(&messages.sums));
        if matches!(children.parents, super::plan::Select::Rows(_)) {
            children.parents.set(regions, &product);
        }
        if (step + 1) % FACTORS == 0 || step + 1 == block.children.len() {
            let inner = &mut regions.narrow(0, 0, block.inner);
            let _ = scale.narrow(0, 0, block.inner).g_add_(&rescale(inner));
        }
    }
    Ok(())
}
