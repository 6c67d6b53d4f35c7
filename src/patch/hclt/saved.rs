//! The structure of saved HCLTs, held against what the view of pictures expects.

use anyhow::Result;
use tch::Tensor;

use super::forest::Width;
use crate::run::checkpoint::Named;
use crate::structure::chow_liu::Parents;

/// Heads and states of saved trees.
pub(super) fn read_width(saved: &Named, trees: usize) -> Result<Width> {
    let size = saved.tensor("roots", &[trees as i64, -1, -1])?.size();
    let fits = size[1] > 0 && size[2] > 0;
    crate::require!(
        fits,
        "tensor {} of the checkpoint has shape {size:?}, expected heads and states",
        saved.name("roots")
    );
    Ok(Width { heads: size[1] as usize, states: size[2] as usize })
}

/// Trees of a checkpoint, the parent of every region by tree, and the marginals of their inputs.
pub(super) fn read_structure<'a>(saved: &Named<'a>, ranges: &[(i64, i64)]) -> Result<(Vec<Parents>, &'a Tensor)> {
    let variables = ranges.len() as i64;
    let most = ranges.iter().map(|(low, high)| high - low + 1).max().unwrap_or(1);
    let flat = saved.integers("trees", &[-1, -1])?;
    let (trees, regions) = saved.tensor("trees", &[-1, -1])?.size2()?;
    crate::require!(
        regions >= variables,
        "tensor {} of the checkpoint has {regions} regions a tree, expected one for each of {variables} variables at least",
        saved.name("trees")
    );
    let marginals = saved.tensor("marginals", &[trees, variables, most])?;
    let parents: Vec<_> = flat.iter().map(|&p| usize::try_from(p).ok()).collect();
    Ok((parents.chunks(regions as usize).map(<[_]>::to_vec).collect(), marginals))
}
