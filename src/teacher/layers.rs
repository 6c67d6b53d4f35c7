//! The few layers that the teacher's networks are made of.

use super::weights::Weights;
use anyhow::Result;
use tch::Tensor;

/// Square convolution whose padding keeps the size at stride 1 and halves even sizes at stride 2.
pub(super) struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Convolution {
    pub fn new(
        weights: &mut Weights,
        name: &str,
        [inputs, outputs]: [i64; 2],
        kernel: i64,
        stride: i64,
    ) -> Result<Self> {
        let fan_in = inputs * kernel * kernel;
        Ok(Self {
            weight: weights.uniform(&format!("{name}.weight"), &[outputs, inputs, kernel, kernel], fan_in)?,
            bias: weights.uniform(&format!("{name}.bias"), &[outputs], fan_in)?,
            stride,
            padding: (kernel - 1) / 2,
        })
    }

    /// Inputs `[B, I, H, W]`, outputs `[B, O, H / stride, W / stride]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let both = |n| [n, n];
        x.conv2d(&self.weight, Some(&self.bias), both(self.stride), both(self.padding), both(1), 1)
    }
}

/// The 4 x 4 transposed convolution that doubles a picture's sides.
pub(super) struct Doubling {
    weight: Tensor,
    bias: Tensor,
}

impl Doubling {
    pub fn new(weights: &mut Weights, name: &str, [inputs, outputs]: [i64; 2]) -> Result<Self> {
        let fan_in = outputs * 16;
        Ok(Self {
            weight: weights.uniform(&format!("{name}.weight"), &[inputs, outputs, 4, 4], fan_in)?,
            bias: weights.uniform(&format!("{name}.bias"), &[outputs], fan_in)?,
        })
    }

    /// Inputs `[B, I, H, W]`, outputs `[B, O, 2 H, 2 W]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv_transpose2d(&self.weight, Some(&self.bias), [2, 2], [1, 1], [0, 0], 1, [1, 1])
    }
}

/// An affine map of the last dimension.
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub fn new(weights: &mut Weights, name: &str, [inputs, outputs]: [i64; 2]) -> Result<Self> {
        Ok(Self {
            weight: weights.uniform(&format!("{name}.weight"), &[outputs, inputs], inputs)?,
            bias: weights.uniform(&format!("{name}.bias"), &[outputs], inputs)?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Residual blocks (3 x 3, then 1 x 1) followed by a rectifier.
pub(super) struct Residual {
    blocks: Vec<[Convolution; 2]>,
}

impl Residual {
    pub fn new(weights: &mut Weights, name: &str, [outer, inner]: [i64; 2], blocks: usize) -> Result<Self> {
        let block = |i| {
            Ok([
                Convolution::new(weights, &format!("{name}.{i}.inner"), [outer, inner], 3, 1)?,
                Convolution::new(weights, &format!("{name}.{i}.outer"), [inner, outer], 1, 1)?,
            ])
        };
        Ok(Self { blocks: (0..blocks).map(block).collect::<Result<_>>()? })
    }

    pub fn forward(&self, x: Tensor) -> Tensor {
        let add = |x: Tensor, [inner, outer]: &[Convolution; 2]| outer.forward(&inner.forward(&x.relu()).relu()) + x;
        self.blocks.iter().fold(x, add).relu()
    }
}

/// Strided convolutions, each halving the sides, then residual blocks.
pub(super) struct Halving {
    strided: Vec<Convolution>,
    last: Convolution,
    residual: Residual,
}

/// Widths of the convolutional parts.
#[derive(Clone, Copy)]
pub(super) struct Widths {
    pub hidden: i64,
    pub residual: i64,
    pub blocks: usize,
}

impl Halving {
    /// `times` halvings from `inputs` channels to `widths.hidden`; the first is half as wide.
    pub fn new(weights: &mut Weights, name: &str, inputs: i64, times: usize, widths: Widths) -> Result<Self> {
        let mut channels = inputs;
        let mut strided = Vec::new();
        for i in 0..times {
            let next = if i == 0 { (widths.hidden / 2).max(1) } else { widths.hidden };
            strided.push(Convolution::new(weights, &format!("{name}.halve.{i}"), [channels, next], 4, 2)?);
            channels = next;
        }
        let last = Convolution::new(weights, &format!("{name}.last"), [channels, widths.hidden], 3, 1)?;
        let blocks = [widths.hidden, widths.residual];
        let residual = Residual::new(weights, &format!("{name}.residual"), blocks, widths.blocks)?;
        Ok(Self { strided, last, residual })
    }

    /// Inputs `[B, I, H, W]`, outputs `[B, hidden, H / 2^times, W / 2^times]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let halved = self.strided.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x).relu());
        self.residual.forward(self.last.forward(&halved))
    }
}
