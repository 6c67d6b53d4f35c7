//! The two-level encoder: convolutions down to one vector a patch, then one vector a square of 2 x 2 patches, and the
//! way back by which the top codes inform the bottom ones.

use super::layers::{Convolution, Doubling, Halving, Residual, Widths};
use super::weights::Weights;
use anyhow::Result;
use tch::Tensor;

pub(super) struct Encoder {
    bottom: Halving,
    top: Halving,
    to_top: Convolution,
    from_top: (Convolution, Residual, Doubling),
    to_bottom: Convolution,
}

impl Encoder {
    /// For pictures of `channels` channels, patches of side `2^halvings` and embeddings of `embedding` numbers.
    pub fn new(w: &mut Weights, channels: i64, halvings: usize, widths: Widths, embedding: i64) -> Result<Self> {
        let Widths { hidden, residual, blocks } = widths;
        Ok(Self {
            bottom: Halving::new(w, "encoder.bottom", channels, halvings, widths)?,
            top: Halving::new(w, "encoder.top", hidden, 1, widths)?,
            to_top: Convolution::new(w, "encoder.to_top", [hidden, embedding], 1, 1)?,
            from_top: (
                Convolution::new(w, "encoder.from_top.first", [embedding, hidden], 3, 1)?,
                Residual::new(w, "encoder.from_top.residual", [hidden, residual], blocks)?,
                Doubling::new(w, "encoder.from_top.double", [hidden, embedding])?,
            ),
            to_bottom: Convolution::new(w, "encoder.to_bottom", [hidden + embedding, embedding], 1, 1)?,
        })
    }

    /// Bottom features `[B, hidden, h, w]` and top vectors `[B, embedding, ceil(h / 2), ceil(w / 2)]` of pictures
    /// `[B, C, H, W]`. An odd grid is padded with zeros below and to the right.
    pub fn up(&self, pictures: &Tensor) -> (Tensor, Tensor) {
        let bottom = self.bottom.forward(pictures);
        let (_, _, rows, columns) = bottom.size4().expect("four dimensions");
        let padded = bottom.constant_pad_nd([0, columns % 2, 0, rows % 2]);
        let top = self.to_top.forward(&self.top.forward(&padded));
        (bottom, top)
    }

    /// Bottom vectors `[B, embedding, h, w]` from bottom features and quantised top vectors.
    pub fn down(&self, bottom: &Tensor, top: &Tensor) -> Tensor {
        let (first, residual, double) = &self.from_top;
        let guide = double.forward(&residual.forward(first.forward(top)));
        let (_, _, rows, columns) = bottom.size4().expect("four dimensions");
        let guide = guide.narrow(2, 0, rows).narrow(3, 0, columns);
        self.to_bottom.forward(&Tensor::cat(&[bottom, &guide], 1))
    }
}
