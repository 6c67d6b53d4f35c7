//! The latent tree's part in posteriors and statistics.

use anyhow::{Context, Result};
use tch::Tensor;

use crate::circuit::Circuit;
use crate::circuit::evidence::Evidence;
use crate::circuit::flows::Statistics;

/// log p(x) `[B]` and posteriors `[B, L, K]` of a latent tree; adds its flows to the statistics where given.
pub(super) fn tree_flows(
    tree: &Circuit,
    log_likelihood: &Tensor,
    statistics: Option<&mut Statistics>,
) -> Result<(Tensor, Tensor)> {
    let evidence = Evidence::soft(log_likelihood, tree.plan())?;
    let messages = tree.forward(&evidence, true)?;
    if evidence.examples == 0 {
        return Ok((messages.log_likelihood.squeeze_dim(-1), log_likelihood.zeros_like()));
    }
    let mut unused = None;
    let statistics = statistics.unwrap_or_else(|| unused.insert(Statistics::new(tree)));
    let ones = messages.log_likelihood.ones_like();
    let posterior = tree.flows(&messages, &ones, statistics).context("a latent tree reads soft evidence")?;
    Ok((messages.log_likelihood.squeeze_dim(-1), posterior))
}
