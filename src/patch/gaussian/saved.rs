//! Names of the tensors of saved Gaussians, held against what the configuration expects.

use std::collections::BTreeMap;

use anyhow::Result;
use tch::Tensor;

use crate::require;
use crate::run::checkpoint;

/// Names of the parameters in a checkpoint.
pub(super) const NAMES: [&str; 4] = ["mean", "shape", "log_weights", "share"];
/// Names of the decayed statistics in a checkpoint, in the order of the fields of moments.
pub(super) const MEMORY: [&str; 4] = ["memory.scales", "memory.weight", "memory.first", "memory.second"];

/// The tensor `patch.name` of this shape (-1 for any size): finite floats.
pub(super) fn shaped<'a>(tensors: &'a BTreeMap<String, Tensor>, name: &str, shape: &[i64]) -> Result<&'a Tensor> {
    let name = format!("patch.{name}");
    let tensor = checkpoint::shaped(tensors, &name, shape)?;
    require!(
        tensor.is_floating_point(),
        "tensor {name} of the checkpoint is of kind {:?}, expected Double",
        tensor.kind()
    );
    Ok(tensor)
}
