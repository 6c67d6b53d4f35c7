//! The machines that work together on one training: each sees a part of the pictures, and what it has summed over its own
//! is summed over all before it is used.
//!
//! Sufficient statistics are sums over data, so that is all that exact data-parallel EM needs: every M-step then starts
//! from the same numbers everywhere and ends in the same parameters.

use anyhow::Result;
use tch::Tensor;

/// Called for one tensor (float64) after the other: replaces its numbers by their sum over all parts of the data.
pub type Sum<'a> = dyn FnMut(&Tensor) -> Result<()> + 'a;

/// Processes that share the data of a training out among them.
pub trait Group {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Replace the numbers of a tensor, which all of them hold in the same shape, by the sum over all.
    ///
    /// # Errors
    /// When another process cannot be reached.
    fn sum(&self, tensor: &Tensor) -> Result<()>;
}

/// One process that sees all data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _: &Tensor) -> Result<()> {
        Ok(())
    }
}

/// A number summed as a tensor of one entry.
///
/// # Errors
/// Those of `sum`.
pub fn sum_number(number: &mut f64, sum: &mut Sum) -> Result<()> {
    let tensor = Tensor::from_slice(&[*number]);
    sum(&tensor)?;
    *number = tensor.double_value(&[0]);
    Ok(())
}
