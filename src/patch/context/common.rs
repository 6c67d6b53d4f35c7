//! What all experts share, and the moments that a regression comes from.

use tch::{Kind, Tensor};

use crate::device::ReadOnly;

/// What all experts of a model share.
#[derive(Debug)]
pub struct Common {
    /// Scales by group, `[S, G]`, float64.
    pub scales: Tensor,
    /// Numbers of the context: those in front of every window.
    pub given: i64,
    /// Numbers of every group of the patch; they lie side by side behind the context.
    pub groups: Vec<i64>,
    /// Prior shape T of whole windows, `[W, W]`, float64.
    pub prior_shape: Tensor,
    /// lambda: windows that the prior counts for.
    pub prior_strength: f64,
    /// Least eigenvalue of a shape.
    pub floor: f64,
    /// What the passes over windows compute in.
    pub kind: Kind,
}

// SAFETY: tensors and numbers that nothing changes.
unsafe impl ReadOnly for Common {}

impl Common {
    /// First number and width of every group in a window.
    pub fn spans(&self) -> impl Iterator<Item = (i64, i64)> {
        self.groups.iter().scan(self.given, |next, &width| {
            *next += width;
            Some((*next - width, width))
        })
    }

    /// Numbers of a window: W.
    #[must_use]
    pub fn numbers(&self) -> i64 {
        self.given + self.groups.iter().sum::<i64>()
    }

    /// The number of scales.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.scales.size()[0]
    }

    /// `1 / s_g^2`, `[G, S]`.
    pub fn precisions(&self) -> Tensor {
        self.scales.square().reciprocal().tr()
    }

    /// Logarithms of even weights `[S]`.
    pub fn even(&self) -> Tensor {
        self.scales.select(1, 0).full_like(-(self.count() as f64).ln())
    }
}

/// Moments of (context, earlier groups, group), from which the regression of the group comes; float64.
#[derive(Debug)]
pub struct Regression {
    /// m `[E]`.
    pub mean: Tensor,
    /// S `[E, E]`.
    pub shape: Tensor,
}
