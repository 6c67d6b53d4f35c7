//! The structure of saved HCLTs, held against what the configuration expects.

use std::collections::BTreeMap;

use anyhow::Result;
use tch::{Kind, Tensor};

use super::forest::Width;
use crate::patch::config::HcltConfig;
use crate::require;
use crate::run::checkpoint;
use crate::structure::chow_liu::Parents;

/// The width that a checkpoint hold; without one, that of trees which were never grown.
pub(super) fn read_width(config: &HcltConfig, tensors: &BTreeMap<String, Tensor>) -> Result<Width> {
    if !tensors.contains_key("patch.width") {
        return Ok(Width { heads: 1, states: config.states });
    }
    let width: Vec<i64> = Vec::try_from(checkpoint::shaped(tensors, "patch.width", &[2])?.to_kind(Kind::Int64))?;
    let fits = width.iter().all(|n| (1..=1 << 20).contains(n));
    require!(fits, "tensor patch.width of the checkpoint is {width:?}, expected heads and states");
    Ok(Width { heads: width[0] as usize, states: width[1] as usize })
}

/// Trees of a checkpoint, the parent of every variable by tree, and the marginals of their inputs.
pub(super) fn read_structure<'a>(
    tensors: &'a BTreeMap<String, Tensor>,
    ranges: &[(i64, i64)],
) -> Result<(Vec<Parents>, &'a Tensor)> {
    let variables = ranges.len() as i64;
    let most = ranges.iter().map(|(low, high)| high - low + 1).max().unwrap_or(1);
    let trees = checkpoint::shaped(tensors, "patch.trees", &[-1, variables])?;
    let marginals = checkpoint::shaped(tensors, "patch.marginals", &[trees.size()[0], variables, most])?;
    let flat: Vec<i64> = Vec::try_from(trees.to_kind(Kind::Int64).contiguous().view(-1))?;
    let parents = flat.iter().map(|&p| usize::try_from(p).ok()).collect::<Vec<_>>();
    Ok((parents.chunks(ranges.len()).map(<[_]>::to_vec).collect(), marginals))
}
