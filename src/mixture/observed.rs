//! Marginal queries: which pixels of a picture are observed.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Mixture;
use crate::patch::PatchEvidence;
use crate::require;
use crate::wavelet::Transform;

/// The pixels of which the probability is asked; the others are summed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// All of them.
    #[default]
    All,
    /// The upper half.
    Top,
    /// The left half.
    Left,
    /// Every other pixel, as on a chessboard.
    Chessboard,
}

impl Observed {
    /// Patches `[B, L, D]` with what is not observed marked as missing.
    ///
    /// # Errors
    /// A refusal where a transform mixes pixels, so that marginals of pixels are none of coefficients.
    pub fn hide(self, model: &Mixture, patches: PatchEvidence) -> Result<PatchEvidence> {
        if self == Self::All {
            return Ok(patches);
        }
        require!(
            model.view.transform == Transform::None,
            "marginals of pixels are not exact here: the model is one of wavelet coefficients, each of which mixes many pixels\n  train with transform: none"
        );
        let hidden = model.view.grid.cut(&self.missing(model));
        Ok(patches.with_observed(&hidden.logical_not()))
    }

    /// Numbers of a picture that are observed.
    #[must_use]
    pub fn dimensions(self, model: &Mixture) -> usize {
        model.view.dimensions() - self.missing(model).sum(Kind::Int64).int64_value(&[]) as usize
    }

    /// Bool `[1, H, W, C]`.
    fn missing(self, model: &Mixture) -> Tensor {
        let (grid, device) = (&model.view.grid, model.patches.device());
        let [height, width] = [grid.rows, grid.cols].map(|n| (n * grid.patch) as i64);
        let row = Tensor::arange(height, (Kind::Int64, device)).view([1, height, 1, 1]);
        let column = Tensor::arange(width, (Kind::Int64, device)).view([1, 1, width, 1]);
        let missing = match self {
            Self::All => row.lt(0),
            Self::Top => row.ge((height + 1) / 2),
            Self::Left => column.ge((width + 1) / 2),
            Self::Chessboard => (row + column).remainder(2).eq(1),
        };
        missing.expand([1, height, width, grid.channels as i64], false)
    }
}
