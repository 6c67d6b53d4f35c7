//! Tensors of a saved model, held against what the configuration expects.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tch::Tensor;

/// The tensor `patch.name`.
pub(super) fn named<'a>(tensors: &'a BTreeMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
    tensors.get(&format!("patch.{name}")).with_context(|| format!("tensor patch.{name} is missing from the checkpoint"))
}

/// The tensor `patch.name` of this shape, which holds finite numbers and no integers.
pub(super) fn sized<'a>(tensors: &'a BTreeMap<String, Tensor>, name: &str, shape: &[i64]) -> Result<&'a Tensor> {
    let tensor = named(tensors, name)?;
    let found = tensor.size();
    ensure!(found == shape, "tensor patch.{name} of the checkpoint has shape {found:?}, expected {shape:?}");
    ensure!(
        tensor.is_floating_point(),
        "tensor patch.{name} of the checkpoint is of kind {:?}, expected Double",
        tensor.kind()
    );
    ensure!(bool::try_from(tensor.isfinite().all())?, "tensor patch.{name} of the checkpoint is not finite");
    Ok(tensor)
}
